/* SPDX-License-Identifier: Apache-2.0 */
#include "find.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

struct line {
	const char *p;
	size_t n;
};

static bool next_line(struct slice *rest, struct line *out)
{
	const uint8_t *end;

	if (rest->n == 0)
		return false;
	end = memchr(rest->p, '\n', rest->n);
	*out = (struct line){(const char *)rest->p, end != NULL ? (size_t)(end - rest->p) : rest->n};
	size_t used = out->n + (end != NULL);
	*rest = slice_of(rest->p + used, rest->n - used);
	return true;
}

static bool same(const struct line *a, const struct line *b)
{
	return a->n == b->n && memcmp(a->p, b->p, a->n) == 0;
}

/* The first lines that differ; one may be missing (n == 0). */
static void first_difference(const struct pair *p, struct line out[SIDES])
{
	struct slice rest[SIDES] = {buf_slice(&p->answer[DIRECT].text), buf_slice(&p->answer[PROXIED].text)};

	for (;;) {
		bool more[SIDES];
		for (unsigned side = 0; side < SIDES; side++) {
			out[side] = (struct line){"", 0};
			more[side] = next_line(&rest[side], &out[side]);
		}
		if (!more[DIRECT] || !more[PROXIED] || !same(&out[0], &out[1]))
			return;
	}
}

static size_t word(const struct line *l)
{
	size_t n = 0;

	while (n < l->n && strchr(" \t:", l->p[n]) == NULL)
		n++;
	return n;
}

/* The name of the first "name=value" that differs. */
static void differing_field(const struct line *a, const struct line *b, char *out, size_t room)
{
	size_t i = 0, from, to;

	while (i < a->n && i < b->n && a->p[i] == b->p[i])
		i++;
	for (to = i; to > 0 && a->p[to] != '='; to--)
		;
	for (from = to; from > 0 && a->p[from - 1] != ' '; from--)
		;
	snprintf(out, room, "%.*s", (int)(to - from), a->p + from);
}

void find_kind(const struct pair *p, char kind[KIND])
{
	struct line l[SIDES];
	char field[40] = "";

	first_difference(p, l);
	size_t n[SIDES] = {word(&l[0]), word(&l[1])};
	bool alike = n[0] == n[1] && memcmp(l[0].p, l[1].p, n[0]) == 0;
	if (alike && strncmp(l[0].p, "row", 3) == 0) {
		size_t name = n[0] < l[0].n ? n[0] + 1 : n[0], len = 0;
		while (name + len < l[0].n && (isalnum((unsigned char)l[0].p[name + len]) || l[0].p[name + len] == '_'))
			len++;
		bool named = name + len < l[0].n && l[0].p[name + len] == '\t' && !isdigit((unsigned char)l[0].p[name]);
		snprintf(kind, KIND, "row %.*s", named ? (int)len : 0, l[0].p + name);
	} else if (alike && strncmp(l[0].p, "error", 5) == 0) {
		snprintf(kind, KIND, "%.10s / %.10s", l[0].p, l[1].p);
	} else if (alike) {
		differing_field(&l[0], &l[1], field, sizeof field);
		snprintf(kind, KIND, "%.*s %s", (int)n[0], l[0].p, field);
	} else {
		int a = strncmp(l[0].p, "error", 5) == 0 ? 10 : (int)n[0];
		int b = strncmp(l[1].p, "error", 5) == 0 ? 10 : (int)n[1];
		snprintf(kind, KIND, "%.*s / %.*s", a, a > 0 ? l[0].p : "", b, b > 0 ? l[1].p : "");
	}
}

static void put_shape(struct buf *out, const char *line)
{
	const char *p = line + strcspn(line, ": ");

	while (*p != '\0') {
		if (*p == '\'') {
			const char *end = strchr(p + 1, '\'');
			buf_put_u8(out, 'S');
			p = end != NULL ? end + 1 : p + strlen(p);
		} else if (isdigit((unsigned char)*p) && !isalnum((unsigned char)p[-1]) && p[-1] != '_') {
			buf_put_u8(out, 'N');
			p += strspn(p, "0123456789.");
		} else {
			buf_put_u8(out, (unsigned char)*p++);
		}
	}
}

char *find_shape(const struct script *s, bool all)
{
	struct buf out = {0};

	for (unsigned i = all || s->n == 0 ? 0 : s->n - 1; i < s->n; i++) {
		put_shape(&out, s->line[i]);
		buf_put_str(&out, ";");
	}
	buf_put_u8(&out, 0);
	return (char *)out.data;
}

static struct counted {
	char *key;
	unsigned count;
} *counts;
static unsigned ncounts;

unsigned find_count(const char *kind, const char *shape)
{
	char *key = xasprintf("%s|%s", kind, shape);

	for (unsigned i = 0; i < ncounts; i++) {
		if (strcmp(counts[i].key, key) == 0) {
			free(key);
			return counts[i].count++;
		}
	}
	counts = xrealloc(counts, (ncounts + 1) * sizeof *counts);
	counts[ncounts++] = (struct counted){key, 1};
	return 0;
}

static void put_side(struct buf *out, const char *name, struct slice rest)
{
	struct line l;

	for (unsigned i = 0; i < 12 && next_line(&rest, &l); i++)
		buf_printf(out, "%s: %.*s\n", name, (int)(l.n < 300 ? l.n : 300), l.p);
}

char *find_answers(const struct pair *p)
{
	struct slice rest[SIDES] = {buf_slice(&p->answer[DIRECT].text), buf_slice(&p->answer[PROXIED].text)};
	struct buf out = {0};
	struct line a, b;

	for (;;) { /* what is alike before is left out */
		struct slice next[SIDES] = {rest[0], rest[1]};
		if (!next_line(&next[0], &a) || !next_line(&next[1], &b) || !same(&a, &b))
			break;
		rest[0] = next[0];
		rest[1] = next[1];
	}
	put_side(&out, "direct ", rest[DIRECT]);
	put_side(&out, "proxied", rest[PROXIED]);
	buf_put_u8(&out, 0);
	return (char *)out.data;
}
