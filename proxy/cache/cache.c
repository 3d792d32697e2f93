/* SPDX-License-Identifier: Apache-2.0
 *
 * The front of the cache: slots that survive reloads, the choice of the store, and sessions that wait behind a filler.
 *
 * A slot is usable while every worker of the process has it configured, in the same store: a worker that does not know
 * the rule does not invalidate its rows. That is why a reload, which reaches workers one after the other, closes what
 * it changes until the last one has it, and drops it then.
 */
#include "cache/cache.h"

#include <event2/event.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "cache/store.h"

enum { PARK_US = 5000, POLL_US = 1000, ASK_ONCE = 16, COPY_KEPT = 65536,
       RECOVERY_MS = 3500 /* more than the longest back-off and a handshake: redis_link.h */,
       SERVE_MS = 250 };

struct cache_shared {
	pthread_mutex_t lock; /* members, slots' names, config, store, status */
	struct cache_slot slots[CACHE_SLOTS];
	unsigned nslots;
	struct memory *memory;
	struct cache *members;
	struct config *config; /* the newest that any worker has seen */
	char *store;           /* what all workers use: NULL while they differ */
	char status[160];
	struct siphash_key secret; /* of shapes in the memory store */
};

struct cache {
	struct cache_shared *shared;
	struct cache *next_member;
	struct event_base *base;
	struct config *config;
	struct stats *stats;
	struct cache_times times;
	int slot_of[CONFIG_RULES];
	/* Every slot that a rule's index has meant in this process: a write that is under way during a reload names its
	 * rows by the old index, and must not miss them. */
	uint64_t slots_of[CONFIG_RULES];
	unsigned rule_of[CACHE_SLOTS]; /* CONFIG_RULES: not configured here */
	char *store;
	struct redis *redis; /* NULL: memory */
	struct buf copy; /* a hit's bytes, from the memory store */
	struct cache_call *free_calls, *parked;
	struct event *tick;
};

