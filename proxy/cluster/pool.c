/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/pool.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "cluster/backend.h"

enum { PATIENCE_US = 20000, /* another user's waiter is served first when it has waited that much longer */
       LOOK_FOR_STATE = 8, /* idle connections looked at for one that is in the wanted state already */
       SWEEP_SECONDS = 5,
       REFUSED_US = 1000000 };

uint32_t identity_caps(uint32_t caps)
{
	return caps & (CAP_FOUND_ROWS | CAP_LONG_FLAG | CAP_NO_SCHEMA | CAP_ODBC | CAP_IGNORE_SPACE | CAP_INTERACTIVE |
		       CAP_MULTI_STATEMENTS | CAP_MULTI_RESULTS | CAP_PS_MULTI_RESULTS);
}

uint32_t identity_xcaps(uint32_t xcaps)
{
	return xcaps & XCAP_EXTENDED_METADATA;
}

/* --- identities ------------------------------------------------------------------------------------------------- */

struct identity *identity_get(struct cluster *c, struct slice user, const uint8_t *stage1, uint32_t caps,
			      uint32_t xcaps, uint16_t collation)
{
	struct identity *id;

	LIST_FOREACH(id, &c->identities, link) {
		if (id->caps == caps && id->xcaps == xcaps && id->collation == collation &&
		    id->has_password == (stage1 != NULL) && slice_eq(slice_str(id->user), user) &&
		    (stage1 == NULL || memcmp(id->stage1, stage1, AUTH_SHA1) == 0))
			break;
	}
	if (id == NULL) {
		id = secret_alloc(sizeof *id); /* stage1 is as good as the password */
		id->user = xstrndup((const char *)user.p, user.n);
		id->has_password = stage1 != NULL;
		if (stage1 != NULL)
			memcpy(id->stage1, stage1, AUTH_SHA1);
		id->caps = caps;
		id->xcaps = xcaps;
		id->collation = collation;
		id->stats_user = stats_user_id(id->user);
		LIST_INSERT_HEAD(&c->identities, id, link);
	}
	id->refs++;
	return id;
}

void pool_forget_born(struct pool *p)
{
	defaults_unref(&p->born);
	defaults_unref(&p->ground);
	defaults_unref(&p->ground_base);
	buf_fini(&p->fix);
	p->mark[0] = '\0';
}

static void pool_free(struct pool *p)
{
	pool_forget_born(p);
	server_unref(p->server);
	free(p);
}

static void identity_free(struct identity *id)
{
	LIST_REMOVE(id, link);
	for (unsigned i = 0; i < STATS_SERVERS; i++)
		if (id->pools[i] != NULL)
			pool_free(id->pools[i]);
	defaults_unref(&id->base);
	explicit_bzero(id->stage1, sizeof id->stage1);
	free(id->user);
	secret_free(id);
}

void identity_put(struct cluster *c, struct identity **giver)
{
	struct identity *id = *giver;

	(void)c;
	*giver = NULL;
	id->refs--; /* the sweeper frees it: the next page of the same application logs in alike */
}

/* --- pools ------------------------------------------------------------------------------------------------------ */

static const struct server_view *view_of(const struct pool *p)
{
	const struct topology *t = p->cluster->topology;

	for (unsigned i = 0; t != NULL && i < t->n; i++)
		if (t->views[i].server == p->server)
			return &t->views[i];
	return NULL;
}

/* Each worker has its share, so that no worker waits for another one's connections. */
static unsigned share(const struct pool *p)
{
	const struct server_view *v = view_of(p);
	unsigned max = v != NULL && v->max_connections > 0 ? v->max_connections / p->cluster->workers : 64;

	return max > 0 ? max : 1;
}

static struct pool *pool_of(struct cluster *c, struct identity *id, struct server *server)
{
	struct pool *p = id->pools[server->id];

	if (p != NULL && p->server != server && p->nopen == 0 && p->nwaiting == 0) {
		pool_free(p); /* the id was given to another server */
		p = NULL;
	}
	if (p == NULL) {
		p = xcalloc(1, sizeof *p);
		p->cluster = c;
		p->identity = id;
		p->server = server_ref(server);
		TAILQ_INIT(&p->idle);
		TAILQ_INIT(&p->making);
		TAILQ_INIT(&p->waiters);
		id->pools[server->id] = p;
	}
	return p;
}

bool pool_is_primarys(const struct pool *p)
{
	const struct server_view *v = view_of(p);

	return v != NULL && v->role == ROLE_PRIMARY;
}

