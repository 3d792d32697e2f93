/* SPDX-License-Identifier: Apache-2.0 */
#include "sql/body.h"

#include "sql/classify.h"
#include "sql/lex.h"

enum { LOCALS = 64 };

struct name { /* a name of up to three parts, as far as it was read */
	struct slice part[3];
	unsigned parts;  /* more than fit are counted */
	uint16_t before; /* enum kw: the word in front of it */
	bool quoted;     /* its last part */
	uint16_t kw;     /* of a single word */
};

struct scan {
	const struct body *b;
	struct lex lx;
	struct token last, now, next;
	unsigned effects;
	struct name name; /* the one that ends at `last`; parts == 0: none */
	bool variable;    /* a system variable's name of several parts is being read */
	bool range;       /* the dot before is one of FOR i IN 1..n */
	int depth;        /* of parentheses */

	/* the statement at hand; a semicolon ends it */
	bool columns;   /* its SET is a list of columns: UPDATE, INSERT, DDL; SIGNAL */
	bool handler;   /* DECLARE .. HANDLER FOR conditions: a statement follows */
	bool sets;      /* a SET */
	bool target;    /* its next word is a variable to set */
	int set_depth;
	bool declares;  /* names of local variables come */
	bool creates;   /* after CREATE, DROP: TEMPORARY may come */
	bool calls;     /* a procedure's name comes */
	bool header;    /* CREATE and its like, before what is created */
	bool stop;      /* the rest is stored, not run */
	bool reads;     /* names of tables may come; stays */

	struct slice locals[LOCALS];
	unsigned nlocals;
};

unsigned body_flag_effects(uint32_t flags)
{
	static const struct {
		uint32_t flags;
		unsigned effects;
	} of[] = {
		{SQLF_UNREADABLE | SQLF_MULTI, EFFECT_ALL},
		{SQLF_LOCKING, EFFECT_WRITES},
		{SQLF_INTO, EFFECT_WRITES | EFFECT_DEPENDS},
		{SQLF_USER_VAR, EFFECT_DEPENDS},
		{SQLF_USER_VAR_SET, EFFECT_KEEPS | EFFECT_DEPENDS},
		{SQLF_SYS_VAR | SQLF_SESSION_FUNC | SQLF_DIAG | SQLF_SYSTEM_SCHEMA, EFFECT_DEPENDS},
		{SQLF_LOCK_FUNC, EFFECT_KEEPS | EFFECT_DEPENDS},
		{SQLF_SEQUENCE, EFFECT_WRITES | EFFECT_KEEPS | EFFECT_DEPENDS},
		{SQLF_NONDET | SQLF_NOW, EFFECT_NONDET},
		{SQLF_SET_STATEMENT | SQLF_SET_TRACKING | SQLF_SET_ONCE, EFFECT_VARIABLES},
		{SQLF_SET_GLOBAL, EFFECT_VARIABLES | EFFECT_WRITES},
		{SQLF_TEMP, EFFECT_TEMPORARY | EFFECT_WRITES},
	};
	unsigned effects = 0;

	for (size_t i = 0; i < sizeof of / sizeof *of; i++)
		if (flags & of[i].flags)
			effects |= of[i].effects;
	return effects;
}

static bool is_word(const struct token *t, const char *word)
{
	return t->type == TOK_WORD && slice_ieq(t->text, word);
}

static bool is_reserved(const struct token *t)
{
	return t->type == TOK_WORD && (kw_table[t->kw].flags & KWF_RESERVED);
}

static bool is_identifier(const struct token *t)
{
	return t->type == TOK_QUOTED || (t->type == TOK_WORD && !is_reserved(t));
}

static void use(struct scan *s, enum body_use use, struct slice db, struct slice name)
{
	s->b->use(s->b->arg, use, db, name);
}

/* --- Local variables ---------------------------------------------------------------------------------------------- */

static void add_local(struct scan *s, struct slice name)
{
	if (s->nlocals < LOCALS) /* the others look like system variables, which errs to the safe side */
		s->locals[s->nlocals++] = name;
}

