/* SPDX-License-Identifier: Apache-2.0 */
#include "base/stats.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

typedef _Atomic uint64_t counter;

struct latency {
	counter sum_us, bucket[STATS_BUCKETS];
};

/* Nothing but counters, so that a block that goes is folded into the base word by word. Gauges are counters that wrap:
 * a sum of wrapped differences is the right sum. */
struct counters {
	counter statements[STAT_ROUTES][STATS_SERVERS][STATS_USERS];
	counter routed[STATS_SERVERS][ROUTE_REASONS];
	counter would_move[STAT_ROUTES];
	counter cache[STATS_RULES][STAT_CACHE_EVENTS];
	counter invalidations[STATS_RULES][STAT_INVAL_SOURCES];
	counter errors[STAT_ERRORS];
	counter clients;
	counter idle[STATS_SERVERS], active[STATS_SERVERS];
	struct latency latency[STAT_ROUTES];
};

struct stats {
	_Alignas(64) struct counters c; /* no cache line shared with another worker's block */
	struct stats *next;             /* under the lock */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* the list and base */
static struct stats *blocks;
static struct counters base; /* what freed blocks had counted */

static const char *const reason_names[] = {
#define ROUTE_REASON(NAME, name, text) name,
#include "tbl/reasons.h"
#undef ROUTE_REASON
};
static const char *const reason_texts[] = {
#define ROUTE_REASON(NAME, name, text) text,
#include "tbl/reasons.h"
#undef ROUTE_REASON
};
static const char *const error_names[STAT_ERRORS] = {
	[STAT_ERR_CLIENT_PROTOCOL] = "client_protocol", [STAT_ERR_SERVER_PROTOCOL] = "server_protocol",
	[STAT_ERR_AUTH] = "auth",                       [STAT_ERR_SERVER_CONNECT] = "server_connect",
	[STAT_ERR_SERVER_LOST] = "server_lost",         [STAT_ERR_NO_SERVER] = "no_server",
	[STAT_ERR_STORE] = "store",                     [STAT_ERR_STORE_TIMEOUT] = "store_timeout",
	[STAT_ERR_RETRY] = "retry",                     [STAT_ERR_TIMEOUT] = "timeout",
};

const char *route_reason_name(enum route_reason reason)
{
	return reason_names[reason];
}

const char *route_reason_text(enum route_reason reason)
{
	return reason_texts[reason];
}

const char *stat_error_name(enum stat_error kind)
{
	return error_names[kind];
}

/* --- Life ------------------------------------------------------------------------------------------------------- */

struct stats *stats_new(void)
{
	struct stats *s = aligned_alloc(_Alignof(struct stats), sizeof *s);

	if (s == NULL)
		abort(); /* at start only */
	memset(s, 0, sizeof *s);
	pthread_mutex_lock(&lock);
	s->next = blocks;
	blocks = s;
	pthread_mutex_unlock(&lock);
	return s;
}

void stats_free(struct stats *s)
{
	if (s == NULL)
		return;
	counter *to = (counter *)&base, *from = (counter *)&s->c;

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < sizeof base / sizeof *to; i++)
		to[i] += from[i];
	struct stats **at = &blocks;
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	pthread_mutex_unlock(&lock);
	free(s);
}

/* --- Counting: the owner is the only writer, so a load and a store do what a locked add would --------------------- */

static inline void add(counter *c, uint64_t n)
{
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}

static inline unsigned limit(unsigned id, unsigned ids)
{
	return id < ids ? id : ids - 1;
}

/* Eight buckets an octave from 16 us on, one a microsecond below: bucket of v has the first bound that is not less. */
static unsigned bucket_of(uint64_t v)
{
	uint64_t w = v > 0 ? v - 1 : 0;

	if (w < 16)
		return (unsigned)w;
	unsigned octave = 63u - (unsigned)__builtin_clzll(w);
	return limit(16 + (octave - 4) * 8 + (unsigned)(w >> (octave - 3) & 7), STATS_BUCKETS);
}

uint64_t stats_bucket_bound(unsigned bucket)
{
	if (bucket < 16)
		return bucket + 1;
	if (bucket >= STATS_BUCKETS - 1)
		return UINT64_MAX;
	unsigned octave = (bucket - 16) / 8;
	return (uint64_t)(9 + (bucket - 16) % 8) << (octave + 1);
}

void stats_statement(struct stats *s, enum stat_route route, unsigned server, unsigned user, uint64_t microseconds)
{
	struct latency *l = &s->c.latency[route];

	add(&s->c.statements[route][limit(server, STATS_SERVERS)][limit(user, STATS_USERS)], 1);
	add(&l->sum_us, microseconds);
	add(&l->bucket[bucket_of(microseconds)], 1);
}

void stats_routed(struct stats *s, unsigned server, enum route_reason reason)
{
	add(&s->c.routed[limit(server, STATS_SERVERS)][reason], 1);
}

void stats_would_move(struct stats *s, enum stat_route route)
{
	add(&s->c.would_move[route], 1);
}

void stats_cache(struct stats *s, unsigned rule, enum stat_cache what)
{
	add(&s->c.cache[limit(rule, STATS_RULES)][what], 1);
}

void stats_invalidation(struct stats *s, unsigned rule, enum stat_inval source)
{
	add(&s->c.invalidations[limit(rule, STATS_RULES)][source], 1);
}

