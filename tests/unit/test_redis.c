/* SPDX-License-Identifier: Apache-2.0
 *
 * The Redis link against a real redis-server of the test's own, on a unix socket in a temporary folder: the protocol,
 * its model check, and what happens when Redis hangs, dies, is flushed, is full, or comes back with old data.
 */
#include <sys/stat.h>

#include "base/log.h"
#include "cache/redis_link.h"
#include "redis_fixture.h"

/* --- The protocol ------------------------------------------------------------------------------------------------- */

static void test_fill_and_hit(void **state)
{
	(void)state;
	struct proxy *p = &proxies[0];
	struct cache_key k = key_of("a} b", 1), other = key_of("a} b", 2);
	struct result got, busy;
	assert_int_equal(look(p, &k, &got), STORE_LEASE);
	assert_true(got.answer.fence_primary); /* a table that Redis has not seen: what was written just now? */
	assert_int_equal(look(&proxies[1], &k, &busy), STORE_BUSY);
	assert_true(fill(p, &k, got.answer.lease, "one", 5000));
	assert_false(fill(p, &k, got.answer.lease, "two", 5000)); /* a lease is good for one fill */
	assert_int_equal(look(&proxies[1], &k, &got), STORE_HIT);
	assert_string_equal(got.data, "one");
	assert_int_equal(look_unfenced(p, &other, &got), STORE_LEASE);
	assert_true(fill(p, &other, got.answer.lease, "", 5000));
	assert_int_equal(look(p, &other, &got), STORE_HIT);
	assert_int_equal(got.answer.len, 0);
	assert_int_equal(look(p, &k, &got), STORE_HIT);
}

static void test_abandon_and_lease_end(void **state)
{
	(void)state;
	struct proxy *p = &proxies[0];
	struct cache_key k = key_of("a", 1);
	struct result first, got;
	assert_int_equal(look(p, &k, &first), STORE_LEASE);
	redis_abandon(p->redis, SLOT, &k, first.answer.lease + 1);
	assert_int_equal(look(p, &k, &got), STORE_BUSY);
	redis_abandon(p->redis, SLOT, &k, first.answer.lease);
	assert_int_equal(look(p, &k, &got), STORE_LEASE);
	assert_false(fill(p, &k, first.answer.lease, "x", 5000));
	wait_until(look(p, &k, &first) == STORE_LEASE); /* the second holder never came back */
	assert_false(fill(p, &k, got.answer.lease, "x", 5000));
	assert_true(fill(p, &k, first.answer.lease, "y", 5000));
}

static void test_entries_end(void **state)
{
	(void)state;
	struct proxy *p = &proxies[0];
	struct cache_key k = key_of("a", 1), longer = key_of("a", 2);
	struct result got;
	assert_int_equal(look(p, &longer, &got), STORE_LEASE);
	assert_true(fill(p, &longer, got.answer.lease, "long", 60000));
	assert_int_equal(look(p, &k, &got), STORE_LEASE);
	assert_true(fill(p, &k, got.answer.lease, "short", 300));
	long long ttl = atoll(redis_do("PTTL st:{app.token:a}"));
	assert_in_range(ttl, 0, 300); /* by the earliest of the row's */
	wait_until(look(p, &k, &got) == STORE_LEASE);
	assert_int_equal(atoll(redis_do("HEXISTS st:{app.token:a} x")), 0);
}

static void test_invalidation_refuses_late_fill(void **state)
{
	(void)state;
	struct proxy *p = &proxies[0], *q = &proxies[1];
	struct cache_key k = key_of("a", 1);
	struct result got, again;
	assert_int_equal(look_unfenced(p, &k, &got), STORE_LEASE);
	drop(q, "a", CACHE_BEFORE, gtid(0));
	assert_false(fill(p, &k, got.answer.lease, "old", 5000));
	assert_int_equal(look(p, &k, &again), STORE_READ);
	assert_true(again.answer.fence_primary);
	drop(q, "a", CACHE_AFTER, gtid(7));
	assert_false(fill(p, &k, got.answer.lease, "old", 5000));
	assert_int_equal(look(p, &k, &again), STORE_LEASE);
	assert_false(again.answer.fence_primary);
	assert_int_equal(again.answer.fence.seq, 7);
	assert_int_equal(again.answer.fence.server, 1);
	assert_true(fill(p, &k, again.answer.lease, "new", 5000));
	assert_int_equal(look(q, &k, &again), STORE_HIT);
	drop(q, "a", CACHE_AFTER, gtid(8));
	assert_int_equal(look(p, &k, &again), STORE_LEASE);
}

