/* SPDX-License-Identifier: Apache-2.0
 *
 * tests/data/route.tsv, a line a statement: where it goes and why, from its text to a server. Then what a table cannot
 * say: shares by weight, turns between equals, time. TEST_DATA names the folder when it is not run from the project's
 * root.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "cluster/route.h"

enum { SECOND = 1000000, NOW = 10 * SECOND };

static struct gtid_pos position(const char *text)
{
	struct gtid_pos pos;

	assert_int_equal(gtid_pos_parse(slice_str(text), &pos), 0);
	return pos;
}

static struct gtid written = {0, 1, 100};

static void add_server(struct topology *t, enum server_role role)
{
	struct server *s = xcalloc(1, sizeof *s);
	struct gtid_pos pos = position("0-1-100");

	s->refs = 1;
	s->id = t->n;
	s->fresh_us = NOW - SECOND / 10;
	gtid_live_raise(&s->applied, &pos);
	t->views[t->n++] = (struct server_view){.server = s, .role = role, .state = SERVER_UP, .weight = 1};
}

static void describe_server(struct server_view *v, const char *word)
{
	struct gtid_pos behind = position("0-1-99");

	if (strcmp(word, "behind") == 0) {
		gtid_live_reset(&v->server->applied);
		gtid_live_raise(&v->server->applied, &behind);
	} else if (strcmp(word, "late") == 0) {
		v->server->fresh_us = NOW - SECOND;
	} else if (strcmp(word, "unproved") == 0) {
		v->server->fresh_us = 0;
	} else if (strcmp(word, "down") == 0) {
		v->state = SERVER_DOWN;
	} else if (strcmp(word, "drained") == 0) {
		v->drained = true;
	} else if (strcmp(word, "failed") == 0) {
		v->server->failed = 1;
	} else if (strncmp(word, "busy", 4) == 0) {
		v->server->outstanding = atoi(word + 4);
	} else if (word[0] == 'w') {
		v->weight = (unsigned)atoi(word + 1);
	} else {
		fail_msg("no such server: %s", word);
	}
}

static struct topology *servers_of(const char *spec)
{
	struct topology *t = xcalloc(1, sizeof *t);
	char *all = xstrdup(strcmp(spec, "-") == 0 ? "P R R" : spec), *rest = all, *server, *word;

	t->refs = 1;
	t->max_replica_lag_us = SECOND;
	while ((server = strsep(&rest, " ")) != NULL) {
		word = strsep(&server, ":");
		assert_true(strcmp(word, "P") == 0 || strcmp(word, "R") == 0);
		add_server(t, *word == 'P' ? ROLE_PRIMARY : ROLE_REPLICA);
		while ((word = strsep(&server, ":")) != NULL)
			describe_server(&t->views[t->n - 1], word);
	}
	free(all);
	return t;
}

static struct catalog *routines(void)
{
	struct catalog *c = catalog_new(1);

	c->complete = true;
	catalog_add_routine(c, slice_str("app"), slice_str("looks"), true, EFFECT_NONDET);
	catalog_add_routine(c, slice_str("lib"), slice_str("looks"), true, 0);
	catalog_add_routine(c, slice_str("app"), slice_str("writes"), true, EFFECT_WRITES);
	catalog_add_routine(c, slice_str("app"), slice_str("mine"), true, EFFECT_DEPENDS);
	catalog_add_effects(c, slice_str("app"), slice_str("looking_view"), EFFECT_NONDET, 0);
	catalog_add_effects(c, slice_str("app"), slice_str("writing_view"), EFFECT_WRITES, EFFECT_WRITES);
	catalog_add_effects(c, slice_str("app"), slice_str("with_trigger"), 0, EFFECT_TEMPORARY);
	return c;
}

struct session {
	struct route_facts facts;
	struct route_need need;
	bool no_catalog;
};

static struct session session_of(const char *spec, unsigned line)
{
	struct session s = {.facts = {.autocommit = true, .schema = slice_str("app")}};
	char *all = xstrdup(spec), *rest = all, *word;

	while ((word = strsep(&rest, " ")) != NULL) {
		if (strcmp(word, "trx") == 0)
			s.facts.in_transaction = true;
		else if (strcmp(word, "noauto") == 0)
			s.facts.autocommit = false;
		else if (strcmp(word, "serial") == 0)
			s.facts.serializable = true;
		else if (strcmp(word, "locks") == 0)
			s.facts.locks = true;
		else if (strcmp(word, "temp") == 0)
			s.facts.temporary_tables = true;
		else if (strcmp(word, "noschema") == 0)
			s.facts.schema = slice_str("");
		else if (strcmp(word, "nocatalog") == 0)
			s.no_catalog = true;
		else if (strcmp(word, "eventual") == 0)
			s.need.consistency = CONSISTENCY_EVENTUAL;
		else if (strcmp(word, "session") == 0)
			s.need.consistency = CONSISTENCY_SESSION;
		else if (strcmp(word, "wrote") == 0)
			s.need.session = written;
		else if (strcmp(word, "fence") == 0)
			s.need.fence = written;
		else if (strcmp(word, "not1") == 0)
			s.need.not_servers = 1u << 1;
		else if (strcmp(word, "-") != 0)
			fail_msg("route.tsv:%u: no such word: %s", line, word);
	}
	free(all);
	return s;
}

/* Where the statement goes, in words. */
static void decide(const struct session *s, const struct topology *t, const struct catalog *catalog,
		   const struct freshness *f, const char *sql, char where[16], enum route_reason *why)
{
	static struct sql_stmt stmt;
	uint64_t tables[SQL_TABLES];
	struct route_need need = s->need;

	sql_classify(slice_str(sql), 0, s->facts.schema, NULL, 0, &stmt);
	struct route_want want = route_wants(&stmt, &s->facts, s->no_catalog ? NULL : catalog);
	*why = want.reason;
	strcpy(where, want.target == TARGET_LAST ? "last" : "primary");
	if (want.target != TARGET_REPLICA)
		return;
	for (unsigned i = 0; i < stmt.ntables; i++)
		tables[i] = freshness_table(stmt.tables[i].db.n > 0 ? stmt.tables[i].db : s->facts.schema,
					    stmt.tables[i].name, false);
	need.tables = tables;
	need.n = stmt.ntables;
	need.ignore_freshness = want.ignore_freshness;
	int server = route_pick(t, f, &need, 0, NOW, why);
	if (server >= 0)
		snprintf(where, 16, "%d", server);
}

