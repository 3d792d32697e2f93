/* SPDX-License-Identifier: Apache-2.0 */
#include "sql/classify.h"

#include "sql/parse.h"

const char *sql_kind_name(enum sql_kind kind)
{
	static const char *const names[SQL_KINDS] = {
		[SQL_EMPTY] = "empty", [SQL_SELECT] = "select", [SQL_INSERT] = "insert", [SQL_REPLACE] = "replace",
		[SQL_UPDATE] = "update", [SQL_DELETE] = "delete", [SQL_LOAD] = "load", [SQL_TRUNCATE] = "truncate",
		[SQL_DDL] = "ddl", [SQL_CREATE_TEMP] = "create_temp", [SQL_DROP_TEMP] = "drop_temp",
		[SQL_CALL] = "call", [SQL_DO] = "do", [SQL_HANDLER] = "handler", [SQL_LOCK] = "lock",
		[SQL_UNLOCK] = "unlock", [SQL_XA] = "xa", [SQL_PREPARE] = "prepare", [SQL_EXECUTE] = "execute",
		[SQL_DEALLOCATE] = "deallocate", [SQL_SET] = "set", [SQL_SET_TRANSACTION] = "set_transaction",
		[SQL_USE] = "use", [SQL_SHOW] = "show", [SQL_SHOW_DIAG] = "show_diag", [SQL_BEGIN] = "begin",
		[SQL_BEGIN_RO] = "begin_ro", [SQL_COMMIT] = "commit", [SQL_ROLLBACK] = "rollback",
		[SQL_SAVEPOINT] = "savepoint", [SQL_KILL] = "kill", [SQL_COMPOUND] = "compound",
		[SQL_OTHER] = "other",
	};
	return (unsigned)kind < SQL_KINDS ? names[kind] : "other";
}

/* Nothing in the rest of the statement matters. */
static void skip_step(struct parse *ps, const struct token *t)
{
	(void)ps;
	(void)t;
}

static void mention(struct parse *ps, uint32_t bits)
{
	ps->out->watched |= bits;
	ps->out->watched_written |= bits;
}

/* The rest is not read closely, but it says which watched tables it may be about. */
static void mention_step(struct parse *ps, const struct token *t)
{
	if (t->type != TOK_WORD && t->type != TOK_QUOTED)
		return;
	mention(ps, watch_mention_table(ps, t->text));
	if (t->kw == KW_TEMPORARY)
		ps->flags |= SQLF_TEMP;
	if (ps->verb == KW_FLUSH && (t->kw == KW_LOCK || t->kw == KW_EXPORT))
		ps->flags |= SQLF_LOCK_FUNC; /* FLUSH TABLES .. WITH READ LOCK, FOR EXPORT */
}

/* The same, about whole schemas. */
static void mention_schema_step(struct parse *ps, const struct token *t)
{
	if (t->type == TOK_WORD || t->type == TOK_QUOTED)
		mention(ps, watch_mention_schema(ps, t->text));
}

void parse_unreadable(struct parse *ps)
{
	ps->flags |= SQLF_UNREADABLE | SQLF_TABLES_OVERFLOW;
	ps->swallow = true;
	ps->step = skip_step;
}

static void kind_is(struct parse *ps, enum sql_kind kind, void (*step)(struct parse *, const struct token *))
{
	ps->kind = kind;
	ps->step = step;
}

/* What runs statements that are not in its text, or is not known at all: it may touch any table. */
static void opaque(struct parse *ps, enum sql_kind kind)
{
	kind_is(ps, kind, mention_step);
	ps->flags |= SQLF_TABLES_OVERFLOW;
	ps->swallow = kind == SQL_OTHER || kind == SQL_COMPOUND;
}

static void begin_step(struct parse *ps, const struct token *t)
{
	if (t->type == TOK_END || t->kw == KW_WORK)
		kind_is(ps, SQL_BEGIN, skip_step);
	else
		opaque(ps, SQL_COMPOUND); /* BEGIN NOT ATOMIC, or a block of sql_mode=ORACLE */
}

static void start_transaction_step(struct parse *ps, const struct token *t)
{
	if (t->kw == KW_ONLY && parse_prev(ps, 1)->kw == KW_READ)
		ps->kind = SQL_BEGIN_RO;
}

static void start_step(struct parse *ps, const struct token *t)
{
	if (t->kw == KW_TRANSACTION)
		kind_is(ps, SQL_BEGIN, start_transaction_step);
	else
		opaque(ps, SQL_OTHER); /* START SLAVE */
}

