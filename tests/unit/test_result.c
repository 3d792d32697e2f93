/* SPDX-License-Identifier: Apache-2.0
 *
 * The reply tracker over recorded replies (tests/data/replies.tsv: its head tells the columns) and over what no honest
 * server sends. TEST_DATA names the folder when it is not run from the project's root.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "mysql/protocol.h"
#include "mysql/reply.h"
#include "mysql/result.h"

static const char letters[] = "OFXNcCerEPTL+!"; /* enum result_part */

struct recorded {
	char *name, *parts;
	enum result_shape shape;
	bool deprecate_eof;
	struct buf bytes;
};
static struct recorded *replies;
static unsigned nreplies;

static bool take_line(char *line)
{
	static const char *const shapes[] = {"query", "prepare", "fields", "text"};
	struct recorded r = {0};
	char *name = strsep(&line, "\t"), *shape = strsep(&line, "\t"), *eof = strsep(&line, "\t"),
	     *parts = strsep(&line, "\t");
	unsigned byte, s = 0;

	if (line == NULL)
		return false;
	while (s < 4 && strcmp(shape, shapes[s]) != 0)
		s++;
	r.shape = s;
	r.deprecate_eof = strcmp(eof, "ok") == 0;
	for (; sscanf(line, "%2x", &byte) == 1; line += 2)
		buf_put_u8(&r.bytes, byte);
	r.name = xstrdup(name);
	r.parts = xstrdup(parts);
	replies = xrealloc(replies, (nreplies + 1) * sizeof *replies);
	replies[nreplies++] = r;
	return s < 4;
}

static int load(void **state)
{
	const char *dir = getenv("TEST_DATA");
	char path[4096], *line = NULL;
	size_t cap = 0;
	bool good = true;

	(void)state;
	snprintf(path, sizeof path, "%s/replies.tsv", dir != NULL ? dir : "tests/data");
	FILE *f = fopen(path, "r");
	if (f == NULL)
		return -1;
	while (good && getline(&line, &cap, f) > 0)
		if (line[0] != '#')
			good = take_line(line);
	free(line);
	fclose(f);
	return good && nreplies > 0 ? 0 : -1;
}

static int unload(void **state)
{
	(void)state;
	for (unsigned i = 0; i < nreplies; i++) {
		free(replies[i].name);
		free(replies[i].parts);
		buf_fini(&replies[i].bytes);
	}
	free(replies);
	return 0;
}

/* The status of an OK or EOF, as whoever uses the tracker has to find it. */
static unsigned status_of(const struct result *r, enum result_part part, struct slice payload)
{
	struct ok_packet ok;

	if (part == RESULT_OK || ((part == RESULT_EOF || part == RESULT_ROWS_END) && r->deprecate_eof))
		return ok_parse(payload, false, &ok) == 0 ? ok.status : 0;
	return part == RESULT_EOF || part == RESULT_ROWS_END ? get_u16(payload.p + 3) : 0;
}

/* One packet; returns its part's letter, '!' also for a payload that is not taken. */
static char step(struct result *r, struct slice payload)
{
	enum result_part part = result_step(r, (uint32_t)payload.n, payload.n > 0 ? payload.p[0] : 0);

	if (result_wants_payload(part) && result_payload(r, part, payload, status_of(r, part, payload)) < 0)
		return '!';
	return letters[part];
}

static void recorded_replies(void **state)
{
	(void)state;
	for (unsigned i = 0; i < nreplies; i++) {
		const struct recorded *rec = &replies[i];
		struct reader in = reader_of(buf_slice(&rec->bytes));
		char got[64] = "";
		struct result r;
		unsigned rows = 0;
		result_init(&r, rec->shape, rec->deprecate_eof);
		for (size_t n = 0; rd_left(&in) > 0 && n < sizeof got - 1; n++) {
			if (r.done)
				fail_msg("%s: ended after %s, expected %s", rec->name, got, rec->parts);
			size_t len = rd_u24(&in);
			rd_u8(&in);
			got[n] = step(&r, rd_bytes(&in, len));
			rows += got[n] == 'r';
			assert_int_equal(r.rows, rows);
		}
		assert_false(in.bad);
		if (strcmp(got, rec->parts) != 0)
			fail_msg("%s: %s, expected %s", rec->name, got, rec->parts);
		if (!r.done && strcmp(rec->parts, "L") != 0)
			fail_msg("%s: not ended after %s", rec->name, got);
	}
}