static bool check_line(char *line, unsigned number, const struct catalog *catalog, const struct freshness *f)
{
	char *facts = strsep(&line, "\t"), *servers = strsep(&line, "\t"), *want = strsep(&line, "\t");
	char *reason = strsep(&line, "\t"), where[16];
	enum route_reason why;

	if (line == NULL)
		fail_msg("route.tsv:%u: four tabs expected", number);
	struct session s = session_of(facts, number);
	struct topology *t = servers_of(servers);
	decide(&s, t, catalog, f, line, where, &why);
	topology_unref(t);
	if (strcmp(where, want) == 0 && strcmp(route_reason_name(why), reason) == 0)
		return true;
	print_error("route.tsv:%u: %s\n  expected %s, %s\n  got      %s, %s\n", number, line, want, reason, where,
		    route_reason_name(why));
	return false;
}

static void the_table(void **state)
{
	const char *dir = getenv("TEST_DATA");
	char path[4096], *line = NULL;
	size_t cap = 0;
	ssize_t n;
	unsigned wrong = 0, number = 0, checked = 0;
	struct catalog *catalog = routines();
	struct freshness *f = freshness_new();
	uint64_t fresh = freshness_table(slice_str("app"), slice_str("fresh"), false);

	(void)state;
	freshness_wrote(f, &fresh, 1, written);
	snprintf(path, sizeof path, "%s/route.tsv", dir != NULL ? dir : "tests/data");
	FILE *file = fopen(path, "r");
	assert_non_null(file);
	while ((n = getline(&line, &cap, file)) > 0) {
		number++;
		line[n - 1] = '\0';
		if (line[0] == '#' || line[0] == '\0')
			continue;
		checked++;
		wrong += !check_line(line, number, catalog, f);
	}
	free(line);
	fclose(file);
	freshness_free(f);
	catalog_unref(catalog);
	assert_true(checked > 100);
	assert_int_equal(wrong, 0);
}

