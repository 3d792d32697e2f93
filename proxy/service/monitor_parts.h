/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to service/monitor*.c.
 *
 *	watch[i].checker  asks its server each interval; the primary's also samples the primary's position
 *	watch[i].waiter   while its server is a replica: waits there for the newest GTID anyone needs
 *	dictionary        the catalog, from the primary
 *	rights            accounts and what they may do, from the primary
 *
 * All state is under m->lock, which no thread holds while it talks to a server. Sinks are called under it, which keeps
 * their order; m->turn_lock comes after it and only guards sleeping.
 */
#ifndef ST_SERVICE_MONITOR_PARTS_H
#define ST_SERVICE_MONITOR_PARTS_H

#include <pthread.h>

#include "service/monitor.h"
#include "service/monitor_link.h"

enum { HISTORY = 64, RISE = 2, KNOWN = 64, FIXED = 12 /* variables that no session can set */ };
/* Reasons to end a sleep: enum monitor_poke's, and the monitor's own. */
enum { TURN_SERVERS = 1 << POKE_SERVERS, TURN_ACCOUNTS = 1 << POKE_ACCOUNTS, TURN_CATALOG = 1 << POKE_CATALOG,
       TURN_CHANGED = 1 << (POKE_CATALOG + 1), TURNS = POKE_CATALOG + 2 };

/* The last sequence of each domain and server in a server's history: @@gtid_binlog_state and @@gtid_slave_pos. What
 * does not fit is not known, which only costs proofs. */
struct known {
	unsigned n;
	struct gtid id[KNOWN];
};

/* What one check saw. */
struct observation {
	bool read_only, replicates, io_running, sql_running;
	bool foreign; /* it replicates from a server that the configuration has in another group */
	bool has_gtid; /* a MariaDB: positions could be read */
	bool skip_name_resolve;
	uint8_t collation;
	uint32_t server_id, capabilities_lo, capabilities_hi;
	unsigned max_connections, lower_case_table_names;
	unsigned wait_timeout, interactive_timeout, max_prepared_stmt_count;
	uint64_t max_allowed_packet;
	char version[64];
	char filter[80];        /* what its replication leaves out, as "option = value"; "": nothing */
	char binlog_filter[80]; /* what its binary log leaves out */
	char globals[33], schemata[64]; /* fingerprints of what new sessions inherit; "": not known. The schemata's only
					 * of the primary */
	char fixed[FIXED][100];         /* monitor_globals.c */
	struct gtid_pos slave, binlog; /* @@gtid_slave_pos, @@gtid_binlog_pos */
	struct known known;
};

struct watch {
	struct monitor *m;
	struct server *server;
	struct config_server config;
	pthread_t checker, waiter;
	int cancel_fd;     /* readable: stop talking */

	/* the checker's */
	bool globals_known; /* over this connection */
	char *globals_question;
	struct {
		char globals[33], fixed[FIXED][100];
	} asked; /* of the last answer */

	atomic_bool gone;  /* left the configuration, or the monitor ends */

	/* under m->lock */
	bool checked;      /* at least one check ended */
	bool seen_once;    /* at least one went well */
	bool up, drained;
	bool fresh;        /* as last told: a replica with a proof that is young enough */
	unsigned successes; /* in a row */
	unsigned failed_seen, failed_checks; /* server->failed when last looked at, and good checks since */
	bool diverged; /* was ahead of the primary: it has transactions that the primary lost. Until it is rebuilt */
	bool unlike; /* is not as the primary in what no session can set, in `unlike_in`: no reads */
	const char *unlike_in;
	struct gtid_pos at_mark; /* what it had applied when the primary was last asked */
	unsigned era;      /* rises when the server's position went backwards: older answers are void */
	enum server_role role;
	struct observation seen; /* of the last good check */
	char why[96];
};

struct sample { /* the primary's position: everything committed at `at_us` is in it */
	int64_t at_us;
	struct gtid_pos pos;
};

struct monitor {
	struct monitor_sink sink;
	struct freshness *freshness;

	pthread_mutex_t lock;
	struct config *config;
	struct watch *watches[CONFIG_SERVERS]; /* in the order of the configuration */
	unsigned n;
	struct watch *primary;                 /* NULL before the first; stays while it is down */
	bool primary_up, two_primaries, said_none;
	uint64_t generation, epoch;
	struct topology *published;
	struct sample history[HISTORY];        /* a ring; of this primary only */
	unsigned samples;
	struct known known;                    /* the primary's history at the newest sample */

	pthread_mutex_t reload_lock;
	pthread_t dictionary, rights;
	int cancel_fd;

