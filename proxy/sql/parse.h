/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the classifier share: classify.c walks over the tokens and tells statements apart, query.c reads
 * what has clauses and tables, watch.c compares tables with watched ones, rows.c proves which rows a statement names.
 * Private to sql/. Each token is handed to `step` once, in order; nothing looks ahead but rows.c, which looks at single
 * clauses a second time, for watched tables only: at the tokens that were kept, or at the text where it has more.
 */
#ifndef ST_SQL_PARSE_H
#define ST_SQL_PARSE_H

#include "sql/classify.h"
#include "sql/digest.h"
#include "sql/lex.h"

enum { FRAMES = 64, CTES = 16, KEPT = 64 };

/* What the next token of a level of parentheses means. */
enum clause {
	CL_EXPR,      /* values, names of columns, words without a meaning here */
	CL_TABLE,     /* a table, a derived table or a join in parentheses comes */
	CL_NAME,      /* after the first part of a table's name */
	CL_NAME_DOT,  /* after its dot */
	CL_FROM,      /* after a table: alias, hints, ON conditions, joins; a comma brings the next table */
	CL_USING,     /* after USING: a list of columns, or tables of DELETE FROM .. USING */
	CL_TARGET,    /* after the table of INSERT or LOAD */
	CL_CTE_NAME,  /* after WITH */
	CL_CTE_AS,    /* after the name of a CTE */
	CL_CTE_BODY,  /* after its AS */
	CL_CTE_NEXT,  /* after its body: a comma or the statement */
};

struct frame { /* a level of parentheses */
	uint8_t clause, after; /* enum clause; the one behind a table's name */
	bool select;           /* a SELECT belongs to this level: FROM is a clause */
	bool fresh;            /* no token yet */
	bool cast;             /* CAST( or CONVERT(: type names come */
	bool json_table;       /* JSON_TABLE( or in it */
	bool recursive;
	uint8_t ctes;          /* number of CTEs in sight outside of it */
	struct slice cte;      /* the one being defined */
};

struct place { /* a clause, to read it again */
	const uint8_t *p; /* NULL: there is none */
	uint16_t params;  /* ? markers before it */
};

struct parse {
	struct lex lx;
	struct sql_stmt *out;
	struct slice schema;
	const struct sql_watch *watch;
	unsigned nwatch;

	bool rereads; /* a statement behind this one would be read otherwise: sql_mode, character set, schema change */

	/* the statement at hand */
	void (*step)(struct parse *ps, const struct token *t);
	enum sql_kind kind;
	uint32_t flags;
	bool swallow;          /* semicolons belong to it: a body of statements, or something unknown */
	bool target;           /* SET: a variable comes; DDL: a table's name comes */
	uint16_t verb;         /* enum kw: its first word */
	bool writes;           /* tables named now are written */
	bool limited, set_operation; /* a LIMIT; a UNION, EXCEPT or INTERSECT was seen */
	unsigned selects;      /* SELECTs seen */
	unsigned nows;         /* NOW() and kin seen */
	struct token ring[KEPT]; /* the last tokens: parse_token */
	unsigned at;           /* number of the current one */
	bool named;            /* the last token ended a table's name */
	struct place where;    /* behind WHERE, the first one */
	struct place assign;   /* behind the SET of UPDATE or INSERT */
	struct place on_duplicate; /* behind ON DUPLICATE KEY UPDATE */
	struct place into;     /* the table's name of an INSERT or REPLACE */

	struct token name; /* first part of a table's name being read */
	struct slice ctes[CTES];
	unsigned depth, nctes;
	struct frame frames[FRAMES];
	struct digest digest;
};

static inline const struct token *parse_token(const struct parse *ps, unsigned number)
{
	return &ps->ring[number % KEPT];
}

/* At most 3 back: before a statement's first token stand blank ones. */
static inline const struct token *parse_prev(const struct parse *ps, unsigned back)
{
	return parse_token(ps, ps->at - back);
}

/* classify.c: t is the first token of a statement, or what follows a prefix of one. */
void parse_start(struct parse *ps, const struct token *t);
void parse_unreadable(struct parse *ps);

static inline struct place parse_place(const struct parse *ps, const uint8_t *p)
{
	return (struct place){p, ps->out->nparams};
}

/* query.c: statements made of clauses, values and tables. query_begin readies the outermost level, for a table's name
 * (CL_TABLE) or values (CL_EXPR). TOK_END ends a name that is still open. */
void query_begin(struct parse *ps, enum clause clause, enum clause after_table);
void query_step(struct parse *ps, const struct token *t);
void parse_add_table(struct parse *ps, const struct token *db, const struct token *name);
void parse_add_func(struct parse *ps, struct slice db, struct slice name);
void parse_note_sys_var(struct parse *ps, struct slice name);

/* watch.c */
/* Which watched tables the name may be; the text is a table's name, db may be empty. */
uint32_t watch_match(const struct parse *ps, struct slice db, struct slice name);
/* Which watched tables, or schemas of such, have this as their name: for texts that are not read closely. */
uint32_t watch_mention_table(const struct parse *ps, struct slice word);
uint32_t watch_mention_schema(const struct parse *ps, struct slice word);

/* rows.c: sets scope, keys and now_is_expiry of a statement that names exactly one watched table. */
void rows_find(struct parse *ps, const struct sql_watch *w);

#endif
