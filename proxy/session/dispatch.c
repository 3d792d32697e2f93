/* SPDX-License-Identifier: Apache-2.0
 *
 * From a statement to a server connection: the cache is asked, a write's keys are fenced, a server is picked, a
 * connection taken and put into the session's state, the statement sent. Every decision leaves its reason behind.
 */
#include "session/session.h"

#include <stdio.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/log.h"
#include "base/mem.h"

enum { RETRY_MS = 50 }; /* how often a statement that waits for a primary looks */

static void route(struct session *s);
static void acquire(struct session *s, unsigned index);

static struct slice schema_of(const struct session *s)
{
	const struct command *c = s->command;

	if (c->ps != NULL) {
		const struct state *st = prepared_state(c);
		return st->schema != NULL ? slice_str(st->schema) : slice_of(NULL, 0);
	}
	return s->want.schema != NULL ? slice_str(s->want.schema) : slice_of(NULL, 0);
}

/* The catalog, if it is known to be of after the last DDL that passed; NULL otherwise: then nothing is proved. */
static const struct catalog *usable_catalog(const struct session *s)
{
	const struct proxy *p = s->pw->proxy;
	const struct catalog *c = s->pw->catalog;

	if (c == NULL || atomic_load_explicit(&p->ddl_in_flight, memory_order_acquire) > 0 ||
	    c->generation < atomic_load_explicit(&p->catalog_needed, memory_order_acquire))
		return NULL;
	return c;
}

/* --- what is read and written ------------------------------------------------------------------------------------ */

static uint64_t slot_of(const struct session *s, const struct sql_name *t)
{
	struct slice db = t->db.n > 0 ? t->db : schema_of(s);

	return freshness_table(db, t->name, (s->command->text_mode & SQL_FOLD_TABLE_NAMES) != 0);
}

/* The tables whose last write a replica must have. ntables 0 means any. */
static void note_tables(struct session *s)
{
	struct command *c = s->command;
	const struct catalog *catalog = usable_catalog(s);

	c->ntables = 0;
	if ((c->stmt.flags & (SQLF_TABLES_OVERFLOW | SQLF_UNKNOWN_FUNC)) || catalog == NULL)
		return;
	for (unsigned i = 0; i < c->stmt.ntables; i++) {
		c->tables[i] = slot_of(s, &c->stmt.tables[i]);
		if (catalog_is_view(catalog, c->tables[i])) {
			c->ntables = 0;
			return;
		}
		c->ntables = i + 1;
	}
}

bool dispatch_names_its_writes(struct session *s, uint64_t *slots, unsigned *n)
{
	const struct command *c = s->command;
	const struct catalog *catalog = usable_catalog(s);

	*n = 0;
	if (!c->is_statement || catalog == NULL ||
	    (c->stmt.flags & (SQLF_TABLES_OVERFLOW | SQLF_UNKNOWN_FUNC | SQLF_MULTI | SQLF_UNREADABLE)))
		return false;
	switch (c->stmt.kind) {
	case SQL_INSERT:
	case SQL_REPLACE:
	case SQL_UPDATE:
	case SQL_DELETE:
	case SQL_LOAD:
		break;
	default:
		return false;
	}
	for (unsigned i = 0; i < c->stmt.ntables; i++) {
		if (!c->stmt.tables[i].written)
			continue;
		slots[*n] = slot_of(s, &c->stmt.tables[i]);
		if (catalog_spreads(catalog, slots[*n]) || catalog_is_view(catalog, slots[*n]))
			return false;
		(*n)++;
	}
	return *n > 0;
}

bool dispatch_may_write(const struct command *c)
{
	if (!c->is_statement)
		return c->code == COM_CREATE_DB || c->code == COM_DROP_DB || c->code == COM_REFRESH;
	if (c->code == COM_STMT_PREPARE)
		return false;
	if (c->stmt.flags & (SQLF_UNREADABLE | SQLF_MULTI | SQLF_UNKNOWN_FUNC))
		return true;
	switch (c->stmt.kind) {
	case SQL_EMPTY:
	case SQL_SELECT:
	case SQL_SHOW:
	case SQL_SHOW_DIAG:
	case SQL_USE:
	case SQL_SET_TRANSACTION:
	case SQL_BEGIN:
	case SQL_BEGIN_RO:
	case SQL_SAVEPOINT:
	case SQL_COMMIT:
	case SQL_ROLLBACK:
	case SQL_PREPARE:
	case SQL_DEALLOCATE:
	case SQL_HANDLER:
	case SQL_CREATE_TEMP:
	case SQL_DROP_TEMP:
		return false;
	default:
		return true;
	}
}

