/* SPDX-License-Identifier: Apache-2.0
 *
 * The reply, from the server connection to the client. Bytes are read into the worker's scratch buffer, walked by
 * packet header, and sent on from there; only packets that say something about state are looked into. What differs
 * between what the server speaks to us and what the client negotiated is put right here and nowhere else: the EOF
 * after column definitions, the OK that ends rows, session tracking.
 *
 *      scratch: [ reply to SET | reply to expiry query | columns | rows ... | OK ]
 *                 swallowed      swallowed               forwarded           held until the store confirms a write
 */
#include "session/session.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

enum { HIGH_MARK = 256 * 1024, LOW_MARK = 64 * 1024, PIECES = 64,
       JOIN_MAX = 4096,    /* bytes of several pieces that are cheaper copied together than sent apart */
       MADE_KEPT = 65536 }; /* a larger buffer is not kept for the next reply */

static void on_readable(struct backend *b);
static void on_drained(struct backend *b);
const struct backend_ops relay_ops = {on_readable, on_drained};

/* What goes to the client in this turn: runs of the scratch buffer, and packets made here (offsets into made). */
struct outgoing {
	struct session *s;
	const uint8_t *run, *run_end;
	struct buf made;
	struct {
		const uint8_t *p; /* NULL: at off in made */
		size_t off, n;
	} piece[PIECES];
	unsigned n;
	size_t columns_status; /* where in made the status of an EOF after columns is; 0: not there (any more) */
	bool broken;
};

static void remember_for_fill(struct command *c, const uint8_t *p, size_t n, size_t limit)
{
	if (!c->leased)
		return;
	if (c->fill.len + n > limit || !buf_try_reserve(&c->fill, n)) {
		cache_abandon(c->session->pw->cache, &c->key, c->found.lease);
		c->leased = false;
		buf_fini(&c->fill);
		return;
	}
	buf_put(&c->fill, p, n);
}

static int send_pieces(struct session *s, struct iovec *iov, unsigned n, size_t bytes)
{
	struct buf *out = &s->pw->out;

	if (n == 1 || bytes > JOIN_MAX)
		return conn_writev(&s->conn, iov, (int)n);
	buf_clear(out);
	for (unsigned i = 0; i < n; i++)
		buf_put(out, iov[i].iov_base, iov[i].iov_len);
	return conn_write(&s->conn, out->data, out->len);
}

static void flush(struct outgoing *o)
{
	struct iovec iov[PIECES];
	struct command *c = o->s->command;
	size_t limit = o->s->pw->cluster.config->max_entry, bytes = 0;

	for (unsigned i = 0; i < o->n; i++) {
		const uint8_t *p = o->piece[i].p != NULL ? o->piece[i].p : o->made.data + o->piece[i].off;
		iov[i] = (struct iovec){(void *)(uintptr_t)p, o->piece[i].n};
		remember_for_fill(c, p, o->piece[i].n, limit);
		bytes += o->piece[i].n;
	}
	c->bytes += bytes;
	if (o->n > 0 && !o->broken) {
		c->forwarded = true;
		if (send_pieces(o->s, iov, o->n, bytes) < 0)
			o->broken = true;
	}
	o->n = 0;
	o->columns_status = 0;
	buf_clear(&o->made);
}

static void end_run(struct outgoing *o)
{
	if (o->run_end > o->run) {
		o->piece[o->n].p = o->run;
		o->piece[o->n++].n = (size_t)(o->run_end - o->run);
		if (o->n == PIECES)
			flush(o);
	}
	o->run = o->run_end = NULL;
}

static void forward(struct outgoing *o, const uint8_t *p, size_t n)
{
	if (o->run == NULL || o->run_end != p) {
		end_run(o);
		o->run = p;
	}
	o->run_end = p + n;
}

/* A packet is about to be built at the end of `made`: returns where. What was before it has its piece first, since that
 * may be the one that sends them all, and `made` with them. */
static size_t begin_made(struct outgoing *o)
{
	end_run(o);
	return o->made.len;
}

/* It ends there. */
static void forward_made(struct outgoing *o, size_t from)
{
	o->piece[o->n].p = NULL;
	o->piece[o->n].off = from;
	o->piece[o->n++].n = o->made.len - from;
	if (o->n == PIECES)
		flush(o);
}

/* Bytes of this reply that go before the packet that is built next: where its status flags will be in the fill. */
static size_t emitted(const struct outgoing *o)
{
	size_t n = o->s->command->bytes + (size_t)(o->run_end - o->run);

	for (unsigned i = 0; i < o->n; i++)
		n += o->piece[i].n;
	return n;
}

