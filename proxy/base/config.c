/* SPDX-License-Identifier: Apache-2.0 */
#include "base/config.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/config_table.h"
#include "base/mem.h"
#include "base/stats.h"

#define UNWRAP(...) __VA_ARGS__
#define FIXED false
#define LIVE true
#define ON true
#define OFF false
#define STRUCT_PROXY struct config
#define STRUCT_ADMIN struct config
#define STRUCT_SERVER struct config_server
#define STRUCT_MONITOR struct config
#define STRUCT_USER struct config_user
#define STRUCT_CACHE struct config
#define STRUCT_RULE struct config_rule
#define STRUCT_SERVICE struct config_service

const struct config_section config_sections[SECTIONS] = {
#define CONFIG_SECTION(ID, name, example, shown, help) [SECTION_##ID] = {name, example, shown, help},
#define CONFIG_OPTION(...)
#include "tbl/config.h"
#undef CONFIG_SECTION
#undef CONFIG_OPTION
};

const struct config_option config_options[] = {
#define CONFIG_SECTION(...)
#define CONFIG_OPTION(SECTION, key, TYPE, field, def, limits, live, example, help)                                     \
	{SECTION_##SECTION, key, TYPE_##TYPE, offsetof(STRUCT_##SECTION, field),                                       \
	 sizeof(((STRUCT_##SECTION *)0)->field), def, {UNWRAP limits}, live, example, help},
#include "tbl/config.h"
#undef CONFIG_SECTION
#undef CONFIG_OPTION
};
const unsigned config_options_n = sizeof config_options / sizeof *config_options;

const struct config_option *config_option_find(enum config_section_id section, const char *key)
{
	for (unsigned i = 0; i < config_options_n; i++)
		if (config_options[i].section == section && strcmp(config_options[i].key, key) == 0)
			return &config_options[i];
	return NULL;
}

/* --- Life ------------------------------------------------------------------------------------------------------- */

struct config *config_ref(struct config *c)
{
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	return c;
}

static void drop_services(struct config *c)
{
	for (unsigned i = 0; i < c->nservices; i++) {
		free(c->services[i].match.text);
		free(c->services[i].servers);
		free(c->services[i].monitor_user);
		secret_free(c->services[i].monitor_password);
	}
	c->nservices = 0;
}

void config_unref(struct config *c)
{
	if (c == NULL || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (c->whole != NULL) { /* a view: everything that it points to is the whole's */
		config_unref(c->whole);
		free(c);
		return;
	}
	drop_services(c);
	for (unsigned i = 0; i < c->nusers; i++)
		secret_free(c->users[i].password);
	free(c->users);
	free(c->path);
	free(c->admin_user);
	free(c->monitor_user);
	free(c->redis_user);
	secret_free(c->admin_password);
	secret_free(c->monitor_password);
	secret_free(c->redis_password);
	free(c);
}

/* --- Loading ---------------------------------------------------------------------------------------------------- */

struct seen { /* a section of the file */
	char *name;
	int line;
};

enum { WHOLE_FILE = 0, COMMAND_LINE = -1 }; /* instead of the number of a line */

struct loader {
	struct config *config;
	const char *path;
	bool exposed, resolve;
	unsigned errors;
	void (*report)(void *arg, const char *line);
	void *arg;

	enum config_section_id section; /* the one being read; SECTIONS: none, or an unknown one, which is skipped */
	void *at;                       /* its struct */
	char name[160];                 /* as written */
	int keys[64];                   /* the line of each option (by row) in this section, 0: not there */
	struct seen *seen;
	unsigned nseen;
	int server_line[CONFIG_SERVERS], rule_line[CONFIG_RULES], service_line[CONFIG_SERVICES];
	bool servers_given; /* on the command line, in place of the file's */
};

static void complain(struct loader *l, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void complain(struct loader *l, int line, const char *fmt, ...)
{
	char text[1024], where[32] = "";
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (line > 0)
		snprintf(where, sizeof where, ":%d", line);
	const char *path = line == COMMAND_LINE || l->path == NULL ? "command line" : l->path;
	char *whole = xasprintf("%s%s: %s", path, where, text);
	l->report(l->arg, whole);
	free(whole);
	l->errors++;
}

static void set_defaults(struct loader *l, enum config_section_id section, void *at)
{
	char why[CONFIG_WHY];

	for (unsigned i = 0; i < config_options_n; i++) {
		const struct config_option *o = &config_options[i];
		if (o->section == section && o->def != NULL && config_value_set(o, at, o->def, l->resolve, why) != 0)
			complain(l, WHOLE_FILE, "default of [%s] %s: %s", config_sections[section].name, o->key, why);
	}
}

static bool good_label(const char *s)
{
	static const char chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";

	return s[0] != '\0' && strlen(s) < 64 && strspn(s, chars) == strlen(s);
}

static struct config_server *add_server(struct loader *l, int line, const char *name)
{
	struct config *c = l->config;

	if (c->nservers == CONFIG_SERVERS) {
		complain(l, line, "at most %d servers", CONFIG_SERVERS);
		return NULL;
	}
	l->server_line[c->nservers] = line;
	struct config_server *s = &c->servers[c->nservers++];
	*s = (struct config_server){.service = -1};
	snprintf(s->name, sizeof s->name, "%s", name);
	set_defaults(l, SECTION_SERVER, s);
	return s;
}

static struct config_rule *add_rule(struct loader *l, int line, const char *name)
{
	struct config *c = l->config;

	if (c->nrules == CONFIG_RULES) {
		complain(l, line, "at most %d cache rules", CONFIG_RULES);
		return NULL;
	}
	l->rule_line[c->nrules] = line;
	struct config_rule *r = &c->rules[c->nrules++];
	r->service = -1;
	snprintf(r->name, sizeof r->name, "%s", name);
	set_defaults(l, SECTION_RULE, r);
	return r;
}

static struct config_service *add_service(struct loader *l, int line, const char *name)
{
	struct config *c = l->config;

	if (c->nservices == CONFIG_SERVICES) {
		complain(l, line, "at most %d services", CONFIG_SERVICES);
		return NULL;
	}
	l->service_line[c->nservices] = line;
	struct config_service *s = &c->services[c->nservices++];
	snprintf(s->name, sizeof s->name, "%s", name);
	set_defaults(l, SECTION_SERVICE, s);
	return s;
}

static struct config_user *add_user(struct loader *l, int line, const char *name)
{
	struct config *c = l->config;

	if (strlen(name) >= sizeof c->users->name) {
		complain(l, line, "the name of an account has at most %zu bytes", sizeof c->users->name - 1);
		return NULL;
	}
	c->users = xrealloc(c->users, (c->nusers + 1) * sizeof *c->users);
	struct config_user *u = &c->users[c->nusers++];
	*u = (struct config_user){0};
	snprintf(u->name, sizeof u->name, "%s", name);
	set_defaults(l, SECTION_USER, u);
	return u;
}

static bool seen_before(struct loader *l, int line, const char *name)
{
	for (unsigned i = 0; i < l->nseen; i++) {
		if (strcmp(l->seen[i].name, name) == 0) {
			complain(l, line, "section [%s] again: expected once, it is in line %d already", name,
				 l->seen[i].line);
			return true;
		}
	}
	l->seen = xrealloc(l->seen, (l->nseen + 1) * sizeof *l->seen);
	l->seen[l->nseen++] = (struct seen){xstrdup(name), line};
	return false;
}

static void unknown_section(struct loader *l, int line, const char *name, size_t stem)
{
	const char *words[SECTIONS];
	char typed[64];

	for (unsigned i = 0; i < SECTIONS; i++)
		words[i] = config_sections[i].name;
	snprintf(typed, sizeof typed, "%.*s", (int)stem, name);
	const char *near = config_nearest(typed, words, SECTIONS);
	if (near != NULL && strcmp(near, typed) == 0)
		complain(l, line, "unknown section [%.80s]: expected [%s]", name, near);
	else if (near != NULL)
		complain(l, line, "unknown section [%.80s]: did you mean [%s%.80s]?", name, near, name + stem);
	else
		complain(l, line,
			 "unknown section [%.80s]: expected proxy, admin, server.X, monitor, user.X, cache, cache.X or "
			 "service.X",
			 name);
}

static enum config_section_id find_section(const char *name, size_t stem)
{
	bool family = name[stem] == '.';

	for (unsigned i = 0; i < SECTIONS; i++) {
		const struct config_section *s = &config_sections[i];
		if (strlen(s->name) == stem && memcmp(s->name, name, stem) == 0 && (s->example != NULL) == family)
			return i;
	}
	return SECTIONS;
}

static void *open_section(struct loader *l, int line, const char *x)
{
	if (config_sections[l->section].example == NULL)
		return l->config;
	if (l->section == SECTION_USER ? x[0] == '\0' : !good_label(x)) {
		complain(l, line, "[%.80s]: expected a name of 1 to 63 letters, digits, _ - . after %s.", l->name,
			 config_sections[l->section].name);
		return NULL;
	}
	switch (l->section) {
	case SECTION_SERVER: return add_server(l, line, x);
	case SECTION_USER: return add_user(l, line, x);
	case SECTION_RULE: return add_rule(l, line, x);
	case SECTION_SERVICE: return add_service(l, line, x);
	default: return NULL; /* no other family */
	}
}

static const struct {
	enum config_section_id section;
	const char *key, *expected;
} required[] = {
	{SECTION_SERVER, "address", "address = host:port"},
	{SECTION_USER, "password", "one (password = \"\" for none)"},
	{SECTION_RULE, "table", "table = database.table"},
	{SECTION_RULE, "key", "key = column"},
	{SECTION_SERVICE, "match", "match = host:port"},
	{SECTION_SERVICE, "servers", "servers = X, of a [server.X]"},
};

static void end_section(struct loader *l)
{
	for (unsigned i = 0; l->at != NULL && i < sizeof required / sizeof *required; i++) {
		const struct config_option *o = config_option_find(required[i].section, required[i].key);
		if (o->section == l->section && l->keys[o - config_options] == 0)
			complain(l, l->seen[l->nseen - 1].line, "[%s] has no %s: expected %s", l->name, o->key,
				 required[i].expected);
	}
	l->section = SECTIONS;
	l->at = NULL;
	memset(l->keys, 0, sizeof l->keys);
}

static void on_section(void *arg, int line, const char *name)
{
	struct loader *l = arg;
	size_t stem = strcspn(name, ".");

	end_section(l);
	if (strlen(name) >= sizeof l->name) {
		complain(l, line, "the name of this section is too long");
		return;
	}
	snprintf(l->name, sizeof l->name, "%s", name);
	enum config_section_id id = find_section(name, stem);
	if (id == SECTIONS && find_section(name, strlen(name)) == SECTIONS && name[stem] == '\0') {
		char dotted[sizeof l->name + 1];
		snprintf(dotted, sizeof dotted, "%s.", name);
		if (find_section(dotted, stem) != SECTIONS) {
			complain(l, line, "[%s] needs a name: expected [%s.X]", name, name);
			return;
		}
	}
	if (id == SECTIONS)
		unknown_section(l, line, name, stem);
	else if (!seen_before(l, line, name)) {
		l->section = id;
		l->at = open_section(l, line, name[stem] == '.' ? name + stem + 1 : "");
	}
}

static void unknown_key(struct loader *l, int line, const char *key)
{
	const char *words[64];
	unsigned n = 0;

	for (unsigned i = 0; i < config_options_n; i++) {
		if (config_options[i].section == l->section)
			words[n++] = config_options[i].key;
		const struct config_section *s = &config_sections[config_options[i].section];
		if (strcmp(config_options[i].key, key) == 0) {
			complain(l, line, "unknown key \"%s\" in [%s]: it belongs in [%s%s]", key, l->name, s->name,
				 s->example != NULL ? ".X" : "");
			return;
		}
	}
	const char *near = config_nearest(key, words, n);
	if (near != NULL) {
		complain(l, line, "unknown key \"%.80s\" in [%s]: did you mean \"%s\"?", key, l->name, near);
		return;
	}
	char list[512] = "";
	for (unsigned i = 0; i < n; i++)
		snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i > 0 ? ", " : "", words[i]);
	complain(l, line, "unknown key \"%.80s\" in [%s]: expected one of %s", key, l->name, list);
}

static bool holds_secret(const struct loader *l, const struct config_option *o)
{
	return o->type == TYPE_SECRET || (o->type == TYPE_STORE && l->config->redis_password != NULL);
}

static void on_setting(void *arg, int line, const char *key, const char *value)
{
	struct loader *l = arg;
	char why[CONFIG_WHY];

	if (l->nseen == 0 && l->name[0] == '\0') {
		complain(l, line, "\"%.80s\" before any [section]: expected a section first", key);
		return;
	}
	if (l->at == NULL)
		return; /* the section was complained about */
	const struct config_option *o = config_option_find(l->section, key);
	if (o == NULL) {
		unknown_key(l, line, key);
		return;
	}
	int *first = &l->keys[o - config_options];
	if (*first != 0) {
		complain(l, line, "[%s] %s again: expected once, it is in line %d already", l->name, key, *first);
		return;
	}
	*first = line;
	if (config_value_set(o, l->at, value, l->resolve, why) != 0)
		complain(l, line, "[%s] %s: %s", l->name, key, why);
	else if (l->exposed && holds_secret(l, o))
		complain(l, line, "[%s] %s: others can read this file, which holds a password: expected mode 0640 or "
				  "stricter (chmod o-rwx)",
			 l->name, key);
}

static void on_error(void *arg, int line, const char *what)
{
	complain(arg, line, "%s", what);
}

/* --- The command line ------------------------------------------------------------------------------------------- */

static void override(struct loader *l, const char *option, enum config_section_id section, const char *key,
		     const char *value)
{
	char why[CONFIG_WHY];

	if (value == NULL)
		return;
	if (config_value_set(config_option_find(section, key), l->config, value, l->resolve, why) != 0)
		complain(l, COMMAND_LINE, "%s: %s", option, why);
}

/* Which is the primary is asked of the servers, as from a file: after a switch-over the options are still right. */
static void option_server(struct loader *l, const char *option, const char *name, const char *address)
{
	char why[CONFIG_WHY];
	struct config_server *s = add_server(l, COMMAND_LINE, name);

	if (s == NULL)
		return;
	s->role = CONFIG_ROLE_AUTO;
	if (config_value_set(config_option_find(SECTION_SERVER, "address"), s, address, l->resolve, why) != 0)
		complain(l, COMMAND_LINE, "%s: %s", option, why);
}

/* Servers on the command line replace those of the file: a mix of both would be nobody's cluster. With them go the
 * services that name them. */
static void override_servers(struct loader *l, const struct config_options *o)
{
	if (o->primary == NULL && o->nreplica == 0)
		return;
	l->servers_given = true;
	l->config->nservers = 0;
	drop_services(l->config);
	if (o->primary != NULL)
		option_server(l, "--primary", "primary", o->primary);
	for (unsigned i = 0; i < o->nreplica; i++) {
		char name[32];
		snprintf(name, sizeof name, "replica%u", i + 1);
		option_server(l, "--replica", name, o->replica[i]);
	}
}

static void override_all(struct loader *l, const struct config_options *o)
{
	char number[16];

	override(l, "--listen", SECTION_PROXY, "listen", o->listen);
	override(l, "--mode", SECTION_PROXY, "mode", o->mode);
	override(l, "--log-level", SECTION_PROXY, "log_level", o->log_level);
	override(l, "--admin", SECTION_ADMIN, "listen", o->admin);
	override(l, "--http", SECTION_ADMIN, "http", o->http);
	override(l, "--redis", SECTION_CACHE, "store", o->redis);
	snprintf(number, sizeof number, "%d", o->workers);
	override(l, "--workers", SECTION_PROXY, "workers", o->workers != 0 ? number : NULL);
	override_servers(l, o);
}

/* --- What only the whole shows ---------------------------------------------------------------------------------- */

static void claim_server(struct loader *l, unsigned service, const char *name)
{
	struct config *c = l->config;
	const char *who = c->services[service].name;
	int line = l->service_line[service];
	unsigned i = 0;

	while (i < c->nservers && strcmp(c->servers[i].name, name) != 0)
		i++;
	if (i == c->nservers)
		complain(l, line, "[service.%s] servers: there is no [server.%.80s]: expected X of a [server.X]", who,
			 name);
	else if (c->servers[i].service >= 0)
		complain(l, line, "[service.%s] servers: %s is in [service.%s] already: expected a server once", who,
			 name, c->services[c->servers[i].service].name);
	else
		c->servers[i].service = (int)service;
}

/* The later one would never be asked. (That networks overlap is no mistake: the first in the file wins.) */
static void check_matches(struct loader *l, unsigned service)
{
	const struct config_service *mine = &l->config->services[service];

	for (unsigned other = 0; other < service; other++) {
		const struct config_matches *m = &l->config->services[other].match;
		for (unsigned i = 0; i < mine->match.n; i++)
			for (unsigned k = 0; k < m->n; k++)
				if (config_match_same(&mine->match.at[i], &m->at[k]))
					complain(l, l->service_line[service],
						 "[service.%s] match: a destination of [service.%s] again: expected it "
						 "once",
						 mine->name, l->config->services[other].name);
	}
}

static void check_service(struct loader *l, unsigned service)
{
	const struct config_service *s = &l->config->services[service];
	char *copy = xstrdup(s->servers != NULL ? s->servers : ""), *save = NULL;
	unsigned n = 0;

	for (char *x = strtok_r(copy, ", \t", &save); x != NULL; x = strtok_r(NULL, ", \t", &save), n++)
		claim_server(l, service, x);
	check_matches(l, service);
	if (s->servers != NULL && n == 0) /* and without the key there was a complaint */
		complain(l, l->service_line[service], "[service.%s] servers: expected X of a [server.X]", s->name);
	if (s->monitor_password != NULL && s->monitor_user == NULL)
		complain(l, l->service_line[service],
			 "[service.%s] has a monitor_password but no monitor_user: expected monitor_user = name",
			 s->name);
	free(copy);
}

static void check_primary(struct loader *l, unsigned server, unsigned *primaries)
{
	const struct config_server *s = &l->config->servers[server];
	const char *group = s->service >= 0 ? l->config->services[s->service].name : "";

	if (s->role == CONFIG_ROLE_PRIMARY && ++*primaries == 2)
		complain(l, l->server_line[server], "server %s: a second role = primary%s%s: expected one at most",
			 s->name, group[0] != '\0' ? " in service " : "", group);
}

static void check_servers(struct loader *l)
{
	const struct config *c = l->config;
	unsigned primaries[CONFIG_SERVICES + 1] = {0}, free_servers = 0; /* of the default group, then of services */

	if (c->nservers == 0)
		complain(l, WHOLE_FILE,
			 "no servers: expected --primary ADDR, or [server.X] sections with an address in the file");
	for (unsigned i = 0; i < c->nservers; i++) {
		const struct config_server *s = &c->servers[i];
		for (unsigned j = 0; s->address.text[0] != '\0' && j < i; j++)
			if (strcmp(c->servers[j].address.text, s->address.text) == 0)
				complain(l, l->server_line[i],
					 "server %s has the address of %s: expected another than %s", s->name,
					 c->servers[j].name, s->address.text);
		check_primary(l, i, &primaries[s->service + 1]);
		free_servers += s->service < 0;
	}
	if (c->nservers > 0 && free_servers == 0)
		complain(l, WHOLE_FILE,
			 "no servers but those of services: expected at least one [server.X] that no service names");
}

static bool same_place(const struct addr *a, const struct addr *b)
{
	return a->text[0] != '\0' && (a->is_unix || a->port != 0) && strcmp(a->text, b->text) == 0;
}

/* Two listeners at one address, or a server that is the proxy itself. */
static void check_addresses(struct loader *l)
{
	const struct config *c = l->config;

	for (unsigned i = 0; i < c->nlisten; i++) {
		const struct addr *a = &c->listen[i];
		for (unsigned j = 0; j < c->nadmin; j++)
			if (same_place(a, &c->admin[j]))
				complain(l, COMMAND_LINE, "[admin] listen: %s is [proxy] listen's: expected another",
					 a->text);
		if (c->has_http && same_place(a, &c->http))
			complain(l, COMMAND_LINE, "[admin] http: %s is [proxy] listen's: expected another", a->text);
		for (unsigned j = 0; j < c->nservers; j++)
			if (same_place(a, &c->servers[j].address))
				complain(l, l->server_line[j], "server %s: %s is where the proxy itself listens",
					 c->servers[j].name, a->text);
	}
	for (unsigned j = 0; c->has_http && j < c->nadmin; j++)
		if (same_place(&c->http, &c->admin[j]))
			complain(l, COMMAND_LINE, "[admin] http: %s is [admin] listen's: expected another",
				 c->http.text);
}

static void check_rule_service(struct loader *l, unsigned rule)
{
	const struct config *c = l->config;
	struct config_rule *r = &l->config->rules[rule];

	if (r->service_name[0] == '\0')
		return;
	for (unsigned i = 0; i < c->nservices; i++)
		if (strcmp(c->services[i].name, r->service_name) == 0)
			r->service = (int)i;
	if (l->servers_given)
		complain(l, COMMAND_LINE,
			 "[cache.%s] service: services need the file's servers: expected no --primary and no --replica",
			 r->name);
	else if (r->service < 0)
		complain(l, l->rule_line[rule],
			 "[cache.%s] service: there is no [service.%s]: expected X of a [service.X]", r->name,
			 r->service_name);
}

static bool same_table(const struct config_rule *a, const struct config_rule *b)
{
	return strcmp(a->db, b->db) == 0 && strcmp(a->table, b->table) == 0 &&
	       strcmp(a->service_name, b->service_name) == 0;
}

static void check_rules(struct loader *l)
{
	const struct config *c = l->config;

	for (unsigned i = 0; i < c->nrules; i++) {
		const struct config_rule *r = &c->rules[i];
		check_rule_service(l, i);
		for (unsigned j = 0; r->table[0] != '\0' && j < i; j++)
			if (same_table(&c->rules[j], r))
				complain(l, l->rule_line[i],
					 "[cache.%s] caches the table of [cache.%s]: expected one rule a table",
					 r->name, c->rules[j].name);
	}
}

static unsigned cores(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof set, &set) != 0)
		return 1;
	return (unsigned)CPU_COUNT(&set) < 256 ? (unsigned)CPU_COUNT(&set) : 256;
}

static void finish(struct loader *l)
{
	struct config *c = l->config;

	for (unsigned i = 0; i < c->nservices; i++)
		check_service(l, i);
	check_servers(l);
	check_addresses(l);
	check_rules(l);
	if (c->monitor_password != NULL && c->monitor_user == NULL)
		complain(l, WHOLE_FILE, "[monitor] has a password but no user: expected user = name");
	if (c->workers == 0)
		c->workers = cores();
	for (unsigned i = 0; l->errors == 0 && i < c->nrules; i++)
		c->rules[i].stats_id = stats_rule_id(c->rules[i].name);
}

struct config *config_load_text(const char *path, char *text, size_t n, bool exposed,
				const struct config_options *options, void (*report)(void *arg, const char *line),
				void *arg)
{
	struct loader l = {.config = xcalloc(1, sizeof *l.config), .path = path, .exposed = exposed,
			   .resolve = !options->unresolved, .report = report, .arg = arg, .section = SECTIONS};
	const struct config_sink sink = {&l, on_section, on_setting, on_error};

	_Static_assert(sizeof config_options / sizeof *config_options <= sizeof l.keys / sizeof *l.keys, "keys");
	atomic_init(&l.config->refs, 1);
	l.config->path = path != NULL ? xstrdup(path) : NULL;
	for (unsigned i = 0; i < SECTIONS; i++)
		if (config_sections[i].example == NULL)
			set_defaults(&l, i, l.config);
	if (text != NULL)
		config_text_read(text, n, &sink);
	end_section(&l);
	override_all(&l, options);
	finish(&l);
	for (unsigned i = 0; i < l.nseen; i++)
		free(l.seen[i].name);
	free(l.seen);
	if (l.errors == 0)
		return l.config;
	config_unref(l.config);
	return NULL;
}

/* --- The file --------------------------------------------------------------------------------------------------- */

enum { FILE_MAX = 1 << 20 };

/* Returns the text with a NUL after it, or NULL with why. */
static char *read_fd(int fd, size_t *n, bool *exposed, const char **why)
{
	struct stat st;
	ssize_t got = 1;
	char *text = xmalloc(FILE_MAX + 1);

	*n = 0;
	if (fstat(fd, &st) == 0) {
		*exposed = (st.st_mode & 0007) != 0;
		while (*n <= FILE_MAX && (got = read(fd, text + *n, FILE_MAX + 1 - *n)) > 0)
			*n += (size_t)got;
	} else {
		got = -1;
	}
	if (got == 0) {
		text[*n] = '\0';
		return text;
	}
	*why = got < 0 ? strerror(errno) : "larger than 1 MB";
	explicit_bzero(text, *n);
	free(text);
	return NULL;
}

struct config *config_load(const struct config_options *options, void (*report)(void *arg, const char *line),
			   void *arg)
{
	if (options->file == NULL)
		return config_load_text(NULL, NULL, 0, false, options, report, arg);
	int fd = open(options->file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	const char *why = strerror(errno);
	bool exposed = false;
	size_t n = 0;
	char *text = fd >= 0 ? read_fd(fd, &n, &exposed, &why) : NULL;

	if (fd >= 0)
		close(fd);
	if (text == NULL) {
		char *line = xasprintf("%s: cannot be read: %s", options->file, why);
		report(arg, line);
		free(line);
		return NULL;
	}
	struct config *c = config_load_text(options->file, text, n, exposed, options, report, arg);
	explicit_bzero(text, n);
	free(text);
	return c;
}
