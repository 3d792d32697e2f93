/* SPDX-License-Identifier: Apache-2.0
 *
 * Server groups in the configuration: [service.X], what is whose, and who may say what a connection wanted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/un.h>

#include "base/config_table.h"
#include "base/mem.h"
#include "base/slice.h"
#include "config_fixture.h"

#define B "[server.b]\naddress=10.0.0.2\n"
#define SERVICE "[service.s]\nmatch=10.0.0.2\nservers=b\n"

static struct config *load_good(const char *text)
{
	struct config *c = load(text, NULL);

	if (c == NULL)
		fail_msg("%s\n%s", text, reported());
	return c;
}

/* "10.0.0.1:3306", "[::1]:1", "/path"; as accept() gives it. */
static struct addr at(const char *text)
{
	struct addr a;
	const char *why = "";

	if (addr_parse(text, 3306, &a, &why) != 0 || addr_resolve(&a, &why) != 0)
		fail_msg("%s: %s", text, why);
	return a;
}

/* True: the value is good, and text is what is printed of it; false: what was expected instead. */
static bool put(enum config_section_id section, const char *key, const char *value, char text[CONFIG_TEXT])
{
	struct config *c = xcalloc(1, sizeof *c);
	struct config_service *s = xcalloc(1, sizeof *s);
	const struct config_option *o = config_option_find(section, key);
	void *where = section == SECTION_SERVICE ? (void *)s : (void *)c;
	char why[CONFIG_WHY];

	bool good = config_value_set(o, where, value, false, why) == 0;
	if (good)
		config_value_print(o, where, text);
	else
		snprintf(text, CONFIG_TEXT, "%s", why);
	free(s->match.text);
	free(c);
	free(s);
	return good;
}

/* --- Values ----------------------------------------------------------------------------------------------------- */