/* Letters of other scripts stay apart, which errs to the safe side. */
static bool same_word(struct slice a, struct slice b)
{
	for (size_t i = 0; i < a.n && i < b.n; i++) {
		uint8_t x = a.p[i] >= 'A' && a.p[i] <= 'Z' ? a.p[i] | 0x20 : a.p[i];
		uint8_t y = b.p[i] >= 'A' && b.p[i] <= 'Z' ? b.p[i] | 0x20 : b.p[i];
		if (x != y)
			return false;
	}
	return a.n == b.n;
}

static bool is_local(const struct scan *s, struct slice name)
{
	for (unsigned i = 0; i < s->nlocals; i++)
		if (same_word(s->locals[i], name))
			return true;
	return false;
}

static void read_params(struct scan *s)
{
	struct lex lx;
	struct token t;

	if (s->b->params.n == 0)
		return;
	lex_init(&lx, s->b->params, s->b->mode);
	do {
		lex_next(&lx, &t);
		if (is_identifier(&t))
			add_local(s, t.text);
	} while (t.type != TOK_END);
	if (lx.bad)
		s->effects = EFFECT_ALL;
}

/* --- SET ---------------------------------------------------------------------------------------------------------- */

/* The first word of what a SET sets, in the place where a variable comes. */
static unsigned set_word(const struct scan *s)
{
	static const struct {
		const char *word;
		unsigned effects;
	} words[] = {
		{"session", EFFECT_VARIABLES}, {"local", EFFECT_VARIABLES}, {"statement", EFFECT_VARIABLES},
		{"names", EFFECT_VARIABLES}, {"character", EFFECT_VARIABLES}, {"charset", EFFECT_VARIABLES},
		{"role", EFFECT_VARIABLES | EFFECT_KEEPS}, {"autocommit", EFFECT_VARIABLES | EFFECT_TRANSACTION},
		{"global", EFFECT_VARIABLES | EFFECT_WRITES}, {"password", EFFECT_WRITES | EFFECT_TRANSACTION},
		{"default", EFFECT_WRITES | EFFECT_TRANSACTION}, {"transaction", EFFECT_TRANSACTION},
	};
	bool plain = s->next.type == '=' || s->next.type == TOK_ASSIGN || s->next.type == '.';

	if (plain && is_local(s, s->now.text))
		return 0;
	if (s->next.type == '.' && (slice_ieq(s->now.text, "new") || slice_ieq(s->now.text, "old")))
		return 0;
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (slice_ieq(s->now.text, words[i].word))
			return words[i].effects;
	return EFFECT_VARIABLES;
}

/* Goes on expecting a variable after SESSION and its like, which stand before one. */
static void set_target(struct scan *s)
{
	static const char *const scopes[] = {"session", "local", "global", "statement"};

	if (s->now.type == TOK_USER_VAR) {
		s->target = false;
		return;
	}
	if (s->now.type == TOK_SYS_VAR)
		s->effects |= EFFECT_VARIABLES | EFFECT_TRANSACTION | /* @@tx_isolation, @@autocommit */
			      (slice_ieq(s->now.text, "global") ? EFFECT_WRITES : 0);
	else
		s->effects |= s->now.type == TOK_WORD || s->now.type == TOK_QUOTED ? set_word(s) : EFFECT_ALL;
	s->target = false;
	for (size_t i = 0; i < sizeof scopes / sizeof *scopes; i++)
		s->target |= is_word(&s->now, scopes[i]) && s->next.type != '=' && s->next.type != TOK_ASSIGN &&
			     s->next.type != '.';
}

static void begin_set(struct scan *s)
{
	if (s->columns || s->next.type == '(' || s->last.kw == KW_CHARACTER || slice_ieq(s->last.text, "char"))
		return; /* columns; the type SET('a'); CHARACTER SET */
	s->sets = s->target = true;
	s->set_depth = s->depth;
}

/* --- Verbs -------------------------------------------------------------------------------------------------------- */

