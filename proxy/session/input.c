/* SPDX-License-Identifier: Apache-2.0
 *
 * What a client sends: bytes into whole commands. Those that arrive while one is in flight wait in conn.in and are
 * taken in order. How much is read is what may be held (budget.h): before the login a login's packet, of a large
 * command what was taken for it, of later commands a little.
 */
#include "session/session.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/proxy_header.h"

enum { LOGIN_MAX = 65536,      /* bytes of a login's packet */
       LOGIN_ROOM = LOGIN_MAX + PACKET_HEADER + PROXY_HEADER_MAX,
       PIPELINE_MAX = 1 << 20, /* bytes of later commands read ahead while one is in flight */
       ANSWERS_MAX = 1 << 18,  /* bytes of answers that the client has not taken yet */
       HOLDER_MB_US = 1000000, /* what a command may take to arrive, a megabyte, while others wait for its memory */
       TICK_US = 100000,       /* between two looks of those who wait */
       LOOK_US = 1000000 };    /* ... whether anybody waits for who has held for long */

static void on_client_readable(struct conn *c);
static void on_client_drained(struct conn *c);
const struct conn_ops input_ops = {on_client_readable, on_client_drained};

static struct session *of_conn(struct conn *c)
{
	struct session *s = (struct session *)((char *)c - offsetof(struct session, conn));

	if (s->magic != SESSION_MAGIC)
		abort();
	return s;
}

static bool logging_in(const struct session *s)
{
	return s->step == SESSION_LOGIN || s->step == SESSION_SWITCH;
}

/* The bytes of the first whole command in data (several packets when it is 16 MB or more); 0 when more must come,
 * (size_t)-1 when it is malformed or too large. */
static size_t whole_command(struct session *s, struct slice data)
{
	const struct config *config = s->pw->cluster.config;
	uint64_t limit = config->max_allowed_packet < config->client_memory ? config->max_allowed_packet
									    : config->client_memory;
	size_t at = 0, payload = 0;

	if (logging_in(s))
		limit = LOGIN_MAX;
	for (unsigned seq = 0;; seq++) {
		if (data.n - at < PACKET_HEADER)
			return 0;
		uint32_t len = get_u24(data.p + at);
		bool first_of_command = at == 0;
		if (!logging_in(s) && data.p[at + 3] != (uint8_t)seq) {
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
	       s->step == SESSION_HEADER || logging_in(s);
}

/* --- refusals --------------------------------------------------------------------------------------------------- */

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
			say_and_close(s, d->head[3] + 1u, d->code, d->why);
			return;
		}
		d->nhead = 0;
	}
}

/* The command that begins with data is refused when it has ended, and the connection with it. */
static void refuse_command(struct session *s, struct slice data, unsigned code, const char *why)
{
	uint64_t ms = s->pw->cluster.config->login_timeout_ms;
	struct timeval tv = {.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000)};

	home_drop(s);
	s->discarded = xcalloc(1, sizeof *s->discarded);
	s->discarded->code = code;
	s->discarded->why = why;
	event_add(&s->deadline, &tv);
	discard(s, data.p, data.n);
}

static void refuse_packet(struct session *s, struct slice data)
{
	if (s->step != SESSION_IDLE && proxy_header_begins(data)) {
		say_and_close(s, 1, ER_HANDSHAKE_ERROR, "A PROXY protocol header that is malformed, or not accepted "
							"here from this client (see proxy_protocol_networks)");
		return;
	}
	if (s->step != SESSION_IDLE || get_u24(data.p) == 0 || data.p[3] != 0) {
		say_and_close(s, 1, ER_HANDSHAKE_ERROR, "Malformed packet");
		return;
	}
	refuse_command(s, data, ER_NET_PACKET_TOO_LARGE, "Got a packet bigger than 'max_allowed_packet' bytes");
}

/* --- memory ----------------------------------------------------------------------------------------------------- */

