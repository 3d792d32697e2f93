/* SPDX-License-Identifier: Apache-2.0
 *
 * Keeps the accounts and their rights. Twice a second, and at once when asked, the server is asked for a mark of its
 * grant tables, which costs it little; they are read anew when that is another one, and now and then all the same. So
 * a change that was made around the proxy is seen within a second.
 *
 * The cache may be used only while the rights are known: as the primary has them, young, and of one moment. Without a
 * primary, a replica that has just what the primary had proves them too; one that has something else may only be
 * behind, and is not believed.
 *
 * Rows that are written into the grant tables by hand count for the server only from FLUSH PRIVILEGES or a restart on,
 * and for us as soon as they are read. What it answered in between was by the old rights: after such a FLUSH, nothing
 * is kept of it.
 */
#include <stdlib.h>
#include <string.h>

#include "service/monitor_parts.h"

enum { PERIOD_US = 30000000, MARK_US = 500000, RETRY_US = 1000000,
       RATE_US = 20000,    /* questions of all logins that were refused meanwhile are one */
       REST = 4,           /* times as long as a turn took: a storm of GRANTs does not keep the server busy */
       TRIES = 3 };        /* to read all tables without a change in between */

struct rights_watch {
	struct monitor *m;
	struct link link;
	const struct watch *source; /* only compared */
	struct accounts *last;
	struct config *config;      /* that last was made with */
	int64_t flushes;            /* FLUSH statements seen; -1: none were counted yet */
	bool unflushed;             /* the tables changed, by hand or not, and none was seen since */
	uint64_t reloads;
	char *mark;                 /* of what last says; NULL: not of one moment, or not known */
	int64_t read_us;            /* when it was read */
	bool from_primary, failed;
	bool moved;                 /* to another server, of which last is not */
	unsigned told;              /* pokes when accounts were last published */
};

/* Published even when nothing changed, if somebody asked: logins wait for just this answer. */
static void publish(struct rights_watch *d, unsigned seen)
{
	d->told = seen;
	pthread_mutex_lock(&d->m->lock);
	d->m->sink.accounts(d->m->sink.arg, accounts_ref(d->last));
	pthread_mutex_unlock(&d->m->lock);
}

static void keep(struct rights_watch *d, struct accounts *a, struct config *c)
{
	accounts_unref(d->last);
	d->last = a;
	config_unref(d->config);
	d->config = config_ref(c);
}

/* Reads until the tables had the same mark before and after. Takes over mark; NULL when the server does not answer. */
static struct accounts *read_all(struct rights_watch *d, struct config *c, uint64_t generation, char **mark)
{
	struct accounts *a = NULL;

	for (unsigned i = 0; i < TRIES; i++) {
		accounts_unref(a);
		a = monitor_read_accounts(&d->link, c, generation);
		int64_t ignored;
		char *after = a != NULL ? monitor_accounts_mark(&d->link, (unsigned)c->monitor_timeout_ms, &ignored)
					: NULL;
		bool whole = *mark != NULL && after != NULL && strcmp(*mark, after) == 0;
		free(*mark);
		*mark = after;
		if (whole || a == NULL || after == NULL)
			return a;
	}
	free(*mark);
	*mark = NULL;
	return a;
}

/* What was read last is what the server has, as of the question that was begun at `now`. */
static void confirm(struct rights_watch *d, uint64_t generation, int64_t now)
{
	if (d->from_primary && d->mark != NULL)
		atomic_store_explicit(&d->last->proved_us, now, memory_order_relaxed);
	atomic_store_explicit(&d->last->generation, generation, memory_order_release);
}

/* Takes over mark. Returns false when nothing could be read. */
static bool replace(struct rights_watch *d, struct config *c, uint64_t generation, int64_t now, bool primary,
		    char *mark)
{
	struct accounts *a = read_all(d, c, generation, &mark);

	if (a == NULL) {
		free(mark);
		return false;
	}
	a->reloads = d->reloads;
	if (!primary)
		a->pos = (struct gtid_pos){0};
	else if (!d->moved && d->from_primary && mark != NULL && d->mark != NULL && accounts_grant_alike(a, d->last))
		a->pos = d->last->pos; /* replicas need not have any more than before */
	keep(d, a, c);
	free(d->mark);
	d->mark = mark;
	d->read_us = now;
	d->from_primary = primary;
	d->moved &= !primary;
	confirm(d, generation, now);
	return true;
}

