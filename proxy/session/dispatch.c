/* SPDX-License-Identifier: Apache-2.0
 *
 * From a statement to a server connection: a server is picked, a connection taken and put into the session's state, the
 * statement sent. Every decision leaves its reason behind.
 */
#include "session/session.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

enum { RETRY_MS = 50 }; /* how often a statement that waits for a primary looks */

static void acquire(struct session *s, unsigned index);

/* --- the way of a statement --------------------------------------------------------------------------------------- */

/* BEGIN ends the transaction that is open, and so needs none. */
static bool begins(const struct command *c)
{
	return c->is_statement && (c->stmt->kind == SQL_BEGIN || c->stmt->kind == SQL_BEGIN_RO);
}

/* Transactions begin where what only one connection knows is, and that is a primary's. */
static bool source_at_primary(const struct session *s)
{
	return s->home != NULL || s->insert_id_dirty || s->unproved;
}

/* Until one server connection of this kind has logged in at the primary, nobody knows what its sessions have. Without a
 * primary the last word counts. */
static bool knows_defaults(const struct session *s)
{
	const struct topology *t = s->pw->cluster.topology;

	return identity_settled(&s->pw->cluster, s->identity) ||
	       (s->identity->base != NULL && (t == NULL || t->primary < 0));
}

/* What statement and session allow. */
static void decide(struct session *s)
{
	struct command *c = s->command;
	const struct catalog *catalog = effects_code(s);
	struct route_facts facts = {
		.in_transaction = session_in_transaction(s),
		.autocommit = (s->status & STATUS_AUTOCOMMIT) != 0,
		.serializable = s->serializable,
		.locks = s->locks,
		.temporary_tables = s->temporary_tables,
		.schema = effects_schema(s),
	};

	c->want = route_wants(c->stmt, &facts, catalog);
	if (c->stmt->kind == SQL_SHOW_DIAG && (c->stmt->flags & SQLF_USER_VAR_SET))
		c->want.target = TARGET_PRIMARY; /* GET DIAGNOSTICS sets user variables */
	if (s->reader != NULL) {
		facts.in_transaction = false;
		c->alone = route_wants(c->stmt, &facts, catalog);
	}
	if (c->want.target == TARGET_REPLICA && !knows_defaults(s)) {
		c->want = (struct route_want){.target = TARGET_PRIMARY, .reason = ROUTE_STATE_UNKNOWN};
		if (s->home != NULL) /* it will not take another */
			pool_settle(&s->pw->cluster, s->identity);
	} else if (s->base == NULL && s->identity->base != NULL) {
		track_base(s, s->identity->base);
	}
	/* The session's state is in a connection of the primary's already: one more transaction goes there too. */
	if (c->stmt->kind == SQL_BEGIN_RO && source_at_primary(s))
		c->want = (struct route_want){.target = TARGET_PRIMARY, .reason = ROUTE_PINNED};
	if (s->auto_is_null && c->want.target == TARGET_REPLICA)
		c->want = (struct route_want){.target = TARGET_PRIMARY, .reason = ROUTE_SESSION_FUNCTION};
	if ((s->sticky && c->want.target != TARGET_LAST) || s->sandboxed)
		c->want = (struct route_want){.target = TARGET_PRIMARY, .reason = ROUTE_PINNED};
}

void dispatch_statement(struct session *s)
{
	struct command *c = s->command;

	c->started_us = topology_now_us();
	c->expiry_ms = -1;
	effects_ddl_begins(c);
	if (s->reader != NULL && begins(c))
		home_end_reader(s);
	if ((c->stmt->flags & SQLF_DIAG || c->stmt->kind == SQL_SHOW_DIAG) && diag_answers(s))
		return;
	decide(s);
	if (c->stmt->kind == SQL_SHOW && c->want.target == TARGET_PRIMARY && s->home == NULL && !s->sandboxed &&
	    sql_asks_status(c->text, c->text_mode))
		c->want = (struct route_want){.target = TARGET_LAST, .reason = ROUTE_DIAGNOSTICS};
	if (c->want.target == TARGET_REPLICA && lookup_try(s))
		return;
	if (c->want.target == TARGET_PRIMARY && lookup_fence(s))
		return;
	dispatch_route(s);
}

