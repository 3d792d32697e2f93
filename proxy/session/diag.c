/* SPDX-License-Identifier: Apache-2.0
 *
 * What the session's last statement left behind for ROW_COUNT(), FOUND_ROWS(), the list of warnings and their counts,
 * wherever it ran: at the primary, at a replica, in the cache, here. The rules were made by asking a MariaDB 10.11
 * after each form of statement; tests/data/equal_state.sql and make diff ask again. Plain questions are answered from
 * here; what needs more goes to the connection that ran the statement, which the session keeps meanwhile (home.c);
 * where that is gone, the numbers are put into the question's text.
 */
#include "session/session.h"

#include <stdio.h>
#include <stdlib.h>

enum { REWRITE_MAX = 1 << 20 };
enum answer { NO, YES, UNKNOWN };

void diag_reset(struct session *s)
{
	uint64_t found = s->diag.n.found_rows; /* not even COM_RESET_CONNECTION changes it */
	bool known = s->diag.found_known;

	s->diag = (struct diag){.n.found_rows = known ? found : 0, .found_known = true, .list_known = true};
}

void diag_command(struct session *s, int64_t row_count)
{
	s->diag.n.row_count = row_count;
	s->diag.knower = NULL;
}

void diag_error(struct session *s)
{
	s->diag.n.row_count = -1;
	s->diag.n.warnings = s->diag.n.errors = 1;
	s->diag.list_known = s->diag.list_lost = true;
	s->diag.list_at = s->diag.knower = NULL;
}

void diag_hit(struct session *s, uint64_t rows)
{
	s->diag = (struct diag){.n = {.row_count = -1, .found_rows = rows}, .found_known = true, .list_known = true};
}

/* --- what a statement leaves ----------------------------------------------------------------------------------------
 */

static bool has(const struct command *c, uint32_t flags)
{
	return (c->stmt->flags & flags) != 0;
}

static bool mentions_select(struct slice text)
{
	for (size_t i = 0; i + 6 <= text.n; i++)
		if ((text.p[i] | 0x20) == 's' && slice_ieq(slice_of(text.p + i, 6), "select"))
			return true;
	return false;
}

/* DELETE FROM t; the form that names tables before FROM sets FOUND_ROWS(). */
static bool one_table_delete(struct slice text)
{
	static const char *const words[] = {"low_priority", "quick", "ignore", "history"};
	size_t i = 0;

	while (i + 6 < text.n && !slice_ieq(slice_of(text.p + i, 6), "delete"))
		i++;
	for (i += 6; i + 4 < text.n; i++) {
		if (slice_ieq(slice_of(text.p + i, 4), "from"))
			return true;
		for (unsigned w = 0; w < sizeof words / sizeof *words; w++)
			if (text.n - i > strlen(words[w]) &&
			    slice_ieq(slice_of(text.p + i, strlen(words[w])), words[w]))
				i += strlen(words[w]);
		if (text.p[i] > ' ')
			return false;
	}
	return false;
}

static enum answer keeps_by_text(const struct command *c)
{
	int counts = sql_counts_rows(c->text, c->text_mode);

	return counts < 0 ? UNKNOWN : counts == 0 ? YES : NO;
}

/* A SELECT that fails while it is resolved keeps the count, one that fails while it runs leaves any. */
static bool failed_while_running(const struct command *c)
{
	static const unsigned codes[] = {ER_LOCK_WAIT_TIMEOUT,    ER_LOCK_DEADLOCK,      ER_SUBQUERY_NO_1_ROW,
					 ER_QUERY_INTERRUPTED,    ER_DATA_OUT_OF_RANGE,  ER_STATEMENT_TIMEOUT,
					 ER_CONNECTION_KILLED};

	for (unsigned i = 0; i < sizeof codes / sizeof *codes; i++)
		if (c->sync_error.code == codes[i])
			return true;
	return c->sent_rows > 0;
}

