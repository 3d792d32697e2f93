/* SPDX-License-Identifier: Apache-2.0
 *
 * The monitor alone, for tests/integration/test_monitor.py: starts it with a configuration file, prints what it
 * publishes, one line each, and obeys lines on stdin (commands[]). Each command ends with a line "done ...".
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "service/monitor.h"

static struct {
	pthread_mutex_t lock;
	struct topology *topology;
	struct accounts *accounts;
	struct catalog *catalog;
} now = {.lock = PTHREAD_MUTEX_INITIALIZER};
static struct freshness *freshness;
static struct monitor *monitor;
static struct config *config;

static void on_topology(void *arg, struct topology *t)
{
	(void)arg;
	pthread_mutex_lock(&now.lock);
	topology_unref(now.topology);
	now.topology = t;
	printf("topology primary=%s epoch=%llu", t->primary >= 0 ? t->views[t->primary].server->name : "none",
	       (unsigned long long)t->primary_epoch);
	for (unsigned i = 0; i < t->n; i++)
		printf(" %s=%s,%s%s", t->views[i].server->name, server_role_name(t->views[i].role),
		       server_state_name(t->views[i].state), t->views[i].drained ? ",drained" : "");
	printf("\n");
	pthread_mutex_unlock(&now.lock);
}

static void on_accounts(void *arg, struct accounts *a)
{
	(void)arg;
	pthread_mutex_lock(&now.lock);
	accounts_unref(now.accounts);
	now.accounts = a;
	printf("accounts %u\n", a->n);
	pthread_mutex_unlock(&now.lock);
}

static void on_catalog(void *arg, struct catalog *c)
{
	(void)arg;
	pthread_mutex_lock(&now.lock);
	catalog_unref(now.catalog);
	now.catalog = c;
	printf("catalog %llu %s %s\n", (unsigned long long)c->generation, c->complete ? "complete" : "incomplete",
	       c->why);
	pthread_mutex_unlock(&now.lock);
}

static void on_defaults(void *arg)
{
	(void)arg;
	printf("defaults\n");
}

static void on_event(void *arg, const char *kind, const char *server, const char *text)
{
	(void)arg;
	printf("event %s %s %s\n", kind, server, text);
}

static const char *word(char **rest)
{
	const char *w = strsep(rest, " \n");

	return w != NULL ? w : "";
}

static void report(void *arg, const char *line)
{
	(void)arg;
	fprintf(stderr, "%s\n", line);
}

static struct config *load(const char *path)
{
	struct config_options o = {.file = path};
	struct config *c = config_load(&o, report, NULL);

	if (c == NULL)
		exit(2);
	return c;
}

static void cmd_reload(char *rest)
{
	config_unref(config);
	config = load(word(&rest));
	monitor_reload(monitor, config);
}

static void cmd_drain(char *rest)
{
	const char *name = word(&rest);

	printf("done %d", monitor_drain(monitor, name, *word(&rest) == '1'));
}

/* The server's view by name, under now.lock; NULL when there is none. */
static struct server_view *view_of(const char *name)
{
	for (unsigned i = 0; i < now.topology->n; i++)
		if (strcmp(now.topology->views[i].server->name, name) == 0)
			return &now.topology->views[i];
	return NULL;
}

/* readable NAME: may it serve reads, how old is its proof in ms, is it marked as failed, why not */
static void cmd_readable(char *rest)
{
	struct server_view *v = view_of(word(&rest));

	if (v == NULL)
		return;
	int64_t fresh = atomic_load(&v->server->fresh_us), at = topology_now_us();
	printf("done %d %lld %u %s", topology_readable(now.topology, (unsigned)(v - now.topology->views), at),
	       fresh == 0 ? -1LL : (long long)(at - fresh) / 1000, atomic_load(&v->server->failed), v->why);
}

static void cmd_failed(char *rest)
{
	struct server_view *v = view_of(word(&rest));

	if (v != NULL)
		atomic_store(&v->server->failed, 1);
	monitor_poke(monitor, POKE_SERVERS);
}

/* wrote TABLE GTID: as a worker would after an OK packet */
static void cmd_wrote(char *rest)
{
	uint64_t table = freshness_table(slice_str("app"), slice_str(word(&rest)), false);
	struct gtid g;

	if (gtid_parse(slice_str(word(&rest)), &g) == 0)
		freshness_wrote(freshness, &table, 1, g);
}

static void cmd_unknown(char *rest)
{
	uint64_t table = freshness_table(slice_str("app"), slice_str(word(&rest)), false);

	freshness_unknown(freshness, &table, 1);
}

