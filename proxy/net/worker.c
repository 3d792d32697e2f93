/* SPDX-License-Identifier: Apache-2.0 */
#include "net/worker.h"

#include <errno.h>
#include <event2/event_struct.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

struct letter {
	struct letter *next;
	worker_fn *fn;
	void *arg;
};

struct corpse {
	struct corpse *next;
	void *p;
	void (*destroy)(void *p);
};

struct worker_private {
	pthread_t thread;
	bool running;
	bool stop;              /* worker's thread only */
	int bell;               /* eventfd */
	struct event bell_event;
	pthread_mutex_t lock;   /* guards the mailbox, held for a few instructions */
	struct letter *first, **last;
	struct corpse *graveyard;
	struct worker_hook *hooks;
};

static void on_bell(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;
	struct worker_private *v = w->priv;
	uint64_t rings;

	(void)what;
	if (read(fd, &rings, sizeof rings) < 0 && errno != EAGAIN)
		log_error("worker %u: eventfd: errno %d", w->index, errno);
	pthread_mutex_lock(&v->lock);
	struct letter *l = v->first;
	v->first = NULL;
	v->last = &v->first;
	pthread_mutex_unlock(&v->lock);
	while (l != NULL) {
		struct letter *next = l->next;
		l->fn(w, l->arg);
		free(l);
		l = next;
	}
}

struct worker *worker_new(unsigned index)
{
	struct worker *w = xcalloc(1, sizeof *w);
	struct worker_private *v = xcalloc(1, sizeof *v);
	struct event_config *config = event_config_new();

	w->index = index;
	w->priv = v;
	w->stats = stats_new();
	w->scratch = xmalloc(WORKER_SCRATCH);
	outbox_init(&w->outbox);
	/* Only this thread touches the base. */
	event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
	event_config_require_features(config, EV_FEATURE_ET | EV_FEATURE_EARLY_CLOSE); /* conn.c counts on them */
	w->base = event_base_new_with_config(config);
	event_config_free(config);
	v->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (w->base == NULL || v->bell < 0) {
		log_error("cannot make an event loop: errno %d", errno);
		abort();
	}
	pthread_mutex_init(&v->lock, NULL);
	v->last = &v->first;
	event_assign(&v->bell_event, w->base, v->bell, EV_READ | EV_PERSIST, on_bell, w);
	event_add(&v->bell_event, NULL);
	return w;
}

static void sweep(struct worker_private *v)
{
	while (v->graveyard != NULL) {
		struct corpse *c = v->graveyard;
		v->graveyard = c->next;
		c->destroy(c->p);
		free(c);
	}
}

void worker_turn(struct worker *w, bool wait)
{
	event_base_loop(w->base, wait ? EVLOOP_ONCE : EVLOOP_NONBLOCK);
	for (struct worker_hook *h = w->priv->hooks; h != NULL; h = h->next)
		h->fn(w, h->arg);
	outbox_flush(&w->outbox);
	sweep(w->priv);
}

void worker_at_turn_end(struct worker *w, struct worker_hook *hook)
{
	hook->next = w->priv->hooks;
	w->priv->hooks = hook;
}

static void *run(void *arg)
{
	struct worker *w = arg;

	while (!w->priv->stop)
		worker_turn(w, true);
	return NULL;
}

void worker_start(struct worker *w)
{
	char name[16];

	if (pthread_create(&w->priv->thread, NULL, run, w) != 0) {
		log_error("cannot start a worker thread");
		abort();
	}
	snprintf(name, sizeof name, "st-worker-%u", w->index % 100);
	pthread_setname_np(w->priv->thread, name);
	w->priv->running = true;
}

static void stop(struct worker *w, void *arg)
{
	(void)arg;
	w->priv->stop = true;
}

void worker_stop(struct worker *w)
{
	if (!w->priv->running)
		return;
	worker_post(w, stop, NULL);
	pthread_join(w->priv->thread, NULL);
	w->priv->running = false;
}

void worker_free(struct worker *w)
{
	struct worker_private *v = w->priv;

	sweep(v);
	while (v->first != NULL) {
		struct letter *l = v->first;
		v->first = l->next;
		free(l);
	}
	event_del(&v->bell_event);
	close(v->bell);
	event_base_free(w->base);
	pthread_mutex_destroy(&v->lock);
	stats_free(w->stats);
	outbox_fini(&w->outbox);
	free(w->scratch);
	free(v);
	free(w);
}

void worker_post(struct worker *w, worker_fn *fn, void *arg)
{
	struct worker_private *v = w->priv;
	struct letter *l = xmalloc(sizeof *l);
	uint64_t one = 1;

	*l = (struct letter){.fn = fn, .arg = arg};
	pthread_mutex_lock(&v->lock);
	bool first = v->first == NULL;
	*v->last = l;
	v->last = &l->next;
	pthread_mutex_unlock(&v->lock);
	/* Only the first letter rings; the reader takes all. */
	if (first && write(v->bell, &one, sizeof one) < 0)
		log_error("worker %u: eventfd: errno %d", w->index, errno);
}

void worker_bury(struct worker *w, void *p, void (*destroy)(void *p))
{
	struct corpse *c = xmalloc(sizeof *c);

	*c = (struct corpse){.next = w->priv->graveyard, .p = p, .destroy = destroy};
	w->priv->graveyard = c;
}
