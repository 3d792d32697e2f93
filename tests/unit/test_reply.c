/* SPDX-License-Identifier: Apache-2.0
 *
 * Packets as MariaDB 10.11 sends them, byte by byte; what is built is read back the same; no length of a packet is read
 * beyond its end (copies of exactly that size, so that the sanitizer sees it).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/mem.h"
#include "mysql/reply.h"

#define BYTES(s) slice_of(s, sizeof(s) - 1)

static void assert_slice(struct slice got, const char *want, size_t n)
{
	assert_int_equal(got.n, n);
	if (n > 0)
		assert_memory_equal(got.p, want, n);
}
#define assert_text(got, want) assert_slice(got, want, sizeof(want) - 1)

/* Checks the header of the only packet in b; returns its payload. */
static struct slice payload_of(const struct buf *b, unsigned seq)
{
	assert_true(b->len >= PACKET_HEADER);
	assert_int_equal(get_u24(b->data), b->len - PACKET_HEADER);
	assert_int_equal(b->data[3], seq);
	return slice_of(b->data + PACKET_HEADER, b->len - PACKET_HEADER);
}

/* An OK packet after an insert: 1 row, insert_id 300, autocommit, 2 warnings. */
static const char plain_ok[] = "\x00\x01\xfc\x2c\x01\x02\x00\x02\x00";
/* The same with a text, and with the schema and a variable that changed. */
static const char tracked_ok[] = "\x00\x01\xfc\x2c\x01\x02\x40\x02\x00"
				 "\x04info"
				 "\x1b\x01\x04\x03"
				 "app\x00\x13\x09"
				 "time_zone\x08"
				 "new_zone";

static void ok_of_an_insert(void **state)
{
	struct ok_packet ok;

	(void)state;
	for (int tracked = 0; tracked < 2; tracked++) {
		assert_int_equal(ok_parse(BYTES(plain_ok), tracked, &ok), 0);
		assert_int_equal(ok.affected, 1);
		assert_int_equal(ok.insert_id, 300);
		assert_int_equal(ok.status, STATUS_AUTOCOMMIT);
		assert_int_equal(ok.warnings, 2);
		assert_int_equal(ok.info.n, 0);
		assert_int_equal(ok.state.n, 0);
	}
}

static void ok_with_changes(void **state)
{
	struct ok_packet ok;
	struct track t;

	(void)state;
	assert_int_equal(ok_parse(BYTES(tracked_ok), true, &ok), 0);
	assert_int_equal(ok.status, STATUS_AUTOCOMMIT | STATUS_STATE_CHANGED);
	assert_text(ok.info, "info");
	assert_int_equal(track_next(&ok.state, &t), 1);
	assert_int_equal(t.type, TRACK_SCHEMA);
	assert_text(t.value, "app");
	assert_int_equal(track_next(&ok.state, &t), 1);
	assert_int_equal(t.type, TRACK_SYSTEM_VARIABLES);
	assert_text(t.name, "time_zone");
	assert_text(t.value, "new_zone");
	assert_int_equal(track_next(&ok.state, &t), 0);
}

/* Changes are there only when the status says so, even if bytes follow. */
static void changes_need_their_flag(void **state)
{
	char quiet[sizeof tracked_ok];
	struct ok_packet ok;

	(void)state;
	memcpy(quiet, tracked_ok, sizeof quiet);
	quiet[6] = 0;
	assert_int_equal(ok_parse(BYTES(quiet), true, &ok), 0);
	assert_text(ok.info, "info");
	assert_int_equal(ok.state.n, 0);
}

/* Which lengths are whole: without text, with it, and with the changes. Every other one is malformed. */
static void ok_cut_anywhere(void **state)
{
	struct ok_packet ok;
	struct track t;

	(void)state;
	for (size_t n = 0; n < sizeof tracked_ok; n++) {
		uint8_t *exact = xmalloc(n);
		memcpy(exact, tracked_ok, n);
		bool whole = n == 9 || n == 14 || n == sizeof tracked_ok - 1;
		assert_int_equal(ok_parse(slice_of(exact, n), true, &ok), whole ? 0 : -1);
		assert_int_equal(ok_parse(slice_of(exact, n), false, &ok), n >= 9 ? 0 : -1);
		free(exact);
	}
	static const char changes[] = "\x01\x04\x03"
				      "app\x02\x01\x31\x00\x06\x01"
				      "a\x03"
				      "bcd";
	for (size_t n = 0; n < sizeof changes; n++) {
		uint8_t *exact = xmalloc(n);
		memcpy(exact, changes, n);
		struct slice rest = slice_of(exact, n);
		int last, entries = 0;
		while ((last = track_next(&rest, &t)) > 0)
			entries++;
		assert_int_equal(entries, n < 6 ? 0 : n < 9 ? 1 : n < 17 ? 2 : 3);
		assert_int_equal(last, n == 0 || n == 6 || n == 9 || n == 17 ? 0 : -1);
		free(exact);
	}
}

