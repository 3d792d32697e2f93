/* SPDX-License-Identifier: Apache-2.0
 *
 * The monitor's life, and what it publishes.
 */
#include "service/monitor.h"

#include <errmsg.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "service/monitor_parts.h"

/* --- Sleeping --------------------------------------------------------------------------------------------------- */

static unsigned pokes_of(const struct monitor *m, unsigned kinds)
{
	unsigned sum = 0;

	for (unsigned i = 0; i < TURNS; i++)
		if (kinds & 1u << i)
			sum += m->pokes[i];
	return sum;
}

unsigned monitor_pokes(struct monitor *m, unsigned kinds)
{
	pthread_mutex_lock(&m->turn_lock);
	unsigned sum = pokes_of(m, kinds);
	pthread_mutex_unlock(&m->turn_lock);
	return sum;
}

static void poke(struct monitor *m, unsigned index)
{
	pthread_mutex_lock(&m->turn_lock);
	m->pokes[index]++;
	pthread_cond_broadcast(&m->turn);
	pthread_mutex_unlock(&m->turn_lock);
}

void monitor_poke(struct monitor *m, enum monitor_poke what)
{
	poke(m, what);
}

void monitor_changed(struct monitor *m)
{
	poke(m, TURNS - 1);
}

uint64_t monitor_catalog_request(struct monitor *m)
{
	pthread_mutex_lock(&m->turn_lock);
	uint64_t wanted = m->catalog_wanted = m->catalog_begun + 1;
	m->pokes[POKE_CATALOG]++;
	pthread_cond_broadcast(&m->turn);
	pthread_mutex_unlock(&m->turn_lock);
	return wanted;
}

uint64_t monitor_accounts_request(struct monitor *m)
{
	pthread_mutex_lock(&m->turn_lock);
	uint64_t wanted = m->accounts_begun + 1;
	m->pokes[POKE_ACCOUNTS]++;
	pthread_cond_broadcast(&m->turn);
	pthread_mutex_unlock(&m->turn_lock);
	return wanted;
}

bool monitor_sleep(struct monitor *m, const struct watch *w, unsigned kinds, unsigned seen, int64_t earliest,
		   int64_t until)
{
	bool on;

	pthread_mutex_lock(&m->turn_lock);
	while ((on = !m->stopping && (w == NULL || !atomic_load(&w->gone)))) {
		int64_t at = pokes_of(m, kinds) != seen && earliest < until ? earliest : until;
		if (topology_now_us() >= at)
			break;
		struct timespec ts = {at / 1000000, at % 1000000 * 1000};
		pthread_cond_timedwait(&m->turn, &m->turn_lock, &ts);
	}
	pthread_mutex_unlock(&m->turn_lock);
	return on;
}

/* --- What the configuration says -------------------------------------------------------------------------------- */

unsigned monitor_timeout_ms(struct monitor *m)
{
	pthread_mutex_lock(&m->lock);
	unsigned ms = (unsigned)m->config->monitor_timeout_ms;
	pthread_mutex_unlock(&m->lock);
	return ms;
}

int64_t monitor_interval_us(struct monitor *m)
{
	pthread_mutex_lock(&m->lock);
	int64_t us = (int64_t)m->config->monitor_interval_ms * 1000;
	pthread_mutex_unlock(&m->lock);
	return us;
}

int monitor_connect(struct monitor *m, struct link *l, const struct addr *address)
{
	pthread_mutex_lock(&m->lock);
	struct config *c = config_ref(m->config);
	pthread_mutex_unlock(&m->lock);
	const char *user = c->monitor_user, *password = c->monitor_password;
	if (user == NULL && c->nusers != 0) {
		user = c->users[0].name;
		password = c->users[0].password;
	}
	int failed = link_open(l, address, user, password, (unsigned)c->monitor_timeout_ms);
	config_unref(c);
	return failed;
}

/* --- Publishing ------------------------------------------------------------------------------------------------- */

static bool is_bad_news(const char *kind)
{
	static const char *const words[] = {"down",       "no_primary", "two_primaries", "failed",
					    "incomplete", "rewound",    "diverged",   "foreign",
					    "filtered",   "differs"};

	for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
		if (strstr(kind, words[i]) != NULL)
			return true;
	return false;
}

void monitor_event(struct monitor *m, const char *kind, const char *server, const char *fmt, ...)
{
	char text[320];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	log_at(is_bad_news(kind) ? LOG_LEVEL_WARN : LOG_LEVEL_INFO, "%s %s: %s", kind, server, text);
	m->sink.event(m->sink.arg, kind, server, text);
}

