/* SPDX-License-Identifier: Apache-2.0
 *
 * sidetrackctl, run in this process against the admin port of a made-up proxy: exit status, and what it prints.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_proxy.h"
#include "service/admin.h"

int sidetrackctl_main(int argc, char **argv);
#define main sidetrackctl_main
#define report ctl_report
#define help ctl_help
#include "tools/sidetrackctl.c"
#undef main
#undef report
#undef help

static struct admin *admin;
static char conf[100], password_file[100], printed[16384];

static void write_private(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	assert_int_equal(chmod(path, 0600), 0);
}

static int start(void **state)
{
	char *text;

	(void)state;
	fake_up();
	for (unsigned tries = 0; admin == NULL && tries < 20; tries++) {
		fake_next_port();
		admin = admin_start(&ops, fake.config);
	}
	assert_non_null(admin);
	snprintf(conf, sizeof conf, "%s/ctl.conf", fake.dir);
	snprintf(password_file, sizeof password_file, "%s/password", fake.dir);
	text = xasprintf("[server.a]\naddress = a.name.that.is.nowhere.invalid\n[admin]\nuser = dba\n"
			 "password = s3cret\nlisten = 127.0.0.1:%u\n", fake.port);
	write_private(conf, text);
	write_private(password_file, "s3cret\n");
	free(text);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	admin_stop(admin);
	unlink(conf);
	unlink(password_file);
	return fake_down();
}

/* Runs `sidetrackctl words...` (NULL-terminated); what it says on both streams is in printed. */
static int run_ctl(char *const *words)
{
	char *argv[16] = {(char *)"sidetrackctl"};
	int argc = 1, saved[2] = {dup(1), dup(2)};
	FILE *f = tmpfile();

	while (words[argc - 1] != NULL) {
		argv[argc] = words[argc - 1];
		argc++;
	}
	assert_non_null(f);
	fflush(stdout);
	dup2(fileno(f), 1);
	dup2(fileno(f), 2);
	optind = 0; /* glibc: begin anew */
	int rc = sidetrackctl_main(argc, argv);
	fflush(stdout);
	dup2(saved[0], 1);
	dup2(saved[1], 2);
	close(saved[0]);
	close(saved[1]);
	rewind(f);
	printed[fread(printed, 1, sizeof printed - 1, f)] = '\0';
	fclose(f);
	return rc;
}

static void commands_and_their_status(void **state)
{
	static const struct {
		const char *words[6]; /* with a NULL at the end */
		int status;
		const char *want; /* somewhere in what it prints */
	} rows[] = {
		{{"--version"}, 0, "sidetrackctl 0."},
		{{"--help"}, 0, "Usage: sidetrackctl"},
		{{NULL}, 2, "Usage: sidetrackctl"},
		{{"--nix"}, 2, "--nix"},
		{{"frobnicate"}, 2, "unknown command \"frobnicate\""},
		{{"top"}, 2, "top comes with a later version"},
		{{"digests"}, 2, "digests comes with a later version"},
		{{"tap", "x"}, 2, "tap comes with a later version"},
		{{"drain"}, 2, "drain takes 1 argument, not 0"},
		{{"--user", "x", "status"}, 2, "go with --admin"},
		{{"-c", "/nix/nix", "status"}, 2, "/nix/nix: cannot be read"},
		{{"--admin", "127.0.0.1:x", "status"}, 2, "port must be 1 to 65535"},
		{{"-c", conf, "status"}, 0, "\nServers\nname  address        role     state"},
		{{"-c", conf, "status"}, 0, "db2   10.0.0.3:3306  replica  up"},
		{{"-c", conf, "explain", "SELECT '\x1b[2J'"}, 0, "statement  SELECT ' [2J'\n"},
		{{"-c", conf, "cache"}, 0, "token  app.t"},
		{{"-c", conf, "cache", "flush", "token"}, 0, ""},
		{{"-c", conf, "cache", "flush", "nix"}, 1, "no cache rule has the name 'nix'"},
		{{"-c", conf, "cache", "drop", "token"}, 2, "expected cache, or cache flush RULE"},
		{{"-c", conf, "drain", "db1"}, 0, ""},
		{{"-c", conf, "undrain", "db9"}, 1, "no server has the name 'db9'"},
		{{"-c", conf, "drain", "db1`; x"}, 2, "is not a name"},
		{{"-c", conf, "reload"}, 1, "not reloaded: x.conf:3: wrong"},
		{{"-c", conf, "config"}, 0, "password                 ***"},
		{{"-c", conf, "events"}, 0, "drained by dba@127.0.0.1"},
		{{"-c", conf, "query", "SELECT 1 AS a, NULL AS b"}, 0, "a  b\n1  -\n"},
		{{"-c", conf, "query", "SELECT * FROM statements"}, 1, "comes with a later version"},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		int status = run_ctl((char *const *)rows[i].words);
		if (status != rows[i].status || strstr(printed, rows[i].want) == NULL)
			fail_msg("row %u: status %d, printed:\n%s\nwant %d:\n%s", i, status, printed, rows[i].status,
				 rows[i].want);
	}
}

static void the_address_by_hand(void **state)
{
	char address[32], user[16] = "dba", admin_[] = "--admin", user_[] = "--user", file_[] = "--password-file";
	char query[] = "query", sql[] = "SELECT 7";
	char *const words[] = {admin_, address, user_, user, file_, password_file, query, sql, NULL};

	(void)state;
	snprintf(address, sizeof address, "127.0.0.1:%u", fake.port);
	assert_int_equal(run_ctl(words), 0);
	assert_non_null(strstr(printed, "7\n"));
	snprintf(user, sizeof user, "someone");
	assert_int_equal(run_ctl(words), 1);
	assert_non_null(strstr(printed, "Access denied"));
	assert_int_equal(chmod(password_file, 0644), 0);
	assert_int_equal(run_ctl(words), 2);
	assert_non_null(strstr(printed, "others can read this file"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commands_and_their_status),
		cmocka_unit_test(the_address_by_hand),
	};
	return cmocka_run_group_tests(tests, start, stop);
}
