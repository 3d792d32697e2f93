/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "cluster/catalog.h"
#include "cluster/freshness.h"

static uint64_t table(const char *name)
{
	return freshness_table(slice_str("app"), slice_str(name), false);
}

static void an_incomplete_catalog_expects_the_worst(void **state)
{
	struct catalog *c = catalog_new(1);
	struct slice db = slice_str("app"), f = slice_str("f");

	(void)state;
	catalog_add_routine(c, db, f, true, EFFECT_NONDET);
	catalog_add_effects(c, db, slice_str("v"), EFFECT_WRITES, EFFECT_KEEPS);
	assert_true(catalog_is_view(c, table("t")));
	assert_true(catalog_spreads(c, table("t")));
	assert_int_equal(catalog_routine(c, db, f, true), EFFECT_ALL);
	assert_int_equal(catalog_read(c, table("t")), EFFECT_ALL);
	assert_int_equal(catalog_write(c, table("t")), EFFECT_ALL);
	assert_int_equal(catalog_routine(NULL, db, f, true), EFFECT_ALL);
	assert_int_equal(catalog_read(NULL, table("t")), EFFECT_ALL);
	c->complete = true;
	assert_false(catalog_is_view(c, table("t")));
	assert_false(catalog_spreads(c, table("t")));
	assert_int_equal(catalog_routine(c, db, f, true), EFFECT_NONDET);
	assert_int_equal(catalog_routine(c, db, f, false), EFFECT_ALL);
	assert_int_equal(catalog_read(c, table("t")), 0);
	assert_int_equal(catalog_read(c, table("v")), EFFECT_WRITES);
	assert_int_equal(catalog_write(c, table("v")), EFFECT_KEEPS);
	assert_int_equal(catalog_routine(c, db, slice_str("F"), true), EFFECT_NONDET);
	assert_int_equal(catalog_routine(c, slice_str("APP"), f, true), EFFECT_ALL);
	assert_int_equal(catalog_routine(c, slice_str("ap"), slice_str("pf"), true), EFFECT_ALL);
	catalog_unref(c);
}

static struct catalog *filled(unsigned n, unsigned step)
{
	struct catalog *c = catalog_new(step);
	char name[32];

	for (unsigned i = 0; i < n; i++) {
		snprintf(name, sizeof name, "t%u", i * step % n);
		catalog_add_view(c, slice_str("app"), slice_str(name));
		catalog_add_spreading(c, slice_str("app"), slice_str(name));
		catalog_add_spreading(c, slice_str("app"), slice_str(name));
	}
	c->complete = true;
	return c;
}

static void sets_hold_many_names(void **state)
{
	struct catalog *c = filled(5000, 1);
	char name[32];

	(void)state;
	for (unsigned i = 0; i < 10000; i++) {
		snprintf(name, sizeof name, "t%u", i);
		assert_int_equal(catalog_is_view(c, table(name)), i < 5000);
		assert_int_equal(catalog_spreads(c, table(name)), i < 5000);
	}
	catalog_unref(c);
}

static void equality_is_of_contents(void **state)
{
	struct catalog *a = filled(1000, 1), *b = filled(1000, 7), *c = filled(999, 1);

	(void)state;
	assert_true(catalog_equal(a, b)); /* another order and generation */
	assert_false(catalog_equal(a, c));
	b->rules[3].hidden_writes = true;
	assert_false(catalog_equal(a, b));
	b->rules[3].hidden_writes = false;
	b->complete = false;
	assert_false(catalog_equal(a, b));
	b->complete = true;
	catalog_add_routine(b, slice_str("app"), slice_str("f"), true, 0);
	assert_false(catalog_equal(a, b));
	catalog_unref(a);
	catalog_unref(b);
	catalog_unref(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_incomplete_catalog_expects_the_worst),
		cmocka_unit_test(sets_hold_many_names),
		cmocka_unit_test(equality_is_of_contents),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
