/* SPDX-License-Identifier: Apache-2.0
 *
 * Which rows of a watched table a statement names. A clause is looked at again, against a grammar of what is
 * understood; the first token outside of it ends the attempt, and the answer stays SQL_SCOPE_TABLE. The caller has made
 * sure that the statement names one table, once, and holds no subquery, union, join or executable comment.
 */
#include <strings.h>

#include "sql/parse.h"

enum { NESTING = 8 };

struct rows {
	const struct token *t; /* the token at hand */
	const struct parse *ps;
	unsigned at;      /* its number, if it was kept */
	bool kept;        /* tokens come from ps, else from the text */
	struct lex lx;
	struct token own; /* *t, if it was not kept */
	uint16_t params;  /* ? markers before it */
	unsigned nows;    /* NOW() and kin that stand beside the expires column */
	bool keyed;       /* a condition on the key was found */
	const struct sql_watch *w;
	struct sql_stmt *out;
};

static void next(struct rows *r)
{
	if (r->t->type == TOK_PARAM)
		r->params++;
	if (!r->kept)
		lex_next(&r->lx, &r->own);
	else if (r->t->type != TOK_END)
		r->t = parse_token(r->ps, ++r->at);
}

/* To the first token at p or behind it. Returns whether it was kept. */
static bool find_kept(struct rows *r, const uint8_t *p)
{
	const struct parse *ps = r->ps;

	for (unsigned back = 0; back < KEPT - 1; back++)
		if (parse_token(ps, ps->at - back - 1)->at < p) {
			r->at = ps->at - back;
			r->t = parse_token(ps, r->at);
			return true;
		}
	return false;
}

static void rows_init(struct rows *r, struct place at)
{
	const struct lex *lx = &r->ps->lx;

	r->params = at.params;
	r->nows = 0;
	r->keyed = false;
	r->kept = find_kept(r, at.p);
	if (r->kept)
		return;
	lex_init(&r->lx, slice_of(at.p, (size_t)(lx->end - at.p)), lx->mode & ~(unsigned)SQL_UNSAFE_CHARSET);
	r->t = &r->own;
	lex_next(&r->lx, &r->own);
}

static bool accept(struct rows *r, uint8_t type)
{
	if (r->t->type != type)
		return false;
	next(r);
	return true;
}

static bool accept_kw(struct rows *r, enum kw kw)
{
	if (r->t->kw != kw)
		return false;
	next(r);
	return true;
}

static bool is_name(const struct token *t)
{
	return t->type == TOK_QUOTED || (t->type == TOK_WORD && !(kw_table[t->kw].flags & KWF_RESERVED));
}

/* [[db.]table.]column: true when that was read; *column is its last part. */
static bool column(struct rows *r, struct slice *column)
{
	for (unsigned parts = 0; parts < 3 && is_name(r->t); parts++) {
		*column = r->t->text;
		next(r);
		if (!accept(r, '.'))
			return true;
	}
	return false;
}

static bool is_column(struct slice column, struct slice name)
{
	return name.n > 0 && column.n == name.n &&
	       strncasecmp((const char *)column.p, (const char *)name.p, name.n) == 0;
}

/* A literal at hand, read into *lit. What may follow is the caller's to check. */
static bool literal(struct rows *r, struct sql_literal *lit)
{
	static const uint8_t types[] = {
		[TOK_STRING - TOK_WORD] = SQL_LIT_STRING, [TOK_NUMBER - TOK_WORD] = SQL_LIT_NUMBER,
		[TOK_HEX - TOK_WORD] = SQL_LIT_HEX,       [TOK_BITS - TOK_WORD] = SQL_LIT_OTHER,
		[TOK_NULL - TOK_WORD] = SQL_LIT_NULL,     [TOK_PARAM - TOK_WORD] = SQL_LIT_PARAM};

	*lit = (struct sql_literal){.negative = accept(r, '-')};
	if (r->t->type == TOK_WORD && r->t->text.n > 1 && r->t->text.p[0] == '_' && !lit->negative) {
		next(r);
		lit->introducer = true;
		if (r->t->type != TOK_STRING && r->t->type != TOK_HEX && r->t->type != TOK_BITS)
			return false;
	}
	if (r->t->kw == KW_NULL)
		lit->type = SQL_LIT_NULL;
	else if (r->t->type >= TOK_STRING && r->t->type <= TOK_PARAM)
		lit->type = types[r->t->type - TOK_WORD];
	else
		return false;
	if (lit->negative && lit->type != SQL_LIT_NUMBER)
		return false;
	lit->text = r->t->text;
	lit->escaped = r->t->escaped;
	lit->introducer |= r->t->decorated;
	lit->param = lit->type == SQL_LIT_PARAM ? r->params : 0;
	next(r);
	return true;
}

static bool add_key(struct rows *r, const struct sql_literal *lit)
{
	if (r->out->nkeys == SQL_KEYS)
		return false;
	r->out->keys[r->out->nkeys++] = *lit;
	return true;
}

