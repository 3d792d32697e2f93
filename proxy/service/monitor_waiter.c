/* SPDX-License-Identifier: Apache-2.0
 *
 * A replica's progress, learnt as it happens: the waiter waits there for the newest position anyone has written or
 * sampled, and raises server->applied when it is reached. Reads then compare two numbers.
 */
#include <stdio.h>
#include <string.h>

#include "service/monitor_parts.h"

enum { NEWER_MS = 1000, WAIT_S = 1, PAUSE_US = 50000, LOOK_US = 10000000, POS_TEXT = 512 };

void monitor_forget(struct watch *w)
{
	w->era++;
	w->fresh = false;
	gtid_live_reset(&w->server->applied);
	atomic_store_explicit(&w->server->fresh_us, 0, memory_order_release);
}

void live_read(const struct gtid_live *live, struct gtid_pos *out)
{
	unsigned n = atomic_load_explicit(&live->n, memory_order_acquire);

	*out = (struct gtid_pos){0};
	for (unsigned i = 0; i < n; i++)
		gtid_pos_add(out, (struct gtid){live->at[i].domain, 0, atomic_load(&live->at[i].seq)});
}

static bool live_covers(const struct gtid_live *live, const struct gtid_pos *pos)
{
	for (unsigned i = 0; i < pos->n; i++)
		if (!gtid_live_covers(live, pos->id[i].domain, pos->id[i].seq))
			return false;
	return !pos->overflow;
}

void monitor_prove(struct watch *w)
{
	struct monitor *m = w->m;
	unsigned kept = m->samples < HISTORY ? m->samples : HISTORY;

	for (unsigned i = 1; i <= kept; i++) {
		const struct sample *s = &m->history[(m->samples - i) % HISTORY];
		if (!live_covers(&w->server->applied, &s->pos))
			continue;
		if (atomic_load_explicit(&w->server->fresh_us, memory_order_relaxed) < s->at_us)
			atomic_store_explicit(&w->server->fresh_us, s->at_us, memory_order_release);
		return;
	}
}

void monitor_raise(struct watch *w, const struct gtid_pos *pos)
{
	struct monitor *m = w->m;
	struct gtid_pos applied = {0};

	if (m->primary == NULL || m->primary == w || w->diverged)
		return;
	known_filter(&m->known, m->primary->seen.server_id, pos, &applied);
	gtid_live_raise(&w->server->applied, &applied);
	monitor_prove(w);
}

/* Asks once. Returns false when the link failed. */
static bool wait_there(struct watch *w, struct link *l, const struct gtid_pos *want, unsigned era)
{
	char list[POS_TEXT], sql[POS_TEXT + 80];
	struct gtid_pos pos;

	gtid_pos_print(want, list, sizeof list);
	snprintf(sql, sizeof sql, "SELECT MASTER_GTID_WAIT('%s', %d), @@gtid_slave_pos", list, WAIT_S);
	MYSQL_RES *res = link_ask(l, sql, WAIT_S * 1000 + monitor_timeout_ms(w->m));
	if (res == NULL)
		return false;
	MYSQL_ROW row = mysql_fetch_row(res);
	bool good = row != NULL && row[1] != NULL && gtid_pos_parse(slice_str(row[1]), &pos) == 0;
	if (good) {
		pthread_mutex_lock(&w->m->lock);
		if (w->era == era)
			monitor_raise(w, &pos);
		pthread_mutex_unlock(&w->m->lock);
	}
	mysql_free_result(res);
	return good;
}

/* One turn of the thread; returns when it may rest until, 0 for not at all. */
static int64_t turn(struct watch *w, struct link *l)
{
	struct gtid_pos want;

	pthread_mutex_lock(&w->m->lock);
	bool active = w->up && w->role == ROLE_REPLICA && w->seen.has_gtid;
	unsigned era = w->era;
	pthread_mutex_unlock(&w->m->lock);
	if (!active) {
		link_close(l);
		return topology_now_us() + LOOK_US;
	}
	if (l->my == NULL && monitor_connect(w->m, l, &w->config.address) != 0)
		return topology_now_us() + 10 * PAUSE_US;
	if (!freshness_wait_newer(w->m->freshness, &w->server->applied, NEWER_MS, &want))
		return 0;
	if (!wait_there(w, l, &want, era))
		return topology_now_us() + 10 * PAUSE_US;
	/* There, and still not covered: it is not the primary's history. Ask again, but not in a circle. */
	return live_covers(&w->server->applied, &want) ? 0 : topology_now_us() + PAUSE_US;
}

void *monitor_waiter(void *watch)
{
	struct watch *w = watch;
	struct link l = {.cancel_fd = w->cancel_fd};

	mysql_thread_init();
	while (!atomic_load(&w->gone)) {
		unsigned seen = monitor_pokes(w->m, TURN_CHANGED);
		int64_t until = turn(w, &l);
		if (until != 0 && !monitor_sleep(w->m, w, TURN_CHANGED, seen, 0, until))
			break;
	}
	link_close(&l);
	mysql_thread_end();
	return NULL;
}
