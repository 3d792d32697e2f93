/* SPDX-License-Identifier: Apache-2.0 */
#include "session/front.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/proxy_header.h"
#include "session/session.h"

enum { BACKLOG = 1024, ACCEPT_PAUSE_MS = 100, ACCEPTS_A_TURN = 64,
       ORIGINAL_DST = 80 /* SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST of the kernel's netfilter headers */ };

struct listener {
	struct listener *next;
	struct front *front;
	struct addr addr;
	int fd;
	struct event ev, resume;
	bool accepting;
};

struct front {
	struct proxy *const *groups;
	pthread_mutex_t lock;
	struct config *config; /* the whole; under the lock */
	struct listener *listeners;
};

struct front *front_new(struct proxy *const *groups, unsigned n, struct config *whole)
{
	struct front *f = xcalloc(1, sizeof *f);

	f->groups = groups;
	f->config = config_ref(whole);
	pthread_mutex_init(&f->lock, NULL);
	for (unsigned i = 0; i < n; i++) {
		groups[i]->groups = groups;
		groups[i]->ngroups = n;
	}
	return f;
}

void front_reload(struct front *f, struct config *whole)
{
	pthread_mutex_lock(&f->lock);
	struct config *old = f->config;
	f->config = config_ref(whole);
	pthread_mutex_unlock(&f->lock);
	config_unref(old);
}

/* --- accepting ---------------------------------------------------------------------------------------------------- */

static struct config *config_now(struct front *f)
{
	pthread_mutex_lock(&f->lock);
	struct config *c = config_ref(f->config);
	pthread_mutex_unlock(&f->lock);
	return c;
}

struct newcomer {
	struct proxy_worker *pw;
	int fd;
	enum header header;
	struct sockaddr_storage peer;
};

static void take_client(struct worker *w, void *arg)
{
	struct newcomer *n = arg;

	(void)w;
	session_open(n->pw, n->fd, &n->peer, n->header);
	free(n);
}

static unsigned least_loaded(const struct proxy *p)
{
	unsigned best = 0;

	for (unsigned i = 1; i < p->nworkers; i++)
		if (atomic_load_explicit(&p->workers[i]->worker->load, memory_order_relaxed) <
		    atomic_load_explicit(&p->workers[best]->worker->load, memory_order_relaxed))
			best = i;
	return best;
}

/* Where the client of a redirected connection wanted to go; false when it was not redirected. */
static bool original_destination(int fd, const struct addr *here, struct sockaddr_storage *out, socklen_t *len)
{
	struct sockaddr_storage own;
	socklen_t n = sizeof own;

	*len = sizeof *out;
	if (getsockopt(fd, IPPROTO_IP, ORIGINAL_DST, out, len) == 0)
		return true;
	*len = sizeof *out;
	if (here->sa.ss_family == AF_INET6 && getsockopt(fd, IPPROTO_IPV6, ORIGINAL_DST, out, len) == 0)
		return true;
	/* TPROXY changes no address: the socket's own is the one that was wanted. */
	if (getsockname(fd, (struct sockaddr *)&own, &n) < 0 ||
	    (n == here->len && memcmp(&own, &here->sa, n) == 0))
		return false;
	*out = own;
	*len = n;
	return true;
}

static struct proxy *group_of(struct listener *l, const struct config *c, int fd)
{
	struct sockaddr_storage wanted;
	socklen_t len;
	int service = -1;

	if (l->addr.transparent && original_destination(fd, &l->addr, &wanted, &len))
		service = config_service_for(c, (struct sockaddr *)&wanted, len);
	return l->front->groups[service + 1];
}

static enum header header_of(const struct listener *l, const struct config *c, const struct sockaddr_storage *peer)
{
	if (!l->addr.transparent && config_trusts(c, (const struct sockaddr *)peer))
		return l->addr.proxy_protocol ? HEADER_MUST : HEADER_MAY;
	return HEADER_NEVER;
}