/* What may follow WHERE's condition, or a parenthesis that ends a level of it. */
static bool at_condition_end(const struct rows *r)
{
	switch (r->t->type) {
	case TOK_END:
	case ';':
	case ')':
		return true;
	case TOK_WORD:
		return r->t->kw == KW_LIMIT || r->t->kw == KW_ORDER || r->t->kw == KW_GROUP || r->t->kw == KW_HAVING ||
		       r->t->kw == KW_FOR || r->t->kw == KW_LOCK || r->t->kw == KW_INTO || r->t->kw == KW_PROCEDURE ||
		       r->t->kw == KW_RETURNING;
	default:
		return false;
	}
}

static bool at_conjunct_end(const struct rows *r)
{
	return r->t->kw == KW_AND || r->t->type == TOK_AND || at_condition_end(r);
}

/* IN (literal, ...) after the key's name, at the parenthesis. */
static bool key_list(struct rows *r)
{
	struct sql_literal lit;
	uint16_t before = r->out->nkeys;

	if (!accept(r, '('))
		return false;
	do {
		if (!literal(r, &lit) || !add_key(r, &lit)) {
			r->out->nkeys = before;
			return false;
		}
	} while (accept(r, ','));
	if (accept(r, ')') && at_conjunct_end(r))
		return true;
	r->out->nkeys = before;
	return false;
}

/* NOW() and kin, alone. */
static bool now(struct rows *r)
{
	uint16_t kw = r->t->kw;
	bool bare = kw_table[kw].flags & KWF_BARE;

	if (kw != KW_NOW && kw != KW_CURRENT_TIMESTAMP && kw != KW_LOCALTIME && kw != KW_LOCALTIMESTAMP &&
	    kw != KW_UTC_TIMESTAMP && kw != KW_SYSDATE && kw != KW_UNIX_TIMESTAMP)
		return false;
	r->out->clocks |= kw == KW_UTC_TIMESTAMP ? SQL_CLOCK_UTC :
			  kw == KW_UNIX_TIMESTAMP ? SQL_CLOCK_UNIX :
			  SQL_CLOCK_LOCAL;
	next(r);
	if (!accept(r, '('))
		return bare;
	if (kw != KW_UNIX_TIMESTAMP)
		accept(r, TOK_NUMBER);
	return accept(r, ')');
}

/* A conjunct that begins with a column: key = literal, key IN (literals), expires > NOW(). */
static bool column_conjunct(struct rows *r)
{
	struct slice name;
	struct sql_literal lit;

	if (!column(r, &name))
		return false;
	if (is_column(name, r->w->key) && !r->keyed) {
		if (accept_kw(r, KW_IN))
			return r->keyed = key_list(r);
		if (accept(r, '=') && literal(r, &lit) && at_conjunct_end(r))
			return r->keyed = add_key(r, &lit);
		return false;
	}
	/* Only this way round: a row that comes into sight when it expires would be missed by an entry made before. */
	if (!is_column(name, r->w->expires) || !(accept(r, '>') || accept(r, TOK_GE)) || !now(r) || !at_conjunct_end(r))
		return false;
	r->nows++;
	return true;
}

/* literal = key, NOW() < expires. */
static bool value_conjunct(struct rows *r)
{
	struct slice name;
	struct sql_literal lit;

	if (kw_table[r->t->kw].depends & SQLF_NOW) {
		if (!now(r) || !(accept(r, '<') || accept(r, TOK_LE)) || !column(r, &name) ||
		    !is_column(name, r->w->expires) || !at_conjunct_end(r))
			return false;
		r->nows++;
		return true;
	}
	if (r->keyed || !literal(r, &lit) || !accept(r, '=') || !column(r, &name) || !is_column(name, r->w->key) ||
	    !at_conjunct_end(r))
		return false;
	return r->keyed = add_key(r, &lit);
}

/* Over one conjunct that says nothing about the key. Returns false where AND does not bind weakest. */
static bool skip_conjunct(struct rows *r)
{
	unsigned parens = 0, between = 0;

	for (; r->t->type != TOK_END; next(r)) {
		if (r->t->type == '(') {
			parens++;
		} else if (parens > 0) {
			parens -= r->t->type == ')';
		} else if (at_condition_end(r)) {
			return true;
		} else if (r->t->kw == KW_OR || r->t->kw == KW_XOR || r->t->type == TOK_OR ||
			   r->t->type == TOK_ASSIGN || r->t->kw == KW_CASE) {
			return false; /* CASE: an AND may be inside of it */
		} else if (r->t->kw == KW_BETWEEN) {
			between++;
		} else if (r->t->kw == KW_AND || r->t->type == TOK_AND) {
			if (between == 0)
				return true;
			between--;
		}
	}
	return true;
}

static bool conjunction(struct rows *r, unsigned level);

/* ( condition ), the whole conjunct. What is not a conjunction in it counts as a conjunct that says nothing. */
static bool paren_conjunct(struct rows *r, unsigned level)
{
	if (level == NESTING || !accept(r, '(') || !conjunction(r, level + 1))
		return false;
	return accept(r, ')') && at_conjunct_end(r);
}