void dispatch_command(struct session *s, enum result_shape result)
{
	struct command *c = s->command;

	c->started_us = topology_now_us();
	c->expiry_ms = -1;
	c->is_statement = false;
	effects_ddl_begins(c);
	c->want = (struct route_want){.target = TARGET_PRIMARY, .reason = ROUTE_COMMAND};
	c->shape = result;
	if (lookup_fence(s))
		return;
	dispatch_route(s);
}

static int view_of_server(const struct topology *t, int id)
{
	for (unsigned i = 0; t != NULL && i < t->n; i++)
		if ((int)t->views[i].server->id == id)
			return (int)i;
	return -1;
}

/* A replica for a read, or -1 and the reason why it goes to the primary. */
static int pick_replica(struct session *s)
{
	struct command *c = s->command;
	struct proxy_worker *pw = s->pw;
	struct route_need need = {
		.consistency = pw->cluster.config->consistency,
		.ignore_freshness = c->want.ignore_freshness,
		.tables = c->tables,
		.session = s->last_gtid,
		.fence = c->found.fence,
		.rights = pw->accounts != NULL ? &pw->accounts->pos : NULL,
		.not_servers = c->not_servers,
	};

	if (pw->cluster.config->mode == MODE_OBSERVE) {
		stats_would_move(pw->worker->stats, STAT_REPLICA);
		c->reason = ROUTE_OBSERVE;
		return -1;
	}
	if (c->found.fence_primary) {
		c->reason = ROUTE_FENCE;
		return -1;
	}
	/* Without a primary, replicas stay readable that were fresh when it was last heard; but the exactness of a
	 * cache that other proxies share rests on proofs that are newer than any fence of theirs that has run out. */
	if (pw->cluster.topology != NULL && pw->cluster.topology->primary < 0 &&
	    cache_rule_shared(pw->cluster.config, c->stmt)) {
		c->reason = ROUTE_NO_REPLICA;
		return -1;
	}
	need.not_servers |= pool_refusing(&pw->cluster, s->identity, topology_now_coarse_us());
	effects_note_reads(s);
	need.n = c->ntables;
	if (c->stmt->kind == SQL_SELECT && c->stmt->ntables == 0 &&
	    !(c->stmt->flags & (SQLF_TABLES_OVERFLOW | SQLF_UNKNOWN_FUNC)))
		need.ignore_freshness = true; /* SELECT 1 */
	return route_pick(pw->cluster.topology, pw->proxy->freshness, &need, pw->turn++, topology_now_coarse_us(),
			  &c->reason);
}

/* While there is no primary, the schema of a login is tried at a replica: who only reads needs no primary. */
static int any_replica(struct session *s)
{
	struct command *c = s->command;
	struct proxy_worker *pw = s->pw;
	struct route_need need = {.ignore_freshness = true,
				  .rights = pw->accounts != NULL ? &pw->accounts->pos : NULL,
				  .not_servers = c->not_servers};

	if (pw->cluster.topology == NULL)
		return -1;
	return route_pick(pw->cluster.topology, pw->proxy->freshness, &need, pw->turn++, topology_now_coarse_us(),
			  &c->reason);
}

/* In a READ ONLY transaction at a replica: what only reads goes on there, and so does what the transaction refuses
 * anyway, or what ends it. Whatever is about the session's own state is the primary's, in a transaction of its own. */
