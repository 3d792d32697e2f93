/* SPDX-License-Identifier: Apache-2.0
 *
 * The proxy before one server group: what its workers share, the snapshots each of them holds, draining. There is one
 * for the default group and one for each [service.X]; all live on the same workers, and know nothing of each other but
 * where a client goes whose destination turns out to be another group's (session/front.h).
 */
#ifndef ST_SESSION_PROXY_H
#define ST_SESSION_PROXY_H

#include <stdatomic.h>
#include <sys/queue.h>

#include "cache/cache.h"
#include "cluster/accounts.h"
#include "cluster/catalog.h"
#include "cluster/freshness.h"
#include "cluster/pool.h"
#include "cluster/topology.h"
#include "net/worker.h"
#include "sql/memo.h"

struct session;
struct command;

enum proxy_poke { PROXY_POKE_SERVERS, PROXY_POKE_CATALOG };

/* What the session layer asks of the services above it. */
struct proxy_services {
	void *arg;
	void (*poke)(void *arg, enum proxy_poke what);
	/* The catalog generation from which on everything that was done before this call is seen. */
	uint64_t (*catalog_request)(void *arg);
	uint64_t (*accounts_request)(void *arg); /* and that of the accounts and their rights */
};

struct proxy {
	struct proxy_services services;
	struct freshness *freshness;
	struct cache_shared *cache;
	unsigned nworkers;
	struct proxy_worker **workers;
	struct proxy *const *groups; /* the default group's, then one a service in the order of the configuration */
	unsigned ngroups;
	atomic_int clients;
	atomic_uint prepared;        /* statements of all sessions: max_prepared_stmt_count */
	_Atomic uint64_t catalog_needed; /* DDL passed: snapshots older than this generation are not trusted */
	_Atomic uint64_t accounts_needed; /* and what may change rights: older ones serve no hits and no logins */
	atomic_int ddl_in_flight;
	_Atomic uint64_t code_needed; /* the same, of DDL that may change what a name reads or runs */
	atomic_int code_in_flight;
	atomic_bool draining;
	_Atomic uint64_t epoch; /* of what new sessions inherit: cluster/pool.h */
};

struct proxy_worker {
	struct worker *worker;
	struct proxy *proxy;
	struct cluster cluster;      /* config and topology snapshots are in here */
	struct cache *cache;
	struct accounts *accounts;
	struct catalog *catalog;
	struct sql_watch watch[CONFIG_RULES];
	unsigned nwatch;
	unsigned watched_since; /* rises when that changes */
	struct sql_memo *memo;
	LIST_HEAD(, session) sessions;
	TAILQ_HEAD(, session) wait_primary;
	TAILQ_HEAD(, session) lingering; /* oldest first */
	struct event linger_tick;    /* runs while there are any */
	TAILQ_HEAD(, session) wait_memory;
	struct event idle_tick;      /* at idle_due: idle.c */
	int64_t idle_due;            /* INT64_MAX: nobody is ever due */
	struct command *free_commands;
	unsigned nfree_commands;
	struct buf out;              /* to put messages together in, empty between callbacks */
	struct buf made;             /* relay.c's, for the packets that it makes */
	unsigned turn;               /* round robin between equal replicas */
	struct worker_hook turn_end;
};

/* config is a view of the group. Before the workers start; they outlive the proxy. */
struct proxy *proxy_new(struct worker *const *workers, unsigned n, struct config *config, struct freshness *freshness,
			const struct proxy_services *services);
/* Snapshots for all workers; each takes over the caller's reference. Any thread. */
void proxy_publish_topology(struct proxy *p, struct topology *t);
void proxy_publish_accounts(struct proxy *p, struct accounts *a);
void proxy_publish_catalog(struct proxy *p, struct catalog *c);
void proxy_reload(struct proxy *p, struct config *config);
/* What new sessions inherit may have changed: globals, a schema's defaults, the primary. Server connections from before
 * are not lent any more. Any thread; before whoever changed it hears that it is done. */
void proxy_new_epoch(struct proxy *p);
/* Sessions end when their statement or transaction has. */
void proxy_drain(struct proxy *p);
int proxy_clients(struct proxy *p); /* any thread */
/* KILL <id> of the admin port: ends the session. Any thread. */
void proxy_kill(struct proxy *p, uint32_t id);
/* Ends all sessions, on their workers, which are to be stopped behind it; then everything can be freed. */
void proxy_end(struct proxy *p);
void proxy_free(struct proxy *p);

#endif