static const struct {
	enum config_section_id section;
	const char *key, *value, *want; /* NULL: as it was written */
} values[] = {
	{SECTION_PROXY, "listen", "127.0.0.1:6034 transparent, [::1]:6035 proxy_protocol, h:1", NULL},
	{SECTION_PROXY, "listen", "/run/a.sock proxy_protocol", NULL},
	{SECTION_PROXY, "listen", "a\t transparent ,b", "a:6033 transparent, b:6033"},
	{SECTION_PROXY, "listen", "h:1 h:2,h:3,transparent", "h:1, h:2, h:3 transparent"},
	{SECTION_PROXY, "listen", "h:1 transparant",
	 "\"transparant\": expected transparent|proxy_protocol, or a comma before another address"},
	{SECTION_PROXY, "listen", "h:1 transparent Proxy_Protocol",
	 "\"Proxy_Protocol\": expected transparent|proxy_protocol, or a comma before another address"},
	{SECTION_PROXY, "listen", " proxy_protocol h:1", "\"proxy_protocol\": expected an address before it"},
	{SECTION_PROXY, "listen", "h:1 transparent transparent", "h:1: transparent twice: expected it once"},
	{SECTION_PROXY, "listen", "h:1 proxy_protocol proxy_protocol", "h:1: proxy_protocol twice: expected it once"},
	{SECTION_PROXY, "listen", "h:1 transparent proxy_protocol",
	 "h:1: both transparent and proxy_protocol: expected one of them"},
	{SECTION_PROXY, "listen", "h:1 proxy_protocol transparent",
	 "h:1: both transparent and proxy_protocol: expected one of them"},
	{SECTION_PROXY, "listen", "/run/a.sock transparent",
	 "/run/a.sock: transparent: expected it behind host:port, no unix socket is redirected to"},
	{SECTION_PROXY, "listen", "h:1 transparent, h:1 proxy_protocol", "h:1 is named twice"},
	{SECTION_ADMIN, "listen", "h:1 proxy_protocol", "\"proxy_protocol\": expected addresses only"},
	{SECTION_ADMIN, "listen", "transparent", "\"transparent\": expected addresses only"},
	{SECTION_ADMIN, "listen", "h:1, h:2", NULL},

	{SECTION_PROXY, "proxy_protocol_networks", "127.0.0.0/8, ::1", NULL},
	{SECTION_PROXY, "proxy_protocol_networks", "10.0.0.0/8, 10.1.2.3, ::1, fd00::/16, *", NULL},
	{SECTION_PROXY, "proxy_protocol_networks", "", NULL},
	{SECTION_PROXY, "proxy_protocol_networks", " ,\t", ""},
	{SECTION_PROXY, "proxy_protocol_networks", "10.1.2.3/8\t192.168.255.255/22 ,10.255.0.0/9",
	 "10.0.0.0/8, 192.168.252.0/22, 10.128.0.0/9"},
	{SECTION_PROXY, "proxy_protocol_networks", "0.0.0.0/0, 10.1.2.3/32, ::1/128, fdff:ffff::/10, ::/0",
	 "0.0.0.0/0, 10.1.2.3, ::1, fdc0::/10, *"},
	{SECTION_PROXY, "proxy_protocol_networks", "::ffff:10.1.2.3/104, ::ffff:0:0/95", "10.0.0.0/8, ::fffe:0:0/95"},
#define NOT_A_NETWORK(x)                                                                                               \
	{SECTION_PROXY, "proxy_protocol_networks", x,                                                                  \
	 "\"" x "\": expected a network, such as 10.0.0.0/8, 10.1.2.3, ::1 or *"}
	NOT_A_NETWORK("10.0.0.0/33"), NOT_A_NETWORK("10.0.0.0/-1"), NOT_A_NETWORK("10.0.0.0/"), NOT_A_NETWORK("/8"),
	NOT_A_NETWORK("::/129"), NOT_A_NETWORK("10.0.0/8"), NOT_A_NETWORK("10.0.0.0/8x"), NOT_A_NETWORK("h"),
	NOT_A_NETWORK("*/8"), NOT_A_NETWORK("[::1]"), NOT_A_NETWORK("10.0.0.1:3306"),
	NOT_A_NETWORK("10.0.0.0/18446744073709551624"),
	NOT_A_NETWORK("1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa"),
	{SECTION_PROXY, "proxy_protocol_networks", "1.1.1.1 2.2.2.2 3 4",
	 "\"3\": expected a network, such as 10.0.0.0/8, 10.1.2.3, ::1 or *"},
	{SECTION_PROXY, "proxy_protocol_networks", "* * * * * * * * * * * * * * * * *", "at most 16 networks"},

	{SECTION_SERVICE, "match", "10.0.0.5, h:3307 ,\t*:1,[fd00::/16]:2, /x.sock", NULL},
	{SECTION_SERVICE, "match", "", "expected destinations, separated by commas"},
	{SECTION_SERVICE, "match", " , ", "expected destinations, separated by commas"},
	{SECTION_SERVICE, "match", "10.0.0.5:0", "\"10.0.0.5:0\": port must be 1 to 65535"},
	{SECTION_SERVICE, "match", "h:", "\"h:\": port must be 1 to 65535"},
	{SECTION_SERVICE, "match", "[::1]:65536", "\"::1:65536\": port must be 1 to 65535"},
	{SECTION_SERVICE, "match", "h:1x", "\"h:1x\": port must be 1 to 65535"},
	{SECTION_SERVICE, "match", "/", "\"/\": the path of a unix socket must name a file"},
#define NOT_A_MATCH(x, host)                                                                                           \
	{SECTION_SERVICE, "match", x,                                                                                  \
	 "\"" host "\": expected host:port, a.b.c.d/bits:port, [v6]:port, [v6/bits]:port, *:port or /path/to.sock"}
	NOT_A_MATCH("10.0.0.256:1", "10.0.0.256"), NOT_A_MATCH("10.0.0.0/33:1", "10.0.0.0/33"),
	NOT_A_MATCH("[::1", "[::1"), NOT_A_MATCH("[::1]x", "[::1]x"), NOT_A_MATCH("h/8:1", "h/8"),
	NOT_A_MATCH(":1", ""), NOT_A_MATCH("[]:1", ""), NOT_A_MATCH("[fd00::/129]:1", "fd00::/129"),
	NOT_A_MATCH("fe80::1%eth0", "fe80::1%eth0"), NOT_A_MATCH("*.internal", "*.internal"),
};

