/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a connection goes: an IPv4, IPv6 or unix address. Reading one from text and writing it back, without
 * allocation, locale or stdio, so that the shim may use all of it in a signal handler. Pure; any thread.
 */
#ifndef ST_PRELOAD_ENDPOINT_H
#define ST_PRELOAD_ENDPOINT_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { DEFAULT_PORT = 3306, ENDPOINT_TEXT_MAX = 128 };

struct endpoint {
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
	} u;
	socklen_t len;
};

/* Text that belongs to somebody else. */
struct text {
	const char *p;
	size_t n;
};

struct text text_of(const char *s);
bool text_eq(struct text t, const char *word);
/* What comes before the first `sep`; the rest stays in *t. The whole, if there is no `sep`. */
struct text text_cut(struct text *t, char sep);
struct text text_trim(struct text t);
bool text_number(struct text t, unsigned max, unsigned *out);

/* "1.2.3.4" or "2001:db8::1" as 16 bytes; IPv4 comes out IPv4-mapped. */
bool address_parse(struct text t, uint8_t out[16], bool *is_v4);

/* "1.2.3.4:3306", "[::1]:3306", "localhost:3306", "/path.sock"; the port may be left out. Names are not looked up. */
bool endpoint_parse(struct text t, struct endpoint *out);

/* Splits "host:port", "[v6]:port", "host", "v6" (bare, without port). false: no such form, or no such port. */
bool host_port_split(struct text t, struct text *host, uint16_t *port);

/* Copies what a program passed to connect(). false: not IPv4, IPv6 or a unix path, or too short to be. */
bool endpoint_copy(const struct sockaddr *sa, socklen_t len, struct endpoint *out);

/* The address in 16 bytes (IPv4 comes out IPv4-mapped, the wildcard as the loopback that it means) and the port in
 * host order. false for anything that is not IP. */
bool endpoint_ip(const struct sockaddr *sa, socklen_t len, uint8_t out[16], uint16_t *port);

/* The IPv4 endpoint as a socket of AF_INET6 wants it. */
struct endpoint endpoint_mapped(const struct endpoint *v4);

bool endpoint_same(const struct endpoint *a, const struct endpoint *b);

/* Writes at most ENDPOINT_TEXT_MAX bytes, terminated. Returns the length. */
size_t endpoint_text(const struct endpoint *e, char *out);

#endif