static bool reader_runs(const struct session *s)
{
	const struct command *c = s->command;

	if (!c->is_statement)
		return c->code == COM_INIT_DB || c->code == COM_FIELD_LIST;
	if (c->stmt->flags & (SQLF_UNREADABLE | SQLF_USER_VAR_SET | SQLF_LOCK_FUNC))
		return false;
	switch (c->stmt->kind) {
	case SQL_SELECT:
		return c->alone.target == TARGET_REPLICA;
	case SQL_INSERT:
	case SQL_REPLACE:
	case SQL_UPDATE:
	case SQL_DELETE:
	case SQL_COMMIT:
	case SQL_ROLLBACK:
		return s->home == NULL;
	case SQL_EMPTY:
	case SQL_SHOW:
	case SQL_USE:
		return true;
	default:
		return false;
	}
}

/* Which server runs the statement; -1: none can now. */
static int choose(struct session *s)
{
	struct command *c = s->command;
	const struct topology *t = s->pw->cluster.topology;
	int index = -1;

	if (c->want.target == TARGET_REPLICA)
		index = pick_replica(s);
	else if (c->want.target == TARGET_LAST && s->home == NULL)
		index = view_of_server(t, s->last_server);
	if (index >= 0 && t->views[index].role != ROLE_PRIMARY)
		c->to_replica = true;
	if (index < 0 && t != NULL && t->primary >= 0 &&
	    !atomic_load_explicit(&t->views[t->primary].server->failed, memory_order_acquire))
		index = t->primary;
	if (index < 0 && c->pings)
		c->to_replica = (index = any_replica(s)) >= 0;
	return index;
}

static bool is_at(const struct session *s, const struct backend *b, int index)
{
	const struct server_view *v = index >= 0 ? &s->pw->cluster.topology->views[index] : NULL;

	return b != NULL && v != NULL && v->server == b->pool->server &&
	       b->read_only == (v->role != ROLE_PRIMARY); /* its server's role may have changed */
}

static void wait_for_primary(struct session *s);

void dispatch_route(struct session *s)
{
	struct command *c = s->command;

	c->reason = c->want.reason;
	c->to_replica = false;
	if (c->answered_by != NULL) {
		home_use(s, c->answered_by);
		return;
	}
	if (s->reader != NULL && reader_runs(s)) {
		home_use(s, s->reader);
		return;
	}
	if (s->home != NULL && (session_in_transaction(s) || s->locks || s->next_transaction || s->sticky)) {
		home_use(s, s->home);
		return;
	}
	if (home_must_ask(s) && home_asking_costs(s) && c->want.target == TARGET_REPLICA)
		c->want = (struct route_want){.target = TARGET_PRIMARY, .reason = ROUTE_PINNED};
	int index = choose(s);
	if (home_must_ask(s) && !(s->home != NULL ? !c->to_replica : is_at(s, s->witness, index))) {
		home_ask(s);
		return;
	}
	if (s->home != NULL && !c->to_replica) {
		home_use(s, s->home);
		return;
	}
	if (is_at(s, s->witness, index)) {
		home_use(s, s->witness);
		return;
	}
	if (s->witness != NULL && s->home == NULL && index >= 0 && !c->to_replica && !s->witness->read_only)
		home_forget_witness(s); /* another primary than the one that knows LAST_INSERT_ID() */
	if (index < 0) {
		wait_for_primary(s);
		return;
	}
	acquire(s, (unsigned)index);
}

/* --- waiting ------------------------------------------------------------------------------------------------------ */

static void wait_for_primary(struct session *s);

static void give_up(struct session *s)
{
	struct command *c = s->command;

	stats_error(s->pw->worker->stats, STAT_ERR_NO_SERVER);
	if (c->held_back) { /* the server's own words */
		struct backend_error e = c->sync_error;
		settle_refused(s, &e);
		return;
	}
	c->sync_error = (struct backend_error){.code = ER_SERVER_SHUTDOWN, .sqlstate = "08S01"};
	snprintf(c->sync_error.text, sizeof c->sync_error.text, "Can't connect to a primary server: %s",
		 c->last_error[0] != '\0' ? c->last_error : "none is known to be up and writable");
	settle_refused(s, &c->sync_error);
}

