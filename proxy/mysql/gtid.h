/* SPDX-License-Identifier: Apache-2.0
 *
 * MariaDB global transaction ids (https://mariadb.com/kb/en/gtid/): `domain-server-sequence`, and positions, which are
 * lists with one id a domain. A position covers an id when it has the id's domain at that sequence or a later one:
 * within a domain the primary's binlog has one order, so the server id does not count. Pure.
 */
#ifndef ST_MYSQL_GTID_H
#define ST_MYSQL_GTID_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

enum { GTID_DOMAINS = 8, GTID_TEXT = 48 };

struct gtid { /* all zero: none */
	uint32_t domain, server;
	uint64_t seq;
};
static inline bool gtid_none(struct gtid g)
{
	return g.seq == 0;
}
/* Parses exactly one id. Returns 0, or -1 when the text is anything else. */
int gtid_parse(struct slice text, struct gtid *out);
/* Writes at most GTID_TEXT bytes with NUL; "" for none. Returns buf. */
char *gtid_print(struct gtid g, char buf[GTID_TEXT]);

struct gtid_pos {
	unsigned n;
	bool overflow; /* more than GTID_DOMAINS domains were seen: nothing is covered any more */
	struct gtid id[GTID_DOMAINS];
};
int gtid_pos_parse(struct slice text, struct gtid_pos *out); /* "0-1-5,1-2-7" or ""; 0 or -1 */
void gtid_pos_add(struct gtid_pos *pos, struct gtid g);      /* raises g's domain to g.seq, never lowers */
bool gtid_pos_covers(const struct gtid_pos *pos, struct gtid g); /* true for none */
bool gtid_pos_covers_pos(const struct gtid_pos *pos, const struct gtid_pos *other);
/* Writes the comma list into buf (cap bytes, NUL included); returns its length, truncated at a whole id. */
size_t gtid_pos_print(const struct gtid_pos *pos, char *buf, size_t cap);

/* A position that one thread raises and all threads read without a lock. Domains are appended, never removed;
 * sequences only rise (gtid_live_reset for a server that was rebuilt: readers may see either state in between). */
struct gtid_live {
	atomic_uint n;
	struct {
		uint32_t domain;
		_Atomic uint64_t seq;
	} at[GTID_DOMAINS];
};
void gtid_live_raise(struct gtid_live *live, const struct gtid_pos *pos); /* one writer at a time */
void gtid_live_reset(struct gtid_live *live);
static inline bool gtid_live_covers(const struct gtid_live *live, uint32_t domain, uint64_t seq)
{
	unsigned n = atomic_load_explicit(&live->n, memory_order_acquire);
	for (unsigned i = 0; i < n; i++)
		if (live->at[i].domain == domain)
			return atomic_load_explicit(&live->at[i].seq, memory_order_acquire) >= seq;
	return false;
}

#endif
