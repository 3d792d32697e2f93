/* SPDX-License-Identifier: Apache-2.0 */
#include <strings.h>

#include "sql/parse.h"

static bool ieq(struct slice a, struct slice b)
{
	return a.n == b.n && strncasecmp((const char *)a.p, (const char *)b.p, a.n) == 0;
}

static bool name_eq(const struct parse *ps, struct slice a, struct slice b)
{
	return ps->lx.mode & SQL_FOLD_TABLE_NAMES ? ieq(a, b) : slice_eq(a, b);
}

uint32_t watch_match(const struct parse *ps, struct slice db, struct slice name)
{
	uint32_t bits = 0;

	if (db.n == 0)
		db = ps->schema;
	for (unsigned i = 0; i < ps->nwatch; i++)
		if (name_eq(ps, name, ps->watch[i].table) && name_eq(ps, db, ps->watch[i].db))
			bits |= 1u << i;
	return bits;
}

uint32_t watch_mention_table(const struct parse *ps, struct slice word)
{
	uint32_t bits = 0;

	for (unsigned i = 0; i < ps->nwatch; i++)
		if (ieq(word, ps->watch[i].table))
			bits |= 1u << i;
	return bits;
}

uint32_t watch_mention_schema(const struct parse *ps, struct slice word)
{
	uint32_t bits = 0;

	for (unsigned i = 0; i < ps->nwatch; i++)
		if (ieq(word, ps->watch[i].db))
			bits |= 1u << i;
	return bits;
}
