/* SPDX-License-Identifier: Apache-2.0 */
#include "base/config_table.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"

/* The count (or the flag) of these fields stands right after their addresses. */
#define FOLLOWS(field, n)                                                                                              \
	(offsetof(struct config, n) == offsetof(struct config, field) + sizeof((struct config *)0)->field)
_Static_assert(FOLLOWS(listen, nlisten) && FOLLOWS(admin, nadmin) && FOLLOWS(http, has_http), "order of struct config");

static int fail(char why[CONFIG_WHY], const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int fail(char why[CONFIG_WHY], const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, CONFIG_WHY, fmt, ap);
	va_end(ap);
	return -1;
}

/* --- Addresses -------------------------------------------------------------------------------------------------- */

static int parse_addr(const struct config_option *o, struct addr *out, const char *value, bool resolve,
		      char why[CONFIG_WHY])
{
	const char *what;

	if (addr_parse(value, o->limits.port, out, &what) != 0)
		return fail(why, "\"%.100s\": %s", value, what);
	if (resolve && addr_resolve(out, &what) != 0)
		return fail(why, "\"%.100s\" cannot be resolved: %s", value, what);
	return 0;
}

static int set_address(const struct config_option *o, void *field, const char *value, bool resolve,
		       char why[CONFIG_WHY])
{
	return parse_addr(o, field, value, resolve, why);
}

static int set_http(const struct config_option *o, void *field, const char *value, bool resolve, char why[CONFIG_WHY])
{
	struct addr *a = field;

	if (parse_addr(o, a, value, resolve, why) != 0)
		return -1;
	*(bool *)(a + 1) = true;
	return 0;
}

/* A word behind the address `a` (NULL: behind none). */
static int listen_word(const struct config_option *o, struct addr *a, const char *word, char why[CONFIG_WHY])
{
	bool transparent = strcmp(word, "transparent") == 0;

	if (o->limits.words == NULL)
		return fail(why, "\"%s\": expected addresses only", word);
	if (a == NULL)
		return fail(why, "\"%s\": expected an address before it", word);
	if (transparent ? a->transparent : a->proxy_protocol)
		return fail(why, "%s: %s twice: expected it once", a->text, word);
	if (a->transparent || a->proxy_protocol)
		return fail(why, "%s: both transparent and proxy_protocol: expected one of them", a->text);
	if (transparent && a->is_unix)
		return fail(why, "%s: transparent: expected it behind host:port, no unix socket is redirected to",
			    a->text);
	*(transparent ? &a->transparent : &a->proxy_protocol) = true;
	return 0;
}

static int listen_address(const struct config_option *o, struct addr *list, unsigned *n, const char *one, bool resolve,
			  char why[CONFIG_WHY])
{
	if (*n == CONFIG_LISTENS)
		return fail(why, "at most %d addresses", CONFIG_LISTENS);
	if (parse_addr(o, &list[*n], one, resolve, why) != 0)
		return -1;
	for (unsigned i = 0; i < *n; i++)
		if (strcmp(list[i].text, list[*n].text) == 0)
			return fail(why, "%s is named twice", list[i].text);
	++*n;
	return 0;
}

/* Blanks separate addresses too; but a bare word behind an address is rather a mistyped word than a host's name. */
static bool looks_like_word(const char *value, size_t at)
{
	static const char separators[] = ", \t";
	size_t gap = at;

	while (gap > 0 && (value[gap - 1] == ' ' || value[gap - 1] == '\t'))
		gap--;
	size_t n = strcspn(value + at, separators);
	return gap > 0 && value[gap - 1] != ',' && strcspn(value + at, ".:/[") >= n;
}

