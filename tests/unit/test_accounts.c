/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "cluster/accounts.h"

struct who {
	const char *user, *host;
};

static struct accounts *accounts_of(const struct who *who, unsigned n, int configured)
{
	struct account *rows = xcalloc(n, sizeof *rows);

	for (unsigned i = 0; i < n; i++) {
		snprintf(rows[i].user, sizeof rows[i].user, "%s", who[i].user);
		snprintf(rows[i].host, sizeof rows[i].host, "%s", who[i].host);
		rows[i].configured = (int)i == configured;
	}
	return accounts_new(rows, n, 1);
}

/* "user@host" of the account found, or "none". */
static const char *found(const struct accounts *a, const char *user, const char *from, bool skip)
{
	static char text[400];
	const struct account *hit = accounts_find(a, slice_str(user), from, skip);

	if (hit == NULL)
		return "none";
	snprintf(text, sizeof text, "%s@%s", hit->user, hit->host);
	return text;
}

static void most_specific_host_wins(void **state)
{
	static const struct who who[] = {{"app", "%"},		{"app", "10.%"},
					 {"app", "10.1.%"},	{"app", "10.1.2.3"},
					 {"app", "localhost"},	{"app", "192.168.4.0/255.255.255.0"},
					 {"app", "192.168.%"},	{"apple", "%"},
					 {"ap", "10.1.2._"},	{"under", "10.0.0.\\_"}};
	struct accounts *a = accounts_of(who, sizeof who / sizeof *who, -1);

	(void)state;
	assert_string_equal(found(a, "app", "10.1.2.3", false), "app@10.1.2.3");
	assert_string_equal(found(a, "app", "10.1.2.4", false), "app@10.1.%");
	assert_string_equal(found(a, "app", "10.9.2.4", false), "app@10.%");
	assert_string_equal(found(a, "app", "11.9.2.4", false), "app@%");
	assert_string_equal(found(a, "app", "192.168.4.200", false), "app@192.168.4.0/255.255.255.0");
	assert_string_equal(found(a, "app", "192.168.5.200", false), "app@192.168.%");
	assert_string_equal(found(a, "app", "::ffff:192.168.5.200", false), "app@192.168.%");
	assert_string_equal(found(a, "app", "2001:db8::1", false), "app@%");
	assert_string_equal(found(a, "ap", "10.1.2.9", false), "ap@10.1.2._");
	assert_string_equal(found(a, "ap", "10.1.2.99", false), "none");
	assert_string_equal(found(a, "under", "10.0.0.1", false), "none");
	assert_string_equal(found(a, "APP", "10.1.2.3", false), "none");
	assert_string_equal(found(a, "", "10.1.2.3", false), "none");
	accounts_unref(a);
}

static void loopback_is_localhost_where_names_are_resolved(void **state)
{
	static const struct who who[] = {
		{"app", "localhost"}, {"ip", "127.0.0.1"}, {"six", "::1"}, {"big", "LocalHost"}};
	struct accounts *a = accounts_of(who, sizeof who / sizeof *who, -1);

	(void)state;
	assert_string_equal(found(a, "app", "localhost", true), "app@localhost");
	assert_string_equal(found(a, "app", "127.0.0.1", false), "app@localhost");
	assert_string_equal(found(a, "app", "::1", false), "app@localhost");
	assert_string_equal(found(a, "big", "127.0.0.1", false), "big@LocalHost");
	assert_string_equal(found(a, "app", "127.0.0.1", true), "none");
	assert_string_equal(found(a, "app", "127.0.0.2", false), "none");
	assert_string_equal(found(a, "ip", "127.0.0.1", true), "ip@127.0.0.1");
	assert_string_equal(found(a, "ip", "localhost", false), "none");
	assert_string_equal(found(a, "six", "::1", true), "six@::1");
	accounts_unref(a);
}

/* MariaDB's well-known trap: an anonymous account of the client's host hides app@%. */
static void anonymous_of_a_nearer_host_wins(void **state)
{
	static const struct who who[] = {{"app", "%"}, {"", "localhost"}, {"near", "localhost"}, {"mine", "%"}};
	struct accounts *a = accounts_of(who, sizeof who / sizeof *who, 3);

	(void)state;
	assert_string_equal(found(a, "app", "localhost", false), "@localhost");
	assert_string_equal(found(a, "app", "10.0.0.1", false), "app@%");
	assert_string_equal(found(a, "near", "localhost", false), "near@localhost");
	assert_string_equal(found(a, "nobody", "localhost", false), "@localhost");
	assert_string_equal(found(a, "nobody", "10.0.0.1", false), "none");
	assert_string_equal(found(a, "mine", "localhost", false), "mine@%"); /* [user.X] */
	accounts_unref(a);
}

static void many_wildcards_end(void **state)
{
	struct who who = {"app", "%1%1%1%1%1%1%1%1%1%1%1%1%1%1%1%1%1%1%1%1%1%1%1%1%1%1%1%1%1%1%x"};
	struct accounts *a = accounts_of(&who, 1, -1);
	char host[200];

	(void)state;
	memset(host, '1', sizeof host);
	host[sizeof host - 1] = 0;
	assert_string_equal(found(a, "app", host, false), "none");
	host[sizeof host - 2] = 'X';
	assert_true(accounts_find(a, slice_str("app"), host, false) != NULL);
	accounts_unref(a);
	a = accounts_new(NULL, 0, 1);
	assert_string_equal(found(a, "app", "10.0.0.1", false), "none");
	assert_true(accounts_ref(a) == a);
	accounts_unref(a);
	accounts_unref(a);
}

/* Whether replicas must have more than before: not for another password. */
static void accounts_that_grant_alike(void **state)
{
	static const struct who who[] = {{"app", "%"}, {"other", "%"}};
	struct accounts *a = accounts_of(who, 2, -1), *b = accounts_of(who, 2, -1), *less = accounts_of(who, 1, -1);

	(void)state;
	b->list[0].stored[0] = 1;
	assert_true(accounts_grant_alike(a, b));
	assert_false(accounts_grant_alike(a, less));
	b->list[1].rights[3] = 1;
	assert_false(accounts_grant_alike(a, b));
	a->list[1].rights[3] = 1;
	a->reloads = 1;
	assert_false(accounts_grant_alike(a, b));
	assert_true(a->serial != b->serial && b->serial != less->serial);
	accounts_unref(a);
	accounts_unref(b);
	accounts_unref(less);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(most_specific_host_wins),
		cmocka_unit_test(loopback_is_localhost_where_names_are_resolved),
		cmocka_unit_test(anonymous_of_a_nearer_host_wins),
		cmocka_unit_test(many_wildcards_end),
		cmocka_unit_test(accounts_that_grant_alike),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