/* May a statement begin here? A word that is not reserved is a verb only where one may. */
static bool begins_statement(const struct scan *s)
{
	if (s->handler)
		return true;
	switch (s->last.type) {
	case TOK_END: case ';': case ':':
		return true;
	case TOK_WORD:
		break;
	default:
		return false;
	}
	switch (s->last.kw) {
	case KW_BEGIN: case KW_THEN: case KW_ELSE: case KW_DO: case KW_LOOP: case KW_REPEAT: case KW_ATOMIC:
	case KW_FOR: case KW_ANALYZE: case KW_EXPLAIN:
		return true;
	default:
		return false;
	}
}

static unsigned create_or_drop(struct scan *s)
{
	s->creates = s->columns = s->header = true;
	return EFFECT_WRITES | (s->now.kw == KW_DROP ? EFFECT_TEMPORARY : 0);
}

/* INSERT and REPLACE, which are functions too. */
static unsigned write_verb(struct scan *s)
{
	if (s->next.type == '(')
		return 0;
	s->columns = true;
	return EFFECT_WRITES;
}

static unsigned update_verb(struct scan *s)
{
	s->columns |= s->last.kw != KW_FOR && s->last.kw != KW_KEY;
	return EFFECT_WRITES;
}

static unsigned call_verb(struct scan *s)
{
	s->calls = true;
	return 0;
}

static unsigned reserved_verb(struct scan *s)
{
	switch (s->now.kw) {
	case KW_INSERT: case KW_REPLACE:
		return write_verb(s);
	case KW_UPDATE:
		return update_verb(s);
	case KW_SIGNAL: case KW_RESIGNAL: /* SET MESSAGE_TEXT = .. */
		s->columns = true;
		return 0;
	case KW_LOAD:
		s->columns = true;
		return EFFECT_WRITES;
	case KW_DELETE: case KW_KILL: case KW_OUTFILE:
		return EFFECT_WRITES;
	case KW_CREATE:
	case KW_DROP:
		return create_or_drop(s);
	case KW_ALTER: case KW_RENAME:
		s->columns = s->header = true;
		return EFFECT_WRITES | EFFECT_TRANSACTION | EFFECT_DEFINES;
	case KW_GRANT: case KW_REVOKE: case KW_OPTIMIZE: case KW_ANALYZE: case KW_PURGE: case KW_CHANGE:
		return EFFECT_WRITES | EFFECT_TRANSACTION;
	case KW_LOCK:
		return s->next.kw == KW_IN ? EFFECT_WRITES : EFFECT_WRITES | EFFECT_KEEPS | EFFECT_TRANSACTION;
	case KW_UNLOCK:
		return EFFECT_KEEPS | EFFECT_TRANSACTION;
	case KW_USE:
		return s->next.kw == KW_INDEX || s->next.kw == KW_KEY ? 0 : EFFECT_VARIABLES;
	case KW_SHOW:
		return EFFECT_DEPENDS;
	case KW_CALL:
		return call_verb(s);
	default:
		return 0;
	}
}

static unsigned other_verb(struct scan *s)
{
	switch (s->now.kw) {
	case KW_EXECUTE:
		return EFFECT_ALL;
	case KW_FLUSH: case KW_BACKUP:
		return EFFECT_WRITES | EFFECT_TRANSACTION | EFFECT_KEEPS;
	case KW_TRUNCATE:
		return s->next.type == '(' ? 0 : EFFECT_WRITES | EFFECT_TRANSACTION;
	case KW_INSTALL: case KW_UNINSTALL:
		return EFFECT_WRITES | EFFECT_TRANSACTION | EFFECT_DEFINES;
	case KW_REPAIR: case KW_CHECKSUM: case KW_RESET: case KW_CACHE:
	case KW_STOP: case KW_SHUTDOWN: case KW_BINLOG:
		return EFFECT_WRITES | EFFECT_TRANSACTION;
	case KW_START:
		return s->next.kw == KW_TRANSACTION ? EFFECT_TRANSACTION : EFFECT_WRITES | EFFECT_TRANSACTION;
	case KW_COMMIT: case KW_ROLLBACK: case KW_SAVEPOINT:
		return EFFECT_TRANSACTION;
	case KW_BEGIN: /* the others are blocks */
		return s->next.type == TOK_END || s->next.type == ';' || is_word(&s->next, "work") ?
			       EFFECT_TRANSACTION : 0;
	case KW_PREPARE: case KW_DEALLOCATE: case KW_HANDLER:
		return EFFECT_KEEPS;
	case KW_XA:
		return EFFECT_KEEPS | EFFECT_TRANSACTION;
	case KW_GET: case KW_HELP:
		return EFFECT_DEPENDS;
	default:
		return 0;
	}
}

