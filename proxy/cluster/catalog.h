/* SPDX-License-Identifier: Apache-2.0
 *
 * What the primary's dictionary says about objects behind names: an immutable, counted snapshot read in the background
 * by the monitor account, so that routing knows which writes have effects that their text does not show (triggers,
 * cascades), which names are views, what routines, views and tables do besides, and how cached columns compare.
 */
#ifndef ST_CLUSTER_CATALOG_H
#define ST_CLUSTER_CATALOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/slice.h"
#include "sql/classify.h"
#include "sql/effect.h"

enum column_compare { /* how the server compares the cached key column */
	COMPARE_UNKNOWN,  /* not cacheable: unknown type, or a collation that is not understood */
	COMPARE_BINARY,   /* VARBINARY/BLOB, or a _bin / NOPAD_bin collation without padding: bytes as they are */
	COMPARE_BIN_PAD,  /* _bin collations: bytes, trailing spaces do not count */
	/* Of the next two only printable ASCII keys may be compared (A-Z fold): accents and control characters equal
	 * others in ways that differ by collation. */
	COMPARE_NOCASE,   /* case-insensitive collations, PAD SPACE */
	COMPARE_NOCASE_NOPAD,
	COMPARE_INTEGER
};
enum expires_type {
	EXPIRES_NONE,
	EXPIRES_DATETIME,
	EXPIRES_EPOCH,
	EXPIRES_UNKNOWN
}; /* DATETIME/TIMESTAMP/DATE; integer seconds */

struct catalog_rule { /* same index as config rules */
	bool found;              /* table and key column exist, and it is a base table */
	enum column_compare compare;
	enum expires_type expires;
	int key_ordinal, columns; /* what an INSERT without a column list means: places from 0, visible columns only */
	bool sole_unique;         /* the table's only unique index is over exactly the key column */
	bool hidden_writes; /* triggers or foreign keys with actions can change rows without the text naming them */
	unsigned key_bytes;      /* a longer key cannot be in the table; COMPARE_INTEGER: the column's width */
	char why[128];           /* why it is not cacheable; "" when it is */
};

struct catalog {
	atomic_uint refs;
	uint64_t generation;
	bool complete; /* false until everything could be read: then all writes may touch every table, every name may
			* be a view, and everything has all effects. `why` says what is missing. */
	bool fold;     /* names of tables are folded to lower case: lower_case_table_names */
	char why[160];
	char unseen[160];   /* views that have all effects because their text may not be seen, for people; "": none */
	void *names;        /* private to catalog.c */
	struct catalog_rule rules[CONFIG_RULES];
};
struct catalog *catalog_ref(struct catalog *c);
void catalog_unref(struct catalog *c);

/* `table` is freshness_table()'s hash. Any thread; no locks. */
bool catalog_is_view(const struct catalog *c, uint64_t table);
bool catalog_spreads(const struct catalog *c, uint64_t table); /* a write to it (views: too) changes other tables */

/* Effects: a union of enum effect (sql/effect.h), of all that is called too. EFFECT_ALL when c is NULL or incomplete,
 * and for a routine that is not known. Names are the dictionary's: utf8, quotes undone; db may not be empty, the caller
 * fills in the session's schema. */
unsigned catalog_routine(const struct catalog *c, struct slice db, struct slice name, bool function);
/* False only when there is no such routine. */
bool catalog_may_have_routine(const struct catalog *c, struct slice db, struct slice name, bool function);
/* To read a table or view: bodies of views, generated columns, where the rows are. 0 for a plain table, and for a name
 * that is no table's. */
unsigned catalog_read(const struct catalog *c, uint64_t table);
/* To write it, besides its own rows: triggers, defaults, generated columns, what stands behind a view. */
unsigned catalog_write(const struct catalog *c, uint64_t table);
/* The same for names as a statement has them, in any character set: a union over all tables when the name cannot be
 * compared with the dictionary's; name empty: any tables of this server. schema is the session's, used where t->db is
 * empty. */
unsigned catalog_read_name(const struct catalog *c, struct slice schema, const struct sql_name *t);
unsigned catalog_write_name(const struct catalog *c, struct slice schema, const struct sql_name *t);

/* Building, by the monitor. */
struct catalog *catalog_new(uint64_t generation);
void catalog_add_view(struct catalog *c, struct slice db, struct slice name);
void catalog_add_spreading(struct catalog *c, struct slice db, struct slice name);
void catalog_add_routine(struct catalog *c, struct slice db, struct slice name, bool function, unsigned effects);
/* Adds to what is known of the table; names as stored, folded when c->fold. */
void catalog_add_effects(struct catalog *c, struct slice db, struct slice name, unsigned read, unsigned write);
/* The same contents, whatever the generations. */
bool catalog_equal(const struct catalog *a, const struct catalog *b);

#endif
