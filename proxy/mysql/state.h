/* SPDX-License-Identifier: Apache-2.0
 *
 * Session state that can be told to another server connection: the schema, and system variables that differ from what
 * a fresh login has. A session has the state it wants, a server connection the state it has; state_diff writes what
 * turns one into the other. Empty states own no memory. Pure.
 */
#ifndef ST_MYSQL_STATE_H
#define ST_MYSQL_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct state_var {
	char *name, *value;
};
struct state {
	char *schema; /* NULL: none */
	struct state_var *vars;
	unsigned n;
	uint64_t hash; /* of all of it, in any order, under this process' secret: equal states have equal hashes, and
			* nobody can make two different ones that have */
};

void state_clear(struct state *s);
void state_copy(struct state *to, const struct state *from);
void state_set_schema(struct state *s, struct slice schema);
/* Records a variable as session tracking reports it. Returns false for those that are not state to carry (last_gtid,
 * timestamp, insert_id, ... : see state.c). */
bool state_set(struct state *s, struct slice name, struct slice value);
const char *state_get(const struct state *s, const char *name); /* NULL: as after login */

/* What character sets a login with this pool's collation gives: DEFAULT would mean the server's own. */
struct state_login {
	char client[32], connection[32], results[32], collation[64];
};

/* Appends the commands (whole packets: COM_QUERY with one SET, COM_INIT_DB) that turn `have` into `want`. Returns how
 * many commands, each of which gets one reply; -1 when it cannot be done (no schema is wanted but one is set). */
int state_diff(const struct state *want, const struct state *have, const struct state_login *login, struct buf *out);

/* The variables alone, for a command that sets the schema itself: 0 or 1 commands. */
int state_diff_variables(const struct state *want, const struct state *have, const struct state_login *login,
			 struct buf *out);

#endif