static int set_listens(const struct config_option *o, void *field, const char *value, bool resolve,
		       char why[CONFIG_WHY])
{
	struct addr *list = field;
	unsigned *n = (unsigned *)(list + CONFIG_LISTENS);
	char *copy = xstrdup(value), *save = NULL;
	int rc = 0;

	*n = 0;
	for (char *one = strtok_r(copy, ", \t", &save); rc == 0 && one != NULL; one = strtok_r(NULL, ", \t", &save)) {
		if (strcmp(one, "transparent") == 0 || strcmp(one, "proxy_protocol") == 0)
			rc = listen_word(o, *n > 0 ? &list[*n - 1] : NULL, one, why);
		else if (o->limits.words != NULL && looks_like_word(value, (size_t)(one - copy)))
			rc = fail(why, "\"%.100s\": expected %s, or a comma before another address", one,
				  o->limits.words);
		else
			rc = listen_address(o, list, n, one, resolve, why);
	}
	free(copy);
	if (rc == 0 && *n == 0)
		return fail(why, "expected addresses, separated by commas");
	return rc;
}

static void print_address(const struct config_option *o, const void *field, char text[CONFIG_TEXT])
{
	(void)o;
	snprintf(text, CONFIG_TEXT, "%s", ((const struct addr *)field)->text);
}

static void print_listens(const struct config_option *o, const void *field, char text[CONFIG_TEXT])
{
	const struct addr *list = field;
	unsigned n = *(const unsigned *)(list + CONFIG_LISTENS);
	size_t len = 0;

	(void)o;
	text[0] = '\0';
	for (unsigned i = 0; i < n; i++)
		len += (size_t)snprintf(text + len, CONFIG_TEXT - len, "%s%s%s%s", i > 0 ? ", " : "", list[i].text,
					list[i].transparent ? " transparent" : "",
					list[i].proxy_protocol ? " proxy_protocol" : "");
}

/* --- Numbers ---------------------------------------------------------------------------------------------------- */

/* Digits at the start of *p; -1 when there are none or they do not fit. */
static int parse_digits(const char **p, uint64_t *out)
{
	char *end;

	if (!isdigit((unsigned char)**p))
		return -1;
	errno = 0;
	*out = strtoull(*p, &end, 10);
	*p = end;
	return errno == 0 ? 0 : -1;
}

static int set_count(const struct config_option *o, void *field, const char *value, bool resolve, char why[CONFIG_WHY])
{
	const char *p = value;
	uint64_t v;

	(void)resolve;
	if (parse_digits(&p, &v) != 0 || *p != '\0' || v < o->limits.min || v > o->limits.max)
		return fail(why, "\"%.100s\": expected a number from %" PRIu64 " to %" PRIu64, value, o->limits.min,
			    o->limits.max);
	*(unsigned *)field = (unsigned)v;
	return 0;
}

static void print_count(const struct config_option *o, const void *field, char text[CONFIG_TEXT])
{
	(void)o;
	snprintf(text, CONFIG_TEXT, "%u", *(const unsigned *)field);
}