void dispatch_hold(struct session *s)
{
	struct command *c = s->command;

	c->held_back = true;
	c->failed = c->sync_failed = false;
	c->nswallow = c->swallowed = 0;
	wait_for_primary(s);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	dispatch_primary_came(arg);
}

static void wait_for_primary(struct session *s)
{
	struct command *c = s->command;
	int64_t now = topology_now_us();

	if (c->wait_until_us == 0)
		c->wait_until_us = now + (int64_t)s->pw->cluster.config->primary_wait_ms * 1000;
	if (now >= c->wait_until_us) {
		give_up(s);
		return;
	}
	s->step = SESSION_WAIT;
	TAILQ_INSERT_TAIL(&s->pw->wait_primary, s, wait_link);
	command_timer(c, RETRY_MS, on_retry);
	s->pw->proxy->services.poke(s->pw->proxy->services.arg, PROXY_POKE_SERVERS);
}

void dispatch_primary_came(struct session *s)
{
	TAILQ_REMOVE(&s->pw->wait_primary, s, wait_link);
	command_timer_stop(s->command);
	s->step = SESSION_ACQUIRE;
	dispatch_route(s);
}

static void got(struct session *s, struct backend *b)
{
	s->current = b;
	b->spoilt |= s->sandboxed; /* the password that is set there is not its pool's */
	b->owner = s;
	b->ops = &relay_ops;
	s->command->server_id = b->pool->server->id;
	if (s->base != b->base)
		track_base(s, b->base);
	dispatch_send(s);
}

static void on_pool_wait(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;
	struct command *c = s->command;

	(void)fd;
	(void)what;
	pool_cancel(&c->wait);
	stats_error(s->pw->worker->stats, STAT_ERR_TIMEOUT);
	c->sync_error = (struct backend_error){.code = ER_CON_COUNT_ERROR, .sqlstate = "08004"};
	snprintf(c->sync_error.text, sizeof c->sync_error.text,
		 "Too many connections: no server connection became free in time");
	settle_refused(s, &c->sync_error);
}

static void on_pool_done(struct pool_wait *wait, struct backend *b, const struct backend_error *error)
{
	struct command *c = (struct command *)((char *)wait - offsetof(struct command, wait));
	struct session *s = c->session;

	command_timer_stop(c);
	if (b != NULL) {
		got(s, b);
		return;
	}
	snprintf(c->last_error, sizeof c->last_error, "%.*s", (int)sizeof c->last_error - 1, error->text);
	s->pw->proxy->services.poke(s->pw->proxy->services.arg, PROXY_POKE_SERVERS);
	if (c->to_replica) {
		dispatch_again(s, (int)c->server_id);
	} else if (error->from_server) {
		c->sync_error = *error;
		settle_refused(s, &c->sync_error);
	} else {
		wait_for_primary(s);
	}
}

/* Others may sit on a connection of this pool only for what it knows: who is idle and whose LAST_INSERT_ID() has not
 * been asked yet, or who waits for a connection himself, so that nobody waits for each other. */
static void ask_for_lingering(struct session *s, const struct pool *pool)
{
	struct session *other, *next;

	if (pool == NULL || pool->nconnecting >= pool->nwaiting)
		return;
	for (other = TAILQ_FIRST(&s->pw->lingering); other != NULL; other = next) {
		next = TAILQ_NEXT(other, linger_link);
		if (other->witness->pool != pool || other == s)
			continue;
		if (other->step == SESSION_IDLE && other->diag.list_at != other->witness) {
			home_give_up(other);
			return;
		}
		if ((other->step == SESSION_ACQUIRE || other->step == SESSION_WAIT) && home_spare_witness(other))
			return;
	}
}

