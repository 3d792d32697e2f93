/* SPDX-License-Identifier: Apache-2.0
 *
 * sidetrack-run: starts a program with its database connections redirected.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "names.h"
#include "program.h"
#include "supervise.h"

#ifndef ST_VERSION
#define ST_VERSION "1.0"
#endif

/* What a shell, env(1) and timeout(1) answer for the same. */
enum { EXIT_BAD_OPTION = 2, EXIT_OWN_FAILURE = 125, EXIT_NOT_RUNNABLE = 126, EXIT_NOT_FOUND = 127 };

enum mode { MODE_AUTO, MODE_PRELOAD, MODE_SECCOMP };

struct order {
	struct rules rules;
	const char *to;
	char match[16 * 1024]; /* all --match, as one list; empty: the default rules */
	enum mode mode;
	bool children;
	bool deny_io_uring;
};

static const char help[] =
	"usage: sidetrack-run --to ADDRESS [--match RULE]... [options] -- PROGRAM [ARGS]\n"
	"\n"
	"Runs an unmodified program with its database connections redirected to the proxy.\n"
	"\n"
	"  --to ADDRESS      the proxy: host:port, [v6]:port or /path/to.sock (default: $SIDETRACK_TO)\n"
	"  --match RULE      which connections: host:port, 10.0.0.0/8:port, [v6]:port, [v6/bits]:port, name:port,\n"
	"                    *:port or /path/to.sock; several, or a comma list; port 3306 if none is given\n"
	"                    (default: $SIDETRACK_MATCH, else *:3306 and the usual mysqld.sock paths)\n"
	"  --strict          an unreachable proxy fails the connection (default: it goes to its real destination)\n"
	"  --send-proxy      begin each connection with a PROXY protocol v2 header: who the client is, what it wanted\n"
	"  --mode MODE       preload, seccomp, or auto (default): preload where it works, else seccomp\n"
	"  --no-children     only this program, not those that it starts (default: --for-children)\n"
	"  --no-peername     getpeername() tells the truth (preload)\n"
	"  --deny-io-uring   seccomp: io_uring_setup() fails with ENOSYS, as connections made there are not seen\n"
	"  --debug           one line on stderr for each connection that a rule is about\n"
	"  --version, --help\n"
	"\n"
	"Without sidetrack-run: LD_PRELOAD=libsidetrack.so with SIDETRACK_TO, SIDETRACK_MATCH, SIDETRACK_STRICT=1,\n"
	"SIDETRACK_SEND_PROXY=1, SIDETRACK_PEERNAME=0, SIDETRACK_CHILDREN=0, SIDETRACK_DEBUG=1.\n"
	"\n"
	"Exit status: the program's; 2 bad option or rule, 125 cannot redirect, 126 cannot run it, 127 not there.\n";

__attribute__((noreturn)) static void bad_text(const char *what, struct text where, const char *why)
{
	fprintf(stderr, "sidetrack-run: %s \"%.*s\": %s\n", what, (int)where.n, where.p, why);
	exit(EXIT_BAD_OPTION);
}

__attribute__((noreturn)) static void bad_usage(const char *what)
{
	fprintf(stderr, "sidetrack-run: %s (--help tells more)\n", what);
	exit(EXIT_BAD_OPTION);
}

static void add_match(struct order *o, const char *list)
{
	struct rules_error err;
	size_t used = strlen(o->match);

	if (!rules_add(&o->rules, text_of(list), &err))
		bad_text("bad rule", err.where, err.why);
	if (used + strlen(list) + 2 > sizeof(o->match))
		bad_text("bad rule", text_of(list), "too many rules");
	snprintf(o->match + used, sizeof(o->match) - used, "%s%s", used > 0 ? "," : "", list);
}

static enum mode mode_of(const char *word)
{
	static const char *const words[] = {"auto", "preload", "seccomp"};

