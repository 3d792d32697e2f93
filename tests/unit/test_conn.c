/* SPDX-License-Identifier: Apache-2.0
 *
 * A connection over a socket pair: what the kernel takes at once, in parts, or not at all; ends and resets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/conn.h"

enum { LIMIT_SECONDS = 120 }; /* a test that waits for what never comes is ended by SIGALRM */

static struct event_base *base;
static struct conn conn;
static int peer; /* the other end, blocking unless a test says otherwise */
static unsigned readables, draineds;
static bool close_when_readable;

static void on_readable(struct conn *c)
{
	readables++;
	if (close_when_readable)
		conn_close(c);
}

static void on_drained(struct conn *c)
{
	(void)c;
	draineds++;
}

static const struct conn_ops ops = {on_readable, on_drained};

static int up(void **state)
{
	int fds[2], small = 4096;

	(void)state;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return -1;
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
	base = event_base_new();
	conn_init(&conn, base, fds[0], &ops);
	peer = fds[1];
	readables = draineds = 0;
	close_when_readable = false;
	alarm(LIMIT_SECONDS);
	return 0;
}

static int down(void **state)
{
	(void)state;
	conn_close(&conn);
	if (peer >= 0)
		close(peer);
	event_base_free(base);
	return 0;
}

static void turn(void)
{
	event_base_loop(base, EVLOOP_NONBLOCK);
}

static void wait_for(const unsigned *count, unsigned at_least)
{
	while (*count < at_least)
		event_base_loop(base, EVLOOP_ONCE);
}

/* The byte at each place of a long text, so that one that is lost, doubled or out of place shows. */
static uint8_t byte_at(size_t i)
{
	return (uint8_t)(i * 2654435761u >> 13);
}

static uint8_t *text(size_t n)
{
	uint8_t *p = xmalloc(n);

	for (size_t i = 0; i < n; i++)
		p[i] = byte_at(i);
	return p;
}

/* Takes what is there, without waiting; returns the new place. */
static size_t peer_takes(size_t at, size_t most)
{
	uint8_t some[5000];
	ssize_t n = recv(peer, some, most < sizeof some ? most : sizeof some, MSG_DONTWAIT);

	for (ssize_t i = 0; i < n; i++)
		if (some[i] != byte_at(at + (size_t)i))
			fail_msg("byte %zu is another one", at + (size_t)i);
	return n > 0 ? at + (size_t)n : at;
}

static void what_fits_is_sent_at_once(void **state)
{
	char got[8];

	(void)state;
	assert_int_equal(conn_write(&conn, "hello", 5), 0);
	assert_int_equal(conn_write(&conn, NULL, 0), 0);
	assert_int_equal(recv(peer, got, sizeof got, 0), 5);
	assert_memory_equal(got, "hello", 5);
	assert_int_equal(conn_queued(&conn), 0);
	assert_null(conn.out.data);
	turn();
	assert_int_equal(draineds, 0); /* EV_WRITE was not armed */
}

/* Pieces of all sizes, empty ones too; the peer reads little by little while more is written. */
static void bytes_keep_their_order(void **state)
{
	enum { TOTAL = 3000000 };
	uint8_t *all = text(TOTAL);
	size_t written = 0, taken = 0;
	unsigned size = 1;

	(void)state;
	while (taken < TOTAL) {
		struct iovec iov[8];
		size_t before = written;
		for (unsigned i = 0; i < 8; i++) {
			size = size * 7 % 20011;
			size_t n = i == 3 ? 0 : size;
			n = n < TOTAL - written ? n : TOTAL - written;
			iov[i] = (struct iovec){all + written, n};
			written += n;
		}
		if (written > before)
			assert_int_equal(conn_writev(&conn, iov, 8), 0);
		assert_true(conn_queued(&conn) <= written - taken);
		for (unsigned i = 0; i < 3; i++)
			taken = peer_takes(taken, 1 + size % 5000);
		turn();
	}
	assert_int_equal(written, TOTAL);
	assert_int_equal(conn_queued(&conn), 0);
	assert_true(draineds > 1); /* told at every step, not only at the end */
	assert_null(conn.out.data);
	free(all);
}

/* A slow peer: what waits is moved to the front now and then, so that the buffer does not grow with all that ever went
 * through it. */
static void a_queue_that_never_empties_stays_small(void **state)
{
	enum { KEEP = 200000, ROUNDS = 500, STEP = 8000 };
	uint8_t *all = text(KEEP + ROUNDS * STEP);
	size_t written = KEEP, taken = 0;

	(void)state;
	assert_int_equal(conn_write(&conn, all, KEEP), 0);
	for (unsigned i = 0; i < ROUNDS; i++) {
		assert_int_equal(conn_write(&conn, all + written, STEP), 0);
		written += STEP;
		for (size_t goal = taken + STEP; taken < goal; turn())
			taken = peer_takes(taken, goal - taken);
		assert_true(conn_queued(&conn) > 0);
		assert_true(conn.out.cap <= 4 * KEEP);
	}
	while (taken < written) {
		taken = peer_takes(taken, 5000);
		turn();
	}
	turn();
	assert_null(conn.out.data);
	free(all);
}

