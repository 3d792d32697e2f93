/* SPDX-License-Identifier: Apache-2.0
 *
 * What a statement is, in one pass over its text: kind, what it may touch or depend on, tables, hints, digest, and the
 * key values of cached tables. It decides nothing about servers; cluster/route.c does. Never allocates, never reads
 * past the text, and when in doubt says so (SQLF_UNREADABLE, SQLF_UNKNOWN_FUNC, SQL_OTHER): every such answer leads to
 * the primary. Pure; any thread.
 */
#ifndef ST_SQL_CLASSIFY_H
#define ST_SQL_CLASSIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

enum sql_kind {
	SQL_EMPTY,  /* blanks and comments only */
	SQL_SELECT, /* SELECT, WITH .. SELECT, VALUES, TABLE, parenthesised, UNION and kin */
	SQL_INSERT,
	SQL_REPLACE,
	SQL_UPDATE,
	SQL_DELETE,
	SQL_LOAD, /* WITH .. DELETE is SQL_DELETE, INSERT .. SELECT is SQL_INSERT */
	SQL_TRUNCATE,
	SQL_DDL, /* CREATE, ALTER, DROP, RENAME, GRANT, ANALYZE, OPTIMIZE, FLUSH, INSTALL, ... implicit commit or
		    unknown effects */
	SQL_CREATE_TEMP, /* CREATE [OR REPLACE] TEMPORARY TABLE: tables[0] is its name */
	SQL_DROP_TEMP,   /* DROP TEMPORARY TABLE */
	SQL_CALL,
	SQL_DO,
	SQL_HANDLER,
	SQL_LOCK,
	SQL_UNLOCK,
	SQL_XA,
	SQL_PREPARE,
	SQL_EXECUTE,
	SQL_DEALLOCATE,
	SQL_SET, /* SET, SET NAMES, SET STATEMENT .. FOR is the kind of what follows FOR plus SQLF_SET_STATEMENT */
	SQL_SET_TRANSACTION, /* SET TRANSACTION without SESSION or GLOBAL: the next transaction only */
	SQL_USE,
	SQL_SHOW,      /* SHOW, DESCRIBE, EXPLAIN of something that is not run (EXPLAIN ANALYZE is what it analyses) */
	SQL_SHOW_DIAG, /* SHOW WARNINGS, SHOW ERRORS, SHOW COUNT(*) WARNINGS, GET DIAGNOSTICS */
	SQL_BEGIN,
	SQL_BEGIN_RO, /* BEGIN, START TRANSACTION [READ WRITE]; START TRANSACTION READ ONLY */
	SQL_COMMIT,
	SQL_ROLLBACK,  /* also AND CHAIN, RELEASE: see flags. ROLLBACK TO is SQL_SAVEPOINT */
	SQL_SAVEPOINT, /* SAVEPOINT, RELEASE SAVEPOINT, ROLLBACK TO */
	SQL_KILL,
	SQL_COMPOUND, /* BEGIN NOT ATOMIC, IF .. THEN outside a routine, ... */
	SQL_OTHER,    /* anything that is not known */
	SQL_KINDS
};
const char *sql_kind_name(enum sql_kind kind); /* "select", "insert", ... */

