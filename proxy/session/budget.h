/* SPDX-License-Identifier: Apache-2.0
 *
 * The memory that all clients together may make the proxy hold ([proxy] client_memory): what has come of large
 * commands and of commands that wait for their turn, texts of prepared statements, long data. Small things are not
 * counted: a session owns BUDGET_FREE bytes, and so is never kept from an ordinary statement by what others hold.
 *
 * Who asks for more than is left, waits: its socket is not read until others have given back what they held. What a
 * large command needs is taken before its bytes are, so nobody waits while he holds a part, and all who began can end.
 * Nobody waits for ever: who holds and is silent is closed while others wait (session_sweep), who has waited for
 * pool_wait is told 1041, and what can never be had is refused at once.
 *
 * One number for the process, whatever the server groups. Any thread; *held is its owner's.
 */
#ifndef ST_SESSION_BUDGET_H
#define ST_SESSION_BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BUDGET_FREE = 16384 };

/* Raises *held to `want` bytes. False, and nothing has changed, when that is more than is left of `limit`. */
bool budget_take(size_t *held, size_t want, uint64_t limit);
/* The same for what is there already; may go beyond the limit. */
void budget_note(size_t *held, size_t want);
/* Lowers *held to `keep`. */
void budget_give(size_t *held, size_t keep);
bool budget_is_used_up(uint64_t limit);
uint64_t budget_used(void);
/* How many sessions wait: +1, -1. */
void budget_waits(int change);
bool budget_somebody_waits(void);

#endif