static void reading_can_be_put_off(void **state)
{
	char got[16];

	(void)state;
	assert_int_equal(send(peer, "abc", 3, 0), 3);
	turn();
	assert_int_equal(readables, 0);
	conn_read_on(&conn);
	conn_read_on(&conn);
	wait_for(&readables, 1);
	conn_read_off(&conn);
	conn_read_off(&conn);
	turn();
	assert_int_equal(readables, 1);
	conn_read_on(&conn); /* what is there is told again */
	wait_for(&readables, 2);
	assert_int_equal(conn_read(&conn, got, 2), 2);
	assert_int_equal(conn_read(&conn, got, sizeof got), 1);
	assert_int_equal(conn_read(&conn, got, sizeof got), -1);
	turn();
	assert_int_equal(readables, 2);
}

static void an_end_comes_after_the_last_byte(void **state)
{
	char got[16];

	(void)state;
	assert_int_equal(send(peer, "bye", 3, 0), 3);
	close(peer);
	peer = -1;
	conn_read_on(&conn);
	wait_for(&readables, 1);
	assert_int_equal(conn_read(&conn, got, sizeof got), 3);
	assert_int_equal(conn_read(&conn, got, sizeof got), 0);
}

/* The peer's direction alone ends: it can still be answered. */
static void half_an_end(void **state)
{
	char got[16];

	(void)state;
	shutdown(peer, SHUT_WR);
	conn_read_on(&conn);
	wait_for(&readables, 1);
	assert_int_equal(conn_read(&conn, got, sizeof got), 0);
	assert_int_equal(conn_write(&conn, "ok", 2), 0);
	assert_int_equal(recv(peer, got, sizeof got, 0), 2);
}

/* A unix socket that is closed with bytes unread resets the other end. */
static void a_reset(void **state)
{
	char got[16];

	(void)state;
	assert_int_equal(conn_write(&conn, "unread", 6), 0);
	close(peer);
	peer = -1;
	conn_read_on(&conn);
	wait_for(&readables, 1);
	assert_int_equal(conn_read(&conn, got, sizeof got), -2);
	assert_int_equal(errno, ECONNRESET);
	assert_int_equal(conn_write(&conn, "more", 4), -1); /* and no SIGPIPE */
	assert_int_equal(errno, EPIPE);
}

/* The peer goes while output waits for it and nobody reads: that must be noticed, or the output waits for ever. */
static void a_peer_that_goes_while_output_waits(void **state)
{
	enum { MUCH = 1000000 };
	uint8_t *all = text(MUCH);
	char got[16];

	(void)state;
	assert_int_equal(conn_write(&conn, all, MUCH), 0);
	assert_true(conn_queued(&conn) > 0);
	close(peer);
	peer = -1;
	wait_for(&readables, 1);
	assert_int_equal(conn_read(&conn, got, sizeof got), -2);
	assert_int_equal(errno, EPIPE); /* what sending said, whatever recv() would say */
	assert_int_equal(conn_queued(&conn), 0);
	free(all);
}

static void closing_within_a_callback(void **state)
{
	enum { MUCH = 1000000 };
	uint8_t *all = text(MUCH);

	(void)state;
	close_when_readable = true;
	assert_int_equal(conn_write(&conn, all, MUCH), 0); /* both events are armed and due */
	assert_int_equal(send(peer, "x", 1, 0), 1);
	peer_takes(0, 5000);
	conn_read_on(&conn);
	wait_for(&readables, 1);
	turn();
	assert_int_equal(conn.fd, -1);
	assert_null(conn.out.data);
	conn_close(&conn);
	conn_read_on(&conn);
	turn();
	assert_int_equal(readables, 1);
	free(all);
}

