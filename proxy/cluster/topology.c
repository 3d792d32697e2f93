/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/topology.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/stats.h"

_Static_assert((int)SERVER_IDS == (int)STATS_NO_SERVER, "a server's id is an index of its counters");

const char *server_role_name(enum server_role r)
{
	static const char *const names[] = {"unknown", "primary", "replica"};
	return names[r];
}

const char *server_state_name(enum server_state s)
{
	return s == SERVER_UP ? "up" : "down";
}

struct server *server_ref(struct server *s)
{
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	return s;
}

void server_unref(struct server *s)
{
	if (s != NULL && atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1)
		free(s);
}

static struct {
	pthread_mutex_t lock;
	struct {
		struct server *server; /* who has, or had last, this id: a reference */
		bool left;
	} at[SERVER_IDS];
} ids = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* An id that nobody refers to any more; else that of a server that left and lingers in an old snapshot. */
static unsigned free_id(void)
{
	unsigned lingers = SERVER_IDS;

	for (unsigned i = 0; i < SERVER_IDS; i++) {
		struct server *had = ids.at[i].server;
		if (had == NULL || (ids.at[i].left && atomic_load(&had->refs) == 1))
			return i;
		if (ids.at[i].left)
			lingers = i;
	}
	if (lingers == SERVER_IDS)
		abort(); /* twice as many as a configuration can hold are in use */
	return lingers;
}

void server_arrives(struct server *s)
{
	pthread_mutex_lock(&ids.lock);
	s->id = free_id();
	server_unref(ids.at[s->id].server);
	ids.at[s->id].server = server_ref(s);
	ids.at[s->id].left = false;
	pthread_mutex_unlock(&ids.lock);
}

void server_leaves(struct server *s)
{
	pthread_mutex_lock(&ids.lock);
	if (ids.at[s->id].server == s)
		ids.at[s->id].left = true;
	pthread_mutex_unlock(&ids.lock);
}

struct topology *topology_ref(struct topology *t)
{
	atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
	return t;
}

void topology_unref(struct topology *t)
{
	if (t == NULL || atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (unsigned i = 0; i < t->n; i++)
		server_unref(t->views[i].server);
	free(t);
}

bool topology_readable(const struct topology *t, unsigned i, int64_t now_us)
{
	const struct server_view *v = &t->views[i];

	if (v->role != ROLE_REPLICA || v->state != SERVER_UP || v->drained || v->unlike || v->weight == 0)
		return false;
	if (atomic_load_explicit(&v->server->failed, memory_order_acquire) != 0)
		return false;
	if (v->partial)
		return false;
	int64_t fresh = atomic_load_explicit(&v->server->fresh_us, memory_order_acquire);
	int64_t as_of = t->primary < 0 && t->last_sample_us != 0 ? t->last_sample_us : now_us;
	return fresh != 0 && as_of - fresh < t->max_replica_lag_us;
}

int64_t topology_now_coarse_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t topology_now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}