static void values_print_what_they_mean(void **state)
{
	char text[CONFIG_TEXT], again[CONFIG_TEXT];

	(void)state;
	for (unsigned i = 0; i < sizeof values / sizeof *values; i++) {
		const char *want = values[i].want != NULL ? values[i].want : values[i].value;
		bool good = put(values[i].section, values[i].key, values[i].value, text);
		if (strcmp(text, want) != 0)
			fail_msg("%s = %s\n got: %s\nwant: %s", values[i].key, values[i].value, text, want);
		if (good) { /* what is printed is understood */
			assert_true(put(values[i].section, values[i].key, text, again));
			assert_string_equal(again, text);
		}
	}
}

static void long_values(void **state)
{
	char text[CONFIG_TEXT], *value;
	struct buf many = {0};

	(void)state;
	value = xasprintf("/%0107d", 0);
	assert_false(put(SECTION_SERVICE, "match", value, text));
	assert_non_null(strstr(text, "the path of a unix socket has at most 107 bytes"));
	value[107] = '\0';
	assert_true(put(SECTION_SERVICE, "match", value, text));
	assert_string_equal(text, value);
	free(value);
	value = xasprintf("x%0253d", 0);
	assert_false(put(SECTION_SERVICE, "match", value, text));
	assert_non_null(strstr(text, "expected host:port"));
	free(value);
	value = xasprintf("x%*s", CONFIG_TEXT, "y");
	assert_false(put(SECTION_SERVICE, "match", value, text));
	assert_string_equal(text, "expected at most 1599 characters");
	free(value);
	for (int i = 0; i <= CONFIG_MATCHES; i++)
		buf_printf(&many, "10.0.0.%d 10.0.0.1 ", i); /* twice the same is once */
	buf_put_u8(&many, 0);
	assert_false(put(SECTION_SERVICE, "match", (char *)many.data, text));
	assert_string_equal(text, "at most 32 destinations, each address of a name counted");
	buf_fini(&many);
}

static void listen_words(void **state)
{
	struct config *c = load_good(SERVER "[proxy]\nlisten = h:1 transparent, h:2, h:3 proxy_protocol\n"
					    "[admin]\nlisten = h:4\n"), *d;
	const struct config_options o = {.listen = "h:1, h:2 transparent", .unresolved = true};

	(void)state;
	assert_int_equal(c->nlisten, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(c->listen[i].transparent, i == 0);
		assert_int_equal(c->listen[i].proxy_protocol, i == 2);
		assert_int_equal(c->listen[i].port, i + 1);
	}
	d = load(SERVER, &o);
	assert_non_null(d);
	assert_true(d->listen[1].transparent);
	buf_clear(&reports);
	config_report_fixed(c, d, report, NULL);
	assert_string_equal(reported(), "[proxy] listen stays \"h:1 transparent, h:2, h:3 proxy_protocol\": "
					"\"h:1, h:2 transparent\" needs a restart\n"
					"[admin] listen stays \"h:4\": \"\" needs a restart\n");
	config_keep_fixed(c, d);
	assert_true(d->listen[2].proxy_protocol);
	config_unref(c);
	config_unref(d);
}

/* What a family's option was before cannot be told from the option alone. */
static void families_have_no_fixed_options(void **state)
{
	(void)state;
	for (unsigned i = 0; i < config_options_n; i++)
		assert_true(config_options[i].live || config_sections[config_options[i].section].example == NULL);
}

/* --- Who is trusted, what is whose ------------------------------------------------------------------------------ */

