/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/route.h"

/* Flags of a SELECT that keep it at the primary, in the order in which they are named as the reason. */
static const struct {
	uint32_t flag;
	enum route_reason reason;
} primary_flags[] = {
	{SQLF_LOCKING, ROUTE_LOCKING_READ},
	{SQLF_LOCK_FUNC, ROUTE_LOCKING_READ},
	{SQLF_INTO, ROUTE_INTO},
	{SQLF_USER_VAR | SQLF_USER_VAR_SET, ROUTE_USER_VARIABLE},
	{SQLF_SESSION_FUNC, ROUTE_SESSION_FUNCTION},
	{SQLF_SEQUENCE, ROUTE_SEQUENCE},
	{SQLF_SYS_VAR, ROUTE_SYSTEM_VARIABLE},
	{SQLF_SYSTEM_SCHEMA, ROUTE_SYSTEM_SCHEMA},
	{SQLF_TEMP, ROUTE_TEMPORARY_TABLE},
	{SQLF_SET_ONCE | SQLF_SET_GLOBAL | SQLF_SET_TRACKING, ROUTE_SET},
};

/* What the functions that are not built in do. Their names are ASCII, or not known. */
static unsigned functions_do(const struct sql_stmt *stmt, const struct route_facts *facts,
			     const struct catalog *catalog)
{
	unsigned effects = stmt->funcs_overflow ? EFFECT_ALL : 0;

	for (unsigned i = 0; i < stmt->nfuncs; i++) {
		struct slice db = stmt->funcs[i].db.n > 0 ? stmt->funcs[i].db : facts->schema;
		effects |= db.n > 0 ? catalog_routine(catalog, db, stmt->funcs[i].name, true) : EFFECT_ALL;
	}
	return effects;
}

/* What reading the tables does: they may be views. */
static unsigned tables_do(const struct sql_stmt *stmt, const struct route_facts *facts, const struct catalog *catalog)
{
	static const struct sql_name any;
	unsigned effects = 0;

	if (stmt->flags & SQLF_TABLES_OVERFLOW)
		effects |= catalog_read_name(catalog, facts->schema, &any);
	for (unsigned i = 0; i < stmt->ntables; i++)
		effects |= catalog_read_name(catalog, facts->schema, &stmt->tables[i]);
	return effects;
}

static struct route_want primary(enum route_reason reason)
{
	return (struct route_want){.target = TARGET_PRIMARY, .reason = reason};
}

static struct route_want select_wants(const struct sql_stmt *stmt, const struct route_facts *facts,
				      const struct catalog *catalog)
{
	bool hinted = stmt->hint == SQL_HINT_REPLICA;

	if (stmt->flags & SQLF_DIAG)
		return (struct route_want){.target = TARGET_LAST, .reason = ROUTE_DIAGNOSTICS};
	for (unsigned i = 0; i < sizeof primary_flags / sizeof *primary_flags; i++)
		if (stmt->flags & primary_flags[i].flag)
			return primary(primary_flags[i].reason);
	if (stmt->hint == SQL_HINT_PRIMARY)
		return primary(ROUTE_HINT_PRIMARY);
	if (!facts->autocommit)
		return primary(ROUTE_AUTOCOMMIT_OFF);
	if (facts->serializable)
		return primary(ROUTE_SERIALIZABLE);
	if (facts->locks)
		return primary(ROUTE_LOCKING_READ);
	if (facts->temporary_tables)
		return primary(ROUTE_TEMPORARY_TABLE);
	if (!hinted && (functions_do(stmt, facts, catalog) & EFFECT_PRIMARY))
		return primary(ROUTE_FUNCTION);
	if (!hinted && (tables_do(stmt, facts, catalog) & EFFECT_PRIMARY))
		return primary(catalog != NULL && catalog->complete ? ROUTE_TABLE : ROUTE_DICTIONARY);
	return (struct route_want){.target = TARGET_REPLICA,
				   .reason = hinted ? ROUTE_HINT_REPLICA : ROUTE_READ,
				   .ignore_freshness = hinted};
}

