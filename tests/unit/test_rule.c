/* SPDX-License-Identifier: Apache-2.0
 *
 * Which reads are cacheable, under which canonical key, and what writes drop. Statements are built by hand, so that
 * every combination can be had; tests/unit/test_classify.c has what real texts become.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cache/cache.h"

static struct config config = {.nrules = 2, .rules = {{.expires = "expires_at"}, {.name = "other"}}};
static struct catalog catalog;

static int setup(void **state)
{
	(void)state;
	memset(&catalog, 0, sizeof catalog);
	for (unsigned i = 0; i < 2; i++)
		catalog.rules[i] = (struct catalog_rule){.found = true, .compare = COMPARE_NOCASE,
							 .expires = EXPIRES_DATETIME, .key_bytes = 40};
	return 0;
}

static struct sql_literal string(const char *s)
{
	return (struct sql_literal){.type = SQL_LIT_STRING, .text = slice_str(s)};
}

/* As the classifier finds it in a text: the inside of the quotes, which stand around it. */
static struct sql_literal quoted(const char *s)
{
	struct sql_literal lit = {.type = SQL_LIT_STRING, .escaped = true, .text = slice_of(s + 1, strlen(s) - 2)};
	return lit;
}

static struct sql_literal number(const char *s)
{
	return (struct sql_literal){.type = SQL_LIT_NUMBER, .text = slice_str(s)};
}

static struct sql_stmt select_one(struct sql_literal key)
{
	struct sql_stmt s = {.kind = SQL_SELECT, .scope = SQL_SCOPE_KEYS, .watched = 1, .single = true, .nkeys = 1};
	s.keys[0] = key;
	return s;
}

static struct sql_stmt write_one(enum sql_kind kind, struct sql_literal key)
{
	struct sql_stmt s = select_one(key);
	s.kind = kind;
	s.watched_written = 1;
	return s;
}

static enum cache_match match(const struct sql_stmt *s, struct cache_key *key)
{
	const char *why = NULL;
	enum cache_match m = cache_rule_match(&config, &catalog, s, 0, NULL, key, &why);
	if (m == CACHE_NO_CACHEABLE)
		assert_non_null(why);
	return m;
}

/* The canonical form of a key, or NULL where it is not cacheable. */
static const char *canonical(enum column_compare compare, struct sql_literal lit)
{
	static char text[CACHE_KEY_MAX + 1];
	struct cache_key key;
	struct sql_stmt s = select_one(lit);
	catalog.rules[0].compare = compare;
	if (match(&s, &key) != CACHE_MATCH)
		return NULL;
	memcpy(text, key.row, key.len);
	text[key.len] = 0;
	return text;
}

static void test_canonical_strings(void **state)
{
	(void)state;
	static const struct {
		enum column_compare compare;
		const char *key, *want;
	} rows[] = {
		{COMPARE_NOCASE, "Abc-09_Z  ", "abc-09_z"},
		{COMPARE_NOCASE, "   ", ""},
		{COMPARE_NOCASE, "", ""},
		{COMPARE_NOCASE_NOPAD, "Abc ", "abc "},
		{COMPARE_BIN_PAD, "Abc ", "Abc"},
		{COMPARE_BINARY, "Abc ", "Abc "},
		{COMPARE_BINARY, "~!{}", "~!{}"},
		{COMPARE_NOCASE, "caf\xc3\xa9", NULL},
		{COMPARE_BINARY, "\x7f", NULL},
		{COMPARE_BINARY, "a\tb", NULL},
		{COMPARE_UNKNOWN, "a", NULL},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		const char *got = canonical(rows[i].compare, string(rows[i].key));
		if (rows[i].want)
			assert_string_equal(got, rows[i].want);
		else
			assert_null(got);
	}
	char max[CACHE_KEY_MAX + 2];
	memset(max, 'x', sizeof max);
	max[CACHE_KEY_MAX] = 0;
	assert_string_equal(canonical(COMPARE_BINARY, string(max)), max);
	max[CACHE_KEY_MAX] = 'x';
	max[CACHE_KEY_MAX + 1] = 0;
	assert_null(canonical(COMPARE_BINARY, string(max)));
	max[CACHE_KEY_MAX] = ' ';
	assert_int_equal(strlen(canonical(COMPARE_BIN_PAD, string(max))), CACHE_KEY_MAX);
}

