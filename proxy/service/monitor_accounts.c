/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads the server's account table, and the grants. MariaDB's own table is mysql.global_priv, whose JSON tells of
 * locked accounts and of alternatives (`auth_or`, where {} stands for the outer plugin); mysql.user is a view of it, or
 * all there is.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "service/monitor_parts.h"

/* What a row says of rights: all of it but what only a login is checked against. A changed password moves new logins
 * only. */
static const char from_global_priv[] =
	"SELECT User, Host, COALESCE(JSON_VALUE(Priv, '$.account_locked'), '0') IN ('1', 'true'),"
	" JSON_VALUE(Priv, '$.plugin'), JSON_VALUE(Priv, '$.authentication_string'),"
	" JSON_VALUE(Priv, '$.auth_or[0].plugin'), JSON_VALUE(Priv, '$.auth_or[0].authentication_string'),"
	" JSON_VALUE(Priv, '$.auth_or[1].plugin'), JSON_VALUE(Priv, '$.auth_or[1].authentication_string'),"
	" JSON_VALUE(Priv, '$.auth_or[2].plugin'), JSON_VALUE(Priv, '$.auth_or[2].authentication_string'),"
	" COALESCE(JSON_VALUE(Priv, '$.is_role'), '0') IN ('1', 'true'),"
	" COALESCE(JSON_VALUE(Priv, '$.ssl_type'), '0') <> '0',"
	" JSON_VALUE(Priv, '$.password_last_changed'), JSON_VALUE(Priv, '$.password_lifetime'),"
	" COALESCE(JSON_REMOVE(Priv, '$.plugin', '$.authentication_string', '$.auth_or', '$.password_last_changed'),"
	" Priv) FROM mysql.global_priv";
static const char from_user[] =
	"SELECT User, Host, 0, plugin, authentication_string, NULL, NULL, NULL, NULL, NULL, NULL, is_role = 'Y',"
	" ssl_type <> '', IF(password_expired = 'Y', 0, NULL), NULL, NULL FROM mysql.user";
enum { COL_USER, COL_HOST, COL_LOCKED, COL_PLUGINS, COL_ROLE = 11, COL_TLS, COL_CHANGED, COL_LIFETIME, COL_PRIV,
       ALTERNATIVES = 4 };

/* The tables that grant something to a User at a Host, whole; what does not grant is left out. */
static const char *const grant_tables[] = {"db", "tables_priv", "columns_priv", "procs_priv", "proxies_priv",
					   "roles_mapping"};
static const char *const grants_nothing[] = {"Timestamp", "Grantor", "Password", "authentication_string", "plugin"};

static const char native[] = "mysql_native_password";

/* A hash that cannot be parsed ("invalid") is one that no password has: all zero does that. */
static void set_native(struct account *a, const char *hash)
{
	a->method = *hash == 0 ? ACCOUNT_EMPTY : ACCOUNT_NATIVE;
	if (auth_stored_parse(slice_str(hash), a->stored) != 0)
		memset(a->stored, 0, sizeof a->stored);
}

/* The first alternative that is a native password; where there is none, the first plugin's name says what is not
 * supported. One that no password fits is taken only when nothing better follows. */
static void set_method(struct account *a, MYSQL_ROW row)
{
	bool chosen = false;

	snprintf(a->plugin, sizeof a->plugin, "%s", row[COL_PLUGINS] != NULL ? row[COL_PLUGINS] : native);
	a->method = ACCOUNT_UNSUPPORTED;
	for (unsigned i = 0; i < ALTERNATIVES; i++) {
		const char *plugin = row[COL_PLUGINS + 2 * i], *hash = row[COL_PLUGINS + 2 * i + 1];
		uint8_t ignored[AUTH_SHA1];
		if (plugin == NULL && i == 0)
			plugin = native;
		if (plugin == NULL || (*plugin != 0 && strcmp(plugin, native) != 0))
			continue;
		hash = hash != NULL ? hash : "";
		bool usable = *hash == 0 || auth_stored_parse(slice_str(hash), ignored) == 0;
		if (chosen && !usable)
			continue;
		chosen = true;
		set_native(a, hash);
		snprintf(a->plugin, sizeof a->plugin, "%s", native);
		if (usable)
			break;
	}
}

