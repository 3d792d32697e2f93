/* SPDX-License-Identifier: Apache-2.0 */
#include "sql/digest.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "sql/classify.h"

enum { LIST_NONE, LIST_OPEN, LIST_LITERAL };
enum { ROWS_NONE, ROWS_WORD, ROWS_FIRST, ROWS_BETWEEN, ROWS_COMMA, ROWS_MORE };

void digest_init(struct digest *d, char *out, size_t cap)
{
	d->hash = 0;
	d->out = cap > 0 ? out : NULL;
	d->cap = cap;
	d->len = 0;
	d->fill = d->depth = 0;
	d->last = TOK_END;
	d->last_kw = KW_NONE;
	d->list = LIST_NONE;
	d->rows = ROWS_NONE;
	d->held_comma = d->held_minus = d->held_semicolon = false;
}

/* What stands between and instead of tokens. */
enum { LITERAL = 1, NO_BLANK_BEFORE = 2, NO_BLANK_BEHIND = 4 };
static const uint8_t traits[256] = {
	[TOK_END] = NO_BLANK_BEHIND, ['('] = NO_BLANK_BEHIND, ['.'] = NO_BLANK_BEFORE | NO_BLANK_BEHIND,
	[','] = NO_BLANK_BEFORE, [')'] = NO_BLANK_BEFORE, [';'] = NO_BLANK_BEFORE,
	[TOK_STRING] = LITERAL, [TOK_NUMBER] = LITERAL, [TOK_PARAM] = LITERAL, [TOK_HEX] = LITERAL,
	[TOK_BITS] = LITERAL, [TOK_NULL] = LITERAL,
};

/* ASCII to lower case, 16 characters at a time; bytes from 0x80 on stay. */
typedef uint8_t chunk __attribute__((vector_size(16)));

static void lower(char *p)
{
	chunk c;

	memcpy(&c, p, sizeof(c));
	c |= (chunk)(c - 'A' < 26) & 0x20;
	memcpy(p, &c, sizeof(c));
}

/* Blocks are cut at fixed places of the normalised text, so the hash depends on nothing else. */
__attribute__((noinline)) static void flush(struct digest *d)
{
	unsigned size = d->fill < DIGEST_BLOCK ? d->fill : DIGEST_BLOCK;

	for (unsigned i = 0; i < size; i += sizeof(chunk)) /* a block is a multiple of it */
		lower(d->block + i);
	if (d->out != NULL) {
		size_t n = d->cap - 1 - d->len < size ? d->cap - 1 - d->len : size;
		memcpy(d->out + d->len, d->block, n);
		d->len += n;
	}
	d->hash = XXH3_64bits_withSeed(d->block, size, d->hash);
	d->fill -= size;
	memcpy(d->block, d->block + DIGEST_BLOCK, DIGEST_SLACK);
}

/* Into the block or its slack: the caller flushes in time. */
static inline void put_char(struct digest *d, char c)
{
	d->block[d->fill++] = c;
}

/* n <= 16: two moves that may overlap, where memcpy would look at what machine it is on. */
static inline void copy_short(char *to, const uint8_t *from, size_t n)
{
	if (n >= 8) {
		memcpy(to, from, 8);
		memcpy(to + n - 8, from + n - 8, 8);
	} else if (n >= 4) {
		memcpy(to, from, 4);
		memcpy(to + n - 4, from + n - 4, 4);
	} else {
		for (size_t i = 0; i < n; i++)
			to[i] = (char)from[i];
	}
}

__attribute__((noinline)) static void put_long(struct digest *d, struct slice s)
{
	while (s.n > 0) {
		if (d->fill >= DIGEST_BLOCK)
			flush(d);
		size_t n = DIGEST_BLOCK - d->fill < s.n ? DIGEST_BLOCK - d->fill : s.n;
		memcpy(d->block + d->fill, s.p, n);
		d->fill += (unsigned)n;
		s = slice_of(s.p + n, s.n - n);
	}
}

static inline void put(struct digest *d, struct slice s)
{
	if (s.n > 16) {
		put_long(d, s);
		return;
	}
	copy_short(d->block + d->fill, s.p, s.n);
	d->fill += (unsigned)s.n;
}

static inline bool space_between(const struct digest *d, uint8_t type)
{
	if ((traits[d->last] & NO_BLANK_BEHIND) || (traits[type] & NO_BLANK_BEFORE))
		return false;
	if (type != '(')
		return true;
	return d->last != TOK_QUOTED && (d->last != TOK_WORD || (kw_table[d->last_kw].flags & KWF_RESERVED));
}

static bool is_literal(uint8_t type)
{
	return traits[type] & LITERAL;
}