/* What a large command costs: as it came, and on its way to the server. Never more than there is: it may be alone. */
static size_t cost_of(const struct session *s, uint64_t bytes)
{
	uint64_t limit = s->pw->cluster.config->client_memory;

	if (bytes <= BUDGET_FREE)
		return 0;
	return (size_t)(2 * bytes < limit ? 2 * bytes : limit);
}

static void wait_for_memory(struct session *s, size_t want)
{
	struct proxy_worker *pw = s->pw;

	conn_read_off(&s->conn);
	s->wants_memory = want;
	if (s->waits_memory_since != 0)
		return;
	s->waits_memory_since = topology_now_us();
	budget_waits(1);
	TAILQ_INSERT_TAIL(&pw->wait_memory, s, memory_link);
	idle_look_at(pw, s->waits_memory_since + TICK_US);
}

void input_waits_no_more(struct session *s)
{
	if (s->waits_memory_since == 0)
		return;
	s->waits_memory_since = 0;
	budget_waits(-1);
	TAILQ_REMOVE(&s->pw->wait_memory, s, memory_link);
}

/* While others wait, who holds memory for a command must get on with it. */
static int64_t must_be_here(const struct session *s)
{
	return s->input_since + (int64_t)s->pw->cluster.config->login_timeout_ms * 1000 +
	       (int64_t)(s->input_held >> 20) * HOLDER_MB_US;
}

static bool holds(const struct session *s)
{
	return s->input_held > 0 && s->step == SESSION_IDLE && s->discarded == NULL && s->waits_memory_since == 0;
}

bool input_dawdles(const struct session *s, int64_t now)
{
	return holds(s) && budget_somebody_waits() && now >= must_be_here(s);
}

int64_t input_due(const struct session *s, int64_t now)
{
	if (!holds(s))
		return INT64_MAX;
	return now < must_be_here(s) ? must_be_here(s) : now + LOOK_US;
}

/* The command that data begins is not all here. Is there memory for the rest? Its size is known when it is one packet;
 * of several, it may be the largest. */
static void expect_more(struct session *s, struct slice data)
{
	const struct config *config = s->pw->cluster.config;
	uint32_t len = data.n >= PACKET_HEADER ? get_u24(data.p) : 0;
	uint64_t bytes = len < PACKET_MAX ? PACKET_HEADER + (uint64_t)len : config->max_allowed_packet;
	size_t want = cost_of(s, bytes);

	if (s->step != SESSION_IDLE || want <= s->input_held)
		return;
	if (!budget_take(&s->input_held, want, config->client_memory)) {
		wait_for_memory(s, want);
		return;
	}
	s->input_since = topology_now_us();
	idle_look_at(s->pw, input_due(s, s->input_since));
}

/* How much may be read now. */
static size_t room(struct session *s)
{
	const struct config *config = s->pw->cluster.config;
	struct command *c = s->command;
	size_t in = s->conn.in.len;

	if (s->discarded != NULL)
		return WORKER_SCRATCH;
	if (s->identity == NULL)
		return in < LOGIN_ROOM ? LOGIN_ROOM - in : 0;
	if (takes_input(s) && (s->input_held > 0 || !budget_is_used_up(config->client_memory)))
		return WORKER_SCRATCH;
	if (in < BUDGET_FREE)
		return BUDGET_FREE - in;
	size_t ahead = PIPELINE_MAX + (c != NULL ? cost_of(s, c->request.len) : 0);
	if (in < PIPELINE_MAX && !takes_input(s) && budget_take(&s->input_held, ahead, config->client_memory))
		return PIPELINE_MAX - in < WORKER_SCRATCH ? PIPELINE_MAX - in : WORKER_SCRATCH;
	return 0;
}

/* The command is done: what it held is there for others. */
void input_command_ended(struct session *s)
{
	struct proxy_worker *pw = s->pw;
	struct session *next = TAILQ_FIRST(&pw->wait_memory);

	if (s->input_held == 0)
		return;
	budget_give(&s->input_held, s->conn.in.cap > BUDGET_FREE ? s->conn.in.cap : 0);
	if (next != NULL)
		idle_look_at(pw, topology_now_us());
}

