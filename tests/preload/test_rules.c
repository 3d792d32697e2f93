/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "peers.h"
#include "proxyv2.h"
#include "rules.h"

static struct rules rules;

static void use(const char *list)
{
	struct rules_error err;

	memset(&rules, 0, sizeof(rules));
	assert_true(endpoint_parse(text_of("127.0.0.1:6033"), &rules.to));
	assert_true(rules_add(&rules, text_of(list), &err));
}

static bool hits(const char *address)
{
	struct endpoint e;

	assert_true(endpoint_parse(text_of(address), &e));
	return rules_match(&rules, &e.u.sa, e.len);
}

static bool hits_mapped(const char *v4)
{
	struct endpoint e;

	assert_true(endpoint_parse(text_of(v4), &e));
	e = endpoint_mapped(&e);
	return rules_match(&rules, &e.u.sa, e.len);
}

static void addresses(void **state)
{
	(void)state;
	use("10.0.0.5:3306");
	assert_true(hits("10.0.0.5:3306"));
	assert_true(hits_mapped("10.0.0.5:3306"));
	assert_false(hits("10.0.0.5:3307"));
	assert_false(hits("10.0.0.6:3306"));
	assert_false(hits_mapped("10.0.0.6:3306"));
	assert_false(hits("[::1]:3306"));
	use(" 10.0.0.5 , [fd00::5]:3307,fd00::6"); /* no port: 3306 */
	assert_true(hits("10.0.0.5:3306"));
	assert_true(hits("[fd00::5]:3307"));
	assert_false(hits("[fd00::5]:3306"));
	assert_true(hits("[fd00::6]:3306"));
	use("127.0.0.1:3306,[::1]:3306"); /* what 0.0.0.0 and :: mean to connect() */
	assert_true(hits("0.0.0.0:3306"));
	assert_true(hits("[::]:3306"));
	assert_true(hits("[::ffff:0.0.0.0]:3306"));
}

static void networks(void **state)
{
	(void)state;
	use("10.1.128.0/17:3306");
	assert_true(hits("10.1.128.1:3306"));
	assert_true(hits("10.1.255.255:3306"));
	assert_true(hits_mapped("10.1.200.1:3306"));
	assert_false(hits("10.1.127.255:3306"));
	assert_false(hits("10.2.128.1:3306"));
	use("[fd00:1::/33]:3306");
	assert_true(hits("[fd00:1:7fff::1]:3306"));
	assert_false(hits("[fd00:1:8000::1]:3306"));
	use("0.0.0.0/0:3306"); /* every IPv4 address, and no other */
	assert_true(hits("203.0.113.9:3306"));
	assert_false(hits("[fd00::1]:3306"));
	use("*:3306");
	assert_true(hits("203.0.113.9:3306"));
	assert_true(hits("[fd00::1]:3306"));
	assert_false(hits("203.0.113.9:3305"));
}

static void paths(void **state)
{
	struct sockaddr_un abstract = {.sun_family = AF_UNIX, .sun_path = "\0/run/a.sock"};

	(void)state;
	use("/run/mysqld/mysqld.sock");
	assert_true(hits("/run/mysqld/mysqld.sock"));
	assert_true(hits("/var/run/mysqld/mysqld.sock"));
	assert_false(hits("/run/mysqld/mysqld.sock2"));
	assert_false(hits("/run/mysqld/mysqld.soc"));
	use("/var/run/a.sock");
	assert_true(hits("/run/a.sock"));
	assert_false(rules_match(&rules, (const struct sockaddr *)&abstract, sizeof(abstract)));
}

static void proxy_itself_never(void **state)
{
	(void)state;
	use("*:6033,*:3306,/run/p.sock");
	assert_false(hits("127.0.0.1:6033"));
	assert_false(hits("0.0.0.0:6033"));
	assert_false(hits_mapped("127.0.0.1:6033"));
	assert_true(hits("127.0.0.2:6033"));
	assert_true(endpoint_parse(text_of("/run/p.sock"), &rules.to));
	assert_false(hits("/run/p.sock"));
	assert_true(hits("127.0.0.1:6033"));
}

static void learn(const char *name, const char *address)
{
	struct endpoint e;

	assert_true(endpoint_parse(text_of(address), &e));
	rules_learn(&rules, name, &e.u.sa, e.len);
}

static void names(void **state)
{
	char text[64];

	(void)state;
	use("db.Internal:3307,other:3306");
	assert_false(hits("10.9.0.1:3307"));
	assert_true(rules_name_known(&rules, "DB.internal."));
	assert_false(rules_name_known(&rules, "db.internal.example"));
	learn("DB.internal.", "10.9.0.1:0001");
	learn("db.internal", "[fd00::9]:1");
	learn("elsewhere", "10.9.0.2:1");
	assert_true(hits("10.9.0.1:3307"));
	assert_true(hits_mapped("10.9.0.1:3307"));
	assert_true(hits("[fd00::9]:3307"));
	assert_false(hits("10.9.0.1:3306"));
	assert_false(hits("10.9.0.2:3307"));
	for (int i = 0; i < 3 * LEARNED_MAX; i++) { /* a name that moves about: the newest addresses count */
		snprintf(text, sizeof(text), "10.8.%d.%d:1", i / 250, i % 250);
		learn("other", text);
	}
	assert_true(hits("10.8.3.17:3306"));
	assert_false(hits("10.8.0.0:3306"));
	use("localhost:3306");
	assert_true(hits("127.0.0.1:3306"));
	assert_true(hits("[::1]:3306"));
}

