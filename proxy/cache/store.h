/* SPDX-License-Identifier: Apache-2.0
 *
 * What cache.c asks of its two stores. Both keep the same things and answer alike (docs/cache.md):
 *
 *   slot      one cached table of this process (a rule's identity that survives reloads)
 *   epoch     of a slot: entries and leases of an older epoch do not exist any more
 *   row       of a slot: its entries by shape, its leases by shape, its fence
 *   fence     of a row or of a whole slot: writes under way (pending), the newest GTID written, writes of unknown GTID
 */
#ifndef ST_CACHE_STORE_H
#define ST_CACHE_STORE_H

#include "cache/cache.h"

enum { CACHE_SLOTS = 64, CACHE_FORMS = 32 /* shapes of one row */ };

struct cache_times { /* milliseconds */
	uint64_t lease;   /* a holder that does not fill by then has lost it */
	uint64_t margin;  /* life of a fence after the write; a replica that may be read later has applied it */
	uint64_t pending; /* life of a fence whose writer never came back */
	uint64_t serve;    /* after a beat was sent that Redis confirmed; longer than BEAT_US */
	uint64_t recovery; /* after a Redis took no writes, or was found without a table's epoch, nobody fills for so
			    * long */
	uint64_t confirm;  /* an acknowledgement waits so long for a Redis that is silent */
};

enum store_found {
	STORE_HIT,   /* answer data, len */
	STORE_LEASE, /* answer lease */
	STORE_BUSY,  /* somebody else holds the lease */
	STORE_READ,  /* no filling now */
	STORE_OFF
};

/* Raises the fence in an answer so that it also covers g; a second domain cannot be told: the primary only. */
static inline void answer_fence(struct cache_answer *a, struct gtid g)
{
	if (gtid_none(g))
		return;
	if (gtid_none(a->fence) || (a->fence.domain == g.domain && a->fence.seq < g.seq))
		a->fence = g;
	else if (a->fence.domain != g.domain)
		a->fence_primary = true;
}

/* --- In the process (memory.c): synchronous, any thread; now_ms is any clock that never goes back ----------------- */

struct memory;

struct memory *memory_new(uint64_t limit);
void memory_set_limit(struct memory *m, uint64_t limit);
void memory_free(struct memory *m);

/* A look-up of this row follows soon: begins to fetch what it will need. */
void memory_prefetch(struct memory *m, unsigned slot, const struct cache_key *key);
/* With STORE_HIT the answer's data is in *copy, whose buffer is used again. */
enum store_found memory_lookup(struct memory *m, uint64_t now_ms, unsigned slot, const struct cache_key *key,
			       const struct cache_times *times, struct cache_answer *answer, struct buf *copy);
/* False when it was refused. */
bool memory_fill(struct memory *m, uint64_t now_ms, unsigned slot, const struct cache_key *key, uint64_t lease,
		 const void *data, size_t len, uint64_t ttl_ms);
void memory_abandon(struct memory *m, unsigned slot, const struct cache_key *key, uint64_t lease);
void memory_drop(struct memory *m, uint64_t now_ms, unsigned slot, const struct cache_row *row, enum cache_phase phase,
		 struct gtid gtid, const struct cache_times *times);
void memory_drop_all(struct memory *m, uint64_t now_ms, unsigned slot, enum cache_phase phase, struct gtid gtid,
		     const struct cache_times *times);
void memory_usage(struct memory *m, unsigned slot, uint64_t *entries, uint64_t *bytes, uint64_t *evictions);

/* --- What workers share about Redis (cache.c) --------------------------------------------------------------------- */

struct cache_slot {
	char *table;        /* "db.table", escaped: part of every Redis key */
	char *identity;     /* table and key column */
	_Atomic uint64_t terms; /* digest of all that proxies which share a store must have alike to share the table */
	atomic_bool usable; /* every worker invalidates this slot in the same store */
	/* Invalidations that Redis did not get: while owed != paid no worker serves or fills. A worker that drops the
	 * whole table in Redis raises paid to the owed that it read before. */
	_Atomic uint64_t owed, paid;
	atomic_int unconfirmed; /* invalidations that were acknowledged to a client before Redis confirmed them */
};

static inline bool slot_serves(const struct cache_slot *s)
{
	return s->usable && s->owed == s->paid && s->unconfirmed == 0;
}

/* --- Redis (redis.c): one link a worker --------------------------------------------------------------------------- */

struct cache_call { /* one operation under way; the front's again when its hook is called */
	struct cache_call *next; /* parked calls, or the free list */
	struct cache_op *op;     /* NULL once it was cancelled */
	unsigned left;           /* an invalidation's commands that are not confirmed */
	bool after;              /* it is a CACHE_AFTER */
	bool owes;               /* one of its commands was refused or lost */
	unsigned slot;
	bool woken;              /* parked, and there may be an entry by now */
	uint64_t until_us;       /* it waits until then: behind another holder, and goes with `answer`; or for a
				  * confirmation */
	struct cache_answer answer;
	struct cache_key key;
};

struct redis_hooks { /* called on the worker's thread */
	void *arg;
	/* The answer to a lookup; its data is valid during the call. */
	void (*found)(void *arg, struct cache_call *call, enum store_found found, const struct cache_answer *answer);
	/* An invalidation was confirmed; or is owed or late, and slot_serves() is false from before this call: a
	 * CACHE_AFTER then only when no other proxy is served from this Redis. */
	void (*invalidated)(void *arg, struct cache_call *call);
	void (*filled)(void *arg, unsigned slot, bool stored);
	void (*error)(void *arg, enum stat_error kind);
	void (*status)(void *arg, const char *text); /* "redis ok", "redis down: reason" */
};

struct redis;
struct redis *redis_new(struct event_base *base, const struct config *config, const struct cache_times *times,
			struct cache_slot *slots, const struct redis_hooks *hooks);
const struct siphash_key *redis_secret(const struct redis *r); /* NULL: not known */
/* Lookups under way are answered STORE_OFF, invalidations are owed. */
void redis_free(struct redis *r);
/* Before it: this process goes on without this Redis. Whoever still is there caches nothing for a minute. */
void redis_desert(struct redis *r);
/* This process caches the slot no more, or on other terms: nobody does, at once and until all agree again. */
void redis_withdraw(struct redis *r, unsigned slot);
void redis_lookup(struct redis *r, struct cache_call *call);
void redis_look_again(struct redis *r, struct cache_call *call); /* after STORE_BUSY */
void redis_fill(struct redis *r, unsigned slot, const struct cache_key *key, uint64_t lease, const void *data,
		size_t len, uint64_t ttl_ms);
void redis_abandon(struct redis *r, unsigned slot, const struct cache_key *key, uint64_t lease);
/* slots_of[rule] is the set of slots that a change goes to. */
void redis_invalidate(struct redis *r, struct cache_call *call, const struct cache_change *changes, unsigned n,
		      const uint64_t *slots_of, enum cache_phase phase, struct gtid gtid);
void redis_flush(struct redis *r); /* sends what was queued */

#endif
