/* SPDX-License-Identifier: Apache-2.0
 *
 * A client's session and the command it has in flight. One driver, many wakers: a session is always in one step; every
 * callback records what happened and moves it on.
 *
 *   (HEADER ->) LOGIN -> (SWITCH ->) IDLE -> LOOKUP -> ACQUIRE -> RELAY -> SETTLE -> IDLE
 *                              \-> FENCE -/    ^ WAIT (for a primary)
 *
 *   login.c     greeting, authentication, COM_CHANGE_USER
 *   command.c   what each command is; those that are answered here
 *   effects.c   what a statement reads and writes
 *   lookup.c    the cache's part: look-up, fences
 *   dispatch.c  from a statement to a server connection: route, acquire, send
 *   relay.c     the reply, on its way to the client
 *   settle.c    the reply has ended: state, freshness, invalidation, fill, the connection's way back
 *   prepared.c  prepared statements
 *   track.c     what OK packets say of the session's state
 *   session.c   life, input, the driver
 *   proxy.c     what workers share; publishing
 *   front.c     listening, accepting; which server group a client belongs to
 *
 * Everything runs on the worker's thread.
 */
#ifndef ST_SESSION_SESSION_H
#define ST_SESSION_SESSION_H

#include "cache/cache.h"
#include "cache/shape.h"
#include "cluster/accounts.h"
#include "cluster/backend.h"
#include "cluster/catalog.h"
#include "cluster/freshness.h"
#include "cluster/route.h"
#include "mysql/reply.h"
#include "session/front.h"
#include "session/proxy.h"

enum { SESSION_MAGIC = 0x5e5510e1 };

enum session_step {
	SESSION_HEADER,  /* the PROXY protocol header, before the greeting */
	SESSION_LOGIN,   /* the client's handshake response */
	SESSION_SWITCH,  /* its answer to an authentication switch */
	SESSION_REFRESH, /* accounts, read again since the login did not fit what is known */
	SESSION_VERIFY,  /* the schema named at login is tried at the server */
	SESSION_IDLE,    /* a command */
	SESSION_LOOKUP,  /* the cache's answer */
	SESSION_FENCE,   /* the store's confirmation, before a write is sent */
	SESSION_WAIT,    /* a primary */
	SESSION_ACQUIRE, /* a server connection */
	SESSION_RELAY,   /* the server's reply */
	SESSION_SETTLE,  /* the store's confirmation, before the client hears of a write */
	SESSION_CLOSED
};

enum { TOUCHED_MAX = 64 }; /* tables written in one transaction; more: all tables */

/* What a transaction or a statement has written, until it is committed and everyone was told. */
struct touched {
	bool all;
	unsigned n;
	uint64_t *tables;             /* freshness slots, TOUCHED_MAX when allocated */
	struct cache_change *changes; /* CONFIG_RULES when allocated; one a rule at most */
	unsigned nchanges;
	bool fenced;                  /* CACHE_BEFORE was sent for these changes */
	bool committed;               /* the server said so, or may have: the changes are owed to the store */
};

/* What a cached answer depends on beside the row and the statement, as a digest: who asks, in what state, how the
 * answer is put into packets. Made again when any of it has changed. */
struct shape_context {
	bool made;                    /* false: also after another login */
	struct siphash_key secret;
	uint64_t state;               /* hash of the state that it was made of */
	uint32_t caps, xcaps;
	uint16_t collation;
	struct siphash_key key;       /* the digest */
};

/* Which of a backend's replies are not the client's. */
enum swallow { SWALLOW_STATE, SWALLOW_EXPIRY, SWALLOW_PREPARE, SWALLOW_INSERT_ID };

/* A command in flight. Lent to a session while it is not idle: idle clients own none. */
struct command {
	struct command *next;       /* free list */
	struct session *session;
	struct buf request;         /* whole packets as the client sent them */
	uint8_t code;               /* COM_* */
	uint8_t seq;                /* of the next packet to the client */
	bool is_statement;          /* stmt says what it is: COM_QUERY, COM_STMT_PREPARE, COM_STMT_EXECUTE */
	bool pings;                 /* internal: the schema check at login */
	struct slice text;          /* the statement's, within request or the prepared statement */
	struct buf joined;          /* text of a statement of several packets */
	unsigned text_mode;
	const struct sql_stmt *stmt; /* &parsed, or what a prepared statement remembers; never NULL */
	struct sql_stmt parsed;
	struct prepared *ps;        /* of COM_STMT_EXECUTE, and what a COM_STMT_PREPARE makes */
	int64_t started_us;

