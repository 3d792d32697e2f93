/* SPDX-License-Identifier: Apache-2.0
 *
 * What a statement reads and writes, as far as its text and the dictionary prove it. Everything that is not proved is
 * taken for the worst: any table may be read, all tables may be written.
 */
#include "session/session.h"

#include "sql/body.h"

struct slice effects_schema(const struct session *s)
{
	const struct command *c = s->command;

	if (c->ps != NULL) {
		const struct state *st = prepared_state(c);
		return st->schema != NULL ? slice_str(st->schema) : slice_of(NULL, 0);
	}
	return s->want.schema != NULL ? slice_str(s->want.schema) : slice_of(NULL, 0);
}

/* The catalog, if it is known to be of after the last DDL that passed; NULL otherwise: then nothing is proved. */
const struct catalog *effects_catalog(const struct session *s)
{
	const struct proxy *p = s->pw->proxy;
	const struct catalog *c = s->pw->catalog;

	if (c == NULL || atomic_load_explicit(&p->ddl_in_flight, memory_order_acquire) > 0 ||
	    c->generation < atomic_load_explicit(&p->catalog_needed, memory_order_acquire))
		return NULL;
	return c;
}

/* The dictionary is read as utf8; a client's name may be in another character set. */
static bool plain(const struct sql_name *t)
{
	for (size_t i = 0; i < t->name.n; i++)
		if (t->name.p[i] >= 0x80)
			return false;
	for (size_t i = 0; i < t->db.n; i++)
		if (t->db.p[i] >= 0x80)
			return false;
	return true;
}

static uint64_t slot_of(const struct session *s, const struct sql_name *t)
{
	struct slice db = t->db.n > 0 ? t->db : effects_schema(s);

	return freshness_table(db, t->name, (s->command->text_mode & SQL_FOLD_TABLE_NAMES) != 0);
}

/* The tables whose last write a replica must have. ntables 0 means any. */
void effects_note_reads(struct session *s)
{
	struct command *c = s->command;
	const struct catalog *catalog = effects_catalog(s);

	c->ntables = 0;
	if ((c->stmt->flags & (SQLF_TABLES_OVERFLOW | SQLF_UNKNOWN_FUNC)) || catalog == NULL)
		return;
	for (unsigned i = 0; i < c->stmt->ntables; i++) {
		c->tables[i] = slot_of(s, &c->stmt->tables[i]);
		if (!plain(&c->stmt->tables[i]) || catalog_is_view(catalog, c->tables[i])) {
			c->ntables = 0;
			return;
		}
		c->ntables = i + 1;
	}
}

bool effects_names_writes(struct session *s, uint64_t *slots, unsigned *n)
{
	const struct command *c = s->command;
	const struct catalog *catalog = effects_catalog(s);

	*n = 0;
	if (!c->is_statement || catalog == NULL || effects_reads_write(s) ||
	    (c->stmt->flags & (SQLF_TABLES_OVERFLOW | SQLF_UNKNOWN_FUNC | SQLF_MULTI | SQLF_UNREADABLE)))
		return false;
	switch (c->stmt->kind) {
	case SQL_INSERT:
	case SQL_REPLACE:
	case SQL_UPDATE:
	case SQL_DELETE:
	case SQL_LOAD:
		break;
	default:
		return false;
	}
	for (unsigned i = 0; i < c->stmt->ntables; i++) {
		if (!c->stmt->tables[i].written)
			continue;
		slots[*n] = slot_of(s, &c->stmt->tables[i]);
		if (!plain(&c->stmt->tables[i]) || catalog_spreads(catalog, slots[*n]) ||
		    catalog_is_view(catalog, slots[*n]))
			return false;
		(*n)++;
	}
	return *n > 0;
}