static const struct {
	const char *nets, *peer; /* NULL: the default */
	bool trusted;
} trust[] = {
	{NULL, "127.0.0.1:1", true},        {NULL, "127.255.0.1:1", true},
	{NULL, "[::1]:1", true},            {NULL, "[::ffff:127.0.0.2]:1", true},
	{NULL, "128.0.0.1:1", false},       {NULL, "[::2]:1", false},
	{NULL, "/x", true},                 {"", "/x", true},
	{"", "127.0.0.1:1", false},         {"", "[::1]:1", false},
	{"*", "1.2.3.4:1", true},           {"*", "[fd00::1]:1", true},
	{"0.0.0.0/0", "1.2.3.4:1", true},   {"0.0.0.0/0", "[fd00::1]:1", false},
	{"10.0.0.0/9", "10.127.0.1:1", true}, {"10.0.0.0/9", "10.128.0.1:1", false},
	{"fd00::/9", "[fd7f::1]:1", true},  {"fd00::/9", "[fd80::1]:1", false},
	{"10.9.9.9/31", "10.9.9.8:1", true}, {"10.9.9.9", "10.9.9.8:1", false},
	{"1.1.1.1 fd00::/8 10.0.0.0/8", "10.9.9.8:1", true},
};

static void trusts(void **state)
{
	const struct sockaddr none = {.sa_family = AF_UNSPEC};

	(void)state;
	for (unsigned i = 0; i < sizeof trust / sizeof *trust; i++) {
		char *text = trust[i].nets == NULL
				     ? xstrdup(SERVER)
				     : xasprintf(SERVER "[proxy]\nproxy_protocol_networks = %s\n", trust[i].nets);
		struct config *c = load_good(text);
		struct addr peer = at(trust[i].peer);
		if (config_trusts(c, (struct sockaddr *)&peer.sa) != trust[i].trusted)
			fail_msg("\"%s\": %s", trust[i].nets, trust[i].peer);
		assert_false(config_trusts(c, &none));
		config_unref(c);
		free(text);
	}
}

static const struct {
	const char *match, *wanted;
	bool hit;
} destinations[] = {
	{"10.0.0.5", "10.0.0.5:3306", true},
	{"10.0.0.5", "10.0.0.5:3307", false},
	{"10.0.0.5", "10.0.0.6:3306", false},
	{"10.0.0.5:3307", "10.0.0.5:3307", true},
	{"10.0.0.5:3306", "[::ffff:10.0.0.5]:3306", true},
	{"[::ffff:10.0.0.5]", "10.0.0.5:3306", true},
	{"10.9.0.0/8:1", "10.255.0.1:1", true},
	{"10.9.0.0/8:1", "11.0.0.1:1", false},
	{"10.0.0.0/8", "10.0.0.1:3306", true},
	{"fd00::5", "[fd00::5]:3306", true},
	{"[fd00::5]", "[fd00::5]:3306", true},
	{"[fd00::5]:7", "[fd00::5]:7", true},
	{"[fd00::5]:7", "[fd00::5]:3306", false},
	{"[fd00::/16]:7", "[fd00:1::5]:7", true},
	{"[fd00::/16]:7", "[fd01::5]:7", false},
	{"*", "1.2.3.4:3306", true},
	{"*", "/x", false},
	{"*:7", "[fd00::5]:7", true},
	{"*:7", "[fd00::5]:8", false},
	{"/run/mysqld/mysqld.sock", "/run/mysqld/mysqld.sock", true},
	{"/run/mysqld/mysqld.sock", "/var/run/mysqld/mysqld.sock", true},
	{"/var/run/x", "/run/x", true},
	{"/run/x", "/run/y", false},
	{"/run/x", "10.0.0.5:3306", false},
	{"1.1.1.1, /x 10.0.0.5", "10.0.0.5:3306", true},
	{"1.1.1.1, /x 10.0.0.5", "/x", true},
	{"unknown.example", "10.0.0.5:3306", false}, /* not looked up */
};

static void finds_the_service_of_a_destination(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof destinations / sizeof *destinations; i++) {
		char *text = xasprintf(SERVER B "[service.s]\nservers = b\nmatch = %s\n", destinations[i].match);
		struct config *c = load_good(text);
		struct addr a = at(destinations[i].wanted);
		if (config_service_for(c, (struct sockaddr *)&a.sa, a.len) != (destinations[i].hit ? 0 : -1))
			fail_msg("%s: %s", destinations[i].match, destinations[i].wanted);
		config_unref(c);
		free(text);
	}
}

