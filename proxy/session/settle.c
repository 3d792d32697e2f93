/* SPDX-License-Identifier: Apache-2.0
 *
 * A reply has ended. What it says of writes is published before the client hears of it; the cache is told and has
 * confirmed before an acknowledgement goes out; a lease is filled; the server connection goes back to its pool or stays
 * with the session.
 */
#include "session/session.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

static void finish(struct session *s);

/* --- what was touched --------------------------------------------------------------------------------------------- */

void touched_clear(struct touched *t)
{
	t->all = t->fenced = false;
	t->n = t->nchanges = 0;
}

static struct cache_change *change_of(struct touched *t, uint8_t rule)
{
	for (unsigned i = 0; i < t->nchanges; i++)
		if (t->changes[i].rule == rule)
			return &t->changes[i];
	struct cache_change *c = &t->changes[t->nchanges++];
	c->rule = rule;
	c->whole = false;
	c->nkeys = 0;
	return c;
}

/* One change a rule: its keys, or all of it when they are too many; the keys from before stay, since fences that were
 * raised for them are to end. Returns false when there was nothing to add. */
bool touched_merge_changes(struct touched *t, const struct cache_change *changes, unsigned n)
{
	if (n == 0)
		return false;
	if (t->changes == NULL)
		t->changes = xmalloc(CONFIG_RULES * sizeof *t->changes);
	for (unsigned i = 0; i < n; i++) {
		struct cache_change *to = change_of(t, changes[i].rule);
		const unsigned max = sizeof to->keys / sizeof *to->keys;
		to->whole |= changes[i].whole || to->nkeys + changes[i].nkeys > max;
		if (to->whole)
			continue;
		memcpy(&to->keys[to->nkeys], changes[i].keys, changes[i].nkeys * sizeof *changes[i].keys);
		to->nkeys = (uint16_t)(to->nkeys + changes[i].nkeys);
	}
	return true;
}

static void touch_tables(struct touched *t, const uint64_t *slots, unsigned n)
{
	if (t->tables == NULL)
		t->tables = xmalloc(TOUCHED_MAX * sizeof *t->tables);
	for (unsigned i = 0; i < n; i++) {
		unsigned k = 0;
		while (k < t->n && t->tables[k] != slots[i])
			k++;
		if (k < t->n)
			continue;
		if (t->n == TOUCHED_MAX) {
			t->all = true;
			return;
		}
		t->tables[t->n++] = slots[i];
	}
}

/* Adds what the statement in flight may have written. */
static void touch(struct session *s)
{
	struct command *c = s->command;
	uint64_t slots[SQL_TABLES];
	unsigned n;

	if (!effects_may_write(c))
		return;
	if (effects_names_writes(s, slots, &n))
		touch_tables(&s->touched, slots, n);
	else
		s->touched.all = true;
	touched_merge_changes(&s->touched, c->changes, c->nchanges);
	c->nchanges = 0;
}

/* Effects unknown: every row of every rule. */
static void touch_all_rules(struct session *s)
{
	static const struct sql_stmt none;
	const struct config *config = s->pw->cluster.config;
	struct cache_change *all;

	if (config->nrules == 0)
		return;
	all = xmalloc(CONFIG_RULES * sizeof *all);
	touched_merge_changes(&s->touched, all,
			      cache_rule_changes(config, s->pw->catalog, &none, true, 0, NULL, all, CONFIG_RULES));
	free(all);
}

/* Written, but nothing that another session could read of a table: its own temporary table, a sequence's next value. */
static bool writes_no_table(const struct command *c)
{
	if (!c->is_statement || effects_reads_write(c->session) ||
	    (c->stmt->flags & (SQLF_MULTI | SQLF_UNKNOWN_FUNC | SQLF_UNREADABLE)))
		return false;
	return c->stmt->kind == SQL_CREATE_TEMP || c->stmt->kind == SQL_DROP_TEMP ||
	       (c->stmt->kind == SQL_SELECT && (c->stmt->flags & SQLF_SEQUENCE));
}