static void note_status(struct outgoing *o)
{
	struct command *c = o->s->command;

	if (c->leased && c->nfill_status < 4)
		c->fill_status[c->nfill_status++] = (uint32_t)emitted(o) + 7;
}

/* --- replies that are not the client's ---------------------------------------------------------------------------- */

static void take_error(struct command *c, struct slice payload)
{
	struct err_packet e;

	if (err_parse(payload, &e) < 0)
		return;
	c->sync_error = (struct backend_error){.code = e.code, .from_server = true};
	memcpy(c->sync_error.sqlstate, e.sqlstate, sizeof e.sqlstate);
	snprintf(c->sync_error.text, sizeof c->sync_error.text, "%.*s", (int)e.message.n, (const char *)e.message.p);
}

static int64_t number(struct slice s)
{
	char text[32];

	snprintf(text, sizeof text, "%.*s", (int)s.n, (const char *)s.p);
	return strtoll(text, NULL, 10);
}

/* The row of the expiry query: milliseconds until the first expiry (or NULL), and how many rows have expired. */
static void take_expiry(struct command *c, struct slice row)
{
	struct reader r = reader_of(row);
	bool none = row.n > 0 && row.p[0] == 0xfb;
	int64_t left = -1;

	if (none)
		rd_u8(&r);
	else
		left = number(rd_lenenc_bytes(&r));
	bool expired = number(rd_lenenc_bytes(&r)) > 0;
	if (r.bad || (expired && !c->stmt->now_is_expiry))
		c->expiry_ms = -2;
	else
		c->expiry_ms = left;
}

static void swallow_row(struct session *s, struct slice row)
{
	struct command *c = s->command;
	struct reader r = reader_of(row);

	if (c->swallow[c->swallowed] == SWALLOW_EXPIRY)
		take_expiry(c, row);
	else if (c->swallow[c->swallowed] == SWALLOW_INSERT_ID)
		s->last_insert_id = s->current->last_insert_id = (uint64_t)number(rd_lenenc_bytes(&r));
	else if (c->swallow[c->swallowed] == SWALLOW_VARIABLES)
		track_asked(s, row);
	else if (c->swallow[c->swallowed] == SWALLOW_LEFT)
		track_left(s, row);
}

/* What prepares a read failed at a replica, which may lag: the primary decides. The read itself may have gone along in
 * the same write; in a state that is not the session's its answer is nobody's, so the connection goes. */
static void unsynced(struct session *s)
{
	struct command *c = s->command;
	int server = (int)c->server_id;

	c->primary_decides = true;
	backend_close(home_detach(s), false, "it could not be brought into the session's state");
	dispatch_again(s, server);
}

/* All replies before the statement's own are in. Returns false when the session has moved on. */
static bool swallowed_all(struct session *s)
{
	struct command *c = s->command;

	if (c->asking) {
		home_asked(s);
		return false;
	}
	if (c->sync_failed && c->retryable) {
		unsynced(s);
		return false;
	}
	if (c->syncing != NULL && !c->sync_failed) {
		struct state *have = &s->current->have;
		/* Only variables were told by put_state. */
		char *schema = c->code == COM_INIT_DB || c->syncing->schema == NULL ? have->schema : NULL;
		if (schema != NULL)
			have->schema = NULL;
		state_copy(have, c->syncing);
		if (schema != NULL)
			state_set_schema(have, slice_str(schema));
		free(schema);
		c->syncing = NULL;
	}
	if (c->again) {
		if (c->sync_failed)
			settle(s);
		else
			dispatch_send(s);
		return false;
	}
	return true;
}

