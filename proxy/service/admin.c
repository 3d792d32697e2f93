/* SPDX-License-Identifier: Apache-2.0 */
#include "service/admin.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/version.h"
#include "mysql/handshake.h"
#include "mysql/reply.h"
#include "service/admin_session.h"
#include "service/listen.h"

enum { LOGIN_MS = 10000, IDLE_MS = 3600 * 1000, PACKET_MS = 10000, SEND_SECONDS = 10 };

static const uint32_t CAPS = CAP_MYSQL | CAP_FOUND_ROWS | CAP_LONG_FLAG | CAP_CONNECT_WITH_DB | CAP_NO_SCHEMA |
			     CAP_IGNORE_SPACE | CAP_PROTOCOL_41 | CAP_INTERACTIVE | CAP_TRANSACTIONS |
			     CAP_SECURE_CONNECTION | CAP_MULTI_RESULTS | CAP_PLUGIN_AUTH | CAP_CONNECT_ATTRS |
			     CAP_PLUGIN_AUTH_LENENC | CAP_DEPRECATE_EOF;

struct client {
	struct admin *admin;
	pthread_t thread;
	int fd;
	enum { CLIENT_FREE, CLIENT_RUNNING, CLIENT_DONE } state; /* under the lock */
	bool is_unix;
	struct admin_session session;
};

struct admin {
	struct admin_ops ops;
	struct pollfd listeners[CONFIG_LISTENS + 1]; /* the last one: wakes the thread to stop */
	struct addr addrs[CONFIG_LISTENS];
	unsigned nlisten;
	pthread_t thread;
	pthread_mutex_t lock;
	struct client clients[ADMIN_CONNECTIONS];
	uint32_t next_id;
};

/* --- Packets over a blocking socket ----------------------------------------------------------------------------- */

/* Exactly n bytes before the deadline, or -1. */
static int read_full(int fd, uint8_t *p, size_t n, int64_t deadline_us)
{
	while (n > 0) {
		struct pollfd at = {.fd = fd, .events = POLLIN};
		int64_t left = deadline_us - topology_now_us();
		if (left <= 0 || poll(&at, 1, (int)(left / 1000) + 1) < 0)
			return -1;
		if (at.revents == 0)
			continue;
		ssize_t got = recv(fd, p, n, 0);
		if (got <= 0)
			return -1;
		p += got;
		n -= (size_t)got;
	}
	return 0;
}

/* One packet's payload. Returns 0, or -1: gone, silent, or larger than we take (which is answered). */
static int read_packet(int fd, struct buf *in, unsigned *seq, int64_t wait_ms)
{
	uint8_t header[PACKET_HEADER];

	buf_clear(in);
	if (read_full(fd, header, sizeof header, topology_now_us() + wait_ms * 1000) != 0)
		return -1;
	size_t n = get_u24(header);
	*seq = header[3];
	if (n > ADMIN_PACKET_MAX) {
		reply_err(in, *seq + 1, ER_NET_PACKET_TOO_LARGE, "08S01", "the admin port takes statements up to 1 MB");
		send(fd, in->data, in->len, MSG_NOSIGNAL);
		return -1;
	}
	buf_reserve(in, n);
	in->len = n;
	return read_full(fd, in->data, n, topology_now_us() + PACKET_MS * 1000);
}

static int send_all(int fd, struct buf *out)
{
	size_t done = 0;

	while (done < out->len) {
		ssize_t n = send(fd, out->data + done, out->len - done, MSG_NOSIGNAL);
		if (n <= 0)
			return -1;
		done += (size_t)n;
	}
	buf_clear(out);
	return 0;
}

/* --- Login ------------------------------------------------------------------------------------------------------ */

/* Without a password only those may in who may open our unix socket. */
static bool check_account(struct client *c, const struct login *login, const uint8_t salt[AUTH_SALT],
			  struct slice answer)
{
	struct config *config = c->admin->ops.config(c->admin->ops.arg);
	bool good = false;

	if (config->admin_password == NULL) {
		good = c->is_unix;
	} else {
		uint8_t stage1[AUTH_SHA1], stored[AUTH_SHA1], got[AUTH_SHA1];
		auth_stage1(slice_str(config->admin_password), stage1);
		auth_stored(stage1, stored);
		good = auth_native_verify(stored, salt, answer, got);
		good = slice_eq(login->user, slice_str(config->admin_user)) && good;
		explicit_bzero(stage1, sizeof stage1);
		explicit_bzero(got, sizeof got);
	}
	config_unref(config);
	return good;
}

