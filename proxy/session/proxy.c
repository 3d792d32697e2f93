/* SPDX-License-Identifier: Apache-2.0 */
#include "session/proxy.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "session/session.h"

enum { LINGER_US = 1000000, LINGER_DIAGNOSTICS_US = 60000000 };
enum { OUT_KEPT = 256 * 1024 /* of a worker's buffer for messages, from turn to turn */ };
enum { BACKLOG = 1024, ACCEPT_PAUSE_MS = 100, ACCEPTS_A_TURN = 64 };

struct listener {
	struct listener *next;
	struct proxy *proxy;
	int fd;
	char path[108]; /* of a unix socket, to be removed */
	struct event ev, resume;
	bool accepting;
};

/* --- workers ------------------------------------------------------------------------------------------------------ */

static void on_turn_end(struct worker *w, void *arg)
{
	struct proxy_worker *pw = arg;

	(void)w;
	cache_end_turn(pw->cache);
	if (pw->out.cap > OUT_KEPT)
		buf_fini(&pw->out);
}

/* What the classifier is to look for. */
static void watch_rules(struct proxy_worker *pw)
{
	const struct config *config = pw->cluster.config;

	for (unsigned i = 0; i < config->nrules; i++) {
		const struct config_rule *r = &config->rules[i];
		const struct catalog_rule *known = pw->catalog != NULL ? &pw->catalog->rules[i] : NULL;
		pw->watch[i] = (struct sql_watch){
			.db = slice_str(r->db),
			.table = slice_str(r->table),
			.key = slice_str(r->key),
			.expires = slice_str(r->expires),
			.key_ordinal = known != NULL && known->found ? known->key_ordinal : -1,
			.columns = known != NULL && known->found ? known->columns : -1,
			.sole_unique = known != NULL && known->found && known->sole_unique,
		};
	}
	pw->nwatch = config->nrules;
	pw->watched_since++;
}

/* Connections that are kept for what they know of a session's last statements are not kept for ever: LAST_INSERT_ID()
 * is asked and remembered when its session is idle; diagnostics go when others wait, or after a minute. */
static void on_linger_tick(evutil_socket_t fd, short what, void *arg)
{
	struct proxy_worker *pw = arg;
	struct session *s = TAILQ_FIRST(&pw->lingering);
	int64_t now = topology_now_us();

	(void)fd;
	(void)what;
	while (s != NULL) {
		int64_t limit =
			!s->linger_diagnostics || s->home->pool->nwaiting > 0 ? LINGER_US : LINGER_DIAGNOSTICS_US;
		bool due = s->step == SESSION_IDLE && now - s->linger_since >= limit;
		if (due)
			settle_give_up_linger(s); /* wakes who waits, and so may end any session: begin again */
		s = due ? TAILQ_FIRST(&pw->lingering) : TAILQ_NEXT(s, linger_link);
	}
	if (TAILQ_EMPTY(&pw->lingering))
		event_del(&pw->linger_tick);
}

struct proxy *proxy_new(struct config *config, struct freshness *freshness, const struct proxy_services *services)
{
	struct proxy *p = xcalloc(1, sizeof *p);

	p->services = *services;
	p->freshness = freshness;
	p->cache = cache_shared_new(config);
	p->nworkers = config->workers;
	p->workers = xcalloc(p->nworkers, sizeof *p->workers);
	atomic_init(&p->next_id, 1);
	for (unsigned i = 0; i < p->nworkers; i++) {
		struct proxy_worker *pw = xcalloc(1, sizeof *pw);
		pw->proxy = p;
		pw->worker = worker_new(i);
		pw->worker->home = pw;
		LIST_INIT(&pw->sessions);
		TAILQ_INIT(&pw->wait_primary);
		TAILQ_INIT(&pw->lingering);
		event_assign(&pw->linger_tick, pw->worker->base, -1, EV_PERSIST, on_linger_tick, pw);
		cluster_init(&pw->cluster, pw->worker, p->nworkers, config);
		pw->cache = cache_new(p->cache, pw->worker->base, config, pw->worker->stats);
		watch_rules(pw);
		pw->worker->turn_end = on_turn_end;
		pw->worker->turn_arg = pw;
		p->workers[i] = pw;
	}
	return p;
}

void proxy_start(struct proxy *p)
{
	for (unsigned i = 0; i < p->nworkers; i++)
		worker_start(p->workers[i]->worker);
}

/* --- snapshots ---------------------------------------------------------------------------------------------------- */

/* A server that hangs closes nothing: what runs there and may run elsewhere does not wait for it. */
static void leave_down_servers(struct proxy_worker *pw)
{
	const struct topology *t = pw->cluster.topology;
	struct session *s, *next;
	uint32_t down = 0;

	for (unsigned i = 0; i < t->n; i++)
		if (t->views[i].state == SERVER_DOWN)
			down |= 1u << t->views[i].server->id;
	if (down == 0)
		return;
	for (s = LIST_FIRST(&pw->sessions); s != NULL; s = next) {
		next = LIST_NEXT(s, link);
		if (s->current != NULL && (down & 1u << s->current->pool->server->id))
			relay_server_down(s);
	}
}

