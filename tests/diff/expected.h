/* SPDX-License-Identifier: Apache-2.0
 *
 * What a proxy must differ in, or what no two servers are alike in: the one list of it. (What the generator must not
 * write because it differs from run to run is said in grammar.h.) Pure.
 */
#ifndef ST_DIFF_EXPECTED_H
#define ST_DIFF_EXPECTED_H

#include <stdbool.h>

#include "base/slice.h"

/* Status flags that follow from the plan or the time taken: no good index used, no index used, query was slow. */
enum { EXPECTED_STATUS = 0x0010 | 0x0020 | 0x0800 };
/* An EOF behind columns has no warnings through the proxy and a status that is guessed (its server tells both at the
 * rows' end): neither is compared. Another EOF may say that state changed, but has no room to say which: no client can
 * use it. */
enum { EXPECTED_EOF_STATUS = 0x4000 };

/* A variable that may differ, by name. */
bool expected_variable(struct slice name);
/* Names that have no session value are the server's own; told once, as the direct server lists them. */
void expected_add_global(struct slice name);

/* The row just written at `from` is of such a variable ("row\tNAME\tVALUE"): it is left out. Only while asked to. */
bool expected_row(const struct buf *text, size_t from);
void expected_rows_are_variables(bool yes);

/* Are two rendered answers the same? MariaDB tells of some variables late ("track ..."), with the next OK that has a
 * change of its own: after SET STATEMENT, or a routine that failed. For the proxy, which asks to be told of more, that
 * OK comes sooner: so it may tell of what the direct one is silent of; after such a statement (`late`) the other way
 * about. */
bool expected_equal(struct slice direct, struct slice proxied, bool late);

/* Takes ids of connections and statements out of the error's message, which begins at `from`. */
void expected_message(struct buf *text, size_t from, unsigned code);

#endif
