/* SPDX-License-Identifier: Apache-2.0
 *
 * The connection phase: packets of real peers, build and parse as inverses, and every packet cut at every length on
 * copies of exactly that size.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/mem.h"
#include "mysql/handshake.h"

#define BYTES(s) slice_of(s, sizeof(s) - 1)

static const uint8_t salt[AUTH_SALT] = "abcdefghijklmnopqrs"; /* its NUL is a salt byte: readers must not stop at one */
static const uint32_t usual_caps = CAP_PROTOCOL_41 | CAP_SECURE_CONNECTION | CAP_PLUGIN_AUTH;

static void assert_text(struct slice got, const char *want)
{
	assert_int_equal(got.n, strlen(want));
	if (got.n > 0)
		assert_memory_equal(got.p, want, got.n);
}

static struct slice payload_of(const struct buf *b, unsigned seq)
{
	assert_true(b->len >= PACKET_HEADER);
	assert_int_equal(get_u24(b->data), b->len - PACKET_HEADER);
	assert_int_equal(b->data[3], seq);
	return slice_of(b->data + PACKET_HEADER, b->len - PACKET_HEADER);
}

/* MariaDB 10.11.6: thread 5, caps 0x81bff7fe, extended caps 0x1d, utf8mb4_general_ci, autocommit. */
static const char mariadb[] = "\x0a"
			      "5.5.5-10.11.6-MariaDB-0+deb12u1\x00\x05\x00\x00\x00"
			      "abcdefgh\x00\xfe\xf7\x2d\x02\x00\xff\x81\x15\x00\x00\x00\x00\x00\x00\x1d\x00\x00\x00"
			      "ijklmnopqrs\x00\x00mysql_native_password\x00";

static void greeting_of_mariadb(void **state)
{
	struct greeting g;

	(void)state;
	assert_int_equal(greeting_parse(BYTES(mariadb), &g), 0);
	assert_text(g.version, "10.11.6-MariaDB-0+deb12u1");
	assert_int_equal(g.thread_id, 5);
	assert_memory_equal(g.salt, salt, AUTH_SALT);
	assert_int_equal(g.caps, 0x81fff7fe);
	assert_int_equal(g.xcaps, 0x1d);
	assert_int_equal(g.collation, 45);
	assert_int_equal(g.status, STATUS_AUTOCOMMIT);
	assert_text(g.plugin, NATIVE_PLUGIN);
}

/* MySQL says CAP_MYSQL: the four bytes are not MariaDB's capabilities, whatever they hold. */
static void only_mariadb_has_extended_caps(void **state)
{
	struct greeting in = {.version = slice_str("8.0.36"),
			      .caps = usual_caps | CAP_MYSQL,
			      .xcaps = 0x1d,
			      .plugin = slice_str("p")},
			g;
	struct login lin = {.caps = usual_caps | CAP_MYSQL, .xcaps = XCAP_EXTENDED_METADATA}, l;
	struct buf b = {0};

	(void)state;
	greeting_build(&b, 0, &in);
	assert_int_equal(greeting_parse(payload_of(&b, 0), &g), 0);
	assert_int_equal(g.xcaps, 0);
	assert_text(g.version, "8.0.36");
	buf_clear(&b);
	login_build(&b, 1, &lin);
	memcpy(b.data + PACKET_HEADER + 28, "\xff\xff\xff\xff", 4); /* the filler, from a careless client */
	assert_int_equal(login_parse(payload_of(&b, 1), &l), 0);
	assert_int_equal(l.xcaps, 0);
	buf_clear(&b);
	lin.caps &= ~(uint32_t)CAP_MYSQL;
	login_build(&b, 1, &lin);
	assert_int_equal(login_parse(payload_of(&b, 1), &l), 0);
	assert_int_equal(l.xcaps, XCAP_EXTENDED_METADATA);
	buf_fini(&b);
}

