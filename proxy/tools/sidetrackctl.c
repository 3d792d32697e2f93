/* SPDX-License-Identifier: Apache-2.0
 *
 * The operator's command: a client of the admin port. Exit status: 0 done, 1 the proxy said no or does not answer,
 * 2 wrong usage, or a file that cannot be used.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <mysql.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/config.h"
#include "base/mem.h"
#include "base/version.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };
enum { CONNECT_SECONDS = 5, ANSWER_SECONDS = 60 };

static const char default_file[] = "/etc/sidetrack/sidetrack.conf";

static const char help[] =
	"Usage: sidetrackctl [OPTION]... COMMAND [ARGUMENT]...\n"
	"Asks and steers a running sidetrack through its admin port.\n"
	"\n"
	"Commands:\n"
	"  status              servers, cache and routes at a glance\n"
	"  explain \"SQL\"       where a statement would go, and why (\"SERVICE name SQL\": in a service)\n"
	"  cache               the cache, one line a rule\n"
	"  cache flush RULE    drops what a rule has cached (all: what every rule has)\n"
	"  drain SERVER        sends no new statements to a server\n"
	"  undrain SERVER      sends statements to it again\n"
	"  reload              reads the configuration again\n"
	"  config              every option with its value\n"
	"  events              topology and error history\n"
	"  query \"SQL\"         any statement of the admin port, such as a SELECT over its tables\n"
	"\n"
	"Options:\n"
	"  -c, --config FILE      the proxy's own file, for the admin address and account\n"
	"                         (default: /etc/sidetrack/sidetrack.conf)\n"
	"  --admin ADDR           the admin address by hand: host:port or /path/to.sock\n"
	"  --user USER            with --admin: the account (default: admin)\n"
	"  --password-file FILE   with --admin: its first line is the password\n"
	"  --schema NAME          explain: the schema of names without one\n"
	"  --help, --version\n"
	"\n"
	"Exit status: 0 done, 1 the proxy refused or does not answer, 2 wrong usage.\n";

struct target {
	struct addr addr;
	char *user, *password; /* password may be NULL */
	const char *schema;
};