void stats_error(struct stats *s, enum stat_error kind)
{
	add(&s->c.errors[kind], 1);
}

void stats_clients(struct stats *s, int delta)
{
	add(&s->c.clients, (uint64_t)(int64_t)delta);
}

void stats_server_connections(struct stats *s, unsigned server, int idle, int active)
{
	unsigned i = limit(server, STATS_SERVERS);

	add(&s->c.idle[i], (uint64_t)(int64_t)idle);
	add(&s->c.active[i], (uint64_t)(int64_t)active);
}

/* --- Names ------------------------------------------------------------------------------------------------------ */

struct names {
	unsigned n, max; /* the last id is "other" */
	char *name[STATS_USERS];
};
static struct names users = {.max = STATS_USERS}, rules = {.max = STATS_RULES};
static pthread_mutex_t names_lock = PTHREAD_MUTEX_INITIALIZER;

static unsigned id_of(struct names *t, const char *name)
{
	unsigned i = 0;

	pthread_mutex_lock(&names_lock);
	while (i < t->n && i < t->max - 1 && strcmp(t->name[i], name) != 0)
		i++;
	if (i == t->n && i < t->max) {
		t->name[i] = xstrdup(i == t->max - 1 ? "other" : name);
		t->n++;
	}
	pthread_mutex_unlock(&names_lock);
	return i;
}

static const char *name_of(struct names *t, unsigned id)
{
	pthread_mutex_lock(&names_lock);
	const char *name = id < t->n ? t->name[id] : "other";
	pthread_mutex_unlock(&names_lock);
	return name;
}

static unsigned names_in_use(struct names *t)
{
	pthread_mutex_lock(&names_lock);
	unsigned n = t->n;
	pthread_mutex_unlock(&names_lock);
	return n;
}

unsigned stats_user_id(const char *user)
{
	return id_of(&users, user);
}

const char *stats_user_name(unsigned id)
{
	return name_of(&users, id);
}

unsigned stats_rule_id(const char *rule)
{
	return id_of(&rules, rule);
}

const char *stats_rule_name(unsigned id)
{
	return name_of(&rules, id);
}

unsigned stats_users(void)
{
	return names_in_use(&users);
}

unsigned stats_rules(void)
{
	return names_in_use(&rules);
}

/* --- Sums ------------------------------------------------------------------------------------------------------- */

/* `offset` of a counter in struct counters, summed over the living blocks and what the dead ones left. */
static uint64_t sum_locked(size_t offset)
{
	uint64_t total = *(counter *)((char *)&base + offset);

	for (struct stats *s = blocks; s != NULL; s = s->next)
		total += atomic_load_explicit((counter *)((char *)&s->c + offset), memory_order_relaxed);
	return total;
}

static uint64_t sum(size_t offset)
{
	pthread_mutex_lock(&lock);
	uint64_t total = sum_locked(offset);
	pthread_mutex_unlock(&lock);
	return total;
}

#define OFFSET(at) ((size_t)((const char *)&base.at - (const char *)&base))

uint64_t stats_sum_statements(enum stat_route route, unsigned server, unsigned user)
{
	return sum(OFFSET(statements[route][limit(server, STATS_SERVERS)][limit(user, STATS_USERS)]));
}

uint64_t stats_sum_routed(unsigned server, enum route_reason reason)
{
	return sum(OFFSET(routed[limit(server, STATS_SERVERS)][reason]));
}

uint64_t stats_sum_would_move(enum stat_route route)
{
	return sum(OFFSET(would_move[route]));
}

uint64_t stats_sum_cache(unsigned rule, enum stat_cache what)
{
	return sum(OFFSET(cache[limit(rule, STATS_RULES)][what]));
}

uint64_t stats_sum_invalidations(unsigned rule, enum stat_inval source)
{
	return sum(OFFSET(invalidations[limit(rule, STATS_RULES)][source]));
}

uint64_t stats_sum_errors(enum stat_error kind)
{
	return sum(OFFSET(errors[kind]));
}

int64_t stats_sum_clients(void)
{
	return (int64_t)sum(OFFSET(clients));
}

void stats_sum_server_connections(unsigned server, int64_t *idle, int64_t *active)
{
	unsigned i = limit(server, STATS_SERVERS);

	*idle = (int64_t)sum(OFFSET(idle[i]));
	*active = (int64_t)sum(OFFSET(active[i]));
}

void stats_sum_latency(enum stat_route route, struct stats_latency *out)
{
	out->count = 0;
	pthread_mutex_lock(&lock);
	out->sum_us = sum_locked(OFFSET(latency[route].sum_us));
	for (unsigned b = 0; b < STATS_BUCKETS; b++) {
		out->bucket[b] = sum_locked(OFFSET(latency[route].bucket[b]));
		out->count += out->bucket[b]; /* counted here, so that it always equals the sum of the buckets */
	}
	pthread_mutex_unlock(&lock);
}

uint64_t stats_quantile(const struct stats_latency *h, double q)
{
	if (h->count == 0)
		return 0;
	double want = q * (double)h->count;
	uint64_t seen = 0;
	unsigned b = 0;

	while (b < STATS_BUCKETS - 1) {
		seen += h->bucket[b];
		if (seen > 0 && (double)seen >= want)
			break;
		b++;
	}
	return stats_bucket_bound(b < STATS_BUCKETS - 1 ? b : b - 1);
}