static void deal_out(struct listener *l, int fd, const struct sockaddr_storage *peer)
{
	struct newcomer *n = xmalloc(sizeof *n);
	struct config *c = config_now(l->front);
	struct proxy *p = group_of(l, c, fd);
	enum header header = header_of(l, c, peer);
	int on = 1;

	config_unref(c);
	if (l->addr.proxy_protocol && header == HEADER_NEVER) {
		log_warn("%s: a client that is not of proxy_protocol_networks is refused", l->addr.text);
		close(fd);
		free(n);
		return;
	}
	if (peer->ss_family != AF_UNIX) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
	}
	*n = (struct newcomer){.pw = p->workers[least_loaded(p)], .fd = fd, .header = header, .peer = *peer};
	atomic_fetch_add_explicit(&n->pw->worker->load, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&p->clients, 1, memory_order_relaxed);
	worker_post(n->pw->worker, take_client, n);
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
			if (l->addr.is_unix)
				peer.ss_family = AF_UNIX;
			deal_out(l, client, &peer);
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

static int listen_on(struct front *f, const struct addr *a)
{
	struct listener *l = xcalloc(1, sizeof *l);
	int on = 1;

	l->front = f;
	l->addr = *a;
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
	if (a->is_unix)
		chmod(a->host, 0777); /* as a server's socket: who may connect is a matter of accounts */
	l->next = f->listeners;
	f->listeners = l;
	log_info("listening on %s%s", a->text,
		 a->transparent ? " (transparent)" : a->proxy_protocol ? " (PROXY protocol)" : "");
	return 0;
}

int front_listen(struct front *f)
{
	for (unsigned i = 0; i < f->config->nlisten; i++)
		if (listen_on(f, &f->config->listen[i]) < 0)
			return -1;
	return 0;
}

void front_accepting(struct front *f, struct event_base *base)
{
	for (struct listener *l = f->listeners; l != NULL; l = l->next) {
		event_assign(&l->ev, base, l->fd, EV_READ | EV_PERSIST, on_accept, l);
		evtimer_assign(&l->resume, base, on_resume, l);
		event_add(&l->ev, NULL);
		l->accepting = true;
	}
}

void front_close(struct front *f)
{
	while (f->listeners != NULL) {
		struct listener *l = f->listeners;
		f->listeners = l->next;
		if (l->accepting) {
			event_del(&l->ev);
			event_del(&l->resume);
		}
		close(l->fd);
		if (l->addr.is_unix)
			unlink(l->addr.host);
		free(l);
	}
}

void front_free(struct front *f)
{
	front_close(f);
	config_unref(f->config);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

/* --- PROXY headers: on the session's worker ----------------------------------------------------------------------- */

/* The destination is another group's: the session, which is nobody's yet, goes there. */
static void go_over(struct session *s, struct proxy *to)
{
	struct proxy *from = s->pw->proxy;

	if (to == from)
		return;
	LIST_REMOVE(s, link);
	atomic_fetch_sub_explicit(&from->clients, 1, memory_order_relaxed);
	s->pw = to->workers[s->pw->worker->index];
	LIST_INSERT_HEAD(&s->pw->sessions, s, link);
	atomic_fetch_add_explicit(&to->clients, 1, memory_order_relaxed);
}

static void believe(struct session *s, const struct proxy_header *h)
{
	if (h->local)
		return;
	session_name_peer(s, &h->source);
	int service = config_service_for(s->pw->cluster.config, (const struct sockaddr *)&h->destination,
					 h->destination_len);
	go_over(s, s->pw->proxy->groups[service + 1]);
}

ssize_t front_header(struct session *s, struct slice data, bool *more)
{
	struct proxy_header h;
	ssize_t n = proxy_header_parse(data, &h);

	*more = n == 0;
	if (n == 0)
		return 0;
	bool must = s->header == HEADER_MUST;
	s->header = HEADER_NEVER;
	if (n > 0) {
		believe(s, &h);
	} else if (must) {
		stats_error(s->pw->worker->stats, STAT_ERR_CLIENT_PROTOCOL);
		log_warn("session %u (%s): not a PROXY protocol header, or a malformed one: this listener expects one",
			 s->id, s->host);
		session_close(s, "no PROXY protocol header");
		return -1;
	}
	if (must)
		login_greet(s);
	return s->step == SESSION_CLOSED ? -1 : n > 0 ? n : 0;
}
