/* SPDX-License-Identifier: Apache-2.0
 *
 * Sessions that share server connections: what state_diff writes is run by a tiny server, and whichever connection a
 * session gets, it must find its own state there. The server knows what makes this hard: a connection character set
 * brings its collation and a collation its character set, other variables have two names, or change others (none of
 * which is told), DEFAULT is the server's own and not the login's, and text is read with no regard for sql_mode (so
 * neither quotes nor backslashes may be in it).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "mysql/protocol.h"
#include "mysql/state.h"

enum {
	CLIENT,
	RESULTS,
	CONNECTION,
	COLLATION,
	SQL_MODE,
	TIME_ZONE,
	WAIT,
	LIMIT,
	FACTOR,
	ENGINE,
	ENGINE_TOO,
	JOIN,
	BIG,
	TMPDIR,
	VARS
};
static const struct {
	const char *name, *server_default;
	const char *values[6];
} vars[VARS] = {
	{"character_set_client", "latin1", {"utf8mb4", "latin1", "cp1251"}},
	{"character_set_results", "latin1", {"utf8mb4", "latin1", "cp1251", ""}},
	{"character_set_connection", "latin1", {"utf8mb4", "latin1", "cp1251"}},
	{"collation_connection", "latin1_default", {"utf8mb4_bin", "utf8mb4_default", "latin1_bin", "cp1251_bin"}},
	{"sql_mode", "STRICT_TRANS_TABLES", {"", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES", "STRICT_TRANS_TABLES"}},
	{"time_zone", "SYSTEM", {"+00:00", "it's", "back\\slash", "Europe/Paris", "0"}},
	{"wait_timeout", "28800", {"1", "-1", "28800", "18446744073709551615"}},
	{"max_statement_time", "0.000000", {"1.5", "0", "-0.25", "7."}},
	{"innodb_thing", "12ab", {"1a", "-", ".", "--1", "1.2.3", "0x10"}},
	{"default_storage_engine", "InnoDB", {"InnoDB", "MyISAM", "Aria"}},
	{"storage_engine", "InnoDB", {"InnoDB", "MyISAM", "Aria"}},
	{"max_join_size", "18446744073709551615", {"18446744073709551615", "1000"}},
	{"sql_big_selects", "ON", {"ON", "OFF"}},
	{"innodb_tmpdir", "", {"", "/tmp"}},
};
/* What the primary's logins have, where it is not this server's default. */
static const char *const primarys[VARS] = {[CLIENT] = "utf8mb4",
					   [RESULTS] = "utf8mb4",
					   [CONNECTION] = "utf8mb4",
					   [COLLATION] = "utf8mb4_login",
					   [SQL_MODE] = "ANSI_QUOTES",
					   [TIME_ZONE] = "-03:30",
					   [ENGINE] = "Aria",
					   [ENGINE_TOO] = "Aria",
					   [JOIN] = "77",
					   [BIG] = "OFF"};
static struct state_base base; /* of primarys */
static const struct state_base no_base;

static const char *login_value(unsigned var)
{
	return primarys[var] != NULL ? primarys[var] : vars[var].server_default;
}

static struct defaults *defaults_of(const char *(*value)(unsigned var))
{
	struct defaults *d = defaults_new();

	for (unsigned i = 0; i < VARS; i++)
		assert_int_equal(defaults_add(d, slice_str(vars[i].name), slice_str(value(i))), 0);
	defaults_seal(d);
	return d;
}

struct server { /* what it holds, whoever set it */
	char value[VARS][64];
	char schema[64];
};

static uint32_t dice;
static unsigned roll(unsigned n)
{
	dice = dice * 1664525u + 1013904223u;
	return (dice >> 12) % n;
}

static void put(char *to, size_t cap, const char *text, size_t n)
{
	assert_true(n < cap);
	memcpy(to, text, n);
	to[n] = '\0';
}

