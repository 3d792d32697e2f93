/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "mysql/reply.h"
#include "service/admin_session.h"
#include "service/events.h"
#include "service/tables.h"

/* --- Reading words ---------------------------------------------------------------------------------------------- */

static struct slice skip_blanks(struct slice s)
{
	for (;;) {
		if (s.n > 0 && isspace(s.p[0])) {
			s = slice_of(s.p + 1, s.n - 1);
		} else if (s.n >= 4 && memcmp(s.p, "/*", 2) == 0) {
			const uint8_t *end = memmem(s.p + 2, s.n - 2, "*/", 2);
			if (end == NULL)
				return s;
			s = slice_of(end + 2, s.n - (size_t)(end + 2 - s.p));
		} else {
			return s;
		}
	}
}

static bool is_word(uint8_t c)
{
	return isalnum(c) || c == '_' || c == '$' || c == '.' || c == '-';
}

/* Takes the word off *s when it is next. */
static bool take(struct slice *s, const char *word)
{
	struct slice at = skip_blanks(*s);
	size_t n = strlen(word);

	if (at.n < n || !slice_ieq(slice_of(at.p, n), word) || (at.n > n && isalnum(word[0]) && is_word(at.p[n])))
		return false;
	*s = slice_of(at.p + n, at.n - n);
	return true;
}

/* A name, quoted or not; false when there is none or it is longer than the buffer. */
static bool take_name(struct slice *s, char *buf, size_t cap)
{
	struct slice at = skip_blanks(*s);
	size_t n = 0, skip = 0;

	if (at.n > 0 && strchr("`'\"", at.p[0]) != NULL && at.p[0] != 0) {
		const uint8_t *end = memchr(at.p + 1, at.p[0], at.n - 1);
		if (end == NULL)
			return false;
		n = (size_t)(end - at.p) - 1;
		skip = 1;
	} else {
		while (n < at.n && is_word(at.p[n]))
			n++;
	}
	if (n == 0 || n >= cap)
		return false;
	memcpy(buf, at.p + skip, n);
	buf[n] = '\0';
	*s = slice_of(at.p + n + 2 * skip, at.n - n - 2 * skip);
	return true;
}

static bool at_end(struct slice s)
{
	return skip_blanks(s).n == 0;
}

/* --- Answers ---------------------------------------------------------------------------------------------------- */

enum { STATUS = STATUS_AUTOCOMMIT };

static void answer_ok(struct admin_session *s, struct buf *out, const char *info)
{
	const struct ok_packet ok = {.status = STATUS, .info = slice_str(info)};

	reply_ok(out, 1, s->caps, 0x00, &ok);
}

static void syntax_error(struct buf *out, const char *expected)
{
	reply_err(out, 1, ER_PARSE_ERROR, "42000", "Sidetrack admin: expected %s", expected);
}

struct rows {
	struct admin_session *session;
	struct buf *out;
	unsigned seq;
};

static void on_columns(void *arg, const char *const *names, unsigned n)
{
	struct rows *r = arg;

	reply_columns(r->out, &r->seq, r->session->caps, STATUS, names, n);
}

static void on_row(void *arg, const struct slice *values, unsigned n)
{
	struct rows *r = arg;

	reply_row(r->out, &r->seq, values, n);
}

static void answer_select(struct admin_session *s, struct slice sql, struct buf *out)
{
	const struct tables_user who = {s->user, s->schema[0] != '\0' ? s->schema : NULL, s->id};
	struct rows rows = {s, out, 1};
	const struct tables_sink sink = {&rows, on_columns, on_row};
	size_t start = out->len;
	char err[400];

	struct tables *t = tables_open(s->ops, &who);
	int rc = tables_select(t, sql, &sink, err, sizeof err);
	tables_close(t);
	if (rc == 0) {
		reply_rows_end(out, &rows.seq, s->caps, STATUS);
		return;
	}
	out->len = start; /* rows that came before the error */
	if (strncmp(err, "no such table", 13) == 0)
		reply_err(out, 1, 1146, "42S02", "%s", err);
	else if (strncmp(err, "no such column", 14) == 0)
		reply_err(out, 1, 1054, "42S22", "%s", err);
	else
		reply_err(out, 1, ER_PARSE_ERROR, "42000", "%s", err);
}

