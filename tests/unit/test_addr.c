/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "base/addr.h"

static const struct {
	const char *text;
	unsigned default_port;
	const char *want; /* text after parsing; NULL: an error */
	const char *host;
	unsigned port;
} rows[] = {
	{"10.0.0.5:3307", 3306, "10.0.0.5:3307", "10.0.0.5", 3307},
	{"10.0.0.5", 3306, "10.0.0.5:3306", "10.0.0.5", 3306},
	{"db-1.internal_x", 3306, "db-1.internal_x:3306", "db-1.internal_x", 3306},
	{"[::1]:65535", 3306, "[::1]:65535", "::1", 65535},
	{"[::1]", 3306, "[::1]:3306", "::1", 3306},
	{"::1", 3306, "[::1]:3306", "::1", 3306},
	{"fe80::1%eth0", 1, "[fe80::1%eth0]:1", "fe80::1%eth0", 1},
	{"::ffff:10.0.0.1", 1, "[::ffff:10.0.0.1]:1", "::ffff:10.0.0.1", 1},
	{"/run/x/mysql.sock", 3306, "/run/x/mysql.sock", "/run/x/mysql.sock", 0},
	{"h:1", 0, "h:1", "h", 1},
	{"", 3306, NULL, NULL, 0},
	{"h", 0, NULL, NULL, 0},
	{"h:", 3306, NULL, NULL, 0},
	{"h:0", 3306, NULL, NULL, 0},
	{"h:65536", 3306, NULL, NULL, 0},
	{"h:99999999999999999999", 3306, NULL, NULL, 0},
	{"h:+5", 3306, NULL, NULL, 0},
	{"h:5x", 3306, NULL, NULL, 0},
	{":3306", 3306, NULL, NULL, 0},
	{"a b", 3306, NULL, NULL, 0},
	{"user@h", 3306, NULL, NULL, 0},
	{"[::1", 3306, NULL, NULL, 0},
	{"[::1]x", 3306, NULL, NULL, 0},
	{"[]:1", 3306, NULL, NULL, 0},
	{"[host]:1", 3306, NULL, NULL, 0},
	{"[fe80::1%]:1", 3306, NULL, NULL, 0},
	{"/", 3306, NULL, NULL, 0},
	{"/run/", 3306, NULL, NULL, 0},
};

static void parses(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct addr a;
		const char *why = NULL;
		int rc = addr_parse(rows[i].text, rows[i].default_port, &a, &why);

		if (rc != (rows[i].want != NULL ? 0 : -1))
			fail_msg("%s: %d", rows[i].text, rc);
		if (rows[i].want == NULL) {
			assert_non_null(why);
			continue;
		}
		assert_string_equal(a.text, rows[i].want);
		assert_string_equal(a.host, rows[i].host);
		assert_int_equal(a.port, rows[i].port);
		assert_int_equal(a.is_unix, rows[i].text[0] == '/');
		assert_int_equal(a.len, 0);
	}
}

static void long_names_are_refused(void **state)
{
	char text[400];
	struct addr a;
	const char *why;

	(void)state;
	memset(text, 'a', sizeof text);
	text[128] = '\0';
	assert_int_equal(addr_parse(text, 1, &a, &why), -1);
	text[127] = '\0';
	assert_int_equal(addr_parse(text, 65535, &a, &why), 0);
	assert_int_equal(strlen(a.text), 127 + 6);
	text[127] = 'a';
	text[0] = '/';
	text[108] = '\0';
	assert_int_equal(addr_parse(text, 1, &a, &why), -1);
	text[107] = '\0';
	assert_int_equal(addr_parse(text, 1, &a, &why), 0);
	assert_int_equal(addr_resolve(&a, &why), 0);
	assert_string_equal(((struct sockaddr_un *)&a.sa)->sun_path, text);
}

static void resolves_numbers(void **state)
{
	struct addr a;
	const char *why;

	(void)state;
	assert_int_equal(addr_parse("127.0.0.1:6033", 1, &a, &why), 0);
	assert_int_equal(addr_resolve(&a, &why), 0);
	struct sockaddr_in *in = (struct sockaddr_in *)&a.sa;
	assert_int_equal(in->sin_family, AF_INET);
	assert_int_equal(ntohs(in->sin_port), 6033);
	assert_int_equal(ntohl(in->sin_addr.s_addr), INADDR_LOOPBACK);
	assert_int_equal(a.len, sizeof *in);

	assert_int_equal(addr_parse("[::1]:6033", 1, &a, &why), 0);
	assert_int_equal(addr_resolve(&a, &why), 0);
	assert_int_equal(a.sa.ss_family, AF_INET6);
	assert_int_equal(a.len, sizeof(struct sockaddr_in6));

	assert_int_equal(addr_parse("999.1.1.1.", 1, &a, &why), 0);
	why = NULL;
	assert_int_equal(addr_resolve(&a, &why), -1);
	assert_non_null(why);
	assert_int_equal(a.len, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses),
		cmocka_unit_test(long_names_are_refused),
		cmocka_unit_test(resolves_numbers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
