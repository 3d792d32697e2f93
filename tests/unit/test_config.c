/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/config_table.h"
#include "base/mem.h"
#include "base/slice.h"
#include "config_fixture.h"

/* --- Good files ------------------------------------------------------------------------------------------------- */

static void defaults(void **state)
{
	struct config_options o = {.primary = "10.0.0.5", .replica = {"10.0.0.6", "10.0.0.7:3307"}, .nreplica = 2};
	struct config *c = config_load(&o, report, NULL);

	(void)state;
	assert_non_null(c);
	assert_null(c->path);
	assert_int_equal(c->nlisten, 1);
	assert_string_equal(c->listen[0].text, "127.0.0.1:6033");
	assert_true(c->listen[0].len > 0);
	assert_true(c->workers >= 1);
	assert_int_equal(c->mode, MODE_CACHE);
	assert_int_equal(c->consistency, CONSISTENCY_GLOBAL);
	assert_int_equal(c->log_level, LOG_LEVEL_INFO);
	assert_int_equal(c->max_connections, 0);
	assert_int_equal(c->max_allowed_packet, 64 << 20);
	assert_int_equal(c->client_memory, 256 << 20);
	assert_int_equal(c->core_dumps, 0);
	assert_int_equal(c->login_timeout_ms, 10000);
	assert_int_equal(c->connect_timeout_ms, 5000);
	assert_int_equal(c->pool_wait_ms, 30000);
	assert_int_equal(c->pool_idle_ms, 60000);
	assert_int_equal(c->primary_wait_ms, 10000);
	assert_int_equal(c->drain_timeout_ms, 30000);
	assert_int_equal(c->nadmin, 0);
	assert_false(c->has_http);
	assert_string_equal(c->admin_user, "admin");
	assert_null(c->admin_password);
	assert_int_equal(c->nservers, 3);
	assert_string_equal(c->servers[0].name, "primary");
	assert_int_equal(c->servers[0].role, CONFIG_ROLE_AUTO);
	assert_string_equal(c->servers[0].address.text, "10.0.0.5:3306");
	assert_int_equal(c->servers[0].weight, 1);
	assert_string_equal(c->servers[2].name, "replica2");
	assert_int_equal(c->servers[2].role, CONFIG_ROLE_AUTO);
	assert_string_equal(c->servers[2].address.text, "10.0.0.7:3307");
	assert_null(c->monitor_user);
	assert_int_equal(c->monitor_interval_ms, 500);
	assert_int_equal(c->monitor_timeout_ms, 2000);
	assert_int_equal(c->max_replica_lag_ms, 1000);
	assert_false(c->store_redis);
	assert_int_equal(c->redis_timeout_ms, 5);
	assert_int_equal(c->confirm_timeout_ms, 2000);
	assert_int_equal(c->memory_limit, 64 << 20);
	assert_int_equal(c->max_entry, 64 << 10);
	config_unref(c);
}

static const char full[] =
	"\xef\xbb\xbf# a comment\r\n"
	"[proxy]   ; another\r\n"
	"  listen   = 127.0.0.1:6033, /run/s/mysql.sock ,[::1] ; what applications connect to\r\n"
	"workers=2\n"
	"consistency = session # hash\n"
	"mode = split\n"
	"log_level = debug\n"
	"max_allowed_packet = 16M\n"
	"primary_wait = 0\n"
	"[admin]\nlisten = 127.0.0.1\nhttp = 127.0.0.1\nuser = dba\n"
	"password = \"a \"\"quoted\"\" ;#'word' \" ; comment\n"
	"[server.db1]\naddress = 10.0.0.5\nrole = primary\nweight = 0\nmax_connections = 100\n"
	"[server.db-2.x]\naddress = /run/mysqld/mysqld.sock\n"
	"[monitor]\nuser = 'mon'\npassword = it's;fine#too\ninterval = 1s\ntimeout = 1m\nmax_replica_lag = 1d\n"
	"[user.app user@x]\npassword = ''\n"
	"[user.b]\npassword = p=w\n"
	"[cache]\nstore = redis://us%20er:p%40ss:w@10.0.0.9:7000/3\nmemory = 1g\nmax_entry = 1000\n"
	"[cache.token]\ntable = app.access_token\nkey = token\nexpires = expires_at\nttl = 2h\nnegative_ttl = 0\n"
	"[cache.b]\ntable = app.other\nkey = id";

