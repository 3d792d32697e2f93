/* SPDX-License-Identifier: Apache-2.0 */
#include "sql/parse.h"

static struct frame *top(struct parse *ps)
{
	return &ps->frames[ps->depth];
}

static void frame_init(struct parse *ps, struct frame *f, enum clause clause)
{
	*f = (struct frame){.clause = (uint8_t)clause, .after = CL_FROM, .fresh = true, .ctes = (uint8_t)ps->nctes};
}

void query_begin(struct parse *ps, enum clause clause, enum clause after_table)
{
	frame_init(ps, &ps->frames[0], clause);
	ps->frames[0].after = (uint8_t)after_table;
	ps->depth = 0;
	ps->step = query_step;
}

static bool is_system_schema(struct slice db)
{
	return (db.n == 3 && slice_ieq(db, "sys")) || (db.n == 5 && slice_ieq(db, "mysql")) ||
	       (db.n == 18 && (slice_ieq(db, "information_schema") || slice_ieq(db, "performance_schema")));
}

/* A CTE shadows a table only where the name is written as it was defined: otherwise a table too many is reported. */
static bool is_cte(const struct parse *ps, struct slice name)
{
	for (unsigned i = 0; i < ps->nctes; i++)
		if (slice_eq(ps->ctes[i], name))
			return true;
	return false;
}

void parse_add_table(struct parse *ps, const struct token *db, const struct token *name)
{
	struct sql_stmt *out = ps->out;
	struct slice schema = db != NULL ? db->text : slice_of(NULL, 0);

	if ((name->type == TOK_QUOTED && name->escaped) || (db != NULL && db->type == TOK_QUOTED && db->escaped)) {
		ps->flags |= SQLF_TABLES_OVERFLOW;
		return;
	}
	if (db == NULL && ps->nctes > 0 && is_cte(ps, name->text))
		return;
	if (is_system_schema(db != NULL ? schema : ps->schema))
		ps->flags |= SQLF_SYSTEM_SCHEMA;
	uint32_t bits = watch_match(ps, schema, name->text);
	out->watched |= bits;
	if (ps->writes)
		out->watched_written |= bits;
	for (unsigned i = 0; i < out->ntables; i++)
		if (slice_eq(out->tables[i].name, name->text) && slice_eq(out->tables[i].db, schema)) {
			out->tables[i].written |= ps->writes;
			return;
		}
	if (out->ntables == SQL_TABLES)
		ps->flags |= SQLF_TABLES_OVERFLOW;
	else
		out->tables[out->ntables++] = (struct sql_name){schema, name->text, ps->writes};
}

void parse_add_func(struct parse *ps, struct slice db, struct slice name)
{
	struct sql_stmt *out = ps->out;

	ps->flags |= SQLF_UNKNOWN_FUNC;
	for (unsigned i = 0; i < out->nfuncs; i++)
		if (slice_eq(out->funcs[i].name, name) && slice_eq(out->funcs[i].db, db))
			return;
	if (out->nfuncs == SQL_FUNCS)
		out->funcs_overflow = true;
	else
		out->funcs[out->nfuncs++] = (struct sql_name){db, name, false};
}

void parse_note_sys_var(struct parse *ps, struct slice name)
{
	ps->flags |= SQLF_SYS_VAR;
	if (slice_ieq(name, "warning_count") || slice_ieq(name, "error_count"))
		ps->flags |= SQLF_DIAG;
	else if (slice_ieq(name, "identity") || slice_ieq(name, "last_insert_id"))
		ps->flags |= SQLF_SESSION_FUNC;
}

static void depend_on(struct parse *ps, enum kw kw)
{
	ps->flags |= kw_table[kw].depends;
	if (kw_table[kw].depends & SQLF_NOW)
		ps->nows++;
}

