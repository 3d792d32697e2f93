/* SPDX-License-Identifier: Apache-2.0
 *
 * Words that mean something to the classifier: keywords and built-in functions, found in one probe. Rows are in
 * tbl/keywords.h and tbl/functions.h. Pure; any thread.
 */
#ifndef ST_SQL_KEYWORD_H
#define ST_SQL_KEYWORD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

enum kw_flag {
	KWF_RESERVED = 1,     /* never a name, unless quoted or right after a dot */
	KWF_FUNC = 2,         /* a built-in function, with or without a blank before the parenthesis */
	KWF_GRAMMAR = 4,      /* a built-in function only when the parenthesis follows at once */
	KWF_BARE = 8,         /* a value also without parentheses: CURRENT_TIMESTAMP */
	KWF_ORACLE_BARE = 16, /* the same under sql_mode=ORACLE only: SYSDATE */
};

enum kw {
	KW_NONE, /* not in the tables */
#define KEYWORD(NAME, flags, depends) KW_##NAME,
#define FUNCTION(NAME, flags, depends) KW_##NAME,
#include "tbl/keywords.h"
#include "tbl/functions.h"
#undef KEYWORD
#undef FUNCTION
	KW_COUNT_ALL
};

struct kw_info {
	uint64_t word[4];  /* the word, each byte | 0x20, padded with zeros */
	uint32_t depends;  /* enum sql_flag: what a statement that uses the value depends on */
	uint8_t len;
	uint8_t flags;     /* enum kw_flag */
};
extern const struct kw_info kw_table[KW_COUNT_ALL];

/* The word's number, KW_NONE if it is none. `word` holds only ASCII letters, digits, _ and $. `end` is the end of
 * readable bytes, at or after the word's own end: it allows whole-word loads. */
enum kw kw_find(struct slice word, const uint8_t *end);

#endif