/* DDL and whatever else ends a transaction by itself, or names objects rather than rows. */
static bool is_ddl(const struct command *c)
{
	if (!c->is_statement)
		return c->code == COM_CREATE_DB || c->code == COM_DROP_DB;
	return c->code != COM_STMT_PREPARE &&
	       (c->stmt.kind == SQL_DDL || c->stmt.kind == SQL_TRUNCATE ||
		((c->stmt.flags & SQLF_MULTI) && dispatch_may_write(c) && c->stmt.kind == SQL_DDL));
}

/* May this statement commit the open transaction? */
static bool may_commit(const struct command *c)
{
	if (!c->is_statement)
		return true;
	if (c->code == COM_STMT_PREPARE)
		return false;
	if (c->stmt.flags & (SQLF_MULTI | SQLF_UNREADABLE))
		return true;
	switch (c->stmt.kind) {
	case SQL_SELECT:
	case SQL_INSERT:
	case SQL_REPLACE:
	case SQL_UPDATE:
	case SQL_DELETE:
	case SQL_ROLLBACK:
	case SQL_SAVEPOINT:
	case SQL_SHOW:
	case SQL_SHOW_DIAG:
	case SQL_USE:
	case SQL_PREPARE:
	case SQL_DEALLOCATE:
	case SQL_DO:
	case SQL_HANDLER:
		return false;
	default:
		return true;
	}
}

/* --- the cache --------------------------------------------------------------------------------------------------- */

/* What form of the answer: all that changes its bytes but the row itself. */
static void shape(struct session *s, uint8_t out[CACHE_SHAPE])
{
	const struct command *c = s->command;
	struct buf b = {0};

	buf_put(&b, c->text.p, c->text.n);
	buf_put_u8(&b, 0);
	buf_put(&b, s->identity->user, strlen(s->identity->user) + 1);
	buf_put_u64(&b, s->want.hash);
	buf_put_u32(&b, s->caps & (identity_caps(~0u) | CAP_DEPRECATE_EOF));
	buf_put_u32(&b, s->xcaps);
	buf_put_u16(&b, s->collation);
	if (c->ps != NULL) {
		buf_put_u64(&b, prepared_state(c)->hash);
		prepared_shape(c, &b);
	}
	XXH128_canonical_t canonical;
	XXH128_canonicalFromHash(&canonical, XXH3_128bits(b.data, b.len));
	memcpy(out, canonical.digest, CACHE_SHAPE);
	buf_fini(&b);
}

/* The stored bytes with this session's own status flags, as if a server had just sent them. */
static void serve_hit(struct session *s, const struct cache_answer *a)
{
	struct command *c = s->command;
	struct proxy_worker *pw = s->pw;
	const uint16_t own = STATUS_IN_TRANS | STATUS_AUTOCOMMIT | STATUS_NO_BACKSLASH_ESCAPES | STATUS_ANSI_QUOTES |
			     STATUS_IN_TRANS_READONLY;
	size_t offsets = 1 + 4u * a->data[0];

	buf_clear(&pw->out);
	buf_put(&pw->out, a->data + offsets, a->len - offsets);
	for (unsigned i = 0; i < a->data[0]; i++) {
		uint32_t at = get_u32(a->data + 1 + 4 * i);
		uint16_t stored = get_u16(pw->out.data + at);
		put_u16(pw->out.data + at, (stored & ~own) | (s->status & own));
	}
	int64_t us = topology_now_us() - c->started_us;
	stats_cache(pw->worker->stats, pw->cluster.config->rules[c->key.rule].stats_id, STAT_HIT);
	stats_routed(pw->worker->stats, STATS_NO_SERVER, ROUTE_CACHE_HIT);
	stats_statement(pw->worker->stats, STAT_CACHE, STATS_NO_SERVER, s->identity->stats_user, (uint64_t)us);
	if (session_send(s, pw->out.data, pw->out.len) == 0)
		session_idle(s);
}