	/* where to */
	struct route_want want;
	enum route_reason reason;
	uint64_t tables[SQL_TABLES];
	unsigned ntables;           /* 0: any table */
	bool to_replica;
	unsigned server_id;         /* stats id of the server that ran it */
	enum result_shape shape;    /* of the reply */
	uint32_t not_servers;
	uint8_t tries;
	bool primary_decides;       /* a replica answered with an error: the primary's answer counts */
	bool held_back;             /* refused by a primary that became read-only */
	bool ddl;
	int64_t wait_until_us;      /* for a primary; 0: it has not waited yet */
	char last_error[160];
	struct pool_wait wait;
	struct event timer;         /* waits: pool, primary */
	bool timer_set;

	/* the cache */
	bool cacheable;             /* key is valid */
	bool looked_up;
	struct cache_key key;
	struct cache_op op;
	struct cache_answer found;
	bool leased;
	struct buf fill;            /* the answer as the client gets it, while it may be cached */
	uint32_t fill_status[4];    /* offsets of status flags in it */
	unsigned nfill_status;
	int64_t expiry_ms;          /* until the row expires; -1: none does, -2: one has */
	struct cache_change *changes; /* CONFIG_RULES, allocated for writes only */
	unsigned nchanges;

	/* the reply */
	struct result result;
	enum swallow swallow[4];
	unsigned nswallow, swallowed;
	bool forwarded;             /* the client has seen bytes of it */
	bool failed;                /* it ended with ERR */
	bool retryable;
	bool changed;               /* session state changed in a way that only the server knows */
	bool finished;              /* the client's answer is complete */
	bool accounted;             /* what it wrote is in session.touched, or settled */
	uint64_t affected, insert_id;
	unsigned warnings;
	struct gtid gtid;
	struct buf held;            /* the packet that acknowledges a write, until the store has confirmed */
	unsigned held_parts;
	struct backend_error sync_error;
	bool sync_failed;
	const struct state *syncing; /* the state that the commands before the statement bring about */
	bool again;                 /* what was sent only prepares for the statement: dispatch_send comes again */
	bool sent_any;              /* counted as outstanding at the server */
	uint32_t skip;              /* bytes of a packet's rest that are still to be forwarded */
	int shift;                  /* of sequence ids, for packets that were put in or left out */
	uint16_t reply_status;
	uint64_t bytes;
};

struct prepared; /* prepared.c */

struct login_pending { /* a login that waits in SESSION_REFRESH */
	char user[129];
	uint8_t answer[64];
	size_t answer_len;
	unsigned seq;
};

struct discarded { /* a command too large, on its way to nowhere */
	uint8_t head[PACKET_HEADER];
	unsigned nhead;
	uint32_t left;
};

struct session {
	struct conn conn;
	uint32_t magic;
	uint32_t id;                 /* what the client believes is its connection id */
	struct proxy_worker *pw;
	LIST_ENTRY(session) link;
	TAILQ_ENTRY(session) wait_link; /* of pw->wait_primary while in SESSION_WAIT */
	enum session_step step;
	uint32_t caps, xcaps;
	uint16_t collation;
	uint16_t status;             /* server status as the client knows it */
	uint8_t salt[AUTH_SALT];
	bool unix_peer;
	enum header header;          /* may the next bytes be a PROXY protocol header? */
	uint32_t offered, xoffered;  /* capabilities of the greeting */
	bool half_closed;            /* the client has sent its last byte */
	bool in_input;               /* session_input is on the stack */
	size_t taken;                /* bytes of conn.in that were commands, from its front */
	char host[46];               /* numeric, or "localhost" */
	struct event deadline;       /* of the login */
	struct identity *identity;   /* NULL until logged in */
	struct login_pending *pending;
	struct discarded *discarded; /* it is refused when it has ended */
	char *login_name;            /* while logging in: user, and schema */
	char *login_schema;
	uint32_t packet_limit;