static void test_canonical_numbers(void **state)
{
	(void)state;
	static const char *const pairs[][2] = {
		{"5", "5"}, {"0005", "5"}, {"0", "0"}, {"000", "0"}, {"-0", "0"}, {"-05", "-5"},
		{"18446744073709551615", "18446744073709551615"}, {"123456789012345678901", NULL},
		{"5.0", NULL}, {"5e0", NULL}, {"", NULL}, {"-", NULL}, {"--5", NULL},
	};
	for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
		const char *got = canonical(COMPARE_INTEGER, number(pairs[i][0]));
		if (pairs[i][1])
			assert_string_equal(got, pairs[i][1]);
		else
			assert_null(got);
	}
	struct sql_literal negative = number("7");
	negative.negative = true;
	assert_string_equal(canonical(COMPARE_INTEGER, negative), "-7");
	assert_string_equal(canonical(COMPARE_INTEGER, string("42")), "42");
	static const char *const inexact[] = {"042", " 42", "42 ", "42x", "4.2", "", "-42", "1234567890123456"};
	for (size_t i = 0; i < sizeof inexact / sizeof inexact[0]; i++)
		assert_null(canonical(COMPARE_INTEGER, string(inexact[i])));
	assert_null(canonical(COMPARE_NOCASE, number("5"))); /* '5', '05' and '5x' all equal 5 */
}

static void test_other_literals(void **state)
{
	(void)state;
	struct sql_literal lit = string("a");
	lit.introducer = true;
	assert_null(canonical(COMPARE_NOCASE, lit));
	for (int type = SQL_LIT_HEX; type <= SQL_LIT_OTHER; type++) {
		lit = (struct sql_literal){.type = (uint8_t)type, .text = slice_str("61")};
		assert_null(canonical(COMPARE_NOCASE, lit));
		assert_null(canonical(COMPARE_INTEGER, lit));
	}
}

static void test_escapes(void **state)
{
	(void)state;
	struct sql_literal lit = quoted("'it''s\\_'");
	struct cache_key key;
	struct sql_stmt s = select_one(lit);
	assert_int_equal(match(&s, &key), CACHE_MATCH);
	assert_true(slice_eq(slice_of(key.row, key.len), slice_str("it's\\_")));
	s = select_one(quoted("'a\\nb'"));
	assert_int_equal(match(&s, &key), CACHE_NO_CACHEABLE); /* a line feed is no printable byte */
}

static bool give(const void *arg, unsigned index, struct sql_literal *out)
{
	const struct sql_literal *values = arg;
	*out = values[index];
	return values[index].type != SQL_LIT_NULL;
}

static void test_parameters(void **state)
{
	(void)state;
	struct sql_literal values[] = {string("Tok\\en"), {.type = SQL_LIT_NULL}, number("-12")};
	struct cache_params params = {values, give};
	struct sql_stmt s = select_one((struct sql_literal){.type = SQL_LIT_PARAM, .param = 0});
	struct cache_key key;
	const char *why;
	assert_int_equal(cache_rule_match(&config, &catalog, &s, 0, &params, &key, &why), CACHE_MATCH);
	assert_true(slice_eq(slice_of(key.row, key.len), slice_str("tok\\en"))); /* raw: no escapes in parameters */
	s.keys[0].param = 1;
	assert_int_equal(cache_rule_match(&config, &catalog, &s, 0, &params, &key, &why), CACHE_NO_CACHEABLE);
	s.keys[0].param = 2;
	catalog.rules[0].compare = COMPARE_INTEGER;
	assert_int_equal(cache_rule_match(&config, &catalog, &s, 0, &params, &key, &why), CACHE_MATCH);
	assert_true(slice_eq(slice_of(key.row, key.len), slice_str("-12")));
	assert_int_equal(match(&s, &key), CACHE_NO_CACHEABLE); /* no values */
}

