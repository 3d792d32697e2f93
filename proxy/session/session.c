/* SPDX-License-Identifier: Apache-2.0
 *
 * A session's life: opened with a descriptor, driven by its client's bytes, closed once. Commands that arrive while one
 * is in flight wait in conn.in and are taken in order.
 */
#include "session/session.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/proxy_header.h"

enum { PIPELINE_MAX = 1 << 20, /* bytes of later commands read ahead while one is in flight */
       ANSWERS_MAX = 1 << 18,  /* bytes of answers that the client has not taken yet */
       COMMANDS_KEPT = 64,     /* free command structs a worker keeps */
       REQUEST_KEPT = 16384 }; /* a larger request buffer is not kept with them */

static void on_client_readable(struct conn *c);
static void on_client_drained(struct conn *c);
static const struct conn_ops client_ops = {on_client_readable, on_client_drained};

static struct session *of_conn(struct conn *c)
{
	struct session *s = (struct session *)((char *)c - offsetof(struct session, conn));

	if (s->magic != SESSION_MAGIC)
		abort();
	return s;
}

/* --- commands --------------------------------------------------------------------------------------------------- */

struct command *command_new(struct session *s)
{
	struct proxy_worker *pw = s->pw;
	struct command *c = pw->free_commands;

	if (c != NULL) {
		pw->free_commands = c->next;
		pw->nfree_commands--;
	} else {
		c = xcalloc(1, sizeof *c);
	}
	c->session = s;
	c->stmt = &c->parsed;
	s->command = c;
	return c;
}

/* Clears all but the large parts that are filled in before they are read. */
static void command_wipe(struct command *c)
{
	struct buf request = c->request;

	buf_fini(&c->joined);
	buf_fini(&c->fill);
	buf_fini(&c->held);
	free(c->changes);
	if (request.cap > REQUEST_KEPT)
		buf_fini(&request);
	request.len = 0;
	memset(c, 0, offsetof(struct command, parsed));
	memset((char *)c + offsetof(struct command, ps), 0,
	       offsetof(struct command, tables) - offsetof(struct command, ps));
	memset((char *)c + offsetof(struct command, ntables), 0,
	       offsetof(struct command, key) - offsetof(struct command, ntables));
	memset((char *)c + offsetof(struct command, op), 0, sizeof *c - offsetof(struct command, op));
	c->request = request;
}

void command_timer_stop(struct command *c)
{
	if (c->timer_set)
		event_del(&c->timer);
	c->timer_set = false;
}

void command_timer(struct command *c, uint64_t ms, event_callback_fn fn)
{
	struct timeval tv = {.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000)};

	command_timer_stop(c);
	evtimer_assign(&c->timer, c->session->pw->worker->base, fn, c->session);
	event_add(&c->timer, &tv);
	c->timer_set = true;
}

void command_free(struct session *s)
{
	struct command *c = s->command;
	struct proxy_worker *pw = s->pw;

	if (c == NULL)
		return;
	s->command = NULL;
	command_timer_stop(c);
	effects_ddl_ended(c);
	pool_cancel(&c->wait);
	cache_cancel(pw->cache, &c->op);
	if (c->leased)
		cache_abandon(pw->cache, &c->key, c->found.lease);
	command_wipe(c);
	if (pw->nfree_commands < COMMANDS_KEPT) {
		c->next = pw->free_commands;
		pw->free_commands = c;
		pw->nfree_commands++;
	} else {
		buf_fini(&c->request);
		free(c);
	}
}

void session_put_query(struct buf *out, const char *sql, size_t n)
{
	size_t start = packet_begin(out, 0);

	buf_put_u8(out, COM_QUERY);
	buf_put(out, sql, n);
	packet_end(out, start);
}

/* --- life ------------------------------------------------------------------------------------------------------- */

static void on_login_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;

	(void)fd;
	(void)what;
	stats_error(s->pw->worker->stats, STAT_ERR_TIMEOUT);
	if (s->header == HEADER_MUST)
		log_warn("session %u (%s): no PROXY protocol header came within login_timeout", s->id, s->host);
	session_close(s, s->identity == NULL ? "login took too long" : "a command too large took too long");
}