/* covered TABLE SERVER; TABLE *: any */
static void cmd_covered(char *rest)
{
	const char *name = word(&rest);
	uint64_t table = freshness_table(slice_str("app"), slice_str(name), false);
	struct server_view *v = view_of(word(&rest));

	if (v != NULL)
		printf("done %d", freshness_covered(freshness, &v->server->applied, &table, *name != '*'));
}

static void cmd_request(char *rest)
{
	(void)rest;
	printf("done %llu", (unsigned long long)monitor_catalog_request(monitor));
}

static void cmd_poke_accounts(char *rest)
{
	(void)rest;
	monitor_poke(monitor, POKE_ACCOUNTS);
}

/* account USER ADDRESS */
static void cmd_account(char *rest)
{
	const char *user = word(&rest);
	const struct account *a = accounts_find(now.accounts, slice_str(user), word(&rest), false);
	static const char *const methods[] = {"native", "empty", "unsupported"};

	if (a != NULL)
		printf("done %s@%s %s %s%s%s%s", a->user, a->host, methods[a->method], a->plugin,
		       a->locked ? " locked" : "", a->needs_tls ? " tls" : "", a->expires_s == 0 ? " expired" : "");
}

/* object DB NAME: view, spreading, reading routine */
static void cmd_object(char *rest)
{
	struct slice db = slice_str(word(&rest)), name = slice_str(word(&rest));
	uint64_t table = freshness_table(db, name, false);

	printf("done %d %d %d", catalog_is_view(now.catalog, table), catalog_spreads(now.catalog, table),
	       !(catalog_routine(now.catalog, db, name, true) & EFFECT_PRIMARY));
}

/* effects DB NAME: of reading, of writing, of a function, of a procedure */
static void cmd_effects(char *rest)
{
	struct slice db = slice_str(word(&rest)), name = slice_str(word(&rest));
	uint64_t table = freshness_table(db, name, false);

	printf("done %u %u %u %u", catalog_read(now.catalog, table), catalog_write(now.catalog, table),
	       catalog_routine(now.catalog, db, name, true), catalog_routine(now.catalog, db, name, false));
}

static void cmd_rule(char *rest)
{
	const struct catalog_rule *r = &now.catalog->rules[atoi(word(&rest))];

	printf("done found=%d compare=%d expires=%d ordinal=%d columns=%d sole=%d hidden=%d bytes=%u why=%s", r->found,
	       r->compare, r->expires, r->key_ordinal, r->columns, r->sole_unique, r->hidden_writes, r->key_bytes,
	       r->why);
}

static void cmd_stop(char *rest)
{
	(void)rest;
	int64_t began = topology_now_us();
	pthread_mutex_unlock(&now.lock);
	monitor_stop(monitor);
	monitor_free(monitor);
	pthread_mutex_lock(&now.lock);
	monitor = NULL;
	printf("done %lld", (long long)(topology_now_us() - began) / 1000);
}

static const struct {
	const char *name;
	bool locked; /* reads `now` */
	void (*run)(char *rest);
} commands[] = {
	{"reload", false, cmd_reload},	 {"drain", false, cmd_drain},	  {"readable", true, cmd_readable},
	{"failed", true, cmd_failed},	 {"wrote", true, cmd_wrote},	  {"covered", true, cmd_covered},
	{"request", false, cmd_request}, {"poke-accounts", false, cmd_poke_accounts},
	{"account", true, cmd_account},	 {"object", true, cmd_object},	  {"rule", true, cmd_rule},
	{"unknown", true, cmd_unknown},	 {"effects", true, cmd_effects}, {"stop", true, cmd_stop},
};

static void obey(char *line)
{
	const char *name = word(&line);

	for (unsigned i = 0; i < sizeof commands / sizeof *commands; i++) {
		if (strcmp(commands[i].name, name) != 0)
			continue;
		if (commands[i].locked)
			pthread_mutex_lock(&now.lock);
		commands[i].run(line);
		if (commands[i].locked)
			pthread_mutex_unlock(&now.lock);
	}
	printf("\ndone\n");
}

int main(int argc, char **argv)
{
	struct monitor_sink sink = {NULL, on_topology, on_accounts, on_catalog, on_defaults, on_event};
	char *line = NULL;
	size_t cap = 0;

	if (argc != 2)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	config = load(argv[1]);
	freshness = freshness_new();
	monitor = monitor_start(config, freshness, &sink);
	while (monitor != NULL && getline(&line, &cap, stdin) > 0)
		obey(line);
	if (monitor != NULL) {
		monitor_stop(monitor);
		monitor_free(monitor);
	}
	free(line);
	topology_unref(now.topology);
	accounts_unref(now.accounts);
	catalog_unref(now.catalog);
	freshness_free(freshness);
	config_unref(config);
	return 0;
}
