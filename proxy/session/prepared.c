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

enum { COUNT_MAX = 16382, /* a server's max_prepared_stmt_count until one has told its own */
       SLOTS_BEFORE_SEARCH = 16382,
       SHARE = 4, /* a session's statements may have that part of client_memory */
       STMT_BYTES = 1024, /* what the classifier says of one, about */
       LAST_PREPARED = 0xffffffff };

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
	size_t bytes;            /* of session.prepared_bytes, without long data */
	const char *long_lost;   /* why long data was not kept: the execute tells */
	unsigned long_error;
	/* What the classifier said at the first execute, without the room for keys that it has not; true while workers
	 * watch for the same tables. */
	struct sql_stmt *stmt;
	unsigned watched_since;
	/* the execute in flight: slices of its payload */
	struct slice nulls, values;
	char digits[24];
};

/* --- memory ------------------------------------------------------------------------------------------------------- */

static size_t counted(size_t bytes)
{
	return bytes > BUDGET_FREE ? bytes : 0;
}

static bool take_bytes(struct session *s, size_t n)
{
	uint64_t limit = s->pw->cluster.config->client_memory;
	size_t want = s->prepared_bytes + n;

	if (want > limit / SHARE || !budget_take(&s->prepared_held, counted(want), limit))
		return false;
	s->prepared_bytes = want;
	return true;
}

static void give_bytes(struct session *s, size_t n)
{
	s->prepared_bytes -= n;
	budget_give(&s->prepared_held, counted(s->prepared_bytes));
}

static void free_long_data(struct session *s, struct prepared *p)
{
	while (p->long_data != NULL) {
		struct long_data *l = p->long_data;
		p->long_data = l->next;
		buf_fini(&l->data);
		free(l);
	}
	give_bytes(s, p->long_bytes);
	p->long_bytes = 0;
	p->long_lost = NULL;
}

static void prepared_free(struct session *s, struct prepared *p)
{
	free_long_data(s, p);
	give_bytes(s, p->bytes);
	atomic_fetch_sub_explicit(&s->pw->proxy->prepared, 1, memory_order_relaxed);
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
			prepared_free(s, s->prepared[i]);
	free(s->prepared);
	s->prepared = NULL;
	s->nprepared = 0;
	s->last_prepared = 0;
}

