/* SPDX-License-Identifier: Apache-2.0
 *
 * The PROXY protocol's header: every form, at every length and with what may follow it, and for what is none, at which
 * byte that is decided. All on copies of exactly that size.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

#include "base/mem.h"
#include "net/proxy_header.h"

#define BYTES(s) s, sizeof(s) - 1
#define COUNT(rows) (sizeof(rows) / sizeof *(rows))
#define SIGNATURE "\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"
#define NUL4 "\0\0\0\0"
#define NUL16 NUL4 NUL4 NUL4 NUL4
#define NUL32 NUL16 NUL16
#define NUL64 NUL32 NUL32
#define NUL108 NUL64 NUL32 NUL4 NUL4 NUL4
#define LOOPBACK6 NUL4 NUL4 NUL4 "\0\0\0\x01"
#define DB8 "\x20\x01\x0d\xb8" NUL4 NUL4 "\0\0\0"
#define MAPPED NUL4 NUL4 "\0\0\xff\xff"
#define INET4 "\x0a\x00\x00\x01\x0a\x00\x00\x02\xc0\x00\x0c\xea" /* 10.0.0.1:49152 to 10.0.0.2:3306 */
#define TEXT27 "abcdefghijklmnopqrstuvwxyz-"
#define PATH108 "/" TEXT27 TEXT27 TEXT27 "abcdefghijklmnopqrstuvwxyz"

static ssize_t parse(const void *p, size_t n, struct proxy_header *out)
{
	uint8_t *exact = xmalloc(n);

	if (n > 0)
		memcpy(exact, p, n);
	ssize_t got = proxy_header_parse(slice_of(exact, n), out);
	free(exact);
	return got;
}

/* "10.0.0.1:3306", "[::1]:3306", "/path+NUL" or "/path" as the length says, "unix" */
static void address_text(const struct sockaddr_storage *sa, socklen_t len, char *out, size_t size)
{
	const struct sockaddr_in *in = (const void *)sa;
	const struct sockaddr_in6 *in6 = (const void *)sa;
	const struct sockaddr_un *un = (const void *)sa;
	char ip[INET6_ADDRSTRLEN];

	if (sa->ss_family == AF_INET) {
		assert_int_equal(len, sizeof *in);
		snprintf(out, size, "%s:%u", inet_ntop(AF_INET, &in->sin_addr, ip, sizeof ip), ntohs(in->sin_port));
	} else if (sa->ss_family == AF_INET6) {
		assert_int_equal(len, sizeof *in6);
		assert_true(in6->sin6_flowinfo == 0 && in6->sin6_scope_id == 0);
		snprintf(out, size, "[%s]:%u", inet_ntop(AF_INET6, &in6->sin6_addr, ip, sizeof ip),
			 ntohs(in6->sin6_port));
	} else {
		size_t n = len - offsetof(struct sockaddr_un, sun_path), path = strnlen(un->sun_path, n);
		assert_int_equal(sa->ss_family, AF_UNIX);
		assert_true(n <= sizeof un->sun_path && (n == path || n == path + 1));
		snprintf(out, size, "%.*s%s", (int)path, un->sun_path, n == 0 ? "unix" : n > path ? "+NUL" : "");
	}
}

static void assert_header(const struct proxy_header *h, const char *want)
{
	char text[2][160], both[400];

	if (h->local) {
		assert_string_equal("local", want);
		assert_true(h->source.ss_family == AF_UNSPEC && h->source_len == 0);
		assert_true(h->destination.ss_family == AF_UNSPEC && h->destination_len == 0);
		return;
	}
	address_text(&h->source, h->source_len, text[0], sizeof text[0]);
	address_text(&h->destination, h->destination_len, text[1], sizeof text[1]);
	snprintf(both, sizeof both, "%s > %s", text[0], text[1]);
	assert_string_equal(both, want);
}

