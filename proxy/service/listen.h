/* SPDX-License-Identifier: Apache-2.0
 *
 * Listening sockets of the services.
 */
#ifndef ST_SERVICE_LISTEN_H
#define ST_SERVICE_LISTEN_H

#include "base/addr.h"

/* A listening, close-on-exec socket, or -1, which was logged. The path of a unix socket gets mode 0660; one that a dead
 * process left is replaced. */
int listen_on(const struct addr *a);

#endif
