/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/stats.h"

static void sums_over_blocks_and_survives_them(void **state)
{
	struct stats *a = stats_new(), *b = stats_new();

	(void)state;
	stats_statement(a, STAT_REPLICA, 3, 5, 100);
	stats_statement(b, STAT_REPLICA, 3, 5, 300);
	stats_statement(b, STAT_PRIMARY, 3, 5, 1);
	stats_routed(b, 7, ROUTE_WRITE);
	stats_would_move(a, STAT_CACHE);
	stats_cache(a, 2, STAT_HIT);
	stats_cache(b, 2, STAT_HIT);
	stats_invalidation(b, 2, STAT_INVAL_DDL);
	stats_error(a, STAT_ERR_AUTH);
	for (int round = 0; round < 2; round++) {
		struct stats_latency l;
		assert_int_equal(stats_sum_statements(STAT_REPLICA, 3, 5), 2);
		assert_int_equal(stats_sum_statements(STAT_PRIMARY, 3, 5), 1);
		assert_int_equal(stats_sum_statements(STAT_REPLICA, 3, 6), 0);
		assert_int_equal(stats_sum_routed(7, ROUTE_WRITE), 1);
		assert_int_equal(stats_sum_routed(7, ROUTE_READ), 0);
		assert_int_equal(stats_sum_would_move(STAT_CACHE), 1);
		assert_int_equal(stats_sum_cache(2, STAT_HIT), 2);
		assert_int_equal(stats_sum_invalidations(2, STAT_INVAL_DDL), 1);
		assert_int_equal(stats_sum_errors(STAT_ERR_AUTH), 1);
		stats_sum_latency(STAT_REPLICA, &l);
		assert_int_equal(l.count, 2);
		assert_int_equal(l.sum_us, 400);
		if (round == 0)
			stats_free(a);
	}
	stats_free(b);
	assert_int_equal(stats_sum_statements(STAT_REPLICA, 3, 5), 2);
}

static void gauges_go_down_again(void **state)
{
	struct stats *a = stats_new(), *b = stats_new();
	int64_t idle, active;

	(void)state;
	stats_clients(a, 3);
	stats_clients(b, 1);
	stats_clients(a, -2);
	assert_int_equal(stats_sum_clients(), 2);
	stats_server_connections(a, 1, 0, 1);
	stats_server_connections(a, 1, 1, -1);
	stats_server_connections(b, 1, 0, 1);
	stats_sum_server_connections(1, &idle, &active);
	assert_int_equal(idle, 1);
	assert_int_equal(active, 1);
	stats_clients(a, -1);
	stats_clients(b, -1);
	stats_server_connections(a, 1, -1, 0);
	stats_server_connections(b, 1, 0, -1);
	stats_free(a);
	stats_free(b);
	stats_sum_server_connections(1, &idle, &active);
	assert_int_equal(idle + active + stats_sum_clients(), 0);
}

static void ids_past_the_limits_are_other(void **state)
{
	struct stats *s = stats_new();
	char name[32];

	(void)state;
	assert_int_equal(stats_users(), 0);
	unsigned alice = stats_user_id("alice");
	assert_int_equal(stats_user_id("alice"), alice);
	assert_string_equal(stats_user_name(alice), "alice");
	assert_int_equal(stats_users(), 1);
	for (unsigned i = 0; i < 2 * STATS_USERS; i++) {
		snprintf(name, sizeof name, "user%u", i);
		assert_true(stats_user_id(name) < STATS_USERS);
	}
	assert_int_equal(stats_users(), STATS_USERS);
	assert_int_equal(stats_user_id("one more"), STATS_USERS - 1);
	assert_string_equal(stats_user_name(STATS_USERS - 1), "other");
	assert_int_equal(stats_user_id("alice"), alice);
	unsigned rule = stats_rule_id("token");
	assert_string_equal(stats_rule_name(rule), "token");
	assert_int_equal(stats_rules(), 1);

	stats_statement(s, STAT_CACHE, 9999, 9999, 1);
	assert_int_equal(stats_sum_statements(STAT_CACHE, STATS_NO_SERVER, STATS_USERS - 1), 1);
	stats_cache(s, 9999, STAT_MISS);
	assert_int_equal(stats_sum_cache(STATS_RULES - 1, STAT_MISS), 1);
	stats_free(s);
}