static const struct {
	const char *bytes;
	size_t n;
	const char *want;
} good[] = {
	/* version 1 */
	{BYTES("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"), "192.168.0.1:56324 > 192.168.0.11:443"},
	{BYTES("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"),
	 "255.255.255.255:65535 > 255.255.255.255:65535"},
	{BYTES("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n"), "0.0.0.0:0 > 0.0.0.0:0"},
	{BYTES("PROXY TCP6 2001:db8::1 ::1 4711 3306\r\n"), "[2001:db8::1]:4711 > [::1]:3306"},
	{BYTES("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff FFFF:FFFF:FFFF:FFFF:FFFF:FFFF:FFFF:FFFF 65535 "
	       "65535\r\n"),
	 "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535 > [ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
	{BYTES("PROXY TCP6 ::ffff:10.0.0.1 :: 1 2\r\n"), "[::ffff:10.0.0.1]:1 > [::]:2"},
	{BYTES("PROXY UNKNOWN\r\n"), "local"},
	{BYTES("PROXY UNKNOWN \xff\0\n\r \r\r\n"), "local"},
	{BYTES("PROXY UNKNOWN,IGNORED\r\n"), "local"},
	{BYTES("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 "
	       "65535\r\n"),
	 "local"}, /* 107 bytes */
	/* version 2 */
	{BYTES(SIGNATURE "\x21\x11\x00\x0c" INET4), "10.0.0.1:49152 > 10.0.0.2:3306"},
	{BYTES(SIGNATURE "\x21\x21\x00\x24" DB8 "\x01" DB8 "\x02\xff\xff\x00\x00"),
	 "[2001:db8::1]:65535 > [2001:db8::2]:0"},
	{BYTES(SIGNATURE "\x21\x31\x00\xd8" NUL108 NUL108), "unix > unix"},
	{BYTES(SIGNATURE "\x21\x31\x00\xd8"
			 "\0abstract and no path!" /* 22 bytes, and then 86 */
	       NUL64 NUL16 NUL4 "\0\0" PATH108),
	 "unix > " PATH108},
	{BYTES(SIGNATURE "\x21\x31\x00\xd8"
			 "/run/a\0/left/over/from/before" /* 29, and then 79 */
	       NUL64 NUL4 NUL4 NUL4 "\0\0\0"
			 "/run/b" /* and then 102 */
	       NUL64 NUL32 NUL4 "\0\0"),
	 "/run/a+NUL > /run/b+NUL"},
	{BYTES(SIGNATURE "\x21\x00\x00\x00"), "local"},
	{BYTES(SIGNATURE "\x21\x01\x00\x05*****"), "local"}, /* would be no TLV */
	{BYTES(SIGNATURE "\x20\x00\x00\x00"), "local"},
	{BYTES(SIGNATURE "\x20\x11\x00\x0c" INET4), "local"},
	{BYTES(SIGNATURE "\x20\x11\x00\x02*-"), "local"},
	{BYTES(SIGNATURE "\x20\xff\x00\x03***"), "local"},
	/* TLVs */
	{BYTES(SIGNATURE "\x21\x11\x00\x0f" INET4 "\x04\x00\x00"), "10.0.0.1:49152 > 10.0.0.2:3306"},
	{BYTES(SIGNATURE "\x21\x11\x00\x20" INET4 "\x02\x00\x07"
			 "db.test"
			 "\xea\x00\x04"
			 "\x03\x00\x04\x00" /* a value that looks like a TLV */
			 "\x01\x00\x00"),
	 "10.0.0.1:49152 > 10.0.0.2:3306"},
	{BYTES(SIGNATURE "\x21\x21\x00\x28" LOOPBACK6 LOOPBACK6 "\x00\x01\x00\x02"
			 "\x05\x00\x01!"),
	 "[::1]:1 > [::1]:2"},
	{BYTES(SIGNATURE "\x21\x31\x00\xdb" NUL108 NUL108 "\x04\x00\x00"), "unix > unix"},
	/* as HAProxy 2.6 sends it: crc32c; crc32c,unique-id,ssl */
	{BYTES(SIGNATURE
	       "\x21\x11\x00\x13\x7f\x00\x00\x01\x7f\x00\x00\x01\xa1\x62\x5d\xc3\x03\x00\x04\x08\xf3\x1f\x34"),
	 "127.0.0.1:41314 > 127.0.0.1:24003"},
	{BYTES(SIGNATURE "\x21\x21\x00\x3f" LOOPBACK6 LOOPBACK6 "\xc9\xae\x5d\xc4\x03\x00\x04\xd2\x6e\x70\x46"
			 "\x05\x00\x09::1:51630\x20\x00\x05\x00\x00\x00\x00\x00"),
	 "[::1]:51630 > [::1]:24004"},
	/* as preload/proxyv2.c builds it: from the program's end to the wanted one, both IPv4; both IPv6; a mixture;
	 * from a unix socket to IPv4; to IPv6; from anything but a unix socket with a path to one */
	{BYTES(SIGNATURE "\x21\x11\x00\x0c\xc0\xa8\x01\x07\x0a\x00\x00\x05\x9c\x40\x0c\xea"),
	 "192.168.1.7:40000 > 10.0.0.5:3306"},
	{BYTES(SIGNATURE "\x21\x21\x00\x24" LOOPBACK6 DB8 "\x05\x9c\x40\x0c\xea"), "[::1]:40000 > [2001:db8::5]:3306"},
	{BYTES(SIGNATURE "\x21\x21\x00\x24" MAPPED "\x7f\x00\x00\x01" DB8 "\x05\x9c\x40\x0c\xea"),
	 "[::ffff:127.0.0.1]:40000 > [2001:db8::5]:3306"},
	{BYTES(SIGNATURE "\x21\x11\x00\x0c\x7f\x00\x00\x01\x0a\x00\x00\x05\x00\x00\x0c\xea"),
	 "127.0.0.1:0 > 10.0.0.5:3306"},
	{BYTES(SIGNATURE "\x21\x21\x00\x24" LOOPBACK6 DB8 "\x05\x00\x00\x0c\xea"), "[::1]:0 > [2001:db8::5]:3306"},
	{BYTES(SIGNATURE "\x21\x31\x00\xd8" NUL108 "/run/mysqld/mysqld.sock" /* 23, and then 85 */
	       NUL64 NUL16 NUL4 "\0"),
	 "unix > /run/mysqld/mysqld.sock+NUL"},
};

/* Whole exactly where it ends, whatever comes then: the client's first packet, or bytes like its own. */
static void every_form_at_every_length(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		size_t n = good[i].n;
		uint8_t *more = xmalloc(3 * n + 64);
		struct proxy_header h;

		for (size_t cut = 0; cut < n; cut++)
			if (parse(good[i].bytes, cut, &h) != 0)
				fail_msg("row %zu: decided with %zu of %zu bytes", i, cut, n);
		memcpy(more, good[i].bytes, n);
		memset(more + n, 0xff, 64);
		memcpy(more + n + 64, good[i].bytes, n);
		memcpy(more + 2 * n + 64, good[i].bytes, n);
		for (size_t extra = 0; extra <= 2 * n + 64; extra++) {
			if (parse(more, n + extra, &h) != (ssize_t)n)
				fail_msg("row %zu: not %zu with %zu bytes more", i, n, extra);
			assert_header(&h, good[i].want);
		}
		memcpy(more + n, good[i].bytes, n);
		assert_int_equal(parse(more, 2 * n, &h), n);
		free(more);
	}
}

