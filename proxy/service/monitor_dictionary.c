/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads accounts and the catalog, every half minute and when asked, at most once a second. The catalog is read at the
 * primary only: a replica's may be old, and a generation promises to know of all DDL before it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "service/monitor_parts.h"

enum { PERIOD_US = 30000000, ACCOUNTS_US = 5000000, /* a dropped account logs in no longer than that */
        RETRY_US = 5000000, RATE_US = 1000000 };

struct chore { /* one of the two things to read */
	unsigned kind;  /* TURN_ bit */
	unsigned seen;  /* pokes when it was last begun */
	int64_t began;  /* 0: never */
	bool failed;    /* since then; said once */
};

struct dictionary {
	struct monitor *m;
	struct link link;
	struct watch *source; /* only compared, never followed: it may be gone */
	struct chore accounts, catalog;
	struct accounts *last_accounts;
	struct catalog *last_catalog;
	uint64_t accounts_generation;
	char why[160], unseen[160]; /* what was last said to be missing from the catalog */
};

static int64_t due_at(struct monitor *m, const struct chore *c)
{
	if (c->began == 0)
		return 0;
	if (monitor_pokes(m, c->kind) != c->seen)
		return c->began + RATE_US;
	if (c->failed)
		return c->began + RETRY_US;
	return c->began + (c->kind == TURN_ACCOUNTS ? ACCOUNTS_US : PERIOD_US);
}

static bool begin(struct monitor *m, struct chore *c)
{
	int64_t now = topology_now_us();

	if (now < due_at(m, c))
		return false;
	c->seen = monitor_pokes(m, c->kind);
	c->began = now;
	return true;
}

/* Where to read: the primary, else (accounts only) any server that is up. A new source makes everything due. */
static bool choose(struct dictionary *d, struct addr *address, bool *primary, bool *fold)
{
	struct monitor *m = d->m;
	struct watch *w = NULL;

	pthread_mutex_lock(&m->lock);
	if (m->primary_up)
		w = m->primary;
	for (unsigned i = 0; i < m->n && w == NULL; i++)
		if (m->watches[i]->up)
			w = m->watches[i];
	*primary = m->primary_up;
	if (w != NULL) {
		*address = w->config.address;
		*fold = w->seen.lower_case_table_names != 0;
	}
	pthread_mutex_unlock(&m->lock);
	if (w != d->source) {
		link_close(&d->link);
		d->source = w;
		d->accounts.began = d->catalog.began = 0;
	}
	return w != NULL;
}

static struct config *current_config(struct monitor *m)
{
	pthread_mutex_lock(&m->lock);
	struct config *c = config_ref(m->config);
	pthread_mutex_unlock(&m->lock);
	return c;
}

static void say(struct dictionary *d, const char *kind, const char *text)
{
	pthread_mutex_lock(&d->m->lock);
	monitor_event(d->m, kind, d->m->primary != NULL ? d->m->primary->config.name : "", "%s", text);
	pthread_mutex_unlock(&d->m->lock);
}

/* Published even when nothing changed: logins that did not fit the last ones wait for just this answer. */
static void keep_accounts(struct dictionary *d, struct accounts *a)
{
	d->accounts_generation++;
	accounts_unref(d->last_accounts);
	d->last_accounts = a;
	pthread_mutex_lock(&d->m->lock);
	d->m->sink.accounts(d->m->sink.arg, accounts_ref(a));
	pthread_mutex_unlock(&d->m->lock);
}

/* [user.X] works without any server's help; what a server once said is kept while it does not answer. */
static void read_accounts(struct dictionary *d, bool reachable)
{
	struct config *c = current_config(d->m);
	struct accounts *a = NULL;

	if (reachable && (a = monitor_read_accounts(&d->link, c, d->accounts_generation + 1)) == NULL &&
	    !d->accounts.failed)
		say(d, "account_refresh_failed", d->link.why);
	if (reachable)
		d->accounts.failed = a == NULL;
	if (a == NULL && d->last_accounts == NULL)
		a = accounts_configured(c, d->accounts_generation + 1);
	if (a != NULL)
		keep_accounts(d, a);
	config_unref(c);
}

