/* SPDX-License-Identifier: Apache-2.0
 *
 * Makes a script that shows a difference in its last line shorter, as long as it still does. One thread.
 */
#ifndef ST_DIFF_SHRINK_H
#define ST_DIFF_SHRINK_H

#include "find.h"

/* Runs it from the start on fresh data. True: the last line differs, and in that kind; nothing before it does. */
bool shrink_shows(struct pair *p, const struct script *s, const char *kind);

/* At most `tries` runs. Changes `s` in place. */
void shrink(struct pair *p, struct script *s, const char *kind, unsigned tries);

#endif