static void emit(struct digest *d, const struct token *t)
{
	if (space_between(d, t->type))
		put_char(d, ' ');
	d->last = t->type;
	d->last_kw = t->kw;
	if (t->type == TOK_WORD) {
		put(d, t->text);
	} else if (t->type < TOK_WORD) {
		put_char(d, (char)t->type);
	} else if (is_literal(t->type)) {
		put_char(d, '?');
	} else if (t->type == TOK_QUOTED) {
		put_char(d, '`');
		put(d, t->text);
		put_char(d, '`');
	} else if (t->type == TOK_USER_VAR || t->type == TOK_SYS_VAR) {
		put(d, slice_str(t->type == TOK_USER_VAR ? "@" : "@@"));
		put(d, t->text);
	} else {
		put(d, t->text);
	}
	if (d->fill >= DIGEST_BLOCK)
		flush(d);
}

static void emit_held(struct digest *d)
{
	static const struct token comma = {.type = ',', .text = {(const uint8_t *)",", 1}};
	static const struct token minus = {.type = '-', .text = {(const uint8_t *)"-", 1}};

	if (d->held_comma)
		emit(d, &comma);
	if (d->held_minus)
		emit(d, &minus);
	d->held_comma = d->held_minus = false;
}

/* Inside `IN (`: all literals, with or without a minus, become one. Returns whether the token is dealt with. */
static bool fold_list(struct digest *d, const struct token *t)
{
	if (is_literal(t->type)) {
		bool swallow = d->list == LIST_LITERAL && d->held_comma;
		if (d->list == LIST_OPEN || swallow) {
			d->held_comma = d->held_minus = false;
			d->list = LIST_LITERAL;
			if (!swallow)
				emit(d, t);
			return true;
		}
	} else if (t->type == ',' && d->list == LIST_LITERAL && !d->held_comma) {
		d->held_comma = true;
		return true;
	} else if (t->type == '-' && !d->held_minus && (d->list == LIST_OPEN || d->held_comma)) {
		d->held_minus = true;
		return true;
	}
	emit_held(d);
	d->list = LIST_NONE;
	return false;
}

/* After VALUES: the rows behind the first are dropped. Returns whether the token is dealt with. */
static bool fold_rows(struct digest *d, const struct token *t)
{
	int step = t->type == '(' ? 1 : t->type == ')' ? -1 : 0;

	switch (d->rows) {
	case ROWS_FIRST:
	case ROWS_MORE:
		d->depth += (unsigned)step;
		bool swallow = d->rows == ROWS_MORE;
		if (d->depth == 0)
			d->rows = ROWS_BETWEEN;
		return swallow;
	case ROWS_BETWEEN:
		d->rows = t->type == ',' ? ROWS_COMMA : ROWS_NONE;
		d->held_comma = t->type == ',';
		return d->held_comma;
	case ROWS_WORD:
	case ROWS_COMMA:
		if (t->type == '(') {
			d->rows = d->rows == ROWS_WORD ? ROWS_FIRST : ROWS_MORE;
			d->depth = 1;
			d->held_comma = false;
			return d->rows == ROWS_MORE;
		}
		d->rows = ROWS_NONE;
		emit_held(d);
		return false;
	default:
		return false;
	}
}

static bool fold(struct digest *d, const struct token *t)
{
	return (d->rows != ROWS_NONE && fold_rows(d, t)) || (d->list != LIST_NONE && fold_list(d, t));
}

void digest_token(struct digest *d, const struct token *t)
{
	if ((d->rows | d->list) != 0 && fold(d, t))
		return;
	if (t->type == TOK_END)
		return;
	if (d->held_semicolon) {
		put_char(d, ';');
		if (d->fill >= DIGEST_BLOCK) /* nothing else may follow that looks: semicolons alone */
			flush(d);
	}
	d->held_semicolon = t->type == ';';
	if (d->held_semicolon)
		return;
	if (t->type == '(' && d->last == TOK_WORD && d->last_kw == KW_IN)
		d->list = LIST_OPEN;
	else if (t->kw == KW_VALUES || t->kw == KW_VALUE)
		d->rows = ROWS_WORD;
	emit(d, t);
}

uint64_t digest_end(struct digest *d)
{
	static const struct token end = {.type = TOK_END};

	digest_token(d, &end);
	flush(d);
	if (d->out != NULL)
		d->out[d->len] = '\0';
	return d->hash;
}

size_t sql_digest_text(struct slice text, unsigned text_mode, char *buf, size_t cap)
{
	struct digest d;
	struct lex lx;
	struct token t;

	if (cap == 0)
		return 0;
	digest_init(&d, buf, cap);
	lex_init(&lx, text, text_mode);
	for (lex_next(&lx, &t); t.type != TOK_END; lex_next(&lx, &t))
		digest_token(&d, &t);
	digest_end(&d);
	return d.len;
}
