/* SPDX-License-Identifier: Apache-2.0
 *
 * The servers of the shim's tests: says its name to whoever connects, then sends back what it is sent.
 *     greeter real=127.0.0.1:0 proxy=127.0.0.1:0 proxy6=[::1]:0 sock=/tmp/x.sock head!=127.0.0.1:0
 * prints "name address" for each once it listens. A name with "!" expects a PROXY protocol v2 header first, and adds
 * what the header says to its greeting. One with "?" hangs: it accepts nobody, and its queue is full. Ends when its
 * stdin does.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { MAX = 16 };

union any {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
};

struct listener {
	const char *name;
	bool header, hangs;
	int fd;
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static socklen_t parse(const char *text, union any *a)
{
	const char *colon = strrchr(text, ':');
	char host[64];

	memset(a, 0, sizeof(*a));
	if (text[0] == '/') {
		a->un.sun_family = AF_UNIX;
		snprintf(a->un.sun_path, sizeof(a->un.sun_path), "%s", text);
		return sizeof(a->un);
	}
	if (text[0] == '[') {
		snprintf(host, sizeof(host), "%.*s", (int)(colon - text - 2), text + 1);
		a->in6.sin6_family = AF_INET6;
		a->in6.sin6_port = htons((uint16_t)atoi(colon + 1));
		inet_pton(AF_INET6, host, &a->in6.sin6_addr);
		return sizeof(a->in6);
	}
	snprintf(host, sizeof(host), "%.*s", (int)(colon - text), text);
	a->in.sin_family = AF_INET;
	a->in.sin_port = htons((uint16_t)atoi(colon + 1));
	inet_pton(AF_INET, host, &a->in.sin_addr);
	return sizeof(a->in);
}

static void format(const union any *a, char *out, size_t n)
{
	char host[64];

	if (a->sa.sa_family == AF_UNIX)
		snprintf(out, n, "%s", a->un.sun_path);
	else if (a->sa.sa_family == AF_INET6)
		snprintf(out, n, "[%s]:%u", inet_ntop(AF_INET6, &a->in6.sin6_addr, host, sizeof(host)),
		         ntohs(a->in6.sin6_port));
	else
		snprintf(out, n, "%s:%u", inet_ntop(AF_INET, &a->in.sin_addr, host, sizeof(host)),
		         ntohs(a->in.sin_port));
}

static void open_listener(struct listener *l, char *spec)
{
	union any a;
	char *address = strchr(spec, '=');
	char text[160];
	socklen_t n;
	int one = 1;

	*address++ = '\0';
	l->name = spec;
	l->header = spec[strlen(spec) - 1] == '!';
	n = parse(address, &a);
	l->fd = socket(a.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	l->hangs = spec[strlen(spec) - 1] == '?';
	if (bind(l->fd, &a.sa, n) < 0 || listen(l->fd, l->hangs ? 0 : 1024) < 0)
		die(address);
	n = sizeof(a);
	getsockname(l->fd, &a.sa, &n);
	for (int i = 0; l->hangs && i < 4; i++)
		if (connect(socket(a.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK, 0), &a.sa, n) < 0 &&
		    errno != EINPROGRESS && errno != EAGAIN)
			die("fill the queue");
	format(&a, text, sizeof(text));
	printf("%s %s\n", l->name, text);
}

static void read_all(int fd, uint8_t *p, size_t n)
{
	while (n > 0) {
		ssize_t got = read(fd, p, n);

		if (got <= 0)
			exit(1);
		p += got;
		n -= (size_t)got;
	}
}

/* " source -> wanted"; or what is wrong with it. */
static void read_header(int fd, char *out, size_t n)
{
	uint8_t h[16 + 216] = {0};
	union any src, dst;
	char a[160], b[160];

	memset(&src, 0, sizeof(src));
	memset(&dst, 0, sizeof(dst));
	read_all(fd, h, 16);
	if (memcmp(h, "\r\n\r\n\0\r\nQUIT\n", 12) != 0 || h[12] != 0x21 || h[14] != 0 || h[15] > 216) {
		snprintf(out, n, " bad header");
		return;
	}
	read_all(fd, h + 16, h[15]);
	if (h[13] == 0x11) {
		src.sa.sa_family = dst.sa.sa_family = AF_INET;
		memcpy(&src.in.sin_addr, h + 16, 4);
		memcpy(&dst.in.sin_addr, h + 20, 4);
		memcpy(&src.in.sin_port, h + 24, 2);
		memcpy(&dst.in.sin_port, h + 26, 2);
	} else if (h[13] == 0x21) {
		src.sa.sa_family = dst.sa.sa_family = AF_INET6;
		memcpy(&src.in6.sin6_addr, h + 16, 16);
		memcpy(&dst.in6.sin6_addr, h + 32, 16);
		memcpy(&src.in6.sin6_port, h + 48, 2);
		memcpy(&dst.in6.sin6_port, h + 50, 2);
	} else {
		src.sa.sa_family = dst.sa.sa_family = AF_UNIX;
		memcpy(src.un.sun_path, h + 16, 107);
		memcpy(dst.un.sun_path, h + 16 + 108, 107);
	}
	format(&src, a, sizeof(a));
	format(&dst, b, sizeof(b));
	snprintf(out, n, " %s -> %s", a, b);
}

static void serve(const struct listener *l, int fd)
{
	union any peer;
	socklen_t len = sizeof(peer);
	char header[400] = "", line[600], own[160] = "";
	ssize_t n;

	memset(&peer, 0, sizeof(peer));
	getpeername(fd, &peer.sa, &len);
	if (l->header)
		read_header(fd, header, sizeof(header));
	if (l->header && peer.sa.sa_family != AF_UNIX) { /* so that a test sees whether the header's source is true */
		format(&peer, own, sizeof(own));
		char *at = strstr(header, own);

		if (at == header + 1)
			snprintf(header, sizeof(header), " client%s", strstr(strdup(header), " -> "));
	}
	n = snprintf(line, sizeof(line), "%s%s\n", l->name, header);
	while (n > 0 && send(fd, line, (size_t)n, MSG_NOSIGNAL) == n)
		n = read(fd, line, sizeof(line));
	exit(0);
}

int main(int argc, char **argv)
{
	struct listener l[MAX];
	struct pollfd p[MAX + 1];
	int n = argc - 1;

	signal(SIGCHLD, SIG_IGN);
	for (int i = 0; i < n; i++) {
		open_listener(&l[i], argv[i + 1]);
		p[i] = (struct pollfd){.fd = l[i].hangs ? -1 : l[i].fd, .events = POLLIN};
	}
	fflush(stdout);
	fclose(stdout);
	p[n] = (struct pollfd){.fd = 0, .events = POLLIN};
	while (poll(p, (nfds_t)n + 1, -1) >= 0 && p[n].revents == 0) {
		for (int i = 0; i < n; i++) {
			int fd = p[i].revents != 0 ? accept(l[i].fd, NULL, NULL) : -1;

			if (fd >= 0 && fork() == 0) {
				for (int j = 0; j < n; j++)
					close(l[j].fd);
				serve(&l[i], fd);
			}
			if (fd >= 0)
				close(fd);
		}
	}
	return 0;
}