static void connecting(void **state)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof in;
	struct conn c;
	char got[8];
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	assert_int_equal(bind(listener, (struct sockaddr *)&in, len), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&in, &len), 0);
	/* Bound, but nobody listens: told at once or by the event. */
	if (conn_connect(&c, base, (struct sockaddr *)&in, len, &ops) == 0) {
		wait_for(&draineds, 1);
		assert_int_equal(conn_connect_result(&c), ECONNREFUSED);
		conn_close(&c);
	} else {
		assert_int_equal(errno, ECONNREFUSED);
	}
	assert_int_equal(listen(listener, 1), 0);
	draineds = 0;
	assert_int_equal(conn_connect(&c, base, (struct sockaddr *)&in, len, &ops), 0);
	assert_true(c.connecting);
	wait_for(&draineds, 1);
	assert_int_equal(conn_connect_result(&c), 0);
	assert_false(c.connecting);
	int accepted = accept(listener, NULL, NULL);
	assert_int_equal(conn_write(&c, "hello", 5), 0);
	assert_int_equal(recv(accepted, got, sizeof got, 0), 5);
	conn_close(&c);
	assert_int_equal(recv(accepted, got, sizeof got, 0), 0);
	close(accepted);
	close(listener);
	struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "/nowhere/at/all"};
	assert_int_equal(conn_connect(&c, base, (struct sockaddr *)&un, sizeof un, &ops), -1);
	assert_int_equal(errno, ENOENT);
}

/* --- the outbox --- */

static void expect_from(int fd, const char *what)
{
	char got[64];
	ssize_t n = recv(fd, got, sizeof got, MSG_DONTWAIT);

	assert_int_equal(n, what == NULL ? -1 : (ssize_t)strlen(what));
	if (what != NULL)
		assert_memory_equal(got, what, strlen(what));
}

static void small_messages_wait_for_the_turns_end(void **state)
{
	struct outbox box;

	(void)state;
	outbox_init(&box);
	conn.outbox = &box;
	assert_int_equal(conn_write(&conn, "one ", 4), 0);
	assert_int_equal(conn_write(&conn, NULL, 0), 0);
	struct iovec iov[] = {{(char *)"two", 3}, {(char *)" three", 6}};
	assert_int_equal(conn_writev(&conn, iov, 2), 0);
	assert_int_equal(conn_queued(&conn), 13);
	expect_from(peer, NULL);
	outbox_flush(&box);
	expect_from(peer, "one two three"); /* in one piece */
	assert_int_equal(conn_queued(&conn), 0);
	outbox_flush(&box);
	expect_from(peer, NULL);
	assert_int_equal(conn_write(&conn, "now", 3), 0);
	conn_flush(&conn);
	expect_from(peer, "now");
	assert_int_equal(conn_write(&conn, "bye", 3), 0);
	conn_close(&conn);
	expect_from(peer, "bye");
	outbox_flush(&box);
	outbox_fini(&box);
}

/* Two connections that speak in turn: each keeps its order, whatever the other has said meanwhile. */
static void pieces_of_several(void **state)
{
	struct outbox box;
	struct conn other;
	int fds[2];

	(void)state;
	outbox_init(&box);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	conn_init(&other, base, fds[0], &ops);
	conn.outbox = other.outbox = &box;
	conn_write(&conn, "a1", 2);
	conn_write(&other, "b1", 2);
	conn_write(&conn, "a2", 2); /* not behind its first piece: that goes out */
	expect_from(peer, "a1");
	expect_from(fds[1], NULL);
	conn_write(&other, "b2", 2);
	expect_from(fds[1], "b1");
	outbox_flush(&box);
	expect_from(peer, "a2");
	expect_from(fds[1], "b2");
	conn_close(&other);
	close(fds[1]);
	outbox_fini(&box);
}

/* Long messages, and a box that is full, go at once, behind what was said before. */
static void the_outbox_is_bounded(void **state)
{
	enum { TOTAL = 2000000, STEP = 7000 };
	uint8_t *all = text(TOTAL);
	size_t taken = 0, sizes[] = {10, 9000, STEP, 1, 100000, STEP, 8192, 8193};
	struct outbox box;

	(void)state;
	outbox_init(&box);
	conn.outbox = &box;
	for (size_t at = 0, i = 0; at < TOTAL; i++) {
		size_t n = sizes[i % (sizeof sizes / sizeof *sizes)];
		n = n < TOTAL - at ? n : TOTAL - at;
		assert_int_equal(conn_write(&conn, all + at, n), 0);
		assert_true(box.len <= 65536);
		at += n;
	}
	outbox_flush(&box);
	for (unsigned idle = 0; taken < TOTAL && idle < 1000; turn()) {
		size_t before = taken;
		taken = peer_takes(taken, 5000);
		idle = taken == before ? idle + 1 : 0;
	}
	assert_int_equal(taken, TOTAL);
	outbox_fini(&box);
	free(all);
}

static void a_peer_that_went_before_the_turns_end(void **state)
{
	struct outbox box;
	char got[8];

	(void)state;
	outbox_init(&box);
	conn.outbox = &box;
	assert_int_equal(conn_write(&conn, "hello", 5), 0);
	close(peer);
	peer = -1;
	outbox_flush(&box); /* calls nobody back */
	assert_int_equal(readables, 0);
	assert_int_equal(conn_queued(&conn), 0);
	assert_int_equal(conn_write(&conn, "more", 4), -1);
	assert_int_equal(errno, EPIPE);
	wait_for(&readables, 1);
	assert_int_equal(conn_read(&conn, got, sizeof got), -2);
	outbox_fini(&box);
}