/* Names stand for tables from here on. */
static bool reads_tables(const struct scan *s)
{
	switch (s->now.kw) {
	case KW_SELECT: case KW_INSERT: case KW_REPLACE: case KW_UPDATE: case KW_DELETE: case KW_LOAD: case KW_WITH:
		return true;
	case KW_TABLE: /* as a query */
		return begins_statement(s) || s->last.type == '(' || s->last.kw == KW_UNION || s->last.kw == KW_AS;
	default:
		return false;
	}
}

/* CREATE PROCEDURE and its like: what follows is not run. */
static bool is_stored(uint16_t kw)
{
	return kw == KW_PROCEDURE || kw == KW_FUNCTION || kw == KW_TRIGGER || kw == KW_EVENT || kw == KW_VIEW ||
	       kw == KW_PACKAGE;
}

/* What a keyword says by where it stands. */
static void word(struct scan *s)
{
	const struct token *t = &s->now;

	s->reads |= reads_tables(s);
	s->stop |= s->header && s->b->statement && is_stored(t->kw);
	s->header &= t->kw != KW_TABLE && t->kw != KW_SELECT;
	if (kw_table[t->kw].flags & KWF_BARE)
		s->effects |= body_flag_effects(kw_table[t->kw].depends);
	switch (t->kw) {
	case KW_SET:
		begin_set(s);
		return;
	case KW_DECLARE:
		s->declares = true;
		return;
	case KW_HANDLER:
		if (s->last.kw == KW_CONTINUE || s->last.kw == KW_EXIT || s->last.kw == KW_UNDO) {
			s->handler = true;
			return;
		}
		break;
	case KW_NEXT: case KW_PREVIOUS:
		if (s->next.kw == KW_VALUE)
			s->effects |= EFFECT_WRITES | EFFECT_KEEPS | EFFECT_DEPENDS;
		return;
	case KW_SHARE:
		s->effects |= s->last.kw == KW_FOR ? EFFECT_WRITES : 0;
		return;
	default:
		break;
	}
	if (is_reserved(t))
		s->effects |= reserved_verb(s);
	else if (begins_statement(s))
		s->effects |= other_verb(s);
}

/* --- Names -------------------------------------------------------------------------------------------------------- */

static bool is_servers_own(struct slice db)
{
	return slice_ieq(db, "mysql") || slice_ieq(db, "sys") || slice_ieq(db, "information_schema") ||
	       slice_ieq(db, "performance_schema");
}

static bool is_sequence_member(struct slice name)
{
	return slice_ieq(name, "nextval") || slice_ieq(name, "currval") || slice_ieq(name, "lastval");
}

/* Reports each name, and each pair of them with a dot between. */
static void note_name(struct scan *s)
{
	static const struct slice none;
	struct name *n = &s->name;
	bool joined = s->last.type == '.' && !s->range;

	if (s->variable && joined)
		return;
	/* Doubled quotes: it cannot be compared. A dot with nothing before it: no text that we understand. */
	if (s->now.escaped || (joined && n->parts == 0)) {
		s->effects = EFFECT_ALL;
		return;
	}
	if (!joined)
		*n = (struct name){.before = s->last.kw, .kw = s->now.kw};
	n->quoted = s->now.type == TOK_QUOTED;
	if (n->parts > 0 && is_sequence_member(s->now.text))
		s->effects |= EFFECT_WRITES | EFFECT_KEEPS | EFFECT_DEPENDS;
	if (n->parts > 0 && s->reads)
		use(s, BODY_NAME, n->part[n->parts < 3 ? n->parts - 1 : 2], s->now.text);
	if (s->reads)
		use(s, BODY_NAME, none, s->now.text);
	if (n->parts < 3)
		n->part[n->parts] = s->now.text;
	else
		n->part[2] = s->now.text;
	n->parts++;
	if (s->next.type == '.' && is_servers_own(s->now.text))
		s->effects |= EFFECT_DEPENDS;
}