/* Somebody has given back, perhaps on another worker. */
void input_look_for_memory(struct proxy_worker *pw, int64_t now)
{
	const struct config *config = pw->cluster.config;
	struct session *s = TAILQ_FIRST(&pw->wait_memory), *next;

	for (; s != NULL; s = next) {
		next = TAILQ_NEXT(s, memory_link);
		if (budget_take(&s->input_held, s->wants_memory, config->client_memory)) {
			s->input_since = now;
			input_waits_no_more(s);
			conn_read_on(&s->conn);
		} else if (now - s->waits_memory_since > (int64_t)config->pool_wait_ms * 1000) {
			struct buf in = s->conn.in;
			input_waits_no_more(s);
			s->conn.in = (struct buf){0};
			refuse_command(s, slice_of(in.data + s->taken, in.len - s->taken), ER_OUT_OF_RESOURCES,
				       "Out of memory: all that [proxy] client_memory allows is in use");
			s->taken = 0;
			buf_fini(&in);
			budget_give(&s->input_held, 0);
			conn_read_on(&s->conn);
		}
	}
	if (!TAILQ_EMPTY(&pw->wait_memory))
		idle_look_at(pw, now + TICK_US);
}

/* There is no memory for what came: of this client alone. */
static void no_memory(struct session *s, const uint8_t *p, size_t n)
{
	struct buf in = s->conn.in;

	if (!takes_input(s) || s->step != SESSION_IDLE) {
		session_close(s, "out of memory for what it sends");
		return;
	}
	s->conn.in = (struct buf){0};
	refuse_command(s, in.len > s->taken ? slice_of(in.data + s->taken, in.len - s->taken) : slice_of(p, n),
		       ER_OUT_OF_RESOURCES, "Out of memory");
	if (in.len > s->taken && s->step != SESSION_CLOSED)
		discard(s, p, n);
	s->taken = 0;
	buf_fini(&in);
	budget_give(&s->input_held, 0);
}

/* Returns false when there is no memory for it, and the session goes another way. */
static bool keep(struct session *s, const uint8_t *p, size_t n)
{
	if (buf_try_put(&s->conn.in, p, n))
		return true;
	no_memory(s, p, n);
	return false;
}

/* --- commands --------------------------------------------------------------------------------------------------- */

/* Takes the headers between the packets of one command out: behind the first is its payload, in one piece. */
static void join(struct buf *request)
{
	const uint8_t *from = request->data, *end = request->data + request->len;
	uint8_t *to = request->data + PACKET_HEADER;

	while (from < end) {
		uint32_t len = get_u24(from);
		memmove(to, from + PACKET_HEADER, len);
		to += len;
		from += PACKET_HEADER + len;
	}
	request->len = (size_t)(to - request->data);
}

