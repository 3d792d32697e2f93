/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "sql/classify.h"
#include "sql/question.h"

/* What is asked, as letters: r, f, w, e, i, v; then the columns' names. */
static const struct {
	const char *text, *asked, *names;
} questions[] = {
	{"SELECT ROW_COUNT()", "r", "ROW_COUNT()"},
	{"select row_count ( ) ;", "r", "row_count ( )"},
	{"SELECT FOUND_ROWS() AS n, ROW_COUNT() `of rows`", "fr", "n|of rows"},
	{"SELECT @@warning_count, @@SESSION.error_count e, @@local.warning_count 'w'", "wew", "@@warning_count|e|w"},
	{"/* why */ SELECT /* x */ LAST_INSERT_ID(), @@identity", "iv", "LAST_INSERT_ID()|@@identity"},
	{"SHOW COUNT(*) WARNINGS", "w", "@@session.warning_count"},
	{"SHOW COUNT(*) ERRORS;", "e", "@@session.error_count"},
	{"SHOW WARNINGS", "W", ""},
	{"SHOW ERRORS LIMIT 1", "E", ""},
	{"SELECT ROW_COUNT() + 1", NULL, NULL},
	{"SELECT ROW_COUNT() FROM t", NULL, NULL},
	{"SELECT LAST_INSERT_ID(5)", NULL, NULL},
	{"SELECT @@global.warning_count", NULL, NULL},
	{"SELECT ROW_COUNT(); SELECT 1", NULL, NULL},
	{"SELECT ROW_COUNT() AS", NULL, NULL},
	{"SELECT ROW_COUNT() /*! , 1 */", NULL, NULL},
	{"SELECT ROW_COUNT(), 1", NULL, NULL},
	{"SELECT 'ROW_COUNT()'", NULL, NULL},
	{"GET DIAGNOSTICS @a = ROW_COUNT", NULL, NULL},
	{"", NULL, NULL},
};

static void test_questions(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof questions / sizeof *questions; i++) {
		struct sql_question q;
		char asked[16] = "", names[256] = "";
		bool is = sql_question(slice_str(questions[i].text), 0, &q);
		if (!is && questions[i].asked != NULL)
			fail_msg("%s: not taken for a question", questions[i].text);
		if (!is)
			continue;
		if (questions[i].asked == NULL)
			fail_msg("%s: taken for a question", questions[i].text);
		if (q.form == SQL_QUESTION_WARNINGS)
			strcpy(asked, "W");
		else if (q.form == SQL_QUESTION_ERRORS)
			strcpy(asked, "E");
		for (unsigned k = 0; k < q.n && q.form == SQL_QUESTION_SELECT; k++) {
			size_t n = strlen(names);
			asked[k] = "rfweiv"[q.item[k].what];
			asked[k + 1] = 0;
			snprintf(names + n, sizeof names - n, "%s%.*s", k > 0 ? "|" : "", (int)q.item[k].name.n,
				 (const char *)q.item[k].name.p);
		}
		assert_string_equal(asked, questions[i].asked);
		assert_string_equal(names, questions[i].names);
	}
}