/* One whole packet of such a reply. Returns 0; 1 when the session has moved on; -1 when it is malformed. */
static int swallow_packet(struct session *s, struct backend *b, struct slice payload)
{
	struct command *c = s->command;
	enum swallow what = c->swallow[c->swallowed];
	enum result_part part = result_step(&c->result, (uint32_t)payload.n, payload.n > 0 ? payload.p[0] : 0);
	struct ok_packet ok;

	switch (part) {
	case RESULT_ERR:
		if (what == SWALLOW_STATE || what == SWALLOW_PREPARE) {
			c->sync_failed = true;
			take_error(c, payload);
		}
		if (what == SWALLOW_EXPIRY)
			c->expiry_ms = -2; /* it may not be asked: it is not cached either */
		if (what == SWALLOW_VARIABLES || what == SWALLOW_LEFT)
			s->pinned = s->sticky = true; /* unknown for good: all that follows belongs there */
		break;
	case RESULT_OK:
		if (ok_parse(payload, true, &ok) < 0)
			return -1;
		break;
	case RESULT_ROW:
		swallow_row(s, payload);
		break;
	case RESULT_PREPARED:
		if (payload.n < 9)
			return -1;
		prepared_learned(s, b, get_u32(payload.p + 1));
		break;
	case RESULT_MALFORMED:
	case RESULT_LOCAL_INFILE:
		return -1;
	default:
		break;
	}
	if (result_wants_payload(part) && result_payload(&c->result, part, payload, 0) < 0)
		return -1;
	if (!c->result.done)
		return 0;
	if (what == SWALLOW_VARIABLES)
		track_learn(s, b);
	c->swallowed++;
	if (c->swallowed < c->nswallow) {
		bool prepare = c->swallow[c->swallowed] == SWALLOW_PREPARE;
		result_init(&c->result, prepare ? RESULT_SHAPE_PREPARE : RESULT_SHAPE_QUERY, b->deprecate_eof);
		return 0;
	}
	result_init(&c->result, c->shape, b->deprecate_eof);
	return swallowed_all(s) ? 0 : 1;
}

/* --- the client's reply ------------------------------------------------------------------------------------------- */

/* Errors that say something about this server connection or this moment; any other error of a replica is checked at
 * the primary, whose word is what a client without a proxy would hear. */
static bool error_is_final(unsigned code)
{
	return code == 1317 /* query interrupted */ || code == 1969 /* max_statement_time */ || code == 3024;
}

/* Statements that run others may have committed some of them before one was refused: they are not run again. */
static bool runs_others(const struct command *c)
{
	return c->is_statement && c->code != COM_STMT_PREPARE &&
	       ((c->stmt->flags & (SQLF_MULTI | SQLF_UNKNOWN_FUNC | SQLF_UNREADABLE)) || c->stmt->kind == SQL_CALL ||
		c->stmt->kind == SQL_COMPOUND || c->stmt->kind == SQL_EXECUTE);
}

/* A switch-over has begun: the server refused to run the statement, and another one is about to be the primary. */
static bool primary_became_read_only(const struct session *s)
{
	const struct command *c = s->command;

	return !c->to_replica && !session_bound(s) && !runs_others(c) && !(s->status & STATUS_IN_TRANS_READONLY) &&
	       (c->sync_error.code == ER_READ_ONLY_MODE || (c->sync_error.code == ER_OPTION_PREVENTS_STATEMENT &&
							    strstr(c->sync_error.text, "read-only") != NULL));
}

/* The packet at `packet` ends the reply: to the client, or aside until the store has confirmed. */
static void emit_closing(struct outgoing *o, const uint8_t *packet, size_t whole, bool made, size_t from, bool ends)
{
	struct command *c = o->s->command;

	if (ends && settle_holds(o->s)) {
		if (!made)
			end_run(o);
		buf_put(&c->held, made ? o->made.data + from : packet, made ? o->made.len - from : whole);
		if (made)
			o->made.len = from;
	} else if (made) {
		forward_made(o, from);
	} else {
		forward(o, packet, whole);
	}
}

/* The EOF after columns, if it has not left yet: the server's own says what the end of the rows says. */
static void put_columns_status(struct outgoing *o, unsigned status)
{
	if (o->columns_status != 0)
		put_u16(o->made.data + o->columns_status, status);
	o->columns_status = 0;
}

