/* SPDX-License-Identifier: Apache-2.0
 *
 * The server connections that a session keeps between statements, and how each goes back to its pool:
 *
 *   home     a primary's: transaction, locks, state that cannot be told to another connection
 *   reader   a replica's, with the session's READ ONLY transaction
 *   witness  anybody's: it alone knows something of the last statements that may still be asked for (the texts of
 *            warnings, FOUND_ROWS(), LAST_INSERT_ID(), variables that nobody told of). Others may have it when they
 *            wait: what can be asked is asked first
 *
 * Only this file gives connections to a session or takes them away; dispatch.c says which one runs a statement.
 */
#include "session/session.h"

#include "mysql/defaults.h"

#include <stdlib.h>

/* --- what only one connection knows --------------------------------------------------------------------------------
 */

static void forget(struct session *s, const struct backend *b)
{
	if (s->diag.knower == b)
		s->diag.knower = NULL;
	if (s->diag.list_at == b) {
		s->diag.list_at = NULL;
		s->diag.list_lost = true;
	}
}

static bool diagnostics_wanted(const struct session *s, const struct backend *b)
{
	return s->diag.list_at == b || (s->diag.knower == b && !s->diag.found_known);
}

static void witness_set(struct session *s, struct backend *b)
{
	struct proxy_worker *pw = s->pw;
	struct timeval tick = {.tv_sec = 1};

	s->witness = b;
	s->witness_since = topology_now_us();
	if (TAILQ_EMPTY(&pw->lingering))
		event_add(&pw->linger_tick, &tick);
	TAILQ_INSERT_TAIL(&pw->lingering, s, linger_link);
}

static struct backend *witness_take(struct session *s)
{
	struct backend *b = s->witness;

	if (b != NULL)
		TAILQ_REMOVE(&s->pw->lingering, s, linger_link);
	s->witness = NULL;
	return b;
}

/* The connection that alone knows LAST_INSERT_ID() or the variables. */
static struct backend *source(const struct session *s)
{
	if (s->home != NULL)
		return s->home;
	return s->witness != NULL && !s->witness->read_only ? s->witness : NULL;
}

static void put_back(struct session *s, struct backend *b)
{
	forget(s, b);
	backend_put(&b);
}

/* --- asking ------------------------------------------------------------------------------------------------------- */

/* What functions and triggers can leave in a connection beside variables. The counter is since the last reset. A lock
 * that nobody knows of cannot be kept: track_left() ends the session. */
static const char left_behind[] =
	"SELECT (SELECT COUNT(*) FROM information_schema.USER_VARIABLES),(SELECT VARIABLE_VALUE FROM "
	"information_schema.SESSION_STATUS WHERE VARIABLE_NAME='COM_CREATE_TEMPORARY_TABLE'),RELEASE_ALL_LOCKS()";

/* Asks b what only it knows; the answers are swallowed, then home_asked() is called. */
static void ask(struct session *s, struct backend *b)
{
	struct command *c = s->command;
	struct buf *out = &s->pw->out;

	buf_clear(out);
	c->asking = true;
	c->finished = !c->ask_first;
	c->nswallow = c->swallowed = 0;
	if (s->insert_id_dirty) {
		static const char sql[] = "SELECT LAST_INSERT_ID()";
		session_put_query(out, sql, sizeof sql - 1);
		command_swallow(c, SWALLOW_INSERT_ID, 1);
	}
	if (s->unproved) {
		static const char sql[] = DEFAULTS_QUERY;
		session_put_query(out, sql, sizeof sql - 1);
		command_swallow(c, SWALLOW_VARIABLES, 1);
	}
	if (s->doubt && s->pinned) {
		s->temporary_tables = s->unclean = true; /* it has locks of its own, perhaps: they are not asked away */
	} else if (s->doubt) {
		session_put_query(out, left_behind, sizeof left_behind - 1);
		command_swallow(c, SWALLOW_LEFT, 1);
	}
	s->insert_id_dirty = s->unproved = s->doubt = false;
	forget(s, b); /* its diagnostics are now of the questions */
	s->current = b;
	s->step = SESSION_RELAY;
	result_init(&c->result, RESULT_SHAPE_QUERY, b->deprecate_eof);
	if (!c->sent_any)
		atomic_fetch_add_explicit(&b->pool->server->outstanding, 1, memory_order_relaxed);
	c->sent_any = true;
	if (conn_write(&b->conn, out->data, out->len) < 0)
		relay_lost(s, "write failed");
}