static const struct {
	const char *text, *made; /* NULL: as it is */
} texts[] = {
	{"SELECT ROW_COUNT() + 1", "SELECT CAST('-0000000000000000001' AS SIGNED) + 1 AS `ROW_COUNT() + 1`"},
	{"SELECT a, IF(FOUND_ROWS() > 2, 'x', 'y') AS z FROM t",
	 "SELECT a, IF(CAST('00000000000000000007' AS SIGNED) > 2, 'x', 'y') AS z FROM t"},
	{"SELECT DISTINCT FOUND_ROWS() n, @@warning_count * 2 FROM t WHERE a = ROW_COUNT() ORDER BY 1",
	 "SELECT DISTINCT CAST('000000000000000000007' AS SIGNED) n, CAST('00000000000000000003' AS SIGNED) * 2 AS "
	 "`@@warning_count * 2` FROM t WHERE a = "
	 "CAST('-0000000000000000001' AS SIGNED) ORDER BY 1"},
	{"INSERT INTO t VALUES (ROW_COUNT(), 'ROW_COUNT()', @@session.error_count)",
	 "INSERT INTO t VALUES (CAST('-0000000000000000001' AS SIGNED), 'ROW_COUNT()', CAST('00000000000000000002' "
	 "AS SIGNED))"},
	{"SELECT CASE WHEN ROW_COUNT() THEN 1 END",
	 "SELECT CASE WHEN CAST('-0000000000000000001' AS SIGNED) THEN 1 END AS `CASE WHEN "
	 "ROW_COUNT() THEN 1 END`"},
	{"SELECT (SELECT FOUND_ROWS()) x", "SELECT (SELECT CAST('00000000000000000007' AS SIGNED)) x"},
	{"SELECT LAST_INSERT_ID(), ROW_COUNT()",
	 "SELECT LAST_INSERT_ID(), CAST('-00000000000000000001' AS SIGNED) AS `ROW_COUNT()`"},
	{"SELECT `a``b` + ROW_COUNT()",
	 "SELECT `a``b` + CAST('-0000000000000000001' AS SIGNED) AS ```a````b`` + ROW_COUNT()`"},
	{"UPDATE t SET a = 1", "UPDATE t SET a = 1"},
};

static void test_numbers(void **state)
{
	const struct sql_numbers n = {.row_count = -1, .found_rows = 7, .warnings = 3, .errors = 2};

	(void)state;
	for (unsigned i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct buf out = {0};
		assert_true(sql_put_numbers(slice_str(texts[i].text), 0, &n, &out));
		buf_put_u8(&out, 0);
		assert_string_equal((char *)out.data, texts[i].made);
		buf_fini(&out);
	}
	struct buf out = {0};
	assert_false(sql_put_numbers(slice_str("SELECT ROW_COUNT() /*! + 1 */"), 0, &n, &out));
	assert_false(sql_put_numbers(slice_str("SELECT ROW_COUNT(), 'open"), 0, &n, &out));
	buf_fini(&out);
}

static void test_diagnostics(void **state)
{
	const struct sql_numbers n = {.row_count = 4, .warnings = 3};
	struct buf out = {0};

	(void)state;
	assert_true(sql_put_diagnostics(slice_str("GET CURRENT DIAGNOSTICS @a = ROW_COUNT, @`b c` = number;"), 0, &n,
					&out));
	buf_put_u8(&out, 0);
	assert_string_equal((char *)out.data, "SET @a =4,@`b c` =CAST(3 AS UNSIGNED)");
	buf_clear(&out);
	assert_false(sql_put_diagnostics(slice_str("GET DIAGNOSTICS CONDITION 1 @a = MESSAGE_TEXT"), 0, &n, &out));
	assert_false(sql_put_diagnostics(slice_str("GET STACKED DIAGNOSTICS @a = NUMBER"), 0, &n, &out));
	buf_fini(&out);
}

static void test_rows_counted(void **state)
{
	static const struct {
		const char *text;
		int counts;
	} shows[] = {{"SHOW TABLES", 1},
		     {"SHOW FULL COLUMNS FROM t", 1},
		     {"SHOW SESSION STATUS", 1},
		     {"SHOW CREATE TABLE t", 0},
		     {"SHOW PROCESSLIST", 0},
		     {"SHOW GRANTS", 0},
		     {"DESCRIBE t", 1},
		     {"EXPLAIN SELECT 1", -1},
		     {"DESC FORMAT=JSON SELECT 1", -1},
		     {"VALUES (1)", 0},
		     {"(VALUES (1))", 0},
		     {"SHOW ENGINE INNODB STATUS", 0}};

	(void)state;
	for (unsigned i = 0; i < sizeof shows / sizeof *shows; i++)
		assert_int_equal(sql_counts_rows(slice_str(shows[i].text), 0), shows[i].counts);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_questions),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_diagnostics),
		cmocka_unit_test(test_rows_counted),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
