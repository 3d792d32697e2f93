/* SPDX-License-Identifier: Apache-2.0
 *
 * A server group at work: the proxy before its servers, the monitor behind it, and what the monitor found, for those
 * who are no workers. The default group is one, each [service.X] another; they share the workers' threads, and no more.
 */
#ifndef ST_SERVICE_GROUP_H
#define ST_SERVICE_GROUP_H

#include "session/proxy.h"

struct group;

/* What one group sees of the whole configuration (service: index of a [service.X], -1: the default group). `changed` is
 * called when something new of its servers is known; any thread. */
struct group *group_new(struct worker *const *workers, unsigned n, struct config *whole, int service,
			void (*changed)(void *arg), void *arg);
void group_watch(struct group *g); /* starts the monitor */
/* Stops the monitor; sessions may go on. Then come proxy_end(), the workers' end, and group_free(). */
void group_unwatch(struct group *g);
void group_free(struct group *g);

/* Any thread from here on. */
struct proxy *group_proxy(const struct group *g);
/* Is what a login and a first read need there: a primary, accounts, the dictionary; and (*fresh) replicas that may be
 * read? */
bool group_known(struct group *g, bool *fresh);
void group_reload(struct group *g, struct config *whole);
struct topology *group_topology(struct group *g); /* with a reference for the caller, as is */
struct config *group_config(struct group *g);     /* its view of the configuration */
void group_explain(struct group *g, struct slice sql, const char *schema,
		   void (*row)(void *arg, const char *name, const char *value), void *arg);
int group_drain(struct group *g, const char *server, bool drained); /* -1: no such server */

#endif
