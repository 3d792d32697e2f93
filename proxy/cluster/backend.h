/* SPDX-License-Identifier: Apache-2.0
 *
 * One server connection: connect, log in, turn on session tracking, then commands of whoever owns it. While it is
 * owned, its bytes go to the owner's `readable`; while idle, anything that arrives ends it.
 */
#ifndef ST_CLUSTER_BACKEND_H
#define ST_CLUSTER_BACKEND_H

#include "cluster/pool.h"
#include "mysql/handshake.h"
#include "mysql/result.h"

enum backend_step {
	BACKEND_CONNECT,
	BACKEND_GREETING,
	BACKEND_AUTH,
	BACKEND_SETUP,
	BACKEND_IDLE,
	BACKEND_OWNED,
	BACKEND_CLOSED
};

struct backend_ops { /* the owner's; called while owned */
	void (*readable)(struct backend *b);
	void (*drained)(struct backend *b);
};

enum { BACKEND_STATEMENTS = 64 }; /* prepared statements kept open on one server connection */

struct backend_statement {
	uint64_t key;  /* text and everything that its preparation depends on */
	uint32_t id;   /* the server's */
	uint32_t used; /* for least recently used */
};

struct backend {
	struct conn conn;
	TAILQ_ENTRY(backend) link;
	struct pool *pool;
	enum backend_step step;
	bool deprecate_eof;            /* the server negotiated it */
	bool tainted;                  /* state that cannot be told apart: reset before the next owner */
	bool spoilt;                   /* not even a reset makes it what its pool says */
	bool read_only;                /* set up for reads alone, as a replica's: nothing can be written by it */
	uint64_t epoch;                /* in which it was begun */
	struct defaults *base;         /* counted; what it has where `have` says nothing: the identity's base */
	struct defaults *ground;       /* counted; the same, but for what is its server's own */
	uint8_t rights[RIGHTS_DIGEST]; /* its account's when it connected: the server judges by these or newer ones */
	uint32_t thread_id;
	uint32_t uses; /* statements run: the stamp by which a session knows that it was the last user */
	uint64_t last_insert_id;       /* what LAST_INSERT_ID() answers here, as far as known */
	struct state have;
	struct setup *setup;           /* while it is under way */
	int64_t idle_since;            /* monotonic microseconds */
	const struct backend_ops *ops;
	void *owner;
	struct backend_statement *statements;
	unsigned nstatements, clock;
	struct event deadline;         /* connect and login */
};

/* Starts a connection for a pool; ends in pool_ready or pool_failed, not from within this call. */
void backend_connect(struct pool *p);
/* The owner gives it back: in a known clean state (no transaction, no pinned state). With `tainted` it is reset first.
 * Nulls the giver's pointer. */
void backend_put(struct backend **b);
/* The owner or pool ends it. `failed`: the server is at fault, and is left until the monitor has looked. */
void backend_close(struct backend *b, bool failed, const char *why);

/* Prepared statements on this connection. */
bool backend_statement_find(struct backend *b, uint64_t key, uint32_t *id);
/* Records one; when the table is full the least recently used goes, and COM_STMT_CLOSE for it is appended to out. */
void backend_statement_add(struct backend *b, uint64_t key, uint32_t id, struct buf *out);
void backend_statement_forget(struct backend *b, uint64_t key, struct buf *out);

/* For backend_setup.c. */
void backend_fail(struct backend *b, unsigned code, const char *sqlstate, bool from_server, const char *fmt, ...)
	__attribute__((format(printf, 5, 6))); /* it never became usable: whoever waits for it is told why */

#endif
