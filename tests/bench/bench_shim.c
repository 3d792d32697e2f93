/* SPDX-License-Identifier: Apache-2.0
 *
 * What the shim costs, in one run: this program measures itself without it, preloaded, and under the seccomp
 * supervisor, as CHILD processes that print nanoseconds. The three are run in turn, several times, and the least of
 * each is shown: the machine may have other things to do, and that only ever adds.
 *     bench_shim BUILD-DIR
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 7, CALLS = 200000, CONNECTS = 4000 };
enum { UNMATCHED, MATCHED, SEND, GETPID, FIGURES };

static const char *const titles[FIGURES] = {
	[UNMATCHED] = "connect() that no rule is about",
	[MATCHED] = "connect() that is redirected, median",
	[SEND] = "send() on a connection",
	[GETPID] = "getppid(), a call that is none of ours",
};

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static struct sockaddr_in address(const char *host, int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};

	inet_pton(AF_INET, host, &a.sin_addr);
	return a;
}

/* The shortest way through connect(): a descriptor that there is not. */
static double unmatched(int calls)
{
	struct sockaddr_in a = address("198.51.100.1", 3307);
	double start = now_ns();

	for (int i = 0; i < calls; i++)
		if (connect(-1, (struct sockaddr *)&a, sizeof(a)) == 0)
			exit(1);
	return (now_ns() - start) / calls;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The median: what the proxy's end does with the connection comes in between as it pleases. */
static double matched(struct sockaddr_in a)
{
	const struct linger at_once = {1, 0}; /* nothing is left behind in TIME_WAIT */
	static double took[CONNECTS];

	for (int i = 0; i < CONNECTS; i++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		double start = now_ns();

		if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
			exit(1);
		took[i] = now_ns() - start;
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
		close(fd);
	}
	qsort(took, CONNECTS, sizeof(took[0]), by_size);
	return took[CONNECTS / 2];
}

static double sends(void)
{
	int pair[2];
	char c = 0;
	double start;

	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) < 0)
		exit(1);
	start = now_ns();
	for (int i = 0; i < CALLS; i++)
		if (sendto(pair[0], &c, 1, 0, NULL, 0) != 1 || read(pair[1], &c, 1) != 1)
			exit(1);
	return (now_ns() - start) / CALLS;
}

static double calls_of_others(void)
{
	double start = now_ns();

	for (int i = 0; i < CALLS; i++)
		getppid();
	return (now_ns() - start) / CALLS;
}

/* argv: port to connect to, whether connect() is supervised (and so dear: fewer of them) */
static int child(char **argv)
{
	printf("%.1f %.1f %.1f %.1f\n", unmatched(atoi(argv[3]) ? CALLS / 50 : CALLS),
	       matched(address("127.0.0.1", atoi(argv[2]))), sends(), calls_of_others());
	return 0;
}

static void *serve(void *arg)
{
	int listener = *(int *)arg, fd;

	while ((fd = accept(listener, NULL, NULL)) >= 0)
		close(fd);
	return NULL;
}

static void measure(const char *command, double best[FIGURES])
{
	double v[FIGURES];
	FILE *f = popen(command, "r");

	if (f == NULL || fscanf(f, "%lf %lf %lf %lf", &v[0], &v[1], &v[2], &v[3]) != FIGURES || pclose(f) != 0) {
		fprintf(stderr, "bench_shim: failed: %s\n", command);
		exit(1);
	}
	for (int i = 0; i < FIGURES; i++)
		best[i] = best[i] == 0 || v[i] < best[i] ? v[i] : best[i];
}

int main(int argc, char **argv)
{
	struct sockaddr_in a = address("127.0.0.1", 0);
	socklen_t n = sizeof(a);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), port;
	double best[3][FIGURES] = {{0}};
	char command[3][2048];
	pthread_t t;

	if (argc == 4 && strcmp(argv[1], "child") == 0)
		return child(argv);
	if (argc != 2 || bind(listener, (struct sockaddr *)&a, n) < 0 || listen(listener, 4096) < 0 ||
	    getsockname(listener, (struct sockaddr *)&a, &n) < 0)
		return 2;
	port = ntohs(a.sin_port);
	pthread_create(&t, NULL, serve, &listener);
	snprintf(command[0], sizeof(command[0]), "%s child %d 0", argv[0], port);
	/* the redirected ones ask for another address, which the rule is about */
	for (int i = 1; i < 3; i++)
		snprintf(command[i], sizeof(command[i]),
		         "%s/sidetrack-run --strict --mode %s --to 127.0.0.1:%d --match 127.0.0.1:%d -- %s child %d %d",
		         argv[1], i == 1 ? "preload" : "seccomp", port, port + 1, argv[0], port + 1, i == 2);
	for (int round = 0; round < ROUNDS; round++)
		for (int i = 0; i < 3; i++)
			measure(command[i], best[i]);
	printf("%-42s %10s %10s %8s %10s %8s\n", "nanoseconds, least of 7", "without", "preload", "extra", "seccomp",
	       "extra");
	for (int i = 0; i < FIGURES; i++)
		printf("%-42s %10.0f %10.0f %8.0f %10.0f %8.0f\n", titles[i], best[0][i], best[1][i],
		       best[1][i] - best[0][i], best[2][i], best[2][i] - best[0][i]);
	return 0;
}
