/* SPDX-License-Identifier: Apache-2.0
 *
 * What a statement reads and writes, as far as its text and the dictionary prove it. Everything that is not proved is
 * taken for the worst: any table may be read, all tables may be written.
 */
#include "session/session.h"

#include <strings.h>

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

const struct catalog *effects_code(const struct session *s)
{
	const struct proxy *p = s->pw->proxy;
	const struct catalog *c = s->pw->catalog;

	if (c == NULL || atomic_load_explicit(&p->code_in_flight, memory_order_acquire) > 0 ||
	    c->generation < atomic_load_explicit(&p->code_needed, memory_order_acquire))
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
	case SQL_LOAD: break;
	default: return false;
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

bool effects_spread(const struct command *c)
{
	uint64_t slots[SQL_TABLES];
	unsigned n;

	return !effects_names_writes(c->session, slots, &n);
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
	case SQL_DROP_TEMP: return false;
	default: return true;
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
	return effects_by(s, effects_code(s));
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
		effects |= catalog_read_name(effects_code(s), effects_schema(s), &any);
	for (unsigned i = 0; i < stmt->ntables; i++)
		effects |= catalog_read_name(effects_code(s), effects_schema(s), &stmt->tables[i]);
	return (effects & EFFECT_WRITES) != 0;
}

/* DDL and whatever else ends a transaction by itself, or names objects rather than rows. */
static bool is_ddl(const struct command *c)
{
	if (!c->is_statement)
		return c->code == COM_CREATE_DB || c->code == COM_DROP_DB || c->code == COM_REFRESH;
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
	case SQL_HANDLER: return false;
	default: return true;
	}
}

/* --- what new sessions inherit ------------------------------------------------------------------------------------ */

static bool is_word(uint8_t c)
{
	return c == '_' || c == '$' || c >= 0x80 || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
}

/* Does the text have this word, anywhere? */
static bool has_word(struct slice text, const char *word)
{
	size_t n = strlen(word);

	for (size_t i = 0; i + n <= text.n; i++)
		if (strncasecmp((const char *)text.p + i, word, n) == 0 && (i == 0 || !is_word(text.p[i - 1])) &&
		    (i + n == text.n || !is_word(text.p[i + n])))
			return true;
	return false;
}

/* May it set a global, a schema's default character set, an account's default role? Words are enough: a false alarm
 * costs new server connections. What procedures and functions do is left to the monitor, which finds it within an
 * interval. */
static bool may_renew(const struct command *c)
{
	if (!c->is_statement)
		return c->code == COM_CREATE_DB || c->code == COM_DROP_DB;
	if (c->code == COM_STMT_PREPARE)
		return false;
	if (c->stmt->flags & SQLF_SET_GLOBAL)
		return true;
	if (c->stmt->kind != SQL_DDL && c->stmt->kind != SQL_COMPOUND && c->stmt->kind != SQL_EXECUTE &&
	    c->stmt->kind != SQL_OTHER && !(c->stmt->flags & (SQLF_MULTI | SQLF_UNREADABLE)))
		return false;
	return has_word(c->text, "DATABASE") || has_word(c->text, "SCHEMA") || has_word(c->text, "GLOBAL") ||
	       (has_word(c->text, "DEFAULT") && has_word(c->text, "ROLE"));
}

/* --- DDL ---------------------------------------------------------------------------------------------------------- */

/* May it change what a name reads or runs? */
static bool changes_code(const struct command *c)
{
	return !c->is_statement || !(c->stmt->flags & SQLF_DDL_PLAIN) || (c->stmt->flags & SQLF_MULTI);
}

/* All DDL about accounts and rights has one of these words, wherever; logins need not wait for the rest. */
static bool names_rights(const struct command *c)
{
	static const char *const words[] = {"grant", "revoke", "user", "role", "password", "flush"};

	if (!c->is_statement)
		return c->code == COM_REFRESH;
	for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
		if (has_word(c->text, words[i]))
			return true;
	return false;
}

/* While DDL is under way, and until the dictionary was read after it, nothing that the catalog says is trusted. */
void effects_ddl_begins(struct command *c)
{
	struct proxy *p = c->session->pw->proxy;

	c->renews = may_renew(c);
	if (!is_ddl(c))
		return;
	c->ddl = true;
	c->changes_code = changes_code(c);
	c->grants = names_rights(c);
	atomic_fetch_add_explicit(&p->ddl_in_flight, 1, memory_order_acq_rel);
	atomic_fetch_add_explicit(&p->code_in_flight, c->changes_code, memory_order_acq_rel);
}

void effects_ddl_ended(struct command *c)
{
	struct proxy *p = c->session->pw->proxy;

	if (c->renews)
		proxy_new_epoch(p);
	c->renews = false;
	if (!c->ddl)
		return;
	c->ddl = false;
	effects_catalog_changed(p, c->changes_code);
	if (c->grants)
		effects_rights_changed(p);
	atomic_fetch_sub_explicit(&p->ddl_in_flight, 1, memory_order_acq_rel);
	atomic_fetch_sub_explicit(&p->code_in_flight, c->changes_code, memory_order_acq_rel);
}

static void raise_to(_Atomic uint64_t *to, uint64_t needed)
{
	uint64_t old = atomic_load_explicit(to, memory_order_acquire);

	while (old < needed && !atomic_compare_exchange_weak(to, &old, needed))
		;
}

void effects_rights_changed(struct proxy *p)
{
	raise_to(&p->accounts_needed, p->services.accounts_request(p->services.arg));
}

void effects_catalog_changed(struct proxy *p, bool code)
{
	uint64_t needed = p->services.catalog_request(p->services.arg);

	raise_to(&p->catalog_needed, needed);
	if (code)
		raise_to(&p->code_needed, needed);
	p->services.poke(p->services.arg, PROXY_POKE_CATALOG);
}
