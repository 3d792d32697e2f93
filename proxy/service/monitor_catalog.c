/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads the dictionary. information_schema shows an account only what it has a privilege on, silently: so the
 * privileges are looked at first, and without them the catalog is incomplete whatever it shows.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "service/monitor_reading.h"
#include "sql/body.h"

enum { READ_FACTOR = 10 }; /* a dictionary takes longer to read than a variable */

MYSQL_RES *reading_ask(struct reading *r, const char *sql)
{
	MYSQL_RES *res = link_ask(r->link, sql, r->timeout_ms);

	if (res == NULL && r->link->my != NULL && r->catalog->why[0] == 0)
		snprintf(r->catalog->why, sizeof r->catalog->why, "%s", r->link->why);
	return res;
}

struct slice reading_name(const struct reading *r, char *name)
{
	if (name == NULL)
		return slice_str("");
	for (char *p = name; r->fold && *p != 0; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p |= 0x20;
	return slice_str(name);
}

static const char *field(MYSQL_ROW row, unsigned i)
{
	return row[i] != NULL ? row[i] : "";
}

static bool same_name(const struct reading *r, const char *a, const char *b)
{
	return (r->fold ? strcasecmp(a, b) : strcmp(a, b)) == 0;
}

static void read_privileges(struct reading *r)
{
	MYSQL_RES *res = reading_ask(r, "SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES WHERE GRANTEE ="
				" CONCAT('''', REPLACE(CURRENT_USER(), '@', '''@'''), '''')");
	bool columns = false, trigger = false; /* REFERENCES shows columns as SELECT does, but no rows */
	MYSQL_ROW row;

	if (res == NULL)
		return;
	while ((row = mysql_fetch_row(res)) != NULL) {
		columns |= strcasecmp(field(row, 0), "SELECT") == 0 || strcasecmp(field(row, 0), "REFERENCES") == 0;
		trigger |= strcasecmp(field(row, 0), "TRIGGER") == 0;
	}
	mysql_free_result(res);
	if (!columns || !trigger)
		snprintf(r->catalog->why, sizeof r->catalog->why,
			 "the monitor's account needs GRANT %s%s%s ON *.* to know all views, triggers and keys",
			 columns ? "" : "REFERENCES", columns || trigger ? "" : ", ", trigger ? "" : "TRIGGER");
}

/* A trigger on another table that names the cached one, or one before the write that may change NEW.key. */
static void mark_by_trigger(struct reading *r, const char *db, const char *table, const char *body, const char *timing)
{
	for (unsigned i = 0; i < r->config->nrules; i++) {
		const struct config_rule *rule = &r->config->rules[i];
		bool own = same_name(r, db, rule->db) && same_name(r, table, rule->table);
		if (own ? strcasecmp(timing, "BEFORE") == 0 : strcasestr(body, rule->table) != NULL)
			r->catalog->rules[i].hidden_writes = true;
	}
}

static void read_triggers(struct reading *r)
{
	MYSQL_RES *res = reading_ask(r, "SELECT EVENT_OBJECT_SCHEMA, EVENT_OBJECT_TABLE, ACTION_STATEMENT,"
					" ACTION_TIMING, SQL_MODE FROM information_schema.TRIGGERS");
	MYSQL_ROW row;

	if (res == NULL)
		return;
	while ((row = mysql_fetch_row(res)) != NULL) {
		mark_by_trigger(r, field(row, 0), field(row, 1), field(row, 2), field(row, 3));
		struct slice db = reading_name(r, row[0]), name = reading_name(r, row[1]);
		catalog_add_spreading(r->catalog, db, name);
		/* The server gives the text with doubled quotes and bare backslashes, however it was written. */
		struct call_text text = {.schema = db, .text = slice_str(field(row, 2)),
					 .mode = reading_mode(field(row, 4)) | SQL_NO_BACKSLASH_ESCAPES};
		call_graph_trigger(r->calls, db, name, &text);
	}
	mysql_free_result(res);
}

static void read_cascades(struct reading *r)
{
	MYSQL_RES *res = reading_ask(r, "SELECT UNIQUE_CONSTRAINT_SCHEMA, REFERENCED_TABLE_NAME, CONSTRAINT_SCHEMA,"
				" TABLE_NAME FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE"
				" DELETE_RULE NOT IN ('RESTRICT', 'NO ACTION') OR"
				" UPDATE_RULE NOT IN ('RESTRICT', 'NO ACTION')");
	MYSQL_ROW row;

	if (res == NULL)
		return;
	while ((row = mysql_fetch_row(res)) != NULL) {
		for (unsigned i = 0; i < r->config->nrules; i++)
			if (same_name(r, field(row, 2), r->config->rules[i].db) &&
			    same_name(r, field(row, 3), r->config->rules[i].table))
				r->catalog->rules[i].hidden_writes = true;
		catalog_add_spreading(r->catalog, reading_name(r, row[0]), reading_name(r, row[1]));
	}
	mysql_free_result(res);
}

/* --- Cache rules ------------------------------------------------------------------------------------------------ */

static bool one_of(const char *word, const char *const *list)
{
	for (; *list != NULL; list++)
		if (strcasecmp(word, *list) == 0)
			return true;
	return false;
}

static const char *const integers[] = {"tinyint", "smallint", "mediumint", "int", "bigint", NULL};
static const char *const texts[] = {"char", "varchar", "tinytext", "text", "mediumtext", "longtext", NULL};
/* BINARY(n) is not here: it stores a short value as another, longer one. */
static const char *const bytes[] = {"varbinary", "tinyblob", "blob", "mediumblob", "longblob", NULL};
static const char *const dates[] = {"datetime", "timestamp", "date", NULL};

static enum column_compare compare_of_collation(const char *collation, bool is_char)
{
	static const char *const charsets[] = {"utf8mb4_", "utf8mb3_", "utf8_", "latin1_", "ascii_", NULL};
	static const char *const folding[] = {"general_ci", "swedish_ci", "unicode_ci", "unicode_520_ci",
					      "uca1400_ai_ci", "uca1400_as_ci", NULL};
	static const char *const folding_nopad[] = {
		"general_nopad_ci", "swedish_nopad_ci", "unicode_nopad_ci", "unicode_520_nopad_ci",
		"uca1400_nopad_ai_ci", "uca1400_nopad_as_ci", "0900_ai_ci", "0900_as_ci", NULL};
	const char *rest = NULL;

