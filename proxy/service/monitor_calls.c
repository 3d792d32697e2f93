/* SPDX-License-Identifier: Apache-2.0
 *
 * What the dictionary says of the effects of routines, views and tables. Stored functions cannot be used in columns'
 * expressions and CHECK constraints, and the latter use nothing that matters: the server refuses them.
 */
#include <stdio.h>
#include <string.h>

#include "service/monitor_reading.h"
#include "sql/classify.h"

#define SERVERS_OWN "('mysql', 'sys', 'information_schema', 'performance_schema')"

static struct slice text_of(MYSQL_RES *res, MYSQL_ROW row, unsigned i)
{
	return row[i] != NULL ? slice_of(row[i], mysql_fetch_lengths(res)[i]) : slice_str("");
}

unsigned reading_mode(const char *sql_mode)
{
	return (strstr(sql_mode, "ANSI_QUOTES") != NULL ? SQL_ANSI_QUOTES : 0) |
	       (strstr(sql_mode, "NO_BACKSLASH_ESCAPES") != NULL ? SQL_NO_BACKSLASH_ESCAPES : 0) |
	       (strstr(sql_mode, "ORACLE") != NULL ? SQL_ORACLE : 0);
}

/* Bodies are in the character set of who made them. Where that is not one that the lexer reads, ASCII is. */
static unsigned charset_mode(const char *charset)
{
	static const char *const safe[] = {"utf8", "utf8mb3", "utf8mb4", "latin1", "ascii", "binary"};

	for (unsigned i = 0; i < sizeof safe / sizeof *safe; i++)
		if (strcasecmp(charset, safe[i]) == 0)
			return 0;
	return SQL_UNSAFE_CHARSET;
}

static void take_routine(struct reading *r, MYSQL_RES *res, MYSQL_ROW row)
{
	struct slice db = reading_name(r, row[0]), name = text_of(res, row, 1);
	struct slice type = text_of(res, row, 2), sql_mode = text_of(res, row, 3), charset = text_of(res, row, 4);

	if (!slice_ieq(type, "function") && !slice_ieq(type, "procedure")) {
		call_graph_package(r->calls, db, name);
		return;
	}
	struct call_text text = {.schema = db,
				 .params = text_of(res, row, 5),
				 .text = text_of(res, row, 6),
				 .mode = reading_mode((const char *)sql_mode.p) |
					 charset_mode((const char *)charset.p)};
	call_graph_routine(r->calls, db, name, slice_ieq(type, "function"), &text);
}

static void read_routines(struct reading *r)
{
	MYSQL_RES *res = reading_ask(r, "SELECT db, name, type, sql_mode, character_set_client, param_list, body"
					" FROM mysql.proc");
	MYSQL_ROW row;

	if (res == NULL)
		return;
	while ((row = mysql_fetch_row(res)) != NULL)
		take_routine(r, res, row);
	mysql_free_result(res);
}

static void read_loadables(struct reading *r)
{
	MYSQL_RES *res = reading_ask(r, "SELECT name FROM mysql.func");
	MYSQL_ROW row;

	if (res == NULL)
		return;
	while ((row = mysql_fetch_row(res)) != NULL)
		call_graph_loadable(r->calls, text_of(res, row, 0));
	mysql_free_result(res);
}

/* Returns whether the text could be seen. */
static bool take_view(struct reading *r, MYSQL_RES *res, MYSQL_ROW row)
{
	struct slice db = reading_name(r, row[0]), name = reading_name(r, row[1]);
	struct call_text text = {.schema = db, .text = text_of(res, row, 2)};

	if (text.text.n == 0)
		return false;
	call_graph_view(r->calls, db, name, &text);
	return true;
}

/* An account sees the text of views that it may SELECT from. Who does not want to give that to the monitor gives it
 * this view, which runs with its definer's rights. */
static void read_given_views(struct reading *r)
{
	MYSQL_RES *res = link_ask(r->link,
				  READING_PLAIN "SELECT TABLE_SCHEMA, TABLE_NAME, VIEW_DEFINITION FROM"
						" mysql.sidetrack_views",
				  r->timeout_ms);
	MYSQL_ROW row;

	if (res == NULL)
		return;
	while ((row = mysql_fetch_row(res)) != NULL)
		take_view(r, res, row);
	mysql_free_result(res);
}

static bool is_servers_own(struct slice db)
{
	return slice_ieq(db, "mysql") || slice_ieq(db, "sys");
}

