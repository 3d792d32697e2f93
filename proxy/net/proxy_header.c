/* SPDX-License-Identifier: Apache-2.0 */
#include "net/proxy_header.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/un.h>

enum { V1_MAX = 107 };
enum { V2_COMMAND = 12, V2_FAMILY = 13, V2_LENGTH = 14, V2_FIXED = 16 }; /* offsets; addresses begin at the last */
enum { LOCAL = 0x20, PROXY = 0x21 }; /* version 2 in the upper half, the command in the lower */
enum { UNSPEC = 0x00, UNSPEC_STREAM = 0x01, INET_STREAM = 0x11, INET6_STREAM = 0x21, UNIX_STREAM = 0x31 };
enum { UNIX_PATH = 108, TLV_FIXED = 3, TLV_CRC32C = 0x03, CRC_SIZE = 4 };

static const uint8_t signature[V2_COMMAND] = {'\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q', 'U', 'I', 'T', '\n'};

/* 1: data begins with these bytes; 0: it may, once there is more of it; -1: it does not. */
static int begins(struct slice data, const void *bytes, size_t n)
{
	size_t have = data.n < n ? data.n : n;

	if (have > 0 && memcmp(data.p, bytes, have) != 0)
		return -1;
	return have == n;
}

static size_t be16(const uint8_t *p)
{
	return (size_t)p[0] << 8 | p[1];
}

/* ip and port in network order */
static void set_ip(int family, const void *ip, const void *port, struct sockaddr_storage *sa, socklen_t *len)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};

	if (family == AF_INET) {
		memcpy(&in.sin_addr, ip, sizeof in.sin_addr);
		memcpy(&in.sin_port, port, sizeof in.sin_port);
		memcpy(sa, &in, *len = sizeof in);
	} else {
		memcpy(&in6.sin6_addr, ip, sizeof in6.sin6_addr);
		memcpy(&in6.sin6_port, port, sizeof in6.sin6_port);
		memcpy(sa, &in6, *len = sizeof in6);
	}
}

/* The length counts the NUL, where there is room for one: the kernel's way. */
static void set_unix(const uint8_t path[UNIX_PATH], struct sockaddr_storage *sa, socklen_t *len)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	size_t n = strnlen((const char *)path, UNIX_PATH);

	_Static_assert(sizeof un.sun_path == UNIX_PATH, "the protocol took its size from Linux");
	memcpy(un.sun_path, path, n);
	if (n > 0 && n < UNIX_PATH)
		n++;
	*len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
	memcpy(sa, &un, *len);
}

/* Takes a word of such characters and the `end` behind it. 1: in `word` (max + 1 bytes), with a NUL; 0: more must come;
 * -1: longer, or other characters. */
static int take_word(struct slice *rest, size_t max, const char *of, uint8_t end, char *word)
{
	size_t n = 0;

	for (; n < rest->n && rest->p[n] != end; n++) {
		if (n == max || memchr(of, rest->p[n], strlen(of)) == NULL)
			return -1;
		word[n] = (char)rest->p[n];
	}
	if (n == rest->n)
		return 0;
	word[n] = '\0';
	*rest = slice_of(rest->p + n + 1, rest->n - n - 1);
	return 1;
}

static int take_ip(struct slice *rest, int family, uint8_t ip[16])
{
	bool six = family == AF_INET6;
	char word[INET6_ADDRSTRLEN];
	int got = take_word(rest, six ? INET6_ADDRSTRLEN - 1 : INET_ADDRSTRLEN - 1,
			    six ? "0123456789abcdefABCDEF:." : "0123456789.", ' ', word);

	return got == 1 && inet_pton(family, word, ip) != 1 ? -1 : got;
}

static int take_port(struct slice *rest, uint8_t end, in_port_t *port)
{
	char word[6];
	int got = take_word(rest, sizeof word - 1, "0123456789", end, word);

	if (got != 1)
		return got;
	unsigned long n = strtoul(word, NULL, 10);
	if (word[0] == '\0' || (word[0] == '0' && word[1] != '\0') || n > UINT16_MAX)
		return -1;
	*port = htons((uint16_t)n);
	return 1;
}

/* Behind "PROXY TCP4 " or "PROXY TCP6 ". */
static int take_tcp(struct slice *rest, int family, struct proxy_header *out)
{
	uint8_t ip[2][16];
	in_port_t port[2];
	int got;

	if ((got = take_ip(rest, family, ip[0])) != 1 || (got = take_ip(rest, family, ip[1])) != 1 ||
	    (got = take_port(rest, ' ', &port[0])) != 1 || (got = take_port(rest, '\r', &port[1])) != 1 ||
	    (got = begins(*rest, "\n", 1)) != 1)
		return got;
	*rest = slice_of(rest->p + 1, rest->n - 1);
	set_ip(family, ip[0], &port[0], &out->source, &out->source_len);
	set_ip(family, ip[1], &port[1], &out->destination, &out->destination_len);
	return 1;
}

/* Behind "PROXY UNKNOWN": whatever there is, up to the end of the line. */
static int take_unknown(struct slice *rest, struct proxy_header *out)
{
	const uint8_t *end = memmem(rest->p, rest->n, "\r\n", 2);

	if (end == NULL)
		return 0;
	*rest = slice_of(end + 2, rest->n - (size_t)(end + 2 - rest->p));
	out->local = true;
	return 1;
}

