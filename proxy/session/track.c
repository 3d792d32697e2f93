/* SPDX-License-Identifier: Apache-2.0
 *
 * What the server says of the session's state, in its OK packets (session tracking), and what only the statement's
 * text tells.
 */
#include "session/session.h"

#include <ctype.h>

#include "base/log.h"
#include "mysql/defaults.h"

/* Variables that say where statements may run. */
static void note_variable(struct session *s, struct slice name, struct slice value)
{
	if (slice_ieq(name, "tx_isolation") || slice_ieq(name, "transaction_isolation"))
		s->serializable = slice_ieq(value, "SERIALIZABLE");
	else if (slice_ieq(name, "sql_log_bin"))
		s->binlog_off = slice_ieq(value, "OFF");
	else if (slice_ieq(name, "sql_auto_is_null"))
		s->auto_is_null = slice_ieq(value, "ON");
}

static void take_variable(struct session *s, struct backend *b, const struct track *t)
{
	struct command *c = s->command;

	if (slice_ieq(t->name, "last_gtid")) {
		if (gtid_parse(t->value, &c->gtid) < 0)
			c->gtid = (struct gtid){0};
		return;
	}
	/* SET STATEMENT .. FOR reports what was so for its own statement only. */
	if (c->is_statement && (c->stmt->flags & SQLF_SET_STATEMENT))
		return;
	note_variable(s, t->name, t->value);
	if (b->read_only && (slice_ieq(t->name, "tx_read_only") || slice_ieq(t->name, "transaction_read_only")))
		b->spoilt = true; /* it could be written by now */
	if (state_set(&s->want, t->name, t->value))
		state_set(&b->have, t->name, t->value);
}

/* The schema of a procedure's own is told with each of its results: the session's is in the last one. */
static bool is_inner(const struct session *s, const struct ok_packet *ok)
{
	const struct command *c = s->command;

	return (ok->status & STATUS_MORE_RESULTS) && c->is_statement &&
	       (c->stmt->kind == SQL_CALL || c->stmt->kind == SQL_EXECUTE || c->stmt->kind == SQL_COMPOUND);
}

void track_ok(struct session *s, struct backend *b, const struct ok_packet *ok)
{
	struct slice rest = ok->state;
	struct track t;
	bool state = false, explained = false;
	int more;

	while ((more = track_next(&rest, &t)) > 0) {
		switch (t.type) {
		case TRACK_SYSTEM_VARIABLES:
			explained |= !slice_ieq(t.name, "last_gtid");
			take_variable(s, b, &t);
			break;
		case TRACK_SCHEMA:
			explained = true;
			if (is_inner(s, ok))
				break;
			state_set_schema(&s->want, t.value);
			state_set_schema(&b->have, t.value);
			break;
		case TRACK_STATE_CHANGE:
			state = true;
			break;
		case TRACK_CHARACTERISTICS: /* of the next transaction, while none is open: SET TRANSACTION */
			s->next_transaction = t.value.n > 0 && !(ok->status & STATUS_IN_TRANS);
			break;
		case TRACK_TRANSACTION_STATE:
			s->locks = t.value.n >= 8 && t.value.p[7] == 'L';
			break;
		default:
			break;
		}
	}
	s->command->changed |= state && !explained;
	if (more < 0)
		log_warn("server %s: session tracking that cannot be read", b->pool->server->name);
}

/* session_track_system_variables as a server has it by default. */
static bool told_by_default(struct slice name)
{
	static const char *const names[] = {"autocommit", "character_set_client", "character_set_connection",
					    "character_set_results", "time_zone"};

	for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
		if (slice_ieq(name, names[i]))
			return true;
	return false;
}

static bool mentions(struct slice text, struct slice word)
{
	for (size_t i = 0; i + word.n <= text.n; i++)
		if (strncasecmp((const char *)text.p + i, (const char *)word.p, word.n) == 0)
			return true;
	return false;
}

/* After SET STATEMENT .. FOR the old value is reported late, with whatever is reported next: here that may be a write's
 * GTID, which servers do not report by default. */
static bool may_set(const struct session *s, struct slice name)
{
	const struct command *c = s->command;

	if (!c->is_statement)
		return true;
	if (c->stmt->kind == SQL_SET && !(c->stmt->flags & (SQLF_MULTI | SQLF_UNKNOWN_FUNC | SQLF_SUBQUERY)))
		return mentions(c->text, name) || mentions(c->text, slice_str("names")) ||
		       mentions(c->text, slice_str("char"));
	return (effects_of(s) & EFFECT_VARIABLES) != 0;
}

