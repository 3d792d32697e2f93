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
 *   rights.c    what the session's account may read, as far as it is known
 *   lookup.c    the cache's part: look-up, fences
 *   dispatch.c  from a statement to a server connection: route, acquire, send
 *   relay.c     the reply, on its way to the client
 *   settle.c    the reply has ended: state, freshness, invalidation, fill
 *   home.c      the connections that a session keeps, and their way back
 *   diag.c      what the last statement left behind: ROW_COUNT(), FOUND_ROWS(), warnings
 *   prepared.c  prepared statements
 *   track.c     what OK packets say of the session's state
 *   session.c   life
 *   input.c     the client's bytes, whole commands; budget.c: what they may hold
 *   idle.c      clients that say nothing
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
#include "session/budget.h"
#include "session/front.h"
#include "session/proxy.h"
#include "sql/question.h"

enum { SESSION_MAGIC = 0x5e5510e1 };

/* Server status that is the session's, whichever connection answers. */
enum { SESSION_OWN_STATUS = STATUS_IN_TRANS | STATUS_AUTOCOMMIT | STATUS_NO_BACKSLASH_ESCAPES | STATUS_ANSI_QUOTES |
			    STATUS_IN_TRANS_READONLY };

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

/* What the session's last statement left behind, as far as its reply and its text tell (diag.c). */
struct diag {
	struct sql_numbers n;
	bool found_known;  /* n.found_rows is right */
	bool list_known;   /* n.warnings and n.errors are */
	const struct backend *knower;  /* the kept connection that ran it; NULL: none does, and n is all there is */
	bool found_elsewhere;          /* but its FOUND_ROWS() is of something older than the session's */
	const struct backend *list_at; /* the one that has the texts of the warnings; NULL: there are none, or they are
					* lost */
	bool list_lost;
};

/* What a cached answer depends on beside the row and the statement, as a digest: who asks, in what state, how the
 * answer is put into packets. Made again when any of it has changed. */
struct shape_context {
	bool made;                    /* false: also after another login */
	struct siphash_key secret;
	uint64_t state;               /* hash of the state that it was made of */
	uint32_t caps, xcaps;
	uint16_t collation;
	uint8_t rights[RIGHTS_DIGEST], base[DEFAULTS_DIGEST];
	struct siphash_key key;       /* the digest */
};

/* Which of a backend's replies are not the client's. */
enum swallow { SWALLOW_STATE, SWALLOW_EXPIRY, SWALLOW_PREPARE, SWALLOW_INSERT_ID, SWALLOW_VARIABLES, SWALLOW_LEFT };

/* A command in flight. Lent to a session while it is not idle: idle clients own none. */
struct command {
	struct command *next;       /* free list */
	struct session *session;
	struct buf request;         /* a packet's header and the payload, in one piece also when it came in several
				     * packets: see command_payload, command_put */
	uint8_t code;               /* COM_* */
	uint8_t seq;                /* of the next packet to the client */
	bool is_statement;          /* stmt says what it is: COM_QUERY, COM_STMT_PREPARE, COM_STMT_EXECUTE */
	bool pings;                 /* internal: the schema check at login */
	struct slice text;          /* the statement's, within request or the prepared statement */
	unsigned text_mode;
	const struct sql_stmt *stmt; /* &parsed, or what a prepared statement remembers; never NULL */
	struct sql_stmt parsed;
	struct prepared *ps;        /* of COM_STMT_EXECUTE */
	struct prepared *making;    /* of COM_STMT_PREPARE, until the server has answered */
	int64_t started_us;

	/* where to */
	struct route_want want;
	struct route_want alone;    /* what it would be outside of the transaction that a replica has */
	bool clear_first;           /* the connection's list of warnings may be another session's */
	bool cleared;               /* ... and has been emptied */
	bool begun;                 /* the READ ONLY transaction was begun at the primary, too */
	struct backend *answered_by; /* it asks about the last statement: the kept connection that knows */
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
	bool ddl, changes_code, grants; /* while it runs: it may change definitions, what names run, rights */
	bool renews;                /* what new sessions inherit may be something else behind it */
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
	uint8_t rights[RIGHTS_DIGEST]; /* session.rights.granted when the cache was asked */
	struct buf fill;            /* the answer as the client gets it, while it may be cached */
	uint32_t fill_status[4];    /* offsets of status flags in it */
	unsigned nfill_status;
	int64_t expiry_ms;          /* until the row expires; -1: none does, -2: one has */
	struct cache_change *changes; /* CONFIG_RULES, allocated for writes only */
	unsigned nchanges;

