/* SPDX-License-Identifier: Apache-2.0
 *
 * Accounts as an immutable, counted snapshot: from the primary's mysql.user (read by the monitor account) and from
 * [user.X]. Found as MariaDB finds them: most specific host first, then user name.
 */
#ifndef ST_CLUSTER_ACCOUNTS_H
#define ST_CLUSTER_ACCOUNTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "mysql/auth.h"

enum account_method {
	ACCOUNT_NATIVE,      /* mysql_native_password with a hash */
	ACCOUNT_EMPTY,       /* no password */
	ACCOUNT_LOCKED,
	ACCOUNT_UNSUPPORTED  /* another plugin: plugin says which */
};

struct account {
	char user[129]; /* "" matches any user */
	char host[256]; /* pattern: %, _, or base/netmask */
	bool configured; /* from [user.X]: wins over anonymous accounts, whatever their host */
	enum account_method method;
	char plugin[65];
	uint8_t stored[AUTH_SHA1];
};

struct accounts {
	atomic_uint refs;
	uint64_t generation;
	unsigned n;
	struct account *list; /* sorted for accounts_find */
};

/* Takes the rows (array and its memory become the snapshot's), sorts them. */
struct accounts *accounts_new(struct account *rows, unsigned n, uint64_t generation);
struct accounts *accounts_ref(struct accounts *a);
void accounts_unref(struct accounts *a);

/* client_host: the numeric address of the client, "localhost" for a unix socket. 127.0.0.1 and ::1 also match
 * "localhost" unless skip_name_resolve (that is what the server's resolver would answer).
 * NULL when no account matches. */
const struct account *accounts_find(const struct accounts *a, struct slice user, const char *client_host,
				    bool skip_name_resolve);

#endif
