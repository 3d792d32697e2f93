/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a statement goes, and why. Pure decisions over what is known: first what the statement and the session allow
 * (route_wants), then which server (route_pick). The default is the primary.
 */
#ifndef ST_CLUSTER_ROUTE_H
#define ST_CLUSTER_ROUTE_H

#include "base/stats.h"
#include "cluster/catalog.h"
#include "cluster/freshness.h"
#include "cluster/topology.h"
#include "sql/classify.h"

enum route_target {
	TARGET_PRIMARY,
	TARGET_REPLICA,
	TARGET_LAST /* the server that ran the session's last statement */
};

struct route_facts { /* of the session, when the statement arrives */
	bool in_transaction;
	bool autocommit;
	bool serializable;
	bool locks;            /* LOCK TABLES */
	bool temporary_tables; /* it holds some, or may */
	struct slice schema;
};

struct route_want {
	enum route_target target;
	enum route_reason reason;
	bool ignore_freshness; /* the author asked for a replica */
};

struct route_want route_wants(const struct sql_stmt *stmt, const struct route_facts *facts,
			      const struct catalog *catalog);

struct route_need { /* what a replica must have */
	enum config_consistency consistency;
	bool ignore_freshness;
	const uint64_t *tables; /* freshness slots; n == 0: any table */
	unsigned n;
	struct gtid session;    /* consistency = session: this session's last write */
	struct gtid fence;      /* of the cache key */
	const struct gtid_pos *rights; /* the last change of rights; NULL: not known */
	uint32_t not_servers;   /* bit a view index: tried and failed */
};
/* The index of the readable replica with the fewest outstanding statements by weight, or -1 and then `why` says why
 * (else it is left alone). `turn` breaks ties; the caller counts it up. */
int route_pick(const struct topology *t, const struct freshness *f, const struct route_need *need, unsigned turn,
	       int64_t now_us, enum route_reason *why);

#endif