static struct slice packet(const char *bytes, size_t n)
{
	return slice_of(bytes, n);
}
#define PACKET(s) packet(s, sizeof(s) - 1)

/* A tracker in the rows of a result with one column. */
static void go_to_rows(struct result *r, bool deprecate_eof)
{
	result_init(r, RESULT_SHAPE_QUERY, deprecate_eof);
	assert_false(result_in_rows(r));
	assert_int_equal(step(r, PACKET("\x01")), 'N');
	assert_int_equal(step(r, PACKET("\x03"
					"def")),
			 'C');
	if (!deprecate_eof) {
		assert_false(result_in_rows(r));
		assert_int_equal(step(r, PACKET("\xfe\0\0\2\0")), 'e');
	}
	assert_true(result_in_rows(r));
}

/* Only the first bytes of a large packet are looked at, so it need not be there. */
static void rows_of_16_megabytes(void **state)
{
	static const uint8_t firsts[] = {0, 1, 0xfb, 0xfd, 0xfe};
	struct result r;

	(void)state;
	for (unsigned i = 0; i < sizeof firsts; i++) {
		go_to_rows(&r, i & 1);
		assert_int_equal(result_step(&r, PACKET_MAX, firsts[i]), RESULT_ROW);
		assert_true(result_in_rows(&r));
		assert_int_equal(result_step(&r, PACKET_MAX, 0xff), RESULT_MORE); /* not an error */
		assert_int_equal(result_step(&r, 5, 0xfe), RESULT_MORE);          /* not an end */
		assert_int_equal(result_step(&r, PACKET_MAX, 0), RESULT_ROW);
		assert_int_equal(result_step(&r, 0, 0), RESULT_MORE); /* exactly 16 MB - 1: an empty packet ends it */
		assert_int_equal(r.rows, 2);
		assert_false(r.done);
		assert_int_equal(step(&r, PACKET("\xfe\0\0\2\0\0\0")), 'E');
		assert_true(r.done);
	}
}

static void only_rows_are_large(void **state)
{
	static const enum result_shape shapes[] = {RESULT_SHAPE_QUERY, RESULT_SHAPE_PREPARE, RESULT_SHAPE_FIELDS,
						   RESULT_SHAPE_TEXT};
	struct result r;

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		result_init(&r, shapes[i], i & 1);
		assert_int_equal(result_step(&r, PACKET_MAX, 1), RESULT_MALFORMED);
	}
	result_init(&r, RESULT_SHAPE_QUERY, false);
	assert_int_equal(step(&r, PACKET("\x01")), 'N');
	assert_int_equal(result_step(&r, PACKET_MAX, 3), RESULT_MALFORMED);
}

/* Columns in numbers that cannot be. */
static void column_counts(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
		char want;
	} counts[] = {{"\xfc\xff\xff", 3, 'N'}, {"\xfc\0\0", 3, '!'}, {"\xfc\x01", 2, '!'},
		      {"\xfd\0\0\1", 4, '!'},   {"\xfa", 1, 'N'},     {"\xfd\xff\xff", 3, '!'}};
	struct result r;

	(void)state;
	for (unsigned i = 0; i < sizeof counts / sizeof *counts; i++) {
		result_init(&r, RESULT_SHAPE_QUERY, true);
		assert_int_equal(step(&r, packet(counts[i].bytes, counts[i].n)), counts[i].want);
		assert_false(r.done);
	}
	result_init(&r, RESULT_SHAPE_QUERY, true);
	assert_int_equal(step(&r, PACKET("\xfc\xff\xff")), 'N');
	for (unsigned i = 1; i < 0xffff; i++)
		assert_int_equal(result_step(&r, 20, 3), RESULT_COLUMN);
	assert_int_equal(result_step(&r, 20, 3), RESULT_COLUMN_LAST);
}