	for (enum mode m = MODE_AUTO; m <= MODE_SECCOMP; m++)
		if (strcmp(word, words[m]) == 0)
			return m;
	bad_text("bad --mode", text_of(word), "expected auto, preload or seccomp");
}

enum {
	TO = 1, MATCH, STRICT, SEND_PROXY, MODE, FOR_CHILDREN, NO_CHILDREN, NO_PEERNAME, DENY_IO_URING, DEBUG, VERSION,
	HELP
};

static const struct option options[] = {
	{"to", required_argument, NULL, TO},
	{"match", required_argument, NULL, MATCH},
	{"strict", no_argument, NULL, STRICT},
	{"send-proxy", no_argument, NULL, SEND_PROXY},
	{"mode", required_argument, NULL, MODE},
	{"for-children", no_argument, NULL, FOR_CHILDREN},
	{"no-children", no_argument, NULL, NO_CHILDREN},
	{"no-peername", no_argument, NULL, NO_PEERNAME},
	{"deny-io-uring", no_argument, NULL, DENY_IO_URING},
	{"debug", no_argument, NULL, DEBUG},
	{"version", no_argument, NULL, VERSION},
	{"help", no_argument, NULL, HELP},
	{0},
};

static void take_option(struct order *o, int which)
{
	switch (which) {
	case TO: o->to = optarg; break;
	case MATCH: add_match(o, optarg); break;
	case STRICT: o->rules.strict = true; break;
	case SEND_PROXY: o->rules.send_proxy = true; break;
	case MODE: o->mode = mode_of(optarg); break;
	case FOR_CHILDREN: o->children = true; break;
	case NO_CHILDREN: o->children = false; break;
	case NO_PEERNAME: o->rules.peername = false; break;
	case DENY_IO_URING: o->deny_io_uring = true; break;
	case DEBUG: o->rules.debug = true; break;
	case VERSION: puts("sidetrack-run " ST_VERSION); exit(0);
	case HELP: fputs(help, stdout); exit(0);
	default: bad_usage("what is wanted?");
	}
}

static void read_options(struct order *o, int argc, char **argv)
{
	const char *why, *match = getenv("SIDETRACK_MATCH");
	int which;

	while ((which = getopt_long(argc, argv, "+", options, NULL)) != -1)
		take_option(o, which);
	if (o->to == NULL && (o->to = getenv("SIDETRACK_TO")) == NULL)
		bad_usage("--to is missing: where is the proxy?");
	if (!names_endpoint(text_of(o->to), &o->rules.to, &why))
		bad_text("bad --to", text_of(o->to), why);
	if (o->rules.n == 0 && match != NULL)
		add_match(o, match);
	if (o->rules.n == 0)
		rules_add_defaults(&o->rules);
	if (optind == argc)
		bad_usage("which program?");
	o->rules.on = true;
	names_learn(&o->rules);
}

/* For programs that look names up without getaddrinfo(): what a name means now is in the list as well. */
static void add_learned(struct order *o)
{
	for (unsigned i = 0; i < LEARNED_MAX && i < o->rules.learned_n; i++) {
		const struct learned *l = &o->rules.learned[i];
		struct endpoint e = {.len = sizeof(e.u.in6)};
		char text[ENDPOINT_TEXT_MAX];
		struct rules_error err;
		size_t used = strlen(o->match);

		e.u.in6.sin6_family = AF_INET6;
		memcpy(&e.u.in6.sin6_addr, (const void *)l->ip, 16);
		e.u.in6.sin6_port = htons(o->rules.v[l->rule_plus_1 - 1].port);
		size_t n = endpoint_text(&e, text);
		if (used + n + 2 > sizeof(o->match) || !rules_add(&o->rules, (struct text){text, n}, &err))
			return;
		snprintf(o->match + used, sizeof(o->match) - used, ",%s", text);
	}
}

