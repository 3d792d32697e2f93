/* SPDX-License-Identifier: Apache-2.0
 *
 * The look-aside cache: rule matching, leases, fences, epochs, over one of two stores (cache/memory.c, cache/redis.c).
 * The protocol and why it is exact: docs/cache.md. One `struct cache` a worker, used on that worker's thread only; what
 * workers share (the memory store) is inside.
 */
#ifndef ST_CACHE_CACHE_H
#define ST_CACHE_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/siphash.h"
#include "base/stats.h"
#include "cluster/catalog.h"
#include "mysql/gtid.h"
#include "sql/classify.h"

enum { CACHE_KEY_MAX = 255, CACHE_SHAPE = SIPHASH_128 };

struct cache_key {
	uint8_t rule;                /* index in config rules */
	uint8_t len;                 /* of row */
	uint8_t row[CACHE_KEY_MAX];  /* the row key in canonical form: equal bytes where the server's = is true */
	uint8_t shape[CACHE_SHAPE];  /* what form of the answer: text, literals, user, schema, session state ... */
};

/* --- Rules: pure -------------------------------------------------------------------------------------------------- */

enum cache_match { CACHE_MATCH, CACHE_NO_RULE, CACHE_NO_CACHEABLE };
/* May the answer to this SELECT be cached, and under which row key? `params` gives the value of a ? by index (NULL for
 * text statements): returns false when it is NULL, long data or of a type that cannot be a key. Fills key->rule, len
 * and row; the caller adds the shape. CACHE_NO_CACHEABLE: a rule's table is read but in a form that is not cacheable
 * (`*why` a static text). */
struct cache_params {
	const void *arg;
	/* as SQL_LIT_STRING (raw bytes) or SQL_LIT_NUMBER */
	bool (*get)(const void *arg, unsigned index, struct sql_literal *out);
};
enum cache_match cache_rule_match(const struct config *config, const struct catalog *catalog,
				  const struct sql_stmt *stmt, unsigned text_mode, const struct cache_params *params,
				  struct cache_key *key, const char **why);

/* What a write invalidates. keys[] gets canonical row keys of rule i when they are all named; otherwise whole is set.
 * Called for each rule whose table the statement writes. */
struct cache_change {
	uint8_t rule;
	bool whole;                  /* every row: an epoch change; keys[] may have rows that were fenced by name */
	uint16_t nkeys;
	struct cache_row { uint8_t len, bytes[CACHE_KEY_MAX]; } keys[8]; /* more than fit: whole */
};
/* Returns the number of changes written to out (at most max >= CONFIG_RULES); stmt may touch several rules.
 * all: effects unknown (CALL, DDL, unreadable): every rule, whole. */
unsigned cache_rule_changes(const struct config *config, const struct catalog *catalog, const struct sql_stmt *stmt,
			    bool all, unsigned text_mode, const struct cache_params *params, struct cache_change *out,
			    unsigned max);

/* Do writes of other proxies, which share the store, count for a read of this statement's tables? Then it needs the
 * store, or the primary, to be exact. */
bool cache_rule_shared(const struct config *config, const struct sql_stmt *stmt);

/* --- Operations --------------------------------------------------------------------------------------------------- */

struct cache;
struct event_base;
struct cache_shared; /* the memory store and what the workers' Redis links share: one for the process */

struct cache_shared *cache_shared_new(struct config *config);
void cache_shared_free(struct cache_shared *s);

struct cache *cache_new(struct cache_shared *shared, struct event_base *base, struct config *config,
			struct stats *stats);
void cache_reload(struct cache *c, struct config *config); /* rules, ttl, store, limits may have changed */
void cache_free(struct cache *c);
/* Sends what was queued during this turn of the loop (one write for all commands). Called by the worker each turn. */
void cache_end_turn(struct cache *c);