static void a_full_file(void **state)
{
	struct config *c = load(full, NULL);

	(void)state;
	if (c == NULL)
		fail_msg("%s", reported());
	assert_string_equal(c->path, "f");
	assert_int_equal(c->nlisten, 3);
	assert_string_equal(c->listen[1].host, "/run/s/mysql.sock");
	assert_string_equal(c->listen[2].text, "[::1]:6033");
	assert_int_equal(c->workers, 2);
	assert_int_equal(c->consistency, CONSISTENCY_SESSION);
	assert_int_equal(c->mode, MODE_SPLIT);
	assert_int_equal(c->log_level, LOG_LEVEL_DEBUG);
	assert_int_equal(c->max_allowed_packet, 16 << 20);
	assert_int_equal(c->primary_wait_ms, 0);
	assert_string_equal(c->admin[0].text, "127.0.0.1:6032");
	assert_true(c->has_http);
	assert_string_equal(c->http.text, "127.0.0.1:6080");
	assert_string_equal(c->admin_user, "dba");
	assert_string_equal(c->admin_password, "a \"quoted\" ;#'word' ");
	assert_int_equal(c->nservers, 2);
	assert_int_equal(c->servers[0].role, CONFIG_ROLE_PRIMARY);
	assert_int_equal(c->servers[0].weight, 0);
	assert_int_equal(c->servers[0].max_connections, 100);
	assert_string_equal(c->servers[1].name, "db-2.x");
	assert_true(c->servers[1].address.is_unix);
	assert_string_equal(c->monitor_user, "mon");
	assert_string_equal(c->monitor_password, "it's;fine#too");
	assert_int_equal(c->monitor_interval_ms, 1000);
	assert_int_equal(c->monitor_timeout_ms, 60000);
	assert_int_equal(c->max_replica_lag_ms, 86400000);
	assert_int_equal(c->nusers, 2);
	assert_string_equal(c->users[0].name, "app user@x");
	assert_string_equal(c->users[0].password, "");
	assert_string_equal(c->users[1].password, "p=w");
	assert_true(c->store_redis);
	assert_string_equal(c->redis.text, "10.0.0.9:7000");
	assert_string_equal(c->redis_user, "us er");
	assert_string_equal(c->redis_password, "p@ss:w");
	assert_int_equal(c->redis_db, 3);
	assert_int_equal(c->memory_limit, 1 << 30);
	assert_int_equal(c->max_entry, 1000);
	assert_int_equal(c->nrules, 2);
	assert_string_equal(c->rules[0].db, "app");
	assert_string_equal(c->rules[0].table, "access_token");
	assert_string_equal(c->rules[0].key, "token");
	assert_string_equal(c->rules[0].expires, "expires_at");
	assert_int_equal(c->rules[0].ttl_ms, 7200000);
	assert_int_equal(c->rules[0].negative_ttl_ms, 0);
	assert_int_equal(c->rules[1].ttl_ms, 600000);
	assert_int_equal(c->rules[1].negative_ttl_ms, 5000);
	assert_string_equal(c->rules[1].expires, "");
	assert_int_not_equal(c->rules[0].stats_id, c->rules[1].stats_id);
	config_unref(config_ref(c));
	config_unref(c);
}

static void options_override_the_file(void **state)
{
	const struct config_options o = {.listen = "127.0.0.1:7000", .primary = "10.9.9.9",
					 .redis = "redis+unix:///r.sock?db=2", .admin = "127.0.0.1:7001",
					 .http = "127.0.0.1:7002",
					 .mode = "observe", .log_level = "error", .workers = 7, .unresolved = true};
	struct config *c = load(full, &o);

	(void)state;
	assert_non_null(c);
	assert_int_equal(c->nlisten, 1);
	assert_string_equal(c->listen[0].text, "127.0.0.1:7000");
	assert_int_equal(c->nservers, 1);
	assert_string_equal(c->servers[0].address.text, "10.9.9.9:3306");
	assert_int_equal(c->servers[0].weight, 1);
	assert_true(c->redis.is_unix);
	assert_string_equal(c->redis.host, "/r.sock");
	assert_int_equal(c->redis_db, 2);
	assert_null(c->redis_password);
	assert_string_equal(c->admin[0].text, "127.0.0.1:7001");
	assert_string_equal(c->http.text, "127.0.0.1:7002");
	assert_int_equal(c->mode, MODE_OBSERVE);
	assert_int_equal(c->log_level, LOG_LEVEL_ERROR);
	assert_int_equal(c->workers, 7);
	config_unref(c);
}

