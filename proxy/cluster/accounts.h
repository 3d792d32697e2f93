/* SPDX-License-Identifier: Apache-2.0
 *
 * Accounts as an immutable, counted snapshot: from the primary's grant tables (read by the monitor account) and from
 * [user.X]. Found as MariaDB finds them: most specific host first, then user name. Only what the snapshot was last
 * compared with changes: while the server has nothing else, `generation` and `proved_us` rise.
 */
#ifndef ST_CLUSTER_ACCOUNTS_H
#define ST_CLUSTER_ACCOUNTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "cluster/rights.h"
#include "mysql/auth.h"
#include "mysql/gtid.h"

enum account_method {
	ACCOUNT_NATIVE,      /* mysql_native_password with a hash */
	ACCOUNT_EMPTY,       /* no password */
	ACCOUNT_UNSUPPORTED  /* another plugin: plugin says which */
};

struct account {
	char user[129]; /* "" matches any user */
	char host[256]; /* pattern: %, _, or base/netmask */
	bool configured; /* from [user.X]: wins over anonymous accounts, whatever their host */
	enum account_method method;
	char plugin[65];
	uint8_t stored[AUTH_SHA1];
	/* What a server refuses a login for when the password is right. For [user.X] it is left to the server. */
	bool needs_tls, locked;
	int64_t expires_s; /* when its password expires, Unix time: 0 at once, INT64_MAX never */
	/* The server has this account, and lets it in while its password has not expired: rights are what it may read.
	 * False where they are not known, and for the anonymous account. */
	bool usable;
	uint8_t rights[RIGHTS_DIGEST];
};

struct accounts {
	atomic_uint refs;
	uint64_t serial;             /* of what it says: never twice in a process; 0 is none */
	_Atomic uint64_t generation; /* it knows of everything that was done before this read was asked for */
	_Atomic int64_t proved_us;   /* the server had nothing else at that time, topology_now_us(); 0: not known */
	struct gtid_pos pos;         /* a replica that has this has these rights too; empty: not known */
	uint64_t reloads;            /* how often the server took over what others had written into its tables */
	char seen_as[256];           /* the host that the server sees us come from, "" when not known */
	bool turns_away_expired;     /* disconnect_on_expired_password */
	unsigned n;
	struct account *list; /* sorted for accounts_find */
};

/* Takes the rows (array and its memory become the snapshot's), sorts them. Nothing is proved yet. */
struct accounts *accounts_new(struct account *rows, unsigned n, uint64_t generation);
struct accounts *accounts_ref(struct accounts *a);
void accounts_unref(struct accounts *a);

/* Has every account the same rights in both? Passwords may differ. */
bool accounts_grant_alike(const struct accounts *a, const struct accounts *b);

/* client_host: the numeric address of the client, "localhost" for a unix socket. 127.0.0.1 and ::1 also match
 * "localhost" unless skip_name_resolve (that is what the server's resolver would answer).
 * NULL when no account matches. */
const struct account *accounts_find(const struct accounts *a, struct slice user, const char *client_host,
				    bool skip_name_resolve);

#endif
