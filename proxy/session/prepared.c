/* SPDX-License-Identifier: Apache-2.0
 *
 * Prepared statements belong to the session: the client's id names a text, and the server connection that happens to
 * run an execute prepares it when it has not yet. So executes are routed, cached and pooled like text statements.
 *
 * A statement is prepared under the state (schema, sql_mode, character sets) that the session had when it prepared it,
 * and known on a connection under a key of text and that state.
 */
#include "session/session.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/siphash.h"
#include "cache/shape.h"

enum { PREPARED_MAX = 16382 /* a server's max_prepared_stmt_count by default */, LAST_PREPARED = 0xffffffff };

struct long_data {
	struct long_data *next;
	uint16_t param;
	struct buf data;
};

struct prepared {
	uint32_t id;
	uint64_t key;
	char *text;
	size_t len;
	unsigned text_mode;      /* how the server read it then */
	struct state state;      /* when it was prepared */
	struct shape_memo shape; /* of that state */
	uint16_t nparams;
	uint8_t *types;          /* 2 bytes a parameter, as last bound; NULL: never */
	struct long_data *long_data;
	size_t long_bytes;
	/* What the classifier said at the first execute, without the room for keys that it has not; true while workers
	 * watch for the same tables. */
	struct sql_stmt *stmt;
	unsigned watched_since;
	/* the execute in flight: slices of its payload */
	struct slice nulls, values;
	char digits[24];
};

static void free_long_data(struct prepared *p)
{
	while (p->long_data != NULL) {
		struct long_data *l = p->long_data;
		p->long_data = l->next;
		buf_fini(&l->data);
		free(l);
	}
	p->long_bytes = 0;
}

static void prepared_free(struct prepared *p)
{
	free_long_data(p);
	state_clear(&p->state);
	free(p->stmt);
	free(p->types);
	free(p->text);
	free(p);
}

void prepared_free_all(struct session *s)
{
	for (unsigned i = 0; i < s->nprepared; i++)
		if (s->prepared[i] != NULL)
			prepared_free(s->prepared[i]);
	free(s->prepared);
	s->prepared = NULL;
	s->nprepared = 0;
	s->last_prepared = 0;
}

static struct prepared *find(const struct session *s, uint32_t id)
{
	if (id == LAST_PREPARED)
		id = s->last_prepared;
	return id >= 1 && id <= s->nprepared ? s->prepared[id - 1] : NULL;
}

static void unknown(struct session *s, uint32_t id, const char *command)
{
	session_error(s, ER_UNKNOWN_STMT_HANDLER, "HY000", "Unknown prepared statement handler (%u) given to %s", id,
		      command);
}

static void malformed(struct session *s)
{
	stats_error(s->pw->worker->stats, STAT_ERR_CLIENT_PROTOCOL);
	session_error(s, 1835, "HY000", "Malformed communication packet");
}

/* --- PREPARE ------------------------------------------------------------------------------------------------------ */

static uint64_t key_of(struct slice text, const struct state *state)
{
	uint64_t parts[] = {state->hash, siphash(siphash_process_key(), text.p, text.n)};

	return siphash(siphash_process_key(), parts, sizeof parts);
}

void prepared_prepare(struct session *s)
{
	struct command *c = s->command;

	s->last_prepared = 0;
	if (get_u24(c->request.data) == PACKET_MAX) {
		session_error(s, ER_NET_PACKET_TOO_LARGE, "08S01",
			      "Got a packet bigger than 'max_allowed_packet' bytes");
		return;
	}
	c->text = slice_of(c->request.data + PACKET_HEADER + 1, c->request.len - PACKET_HEADER - 1);
	c->is_statement = true;
	c->shape = RESULT_SHAPE_PREPARE;
	c->text_mode = track_text_mode(s);
	command_classify(s, s->want.schema);
	if (c->stmt->kind == SQL_KILL) { /* as in run_query: the id would be a server's */
		session_error(s, ER_NOT_SUPPORTED_YET, "42000",
			      "KILL through Sidetrack is not supported yet: use the admin port's KILL");
		return;
	}
	dispatch_statement(s);
}

static struct prepared **free_slot(struct session *s)
{
	for (unsigned i = s->nprepared; i-- > 0 && s->nprepared - i <= 8;)
		if (s->prepared[i] == NULL)
			return &s->prepared[i];
	if (s->nprepared >= PREPARED_MAX)
		for (unsigned i = 0; i < s->nprepared; i++)
			if (s->prepared[i] == NULL)
				return &s->prepared[i];
	if (s->nprepared % 8 == 0)
		s->prepared = xrealloc(s->prepared, (s->nprepared + 8) * sizeof *s->prepared);
	s->prepared[s->nprepared] = NULL;
	return &s->prepared[s->nprepared++];
}