static void read_views(struct reading *r)
{
	MYSQL_RES *res = reading_ask(r, READING_PLAIN "SELECT TABLE_SCHEMA, TABLE_NAME, VIEW_DEFINITION FROM"
						      " information_schema.VIEWS");
	MYSQL_ROW row;
	unsigned unseen = 0;

	if (res == NULL)
		return;
	while ((row = mysql_fetch_row(res)) != NULL) {
		struct slice db = reading_name(r, row[0]), name = reading_name(r, row[1]);
		catalog_add_view(r->catalog, db, name); /* to read it is to read others, too */
		catalog_add_spreading(r->catalog, db, name);
		if (take_view(r, res, row) || call_graph_has_view(r->calls, db, name))
			continue;
		call_graph_view(r->calls, db, name, NULL);
		if (!is_servers_own(db) && unseen++ == 0)
			snprintf(r->catalog->unseen, sizeof r->catalog->unseen, "%s.%s", row[0], row[1]);
	}
	mysql_free_result(res);
	if (unseen > 1) {
		size_t n = strlen(r->catalog->unseen);
		snprintf(r->catalog->unseen + n, sizeof r->catalog->unseen - n, " and %u more", unseen - 1);
	}
}

/* Virtual columns are computed when they are read; defaults, and columns that are stored, when a row is written. */
static void read_columns(struct reading *r)
{
	MYSQL_RES *res = reading_ask(
		r, READING_PLAIN "SELECT TABLE_SCHEMA, TABLE_NAME, IF(EXTRA LIKE '%VIRTUAL%', 1, 0),"
				 " IFNULL(GENERATION_EXPRESSION, COLUMN_DEFAULT) FROM information_schema.COLUMNS"
				 " WHERE TABLE_SCHEMA NOT IN " SERVERS_OWN " AND (GENERATION_EXPRESSION IS NOT NULL"
				 " OR COLUMN_DEFAULT LIKE '%(%' OR COLUMN_DEFAULT LIKE '%@%')");
	MYSQL_ROW row;

	if (res == NULL)
		return;
	while ((row = mysql_fetch_row(res)) != NULL) {
		struct slice db = reading_name(r, row[0]), name = reading_name(r, row[1]);
		struct call_text text = {.schema = db, .text = text_of(res, row, 3)};
		call_graph_column(r->calls, db, name, text_of(res, row, 2).p[0] == '1', &text);
	}
	mysql_free_result(res);
}

/* What is not a plain table: sequences, whose values are not replicated one by one; MEMORY, which is empty after a
 * replica's restart; BLACKHOLE; and engines that stand for other tables, or for what is no table of this server's. */
static void read_engines(struct reading *r)
{
	MYSQL_RES *res = reading_ask(
		r, "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, IFNULL(ENGINE, '') FROM information_schema.TABLES"
		   " WHERE TABLE_SCHEMA NOT IN " SERVERS_OWN " AND TABLE_TYPE NOT IN ('VIEW', 'SYSTEM VIEW') AND"
		   " (TABLE_TYPE = 'SEQUENCE' OR ENGINE IS NULL OR ENGINE NOT IN ('InnoDB', 'Aria', 'MyISAM', 'CSV',"
		   " 'ARCHIVE', 'ROCKSDB', 'TokuDB'))");
	MYSQL_ROW row;

	if (res == NULL)
		return;
	while ((row = mysql_fetch_row(res)) != NULL) {
		struct slice db = reading_name(r, row[0]), name = reading_name(r, row[1]);
		struct slice engine = text_of(res, row, 3);
		bool merge = slice_ieq(engine, "mrg_myisam");
		call_graph_table(r->calls, db, name, merge ? 0 : EFFECT_DEPENDS, 0);
		if (slice_ieq(text_of(res, row, 2), "sequence") || slice_ieq(engine, "memory") ||
		    slice_ieq(engine, "blackhole"))
			continue;
		catalog_add_view(r->catalog, db, name);
		catalog_add_spreading(r->catalog, db, name);
	}
	mysql_free_result(res);
}

void monitor_read_calls(struct reading *r)
{
	static void (*const steps[])(struct reading *r) = {read_routines, read_loadables, read_given_views, read_views,
							   read_columns, read_engines};

	for (unsigned i = 0; i < sizeof steps / sizeof *steps && r->link->my != NULL; i++)
		steps[i](r);
}
