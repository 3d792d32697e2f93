/* SPDX-License-Identifier: Apache-2.0 */
#include "pair.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "data.h"
#include "expected.h"
#include "params.h"

/* Clients as there are: what they negotiate, and their character set. */
static const struct kind {
	uint32_t caps;
	uint16_t collation;
} kinds[] = {
	{CAP_DEPRECATE_EOF | CAP_SESSION_TRACK | CAP_MULTI_STATEMENTS, 45}, /* libmariadb; utf8mb4_general_ci */
	{0, 45},                                                            /* mysqlnd */
	{CAP_DEPRECATE_EOF | CAP_FOUND_ROWS | CAP_MULTI_STATEMENTS, 224},   /* JDBC; utf8mb4_unicode_ci */
	{CAP_MULTI_STATEMENTS, 8},                                          /* an old one; latin1_swedish_ci */
};

static void fail(struct pair *p, const char *what, const struct answer *a)
{
	snprintf(p->why, sizeof p->why, "%s: %.*s", what, (int)(a->text.len < 3000 ? a->text.len : 3000),
		 a->text.data != NULL ? (char *)a->text.data : "");
}

static uint16_t port_of(const struct pair *p, unsigned side)
{
	return p->place.port[side];
}

static void account_name(const struct pair *p, char name[16])
{
	snprintf(name, 16, "u%03u", p->account % ACCOUNTS);
}

/* --- ending a session, and seeing that it has ended --- */

/* What a session that has ended may still hold for a moment: rows, tables, locks. */
static const char held[] =
	"SELECT IS_FREE_LOCK('l1'), IS_FREE_LOCK('l2'), IS_FREE_LOCK('l3');"
	"SELECT COUNT(*) FROM d.t1 FOR UPDATE SKIP LOCKED;"
	"SELECT COUNT(*) FROM d.t2 FOR UPDATE SKIP LOCKED;"
	"SELECT COUNT(*) FROM d.u1 FOR UPDATE SKIP LOCKED;"
	"SELECT COUNT(*) FROM d.g1 FOR UPDATE SKIP LOCKED;"
	"SELECT COUNT(*) FROM d.log1 FOR UPDATE SKIP LOCKED;"
	"SELECT COUNT(*) FROM d.tr1 FOR UPDATE SKIP LOCKED;"
	"SELECT COUNT(*) FROM d.tok FOR UPDATE SKIP LOCKED;"
	"SELECT COUNT(*) FROM d.sess FOR UPDATE SKIP LOCKED;"
	"SELECT COUNT(*) FROM d.m1 FOR UPDATE;"
	"SELECT COUNT(*) FROM d.a1 FOR UPDATE;";

/* A server cleans up behind a client that has gone when it sees so: here both sides are waited for. The proxied side
 * counts as done when as much is free there as directly; half a second is a lot: if it holds on to something then that
 * will show. */
static void settle(struct pair *p, uint32_t thread_id)
{
	char sql[160];

	snprintf(sql, sizeof sql, "SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = %u", thread_id);
	for (unsigned i = 0; i < 5000 && wire_query(&p->root[DIRECT], sql, &p->aside[DIRECT]) &&
			     p->aside[DIRECT].rows > 0; i++)
		usleep(100);
	wire_query(&p->root[DIRECT], held, &p->aside[DIRECT]);
	for (unsigned i = 0; i < 500 && !p->differs; i++) {
		wire_query(&p->root[PROXIED], held, &p->aside[PROXIED]);
		if (slice_eq(buf_slice(&p->aside[DIRECT].text), buf_slice(&p->aside[PROXIED].text)))
			break;
		usleep(1000);
	}
}

static void forget_statements(struct session *s)
{
	for (unsigned i = 0; i < STATEMENTS; i++)
		s->params[i] = UINT_MAX;
}