/* A reader that takes less than there is is called again, and once more for the end. */
static size_t read_at_once, got_in_all;
static int last_read;

static void read_some(struct conn *c)
{
	char some[64];

	readables++;
	last_read = (int)conn_read(c, some, read_at_once);
	if (last_read > 0)
		got_in_all += (size_t)last_read;
	else
		conn_read_off(c);
}

static void nothing_is_left_in_the_socket(void **state)
{
	static const struct conn_ops reader = {read_some, on_drained};

	(void)state;
	conn.ops = &reader;
	read_at_once = 4;
	got_in_all = 0;
	assert_int_equal(send(peer, "0123456789", 10, 0), 10);
	conn_read_on(&conn);
	wait_for(&readables, 3);
	assert_int_equal(got_in_all, 10);
	turn();
	assert_int_equal(readables, 3); /* drained: not called again */
	assert_int_equal(send(peer, "ab", 2, 0), 2);
	close(peer); /* bytes and the end, told of in one go */
	peer = -1;
	wait_for(&readables, 5);
	assert_int_equal(got_in_all, 12);
	assert_int_equal(last_read, 0);
}

/* What was sent before a reset is read first, and the reset comes with it in one go. */
static void read_and_want_more(struct conn *c)
{
	char some[64];

	readables++;
	last_read = (int)conn_read(c, some, sizeof some);
	if (last_read <= 0)
		conn_read_off(c);
	else
		conn_read_again(c);
}

static void bytes_then_a_reset(void **state)
{
	static const struct conn_ops reader = {read_and_want_more, on_drained};

	(void)state;
	conn.ops = &reader;
	assert_int_equal(conn_write(&conn, "unread", 6), 0);
	assert_int_equal(send(peer, "abc", 3, 0), 3);
	close(peer);
	peer = -1;
	conn_read_on(&conn);
	wait_for(&readables, 2);
	assert_true(last_read == -2 || last_read == 0);
}

/* A large buffer goes over as it is; a small one, or one behind others, is copied. */
static void buffers_are_taken_over(void **state)
{
	enum { N = 3 << 20 };
	struct buf b = {0};
	size_t got = 0;
	uint8_t chunk[65536];

	(void)state;
	for (unsigned i = 0; i < N; i++)
		buf_put_u8(&b, i * 7 & 0xff);
	const uint8_t *was = b.data;
	assert_int_equal(conn_send(&conn, &b), 0);
	assert_int_equal(b.len, 0);
	assert_ptr_equal(conn.out.data, was);
	assert_true(conn_queued(&conn) > 0 && conn_queued(&conn) < N);
	buf_put_str(&b, "more");
	assert_int_equal(conn_send(&conn, &b), 0);
	assert_int_equal(b.len, 0);
	while (got < N + 4) {
		event_base_loop(base, EVLOOP_NONBLOCK);
		ssize_t n = recv(peer, chunk, sizeof chunk, MSG_DONTWAIT);
		for (ssize_t i = 0; i < n; i++, got++)
			assert_int_equal(chunk[i], got < N ? got * 7 & 0xff : (size_t)"more"[got - N]);
	}
	assert_int_equal(conn_queued(&conn), 0);
	event_base_loop(base, EVLOOP_NONBLOCK);
	assert_int_equal(conn.out.cap, 0);
	buf_fini(&b);
}

static void a_queue_without_memory_ends_its_connection_alone(void **state)
{
	enum { N = 4 << 20 };
	char *bytes = xcalloc(1, N);

	(void)state;
	mem_pretend_limit(1 << 20);
	assert_int_equal(conn_write(&conn, bytes, N), -1);
	mem_pretend_limit(0);
	free(bytes);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, up, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_fits_is_sent_at_once),
		TEST(bytes_keep_their_order),
		TEST(a_queue_that_never_empties_stays_small),
		TEST(reading_can_be_put_off),
		TEST(an_end_comes_after_the_last_byte),
		TEST(half_an_end),
		TEST(a_reset),
		TEST(a_peer_that_goes_while_output_waits),
		TEST(closing_within_a_callback),
		TEST(connecting),
		TEST(small_messages_wait_for_the_turns_end),
		TEST(pieces_of_several),
		TEST(the_outbox_is_bounded),
		TEST(a_peer_that_went_before_the_turns_end),
		TEST(nothing_is_left_in_the_socket),
		TEST(bytes_then_a_reset),
		TEST(buffers_are_taken_over),
		TEST(a_queue_without_memory_ends_its_connection_alone),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