struct unit {
	const char *name;
	uint64_t factor;
};
static const struct unit byte_units[] = {{"g", 1ull << 30}, {"m", 1ull << 20}, {"k", 1ull << 10}, {"", 1}, {NULL, 0}};
static const struct unit time_units[] = {
	{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {NULL, 0},
};

/* The largest unit that says it exactly. */
static void print_units(const struct unit *u, uint64_t v, char *text, size_t cap)
{
	while (u[1].name != NULL && v % u->factor != 0)
		u++;
	if (v == 0)
		snprintf(text, cap, "0");
	else
		snprintf(text, cap, "%" PRIu64 "%s", v / u->factor, u->name);
}

static int set_units(const struct config_option *o, uint64_t *field, const char *value, const struct unit *units,
		     const char *kind, char why[CONFIG_WHY])
{
	const char *p = value;
	char low[32], high[32];
	uint64_t v;
	bool good = parse_digits(&p, &v) == 0;

	const struct unit *u = units;
	while (good && u->name != NULL && strcasecmp(u->name, p) != 0)
		u++;
	if (good && u->name == NULL && *p == '\0' && v == 0)
		u = units; /* 0 needs no unit */
	if (good && u->name == NULL && *p == '\0')
		return fail(why, "\"%.100s\" has no unit: expected %s", value, kind);
	if (!good || u->name == NULL)
		return fail(why, "\"%.100s\": expected %s", value, kind);
	if (v > o->limits.max / u->factor || v * u->factor < o->limits.min) {
		print_units(units, o->limits.min, low, sizeof low);
		print_units(units, o->limits.max, high, sizeof high);
		return fail(why, "\"%.100s\": expected %s to %s", value, low, high);
	}
	*field = v * u->factor;
	return 0;
}

static int set_bytes(const struct config_option *o, void *field, const char *value, bool resolve, char why[CONFIG_WHY])
{
	(void)resolve;
	return set_units(o, field, value, byte_units, "bytes, such as 65536, 64k, 16m or 1g", why);
}

static int set_duration(const struct config_option *o, void *field, const char *value, bool resolve,
			char why[CONFIG_WHY])
{
	(void)resolve;
	return set_units(o, field, value, time_units, "a duration such as 500ms, 10s, 5m, 2h or 1d", why);
}

static void print_bytes(const struct config_option *o, const void *field, char text[CONFIG_TEXT])
{
	(void)o;
	print_units(byte_units, *(const uint64_t *)field, text, CONFIG_TEXT);
}

static void print_duration(const struct config_option *o, const void *field, char text[CONFIG_TEXT])
{
	(void)o;
	print_units(time_units, *(const uint64_t *)field, text, CONFIG_TEXT);
}

/* --- Networks --------------------------------------------------------------------------------------------------- */

/* a.b.c.d or v6, and /bits or nothing; -1 when it is none of that. The address's bits behind the prefix are dropped. */
static int parse_net(const char *text, struct config_net *net)
{
	const char *slash = strchrnul(text, '/'), *p = slash + 1;
	char ip[INET6_ADDRSTRLEN];
	struct in_addr v4;

	if ((size_t)(slash - text) >= sizeof ip)
		return -1;
	memcpy(ip, text, (size_t)(slash - text));
	ip[slash - text] = '\0';
	*net = (struct config_net){0};
	bool is_v4 = inet_pton(AF_INET, ip, &v4) == 1;
	if (!is_v4 && inet_pton(AF_INET6, ip, net->ip) != 1)
		return -1;
	if (is_v4) {
		net->ip[10] = net->ip[11] = 0xff;
		memcpy(net->ip + 12, &v4, sizeof v4);
	}
	uint64_t all = is_v4 ? 32 : 128, bits = all;
	if (*slash != '\0' && (parse_digits(&p, &bits) != 0 || *p != '\0' || bits > all))
		return -1;
	net->bits = (uint8_t)(bits + 128 - all);
	for (unsigned i = net->bits; i < 128; i++)
		net->ip[i / 8] &= (uint8_t)~(0x80 >> i % 8);
	return 0;
}

static int set_nets(const struct config_option *o, void *field, const char *value, bool resolve, char why[CONFIG_WHY])
{
	struct config_nets *nets = field;
	char *copy = xstrdup(value), *save = NULL;
	int rc = 0;

	(void)o;
	(void)resolve;
	nets->n = 0;
	for (char *one = strtok_r(copy, ", \t", &save); rc == 0 && one != NULL; one = strtok_r(NULL, ", \t", &save)) {
		if (nets->n == CONFIG_NETS)
			rc = fail(why, "at most %d networks", CONFIG_NETS);
		else if (parse_net(strcmp(one, "*") == 0 ? "::/0" : one, &nets->at[nets->n++]) != 0)
			rc = fail(why, "\"%.100s\": expected a network, such as 10.0.0.0/8, 10.1.2.3, ::1 or *", one);
	}
	free(copy);
	return rc;
}

static size_t print_net(const struct config_net *net, char *text, size_t cap)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	bool v4 = net->bits >= 96 && memcmp(net->ip, mapped, sizeof mapped) == 0;
	char ip[INET6_ADDRSTRLEN];

	if (net->bits == 0)
		return (size_t)snprintf(text, cap, "*");
	inet_ntop(v4 ? AF_INET : AF_INET6, net->ip + (v4 ? 12 : 0), ip, sizeof ip);
	if (net->bits == 128)
		return (size_t)snprintf(text, cap, "%s", ip);
	return (size_t)snprintf(text, cap, "%s/%d", ip, net->bits - (v4 ? 96 : 0));
}

