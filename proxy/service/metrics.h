/* SPDX-License-Identifier: Apache-2.0
 *
 * The web service, in a thread of its own over libevent's HTTP: /metrics for Prometheus, /healthz (the process runs),
 * /readyz (a primary is up), /status.json and a page at / that shows it. Reads counters and snapshots only.
 */
#ifndef ST_SERVICE_METRICS_H
#define ST_SERVICE_METRICS_H

#include "base/config.h"
#include "base/slice.h"
#include "service/ops.h"

struct metrics;

/* Listens on config->http (without one: does nothing). ops is copied; what it refers to must live until metrics_stop.
 * Returns NULL when the address cannot be listened on, which was logged. */
struct metrics *metrics_start(const struct admin_ops *ops, const struct config *config);
void metrics_stop(struct metrics *m); /* joins its thread; NULL is allowed */

/* What the paths answer, without HTTP around it. */
void metrics_text(const struct admin_ops *ops, struct buf *out);   /* Prometheus text format 0.0.4 */
void metrics_status(const struct admin_ops *ops, struct buf *out); /* JSON */
bool metrics_ready(const struct admin_ops *ops, char *why, size_t cap);
extern const char metrics_page[]; /* HTML, self-contained */

#endif
