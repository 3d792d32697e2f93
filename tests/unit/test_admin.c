/* SPDX-License-Identifier: Apache-2.0
 *
 * The admin port on a unix socket and on TCP, over a proxy that is made up, asked by a real client library.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <mysql.h>

#include "fake_proxy.h"
#include "service/admin.h"

static struct admin *admin;

static int start(void **state)
{
	(void)state;
	fake_up();
	for (unsigned tries = 0; admin == NULL && tries < 20; tries++) {
		fake_next_port();
		admin = admin_start(&ops, fake.config);
	}
	assert_non_null(admin);
	return 0;
}

static int stop(void **state)
{
	char path[100];

	(void)state;
	admin_stop(admin);
	snprintf(path, sizeof path, "%s/sock", fake.dir);
	assert_int_not_equal(access(path, F_OK), 0);
	return fake_down();
}

static MYSQL *log_in(const char *user, const char *password, bool tcp)
{
	MYSQL *m = mysql_init(NULL);
	char path[100];

	snprintf(path, sizeof path, "%s/sock", fake.dir);
	if (mysql_real_connect(m, tcp ? "127.0.0.1" : NULL, user, password, NULL, fake.port, tcp ? NULL : path, 0) ==
	    NULL) {
		mysql_close(m);
		return NULL;
	}
	return m;
}

/* All values of the answer, with | between columns and newlines between rows; "ERR n text" for an error. */
static const char *ask(MYSQL *m, const char *sql)
{
	static char text[65536];
	size_t n = 0;

	text[0] = '\0';
	if (mysql_query(m, sql) != 0) {
		snprintf(text, sizeof text, "ERR %u %s", mysql_errno(m), mysql_error(m));
		return text;
	}
	MYSQL_RES *r = mysql_store_result(m);
	if (r == NULL)
		return "OK";
	for (MYSQL_ROW row; (row = mysql_fetch_row(r)) != NULL;)
		for (unsigned i = 0; i < mysql_num_fields(r); i++)
			n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", row[i] != NULL ? row[i] : "NULL",
					      i + 1 < mysql_num_fields(r) ? "|" : "\n");
	mysql_free_result(r);
	return text;
}