static bool fits(const struct backend *b, uint64_t epoch, bool primarys)
{
	return b->epoch >= epoch && b->base == b->pool->identity->base && b->read_only == !primarys;
}

bool pool_may_lend(const struct backend *b)
{
	return fits(b, atomic_load_explicit(b->pool->cluster->epoch, memory_order_acquire), pool_is_primarys(b->pool));
}

static void own(struct pool *p, struct backend *b)
{
	TAILQ_REMOVE(&p->idle, b, link);
	p->nidle--;
	b->step = BACKEND_OWNED;
	stats_server_connections(p->cluster->worker->stats, p->server->id, -1, 1);
}

/* Another identity's idle connection makes room. */
static bool evict_one(struct pool *p)
{
	struct identity *id;
	struct backend *oldest = NULL;

	LIST_FOREACH(id, &p->cluster->identities, link) {
		struct pool *other = id->pools[p->server->id];
		struct backend *b = other != NULL ? TAILQ_LAST(&other->idle, backend_list) : NULL;
		if (b != NULL && (oldest == NULL || b->idle_since < oldest->idle_since))
			oldest = b;
	}
	if (oldest == NULL)
		return false;
	backend_close(oldest, false, "makes room for another user");
	return true;
}

static void grow(struct pool *p)
{
	while (p->nconnecting < p->nwaiting) {
		if (p->cluster->open[p->server->id] < share(p))
			backend_connect(p);
		else if (!evict_one(p)) /* what it closes wakes who has waited longest: look again */
			return;
	}
}

/* A server judges a connection by the rights that it had when it logged in, or when it last changed its schema: after a
 * change, whoever logs in now must not be lent one from before. */
static void note_rights(struct pool *p, const uint8_t *rights)
{
	struct backend *b;

	if (rights == NULL || memcmp(p->rights, rights, sizeof p->rights) == 0)
		return;
	memcpy(p->rights, rights, sizeof p->rights);
	while ((b = TAILQ_FIRST(&p->idle)) != NULL)
		backend_close(b, false, "its account's rights have changed");
}

static struct backend *choose(struct pool *p, const struct pool_taste *taste)
{
	struct backend *b, *alike = NULL;
	unsigned looked = 0;

	TAILQ_FOREACH(b, &p->idle, link) {
		if (b->thread_id == taste->thread_id && b->uses == taste->uses)
			return b;
		if (alike == NULL && b->have.hash == taste->state_hash)
			alike = b;
		if (++looked == LOOK_FOR_STATE)
			break;
	}
	return alike != NULL ? alike : TAILQ_FIRST(&p->idle);
}

struct backend *pool_get(struct cluster *c, struct identity *id, unsigned index, const struct pool_taste *taste,
			 struct pool_wait *wait)
{
	const struct server_view *view = &c->topology->views[index];
	struct pool *p = pool_of(c, id, view->server);
	uint64_t epoch = atomic_load_explicit(c->epoch, memory_order_acquire);
	struct backend *b;

	note_rights(p, taste->rights);

	while ((b = TAILQ_EMPTY(&p->waiters) ? choose(p, taste) : NULL) != NULL) {
		if (!fits(b, epoch, view->role == ROLE_PRIMARY)) {
			backend_close(b, false, "of other defaults than now");
			continue;
		}
		own(p, b);
		return b;
	}
	wait->pool = p;
	wait->since = topology_now_us();
	wait->epoch = epoch;
	TAILQ_INSERT_TAIL(&p->waiters, wait, link);
	p->nwaiting++;
	grow(p);
	return NULL;
}

uint32_t pool_refusing(const struct cluster *c, const struct identity *id, int64_t now_us)
{
	const struct topology *t = c->topology;
	uint32_t bits = 0;

	if (id->refused_us == 0 || now_us - id->refused_us > REFUSED_US)
		return 0;
	for (unsigned i = 0; t != NULL && i < t->n; i++) {
		const struct pool *p = id->pools[t->views[i].server->id];
		if (p != NULL && p->refused_us != 0 && now_us - p->refused_us <= REFUSED_US)
			bits |= 1u << i;
	}
	return bits;
}

void pool_settle(struct cluster *c, struct identity *id)
{
	const struct topology *t = c->topology;

	if (identity_settled(c, id) || t == NULL || t->primary < 0)
		return;
	struct pool *p = pool_of(c, id, t->views[t->primary].server);
	if (p->nconnecting == 0 && c->open[p->server->id] < share(p) &&
	    atomic_load_explicit(&p->server->failed, memory_order_acquire) == 0)
		backend_connect(p);
}

