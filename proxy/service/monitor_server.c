/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of one server. Each interval: is it there, what is it, how far is it. The primary's checker also samples the
 * primary's position several times within max_replica_lag: the proofs of all replicas are as old as the newest sample.
 */
#include <mysqld_error.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "service/monitor_parts.h"

enum { RECHECK_US = 50000, SAMPLES_A_LAG = 4 };
enum verdict { CHECK_GOOD, CHECK_FAILED, CHECK_BUSY /* there, but has no connection to spare: says nothing new */ };

static const char *field(MYSQL_ROW row, unsigned i)
{
	return row[i] != NULL ? row[i] : "";
}

/* ON, 1, and the names that newer servers give to degrees of it. */
static bool is_on(const char *text)
{
	return strcmp(text, "0") != 0 && strcasecmp(text, "OFF") != 0;
}

static int ask_basics(struct link *l, unsigned timeout_ms, struct observation *o)
{
	MYSQL_RES *res = link_ask(l,
				  "SELECT @@read_only, @@server_id, @@max_connections, @@lower_case_table_names, "
				  "@@max_allowed_packet, @@skip_name_resolve, VERSION(), @@global.wait_timeout, "
				  "@@global.interactive_timeout, @@max_prepared_stmt_count",
				  timeout_ms);
	MYSQL_ROW row;

	if (res == NULL)
		return -1;
	if ((row = mysql_fetch_row(res)) != NULL) {
		o->read_only = is_on(field(row, 0));
		o->server_id = (uint32_t)strtoul(field(row, 1), NULL, 10);
		o->max_connections = (unsigned)strtoul(field(row, 2), NULL, 10);
		o->lower_case_table_names = (unsigned)strtoul(field(row, 3), NULL, 10);
		o->max_allowed_packet = strtoull(field(row, 4), NULL, 10);
		o->skip_name_resolve = is_on(field(row, 5));
		snprintf(o->version, sizeof o->version, "%s", field(row, 6));
		o->wait_timeout = (unsigned)strtoul(field(row, 7), NULL, 10);
		o->interactive_timeout = (unsigned)strtoul(field(row, 8), NULL, 10);
		o->max_prepared_stmt_count = (unsigned)strtoul(field(row, 9), NULL, 10);
	}
	mysql_free_result(res);
	o->collation = (uint8_t)l->my->server_language;
	o->capabilities_lo = (uint32_t)l->my->server_capabilities;
	unsigned long extended = 0;
	if (mariadb_get_info(l->my, MARIADB_CONNECTION_EXTENDED_SERVER_CAPABILITIES, &extended) == 0)
		o->capabilities_hi = (uint32_t)extended;
	return 0;
}

/* Needs no privilege. Returns -1 when the link was lost; a server without GTIDs is no failure, but proves nothing. */
static int ask_positions(struct link *l, unsigned timeout_ms, struct observation *o)
{
	MYSQL_RES *res = link_ask(
		l, "SELECT @@gtid_slave_pos, @@gtid_binlog_pos, @@gtid_binlog_state, @@read_only", timeout_ms);
	MYSQL_ROW row;

	o->has_gtid = false;
	o->known.n = 0;
	if (res == NULL)
		return l->my != NULL ? 0 : -1;
	if ((row = mysql_fetch_row(res)) != NULL) {
		o->has_gtid = gtid_pos_parse(slice_str(field(row, 0)), &o->slave) == 0 &&
			      gtid_pos_parse(slice_str(field(row, 1)), &o->binlog) == 0;
		known_add(&o->known, field(row, 2));
		known_add(&o->known, field(row, 0));
		o->read_only = is_on(field(row, 3));
	}
	mysql_free_result(res);
	return 0;
}

static const char *named_field(MYSQL_RES *res, MYSQL_ROW row, const char *name)
{
	MYSQL_FIELD *fields = mysql_fetch_fields(res);

	for (unsigned i = 0; i < mysql_num_fields(res); i++)
		if (strcasecmp(fields[i].name, name) == 0)
			return field(row, i);
	return "";
}

/* Is that a server which the whole configuration has, and this group has not? */
static bool is_another_groups(const struct config *group, const char *host, const char *port)
{
	const struct config *whole = group->whole;
	int own = group->nservers > 0 ? group->servers[0].service : -1;

	for (unsigned i = 0; whole != NULL && i < whole->nservers; i++) {
		const struct config_server *s = &whole->servers[i];
		char number[16];
		snprintf(number, sizeof number, "%u", s->address.port);
		if (s->service != own && strcasecmp(s->address.host, host) == 0 && strcmp(number, port) == 0)
			return true;
	}
	return false;
}

/* Keeps the first filter that is set. */
static void note_filter(char *out, size_t cap, const char *name, const char *value)
{
	if (out[0] == 0 && value[0] != 0)
		snprintf(out, cap, "%s = %s", name, value);
}