static void asks(void **state)
{
	static const struct {
		const char *sql, *want; /* want is the beginning of the answer */
	} rows[] = {
		{"SELECT name, role, state, weight, drained FROM servers ORDER BY name", "db1|primary|up|1|0\ndb2|"
											 "replica|up|1|0\n"},
		{"SELECT lag_ms IS NULL, lag_ms >= 20 FROM servers ORDER BY name", "1|NULL\n0|1\n"},
		{"SELECT address FROM servers WHERE name = 'db2'", "10.0.0.3:3306\n"},
		{"SELECT server, reason, count FROM routes ORDER BY count", "|would_move_replica|1\ndb2|read|2\nserver-"
									    "9|write|3\n"},
		{"SELECT rule, table_name, store, hits, misses, invalidations, entries, bytes, evictions FROM cache",
		 "token|app.t|memory|1|0|1|7|1000|3\n"},
		{"SELECT value FROM config WHERE section = 'server.db1' AND key = 'address'", "127.0.0.1:1\n"},
		{"SELECT value FROM config WHERE section = 'admin' AND key = 'password'", "***\n"},
		{"SELECT kind, server, text FROM events WHERE kind = 'test'", "test|db2|hello\n"},
		{"select @@version_comment limit 1", "Sidetrack admin port\n"},
		{"SELECT @@session.autocommit, @@nothing, '@@version'", "1|NULL|@@version\n"},
		{"/* driver */ SELECT 1;", "1\n"},
		{"(SELECT 1)", "ERR 1064"}, /* sqlite does not take it, but says so */
		{"WITH x AS (SELECT 2 AS n) SELECT n FROM x", "2\n"},
		{"SELECT version()", "10.11.0-Sidetrack"},
		{"SELECT DATABASE(), USER()", "NULL|dba@127.0.0.1\n"},
		{"SELECT concat('a', 1, 'b')", "a1b\n"},
		{"SET NAMES utf8mb4", "OK"},
		{"SET autocommit=1", "OK"},
		{"BEGIN", "OK"},
		{"COMMIT", "OK"},
		{"/*!40101 SET NAMES utf8 */", "OK"},
		{"SHOW TABLES", "cache\nconfig\nevents\nroutes\nservers\nvariables\n"},
		{"SHOW DATABASES", "sidetrack\n"},
		{"SHOW VARIABLES LIKE 'lower_case%'", "lower_case_table_names|0\n"},
		{"SHOW SESSION VARIABLES WHERE Variable_name = 'autocommit'", "autocommit|1\n"},
		{"SHOW WARNINGS", ""},
		{"SHOW PROCESSLIST", "ERR 1064"},
		{"DESCRIBE events", "time|TEXT|YES||NULL|\n"},
		{"SHOW FULL COLUMNS FROM `events`", "time|TEXT|YES||NULL|\n"},
		{"DESC nix", "ERR 1146"},
		{"SELECT * FROM statements", "ERR 1146 no such table: statements comes with a later version"},
		{"SELECT * FROM connections", "ERR 1146 no such table: connections comes with a later version"},
		{"SELECT * FROM nix", "ERR 1146 no such table: nix"},
		{"SELECT nix FROM servers", "ERR 1054"},
		{"SELECT 1; SELECT 2", "ERR 1064 one statement at a time"},
		{"INSERT INTO servers VALUES (1)", "ERR 1064"},
		{"WITH x AS (SELECT 1) DELETE FROM servers", "ERR 1064 only SELECT is allowed here"},
		{"SELECT load_extension('x')", "ERR 1064"},
		{"SELECT * FROM pragma_database_list", "ERR 1064"},
		{"WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT n FROM r", "ERR 1064 more "
												    "than"},
		{"WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r",
		 "ERR 1064 the query took longer than 2000 ms"},
		{"SELECT randomblob(100000000)", "ERR 1064"},
		{"USE app", "OK"},
		{"SELECT DATABASE()", "app\n"},
		{"EXPLAIN ROUTE SELECT * FROM t WHERE a = 'x;'; ", "statement|SELECT * FROM t WHERE a = "
								   "'x;'\nschema|app\n"},
		{"explain  route", "ERR 1064"},
		{"EXPLAIN SELECT 1", "ERR 1064"},
		{"DRAIN db1", "OK"},
		{"UNDRAIN `db1`;", "OK"},
		{"DRAIN db9", "ERR 1105 no server has the name 'db9'"},
		{"DRAIN", "ERR 1064"},
		{"DRAIN db1 now", "ERR 1064"},
		{"FLUSH CACHE token", "OK"},
		{"FLUSH CACHE nix", "ERR 1105"},
		{"FLUSH TABLES", "ERR 1064"},
		{"FLUSH CACHE ALL", "OK"},
		{"RELOAD", "ERR 1105 not reloaded: x.conf:3: wrong"},
		{"KILL 42", "OK"},
		{"KILL QUERY 41", "ERR 1105 no connection 41 1"},
		{"KILL x", "ERR 1064"},
		{"SELECT count(*) > 1 FROM events WHERE kind = 'admin'", "1\n"},
		{"nonsense", "ERR 1064 Sidetrack admin: expected SELECT"},
	};
	struct stats *s = stats_new();
	MYSQL *m = log_in("dba", "s3cret", true);

	(void)state;
	assert_non_null(m);
	stats_routed(s, 3, ROUTE_READ);
	stats_routed(s, 3, ROUTE_READ);
	for (int i = 0; i < 3; i++)
		stats_routed(s, 9, ROUTE_WRITE);
	stats_would_move(s, STAT_REPLICA);
	stats_cache(s, fake.config->rules[0].stats_id, STAT_HIT);
	stats_invalidation(s, fake.config->rules[0].stats_id, STAT_INVAL_WRITE);
	events_add("test", "db2", "hello");
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		const char *got = ask(m, rows[i].sql);
		if (strncmp(got, rows[i].want, strlen(rows[i].want)) != 0)
			fail_msg("%s\n got: %s\nwant: %s", rows[i].sql, got, rows[i].want);
	}
	assert_string_equal(fake.drained, "db1 0");
	assert_string_equal(fake.flushed, "(all)");
	stats_free(s);
	mysql_close(m);
}

