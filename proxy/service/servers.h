/* SPDX-License-Identifier: Apache-2.0
 *
 * The servers of all groups at one moment, for tables and metrics.
 */
#ifndef ST_SERVICE_SERVERS_H
#define ST_SERVICE_SERVERS_H

#include "service/ops.h"

struct servers {
	unsigned n;
	struct {
		const struct server_view *view;
		const char *service; /* "" for the default group */
	} at[CONFIG_SERVERS + CONFIG_SERVICES * CONFIG_SERVERS];
	unsigned groups;
	struct topology *topology[1 + CONFIG_SERVICES]; /* by group */
	struct config *config[1 + CONFIG_SERVICES];     /* each group's view */
};

void servers_get(const struct admin_ops *ops, struct servers *out); /* give it back with servers_put */
void servers_put(struct servers *s);

/* A server's name by its stats id: "" for none, "server-N" for one that has left. */
const char *servers_name(const struct servers *s, unsigned id, char buf[64]);

#endif