static void acquire(struct session *s, unsigned index)
{
	struct command *c = s->command;
	struct cluster *cluster = &s->pw->cluster;
	struct pool_taste taste = {.state_hash = s->want.hash, .rights = rights_granted(s)};

	c->server_id = cluster->topology->views[index].server->id;
	if (s->last_server == (int)c->server_id) {
		taste.thread_id = s->last_thread;
		taste.uses = s->last_uses;
	}
	c->wait.done = on_pool_done;
	struct backend *b = pool_get(cluster, s->identity, index, &taste, &c->wait);
	if (b != NULL) {
		got(s, b);
		return;
	}
	s->step = SESSION_ACQUIRE;
	if (s->witness != NULL && s->witness->pool->nwaiting > 0)
		home_spare_witness(s);
	command_timer(c, cluster->config->pool_wait_ms, on_pool_wait);
	ask_for_lingering(s, c->wait.pool);
}

void dispatch_again(struct session *s, int failed_server)
{
	struct command *c = s->command;
	int index = view_of_server(s->pw->cluster.topology, failed_server);

	if (index >= 0)
		c->not_servers |= 1u << index;
	stats_error(s->pw->worker->stats, STAT_ERR_RETRY);
	c->nswallow = c->swallowed = 0;
	c->sync_failed = c->failed = false;
	c->expiry_ms = -1;
	c->shift = 0;
	c->begun = c->cleared = false;
	c->answered_by = NULL;
	c->nfill_status = c->warnings = 0;
	c->bytes = c->affected = c->insert_id = 0;
	c->tries++;
	/* After two replicas, or when the answer is to be the primary's own, the primary decides. */
	if (c->tries >= 2 || c->primary_decides) {
		c->want.target = TARGET_PRIMARY;
		c->want.reason = ROUTE_RETRY;
	}
	s->step = SESSION_ACQUIRE;
	dispatch_route(s);
}

/* --- sending ------------------------------------------------------------------------------------------------------ */

void command_swallow(struct command *c, enum swallow what, int times)
{
	while (times-- > 0) {
		if (c->nswallow == sizeof c->swallow / sizeof *c->swallow)
			abort(); /* a reply would be taken for the client's */
		c->swallow[c->nswallow++] = what;
	}
}

/* Does the statement look at LAST_INSERT_ID()? Routines and unread text may. */
static bool needs_insert_id(const struct command *c)
{
	if (c->session->auto_is_null)
		return true;
	if (!c->is_statement || c->code == COM_STMT_PREPARE)
		return false;
	if ((c->stmt->flags & (SQLF_SESSION_FUNC | SQLF_SYS_VAR | SQLF_UNKNOWN_FUNC | SQLF_UNREADABLE)) ||
	    c->stmt->kind == SQL_CALL || c->stmt->kind == SQL_COMPOUND || c->stmt->kind == SQL_EXECUTE ||
	    c->stmt->kind == SQL_DO)
		return true;
	/* A view may look at it. */
	bool reads = c->stmt->kind == SQL_SELECT || (c->stmt->flags & SQLF_SUBQUERY);
	return reads && !c->to_replica && c->stmt->ntables > 0 && (effects_of(c->session) & EFFECT_DEPENDS);
}

static void put_own(struct command *c, struct buf *out, const char *sql)
{
	session_put_query(out, sql, strlen(sql));
	command_swallow(c, SWALLOW_STATE, 1);
}

/* Puts the connection into the wanted state. Returns false when it cannot be brought there. */
static bool put_state(struct session *s, struct buf *out, const struct state *want)
{
	struct command *c = s->command;
	struct backend *b = s->current;
	/* A prepared statement runs in the schema that it was prepared in, as at a server: its connection is there. */
	bool sets_schema = c->code == COM_INIT_DB || (c->ps != NULL && want == &s->want && want->schema == NULL &&
						      prepared_state(c)->schema != NULL);
	const struct state_base base = {b->ground, b->read_only};
	int n = sets_schema ? state_diff_variables(want, &b->have, &base, out)
			    : state_diff(want, &b->have, &base, out);

	if (n < 0)
		return false;
	c->syncing = n > 0 ? want : NULL;
	command_swallow(c, SWALLOW_STATE, n);
	if (c->clear_first && !c->cleared) {
		put_own(c, out, "DO (SELECT COUNT(*) FROM (SELECT 1 a) b)"); /* empties the list of warnings */
		c->cleared = true;
	}
	if (s->reader != NULL && b != s->reader && b != s->home && !begins(c) && !c->begun) {
		put_own(c, out, "START TRANSACTION READ ONLY"); /* which the client believes to be in */
		c->begun = true;
	}
	if (c->answered_by == NULL && needs_insert_id(c) && b->last_insert_id != s->last_insert_id &&
	    !s->insert_id_dirty) {
		char sql[64];
		snprintf(sql, sizeof sql, "SET last_insert_id=%llu", (unsigned long long)s->last_insert_id);
		put_own(c, out, sql);
		b->last_insert_id = s->last_insert_id;
	}
	return true;
}