static void test_writers_side_by_side(void **state)
{
	(void)state;
	struct proxy *p = &proxies[0], *q = &proxies[1];
	struct cache_key k = key_of("a", 1);
	struct result got;
	assert_int_equal(look_unfenced(p, &k, &got), STORE_LEASE);
	drop(p, "a", CACHE_BEFORE, gtid(0));
	drop(q, "a", CACHE_BEFORE, gtid(0));
	drop(q, "a", CACHE_BEFORE, gtid(0));
	drop(p, "a", CACHE_AFTER, gtid(UINT64_C(18446744073709551615)));
	assert_int_equal(look(p, &k, &got), STORE_READ);
	drop(q, "a", CACHE_AFTER, gtid(8));
	assert_int_equal(look(p, &k, &got), STORE_READ);
	drop(q, "a", CACHE_AFTER, gtid(9));
	assert_int_equal(look(p, &k, &got), STORE_LEASE);
	assert_true(got.answer.fence.seq == UINT64_C(18446744073709551615)); /* the newest, exactly */
	redis_abandon(p->redis, SLOT, &k, got.answer.lease);
	drop(q, "a", CACHE_AFTER, (struct gtid){.domain = 4, .server = 1, .seq = 1});
	assert_int_equal(look(p, &k, &got), STORE_LEASE);
	assert_true(got.answer.fence_primary); /* two domains */
}

static void test_whole_table(void **state)
{
	(void)state;
	struct proxy *p = &proxies[0], *q = &proxies[1];
	struct cache_key k = key_of("a", 1), leased = key_of("b", 1);
	struct result got, holder;
	assert_int_equal(look_unfenced(p, &k, &got), STORE_LEASE);
	assert_true(fill(p, &k, got.answer.lease, "one", 5000));
	assert_int_equal(look(p, &leased, &holder), STORE_LEASE);
	drop(q, NULL, CACHE_BEFORE, gtid(0));
	assert_int_equal(look(p, &k, &got), STORE_READ);
	assert_true(got.answer.fence_primary);
	drop(q, NULL, CACHE_AFTER, gtid(30));
	assert_int_equal(look(p, &k, &got), STORE_LEASE);
	assert_false(got.answer.fence_primary);
	assert_int_equal(got.answer.fence.seq, 30);
	assert_false(fill(p, &leased, holder.answer.lease, "old", 5000));
	assert_true(fill(p, &k, got.answer.lease, "new", 5000));
	assert_int_equal(look(q, &k, &got), STORE_HIT);
	assert_string_equal(got.data, "new");
}

/* Whoever finds the epoch gone, also to make a new one, fences the table: what was written just now is not known. */
static void test_whole_table_after_a_flush(void **state)
{
	(void)state;
	struct proxy *p = &proxies[0], *q = &proxies[1];
	struct cache_key k = key_of("a", 1);
	struct result got;
	assert_int_equal(look_unfenced(p, &k, &got), STORE_LEASE);
	drop(p, "a", CACHE_AFTER, gtid(40));
	redis_do("FLUSHALL");
	q->redis->times.recovery = 60000;
	drop(q, NULL, CACHE_AFTER, gtid(30));
	assert_int_equal(atoll(redis_do("HEXISTS st:{app.token}F p-")), 1); /* nobody fills until all are back */
	assert_int_equal(look(p, &k, &got), STORE_READ);
	assert_true(got.answer.fence_primary);

	redis_do("DEL st:{app.token}F");
	drop(q, NULL, CACHE_AFTER, gtid(31)); /* this one knows what it ends */
	assert_int_equal(look(p, &k, &got), STORE_LEASE);
	assert_false(got.answer.fence_primary);
	assert_int_equal(got.answer.fence.seq, 31);
}

static void test_shapes_of_a_row_are_bounded(void **state)
{
	(void)state;
	struct proxy *p = &proxies[0];
	struct result got;
	unsigned i = 0;
	for (; i < 2 * CACHE_FORMS; i++) {
		struct cache_key k = key_of("a", i);
		if (look(p, &k, &got) != STORE_LEASE)
			break;
		assert_true(fill(p, &k, got.answer.lease, "x", 60000));
	}
	assert_int_equal(got.found, STORE_READ);
	assert_in_range(i, CACHE_FORMS - 2, CACHE_FORMS);
}

