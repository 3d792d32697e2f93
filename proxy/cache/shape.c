/* SPDX-License-Identifier: Apache-2.0 */
#include "cache/shape.h"

#include <stdlib.h>
#include <strings.h>

#include "base/mem.h"

void shape_part(struct buf *b, struct slice part)
{
	buf_put_u64(b, part.n);
	buf_put(b, part.p, part.n);
}

static int by_name(const void *a, const void *b)
{
	const struct state_var *const *x = a, *const *y = b;

	return strcasecmp((*x)->name, (*y)->name);
}

void shape_state(struct buf *b, const struct state *state)
{
	const struct state_var **sorted = state->n > 0 ? xcalloc(state->n, sizeof *sorted) : NULL;

	buf_put_u8(b, state->schema != NULL);
	shape_part(b, slice_str(state->schema != NULL ? state->schema : ""));
	buf_put_u64(b, state->n);
	for (unsigned i = 0; i < state->n; i++)
		sorted[i] = &state->vars[i];
	if (sorted != NULL)
		qsort(sorted, state->n, sizeof *sorted, by_name);
	for (unsigned i = 0; i < state->n; i++) {
		shape_part(b, slice_str(sorted[i]->name));
		shape_part(b, slice_str(sorted[i]->value));
	}
	free(sorted);
}

const uint8_t *shape_of_state(struct shape_memo *memo, const struct state *state, const struct siphash_key *secret)
{
	struct buf b = {0};

	if (memo->made && memo->state == state->hash && memcmp(&memo->secret, secret, sizeof *secret) == 0)
		return memo->digest;
	shape_state(&b, state);
	shape_digest(&b, secret, memo->digest);
	buf_fini(&b);
	memo->made = true;
	memo->secret = *secret;
	memo->state = state->hash;
	return memo->digest;
}

void shape_digest(const struct buf *b, const struct siphash_key *secret, uint8_t out[SHAPE])
{
	siphash_128(secret, b->data, b->len, out);
}