static void end_session(struct pair *p, struct session *s, bool quit)
{
	uint32_t thread_id = s->wire[DIRECT].thread_id;

	if (!s->open)
		return;
	for (unsigned side = 0; side < SIDES; side++)
		wire_close(&s->wire[side], quit);
	s->open = s->late = s->selected = s->was_reset = false;
	forget_statements(s);
	if (p->locked_by == (unsigned)(s - p->session))
		p->locked_by = 0;
	settle(p, thread_id);
}

void pair_end_sessions(struct pair *p)
{
	for (unsigned i = 0; i < SESSIONS; i++) {
		end_session(p, &p->session[i], true);
		p->session[i].was_told = false;
	}
}

/* --- comparing --- */

enum outcome pair_compare(struct pair *p, bool late)
{
	p->statements++;
	bool equal = expected_equal(buf_slice(&p->answer[DIRECT].text), buf_slice(&p->answer[PROXIED].text), late);
	p->differs |= !equal;
	return equal ? SAME : DIFFERENT;
}

static enum outcome read_both(struct pair *p, struct session *s, enum result_shape shape)
{
	for (unsigned side = 0; side < SIDES; side++)
		wire_read(&s->wire[side], shape, &p->answer[side]);
	s->late |= p->answer[DIRECT].error;
	enum outcome outcome = pair_compare(p, s->late);
	if (p->answer[DIRECT].lost || p->answer[PROXIED].lost)
		end_session(p, s, false);
	return outcome;
}

static enum outcome command(struct pair *p, struct session *s, enum com com, struct slice body, enum result_shape shape)
{
	for (unsigned side = 0; side < SIDES; side++)
		wire_send(&s->wire[side], com, body);
	return read_both(p, s, shape);
}

/* --- steps --- */

/* A login's OK tells of the warnings of whoever had the server's thread before. */
static void hide_warnings(struct answer *a)
{
	static const char name[] = " warnings=";
	uint8_t *found = memmem(a->text.data, a->text.len, name, strlen(name));

	if (found != NULL && found[strlen(name) + 1] == ' ')
		found[strlen(name)] = '#';
}

static enum outcome open_session(struct pair *p, struct session *s)
{
	char user[16];
	const struct kind *k;

	if (!s->was_told) {
		s->kind = 0;
		snprintf(s->db, sizeof s->db, "d");
		s->was_told = true;
	}
	account_name(p, user);
	k = &kinds[s->kind % (sizeof kinds / sizeof *kinds)];
	forget_statements(s);
	for (unsigned side = 0; side < SIDES; side++) {
		struct wire_account to = {.host = "127.0.0.1", .port = port_of(p, side), .user = user,
					  .password = "lab-diff", .db = strcmp(s->db, "-") == 0 ? NULL : s->db,
					  .caps = k->caps, .collation = k->collation};
		if (wire_open(&s->wire[side], &to, &p->answer[side]))
			hide_warnings(&p->answer[side]);
	}
	enum outcome outcome = pair_compare(p, s->late);
	s->open = s->wire[DIRECT].fd >= 0 && s->wire[PROXIED].fd >= 0;
	if (!s->open)
		for (unsigned side = 0; side < SIDES; side++)
			wire_close(&s->wire[side], false);
	return outcome;
}

static enum outcome connect_step(struct pair *p, struct session *s, const struct step *step)
{
	end_session(p, s, true);
	s->kind = step->number;
	s->was_told = true;
	snprintf(s->db, sizeof s->db, "%s", step->text);
	return open_session(p, s);
}

static enum outcome change_user(struct pair *p, struct session *s, const struct step *step)
{
	char user[16];
	bool good = strncmp(step->text, "good ", 5) == 0;
	const char *db = strchr(step->text, ' ') != NULL ? strchr(step->text, ' ') + 1 : "-";
	const struct kind *k = &kinds[s->kind % (sizeof kinds / sizeof *kinds)];