static void test_what_is_not_cacheable(void **state)
{
	(void)state;
	static const uint32_t fine = SQLF_NOW | SQLF_SYSTEM_SCHEMA | SQLF_CHAIN | SQLF_RELEASE | SQLF_PARAMS |
				     SQLF_SET_TRACKING | SQLF_SET_GLOBAL | SQLF_SET_ONCE | SQLF_RETURNS_ROWS |
				     SQLF_TEMP;
	struct cache_key key;
	for (unsigned bit = 0; bit < 28; bit++) {
		struct sql_stmt s = select_one(string("a"));
		s.flags = 1u << bit;
		s.now_is_expiry = true;
		s.clocks = SQL_CLOCK_LOCAL;
		assert_int_equal(match(&s, &key), s.flags & fine ? CACHE_MATCH : CACHE_NO_CACHEABLE);
	}
	struct sql_stmt s = select_one(string("a"));
	s.single = false;
	assert_int_equal(match(&s, &key), CACHE_NO_CACHEABLE);
	s = select_one(string("a"));
	s.scope = SQL_SCOPE_TABLE;
	assert_int_equal(match(&s, &key), CACHE_NO_CACHEABLE);
	s = select_one(string("a"));
	s.nkeys = 2;
	s.keys[1] = string("b");
	assert_int_equal(match(&s, &key), CACHE_NO_CACHEABLE);
	s = select_one(string("a"));
	s.hint = SQL_HINT_NO_CACHE;
	assert_int_equal(match(&s, &key), CACHE_NO_CACHEABLE);
	s = select_one(string("a"));
	s.watched = 3;
	assert_int_equal(match(&s, &key), CACHE_NO_CACHEABLE);
	s = select_one(string("a"));
	s.watched = 0;
	assert_int_equal(match(&s, &key), CACHE_NO_RULE);
	s = write_one(SQL_UPDATE, string("a"));
	assert_int_equal(match(&s, &key), CACHE_NO_RULE);
	s = select_one(string("a"));
	s.watched = 2;
	assert_int_equal(match(&s, &key), CACHE_MATCH);
	assert_int_equal(key.rule, 1);
	snprintf(catalog.rules[1].why, sizeof catalog.rules[1].why, "a generated column");
	assert_int_equal(match(&s, &key), CACHE_NO_CACHEABLE);
	catalog.rules[1].why[0] = 0;
	catalog.rules[1].found = false;
	assert_int_equal(match(&s, &key), CACHE_NO_CACHEABLE);
}

static void test_now(void **state)
{
	(void)state;
	struct sql_stmt s = select_one(string("a"));
	struct cache_key key;
	s.flags = SQLF_NOW;
	assert_int_equal(match(&s, &key), CACHE_NO_CACHEABLE);
	s.now_is_expiry = true;
	s.clocks = SQL_CLOCK_UTC;
	assert_int_equal(match(&s, &key), CACHE_NO_CACHEABLE);
	s.clocks = SQL_CLOCK_LOCAL;
	assert_int_equal(match(&s, &key), CACHE_MATCH);
	catalog.rules[0].expires = EXPIRES_UNKNOWN;
	assert_int_equal(match(&s, &key), CACHE_NO_CACHEABLE);
	s.watched = 2; /* a rule without an expires column */
	assert_int_equal(match(&s, &key), CACHE_NO_CACHEABLE);
}

static struct cache_change out[CONFIG_RULES];

static unsigned changes(const struct sql_stmt *s)
{
	return cache_rule_changes(&config, &catalog, s, false, 0, NULL, out, CONFIG_RULES);
}

static void test_writes_that_name_their_rows(void **state)
{
	(void)state;
	static const enum sql_kind kinds[] = {SQL_INSERT, SQL_REPLACE, SQL_UPDATE, SQL_DELETE};
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
		struct sql_stmt s = write_one(kinds[i], string("Abc "));
		s.nkeys = 3;
		s.keys[1] = string("def");
		s.keys[2] = string("ABC");
		assert_int_equal(changes(&s), 1);
		assert_false(out[0].whole);
		assert_int_equal(out[0].rule, 0);
		assert_int_equal(out[0].nkeys, 2);
		assert_true(slice_eq(slice_of(out[0].keys[0].bytes, out[0].keys[0].len), slice_str("abc")));
		assert_true(slice_eq(slice_of(out[0].keys[1].bytes, out[0].keys[1].len), slice_str("def")));
	}
	struct sql_stmt read = select_one(string("a"));
	assert_int_equal(changes(&read), 0);
}