/* A value that was not written by us (another version, a damaged store) is no answer. */
static bool well_formed(const struct cache_answer *a)
{
	if (a->len < 1 || a->data[0] > 4 || a->len < 1 + 4u * a->data[0] + PACKET_HEADER)
		return false;
	size_t n = a->len - 1 - 4u * a->data[0];
	for (unsigned i = 0; i < a->data[0]; i++)
		if (get_u32(a->data + 1 + 4 * i) + 2 > n)
			return false;
	return true;
}

static void on_found(struct cache_op *op, const struct cache_answer *a)
{
	struct command *c = (struct command *)((char *)op - offsetof(struct command, op));
	struct session *s = c->session;
	struct stats *stats = s->pw->worker->stats;
	unsigned rule = s->pw->cluster.config->rules[c->key.rule].stats_id;

	if (a->verdict == CACHE_HIT && well_formed(a)) {
		serve_hit(s, a);
		return;
	}
	stats_cache(stats, rule, a->verdict == CACHE_OFF ? STAT_BYPASS : STAT_MISS);
	c->found = *a;
	c->found.data = NULL;
	c->leased = a->verdict == CACHE_LEASE;
	route(s);
}

static bool try_cache(struct session *s)
{
	struct command *c = s->command;
	struct proxy_worker *pw = s->pw;
	const struct config *config = pw->cluster.config;
	const struct catalog *catalog = usable_catalog(s);
	struct cache_params params = {0};
	const char *why = NULL;

	if (config->mode == MODE_SPLIT || pw->nwatch == 0 || c->want.target != TARGET_REPLICA || c->stmt.scope == SQL_SCOPE_NONE ||
	    c->code == COM_STMT_PREPARE)
		return false;
	if (c->stmt.hint != SQL_HINT_NONE || (c->stmt.flags & SQLF_MULTI) || s->pinned || catalog == NULL)
		return false;
	if (c->ps != NULL)
		prepared_params(c, &params);
	if (cache_rule_match(config, catalog, &c->stmt, c->text_mode, c->ps != NULL ? &params : NULL, &c->key, &why) != CACHE_MATCH)
		return false;
	if (config->mode == MODE_OBSERVE) {
		stats_would_move(pw->worker->stats, STAT_CACHE);
		return false;
	}
	c->cacheable = true;
	shape(s, c->key.shape);
	s->step = SESSION_LOOKUP;
	c->op.done = on_found;
	cache_lookup(pw->cache, &c->key, &c->op);
	return true;
}

/* --- fences ------------------------------------------------------------------------------------------------------ */

/* Which cached rows the statement may change. Unknown effects are left to settle.c: an OK tells whether anything was
 * written at all, and most calls of procedures and functions only read. */
static void note_changes(struct session *s)
{
	struct command *c = s->command;
	const struct config *config = s->pw->cluster.config;
	struct cache_params params = {0};
	uint64_t slots[SQL_TABLES];
	unsigned n;

	if (config->nrules == 0 || !dispatch_may_write(c))
		return;
	bool named = dispatch_names_its_writes(s, slots, &n);
	if (!named && c->is_statement && (c->stmt.kind == SQL_CALL || c->stmt.kind == SQL_SELECT || c->stmt.kind == SQL_EXECUTE ||
					  c->stmt.kind == SQL_SET || c->stmt.kind == SQL_DO || c->stmt.kind == SQL_OTHER ||
					  c->stmt.kind == SQL_COMPOUND || c->stmt.kind == SQL_LOCK || c->stmt.kind == SQL_UNLOCK ||
					  c->stmt.kind == SQL_KILL) && !(c->stmt.flags & SQLF_MULTI))
		return;
	if (c->ps != NULL)
		prepared_params(c, &params);
	c->changes = xmalloc(CONFIG_RULES * sizeof *c->changes);
	c->nchanges = cache_rule_changes(config, s->pw->catalog, &c->stmt, !named, c->text_mode, c->ps != NULL ? &params : NULL,
					 c->changes, CONFIG_RULES);
}

static void on_fenced(struct cache_op *op, const struct cache_answer *a)
{
	struct command *c = (struct command *)((char *)op - offsetof(struct command, op));

	(void)a;
	route(c->session);
}