/* COMMIT and ROLLBACK. */
static void end_transaction_step(struct parse *ps, const struct token *t)
{
	bool no = parse_prev(ps, 1)->kw == KW_NO;

	if (t->kw == KW_TO && ps->kind == SQL_ROLLBACK)
		kind_is(ps, SQL_SAVEPOINT, skip_step);
	else if (t->kw == KW_CHAIN && !no)
		ps->flags |= SQLF_CHAIN;
	else if (t->kw == KW_RELEASE && !no)
		ps->flags |= SQLF_RELEASE;
}

static void diagnostics_step(struct parse *ps, const struct token *t)
{
	if (t->type == TOK_USER_VAR)
		ps->flags |= SQLF_USER_VAR | SQLF_USER_VAR_SET;
}

static void show_step(struct parse *ps, const struct token *t)
{
	bool diag = t->kw == KW_WARNINGS || t->kw == KW_ERRORS || t->kw == KW_COUNT;

	kind_is(ps, diag ? SQL_SHOW_DIAG : SQL_SHOW, skip_step);
}

/* The rest of an EXPLAIN, which is not run. */
static void explained_step(struct parse *ps, const struct token *t)
{
	if (t->kw == KW_ANALYZE)
		opaque(ps, SQL_OTHER);
	else if (t->type == TOK_USER_VAR)
		ps->flags |= SQLF_USER_VAR | SQLF_USER_VAR_SET; /* EXPLAIN .. INTO @v */
}

/* ANALYZE, EXPLAIN ANALYZE: the statement behind it is run, but its answer is about times. */
static void analyze_step(struct parse *ps, const struct token *t)
{
	if (t->kw == KW_TABLE || t->kw == KW_TABLES || t->kw == KW_NO_WRITE_TO_BINLOG || t->kw == KW_LOCAL) {
		kind_is(ps, SQL_DDL, mention_step);
	} else if (t->kw == KW_FORMAT || t->type == '=' || parse_prev(ps, 1)->type == '=') {
		return;
	} else {
		ps->flags |= SQLF_NONDET;
		parse_start(ps, t);
	}
}

static void explain_step(struct parse *ps, const struct token *t)
{
	if (t->kw == KW_ANALYZE)
		ps->step = analyze_step;
	else
		kind_is(ps, SQL_SHOW, explained_step);
}

static bool has_prefix(struct slice s, const char *prefix)
{
	size_t n = strlen(prefix);

	return s.n >= n && slice_ieq(slice_of(s.p, n), prefix);
}

static bool one_of(struct slice name, const char *const *names)
{
	for (; *names != NULL; names++)
		if (slice_ieq(name, *names))
			return true;
	return false;
}

static void note_set_target(struct parse *ps, struct slice name)
{
	static const char *const once[] = {"insert_id", "last_insert_id", "identity", "rand_seed1", "rand_seed2",
					   "timestamp", NULL};
	static const char *const reading[] = {"sql_mode", "character_set_client", "names", "character", "charset",
					      NULL};
	/* These change others with them, or are no variables: session tracking tells half of it. */
	static const char *const untold[] = {"character", "charset", "role", "max_join_size", "old",
					     "character_set_database", "collation_database", "character_set_server",
					     "collation_server", "log_slow_admin_statements",
					     "log_slow_slave_statements", "log_slow_disabled_statements",
					     "log_queries_not_using_indexes", "log_slow_filter",
					     "default_master_connection", NULL};
	static const char *const sticky[] = {"profiling", "profiling_history_size", "optimizer_trace", NULL};

	if (has_prefix(name, "session_track_"))
		ps->flags |= SQLF_SET_TRACKING;
	if (has_prefix(name, "pseudo_") || one_of(name, once))
		ps->flags |= SQLF_SET_ONCE;
	if (one_of(name, reading)) {
		ps->rereads = true;
		if (ps->flags & SQLF_SET_STATEMENT)
			parse_unreadable(ps);
	}
	if (one_of(name, untold))
		ps->flags |= SQLF_SET_UNTOLD;
	if (has_prefix(name, "optimizer_trace") || one_of(name, sticky))
		ps->flags |= SQLF_STICKY;
}

static bool is_global_scope(struct slice word)
{
	return slice_ieq(word, "global") || slice_ieq(word, "persist") || slice_ieq(word, "persist_only");
}

