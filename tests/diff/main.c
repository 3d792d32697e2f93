/* SPDX-License-Identifier: Apache-2.0
 *
 * The differential tester: README.md. Runs the scripts that it is given, then rounds of random ones, on two sides.
 *
 *	diff --direct PORT --proxied PORT --root SOCKET --proxied-root SOCKET [--admin PORT] [--replica SOCKET]...
 *	     --data FOLDER (definitions.sql, rows.sql) [--statements N] [--seed S] [--mode NAME] [--without GROUP,...]
 *	     [--out FOLDER] [--differences N: ends after so many distinct ones] [--tries N: of a shrinking]
 *	     [--round N: only that one] [SCRIPT]...
 *
 * Exits 0: no difference, 1: there are, 2: it could not run.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "gen.h"
#include "lag.h"
#include "shrink.h"

enum { ROUND_LINES = 600, AGAIN = 6, OF_ONE_KIND = 2, REPLICAS_EVERY = 10 };

static struct {
	struct place place;
	char *definitions, *rows;
	const char *mode, *without, *out, *script[512];
	unsigned scripts, differences, tries;
	uint64_t statements, seed;
	long round;
	bool lag;
} option = {.mode = "", .out = "build/diff", .differences = 1, .tries = 300, .seed = 1, .round = -1, .lag = true};

/* timing: a lock that was refused on one side only, and never again. What an InnoDB transaction locks beside its rows
 * follows from which deleted rows were purged already. */
static unsigned found, distinct, unreproduced, timing;

static struct script before; /* what ran last */

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *why)
{
	fprintf(stderr, "diff: %s\n", why);
	exit(2);
}

/* --- what was found --- */

static void tell(const struct script *s, const char *comment)
{
	char *path = xasprintf("%s/%s-%llu-%u.script", option.out, option.mode, (unsigned long long)option.seed,
			       distinct);

	if (!script_save(s, path, comment))
		fprintf(stderr, "diff: %s cannot be written\n", path);
	printf("\nDIFFERENCE in mode %s, script in %s\n%s", option.mode, path, comment);
	for (unsigned i = s->n > 60 ? s->n - 60 : 0; i < s->n; i++)
		printf("    %s\n", s->line[i]);
	fflush(stdout);
	free(path);
}

/* A lock that was refused on one side only: see `timing`. */
static bool always(struct pair *p, const struct script *s, const char *kind)
{
	for (unsigned i = 0; i < AGAIN; i++)
		if (!shrink_shows(p, s, kind))
			return false;
	return true;
}

/* Some differences are there only when reads went to a replica, or only when they could not. Leaves the lag as it was
 * when it was seen, for the shrinking. */
static bool find_again(struct pair *p, const struct script *s, const char *kind)
{
	static const enum lag lags[AGAIN] = {LAG_NONE, LAG_ALWAYS, LAG_NONE, LAG_RANDOM, LAG_RANDOM, LAG_RANDOM};

	p->defined = false;
	for (unsigned i = 0; i < AGAIN; i++) {
		lag_set(lags[i]);
		p->catch_up = i == 2; /* slow, and seldom needed */
		if (shrink_shows(p, s, kind))
			return strstr(kind, "error 1205") == NULL || always(p, s, kind);
	}
	return false;
}

/* Replays, shrinks, and tells it unless one of the same shape was told before. `s` ends with the line that differed. */
static void take_difference(struct pair *p, struct script *s, const char *where)
{
	char kind[KIND];
	char *answers = find_answers(p), *last = find_shape(s, false), *comment, *shape;
	bool again = false;

	find_kind(p, kind);
	found++;
	if (find_count(kind, last) >= OF_ONE_KIND) {
		free(answers);
		free(last);
		return;
	}
	unsigned length = s->n;
	again = find_again(p, s, kind);
	if (again) {
		shrink(p, s, kind, option.tries);
		if (shrink_shows(p, s, kind)) {
			free(answers);
			answers = find_answers(p);
		}
	}
	if (!again && strstr(kind, "error 1205") != NULL) {
		timing++;
		found--;
		free(answers);
		free(last);
		lag_set(LAG_RANDOM);
		p->catch_up = p->defined = false;
		return;
	}
	unreproduced += !again;
	shape = find_shape(s, again);
	if (find_count(again ? "shrunk" : "unreproduced", shape) == 0) {
		distinct++;
		comment = xasprintf("%s, mode %s: %s\n%s%s", where, option.mode, kind, again ? "" : "not seen again\n",
				    answers);
		tell(s, comment);
		free(comment);
	}
	printf("# %u lines became %u\n", length, s->n);
	fflush(stdout);
	free(answers);
	free(last);
	free(shape);
	lag_set(LAG_RANDOM);
	p->catch_up = false;
	p->defined = false; /* the two sides may differ now in what is not put back otherwise */
}

/* What ran before must have left something that keeps the data from being put back: a lock, a lost branch. */
static void blame(const struct pair *p)
{
	distinct++;
	found++;
	tell(&before, p->why);
}

/* Runs a script; on a difference, takes it. Returns false when it cannot go on. */
static bool run_script(struct pair *p, const struct script *s, const char *where)
{
	if (!pair_fresh(p, false)) {
		blame(p);
		return false;
	}
	script_clear(&before);
	script_append(&before, s);
	for (unsigned i = 0; i < s->n; i++) {
		enum outcome outcome = pair_step(p, s->line[i]);
		if (outcome == BROKEN)
			return false;
		if (outcome != DIFFERENT)
			continue;
		struct script head = {0};
		for (unsigned k = 0; k <= i; k++)
			script_add(&head, s->line[k]);
		take_difference(p, &head, where);
		script_clear(&head);
		break;
	}
	return true;
}