void track_filter(const struct session *s, struct slice state, struct buf *out)
{
	struct track t;

	while (track_next(&state, &t) > 0)
		if (t.type == TRACK_SCHEMA ||
		    (t.type == TRACK_SYSTEM_VARIABLES && told_by_default(t.name) && may_set(s, t.name)))
			track_build(out, &t);
}

static bool contains(const char *list, const char *word)
{
	return list != NULL && strcasestr(list, word) != NULL;
}

static bool unsafe_charset(const char *name)
{
	static const char *const names[] = {"big5", "cp932", "gbk", "gb18030", "sjis"};

	for (unsigned i = 0; name != NULL && i < sizeof names / sizeof *names; i++)
		if (strcasecmp(name, names[i]) == 0)
			return true;
	return false;
}

/* Collation ids of big5, sjis, gbk, cp932, gb18030: what a login may ask for instead of SET NAMES. */
static bool unsafe_collation(unsigned id)
{
	switch (id & 0x3ff) { /* MariaDB's NOPAD twins are 1024 higher */
	case 1: case 84: case 13: case 88: case 28: case 87: case 95: case 96: case 248: case 249: case 250:
		return true;
	default:
		return false;
	}
}

/* A session's variable; NULL: not known. */
static const char *value_of(const struct session *s, const char *name)
{
	const char *own = state_get(&s->want, name);

	return own != NULL ? own : defaults_get(s->base, name);
}

unsigned track_text_mode(const struct session *s)
{
	const char *mode = value_of(s, "sql_mode");
	const char *client = value_of(s, "character_set_client");
	const struct topology *t = s->pw->cluster.topology;
	unsigned bits = 0;

	if ((s->status & STATUS_ANSI_QUOTES) || contains(mode, "ANSI_QUOTES"))
		bits |= SQL_ANSI_QUOTES;
	if ((s->status & STATUS_NO_BACKSLASH_ESCAPES) || contains(mode, "NO_BACKSLASH_ESCAPES"))
		bits |= SQL_NO_BACKSLASH_ESCAPES;
	if (contains(mode, "ORACLE"))
		bits |= SQL_ORACLE;
	if (client != NULL ? unsafe_charset(client) : unsafe_collation(s->collation))
		bits |= SQL_UNSAFE_CHARSET;
	if (t != NULL && t->lower_case_table_names != 0)
		bits |= SQL_FOLD_TABLE_NAMES;
	return bits;
}

static void take_base(struct session *s, struct defaults *base)
{
	defaults_unref(&s->base);
	s->base = defaults_ref(base);
	s->base_provisional = base != NULL && s->identity->base_epoch == 0;
	const char *isolation = value_of(s, "tx_isolation");
	if (isolation == NULL)
		isolation = value_of(s, "transaction_isolation");
	s->serializable = isolation != NULL && strcasecmp(isolation, "SERIALIZABLE") == 0;
	const char *is_null = value_of(s, "sql_auto_is_null");
	s->auto_is_null = is_null != NULL && strcasecmp(is_null, "ON") == 0;
}

void track_base(struct session *s, struct defaults *base)
{
	if (s->base != NULL && !s->base_provisional) {
		state_rebase(&s->want, s->base, base);
		prepared_rebase(s, s->base, base);
	}
	struct backend *const kept[] = {s->home, s->reader, s->witness};
	for (unsigned i = 0; i < sizeof kept / sizeof *kept; i++) {
		struct backend *b = kept[i];
		if (b == NULL || b->base != s->base)
			continue;
		state_rebase(&b->have, b->ground, base);
		defaults_unref(&b->base);
		defaults_unref(&b->ground);
		b->base = defaults_ref(base);
		b->ground = defaults_ref(base);
	}
	take_base(s, base);
}

void track_reset(struct session *s)
{
	state_clear(&s->want);
	s->sticky = s->pinned = s->temporary_tables = s->locks = s->next_transaction = s->serializable = s->binlog_off =
		false;
	s->insert_id_dirty = s->unproved = s->doubt = s->unclean = false;
	diag_reset(s);
	s->last_insert_id = 0;
	s->last_server = -1;
	s->last_thread = s->last_uses = 0;
	s->status =
		s->identity != NULL && s->identity->login_status != 0 ? s->identity->login_status : STATUS_AUTOCOMMIT;
	touched_clear(&s->touched);
	take_base(s, s->identity != NULL && identity_settled(&s->pw->cluster, s->identity) ? s->identity->base : NULL);
}