bool home_must_ask(const struct session *s)
{
	return s->unproved && source(s) != NULL;
}

bool home_asking_costs(const struct session *s)
{
	return s->diag.list_at == source(s);
}

void home_ask(struct session *s)
{
	struct backend *b = s->home != NULL ? s->home : witness_take(s);

	s->command->ask_first = true;
	s->command->server_id = b->pool->server->id;
	ask(s, b);
}

void home_asked(struct session *s)
{
	struct command *c = s->command;
	struct backend *b = s->current;

	atomic_fetch_sub_explicit(&b->pool->server->outstanding, 1, memory_order_relaxed);
	c->sent_any = c->asking = false;
	c->nswallow = c->swallowed = 0;
	s->current = NULL;
	if (b != s->home && s->home == NULL && session_bound(s))
		s->home = b;
	else if (b != s->home)
		put_back(s, b);
	if (s->lost_lock) {
		session_close(s, "a function took a user lock that cannot be kept");
		return;
	}
	if (c->ask_first) {
		c->ask_first = false;
		s->step = SESSION_ACQUIRE;
		dispatch_route(s);
		return;
	}
	session_idle(s);
}

void home_give_up(struct session *s)
{
	if (s->witness == NULL || s->step != SESSION_IDLE)
		return;
	bool pending = s->witness == source(s) && (s->insert_id_dirty || s->unproved);
	struct backend *b = witness_take(s);
	if (!pending) {
		put_back(s, b);
		return;
	}
	command_new(s);
	s->command->finished = true;
	ask(s, b);
}

bool home_spare_witness(struct session *s)
{
	if (s->witness == NULL || (s->witness == source(s) && (s->insert_id_dirty || s->unproved)))
		return false;
	put_back(s, witness_take(s));
	return true;
}

/* --- a statement begins and ends ---------------------------------------------------------------------------------- */

void home_use(struct session *s, struct backend *b)
{
	if (b == s->witness)
		witness_take(s);
	s->current = b;
	s->command->server_id = b->pool->server->id;
	dispatch_send(s);
}

struct backend *home_detach(struct session *s)
{
	struct backend *b = s->current;

	forget(s, b);
	if (s->home == b) {
		s->home = NULL;
		s->insert_id_dirty = false; /* nobody can be asked any more */
	}
	if (s->reader == b)
		s->reader = NULL;
	s->current = NULL;
	s->throttled = false;
	if (s->command->sent_any)
		atomic_fetch_sub_explicit(&b->pool->server->outstanding, 1, memory_order_relaxed);
	s->command->sent_any = false;
	return b;
}

/* The replica's READ ONLY transaction is over, or goes on at the primary. */
static void drop_reader(struct session *s)
{
	struct backend *b = s->reader;

	s->reader = NULL;
	if (b == NULL)
		return;
	b->tainted = true;
	put_back(s, b);
}

void home_end_reader(struct session *s)
{
	drop_reader(s);
	if (s->home == NULL)
		s->status &= ~(unsigned)(STATUS_IN_TRANS | STATUS_IN_TRANS_READONLY);
}

/* A statement that runs others ended the transaction, perhaps, and began one of its own. */
static bool may_have_begun_anew(const struct session *s)
{
	const struct command *c = s->command;

	return s->current == s->home && c->is_statement && c->code != COM_STMT_PREPARE &&
	       (effects_of(s) & EFFECT_TRANSACTION) && c->stmt->kind != SQL_SET && c->stmt->kind != SQL_SAVEPOINT;
}

static bool is_primary(const struct session *s, const struct backend *b)
{
	const struct topology *t = s->pw->cluster.topology;

	return t == NULL || t->primary < 0 || t->views[t->primary].server == b->pool->server;
}

/* It is neither home nor reader: kept as witness, or given back. What only a primary's connection knows (`pending`) is
 * never left behind: it is kept, or asked first, and then false is returned. */