static void bad_rules(void **state)
{
	static const char *const bad[] = {
		"", ",", "10.0.0.5:", "10.0.0.5:0", "10.0.0.5:65536", "10.0.0.5:99999999999", "10.0.0.5:33x6", ":3306",
		"10.0.0:3306", "10.0.0.256:3306", "10.0.0.0/33:3306", "10.0.0.0/:3306", "10.0.0.0/x:3306",
		"[fd00::/129]:3306", "[fd00::1:3306", "[fd00::1]3306", "[fd00::1]:", "[]:3306", "a b:3306", "db!:3306",
		"10.0.0.5:3306,,10.0.0.6:3306", "name/8:3306", "*:*", "**:3306", "1:2:3:4",
	};
	char list[8 * (RULES_MAX + 1) + 1] = "", path[200] = "/";
	struct rules_error err;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		memset(&rules, 0, sizeof(rules));
		if (rules_add(&rules, text_of(bad[i]), &err))
			fail_msg("took \"%s\"", bad[i]);
	}
	memset(path + 1, 'x', sizeof(path) - 2);
	assert_false(rules_add(&rules, text_of(path), &err));
	assert_string_equal(err.why, "path too long for a unix socket");
	memset(&rules, 0, sizeof(rules));
	for (int i = 0; i <= RULES_MAX; i++)
		strcat(list, i == 0 ? "*:3306" : ",*:3306");
	assert_false(rules_add(&rules, text_of(list), &err));
	assert_string_equal(err.why, "too many rules");
	assert_int_equal(rules.n, RULES_MAX);
	memset(&rules, 0, sizeof(rules));
	assert_false(rules_add(&rules, text_of("10.0.0.1:3306,10.0.0.2:x,*:1"), &err));
	assert_int_equal(err.where.n, 10);
	assert_memory_equal(err.where.p, "10.0.0.2:x", 10);
}

/* Every prefix of good rules, in memory of just that size: nothing reads past the end. */
static void no_read_past_the_end(void **state)
{
	static const char text[] = "10.0.0.0/8:3306,[fd00::/16]:3306,db.internal:3306,/run/x.sock,*:3306,fd00::1";
	struct rules_error err;
	struct endpoint e;
	unsigned taken = 0;

	(void)state;
	for (size_t n = 0; n < sizeof(text); n++) {
		char *exact = malloc(n > 0 ? n : 1);
		struct text t = {exact, n};

		memcpy(exact, text, n);
		memset(&rules, 0, sizeof(rules));
		taken += rules_add(&rules, t, &err);
		endpoint_parse(t, &e);
		free(exact);
	}
	assert_in_range(taken, 20, sizeof(text) - 1);
}

static void environment(void **state)
{
	static struct {
		const char *env[5];
		bool ok, on;
	} const cases[] = {
		{{"PATH=/bin"}, true, false},
		{{"SIDETRACK_MATCH=nonsense:x"}, true, false}, /* no SIDETRACK_TO: nobody wants anything */
		{{"SIDETRACK_TO=127.0.0.1:6033"}, true, true},
		{{"SIDETRACK_TO=/run/p.sock", "SIDETRACK_MATCH=10.0.0.5"}, true, true},
		{{"SIDETRACK_TO=proxy.internal:6033"}, false, false},
		{{"SIDETRACK_TO="}, false, false},
		{{"SIDETRACK_TO=127.0.0.1:6033", "SIDETRACK_MATCH="}, false, false},
		{{"SIDETRACK_TO=127.0.0.1:6033", "SIDETRACK_MATCH=10.0.0.5:0"}, false, false},
		{{"SIDETRACK_TO=127.0.0.1:6033", "SIDETRACK_STRICT=maybe"}, false, false},
		{{"SIDETRACK_TO=127.0.0.1:6033", "SIDETRACK_STRICT=yes", "SIDETRACK_DEBUG="}, true, true},
	};
	struct rules_error err;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		memset(&rules, 0, sizeof(rules));
		assert_int_equal(rules_from_env(&rules, (char *const *)cases[i].env, &err), cases[i].ok);
		assert_int_equal(rules.on, cases[i].on);
	}
	assert_true(rules.strict && rules.peername && !rules.debug && !rules.send_proxy);
	assert_true(hits("198.51.100.7:3306") && hits("/run/mysqld/mysqld.sock") && !hits("198.51.100.7:3307"));
}

