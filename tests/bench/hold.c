/* SPDX-License-Identifier: Apache-2.0 */
#include "hold.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void sleep_for(double seconds)
{
	if (seconds > 0)
		usleep((useconds_t)(seconds * 1e6));
}

int hold_idle(const struct account *to, unsigned count, const char *sql)
{
	struct client *clients = xcalloc(count, sizeof(*clients));
	unsigned lost = 0;
	char byte;

	for (unsigned i = 0; i < count; i++) {
		if (!client_open(&clients[i], to) || !client_query(&clients[i], sql)) {
			fprintf(stderr, "load: idle client %u: %s\n", i + 1, clients[i].error);
			return 1;
		}
	}
	printf("idle %u\n", count);
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	for (unsigned i = 0; i < count; i++) {
		lost += recv(clients[i].fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
		client_close(&clients[i]);
	}
	free(clients);
	printf("lost=%u\n", lost);
	return lost > 0;
}

/* Follows an answer of any size through its packet headers. */
struct walk {
	struct answer answer;
	uint8_t head[5]; /* header and first byte of the packet that is being read */
	unsigned nhead;
	uint64_t skip; /* bytes of its payload that are still to come */
};

static void walk_bytes(struct walk *w, bool deprecate_eof, const uint8_t *p, size_t n)
{
	while (n > 0 && !answer_done(&w->answer)) {
		if (w->skip > 0) {
			size_t some = w->skip < n ? (size_t)w->skip : n;
			w->skip -= some;
			p += some;
			n -= some;
			continue;
		}
		w->head[w->nhead++] = *p++;
		n--;
		if (w->nhead < sizeof(w->head))
			continue;
		uint32_t length = get_u24(w->head);
		answer_packet(&w->answer, deprecate_eof, w->head[3], length, w->head[4]);
		w->skip = length > 0 ? length - 1 : 0;
		w->nhead = 0;
	}
}

int hold_slow_result(const struct account *to, const char *sql, double pause, double megabytes)
{
	static uint8_t chunk[64 * 1024];
	struct client c;
	struct walk w = {0};
	uint64_t bytes = 0;
	bool paused = false;

	if (!client_open(&c, to) || !client_send(&c, COM_QUERY, slice_str(sql))) {
		fprintf(stderr, "load: slow result: %s\n", c.error);
		return 1;
	}
	answer_begin(&w.answer);
	double begin = now(), resumed = begin;
	while (!answer_done(&w.answer)) {
		ssize_t n = recv(c.fd, chunk, sizeof(chunk), 0);
		if (n <= 0) {
			fprintf(stderr, "load: slow result: connection lost after %llu bytes\n",
				(unsigned long long)bytes);
			return 1;
		}
		bytes += (uint64_t)n;
		walk_bytes(&w, c.deprecate_eof, chunk, (size_t)n);
		if (!paused && bytes >= 1 << 20) {
			paused = true;
			puts("paused");
			fflush(stdout);
			sleep_for(pause);
			resumed = now();
		} else if (paused) {
			sleep_for(resumed + (double)bytes / (megabytes * 1e6) - now());
		}
	}
	printf("rows=%llu bytes=%llu seconds=%.1f\n", (unsigned long long)w.answer.rows, (unsigned long long)bytes,
	       now() - begin);
	client_close(&c);
	return w.answer.expect == ANSWER_OK ? 0 : 1;
}
