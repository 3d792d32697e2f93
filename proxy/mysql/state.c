/* SPDX-License-Identifier: Apache-2.0 */
#include "mysql/state.h"

#include <ctype.h>
#include <stdlib.h>
#include <strings.h>

#include "base/mem.h"
#include "base/siphash.h"
#include "mysql/protocol.h"
#include "mysql/reply.h"

/* Reported by session tracking, but not state to carry to another connection: they say what happened, or count for the
 * next statement only (the session is pinned for those), or steer the tracking itself. */
static const char *const not_state[] = {
	"error_count",       "gtid_seq_no",      "identity",   "in_transaction", "insert_id",
	"last_gtid",         "last_insert_id",   "rand_seed1", "rand_seed2",     "skip_replication",
	"pseudo_slave_mode", "pseudo_thread_id", "timestamp",  "warning_count",
};

static bool is_state(struct slice name)
{
	if (!defaults_is_name(name))
		return false;
	if (name.n > 14 && memcmp(name.p, "session_track_", 14) == 0)
		return false;
	for (unsigned i = 0; i < sizeof not_state / sizeof *not_state; i++)
		if (slice_ieq(name, not_state[i]))
			return false;
	return true;
}

/* Clients choose values and schemas, and equal hashes are taken for equal states: under a key that nobody knows. */
static uint64_t var_hash(const char *name, const char *value)
{
	uint64_t parts[] = {siphash(siphash_process_key(), name, strlen(name)),
			    siphash(siphash_process_key(), value, strlen(value))};

	return siphash(siphash_process_key(), parts, sizeof parts);
}

static uint64_t schema_hash(const char *schema)
{
	return schema == NULL ? 0 : var_hash("", schema); /* no variable has that name */
}

void state_clear(struct state *s)
{
	for (unsigned i = 0; i < s->n; i++) {
		free(s->vars[i].name);
		free(s->vars[i].value);
	}
	free(s->vars);
	free(s->schema);
	*s = (struct state){0};
}

void state_copy(struct state *to, const struct state *from)
{
	state_clear(to);
	to->hash = from->hash;
	to->schema = from->schema != NULL ? xstrdup(from->schema) : NULL;
	if (from->n > 0)
		to->vars = xcalloc(from->n, sizeof *to->vars);
	to->n = from->n;
	for (unsigned i = 0; i < from->n; i++) {
		to->vars[i].name = xstrdup(from->vars[i].name);
		to->vars[i].value = xstrdup(from->vars[i].value);
		to->vars[i].family = from->vars[i].family;
	}
}

void state_set_schema(struct state *s, struct slice schema)
{
	s->hash ^= schema_hash(s->schema);
	free(s->schema);
	s->schema = schema.n > 0 ? xstrndup((const char *)schema.p, schema.n) : NULL;
	s->hash ^= schema_hash(s->schema);
}

static struct state_var *find(const struct state *s, const char *name, size_t n)
{
	for (unsigned i = 0; i < s->n; i++)
		if (strncasecmp(s->vars[i].name, name, n) == 0 && s->vars[i].name[n] == '\0')
			return &s->vars[i];
	return NULL;
}

/* --- families ----------------------------------------------------------------------------------------------------- */

/* Variables that change others (facts by experiment on 10.11). `mutual`: each sets all of them, as where one is another
 * name of the other. Else the first sets the others, which can be set by themselves behind it. The first three are what
 * SET NAMES sets, in the order in which they are written. */
