/* SPDX-License-Identifier: Apache-2.0
 *
 * What a fresh login has, as a value: found by any case, compared, kept once; the question for its fingerprint; what
 * remains a server's own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "mysql/defaults.h"

/* "name=value,name=value" */
static struct defaults *defaults_from(const char *text)
{
	struct defaults *d = defaults_new();
	char *copy = xstrdup(text), *rest = copy, *pair;

	while ((pair = strsep(&rest, ",")) != NULL) {
		char *value = strchr(pair, '=');
		*value++ = '\0';
		assert_int_equal(defaults_add(d, slice_str(pair), slice_str(value)), 0);
	}
	free(copy);
	defaults_seal(d);
	return d;
}

static void values_are_found(void **state)
{
	struct defaults *d = defaults_from("SQL_MODE=ANSI,TIME_ZONE=SYSTEM,role=,AUTOCOMMIT=ON,time_zone=UTC");

	(void)state;
	assert_int_equal(d->n, 4);
	assert_string_equal(defaults_get(d, "sql_mode"), "ANSI");
	assert_string_equal(defaults_get(d, "Sql_Mode"), "ANSI");
	assert_string_equal(defaults_get(d, "role"), "");
	assert_non_null(defaults_get(d, "time_zone"));
	assert_null(defaults_get(d, "sql_mod"));
	assert_null(defaults_get(NULL, "sql_mode"));
	assert_string_equal(defaults_fingerprint(d), "MD5(CONCAT_WS('|',IFNULL(CURRENT_ROLE(),'~'),"
						     "IFNULL(@@session.autocommit,'~'),IFNULL(@@session.sql_mode,'~'),"
						     "IFNULL(@@session.time_zone,'~')))");
	defaults_unref(&d);
	assert_null(d);
	d = defaults_new();
	defaults_seal(d);
	assert_null(defaults_get(d, "sql_mode"));
	defaults_unref(&d);
}

static void rows_that_are_none(void **state)
{
	static const char *const names[] = {"", "a b", "a,b", "@@a", "a'", "a)"};
	struct defaults *d = defaults_new();
	char *large = xcalloc(1, DEFAULTS_VALUE + 2);

	(void)state;
	memset(large, 'x', DEFAULTS_VALUE + 1);
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
		assert_int_equal(defaults_add(d, slice_str(names[i]), slice_str("1")), -1);
	assert_int_equal(defaults_add(d, slice_of("a\0b", 3), slice_str("1")), -1);
	assert_int_equal(defaults_add(d, slice_str("a"), slice_of("1\0", 2)), -1);
	assert_int_equal(defaults_add(d, slice_str(large), slice_str("1")), -1);
	assert_int_equal(defaults_add(d, slice_str("a"), slice_str(large)), -1);
	assert_int_equal(d->n, 0);
	for (unsigned i = 0; i < DEFAULTS_MAX; i++) {
		char name[16];
		snprintf(name, sizeof name, "v%u", i);
		assert_int_equal(defaults_add(d, slice_str(name), slice_str("1")), 0);
	}
	assert_int_equal(defaults_add(d, slice_str("a"), slice_str("1")), -1);
	free(large);
	defaults_unref(&d);
}

static void equal_ones_are_kept_once(void **state)
{
	struct defaults_list set = LIST_HEAD_INITIALIZER(set);
	struct defaults *a = defaults_intern(&set, defaults_from("a=1,b=2"));
	struct defaults *b = defaults_intern(&set, defaults_from("B=2,A=1"));
	struct defaults *c = defaults_intern(&set, defaults_from("a=12,b="));
	uint8_t one[DEFAULTS_DIGEST], other[DEFAULTS_DIGEST];

	(void)state;
	assert_ptr_equal(a, b);
	assert_ptr_not_equal(a, c);
	defaults_digest(a, one);
	defaults_digest(c, other);
	assert_memory_not_equal(one, other, sizeof one);
	defaults_digest(NULL, other);
	assert_memory_not_equal(one, other, sizeof one);
	assert_ptr_equal(defaults_intern(&set, defaults_ref(a)), a);
	defaults_unref(&a);
	assert_int_equal(b->refs, 2); /* b's, and what the last line gave */
	b->refs--;
	defaults_unref(&b);
	b = defaults_intern(&set, defaults_from("a=1,b=2"));
	assert_string_equal(defaults_get(b, "a"), "1");
	defaults_unref(&b);
	defaults_unref(&c);
	assert_true(LIST_EMPTY(&set));
}

static void what_is_a_servers_own(void **state)
{
	struct defaults *base = defaults_from("sql_mode=ANSI,slow_query_log=OFF,binlog_format=ROW,sql_log_bin=ON,x=1");
	struct defaults *born = defaults_from("sql_mode=,slow_query_log=ON,binlog_format=STATEMENT,sql_log_bin=ON");
	struct defaults *ground = defaults_ground(base, born);

	(void)state;
	assert_string_equal(defaults_get(ground, "sql_mode"), "ANSI");
	assert_string_equal(defaults_get(ground, "x"), "1");
	assert_string_equal(defaults_get(ground, "slow_query_log"), "ON");
	assert_string_equal(defaults_get(ground, "binlog_format"), "STATEMENT");
	defaults_unref(&ground);
	ground = defaults_ground(base, base);
	assert_ptr_equal(ground, base);
	defaults_unref(&ground);
	defaults_unref(&base);
	defaults_unref(&born);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_are_found),
		cmocka_unit_test(rows_that_are_none),
		cmocka_unit_test(equal_ones_are_kept_once),
		cmocka_unit_test(what_is_a_servers_own),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
