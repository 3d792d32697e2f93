/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "cluster/call_graph.h"
#include "cluster/freshness.h"
#include "sql/classify.h"

enum { W = EFFECT_WRITES, V = EFFECT_VARIABLES, K = EFFECT_KEEPS, T = EFFECT_TEMPORARY, D = EFFECT_DEPENDS,
       N = EFFECT_NONDET, X = EFFECT_TRANSACTION, ALL = EFFECT_ALL };

static struct call_graph *g;

static struct call_text text_of(const char *text)
{
	return (struct call_text){.schema = slice_str("app"), .text = slice_str(text != NULL ? text : "")};
}

static void routine(const char *name, bool function, const char *text)
{
	struct call_text t = text_of(text);

	call_graph_routine(g, slice_str("app"), slice_str(name), function, &t);
}

static void view(const char *name, const char *text)
{
	struct call_text t = text_of(text);

	call_graph_view(g, slice_str("app"), slice_str(name), text != NULL ? &t : NULL);
}

static void trigger(const char *table, const char *text)
{
	struct call_text t = text_of(text);

	call_graph_trigger(g, slice_str("app"), slice_str(table), &t);
}

static void column(const char *table, bool read, const char *text)
{
	struct call_text t = text_of(text);

	call_graph_column(g, slice_str("app"), slice_str(table), read, &t);
}

static struct catalog *begin(bool fold)
{
	struct catalog *c = catalog_new(1);

	c->fold = fold;
	c->complete = true;
	g = call_graph_new(fold);
	return c;
}

static unsigned of(const struct catalog *c, char what, const char *name)
{
	struct slice app = slice_str("app"), n = slice_str(name);

	return what == 'f' || what == 'p' ? catalog_routine(c, app, n, what == 'f') :
	       what == 'r' ? catalog_read(c, freshness_table(app, n, c->fold)) :
			     catalog_write(c, freshness_table(app, n, c->fold));
}

static void effects_come_from_what_is_called(void **state)
{
	struct catalog *c = begin(false);

	(void)state;
	view("top", "select `middle`() AS `m`, NOW() AS n from `app`.`plain`"); /* before what it uses */
	routine("middle", true, "RETURN (SELECT x FROM low LIMIT 1)");
	view("low", "select `bottom`(1) AS `x`");
	routine("bottom", true, "BEGIN INSERT INTO loud VALUES (1); RETURN 1; END");
	trigger("loud", "CALL quiet(@v)");
	routine("quiet", false, "CREATE TEMPORARY TABLE x (a INT)");
	routine("pure", true, "RETURN x + ABS(y)");
	view("clean", "select `pure`(`app`.`plain`.`a`) AS `p` from `app`.`plain`");
	view("hidden", NULL);
	routine("lost", true, "RETURN nowhere()");
	routine("over_hidden", true, "RETURN (SELECT 1 FROM hidden)");
	call_graph_publish(g, c);
	assert_int_equal(of(c, 'f', "bottom"), W | T | K | D);
	assert_int_equal(of(c, 'r', "low"), W | T | K | D);
	assert_int_equal(of(c, 'f', "middle"), W | T | K | D);
	assert_int_equal(of(c, 'r', "top"), W | T | K | D | N);
	assert_int_equal(of(c, 'w', "loud"), W | T | K | D);
	assert_int_equal(of(c, 'r', "loud"), 0);
	assert_int_equal(of(c, 'p', "quiet"), W | T);
	assert_int_equal(of(c, 'f', "pure"), 0);
	assert_int_equal(of(c, 'r', "clean"), 0);
	assert_int_equal(of(c, 'r', "plain"), 0);
	assert_int_equal(of(c, 'r', "hidden"), ALL);
	assert_int_equal(of(c, 'w', "hidden"), ALL);
	assert_int_equal(of(c, 'f', "lost"), ALL);
	assert_int_equal(of(c, 'f', "over_hidden"), ALL);
	assert_int_equal(of(c, 'f', "quiet"), ALL); /* a procedure is no function */
	call_graph_free(g);
	catalog_unref(c);
}

static void to_write_a_view_is_to_write_what_is_behind(void **state)
{
	struct catalog *c = begin(false);

	(void)state;
	trigger("loud", "SET @seen = 1");
	view("v", "select `app`.`loud`.`a` AS `a` from `app`.`loud`");
	view("w", "select `v`.`a` AS `a` from `app`.`v`");
	routine("reads", false, "SELECT * FROM loud");
	routine("writes", false, "UPDATE loud SET a = 1");
	call_graph_publish(g, c);
	assert_int_equal(of(c, 'r', "w"), 0);
	assert_int_equal(of(c, 'w', "w"), K | D);
	assert_int_equal(of(c, 'p', "reads"), 0);
	assert_int_equal(of(c, 'p', "writes"), W | K | D);
	call_graph_free(g);
	catalog_unref(c);
}