static bool is_configured(const struct config *c, const char *user)
{
	for (unsigned i = 0; i < c->nusers; i++)
		if (strcmp(c->users[i].name, user) == 0)
			return true;
	return false;
}

static unsigned add_configured(const struct config *c, struct account *to)
{
	for (unsigned i = 0; i < c->nusers; i++) {
		uint8_t stage1[AUTH_SHA1];
		const char *password = c->users[i].password != NULL ? c->users[i].password : "";
		snprintf(to[i].user, sizeof to[i].user, "%s", c->users[i].name);
		snprintf(to[i].host, sizeof to[i].host, "%%");
		snprintf(to[i].plugin, sizeof to[i].plugin, "%s", native);
		to[i].configured = true;
		to[i].expires_s = INT64_MIN; /* until an account of that name is seen */
		to[i].method = *password == 0 ? ACCOUNT_EMPTY : ACCOUNT_NATIVE;
		auth_stage1(slice_str(password), stage1);
		auth_stored(stage1, to[i].stored);
		explicit_bzero(stage1, sizeof stage1);
	}
	return c->nusers;
}

struct accounts *accounts_configured(const struct config *c, uint64_t generation)
{
	struct account *rows = xcalloc(c->nusers, sizeof *rows);

	return accounts_new(rows, add_configured(c, rows), generation);
}

/* --- rights ------------------------------------------------------------------------------------------------------- */

static bool grants(const char *column)
{
	for (unsigned i = 0; i < sizeof grants_nothing / sizeof *grants_nothing; i++)
		if (strcasecmp(column, grants_nothing[i]) == 0)
			return false;
	return true;
}

static const char *field(MYSQL_RES *res, MYSQL_ROW row, const char *name)
{
	for (unsigned i = 0; i < mysql_num_fields(res); i++)
		if (strcasecmp(mysql_fetch_fields(res)[i].name, name) == 0)
			return row[i] != NULL ? row[i] : "";
	return "";
}

static void put_row(struct buf *b, const char *table, MYSQL_RES *res, MYSQL_ROW row)
{
	const unsigned long *lengths = mysql_fetch_lengths(res);

	buf_clear(b);
	buf_put_str(b, table);
	for (unsigned i = 0; i < mysql_num_fields(res); i++) {
		const char *name = mysql_fetch_fields(res)[i].name;
		if (!grants(name) || row[i] == NULL)
			continue;
		buf_put_lenenc_bytes(b, slice_str(name));
		buf_put_lenenc_bytes(b, slice_of(row[i], lengths[i]));
	}
}

/* All of a table's rows. Returns false when it cannot be read: then nobody's rights are known. */
static bool read_grants(struct link *l, const char *table, struct rights *r, unsigned timeout_ms)
{
	char sql[64];
	struct buf b = {0};
	MYSQL_ROW row;

	snprintf(sql, sizeof sql, "SELECT * FROM mysql.%s", table);
	MYSQL_RES *res = link_ask(l, sql, timeout_ms);
	if (res == NULL)
		return false;
	bool roles = strcmp(table, "roles_mapping") == 0;
	while ((row = mysql_fetch_row(res)) != NULL) {
		put_row(&b, table, res, row);
		rights_add(r, field(res, row, "User"), field(res, row, "Host"), buf_slice(&b), false);
		if (roles)
			rights_add_role(r, field(res, row, "User"), field(res, row, "Role"));
	}
	mysql_free_result(res);
	buf_fini(&b);
	return true;
}

/* What a whole server is like, and we to it. */
struct setting {
	int64_t lifetime_days; /* default_password_lifetime */
	bool turns_away;
	char seen_as[256];
};