static void odd_destinations(void **state)
{
	struct config *c = load_good(SERVER B "[service.s]\nservers = b\nmatch = *, [::]:0001, /x\n");
	struct addr ip = at("10.0.0.5"), un = at("/x");
	const struct sockaddr *a = (struct sockaddr *)&ip.sa, *u = (struct sockaddr *)&un.sa;
	const size_t head = offsetof(struct sockaddr_un, sun_path);
	struct sockaddr_un raw = {.sun_family = AF_UNIX};

	(void)state;
	assert_int_equal(config_service_for(c, a, ip.len), 0);
	assert_int_equal(config_service_for(c, a, ip.len - 1), -1);
	assert_int_equal(config_service_for(c, a, 0), -1);
	assert_int_equal(config_service_for(c, NULL, 0), -1);
	assert_int_equal(config_service_for(c, u, head + 2), 0); /* without the NUL */
	assert_int_equal(config_service_for(c, u, head + 1), -1);
	assert_int_equal(config_service_for(c, u, head), -1);
	assert_int_equal(config_service_for(c, (struct sockaddr *)&raw, sizeof raw), -1); /* unnamed */
	memcpy(raw.sun_path, "\0/x", 3);
	assert_int_equal(config_service_for(c, (struct sockaddr *)&raw, head + 3), -1); /* abstract */
	memset(raw.sun_path, 'x', sizeof raw.sun_path);
	assert_int_equal(config_service_for(c, (struct sockaddr *)&raw, sizeof raw), -1); /* no NUL at all */
	raw.sun_family = AF_UNSPEC;
	assert_int_equal(config_service_for(c, (struct sockaddr *)&raw, sizeof raw), -1);
	config_unref(c);
}

static void names_are_looked_up(void **state)
{
	const struct config_options o = {.unresolved = false};
	struct config *c = load(SERVER B "[service.s]\nservers = b\nmatch = localhost:7, localhost:8\n", &o);
	struct addr seven = at("127.0.0.1:7"), eight = at("127.0.0.1:8"), nine = at("127.0.0.1:9");

	(void)state;
	if (c == NULL)
		fail_msg("%s", reported());
	assert_in_range(c->services[0].match.n, 2, 4); /* IPv6 too, where it has one */
	assert_int_equal(config_service_for(c, (struct sockaddr *)&seven.sa, seven.len), 0);
	assert_int_equal(config_service_for(c, (struct sockaddr *)&eight.sa, eight.len), 0);
	assert_int_equal(config_service_for(c, (struct sockaddr *)&nine.sa, nine.len), -1);
	config_unref(c);
	assert_null(load(SERVER B "[service.s]\nservers = b\nmatch = 10.0.0.1, no..name:3306\n", &o));
	assert_non_null(strstr(reported(), "f:7: [service.s] match: \"no..name\" cannot be resolved: "));
}

/* --- Whole files ------------------------------------------------------------------------------------------------ */

#define TABLE "\ntable=d.t\nkey=k\n"

