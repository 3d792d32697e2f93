/* SPDX-License-Identifier: Apache-2.0
 *
 * The normalised text of a statement, token by token, and its hash: words and names in lower case, literals as ?, lists
 * after IN and rows after VALUES as one. For people and counters, not for telling results apart: `select A` and
 * `select a` name their columns differently and share a digest. Pure; any thread.
 */
#ifndef ST_SQL_DIGEST_H
#define ST_SQL_DIGEST_H

#include "sql/lex.h"

enum { DIGEST_BLOCK = 256, DIGEST_SLACK = 32 };

struct digest {
	uint64_t hash;
	char *out;          /* where the text goes, NULL when only the hash is wanted */
	size_t cap, len;    /* of out; len stays below cap */
	unsigned fill;      /* bytes in block */
	unsigned depth;     /* of parentheses inside a row of VALUES */
	uint8_t last;       /* type of the last token, TOK_END before the first */
	uint16_t last_kw;
	uint8_t list, rows; /* where a list of IN, the rows of VALUES are */
	bool held_comma, held_minus;
	bool held_semicolon; /* the last one of a text is left out */
	char block[DIGEST_BLOCK + DIGEST_SLACK]; /* a short token may run over a block's end before it is flushed */
};

void digest_init(struct digest *d, char *out, size_t cap);
void digest_token(struct digest *d, const struct token *t);
uint64_t digest_end(struct digest *d);

#endif