/* --- Mistakes: each text loads as NULL, and says exactly this ----------------------------------------------- */

static const struct mistake mistakes[] = {
	{"", "f: no servers: expected --primary ADDR, or [server.X] sections with an address in the file\n"},
	{SERVER "[proxy]\nworkrs = 2\n", "f:4: unknown key \"workrs\" in [proxy]: did you mean \"workers\"?\n"},
	{SERVER "[proxy]\nttl = 2\n", "f:4: unknown key \"ttl\" in [proxy]: it belongs in [cache.X]\n"},
	{SERVER "[monitor]\nzzzzzz = 2\n", "f:4: unknown key \"zzzzzz\" in [monitor]: expected one of user, password, "
					   "interval, timeout, max_replica_lag\n"},
	{SERVER "[prxy]\nmode = x\n", "f:3: unknown section [prxy]: did you mean [proxy]?\n"},
	{SERVER "[sever.b]\naddress = 1\n", "f:3: unknown section [sever.b]: did you mean [server.b]?\n"},
	{SERVER "[galaxy]\n",
	 "f:3: unknown section [galaxy]: expected proxy, admin, server.X, monitor, user.X, cache, cache.X or "
	 "service.X\n"},
	{SERVER "[server]\n", "f:3: [server] needs a name: expected [server.X]\n"},
	{SERVER "[proxy.x]\n", "f:3: unknown section [proxy.x]: expected [proxy]\n"},
	{SERVER "[cache.]\n", "f:3: [cache.]: expected a name of 1 to 63 letters, digits, _ - . after cache.\n"},
	{SERVER "[cache.a b]\n", "f:3: [cache.a b]: expected a name of 1 to 63 letters, digits, _ - . after cache.\n"},
	{"mode = split\n" SERVER, "f:1: \"mode\" before any [section]: expected a section first\n"},
	{SERVER "junk\n", "f:3: expected [section] or key = value\n"},
	{SERVER "= 3\n", "f:3: expected [section] or key = value\n"},
	{SERVER "[proxy\n", "f:3: expected [section]\n"},
	{SERVER "[proxy] x\n", "f:3: expected [section]\n"},
	{SERVER "role = \"auto\n", "f:3: the closing quote is missing\n"},
	{SERVER "role = 'auto' x\n", "f:3: text after the closing quote; a quote inside is written twice\n"},
	{SERVER "role = auto\nrole = auto\n", "f:4: [server.a] role again: expected once, it is in line 3 already\n"},
	{SERVER "[proxy]\n" SERVER, "f:4: section [server.a] again: expected once, it is in line 1 already\n"},
	{SERVER "role = boss\n", "f:3: [server.a] role: \"boss\": expected auto|primary|replica\n"},
	{SERVER "role =\n", "f:3: [server.a] role: \"\": expected auto|primary|replica\n"},
	{SERVER "role = primary|replica\n",
	 "f:3: [server.a] role: \"primary|replica\": expected auto|primary|replica\n"},
	{SERVER "weight = -1\n", "f:3: [server.a] weight: \"-1\": expected a number from 0 to 1000\n"},
	{SERVER "weight = 1.5\n", "f:3: [server.a] weight: \"1.5\": expected a number from 0 to 1000\n"},
	{SERVER "weight = 99999999999999999999999\n",
	 "f:3: [server.a] weight: \"99999999999999999999999\": expected a number from 0 to 1000\n"},
	{SERVER "[monitor]\ninterval = 500\n",
	 "f:4: [monitor] interval: \"500\" has no unit: expected a duration such as 500ms, 10s, 5m, 2h or 1d\n"},
	{SERVER "[monitor]\ninterval = 5y\n",
	 "f:4: [monitor] interval: \"5y\": expected a duration such as 500ms, 10s, 5m, 2h or 1d\n"},
	{SERVER "[monitor]\ninterval = s\n",
	 "f:4: [monitor] interval: \"s\": expected a duration such as 500ms, 10s, 5m, 2h or 1d\n"},
	{SERVER "[monitor]\ninterval = 0\n", "f:4: [monitor] interval: \"0\": expected 10ms to 1h\n"},
	{SERVER "[monitor]\ninterval = 9999999999999d\n",
	 "f:4: [monitor] interval: \"9999999999999d\": expected 10ms to 1h\n"},
	{SERVER "[cache]\nmemory = 1t\n",
	 "f:4: [cache] memory: \"1t\": expected bytes, such as 65536, 64k, 16m or 1g\n"},
	{SERVER "[cache]\nmemory = 1k\n", "f:4: [cache] memory: \"1k\": expected 1m to 1024g\n"},
	{SERVER "[proxy]\nlisten = h:0\n", "f:4: [proxy] listen: \"h:0\": port must be 1 to 65535\n"},
	{SERVER "[proxy]\nlisten = h:1, h:1\n", "f:4: [proxy] listen: h:1 is named twice\n"},
	{SERVER "[proxy]\nlisten = ,\n", "f:4: [proxy] listen: expected addresses, separated by commas\n"},
	{SERVER "[proxy]\nlisten = a,b,c,d,e,f,g,h,i\n", "f:4: [proxy] listen: at most 8 addresses\n"},
	{SERVER "[server.b]\n", "f:3: [server.b] has no address: expected address = host:port\n"},
	{SERVER "[server.b]\naddress = 10.0.0.1:3306\n",
	 "f:3: server b has the address of a: expected another than 10.0.0.1:3306\n"},
	{SERVER "role = primary\n[server.b]\naddress = b\nrole = primary\n",
	 "f:4: server b: a second role = primary: expected one at most\n"},
	{SERVER "[user.x]\n", "f:3: [user.x] has no password: expected one (password = \"\" for none)\n"},
	{SERVER "[user.x]\n[proxy]\n", "f:3: [user.x] has no password: expected one (password = \"\" for none)\n"},
	{SERVER "[monitor]\npassword = x\n", "f: [monitor] has a password but no user: expected user = name\n"},
	{SERVER "[admin]\npassword =\n", "f:4: [admin] password: expected 1 to 256 characters\n"},
	{SERVER "[cache.a]\nkey = k\n", "f:3: [cache.a] has no table: expected table = database.table\n"},
	{SERVER "[cache.a]\ntable = d.t\n", "f:3: [cache.a] has no key: expected key = column\n"},
	{SERVER "[cache.a]\ntable = d.t\nkey = `k`\n",
	 "f:5: [cache.a] key: \"`k`\": expected the name of a column, without quotes\n"},
	{SERVER "[cache.a]\ntable = d.t\nkey=k\n[cache.b]\ntable = d.t\nkey = j\n",
	 "f:6: [cache.b] caches the table of [cache.a]: expected one rule a table\n"},
	{SERVER "[cache]\nstore = rediss://x\n",
	 "f:4: [cache] store: expected memory, redis://[user:password@]host:port/db "
	 "or redis+unix://[user:password@]/path.sock?db=N\n"},
	{SERVER "[cache]\nstore = redis://h/x\n",
	 "f:4: [cache] store: bad database number: expected memory, redis://[user:password@]host:port/db or "
	 "redis+unix://[user:password@]/path.sock?db=N\n"},
	{SERVER "[cache]\nstore = redis://:p%zz@h\n",
	 "f:4: [cache] store: a bad % escape before the @: expected %xx\n"},
	{SERVER "[cache]\nstore = redis://p@h\n",
	 "f:4: [cache] store: before the @ expected user:password or :password\n"},
	{"[server.a]\naddress=\nweight=x\n", "f:2: [server.a] address: \"\": the address is empty\n"
					     "f:3: [server.a] weight: \"x\": expected a number from 0 to 1000\n"},
};