/* Before a write, or before what may commit the transaction's writes. */
static bool try_fence(struct session *s)
{
	struct command *c = s->command;
	const struct cache_change *changes = c->changes;
	unsigned n = c->nchanges;

	note_changes(s);
	changes = c->changes;
	n = c->nchanges;
	if (session_in_transaction(s) || !(s->status & STATUS_AUTOCOMMIT)) {
		if (!may_commit(c) || s->touched.nchanges == 0)
			return false;
		if (touched_merge_changes(&s->touched, changes, n))
			c->nchanges = 0;
		changes = s->touched.changes;
		n = s->touched.nchanges;
	}
	if (n == 0)
		return false;
	s->touched.fenced = true;
	s->step = SESSION_FENCE;
	c->op.done = on_fenced;
	cache_invalidate(s->pw->cache, changes, n, CACHE_BEFORE, (struct gtid){0}, &c->op);
	return true;
}

/* While DDL is under way, and until the dictionary was read after it, nothing that the catalog says is trusted. */
static void ddl_begins(struct command *c)
{
	if (!is_ddl(c))
		return;
	c->ddl = true;
	atomic_fetch_add_explicit(&c->session->pw->proxy->ddl_in_flight, 1, memory_order_acq_rel);
}

void dispatch_ddl_ended(struct command *c)
{
	struct proxy *p = c->session->pw->proxy;

	if (!c->ddl)
		return;
	c->ddl = false;
	dispatch_catalog_changed(p);
	atomic_fetch_sub_explicit(&p->ddl_in_flight, 1, memory_order_acq_rel);
}

void dispatch_catalog_changed(struct proxy *p)
{
	uint64_t needed = p->services.catalog_request(p->services.arg);
	uint64_t old = atomic_load_explicit(&p->catalog_needed, memory_order_acquire);

	while (old < needed && !atomic_compare_exchange_weak(&p->catalog_needed, &old, needed))
		;
	p->services.poke(p->services.arg, PROXY_POKE_CATALOG);
}

/* --- the way of a statement --------------------------------------------------------------------------------------- */

void dispatch_statement(struct session *s)
{
	struct command *c = s->command;
	struct route_facts facts = {
		.in_transaction = session_in_transaction(s),
		.autocommit = (s->status & STATUS_AUTOCOMMIT) != 0,
		.serializable = s->serializable,
		.locks = s->locks,
		.temporary_tables = s->temporary_tables,
		.schema = schema_of(s),
	};

	c->started_us = topology_now_us();
	c->expiry_ms = -1;
	ddl_begins(c);
	c->want = route_wants(&c->stmt, &facts, usable_catalog(s));
	/* Until one server connection of this kind has logged in, nobody knows how the server reads quotes. */
	if (c->want.target == TARGET_REPLICA && s->identity->login_status == 0)
		c->want = (struct route_want){.target = TARGET_PRIMARY, .reason = ROUTE_UNREADABLE};
	/* The session's state is in a connection of the primary's already: one more transaction goes there too. */
	if (c->stmt.kind == SQL_BEGIN_RO && s->home != NULL && !s->linger)
		c->want = (struct route_want){.target = TARGET_PRIMARY, .reason = ROUTE_PINNED};
	if (c->want.target == TARGET_REPLICA && try_cache(s))
		return;
	if (c->want.target == TARGET_PRIMARY && try_fence(s))
		return;
	route(s);
}

void dispatch_command(struct session *s, enum result_shape result)
{
	struct command *c = s->command;

	c->started_us = topology_now_us();
	c->expiry_ms = -1;
	c->is_statement = false;
	ddl_begins(c);
	c->want = (struct route_want){.target = TARGET_PRIMARY, .reason = ROUTE_COMMAND};
	c->shape = result;
	if (try_fence(s))
		return;
	route(s);
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
	note_tables(s);
	need.n = c->ntables;
	if (c->stmt.kind == SQL_SELECT && c->stmt.ntables == 0 && !(c->stmt.flags & (SQLF_TABLES_OVERFLOW | SQLF_UNKNOWN_FUNC)))
		need.ignore_freshness = true; /* SELECT 1 */
	return route_pick(pw->cluster.topology, pw->proxy->freshness, &need, pw->turn++, topology_now_us(), &c->reason);
}