static const struct mistake mistakes[] = {
	{SERVER "[service.s]\n", "f:3: [service.s] has no match: expected match = host:port\n"
				 "f:3: [service.s] has no servers: expected servers = X, of a [server.X]\n"},
	{SERVER "[service]\n", "f:3: [service] needs a name: expected [service.X]\n"},
	{SERVER "[service.a b]\n",
	 "f:3: [service.a b]: expected a name of 1 to 63 letters, digits, _ - . after service.\n"},
	{SERVER "[servcie.a]\n", "f:3: unknown section [servcie.a]: did you mean [service.a]?\n"},
	{SERVER B SERVICE "serves=b\n", "f:8: unknown key \"serves\" in [service.s]: did you mean \"servers\"?\n"},
	{SERVER B SERVICE SERVICE, "f:8: section [service.s] again: expected once, it is in line 5 already\n"},
	{SERVER B SERVICE "monitor_user=\n", "f:8: [service.s] monitor_user: expected 1 to 128 characters\n"},
	{SERVER B SERVICE "monitor_password=x\n",
	 "f:5: [service.s] has a monitor_password but no monitor_user: expected monitor_user = name\n"},
	{SERVER "[service.s]\nmatch=h\nservers= ,\n", "f:3: [service.s] servers: expected X of a [server.X]\n"},
	{SERVER "[service.s]\nmatch=h\nservers=x, y\n",
	 "f:3: [service.s] servers: there is no [server.x]: expected X of a [server.X]\n"
	 "f:3: [service.s] servers: there is no [server.y]: expected X of a [server.X]\n"},
	{SERVER B "[service.s]\nmatch=h\nservers=b b\n",
	 "f:5: [service.s] servers: b is in [service.s] already: expected a server once\n"},
	{SERVER B SERVICE "[service.t]\nmatch=h\nservers=b\n",
	 "f:8: [service.t] servers: b is in [service.s] already: expected a server once\n"},
	{SERVER B "[server.c]\naddress=10.0.0.3\n" SERVICE "[service.t]\nmatch=10.9.9.9:1, 10.0.0.2\nservers=c\n",
	 "f:10: [service.t] match: a destination of [service.s] again: expected it once\n"},
	{SERVER "[service.s]\nmatch=h\nservers=a\n",
	 "f: no servers but those of services: expected at least one [server.X] that no service names\n"},
	{SERVER "role=primary\n" B "role=primary\n[server.c]\naddress=c\nrole=primary\n[service.s]\nmatch=h\n"
		"servers=b c\n",
	 "f:7: server c: a second role = primary in service s: expected one at most\n"},
	{SERVER "role=primary\n" B "role=primary\n[server.c]\naddress=c\nrole=primary\n[service.s]\nmatch=h\n"
		"servers=b\n",
	 "f:7: server c: a second role = primary: expected one at most\n"},
	{SERVER "[cache.r]\nservice=x" TABLE,
	 "f:3: [cache.r] service: there is no [service.x]: expected X of a [service.X]\n"},
	{SERVER "[cache.r]\nservice=0123456789012345678901234567890123456789012345678901234567890123" TABLE,
	 "f:4: [cache.r] service: \"0123456789012345678901234567890123456789012345678901234567890123\": expected a "
	 "name of at most 63 characters\n"},
	{SERVER B SERVICE "[cache.q]\nservice=s" TABLE "[cache.r]" TABLE "[cache.t]\nservice=s" TABLE,
	 "f:15: [cache.t] caches the table of [cache.q]: expected one rule a table\n"},
	{SERVER B SERVICE "[cache.q]\nservice=" TABLE "[cache.r]" TABLE,
	 "f:12: [cache.r] caches the table of [cache.q]: expected one rule a table\n"},
};

static void mistakes_name_their_line(void **state)
{
	(void)state;
	check_mistakes(mistakes, sizeof mistakes / sizeof *mistakes);
}

static void at_most_so_many_services(void **state)
{
	struct buf text = {0};

	(void)state;
	buf_printf(&text, SERVER);
	for (int i = 0; i <= CONFIG_SERVICES; i++)
		buf_printf(&text, "[server.s%d]\naddress=h%d\n[service.v%d]\nmatch=10.0.0.%d\nservers=s%d\n", i, i, i,
			   i, i);
	buf_put_u8(&text, 0);
	assert_null(load((char *)text.data, NULL));
	assert_string_equal(reported(), "f:45: at most 8 services\n");
	buf_fini(&text);
}

static void a_service_password_is_a_secret(void **state)
{
	const struct config_options o = {.unresolved = true};
	char text[] = SERVER B SERVICE "monitor_user=m\nmonitor_password=x\n";

	(void)state;
	buf_clear(&reports);
	assert_null(config_load_text("f", text, strlen(text), true, &o, report, NULL));
	assert_string_equal(reported(), "f:9: [service.s] monitor_password: others can read this file, which holds a "
					"password: expected mode 0640 or stricter (chmod o-rwx)\n");
}