/* A word that is no function by itself stands before a parenthesis. */
static bool is_grammar_here(const struct parse *ps, const struct token *word)
{
	const struct frame *f = &ps->frames[ps->depth];
	uint8_t before = parse_prev(ps, 2)->type;

	switch (word->kw) {
	case KW_AGAINST:
		return before == ')';
	case KW_ANY:
	case KW_SOME:
		return before == '=' || before == '<' || before == '>' || (before >= TOK_LE && before <= TOK_NULL_SAFE);
	case KW_COLUMNS:
		return f->json_table;
	case KW_SQL_NO_CACHE:
	case KW_SQL_CACHE:
	case KW_SQL_BUFFER_RESULT:
		return parse_prev(ps, 2)->kw == KW_SELECT || parse_prev(ps, 2)->kw == KW_DISTINCT;
	case KW_DATETIME:
	case KW_TEXT:
	case KW_JSON:
		return f->cast || f->json_table;
	default:
		return false;
	}
}

/* At a parenthesis: is the word before it a function, and of what kind? */
static void note_function(struct parse *ps, const struct token *paren)
{
	static const struct slice none;
	const struct token *word = parse_prev(ps, 1);

	if (word->type == TOK_WORD && parse_prev(ps, 2)->type != '.') {
		const struct kw_info *info = &kw_table[word->kw];
		if (info->flags & (KWF_RESERVED | KWF_FUNC | KWF_GRAMMAR)) {
			if (!(info->flags & KWF_BARE))
				depend_on(ps, word->kw);
			if ((info->flags & KWF_GRAMMAR) && paren->spaced)
				parse_add_func(ps, none, word->text);
		} else if (!is_grammar_here(ps, word)) {
			parse_add_func(ps, none, word->text);
		}
	} else if (word->type == TOK_WORD || word->type == TOK_QUOTED) {
		bool qualified = parse_prev(ps, 2)->type == '.';
		parse_add_func(ps, qualified ? parse_prev(ps, 3)->text : none, word->text);
		depend_on(ps, kw_find(word->text, word->text.p + word->text.n));
	}
}

static void open_paren(struct parse *ps, const struct token *t)
{
	struct frame *f = top(ps);
	const struct token *before = parse_prev(ps, 1);
	enum clause inside = CL_EXPR;

	if (ps->depth + 1 == FRAMES) {
		parse_unreadable(ps);
		return;
	}
	switch (f->clause) {
	case CL_TABLE:
		inside = CL_TABLE;
		f->clause = CL_FROM;
		break;
	case CL_USING:
		f->clause = CL_FROM;
		break;
	case CL_TARGET:
	case CL_CTE_AS:
	case CL_CTE_BODY:
		break;
	default:
		note_function(ps, t);
	}
	frame_init(ps, f + 1, inside);
	f[1].cast = before->kw == KW_CAST || before->kw == KW_CONVERT;
	f[1].json_table = f->json_table;
	ps->depth++;
}

static void add_cte(struct parse *ps, struct slice name)
{
	/* More than fit: the others are reported as tables, which errs to the safe side. */
	if (ps->nctes < CTES)
		ps->ctes[ps->nctes++] = name;
}

static void close_paren(struct parse *ps)
{
	if (ps->depth == 0) {
		parse_unreadable(ps);
		return;
	}
	ps->nctes = top(ps)->ctes;
	ps->depth--;
	struct frame *f = top(ps);
	if (f->clause == CL_CTE_BODY) {
		f->clause = CL_CTE_NEXT;
		if (!f->recursive)
			add_cte(ps, f->cte);
	}
}

static void select_word(struct parse *ps, struct frame *f)
{
	f->select = true;
	f->clause = CL_EXPR;
	if (ps->selects++ > 0 || ps->kind != SQL_SELECT)
		ps->flags |= SQLF_SUBQUERY;
}

static void expect_table(struct parse *ps, struct frame *f, bool joined)
{
	f->clause = CL_TABLE;
	if (joined)
		ps->flags |= SQLF_SUBQUERY;
}

static void with_word(struct parse *ps, struct frame *f)
{
	if (!f->fresh && f->clause != CL_TARGET)
		return; /* WITH ROLLUP, WITH QUERY EXPANSION */
	f->clause = CL_CTE_NAME;
	ps->flags |= SQLF_SUBQUERY;
}

