/* SPDX-License-Identifier: Apache-2.0 */
#include "endpoint.h"

#include <arpa/inet.h>
#include <string.h>

struct text text_of(const char *s)
{
	return (struct text){s, strlen(s)};
}

bool text_eq(struct text t, const char *word)
{
	return strlen(word) == t.n && memcmp(t.p, word, t.n) == 0;
}

struct text text_cut(struct text *t, char sep)
{
	const char *at = t->n == 0 ? NULL : memchr(t->p, sep, t->n);
	struct text head = {t->p, at == NULL ? t->n : (size_t)(at - t->p)};
	size_t used = head.n + (at != NULL);

	*t = (struct text){t->p + used, t->n - used};
	return head;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n';
}

struct text text_trim(struct text t)
{
	while (t.n > 0 && is_blank(t.p[0])) {
		t.p++;
		t.n--;
	}
	while (t.n > 0 && is_blank(t.p[t.n - 1]))
		t.n--;
	return t;
}

bool text_number(struct text t, unsigned max, unsigned *out)
{
	unsigned v = 0;

	if (t.n == 0 || t.n > 9)
		return false;
	for (size_t i = 0; i < t.n; i++) {
		if (t.p[i] < '0' || t.p[i] > '9')
			return false;
		v = v * 10 + (unsigned)(t.p[i] - '0');
	}
	*out = v;
	return v <= max;
}

static void map_v4(const void *v4, uint8_t out[16])
{
	memset(out, 0, 10);
	memset(out + 10, 0xff, 2);
	memcpy(out + 12, v4, 4);
}

bool address_parse(struct text t, uint8_t out[16], bool *is_v4)
{
	char word[INET6_ADDRSTRLEN];
	struct in_addr v4;

	if (t.n == 0 || t.n >= sizeof(word))
		return false;
	memcpy(word, t.p, t.n);
	word[t.n] = '\0';
	*is_v4 = inet_pton(AF_INET, word, &v4) == 1;
	if (*is_v4) {
		map_v4(&v4, out);
		return true;
	}
	return inet_pton(AF_INET6, word, out) == 1;
}

static bool bracketed_split(struct text t, struct text *host, struct text *port, bool *has_port)
{
	struct text rest = {t.p + 1, t.n - 1};

	if (memchr(rest.p, ']', rest.n) == NULL)
		return false;
	*host = text_cut(&rest, ']');
	*has_port = rest.n > 0;
	if (*has_port && rest.p[0] != ':')
		return false;
	*port = *has_port ? (struct text){rest.p + 1, rest.n - 1} : rest;
	return true;
}

bool host_port_split(struct text t, struct text *host, uint16_t *port)
{
	struct text number = {NULL, 0};
	bool has_port = false;
	unsigned v = DEFAULT_PORT;

	if (t.n == 0)
		return false;
	if (t.p[0] == '[') {
		if (!bracketed_split(t, host, &number, &has_port))
			return false;
	} else {
		number = t;
		*host = text_cut(&number, ':');
		has_port = host->n < t.n;
		if (has_port && number.n > 0 && memchr(number.p, ':', number.n) != NULL) {
			*host = t; /* more than one colon: a bare IPv6 address */
			has_port = false;
		}
	}
	if (has_port && (!text_number(number, 65535, &v) || v == 0))
		return false;
	*port = (uint16_t)v;
	return host->n > 0;
}

static bool unix_parse(struct text t, struct endpoint *out)
{
	struct sockaddr_un *un = &out->u.un;

	if (t.n >= sizeof(un->sun_path))
		return false;
	*un = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(un->sun_path, t.p, t.n);
	out->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + t.n + 1);
	return true;
}

bool endpoint_parse(struct text t, struct endpoint *out)
{
	struct text host;
	uint16_t port;
	uint8_t ip[16];
	bool is_v4;

	memset(out, 0, sizeof(*out));
	if (t.n > 0 && t.p[0] == '/')
		return unix_parse(t, out);
	if (!host_port_split(t, &host, &port))
		return false;
	if (!address_parse(text_eq(host, "localhost") ? text_of("127.0.0.1") : host, ip, &is_v4))
		return false;
	if (is_v4) {
		out->u.in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
		memcpy(&out->u.in.sin_addr, ip + 12, 4);
		out->len = sizeof(out->u.in);
	} else {
		out->u.in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
		memcpy(&out->u.in6.sin6_addr, ip, 16);
		out->len = sizeof(out->u.in6);
	}
	return true;
}

