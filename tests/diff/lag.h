/* SPDX-License-Identifier: Apache-2.0
 *
 * Makes replicas lag: a thread for each that lets it apply nothing for moments.
 */
#ifndef ST_DIFF_LAG_H
#define ST_DIFF_LAG_H

#include "pair.h"

enum lag {
	LAG_RANDOM, /* each replica stops and goes on by itself, up to half a second at a time */
	LAG_NONE,   /* they apply as they can */
	LAG_ALWAYS, /* they apply nothing */
};

void lag_start(const struct place *place);
void lag_set(enum lag lag); /* soon after */
void lag_stop(void);        /* and lets them go on */

#endif
