/* SPDX-License-Identifier: Apache-2.0 */
#include "service/tables.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/mem.h"
#include "base/stats.h"
#include "base/version.h"
#include "service/events.h"
#include "service/servers.h"

enum { QUERY_MS = 2000, QUERY_BYTES = 8 << 20, STEPS_A_CHECK = 1000 };

struct tables {
	sqlite3 *db;
	const struct admin_ops *ops;
	struct tables_user who;
	int64_t deadline_us;
};

static const char schema_sql[] =
	"PRAGMA temp_store = MEMORY;"
	"CREATE TABLE servers (name TEXT, address TEXT, role TEXT, state TEXT, weight INTEGER, lag_ms INTEGER,"
	" gtid TEXT, connections_idle INTEGER, connections_active INTEGER, outstanding INTEGER, drained INTEGER,"
	" why TEXT, service TEXT);"
	"CREATE TABLE routes (server TEXT, reason TEXT, count INTEGER, text TEXT);"
	"CREATE TABLE cache (rule TEXT, table_name TEXT, store TEXT, hits INTEGER, misses INTEGER, bypasses INTEGER,"
	" fills INTEGER, refused_fills INTEGER, invalidations INTEGER, evictions INTEGER, entries INTEGER,"
	" bytes INTEGER, service TEXT);"
	"CREATE TABLE config (section TEXT, key TEXT, value TEXT, default_value TEXT);"
	"CREATE TABLE events (time TEXT, kind TEXT, server TEXT, text TEXT);"
	"CREATE TABLE variables (Variable_name TEXT, Value TEXT);"
	"SELECT * FROM pragma_table_info('servers');"; /* its first use needs rights that lock_down() takes away */

/* What clients ask of any server when they connect. */
static const char *const variables[][2] = {
	{"version", SIDETRACK_SERVER_VERSION},
	{"version_comment", "Sidetrack admin port"},
	{"autocommit", "1"},
	{"auto_increment_increment", "1"},
	{"character_set_client", "utf8mb4"},
	{"character_set_connection", "utf8mb4"},
	{"character_set_results", "utf8mb4"},
	{"character_set_server", "utf8mb4"},
	{"collation_connection", "utf8mb4_general_ci"},
	{"collation_server", "utf8mb4_general_ci"},
	{"interactive_timeout", "3600"},
	{"wait_timeout", "3600"},
	{"lower_case_table_names", "0"},
	{"max_allowed_packet", "1048576"},
	{"net_buffer_length", "16384"},
	{"read_only", "1"},
	{"sql_mode", ""},
	{"system_time_zone", "UTC"},
	{"time_zone", "SYSTEM"},
	{"tx_isolation", "REPEATABLE-READ"},
	{"transaction_isolation", "REPEATABLE-READ"},
};

/* --- Filling ---------------------------------------------------------------------------------------------------- */

/* Inserts one row; types has a letter a column: s const char *, i int64_t, n int64_t that is not known (NULL). */
static void insert(struct tables *t, const char *table, const char *types, ...)
{
	char sql[256];
	sqlite3_stmt *stmt;
	va_list ap;
	size_t n = (size_t)snprintf(sql, sizeof sql, "INSERT INTO %s VALUES (", table);

	for (const char *c = types; *c != '\0'; c++)
		n += (size_t)snprintf(sql + n, sizeof sql - n, c[1] != '\0' ? "?," : "?)");
	if (sqlite3_prepare_v2(t->db, sql, -1, &stmt, NULL) != SQLITE_OK)
		return; /* out of memory: the query will fail and say so */
	va_start(ap, types);
	for (int i = 0; types[i] != '\0'; i++) {
		if (types[i] == 's')
			sqlite3_bind_text(stmt, i + 1, va_arg(ap, const char *), -1, SQLITE_TRANSIENT);
		else if (types[i] == 'i')
			sqlite3_bind_int64(stmt, i + 1, va_arg(ap, int64_t));
		else
			(void)va_arg(ap, int64_t);
	}
	va_end(ap);
	sqlite3_step(stmt);
	sqlite3_finalize(stmt);
}

