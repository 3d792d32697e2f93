/* SPDX-License-Identifier: Apache-2.0 */
#include "clean.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

char *clean_value(struct wire *w, const char *sql, struct answer *a)
{
	char *text, *row;

	if (!wire_query(w, sql, a))
		return xstrdup("");
	text = xstrndup((char *)a->text.data, a->text.len);
	row = strstr(text, "row\t");
	row = xstrndup(row != NULL ? row + 4 : "", row != NULL ? strcspn(row + 4, "\n") : 0);
	free(text);
	return row;
}

/* Prepared branches outlive their sessions. Ids are x and a digit. */
static void end_xa(struct pair *p)
{
	char sql[64];

	for (unsigned side = 0; side < SIDES; side++) {
		struct answer *a = &p->answer[side];
		if (!wire_query(&p->root[side], "XA RECOVER", a) || a->rows == 0)
			continue;
		char *text = xstrndup((char *)a->text.data, a->text.len);
		for (char *id = strstr(text, "\tx"); id != NULL; id = strstr(id + 1, "\tx")) {
			snprintf(sql, sizeof sql, "XA ROLLBACK '%.2s'", id + 1);
			wire_query(&p->root[side], sql, a);
		}
		free(text);
	}
}

/* Sessions have ended; what the proxy still has open for their accounts, with what was left in it, goes too. */
static void end_connections(struct wire *w, struct answer *a)
{
	static const char sql[] = "SELECT ID FROM information_schema.PROCESSLIST WHERE USER LIKE 'u___'";
	char kill[40];

	for (unsigned i = 0; i < 200 && wire_query(w, sql, a) && a->rows > 0; i++) {
		char *text = xstrndup((char *)a->text.data, a->text.len);
		for (char *row = strstr(text, "row\t"); row != NULL; row = strstr(row + 1, "row\t")) {
			snprintf(kill, sizeof kill, "KILL %lu", strtoul(row + 4, NULL, 10));
			wire_query(w, kill, a);
		}
		free(text);
		usleep(100);
	}
}

void clean_leftovers(struct pair *p)
{
	end_connections(&p->root[PROXIED], &p->answer[PROXIED]);
	for (unsigned i = 0; i < p->place.replicas; i++)
		end_connections(&p->watch[i], &p->answer[PROXIED]);
	end_xa(p);
}

/* A replica that does not replicate any more: its copy is thrown away, and begins where the primary is now. What is
 * there is made anew at once. */
static void mend_replica(struct pair *p, struct wire *w)
{
	static const char *const after[] = {
		"SET GLOBAL lock_wait_timeout = 60, GLOBAL innodb_lock_wait_timeout = 60", "START SLAVE",
		"DO SLEEP(0.2)", "SET GLOBAL lock_wait_timeout = 1, GLOBAL innodb_lock_wait_timeout = 0"};
	static const char *const before[] = {"STOP SLAVE", "SET sql_log_bin = 0", "DROP DATABASE IF EXISTS d",
					     "DROP DATABASE IF EXISTS d2", "DROP DATABASE IF EXISTS d3",
					     "SET sql_log_bin = 1", "RESET MASTER"};
	char sql[200], *position = clean_value(&p->root[PROXIED], "SELECT @@gtid_binlog_pos", &p->answer[0]);

	for (unsigned i = 0; i < sizeof before / sizeof *before; i++)
		wire_query(w, before[i], &p->answer[0]);
	snprintf(sql, sizeof sql, "SET GLOBAL gtid_slave_pos = '%s'", position);
	wire_query(w, sql, &p->answer[0]);
	for (unsigned i = 0; i < sizeof after / sizeof *after; i++)
		wire_query(w, after[i], &p->answer[0]);
	free(position);
}

char *clean_replication_error(struct pair *p, struct wire *w)
{
	char *text, *error = NULL, *at;

	if (!wire_query(w, "SHOW SLAVE STATUS", &p->answer[0]))
		return xstrdup("SHOW SLAVE STATUS failed");
	text = xstrndup((char *)p->answer[0].text.data, p->answer[0].text.len);
	if (strstr(text, "\tYes\tYes\t") == NULL && strstr(text, "\tConnecting\tYes\t") == NULL) {
		at = strstr(text, "Could not");
		at = at != NULL ? at : strstr(text, "Error '");
		error = at != NULL ? xstrndup(at, strcspn(at, "\t\n")) : xstrdup("it does not run");
	}
	free(text);
	return error;
}

void clean_mend_replicas(struct pair *p)
{
	for (unsigned i = 0; i < p->place.replicas; i++) {
		char *error = clean_replication_error(p, &p->watch[i]);
		if (error != NULL)
			mend_replica(p, &p->watch[i]);
		free(error);
	}
}
