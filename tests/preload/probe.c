/* SPDX-License-Identifier: Apache-2.0
 *
 * A program that connects, in one of the ways that programs connect, and knows nothing of the shim:
 *     probe WAY ADDRESS [ADDRESS]
 * prints what the server greeted with and whom getpeername() names, or what went wrong.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

union any {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
};

struct target {
	union any a;
	socklen_t len;
};

static struct target target;
static int shared_fd;

static struct target parse(const char *text)
{
	struct target t;
	const char *colon = strrchr(text, ':');
	char host[64];

	memset(&t, 0, sizeof(t));
	if (text[0] == '/') {
		t.a.un.sun_family = AF_UNIX;
		snprintf(t.a.un.sun_path, sizeof(t.a.un.sun_path), "%s", text);
		t.len = sizeof(t.a.un);
	} else if (text[0] == '[') {
		snprintf(host, sizeof(host), "%.*s", (int)(colon - text - 2), text + 1);
		t.a.in6.sin6_family = AF_INET6;
		t.a.in6.sin6_port = htons((unsigned short)atoi(colon + 1));
		inet_pton(AF_INET6, host, &t.a.in6.sin6_addr);
		t.len = sizeof(t.a.in6);
	} else {
		snprintf(host, sizeof(host), "%.*s", (int)(colon - text), text);
		t.a.in.sin_family = AF_INET;
		t.a.in.sin_port = htons((unsigned short)atoi(colon + 1));
		inet_pton(AF_INET, host, &t.a.in.sin_addr);
		t.len = sizeof(t.a.in);
	}
	return t;
}

static void put_address(const union any *a)
{
	char host[64];

	if (a->sa.sa_family == AF_UNIX)
		printf("%s", a->un.sun_path);
	else if (a->sa.sa_family == AF_INET6)
		printf("[%s]:%u", inet_ntop(AF_INET6, &a->in6.sin6_addr, host, sizeof(host)), ntohs(a->in6.sin6_port));
	else
		printf("%s:%u", inet_ntop(AF_INET, &a->in.sin_addr, host, sizeof(host)), ntohs(a->in.sin_port));
}

static int fail(const char *what)
{
	printf("%s: %s\n", what, strerror(errno));
	return 1;
}

static int new_socket(int flags)
{
	return socket(target.a.sa.sa_family, SOCK_STREAM | flags, 0);
}

static int do_connect(int fd)
{
	return connect(fd, &target.a.sa, target.len);
}

/* The greeting, on a blocking or a connected non-blocking socket. */
static int report(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char line[600];
	size_t n = 0;
	struct target peer = {.len = sizeof(peer.a)};
	ssize_t got;

	memset(line, 0, sizeof(line));
	while (n < sizeof(line) - 1 && strchr(line, '\n') == NULL) {
		poll(&p, 1, 20000);
		got = read(fd, line + n, sizeof(line) - 1 - n);
		if (got <= 0)
			return fail("read");
		n += (size_t)got;
	}
	line[strcspn(line, "\n")] = '\0'; /* what follows is the echo of what was sent with the connect */
	if (getpeername(fd, &peer.a.sa, &peer.len) < 0)
		return fail("getpeername");
	printf("%s peer ", line);
	put_address(&peer.a);
	printf("\n");
	return 0;
}

static int way_block(void)
{
	int fd = new_socket(SOCK_CLOEXEC);

	errno = 77; /* a call that succeeds leaves it alone */
	if (do_connect(fd) < 0)
		return fail("connect");
	if (errno != 77)
		return fail("errno changed");
	if (fcntl(fd, F_GETFD) != FD_CLOEXEC || (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0)
		return fail("flags changed");
	return report(fd);
}

enum waiter { POLL, SELECT, EPOLL, EPOLL_FIRST };

static void wait_writable(int fd, int ep, enum waiter w)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	struct epoll_event e = {.events = EPOLLOUT};
	struct timeval limit = {.tv_sec = 20};
	fd_set set;

	if (w == POLL)
		poll(&p, 1, 20000);
	FD_ZERO(&set);
	FD_SET(fd, &set);
	if (w == SELECT)
		select(fd + 1, NULL, &set, NULL, &limit);
	if (w == EPOLL)
		epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
	if (w == EPOLL || w == EPOLL_FIRST)
		epoll_wait(ep, &e, 1, 20000);
}