static void commands(void **state)
{
	MYSQL *m = log_in("dba", "s3cret", false);

	(void)state;
	assert_non_null(m);
	assert_int_equal(mysql_ping(m), 0);
	assert_int_equal(mysql_select_db(m, "other"), 0);
	assert_string_equal(ask(m, "SELECT DATABASE(), connection_id() > 0"), "other|1\n");
	assert_string_equal(mysql_stat(m), "Sidetrack admin port");
	MYSQL_RES *r = mysql_list_fields(m, "servers", NULL);
	assert_non_null(r);
	mysql_free_result(r);
	MYSQL_STMT *st = mysql_stmt_init(m);
	assert_int_not_equal(mysql_stmt_prepare(st, "SELECT 1", 8), 0);
	assert_int_equal(mysql_stmt_errno(st), 1295);
	mysql_stmt_close(st);
	assert_int_equal(mysql_reset_connection(m), 0);
	assert_string_equal(ask(m, "SELECT 1"), "1\n");
	mysql_close(m);
}

/* Anything at all as a login or a command: an error or a closed connection, and the port goes on. */
static void garbage(void **state)
{
	static const uint8_t heads[][8] = {
		{0, 0, 0, 1}, {1, 0, 0, 1, 0}, {4, 0, 0, 1, 0xff, 0xff, 0xff, 0xff}, {0xff, 0xff, 0xff, 1},
		{32, 0, 0, 1, 0, 2, 0, 0},
	};
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)fake.port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	uint8_t bytes[256], back[1024];
	uint32_t random = 1;

	(void)state;
	for (unsigned round = 0; round < 300; round++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
		for (unsigned i = 0; i < sizeof bytes; i++)
			bytes[i] = (uint8_t)((random = random * 1103515245 + 12345) >> 16);
		memcpy(bytes, heads[round % (sizeof heads / sizeof *heads)], sizeof *heads);
		assert_true(send(fd, bytes, 8 + bytes[200] % 240, MSG_NOSIGNAL) > 0);
		shutdown(fd, SHUT_WR);
		while (recv(fd, back, sizeof back, 0) > 0)
			;
		close(fd);
	}
	MYSQL *m = log_in("dba", "s3cret ;x", true);
	assert_null(m); /* the password in the file ends before the comment */
	m = log_in("dba", "s3cret", true);
	assert_non_null(m);
	mysql_close(m);
}

static void logins(void **state)
{
	struct config *without = make_config(NULL), *with = fake.config;
	MYSQL *m;

	(void)state;
	assert_null(log_in("dba", "wrong", true));
	assert_null(log_in("dba", "", true));
	assert_null(log_in("admin", "s3cret", true));
	assert_null(log_in("dba", "", false));
	fake.config = without;
	assert_null(log_in("dba", "", true));
	m = log_in("dba", "", false);
	assert_non_null(m);
	mysql_close(m);
	fake.config = with;
	config_unref(without);
}

static void too_many(void **state)
{
	MYSQL *m[ADMIN_CONNECTIONS], *more;

	(void)state;
	for (unsigned i = 0; i < ADMIN_CONNECTIONS; i++) {
		/* those of the tests before may still be going */
		for (unsigned tries = 0; (m[i] = log_in("dba", "s3cret", false)) == NULL && tries < 1000; tries++)
			usleep(10000);
		assert_non_null(m[i]);
	}
	more = log_in("dba", "s3cret", true);
	assert_null(more);
	for (unsigned i = 0; i < ADMIN_CONNECTIONS / 2; i++)
		mysql_close(m[i]); /* the others stay for admin_stop to end */
	for (unsigned i = ADMIN_CONNECTIONS / 2; i < ADMIN_CONNECTIONS; i++)
		assert_string_equal(ask(m[i], "SELECT 1"), "1\n");
	admin_stop(admin);
	admin = NULL;
	for (unsigned i = ADMIN_CONNECTIONS / 2; i < ADMIN_CONNECTIONS; i++)
		mysql_close(m[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(asks),
		cmocka_unit_test(commands),
		cmocka_unit_test(garbage),
		cmocka_unit_test(logins),
		cmocka_unit_test(too_many),
	};
	return cmocka_run_group_tests(tests, start, stop);
}