bool effects_may_write(const struct command *c)
{
	if (!c->is_statement)
		return c->code == COM_CREATE_DB || c->code == COM_DROP_DB || c->code == COM_REFRESH;
	if (c->code == COM_STMT_PREPARE)
		return false;
	if (c->stmt->flags & (SQLF_UNREADABLE | SQLF_MULTI | SQLF_UNKNOWN_FUNC))
		return true;
	switch (c->stmt->kind) {
	case SQL_SELECT: /* replicas are not given what writes */
		return !c->to_replica && effects_reads_write(c->session);
	case SQL_EMPTY:
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

/* --- Effects ------------------------------------------------------------------------------------------------------ */

/* A statement whose clauses were read: its flags, functions and tables are all there is. */
static unsigned effects_of_read(const struct session *s, const struct catalog *catalog, unsigned effects)
{
	static const struct sql_name any;
	const struct sql_stmt *stmt = s->command->stmt;
	struct slice schema = effects_schema(s);

	effects |= body_flag_effects(stmt->flags);
	if (stmt->funcs_overflow)
		return EFFECT_ALL;
	for (unsigned i = 0; i < stmt->nfuncs; i++) {
		struct slice db = stmt->funcs[i].db.n > 0 ? stmt->funcs[i].db : schema;
		effects |= db.n > 0 ? catalog_routine(catalog, db, stmt->funcs[i].name, true) : EFFECT_ALL;
	}
	for (unsigned i = 0; i < stmt->ntables; i++) {
		const struct sql_name *t = &stmt->tables[i];
		effects |= catalog_read_name(catalog, schema, t);
		effects |= t->written ? catalog_write_name(catalog, schema, t) : 0;
	}
	if (stmt->flags & SQLF_TABLES_OVERFLOW)
		effects |= catalog_read_name(catalog, schema, &any) |
			   (stmt->kind != SQL_SELECT ? catalog_write_name(catalog, schema, &any) : 0);
	return effects;
}

/* What a text that is scanned uses. */
struct uses {
	const struct catalog *catalog;
	struct slice schema;
	unsigned effects;
	unsigned writes; /* of tables, if the text writes at all */
};

static void on_use(void *arg, enum body_use use, struct slice db, struct slice name)
{
	struct uses *u = arg;
	struct sql_name n = {.db = db, .name = name};
	struct slice schema = db.n > 0 ? db : u->schema;

	switch (use) {
	case BODY_NAME:
		u->effects |= catalog_read_name(u->catalog, u->schema, &n);
		u->writes |= catalog_write_name(u->catalog, u->schema, &n);
		break;
	case BODY_MAYBE:
		if (!catalog_may_have_routine(u->catalog, schema, name, true))
			break;
		/* fall through */
	case BODY_FUNCTION:
	case BODY_PROCEDURE:
		u->effects |= schema.n > 0 ? catalog_routine(u->catalog, schema, name, use != BODY_PROCEDURE) :
					     EFFECT_ALL;
		break;
	}
}

static unsigned effects_of_text(const struct session *s, const struct catalog *catalog, bool block)
{
	const struct command *c = s->command;
	struct uses u = {.catalog = catalog, .schema = effects_schema(s)};
	struct body b = {.text = c->text, .mode = c->text_mode, .statement = true, .use = on_use, .arg = &u};

	if (!block)
		b.mode &= ~(unsigned)SQL_ORACLE; /* x := 1 may set a system variable, but only in a block */
	unsigned effects = body_effects(&b) | u.effects;
	return effects | (effects & EFFECT_WRITES ? u.writes : 0);
}

static unsigned effects_by(const struct session *s, const struct catalog *catalog)
{
	const struct command *c = s->command;

	if (!c->is_statement)
		return c->code == COM_CREATE_DB || c->code == COM_DROP_DB || c->code == COM_REFRESH ?
			       EFFECT_WRITES | EFFECT_TRANSACTION :
		       c->code == COM_INIT_DB ? EFFECT_VARIABLES : 0;
	if (c->code == COM_STMT_PREPARE)
		return 0;
	if (c->stmt->flags & SQLF_UNREADABLE)
		return EFFECT_ALL;
	if (c->stmt->flags & SQLF_MULTI)
		return effects_of_text(s, catalog, true);
	switch (c->stmt->kind) {
	case SQL_EMPTY:
	case SQL_SELECT:
	case SQL_DO:
		return effects_of_read(s, catalog, 0);
	case SQL_INSERT:
	case SQL_REPLACE:
	case SQL_UPDATE:
	case SQL_DELETE:
	case SQL_LOAD:
		return effects_of_read(s, catalog, EFFECT_WRITES);
	case SQL_BEGIN:
	case SQL_BEGIN_RO:
	case SQL_COMMIT:
	case SQL_ROLLBACK:
	case SQL_SAVEPOINT:
	case SQL_SET_TRANSACTION:
		return EFFECT_TRANSACTION;
	case SQL_EXECUTE:
	case SQL_OTHER:
		return EFFECT_ALL;
	default:
		return effects_of_text(s, catalog, c->stmt->kind == SQL_COMPOUND);
	}
}

unsigned effects_of(const struct session *s)
{
	return effects_by(s, effects_catalog(s));
}

/* By the last catalog that came, trusted or not: if whatever runs while a new one is awaited made it old again, a
 * load of CALLs would keep it from ever being trusted. */
bool effects_may_define(const struct session *s)
{
	return (effects_by(s, s->pw->catalog) & EFFECT_DEFINES) != 0;
}

bool effects_reads_write(const struct session *s)
{
	static const struct sql_name any;
	const struct sql_stmt *stmt = s->command->stmt;
	unsigned effects = 0;

	if (stmt->flags & SQLF_TABLES_OVERFLOW)
		effects |= catalog_read_name(effects_catalog(s), effects_schema(s), &any);
	for (unsigned i = 0; i < stmt->ntables; i++)
		effects |= catalog_read_name(effects_catalog(s), effects_schema(s), &stmt->tables[i]);
	return (effects & EFFECT_WRITES) != 0;
}

/* DDL and whatever else ends a transaction by itself, or names objects rather than rows. */
static bool is_ddl(const struct command *c)
{
	if (!c->is_statement)
		return c->code == COM_CREATE_DB || c->code == COM_DROP_DB;
	return c->code != COM_STMT_PREPARE &&
	       (c->stmt->kind == SQL_DDL || c->stmt->kind == SQL_TRUNCATE ||
		((c->stmt->flags & SQLF_MULTI) && effects_may_write(c) && c->stmt->kind == SQL_DDL));
}

/* May this statement commit the open transaction? */
bool effects_may_commit(const struct command *c)
{
	if (!c->is_statement)
		return true;
	if (c->code == COM_STMT_PREPARE)
		return false;
	if (c->stmt->flags & (SQLF_MULTI | SQLF_UNREADABLE))
		return true;
	switch (c->stmt->kind) {
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

/* --- DDL ---------------------------------------------------------------------------------------------------------- */

/* While DDL is under way, and until the dictionary was read after it, nothing that the catalog says is trusted. */
void effects_ddl_begins(struct command *c)
{
	if (!is_ddl(c))
		return;
	c->ddl = true;
	atomic_fetch_add_explicit(&c->session->pw->proxy->ddl_in_flight, 1, memory_order_acq_rel);
}

void effects_ddl_ended(struct command *c)
{
	struct proxy *p = c->session->pw->proxy;

	if (!c->ddl)
		return;
	c->ddl = false;
	effects_catalog_changed(p);
	atomic_fetch_sub_explicit(&p->ddl_in_flight, 1, memory_order_acq_rel);
}

void effects_catalog_changed(struct proxy *p)
{
	uint64_t needed = p->services.catalog_request(p->services.arg);
	uint64_t old = atomic_load_explicit(&p->catalog_needed, memory_order_acquire);

	while (old < needed && !atomic_compare_exchange_weak(&p->catalog_needed, &old, needed))
		;
	p->services.poke(p->services.arg, PROXY_POKE_CATALOG);
}