static ssize_t parse_v1(struct slice data, struct proxy_header *out)
{
	static const struct {
		const char *start;
		int family;
	} forms[] = {{"PROXY TCP4 ", AF_INET}, {"PROXY TCP6 ", AF_INET6}, {"PROXY UNKNOWN", AF_UNSPEC}};
	struct slice line = slice_of(data.p, data.n < V1_MAX ? data.n : V1_MAX);
	int got = -1;

	for (unsigned i = 0; i < sizeof forms / sizeof *forms && got < 0; i++) {
		size_t n = strlen(forms[i].start);

		got = begins(line, forms[i].start, n);
		if (got != 1)
			continue;
		struct slice rest = slice_of(line.p + n, line.n - n);
		int family = forms[i].family;
		got = family == AF_UNSPEC ? take_unknown(&rest, out) : take_tcp(&rest, family, out);
		if (got == 1)
			return rest.p - line.p;
		break;
	}
	return line.n == V1_MAX ? -1 : got; /* what is not whole by then is too long */
}

/* The size of the two addresses, ports included; -1 for a protocol that is none of ours. */
static int v2_block(uint8_t family)
{
	switch (family) {
	case UNSPEC:
	case UNSPEC_STREAM: return 0;
	case INET_STREAM: return 2 * (4 + 2);
	case INET6_STREAM: return 2 * (16 + 2);
	case UNIX_STREAM: return 2 * UNIX_PATH;
	default: return -1;
	}
}

static void v2_addresses(uint8_t family, const uint8_t *p, struct proxy_header *out)
{
	size_t n = family == INET_STREAM ? 4 : 16;
	int ip = family == INET_STREAM ? AF_INET : AF_INET6;

	if (family == UNIX_STREAM) {
		set_unix(p, &out->source, &out->source_len);
		set_unix(p + UNIX_PATH, &out->destination, &out->destination_len);
		return;
	}
	set_ip(ip, p, p + 2 * n, &out->source, &out->source_len);
	set_ip(ip, p + n, p + 2 * n + 2, &out->destination, &out->destination_len);
}

/* Bit by bit: it is one header of a connection, and of few. */
static uint32_t crc32c(uint32_t crc, const uint8_t *p, size_t n)
{
	for (; n > 0; n--) {
		crc ^= *p++;
		for (int i = 0; i < 8; i++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
	}
	return crc;
}

/* Whether the big-endian number at `at` is the sum of the header, itself taken as zero. */
static bool sum_is_right(struct slice header, size_t at)
{
	static const uint8_t zero[CRC_SIZE];
	const uint8_t *said = header.p + at;
	uint32_t crc = crc32c(UINT32_MAX, header.p, at);

	crc = crc32c(crc, zero, CRC_SIZE);
	crc = ~crc32c(crc, said + CRC_SIZE, header.n - at - CRC_SIZE);
	return crc == (uint32_t)(be16(said) << 16 | be16(said + 2));
}

/* The TLVs of a header of `whole` bytes, from `at` on, as far as they have come. 1: all there and well, with *sum where
 * the checksum is, 0 if nowhere; 0: more must come; -1: malformed. */
static int check_tlvs(struct slice data, size_t at, size_t whole, size_t *sum)
{
	*sum = 0;
	while (at < whole) {
		if (whole - at < TLV_FIXED)
			return -1;
		if (data.n < at + TLV_FIXED)
			return 0;
		size_t n = be16(data.p + at + 1), value = at + TLV_FIXED;
		if (n > whole - value)
			return -1;
		if (data.p[at] == TLV_CRC32C) {
			if (n != CRC_SIZE || *sum != 0)
				return -1;
			*sum = value;
		}
		at = value + n;
	}
	return data.n >= whole;
}

static ssize_t parse_v2(struct slice data, struct proxy_header *out)
{
	const uint8_t *p = data.p;
	int got = begins(data, signature, sizeof signature), block = 0;
	size_t sum;

	if (got != 1)
		return got;
	if (data.n > V2_COMMAND && p[V2_COMMAND] != LOCAL && p[V2_COMMAND] != PROXY)
		return -1;
	if (data.n > V2_FAMILY && p[V2_COMMAND] == PROXY && (block = v2_block(p[V2_FAMILY])) < 0)
		return -1;
	if (data.n > V2_LENGTH && V2_FIXED + (p[V2_LENGTH] << 8) > PROXY_HEADER_MAX)
		return -1;
	if (data.n < V2_FIXED)
		return 0;
	size_t whole = V2_FIXED + be16(p + V2_LENGTH);
	if (whole > PROXY_HEADER_MAX || whole < V2_FIXED + (size_t)block)
		return -1;
	if (block == 0) { /* LOCAL or UNSPEC */
		out->local = true;
		return data.n < whole ? 0 : (ssize_t)whole;
	}
	got = check_tlvs(data, V2_FIXED + (size_t)block, whole, &sum);
	if (got != 1)
		return got;
	if (sum != 0 && !sum_is_right(slice_of(p, whole), sum))
		return -1;
	v2_addresses(p[V2_FAMILY], p + V2_FIXED, out);
	return (ssize_t)whole;
}

ssize_t proxy_header_parse(struct slice data, struct proxy_header *out)
{
	*out = (struct proxy_header){0};
	if (data.n == 0)
		return 0;
	return data.p[0] == signature[0] ? parse_v2(data, out) : parse_v1(data, out);
}

bool proxy_header_begins(struct slice data)
{
	return begins(data, "PROXY ", 6) == 1 || begins(data, signature, 8) == 1;
}
