/* SPDX-License-Identifier: Apache-2.0
 *
 * The connection phase: the greeting looks like the primary's own; the answer is checked against the account hash, and
 * gives what is needed to log in to servers as that user (design: applications keep their credentials).
 */
#include "session/session.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"

enum { LOOK_AGAIN_MS = 1500 /* accounts are read once a second at most */ };

/* What we offer: what the primary can, less what is not there yet (TLS, compression, LOCAL INFILE, bulk, progress). */
static uint32_t offered_caps(const struct topology *t)
{
	uint32_t known = CAP_FOUND_ROWS | CAP_LONG_FLAG | CAP_CONNECT_WITH_DB | CAP_NO_SCHEMA | CAP_ODBC |
			 CAP_IGNORE_SPACE | CAP_PROTOCOL_41 | CAP_INTERACTIVE | CAP_IGNORE_SIGPIPE | CAP_TRANSACTIONS |
			 CAP_RESERVED | CAP_SECURE_CONNECTION | CAP_MULTI_STATEMENTS | CAP_MULTI_RESULTS |
			 CAP_PS_MULTI_RESULTS | CAP_PLUGIN_AUTH | CAP_CONNECT_ATTRS | CAP_PLUGIN_AUTH_LENENC |
			 CAP_SESSION_TRACK | CAP_DEPRECATE_EOF;

	if (t == NULL || t->capabilities_lo == 0)
		return known;
	return (known & t->capabilities_lo) | CAP_PROTOCOL_41 | CAP_SECURE_CONNECTION | CAP_PLUGIN_AUTH |
	       (t->capabilities_lo & CAP_MYSQL);
}

static uint32_t offered_xcaps(const struct topology *t)
{
	return t != NULL ? t->capabilities_hi & XCAP_EXTENDED_METADATA : 0;
}

static int clients_of_all(const struct proxy *p)
{
	int n = 0;

	for (unsigned i = 0; i < p->ngroups; i++)
		n += proxy_clients(p->groups[i]);
	return n;
}

void login_greet(struct session *s)
{
	const struct topology *t = s->pw->cluster.topology;
	struct buf out = {0};
	struct greeting g = {.thread_id = s->id, .status = STATUS_AUTOCOMMIT, .plugin = slice_str(NATIVE_PLUGIN)};
	char version[80];

	s->step = SESSION_LOGIN;
	if (s->pw->cluster.config->max_connections > 0 &&
	    clients_of_all(s->pw->proxy) > (int)s->pw->cluster.config->max_connections) {
		reply_err(&out, 0, ER_CON_COUNT_ERROR, "08004", "Too many connections");
		conn_write(&s->conn, out.data, out.len);
		buf_fini(&out);
		session_close(s, "too many connections");
		return;
	}
	/* MariaDB prefixes its version for the replication code of old clients; libraries strip it. */
	const char *v = t != NULL && t->version[0] != '\0' ? t->version : "10.11.0-MariaDB";
	snprintf(version, sizeof version, "%s%s",
		 strstr(v, "MariaDB") != NULL && strncmp(v, "5.5.5-", 6) != 0 ? "5.5.5-" : "", v);
	g.version = slice_str(version);
	g.caps = s->offered = offered_caps(t);
	g.xcaps = s->xoffered = offered_xcaps(t);
	g.collation = t != NULL && t->collation != 0 ? t->collation : 45;
	auth_salt(s->salt);
	memcpy(g.salt, s->salt, AUTH_SALT);
	greeting_build(&out, 0, &g);
	if (conn_write(&s->conn, out.data, out.len) < 0)
		session_close(s, "client went away");
	else
		conn_read_on(&s->conn);
	buf_fini(&out);
}

/* Ends the login with an error and the connection with it. */
static void refuse(struct session *s, unsigned seq, unsigned code, const char *sqlstate, const char *text)
{
	struct buf out = {0};

	reply_err(&out, seq, code, sqlstate, "%s", text);
	conn_write(&s->conn, out.data, out.len);
	buf_fini(&out);
	stats_error(s->pw->worker->stats, STAT_ERR_AUTH);
	session_close(s, text);
}

