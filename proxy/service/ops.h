/* SPDX-License-Identifier: Apache-2.0
 *
 * What the admin port and the web service may ask of the running proxy. Filled in by main.c, so that these services
 * know nothing of workers. Callbacks are called from the services' own threads, several at a time, and may block.
 */
#ifndef ST_SERVICE_OPS_H
#define ST_SERVICE_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/config.h"
#include "base/slice.h"
#include "cluster/topology.h"

struct admin_ops {
	void *arg;
	unsigned groups; /* server groups: 0 is the default one, the others are services in the configuration's order */
	/* The current snapshots, with a reference for the caller; never NULL. The config is the whole. */
	struct topology *(*topology)(void *arg, unsigned group);
	struct config *(*config)(void *arg);
	/* As cache_usage and cache_store_status; rule is an index in the current config of the group. */
	struct config *(*group_config)(void *arg, unsigned group);
	void (*cache_usage)(void *arg, unsigned group, unsigned rule, uint64_t *entries, uint64_t *bytes,
			    uint64_t *evictions);
	void (*cache_status)(void *arg, unsigned group, char *buf, size_t cap);
	/* Where the statement would go and why, as pairs for people: kind, tables, route, server, reason, digest ... */
	void (*explain)(void *arg, unsigned group, struct slice sql, const char *schema,
			void (*row)(void *row_arg, const char *name, const char *value), void *row_arg);
	/* 0, or -1 when there is no such server, rule (NULL: all rules). */
	int (*drain)(void *arg, const char *server, bool drained);
	int (*flush)(void *arg, const char *rule);
	/* 0, or -1 with the reason in err. */
	int (*reload)(void *arg, char *err, size_t cap);
	int (*kill)(void *arg, uint64_t connection, bool query_only, char *err, size_t cap);
};

#endif
