/* SPDX-License-Identifier: Apache-2.0
 *
 * What a text may do when it runs, statement by statement: the body of a routine, trigger or view, an expression of a
 * column, or a statement that the classifier does not read closely. Tokens count, not substrings. A word that could be
 * a verb is one; what cannot be read with certainty has all effects. Never allocates. Pure; any thread.
 */
#ifndef ST_SQL_BODY_H
#define ST_SQL_BODY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "sql/effect.h"

enum body_use {
	BODY_FUNCTION, /* a function that is not built in: one that the dictionary has not may do anything */
	BODY_MAYBE,    /* a function if the dictionary has it, else something harmless */
	BODY_PROCEDURE,
	BODY_NAME      /* a table or view if the dictionary has it: every name behind SELECT and its like */
};

struct body {
	struct slice text;
	struct slice params; /* of a routine, as its definition lists them: their names are no system variables */
	unsigned mode;       /* enum sql_text_mode */
	bool statement;      /* a client's: it may be none that we know; what CREATE PROCEDURE stores is not run */
	/* Told of each name; quotes are undone, db is empty where none stands. In the text's character set. */
	void (*use)(void *arg, enum body_use use, struct slice db, struct slice name);
	void *arg;
};

/* A union of enum effect: what the text does by itself, without what it uses. */
unsigned body_effects(const struct body *b);

/* What the flags of a statement (enum sql_flag) say of its effects. */
unsigned body_flag_effects(uint32_t flags);

#endif
