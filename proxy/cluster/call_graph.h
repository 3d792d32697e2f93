/* SPDX-License-Identifier: Apache-2.0
 *
 * From the texts of routines, views, triggers and columns to what each does, all that it calls included: objects and
 * the names that they use are put in, in any order; then effects are spread along the uses until nothing changes.
 * Names are the dictionary's, those of schemas and tables folded when `fold`. Used by one thread.
 */
#ifndef ST_CLUSTER_CALL_GRAPH_H
#define ST_CLUSTER_CALL_GRAPH_H

#include <stdbool.h>

#include "base/slice.h"
#include "cluster/catalog.h"

struct call_graph;

struct call_graph *call_graph_new(bool fold);
void call_graph_free(struct call_graph *g);

struct call_text { /* borrowed for the call */
	struct slice schema; /* of its unqualified names */
	struct slice params; /* of a routine */
	struct slice text;
	unsigned mode;       /* enum sql_text_mode */
};

void call_graph_routine(struct call_graph *g, struct slice db, struct slice name, bool function,
			const struct call_text *text);
/* What has all effects: its routines cannot be told from those of a schema with its name. */
void call_graph_package(struct call_graph *g, struct slice db, struct slice name);
/* A loadable function: it has all effects, and hides stored functions of its name. */
void call_graph_loadable(struct call_graph *g, struct slice name);
/* text is NULL when it could not be seen: all effects. */
void call_graph_view(struct call_graph *g, struct slice db, struct slice name, const struct call_text *text);
bool call_graph_has_view(struct call_graph *g, struct slice db, struct slice name); /* a view or table of that name */
/* An expression of a table: it is evaluated when a row is written, and when `read` also when one is read. */
void call_graph_column(struct call_graph *g, struct slice db, struct slice table, bool read,
		       const struct call_text *text);
void call_graph_trigger(struct call_graph *g, struct slice db, struct slice table, const struct call_text *text);
/* What is known otherwise of a table. */
void call_graph_table(struct call_graph *g, struct slice db, struct slice table, unsigned read, unsigned write);

/* Ends it: puts everything into the catalog. */
void call_graph_publish(struct call_graph *g, struct catalog *c);

#endif