void pool_cancel(struct pool_wait *wait)
{
	if (wait->pool == NULL)
		return;
	TAILQ_REMOVE(&wait->pool->waiters, wait, link);
	wait->pool->nwaiting--;
	wait->pool = NULL;
}

static struct pool_wait *next_waiter(struct pool *p)
{
	struct pool_wait *w = TAILQ_FIRST(&p->waiters);

	if (w != NULL)
		pool_cancel(w);
	return w;
}

void pool_making(struct backend *b)
{
	TAILQ_INSERT_TAIL(&b->pool->making, b, link);
	b->pool->nconnecting++;
}

static void pool_made(struct backend *b)
{
	TAILQ_REMOVE(&b->pool->making, b, link);
	b->pool->nconnecting--;
}

/* Users share a server's connections: one that becomes free makes room for another user's who waits for it, and has
 * nobody else to be woken by. */
static bool yields(const struct pool *p)
{
	const struct pool_wait *mine = TAILQ_FIRST(&p->waiters);
	struct identity *id;

	if (p->cluster->open[p->server->id] < share(p))
		return false;
	LIST_FOREACH(id, &p->cluster->identities, link) {
		const struct pool *other = id->pools[p->server->id];
		if (other == NULL || other == p || other->nwaiting <= other->nconnecting)
			continue;
		if (mine == NULL || TAILQ_FIRST(&other->waiters)->since + PATIENCE_US < mine->since)
			return true;
	}
	return false;
}

static bool leaves(const struct pool *p)
{
	const struct server_view *v = view_of(p);

	return v == NULL || (v->drained && v->role != ROLE_PRIMARY);
}

/* Who waits for a server that gives no connections any more goes elsewhere. */
static void send_away(struct pool *p)
{
	struct backend_error e = {.code = CR_CONN_HOST_ERROR, .sqlstate = "HY000"};

	snprintf(e.text, sizeof e.text, "server '%s' is drained or left", p->server->name);
	for (unsigned n = p->nwaiting; n > 0 && p->nwaiting > 0; n--) {
		struct pool_wait *w = next_waiter(p);
		w->done(w, NULL, &e);
	}
}

void pool_ready(struct backend *b)
{
	struct pool *p = b->pool;
	struct stats *stats = p->cluster->worker->stats;

	if (b->step == BACKEND_SETUP)
		pool_made(b);
	if (leaves(p)) {
		b->step = BACKEND_OWNED; /* as pool_closed counts it */
		send_away(p);
		backend_close(b, false, "its server is drained or left");
		return;
	}
	bool outdated = memcmp(b->rights, p->rights, sizeof b->rights) != 0;
	if (outdated || yields(p)) {
		b->step = BACKEND_OWNED;
		backend_close(b, false, outdated ? "its account's rights have changed" : "makes room for another user");
		if (outdated)
			grow(p);
		return;
	}
	struct pool_wait *w = TAILQ_FIRST(&p->waiters);
	if (w != NULL ? !fits(b, w->epoch, pool_is_primarys(p)) : !pool_may_lend(b)) {
		b->step = BACKEND_OWNED;
		backend_close(b, false, "of other defaults than now"); /* makes another for who waits */
		return;
	}
	w = next_waiter(p);
	if (w != NULL) {
		b->step = BACKEND_OWNED;
		w->done(w, b, NULL);
		return;
	}
	b->step = BACKEND_IDLE;
	b->idle_since = topology_now_coarse_us();
	TAILQ_INSERT_HEAD(&p->idle, b, link);
	p->nidle++;
	stats_server_connections(stats, p->server->id, 1, -1);
}

void pool_failed(struct pool *p, const struct backend_error *error)
{
	if (error->from_server && error->code != ER_CON_COUNT_ERROR && !pool_is_primarys(p))
		p->refused_us = p->identity->refused_us = topology_now_us();
	/* Too many connections, but there are others of ours, or on their way: their turn comes. */
	if (error->code == ER_CON_COUNT_ERROR && p->nopen > 0)
		return;
	for (unsigned n = p->nopen > 0 ? 1 : p->nwaiting; n > 0; n--) { /* the last one takes all hope with it */
		struct pool_wait *w = next_waiter(p);
		if (w != NULL)
			w->done(w, NULL, error);
	}
}