/* Text of ours followed by text of the client's: safe, because any SELECT it could become is one it may send. */
static void answer_made(struct admin_session *s, const char *head, struct slice rest, struct buf *out)
{
	struct buf sql = {0};

	buf_put_str(&sql, head);
	buf_put_u8(&sql, ' ');
	buf_put(&sql, rest.p, rest.n);
	answer_select(s, buf_slice(&sql), out);
	buf_fini(&sql);
}

/* --- Statements ------------------------------------------------------------------------------------------------- */

static void explain_row(void *arg, const char *name, const char *value)
{
	const struct slice values[2] = {slice_str(name), slice_str(value)};

	on_row(arg, values, 2);
}

static bool is_group(const struct admin_ops *ops, unsigned group, const char *service)
{
	struct config *c = ops->group_config(ops->arg, group);
	bool same = strcmp(c->service, service) == 0;

	config_unref(c);
	return same;
}

static void do_explain(struct admin_session *s, struct slice rest, struct buf *out)
{
	static const char *const names[] = {"name", "value"};
	struct rows rows = {s, out, 1};
	char service[64] = "";
	unsigned group = 0;

	if ((take(&rest, "SERVICE") && !take_name(&rest, service, sizeof service)) || at_end(rest)) {
		syntax_error(out, "EXPLAIN ROUTE [SERVICE <service>] <statement>");
		return;
	}
	while (group < s->ops->groups && !is_group(s->ops, group, service))
		group++;
	if (group == s->ops->groups) {
		reply_err(out, 1, ER_UNKNOWN_ERROR, "HY000", "no service has the name '%s'", service);
		return;
	}
	on_columns(&rows, names, 2);
	while (rest.n > 0 && isspace(rest.p[0])) /* its comments are the statement's own: hints */
		rest = slice_of(rest.p + 1, rest.n - 1);
	s->ops->explain(s->ops->arg, group, rest, s->schema, explain_row, &rows);
	reply_rows_end(out, &rows.seq, s->caps, STATUS);
}

static void drain(struct admin_session *s, struct slice rest, bool drained, struct buf *out)
{
	char name[64], text[300];

	if (!take_name(&rest, name, sizeof name) || !at_end(rest)) {
		syntax_error(out, drained ? "DRAIN <server>" : "UNDRAIN <server>");
	} else if (s->ops->drain(s->ops->arg, name, drained) != 0) {
		reply_err(out, 1, ER_UNKNOWN_ERROR, "HY000",
			  "no server has the name '%s': see SELECT name FROM servers", name);
	} else {
		snprintf(text, sizeof text, "%s by %s", drained ? "drained" : "undrained", s->user);
		events_add("admin", name, text);
		log_info("server %s %s", name, text);
		answer_ok(s, out, "");
	}
}

static void do_drain(struct admin_session *s, struct slice rest, struct buf *out)
{
	drain(s, rest, true, out);
}

static void do_undrain(struct admin_session *s, struct slice rest, struct buf *out)
{
	drain(s, rest, false, out);
}

static void do_flush(struct admin_session *s, struct slice rest, struct buf *out)
{
	char name[64], text[300];

	if (!take_name(&rest, name, sizeof name) || !at_end(rest)) {
		syntax_error(out, "FLUSH CACHE <rule>, or FLUSH CACHE ALL");
	} else if (s->ops->flush(s->ops->arg, strcasecmp(name, "all") == 0 ? NULL : name) != 0) {
		reply_err(out, 1, ER_UNKNOWN_ERROR, "HY000",
			  "no cache rule has the name '%s': see SELECT rule FROM cache", name);
	} else {
		snprintf(text, sizeof text, "cache %s flushed by %s", name, s->user);
		events_add("admin", NULL, text);
		log_info("%s", text);
		answer_ok(s, out, "");
	}
}

