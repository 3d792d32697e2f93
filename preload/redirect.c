/* SPDX-License-Identifier: Apache-2.0 */
#include "redirect.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "peers.h"
#include "proxyv2.h"

/* How long a proxy that does not answer may hold a program up before the real destination is tried. A refusal comes
 * at once; this is for a proxy that hangs, or whose machine is gone. A program that asked not to be blocked is an event
 * loop: it gets little patience. */
enum { BLOCKING_MS = 1000, NONBLOCKING_MS = 50 };

struct attempt {
	const struct rules *rules;
	const struct endpoint *wanted;
	int fd;          /* what is connected: the program's socket or its replacement */
	bool own;        /* fd is a replacement */
	bool nonblocking;
};

static int option(int fd, int level, int name, int otherwise)
{
	int v = otherwise;
	socklen_t n = sizeof(v);

	return getsockopt(fd, level, name, &v, &n) == 0 ? v : otherwise;
}

/* TCP and unix streams. A datagram to the same port is not the database's. */
static bool is_stream(int fd, int *family)
{
	int protocol = option(fd, SOL_SOCKET, SO_PROTOCOL, -1);

	*family = option(fd, SOL_SOCKET, SO_DOMAIN, AF_UNSPEC);
	if (option(fd, SOL_SOCKET, SO_TYPE, -1) != SOCK_STREAM)
		return false;
	return *family == AF_UNIX || protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP;
}

static void copy_option(int from, int to, int level, int name, socklen_t size)
{
	char value[sizeof(struct timeval)];
	socklen_t n = size;

	if (getsockopt(from, level, name, value, &n) == 0 && n == size)
		setsockopt(to, level, name, value, n); /* best effort: some need privileges, some suit TCP only */
}

static int make_like(int fd, int family, bool nonblocking)
{
	static const int of_socket[] = {SO_KEEPALIVE, SO_PRIORITY, SO_MARK, SO_OOBINLINE};
	static const int of_tcp[] = {TCP_NODELAY, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_USER_TIMEOUT};
	int made = socket(family, SOCK_STREAM | SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0), 0);

	if (made < 0)
		return -1;
	for (size_t i = 0; i < sizeof(of_socket) / sizeof(of_socket[0]); i++)
		copy_option(fd, made, SOL_SOCKET, of_socket[i], sizeof(int));
	for (size_t i = 0; i < sizeof(of_tcp) / sizeof(of_tcp[0]); i++)
		copy_option(fd, made, IPPROTO_TCP, of_tcp[i], sizeof(int));
	copy_option(fd, made, SOL_SOCKET, SO_LINGER, sizeof(struct linger));
	copy_option(fd, made, SOL_SOCKET, SO_RCVTIMEO, sizeof(struct timeval));
	copy_option(fd, made, SOL_SOCKET, SO_SNDTIMEO, sizeof(struct timeval));
	return made;
}

/* The proxy's address in the terms of the program's socket; where there is none, a socket that has one. */
static bool choose_socket(struct attempt *a, int family, struct endpoint *to)
{
	*to = a->rules->to;
	if (to->u.sa.sa_family == family)
		return true;
	if (family == AF_INET6 && to->u.sa.sa_family == AF_INET &&
	    option(a->fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) == 0) {
		*to = endpoint_mapped(to);
		return true;
	}
	a->fd = make_like(a->fd, to->u.sa.sa_family, a->nonblocking);
	a->own = true;
	return a->fd >= 0;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* 0: connected. EINPROGRESS: not known yet. Else why not. */
static int wait_connected(int fd, int limit_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	int64_t end = now_ms() + limit_ms, left = limit_ms;

	while (left >= 0) {
		int n = poll(&p, 1, (int)left);

		if (n > 0)
			return option(fd, SOL_SOCKET, SO_ERROR, 0);
		if (n == 0 || errno != EINTR)
			break;
		left = end - now_ms();
	}
	return EINPROGRESS;
}

/* connect() heeds the send timeout; without one, a machine that is gone costs two minutes. */
static int connect_blocking(int fd, const struct endpoint *to)
{
	const struct timeval limit = {.tv_sec = BLOCKING_MS / 1000, .tv_usec = BLOCKING_MS % 1000 * 1000};
	struct timeval before = {0};
	socklen_t n = sizeof(before);
	int rc;

	getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &before, &n);
	bool shorten = (before.tv_sec == 0 && before.tv_usec == 0) || before.tv_sec >= limit.tv_sec;
	if (shorten)
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	rc = real_connect(fd, &to->u.sa, to->len) == 0 ? 0 : errno;
	if (shorten)
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &before, sizeof(before));
	if (rc == EINTR) /* a send timeout keeps the kernel from restarting the call, as SA_RESTART may have asked */
		rc = wait_connected(fd, BLOCKING_MS);
	return rc == EINPROGRESS || rc == EAGAIN ? ETIMEDOUT : rc;
}

