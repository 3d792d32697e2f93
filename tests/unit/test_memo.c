/* SPDX-License-Identifier: Apache-2.0
 *
 * The memo says what the classifier says: for every statement of tests/data/classify.tsv (fuzz_classify does the same
 * with any text), with other strings in the first quotes, in other modes and schemas; and it does remember look-ups.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "same_stmt.h"
#include "sql/memo.h"

static struct sql_memo *memo;
static struct sql_stmt got, want;
static struct sql_watch watches[2];

static int up(void **state)
{
	(void)state;
	watches[0] = (struct sql_watch){slice_str("app"), slice_str("t"), slice_str("k"), slice_str("e"), 0, 4, true};
	watches[1] = (struct sql_watch){slice_str("app"), slice_str("access_token"), slice_str("token"),
					slice_str("expires_at"), 1, 7, true};
	memo = sql_memo_new();
	return 0;
}

static int down(void **state)
{
	(void)state;
	sql_memo_free(memo);
	return 0;
}

/* In a copy of exactly its size, so that a reference to another text, or behind this one, is seen. */
static bool both(struct slice text, unsigned mode, const char *schema)
{
	uint8_t *copy = xmalloc(text.n + 1);

	if (text.n > 0)
		memcpy(copy, text.p, text.n);
	struct slice t = slice_of(copy, text.n);
	bool remembered = sql_memo_classify(memo, t, mode, slice_str(schema), watches, 2, &got);
	sql_classify(t, mode, slice_str(schema), watches, 2, &want);
	if (!same_stmt(&got, t, &want, t))
		fail_msg("mode %u, schema %s%s: %.*s", mode, schema, remembered ? ", remembered" : "", (int)t.n,
			 (char *)t.p);
	free(copy);
	return remembered;
}

static bool asked(const char *sql)
{
	return both(slice_str(sql), 0, "app");
}

static void lookups_are_remembered(void **state)
{
	(void)state;
	assert_false(asked("SELECT a, fn(b) FROM access_token WHERE token = 'one' AND expires_at > NOW()"));
	assert_true(asked("SELECT a, fn(b) FROM access_token WHERE token = 'another one' AND expires_at > NOW()"));
	assert_true(asked("SELECT a, fn(b) FROM access_token WHERE token = '' AND expires_at > NOW()"));
	assert_true(got.flags & SQLF_UNKNOWN_FUNC);
	assert_false(asked("SELECT a, fn(b) FROM access_token WHERE token = 'x' AND expires_at > NOW() "));
	assert_false(asked("select a, fn(b) FROM access_token WHERE token = 'x' AND expires_at > NOW()"));
	assert_false(asked("DELETE FROM access_token WHERE token = 'a' LIMIT 1 /* it's */"));
	assert_true(asked("DELETE FROM access_token WHERE token = 'bb' LIMIT 1 /* it's */"));
	assert_true(got.watched_written != 0 && got.nkeys == 1 && got.keys[0].text.n == 2);
}

static void what_reads_otherwise_is_not(void **state)
{
	static const char sql[] = "SELECT a FROM access_token WHERE token = 'x' AND expires_at > NOW()";

	(void)state;
	assert_false(asked(sql));
	assert_true(asked(sql));
	assert_false(both(slice_str(sql), SQL_ANSI_QUOTES, "app"));
	assert_false(both(slice_str(sql), 0, "other"));
	assert_false(both(slice_str(sql), SQL_UNSAFE_CHARSET, "app"));
	assert_false(asked(sql)); /* one is kept, the newest */
	assert_false(asked("SELECT a FROM access_token WHERE token = 'x\\'y' AND expires_at > NOW()"));
	assert_false(asked("SELECT a FROM access_token WHERE token = 'x''y' AND expires_at > NOW()"));
	assert_true(asked(sql));
	sql_memo_clear(memo);
	assert_false(asked(sql));
	/* The first quote is not the key's, or opens nothing. */
	for (unsigned i = 0; i < 2; i++) {
		assert_false(asked("SELECT 'x' FROM access_token WHERE token = 'x'"));
		assert_false(asked("SELECT a /* it's */ FROM access_token WHERE token = 'x'"));
		assert_false(asked("SELECT a FROM access_token WHERE token IN ('x', 'y')"));
		assert_false(asked("SELECT a FROM access_token WHERE token = N'x'"));
		assert_false(asked("SELECT a FROM access_token WHERE token = \"it's\" AND b = 'x'"));
		assert_false(asked("SELECT a FROM access_token WHERE token = 'x"));
	}
}

/* The statement with `key` in its first quotes. */
static struct buf with_key(struct slice text, const char *key)
{
	const uint8_t *open = memchr(text.p, '\'', text.n);
	const uint8_t *close =
		open != NULL ? memchr(open + 1, '\'', (size_t)(text.p + text.n - open - 1)) : NULL;
	struct buf b = {0};

	if (close == NULL) {
		buf_put(&b, text.p, text.n);
		return b;
	}
	buf_put(&b, text.p, (size_t)(open + 1 - text.p));
	buf_put_str(&b, key);
	buf_put(&b, close, (size_t)(text.p + text.n - close));
	return b;
}

static void every_statement_of_the_table(void **state)
{
	static const char *const keys[] = {"k", "", "*/ DROP TABLE t -- ", "\" or \"", "/*! x */ ; `",
					   "0123456789abcdef"};
	const char *folder = getenv("TEST_DATA");
	char path[300], line[8192];
	unsigned n = 0;

	(void)state;
	snprintf(path, sizeof path, "%s/classify.tsv", folder != NULL ? folder : "tests/data");
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof line, f) != NULL) {
		const char *sql = strrchr(line, '\t');
		if (line[0] == '#' || sql == NULL)
			continue;
		struct slice text = slice_of((const uint8_t *)sql + 1, strcspn(sql + 1, "\n"));
		for (unsigned mode = 0; mode < 32; mode += 1 + n % 5)
			for (unsigned k = 0; k < 2 * sizeof keys / sizeof *keys; k++) {
				struct buf b = with_key(text, keys[k % (sizeof keys / sizeof *keys)]);
				both(buf_slice(&b), mode, k % 3 == 0 ? "" : "app");
				buf_fini(&b);
			}
		n++;
	}
	fclose(f);
	assert_true(n > 300);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(lookups_are_remembered, up, down),
		cmocka_unit_test_setup_teardown(what_reads_otherwise_is_not, up, down),
		cmocka_unit_test_setup_teardown(every_statement_of_the_table, up, down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
