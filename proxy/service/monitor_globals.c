/* SPDX-License-Identifier: Apache-2.0
 *
 * What new sessions inherit of a server, as a fingerprint that is asked with each check; and what no session can set
 * but an answer may depend on, in which a replica must be as the primary is to be given reads.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "mysql/defaults.h"
#include "service/monitor_parts.h"

/* The order is that of observation.fixed. What comes first is asked by itself: SYSTEM is a name for different zones,
 * and
 * @@system_time_zone is only what the zone was called when the server started. */
static const char *const fixed[FIXED] = {
	"system_time_zone",  "lower_case_table_names",   "max_allowed_packet",       "character_set_system",
	"ft_boolean_syntax", "ft_max_word_len",          "ft_min_word_len",          "ft_query_expansion_limit",
	"ft_stopword_file",  "innodb_ft_max_token_size", "innodb_ft_min_token_size", "innodb_ft_server_stopword_table",
};

/* Some moments by its clock: of now and then, of winter and summer. */
static const char zone_query[] =
	"SET STATEMENT time_zone='SYSTEM' FOR SELECT CONCAT_WS(', ',FROM_UNIXTIME(0,'%Y-%m-%d %H:%i'),"
	"FROM_UNIXTIME(331210800,'%m-%d %H:%i'),FROM_UNIXTIME(1735732800,'%Y-%m-%d %H:%i'),"
	"FROM_UNIXTIME(1751371200,'%m-%d %H:%i')) LIMIT 1";
static const char schemata_query[] =
	"SELECT CONCAT(COUNT(*),' ',BIT_XOR(CAST(CONV(LEFT(MD5(CONCAT_WS('|',SCHEMA_NAME,DEFAULT_CHARACTER_SET_NAME,"
	"DEFAULT_COLLATION_NAME)),16),16,10) AS UNSIGNED))) FROM information_schema.SCHEMATA LIMIT 1";

static void put_fixed(struct buf *sql)
{
	for (unsigned i = 1; i < FIXED; i++)
		buf_printf(sql, "%s'%s'", i > 1 ? "," : "", fixed[i]);
}

/* Which variables this server has: the question for their fingerprint. "" when it cannot be asked. */
static char *make_question(struct link *l, unsigned timeout_ms)
{
	struct buf sql = {0}, ask = {0};
	MYSQL_ROW row;

	buf_put_str(&sql,
		    "SELECT VARIABLE_NAME FROM information_schema.SYSTEM_VARIABLES WHERE VARIABLE_SCOPE='SESSION' "
		    "AND READ_ONLY='NO' AND LEFT(VARIABLE_NAME,6)<>'wsrep_' AND VARIABLE_NAME NOT IN "
		    "(" DEFAULTS_LEFT_OUT ") OR VARIABLE_NAME IN ('init_connect',");
	put_fixed(&sql);
	buf_put_str(&sql, ") ORDER BY 1 LIMIT 100000");
	buf_put_u8(&sql, 0);
	MYSQL_RES *res = link_ask(l, (const char *)sql.data, timeout_ms);
	buf_put_str(&ask, "SELECT MD5(CONCAT_WS('|'");
	while (res != NULL && (row = mysql_fetch_row(res)) != NULL)
		if (row[0] != NULL && defaults_is_name(slice_str(row[0])))
			buf_printf(&ask, ",IFNULL(@@global.%s,'~')", row[0]);
	buf_put_str(&ask, ")) LIMIT 1");
	buf_put_u8(&ask, 0);
	char *question = xstrdup(res != NULL && mysql_num_rows(res) > 0 ? (const char *)ask.data : "");
	mysql_free_result(res);
	buf_fini(&sql);
	buf_fini(&ask);
	return question;
}

/* One value; returns -1 when the link was lost, and leaves `to` empty when the server does not tell. */
static int ask_one(struct link *l, const char *sql, unsigned timeout_ms, char *to, size_t cap)
{
	MYSQL_RES *res = link_ask(l, sql, timeout_ms);
	MYSQL_ROW row;

	*to = '\0';
	if (res == NULL)
		return l->my != NULL ? 0 : -1;
	if ((row = mysql_fetch_row(res)) != NULL && row[0] != NULL)
		snprintf(to, cap, "%s", row[0]);
	mysql_free_result(res);
	return 0;
}