static int send_header(const struct attempt *a)
{
	uint8_t header[PROXYV2_MAX];
	struct endpoint source = {0};
	size_t n;
	ssize_t sent;

	source.len = sizeof(source.u);
	if (getsockname(a->fd, &source.u.sa, &source.len) < 0)
		return errno;
	n = proxyv2_build(&source, a->wanted, header);
	sent = send(a->fd, header, n, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (sent < 0)
		return errno;
	return (size_t)sent == n ? 0 : ENOBUFS; /* a new socket has room for more than this */
}

/* The connection to the proxy: *answer is what the program is told. false: the proxy cannot be had; *answer is why. */
static bool try_proxy(const struct attempt *a, const struct endpoint *to, int *answer)
{
	bool unix_wanted = a->wanted->u.sa.sa_family == AF_UNIX; /* such programs do not expect EINPROGRESS */
	bool must_know = a->rules->send_proxy || unix_wanted;
	int rc = a->nonblocking ? (real_connect(a->fd, &to->u.sa, to->len) == 0 ? 0 : errno)
	                        : connect_blocking(a->fd, to);
	int state = rc;

	*answer = rc;
	if (rc == EISCONN || rc == EALREADY || rc == EBADF)
		return true;
	if (rc == EINPROGRESS) {
		state = !a->rules->strict || must_know ? wait_connected(a->fd, NONBLOCKING_MS) : EINPROGRESS;
		if (state == EINPROGRESS && !must_know)
			return true;
		if (state == EINPROGRESS)
			state = ETIMEDOUT;
		if (unix_wanted)
			*answer = state;
	}
	if (state == 0 && a->rules->send_proxy)
		state = send_header(a);
	if (state == 0)
		return true;
	*answer = state;
	return false;
}

static bool is_connected(int fd)
{
	struct sockaddr_storage peer;
	socklen_t n = sizeof(peer);

	return getpeername(fd, (struct sockaddr *)&peer, &n) == 0;
}

/* Only so does Linux forget a connection that failed or was under way; the descriptor can then be used again. */
static void disconnect(int fd)
{
	const struct sockaddr none = {.sa_family = AF_UNSPEC};

	real_connect(fd, &none, sizeof(none));
}

static struct redirect unreachable(const struct attempt *a, int why)
{
	struct redirect r = {.real = !a->rules->strict, .error = why, .replacement = -1};

	if (a->own && a->fd >= 0)
		close(a->fd);
	else if (!a->own)
		disconnect(a->fd);
	redirect_debug(a->rules, a->wanted, r.real ? "no proxy, real destination" : "no proxy, refused");
	return r;
}

/* A second connect() on a socket that is still connecting is a question, and the kernel answers it, whatever the
 * address. Once it has come to an end, the next one starts anew. */
static bool is_question(int fd, uint64_t cookie)
{
	struct tcp_info info = {0};
	socklen_t n = sizeof(info);
	struct endpoint wanted;
	bool pending;

	if (!peers_get(cookie, &wanted, &pending) || !pending)
		return false;
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n) < 0 || info.tcpi_state != TCP_SYN_SENT)
		peers_put(cookie, &wanted, false);
	return true;
}

struct redirect redirect_connect(const struct rules *rules, int fd, const struct endpoint *wanted)
{
	struct attempt a = {.rules = rules, .wanted = wanted, .fd = fd};
	struct redirect r = {.real = true, .replacement = -1};
	uint64_t cookie = socket_cookie(fd);
	struct endpoint to;
	int family, answer;

	if (!is_stream(fd, &family) || is_question(fd, cookie))
		return r;
	a.nonblocking = (syscall(SYS_fcntl, fd, F_GETFL) & O_NONBLOCK) != 0;
	if (!choose_socket(&a, family, &to))
		return unreachable(&a, errno);
	if (a.own && is_connected(fd)) { /* the kernel shall say so */
		close(a.fd);
		return r;
	}
	if (!try_proxy(&a, &to, &answer))
		return unreachable(&a, answer);
	if (a.own) {
		r.replacement = a.fd;
		cookie = socket_cookie(a.fd);
	}
	if (answer == 0 || answer == EINPROGRESS)
		peers_put(cookie, wanted, answer != 0);
	redirect_debug(rules, wanted, "redirected");
	r.real = false;
	r.error = answer;
	return r;
}

void redirect_debug(const struct rules *rules, const struct endpoint *wanted, const char *outcome)
{
	static const char start[] = "sidetrack: connect to ";
	char line[sizeof(start) + ENDPOINT_TEXT_MAX + 80];
	size_t n = sizeof(start) - 1, more = strnlen(outcome, 64);
	int saved = errno;

	if (!rules->debug)
		return;
	memcpy(line, start, n);
	n += endpoint_text(wanted, line + n);
	memcpy(line + n, ": ", 2);
	memcpy(line + n + 2, outcome, more);
	line[n + 2 + more] = '\n';
	if (write(STDERR_FILENO, line, n + more + 3) < 0)
		errno = saved; /* stderr may be closed; there is nobody to tell */
	errno = saved;
}