/* SET NAMES x COLLATE y: the collation is the one thing that tracking does not tell. */
static void learn_collation(struct session *s, struct backend *b)
{
	struct slice text = s->command->text;
	struct slice name = slice_str("collation_connection");

	for (size_t i = 0; i + 8 < text.n; i++) {
		if (strncasecmp((const char *)text.p + i, "collate", 7) != 0)
			continue;
		size_t from = i + 7, to;
		while (from < text.n && memchr(" \t\r\n'\"`", text.p[from], 7) != NULL)
			from++;
		for (to = from; to < text.n && (text.p[to] == '_' || isalnum(text.p[to])); to++)
			;
		struct slice value = slice_of(text.p + from, to - from);
		if (value.n == 0 || slice_ieq(value, "default"))
			continue;
		state_set(&s->want, name, value);
		state_set(&b->have, name, value);
		if (state_get(&s->want, "character_set_results") != NULL && !mentions(text, slice_str("results"))) {
			state_set(&s->want, slice_str(STATE_RESULTS_COLLATION), value);
			state_set(&b->have, slice_str(STATE_RESULTS_COLLATION), value);
		}
		return;
	}
	s->unproved = true; /* COLLATE with something that is not a name */
}

static void track_set(struct session *s)
{
	struct command *c = s->command;
	bool collates = memmem(c->text.p, c->text.n, "ollat", 5) != NULL ||
			memmem(c->text.p, c->text.n, "OLLAT", 5) != NULL;

	s->sticky |= (c->stmt->flags & (SQLF_SET_ONCE | SQLF_STICKY)) != 0;
	s->pinned |= (c->stmt->flags & (SQLF_USER_VAR_SET | SQLF_SET_ONCE | SQLF_STICKY)) != 0;
	s->unproved |= c->failed || (c->stmt->flags & SQLF_SET_UNTOLD);
	if (collates && c->stmt->nparams == 0 && !c->failed && mentions(c->text, slice_str("names")))
		learn_collation(s, s->current);
	else
		s->unproved |= collates;
}

void track_schema(struct session *s, struct backend *b)
{
	struct slice payload = command_payload(s->command);
	struct slice name = slice_of(payload.p + 1, payload.n - 1);

	state_set_schema(&s->want, name);
	state_set_schema(&b->have, name);
}

/* What functions and triggers may have left: as their bodies say, or, while the dictionary is not known, anything that
 * they can leave, which is asked for before the connection is anybody else's. */
static void track_called(struct session *s, unsigned effects)
{
	if ((effects & EFFECT_DYNAMIC) && effects_code(s) == NULL && !s->pinned) {
		s->doubt = s->unproved = true;
		return;
	}
	s->unclean |= (effects & EFFECT_DYNAMIC) != 0; /* its text cannot be read: anything */
	s->unproved |= (effects & EFFECT_VARIABLES) != 0;
	s->pinned |= (effects & (EFFECT_KEEPS | EFFECT_TEMPORARY)) != 0;
	s->temporary_tables |= (effects & EFFECT_TEMPORARY) != 0;
}

/* Statements that run others: what is not known of these cannot all be asked for. */
static void track_block(struct session *s, unsigned effects)
{
	bool dynamic = (effects & EFFECT_DYNAMIC) != 0;

	track_called(s, effects & ~(unsigned)EFFECT_DYNAMIC);
	s->unclean |= dynamic;
	if (dynamic || s->command->changed)
		s->pinned = s->temporary_tables = true;
}

/* Several statements: the kind is that of the first that is not a plain read, the flags are of all. */
static void track_multi(struct session *s, unsigned effects)
{
	const struct sql_stmt *st = s->command->stmt;

	if (st->kind == SQL_SET || (st->flags & (SQLF_SET_UNTOLD | SQLF_SET_ONCE)))
		track_set(s);
	if (st->flags & SQLF_UNREADABLE)
		effects = EFFECT_ALL;
	track_block(s, effects);
	s->unproved = true;
}