/* One condition that AND combines with others. */
static bool conjunct(struct rows *r, unsigned level)
{
	struct rows before = *r;
	uint16_t nkeys = r->out->nkeys;

	if (r->t->type == '(' ? paren_conjunct(r, level) : column_conjunct(r))
		return true;
	*r = before;
	r->out->nkeys = nkeys;
	if (value_conjunct(r))
		return true;
	*r = before;
	r->out->nkeys = nkeys;
	return skip_conjunct(r);
}

static bool conjunction(struct rows *r, unsigned level)
{
	do {
		if (!conjunct(r, level))
			return false;
	} while (accept_kw(r, KW_AND) || accept(r, TOK_AND));
	return at_condition_end(r);
}

/* WHERE names the rows by key. */
static bool where_is_keyed(struct rows *r)
{
	if (r->ps->where.p == NULL)
		return false;
	rows_init(r, r->ps->where);
	return conjunction(r, 0) && r->keyed;
}

/* To a comma or the end of a list of values. */
static void skip_value(struct rows *r)
{
	unsigned parens = 0;

	for (; r->t->type != TOK_END; next(r)) {
		if (r->t->type == '(')
			parens++;
		else if (parens > 0)
			parens -= r->t->type == ')';
		else if (r->t->type == ',' || r->t->kw == KW_WHERE || at_condition_end(r) || r->t->kw == KW_ON)
			return;
	}
}

/* column = value, ... : new values of the key must be literals. *found says whether there was one. */
static bool assignments(struct rows *r, struct place at, bool *found)
{
	struct slice name;
	struct sql_literal lit;

	*found = false;
	if (at.p == NULL)
		return false;
	rows_init(r, at);
	do {
		if (!column(r, &name) || !(accept(r, '=') || accept(r, TOK_ASSIGN)))
			return false;
		if (!is_column(name, r->w->key)) {
			skip_value(r);
			continue;
		}
		*found = true;
		const uint8_t *value = r->t->at;
		if (!literal(r, &lit) || !add_key(r, &lit))
			return false;
		const uint8_t *behind = r->t->at;
		skip_value(r);
		if (r->t->at != behind || behind == value)
			return false;
	} while (accept(r, ','));
	return at_condition_end(r) || r->t->kw == KW_WHERE || r->t->kw == KW_ON;
}

/* (a, b, c): the key's place in it. False when there is none. */
static bool column_list(struct rows *r, int *place)
{
	struct slice name;

	*place = -1;
	for (int i = 0; column(r, &name); i++) {
		if (is_column(name, r->w->key))
			*place = i;
		if (!accept(r, ','))
			break;
	}
	return *place >= 0 && accept(r, ')');
}

/* One row of VALUES, behind its parenthesis. */
static bool row_values(struct rows *r, int place, int columns)
{
	struct sql_literal lit;
	int i = 0;

	do {
		if (i == place) {
			if (!literal(r, &lit) || !add_key(r, &lit) || (r->t->type != ',' && r->t->type != ')'))
				return false;
		} else {
			skip_value(r);
		}
		i++;
	} while (accept(r, ','));
	return accept(r, ')') && place < i && (columns < 0 || columns == i);
}

/* INSERT or REPLACE from the table's name on: the key of every row is a literal. */
static bool inserted_keys(struct rows *r)
{
	struct slice name;
	int place = r->w->key_ordinal, columns = r->w->columns;
	bool found;

	if (r->ps->into.p == NULL)
		return false;
	rows_init(r, r->ps->into);
	if (!column(r, &name))
		return false;
	if (r->t->kw == KW_SET)
		return assignments(r, r->ps->assign, &found) && found;
	if (accept(r, '(')) {
		columns = -1;
		if (!column_list(r, &place))
			return false;
	}
	if (place < 0 || !(accept_kw(r, KW_VALUES) || accept_kw(r, KW_VALUE)))
		return false;
	do {
		if (!accept(r, '(') || !row_values(r, place, columns))
			return false;
	} while (accept(r, ','));
	return at_condition_end(r) || r->t->kw == KW_ON;
}

static bool is_keyed(struct rows *r)
{
	bool found;

	switch (r->out->kind) {
	case SQL_SELECT:
		return where_is_keyed(r) && r->out->nkeys == 1;
	case SQL_DELETE:
		return where_is_keyed(r);
	case SQL_UPDATE:
		return where_is_keyed(r) && assignments(r, r->ps->assign, &found);
	case SQL_REPLACE:
		return r->w->sole_unique && inserted_keys(r);
	case SQL_INSERT:
		if (!inserted_keys(r))
			return false;
		return r->ps->on_duplicate.p == NULL ||
		       (r->w->sole_unique && assignments(r, r->ps->on_duplicate, &found));
	default:
		return false;
	}
}

void rows_find(struct parse *ps, const struct sql_watch *w)
{
	struct rows r = {.ps = ps, .w = w, .out = ps->out};

	if (!is_keyed(&r)) {
		ps->out->nkeys = 0;
		return;
	}
	ps->out->scope = SQL_SCOPE_KEYS;
	ps->out->now_is_expiry = ps->out->kind == SQL_SELECT && ps->nows > 0 && r.nows == ps->nows;
}
