/* SPDX-License-Identifier: Apache-2.0
 *
 * Two sides with equal data, one direct and one through the proxy, and sessions that run on both in lockstep. One
 * thread.
 */
#ifndef ST_DIFF_PAIR_H
#define ST_DIFF_PAIR_H

#include "script.h"
#include "wire.h"

enum { DIRECT, PROXIED, SIDES, REPLICAS = 4, ACCOUNTS = 200 };

struct place { /* where things are; strings are borrowed */
	uint16_t port[SIDES];             /* the direct primary's; the proxy's */
	uint16_t admin_port;              /* the proxy's; 0: whether it reads at replicas is never waited for */
	const char *root[SIDES];          /* sockets of the two primaries, for what no session does */
	const char *replica[REPLICAS];    /* sockets of the replicas behind the proxy */
	unsigned replicas;
	const char *rows, *definitions;   /* paths: statements that make the data */
};

struct session {
	struct wire wire[SIDES];
	bool open, was_told;              /* told: how to connect */
	bool in_transaction;              /* as the direct server says */
	unsigned kind;
	char db[64];
	uint32_t statement[SIDES][STATEMENTS];
	unsigned params[STATEMENTS];      /* of the direct one's; UINT_MAX: not prepared */
	bool asks[STATEMENTS];            /* for diagnostics */
	bool selected;                    /* from a table, since its login */
	bool was_reset;                   /* by COM_RESET_CONNECTION */
	bool late;                        /* it did what the server tells of late */
};

struct pair {
	struct place place;
	struct session session[SESSIONS];
	struct answer answer[SIDES];      /* of the last step */
	struct answer aside[SIDES];       /* of what is asked beside it */
	struct wire root[SIDES], keeper[SIDES]; /* as root at the primaries; as an application that keeps the data */
	struct wire watch[REPLICAS];      /* as root at the replicas */
	struct wire admin;
	struct script rows, definitions;  /* a line a statement */
	unsigned account;                 /* number of the account that sessions log in as now */
	unsigned locked_by;               /* the session that holds LOCK TABLES; 0: none */
	bool differs;                     /* something did, since the data were put back */
	bool catch_up;                    /* before each step replicas apply all that there is */
	bool defined;                     /* since the data were made anew, nothing changed a definition */
	uint64_t statements;              /* executed on both sides */
	char why[4096];                   /* of pair_open() and what else may fail for good */
};

enum outcome { SAME, DIFFERENT, SKIPPED, BROKEN /* `why` says */ };

/* Opens what is no session. */
bool pair_open(struct pair *p);
/* Ends all sessions, gives the next account, and puts the data back: rows only, or all when a definition may have
 * changed or `all` says so. */
bool pair_fresh(struct pair *p, bool all);
void pair_end_sessions(struct pair *p);

/* Are the two answers in p->answer the same, as far as they have to be? late: expected_equal(). */
enum outcome pair_compare(struct pair *p, bool late);

/* Runs a line on both sides. What both answered is in p->answer. */
enum outcome pair_step(struct pair *p, const char *line);

/* Waits until the proxy reads at replicas again (its dictionary is read at most once a second). */
void pair_wait_routed(struct pair *p);

#endif
