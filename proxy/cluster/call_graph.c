/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/call_graph.h"

#include <stdlib.h>

#include "base/mem.h"
#include "cluster/freshness.h"
#include "sql/body.h"

enum kind { FUNCTION, PROCEDURE, READ, WRITE, PACKAGE, LOADABLE };

/* The number of a node that stands for nothing. */
enum { NOBODY = -1 };

struct node {
	uint64_t key;
	enum kind kind;
	char *db, *name;
	unsigned effects;
};

struct edge { /* `from` does what `to` does */
	unsigned from;
	bool must_exist; /* what is not there may do anything */
	uint64_t to;     /* key */
	int at;          /* its node's number, or NOBODY */
};

struct call_graph {
	bool fold;
	bool foreign_tables; /* a table has a name beyond ASCII: then any such name may be it */
	struct node *nodes;
	unsigned nnodes, cap_nodes;
	struct edge *edges;
	size_t nedges, cap_edges;
	int *slots; /* open addressing over keys: numbers of nodes, or NOBODY */
	unsigned nslots;
	/* while a text is read */
	unsigned node;
	struct slice schema;
};

struct call_graph *call_graph_new(bool fold)
{
	struct call_graph *g = xcalloc(1, sizeof *g);

	g->fold = fold;
	return g;
}

void call_graph_free(struct call_graph *g)
{
	for (unsigned i = 0; i < g->nnodes; i++) {
		free(g->nodes[i].db);
		free(g->nodes[i].name);
	}
	free(g->nodes);
	free(g->edges);
	free(g->slots);
	free(g);
}

/* --- Nodes -------------------------------------------------------------------------------------------------------- */

/* Names of routines never tell case apart, those of tables and schemas do as the server does. */
static uint64_t key_of(const struct call_graph *g, enum kind kind, struct slice db, struct slice name)
{
	uint64_t salt = UINT64_C(0x9e3779b97f4a7c15) * (kind + 1);

	if (kind == READ || kind == WRITE)
		return freshness_table(db, name, g->fold) ^ salt;
	return freshness_table(slice_str(""), name, true) * UINT64_C(0xc2b2ae3d27d4eb4f) ^
	       freshness_table(db, slice_str(""), g->fold) ^ salt;
}

static int *slot_of(const struct call_graph *g, uint64_t key)
{
	unsigned i = (unsigned)key & (g->nslots - 1);

	while (g->slots[i] != NOBODY && g->nodes[g->slots[i]].key != key)
		i = (i + 1) & (g->nslots - 1);
	return &g->slots[i];
}

static void grow_slots(struct call_graph *g)
{
	g->nslots = g->nslots == 0 ? 256 : 2 * g->nslots;
	g->slots = xrealloc(g->slots, g->nslots * sizeof *g->slots);
	for (unsigned i = 0; i < g->nslots; i++)
		g->slots[i] = NOBODY;
	for (unsigned i = 0; i < g->nnodes; i++)
		*slot_of(g, g->nodes[i].key) = (int)i;
}

static bool beyond_ascii(struct slice name)
{
	for (size_t i = 0; i < name.n; i++)
		if (name.p[i] >= 0x80)
			return true;
	return false;
}

static unsigned node_of(struct call_graph *g, enum kind kind, struct slice db, struct slice name)
{
	uint64_t key = key_of(g, kind, db, name);

	if (2 * g->nnodes >= g->nslots)
		grow_slots(g);
	int *slot = slot_of(g, key);
	if (*slot != NOBODY)
		return (unsigned)*slot;
	if (g->nnodes == g->cap_nodes) {
		g->cap_nodes = g->cap_nodes == 0 ? 64 : 2 * g->cap_nodes;
		g->nodes = xrealloc(g->nodes, g->cap_nodes * sizeof *g->nodes);
	}
	g->nodes[g->nnodes] = (struct node){.key = key, .kind = kind,
					    .db = xstrndup((const char *)db.p, db.n),
					    .name = xstrndup((const char *)name.p, name.n)};
	g->foreign_tables |= (kind == READ || kind == WRITE) && (beyond_ascii(db) || beyond_ascii(name));
	return (unsigned)(*slot = (int)g->nnodes++);
}

static void add_edge(struct call_graph *g, unsigned from, uint64_t to, bool must_exist)
{
	if (g->nedges == g->cap_edges) {
		g->cap_edges = g->cap_edges == 0 ? 256 : 2 * g->cap_edges;
		g->edges = xrealloc(g->edges, g->cap_edges * sizeof *g->edges);
	}
	g->edges[g->nedges++] = (struct edge){.from = from, .must_exist = must_exist, .to = to};
}

/* --- Texts -------------------------------------------------------------------------------------------------------- */

/* The edge of a name that cannot be compared. */
enum { FOREIGN = 0 };

static void on_use(void *arg, enum body_use use, struct slice db, struct slice name)
{
	struct call_graph *g = arg;
	struct slice schema = db.n > 0 ? db : g->schema;

	switch (use) {
	case BODY_FUNCTION:
	case BODY_MAYBE:
		add_edge(g, g->node, key_of(g, FUNCTION, schema, name), use == BODY_FUNCTION);
		break;
	case BODY_PROCEDURE:
		add_edge(g, g->node, key_of(g, PROCEDURE, schema, name), true);
		break;
	case BODY_NAME:
		if (beyond_ascii(schema) || beyond_ascii(name))
			add_edge(g, g->node, FOREIGN, false);
		else
			add_edge(g, g->node, key_of(g, READ, schema, name), false);
		break;
	}
}