static void texts(void **state)
{
	static const char *const same[] = {"127.0.0.1:6033", "255.0.20.100:65535", "/run/a.sock"};
	char out[ENDPOINT_TEXT_MAX];
	struct endpoint e, again;

	(void)state;
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		assert_true(endpoint_parse(text_of(same[i]), &e));
		assert_int_equal(endpoint_text(&e, out), strlen(same[i]));
		assert_string_equal(out, same[i]);
	}
	assert_true(endpoint_parse(text_of("[fd00:abcd::5]:7"), &e));
	endpoint_text(&e, out);
	assert_true(endpoint_parse(text_of(out), &again));
	assert_true(endpoint_same(&e, &again));
}

static void copies(void **state)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct endpoint e;

	(void)state;
	memset(un.sun_path, 'x', sizeof(un.sun_path)); /* full, without a NUL: the kernel takes it */
	assert_true(endpoint_copy((struct sockaddr *)&un, sizeof(un), &e));
	assert_false(endpoint_copy((struct sockaddr *)&un, sizeof(sa_family_t), &e));
	assert_true(endpoint_copy((struct sockaddr *)&in, sizeof(in), &e));
	assert_false(endpoint_copy((struct sockaddr *)&in, sizeof(in) - 1, &e));
	assert_false(endpoint_copy((struct sockaddr *)&in, 1, &e));
	assert_false(endpoint_copy(NULL, 16, &e));
	in.sin_family = AF_UNSPEC;
	assert_false(endpoint_copy((struct sockaddr *)&in, sizeof(in), &e));
}

static void header(const char *source, const char *wanted, unsigned family, const char *hex)
{
	uint8_t out[PROXYV2_MAX];
	char got[2 * PROXYV2_MAX + 1];
	struct endpoint s = {.len = sizeof(sa_family_t)}, w;
	size_t n;

	s.u.sa.sa_family = AF_UNIX; /* without a name, as a client's unix socket has it */
	if (source != NULL)
		assert_true(endpoint_parse(text_of(source), &s));
	assert_true(endpoint_parse(text_of(wanted), &w));
	n = proxyv2_build(&s, &w, out);
	assert_memory_equal(out, "\r\n\r\n\0\r\nQUIT\n\x21", 13);
	assert_int_equal(out[13], family);
	assert_int_equal(out[14] << 8 | out[15], n - 16);
	for (size_t i = 16; i < n; i++)
		snprintf(got + 2 * (i - 16), 3, "%02x", out[i]);
	if (hex != NULL)
		assert_string_equal(got, hex);
}

static void headers(void **state)
{
	(void)state;
	header("127.0.0.1:40000", "10.0.0.5:3306", 0x11, "7f0000010a0000059c400cea");
	header("[::1]:40000", "[fd00::5]:3306", 0x21,
	       "00000000000000000000000000000001fd0000000000000000000000000000059c400cea");
	header("[::1]:40000", "10.0.0.5:3306", 0x21,
	       "0000000000000000000000000000000100000000000000000000ffff0a0000059c400cea");
	header("[::ffff:127.0.0.1]:40000", "[::ffff:10.0.0.5]:3306", 0x11, "7f0000010a0000059c400cea");
	header(NULL, "10.0.0.5:3306", 0x11, "7f0000010a00000500000cea");
	header(NULL, "[fd00::5]:3306", 0x21,
	       "00000000000000000000000000000001fd00000000000000000000000000000500000cea");
	header("127.0.0.1:40000", "/run/mysqld/mysqld.sock", 0x31, NULL);
	header(NULL, "/run/mysqld/mysqld.sock", 0x31, NULL);
}

static void peers(void **state)
{
	struct endpoint e, got;
	unsigned known = 0;
	bool pending;

	(void)state;
	assert_true(endpoint_parse(text_of("10.0.0.5:3306"), &e));
	assert_false(peers_get(7, &got, &pending));
	peers_put(7, &e, true);
	assert_true(peers_get(7, &got, &pending) && pending && endpoint_same(&e, &got));
	peers_put(7, &e, false);
	assert_true(peers_get(7, &got, &pending) && !pending);
	peers_put(0, &e, false); /* no cookie, no memory */
	assert_false(peers_get(0, &got, &pending));
	for (uint64_t cookie = 100; cookie < 20100; cookie++) { /* more than it holds: the newest are there */
		peers_put(cookie, &e, false);
		assert_true(peers_get(cookie, &got, &pending));
	}
	for (uint64_t cookie = 20000; cookie < 20100; cookie++)
		known += peers_get(cookie, &got, &pending);
	assert_in_range(known, 95, 100);
	assert_false(peers_get(100, &got, &pending));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses), cmocka_unit_test(networks), cmocka_unit_test(paths),
		cmocka_unit_test(proxy_itself_never), cmocka_unit_test(names), cmocka_unit_test(bad_rules),
		cmocka_unit_test(no_read_past_the_end), cmocka_unit_test(environment), cmocka_unit_test(texts),
		cmocka_unit_test(copies), cmocka_unit_test(headers), cmocka_unit_test(peers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