static void whole(const struct sql_stmt *s)
{
	assert_int_equal(changes(s), 1);
	assert_true(out[0].whole);
}

static void test_writes_that_drop_the_table(void **state)
{
	(void)state;
	struct sql_stmt s = write_one(SQL_UPDATE, string("a"));
	s.scope = SQL_SCOPE_TABLE;
	whole(&s);
	s = write_one(SQL_TRUNCATE, string("a"));
	whole(&s);
	s = write_one(SQL_UPDATE, string("a"));
	s.nkeys = 0;
	whole(&s);
	s = write_one(SQL_UPDATE, string("a"));
	s.watched = 3;
	whole(&s);
	s = write_one(SQL_UPDATE, string("a"));
	s.flags = SQLF_MULTI;
	whole(&s);
	s = write_one(SQL_INSERT, string("caf\xc3\xa9"));
	whole(&s);
	s = write_one(SQL_UPDATE, number("5"));
	whole(&s);
	s = write_one(SQL_INSERT, string("a key that is longer than forty bytes, which a server may cut"));
	whole(&s);
	s = write_one(SQL_DELETE, string("0"));
	s.nkeys = 9;
	static const char *const names[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8"};
	for (unsigned i = 0; i < 9; i++)
		s.keys[i] = string(names[i]);
	whole(&s);
	s.nkeys = 8;
	assert_int_equal(changes(&s), 1);
	assert_false(out[0].whole);
	catalog.rules[0].hidden_writes = true;
	whole(&s);
	catalog.rules[0].hidden_writes = false;
	catalog.rules[0].found = false;
	whole(&s);
	assert_int_equal(cache_rule_changes(&config, NULL, &s, false, 0, NULL, out, CONFIG_RULES), 1);
	assert_true(out[0].whole);
}

static void test_numbers_that_a_server_may_clamp(void **state)
{
	(void)state;
	static const struct {
		unsigned width;
		const char *key;
		bool named;
	} rows[] = {
		{4, "2147483647", true}, {4, "2147483648", false}, {8, "9223372036854775807", false},
		{8, "123456789012345678", true}, {1, "127", true}, {1, "128", false}, {0, "128", false},
		{4, "-1", false}, {4, "0", false}, {2, "32767", true}, {3, "8388608", false},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct sql_stmt s = write_one(SQL_INSERT, number(rows[i].key));
		catalog.rules[0].compare = COMPARE_INTEGER;
		catalog.rules[0].key_bytes = rows[i].width;
		assert_int_equal(changes(&s), 1);
		assert_int_equal(!out[0].whole, rows[i].named);
	}
}

static void test_unknown_effects(void **state)
{
	(void)state;
	struct sql_stmt s = {.kind = SQL_CALL};
	assert_int_equal(cache_rule_changes(&config, &catalog, &s, true, 0, NULL, out, CONFIG_RULES), 2);
	assert_true(out[0].whole && out[1].whole);
	assert_int_equal(out[1].rule, 1);
	s.flags = SQLF_TABLES_OVERFLOW;
	assert_int_equal(changes(&s), 2);
	s.flags = 0;
	assert_int_equal(changes(&s), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_canonical_strings, setup),
		cmocka_unit_test_setup(test_canonical_numbers, setup),
		cmocka_unit_test_setup(test_other_literals, setup),
		cmocka_unit_test_setup(test_escapes, setup),
		cmocka_unit_test_setup(test_parameters, setup),
		cmocka_unit_test_setup(test_what_is_not_cacheable, setup),
		cmocka_unit_test_setup(test_now, setup),
		cmocka_unit_test_setup(test_writes_that_name_their_rows, setup),
		cmocka_unit_test_setup(test_writes_that_drop_the_table, setup),
		cmocka_unit_test_setup(test_numbers_that_a_server_may_clamp, setup),
		cmocka_unit_test_setup(test_unknown_effects, setup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