static void mistakes_name_their_line(void **state)
{
	(void)state;
	check_mistakes(mistakes, sizeof mistakes / sizeof *mistakes);
}

static void mistakes_on_the_command_line(void **state)
{
	const struct config_options o = {.primary = "h:x", .replica = {"a", "a:3306"}, .nreplica = 2, .mode = "fast",
					 .workers = -1, .unresolved = true};

	(void)state;
	assert_null(load(SERVER, &o));
	assert_string_equal(reported(), "command line: --mode: \"fast\": expected observe|split|cache\n"
					"command line: --workers: \"-1\": expected a number from 1 to 256\n"
					"command line: --primary: \"h:x\": port must be 1 to 65535\n"
					"command line: server replica2 has the address of replica1: expected another "
					"than a:3306\n");
}

static void nul_bytes_and_long_names(void **state)
{
	char text[] = SERVER "we\0ght = 1\n";
	const struct config_options o = {.unresolved = true};
	char *long_text;

	(void)state;
	buf_clear(&reports);
	assert_null(config_load_text("f", text, sizeof text - 1, false, &o, report, NULL));
	assert_string_equal(reported(), "f:3: a NUL byte: expected text\n");

	long_text = xasprintf(SERVER "[%0200d]\n", 0);
	assert_null(load(long_text, NULL));
	assert_string_equal(reported(), "f:3: the name of this section is too long\n");
	free(long_text);
	long_text = xasprintf(SERVER "[user.%0129d]\npassword=x\n", 0);
	assert_null(load(long_text, NULL));
	assert_string_equal(reported(), "f:3: the name of an account has at most 128 bytes\n");
	free(long_text);
	long_text = xasprintf(SERVER "[cache.a]\nkey = %065d\ntable=a.b\n", 0);
	assert_null(load(long_text, NULL));
	free(long_text);
}