static void fresh_login(struct server *s)
{
	memset(s, 0, sizeof *s);
	for (unsigned i = 0; i < VARS; i++)
		put(s->value[i], sizeof s->value[i], login_value(i), strlen(login_value(i)));
}

static void server_set(struct server *s, unsigned var, const char *value)
{
	put(s->value[var], sizeof s->value[var], value, strlen(value));
	if (var == CONNECTION) {
		assert_true(strlen(value) > 0);
		snprintf(s->value[COLLATION], sizeof s->value[COLLATION], "%.40s_default", value);
	} else if (var == COLLATION) {
		put(s->value[CONNECTION], sizeof s->value[CONNECTION], value, strcspn(value, "_"));
	} else if (var == ENGINE || var == ENGINE_TOO) {
		strcpy(s->value[ENGINE + ENGINE_TOO - var], value);
	} else if (var == JOIN) {
		strcpy(s->value[BIG], strcmp(value, "18446744073709551615") == 0 ? "ON" : "OFF");
	}
}

/* Reads one value of a SET and moves *p behind it. */
static void read_value(const char **p, unsigned var, char value[64])
{
	size_t n = 0;

	if (strncmp(*p, "DEFAULT", 7) == 0) {
		strcpy(value, vars[var].server_default);
		*p += 7;
	} else if (strncmp(*p, "NULL", 4) == 0) {
		assert_true(var == RESULTS || var == TMPDIR);
		value[0] = '\0';
		*p += 4;
	} else if (strncmp(*p, "0x", 2) == 0) {
		unsigned byte;
		for (*p += 2; sscanf(*p, "%2x", &byte) == 1; *p += 2)
			value[n++] = (char)byte;
		value[n] = '\0';
	} else if (**p == '\'') {
		n = strcspn(++*p, "'\\");
		put(value, 64, *p, n);
		assert_int_equal((*p)[n], '\'');
		*p += n + 1;
	} else {
		n = strcspn(*p, ",");
		put(value, 64, *p, n);
		assert_int_equal(strspn(value, "-.0123456789"), n);
		assert_true(n > 0 && strpbrk(value, "0123456789") != NULL);
		*p += n;
	}
}

static void run_set(struct server *s, const char *sql)
{
	assert_int_equal(strncmp(sql, "SET ", 4), 0);
	for (const char *p = sql + 4;; p++) {
		char value[64];
		unsigned var = 0;
		size_t n = strcspn(p, "=");
		while (var < VARS && (strlen(vars[var].name) != n || strncmp(vars[var].name, p, n) != 0))
			var++;
		assert_true(var < VARS && p[n] == '=');
		p += n + 1;
		read_value(&p, var, value);
		server_set(s, var, value);
		if (*p == '\0')
			return;
		assert_int_equal(*p, ',');
	}
}

/* Runs the packets; returns how many there were. */
static int run(struct server *s, struct slice bytes)
{
	struct reader r = reader_of(bytes);
	int commands = 0;

	for (; rd_left(&r) > 0; commands++) {
		size_t n = rd_u24(&r);
		assert_int_equal(rd_u8(&r), 0);
		unsigned code = rd_u8(&r);
		char *text = xstrndup((const char *)r.p, n - 1);
		rd_bytes(&r, n - 1);
		assert_false(r.bad);
		if (code == COM_INIT_DB)
			put(s->schema, sizeof s->schema, text, strlen(text));
		else
			run_set(s, text);
		assert_true(code == COM_INIT_DB || code == COM_QUERY);
		free(text);
	}
	return commands;
}

enum { SESSIONS = 5, CONNECTIONS = 3, STEPS = 2000 };
static struct {
	struct server expected;
	struct state want;
} session[SESSIONS];
static struct {
	struct server server;
	struct state have;
} connection[CONNECTIONS];

