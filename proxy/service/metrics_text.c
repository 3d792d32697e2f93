/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/stats.h"
#include "base/version.h"
#include "service/metrics.h"
#include "service/servers.h"
#include "service/tables.h"
#include "session/budget.h"

static const char *const route_names[STAT_ROUTES] = {"primary", "replica", "cache"};
static const char *const source_names[STAT_INVAL_SOURCES] = {"write", "table", "ddl", "binlog"};

/* --- Prometheus ------------------------------------------------------------------------------------------------- */

static void family(struct buf *out, const char *name, const char *type, const char *help)
{
	buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A label's value: user names are anything. */
static void put_label(struct buf *out, const char *name, const char *value)
{
	buf_printf(out, "%s=\"", name);
	for (; *value != '\0'; value++) {
		if (*value == '\\' || *value == '"')
			buf_put_u8(out, '\\');
		buf_put_str(out, *value == '\n' ? "\\n" : (char[]){*value, '\0'});
	}
	buf_put_u8(out, '"');
}

static void put_statements(struct buf *out, const struct servers *all)
{
	char name[64];
	unsigned users = stats_users();

	family(out, "sidetrack_statements_total", "counter", "Statements answered, by where they went.");
	for (unsigned route = 0; route < STAT_ROUTES; route++) {
		for (unsigned server = 0; server < STATS_SERVERS; server++) {
			for (unsigned user = 0; user < users; user++) {
				uint64_t n = stats_sum_statements(route, server, user);
				if (n == 0)
					continue;
				buf_printf(out, "sidetrack_statements_total{route=\"%s\",", route_names[route]);
				put_label(out, "server", servers_name(all, server, name));
				buf_put_u8(out, ',');
				put_label(out, "user", stats_user_name(user));
				buf_printf(out, "} %" PRIu64 "\n", n);
			}
		}
	}
}

/* Fine buckets are summed up to 16, 24, 32, 48 ... us to 67 s: bounds of fine buckets, so that nothing is guessed. */
static void put_latency(struct buf *out)
{
	family(out, "sidetrack_statement_seconds", "histogram",
	       "Time from a statement's arrival to the end of its answer.");
	for (unsigned route = 0; route < STAT_ROUTES; route++) {
		struct stats_latency l;
		uint64_t below = 0;
		unsigned b = 0;

		stats_sum_latency(route, &l);
		for (unsigned i = 8; i <= 52; i++) {
			uint64_t bound = (i % 2 == 0 ? UINT64_C(4) : UINT64_C(6)) << (i / 2 - 2);
			while (stats_bucket_bound(b) <= bound)
				below += l.bucket[b++];
			buf_printf(out, "sidetrack_statement_seconds_bucket{route=\"%s\",le=\"%.9g\"} %" PRIu64 "\n",
				   route_names[route], (double)bound / 1e6, below);
		}
		buf_printf(out, "sidetrack_statement_seconds_bucket{route=\"%s\",le=\"+Inf\"} %" PRIu64 "\n",
			   route_names[route], l.count);
		buf_printf(out, "sidetrack_statement_seconds_sum{route=\"%s\"} %.6f\n", route_names[route],
			   (double)l.sum_us / 1e6);
		buf_printf(out, "sidetrack_statement_seconds_count{route=\"%s\"} %" PRIu64 "\n", route_names[route],
			   l.count);
	}
}

static void put_server_line(struct buf *out, const char *metric, const struct server *s, const char *state)
{
	buf_printf(out, "%s{", metric);
	put_label(out, "server", s->name);
	if (state != NULL)
		buf_printf(out, ",state=\"%s\"", state);
	buf_put_str(out, "} ");
}

static void put_servers(struct buf *out, const struct servers *all)
{
	int64_t now = topology_now_us();

	family(out, "sidetrack_server_connections", "gauge", "Connections to a server, by what they do.");
	for (unsigned i = 0; i < all->n; i++) {
		int64_t idle, active;
		stats_sum_server_connections(all->at[i].view->server->id, &idle, &active);
		put_server_line(out, "sidetrack_server_connections", all->at[i].view->server, "idle");
		buf_printf(out, "%" PRId64 "\n", idle);
		put_server_line(out, "sidetrack_server_connections", all->at[i].view->server, "active");
		buf_printf(out, "%" PRId64 "\n", active);
	}
	family(out, "sidetrack_server_up", "gauge", "1 while a server answers its checks.");
	for (unsigned i = 0; i < all->n; i++) {
		put_server_line(out, "sidetrack_server_up", all->at[i].view->server, NULL);
		buf_printf(out, "%d\n", all->at[i].view->state == SERVER_UP);
	}
	family(out, "sidetrack_replica_lag_seconds", "gauge",
	       "How old a replica's newest proof of freshness is; absent without one.");
	for (unsigned i = 0; i < all->n; i++) {
		int64_t fresh = atomic_load_explicit(&all->at[i].view->server->fresh_us, memory_order_acquire);
		if (all->at[i].view->role != ROLE_REPLICA || fresh == 0)
			continue;
		put_server_line(out, "sidetrack_replica_lag_seconds", all->at[i].view->server, NULL);
		buf_printf(out, "%.6f\n", (double)(now > fresh ? now - fresh : 0) / 1e6);
	}
}

static void put_cache(struct buf *out)
{
	static const struct {
		enum stat_cache event;
		const char *result;
	} results[] = {{STAT_HIT, "hit"}, {STAT_MISS, "miss"}, {STAT_BYPASS, "bypass"}};
	unsigned rules = stats_rules();

	family(out, "sidetrack_cache_requests_total", "counter", "Lookups of cacheable statements, by their outcome.");
	for (unsigned rule = 0; rule < rules; rule++) {
		for (unsigned i = 0; i < sizeof results / sizeof *results; i++) {
			buf_put_str(out, "sidetrack_cache_requests_total{");
			put_label(out, "rule", stats_rule_name(rule));
			buf_printf(out, ",result=\"%s\"} %" PRIu64 "\n", results[i].result,
				   stats_sum_cache(rule, results[i].event));
		}
	}
	family(out, "sidetrack_cache_invalidations_total", "counter",
	       "Entries or tables dropped from the cache, by what told.");
	for (unsigned rule = 0; rule < rules; rule++) {
		for (unsigned source = 0; source < STAT_INVAL_SOURCES; source++) {
			buf_put_str(out, "sidetrack_cache_invalidations_total{");
			put_label(out, "rule", stats_rule_name(rule));
			buf_printf(out, ",source=\"%s\"} %" PRIu64 "\n", source_names[source],
				   stats_sum_invalidations(rule, source));
		}
	}
}

void metrics_text(const struct admin_ops *ops, struct buf *out)
{
	struct servers all;

	servers_get(ops, &all);
	put_statements(out, &all);
	put_latency(out);
	family(out, "sidetrack_client_connections", "gauge", "Clients connected now.");
	buf_printf(out, "sidetrack_client_connections %" PRId64 "\n", stats_sum_clients());
	family(out, "sidetrack_client_memory_bytes", "gauge", "What is in use of [proxy] client_memory.");
	buf_printf(out, "sidetrack_client_memory_bytes %" PRIu64 "\n", budget_used());
	put_servers(out, &all);
	put_cache(out);
	family(out, "sidetrack_errors_total", "counter", "Things that went wrong, by kind.");
	for (unsigned kind = 0; kind < STAT_ERRORS; kind++)
		buf_printf(out, "sidetrack_errors_total{kind=\"%s\"} %" PRIu64 "\n", stat_error_name(kind),
			   stats_sum_errors(kind));
	family(out, "sidetrack_would_move_total", "counter",
	       "With mode = observe: statements that another mode would have moved.");
	for (unsigned route = STAT_REPLICA; route < STAT_ROUTES; route++)
		buf_printf(out, "sidetrack_would_move_total{route=\"%s\"} %" PRIu64 "\n", route_names[route],
			   stats_sum_would_move(route));
	servers_put(&all);
}

bool metrics_ready(const struct admin_ops *ops, char *why, size_t cap)
{
	struct servers all;
	bool ready = false;

	servers_get(ops, &all);
	for (unsigned g = 0; g < all.groups; g++) /* a group that is down must not take the others with it */
		ready |= all.topology[g]->primary >= 0;
	int n = snprintf(why, cap, ready ? "ready\n" : "no primary is up\n");
	for (unsigned i = 0; !ready && i < all.n && n >= 0 && (size_t)n < cap; i++) {
		const struct server_view *v = all.at[i].view;
		n += snprintf(why + n, cap - (size_t)n, "%s (%s): %s, %s%s%s\n", v->server->name,
			      v->server->address.text, server_role_name(v->role), server_state_name(v->state),
			      v->why[0] != '\0' ? ": " : "", v->why);
	}
	servers_put(&all);
	return ready;
}

/* --- JSON ------------------------------------------------------------------------------------------------------- */

struct json_rows {
	json_t *list;
	char names[TABLES_COLUMNS][64];
};

static void on_columns(void *arg, const char *const *names, unsigned n)
{
	struct json_rows *r = arg;

	for (unsigned i = 0; i < n; i++)
		snprintf(r->names[i], sizeof r->names[i], "%s", names[i]);
}

static void on_row(void *arg, const struct slice *values, unsigned n)
{
	struct json_rows *r = arg;
	json_t *row = json_object();

	for (unsigned i = 0; i < n; i++) {
		json_t *v = values[i].p == NULL ? json_null() : json_stringn((const char *)values[i].p, values[i].n);
		json_object_set_new(row, r->names[i], v != NULL ? v : json_string("(not UTF-8)"));
	}
	json_array_append_new(r->list, row);
}

static json_t *select_json(struct tables *t, const char *sql)
{
	struct json_rows rows = {.list = json_array()};
	const struct tables_sink sink = {&rows, on_columns, on_row};
	char err[256];

	if (tables_select(t, slice_str(sql), &sink, err, sizeof err) != 0)
		json_array_append_new(rows.list, json_pack("{s:s}", "error", err));
	return rows.list;
}

static json_t *statements_json(void)
{
	json_t *all = json_object();

	for (unsigned route = 0; route < STAT_ROUTES; route++) {
		struct stats_latency l;
		stats_sum_latency(route, &l);
		json_object_set_new(all, route_names[route],
				    json_pack("{s:I,s:I,s:I,s:I,s:I}", "count", (json_int_t)l.count, "sum_us",
					      (json_int_t)l.sum_us, "p50_us", (json_int_t)stats_quantile(&l, 0.5),
					      "p99_us", (json_int_t)stats_quantile(&l, 0.99), "would_move",
					      (json_int_t)stats_sum_would_move(route)));
	}
	return all;
}

void metrics_status(const struct admin_ops *ops, struct buf *out)
{
	static const struct tables_user who = {"web", NULL, 0};
	struct tables *t = tables_open(ops, &who);
	json_t *mode = select_json(t, "SELECT value FROM config WHERE section = 'proxy' AND key = 'mode'");
	json_t *all =
		json_pack("{s:s,s:O,s:I,s:I,s:o}", "version", SIDETRACK_VERSION, "mode",
			  json_object_get(json_array_get(mode, 0), "value"), "clients", (json_int_t)stats_sum_clients(),
			  "now_us", (json_int_t)topology_now_us(), "statements", statements_json());

	json_object_set_new(all, "servers", select_json(t, "SELECT * FROM servers"));
	json_object_set_new(all, "routes", select_json(t, "SELECT * FROM routes ORDER BY count DESC"));
	json_object_set_new(all, "cache", select_json(t, "SELECT * FROM cache"));
	json_object_set_new(all, "events", select_json(t, "SELECT * FROM events ORDER BY time DESC LIMIT 20"));
	char *text = json_dumps(all, JSON_COMPACT);
	buf_put_str(out, text != NULL ? text : "{}");
	free(text);
	json_decref(mode);
	json_decref(all);
	tables_close(t);
}
