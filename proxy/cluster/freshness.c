/* SPDX-License-Identifier: Apache-2.0
 *
 * One 64-bit word a slot says what a read of its tables needs:
 *
 *	63..62 kind      61..0
 *	GTID             domain index (61..58), sequence (57..0); the whole word 0: never written
 *	UNKNOWN          the mark's count when it was recorded
 *	UNREPLICATED     -
 *
 * What does not fit a word (a second domain on a slot, a known write over an unknown one, a huge sequence) is spilled
 * into `all`, a position that every read needs: too strict for other tables for a moment, never too lax. Whoever makes
 * a slot weaker raises `all` first and readers look at `all` last, so no reader falls between the two.
 */
#include "cluster/freshness.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/mem.h"
#include "cluster/topology.h"

enum { SLOTS = 1 << 16, DOMAIN_SHIFT = 58, KIND_SHIFT = 62, TABLE_TEXT = 512 };
enum slot_kind { SLOT_GTID, SLOT_UNKNOWN, SLOT_UNREPLICATED };
#define SEQ_LIMIT (UINT64_C(1) << DOMAIN_SHIFT)
#define VALUE_MASK ((UINT64_C(1) << KIND_SHIFT) - 1)

typedef _Atomic uint64_t slot_t;

struct freshness {
	/* Domains seen, in the order of their first write; at most GTID_DOMAINS, then `overflow` stays for ever. */
	_Atomic uint64_t domain[GTID_DOMAINS]; /* number + 1; 0: free */
	atomic_bool overflow;
	slot_t newest[GTID_DOMAINS]; /* the newest write of each domain, told or sampled */
	slot_t all[GTID_DOMAINS];    /* what every read needs */

	/* Unknowns are rare and may lock: no mark falls between taking the clock's count and recording it. Readers do
	 * not lock; they look at these while somebody changes them. */
	pthread_mutex_t lock;
	slot_t settled;      /* the newest mark that was sampled: unknowns recorded at a lower count are settled */
	slot_t last_unknown; /* count + 1 of the newest unknown of a table */
	slot_t all_unknown;  /* the same for every table */
	atomic_bool unreplicated;
	uint64_t clock;                 /* locked: counts marks */
	uint64_t at_mark[GTID_DOMAINS]; /* locked: `newest` when the last mark was taken */

	atomic_uint sleepers, turn; /* turn is the futex */
	atomic_uint wakes;
	slot_t slot[SLOTS];
};

struct freshness *freshness_new(void)
{
	struct freshness *f = xcalloc(1, sizeof *f);

	pthread_mutex_init(&f->lock, NULL);
	return f;
}

void freshness_free(struct freshness *f)
{
	if (f == NULL)
		return;
	pthread_mutex_destroy(&f->lock);
	free(f);
}

static size_t put_folded(uint8_t *to, size_t room, struct slice s, bool fold)
{
	size_t n = s.n < room ? s.n : room;

	for (size_t i = 0; i < n; i++)
		to[i] = fold && s.p[i] >= 'A' && s.p[i] <= 'Z' ? s.p[i] | 0x20 : s.p[i];
	return n;
}

/* Identifiers have at most 64 characters; text beyond the buffer can only be somebody's nonsense, and then a shared
 * slot does no harm. */
uint64_t freshness_table(struct slice db, struct slice name, bool fold)
{
	uint8_t text[TABLE_TEXT];
	size_t n = put_folded(text, TABLE_TEXT / 2 - 1, db, fold);

	text[n++] = '.';
	n += put_folded(text + n, sizeof text - n, name, fold);
	return XXH3_64bits(text, n);
}

static enum slot_kind kind_of(uint64_t word)
{
	return (enum slot_kind)(word >> KIND_SHIFT);
}

static uint64_t word_of(enum slot_kind kind, uint64_t value)
{
	return (uint64_t)kind << KIND_SHIFT | value;
}

static slot_t *slot_of(struct freshness *f, uint64_t table)
{
	return &f->slot[table % SLOTS];
}

static void raise_to(slot_t *at, uint64_t value)
{
	uint64_t old = atomic_load(at);

	while (old < value && !atomic_compare_exchange_weak(at, &old, value))
		;
}

/* The domain's index, or -1 when there is no place left. */
static int domain_index(struct freshness *f, uint32_t domain)
{
	uint64_t want = (uint64_t)domain + 1;

	for (int i = 0; i < GTID_DOMAINS; i++) {
		uint64_t have = atomic_load_explicit(&f->domain[i], memory_order_acquire);
		if (have == 0 && atomic_compare_exchange_strong(&f->domain[i], &have, want))
			return i;
		if (have == want)
			return i;
	}
	atomic_store(&f->overflow, true);
	return -1;
}

