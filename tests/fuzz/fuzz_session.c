/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target: a whole session, from its client's socket to its servers', in one thread. The input is a script:
 * the first byte chooses the peers' capabilities and how far they are honest, then come steps of one byte (what) and
 * one more (which, or how many bytes follow). Nothing may crash, leak or hang, whatever client and servers say, and no
 * count of what is in use may be off in the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/config_table.h"
#include "base/log.h"
#include "base/mem.h"
#include "session/session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

enum {
	OPT_LOGIN = 1,
	OPT_SERVER_LOGIN = 2,
	OPT_REPLICA = 4,
	OPT_CLIENT_EOF = 8,
	OPT_SERVER_EOF = 16,
	OPT_TRACKED = 32,
	OPT_SCARCE = 64 /* one connection a server */
};
enum { LINKS = 24, TURNS = 4 };

struct link { /* a server's end of a connection */
	int fd;
	unsigned seq; /* of the next packet */
	bool logged_in;
	struct buf in;
};

static int listener = -1;
static struct sockaddr_un address;
static socklen_t address_len;

static unsigned options;
static struct proxy *proxy;
static struct proxy_worker *pw;
static struct worker *workers[1];
static struct link links[LINKS];
static unsigned nlinks, asked; /* the one that got the last command */
enum { CLIENTS = 2 };
static int clients[CLIENTS] = {-1, -1}, client = -1; /* whose turn it is */
static bool deaf;                                    /* clients do not read */

static void require(bool ok)
{
	if (!ok)
		abort();
}

/* --- the proxy -------------------------------------------------------------------------------------------------- */

static void poke(void *arg, enum proxy_poke what)
{
	(void)arg;
	(void)what;
}

static uint64_t catalog_request(void *arg)
{
	(void)arg;
	return 1;
}

static void report(void *arg, const char *line)
{
	(void)arg;
	fprintf(stderr, "%s\n", line);
}

static struct config *make_config(void)
{
	static const char text[] = "[proxy]\nworkers = 1\n[server.db1]\naddress = 127.0.0.1:1\n"
				   "[server.db2]\naddress = 127.0.0.1:2\n"
				   "[cache.token]\ntable = app.t\nkey = k\nexpires = e\nttl = 10m\n";
	const struct config_options o = {.unresolved = true};
	char *copy = xstrdup(text);
	struct config *c = config_load_text("fuzz", copy, strlen(copy), false, &o, report, NULL);

	free(copy);
	require(c != NULL);
	return c;
}

static struct topology *make_topology(struct server *const *servers, bool primary)
{
	struct topology *t = xcalloc(1, sizeof *t);

	t->refs = 1;
	t->primary = primary ? 0 : -1;
	t->n = options & OPT_REPLICA ? 2 : 1;
	t->max_replica_lag_us = INT64_MAX / 2;
	t->max_allowed_packet = 1 << 20;
	for (unsigned i = 0; i < t->n; i++) {
		struct server *s = servers != NULL ? server_ref(servers[i]) : xcalloc(1, sizeof *s);
		if (servers == NULL)
			s->refs = 1;
		s->id = i;
		snprintf(s->name, sizeof s->name, "db%u", i + 1);
		s->address.len = address_len;
		memcpy(&s->address.sa, &address, address_len);
		s->fresh_us = topology_now_us();
		t->views[i] = (struct server_view){.server = s,
						   .role = i > 0     ? ROLE_REPLICA
							   : primary ? ROLE_PRIMARY
								     : ROLE_UNKNOWN,
						   .state = SERVER_UP,
						   .weight = 1,
						   .max_connections = options & OPT_SCARCE ? 1 : 0};
	}
	return t;
}

static struct accounts *make_accounts(void)
{
	struct account *rows = xcalloc(1, sizeof *rows);