void session_name_peer(struct session *s, const struct sockaddr_storage *peer)
{
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)peer;
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)peer;

	if (peer->ss_family == AF_INET) {
		inet_ntop(AF_INET, &v4->sin_addr, s->host, sizeof s->host);
	} else if (peer->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
		inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], s->host, sizeof s->host);
	} else if (peer->ss_family == AF_INET6) {
		inet_ntop(AF_INET6, &v6->sin6_addr, s->host, sizeof s->host);
	} else {
		snprintf(s->host, sizeof s->host, "localhost");
	}
	s->unix_peer = peer->ss_family != AF_INET && peer->ss_family != AF_INET6;
}

void session_open(struct proxy_worker *pw, int fd, const struct sockaddr_storage *peer, enum header header)
{
	static atomic_uint next_id = 1;
	struct session *s = xcalloc(1, sizeof *s);
	const struct config *config = pw->cluster.config;
	uint64_t ms = config->login_timeout_ms;
	struct timeval tv = {.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000)};

	s->magic = SESSION_MAGIC;
	s->pw = pw;
	s->id = atomic_fetch_add_explicit(&next_id, 1, memory_order_relaxed);
	s->last_server = -1;
	s->status = STATUS_AUTOCOMMIT;
	s->header = header;
	session_name_peer(s, peer);
	conn_init(&s->conn, pw->worker->base, fd, &client_ops);
	s->conn.outbox = &pw->worker->outbox;
	LIST_INSERT_HEAD(&pw->sessions, s, link);
	stats_clients(pw->worker->stats, 1);
	evtimer_assign(&s->deadline, pw->worker->base, on_login_deadline, s);
	event_add(&s->deadline, &tv);
	s->step = SESSION_HEADER;
	if (header == HEADER_MUST)
		conn_read_on(&s->conn);
	else
		login_greet(s);
}

static void destroy(void *p)
{
	struct session *s = p;

	state_clear(&s->want);
	prepared_free_all(s);
	touched_clear(&s->touched);
	free(s->touched.tables);
	free(s->touched.changes);
	free(s->discarded);
	free(s->pending);
	free(s->login_name);
	free(s->login_schema);
	s->magic = 0;
	free(s);
}

void session_close(struct session *s, const char *why)
{
	struct proxy_worker *pw = s->pw;

	if (s->step == SESSION_CLOSED)
		return;
	log_debug("session %u (%s@%s): %s", s->id, s->identity != NULL ? s->identity->user : "-", s->host, why);
	if (s->step == SESSION_WAIT)
		TAILQ_REMOVE(&pw->wait_primary, s, wait_link);
	bool mid_reply = s->step == SESSION_RELAY;
	settle_end_linger(s);
	s->step = SESSION_CLOSED;
	event_del(&s->deadline);
	conn_close(&s->conn);
	if (mid_reply)
		settle_unknown(s);
	else
		settle_unsent(s);
	/* A connection in the middle of a reply cannot be used again; one that holds a transaction or state is reset.
	 */
	if (s->current != NULL && (mid_reply || s->current != s->home)) {
		if (s->home == s->current)
			s->home = NULL;
		if (s->command != NULL && s->command->sent_any)
			atomic_fetch_sub_explicit(&s->current->pool->server->outstanding, 1, memory_order_relaxed);
		backend_close(s->current, false, "its client left in the middle of a reply");
	}
	s->current = NULL;
	command_free(s);
	settle_drop_home(s);
	if (s->identity != NULL)
		identity_put(&pw->cluster, &s->identity);
	defaults_unref(&s->base);
	LIST_REMOVE(s, link);
	stats_clients(pw->worker->stats, -1);
	atomic_fetch_sub_explicit(&pw->worker->load, 1, memory_order_relaxed);
	atomic_fetch_sub_explicit(&pw->proxy->clients, 1, memory_order_relaxed);
	worker_bury(pw->worker, s, destroy);
}

int session_send(struct session *s, const void *p, size_t n)
{
	if (conn_write(&s->conn, p, n) < 0) {
		session_close(s, "client went away");
		return -1;
	}
	return 0;
}

void session_error(struct session *s, unsigned code, const char *sqlstate, const char *fmt, ...)
{
	struct command *c = s->command;
	struct buf out = {0};
	char text[480];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	reply_err(&out, c != NULL ? c->seq : 1, code, sqlstate, "%s", text);
	int sent = session_send(s, out.data, out.len);
	buf_fini(&out);
	if (sent == 0)
		session_idle(s);
}

/* --- input ------------------------------------------------------------------------------------------------------ */