static void raise_pos(struct freshness *f, slot_t *to, const struct gtid_pos *pos)
{
	if (pos->overflow)
		atomic_store(&f->overflow, true);
	for (unsigned i = 0; i < pos->n; i++) {
		int d = domain_index(f, pos->id[i].domain);
		if (d >= 0)
			raise_to(&to[d], pos->id[i].seq);
	}
}

/* Most writes find their waiter asleep; many writes in its one turn cost it one wake. */
static void wake(struct freshness *f)
{
	if (atomic_load(&f->sleepers) == 0 || atomic_exchange(&f->sleepers, 0) == 0)
		return;
	atomic_fetch_add(&f->turn, 1); /* after the exchange: whoever sleeps from now on has asked to be woken again */
	syscall(SYS_futex, &f->turn, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void record(struct freshness *f, slot_t *slot, unsigned domain, uint64_t seq)
{
	uint64_t word = (uint64_t)domain << DOMAIN_SHIFT | seq;
	uint64_t old = atomic_load(slot);

	for (;;) {
		uint64_t next = word;
		if (kind_of(old) == SLOT_UNREPLICATED)
			return;
		if (kind_of(old) == SLOT_UNKNOWN || seq >= SEQ_LIMIT) {
			raise_to(&f->all[domain], seq);
			next = old; /* and prove below that it still stood after `all` was raised */
		} else if (old != 0 && old >> DOMAIN_SHIFT != domain) {
			raise_to(&f->all[old >> DOMAIN_SHIFT], old % SEQ_LIMIT);
		} else if (old >= word) {
			return;
		}
		if (atomic_compare_exchange_weak(slot, &old, next))
			return;
	}
}

void freshness_wrote(struct freshness *f, const uint64_t *tables, unsigned n, struct gtid g)
{
	int domain;

	if (gtid_none(g) || n == 0 || (domain = domain_index(f, g.domain)) < 0)
		return;
	for (unsigned i = 0; i < n; i++)
		record(f, slot_of(f, tables[i]), (unsigned)domain, g.seq);
	raise_to(&f->newest[domain], g.seq);
	wake(f);
}

void freshness_wrote_all(struct freshness *f, struct gtid g)
{
	int domain;

	if (gtid_none(g) || (domain = domain_index(f, g.domain)) < 0)
		return;
	raise_to(&f->all[domain], g.seq);
	raise_to(&f->newest[domain], g.seq);
	wake(f);
}

/* A newer unknown replaces whatever stood: the sample that settles it holds every older acknowledged write as well. */
static void record_unknown(slot_t *slot, uint64_t count)
{
	uint64_t word = word_of(SLOT_UNKNOWN, count), old = atomic_load(slot);

	while (kind_of(old) != SLOT_UNREPLICATED && !(kind_of(old) == SLOT_UNKNOWN && old >= word) &&
	       !atomic_compare_exchange_weak(slot, &old, word))
		;
}

void freshness_unknown(struct freshness *f, const uint64_t *tables, unsigned n)
{
	pthread_mutex_lock(&f->lock);
	raise_to(n == 0 ? &f->all_unknown : &f->last_unknown, f->clock + 1);
	for (unsigned i = 0; i < n; i++)
		record_unknown(slot_of(f, tables[i]), f->clock);
	pthread_mutex_unlock(&f->lock);
}

void freshness_unreplicated(struct freshness *f, const uint64_t *tables, unsigned n)
{
	atomic_store(&f->unreplicated, true);
	for (unsigned i = 0; i < n; i++)
		atomic_store(slot_of(f, tables[i]), word_of(SLOT_UNREPLICATED, 0));
}

uint64_t freshness_mark(struct freshness *f)
{
	pthread_mutex_lock(&f->lock);
	for (unsigned d = 0; d < GTID_DOMAINS; d++)
		f->at_mark[d] = atomic_load(&f->newest[d]);
	uint64_t mark = ++f->clock;
	pthread_mutex_unlock(&f->lock);
	return mark;
}

/* A write that was acknowledged before the primary was asked, and that the primary does not have: a tail was lost. */
static bool lost_tail(struct freshness *f, const struct gtid_pos *primary)
{
	for (unsigned d = 0; d < GTID_DOMAINS; d++) {
		struct gtid g = {(uint32_t)(atomic_load(&f->domain[d]) - 1), 0, f->at_mark[d]};
		if (atomic_load(&f->newest[d]) >= g.seq && !gtid_pos_covers(primary, g))
			return true;
	}
	return false;
}

static void sweep(struct freshness *f, uint64_t mark)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		uint64_t word = atomic_load(&f->slot[i]);
		while (kind_of(word) == SLOT_UNKNOWN && (word & VALUE_MASK) < mark &&
		       !atomic_compare_exchange_weak(&f->slot[i], &word, 0))
			;
	}
}

/* Numbers of a lost tail would stand for other transactions: all is forgotten, and reads go to the primary until it
 * was sampled at a later mark. */