/* Does FOUND_ROWS() keep what it was? YES, NO: it is c->sent_rows, or UNKNOWN. */
static enum answer keeps_found(const struct command *c)
{
	if (!c->is_statement)
		return YES;
	if (c->stmt->kind == SQL_SELECT && has(c, SQLF_FOUND_UNTOLD) && !has(c, SQLF_MULTI | SQLF_SUBQUERY) &&
	    sql_counts_rows(c->text, c->text_mode) == 0)
		return YES; /* VALUES */
	if (c->stmt->kind == SQL_SELECT && c->failed && !has(c, SQLF_MULTI | SQLF_UNREADABLE))
		return failed_while_running(c) ? UNKNOWN : YES;
	if (has(c, SQLF_MULTI | SQLF_UNREADABLE | SQLF_CALC_FOUND_ROWS | SQLF_FOUND_UNTOLD))
		return UNKNOWN;
	if (c->stmt->kind == SQL_SELECT)
		return NO;
	if (has(c, SQLF_SUBQUERY | SQLF_SET_STATEMENT))
		return UNKNOWN;
	switch (c->stmt->kind) { /* functions and triggers put it back */
	case SQL_DELETE: return one_table_delete(c->text) ? YES : UNKNOWN;
	case SQL_UPDATE: return c->stmt->ntables > 1 ? UNKNOWN : YES;
	case SQL_INSERT:
	case SQL_REPLACE: return mentions_select(c->text) ? UNKNOWN : YES;
	case SQL_SET:
	case SQL_DO: return c->stmt->ntables > 0 ? UNKNOWN : YES;
	case SQL_DDL:
	case SQL_CREATE_TEMP: return mentions_select(c->text) ? UNKNOWN : YES;
	case SQL_SHOW: return c->failed ? YES : keeps_by_text(c);
	case SQL_CALL:
	case SQL_EXECUTE:
	case SQL_COMPOUND:
	case SQL_OTHER: return UNKNOWN;
	default: return YES;
	}
}

/* Does it clear the list of warnings? A statement that uses a table does. */
static enum answer clears_list(const struct command *c)
{
	if (!c->is_statement)
		return NO;
	if (c->stmt->ntables > 0 && c->stmt->kind != SQL_SHOW_DIAG)
		return YES;
	if (has(c, SQLF_MULTI | SQLF_UNREADABLE | SQLF_UNKNOWN_FUNC | SQLF_SUBQUERY | SQLF_SEQUENCE))
		return UNKNOWN;
	switch (c->stmt->kind) {
	case SQL_LOCK:
	case SQL_LOAD:
	case SQL_TRUNCATE:
	case SQL_CREATE_TEMP:
	case SQL_DROP_TEMP: return YES;
	case SQL_DDL:
	case SQL_SHOW:
	case SQL_PREPARE:
	case SQL_CALL:
	case SQL_EXECUTE:
	case SQL_COMPOUND:
	case SQL_HANDLER:
	case SQL_OTHER: return UNKNOWN;
	default: return NO;
	}
}

static bool runs_routines(const struct command *c)
{
	return has(c, SQLF_MULTI | SQLF_UNREADABLE | SQLF_UNKNOWN_FUNC) || c->stmt->kind == SQL_CALL ||
	       c->stmt->kind == SQL_EXECUTE || c->stmt->kind == SQL_COMPOUND || c->stmt->kind == SQL_OTHER;
}

static void list_is(struct diag *d, const struct backend *b, uint32_t warnings, uint32_t errors, bool known)
{
	d->n.warnings = warnings;
	d->n.errors = errors;
	d->list_known = known;
	d->list_at = warnings > 0 || !known ? b : NULL;
	d->list_lost = d->list_at == NULL && warnings > 0;
}

static void note_list(struct diag *d, const struct command *c, const struct backend *b)
{
	if (c->failed) {
		/* An ERR has no count; notes and the warnings of earlier rows may stand beside the error. */
		list_is(d, b, 1, 1, b == NULL || c->sync_failed);
		return;
	}
	if (c->warnings > 0 || has(c, SQLF_MULTI)) { /* the count is of the last one's */
		list_is(d, b, c->warnings, 0, c->is_statement && !runs_routines(c));
		return;
	}
	if (d->n.warnings == 0 && d->list_known)
		return; /* whether it clears an empty list is all the same */
	enum answer clears = clears_list(c);
	if (clears == YES || (clears == UNKNOWN && b != d->list_at))
		list_is(d, NULL, 0, 0, true);
	else if (clears == UNKNOWN)
		list_is(d, b, d->n.warnings, d->n.errors, false);
}

