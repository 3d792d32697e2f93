/* SPDX-License-Identifier: Apache-2.0 */
#include "sql/memo.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/mem.h"

enum { ENTRIES = 64, TEXT_MAX = 512, KEY_MAX = 255 };

/* A text as head, key and tail; the quotes are head's and tail's. */
struct parts {
	struct slice head, key, tail;
	uint64_t hash;
};

struct entry {
	uint64_t hash;
	struct slice head, tail, schema; /* in `bytes`; head.p is NULL: nothing is kept here */
	unsigned text_mode;
	uint32_t text_n; /* of the text that was classified */
	uint8_t bytes[TEXT_MAX];
	/* As it was for that text; slices hold offsets in it instead of addresses. Only one key is there. */
	struct sql_stmt stmt;
};

struct sql_memo {
	struct entry at[ENTRIES];
};

struct sql_memo *sql_memo_new(void)
{
	return xcalloc(1, sizeof(struct sql_memo));
}

void sql_memo_free(struct sql_memo *m)
{
	free(m);
}

void sql_memo_clear(struct sql_memo *m)
{
	for (unsigned i = 0; i < ENTRIES; i++)
		m->at[i].head.p = NULL;
}

/* False where the text has no first string of the kind that does not matter. */
static bool cut(struct slice text, unsigned text_mode, struct slice schema, struct parts *out)
{
	const uint8_t *end = text.p + text.n;
	const uint8_t *open = text.n < TEXT_MAX + KEY_MAX ? memchr(text.p, '\'', text.n) : NULL;
	const uint8_t *close = open != NULL ? memchr(open + 1, '\'', (size_t)(end - open - 1)) : NULL;

	if (close == NULL || (text_mode & SQL_UNSAFE_CHARSET) || (close + 1 < end && close[1] == '\''))
		return false;
	out->head = slice_of(text.p, (size_t)(open + 1 - text.p));
	out->key = slice_of(open + 1, (size_t)(close - open - 1));
	out->tail = slice_of(close, (size_t)(end - close));
	if (out->key.n > KEY_MAX || out->head.n + out->tail.n + schema.n > TEXT_MAX ||
	    memchr(out->key.p, '\\', out->key.n) != NULL)
		return false;
	out->hash = XXH3_64bits_withSeed(out->tail.p, out->tail.n, XXH3_64bits(out->head.p, out->head.n));
	return true;
}

static bool fits(const struct entry *e, const struct parts *parts, unsigned text_mode, struct slice schema)
{
	return e->head.p != NULL && e->hash == parts->hash && e->text_mode == text_mode &&
	       slice_eq(e->head, parts->head) && slice_eq(e->tail, parts->tail) && slice_eq(e->schema, schema);
}

/* --- slices as offsets -------------------------------------------------------------------------------------------- */

static struct slice put_away(struct slice s, struct slice text)
{
	return s.n > 0 ? slice_of((const uint8_t *)(s.p - text.p), s.n) : s;
}

/* What stands behind the key has moved by as much as the key is longer. */
static struct slice bring_back(struct slice s, const struct entry *e, struct slice text)
{
	uintptr_t at = (uintptr_t)s.p;

	if (s.n == 0)
		return s;
	if (at >= e->head.n)
		at += text.n - e->text_n;
	return slice_of(text.p + at, s.n);
}

static void recall(const struct entry *e, const struct parts *parts, struct slice text, struct sql_stmt *out)
{
	const struct sql_stmt *s = &e->stmt;

	memcpy(out, s, offsetof(struct sql_stmt, tables));
	memcpy(&out->digest, &s->digest, offsetof(struct sql_stmt, keys) - offsetof(struct sql_stmt, digest));
	for (unsigned i = 0; i < s->ntables; i++)
		out->tables[i] = (struct sql_name){bring_back(s->tables[i].db, e, text),
						   bring_back(s->tables[i].name, e, text), s->tables[i].written};
	for (unsigned i = 0; i < s->nfuncs; i++)
		out->funcs[i] = (struct sql_name){bring_back(s->funcs[i].db, e, text),
						  bring_back(s->funcs[i].name, e, text), s->funcs[i].written};
	out->keys[0] = s->keys[0];
	out->keys[0].text = parts->key;
}

static void keep(struct slice to[3], uint8_t *bytes, const struct slice from[3])
{
	for (unsigned i = 0; i < 3; i++) {
		if (from[i].n > 0)
			memcpy(bytes, from[i].p, from[i].n);
		to[i] = slice_of(bytes, from[i].n);
		bytes += from[i].n;
	}
}

static void remember(struct entry *e, const struct parts *parts, struct slice text, unsigned text_mode,
		     struct slice schema, const struct sql_stmt *s)
{
	const struct slice from[3] = {parts->head, parts->tail, schema};
	struct slice to[3];

	keep(to, e->bytes, from);
	e->head = to[0];
	e->tail = to[1];
	e->schema = to[2];
	e->hash = parts->hash;
	e->text_mode = text_mode;
	e->text_n = (uint32_t)text.n;
	memcpy(&e->stmt, s, offsetof(struct sql_stmt, keys) + sizeof s->keys[0]);
	for (unsigned i = 0; i < s->ntables; i++) {
		e->stmt.tables[i].db = put_away(s->tables[i].db, text);
		e->stmt.tables[i].name = put_away(s->tables[i].name, text);
	}
	for (unsigned i = 0; i < s->nfuncs; i++) {
		e->stmt.funcs[i].db = put_away(s->funcs[i].db, text);
		e->stmt.funcs[i].name = put_away(s->funcs[i].name, text);
	}
}

/* The lexer was seen to take that string for one token: it is the one key. */
static bool is_the_key(const struct sql_stmt *s, struct slice key)
{
	const struct sql_literal *k = &s->keys[0];

	return s->nkeys == 1 && k->type == SQL_LIT_STRING && !k->escaped && !k->introducer && !k->negative &&
	       k->text.p == key.p && k->text.n == key.n;
}

bool sql_memo_classify(struct sql_memo *m, struct slice text, unsigned text_mode, struct slice schema,
		       const struct sql_watch *watch, unsigned nwatch, struct sql_stmt *out)
{
	struct parts parts;

	if (nwatch == 0 || !cut(text, text_mode, schema, &parts)) {
		sql_classify(text, text_mode, schema, watch, nwatch, out);
		return false;
	}
	struct entry *e = &m->at[parts.hash % ENTRIES];
	if (fits(e, &parts, text_mode, schema)) {
		recall(e, &parts, text, out);
		return true;
	}
	sql_classify(text, text_mode, schema, watch, nwatch, out);
	if (is_the_key(out, parts.key))
		remember(e, &parts, text, text_mode, schema, out);
	return false;
}