static int ask_fixed(struct link *l, unsigned timeout_ms, struct observation *o)
{
	struct buf sql = {0};
	MYSQL_ROW row;

	buf_put_str(&sql, "SELECT VARIABLE_NAME,GLOBAL_VALUE FROM information_schema.SYSTEM_VARIABLES WHERE "
			  "VARIABLE_NAME IN (");
	put_fixed(&sql);
	buf_put_str(&sql, ") LIMIT 100000");
	buf_put_u8(&sql, 0);
	MYSQL_RES *res = link_ask(l, (const char *)sql.data, timeout_ms);
	buf_fini(&sql);
	for (unsigned i = 0; i < FIXED; i++)
		o->fixed[i][0] = '\0';
	while (res != NULL && (row = mysql_fetch_row(res)) != NULL)
		for (unsigned i = 1; i < FIXED && row[0] != NULL; i++)
			if (strcasecmp(row[0], fixed[i]) == 0)
				snprintf(o->fixed[i], sizeof o->fixed[i], "%s", row[1] != NULL ? row[1] : "");
	mysql_free_result(res);
	return l->my == NULL ? -1 : ask_one(l, zone_query, timeout_ms, o->fixed[0], sizeof o->fixed[0]);
}

int monitor_ask_globals(struct watch *w, struct link *l, unsigned timeout_ms, bool primary, struct observation *o)
{
	bool again = !w->globals_known;

	if (again) { /* another connection, another server maybe */
		free(w->globals_question);
		w->globals_question = make_question(l, timeout_ms);
		if (l->my == NULL)
			return -1;
	}
	if (w->globals_question[0] != '\0' &&
	    ask_one(l, w->globals_question, timeout_ms, o->globals, sizeof o->globals) != 0)
		return -1;
	if (primary && ask_one(l, schemata_query, timeout_ms, o->schemata, sizeof o->schemata) != 0)
		return -1;
	if (!again && strcmp(w->asked.globals, o->globals) == 0)
		memcpy(o->fixed, w->asked.fixed, sizeof o->fixed);
	else if (ask_fixed(l, timeout_ms, o) != 0)
		return -1;
	memcpy(w->asked.globals, o->globals, sizeof w->asked.globals);
	memcpy(w->asked.fixed, o->fixed, sizeof w->asked.fixed);
	w->globals_known = true;
	return 0;
}

/* Another fingerprint than before, where both are known. */
static bool changed(const char *before, const char *now)
{
	return before[0] != '\0' && now[0] != '\0' && strcmp(before, now) != 0;
}

void monitor_take_globals(struct watch *w, struct observation *o)
{
	const struct observation *before = &w->seen;

	if (w->seen_once && (changed(before->globals, o->globals) || changed(before->schemata, o->schemata)))
		w->m->sink.defaults(w->m->sink.arg);
	if (o->schemata[0] == '\0') /* it was not asked: what it had when it was the primary */
		memcpy(o->schemata, before->schemata, sizeof o->schemata);
}

void monitor_compare(struct monitor *m)
{
	for (unsigned i = 0; i < m->n; i++) {
		struct watch *w = m->watches[i];
		unsigned at = FIXED;
		if (m->primary == NULL || !m->primary->seen_once || !w->seen_once || m->primary == w) {
			w->unlike = w->unlike && m->primary != w;
			continue;
		}
		for (unsigned k = 0; k < FIXED && at == FIXED; k++)
			if (strcmp(w->seen.fixed[k], m->primary->seen.fixed[k]) != 0)
				at = k;
		if (at < FIXED && !w->unlike)
			monitor_event(m, "replica_differs", w->config.name, "%s is '%s', and '%s' at %s: no reads",
				      fixed[at], w->seen.fixed[at], m->primary->seen.fixed[at],
				      m->primary->config.name);
		else if (at == FIXED && w->unlike)
			monitor_event(m, "replica_alike", w->config.name, "is as %s again", m->primary->config.name);
		w->unlike = at < FIXED;
		w->unlike_in = at < FIXED ? fixed[at] : "";
	}
}
