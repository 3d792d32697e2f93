/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/backend_setup.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "mysql/reply.h"

enum {
	PARTS = 10,
	VALUES_AT_LEAST = 20,
	CHANGED_US = 1000000 /* what a pool finds changed begins a new epoch this often at most */
};

enum part { PART_TRACK, PART_RESET, PART_VALUES, PART_FINGERPRINT, PART_GROUND };

struct setup {
	struct result result; /* of the part that is being answered */
	enum part parts[PARTS];
	unsigned n, at;
	struct defaults *values; /* what PART_VALUES has told so far */
	char mark[33];
};

/* --- the questions ------------------------------------------------------------------------------------------------ */

static void expect(struct backend *b, enum part part)
{
	b->setup->parts[b->setup->n++] = part;
}

static void put_query(struct backend *b, struct buf *out, enum part part, struct slice sql)
{
	size_t start = packet_begin(out, 0);

	buf_put_u8(out, COM_QUERY);
	buf_put(out, sql.p, sql.n);
	packet_end(out, start);
	expect(b, part);
}

static void send_parts(struct backend *b, struct buf *out)
{
	result_init(&b->setup->result, RESULT_SHAPE_QUERY, b->deprecate_eof);
	conn_write(&b->conn, out->data, out->len);
	buf_fini(out);
}

/* The first of the primary's connections in its epoch to be ready says what all of the identity have. */
static bool gives_base(const struct backend *b)
{
	return !b->read_only && b->pool->identity->base_epoch < b->epoch;
}

static void lay_ground(struct pool *p, struct defaults *base, bool read_only)
{
	struct state none = {0}, have = {0};

	if (p->ground != NULL && p->ground_base == base && p->fix_read_only == read_only)
		return;
	defaults_unref(&p->ground);
	defaults_unref(&p->ground_base);
	buf_clear(&p->fix);
	p->ground_base = defaults_ref(base);
	p->ground = defaults_intern(&p->cluster->defaults, defaults_ground(base, p->born));
	p->fix_read_only = read_only;
	state_rebase(&have, p->born, p->ground);
	int n = state_diff(&none, &have, &(struct state_base){p->ground, read_only}, &p->fix);
	p->nfix = n > 0 ? (unsigned)n : 0;
	if (n > 0)
		log_debug("server %s: what '%s' gets there is not the primary's: %u variables", p->server->name,
			  p->identity->user, have.n);
	state_clear(&have);
}

static void put_fingerprint(struct backend *b, struct buf *out)
{
	struct buf sql = {0};

	buf_put_str(&sql, "SELECT ");
	buf_put_str(&sql, defaults_fingerprint(b->pool->born));
	buf_put_str(&sql, ",IFNULL(DATABASE(),''),@@global.init_connect<>'' LIMIT 1");
	put_query(b, out, PART_FINGERPRINT, buf_slice(&sql));
	buf_fini(&sql);
}

/* What comes when it is known what the connection was born with. */
static void put_ground(struct backend *b, struct buf *out)
{
	struct pool *p = b->pool;
	struct identity *id = p->identity;
	struct defaults *base = gives_base(b) || id->base == NULL ? p->born : id->base;

	put_fingerprint(b, out);
	lay_ground(p, base, b->read_only);
	buf_put(out, p->fix.data, p->fix.len);
	for (unsigned i = 0; i < p->nfix; i++)
		expect(b, PART_GROUND);
	if (b->read_only)
		put_query(b, out, PART_GROUND, slice_str("SET SESSION TRANSACTION READ ONLY"));
	defaults_unref(&b->base);
	defaults_unref(&b->ground);
	b->base = defaults_ref(base);
	b->ground = defaults_ref(p->ground);
}