/* All proxies make shapes under the secret that Redis keeps; when it is gone, under the next one. */
static void test_one_secret(void **state)
{
	(void)state;
	struct siphash_key first;
	wait_until(redis_secret(proxies[0].redis) && redis_secret(proxies[1].redis));
	first = *redis_secret(proxies[0].redis);
	assert_memory_equal(&first, redis_secret(proxies[1].redis), sizeof first);
	redis_do("FLUSHALL");
	wait_until(memcmp(redis_secret(proxies[0].redis), &first, sizeof first) != 0 &&
		   memcmp(redis_secret(proxies[1].redis), redis_secret(proxies[0].redis), sizeof first) == 0);
}

/* --- The model: several proxies, one Redis, now and then a flush or a lost epoch ---------------------------------- */

static struct proxy *model_proxy(struct model *w)
{
	return &proxies[w->client % LINKS];
}

static enum store_found model_look(struct model *w, const struct cache_key *key, struct cache_answer *a, char *got)
{
	struct result to;
	look(model_proxy(w), key, &to);
	*a = to.answer;
	a->fence_primary |= to.found == STORE_OFF; /* as lookup.c */
	if (to.found == STORE_HIT)
		snprintf(got, 64, "%.60s", to.data);
	return to.found;
}

static bool model_fill(struct model *w, const struct cache_key *key, uint64_t lease, const char *value, size_t len)
{
	assert_int_equal(strlen(value), len);
	return fill(model_proxy(w), key, lease, value, 200);
}

static void model_abandon(struct model *w, const struct cache_key *key, uint64_t lease)
{
	redis_abandon(model_proxy(w)->redis, SLOT, key, lease);
}

static void model_drop(struct model *w, const struct cache_row *row, enum cache_phase phase, struct gtid g)
{
	char text[8] = {0};
	if (row)
		memcpy(text, row->bytes, row->len);
	drop(model_proxy(w), row ? text : NULL, phase, g);
}

static uint64_t model_now(struct model *w)
{
	(void)w;
	return now_ms();
}

static void test_random_interleavings(void **state)
{
	(void)state;
	static const struct model_store ops = {model_look, model_fill, model_abandon, model_drop, model_now};
	struct model w = {.ops = &ops};
	srandom(7);
	bool enough = false; /* of each kind of outcome, whatever else the machine is doing */
	for (unsigned i = 0; i < 100000 || (!enough && i < 1000000); i++) {
		enough = w.hits > 1000 && w.fills > 200 && w.refused > 50 && w.replica_reads > 200;
		model_step(&w);
		if (i % 5000 == 4999)
			redis_do("FLUSHALL");
		if (i % 5000 == 2499)
			redis_do("DEL st:{app.token}e");
	}
	assert_true(enough);
}

/* --- What may go wrong -------------------------------------------------------------------------------------------- */

/* Puts `value` in under row "a", through proxy 0. */
static void put(const char *value)
{
	struct cache_key k = key_of("a", 1);
	struct result got;
	wait_until(look(&proxies[0], &k, &got) == STORE_LEASE && fill(&proxies[0], &k, got.answer.lease, value, 60000));
	wait_until(look(&proxies[1], &k, &got) == STORE_HIT);
}

enum { SERVE_MS = 250 };

/* Short ones, as cache.c's: look-ups may be OFF whenever the machine is busy. */
static void usual_times(uint64_t recovery)
{
	for (unsigned i = 0; i < LINKS; i++) {
		proxies[i].redis->times.serve = SERVE_MS;
		proxies[i].redis->times.recovery = recovery;
	}
}