	struct state want;           /* session state as the client made it */
	struct shape_context context;
	struct backend *home; /* the connection that it keeps: transaction, pinned state, lingering diagnostics */
	struct backend *current;     /* the connection that runs its command */
	bool throttled;              /* current is not read: the client is slow */
	bool sticky;                 /* every statement goes to home: SET timestamp and kin */
	bool pinned, temporary_tables, locks, next_transaction, serializable, binlog_off;
	bool linger; /* home is kept only for what it knows of the last statements: warnings, FOUND_ROWS(),
		      * LAST_INSERT_ID(); others may have it when they wait for one */
	bool linger_diagnostics;     /* ... and not for LAST_INSERT_ID() alone, which can be asked and told elsewhere */
	int64_t linger_since;        /* monotonic us */
	TAILQ_ENTRY(session) linger_link;
	bool insert_id_dirty;        /* last_insert_id is to be asked before home goes back */
	uint64_t last_insert_id;
	uint32_t last_thread, last_uses; /* stamp of the connection that ran the last statement */
	int last_server;             /* its stats id, -1: none */
	struct gtid last_gtid;
	struct touched touched;
	struct command *command;
	struct prepared **prepared;  /* by id - 1 */
	unsigned nprepared;
	uint32_t last_prepared;      /* id, 0: none, or the last PREPARE failed */
};

/* session.c */
void session_open(struct proxy_worker *pw, int fd, const struct sockaddr_storage *peer, enum header header);
void session_name_peer(struct session *s, const struct sockaddr_storage *peer); /* where the client is */
/* The one way to die. `why` is logged at level debug, or warn when it is the client's fault. */
void session_close(struct session *s, const char *why);
void session_idle(struct session *s);   /* the command is done: goes on with what the client has sent meanwhile */
int session_send(struct session *s, const void *p, size_t n); /* closes and returns -1 when the client is gone */
void session_error(struct session *s, unsigned code, const char *sqlstate, const char *fmt, ...)
	__attribute__((format(printf, 4, 5))); /* answers the command with ERR and settles it */
void session_input(struct session *s);
void session_put_query(struct buf *out, const char *sql, size_t n); /* a COM_QUERY packet */
struct command *command_new(struct session *s);
void command_free(struct session *s);
void command_timer(struct command *c, uint64_t ms, event_callback_fn fn);
void command_timer_stop(struct command *c);

/* login.c */
void login_greet(struct session *s);
/* A packet in SESSION_LOGIN or SESSION_SWITCH. */
void login_packet(struct session *s, struct slice payload, unsigned seq);
void login_change_user(struct session *s, struct slice payload);
void login_accounts_came(struct session *s); /* it waited in SESSION_REFRESH */
void login_verified(struct session *s, const struct backend_error *error); /* the schema check ended */

/* command.c: s->command->request holds one whole command. */
void command_run(struct session *s);
/* Reads c->text under c->text_mode and this schema (NULL for none) into c->parsed. */
void command_classify(struct session *s, const char *schema);
/* OK to the client for a command that is answered here. */
void command_ok(struct session *s);

/* effects.c */
struct slice effects_schema(const struct session *s);           /* for the statement's unqualified names */
const struct catalog *effects_catalog(const struct session *s); /* NULL: nothing that it says can be relied on now */
void effects_note_reads(struct session *s);                     /* command.tables */
/* Fills slots (SQL_TABLES) with the tables that the statement writes; false when it may write others too. */
bool effects_names_writes(struct session *s, uint64_t *slots, unsigned *n);
bool effects_may_write(const struct command *c);
bool effects_may_commit(const struct command *c);               /* an open transaction */
void effects_ddl_begins(struct command *c);
void effects_ddl_ended(struct command *c);                      /* before the client hears of it */
void effects_catalog_changed(struct proxy *p);

/* lookup.c: both return false when there is nothing to wait for; else dispatch_route follows, or the answer. */
bool lookup_try(struct session *s);   /* a read: is the answer cached? */
bool lookup_fence(struct session *s); /* a write, or what may commit writes: fence its keys first */
void lookup_put_expiry_query(struct session *s, struct buf *out);
void command_swallow(struct command *c, enum swallow what, int times); /* a reply to come that is not the client's */