/* A value that is longer than its entry does not reach into the next one. */
static void entries_stay_within_themselves(void **state)
{
	struct slice lies[] = {BYTES("\x01\x02\x05xabcdef"), BYTES("\x00\x04\x01x\x09yabcdefghij"),
			       BYTES("\x05\x00\x01z")};
	struct track t;

	(void)state;
	for (unsigned i = 0; i < sizeof lies / sizeof *lies; i++)
		assert_int_equal(track_next(&lies[i], &t), -1);
}

static void unknown_changes_come_as_they_are(void **state)
{
	struct slice rest = BYTES("\x2a\x03xyz\x02\x01\x31");
	struct track t;

	(void)state;
	assert_int_equal(track_next(&rest, &t), 1);
	assert_int_equal(t.type, 0x2a);
	assert_text(t.value, "xyz");
	assert_int_equal(track_next(&rest, &t), 1);
	assert_int_equal(t.type, TRACK_STATE_CHANGE);
	assert_text(t.value, "1");
	assert_int_equal(track_next(&rest, &t), 0);
}

static void changes_are_read_as_built(void **state)
{
	char *longest = xmalloc(70000);
	static const size_t lengths[] = {0, 1, 250, 251, 255, 256, 65535, 65536, 70000};

	(void)state;
	memset(longest, 'v', 70000);
	for (unsigned type = 0; type <= TRACK_TRANSACTION_STATE; type++)
		for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
			struct track in = {.type = (uint8_t)type, .value = slice_of(longest, lengths[i])}, t;
			if (type == TRACK_SYSTEM_VARIABLES)
				in.name = slice_str("a_variable");
			else if (type == TRACK_GTIDS)
				continue; /* MySQL's: read as it comes, never built */
			struct buf b = {0};
			track_build(&b, &in);
			struct slice rest = buf_slice(&b);
			assert_int_equal(track_next(&rest, &t), 1);
			assert_int_equal(t.type, type);
			assert_true(slice_eq(t.name, in.name));
			assert_true(slice_eq(t.value, in.value));
			assert_int_equal(rest.n, 0);
			buf_fini(&b);
		}
	free(longest);
}

static void ok_is_read_as_built(void **state)
{
	static const uint64_t numbers[] = {0, 250, 251, 65535, 65536, 0xffffff, 0x1000000, UINT64_MAX};
	static const char changes[] = "\x01\x04\x03"
				      "app";
	struct ok_packet got;

	(void)state;
	for (unsigned i = 0; i < 8 * 8 * 4; i++) {
		struct ok_packet in = {.affected = numbers[i % 8],
				       .insert_id = numbers[i / 8 % 8],
				       .status = STATUS_IN_TRANS | STATUS_STATE_CHANGED,
				       .warnings = 65535};
		bool text = i / 64 & 1, told = i / 128 & 1;
		in.info = text ? slice_str("Rows matched: 1") : slice_of(NULL, 0);
		in.state = told ? BYTES(changes) : slice_of(NULL, 0);
		for (int tracked = 0; tracked < 2; tracked++) {
			struct buf b = {0};
			reply_ok(&b, 7, tracked ? CAP_SESSION_TRACK : 0, 0xfe, &in);
			struct slice payload = payload_of(&b, 7);
			assert_int_equal(payload.p[0], 0xfe);
			assert_int_equal(ok_parse(payload, tracked, &got), 0);
			assert_true(got.affected == in.affected && got.insert_id == in.insert_id);
			assert_int_equal(got.warnings, 65535);
			assert_int_equal(got.status, tracked && told ? in.status : STATUS_IN_TRANS);
			if (tracked) {
				assert_true(slice_eq(got.info, in.info));
				assert_true(slice_eq(got.state, in.state));
			} else {
				assert_int_equal(got.info.n, text ? in.info.n + 1 : 0); /* MariaDB's length before it */
				assert_int_equal(got.state.n, 0);
			}
			buf_fini(&b);
		}
	}
}

