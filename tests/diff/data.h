/* SPDX-License-Identifier: Apache-2.0
 *
 * The data of both sides: made, put back, compared. And what a text may do to them, as far as the two sides have to be
 * kept apart for it.
 */
#ifndef ST_DIFF_DATA_H
#define ST_DIFF_DATA_H

#include "pair.h"

bool data_load(struct pair *p);               /* reads the two files and checks that they run */
bool data_reset(struct pair *p, bool all);    /* false: p->why */
enum outcome data_compare(struct pair *p);
enum outcome data_compare_replicas(struct pair *p);
void data_catch_up(struct pair *p);           /* replicas apply what there is, and the proxy may know of it */

bool text_defines(const char *sql);           /* may change what data_reset() without `all` does not put back */
bool text_needs_table_alone(const char *sql); /* waits for transactions of others that only read */
bool text_locks_tables(const char *sql);
bool text_unlocks_tables(const char *sql);

#endif