static void from_word(struct parse *ps, struct frame *f)
{
	if (f->select)
		expect_table(ps, f, false);
	else if (ps->kind == SQL_DELETE && ps->depth == 0 && f->clause == CL_EXPR && ps->where.p == NULL)
		expect_table(ps, f, false);
	else if (f->clause == CL_FROM)
		ps->flags |= SQLF_SUBQUERY; /* FOR PORTION OF: rows of other keys may appear */
}

static void where_word(struct parse *ps, struct frame *f, const struct token *t)
{
	f->clause = CL_EXPR;
	if (ps->where.p != NULL)
		ps->flags |= SQLF_SUBQUERY;
	ps->where = parse_place(ps, t->text.p + t->text.n);
	if (ps->depth == 0)
		ps->writes = false;
}

static void update_word(struct parse *ps, struct frame *f, const struct token *t)
{
	switch (parse_prev(ps, 1)->kw) {
	case KW_KEY: /* ON DUPLICATE KEY UPDATE */
		f->clause = CL_EXPR;
		ps->on_duplicate = parse_place(ps, t->text.p + t->text.n);
		break;
	case KW_FOR:
		ps->flags |= SQLF_LOCKING;
		break;
	default:
		parse_unreadable(ps);
	}
}

/* A keyword that begins no clause, but says something of the statement. */
static void flag_word(struct parse *ps, struct frame *f, const struct token *t)
{
	switch (t->kw) {
	case KW_UPDATE:
		update_word(ps, f, t);
		break;
	case KW_LOCK:
		ps->flags |= SQLF_LOCKING;
		break;
	case KW_SHARE:
		if (parse_prev(ps, 1)->kw == KW_FOR)
			ps->flags |= SQLF_LOCKING;
		break;
	case KW_SYSTEM_TIME:
		ps->flags |= SQLF_SUBQUERY; /* history: not the rows of now */
		break;
	case KW_SQL_NO_CACHE:
		ps->flags |= SQLF_SQL_CACHE;
		break;
	case KW_OFFSET:
	case KW_FETCH:
		ps->flags |= SQLF_FOUND_UNTOLD;
		break;
	case KW_SQL_CALC_FOUND_ROWS:
		ps->flags |= SQLF_CALC_FOUND_ROWS;
		break;
	case KW_DELETE: case KW_DROP: case KW_CREATE: case KW_ALTER: case KW_CALL: case KW_GRANT: case KW_REVOKE:
	case KW_RENAME: case KW_KILL: case KW_LOAD: case KW_PURGE:
		parse_unreadable(ps); /* no such word in any clause: not a text that we understand */
		break;
	default:
		if ((kw_table[t->kw].flags & KWF_BARE) ||
		    ((kw_table[t->kw].flags & KWF_ORACLE_BARE) && (ps->lx.mode & SQL_ORACLE)))
			depend_on(ps, t->kw);
	}
}