	strcpy(rows->user, "app");
	strcpy(rows->host, "%");
	rows->method = ACCOUNT_EMPTY;
	rows->usable = true;
	rows->expires_s = INT64_MAX;
	struct accounts *a = accounts_new(rows, 1, 1);
	atomic_store(&a->proved_us, INT64_MAX / 2); /* for ever */
	return a;
}

static struct catalog *make_catalog(void)
{
	struct catalog *c = catalog_new(1);

	c->complete = true;
	c->rules[0] = (struct catalog_rule){.found = true,
					    .compare = COMPARE_BINARY,
					    .expires = EXPIRES_DATETIME,
					    .columns = 3,
					    .sole_unique = true,
					    .key_bytes = 64};
	return c;
}

/* --- servers ---------------------------------------------------------------------------------------------------- */

static void say(int fd, struct slice bytes)
{
	while (bytes.n > 0) {
		ssize_t n = send(fd, bytes.p, bytes.n, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n <= 0)
			return; /* it is gone, or does not read: lost */
		bytes = slice_of(bytes.p + n, bytes.n - (size_t)n);
	}
}

static void say_packet(int fd, unsigned seq, struct slice payload)
{
	struct buf b = {0};
	size_t start = packet_begin(&b, seq);

	buf_put(&b, payload.p, payload.n);
	packet_end(&b, start);
	say(fd, buf_slice(&b));
	buf_fini(&b);
}

static uint32_t server_caps(void)
{
	return CAP_PROTOCOL_41 | CAP_SECURE_CONNECTION | CAP_PLUGIN_AUTH | CAP_SESSION_TRACK | CAP_TRANSACTIONS |
	       CAP_MULTI_STATEMENTS | CAP_MULTI_RESULTS | CAP_PS_MULTI_RESULTS | CAP_CONNECT_WITH_DB |
	       (options & OPT_SERVER_EOF ? 0 : CAP_DEPRECATE_EOF);
}

static void greet(struct link *l)
{
	struct greeting g = {.version = slice_str("5.5.5-10.11.6-MariaDB"),
			     .thread_id = 7,
			     .caps = server_caps(),
			     .collation = 45,
			     .status = STATUS_AUTOCOMMIT,
			     .plugin = slice_str(NATIVE_PLUGIN)};
	struct buf b = {0};

	memset(g.salt, 's', sizeof g.salt);
	greeting_build(&b, 0, &g);
	say(l->fd, buf_slice(&b));
	buf_fini(&b);
}

static void put_rows(struct buf *b, unsigned *seq, unsigned columns, unsigned rows, unsigned status)
{
	static const char *const names[] = {"k", "v", "c", "d", "e"};
	static const struct slice values[] = {{(const uint8_t *)"utf8mb4", 7},
					      {(const uint8_t *)"utf8mb4", 7},
					      {(const uint8_t *)"", 0},
					      {(const uint8_t *)"utf8mb4_bin", 11},
					      {(const uint8_t *)"", 0}};

	reply_columns(b, seq, server_caps(), status, names, columns);
	for (unsigned i = 0; i < rows; i++)
		reply_row(b, seq, values, columns);
	reply_rows_end(b, seq, server_caps(), status);
}

/* The answer to DEFAULTS_QUERY: some servers' differ. */
static void put_defaults(struct buf *b, unsigned *seq, bool other)
{
	static const char *const names[] = {"VARIABLE_NAME", "SESSION_VALUE"};
	static const char *const values[][2] = {
		{"SQL_MODE", ""},
		{"TIME_ZONE", "SYSTEM"},
		{"CHARACTER_SET_CLIENT", "utf8mb4"},
		{"CHARACTER_SET_RESULTS", "utf8mb4"},
		{"COLLATION_CONNECTION", "utf8mb4_bin"},
		{"role", ""},
	};

	reply_columns(b, seq, server_caps(), STATUS_AUTOCOMMIT, names, 2);
	for (unsigned i = 0; i < 24; i++) {
		char name[16];
		snprintf(name, sizeof name, "V%u", i);
		bool known = i < sizeof values / sizeof *values;
		const struct slice row[] = {slice_str(known ? values[i][0] : name),
					    slice_str(known ? values[i][1] : i == 20 && other ? "1" : "0")};
		reply_row(b, seq, row, 2);
	}
	reply_rows_end(b, seq, server_caps(), STATUS_AUTOCOMMIT);
}