static int pick(const struct topology *t, unsigned turn, int64_t now, enum route_reason *why)
{
	static const struct route_need any = {.consistency = CONSISTENCY_EVENTUAL};

	*why = ROUTE_READ;
	return route_pick(t, NULL, &any, turn, now, why);
}

/* Statements that stay outstanding spread by weight. */
static void shares_follow_weights(void **state)
{
	struct topology *t = servers_of("P R:w1 R:w3 R:w6");
	enum route_reason why;

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		int best = pick(t, i, NOW, &why);
		assert_true(best > 0);
		t->views[best].server->outstanding++;
	}
	assert_int_equal(why, ROUTE_READ);
	for (unsigned i = 1; i <= 3; i++)
		assert_in_range(t->views[i].server->outstanding, t->views[i].weight * 100 - 5,
				t->views[i].weight * 100 + 5);
	topology_unref(t);
}

/* With nothing outstanding the turn decides, and everyone has one. */
static void equals_take_turns(void **state)
{
	struct topology *t = servers_of("P R R R");
	unsigned times[4] = {0};
	enum route_reason why;

	(void)state;
	for (unsigned turn = 0; turn < 400; turn++)
		times[pick(t, turn, NOW, &why)]++;
	for (unsigned i = 1; i < 4; i++)
		assert_true(times[i] >= 100);
	topology_unref(t);
}

static void a_proof_expires(void **state)
{
	struct topology *t = servers_of("P R");
	enum route_reason why;

	(void)state;
	t->views[1].server->fresh_us = NOW;
	assert_int_equal(pick(t, 0, NOW + SECOND - 1, &why), 1);
	assert_int_equal(pick(t, 0, NOW + SECOND, &why), -1);
	assert_int_equal(why, ROUTE_NO_REPLICA);
	topology_unref(t);
}

static void without_servers_there_is_no_replica(void **state)
{
	struct topology none = {.refs = 1, .max_replica_lag_us = SECOND};
	enum route_reason why;

	(void)state;
	assert_int_equal(pick(&none, 7, NOW, &why), -1);
	assert_int_equal(why, ROUTE_NO_REPLICA);
}

/* A domain that a replica has never heard of is one whose writes it has not got. */
static void other_domains_count(void **state)
{
	struct topology *t = servers_of("P R");
	struct route_need need = {.consistency = CONSISTENCY_EVENTUAL, .fence = {7, 1, 1}};
	struct gtid_pos pos = position("0-1-100,7-9-1");
	enum route_reason why = ROUTE_READ;

	(void)state;
	assert_int_equal(route_pick(t, NULL, &need, 0, NOW, &why), -1);
	assert_int_equal(why, ROUTE_FENCE);
	gtid_live_raise(&t->views[1].server->applied, &pos);
	why = ROUTE_READ;
	assert_int_equal(route_pick(t, NULL, &need, 0, NOW, &why), 1);
	assert_int_equal(why, ROUTE_READ);
	topology_unref(t);
}

/* A replica that has not applied the last change of rights would still judge by the old ones. */
static void rights_count_in_every_domain(void **state)
{
	struct topology *t = servers_of("P R");
	struct gtid_pos rights = position("0-1-100,7-9-1"), pos = position("0-1-100,7-9-2");
	struct route_need need = {.ignore_freshness = true, .rights = &rights};
	enum route_reason why = ROUTE_READ;

	(void)state;
	assert_int_equal(route_pick(t, NULL, &need, 0, NOW, &why), -1);
	assert_int_equal(why, ROUTE_RECENT_WRITE);
	gtid_live_raise(&t->views[1].server->applied, &pos);
	why = ROUTE_READ;
	assert_int_equal(route_pick(t, NULL, &need, 0, NOW, &why), 1);
	topology_unref(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_table),
		cmocka_unit_test(shares_follow_weights),
		cmocka_unit_test(equals_take_turns),
		cmocka_unit_test(a_proof_expires),
		cmocka_unit_test(without_servers_there_is_no_replica),
		cmocka_unit_test(other_domains_count),
		cmocka_unit_test(rights_count_in_every_domain),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