static uint64_t clock_us(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static struct cache_times times_of(const struct config *config)
{
	/* Twice the lag that a replica may have when it is chosen, plus what clocks and schedulers may add. */
	uint64_t margin = 2 * config->max_replica_lag_ms + 1000;
	return (struct cache_times){.lease = 3000,
				    .margin = margin,
				    .pending = 60000,
				    .serve = SERVE_MS,
				    .recovery = margin > RECOVERY_MS ? margin : RECOVERY_MS,
				    .confirm = config->confirm_timeout_ms};
}

/* --- Slots -------------------------------------------------------------------------------------------------------- */

/* A name as part of a Redis key: dots, colons and braces have a meaning there. */
static void put_name(struct buf *b, const char *name)
{
	for (; *name; name++) {
		unsigned char ch = (unsigned char)*name;
		if (ch <= ' ' || ch >= 0x7f || strchr(".:{}%/", ch))
			buf_printf(b, "%%%02x", ch);
		else
			buf_put_u8(b, ch);
	}
}

/* Another service may have a table of the same name, and be in the same Redis. */
static char *rule_text(const struct config *config, const struct config_rule *rule, bool with_key)
{
	struct buf b = {0};
	if (config->service[0] != '\0') {
		buf_put_str(&b, config->service); /* letters, digits, _ - . */
		buf_put_u8(&b, '/');
	}
	put_name(&b, rule->db);
	buf_put_u8(&b, '.');
	put_name(&b, rule->table);
	if (with_key) {
		buf_put_u8(&b, '.');
		put_name(&b, rule->key);
	}
	buf_put_u8(&b, 0);
	return (char *)b.data;
}

/* With the lock held. -1 when a process has seen more tables than it has slots. */
static int slot_find(struct cache_shared *s, const struct config_rule *rule)
{
	char *identity = rule_text(s->config, rule, true);
	unsigned i = 0;
	while (i < s->nslots && strcmp(s->slots[i].identity, identity) != 0)
		i++;
	if (i < s->nslots) {
		free(identity);
		return (int)i;
	}
	if (i == CACHE_SLOTS) {
		log_warn("cache: rule %s is not used: %d tables were configured since the start", rule->name,
			 CACHE_SLOTS);
		free(identity);
		return -1;
	}
	s->slots[i].identity = identity;
	s->slots[i].table = rule_text(s->config, rule, false);
	s->nslots++;
	return (int)i;
}

/* Entries are made by any proxy that shares the store, and fences end by their maker's times: what all of them must
 * have alike. */
static uint64_t terms_of(const struct config *config, const struct config_rule *rule)
{
	static const struct siphash_key none;
	char *identity = rule_text(config, rule, true);
	char *text = xasprintf("%s %s %llu %llu %llu", identity, rule->expires, (unsigned long long)rule->ttl_ms,
			       (unsigned long long)rule->negative_ttl_ms,
			       (unsigned long long)config->max_replica_lag_ms);
	uint64_t terms = siphash(&none, text, strlen(text));
	free(identity);
	free(text);
	return terms;
}

static void slot_drop(struct cache_shared *s, unsigned slot)
{
	struct cache_times times = times_of(s->config);
	memory_drop_all(s->memory, clock_us() / 1000, slot, CACHE_AFTER, (struct gtid){0}, &times);
	s->slots[slot].owed++;
}

static bool all_have(const struct cache_shared *s, unsigned slot)
{
	for (const struct cache *c = s->members; c; c = c->next_member)
		if (c->rule_of[slot] == CONFIG_RULES)
			return false;
	return s->members != NULL;
}

static bool all_store_alike(const struct cache_shared *s)
{
	for (const struct cache *c = s->members; c; c = c->next_member)
		if (strcmp(c->store, s->members->store) != 0)
			return false;
	return s->members != NULL;
}

/* With the lock held, after a member came, went or changed. `drop`: what becomes usable may hold old entries. */
static void settle(struct cache_shared *s, bool drop)
{
	bool alike = all_store_alike(s);
	bool moved = alike && (!s->store || strcmp(s->store, s->members->store) != 0);
	free(s->store);
	s->store = alike ? xstrdup(s->members->store) : NULL;
	for (unsigned i = 0; i < s->nslots; i++) {
		bool was = s->slots[i].usable, is = alike && all_have(s, i);
		if (is && drop && (!was || moved))
			slot_drop(s, i);
		s->slots[i].usable = is;
	}
}

struct cache_shared *cache_shared_new(struct config *config)
{
	struct cache_shared *s = xcalloc(1, sizeof *s);
	pthread_mutex_init(&s->lock, NULL);
	s->memory = memory_new(config->memory_limit);
	s->config = config_ref(config);
	siphash_key_random(&s->secret);
	snprintf(s->status, sizeof s->status, "%s", config->store_redis ? "redis down: not connected yet" : "memory");
	return s;
}

void cache_shared_free(struct cache_shared *s)
{
	for (unsigned i = 0; i < s->nslots; i++) {
		free(s->slots[i].table);
		free(s->slots[i].identity);
	}
	memory_free(s->memory);
	config_unref(s->config);
	free(s->store);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

void cache_new_primary(struct cache_shared *s)
{
	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < s->nslots; i++)
		slot_drop(s, i);
	pthread_mutex_unlock(&s->lock);
}

int cache_flush(struct cache_shared *s, const char *rule)
{
	int rc = rule ? -1 : 0;
	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < s->config->nrules; i++) {
		if (rule && strcmp(s->config->rules[i].name, rule) != 0)
			continue;
		int slot = slot_find(s, &s->config->rules[i]);
		if (slot >= 0)
			slot_drop(s, (unsigned)slot);
		rc = 0;
	}
	pthread_mutex_unlock(&s->lock);
	return rc;
}