static void prepared_with_many_parts(void **state)
{
	struct result r;

	(void)state;
	result_init(&r, RESULT_SHAPE_PREPARE, true);
	assert_int_equal(step(&r, PACKET("\0\1\0\0\0\xff\xff\xff\xff\0\0\0")), 'P');
	for (unsigned block = 0; block < 2; block++) {
		for (unsigned i = 1; i < 0xffff; i++)
			assert_int_equal(result_step(&r, 20, 3), RESULT_COLUMN);
		assert_false(r.done);
		assert_int_equal(result_step(&r, 20, 3), RESULT_COLUMN_LAST);
	}
	assert_true(r.done);
	for (size_t n = 1; n < 9; n++) {
		uint8_t *exact = xcalloc(n, 1);
		result_init(&r, RESULT_SHAPE_PREPARE, false);
		assert_int_equal(step(&r, slice_of(exact, n)), '!');
		free(exact);
	}
	result_init(&r, RESULT_SHAPE_PREPARE, false);
	assert_int_equal(step(&r, PACKET("\xfe\0\0\2\0")), '!');
}

static void errors_end_everything(void **state)
{
	static const char error[] = "\xff\x28\x04#42000x";
	struct result r;

	(void)state;
	for (int deprecate = 0; deprecate < 2; deprecate++) {
		for (int shape = RESULT_SHAPE_QUERY; shape <= RESULT_SHAPE_TEXT; shape++) {
			result_init(&r, (enum result_shape)shape, deprecate);
			assert_int_equal(step(&r, PACKET(error)), 'X');
			assert_true(r.done);
		}
		result_init(&r, RESULT_SHAPE_QUERY, deprecate);
		assert_int_equal(step(&r, PACKET("\x02")), 'N');
		assert_int_equal(step(&r, PACKET(error)), 'X'); /* in place of a column */
		assert_true(r.done);
		go_to_rows(&r, deprecate);
		assert_int_equal(step(&r, PACKET(error)), 'X');
		assert_true(r.done);
		assert_int_equal(step(&r, PACKET("\x01")), '!'); /* nothing may follow */
	}
	result_init(&r, RESULT_SHAPE_QUERY, false);
	step(&r, PACKET("\x01"));
	step(&r, PACKET("\x03"
			"def"));
	assert_int_equal(step(&r, PACKET(error)), 'X'); /* in place of the EOF after columns */
	assert_true(r.done);
}

static void what_no_server_sends(void **state)
{
	struct result r;

	(void)state;
	for (int shape = RESULT_SHAPE_QUERY; shape <= RESULT_SHAPE_TEXT; shape++) {
		if (shape == RESULT_SHAPE_FIELDS)
			continue;
		result_init(&r, (enum result_shape)shape, true);
		assert_int_equal(step(&r, PACKET("")), '!');
	}
	result_init(&r, RESULT_SHAPE_QUERY, false);
	step(&r, PACKET("\x01"));
	step(&r, PACKET("\x03"
			"def"));
	assert_int_equal(step(&r, PACKET("\x01x")), '!'); /* a row without the EOF before it */
	result_init(&r, RESULT_SHAPE_QUERY, false);
	assert_int_equal(step(&r, PACKET("\0\0\0\2\0\0\0")), 'O');
	assert_true(r.done);
	assert_int_equal(step(&r, PACKET("\0\0\0\2\0\0\0")), '!');
}

/* More results follow as long as a status says so: an OK in between ends nothing. */
static void one_after_another(void **state)
{
	struct result r;

	(void)state;
	go_to_rows(&r, true);
	assert_int_equal(step(&r, PACKET("\1x")), 'r');
	for (unsigned i = 0; i < 1000; i++) {
		assert_int_equal(step(&r, PACKET("\xfe\0\0\x0a\0\0\0")), i == 0 ? 'E' : 'F');
		assert_false(r.done || result_in_rows(&r));
		assert_int_equal(step(&r, PACKET("\0\0\0\x0a\0\0\0")), 'O');
		assert_false(r.done);
	}
	assert_int_equal(r.rows, 1);
	assert_int_equal(step(&r, PACKET("\0\0\0\2\0\0\0")), 'O');
	assert_true(r.done);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(recorded_replies),         cmocka_unit_test(rows_of_16_megabytes),
		cmocka_unit_test(only_rows_are_large),      cmocka_unit_test(column_counts),
		cmocka_unit_test(prepared_with_many_parts), cmocka_unit_test(errors_end_everything),
		cmocka_unit_test(what_no_server_sends),     cmocka_unit_test(one_after_another),
	};
	return cmocka_run_group_tests(tests, load, unload);
}
