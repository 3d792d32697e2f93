/* SPDX-License-Identifier: Apache-2.0 */
#include "session/proxy.h"

#include <stdlib.h>

#include "base/mem.h"
#include "session/session.h"

enum { LINGER_US = 1000000, LINGER_DIAGNOSTICS_US = 60000000 };
enum { OUT_KEPT = 256 * 1024 /* of a worker's buffer for messages, from turn to turn */ };

/* --- errands to its workers --------------------------------------------------------------------------------------- */

struct errand {
	struct proxy_worker *pw;
	void (*fn)(struct proxy_worker *pw, void *arg);
	void *arg;
};

static void run_errand(struct worker *w, void *arg)
{
	struct errand *e = arg;

	(void)w;
	e->fn(e->pw, e->arg);
	free(e);
}

static void post(struct proxy_worker *pw, void (*fn)(struct proxy_worker *pw, void *arg), void *arg)
{
	struct errand *e = xmalloc(sizeof *e);

	*e = (struct errand){pw, fn, arg};
	worker_post(pw->worker, run_errand, e);
}

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
	sql_memo_clear(pw->memo);
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
		bool list = s->diag.list_at == s->witness && s->witness->pool->nwaiting == 0;
		int64_t limit = list ? LINGER_DIAGNOSTICS_US : LINGER_US;
		bool due = s->step == SESSION_IDLE && now - s->witness_since >= limit;
		if (due)
			home_give_up(s); /* wakes who waits, and so may end any session: begin again */
		s = due ? TAILQ_FIRST(&pw->lingering) : TAILQ_NEXT(s, linger_link);
	}
	if (TAILQ_EMPTY(&pw->lingering))
		event_del(&pw->linger_tick);
}

struct proxy *proxy_new(struct worker *const *workers, unsigned n, struct config *config, struct freshness *freshness,
			const struct proxy_services *services)
{
	struct proxy *p = xcalloc(1, sizeof *p);

	p->services = *services;
	p->freshness = freshness;
	p->cache = cache_shared_new(config);
	p->nworkers = n;
	p->epoch = 1;
	p->workers = xcalloc(p->nworkers, sizeof *p->workers);
	for (unsigned i = 0; i < p->nworkers; i++) {
		struct proxy_worker *pw = xcalloc(1, sizeof *pw);
		pw->proxy = p;
		pw->worker = workers[i];
		LIST_INIT(&pw->sessions);
		TAILQ_INIT(&pw->wait_primary);
		TAILQ_INIT(&pw->lingering);
		TAILQ_INIT(&pw->wait_memory);
		event_assign(&pw->linger_tick, pw->worker->base, -1, EV_PERSIST, on_linger_tick, pw);
		idle_init(pw);
		cluster_init(&pw->cluster, pw->worker, p->nworkers, config, &p->epoch);
		pw->cache = cache_new(p->cache, pw->worker->base, config, pw->worker->stats);
		pw->memo = sql_memo_new();
		watch_rules(pw);
		pw->turn_end = (struct worker_hook){.fn = on_turn_end, .arg = pw};
		worker_at_turn_end(pw->worker, &pw->turn_end);
		p->workers[i] = pw;
	}
	return p;
}

/* --- snapshots ---------------------------------------------------------------------------------------------------- */

/* A server that hangs closes nothing: what runs there and may run elsewhere does not wait for it. */
static void leave_down_servers(struct proxy_worker *pw)
{
	const struct topology *t = pw->cluster.topology;
	struct session *s, *next;
	uint64_t down = 0;

	for (unsigned i = 0; i < t->n; i++)
		if (t->views[i].state == SERVER_DOWN)
			down |= UINT64_C(1) << t->views[i].server->id;
	if (down == 0)
		return;
	for (s = LIST_FIRST(&pw->sessions); s != NULL; s = next) {
		next = LIST_NEXT(s, link);
		if (s->current != NULL && (down & UINT64_C(1) << s->current->pool->server->id))
			relay_server_down(s);
	}
}

static void take_topology(struct proxy_worker *pw, void *arg)
{
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

static void take_accounts(struct proxy_worker *pw, void *arg)
{
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

static void take_catalog(struct proxy_worker *pw, void *arg)
{
	if (pw->catalog != NULL)
		catalog_unref(pw->catalog);
	pw->catalog = arg;
	watch_rules(pw);
}

static void take_config(struct proxy_worker *pw, void *arg)
{
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
		post(p->workers[i], take_topology, topology_ref(t));
	topology_unref(t);
}

void proxy_publish_accounts(struct proxy *p, struct accounts *a)
{
	for (unsigned i = 0; i < p->nworkers; i++)
		post(p->workers[i], take_accounts, accounts_ref(a));
	accounts_unref(a);
}

void proxy_publish_catalog(struct proxy *p, struct catalog *c)
{
	for (unsigned i = 0; i < p->nworkers; i++)
		post(p->workers[i], take_catalog, catalog_ref(c));
	catalog_unref(c);
}

void proxy_reload(struct proxy *p, struct config *config)
{
	for (unsigned i = 0; i < p->nworkers; i++)
		post(p->workers[i], take_config, config_ref(config));
}

void proxy_new_epoch(struct proxy *p)
{
	atomic_fetch_add_explicit(&p->epoch, 1, memory_order_acq_rel);
}

/* --- the end ------------------------------------------------------------------------------------------------------ */

static void close_quiet(struct proxy_worker *pw, void *arg)
{
	struct session *s, *next;

	(void)arg;
	for (s = LIST_FIRST(&pw->sessions); s != NULL; s = next) {
		next = LIST_NEXT(s, link);
		if ((s->step == SESSION_IDLE && !session_in_transaction(s)) || s->step == SESSION_HEADER ||
		    s->step == SESSION_LOGIN || s->step == SESSION_SWITCH || s->step == SESSION_REFRESH)
			session_close(s, "the proxy stops");
	}
}

void proxy_drain(struct proxy *p)
{
	if (atomic_exchange(&p->draining, true))
		return;
	for (unsigned i = 0; i < p->nworkers; i++)
		post(p->workers[i], close_quiet, NULL);
}

int proxy_clients(struct proxy *p)
{
	return atomic_load_explicit(&p->clients, memory_order_relaxed);
}

static void kill_session(struct proxy_worker *pw, void *arg)
{
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
		post(p->workers[i], kill_session, (void *)(uintptr_t)id);
}

static void close_all(struct proxy_worker *pw, void *arg)
{
	struct session *s;

	(void)arg;
	while ((s = LIST_FIRST(&pw->sessions)) != NULL)
		session_close(s, "the proxy stops");
}

void proxy_end(struct proxy *p)
{
	for (unsigned i = 0; i < p->nworkers; i++)
		post(p->workers[i], close_all, NULL);
}

void proxy_free(struct proxy *p)
{
	for (unsigned i = 0; i < p->nworkers; i++) {
		struct proxy_worker *pw = p->workers[i];
		event_del(&pw->linger_tick);
		event_del(&pw->idle_tick);
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
		sql_memo_free(pw->memo);
		free(pw);
	}
	cache_shared_free(p->cache);
	free(p->workers);
	free(p);
}
