/* SPDX-License-Identifier: Apache-2.0
 *
 * Makes replicas lag: a thread that lets each of them apply nothing for moments of up to half a second.
 */
#ifndef ST_DIFF_LAG_H
#define ST_DIFF_LAG_H

#include "pair.h"

void lag_start(const struct place *place);
void lag_stop(void); /* and lets them go on */

#endif
