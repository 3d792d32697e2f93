/* SPDX-License-Identifier: Apache-2.0
 *
 * What clients do that hold a proxy's memory without giving it work. Both print what they saw and return an exit code.
 */
#ifndef ST_BENCH_HOLD_H
#define ST_BENCH_HOLD_H

#include "client.h"

/* Opens `count` connections, runs `sql` once on each, prints "idle COUNT", holds them until stdin ends, then says how
 * many the other side has closed meanwhile: "lost=N". */
int hold_idle(const struct account *to, unsigned count, const char *sql);

/* Runs `sql` and reads its answer like a slow client: the first megabyte, then nothing for `pause` seconds ("paused" is
 * printed), then `megabytes` a second. Prints "rows=N bytes=N seconds=S". */
int hold_slow_result(const struct account *to, const char *sql, double pause, double megabytes);

#endif