	account_name(p, user);
	struct wire_account to = {.user = user, .password = good ? "lab-diff" : "wrong", .collation = k->collation,
				  .db = strcmp(db, "-") == 0 ? NULL : db};
	for (unsigned side = 0; side < SIDES; side++)
		wire_send_change_user(&s->wire[side], &to);
	for (unsigned side = 0; side < SIDES; side++)
		wire_read_change_user(&s->wire[side], &to, &p->answer[side]);
	enum outcome outcome = pair_compare(p, s->late);
	if (!p->answer[DIRECT].error)
		forget_statements(s);
	if (p->answer[DIRECT].lost || p->answer[PROXIED].lost)
		end_session(p, s, false);
	return outcome;
}

static bool asks(const char *sql)
{
	static const char *const words[] = {"found_rows(", "row_count(", "warning", "errors", "_count", "diagnostics"};
	bool does = false;

	for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
		does |= strcasestr(sql, words[i]) != NULL;
	return does;
}

/* Before a session's first SELECT of a table, diagnostics tell of whoever had the server's thread before (MariaDB keeps
 * threads): they are not asked then. */
static bool asks_nobody(const struct session *s, const struct step *step)
{
	if (step->kind == STEP_EXECUTE)
		return s->asks[step->number] && !s->selected;
	if (step->kind == STEP_QUERY && s->was_reset && strncasecmp(step->text, "SET CHAR", 8) == 0)
		return true; /* it looks at the schema's character set, README.md */
	return step->kind == STEP_QUERY && !s->selected && asks(step->text);
}

static enum outcome prepare(struct pair *p, struct session *s, const struct step *step)
{
	s->asks[step->number] = asks(step->text);
	s->late |= strcasestr(step->text, "SET STATEMENT") != NULL;
	enum outcome outcome = command(p, s, COM_STMT_PREPARE, slice_str(step->text), RESULT_SHAPE_PREPARE);

	if (outcome == SAME && s->open) {
		s->params[step->number] = p->answer[DIRECT].error ? UINT_MAX : p->answer[DIRECT].params;
		for (unsigned side = 0; side < SIDES; side++)
			s->statement[side][step->number] = p->answer[side].statement;
	}
	return outcome;
}

/* Commands that begin with a statement's id; without an answer: nothing to compare. */
static enum outcome of_statement(struct pair *p, struct session *s, const struct step *step, enum com com,
				 bool answered)
{
	if (s->params[step->number] == UINT_MAX)
		return SKIPPED;
	for (unsigned side = 0; side < SIDES; side++) {
		struct buf body = {0};
		buf_put_u32(&body, s->statement[side][step->number]);
		if (com == COM_STMT_EXECUTE)
			params_put(&body, step->text, s->params[step->number]);
		if (com == COM_STMT_SEND_LONG_DATA) {
			buf_put_u16(&body, step->part);
			buf_put_str(&body, step->text);
		}
		wire_send(&s->wire[side], com, buf_slice(&body));
		buf_fini(&body);
	}
	if (com == COM_STMT_CLOSE)
		s->params[step->number] = UINT_MAX;
	return answered ? read_both(p, s, RESULT_SHAPE_QUERY) : SAME;
}

static enum outcome vars(struct pair *p, struct session *s)
{
	expected_rows_are_variables(true);
	enum outcome outcome = command(p, s, COM_QUERY, slice_str("SHOW SESSION VARIABLES"), RESULT_SHAPE_QUERY);
	expected_rows_are_variables(false);
	return outcome;
}

static enum outcome fields(struct pair *p, struct session *s, const char *table)
{
	return command(p, s, COM_FIELD_LIST, slice_of(table, strlen(table) + 1), RESULT_SHAPE_FIELDS);
}

static enum outcome set_option(struct pair *p, struct session *s, unsigned option)
{
	uint8_t body[2] = {(uint8_t)option, 0};

	return command(p, s, COM_SET_OPTION, slice_of(body, 2), RESULT_SHAPE_QUERY);
}

