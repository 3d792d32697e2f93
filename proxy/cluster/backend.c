/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/backend.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "cluster/backend_setup.h"
#include "mysql/reply.h"

static void on_readable(struct conn *c);
static void on_drained(struct conn *c);
static const struct conn_ops conn_ops = {on_readable, on_drained};

static struct backend *of_conn(struct conn *c)
{
	return (struct backend *)((char *)c - offsetof(struct backend, conn));
}

static void destroy(void *p)
{
	struct backend *b = p;

	state_clear(&b->have);
	setup_end(b);
	free(b->statements);
	free(b);
}

/* --- life ------------------------------------------------------------------------------------------------------- */

void backend_close(struct backend *b, bool failed, const char *why)
{
	struct server *s = b->pool->server;

	if (b->step == BACKEND_CLOSED)
		return;
	if (failed) {
		log_warn("server %s: connection %u: %s", s->name, b->thread_id, why);
		atomic_store_explicit(&s->failed, 1, memory_order_release);
		stats_error(b->pool->cluster->worker->stats, STAT_ERR_SERVER_LOST);
	} else {
		log_debug("server %s: connection %u closed: %s", s->name, b->thread_id, why);
		if (b->step == BACKEND_IDLE || b->step == BACKEND_OWNED) {
			static const uint8_t quit[] = {1, 0, 0, 0, COM_QUIT};
			conn_write(&b->conn, quit, sizeof quit);
		}
	}
	event_del(&b->deadline);
	conn_close(&b->conn);
	pool_closed(b); /* looks at the step that it was in */
	b->step = BACKEND_CLOSED;
	defaults_unref(&b->base); /* at once: the cluster may end before its dead are buried */
	defaults_unref(&b->ground);
	worker_bury(b->pool->cluster->worker, b, destroy);
}

/* The connection never became usable: whoever waits for it is told why. */
void backend_fail(struct backend *b, unsigned code, const char *sqlstate, bool from_server, const char *fmt, ...)
{
	struct backend_error e = {.code = code, .from_server = from_server};
	struct pool *p = b->pool;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(e.text, sizeof e.text, fmt, ap);
	va_end(ap);
	snprintf(e.sqlstate, sizeof e.sqlstate, "%s", sqlstate);
	stats_error(p->cluster->worker->stats, STAT_ERR_SERVER_CONNECT);
	if (from_server)
		log_warn("server %s: login of '%s': %u %s", p->server->name, p->identity->user, code, e.text);
	bool reset = b->tainted;
	backend_close(b, !from_server, e.text);
	if (!reset) /* nobody waits for this very connection */
		pool_failed(p, &e);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct backend *b = arg;

	(void)fd;
	(void)what;
	backend_fail(b, CR_CONN_HOST_ERROR, "HY000", false, "Can't connect to server on '%s' (timed out)",
	     b->pool->server->address.text);
}

