/* SPDX-License-Identifier: Apache-2.0
 *
 * Questions about the session's last statement: ROW_COUNT(), FOUND_ROWS(), @@warning_count, @@error_count,
 * LAST_INSERT_ID(). Where such a statement asks for nothing else, the proxy can answer it; where the functions stand in
 * something larger, it can put the numbers in their places. Only called for statements with SQLF_DIAG, or of kind
 * SQL_SHOW_DIAG. Never allocates but for the text that is made. Pure.
 */
#ifndef ST_SQL_QUESTION_H
#define ST_SQL_QUESTION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

/* Of SHOW, DESCRIBE, EXPLAIN and VALUES: is FOUND_ROWS() afterwards the number of rows that were sent (1: those that
 * are made of tables of information_schema), or what it was (0), or neither (-1: EXPLAIN of a statement)? As MariaDB
 * 10.11 does. */
int sql_counts_rows(struct slice text, unsigned text_mode);

/* SHOW [SESSION] STATUS: counters of the connection that it runs on. */
bool sql_asks_status(struct slice text, unsigned text_mode);

enum sql_asked {
	SQL_ASKED_ROW_COUNT,
	SQL_ASKED_FOUND_ROWS,
	SQL_ASKED_WARNING_COUNT,
	SQL_ASKED_ERROR_COUNT,
	SQL_ASKED_INSERT_ID,    /* LAST_INSERT_ID() */
	SQL_ASKED_INSERT_VAR,   /* @@last_insert_id, @@identity: the same number, another column */
	SQL_ASKED_KINDS
};

enum { SQL_QUESTION_ITEMS = 8 };

struct sql_question {
	enum { SQL_QUESTION_SELECT, SQL_QUESTION_WARNINGS, SQL_QUESTION_ERRORS } form; /* the latter: SHOW .., a list */
	unsigned n; /* items of a SELECT, or of SHOW COUNT(*) .. */
	struct {
		enum sql_asked what;
		struct slice name; /* of its column: alias or text as written; in the statement's text, or static */
	} item[SQL_QUESTION_ITEMS];
};

/* Is the whole text such a question? Fills *out. text_mode: enum sql_text_mode. */
bool sql_question(struct slice text, unsigned text_mode, struct sql_question *out);

struct sql_numbers {
	int64_t row_count;
	uint64_t found_rows;
	uint32_t warnings, errors;
};
/* Appends the statement with the numbers in place of ROW_COUNT(), FOUND_ROWS(), @@warning_count and @@error_count;
 * columns of the outermost SELECT keep their names. Returns false when it cannot be read with certainty. */
bool sql_put_numbers(struct slice text, unsigned text_mode, const struct sql_numbers *numbers, struct buf *out);
/* GET DIAGNOSTICS @a = ROW_COUNT, @b = NUMBER as a SET of these variables. Returns false for any other form. */
bool sql_put_diagnostics(struct slice text, unsigned text_mode, const struct sql_numbers *numbers, struct buf *out);

#endif