void prepared_registered(struct session *s, struct backend *b, uint8_t *payload)
{
	struct command *c = s->command;
	struct prepared *p = xcalloc(1, sizeof *p);
	struct prepared **slot = free_slot(s);
	struct buf closes = {0};

	p->id = (uint32_t)(slot - s->prepared) + 1;
	p->text = xstrndup((const char *)c->text.p, c->text.n);
	p->len = c->text.n;
	p->text_mode = c->text_mode;
	p->nparams = get_u16(payload + 7);
	state_copy(&p->state, &s->want);
	p->key = key_of(c->text, &p->state);
	*slot = p;
	s->last_prepared = p->id;
	backend_statement_forget(b, p->key, &closes);
	backend_statement_add(b, p->key, get_u32(payload + 1), &closes);
	conn_write(&b->conn, closes.data, closes.len);
	buf_fini(&closes);
	put_u32(payload + 1, p->id);
}

void prepared_failed(struct session *s)
{
	s->last_prepared = 0;
}

/* --- EXECUTE ------------------------------------------------------------------------------------------------------ */

/* Bytes of one value in binary form; -1 when it does not fit what is left. */
static long value_size(uint8_t type, struct slice left)
{
	struct reader r = reader_of(left);

	switch (type) {
	case 0x06: /* NULL */
		return 0;
	case 0x01: /* TINY */
		return left.n >= 1 ? 1 : -1;
	case 0x02: case 0x0d: /* SHORT, YEAR */
		return left.n >= 2 ? 2 : -1;
	case 0x03: case 0x09: case 0x04: /* LONG, INT24, FLOAT */
		return left.n >= 4 ? 4 : -1;
	case 0x08: case 0x05: /* LONGLONG, DOUBLE */
		return left.n >= 8 ? 8 : -1;
	case 0x07: case 0x0a: case 0x0b: case 0x0c: { /* TIMESTAMP, DATE, TIME, DATETIME */
		uint8_t n = rd_u8(&r);
		return !r.bad && rd_left(&r) >= n ? 1 + n : -1;
	}
	default:
		rd_lenenc_bytes(&r);
		return r.bad ? -1 : (long)(r.p - left.p);
	}
}

static bool is_null(const struct prepared *p, unsigned i)
{
	return (p->nulls.p[i / 8] >> (i % 8) & 1) != 0;
}

static bool has_long_data(const struct prepared *p, unsigned i)
{
	for (const struct long_data *l = p->long_data; l != NULL; l = l->next)
		if (l->param == i)
			return true;
	return false;
}

/* Reads nulls, types and values out of an execute's payload. Returns 0, or -1 when malformed. */
static int read_values(struct prepared *p, struct slice payload)
{
	struct reader r = reader_of(payload);

	rd_bytes(&r, 10); /* command, id, flags, iterations */
	p->nulls = p->values = slice_of(NULL, 0);
	if (p->nparams == 0)
		return r.bad ? -1 : 0;
	p->nulls = rd_bytes(&r, (p->nparams + 7u) / 8);
	if (rd_u8(&r) == 1) {
		struct slice types = rd_bytes(&r, 2u * p->nparams);
		if (r.bad)
			return -1;
		if (p->types == NULL)
			p->types = xmalloc(2u * p->nparams);
		memcpy(p->types, types.p, types.n);
	}
	if (r.bad || p->types == NULL)
		return -1;
	p->values = rd_rest(&r);
	struct slice left = p->values;
	for (unsigned i = 0; i < p->nparams; i++) {
		if (is_null(p, i) || has_long_data(p, i))
			continue;
		long n = value_size(p->types[2 * i], left);
		if (n < 0)
			return -1;
		left = slice_of(left.p + n, left.n - (size_t)n);
	}
	return 0;
}

static struct slice execute_payload(struct command *c)
{
	if (get_u24(c->request.data) != PACKET_MAX)
		return slice_of(c->request.data + PACKET_HEADER, c->request.len - PACKET_HEADER);
	for (const uint8_t *p = c->request.data; p < c->request.data + c->request.len; p += PACKET_HEADER + get_u24(p))
		buf_put(&c->joined, p + PACKET_HEADER, get_u24(p));
	return buf_slice(&c->joined);
}

/* A PREPARE on another connection runs under the state that the statement was prepared in, but never under another
 * autocommit: setting that would commit the open transaction. */
static void adopt_autocommit(struct session *s, struct prepared *p)
{
	const char *now = state_get(&s->want, "autocommit"), *then = state_get(&p->state, "autocommit");

	if (now != NULL && (then == NULL || strcmp(now, then) != 0))
		state_set(&p->state, slice_str("autocommit"), slice_str(now));
}