/* Every column of a replica's status that is called Replicate_.. is a filter. */
static void note_filters(MYSQL_RES *res, MYSQL_ROW row, struct observation *o)
{
	MYSQL_FIELD *fields = mysql_fetch_fields(res);

	for (unsigned i = 0; i < mysql_num_fields(res); i++)
		if (strncasecmp(fields[i].name, "Replicate_", 10) == 0)
			note_filter(o->filter, sizeof o->filter, fields[i].name, field(row, i));
}

/* Other ways to leave events out, and what the binary log leaves out. Denied: as if there were none. */
static int ask_filters(struct link *l, unsigned timeout_ms, struct observation *o)
{
	MYSQL_RES *res = link_ask(l, "SELECT @@slave_skip_errors, @@replicate_events_marked_for_skip", timeout_ms);
	MYSQL_ROW row;

	if (res != NULL && (row = mysql_fetch_row(res)) != NULL && o->replicates) {
		if (is_on(field(row, 0)))
			note_filter(o->filter, sizeof o->filter, "slave_skip_errors", field(row, 0));
		if (strcasecmp(field(row, 1), "REPLICATE") != 0)
			note_filter(o->filter, sizeof o->filter, "replicate_events_marked_for_skip", field(row, 1));
	}
	mysql_free_result(res);
	if (l->my == NULL)
		return -1;
	res = link_ask(l, "SHOW MASTER STATUS", timeout_ms);
	while (res != NULL && (row = mysql_fetch_row(res)) != NULL) {
		note_filter(o->binlog_filter, sizeof o->binlog_filter, "binlog_do_db",
			    named_field(res, row, "Binlog_Do_DB"));
		note_filter(o->binlog_filter, sizeof o->binlog_filter, "binlog_ignore_db",
			    named_field(res, row, "Binlog_Ignore_DB"));
	}
	mysql_free_result(res);
	return l->my != NULL ? 0 : -1;
}

/* With several masters, replication runs when each does. Denied: the role comes from read_only alone. */
static int ask_replication(struct link *l, const struct config *group, unsigned timeout_ms, struct observation *o)
{
	MYSQL_RES *res = link_ask(l, "SHOW ALL SLAVES STATUS", timeout_ms);
	MYSQL_ROW row;

	o->replicates = false;
	o->io_running = o->sql_running = o->foreign = false;
	o->filter[0] = o->binlog_filter[0] = 0;
	if (res == NULL)
		return l->my != NULL ? 0 : -1;
	while ((row = mysql_fetch_row(res)) != NULL) {
		bool io = strcasecmp(named_field(res, row, "Slave_IO_Running"), "No") != 0; /* Yes, Connecting, ... */
		bool sql = strcasecmp(named_field(res, row, "Slave_SQL_Running"), "No") != 0;
		o->io_running = io && (o->io_running || !o->replicates);
		o->sql_running = sql && (o->sql_running || !o->replicates);
		o->replicates = true;
		note_filters(res, row, o);
		o->foreign |= is_another_groups(group, named_field(res, row, "Master_Host"),
						named_field(res, row, "Master_Port"));
	}
	mysql_free_result(res);
	return 0;
}

static enum verdict verdict_of(const struct link *l)
{
	return l->error == ER_CON_COUNT_ERROR || l->error == ER_TOO_MANY_USER_CONNECTIONS ||
			       l->error == ER_USER_LIMIT_REACHED ?
		       CHECK_BUSY :
		       CHECK_FAILED;
}

/* A link that somebody killed says nothing about the server: one new connection is tried before it counts. */
static enum verdict ask_as(struct watch *w, struct link *l, const struct config *group, bool primary,
			   struct observation *o)
{
	unsigned timeout_ms = (unsigned)group->monitor_timeout_ms;

	for (int tries = l->my != NULL ? 2 : 1; tries > 0; tries--) {
		if (l->my == NULL) {
			w->globals_known = false;
			if (monitor_connect(w->m, l, &w->config.address) != 0)
				return verdict_of(l);
		}
		if (ask_basics(l, timeout_ms, o) == 0 && ask_positions(l, timeout_ms, o) == 0 &&
		    ask_replication(l, group, timeout_ms, o) == 0 && ask_filters(l, timeout_ms, o) == 0 &&
		    monitor_ask_globals(w, l, timeout_ms, primary, o) == 0)
			return CHECK_GOOD;
		if (l->late)
			break; /* it hangs; a second wait would only double the delay */
	}
	return CHECK_FAILED;
}