static void use_home(struct session *s)
{
	s->current = s->home;
	s->command->server_id = s->home->pool->server->id;
	dispatch_send(s);
}

/* The server connection that the session keeps only for its diagnostics goes back, unless this statement wants it.
 * Returns true when the statement runs there. */
static bool use_lingering(struct session *s, int index)
{
	struct command *c = s->command;
	bool same = index >= 0 && s->pw->cluster.topology->views[index].server == s->home->pool->server;

	if (c->want.target == TARGET_LAST || same) {
		use_home(s);
		return true;
	}
	if (!s->insert_id_dirty) {
		s->linger = false;
		backend_put(&s->home);
	}
	return false;
}

static void wait_for_primary(struct session *s);

static void route(struct session *s)
{
	struct command *c = s->command;
	const struct topology *t = s->pw->cluster.topology;
	int index = -1;

	c->reason = c->want.reason;
	c->to_replica = false;
	if (s->home != NULL && !s->linger && (session_in_transaction(s) || s->locks || s->next_transaction)) {
		use_home(s);
		return;
	}
	if (c->want.target == TARGET_REPLICA)
		index = pick_replica(s);
	else if (c->want.target == TARGET_LAST && s->home == NULL)
		index = view_of_server(t, s->last_server);
	if (index >= 0 && t->views[index].role != ROLE_PRIMARY)
		c->to_replica = true;
	if (index < 0 && t != NULL && t->primary >= 0 && !atomic_load_explicit(&t->views[t->primary].server->failed, memory_order_acquire))
		index = t->primary;
	if (s->home != NULL && s->linger && use_lingering(s, index))
		return;
	if (s->home != NULL && !c->to_replica) {
		use_home(s);
		return;
	}
	if (index < 0) {
		wait_for_primary(s);
		return;
	}
	acquire(s, (unsigned)index);
}

/* --- waiting ------------------------------------------------------------------------------------------------------ */

static void give_up(struct session *s)
{
	struct command *c = s->command;

	stats_error(s->pw->worker->stats, STAT_ERR_NO_SERVER);
	c->sync_error = (struct backend_error){.code = CR_CONN_HOST_ERROR, .sqlstate = "HY000"};
	snprintf(c->sync_error.text, sizeof c->sync_error.text, "Can't connect to a primary server: %s",
		 c->last_error[0] != '\0' ? c->last_error : "none is known to be up and writable");
	settle_refused(s, &c->sync_error);
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
	route(s);
}

