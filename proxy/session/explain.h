/* SPDX-License-Identifier: Apache-2.0
 *
 * EXPLAIN ROUTE: where a statement of a fresh session would go now, and why, without running it. Any thread.
 */
#ifndef ST_SESSION_EXPLAIN_H
#define ST_SESSION_EXPLAIN_H

#include "cluster/catalog.h"
#include "cluster/freshness.h"
#include "cluster/topology.h"
#include "base/config.h"
#include "base/slice.h"

struct explain_world { /* the snapshots to decide by; borrowed */
	const struct config *config;
	const struct topology *topology; /* may be NULL */
	const struct catalog *catalog;   /* NULL: not trusted */
	const struct freshness *freshness;
};

void explain_route(const struct explain_world *w, struct slice sql, const char *schema,
		   void (*row)(void *arg, const char *name, const char *value), void *arg);

#endif