/* Proxies whose rules differ: nobody is served, and what was there before is not when they agree again. */
static void test_terms_that_differ(void **state)
{
	(void)state;
	struct proxy *p = &proxies[0], *q = &proxies[1];
	struct cache_key k = key_of("a", 1);
	struct result got;
	put("old");
	q->slots[SLOT].terms = 7;
	wait_until(look(p, &k, &got) == STORE_OFF && look(q, &k, &got) == STORE_OFF);
	drop(p, "a", CACHE_AFTER, gtid(0)); /* works all the same */
	q->slots[SLOT].terms = 0;
	wait_until(look(p, &k, &got) != STORE_OFF);
	assert_true(got.found == STORE_LEASE && got.answer.fence_primary);
	assert_true(fill(p, &k, got.answer.lease, "new", 60000));
	wait_until(look(q, &k, &got) == STORE_HIT);
	assert_string_equal(got.data, "new");
	proxy_close(&proxies[2]);
	proxy_open(&proxies[2], 5000); /* one that has no such rule */
	proxies[2].slots[SLOT].usable = false;
	wait_until(look(p, &k, &got) == STORE_OFF);
	proxy_close(&proxies[2]);
	wait_until(look(p, &k, &got) == STORE_LEASE);
}

static void test_a_table_is_withdrawn(void **state)
{
	(void)state;
	struct proxy *p = &proxies[0], *q = &proxies[1];
	struct cache_key k = key_of("a", 1);
	struct result got;
	put("old");
	q->slots[SLOT].usable = false;
	redis_withdraw(q->redis, SLOT);
	uint64_t before = q->redis->confirmed;
	wait_until(q->redis->confirmed > before);
	assert_true(look(p, &k, &got) != STORE_HIT && got.found != STORE_LEASE); /* before it has heard by a beat */
	wait_until(look(p, &k, &got) == STORE_OFF);
	redis_desert(q->redis);
	proxy_close(q);
	for (unsigned i = 0; i < 3; i++) {
		before = p->redis->confirmed;
		wait_until(p->redis->confirmed > before);
		assert_int_equal(look(p, &k, &got), STORE_OFF);
	}
}

/* Entries end by Redis' clock: when it goes back they are dropped. */
static void test_the_clock_is_set_back(void **state)
{
	(void)state;
	struct proxy *p = &proxies[0];
	struct cache_key k = key_of("a", 1);
	struct result got;
	put("old");
	redis_do("HSET st:{}b last %lld", (long long)time(NULL) * 1000 + 3600000);
	wait_until(look(p, &k, &got) != STORE_HIT);
	assert_int_equal(got.found, STORE_LEASE);
	assert_true(got.answer.fence_primary);
}

/* What it owed is lost with it: tables begin anew when it has not come back by the time the others are served. */
static void test_a_proxy_dies_in_an_outage(void **state)
{
	(void)state;
	struct proxy *p = &proxies[0], *q = &proxies[1];
	struct cache_key k = key_of("a", 1);
	struct result got;
	put("old");
	usual_times(500);
	redis_do("CONFIG SET min-replicas-to-write 1");
	drop(p, "a", CACHE_AFTER, gtid(5));
	proxy_close(p);
	redis_do("CONFIG SET min-replicas-to-write 0");
	wait_until(look(q, &k, &got) != STORE_OFF);
	assert_true(got.found != STORE_HIT);
}

static void test_nobody_is_missing_after_a_break(void **state)
{
	(void)state;
	struct proxy *q = &proxies[1];
	struct cache_key k = key_of("a", 1);
	struct result got;
	put("old");
	usual_times(500);
	proxy_close(&proxies[2]); /* it left in order */
	redis_do("HINCRBY st:{}b last -%d", 10 * SERVE_MS);
	wait_until(look(q, &k, &got) == STORE_OFF);
	wait_until(look(q, &k, &got) != STORE_OFF);
	assert_int_equal(got.found, STORE_HIT);
}

static void test_restart_with_old_data(void **state)
{
	(void)state;
	struct cache_key k = key_of("a", 1);
	struct result got;
	put("old");
	assert_string_equal(redis_do("SAVE"), "OK");
	redis_stop();
	drop(&proxies[0], "a", CACHE_AFTER, gtid(5)); /* not lost: owed */
	assert_false(slot_serves(&proxies[0].slots[SLOT]));
	assert_int_equal(look(&proxies[0], &k, &got), STORE_OFF);
	redis_start();
	assert_int_equal(atoll(redis_do("HLEN st:{app.token:a}")), 2); /* the old entry came back */
	proxy_ready(&proxies[1]);
	wait_until(look(&proxies[1], &k, &got) != STORE_OFF);
	assert_int_equal(got.found, STORE_LEASE);
	proxy_ready(&proxies[0]); /* it has paid with an epoch */
	assert_true(proxies[0].slots[SLOT].paid > 0);
	assert_true(look(&proxies[0], &k, &got) != STORE_HIT);
}

