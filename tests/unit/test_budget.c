/* SPDX-License-Identifier: Apache-2.0
 *
 * The budget of all clients: what is taken is taken once, what is given comes back, whoever asks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>

#include "session/budget.h"

static void it_has_an_end(void **state)
{
	size_t a = 0, b = 0;

	(void)state;
	assert_true(budget_take(&a, 600, 1000));
	assert_false(budget_take(&b, 401, 1000));
	assert_int_equal(b, 0);
	assert_true(budget_take(&b, 400, 1000));
	assert_true(budget_is_used_up(1000));
	assert_true(budget_take(&a, 100, 1000)); /* it has more than that */
	assert_int_equal(a, 600);
	assert_false(budget_take(&a, 601, 1000));
	budget_note(&a, 5000);
	assert_int_equal(budget_used(), 5400);
	budget_give(&a, 10);
	assert_int_equal(budget_used(), 410);
	assert_true(budget_take(&b, 990, 1000));
	budget_give(&a, 20);
	assert_int_equal(a, 10);
	budget_give(&a, 0);
	budget_give(&b, 0);
	assert_int_equal(budget_used(), 0);
}

static void *take_and_give(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	size_t held = 0;

	for (unsigned i = 0; i < 100000; i++) {
		if (budget_take(&held, (size_t)rand_r(&seed) % 1000, 2000) && held > 2000)
			abort();
		budget_give(&held, (size_t)rand_r(&seed) % 1000);
	}
	budget_give(&held, 0);
	return NULL;
}

static void threads_leave_nothing_behind(void **state)
{
	pthread_t threads[4];

	(void)state;
	for (uintptr_t i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, take_and_give, (void *)(i + 1));
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(budget_used(), 0);
}

static void somebody_waits(void **state)
{
	(void)state;
	assert_false(budget_somebody_waits());
	budget_waits(1);
	budget_waits(1);
	budget_waits(-1);
	assert_true(budget_somebody_waits());
	budget_waits(-1);
	assert_false(budget_somebody_waits());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_has_an_end),
		cmocka_unit_test(threads_leave_nothing_behind),
		cmocka_unit_test(somebody_waits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
