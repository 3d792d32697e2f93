/* SPDX-License-Identifier: Apache-2.0
 *
 * Shapes: the keyed hash against its authors' vectors; what differs in any part, or where a part ends, differs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cache/shape.h"

/* Key and message 00 01 02 ..., of the reference's vectors.h. */
static void test_vectors(void **state)
{
	(void)state;
	static const uint64_t narrow[] = {UINT64_C(0x726fdb47dd0e0e31), UINT64_C(0x74f839c593dc67fd)};
	static const uint8_t wide[][16] = {
		{0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93},
		{0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc, 0x45},
	};
	struct siphash_key key;
	uint8_t message[16], out[16];

	for (unsigned i = 0; i < 16; i++)
		key.bytes[i] = message[i] = (uint8_t)i;
	for (unsigned n = 0; n < 2; n++) {
		assert_true(siphash(&key, message, n) == narrow[n]);
		siphash_128(&key, message, n, out);
		assert_memory_equal(out, wide[n], 16);
	}
	assert_true(siphash(&key, message, 15) == UINT64_C(0xa129ca6149be45e5)); /* the paper's appendix */
}

static const struct siphash_key secret = {{1, 2, 3}};

static void digest(const char *const *parts, unsigned n, const struct siphash_key *key, uint8_t out[SHAPE])
{
	struct buf b = {0};

	for (unsigned i = 0; i < n; i++)
		shape_part(&b, slice_str(parts[i]));
	shape_digest(&b, key, out);
	buf_fini(&b);
}

static void test_parts_do_not_run_together(void **state)
{
	(void)state;
	static const char *const lists[][3] = {{"ab", "c", ""}, {"a", "bc", ""}, {"abc", "", ""}, {"", "abc", ""},
					       {"", "", "abc"}, {"a", "b", "c"}, {"ab", "", "c"}};
	const unsigned n = sizeof lists / sizeof *lists;
	uint8_t seen[sizeof lists / sizeof *lists][SHAPE], fewer[SHAPE];

	for (unsigned i = 0; i < n; i++) {
		digest(lists[i], 3, &secret, seen[i]);
		digest(lists[i], 2, &secret, fewer);
		assert_memory_not_equal(seen[i], fewer, SHAPE);
		for (unsigned k = 0; k < i; k++)
			assert_memory_not_equal(seen[k], seen[i], SHAPE);
	}
}

static void test_secret(void **state)
{
	(void)state;
	static const char *const parts[] = {"app", "SELECT 1"};
	struct siphash_key other = secret;
	uint8_t a[SHAPE], b[SHAPE], c[SHAPE];

	other.bytes[15] ^= 1;
	digest(parts, 2, &secret, a);
	digest(parts, 2, &secret, b);
	digest(parts, 2, &other, c);
	assert_memory_equal(a, b, SHAPE);
	assert_memory_not_equal(a, c, SHAPE);
}

static void of_state(const struct state *s, uint8_t out[SHAPE])
{
	struct buf b = {0};

	shape_state(&b, s);
	shape_digest(&b, &secret, out);
	buf_fini(&b);
}

static void set(struct state *s, const char *name, const char *value)
{
	assert_true(state_set(s, slice_str(name), slice_str(value)));
}

static void test_states(void **state)
{
	(void)state;
	struct state a = {0}, b = {0};
	uint8_t x[SHAPE], y[SHAPE];

	of_state(&a, x);
	set(&a, "sql_mode", "ANSI");
	set(&a, "time_zone", "+00:00");
	of_state(&a, y);
	assert_memory_not_equal(x, y, SHAPE);
	set(&b, "time_zone", "+00:00"); /* another order: the same state */
	set(&b, "sql_mode", "ANSI");
	of_state(&b, x);
	assert_memory_equal(x, y, SHAPE);
	assert_true(a.hash == b.hash);
	state_set_schema(&b, slice_str("ANSI"));
	of_state(&b, x);
	assert_memory_not_equal(x, y, SHAPE);
	assert_true(a.hash != b.hash);
	state_clear(&a);
	state_clear(&b);

	/* What a name has and its value has not. */
	set(&a, "sql_mode", "x=y");
	set(&b, "sql_mode.x", "y");
	of_state(&a, x);
	of_state(&b, y);
	assert_memory_not_equal(x, y, SHAPE);
	assert_true(a.hash != b.hash);
	state_clear(&a);
	state_clear(&b);
}

static void test_a_states_digest_is_kept(void **state)
{
	(void)state;
	struct state s = {0};
	struct shape_memo memo = {0};
	struct siphash_key other = secret;
	uint8_t first[SHAPE], second[SHAPE];

	set(&s, "sql_mode", "ANSI");
	memcpy(first, shape_of_state(&memo, &s, &secret), SHAPE);
	assert_memory_equal(shape_of_state(&memo, &s, &secret), first, SHAPE);
	set(&s, "sql_mode", "");
	memcpy(second, shape_of_state(&memo, &s, &secret), SHAPE);
	assert_memory_not_equal(first, second, SHAPE);
	set(&s, "sql_mode", "ANSI");
	assert_memory_equal(shape_of_state(&memo, &s, &secret), first, SHAPE);
	other.bytes[0] ^= 1;
	assert_memory_not_equal(shape_of_state(&memo, &s, &other), first, SHAPE);
	state_clear(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_parts_do_not_run_together),
		cmocka_unit_test(test_secret),
		cmocka_unit_test(test_states),
		cmocka_unit_test(test_a_states_digest_is_kept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