static enum outcome query(struct pair *p, struct session *s, const char *sql)
{
	unsigned number = (unsigned)(s - p->session);

	if (text_defines(sql))
		p->defined = false;
	s->late |= strcasestr(sql, "SET STATEMENT") != NULL;
	enum outcome outcome = command(p, s, COM_QUERY, slice_str(sql), RESULT_SHAPE_QUERY);
	if (text_locks_tables(sql) && !p->answer[DIRECT].error)
		p->locked_by = number;
	else if (p->locked_by == number && text_unlocks_tables(sql))
		p->locked_by = 0;
	return outcome;
}

/* The role ends with it, through the proxy: README.md. */
static enum outcome reset_connection(struct pair *p, struct session *s)
{
	forget_statements(s);
	s->was_reset = true;
	enum outcome outcome = command(p, s, COM_RESET_CONNECTION, slice_of("", 0), RESULT_SHAPE_QUERY);
	if (outcome != SAME || !s->open || p->answer[DIRECT].error)
		return outcome;
	return query(p, s, "SET ROLE NONE");
}

static enum outcome run(struct pair *p, struct session *s, const struct step *step)
{
	switch (step->kind) {
	case STEP_QUERY: return query(p, s, step->text);
	case STEP_PREPARE: return prepare(p, s, step);
	case STEP_EXECUTE: return of_statement(p, s, step, COM_STMT_EXECUTE, true);
	case STEP_LONG: return of_statement(p, s, step, COM_STMT_SEND_LONG_DATA, false);
	case STEP_RESET: return of_statement(p, s, step, COM_STMT_RESET, true);
	case STEP_CLOSE: return of_statement(p, s, step, COM_STMT_CLOSE, false);
	case STEP_INIT_DB: return command(p, s, COM_INIT_DB, slice_str(step->text), RESULT_SHAPE_QUERY);
	case STEP_PING: return command(p, s, COM_PING, slice_of("", 0), RESULT_SHAPE_QUERY);
	case STEP_RESET_CONNECTION: return reset_connection(p, s);
	case STEP_SET_OPTION: return set_option(p, s, step->number);
	case STEP_FIELDS: return fields(p, s, step->text);
	case STEP_CHANGE_USER: return change_user(p, s, step);
	case STEP_VARS: return vars(p, s);
	default: return SKIPPED;
	}
}

/* A definition cannot be changed while a transaction holds on to it, and a locked table cannot be read by others; a
 * read that the proxy gave to a replica holds nothing at the primary, and is not held up there. That is what a split
 * is, so neither is compared. */
static bool kept_apart(const struct pair *p, const struct step *step)
{
	bool locks = step->kind == STEP_QUERY && text_needs_table_alone(step->text);

	if (p->locked_by != 0 && p->locked_by != step->session)
		return true;
	for (unsigned i = 1; locks && i < SESSIONS; i++)
		if (i != step->session && p->session[i].open && p->session[i].in_transaction)
			return true;
	return false;
}

enum outcome pair_step(struct pair *p, const char *line)
{
	struct step step;

	if (!step_parse(line, &step)) {
		snprintf(p->why, sizeof p->why, "not a line of a script: %s", line);
		return BROKEN;
	}
	struct session *s = &p->session[step.session];
	if (step.kind == STEP_DATA)
		return data_compare(p);
	if (step.kind == STEP_REPLICAS)
		return data_compare_replicas(p);
	if (kept_apart(p, &step))
		return SKIPPED;
	if (step.kind == STEP_QUIT || step.kind == STEP_ABORT) {
		end_session(p, s, step.kind == STEP_QUIT);
		return SAME;
	}
	if (step.kind == STEP_CONNECT)
		return connect_step(p, s, &step);
	if (!s->open) {
		enum outcome outcome = open_session(p, s);
		if (outcome != SAME || !s->open)
			return outcome == SAME ? SKIPPED : outcome;
	}
	if (p->locked_by == step.session && step.kind >= STEP_RESET_CONNECTION && step.kind <= STEP_CHANGE_USER)
		p->locked_by = 0;
	if (asks_nobody(s, &step))
		return SKIPPED;
	if (p->catch_up)
		data_catch_up(p);
	enum outcome outcome = run(p, s, &step);
	s->selected |= step.kind == STEP_QUERY && strncmp(step.text, "SELECT ", 7) == 0 &&
		       strstr(step.text, " FROM ") != NULL && p->answer[DIRECT].rows > 0;
	if (outcome == SAME && !p->answer[DIRECT].error)
		s->in_transaction = (p->answer[DIRECT].status & STATUS_IN_TRANS) != 0;
	return outcome;
}

