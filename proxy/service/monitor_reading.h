/* SPDX-License-Identifier: Apache-2.0
 *
 * A reading of the dictionary, private to monitor_catalog.c (which begins and ends it) and monitor_calls.c.
 */
#ifndef ST_SERVICE_MONITOR_READING_H
#define ST_SERVICE_MONITOR_READING_H

#include "cluster/call_graph.h"
#include "service/monitor_parts.h"

struct reading {
	struct link *link;
	const struct config *config;
	struct catalog *catalog;
	struct call_graph *calls;
	unsigned timeout_ms;
	bool fold;
};

/* In front of a question whose answer holds expressions: quotes are then as lex.h reads them by default. */
#define READING_PLAIN "SET STATEMENT sql_mode = '' FOR "

/* An answer; NULL when there is none: then the catalog's `why` tells, or the link is lost. */
MYSQL_RES *reading_ask(struct reading *r, const char *sql);
/* Names as freshness_table() will fold them; in place. */
struct slice reading_name(const struct reading *r, char *name);
/* monitor_calls.c: enum sql_text_mode of a list of SQL modes. */
unsigned reading_mode(const char *sql_mode);
/* monitor_calls.c: routines, views, columns and engines. Leaves in the catalog which names are views and which tables
 * stand for others, in the call graph what each does. */
void monitor_read_calls(struct reading *r);

#endif
