/* SPDX-License-Identifier: Apache-2.0
 *
 * Configuration: an ini file and command-line options become one immutable, counted `struct config`. Options are rows
 * of tbl/config.h (section, key, type, default, limits, whether a reload may change it, help): parser, --check,
 * defaults, the admin table `config` and conf/sidetrack.conf all come from them.
 */
#ifndef ST_BASE_CONFIG_H
#define ST_BASE_CONFIG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/log.h"

enum { CONFIG_LISTENS = 8, CONFIG_SERVERS = 32, CONFIG_RULES = 32 };

enum config_mode { MODE_OBSERVE, MODE_SPLIT, MODE_CACHE };
enum config_consistency { CONSISTENCY_GLOBAL, CONSISTENCY_SESSION, CONSISTENCY_EVENTUAL };
enum config_role { CONFIG_ROLE_AUTO, CONFIG_ROLE_PRIMARY, CONFIG_ROLE_REPLICA };

struct config_server {
	char name[64];
	struct addr address;
	enum config_role role;
	unsigned weight;          /* 0: no reads */
	unsigned max_connections; /* all workers together; 0: the server's own max_connections less a reserve */
};

struct config_user {
	char name[129];
	char *password; /* clear text, owned by the config */
};

struct config_rule { /* [cache.NAME] */
	char name[64];
	char db[65], table[65], key[65];
	char expires[65]; /* "" for none */
	uint64_t ttl_ms, negative_ttl_ms;
	unsigned stats_id; /* stats_rule_id(name) */
};

struct config {
	atomic_uint refs;
	char *path; /* the file, or NULL */

	/* [proxy] */
	struct addr listen[CONFIG_LISTENS];
	unsigned nlisten;
	unsigned workers;
	enum config_consistency consistency;
	enum config_mode mode;
	enum log_level log_level;
	unsigned max_connections;      /* clients, 0: no limit but descriptors */
	uint64_t max_allowed_packet;   /* bytes; the largest command accepted from a client */
	uint64_t login_timeout_ms;     /* a client that does not finish its login */
	uint64_t connect_timeout_ms;   /* to a server, login included */
	uint64_t pool_wait_ms;         /* for a free server connection */
	uint64_t pool_idle_ms;         /* an idle server connection is closed after this */
	uint64_t primary_wait_ms;      /* statements that need a primary wait so long for one */
	uint64_t drain_timeout_ms;     /* SIGTERM */

	/* [admin] */
	struct addr admin[CONFIG_LISTENS];
	unsigned nadmin;
	struct addr http;
	bool has_http;
	char *admin_user, *admin_password; /* NULL password: the admin port is refused to all but local unix peers */

	/* [server.X] */
	struct config_server servers[CONFIG_SERVERS];
	unsigned nservers;

	/* [monitor] */
	char *monitor_user, *monitor_password; /* NULL user: no monitor account */
	uint64_t monitor_interval_ms, monitor_timeout_ms, max_replica_lag_ms;

	/* [user.X] */
	struct config_user *users;
	unsigned nusers;

	/* [cache] and [cache.X] */
	bool store_redis;
	struct addr redis;
	char *redis_user, *redis_password; /* from the URL, or NULL */
	unsigned redis_db;
	uint64_t redis_timeout_ms; /* a lookup that takes longer is a bypass */
	uint64_t memory_limit;     /* bytes, store = memory */
	uint64_t max_entry;        /* bytes of one cached answer */
	struct config_rule rules[CONFIG_RULES];
	unsigned nrules;
};

/* What the command line says; each overrides the file. NULL or 0 where not given. */
struct config_options {
	const char *file;
	const char *listen, *primary, *replica[CONFIG_SERVERS], *redis, *admin, *http, *mode, *log_level;
	unsigned nreplica;
	int workers;
	bool unresolved; /* leave addresses unresolved: for tools, which must work while DNS does not */
};

/* Reads the file (if any) and the options, checks everything, resolves addresses. Every mistake becomes one line
 * "FILE:LINE: what is wrong, what was expected" through `report(arg, line)`; all are reported, not only the first.
 * Returns a config with one reference, or NULL when anything was wrong. Blocks; not on a worker. */
struct config *config_load(const struct config_options *options, void (*report)(void *arg, const char *line),
			   void *arg);
struct config *config_ref(struct config *c);
void config_unref(struct config *c); /* any thread; the last one frees (and wipes passwords) */

/* Names, for people, what differs between two configs but cannot change without a restart (listen, workers, ...).
 * Calls report once an option. */
void config_report_fixed(const struct config *old, const struct config *new_,
			 void (*report)(void *arg, const char *line), void *arg);

/* And keeps those values, since they are what runs. Before new_ is handed to anyone else. */
void config_keep_fixed(const struct config *old, struct config *new_);

/* Each option with its value now, passwords as "***": section, key, value, default. For the admin table. */
void config_visit(const struct config *c,
		  void (*visit)(void *arg, const char *section, const char *key, const char *value, const char *def),
		  void *arg);

/* The commented sample file made from the table (conf/sidetrack.conf is its output). */
void config_dump_sample(void (*line)(void *arg, const char *text), void *arg);

#endif