	pthread_mutex_t turn_lock;
	pthread_cond_t turn;
	bool stopping;
	unsigned pokes[TURNS];
	uint64_t catalog_begun, catalog_wanted; /* generations of catalog reads */
	uint64_t accounts_begun;                /* and of accounts */
};

/* monitor.c */
/* Sleeps until `until`, or the end of the monitor or of w (may be NULL), or, not before `earliest`, a poke of `kinds`
 * (TURN_ bits) since monitor_pokes returned `seen`. Returns false at the end. Times are topology_now_us's. */
bool monitor_sleep(struct monitor *m, const struct watch *w, unsigned kinds, unsigned seen, int64_t earliest,
		   int64_t until);
unsigned monitor_pokes(struct monitor *m, unsigned kinds);
void monitor_changed(struct monitor *m); /* ends sleeps for TURN_CHANGED */
void monitor_event(struct monitor *m, const char *kind, const char *server, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));  /* locked */
/* Another history of transactions than before: what was applied or written of the old one says nothing (locked). */
void monitor_new_epoch(struct monitor *m);
void monitor_publish(struct monitor *m);    /* locked: roles, snapshot, and the sink when something changed */
/* Connects with the account for checks: the monitor's own, else the first [user.X]. 0, or -1 with error and why. */
int monitor_connect(struct monitor *m, struct link *l, const struct addr *address);
unsigned monitor_timeout_ms(struct monitor *m);
int64_t monitor_interval_us(struct monitor *m);

/* monitor_elect.c, pure */
/* Which of the watches is the primary now; `current` is the last one. NULL for none. *writable: how many could be. */
struct watch *monitor_elect(struct watch *const *watches, unsigned n, struct watch *current, unsigned *writable);
enum server_role monitor_role(const struct watch *w, const struct watch *primary);
void known_add(struct known *k, const char *text); /* a list as @@gtid_binlog_state has it */
/* Adds to out what of `pos` is the primary's history: ids of the primary's own (it has one order), and those of other
 * servers that it knows. The rest was written aside of it, or lost when it took over. */
void known_filter(const struct known *k, uint32_t primary_id, const struct gtid_pos *pos, struct gtid_pos *out);
/* The last own transactions of a server that once was the primary. */
void own_tail(const struct observation *seen, struct gtid_pos *out);

/* monitor_globals.c */
/* What new sessions inherit; the schemata's defaults of the primary alone. 0, or -1 when the link was lost. */
int monitor_ask_globals(struct watch *w, struct link *l, unsigned timeout_ms, bool primary, struct observation *o);
void monitor_take_globals(struct watch *w, struct observation *o); /* locked: tells the sink when they changed */
void monitor_compare(struct monitor *m); /* locked: is each replica as the primary? */

/* monitor_server.c: thread body */
void *monitor_checker(void *watch);
/* monitor_waiter.c: thread body */
void *monitor_waiter(void *watch);
/* Takes in what a replica says it has applied, and renews its proof of freshness (locked). */
void monitor_raise(struct watch *w, const struct gtid_pos *pos);
void monitor_prove(struct watch *w);
void live_read(const struct gtid_live *live, struct gtid_pos *out);
/* Forgets what a server had applied (locked). */
void monitor_forget(struct watch *w);

/* monitor_dictionary.c: thread body */
void *monitor_dictionary(void *monitor);
/* Where to read what servers hold: the primary, else any server that is up; NULL for none. `source` is only compared,
 * never followed: it may be gone. */
struct choice {
	const struct watch *source;
	struct addr address;
	bool primary, fold; /* is it the primary? does it fold table names? */
};
bool monitor_choose(struct monitor *m, struct choice *c);
struct config *monitor_config(struct monitor *m); /* with a reference for the caller */
void monitor_say(struct monitor *m, const char *kind, const char *text); /* an event about the primary */
/* monitor_rights.c: thread body */
void *monitor_rights(void *monitor);
/* monitor_accounts.c: the server's accounts with their rights, and [user.X]; NULL with l->why when they could not be
 * read. */
struct accounts *monitor_read_accounts(struct link *l, const struct config *c, uint64_t generation);
struct accounts *accounts_configured(const struct config *c, uint64_t generation); /* [user.X] alone */
/* What changes, but for odds of 2^-16 at worst, when accounts or rights do: cheap enough to be asked twice a second.
 * NULL when it could not be asked, or says nothing (then l->my is there); else the caller frees it. *flushes: FLUSH
 * statements so far; it may stay as it is. */
char *monitor_accounts_mark(struct link *l, unsigned timeout_ms, int64_t *flushes);
/* monitor_catalog.c: a catalog, complete or not; NULL when the connection was lost. */
struct catalog *monitor_read_catalog(struct link *l, const struct config *c, bool fold, uint64_t generation);

#endif
