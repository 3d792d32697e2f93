/* SPDX-License-Identifier: Apache-2.0
 *
 * The front, as a session sees it, with the memory store: verdicts, sessions that wait behind a filler, cancelled
 * sessions, reloads that reach the workers one after the other, flushes, and a store that is not there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <event2/event.h>
#include <time.h>

#include "base/log.h"
#include "cache/cache.h"

enum { WAIT_MS = 20000, WORKERS = 2 };

static struct event_base *base;
static struct config config, without, swapped;
static struct cache_shared *shared;
static struct cache *workers[WORKERS];
static struct stats *stats;

struct waiter {
	struct cache_op op;
	unsigned answers;
	struct cache_answer answer;
	char data[64];
};

static void on_done(struct cache_op *op, const struct cache_answer *answer)
{
	struct waiter *w = (struct waiter *)op;
	assert_null(op->priv);
	w->answers++;
	if (!answer)
		return;
	w->answer = *answer;
	if (answer->verdict == CACHE_HIT) {
		memcpy(w->data, answer->data, answer->len);
		w->data[answer->len] = 0;
	}
}

static struct config_rule rule(const char *name, const char *table)
{
	struct config_rule r = {.ttl_ms = 60000, .stats_id = stats_rule_id(name)};
	snprintf(r.name, sizeof r.name, "%s", name);
	snprintf(r.db, sizeof r.db, "app");
	snprintf(r.table, sizeof r.table, "%s", table);
	snprintf(r.key, sizeof r.key, "id");
	return r;
}

static void on_beat(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg; /* only so that pump() never sleeps for long */
}

static int setup(void **state)
{
	config = (struct config){.refs = 1000, .nrules = 2, .memory_limit = 16 << 20, .max_entry = 1000,
				 .max_replica_lag_ms = 1000, .redis_timeout_ms = 5};
	config.rules[0] = rule("token", "token");
	config.rules[1] = rule("user", "user");
	without = config;
	without.nrules = 1;
	without.rules[0] = config.rules[1];
	swapped = config;
	swapped.rules[0] = config.rules[1];
	swapped.rules[1] = config.rules[0];
	base = event_base_new();
	struct event *beat = event_new(base, -1, EV_PERSIST, on_beat, event_self_cbarg());
	event_add(beat, &(struct timeval){0, 2000});
	*state = beat;
	stats = stats_new();
	shared = cache_shared_new(&config);
	for (unsigned i = 0; i < WORKERS; i++)
		workers[i] = cache_new(shared, base, &config, stats);
	return 0;
}

static int teardown(void **state)
{
	for (unsigned i = 0; i < WORKERS; i++)
		if (workers[i])
			cache_free(workers[i]);
	cache_shared_free(shared);
	stats_free(stats);
	event_free(*state);
	event_base_free(base);
	return 0;
}

static uint64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void wait_for(struct waiter *w)
{
	for (uint64_t until = now_ms() + WAIT_MS; !w->answers;) {
		assert_true(now_ms() < until);
		for (unsigned i = 0; i < WORKERS; i++)
			cache_end_turn(workers[i]);
		event_base_loop(base, EVLOOP_ONCE);
	}
}

static struct cache_key key_of(unsigned index, const char *row)
{
	struct cache_key k = {.rule = (uint8_t)index, .len = (uint8_t)strlen(row), .shape = {1}};
	memcpy(k.row, row, k.len);
	return k;
}