static bool asks_list(const struct command *c)
{
	return c->is_statement && c->stmt->kind == SQL_SHOW_DIAG;
}

void diag_statement_ended(struct session *s)
{
	struct command *c = s->command;
	struct diag *d = &s->diag;
	const struct backend *b = s->current;

	if (c->pings || c->code == COM_STATISTICS)
		return;
	if (c->code == COM_STMT_PREPARE && !c->failed) {
		if (c->stmt->ntables > 0)
			list_is(d, NULL, 0, 0, true);
		return;
	}
	if (asks_list(c) && has(c, SQLF_USER_VAR_SET) && !c->failed)
		return; /* GET DIAGNOSTICS leaves all as it was */
	d->n.row_count = c->failed ? -1 : c->row_count;
	if (asks_list(c) && !c->failed) { /* SHOW WARNINGS and SHOW ERRORS keep FOUND_ROWS(), SHOW COUNT(*) does not */
		struct sql_question q;
		if (sql_question(c->text, c->text_mode, &q) && q.form == SQL_QUESTION_SELECT) {
			d->n.found_rows = 1;
			d->found_known = true;
		}
		d->knower = b == d->knower && !c->cleared ? b : NULL;
		return;
	}
	enum answer keeps = keeps_found(c);
	if (keeps == NO && has(c, SQLF_INTO))
		d->n.found_rows = (uint64_t)(c->row_count > 0 ? c->row_count : 0);
	else if (keeps == NO)
		d->n.found_rows = c->sent_rows;
	if (keeps != YES)
		d->found_known = keeps == NO;
	note_list(d, c, b);
	/* What it kept is the session's only where the statement before ran there, too. */
	d->found_elsewhere = keeps == YES && (d->found_elsewhere || b != d->knower);
	d->knower = c->sync_failed ? NULL : b;
}

/* --- answers ------------------------------------------------------------------------------------------------------ */

static uint64_t asked_value(const struct session *s, enum sql_asked what)
{
	const struct diag *d = &s->diag;

	switch (what) {
	case SQL_ASKED_ROW_COUNT: return (uint64_t)d->n.row_count;
	case SQL_ASKED_FOUND_ROWS: return d->n.found_rows;
	case SQL_ASKED_WARNING_COUNT: return d->n.warnings;
	case SQL_ASKED_ERROR_COUNT: return d->n.errors;
	default: return s->last_insert_id;
	}
}

static bool asks_insert_id(const struct sql_question *q)
{
	for (unsigned i = 0; i < q->n; i++)
		if (q->item[i].what >= SQL_ASKED_INSERT_ID)
			return true;
	return false;
}

static bool asks_only_counts(const struct sql_question *q)
{
	for (unsigned i = 0; i < q->n; i++)
		if (q->item[i].what != SQL_ASKED_WARNING_COUNT && q->item[i].what != SQL_ASKED_ERROR_COUNT)
			return false;
	return true;
}

static bool numbers_known(const struct session *s, const struct sql_question *q)
{
	for (unsigned i = 0; i < q->n; i++) {
		enum sql_asked what = q->item[i].what;
		if ((what == SQL_ASKED_FOUND_ROWS && !s->diag.found_known) ||
		    ((what == SQL_ASKED_WARNING_COUNT || what == SQL_ASKED_ERROR_COUNT) && !s->diag.list_known) ||
		    (what >= SQL_ASKED_INSERT_ID && s->insert_id_dirty))
			return false;
	}
	return true;
}