	for (unsigned i = 0; charsets[i] != NULL && rest == NULL; i++)
		if (strncasecmp(collation, charsets[i], strlen(charsets[i])) == 0)
			rest = collation + strlen(charsets[i]);
	if (rest == NULL)
		return COMPARE_UNKNOWN;
	if (strcasecmp(rest, "bin") == 0)
		return COMPARE_BIN_PAD;
	if (one_of(rest, folding))
		return COMPARE_NOCASE;
	if (is_char) /* CHAR drops trailing spaces when it stores: without padding, 'a ' is stored as another value */
		return COMPARE_UNKNOWN;
	if (strcasecmp(rest, "nopad_bin") == 0)
		return COMPARE_BINARY;
	return one_of(rest, folding_nopad) ? COMPARE_NOCASE_NOPAD : COMPARE_UNKNOWN;
}

enum { COL_NAME, COL_TYPE, COL_LENGTH, COL_COLLATION, COL_EXTRA, COL_EXPRESSION };

static void take_key(struct catalog_rule *rule, MYSQL_ROW row)
{
	const char *type = field(row, COL_TYPE);

	rule->key_bytes = (unsigned)strtoul(field(row, COL_LENGTH), NULL, 10);
	if (one_of(type, integers)) {
		static const unsigned widths[] = {1, 2, 3, 4, 8};
		rule->compare = COMPARE_INTEGER;
		for (unsigned i = 0; integers[i] != NULL; i++)
			if (strcasecmp(type, integers[i]) == 0)
				rule->key_bytes = widths[i];
	} else if (one_of(type, bytes)) {
		rule->compare = COMPARE_BINARY;
	} else if (one_of(type, texts)) {
		rule->compare = compare_of_collation(field(row, COL_COLLATION), strcasecmp(type, "char") == 0);
	}
	if (strcasestr(field(row, COL_EXTRA), "GENERATED") != NULL)
		snprintf(rule->why, sizeof rule->why, "the key column is generated: no write names it");
	else if (rule->compare == COMPARE_UNKNOWN)
		snprintf(rule->why, sizeof rule->why, "the key column's type %s %s cannot be compared exactly", type,
			 field(row, COL_COLLATION));
}

static void on_use(void *arg, enum body_use use, struct slice db, struct slice name)
{
	(void)db;
	(void)name;
	*(bool *)arg |= use == BODY_FUNCTION; /* the server allows built-in ones only: one that we do not know */
}

/* A generated column that is computed when it is read, and not from the row alone: an entry would freeze it. */
static void take_expression(struct catalog_rule *rule, MYSQL_ROW row)
{
	bool unknown = false;
	struct body b = {.text = slice_str(field(row, COL_EXPRESSION)), .use = on_use, .arg = &unknown};

	if (strcasestr(field(row, COL_EXTRA), "VIRTUAL") == NULL || rule->why[0] != 0)
		return;
	if (body_effects(&b) != 0 || unknown)
		snprintf(rule->why, sizeof rule->why, "the column %.60s changes by itself", field(row, COL_NAME));
}

static void take_columns(MYSQL_RES *res, const struct config_rule *config, struct catalog_rule *rule)
{
	bool expires = false;
	MYSQL_ROW row;

	rule->key_ordinal = -1;
	while ((row = mysql_fetch_row(res)) != NULL) {
		bool visible = strcasestr(field(row, COL_EXTRA), "INVISIBLE") == NULL;
		if (strcasecmp(field(row, COL_NAME), config->key) == 0) {
			rule->found = true;
			rule->key_ordinal = visible ? rule->columns : -1;
			take_key(rule, row);
		}
		if (config->expires[0] != 0 && strcasecmp(field(row, COL_NAME), config->expires) == 0) {
			expires = true;
			rule->expires = one_of(field(row, COL_TYPE), dates)    ? EXPIRES_DATETIME :
					one_of(field(row, COL_TYPE), integers) ? EXPIRES_EPOCH :
										 EXPIRES_UNKNOWN;
		}
		rule->columns += visible;
		take_expression(rule, row);
	}
	if (!rule->found)
		snprintf(rule->why, sizeof rule->why, "there is no table %s.%s with a column %s", config->db,
			 config->table, config->key);
	else if (config->expires[0] != 0 && (!expires || rule->expires == EXPIRES_UNKNOWN)) {
		rule->expires = EXPIRES_UNKNOWN;
		snprintf(rule->why, sizeof rule->why, "the column %s is not a date or an integer", config->expires);
	}
}

static void take_indexes(MYSQL_RES *res, const struct config_rule *config, struct catalog_rule *rule)
{
	unsigned uniques = 0, exact = 0;
	MYSQL_ROW row;

	while ((row = mysql_fetch_row(res)) != NULL) { /* one a unique index: columns, first column, a prefix? */
		uniques++;
		exact += strcmp(field(row, 0), "1") == 0 && strcasecmp(field(row, 1), config->key) == 0 &&
			 row[2] == NULL;
	}
	rule->sole_unique = uniques == 1 && exact == 1;
}

static MYSQL_RES *ask_table(struct reading *r, const struct config_rule *rule, const char *before, const char *after)
{
	char db[2 * sizeof rule->db + 1], table[2 * sizeof rule->table + 1];

	mysql_real_escape_string(r->link->my, db, rule->db, strlen(rule->db));
	mysql_real_escape_string(r->link->my, table, rule->table, strlen(rule->table));
	char *sql = xasprintf("%s TABLE_SCHEMA = '%s' AND TABLE_NAME = '%s' %s", before, db, table, after);
	MYSQL_RES *res = reading_ask(r, sql);
	free(sql);
	return res;
}

static void read_rule(struct reading *r, const struct config_rule *config, struct catalog_rule *rule)
{
	MYSQL_RES *res = ask_table(r, config,
				   READING_PLAIN "SELECT COLUMN_NAME, DATA_TYPE, CHARACTER_MAXIMUM_LENGTH,"
				   " COLLATION_NAME, EXTRA, GENERATION_EXPRESSION"
				   " FROM information_schema.COLUMNS WHERE", "ORDER BY ORDINAL_POSITION");
	if (res == NULL)
		return;
	take_columns(res, config, rule);
	mysql_free_result(res);
	if (r->link->my == NULL || !rule->found)
		return;
	res = ask_table(r, config, "SELECT TABLE_TYPE FROM information_schema.TABLES WHERE", "");
	if (res == NULL)
		return;
	MYSQL_ROW row = mysql_fetch_row(res);
	if (row == NULL || strcasecmp(field(row, 0), "BASE TABLE") != 0) {
		rule->found = false;
		snprintf(rule->why, sizeof rule->why, "%s.%s is not a base table", config->db, config->table);
	}
	mysql_free_result(res);
	if (r->link->my == NULL)
		return;
	res = ask_table(r, config,
			"SELECT COUNT(*), MIN(COLUMN_NAME), MAX(SUB_PART) FROM information_schema.STATISTICS"
			" WHERE NON_UNIQUE = 0 AND", "GROUP BY INDEX_NAME");
	if (res == NULL)
		return;
	take_indexes(res, config, rule);
	mysql_free_result(res);
}

struct catalog *monitor_read_catalog(struct link *l, const struct config *c, bool fold, uint64_t generation)
{
	static void (*const steps[])(struct reading *r) = {read_privileges, monitor_read_calls, read_triggers,
							   read_cascades};
	struct reading r = {l, c, catalog_new(generation), call_graph_new(fold),
			    (unsigned)c->monitor_timeout_ms * READ_FACTOR, fold};

	r.catalog->fold = fold;
	for (unsigned i = 0; i < sizeof steps / sizeof *steps && l->my != NULL; i++)
		steps[i](&r);
	for (unsigned i = 0; i < c->nrules && l->my != NULL; i++)
		read_rule(&r, &c->rules[i], &r.catalog->rules[i]);
	if (l->my != NULL)
		call_graph_publish(r.calls, r.catalog);
	call_graph_free(r.calls);
	if (l->my == NULL) {
		catalog_unref(r.catalog);
		return NULL;
	}
	r.catalog->complete = r.catalog->why[0] == 0;
	for (unsigned i = 0; i < c->nrules && !r.catalog->complete; i++)
		r.catalog->rules[i].hidden_writes = true;
	return r.catalog;
}