static uint64_t monotonic_us(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void start(struct cache *c, const struct cache_key *key, struct waiter *w)
{
	*w = (struct waiter){.op.done = on_done};
	cache_lookup(c, key, monotonic_us(), &w->op);
}

static enum cache_verdict look(struct cache *c, const struct cache_key *key, struct waiter *w)
{
	start(c, key, w);
	wait_for(w);
	assert_int_equal(w->answers, 1);
	return w->answer.verdict;
}

static void put(struct cache *c, const struct cache_key *key, const char *value)
{
	struct waiter w;
	assert_int_equal(look(c, key, &w), CACHE_LEASE);
	cache_fill(c, key, w.answer.lease, value, strlen(value), 60000);
}

static void invalidate(struct cache *c, unsigned index, const char *row, enum cache_phase phase, uint64_t seq)
{
	struct waiter w = {.op.done = on_done};
	struct cache_change change = {.rule = (uint8_t)index, .whole = row == NULL, .nkeys = row != NULL};
	if (row) {
		change.keys[0].len = (uint8_t)strlen(row);
		memcpy(change.keys[0].bytes, row, strlen(row));
	}
	cache_invalidate(c, &change, 1, phase, (struct gtid){.seq = seq}, &w.op);
	wait_for(&w);
	assert_int_equal(w.answers, 1);
}

static void test_verdicts(void **state)
{
	(void)state;
	struct cache_key k = key_of(0, "a"), elsewhere = key_of(1, "a"), unknown = key_of(7, "a");
	struct waiter w;
	uint64_t fills = stats_sum_cache(config.rules[0].stats_id, STAT_FILL);
	put(workers[0], &k, "one");
	assert_int_equal(stats_sum_cache(config.rules[0].stats_id, STAT_FILL), fills + 1);
	assert_int_equal(look(workers[1], &k, &w), CACHE_HIT);
	assert_string_equal(w.data, "one");
	assert_int_equal(look(workers[1], &elsewhere, &w), CACHE_LEASE);
	assert_int_equal(look(workers[1], &unknown, &w), CACHE_OFF);
	invalidate(workers[0], 0, "a", CACHE_BEFORE, 0);
	assert_int_equal(look(workers[1], &k, &w), CACHE_READ);
	assert_true(w.answer.fence_primary);
	invalidate(workers[0], 0, "a", CACHE_AFTER, 17);
	assert_int_equal(look(workers[1], &k, &w), CACHE_LEASE);
	assert_int_equal(w.answer.fence.seq, 17);
	char status[160];
	cache_store_status(shared, status, sizeof status);
	assert_string_equal(status, "memory");
}

static void test_too_large(void **state)
{
	(void)state;
	struct cache_key k = key_of(0, "a");
	struct waiter w;
	char large[1001] = {0};
	uint64_t refused = stats_sum_cache(config.rules[0].stats_id, STAT_FILL_REFUSED);
	assert_int_equal(look(workers[0], &k, &w), CACHE_LEASE);
	cache_fill(workers[0], &k, w.answer.lease, large, sizeof large, 60000);
	assert_int_equal(stats_sum_cache(config.rules[0].stats_id, STAT_FILL_REFUSED), refused + 1);
	assert_int_equal(look(workers[0], &k, &w), CACHE_LEASE); /* nobody waits for the one who gave up */
}

static void test_waiting_behind_a_filler(void **state)
{
	(void)state;
	struct cache_key k = key_of(0, "a");
	for (unsigned filler = 0; filler < WORKERS; filler++) {
		struct waiter holder, waiting, other;
		assert_int_equal(look(workers[filler], &k, &holder), CACHE_LEASE);
		start(workers[0], &k, &waiting);
		start(workers[1], &k, &other);
		assert_int_equal(waiting.answers + other.answers, 0);
		cache_fill(workers[filler], &k, holder.answer.lease, "one", 3, 60000);
		assert_int_equal(waiting.answers + other.answers, 0); /* not from inside another session's call */
		wait_for(&waiting);
		wait_for(&other);
		assert_int_equal(waiting.answer.verdict, CACHE_HIT);
		assert_int_equal(other.answer.verdict, CACHE_HIT);
		invalidate(workers[0], 0, NULL, CACHE_AFTER, 1);
	}
}

static void test_the_next_one_fills(void **state)
{
	(void)state;
	struct cache_key k = key_of(0, "a");
	struct waiter holder, one, two;
	assert_int_equal(look(workers[0], &k, &holder), CACHE_LEASE);
	start(workers[0], &k, &one);
	start(workers[0], &k, &two);
	cache_abandon(workers[0], &k, holder.answer.lease);
	wait_for(&one);
	wait_for(&two); /* behind the first, or after it has waited long enough */
	assert_true((one.answer.verdict == CACHE_LEASE) + (two.answer.verdict == CACHE_LEASE) == 1);
	assert_true((one.answer.verdict == CACHE_READ) + (two.answer.verdict == CACHE_READ) == 1);
}

static void test_waiting_ends(void **state)
{
	(void)state;
	struct cache_key k = key_of(0, "a");
	struct waiter holder, waiting;
	invalidate(workers[0], 0, "a", CACHE_AFTER, 5);
	assert_int_equal(look(workers[0], &k, &holder), CACHE_LEASE);
	assert_int_equal(look(workers[0], &k, &waiting), CACHE_READ);
	assert_int_equal(waiting.answer.fence.seq, 5); /* who reads through is told the fence, too */
}

static void test_cancelled(void **state)
{
	(void)state;
	struct cache_key k = key_of(0, "a");
	struct waiter holder, gone, next;
	assert_int_equal(look(workers[0], &k, &holder), CACHE_LEASE);
	start(workers[0], &k, &gone);
	cache_cancel(workers[0], &gone.op);
	start(workers[0], &k, &next);
	cache_abandon(workers[0], &k, holder.answer.lease);
	wait_for(&next);
	assert_int_equal(next.answer.verdict, CACHE_LEASE);
	assert_int_equal(gone.answers, 0);
	cache_cancel(workers[0], &gone.op); /* again does no harm */
}

static void test_flush_and_usage(void **state)
{
	(void)state;
	struct cache_key k = key_of(0, "a"), kept = key_of(1, "a");
	struct waiter w;
	uint64_t entries, bytes, evictions;
	put(workers[0], &k, "one");
	put(workers[0], &kept, "two");
	cache_usage(shared, 0, &entries, &bytes, &evictions);
	assert_int_equal(entries, 1);
	assert_int_equal(cache_flush(shared, "nobody"), -1);
	assert_int_equal(cache_flush(shared, "token"), 0);
	cache_usage(shared, 0, &entries, &bytes, &evictions);
	assert_int_equal(entries, 0);
	assert_int_equal(look(workers[0], &k, &w), CACHE_LEASE);
	assert_int_equal(look(workers[0], &kept, &w), CACHE_HIT);
	cache_new_primary(shared);
	assert_int_equal(look(workers[0], &kept, &w), CACHE_LEASE);
	assert_true(w.answer.fence_primary);
	assert_int_equal(cache_flush(shared, NULL), 0);
}

static void test_reload_reaches_one_worker_first(void **state)
{
	(void)state;
	struct cache_key k = key_of(0, "a"), moved = key_of(0, "b");
	struct waiter w;
	put(workers[0], &k, "one");
	cache_reload(workers[0], &without);
	assert_int_equal(look(workers[1], &k, &w), CACHE_OFF); /* worker 0 would not invalidate it any more */
	assert_int_equal(look(workers[0], &moved, &w), CACHE_LEASE); /* both have this table, under another index */
	cache_reload(workers[0], &config);
	assert_int_equal(look(workers[1], &k, &w), CACHE_LEASE); /* usable again, but nothing from before */
	assert_true(w.answer.fence_primary);
}

static void test_reload_during_a_write(void **state)
{
	(void)state;
	struct cache_key before = key_of(0, "a"), after = key_of(1, "a");
	struct waiter w;
	invalidate(workers[0], 0, "a", CACHE_BEFORE, 0);
	for (unsigned i = 0; i < WORKERS; i++)
		cache_reload(workers[i], &swapped);
	assert_int_equal(look(workers[0], &after, &w), CACHE_READ); /* the same table: its writer is under way */
	invalidate(workers[0], 0, "a", CACHE_AFTER, 9); /* by the index of before */
	assert_int_equal(look(workers[0], &after, &w), CACHE_LEASE);
	assert_int_equal(w.answer.fence.seq, 9);
	assert_int_equal(look(workers[0], &before, &w), CACHE_LEASE);
}

static void test_no_store(void **state)
{
	(void)state;
	struct cache_key k = key_of(0, "a");
	struct waiter w;
	struct config redis = config;
	const char *why;
	redis.store_redis = true;
	assert_int_equal(addr_parse("/nowhere/redis.sock", 6379, &redis.redis, &why), 0);
	assert_int_equal(addr_resolve(&redis.redis, &why), 0);
	put(workers[0], &k, "old");
	cache_reload(workers[0], &redis);
	assert_int_equal(look(workers[1], &k, &w), CACHE_OFF); /* workers with different stores */
	cache_reload(workers[1], &redis);
	assert_int_equal(look(workers[0], &k, &w), CACHE_OFF);
	invalidate(workers[0], 0, "a", CACHE_BEFORE, 0);
	invalidate(workers[0], 0, "a", CACHE_AFTER, 5);
	char status[160];
	cache_store_status(shared, status, sizeof status);
	assert_int_equal(strncmp(status, "redis down: ", 12), 0);
	for (unsigned i = 0; i < WORKERS; i++)
		cache_reload(workers[i], &config);
	assert_int_equal(look(workers[0], &k, &w), CACHE_LEASE); /* what memory held from before is gone */
}

#define cache_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cache_test(test_verdicts),
		cache_test(test_too_large),
		cache_test(test_waiting_behind_a_filler),
		cache_test(test_the_next_one_fills),
		cache_test(test_waiting_ends),
		cache_test(test_cancelled),
		cache_test(test_flush_and_usage),
		cache_test(test_reload_reaches_one_worker_first),
		cache_test(test_reload_during_a_write),
		cache_test(test_no_store),
	};
	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
