/* SPDX-License-Identifier: Apache-2.0
 *
 * Who is the primary. A server that replicates while it is writable is a replica that somebody forgot to protect, or
 * one of a ring: to take it for the primary while the real one restarts would split the data, so it is taken only when
 * every server is up and no other is writable. An outside tool that promotes a server stops its replication.
 */
#include <string.h>

#include "service/monitor_parts.h"

enum strength { NOT_PRIMARY, MAYBE_PRIMARY, CLEARLY_PRIMARY };

static enum strength strength_of(const struct watch *w)
{
	if (w == NULL || !w->up || w->config.role == CONFIG_ROLE_REPLICA)
		return NOT_PRIMARY;
	if (w->config.role == CONFIG_ROLE_PRIMARY)
		return w->seen.read_only ? MAYBE_PRIMARY : CLEARLY_PRIMARY;
	if (w->seen.read_only)
		return NOT_PRIMARY;
	return w->seen.io_running || w->seen.sql_running ? MAYBE_PRIMARY : CLEARLY_PRIMARY;
}

struct watch *monitor_elect(struct watch *const *watches, unsigned n, struct watch *current, unsigned *writable)
{
	struct watch *clearly = NULL, *maybe = NULL;
	bool all_up = true;

	*writable = 0;
	for (unsigned i = n; i-- > 0;) {
		struct watch *w = watches[i];
		all_up &= w->up;
		if (strength_of(w) == CLEARLY_PRIMARY) {
			clearly = w;
			++*writable;
		} else if (strength_of(w) == MAYBE_PRIMARY) {
			maybe = w;
		}
	}
	if (strength_of(current) == CLEARLY_PRIMARY)
		return current;
	if (clearly != NULL)
		return clearly;
	if (strength_of(current) == MAYBE_PRIMARY)
		return current;
	if (maybe != NULL && (maybe->config.role == CONFIG_ROLE_PRIMARY || (current == NULL && all_up)))
		return maybe;
	return NULL;
}

enum server_role monitor_role(const struct watch *w, const struct watch *primary)
{
	if (w == primary)
		return ROLE_PRIMARY;
	if (w->seen.foreign) /* whatever its positions say: two groups may well number alike */
		return ROLE_UNKNOWN;
	if (w->config.role == CONFIG_ROLE_REPLICA)
		return ROLE_REPLICA;
	if (!w->seen_once)
		return w->config.role == CONFIG_ROLE_PRIMARY ? ROLE_PRIMARY : ROLE_UNKNOWN;
	return w->seen.replicates || w->seen.read_only ? ROLE_REPLICA : ROLE_UNKNOWN;
}

void known_add(struct known *k, const char *text)
{
	while (*text != 0 && k->n < KNOWN) {
		size_t n = strcspn(text, ",");
		if (gtid_parse(slice_of(text, n), &k->id[k->n]) == 0)
			k->n++;
		text += n + (text[n] == ',');
	}
}

static bool known_has(const struct known *k, struct gtid g)
{
	for (unsigned i = 0; i < k->n; i++)
		if (k->id[i].domain == g.domain && k->id[i].server == g.server && k->id[i].seq >= g.seq)
			return true;
	return false;
}

void known_filter(const struct known *k, uint32_t primary_id, const struct gtid_pos *pos, struct gtid_pos *out)
{
	out->overflow |= pos->overflow;
	for (unsigned i = 0; i < pos->n; i++)
		if (pos->id[i].server == primary_id || known_has(k, pos->id[i]))
			gtid_pos_add(out, pos->id[i]);
}

void own_tail(const struct observation *seen, struct gtid_pos *out)
{
	for (unsigned i = 0; i < seen->binlog.n; i++)
		if (seen->binlog.id[i].server == seen->server_id)
			gtid_pos_add(out, seen->binlog.id[i]);
}
