/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>

#include "cluster/freshness.h"
#include "cluster/topology.h"

static uint64_t table(const char *name)
{
	return freshness_table(slice_str("app"), slice_str(name), false);
}

static struct gtid_pos pos_of(const char *text)
{
	struct gtid_pos pos;

	assert_int_equal(gtid_pos_parse(slice_str(text), &pos), 0);
	return pos;
}

static void raise_to(struct gtid_live *live, const char *text)
{
	struct gtid_pos pos = pos_of(text);

	gtid_live_raise(live, &pos);
}

static void sample(struct freshness *f, const char *text)
{
	struct gtid_pos pos = pos_of(text);

	freshness_sampled(f, freshness_mark(f), &pos);
}

static bool covered(struct freshness *f, const struct gtid_live *live, const char *name)
{
	uint64_t t = table(name);

	return freshness_covered(f, live, &t, 1);
}

static void wrote(struct freshness *f, const char *name, uint32_t domain, uint64_t seq)
{
	uint64_t t = table(name);

	freshness_wrote(f, &t, 1, (struct gtid){domain, 1, seq});
}

static void unknown(struct freshness *f, const char *name)
{
	uint64_t t = table(name);

	freshness_unknown(f, &t, 1);
}

static void names_are_told_apart(void **state)
{
	char longer[1000];

	(void)state;
	memset(longer, 'x', sizeof longer);
	assert_true(table("t") != table("T"));
	assert_true(freshness_table(slice_str("APP"), slice_str("T"), true) == table("t"));
	assert_true(freshness_table(slice_str("a"), slice_str("b.c"), false) !=
		    freshness_table(slice_str("a.b"), slice_str("d"), false));
	assert_true(freshness_table(slice_of(longer, sizeof longer), slice_str("t"), false) !=
		    freshness_table(slice_of(longer, sizeof longer), slice_str("u"), false));
}

static void a_write_is_needed_by_its_table_only(void **state)
{
	struct freshness *f = freshness_new();
	struct gtid_live live = {0};

	(void)state;
	assert_true(covered(f, &live, "t"));
	wrote(f, "t", 0, 10);
	wrote(f, "t", 0, 9);
	assert_false(covered(f, &live, "t"));
	assert_true(covered(f, &live, "other"));
	assert_false(freshness_covered(f, &live, NULL, 0));
	raise_to(&live, "0-1-9");
	assert_false(covered(f, &live, "t"));
	raise_to(&live, "0-2-10");
	assert_true(covered(f, &live, "t"));
	assert_true(freshness_covered(f, &live, NULL, 0));
	freshness_wrote_all(f, (struct gtid){0, 1, 11});
	assert_false(covered(f, &live, "other"));
	raise_to(&live, "0-2-11");
	assert_true(covered(f, &live, "other"));
	freshness_free(f);
}

static void domains_on_one_table_are_both_needed(void **state)
{
	struct freshness *f = freshness_new();
	struct gtid_live live = {0};

	(void)state;
	wrote(f, "t", 0, 10);
	wrote(f, "t", 7, 3);
	raise_to(&live, "7-1-3");
	assert_false(covered(f, &live, "t"));
	raise_to(&live, "0-1-10");
	assert_true(covered(f, &live, "t"));
	wrote(f, "u", 0, UINT64_MAX); /* does not fit a slot */
	assert_false(covered(f, &live, "u"));
	raise_to(&live, "0-1-18446744073709551615");
	assert_true(covered(f, &live, "u"));
	for (uint32_t d = 0; d <= GTID_DOMAINS; d++)
		wrote(f, "v", d, 1);
	assert_false(covered(f, &live, "other")); /* too many domains to tell anything */
	freshness_free(f);
}

static void an_unknown_outcome_needs_a_later_sample(void **state)
{
	struct freshness *f = freshness_new();
	struct gtid_live live = {0};
	struct gtid_pos at10 = pos_of("0-1-10");

	(void)state;
	raise_to(&live, "0-1-9");
	uint64_t early = freshness_mark(f);
	unknown(f, "t");
	freshness_sampled(f, early, &at10); /* asked before: may not hold it */
	raise_to(&live, "0-1-10");
	assert_false(covered(f, &live, "t"));
	assert_true(covered(f, &live, "other"));
	assert_false(freshness_covered(f, &live, NULL, 0));
	sample(f, "0-1-12");
	assert_false(covered(f, &live, "t"));
	raise_to(&live, "0-1-12");
	assert_true(covered(f, &live, "t"));
	assert_true(freshness_covered(f, &live, NULL, 0));
	sample(f, "0-1-20"); /* settled: no later sample is needed */
	assert_true(covered(f, &live, "t"));
	freshness_free(f);
}

