/* SPDX-License-Identifier: Apache-2.0
 *
 * A script: lines, each one statement or command of one session. The format, which is also that of the files in
 * tests/data/diff:
 *
 *	# anything                         (also an empty line)
 *	1: SELECT 1                        a statement of session 1, as text (COM_QUERY)
 *	1 connect KIND DB                  a session's first line; KIND: a row of kinds[] in pair.c; DB: - for none.
 *	                                   Without it: 1 connect 0 d
 *	1 prepare 2: SELECT ?              under the number 2 of this session (0 to 7)
 *	1 execute 2: i5 sabc n d1.5        with parameters: integer, text, NULL, double; y tiny, tDATETIME, l: long data
 *	                                   was sent
 *	1 long 2 0: abc                    COM_STMT_SEND_LONG_DATA of parameter 0
 *	1 reset 2, 1 close 2
 *	1 init_db d, 1 ping, 1 reset_connection, 1 set_option 0, 1 fields t1
 *	1 change_user good DB, 1 change_user bad DB
 *	1 quit, 1 abort                    the session ends; its next line connects again, as it did before
 *	1 vars                             compares all session variables
 *	0 data                             compares all tables of both sides
 *	0 replicas                         waits until replicas have all, and compares them with their primary
 */
#ifndef ST_DIFF_SCRIPT_H
#define ST_DIFF_SCRIPT_H

#include <stdbool.h>

enum { SESSIONS = 9, STATEMENTS = 8 }; /* session numbers are 1 to 8 */

struct script {
	char **line; /* owned */
	unsigned n, cap;
};

void script_add(struct script *s, const char *line);
void script_append(struct script *s, const struct script *more);
void script_clear(struct script *s);
bool script_load(struct script *s, const char *path); /* without comments */
/* comment: lines that go before, each made a comment; may be NULL. */
bool script_save(const struct script *s, const char *path, const char *comment);

enum step_kind {
	STEP_QUERY, STEP_CONNECT, STEP_PREPARE, STEP_EXECUTE, STEP_LONG, STEP_RESET, STEP_CLOSE, STEP_INIT_DB,
	STEP_PING, STEP_RESET_CONNECTION, STEP_SET_OPTION, STEP_FIELDS, STEP_CHANGE_USER, STEP_QUIT, STEP_ABORT,
	STEP_VARS, STEP_DATA, STEP_REPLICAS,
};

struct step {
	unsigned session;
	enum step_kind kind;
	unsigned number, part; /* of a prepared statement, its parameter */
	const char *text;      /* the rest of the line */
};
bool step_parse(const char *line, struct step *out);

#endif