static const struct family {
	bool mutual;
	const char *names[3];
} families[] = {
	{false, {"character_set_results", STATE_RESULTS_COLLATION}},
	{true, {"character_set_client"}},
	{true, {"character_set_connection", "collation_connection"}},
	{true, {"character_set_database", "collation_database"}},
	{true, {"character_set_server", "collation_server"}},
	{true, {"default_storage_engine", "storage_engine"}},
	{true, {"alter_algorithm", "old_alter_table"}},
	{true, {"tmp_table_size", "tmp_memory_table_size"}},
	{true, {"tx_isolation", "transaction_isolation"}},
	{true, {"tx_read_only", "transaction_read_only"}},
	{true, {"max_delayed_threads", "max_insert_delayed_threads"}},
	{true, {"long_query_time", "log_slow_query_time"}},
	{true, {"min_examined_row_limit", "log_slow_min_examined_row_limit"}},
	{true, {"slow_query_log", "log_slow_query"}},
	{false, {"max_join_size", "sql_big_selects"}},
	{false, {"old", "old_mode"}},
	{false, {"log_slow_disabled_statements", "log_slow_admin_statements", "log_slow_slave_statements"}},
	{false, {"log_slow_filter", "log_queries_not_using_indexes"}},
	{false, {"wsrep_sync_wait", "wsrep_causal_reads"}},
};
enum { NAMES_SETS = 3 };
enum { FAMILIES = sizeof families / sizeof *families, MEMBERS = sizeof families[0].names / sizeof *families[0].names };

/* The index of a variable's family, or -1. */
static int family_of(const char *name)
{
	for (int f = 0; f < FAMILIES; f++)
		for (unsigned m = 0; m < MEMBERS && families[f].names[m] != NULL; m++)
			if (strcasecmp(families[f].names[m], name) == 0)
				return f;
	return -1;
}

/* Does setting the one variable of a family set the other? */
static bool sets(const struct family *f, const char *one, const char *other)
{
	return strcasecmp(one, other) != 0 && (f->mutual || strcasecmp(one, f->names[0]) == 0);
}

static void drop(struct state *s, const char *name)
{
	struct state_var *v = find(s, name, strlen(name));

	if (v == NULL)
		return;
	s->hash ^= var_hash(v->name, v->value);
	free(v->name);
	free(v->value);
	*v = s->vars[--s->n];
}

/* Has s said what this variable is, by itself or by one that sets it? */
static bool says(const struct state *s, const char *name)
{
	int family = family_of(name);

	for (unsigned i = 0; i < s->n; i++)
		if (strcasecmp(s->vars[i].name, name) == 0 ||
		    (family >= 0 && s->vars[i].family == family && sets(&families[family], s->vars[i].name, name)))
			return true;
	return false;
}

/* --- what is known ------------------------------------------------------------------------------------------------ */

static struct state_var *put(struct state *s, struct slice name, struct slice value)
{
	struct state_var *v = find(s, (const char *)name.p, name.n);

	if (v == NULL) {
		s->vars = xrealloc(s->vars, (s->n + 1) * sizeof *s->vars);
		v = &s->vars[s->n++];
		v->name = xstrndup((const char *)name.p, name.n);
		for (char *p = v->name; *p != '\0'; p++)
			*p = (char)tolower((unsigned char)*p);
		v->family = family_of(v->name);
	} else {
		s->hash ^= var_hash(v->name, v->value);
		free(v->value);
	}
	v->value = xstrndup((const char *)value.p, value.n);
	s->hash ^= var_hash(v->name, v->value);
	return v;
}

bool state_set(struct state *s, struct slice name, struct slice value)
{
	if (!is_state(name))
		return false;
	const struct state_var *v = put(s, name, value);
	if (v->family < 0)
		return true;
	const struct family *f = &families[v->family];
	const char *set = v->name; /* the variable itself stays, but its place may change */
	for (unsigned m = 0; m < MEMBERS && f->names[m] != NULL; m++)
		if (sets(f, set, f->names[m]))
			drop(s, f->names[m]);
	return true;
}

void state_learn(struct state *s, const struct defaults *base, struct slice name, struct slice value)
{
	if (!is_state(name))
		return;
	char *key = xstrndup((const char *)name.p, name.n);
	const char *is = state_get(s, key), *default_is = defaults_get(base, key);
	bool known = is != NULL ? slice_eq(value, slice_str(is))
				: !says(s, key) && default_is != NULL && slice_eq(value, slice_str(default_is));
	free(key);
	if (!known)
		state_set(s, name, value);
}