static bool read_setting(struct link *l, struct setting *out, unsigned timeout_ms)
{
	*out = (struct setting){0};
	MYSQL_RES *res = link_ask(l, "SELECT SUBSTRING_INDEX(USER(), '@', -1), @@default_password_lifetime,"
				     " @@disconnect_on_expired_password", timeout_ms);
	if (res == NULL && l->my != NULL) /* MariaDB before 10.4 has neither */
		res = link_ask(l, "SELECT SUBSTRING_INDEX(USER(), '@', -1), 0, 1", timeout_ms);
	if (res == NULL)
		return false;
	MYSQL_ROW row = mysql_fetch_row(res);
	if (row != NULL) {
		snprintf(out->seen_as, sizeof out->seen_as, "%s", row[0] != NULL ? row[0] : "");
		out->lifetime_days = row[1] != NULL ? strtoll(row[1], NULL, 10) : 0;
		out->turns_away = row[2] != NULL && strcmp(row[2], "0") != 0;
	}
	mysql_free_result(res);
	return row != NULL;
}

/* As the server reckons: 0 as the time of the last change is PASSWORD EXPIRE; a lifetime of 0 is for ever. */
static int64_t expires_s(MYSQL_ROW row, const struct setting *setting)
{
	int64_t changed = row[COL_CHANGED] != NULL ? strtoll(row[COL_CHANGED], NULL, 10) : -1;
	int64_t days = row[COL_LIFETIME] != NULL ? strtoll(row[COL_LIFETIME], NULL, 10) : -1;

	if (changed == 0)
		return 0;
	if (days < 0)
		days = setting->lifetime_days;
	return days <= 0 || days > INT32_MAX ? INT64_MAX : (changed > 0 ? changed : 0) + days * 86400;
}

static bool is_true(const char *text)
{
	return text != NULL && strcmp(text, "1") == 0;
}

/* The server's own account of a [user.X] still says whether the cache may be used, if not whether he may log in. */
static void note_configured(struct account *rows, const struct config *c, const struct account *server)
{
	for (unsigned i = 0; i < c->nusers; i++) {
		struct account *a = &rows[i];
		if (strcmp(a->user, server->user) != 0)
			continue;
		a->usable = (a->usable || a->expires_s == INT64_MIN) && !server->locked && !server->needs_tls;
		if (a->expires_s == INT64_MIN || server->expires_s < a->expires_s)
			a->expires_s = server->expires_s;
	}
}

static void read_account(MYSQL_ROW row, const struct setting *setting, struct account *a)
{
	snprintf(a->user, sizeof a->user, "%s", row[COL_USER]);
	snprintf(a->host, sizeof a->host, "%s", row[COL_HOST]);
	set_method(a, row);
	a->locked = is_true(row[COL_LOCKED]);
	a->needs_tls = is_true(row[COL_TLS]);
	a->expires_s = expires_s(row, setting);
	a->usable = a->user[0] != '\0' && !a->locked && !a->needs_tls;
}

/* Fills rows behind the configured ones; returns how many there are in all. */
static unsigned take_accounts(MYSQL_RES *res, const struct config *c, const struct setting *setting,
			      struct account *rows, struct rights *r)
{
	unsigned n = c->nusers;
	MYSQL_ROW row;

	while ((row = mysql_fetch_row(res)) != NULL) {
		bool role = is_true(row[COL_ROLE]);
		if (row[COL_PRIV] != NULL)
			rights_add(r, row[COL_USER], row[COL_HOST], slice_str(row[COL_PRIV]), !role);
		if (role)
			continue;
		read_account(row, setting, &rows[n]);
		if (!is_configured(c, row[COL_USER])) {
			n++;
			continue;
		}
		note_configured(rows, c, &rows[n]);
		memset(&rows[n], 0, sizeof rows[n]);
	}
	return n;
}

/* Returns false when they cannot all be read. */
static bool read_rights(struct link *l, struct rights *r, bool from_view, unsigned timeout_ms)
{
	if (from_view && !read_grants(l, "user", r, timeout_ms))
		return false;
	for (unsigned i = 0; i < sizeof grant_tables / sizeof *grant_tables; i++)
		if (!read_grants(l, grant_tables[i], r, timeout_ms))
			return false;
	return true;
}