static void a_known_write_over_an_unknown_one_needs_both(void **state)
{
	struct freshness *f = freshness_new();
	struct gtid_live live = {0};

	(void)state;
	unknown(f, "t");
	wrote(f, "t", 0, 50);
	raise_to(&live, "0-1-50");
	assert_false(covered(f, &live, "t"));
	sample(f, "0-1-51,3-1-1");
	assert_false(covered(f, &live, "t"));
	raise_to(&live, "0-1-51");
	assert_false(covered(f, &live, "t"));
	raise_to(&live, "3-1-1");
	assert_true(covered(f, &live, "t"));
	freshness_unknown(f, NULL, 0);
	assert_false(covered(f, &live, "other"));
	sample(f, "0-1-51,3-1-1");
	assert_true(covered(f, &live, "other"));
	freshness_free(f);
}

static void what_is_not_replicated_stays_at_the_primary(void **state)
{
	struct freshness *f = freshness_new();
	struct gtid_live live = {0};
	uint64_t t = table("t");

	(void)state;
	raise_to(&live, "0-1-100");
	freshness_unreplicated(f, &t, 1);
	wrote(f, "t", 0, 5);
	unknown(f, "t");
	sample(f, "0-1-6");
	freshness_new_primary(f);
	sample(f, "0-1-6");
	assert_false(covered(f, &live, "t"));
	assert_false(freshness_covered(f, &live, NULL, 0));
	assert_true(covered(f, &live, "other"));
	freshness_free(f);
}

static void a_new_primary_voids_old_numbers(void **state)
{
	struct freshness *f = freshness_new();
	struct gtid_live live = {0};
	struct gtid_pos at9 = pos_of("0-1-9"), want;

	(void)state;
	wrote(f, "t", 0, 10);
	raise_to(&live, "0-1-9");
	uint64_t before = freshness_mark(f);
	freshness_new_primary(f);
	freshness_sampled(f, before, &at9);
	assert_false(covered(f, &live, "t"));
	assert_false(covered(f, &live, "other"));
	sample(f, "0-2-9"); /* 10 was lost with the old one */
	assert_true(covered(f, &live, "t"));
	assert_false(freshness_wait_newer(f, &live, 0, &want));
	wrote(f, "t", 0, 10);
	assert_false(covered(f, &live, "t"));
	freshness_free(f);
}

/* A primary that came back without its last transactions is found out by its own position. */
static void a_lost_tail_is_noticed(void **state)
{
	struct freshness *f = freshness_new();
	struct gtid_live live = {0};
	struct gtid_pos want;

	(void)state;
	raise_to(&live, "0-1-90");
	wrote(f, "t", 0, 100);
	sample(f, "0-1-90");
	assert_false(covered(f, &live, "other"));
	sample(f, "0-1-90");
	assert_true(covered(f, &live, "t"));
	assert_false(freshness_wait_newer(f, &live, 0, &want));
	wrote(f, "t", 0, 91);
	assert_false(covered(f, &live, "t"));
	freshness_free(f);
}

struct waiting {
	struct freshness *f;
	struct gtid_live live;
	struct gtid_pos got;
	bool newer;
};

static void *wait_long(void *arg)
{
	struct waiting *w = arg;

	w->newer = freshness_wait_newer(w->f, &w->live, 60000, &w->got);
	return NULL;
}

static void waiters_hear_of_writes_samples_and_wakes(void **state)
{
	struct waiting w = {.f = freshness_new()};
	struct gtid_pos pos;
	pthread_t thread;
	int64_t began = topology_now_us();

	(void)state;
	assert_false(freshness_wait_newer(w.f, &w.live, 10, &pos));
	assert_true(topology_now_us() - began >= 10000);
	pthread_create(&thread, NULL, wait_long, &w);
	wrote(w.f, "t", 0, 10);
	pthread_join(thread, NULL);
	assert_true(w.newer);
	assert_int_equal(w.got.id[0].seq, 10);
	gtid_live_raise(&w.live, &w.got);
	pthread_create(&thread, NULL, wait_long, &w);
	sample(w.f, "0-1-11,2-1-5");
	pthread_join(thread, NULL);
	assert_true(w.newer);
	pos = pos_of("0-1-11,2-1-5");
	assert_true(gtid_pos_covers_pos(&w.got, &pos) || gtid_pos_covers(&w.got, pos.id[0]));
	gtid_live_raise(&w.live, &pos);
	pthread_create(&thread, NULL, wait_long, &w);
	began = topology_now_us();
	for (bool ended = false; !ended; ended = pthread_tryjoin_np(thread, NULL) == 0)
		freshness_wake(w.f);
	assert_false(w.newer);
	assert_true(topology_now_us() - began < 30000000);
	freshness_free(w.f);
}