/* What is applied is known by domain and sequence only: within a domain the writer's server id does not count. */
static void print_applied(const struct gtid_live *live, char *buf, size_t cap)
{
	unsigned n = atomic_load_explicit(&live->n, memory_order_acquire);
	size_t len = 0;

	buf[0] = '\0';
	for (unsigned i = 0; i < n && len < cap; i++)
		len += (size_t)snprintf(buf + len, cap - len, "%s%u-*-%" PRIu64, i > 0 ? "," : "", live->at[i].domain,
					atomic_load_explicit(&live->at[i].seq, memory_order_acquire));
}

static void fill_servers(struct tables *t, const struct servers *servers)
{
	int64_t now = topology_now_us();

	for (unsigned i = 0; i < servers->n; i++) {
		const struct server_view *v = servers->at[i].view;
		struct server *s = v->server;
		int64_t idle, active, fresh = atomic_load_explicit(&s->fresh_us, memory_order_acquire);
		char gtid[GTID_DOMAINS * GTID_TEXT];

		print_applied(&s->applied, gtid, sizeof gtid);
		stats_sum_server_connections(s->id, &idle, &active);
		bool lag = v->role == ROLE_REPLICA && fresh != 0;
		insert(t, "servers", lag ? "ssssiisiiiiss" : "ssssinsiiiiss", s->name, s->address.text,
		       server_role_name(v->role), server_state_name(v->state), (int64_t)v->weight, (now - fresh) / 1000,
		       gtid, idle, active, (int64_t)atomic_load(&s->outstanding), (int64_t)v->drained, v->why,
		       servers->at[i].service);
	}
}

static void fill_routes(struct tables *t, const struct servers *servers)
{
	char name[64];

	for (unsigned server = 0; server < STATS_SERVERS; server++) {
		for (unsigned reason = 0; reason < ROUTE_REASONS; reason++) {
			uint64_t count = stats_sum_routed(server, reason);
			if (count > 0)
				insert(t, "routes", "ssis", servers_name(servers, server, name),
				       route_reason_name(reason), (int64_t)count, route_reason_text(reason));
		}
	}
	static const struct {
		enum stat_route route;
		const char *reason, *text;
	} moves[] = {
		{STAT_REPLICA, "would_move_replica", "mode = observe: split would have sent it to a replica"},
		{STAT_CACHE, "would_move_cache", "mode = observe: cache would have looked it up in the cache"},
	};
	for (unsigned i = 0; i < sizeof moves / sizeof *moves; i++) {
		uint64_t count = stats_sum_would_move(moves[i].route);
		if (count > 0)
			insert(t, "routes", "ssis", "", moves[i].reason, (int64_t)count, moves[i].text);
	}
}

static void fill_cache(struct tables *t, unsigned group, const struct config *config)
{
	char store[128];

	t->ops->cache_status(t->ops->arg, group, store, sizeof store);
	for (unsigned i = 0; i < config->nrules; i++) {
		const struct config_rule *r = &config->rules[i];
		uint64_t entries = 0, bytes = 0, evictions = 0, invalidations = 0;
		char table[140];

		snprintf(table, sizeof table, "%s.%s", r->db, r->table);
		for (unsigned s = 0; s < STAT_INVAL_SOURCES; s++)
			invalidations += stats_sum_invalidations(r->stats_id, s);
		t->ops->cache_usage(t->ops->arg, group, i, &entries, &bytes, &evictions);
		insert(t, "cache", "sssiiiiiiiiis", r->name, table, store,
		       (int64_t)stats_sum_cache(r->stats_id, STAT_HIT),
		       (int64_t)stats_sum_cache(r->stats_id, STAT_MISS),
		       (int64_t)stats_sum_cache(r->stats_id, STAT_BYPASS),
		       (int64_t)stats_sum_cache(r->stats_id, STAT_FILL),
		       (int64_t)stats_sum_cache(r->stats_id, STAT_FILL_REFUSED), (int64_t)invalidations,
		       (int64_t)evictions, (int64_t)entries, (int64_t)bytes, config->service);
	}
}

