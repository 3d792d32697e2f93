/* SPDX-License-Identifier: Apache-2.0
 *
 * Do two classifications say the same, each of its own copy of the text?
 */
#ifndef ST_TESTS_SAME_STMT_H
#define ST_TESTS_SAME_STMT_H

#include "sql/classify.h"

static inline bool same_place(struct slice a, struct slice a_text, struct slice b, struct slice b_text)
{
	return a.n == b.n && (a.n == 0 || a.p - a_text.p == b.p - b_text.p);
}

static inline bool same_names(const struct sql_name *a, struct slice a_text, const struct sql_name *b,
			      struct slice b_text, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (!same_place(a[i].db, a_text, b[i].db, b_text) ||
		    !same_place(a[i].name, a_text, b[i].name, b_text) || a[i].written != b[i].written)
			return false;
	return true;
}

static inline bool same_keys(const struct sql_stmt *a, struct slice a_text, const struct sql_stmt *b,
			     struct slice b_text)
{
	for (unsigned i = 0; i < a->nkeys; i++) {
		const struct sql_literal *x = &a->keys[i], *y = &b->keys[i];
		if (x->type != y->type || x->escaped != y->escaped || x->introducer != y->introducer ||
		    x->negative != y->negative || x->param != y->param ||
		    !same_place(x->text, a_text, y->text, b_text))
			return false;
	}
	return true;
}

static inline bool same_stmt(const struct sql_stmt *a, struct slice a_text, const struct sql_stmt *b,
			     struct slice b_text)
{
	return a->kind == b->kind && a->flags == b->flags && a->hint == b->hint && a->nparams == b->nparams &&
	       a->ntables == b->ntables && a->nfuncs == b->nfuncs && a->funcs_overflow == b->funcs_overflow &&
	       a->digest == b->digest && a->scope == b->scope && a->watched == b->watched &&
	       a->watched_written == b->watched_written && a->single == b->single &&
	       a->now_is_expiry == b->now_is_expiry && a->clocks == b->clocks && a->nkeys == b->nkeys &&
	       same_names(a->tables, a_text, b->tables, b_text, a->ntables) &&
	       same_names(a->funcs, a_text, b->funcs, b_text, a->nfuncs) && same_keys(a, a_text, b, b_text);
}

#endif
