/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads the server's account table. MariaDB's own table is mysql.global_priv, whose JSON tells of locked accounts and
 * of alternatives (`auth_or`, where {} stands for the outer plugin); mysql.user is a view of it, or all there is.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "service/monitor_parts.h"

static const char from_global_priv[] =
	"SELECT User, Host, COALESCE(JSON_VALUE(Priv, '$.account_locked'), '0') IN ('1', 'true'),"
	" JSON_VALUE(Priv, '$.plugin'), JSON_VALUE(Priv, '$.authentication_string'),"
	" JSON_VALUE(Priv, '$.auth_or[0].plugin'), JSON_VALUE(Priv, '$.auth_or[0].authentication_string'),"
	" JSON_VALUE(Priv, '$.auth_or[1].plugin'), JSON_VALUE(Priv, '$.auth_or[1].authentication_string'),"
	" JSON_VALUE(Priv, '$.auth_or[2].plugin'), JSON_VALUE(Priv, '$.auth_or[2].authentication_string')"
	" FROM mysql.global_priv WHERE COALESCE(JSON_VALUE(Priv, '$.is_role'), '0') NOT IN ('1', 'true')";
static const char from_user[] =
	"SELECT User, Host, 0, plugin, authentication_string, NULL, NULL, NULL, NULL, NULL, NULL"
	" FROM mysql.user WHERE is_role <> 'Y'";
enum { COL_USER, COL_HOST, COL_LOCKED, COL_PLUGINS, ALTERNATIVES = 4 };

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
	if (strcmp(row[COL_LOCKED] != NULL ? row[COL_LOCKED] : "0", "1") == 0)
		a->method = ACCOUNT_LOCKED;
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

struct accounts *monitor_read_accounts(struct link *l, const struct config *c, uint64_t generation)
{
	unsigned timeout_ms = (unsigned)c->monitor_timeout_ms;
	MYSQL_RES *res = link_ask(l, from_global_priv, timeout_ms);
	MYSQL_ROW row;

	if (res == NULL && l->my != NULL)
		res = link_ask(l, from_user, timeout_ms);
	if (res == NULL)
		return NULL;
	struct account *rows = xcalloc(mysql_num_rows(res) + c->nusers, sizeof *rows);
	unsigned n = add_configured(c, rows);
	while ((row = mysql_fetch_row(res)) != NULL) {
		if (is_configured(c, row[COL_USER]))
			continue;
		snprintf(rows[n].user, sizeof rows[n].user, "%s", row[COL_USER]);
		snprintf(rows[n].host, sizeof rows[n].host, "%s", row[COL_HOST]);
		set_method(&rows[n++], row);
	}
	mysql_free_result(res);
	return accounts_new(rows, n, generation);
}