static void fill_option(void *arg, const char *section, const char *key, const char *value, const char *def)
{
	insert(arg, "config", "ssss", section, key, value, def);
}

static void fill_event(void *arg, const struct history_event *e)
{
	char day[32], stamp[48];
	time_t seconds = (time_t)(e->time_ms / 1000);
	struct tm tm;

	gmtime_r(&seconds, &tm);
	strftime(day, sizeof day, "%Y-%m-%d %H:%M:%S", &tm);
	snprintf(stamp, sizeof stamp, "%s.%03d", day, (int)(e->time_ms % 1000));
	insert(arg, "events", "ssss", stamp, e->kind, e->server, e->text);
}

static void fill(struct tables *t)
{
	struct config *config = t->ops->config(t->ops->arg);
	struct servers servers;

	sqlite3_exec(t->db, schema_sql, NULL, NULL, NULL);
	sqlite3_exec(t->db, "BEGIN", NULL, NULL, NULL);
	servers_get(t->ops, &servers);
	fill_servers(t, &servers);
	fill_routes(t, &servers);
	for (unsigned g = 0; g < servers.groups; g++)
		fill_cache(t, g, servers.config[g]);
	config_visit(config, fill_option, t);
	events_visit(fill_event, t);
	for (unsigned i = 0; i < sizeof variables / sizeof *variables; i++)
		insert(t, "variables", "ss", variables[i][0], variables[i][1]);
	sqlite3_exec(t->db, "COMMIT", NULL, NULL, NULL);
	servers_put(&servers);
	config_unref(config);
}

/* --- Functions of MySQL that clients call ------------------------------------------------------------------------- */

static void fn_text(sqlite3_context *context, int argc, sqlite3_value **argv)
{
	const char *text = sqlite3_user_data(context);

	(void)argc;
	(void)argv;
	sqlite3_result_text(context, text, text != NULL ? -1 : 0, SQLITE_TRANSIENT);
}

static void fn_connection(sqlite3_context *context, int argc, sqlite3_value **argv)
{
	const struct tables *t = sqlite3_user_data(context);

	(void)argc;
	(void)argv;
	sqlite3_result_int64(context, t->who.connection);
}

static void fn_concat(sqlite3_context *context, int argc, sqlite3_value **argv)
{
	struct buf b = {0};
	bool null = false;

	for (int i = 0; i < argc; i++) {
		const void *p = sqlite3_value_text(argv[i]);
		null |= p == NULL;
		buf_put(&b, p, p != NULL ? (size_t)sqlite3_value_bytes(argv[i]) : 0);
	}
	if (null || b.len > QUERY_BYTES)
		sqlite3_result_null(context);
	else
		sqlite3_result_text(context, b.len > 0 ? (char *)b.data : "", (int)b.len, SQLITE_TRANSIENT);
	buf_fini(&b);
}

static void add_functions(struct tables *t)
{
	const struct {
		const char *name, *text;
	} texts[] = {
		{"version", SIDETRACK_SERVER_VERSION}, {"database", t->who.schema},  {"schema", t->who.schema},
		{"user", t->who.user},                 {"current_user", t->who.user}, {"session_user", t->who.user},
		{"system_user", t->who.user},
	};

	for (unsigned i = 0; i < sizeof texts / sizeof *texts; i++)
		sqlite3_create_function(t->db, texts[i].name, 0, SQLITE_UTF8, (void *)texts[i].text, fn_text, NULL,
					NULL);
	sqlite3_create_function(t->db, "connection_id", 0, SQLITE_UTF8, t, fn_connection, NULL, NULL);
	sqlite3_create_function(t->db, "concat", -1, SQLITE_UTF8, NULL, fn_concat, NULL, NULL);
}

/* --- Lock-down -------------------------------------------------------------------------------------------------- */