/* Beside this program in a build tree, in ../lib where it is installed. */
static bool find_library(char path[PATH_MAX])
{
	static const char *const places[] = {"", "/../lib", "/../lib/sidetrack"};
	char own[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);

	if (n <= 0)
		return false;
	own[n] = '\0';
	*strrchr(own, '/') = '\0';
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		char name[2 * PATH_MAX];

		snprintf(name, sizeof(name), "%s%s/libsidetrack.so", own, places[i]);
		/* LD_PRELOAD cannot say these two */
		if (realpath(name, path) != NULL && strpbrk(path, " :") == NULL)
			return true;
	}
	return false;
}

static void set_switch(const char *name, bool on)
{
	setenv(name, on ? "1" : "0", 1);
}

/* Last in line: a sanitizer's library insists on being first. */
static void set_preload(struct order *o, const char *library)
{
	const char *before = getenv("LD_PRELOAD");
	char to[ENDPOINT_TEXT_MAX], *all = NULL;
	bool there = before != NULL && strstr(before, library) != NULL;

	add_learned(o);
	endpoint_text(&o->rules.to, to);
	setenv("SIDETRACK_TO", to, 1);
	if (o->match[0] != '\0')
		setenv("SIDETRACK_MATCH", o->match, 1);
	set_switch("SIDETRACK_STRICT", o->rules.strict);
	set_switch("SIDETRACK_SEND_PROXY", o->rules.send_proxy);
	set_switch("SIDETRACK_PEERNAME", o->rules.peername);
	set_switch("SIDETRACK_CHILDREN", o->children);
	set_switch("SIDETRACK_DEBUG", o->rules.debug);
	if (there)
		return;
	if (asprintf(&all, "%s%s%s", before != NULL ? before : "", before != NULL && *before ? ":" : "", library) < 0)
		exit(EXIT_OWN_FAILURE);
	setenv("LD_PRELOAD", all, 1);
	free(all);
}

static bool preload_works(enum program_kind kind)
{
	return kind == PROGRAM_DYNAMIC || kind == PROGRAM_UNKNOWN;
}

/* Fail open: a program that cannot be redirected still runs, unless somebody asked for the redirection by name. */
static void give_up(const struct order *o, const char *program, const char *why)
{
	bool fatal = o->rules.strict || o->mode != MODE_AUTO;

	fprintf(stderr, "sidetrack-run: %s: %s%s\n", program, why, fatal ? "" : "; it runs without redirection");
	if (fatal)
		exit(EXIT_OWN_FAILURE);
}

static void arrange(struct order *o, const struct program *p)
{
	struct supervise s = {&o->rules, o->children, o->deny_io_uring, p->path};
	char library[PATH_MAX];
	const char *why;
	bool found = preload_works(p->kind) && find_library(library);

	if (p->kind == PROGRAM_FOREIGN) {
		give_up(o, p->path, "is for another architecture");
	} else if (o->mode == MODE_PRELOAD && !found) {
		give_up(o, p->path, preload_works(p->kind) ? "no libsidetrack.so found" : program_kind_text(p->kind));
	} else if (found && o->mode != MODE_SECCOMP) {
		set_preload(o, library);
	} else {
		if (p->kind == PROGRAM_PRIVILEGED && geteuid() != 0)
			fprintf(stderr, "sidetrack-run: %s: runs without its extra privileges\n", p->path);
		if (!supervise_start(&s, &why))
			give_up(o, p->path, why);
	}
}

int main(int argc, char **argv)
{
	static struct order o = {.children = true, .rules.peername = true};
	static struct program p;

	read_options(&o, argc, argv);
	program_inspect(argv[optind], &p);
	if (p.kind != PROGRAM_MISSING)
		arrange(&o, &p);
	execvp(argv[optind], argv + optind);
	fprintf(stderr, "sidetrack-run: %s: %s\n", argv[optind], strerror(errno));
	return errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_RUNNABLE;
}