static void read_position(struct link *l, struct gtid_pos *pos, unsigned timeout_ms)
{
	MYSQL_RES *res = link_ask(l, "SELECT @@gtid_binlog_pos", timeout_ms);

	if (res == NULL)
		return;
	MYSQL_ROW row = mysql_fetch_row(res);
	if (row == NULL || row[0] == NULL || gtid_pos_parse(slice_str(row[0]), pos) != 0)
		*pos = (struct gtid_pos){0};
	mysql_free_result(res);
}

struct accounts *monitor_read_accounts(struct link *l, const struct config *c, uint64_t generation)
{
	unsigned timeout_ms = (unsigned)c->monitor_timeout_ms;
	struct setting setting;
	bool from_view = false;

	if (!read_setting(l, &setting, timeout_ms))
		return NULL;
	MYSQL_RES *res = link_ask(l, from_global_priv, timeout_ms);
	if (res == NULL && l->my != NULL) {
		from_view = true;
		res = link_ask(l, from_user, timeout_ms);
	}
	if (res == NULL)
		return NULL;
	struct account *rows = xcalloc(mysql_num_rows(res) + c->nusers + 1, sizeof *rows);
	struct rights *r = rights_new();
	add_configured(c, rows);
	unsigned n = take_accounts(res, c, &setting, rows, r);
	mysql_free_result(res);
	bool known = read_rights(l, r, from_view, timeout_ms);
	for (unsigned i = 0; i < n; i++) {
		rows[i].usable &= known;
		if (rows[i].usable)
			rights_digest(r, rows[i].user, setting.seen_as, rows[i].rights);
	}
	rights_free(r);
	struct accounts *a = accounts_new(rows, n, generation);
	snprintf(a->seen_as, sizeof a->seen_as, "%s", setting.seen_as);
	a->turns_away_expired = setting.turns_away;
	read_position(l, &a->pos, timeout_ms);
	if (l->my == NULL) { /* lost on the way: it is not whole */
		accounts_unref(a);
		return NULL;
	}
	return a;
}

/* FLUSH PRIVILEGES is one of them; they are not told apart. */
static void read_flushes(struct link *l, int64_t *flushes, unsigned timeout_ms)
{
	MYSQL_RES *res = link_ask(l, "SHOW GLOBAL STATUS LIKE 'Com_flush'", timeout_ms);

	if (res == NULL)
		return;
	MYSQL_ROW row = mysql_fetch_row(res);
	if (row != NULL && row[1] != NULL)
		*flushes = strtoll(row[1], NULL, 10);
	mysql_free_result(res);
}

char *monitor_accounts_mark(struct link *l, unsigned timeout_ms, int64_t *flushes)
{
	static const char sql[] = "CHECKSUM TABLE mysql.global_priv, mysql.user, mysql.db, mysql.tables_priv,"
				  " mysql.columns_priv, mysql.procs_priv, mysql.proxies_priv, mysql.roles_mapping";
	struct setting setting;
	struct buf b = {0};
	MYSQL_ROW row;

	read_flushes(l, flushes, timeout_ms); /* first: what was flushed before it is in what follows */
	if (!read_setting(l, &setting, timeout_ms))
		return NULL;
	MYSQL_RES *res = link_ask(l, sql, timeout_ms);
	if (res == NULL)
		return NULL;
	buf_printf(&b, "%s %d %lld", setting.seen_as, setting.turns_away, (long long)setting.lifetime_days);
	bool any = false; /* one of the first two is a table */
	for (unsigned i = 0; (row = mysql_fetch_row(res)) != NULL; i++) {
		any |= i < 2 && row[1] != NULL;
		buf_printf(&b, " %s", row[1] != NULL ? row[1] : "-");
	}
	mysql_free_result(res);
	char *mark = any ? xstrndup((const char *)b.data, b.len) : NULL;
	buf_fini(&b);
	return mark;
}