static void replace_backend(struct session *s)
{
	struct command *c = s->command;
	struct backend *b = s->current;

	if (b == s->home && session_bound(s)) { /* its schema was dropped, and a prepared statement brought it back */
		c->sync_error =
			(struct backend_error){.code = 1046, .sqlstate = "3D000", .text = "No database selected"};
		settle_refused(s, &c->sync_error);
		return;
	}
	/* A schema can be left only by a new login: not even a reset does. */
	backend_close(home_detach(s), false, "a session without a schema needs another");
	s->step = SESSION_ACQUIRE;
	dispatch_route(s);
}

static void send_done(struct session *s, struct buf *out)
{
	struct command *c = s->command;
	struct backend *b = s->current;

	s->step = SESSION_RELAY;
	if (!c->sent_any) {
		atomic_fetch_add_explicit(&b->pool->server->outstanding, 1, memory_order_relaxed);
		c->sent_any = true;
	}
	enum result_shape first = c->shape;
	if (c->nswallow > 0)
		first = c->swallow[0] == SWALLOW_PREPARE ? RESULT_SHAPE_PREPARE : RESULT_SHAPE_QUERY;
	result_init(&c->result, first, b->deprecate_eof);
	if (conn_send(&b->conn, out) < 0)
		relay_lost(s, "write failed");
}

void dispatch_send(struct session *s)
{
	struct command *c = s->command;
	struct backend *b = s->current;
	struct buf *out = &s->pw->out;
	const struct state *state = &s->want;
	bool executes = c->ps != NULL && c->code == COM_STMT_EXECUTE;

	if (executes && b == s->home && b->have.schema != NULL)
		prepared_adopt_schema(c, b->have.schema);
	bool prepare_first = executes && !prepared_known(s, b);

	buf_clear(out);
	if (!buf_try_reserve(out, command_sent_size(c))) {
		command_no_memory(s);
		return;
	}
	c->retryable = c->to_replica && !session_in_transaction(s) && c->request.len <= 1u << 20;
	if (prepare_first)
		state = prepared_state(c);
	c->nswallow = c->swallowed = 0;
	if (!put_state(s, out, state)) {
		replace_backend(s);
		return;
	}
	/* What cannot be run again waits until the state is known to be right: in another schema it would do harm. */
	if (c->nswallow > 0 && !c->retryable) {
		c->again = true;
		send_done(s, out);
		return;
	}
	c->again = false;
	if (prepare_first) {
		prepared_put_prepare(s, out);
		command_swallow(c, SWALLOW_PREPARE, 1);
		c->again = true;
		send_done(s, out);
		return;
	}
	if (c->leased && s->pw->catalog == NULL) { /* the rules changed while the store was asked */
		cache_abandon(s->pw->cache, &c->key, c->found.lease);
		c->leased = false;
	}
	if (c->leased && s->pw->cluster.config->rules[c->key.rule].expires[0] != '\0')
		lookup_put_expiry_query(s, out);
	if (c->code == COM_STMT_EXECUTE && c->ps != NULL)
		prepared_put_execute(s, b, out);
	else
		command_put(c, out);
	b->uses++;
	send_done(s, out);
}
