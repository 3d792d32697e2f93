/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/slice.h"

static void compares(void **state)
{
	(void)state;
	assert_true(slice_eq(slice_str("abc"), slice_of("abcd", 3)));
	assert_false(slice_eq(slice_str("abc"), slice_str("abd")));
	assert_false(slice_eq(slice_str("abc"), slice_str("ab")));
	assert_true(slice_eq((struct slice){0}, slice_str("")));
	assert_true(slice_ieq(slice_str("SeLeCt"), "select"));
	assert_false(slice_ieq(slice_str("selec"), "select"));
	assert_false(slice_ieq(slice_str("select"), "selec"));
	assert_true(slice_ieq(slice_of(NULL, 0), ""));
}

static void integers_are_little_endian(void **state)
{
	const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 0x88};
	uint8_t out[4];

	(void)state;
	assert_int_equal(get_u16(bytes), 0x0201);
	assert_int_equal(get_u24(bytes), 0x030201);
	assert_int_equal(get_u32(bytes), 0x04030201);
	assert_true(get_u64(bytes) == 0x8807060504030201u);
	assert_true(get_u32(bytes + 4) == 0x88070605u);
	put_u16(out, 0xabcd);
	assert_memory_equal(out, "\xcd\xab", 2);
	put_u24(out, 0xabcdef);
	assert_memory_equal(out, "\xef\xcd\xab", 3);
	put_u32(out, 0xfedcba98);
	assert_memory_equal(out, "\x98\xba\xdc\xfe", 4);
}

static void reads_in_order(void **state)
{
	const uint8_t bytes[] = "\x07\x01\x02\x01\x02\x03\x01\x02\x03\x04\x01\x02\x03\x04\x05\x06\x07\x08name\0ab\x03xy"
				"zrest";
	struct reader r = reader_of(slice_of(bytes, sizeof bytes - 1));

	(void)state;
	assert_int_equal(rd_u8(&r), 7);
	assert_int_equal(rd_u16(&r), 0x0201);
	assert_int_equal(rd_u24(&r), 0x030201);
	assert_int_equal(rd_u32(&r), 0x04030201);
	assert_true(rd_u64(&r) == 0x0807060504030201u);
	assert_true(slice_eq(rd_nul(&r), slice_str("name")));
	assert_true(slice_eq(rd_bytes(&r, 2), slice_str("ab")));
	assert_true(slice_eq(rd_lenenc_bytes(&r), slice_str("xyz")));
	assert_int_equal(rd_left(&r), 4);
	assert_true(slice_eq(rd_rest(&r), slice_str("rest")));
	assert_int_equal(rd_left(&r), 0);
	assert_int_equal(rd_rest(&r).n, 0);
	assert_false(r.bad);
}

/* Reads past the end: each is bad, gives zero, and so does everything after it. Bytes are on the heap, exactly sized,
 * so that a read too far is seen by the sanitizer. */
static void the_end_is_sticky(void **state)
{
	(void)state;
	for (unsigned what = 0; what < 8; what++) {
		for (size_t n = 0; n < 2; n++) {
			uint8_t *bytes = malloc(n > 0 ? n : 1);
			memset(bytes, 'x', n > 0 ? n : 1);
			struct reader r = reader_of(slice_of(bytes, n));
			uint64_t got = 0;
			switch (what) {
			case 0: got = rd_u16(&r); break;
			case 1: got = rd_u24(&r); break;
			case 2: got = rd_u32(&r); break;
			case 3: got = rd_u64(&r); break;
			case 4: got = rd_bytes(&r, 2).n; break;
			case 5: got = rd_nul(&r).n; break;
			case 6: got = rd_bytes(&r, SIZE_MAX).n; break;
			case 7: got = rd_lenenc_bytes(&r).n; break;
			}
			assert_true(r.bad);
			assert_true(got == 0);
			assert_int_equal(rd_u8(&r), 0);
			assert_int_equal(rd_rest(&r).n, 0);
			assert_int_equal(rd_nul(&r).n, 0);
			assert_int_equal(rd_lenenc(&r), 0);
			assert_true(r.bad);
			free(bytes);
		}
	}
}

