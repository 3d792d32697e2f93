/* SPDX-License-Identifier: Apache-2.0 */
#include "shrink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

bool shrink_shows(struct pair *p, const struct script *s, const char *kind)
{
	char found[KIND];

	if (!pair_fresh(p, false))
		return false;
	for (unsigned i = 0; i < s->n; i++) {
		enum outcome outcome = pair_step(p, s->line[i]);
		if (outcome == BROKEN)
			return false;
		if (outcome != DIFFERENT)
			continue;
		find_kind(p, found);
		return i == s->n - 1 && strcmp(found, kind) == 0;
	}
	return false;
}

struct shrinking {
	struct pair *p;
	struct script *s;
	const char *kind;
	unsigned tries;
};

/* Tries without the lines that drop[] marks; keeps the shorter script when it still shows the difference. The last line
 * always stays. */
static bool try_without(struct shrinking *k, const bool *drop)
{
	struct script shorter = {0};
	unsigned n = k->s->n;

	for (unsigned i = 0; i < n; i++)
		if (!drop[i] || i == n - 1)
			script_add(&shorter, k->s->line[i]);
	bool good = shorter.n < n && k->tries > 0 && shrink_shows(k->p, &shorter, k->kind);
	k->tries -= shorter.n < n && k->tries > 0;
	if (good) {
		script_clear(k->s);
		*k->s = shorter;
	} else {
		script_clear(&shorter);
	}
	return good;
}

static void drop_sessions(struct shrinking *k)
{
	for (unsigned session = 1; session < SESSIONS; session++) {
		bool *drop = xcalloc(k->s->n, sizeof *drop);
		for (unsigned i = 0; i < k->s->n; i++)
			drop[i] = (unsigned)strtoul(k->s->line[i], NULL, 10) == session;
		try_without(k, drop);
		free(drop);
	}
}

/* One pass over the script in chunks of that size, from its end. Returns whether anything went. */
static bool drop_chunks(struct shrinking *k, unsigned size)
{
	bool any = false;

	for (unsigned end = k->s->n - 1; end > 0 && k->tries > 0;) {
		unsigned from = end > size ? end - size : 0;
		bool *drop = xcalloc(k->s->n, sizeof *drop);
		for (unsigned i = from; i < end; i++)
			drop[i] = true;
		any |= try_without(k, drop);
		free(drop);
		end = from < k->s->n - 1 ? from : k->s->n - 1;
	}
	return any;
}

void shrink(struct pair *p, struct script *s, const char *kind, unsigned tries)
{
	struct shrinking k = {p, s, kind, tries};

	drop_sessions(&k);
	for (unsigned size = s->n / 2; size > 0; size /= 2)
		drop_chunks(&k, size);
	while (k.tries > 0 && s->n < 40 && drop_chunks(&k, 1))
		;
}
