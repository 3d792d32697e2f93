/* SPDX-License-Identifier: Apache-2.0 */
#include "data.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "clean.h"
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

/* What DELETE and INSERT do not put back is alike on both sides? */
static bool counters_differ(struct pair *p)
{
	static const char sql[] =
		"SELECT CONCAT((SELECT GROUP_CONCAT(TABLE_NAME, AUTO_INCREMENT ORDER BY TABLE_SCHEMA, TABLE_NAME)"
		" FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ('d', 'd2')),"
		" (SELECT next_not_cached_value FROM d.sq))";
	char *direct = clean_value(&p->root[DIRECT], sql, &p->answer[DIRECT]);
	char *proxied = clean_value(&p->root[PROXIED], sql, &p->answer[PROXIED]);
	bool differ = strcmp(direct, proxied) != 0 || *direct == '\0';

	free(direct);
	free(proxied);
	return differ;
}

bool data_reset(struct pair *p, bool all)
{
	clean_leftovers(p);
	all = all || counters_differ(p);
	if (all) {
		clean_mend_replicas(p);
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
	for (unsigned side = 0; side < SIDES && outcome == SAME; side++)
		wire_query(&p->root[side], "SELECT IS_FREE_LOCK('l1'), IS_FREE_LOCK('l2'), IS_FREE_LOCK('l3')",
			   &p->answer[side]);
	return outcome == SAME ? pair_compare(p, false) : outcome;
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
	char *reached = clean_value(replica, sql, &p->answer[0]);
	char *error = strcmp(reached, "0") != 0 ? clean_replication_error(p, replica) : NULL;
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
	char *position = clean_value(&p->root[PROXIED], "SELECT @@gtid_binlog_pos", &p->answer[0]);
	enum outcome outcome = SAME;

	for (unsigned i = 0; i < p->place.replicas && outcome == SAME; i++)
		outcome = compare_replica(p, &p->watch[i], position);
	free(position);
	return outcome;
}

void data_catch_up(struct pair *p)
{
	char sql[200], *position = clean_value(&p->root[PROXIED], "SELECT @@gtid_binlog_pos", &p->aside[0]);

	snprintf(sql, sizeof sql, "SELECT MASTER_GTID_WAIT('%s', 2)", position);
	for (unsigned i = 0; i < p->place.replicas; i++)
		wire_query(&p->watch[i], sql, &p->aside[0]);
	free(position);
	usleep(1000);
}
