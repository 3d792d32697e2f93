/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/rights.h"

struct grant {
	const char *name, *host, *row;
	bool is_account;
	const char *role; /* instead of a row: name has it */
};

static const struct grant base[] = {
	{"app", "%", "account app", true, NULL},
	{"app", "%", "db shop", false, NULL},
	{"app", "%", "table shop.orders", false, NULL},
	{"app", "%", NULL, false, "reader"},
	{"reader", "", NULL, false, "deep"},
	{"reader", "", "role reader", false, NULL},
	{"deep", "", "table shop.deep", false, NULL},
	{"other", "%", "account other", true, NULL},
	{"other", "%", NULL, false, "deep"},
	{"alone", "10.%", "account alone", true, NULL},
	{"PUBLIC", "", "table shop.all", false, NULL},
	{"", "%", "db test", false, NULL},
};
enum { N = sizeof base / sizeof *base };

struct digest {
	uint8_t bytes[RIGHTS_DIGEST];
};

/* Of `name`, with the grants in the order that starts at `from` and goes by `step`. */
static struct digest digest_of(const struct grant *g, unsigned n, unsigned from, unsigned step, const char *name,
			       const char *seen_as)
{
	struct rights *r = rights_new();
	struct digest d;

	for (unsigned i = 0; i < n; i++) {
		const struct grant *one = &g[(from + i * step) % n];
		if (one->role != NULL)
			rights_add_role(r, one->name, one->role);
		if (one->row != NULL)
			rights_add(r, one->name, one->host, slice_str(one->row), one->is_account);
	}
	rights_digest(r, "other", seen_as, d.bytes); /* one that was made before another leaves nothing behind */
	rights_digest(r, name, seen_as, d.bytes);
	rights_free(r);
	return d;
}

static bool same(struct digest a, struct digest b)
{
	return memcmp(&a, &b, sizeof a) == 0;
}

static struct digest plain(const char *name)
{
	return digest_of(base, N, 0, 1, name, "10.0.0.1");
}

static void the_order_of_rows_does_not_count(void **state)
{
	static const char *const names[] = {"app", "other", "alone", "reader", "nobody"};

	(void)state;
	for (unsigned k = 0; k < sizeof names / sizeof *names; k++)
		for (unsigned from = 0; from < N; from++)
			for (unsigned step = 1; step < N; step += 2) {
				if (step % 3 == 0)
					continue; /* not all rows would be reached */
				assert_true(same(plain(names[k]),
						 digest_of(base, N, from, step, names[k], "10.0.0.1")));
			}
}

/* With row i changed, whose digests are others? */
static void only_what_one_may_use_counts(void **state)
{
	static const struct {
		unsigned row;
		bool app, other, alone;
	} cases[] = {{0, true, false, false},  {2, true, false, false}, {5, true, false, false},
		     {6, true, true, false},   {7, false, true, false}, {9, false, false, true},
		     {10, true, true, true},   {11, true, true, true}};

	(void)state;
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct grant changed[N];
		memcpy(changed, base, sizeof base);
		changed[cases[i].row].row = "something else";
		assert_int_equal(!same(plain("app"), digest_of(changed, N, 0, 1, "app", "10.0.0.1")), cases[i].app);
		assert_int_equal(!same(plain("other"), digest_of(changed, N, 0, 1, "other", "10.0.0.1")),
				 cases[i].other);
		assert_int_equal(!same(plain("alone"), digest_of(changed, N, 0, 1, "alone", "10.0.0.1")),
				 cases[i].alone);
	}
}

static void a_row_less_and_a_role_less(void **state)
{
	(void)state;
	for (unsigned gone = 0; gone < 7; gone++) { /* each is app's, by itself or by its roles */
		struct grant left[N - 1];
		memcpy(left, base, gone * sizeof *base);
		memcpy(left + gone, base + gone + 1, (N - 1 - gone) * sizeof *base);
		assert_false(same(plain("app"), digest_of(left, N - 1, 0, 1, "app", "10.0.0.1")));
	}
}

static void names_with_the_same_rows_differ(void **state)
{
	static const struct grant two[] = {{"a", "%", "row", true, NULL}, {"b", "%", "row", true, NULL}};

	(void)state;
	assert_false(same(digest_of(two, 2, 0, 1, "a", ""), digest_of(two, 2, 0, 1, "b", "")));
}

static void roles_in_a_circle_end(void **state)
{
	static const struct grant circle[] = {{"a", "%", "row", true, NULL},
					      {"a", "%", NULL, false, "r"},
					      {"r", "", NULL, false, "s"},
					      {"s", "", NULL, false, "r"}};

	(void)state;
	assert_true(same(digest_of(circle, 4, 0, 1, "a", ""), digest_of(circle, 4, 3, 3, "a", "")));
}

/* Where servers tell hosts apart, proxies on different hosts do not share. */
static void the_proxys_host_counts_where_hosts_do(void **state)
{
	static const struct {
		struct grant more;
		bool counts;
	} cases[] = {
		{{"alone", "10.%", "db x", false, NULL}, false},  {{"alone", "%", "db x", false, NULL}, false},
		{{"alone", "10.1.%", "db x", false, NULL}, true}, {{"alone", "%", "account", true, NULL}, true},
		{{"", "localhost", "account", true, NULL}, true}, {{"", "10.2.%", "db x", false, NULL}, true},
		{{"reader", "", "db x", false, NULL}, false},     {{"app", "10.1.%", "db x", false, NULL}, false},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct grant all[N + 1];
		memcpy(all, base, sizeof base);
		all[N] = cases[i].more;
		assert_int_equal(!same(digest_of(all, N + 1, 0, 1, "alone", "10.0.0.1"),
				       digest_of(all, N + 1, 0, 1, "alone", "10.0.0.2")),
				 cases[i].counts);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_order_of_rows_does_not_count),
		cmocka_unit_test(only_what_one_may_use_counts),
		cmocka_unit_test(a_row_less_and_a_role_less),
		cmocka_unit_test(names_with_the_same_rows_differ),
		cmocka_unit_test(roles_in_a_circle_end),
		cmocka_unit_test(the_proxys_host_counts_where_hosts_do),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
