/* SPDX-License-Identifier: Apache-2.0
 *
 * What an account may do, as one digest: equal wherever the same grants were read, in whatever order, and another one
 * as soon as any of them is. Rows of the server's grant tables go in one by one; each belongs to a user name or a role.
 *
 * MariaDB matches rows of mysql.db and kin by user name and by the host that the client comes from, not by the account
 * that it logged in as; so the digest is of all rows of a *name*, of all roles that it can take on, however far, and of
 * what everybody has (the anonymous user's rows, PUBLIC). Pure; one thread.
 */
#ifndef ST_CLUSTER_RIGHTS_H
#define ST_CLUSTER_RIGHTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

enum { RIGHTS_DIGEST = 16 };

struct rights;
struct rights *rights_new(void);
void rights_free(struct rights *r);
/* A row of `name`'s, for clients from `host` (a pattern, "" for a role), in bytes that are the same for the same row.
 * is_account: it is what makes it an account; else it grants something. */
void rights_add(struct rights *r, const char *name, const char *host, struct slice row, bool is_account);
/* `name` (a user or a role) can take on `role`. */
void rights_add_role(struct rights *r, const char *name, const char *role);
/* After the last row was added. seen_as: the host that servers see their clients come from, which is the proxy's own;
 * it counts only where the name's rows tell hosts apart. */
void rights_digest(struct rights *r, const char *name, const char *seen_as, uint8_t out[RIGHTS_DIGEST]);

#endif
