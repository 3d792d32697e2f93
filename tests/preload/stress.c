/* SPDX-License-Identifier: Apache-2.0
 *
 * The shim is linked in here, and so under the sanitizers: 20,000 connections from 8 threads, blocking and not, with
 * fork() in between, to a proxy that is a thread of the same process. Counts what goes wrong: a connection that does
 * not arrive, an errno that is not the kernel's, a descriptor left over.
 *     stress                   the shim, as it is linked in
 *     stress SIDETRACK-RUN     the supervisor
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 8, CONNECTS = 20000, FORK_EVERY = 50 };

static atomic_int arrived, wrong;
static int listener;
static bool supervised;

static struct sockaddr_in address(const char *host, int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

	inet_pton(AF_INET, host, &a.sin_addr);
	return a;
}

static void *serve(void *arg)
{
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		if (send(fd, "p", 1, MSG_NOSIGNAL) == 1)
			arrived++;
		close(fd);
	}
	return arg;
}

/* Redirected: the address is one that nobody has. */
static bool redirected(bool nonblocking)
{
	struct sockaddr_in to = address("192.0.2.77", 3306), peer;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0), 0);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	socklen_t n = sizeof(peer);
	char c = 0;
	bool ok;

	errno = 77;
	ok = connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0 ? errno == 77 && !nonblocking
	                                                          : errno == EINPROGRESS && nonblocking;
	ok = ok && poll(&p, 1, 60000) == 1 && read(fd, &c, 1) == 1 && c == 'p';
	ok = ok && getpeername(fd, (struct sockaddr *)&peer, &n) == 0 &&
	     (supervised || peer.sin_addr.s_addr == to.sin_addr.s_addr);
	close(fd);
	return ok;
}

/* Not redirected, and refused: the errno is the kernel's. */
static bool refused(void)
{
	struct sockaddr_in to = address("127.0.0.1", 1);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool ok = connect(fd, (struct sockaddr *)&to, sizeof(to)) == -1 && errno == ECONNREFUSED;

	close(fd);
	return ok;
}

static bool in_child(void)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0)
		_exit(redirected(true) && refused() ? 0 : 1);
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static void *client(void *arg)
{
	for (int i = 0; i < CONNECTS / THREADS; i++) {
		bool ok = i % FORK_EVERY == 0 ? in_child() : redirected(i % 2 == 0);

		if (!ok || (i % 10 == 0 && !refused()))
			wrong++;
	}
	return arg;
}

static int open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

/* The shim reads its environment before main(): set it, and start again. */
static void restart(char **argv)
{
	struct sockaddr_in a = address("127.0.0.1", 0);
	socklen_t n = sizeof(a);
	char to[32], fd[16];

	listener = socket(AF_INET, SOCK_STREAM, 0);
	bind(listener, (struct sockaddr *)&a, sizeof(a));
	listen(listener, 4096);
	getsockname(listener, (struct sockaddr *)&a, &n);
	snprintf(to, sizeof(to), "127.0.0.1:%d", ntohs(a.sin_port));
	snprintf(fd, sizeof(fd), "%d", listener);
	setenv("STRESS_LISTENER", fd, 1);
	if (argv[1] != NULL) {
		execl(argv[1], argv[1], "--mode", "seccomp", "--strict", "--to", to, "--match", "192.0.2.77:3306", "--",
		      argv[0], argv[1], NULL);
	} else {
		setenv("SIDETRACK_TO", to, 1);
		setenv("SIDETRACK_MATCH", "192.0.2.77:3306", 1);
		setenv("SIDETRACK_STRICT", "1", 1);
		execv("/proc/self/exe", argv);
	}
	perror("exec");
	exit(1);
}

int main(int argc, char **argv)
{
	pthread_t server, clients[THREADS];
	int before, after;

	supervised = argc > 1;
	if (getenv("STRESS_LISTENER") == NULL)
		restart(argv);
	listener = atoi(getenv("STRESS_LISTENER"));
	before = open_descriptors();
	pthread_create(&server, NULL, serve, NULL);
	for (int i = 0; i < THREADS; i++)
		pthread_create(&clients[i], NULL, client, NULL);
	for (int i = 0; i < THREADS; i++)
		pthread_join(clients[i], NULL);
	shutdown(listener, SHUT_RDWR);
	pthread_join(server, NULL);
	after = open_descriptors();
	printf("%s 1 - %d of %d connections arrived, %d wrong\n", arrived == CONNECTS && wrong == 0 ? "ok" : "not ok",
	       arrived, CONNECTS, wrong);
	printf("%s 2 - descriptors before %d, after %d\n", before == after ? "ok" : "not ok", before, after);
	return arrived == CONNECTS && wrong == 0 && before == after ? 0 : 1;
}
