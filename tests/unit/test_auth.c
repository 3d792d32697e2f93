/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "mysql/auth.h"

/* SELECT PASSWORD('secret') on MariaDB 10.11. */
static const char secret[] = "*14E65567ABDB5135D0CFD9A70B3032C179A49EE7";

static void stored_is_what_the_server_stores(void **state)
{
	uint8_t stage1[AUTH_SHA1], mine[AUTH_SHA1], theirs[AUTH_SHA1];

	(void)state;
	auth_stage1(slice_str("secret"), stage1);
	auth_stored(stage1, mine);
	assert_int_equal(auth_stored_parse(slice_str(secret), theirs), 0);
	assert_memory_equal(mine, theirs, AUTH_SHA1);
}

static void stored_refuses_other_text(void **state)
{
	uint8_t out[AUTH_SHA1];
	char longer[sizeof secret + 1], wrong[sizeof secret];

	(void)state;
	snprintf(longer, sizeof longer, "%s0", secret);
	assert_int_equal(auth_stored_parse(slice_str(longer), out), -1);
	assert_int_equal(auth_stored_parse(slice_of(secret, sizeof secret - 2), out), -1);
	assert_int_equal(auth_stored_parse(slice_str("invalid"), out), -1);
	assert_int_equal(auth_stored_parse(slice_str(""), out), -1);
	for (unsigned i = 0; i < sizeof secret - 1; i++) {
		memcpy(wrong, secret, sizeof wrong);
		wrong[i] = 'g';
		assert_int_equal(auth_stored_parse(slice_str(wrong), out), -1);
	}
}

/* A right answer gives what answers another server's salt. */
static void answer_opens_another_server(void **state)
{
	uint8_t stage1[AUTH_SHA1], stored[AUTH_SHA1], got[AUTH_SHA1], salt[AUTH_SALT], other[AUTH_SALT];
	uint8_t answer[AUTH_SHA1], second[AUTH_SHA1];

	(void)state;
	auth_stage1(slice_str("p\xc3\xa4ss"), stage1);
	auth_stored(stage1, stored);
	auth_salt(salt);
	auth_salt(other);
	auth_native_answer(stage1, salt, answer);
	assert_true(auth_native_verify(stored, salt, slice_of(answer, sizeof answer), got));
	assert_memory_equal(got, stage1, AUTH_SHA1);
	auth_native_answer(got, other, second);
	assert_true(auth_native_verify(stored, other, slice_of(second, sizeof second), got));
	assert_false(auth_native_verify(stored, salt, slice_of(second, sizeof second), got));
}

static void wrong_answers_are_refused(void **state)
{
	uint8_t stage1[AUTH_SHA1], stored[AUTH_SHA1], got[AUTH_SHA1] = {0}, salt[AUTH_SALT],
						      answer[AUTH_SHA1 + 1] = {0};
	static const uint8_t untouched[AUTH_SHA1];

	(void)state;
	auth_stage1(slice_str("secret"), stage1);
	auth_stored(stage1, stored);
	auth_salt(salt);
	auth_native_answer(stage1, salt, answer);
	for (unsigned n = 0; n <= sizeof answer; n++)
		if (n != AUTH_SHA1)
			assert_false(auth_native_verify(stored, salt, slice_of(answer, n), got));
	for (unsigned bit = 0; bit < 8 * AUTH_SHA1; bit++) {
		answer[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_false(auth_native_verify(stored, salt, slice_of(answer, AUTH_SHA1), got));
		answer[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	assert_memory_equal(got, untouched, AUTH_SHA1);
}

static void salt_is_text(void **state)
{
	uint8_t salt[AUTH_SALT], before[AUTH_SALT] = {0};

	(void)state;
	for (unsigned i = 0; i < 500; i++) {
		auth_salt(salt);
		assert_null(memchr(salt, 0, AUTH_SALT));
		assert_null(memchr(salt, '$', AUTH_SALT));
		assert_memory_not_equal(salt, before, AUTH_SALT);
		memcpy(before, salt, AUTH_SALT);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stored_is_what_the_server_stores), cmocka_unit_test(stored_refuses_other_text),
		cmocka_unit_test(answer_opens_another_server),	     cmocka_unit_test(wrong_answers_are_refused),
		cmocka_unit_test(salt_is_text),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
