/* SPDX-License-Identifier: Apache-2.0
 *
 * The store inside the process, on a clock of the test's own; and the heart of the product: random interleavings of
 * readers, writers and lagging replicas, checked against what was acknowledged.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <pthread.h>

#include "cache_model.h"

static const struct cache_times times = {.lease = 30, .margin = MODEL_LAG + 30, .pending = 600};
static uint64_t now = 1000;

static struct cache_key key_of(const char *row, unsigned shape)
{
	struct cache_key k = {.len = (uint8_t)strlen(row)};
	memcpy(k.row, row, k.len);
	memcpy(k.shape, &shape, sizeof shape);
	return k;
}

static struct cache_row row_of(const char *row)
{
	struct cache_row r = {.len = (uint8_t)strlen(row)};
	memcpy(r.bytes, row, r.len);
	return r;
}

static struct gtid gtid(uint64_t seq)
{
	return (struct gtid){.domain = 0, .server = 1, .seq = seq};
}

/* Looks up, and says what was found; a hit's bytes go to `got`. */
static enum store_found look(struct memory *m, const struct cache_key *key, struct cache_answer *a, char *got)
{
	struct buf copy = {0};
	enum store_found found = memory_lookup(m, now, 0, key, &times, a, &copy);
	if (found == STORE_HIT && got) {
		memcpy(got, a->data, a->len);
		got[a->len] = 0;
	}
	buf_fini(&copy);
	return found;
}

static void fill_all(struct memory *m, const struct cache_key *key, const char *value)
{
	struct cache_answer a;
	assert_int_equal(look(m, key, &a, NULL), STORE_LEASE);
	assert_true(memory_fill(m, now, 0, key, a.lease, value, strlen(value), 1000));
}

static void test_fill_and_hit(void **state)
{
	(void)state;
	struct memory *m = memory_new(1 << 20);
	struct cache_key k = key_of("a", 1), other = key_of("a", 2);
	struct cache_answer a;
	char got[64];
	fill_all(m, &k, "one");
	assert_int_equal(look(m, &k, &a, got), STORE_HIT);
	assert_string_equal(got, "one");
	assert_int_equal(look(m, &other, &a, NULL), STORE_LEASE); /* another form of the row */
	uint64_t entries, bytes, evictions;
	memory_usage(m, 0, &entries, &bytes, &evictions);
	assert_int_equal(entries, 1);
	assert_true(bytes >= 3);
	assert_int_equal(evictions, 0);
	now += 1000;
	assert_int_equal(look(m, &k, &a, NULL), STORE_LEASE); /* expired */
	memory_free(m);
}

static void test_one_lease_at_a_time(void **state)
{
	(void)state;
	struct memory *m = memory_new(1 << 20);
	struct cache_key k = key_of("a", 1);
	struct cache_answer first, second;
	assert_int_equal(look(m, &k, &first, NULL), STORE_LEASE);
	assert_int_equal(look(m, &k, &second, NULL), STORE_BUSY);
	memory_abandon(m, 0, &k, first.lease + 1); /* not the holder */
	assert_int_equal(look(m, &k, &second, NULL), STORE_BUSY);
	memory_abandon(m, 0, &k, first.lease);
	assert_int_equal(look(m, &k, &second, NULL), STORE_LEASE);
	assert_false(memory_fill(m, now, 0, &k, first.lease, "x", 1, 1000));
	now += times.lease; /* a holder that takes too long has lost it */
	assert_false(memory_fill(m, now, 0, &k, second.lease, "x", 1, 1000));
	assert_int_equal(look(m, &k, &second, NULL), STORE_LEASE);
	memory_free(m);
}

static void test_invalidation_refuses_late_fill(void **state)
{
	(void)state;
	struct memory *m = memory_new(1 << 20);
	struct cache_key k = key_of("a", 1);
	struct cache_row row = row_of("a");
	struct cache_answer a, b;
	assert_int_equal(look(m, &k, &a, NULL), STORE_LEASE);
	memory_drop(m, now, 0, &row, CACHE_BEFORE, gtid(0), &times);
	assert_false(memory_fill(m, now, 0, &k, a.lease, "old", 3, 1000));
	assert_int_equal(look(m, &k, &b, NULL), STORE_READ);
	assert_true(b.fence_primary);
	memory_drop(m, now, 0, &row, CACHE_AFTER, gtid(7), &times);
	assert_false(memory_fill(m, now, 0, &k, a.lease, "old", 3, 1000));
	assert_int_equal(look(m, &k, &b, NULL), STORE_LEASE);
	assert_false(b.fence_primary);
	assert_int_equal(b.fence.seq, 7);
	assert_true(memory_fill(m, now, 0, &k, b.lease, "new", 3, 1000));
	assert_int_equal(look(m, &k, &b, NULL), STORE_HIT); /* under the fence, by one who had the write */
	memory_free(m);
}