static void got(struct session *s, struct backend *b)
{
	s->current = b;
	b->owner = s;
	b->ops = &relay_ops;
	s->command->server_id = b->pool->server->id;
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
	snprintf(c->sync_error.text, sizeof c->sync_error.text, "Too many connections: no server connection became free in time");
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

static void acquire(struct session *s, unsigned index)
{
	struct command *c = s->command;
	struct cluster *cluster = &s->pw->cluster;
	struct pool_taste taste = {.state_hash = s->want.hash};

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
	command_timer(c, cluster->config->pool_wait_ms, on_pool_wait);
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
	c->tries++;
	/* After two replicas, or when the answer is to be the primary's own, the primary decides. */
	if (c->tries >= 2 || c->primary_decides) {
		c->want.target = TARGET_PRIMARY;
		c->want.reason = ROUTE_RETRY;
	}
	s->step = SESSION_ACQUIRE;
	route(s);
}

/* --- sending ------------------------------------------------------------------------------------------------------ */

static void swallow(struct command *c, enum swallow what, int times)
{
	while (times-- > 0 && c->nswallow < sizeof c->swallow / sizeof *c->swallow)
		c->swallow[c->nswallow++] = what;
}

/* Does the statement look at LAST_INSERT_ID()? Routines and unread text may. */
static bool needs_insert_id(const struct command *c)
{
	if (!c->is_statement || c->code == COM_STMT_PREPARE)
		return false;
	return (c->stmt.flags & (SQLF_SESSION_FUNC | SQLF_SYS_VAR | SQLF_UNKNOWN_FUNC | SQLF_UNREADABLE)) ||
	       c->stmt.kind == SQL_CALL || c->stmt.kind == SQL_COMPOUND || c->stmt.kind == SQL_EXECUTE || c->stmt.kind == SQL_DO;
}

static void put_query(struct buf *out, const char *sql, size_t n)
{
	size_t start = packet_begin(out, 0);

	buf_put_u8(out, COM_QUERY);
	buf_put(out, sql, n);
	packet_end(out, start);
}

/* How long the row may be kept: asked of the server, in the same write, so that neither clocks nor time zones count. */
static void put_expiry_query(struct session *s, struct buf *out)
{
	struct command *c = s->command;
	const struct config_rule *rule = &s->pw->cluster.config->rules[c->key.rule];
	const struct catalog_rule *known = &s->pw->catalog->rules[c->key.rule];
	const char *now = known->expires == EXPIRES_EPOCH ? "UNIX_TIMESTAMP(NOW(6))" : "NOW(6)";
	struct buf sql = {0};

	if (known->expires == EXPIRES_EPOCH)
		buf_printf(&sql, "SELECT MIN(CASE WHEN `%s`>%s THEN FLOOR((`%s`-%s)*1000) END),", rule->expires, now, rule->expires, now);
	else
		buf_printf(&sql, "SELECT MIN(CASE WHEN `%s`>%s THEN TIMESTAMPDIFF(MICROSECOND,%s,`%s`) DIV 1000 END),", rule->expires,
			   now, now, rule->expires);
	buf_printf(&sql, "IFNULL(SUM(`%s`<=%s),0) FROM `%s`.`%s` WHERE `%s`='", rule->expires, now, rule->db, rule->table, rule->key);
	for (unsigned i = 0; i < c->key.len; i++) {
		uint8_t ch = c->key.row[i];
		if (ch == '\'' || (ch == '\\' && !(s->status & STATUS_NO_BACKSLASH_ESCAPES)))
			buf_put_u8(&sql, ch);
		buf_put_u8(&sql, ch);
	}
	buf_put_u8(&sql, '\'');
	put_query(out, (const char *)sql.data, sql.len);
	buf_fini(&sql);
	swallow(c, SWALLOW_EXPIRY, 1);
}

/* Puts the connection into the wanted state. Returns false when it cannot be brought there. */
static bool put_state(struct session *s, struct buf *out, const struct state *want)
{
	struct command *c = s->command;
	struct backend *b = s->current;
	int n = state_diff(want, &b->have, &b->pool->login, out);

	if (n < 0)
		return false;
	c->syncing = n > 0 ? want : NULL;
	swallow(c, SWALLOW_STATE, n);
	if (needs_insert_id(c) && b->last_insert_id != s->last_insert_id && !s->insert_id_dirty) {
		char sql[64];
		int len = snprintf(sql, sizeof sql, "SET last_insert_id=%llu", (unsigned long long)s->last_insert_id);
		put_query(out, sql, (size_t)len);
		swallow(c, SWALLOW_STATE, 1);
		b->last_insert_id = s->last_insert_id;
	}
	return true;
}

static void replace_backend(struct session *s)
{
	struct backend *b = s->current;

	s->current = NULL;
	b->tainted = true; /* reset: a session without a schema cannot use one that has a schema */
	backend_put(&b);
	s->step = SESSION_ACQUIRE;
	route(s);
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
	if (conn_write(&b->conn, out->data, out->len) < 0)
		relay_lost(s, "write failed");
}

void dispatch_send(struct session *s)
{
	struct command *c = s->command;
	struct backend *b = s->current;
	struct buf *out = &s->pw->out;
	const struct state *state = &s->want;
	bool prepare_first = c->ps != NULL && c->code == COM_STMT_EXECUTE && !prepared_known(s, b);

	buf_clear(out);
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
		swallow(c, SWALLOW_PREPARE, 1);
		c->again = true;
		send_done(s, out);
		return;
	}
	if (c->leased && s->pw->cluster.config->rules[c->key.rule].expires[0] != '\0')
		put_expiry_query(s, out);
	if (c->code == COM_STMT_EXECUTE && c->ps != NULL)
		prepared_put_execute(s, b, out);
	else
		buf_put(out, c->request.data, c->request.len);
	b->uses++;
	send_done(s, out);
}