static void lenenc_round_trips(void **state)
{
	static const struct {
		uint64_t value;
		size_t bytes;
	} rows[] = {
		{0, 1},	      {250, 1},	     {251, 3},	     {252, 3},	      {255, 3},	       {0xffff, 3},
		{0x10000, 4}, {0xffffff, 4}, {0x1000000, 9}, {UINT32_MAX, 9}, {UINT64_MAX, 9},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct buf b = {0};
		buf_put_lenenc(&b, rows[i].value);
		assert_int_equal(b.len, rows[i].bytes);
		struct reader r = reader_of(buf_slice(&b));
		assert_true(rd_lenenc(&r) == rows[i].value);
		assert_false(r.bad);
		assert_int_equal(rd_left(&r), 0);
		for (size_t cut = 0; cut < b.len; cut++) {
			r = reader_of(slice_of(b.data, cut));
			assert_int_equal(rd_lenenc(&r), 0);
			assert_true(r.bad);
		}
		buf_fini(&b);
	}
	for (unsigned i = 0; i < 2; i++) { /* NULL and the error marker are no lengths */
		struct reader r = reader_of(slice_of(i == 0 ? "\xfb" : "\xff", 1));
		rd_lenenc(&r);
		assert_true(r.bad);
	}
	/* a length that says more than there is, up to the whole address space */
	struct reader r = reader_of(slice_of("\xfe\xff\xff\xff\xff\xff\xff\xff\xff" "abc", 12));
	assert_int_equal(rd_lenenc_bytes(&r).n, 0);
	assert_true(r.bad);
}

static void buffers_grow_and_shrink(void **state)
{
	struct buf b = {0};

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		buf_put_u8(&b, i);
		buf_put_u16(&b, i);
		buf_put_u24(&b, i);
		buf_put_u32(&b, i);
		buf_put_u64(&b, (uint64_t)i << 40);
		buf_put_lenenc_bytes(&b, slice_str("value"));
		buf_put_str(&b, "s");
		buf_put(&b, NULL, 0);
	}
	struct reader r = reader_of(buf_slice(&b));
	for (unsigned i = 0; i < 1000; i++) {
		assert_int_equal(rd_u8(&r), i & 0xff);
		assert_int_equal(rd_u16(&r), i);
		assert_int_equal(rd_u24(&r), i);
		assert_int_equal(rd_u32(&r), i);
		assert_true(rd_u64(&r) == (uint64_t)i << 40);
		assert_true(slice_eq(rd_lenenc_bytes(&r), slice_str("value")));
		assert_int_equal(rd_u8(&r), 's');
	}
	assert_int_equal(rd_left(&r), 0);
	size_t n = b.len;
	buf_consume(&b, 25);
	assert_int_equal(b.len, n - 25);
	assert_int_equal(b.data[0], 1);
	buf_consume(&b, n);
	assert_int_equal(b.len, 0);
	buf_printf(&b, "%d-%s", 42, "x");
	buf_printf(&b, "%s", "");
	assert_true(slice_eq(buf_slice(&b), slice_str("42-x")));
	buf_clear(&b);
	buf_printf(&b, "%0300d", 0);
	assert_int_equal(b.len, 300);
	buf_fini(&b);
	assert_null(b.data);
	assert_int_equal(b.cap, 0);
}

static void no_memory_changes_nothing(void **state)
{
	struct buf b = {0};

	(void)state;
	buf_put_str(&b, "kept");
	mem_pretend_limit(1 << 20);
	assert_false(buf_try_reserve(&b, 2 << 20));
	assert_false(buf_try_put(&b, NULL, 2 << 20));
	assert_int_equal(b.len, 4);
	assert_memory_equal(b.data, "kept", 4);
	assert_true(buf_try_put(&b, " too", 4));
	assert_memory_equal(b.data, "kept too", 8);
	mem_pretend_limit(0);
	assert_true(buf_try_reserve(&b, 2 << 20));
	assert_true(b.cap >= (2 << 20) + 8 && b.cap < 3 << 20); /* large ones grow by what they need */
	buf_fini(&b);
}

static void secrets_are_wiped_copies(void **state)
{
	char text[] = "not to be told";
	char *s = secret_strndup(text, 3);

	(void)state;
	assert_string_equal(s, "not");
	secret_free(s);
	uint8_t *large = secret_alloc(100000);
	for (unsigned i = 0; i < 100000; i++)
		assert_int_equal(large[i], 0);
	large[99999] = 1;
	secret_free(large);
	secret_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(compares),
		cmocka_unit_test(integers_are_little_endian),
		cmocka_unit_test(reads_in_order),
		cmocka_unit_test(the_end_is_sticky),
		cmocka_unit_test(lenenc_round_trips),
		cmocka_unit_test(buffers_grow_and_shrink),
		cmocka_unit_test(no_memory_changes_nothing),
		cmocka_unit_test(secrets_are_wiped_copies),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
