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

/* Names go into SQL as they are. */
static bool is_name(struct slice name)
{
	for (size_t i = 0; i < name.n; i++)
		if (!isalnum(name.p[i]) && name.p[i] != '_' && name.p[i] != '.')
			return false;
	return name.n > 0;
}

static bool is_state(struct slice name)
{
	if (!is_name(name))
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

bool state_set(struct state *s, struct slice name, struct slice value)
{
	if (!is_state(name))
		return false;
	struct state_var *v = find(s, (const char *)name.p, name.n);
	if (v == NULL) {
		s->vars = xrealloc(s->vars, (s->n + 1) * sizeof *s->vars);
		v = &s->vars[s->n++];
		v->name = xstrndup((const char *)name.p, name.n);
	} else {
		s->hash ^= var_hash(v->name, v->value);
		free(v->value);
	}
	v->value = xstrndup((const char *)value.p, value.n);
	s->hash ^= var_hash(v->name, v->value);
	/* A new connection character set brings its own default collation; one that was set before is gone. */
	struct state_var *collation = NULL;
	if (slice_ieq(name, "character_set_connection"))
		collation = find(s, "collation_connection", strlen("collation_connection"));
	if (collation != NULL) {
		s->hash ^= var_hash(collation->name, collation->value);
		free(collation->name);
		free(collation->value);
		*collation = s->vars[--s->n];
	}
	return true;
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

/* Variables are reported as text, but numeric ones may not be set from a string. */
static void put_value(struct buf *b, const char *name, const char *value)
{
	if (*value == '\0' && strcasecmp(name, "character_set_results") == 0) {
		buf_put_str(b, "NULL");
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

static void put_assignment(struct buf *b, size_t start, const char *name, const char *value)
{
	buf_put_str(b, b->len == start ? "SET " : ",");
	buf_put_str(b, name);
	buf_put_u8(b, '=');
	if (value == NULL)
		buf_put_str(b, "DEFAULT");
	else
		put_value(b, name, value);
}

static bool same(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* These two go together: setting the set takes its default collation. */
static bool is_connection_charset(const char *name)
{
	return strcasecmp(name, "character_set_connection") == 0 || strcasecmp(name, "collation_connection") == 0;
}

static void put_connection_charset(const struct state *want, const struct state *have, const struct state_login *login,
				   struct buf *out, size_t start)
{
	const char *set = state_get(want, "character_set_connection");
	const char *collation = state_get(want, "collation_connection");

	if (same(set, state_get(have, "character_set_connection")) &&
	    same(collation, state_get(have, "collation_connection")))
		return;
	put_assignment(out, start, "character_set_connection", set != NULL ? set : login->connection);
	if (collation != NULL)
		put_assignment(out, start, "collation_connection", collation);
	else if (set == NULL)
		put_assignment(out, start, "collation_connection", login->collation);
}

/* What a variable goes back to that the session never set. */
static const char *login_value(const struct state_login *login, const char *name)
{
	if (strcasecmp(name, "character_set_client") == 0)
		return login->client;
	if (strcasecmp(name, "character_set_results") == 0)
		return login->results;
	return NULL;
}

static void put_variables(const struct state *want, const struct state *have, const struct state_login *login,
			  struct buf *out, size_t start)
{
	for (unsigned i = 0; i < want->n; i++) {
		const struct state_var *w = &want->vars[i];
		if (!is_connection_charset(w->name) && !same(w->value, state_get(have, w->name)))
			put_assignment(out, start, w->name, w->value);
	}
	for (unsigned i = 0; i < have->n; i++) {
		const struct state_var *h = &have->vars[i];
		if (!is_connection_charset(h->name) && state_get(want, h->name) == NULL)
			put_assignment(out, start, h->name, login_value(login, h->name));
	}
	put_connection_charset(want, have, login, out, start);
}

int state_diff_variables(const struct state *want, const struct state *have, const struct state_login *login,
			 struct buf *out)
{
	size_t packet = packet_begin(out, 0);

	buf_put_u8(out, COM_QUERY);
	size_t start = out->len;
	put_variables(want, have, login, out, start);
	if (out->len == start) {
		out->len = packet;
		return 0;
	}
	packet_end(out, packet);
	return 1;
}

int state_diff(const struct state *want, const struct state *have, const struct state_login *login, struct buf *out)
{
	if (want->hash == have->hash)
		return 0;
	if (want->schema == NULL && have->schema != NULL)
		return -1;
	int commands = state_diff_variables(want, have, login, out);
	if (!same(want->schema, have->schema)) {
		size_t packet = packet_begin(out, 0);
		buf_put_u8(out, COM_INIT_DB);
		buf_put_str(out, want->schema);
		packet_end(out, packet);
		commands++;
	}
	return commands;
}
