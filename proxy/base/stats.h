/* SPDX-License-Identifier: Apache-2.0
 *
 * Counters and latency histograms. Each worker owns one `struct stats` and is its only writer (relaxed atomic adds, no
 * lock, no shared cache line); anyone may sum over all of them. Dimensions are small integers: server id (the
 * server's dense id in the topology, STATS_NO_SERVER for none), user id (stats_user_id), rule (index of a [cache.X]
 * section's stats id, stats_rule_id). Past the limits, everything else is counted under the last id, named "other".
 */
#ifndef ST_BASE_STATS_H
#define ST_BASE_STATS_H

#include <stdint.h>

enum { STATS_SERVERS = 65, STATS_NO_SERVER = 64, STATS_USERS = 128, STATS_RULES = 64 };

enum route_reason {
#define ROUTE_REASON(NAME, name, text) ROUTE_##NAME,
#include "tbl/reasons.h"
#undef ROUTE_REASON
	ROUTE_REASONS
};
const char *route_reason_name(enum route_reason reason);
const char *route_reason_text(enum route_reason reason);

enum stat_route { STAT_PRIMARY, STAT_REPLICA, STAT_CACHE, STAT_ROUTES };
enum stat_cache { STAT_HIT, STAT_MISS, STAT_BYPASS, STAT_FILL, STAT_FILL_REFUSED, STAT_CACHE_EVENTS };
enum stat_inval { STAT_INVAL_WRITE, STAT_INVAL_TABLE, STAT_INVAL_DDL, STAT_INVAL_BINLOG, STAT_INVAL_SOURCES };
enum stat_error { /* sidetrack_errors_total{kind} */
	STAT_ERR_CLIENT_PROTOCOL, STAT_ERR_SERVER_PROTOCOL, STAT_ERR_AUTH, STAT_ERR_SERVER_CONNECT,
	STAT_ERR_SERVER_LOST, STAT_ERR_NO_SERVER, STAT_ERR_STORE, STAT_ERR_STORE_TIMEOUT, STAT_ERR_RETRY,
	STAT_ERR_TIMEOUT, STAT_ERRORS
};
const char *stat_error_name(enum stat_error kind);

struct stats;

/* One for a worker; registered for summing until stats_free. Any thread. */
struct stats *stats_new(void);
void stats_free(struct stats *s);

/* Owner thread only. */
void stats_statement(struct stats *s, enum stat_route route, unsigned server, unsigned user, uint64_t microseconds);
void stats_routed(struct stats *s, unsigned server, enum route_reason reason);
void stats_would_move(struct stats *s, enum stat_route route); /* mode = observe: split or cache would have */
void stats_cache(struct stats *s, unsigned rule, enum stat_cache what);
void stats_invalidation(struct stats *s, unsigned rule, enum stat_inval source);
void stats_error(struct stats *s, enum stat_error kind);
void stats_clients(struct stats *s, int delta);                                       /* client connections, gauge */
void stats_server_connections(struct stats *s, unsigned server, int idle, int active); /* deltas of two gauges */

/* Names to ids, process-wide, mutex inside: at login or reload, not on a statement's path. Any thread. */
unsigned stats_user_id(const char *user);
const char *stats_user_name(unsigned id);
unsigned stats_rule_id(const char *rule);
const char *stats_rule_name(unsigned id);
unsigned stats_users(void); /* ids in use */
unsigned stats_rules(void);

/* Sums over all workers, for any thread. */
uint64_t stats_sum_statements(enum stat_route route, unsigned server, unsigned user);
uint64_t stats_sum_routed(unsigned server, enum route_reason reason);
uint64_t stats_sum_would_move(enum stat_route route);
uint64_t stats_sum_cache(unsigned rule, enum stat_cache what);
uint64_t stats_sum_invalidations(unsigned rule, enum stat_inval source);
uint64_t stats_sum_errors(enum stat_error kind);
int64_t stats_sum_clients(void);
void stats_sum_server_connections(unsigned server, int64_t *idle, int64_t *active);

/* Latency by route: counts in buckets whose upper bounds grow by about 1/8 from 1 us to 60 s, never clamped away. */
enum { STATS_BUCKETS = 224 };
uint64_t stats_bucket_bound(unsigned bucket); /* upper bound in microseconds, inclusive; UINT64_MAX for the last */
struct stats_latency {
	uint64_t count, sum_us;
	uint64_t bucket[STATS_BUCKETS];
};
void stats_sum_latency(enum stat_route route, struct stats_latency *out);
uint64_t stats_quantile(const struct stats_latency *h, double q); /* microseconds; 0 when empty */

#endif
