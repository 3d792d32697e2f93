/* SPDX-License-Identifier: Apache-2.0
 *
 * Servers, and what is known of them. `struct server` lives as long as anyone refers to it and carries what changes by
 * the millisecond (atomics). `struct topology` is an immutable, counted snapshot of roles and states that the monitor
 * publishes; a worker holds one and swaps it between turns of its loop.
 */
#ifndef ST_CLUSTER_TOPOLOGY_H
#define ST_CLUSTER_TOPOLOGY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "mysql/gtid.h"

/* Twice what a configuration holds: some linger in old snapshots, some move from one service to another. */
enum { SERVER_IDS = 2 * CONFIG_SERVERS };
enum server_role { ROLE_UNKNOWN, ROLE_PRIMARY, ROLE_REPLICA };
enum server_state { SERVER_DOWN, SERVER_UP };
const char *server_role_name(enum server_role r);   /* "unknown", "primary", "replica" */
const char *server_state_name(enum server_state s); /* "down", "up" */

struct server {
	atomic_uint refs;
	unsigned id; /* dense, below SERVER_IDS, one for the process: index for stats and pools */
	char name[64];
	struct addr address;
	/* written by the monitor (release), read by anyone (acquire) */
	struct gtid_live applied; /* replicas: what it has applied; primary: its binlog position when last sampled */
	_Atomic int64_t fresh_us; /* replicas: newest T (monotonic us) of which it is proved to have applied all that
				   * the primary had committed at T; 0: no proof. Lag is now - fresh_us. */
	/* written by workers */
	atomic_int outstanding;       /* statements in flight, all workers: the balancer's measure */
	atomic_uint failed; /* raised by a worker when a connection failed: left at once; the monitor clears it
			     * after its checks passed */
	atomic_int connections;       /* open server connections, all workers: for max_connections */
};
struct server *server_ref(struct server *s);
void server_unref(struct server *s); /* any thread */
/* Gives a new server its id, and takes note that one has left the configuration: then its id may be given away, once
 * nobody refers to the server any more, or at once when all are taken. Any thread. */
void server_arrives(struct server *s);
void server_leaves(struct server *s);

struct server_view { /* one server in a snapshot */
	struct server *server; /* the snapshot holds a reference */
	enum server_role role;
	enum server_state state;
	bool drained;             /* DRAIN: no new statements unless it is the only primary */
	bool unlike;              /* differs from the primary in what no session can set, but an answer may depend on:
				   * no reads */
	unsigned weight;
	unsigned max_connections; /* configured, or derived from the server's own */
	uint32_t server_id;
	bool partial;             /* replication leaves something out: what it has is stale for ever; no reads */
	char why[96];             /* why it is down or not used; "" when it is */
};

struct topology {
	atomic_uint refs;
	uint64_t generation;       /* rises with each snapshot */
	uint64_t primary_epoch;    /* rises when another server becomes the primary */
	int primary;               /* index in views of the writable server that is up, or -1 */
	int64_t max_replica_lag_us;
	int64_t last_sample_us;    /* while there is no primary: when it last said how far it is; else 0 */
	char version[64];          /* the primary's version string for greetings, "" until one was seen */
	uint32_t capabilities_lo, capabilities_hi; /* the primary's capability bits (hi: MariaDB's extended ones) */
	uint8_t collation;         /* the primary's default collation id for greetings */
	uint64_t max_allowed_packet;
	unsigned lower_case_table_names;
	unsigned wait_timeout, interactive_timeout; /* seconds, the primary's defaults; 0 until they were seen */
	unsigned max_prepared_stmt_count; /* valid when `version` is */
	bool skip_name_resolve;    /* for the host in error 1045 */
	unsigned n;
	struct server_view views[CONFIG_SERVERS];
};
struct topology *topology_ref(struct topology *t);
void topology_unref(struct topology *t); /* any thread */

/* True when views[i] may serve reads now: a replica of everything, up, not drained, weight > 0, not unlike the primary,
 * not failed, and its newest proof of freshness is less than max_replica_lag old, or was when the primary went: nothing
 * newer can be acknowledged since. now_us is monotonic microseconds. */
bool topology_readable(const struct topology *t, unsigned i, int64_t now_us);

/* Monotonic microseconds: the clock of fresh_us. */
int64_t topology_now_us(void);
/* The same clock as of the kernel's last tick, some milliseconds ago: never a system call, as the exact one is where
 * the machine's clock cannot be read from user space. For ages of seconds. */
int64_t topology_now_coarse_us(void);

#endif
