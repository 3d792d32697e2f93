/* SPDX-License-Identifier: Apache-2.0
 *
 * Session state that can be told to another server connection: the schema, and system variables that differ from what
 * a fresh login has (its `struct defaults`). A session has the state it wants, a server connection the state it has;
 * state_diff writes what turns one into the other. Empty states own no memory. Pure.
 *
 * "role" is a pseudo variable: the role in force, empty for none; it is set by SET ROLE. So is STATE_RESULTS_COLLATION:
 * the collation that SET NAMES .. COLLATE gave to character_set_results, which no variable shows, but the columns of
 * results have its number; only where character_set_results is in the state, too.
 *
 * Some variables change others when they are set (`families` in state.c). A state holds no more of a family than what
 * determines all of it: setting one drops those that it sets as well.
 */
#ifndef ST_MYSQL_STATE_H
#define ST_MYSQL_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "mysql/defaults.h"

#define STATE_RESULTS_COLLATION "collation_results"

struct state_var {
	char *name, *value; /* the name in lower case */
	int family;         /* state.c's, -1: none */
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

/* Records what a server was asked for: a variable that is as in `base`, and of which s says nothing, stays out. For
 * statements that nobody told of: ask DEFAULTS_QUERY and learn every row of its answer. */
void state_learn(struct state *s, const struct defaults *base, struct slice name, struct slice value);
/* The same state, told against other defaults: variables that `from` and `to` have with different values, and of which
 * s says nothing, are put into s as they are in `from`. */
void state_rebase(struct state *s, const struct defaults *from, const struct defaults *to);

/* What a server connection has where its state says nothing. */
struct state_base {
	const struct defaults *defaults; /* NULL, or one that does not know a variable: the server's own default */
	bool read_only; /* SET SESSION TRANSACTION READ ONLY stands there, whatever a session wants: it is never undone
			 */
};

/* The most commands that state_diff writes: SET, SET ROLE, COM_INIT_DB. */
enum { STATE_COMMANDS = 3 };

/* Appends the commands (whole packets: COM_QUERY, COM_INIT_DB) that turn `have` into `want`. Returns how many commands,
 * each of which gets one reply; -1 when it cannot be done (no schema is wanted but one is set). */
int state_diff(const struct state *want, const struct state *have, const struct state_base *base, struct buf *out);

/* Appends SET ROLE; NULL or empty: none. */
void state_put_role(const char *role, struct buf *out);

/* Without the schema, for a command that sets it itself: STATE_COMMANDS - 1 at most. */
int state_diff_variables(const struct state *want, const struct state *have, const struct state_base *base,
			 struct buf *out);

#endif