static void test_fences_add_up(void **state)
{
	(void)state;
	struct memory *m = memory_new(1 << 20);
	struct cache_key k = key_of("a", 1);
	struct cache_row row = row_of("a");
	struct cache_answer a;
	memory_drop(m, now, 0, &row, CACHE_BEFORE, gtid(0), &times);
	memory_drop(m, now, 0, &row, CACHE_BEFORE, gtid(0), &times);
	memory_drop(m, now, 0, &row, CACHE_AFTER, gtid(9), &times);
	assert_int_equal(look(m, &k, &a, NULL), STORE_READ); /* the other writer is still under way */
	memory_drop(m, now, 0, &row, CACHE_AFTER, gtid(8), &times);
	assert_int_equal(look(m, &k, &a, NULL), STORE_LEASE);
	assert_int_equal(a.fence.seq, 9); /* never lowered */
	memory_abandon(m, 0, &k, a.lease);
	memory_drop_all(m, now, 0, CACHE_AFTER, gtid(12), &times);
	assert_int_equal(look(m, &k, &a, NULL), STORE_LEASE);
	assert_int_equal(a.fence.seq, 12); /* the table's and the row's */
	memory_abandon(m, 0, &k, a.lease);
	memory_drop(m, now, 0, &row, CACHE_AFTER, (struct gtid){.domain = 5, .seq = 1}, &times);
	assert_int_equal(look(m, &k, &a, NULL), STORE_LEASE);
	assert_true(a.fence_primary); /* two domains cannot be told in one id */
	memory_abandon(m, 0, &k, a.lease);
	now += times.margin;
	assert_int_equal(look(m, &k, &a, NULL), STORE_LEASE);
	assert_false(a.fence_primary);
	assert_true(gtid_none(a.fence));
	memory_free(m);
}

static void test_writer_that_never_came_back(void **state)
{
	(void)state;
	struct memory *m = memory_new(1 << 20);
	struct cache_key k = key_of("a", 1);
	struct cache_row row = row_of("a");
	struct cache_answer a;
	memory_drop(m, now, 0, &row, CACHE_BEFORE, gtid(0), &times);
	now += times.pending - 1;
	assert_int_equal(look(m, &k, &a, NULL), STORE_READ);
	now += 1;
	assert_int_equal(look(m, &k, &a, NULL), STORE_LEASE);
	memory_free(m);
}

static void test_whole_table(void **state)
{
	(void)state;
	struct memory *m = memory_new(1 << 20);
	struct cache_key k = key_of("a", 1), leased = key_of("b", 1);
	struct cache_answer a, b;
	uint64_t entries, bytes, evictions;
	fill_all(m, &k, "one");
	assert_int_equal(look(m, &leased, &b, NULL), STORE_LEASE);
	memory_drop_all(m, now, 0, CACHE_AFTER, gtid(0), &times);
	memory_usage(m, 0, &entries, &bytes, &evictions);
	assert_int_equal(entries, 0);
	assert_false(memory_fill(m, now, 0, &leased, b.lease, "old", 3, 1000));
	assert_int_equal(look(m, &k, &a, NULL), STORE_LEASE);
	assert_true(a.fence_primary);
	memory_free(m);
}

static void test_bounded(void **state)
{
	(void)state;
	enum { LIMIT = 1 << 20, ROWS = 20000 };
	struct memory *m = memory_new(LIMIT);
	char value[512] = {0};
	struct cache_answer a;
	for (unsigned i = 0; i < ROWS; i++) {
		char name[16];
		snprintf(name, sizeof name, "%u", i);
		struct cache_key k = key_of(name, 1);
		assert_int_equal(look(m, &k, &a, NULL), STORE_LEASE);
		assert_true(memory_fill(m, now, 0, &k, a.lease, value, sizeof value, 1000));
	}
	uint64_t entries, bytes, evictions;
	memory_usage(m, 0, &entries, &bytes, &evictions);
	assert_true(bytes <= LIMIT);
	assert_true(entries > LIMIT / 1024 / 2);
	assert_int_equal(entries + evictions, ROWS);
	struct cache_key k = key_of("big", 1);
	char *big = calloc(1, LIMIT);
	assert_int_equal(look(m, &k, &a, NULL), STORE_LEASE);
	assert_false(memory_fill(m, now, 0, &k, a.lease, big, LIMIT, 1000));
	free(big);
	memory_free(m);
}

