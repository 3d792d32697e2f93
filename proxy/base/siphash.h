/* SPDX-License-Identifier: Apache-2.0
 *
 * SipHash-2-4 (Aumasson, Bernstein: "SipHash: a fast short-input PRF"): what nobody can steer who does not know the
 * key. For every hash whose equality is believed, and whose input a peer chooses. Pure; any thread.
 *
 * Our own, since OpenSSL's costs 20 to 100 ns more a call for nothing but being called.
 */
#ifndef ST_BASE_SIPHASH_H
#define ST_BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

enum { SIPHASH_KEY = 16, SIPHASH_128 = 16 };

struct siphash_key {
	uint8_t bytes[SIPHASH_KEY];
};

uint64_t siphash(const struct siphash_key *key, const void *p, size_t n);
void siphash_128(const struct siphash_key *key, const void *p, size_t n, uint8_t out[SIPHASH_128]);

void siphash_key_random(struct siphash_key *key);
/* This process' own, made at the first call; it never leaves the process. */
const struct siphash_key *siphash_process_key(void);

#endif
