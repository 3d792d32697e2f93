/* SPDX-License-Identifier: Apache-2.0
 *
 * What the server says of the session's state, in its OK packets (session tracking), and what only the statement's
 * text tells.
 */
#include "session/session.h"

#include <ctype.h>

#include "base/log.h"

static void take_variable(struct session *s, struct backend *b, const struct track *t)
{
	struct command *c = s->command;

	if (slice_ieq(t->name, "last_gtid")) {
		if (gtid_parse(t->value, &c->gtid) < 0)
			c->gtid = (struct gtid){0};
		return;
	}
	if (slice_ieq(t->name, "tx_isolation") || slice_ieq(t->name, "transaction_isolation"))
		s->serializable = slice_ieq(t->value, "SERIALIZABLE");
	if (slice_ieq(t->name, "sql_log_bin"))
		s->binlog_off = slice_ieq(t->value, "OFF");
	if (b->read_only && (slice_ieq(t->name, "tx_read_only") || slice_ieq(t->name, "transaction_read_only")))
		b->spoilt = true; /* it could be written by now */
	if (state_set(&s->want, t->name, t->value))
		state_set(&b->have, t->name, t->value);
}

void track_ok(struct session *s, struct backend *b, const struct ok_packet *ok)
{
	struct slice rest = ok->state;
	struct track t;
	int more;

	while ((more = track_next(&rest, &t)) > 0) {
		switch (t.type) {
		case TRACK_SYSTEM_VARIABLES:
			take_variable(s, b, &t);
			break;
		case TRACK_SCHEMA:
			state_set_schema(&s->want, t.value);
			state_set_schema(&b->have, t.value);
			break;
		case TRACK_STATE_CHANGE:
			s->command->changed = true;
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

void track_filter(struct slice state, struct buf *out)
{
	struct track t;

	while (track_next(&state, &t) > 0)
		if (t.type == TRACK_SCHEMA || (t.type == TRACK_SYSTEM_VARIABLES && told_by_default(t.name)))
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
}

void track_base(struct session *s, struct defaults *base)
{
	if (s->base != NULL && !s->base_provisional) {
		state_rebase(&s->want, s->base, base);
		prepared_rebase(s, s->base, base);
	}
	if (s->home != NULL && s->home->base == s->base) {
		state_rebase(&s->home->have, s->home->ground, base);
		defaults_unref(&s->home->base);
		defaults_unref(&s->home->ground);
		s->home->base = defaults_ref(base);
		s->home->ground = defaults_ref(base);
	}
	take_base(s, base);
}

void track_reset(struct session *s)
{
	state_clear(&s->want);
	s->sticky = s->pinned = s->temporary_tables = s->locks = s->next_transaction = s->serializable = s->binlog_off =
		false;
	s->insert_id_dirty = false;
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
		return;
	}
	/* COLLATE with something that is not a name. */
	s->pinned = true;
}

static bool mentions(struct slice text, const char *word)
{
	return memmem(text.p, text.n, word, strlen(word)) != NULL || strcasestr((const char *)text.p, word) != NULL;
}

static void track_set(struct session *s)
{
	struct command *c = s->command;
	char text[512];

	s->sticky |= (c->stmt->flags & SQLF_SET_ONCE) != 0;
	if (c->stmt->flags & (SQLF_USER_VAR_SET | SQLF_SET_ONCE)) {
		s->pinned = true;
		return;
	}
	/* A long SET is read as far as it matters: what it does to the collation. */
	if (c->text.n >= sizeof text) {
		s->pinned |= memmem(c->text.p, c->text.n, "ollat", 5) != NULL ||
			     memmem(c->text.p, c->text.n, "OLLAT", 5) != NULL;
		return;
	}
	memcpy(text, c->text.p, c->text.n);
	text[c->text.n] = '\0';
	struct slice t = slice_of(text, c->text.n);
	if (mentions(t, "role"))
		s->pinned = true; /* SET ROLE is no variable: nothing tells of it */
	if (mentions(t, "collate"))
		learn_collation(s, s->current);
	else if (mentions(t, "character set") || mentions(t, "charset"))
		s->pinned = true; /* SET CHARACTER SET takes the schema's collation, which is not told */
}

void track_schema(struct session *s, struct backend *b)
{
	const struct buf *r = &s->command->request;
	struct slice name = slice_of(r->data + PACKET_HEADER + 1, r->len - PACKET_HEADER - 1);

	state_set_schema(&s->want, name);
	state_set_schema(&b->have, name);
}

void track_statement(struct session *s)
{
	struct command *c = s->command;
	const struct sql_stmt *st = c->stmt;

	if (!c->is_statement || c->code == COM_STMT_PREPARE)
		return;
	if (st->flags & (SQLF_USER_VAR_SET | SQLF_LOCK_FUNC))
		s->pinned = true;
	if ((st->flags & SQLF_TEMP) || st->kind == SQL_CREATE_TEMP)
		s->pinned = s->temporary_tables = true;
	switch (st->kind) {
	case SQL_SET:
		track_set(s);
		break;
	case SQL_PREPARE:
	case SQL_HANDLER:
	case SQL_XA: /* between XA END and XA COMMIT the connection is the transaction's */
		s->pinned = true;
		break;
	case SQL_EXECUTE:
	case SQL_CALL:
	case SQL_COMPOUND:
	case SQL_OTHER:
		/* Something changed that is not a variable or the schema alone, or may not be: keep the connection, and
		 * suppose that it may be a temporary table. */
		if (c->changed)
			s->pinned = s->temporary_tables = true;
		break;
	case SQL_SAVEPOINT: /* with autocommit=0 before the transaction has begun: nothing else tells that it is there
			     */
		s->pinned |= !session_in_transaction(s) && !(s->status & STATUS_AUTOCOMMIT);
		break;
	case SQL_USE:
	case SQL_SET_TRANSACTION:
	case SQL_DDL: /* ALTER DATABASE and kin change variables; CREATE TEMPORARY is its own kind */
		break;
	default:
		if (c->changed)
			s->pinned = true;
		break;
	}
	if ((st->flags & (SQLF_MULTI | SQLF_UNREADABLE)) && c->changed)
		s->pinned = s->temporary_tables = true;
}
