/* SPDX-License-Identifier: Apache-2.0
 *
 * What a redirected socket was meant for. Keyed by the kernel's socket cookie, which is never used again: dup(), fork()
 * and descriptors that are closed and opened again need no care. A table of fixed size, lock-free, usable in a signal
 * handler; when it is full, the oldest of a few candidates is forgotten, and getpeername() then tells the truth.
 */
#ifndef ST_PRELOAD_PEERS_H
#define ST_PRELOAD_PEERS_H

#include "endpoint.h"

/* 0: this kernel, or this descriptor, has none. */
uint64_t socket_cookie(int fd);

/* pending: its connect() has not ended yet; calling connect() again asks how it is getting on. */
void peers_put(uint64_t cookie, const struct endpoint *wanted, bool pending);
bool peers_get(uint64_t cookie, struct endpoint *wanted, bool *pending);

#endif