void cache_usage(struct cache_shared *s, unsigned rule, uint64_t *entries, uint64_t *bytes, uint64_t *evictions)
{
	*entries = *bytes = *evictions = 0;
	pthread_mutex_lock(&s->lock);
	int slot = rule < s->config->nrules ? slot_find(s, &s->config->rules[rule]) : -1;
	pthread_mutex_unlock(&s->lock);
	if (slot >= 0)
		memory_usage(s->memory, (unsigned)slot, entries, bytes, evictions);
}

void cache_store_status(struct cache_shared *s, char *buf, size_t cap)
{
	pthread_mutex_lock(&s->lock);
	snprintf(buf, cap, "%s", s->status);
	pthread_mutex_unlock(&s->lock);
}

/* --- Calls: what a session waits for ------------------------------------------------------------------------------ */

static struct cache_call *call_new(struct cache *c, struct cache_op *op)
{
	struct cache_call *call = c->free_calls;
	if (call)
		c->free_calls = call->next;
	else
		call = xmalloc(sizeof *call);
	call->next = NULL;
	call->op = op;
	call->left = 0;
	call->after = call->owes = false;
	call->woken = false;
	op->priv = call;
	return call;
}

static void call_free(struct cache *c, struct cache_call *call)
{
	call->next = c->free_calls;
	c->free_calls = call;
}

static void finish(struct cache *c, struct cache_call *call, const struct cache_answer *answer)
{
	struct cache_op *op = call->op;
	call_free(c, call);
	if (!op)
		return;
	op->priv = NULL;
	op->done(op, answer);
}

static enum cache_verdict verdict_of(enum store_found found)
{
	switch (found) {
	case STORE_HIT:
		return CACHE_HIT;
	case STORE_LEASE:
		return CACHE_LEASE;
	case STORE_OFF:
		return CACHE_OFF;
	default:
		return CACHE_READ;
	}
}

static void park(struct cache *c, struct cache_call *call, const struct cache_answer *answer)
{
	call->answer = *answer;
	call->woken = false;
	call->next = c->parked;
	c->parked = call;
	if (!event_pending(c->tick, EV_TIMEOUT, NULL))
		event_add(c->tick, &(struct timeval){0, POLL_US});
}

static void wake_parked(struct cache *c, const struct cache_key *key)
{
	bool any = false;
	for (struct cache_call *call = c->parked; call; call = call->next)
		if (call->key.rule == key->rule && memcmp(call->key.shape, key->shape, CACHE_SHAPE) == 0)
			any = call->woken = true;
	if (any) /* not from here: sessions would run inside another's call */
		event_active(c->tick, EV_TIMEOUT, 0);
}

static void on_found(void *arg, struct cache_call *call, enum store_found found, const struct cache_answer *answer)
{
	struct cache *c = arg;
	struct cache_answer a = *answer;
	a.verdict = verdict_of(found);
	if (found == STORE_BUSY && call->op && clock_us() < call->until_us) {
		park(c, call, &a);
		return;
	}
	if (found == STORE_HIT && c->parked)
		wake_parked(c, &call->key);
	if (found == STORE_LEASE && !call->op)
		cache_abandon(c, &call->key, a.lease);
	finish(c, call, &a);
}

static void look_again(struct cache *c, struct cache_call *call)
{
	if (c->redis) {
		(call->woken ? redis_lookup : redis_look_again)(c->redis, call);
		return;
	}
	struct cache_answer a;
	enum store_found found =
		memory_lookup(c->shared->memory, clock_us() / 1000, call->slot, &call->key, &c->times, &a, &c->copy);
	on_found(c, call, found, &a);
}

struct asked { /* shapes that were asked for in this tick: one question is enough for all who wait for the answer */
	uint8_t shape[ASK_ONCE][CACHE_SHAPE];
	unsigned n;
};

static bool asked_before(struct asked *asked, const struct cache_call *call)
{
	for (unsigned i = 0; i < asked->n; i++)
		if (memcmp(asked->shape[i], call->key.shape, CACHE_SHAPE) == 0)
			return true;
	if (asked->n < ASK_ONCE)
		memcpy(asked->shape[asked->n++], call->key.shape, CACHE_SHAPE);
	return false;
}

