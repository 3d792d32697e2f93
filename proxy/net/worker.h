/* SPDX-License-Identifier: Apache-2.0
 *
 * A worker: one thread, one event loop, and everything that lives on it. Others reach it by posting closures. At the
 * end of each turn of its loop it runs its hooks, sends what is in the outbox and frees what was parked in the
 * graveyard (so that no callback of the same turn meets freed memory).
 */
#ifndef ST_NET_WORKER_H
#define ST_NET_WORKER_H

#include <event2/event.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/stats.h"
#include "net/conn.h"

struct worker;
typedef void worker_fn(struct worker *w, void *arg);

/* Room for what one read brings: a reply's closing packet must fit. */
enum { WORKER_SCRATCH = 256 * 1024 };

struct worker {
	unsigned index;
	struct event_base *base;
	struct stats *stats;
	struct outbox outbox;  /* of its connections */
	uint8_t *scratch;      /* WORKER_SCRATCH bytes to read into; free between callbacks */
	atomic_int load;       /* sessions, for dealing out new ones; written by the acceptor and the worker */
	struct worker_private *priv;
};

/* Makes a worker; the loop runs from worker_start (in a thread named st-worker-N) until worker_stop, which joins. */
struct worker *worker_new(unsigned index);
void worker_start(struct worker *w);
/* What that thread does over and over: one turn of the loop, waiting for something to happen or not. For who has
 * started none, and does it all on a thread of its own. */
void worker_turn(struct worker *w, bool wait);
void worker_stop(struct worker *w); /* may be called again */
/* Has fn called at the end of each turn. Before worker_start; the hook is the caller's, until the worker has stopped.
 */
struct worker_hook {
	struct worker_hook *next;
	worker_fn *fn;
	void *arg;
};
void worker_at_turn_end(struct worker *w, struct worker_hook *hook);
void worker_free(struct worker *w);

/* Runs fn on the worker's thread, in order of posting. Any thread. */
void worker_post(struct worker *w, worker_fn *fn, void *arg);
/* Frees p with `destroy` at the end of this turn. On the worker's thread. */
void worker_bury(struct worker *w, void *p, void (*destroy)(void *p));

#endif
