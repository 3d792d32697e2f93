/* SPDX-License-Identifier: Apache-2.0
 *
 * A program that connects through io_uring, without liburing, and by connect() where the kernel has none:
 *     uring 127.0.0.1 PORT
 */
#include <arpa/inet.h>
#include <linux/io_uring.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int ring_connect(int ring, const struct io_uring_params *p, int fd, struct sockaddr_in *to)
{
	size_t sq_n = p->sq_off.array + p->sq_entries * sizeof(uint32_t);
	size_t cq_n = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
	uint8_t *sq = mmap(NULL, sq_n, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	uint8_t *cq = mmap(NULL, cq_n, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_CQ_RING);
	struct io_uring_sqe *e = mmap(NULL, sizeof(*e), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);

	memset(e, 0, sizeof(*e));
	e->opcode = IORING_OP_CONNECT;
	e->fd = fd;
	e->addr = (uintptr_t)to;
	e->off = sizeof(*to);
	*(uint32_t *)(void *)(sq + p->sq_off.array) = 0;
	atomic_fetch_add((_Atomic uint32_t *)(void *)(sq + p->sq_off.tail), 1);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
		return -1;
	return ((struct io_uring_cqe *)(void *)(cq + p->cq_off.cqes))->res;
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = {.sin_family = AF_INET};
	struct io_uring_params p = {0};
	int fd = socket(AF_INET, SOCK_STREAM, 0), ring, rc;
	char line[100] = "";

	if (argc != 3)
		return 2;
	to.sin_port = htons((uint16_t)atoi(argv[2]));
	inet_pton(AF_INET, argv[1], &to.sin_addr);
	ring = (int)syscall(SYS_io_uring_setup, 1, &p);
	rc = ring < 0 ? connect(fd, (struct sockaddr *)&to, sizeof(to)) : ring_connect(ring, &p, fd, &to);
	if (rc != 0 || read(fd, line, sizeof(line) - 1) <= 0)
		return 1;
	printf("%s %s", ring < 0 ? "connect" : "io_uring", line);
	return 0;
}