static void print_nets(const struct config_option *o, const void *field, char text[CONFIG_TEXT])
{
	const struct config_nets *nets = field;
	size_t len = 0;

	(void)o;
	text[0] = '\0';
	for (unsigned i = 0; i < nets->n; i++) {
		if (i > 0)
			len += (size_t)snprintf(text + len, CONFIG_TEXT - len, ", ");
		len += print_net(&nets->at[i], text + len, CONFIG_TEXT - len);
	}
}

/* --- Destinations ----------------------------------------------------------------------------------------------- */

bool config_match_same(const struct config_match *a, const struct config_match *b)
{
	return a->port == b->port && a->net.bits == b->net.bits &&
	       memcmp(a->net.ip, b->net.ip, sizeof a->net.ip) == 0 && strcmp(a->path, b->path) == 0;
}

static int add_match(struct config_matches *list, const struct config_match *m, char why[CONFIG_WHY])
{
	for (unsigned i = 0; i < list->n; i++)
		if (config_match_same(&list->at[i], m))
			return 0; /* look-ups say things twice */
	if (list->n == CONFIG_MATCHES)
		return fail(why, "at most %d destinations, each address of a name counted", CONFIG_MATCHES);
	list->at[list->n++] = *m;
	return 0;
}

static int match_path(struct config_matches *list, const char *path, char why[CONFIG_WHY])
{
	struct config_match m = {0};

	if (strlen(path) >= sizeof m.path)
		return fail(why, "\"%.100s\": the path of a unix socket has at most 107 bytes", path);
	if (path[strlen(path) - 1] == '/')
		return fail(why, "\"%.100s\": the path of a unix socket must name a file", path);
	memcpy(m.path, path, strlen(path) + 1);
	return add_match(list, &m, why);
}

/* host:port, [v6]:port, or either without a port: cuts *one to the host. NULL in *port: none is given. */
static int split_port(char **one, char **port)
{
	char *colon = strchr(*one, ':');

	*port = NULL;
	if (**one == '[') {
		char *end = strchr(++*one, ']');
		if (end == NULL || (end[1] != '\0' && end[1] != ':'))
			return -1;
		*port = end[1] == ':' ? end + 2 : NULL;
		*end = '\0';
	} else if (colon != NULL && strchr(colon + 1, ':') == NULL) { /* with more of them it is a bare v6 */
		*port = colon + 1;
		*colon = '\0';
	}
	return 0;
}

static bool good_host(const char *s)
{
	static const char chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_0123456789.";
	size_t n = strlen(s);

	/* digits and dots alone are a mistyped address */
	return n <= 253 && strspn(s, chars) == n && strspn(s, "0123456789.") < n;
}

/* All addresses that a name has: a program may have wanted any of them. */
static int match_name(struct config_matches *list, const char *name, struct config_match *m, char why[CONFIG_WHY])
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
	int rc = getaddrinfo(name, NULL, &hints, &found);

	if (rc != 0)
		return fail(why, "\"%.100s\" cannot be resolved: %s", name, gai_strerror(rc));
	for (const struct addrinfo *ai = found; rc == 0 && ai != NULL; ai = ai->ai_next) {
		char ip[INET6_ADDRSTRLEN];
		const void *raw = ai->ai_family == AF_INET6
					  ? (const void *)&((const struct sockaddr_in6 *)ai->ai_addr)->sin6_addr
					  : (const void *)&((const struct sockaddr_in *)ai->ai_addr)->sin_addr;
		if (inet_ntop(ai->ai_family, raw, ip, sizeof ip) != NULL && parse_net(ip, &m->net) == 0)
			rc = add_match(list, m, why);
	}
	freeaddrinfo(found);
	return rc;
}

static int match_one(const struct config_option *o, struct config_matches *list, char *one, bool resolve,
		     char why[CONFIG_WHY])
{
	static const char expected[] =
		"expected host:port, a.b.c.d/bits:port, [v6]:port, [v6/bits]:port, *:port or /path/to.sock";
	struct config_match m = {0};
	uint64_t port = o->limits.port;
	char *host = one, *number;

	if (one[0] == '/')
		return match_path(list, one, why);
	if (split_port(&host, &number) != 0)
		return fail(why, "\"%.100s\": %s", one, expected);
	const char *p = number;
	if (p != NULL && (parse_digits(&p, &port) != 0 || *p != '\0' || port == 0 || port > 65535))
		return fail(why, "\"%.100s:%.20s\": port must be 1 to 65535", host, number);
	m.port = (uint16_t)port;
	if (parse_net(strcmp(host, "*") == 0 ? "::/0" : host, &m.net) == 0)
		return add_match(list, &m, why);
	if (!good_host(host))
		return fail(why, "\"%.100s\": %s", host, expected);
	return resolve ? match_name(list, host, &m, why) : 0;
}

