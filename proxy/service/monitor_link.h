/* SPDX-License-Identifier: Apache-2.0
 *
 * A connection of the monitor's to one server: calls read like blocking ones, but end at a deadline in milliseconds, or
 * at once when the link's cancel descriptor becomes readable. One thread.
 */
#ifndef ST_SERVICE_MONITOR_LINK_H
#define ST_SERVICE_MONITOR_LINK_H

#include <mysql.h>

#include "base/addr.h"

struct link {
	MYSQL *my;     /* NULL: not connected */
	int cancel_fd; /* borrowed */
	bool late;      /* the last call ended at its deadline, or was cancelled */
	unsigned error; /* of the last call that failed: the server's or libmariadb's number */
	char why[160];
};

/* Connects and logs in. Returns 0, or -1 with error and why. */
int link_open(struct link *l, const struct addr *address, const char *user, const char *password, unsigned timeout_ms);
/* Sends one statement and reads its whole result, which the caller frees with mysql_free_result. NULL with error and
 * why when it failed or has no result set. A link whose connection was lost is closed (my is NULL); asking a closed one
 * changes nothing. */
MYSQL_RES *link_ask(struct link *l, const char *sql, unsigned timeout_ms);
void link_close(struct link *l);

#endif