static int nonblocking(enum waiter w)
{
	int fd = new_socket(SOCK_NONBLOCK), ep = epoll_create1(EPOLL_CLOEXEC), error = -1;
	struct epoll_event e = {.events = EPOLLOUT | EPOLLET};
	socklen_t n = sizeof(error);

	if (w == EPOLL_FIRST)
		epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
	if (do_connect(fd) < 0) {
		if (errno != EINPROGRESS)
			return fail("connect");
		wait_writable(fd, ep, w);
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n);
		errno = error;
		if (error != 0)
			return fail("connect, later");
	} else if (target.a.sa.sa_family != AF_UNIX) {
		return fail("connect did not say EINPROGRESS");
	}
	if ((fcntl(fd, F_GETFL) & O_NONBLOCK) == 0)
		return fail("flags changed");
	return report(fd);
}

static int way_poll(void)
{
	return nonblocking(POLL);
}

static int way_select(void)
{
	return nonblocking(SELECT);
}

static int way_epoll(void)
{
	return nonblocking(EPOLL);
}

static int way_epoll_first(void)
{
	return nonblocking(EPOLL_FIRST);
}

/* connect() again and again until it says that it is done */
static int way_again(void)
{
	int fd = new_socket(SOCK_NONBLOCK), rc;

	while ((rc = do_connect(fd)) < 0 && (errno == EINPROGRESS || errno == EALREADY))
		poll(NULL, 0, 1);
	if (rc < 0)
		return fail("connect");
	if (do_connect(fd) == 0 || errno != EISCONN)
		return fail("no EISCONN");
	return report(fd);
}

static int after_fastopen(int fd, ssize_t n)
{
	if (n == -1 && errno == EOPNOTSUPP)
		n = do_connect(fd) == 0 ? send(fd, "hi\n", 3, 0) : -1;
	return n == 3 ? report(fd) : fail("fast open");
}

static int way_sendto(void)
{
	int fd = new_socket(0);

	return after_fastopen(fd, sendto(fd, "hi\n", 3, MSG_FASTOPEN, &target.a.sa, target.len));
}

static int way_sendmsg(void)
{
	char hi[] = "hi\n";
	struct iovec iov = {hi, 3};
	struct msghdr m = {.msg_name = &target.a, .msg_namelen = target.len, .msg_iov = &iov, .msg_iovlen = 1};
	int fd = new_socket(0);

	return after_fastopen(fd, sendmsg(fd, &m, MSG_FASTOPEN));
}

static int way_dup(void)
{
	int fd = new_socket(0), other = dup(fd);

	if (do_connect(fd) < 0)
		return fail("connect");
	return report(other);
}

static void on_signal(int number)
{
	(void)number;
	if (do_connect(shared_fd) < 0)
		_exit(9);
}

static int way_signal(void)
{
	signal(SIGUSR1, on_signal);
	shared_fd = new_socket(0);
	raise(SIGUSR1);
	return report(shared_fd);
}

static void *in_thread(void *arg)
{
	(void)arg;
	return (void *)(intptr_t)way_block();
}

static int way_thread(void)
{
	pthread_t t;
	void *rc;

	pthread_create(&t, NULL, in_thread, NULL);
	pthread_join(t, &rc);
	return (int)(intptr_t)rc;
}

static int exit_of(pid_t pid)
{
	int status = 0;

	waitpid(pid, &status, 0);
	return WEXITSTATUS(status);
}

static int way_fork(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		int rc = way_poll();

		fflush(stdout);
		_exit(rc);
	}
	return exit_of(pid);
}

static int way_vfork(void)
{
	int fd = new_socket(0);
	pid_t pid = vfork();

	if (pid == 0)
		_exit(do_connect(fd) == 0 ? 0 : 9);
	return exit_of(pid) == 0 ? report(fd) : fail("vfork");
}

/* A daemon's way: the child lives on when the program that was started is gone. */
static int way_orphan(void)
{
	if (fork() > 0)
		exit(0);
	setsid();
	while (getppid() != 1 && kill(getppid(), 0) == 0 && poll(NULL, 0, 1) == 0)
		;
	return way_block();
}