/* Something that a client says, with what the server's tracking tells of it. */
static void say_something(unsigned s, unsigned c)
{
	static const char *const schemas[] = {"app", "o'ther", "App"};

	if (roll(6) == 0) {
		const char *schema = schemas[roll(3)];
		strcpy(session[s].expected.schema, schema);
		strcpy(connection[c].server.schema, schema);
		state_set_schema(&session[s].want, slice_str(schema));
		state_set_schema(&connection[c].have, slice_str(schema));
		return;
	}
	unsigned var = roll(VARS), n = 0;
	while (n < 6 && vars[var].values[n] != NULL)
		n++;
	const char *value = vars[var].values[roll(n)];
	server_set(&session[s].expected, var, value);
	server_set(&connection[c].server, var, value);
	assert_true(state_set(&session[s].want, slice_str(vars[var].name), slice_str(value)));
	assert_true(state_set(&connection[c].have, slice_str(vars[var].name), slice_str(value)));
}

static void assert_state_is_there(unsigned s, unsigned c, const struct buf *sent)
{
	const struct server *is = &connection[c].server, *wanted = &session[s].expected;

	for (unsigned i = 0; i < VARS; i++)
		if (strcmp(is->value[i], wanted->value[i]) != 0)
			fail_msg("%s is \"%s\", wanted \"%s\" after: %.*s", vars[i].name, is->value[i],
				 wanted->value[i], (int)sent->len, (const char *)sent->data);
	assert_string_equal(is->schema, wanted->schema);
}

static void reset_connection(unsigned c)
{
	fresh_login(&connection[c].server);
	state_clear(&connection[c].have);
}

static void session_gets_connection(unsigned s, unsigned c)
{
	struct buf out = {0};
	int n = state_diff(&session[s].want, &connection[c].have, &base, &out);

	if (n < 0) { /* a schema cannot be left: such a connection is reset */
		assert_true(session[s].want.schema == NULL && connection[c].have.schema != NULL);
		reset_connection(c);
		buf_clear(&out);
		n = state_diff(&session[s].want, &connection[c].have, &base, &out);
	}
	assert_int_equal(run(&connection[c].server, buf_slice(&out)), n);
	assert_true(n <= 2);
	assert_state_is_there(s, c, &out);
	state_copy(&connection[c].have, &session[s].want);
	assert_true(connection[c].have.hash == session[s].want.hash);
	buf_clear(&out);
	assert_int_equal(state_diff(&session[s].want, &connection[c].have, &base, &out), 0);
	assert_int_equal(out.len, 0);
	buf_fini(&out);
}

static void sessions_find_their_state(void **state)
{
	(void)state;
	base.defaults = defaults_of(login_value);
	for (dice = 1; dice < 40; dice++) {
		uint32_t seed = dice;
		for (unsigned s = 0; s < SESSIONS; s++)
			fresh_login(&session[s].expected);
		for (unsigned c = 0; c < CONNECTIONS; c++)
			reset_connection(c);
		for (unsigned i = 0; i < STEPS; i++) {
			unsigned s = roll(SESSIONS), c = roll(CONNECTIONS);
			session_gets_connection(s, c);
			for (unsigned k = roll(4); k > 0; k--)
				say_something(s, c);
			if (roll(50) == 0) { /* another client in its place */
				state_clear(&session[s].want);
				fresh_login(&session[s].expected);
			}
		}
		for (unsigned s = 0; s < SESSIONS; s++)
			state_clear(&session[s].want);
		for (unsigned c = 0; c < CONNECTIONS; c++)
			state_clear(&connection[c].have);
		dice = seed;
	}
	struct defaults *d = (struct defaults *)base.defaults;
	defaults_unref(&d);
	base.defaults = NULL;
}

static void set_of(struct state *s, const char *name, const char *value)
{
	assert_true(state_set(s, slice_str(name), slice_str(value)));
}

