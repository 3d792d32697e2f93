/* SPDX-License-Identifier: Apache-2.0
 *
 * What running a statement or a routine, or reading or writing a table, may do besides giving an answer and changing
 * rows that its text names: itself, and all that it calls. Bits are a union: a bit that is not set is a promise.
 */
#ifndef ST_SQL_EFFECT_H
#define ST_SQL_EFFECT_H

enum effect {
	EFFECT_WRITES = 1,      /* changes or locks rows, or anything global; NEXTVAL too */
	EFFECT_VARIABLES = 2,   /* sets system variables of the session: SET of anything but @user and local variables,
				 * SET NAMES, SET ROLE, USE, .. */
	EFFECT_KEEPS = 4,       /* leaves in the connection what cannot be asked for: @user variables, user locks,
				 * HANDLER, LOCK TABLES, FLUSH .. WITH READ LOCK, BACKUP, PREPARE, XA */
	EFFECT_TEMPORARY = 8,   /* may create or drop temporary tables */
	EFFECT_DEPENDS = 16,    /* the answer depends on the connection or the server that it runs on: @user and
				 * @@variables, LAST_INSERT_ID, CONNECTION_ID, LASTVAL, server tables, tables that do
				 * not replicate */
	EFFECT_NONDET = 32,     /* NOW, RAND, UUID, USER, ..: must not be cached, may run anywhere */
	EFFECT_TRANSACTION = 64, /* may begin, commit or roll back, set a transaction's characteristics, DDL */
	EFFECT_DYNAMIC = 128,   /* EXECUTE: anything; all others are set as well */
	EFFECT_DEFINES = 256,   /* may change what the dictionary says: CREATE, ALTER, DROP, RENAME of what is not
				 * temporary */

	EFFECT_ALL = 511,
	/* What must not happen at a replica. */
	EFFECT_PRIMARY = EFFECT_ALL & ~EFFECT_NONDET
};

#endif
