/* SPDX-License-Identifier: Apache-2.0
 *
 * The store inside the process. Rows are spread over shards by hash; a shard is a hash table, a clock hand for eviction
 * and a mutex that is held for a few hundred nanoseconds. A hit copies the bytes out under it: a count of references
 * would be a cache line that all workers write.
 *
 *   shard: bucket[] -> row -> row          every row is also in the shard's ring, which the hand goes round
 *                       |
 *                       +-- fence          never evicted while it stands
 *                       +-- form -> form   one a shape: bytes until expires, or a lease
 *
 * Lock order: shard, then table. A slot's epoch is read without its lock: see memory_lookup.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <xxhash.h>

#include "base/mem.h"
#include "cache/store.h"

enum { SHARDS = 16, BUCKETS_MIN = 64, SWEEP = 2 };

struct blob {
	uint32_t len;
	uint8_t data[];
};

struct fence {
	uint32_t pending;
	uint64_t pending_until, unknown_until, gtid_until;
	struct gtid gtid;
};

struct form {
	struct form *next;
	uint8_t shape[CACHE_SHAPE];
	struct blob *blob;
	uint64_t expires;
	uint64_t lease, leased_at, lease_until; /* lease 0: none */
};

/* What a hit looks at comes first, the one form that most rows have among it: two cache lines, and the key's. */
struct row {
	struct row *chain;
	uint64_t hash, epoch;
	uint8_t slot, len;
	bool used, fenced;  /* fenced: counted in the shard's fences */
	bool first_in_use;
	struct form *forms; /* the newest first; all but `first` are allocated */
	struct form first;
	struct row *prev, *next; /* ring */
	struct fence fence;
	uint8_t key[];
};

struct usage {
	uint64_t epoch, entries, bytes;
};

struct shard {
	pthread_mutex_t lock;
	_Atomic(struct row **) bucket; /* these two change under the lock; memory_prefetch peeks at them */
	atomic_size_t buckets;
	size_t rows, fences;
	struct row *hand;
	uint64_t bytes;
	uint64_t next_lease;
	struct usage usage[CACHE_SLOTS];
} __attribute__((aligned(64)));

struct table {
	_Atomic uint64_t epoch;
	_Atomic uint64_t evictions;
	pthread_mutex_t lock;
	struct fence fence;
};

struct memory {
	_Atomic uint64_t limit; /* of a shard */
	uint64_t seed;
	struct shard shard[SHARDS];
	struct table table[CACHE_SLOTS];
};

/* --- Fences ------------------------------------------------------------------------------------------------------- */

static void fence_before(struct fence *f, uint64_t now, const struct cache_times *times)
{
	if (f->pending_until <= now)
		f->pending = 0; /* writers that never came back */
	f->pending++;
	f->pending_until = now + times->pending;
}

static void fence_after(struct fence *f, uint64_t now, struct gtid gtid, const struct cache_times *times)
{
	if (f->pending && --f->pending == 0)
		f->pending_until = 0;
	bool standing = f->gtid_until > now;
	if (gtid_none(gtid) || (standing && f->gtid.domain != gtid.domain)) {
		f->unknown_until = now + times->margin;
		return;
	}
	if (!standing || f->gtid.seq < gtid.seq)
		f->gtid = gtid;
	f->gtid_until = now + times->margin;
}

static void fence_raise(struct fence *f, uint64_t now, enum cache_phase phase, struct gtid gtid,
			const struct cache_times *times)
{
	if (phase == CACHE_BEFORE)
		fence_before(f, now, times);
	else
		fence_after(f, now, gtid, times);
}

static bool fence_stands(const struct fence *f, uint64_t now)
{
	return f->pending_until > now || f->unknown_until > now || f->gtid_until > now;
}

/* Adds what f demands to the answer; true while a write is under way. */
static bool fence_tell(const struct fence *f, uint64_t now, struct cache_answer *answer)
{
	bool pending = f->pending_until > now;
	if (pending || f->unknown_until > now)
		answer->fence_primary = true;
	if (f->gtid_until > now)
		answer_fence(answer, f->gtid);
	return pending;
}

