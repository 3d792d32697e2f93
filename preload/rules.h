/* SPDX-License-Identifier: Apache-2.0
 *
 * Which destinations are redirected, and where to. One struct holds everything that the shim and the supervisor of
 * sidetrack-run need to know; it is filled once, then read by any thread and any signal handler. The only part that
 * changes later is the list of addresses that a name was seen to have; that part is lock-free.
 * Allocates nothing.
 */
#ifndef ST_PRELOAD_RULES_H
#define ST_PRELOAD_RULES_H

#include <stdatomic.h>

#include "endpoint.h"

enum { RULES_MAX = 64, LEARNED_MAX = 256, NAME_MAX_BYTES = 255 };

enum rule_kind { RULE_NET, RULE_NAME, RULE_PATH };

struct rule {
	enum rule_kind kind;
	uint16_t port;                 /* RULE_NET, RULE_NAME */
	uint8_t bits;                  /* RULE_NET: how much of ip counts, of 128 */
	uint8_t ip[16];                /* RULE_NET: IPv4 is IPv4-mapped */
	uint8_t text_n;
	char text[NAME_MAX_BYTES + 1]; /* RULE_NAME: in lower case; RULE_PATH */
};

struct learned { /* an address that the name of a rule has */
	atomic_uint rule_plus_1; /* 0: free, or being written */
	_Atomic uint64_t ip[2];
};

struct rules {
	struct endpoint to;
	bool on;         /* false: nothing is redirected */
	bool strict;     /* an unreachable proxy fails the connect */
	bool send_proxy; /* PROXY protocol v2 goes first */
	bool peername;   /* getpeername() answers what the program asked for */
	bool debug;
	bool has_names;
	unsigned n;
	struct rule v[RULES_MAX];
	atomic_uint learned_n; /* how many were ever learnt: the ring's next place */
	struct learned learned[LEARNED_MAX];
};

/* What is wrong with a text that was refused. */
struct rules_error {
	const char *why;   /* static */
	struct text where; /* the part of the input */
};

/* Adds a comma list of: host:port, a.b.c.d/bits:port, [v6]:port, [v6/bits]:port, name:port, *:port, /unix/path; the
 * port is 3306 where none is given. false: *err says why, and what came before it in the list has been added. */
bool rules_add(struct rules *r, struct text list, struct rules_error *err);

/* Every destination that MariaDB clients use when they are told nothing. For when no rule is given. */
void rules_add_defaults(struct rules *r);

/* "1", "yes", "on", "true" and their opposites; the empty text is false. */
bool switch_parse(struct text t, bool *out);

/* Everything from SIDETRACK_TO, SIDETRACK_MATCH, SIDETRACK_STRICT, SIDETRACK_SEND_PROXY, SIDETRACK_PEERNAME and
 * SIDETRACK_DEBUG. No SIDETRACK_TO: off, and that is no error. false: something is wrong, and r is off. */
bool rules_from_env(struct rules *r, char *const *env, struct rules_error *err);

/* Is this destination to be redirected? Never true for the proxy itself. */
bool rules_match(struct rules *r, const struct sockaddr *sa, socklen_t len);

/* Does a rule name this host? */
bool rules_name_known(const struct rules *r, const char *name);
/* A look-up of `name` gave this address. */
void rules_learn(struct rules *r, const char *name, const struct sockaddr *sa, socklen_t len);

#endif