/* Behind these a parenthesis begins a list of columns: hardly a function. */
static bool takes_a_list(uint16_t before)
{
	switch (before) {
	case KW_INTO: case KW_TABLE: case KW_KEY: case KW_INDEX: case KW_UNIQUE: case KW_EXISTS: case KW_REFERENCES:
	case KW_FULLTEXT: case KW_SPATIAL: case KW_JOIN: case KW_FROM: case KW_UPDATE: case KW_INSERT:
	case KW_REPLACE: case KW_IGNORE: case KW_LOW_PRIORITY: case KW_HIGH_PRIORITY: case KW_DELAYED:
	case KW_CONSTRAINT: case KW_CURSOR: case KW_WITH: case KW_RECURSIVE: case KW_AS:
	case KW_PARTITION: case KW_OVER:
		return true;
	default:
		return false;
	}
}

/* Types, and words of the grammar that no table of ours has. */
static bool is_harmless(struct slice name)
{
	static const char *const types[] = {"until", "bit", "enum", "nchar", "nvarchar", "national", "varchar2",
					    "number", "raw", "clob", "geometry"};

	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (slice_ieq(name, types[i]))
			return true;
	return false;
}

/* A word alone before a parenthesis. Built-in functions go before stored ones of their name; some are functions only
 * when nothing stands between. */
static void note_simple_function(struct scan *s, const struct name *n)
{
	static const struct slice none;
	const struct token *t = &s->last;
	uint16_t kw = n->quoted ? kw_find(t->text, t->text.p + t->text.n) : n->kw;
	unsigned flags = kw_table[kw].flags;

	s->effects |= body_flag_effects(kw_table[kw].depends);
	if ((flags & KWF_FUNC) || ((flags & KWF_GRAMMAR) && !n->quoted && !s->now.spaced) || is_harmless(t->text))
		return;
	use(s, (flags & KWF_GRAMMAR) || (kw != KW_NONE && !n->quoted) ? BODY_MAYBE : BODY_FUNCTION, none, t->text);
}

/* At a parenthesis behind a name or word: is that a function, and of what kind? */
static void note_function(struct scan *s)
{
	static const struct slice none;
	const struct name *n = &s->name;

	if (n->parts == 0)
		s->effects |= s->last.type == TOK_WORD ? body_flag_effects(kw_table[s->last.kw].depends) : 0;
	else if (n->before == KW_CALL)
		return;
	else if (takes_a_list(n->before))
		use(s, BODY_MAYBE, n->parts > 1 ? n->part[0] : none, s->last.text);
	else if (n->parts > 2) /* schema.package.function */
		s->effects = EFFECT_ALL;
	else if (n->parts == 2)
		use(s, BODY_FUNCTION, n->part[0], n->part[1]);
	else
		note_simple_function(s, n);
}

static void note_call(struct scan *s)
{
	static const struct slice none;
	const struct name *n = &s->name;

	s->calls = false;
	if (n->parts == 1)
		use(s, BODY_PROCEDURE, none, n->part[0]);
	else if (n->parts == 2)
		use(s, BODY_PROCEDURE, n->part[0], n->part[1]);
	else
		s->effects = EFFECT_ALL;
}

/* --- The walk ----------------------------------------------------------------------------------------------------- */

static void end_statement(struct scan *s)
{
	if (s->creates)
		s->effects |= EFFECT_TRANSACTION | EFFECT_DEFINES;
	s->header = s->columns = s->handler = s->sets = s->target = s->declares = s->creates = s->calls = false;
}

