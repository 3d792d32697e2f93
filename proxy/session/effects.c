/* SPDX-License-Identifier: Apache-2.0
 *
 * What a statement reads and writes, as far as its text and the dictionary prove it. Everything that is not proved is
 * taken for the worst: any table may be read, all tables may be written.
 */
#include "session/session.h"

#include <ctype.h>

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
	if (!c->is_statement || catalog == NULL ||
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

/* DDL and whatever else ends a transaction by itself, or names objects rather than rows; accounts and rights, too. */
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
	case SQL_HANDLER:
		return false;
	default:
		return true;
	}
}

/* --- DDL ---------------------------------------------------------------------------------------------------------- */

static bool is_word(uint8_t ch)
{
	return isalnum(ch) || ch == '_' || ch == '$' || ch >= 0x80;
}

static bool has_word(struct slice text, const char *word)
{
	size_t n = strlen(word);

	for (size_t i = 0; i + n <= text.n; i++)
		if (tolower(text.p[i]) == word[0] && (i == 0 || !is_word(text.p[i - 1])) &&
		    (i + n == text.n || !is_word(text.p[i + n])) && slice_ieq(slice_of(text.p + i, n), word))
			return true;
	return false;
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
	if (!is_ddl(c))
		return;
	c->ddl = true;
	c->grants = names_rights(c);
	atomic_fetch_add_explicit(&c->session->pw->proxy->ddl_in_flight, 1, memory_order_acq_rel);
}

void effects_ddl_ended(struct command *c)
{
	struct proxy *p = c->session->pw->proxy;

	if (!c->ddl)
		return;
	c->ddl = false;
	effects_catalog_changed(p);
	if (c->grants)
		effects_rights_changed(p);
	atomic_fetch_sub_explicit(&p->ddl_in_flight, 1, memory_order_acq_rel);
}

static void raise(_Atomic uint64_t *to, uint64_t needed)
{
	uint64_t old = atomic_load_explicit(to, memory_order_acquire);

	while (old < needed && !atomic_compare_exchange_weak(to, &old, needed))
		;
}

void effects_rights_changed(struct proxy *p)
{
	raise(&p->accounts_needed, p->services.accounts_request(p->services.arg));
}

void effects_catalog_changed(struct proxy *p)
{
	raise(&p->catalog_needed, p->services.catalog_request(p->services.arg));
	p->services.poke(p->services.arg, PROXY_POKE_CATALOG);
}
