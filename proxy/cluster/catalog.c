/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/catalog.h"

#include <stdlib.h>

#include "base/mem.h"
#include "cluster/freshness.h"

/* Open addressing over 64-bit hashes of names; 0 marks a free place. Two names with one hash are out of reach. */
struct set {
	uint64_t *at;
	size_t n, cap; /* cap: 0 or a power of two */
};

struct names {
	struct set views, spreading, routines;
};

static uint64_t *set_place(const struct set *s, uint64_t key)
{
	size_t i = key & (s->cap - 1);

	while (s->at[i] != 0 && s->at[i] != key)
		i = (i + 1) & (s->cap - 1);
	return &s->at[i];
}

static bool set_has(const struct set *s, uint64_t key)
{
	return s->n != 0 && *set_place(s, key | 1) != 0;
}

static void set_grow(struct set *s)
{
	struct set bigger = {.n = s->n, .cap = s->cap == 0 ? 64 : 2 * s->cap};

	bigger.at = xcalloc(bigger.cap, sizeof *bigger.at);
	for (size_t i = 0; i < s->cap; i++)
		if (s->at[i] != 0)
			*set_place(&bigger, s->at[i]) = s->at[i];
	free(s->at);
	*s = bigger;
}

static void set_add(struct set *s, uint64_t key)
{
	if (4 * s->n >= 3 * s->cap)
		set_grow(s);
	uint64_t *place = set_place(s, key | 1); /* | 1: never the mark of a free place */
	s->n += *place == 0;
	*place = key | 1;
}

static bool set_equal(const struct set *a, const struct set *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->cap; i++)
		if (a->at[i] != 0 && !set_has(b, a->at[i]))
			return false;
	return true;
}

struct catalog *catalog_new(uint64_t generation)
{
	struct catalog *c = xcalloc(1, sizeof *c);

	atomic_init(&c->refs, 1);
	c->generation = generation;
	c->names = xcalloc(1, sizeof(struct names));
	return c;
}

struct catalog *catalog_ref(struct catalog *c)
{
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	return c;
}

void catalog_unref(struct catalog *c)
{
	if (c == NULL || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
		return;
	struct names *names = c->names;
	free(names->views.at);
	free(names->spreading.at);
	free(names->routines.at);
	free(names);
	free(c);
}

/* Routine names never tell case apart; their schema does as the server's does, and the monitor gives it as stored. */
static uint64_t routine_key(struct slice db, struct slice name)
{
	return freshness_table(slice_str(""), name, true) * UINT64_C(0x9e3779b97f4a7c15) ^
	       freshness_table(db, slice_str(""), false);
}

bool catalog_is_view(const struct catalog *c, uint64_t table)
{
	return !c->complete || set_has(&((const struct names *)c->names)->views, table);
}

bool catalog_spreads(const struct catalog *c, uint64_t table)
{
	return !c->complete || set_has(&((const struct names *)c->names)->spreading, table);
}

bool catalog_reads_only(const struct catalog *c, struct slice db, struct slice name)
{
	return c->complete && set_has(&((const struct names *)c->names)->routines, routine_key(db, name));
}

void catalog_add_view(struct catalog *c, struct slice db, struct slice name)
{
	set_add(&((struct names *)c->names)->views, freshness_table(db, name, false));
}

void catalog_add_spreading(struct catalog *c, struct slice db, struct slice name)
{
	set_add(&((struct names *)c->names)->spreading, freshness_table(db, name, false));
}

void catalog_add_reading_routine(struct catalog *c, struct slice db, struct slice name)
{
	set_add(&((struct names *)c->names)->routines, routine_key(db, name));
}

static bool rule_equal(const struct catalog_rule *a, const struct catalog_rule *b)
{
	return a->found == b->found && a->compare == b->compare && a->expires == b->expires &&
	       a->key_ordinal == b->key_ordinal && a->columns == b->columns && a->sole_unique == b->sole_unique &&
	       a->hidden_writes == b->hidden_writes && a->key_bytes == b->key_bytes && strcmp(a->why, b->why) == 0;
}

bool catalog_equal(const struct catalog *a, const struct catalog *b)
{
	const struct names *x = a->names, *y = b->names;

	for (unsigned i = 0; i < CONFIG_RULES; i++)
		if (!rule_equal(&a->rules[i], &b->rules[i]))
			return false;
	return a->complete == b->complete && strcmp(a->why, b->why) == 0 && set_equal(&x->views, &y->views) &&
	       set_equal(&x->spreading, &y->spreading) && set_equal(&x->routines, &y->routines);
}
