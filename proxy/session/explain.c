/* SPDX-License-Identifier: Apache-2.0 */
#include "session/explain.h"

#include <stdarg.h>
#include <stdio.h>

#include "cache/cache.h"
#include "cluster/route.h"
#include "sql/classify.h"

struct sink {
	void (*row)(void *arg, const char *name, const char *value);
	void *arg;
};

static void say(const struct sink *out, const char *name, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void say(const struct sink *out, const char *name, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	out->row(out->arg, name, text);
}

static void say_tables(const struct sink *out, const struct sql_stmt *stmt, const char *schema)
{
	char text[1024];
	size_t n = 0;

	text[0] = '\0';
	for (unsigned i = 0; i < stmt->ntables && n < sizeof text - 200; i++) {
		const struct sql_name *t = &stmt->tables[i];
		int db = t->db.n > 0 ? (int)t->db.n : (int)strlen(schema);
		n += (size_t)snprintf(text + n, sizeof text - n, "%s%.*s%s%.*s%s", n > 0 ? ", " : "", db,
				      t->db.n > 0 ? (const char *)t->db.p : schema, db > 0 ? "." : "", (int)t->name.n,
				      (const char *)t->name.p, t->written ? " (written)" : "");
	}
	if (stmt->flags & SQLF_TABLES_OVERFLOW)
		snprintf(text + n, sizeof text - n, "%smore than could be read", n > 0 ? ", " : "");
	say(out, "tables", "%s", text);
}

static void say_cache(const struct sink *out, const struct explain_world *w, const struct sql_stmt *stmt, bool read,
		      const char *schema)
{
	struct cache_key key;
	const char *why = NULL;

	if (stmt->scope == SQL_SCOPE_NONE) {
		say(out, "cache", "no rule for its tables%s",
		    stmt->ntables > 0 && stmt->tables[0].db.n == 0 && schema[0] == '\0' ? " (without a default schema)"
											: "");
		return;
	}
	if (!read) {
		say(out, "cache", "%s",
		    stmt->watched_written != 0 ? "invalidated by it" : "not looked up: it is not a read that may move");
		return;
	}
	if (w->catalog == NULL) {
		say(out, "cache", "bypassed: the dictionary is not known yet, or being read again after DDL");
		return;
	}
	switch (cache_rule_match(w->config, w->catalog, stmt, 0, NULL, &key, &why)) {
	case CACHE_MATCH:
		say(out, "cache", "%s",
		    w->config->mode == MODE_CACHE ? "looked up" : "would be looked up with mode = cache");
		say(out, "cache_rule", "%s", w->config->rules[key.rule].name);
		say(out, "cache_key", "%.*s", (int)key.len, (const char *)key.row);
		break;
	case CACHE_NO_RULE:
		say(out, "cache", "no rule for its tables");
		break;
	default:
		say(out, "cache", "bypassed: %s", why != NULL ? why : "not a lookup by key");
		break;
	}
}

static unsigned watch_rules(const struct explain_world *w, struct sql_watch *watch)
{
	for (unsigned i = 0; i < w->config->nrules; i++) {
		const struct config_rule *r = &w->config->rules[i];
		const struct catalog_rule *known =
			w->catalog != NULL && w->catalog->rules[i].found ? &w->catalog->rules[i] : NULL;
		watch[i] = (struct sql_watch){slice_str(r->db),
					      slice_str(r->table),
					      slice_str(r->key),
					      slice_str(r->expires),
					      known != NULL ? known->key_ordinal : -1,
					      known != NULL ? known->columns : -1,
					      known != NULL && known->sole_unique};
	}
	return w->config->nrules;
}

static int pick(const struct explain_world *w, const struct sql_stmt *stmt, const char *schema, bool fold,
		const struct route_want *want, enum route_reason *reason)
{
	struct route_need need = {.consistency = w->config->consistency, .ignore_freshness = want->ignore_freshness};
	uint64_t slots[SQL_TABLES];

	need.tables = slots;
	for (unsigned i = 0; i < stmt->ntables && w->catalog != NULL; i++) {
		struct slice db = stmt->tables[i].db.n > 0 ? stmt->tables[i].db : slice_str(schema);
		slots[i] = freshness_table(db, stmt->tables[i].name, fold);
		if (catalog_is_view(w->catalog, slots[i])) {
			need.n = 0;
			break;
		}
		need.n = i + 1;
	}
	if (stmt->ntables == 0 && !(stmt->flags & (SQLF_TABLES_OVERFLOW | SQLF_UNKNOWN_FUNC)))
		need.ignore_freshness = true;
	if (w->topology->primary < 0 && cache_rule_shared(w->config, stmt)) {
		*reason = ROUTE_NO_REPLICA; /* as pick_replica() in dispatch.c */
		return -1;
	}
	return route_pick(w->topology, w->freshness, &need, 0, topology_now_us(), reason);
}

void explain_route(const struct explain_world *w, struct slice sql, const char *schema,
		   void (*row)(void *arg, const char *name, const char *value), void *arg)
{
	struct sink out = {row, arg};
	struct sql_watch watch[CONFIG_RULES];
	struct sql_stmt stmt;
	char digest[1024];
	bool fold = w->topology != NULL && w->topology->lower_case_table_names != 0;
	unsigned mode = fold ? SQL_FOLD_TABLE_NAMES : 0;

	if (schema == NULL)
		schema = "";
	sql_classify(sql, mode, slice_str(schema), watch, watch_rules(w, watch), &stmt);
	struct route_facts facts = {.autocommit = true, .schema = slice_str(schema)};
	struct route_want want = route_wants(&stmt, &facts, w->catalog);
	enum route_reason reason = want.reason;
	bool read = want.target == TARGET_REPLICA;
	int index = -1;

	if (read && w->config->mode == MODE_OBSERVE)
		reason = ROUTE_OBSERVE;
	else if (read && w->topology != NULL)
		index = pick(w, &stmt, schema, fold, &want, &reason);
	bool replica = index >= 0;
	if (index < 0 && w->topology != NULL)
		index = w->topology->primary;

	say(&out, "kind", "%s", sql_kind_name(stmt.kind));
	say_tables(&out, &stmt, schema);
	say(&out, "route", "%s", want.target == TARGET_LAST ? "last" : replica ? "replica" : "primary");
	say(&out, "server", "%s", index >= 0 ? w->topology->views[index].server->name : "none is up");
	say(&out, "reason", "%s", route_reason_name(reason));
	say(&out, "reason_text", "%s", route_reason_text(reason));
	sql_digest_text(sql, mode, digest, sizeof digest);
	say(&out, "digest", "%016llx", (unsigned long long)stmt.digest);
	say(&out, "digest_text", "%s", digest);
	say_cache(&out, w, &stmt, read, schema);
}