/* The word behind CREATE, OR REPLACE and DROP. */
static void note_created(struct scan *s)
{
	if (is_word(&s->now, "or") || (is_word(&s->now, "replace") && s->last.kw == KW_OR))
		return;
	s->creates = false;
	s->effects |= s->now.kw == KW_TEMPORARY ? EFFECT_TEMPORARY : EFFECT_TRANSACTION | EFFECT_DEFINES;
}

/* user@host, which the lexer reads as a variable behind a name. */
static bool may_be_user(const struct token *t)
{
	return t->type == TOK_STRING || t->type == TOK_QUOTED || (t->type == TOK_WORD && t->kw == KW_NONE);
}

static void punctuation(struct scan *s)
{
	switch (s->now.type) {
	case '(':
		note_function(s);
		s->depth++;
		break;
	case ')':
		s->depth--;
		break;
	case ',':
		s->target |= s->sets && s->depth == s->set_depth;
		break;
	case ';': case TOK_END:
		end_statement(s);
		break;
	case TOK_USER_VAR: /* whether it is set is not looked at */
		if (s->now.spaced || !may_be_user(&s->last))
			s->effects |= EFFECT_KEEPS | EFFECT_DEPENDS;
		break;
	case TOK_SYS_VAR:
		s->effects |= EFFECT_DEPENDS;
		break;
	default:
		break;
	}
}

/* DECLARE a, b INT; FOR r IN .. */
static void note_locals(struct scan *s)
{
	const struct token *t = &s->now;

	if (s->declares && t->type != ',') {
		s->declares = is_identifier(t) && (s->last.kw == KW_DECLARE || s->last.type == ',');
		if (s->declares)
			add_local(s, t->text);
	}
	if (s->last.kw == KW_FOR && s->next.kw == KW_IN && is_identifier(t))
		add_local(s, t->text);
}

/* A client's statement that begins with no word that we know. */
static bool is_unknown(const struct scan *s)
{
	return s->b->statement && (s->last.type == TOK_END || s->last.type == ';') && s->next.type != ':' &&
	       (s->now.type == TOK_QUOTED || (s->now.type == TOK_WORD && s->now.kw == KW_NONE));
}

static void token(struct scan *s)
{
	const struct token *t = &s->now;
	bool identifier = is_identifier(t) || (s->last.type == '.' && t->type == TOK_WORD);

	if (s->calls && s->name.parts > 0 && t->type != '.' && s->last.type != '.')
		note_call(s);
	if (is_unknown(s))
		s->effects = EFFECT_ALL;
	note_locals(s);
	if (s->creates)
		note_created(s);
	if (s->target)
		set_target(s);
	if (s->sets && t->kw == KW_FOR && s->depth == s->set_depth && s->last.kw != KW_VALUE)
		s->sets = s->target = false; /* SET STATEMENT .. FOR */
	bool names = s->next.type == '.' && !(kw_table[t->kw].flags & KWF_BARE); /* a value begins no name */
	if (t->type == TOK_WORD && t->kw != KW_NONE && s->last.type != '.' && !names)
		word(s);
	if (identifier)
		note_name(s);
	else if (t->type != TOK_WORD)
		punctuation(s);
	if (!identifier && t->type != '.')
		s->name.parts = 0;
	s->range = t->type == '.' && (s->last.type == '.' || s->last.type == TOK_NUMBER);
	if (t->type != '.')
		s->variable = t->type == TOK_SYS_VAR || (s->variable && s->last.type == '.');
}

unsigned body_effects(const struct body *b)
{
	struct scan s = {.b = b};

	read_params(&s);
	lex_init(&s.lx, b->text, b->mode);
	lex_next(&s.lx, &s.next);
	do {
		s.last = s.now;
		s.now = s.next;
		lex_next(&s.lx, &s.next);
		token(&s);
	} while (s.now.type != TOK_END && !s.stop);
	return s.lx.bad || (b->mode & SQL_ORACLE) ? EFFECT_ALL : s.effects;
}