static void greeting_is_read_as_built(void **state)
{
	struct greeting in = {.version = slice_str("11.4.2-MariaDB"),
			      .thread_id = 0xfedcba98,
			      .caps = 0x81fff7fe,
			      .xcaps = 0x8000001d,
			      .collation = 0xe0,
			      .status = 0x4002,
			      .plugin = slice_str(NATIVE_PLUGIN)},
			g;
	struct buf b = {0};

	(void)state;
	memcpy(in.salt, salt, AUTH_SALT);
	greeting_build(&b, 9, &in);
	assert_int_equal(greeting_parse(payload_of(&b, 9), &g), 0);
	assert_true(slice_eq(g.version, in.version) && slice_eq(g.plugin, in.plugin));
	assert_memory_equal(g.salt, in.salt, AUTH_SALT);
	assert_true(g.thread_id == in.thread_id && g.caps == in.caps && g.xcaps == in.xcaps);
	assert_true(g.collation == in.collation && g.status == in.status);
	buf_fini(&b);
}

static void greetings_of_others_are_refused(void **state)
{
	struct greeting g;

	(void)state;
	assert_int_equal(greeting_parse(BYTES("\x09"
					      "3.20.0\x00\x01\x00\x00\x00"
					      "abcdefgh\x00"),
					&g),
			 -1);
	assert_int_equal(greeting_parse(BYTES("\xff\x10\x04Too many connections"), &g), -1);
	assert_int_equal(greeting_parse(BYTES("HTTP/1.1 400 Bad Request\r\n\r\n"), &g), -1);
	assert_int_equal(greeting_parse(BYTES(""), &g), -1);
}

/* Whole up to the salt; what may follow it is taken as far as it goes, also a plugin's name without its NUL. */
static void greeting_cut_anywhere(void **state)
{
	size_t salt_end = sizeof mariadb - 1 - sizeof NATIVE_PLUGIN - 1;
	struct greeting g;

	(void)state;
	for (size_t n = 0; n < sizeof mariadb; n++) {
		uint8_t *exact = xmalloc(n);
		memcpy(exact, mariadb, n);
		assert_int_equal(greeting_parse(slice_of(exact, n), &g), n >= salt_end ? 0 : -1);
		if (n > salt_end)
			assert_int_equal(g.plugin.n, n == sizeof mariadb - 1 ? n - salt_end - 2 : n - salt_end - 1);
		free(exact);
	}
}

static const uint32_t tail_caps[] = {CAP_CONNECT_WITH_DB, CAP_PLUGIN_AUTH, CAP_CONNECT_ATTRS, CAP_PLUGIN_AUTH_LENENC};

static struct login full_login(unsigned combination)
{
	struct login l = {.caps = CAP_PROTOCOL_41 | CAP_SECURE_CONNECTION,
			  .xcaps = XCAP_EXTENDED_METADATA,
			  .max_packet = 0x1000000,
			  .collation = 0xe0,
			  .user = slice_str("app"),
			  .answer = slice_of(salt, combination & 16 ? 0 : AUTH_SHA1)};

	for (unsigned i = 0; i < 4; i++)
		if (combination >> i & 1)
			l.caps |= tail_caps[i];
	if (l.caps & CAP_CONNECT_WITH_DB)
		l.db = slice_str("shop");
	if (l.caps & CAP_PLUGIN_AUTH)
		l.plugin = slice_str(NATIVE_PLUGIN);
	if (l.caps & CAP_CONNECT_ATTRS)
		l.attributes = BYTES("\x04_pid\x03"
				     "123");
	return l;
}

static bool logins_equal(const struct login *a, const struct login *b)
{
	return a->caps == b->caps && a->xcaps == b->xcaps && a->max_packet == b->max_packet &&
	       a->collation == b->collation && slice_eq(a->user, b->user) && slice_eq(a->answer, b->answer) &&
	       slice_eq(a->db, b->db) && slice_eq(a->plugin, b->plugin) && slice_eq(a->attributes, b->attributes) &&
	       a->ssl_request == b->ssl_request;
}

static void login_is_read_as_built(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 32; i++) {
		struct login in = full_login(i), l;
		struct buf b = {0};
		login_build(&b, 1, &in);
		assert_int_equal(login_parse(payload_of(&b, 1), &l), 0);
		if (!logins_equal(&in, &l))
			fail_msg("combination %u comes back otherwise", i);
		buf_fini(&b);
	}
}