static void test_many_fences_become_a_tables(void **state)
{
	(void)state;
	struct memory *m = memory_new(1 << 20);
	struct cache_key k = key_of("kept", 1), never = key_of("never written", 1);
	struct cache_answer a;
	fill_all(m, &k, "one");
	for (unsigned i = 0; i < 20000; i++) {
		char name[16];
		snprintf(name, sizeof name, "%u", i);
		struct cache_row row = row_of(name);
		memory_drop(m, now, 0, &row, CACHE_BEFORE, gtid(0), &times);
		memory_drop(m, now, 0, &row, CACHE_AFTER, gtid(i + 1), &times);
		if (i % 997 == 0) { /* whatever holds the fence, a read of the row is told of it */
			struct cache_key written = key_of(name, 1);
			assert_int_equal(look(m, &written, &a, NULL), STORE_LEASE);
			assert_true(a.fence_primary || a.fence.seq >= i + 1);
		}
	}
	assert_int_equal(look(m, &k, &a, NULL), STORE_LEASE);
	assert_int_equal(look(m, &never, &a, NULL), STORE_LEASE);
	assert_true(a.fence.seq > 0);
	memory_free(m);
}

static void test_forms_of_a_row_are_bounded(void **state)
{
	(void)state;
	struct memory *m = memory_new(1 << 20);
	struct cache_answer a;
	for (unsigned i = 0; i < CACHE_FORMS; i++) {
		struct cache_key k = key_of("a", i);
		fill_all(m, &k, "x");
	}
	struct cache_key k = key_of("a", CACHE_FORMS);
	assert_int_equal(look(m, &k, &a, NULL), STORE_READ);
	now += 1000;
	assert_int_equal(look(m, &k, &a, NULL), STORE_LEASE);
	memory_free(m);
}

/* --- The model ---------------------------------------------------------------------------------------------------- */

static enum store_found model_look(struct model *w, const struct cache_key *key, struct cache_answer *a, char *got)
{
	return look(w->store, key, a, got);
}

static bool model_fill(struct model *w, const struct cache_key *key, uint64_t lease, const char *value, size_t len)
{
	return memory_fill(w->store, now, 0, key, lease, value, len, 200);
}

static void model_abandon(struct model *w, const struct cache_key *key, uint64_t lease)
{
	memory_abandon(w->store, 0, key, lease);
}

static void model_drop(struct model *w, const struct cache_row *row, enum cache_phase phase, struct gtid g)
{
	if (row)
		memory_drop(w->store, now, 0, row, phase, g, &times);
	else
		memory_drop_all(w->store, now, 0, phase, g, &times);
}

static uint64_t model_now(struct model *w)
{
	(void)w;
	return now;
}

static void test_random_interleavings(void **state)
{
	(void)state;
	static const struct model_store ops = {model_look, model_fill, model_abandon, model_drop, model_now};
	for (unsigned seed = 1; seed <= 20; seed++) {
		struct model w = {.ops = &ops, .store = memory_new(1 << 20)};
		srandom(seed);
		for (unsigned i = 0; i < 50000; i++) {
			model_step(&w);
			now += model_rnd(seed % 4 ? 2 : 5);
		}
		assert_true(w.hits > 1000 && w.fills > 200 && w.refused > 50 && w.replica_reads > 200);
		memory_free(w.store);
	}
}

/* --- Threads: for the thread and address sanitizers --------------------------------------------------------------- */

static void *hammer(void *arg)
{
	struct memory *m = arg;
	unsigned seed = (unsigned)(uintptr_t)&seed;
	struct buf copy = {0};
	for (unsigned i = 0; i < 20000; i++) {
		char name[16];
		snprintf(name, sizeof name, "%d", rand_r(&seed) % 50);
		struct cache_key k = key_of(name, (unsigned)rand_r(&seed) % 3);
		struct cache_row row = row_of(name);
		struct cache_answer a;
		int what = rand_r(&seed) % 20;
		if (what == 0) {
			memory_drop(m, 1, 0, &row, CACHE_BEFORE, gtid(0), &times);
			memory_drop(m, 1, 0, &row, CACHE_AFTER, gtid(i), &times);
		} else if (what == 1 && i % 50 == 0) {
			memory_drop_all(m, 1, 0, CACHE_AFTER, gtid(i), &times);
		} else {
			enum store_found found = memory_lookup(m, 1, 0, &k, &times, &a, &copy);
			if (found == STORE_LEASE)
				memory_fill(m, 1, 0, &k, a.lease, name, sizeof name, 1000);
			else if (found == STORE_HIT)
				assert_int_equal(memcmp(a.data, name, strlen(name)), 0);
		}
	}
	buf_fini(&copy);
	return NULL;
}

static void test_threads(void **state)
{
	(void)state;
	struct memory *m = memory_new(1 << 20);
	pthread_t t[4];
	for (unsigned i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, hammer, m);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	memory_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fill_and_hit),
		cmocka_unit_test(test_one_lease_at_a_time),
		cmocka_unit_test(test_invalidation_refuses_late_fill),
		cmocka_unit_test(test_fences_add_up),
		cmocka_unit_test(test_writer_that_never_came_back),
		cmocka_unit_test(test_whole_table),
		cmocka_unit_test(test_bounded),
		cmocka_unit_test(test_many_fences_become_a_tables),
		cmocka_unit_test(test_forms_of_a_row_are_bounded),
		cmocka_unit_test(test_random_interleavings),
		cmocka_unit_test(test_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
