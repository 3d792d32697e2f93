/* SPDX-License-Identifier: Apache-2.0
 *
 * The cache's part in a statement's way: the look-up before a read, the fence before a write, what is asked of a server
 * so that an entry never outlives its row.
 */
#include "session/session.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

enum { LOOKUP_MAX = 65536 /* bytes of a command that is looked up: longer ones name no row in a way that pays */ };

/* lookup_try() has asked rights_of(). */
static const struct shape_context *context(struct session *s, const struct siphash_key *secret)
{
	struct shape_context *x = &s->context;
	struct buf *b = &s->pw->out;
	uint32_t caps = s->caps & (identity_caps(~0u) | CAP_DEPRECATE_EOF);
	uint8_t base[DEFAULTS_DIGEST];

	defaults_digest(s->base, base);
	if (x->made && x->state == s->want.hash && x->caps == caps && x->xcaps == s->xcaps &&
	    x->collation == s->collation && memcmp(x->base, base, sizeof base) == 0 &&
	    memcmp(x->rights, s->rights.digest, sizeof x->rights) == 0 &&
	    memcmp(&x->secret, secret, sizeof *secret) == 0)
		return x;
	*x = (struct shape_context){.made = true,
				    .secret = *secret,
				    .state = s->want.hash,
				    .caps = caps,
				    .xcaps = s->xcaps,
				    .collation = s->collation};
	memcpy(x->base, base, sizeof base);
	memcpy(x->rights, s->rights.digest, sizeof x->rights);
	buf_clear(b);
	shape_part(b, slice_str(s->identity->user));
	buf_put(b, x->rights, sizeof x->rights);
	buf_put(b, x->base, sizeof x->base);
	shape_state(b, &s->want);
	buf_put_u32(b, caps);
	buf_put_u32(b, s->xcaps);
	buf_put_u16(b, s->collation);
	shape_digest(b, secret, x->key.bytes);
	return x;
}

/* What form of the answer: all that changes its bytes but the row itself. The context's digest is what the rest is
 * hashed under: nobody knows it who does not know the secret. */
static void shape(struct session *s, const struct siphash_key *secret, uint8_t out[CACHE_SHAPE])
{
	const struct command *c = s->command;
	const struct shape_context *x = context(s, secret);
	struct siphash_key key = x->key;
	struct buf *b = &s->pw->out;

	if (c->ps == NULL) {
		siphash_128(&key, c->text.p, c->text.n, out);
		return;
	}
	key.bytes[0] ^= 1; /* no text is a list of parts */
	buf_clear(b);
	shape_part(b, c->text);
	prepared_shape(c, secret, b);
	shape_digest(b, &key, out);
}

/* The stored bytes with this session's own status flags, as if a server had just sent them. */
static void serve_hit(struct session *s, const struct cache_answer *a)
{
	struct command *c = s->command;
	struct proxy_worker *pw = s->pw;
	size_t offsets = 1 + 4u * a->data[0] + 4;
	uint8_t *bytes = a->data + offsets;

	for (unsigned i = 0; i < a->data[0]; i++) {
		uint8_t *flags = bytes + get_u32(a->data + 1 + 4 * i);
		put_u16(flags, (get_u16(flags) & ~SESSION_OWN_STATUS) | (s->status & SESSION_OWN_STATUS));
	}
	diag_hit(s, get_u32(a->data + 1 + 4 * a->data[0]));
	int64_t us = topology_now_us() - c->started_us;
	stats_cache(pw->worker->stats, pw->cluster.config->rules[c->key.rule].stats_id, STAT_HIT);
	stats_routed(pw->worker->stats, STATS_NO_SERVER, ROUTE_CACHE_HIT);
	stats_statement(pw->worker->stats, STAT_CACHE, STATS_NO_SERVER, s->identity->stats_user, (uint64_t)us);
	if (session_send(s, bytes, a->len - offsets) == 0)
		session_idle(s);
}

/* A value that was not written by us (another version, a damaged store) is no answer. */
static bool well_formed(const struct cache_answer *a)
{
	if (a->len < 1 || a->data[0] > 4 || a->len < 1 + 4u * a->data[0] + 4 + PACKET_HEADER)
		return false;
	size_t n = a->len - 1 - 4u * a->data[0] - 4;
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
	c->found.fence_primary |= a->verdict == CACHE_OFF && cache_rule_shared(s->pw->cluster.config, c->stmt);
	c->leased = a->verdict == CACHE_LEASE;
	dispatch_route(s);
}

/* A read of a cached table that cannot use the cache counts, so that hit ratios tell of all reads. */
static bool bypass(struct session *s)
{
	const struct config *config = s->pw->cluster.config;

	for (unsigned i = 0; i < config->nrules && config->mode == MODE_CACHE; i++)
		if (s->command->stmt->watched & 1u << i)
			stats_cache(s->pw->worker->stats, config->rules[i].stats_id, STAT_BYPASS);
	return false;
}

