/* SPDX-License-Identifier: Apache-2.0
 *
 * Two readers over the lexer's tokens: one for texts that are a question and nothing else, one that copies a text and
 * puts numbers where the questions stand.
 */
#include "sql/question.h"

#include <inttypes.h>

#include "sql/lex.h"

static const uint8_t *end_of(const struct token *t)
{
	bool quoted = t->type == TOK_STRING || t->type == TOK_QUOTED;

	return t->text.p + t->text.n + (quoted ? 1 : 0);
}

static bool is_word(const struct token *t, const char *word)
{
	return t->type == TOK_WORD && slice_ieq(t->text, word);
}

/* --- one asked value ---------------------------------------------------------------------------------------------- */

static bool function_of(const struct token *t, enum sql_asked *what)
{
	if (t->type != TOK_WORD)
		return false;
	if (t->kw == KW_ROW_COUNT)
		*what = SQL_ASKED_ROW_COUNT;
	else if (t->kw == KW_FOUND_ROWS)
		*what = SQL_ASKED_FOUND_ROWS;
	else if (t->kw == KW_LAST_INSERT_ID)
		*what = SQL_ASKED_INSERT_ID;
	else
		return false;
	return true;
}

static bool variable_of(struct slice name, enum sql_asked *what)
{
	if (slice_ieq(name, "warning_count"))
		*what = SQL_ASKED_WARNING_COUNT;
	else if (slice_ieq(name, "error_count"))
		*what = SQL_ASKED_ERROR_COUNT;
	else if (slice_ieq(name, "last_insert_id") || slice_ieq(name, "identity"))
		*what = SQL_ASKED_INSERT_VAR;
	else
		return false;
	return true;
}

/* Reads a whole value that begins with *t: `row_count ( )`, `@@session.warning_count`. On success *t is the token
 * behind it and *end where it ends; else *lx and *t are as they were. */
static bool take_value(struct lex *lx, struct token *t, enum sql_asked *what, const uint8_t **end)
{
	struct lex at = *lx;
	struct token a, b;

	if (function_of(t, what)) {
		lex_next(&at, &a);
		lex_next(&at, &b);
		if (a.type != '(' || b.type != ')')
			return false;
		*end = end_of(&b);
	} else if (t->type == TOK_SYS_VAR) {
		struct slice name = t->text;
		*end = end_of(t);
		if (slice_ieq(name, "session") || slice_ieq(name, "local")) {
			lex_next(&at, &a);
			lex_next(&at, &b);
			if (a.type != '.' || (b.type != TOK_WORD && b.type != TOK_QUOTED))
				return false;
			name = b.text;
			*end = end_of(&b);
		}
		if (!variable_of(name, what))
			return false;
	} else {
		return false;
	}
	lex_next(&at, t);
	*lx = at;
	return true;
}

/* --- a question and nothing else ---------------------------------------------------------------------------------- */

static bool plain_name(struct slice name)
{
	for (size_t i = 0; i < name.n; i++)
		if (name.p[i] < ' ' || name.p[i] >= 0x7f)
			return false;
	return name.n > 0 && name.n <= 64 && name.p[0] != ' ' && name.p[name.n - 1] != ' ';
}

/* [AS] name; *t is the token behind it in the end. */
static bool take_alias(struct lex *lx, struct token *t, struct slice *name)
{
	bool as = t->kw == KW_AS && t->type == TOK_WORD;

	if (as)
		lex_next(lx, t);
	bool reserved = t->type == TOK_WORD && (kw_table[t->kw].flags & KWF_RESERVED);
	if (t->type == TOK_QUOTED || t->type == TOK_STRING || (t->type == TOK_WORD && !reserved)) {
		if (t->escaped || t->decorated)
			return false;
		*name = t->text;
		lex_next(lx, t);
		return true;
	}
	return !as;
}

static bool at_end(struct lex *lx, struct token *t)
{
	if (t->type == ';')
		lex_next(lx, t);
	return t->type == TOK_END && !lx->bad && !lx->had_exec;
}

static bool select_question(struct lex *lx, struct sql_question *out)
{
	struct token t;

	out->form = SQL_QUESTION_SELECT;
	lex_next(lx, &t);
	for (out->n = 0; out->n < SQL_QUESTION_ITEMS;) {
		const uint8_t *begin = t.at, *end;
		struct slice *name = &out->item[out->n].name;
		if (!take_value(lx, &t, &out->item[out->n].what, &end))
			return false;
		*name = slice_of(begin, (size_t)(end - begin));
		if (!take_alias(lx, &t, name) || !plain_name(*name))
			return false;
		out->n++;
		if (t.type != ',')
			return at_end(lx, &t);
		lex_next(lx, &t);
	}
	return false;
}

