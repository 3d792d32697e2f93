/* SPDX-License-Identifier: Apache-2.0 */
#include "sql/keyword.h"

#include "sql/classify.h"

enum { SLOTS = 4096, LONGEST = 32 };

#define AT(s, i) ((i) < sizeof(s) - 1 ? (uint64_t)((uint8_t)(s)[(i) < sizeof(s) ? (i) : 0] | 0x20) << ((i) % 8 * 8) : 0)
#define CHUNK(s, i)                                                                                                    \
	(AT(s, i) | AT(s, i + 1) | AT(s, i + 2) | AT(s, i + 3) | AT(s, i + 4) | AT(s, i + 5) | AT(s, i + 6) |          \
	 AT(s, i + 7))
#define KEYWORD(NAME, fl, dep)                                                                                         \
	[KW_##NAME] = {{CHUNK(#NAME, 0), CHUNK(#NAME, 8), CHUNK(#NAME, 16), CHUNK(#NAME, 24)},                         \
		       (dep),                                                                                          \
		       sizeof(#NAME) - 1,                                                                              \
		       (fl)},

/* Not a second macro around it: NULL would be expanded on the way. */
#define FUNCTION KEYWORD

const struct kw_info kw_table[KW_COUNT_ALL] = {
#include "tbl/keywords.h"
#include "tbl/functions.h"
};
#undef KEYWORD
#undef FUNCTION

/* Open addressing over kw_table. Filled once before main, from constants only: read-only data in all but name, which
 * spares the tables a generator. */
static uint16_t slots[SLOTS];

/* Letters of both cases, digits, _ and $ stay apart when bit 5 is set. */
static inline uint64_t fold(uint64_t chunk)
{
	return chunk | 0x2020202020202020u;
}

static inline unsigned hash(uint64_t head, uint64_t tail, size_t len)
{
	uint64_t h = (head + len) * 0x9e3779b97f4a7c15u ^ tail * 0xc2b2ae3d27d4eb4fu;

	return (unsigned)(h >> 52) & (SLOTS - 1);
}

static inline uint64_t load(const uint8_t *p, size_t n, const uint8_t *end)
{
	uint64_t v = 0;

	if (n >= 8) {
		memcpy(&v, p, 8);
		return fold(v);
	}
	uint64_t mask = (1ull << n * 8) - 1;
	if (end - p >= 8)
		memcpy(&v, p, 8);
	else
		for (size_t i = 0; i < n; i++)
			v |= (uint64_t)p[i] << i * 8;
	return fold(v) & mask;
}

/* The rest of a word longer than 8 is the same. */
static bool same_rest(const struct kw_info *k, struct slice w)
{
	size_t at = 8;

	while (at + 8 <= w.n && k->word[at / 8] == load(w.p + at, 8, w.p + w.n))
		at += 8;
	return at + 8 > w.n && (at == w.n || k->word[at / 8] == load(w.p + at, w.n - at, w.p + w.n));
}

static inline uint64_t tail_of(const uint8_t *p, size_t n, uint64_t head)
{
	return n > 8 ? load(p + n - 8, 8, p + n) : head;
}

enum kw kw_find(struct slice w, const uint8_t *end)
{
	if (w.n < 2 || w.n > LONGEST)
		return KW_NONE;
	uint64_t head = load(w.p, w.n, end), tail = tail_of(w.p, w.n, head);

	for (unsigned i = hash(head, tail, w.n); slots[i] != KW_NONE; i = (i + 1) & (SLOTS - 1)) {
		const struct kw_info *k = &kw_table[slots[i]];

		if (k->word[0] == head && k->len == w.n && (w.n <= 8 || same_rest(k, w)))
			return (enum kw)slots[i];
	}
	return KW_NONE;
}

__attribute__((constructor)) static void fill_slots(void)
{
	for (unsigned id = KW_NONE + 1; id < KW_COUNT_ALL; id++) {
		uint8_t text[LONGEST];

		memcpy(text, kw_table[id].word, sizeof(text));
		size_t n = kw_table[id].len;
		unsigned i = hash(kw_table[id].word[0], tail_of(text, n, kw_table[id].word[0]), n);
		while (slots[i] != KW_NONE)
			i = (i + 1) & (SLOTS - 1);
		slots[i] = (uint16_t)id;
	}
}