bool lookup_try(struct session *s)
{
	struct command *c = s->command;
	struct proxy_worker *pw = s->pw;
	const struct config *config = pw->cluster.config;
	const struct catalog *catalog = effects_catalog(s);
	struct cache_params params = {0};
	const char *why = NULL;
	bool known;

	if (config->mode == MODE_SPLIT || pw->nwatch == 0 || c->want.target != TARGET_REPLICA ||
	    c->request.len > LOOKUP_MAX || c->stmt->scope == SQL_SCOPE_NONE || c->code == COM_STMT_PREPARE)
		return false;
	known = catalog != NULL && rights_of(s) != NULL;
	if (c->stmt->hint != SQL_HINT_NONE || (c->stmt->flags & SQLF_MULTI) || s->pinned || !known) {
		c->found.fence_primary = (s->pinned || !known) && cache_rule_shared(config, c->stmt);
		return bypass(s);
	}
	if (c->ps != NULL)
		prepared_params(c, &params);
	if (cache_rule_match(config, catalog, c->stmt, c->text_mode, c->ps != NULL ? &params : NULL, &c->key, &why) !=
	    CACHE_MATCH)
		return bypass(s);
	if (config->mode == MODE_OBSERVE) {
		stats_would_move(pw->worker->stats, STAT_CACHE);
		return false;
	}
	const struct siphash_key *secret = cache_secret(pw->cache);
	if (secret == NULL) { /* as a store that cannot be asked */
		c->found.fence_primary = cache_rule_shared(config, c->stmt);
		return bypass(s);
	}
	c->cacheable = true;
	memcpy(c->rights, s->rights.granted, RIGHTS_DIGEST);
	cache_prepare(pw->cache, &c->key);
	shape(s, secret, c->key.shape);
	s->step = SESSION_LOOKUP;
	c->op.done = on_found;
	cache_lookup(pw->cache, &c->key, (uint64_t)c->started_us, &c->op);
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

	if (config->nrules == 0 || !effects_may_write(c))
		return;
	bool named = effects_names_writes(s, slots, &n);
	if (!named && c->is_statement &&
	    (c->stmt->kind == SQL_CALL || c->stmt->kind == SQL_SELECT || c->stmt->kind == SQL_EXECUTE ||
	     c->stmt->kind == SQL_SET || c->stmt->kind == SQL_DO || c->stmt->kind == SQL_OTHER ||
	     c->stmt->kind == SQL_COMPOUND || c->stmt->kind == SQL_LOCK || c->stmt->kind == SQL_UNLOCK ||
	     c->stmt->kind == SQL_KILL) &&
	    !(c->stmt->flags & SQLF_MULTI))
		return;
	if (c->ps != NULL)
		prepared_params(c, &params);
	c->changes = xmalloc(CONFIG_RULES * sizeof *c->changes);
	c->nchanges = cache_rule_changes(config, s->pw->catalog, c->stmt, !named, c->text_mode,
					 c->ps != NULL ? &params : NULL, c->changes, CONFIG_RULES);
}

static void on_fenced(struct cache_op *op, const struct cache_answer *a)
{
	struct command *c = (struct command *)((char *)op - offsetof(struct command, op));

	(void)a;
	dispatch_route(c->session);
}

/* Before a write, or before what may commit the transaction's writes. */
bool lookup_fence(struct session *s)
{
	struct command *c = s->command;
	const struct cache_change *changes = c->changes;
	unsigned n = c->nchanges;

	note_changes(s);
	changes = c->changes;
	n = c->nchanges;
	if (session_in_transaction(s) || !(s->status & STATUS_AUTOCOMMIT)) {
		if (!effects_may_commit(c) || s->touched.nchanges + n == 0)
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

/* How long the row may be kept: asked of the server, in the same write, so that neither clocks nor time zones count. */
void lookup_put_expiry_query(struct session *s, struct buf *out)
{
	struct command *c = s->command;
	const struct config_rule *rule = &s->pw->cluster.config->rules[c->key.rule];
	const struct catalog_rule *known = &s->pw->catalog->rules[c->key.rule];
	const char *now = known->expires == EXPIRES_EPOCH ? "UNIX_TIMESTAMP(NOW(6))" : "NOW(6)";
	struct buf sql = {0};

	if (known->expires == EXPIRES_EPOCH)
		buf_printf(&sql, "SELECT MIN(CASE WHEN `%s`>%s THEN FLOOR((`%s`-%s)*1000) END),", rule->expires, now,
			   rule->expires, now);
	else
		buf_printf(&sql, "SELECT MIN(CASE WHEN `%s`>%s THEN TIMESTAMPDIFF(MICROSECOND,%s,`%s`) DIV 1000 END),",
			   rule->expires, now, now, rule->expires);
	buf_printf(&sql, "IFNULL(SUM(`%s`<=%s),0) FROM `%s`.`%s` WHERE `%s`='", rule->expires, now, rule->db,
		   rule->table, rule->key);
	for (unsigned i = 0; i < c->key.len; i++) {
		uint8_t ch = c->key.row[i];
		if (ch == '\'' || (ch == '\\' && !(s->status & STATUS_NO_BACKSLASH_ESCAPES)))
			buf_put_u8(&sql, ch);
		buf_put_u8(&sql, ch);
	}
	buf_put_u8(&sql, '\'');
	session_put_query(out, (const char *)sql.data, sql.len);
	buf_fini(&sql);
	command_swallow(c, SWALLOW_EXPIRY, 1);
}
