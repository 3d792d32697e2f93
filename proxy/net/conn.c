/* SPDX-License-Identifier: Apache-2.0 */
#include "net/conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"

/* recv() and send() are cancellation points in glibc: two atomic operations a call, once a process has threads. Nobody
 * cancels a worker. */
static ssize_t receive(int fd, void *p, size_t n)
{
	return syscall(SYS_recvfrom, fd, p, n, 0, NULL, NULL);
}

static ssize_t transmit(int fd, const void *p, size_t n)
{
	return syscall(SYS_sendto, fd, p, n, MSG_NOSIGNAL, NULL, 0);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;

	(void)fd;
	c->ending |= (what & EV_CLOSED) != 0;
	bool knew = c->broken;
	c->drained = false;
	c->ops->readable(c);
	/* What was left in the socket does not make it ready again: arming it anew does. */
	if (c->reading && !c->drained) {
		conn_read_off(c);
		conn_read_on(c);
	}
	if (c->reading && c->broken && !knew) /* found out within the call */
		event_active(&c->rd, EV_READ, 0);
}

/* Frees a buffer that has run empty: an idle connection owns none. */
static void drop_buffer(struct buf *b)
{
	if (b->len == 0 && b->cap > 0)
		buf_fini(b);
}

static int flush(struct conn *c)
{
	while (c->out.len > c->out_at) {
		ssize_t n = transmit(c->fd, c->out.data + c->out_at, c->out.len - c->out_at);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
		}
		c->out_at += (size_t)n;
	}
	c->out.len = c->out_at = 0;
	drop_buffer(&c->out);
	return 0;
}

/* Reading is what ends connections; send() has taken the error, recv() would say that the peer closed. */
static void cannot_send(struct conn *c)
{
	c->broken = true;
	c->out.len = c->out_at = 0;
	conn_read_on(c);
	event_active(&c->rd, EV_READ, 0);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;

	(void)fd;
	(void)what;
	if (c->connecting) {
		c->ops->drained(c);
		return;
	}
	if (flush(c) < 0) {
		cannot_send(c);
		return;
	}
	if (conn_queued(c) > 0)
		event_add(&c->wr, NULL);
	/* Told at every step, so that a source stopped at the high mark resumes at the low one. */
	c->ops->drained(c);
}

void conn_init(struct conn *c, struct event_base *base, int fd, const struct conn_ops *ops)
{
	*c = (struct conn){.fd = fd, .ops = ops};
	event_assign(&c->rd, base, fd, EV_READ | EV_CLOSED | EV_ET | EV_PERSIST, on_readable, c);
	event_assign(&c->wr, base, fd, EV_WRITE | EV_ET, on_writable, c);
}

