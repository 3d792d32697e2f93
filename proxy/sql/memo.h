/* SPDX-License-Identifier: Apache-2.0
 *
 * What the classifier said of a look-up, for the next one that differs in nothing but its key. An application asks
 * with the same text again and again: only the string between the quotes is another. Texts that agree before that
 * string's opening quote and behind its closing one are read alike, as long as the string itself holds no quote and no
 * backslash: the lexer is in the same state at the quote, takes the string for one token whatever it holds, and goes on
 * in the same state. That there is such a token at that place is not supposed, but was seen when the first of them was
 * classified: it is the statement's one key.
 *
 * One for a worker; not shared.
 */
#ifndef ST_SQL_MEMO_H
#define ST_SQL_MEMO_H

#include "sql/classify.h"

struct sql_memo;

struct sql_memo *sql_memo_new(void);
void sql_memo_free(struct sql_memo *m);
/* As sql_classify: *out is the same, and refers to `text` only. Returns whether it was remembered. */
bool sql_memo_classify(struct sql_memo *m, struct slice text, unsigned text_mode, struct slice schema,
		       const struct sql_watch *watch, unsigned nwatch, struct sql_stmt *out);
/* What is watched for has changed: forgets all. */
void sql_memo_clear(struct sql_memo *m);

#endif