static void do_reload(struct admin_session *s, struct slice rest, struct buf *out)
{
	char err[400] = "";

	if (!at_end(rest))
		syntax_error(out, "RELOAD");
	else if (s->ops->reload(s->ops->arg, err, sizeof err) != 0)
		reply_err(out, 1, ER_UNKNOWN_ERROR, "HY000", "not reloaded: %s", err);
	else
		answer_ok(s, out, "");
}

static void answer_kill(struct admin_session *s, uint64_t id, bool query_only, struct buf *out)
{
	char err[400] = "";

	if (s->ops->kill(s->ops->arg, id, query_only, err, sizeof err) != 0)
		reply_err(out, 1, ER_UNKNOWN_ERROR, "HY000", "%s", err);
	else
		answer_ok(s, out, "");
}

static void do_kill(struct admin_session *s, struct slice rest, struct buf *out)
{
	char number[24], *end;
	bool query_only = take(&rest, "QUERY");

	if (!query_only)
		take(&rest, "CONNECTION");
	if (!take_name(&rest, number, sizeof number) || !at_end(rest) || !isdigit((unsigned char)number[0])) {
		syntax_error(out, "KILL [QUERY] <connection id>");
		return;
	}
	uint64_t id = strtoull(number, &end, 10);
	if (*end != '\0')
		syntax_error(out, "KILL [QUERY] <connection id>");
	else
		answer_kill(s, id, query_only, out);
}

static void do_use(struct admin_session *s, struct slice rest, struct buf *out)
{
	char name[65];

	if (!take_name(&rest, name, sizeof name) || !at_end(rest)) {
		syntax_error(out, "USE <schema>");
		return;
	}
	snprintf(s->schema, sizeof s->schema, "%s", name);
	answer_ok(s, out, "");
}

static void do_nothing(struct admin_session *s, struct slice rest, struct buf *out)
{
	(void)rest;
	answer_ok(s, out, "");
}

static void do_describe(struct admin_session *s, struct slice rest, struct buf *out)
{
	char name[64], sql[400];

	if (!take_name(&rest, name, sizeof name) || strpbrk(name, "'`\"") != NULL) {
		syntax_error(out, "the name of a table");
		return;
	}
	/* The count makes it an error where there is no such table. */
	snprintf(sql, sizeof sql,
		 "SELECT name AS Field, type AS Type, 'YES' AS \"Null\", '' AS Key, NULL AS \"Default\", "
		 "'' AS Extra FROM pragma_table_info('%s') WHERE (SELECT count(*) FROM `%s`) >= 0",
		 name, name);
	answer_select(s, slice_str(sql), out);
}

static void do_show(struct admin_session *s, struct slice rest, struct buf *out)
{
	char schema[65];
	const struct slice none = {0};

	while (take(&rest, "FULL") || take(&rest, "GLOBAL") || take(&rest, "SESSION"))
		;
	if (take(&rest, "COLUMNS") || take(&rest, "FIELDS")) {
		if (take(&rest, "FROM") || take(&rest, "IN"))
			do_describe(s, rest, out);
		else
			syntax_error(out, "SHOW COLUMNS FROM <table>");
	} else if (take(&rest, "TABLES")) {
		if (take(&rest, "FROM") || take(&rest, "IN"))
			take_name(&rest, schema, sizeof schema);
		answer_made(s, "SELECT name AS Tables_in_sidetrack FROM sqlite_schema WHERE type = 'table'",
			    slice_str("ORDER BY name"), out);
	} else if (take(&rest, "DATABASES") || take(&rest, "SCHEMAS")) {
		answer_made(s, "SELECT 'sidetrack' AS \"Database\"", none, out);
	} else if (take(&rest, "VARIABLES")) {
		struct slice word = rest;
		bool like = take(&word, "LIKE");
		answer_made(s, like ? "SELECT * FROM variables WHERE Variable_name" : "SELECT * FROM variables", rest,
			    out);
	} else if (take(&rest, "WARNINGS") || take(&rest, "ERRORS")) {
		answer_made(s, "SELECT '' AS Level, 0 AS Code, '' AS Message WHERE 0", none, out);
	} else {
		syntax_error(out, "SHOW TABLES, COLUMNS, DATABASES, VARIABLES or WARNINGS; or a SELECT");
	}
}