void monitor_new_epoch(struct monitor *m)
{
	m->samples = 0;
	if (++m->epoch == 1)
		return;
	freshness_new_primary(m->freshness);
	for (unsigned i = 0; i < m->n; i++)
		monitor_forget(m->watches[i]);
	poke(m, POKE_SERVERS);
}

static void new_primary(struct monitor *m, struct watch *w)
{
	const char *before = m->primary != NULL ? m->primary->config.name : NULL;

	m->primary = w;
	m->known.n = 0;
	for (unsigned i = 0; i < m->n; i++)
		m->watches[i]->diverged = false; /* judged by the new one's history */
	monitor_new_epoch(m);
	if (before != NULL)
		monitor_event(m, "primary_change", w->config.name, "is the primary now, it was %s", before);
	else
		monitor_event(m, "primary_change", w->config.name, "is the primary");
}

static void elect(struct monitor *m)
{
	unsigned writable = 0;

	/* At the start everybody is heard first. */
	for (unsigned i = 0; i < m->n; i++)
		if (!m->watches[i]->checked && m->primary == NULL)
			return;
	struct watch *w = monitor_elect(m->watches, m->n, m->primary, &writable);
	if (w != NULL && w != m->primary)
		new_primary(m, w);
	else if (w != NULL && !m->primary_up)
		monitor_event(m, "primary_back", w->config.name, "is up again");
	else if (w == NULL && (m->primary_up || (m->primary == NULL && !m->said_none)))
		monitor_event(m, "no_primary", m->primary != NULL ? m->primary->config.name : "",
			      "no server%s%s is writable", m->config->service[0] != '\0' ? " of service " : "",
			      m->config->service);
	m->said_none = w == NULL;
	m->primary_up = w != NULL;
	if (writable > 1 && !m->two_primaries)
		monitor_event(m, "two_primaries", w->config.name, "%u servers are writable; this one is used",
			      writable);
	m->two_primaries = writable > 1;
}

static void assign_roles(struct monitor *m)
{
	for (unsigned i = 0; i < m->n; i++) {
		struct watch *w = m->watches[i];
		enum server_role role = monitor_role(w, m->primary);
		if (role == w->role)
			continue;
		if (w->role != ROLE_UNKNOWN)
			monitor_event(m, "role_change", w->config.name, "%s, was %s", server_role_name(role),
				      server_role_name(w->role));
		w->role = role;
	}
}

static unsigned usable_connections(const struct watch *w)
{
	unsigned all = w->seen.max_connections, reserve = all / 10 > 5 ? all / 10 : 5;

	if (w->config.max_connections != 0)
		return w->config.max_connections;
	return all > reserve ? all - reserve : 1;
}

/* What keeps a replica from having everything; "": nothing. */
static const char *partial_by(const struct monitor *m, const struct watch *w)
{
	return w->seen.filter[0] != 0 || m->primary == NULL ? w->seen.filter : m->primary->seen.binlog_filter;
}

static const char *why_of(const struct monitor *m, const struct watch *w, char *text, size_t cap)
{
	if (!w->checked)
		return "not checked yet";
	if (!w->up)
		return w->why;
	if (w->role == ROLE_UNKNOWN && w->seen.foreign)
		return "it replicates from a server of another group";
	if (w->role == ROLE_UNKNOWN)
		return m->primary_up ? "writable, but another server is the primary" : "neither writable nor a replica";
	if (w->role == ROLE_REPLICA && partial_by(m, w)[0] != 0)
		return w->seen.filter[0] != 0 ? "its replication is filtered" : "the primary's binary log is filtered";
	if (w->role == ROLE_REPLICA && w->diverged)
		return "ahead of the primary, which lost transactions: rebuild it";
	if (w->role == ROLE_REPLICA && w->unlike) {
		snprintf(text, cap, "differs from the primary in %s", w->unlike_in);
		return text;
	}
	if (w->role == ROLE_REPLICA && !w->fresh)
		return "not proved to be fresh";
	return "";
}

static void fill_view(const struct monitor *m, const struct watch *w, struct server_view *v)
{
	v->server = server_ref(w->server);
	v->role = w->role;
	v->state = w->up ? SERVER_UP : SERVER_DOWN;
	v->partial = w->role == ROLE_REPLICA && partial_by(m, w)[0] != 0;
	v->drained = w->drained;
	v->weight = w->config.weight;
	v->max_connections = usable_connections(w);
	v->server_id = w->seen.server_id;
	v->unlike = w->unlike;
	char text[sizeof v->why];
	snprintf(v->why, sizeof v->why, "%s", why_of(m, w, text, sizeof text));
}