static void errors_in_both_forms(void **state)
{
	struct err_packet e;

	(void)state;
	assert_int_equal(err_parse(BYTES("\xff\x7a\x04#42S02Table 'a.b' doesn't exist"), &e), 0);
	assert_int_equal(e.code, 1146);
	assert_string_equal(e.sqlstate, "42S02");
	assert_text(e.message, "Table 'a.b' doesn't exist");
	assert_int_equal(err_parse(BYTES("\xff\x10\x04Too many connections"), &e), 0); /* before the handshake */
	assert_int_equal(e.code, ER_CON_COUNT_ERROR);
	assert_string_equal(e.sqlstate, "HY000");
	assert_text(e.message, "Too many connections");
	assert_int_equal(err_parse(BYTES("\xff\x10\x04#0800"), &e), 0);
	assert_string_equal(e.sqlstate, "HY000");
	assert_text(e.message, "#0800");
}

static void errors_cut_anywhere(void **state)
{
	static const char whole[] = "\xff\x7a\x04#42S02No";
	struct err_packet e;

	(void)state;
	for (size_t n = 0; n < sizeof whole; n++) {
		uint8_t *exact = xmalloc(n);
		memcpy(exact, whole, n);
		assert_int_equal(err_parse(slice_of(exact, n), &e), n >= 3 ? 0 : -1);
		assert_string_equal(e.sqlstate, n >= 9 ? "42S02" : "HY000");
		free(exact);
	}
}

static void errors_are_read_as_built(void **state)
{
	char longest[2000];
	struct err_packet e;
	struct buf b = {0};

	(void)state;
	reply_err(&b, 255, ER_PARSE_ERROR, "42000", "near '%s' at line %d", "x", 3);
	assert_int_equal(err_parse(payload_of(&b, 255), &e), 0);
	assert_int_equal(e.code, ER_PARSE_ERROR);
	assert_string_equal(e.sqlstate, "42000");
	assert_text(e.message, "near 'x' at line 3");
	buf_clear(&b);
	memset(longest, 'x', sizeof longest - 1);
	longest[sizeof longest - 1] = '\0';
	reply_err(&b, 0, ER_UNKNOWN_ERROR, "HY000", "%s", longest);
	assert_int_equal(err_parse(payload_of(&b, 0), &e), 0);
	assert_slice(e.message, longest, 511); /* MYSQL_ERRMSG_SIZE */
	buf_clear(&b);
	reply_err(&b, 0, CR_SERVER_LOST, "HY000", "x"); /* a client library's codes never go out */
	assert_int_equal(err_parse(payload_of(&b, 0), &e), 0);
	assert_int_equal(e.code, ER_CONNECTION_KILLED);
	buf_clear(&b);
	reply_err(&b, 0, CR_CONN_HOST_ERROR, "HY000", "x");
	assert_int_equal(err_parse(payload_of(&b, 0), &e), 0);
	assert_int_equal(e.code, ER_SERVER_SHUTDOWN);
	assert_string_equal(e.sqlstate, "08S01");
	buf_fini(&b);
}

static void eof_says_status(void **state)
{
	struct buf b = {0};

	(void)state;
	reply_eof(&b, 3, 2, STATUS_AUTOCOMMIT);
	assert_slice(buf_slice(&b), "\x05\x00\x00\x03\xfe\x02\x00\x02\x00", 9);
	buf_fini(&b);
}

/* Takes the next packet off *rest. */
static struct slice next_packet(struct slice *rest, unsigned seq)
{
	struct reader r = reader_of(*rest);
	size_t n = rd_u24(&r);

	assert_int_equal(rd_u8(&r), seq);
	struct slice payload = rd_bytes(&r, n);
	assert_false(r.bad);
	*rest = rd_rest(&r);
	return payload;
}