/* One whole command. A large one that is all that there is is not copied. */
static void take(struct session *s, struct slice packet)
{
	struct command *c = command_new(s);
	struct buf *in = &s->conn.in;
	bool put = true;

	c->code = packet.p[PACKET_HEADER];
	c->seq = (uint8_t)(packet.n / (PACKET_HEADER + PACKET_MAX) + 1);
	if (packet.n > BUDGET_FREE)
		budget_note(&s->input_held, cost_of(s, packet.n));
	if (packet.n > BUDGET_FREE && packet.p == in->data && packet.n == in->len) {
		buf_fini(&c->request);
		c->request = *in;
		*in = (struct buf){0};
	} else {
		buf_clear(&c->request);
		put = buf_try_put(&c->request, packet.p, packet.n);
	}
	if (!put) {
		session_error(s, ER_OUT_OF_RESOURCES, "HY001", "Out of memory");
		return;
	}
	if (get_u24(c->request.data) == PACKET_MAX)
		join(&c->request);
	command_run(s);
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
		struct slice left = slice_of(data.p + used, data.n - used);
		size_t n = whole_command(s, left);
		if (n == (size_t)-1) {
			refuse_packet(s, left);
			return s->step == SESSION_CLOSED ? -1 : (ssize_t)data.n;
		}
		if (n == 0) {
			expect_more(s, left);
			break;
		}
		if (s->step == SESSION_IDLE)
			take(s, slice_of(left.p, n));
		else
			login_packet(s, slice_of(left.p + PACKET_HEADER, n - PACKET_HEADER), left.p[3]);
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

/* Forgets what was taken off the front of conn.in. */
static void drop_taken(struct session *s)
{
	struct buf *in = &s->conn.in;

	if (s->taken >= in->len) { /* all, or it has become a request */
		buf_fini(in);
		s->taken = 0;
		if (s->command == NULL)
			budget_give(&s->input_held, 0);
	} else if (s->taken > in->len / 2) { /* now and then, not for each small command of a long pipeline */
		buf_consume(in, s->taken);
		s->taken = 0;
	}
}

/* Goes on with what waits in conn.in, then reads again. */
void session_input(struct session *s)
{
	if (s->in_input) /* the loop below is on the stack already and will see it */
		return;
	s->in_input = true;
	struct buf *in = &s->conn.in;
	while (in->len > s->taken && takes_input(s)) {
		/* Nothing reads meanwhile; it is consumed here only after the command has copied what it needs. */
		ssize_t used = take_all(s, slice_of(in->data + s->taken, in->len - s->taken));
		if (used <= 0)
			break;
		s->taken += (size_t)used;
	}
	s->in_input = false;
	if (s->step == SESSION_CLOSED)
		return;
	drop_taken(s);
	if (s->half_closed) {
		close_when_told_all(s);
		return;
	}
	if (s->waits_memory_since == 0 && (takes_input(s) || room(s) > 0))
		conn_read_on(&s->conn);
}

static void take_end(struct session *s)
{
	if (s->discarded != NULL) {
		session_close(s, "client closed the connection");
		return;
	}
	/* It may have shut down its side only, and wait for the answer. */
	s->half_closed = true;
	conn_read_off(&s->conn);
	close_when_told_all(s);
}

static void take_bytes(struct session *s, const uint8_t *p, size_t n)
{
	size_t used = 0;

	if (s->conn.in.len == 0 && takes_input(s)) {
		s->in_input = true;
		ssize_t rc = take_all(s, slice_of(p, n));
		s->in_input = false;
		if (rc < 0)
			return;
		used = (size_t)rc;
		if (used == n || s->discarded != NULL)
			return;
	}
	if (!keep(s, p + used, n - used))
		return;
	s->active_us = topology_now_coarse_us();
	if (s->waits_memory_since != 0)
		budget_note(&s->input_held, s->conn.in.cap > BUDGET_FREE ? s->conn.in.cap : 0);
	if (takes_input(s) && s->waits_memory_since == 0)
		session_input(s);
	else if (room(s) == 0)
		conn_read_off(&s->conn);
}

static void read_client(struct session *s, struct conn *conn)
{
	uint8_t *scratch = s->pw->worker->scratch;
	size_t most = room(s);

	if (most == 0) {
		conn_read_off(conn);
		return;
	}
	ssize_t n = conn_read(conn, scratch, most < WORKER_SCRATCH ? most : WORKER_SCRATCH);
	if (n == -1)
		return;
	if (n < 0)
		session_close(s, "client connection failed");
	else if (n == 0)
		take_end(s);
	else if (s->discarded != NULL)
		discard(s, scratch, (size_t)n);
	else
		take_bytes(s, scratch, (size_t)n);
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

	s->active_us = topology_now_coarse_us();
	relay_client_drained(s);
	if (s->step == SESSION_IDLE && takes_input(s) && (s->conn.in.len > 0 || s->half_closed))
		session_input(s);
}
