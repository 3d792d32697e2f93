/* SPDX-License-Identifier: Apache-2.0
 *
 * What sessions do: a grammar as data. A rule has alternatives, one is chosen by weight. In a text
 *
 *	{name}      is that rule         {q:name}  is that rule as an SQL string literal
 *	{1:name}    is that rule as one statement; {sql} is so always
 *	{3-9}       is a number          {a|b|}    is one of these words
 *	{A}         is a number from 0 to 7, {B} one from 1 to 3, each the same all over one step
 *	 ;;         ends a line of the session's script; others' lines may come in between
 *	@words      a line that is a command (script.h), not a statement
 *	!           at the beginning of a step: nobody else's lines come in between
 *
 * Each alternative belongs to a group of features; DIFF_WITHOUT leaves groups out, and each round has a random part of
 * them. Nothing here may differ from run to run by itself: an order of rows or values that no ORDER BY gives, the time
 * (asked only if SET timestamp has put it long ago), ids of connections, the plan's estimates, a random number without
 * a seed, a lock that somebody has to wait for (all lock timeouts are 0).
 */
#ifndef ST_DIFF_GRAMMAR_H
#define ST_DIFF_GRAMMAR_H

#define GROUPS(X) \
	X(base) X(read) X(dml) X(errors) X(warn) X(diag) X(set) X(sysvar) X(setstmt) X(charset) X(settrx) \
	X(trans) X(ro) X(prepared) X(text_prepared) X(immediate) X(block) X(callexec) X(multi) X(routine_set) \
	X(trigger) X(call) X(function) X(view) X(deep) X(uservar) X(lock) X(routine_lock) X(temp) \
	X(routine_temp) X(lock_tables) X(handler) X(xa) X(xa_abort) X(sequence) X(ddl) X(cache) X(command) \
	X(reset) X(change_user) X(bad_user) X(reconnect) X(role) X(vars) X(profile) X(fields) X(calc) \
	X(insert_id) X(special) X(multi_table) X(schema) X(long_data)

enum group {
#define GROUP(name) G_##name,
	GROUPS(GROUP)
#undef GROUP
	GROUP_COUNT
};

struct alternative {
	const char *rule;
	unsigned weight;
	enum group group;
	const char *text;
};

extern const struct alternative grammar_state[], grammar_data[], grammar_session[]; /* rule NULL ends each */

#endif