enum canned {
	CANNED_OK,
	CANNED_TRACKED,
	CANNED_GTID,
	CANNED_ROW,
	CANNED_ROWS_MORE,
	CANNED_READ_ONLY,
	CANNED_ERROR,
	CANNED_IN_TRANS,
	CANNED_PREPARED,
	CANNED_PINNED,
	CANNED_MANY_ROWS,
	CANNED_OK_MORE,
	CANNED_LOCKS,
	CANNED
};

static void put_tracked(struct buf *b, unsigned *seq, unsigned status, unsigned type, const char *name,
			const char *value)
{
	struct buf state = {0};

	track_build(&state, &(struct track){.type = (uint8_t)type, .name = slice_str(name), .value = slice_str(value)});
	reply_ok(b, (*seq)++, CAP_SESSION_TRACK, 0,
		 &(struct ok_packet){
			 .affected = 1, .insert_id = 3, .status = (uint16_t)status, .state = buf_slice(&state)});
	buf_fini(&state);
}

static void put_canned(struct buf *b, unsigned *seq, enum canned which)
{
	static const uint8_t prepared[] = {0, 5, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0};
	struct ok_packet ok = {.status = STATUS_AUTOCOMMIT};
	size_t start;

	switch (which) {
	case CANNED_TRACKED: put_tracked(b, seq, STATUS_AUTOCOMMIT, TRACK_SYSTEM_VARIABLES, "sql_mode", "it's"); break;
	case CANNED_GTID: put_tracked(b, seq, STATUS_AUTOCOMMIT, TRACK_SYSTEM_VARIABLES, "last_gtid", "0-1-5"); break;
	case CANNED_PINNED: put_tracked(b, seq, STATUS_AUTOCOMMIT, TRACK_STATE_CHANGE, "", "1"); break;
	case CANNED_LOCKS: put_tracked(b, seq, STATUS_AUTOCOMMIT, TRACK_TRANSACTION_STATE, "", "_______L"); break;
	case CANNED_ROW: put_rows(b, seq, 2, 1, STATUS_AUTOCOMMIT); break;
	case CANNED_ROWS_MORE: put_rows(b, seq, 2, 2, STATUS_AUTOCOMMIT | STATUS_MORE_RESULTS); break;
	case CANNED_MANY_ROWS: put_rows(b, seq, 5, 3000, STATUS_AUTOCOMMIT); break;
	case CANNED_READ_ONLY: reply_err(b, (*seq)++, ER_OPTION_PREVENTS_STATEMENT, "HY000", "read-only"); break;
	case CANNED_ERROR: reply_err(b, (*seq)++, ER_PARSE_ERROR, "42000", "no"); break;
	case CANNED_PREPARED: /* one column, one parameter */
		start = packet_begin(b, (*seq)++);
		buf_put(b, prepared, sizeof prepared);
		packet_end(b, start);
		for (unsigned i = 0; i < 2; i++) {
			start = packet_begin(b, (*seq)++);
			buf_put_str(b, "\3def");
			packet_end(b, start);
			if (options & OPT_SERVER_EOF)
				reply_eof(b, (*seq)++, 0, STATUS_AUTOCOMMIT);
		}
		break;
	default:
		ok.status |= which == CANNED_IN_TRANS  ? STATUS_IN_TRANS
			     : which == CANNED_OK_MORE ? STATUS_MORE_RESULTS
						       : 0;
		reply_ok(b, (*seq)++, CAP_SESSION_TRACK, 0, &ok);
		break;
	}
}

