/* SPDX-License-Identifier: Apache-2.0
 *
 * Parameters of COM_STMT_EXECUTE from the words of a script's line. Pure.
 */
#ifndef ST_DIFF_PARAMS_H
#define ST_DIFF_PARAMS_H

#include "base/slice.h"

/* Appends all that follows the statement's id: flags, iterations, NULL bits, types, values. words: script.h. Exactly
 * `want` parameters: NULLs for those that are missing, the rest is left out. */
void params_put(struct buf *b, const char *words, unsigned want);

#endif
