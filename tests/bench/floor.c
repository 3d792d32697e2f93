/* SPDX-License-Identifier: Apache-2.0
 *
 * The floor: what a middle process costs that does nothing but speak. Plain epoll; accepts any MySQL login and answers
 * every SELECT, PREPARE and EXECUTE with one canned row, shaped like a token lookup's: one read and one write a
 * statement. No proxy that looks at its statements can be cheaper, so `make bench` shows it beside them.
 *
 *     floor [-n THREADS] [PORT]        0 or none: a free port; the port is printed on stdout
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/slice.h"

enum { READ_SIZE = 64 * 1024, EVENTS = 256, COMMAND_MAX = READ_SIZE };
enum { CAP_DEPRECATE_EOF = 1 << 24 };
/* LONG_PASSWORD FOUND_ROWS LONG_FLAG CONNECT_WITH_DB PROTOCOL_41 TRANSACTIONS SECURE_CONNECTION MULTI_RESULTS
 * PS_MULTI_RESULTS PLUGIN_AUTH DEPRECATE_EOF */
static const uint32_t server_caps =
	1 | 2 | 4 | 8 | 1 << 9 | 1 << 13 | 1 << 15 | 1 << 17 | 1 << 18 | 1 << 19 | CAP_DEPRECATE_EOF;
enum { STATUS_AUTOCOMMIT = 2, CHARSET = 45, CHARSET_BINARY = 63 };
enum { TYPE_LONGLONG = 8, TYPE_VARCHAR = 0xfd, TYPE_DATETIME = 12 };
enum { COM_QUIT = 1, COM_QUERY = 3, COM_STMT_PREPARE = 0x16, COM_STMT_EXECUTE, COM_STMT_LONG_DATA, COM_STMT_CLOSE };

static const struct column {
	const char *name, *text;
	uint8_t type;
	uint32_t length;
} columns[] = {
	{"token", "0123456789abcdef0123456789abcdef", TYPE_VARCHAR, 256},
	{"member_id", "1234567", TYPE_LONGLONG, 20},
	{"scope", "read,write", TYPE_VARCHAR, 256},
	{"expires_at", "2038-01-01 00:00:00", TYPE_DATETIME, 19},
};
enum { COLUMNS = sizeof(columns) / sizeof(columns[0]) };

/* Every answer there is, made once, before the threads start. Indexes: [client has DEPRECATE_EOF]. */
static struct buf text_answer[2], binary_answer[2];

struct client {
	int fd;
	bool in, deprecate_eof; /* logged in */
	struct buf part;        /* the beginning of a packet that has not come as a whole */
};

/* ---- packets ---- */

static size_t packet_begin(struct buf *out, unsigned seq)
{
	buf_put_u24(out, 0);
	buf_put_u8(out, seq);
	return out->len;
}

static void packet_end(struct buf *out, size_t start)
{
	put_u24(out->data + start - 4, (uint32_t)(out->len - start));
}

static void put_ok(struct buf *out, unsigned seq, unsigned header)
{
	size_t start = packet_begin(out, seq);

	buf_put_u8(out, header);
	buf_put_lenenc(out, 0);
	buf_put_lenenc(out, 0);
	buf_put_u16(out, STATUS_AUTOCOMMIT);
	buf_put_u16(out, 0);
	packet_end(out, start);
}

static void put_eof(struct buf *out, unsigned seq)
{
	size_t start = packet_begin(out, seq);

	buf_put_u8(out, 0xfe);
	buf_put_u16(out, 0);
	buf_put_u16(out, STATUS_AUTOCOMMIT);
	packet_end(out, start);
}

static void put_column(struct buf *out, unsigned seq, const struct column *c)
{
	size_t start = packet_begin(out, seq);

	buf_put_lenenc_bytes(out, slice_str("def"));
	buf_put_lenenc_bytes(out, slice_str("app"));
	buf_put_lenenc_bytes(out, slice_str("access_token"));
	buf_put_lenenc_bytes(out, slice_str("access_token"));
	buf_put_lenenc_bytes(out, slice_str(c->name));
	buf_put_lenenc_bytes(out, slice_str(c->name));
	buf_put_lenenc(out, 12);
	buf_put_u16(out, c->type == TYPE_VARCHAR ? CHARSET : CHARSET_BINARY);
	buf_put_u32(out, c->length);
	buf_put_u8(out, c->type);
	buf_put_u16(out, 1); /* NOT NULL */
	buf_put_u8(out, 0);
	buf_put_u16(out, 0);
	packet_end(out, start);
}