static void answer(struct link *l, enum canned which)
{
	struct buf b = {0};

	put_canned(&b, &l->seq, which);
	say(l->fd, buf_slice(&b));
	buf_fini(&b);
}

static bool begins(struct slice s, const char *with)
{
	return s.n >= strlen(with) && memcmp(s.p, with, strlen(with)) == 0;
}

/* An honest server logs in and answers what the proxy asks for itself; the script answers the rest. */
static void take_command(struct link *l, struct slice payload, unsigned seq)
{
	struct buf b = {0};

	l->seq = seq + 1;
	asked = (unsigned)(l - links);
	if (!(options & OPT_SERVER_LOGIN))
		return;
	if (!l->logged_in || begins(payload, "\x1f") || begins(payload, "\3SET ")) {
		l->logged_in = true;
		answer(l, CANNED_OK);
	} else if (begins(payload, "\3SELECT VARIABLE_NAME")) {
		put_defaults(&b, &l->seq, (l - links) & 1);
		say(l->fd, buf_slice(&b));
		buf_fini(&b);
	} else if (begins(payload, "\3SELECT MD5(CONCAT_WS(")) {
		static const char *const names[] = {"m", "d", "i"};
		const char *mark = "0123456789abcdef0123456789abcdef";
		const struct slice row[] = {slice_str(mark), slice_str(""), slice_str("0")};
		reply_columns(&b, &l->seq, server_caps(), STATUS_AUTOCOMMIT, names, 3);
		reply_row(&b, &l->seq, row, 3);
		reply_rows_end(&b, &l->seq, server_caps(), STATUS_AUTOCOMMIT);
		say(l->fd, buf_slice(&b));
		buf_fini(&b);
	}
}

static void serve(struct link *l)
{
	uint8_t some[4096];
	ssize_t n;

	while (l->fd >= 0 && (n = recv(l->fd, some, sizeof some, MSG_DONTWAIT)) > 0)
		buf_put(&l->in, some, (size_t)n);
	while (l->in.len >= PACKET_HEADER && l->in.len >= PACKET_HEADER + (size_t)get_u24(l->in.data)) {
		size_t len = get_u24(l->in.data);
		take_command(l, slice_of(l->in.data + PACKET_HEADER, len), l->in.data[3]);
		buf_consume(&l->in, PACKET_HEADER + len);
	}
}

static void accept_links(void)
{
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		if (nlinks == LINKS) {
			close(fd);
			continue;
		}
		links[nlinks] = (struct link){.fd = fd};
		if (options & OPT_SERVER_LOGIN)
			greet(&links[nlinks]);
		asked = nlinks++;
	}
}

static void hang_up(struct link *l)
{
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
	buf_fini(&l->in);
}

/* --- the script ------------------------------------------------------------------------------------------------- */

static void pump(void)
{
	uint8_t some[65536];

	for (unsigned i = 0; i < TURNS; i++) {
		worker_turn(pw->worker, false);
		accept_links();
		for (unsigned k = 0; k < nlinks; k++)
			serve(&links[k]);
		for (unsigned k = 0; k < CLIENTS && !deaf; k++)
			while (clients[k] >= 0 && recv(clients[k], some, sizeof some, MSG_DONTWAIT) > 0)
				;
	}
}

