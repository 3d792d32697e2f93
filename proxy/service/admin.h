/* SPDX-License-Identifier: Apache-2.0
 *
 * The admin port: a MySQL server in threads of its own for DBAs with any MySQL client. Blocking, sequential code, one
 * thread a connection (ADMIN_CONNECTIONS at most); it never touches the workers' path. Accounts and their password are
 * those of the current configuration, asked through ops at each login, so that a reload needs no call here.
 */
#ifndef ST_SERVICE_ADMIN_H
#define ST_SERVICE_ADMIN_H

#include "base/config.h"
#include "service/ops.h"

enum { ADMIN_CONNECTIONS = 16 };

struct admin;

/* Listens on config->admin (with none: does nothing) and starts its thread. ops is copied; what it refers to must live
 * until admin_stop. Returns NULL when an address cannot be listened on, which was logged. */
struct admin *admin_start(const struct admin_ops *ops, const struct config *config);
/* Ends all connections and joins all threads: bounded by the longest callback or query (2 s). NULL is allowed. */
void admin_stop(struct admin *a);

#endif