/* Left of an equals sign. */
static void set_target(struct parse *ps, const struct token *t)
{
	switch (t->type) {
	case '=':
	case TOK_ASSIGN:
		ps->target = false;
		break;
	case TOK_USER_VAR:
		ps->flags |= SQLF_USER_VAR_SET;
		break;
	case TOK_WORD:
	case TOK_QUOTED:
	case TOK_SYS_VAR:
		if (is_global_scope(t->text))
			ps->flags |= SQLF_SET_GLOBAL;
		else if (t->type == TOK_SYS_VAR && !slice_ieq(t->text, "session") && !slice_ieq(t->text, "local"))
			ps->flags |= SQLF_SET_UNTOLD;
		note_set_target(ps, t->text);
		break;
	default:
		break;
	}
}

static void set_step(struct parse *ps, const struct token *t)
{
	if ((ps->flags & SQLF_SET_STATEMENT) && t->kw == KW_FOR && ps->depth == 0 &&
	    parse_prev(ps, 1)->kw != KW_VALUE) {
		ps->step = parse_start;
	} else if (ps->target) {
		set_target(ps, t);
	} else if (t->type == ',' && ps->depth == 0) {
		ps->target = true;
	} else {
		query_step(ps, t);
		if (ps->step == query_step)
			ps->step = set_step;
	}
}

/* The word after SET. */
static void set_first_step(struct parse *ps, const struct token *t)
{
	query_begin(ps, CL_EXPR, CL_FROM);
	kind_is(ps, SQL_SET, set_step);
	ps->target = true;
	switch (t->kw) {
	case KW_TRANSACTION:
		kind_is(ps, SQL_SET_TRANSACTION, skip_step);
		break;
	case KW_STATEMENT:
		ps->flags |= SQLF_SET_STATEMENT;
		break;
	case KW_PASSWORD:
	case KW_DEFAULT: /* ROLE */
		kind_is(ps, SQL_DDL, mention_step);
		break;
	case KW_RESOURCE:
		opaque(ps, SQL_OTHER);
		break;
	default:
		set_target(ps, t);
	}
}

/* A list of tables' names, from where ps->target says that one comes. */
static void ddl_names_step(struct parse *ps, const struct token *t)
{
	const struct token *before = parse_prev(ps, 1);
	bool name = t->type == TOK_WORD || t->type == TOK_QUOTED;

	mention_step(ps, t);
	if (ps->target && t->kw != KW_IF && t->kw != KW_NOT && t->kw != KW_EXISTS && t->kw != KW_IGNORE) {
		ps->target = false;
		ps->named = name && !(kw_table[t->kw].flags & KWF_RESERVED);
		ps->name = *t;
		if (!ps->named)
			ps->step = mention_step; /* FLUSH TABLES WITH READ LOCK */
	} else if (ps->named && t->type == '.') {
		return;
	} else if (ps->named && before->type == '.') {
		parse_add_table(ps, &ps->name, t);
		ps->named = false;
	} else {
		if (ps->named)
			parse_add_table(ps, NULL, &ps->name);
		ps->named = false;
		if (!ps->target && (t->type == ',' || t->kw == KW_TO) && (ps->verb == KW_DROP || ps->verb == KW_RENAME))
			ps->target = true;
		else if (ps->verb != KW_DROP && ps->verb != KW_RENAME && !ps->target)
			ps->step = mention_step;
	}
}

/* CREATE [OR REPLACE] TABLE, ALTER IGNORE TABLE, DROP INDEX: right behind the verb, no other TABLE in the text. */
static bool is_plain_object(const struct parse *ps, const struct token *t)
{
	uint16_t before = parse_prev(ps, 1)->kw;

	return (t->kw == KW_TABLE || t->kw == KW_INDEX) && ps->verb != KW_RENAME && ps->verb != KW_ANALYZE &&
	       parse_prev(ps, 1)->type == TOK_WORD &&
	       (before == ps->verb || before == KW_REPLACE || before == KW_IGNORE || before == KW_TEMPORARY ||
		before == KW_UNIQUE);
}