static int set_matches(const struct config_option *o, void *field, const char *value, bool resolve,
		       char why[CONFIG_WHY])
{
	struct config_matches *list = field;
	char *copy = xstrdup(value), *save = NULL;
	unsigned items = 0;
	int rc = 0;

	free(list->text);
	list->text = xstrdup(value);
	list->n = 0;
	for (char *one = strtok_r(copy, ", \t", &save); rc == 0 && one != NULL; one = strtok_r(NULL, ", \t", &save)) {
		rc = match_one(o, list, one, resolve, why);
		items++;
	}
	free(copy);
	if (rc == 0 && items == 0)
		return fail(why, "expected destinations, separated by commas");
	if (rc == 0 && strlen(value) >= CONFIG_TEXT)
		return fail(why, "expected at most %d characters", CONFIG_TEXT - 1);
	return rc;
}

static void print_matches(const struct config_option *o, const void *field, char text[CONFIG_TEXT])
{
	const struct config_matches *list = field;

	(void)o;
	snprintf(text, CONFIG_TEXT, "%s", list->text != NULL ? list->text : "");
}

/* --- Words and names -------------------------------------------------------------------------------------------- */

static int set_word(const struct config_option *o, void *field, const char *value, bool resolve, char why[CONFIG_WHY])
{
	size_t n = strlen(value);
	int index = 0;

	(void)resolve;
	for (const char *w = o->limits.words; w != NULL; index++) {
		const char *bar = strchrnul(w, '|');
		if ((size_t)(bar - w) == n && n > 0 && memcmp(w, value, n) == 0) {
			memcpy(field, &index, sizeof index);
			return 0;
		}
		w = *bar == '|' ? bar + 1 : NULL;
	}
	return fail(why, "\"%.100s\": expected %s", value, o->limits.words);
}

static void print_word(const struct config_option *o, const void *field, char text[CONFIG_TEXT])
{
	const char *w = o->limits.words;
	int index;

	memcpy(&index, field, sizeof index);
	for (; index > 0; index--)
		w = strchr(w, '|') + 1;
	snprintf(text, CONFIG_TEXT, "%.*s", (int)strcspn(w, "|"), w);
}

static bool good_name(const char *s, size_t n)
{
	if (n == 0 || n > 64)
		return false;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] <= ' ' || strchr("`'\".,;()\x7f", s[i]) != NULL)
			return false;
	return true;
}

static int set_name(const struct config_option *o, void *field, const char *value, bool resolve, char why[CONFIG_WHY])
{
	(void)resolve;
	if (!good_name(value, strlen(value)))
		return fail(why, "\"%.100s\": expected the name of a column, without quotes", value);
	snprintf(field, o->size, "%s", value);
	return 0;
}

/* Of another section's X. Whether there is one only the whole file shows. */
static int set_label(const struct config_option *o, void *field, const char *value, bool resolve, char why[CONFIG_WHY])
{
	(void)resolve;
	if (strlen(value) >= o->size)
		return fail(why, "\"%.100s\": expected a name of at most %zu characters", value, o->size - 1);
	snprintf(field, o->size, "%s", value);
	return 0;
}

static void print_name(const struct config_option *o, const void *field, char text[CONFIG_TEXT])
{
	(void)o;
	snprintf(text, CONFIG_TEXT, "%s", (const char *)field);
}

