/* SPDX-License-Identifier: Apache-2.0
 *
 * What a proxy must differ in, or what no two servers are alike in: the one list of it. (What the generator must not
 * write because it differs from run to run is said in grammar.h.) Pure.
 */
#ifndef ST_DIFF_EXPECTED_H
#define ST_DIFF_EXPECTED_H

#include <stdbool.h>

#include "base/slice.h"

/* Status flags that follow from the plan chosen or the time taken: no good index used, no index used, query was slow. */
enum { EXPECTED_STATUS = 0x0010 | 0x0020 | 0x0800 };

/* A variable that may differ, by name. */
bool expected_variable(struct slice name);
/* Names that have no session value are the server's own; told once, as the direct server lists them. */
void expected_add_global(struct slice name);

/* The row just written at `from` is of such a variable ("row\tNAME\tVALUE"): it is left out. Only while asked to. */
bool expected_row(const struct buf *text, size_t from);
void expected_rows_are_variables(bool yes);

/* Takes ids of connections and statements out of the error's message, which begins at `from`. */
void expected_message(struct buf *text, size_t from, unsigned code);

#endif