static void keep_catalog(struct dictionary *d, struct catalog *c)
{
	pthread_mutex_lock(&d->m->turn_lock);
	uint64_t wanted = d->m->catalog_wanted;
	pthread_mutex_unlock(&d->m->turn_lock);
	if (strcmp(d->why, c->why) != 0) {
		say(d, c->complete ? "catalog_complete" : "catalog_incomplete", c->complete ? "all is known" : c->why);
		snprintf(d->why, sizeof d->why, "%s", c->why);
	}
	if (strcmp(d->unseen, c->unseen) != 0) {
		char text[300];
		snprintf(text, sizeof text,
			 c->unseen[0] == 0 ? "the text of all views can be seen" :
					     "the text of %s may not be seen: such views are read at the primary",
			 c->unseen);
		say(d, c->unseen[0] == 0 ? "views_seen" : "views_unseen", text);
		snprintf(d->unseen, sizeof d->unseen, "%s", c->unseen);
	}
	bool asked = d->last_catalog == NULL || wanted > d->last_catalog->generation;
	if (!asked && catalog_equal(d->last_catalog, c)) {
		catalog_unref(c);
		return;
	}
	catalog_unref(d->last_catalog);
	d->last_catalog = c;
	pthread_mutex_lock(&d->m->lock);
	d->m->sink.catalog(d->m->sink.arg, catalog_ref(c));
	pthread_mutex_unlock(&d->m->lock);
}

static void read_catalog(struct dictionary *d, bool fold)
{
	struct config *config = current_config(d->m);

	pthread_mutex_lock(&d->m->turn_lock);
	uint64_t generation = ++d->m->catalog_begun; /* before the first question */
	pthread_mutex_unlock(&d->m->turn_lock);
	struct catalog *c = monitor_read_catalog(&d->link, config, fold, generation);
	if (c == NULL && !d->catalog.failed)
		say(d, "catalog_refresh_failed", d->link.why);
	d->catalog.failed = c == NULL;
	if (c != NULL)
		keep_catalog(d, c);
	config_unref(config);
}

/* Does what is due. Returns when something will be. */
static int64_t turn(struct dictionary *d)
{
	struct addr address;
	bool primary = false, fold = false;

	if (!choose(d, &address, &primary, &fold)) {
		if (d->last_accounts == NULL)
			read_accounts(d, false);
		return topology_now_us() + PERIOD_US; /* a change of the topology wakes */
	}
	bool reachable = d->link.my != NULL || monitor_connect(d->m, &d->link, &address) == 0;
	if (reachable ? begin(d->m, &d->accounts) : d->last_accounts == NULL)
		read_accounts(d, reachable);
	if (primary && d->link.my != NULL && begin(d->m, &d->catalog))
		read_catalog(d, fold);
	if (d->link.my == NULL)
		return topology_now_us() + RATE_US;
	int64_t a = due_at(d->m, &d->accounts), c = due_at(d->m, &d->catalog);
	return a < c || !primary ? a : c;
}

void *monitor_dictionary(void *monitor)
{
	enum { ALL = TURN_ACCOUNTS | TURN_CATALOG | TURN_CHANGED };
	struct monitor *m = monitor;
	struct dictionary d = {.m = m, .link = {.cancel_fd = m->cancel_fd}};
	bool on = true;

	d.accounts.kind = TURN_ACCOUNTS;
	d.catalog.kind = TURN_CATALOG;

	mysql_thread_init();
	while (on) {
		unsigned seen = monitor_pokes(m, ALL);
		int64_t until = turn(&d);
		on = monitor_sleep(m, NULL, ALL, seen, 0, until);
	}
	link_close(&d.link);
	accounts_unref(d.last_accounts);
	catalog_unref(d.last_catalog);
	mysql_thread_end();
	return NULL;
}
