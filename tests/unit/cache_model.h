/* SPDX-License-Identifier: Apache-2.0
 *
 * The promise of the cache as a model, for either store: clients read and write a few rows, each doing one small step
 * at a time in random order, over a primary and replicas that lag. Whatever the order, no read gives a version older
 * than the last one whose write was acknowledged before the read began.
 *
 * A replica shows any state that a replica may have which was proved fresh (what was committed MODEL_LAG ago is
 * applied) and which covers the fence that the cache's answer told.
 */
#ifndef ST_TESTS_CACHE_MODEL_H
#define ST_TESTS_CACHE_MODEL_H

#include <stdio.h>
#include <stdlib.h>

#include "cache/store.h"

enum { MODEL_LAG = 20, MODEL_CLIENTS = 24, MODEL_LOG = 4096, MODEL_ROWS = 3 };

struct model;
struct model_store {
	enum store_found (*look)(struct model *w, const struct cache_key *key, struct cache_answer *a, char *got);
	bool (*fill)(struct model *w, const struct cache_key *key, uint64_t lease, const char *value, size_t len);
	void (*abandon)(struct model *w, const struct cache_key *key, uint64_t lease);
	/* row NULL: the whole table */
	void (*drop)(struct model *w, const struct cache_row *row, enum cache_phase phase, struct gtid g);
	uint64_t (*now)(struct model *w); /* ms */
};

struct model_client {
	enum { MODEL_IDLE, MODEL_LEASED, MODEL_READING, MODEL_FILLING, MODEL_WRITING, MODEL_COMMITTED } step;
	unsigned row, shape;
	bool whole, unknown;
	uint64_t must_see; /* the last acknowledged version when the read began */
	struct cache_answer answer;
	uint64_t value, seq;
};

struct model {
	const struct model_store *ops;
	void *store;
	unsigned client; /* whose turn it is */
	struct model_client clients[MODEL_CLIENTS];
	uint64_t committed[MODEL_ROWS], acked[MODEL_ROWS];
	uint64_t seq; /* of the binlog */
	struct {
		uint64_t at, value;
		unsigned row;
	} log[MODEL_LOG]; /* commits, by seq % MODEL_LOG */
	unsigned hits, fills, refused, replica_reads;
};

static inline uint64_t model_rnd(uint64_t n)
{
	return (uint64_t)random() % n;
}

static inline uint64_t model_replica(struct model *w, unsigned row, uint64_t fence)
{
	uint64_t low = w->seq, now = w->ops->now(w);
	while (low > fence && low + MODEL_LOG > w->seq + 1 && w->log[low % MODEL_LOG].at + MODEL_LAG > now)
		low--;
	w->replica_reads++;
	uint64_t seq = low + model_rnd(w->seq - low + 1);
	for (; seq > 0 && seq + MODEL_LOG > w->seq; seq--)
		if (w->log[seq % MODEL_LOG].row == row)
			return w->log[seq % MODEL_LOG].value;
	return seq ? w->committed[row] : 0; /* not written for so long that every replica has it */
}

static inline struct cache_key model_key(const struct model_client *c)
{
	struct cache_key k = {.len = 4, .row = {'r', 'o', 'w', (uint8_t)('0' + c->row)}};
	memcpy(k.shape, &c->shape, sizeof c->shape);
	return k;
}

static inline void model_start_read(struct model *w, struct model_client *c)
{
	c->row = (unsigned)model_rnd(MODEL_ROWS);
	c->shape = (unsigned)model_rnd(2);
	c->must_see = w->acked[c->row];
	struct cache_key k = model_key(c);
	char got[64] = "";
	enum store_found found = w->ops->look(w, &k, &c->answer, got);
	if (found == STORE_HIT) {
		w->hits++;
		assert_true(strtoull(got, NULL, 10) >= c->must_see);
		return;
	}
	c->step = found == STORE_LEASE ? MODEL_LEASED : MODEL_READING;
}

static inline void model_read(struct model *w, struct model_client *c)
{
	bool primary = c->answer.fence_primary || model_rnd(4) == 0;
	c->value = primary ? w->committed[c->row] : model_replica(w, c->row, c->answer.fence.seq);
	assert_true(c->value >= c->must_see); /* a miss is as exact as a hit: the answer told the fence */
	c->step = c->step == MODEL_READING ? MODEL_IDLE : MODEL_FILLING;
}

static inline void model_end_read(struct model *w, struct model_client *c)
{
	struct cache_key k = model_key(c);
	char value[32];
	int n = snprintf(value, sizeof value, "%llu", (unsigned long long)c->value);
	if (model_rnd(10) == 0)
		w->ops->abandon(w, &k, c->answer.lease);
	else if (w->ops->fill(w, &k, c->answer.lease, value, (size_t)n))
		w->fills++;
	else
		w->refused++;
	c->step = MODEL_IDLE;
}

static inline void model_invalidate(struct model *w, struct model_client *c, enum cache_phase phase)
{
	struct cache_key k = model_key(c);
	struct cache_row row = {.len = k.len};
	memcpy(row.bytes, k.row, k.len);
	struct gtid g = {.domain = 0, .server = 1, .seq = phase == CACHE_AFTER && !c->unknown ? c->seq : 0};
	w->ops->drop(w, c->whole ? NULL : &row, phase, g);
}

static inline void model_start_write(struct model *w, struct model_client *c)
{
	c->row = (unsigned)model_rnd(MODEL_ROWS);
	c->whole = model_rnd(20) == 0;
	c->unknown = model_rnd(20) == 0;
	if (model_rnd(5)) /* else one that was lost; the promise rests on the second */
		model_invalidate(w, c, CACHE_BEFORE);
	c->step = MODEL_WRITING;
}

static inline void model_commit(struct model *w, struct model_client *c)
{
	c->seq = ++w->seq;
	c->value = ++w->committed[c->row];
	w->log[w->seq % MODEL_LOG].at = w->ops->now(w);
	w->log[w->seq % MODEL_LOG].row = c->row;
	w->log[w->seq % MODEL_LOG].value = c->value;
	c->step = MODEL_COMMITTED;
}

static inline void model_acknowledge(struct model *w, struct model_client *c)
{
	model_invalidate(w, c, CACHE_AFTER);
	if (w->acked[c->row] < c->value)
		w->acked[c->row] = c->value;
	c->step = MODEL_IDLE;
}

static inline void model_step(struct model *w)
{
	w->client = (unsigned)model_rnd(MODEL_CLIENTS);
	struct model_client *c = &w->clients[w->client];
	switch (c->step) {
	case MODEL_IDLE:
		if (model_rnd(8) == 0)
			model_start_write(w, c);
		else
			model_start_read(w, c);
		break;
	case MODEL_LEASED:
	case MODEL_READING:
		model_read(w, c);
		break;
	case MODEL_FILLING:
		model_end_read(w, c);
		break;
	case MODEL_WRITING:
		model_commit(w, c);
		break;
	case MODEL_COMMITTED:
		model_acknowledge(w, c);
		break;
	}
}

#endif