static void put_binary_value(struct buf *out, const struct column *c)
{
	static const uint8_t datetime[] = {4, 0xf6, 0x07, 1, 1}; /* 2038-01-01 */

	if (c->type == TYPE_LONGLONG)
		buf_put_u64(out, strtoull(c->text, NULL, 10));
	else if (c->type == TYPE_DATETIME)
		buf_put(out, datetime, sizeof(datetime));
	else
		buf_put_lenenc_bytes(out, slice_str(c->text));
}

static void put_row(struct buf *out, unsigned seq, bool binary)
{
	size_t start = packet_begin(out, seq);

	if (binary) {
		buf_put_u8(out, 0);
		for (unsigned i = 0; i < (COLUMNS + 7 + 2) / 8; i++)
			buf_put_u8(out, 0);
	}
	for (unsigned i = 0; i < COLUMNS; i++) {
		if (binary)
			put_binary_value(out, &columns[i]);
		else
			buf_put_lenenc_bytes(out, slice_str(columns[i].text));
	}
	packet_end(out, start);
}

static void make_answer(struct buf *out, bool binary, bool deprecate_eof)
{
	unsigned seq = 1;
	size_t start = packet_begin(out, seq++);

	buf_put_lenenc(out, COLUMNS);
	packet_end(out, start);
	for (unsigned i = 0; i < COLUMNS; i++)
		put_column(out, seq++, &columns[i]);
	if (!deprecate_eof)
		put_eof(out, seq++);
	put_row(out, seq++, binary);
	if (deprecate_eof)
		put_ok(out, seq, 0xfe);
	else
		put_eof(out, seq);
}

static void put_prepared(struct buf *out, struct slice sql, bool deprecate_eof)
{
	static const struct column param = {"?", "", TYPE_VARCHAR, 0};
	unsigned params = 0, seq = 1;

	for (size_t i = 0; i < sql.n; i++)
		params += sql.p[i] == '?';
	size_t start = packet_begin(out, seq++);
	buf_put_u8(out, 0);
	buf_put_u32(out, 1); /* every statement is number 1: all have the same answer */
	buf_put_u16(out, COLUMNS);
	buf_put_u16(out, params);
	buf_put_u8(out, 0);
	buf_put_u16(out, 0);
	packet_end(out, start);
	for (unsigned i = 0; i < params; i++)
		put_column(out, seq++, &param);
	if (params > 0 && !deprecate_eof)
		put_eof(out, seq++);
	for (unsigned i = 0; i < COLUMNS; i++)
		put_column(out, seq++, &columns[i]);
	if (!deprecate_eof)
		put_eof(out, seq);
}

static void put_greeting(struct buf *out)
{
	size_t start = packet_begin(out, 0);

	buf_put_u8(out, 10);
	buf_put(out, "5.5.5-10.11.0-floor", sizeof("5.5.5-10.11.0-floor"));
	buf_put_u32(out, 1);
	buf_put(out, "saltsalt", 9);
	buf_put_u16(out, server_caps & 0xffff);
	buf_put_u8(out, CHARSET);
	buf_put_u16(out, STATUS_AUTOCOMMIT);
	buf_put_u16(out, server_caps >> 16);
	buf_put_u8(out, 21);
	buf_put(out, "\0\0\0\0\0\0\0\0\0", 10);
	buf_put(out, "saltsaltsalt", 13);
	buf_put(out, "mysql_native_password", sizeof("mysql_native_password"));
	packet_end(out, start);
}

/* ---- a client ---- */

static bool is_select(struct slice sql)
{
	return sql.n >= 6 && strncasecmp((const char *)sql.p, "SELECT", 6) == 0;
}

/* Adds the answer to one command; false ends the connection. */
static bool answer(struct client *c, struct slice command, struct buf *out)
{
	struct slice sql = slice_of(command.p + 1, command.n - 1);

	switch (command.p[0]) {
	case COM_QUIT:
		return false;
	case COM_QUERY:
		if (is_select(sql))
			buf_put(out, text_answer[c->deprecate_eof].data, text_answer[c->deprecate_eof].len);
		else
			put_ok(out, 1, 0);
		return true;
	case COM_STMT_PREPARE:
		put_prepared(out, sql, c->deprecate_eof);
		return true;
	case COM_STMT_EXECUTE:
		buf_put(out, binary_answer[c->deprecate_eof].data, binary_answer[c->deprecate_eof].len);
		return true;
	case COM_STMT_LONG_DATA:
	case COM_STMT_CLOSE: /* have no answer */
		return true;
	default:
		put_ok(out, 1, 0);
		return true;
	}
}

