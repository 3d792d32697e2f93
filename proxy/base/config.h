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

enum { CONFIG_LISTENS = 8, CONFIG_SERVERS = 32, CONFIG_RULES = 32, CONFIG_SERVICES = 8, CONFIG_MATCHES = 32,
       CONFIG_NETS = 16 };

enum config_mode { MODE_OBSERVE, MODE_SPLIT, MODE_CACHE };
enum config_consistency { CONSISTENCY_GLOBAL, CONSISTENCY_SESSION, CONSISTENCY_EVENTUAL };
enum config_role { CONFIG_ROLE_AUTO, CONFIG_ROLE_PRIMARY, CONFIG_ROLE_REPLICA };

struct config_server {
	char name[64];
	struct addr address;
	enum config_role role;
	unsigned weight;          /* 0: no reads */
	unsigned max_connections; /* all workers together; 0: the server's own max_connections less a reserve */
	int service;              /* index of the [service.X] that names it, -1: the default group's */
};

struct config_net { /* addresses that agree with ip in the first `bits` bits */
	uint8_t ip[16]; /* IPv4 is IPv4-mapped */
	uint8_t bits;   /* of 128 */
};

struct config_nets { /* NET[, NET].. */
	struct config_net at[CONFIG_NETS];
	unsigned n;
};

struct config_match { /* a destination that a program wanted */
	struct config_net net;
	uint16_t port;
	char path[108]; /* a unix socket's, "" for a net */
};

struct config_service { /* [service.NAME]: a server group of its own behind the same proxy */
	char name[64];
	struct config_matches {
		struct config_match at[CONFIG_MATCHES];
		unsigned n;
		char *text; /* as written */
	} match;
	char *servers;                         /* names of [server.X], as written */
	char *monitor_user, *monitor_password; /* NULL: those of [monitor] */
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
	char service_name[64]; /* of the [service.X] whose table it is; "": the default group's */
	int service;           /* its index, -1: the default group's */
};

struct config {
	atomic_uint refs;
	char *path; /* the file, or NULL */

	/* [proxy] */
	struct addr listen[CONFIG_LISTENS];
	unsigned nlisten;
	struct config_nets proxy_nets; /* clients there may send a PROXY protocol header */
	unsigned workers;
	enum config_consistency consistency;
	enum config_mode mode;
	enum log_level log_level;
	unsigned max_connections;      /* clients, 0: no limit but descriptors */
	uint64_t max_allowed_packet;   /* bytes; the largest command accepted from a client */
	uint64_t client_memory;        /* bytes: session/budget.h */
	uint64_t login_timeout_ms;     /* a client that does not finish its login */
	uint64_t connect_timeout_ms;   /* to a server, login included */
	uint64_t pool_wait_ms;         /* for a free server connection */
	uint64_t pool_idle_ms;         /* an idle server connection is closed after this */
	uint64_t primary_wait_ms;      /* statements that need a primary wait so long for one */
	uint64_t drain_timeout_ms;     /* SIGTERM */
	unsigned core_dumps;           /* 0: none */

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
	uint64_t confirm_timeout_ms; /* an acknowledgement waits so long for its invalidation */
	uint64_t memory_limit;     /* bytes, store = memory */
	uint64_t max_entry;        /* bytes of one cached answer */
	struct config_rule rules[CONFIG_RULES];
	unsigned nrules;

	/* [service.X] */
	struct config_service services[CONFIG_SERVICES];
	unsigned nservices;

	/* A view (config_view): servers, rules and monitor account are those of one group. */
	struct config *whole; /* what it is a view of, NULL for the whole itself; a reference */
	char service[64];     /* the group's name, "" for the default group */
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

/* What one server group has of the configuration: the same settings, but only its servers and its rules, and its
 * monitor account. service: an index in c->services, or -1 for the servers and rules that no service names. A new
 * config with one reference, which holds one on c (the whole; not itself a view). */
struct config *config_view(struct config *c, int service);
/* The index of the service that this destination is of, -1: of none, the default group. c is the whole or a view. The
 * first match in the order of the file wins. IPv4 and IPv4-mapped IPv6 are the same. */
int config_service_for(const struct config *c, const struct sockaddr *wanted, socklen_t len);
/* May a client at this address say by a PROXY protocol header whom it speaks for? Unix sockets always. */
bool config_trusts(const struct config *c, const struct sockaddr *peer);
/* Do both name the same services, in the same order? A reload cannot change that. Reports, as config_report_fixed does,
 * what is new or gone. */
bool config_same_services(const struct config *old, const struct config *new_,
			  void (*report)(void *arg, const char *line), void *arg);

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
