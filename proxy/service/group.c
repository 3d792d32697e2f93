/* SPDX-License-Identifier: Apache-2.0 */
#include "service/group.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/mem.h"
#include "service/events.h"
#include "service/monitor.h"
#include "session/explain.h"

struct group {
	int service; /* index of its [service.X], -1: the default group */
	struct proxy *proxy;
	struct monitor *monitor;
	struct freshness *freshness;
	void (*changed)(void *arg);
	void *arg;
	pthread_mutex_t lock; /* guards what follows */
	struct config *config; /* a view */
	struct topology *topology;
	struct catalog *catalog;
	bool accounts_seen;
	uint64_t reloads; /* of the accounts */
	uint64_t primary_epoch;
};

/* --- snapshots, from the monitor's threads ------------------------------------------------------------------------ */

static void on_topology(void *arg, struct topology *t)
{
	struct group *g = arg;

	pthread_mutex_lock(&g->lock);
	if (g->topology != NULL)
		topology_unref(g->topology);
	g->topology = topology_ref(t);
	bool new_primary = t->primary_epoch != g->primary_epoch && g->primary_epoch != 0;
	g->primary_epoch = t->primary_epoch;
	pthread_mutex_unlock(&g->lock);
	/* Before anyone can write to it: what was replicated asynchronously may be lost, the cache must not remember
	 * it. */
	if (new_primary)
		cache_new_primary(g->proxy->cache);
	proxy_publish_topology(g->proxy, t);
	g->changed(g->arg);
}

static void on_accounts(void *arg, struct accounts *a)
{
	struct group *g = arg;

	pthread_mutex_lock(&g->lock);
	g->accounts_seen = true;
	bool reloaded = a->reloads != g->reloads;
	g->reloads = a->reloads;
	pthread_mutex_unlock(&g->lock);
	if (reloaded) /* answers may be kept as allowed by these rights that older ones had allowed */
		cache_flush(g->proxy->cache, NULL);
	proxy_publish_accounts(g->proxy, a);
	g->changed(g->arg);
}

static void on_catalog(void *arg, struct catalog *c)
{
	struct group *g = arg;

	pthread_mutex_lock(&g->lock);
	if (g->catalog != NULL)
		catalog_unref(g->catalog);
	g->catalog = catalog_ref(c);
	pthread_mutex_unlock(&g->lock);
	proxy_publish_catalog(g->proxy, c);
	g->changed(g->arg);
}

static void on_defaults(void *arg)
{
	struct group *g = arg;

	proxy_new_epoch(g->proxy);
}

static void on_event(void *arg, const char *kind, const char *server, const char *text)
{
	(void)arg;
	events_add(kind, server, text);
}

/* --- what the session layer asks of the monitor ------------------------------------------------------------------- */

static void poke(void *arg, enum proxy_poke what)
{
	static const enum monitor_poke pokes[] = {[PROXY_POKE_SERVERS] = POKE_SERVERS,
						  [PROXY_POKE_CATALOG] = POKE_CATALOG};
	struct group *g = arg;

	monitor_poke(g->monitor, pokes[what]);
}

static uint64_t catalog_request(void *arg)
{
	struct group *g = arg;

	return monitor_catalog_request(g->monitor);
}

static uint64_t accounts_request(void *arg)
{
	struct group *g = arg;

	return monitor_accounts_request(g->monitor);
}

/* --- life --------------------------------------------------------------------------------------------------------- */

struct group *group_new(struct worker *const *workers, unsigned n, struct config *whole, int service,
			void (*changed)(void *arg), void *arg)
{
	struct group *g = xcalloc(1, sizeof *g);
	struct proxy_services services = {g, poke, catalog_request, accounts_request};

	g->service = service;
	g->changed = changed;
	g->arg = arg;
	pthread_mutex_init(&g->lock, NULL);
	g->config = config_view(whole, service);
	g->freshness = freshness_new();
	g->proxy = proxy_new(workers, n, g->config, g->freshness, &services);
	return g;
}

void group_watch(struct group *g)
{
	struct monitor_sink sink = {g, on_topology, on_accounts, on_catalog, on_defaults, on_event};

	g->monitor = monitor_start(g->config, g->freshness, &sink);
}

void group_unwatch(struct group *g)
{
	monitor_stop(g->monitor);
}

void group_free(struct group *g)
{
	proxy_free(g->proxy);
	monitor_free(g->monitor);
	freshness_free(g->freshness);
	topology_unref(g->topology);
	if (g->catalog != NULL)
		catalog_unref(g->catalog);
	config_unref(g->config);
	pthread_mutex_destroy(&g->lock);
	free(g);
}

struct proxy *group_proxy(const struct group *g)
{
	return g->proxy;
}

static bool replicas_are_fresh(const struct topology *t)
{
	int64_t now = topology_now_us();

	for (unsigned i = 0; i < t->n; i++) {
		const struct server_view *v = &t->views[i];
		bool serves = v->role == ROLE_REPLICA && v->state == SERVER_UP && !v->drained && !v->unlike &&
			      v->weight > 0;
		if (serves && !topology_readable(t, i, now))
			return false;
	}
	return true;
}

bool group_known(struct group *g, bool *fresh)
{
	pthread_mutex_lock(&g->lock);
	bool known = g->accounts_seen && g->catalog != NULL && g->topology != NULL && g->topology->primary >= 0;
	*fresh = known && replicas_are_fresh(g->topology);
	pthread_mutex_unlock(&g->lock);
	return known;
}

void group_reload(struct group *g, struct config *whole)
{
	struct config *view = config_view(whole, g->service);

	pthread_mutex_lock(&g->lock);
	struct config *old = g->config;
	g->config = view;
	pthread_mutex_unlock(&g->lock);
	/* What is known of cached tables is about the old rules, and so is what is being read just now. */
	atomic_store(&g->proxy->catalog_needed, UINT64_MAX);
	proxy_reload(g->proxy, view);
	monitor_reload(g->monitor, view);
	atomic_store(&g->proxy->catalog_needed, monitor_catalog_request(g->monitor));
	config_unref(old);
}

struct topology *group_topology(struct group *g)
{
	pthread_mutex_lock(&g->lock);
	struct topology *t = topology_ref(g->topology);
	pthread_mutex_unlock(&g->lock);
	return t;
}

struct config *group_config(struct group *g)
{
	pthread_mutex_lock(&g->lock);
	struct config *c = config_ref(g->config);
	pthread_mutex_unlock(&g->lock);
	return c;
}

void group_explain(struct group *g, struct slice sql, const char *schema,
		   void (*row)(void *arg, const char *name, const char *value), void *arg)
{
	struct config *config = group_config(g);
	struct topology *topology = group_topology(g);

	pthread_mutex_lock(&g->lock);
	struct catalog *catalog = g->catalog != NULL ? catalog_ref(g->catalog) : NULL;
	pthread_mutex_unlock(&g->lock);
	bool trusted = catalog != NULL && catalog->generation >= atomic_load(&g->proxy->catalog_needed);
	explain_route(&(struct explain_world){config, topology, trusted ? catalog : NULL, g->freshness}, sql, schema,
		      row, arg);
	config_unref(config);
	topology_unref(topology);
	if (catalog != NULL)
		catalog_unref(catalog);
}

int group_drain(struct group *g, const char *server, bool drained)
{
	return monitor_drain(g->monitor, server, drained);
}
