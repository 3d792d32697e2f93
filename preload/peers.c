/* SPDX-License-Identifier: Apache-2.0 */
#include "peers.h"

#include <stdatomic.h>
#include <string.h>

enum { SLOTS = 4096, WAYS = 4, WORDS = (sizeof(struct endpoint) + 7) / 8 };

_Static_assert((SLOTS & (SLOTS - 1)) == 0, "the hash is masked");

/* A sequence lock: odd while it is written. The value is copied in atomic words, so that a reader that comes in the
 * middle reads nonsense that it then throws away, and not undefined behaviour. Nobody ever waits: a writer that finds
 * the slot odd (another thread, or the thread that this signal handler interrupts) takes another one. */
struct slot {
	atomic_uint seq;
	_Atomic uint64_t cookie;
	_Atomic uint64_t age; /* when it was written, counted in writes; cookies say nothing about it */
	atomic_bool pending;
	_Atomic uint64_t words[WORDS];
};

static struct slot slots[SLOTS]; /* untouched pages cost nothing */
static _Atomic uint64_t writes;

uint64_t socket_cookie(int fd)
{
	uint64_t cookie = 0;
	socklen_t n = sizeof(cookie);

	return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &n) == 0 ? cookie : 0;
}

static struct slot *slot_at(uint64_t cookie, unsigned way)
{
	return &slots[((cookie * 0x9e3779b97f4a7c15u >> 40) + way) & (SLOTS - 1)];
}

static uint64_t slot_cookie(struct slot *s)
{
	return atomic_load_explicit(&s->cookie, memory_order_acquire);
}

/* Its own slot, or else the oldest, which may be a free one. *seq is from before it was looked at: whoever changes the
 * slot meanwhile changes that too. */
static struct slot *choose(uint64_t cookie, unsigned *seq)
{
	struct slot *best = NULL;
	uint64_t best_age = UINT64_MAX;

	for (unsigned way = 0; way < WAYS; way++) {
		struct slot *s = slot_at(cookie, way);
		unsigned now = atomic_load_explicit(&s->seq, memory_order_acquire);
		uint64_t age = atomic_load_explicit(&s->age, memory_order_acquire);
		bool own = slot_cookie(s) == cookie;

		if (now % 2 == 1 || (!own && age >= best_age))
			continue;
		best = s;
		best_age = age;
		*seq = now;
		if (own)
			break;
	}
	return best;
}

/* A few tries are enough: each that fails means that somebody else got something done. */
static struct slot *take(uint64_t cookie, unsigned *seq)
{
	for (int tries = 0; tries < 16; tries++) {
		struct slot *s = choose(cookie, seq);

		if (s != NULL && atomic_compare_exchange_strong(&s->seq, seq, *seq + 1))
			return s;
	}
	return NULL;
}

void peers_put(uint64_t cookie, const struct endpoint *wanted, bool pending)
{
	uint64_t words[WORDS] = {0};
	unsigned seq = 0;
	struct slot *s = cookie == 0 ? NULL : take(cookie, &seq);

	if (s == NULL)
		return;
	uint64_t age = 1 + atomic_fetch_add_explicit(&writes, 1, memory_order_acq_rel);

	memcpy(words, wanted, sizeof(*wanted));
	atomic_store_explicit(&s->cookie, cookie, memory_order_release);
	atomic_store_explicit(&s->age, age, memory_order_release);
	atomic_store_explicit(&s->pending, pending, memory_order_release);
	for (unsigned i = 0; i < WORDS; i++)
		atomic_store_explicit(&s->words[i], words[i], memory_order_release);
	atomic_store_explicit(&s->seq, seq + 2, memory_order_release);
}

static bool read_slot(struct slot *s, uint64_t cookie, struct endpoint *wanted, bool *pending)
{
	unsigned seq = atomic_load_explicit(&s->seq, memory_order_acquire);
	uint64_t words[WORDS];

	if (seq % 2 == 1 || slot_cookie(s) != cookie)
		return false;
	*pending = atomic_load_explicit(&s->pending, memory_order_acquire);
	for (unsigned i = 0; i < WORDS; i++)
		words[i] = atomic_load_explicit(&s->words[i], memory_order_acquire);
	memcpy(wanted, words, sizeof(*wanted));
	return atomic_load_explicit(&s->seq, memory_order_relaxed) == seq;
}

bool peers_get(uint64_t cookie, struct endpoint *wanted, bool *pending)
{
	if (cookie == 0 || atomic_load_explicit(&writes, memory_order_acquire) == 0)
		return false;
	for (unsigned way = 0; way < WAYS; way++)
		if (read_slot(slot_at(cookie, way), cookie, wanted, pending))
			return true;
	return false;
}