/* A login may end after any of the parts behind the answer (clients leave them out), but not within one. */
static void login_cut_anywhere(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 32; i++) {
		struct login in = full_login(i), l;
		struct buf b = {0};
		login_build(&b, 1, &in);
		struct slice whole = payload_of(&b, 1);
		size_t at = 32 + in.user.n + 1 + 1 + in.answer.n, ends[4] = {at, at, at, at};
		ends[1] = at += in.caps & CAP_CONNECT_WITH_DB ? in.db.n + 1 : 0;
		ends[2] = at += in.caps & CAP_PLUGIN_AUTH ? in.plugin.n + 1 : 0;
		ends[3] = at += in.caps & CAP_CONNECT_ATTRS ? in.attributes.n + 1 : 0;
		assert_int_equal(at, whole.n);
		for (size_t n = 0; n <= whole.n; n++) {
			uint8_t *exact = xmalloc(n);
			memcpy(exact, whole.p, n);
			bool end = n == ends[0] || n == ends[1] || n == ends[2] || n == ends[3];
			if (login_parse(slice_of(exact, n), &l) != (end ? 0 : -1))
				fail_msg("combination %u, %zu of %zu bytes", i, n, whole.n);
			free(exact);
		}
		buf_fini(&b);
	}
}

/* The answer's length in its three spellings: a byte, length-encoded, or a NUL behind it. */
static void answers_in_all_spellings(void **state)
{
	static const char head[] = "\x00\x00\x00\x01\x21\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0u";
	uint8_t longest[300];
	struct login l;
	struct buf b = {0};

	(void)state;
	memset(longest, 'a', sizeof longest);
	buf_put_u32(&b, CAP_PROTOCOL_41 | CAP_PLUGIN_AUTH_LENENC | CAP_SECURE_CONNECTION);
	buf_put(&b, head, sizeof head);
	buf_put_lenenc_bytes(&b, slice_of(longest, sizeof longest));
	assert_int_equal(login_parse(buf_slice(&b), &l), 0);
	assert_text(l.user, "u");
	assert_true(slice_eq(l.answer, slice_of(longest, sizeof longest)));
	buf_clear(&b);
	buf_put_u32(&b, CAP_PROTOCOL_41 | CAP_CONNECT_WITH_DB);
	buf_put(&b, head, sizeof head);
	buf_put(&b, "answer\0db", sizeof "answer\0db");
	assert_int_equal(login_parse(buf_slice(&b), &l), 0);
	assert_text(l.answer, "answer");
	assert_text(l.db, "db");
	buf_clear(&b);
	buf_put_u32(&b, CAP_PROTOCOL_41 | CAP_PLUGIN_AUTH_LENENC);
	buf_put(&b, head, sizeof head);
	buf_put(&b, "\xfe\xff\xff\xff\xff\xff\xff\xff\xff", 9); /* 2^64 - 1 bytes */
	assert_int_equal(login_parse(buf_slice(&b), &l), -1);
	buf_fini(&b);
}

static void the_short_form_asks_for_tls(void **state)
{
	struct login in = {.caps = usual_caps | CAP_SSL,
			   .max_packet = 1 << 24,
			   .collation = 45,
			   .user = slice_str("app")},
		     l;
	struct buf b = {0};

	(void)state;
	login_build(&b, 1, &in);
	assert_int_equal(login_parse(slice_of(b.data + PACKET_HEADER, 32), &l), 0);
	assert_true(l.ssl_request);
	assert_int_equal(l.collation, 45);
	assert_int_equal(l.user.n, 0);
	assert_int_equal(login_parse(payload_of(&b, 1), &l), 0); /* the whole one, as it follows within TLS */
	assert_false(l.ssl_request);
	assert_text(l.user, "app");
	put_u32(b.data + PACKET_HEADER, usual_caps); /* short, but it does not ask */
	assert_int_equal(login_parse(slice_of(b.data + PACKET_HEADER, 32), &l), -1);
	buf_fini(&b);
}

static void the_protocol_before_41_is_refused(void **state)
{
	struct login in = full_login(15), l;
	struct buf b = {0};

	(void)state;
	in.caps &= ~(uint32_t)CAP_PROTOCOL_41;
	login_build(&b, 1, &in);
	assert_int_equal(login_parse(payload_of(&b, 1), &l), -1);
	buf_fini(&b);
}

