/* SPDX-License-Identifier: Apache-2.0
 *
 * The shape: a keyed digest of everything that an answer's bytes depend on beside the row. Two different lists of parts
 * never share one, also when somebody makes them for it: each part has its length before it, and the key is the
 * store's secret. Pure; any thread.
 */
#ifndef ST_CACHE_SHAPE_H
#define ST_CACHE_SHAPE_H

#include "base/siphash.h"
#include "base/slice.h"
#include "mysql/state.h"

enum { SHAPE = SIPHASH_128 };

/* Append to b, which the caller has cleared for the first part. */
void shape_part(struct buf *b, struct slice part);
/* Schema and variables by what they say, in any order: as many parts as there are. */
void shape_state(struct buf *b, const struct state *state);
/* A state's parts as a digest, made again when the state or the secret has changed since. Valid until then. */
struct shape_memo {
	bool made;
	struct siphash_key secret;
	uint64_t state;
	uint8_t digest[SHAPE];
};
const uint8_t *shape_of_state(struct shape_memo *memo, const struct state *state, const struct siphash_key *secret);
/* The digest of all parts. */
void shape_digest(const struct buf *b, const struct siphash_key *secret, uint8_t out[SHAPE]);

#endif
