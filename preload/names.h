/* SPDX-License-Identifier: Apache-2.0
 *
 * Look-ups of host names, for sidetrack-run only: they block, and they allocate.
 */
#ifndef ST_PRELOAD_NAMES_H
#define ST_PRELOAD_NAMES_H

#include "rules.h"

/* "name:port" as endpoint_parse(), but names are looked up. false: *why says why not. */
bool names_endpoint(struct text t, struct endpoint *out, const char **why);

/* Learns the addresses of every name that the rules hold. A name without an address today is no error. */
void names_learn(struct rules *r);

#endif
