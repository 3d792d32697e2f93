/* SPDX-License-Identifier: Apache-2.0
 *
 * Latencies in nanoseconds, counted in buckets that are at most 1/64 of their value wide (HDR style): a quantile is
 * right within 1 %. 30 KB, no allocation.
 */
#ifndef ST_BENCH_HIST_H
#define ST_BENCH_HIST_H

#include <stdint.h>

/* Values below 128 have a bucket each; above, each power of two has 64. */
enum { HIST_BITS = 7, HIST_HALF = 64, HIST_BUCKETS = (64 - HIST_BITS) * HIST_HALF + 2 * HIST_HALF };

struct hist {
	uint64_t count, max;
	uint64_t bucket[HIST_BUCKETS];
};

static inline void hist_add(struct hist *h, uint64_t v)
{
	unsigned shift = v < 2 * HIST_HALF ? 0 : 64u - (unsigned)__builtin_clzll(v) - HIST_BITS;

	h->bucket[shift * HIST_HALF + (v >> shift)]++;
	h->count++;
	if (v > h->max)
		h->max = v;
}

/* The middle of the bucket that holds the q-th value; 0 when nothing was counted. */
static inline double hist_quantile(const struct hist *h, double q)
{
	uint64_t rank = (uint64_t)(q * (double)h->count), seen = 0;

	for (unsigned i = 0; i < HIST_BUCKETS; i++) {
		seen += h->bucket[i];
		if (seen > rank || (seen == h->count && seen > 0)) {
			unsigned shift = i < 2 * HIST_HALF ? 0 : i / HIST_HALF - 1;
			return ((double)(i - shift * HIST_HALF) + 0.5) * (double)(1ull << shift);
		}
	}
	return 0;
}

#endif
