/* SPDX-License-Identifier: Apache-2.0
 *
 * Packets of an answer as lines of text. What a proxy must differ in is left out here and in expected.h. Pure.
 */
#ifndef ST_DIFF_RENDER_H
#define ST_DIFF_RENDER_H

#include "wire.h"

/* Appends to a->text, and keeps what `struct answer` keeps. Returns false when the packet is malformed. */
bool render_packet(struct answer *a, enum result_part part, struct slice payload, uint32_t caps);
bool render_ok(struct answer *a, struct slice payload, uint32_t caps);
bool render_err(struct answer *a, struct slice payload);

#endif