/* Parked calls ask again each millisecond, because the holder may sit on another worker or another machine, and at once
 * when one of this worker has found or filled an entry. */
static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	struct cache *c = arg;
	struct cache_call *call = c->parked, *next;
	struct asked asked = {.n = 0};
	uint64_t now = clock_us();
	c->parked = NULL;
	for (; call; call = next) {
		struct cache_answer answer = call->answer;
		next = call->next;
		if (!call->op)
			call_free(c, call);
		else if (!c->redis || call->woken)
			look_again(c, call);
		else if (now >= call->until_us)
			finish(c, call, &answer);
		else if (asked_before(&asked, call))
			park(c, call, &answer);
		else
			look_again(c, call);
	}
	cache_end_turn(c);
}

/* --- A worker's cache --------------------------------------------------------------------------------------------- */

static void on_invalidated(void *arg, struct cache_call *call)
{
	finish(arg, call, NULL);
}

static unsigned stats_rule(const struct cache *c, unsigned slot)
{
	unsigned rule = c->rule_of[slot];
	return rule < c->config->nrules ? c->config->rules[rule].stats_id : STATS_RULES - 1;
}

static void on_filled(void *arg, unsigned slot, bool stored)
{
	struct cache *c = arg;
	stats_cache(c->stats, stats_rule(c, slot), stored ? STAT_FILL : STAT_FILL_REFUSED);
}

static void on_error(void *arg, enum stat_error kind)
{
	struct cache *c = arg;
	stats_error(c->stats, kind);
}

static void on_status(void *arg, const char *text)
{
	struct cache_shared *s = ((struct cache *)arg)->shared;
	pthread_mutex_lock(&s->lock);
	snprintf(s->status, sizeof s->status, "%s", text);
	pthread_mutex_unlock(&s->lock);
}

/* Equal texts: the same store, asked in the same way. */
static char *store_text(const struct config *config)
{
	if (!config->store_redis)
		return xstrdup("memory");
	return xasprintf("redis %s %u %s %s %llu %llu %llu", config->redis.text, config->redis_db,
			 config->redis_user ? config->redis_user : "",
			 config->redis_password ? config->redis_password : "",
			 (unsigned long long)config->redis_timeout_ms, (unsigned long long)config->confirm_timeout_ms,
			 (unsigned long long)config->max_replica_lag_ms);
}

static void store_free(char *store)
{
	explicit_bzero(store, strlen(store)); /* it may hold a password */
	free(store);
}

static void map_rules(struct cache *c)
{
	for (unsigned i = 0; i < CACHE_SLOTS; i++)
		c->rule_of[i] = CONFIG_RULES;
	for (unsigned i = 0; i < CONFIG_RULES; i++) {
		c->slot_of[i] = i < c->config->nrules ? slot_find(c->shared, &c->config->rules[i]) : -1;
		if (c->slot_of[i] < 0)
			continue;
		c->rule_of[c->slot_of[i]] = i;
		c->shared->slots[c->slot_of[i]].terms = terms_of(c->config, &c->config->rules[i]);
		c->slots_of[i] |= UINT64_C(1) << c->slot_of[i];
	}
}

/* With the lock held. */
static void configure(struct cache *c, struct config *config)
{
	struct cache_shared *s = c->shared;
	config_unref(s->config);
	s->config = config_ref(config);
	c->config = config_ref(config);
	c->times = times_of(config);
	memory_set_limit(s->memory, config->memory_limit);
	map_rules(c);
}

static void open_store(struct cache *c)
{
	struct redis_hooks hooks = {c, on_found, on_invalidated, on_filled, on_error, on_status};
	if (c->config->store_redis)
		c->redis = redis_new(c->base, c->config, &c->times, c->shared->slots, &hooks);
	else
		on_status(c, "memory");
}