/* The bytes of the first whole command in data (several packets when it is 16 MB or more); 0 when more must come,
 * (size_t)-1 when it is malformed or too large. */
static size_t whole_command(struct session *s, struct slice data)
{
	uint64_t limit = s->step == SESSION_LOGIN || s->step == SESSION_SWITCH
				 ? 65536
				 : s->pw->cluster.config->max_allowed_packet;
	size_t at = 0, payload = 0;

	for (unsigned seq = 0;; seq++) {
		if (data.n - at < PACKET_HEADER)
			return 0;
		uint32_t len = get_u24(data.p + at);
		bool first_of_command = at == 0;
		if (s->step != SESSION_LOGIN && s->step != SESSION_SWITCH && data.p[at + 3] != (uint8_t)seq) {
			stats_error(s->pw->worker->stats, STAT_ERR_CLIENT_PROTOCOL);
			return (size_t)-1;
		}
		payload += len;
		if (payload > limit || (first_of_command && len == 0 && s->step == SESSION_IDLE))
			return (size_t)-1;
		if (data.n - at < PACKET_HEADER + (size_t)len)
			return 0;
		at += PACKET_HEADER + len;
		if (len < PACKET_MAX)
			return at;
	}
}

/* A client that does not read its answers gives no new commands. */
static bool takes_input(const struct session *s)
{
	return (s->step == SESSION_IDLE && s->discarded == NULL && conn_queued(&s->conn) < ANSWERS_MAX) ||
	       s->step == SESSION_HEADER || s->step == SESSION_LOGIN || s->step == SESSION_SWITCH;
}

/* Runs one whole command or login packet. */
static void take(struct session *s, struct slice packet)
{
	if (s->step != SESSION_IDLE) {
		login_packet(s, slice_of(packet.p + PACKET_HEADER, packet.n - PACKET_HEADER), packet.p[3]);
		return;
	}
	struct command *c = command_new(s);
	buf_clear(&c->request);
	buf_put(&c->request, packet.p, packet.n);
	c->code = packet.p[PACKET_HEADER];
	c->seq = 1;
	command_run(s);
}

static void say_and_close(struct session *s, unsigned seq, unsigned code, const char *text)
{
	struct buf out = {0};

	reply_err(&out, seq, code, "08S01", "%s", text);
	log_warn("session %u (%s): %s", s->id, s->host, text);
	conn_write(&s->conn, out.data, out.len);
	buf_fini(&out);
	session_close(s, text);
}

/* A command that is too large is read to its end and thrown away: an answer in the middle would be lost with the
 * connection while the client still sends. */
static void discard(struct session *s, const uint8_t *p, size_t n)
{
	struct discarded *d = s->discarded;

	while (n > 0) {
		if (d->nhead < PACKET_HEADER) {
			d->head[d->nhead++] = *p++;
			n--;
			if (d->nhead == PACKET_HEADER)
				d->left = get_u24(d->head);
		}
		size_t now = d->nhead < PACKET_HEADER ? 0 : d->left < n ? d->left : n;
		d->left -= (uint32_t)now;
		p += now;
		n -= now;
		if (d->nhead < PACKET_HEADER || d->left > 0)
			continue;
		if (get_u24(d->head) < PACKET_MAX) {
			say_and_close(s, d->head[3] + 1u, ER_NET_PACKET_TOO_LARGE,
				      "Got a packet bigger than 'max_allowed_packet' bytes");
			return;
		}
		d->nhead = 0;
	}
}

static void refuse_packet(struct session *s, struct slice data)
{
	uint64_t ms = s->pw->cluster.config->login_timeout_ms;
	struct timeval tv = {.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000)};

	if (s->step != SESSION_IDLE && proxy_header_begins(data)) {
		say_and_close(s, 1, ER_HANDSHAKE_ERROR, "A PROXY protocol header that is malformed, or not accepted "
							"here from this client (see proxy_protocol_networks)");
		return;
	}
	if (s->step != SESSION_IDLE || get_u24(data.p) == 0 || data.p[3] != 0) {
		say_and_close(s, 1, ER_HANDSHAKE_ERROR, "Malformed packet");
		return;
	}
	settle_drop_home(s);
	s->discarded = xcalloc(1, sizeof *s->discarded);
	event_add(&s->deadline, &tv);
	discard(s, data.p, data.n);
}

/* Takes whole commands off the front of data while the session can run them. Returns what was used, or -1 when the
 * session is closed. */
