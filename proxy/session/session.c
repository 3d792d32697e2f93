/* SPDX-License-Identifier: Apache-2.0
 *
 * A session's life: opened with a descriptor, driven by its client's bytes (input.c), closed once.
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

enum { COMMANDS_KEPT = 64,     /* free command structs a worker keeps */
       REQUEST_KEPT = 16384 }; /* a larger request buffer is not kept with them */

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

	buf_fini(&c->fill);
	buf_fini(&c->held);
	defaults_unref(&c->asked);
	free(c->changes);
	prepared_unmade(c);
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
	conn_init(&s->conn, pw->worker->base, fd, &input_ops);
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
	budget_give(&s->input_held, 0);
	touched_clear(&s->touched);
	free(s->touched.tables);
	free(s->touched.changes);
	free(s->discarded);
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
	input_waits_no_more(s);
	bool mid_reply = s->step == SESSION_RELAY;
	s->step = SESSION_CLOSED;
	event_del(&s->deadline);
	conn_close(&s->conn);
	if (mid_reply)
		settle_unknown(s);
	else
		settle_unsent(s);
	home_close(s, mid_reply);
	command_free(s);
	home_drop(s);
	login_forget(s);
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
	diag_error(s);
	reply_err(&out, c != NULL ? c->seq : 1, code, sqlstate, "%s", text);
	int sent = session_send(s, out.data, out.len);
	buf_fini(&out);
	if (sent == 0)
		session_idle(s);
}

void session_idle(struct session *s)
{
	command_free(s);
	s->step = SESSION_IDLE;
	input_command_ended(s);
	idle_begins(s);
	if (atomic_load_explicit(&s->pw->proxy->draining, memory_order_relaxed) && !session_bound(s)) {
		session_close(s, "the proxy stops");
		return;
	}
	if (s->conn.in.len > 0 || s->half_closed)
		session_input(s);
}