/* What clients are greeted with: the primary's, the last primary's while there is none, anyone's before the first. */
static void fill_greeting(const struct monitor *m, struct topology *t)
{
	const struct watch *from = m->primary;

	for (unsigned i = 0; i < m->n && (from == NULL || !from->seen_once); i++)
		from = m->watches[i];
	if (from == NULL || !from->seen_once)
		return;
	snprintf(t->version, sizeof t->version, "%s", from->seen.version);
	t->capabilities_lo = from->seen.capabilities_lo;
	t->capabilities_hi = from->seen.capabilities_hi;
	t->collation = from->seen.collation;
	t->max_allowed_packet = from->seen.max_allowed_packet;
	t->lower_case_table_names = from->seen.lower_case_table_names;
	t->wait_timeout = from->seen.wait_timeout;
	t->interactive_timeout = from->seen.interactive_timeout;
	t->max_prepared_stmt_count = from->seen.max_prepared_stmt_count;
	t->skip_name_resolve = from->seen.skip_name_resolve;
}

/* Fields are set one by one on zeroed memory, so that two snapshots can be compared as bytes. */
static struct topology *snapshot(const struct monitor *m)
{
	struct topology *t = xcalloc(1, sizeof *t);

	atomic_init(&t->refs, 1);
	t->generation = m->generation;
	t->primary_epoch = m->epoch;
	t->primary = -1;
	t->max_replica_lag_us = (int64_t)m->config->max_replica_lag_ms * 1000;
	fill_greeting(m, t);
	t->n = m->n;
	for (unsigned i = 0; i < m->n; i++) {
		fill_view(m, m->watches[i], &t->views[i]);
		if (m->watches[i] == m->primary && m->primary_up)
			t->primary = (int)i;
	}
	if (t->primary < 0 && m->samples > 0)
		t->last_sample_us = m->history[(m->samples - 1) % HISTORY].at_us;
	return t;
}

void monitor_publish(struct monitor *m)
{
	elect(m);
	assign_roles(m);
	monitor_compare(m);
	struct topology *t = snapshot(m);
	size_t from = offsetof(struct topology, generation);
	if (m->published != NULL && memcmp((char *)t + from, (char *)m->published + from, sizeof *t - from) == 0) {
		topology_unref(t);
		return;
	}
	t->generation = ++m->generation;
	topology_unref(m->published);
	m->published = t;
	m->sink.topology(m->sink.arg, topology_ref(t));
	monitor_changed(m);
}

int monitor_drain(struct monitor *m, const char *server, bool drained)
{
	int found = -1;

	pthread_mutex_lock(&m->lock);
	for (unsigned i = 0; i < m->n; i++) {
		struct watch *w = m->watches[i];
		if (strcmp(w->config.name, server) != 0)
			continue;
		found = 0;
		if (w->drained != drained)
			monitor_event(m, drained ? "drained" : "undrained", server, "by command");
		w->drained = drained;
	}
	monitor_publish(m);
	pthread_mutex_unlock(&m->lock);
	return found;
}

/* --- Life ------------------------------------------------------------------------------------------------------- */

/* Locked. Threads start after the watch stands in m->watches. */
static struct watch *watch_new(struct monitor *m, const struct config_server *c)
{
	struct watch *w = xcalloc(1, sizeof *w);
	struct server *s = xcalloc(1, sizeof *s);

	atomic_init(&s->refs, 1);
	snprintf(s->name, sizeof s->name, "%s", c->name);
	s->address = c->address;
	w->m = m;
	w->server = s;
	w->config = *c;
	w->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	server_arrives(s);
	return w;
}

static void start_thread(pthread_t *thread, void *(*body)(void *), void *arg)
{
	int failed = pthread_create(thread, NULL, body, arg);

	if (failed != 0) {
		log_error("cannot start a thread of the monitor: %s", strerror(failed));
		abort();
	}
}

static void watch_start(struct watch *w)
{
	start_thread(&w->checker, monitor_checker, w);
	start_thread(&w->waiter, monitor_waiter, w);
}

static void cancel(int fd)
{
	uint64_t one = 1;
	ssize_t done = write(fd, &one, sizeof one);

	(void)done; /* a full counter is readable as well */
}

/* After `gone` was set for all that end: tells them, then waits. */
static void watch_end(struct watch *w)
{
	cancel(w->cancel_fd);
	freshness_wake(w->m->freshness);
	poke(w->m, TURNS - 1);
	pthread_join(w->checker, NULL);
	/* The waiter may have begun to wait after the wake above; it sleeps in short turns, but why wait for one. */
	freshness_wake(w->m->freshness);
	pthread_join(w->waiter, NULL);
	close(w->cancel_fd);
	server_unref(w->server);
	free(w->globals_question);
	free(w);
}

static struct watch *same_watch(struct monitor *m, const struct config_server *c)
{
	for (unsigned i = 0; i < m->n; i++) {
		struct watch *w = m->watches[i];
		if (strcmp(w->config.name, c->name) == 0 && strcmp(w->config.address.text, c->address.text) == 0 &&
		    w->config.address.len == c->address.len &&
		    memcmp(&w->config.address.sa, &c->address.sa, c->address.len) == 0)
			return w;
	}
	return NULL;
}