/* --- Rows and forms ----------------------------------------------------------------------------------------------- */

static struct usage *usage_of(struct memory *m, struct shard *s, unsigned slot)
{
	struct usage *u = &s->usage[slot];
	uint64_t epoch = m->table[slot].epoch;
	if (u->epoch != epoch)
		*u = (struct usage){.epoch = epoch};
	return u;
}

static size_t blob_cost(const struct blob *b)
{
	return sizeof *b + b->len;
}

static size_t row_cost(const struct row *row)
{
	return sizeof *row + row->len + sizeof(struct row *);
}

static void form_clear(struct memory *m, struct shard *s, struct row *row, struct form *f)
{
	if (!f->blob)
		return;
	size_t cost = blob_cost(f->blob);
	struct usage *u = usage_of(m, s, row->slot);
	if (row->epoch == u->epoch) {
		u->entries--;
		u->bytes -= cost;
	}
	s->bytes -= cost;
	free(f->blob);
	f->blob = NULL;
}

/* Takes the empty form at *at out of the row's list. */
static void form_remove(struct shard *s, struct row *row, struct form **at)
{
	struct form *f = *at;
	*at = f->next;
	if (f == &row->first) {
		row->first_in_use = false;
		return;
	}
	s->bytes -= sizeof *f;
	free(f);
}

static unsigned forms_free(struct memory *m, struct shard *s, struct row *row)
{
	unsigned entries = 0;
	while (row->forms) {
		entries += row->forms->blob != NULL;
		form_clear(m, s, row, row->forms);
		form_remove(s, row, &row->forms);
	}
	return entries;
}

/* Drops the forms that hold nothing any more. */
static void forms_expire(struct memory *m, struct shard *s, struct row *row, uint64_t now)
{
	for (struct form **at = &row->forms; *at;) {
		struct form *f = *at;
		if (f->blob && f->expires <= now)
			form_clear(m, s, row, f);
		if (f->blob || (f->lease && f->lease_until > now))
			at = &f->next;
		else
			form_remove(s, row, at);
	}
}

static struct form *form_find(const struct row *row, const uint8_t *shape)
{
	struct form *f = row->forms;
	while (f && memcmp(f->shape, shape, CACHE_SHAPE) != 0)
		f = f->next;
	return f;
}

/* NULL when the row has too many forms that are in use. */
static struct form *form_add(struct memory *m, struct shard *s, struct row *row, const uint8_t *shape, uint64_t now)
{
	unsigned n = 0;
	forms_expire(m, s, row, now);
	for (struct form *f = row->forms; f; f = f->next)
		n++;
	if (n >= CACHE_FORMS)
		return NULL;
	struct form *f = &row->first;
	if (row->first_in_use) {
		f = xmalloc(sizeof *f);
		s->bytes += sizeof *f;
	}
	row->first_in_use = true;
	*f = (struct form){.next = row->forms};
	memcpy(f->shape, shape, CACHE_SHAPE);
	row->forms = f;
	return f;
}

static struct row **bucket_of(const struct shard *s, uint64_t hash)
{
	return &atomic_load_explicit(&s->bucket, memory_order_relaxed)
			[hash & (atomic_load_explicit(&s->buckets, memory_order_relaxed) - 1)];
}

static struct row **row_at(struct shard *s, uint64_t hash, unsigned slot, const uint8_t *key, size_t len)
{
	struct row **at = bucket_of(s, hash);
	for (; *at; at = &(*at)->chain) {
		struct row *row = *at;
		__builtin_prefetch(&row->first);
		__builtin_prefetch(row->key);
		if (row->hash == hash && row->slot == slot && row->len == len && memcmp(row->key, key, len) == 0)
			break;
	}
	return at;
}

static void row_remove(struct memory *m, struct shard *s, struct row *row)
{
	forms_free(m, s, row);
	struct row **at = row_at(s, row->hash, row->slot, row->key, row->len);
	*at = row->chain;
	row->prev->next = row->next;
	row->next->prev = row->prev;
	if (s->hand == row)
		s->hand = row->next == row ? NULL : row->next;
	s->bytes -= row_cost(row);
	s->fences -= row->fenced;
	s->rows--;
	free(row);
}