struct cache *cache_new(struct cache_shared *shared, struct event_base *base, struct config *config,
			struct stats *stats)
{
	struct cache *c = xcalloc(1, sizeof *c);
	c->shared = shared;
	c->base = base;
	c->stats = stats;
	c->tick = evtimer_new(base, on_tick, c);
	c->store = store_text(config);
	pthread_mutex_lock(&shared->lock);
	configure(c, config);
	c->next_member = shared->members;
	shared->members = c;
	settle(shared, false);
	pthread_mutex_unlock(&shared->lock);
	open_store(c);
	return c;
}

static bool deserts(const struct config *old, const struct config *now)
{
	return !now->store_redis || strcmp(old->redis.text, now->redis.text) != 0 || old->redis_db != now->redis_db;
}

/* With the lock held, after a reload: what was cached on other terms, or is no more. */
static void withdraw(struct cache *c, const struct config *old, const unsigned *rule_of)
{
	for (unsigned i = 0; i < c->shared->nslots; i++) {
		unsigned was = rule_of[i], is = c->rule_of[i];
		if (was == CONFIG_RULES || (is != CONFIG_RULES && terms_of(old, &old->rules[was]) ==
									  terms_of(c->config, &c->config->rules[is])))
			continue;
		if (is != CONFIG_RULES)
			slot_drop(c->shared, i);
		if (c->redis)
			redis_withdraw(c->redis, i);
	}
}

void cache_reload(struct cache *c, struct config *config)
{
	struct config *old = c->config;
	char *store = store_text(config);
	bool moved = strcmp(store, c->store) != 0;
	unsigned rule_of[CACHE_SLOTS];
	if (moved && c->redis) { /* while the slots are still the old ones: what it owes goes to them */
		if (deserts(old, config))
			redis_desert(c->redis);
		redis_free(c->redis);
		c->redis = NULL;
	}
	memcpy(rule_of, c->rule_of, sizeof rule_of);
	pthread_mutex_lock(&c->shared->lock);
	store_free(c->store);
	c->store = store;
	configure(c, config);
	settle(c->shared, true);
	withdraw(c, old, rule_of);
	pthread_mutex_unlock(&c->shared->lock);
	if (moved)
		open_store(c);
	config_unref(old);
}

void cache_free(struct cache *c)
{
	struct cache_shared *s = c->shared;
	if (c->redis)
		redis_free(c->redis);
	while (c->parked) {
		struct cache_call *call = c->parked;
		c->parked = call->next;
		finish(c, call, &(struct cache_answer){.verdict = CACHE_OFF});
	}
	while (c->free_calls) {
		struct cache_call *call = c->free_calls;
		c->free_calls = call->next;
		free(call);
	}
	pthread_mutex_lock(&s->lock);
	struct cache **at = &s->members;
	while (*at != c)
		at = &(*at)->next_member;
	*at = c->next_member;
	settle(s, true);
	pthread_mutex_unlock(&s->lock);
	event_free(c->tick);
	buf_fini(&c->copy);
	config_unref(c->config);
	store_free(c->store);
	free(c);
}

void cache_end_turn(struct cache *c)
{
	if (c->copy.cap > COPY_KEPT)
		buf_fini(&c->copy);
	if (c->redis)
		redis_flush(c->redis);
}

static int slot_of(const struct cache *c, const struct cache_key *key)
{
	return key->rule < CONFIG_RULES ? c->slot_of[key->rule] : -1;
}

const struct siphash_key *cache_secret(const struct cache *c)
{
	return c->redis ? redis_secret(c->redis) : &c->shared->secret;
}

void cache_prepare(struct cache *c, const struct cache_key *key)
{
	int slot = slot_of(c, key);
	if (slot >= 0 && !c->redis)
		memory_prefetch(c->shared->memory, (unsigned)slot, key);
}

static void lookup_parking(struct cache *c, unsigned slot, const struct cache_key *key, uint64_t now_us,
			   struct cache_op *op, const struct cache_answer *busy)
{
	struct cache_call *call = call_new(c, op);
	call->slot = slot;
	call->key = *key;
	call->until_us = now_us + PARK_US;
	if (busy)
		park(c, call, busy);
	else
		redis_lookup(c->redis, call);
}