static void put_column(const struct session *s, struct buf *out, unsigned seq, enum sql_asked what, struct slice name)
{
	static const uint16_t flags[SQL_ASKED_KINDS] = {0x81, 0x81, 0xa0, 0xa0, 0xa1, 0xa0};
	size_t start = packet_begin(out, seq);

	buf_put_lenenc_bytes(out, slice_str("def"));
	for (unsigned i = 0; i < 3; i++)
		buf_put_lenenc(out, 0); /* schema, table, original table */
	buf_put_lenenc_bytes(out, name);
	buf_put_lenenc(out, 0);
	if (s->xcaps & XCAP_EXTENDED_METADATA)
		buf_put_lenenc(out, 0);
	buf_put_u8(out, 0x0c);
	buf_put_u16(out, 63); /* binary */
	buf_put_u32(out, 21);
	buf_put_u8(out, 0x08); /* LONGLONG */
	buf_put_u16(out, flags[what]);
	buf_put_u8(out, 0);
	buf_put_u16(out, 0);
	packet_end(out, start);
}

static void put_value(const struct session *s, struct buf *out, enum sql_asked what, bool binary)
{
	uint64_t v = asked_value(s, what);
	char text[24];

	if (binary) {
		buf_put_u64(out, v);
		return;
	}
	snprintf(text, sizeof text, what == SQL_ASKED_ROW_COUNT ? "%lld" : "%llu", (unsigned long long)v);
	buf_put_lenenc_bytes(out, slice_str(text));
}

static void put_end(const struct session *s, struct buf *out, unsigned seq)
{
	if (s->caps & CAP_DEPRECATE_EOF)
		reply_ok(out, seq, s->caps, 0xfe, &(struct ok_packet){.status = s->status});
	else
		reply_eof(out, seq, 0, s->status);
}

/* The answer is a statement itself. */
static void answer(struct session *s, const struct sql_question *q)
{
	struct command *c = s->command;
	struct buf *out = &s->pw->out;
	bool binary = c->code == COM_STMT_EXECUTE;
	unsigned seq = c->seq;

	buf_clear(out);
	size_t start = packet_begin(out, seq++);
	buf_put_lenenc(out, q->n);
	packet_end(out, start);
	for (unsigned i = 0; i < q->n; i++)
		put_column(s, out, seq++, q->item[i].what, q->item[i].name);
	if (!(s->caps & CAP_DEPRECATE_EOF))
		reply_eof(out, seq++, 0, s->status);
	start = packet_begin(out, seq++);
	if (binary) {
		buf_put_u8(out, 0);
		for (unsigned i = 0; i < (q->n + 9) / 8; i++)
			buf_put_u8(out, 0);
	}
	for (unsigned i = 0; i < q->n; i++)
		put_value(s, out, q->item[i].what, binary);
	packet_end(out, start);
	put_end(s, out, seq);
	s->diag.n.row_count = -1;
	s->diag.n.found_rows = 1;
	s->diag.found_known = true;
	s->diag.knower = NULL;
	stats_routed(s->pw->worker->stats, STATS_NO_SERVER, ROUTE_DIAGNOSTICS);
	if (session_send(s, out->data, out->len) == 0)
		session_idle(s);
}

/* --- the statement with the numbers in it ---------------------------------------------------------------------------
 */

/* Of prepared statements only those whose answer is an OK, which has one form. */
static bool may_rewrite(const struct session *s)
{
	const struct command *c = s->command;
	bool plain = c->code == COM_QUERY ||
		     (c->code == COM_STMT_EXECUTE && c->stmt->nparams == 0 && c->stmt->kind != SQL_SELECT &&
		      !has(c, SQLF_RETURNS_ROWS) && prepared_state(c)->hash == s->want.hash);

	return plain && !has(c, SQLF_MULTI | SQLF_UNREADABLE) && c->text.n <= REWRITE_MAX && s->diag.found_known;
}