void state_rebase(struct state *s, const struct defaults *from, const struct defaults *to)
{
	struct state added = {0};

	for (unsigned i = 0; from != NULL && i < from->n; i++) {
		const struct default_var *v = &from->vars[i];
		const char *now = defaults_get(to, v->name);
		if (now != NULL && strcmp(now, v->value) != 0 && !says(s, v->name))
			state_set(&added, slice_str(v->name), slice_str(v->value));
	}
	for (unsigned i = 0; i < added.n; i++)
		put(s, slice_str(added.vars[i].name), slice_str(added.vars[i].value));
	state_clear(&added);
}

const char *state_get(const struct state *s, const char *name)
{
	const struct state_var *v = find(s, name, strlen(name));
	return v != NULL ? v->value : NULL;
}

static bool is_number(const char *v)
{
	const char *p = v + (*v == '-');
	size_t digits = strspn(p, "0123456789");

	p += digits;
	if (*p == '.')
		p += 1 + strspn(p + 1, "0123456789");
	return digits > 0 && *p == '\0';
}

/* Those that are NULL when they are reported as empty. */
static bool empty_is_null(const char *name)
{
	static const char *const names[] = {"character_set_results", "default_tmp_storage_engine",
					    "enforce_storage_engine", "innodb_ft_user_stopword_table", "innodb_tmpdir"};

	for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
		if (strcasecmp(name, names[i]) == 0)
			return true;
	return false;
}

/* Variables are reported as text, but numeric ones may not be set from a string. */
static void put_value(struct buf *b, const char *name, const char *value)
{
	if (*value == '\0' && empty_is_null(name)) {
		buf_put_str(b, "NULL");
	} else if (strcmp(value, "DEFAULT") == 0 && strcasecmp(name, "system_versioning_asof") == 0) {
		buf_put_str(b, value);
	} else if (is_number(value)) {
		buf_put_str(b, value);
	} else if (strpbrk(value, "'\\") != NULL) { /* neither quoting nor escapes, whatever sql_mode is */
		buf_put_str(b, "0x");
		for (const char *p = value; *p != '\0'; p++)
			buf_printf(b, "%02x", (unsigned char)*p);
	} else {
		buf_printf(b, "'%s'", value);
	}
}

/* --- from one state to another ------------------------------------------------------------------------------------ */

/* A SET that is being written. */
struct set {
	struct buf *out;
	size_t start; /* where it begins */
	const struct state *want, *have;
	const struct state_base *base;
	bool names; /* it has SET NAMES, which sets more than what it is for */
};