static void take_topology(struct worker *w, void *arg)
{
	struct proxy_worker *pw = w->home;
	struct session *s;
	unsigned waiting = 0;

	cluster_publish(&pw->cluster, arg);
	leave_down_servers(pw);
	if (pw->cluster.topology->primary < 0)
		return;
	/* Once each: who must wait on queues up again behind the others. */
	TAILQ_FOREACH(s, &pw->wait_primary, wait_link)
		waiting++;
	while (waiting-- > 0 && (s = TAILQ_FIRST(&pw->wait_primary)) != NULL)
		dispatch_primary_came(s);
}

static void take_accounts(struct worker *w, void *arg)
{
	struct proxy_worker *pw = w->home;
	struct session *s, *next;

	if (pw->accounts != NULL)
		accounts_unref(pw->accounts);
	pw->accounts = arg;
	for (s = LIST_FIRST(&pw->sessions); s != NULL; s = next) {
		next = LIST_NEXT(s, link);
		if (s->step == SESSION_REFRESH)
			login_accounts_came(s);
	}
}

static void take_catalog(struct worker *w, void *arg)
{
	struct proxy_worker *pw = w->home;

	if (pw->catalog != NULL)
		catalog_unref(pw->catalog);
	pw->catalog = arg;
	watch_rules(pw);
}

static void take_config(struct worker *w, void *arg)
{
	struct proxy_worker *pw = w->home;
	struct session *s;

	LIST_FOREACH(s, &pw->sessions, link) { /* answers under way are of the old rules: they are not kept */
		struct command *c = s->command;
		if (c != NULL && c->leased)
			cache_abandon(pw->cache, &c->key, c->found.lease);
		if (c != NULL)
			c->leased = false;
	}
	cluster_reload(&pw->cluster, arg);
	cache_reload(pw->cache, arg);
	if (pw->catalog != NULL) { /* it is about the old rules: nothing is cached until the new one is here */
		catalog_unref(pw->catalog);
		pw->catalog = NULL;
	}
	watch_rules(pw);
}

void proxy_publish_topology(struct proxy *p, struct topology *t)
{
	for (unsigned i = 0; i < p->nworkers; i++)
		worker_post(p->workers[i]->worker, take_topology, topology_ref(t));
	topology_unref(t);
}

void proxy_publish_accounts(struct proxy *p, struct accounts *a)
{
	for (unsigned i = 0; i < p->nworkers; i++)
		worker_post(p->workers[i]->worker, take_accounts, accounts_ref(a));
	accounts_unref(a);
}

void proxy_publish_catalog(struct proxy *p, struct catalog *c)
{
	for (unsigned i = 0; i < p->nworkers; i++)
		worker_post(p->workers[i]->worker, take_catalog, catalog_ref(c));
	catalog_unref(c);
}

void proxy_reload(struct proxy *p, struct config *config)
{
	for (unsigned i = 0; i < p->nworkers; i++)
		worker_post(p->workers[i]->worker, take_config, config_ref(config));
}

/* --- accepting ---------------------------------------------------------------------------------------------------- */

struct newcomer {
	int fd;
	struct sockaddr_storage peer;
};

static void take_client(struct worker *w, void *arg)
{
	struct newcomer *n = arg;

	session_open(w->home, n->fd, &n->peer);
	free(n);
}

static struct proxy_worker *least_loaded(struct proxy *p)
{
	struct proxy_worker *best = p->workers[0];

	for (unsigned i = 1; i < p->nworkers; i++)
		if (atomic_load_explicit(&p->workers[i]->worker->load, memory_order_relaxed) <
		    atomic_load_explicit(&best->worker->load, memory_order_relaxed))
			best = p->workers[i];
	return best;
}

static void deal_out(struct proxy *p, int fd, const struct sockaddr_storage *peer)
{
	struct newcomer *n = xmalloc(sizeof *n);
	struct proxy_worker *pw = least_loaded(p);
	int on = 1;

	if (peer->ss_family != AF_UNIX) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
	}
	*n = (struct newcomer){.fd = fd, .peer = *peer};
	atomic_fetch_add_explicit(&pw->worker->load, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&p->clients, 1, memory_order_relaxed);
	worker_post(pw->worker, take_client, n);
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
	struct listener *l = arg;

	(void)fd;
	(void)what;
	event_add(&l->ev, NULL);
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
	struct listener *l = arg;
	struct timeval pause = {.tv_usec = ACCEPT_PAUSE_MS * 1000};

	(void)what;
	for (unsigned i = 0; i < ACCEPTS_A_TURN; i++) {
		struct sockaddr_storage peer = {.ss_family = AF_UNIX};
		socklen_t len = sizeof peer;
		int client = accept4(fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (client >= 0) {
			if (l->path[0] != '\0')
				peer.ss_family = AF_UNIX;
			deal_out(l->proxy, client, &peer);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			/* Out of descriptors: those who wait in the backlog are served when some client has left. */
			log_error("cannot accept: %s", strerror(errno));
			event_del(&l->ev);
			event_add(&l->resume, &pause);
		}
		return;
	}
}

