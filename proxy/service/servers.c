/* SPDX-License-Identifier: Apache-2.0 */
#include "service/servers.h"

#include <stdio.h>

#include "base/stats.h"

void servers_get(const struct admin_ops *ops, struct servers *out)
{
	out->n = 0;
	out->groups = ops->groups;
	for (unsigned g = 0; g < ops->groups; g++) {
		struct topology *t = out->topology[g] = ops->topology(ops->arg, g);
		out->config[g] = ops->group_config(ops->arg, g);
		for (unsigned i = 0; i < t->n; i++) {
			out->at[out->n].view = &t->views[i];
			out->at[out->n++].service = out->config[g]->service;
		}
	}
}

void servers_put(struct servers *s)
{
	for (unsigned g = 0; g < s->groups; g++) {
		topology_unref(s->topology[g]);
		config_unref(s->config[g]);
	}
}

const char *servers_name(const struct servers *s, unsigned id, char buf[64])
{
	snprintf(buf, 64, id == STATS_NO_SERVER ? "" : "server-%u", id);
	for (unsigned i = 0; i < s->n; i++)
		if (s->at[i].view->server->id == id)
			snprintf(buf, 64, "%s", s->at[i].view->server->name);
	return buf;
}