static void hashes_tell_states_apart(void **state)
{
	struct state a = {0}, b = {0};

	(void)state;
	set_of(&a, "sql_mode", "x");
	set_of(&a, "time_zone", "y");
	state_set_schema(&a, slice_str("app"));
	state_set_schema(&b, slice_str("other"));
	set_of(&b, "time_zone", "z");
	set_of(&b, "time_zone", "y");
	assert_true(a.hash != b.hash);
	set_of(&b, "sql_mode", "x");
	assert_true(a.hash != b.hash);
	state_set_schema(&b, slice_str("app"));
	assert_true(a.hash == b.hash); /* in any order, by any way */
	set_of(&a, "SQL_MODE", "y");
	set_of(&b, "Time_Zone", "x");
	assert_int_equal(a.n, 2);
	assert_string_equal(state_get(&a, "Sql_Mode"), "y");
	assert_true(a.hash != b.hash); /* values changed places */
	state_set_schema(&a, slice_str(""));
	assert_null(a.schema);
	state_clear(&a);
	state_clear(&b);
	assert_true(a.hash == 0 && b.hash == 0 && a.vars == NULL);
	set_of(&a, "sql_mode", "app");
	state_set_schema(&b, slice_str("app"));
	assert_true(a.hash != b.hash && a.hash != 0 && b.hash != 0);
	state_clear(&a);
	state_clear(&b);
}

static void charset_and_collation_belong_together(void **state)
{
	struct state s = {0};

	(void)state;
	set_of(&s, "collation_connection", "utf8mb4_bin");
	uint64_t alone = s.hash;
	assert_string_equal(state_get(&s, "collation_connection"), "utf8mb4_bin");
	set_of(&s, "character_set_connection", "utf8mb4"); /* its default collation comes with it */
	assert_null(state_get(&s, "collation_connection"));
	assert_int_equal(s.n, 1);
	set_of(&s, "collation_connection", "utf8mb4_bin"); /* and it says what set it is of */
	assert_null(state_get(&s, "character_set_connection"));
	assert_true(s.hash == alone);
	state_clear(&s);
}

/* SET NAMES x COLLATE y shows in the columns of results; it sets two others, which are put right behind it. */
static void collation_of_results(void **state)
{
	struct state want = {0}, have = {0};
	struct buf out = {0};

	(void)state;
	set_of(&have, "character_set_results", "utf8mb4");
	state_copy(&want, &have);
	set_of(&want, STATE_RESULTS_COLLATION, "utf8mb4_bin");
	set_of(&want, "collation_connection", "utf8mb4_bin");
	assert_true(want.hash != have.hash);
	assert_int_equal(state_diff(&want, &have, &no_base, &out), 1);
	static const char there[] = "SET character_set_results=DEFAULT,character_set_results='utf8mb4',"
				    "NAMES utf8mb4 COLLATE utf8mb4_bin,character_set_client=DEFAULT,"
				    "collation_connection='utf8mb4_bin'";
	assert_int_equal(out.len, 5 + sizeof there - 1);
	assert_memory_equal(out.data + 5, there, sizeof there - 1);
	buf_clear(&out);
	assert_int_equal(state_diff(&have, &want, &no_base, &out), 1);
	static const char back[] = "SET character_set_results=DEFAULT,character_set_results='utf8mb4',"
				   "collation_connection=DEFAULT";
	assert_int_equal(out.len, 5 + sizeof back - 1);
	assert_memory_equal(out.data + 5, back, sizeof back - 1);
	set_of(&want, "character_set_results", "utf8mb4");
	assert_null(state_get(&want, STATE_RESULTS_COLLATION));
	buf_fini(&out);
	state_clear(&want);
	state_clear(&have);
}

static const char *server_value(unsigned var)
{
	return vars[var].server_default;
}

/* A server with other defaults: its new connection is brought to the primary's, and a session's state that was told
 * against the one is the same told against the other. */