static void peer_name(const struct client *c, char *host, size_t cap)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof sa;

	snprintf(host, cap, "localhost");
	if (c->is_unix || getpeername(c->fd, (struct sockaddr *)&sa, &len) != 0)
		return;
	if (sa.ss_family == AF_INET)
		inet_ntop(AF_INET, &((struct sockaddr_in *)&sa)->sin_addr, host, (socklen_t)cap);
	else
		inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&sa)->sin6_addr, host, (socklen_t)cap);
}

/* The answer to our salt; asks again where the client's default plugin is another one. Returns 0 or -1. */
static int get_answer(struct client *c, const struct login *login, const uint8_t salt[AUTH_SALT], unsigned *seq,
		      struct buf *more, struct slice *answer)
{
	struct buf out = {0};

	*answer = login->answer;
	if (login->plugin.n == 0 || slice_eq(login->plugin, slice_str(NATIVE_PLUGIN)))
		return 0;
	auth_switch_build(&out, *seq + 1, NATIVE_PLUGIN, salt);
	int rc = send_all(c->fd, &out) == 0 && read_packet(c->fd, more, seq, LOGIN_MS) == 0 ? 0 : -1;
	buf_fini(&out);
	*answer = buf_slice(more);
	return rc;
}

static int finish_login(struct client *c, const struct login *login, const uint8_t salt[AUTH_SALT], unsigned seq)
{
	struct admin_session *s = &c->session;
	struct buf out = {0}, more = {0};
	struct slice answer;
	char host[64];
	int rc = get_answer(c, login, salt, &seq, &more, &answer);

	if (rc == 0) {
		peer_name(c, host, sizeof host);
		snprintf(s->user, sizeof s->user, "%.*s@%s", (int)(login->user.n < 90 ? login->user.n : 90),
			 (const char *)login->user.p, host);
		snprintf(s->schema, sizeof s->schema, "%.*s", (int)(login->db.n < 64 ? login->db.n : 64),
			 (const char *)login->db.p);
		s->caps = login->caps & CAPS;
		if (check_account(c, login, salt, answer)) {
			const struct ok_packet ok = {.status = STATUS_AUTOCOMMIT};
			reply_ok(&out, seq + 1, s->caps, 0x00, &ok);
		} else {
			log_warn("admin port: %s was refused", s->user);
			reply_err(&out, seq + 1, ER_ACCESS_DENIED, "28000",
				  "Access denied for user %s to the admin port", s->user);
			rc = -1;
		}
		if (send_all(c->fd, &out) != 0)
			rc = -1;
	}
	buf_fini(&more);
	buf_fini(&out);
	return rc;
}

static int log_in(struct client *c, struct buf *in)
{
	struct greeting g = {.version = slice_str("5.5.5-" SIDETRACK_SERVER_VERSION), .thread_id = c->session.id,
			     .caps = CAPS, .collation = 45, .status = STATUS_AUTOCOMMIT,
			     .plugin = slice_str(NATIVE_PLUGIN)};
	struct buf out = {0};
	struct login login;
	unsigned seq;

	auth_salt(g.salt);
	greeting_build(&out, 0, &g);
	int rc = send_all(c->fd, &out) == 0 && read_packet(c->fd, in, &seq, LOGIN_MS) == 0 ? 0 : -1;
	bool good = rc == 0 && login_parse(buf_slice(in), &login) == 0;
	const char *unreadable = good ? login_unreadable(&login) : NULL;
	if (rc == 0 && (!good || unreadable != NULL)) {
		reply_err(&out, seq + 1, ER_HANDSHAKE_ERROR, "08S01", "%s",
			  unreadable != NULL ? unreadable : "Bad handshake");
		send_all(c->fd, &out);
		rc = -1;
	}
	if (rc == 0)
		rc = finish_login(c, &login, g.salt, seq);
	buf_fini(&out);
	return rc;
}

/* --- Connections ------------------------------------------------------------------------------------------------ */

static void *serve(void *arg)
{
	struct client *c = arg;
	struct buf in = {0}, out = {0};
	unsigned seq;

	if (log_in(c, &in) == 0)
		while (read_packet(c->fd, &in, &seq, IDLE_MS) == 0 &&
		       admin_command(&c->session, buf_slice(&in), &out) && send_all(c->fd, &out) == 0)
			;
	buf_fini(&in);
	buf_fini(&out);
	pthread_mutex_lock(&c->admin->lock);
	close(c->fd); /* under the lock: admin_stop must not shut down a number that means another file by then */
	c->fd = -1;
	c->state = CLIENT_DONE;
	pthread_mutex_unlock(&c->admin->lock);
	return NULL;
}