static bool on_packet(struct client *c, unsigned seq, struct slice packet, struct buf *out)
{
	if (packet.n < (c->in ? 1 : 4))
		return false;
	if (c->in)
		return answer(c, packet, out);
	c->in = true;
	c->deprecate_eof = (get_u32(packet.p) & CAP_DEPRECATE_EOF) != 0;
	put_ok(out, seq + 1, 0);
	return true;
}

/* Answers every whole packet in `data` with one write; keeps what is left for the next read. */
static bool on_bytes(struct client *c, struct slice data, struct buf *out)
{
	size_t at = 0;

	buf_clear(out);
	while (data.n - at >= 4) {
		size_t n = get_u24(data.p + at);
		if (n > COMMAND_MAX)
			return false;
		if (data.n - at - 4 < n)
			break;
		if (!on_packet(c, data.p[at + 3], slice_of(data.p + at + 4, n), out))
			return false;
		at += 4 + n;
	}
	if (c->part.len > 0)
		buf_consume(&c->part, at);
	else if (at < data.n)
		buf_put(&c->part, data.p + at, data.n - at);
	/* Answers are small and clients wait for them: one that lets its socket fill up is not worth a queue. */
	return out->len == 0 || send(c->fd, out->data, out->len, MSG_NOSIGNAL) == (ssize_t)out->len;
}

static bool on_readable(struct client *c, struct buf *scratch, struct buf *out)
{
	ssize_t n = recv(c->fd, scratch->data, READ_SIZE, 0);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		return false;
	if (c->part.len == 0)
		return on_bytes(c, slice_of(scratch->data, (size_t)n), out);
	buf_put(&c->part, scratch->data, (size_t)n);
	bool more = on_bytes(c, buf_slice(&c->part), out);
	if (c->part.len == 0)
		buf_fini(&c->part);
	return more;
}

static void on_accept(int epoll, int listener, struct buf *out)
{
	int fd, one = 1;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct client *c = xcalloc(1, sizeof(*c));
		struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};

		c->fd = fd;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		buf_clear(out);
		put_greeting(out);
		if (send(fd, out->data, out->len, MSG_NOSIGNAL) < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev) != 0) {
			close(fd);
			free(c);
		}
	}
}

static void client_free(struct client *c)
{
	close(c->fd);
	buf_fini(&c->part);
	free(c);
}

static void *serve(void *arg)
{
	int listener = *(int *)arg, epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL}, events[EVENTS];
	struct buf scratch = {0}, out = {0};

	buf_reserve(&scratch, READ_SIZE);
	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &ev) != 0)
		return NULL;
	for (;;) {
		int n = epoll_wait(epoll, events, EVENTS, -1);
		for (int i = 0; i < n; i++) {
			struct client *c = events[i].data.ptr;
			if (c == NULL)
				on_accept(epoll, listener, &out);
			else if (!on_readable(c, &scratch, &out))
				client_free(c);
		}
	}
}

/* Listens on loopback; *port 0 is replaced by the one the kernel chose, so that the other threads can share it. */
static int listen_on(uint16_t *port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(*port)};
	socklen_t len = sizeof(addr);
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 || listen(fd, 4096) != 0 ||
	    getsockname(fd, (struct sockaddr *)&addr, &len) != 0) {
		perror("floor: listen");
		exit(1);
	}
	*port = ntohs(addr.sin_port);
	return fd;
}

int main(int argc, char **argv)
{
	int threads = 1, opt;

	while ((opt = getopt(argc, argv, "n:")) != -1) {
		if (opt != 'n' || (threads = atoi(optarg)) < 1) {
			fputs("usage: floor [-n THREADS] [PORT]\n", stderr);
			return 2;
		}
	}
	uint16_t port = optind < argc ? (uint16_t)atoi(argv[optind]) : 0;
	for (int eof = 0; eof < 2; eof++) {
		make_answer(&text_answer[eof], false, eof);
		make_answer(&binary_answer[eof], true, eof);
	}
	int *listeners = xcalloc((size_t)threads, sizeof(*listeners));
	for (int i = 0; i < threads; i++)
		listeners[i] = listen_on(&port);
	printf("%u\n", port);
	fflush(stdout);
	for (int i = 1; i < threads; i++) {
		pthread_t thread;
		if (pthread_create(&thread, NULL, serve, &listeners[i]) != 0)
			return 1;
	}
	serve(&listeners[0]);
	return 1;
}
