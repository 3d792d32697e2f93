/* SPDX-License-Identifier: Apache-2.0
 *
 * Topology and error history: the newest events of the process, for the admin table `events` and the web page.
 * Any thread.
 */
#ifndef ST_SERVICE_EVENTS_H
#define ST_SERVICE_EVENTS_H

#include <stdint.h>

enum { EVENTS = 512 };

struct history_event {
	int64_t time_ms; /* since 1970 */
	char kind[32], server[64], text[256];
};

/* Texts are cut where they do not fit. server may be NULL. */
void events_add(const char *kind, const char *server, const char *text);
/* Oldest first, at most EVENTS. The visitor must not add events. */
void events_visit(void (*visit)(void *arg, const struct history_event *e), void *arg);

#endif