int conn_connect(struct conn *c, struct event_base *base, const struct sockaddr *sa, socklen_t len,
		 const struct conn_ops *ops)
{
	int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	if (sa->sa_family != AF_UNIX) {
		int on = 1;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
	}
	/* EAGAIN: a unix socket whose backlog is full. */
	if (connect(fd, sa, len) < 0 && errno != EINPROGRESS) {
		int saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	conn_init(c, base, fd, ops);
	c->connecting = true;
	event_add(&c->wr, NULL);
	return 0;
}

int conn_connect_result(struct conn *c)
{
	int err = 0;
	socklen_t len = sizeof err;

	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		err = errno;
	c->connecting = false;
	return err;
}

void conn_close(struct conn *c)
{
	if (c->fd < 0)
		return;
	conn_flush(c);
	event_del(&c->rd);
	event_del(&c->wr);
	close(c->fd);
	c->fd = -1;
	c->reading = false;
	buf_fini(&c->in);
	buf_fini(&c->out);
	c->out_at = 0;
}

void conn_read_on(struct conn *c)
{
	if (!c->reading && c->fd >= 0) {
		event_add(&c->rd, NULL);
		c->reading = true;
	}
}

void conn_read_off(struct conn *c)
{
	if (c->reading) {
		event_del(&c->rd);
		c->reading = false;
	}
}

ssize_t conn_read(struct conn *c, void *p, size_t n)
{
	if (c->broken) {
		errno = EPIPE;
		return -2;
	}
	for (;;) {
		ssize_t got = receive(c->fd, p, n);
		if (got >= 0) {
			/* A stream that gave less than it was asked for has no more, but perhaps its end. */
			c->drained = (size_t)got < n && !c->ending;
			return got;
		}
		if (errno == EINTR)
			continue;
		c->drained = true;
		return errno == EAGAIN || errno == EWOULDBLOCK ? -1 : -2;
	}
}

static int send_or_queue(struct conn *c, struct iovec *iov, int n)
{
	int i = 0;

	if (c->out.len == c->out_at) {
		while (i < n) {
			struct msghdr msg = {.msg_iov = iov + i, .msg_iovlen = (size_t)(n - i)};
			ssize_t sent = n - i == 1 ? transmit(c->fd, iov[i].iov_base, iov[i].iov_len)
						  : sendmsg(c->fd, &msg, MSG_NOSIGNAL);
			if (sent < 0) {
				if (errno == EINTR)
					continue;
				if (errno == EAGAIN || errno == EWOULDBLOCK)
					break;
				return -1;
			}
			while (i < n && (size_t)sent >= iov[i].iov_len)
				sent -= (ssize_t)iov[i++].iov_len;
			if (i < n && sent > 0) {
				iov[i].iov_base = (char *)iov[i].iov_base + sent;
				iov[i].iov_len -= (size_t)sent;
			}
		}
		if (i == n)
			return 0;
		event_add(&c->wr, NULL);
	} else if (c->out_at > 65536 && c->out_at > c->out.len / 2) {
		buf_consume(&c->out, c->out_at);
		c->out_at = 0;
	}
	for (; i < n; i++)
		if (!buf_try_put(&c->out, iov[i].iov_base, iov[i].iov_len))
			return -1; /* errno is ENOMEM: the peer reads too slowly for what there is */
	return 0;
}

/* --- The outbox ------------------------------------------------------------------------------------------------- */

enum { OUTBOX_SIZE = 65536, OUTBOX_CONNS = 32, /* full, by either */
       PIECE_MAX = 8192,                       /* longer messages are worth a call of their own */
       COPIED_MAX = 65536 };                   /* longer ones are not copied to wait for the kernel */

void outbox_init(struct outbox *o)
{
	*o = (struct outbox){.data = xmalloc(OUTBOX_SIZE)};
	TAILQ_INIT(&o->conns);
}

void outbox_fini(struct outbox *o)
{
	free(o->data);
	o->data = NULL;
}

void conn_flush(struct conn *c)
{
	if (c->piece_n == 0)
		return;
	struct iovec iov = {.iov_base = c->outbox->data + c->piece_at, .iov_len = c->piece_n};
	TAILQ_REMOVE(&c->outbox->conns, c, outbox_link);
	c->outbox->n--;
	c->piece_n = 0;
	if (send_or_queue(c, &iov, 1) < 0)
		cannot_send(c);
}

void outbox_flush(struct outbox *o)
{
	struct conn *c;

	while ((c = TAILQ_FIRST(&o->conns)) != NULL)
		conn_flush(c);
	o->len = 0;
}

static size_t length(const struct iovec *iov, int n)
{
	size_t sum = 0;

	for (int i = 0; i < n; i++)
		sum += iov[i].iov_len;
	return sum;
}

/* Puts a message into the outbox. Returns false when it has to go another way. */
static bool post(struct conn *c, const struct iovec *iov, int n)
{
	struct outbox *o = c->outbox;
	size_t len = o != NULL ? length(iov, n) : 0;

	if (o == NULL || len == 0 || len > PIECE_MAX || c->out.len > c->out_at)
		return false;
	if (c->piece_n > 0 && c->piece_at + c->piece_n != o->len)
		conn_flush(c);
	if (o->len + len > OUTBOX_SIZE || o->n == OUTBOX_CONNS)
		outbox_flush(o);
	if (c->broken || c->out.len > c->out_at)
		return false;
	if (c->piece_n == 0) {
		TAILQ_INSERT_TAIL(&o->conns, c, outbox_link);
		o->n++;
		c->piece_at = o->len;
	}
	for (int i = 0; i < n; i++) {
		memcpy(o->data + o->len, iov[i].iov_base, iov[i].iov_len);
		o->len += iov[i].iov_len;
	}
	c->piece_n = o->len - c->piece_at;
	return true;
}

int conn_writev(struct conn *c, struct iovec *iov, int n)
{
	if (c->fd < 0) {
		errno = EBADF;
		return -1;
	}
	if (!c->broken && post(c, iov, n))
		return 0;
	if (!c->broken)
		conn_flush(c); /* what was said before goes first */
	if (c->broken) {
		errno = EPIPE;
		return -1;
	}
	return send_or_queue(c, iov, n);
}

int conn_write(struct conn *c, const void *p, size_t n)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)p, .iov_len = n};

	return n == 0 ? 0 : conn_writev(c, &iov, 1);
}

int conn_send(struct conn *c, struct buf *b)
{
	int rc = 0;

	if (b->len > COPIED_MAX)
		conn_flush(c);
	if (b->len <= COPIED_MAX || c->fd < 0 || c->broken || c->out.len > c->out_at) {
		rc = conn_write(c, b->data, b->len);
		buf_clear(b);
		return rc;
	}
	buf_fini(&c->out);
	c->out = *b;
	c->out_at = 0;
	*b = (struct buf){0};
	rc = flush(c);
	if (rc < 0) {
		c->broken = true;
		c->out.len = c->out_at = 0;
	} else if (conn_queued(c) > 0) {
		event_add(&c->wr, NULL);
	}
	return rc;
}