void setup_begin(struct backend *b)
{
	static const char track[] = "SET session_track_system_variables='*',session_track_schema=1,"
				    "session_track_state_change=1,session_track_transaction_info='CHARACTERISTICS'";
	static const uint8_t reset[] = {1, 0, 0, 0, COM_RESET_CONNECTION};
	struct buf out = {0};

	setup_end(b);
	b->setup = xcalloc(1, sizeof *b->setup);
	b->step = BACKEND_SETUP;
	if (b->tainted) { /* a reset keeps the role */
		buf_put(&out, reset, sizeof reset);
		expect(b, PART_RESET);
		state_put_role(defaults_get(b->pool->born, "role"), &out);
		expect(b, PART_RESET);
	} else {
		b->read_only = !pool_is_primarys(b->pool);
	}
	put_query(b, &out, PART_TRACK, slice_str(track));
	if (b->pool->born == NULL)
		put_query(b, &out, PART_VALUES, slice_str(DEFAULTS_QUERY));
	else
		put_ground(b, &out);
	send_parts(b, &out);
}

void setup_end(struct backend *b)
{
	if (b->setup == NULL)
		return;
	defaults_unref(&b->setup->values);
	free(b->setup);
	b->setup = NULL;
}

bool setup_can_reset(const struct backend *b)
{
	return b->pool->born != NULL && !b->pool->init_connect && pool_may_lend(b);
}

/* --- the answers -------------------------------------------------------------------------------------------------- */

static void malformed(struct backend *b)
{
	backend_fail(b, CR_MALFORMED_PACKET, "HY000", false, "server '%s' sent a malformed packet",
		     b->pool->server->name);
}

static void refused(struct backend *b, enum part part, struct slice payload)
{
	static const char *const why[] = {"refused session tracking", "could not be reset",
					  "does not tell its defaults", "does not tell its defaults",
					  "does not take the primary's defaults"};
	struct err_packet e;

	if (err_parse(payload, &e) < 0)
		malformed(b);
	else if (e.code == ER_MUST_CHANGE_PASSWORD)
		backend_fail(b, e.code, e.sqlstate, true, "%.*s", (int)e.message.n, (const char *)e.message.p);
	else
		backend_fail(b, e.code, e.sqlstate, true, "server '%s' %s: %.*s", b->pool->server->name, why[part],
			     (int)e.message.n, (const char *)e.message.p);
}

/* It is not as the pool's others were: globals have changed since, unless they did it to this connection alone. */
static void not_as_born(struct backend *b)
{
	struct pool *p = b->pool;
	int64_t now = topology_now_us();

	if (b->tainted) {
		backend_close(b, false, "a reset does not make it what a new one is");
		return;
	}
	pool_forget_born(p);
	bool news = b->epoch == p->born_epoch; /* else the epoch tells of it already */
	if (news && (p->changed_us == 0 || now - p->changed_us > CHANGED_US))
		atomic_fetch_add_explicit(p->cluster->epoch, 1, memory_order_acq_rel);
	p->changed_us = now;
	log_info("server %s: new connections of '%s' have other defaults than before", p->server->name,
		 p->identity->user);
	b->tainted = true; /* nobody is to be told: another one is made */
	backend_close(b, false, "its server's defaults have changed");
}

static int take_value(struct backend *b, struct slice row)
{
	struct reader r = reader_of(row);
	struct slice name = rd_lenenc_bytes(&r), value = rd_lenenc_bytes(&r);

	if (b->setup->values == NULL)
		b->setup->values = defaults_new();
	return r.bad ? -1 : defaults_add(b->setup->values, name, value);
}

static int take_fingerprint(struct backend *b, struct slice row)
{
	struct reader r = reader_of(row);
	struct slice mark = rd_lenenc_bytes(&r), schema = rd_lenenc_bytes(&r), init_connect = rd_lenenc_bytes(&r);

	if (r.bad || mark.n != 32)
		return -1;
	snprintf(b->setup->mark, sizeof b->setup->mark, "%.*s", (int)mark.n, (const char *)mark.p);
	state_set_schema(&b->have, schema); /* which a reset keeps */
	b->pool->init_connect = init_connect.n != 1 || init_connect.p[0] != '0';
	return 0;
}