static const struct {
	const char *bytes;
	size_t n;
} commands[] = {
#define COMMAND(s)                                                                                                     \
	{                                                                                                              \
		s, sizeof(s) - 1                                                                                       \
	}
	COMMAND("\3SELECT v FROM app.t WHERE k = 'a'"),
	COMMAND("\3SELECT 1"),
	COMMAND("\3INSERT INTO app.t VALUES ('a', 1)"),
	COMMAND("\3UPDATE app.t SET v = 1 WHERE k = 'a'"),
	COMMAND("\3BEGIN"),
	COMMAND("\3COMMIT"),
	COMMAND("\3START TRANSACTION READ ONLY"),
	COMMAND("\3SET @a = 1"),
	COMMAND("\3SET NAMES latin1"),
	COMMAND("\3USE other"),
	COMMAND("\2app"),
	COMMAND("\x16SELECT v FROM app.t WHERE k = ?"),
	COMMAND("\x17\1\0\0\0\0\1\0\0\0\0\1\xfe\0\1a"),
	COMMAND("\x18\1\0\0\0\0\0long"),
	COMMAND("\x19\1\0\0\0"),
	COMMAND("\x1a\1\0\0\0"),
	COMMAND("\x1f"),
	COMMAND("\21app\0\0app\0-\0mysql_native_password\0"),
	COMMAND("\x0e"),
	COMMAND("\x09"),
	COMMAND("\4t\0"),
	COMMAND("\3CREATE TEMPORARY TABLE t (a INT)"),
	COMMAND("\3SHOW WARNINGS"),
	COMMAND("\3SELECT LAST_INSERT_ID()"),
	COMMAND("\3SELECT 1; SELECT 2"),
	COMMAND("\3CALL p()"),
	COMMAND("\3ALTER TABLE app.t ADD c INT"),
	COMMAND("\x17\xff\xff\xff\xff\0\1\0\0\0"),
	COMMAND("\x1b\0\0"),
	COMMAND("\x1c\1\0\0\0\1\0\0\0"),
	COMMAND("\x01"),
};

static void log_in(void)
{
	struct login l = {.caps = CAP_PROTOCOL_41 | CAP_SECURE_CONNECTION | CAP_PLUGIN_AUTH | CAP_MULTI_STATEMENTS |
				  CAP_MULTI_RESULTS | CAP_PS_MULTI_RESULTS,
			  .max_packet = 1 << 24,
			  .collation = 45,
			  .user = slice_str("app"),
			  .plugin = slice_str(NATIVE_PLUGIN)};
	struct buf b = {0};

	l.caps |= (options & OPT_CLIENT_EOF ? 0 : CAP_DEPRECATE_EOF) | (options & OPT_TRACKED ? CAP_SESSION_TRACK : 0);
	login_build(&b, 1, &l);
	say(client, buf_slice(&b));
	buf_fini(&b);
}

/* What comes from outside of the session. */
static void event(unsigned which)
{
	struct server *servers[] = {pw->cluster.topology->views[0].server, pw->cluster.topology->views[1].server};
	struct session *s = LIST_FIRST(&pw->sessions);
	struct config *config;

	switch (which) {
	case 0: /* time passes */
		TAILQ_FOREACH(s, &pw->lingering, linger_link)
		s->witness_since = 0;
		if (!TAILQ_EMPTY(&pw->lingering))
			event_active(&pw->linger_tick, EV_TIMEOUT, 0);
		event_active(&pw->cluster.sweeper, EV_TIMEOUT, 0);
		break;
	case 1:
	case 2: proxy_publish_topology(proxy, make_topology(servers, which == 2)); break;
	case 3:
		config = make_config();
		proxy_reload(proxy, config);
		config_unref(config);
		break;
	case 4: proxy_publish_catalog(proxy, make_catalog()); break;
	case 5:
		proxy_publish_accounts(proxy, make_accounts());
		proxy_new_epoch(proxy);
		break;
	case 6: proxy_drain(proxy); break;
	default:
		if (s != NULL)
			proxy_kill(proxy, s->id);
		break;
	}
}