	/* the reply */
	struct result result;
	enum swallow swallow[10];
	unsigned nswallow, swallowed;
	bool forwarded;             /* the client has seen bytes of it */
	bool failed;                /* it ended with ERR */
	bool retryable;
	bool changed;               /* the server says that something changed which is no variable and no schema */
	bool finished;              /* the client's answer is complete */
	bool accounted;             /* what it wrote is in session.touched, or settled */
	uint64_t affected, insert_id;
	int64_t row_count;          /* of the last result: what an OK says, -1 for rows */
	uint64_t sent_rows, rows_before; /* of the last result, and of those before it */
	unsigned warnings;
	struct gtid gtid;
	struct buf held;            /* the packet that acknowledges a write, until the store has confirmed */
	unsigned held_parts;
	struct backend_error sync_error;
	bool sync_failed;
	const struct state *syncing; /* the state that the commands before the statement bring about */
	struct defaults *asked;     /* rows of DEFAULTS_QUERY's answer */
	bool asking;                /* what was sent is the proxy's own question: home_asked() comes */
	bool ask_first;             /* ... and then the statement is routed */
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
	int64_t patience_us; /* until when it waits for them, if they are known to have changed */
	uint64_t asked; /* generation of the accounts by which it will be judged */
};

/* What was last found out about the session's account; good for accounts with this serial. */
struct session_rights {
	uint64_t serial;               /* 0: nothing yet */
	bool usable;
	int64_t expires_s;
	uint8_t granted[RIGHTS_DIGEST]; /* what servers judge new connections by; with how often they read it anew */
	uint8_t digest[RIGHTS_DIGEST];  /* the rights, and the account which the client's host made it: in the shape */
};

struct discarded { /* a command that is refused, on its way to nowhere */
	unsigned code;
	const char *why;
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
	struct session_rights rights;
	bool sandboxed;              /* its password had expired: it may only set another one */
	struct login_pending *pending;
	struct discarded *discarded; /* it is refused when it has ended */
	char *login_name;            /* while logging in: user, and schema */
	char *login_schema;
	uint16_t login_collation;
	struct former *former;       /* while COM_CHANGE_USER goes on: who it is when that fails (login.c) */
	uint8_t failed_changes;

	size_t input_held;           /* of the budget: for conn.in and the command's request */
	int64_t input_since;         /* monotonic us: since when, for a command that comes */
	size_t wants_memory;         /* while it waits for that much: it is in pw->wait_memory */
	int64_t waits_memory_since;  /* 0: it does not */
	TAILQ_ENTRY(session) memory_link;

	unsigned wait_timeout;       /* seconds; what it was at the login */
	int64_t patience_us;         /* for a client that says nothing; 0: not known yet */
	uint64_t patience_of;        /* ... in that state */
	int64_t active_us;           /* coarse: its last byte, or the end of its last command */
	int64_t home_us;             /* when the server has last heard anything at home: idle.c */
	uint32_t home_thread, home_uses;

