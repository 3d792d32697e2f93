/* SPDX-License-Identifier: Apache-2.0 */
#include "service/events.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct history_event ring[EVENTS];
static uint64_t added;

void events_add(const char *kind, const char *server, const char *text)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	pthread_mutex_lock(&lock);
	struct history_event *e = &ring[added++ % EVENTS];
	e->time_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
	snprintf(e->kind, sizeof e->kind, "%s", kind);
	snprintf(e->server, sizeof e->server, "%s", server != NULL ? server : "");
	snprintf(e->text, sizeof e->text, "%s", text);
	pthread_mutex_unlock(&lock);
}

void events_visit(void (*visit)(void *arg, const struct history_event *e), void *arg)
{
	pthread_mutex_lock(&lock);
	for (uint64_t i = added > EVENTS ? added - EVENTS : 0; i < added; i++)
		visit(arg, &ring[i % EVENTS]);
	pthread_mutex_unlock(&lock);
}
