/* SPDX-License-Identifier: Apache-2.0
 *
 * What a fresh login has: the values of all session variables that can be set, as text in the form of SHOW VARIABLES
 * (which is session tracking's, too), and as a pseudo variable "role" the role that is in force (empty: none). They
 * are asked of a server in full (DEFAULTS_QUERY, 0.8 ms), or compared by a fingerprint (0.16 ms). A set is immutable
 * once it is sealed; references to it are counted by one thread, its worker's.
 *
 * Left out is what is no state (it moves by itself, or steers the tracking), what no session can set, what goes with
 * the schema, and what is each server's own (server_id, gtid_domain_id): those go back by DEFAULT.
 *
 * SQL NULL is an empty value here, as in information_schema and in session tracking (see state.c). Pure.
 */
#ifndef ST_MYSQL_DEFAULTS_H
#define ST_MYSQL_DEFAULTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/slice.h"

enum {
	DEFAULTS_MAX = 1000,    /* variables of one server */
	DEFAULTS_VALUE = 16384, /* bytes of a value */
	DEFAULTS_DIGEST = 16
};

#define DEFAULTS_LEFT_OUT                                                                                              \
	"'character_set_database','collation_database','default_master_connection','gtid_domain_id','gtid_seq_no',"    \
	"'identity','insert_id','last_insert_id','max_allowed_packet','max_relay_log_size','max_user_connections',"    \
	"'net_buffer_length','pseudo_slave_mode','pseudo_thread_id','query_cache_type','rand_seed1','rand_seed2',"     \
	"'server_id','skip_replication','slave_parallel_mode','sql_slave_skip_counter','timestamp'"
/* LIMIT, since sql_select_limit may be anything at a fresh login. */
#define DEFAULTS_QUERY                                                                                                 \
	"SELECT VARIABLE_NAME,SESSION_VALUE FROM information_schema.SYSTEM_VARIABLES WHERE VARIABLE_SCOPE<>'GLOBAL' "  \
	"AND READ_ONLY='NO' AND LEFT(VARIABLE_NAME,14)<>'session_track_' AND LEFT(VARIABLE_NAME,6)<>'wsrep_' "         \
	"AND VARIABLE_NAME NOT IN (" DEFAULTS_LEFT_OUT ") UNION ALL SELECT 'role',IFNULL(CURRENT_ROLE(),'') "          \
	"LIMIT 100000"

struct default_var {
	char *name, *value; /* the name in lower case */
};
LIST_HEAD(defaults_list, defaults);
struct defaults {
	unsigned refs;
	unsigned n;
	struct default_var *vars;        /* by name, once it is sealed */
	uint8_t digest[DEFAULTS_DIGEST]; /* of all of it: equal sets have equal digests */
	char *fingerprint;               /* made when it is first wanted */
	LIST_ENTRY(defaults) link;       /* of the set that it is one of */
	bool linked;
};

struct defaults *defaults_new(void);               /* empty; counted for the caller */
struct defaults *defaults_ref(struct defaults *d); /* NULL stays NULL */
void defaults_unref(struct defaults **d);          /* nulls it */
/* Adds one row of DEFAULTS_QUERY's answer. Returns 0, or -1 when it cannot be one: no name, or too much. */
int defaults_add(struct defaults *d, struct slice name, struct slice value);
void defaults_seal(struct defaults *d); /* all rows are in */

const char *defaults_get(const struct defaults *d, const char *name); /* NULL: not known. Any case. d may be NULL */
/* Of all of it, for whoever has to tell sessions apart by what they have not set; zeros without d. */
void defaults_digest(const struct defaults *d, uint8_t out[DEFAULTS_DIGEST]);
/* Takes over d, sealed, and returns the one of `set` that is equal, which may be d, counted for the caller: of one set
 * equal ones are the same, and kept once. */
struct defaults *defaults_intern(struct defaults_list *set, struct defaults *d);

/* What a connection has that was brought from `born` to `base`: base, but for what is its server's own business, never
 * an answer's: logging and the binary log, which ordinary users may not set either. Counted for the caller. */
struct defaults *defaults_ground(struct defaults *base, const struct defaults *born);

/* An SQL expression, 32 hex digits long, that is the same as long as these variables (and the role) are. d owns it. */
const char *defaults_fingerprint(struct defaults *d);

/* A variable's name, which goes into SQL as it is. */
bool defaults_is_name(struct slice name);

#endif
