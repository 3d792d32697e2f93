/* SPDX-License-Identifier: Apache-2.0
 *
 * What a server connection goes through between its login (or a reset) and its first owner: session tracking is turned
 * on, what it was born with is measured or compared by fingerprint, and what differs from its identity's base is set,
 * as in
 *
 *      first of a pool    track, values | fingerprint, ground      two round trips, about 1 ms more
 *      others, and resets (reset, role,) track, fingerprint, ground   one
 *
 * The primary's first connection of an epoch gives the identity its base. On all servers but the primary the session is
 * made read-only last: nothing can be written there, whatever a function does behind a read.
 *
 * Worker thread.
 */
#ifndef ST_CLUSTER_BACKEND_SETUP_H
#define ST_CLUSTER_BACKEND_SETUP_H

#include "cluster/backend.h"

/* Starts it: after a login, or with b->tainted set after setup_can_reset said yes, by a reset. Ends in pool_ready, or
 * in backend_fail, or closes the connection, which makes another one for whoever waits. */
void setup_begin(struct backend *b);
/* A packet in BACKEND_SETUP. */
void setup_packet(struct backend *b, struct slice payload);
/* Frees what it needed; at any time, also when it never began. */
void setup_end(struct backend *b);
/* Would a reset make it as good as new? */
bool setup_can_reset(const struct backend *b);

#endif
