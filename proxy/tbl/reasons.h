/* SPDX-License-Identifier: Apache-2.0
 *
 * Why a statement went where it went: one row a reason, ROUTE_REASON(NAME, "name", "text"). The name is what `routes`
 * and EXPLAIN ROUTE show; the text is for people. The order is the order in `routes`.
 */
/* to a replica (or the cache) */
ROUTE_REASON(READ, "read", "a read that any fresh replica can answer")
ROUTE_REASON(READ_ONLY_TRX, "read_only_transaction", "START TRANSACTION READ ONLY: one replica until it ends")
ROUTE_REASON(HINT_REPLICA, "hint_replica", "the statement's comment asks for a replica")
ROUTE_REASON(CACHE_HIT, "cache_hit", "answered from the cache")
/* to the server that ran the last statement */
ROUTE_REASON(DIAGNOSTICS, "diagnostics", "asks about the session's last statement: the server that ran it")
/* to the primary */
ROUTE_REASON(WRITE, "write", "changes data")
ROUTE_REASON(DDL, "ddl", "changes definitions or accounts")
ROUTE_REASON(UNKNOWN_STATEMENT, "unknown_statement", "a statement that is not known to be a read")
ROUTE_REASON(UNREADABLE, "unreadable", "the text could not be read with certainty")
ROUTE_REASON(STATE_UNKNOWN, "state_unknown", "an account's first: how servers read its text is not known yet")
ROUTE_REASON(CALL, "call", "a procedure may do anything")
ROUTE_REASON(LOCKING_READ, "locking_read", "FOR UPDATE, LOCK IN SHARE MODE, GET_LOCK, LOCK TABLES, HANDLER")
ROUTE_REASON(INTO, "into", "SELECT ... INTO")
ROUTE_REASON(USER_VARIABLE, "user_variable", "reads or sets a user variable")
ROUTE_REASON(SESSION_FUNCTION, "session_function", "LAST_INSERT_ID, FOUND_ROWS, CONNECTION_ID and their like")
ROUTE_REASON(SYSTEM_VARIABLE, "system_variable", "a @@variable may differ between servers")
ROUTE_REASON(SEQUENCE, "sequence", "NEXTVAL, LASTVAL, SETVAL")
ROUTE_REASON(FUNCTION, "function", "a function that is not known to only read")
ROUTE_REASON(SYSTEM_SCHEMA, "system_schema", "server tables differ between servers")
ROUTE_REASON(SHOW, "show", "SHOW, DESCRIBE, EXPLAIN")
ROUTE_REASON(SET, "set", "changes the session's state")
ROUTE_REASON(TRANSACTION, "transaction", "inside a transaction, or begins or ends one")
ROUTE_REASON(AUTOCOMMIT_OFF, "autocommit_off", "autocommit=0: every statement is in a transaction")
ROUTE_REASON(SERIALIZABLE, "serializable", "reads lock at SERIALIZABLE")
ROUTE_REASON(MULTI, "multi_statement", "several statements, one of which must go to the primary")
ROUTE_REASON(PREPARED_TEXT, "prepare_text", "PREPARE, EXECUTE, DEALLOCATE as text")
ROUTE_REASON(TEMPORARY_TABLE, "temporary_table", "the session holds temporary tables")
ROUTE_REASON(PINNED, "pinned", "the session's state lives in one server connection")
ROUTE_REASON(HINT_PRIMARY, "hint_primary", "the statement's comment asks for the primary")
ROUTE_REASON(RECENT_WRITE, "recent_write", "no replica is proved to have the last write to the tables it reads")
ROUTE_REASON(FENCE, "fence", "no replica is proved to have the write that fenced this cache key")
ROUTE_REASON(NO_REPLICA, "no_replica", "no fresh replica is up")
ROUTE_REASON(RETRY, "retry", "run again: a replica died or refused before its first byte")
ROUTE_REASON(OBSERVE, "observe", "mode = observe: everything goes to the primary")
ROUTE_REASON(COMMAND, "command", "a protocol command other than a statement")