/* Makes m->watches what c says. Locked; the old array's leftovers are marked gone and returned in `left`. */
static unsigned arrange(struct monitor *m, struct config *c, struct watch **left, struct watch **fresh,
			unsigned *nfresh)
{
	struct watch *next[CONFIG_SERVERS];
	unsigned nleft = 0, kept = 0;

	*nfresh = 0;
	for (unsigned i = 0; i < c->nservers; i++)
		next[i] = same_watch(m, &c->servers[i]);
	for (unsigned i = 0; i < m->n; i++) {
		bool stays = false;
		for (unsigned k = 0; k < c->nservers; k++)
			stays |= next[k] == m->watches[i];
		if (stays) {
			m->watches[kept++] = m->watches[i];
			continue;
		}
		atomic_store(&m->watches[i]->gone, true);
		server_leaves(m->watches[i]->server);
		if (m->primary == m->watches[i])
			m->primary = NULL;
		monitor_event(m, "server_removed", m->watches[i]->config.name, "left the configuration");
		left[nleft++] = m->watches[i];
	}
	m->n = kept;
	for (unsigned i = 0; i < c->nservers; i++) {
		if (next[i] == NULL)
			next[i] = fresh[(*nfresh)++] = watch_new(m, &c->servers[i]);
		/* Name and address stay as they are: its threads read them without the lock. */
		next[i]->config.role = c->servers[i].role;
		next[i]->config.weight = c->servers[i].weight;
		next[i]->config.max_connections = c->servers[i].max_connections;
	}
	memcpy(m->watches, next, c->nservers * sizeof *next);
	m->n = c->nservers;
	return nleft;
}

void monitor_reload(struct monitor *m, struct config *config)
{
	struct watch *left[CONFIG_SERVERS], *fresh[CONFIG_SERVERS];
	unsigned nfresh;

	pthread_mutex_lock(&m->reload_lock);
	pthread_mutex_lock(&m->lock);
	struct config *old = m->config;
	m->config = config_ref(config);
	unsigned nleft = arrange(m, config, left, fresh, &nfresh);
	monitor_publish(m);
	pthread_mutex_unlock(&m->lock);
	config_unref(old);
	for (unsigned i = 0; i < nfresh; i++)
		watch_start(fresh[i]);
	for (unsigned i = 0; i < nleft; i++)
		watch_end(left[i]);
	poke(m, POKE_SERVERS);
	poke(m, POKE_ACCOUNTS);
	poke(m, POKE_CATALOG);
	pthread_mutex_unlock(&m->reload_lock);
}

struct monitor *monitor_start(struct config *config, struct freshness *freshness, const struct monitor_sink *sink)
{
	struct monitor *m = xcalloc(1, sizeof *m);
	pthread_condattr_t attr;

	mysql_library_init(0, NULL, NULL); /* before threads: it is not safe in them */
	m->sink = *sink;
	m->freshness = freshness;
	m->config = config_ref(config);
	m->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&m->lock, NULL);
	pthread_mutex_init(&m->reload_lock, NULL);
	pthread_mutex_init(&m->turn_lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&m->turn, &attr);
	pthread_condattr_destroy(&attr);
	monitor_reload(m, config);
	start_thread(&m->dictionary, monitor_dictionary, m);
	start_thread(&m->rights, monitor_rights, m);
	return m;
}

void monitor_stop(struct monitor *m)
{
	pthread_mutex_lock(&m->turn_lock);
	m->stopping = true;
	pthread_cond_broadcast(&m->turn);
	pthread_mutex_unlock(&m->turn_lock);
	pthread_mutex_lock(&m->lock);
	for (unsigned i = 0; i < m->n; i++) {
		atomic_store(&m->watches[i]->gone, true);
		cancel(m->watches[i]->cancel_fd);
	}
	pthread_mutex_unlock(&m->lock);
	cancel(m->cancel_fd);
	pthread_join(m->dictionary, NULL);
	pthread_join(m->rights, NULL);
	for (unsigned i = 0; i < m->n; i++) {
		server_leaves(m->watches[i]->server);
		watch_end(m->watches[i]);
	}
	m->n = 0;
}

void monitor_free(struct monitor *m)
{
	close(m->cancel_fd);
	topology_unref(m->published);
	config_unref(m->config);
	pthread_cond_destroy(&m->turn);
	pthread_mutex_destroy(&m->turn_lock);
	pthread_mutex_destroy(&m->reload_lock);
	pthread_mutex_destroy(&m->lock);
	free(m);
}
