/* SPDX-License-Identifier: Apache-2.0
 *
 * What each protocol command is: a statement to classify, something that is answered here, or something that goes to
 * the primary as it is. One row a command.
 */
#include "session/session.h"

#include <stdlib.h>

struct slice command_payload(const struct command *c)
{
	return slice_of(c->request.data + PACKET_HEADER, c->request.len - PACKET_HEADER);
}

void command_put(const struct command *c, struct buf *out)
{
	size_t start = out->len;

	buf_put(out, c->request.data, c->request.len);
	packets_end(out, start, 0);
}

size_t command_sent_size(const struct command *c)
{
	const size_t state = 65536; /* and headers; what is longer is grown for */
	size_t n = c->request.len + (c->ps != NULL ? prepared_size(c) : 0);

	return n + (n / PACKET_MAX + 1) * PACKET_HEADER + state;
}

void command_no_memory(struct session *s)
{
	struct backend_error e = {.code = ER_OUT_OF_RESOURCES, .sqlstate = "HY001", .text = "Out of memory"};

	if (session_keeps(s, s->current)) {
		s->current = NULL; /* nothing was sent: it is kept as it is */
	} else if (s->current != NULL) {
		struct backend *b = home_detach(s);
		backend_put(&b);
	}
	settle_refused(s, &e);
}

void command_ok(struct session *s)
{
	struct buf out = {0};

	diag_command(s, 0);
	reply_ok(&out, s->command->seq, s->caps, 0, &(struct ok_packet){.status = s->status});
	int sent = session_send(s, out.data, out.len);
	buf_fini(&out);
	if (sent == 0)
		session_idle(s);
}

/* --- statements ------------------------------------------------------------------------------------------------- */

void command_classify(struct session *s, const char *schema)
{
	struct command *c = s->command;

	sql_memo_classify(s->pw->memo, c->text, c->text_mode, schema != NULL ? slice_str(schema) : slice_of(NULL, 0),
			  s->pw->watch, s->pw->nwatch, &c->parsed);
}

static void run_query(struct session *s)
{
	struct command *c = s->command;
	struct slice payload = command_payload(c);

	c->text = slice_of(payload.p + 1, payload.n - 1);
	c->is_statement = true;
	c->text_mode = track_text_mode(s);
	command_classify(s, s->want.schema);
	if (c->stmt->kind == SQL_KILL) {
		/* The id that a client knows is ours, not a server's: to pass it on would end somebody else. */
		session_error(s, ER_NOT_SUPPORTED_YET, "42000",
			      "KILL through Sidetrack is not supported yet: use the admin port's KILL");
		return;
	}
	if ((c->stmt->flags & SQLF_SET_TRACKING) && c->stmt->kind == SQL_SET && !(c->stmt->flags & SQLF_MULTI)) {
		command_ok(s); /* tracking is the proxy's own means: a client is told what servers tell by default */
		return;
	}
	dispatch_statement(s);
}

/* --- commands answered here ------------------------------------------------------------------------------------- */

static void run_quit(struct session *s)
{
	session_close(s, "quit");
}

static void run_set_option(struct session *s)
{
	struct slice payload = command_payload(s->command);
	struct cluster *cluster = &s->pw->cluster;
	struct buf out = {0};

	if (payload.n != 3 || get_u16(payload.p + 1) > 1) {
		session_error(s, ER_UNKNOWN_COM, "08S01", "Unknown command");
		return;
	}
	/* 0 turns several statements a packet on, 1 off. Server connections of the new kind serve it from here on; one
	 * that is kept is told. */
	if (get_u16(payload.p + 1) == 0)
		s->caps |= CAP_MULTI_STATEMENTS;
	else
		s->caps &= ~(uint32_t)CAP_MULTI_STATEMENTS;
	struct identity *old = s->identity;
	s->identity = identity_get(cluster, slice_str(old->user), old->has_password ? old->stage1 : NULL,
				   identity_caps(s->caps) | (old->caps & CAP_EXPIRED_PASSWORDS), old->xcaps,
				   old->collation);
	identity_put(cluster, &old);
	home_adopt_witness(s); /* another identity's connections follow */
	if (s->home != NULL) {
		s->pinned = true; /* its server connection is no longer what its pool says */
		s->unclean = true;
		dispatch_command(s, RESULT_SHAPE_QUERY);
		return;
	}
	diag_command(s, -1);
	if (s->caps & CAP_DEPRECATE_EOF)
		reply_ok(&out, 1, s->caps, 0xfe, &(struct ok_packet){.status = s->status});
	else
		reply_eof(&out, 1, 0, s->status);
	int sent = session_send(s, out.data, out.len);
	buf_fini(&out);
	if (sent == 0)
		session_idle(s);
}

static void run_reset(struct session *s)
{
	char *schema = s->want.schema;

	s->want.schema = NULL; /* the schema stays, as at a server */
	prepared_free_all(s);
	home_drop(s);
	track_reset(s);
	idle_logged_in(s);
	state_set_schema(&s->want, schema != NULL ? slice_str(schema) : slice_of(NULL, 0));
	free(schema);
	command_ok(s);
}

static void run_change_user(struct session *s)
{
	login_change_user(s, command_payload(s->command));
}

static void run_unsupported(struct session *s)
{
	session_error(s, ER_NOT_SUPPORTED_YET, "42000", "Sidetrack does not pass on protocol command 0x%02x yet",
		      s->command->code);
}

/* --- commands for the primary ----------------------------------------------------------------------------------- */

static void run_forward(struct session *s)
{
	dispatch_command(s, RESULT_SHAPE_QUERY);
}

static void run_field_list(struct session *s)
{
	dispatch_command(s, RESULT_SHAPE_FIELDS);
}

static void run_statistics(struct session *s)
{
	dispatch_command(s, RESULT_SHAPE_TEXT);
}

static const struct {
	uint8_t code;
	void (*run)(struct session *s);
} commands[] = {
	{COM_QUERY, run_query},
	{COM_STMT_EXECUTE, prepared_execute},
	{COM_STMT_PREPARE, prepared_prepare},
	{COM_STMT_CLOSE, prepared_close},
	{COM_STMT_SEND_LONG_DATA, prepared_long_data},
	{COM_STMT_RESET, prepared_reset},
	{COM_STMT_FETCH, run_unsupported},
	{COM_STMT_BULK_EXECUTE, run_unsupported},
	{COM_PING, command_ok},
	{COM_QUIT, run_quit},
	{COM_INIT_DB, run_forward},
	{COM_FIELD_LIST, run_field_list},
	{COM_STATISTICS, run_statistics},
	{COM_SET_OPTION, run_set_option},
	{COM_RESET_CONNECTION, run_reset},
	{COM_CHANGE_USER, run_change_user},
	{COM_CREATE_DB, run_forward},
	{COM_DROP_DB, run_forward},
	{COM_REFRESH, run_forward},
	{COM_SHUTDOWN, run_forward},
	{COM_PROCESS_INFO, run_forward},
	{COM_DEBUG, run_forward},
	{COM_PROCESS_KILL, run_unsupported},
	{COM_BINLOG_DUMP, run_unsupported},
};

void command_run(struct session *s)
{
	for (unsigned i = 0; i < sizeof commands / sizeof *commands; i++) {
		if (commands[i].code == s->command->code) {
			commands[i].run(s);
			return;
		}
	}
	session_error(s, ER_UNKNOWN_COM, "08S01", "Unknown command");
}
