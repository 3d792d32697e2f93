/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/catalog.h"

#include <stdlib.h>

#include "base/mem.h"
#include "cluster/freshness.h"

enum mark { IS_VIEW = 1, SPREADS = 2 };

/* Open addressing over 64-bit hashes of names; 0 marks a free place. Two names with one hash are out of reach. */
struct entry {
	uint64_t key;
	uint16_t marks;       /* enum mark */
	uint16_t read, write; /* enum effect; of a routine: read alone */
};

struct map {
	struct entry *at;
	size_t n, cap; /* cap: 0 or a power of two */
};

struct names {
	struct map tables, routines;
	uint16_t any_read, any_write; /* a union over all tables but the server's own */
};

static struct entry *place_of(const struct map *m, uint64_t key)
{
	size_t i = key & (m->cap - 1);

	while (m->at[i].key != 0 && m->at[i].key != key)
		i = (i + 1) & (m->cap - 1);
	return &m->at[i];
}

static struct entry find(const struct map *m, uint64_t key)
{
	return m->n != 0 ? *place_of(m, key | 1) : (struct entry){0};
}

static void grow(struct map *m)
{
	struct map bigger = {.n = m->n, .cap = m->cap == 0 ? 64 : 2 * m->cap};

	bigger.at = xcalloc(bigger.cap, sizeof *bigger.at);
	for (size_t i = 0; i < m->cap; i++)
		if (m->at[i].key != 0)
			*place_of(&bigger, m->at[i].key) = m->at[i];
	free(m->at);
	*m = bigger;
}

static void add(struct map *m, uint64_t key, unsigned marks, unsigned read, unsigned write)
{
	if (4 * m->n >= 3 * m->cap)
		grow(m);
	struct entry *e = place_of(m, key | 1); /* | 1: never the mark of a free place */
	m->n += e->key == 0;
	e->key = key | 1;
	e->marks |= (uint16_t)marks;
	e->read |= (uint16_t)read;
	e->write |= (uint16_t)write;
}

static bool map_equal(const struct map *a, const struct map *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->cap; i++) {
		struct entry x = a->at[i], y = x.key != 0 ? find(b, x.key) : x;
		if (x.key != y.key || x.marks != y.marks || x.read != y.read || x.write != y.write)
			return false;
	}
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
	free(names->tables.at);
	free(names->routines.at);
	free(names);
	free(c);
}

/* Routine names never tell case apart; their schema does as the server's does, and the monitor gives it as stored. */
static uint64_t routine_key(struct slice db, struct slice name, bool function)
{
	return freshness_table(slice_str(function ? "f" : "p"), name, true) * UINT64_C(0x9e3779b97f4a7c15) ^
	       freshness_table(db, slice_str(""), false);
}

static const struct names *names_of(const struct catalog *c)
{
	return c->names;
}

bool catalog_is_view(const struct catalog *c, uint64_t table)
{
	return !c->complete || (find(&names_of(c)->tables, table).marks & IS_VIEW);
}

bool catalog_spreads(const struct catalog *c, uint64_t table)
{
	return !c->complete || (find(&names_of(c)->tables, table).marks & SPREADS);
}

unsigned catalog_routine(const struct catalog *c, struct slice db, struct slice name, bool function)
{
	if (c == NULL || !c->complete)
		return EFFECT_ALL;
	struct entry e = find(&names_of(c)->routines, routine_key(db, name, function));
	return e.key != 0 ? e.read : EFFECT_ALL;
}

bool catalog_may_have_routine(const struct catalog *c, struct slice db, struct slice name, bool function)
{
	return c == NULL || !c->complete || find(&names_of(c)->routines, routine_key(db, name, function)).key != 0;
}

unsigned catalog_read(const struct catalog *c, uint64_t table)
{
	return c != NULL && c->complete ? find(&names_of(c)->tables, table).read : EFFECT_ALL;
}

unsigned catalog_write(const struct catalog *c, uint64_t table)
{
	return c != NULL && c->complete ? find(&names_of(c)->tables, table).write : EFFECT_ALL;
}

/* The dictionary is read as utf8; a client's name may be in another character set. */
static bool comparable(struct slice name)
{
	for (size_t i = 0; i < name.n; i++)
		if (name.p[i] >= 0x80)
			return false;
	return true;
}

static struct entry entry_of_name(const struct catalog *c, struct slice schema, const struct sql_name *t)
{
	const struct names *names = names_of(c);
	struct slice db = t->db.n > 0 ? t->db : schema;

	if (t->name.n == 0 || !comparable(t->name) || !comparable(db))
		return (struct entry){.read = names->any_read, .write = names->any_write};
	return find(&names->tables, freshness_table(db, t->name, c->fold));
}

unsigned catalog_read_name(const struct catalog *c, struct slice schema, const struct sql_name *t)
{
	return c != NULL && c->complete ? entry_of_name(c, schema, t).read : EFFECT_ALL;
}

unsigned catalog_write_name(const struct catalog *c, struct slice schema, const struct sql_name *t)
{
	return c != NULL && c->complete ? entry_of_name(c, schema, t).write : EFFECT_ALL;
}

void catalog_add_view(struct catalog *c, struct slice db, struct slice name)
{
	add(&((struct names *)c->names)->tables, freshness_table(db, name, false), IS_VIEW, 0, 0);
}

void catalog_add_spreading(struct catalog *c, struct slice db, struct slice name)
{
	add(&((struct names *)c->names)->tables, freshness_table(db, name, false), SPREADS, 0, 0);
}

void catalog_add_routine(struct catalog *c, struct slice db, struct slice name, bool function, unsigned effects)
{
	add(&((struct names *)c->names)->routines, routine_key(db, name, function), 0, effects, 0);
}

/* Statements that name the server's own tables go to the primary for that reason, however many they name. */
static bool is_servers_own(struct slice db)
{
	return slice_ieq(db, "mysql") || slice_ieq(db, "sys") || slice_ieq(db, "information_schema") ||
	       slice_ieq(db, "performance_schema");
}

void catalog_add_effects(struct catalog *c, struct slice db, struct slice name, unsigned read, unsigned write)
{
	struct names *names = c->names;

	add(&names->tables, freshness_table(db, name, false), 0, read, write);
	if (!is_servers_own(db)) {
		names->any_read |= (uint16_t)read;
		names->any_write |= (uint16_t)write;
	}
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
	return a->complete == b->complete && a->fold == b->fold && strcmp(a->why, b->why) == 0 &&
	       strcmp(a->unseen, b->unseen) == 0 && map_equal(&x->tables, &y->tables) &&
	       map_equal(&x->routines, &y->routines);
}