static void grow(struct shard *s)
{
	size_t had = s->buckets, n = had * 2;
	struct row **bucket = xcalloc(n, sizeof *bucket), **old = s->bucket;
	for (size_t i = 0; i < had; i++)
		for (struct row *row = old[i], *chain; row; row = chain) {
			chain = row->chain;
			row->chain = bucket[row->hash & (n - 1)];
			bucket[row->hash & (n - 1)] = row;
		}
	s->bucket = bucket;
	s->buckets = n;
	free(old);
}

/* Gives back what a row does not need; true when nothing was left and it is gone. */
static bool row_tidy(struct memory *m, struct shard *s, struct row *row, uint64_t now)
{
	if (row->epoch != m->table[row->slot].epoch)
		forms_free(m, s, row);
	else
		forms_expire(m, s, row, now);
	if (row->fenced && !fence_stands(&row->fence, now)) {
		row->fenced = false;
		s->fences--;
	}
	if (row->forms || row->fenced)
		return false;
	row_remove(m, s, row);
	return true;
}

/* The hand moves on by a row or two for each row that is made, so that what is dead does not pile up. */
static void sweep(struct memory *m, struct shard *s, uint64_t now)
{
	for (unsigned i = 0; i < SWEEP && s->hand; i++) {
		struct row *row = s->hand;
		s->hand = row->next;
		row_tidy(m, s, row, now);
	}
}

/* Second chance: a row that was used since the hand's last visit stays this time. `keep` is being worked on. */
static void evict(struct memory *m, struct shard *s, const struct row *keep, uint64_t now)
{
	for (size_t left = 2 * s->rows; left && s->bytes > m->limit && s->hand; left--) {
		struct row *row = s->hand;
		s->hand = row->next;
		if (row == keep)
			continue;
		if (row->used) {
			row->used = false;
			continue;
		}
		if (row->epoch == m->table[row->slot].epoch)
			m->table[row->slot].evictions += forms_free(m, s, row);
		row_tidy(m, s, row, now);
	}
}

static struct row *row_add(struct memory *m, struct shard *s, uint64_t hash, unsigned slot, const uint8_t *key,
			   size_t len, uint64_t now)
{
	sweep(m, s, now);
	if (2 * s->rows >= s->buckets)
		grow(s);
	struct row *row = xcalloc(1, sizeof *row + len);
	row->hash = hash;
	row->slot = (uint8_t)slot;
	row->len = (uint8_t)len;
	memcpy(row->key, key, len);
	row->epoch = m->table[slot].epoch;
	struct row **at = bucket_of(s, hash);
	row->chain = *at;
	*at = row;
	if (s->hand) { /* behind the hand: a full round before its first visit */
		row->next = s->hand;
		row->prev = s->hand->prev;
		row->prev->next = row->next->prev = row;
	} else {
		s->hand = row->next = row->prev = row;
	}
	s->bytes += row_cost(row);
	s->rows++;
	return row;
}

static uint64_t hash_of(const struct memory *m, unsigned slot, const uint8_t *key, size_t len)
{
	return XXH3_64bits_withSeed(key, len, m->seed + slot);
}

static struct shard *shard_of(struct memory *m, uint64_t hash)
{
	return &m->shard[hash >> 60];
}

void memory_prefetch(struct memory *m, unsigned slot, const struct cache_key *key)
{
	uint64_t hash = hash_of(m, slot, key->row, key->len);
	struct shard *s = shard_of(m, hash);
	uintptr_t bucket = (uintptr_t)atomic_load_explicit(&s->bucket, memory_order_relaxed);
	size_t n = atomic_load_explicit(&s->buckets, memory_order_relaxed);

	/* An address only, and one that may be out of date: nothing is read. */
	__builtin_prefetch((void *)(bucket + (hash & (n - 1)) * sizeof(struct row *)));
}

/* --- The store's operations --------------------------------------------------------------------------------------- */

