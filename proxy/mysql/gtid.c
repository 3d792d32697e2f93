/* SPDX-License-Identifier: Apache-2.0 */
#include "mysql/gtid.h"

#include <inttypes.h>
#include <stdio.h>

/* Takes a decimal number of at most `max` from the front of *s. Returns 0 or -1. */
static int take_number(struct slice *s, uint64_t max, uint64_t *out)
{
	uint64_t v = 0;
	size_t i = 0;

	for (; i < s->n && s->p[i] >= '0' && s->p[i] <= '9'; i++) {
		unsigned digit = s->p[i] - '0';
		if (v > (max - digit) / 10)
			return -1;
		v = v * 10 + digit;
	}
	if (i == 0)
		return -1;
	*s = slice_of(s->p + i, s->n - i);
	*out = v;
	return 0;
}

static int take_char(struct slice *s, char c)
{
	if (s->n == 0 || s->p[0] != (uint8_t)c)
		return -1;
	*s = slice_of(s->p + 1, s->n - 1);
	return 0;
}

static int take_gtid(struct slice *s, struct gtid *out)
{
	uint64_t domain, server, seq;

	if (take_number(s, UINT32_MAX, &domain) != 0 || take_char(s, '-') != 0 ||
	    take_number(s, UINT32_MAX, &server) != 0 || take_char(s, '-') != 0 || take_number(s, UINT64_MAX, &seq) != 0)
		return -1;
	*out = (struct gtid){(uint32_t)domain, (uint32_t)server, seq};
	return 0;
}

int gtid_parse(struct slice text, struct gtid *out)
{
	struct gtid g;

	if (take_gtid(&text, &g) != 0 || text.n != 0)
		return -1;
	*out = g;
	return 0;
}

char *gtid_print(struct gtid g, char buf[GTID_TEXT])
{
	buf[0] = 0;
	if (!gtid_none(g))
		snprintf(buf, GTID_TEXT, "%" PRIu32 "-%" PRIu32 "-%" PRIu64, g.domain, g.server, g.seq);
	return buf;
}

int gtid_pos_parse(struct slice text, struct gtid_pos *out)
{
	struct gtid_pos pos = {0};
	struct gtid g;

	while (text.n != 0) {
		if (take_gtid(&text, &g) != 0)
			return -1;
		gtid_pos_add(&pos, g);
		if (text.n != 0 && (take_char(&text, ',') != 0 || text.n == 0))
			return -1;
	}
	*out = pos;
	return 0;
}

void gtid_pos_add(struct gtid_pos *pos, struct gtid g)
{
	if (gtid_none(g))
		return;
	for (unsigned i = 0; i < pos->n; i++) {
		if (pos->id[i].domain == g.domain) {
			if (pos->id[i].seq < g.seq)
				pos->id[i] = g;
			return;
		}
	}
	if (pos->n == GTID_DOMAINS)
		pos->overflow = true;
	else
		pos->id[pos->n++] = g;
}

bool gtid_pos_covers(const struct gtid_pos *pos, struct gtid g)
{
	if (gtid_none(g))
		return true;
	for (unsigned i = 0; i < pos->n && !pos->overflow; i++)
		if (pos->id[i].domain == g.domain)
			return pos->id[i].seq >= g.seq;
	return false;
}

bool gtid_pos_covers_pos(const struct gtid_pos *pos, const struct gtid_pos *other)
{
	if (pos->overflow || other->overflow)
		return false;
	for (unsigned i = 0; i < other->n; i++)
		if (!gtid_pos_covers(pos, other->id[i]))
			return false;
	return true;
}

size_t gtid_pos_print(const struct gtid_pos *pos, char *buf, size_t cap)
{
	size_t len = 0;
	char id[GTID_TEXT];

	if (cap != 0)
		buf[0] = 0;
	for (unsigned i = 0; i < pos->n; i++) {
		size_t n = strlen(gtid_print(pos->id[i], id)), comma = len != 0;
		if (n == 0)
			continue;
		if (len + comma + n >= cap)
			break;
		if (comma)
			buf[len++] = ',';
		memcpy(buf + len, id, n + 1);
		len += n;
	}
	return len;
}

/* A domain past the last place is left out: nothing in it is covered, which sends its reads to the primary. */
void gtid_live_raise(struct gtid_live *live, const struct gtid_pos *pos)
{
	unsigned n = atomic_load_explicit(&live->n, memory_order_relaxed);

	for (unsigned i = 0; i < pos->n; i++) {
		unsigned at = 0;
		while (at < n && live->at[at].domain != pos->id[i].domain)
			at++;
		if (at == n) {
			if (n == GTID_DOMAINS)
				continue;
			live->at[at].domain = pos->id[i].domain;
			atomic_store_explicit(&live->at[at].seq, pos->id[i].seq, memory_order_relaxed);
			atomic_store_explicit(&live->n, ++n, memory_order_release);
		} else if (atomic_load_explicit(&live->at[at].seq, memory_order_relaxed) < pos->id[i].seq) {
			atomic_store_explicit(&live->at[at].seq, pos->id[i].seq, memory_order_release);
		}
	}
}

/* Domains keep their places, so that a reader never pairs one domain's number with another's sequence. */
void gtid_live_reset(struct gtid_live *live)
{
	unsigned n = atomic_load_explicit(&live->n, memory_order_relaxed);

	for (unsigned i = 0; i < n; i++)
		atomic_store_explicit(&live->at[i].seq, 0, memory_order_release);
}
