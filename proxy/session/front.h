/* SPDX-License-Identifier: Apache-2.0
 *
 * The front door: listening sockets, and to which server group a client belongs. Most say nothing and are the default
 * group's. A destination that a program wanted, before something redirected it, names another one; it is known from
 *
 *   the kernel        on a `transparent` listener: SO_ORIGINAL_DST (REDIRECT), or the socket's own address (TPROXY)
 *   a PROXY header    on a `proxy_protocol` listener every client begins with one, and is greeted by its own group.
 *                     On the others a client of the trusted networks may: it is greeted at once, by the default group,
 *                     as MariaDB does it, and goes over to its own when the header comes
 *
 * The header also says whom the client speaks for: that is its host from then on.
 */
#ifndef ST_SESSION_FRONT_H
#define ST_SESSION_FRONT_H

#include <sys/socket.h>

#include "base/slice.h"
#include "session/proxy.h"

struct front;
struct session;

/* groups as in struct proxy, which is told of them here; the workers are those of every group. */
struct front *front_new(struct proxy *const *groups, unsigned n, struct config *whole);
/* Binds the listening addresses. Returns 0, or -1 after a log line. */
int front_listen(struct front *f);
/* Begins to accept, on the control loop, and deals clients out to the least loaded worker. */
void front_accepting(struct front *f, struct event_base *base);
void front_reload(struct front *f, struct config *whole); /* any thread */
void front_close(struct front *f);                        /* accepts nobody any more; on the control loop */
void front_free(struct front *f);

/* What a listener knows of a client. */
enum header { HEADER_NEVER, HEADER_MAY, HEADER_MUST };

/* The first bytes of a session that may, or must, begin with a PROXY header. Returns how many were the header's (none,
 * when the client begins otherwise, and may), 0 with *more set when more must come, or -1: the session is closed. */
ssize_t front_header(struct session *s, struct slice data, bool *more);

#endif