/* A keyword where values, names and further clauses may stand. */
static void clause_word(struct parse *ps, struct frame *f, const struct token *t)
{
	uint16_t before = parse_prev(ps, 1)->kw;

	switch (t->kw) {
	case KW_SELECT:
		select_word(ps, f);
		break;
	case KW_FROM:
		from_word(ps, f);
		break;
	case KW_WHERE:
		where_word(ps, f, t);
		break;
	case KW_WITH:
		with_word(ps, f);
		break;
	case KW_JOIN:
	case KW_STRAIGHT_JOIN:
		if (f->clause == CL_FROM && before != KW_FOR)
			expect_table(ps, f, true);
		break;
	case KW_USING:
		if (f->clause == CL_FROM)
			f->clause = CL_USING;
		break;
	case KW_ORDER:
	case KW_GROUP:
		if (before != KW_FOR) /* USE INDEX FOR ORDER BY */
			f->clause = CL_EXPR;
		break;
	case KW_VALUES:
	case KW_VALUE:
		if (before == KW_NEXT || before == KW_PREVIOUS)
			ps->flags |= SQLF_SEQUENCE;
		if (f->clause == CL_TARGET)
			f->clause = CL_EXPR;
		break;
	case KW_SET:
		f->clause = CL_EXPR;
		if (ps->depth == 0) {
			ps->writes = false;
			ps->assign = parse_place(ps, t->text.p + t->text.n);
		}
		break;
	case KW_HAVING:
	case KW_LIMIT:
	case KW_RETURNING:
		f->clause = CL_EXPR;
		ps->limited |= t->kw == KW_LIMIT;
		if (t->kw == KW_RETURNING)
			ps->flags |= SQLF_RETURNS_ROWS;
		break;
	case KW_UNION:
	case KW_EXCEPT:
	case KW_INTERSECT:
		f->clause = CL_EXPR;
		f->select = false;
		ps->set_operation = true;
		ps->flags |= SQLF_SUBQUERY;
		break;
	case KW_INTO:
		f->clause = CL_EXPR;
		if (ps->kind != SQL_LOAD)
			ps->flags |= SQLF_INTO;
		break;
	case KW_PROCEDURE:
		f->clause = CL_EXPR;
		ps->flags |= SQLF_INTO;
		break;
	case KW_TABLE:
		f->after = ps->kind == SQL_LOAD ? CL_TARGET : CL_FROM;
		expect_table(ps, f, true);
		break;
	default:
		flag_word(ps, f, t);
	}
}

/* Where a table must come: its name, or words that may stand before it. */
static void table_word(struct parse *ps, struct frame *f, const struct token *t)
{
	switch (t->kw) {
	case KW_SELECT:
	case KW_VALUES:
	case KW_WITH:
	case KW_TABLE:
		clause_word(ps, f, t);
		if (t->kw == KW_VALUES)
			f->clause = CL_EXPR;
		break;
	case KW_DUAL:
		f->clause = CL_FROM;
		break;
	case KW_LOW_PRIORITY: case KW_HIGH_PRIORITY: case KW_DELAYED: case KW_IGNORE: case KW_INTO:
		break;
	case KW_OJ:
		if (parse_prev(ps, 1)->type == '{')
			break;
		/* fall through */
	default:
		if (kw_table[t->kw].flags & KWF_RESERVED) {
			parse_unreadable(ps);
			return;
		}
		ps->name = *t;
		f->clause = CL_NAME;
	}
}

/* The token after a table's name of one part: the name is whole, unless a parenthesis makes it something else. */
static void end_name(struct parse *ps, struct frame *f, const struct token *t)
{
	bool call = t->type == '(' && f->after == CL_FROM && ps->name.type == TOK_WORD;

	if (call && ps->name.kw == KW_LATERAL) {
		f->clause = CL_TABLE;
		return;
	}
	f->clause = f->after;
	if (!call)
		parse_add_table(ps, NULL, &ps->name);
	else if (ps->name.kw != KW_JSON_TABLE)
		parse_add_func(ps, slice_of(NULL, 0), ps->name.text);
	if (f->clause == CL_TARGET) {
		ps->into = parse_place(ps, ps->name.at);
		ps->writes = false;
	}
}

static void end_qualified_name(struct parse *ps, struct frame *f, const struct token *t)
{
	if (t->type != TOK_WORD && t->type != TOK_QUOTED) {
		parse_unreadable(ps);
		return;
	}
	parse_add_table(ps, &ps->name, t);
	f->clause = f->after;
	if (f->clause == CL_TARGET) {
		ps->into = parse_place(ps, ps->name.at);
		ps->writes = false;
	}
}

static void cte_token(struct parse *ps, struct frame *f, const struct token *t)
{
	switch (f->clause) {
	case CL_CTE_NAME:
		if (t->kw == KW_RECURSIVE) {
			f->recursive = true;
		} else if (t->type == TOK_WORD || t->type == TOK_QUOTED) {
			f->cte = t->text;
			f->clause = CL_CTE_AS;
			if (f->recursive)
				add_cte(ps, t->text);
		} else {
			parse_unreadable(ps);
		}
		return;
	case CL_CTE_AS:
		if (t->kw == KW_AS)
			f->clause = CL_CTE_BODY;
		return;
	case CL_CTE_BODY:
		parse_unreadable(ps); /* only a parenthesis may come */
		return;
	default:
		if (t->type == ',') {
			f->clause = CL_CTE_NAME;
		} else if (ps->depth == 0 && (t->kw == KW_UPDATE || t->kw == KW_DELETE || t->kw == KW_INSERT ||
					      t->kw == KW_REPLACE)) {
			parse_start(ps, t);
		} else if (t->type == TOK_WORD) {
			clause_word(ps, f, t);
		}
	}
}