static const char change_user[] = "\x11"
				  "app\x00\x14"
				  "abcdefghijklmnopqrst"
				  "shop\x00\xe0\x01"
				  "mysql_native_password\x00\x09\x04_pid\x03"
				  "123";

static void change_user_as_clients_send_it(void **state)
{
	struct login l;

	(void)state;
	assert_int_equal(change_user_parse(BYTES(change_user), usual_caps | CAP_CONNECT_ATTRS, &l), 0);
	assert_text(l.user, "app");
	assert_text(l.answer, "abcdefghijklmnopqrst");
	assert_text(l.db, "shop"); /* there without CAP_CONNECT_WITH_DB, too */
	assert_int_equal(l.collation, 0x1e0);
	assert_text(l.plugin, NATIVE_PLUGIN);
	assert_int_equal(l.attributes.n, 9);
	assert_int_equal(l.caps, usual_caps | CAP_CONNECT_ATTRS);
	assert_int_equal(change_user_parse(BYTES("\x11u\x00secret\x00\x00"), CAP_PROTOCOL_41, &l), 0);
	assert_text(l.answer, "secret");
	assert_int_equal(l.db.n, 0);
	assert_int_equal(l.collation, 0);
}

static void change_user_cut_anywhere(void **state)
{
	enum { ANSWER_END = 26, DB_END = 31, COLLATION_END = 33, PLUGIN_END = 55, WHOLE = 65 };
	struct login l;

	(void)state;
	assert_int_equal(sizeof change_user - 1, WHOLE);
	for (size_t n = 0; n <= WHOLE; n++) {
		uint8_t *exact = xmalloc(n);
		memcpy(exact, change_user, n);
		bool whole = n == ANSWER_END || n == DB_END || n == COLLATION_END || n == PLUGIN_END || n == WHOLE;
		if (change_user_parse(slice_of(exact, n), usual_caps | CAP_CONNECT_ATTRS, &l) != (whole ? 0 : -1))
			fail_msg("%zu bytes", n);
		free(exact);
	}
}

static void auth_switch_in_both_forms(void **state)
{
	struct slice plugin, data;
	struct buf b = {0};

	(void)state;
	auth_switch_build(&b, 2, NATIVE_PLUGIN, salt);
	struct slice whole = payload_of(&b, 2);
	assert_int_equal(auth_switch_parse(whole, &plugin, &data), 0);
	assert_text(plugin, NATIVE_PLUGIN);
	assert_int_equal(data.n, AUTH_SALT + 1);
	assert_memory_equal(data.p, salt, AUTH_SALT);
	for (size_t n = 0; n < whole.n; n++) {
		uint8_t *exact = xmalloc(n);
		memcpy(exact, whole.p, n);
		bool ok = n == 1 || n >= 1 + sizeof NATIVE_PLUGIN; /* 0xfe alone is the old form */
		assert_int_equal(auth_switch_parse(slice_of(exact, n), &plugin, &data), ok ? 0 : -1);
		free(exact);
	}
	assert_int_equal(auth_switch_parse(BYTES("\xfe"), &plugin, &data), 0);
	assert_true(plugin.n == 0 && data.n == 0);
	assert_int_equal(auth_switch_parse(BYTES("\x00mysql_native_password\x00"), &plugin, &data), -1);
	buf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(greeting_of_mariadb),
		cmocka_unit_test(only_mariadb_has_extended_caps),
		cmocka_unit_test(greeting_is_read_as_built),
		cmocka_unit_test(greetings_of_others_are_refused),
		cmocka_unit_test(greeting_cut_anywhere),
		cmocka_unit_test(login_is_read_as_built),
		cmocka_unit_test(login_cut_anywhere),
		cmocka_unit_test(answers_in_all_spellings),
		cmocka_unit_test(the_short_form_asks_for_tls),
		cmocka_unit_test(the_protocol_before_41_is_refused),
		cmocka_unit_test(change_user_as_clients_send_it),
		cmocka_unit_test(change_user_cut_anywhere),
		cmocka_unit_test(auth_switch_in_both_forms),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