static void a_result_set(void **state)
{
	static const char *const names[] = {"id", "name"};
	const struct slice rows[][2] = {{BYTES("1"), BYTES("")}, {BYTES("2"), {NULL, 0}}};

	(void)state;
	for (int deprecate = 0; deprecate < 2; deprecate++) {
		uint32_t caps = deprecate ? CAP_DEPRECATE_EOF : 0;
		unsigned seq = 1, at = 1;
		struct buf b = {0};
		reply_columns(&b, &seq, caps, STATUS_AUTOCOMMIT, names, 2);
		for (unsigned i = 0; i < 2; i++)
			reply_row(&b, &seq, rows[i], 2);
		reply_rows_end(&b, &seq, caps, STATUS_AUTOCOMMIT);
		struct slice rest = buf_slice(&b);
		assert_text(next_packet(&rest, at++), "\x02");
		for (unsigned i = 0; i < 2; i++) {
			struct slice column = next_packet(&rest, at++);
			struct reader r = reader_of(column);
			assert_text(rd_lenenc_bytes(&r), "def");
			for (unsigned k = 0; k < 3; k++)
				assert_int_equal(rd_lenenc_bytes(&r).n, 0);
			for (unsigned k = 0; k < 2; k++) {
				struct slice name = rd_lenenc_bytes(&r);
				assert_true(slice_ieq(name, names[i]));
			}
			assert_int_equal(rd_lenenc(&r), 12);
			assert_int_equal(rd_left(&r), 12);
		}
		if (!deprecate)
			assert_text(next_packet(&rest, at++), "\xfe\x00\x00\x02\x00");
		assert_text(next_packet(&rest, at++), "\x01"
						      "1\x00");
		assert_text(next_packet(&rest, at++), "\x01"
						      "2\xfb");
		if (deprecate)
			assert_text(next_packet(&rest, at++), "\xfe\x00\x00\x02\x00\x00\x00");
		else
			assert_text(next_packet(&rest, at++), "\xfe\x00\x00\x02\x00");
		assert_int_equal(rest.n, 0);
		assert_int_equal(at, seq);
		buf_fini(&b);
	}
}

static void codes_of_libraries_are_not_sent(void **state)
{
	static const unsigned codes[][2] = {{1999, 1999}, {2000, 1053}, {2013, 1927}, {2999, 1053}, {3024, 3024}};

	(void)state;
	for (unsigned i = 0; i < sizeof codes / sizeof *codes; i++) {
		struct buf b = {0};
		struct err_packet e;
		reply_err(&b, 1, codes[i][0], "HY000", "text");
		assert_int_equal(err_parse(payload_of(&b, 1), &e), 0);
		assert_int_equal(e.code, codes[i][1]);
		buf_fini(&b);
	}
}

/* What is put apart is put together again, around each border. */
static void packets_of_any_size(void **state)
{
	static const size_t sizes[] = {1,	       PACKET_MAX - 1,	   PACKET_MAX,	       PACKET_MAX + 1,
				       2 * PACKET_MAX, 2 * PACKET_MAX + 7, 3 * (size_t)PACKET_MAX - 1};

	(void)state;
	for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct buf b = {0};
		buf_put_str(&b, "before");
		size_t start = packet_begin(&b, 0), n = sizes[i], seen = 0;
		buf_reserve(&b, n);
		for (size_t k = 0; k < n; k++)
			b.data[b.len++] = (uint8_t)(k * 31 >> 3);
		packets_end(&b, start, 5);
		unsigned seq = 5;
		const uint8_t *p = b.data + start, *end = b.data + b.len;
		for (uint32_t len = PACKET_MAX; len == PACKET_MAX; p += PACKET_HEADER + len) {
			assert_true(p + PACKET_HEADER <= end);
			len = get_u24(p);
			assert_int_equal(p[3], seq++);
			for (uint32_t k = 0; k < len; k++, seen++)
				if (p[PACKET_HEADER + k] != (uint8_t)(seen * 31 >> 3))
					fail_msg("byte %zu of %zu", seen, n);
		}
		assert_ptr_equal(p, end);
		assert_int_equal(seen, n);
		assert_memory_equal(b.data, "before", 6);
		buf_fini(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ok_of_an_insert),
		cmocka_unit_test(ok_with_changes),
		cmocka_unit_test(changes_need_their_flag),
		cmocka_unit_test(ok_cut_anywhere),
		cmocka_unit_test(entries_stay_within_themselves),
		cmocka_unit_test(unknown_changes_come_as_they_are),
		cmocka_unit_test(changes_are_read_as_built),
		cmocka_unit_test(ok_is_read_as_built),
		cmocka_unit_test(errors_in_both_forms),
		cmocka_unit_test(errors_cut_anywhere),
		cmocka_unit_test(errors_are_read_as_built),
		cmocka_unit_test(eof_says_status),
		cmocka_unit_test(a_result_set),
		cmocka_unit_test(codes_of_libraries_are_not_sent),
		cmocka_unit_test(packets_of_any_size),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