/* SHOW WARNINGS [LIMIT ..], SHOW ERRORS [LIMIT ..], SHOW COUNT(*) WARNINGS, SHOW COUNT(*) ERRORS. */
static bool show_question(struct lex *lx, struct sql_question *out)
{
	static const char *const names[] = {"@@session.warning_count", "@@session.error_count"};
	struct token t, skip;

	lex_next(lx, &t);
	if (!is_word(&t, "count")) {
		out->n = 0;
		out->form = is_word(&t, "errors") ? SQL_QUESTION_ERRORS : SQL_QUESTION_WARNINGS;
		return is_word(&t, "errors") || is_word(&t, "warnings");
	}
	for (unsigned i = 0; i < 3; i++)
		lex_next(lx, &skip);
	lex_next(lx, &t);
	bool errors = is_word(&t, "errors");
	if (!errors && !is_word(&t, "warnings"))
		return false;
	out->form = SQL_QUESTION_SELECT;
	out->n = 1;
	out->item[0].what = errors ? SQL_ASKED_ERROR_COUNT : SQL_ASKED_WARNING_COUNT;
	out->item[0].name = slice_str(names[errors]);
	lex_next(lx, &t);
	return at_end(lx, &t);
}

bool sql_question(struct slice text, unsigned text_mode, struct sql_question *out)
{
	struct lex lx;
	struct token t;

	lex_init(&lx, text, text_mode);
	lex_next(&lx, &t);
	if (is_word(&t, "select"))
		return select_question(&lx, out);
	return is_word(&t, "show") && show_question(&lx, out);
}

static bool is_one_of(const struct token *t, const char *const *words)
{
	for (; *words != NULL; words++)
		if (is_word(t, *words))
			return true;
	return false;
}

int sql_counts_rows(struct slice text, unsigned text_mode)
{
	static const char *const modifiers[] = {"full", "extended", "global", "session", "local", "storage", NULL};
	static const char *const counted[] = {"tables",
					      "databases",
					      "schemas",
					      "columns",
					      "fields",
					      "index",
					      "indexes",
					      "keys",
					      "table",
					      "triggers",
					      "events",
					      "character",
					      "charset",
					      "collation",
					      "plugins",
					      "engines",
					      "procedure",
					      "function",
					      "package",
					      "open",
					      "variables",
					      "status",
					      "profile",
					      "client_statistics",
					      "user_statistics",
					      "index_statistics",
					      "table_statistics",
					      NULL};
	static const char *const statements[] = {"select", "insert",  "update",   "delete",     "replace",
						 "with",   "values",  "extended", "partitions", "format",
						 "for",    "analyze", NULL};
	struct lex lx;
	struct token t;

	lex_init(&lx, text, text_mode);
	do
		lex_next(&lx, &t);
	while (t.type == '(');
	if (is_word(&t, "values"))
		return 0;
	bool show = is_word(&t, "show");
	lex_next(&lx, &t);
	if (!show)
		return t.type == '(' || is_one_of(&t, statements) ? -1 : 1;
	while (is_one_of(&t, modifiers))
		lex_next(&lx, &t);
	return is_one_of(&t, counted);
}

bool sql_asks_status(struct slice text, unsigned text_mode)
{
	struct lex lx;
	struct token t;

	lex_init(&lx, text, text_mode);
	lex_next(&lx, &t);
	if (!is_word(&t, "show"))
		return false;
	lex_next(&lx, &t);
	if (is_word(&t, "session") || is_word(&t, "local"))
		lex_next(&lx, &t);
	return is_word(&t, "status");
}

/* --- numbers in their places -------------------------------------------------------------------------------------- */

struct copy {
	struct buf *out;
	const uint8_t *from; /* what is before it is in out */
	unsigned depth;
	bool list;             /* in the outermost SELECT's list of columns */
	bool changed;          /* a number was put into this column */
	const uint8_t *column; /* where it begins */
	struct token last, before;
};

static void copy_to(struct copy *c, const uint8_t *to)
{
	buf_put(c->out, c->from, (size_t)(to - c->from));
	c->from = to;
}

/* A BIGINT as long as the function's: by itself 21, in a calculation what gives the same result's length. */
static void put_number(struct copy *c, enum sql_asked what, const struct sql_numbers *n, bool alone)
{
	int64_t v = what == SQL_ASKED_ROW_COUNT       ? n->row_count
		    : what == SQL_ASKED_FOUND_ROWS    ? (int64_t)n->found_rows
		    : what == SQL_ASKED_WARNING_COUNT ? n->warnings
						      : n->errors;

	buf_printf(c->out, "CAST('%0*" PRId64 "' AS SIGNED)", alone ? 21 : 20, v);
}

static bool is_value(const struct token *t)
{
	return t->type == ')' || t->type == TOK_STRING || t->type == TOK_NUMBER || t->type == TOK_QUOTED ||
	       t->type == TOK_HEX || t->type == TOK_PARAM || t->type == TOK_USER_VAR ||
	       (t->type == TOK_WORD && (!(kw_table[t->kw].flags & KWF_RESERVED) || is_word(t, "end")));
}

static bool has_alias(const struct copy *c)
{
	const struct token *l = &c->last;

	if (c->before.type == TOK_WORD && c->before.kw == KW_AS)
		return true;
	return (l->type == TOK_QUOTED || l->type == TOK_STRING ||
		(l->type == TOK_WORD && !(kw_table[l->kw].flags & KWF_RESERVED) && !is_word(l, "end"))) &&
	       is_value(&c->before);
}

