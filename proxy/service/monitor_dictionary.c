/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads the catalog, every half minute and when asked, at most once a second. It is read at the primary only: a
 * replica's may be old, and a generation promises to know of all DDL before it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "service/monitor_parts.h"

enum { PERIOD_US = 30000000, RETRY_US = 5000000, RATE_US = 1000000 };

struct dictionary {
	struct monitor *m;
	struct link link;
	const struct watch *source; /* only compared */
	unsigned seen;  /* pokes when it was last begun */
	int64_t began;  /* 0: never */
	bool failed;    /* since then; said once */
	struct catalog *last;
	char why[160], unseen[160]; /* what was last said to be missing */
};

static int64_t due_at(const struct dictionary *d)
{
	if (d->began == 0)
		return 0;
	if (monitor_pokes(d->m, TURN_CATALOG) != d->seen)
		return d->began + RATE_US;
	return d->began + (d->failed ? RETRY_US : PERIOD_US);
}

bool monitor_choose(struct monitor *m, struct choice *c)
{
	struct watch *w = NULL;

	pthread_mutex_lock(&m->lock);
	if (m->primary_up)
		w = m->primary;
	for (unsigned i = 0; i < m->n && w == NULL; i++)
		if (m->watches[i]->up)
			w = m->watches[i];
	c->source = w;
	c->primary = m->primary_up;
	if (w != NULL) {
		c->address = w->config.address;
		c->fold = w->seen.lower_case_table_names != 0;
	}
	pthread_mutex_unlock(&m->lock);
	return w != NULL;
}

struct config *monitor_config(struct monitor *m)
{
	pthread_mutex_lock(&m->lock);
	struct config *c = config_ref(m->config);
	pthread_mutex_unlock(&m->lock);
	return c;
}

void monitor_say(struct monitor *m, const char *kind, const char *text)
{
	pthread_mutex_lock(&m->lock);
	monitor_event(m, kind, m->primary != NULL ? m->primary->config.name : "", "%s", text);
	pthread_mutex_unlock(&m->lock);
}

static void keep_catalog(struct dictionary *d, struct catalog *c)
{
	pthread_mutex_lock(&d->m->turn_lock);
	uint64_t wanted = d->m->catalog_wanted;
	pthread_mutex_unlock(&d->m->turn_lock);
	if (strcmp(d->why, c->why) != 0) {
		monitor_say(d->m, c->complete ? "catalog_complete" : "catalog_incomplete",
			    c->complete ? "all is known" : c->why);
		snprintf(d->why, sizeof d->why, "%s", c->why);
	}
	if (strcmp(d->unseen, c->unseen) != 0) {
		char text[300];
		snprintf(text, sizeof text,
			 c->unseen[0] == 0 ? "the text of all views can be seen" :
					     "the text of %s may not be seen: such views are read at the primary",
			 c->unseen);
		monitor_say(d->m, c->unseen[0] == 0 ? "views_seen" : "views_unseen", text);
		snprintf(d->unseen, sizeof d->unseen, "%s", c->unseen);
	}
	bool asked = d->last == NULL || wanted > d->last->generation;
	if (!asked && catalog_equal(d->last, c)) {
		catalog_unref(c);
		return;
	}
	catalog_unref(d->last);
	d->last = c;
	pthread_mutex_lock(&d->m->lock);
	d->m->sink.catalog(d->m->sink.arg, catalog_ref(c));
	pthread_mutex_unlock(&d->m->lock);
}

static void read_catalog(struct dictionary *d, bool fold)
{
	struct config *config = monitor_config(d->m);

	d->seen = monitor_pokes(d->m, TURN_CATALOG);
	d->began = topology_now_us();
	pthread_mutex_lock(&d->m->turn_lock);
	uint64_t generation = ++d->m->catalog_begun; /* before the first question */
	pthread_mutex_unlock(&d->m->turn_lock);
	struct catalog *c = monitor_read_catalog(&d->link, config, fold, generation);
	if (c == NULL && !d->failed)
		monitor_say(d->m, "catalog_refresh_failed", d->link.why);
	d->failed = c == NULL;
	if (c != NULL)
		keep_catalog(d, c);
	config_unref(config);
}

/* Does what is due. Returns when something will be. */
static int64_t turn(struct dictionary *d)
{
	struct choice c;
	bool any = monitor_choose(d->m, &c);

	if (c.source != d->source) { /* another one: all is to be read there */
		link_close(&d->link);
		d->source = c.source;
		d->began = 0;
	}
	if (!any || !c.primary)
		return topology_now_us() + PERIOD_US; /* a change of the topology wakes */
	if (topology_now_us() >= due_at(d)) {
		if (d->link.my == NULL && monitor_connect(d->m, &d->link, &c.address) != 0)
			return topology_now_us() + RATE_US;
		read_catalog(d, c.fold);
	}
	/* It is asked rarely: meanwhile the connection is better somebody else's. */
	bool lost = d->link.my == NULL, soon = due_at(d) - topology_now_us() <= RATE_US;
	if (!soon)
		link_close(&d->link);
	return lost && d->failed ? topology_now_us() + RATE_US : due_at(d);
}

void *monitor_dictionary(void *monitor)
{
	enum { ALL = TURN_CATALOG | TURN_CHANGED };
	struct monitor *m = monitor;
	struct dictionary d = {.m = m, .link = {.cancel_fd = m->cancel_fd}};
	bool on = true;

	mysql_thread_init();
	while (on) {
		unsigned seen = monitor_pokes(m, ALL);
		int64_t until = turn(&d);
		on = monitor_sleep(m, NULL, ALL, seen, 0, until);
	}
	link_close(&d.link);
	catalog_unref(d.last);
	mysql_thread_end();
	return NULL;
}
