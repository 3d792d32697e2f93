/* SPDX-License-Identifier: Apache-2.0 */
#include "data.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "expected.h"

static const char *const tables[] = {"d.t1",  "d.t2",  "d.m1",	"d.a1",	 "d.g1",  "d.u1", "d.log1",
				     "d.tr1", "d.tok", "d.sess", "d2.x1", "d2.t1", "d3.r1"};

/* --- texts --- */

static bool begins(const char *sql, const char *words)
{
	while (*words != '\0') {
		if (*words == ' ') {
			if (!isspace((unsigned char)*sql))
				return false;
			sql += strspn(sql, " \t");
			words++;
		} else if (toupper((unsigned char)*sql++) != *words++) {
			return false;
		}
	}
	return true;
}

/* Names that begin with tt are temporary tables'. */
bool text_defines(const char *sql)
{
	static const char *const words[] = {"CREATE ", "ALTER ", "DROP ", "RENAME "};
	static const char *const but[] = {"CREATE TEMPORARY ", "CREATE OR REPLACE TEMPORARY ", "DROP TEMPORARY ",
					  "DROP TABLE TT", "DROP TABLE IF EXISTS TT", "DROP PREPARE ",
					  "ALTER TABLE TT", "RENAME TABLE TT"};

	for (const char *p = sql; *p != '\0'; p++) {
		bool defines = false;
		if (p > sql && isalnum((unsigned char)p[-1]))
			continue;
		for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
			defines |= begins(p, words[i]);
		for (unsigned i = 0; defines && i < sizeof but / sizeof *but; i++)
			defines = !begins(p, but[i]);
		if (defines)
			return true;
	}
	return false;
}

bool text_needs_table_alone(const char *sql)
{
	return text_defines(sql) || begins(sql, "TRUNCATE ") || begins(sql, "LOCK ") || begins(sql, "FLUSH ") ||
	       begins(sql, "OPTIMIZE ") || begins(sql, "ANALYZE TABLE ") || begins(sql, "REPAIR ");
}

bool text_locks_tables(const char *sql)
{
	return begins(sql, "LOCK TABLE");
}

bool text_unlocks_tables(const char *sql)
{
	return begins(sql, "UNLOCK ") || begins(sql, "BEGIN") || begins(sql, "START TRANSACTION");
}

/* --- making --- */

static bool load(struct pair *p, struct script *s, const char *path)
{
	FILE *f = fopen(path, "r");
	char *line = NULL;
	size_t size = 0;
	struct buf text = {0};

	if (f == NULL) {
		snprintf(p->why, sizeof p->why, "%s cannot be read", path);
		return false;
	}
	for (bool more = true; more;) {
		more = getline(&line, &size, f) >= 0;
		size_t n = more ? strcspn(line, "\n") : 0;
		if (more && n > 0 && strncmp(line, "--", 2) != 0) {
			buf_put(&text, line, n);
			buf_put_u8(&text, ' ');
		} else if (n == 0 && text.len > 0) {
			buf_put_u8(&text, 0);
			script_add(s, (char *)text.data);
			text.len = 0;
		}
	}
	buf_fini(&text);
	free(line);
	fclose(f);
	return true;
}

static bool run_all(struct pair *p, const struct script *s)
{
	for (unsigned i = 0; i < s->n; i++) {
		for (unsigned side = 0; side < SIDES; side++)
			wire_send(&p->keeper[side], COM_QUERY, slice_str(s->line[i]));
		for (unsigned side = 0; side < SIDES; side++)
			wire_read(&p->keeper[side], RESULT_SHAPE_QUERY, &p->answer[side]);
		for (unsigned side = 0; side < SIDES; side++) {
			const struct answer *a = &p->answer[side];
			if (!a->error && !a->lost)
				continue;
			snprintf(p->why, sizeof p->why, "%s: %.300s: %.*s", side == DIRECT ? "direct" : "proxied",
				 s->line[i], (int)a->text.len, (char *)a->text.data);
			return false;
		}
	}
	return true;
}

static char *value_of(struct wire *w, const char *sql, struct answer *a)
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

/* Prepared branches outlive their sessions. Ids are xN. */
static void end_xa(struct pair *p)
{
	char sql[64];

	for (unsigned side = 0; side < SIDES; side++) {
		char *text;
		if (!wire_query(&p->root[side], "XA RECOVER", &p->answer[side]) || p->answer[side].rows == 0)
			continue;
		text = xstrndup((char *)p->answer[side].text.data, p->answer[side].text.len);
		for (char *row = strstr(text, "\nrow\t"); row != NULL; row = strstr(row + 1, "\nrow\t")) {
			const char *id = strrchr(xstrndup(row + 1, strcspn(row + 1, "\n")), '\t');
			snprintf(sql, sizeof sql, "XA ROLLBACK '%.20s'", id != NULL ? id + 1 : "");
			wire_query(&p->root[side], sql, &p->answer[side]);
		}
		free(text);
	}
}