static const struct {
	const char *bytes;
	size_t n; /* the whole is refused, and one byte less is not yet */
} bad[] = {
	/* another protocol */
	{BYTES("Q")},
	{BYTES("\0")},
	{BYTES("\n")},
	{BYTES("p")},
	{BYTES("\x16")}, /* TLS */
	{BYTES("\x4a")}, /* a MySQL client's login */
	{BYTES("PO")},
	/* version 1: what stands fast */
	{BYTES("PROXX")},
	{BYTES("PROXY\t")},
	{BYTES("PROXY\r")},
	{BYTES("PROXY  ")},
	{BYTES("PROXY t")},
	{BYTES("PROXY TCP5")},
	{BYTES("PROXY TCP4\r")},
	{BYTES("PROXY UD")},
	{BYTES("PROXY UNKNOWX")},
	/* addresses */
	{BYTES("PROXY TCP4  ")},
	{BYTES("PROXY TCP4 a")},
	{BYTES("PROXY TCP4 -")},
	{BYTES("PROXY TCP4 \0")},
	{BYTES("PROXY TCP4 1.2.3.4\r")},
	{BYTES("PROXY TCP4 1.2.3.4\0")},
	{BYTES("PROXY TCP4 1.2.3 ")},
	{BYTES("PROXY TCP4 1.2.3.256 ")},
	{BYTES("PROXY TCP4 01.2.3.4 ")},
	{BYTES("PROXY TCP4 1.2.3.4. ")},
	{BYTES("PROXY TCP4 255.255.255.2550")},
	{BYTES("PROXY TCP4 :")},
	{BYTES("PROXY TCP4 1.2.3.4 1.2.3.4.5 ")},
	{BYTES("PROXY TCP4 1.2.3.4  ")},
	{BYTES("PROXY TCP6 1.2.3.4 ")},
	{BYTES("PROXY TCP6 ::g")},
	{BYTES("PROXY TCP6 [")},
	{BYTES("PROXY TCP6 fe80::1%")},
	{BYTES("PROXY TCP6 1::2::3 ")},
	{BYTES("PROXY TCP6 1:2:3:4:5:6:7 ")},
	{BYTES("PROXY TCP6 1:2:3:4:5:6:7:8:9 ")},
	{BYTES("PROXY TCP6 10000:: ")},
	{BYTES("PROXY TCP6 0000:0000:0000:0000:0000:0000:0000:0000:000000")}, /* 46, one more than any is long */
	/* ports and the end */
	{BYTES("PROXY TCP4 1.2.3.4 5.6.7.8  ")},
	{BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 -")},
	{BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 +")},
	{BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 00 ")},
	{BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 080 ")},
	{BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 65536 ")},
	{BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 100000")},
	{BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 0x")},
	{BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 1\r")},
	{BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 1 \r")},
	{BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 1 2 ")},
	{BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n")},
	{BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\r")},
	{BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r")},
	/* more than 107 bytes: 11 of the start, 45, 45, the spaces and what fits; 13, and 94 */
	{BYTES("PROXY TCP6 0000:0000:0000:0000:0000:ffff:100.100.100.100 0000:0000:0000:0000:0000:ffff:100.100.100.100 "
	       "1234")},
	{BYTES("PROXY UNKNOWN " TEXT27 TEXT27 TEXT27 "0123456789 \r")},
	{BYTES("PROXY UNKNOWN " TEXT27 TEXT27 TEXT27 "0123456789\n\n")},
	/* version 2: command, family */
	{BYTES(SIGNATURE "\x11")},
	{BYTES(SIGNATURE "\x31")},
	{BYTES(SIGNATURE "\x22")},
	{BYTES(SIGNATURE "\x2f")},
	{BYTES(SIGNATURE "\x00")},
	{BYTES(SIGNATURE "\x21\x02")},
	{BYTES(SIGNATURE "\x21\x10")},
	{BYTES(SIGNATURE "\x21\x12")},
	{BYTES(SIGNATURE "\x21\x20")},
	{BYTES(SIGNATURE "\x21\x22")},
	{BYTES(SIGNATURE "\x21\x30")},
	{BYTES(SIGNATURE "\x21\x32")},
	{BYTES(SIGNATURE "\x21\x41")},
	{BYTES(SIGNATURE "\x21\xf1")},
	/* lengths: of the address block, of the whole */
	{BYTES(SIGNATURE "\x21\x11\x00\x00")},
	{BYTES(SIGNATURE "\x21\x11\x00\x0b")},
	{BYTES(SIGNATURE "\x21\x21\x00\x23")},
	{BYTES(SIGNATURE "\x21\x31\x00\xd7")},
	{BYTES(SIGNATURE "\x21\x11\x03\xf1")},
	{BYTES(SIGNATURE "\x21\x11\x04")},
	{BYTES(SIGNATURE "\x21\x00\x03\xf1")},
	{BYTES(SIGNATURE "\x20\x00\x03\xf1")},
	{BYTES(SIGNATURE "\x20\x00\xff")},
	/* TLVs that do not add up: no room for one, a value over the end; the second of two */
	{BYTES(SIGNATURE "\x21\x11\x00\x0d")},
	{BYTES(SIGNATURE "\x21\x11\x00\x0e")},
	{BYTES(SIGNATURE "\x21\x11\x00\x0f" INET4 "\x04\x00\x01")},
	{BYTES(SIGNATURE "\x21\x11\x00\x10" INET4 "\x04\x01\x00")},
	{BYTES(SIGNATURE "\x21\x11\x00\x10" INET4 "\x04\x00\x00")},
	{BYTES(SIGNATURE "\x21\x11\x00\x14" INET4 "\x04\x00\x01*\xea\x00\x02")},
	/* checksums: of other lengths, a second one, wrong ones, one in the other byte order, one of another port */
	{BYTES(SIGNATURE "\x21\x11\x00\x12" INET4 "\x03\x00\x03")},
	{BYTES(SIGNATURE "\x21\x11\x00\x14" INET4 "\x03\x00\x05")},
	{BYTES(SIGNATURE "\x21\x11\x00\x0f" INET4 "\x03\x00\x00")},
	{BYTES(SIGNATURE "\x21\x11\x00\x1a" INET4 "\x03\x00\x04\x08\xf3\x1f\x34\x03\x00\x04")},
	{BYTES(SIGNATURE "\x21\x11\x00\x13" INET4 "\x03\x00\x04\x00\x00\x00\x00")},
	{BYTES(SIGNATURE
	       "\x21\x11\x00\x13\x7f\x00\x00\x01\x7f\x00\x00\x01\xa1\x62\x5d\xc3\x03\x00\x04\x34\x1f\xf3\x08")},
	{BYTES(SIGNATURE
	       "\x21\x11\x00\x13\x7f\x00\x00\x01\x7f\x00\x00\x01\xa1\x63\x5d\xc3\x03\x00\x04\x08\xf3\x1f\x34")},
};

static void what_is_none_is_refused_at_the_first_wrong_byte(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		uint8_t more[PROXY_HEADER_MAX + 8];
		struct proxy_header h;

		for (size_t cut = 0; cut < bad[i].n; cut++)
			if (parse(bad[i].bytes, cut, &h) != 0)
				fail_msg("row %zu: decided with %zu of %zu bytes", i, cut, bad[i].n);
		memset(more, '\n', sizeof more);
		memcpy(more, bad[i].bytes, bad[i].n);
		for (size_t n = bad[i].n; n <= sizeof more; n++)
			if (parse(more, n, &h) != -1)
				fail_msg("row %zu: %zu bytes are not refused", i, n);
	}
}

/* Every other byte at every place of what stands fast. */
static void signatures_to_the_last_bit(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
	} fast[] = {{BYTES("PROXY ")}, {BYTES(SIGNATURE)}};
	struct proxy_header h;

	(void)state;
	for (size_t i = 0; i < COUNT(fast); i++)
		for (size_t at = 0; at < fast[i].n; at++)
			for (unsigned byte = 0; byte < 256; byte++) {
				uint8_t start[16];
				memcpy(start, fast[i].bytes, fast[i].n);
				bool right = byte == start[at] || (at == 0 && (byte == 'P' || byte == '\r'));
				start[at] = (uint8_t)byte;
				if (parse(start, at + 1, &h) != (right ? 0 : -1))
					fail_msg("row %zu: %02x at %zu", i, byte, at);
			}
}

/* Any bit of a header with a right sum, its own included. */
static void a_checksum_notices_every_bit(void **state)
{
	static const char right[] =
		SIGNATURE "\x21\x21\x00\x3f" LOOPBACK6 LOOPBACK6 "\xc9\xae\x5d\xc4\x03\x00\x04\xd2\x6e\x70\x46"
			  "\x05\x00\x09::1:51630\x20\x00\x05\x00\x00\x00\x00\x00";
	enum { SIZE = sizeof right - 1, TYPE = 16 + 36 };
	struct proxy_header h;

	(void)state;
	for (size_t bit = 8 * 16; bit < 8 * (size_t)SIZE; bit++) {
		uint8_t wrong[SIZE];

		if (bit / 8 == TYPE)
			continue; /* then it is no checksum */
		memcpy(wrong, right, SIZE);
		wrong[bit / 8] ^= (uint8_t)(1 << bit % 8);
		if (parse(wrong, SIZE, &h) != -1)
			fail_msg("bit %zu", bit);
	}
}

/* As long as may be, in one TLV, in as many as there can be, and in a LOCAL header. */
static void the_longest(void **state)
{
	static const char one[] = SIGNATURE "\x21\x11\x03\xf0" INET4 "\x04\x03\xe1";
	uint8_t header[PROXY_HEADER_MAX + 1] = {0};
	struct proxy_header h;

	(void)state;
	assert_int_equal(sizeof one - 1 + 0x3e1, PROXY_HEADER_MAX);
	memcpy(header, one, sizeof one - 1);
	for (size_t n = 0; n < PROXY_HEADER_MAX; n++)
		assert_int_equal(parse(header, n, &h), 0);
	assert_int_equal(parse(header, PROXY_HEADER_MAX, &h), PROXY_HEADER_MAX);
	assert_header(&h, "10.0.0.1:49152 > 10.0.0.2:3306");
	assert_int_equal(parse(header, PROXY_HEADER_MAX + 1, &h), PROXY_HEADER_MAX);
	memset(header + 28, 0, sizeof header - 28); /* 332 empty TLVs of type 0 */
	assert_int_equal((PROXY_HEADER_MAX - 28) % 3, 0);
	assert_int_equal(parse(header, sizeof header, &h), PROXY_HEADER_MAX);
	header[12] = 0x20;
	assert_int_equal(parse(header, PROXY_HEADER_MAX - 1, &h), 0);
	assert_int_equal(parse(header, sizeof header, &h), PROXY_HEADER_MAX);
	assert_header(&h, "local");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_form_at_every_length),
		cmocka_unit_test(what_is_none_is_refused_at_the_first_wrong_byte),
		cmocka_unit_test(signatures_to_the_last_bit),
		cmocka_unit_test(a_checksum_notices_every_bit),
		cmocka_unit_test(the_longest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
