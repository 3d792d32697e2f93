/* SPDX-License-Identifier: Apache-2.0
 *
 * The connection to the proxy that a program gets in place of the one it asked for. The shim calls this within the
 * program, on the program's own descriptor; the supervisor of sidetrack-run calls it on a duplicate of that descriptor.
 * Async-signal-safe, allocates nothing, any thread.
 */
#ifndef ST_PRELOAD_REDIRECT_H
#define ST_PRELOAD_REDIRECT_H

#include "rules.h"

struct redirect {
	bool real;       /* the caller lets the program connect to what it asked for */
	int error;       /* else: what connect() answers: 0 or an errno such as EINPROGRESS */
	int replacement; /* -1, or a new socket that has to take the descriptor's place, in every process that has it */
};

/* `wanted` matched a rule. Where the proxy cannot be had, the socket comes back unconnected and r.real says that the
 * real destination is next (with rules->strict: r.error says why not). */
struct redirect redirect_connect(const struct rules *rules, int fd, const struct endpoint *wanted);

/* One line on stderr, where rules->debug is set. */
void redirect_debug(const struct rules *rules, const struct endpoint *wanted, const char *outcome);

/* connect() as it is without the shim: each of the two programs brings its own. */
int real_connect(int fd, const struct sockaddr *sa, socklen_t len);

#endif