static void test_confirmed_invalidation_lost_in_a_crash(void **state)
{
	(void)state;
	struct cache_key k = key_of("a", 1);
	struct result got;
	put("old");
	assert_string_equal(redis_do("SAVE"), "OK");
	drop(&proxies[0], "a", CACHE_AFTER, gtid(5)); /* confirmed: nobody owes anything */
	redis_stop();
	redis_start();
	assert_int_equal(atoll(redis_do("HLEN st:{app.token:a}")), 2);
	for (unsigned i = 0; i < LINKS; i++) {
		wait_until(look(&proxies[i], &k, &got) != STORE_OFF);
		assert_true(got.found != STORE_HIT);
		assert_true(i || got.answer.fence_primary); /* the one that made the epoch */
	}
}

static void test_invalidation_sent_but_never_confirmed(void **state)
{
	(void)state;
	struct cache_key k = key_of("a", 1);
	struct result got, gone;
	put("old");
	kill(redis_pid, SIGSTOP);
	start_drop(&proxies[0], "a", CACHE_AFTER, gtid(5), &gone);
	start_look(&proxies[0], &k, &got);
	redis_flush(proxies[0].redis);
	proxy_close(&proxies[0]); /* the connection is lost with both under way */
	assert_true(gone.done && got.done);
	assert_int_equal(got.found, STORE_OFF);
	assert_true(proxies[0].slots[SLOT].owed != proxies[0].slots[SLOT].paid);
	assert_int_equal(proxies[0].slots[SLOT].unconfirmed, 0);
	kill(redis_pid, SIGCONT);
}

static void test_hung(void **state)
{
	(void)state;
	struct proxy *p = &proxies[0];
	struct cache_key k = key_of("a", 1);
	struct result got, late, more;
	put("old");
	proxy_close(p);
	proxy_open(p, 50);
	proxy_ready(p);
	wait_until(look(p, &k, &got) == STORE_HIT ||
		   (got.found == STORE_LEASE && fill(p, &k, got.answer.lease, "old", 60000)));

	kill(redis_pid, SIGSTOP);
	uint64_t began = now_ms();
	start_look(p, &k, &got);
	start_drop(p, "a", CACHE_AFTER, gtid(5), &late);
	wait_until(got.done && p->slots[SLOT].unconfirmed == 1);
	assert_int_equal(got.found, STORE_OFF);
	assert_false(late.done); /* Redis may only be busy, and others may be served */
	assert_false(slot_serves(&p->slots[SLOT]));
	/* A reply is late already: nobody waits for the second one of a fence that is only good to have. */
	start_drop(p, "a", CACHE_BEFORE, gtid(0), &more);
	assert_true(more.done);
	assert_int_equal(p->slots[SLOT].unconfirmed, 2);
	start_look(p, &k, &got);
	assert_true(got.done);
	assert_int_equal(got.found, STORE_OFF);
	wait_until(strstr(p->status, "slow") != NULL); /* though nobody asks anything: silence over several deadlines */
	assert_true(now_ms() - began >= 2 * 50);       /* one late reply alone is not enough */
	start_drop(p, "a", CACHE_AFTER, gtid(7), &more);
	assert_int_equal(p->slots[SLOT].unconfirmed, 3);
	pump();
	assert_false(more.done || late.done);
	kill(redis_pid, SIGCONT);
	proxy_ready(p); /* the breaker closed, and what was late is confirmed */
	assert_true(more.done && late.done);
	assert_int_equal(p->slots[SLOT].unconfirmed, 0);
	wait_until(look(p, &k, &got) != STORE_OFF);
	assert_int_equal(got.found, STORE_LEASE);
}

/* A proxy that starts does not know what it owed before, nor whether others are served: not before its link is up. */
static void test_an_acknowledgement_at_the_start(void **state)
{
	(void)state;
	struct proxy *p = &proxies[0];
	struct result gone;
	proxy_close(p);
	kill(redis_pid, SIGSTOP);
	proxy_open(p, 50);
	start_drop(p, "a", CACHE_AFTER, gtid(5), &gone);
	for (unsigned i = 0; i < 10; i++)
		pump();
	assert_false(gone.done);
	kill(redis_pid, SIGCONT);
	wait_until(gone.done);
	assert_true(slot_serves(&p->slots[SLOT])); /* what could not be said is paid */
	assert_true(p->slots[SLOT].paid > 0);
}