static bool release_free(struct session *s, struct backend *b)
{
	struct backend *old = s->witness;
	bool pending = s->home == NULL && (s->insert_id_dirty || s->unproved);
	bool knows = diagnostics_wanted(s, b), knew = old != NULL && diagnostics_wanted(s, old);
	bool old_pending = pending && old != NULL && !old->read_only, b_pending = pending && !b->read_only;

	if (!knows && !b_pending) {
		put_back(s, b);
		if (old != NULL && !old_pending && !knew)
			put_back(s, witness_take(s));
		return true;
	}
	if (old == NULL && (knows || b->pool->nwaiting == 0)) {
		witness_set(s, b);
		return true;
	}
	if (old == NULL || (knew && !knows && !old_pending)) {
		ask(s, b); /* others wait for it, or the older one still has the warnings */
		return false;
	}
	witness_take(s);
	witness_set(s, b);
	if (old_pending)
		ask(s, old);
	else
		put_back(s, old);
	return !old_pending;
}

bool home_release(struct session *s)
{
	struct backend *b = s->current;

	if (b == NULL)
		return true;
	s->last_server = (int)b->pool->server->id;
	s->last_thread = b->thread_id;
	s->last_uses = b->uses;
	conn_read_on(&b->conn);
	s->throttled = false;
	if (s->reader != NULL && s->reader != b && (!session_in_transaction(s) || may_have_begun_anew(s)))
		drop_reader(s);
	s->current = NULL;
	if (session_in_transaction(s) && (b == s->reader || (s->home == NULL && s->command->to_replica))) {
		s->reader = b;
		return true;
	}
	if (b == s->reader)
		s->reader = NULL;
	if (session_bound(s) && (b == s->home || (s->home == NULL && (is_primary(s, b) || !s->command->to_replica)))) {
		s->home = b;
		return true;
	}
	if (b == s->home)
		s->home = NULL;
	if (s->command->asking || s->command->ask_first)
		return true;
	return release_free(s, b);
}

/* --- the end of what is kept -------------------------------------------------------------------------------------- */

void home_drop(struct session *s)
{
	struct backend *b = s->home, *w = witness_take(s);

	touched_clear(&s->touched);
	drop_reader(s);
	s->home = NULL;
	s->status &= ~(unsigned)(STATUS_IN_TRANS | STATUS_IN_TRANS_READONLY);
	if (w != NULL) {
		w->tainted |= s->unproved;
		put_back(s, w);
	}
	if (b != NULL) {
		b->tainted = true;
		b->spoilt |= s->unclean; /* not even a reset makes it what its pool says */
		put_back(s, b);
	}
	s->sticky = s->pinned = s->locks = s->next_transaction = s->temporary_tables = false;
	s->unproved = s->doubt = s->unclean = s->insert_id_dirty = false;
}

void home_adopt_witness(struct session *s)
{
	if (s->home == NULL)
		s->home = witness_take(s);
}

void home_forget_witness(struct session *s)
{
	if (s->witness != NULL)
		put_back(s, witness_take(s));
	s->insert_id_dirty = false;
}

void home_lost(struct session *s, struct backend *b)
{
	/* The state is in the connection that runs the command, unless another one is kept for it. */
	bool bound = b == s->home || b == s->reader || (s->home == NULL && s->reader == NULL && session_bound(s)) ||
		     (s->unproved && b == source(s));

	forget(s, b);
	if (s->witness == b && b == source(s))
		s->insert_id_dirty = false; /* nobody can be asked any more */
	if (s->witness == b)
		witness_take(s);
	if (s->home == b)
		s->home = NULL;
	if (s->reader == b)
		s->reader = NULL;
	if (s->current == b)
		s->current = NULL; /* its reply is in; the store has not confirmed yet */
	if (!bound) {              /* only what it knew of the last statement is gone */
		backend_close(b, false, "closed by the server");
		return;
	}
	bool failed = !idle_home_was_due(s, b); /* else it was only idle for too long, as its client */
	backend_close(b, failed, "kept connection closed by the server");
	/* As without a proxy: the transaction and the state are gone, and so is the connection. */
	session_close(s, "its server connection was lost");
}

void home_close(struct session *s, bool mid_reply)
{
	struct backend *b = s->current;

	/* A connection in the middle of a reply cannot be used again; one that holds a transaction or state is reset.
	 */
	if (b != NULL && (mid_reply || (b != s->home && b != s->reader)))
		backend_close(home_detach(s), false, "its client left in the middle of a reply");
	s->current = NULL;
}
