/* SPDX-License-Identifier: Apache-2.0 */
#include "mysql/auth.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdlib.h>

#include "base/log.h"

void auth_salt(uint8_t salt[AUTH_SALT])
{
	for (unsigned i = 0; i < AUTH_SALT;) {
		if (RAND_bytes(&salt[i], 1) != 1) {
			log_error("the system gives no random bytes: logins would be guessable");
			abort();
		}
		salt[i] &= 0x7f;
		if (salt[i] != 0 && salt[i] != '$')
			i++;
	}
}

void auth_stage1(struct slice password, uint8_t stage1[AUTH_SHA1])
{
	SHA1(password.p, password.n, stage1);
}

void auth_stored(const uint8_t stage1[AUTH_SHA1], uint8_t stored[AUTH_SHA1])
{
	SHA1(stage1, AUTH_SHA1, stored);
}

/* out = in XOR SHA1(salt . stored): its own inverse, which is what lets a right answer be turned back into stage1. */
static void mask(const uint8_t in[AUTH_SHA1], const uint8_t salt[AUTH_SALT], const uint8_t stored[AUTH_SHA1],
		 uint8_t out[AUTH_SHA1])
{
	uint8_t text[AUTH_SALT + AUTH_SHA1], pad[AUTH_SHA1];

	memcpy(text, salt, AUTH_SALT);
	memcpy(text + AUTH_SALT, stored, AUTH_SHA1);
	SHA1(text, sizeof text, pad);
	for (unsigned i = 0; i < AUTH_SHA1; i++)
		out[i] = in[i] ^ pad[i];
}

void auth_native_answer(const uint8_t stage1[AUTH_SHA1], const uint8_t salt[AUTH_SALT], uint8_t answer[AUTH_SHA1])
{
	uint8_t stored[AUTH_SHA1];

	auth_stored(stage1, stored);
	mask(stage1, salt, stored, answer);
}

bool auth_native_verify(const uint8_t stored[AUTH_SHA1], const uint8_t salt[AUTH_SALT], struct slice answer,
			uint8_t stage1[AUTH_SHA1])
{
	uint8_t candidate[AUTH_SHA1], check[AUTH_SHA1];

	if (answer.n != AUTH_SHA1)
		return false;
	mask(answer.p, salt, stored, candidate);
	auth_stored(candidate, check);
	bool right = CRYPTO_memcmp(check, stored, AUTH_SHA1) == 0;
	if (right)
		memcpy(stage1, candidate, AUTH_SHA1);
	OPENSSL_cleanse(candidate, sizeof candidate);
	return right;
}

static int hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int auth_stored_parse(struct slice text, uint8_t stored[AUTH_SHA1])
{
	if (text.n != 1 + 2 * AUTH_SHA1 || text.p[0] != '*')
		return -1;
	for (unsigned i = 0; i < AUTH_SHA1; i++) {
		int hi = hex_digit(text.p[1 + 2 * i]), lo = hex_digit(text.p[2 + 2 * i]);
		if (hi < 0 || lo < 0)
			return -1;
		stored[i] = (uint8_t)(hi << 4 | lo);
	}
	return 0;
}
