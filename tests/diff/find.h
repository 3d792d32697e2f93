/* SPDX-License-Identifier: Apache-2.0
 *
 * A difference: what kind it is, whether it was seen before, how it is told. One thread.
 */
#ifndef ST_DIFF_FIND_H
#define ST_DIFF_FIND_H

#include "pair.h"

enum { KIND = 400 };

/* What the last answers of `p` first differ in, in a few words that stay the same when values change. */
void find_kind(const struct pair *p, char kind[KIND]);
/* The script's lines without their numbers, literals and session numbers, `;` between: equal for scripts of one shape.
 * Only the last line unless `all`. Owned by the caller. */
char *find_shape(const struct script *s, bool all);

/* How often this was counted before; counts it. */
unsigned find_count(const char *kind, const char *shape);

/* Both answers, as far as they differ. Owned by the caller. */
char *find_answers(const struct pair *p);

#endif
