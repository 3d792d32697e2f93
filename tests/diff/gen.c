/* SPDX-License-Identifier: Apache-2.0 */
#include "gen.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/slice.h"

enum { RULES = 64, ALTERNATIVES = 128, DEPTH = 12 };

struct rule {
	const char *name;
	const struct alternative *alternative[ALTERNATIVES];
	unsigned n, weight; /* of what is allowed in this round */
};

struct gen {
	struct rule rule[RULES];
	unsigned nrules;
	bool never[GROUP_COUNT], off[GROUP_COUNT];
	uint64_t random;
	unsigned a, b; /* {A} and {B} */
	struct script queue[SESSIONS];
	unsigned next[SESSIONS];
	unsigned alone; /* the session whose queue nobody may come into; 0: none */
};

static const char *const group_names[] = {
#define NAME(name) #name,
	GROUPS(NAME)
#undef NAME
};

/* splitmix64 */
static uint64_t draw(struct gen *g)
{
	uint64_t z = g->random += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static unsigned below(struct gen *g, unsigned n)
{
	return (unsigned)(draw(g) % n);
}

static struct rule *find_rule(struct gen *g, const char *name, size_t n)
{
	for (unsigned i = 0; i < g->nrules; i++)
		if (strlen(g->rule[i].name) == n && memcmp(g->rule[i].name, name, n) == 0)
			return &g->rule[i];
	return NULL;
}

/* --- expanding --- */

static void expand(struct gen *g, const char *text, size_t n, struct buf *out, unsigned depth);

static void expand_rule(struct gen *g, struct rule *r, struct buf *out, unsigned depth)
{
	unsigned at = r->weight > 0 && depth < DEPTH ? below(g, r->weight) : 0;

	for (unsigned i = 0; i < r->n && r->weight > 0 && depth < DEPTH; i++) {
		const struct alternative *a = r->alternative[i];
		if (g->off[a->group])
			continue;
		if (at < a->weight) {
			expand(g, a->text, strlen(a->text), out, depth + 1);
			return;
		}
		at -= a->weight;
	}
	buf_put_str(out, "DO 0"); /* all of it is left out in this round */
}

/* A statement that is one line, and not a command. */
static void expand_single(struct gen *g, struct rule *r, struct buf *out, unsigned depth)
{
	for (unsigned i = 0; i < 4; i++) {
		struct buf one = {0};
		expand_rule(g, r, &one, depth);
		buf_put_u8(&one, 0);
		char *end = strstr((char *)one.data, " ;; ");
		size_t n = end != NULL ? (size_t)(end - (char *)one.data) : one.len - 1;
		bool good = n > 0 && strchr("@!", one.data[0]) == NULL;
		if (good)
			buf_put(out, one.data, n);
		buf_fini(&one);
		if (good)
			return;
	}
	buf_put_str(out, "DO 0");
}

static void put_quoted(struct buf *out, const struct buf *text)
{
	buf_put_u8(out, '\'');
	for (size_t i = 0; i < text->len; i++) {
		if (text->data[i] == '\'')
			buf_put_u8(out, '\'');
		buf_put_u8(out, text->data[i]);
	}
	buf_put_u8(out, '\'');
}

/* Cuts off what is before the first '|' outside inner braces; false when there is none. */
static bool next_choice(const char **p, const char *end, struct slice *choice)
{
	int depth = 0;
	const char *from = *p;

	for (; *p < end; ++*p) {
		depth += **p == '{' ? 1 : **p == '}' ? -1 : 0;
		if (**p == '|' && depth == 0) {
			*choice = slice_of(from, (size_t)(*p - from));
			++*p;
			return true;
		}
	}
	*choice = slice_of(from, (size_t)(end - from));
	return false;
}

static bool expand_choice(struct gen *g, const char *in, size_t n, struct buf *out, unsigned depth)
{
	struct slice choice;
	unsigned count = 1;
	const char *p = in;

	while (next_choice(&p, in + n, &choice))
		count++;
	if (count == 1)
		return false;
	unsigned chosen = below(g, count);
	p = in;
	for (unsigned i = 0; i <= chosen; i++)
		next_choice(&p, in + n, &choice);
	expand(g, (const char *)choice.p, choice.n, out, depth);
	return true;
}

static void expand_brace(struct gen *g, const char *in, size_t n, struct buf *out, unsigned depth)
{
	unsigned low, high;

	if (expand_choice(g, in, n, out, depth))
		return;
	if (isdigit((unsigned char)*in) && sscanf(in, "%u-%u}", &low, &high) == 2) {
		buf_printf(out, "%u", low + below(g, high - low + 1));
	} else if (n == 1) {
		buf_printf(out, "%u", *in == 'A' ? g->a : g->b);
	} else if (n > 2 && memcmp(in, "q:", 2) == 0) {
		struct buf inner = {0};
		expand_single(g, find_rule(g, in + 2, n - 2), &inner, depth);
		put_quoted(out, &inner);
		buf_fini(&inner);
	} else if (n > 2 && memcmp(in, "1:", 2) == 0) {
		expand_single(g, find_rule(g, in + 2, n - 2), out, depth);
	} else if (n == 3 && memcmp(in, "sql", 3) == 0) {
		expand_single(g, find_rule(g, in, n), out, depth);
	} else {
		expand_rule(g, find_rule(g, in, n), out, depth);
	}
}

static const char *closing(const char *p, const char *end)
{
	int depth = 0;

	for (; p < end; p++) {
		depth += *p == '{' ? 1 : *p == '}' ? -1 : 0;
		if (depth == 0)
			return p;
	}
	return NULL;
}

static void expand(struct gen *g, const char *text, size_t n, struct buf *out, unsigned depth)
{
	const char *end = text + n;

	while (text < end) {
		const char *brace = memchr(text, '{', (size_t)(end - text));
		buf_put(out, text, (size_t)((brace != NULL ? brace : end) - text));
		if (brace == NULL)
			return;
		const char *close = closing(brace, end);
		expand_brace(g, brace + 1, (size_t)(close - brace - 1), out, depth);
		text = close + 1;
	}
}

/* --- a session's steps --- */

static void queue_line(struct gen *g, unsigned session, const char *line, size_t n)
{
	char *text = line[0] == '@' ? xasprintf("%u %.*s", session, (int)n - 1, line + 1) :
				      xasprintf("%u: %.*s", session, (int)n, line);

	script_add(&g->queue[session], text);
	free(text);
}

static void queue_text(struct gen *g, unsigned session, const char *text)
{
	for (;;) {
		const char *end = strstr(text, " ;; ");
		size_t n = end != NULL ? (size_t)(end - text) : strlen(text);
		if (n > 0 && *text == '!') { /* one step inside another */
			text++;
			n--;
		}
		queue_line(g, session, text, n);
		if (end == NULL)
			return;
		text = end + 4;
	}
}

static void queue_step(struct gen *g, unsigned session, const char *name)
{
	struct buf text = {0};

	g->a = below(g, STATEMENTS);
	g->b = 1 + below(g, 3);
	expand_rule(g, find_rule(g, name, strlen(name)), &text, 0);
	buf_put_u8(&text, 0);
	if (text.data[0] == '!')
		g->alone = session;
	queue_text(g, session, (char *)text.data);
	buf_fini(&text);
}

static const char *next_line(struct gen *g, unsigned session)
{
	struct script *q = &g->queue[session];

	if (g->next[session] == q->n) {
		if (g->alone == session)
			g->alone = 0;
		script_clear(q);
		g->next[session] = 0;
		queue_step(g, session, "step");
		if (!g->off[G_diag] && below(g, 5) == 0)
			queue_step(g, session, "diag");
	}
	return q->line[g->next[session]++];
}

/* --- rounds --- */

/* Different rounds try different mixtures: what is always there hides what needs its absence. */
static void choose_groups(struct gen *g)
{
	for (unsigned i = 0; i < GROUP_COUNT; i++)
		g->off[i] = g->never[i] || (i != G_base && below(g, 100) < 45);
	if (below(g, 10) > 0)
		g->off[G_ddl] = true; /* the proxy reads its dictionary anew after it, and trusts none until then */
	if (below(g, 20) > 0)
		g->off[G_bad_user] = true; /* the server takes a second to say no */
	if (!g->off[G_xa])
		g->off[G_reset] = g->off[G_change_user] = true; /* MariaDB loses what is prepared then */
	else
		g->off[G_xa_abort] = true;
	if (!g->off[G_role])
		g->off[G_change_user] = true; /* MariaDB lets a role pass on to the next user; the proxy does not */
	for (unsigned i = 0; i < g->nrules; i++) {
		struct rule *r = &g->rule[i];
		r->weight = 0;
		for (unsigned k = 0; k < r->n; k++)
			r->weight += g->off[r->alternative[k]->group] ? 0 : r->alternative[k]->weight;
	}
}

static void start_sessions(struct gen *g, unsigned sessions, struct script *out)
{
	static const char *const dbs[] = {"d", "d", "d", "d", "d2", "-"};
	unsigned alike = below(g, 3); /* most rounds: sessions that share connections */

	for (unsigned i = 1; i <= sessions; i++) {
		char line[64];
		snprintf(line, sizeof line, "%u connect %u %s", i, alike > 0 ? alike - 1 : below(g, 4),
			 g->off[G_schema] ? "d" : dbs[below(g, 6)]);
		script_add(out, line);
	}
}

void gen_round(struct gen *g, uint64_t seed, unsigned lines, struct script *out)
{
	g->random = seed;
	choose_groups(g);
	g->alone = 0;
	for (unsigned i = 0; i < SESSIONS; i++) {
		script_clear(&g->queue[i]);
		g->next[i] = 0;
	}
	unsigned sessions = 1 + below(g, 6), current = 1;
	start_sessions(g, sessions, out);
	while (out->n < lines || g->alone != 0) {
		if (g->alone == 0 && below(g, 3) == 0)
			current = 1 + below(g, sessions);
		script_add(out, next_line(g, current));
		if (g->alone == current && g->next[current] == g->queue[current].n)
			g->alone = 0;
	}
	for (unsigned i = 1; i <= sessions && !g->off[G_vars]; i++) {
		char line[16];
		snprintf(line, sizeof line, "%u vars", i);
		script_add(out, line);
	}
	for (unsigned i = 1; i <= sessions; i++) {
		char line[16];
		snprintf(line, sizeof line, "%u quit", i);
		script_add(out, line);
	}
	script_add(out, "0 data");
}

/* --- making one --- */

static bool add_table(struct gen *g, const struct alternative *table)
{
	for (; table->rule != NULL; table++) {
		struct rule *r = find_rule(g, table->rule, strlen(table->rule));
		if (r == NULL) {
			if (g->nrules == RULES)
				return false;
			r = &g->rule[g->nrules++];
			r->name = table->rule;
		}
		if (r->n == ALTERNATIVES)
			return false;
		r->alternative[r->n++] = table;
	}
	return true;
}

/* Does every {name} have its rule? Inner braces are looked at as they come. */
static bool complete(struct gen *g, const char *text)
{
	for (const char *p = strchr(text, '{'); p != NULL; p = strchr(p + 1, '{')) {
		size_t n = strcspn(p + 1, "{}|");
		const char *name = p + 1;
		if (name[n] != '}' || n == 1 || (isdigit((unsigned char)*name) && name[1] != ':'))
			continue;
		if (n > 2 && name[1] == ':') {
			name += 2;
			n -= 2;
		}
		if (find_rule(g, name, n) == NULL) {
			fprintf(stderr, "diff: the grammar has no rule for {%.*s}\n", (int)n, name);
			return false;
		}
	}
	return true;
}

static bool leave_out(struct gen *g, const char *without)
{
	while (without != NULL && *without != '\0') {
		size_t n = strcspn(without, ",");
		bool found = false;
		for (unsigned i = 0; i < GROUP_COUNT; i++)
			if (strlen(group_names[i]) == n && memcmp(group_names[i], without, n) == 0)
				found = g->never[i] = true;
		if (!found) {
			fprintf(stderr, "diff: there is no group %.*s; there are:", (int)n, without);
			for (unsigned i = 0; i < GROUP_COUNT; i++)
				fprintf(stderr, " %s", group_names[i]);
			fprintf(stderr, "\n");
			return false;
		}
		without += n + (without[n] == ',');
	}
	return true;
}

struct gen *gen_new(const char *without)
{
	struct gen *g = xcalloc(1, sizeof *g);
	bool good = add_table(g, grammar_state) && add_table(g, grammar_data) && add_table(g, grammar_session);

	if (!good)
		fprintf(stderr, "diff: the grammar has more rules than gen.c has room for\n");
	for (unsigned i = 0; i < g->nrules && good; i++)
		for (unsigned k = 0; k < g->rule[i].n && good; k++)
			good = complete(g, g->rule[i].alternative[k]->text);
	if (good && leave_out(g, without))
		return g;
	gen_free(g);
	return NULL;
}

void gen_free(struct gen *g)
{
	for (unsigned i = 0; i < SESSIONS; i++)
		script_clear(&g->queue[i]);
	free(g);
}