/* --- The promise, under threads --------------------------------------------------------------------------------- */

enum { TABLES = 24, WRITERS = 3, READERS = 2, WRITES = 20000 };

static struct {
	struct freshness *f;
	_Atomic uint64_t committed;      /* the primary's last sequence */
	_Atomic uint64_t acked[TABLES];  /* the newest write of each table that its client heard of */
	struct gtid_live applied;
	atomic_uint writing;
	atomic_uint reads_at_replica, broken;
	uint64_t table[TABLES];
} sim;

static void *writer(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;

	for (unsigned i = 0; i < WRITES; i++) {
		unsigned t = (unsigned)rand_r(&seed) % TABLES, how = (unsigned)rand_r(&seed) % 1000;
		uint64_t seq = atomic_fetch_add(&sim.committed, 1) + 1;
		struct gtid g = {0, 1, seq};
		if (how == 0)
			freshness_unknown(sim.f, NULL, 0);
		else if (how < 20)
			freshness_unknown(sim.f, &sim.table[t], 1);
		else if (how < 30)
			freshness_wrote_all(sim.f, g);
		else
			freshness_wrote(sim.f, &sim.table[t], 1, g);
		uint64_t old = atomic_load(&sim.acked[t]);
		while (old < seq && !atomic_compare_exchange_weak(&sim.acked[t], &old, seq))
			;
	}
	atomic_fetch_sub(&sim.writing, 1);
	return NULL;
}

/* Until all is written and something was read at the replica, which may be slow to be given a processor. */
static bool going(void)
{
	return atomic_load(&sim.writing) != 0 || atomic_load(&sim.reads_at_replica) == 0;
}

static void *reader(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;

	while (going()) {
		unsigned t = (unsigned)rand_r(&seed) % TABLES;
		uint64_t need = atomic_load(&sim.acked[t]);
		if (!freshness_covered(sim.f, &sim.applied, &sim.table[t], (unsigned)rand_r(&seed) % 8 != 0))
			continue;
		atomic_fetch_add(&sim.reads_at_replica, 1);
		if (need != 0 && !gtid_live_covers(&sim.applied, 0, need))
			atomic_fetch_add(&sim.broken, 1);
	}
	return NULL;
}

/* Applies a little late, up to what it is woken for. */
static void *replica(void *arg)
{
	struct gtid_pos want;

	(void)arg;
	while (going())
		if (freshness_wait_newer(sim.f, &sim.applied, 10, &want))
			gtid_live_raise(&sim.applied, &want);
	return NULL;
}

static void *sampler(void *arg)
{
	(void)arg;
	while (going()) {
		uint64_t mark = freshness_mark(sim.f);
		struct gtid_pos pos = {0};
		gtid_pos_add(&pos, (struct gtid){0, 1, atomic_load(&sim.committed)});
		freshness_sampled(sim.f, mark, &pos);
	}
	return NULL;
}

static void no_read_is_older_than_an_acknowledged_write(void **state)
{
	void *(*const bodies[])(void *) = {writer, writer, writer, reader, reader, replica, sampler};
	enum { THREADS = sizeof bodies / sizeof *bodies };
	pthread_t thread[THREADS];
	char last[GTID_TEXT];

	(void)state;
	sim.f = freshness_new();
	atomic_store(&sim.writing, WRITERS);
	for (unsigned t = 0; t < TABLES; t++) {
		snprintf(last, sizeof last, "t%u", t);
		sim.table[t] = table(last);
	}
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, bodies[i], (void *)(i + 1)), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(atomic_load(&sim.broken), 0);
	assert_true(atomic_load(&sim.reads_at_replica) > 0);
	gtid_print((struct gtid){0, 1, atomic_load(&sim.committed)}, last);
	raise_to(&sim.applied, last);
	sample(sim.f, last);
	assert_true(freshness_covered(sim.f, &sim.applied, sim.table, TABLES));
	assert_true(freshness_covered(sim.f, &sim.applied, NULL, 0));
	freshness_free(sim.f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_told_apart),
		cmocka_unit_test(a_write_is_needed_by_its_table_only),
		cmocka_unit_test(domains_on_one_table_are_both_needed),
		cmocka_unit_test(an_unknown_outcome_needs_a_later_sample),
		cmocka_unit_test(a_known_write_over_an_unknown_one_needs_both),
		cmocka_unit_test(what_is_not_replicated_stays_at_the_primary),
		cmocka_unit_test(a_new_primary_voids_old_numbers),
		cmocka_unit_test(a_lost_tail_is_noticed),
		cmocka_unit_test(waiters_hear_of_writes_samples_and_wakes),
		cmocka_unit_test(no_read_is_older_than_an_acknowledged_write),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