/* The text, its mode and its schema stay what they were: it is read once. */
static void classify(struct session *s, struct prepared *p)
{
	struct command *c = s->command;
	const struct sql_stmt *parsed = &c->parsed;

	if (p->stmt == NULL || p->watched_since != s->pw->watched_since) {
		command_classify(s, p->state.schema);
		size_t n = offsetof(struct sql_stmt, keys) + parsed->nkeys * sizeof *parsed->keys;
		p->stmt = xrealloc(p->stmt, n);
		memcpy(p->stmt, parsed, n);
		p->watched_since = s->pw->watched_since;
	}
	c->stmt = p->stmt;
}

void prepared_execute(struct session *s)
{
	struct command *c = s->command;
	struct proxy_worker *pw = s->pw;
	struct slice payload = execute_payload(c);

	if (payload.n < 10) {
		malformed(s);
		return;
	}
	uint32_t id = get_u32(payload.p + 1);
	struct prepared *p = find(s, id);
	if (p == NULL) {
		unknown(s, id, "mysqld_stmt_execute");
		return;
	}
	if (p->long_bytes > pw->cluster.config->max_allowed_packet) {
		free_long_data(p);
		session_error(s, ER_NET_PACKET_TOO_LARGE, "08S01",
			      "Got a packet bigger than 'max_allowed_packet' bytes");
		return;
	}
	if (read_values(p, payload) < 0) {
		malformed(s);
		return;
	}
	/* A cursor is not opened (flags are not passed on): the client gets all rows, as for statements that cannot
	 * have one. */
	adopt_autocommit(s, p);
	c->ps = p;
	c->text = slice_of(p->text, p->len);
	c->is_statement = true;
	c->text_mode = p->text_mode;
	classify(s, p);
	dispatch_statement(s);
}

const struct state *prepared_state(const struct command *c)
{
	return &c->ps->state;
}

void prepared_adopt_schema(struct command *c, const char *schema)
{
	struct prepared *p = c->ps;

	if (p->state.schema != NULL)
		return;
	state_set_schema(&p->state, slice_str(schema));
	p->watched_since = 0; /* it was read without a schema: again at the next execute */
	p->key = key_of(slice_of(p->text, p->len), &p->state);
}

bool prepared_known(struct session *s, struct backend *b)
{
	uint32_t id;

	return backend_statement_find(b, s->command->ps->key, &id);
}

void prepared_put_prepare(struct session *s, struct buf *out)
{
	const struct prepared *p = s->command->ps;
	size_t start = packet_begin(out, 0);

	buf_put_u8(out, COM_STMT_PREPARE);
	buf_put(out, p->text, p->len);
	packet_end(out, start);
}

void prepared_learned(struct session *s, struct backend *b, uint32_t server_id)
{
	struct buf closes = {0};

	backend_statement_add(b, s->command->ps->key, server_id, &closes);
	conn_write(&b->conn, closes.data, closes.len);
	buf_fini(&closes);
}

/* Ends a packet of any size that begins at `start`: what is too large for one becomes several. */
static void end_packets(struct buf *out, size_t start)
{
	struct buf whole = {0};
	unsigned seq = 0;

	if (out->len - start - PACKET_HEADER < PACKET_MAX) {
		packet_end(out, start);
		return;
	}
	buf_put(&whole, out->data + start + PACKET_HEADER, out->len - start - PACKET_HEADER);
	out->len = start;
	for (size_t at = 0, n = PACKET_MAX; n == PACKET_MAX; at += n) {
		n = whole.len - at < PACKET_MAX ? whole.len - at : PACKET_MAX;
		buf_put_u24(out, (uint32_t)n);
		buf_put_u8(out, seq++);
		buf_put(out, whole.data + at, n);
	}
	buf_fini(&whole);
}

void prepared_put_execute(struct session *s, struct backend *b, struct buf *out)
{
	struct prepared *p = s->command->ps;
	uint32_t id = 0;

	backend_statement_find(b, p->key, &id);
	for (const struct long_data *l = p->long_data; l != NULL; l = l->next) {
		size_t start = packet_begin(out, 0);
		buf_put_u8(out, COM_STMT_SEND_LONG_DATA);
		buf_put_u32(out, id);
		buf_put_u16(out, l->param);
		buf_put(out, l->data.data, l->data.len);
		end_packets(out, start);
	}
	size_t start = packet_begin(out, 0);
	buf_put_u8(out, COM_STMT_EXECUTE);
	buf_put_u32(out, id);
	buf_put_u8(out, 0);
	buf_put_u32(out, 1);
	if (p->nparams > 0) {
		buf_put(out, p->nulls.p, p->nulls.n);
		buf_put_u8(out, 1); /* this connection may have seen other types, or none */
		buf_put(out, p->types, 2u * p->nparams);
		buf_put(out, p->values.p, p->values.n);
	}
	end_packets(out, start);
}

