/* SPDX-License-Identifier: Apache-2.0
 *
 * What the proxy tells about itself, as SQL tables: built into a private in-memory database when asked, so that any
 * SELECT over them works and sees one moment. Locked down: nothing but reading, bounded in time, rows and memory.
 * One thread at a time for each.
 */
#ifndef ST_SERVICE_TABLES_H
#define ST_SERVICE_TABLES_H

#include "service/ops.h"

struct tables;

struct tables_user { /* who asks, for USER(), DATABASE() and CONNECTION_ID() */
	const char *user, *schema;
	uint32_t connection;
};

struct tables_sink {
	void *arg;
	void (*columns)(void *arg, const char *const *names, unsigned n); /* once, before the rows */
	void (*row)(void *arg, const struct slice *values, unsigned n);   /* p == NULL: NULL */
};

enum { TABLES_ROWS = 10000, TABLES_COLUMNS = 64 };

struct tables *tables_open(const struct admin_ops *ops, const struct tables_user *who);
/* Runs one SELECT (or WITH, VALUES). Returns 0, or -1 with the reason in err; rows may have been given by then. */
int tables_select(struct tables *t, struct slice sql, const struct tables_sink *sink, char *err, size_t cap);
void tables_close(struct tables *t);

#endif
