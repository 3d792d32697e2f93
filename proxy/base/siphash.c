/* SPDX-License-Identifier: Apache-2.0 */
#include "base/siphash.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/slice.h"

struct sip {
	uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotate(uint64_t x, unsigned bits)
{
	return x << bits | x >> (64 - bits);
}

static inline void round_of(struct sip *s)
{
	s->v0 += s->v1;
	s->v1 = rotate(s->v1, 13) ^ s->v0;
	s->v0 = rotate(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = rotate(s->v3, 16) ^ s->v2;
	s->v0 += s->v3;
	s->v3 = rotate(s->v3, 21) ^ s->v0;
	s->v2 += s->v1;
	s->v1 = rotate(s->v1, 17) ^ s->v2;
	s->v2 = rotate(s->v2, 32);
}

static inline void take(struct sip *s, uint64_t word)
{
	s->v3 ^= word;
	round_of(s);
	round_of(s);
	s->v0 ^= word;
}

static inline uint64_t end(struct sip *s)
{
	for (unsigned i = 0; i < 4; i++)
		round_of(s);
	return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

/* `wide` is 0xee for 128 bits, 0 for 64: the two are different functions. */
static inline struct sip absorb(const struct siphash_key *key, const uint8_t *p, size_t n, uint64_t wide)
{
	uint64_t k0 = get_u64(key->bytes), k1 = get_u64(key->bytes + 8), last = (uint64_t)n << 56;
	struct sip s = {k0 ^ UINT64_C(0x736f6d6570736575), k1 ^ UINT64_C(0x646f72616e646f6d) ^ wide,
			k0 ^ UINT64_C(0x6c7967656e657261), k1 ^ UINT64_C(0x7465646279746573)};

	for (; n >= 8; n -= 8, p += 8)
		take(&s, get_u64(p));
	for (size_t i = 0; i < n; i++)
		last |= (uint64_t)p[i] << (8 * i);
	take(&s, last);
	return s;
}

uint64_t siphash(const struct siphash_key *key, const void *p, size_t n)
{
	struct sip s = absorb(key, p, n, 0);

	s.v2 ^= 0xff;
	return end(&s);
}

static void put_word(uint8_t *p, uint64_t word)
{
	put_u32(p, (uint32_t)word);
	put_u32(p + 4, (uint32_t)(word >> 32));
}

void siphash_128(const struct siphash_key *key, const void *p, size_t n, uint8_t out[SIPHASH_128])
{
	struct sip s = absorb(key, p, n, 0xee);

	s.v2 ^= 0xee;
	put_word(out, end(&s));
	s.v1 ^= 0xdd;
	put_word(out + 8, end(&s));
}

void siphash_key_random(struct siphash_key *key)
{
	if (getrandom(key->bytes, sizeof key->bytes, 0) != (ssize_t)sizeof key->bytes)
		abort(); /* a key that somebody may know is worse than no process */
}

static struct siphash_key process_key;

static void make_process_key(void)
{
	siphash_key_random(&process_key);
}

const struct siphash_key *siphash_process_key(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, make_process_key);
	return &process_key;
}