static void defaults_of_another_server(void **state)
{
	struct defaults *here = defaults_of(server_value), *there = defaults_of(login_value);
	struct state none = {0}, born = {0}, want = {0};
	struct server s;
	struct buf out = {0};

	(void)state;
	fresh_login(&s);
	for (unsigned i = 0; i < VARS; i++)
		strcpy(s.value[i], server_value(i));
	state_rebase(&born, here, there);
	assert_int_equal(run(&s, (state_diff(&none, &born, &(struct state_base){there, false}, &out), buf_slice(&out))),
			 1);
	for (unsigned i = 0; i < VARS; i++)
		assert_string_equal(s.value[i], login_value(i));
	set_of(&want, "time_zone", "+01:00");
	set_of(&want, "storage_engine", "MyISAM");
	state_rebase(&want, here, there);
	assert_string_equal(state_get(&want, "time_zone"), "+01:00"); /* its own */
	assert_string_equal(state_get(&want, "storage_engine"), "MyISAM");
	assert_null(state_get(&want, "default_storage_engine"));
	assert_string_equal(state_get(&want, "sql_mode"), "STRICT_TRANS_TABLES"); /* what it had */
	assert_null(state_get(&want, "wait_timeout"));                            /* alike */
	buf_clear(&out);
	assert_int_equal(run(&s, (state_diff(&want, &none, &(struct state_base){there, false}, &out), buf_slice(&out))),
			 1);
	for (unsigned i = 0; i < VARS; i++)
		if (i != TIME_ZONE && i != ENGINE && i != ENGINE_TOO)
			assert_string_equal(s.value[i], server_value(i));
	assert_string_equal(s.value[ENGINE], "MyISAM");
	buf_fini(&out);
	state_clear(&born);
	state_clear(&want);
	defaults_unref(&here);
	defaults_unref(&there);
}

static void learn(struct state *s, const struct defaults *d, const char *name, const char *value)
{
	state_learn(s, d, slice_str(name), slice_str(value));
}

static void what_a_server_was_asked_for(void **state)
{
	struct defaults *d = defaults_of(login_value);
	struct state s = {0};

	(void)state;
	for (unsigned i = 0; i < VARS; i++)
		learn(&s, d, vars[i].name, login_value(i));
	assert_int_equal(s.n, 0); /* all as after a login */
	learn(&s, d, "SQL_MODE", "");
	assert_string_equal(state_get(&s, "sql_mode"), "");
	uint64_t hash = s.hash;
	learn(&s, d, "SQL_MODE", "");
	learn(&s, d, "TIMESTAMP", "1.5"); /* no state */
	assert_true(s.n == 1 && s.hash == hash);
	learn(&s, d, "sql_mode", login_value(SQL_MODE));
	assert_string_equal(state_get(&s, "sql_mode"), "ANSI_QUOTES"); /* said once, it stays said */
	set_of(&s, "character_set_connection", "latin1");
	learn(&s, d, "character_set_connection", "utf8mb4");
	learn(&s, d, "collation_connection", "utf8mb4_login"); /* the default, but the set alone would bring another */
	assert_string_equal(state_get(&s, "collation_connection"), "utf8mb4_login");
	set_of(&s, "max_join_size", "18446744073709551615");
	learn(&s, d, "sql_big_selects", "OFF");
	assert_string_equal(state_get(&s, "sql_big_selects"), "OFF");
	learn(&s, d, "role", "auditor");
	assert_string_equal(state_get(&s, "role"), "auditor");
	state_clear(&s);
	defaults_unref(&d);
}

static void roles(void **state)
{
	struct state want = {0}, have = {0}, none = {0};
	struct buf out = {0};

	(void)state;
	set_of(&want, "role", "a`b");
	set_of(&want, "sql_log_bin", "OFF");
	assert_int_equal(state_diff(&want, &have, &no_base, &out), 2); /* first the right, then what it gives */
	assert_memory_equal(out.data + 4, "\3SET ROLE `a``b`", 16);
	assert_memory_equal(out.data + 24, "\3SET sql_log_bin='OFF'", 22);
	buf_clear(&out);
	state_copy(&have, &want);
	assert_int_equal(state_diff(&none, &have, &no_base, &out), 2);
	assert_memory_equal(out.data + 4, "\3SET sql_log_bin=DEFAULT", 24);
	assert_memory_equal(out.data + 32, "\3SET ROLE NONE", 14);
	assert_int_equal(out.len, 46);
	buf_fini(&out);
	state_clear(&want);
	state_clear(&have);
}

