/* SPDX-License-Identifier: Apache-2.0
 *
 * A worker's server connections. Sessions that log in alike (user, password, the capabilities that change answers,
 * character set) share an `identity`; an identity has one pool for each server. A connection is idle in its pool, or
 * owned by whoever took it, never both:
 *
 *      connecting -> idle <-> owned            closed by: error, idle time, drain, server gone
 *                     ^         |
 *                     +- reset -+   (COM_RESET_CONNECTION when its state cannot be told apart any more)
 *
 * Whatever its server, a connection that is lent has what a connection to the primary has at its login, the identity's
 * `base`: what a session has not set is the primary's default. Where its server gives others, its setup sets them
 * (cluster/backend_setup.h). Each connection is of an epoch: when globals or schemas' defaults may have changed a new
 * one begins, and none of an older one is lent any more.
 *
 * Everything here runs on the worker's thread.
 */
#ifndef ST_CLUSTER_POOL_H
#define ST_CLUSTER_POOL_H

#include <sys/queue.h>

#include "base/config.h"
#include "cluster/rights.h"
#include "cluster/topology.h"
#include "mysql/auth.h"
#include "mysql/defaults.h"
#include "mysql/state.h"
#include "net/conn.h"
#include "net/worker.h"

struct backend;
struct pool;

struct backend_error {
	unsigned code;
	char sqlstate[6];
	char text[320];
	bool from_server; /* the server said no (wrong password, too many connections): the client is told just that */
};

/* Capabilities that change what a server answers: part of an identity. */
uint32_t identity_caps(uint32_t client_caps);
uint32_t identity_xcaps(uint32_t client_xcaps);

struct identity {
	LIST_ENTRY(identity) link;
	unsigned refs;                 /* sessions, and pools that are not empty */
	char *user;
	bool has_password;
	uint8_t stage1[AUTH_SHA1];     /* SHA1(password) */
	uint32_t caps, xcaps;
	uint16_t collation;
	unsigned stats_user;
	uint16_t login_status;         /* server status after a fresh login; 0 until one was seen */
	struct defaults *base;         /* counted; NULL until a connection was measured */
	uint64_t base_epoch;           /* in which the primary gave it; 0: it is a replica's, for want of a primary */
	int64_t refused_us;            /* when a replica last refused it, monotonic */
	struct pool *pools[STATS_SERVERS];
};

TAILQ_HEAD(backend_list, backend);
struct pool_wait;
TAILQ_HEAD(wait_list, pool_wait);

struct pool {
	struct identity *identity;
	struct server *server;         /* counted */
	struct cluster *cluster;
	struct backend_list idle;      /* last used first */
	struct backend_list making;    /* connecting, logging in, being reset */
	struct wait_list waiters;
	unsigned nidle, nopen, nconnecting, nwaiting;
	/* backend_setup.c's */
	struct defaults *born;         /* counted; what a fresh connection has here; NULL: to be measured */
	char mark[33];                 /* its fingerprint, "" until it was asked */
	bool init_connect;             /* the server runs statements at a login, and not after a reset */
	struct defaults *ground_base, *ground; /* counted; what a connection has here that was set up for that base */
	struct buf fix;                /* the commands that make born the ground */
	unsigned nfix;
	bool fix_read_only;            /* made for connections that are */
	uint8_t rights[RIGHTS_DIGEST]; /* its account's, as last told by pool_get */
	uint64_t born_epoch;           /* in which that was last found to be right */
	int64_t changed_us;            /* when it was last found to be wrong */
	int64_t refused_us;            /* when the server last refused a login, or to be made the ground */
};

/* One worker's view of the servers. */
struct cluster {
	struct worker *worker;
	struct config *config;         /* counted; replaced by cluster_reload */
	struct topology *topology;     /* counted; replaced by cluster_publish */
	unsigned workers;
	_Atomic uint64_t *epoch;       /* the group's; begins with 1 */
	struct defaults_list defaults; /* those of its identities and pools: equal ones are the same */
	LIST_HEAD(, identity) identities;
	unsigned open[STATS_SERVERS];  /* this worker's connections by server id */
	struct event sweeper;
};

void cluster_init(struct cluster *c, struct worker *w, unsigned workers, struct config *config,
		  _Atomic uint64_t *epoch);
void cluster_fini(struct cluster *c);
/* Both take over one reference. */
void cluster_publish(struct cluster *c, struct topology *t);
void cluster_reload(struct cluster *c, struct config *config);

/* The identity of a login; counted for the caller, who gives it back with identity_put. stage1 NULL: no password. */
struct identity *identity_get(struct cluster *c, struct slice user, const uint8_t *stage1, uint32_t caps,
			      uint32_t xcaps, uint16_t collation);
void identity_put(struct cluster *c, struct identity **id);

/* Is id->base what the primary gives now? */
static inline bool identity_settled(const struct cluster *c, const struct identity *id)
{
	return id->base_epoch == atomic_load_explicit(c->epoch, memory_order_acquire);
}

struct pool_wait { /* embedded in whoever waits */
	TAILQ_ENTRY(pool_wait) link;
	struct pool *pool; /* NULL: not waiting */
	uint64_t epoch;    /* when it began to wait: an older connection is not for it */
	int64_t since;     /* monotonic us */
	/* A connection is the waiter's now, or none could be made (b is NULL). Never from within pool_get. */
	void (*done)(struct pool_wait *w, struct backend *b, const struct backend_error *error);
};

/* The replicas that have just refused this identity, as bits by topology view: they are asked once a second. */
uint32_t pool_refusing(const struct cluster *c, const struct identity *id, int64_t now_us);
/* Makes a connection to the primary that nobody waits for, so that the identity is settled: for who has no use for one.
 */
void pool_settle(struct cluster *c, struct identity *id);

/* What of several idle connections is best. */
struct pool_taste {
	uint64_t state_hash;      /* one that has this state already */
	uint32_t thread_id, uses; /* or, above all, the very connection that ran the session's last statement, if nobody
				   * has used it since; 0: none */
	const uint8_t *rights;    /* RIGHTS_DIGEST bytes; one that was logged in with other rights is closed. NULL:
				   * not known, any will do */
};
/* A connection to topology view `index` for this identity, or NULL, and then `wait` is queued. */
struct backend *pool_get(struct cluster *c, struct identity *id, unsigned index, const struct pool_taste *taste,
			 struct pool_wait *wait);
void pool_cancel(struct pool_wait *wait); /* may be called when not waiting */

/* For backend.c and backend_setup.c. */
bool pool_is_primarys(const struct pool *p);                               /* its server is the primary now */
bool pool_may_lend(const struct backend *b);                               /* it is of the present epoch, base, role */
void pool_forget_born(struct pool *p);
void pool_making(struct backend *b);                                       /* connecting, or being reset */
void pool_ready(struct backend *b);                                        /* fresh, reset or given back */
void pool_failed(struct pool *p, const struct backend_error *error);       /* a connect ended without a connection */
void pool_closed(struct backend *b);                                       /* it is gone */

#endif