void backend_connect(struct pool *p)
{
	struct backend *b = xcalloc(1, sizeof *b);
	uint64_t ms = p->cluster->config->connect_timeout_ms;
	struct timeval tv = {.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
	struct event_base *base = p->cluster->worker->base;

	b->pool = p;
	b->epoch = atomic_load_explicit(p->cluster->epoch, memory_order_acquire);
	memcpy(b->rights, p->rights, sizeof b->rights);
	b->conn.fd = -1;
	evtimer_assign(&b->deadline, base, on_deadline, b);
	p->nopen++;
	pool_making(b);
	p->cluster->open[p->server->id]++;
	atomic_fetch_add_explicit(&p->server->connections, 1, memory_order_relaxed);
	stats_server_connections(p->cluster->worker->stats, p->server->id, 0, 1);
	if (conn_connect(&b->conn, base, (const struct sockaddr *)&p->server->address.sa, p->server->address.len,
			 &conn_ops) == 0)
		b->conn.outbox = &p->cluster->worker->outbox;
	else
		tv = (struct timeval){0}; /* said by the timer, so that nobody is called back from within pool_get */
	event_add(&b->deadline, &tv);
}

/* --- login ------------------------------------------------------------------------------------------------------ */

static void take_greeting(struct backend *b, struct slice payload)
{
	struct pool *p = b->pool;
	struct identity *id = p->identity;
	struct greeting g;
	uint8_t answer[AUTH_SHA1];
	struct err_packet e;

	if (payload.n > 0 && payload.p[0] == 0xff && err_parse(payload, &e) == 0) {
		backend_fail(b, e.code, e.sqlstate, true, "%.*s", (int)e.message.n, (const char *)e.message.p);
		return;
	}
	if (greeting_parse(payload, &g) < 0) {
		backend_fail(b, CR_MALFORMED_PACKET, "HY000", false, "server '%s' does not speak the MySQL protocol",
		     p->server->name);
		return;
	}
	b->thread_id = g.thread_id;
	b->deprecate_eof = (g.caps & CAP_DEPRECATE_EOF) != 0;
	struct login l = {.max_packet = 1u << 30, .collation = id->collation, .user = slice_str(id->user),
			  .plugin = slice_str(NATIVE_PLUGIN)};
	l.xcaps = g.caps & CAP_MYSQL ? 0 : id->xcaps & g.xcaps;
	l.caps = ((id->caps | CAP_SESSION_TRACK | CAP_DEPRECATE_EOF) & g.caps) | CAP_PROTOCOL_41 |
		 CAP_SECURE_CONNECTION | CAP_PLUGIN_AUTH | CAP_TRANSACTIONS | (g.caps & CAP_MYSQL);
	if (!(l.caps & CAP_SESSION_TRACK)) {
		backend_fail(b, ER_NOT_SUPPORTED_YET, "42000", true,
		     "server '%s' has no session tracking (MariaDB 10.2 or later has)", p->server->name);
		return;
	}
	if (id->has_password) {
		auth_native_answer(id->stage1, g.salt, answer);
		l.answer = slice_of(answer, sizeof answer);
	}
	struct buf out = {0};
	login_build(&out, 1, &l);
	conn_write(&b->conn, out.data, out.len);
	buf_fini(&out);
	b->step = BACKEND_AUTH;
}

static void take_auth(struct backend *b, struct slice payload, unsigned seq)
{
	struct identity *id = b->pool->identity;
	struct slice plugin, data;
	struct ok_packet ok;
	struct err_packet e;
	uint8_t answer[AUTH_SHA1];
	struct buf out = {0};

	if (payload.n > 0 && payload.p[0] == 0 && ok_parse(payload, true, &ok) == 0) {
		if (id->login_status == 0 || pool_is_primarys(b->pool))
			id->login_status = ok.status & ~(unsigned)STATUS_STATE_CHANGED;
		setup_begin(b);
		return;
	}
	if (payload.n > 0 && payload.p[0] == 0xff && err_parse(payload, &e) == 0) {
		backend_fail(b, e.code, e.sqlstate, true, "%.*s", (int)e.message.n, (const char *)e.message.p);
		return;
	}
	if (payload.n == 0 || auth_switch_parse(payload, &plugin, &data) < 0 || !slice_ieq(plugin, NATIVE_PLUGIN) ||
	    data.n < AUTH_SALT) {
		backend_fail(b, ER_NOT_SUPPORTED_AUTH_MODE, "08004", true,
		     "server '%s' asks for an authentication plugin that is not supported", b->pool->server->name);
		return;
	}
	size_t start = packet_begin(&out, seq + 1);
	if (id->has_password) {
		auth_native_answer(id->stage1, data.p, answer);
		buf_put(&out, answer, sizeof answer);
	}
	packet_end(&out, start);
	conn_write(&b->conn, out.data, out.len);
	buf_fini(&out);
}

/* --- bytes ------------------------------------------------------------------------------------------------------ */

static void take_packet(struct backend *b, struct slice payload, unsigned seq)
{
	switch (b->step) {
	case BACKEND_GREETING:
		take_greeting(b, payload);
		break;
	case BACKEND_AUTH:
		take_auth(b, payload, seq);
		break;
	case BACKEND_SETUP:
		setup_packet(b, payload);
		break;
	default:
		break;
	}
}

static void read_login(struct backend *b)
{
	uint8_t chunk[8192];
	ssize_t n = conn_read(&b->conn, chunk, sizeof chunk);

	if (n == -1)
		return;
	if (n <= 0) {
		backend_fail(b, CR_CONN_HOST_ERROR, "HY000", false, "server '%s' closed the connection during login",
		     b->pool->server->name);
		return;
	}
	buf_put(&b->conn.in, chunk, (size_t)n);
	while (b->step == BACKEND_GREETING || b->step == BACKEND_AUTH || b->step == BACKEND_SETUP) {
		struct buf *in = &b->conn.in;
		if (in->len < PACKET_HEADER || in->len < PACKET_HEADER + get_u24(in->data)) {
			if (in->len > 65536)
				backend_fail(b, CR_MALFORMED_PACKET, "HY000", false,
				     "server '%s' sent an oversized packet in its login", b->pool->server->name);
			return;
		}
		size_t whole = PACKET_HEADER + get_u24(in->data);
		uint8_t *packet = xmalloc(whole);
		memcpy(packet, in->data, whole);
		buf_consume(in, whole);
		if (in->len == 0)
			buf_fini(in);
		take_packet(b, slice_of(packet + PACKET_HEADER, whole - PACKET_HEADER), packet[3]);
		free(packet);
	}
}

static void on_readable(struct conn *c)
{
	struct backend *b = of_conn(c);
	char byte;

	switch (b->step) {
	case BACKEND_GREETING:
	case BACKEND_AUTH:
	case BACKEND_SETUP:
		read_login(b);
		break;
	case BACKEND_OWNED:
		b->ops->readable(b);
		break;
	case BACKEND_IDLE:
		if (conn_read(c, &byte, 1) == -1)
			break;
		/* A server may close an idle connection (wait_timeout, KILL, shutdown): the pool had it, nobody is
		 * hurt. */
		backend_close(b, false, "closed by the server while idle");
		break;
	default:
		break;
	}
}

static void on_drained(struct conn *c)
{
	struct backend *b = of_conn(c);

	if (c->connecting) {
		int err = conn_connect_result(c);
		if (err != 0) {
			backend_fail(b, CR_CONN_HOST_ERROR, "HY000", false, "Can't connect to server on '%s' (%d %s)",
			     b->pool->server->address.text, err, strerror(err));
			return;
		}
		b->step = BACKEND_GREETING;
		conn_read_on(c);
		return;
	}
	if (b->step == BACKEND_OWNED)
		b->ops->drained(b);
}

void backend_put(struct backend **giver)
{
	struct backend *b = *giver;
	uint64_t ms = b->pool->cluster->config->connect_timeout_ms;
	struct timeval tv = {.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000)};

	*giver = NULL;
	b->owner = NULL;
	b->ops = NULL;
	if (b->spoilt || (b->tainted && !setup_can_reset(b))) {
		backend_close(b, false, "not as its pool says");
		return;
	}
	conn_read_on(&b->conn);
	if (!b->tainted) {
		pool_ready(b);
		return;
	}
	state_clear(&b->have);
	b->nstatements = 0;
	b->last_insert_id = 0;
	pool_making(b);
	event_add(&b->deadline, &tv);
	setup_begin(b);
}