/* --- runs --- */

static bool run_kept(struct pair *p)
{
	for (unsigned i = 0; i < option.scripts; i++) {
		struct script s = {0};
		if (!script_load(&s, option.script[i]))
			die(option.script[i]);
		bool good = run_script(p, &s, option.script[i]);
		script_clear(&s);
		if (!good)
			return false;
	}
	return true;
}

static bool run_random(struct pair *p, struct gen *g)
{
	uint64_t begin = p->statements;

	for (long round = option.round >= 0 ? option.round : 0; p->statements - begin < option.statements &&
								distinct < option.differences; round++) {
		struct script s = {0};
		char *where = xasprintf("seed %llu round %ld", (unsigned long long)option.seed, round);
		gen_round(g, option.seed * 1000003 + (uint64_t)round, ROUND_LINES, &s);
		if (round % REPLICAS_EVERY == REPLICAS_EVERY - 1)
			script_add(&s, "0 replicas");
		bool good = run_script(p, &s, where);
		script_clear(&s);
		free(where);
		if (!good)
			return false;
		if (option.round >= 0)
			break;
	}
	return true;
}

static const char *next(int argc, char **argv, int *i)
{
	if (*i + 1 >= argc)
		die("an option needs its value");
	return argv[++*i];
}

static bool take_place(const char *name, int argc, char **argv, int *i)
{
	struct place *p = &option.place;

	if (strcmp(name, "--direct") == 0)
		p->port[DIRECT] = (uint16_t)atoi(next(argc, argv, i));
	else if (strcmp(name, "--proxied") == 0)
		p->port[PROXIED] = (uint16_t)atoi(next(argc, argv, i));
	else if (strcmp(name, "--admin") == 0)
		p->admin_port = (uint16_t)atoi(next(argc, argv, i));
	else if (strcmp(name, "--root") == 0)
		p->root[DIRECT] = next(argc, argv, i);
	else if (strcmp(name, "--proxied-root") == 0)
		p->root[PROXIED] = next(argc, argv, i);
	else if (strcmp(name, "--replica") == 0 && p->replicas < REPLICAS)
		p->replica[p->replicas++] = next(argc, argv, i);
	else
		return false;
	return true;
}

static void take_options(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *name = argv[i];
		if (take_place(name, argc, argv, &i))
			continue;
		if (strcmp(name, "--data") == 0) {
			const char *folder = next(argc, argv, &i);
			option.place.definitions = option.definitions = xasprintf("%s/definitions.sql", folder);
			option.place.rows = option.rows = xasprintf("%s/rows.sql", folder);
		} else if (strcmp(name, "--statements") == 0)
			option.statements = strtoull(next(argc, argv, &i), NULL, 10);
		else if (strcmp(name, "--seed") == 0)
			option.seed = strtoull(next(argc, argv, &i), NULL, 10);
		else if (strcmp(name, "--round") == 0)
			option.round = strtol(next(argc, argv, &i), NULL, 10);
		else if (strcmp(name, "--mode") == 0)
			option.mode = next(argc, argv, &i);
		else if (strcmp(name, "--without") == 0)
			option.without = next(argc, argv, &i);
		else if (strcmp(name, "--out") == 0)
			option.out = next(argc, argv, &i);
		else if (strcmp(name, "--differences") == 0)
			option.differences = (unsigned)strtoul(next(argc, argv, &i), NULL, 10);
		else if (strcmp(name, "--tries") == 0)
			option.tries = (unsigned)strtoul(next(argc, argv, &i), NULL, 10);
		else if (strcmp(name, "--no-lag") == 0)
			option.lag = false;
		else if (name[0] != '-' && option.scripts < sizeof option.script / sizeof *option.script)
			option.script[option.scripts++] = name;
		else
			die("an unknown option");
	}
	if (option.place.port[DIRECT] == 0 || option.place.port[PROXIED] == 0 || option.rows == NULL ||
	    option.place.root[DIRECT] == NULL || option.place.root[PROXIED] == NULL)
		die("--direct, --proxied, --root, --proxied-root and --data are needed");
}

int main(int argc, char **argv)
{
	static struct pair pair;

	signal(SIGPIPE, SIG_IGN);
	take_options(argc, argv);
	struct gen *g = gen_new(option.without);
	if (g == NULL)
		return 2;
	pair.place = option.place;
	if (!pair_open(&pair))
		die(pair.why);
	if (option.lag)
		lag_start(&option.place);
	double begin = now();
	bool good = run_kept(&pair) && run_random(&pair, g);
	double seconds = now() - begin;
	pair_end_sessions(&pair);
	lag_stop();
	if (!good)
		fprintf(stderr, "diff: it cannot go on: %s\n", pair.why);
	printf("mode=%s seed=%llu statements=%llu seconds=%.1f rate=%.0f", option.mode, (unsigned long long)option.seed,
	       (unsigned long long)pair.statements, seconds, (double)pair.statements / seconds);
	printf(" differences=%u distinct=%u unreproduced=%u timing=%u\n", found, distinct, unreproduced, timing);
	gen_free(g);
	return !good ? 2 : found > 0;
}
