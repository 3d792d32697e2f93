/* SPDX-License-Identifier: Apache-2.0
 *
 * The connection phase: the greeting looks like the primary's own; the answer is checked against the account hash, and
 * gives what is needed to log in to servers as that user (design: applications keep their credentials).
 */
#include "session/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"

enum { LOOK_AGAIN_MS = 1500, /* for accounts that are read again; a server that answers does so in much less */
       PATIENCE_US = 6000000, /* and when they are known to have changed */
       FAILED_CHANGES = 3,   /* a session may have so many, as at a server: then the command is not known any more */
       CHANGE_USER_MAX = 65536 };

/* Who a session is that asks to be another user. When that fails it goes on as before, but anew: its transaction, state
 * and statements are gone, as at a server, and its character set is the server's own. */
struct former {
	struct identity *identity; /* NULL while it is the session's own still */
	char *schema;
};

/* What we offer: what the primary can, less what is not there yet (TLS, compression, LOCAL INFILE, bulk, progress). */
static uint32_t offered_caps(const struct topology *t)
{
	uint32_t known = CAP_FOUND_ROWS | CAP_LONG_FLAG | CAP_CONNECT_WITH_DB | CAP_NO_SCHEMA | CAP_ODBC |
			 CAP_IGNORE_SPACE | CAP_PROTOCOL_41 | CAP_INTERACTIVE | CAP_IGNORE_SIGPIPE | CAP_TRANSACTIONS |
			 CAP_RESERVED | CAP_SECURE_CONNECTION | CAP_MULTI_STATEMENTS | CAP_MULTI_RESULTS |
			 CAP_PS_MULTI_RESULTS | CAP_PLUGIN_AUTH | CAP_CONNECT_ATTRS | CAP_PLUGIN_AUTH_LENENC |
			 CAP_EXPIRED_PASSWORDS | CAP_SESSION_TRACK | CAP_DEPRECATE_EOF;

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

void login_forget(struct session *s)
{
	if (s->former != NULL) {
		if (s->former->identity != NULL)
			identity_put(&s->pw->cluster, &s->former->identity);
		free(s->former->schema);
	}
	free(s->former);
	free(s->login_name);
	free(s->login_schema);
	free(s->pending);
	s->former = NULL;
	s->login_name = s->login_schema = NULL;
	s->pending = NULL;
}

/* COM_CHANGE_USER has failed. */
static void stay(struct session *s)
{
	struct cluster *cluster = &s->pw->cluster;
	const struct topology *t = cluster->topology;
	struct former *f = s->former;
	struct identity *old = f->identity != NULL ? f->identity : s->identity;

	if (t != NULL && t->collation != 0)
		s->collation = t->collation;
	if (f->identity != NULL)
		identity_put(cluster, &s->identity);
	f->identity = NULL;
	s->identity = identity_get(cluster, slice_str(old->user), old->has_password ? old->stage1 : NULL, old->caps,
				   old->xcaps, s->collation);
	identity_put(cluster, &old);
	s->failed_changes++;
	track_reset(s);
	idle_logged_in(s);
	if (f->schema != NULL)
		state_set_schema(&s->want, slice_str(f->schema));
	login_forget(s);
	session_idle(s);
}

/* Ends the login with an error and, when it was the first, the connection with it. */
static void refuse(struct session *s, unsigned seq, unsigned code, const char *sqlstate, const char *text)
{
	struct buf out = {0};

	stats_error(s->pw->worker->stats, STAT_ERR_AUTH);
	reply_err(&out, seq, code, sqlstate, "%s", text);
	int sent = conn_write(&s->conn, out.data, out.len);
	buf_fini(&out);
	if (s->former != NULL && sent == 0)
		stay(s);
	else
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

/* The login is right: state as after a login at a server. One whose password has expired gets server connections of its
 * own kind, in which the server itself allows it nothing but to set another. */
static void accept_login(struct session *s, struct slice user, const uint8_t *stage1, bool expired, unsigned seq)
{
	struct cluster *cluster = &s->pw->cluster;
	struct identity *old = s->identity;
	uint32_t caps = identity_caps(s->caps) | (expired ? CAP_EXPIRED_PASSWORDS : 0);

	s->collation = s->login_collation;
	s->identity = identity_get(cluster, user, stage1, caps, identity_xcaps(s->xcaps), s->collation);
	if (s->former != NULL)
		s->former->identity = old;
	s->rights.serial = 0;
	s->sandboxed = expired;
	s->context.made = false;
	event_del(&s->deadline);
	track_reset(s);
	idle_logged_in(s);
	struct command *c = s->command != NULL ? s->command : command_new(s);
	c->seq = (uint8_t)(seq + 1);
	c->pings = true;
	if (s->login_schema != NULL && s->login_schema[0] != '\0' && !expired) {
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
		struct backend_error e = *error;
		log_warn("session %u (%s@%s): login refused: %s", s->id, s->identity->user, s->host, e.text);
		refuse(s, c->seq, e.code, e.sqlstate, e.text);
		return;
	}
	login_forget(s);
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

static void check(struct session *s, struct slice user, struct slice answer, unsigned seq);

static void check_again(struct session *s)
{
	struct login_pending p = *s->pending;

	command_timer_stop(s->command);
	check(s, slice_str(p.user), slice_of(p.answer, p.answer_len), p.seq);
}

void login_accounts_came(struct session *s)
{
	if (atomic_load_explicit(&s->pw->accounts->generation, memory_order_acquire) >= s->pending->asked)
		check_again(s);
}

/* Has something passed that may have changed accounts, and they were not read since? */
static bool outdated(const struct session *s)
{
	const struct accounts *a = s->pw->accounts;

	return a != NULL && atomic_load_explicit(&a->generation, memory_order_acquire) <
				    atomic_load_explicit(&s->pw->proxy->accounts_needed, memory_order_acquire);
}

static void on_no_news(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;

	(void)fd;
	(void)what;
	if (outdated(s) && topology_now_us() < s->pending->patience_us)
		command_timer(s->command, LOOK_AGAIN_MS, on_no_news);
	else
		check_again(s);
}

/* The accounts are read again, and the login is checked when they came or the wait is over. */
static void look_again(struct session *s, struct slice user, struct slice answer, unsigned seq)
{
	struct login_pending *p = xcalloc(1, sizeof *p);

	snprintf(p->user, sizeof p->user, "%.*s", (int)user.n, (const char *)user.p);
	p->answer_len = answer.n < sizeof p->answer ? answer.n : sizeof p->answer;
	memcpy(p->answer, answer.p, p->answer_len);
	p->seq = seq;
	p->asked = s->pw->proxy->services.accounts_request(s->pw->proxy->services.arg);
	p->patience_us = topology_now_us() + PATIENCE_US;
	s->pending = p;
	s->step = SESSION_REFRESH;
	command_timer(s->command != NULL ? s->command : command_new(s), LOOK_AGAIN_MS, on_no_news);
}

/* What the server would say of a login, in its order: the password, TLS, a lock, the password's age. */
enum login_verdict { LOGIN_RIGHT, LOGIN_EXPIRED, LOGIN_DENIED, LOGIN_LOCKED, LOGIN_TURNED_AWAY, LOGIN_PLUGIN };

static enum login_verdict judge(const struct session *s, const struct account *a, struct slice answer,
				uint8_t stage1[AUTH_SHA1])
{
	if (a == NULL)
		return LOGIN_DENIED;
	if (a->method == ACCOUNT_UNSUPPORTED)
		return LOGIN_PLUGIN;
	if (a->method == ACCOUNT_EMPTY ? answer.n > 0 : !auth_native_verify(a->stored, s->salt, answer, stage1))
		return LOGIN_DENIED;
	if (a->configured) /* it is the server's to say */
		return LOGIN_RIGHT;
	if (a->needs_tls)
		return LOGIN_DENIED;
	if (a->locked)
		return LOGIN_LOCKED;
	if (a->expires_s == INT64_MAX || time(NULL) < a->expires_s)
		return LOGIN_RIGHT;
	return s->pw->accounts->turns_away_expired && !(s->caps & CAP_EXPIRED_PASSWORDS) ? LOGIN_TURNED_AWAY
											 : LOGIN_EXPIRED;
}

static void tell_refusal(struct session *s, enum login_verdict verdict, const struct account *a, struct slice user,
			 bool with_password, unsigned seq)
{
	char text[1024];

	switch (verdict) {
	case LOGIN_LOCKED:
		refuse(s, seq + 1, ER_ACCOUNT_HAS_BEEN_LOCKED, "HY000", "Access denied, this account is locked");
		return;
	case LOGIN_TURNED_AWAY:
		refuse(s, seq + 1, ER_MUST_CHANGE_PASSWORD_LOGIN, "HY000",
		       "Your password has expired. To log in you must change it using a client that supports expired "
		       "passwords");
		return;
	case LOGIN_PLUGIN:
		snprintf(text, sizeof text,
			 "Account '%s'@'%s' uses the plugin '%s', which Sidetrack does not speak yet: give its "
			 "password in [user.%s]",
			 a->user, a->host, a->plugin, a->user);
		refuse(s, seq + 1, ER_NOT_SUPPORTED_AUTH_MODE, "08004", text);
		return;
	default:
		break;
	}
	if (s->pw->accounts == NULL || s->pw->accounts->n == 0)
		refuse(s, seq + 1, ER_SERVER_SHUTDOWN, "08S01",
		       "Sidetrack has not been able to read the accounts of any server: see its log, and [monitor] "
		       "user");
	else
		deny(s, seq + 1, user, with_password);
}

/* Checks an answer made with mysql_native_password. Nobody is refused by what may be out of date, nor let in by what is
 * known to be. */
static void check(struct session *s, struct slice user, struct slice answer, unsigned seq)
{
	const struct topology *t = s->pw->cluster.topology;
	const struct account *a = s->pw->accounts == NULL ? NULL
							  : accounts_find(s->pw->accounts, user, s->host,
									  t != NULL && t->skip_name_resolve);
	uint8_t stage1[AUTH_SHA1];
	enum login_verdict verdict = judge(s, a, answer, stage1);
	bool right = verdict == LOGIN_RIGHT || verdict == LOGIN_EXPIRED;

	if (s->pending == NULL && (!right || outdated(s))) {
		look_again(s, user, answer, seq);
	} else if (right && outdated(s)) {
		refuse(s, seq + 1, CR_CONN_HOST_ERROR, "HY000",
		       "Sidetrack could not read the accounts again, which have changed: see its log");
	} else if (right) {
		accept_login(s, user, a->method == ACCOUNT_NATIVE ? stage1 : NULL, verdict == LOGIN_EXPIRED, seq);
	} else {
		free(s->pending);
		s->pending = NULL;
		tell_refusal(s, verdict, a, user, answer.n > 0, seq);
	}
	explicit_bzero(stage1, sizeof stage1);
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
	s->login_collation = l->collation != 0 || s->former == NULL ? l->collation : s->collation;
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
	if (login_unreadable(&l) != NULL) {
		refuse(s, seq + 1, ER_HANDSHAKE_ERROR, "08S01", login_unreadable(&l));
		return;
	}
	const struct topology *t = s->pw->cluster.topology;
	/* What was offered; and where the client came to its own group behind the greeting, what that one can. */
	s->caps = l.caps & ((s->offered & offered_caps(t)) | CAP_MYSQL);
	s->xcaps = l.xcaps & s->xoffered & offered_xcaps(t);
	if (!(l.caps & CAP_CONNECT_WITH_DB))
		l.db.n = 0;
	name_login(s, &l);
	if (speaks_native(&l))
		check(s, l.user, l.answer, seq);
	else
		ask_native(s, seq);
}

static void remember_former(struct session *s)
{
	struct former *f = xcalloc(1, sizeof *f);

	f->schema = s->want.schema != NULL ? xstrdup(s->want.schema) : NULL;
	s->former = f;
}

void login_change_user(struct session *s, struct slice payload)
{
	struct command *c = s->command;
	struct login l;

	if (s->failed_changes >= FAILED_CHANGES) {
		session_error(s, ER_UNKNOWN_COM, "08S01", "Unknown command");
		return;
	}
	prepared_free_all(s);
	home_drop(s); /* the old user's transaction, locks and state end */
	remember_former(s);
	if (payload.n > CHANGE_USER_MAX || change_user_parse(payload, s->caps, &l) < 0) {
		refuse(s, 1, ER_UNKNOWN_COM, "08S01", "Unknown command");
		return;
	}
	name_login(s, &l);
	c->code = COM_CHANGE_USER;
	if (speaks_native(&l))
		check(s, l.user, l.answer, 0);
	else
		ask_native(s, 0);
}