/* What stands behind a dot: sequence.nextval, under sql_mode=ORACLE also when it is quoted. */
static void member(struct parse *ps, struct slice name)
{
	if (name.n == 7 && (slice_ieq(name, "nextval") || slice_ieq(name, "currval") || slice_ieq(name, "lastval")))
		ps->flags |= SQLF_SEQUENCE;
}

static void word(struct parse *ps, struct frame *f, const struct token *t)
{
	const struct token *before = parse_prev(ps, 1);

	if (before->type == '.') {
		member(ps, t->text);
		if (parse_prev(ps, 2)->type == TOK_SYS_VAR)
			parse_note_sys_var(ps, t->text);
	} else if (f->clause == CL_TABLE) {
		table_word(ps, f, t);
	} else if (t->kw != KW_NONE) {
		clause_word(ps, f, t);
	}
}

static void punctuation(struct parse *ps, struct frame *f, const struct token *t)
{
	switch (t->type) {
	case ',':
		if (f->clause == CL_FROM)
			expect_table(ps, f, true);
		else if (parse_prev(ps, 2)->kw == KW_LIMIT)
			ps->flags |= SQLF_FOUND_UNTOLD; /* LIMIT 10, 5 */
		break;
	case TOK_USER_VAR:
		ps->flags |= SQLF_USER_VAR;
		if (ps->flags & SQLF_INTO || ps->kind == SQL_LOAD)
			ps->flags |= SQLF_USER_VAR_SET;
		break;
	case TOK_ASSIGN:
		ps->flags |= SQLF_USER_VAR_SET;
		break;
	case TOK_SYS_VAR:
		parse_note_sys_var(ps, t->text);
		break;
	default:
		break;
	}
	if (f->clause == CL_TABLE && t->type != ',' && t->type != '{' && t->type != '(')
		parse_unreadable(ps);
}

void query_step(struct parse *ps, const struct token *t)
{
	struct frame *f = top(ps);
	bool named = ps->named;

	ps->named = false;
	if (f->clause == CL_NAME) {
		if (t->type == '.') {
			f->clause = CL_NAME_DOT;
			return;
		}
		end_name(ps, f, t);
		if (t->type == '(' && ps->name.kw == KW_JSON_TABLE && f->after == CL_FROM) {
			f->clause = CL_USING; /* no function in front of this parenthesis */
			open_paren(ps, t);
			top(ps)->json_table = true;
			return;
		}
	} else if (f->clause == CL_NAME_DOT) {
		end_qualified_name(ps, f, t);
		ps->named = true;
		return;
	}
	if (t->type == TOK_END) {
		if (ps->depth != 0)
			parse_unreadable(ps);
		return;
	}
	if (f->clause == CL_USING && t->type != '(')
		expect_table(ps, f, true);
	if (t->type == '(') {
		open_paren(ps, t);
	} else if (t->type == ')') {
		close_paren(ps);
	} else if (f->clause >= CL_CTE_NAME) {
		cte_token(ps, f, t);
	} else if (t->type == TOK_WORD) {
		word(ps, f, t);
	} else if (t->type == TOK_QUOTED && parse_prev(ps, 1)->type == '.') {
		member(ps, t->text);
	} else if (t->type == TOK_QUOTED && f->clause == CL_TABLE) {
		ps->name = *t;
		f->clause = CL_NAME;
	} else if (t->type == '.' && named) {
		parse_unreadable(ps);
	} else {
		punctuation(ps, f, t);
	}
	f->fresh = false;
}