enum cache_verdict {
	CACHE_HIT,     /* data, len: the stored bytes, during the callback only; the callee may change them */
	CACHE_LEASE,   /* a miss, and the caller is the one to fill: `lease` goes with cache_fill or cache_abandon */
	CACHE_READ,    /* a miss, somebody else fills or filling is not allowed now: read a server, fill nothing */
	CACHE_OFF      /* the store cannot be asked (down, slow, breaker open): as CACHE_READ, counted as bypass */
};
struct cache_answer {
	enum cache_verdict verdict;
	uint8_t *data;
	size_t len;
	uint64_t lease;
	/* With LEASE and READ: what a server must have for the answer to be right. */
	bool fence_primary;   /* a write is under way, its GTID unknown, or fences are lost: the primary only */
	struct gtid fence;    /* else not none: a replica that covers it, or the primary */
};

/* One operation under way, embedded in the session. The callback runs exactly once, perhaps before cache_lookup or
 * cache_invalidate returns, always on the worker's thread; not after cache_cancel. */
struct cache_op {
	void (*done)(struct cache_op *op, const struct cache_answer *answer); /* answer is NULL for invalidations */
	void *priv;           /* the cache's own, NULL when not under way */
};

/* Under what secret shapes are made: the memory store's own, or the one that all proxies on one Redis share. NULL while
 * it is not known: nothing can be looked up. Valid until the worker's next turn; entries of another secret are simply
 * not found. */
const struct siphash_key *cache_secret(const struct cache *c);
/* Once the row of a key is known, and its shape not yet: a look-up will follow. */
void cache_prepare(struct cache *c, const struct cache_key *key);
/* Looks the key up; parks the caller briefly behind another filler of the same key and shape (no stampede). now_us is
 * monotonic: the caller has just read the clock. The answer comes within redis_timeout_ms plus that wait. */
void cache_lookup(struct cache *c, const struct cache_key *key, uint64_t now_us, struct cache_op *op);
/* Stores the answer if the lease still stands (no invalidation came between) and, under a fence, the fence allows it.
 * Copies data. Fire and forget. ttl_ms already bounded by the row's expiry. */
void cache_fill(struct cache *c, const struct cache_key *key, uint64_t lease, const void *data, size_t len,
		uint64_t ttl_ms);
/* The holder gives up: others need not wait for it. */
void cache_abandon(struct cache *c, const struct cache_key *key, uint64_t lease);

/* Before the write or the COMMIT is sent: entries and leases go, a pending fence stands. After it was acknowledged:
 * again, and the fence holds the write's GTID (none: unknown, primary only until the margin has passed).
 * `done` runs when the store has confirmed or the deadline passed (never an error). With a store that cannot be
 * reached nothing is lost: what is owed is sent, or the tables' epochs dropped, before the store is used again. */
enum cache_phase { CACHE_BEFORE, CACHE_AFTER };
void cache_invalidate(struct cache *c, const struct cache_change *changes, unsigned n, enum cache_phase phase,
		      struct gtid gtid, struct cache_op *op);
void cache_cancel(struct cache *c, struct cache_op *op); /* the session dies; an invalidation goes on without it */

/* The primary changed (replicated writes may be lost): every rule's entries go, fills from the primary only for a
 * margin. With Redis the entries go when a worker next hears from it, a second later at most; until then nothing is
 * served. */
void cache_new_primary(struct cache_shared *s);
/* FLUSH CACHE <rule>, or all for NULL. Any thread. Returns 0, -1 for no such rule. */
int cache_flush(struct cache_shared *s, const char *rule);

/* For the admin table `cache`: entries and bytes of a rule now (memory store; 0 for Redis), evictions so far.
 * Any thread. */
void cache_usage(struct cache_shared *s, unsigned rule, uint64_t *entries, uint64_t *bytes, uint64_t *evictions);
/* "memory", "redis ok", "redis down: reason". Any thread. */
void cache_store_status(struct cache_shared *s, char *buf, size_t cap);

#endif
