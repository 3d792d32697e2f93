/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "mysql/gtid.h"

static struct gtid_pos pos_of(const char *text)
{
	struct gtid_pos pos;

	assert_int_equal(gtid_pos_parse(slice_str(text), &pos), 0);
	return pos;
}

static void ids_are_parsed_exactly(void **state)
{
	static const char *const bad[] = {"", "-", "0", "0-1", "0-1-", "0-1-2-", "0-1-2 ", " 0-1-2", "0-1-2,", "+0-1-2",
					  "0--2", "x-1-2", "0-1-0x2", "4294967296-1-2", "0-4294967296-2",
					  "0-1-18446744073709551616", "0-1-2,0-1-3", "0-1-99999999999999999999999"};
	struct gtid g = {9, 9, 9};
	char text[GTID_TEXT];

	(void)state;
	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(gtid_parse(slice_str(bad[i]), &g), -1);
	assert_int_equal(g.seq, 9);
	assert_int_equal(gtid_parse(slice_str("4294967295-4294967295-18446744073709551615"), &g), 0);
	assert_true(g.domain == UINT32_MAX && g.server == UINT32_MAX && g.seq == UINT64_MAX);
	assert_string_equal(gtid_print(g, text), "4294967295-4294967295-18446744073709551615");
	assert_string_equal(gtid_print((struct gtid){0}, text), "");
}

static void positions_are_parsed_and_printed(void **state)
{
	static const char *const bad[] = {",",           "0-1-5,", ",0-1-5", "0-1-5,,1-1-1", "0-1-5 ,1-1-1",
					  "0-1-5;1-1-1", "nil"};
	struct gtid_pos pos = pos_of("");
	char text[64];

	(void)state;
	assert_int_equal(pos.n, 0);
	pos = pos_of("0-1-5,1-2-7,0-3-9");
	assert_int_equal(gtid_pos_print(&pos, text, sizeof text), 11);
	assert_string_equal(text, "0-3-9,1-2-7");
	assert_int_equal(gtid_pos_print(&pos, text, 11), 5); /* whole ids only */
	assert_string_equal(text, "0-3-9");
	assert_int_equal(gtid_pos_print(&pos, text, 0), 0);
	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(gtid_pos_parse(slice_str(bad[i]), &pos), -1);
}

static void covering_is_by_domain_and_sequence(void **state)
{
	struct gtid_pos pos = pos_of("0-1-5,1-2-7"), more = pos_of("0-3-6,1-1-7"), other = pos_of("2-1-1");
	struct gtid_pos empty = pos_of("");

	(void)state;
	assert_true(gtid_pos_covers(&pos, (struct gtid){0, 9, 5}));
	assert_false(gtid_pos_covers(&pos, (struct gtid){0, 1, 6}));
	assert_false(gtid_pos_covers(&pos, (struct gtid){2, 1, 1}));
	assert_true(gtid_pos_covers(&pos, (struct gtid){0}));
	assert_true(gtid_pos_covers_pos(&more, &pos));
	assert_false(gtid_pos_covers_pos(&pos, &more));
	assert_false(gtid_pos_covers_pos(&pos, &other));
	assert_true(gtid_pos_covers_pos(&empty, &empty));
	gtid_pos_add(&pos, (struct gtid){0, 8, 4});
	assert_int_equal(pos.id[0].seq, 5);
}

static void too_many_domains_cover_nothing(void **state)
{
	struct gtid_pos pos = {0}, small = pos_of("0-1-1");
	struct gtid_live live = {0};

	(void)state;
	for (uint32_t d = 0; d <= GTID_DOMAINS; d++)
		gtid_pos_add(&pos, (struct gtid){d, 1, 10});
	assert_true(pos.overflow);
	assert_false(gtid_pos_covers(&pos, small.id[0]));
	assert_false(gtid_pos_covers_pos(&pos, &small));
	assert_false(gtid_pos_covers_pos(&small, &pos));
	gtid_live_raise(&live, &small);
	gtid_live_raise(&live, &pos);
	assert_true(gtid_live_covers(&live, 0, 10));
	assert_false(gtid_live_covers(&live, GTID_DOMAINS, 1));
}

static void live_rises_and_is_reset(void **state)
{
	struct gtid_pos low = pos_of("0-1-5"), high = pos_of("0-1-9,3-1-2");
	struct gtid_live live = {0};

	(void)state;
	assert_false(gtid_live_covers(&live, 0, 1));
	gtid_live_raise(&live, &high);
	gtid_live_raise(&live, &low);
	assert_true(gtid_live_covers(&live, 0, 9));
	assert_false(gtid_live_covers(&live, 0, 10));
	assert_true(gtid_live_covers(&live, 3, 2));
	gtid_live_reset(&live);
	assert_false(gtid_live_covers(&live, 0, 1));
	gtid_live_raise(&live, &low);
	assert_true(gtid_live_covers(&live, 0, 5));
	assert_false(gtid_live_covers(&live, 3, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ids_are_parsed_exactly),
		cmocka_unit_test(positions_are_parsed_and_printed),
		cmocka_unit_test(covering_is_by_domain_and_sequence),
		cmocka_unit_test(too_many_domains_cover_nothing),
		cmocka_unit_test(live_rises_and_is_reset),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