void pool_closed(struct backend *b)
{
	struct pool *p = b->pool;
	struct cluster *c = p->cluster;
	struct identity *id;

	if (b->step == BACKEND_IDLE) {
		TAILQ_REMOVE(&p->idle, b, link);
		p->nidle--;
		stats_server_connections(c->worker->stats, p->server->id, -1, 0);
	} else {
		stats_server_connections(c->worker->stats, p->server->id, 0, -1);
	}
	if (b->step < BACKEND_IDLE)
		pool_made(b);
	p->nopen--;
	c->open[p->server->id]--;
	atomic_fetch_sub_explicit(&p->server->connections, 1, memory_order_relaxed);
	/* The room may be what somebody waits for: who has waited longest. */
	struct pool *next = NULL;
	LIST_FOREACH(id, &c->identities, link) {
		struct pool *other = id->pools[p->server->id];
		if (other != NULL && other->nwaiting > other->nconnecting && (b->step >= BACKEND_IDLE || b->tainted) &&
		    (next == NULL || TAILQ_FIRST(&other->waiters)->since < TAILQ_FIRST(&next->waiters)->since))
			next = other;
	}
	if (next != NULL)
		grow(next);
}

/* --- the worker's cluster --------------------------------------------------------------------------------------- */

static void sweep_pool(struct pool *p, int64_t now)
{
	struct backend *b, *next;
	int64_t limit = (int64_t)p->cluster->config->pool_idle_ms * 1000;
	bool leave = leaves(p);

	while ((b = TAILQ_LAST(&p->idle, backend_list)) != NULL && (leave || now - b->idle_since > limit))
		backend_close(b, false, leave ? "its server is drained or left" : "idle");
	for (b = TAILQ_FIRST(&p->idle); b != NULL; b = next) {
		next = TAILQ_NEXT(b, link);
		if (!pool_may_lend(b))
			backend_close(b, false, "of other defaults than now");
	}
}

static void sweep(struct cluster *c)
{
	struct identity *id = LIST_FIRST(&c->identities), *next;
	int64_t now = topology_now_us();

	for (; id != NULL; id = next) {
		bool empty = true;
		next = LIST_NEXT(id, link);
		for (unsigned i = 0; i < STATS_SERVERS; i++) {
			if (id->pools[i] == NULL)
				continue;
			sweep_pool(id->pools[i], now);
			empty &= id->pools[i]->nopen == 0 && id->pools[i]->nwaiting == 0;
		}
		if (id->refs == 0 && empty)
			identity_free(id);
	}
}

static void on_sweep(evutil_socket_t fd, short what, void *arg)
{
	struct cluster *c = arg;

	(void)fd;
	(void)what;
	sweep(c);
}

void cluster_init(struct cluster *c, struct worker *w, unsigned workers, struct config *config,
		  _Atomic uint64_t *epoch)
{
	struct timeval tv = {.tv_sec = SWEEP_SECONDS};

	*c = (struct cluster){.worker = w, .workers = workers, .config = config_ref(config), .epoch = epoch};
	LIST_INIT(&c->identities);
	LIST_INIT(&c->defaults);
	event_assign(&c->sweeper, w->base, -1, EV_PERSIST, on_sweep, c);
	event_add(&c->sweeper, &tv);
}

void cluster_fini(struct cluster *c)
{
	struct identity *id;

	event_del(&c->sweeper);
	while ((id = LIST_FIRST(&c->identities)) != NULL) {
		for (unsigned i = 0; i < STATS_SERVERS; i++) {
			struct backend *b;
			while (id->pools[i] != NULL && ((b = TAILQ_FIRST(&id->pools[i]->idle)) != NULL ||
							(b = TAILQ_FIRST(&id->pools[i]->making)) != NULL))
				backend_close(b, false, "the proxy stops");
		}
		identity_free(id);
	}
	config_unref(c->config);
	if (c->topology != NULL)
		topology_unref(c->topology);
}

void cluster_publish(struct cluster *c, struct topology *t)
{
	struct identity *id;

	/* Another primary: what its sessions inherit may be something else. It is known here from now on. */
	if (c->topology != NULL && c->topology->primary_epoch != t->primary_epoch)
		atomic_fetch_add_explicit(c->epoch, 1, memory_order_acq_rel);
	if (c->topology != NULL)
		topology_unref(c->topology);
	c->topology = t;
	LIST_FOREACH(id, &c->identities, link) {
		for (unsigned i = 0; i < STATS_SERVERS; i++)
			if (id->pools[i] != NULL && id->pools[i]->nwaiting > 0 && leaves(id->pools[i]))
				send_away(id->pools[i]);
	}
}

void cluster_reload(struct cluster *c, struct config *config)
{
	config_unref(c->config);
	c->config = config;
}