/* Returns whether the server may have taken over tables that were written by hand. When both are seen at once, a change
 * may have come behind the FLUSH. */
static bool reloaded(struct rights_watch *d, bool same, int64_t flushes)
{
	bool is = d->flushes >= 0 && flushes != d->flushes && (d->unflushed || !same);

	d->unflushed = !same || (d->unflushed && !is);
	d->flushes = flushes;
	d->reloads += is;
	return is;
}

/* One look at the server. */
static void look(struct rights_watch *d, bool primary, unsigned seen)
{
	struct config *c = monitor_config(d->m);
	int64_t now = topology_now_us();
	const struct accounts *before = d->last;
	bool may_replace = primary || !d->from_primary || d->config != c, good = true;

	pthread_mutex_lock(&d->m->turn_lock);
	uint64_t generation = ++d->m->accounts_begun; /* before the first question */
	pthread_mutex_unlock(&d->m->turn_lock);
	int64_t flushes = d->flushes;
	char *mark = monitor_accounts_mark(&d->link, (unsigned)c->monitor_timeout_ms, &flushes);
	bool same = d->config == c && mark != NULL && d->mark != NULL && strcmp(mark, d->mark) == 0;
	bool due = now - d->read_us >= PERIOD_US || (d->moved && primary);
	if (d->link.my == NULL) {
		good = false;
	} else if ((primary && reloaded(d, same, flushes)) || (may_replace && !(same && !due))) {
		good = replace(d, c, generation, now, primary, mark) && d->mark != NULL;
		mark = NULL;
	} else if (same) {
		confirm(d, generation, now);
	}
	free(mark);
	if (!good && !d->failed)
		monitor_say(d->m, "account_refresh_failed",
			    d->link.why[0] != '\0' ? d->link.why : "they change all the time");
	d->failed = !good;
	if (d->last == NULL)
		keep(d, accounts_configured(c, generation), c);
	if (d->last != before || (good && seen != d->told))
		publish(d, seen);
	config_unref(c);
}

/* [user.X] works without any server's help; what a server once said is kept while it does not answer. */
static void make_do(struct rights_watch *d, unsigned seen)
{
	struct config *c = monitor_config(d->m);

	if (d->last == NULL) {
		keep(d, accounts_configured(c, 0), c);
		publish(d, seen);
	}
	config_unref(c);
}

/* Returns when the next look is due; *earliest: when one that is asked for may be. */
static int64_t turn(struct rights_watch *d, int64_t *earliest)
{
	unsigned seen = monitor_pokes(d->m, TURN_ACCOUNTS);
	int64_t began = topology_now_us();
	struct choice c;
	bool any = monitor_choose(d->m, &c);

	if (c.source != d->source) {
		link_close(&d->link);
		d->source = c.source;
		d->moved = true;
	}
	if (any && (d->link.my != NULL || monitor_connect(d->m, &d->link, &c.address) == 0))
		look(d, c.primary, seen);
	else
		make_do(d, seen);
	int64_t now = topology_now_us(), rest = REST * (now - began);
	*earliest = now + (rest > RATE_US ? rest < RETRY_US ? rest : RETRY_US : RATE_US);
	if (!any)
		return now + PERIOD_US; /* a change of the topology wakes */
	return d->link.my != NULL && !d->failed ? began + MARK_US : now + RETRY_US;
}

void *monitor_rights(void *monitor)
{
	enum { ALL = TURN_ACCOUNTS | TURN_CHANGED };
	struct monitor *m = monitor;
	struct rights_watch d = {.m = m, .link = {.cancel_fd = m->cancel_fd}, .flushes = -1};
	bool on = true;

	mysql_thread_init();
	while (on) {
		unsigned seen = monitor_pokes(m, ALL);
		int64_t earliest, until = turn(&d, &earliest);
		on = monitor_sleep(m, NULL, ALL, seen, earliest, until);
	}
	link_close(&d.link);
	accounts_unref(d.last);
	config_unref(d.config);
	free(d.mark);
	mysql_thread_end();
	return NULL;
}