static enum route_reason kind_reason(enum sql_kind kind)
{
	switch (kind) {
	case SQL_INSERT:
	case SQL_REPLACE:
	case SQL_UPDATE:
	case SQL_DELETE:
	case SQL_LOAD:
		return ROUTE_WRITE;
	case SQL_TRUNCATE:
	case SQL_DDL:
		return ROUTE_DDL;
	case SQL_CREATE_TEMP:
	case SQL_DROP_TEMP:
		return ROUTE_TEMPORARY_TABLE;
	case SQL_CALL:
	case SQL_COMPOUND:
		return ROUTE_CALL;
	case SQL_HANDLER:
	case SQL_LOCK:
	case SQL_UNLOCK:
		return ROUTE_LOCKING_READ;
	case SQL_PREPARE:
	case SQL_EXECUTE:
	case SQL_DEALLOCATE:
		return ROUTE_PREPARED_TEXT;
	case SQL_SET:
	case SQL_SET_TRANSACTION:
	case SQL_USE:
		return ROUTE_SET;
	case SQL_SHOW:
		return ROUTE_SHOW;
	case SQL_BEGIN:
	case SQL_BEGIN_RO:
	case SQL_COMMIT:
	case SQL_ROLLBACK:
	case SQL_SAVEPOINT:
	case SQL_XA:
		return ROUTE_TRANSACTION;
	default:
		return ROUTE_UNKNOWN_STATEMENT;
	}
}

struct route_want route_wants(const struct sql_stmt *stmt, const struct route_facts *facts,
			      const struct catalog *catalog)
{
	if (stmt->flags & SQLF_UNREADABLE)
		return primary(ROUTE_UNREADABLE);
	if (stmt->kind == SQL_SHOW_DIAG)
		return (struct route_want){.target = TARGET_LAST, .reason = ROUTE_DIAGNOSTICS};
	if (facts->in_transaction)
		return primary(ROUTE_TRANSACTION);
	if (stmt->kind == SQL_SELECT) {
		struct route_want want = select_wants(stmt, facts, catalog);
		if ((stmt->flags & SQLF_MULTI) && want.target != TARGET_REPLICA)
			return primary(ROUTE_MULTI);
		return want;
	}
	if (stmt->flags & SQLF_MULTI)
		return primary(ROUTE_MULTI);
	if (stmt->kind == SQL_BEGIN_RO && facts->autocommit && !facts->temporary_tables && !facts->locks &&
	    stmt->hint != SQL_HINT_PRIMARY)
		return (struct route_want){.target = TARGET_REPLICA, .reason = ROUTE_READ_ONLY_TRX};
	return primary(kind_reason(stmt->kind));
}

static bool has_rights(const struct server *s, const struct gtid_pos *rights)
{
	for (unsigned i = 0; rights != NULL && i < rights->n; i++)
		if (!gtid_live_covers(&s->applied, rights->id[i].domain, rights->id[i].seq))
			return false;
	return true;
}

static bool fresh_enough(const struct server *s, const struct freshness *f, const struct route_need *need)
{
	if (!gtid_none(need->fence) && !gtid_live_covers(&s->applied, need->fence.domain, need->fence.seq))
		return false;
	if (!has_rights(s, need->rights))
		return false;
	if (need->ignore_freshness || need->consistency == CONSISTENCY_EVENTUAL)
		return true;
	if (need->consistency == CONSISTENCY_SESSION)
		return gtid_none(need->session) ||
		       gtid_live_covers(&s->applied, need->session.domain, need->session.seq);
	return freshness_covered(f, &s->applied, need->tables, need->n);
}

int route_pick(const struct topology *t, const struct freshness *f, const struct route_need *need, unsigned turn,
	       int64_t now_us, enum route_reason *why)
{
	enum route_reason given = *why;
	int best = -1;
	int64_t best_cost = 0;

	*why = ROUTE_NO_REPLICA;
	for (unsigned k = 0; k < t->n; k++) {
		unsigned i = (turn + k) % t->n;
		const struct server_view *v = &t->views[i];
		if ((need->not_servers & 1u << i) || !topology_readable(t, i, now_us))
			continue;
		if (!fresh_enough(v->server, f, need)) {
			*why = gtid_none(need->fence) ? ROUTE_RECENT_WRITE : ROUTE_FENCE;
			continue;
		}
		int64_t outstanding = atomic_load_explicit(&v->server->outstanding, memory_order_relaxed);
		int64_t cost = (outstanding + 1) * 1000 / (v->weight > 0 ? v->weight : 1);
		if (best < 0 || cost < best_cost) {
			best = (int)i;
			best_cost = cost;
		}
	}
	if (best >= 0)
		*why = given;
	return best;
}