/* --- opening --- */

static bool open_root(struct pair *p, struct wire *w, const char *socket)
{
	struct wire_account root = {.host = socket, .user = "root", .password = "lab-root", .collation = 45,
				    .caps = CAP_DEPRECATE_EOF | CAP_MULTI_STATEMENTS};

	if (!wire_open(w, &root, &p->answer[0]) ||
	    !wire_query(w, "SET lock_wait_timeout = 0, innodb_lock_wait_timeout = 0", &p->answer[0])) {
		fail(p, socket, &p->answer[0]);
		return false;
	}
	return true;
}

static bool open_admin(struct pair *p)
{
	struct wire_account admin = {.host = "127.0.0.1", .port = p->place.admin_port, .user = "admin",
				     .password = "lab-admin", .collation = 45, .caps = CAP_DEPRECATE_EOF};

	p->admin.fd = -1;
	if (p->place.admin_port == 0 || wire_open(&p->admin, &admin, &p->answer[0]))
		return true;
	fail(p, "the admin port", &p->answer[0]);
	return false;
}

bool pair_open(struct pair *p)
{
	for (unsigned i = 0; i < SESSIONS; i++)
		for (unsigned side = 0; side < SIDES; side++)
			p->session[i].wire[side].fd = -1;
	for (unsigned side = 0; side < SIDES; side++) {
		struct wire_account keeper = {.host = "127.0.0.1", .port = port_of(p, side), .user = "keeper",
					      .password = "lab-diff", .collation = 45, .caps = CAP_DEPRECATE_EOF};
		if (!open_root(p, &p->root[side], p->place.root[side]))
			return false;
		if (!wire_open(&p->keeper[side], &keeper, &p->answer[side])) {
			fail(p, "the keeper of the data", &p->answer[side]);
			return false;
		}
	}
	for (unsigned i = 0; i < p->place.replicas; i++)
		if (!open_root(p, &p->watch[i], p->place.replica[i]))
			return false;
	return open_admin(p) && data_load(p);
}

bool pair_fresh(struct pair *p, bool all)
{
	pair_end_sessions(p);
	p->account++;
	p->locked_by = 0;
	bool good = data_reset(p, all || !p->defined);
	p->differs = false;
	return good;
}

static uint64_t routed_reads(struct pair *p)
{
	struct answer *a = &p->answer[0];

	if (!wire_query(&p->admin, "SELECT SUM(count) FROM routes WHERE reason = 'read'", a))
		return 0;
	buf_put_u8(&a->text, 0);
	const char *row = strstr((char *)a->text.data, "row\t");
	return row != NULL ? strtoull(row + 4, NULL, 10) : 0;
}

void pair_wait_routed(struct pair *p)
{
	uint64_t before = p->admin.fd >= 0 ? routed_reads(p) : 0;

	for (unsigned i = 0; i < 150 && p->admin.fd >= 0; i++) {
		wire_query(&p->keeper[PROXIED], "SELECT d.f_add(id) FROM d.t1 WHERE id = 0", &p->answer[0]);
		if (routed_reads(p) > before)
			return;
		usleep(20000);
	}
}