static int authorize(void *arg, int action, const char *one, const char *two, const char *db, const char *trigger)
{
	(void)arg;
	(void)db;
	(void)trigger;
	switch (action) {
	case SQLITE_SELECT:
	case SQLITE_READ:
	case SQLITE_RECURSIVE:
		return SQLITE_OK;
	case SQLITE_FUNCTION:
		return strcasecmp(two, "load_extension") == 0 ? SQLITE_DENY : SQLITE_OK;
	case SQLITE_PRAGMA: /* pragma_table_info('servers'), which DESCRIBE is made of */
		return strcasecmp(one, "table_info") == 0 ? SQLITE_OK : SQLITE_DENY;
	default:
		return SQLITE_DENY;
	}
}

static int too_late(void *arg)
{
	const struct tables *t = arg;

	return topology_now_us() > t->deadline_us;
}

static void lock_down(struct tables *t)
{
	static const int limits[][2] = {
		{SQLITE_LIMIT_LENGTH, QUERY_BYTES},
		{SQLITE_LIMIT_SQL_LENGTH, 65536},
		{SQLITE_LIMIT_COLUMN, TABLES_COLUMNS},
		{SQLITE_LIMIT_EXPR_DEPTH, 100},
		{SQLITE_LIMIT_COMPOUND_SELECT, 50},
		{SQLITE_LIMIT_ATTACHED, 0},
		{SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 500},
		{SQLITE_LIMIT_VARIABLE_NUMBER, 100},
	};

	for (unsigned i = 0; i < sizeof limits / sizeof *limits; i++)
		sqlite3_limit(t->db, limits[i][0], limits[i][1]);
	sqlite3_db_config(t->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(t->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	sqlite3_progress_handler(t->db, STEPS_A_CHECK, too_late, t);
	sqlite3_set_authorizer(t->db, authorize, NULL);
}

struct tables *tables_open(const struct admin_ops *ops, const struct tables_user *who)
{
	struct tables *t = xcalloc(1, sizeof *t);

	sqlite3_hard_heap_limit64(64 << 20); /* of the whole process, which uses sqlite for nothing else */
	t->ops = ops;
	t->who = *who;
	if (sqlite3_open_v2(":memory:", &t->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_MEMORY,
			    NULL) == SQLITE_OK) {
		fill(t);
		add_functions(t);
		lock_down(t);
	} else { /* out of memory */
		sqlite3_close(t->db);
		t->db = NULL;
	}
	return t;
}

void tables_close(struct tables *t)
{
	sqlite3_close(t->db);
	free(t);
}

/* --- Asking ----------------------------------------------------------------------------------------------------- */

/* sqlite knows @name as a parameter, not @@name: `@@session.name` is given to it as `@name`, outside quotes. */
static void translate(struct slice sql, struct buf *out)
{
	static const char *const scopes[] = {"global.", "session.", "local."};
	const char *p = (const char *)sql.p, *end = p + sql.n;
	char quote = 0;

	for (; p < end; p++) {
		if (quote != 0)
			quote = *p == quote ? 0 : quote;
		else if (*p == '\'' || *p == '"' || *p == '`')
			quote = *p;
		else if (*p == '@' && end - p > 1 && p[1] == '@') {
			p++;
			for (unsigned i = 0; i < sizeof scopes / sizeof *scopes; i++) {
				size_t n = strlen(scopes[i]);
				if ((size_t)(end - p) > n + 1 && strncasecmp(p + 1, scopes[i], n) == 0) {
					p += n;
					break;
				}
			}
			buf_put_u8(out, '@');
			continue;
		}
		buf_put_u8(out, (unsigned char)*p);
	}
	buf_put_u8(out, 0);
}

static void bind_variables(sqlite3_stmt *stmt)
{
	int n = sqlite3_bind_parameter_count(stmt);

	for (int i = 1; i <= n; i++) { /* others are NULL, as unset user variables are */
		const char *name = sqlite3_bind_parameter_name(stmt, i);
		for (unsigned v = 0; name != NULL && v < sizeof variables / sizeof *variables; v++)
			if (strcasecmp(name + 1, variables[v][0]) == 0)
				sqlite3_bind_text(stmt, i, variables[v][1], -1, SQLITE_STATIC);
	}
}

static int failed(struct tables *t, char *err, size_t cap)
{
	static const char missing[] = "no such table: ", *const later[] = {"connections", "statements"};
	int code = sqlite3_errcode(t->db);
	const char *text = sqlite3_errmsg(t->db);

	if (code == SQLITE_INTERRUPT)
		snprintf(err, cap, "the query took longer than %d ms", QUERY_MS);
	else if (code == SQLITE_AUTH)
		snprintf(err, cap, "only SELECT is allowed here: %s", text);
	else
		snprintf(err, cap, "%s", text);
	for (unsigned i = 0; i < sizeof later / sizeof *later; i++)
		if (strncmp(text, missing, sizeof missing - 1) == 0 &&
		    strcasecmp(text + sizeof missing - 1, later[i]) == 0)
			snprintf(err, cap, "no such table: %s comes with a later version of Sidetrack", later[i]);
	return -1;
}

static void give_columns(sqlite3_stmt *stmt, unsigned n, const struct tables_sink *sink)
{
	const char *names[TABLES_COLUMNS];
	char at[TABLES_COLUMNS][80];

	for (unsigned i = 0; i < n; i++) {
		names[i] = sqlite3_column_name(stmt, (int)i);
		if (names[i] == NULL || names[i][0] == '@') { /* undoes what translate() did */
			snprintf(at[i], sizeof at[i], "@%s", names[i] != NULL ? names[i] : "");
			names[i] = at[i];
		}
	}
	sink->columns(sink->arg, names, n);
}

static size_t give_row(sqlite3_stmt *stmt, unsigned n, const struct tables_sink *sink)
{
	struct slice values[TABLES_COLUMNS];
	size_t total = 0;

	for (unsigned i = 0; i < n; i++) {
		const void *p = sqlite3_column_text(stmt, (int)i);
		values[i] = slice_of(p, p != NULL ? (size_t)sqlite3_column_bytes(stmt, (int)i) : 0);
		total += values[i].n;
	}
	sink->row(sink->arg, values, n);
	return total;
}

static int run(struct tables *t, sqlite3_stmt *stmt, const struct tables_sink *sink, char *err, size_t cap)
{
	unsigned n = (unsigned)sqlite3_column_count(stmt), rows = 0;
	size_t bytes = 0;
	int rc;

	if (n == 0 || n > TABLES_COLUMNS || !sqlite3_stmt_readonly(stmt)) {
		snprintf(err, cap, "expected a SELECT of 1 to %d columns", TABLES_COLUMNS);
		return -1;
	}
	bind_variables(stmt);
	give_columns(stmt, n, sink);
	while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		if (++rows > TABLES_ROWS || bytes > QUERY_BYTES) {
			snprintf(err, cap, "more than %d rows or %d MB: use LIMIT", TABLES_ROWS, QUERY_BYTES >> 20);
			return -1;
		}
		bytes += give_row(stmt, n, sink);
	}
	return rc == SQLITE_DONE ? 0 : failed(t, err, cap);
}

int tables_select(struct tables *t, struct slice sql, const struct tables_sink *sink, char *err, size_t cap)
{
	struct buf text = {0};
	sqlite3_stmt *stmt = NULL;
	const char *tail;
	int rc = -1;

	if (t->db == NULL) {
		snprintf(err, cap, "out of memory");
		return -1;
	}
	t->deadline_us = topology_now_us() + QUERY_MS * 1000;
	translate(sql, &text);
	if (memchr(sql.p, 0, sql.n) != NULL)
		snprintf(err, cap, "the statement holds a NUL byte");
	else if (sqlite3_prepare_v2(t->db, (char *)text.data, -1, &stmt, &tail) != SQLITE_OK)
		failed(t, err, cap);
	else if (stmt == NULL)
		snprintf(err, cap, "the statement is empty");
	else if (tail[strspn(tail, " \t\r\n;")] != '\0')
		snprintf(err, cap, "one statement at a time");
	else
		rc = run(t, stmt, sink, err, cap);
	sqlite3_finalize(stmt);
	buf_fini(&text);
	return rc;
}