static ssize_t take_all(struct session *s, struct slice data)
{
	size_t used = 0;

	if (s->header != HEADER_NEVER) {
		bool more;
		ssize_t n = front_header(s, data, &more);
		if (n < 0 || more)
			return n;
		used = (size_t)n;
	}
	while (takes_input(s) && used < data.n) {
		size_t n = whole_command(s, slice_of(data.p + used, data.n - used));
		if (n == (size_t)-1) {
			refuse_packet(s, slice_of(data.p + used, data.n - used));
			return s->step == SESSION_CLOSED ? -1 : (ssize_t)data.n;
		}
		if (n == 0)
			break;
		take(s, slice_of(data.p + used, n));
		used += n;
	}
	return s->step == SESSION_CLOSED ? -1 : (ssize_t)used;
}

/* A client that has sent its last byte gets its answers to the end. */
static void close_when_told_all(struct session *s)
{
	if (!takes_input(s))
		return;
	conn_flush(&s->conn);
	if (conn_queued(&s->conn) == 0)
		session_close(s, "client closed the connection");
}

/* Goes on with what waits in conn.in, then reads again. */
void session_input(struct session *s)
{
	if (s->in_input) /* the loop below is on the stack already and will see it */
		return;
	s->in_input = true;
	struct buf *in = &s->conn.in;
	while (in->len > s->taken && takes_input(s)) {
		/* The buffer may grow while a command runs (it does not: nothing reads meanwhile), but is consumed here
		 * only after the command has copied what it needs. */
		ssize_t used = take_all(s, slice_of(in->data + s->taken, in->len - s->taken));
		if (used <= 0)
			break;
		s->taken += (size_t)used;
	}
	s->in_input = false;
	if (s->step == SESSION_CLOSED)
		return;
	if (s->taken == in->len) {
		buf_fini(in);
		s->taken = 0;
	} else if (s->taken > in->len / 2) { /* now and then, not for each small command of a long pipeline */
		buf_consume(in, s->taken);
		s->taken = 0;
	}
	if (s->half_closed) {
		close_when_told_all(s);
		return;
	}
	if (takes_input(s) || s->conn.in.len < PIPELINE_MAX)
		conn_read_on(&s->conn);
}

static void read_client(struct session *s, struct conn *conn)
{
	uint8_t *scratch = s->pw->worker->scratch;
	ssize_t n = conn_read(conn, scratch, WORKER_SCRATCH);

	if (n == -1)
		return;
	if (n < 0) {
		session_close(s, "client connection failed");
		return;
	}
	if (s->discarded != NULL) {
		if (n == 0)
			session_close(s, "client closed the connection");
		else
			discard(s, scratch, (size_t)n);
		return;
	}
	if (n == 0) {
		/* It may have shut down its side only, and wait for the answer. */
		s->half_closed = true;
		conn_read_off(conn);
		close_when_told_all(s);
		return;
	}
	if (conn->in.len > 0 || !takes_input(s)) {
		buf_put(&conn->in, scratch, (size_t)n);
	} else {
		s->in_input = true;
		ssize_t used = take_all(s, slice_of(scratch, (size_t)n));
		s->in_input = false;
		if (used < 0)
			return;
		if (used < n)
			buf_put(&conn->in, scratch + used, (size_t)(n - used));
		else
			return;
	}
	if (takes_input(s))
		session_input(s);
	else if (conn->in.len >= PIPELINE_MAX)
		conn_read_off(conn);
}

static void on_client_readable(struct conn *conn)
{
	struct session *s = of_conn(conn);

	read_client(s, conn);
	if (s->step != SESSION_CLOSED && takes_input(s) && conn_queued(conn) == 0)
		conn_read_again(conn);
}

static void on_client_drained(struct conn *conn)
{
	struct session *s = of_conn(conn);

	relay_client_drained(s);
	if (s->step == SESSION_IDLE && takes_input(s) && (s->conn.in.len > 0 || s->half_closed))
		session_input(s);
}

void session_idle(struct session *s)
{
	command_free(s);
	s->step = SESSION_IDLE;
	if (atomic_load_explicit(&s->pw->proxy->draining, memory_order_relaxed) && !session_bound(s)) {
		session_close(s, "the proxy stops");
		return;
	}
	if (s->conn.in.len > 0 || s->half_closed)
		session_input(s);
}