static void test_hung_for_long(void **state)
{
	(void)state;
	struct proxy *p = &proxies[0];
	struct result late;
	proxy_close(p);
	proxy_open(p, 50);
	proxy_ready(p);
	kill(redis_pid, SIGSTOP);
	start_drop(p, "a", CACHE_AFTER, gtid(5), &late);
	wait_until(p->slots[SLOT].owed != p->slots[SLOT].paid); /* another connection is tried */
	assert_true(late.done); /* nobody was served for far longer than others are without a beat */
	assert_int_equal(p->slots[SLOT].unconfirmed, 0);
	kill(redis_pid, SIGCONT);
	proxy_ready(p);
}

static void test_out_of_memory(void **state)
{
	(void)state;
	struct proxy *p = &proxies[0];
	struct cache_key k = key_of("a", 1), other = key_of("b", 1);
	struct result got;
	put("old");
	assert_string_equal(redis_do("CONFIG SET maxmemory 1"), "OK");
	assert_true(strstr(redis_do("SET x y"), "OOM") != NULL);
	drop(p, "a", CACHE_BEFORE, gtid(0)); /* what takes away is always possible */
	drop(p, "a", CACHE_AFTER, gtid(5));
	assert_true(slot_serves(&p->slots[SLOT]));
	uint64_t beaten = p->redis->confirmed;
	wait_until(p->redis->confirmed > beaten); /* nor does it make a beat fail */
	assert_int_equal(look(p, &k, &got), STORE_READ); /* no lease can be kept; the fence is told all the same */
	assert_int_equal(got.answer.fence.seq, 5);
	drop(p, NULL, CACHE_AFTER, gtid(9));
	assert_int_equal(look(p, &other, &got), STORE_READ);
	assert_int_equal(got.answer.fence.seq, 9);
	assert_string_equal(redis_do("CONFIG SET maxmemory 0"), "OK");
	assert_int_equal(look(p, &k, &got), STORE_LEASE);
}

/* Redis answers reads and refuses, or holds back, writes: a write's client waits until nobody is served any more, and
 * nobody is before what is owed was paid. */
static void refuses_writes(const char *begin, const char *end)
{
	struct proxy *p = &proxies[0], *q = &proxies[1];
	struct cache_key k = key_of("a", 1);
	struct result got, gone;
	put("old");
	usual_times(500);
	redis_do(begin);
	drop(p, "a", CACHE_BEFORE, gtid(0));
	start_drop(p, "a", CACHE_AFTER, gtid(5), &gone);
	while (!gone.done) {
		look(q, &k, &got); /* the write is not acknowledged yet */
		redis_flush(p->redis);
		pump();
	}
	assert_false(slot_serves(&p->slots[SLOT]));
	assert_int_equal(look(q, &k, &got), STORE_OFF);
	drop(p, "a", CACHE_AFTER, gtid(6)); /* and so does every other, which need not wait as long again */
	assert_int_equal(look(q, &k, &got), STORE_OFF);
	redis_do(end);
	for (bool back = false; !back;) {
		enum store_found found = look(q, &k, &got);
		back = found != STORE_OFF;
		assert_true(found != STORE_HIT);
		assert_true(!back || slot_serves(&p->slots[SLOT]));
		pump();
	}
	proxy_ready(p);
}

static void test_replicas_are_missing(void **state)
{
	(void)state;
	refuses_writes("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0");
}

static void test_writes_are_paused(void **state)
{
	(void)state;
	refuses_writes("CLIENT PAUSE 60000 WRITE", "CLIENT UNPAUSE");
}

static void test_a_save_has_failed(void **state)
{
	(void)state;
	char path[128];
	snprintf(path, sizeof path, "%s/dump.rdb", folder);
	assert_int_equal(mkdir(path, 0700), 0); /* in the file's place */
	redis_do("BGSAVE");
	wait_until(strstr(redis_do("INFO persistence"), "rdb_last_bgsave_status:err") != NULL);
	redis_do("CONFIG SET stop-writes-on-bgsave-error no");
	assert_string_equal(redis_do("CONFIG SET save %s", "3600 1"), "OK");
	refuses_writes("CONFIG SET stop-writes-on-bgsave-error yes", "CONFIG SET stop-writes-on-bgsave-error no");
}

