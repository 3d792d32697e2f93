/* SPDX-License-Identifier: Apache-2.0
 *
 * The last write to each table that was acknowledged through this proxy, so that consistency = global costs a read two
 * numbers to compare. Tables are hashed into a fixed array of slots; a collision only sends a read to the primary for
 * a moment. One for the process; workers write and read without locks.
 *
 * The promise: freshness_wrote() was called before the client heard of the write; so a read that starts later sees the
 * slot, and goes only to a replica whose applied position covers it.
 */
#ifndef ST_CLUSTER_FRESHNESS_H
#define ST_CLUSTER_FRESHNESS_H

#include <stdbool.h>
#include <stdint.h>

#include "mysql/gtid.h"

struct freshness;

struct freshness *freshness_new(void);
void freshness_free(struct freshness *f);

/* The slot key of a table: hash of db, '.', name; ASCII lower case when fold. */
uint64_t freshness_table(struct slice db, struct slice name, bool fold);

/* Records an acknowledged write with its GTID. Wakes whoever waits in freshness_wait_newer. Any thread. */
void freshness_wrote(struct freshness *f, const uint64_t *tables, unsigned n, struct gtid g);
void freshness_wrote_all(struct freshness *f, struct gtid g); /* effects unknown: every table */

/* A write whose outcome or GTID is not known (the connection died, no GTID was told): these tables (all when n is 0)
 * are read at the primary until a position of the primary sampled after this call is known, and then from replicas
 * that cover it. */
void freshness_unknown(struct freshness *f, const uint64_t *tables, unsigned n);
/* These tables are written outside the binlog (sql_log_bin=0): read at the primary for ever. */
void freshness_unreplicated(struct freshness *f, const uint64_t *tables, unsigned n);
/* By the monitor: the primary's position. Take `mark` BEFORE asking the server, hand it over with the answer: it
 * settles what freshness_unknown recorded before the mark. */
uint64_t freshness_mark(struct freshness *f);
void freshness_sampled(struct freshness *f, uint64_t mark, const struct gtid_pos *primary);
/* Another server became the primary: sequences are not comparable across a lost tail. Every slot becomes unknown. */
void freshness_new_primary(struct freshness *f);

/* True when a server at `applied` has every recorded write to these tables (n == 0: to any table at all). */
bool freshness_covered(const struct freshness *f, const struct gtid_live *applied, const uint64_t *tables, unsigned n);

/* For the monitor's waiters: the newest position anyone has written. Blocks up to timeout_ms until it holds something
 * that `applied` does not cover, or freshness_wake was called; returns false on timeout or wake. */
bool freshness_wait_newer(struct freshness *f, const struct gtid_live *applied, unsigned timeout_ms,
			  struct gtid_pos *out);
void freshness_wake(struct freshness *f);

#endif
