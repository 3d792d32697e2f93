/* SPDX-License-Identifier: Apache-2.0
 *
 * What a script may leave behind, and what keeps the next one from a fresh start. One thread.
 */
#ifndef ST_DIFF_CLEAN_H
#define ST_DIFF_CLEAN_H

#include "pair.h"

/* The connections of accounts whose sessions have ended, and prepared XA branches. */
void clean_leftovers(struct pair *p);

/* Why a replica does not replicate; NULL: it does. Owned by the caller. */
char *clean_replication_error(struct pair *p, struct wire *replica);
/* Those that do not begin anew, without the data, where the primary is now. */
void clean_mend_replicas(struct pair *p);

/* The first row of a statement, with tabs between its values; "" without one. Owned by the caller. */
char *clean_value(struct wire *w, const char *sql, struct answer *a);

#endif