static void test_scripts_flushed(void **state)
{
	(void)state;
	struct proxy *p = &proxies[0];
	struct cache_key k = key_of("a", 1);
	struct result got, gone;
	put("old");
	assert_string_equal(redis_do("SCRIPT FLUSH"), "OK");
	start_drop(p, "a", CACHE_AFTER, gtid(5), &gone);
	wait_until(!slot_serves(&p->slots[SLOT]));
	assert_false(gone.done);
	assert_int_equal(look(p, &k, &got), STORE_OFF);
	proxy_ready(p);
	assert_true(gone.done);
	assert_int_equal(look(p, &k, &got), STORE_LEASE);
	assert_true(got.answer.fence_primary);
}

static void test_eviction_policy(void **state)
{
	(void)state;
	struct proxy *p = &proxies[0];
	struct cache_key k = key_of("a", 1), b = key_of("b", 1), c = key_of("c", 1);
	struct result got;
	assert_int_equal(look_unfenced(p, &k, &got), STORE_LEASE);
	assert_false(got.answer.fence_primary);
	redis_do("CONFIG SET maxmemory-policy allkeys-lru");
	redis_do("CONFIG SET maxmemory 100mb");
	wait_until(p->redis->may_evict);
	assert_int_equal(look(p, &b, &got), STORE_LEASE);
	assert_true(got.answer.fence_primary);

	/* A fence that was evicted would still stand. */
	redis_do("CONFIG SET maxmemory-policy noeviction");
	wait_until(!p->redis->may_evict && !proxies[1].redis->may_evict && !proxies[2].redis->may_evict);
	assert_int_equal(look(p, &c, &got), STORE_LEASE);
	assert_true(got.answer.fence_primary);

	/* One that starts now has never seen it so, and is told. */
	redis_abandon(p->redis, SLOT, &c, got.answer.lease);
	proxy_close(&proxies[2]);
	proxy_open(&proxies[2], 5000);
	proxy_ready(&proxies[2]);
	wait_until(look(&proxies[2], &c, &got) == STORE_LEASE);
	assert_true(got.answer.fence_primary);
}

static void test_replica_is_refused(void **state)
{
	(void)state;
	struct proxy *p = &proxies[0];
	struct result gone;
	usual_times(0);
	assert_string_equal(redis_do("REPLICAOF /nowhere 1"), "OK");
	drop(p, "a", CACHE_AFTER, gtid(5));
	assert_false(slot_serves(&p->slots[SLOT]));
	wait_until(strcmp(p->status, "redis down: it is a replica") == 0);
	wait_until(p->redis->outage);
	start_drop(p, "b", CACHE_AFTER, gtid(6), &gone);
	assert_true(gone.done);
	assert_string_equal(redis_do("REPLICAOF NO ONE"), "OK");
	proxy_ready(p);
}

static void test_password(void **state)
{
	(void)state;
	struct proxy *p = &proxies[0];
	redis_do("ACL SETUSER cache on >secret ~* +@all");
	redis_do("ACL SETUSER default >other");
	proxy_close(p);
	proxy_open(p, 5000);
	wait_until(strncmp(p->status, "redis down", 10) == 0 && p->errors >= 2); /* tries again and again */
	proxy_close(p);
	static char user[] = "cache", password[] = "secret";
	memset(&p->config, 0, sizeof p->config);
	proxy_open(p, 5000);
	proxy_close(p);
	p->config.redis_user = user;
	p->config.redis_password = password;
	p->config.redis_db = 3;
	struct redis_hooks hooks = {p, on_found, on_invalidated, on_filled, on_error, on_status};
	p->redis = redis_new(base, &p->config, &times, p->slots, &hooks);
	proxy_ready(p);
	struct cache_key k = key_of("a", 1);
	struct result got;
	assert_int_equal(look(p, &k, &got), STORE_LEASE);
	assert_string_equal(redis_do("EXISTS st:{app.token}e"), "0"); /* database 0 */
}