/* --- prepared statements ---------------------------------------------------------------------------------------- */

bool backend_statement_find(struct backend *b, uint64_t key, uint32_t *id)
{
	for (unsigned i = 0; i < b->nstatements; i++) {
		if (b->statements[i].key == key) {
			b->statements[i].used = ++b->clock;
			*id = b->statements[i].id;
			return true;
		}
	}
	return false;
}

static void put_close(struct buf *out, uint32_t id)
{
	size_t start = packet_begin(out, 0);

	buf_put_u8(out, COM_STMT_CLOSE);
	buf_put_u32(out, id);
	packet_end(out, start);
}

void backend_statement_add(struct backend *b, uint64_t key, uint32_t id, struct buf *out)
{
	unsigned at = b->nstatements;

	if (b->statements == NULL)
		b->statements = xcalloc(BACKEND_STATEMENTS, sizeof *b->statements);
	if (at == BACKEND_STATEMENTS) {
		at = 0;
		for (unsigned i = 1; i < BACKEND_STATEMENTS; i++)
			if (b->clock - b->statements[i].used > b->clock - b->statements[at].used)
				at = i;
		put_close(out, b->statements[at].id);
	} else {
		b->nstatements++;
	}
	b->statements[at] = (struct backend_statement){.key = key, .id = id, .used = ++b->clock};
}

void backend_statement_forget(struct backend *b, uint64_t key, struct buf *out)
{
	for (unsigned i = 0; i < b->nstatements; i++) {
		if (b->statements[i].key == key) {
			put_close(out, b->statements[i].id);
			b->statements[i] = b->statements[--b->nstatements];
			return;
		}
	}
}
