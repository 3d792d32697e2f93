/* SPDX-License-Identifier: Apache-2.0
 *
 * Asks every server how it is, with plain blocking libmariadb code in threads of its own (one a server for checks, one
 * a replica that waits in MASTER_GTID_WAIT for the newest GTID needed; one for accounts, one for the catalog), and
 * publishes snapshots. Never on a statement's path.
 */
#ifndef ST_SERVICE_MONITOR_H
#define ST_SERVICE_MONITOR_H

#include "base/config.h"
#include "cluster/accounts.h"
#include "cluster/catalog.h"
#include "cluster/freshness.h"
#include "cluster/topology.h"

struct monitor;

/* Called from monitor threads, one call at a time. Each hands over one reference of its snapshot. A sink may call
 * monitor_poke, monitor_catalog_request and monitor_accounts_request, nothing else of the monitor. */
struct monitor_sink {
	void *arg;
	void (*topology)(void *arg, struct topology *t);
	void (*accounts)(void *arg, struct accounts *a);
	void (*catalog)(void *arg, struct catalog *c);
	void (*defaults)(void *arg); /* what new sessions inherit has changed at a server */
	void (*event)(void *arg, const char *kind, const char *server,
		      const char *text); /* topology and error history */
};

/* Starts threads. freshness is borrowed until monitor_stop. Publishes a first topology (all servers down) at once. */
struct monitor *monitor_start(struct config *config, struct freshness *freshness, const struct monitor_sink *sink);
/* A new configuration: servers come and go, the others keep their state. Any thread. */
void monitor_reload(struct monitor *m, struct config *config);
/* DRAIN and UNDRAIN. Returns 0, or -1 when no server has that name. */
int monitor_drain(struct monitor *m, const char *server, bool drained);
/* Something needs a look before the next interval: a server failed, an unknown account logged in, DDL passed.
 * Rate-limited inside; never blocks; any thread. */
enum monitor_poke { POKE_SERVERS, POKE_ACCOUNTS, POKE_CATALOG };
void monitor_poke(struct monitor *m, enum monitor_poke what);
/* DDL passed, or is about to be acknowledged: asks for a new look and returns the generation from which on catalogs
 * know of everything before this call; one with at least that generation will be published, changed or not. Until then
 * the names that the DDL touched must be treated as in an incomplete catalog. Rate-limited inside; any thread. */
uint64_t monitor_catalog_request(struct monitor *m);
/* The same for accounts and their rights: what may have changed them passed, or a login does not fit what is known. */
uint64_t monitor_accounts_request(struct monitor *m);
/* Joins its threads: bounded by monitor_timeout. Nothing is published any more; it may still be poked and asked for
 * the catalog and accounts until monitor_free. */
void monitor_stop(struct monitor *m);
void monitor_free(struct monitor *m);

#endif