/* Every value lands in the first bucket whose bound is not less, and bounds grow by an eighth or less than an octave.
 */
static void buckets_hold_what_their_bounds_say(void **state)
{
	(void)state;
	assert_int_equal(stats_bucket_bound(0), 1);
	assert_true(stats_bucket_bound(STATS_BUCKETS - 1) == UINT64_MAX);
	assert_true(stats_bucket_bound(STATS_BUCKETS - 2) >= 60000000);
	for (unsigned b = 1; b < STATS_BUCKETS - 1; b++) {
		uint64_t low = stats_bucket_bound(b - 1), high = stats_bucket_bound(b);
		assert_true(high > low);
		if (low >= 16)
			assert_true((high - low) * 8 <= low);
	}
	for (unsigned b = 0; b < STATS_BUCKETS; b++) {
		uint64_t bound = stats_bucket_bound(b), values[2] = {bound, b > 0 ? stats_bucket_bound(b - 1) + 1 : 0};
		for (unsigned v = 0; v < 2; v++) {
			struct stats *s = stats_new();
			struct stats_latency before, after;
			stats_sum_latency(STAT_CACHE, &before);
			stats_statement(s, STAT_CACHE, 0, 0, values[v]);
			stats_sum_latency(STAT_CACHE, &after);
			assert_int_equal(after.bucket[b], before.bucket[b] + 1);
			assert_int_equal(after.count, before.count + 1);
			stats_free(s);
		}
	}
}

static void quantiles(void **state)
{
	struct stats_latency h = {0};

	(void)state;
	assert_int_equal(stats_quantile(&h, 0.5), 0);
	h.count = 100;
	h.bucket[9] = 90;  /* 10 us */
	h.bucket[20] = 10; /* up to 26 us */
	assert_int_equal(stats_quantile(&h, 0.5), 10);
	assert_int_equal(stats_quantile(&h, 0.9), 10);
	assert_int_equal(stats_quantile(&h, 0.91), stats_bucket_bound(20));
	assert_int_equal(stats_quantile(&h, 1.0), stats_bucket_bound(20));
	assert_int_equal(stats_quantile(&h, 0.0), 10);
	memset(&h, 0, sizeof h);
	h.count = h.bucket[STATS_BUCKETS - 1] = 1;
	assert_int_equal(stats_quantile(&h, 0.5), stats_bucket_bound(STATS_BUCKETS - 2));
}

static void *count_many(void *arg)
{
	struct stats *s = stats_new();

	for (unsigned i = 0; i < 100000; i++)
		stats_error(s, *(enum stat_error *)arg);
	stats_free(s);
	return NULL;
}

static void threads_lose_nothing(void **state)
{
	pthread_t t[4];
	enum stat_error kind = STAT_ERR_TIMEOUT;
	uint64_t last = 0;

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, count_many, &kind);
	for (unsigned i = 0; i < 1000; i++) { /* a reader meanwhile: never less than before */
		uint64_t now = stats_sum_errors(kind);
		assert_true(now >= last);
		last = now;
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(stats_sum_errors(kind), 400000);
}

static void everything_has_a_name(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ROUTE_REASONS; i++) {
		assert_true(strlen(route_reason_name(i)) > 0);
		assert_true(strlen(route_reason_text(i)) > 0);
	}
	for (unsigned i = 0; i < STAT_ERRORS; i++)
		assert_true(strlen(stat_error_name(i)) > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sums_over_blocks_and_survives_them),
		cmocka_unit_test(gauges_go_down_again),
		cmocka_unit_test(ids_past_the_limits_are_other),
		cmocka_unit_test(buckets_hold_what_their_bounds_say),
		cmocka_unit_test(quantiles),
		cmocka_unit_test(threads_lose_nothing),
		cmocka_unit_test(everything_has_a_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