enum sql_flag {
	SQLF_UNREADABLE =
		1u << 0,        /* unterminated quote or comment, NUL bytes, a charset that may hide quotes, too deep */
	SQLF_MULTI = 1u << 1,   /* several statements: kind is the first one that is not a plain read, else SQL_SELECT;
				   flags of all */
	SQLF_LOCKING = 1u << 2, /* FOR UPDATE, FOR SHARE, LOCK IN SHARE MODE */
	SQLF_INTO = 1u << 3,    /* INTO OUTFILE, DUMPFILE, @var; PROCEDURE */
	SQLF_USER_VAR = 1u << 4,     /* reads a @variable */
	SQLF_USER_VAR_SET = 1u << 5, /* SET @v, @v :=, INTO @v */
	SQLF_SYS_VAR = 1u << 6,      /* reads @@something (not in SET's left side) */
	SQLF_SESSION_FUNC = 1u << 7, /* LAST_INSERT_ID, CONNECTION_ID, ... */
	SQLF_DIAG = 1u << 8,         /* ROW_COUNT(), FOUND_ROWS(), @@warning_count, @@error_count: about the last
				      * statement */
	SQLF_LOCK_FUNC = 1u << 9,    /* GET_LOCK, RELEASE_LOCK, IS_FREE_LOCK, ..., MASTER_POS_WAIT and kin */
	SQLF_SEQUENCE = 1u << 10,    /* NEXTVAL, LASTVAL, SETVAL, NEXT VALUE FOR, PREVIOUS VALUE FOR */
	SQLF_UNKNOWN_FUNC =
		1u << 11, /* a function that is not built in: named in funcs[], or more than fit (funcs_overflow) */
	SQLF_NONDET = 1u << 12, /* RAND, UUID, SLEEP, USER, DATABASE, VERSION, BENCHMARK ...: a replica may run it, not
				   cacheable */
	SQLF_NOW = 1u << 13,    /* NOW() and kin occur; see now_is_expiry */
	SQLF_SYSTEM_SCHEMA = 1u << 14, /* information_schema, performance_schema, mysql, sys are named */
	SQLF_CALC_FOUND_ROWS = 1u << 15,
	SQLF_SET_STATEMENT = 1u << 16, /* SET STATEMENT .. FOR <what kind says> */
	SQLF_SQL_CACHE = 1u << 17,     /* SQL_NO_CACHE: never from our cache */
	SQLF_TABLES_OVERFLOW =
		1u << 18,      /* more tables than tables[] holds, or names that could not be read (also CALL, EXECUTE,
				* SQL_COMPOUND, SQL_OTHER, SQLF_UNREADABLE): may be any table, all watched are set */
	SQLF_CHAIN = 1u << 19, /* COMMIT or ROLLBACK AND CHAIN */
	SQLF_RELEASE = 1u << 20,      /* COMMIT or ROLLBACK RELEASE: the server closes the connection */
	SQLF_PARAMS = 1u << 21,       /* has ? markers (prepared statements) */
	SQLF_SUBQUERY = 1u << 22,     /* UNION, subquery, CTE or join: more than one simple table */
	SQLF_SET_TRACKING = 1u << 23, /* SET of a session_track_* variable */
	SQLF_SET_GLOBAL = 1u << 24,   /* SET GLOBAL / @@global. / PERSIST */
	SQLF_SET_ONCE = 1u << 25,     /* SET insert_id, last_insert_id, identity, rand_seed1, rand_seed2, timestamp,
					 pseudo_*: for the next statement only */
	SQLF_RETURNS_ROWS = 1u << 26, /* INSERT/REPLACE/DELETE .. RETURNING */
	SQLF_TEMP = 1u << 27,         /* CREATE/DROP TEMPORARY occurs anywhere (also in a multi-statement) */
	SQLF_SET_UNTOLD = 1u << 28,   /* SET of system variables in a form that session tracking does not report
				       * (@@x without a scope word), or with effects on others that it does not */
	SQLF_FOUND_UNTOLD = 1u << 29, /* FOUND_ROWS() after it is not the number of rows that it sends: LIMIT with an
				       * offset, a set operation with LIMIT, WITH TIES, VALUES */
	SQLF_DDL_PLAIN = 1u << 31,    /* DDL after which no name reads or runs anything else than before: of tables and
				       * indexes, accounts, FLUSH, ANALYZE and kin; not of views, routines, sequences */
	SQLF_STICKY = 1u << 30,       /* from here on the session's statements belong on one connection: SET profiling,
				       * optimizer_trace, sql_auto_is_null; FLUSH STATUS */
};

enum sql_hint { SQL_HINT_NONE, SQL_HINT_PRIMARY, SQL_HINT_REPLICA, SQL_HINT_NO_CACHE };

/* A literal as written. `text` is the inside of the quotes, escapes not undone. */
enum sql_literal_type { SQL_LIT_STRING, SQL_LIT_NUMBER, SQL_LIT_HEX, SQL_LIT_NULL, SQL_LIT_PARAM, SQL_LIT_OTHER };
struct sql_literal {
	uint8_t type;       /* enum sql_literal_type */
	bool escaped;       /* the string holds a backslash escape or a doubled quote */
	bool introducer;    /* _charset'..', N'..', X'..', B'..', COLLATE after it, or other decoration */
	bool negative;
	uint16_t param;     /* index of the ? for SQL_LIT_PARAM */
	struct slice text;
};