static enum verdict ask(struct watch *w, struct link *l, struct observation *o)
{
	pthread_mutex_lock(&w->m->lock);
	struct config *group = config_ref(w->m->config);
	bool primary = w->m->primary == w;
	pthread_mutex_unlock(&w->m->lock);
	enum verdict verdict = ask_as(w, l, group, primary, o);
	config_unref(group);
	return verdict;
}

/* A worker saw a connection fail: it is left alone until two checks that began later went well. */
static void settle_failed(struct watch *w, unsigned failed)
{
	if (failed == 0 || failed != w->failed_seen) {
		w->failed_seen = failed;
		w->failed_checks = failed != 0;
	} else if (++w->failed_checks >= RISE) {
		w->failed_seen = 0;
		if (atomic_compare_exchange_strong(&w->server->failed, &failed, 0))
			monitor_event(w->m, "server_returned", w->config.name,
				      "serves again after a failed connection");
	}
}

/* Says when a server begins or ends to leave something out (locked). */
static void tell_filters(struct watch *w, const struct observation *o)
{
	if (strcmp(o->filter, w->seen.filter) != 0 && o->filter[0] != 0)
		monitor_event(w->m, "replica_filtered", w->config.name,
			      "its replication leaves something out (%s): no reads", o->filter);
	else if (strcmp(o->filter, w->seen.filter) != 0)
		monitor_event(w->m, "replica_unfiltered", w->config.name,
			      "its filters are gone; what they left out is still missing until it is rebuilt");
	if (strcmp(o->binlog_filter, w->seen.binlog_filter) != 0 && o->binlog_filter[0] != 0)
		monitor_event(w->m, "binlog_filtered", w->config.name,
			      "its binary log leaves something out (%s): no replica of it gets reads",
			      o->binlog_filter);
	else if (strcmp(o->binlog_filter, w->seen.binlog_filter) != 0)
		monitor_event(w->m, "binlog_unfiltered", w->config.name, "its binary log is whole");
}

static void take_good(struct watch *w, struct observation *o, unsigned failed)
{
	bool rebuilt = w->seen_once && !gtid_pos_covers_pos(&o->slave, &w->seen.slave);

	if (o->foreign && !w->seen.foreign)
		monitor_event(w->m, "foreign_source", w->config.name,
			      "it replicates from a server of another group of this configuration: not used");
	tell_filters(w, o);
	monitor_take_globals(w, o);
	w->seen = *o;
	if (rebuilt) {
		monitor_event(w->m, "position_reset", w->config.name, "its GTID position went backwards");
		w->diverged = false;
		monitor_forget(w);
	}
	settle_failed(w, failed);
	w->successes++;
	if (!w->up && (!w->checked || w->successes >= RISE)) {
		w->up = true;
		w->why[0] = 0;
		monitor_event(w->m, "server_up", w->config.name, "%s, server id %u, %s", o->version, o->server_id,
			      o->read_only ? "read-only" : "writable");
	}
	w->seen_once = true;
}

static void take_failed(struct watch *w, const char *why)
{
	if (w->up || !w->checked)
		monitor_event(w->m, "server_down", w->config.name, "%s", why);
	w->up = false;
	w->successes = 0;
	snprintf(w->why, sizeof w->why, "%s", why);
}

/* Says once when a replica loses or regains its proof of freshness (locked). */
static void judge(struct watch *w)
{
	int64_t fresh_us = atomic_load_explicit(&w->server->fresh_us, memory_order_relaxed);
	int64_t lag_us = topology_now_us() - fresh_us;
	bool fresh = fresh_us != 0 && lag_us < (int64_t)w->m->config->max_replica_lag_ms * 1000;

	if (!w->up || w->role != ROLE_REPLICA || fresh == w->fresh)
		return;
	w->fresh = fresh;
	if (fresh)
		monitor_event(w->m, "replica_fresh", w->config.name, "proved to be %lld ms behind at most",
			      (long long)lag_us / 1000);
	else
		monitor_event(w->m, "replica_lagging", w->config.name, "no proof of freshness for %lld ms%s",
			      fresh_us != 0 ? (long long)lag_us / 1000 : -1LL,
			      w->seen.replicates && !w->seen.sql_running ? ": replication is stopped" :
			      w->seen.replicates && !w->seen.io_running	 ? ": it does not read from its master" :
									   "");
}

static void check(struct watch *w, struct link *l)
{
	struct monitor *m = w->m;
	struct observation o = {0};
	unsigned failed = atomic_load_explicit(&w->server->failed, memory_order_acquire);
	enum verdict v = ask(w, l, &o);

	pthread_mutex_lock(&m->lock);
	if (!atomic_load(&w->gone)) {
		if (v == CHECK_GOOD)
			take_good(w, &o, failed);
		else if (v == CHECK_FAILED || !w->checked)
			take_failed(w, l->why);
		w->checked = true;
		monitor_publish(m);
		if (v == CHECK_GOOD) {
			struct gtid_pos tail = {0};
			own_tail(&o, &tail);
			monitor_raise(w, &o.slave);
			monitor_raise(w, &tail);
		}
		judge(w);
		monitor_publish(m); /* `why` may tell of the lag */
	}
	pthread_mutex_unlock(&m->lock);
}