static size_t nonsense(char *out)
{
	static const char *const pieces[] = {"*", "$", ":", "\r\n", "+OK\r\n", "-ERR x\r\n", "-OOM\r\n", "$-1\r\n",
					     "*-1\r\n", "$5\r\nhello\r\n", "*2\r\n", "*5\r\n", ":1\r\n", ":2\r\n",
					     ":4\r\n", "$0\r\n\r\n", "$99999999999\r\n", "*1000\r\n", "\0", "\xff"};
	size_t n = 0;
	for (uint64_t left = model_rnd(30); left; left--) {
		const char *piece = pieces[model_rnd(sizeof pieces / sizeof pieces[0])];
		size_t len = *piece ? strlen(piece) : 1;
		memcpy(out + n, piece, len);
		n += len;
	}
	return n;
}

static size_t good_handshake(char *out)
{
	char info[128];
	snprintf(info, sizeof info, "run_id:%040d\r\nrole:master\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n", 7);
	size_t n = (size_t)sprintf(out, "$%zu\r\n%s\r\n", strlen(info), info);
	for (unsigned i = 0; i < SCRIPTS; i++)
		n += (size_t)sprintf(out + n, "$40\r\n%040u\r\n", i);
	n += (size_t)sprintf(out + n, "*4\r\n$16\r\n0123456789abcdef\r\n:0\r\n:0\r\n$16\r\n0123456789abcdef\r\n");
	return n;
}

/* Bytes that make no sense, in the handshake or after it: the connection goes, and everyone is answered. */
static void test_a_server_that_talks_nonsense(void **state)
{
	(void)state;
	struct proxy *p = &proxies[0];
	struct cache_key k = key_of("a", 1);
	char real[sizeof sock], bytes[2048];
	proxy_close(p);
	memcpy(real, sock, sizeof real);
	snprintf(sock, sizeof sock, "%s/fake.sock", folder);
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	memcpy(un.sun_path, sock, sizeof sock);
	int listener = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&un, sizeof un), 0);
	assert_int_equal(listen(listener, 16), 0);
	srandom(11);
	for (unsigned i = 0; i < 200; i++) {
		struct result got, gone;
		proxy_open(p, 5000);
		int peer = accept(listener, NULL, NULL);
		size_t n = i % 4 ? good_handshake(bytes) : 0;
		assert_int_equal(send(peer, bytes, n, MSG_NOSIGNAL), n);
		if (n)
			proxy_ready(p);
		start_look(p, &k, &got);
		start_drop(p, "a", CACHE_AFTER, gtid(5), &gone);
		redis_flush(p->redis);
		n = nonsense(bytes);
		send(peer, bytes, n, MSG_NOSIGNAL);
		close(peer);
		wait_until(strncmp(p->status, "redis down", 10) == 0);
		assert_true(got.done);
		assert_int_equal(p->slots[SLOT].unconfirmed, 0);
		proxy_close(p);
		assert_true(gone.done);
	}
	close(listener);
	memcpy(sock, real, sizeof sock);
}

#define redis_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		redis_test(test_fill_and_hit),
		redis_test(test_abandon_and_lease_end),
		redis_test(test_entries_end),
		redis_test(test_invalidation_refuses_late_fill),
		redis_test(test_writers_side_by_side),
		redis_test(test_whole_table),
		redis_test(test_whole_table_after_a_flush),
		redis_test(test_shapes_of_a_row_are_bounded),
		redis_test(test_one_secret),
		cmocka_unit_test_setup_teardown(test_random_interleavings, setup_model, teardown),
		redis_test(test_terms_that_differ),
		redis_test(test_a_table_is_withdrawn),
		redis_test(test_the_clock_is_set_back),
		redis_test(test_a_proxy_dies_in_an_outage),
		redis_test(test_nobody_is_missing_after_a_break),
		redis_test(test_restart_with_old_data),
		redis_test(test_confirmed_invalidation_lost_in_a_crash),
		redis_test(test_invalidation_sent_but_never_confirmed),
		redis_test(test_hung),
		redis_test(test_an_acknowledgement_at_the_start),
		redis_test(test_hung_for_long),
		redis_test(test_out_of_memory),
		redis_test(test_replicas_are_missing),
		redis_test(test_writes_are_paused),
		redis_test(test_a_save_has_failed),
		redis_test(test_scripts_flushed),
		redis_test(test_eviction_policy),
		redis_test(test_replica_is_refused),
		redis_test(test_password),
		redis_test(test_a_server_that_talks_nonsense),
	};
	log_set_level(LOG_LEVEL_ERROR); /* connections that break are what is tested here */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