static void step(unsigned what, unsigned arg, struct reader *in)
{
	struct link *l = &links[asked];
	bool takes_bytes = what < 4;
	struct slice bytes = rd_bytes(in, !takes_bytes ? 0 : arg < rd_left(in) ? arg : rd_left(in));
	unsigned which = arg % (sizeof commands / sizeof *commands);

	switch (what) {
	case 0: say_packet(client, 0, bytes); break;
	case 1: say(client, bytes); break;
	case 2: say_packet(l->fd, l->seq++, bytes); break;
	case 3: say(l->fd, bytes); break;
	case 4: say_packet(client, 0, slice_of(commands[which].bytes, commands[which].n)); break;
	case 5: answer(l, (enum canned)(arg % CANNED)); break;
	case 6:
		asked = nlinks > 0 ? arg % nlinks : 0; /* another server speaks */
		return;
	case 7:
		if (arg & 1)
			hang_up(l);
		else
			shutdown(client, arg & 2 ? SHUT_WR : SHUT_RDWR);
		break;
	case 8: client = clients[arg % CLIENTS]; return;
	case 9: deaf = arg & 1; break;
	default: event(arg & 7); break;
	}
	pump();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	log_set_level(LOG_LEVEL_ERROR);
	address.sun_family = AF_UNIX; /* an abstract name: nothing to clean up */
	int n = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "st-fuzz-%d", (int)getpid());
	address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	require(bind(listener, (struct sockaddr *)&address, address_len) == 0 && listen(listener, 64) == 0);
	return 0;
}

static void up(void)
{
	static const struct proxy_services services = {NULL, poke, catalog_request, catalog_request};
	static const struct sockaddr_storage peer = {.ss_family = AF_UNIX};
	struct config *config = make_config();

	workers[0] = worker_new(0);
	proxy = proxy_new(workers, 1, config, freshness_new(), &services);
	config_unref(config);
	proxy->groups = &proxy;
	proxy->ngroups = 1;
	pw = proxy->workers[0];
	proxy_publish_topology(proxy, make_topology(NULL, true));
	proxy_publish_accounts(proxy, make_accounts());
	proxy_publish_catalog(proxy, make_catalog());
	worker_turn(pw->worker, false);
	for (unsigned i = 0; i < CLIENTS; i++) {
		int fds[2], small = 8192;
		require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
		setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
		client = clients[i] = fds[0];
		atomic_fetch_add(&pw->worker->load, 1);
		atomic_fetch_add(&proxy->clients, 1);
		session_open(pw, fds[1], &peer, options & OPT_LOGIN ? HEADER_NEVER : HEADER_MAY);
	}
	deaf = false;
}

static void down(void)
{
	struct freshness *f = proxy->freshness;
	struct topology *t = topology_ref(pw->cluster.topology);

	while (!LIST_EMPTY(&pw->sessions))
		session_close(LIST_FIRST(&pw->sessions), "the end");
	worker_turn(pw->worker, false);
	require(proxy_clients(proxy) == 0 && atomic_load(&pw->worker->load) == 0);
	require(budget_used() == 0 && !budget_somebody_waits() && atomic_load(&proxy->prepared) == 0);
	for (unsigned i = 0; i < t->n; i++)
		require(atomic_load(&t->views[i].server->outstanding) == 0);
	proxy_free(proxy);
	worker_free(workers[0]);
	for (unsigned i = 0; i < t->n; i++)
		require(atomic_load(&t->views[i].server->connections) == 0);
	topology_unref(t);
	freshness_free(f);
	accept_links(); /* connects that were under way */
	for (unsigned i = 0; i < nlinks; i++)
		hang_up(&links[i]);
	nlinks = asked = 0;
	links[0].fd = -1;
	for (unsigned i = 0; i < CLIENTS; i++) {
		close(clients[i]);
		clients[i] = -1;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reader in = reader_of(slice_of(data, size));

	if (size == 0 || size > 2000)
		return 0;
	options = rd_u8(&in);
	links[0].fd = -1;
	up();
	pump();
	for (unsigned i = 0; i < CLIENTS && (options & OPT_LOGIN); i++) {
		client = clients[i];
		log_in();
	}
	client = clients[0];
	pump();
	while (rd_left(&in) >= 2) {
		unsigned what = rd_u8(&in) % 11, arg = rd_u8(&in);
		step(what, arg, &in);
	}
	down();
	return 0;
}
