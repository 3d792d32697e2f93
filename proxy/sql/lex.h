/* SPDX-License-Identifier: Apache-2.0
 *
 * SQL text to tokens, the way MariaDB's own lexer cuts it (https://mariadb.com/kb/en/comment-syntax/,
 * https://mariadb.com/kb/en/identifier-names/): quotes under every sql_mode, comments, executable comments (whose
 * content comes out as tokens), numbers that run into names. Where servers of different versions or character sets
 * would cut differently, `bad` is set and stays. Never allocates, never reads past the text. Pure; any thread.
 */
#ifndef ST_SQL_LEX_H
#define ST_SQL_LEX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "sql/keyword.h"

/* A token is one of these, or the ASCII code of a single punctuation character. */
enum tok_type {
	TOK_END = 0,
	TOK_WORD = 128, /* unquoted name or keyword; kw says which */
	TOK_QUOTED,     /* `name`, or "name" under ANSI_QUOTES; text without the quotes */
	TOK_STRING,     /* text without the quotes, escapes not undone */
	TOK_NUMBER,
	TOK_HEX,        /* 0x.., x'..': the digits */
	TOK_BITS,       /* 0b.., b'..': the digits */
	TOK_NULL,       /* \N */
	TOK_PARAM,      /* ? */
	TOK_USER_VAR,   /* @name, @'name': the name */
	TOK_SYS_VAR,    /* @@name: the first part of the name */
	TOK_ASSIGN,     /* := */
	TOK_LE, TOK_GE, TOK_NE, TOK_NULL_SAFE, TOK_SHIFT, TOK_AND, TOK_OR, TOK_ARROW
};

struct token {
	struct slice text;
	uint8_t type;      /* enum tok_type */
	bool spaced;       /* a blank or comment stands before it */
	bool after_dot;    /* a dot stands right before it: never a keyword */
	bool escaped;      /* a backslash escape or doubled quote is inside */
	bool decorated;    /* N'..', x'..', b'..' */
	uint16_t kw;       /* enum kw, TOK_WORD only */
	const uint8_t *at; /* where it begins, quotes included */
};

struct lex {
	const uint8_t *p, *end;
	unsigned mode;      /* enum sql_text_mode */
	bool bad;           /* the text cannot be read with certainty */
	bool in_exec;       /* inside an executable comment */
	bool had_exec;      /* saw one */
	bool started;       /* a token has been seen */
	bool dot;           /* the last token was a dot, and nothing stood after it */
	bool name;          /* the last token was a name, and `.name` stands right after it */
	uint8_t hint;       /* enum sql_hint of comments before the first token */
};

void lex_init(struct lex *lx, struct slice text, unsigned mode);
/* The next token, TOK_END at the end (again and again). */
void lex_next(struct lex *lx, struct token *out);

#endif