/* The server's own words. Its resolver would call a loopback client "localhost". */
static void deny(struct session *s, unsigned seq, struct slice user, bool with_password)
{
	const struct topology *t = s->pw->cluster.topology;
	bool loopback = strncmp(s->host, "127.", 4) == 0 || strcmp(s->host, "::1") == 0;
	char text[320];

	snprintf(text, sizeof text, "Access denied for user '%.*s'@'%s' (using password: %s)", (int)user.n,
		 (const char *)user.p, loopback && !(t != NULL && t->skip_name_resolve) ? "localhost" : s->host,
		 with_password ? "YES" : "NO");
	log_warn("session %u: %s", s->id, text);
	refuse(s, seq, ER_ACCESS_DENIED, "28000", text);
}

/* The login is right: state as after a login at a server. */
static void accept_login(struct session *s, struct slice user, const uint8_t *stage1, unsigned seq)
{
	struct cluster *cluster = &s->pw->cluster;
	struct identity *old = s->identity;

	s->identity =
		identity_get(cluster, user, stage1, identity_caps(s->caps), identity_xcaps(s->xcaps), s->collation);
	s->context.made = false;
	if (old != NULL)
		identity_put(cluster, &old);
	event_del(&s->deadline);
	track_reset(s);
	struct command *c = s->command != NULL ? s->command : command_new(s);
	c->seq = (uint8_t)(seq + 1);
	c->pings = true;
	if (s->login_schema != NULL && s->login_schema[0] != '\0') {
		/* A schema that does not exist or is not allowed is refused at login, in the server's words. */
		size_t n = strlen(s->login_schema);
		uint8_t header[] = {0, 0, 0, 0, COM_INIT_DB};
		put_u24(header, (uint32_t)n + 1);
		buf_clear(&c->request);
		buf_put(&c->request, header, sizeof header);
		buf_put(&c->request, s->login_schema, n);
		c->code = COM_INIT_DB;
		s->step = SESSION_VERIFY;
		dispatch_command(s, RESULT_SHAPE_QUERY);
		return;
	}
	login_verified(s, NULL);
}

void login_verified(struct session *s, const struct backend_error *error)
{
	struct command *c = s->command;
	struct buf out = {0};

	if (error != NULL) {
		log_warn("session %u (%s@%s): login refused: %s", s->id, s->identity->user, s->host, error->text);
		reply_err(&out, c->seq, error->code, error->sqlstate, "%s", error->text);
		conn_write(&s->conn, out.data, out.len);
		buf_fini(&out);
		session_close(s, "login refused");
		return;
	}
	free(s->login_name);
	free(s->login_schema);
	free(s->pending);
	s->login_name = s->login_schema = NULL;
	s->pending = NULL;
	struct buf told = {0};
	if (s->want.schema != NULL)
		track_build(&told, &(struct track){.type = TRACK_SCHEMA, .value = slice_str(s->want.schema)});
	reply_ok(&out, c->seq, s->caps, 0, &(struct ok_packet){.status = s->status, .state = buf_slice(&told)});
	buf_fini(&told);
	int sent = session_send(s, out.data, out.len);
	buf_fini(&out);
	if (sent == 0)
		session_idle(s);
}

static void on_no_news(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;

	(void)fd;
	(void)what;
	login_accounts_came(s);
}

/* An account that is not known, or a password that is not right, may be newer than what was read of the server: the
 * accounts are read again at once, and the login is checked once more, when they came or the wait is over. */
static void look_again(struct session *s, struct slice user, struct slice answer, unsigned seq)
{
	struct login_pending *p = s->pending;

	if (p != NULL && (s->pw->accounts == NULL || s->pw->accounts->n == 0)) {
		refuse(s, seq + 1, CR_CONN_HOST_ERROR, "HY000",
		       "Sidetrack has not been able to read the accounts of any server: see its log, and [monitor] "
		       "user");
		return;
	}
	if (p != NULL) {
		s->pending = NULL;
		deny(s, seq + 1, user, answer.n > 0);
		free(p);
		return;
	}
	p = xcalloc(1, sizeof *p);
	snprintf(p->user, sizeof p->user, "%.*s", (int)user.n, (const char *)user.p);
	p->answer_len = answer.n < sizeof p->answer ? answer.n : sizeof p->answer;
	memcpy(p->answer, answer.p, p->answer_len);
	p->seq = seq;
	s->pending = p;
	s->step = SESSION_REFRESH;
	command_timer(s->command != NULL ? s->command : command_new(s), LOOK_AGAIN_MS, on_no_news);
	s->pw->proxy->services.poke(s->pw->proxy->services.arg, PROXY_POKE_ACCOUNTS);
}

static void check(struct session *s, struct slice user, struct slice answer, unsigned seq);