/* A free slot; joins threads that have ended. */
static struct client *free_slot(struct admin *a)
{
	struct client *found = NULL;

	for (unsigned i = 0; i < ADMIN_CONNECTIONS; i++) {
		struct client *c = &a->clients[i];
		pthread_mutex_lock(&a->lock);
		int state = c->state;
		pthread_mutex_unlock(&a->lock);
		if (state == CLIENT_DONE) {
			pthread_join(c->thread, NULL);
			c->state = state = CLIENT_FREE;
		}
		if (state == CLIENT_FREE)
			found = c;
	}
	return found;
}

static void refuse(int fd, const char *why)
{
	struct buf out = {0};

	reply_err(&out, 0, ER_CON_COUNT_ERROR, "08004", "%s", why);
	send(fd, out.data, out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
	buf_fini(&out);
	close(fd);
}

static void accept_one(struct admin *a, unsigned listener)
{
	const struct timeval limit = {.tv_sec = SEND_SECONDS};
	int fd = accept4(a->listeners[listener].fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE)
			usleep(100000); /* the connection stays queued: do not spin on it */
		return;
	}
	struct client *c = free_slot(a);
	if (c == NULL) {
		refuse(fd, "Too many connections to the admin port");
		return;
	}
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	*c = (struct client){.admin = a, .fd = fd, .state = CLIENT_RUNNING, .is_unix = a->addrs[listener].is_unix,
			     .session = {.ops = &a->ops, .id = ++a->next_id}};
	if (pthread_create(&c->thread, NULL, serve, c) != 0) {
		c->state = CLIENT_FREE;
		refuse(fd, "no thread could be started");
	}
}

static void *accept_all(void *arg)
{
	struct admin *a = arg;

	for (;;) {
		if (poll(a->listeners, a->nlisten + 1, -1) < 0)
			continue;
		if (a->listeners[a->nlisten].revents != 0)
			return NULL;
		for (unsigned i = 0; i < a->nlisten; i++)
			if (a->listeners[i].revents != 0)
				accept_one(a, i);
	}
}

/* --- Life ------------------------------------------------------------------------------------------------------- */

static void close_all(struct admin *a)
{
	for (unsigned i = 0; i < a->nlisten; i++) {
		close(a->listeners[i].fd);
		if (a->addrs[i].is_unix)
			unlink(a->addrs[i].host);
	}
	close(a->listeners[a->nlisten].fd);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

struct admin *admin_start(const struct admin_ops *ops, const struct config *config)
{
	struct admin *a = xcalloc(1, sizeof *a);
	bool good = true, tcp = false;

	a->ops = *ops;
	pthread_mutex_init(&a->lock, NULL);
	for (unsigned i = 0; good && i < config->nadmin; i++) {
		int fd = listen_on(&config->admin[i]);
		good = fd >= 0;
		a->addrs[i] = config->admin[i];
		tcp |= !a->addrs[i].is_unix;
		if (good)
			a->listeners[a->nlisten++] = (struct pollfd){.fd = fd, .events = POLLIN};
	}
	a->listeners[a->nlisten] = (struct pollfd){.fd = eventfd(0, EFD_CLOEXEC), .events = POLLIN};
	if (tcp && config->admin_password == NULL)
		log_warn("admin port: without [admin] password nobody may log in over TCP");
	if (good && pthread_create(&a->thread, NULL, accept_all, a) == 0)
		return a;
	close_all(a);
	return NULL;
}

void admin_stop(struct admin *a)
{
	const uint64_t one = 1;

	if (a == NULL)
		return;
	if (write(a->listeners[a->nlisten].fd, &one, sizeof one) != sizeof one)
		log_error("admin port: cannot wake its thread: %s", strerror(errno));
	pthread_join(a->thread, NULL);
	for (unsigned i = 0; i < ADMIN_CONNECTIONS; i++) {
		struct client *c = &a->clients[i];
		pthread_mutex_lock(&a->lock);
		int state = c->state;
		if (state == CLIENT_RUNNING)
			shutdown(c->fd, SHUT_RDWR);
		pthread_mutex_unlock(&a->lock);
		if (state != CLIENT_FREE)
			pthread_join(c->thread, NULL);
	}
	close_all(a);
}