/* dispatch.c */
void dispatch_route(struct session *s);
void dispatch_statement(struct session *s);  /* stmt and text are set */
void dispatch_command(struct session *s, enum result_shape shape); /* another command: the primary */
void dispatch_again(struct session *s, int failed_server); /* run a read elsewhere */
void dispatch_hold(struct session *s);         /* the primary became read-only: wait for the next one */
void dispatch_primary_came(struct session *s); /* it waited in SESSION_WAIT */
void dispatch_send(struct session *s);   /* s->current is there */

/* relay.c */
extern const struct backend_ops relay_ops;
void relay_lost(struct session *s, const char *why); /* the server connection died under a command */
void relay_retry(struct session *s, bool hold);        /* a server refused to run the statement */
void relay_server_down(struct session *s); /* the server of s->current is: a read goes elsewhere at once */
struct backend *relay_detach(struct session *s); /* gives s->current up, and home with it */
void relay_client_drained(struct session *s);

/* settle.c */
void settle_gtid(struct session *s);      /* an OK told of a write: published before the client sees it */
bool settle_holds(struct session *s);     /* must the packet that ends the reply wait for the store? */
void settle(struct session *s);           /* the reply has ended */
void settle_give_up_linger(struct session *s); /* between commands: others wait for its lingering connection */
void settle_end_linger(struct session *s);     /* it is about to be used or put back */
void settle_insert_id(struct session *s); /* the trailing question was answered */
void settle_refused(struct session *s, const struct backend_error *error); /* it was never sent */
void settle_unknown(struct session *s);   /* what was sent and not answered counts as written */
void settle_unsent(struct session *s);    /* the session ends before its statement was sent: its fence may go */
void settle_lost(struct session *s);      /* the connection died under a statement that cannot be run again */
void settle_forget_home(struct session *s); /* the kept connection is gone, or somebody else's now */
void settle_home_lost(struct session *s, struct backend *b); /* the kept connection died between statements */
void settle_drop_home(struct session *s); /* resets the kept connection: transaction, locks and state go */
void touched_clear(struct touched *t);
bool touched_merge_changes(struct touched *t, const struct cache_change *changes, unsigned n);

/* track.c */
void track_ok(struct session *s, struct backend *b, const struct ok_packet *ok);
unsigned track_text_mode(const struct session *s); /* how the server reads this session's text */
/* What a client with CLIENT_SESSION_TRACK is told: what a server tells by default. Appends to out. */
void track_filter(struct slice state, struct buf *out);
void track_schema(struct session *s, struct backend *b); /* COM_INIT_DB succeeded */
void track_reset(struct session *s);      /* as after a login */
void track_statement(struct session *s);  /* the statement has ended without error: does it pin? */

/* prepared.c */
void prepared_prepare(struct session *s); /* COM_STMT_PREPARE */
void prepared_execute(struct session *s); /* COM_STMT_EXECUTE */
void prepared_long_data(struct session *s, struct slice payload);
void prepared_reset(struct session *s, struct slice payload);
void prepared_close(struct session *s, struct slice payload);
void prepared_free_all(struct session *s);
/* The server's answer to the client's COM_STMT_PREPARE: registers the statement, writes our id into the payload. */
void prepared_registered(struct session *s, struct backend *b, uint8_t *payload);
void prepared_failed(struct session *s);  /* it was refused */
/* Is c->ps prepared on this connection (in the session's present state)? */
bool prepared_known(struct session *s, struct backend *b);
void prepared_put_prepare(struct session *s, struct buf *out);
void prepared_learned(struct session *s, struct backend *b, uint32_t server_id); /* its answer */
void prepared_put_execute(struct session *s, struct backend *b, struct buf *out); /* long data and EXECUTE */
const struct state *prepared_state(const struct command *c); /* the state that its PREPARE runs under */
/* A kept connection cannot leave its schema: a statement prepared without one, which names all of its own, runs in it.
 */
void prepared_adopt_schema(struct command *c, const char *schema);
void prepared_executed(struct session *s);      /* long data is used up */
/* Parts of the cache's shape: the state that it was prepared in, parameters. */
void prepared_shape(const struct command *c, const struct siphash_key *secret, struct buf *out);
void prepared_params(const struct command *c, struct cache_params *out);

static inline bool session_in_transaction(const struct session *s)
{
	return (s->status & STATUS_IN_TRANS) != 0;
}
/* Must it keep its server connection? */
static inline bool session_bound(const struct session *s)
{
	return session_in_transaction(s) || s->pinned || s->locks || s->next_transaction;
}

#endif