/* Statements that may run others, and so DDL. */
static bool may_change_definitions(const struct command *c)
{
	if (!c->is_statement || (c->stmt->flags & (SQLF_MULTI | SQLF_UNKNOWN_FUNC | SQLF_UNREADABLE)))
		return true;
	return c->stmt->kind == SQL_CALL || c->stmt->kind == SQL_COMPOUND || c->stmt->kind == SQL_EXECUTE ||
	       c->stmt->kind == SQL_OTHER;
}

/* What a statement may have done that wrote more than its text names. A SET that did is some form of SET PASSWORD. */
static void note_definitions(struct session *s)
{
	const struct command *c = s->command;
	bool any = may_change_definitions(c) && effects_may_define(s);

	if (any)
		effects_catalog_changed(s->pw->proxy, true);
	if (any || (c->is_statement && c->stmt->kind == SQL_SET))
		effects_rights_changed(s->pw->proxy);
}

void settle_gtid(struct session *s)
{
	struct command *c = s->command;
	struct freshness *f = s->pw->proxy->freshness;

	s->last_gtid = c->gtid;
	if (writes_no_table(c) && (session_in_transaction(s) || (s->touched.n == 0 && s->touched.nchanges == 0 &&
								 !s->touched.all)))
		return;
	touch(s);
	/* A transaction's COMMIT names no table, its statements did; an OK with a GTID of a statement that was not
	 * taken for a write (a function, a procedure) may have written anything. */
	if (s->touched.n == 0 && s->touched.nchanges == 0)
		s->touched.all = true;
	if (s->touched.all) {
		freshness_wrote_all(f, c->gtid);
		touch_all_rules(s);
		note_definitions(s);
	} else {
		freshness_wrote(f, s->touched.tables, s->touched.n, c->gtid);
	}
	s->touched.committed = true;
}

/* No GTID came. Settles what is known of the tables, before the client hears of it. */
static void without_gtid(struct session *s)
{
	struct command *c = s->command;
	struct freshness *f = s->pw->proxy->freshness;
	uint64_t slots[SQL_TABLES];
	unsigned n;

	if (s->binlog_off && s->touched.n > 0) /* a transaction's COMMIT */
		freshness_unreplicated(f, s->touched.tables, s->touched.n);
	if (!effects_may_write(c))
		return;
	bool named = effects_names_writes(s, slots, &n);
	/* What runs others may have committed some of them before it failed, and an ERR carries no GTID. */
	if (!named && (c->failed || s->binlog_off)) {
		touch_all_rules(s);
		note_definitions(s);
	}
	if (s->temporary_tables)
		return;
	if (c->failed) /* a statement that fails may have written to tables without transactions */
		freshness_unknown(f, slots, named ? n : 0);
	else if (named && (c->affected > 0 || s->binlog_off))
		freshness_unreplicated(f, slots, n);
}

/* The statement is over for the server: what it touched is added up, or settled. */
static void account(struct session *s)
{
	struct command *c = s->command;
	bool open = session_in_transaction(s);

	if (c->accounted)
		return;
	c->accounted = true;
	if (s->touched.committed)
		return;
	if (c->failed && c->is_statement && (c->stmt->kind == SQL_COMMIT || c->stmt->kind == SQL_XA)) {
		settle_unknown(s);
		return;
	}
	if (open) {
		/* What is in tables without transactions is there already: neither an ERR nor a session that is not
		 * replicated tells a GTID. */
		s->touched.committed = effects_may_write(c) && (c->failed || s->binlog_off);
		if (s->touched.committed)
			without_gtid(s);
		touch(s);
		return;
	}
	if (c->is_statement && c->stmt->kind == SQL_ROLLBACK && !s->touched.fenced) {
		touched_clear(&s->touched);
		return;
	}
	without_gtid(s);
	touch(s);
}

/* Changes that the store must confirm before the acknowledgement goes out. */
static bool owes_store(const struct session *s)
{
	return (s->touched.committed || s->touched.fenced || !session_in_transaction(s)) && s->touched.nchanges > 0;
}

bool settle_holds(struct session *s)
{
	account(s);
	effects_ddl_ended(s->command);
	return owes_store(s);
}

/* --- the fill ----------------------------------------------------------------------------------------------------- */