static void reads_alone_stays(void **state)
{
	struct state want = {0}, have = {0};
	struct buf out = {0};

	(void)state;
	set_of(&want, "tx_read_only", "OFF");
	assert_int_equal(state_diff(&want, &have, &(struct state_base){NULL, true}, &out), 0);
	assert_int_equal(state_diff(&have, &want, &(struct state_base){NULL, true}, &out), 0);
	assert_int_equal(out.len, 0);
	assert_int_equal(state_diff(&want, &have, &(struct state_base){NULL, false}, &out), 1);
	buf_fini(&out);
	state_clear(&want);
}

static void some_variables_are_not_carried(void **state)
{
	static const char *const names[] = {"last_gtid",
					    "LAST_INSERT_ID",
					    "insert_id",
					    "identity",
					    "timestamp",
					    "warning_count",
					    "error_count",
					    "rand_seed1",
					    "rand_seed2",
					    "session_track_schema",
					    "session_track_system_variables",
					    "pseudo_thread_id",
					    "in_transaction"};
	struct state s = {0};

	(void)state;
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
		assert_false(state_set(&s, slice_str(names[i]), slice_str("1")));
	assert_false(state_set(&s, slice_str(""), slice_str("1")));
	assert_true(s.n == 0 && s.hash == 0 && s.vars == NULL);
	set_of(&s, "session_tracker", "1");
	assert_int_equal(s.n, 1);
	state_clear(&s);
}

/* What a broken server may put into the name of a variable stays out of the next server's SQL, and within bounds. */
static void names_that_are_none(void **state)
{
	static const char *const names[] = {"a b", "a=1,b", "a;", "sql_mode--", "@@a", "a'"};
	struct state s = {0};

	(void)state;
	set_of(&s, "a", "1");
	assert_false(state_set(&s, slice_of("a\0bcdefghijklmnopqrstuvwxyz", 27), slice_str("2")));
	assert_false(state_set(&s, slice_of("b\0", 2), slice_str("2")));
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
		assert_false(state_set(&s, slice_str(names[i]), slice_str("2")));
	set_of(&s, "keycache1.key_buffer_size", "1");
	assert_int_equal(s.n, 2);
	state_clear(&s);
}

static void a_copy_is_independent(void **state)
{
	struct state a = {0}, b = {0};

	(void)state;
	set_of(&a, "sql_mode", "x");
	state_set_schema(&a, slice_str("app"));
	set_of(&b, "time_zone", "gone");
	state_copy(&b, &a);
	assert_true(a.hash == b.hash);
	assert_null(state_get(&b, "time_zone"));
	set_of(&a, "sql_mode", "y");
	state_set_schema(&a, slice_str("other"));
	assert_string_equal(state_get(&b, "sql_mode"), "x");
	assert_string_equal(b.schema, "app");
	state_clear(&a);
	state_copy(&b, &a);
	assert_true(b.hash == 0 && b.schema == NULL && b.vars == NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sessions_find_their_state),
		cmocka_unit_test(hashes_tell_states_apart),
		cmocka_unit_test(charset_and_collation_belong_together),
		cmocka_unit_test(collation_of_results),
		cmocka_unit_test(some_variables_are_not_carried),
		cmocka_unit_test(names_that_are_none),
		cmocka_unit_test(a_copy_is_independent),
		cmocka_unit_test(defaults_of_another_server),
		cmocka_unit_test(what_a_server_was_asked_for),
		cmocka_unit_test(roles),
		cmocka_unit_test(reads_alone_stays),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