static int set_table(const struct config_option *o, void *field, const char *value, bool resolve, char why[CONFIG_WHY])
{
	struct config_rule *rule = (struct config_rule *)((char *)field - offsetof(struct config_rule, table));
	const char *dot = strchr(value, '.');

	(void)o;
	(void)resolve;
	if (dot == NULL || !good_name(value, (size_t)(dot - value)) || !good_name(dot + 1, strlen(dot + 1)))
		return fail(why, "\"%.100s\": expected database.table, without quotes", value);
	memcpy(rule->db, value, (size_t)(dot - value));
	rule->db[dot - value] = '\0';
	memcpy(rule->table, dot + 1, strlen(dot + 1) + 1);
	return 0;
}

static void print_table(const struct config_option *o, const void *field, char text[CONFIG_TEXT])
{
	const struct config_rule *rule =
		(const struct config_rule *)((const char *)field - offsetof(struct config_rule, table));

	(void)o;
	snprintf(text, CONFIG_TEXT, "%s%s%s", rule->db, rule->table[0] != '\0' ? "." : "", rule->table);
}

static int check_length(const struct config_option *o, const char *value, char why[CONFIG_WHY])
{
	if (strlen(value) < o->limits.min || strlen(value) > o->limits.max)
		return fail(why, "expected %" PRIu64 " to %" PRIu64 " characters", o->limits.min, o->limits.max);
	return 0;
}

static int set_text(const struct config_option *o, void *field, const char *value, bool resolve, char why[CONFIG_WHY])
{
	char **text = field;

	(void)resolve;
	if (check_length(o, value, why) != 0)
		return -1;
	free(*text);
	*text = xstrdup(value);
	return 0;
}

static int set_secret(const struct config_option *o, void *field, const char *value, bool resolve,
		      char why[CONFIG_WHY])
{
	char **text = field;

	(void)resolve;
	if (check_length(o, value, why) != 0)
		return -1;
	secret_free(*text);
	*text = secret_strndup(value, strlen(value));
	return 0;
}

static void print_text(const struct config_option *o, const void *field, char text[CONFIG_TEXT])
{
	const char *s = *(char *const *)field;

	(void)o;
	snprintf(text, CONFIG_TEXT, "%s", s != NULL ? s : "");
}

static void print_secret(const struct config_option *o, const void *field, char text[CONFIG_TEXT])
{
	(void)o;
	snprintf(text, CONFIG_TEXT, "%s", *(char *const *)field != NULL ? "***" : "");
}

/* --- The store's URL -------------------------------------------------------------------------------------------- */

static const char store_expected[] = "expected memory, redis://[user:password@]host:port/db or "
				     "redis+unix://[user:password@]/path.sock?db=N";

/* Undoes %xx in place; -1 for a bad escape or a NUL. */
static int percent_decode(char *s)
{
	char *out = s;

	for (; *s != '\0'; s++) {
		if (*s == '%') {
			unsigned v;
			if (!isxdigit((unsigned char)s[1]) || !isxdigit((unsigned char)s[2]) ||
			    sscanf(s + 1, "%2x", &v) != 1 || v == 0)
				return -1;
			*out++ = (char)v;
			s += 2;
		} else {
			*out++ = *s;
		}
	}
	*out = '\0';
	return 0;
}

/* "user:password@" or "password@"-less: takes it off the front of *rest. */
static int store_account(struct config *c, char **rest, char why[CONFIG_WHY])
{
	char *at = strrchr(*rest, '@'), *colon;

	if (at == NULL)
		return 0;
	*at = '\0';
	colon = strchr(*rest, ':');
	if (colon == NULL)
		return fail(why, "before the @ %s", "expected user:password or :password");
	*colon = '\0';
	if (percent_decode(*rest) != 0 || percent_decode(colon + 1) != 0)
		return fail(why, "a bad %% escape before the @: expected %%xx");
	c->redis_user = (*rest)[0] != '\0' ? xstrdup(*rest) : NULL;
	c->redis_password = secret_strndup(colon + 1, strlen(colon + 1));
	explicit_bzero(colon + 1, strlen(colon + 1));
	*rest = at + 1;
	return 0;
}

static int store_db(struct config *c, const char *text, char why[CONFIG_WHY])
{
	uint64_t v = 0;

	if (*text != '\0' && (parse_digits(&text, &v) != 0 || *text != '\0' || v > 65535))
		return fail(why, "bad database number: %s", store_expected);
	c->redis_db = (unsigned)v;
	return 0;
}