static void servers_of_the_command_line_drop_services(void **state)
{
	const struct config_options o = {.primary = "10.0.0.9", .unresolved = true};
	struct config *c = load(SERVER B SERVICE "monitor_user=m\nmonitor_password=x\n[cache.r]" TABLE, &o);

	(void)state;
	if (c == NULL)
		fail_msg("%s", reported());
	assert_int_equal(c->nservices, 0);
	assert_int_equal(c->nservers, 1);
	assert_int_equal(c->servers[0].service, -1);
	assert_int_equal(c->rules[0].service, -1);
	config_unref(c);
	assert_null(load(SERVER B SERVICE "[cache.r]\nservice=s" TABLE, &o));
	assert_string_equal(reported(), "command line: [cache.r] service: services need the file's servers: expected "
					"no --primary and no --replica\n");
}

/* --- Views ------------------------------------------------------------------------------------------------------ */

static const char groups[] =
	"[server.a]\naddress=10.0.0.1\nrole=primary\n"
	"[server.b]\naddress=10.0.0.2\nrole=primary\n"
	"[server.c]\naddress=10.0.0.3\nrole=primary\n"
	"[server.d]\naddress=10.0.0.4\n"
	"[server.e]\naddress=10.0.0.5\n"
	"[monitor]\nuser=mon\npassword=monpw\n[user.u]\npassword=p\n"
	"[service.one]\nmatch=10.0.0.0/8, /one\nservers=e, b\nmonitor_user=m1\nmonitor_password=p1\n"
	"[service.two]\nmatch=*\nservers=c\n"
	"[service.x]\nmatch=h\nservers=d\nmonitor_user=mx\n"
	"[cache.r1]\ntable=d.t\nkey=k\nservice=two\n"
	"[cache.r2]\ntable=d.t\nkey=k\n"
	"[cache.r3]\ntable=d.t\nkey=k\nservice=one\n"
	"[cache.r4]\ntable=d.u\nkey=k\nservice=one\n";

static const struct {
	const char *name, *servers, *rules, *user, *password;
} views[] = { /* from -1 on */
	{"", "a ", "r2 ", "mon", "monpw"},
	{"one", "b e ", "r3 r4 ", "m1", "p1"},
	{"two", "c ", "r1 ", "mon", "monpw"},
	{"x", "d ", "", "mx", NULL},
};

static void views_have_what_is_theirs(void **state)
{
	struct config *c = load_good(groups), *all[4];
	struct addr ten = at("10.9.9.9"), other = at("11.0.0.1"), unmatched = at("11.0.0.1:1");

	(void)state;
	for (int i = 0; i < 4; i++)
		all[i] = config_view(c, i - 1);
	config_unref(c); /* views hold it */
	for (int i = 0; i < 4; i++) {
		struct config *v = all[i];
		char servers[64] = "", rules[64] = "";
		for (unsigned k = 0; k < v->nservers; k++)
			sprintf(servers + strlen(servers), "%s ", v->servers[k].name);
		for (unsigned k = 0; k < v->nrules; k++)
			sprintf(rules + strlen(rules), "%s ", v->rules[k].name);
		assert_ptr_equal(v->whole, c);
		assert_string_equal(v->service, views[i].name);
		assert_string_equal(servers, views[i].servers);
		assert_string_equal(rules, views[i].rules);
		assert_string_equal(v->monitor_user, views[i].user);
		if (views[i].password == NULL)
			assert_null(v->monitor_password); /* [monitor]'s is another account's */
		else
			assert_string_equal(v->monitor_password, views[i].password);
		assert_string_equal(v->path, "f");
		assert_int_equal(v->monitor_interval_ms, 500);
		assert_string_equal(v->users[0].password, "p");
		assert_int_equal(config_service_for(v, (struct sockaddr *)&ten.sa, ten.len), 0); /* the first */
		assert_int_equal(config_service_for(v, (struct sockaddr *)&other.sa, other.len), 1);
		assert_int_equal(config_service_for(v, (struct sockaddr *)&unmatched.sa, unmatched.len), -1);
		config_unref(config_ref(v));
		config_unref(v);
	}
}

