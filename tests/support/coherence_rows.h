/* SPDX-License-Identifier: Apache-2.0
 *
 * Of coherence.c: the rows, and every state that they had or may have had.
 */
#ifndef ST_SUPPORT_COHERENCE_ROWS_H
#define ST_SUPPORT_COHERENCE_ROWS_H

#include "coherence_link.h"

enum { GROUPS = 96, HOT = 8, KEYS = 4, HISTORY = 64 };
enum table { TOKENS, SESSIONS, TABLES }; /* group number modulo TABLES */

static const struct {
	const char *name, *key;
} tables[TABLES] = {{"coherence_token", "token"}, {"coherence_session", "id"}};

struct state {
	uint64_t version;
	bool exists;
	int64_t expires;       /* seconds since 1970 */
	double begun, acked;   /* for people */
	unsigned proxy;
	char what[200];
};

struct key {
	char name[40];
	struct state past[HISTORY];
	unsigned n, acked;     /* states so far; the newest acknowledged one */
};

struct group {
	pthread_mutex_t writing; /* one writer */
	pthread_mutex_t lock;    /* the keys' states */
	enum table table;
	unsigned member;         /* member_id of its rows */
	int owner;               /* the proxy that it is written through; -1: any */
	bool retired;            /* a write's outcome is not known, and it may yet happen: nobody writes any more */
	bool unchecked;
	uint64_t version;
	struct key keys[KEYS];
};

static struct group groups[GROUPS];
static unsigned long turn; /* rows of other runs have other keys */

static void make_groups(void)
{
	for (unsigned i = 0; i < GROUPS; i++) {
		struct group *g = &groups[i];
		pthread_mutex_init(&g->writing, NULL);
		pthread_mutex_init(&g->lock, NULL);
		g->table = i % TABLES;
		g->member = (unsigned)turn * GROUPS + i;
		/* Sessions are truncated through any proxy, and every third group of tokens is written so. */
		g->owner = (int)(i / TABLES % 3 % nproxies);
		if (nproxies > 1 && (g->table == SESSIONS || i / TABLES % 3 == 2))
			g->owner = -1;
		for (unsigned k = 0; k < KEYS; k++) {
			g->keys[k].n = 1;
			char *name = g->keys[k].name;
			if (g->table == TOKENS)
				snprintf(name, sizeof g->keys[k].name, "%lu-%u-%u", turn, i, k);
			else
				snprintf(name, sizeof g->keys[k].name, "%lu", (turn * GROUPS + i) * KEYS + k + 1);
		}
	}
}

/* A key as an application might write it: numbers also as strings. */
static void give_key(struct client *c, struct statement *s, const struct group *g, const struct key *k)
{
	bool number = g->table == SESSIONS && draw(c, 3) > 0;

	s->args[s->nargs++] = (struct arg){.number = number, .n = number ? atoll(k->name) : 0, .s = k->name};
}

static struct state *newest(struct key *k)
{
	return &k->past[(k->n - 1) % HISTORY];
}

/* The states that a group's keys are about to get; nothing where next[] is NULL. */
struct plan {
	bool has[KEYS];
	struct state next[KEYS];
	char what[200];
};

static const struct state *current(const struct plan *p, struct group *g, unsigned k)
{
	return p->has[k] ? &p->next[k] : newest(&g->keys[k]);
}

static void plan_state(struct plan *p, unsigned k, bool exists, uint64_t version, int64_t expires)
{
	p->has[k] = true;
	p->next[k] = (struct state){.version = version, .exists = exists, .expires = expires};
}

/* The plan's statement is about to be sent: from now on readers may see it. */
static void plan_begins(const struct plan *p, struct group *g, unsigned proxy)
{
	pthread_mutex_lock(&g->lock);
	for (unsigned k = 0; k < KEYS; k++) {
		if (!p->has[k])
			continue;
		struct state *s = &g->keys[k].past[g->keys[k].n++ % HISTORY];
		*s = p->next[k];
		s->begun = now();
		s->acked = 0;
		s->proxy = proxy;
		snprintf(s->what, sizeof s->what, "%s", p->what);
	}
	pthread_mutex_unlock(&g->lock);
}

enum outcome { DONE, REFUSED, UNKNOWN };

static void plan_ends(const struct plan *p, struct group *g, enum outcome outcome)
{
	pthread_mutex_lock(&g->lock);
	for (unsigned k = 0; k < KEYS; k++) {
		struct key *key = &g->keys[k];
		if (!p->has[k] || outcome == UNKNOWN)
			continue;
		if (outcome == REFUSED) { /* it is as it was */
			struct state *s = newest(key);
			*s = key->past[(key->n - 2) % HISTORY];
			snprintf(s->what, sizeof s->what, "(refused)");
		}
		newest(key)->acked = now();
		key->acked = key->n - 1;
	}
	g->retired |= outcome == UNKNOWN;
	pthread_mutex_unlock(&g->lock);
}

static enum outcome outcome_of(unsigned code)
{
	return code == 0 ? DONE : code >= 2000 || code == 1053 || code == 1927 ? UNKNOWN : REFUSED;
}

static void tell_group(struct group *g)
{
	printf("#   member %u of %s, written through %d, retired %d\n", g->member, tables[g->table].name, g->owner,
	       g->retired);
	for (unsigned k = 0; k < KEYS; k++) {
		struct key *key = &g->keys[k];
		for (unsigned i = key->n > 8 ? key->n - 8 : 0; i < key->n; i++) {
			const struct state *s = &key->past[i % HISTORY];
			printf("#   %s %u%s %s version %" PRIu64 " expires %" PRId64, key->name, i,
			       i == key->acked ? "*" : "", s->exists ? "row" : "none", s->version, s->expires);
			printf(" sent %.4f acknowledged %.4f proxy %u: %s\n", s->begun, s->acked, s->proxy, s->what);
		}
	}
}

#endif