void prepared_executed(struct session *s)
{
	free_long_data(s->command->ps);
}

/* --- for the cache ------------------------------------------------------------------------------------------------ */

void prepared_shape(const struct command *c, const struct siphash_key *secret, struct buf *out)
{
	struct prepared *p = c->ps;

	shape_part(out, slice_of(shape_of_state(&p->shape, &p->state, secret), SHAPE));
	shape_part(out, p->nulls);
	shape_part(out, p->types != NULL ? slice_of(p->types, 2u * p->nparams) : slice_of(NULL, 0));
	shape_part(out, p->values);
	for (const struct long_data *l = p->long_data; l != NULL; l = l->next) {
		buf_put_u16(out, l->param);
		shape_part(out, buf_slice(&l->data));
	}
}

static long long signed_value(const uint8_t *v, uint8_t type)
{
	switch (type) {
	case 0x01:
		return (int8_t)v[0];
	case 0x02: case 0x0d:
		return (int16_t)get_u16(v);
	case 0x03: case 0x09:
		return (int32_t)get_u32(v);
	default:
		return (long long)get_u64(v);
	}
}

static bool as_number(struct prepared *p, const uint8_t *v, unsigned i, long n, struct sql_literal *out)
{
	long long value = signed_value(v, p->types[2 * i]);
	bool is_unsigned = (p->types[2 * i + 1] & 0x80) != 0;
	unsigned long long bits = (unsigned long long)value;

	if (is_unsigned && n < 8)
		bits &= (1ull << (8 * n)) - 1;
	out->negative = !is_unsigned && value < 0;
	snprintf(p->digits, sizeof p->digits, "%llu", out->negative ? 0ull - bits : bits);
	out->type = SQL_LIT_NUMBER;
	out->text = slice_str(p->digits);
	return true;
}

static bool get_param(const void *arg, unsigned index, struct sql_literal *out)
{
	struct prepared *p = (struct prepared *)(uintptr_t)arg;
	struct slice left = p->values;

	*out = (struct sql_literal){0};
	if (index >= p->nparams || is_null(p, index) || p->long_data != NULL)
		return false;
	for (unsigned i = 0; i < index; i++) {
		long n = is_null(p, i) ? 0 : value_size(p->types[2 * i], left);
		left = slice_of(left.p + n, left.n - (size_t)n);
	}
	uint8_t type = p->types[2 * index];
	long n = value_size(type, left);
	switch (type) {
	case 0x01: case 0x02: case 0x03: case 0x08: case 0x09: case 0x0d:
		return as_number(p, left.p, index, n, out);
	case 0x0f: case 0xfd: case 0xfe: case 0xf9: case 0xfa: case 0xfb: case 0xfc: {
		struct reader r = reader_of(left);
		out->type = SQL_LIT_STRING;
		out->text = rd_lenenc_bytes(&r);
		return true;
	}
	default:
		return false;
	}
}

void prepared_params(const struct command *c, struct cache_params *out)
{
	*out = (struct cache_params){.arg = c->ps, .get = get_param};
}

/* --- long data, RESET, CLOSE -------------------------------------------------------------------------------------- */

void prepared_long_data(struct session *s, struct slice payload)
{
	struct prepared *p = payload.n >= 7 ? find(s, get_u32(payload.p + 1)) : NULL;
	uint64_t limit = s->pw->cluster.config->max_allowed_packet;

	/* No answer, whatever happens: the execute tells. */
	if (p != NULL && get_u32(s->command->request.data) >> 24 == 0 && p->long_bytes <= limit) {
		uint16_t param = get_u16(payload.p + 5);
		struct long_data *l = p->long_data;
		while (l != NULL && l->param != param)
			l = l->next;
		if (l == NULL) {
			l = xcalloc(1, sizeof *l);
			l->param = param;
			l->next = p->long_data;
			p->long_data = l;
		}
		buf_put(&l->data, payload.p + 7, payload.n - 7);
		p->long_bytes += payload.n - 7;
	}
	session_idle(s);
}

void prepared_reset(struct session *s, struct slice payload)
{
	struct prepared *p = payload.n >= 5 ? find(s, get_u32(payload.p + 1)) : NULL;

	if (p == NULL) {
		unknown(s, payload.n >= 5 ? get_u32(payload.p + 1) : 0, "mysqld_stmt_reset");
		return;
	}
	free_long_data(p);
	command_ok(s);
}

void prepared_close(struct session *s, struct slice payload)
{
	uint32_t id = payload.n >= 5 ? get_u32(payload.p + 1) : 0;
	struct prepared *p = find(s, id);

	if (p != NULL) {
		s->prepared[p->id - 1] = NULL;
		prepared_free(p);
	}
	session_idle(s);
}