/* OK in place of a result set, or the OK or EOF that ends rows. Returns -1 when malformed. */
static int take_ok(struct outgoing *o, struct backend *b, enum result_part part, uint8_t *packet, size_t whole)
{
	struct session *s = o->s;
	struct command *c = s->command;
	struct slice payload = slice_of(packet + PACKET_HEADER, whole - PACKET_HEADER);
	struct ok_packet ok = {0};
	bool is_eof = part != RESULT_OK && (!b->deprecate_eof || payload.n < 7);

	if (is_eof) {
		if (payload.n < 5)
			return -1;
		ok.warnings = get_u16(payload.p + 1);
		ok.status = get_u16(payload.p + 3);
	} else if (ok_parse(payload, true, &ok) < 0) {
		return -1;
	}
	bool more = (ok.status & STATUS_MORE_RESULTS) != 0;
	/* A witness knows of warnings, not of the transaction that is open elsewhere. */
	bool foreign = c->answered_by != NULL && !session_keeps(s, b) && ((ok.status ^ s->status) & SESSION_OWN_STATUS);
	if (foreign)
		ok.status = (uint16_t)((ok.status & ~SESSION_OWN_STATUS) | (s->status & SESSION_OWN_STATUS));
	s->status = ok.status & ~(unsigned)(STATUS_MORE_RESULTS | STATUS_STATE_CHANGED | STATUS_CURSOR_EXISTS |
					    STATUS_LAST_ROW_SENT);
	c->warnings = ok.warnings;
	c->row_count = part == RESULT_OK ? (int64_t)ok.affected : -1;
	if (part == RESULT_ROWS_END) {
		c->sent_rows = c->result.rows - c->rows_before;
		c->rows_before = c->result.rows;
	}
	if (part == RESULT_OK) {
		c->affected += ok.affected;
		if (ok.insert_id != 0)
			c->insert_id = ok.insert_id;
	}
	if (ok.state.n > 0)
		track_ok(s, b, &ok);
	if (!gtid_none(c->gtid))
		settle_gtid(s);
	if (result_payload(&c->result, part, payload, ok.status) < 0)
		return -1;
	if (c->pings)
		return 0;
	packet[3] = (uint8_t)(packet[3] + c->shift);
	bool want_eof = part != RESULT_OK && !(s->caps & CAP_DEPRECATE_EOF);
	if (part == RESULT_ROWS_END)
		note_status(o);
	if (want_eof == is_eof && !foreign && ok.state.n == 0 && ok.info.n == 0 &&
	    !(ok.status & STATUS_STATE_CHANGED)) {
		put_columns_status(o, ok.status);
		emit_closing(o, packet, whole, false, 0, !more);
		return 0;
	}
	struct buf told = {0};
	if (s->caps & CAP_SESSION_TRACK)
		track_filter(s, ok.state, &told);
	ok.state = buf_slice(&told);
	unsigned changed = told.len > 0 ? STATUS_STATE_CHANGED : 0;
	/* Of a block it had happened before its columns were told. */
	bool call = c->is_statement && (c->stmt->kind == SQL_CALL || c->stmt->kind == SQL_COMPOUND ||
					c->stmt->kind == SQL_EXECUTE);
	unsigned status = (ok.status & ~(unsigned)STATUS_STATE_CHANGED) | changed;
	put_columns_status(o, call ? status : status & ~(unsigned)STATUS_STATE_CHANGED);
	size_t from = begin_made(o);
	if (want_eof)
		reply_eof(&o->made, packet[3], ok.warnings, status);
	else
		reply_ok(&o->made, packet[3], s->caps, part == RESULT_OK ? 0 : 0xfe, &ok);
	buf_fini(&told);
	emit_closing(o, NULL, 0, true, from, !more);
	return 0;
}

static void after_columns(struct outgoing *o, struct backend *b, unsigned seq)
{
	struct session *s = o->s;

	if (!b->deprecate_eof || (s->caps & CAP_DEPRECATE_EOF))
		return;
	if (s->command->shape != RESULT_SHAPE_PREPARE)
		note_status(o);
	/* The server has not told its status yet. Clients that read it from here (libmariadb does, for CALL) get what
	 * the end of the rows will say, if that arrives in the same turn, else the best guess. */
	bool call = s->command->shape == RESULT_SHAPE_QUERY && s->command->is_statement &&
		    (s->command->stmt->kind == SQL_CALL || s->command->stmt->kind == SQL_COMPOUND);
	size_t from = begin_made(o);
	reply_eof(&o->made, seq + 1, 0, s->status | (call ? STATUS_MORE_RESULTS : 0));
	o->columns_status = s->command->shape == RESULT_SHAPE_QUERY ? from + 7 : 0;
	forward_made(o, from);
	s->command->shift++;
}

enum { TAKE_MORE = 0, TAKE_MALFORMED = -1, TAKE_MOVED_ON = -2, TAKE_RETRY = -3, TAKE_HOLD = -4 };

/* Takes the packet at p (at least its header and first byte are there, `have` bytes of it). Returns what was used, or
 * one of the above. */