/* A socket file that nobody listens on any more is what a killed process left. */
static void remove_stale(const struct addr *a)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return;
	if (connect(fd, (const struct sockaddr *)&a->sa, a->len) < 0 && errno == ECONNREFUSED)
		unlink(a->host);
	close(fd);
}

static int listen_on(struct proxy *p, const struct addr *a)
{
	struct listener *l = xcalloc(1, sizeof *l);
	int on = 1;

	l->proxy = p;
	l->fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (a->is_unix)
		remove_stale(a);
	else if (l->fd >= 0)
		setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (l->fd < 0 || bind(l->fd, (const struct sockaddr *)&a->sa, a->len) < 0 || listen(l->fd, BACKLOG) < 0) {
		log_error("cannot listen on %s: %s", a->text, strerror(errno));
		if (l->fd >= 0)
			close(l->fd);
		free(l);
		return -1;
	}
	if (a->is_unix) {
		strncpy(l->path, a->host, sizeof l->path - 1);
		chmod(l->path, 0777); /* as a server's socket: who may connect is a matter of accounts */
	}
	l->next = p->listeners;
	p->listeners = l;
	log_info("listening on %s", a->text);
	return 0;
}

int proxy_listen(struct proxy *p, const struct config *config)
{
	for (unsigned i = 0; i < config->nlisten; i++)
		if (listen_on(p, &config->listen[i]) < 0)
			return -1;
	return 0;
}

void proxy_accepting(struct proxy *p, struct event_base *base)
{
	for (struct listener *l = p->listeners; l != NULL; l = l->next) {
		event_assign(&l->ev, base, l->fd, EV_READ | EV_PERSIST, on_accept, l);
		evtimer_assign(&l->resume, base, on_resume, l);
		event_add(&l->ev, NULL);
		l->accepting = true;
	}
}

/* --- the end ------------------------------------------------------------------------------------------------------ */

static void stop_listening(struct proxy *p)
{
	while (p->listeners != NULL) {
		struct listener *l = p->listeners;
		p->listeners = l->next;
		if (l->accepting) {
			event_del(&l->ev);
			event_del(&l->resume);
		}
		close(l->fd);
		if (l->path[0] != '\0')
			unlink(l->path);
		free(l);
	}
}

static void close_quiet(struct worker *w, void *arg)
{
	struct proxy_worker *pw = w->home;
	struct session *s, *next;

	(void)arg;
	for (s = LIST_FIRST(&pw->sessions); s != NULL; s = next) {
		next = LIST_NEXT(s, link);
		if ((s->step == SESSION_IDLE && !session_in_transaction(s)) || s->step == SESSION_LOGIN ||
		    s->step == SESSION_SWITCH || s->step == SESSION_REFRESH)
			session_close(s, "the proxy stops");
	}
}

void proxy_drain(struct proxy *p)
{
	if (atomic_exchange(&p->draining, true))
		return;
	stop_listening(p);
	for (unsigned i = 0; i < p->nworkers; i++)
		worker_post(p->workers[i]->worker, close_quiet, NULL);
}

int proxy_clients(struct proxy *p)
{
	return atomic_load_explicit(&p->clients, memory_order_relaxed);
}

static void kill_session(struct worker *w, void *arg)
{
	struct proxy_worker *pw = w->home;
	struct session *s, *next;

	for (s = LIST_FIRST(&pw->sessions); s != NULL; s = next) {
		next = LIST_NEXT(s, link);
		if (s->id == (uint32_t)(uintptr_t)arg)
			session_close(s, "killed at the admin port");
	}
}

void proxy_kill(struct proxy *p, uint32_t id)
{
	for (unsigned i = 0; i < p->nworkers; i++)
		worker_post(p->workers[i]->worker, kill_session, (void *)(uintptr_t)id);
}

static void close_all(struct worker *w, void *arg)
{
	struct proxy_worker *pw = w->home;
	struct session *s;

	(void)arg;
	while ((s = LIST_FIRST(&pw->sessions)) != NULL)
		session_close(s, "the proxy stops");
}

void proxy_free(struct proxy *p)
{
	stop_listening(p);
	for (unsigned i = 0; i < p->nworkers; i++) {
		worker_post(p->workers[i]->worker, close_all, NULL);
		worker_stop(p->workers[i]->worker);
	}
	for (unsigned i = 0; i < p->nworkers; i++) {
		struct proxy_worker *pw = p->workers[i];
		event_del(&pw->linger_tick);
		cluster_fini(&pw->cluster);
		cache_free(pw->cache);
		if (pw->accounts != NULL)
			accounts_unref(pw->accounts);
		if (pw->catalog != NULL)
			catalog_unref(pw->catalog);
		while (pw->free_commands != NULL) {
			struct command *c = pw->free_commands;
			pw->free_commands = c->next;
			buf_fini(&c->request);
			free(c);
		}
		buf_fini(&pw->out);
		buf_fini(&pw->made);
		worker_free(pw->worker);
		free(pw);
	}
	cache_shared_free(p->cache);
	free(p->workers);
	free(p);
}