/* An error tells nothing of what was done before it. */
void track_statement(struct session *s)
{
	struct command *c = s->command;
	const struct sql_stmt *st = c->stmt;

	if (!c->is_statement || c->code == COM_STMT_PREPARE || c->sync_failed || s->current == NULL)
		return;
	if (c->to_replica && st->kind == SQL_SELECT)
		return; /* it was proved to leave nothing before it was sent there */
	unsigned effects = effects_of(s);
	if (st->flags & (SQLF_USER_VAR_SET | SQLF_LOCK_FUNC | SQLF_SEQUENCE)) /* LASTVAL() is the connection's */
		s->pinned = true;
	if ((st->flags & SQLF_TEMP) || st->kind == SQL_CREATE_TEMP)
		s->pinned = s->temporary_tables = true;
	if (st->flags & SQLF_STICKY)
		s->pinned = s->sticky = true;
	if (st->flags & (SQLF_MULTI | SQLF_UNREADABLE)) {
		track_multi(s, effects);
		return;
	}
	switch (st->kind) {
	case SQL_SET:
		track_set(s);
		if (st->flags & (SQLF_UNKNOWN_FUNC | SQLF_SUBQUERY | SQLF_TABLES_OVERFLOW) || st->ntables > 0)
			track_called(s, effects);
		break;
	case SQL_PREPARE:
	case SQL_HANDLER:
		s->pinned = true;
		break;
	case SQL_XA: /* between XA END and XA COMMIT the connection is the transaction's */
		s->pinned = s->unclean = true;
		break;
	case SQL_EXECUTE:
	case SQL_CALL:
	case SQL_COMPOUND:
	case SQL_OTHER:
		track_block(s, effects);
		break;
	case SQL_SAVEPOINT: /* with autocommit=0 before the transaction has begun: nothing else tells that it is there
			     */
		s->pinned |= !session_in_transaction(s) && !(s->status & STATUS_AUTOCOMMIT);
		break;
	case SQL_SELECT:
	case SQL_INSERT:
	case SQL_REPLACE:
	case SQL_UPDATE:
	case SQL_DELETE:
	case SQL_LOAD:
	case SQL_DO:
		if (st->kind != SQL_DO || (st->flags & (SQLF_UNKNOWN_FUNC | SQLF_SUBQUERY)) || st->ntables > 0)
			track_called(s, effects);
		s->pinned |= c->changed;
		break;
	case SQL_SHOW: /* SHOW .. WHERE and EXPLAIN may call what is not read closely */
		if (memchr(c->text.p, '(', c->text.n) != NULL)
			track_called(s, EFFECT_ALL);
		break;
	case SQL_USE:
	case SQL_SET_TRANSACTION:
	case SQL_DDL: /* ALTER DATABASE and kin change variables; CREATE TEMPORARY is its own kind */
		break;
	default:
		s->pinned |= c->changed;
		break;
	}
}

/* --- what a connection was asked for ------------------------------------------------------------------------------ */

void track_asked(struct session *s, struct slice row)
{
	struct command *c = s->command;
	struct reader r = reader_of(row);
	struct slice name = rd_lenenc_bytes(&r);
	struct slice value = rd_left(&r) > 0 && *r.p == 0xfb ? slice_of(NULL, 0) : rd_lenenc_bytes(&r);

	if (c->asked == NULL)
		c->asked = defaults_new();
	if (!r.bad)
		defaults_add(c->asked, name, value);
}

/* In the order of names: where one variable sets another, the other comes behind it (state.c, families). */
void track_learn(struct session *s, struct backend *b)
{
	struct command *c = s->command;

	if (c->asked == NULL)
		return;
	defaults_seal(c->asked);
	for (unsigned i = 0; i < c->asked->n; i++) {
		struct slice name = slice_str(c->asked->vars[i].name), value = slice_str(c->asked->vars[i].value);
		note_variable(s, name, value);
		state_learn(&s->want, s->base, name, value);
		state_learn(&b->have, b->ground, name, value);
	}
	defaults_unref(&c->asked);
}

void track_left(struct session *s, struct slice row)
{
	struct reader r = reader_of(row);
	unsigned left[3] = {0};

	for (unsigned i = 0; i < 3; i++) {
		struct slice n = rd_lenenc_bytes(&r);
		left[i] = !r.bad && n.n > 0 && !(n.n == 1 && n.p[0] == '0');
	}
	s->pinned |= left[0] || left[1];
	s->temporary_tables |= left[1];
	s->lost_lock |= left[2];
}