	struct state want;           /* session state as the client made it */
	struct defaults *base;       /* counted; what it has where want says nothing: the primary's defaults at its
				      * login; NULL: as its first connection has it */
	bool base_provisional;       /* a replica's, for want of a primary */
	/* The connections that it keeps between statements: home.c */
	struct backend *home;        /* a primary's: transaction, locks, state that cannot be told to another one */
	struct backend *reader;      /* a replica's, with its READ ONLY transaction */
	struct backend *witness;     /* knows what no other does of the last statements; others may have it */
	int64_t witness_since;       /* monotonic us */
	TAILQ_ENTRY(session) linger_link;
	struct shape_context context;
	struct backend *current;     /* the connection that runs its command */
	bool throttled;              /* current is not read: the client is slow */
	bool sticky;                 /* every statement goes to home: SET timestamp and kin */
	bool pinned, temporary_tables, locks, next_transaction, serializable, binlog_off;
	bool auto_is_null;           /* WHERE id IS NULL asks for LAST_INSERT_ID() */
	bool unclean;                /* not even a reset makes home what its pool says: XA, a role, dynamic SQL */
	bool unproved;               /* variables may have changed that nobody told of: home, or the witness, is asked
				      * before a statement runs elsewhere */
	bool doubt;                  /* ... and other things may have been left there, by functions and triggers that
				      * the dictionary does not tell of now */
	bool lost_lock;              /* it held a user lock of which nobody knew */
	bool insert_id_dirty;        /* the same of LAST_INSERT_ID() */
	struct diag diag;
	uint64_t last_insert_id;
	uint32_t last_thread, last_uses; /* stamp of the connection that ran the last statement */
	int last_server;             /* its stats id, -1: none */
	struct gtid last_gtid;
	struct touched touched;
	struct command *command;
	struct prepared **prepared;  /* by id - 1 */
	unsigned nprepared;
	size_t prepared_bytes;       /* of statements and their long data */
	size_t prepared_held;        /* of the budget */
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
void session_put_query(struct buf *out, const char *sql, size_t n); /* a COM_QUERY packet */
struct command *command_new(struct session *s);
void command_free(struct session *s);
void command_timer(struct command *c, uint64_t ms, event_callback_fn fn);
void command_timer_stop(struct command *c);

/* input.c */
extern const struct conn_ops input_ops; /* of the client's connection */
void session_input(struct session *s);  /* goes on with what has come meanwhile */
void input_command_ended(struct session *s);
void input_waits_no_more(struct session *s);
void input_look_for_memory(struct proxy_worker *pw, int64_t now);
bool input_dawdles(const struct session *s, int64_t now); /* it holds what others wait for, and does not get on */
int64_t input_due(const struct session *s, int64_t now);  /* when to ask that next */

/* idle.c: times are monotonic microseconds */
void idle_init(struct proxy_worker *pw);
void idle_look_at(struct proxy_worker *pw, int64_t at); /* sessions are looked at then, if not earlier */
void idle_logged_in(struct session *s);  /* takes the timeout that a login or a reset gives */
void idle_begins(struct session *s);     /* a command has ended */
bool idle_home_was_due(const struct session *s, const struct backend *b); /* home is gone: was it wait_timeout? */

/* login.c */
void login_greet(struct session *s);
/* A packet in SESSION_LOGIN or SESSION_SWITCH. */
void login_packet(struct session *s, struct slice payload, unsigned seq);
void login_change_user(struct session *s, struct slice payload);
void login_forget(struct session *s); /* what only the login needed */
void login_accounts_came(struct session *s); /* it waited in SESSION_REFRESH */
void login_accounts_came(struct session *s); /* some came while it waits in SESSION_REFRESH */
void login_verified(struct session *s, const struct backend_error *error); /* the schema check ended */

/* command.c: s->command->request holds one whole command. */
void command_run(struct session *s);
struct slice command_payload(const struct command *c);           /* the code, and what follows */
void command_put(const struct command *c, struct buf *out);      /* as packets */
/* What it and what it needs will take of a buffer to send it from, at most. */
size_t command_sent_size(const struct command *c);
/* There is no memory for it: an error for this client alone. */
void command_no_memory(struct session *s);
/* Reads c->text under c->text_mode and this schema (NULL for none) into c->parsed. */
void command_classify(struct session *s, const char *schema);
/* OK to the client for a command that is answered here. */
void command_ok(struct session *s);

/* effects.c */
struct slice effects_schema(const struct session *s);           /* for the statement's unqualified names */
/* What names read and run (catalog_read(), catalog_write(), catalog_routine()); NULL: it cannot be relied on now. */
const struct catalog *effects_code(const struct session *s);
const struct catalog *effects_catalog(const struct session *s); /* NULL: nothing that it says can be relied on now */
void effects_note_reads(struct session *s);                     /* command.tables */
/* Fills slots (SQL_TABLES) with the tables that the statement writes; false when it may write others too. */
bool effects_names_writes(struct session *s, uint64_t *slots, unsigned *n);
bool effects_spread(const struct command *c);                   /* a write may change other tables: triggers and kin */
bool effects_may_write(const struct command *c);
/* What the session's statement may do, all that it calls included: a union of enum effect. Of a statement that is only
 * prepared: nothing. Costs a probe a table and function; where the text is not read closely (CALL, DDL, SET, ..) a
 * pass over it: ask once, and only where kind and flags do not tell. */
unsigned effects_of(const struct session *s);
bool effects_reads_write(const struct session *s); /* it may write by reading a view: no text names what */
bool effects_may_define(const struct session *s);  /* it may change the dictionary, also by what it calls */
bool effects_may_commit(const struct command *c);               /* an open transaction */
void effects_ddl_begins(struct command *c);
void effects_ddl_ended(struct command *c);                      /* before the client hears of it */
void effects_catalog_changed(struct proxy *p, bool code);      /* code: also what names read or run */
void effects_rights_changed(struct proxy *p); /* accounts are trusted again when they were read after this */

/* rights.c */
/* RIGHTS_DIGEST bytes that are equal for all sessions, of any proxy, that may read the same by the same account; NULL
 * when that is not known just now, or the server would not let the account in: then no hits, and no fills. */
const uint8_t *rights_of(struct session *s);
/* As last read, young or not: a server judges a connection that is opened now by these or newer ones. */
const uint8_t *rights_granted(struct session *s);
/* Did the server judge what b read by just these rights? b may be NULL. */
bool rights_were_judged(const struct backend *b, const uint8_t granted[RIGHTS_DIGEST]);

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
void relay_client_drained(struct session *s);

/* settle.c */
void settle_gtid(struct session *s);      /* an OK told of a write: published before the client sees it */
bool settle_holds(struct session *s);     /* must the packet that ends the reply wait for the store? */
void settle(struct session *s);           /* the reply has ended */
void settle_refused(struct session *s, const struct backend_error *error); /* it was never sent */
void settle_unknown(struct session *s);   /* what was sent and not answered counts as written */
void settle_unsent(struct session *s);    /* the session ends before its statement was sent: its fence may go */
void settle_lost(struct session *s);      /* the connection died under a statement that cannot be run again */
void touched_clear(struct touched *t);
bool touched_merge_changes(struct touched *t, const struct cache_change *changes, unsigned n);

/* home.c: the connections that a session keeps */
void home_use(struct session *s, struct backend *b); /* a kept one, or one just taken, runs the statement */
bool home_must_ask(const struct session *s);     /* before a statement runs on another connection */
bool home_asking_costs(const struct session *s); /* ... and would lose the texts of warnings there */
void home_ask(struct session *s);                /* asks, then routes the statement */
void home_asked(struct session *s);              /* the answers are in */
bool home_release(struct session *s);            /* the reply has ended. False: something is asked before it is idle */
struct backend *home_detach(struct session *s);  /* gives s->current up, kept or not */
void home_give_up(struct session *s);            /* between commands: others wait for the witness */
bool home_spare_witness(struct session *s);      /* others wait for it; false when it is needed */
void home_adopt_witness(struct session *s);      /* it becomes home, for good */
void home_forget_witness(struct session *s);     /* what it knows is of no use any more */
void home_end_reader(struct session *s);         /* the client begins another transaction */
void home_drop(struct session *s);               /* all go back, reset: transaction, locks and state end */
void home_close(struct session *s, bool mid_reply); /* the session ends: what runs its command */
void home_lost(struct session *s, struct backend *b); /* a kept connection died between statements */

/* diag.c */
void diag_reset(struct session *s);           /* as after a login */
void diag_statement_ended(struct session *s); /* before its connection is released */
void diag_hit(struct session *s, uint64_t rows);  /* an answer from the cache */
void diag_error(struct session *s);           /* an error that the proxy tells itself */
void diag_command(struct session *s, int64_t row_count); /* a command that was answered here without a list */
/* The statement asks about the last one. Returns true when it was answered here; else it is on its way as any other:
 * answered_by names the connection that knows, or the numbers stand in its text. */
bool diag_answers(struct session *s);

/* track.c */
void track_asked(struct session *s, struct slice row);      /* a row of DEFAULTS_QUERY's answer */
void track_learn(struct session *s, struct backend *b);     /* that was the last one */
void track_left(struct session *s, struct slice row);       /* what was left behind: counts */
void track_ok(struct session *s, struct backend *b, const struct ok_packet *ok);
unsigned track_text_mode(const struct session *s); /* how the server reads this session's text */
/* What a client with CLIENT_SESSION_TRACK is told: what a server tells by default. Appends to out. */
void track_filter(const struct session *s, struct slice state, struct buf *out);
void track_schema(struct session *s, struct backend *b); /* COM_INIT_DB succeeded */
void track_reset(struct session *s);      /* as after a login */
/* It is lent a connection of another base: what it has of its own is told against that one from now on. */
void track_base(struct session *s, struct defaults *base);
void track_statement(struct session *s);  /* the statement has ended: what may it have left in its connection? */

/* prepared.c */
void prepared_prepare(struct session *s); /* COM_STMT_PREPARE */
void prepared_execute(struct session *s); /* COM_STMT_EXECUTE */
void prepared_long_data(struct session *s);
void prepared_reset(struct session *s);
void prepared_close(struct session *s);
void prepared_unmade(struct command *c);  /* c->making is not needed */
size_t prepared_size(const struct command *c); /* bytes of what is sent beside the request */
void prepared_free_all(struct session *s);
void prepared_rebase(struct session *s, const struct defaults *from, const struct defaults *to);
/* The server's answer to the client's COM_STMT_PREPARE: registers the statement, writes our id into the payload. False
 * when there was one already, and what followed it was no answer. */
bool prepared_registered(struct session *s, struct backend *b, uint8_t *payload);
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
static inline bool session_keeps(const struct session *s, const struct backend *b)
{
	return b != NULL && (b == s->home || b == s->reader);
}
/* Must it keep its server connection? */
static inline bool session_bound(const struct session *s)
{
	return session_in_transaction(s) || s->pinned || s->locks || s->next_transaction || s->sandboxed;
}

#endif