static void limits_of_lists(void **state)
{
	struct buf text = {0};

	(void)state;
	for (int i = 0; i <= CONFIG_SERVERS; i++)
		buf_printf(&text, "[server.s%d]\naddress = h%d\n[cache.r%d]\ntable = d.t%d\nkey = k\n", i, i, i, i);
	buf_put_u8(&text, 0);
	assert_null(load((char *)text.data, NULL));
	assert_string_equal(reported(), "f:161: at most 32 servers\nf:163: at most 32 cache rules\n");
	buf_fini(&text);
}

/* --- Files ------------------------------------------------------------------------------------------------------ */

static void write_file(const char *path, const char *text, unsigned mode)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	assert_int_equal(chmod(path, mode), 0);
}

static void files(void **state)
{
	char dir[] = "/tmp/st-config-XXXXXX", path[64], want[600];
	struct config_options o = {.file = path};

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/c", dir);
	buf_clear(&reports);
	assert_null(config_load(&o, report, NULL));
	snprintf(want, sizeof want, "%s: cannot be read: No such file or directory\n", path);
	assert_string_equal(reported(), want);

	write_file(path, SERVER "[monitor]\nuser = m\npassword = x\n[cache]\nstore = redis://:p@127.0.0.1\n", 0644);
	buf_clear(&reports);
	assert_null(config_load(&o, report, NULL));
	snprintf(want, sizeof want,
		 "%s:5: [monitor] password: others can read this file, which holds a password: expected mode 0640 or "
		 "stricter (chmod o-rwx)\n"
		 "%s:7: [cache] store: others can read this file, which holds a password: expected mode 0640 or "
		 "stricter (chmod o-rwx)\n", path, path);
	assert_string_equal(reported(), want);

	assert_int_equal(chmod(path, 0640), 0);
	struct config *c = config_load(&o, report, NULL);
	assert_non_null(c);
	assert_string_equal(c->path, path);
	assert_true(c->servers[0].address.len > 0);
	config_unref(c);

	write_file(path, SERVER, 0644); /* no password in it */
	c = config_load(&o, report, NULL);
	assert_non_null(c);
	config_unref(c);

	write_file(path, "[server.a]\naddress = 999.0.0.1\n", 0644);
	buf_clear(&reports);
	assert_null(config_load(&o, report, NULL));
	assert_non_null(strstr(reported(), "/c:2: [server.a] address: \"999.0.0.1\" cannot be resolved: "));
	unlink(path);
	rmdir(dir);
}

/* --- Showing ---------------------------------------------------------------------------------------------------- */

static void on_option(void *arg, const char *section, const char *key, const char *value, const char *def)
{
	(void)arg;
	buf_printf(&reports, "[%s] %s=%s(%s)\n", section, key, value, def);
}

static void shows_itself_without_secrets(void **state)
{
	static const char *const lines[] = {
		"[proxy] listen=127.0.0.1:6033, /run/s/mysql.sock, [::1]:6033(127.0.0.1:6033)\n",
		"[proxy] max_allowed_packet=16m(64m)\n",
		"[proxy] primary_wait=0(10s)\n",
		"[admin] password=***()\n",
		"[monitor] max_replica_lag=1d(1s)\n",
		"[server.db1] role=primary(auto)\n",
		"[server.db-2.x] address=/run/mysqld/mysqld.sock()\n",
		"[user.b] password=***()\n",
		"[cache] store=redis://us er:***@10.0.0.9:7000/3(memory)\n",
		"[cache] max_entry=1000(64k)\n",
		"[cache.token] table=app.access_token()\n",
		"[cache.token] ttl=2h(10m)\n",
		"[cache.b] expires=()\n",
	};
	struct config *c = load(full, NULL);

	(void)state;
	assert_non_null(c);
	buf_clear(&reports);
	config_visit(c, on_option, NULL);
	for (unsigned i = 0; i < sizeof lines / sizeof *lines; i++)
		if (strstr(reported(), lines[i]) == NULL)
			fail_msg("no %s in\n%s", lines[i], reported());
	assert_null(strstr(reported(), "p@ss"));
	assert_null(strstr(reported(), "fine#too"));
	config_unref(c);
}