static void ddl_step(struct parse *ps, const struct token *t)
{
	mention_step(ps, t);
	if (is_plain_object(ps, t))
		ps->flags |= SQLF_DDL_PLAIN;
	switch (t->kw) {
	case KW_TABLE:
	case KW_TABLES:
	case KW_SEQUENCE:
		if (ps->flags & SQLF_TEMP)
			ps->kind = ps->verb == KW_DROP ? SQL_DROP_TEMP : SQL_CREATE_TEMP;
		ps->target = true;
		ps->step = ddl_names_step;
		break;
	case KW_DATABASE:
	case KW_SCHEMA:
		ps->step = mention_schema_step;
		break;
	case KW_PREPARE:
		if (ps->verb == KW_DROP)
			kind_is(ps, SQL_DEALLOCATE, skip_step);
		break;
	case KW_STATUS:
		if (ps->verb == KW_FLUSH)
			ps->flags |= SQLF_STICKY;
		break;
	case KW_PROCEDURE: case KW_FUNCTION: case KW_TRIGGER: case KW_EVENT: case KW_PACKAGE:
		ps->swallow = ps->verb != KW_DROP; /* a body follows */
		ps->step = mention_step;
		break;
	default:
		break;
	}
}

static void truncate_step(struct parse *ps, const struct token *t)
{
	ps->flags |= SQLF_DDL_PLAIN;
	ps->target = ps->writes = true;
	ps->step = ddl_names_step;
	if (t->kw != KW_TABLE)
		ddl_names_step(ps, t);
}

static void load_step(struct parse *ps, const struct token *t)
{
	if (t->kw == KW_INDEX) {
		kind_is(ps, SQL_DDL, mention_step);
		return;
	}
	ps->writes = true;
	query_begin(ps, CL_EXPR, CL_FROM);
}

static void execute_step(struct parse *ps, const struct token *t)
{
	if (t->type == TOK_USER_VAR)
		ps->flags |= SQLF_USER_VAR;
	mention_step(ps, t);
}

static void release_step(struct parse *ps, const struct token *t)
{
	if (t->kw != KW_SAVEPOINT)
		opaque(ps, SQL_OTHER);
	else
		ps->step = skip_step;
}

static void start_query(struct parse *ps, const struct token *t)
{
	ps->kind = SQL_SELECT;
	if (t->kw == KW_VALUES)
		ps->flags |= SQLF_FOUND_UNTOLD;
	query_begin(ps, CL_EXPR, CL_FROM);
	query_step(ps, t);
}

static void start_ddl(struct parse *ps, const struct token *t)
{
	ps->verb = t->kw;
	ps->writes = true;
	if (t->kw == KW_BACKUP)
		ps->flags |= SQLF_LOCK_FUNC;
	if (t->kw != KW_CREATE && t->kw != KW_ALTER && t->kw != KW_DROP && t->kw != KW_RENAME &&
	    t->kw != KW_INSTALL && t->kw != KW_UNINSTALL)
		ps->flags |= SQLF_DDL_PLAIN; /* no definition is changed */
	kind_is(ps, SQL_DDL, ddl_step);
}

static void start_call(struct parse *ps, const struct token *t)
{
	(void)t;
	opaque(ps, SQL_CALL);
}

static void start_execute(struct parse *ps, const struct token *t)
{
	(void)t;
	opaque(ps, SQL_EXECUTE);
	ps->step = execute_step;
}

static void start_compound(struct parse *ps, const struct token *t)
{
	(void)t;
	opaque(ps, SQL_COMPOUND);
}

static void start_use(struct parse *ps, const struct token *t)
{
	(void)t;
	kind_is(ps, SQL_USE, skip_step);
	ps->rereads = true;
}

static void start_do(struct parse *ps, const struct token *t)
{
	(void)t;
	ps->kind = SQL_DO;
	query_begin(ps, CL_EXPR, CL_FROM);
}

static void start_write(struct parse *ps, const struct token *t)
{
	ps->kind = t->kw == KW_INSERT ? SQL_INSERT : t->kw == KW_REPLACE ? SQL_REPLACE :
		   t->kw == KW_UPDATE ? SQL_UPDATE : SQL_DELETE;
	ps->writes = true;
	query_begin(ps, ps->kind == SQL_DELETE ? CL_EXPR : CL_TABLE,
		    ps->kind == SQL_INSERT || ps->kind == SQL_REPLACE ? CL_TARGET : CL_FROM);
}