static void who_calls_itself_ends(void **state)
{
	struct catalog *c = begin(false);

	(void)state;
	routine("a", true, "RETURN b(1)");
	routine("b", true, "RETURN IF(x, a(0), c(0))");
	routine("c", true, "RETURN b(0) + GET_LOCK('x', 1)");
	routine("d", true, "RETURN d(0)");
	call_graph_publish(g, c);
	assert_int_equal(of(c, 'f', "a"), K | D);
	assert_int_equal(of(c, 'f', "b"), K | D);
	assert_int_equal(of(c, 'f', "c"), K | D);
	assert_int_equal(of(c, 'f', "d"), 0);
	call_graph_free(g);
	catalog_unref(c);
}

static void columns(void **state)
{
	struct catalog *c = begin(false);

	(void)state;
	column("virtual", true, "@x:=`a`");
	column("stored", false, "uuid()");
	column("numbered", false, "nextval(`app`.`s`)");
	call_graph_table(g, slice_str("app"), slice_str("s"), D, 0);
	routine("sees_s", true, "RETURN (SELECT next_not_cached_value FROM s)");
	call_graph_publish(g, c);
	assert_int_equal(of(c, 'r', "virtual"), K | D);
	assert_int_equal(of(c, 'w', "virtual"), K | D);
	assert_int_equal(of(c, 'r', "stored"), 0);
	assert_int_equal(of(c, 'w', "stored"), N);
	assert_int_equal(of(c, 'r', "numbered"), 0);
	assert_int_equal(of(c, 'w', "numbered"), W | K | D);
	assert_int_equal(of(c, 'r', "s"), D);
	assert_int_equal(of(c, 'f', "sees_s"), D);
	call_graph_free(g);
	catalog_unref(c);
}

static void doubtful_names(void **state)
{
	struct catalog *c = begin(false);
	struct sql_name umlaut = {.name = slice_str("t\xc3\xa4")};

	(void)state;
	routine("loaded", true, "RETURN 1"); /* a loadable one goes first */
	call_graph_loadable(g, slice_str("LOADED"));
	call_graph_package(g, slice_str("app"), slice_str("app")); /* app.f() may be the package's */
	routine("f", true, "RETURN 1");
	call_graph_publish(g, c);
	assert_int_equal(of(c, 'f', "loaded"), ALL);
	assert_int_equal(of(c, 'f', "f"), ALL);
	assert_int_equal(catalog_read_name(c, slice_str("app"), &umlaut), 0); /* no table does anything */
	call_graph_free(g);
	catalog_unref(c);

	c = begin(false);
	routine("umlaut", true, "RETURN (SELECT 1 FROM t\xc3\xa4)");
	view("t\xc3\xa4", "select last_insert_id() AS `a`");
	call_graph_publish(g, c);
	assert_int_equal(of(c, 'f', "umlaut"), ALL);
	assert_int_equal(catalog_read_name(c, slice_str("app"), &umlaut), D);
	call_graph_free(g);
	catalog_unref(c);
}

static void names_fold_as_the_servers_do(void **state)
{
	struct catalog *c = begin(true);
	struct sql_name upper = {.db = slice_str("APP"), .name = slice_str("V")};

	(void)state;
	view("v", "select last_insert_id() AS `a`");
	routine("F", true, "RETURN (SELECT a FROM V)");
	routine("g", true, "RETURN f()");
	call_graph_publish(g, c);
	assert_int_equal(of(c, 'f', "f"), D);
	assert_int_equal(of(c, 'f', "G"), D);
	assert_int_equal(catalog_read_name(c, slice_str(""), &upper), D);
	call_graph_free(g);
	catalog_unref(c);
	c = begin(false);
	view("v", "select last_insert_id() AS `a`");
	routine("f", true, "RETURN (SELECT a FROM V)");
	call_graph_publish(g, c);
	assert_int_equal(of(c, 'f', "f"), 0);
	assert_int_equal(catalog_read_name(c, slice_str(""), &upper), 0);
	call_graph_free(g);
	catalog_unref(c);
}

static void many(void **state)
{
	struct catalog *c = begin(false);
	char name[16], text[64];

	(void)state;
	for (unsigned i = 0; i < 2000; i++) {
		snprintf(name, sizeof name, "f%u", i);
		snprintf(text, sizeof text, i < 1999 ? "RETURN f%u()" : "RETURN @v", i + 1);
		routine(name, true, text);
	}
	call_graph_publish(g, c);
	assert_int_equal(of(c, 'f', "f0"), K | D);
	assert_int_equal(of(c, 'f', "f1000"), K | D);
	call_graph_free(g);
	catalog_unref(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(effects_come_from_what_is_called),
		cmocka_unit_test(to_write_a_view_is_to_write_what_is_behind),
		cmocka_unit_test(who_calls_itself_ends),
		cmocka_unit_test(columns),
		cmocka_unit_test(doubtful_names),
		cmocka_unit_test(names_fold_as_the_servers_do),
		cmocka_unit_test(many),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