static void indexes_are_filled_in(void **state)
{
	static const int servers[] = {-1, 0, 1, 2, 0}, rules[] = {1, -1, 0, 0};
	struct config *c = load_good(groups);

	(void)state;
	assert_null(c->whole);
	assert_string_equal(c->service, "");
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(c->servers[i].service, servers[i]);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(c->rules[i].service, rules[i]);
	config_unref(c);
}

static void on_option(void *arg, const char *section, const char *key, const char *value, const char *def)
{
	(void)arg;
	buf_printf(&reports, "[%s] %s=%s(%s)\n", section, key, value, def);
}

static void shows_services(void **state)
{
	struct config *c = load_good(groups);

	(void)state;
	buf_clear(&reports);
	config_visit(c, on_option, NULL);
	assert_non_null(strstr(reported(), "[proxy] proxy_protocol_networks=127.0.0.0/8, ::1(127.0.0.0/8, ::1)\n"));
	assert_non_null(strstr(reported(), "[cache.r1] service=two()\n"));
	assert_non_null(strstr(reported(), "[service.one] match=10.0.0.0/8, /one()\n[service.one] servers=e, b()\n"
					   "[service.one] monitor_user=m1()\n[service.one] monitor_password=***()\n"));
	assert_non_null(strstr(reported(), "[service.x] monitor_password=()\n"));
	config_unref(c);
}

/* --- Reloads ---------------------------------------------------------------------------------------------------- */

#define S1 "[service.s1]\nmatch=h\nservers=b\n"
#define S2 "[service.s2]\nmatch=h\nservers=c\n"

static const struct {
	const char *old, *new_, *want;
} reloads[] = {
	{"", "", ""},
	{S1 S2, S1 S2, ""},
	{S1, "[service.s1]\nmatch=other:1\nservers=c\nmonitor_user=m\n", ""},
	{"", S1, "[service.s1] is new: that needs a restart\n"},
	{S1 S2, S2, "[service.s1] is gone: that needs a restart\n"},
	{S1, S2, "[service.s1] is gone: that needs a restart\n[service.s2] is new: that needs a restart\n"},
	{S1 S2, S2 S1, "the [service.X] sections are in another order: that needs a restart\n"},
};

static void names_what_services_a_reload_cannot_change(void **state)
{
	static const char servers[] = SERVER B "[server.c]\naddress=10.0.0.3\n";

	(void)state;
	for (unsigned i = 0; i < sizeof reloads / sizeof *reloads; i++) {
		char *before = xasprintf("%s%s", servers, reloads[i].old);
		char *after = xasprintf("%s%s", servers, reloads[i].new_);
		struct config *old = load_good(before), *new_ = load_good(after);
		buf_clear(&reports);
		bool same = config_same_services(old, new_, report, NULL);
		assert_string_equal(reported(), reloads[i].want);
		assert_int_equal(same, reloads[i].want[0] == '\0');
		config_unref(old);
		config_unref(new_);
		free(before);
		free(after);
	}
}

static int stop(void **state)
{
	(void)state;
	buf_fini(&reports);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_print_what_they_mean),
		cmocka_unit_test(long_values),
		cmocka_unit_test(listen_words),
		cmocka_unit_test(families_have_no_fixed_options),
		cmocka_unit_test(trusts),
		cmocka_unit_test(finds_the_service_of_a_destination),
		cmocka_unit_test(odd_destinations),
		cmocka_unit_test(names_are_looked_up),
		cmocka_unit_test(mistakes_name_their_line),
		cmocka_unit_test(at_most_so_many_services),
		cmocka_unit_test(a_service_password_is_a_secret),
		cmocka_unit_test(servers_of_the_command_line_drop_services),
		cmocka_unit_test(views_have_what_is_theirs),
		cmocka_unit_test(indexes_are_filled_in),
		cmocka_unit_test(shows_services),
		cmocka_unit_test(names_what_services_a_reload_cannot_change),
	};
	return cmocka_run_group_tests(tests, NULL, stop);
}