/* By a statement's first word: `start` is called with it, or else the kind is known and `step` reads the rest. */
static const struct start {
	enum sql_kind kind;
	void (*step)(struct parse *ps, const struct token *t);
	void (*start)(struct parse *ps, const struct token *t);
} starts[KW_COUNT_ALL] = {
	[KW_SELECT] = {.start = start_query}, [KW_WITH] = {.start = start_query}, [KW_VALUES] = {.start = start_query},
	[KW_TABLE] = {.start = start_query}, [KW_INSERT] = {.start = start_write},
	[KW_REPLACE] = {.start = start_write},
	[KW_UPDATE] = {.start = start_write}, [KW_DELETE] = {.start = start_write}, [KW_DO] = {.start = start_do},
	[KW_CREATE] = {.start = start_ddl}, [KW_ALTER] = {.start = start_ddl}, [KW_DROP] = {.start = start_ddl},
	[KW_RENAME] = {.start = start_ddl}, [KW_GRANT] = {.start = start_ddl}, [KW_REVOKE] = {.start = start_ddl},
	[KW_OPTIMIZE] = {.start = start_ddl}, [KW_REPAIR] = {.start = start_ddl}, [KW_CHECK] = {.start = start_ddl},
	[KW_CHECKSUM] = {.start = start_ddl}, [KW_FLUSH] = {.start = start_ddl}, [KW_RESET] = {.start = start_ddl},
	[KW_INSTALL] = {.start = start_ddl}, [KW_UNINSTALL] = {.start = start_ddl}, [KW_CACHE] = {.start = start_ddl},
	[KW_BACKUP] = {.start = start_ddl}, [KW_CALL] = {.start = start_call}, [KW_EXECUTE] = {.start = start_execute},
	[KW_IF] = {.start = start_compound}, [KW_CASE] = {.start = start_compound},
	[KW_LOOP] = {.start = start_compound},
	[KW_REPEAT] = {.start = start_compound}, [KW_WHILE] = {.start = start_compound},
	[KW_FOR] = {.start = start_compound}, [KW_DECLARE] = {.start = start_compound}, [KW_USE] = {.start = start_use},
	[KW_LOAD] = {SQL_LOAD, load_step, NULL}, [KW_TRUNCATE] = {SQL_TRUNCATE, truncate_step, NULL},
	[KW_ANALYZE] = {SQL_DDL, analyze_step, NULL}, [KW_EXPLAIN] = {SQL_SHOW, explain_step, NULL},
	[KW_DESC] = {SQL_SHOW, explain_step, NULL}, [KW_DESCRIBE] = {SQL_SHOW, explain_step, NULL},
	[KW_SHOW] = {SQL_SHOW, show_step, NULL}, [KW_SET] = {SQL_SET, set_first_step, NULL},
	[KW_BEGIN] = {SQL_BEGIN, begin_step, NULL}, [KW_START] = {SQL_OTHER, start_step, NULL},
	[KW_COMMIT] = {SQL_COMMIT, end_transaction_step, NULL},
	[KW_ROLLBACK] = {SQL_ROLLBACK, end_transaction_step, NULL},
	[KW_SAVEPOINT] = {SQL_SAVEPOINT, skip_step, NULL}, [KW_RELEASE] = {SQL_SAVEPOINT, release_step, NULL},
	[KW_GET] = {SQL_SHOW_DIAG, diagnostics_step, NULL}, [KW_PREPARE] = {SQL_PREPARE, execute_step, NULL},
	[KW_DEALLOCATE] = {SQL_DEALLOCATE, skip_step, NULL}, [KW_HANDLER] = {SQL_HANDLER, skip_step, NULL},
	[KW_LOCK] = {SQL_LOCK, skip_step, NULL}, [KW_UNLOCK] = {SQL_UNLOCK, skip_step, NULL},
	[KW_XA] = {SQL_XA, skip_step, NULL}, [KW_KILL] = {SQL_KILL, skip_step, NULL},
};

void parse_start(struct parse *ps, const struct token *t)
{
	const struct start *s = &starts[t->type == '(' ? KW_SELECT : t->kw];

	if (s->start != NULL)
		s->start(ps, t);
	else if (s->step != NULL)
		kind_is(ps, s->kind, s->step);
	else
		opaque(ps, SQL_OTHER);
}

static void statement_init(struct parse *ps)
{
	ps->step = parse_start;
	ps->kind = SQL_EMPTY;
	ps->swallow = ps->target = ps->writes = ps->named = ps->limited = ps->set_operation = false;
	ps->flags = 0;
	ps->verb = KW_NONE;
	ps->selects = 0;
	ps->depth = ps->nctes = 0;
	for (unsigned i = 0; i < 3; i++)
		ps->ring[ps->at++ % KEPT] = (struct token){.at = ps->lx.p};
}