/* A column of the outermost list ends before *t: it keeps the name that it had. */
static void end_column(struct copy *c, const struct token *t)
{
	const uint8_t *end = end_of(&c->last);

	if (c->list && c->changed && !has_alias(c)) {
		copy_to(c, end);
		buf_put_str(c->out, " AS `");
		for (const uint8_t *p = c->column; p < end; p++) {
			if (*p == '`')
				buf_put_u8(c->out, '`');
			buf_put_u8(c->out, *p);
		}
		buf_put_u8(c->out, '`');
	}
	c->changed = false;
	c->column = NULL;
	c->list &= t->type == ',';
}

static bool ends_list(const struct token *t)
{
	static const enum kw words[] = {KW_FROM,  KW_WHERE, KW_LIMIT,     KW_ORDER, KW_GROUP, KW_HAVING,
					KW_UNION, KW_INTO,  KW_PROCEDURE, KW_FOR,   KW_LOCK};

	if (t->type == TOK_END || t->type == ';' || t->type == ',')
		return true;
	for (unsigned i = 0; t->type == TOK_WORD && i < sizeof words / sizeof *words; i++)
		if (t->kw == words[i])
			return true;
	return false;
}

static bool is_modifier(const struct token *t)
{
	static const char *const words[] = {
		"all",           "distinct",         "distinctrow",        "high_priority",
		"straight_join", "sql_small_result", "sql_big_result",     "sql_buffer_result",
		"sql_cache",     "sql_no_cache",     "sql_calc_found_rows"};

	for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
		if (is_word(t, words[i]))
			return true;
	return false;
}

static void note(struct copy *c, const struct token *t)
{
	if (t->type == '(')
		c->depth++;
	else if (t->type == ')' && c->depth > 0)
		c->depth--;
	if (c->list && c->column == NULL && !is_modifier(t))
		c->column = t->at;
	c->before = c->last;
	c->last = *t;
}

/* Behind a value: its column ends, or its alias comes. */
static bool begins_no_operator(const struct token *t)
{
	return ends_list(t) || t->type == TOK_QUOTED || t->type == TOK_STRING ||
	       (t->type == TOK_WORD && (t->kw == KW_AS || !(kw_table[t->kw].flags & KWF_RESERVED)));
}

bool sql_put_numbers(struct slice text, unsigned text_mode, const struct sql_numbers *numbers, struct buf *out)
{
	struct copy c = {.out = out, .from = text.p};
	struct lex lx;
	struct token t;

	lex_init(&lx, text, text_mode);
	lex_next(&lx, &t);
	c.list = is_word(&t, "select");
	if (c.list) {
		c.last = t;
		lex_next(&lx, &t);
	}
	for (;;) {
		enum sql_asked what;
		const uint8_t *end;
		struct token begin = t;
		if (c.depth == 0 && c.column != NULL && ends_list(&t))
			end_column(&c, &t);
		if (t.type == TOK_END)
			break;
		if (take_value(&lx, &t, &what, &end) && what < SQL_ASKED_INSERT_ID) {
			note(&c, &begin);
			c.last = (struct token){.type = ')', .text = slice_of(end, 0), .at = end - 1};
			c.changed = true;
			copy_to(&c, begin.at);
			bool alone = c.depth == 0 && c.list && c.column == begin.at && begins_no_operator(&t);
			put_number(&c, what, numbers, alone);
			c.from = end;
			continue;
		}
		if (t.at == begin.at) { /* nothing was taken */
			if (t.type != ',' || c.depth > 0)
				note(&c, &t);
			lex_next(&lx, &t);
		} else {
			note(&c, &begin);
			c.last = (struct token){.type = ')', .text = slice_of(end, 0), .at = end - 1};
		}
	}
	copy_to(&c, text.p + text.n);
	return !lx.bad && !lx.had_exec;
}

bool sql_put_diagnostics(struct slice text, unsigned text_mode, const struct sql_numbers *numbers, struct buf *out)
{
	struct lex lx;
	struct token t, equals, item;

	lex_init(&lx, text, text_mode);
	lex_next(&lx, &t);
	lex_next(&lx, &t);
	if (is_word(&t, "current"))
		lex_next(&lx, &t);
	if (!is_word(&t, "diagnostics"))
		return false;
	buf_put_str(out, "SET ");
	do {
		lex_next(&lx, &t);
		lex_next(&lx, &equals);
		lex_next(&lx, &item);
		bool rows = is_word(&item, "row_count");
		if (t.type != TOK_USER_VAR || equals.type != '=' || (!rows && !is_word(&item, "number")))
			return false;
		buf_put(out, t.at, (size_t)(equals.at - t.at));
		if (rows)
			buf_printf(out, "=%" PRId64, numbers->row_count);
		else
			buf_printf(out, "=CAST(%u AS UNSIGNED)", numbers->warnings);
		lex_next(&lx, &t);
		if (t.type == ',')
			buf_put_u8(out, ',');
	} while (t.type == ',');
	return at_end(&lx, &t);
}