static void fill(struct session *s)
{
	struct command *c = s->command;
	const struct config_rule *rule = &s->pw->cluster.config->rules[c->key.rule];
	uint64_t ttl = c->result.rows > 0 ? rule->ttl_ms : rule->negative_ttl_ms;
	bool good = !c->failed && c->warnings == 0 && c->expiry_ms != -2 &&
		    (!c->found.fence_primary || !c->to_replica) && c->nfill_status > 0 &&
		    rights_were_judged(s->current, c->rights);

	if (!c->leased)
		return;
	if (c->expiry_ms >= 0 && (uint64_t)c->expiry_ms < ttl)
		ttl = (uint64_t)c->expiry_ms;
	if (!good || ttl == 0 || c->fill.len == 0)
		return; /* command_free abandons the lease */
	struct buf value = {0};
	buf_put_u8(&value, c->nfill_status);
	for (unsigned i = 0; i < c->nfill_status; i++)
		buf_put_u32(&value, c->fill_status[i]);
	buf_put_u32(&value, (uint32_t)c->result.rows);
	buf_put(&value, c->fill.data, c->fill.len);
	cache_fill(s->pw->cache, &c->key, c->found.lease, value.data, value.len, ttl);
	c->leased = false;
	buf_fini(&value);
}

/* --- the end of a statement --------------------------------------------------------------------------------------- */

static void count(struct session *s)
{
	struct command *c = s->command;
	struct stats *stats = s->pw->worker->stats;
	const struct topology *t = s->pw->cluster.topology;
	bool replica = c->to_replica;

	/* A read-only transaction runs at a replica although nobody routes its statements. */
	if (!replica && s->current != NULL && t != NULL && t->primary >= 0)
		replica = t->views[t->primary].server != s->current->pool->server;
	stats_routed(stats, c->server_id, c->reason);
	stats_statement(stats, replica ? STAT_REPLICA : STAT_PRIMARY, c->server_id, s->identity->stats_user,
			(uint64_t)(topology_now_us() - c->started_us));
}

static void on_confirmed(struct cache_op *op, const struct cache_answer *a)
{
	struct command *c = (struct command *)((char *)op - offsetof(struct command, op));

	(void)a;
	finish(c->session);
}

void settle(struct session *s)
{
	struct command *c = s->command;
	struct backend *b = s->current;

	if (c->sent_any)
		atomic_fetch_sub_explicit(&b->pool->server->outstanding, 1, memory_order_relaxed);
	c->sent_any = false;
	if (!c->pings)
		count(s);
	if (c->code == COM_SET_OPTION)
		b->spoilt = true; /* capabilities outlive COM_RESET_CONNECTION */
	if (c->sync_failed)
		b->tainted = true; /* half of the wanted state may be there */
	if (c->code == COM_STMT_PREPARE && c->failed)
		prepared_failed(s);
	if (c->code == COM_STMT_EXECUTE)
		prepared_executed(s);
	if (c->sync_failed)
		c->failed = true;
	account(s);
	effects_ddl_ended(c);
	track_statement(s);
	diag_statement_ended(s);
	if (c->code == COM_INIT_DB && !c->failed)
		track_schema(s, b);
	if (c->insert_id != 0 || (effects_may_write(c) && c->is_statement && (c->stmt->flags & SQLF_SESSION_FUNC)) ||
	    (c->is_statement &&
	     (c->stmt->kind == SQL_CALL || c->stmt->kind == SQL_COMPOUND || (c->stmt->flags & SQLF_UNKNOWN_FUNC)) &&
	     !gtid_none(c->gtid)) ||
	    (c->is_statement && c->stmt->kind == SQL_SELECT && (c->stmt->flags & SQLF_SESSION_FUNC)))
		s->insert_id_dirty = true;
	fill(s);
	if (owes_store(s)) {
		s->step = SESSION_SETTLE;
		c->op.done = on_confirmed;
		cache_invalidate(s->pw->cache, s->touched.changes, s->touched.nchanges, CACHE_AFTER, c->gtid, &c->op);
		return;
	}
	finish(s);
}

/* Answers a command whose preparation failed, in the server's words. */
static void send_sync_error(struct session *s)
{
	struct command *c = s->command;
	struct buf out = {0};

	reply_err(&out, c->seq, c->sync_error.code, c->sync_error.sqlstate, "%s", c->sync_error.text);
	session_send(s, out.data, out.len);
	buf_fini(&out);
}

