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
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