void prepared_unmade(struct command *c)
{
	if (c->making != NULL)
		prepared_free(c->session, c->making);
	c->making = NULL;
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

void prepared_rebase(struct session *s, const struct defaults *from, const struct defaults *to)
{
	for (unsigned i = 0; i < s->nprepared; i++) {
		struct prepared *p = s->prepared[i];
		if (p == NULL)
			continue;
		state_rebase(&p->state, from, to);
		p->key = key_of(slice_of(p->text, p->len), &p->state);
	}
}

/* One more of all sessions' together, as the server counts them. */
static bool count_one(struct session *s)
{
	const struct topology *t = s->pw->cluster.topology;
	unsigned limit = t != NULL && t->version[0] != '\0' ? t->max_prepared_stmt_count : COUNT_MAX;
	atomic_uint *count = &s->pw->proxy->prepared;

	if (atomic_fetch_add_explicit(count, 1, memory_order_relaxed) < limit)
		return true;
	atomic_fetch_sub_explicit(count, 1, memory_order_relaxed);
	session_error(s, ER_MAX_PREPARED_STMT_COUNT_REACHED, "42000",
		      "Can't create more than max_prepared_stmt_count statements (current value: %u)", limit);
	return false;
}

/* Room for it, before the server is asked. Returns false when there is none, and that was said. */
static bool make(struct session *s)
{
	struct command *c = s->command;
	size_t bytes = sizeof(struct prepared) + STMT_BYTES + c->text.n;
	char *text = NULL;

	if (!count_one(s))
		return false;
	if (take_bytes(s, bytes) && (text = mem_try_realloc(NULL, c->text.n + 1)) == NULL)
		give_bytes(s, bytes);
	if (text == NULL) {
		atomic_fetch_sub_explicit(&s->pw->proxy->prepared, 1, memory_order_relaxed);
		session_error(s, ER_OUT_OF_RESOURCES, "HY001",
			      "Out of memory: prepared statements of this session, or of all, have what [proxy] "
			      "client_memory allows");
		return false;
	}
	memcpy(text, c->text.p, c->text.n);
	text[c->text.n] = '\0';
	c->making = xcalloc(1, sizeof *c->making);
	*c->making = (struct prepared){.text = text, .len = c->text.n, .text_mode = c->text_mode, .bytes = bytes};
	return true;
}

void prepared_prepare(struct session *s)
{
	struct command *c = s->command;
	struct slice payload = command_payload(c);

	s->last_prepared = 0;
	c->text = slice_of(payload.p + 1, payload.n - 1);
	c->is_statement = true;
	c->shape = RESULT_SHAPE_PREPARE;
	c->text_mode = track_text_mode(s);
	command_classify(s, s->want.schema);
	if (c->stmt->kind == SQL_KILL) { /* as in run_query: the id would be a server's */
		session_error(s, ER_NOT_SUPPORTED_YET, "42000",
			      "KILL through Sidetrack is not supported yet: use the admin port's KILL");
		return;
	}
	if (make(s))
		dispatch_statement(s);
}

static struct prepared **free_slot(struct session *s)
{
	for (unsigned i = s->nprepared; i-- > 0 && s->nprepared - i <= 8;)
		if (s->prepared[i] == NULL)
			return &s->prepared[i];
	if (s->nprepared >= SLOTS_BEFORE_SEARCH)
		for (unsigned i = 0; i < s->nprepared; i++)
			if (s->prepared[i] == NULL)
				return &s->prepared[i];
	if (s->nprepared % 8 == 0)
		s->prepared = xrealloc(s->prepared, (s->nprepared + 8) * sizeof *s->prepared);
	s->prepared[s->nprepared] = NULL;
	return &s->prepared[s->nprepared++];
}

bool prepared_registered(struct session *s, struct backend *b, uint8_t *payload)
{
	struct command *c = s->command;
	struct prepared *p = c->making;
	struct buf closes = {0};

	if (p == NULL)
		return false;
	struct prepared **slot = free_slot(s);
	c->making = NULL;
	p->id = (uint32_t)(slot - s->prepared) + 1;
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
	return true;
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
			p->types = xmalloc(2u * p->nparams); /* 128 KB at most */
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
	struct slice payload = command_payload(c);

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
	if (p->long_lost != NULL) {
		const char *why = p->long_lost;
		free_long_data(s, p);
		session_error(s, p->long_error, "HY000", "%s", why);
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
	packets_end(out, start, 0);
}

void prepared_learned(struct session *s, struct backend *b, uint32_t server_id)
{
	struct buf closes = {0};

	backend_statement_add(b, s->command->ps->key, server_id, &closes);
	conn_write(&b->conn, closes.data, closes.len);
	buf_fini(&closes);
}

size_t prepared_size(const struct command *c)
{
	const struct prepared *p = c->ps;

	return p->len + p->long_bytes + 2u * p->nparams;
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
		packets_end(out, start, 0);
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
	/* Its answer counts on from its packets, the client's from those that came: types may be in one only. */
	s->command->shift = (int)s->command->seq - (int)((out->len - start - PACKET_HEADER) / PACKET_MAX + 1);
	packets_end(out, start, 0);
}

void prepared_executed(struct session *s)
{
	free_long_data(s, s->command->ps);
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

static void lose_long_data(struct session *s, struct prepared *p, unsigned code, const char *why)
{
	free_long_data(s, p);
	p->long_lost = why;
	p->long_error = code;
}

static struct long_data *long_data_of(struct session *s, struct prepared *p, uint16_t param)
{
	struct long_data *l = p->long_data;

	while (l != NULL && l->param != param)
		l = l->next;
	if (l == NULL && take_bytes(s, sizeof *l)) {
		l = xcalloc(1, sizeof *l);
		l->param = param;
		l->next = p->long_data;
		p->long_data = l;
		p->long_bytes += sizeof *l;
	}
	return l;
}

static void keep_long_data(struct session *s, struct prepared *p, uint16_t param, struct slice data)
{
	if (param >= p->nparams) {
		lose_long_data(s, p, ER_WRONG_ARGUMENTS, "Incorrect arguments to mysqld_stmt_send_long_data");
		return;
	}
	struct long_data *l = long_data_of(s, p, param);
	if (l != NULL && l->data.len + data.n > s->pw->cluster.config->max_allowed_packet) {
		lose_long_data(s, p, ER_UNKNOWN_ERROR,
			       "Parameter of prepared statement which is set through mysql_send_long_data() is longer "
			       "than 'max_allowed_packet' bytes");
		return;
	}
	bool taken = l != NULL && take_bytes(s, data.n);
	if (taken)
		p->long_bytes += data.n;
	if (!taken || !buf_try_put(&l->data, data.p, data.n))
		lose_long_data(s, p, ER_OUT_OF_RESOURCES,
			       "Out of memory: long data of this session, or of all, has what [proxy] client_memory "
			       "allows");
}

/* No answer, whatever happens: the execute tells. */
void prepared_long_data(struct session *s)
{
	struct slice payload = command_payload(s->command);
	struct prepared *p = payload.n >= 7 ? find(s, get_u32(payload.p + 1)) : NULL;

	if (p != NULL && p->long_lost == NULL)
		keep_long_data(s, p, get_u16(payload.p + 5), slice_of(payload.p + 7, payload.n - 7));
	session_idle(s);
}

void prepared_reset(struct session *s)
{
	struct slice payload = command_payload(s->command);
	struct prepared *p = payload.n >= 5 ? find(s, get_u32(payload.p + 1)) : NULL;

	if (p == NULL) {
		unknown(s, payload.n >= 5 ? get_u32(payload.p + 1) : 0, "mysqld_stmt_reset");
		return;
	}
	free_long_data(s, p);
	command_ok(s);
}

void prepared_close(struct session *s)
{
	struct slice payload = command_payload(s->command);
	uint32_t id = payload.n >= 5 ? get_u32(payload.p + 1) : 0;
	struct prepared *p = find(s, id);

	if (p != NULL) {
		s->prepared[p->id - 1] = NULL;
		prepared_free(s, p);
	}
	session_idle(s);
}