/* It did nothing but end the transaction, and perhaps begin the next one. Whatever else has a GTID while one is open (a
 * sequence's next value, a write to a table without transactions, a CALL that committed and began anew) leaves open
 * what was written before, or a part of it. */
static bool ends_transaction(const struct command *c)
{
	return !c->failed && c->is_statement && !(c->stmt->flags & SQLF_MULTI) &&
	       (c->stmt->kind == SQL_COMMIT || c->stmt->kind == SQL_ROLLBACK || c->stmt->kind == SQL_BEGIN ||
		c->stmt->kind == SQL_BEGIN_RO);
}

static void finish(struct session *s)
{
	struct command *c = s->command;

	if (!session_in_transaction(s) || ends_transaction(c))
		touched_clear(&s->touched);
	s->touched.committed = s->touched.fenced = false;
	if (c->pings) {
		struct backend_error error = c->sync_error;
		bool failed = c->failed;
		home_release(s);
		login_verified(s, failed ? &error : NULL);
		return;
	}
	if (c->sync_failed)
		send_sync_error(s);
	else if (c->held.len > 0)
		session_send(s, c->held.data, c->held.len);
	if (s->step == SESSION_CLOSED)
		return;
	if (home_release(s))
		session_idle(s);
}

/* --- what went wrong ---------------------------------------------------------------------------------------------- */

void settle_refused(struct session *s, const struct backend_error *error)
{
	struct command *c = s->command;

	if (c->pings) {
		struct backend_error e = *error;
		login_verified(s, &e);
		return;
	}
	c->sync_failed = true;
	c->failed = true;
	c->sync_error = *error;
	/* Nothing was sent; but a fence that says so stands, and must not stand for ever. */
	c->accounted = true;
	if (s->touched.fenced) {
		touched_merge_changes(&s->touched, c->changes, c->nchanges);
		c->nchanges = 0;
		s->step = SESSION_SETTLE;
		c->op.done = on_confirmed;
		cache_invalidate(s->pw->cache, s->touched.changes, s->touched.nchanges, CACHE_AFTER, (struct gtid){0},
				 &c->op);
		return;
	}
	finish(s);
}

static void on_nobody_waits(struct cache_op *op, const struct cache_answer *a)
{
	(void)op; /* the session is closed; the invalidation goes on without it */
	(void)a;
}

void settle_unsent(struct session *s)
{
	struct command *c = s->command;

	if (c == NULL || c->accounted || !s->touched.fenced)
		return;
	cache_cancel(s->pw->cache, &c->op);
	touched_merge_changes(&s->touched, c->changes, c->nchanges);
	c->op.done = on_nobody_waits;
	cache_invalidate(s->pw->cache, s->touched.changes, s->touched.nchanges, CACHE_AFTER, (struct gtid){0}, &c->op);
}

void settle_unknown(struct session *s)
{
	struct command *c = s->command;
	struct freshness *f = s->pw->proxy->freshness;
	bool may = c != NULL && !c->finished &&
		   (effects_may_write(c) || s->touched.n > 0 || s->touched.all || s->touched.nchanges > 0);

	if (!may)
		return;
	c->accounted = true;
	touch(s);
	if (s->touched.all || s->touched.n == 0)
		freshness_unknown(f, NULL, 0);
	else
		freshness_unknown(f, s->touched.tables, s->touched.n);
	if (s->touched.all && s->touched.nchanges == 0)
		touch_all_rules(s);
	s->touched.committed = true;
	if (s->step != SESSION_CLOSED || s->touched.nchanges == 0)
		return;
	/* The server may still run it, and commit it after any margin: a pending fence stands, as for a proxy that
	 * died. */
	c->op.done = on_nobody_waits;
	cache_invalidate(s->pw->cache, s->touched.changes, s->touched.nchanges, CACHE_BEFORE, (struct gtid){0},
			 &c->op);
}

/* Nobody knows what became of the statement. The client starts anew, as it would have to without a proxy: its library
 * says what it always says then (2013), and says it only when the connection ends. session_close settles the rest. */
void settle_lost(struct session *s)
{
	session_close(s, "its server connection was lost");
}