static void forget(struct freshness *f)
{
	raise_to(&f->all_unknown, f->clock + 1);
	for (unsigned i = 0; i < SLOTS; i++) {
		uint64_t word = atomic_load(&f->slot[i]);
		while (kind_of(word) == SLOT_GTID && word != 0 && !atomic_compare_exchange_weak(&f->slot[i], &word, 0))
			;
	}
	for (unsigned d = 0; d < GTID_DOMAINS; d++) {
		atomic_store(&f->all[d], 0);
		atomic_store(&f->newest[d], 0);
	}
}

void freshness_sampled(struct freshness *f, uint64_t mark, const struct gtid_pos *primary)
{
	pthread_mutex_lock(&f->lock);
	/* Only the latest mark has its at_mark still. */
	if (mark == f->clock && lost_tail(f, primary))
		forget(f);
	uint64_t settled = atomic_load(&f->settled);
	bool some = atomic_load(&f->last_unknown) > settled, every = atomic_load(&f->all_unknown) > settled;
	if (some || every)
		raise_pos(f, f->all, primary);
	raise_pos(f, f->newest, primary); /* others write too: who waits for this renews proofs of freshness */
	if (some)
		sweep(f, mark);
	raise_to(&f->settled, mark);
	pthread_mutex_unlock(&f->lock);
	wake(f);
}

void freshness_new_primary(struct freshness *f)
{
	pthread_mutex_lock(&f->lock);
	forget(f);
	pthread_mutex_unlock(&f->lock);
}

static bool covers(const struct freshness *f, const struct gtid_live *applied, unsigned domain, uint64_t seq)
{
	uint64_t number = atomic_load_explicit(&f->domain[domain], memory_order_acquire);

	return seq == 0 || gtid_live_covers(applied, (uint32_t)(number - 1), seq);
}

static bool covers_all(const struct freshness *f, const struct gtid_live *applied, const slot_t *need)
{
	for (unsigned d = 0; d < GTID_DOMAINS; d++)
		if (!covers(f, applied, d, atomic_load_explicit(&need[d], memory_order_acquire)))
			return false;
	return true;
}

bool freshness_covered(const struct freshness *f, const struct gtid_live *applied, const uint64_t *tables, unsigned n)
{
	if (atomic_load_explicit(&f->overflow, memory_order_acquire))
		return false;
	for (unsigned i = 0; i < n; i++) {
		uint64_t word = atomic_load_explicit(&f->slot[tables[i] % SLOTS], memory_order_acquire);
		if (kind_of(word) != SLOT_GTID ||
		    !covers(f, applied, (unsigned)(word >> DOMAIN_SHIFT), word % SEQ_LIMIT))
			return false;
	}
	uint64_t settled = atomic_load_explicit(&f->settled, memory_order_acquire);
	if (atomic_load_explicit(&f->all_unknown, memory_order_acquire) > settled)
		return false;
	if (n != 0)
		return covers_all(f, applied, f->all);
	return !atomic_load(&f->unreplicated) && atomic_load(&f->last_unknown) <= settled &&
	       covers_all(f, applied, f->newest) && covers_all(f, applied, f->all);
}

static void read_newest(struct freshness *f, struct gtid_pos *out)
{
	*out = (struct gtid_pos){0};
	for (unsigned d = 0; d < GTID_DOMAINS; d++) {
		uint64_t seq = atomic_load(&f->newest[d]);
		if (seq != 0)
			gtid_pos_add(out, (struct gtid){(uint32_t)(atomic_load(&f->domain[d]) - 1), 0, seq});
	}
}

static void sleep_until(struct freshness *f, unsigned turn, int64_t until_us)
{
	int64_t left = until_us - topology_now_us();

	if (left <= 0)
		return;
	struct timespec ts = {left / 1000000, left % 1000000 * 1000};
	syscall(SYS_futex, &f->turn, FUTEX_WAIT_PRIVATE, turn, &ts, NULL, 0);
}

bool freshness_wait_newer(struct freshness *f, const struct gtid_live *applied, unsigned timeout_ms,
			  struct gtid_pos *out)
{
	int64_t until = topology_now_us() + (int64_t)timeout_ms * 1000;
	unsigned wakes = atomic_load(&f->wakes);

	for (;;) {
		unsigned turn = atomic_load(&f->turn);
		atomic_store(&f->sleepers, 1); /* before the look: a write after it sees the sleeper */
		if (!covers_all(f, applied, f->newest)) {
			read_newest(f, out);
			return true;
		}
		if (atomic_load(&f->wakes) != wakes || topology_now_us() >= until)
			return false;
		sleep_until(f, turn, until);
	}
}

void freshness_wake(struct freshness *f)
{
	atomic_fetch_add(&f->wakes, 1);
	atomic_fetch_add(&f->turn, 1);
	syscall(SYS_futex, &f->turn, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}
