/* SPDX-License-Identifier: Apache-2.0
 *
 * One client of the admin port: its commands and statements, as bytes in and bytes out. Private to service/admin*.c.
 */
#ifndef ST_SERVICE_ADMIN_SESSION_H
#define ST_SERVICE_ADMIN_SESSION_H

#include "base/slice.h"
#include "service/ops.h"

enum { ADMIN_PACKET_MAX = 1 << 20 };

struct admin_session {
	const struct admin_ops *ops;
	uint32_t id, caps;
	char user[160];  /* name@host */
	char schema[65]; /* for EXPLAIN ROUTE: unqualified names */
};

/* Answers one command packet (its payload), appending whole packets to out. Returns false for COM_QUIT. */
bool admin_command(struct admin_session *s, struct slice payload, struct buf *out);
/* Answers the text of one statement. */
void admin_statement(struct admin_session *s, struct slice sql, struct buf *out);

#endif