static bool same(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool is_read_only_flag(const char *name)
{
	return strcasecmp(name, "tx_read_only") == 0 || strcasecmp(name, "transaction_read_only") == 0;
}

/* value NULL: what the session never set. */
static void put_assignment(struct set *s, const char *name, const char *value)
{
	struct buf *b = s->out;
	bool collation = strcmp(name, STATE_RESULTS_COLLATION) == 0;

	if (collation && value == NULL)
		return; /* character_set_results went before it */
	if (value == NULL)
		value = defaults_get(s->base->defaults, name);
	buf_put_str(b, b->len == s->start ? "SET " : ",");
	if (collation) {
		buf_printf(b, "NAMES %s COLLATE %s", state_get(s->want, "character_set_results"), value);
		s->names = true;
		return;
	}
	buf_put_str(b, name);
	buf_put_u8(b, '=');
	if (value == NULL)
		buf_put_str(b, "DEFAULT");
	else
		put_value(b, name, value);
}

/* Where anything differs all of it is written, from the defaults on: the order is the table's, the first one sets the
 * others. */
static void put_family(struct set *s, const struct family *f)
{
	bool was_set = s->names && f < families + NAMES_SETS, differs = was_set, had = was_set, wanted = false;

	for (unsigned m = 0; m < MEMBERS && f->names[m] != NULL; m++) {
		const char *want = state_get(s->want, f->names[m]), *have = state_get(s->have, f->names[m]);
		differs |= !same(want, have);
		had |= have != NULL;
		wanted |= want != NULL;
	}
	if (!differs || (s->base->read_only && is_read_only_flag(f->names[0])))
		return;
	for (unsigned m = 0; m < MEMBERS && f->names[m] != NULL && had && !(wanted && f->mutual); m++)
		if (was_set || defaults_get(s->base->defaults, f->names[m]) != NULL ||
		    state_get(s->have, f->names[m]) != NULL)
			put_assignment(s, f->names[m], NULL);
	for (unsigned m = 0; m < MEMBERS && f->names[m] != NULL; m++) {
		const char *want = state_get(s->want, f->names[m]);
		if (want != NULL)
			put_assignment(s, f->names[m], want);
	}
}

/* One SET, or none. */
static int put_set(const struct state *want, const struct state *have, const struct state_base *base, struct buf *out)
{
	size_t packet = packet_begin(out, 0);

	buf_put_u8(out, COM_QUERY);
	struct set s = {out, out->len, want, have, base, false};
	uint32_t seen = 0; /* families */
	for (unsigned i = 0; i < want->n; i++) {
		const struct state_var *w = &want->vars[i];
		if (w->family >= 0)
			seen |= 1u << w->family;
		else if (strcmp(w->name, "role") != 0 && !same(w->value, state_get(have, w->name)))
			put_assignment(&s, w->name, w->value);
	}
	for (unsigned i = 0; i < have->n; i++) {
		const struct state_var *h = &have->vars[i];
		if (h->family >= 0)
			seen |= 1u << h->family;
		else if (strcmp(h->name, "role") != 0 && state_get(want, h->name) == NULL)
			put_assignment(&s, h->name, NULL);
	}
	for (unsigned f = 0; f < FAMILIES; f++)
		if ((seen >> f & 1) || (s.names && f < NAMES_SETS))
			put_family(&s, &families[f]);
	if (out->len == s.start) {
		out->len = packet;
		return 0;
	}
	packet_end(out, packet);
	return 1;
}

void state_put_role(const char *role, struct buf *out)
{
	size_t packet = packet_begin(out, 0);

	buf_put_u8(out, COM_QUERY);
	buf_put_str(out, "SET ROLE ");
	if (role == NULL || *role == '\0') {
		buf_put_str(out, "NONE");
	} else {
		buf_put_u8(out, '`');
		for (; *role != '\0'; role++) {
			if (*role == '`')
				buf_put_u8(out, '`');
			buf_put_u8(out, (unsigned char)*role);
		}
		buf_put_u8(out, '`');
	}
	packet_end(out, packet);
}

/* A role may give the right to set variables: one that is wanted comes before them, one that goes, goes after them. */
int state_diff_variables(const struct state *want, const struct state *have, const struct state_base *base,
			 struct buf *out)
{
	const char *role = state_get(want, "role");
	bool differs = !same(role, state_get(have, "role"));
	int commands = differs;

	if (differs && role != NULL)
		state_put_role(role, out);
	commands += put_set(want, have, base, out);
	if (differs && role == NULL)
		state_put_role(defaults_get(base->defaults, "role"), out);
	return commands;
}

int state_diff(const struct state *want, const struct state *have, const struct state_base *base, struct buf *out)
{
	if (want->hash == have->hash)
		return 0;
	if (want->schema == NULL && have->schema != NULL)
		return -1;
	int commands = state_diff_variables(want, have, base, out);
	if (!same(want->schema, have->schema)) {
		size_t packet = packet_begin(out, 0);
		buf_put_u8(out, COM_INIT_DB);
		buf_put_str(out, want->schema);
		packet_end(out, packet);
		commands++;
	}
	return commands;
}