/* Adds the statement that just ended to what is known of the whole text. Returns whether it was one. */
static bool statement_end(struct parse *ps, const struct token *t)
{
	struct sql_stmt *out = ps->out;

	if (ps->kind == SQL_EMPTY)
		return false;
	ps->step(ps, t);
	if (ps->limited && ps->set_operation)
		ps->flags |= SQLF_FOUND_UNTOLD;
	if (out->kind == SQL_EMPTY || out->kind == SQL_SELECT)
		out->kind = ps->kind;
	out->flags |= ps->flags;
	if (ps->kind == SQL_CREATE_TEMP || ps->kind == SQL_DROP_TEMP)
		out->flags |= SQLF_TEMP;
	return true;
}

static void parse_init(struct parse *ps, struct slice text, unsigned text_mode, struct sql_stmt *out)
{
	lex_init(&ps->lx, text, text_mode);
	ps->out = out;
	ps->at = ps->nows = 0;
	ps->rereads = false;
	ps->where = ps->assign = ps->on_duplicate = ps->into = (struct place){NULL, 0};
	digest_init(&ps->digest, NULL, 0);
	out->kind = SQL_EMPTY;
	out->flags = 0;
	out->nparams = out->ntables = out->nfuncs = out->nkeys = 0;
	out->funcs_overflow = out->single = out->now_is_expiry = false;
	out->clocks = 0;
	out->scope = SQL_SCOPE_NONE;
	out->watched = out->watched_written = 0;
}

static void count_param(struct sql_stmt *out)
{
	out->flags |= SQLF_PARAMS;
	if (out->nparams < UINT16_MAX) /* what the protocol can number */
		out->nparams++;
}

/* At a token that may be its first. */
static void begin_statement(struct parse *ps, unsigned before)
{
	if (ps->rereads)
		ps->out->flags |= SQLF_UNREADABLE | SQLF_TABLES_OVERFLOW;
	if (before > 0) /* a semicolon at the end alone does not count */
		ps->out->flags |= SQLF_MULTI;
}

static void parse_text(struct parse *ps)
{
	unsigned statements = 0;

	statement_init(ps);
	for (;;) {
		struct token *t = &ps->ring[ps->at % KEPT];
		lex_next(&ps->lx, t);
		bool end = t->type == TOK_END;
		digest_token(&ps->digest, t);
		if (end || (t->type == ';' && !ps->swallow)) {
			static const struct token none;
			statements += statement_end(ps, &none);
			if (end)
				break;
			ps->at++;
			statement_init(ps);
			continue;
		}
		if (t->type == TOK_PARAM)
			count_param(ps->out);
		if (ps->kind == SQL_EMPTY)
			begin_statement(ps, statements);
		ps->step(ps, t);
		ps->at++;
	}
}

/* One name alone, and no room for doubt: the rows may be told from the text. */
static bool is_provable(const struct parse *ps)
{
	const struct sql_stmt *out = ps->out;
	uint32_t doubts = SQLF_UNREADABLE | SQLF_MULTI | SQLF_TABLES_OVERFLOW | SQLF_SUBQUERY;

	return out->watched != 0 && (out->watched & (out->watched - 1)) == 0 && !(out->flags & doubts) &&
	       out->ntables == 1 && !ps->lx.had_exec;
}

static void find_scope(struct parse *ps)
{
	struct sql_stmt *out = ps->out;

	if (out->flags & SQLF_TABLES_OVERFLOW) {
		uint32_t all = ps->nwatch == 32 ? UINT32_MAX : (1u << ps->nwatch) - 1;
		out->watched = all;
		if (out->kind != SQL_SELECT || (out->flags & SQLF_UNREADABLE))
			out->watched_written = all;
	}
	if (out->watched == 0)
		return;
	out->scope = SQL_SCOPE_TABLE;
	if (!is_provable(ps))
		return;
	unsigned which = (unsigned)__builtin_ctz(out->watched);
	out->single = out->kind == SQL_SELECT;
	rows_find(ps, &ps->watch[which]);
}

void sql_classify(struct slice text, unsigned text_mode, struct slice schema, const struct sql_watch *watch,
		  unsigned nwatch, struct sql_stmt *out)
{
	struct parse ps;

	parse_init(&ps, text, text_mode, out);
	ps.schema = schema;
	ps.watch = watch;
	ps.nwatch = nwatch < 32 ? nwatch : 32;
	parse_text(&ps);
	out->hint = (enum sql_hint)ps.lx.hint;
	out->digest = digest_end(&ps.digest);
	if (ps.lx.bad)
		out->flags |= SQLF_UNREADABLE | SQLF_TABLES_OVERFLOW;
	find_scope(&ps);
}