void login_accounts_came(struct session *s)
{
	struct login_pending p = *s->pending;

	command_timer_stop(s->command);
	check(s, slice_str(p.user), slice_of(p.answer, p.answer_len), p.seq);
}

/* Checks an answer made with mysql_native_password. */
static void check(struct session *s, struct slice user, struct slice answer, unsigned seq)
{
	const struct topology *t = s->pw->cluster.topology;
	const struct account *a = s->pw->accounts == NULL ? NULL
							  : accounts_find(s->pw->accounts, user, s->host,
									  t != NULL && t->skip_name_resolve);
	uint8_t stage1[AUTH_SHA1];
	char text[1024];

	if (a == NULL) {
		look_again(s, user, answer, seq);
		return;
	}
	switch (a->method) {
	case ACCOUNT_NATIVE:
		if (auth_native_verify(a->stored, s->salt, answer, stage1))
			accept_login(s, user, stage1, seq);
		else
			look_again(s, user, answer, seq);
		explicit_bzero(stage1, sizeof stage1);
		return;
	case ACCOUNT_EMPTY:
		if (answer.n == 0)
			accept_login(s, user, NULL, seq);
		else
			look_again(s, user, answer, seq);
		return;
	case ACCOUNT_LOCKED:
		refuse(s, seq + 1, 4151, "HY000", "Access denied, this account is locked");
		return;
	default:
		snprintf(text, sizeof text,
			 "Account '%s'@'%s' uses the plugin '%s', which Sidetrack does not speak yet: give its "
			 "password in [user.%s]",
			 a->user, a->host, a->plugin, a->user);
		refuse(s, seq + 1, ER_NOT_SUPPORTED_AUTH_MODE, "08004", text);
		return;
	}
}

static void ask_native(struct session *s, unsigned seq)
{
	struct buf out = {0};

	auth_switch_build(&out, seq + 1, NATIVE_PLUGIN, s->salt);
	s->step = SESSION_SWITCH;
	session_send(s, out.data, out.len);
	buf_fini(&out);
}

static void name_login(struct session *s, const struct login *l)
{
	free(s->login_name);
	free(s->login_schema);
	s->login_name = xstrndup((const char *)l->user.p, l->user.n);
	s->login_schema = xstrndup((const char *)l->db.p, l->db.n);
}

static bool speaks_native(const struct login *l)
{
	return !(l->caps & CAP_PLUGIN_AUTH) || l->plugin.n == 0 || slice_ieq(l->plugin, NATIVE_PLUGIN);
}

void login_packet(struct session *s, struct slice payload, unsigned seq)
{
	struct login l;

	if (s->step == SESSION_SWITCH) {
		check(s, slice_str(s->login_name), payload, seq);
		return;
	}
	if (login_parse(payload, &l) < 0 || seq != 1) {
		stats_error(s->pw->worker->stats, STAT_ERR_CLIENT_PROTOCOL);
		log_warn("session %u (%s): malformed handshake response", s->id, s->host);
		refuse(s, seq + 1, ER_HANDSHAKE_ERROR, "08S01", "Bad handshake");
		return;
	}
	if (l.ssl_request) {
		refuse(s, seq + 1, ER_HANDSHAKE_ERROR, "08S01",
		       "TLS was not offered by this proxy: connect without it");
		return;
	}
	const struct topology *t = s->pw->cluster.topology;
	/* What was offered; and where the client came to its own group behind the greeting, what that one can. */
	s->caps = l.caps & ((s->offered & offered_caps(t)) | CAP_MYSQL);
	s->xcaps = l.xcaps & s->xoffered & offered_xcaps(t);
	s->collation = l.collation;
	if (!(l.caps & CAP_CONNECT_WITH_DB))
		l.db.n = 0;
	name_login(s, &l);
	if (speaks_native(&l))
		check(s, l.user, l.answer, seq);
	else
		ask_native(s, seq);
}

void login_change_user(struct session *s, struct slice payload)
{
	struct command *c = s->command;
	struct login l;

	if (change_user_parse(payload, s->caps, &l) < 0) {
		session_error(s, ER_UNKNOWN_COM, "08S01", "Malformed packet");
		return;
	}
	if (l.collation != 0)
		s->collation = l.collation;
	name_login(s, &l);
	prepared_free_all(s);
	settle_drop_home(s); /* the old user's transaction, locks and state end */
	c->code = COM_CHANGE_USER;
	if (speaks_native(&l))
		check(s, l.user, l.answer, 0);
	else
		ask_native(s, 0);
}