struct memory *memory_new(uint64_t limit)
{
	struct memory *m = aligned_alloc(64, (sizeof *m + 63) / 64 * 64);
	if (!m)
		abort();
	memset(m, 0, sizeof *m);
	memory_set_limit(m, limit);
	if (getrandom(&m->seed, sizeof m->seed, 0) != sizeof m->seed)
		m->seed = (uint64_t)(uintptr_t)m; /* only a defence against chosen keys */
	for (unsigned i = 0; i < SHARDS; i++) {
		struct shard *s = &m->shard[i];
		pthread_mutex_init(&s->lock, NULL);
		s->buckets = BUCKETS_MIN;
		s->bucket = xcalloc(s->buckets, sizeof *s->bucket);
	}
	for (unsigned i = 0; i < CACHE_SLOTS; i++) {
		pthread_mutex_init(&m->table[i].lock, NULL);
		m->table[i].epoch = 1;
	}
	return m;
}

void memory_set_limit(struct memory *m, uint64_t limit)
{
	m->limit = limit / SHARDS;
}

void memory_free(struct memory *m)
{
	for (unsigned i = 0; i < SHARDS; i++) {
		struct shard *s = &m->shard[i];
		while (s->hand)
			row_remove(m, s, s->hand);
		free(s->bucket);
		pthread_mutex_destroy(&s->lock);
	}
	for (unsigned i = 0; i < CACHE_SLOTS; i++)
		pthread_mutex_destroy(&m->table[i].lock);
	free(m);
}

static enum store_found take_lease(struct memory *m, struct shard *s, struct row *row, struct form *f,
				   const struct cache_key *key, uint64_t now, const struct cache_times *times,
				   struct cache_answer *answer)
{
	if (f && f->lease && f->lease_until > now)
		return STORE_BUSY;
	if (f)
		form_clear(m, s, row, f);
	else
		f = form_add(m, s, row, key->shape, now);
	if (!f)
		return STORE_READ;
	f->lease = answer->lease = ++s->next_lease;
	f->leased_at = now;
	f->lease_until = now + times->lease;
	return STORE_LEASE;
}

/* A miss. The epoch was read before the table's fence is: a change of the whole table between the two leaves a lease of
 * the old epoch, whose fill is refused. */
static enum store_found look_missed(struct memory *m, struct shard *s, struct row *row, struct form *f,
				    const struct cache_key *key, uint64_t now, const struct cache_times *times,
				    struct cache_answer *answer)
{
	struct table *t = &m->table[row->slot];
	bool pending = fence_tell(&row->fence, now, answer);
	pthread_mutex_lock(&t->lock);
	pending |= fence_tell(&t->fence, now, answer);
	pthread_mutex_unlock(&t->lock);
	return pending ? STORE_READ : take_lease(m, s, row, f, key, now, times, answer);
}

enum store_found memory_lookup(struct memory *m, uint64_t now_ms, unsigned slot, const struct cache_key *key,
			       const struct cache_times *times, struct cache_answer *answer, struct buf *copy)
{
	uint64_t hash = hash_of(m, slot, key->row, key->len);
	struct shard *s = shard_of(m, hash);
	enum store_found found = STORE_HIT;
	*answer = (struct cache_answer){0};
	pthread_mutex_lock(&s->lock);
	uint64_t epoch = m->table[slot].epoch;
	struct row *row = *row_at(s, hash, slot, key->row, key->len);
	if (!row)
		row = row_add(m, s, hash, slot, key->row, key->len, now_ms);
	if (row->epoch != epoch) {
		forms_free(m, s, row);
		row->epoch = epoch;
	}
	if (!row->used) /* a hit writes nothing that another worker's would have to fetch */
		row->used = true;
	struct form *f = form_find(row, key->shape);
	if (f && f->blob && f->expires > now_ms) {
		buf_clear(copy);
		buf_put(copy, f->blob->data, f->blob->len);
		answer->data = copy->data;
		answer->len = copy->len;
	} else {
		found = look_missed(m, s, row, f, key, now_ms, times, answer);
		evict(m, s, row, now_ms);
	}
	pthread_mutex_unlock(&s->lock);
	return found;
}