static int way_udp(void)
{
	int fd = socket(target.a.sa.sa_family, SOCK_DGRAM, 0);
	struct target peer = {.len = sizeof(peer.a)};

	if (do_connect(fd) < 0 || getpeername(fd, &peer.a.sa, &peer.len) < 0)
		return fail("udp");
	printf("udp peer ");
	put_address(&peer.a);
	printf("\n");
	return 0;
}

static int expect(int rc, int wanted, const char *what)
{
	if (rc == -1 && errno == wanted)
		return 0;
	return fail(what);
}

/* Errors are the kernel's own. */
static int way_errors(void)
{
	int fd = new_socket(0), null = open("/dev/null", O_RDONLY);

	if (expect(connect(-1, &target.a.sa, target.len), EBADF, "no EBADF") != 0 ||
	    expect(connect(null, &target.a.sa, target.len), ENOTSOCK, "no ENOTSOCK") != 0 ||
	    expect(connect(fd, &target.a.sa, 1), EINVAL, "no EINVAL") != 0 ||
	    expect(connect(fd, NULL, sizeof(target.a.in)), EFAULT, "no EFAULT") != 0 ||
	    expect(getpeername(fd, &target.a.sa, &target.len), ENOTCONN, "no ENOTCONN") != 0)
		return 1;
	printf("errors right\n");
	return 0;
}

/* The same socket, again, after a failure; and again after AF_UNSPEC has undone the connection. */
static int way_reuse(void)
{
	const struct sockaddr none = {.sa_family = AF_UNSPEC};
	int fd = new_socket(0);

	if (do_connect(fd) < 0 || connect(fd, &none, sizeof(none)) < 0 || do_connect(fd) < 0)
		return fail("reuse");
	return report(fd);
}

static int way_options(void)
{
	int fd = new_socket(0), one = 1, v = 0;
	struct timeval limit = {.tv_sec = 33}, now = {0};
	socklen_t n = sizeof(v), m = sizeof(now);

	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (do_connect(fd) < 0)
		return fail("connect");
	getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &v, &n);
	getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &now, &m);
	if (v != 1 || now.tv_sec != 33)
		return fail("options lost");
	return report(fd);
}

/* "host:port", as a program that knows a name would. */
static int way_name(const char *text)
{
	char host[256];
	const char *colon = strrchr(text, ':');
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list, *a;
	int fd = -1, rc = -1;

	snprintf(host, sizeof(host), "%.*s", (int)(colon - text), text);
	if (getaddrinfo(host, colon + 1, &hints, &list) != 0)
		return fail("getaddrinfo");
	for (a = list; a != NULL && rc < 0; a = a->ai_next) {
		fd = socket(a->ai_family, a->ai_socktype, 0);
		rc = connect(fd, a->ai_addr, a->ai_addrlen);
	}
	freeaddrinfo(list);
	return rc == 0 ? report(fd) : fail("connect");
}

/* Before main, and perhaps before the shim's own constructor. */
__attribute__((constructor)) static void early(void)
{
	const char *text = getenv("PROBE_EARLY");

	if (text == NULL)
		return;
	target = parse(text);
	exit(way_block());
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(void);
	} ways[] = {
		{"block", way_block}, {"poll", way_poll}, {"select", way_select}, {"epoll", way_epoll},
		{"epoll-first", way_epoll_first}, {"again", way_again}, {"sendto", way_sendto},
		{"sendmsg", way_sendmsg}, {"dup", way_dup}, {"signal", way_signal}, {"thread", way_thread},
		{"fork", way_fork}, {"vfork", way_vfork}, {"orphan", way_orphan}, {"udp", way_udp},
		{"errors", way_errors}, {"reuse", way_reuse}, {"options", way_options},
	};

	if (argc == 3 && strcmp(argv[1], "name") == 0)
		return way_name(argv[2]);
	for (size_t i = 0; argc == 3 && i < sizeof(ways) / sizeof(ways[0]); i++) {
		if (strcmp(argv[1], ways[i].name) == 0) {
			target = parse(argv[2]);
			return ways[i].run();
		}
	}
	fprintf(stderr, "usage: probe WAY ADDRESS\n");
	return 2;
}