/* Returns false when the connection is closed. */
static bool values_told(struct backend *b)
{
	struct pool *p = b->pool;
	struct defaults *values = b->setup->values;
	struct buf out = {0};

	if (values == NULL || values->n < VALUES_AT_LEAST) {
		malformed(b);
		return false;
	}
	b->setup->values = NULL;
	defaults_seal(values);
	values = defaults_intern(&p->cluster->defaults, values);
	bool same = p->born == NULL || p->born == values;
	if (p->born == NULL)
		p->born = defaults_ref(values);
	defaults_unref(&values);
	if (!same) {
		not_as_born(b);
		return false;
	}
	put_ground(b, &out);
	send_parts(b, &out);
	return true;
}

static bool fingerprint_told(struct backend *b)
{
	struct pool *p = b->pool;

	if (b->tainted && p->init_connect) { /* since then: this one proves nothing of what new ones have */
		backend_close(b, false, "init_connect is not run by a reset");
		return false;
	}
	if (p->mark[0] == '\0')
		memcpy(p->mark, b->setup->mark, sizeof p->mark);
	if (memcmp(p->mark, b->setup->mark, sizeof p->mark) != 0) {
		not_as_born(b);
		return false;
	}
	if (b->epoch > p->born_epoch)
		p->born_epoch = b->epoch;
	return true;
}

static void swap(struct defaults **to, struct defaults *from)
{
	defaults_ref(from);
	defaults_unref(to);
	*to = from;
}

static void ready(struct backend *b)
{
	struct identity *id = b->pool->identity;

	if (gives_base(b)) {
		swap(&id->base, b->base);
		id->base_epoch = b->epoch;
	} else if (id->base == NULL) {
		swap(&id->base, b->base); /* for want of a primary */
	}
	event_del(&b->deadline);
	setup_end(b);
	b->tainted = false;
	pool_ready(b);
}

static void part_done(struct backend *b)
{
	struct setup *s = b->setup;
	enum part part = s->parts[s->at++];

	result_init(&s->result, RESULT_SHAPE_QUERY, b->deprecate_eof);
	if (part == PART_VALUES && !values_told(b))
		return;
	if (part == PART_FINGERPRINT && !fingerprint_told(b))
		return;
	if (s->at == s->n)
		ready(b);
}

/* An account whose password has expired may set another one, and not even be asked for its variables. */
static bool is_sandbox(const struct backend *b, struct slice payload)
{
	struct err_packet e;

	return (b->pool->identity->caps & CAP_EXPIRED_PASSWORDS) && err_parse(payload, &e) == 0 &&
	       e.code == ER_MUST_CHANGE_PASSWORD;
}

static void sandboxed(struct backend *b)
{
	struct setup *s = b->setup;

	result_init(&s->result, RESULT_SHAPE_QUERY, b->deprecate_eof);
	if (++s->at < s->n)
		return;
	event_del(&b->deadline);
	setup_end(b);
	b->tainted = false;
	pool_ready(b);
}

void setup_packet(struct backend *b, struct slice payload)
{
	struct setup *s = b->setup;
	enum part part = s->parts[s->at];
	enum result_part what = result_step(&s->result, (uint32_t)payload.n, payload.n > 0 ? payload.p[0] : 0);
	struct ok_packet ok = {0};
	int bad = what == RESULT_MALFORMED || what == RESULT_LOCAL_INFILE;

	if (what == RESULT_ERR && is_sandbox(b, payload)) {
		sandboxed(b);
		return;
	}
	if (what == RESULT_ERR) {
		refused(b, part, payload);
		return;
	}
	if (what == RESULT_ROW && part == PART_VALUES)
		bad = take_value(b, payload) < 0;
	if (what == RESULT_ROW && part == PART_FINGERPRINT)
		bad = take_fingerprint(b, payload) < 0;
	if (what == RESULT_OK || (what == RESULT_ROWS_END && b->deprecate_eof))
		bad |= ok_parse(payload, true, &ok) < 0;
	if (bad || (result_wants_payload(what) && result_payload(&s->result, what, payload, 0) < 0)) {
		malformed(b);
		return;
	}
	if (s->result.done)
		part_done(b);
}