static void lookup_memory(struct cache *c, unsigned slot, const struct cache_key *key, uint64_t now_us,
			  struct cache_op *op)
{
	struct cache_answer answer;
	enum store_found found =
		memory_lookup(c->shared->memory, now_us / 1000, slot, key, &c->times, &answer, &c->copy);
	answer.verdict = verdict_of(found);
	if (found == STORE_BUSY) {
		lookup_parking(c, slot, key, now_us, op, &answer);
		return;
	}
	op->done(op, &answer);
}

void cache_lookup(struct cache *c, const struct cache_key *key, uint64_t now_us, struct cache_op *op)
{
	int slot = slot_of(c, key);
	op->priv = NULL;
	if (slot < 0 || !c->shared->slots[slot].usable)
		op->done(op, &(struct cache_answer){.verdict = CACHE_OFF});
	else if (c->redis)
		lookup_parking(c, (unsigned)slot, key, now_us, op, NULL);
	else
		lookup_memory(c, (unsigned)slot, key, now_us, op);
}

void cache_fill(struct cache *c, const struct cache_key *key, uint64_t lease, const void *data, size_t len,
		uint64_t ttl_ms)
{
	int slot = slot_of(c, key);
	if (slot < 0)
		return;
	if (!ttl_ms || len > c->config->max_entry || !c->shared->slots[slot].usable) {
		on_filled(c, (unsigned)slot, false);
		cache_abandon(c, key, lease);
		return;
	}
	if (c->redis) {
		redis_fill(c->redis, (unsigned)slot, key, lease, data, len, ttl_ms);
	} else {
		struct memory *m = c->shared->memory;
		on_filled(c, (unsigned)slot,
			  memory_fill(m, clock_us() / 1000, (unsigned)slot, key, lease, data, len, ttl_ms));
	}
	wake_parked(c, key);
}

void cache_abandon(struct cache *c, const struct cache_key *key, uint64_t lease)
{
	int slot = slot_of(c, key);
	if (slot < 0)
		return;
	if (c->redis)
		redis_abandon(c->redis, (unsigned)slot, key, lease);
	else
		memory_abandon(c->shared->memory, (unsigned)slot, key, lease);
	wake_parked(c, key);
}

static void invalidate_memory(struct cache *c, const struct cache_change *change, enum cache_phase phase,
			      struct gtid gtid)
{
	struct memory *m = c->shared->memory;
	uint64_t now_ms = clock_us() / 1000;
	for (uint64_t left = c->slots_of[change->rule]; left; left &= left - 1) {
		unsigned slot = (unsigned)__builtin_ctzll(left);
		if (change->whole)
			memory_drop_all(m, now_ms, slot, phase, gtid, &c->times);
		for (unsigned i = 0; i < change->nkeys; i++)
			memory_drop(m, now_ms, slot, &change->keys[i], phase, gtid, &c->times);
	}
}

static void count_changes(struct cache *c, const struct cache_change *changes, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (changes[i].rule < c->config->nrules)
			stats_invalidation(c->stats, c->config->rules[changes[i].rule].stats_id,
					   changes[i].whole ? STAT_INVAL_TABLE : STAT_INVAL_WRITE);
}

void cache_invalidate(struct cache *c, const struct cache_change *changes, unsigned n, enum cache_phase phase,
		      struct gtid gtid, struct cache_op *op)
{
	if (phase == CACHE_AFTER)
		count_changes(c, changes, n);
	if (c->redis) {
		redis_invalidate(c->redis, call_new(c, op), changes, n, c->slots_of, phase, gtid);
		return;
	}
	op->priv = NULL;
	for (unsigned i = 0; i < n; i++)
		invalidate_memory(c, &changes[i], phase, gtid);
	op->done(op, NULL);
}

void cache_cancel(struct cache *c, struct cache_op *op)
{
	(void)c;
	struct cache_call *call = op->priv;
	if (call)
		call->op = NULL;
	op->priv = NULL;
}