static void complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void complain(const char *fmt, ...)
{
	va_list ap;

	fputs("sidetrackctl: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

/* --- Where the admin port is ------------------------------------------------------------------------------------ */

static void report(void *arg, const char *line)
{
	(void)arg;
	complain("%s", line);
}

static int target_from_file(struct target *t, const char *file)
{
	const struct config_options options = {.file = file, .unresolved = true};
	struct config *c = config_load(&options, report, NULL);
	unsigned use = 0;

	if (c == NULL)
		return -1;
	if (c->nadmin == 0) {
		complain("%s: [admin] has no listen: expected listen = 127.0.0.1:6032", file);
		config_unref(c);
		return -1;
	}
	while (c->admin_password == NULL && use < c->nadmin - 1 && !c->admin[use].is_unix)
		use++; /* without a password only a unix socket lets anyone in */
	t->addr = c->admin[use];
	t->user = xstrdup(c->admin_user);
	t->password = c->admin_password != NULL ? xstrdup(c->admin_password) : NULL;
	config_unref(c);
	return 0;
}

static char *read_password(const char *file)
{
	char line[512] = "";
	struct stat st;
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;

	if (f == NULL || fstat(fd, &st) != 0) {
		complain("%s: cannot be read: %s", file, strerror(errno));
	} else if (st.st_mode & 0007) {
		complain("%s: others can read this file, which holds a password: chmod o-rwx", file);
	} else if (fgets(line, sizeof line, f) == NULL) {
		complain("%s: is empty: expected a password in its first line", file);
	} else {
		line[strcspn(line, "\r\n")] = '\0';
		fclose(f);
		char *password = xstrdup(line);
		explicit_bzero(line, sizeof line);
		return password;
	}
	if (f != NULL)
		fclose(f);
	return NULL;
}

static int target_by_hand(struct target *t, const char *admin, const char *user, const char *password_file)
{
	const char *why;

	if (addr_parse(admin, 6032, &t->addr, &why) != 0) {
		complain("--admin %s: %s", admin, why);
		return -1;
	}
	t->user = xstrdup(user != NULL ? user : "admin");
	t->password = password_file != NULL ? read_password(password_file) : NULL;
	return password_file != NULL && t->password == NULL ? -1 : 0;
}

static MYSQL *log_in(const struct target *t)
{
	unsigned connect_limit = CONNECT_SECONDS, answer_limit = ANSWER_SECONDS;
	MYSQL *m = mysql_init(NULL);

	mysql_options(m, MYSQL_OPT_CONNECT_TIMEOUT, &connect_limit);
	mysql_options(m, MYSQL_OPT_READ_TIMEOUT, &answer_limit);
	if (mysql_real_connect(m, t->addr.is_unix ? NULL : t->addr.host, t->user,
			       t->password != NULL ? t->password : "", t->schema, t->addr.port,
			       t->addr.is_unix ? t->addr.host : NULL, 0) != NULL)
		return m;
	complain("the admin port at %s: %s", t->addr.text, mysql_error(m));
	mysql_close(m);
	return NULL;
}

/* --- Printing --------------------------------------------------------------------------------------------------- */

/* Text of peers must not drive the terminal. */
static void put_text(const char *s, int width, bool right)
{
	int n = (int)strlen(s);

	printf("%*s", right && width > n ? width - n : 0, "");
	for (const char *p = s; *p != '\0'; p++)
		putchar((unsigned char)*p < 0x20 || *p == 0x7f ? ' ' : *p);
	printf("%*s", !right && width > n ? width - n : 0, "");
}

static void print_table(MYSQL_RES *r)
{
	unsigned n = mysql_num_fields(r);
	MYSQL_FIELD *fields = mysql_fetch_fields(r);
	int *width = xcalloc(n, sizeof *width);
	bool *right = xcalloc(n, sizeof *right);

	for (unsigned i = 0; i < n; i++) {
		width[i] = (int)strlen(fields[i].name);
		right[i] = mysql_num_rows(r) > 0;
	}
	for (MYSQL_ROW row; (row = mysql_fetch_row(r)) != NULL;) {
		for (unsigned i = 0; i < n; i++) {
			const char *v = row[i] != NULL ? row[i] : "-";
			width[i] = (int)strlen(v) > width[i] ? (int)strlen(v) : width[i];
			right[i] &= row[i] == NULL || (v[0] != '\0' && strspn(v, "0123456789.-") == strlen(v));
		}
	}
	for (unsigned i = 0; i < n; i++) {
		put_text(fields[i].name, i + 1 < n || right[i] ? width[i] : 0, right[i]);
		fputs(i + 1 < n ? "  " : "\n", stdout);
	}
	mysql_data_seek(r, 0);
	for (MYSQL_ROW row; (row = mysql_fetch_row(r)) != NULL;) {
		for (unsigned i = 0; i < n; i++) {
			put_text(row[i] != NULL ? row[i] : "-", i + 1 < n || right[i] ? width[i] : 0, right[i]);
			fputs(i + 1 < n ? "  " : "\n", stdout);
		}
	}
	free(width);
	free(right);
}

/* Runs one statement and prints its rows. */
static int run(MYSQL *m, const char *sql)
{
	if (mysql_real_query(m, sql, strlen(sql)) != 0) {
		complain("%s", mysql_error(m));
		return EXIT_FAILED;
	}
	MYSQL_RES *r = mysql_store_result(m);
	if (r != NULL) {
		print_table(r);
		mysql_free_result(r);
	} else if (mysql_errno(m) != 0) {
		complain("%s", mysql_error(m));
		return EXIT_FAILED;
	}
	return EXIT_DONE;
}

/* --- Commands --------------------------------------------------------------------------------------------------- */

static int do_status(MYSQL *m, char **args)
{
	static const char *const parts[][2] = {
		{NULL, "SELECT key, value FROM config"
		       " WHERE section = 'proxy' AND key IN ('listen', 'mode', 'consistency')"},
		{"Servers", "SELECT name, address, role, state, weight, lag_ms, connections_active AS active,"
			    " connections_idle AS idle, outstanding,"
			    " CASE drained WHEN 1 THEN 'drained ' ELSE '' END || why AS note, service FROM servers"},
		{"Cache", "SELECT rule, table_name, store, hits, misses,"
			  " CASE WHEN hits + misses > 0 THEN round(100.0 * hits / (hits + misses), 1) END"
			  " AS hit_percent, bypasses, invalidations, entries, bytes, service FROM cache"},
		{"Routes", "SELECT server, reason, count,"
			   " round(100.0 * count / (SELECT sum(count) FROM routes), 1) AS percent, text"
			   " FROM routes ORDER BY reason NOT LIKE 'would_move%', count DESC LIMIT 40"},
	};
	int rc = EXIT_DONE;

	(void)args;
	for (unsigned i = 0; rc == EXIT_DONE && i < sizeof parts / sizeof *parts; i++) {
		if (parts[i][0] != NULL)
			printf("\n%s\n", parts[i][0]);
		rc = run(m, parts[i][1]);
	}
	return rc;
}

static bool is_name(const char *s)
{
	for (const char *p = s; *p != '\0'; p++)
		if (!isalnum((unsigned char)*p) && strchr("_-.", *p) == NULL)
			return false;
	return *s != '\0';
}

/* "verb `name`", for names that a configuration can have. */
static int run_named(MYSQL *m, const char *verb, const char *name)
{
	if (!is_name(name)) {
		complain("\"%s\" is not a name", name);
		return EXIT_USAGE;
	}
	char *sql = xasprintf("%s `%s`", verb, name);
	int rc = run(m, sql);
	free(sql);
	return rc;
}

static int do_drain(MYSQL *m, char **args)
{
	return run_named(m, "DRAIN", args[0]);
}

static int do_undrain(MYSQL *m, char **args)
{
	return run_named(m, "UNDRAIN", args[0]);
}

static int do_flush(MYSQL *m, char **args)
{
	if (strcmp(args[0], "flush") == 0)
		return run_named(m, "FLUSH CACHE", args[1]);
	complain("cache %s: expected cache, or cache flush RULE", args[0]);
	return EXIT_USAGE;
}

static int do_explain(MYSQL *m, char **args)
{
	char *sql = xasprintf("EXPLAIN ROUTE %s", args[0]);
	int rc = run(m, sql);

	free(sql);
	return rc;
}

static int do_query(MYSQL *m, char **args)
{
	return run(m, args[0]);
}

static const struct command {
	const char *name;
	int args;
	int (*run)(MYSQL *m, char **args); /* NULL: sql does it; neither: a later version */
	const char *sql;
} commands[] = {
	{"status", 0, do_status, NULL},
	{"explain", 1, do_explain, NULL},
	{"cache", 0, NULL, "SELECT * FROM cache"},
	{"cache", 2, do_flush, NULL},
	{"drain", 1, do_drain, NULL},
	{"undrain", 1, do_undrain, NULL},
	{"reload", 0, NULL, "RELOAD"},
	{"config", 0, NULL, "SELECT * FROM config"},
	{"events", 0, NULL, "SELECT * FROM events"},
	{"query", 1, do_query, NULL},
	{"top", 0, NULL, NULL},
	{"digests", 0, NULL, NULL},
	{"tap", 0, NULL, NULL},
};

/* NULL after a complaint. */
static const struct command *find_command(int argc, char **argv)
{
	const struct command *named = NULL;

	for (unsigned i = 0; i < sizeof commands / sizeof *commands; i++) {
		const struct command *c = &commands[i];
		if (strcmp(argv[0], c->name) != 0)
			continue;
		named = c;
		if (c->run == NULL && c->sql == NULL)
			break;
		if (c->args == argc - 1)
			return c;
	}
	if (named == NULL)
		complain("unknown command \"%s\": see sidetrackctl --help", argv[0]);
	else if (named->run == NULL && named->sql == NULL)
		complain("%s comes with a later version of Sidetrack", argv[0]);
	else
		complain("%s takes %d argument%s, not %d: see sidetrackctl --help", argv[0], named->args,
			 named->args == 1 ? "" : "s", argc - 1);
	return NULL;
}

static int connect_and_run(const struct target *t, const struct command *c, char **args)
{
	MYSQL *m = log_in(t);

	if (m == NULL)
		return EXIT_FAILED;
	int rc = c->run != NULL ? c->run(m, args) : run(m, c->sql);
	mysql_close(m);
	return rc;
}

struct arguments {
	const char *file, *admin, *user, *password_file, *schema;
};

/* Returns -1, or the exit status when that was all. */
static int parse_options(int argc, char **argv, struct arguments *a)
{
	enum { OPT_ADMIN = 256, OPT_USER, OPT_PASSWORD_FILE, OPT_SCHEMA, OPT_HELP, OPT_VERSION };
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"admin", required_argument, NULL, OPT_ADMIN},
		{"user", required_argument, NULL, OPT_USER},
		{"password-file", required_argument, NULL, OPT_PASSWORD_FILE},
		{"schema", required_argument, NULL, OPT_SCHEMA},
		{"help", no_argument, NULL, OPT_HELP},
		{"version", no_argument, NULL, OPT_VERSION},
		{NULL, 0, NULL, 0},
	};

	*a = (struct arguments){.file = default_file};
	for (int o; (o = getopt_long(argc, argv, "+c:", options, NULL)) != -1;) {
		switch (o) {
		case 'c':
			a->file = optarg;
			break;
		case OPT_ADMIN:
			a->admin = optarg;
			break;
		case OPT_USER:
			a->user = optarg;
			break;
		case OPT_PASSWORD_FILE:
			a->password_file = optarg;
			break;
		case OPT_SCHEMA:
			a->schema = optarg;
			break;
		case OPT_HELP:
			fputs(help, stdout);
			return EXIT_DONE;
		case OPT_VERSION:
			puts("sidetrackctl " SIDETRACK_VERSION);
			return EXIT_DONE;
		default:
			return EXIT_USAGE;
		}
	}
	if (a->admin == NULL && (a->user != NULL || a->password_file != NULL)) {
		complain("--user and --password-file go with --admin");
		return EXIT_USAGE;
	}
	return -1;
}

int main(int argc, char **argv)
{
	struct arguments a;
	int rc = parse_options(argc, argv, &a);

	if (rc >= 0)
		return rc;
	if (optind == argc) {
		fputs(help, stderr);
		return EXIT_USAGE;
	}
	const struct command *c = find_command(argc - optind, argv + optind);
	if (c == NULL)
		return EXIT_USAGE;
	struct target t = {.schema = a.schema};
	rc = a.admin != NULL ? target_by_hand(&t, a.admin, a.user, a.password_file) : target_from_file(&t, a.file);
	rc = rc != 0 ? EXIT_USAGE : connect_and_run(&t, c, argv + optind + 1);
	if (t.password != NULL)
		explicit_bzero(t.password, strlen(t.password));
	free(t.password);
	free(t.user);
	return rc;
}