/* What a text that writes names may be written, too. */
static void add_writes(struct call_graph *g, size_t first, size_t end)
{
	uint64_t salt = UINT64_C(0x9e3779b97f4a7c15) * (READ + 1) ^ UINT64_C(0x9e3779b97f4a7c15) * (WRITE + 1);

	for (size_t i = first; i < end; i++)
		if (!g->edges[i].must_exist && g->edges[i].to != FOREIGN)
			add_edge(g, g->edges[i].from, g->edges[i].to ^ salt, false);
}

/* `writes`: also when the text itself does not, as that of a view which is written. */
static void read_text(struct call_graph *g, unsigned node, const struct call_text *t, bool writes)
{
	struct body b = {.text = t->text, .params = t->params, .mode = t->mode, .use = on_use, .arg = g};
	size_t first = g->nedges;

	g->node = node;
	g->schema = t->schema;
	unsigned effects = body_effects(&b);
	g->nodes[node].effects |= effects;
	if (writes || (effects & EFFECT_WRITES))
		add_writes(g, first, g->nedges);
}

void call_graph_routine(struct call_graph *g, struct slice db, struct slice name, bool function,
			const struct call_text *text)
{
	read_text(g, node_of(g, function ? FUNCTION : PROCEDURE, db, name), text, false);
}

void call_graph_view(struct call_graph *g, struct slice db, struct slice name, const struct call_text *text)
{
	unsigned read = node_of(g, READ, db, name), write = node_of(g, WRITE, db, name);

	if (text == NULL) {
		g->nodes[read].effects = g->nodes[write].effects = EFFECT_ALL;
		return;
	}
	read_text(g, read, text, false);
	read_text(g, write, text, true);
}

bool call_graph_has_view(struct call_graph *g, struct slice db, struct slice name)
{
	return g->nslots > 0 && *slot_of(g, key_of(g, READ, db, name)) != NOBODY;
}

void call_graph_column(struct call_graph *g, struct slice db, struct slice table, bool read,
		       const struct call_text *text)
{
	if (read)
		read_text(g, node_of(g, READ, db, table), text, false);
	read_text(g, node_of(g, WRITE, db, table), text, false);
}

void call_graph_trigger(struct call_graph *g, struct slice db, struct slice table, const struct call_text *text)
{
	read_text(g, node_of(g, WRITE, db, table), text, false);
}

void call_graph_table(struct call_graph *g, struct slice db, struct slice table, unsigned read, unsigned write)
{
	unsigned reads = node_of(g, READ, db, table), writes = node_of(g, WRITE, db, table);

	g->nodes[reads].effects |= read;
	g->nodes[writes].effects |= write;
}

void call_graph_package(struct call_graph *g, struct slice db, struct slice name)
{
	node_of(g, PACKAGE, db, name);
}

void call_graph_loadable(struct call_graph *g, struct slice name)
{
	node_of(g, LOADABLE, slice_str(""), name);
}

/* --- The end ------------------------------------------------------------------------------------------------------ */

/* A stored function that a loadable one hides, or whose schema may as well be a package's name. */
static void spoil_doubtful(struct call_graph *g)
{
	for (unsigned i = 0; i < g->nnodes; i++) {
		const struct node *by = &g->nodes[i];
		if (by->kind != PACKAGE && by->kind != LOADABLE)
			continue;
		for (unsigned k = 0; k < g->nnodes; k++) {
			struct node *n = &g->nodes[k];
			if (n->kind == FUNCTION && by->kind == LOADABLE && strcasecmp(n->name, by->name) == 0)
				n->effects = EFFECT_ALL;
			if ((n->kind == FUNCTION || n->kind == PROCEDURE) && by->kind == PACKAGE &&
			    strcasecmp(n->db, by->name) == 0)
				n->effects = EFFECT_ALL;
		}
	}
}

static void resolve(struct call_graph *g)
{
	for (size_t i = 0; i < g->nedges; i++) {
		struct edge *e = &g->edges[i];
		e->at = e->to != FOREIGN && g->nslots > 0 ? *slot_of(g, e->to) : NOBODY;
		if ((e->at == NOBODY && e->must_exist) || (e->to == FOREIGN && g->foreign_tables))
			g->nodes[e->from].effects = EFFECT_ALL;
	}
}

static void spread(struct call_graph *g)
{
	bool changed = true;

	while (changed) { /* bits only come: it ends, whatever calls itself */
		changed = false;
		for (size_t i = 0; i < g->nedges; i++) {
			const struct edge *e = &g->edges[i];
			struct node *from = &g->nodes[e->from];
			unsigned more = e->at != NOBODY ? g->nodes[e->at].effects & ~from->effects : 0;
			from->effects |= more;
			changed |= more != 0;
		}
	}
}

void call_graph_publish(struct call_graph *g, struct catalog *c)
{
	spoil_doubtful(g);
	resolve(g);
	spread(g);
	for (unsigned i = 0; i < g->nnodes; i++) {
		const struct node *n = &g->nodes[i];
		struct slice db = slice_str(n->db), name = slice_str(n->name);
		switch (n->kind) {
		case FUNCTION:
		case PROCEDURE:
			catalog_add_routine(c, db, name, n->kind == FUNCTION, n->effects);
			break;
		case READ:
			catalog_add_effects(c, db, name, n->effects, 0);
			break;
		case WRITE:
			catalog_add_effects(c, db, name, 0, n->effects);
			break;
		default:
			break;
		}
	}
}