static void rewrite(struct session *s)
{
	struct command *c = s->command;
	struct buf text = {0};
	bool get = c->stmt->kind == SQL_SHOW_DIAG;

	if (!may_rewrite(s))
		return;
	bool read = get ? sql_put_diagnostics(c->text, c->text_mode, &s->diag.n, &text)
			: sql_put_numbers(c->text, c->text_mode, &s->diag.n, &text);
	if (read) {
		if (c->code == COM_STMT_EXECUTE)
			prepared_executed(s);
		c->code = COM_QUERY;
		c->ps = NULL;
		buf_clear(&c->request);
		session_put_query(&c->request, (const char *)text.data, text.len);
		c->text = slice_of(c->request.data + PACKET_HEADER + 1, text.len);
		if (!get)
			command_classify(s, s->want.schema);
	}
	if (read && !get)
		c->stmt = &c->parsed;
	buf_fini(&text);
}

/* --- who answers ----------------------------------------------------------------------------------------------------
 */

static struct backend *kept(const struct session *s, const struct backend *b)
{
	return b == NULL         ? NULL
	       : b == s->home    ? s->home
	       : b == s->reader  ? s->reader
	       : b == s->witness ? s->witness
				 : NULL;
}

/* Never another session's numbers. */
static const char elsewhere[] = "its server connection was needed elsewhere";

static bool asks_found(struct slice text)
{
	for (size_t i = 0; i + 10 <= text.n; i++)
		if (slice_ieq(slice_of(text.p + i, 10), "found_rows"))
			return true;
	return false;
}

static bool list_answers(struct session *s)
{
	struct command *c = s->command;
	const struct diag *d = &s->diag;

	c->answered_by = kept(s, d->list_at);
	if (c->answered_by != NULL)
		return false;
	if (d->list_lost || !d->list_known) {
		session_error(
			s, ER_UNKNOWN_ERROR, "HY000",
			"The warnings of the last statement are gone: %s", elsewhere);
		return true;
	}
	c->answered_by = d->found_known ? NULL : kept(s, d->knower);
	c->clear_first = c->answered_by == NULL; /* a connection's list may be another session's */
	return false;
}

/* May the connection that ran the last statement run this one? */
static bool may_ask_knower(const struct session *s, const struct backend *b)
{
	const struct command *c = s->command;
	bool asks = c->stmt->kind == SQL_SELECT || c->stmt->kind == SQL_SHOW_DIAG;

	if (b == NULL)
		return false;
	if (b == s->home)
		return true;
	bool own_tables = c->stmt->ntables > 0 && (s->home != NULL || session_in_transaction(s));
	return asks && !own_tables &&
	       !has(c,
		    SQLF_USER_VAR | SQLF_USER_VAR_SET | SQLF_LOCK_FUNC | SQLF_SEQUENCE | SQLF_INTO | SQLF_UNKNOWN_FUNC);
}

bool diag_answers(struct session *s)
{
	struct command *c = s->command;
	struct sql_question q;

	if (c->code == COM_STMT_PREPARE)
		return false;
	bool question = !has(c, SQLF_MULTI) && sql_question(c->text, c->text_mode, &q);
	if (question && q.form != SQL_QUESTION_SELECT)
		return list_answers(s);
	struct backend *b = s->diag.found_elsewhere && asks_found(c->text) ? NULL : kept(s, s->diag.knower);
	bool in_step = b != NULL && (b->last_insert_id == s->last_insert_id || s->insert_id_dirty);
	if (may_ask_knower(s, b) && (in_step || (question && !asks_insert_id(&q)))) {
		c->answered_by = b;
		return false;
	}
	if (question && numbers_known(s, &q)) {
		answer(s, &q);
		return true;
	}
	if (question && asks_only_counts(&q) && kept(s, s->diag.list_at) != NULL) {
		c->answered_by = kept(s, s->diag.list_at);
		return false;
	}
	if (b != NULL && (b == s->home || (s->home == NULL && !b->read_only)))
		return false; /* it is the primary's, and will run it */
	if (!s->diag.found_known && asks_found(c->text)) {
		session_error(s, ER_UNKNOWN_ERROR, "HY000",
			      "FOUND_ROWS() of the last statement is gone: %s", elsewhere);
		return true;
	}
	rewrite(s);
	return false;
}