bool endpoint_copy(const struct sockaddr *sa, socklen_t len, struct endpoint *out)
{
	const socklen_t path = offsetof(struct sockaddr_un, sun_path);

	if (sa == NULL || len < sizeof(sa_family_t))
		return false;
	if (sa->sa_family == AF_INET && len >= sizeof(struct sockaddr_in))
		len = sizeof(struct sockaddr_in);
	else if (sa->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6))
		len = sizeof(struct sockaddr_in6);
	else if (sa->sa_family != AF_UNIX || len <= path || len > sizeof(struct sockaddr_un))
		return false;
	memset(out, 0, sizeof(*out));
	memcpy(&out->u, sa, len);
	out->len = len;
	return true;
}

/* "0.0.0.0", "::" and "::ffff:0.0.0.0" are this machine, for connect(). */
static void wildcard_to_loopback(uint8_t ip[16])
{
	static const uint8_t v6_any[16], v4_any[16] = {[10] = 0xff, [11] = 0xff};

	if (memcmp(ip, v6_any, 16) == 0)
		ip[15] = 1;
	if (memcmp(ip, v4_any, 16) == 0)
		ip[12] = 127, ip[15] = 1;
}

bool endpoint_ip(const struct sockaddr *sa, socklen_t len, uint8_t out[16], uint16_t *port)
{
	if (len >= sizeof(struct sockaddr_in) && sa->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)sa;

		map_v4(&in->sin_addr, out);
		wildcard_to_loopback(out);
		*port = ntohs(in->sin_port);
		return true;
	}
	if (len >= sizeof(struct sockaddr_in6) && sa->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const void *)sa;

		memcpy(out, &in6->sin6_addr, 16);
		wildcard_to_loopback(out);
		*port = ntohs(in6->sin6_port);
		return true;
	}
	return false;
}

struct endpoint endpoint_mapped(const struct endpoint *v4)
{
	struct endpoint e = {.len = sizeof(e.u.in6)};

	e.u.in6.sin6_family = AF_INET6;
	e.u.in6.sin6_port = v4->u.in.sin_port;
	map_v4(&v4->u.in.sin_addr, e.u.in6.sin6_addr.s6_addr);
	return e;
}

/* A path as connect() reads it: to its end or to the first NUL. */
static struct text unix_path(const struct endpoint *e)
{
	size_t room = e->len - offsetof(struct sockaddr_un, sun_path);

	return (struct text){e->u.un.sun_path, strnlen(e->u.un.sun_path, room)};
}

bool endpoint_same(const struct endpoint *a, const struct endpoint *b)
{
	uint8_t ip_a[16], ip_b[16];
	uint16_t port_a, port_b;

	if (a->u.sa.sa_family == AF_UNIX && b->u.sa.sa_family == AF_UNIX) {
		struct text pa = unix_path(a), pb = unix_path(b);

		return pa.n > 0 && pa.n == pb.n && memcmp(pa.p, pb.p, pa.n) == 0;
	}
	return endpoint_ip(&a->u.sa, a->len, ip_a, &port_a) && endpoint_ip(&b->u.sa, b->len, ip_b, &port_b) &&
	       port_a == port_b && memcmp(ip_a, ip_b, 16) == 0;
}

static size_t put_number(char *out, unsigned v)
{
	char digits[10];
	size_t n = 0, len;

	do
		digits[n++] = (char)('0' + v % 10);
	while ((v /= 10) > 0);
	len = n;
	while (n > 0)
		*out++ = digits[--n];
	return len;
}

/* By hand: inet_ntop() is stdio inside. IPv6 comes out in full, which is all that a debug line needs. */
static size_t put_ip(char *out, const uint8_t ip[16])
{
	static const uint8_t v4_prefix[12] = {[10] = 0xff, [11] = 0xff};
	static const char hex[] = "0123456789abcdef";
	size_t n = 0;

	if (memcmp(ip, v4_prefix, 12) == 0) {
		for (int i = 12; i < 16; i++) {
			n += put_number(out + n, ip[i]);
			if (i < 15)
				out[n++] = '.';
		}
		return n;
	}
	out[n++] = '[';
	for (int i = 0; i < 16; i++) {
		out[n++] = hex[ip[i] >> 4];
		out[n++] = hex[ip[i] & 15];
		if (i % 2 == 1 && i < 15)
			out[n++] = ':';
	}
	out[n++] = ']';
	return n;
}

size_t endpoint_text(const struct endpoint *e, char *out)
{
	uint8_t ip[16];
	uint16_t port;
	size_t n;

	if (endpoint_ip(&e->u.sa, e->len, ip, &port)) {
		n = put_ip(out, ip);
		out[n++] = ':';
		n += put_number(out + n, port);
	} else {
		struct text path = unix_path(e);

		n = path.n;
		memcpy(out, path.p, n);
	}
	out[n] = '\0';
	return n;
}