static ssize_t take_packet(struct outgoing *o, struct backend *b, uint8_t *p, size_t have)
{
	struct session *s = o->s;
	struct command *c = s->command;
	uint32_t len = get_u24(p);
	size_t whole = PACKET_HEADER + (size_t)len;

	if (c->swallowed < c->nswallow) {
		if (have < whole)
			return whole > WORKER_SCRATCH ? TAKE_MALFORMED : TAKE_MORE;
		int moved = swallow_packet(s, b, slice_of(p + PACKET_HEADER, len));
		return moved < 0 ? TAKE_MALFORMED : moved > 0 ? TAKE_MOVED_ON : (ssize_t)whole;
	}
	if (have < whole && !result_in_rows(&c->result))
		return whole > WORKER_SCRATCH ? TAKE_MALFORMED : TAKE_MORE;
	enum result_part part = result_step(&c->result, len, len > 0 ? p[PACKET_HEADER] : 0);
	if (part == RESULT_MALFORMED || part == RESULT_LOCAL_INFILE)
		return -1;
	if (result_wants_payload(part) && have < whole)
		return whole > WORKER_SCRATCH ? TAKE_MALFORMED : TAKE_MORE;
	struct slice payload = slice_of(p + PACKET_HEADER, len);
	switch (part) {
	case RESULT_OK:
	case RESULT_EOF:
	case RESULT_ROWS_END:
		return take_ok(o, b, part, p, whole) < 0 ? -1 : (ssize_t)whole;
	case RESULT_ERR:
		c->failed = true;
		take_error(c, payload);
		if (c->bytes == 0 && o->n == 0 && o->run == NULL) /* perhaps no answer, but a server's last words */
			p[3] = (uint8_t)(c->seq - c->shift);
		if (!c->forwarded && o->n == 0 && o->run == NULL && c->retryable && !error_is_final(c->sync_error.code))
			return TAKE_RETRY;
		if (!c->forwarded && o->n == 0 && o->run == NULL && primary_became_read_only(s))
			return TAKE_HOLD;
		break;
	case RESULT_PREPARED:
		if (len < 9 || !prepared_registered(s, b, p + PACKET_HEADER))
			return -1;
		break;
	default:
		break;
	}
	if (result_wants_payload(part) && result_payload(&c->result, part, payload, 0) < 0)
		return -1;
	if (c->pings)
		return (ssize_t)whole;
	p[3] = (uint8_t)(p[3] + c->shift);
	if (part == RESULT_ERR && c->sync_error.code == ER_OPTION_PREVENTS_STATEMENT &&
	    (s->status & STATUS_IN_TRANS_READONLY)) {
		/* The replica's read_only spoke before the transaction's own READ ONLY, which a primary would name. */
		size_t from = begin_made(o);
		reply_err(&o->made, p[3], ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION, "25006",
			  "Cannot execute statement in a READ ONLY transaction");
		emit_closing(o, NULL, 0, true, from, true);
		return (ssize_t)whole;
	}
	if (part == RESULT_ERR) {
		emit_closing(o, p, whole, false, 0, true);
		return (ssize_t)whole;
	}
	size_t now = have < whole ? have : whole; /* a row may go on in pieces */
	forward(o, p, now);
	c->skip = (uint32_t)(whole - now);
	if (part == RESULT_COLUMN_LAST)
		after_columns(o, b, p[3]);
	return (ssize_t)now;
}

static void broken_server(struct session *s)
{
	stats_error(s->pw->worker->stats, STAT_ERR_SERVER_PROTOCOL);
	relay_lost(s, "malformed packet from the server");
}

/* The buffer for made packets is the worker's. */
static void give_back(struct outgoing *o)
{
	struct proxy_worker *pw = o->s->pw;

	if (o->made.cap > MADE_KEPT)
		buf_fini(&o->made);
	buf_clear(&o->made);
	buf_fini(&pw->made);
	pw->made = o->made;
}

/* Sends what was put together and goes to the next step when the reply has ended. Returns false when the session has
 * moved on or is closed. */
static bool finish_turn(struct outgoing *o, struct backend *b)
{
	struct session *s = o->s;
	bool done = s->command->result.done && s->command->swallowed == s->command->nswallow && s->command->skip == 0;

	end_run(o);
	flush(o);
	give_back(o);
	if (o->broken) {
		session_close(s, "client went away in the middle of a reply");
		return false;
	}
	if (done) {
		if (b->conn.in.len > 0) {
			broken_server(s); /* bytes after the end of the reply */
			return false;
		}
		settle(s);
		return false;
	}
	conn_read_again(&b->conn);
	if (conn_queued(&s->conn) > HIGH_MARK) {
		conn_read_off(&b->conn);
		s->throttled = true;
	}
	return true;
}