/* A primary that crashed may come back without its last transactions and give their numbers to others: then it is
 * behind its own past, or behind a replica. */
static void notice_lost_tail(struct monitor *m, const struct gtid_pos *pos)
{
	bool lost = m->samples > 0 && !gtid_pos_covers_pos(pos, &m->history[(m->samples - 1) % HISTORY].pos);

	for (unsigned i = 0; i < m->n; i++) {
		struct watch *w = m->watches[i];
		if (w->role != ROLE_REPLICA || w->diverged || gtid_pos_covers_pos(pos, &w->at_mark))
			continue;
		w->diverged = lost = true;
		monitor_event(m, "replica_diverged", w->config.name,
			      "has transactions that the primary lost: rebuild it");
	}
	if (!lost)
		return;
	monitor_event(m, "primary_rewound", m->primary->config.name, "its GTID position went backwards");
	monitor_new_epoch(m);
}

/* The primary's position now, and what it proves (locked). */
static void take_sample(struct watch *w, const struct observation *o, int64_t at_us, uint64_t mark)
{
	struct monitor *m = w->m;
	struct gtid_pos pos = o->binlog;

	/* What it applied before it was the primary counts, also where it does not log that. */
	pos.overflow |= o->slave.overflow;
	for (unsigned i = 0; i < o->slave.n; i++)
		gtid_pos_add(&pos, o->slave.id[i]);
	notice_lost_tail(m, &pos);
	m->history[m->samples++ % HISTORY] = (struct sample){at_us, pos};
	m->known = o->known;
	gtid_live_raise(&w->server->applied, &pos);
	freshness_sampled(m->freshness, mark, &pos);
	for (unsigned i = 0; i < m->n; i++)
		if (m->watches[i]->role == ROLE_REPLICA)
			monitor_prove(m->watches[i]);
	monitor_publish(m);
}

/* Returns false when a whole check should follow at once. */
static bool sample(struct watch *w, struct link *l)
{
	struct monitor *m = w->m;
	struct observation o = {0};

	pthread_mutex_lock(&m->lock);
	bool primary = m->primary == w && m->primary_up && !atomic_load(&w->gone);
	unsigned era = w->era;
	for (unsigned i = 0; i < m->n && primary; i++)
		live_read(&m->watches[i]->server->applied, &m->watches[i]->at_mark);
	pthread_mutex_unlock(&m->lock);
	if (!primary || l->my == NULL)
		return true;
	int64_t at_us = topology_now_us(); /* both before the question: the answer holds all of then */
	uint64_t mark = freshness_mark(m->freshness);
	int asked = ask_positions(l, monitor_timeout_ms(m), &o);
	pthread_mutex_lock(&m->lock);
	if (asked != 0 && l->late && !atomic_load(&w->gone)) {
		take_failed(w, l->why);
		monitor_publish(m);
	}
	if (m->primary == w && m->primary_up && w->era == era && asked == 0 && o.has_gtid)
		take_sample(w, &o, at_us, mark);
	bool same = asked == 0 && o.read_only == w->seen.read_only;
	pthread_mutex_unlock(&m->lock);
	return same;
}

static int64_t sampling_us(struct monitor *m)
{
	pthread_mutex_lock(&m->lock);
	uint64_t interval = m->config->monitor_interval_ms, lag = m->config->max_replica_lag_ms;
	pthread_mutex_unlock(&m->lock);
	uint64_t step = interval < lag / SAMPLES_A_LAG ? interval : lag / SAMPLES_A_LAG;
	return (int64_t)(step > 2 ? step : 2) * 1000;
}

void *monitor_checker(void *watch)
{
	struct watch *w = watch;
	struct monitor *m = w->m;
	struct link l = {.cancel_fd = w->cancel_fd};
	bool on = true;

	mysql_thread_init();
	while (on) {
		unsigned seen = monitor_pokes(m, TURN_SERVERS);
		int64_t began = topology_now_us();
		check(w, &l);
		int64_t earliest = topology_now_us() + RECHECK_US, now;
		int64_t until = began + monitor_interval_us(m);
		do {
			int64_t next = topology_now_us() + sampling_us(m);
			if (!sample(w, &l))
				break;
			on = monitor_sleep(m, w, TURN_SERVERS, seen, earliest, next < until ? next : until);
			now = topology_now_us();
		} while (on && now < until && (now < earliest || seen == monitor_pokes(m, TURN_SERVERS)));
	}
	link_close(&l);
	mysql_thread_end();
	return NULL;
}