static int store_url(const struct config_option *o, struct config *c, char *rest, bool is_unix, bool resolve,
		     char why[CONFIG_WHY])
{
	if (store_account(c, &rest, why) != 0)
		return -1;
	char *db = is_unix ? strchr(rest, '?') : strchr(rest, '/');
	if (db != NULL)
		*db++ = '\0';
	if (is_unix && db != NULL) {
		if (strncmp(db, "db=", 3) != 0)
			return fail(why, "%s", store_expected);
		db += 3;
	}
	if (is_unix != (rest[0] == '/'))
		return fail(why, "%s", store_expected);
	if (store_db(c, db != NULL ? db : "", why) != 0)
		return -1;
	return parse_addr(o, &c->redis, rest, resolve, why);
}

static int set_store(const struct config_option *o, void *field, const char *value, bool resolve, char why[CONFIG_WHY])
{
	struct config *c = (struct config *)((char *)field - offsetof(struct config, redis));
	static const char tcp[] = "redis://", un[] = "redis+unix://";

	c->store_redis = false;
	free(c->redis_user);
	secret_free(c->redis_password);
	c->redis_user = c->redis_password = NULL;
	if (strcmp(value, "memory") == 0)
		return 0;
	bool is_unix = strncmp(value, un, strlen(un)) == 0;
	if (!is_unix && strncmp(value, tcp, strlen(tcp)) != 0)
		return fail(why, "%s", store_expected); /* not echoed: it may hold a password */
	char *copy = xstrdup(value + (is_unix ? strlen(un) : strlen(tcp)));
	size_t n = strlen(copy);
	int rc = store_url(o, c, copy, is_unix, resolve, why);
	explicit_bzero(copy, n);
	free(copy);
	c->store_redis = rc == 0;
	return rc;
}

static void print_store(const struct config_option *o, const void *field, char text[CONFIG_TEXT])
{
	const struct config *c = (const struct config *)((const char *)field - offsetof(struct config, redis));
	const char *user = c->redis_user != NULL ? c->redis_user : "";
	const char *account = c->redis_password != NULL ? ":***@" : "";

	(void)o;
	if (!c->store_redis)
		snprintf(text, CONFIG_TEXT, "memory");
	else if (c->redis.is_unix)
		snprintf(text, CONFIG_TEXT, "redis+unix://%s%s%s?db=%u", user, account, c->redis.text, c->redis_db);
	else
		snprintf(text, CONFIG_TEXT, "redis://%s%s%s/%u", user, account, c->redis.text, c->redis_db);
}

/* --- By type ---------------------------------------------------------------------------------------------------- */

static const struct {
	int (*set)(const struct config_option *o, void *field, const char *value, bool resolve, char why[CONFIG_WHY]);
	void (*print)(const struct config_option *o, const void *field, char text[CONFIG_TEXT]);
} types[TYPES] = {
	[TYPE_LISTENS] = {set_listens, print_listens},    [TYPE_HTTP] = {set_http, print_address},
	[TYPE_ADDRESS] = {set_address, print_address},    [TYPE_NETS] = {set_nets, print_nets},
	[TYPE_MATCHES] = {set_matches, print_matches},    [TYPE_COUNT] = {set_count, print_count},
	[TYPE_BYTES] = {set_bytes, print_bytes},          [TYPE_DURATION] = {set_duration, print_duration},
	[TYPE_WORD] = {set_word, print_word},             [TYPE_NAME] = {set_name, print_name},
	[TYPE_LABEL] = {set_label, print_name},           [TYPE_TABLE] = {set_table, print_table},
	[TYPE_TEXT] = {set_text, print_text},             [TYPE_SECRET] = {set_secret, print_secret},
	[TYPE_STORE] = {set_store, print_store},
};

int config_value_set(const struct config_option *o, void *at, const char *value, bool resolve, char why[CONFIG_WHY])
{
	return types[o->type].set(o, (char *)at + o->offset, value, resolve, why);
}

void config_value_print(const struct config_option *o, const void *at, char text[CONFIG_TEXT])
{
	types[o->type].print(o, (const char *)at + o->offset, text);
}