static void names_what_a_reload_cannot_change(void **state)
{
	const struct config_options o = {.listen = "127.0.0.1:1", .workers = 3, .mode = "observe", .unresolved = true};
	struct config *a = load(full, NULL), *b = load(full, &o);

	(void)state;
	buf_clear(&reports);
	config_report_fixed(a, b, report, NULL);
	assert_string_equal(reported(), "[proxy] listen stays \"127.0.0.1:6033, /run/s/mysql.sock, [::1]:6033\": "
					"\"127.0.0.1:1\" needs a restart\n"
					"[proxy] workers stays \"2\": \"3\" needs a restart\n");
	buf_clear(&reports);
	config_report_fixed(a, a, report, NULL);
	assert_string_equal(reported(), "");
	config_unref(a);
	config_unref(b);
}

/* conf/sidetrack.conf is what the table says, and loads. */
static void the_sample_is_current(void **state)
{
	static char text[65536];
	FILE *f = fopen("conf/sidetrack.conf", "r");

	(void)state;
	assert_non_null(f); /* tests run from the top of the tree */
	text[fread(text, 1, sizeof text - 1, f)] = '\0';
	fclose(f);
	buf_clear(&reports);
	config_dump_sample(report, NULL);
	assert_string_equal(reported(), text);
	struct config *c = load(text, NULL);
	if (c == NULL)
		fail_msg("%s", reported());
	assert_string_equal(c->servers[0].address.text, "10.0.0.5:3306");
	config_unref(c);
}

/* Every option of the sample loads when its line is made live, so the defaults shown are values that are understood. */
static void every_line_of_the_sample_is_good(void **state)
{
	struct buf text = {0};

	(void)state;
	buf_clear(&reports);
	config_dump_sample(report, NULL);
	char *copy = xstrdup(reported()), *save = NULL;
	for (char *line = strtok_r(copy, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		bool comment = line[0] == ';', bare = line[strlen(line) - 1] == '=';
		bool option = comment && line[1] != ' ' && line[1] != '\0';
		if (option && !bare)
			buf_printf(&text, "%s\n", line + 1);
		else if (!comment)
			buf_printf(&text, "%s\n", line);
		else if (option && strncmp(line, ";password", 9) == 0)
			buf_printf(&text, "password = x\n");
	}
	buf_printf(&text, "[server.db5]\naddress = 10.0.0.7\n[server.db6]\naddress = 10.0.0.8\n"); /* a service's */
	buf_put_u8(&text, 0);
	struct config *c = load((char *)text.data, NULL);
	if (c == NULL)
		fail_msg("%s\n%s", (char *)text.data, reported());
	assert_int_equal(c->nrules, 1);
	assert_int_equal(c->nusers, 1);
	assert_int_equal(c->nservices, 1);
	config_unref(c);
	free(copy);
	buf_fini(&text);
}

static void nearest_words(void **state)
{
	static const char *const words[] = {"listen", "workers", "mode"};

	(void)state;
	assert_string_equal(config_nearest("Listn", words, 3), "listen");
	assert_string_equal(config_nearest("worker", words, 3), "workers");
	assert_string_equal(config_nearest("moed", words, 3), "mode");
	assert_null(config_nearest("x", words, 3));
	assert_null(config_nearest("completely", words, 3));
	assert_null(config_nearest("a_word_that_is_much_longer_than_any_of_them", words, 3));
}

static int stop(void **state)
{
	(void)state;
	buf_fini(&reports);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(a_full_file),
		cmocka_unit_test(options_override_the_file),
		cmocka_unit_test(mistakes_name_their_line),
		cmocka_unit_test(mistakes_on_the_command_line),
		cmocka_unit_test(nul_bytes_and_long_names),
		cmocka_unit_test(limits_of_lists),
		cmocka_unit_test(files),
		cmocka_unit_test(shows_itself_without_secrets),
		cmocka_unit_test(names_what_a_reload_cannot_change),
		cmocka_unit_test(the_sample_is_current),
		cmocka_unit_test(every_line_of_the_sample_is_good),
		cmocka_unit_test(nearest_words),
	};
	return cmocka_run_group_tests(tests, NULL, stop);
}