/* What DELETE and INSERT do not put back is alike on both sides? */
static bool counters_differ(struct pair *p)
{
	static const char sql[] =
		"SELECT CONCAT((SELECT GROUP_CONCAT(TABLE_NAME, AUTO_INCREMENT ORDER BY TABLE_SCHEMA, TABLE_NAME)"
		" FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ('d', 'd2')),"
		" (SELECT next_not_cached_value FROM d.sq))";
	char *direct = value_of(&p->root[DIRECT], sql, &p->answer[DIRECT]);
	char *proxied = value_of(&p->root[PROXIED], sql, &p->answer[PROXIED]);
	bool differ = strcmp(direct, proxied) != 0 || *direct == '\0';

	free(direct);
	free(proxied);
	return differ;
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
	char sql[200], *position = value_of(&p->root[PROXIED], "SELECT @@gtid_binlog_pos", &p->answer[0]);

	for (unsigned i = 0; i < sizeof before / sizeof *before; i++)
		wire_query(w, before[i], &p->answer[0]);
	snprintf(sql, sizeof sql, "SET GLOBAL gtid_slave_pos = '%s'", position);
	wire_query(w, sql, &p->answer[0]);
	for (unsigned i = 0; i < sizeof after / sizeof *after; i++)
		wire_query(w, after[i], &p->answer[0]);
	free(position);
}

/* Why a replica does not replicate; NULL: it does. Owned by the caller. */
static char *replication_error(struct pair *p, struct wire *w)
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

static void mend_replicas(struct pair *p)
{
	for (unsigned i = 0; i < p->place.replicas; i++) {
		char *error = replication_error(p, &p->watch[i]);
		if (error != NULL)
			mend_replica(p, &p->watch[i]);
		free(error);
	}
}

bool data_reset(struct pair *p, bool all)
{
	end_xa(p);
	all = all || counters_differ(p);
	if (all) {
		mend_replicas(p);
		if (!run_all(p, &p->definitions))
			return false;
	}
	if (!run_all(p, &p->rows))
		return false;
	if (all)
		pair_wait_routed(p);
	p->defined = true;
	return true;
}

/* Variables that have no session value are each server's own. */
static bool load_globals(struct pair *p)
{
	struct answer *a = &p->answer[0];

	if (!wire_query(&p->root[DIRECT], "SELECT VARIABLE_NAME FROM information_schema.SYSTEM_VARIABLES"
			" WHERE VARIABLE_SCOPE = 'GLOBAL'", a))
		return false;
	buf_put_u8(&a->text, 0);
	for (const char *row = strstr((char *)a->text.data, "row\t"); row != NULL; row = strstr(row, "row\t")) {
		row += 4;
		expected_add_global(slice_of(row, strcspn(row, "\n")));
	}
	return true;
}

bool data_load(struct pair *p)
{
	if (!load(p, &p->definitions, p->place.definitions) || !load(p, &p->rows, p->place.rows) || !load_globals(p))
		return false;
	return data_reset(p, true);
}

/* --- comparing --- */

static enum outcome compare_table(struct pair *p, struct wire *one, struct wire *two, const char *table)
{
	char sql[100];

	snprintf(sql, sizeof sql, "SELECT * FROM %s ORDER BY 1, 2", table);
	wire_query(one, sql, &p->answer[DIRECT]);
	wire_query(two, sql, &p->answer[PROXIED]);
	if (slice_eq(buf_slice(&p->answer[DIRECT].text), buf_slice(&p->answer[PROXIED].text)))
		return SAME;
	for (unsigned side = 0; side < SIDES; side++)
		buf_printf(&p->answer[side].text, "in %s\n", table);
	return DIFFERENT;
}

enum outcome data_compare(struct pair *p)
{
	enum outcome outcome = SAME;

	for (unsigned i = 0; i < sizeof tables / sizeof *tables && outcome == SAME; i++)
		outcome = compare_table(p, &p->root[DIRECT], &p->root[PROXIED], tables[i]);
	return outcome;
}

static enum outcome tell(struct pair *p, const char *what)
{
	for (unsigned side = 0; side < SIDES; side++)
		p->answer[side].text.len = 0;
	buf_put_str(&p->answer[DIRECT].text, "replicates\n");
	buf_printf(&p->answer[PROXIED].text, "%s\n", what);
	return DIFFERENT;
}

static enum outcome compare_replica(struct pair *p, struct wire *replica, const char *position)
{
	char sql[200];
	enum outcome outcome = SAME;

	snprintf(sql, sizeof sql, "SELECT MASTER_GTID_WAIT('%s', 10)", position);
	char *reached = value_of(replica, sql, &p->answer[0]);
	char *error = strcmp(reached, "0") != 0 ? replication_error(p, replica) : NULL;
	if (strcmp(reached, "0") != 0)
		outcome = tell(p, error != NULL ? error : "it lags");
	free(reached);
	free(error);
	for (unsigned i = 0; i < sizeof tables / sizeof *tables && outcome == SAME; i++)
		outcome = compare_table(p, &p->root[PROXIED], replica, tables[i]);
	return outcome;
}

enum outcome data_compare_replicas(struct pair *p)
{
	char *position = value_of(&p->root[PROXIED], "SELECT @@gtid_binlog_pos", &p->answer[0]);
	enum outcome outcome = SAME;

	for (unsigned i = 0; i < p->place.replicas && outcome == SAME; i++)
		outcome = compare_replica(p, &p->watch[i], position);
	free(position);
	return outcome;
}