bool memory_fill(struct memory *m, uint64_t now_ms, unsigned slot, const struct cache_key *key, uint64_t lease,
		 const void *data, size_t len, uint64_t ttl_ms)
{
	if (len + sizeof(struct row) + 256 > m->limit || len > UINT32_MAX)
		return false;
	struct blob *blob = xmalloc(sizeof *blob + len);
	blob->len = (uint32_t)len;
	memcpy(blob->data, data, len);

	uint64_t hash = hash_of(m, slot, key->row, key->len);
	struct shard *s = shard_of(m, hash);
	pthread_mutex_lock(&s->lock);
	struct row *row = *row_at(s, hash, slot, key->row, key->len);
	struct form *f = row && row->epoch == m->table[slot].epoch ? form_find(row, key->shape) : NULL;
	/* The ttl counts from when the lease was given: before the server was asked how long the row is good. */
	bool stands = f && f->lease == lease && f->lease_until > now_ms && f->leased_at + ttl_ms > now_ms;
	if (stands) {
		form_clear(m, s, row, f);
		f->lease = 0;
		f->blob = blob;
		f->expires = f->leased_at + ttl_ms;
		s->bytes += blob_cost(blob);
		struct usage *u = usage_of(m, s, slot);
		if (u->epoch == row->epoch) {
			u->entries++;
			u->bytes += blob_cost(blob);
		}
		evict(m, s, row, now_ms);
	}
	pthread_mutex_unlock(&s->lock);
	if (!stands)
		free(blob);
	return stands;
}

void memory_abandon(struct memory *m, unsigned slot, const struct cache_key *key, uint64_t lease)
{
	uint64_t hash = hash_of(m, slot, key->row, key->len);
	struct shard *s = shard_of(m, hash);
	pthread_mutex_lock(&s->lock);
	struct row *row = *row_at(s, hash, slot, key->row, key->len);
	struct form *f = row ? form_find(row, key->shape) : NULL;
	if (f && f->lease == lease)
		f->lease = 0;
	pthread_mutex_unlock(&s->lock);
}

/* Fences may fill a quarter of a shard; then tables are fenced instead of rows. */
static bool fences_full(const struct memory *m, const struct shard *s)
{
	return s->fences * (sizeof(struct row) + CACHE_KEY_MAX) > m->limit / 4;
}

void memory_drop(struct memory *m, uint64_t now_ms, unsigned slot, const struct cache_row *key, enum cache_phase phase,
		 struct gtid gtid, const struct cache_times *times)
{
	uint64_t hash = hash_of(m, slot, key->bytes, key->len);
	struct shard *s = shard_of(m, hash);
	bool whole = false;
	pthread_mutex_lock(&s->lock);
	struct row *row = *row_at(s, hash, slot, key->bytes, key->len);
	if (row)
		forms_free(m, s, row);
	else if (!fences_full(m, s))
		row = row_add(m, s, hash, slot, key->bytes, key->len, now_ms);
	if (row) {
		fence_raise(&row->fence, now_ms, phase, gtid, times);
		s->fences += !row->fenced;
		row->fenced = true;
		evict(m, s, row, now_ms);
	} else {
		/* A pending fence only guards against a process that dies, and we are it. */
		whole = phase == CACHE_AFTER;
	}
	pthread_mutex_unlock(&s->lock);
	if (whole)
		memory_drop_all(m, now_ms, slot, phase, gtid, times);
}

void memory_drop_all(struct memory *m, uint64_t now_ms, unsigned slot, enum cache_phase phase, struct gtid gtid,
		     const struct cache_times *times)
{
	struct table *t = &m->table[slot];
	pthread_mutex_lock(&t->lock);
	fence_raise(&t->fence, now_ms, phase, gtid, times);
	t->epoch++;
	pthread_mutex_unlock(&t->lock);
}

void memory_usage(struct memory *m, unsigned slot, uint64_t *entries, uint64_t *bytes, uint64_t *evictions)
{
	*entries = *bytes = 0;
	*evictions = m->table[slot].evictions;
	for (unsigned i = 0; i < SHARDS; i++) {
		struct shard *s = &m->shard[i];
		pthread_mutex_lock(&s->lock);
		struct usage *u = usage_of(m, s, slot);
		*entries += u->entries;
		*bytes += u->bytes;
		pthread_mutex_unlock(&s->lock);
	}
}