enum { SQL_TABLES = 16, SQL_FUNCS = 8, SQL_KEYS = 64 };

struct sql_name { /* as written, quotes removed; a name with doubled quotes inside is reported by SQLF_TABLES_OVERFLOW
		   */
	struct slice db;   /* empty: the session's schema */
	struct slice name;
	bool written;      /* a target of the statement, not only read */
};

/* A cached table to look for, from the configuration and the catalog. Names are compared ASCII-case-insensitively here
 * for columns; tables as lower_case_table_names says (flag below). */
struct sql_watch {
	struct slice db, table, key, expires;
	int key_ordinal;   /* position of the key column in the table's definition, from 0; -1 unknown */
	int columns;       /* number of columns, -1 unknown */
	bool sole_unique;  /* the key is the table's only unique index: REPLACE and ON DUPLICATE KEY touch no other row
			    */
};

/* Which rows of the watched table the statement can read or change. */
enum sql_scope {
	SQL_SCOPE_NONE,   /* no watched table is named */
	SQL_SCOPE_KEYS,   /* exactly the rows whose key equals one of keys[] */
	SQL_SCOPE_TABLE   /* rows that the text does not name, or several watched tables: see watched */
};

enum sql_text_mode { /* how the session's server would read the text */
		     SQL_ANSI_QUOTES = 1,
		     SQL_NO_BACKSLASH_ESCAPES = 2,
		     SQL_UNSAFE_CHARSET = 4,   /* gbk, sjis, cp932, big5, gb18030 as character_set_client: a trail byte
						  may look like a quote */
		     SQL_FOLD_TABLE_NAMES = 8, /* lower_case_table_names != 0 */
		     SQL_ORACLE = 16,          /* sql_mode=ORACLE */
};

enum sql_clock { SQL_CLOCK_LOCAL = 1, SQL_CLOCK_UTC = 2, SQL_CLOCK_UNIX = 4 };

struct sql_stmt {
	enum sql_kind kind;
	uint32_t flags;          /* enum sql_flag */
	enum sql_hint hint;
	uint16_t nparams;        /* ? markers */
	uint16_t ntables, nfuncs;
	bool funcs_overflow;
	struct sql_name tables[SQL_TABLES]; /* distinct, CTE names and aliases left out */
	struct sql_name funcs[SQL_FUNCS];   /* functions that are not built in: db may be empty */
	uint64_t digest; /* of the normalised text: literals, blanks, comments and case of words do not count. Not a
			  * result's identity: names of columns in an answer follow the text as written */

	/* about watched tables */
	enum sql_scope scope;
	uint32_t watched;        /* bit i: watch[i] is named (as far as the session's schema allows) */
	uint32_t watched_written;/* bit i: and is written */
	bool single;             /* SELECT of the one watched table, no join, union, subquery, CTE */
	bool now_is_expiry; /* there is a NOW() or kin, and each stands alone in a condition `expires > NOW()` (or >=,
			     * or turned round) that AND combines with the rest of WHERE. Not the other direction: rows
			     * that come into sight when they expire would be missed by an answer from before */
	uint8_t clocks;          /* enum sql_clock: which clocks those NOW()s read */
	uint16_t nkeys;
	struct sql_literal keys[SQL_KEYS];
};

/* Classifies text[0..n). `schema` is the session's schema for unqualified names (may be empty). watch may be NULL when
 * nwatch is 0; at most 32 are looked at. Always fills *out. */
void sql_classify(struct slice text, unsigned text_mode, struct slice schema, const struct sql_watch *watch,
		  unsigned nwatch, struct sql_stmt *out);

/* The normalised text that `digest` is made of, for people: at most cap bytes with NUL. Returns its length. */
size_t sql_digest_text(struct slice text, unsigned text_mode, char *buf, size_t cap);

/* Undoes quoting and escapes of a string literal into out (at most cap bytes).
 * Returns the length, or -1 when it does not fit. */
long sql_literal_unescape(const struct sql_literal *lit, unsigned text_mode, char *out, size_t cap);

#endif
