/* SPDX-License-Identifier: Apache-2.0
 *
 * Makes scripts from the grammar. The same seed makes the same script. One thread.
 */
#ifndef ST_DIFF_GEN_H
#define ST_DIFF_GEN_H

#include <stdbool.h>
#include <stdint.h>

#include "grammar.h"
#include "script.h"

struct gen;

/* without: names of groups to leave out, separated by commas; NULL: none. Returns NULL and says why on stderr when a
 * name is unknown or the grammar has a hole. */
struct gen *gen_new(const char *without);
void gen_free(struct gen *g);

/* One round: a random part of the groups, 1 to 6 sessions, about `lines` lines, and the comparison of all data. */
void gen_round(struct gen *g, uint64_t seed, unsigned lines, struct script *out);

#endif