static const struct {
	const char *first, *second;
	void (*run)(struct admin_session *s, struct slice rest, struct buf *out);
} statements[] = {
	{"EXPLAIN", "ROUTE", do_explain}, {"DRAIN", NULL, do_drain},       {"UNDRAIN", NULL, do_undrain},
	{"FLUSH", "CACHE", do_flush},     {"RELOAD", NULL, do_reload},     {"KILL", NULL, do_kill},
	{"SHOW", NULL, do_show},          {"DESCRIBE", NULL, do_describe}, {"DESC", NULL, do_describe},
	{"USE", NULL, do_use},
	/* what clients and their libraries send without being asked to */
	{"SET", NULL, do_nothing},        {"BEGIN", NULL, do_nothing},     {"START", "TRANSACTION", do_nothing},
	{"COMMIT", NULL, do_nothing},     {"ROLLBACK", NULL, do_nothing},
};

static struct slice trim_end(struct slice s)
{
	while (s.n > 0 && (isspace(s.p[s.n - 1]) || s.p[s.n - 1] == ';'))
		s.n--;
	return s;
}

void admin_statement(struct admin_session *s, struct slice sql, struct buf *out)
{
	static const char *const selects[] = {"SELECT", "WITH", "VALUES", "("};
	struct slice rest;

	sql = trim_end(skip_blanks(sql));
	if (sql.n == 0) { /* comments only, as dumps have them */
		answer_ok(s, out, "");
		return;
	}
	for (unsigned i = 0; i < sizeof selects / sizeof *selects; i++) {
		rest = sql;
		if (take(&rest, selects[i])) {
			answer_select(s, sql, out);
			return;
		}
	}
	for (unsigned i = 0; i < sizeof statements / sizeof *statements; i++) {
		rest = sql;
		if (take(&rest, statements[i].first) &&
		    (statements[i].second == NULL || take(&rest, statements[i].second))) {
			statements[i].run(s, rest, out);
			return;
		}
	}
	syntax_error(out, "SELECT, EXPLAIN ROUTE, DRAIN, UNDRAIN, FLUSH CACHE, RELOAD, KILL or SHOW TABLES");
}

/* --- Commands --------------------------------------------------------------------------------------------------- */

static void answer_statistics(struct buf *out)
{
	size_t start = packet_begin(out, 1);

	buf_put_str(out, "Sidetrack admin port");
	packet_end(out, start);
}

bool admin_command(struct admin_session *s, struct slice payload, struct buf *out)
{
	struct reader r = reader_of(payload);
	unsigned command = rd_u8(&r);
	struct slice rest = rd_rest(&r);

	switch (command) {
	case COM_QUIT:
		return false;
	case COM_QUERY:
		admin_statement(s, rest, out);
		break;
	case COM_INIT_DB:
		snprintf(s->schema, sizeof s->schema, "%.*s", (int)(rest.n < 64 ? rest.n : 64), (const char *)rest.p);
		answer_ok(s, out, "");
		break;
	case COM_PING:
	case COM_RESET_CONNECTION:
		answer_ok(s, out, "");
		break;
	case COM_FIELD_LIST: /* completion in the command line client: no fields is an answer it takes */
	case COM_SET_OPTION:
		reply_eof(out, 1, 0, STATUS);
		break;
	case COM_STATISTICS:
		answer_statistics(out);
		break;
	case COM_PROCESS_KILL:
		answer_kill(s, rest.n >= 4 ? get_u32(rest.p) : 0, false, out);
		break;
	case COM_STMT_PREPARE:
		reply_err(out, 1, 1295, "HY000",
			  "the admin port has no prepared statements: send the text (emulate prepares)");
		break;
	case COM_STMT_CLOSE: /* has no answer */
		break;
	default:
		reply_err(out, 1, ER_UNKNOWN_COM, "08S01", "the admin port does not know this command");
	}
	return true;
}