static void feed(struct session *s, struct backend *b, uint8_t *p, size_t n)
{
	struct outgoing o = {.s = s, .made = s->pw->made};
	struct command *c = s->command;
	uint8_t *end = p + n;
	ssize_t used = 0;

	s->pw->made = (struct buf){0};
	while (p < end) {
		if (c->skip > 0) {
			size_t now = c->skip < (size_t)(end - p) ? c->skip : (size_t)(end - p);
			if (!c->pings)
				forward(&o, p, now);
			c->skip -= (uint32_t)now;
			p += now;
			continue;
		}
		size_t have = (size_t)(end - p);
		if ((c->result.done && c->swallowed == c->nswallow) || have < PACKET_HEADER ||
		    (have == PACKET_HEADER && get_u24(p) > 0))
			break;
		used = take_packet(&o, b, p, have);
		if (used <= 0)
			break;
		p += used;
	}
	if (used == TAKE_MOVED_ON) { /* settled or sent again: whatever follows is of the next step */
		give_back(&o);
		return;
	}
	if (used == TAKE_MALFORMED) {
		give_back(&o);
		broken_server(s);
		return;
	}
	if (used == TAKE_RETRY || used == TAKE_HOLD) {
		give_back(&o);
		relay_retry(s, used == TAKE_HOLD);
		return;
	}
	if (p < end)
		buf_put(&b->conn.in, p, (size_t)(end - p));
	finish_turn(&o, b);
}

static void on_readable(struct backend *b)
{
	struct session *s = b->owner;
	uint8_t *scratch = s->pw->worker->scratch;
	size_t kept = b->conn.in.len;

	if (kept > 0) {
		memcpy(scratch, b->conn.in.data, kept);
		buf_fini(&b->conn.in);
	}
	ssize_t n = conn_read(&b->conn, scratch + kept, WORKER_SCRATCH - kept);
	if (n == -1) {
		buf_put(&b->conn.in, scratch, kept);
		return;
	}
	if (s->step != SESSION_RELAY || b != s->current) {
		/* A kept connection that is closed, or speaks out of turn, while its client thinks or a replica
		 * answers. */
		home_lost(s, b);
		return;
	}
	if (n <= 0) {
		relay_lost(s, n == 0 ? "closed by the server" : "read failed");
		return;
	}
	feed(s, b, scratch, kept + (size_t)n);
}

static void on_drained(struct backend *b)
{
	(void)b; /* what a session sends is bounded by max_allowed_packet, and it reads no more while it is sent */
}

void relay_client_drained(struct session *s)
{
	if (s->throttled && s->current != NULL && conn_queued(&s->conn) < LOW_MARK) {
		s->throttled = false;
		conn_read_on(&s->current->conn);
	}
}

/* The server refused the statement and has not run it: the connection is fine, the answer is to come from elsewhere, or
 * (hold) from the next primary. */
void relay_retry(struct session *s, bool hold)
{
	struct command *c = s->command;
	struct backend *b = home_detach(s);
	int server = (int)c->server_id;

	backend_put(&b);
	if (hold) {
		dispatch_hold(s);
		return;
	}
	c->primary_decides = true;
	dispatch_again(s, server);
}

/* Not all of the command could be sent, so the server has not run it, whatever it is. */
static bool was_not_sent(const struct session *s)
{
	const struct command *c = s->command;

	return s->current->conn.broken && !c->forwarded && c->swallowed == 0 && !c->finished && !c->pings &&
	       !session_keeps(s, s->current);
}

static bool may_run_again(const struct session *s)
{
	return s->command->retryable && !s->command->forwarded && !session_keeps(s, s->current);
}

void relay_server_down(struct session *s)
{
	if (s->step == SESSION_RELAY && s->current != NULL && may_run_again(s))
		relay_lost(s, "its server does not answer");
}

void relay_lost(struct session *s, const char *why)
{
	struct command *c = s->command;
	bool again = may_run_again(s) || was_not_sent(s);
	bool finished = c->finished;
	int server = (int)c->server_id;

	backend_close(home_detach(s), true, why);
	s->pw->proxy->services.poke(s->pw->proxy->services.arg, PROXY_POKE_SERVERS);
	if (finished) { /* only LAST_INSERT_ID() is lost with it */
		session_idle(s);
		return;
	}
	if (again) {
		dispatch_again(s, server);
		return;
	}
	settle_lost(s);
}
