/* SPDX-License-Identifier: Apache-2.0
 *
 * mysql_native_password (https://mariadb.com/kb/en/authentication-plugin-mysql_native_password/):
 * stored = SHA1(SHA1(password)); answer = SHA1(password) XOR SHA1(salt . stored). So a right answer plus the stored
 * hash gives SHA1(password), which is all that is needed to log in elsewhere as that user. Pure; any thread.
 */
#ifndef ST_MYSQL_AUTH_H
#define ST_MYSQL_AUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

enum { AUTH_SALT = 20, AUTH_SHA1 = 20 };

/* 20 random bytes, none of them NUL or '$' (clients treat the salt as text). */
void auth_salt(uint8_t salt[AUTH_SALT]);

/* SHA1(password), what an answer is made from; and SHA1 of that, what servers store. */
void auth_stage1(struct slice password, uint8_t stage1[AUTH_SHA1]);
void auth_stored(const uint8_t stage1[AUTH_SHA1], uint8_t stored[AUTH_SHA1]);

/* The answer to a server's salt. */
void auth_native_answer(const uint8_t stage1[AUTH_SHA1], const uint8_t salt[AUTH_SALT], uint8_t answer[AUTH_SHA1]);

/* Checks a client's answer against the stored hash, in constant time. On success writes stage1 and returns true. */
bool auth_native_verify(const uint8_t stored[AUTH_SHA1], const uint8_t salt[AUTH_SALT], struct slice answer,
			uint8_t stage1[AUTH_SHA1]);

/* "*" and 40 hex digits, as in mysql.user. Returns 0 or -1. */
int auth_stored_parse(struct slice text, uint8_t stored[AUTH_SHA1]);

#endif
