/* SPDX-License-Identifier: Apache-2.0
 *
 * One peer's socket on a worker's loop. Small messages leave together at the end of the loop's turn (the outbox),
 * large ones at once; EV_WRITE is armed only when the kernel took less than that. EV_READ stays armed from turn to
 * turn, so a statement costs no epoll_ctl, and is edge-triggered, so that the kernel looks at a socket once for each
 * time that bytes come, not once more to find none. Buffers exist only while bytes wait in them. All calls on the
 * owner worker's thread. TLS will sit behind conn_read and conn_write.
 */
#ifndef ST_NET_CONN_H
#define ST_NET_CONN_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/slice.h"

struct conn;

/* What a worker's connections have to send when this turn of its loop ends. A peer that is woken while there is more to
 * do takes the processor from who would have done it, and answers one message where it could have taken several; sent
 * together, messages of a turn wake a peer once. A turn is some microseconds, and the outbox is bounded.
 *
 *   data: [ piece of a conn | piece of another | ... ]    a conn has one piece at most, which it may make longer while
 *                                                         it is the last
 */
struct outbox {
	TAILQ_HEAD(, conn) conns; /* those with a piece */
	unsigned n;
	uint8_t *data;
	size_t len;
};
void outbox_init(struct outbox *o);
void outbox_flush(struct outbox *o); /* calls nobody back: who cannot send any more is told by its `readable` */
void outbox_fini(struct outbox *o);

struct conn_ops {
	/* Bytes, EOF or an error wait: call conn_read, once is enough. Comes again while there are more. */
	void (*readable)(struct conn *c);
	void (*drained)(struct conn *c);  /* what was queued is out, or a connect ended: see conn_connect_result */
};

struct conn {
	struct event rd, wr;
	const struct conn_ops *ops;
	int fd;           /* -1: closed */
	bool reading;     /* rd is armed */
	bool connecting;
	bool broken;      /* sending failed: reading says so too */
	bool ending;      /* the peer has sent its last byte: after the bytes that wait comes the end */
	bool drained;     /* the last read took all that there was */
	struct buf in;    /* bytes read that do not yet make a whole packet, or must wait */
	struct buf out;   /* bytes that the kernel did not take yet, from out_at on */
	size_t out_at;
	struct outbox *outbox;       /* NULL: everything is sent at once */
	TAILQ_ENTRY(conn) outbox_link;
	size_t piece_at, piece_n;    /* of it, in the outbox */
};

/* Takes a connected, non-blocking descriptor. Reading is off until conn_read_on. `outbox` may be set then. */
void conn_init(struct conn *c, struct event_base *base, int fd, const struct conn_ops *ops);
/* Starts to connect; `drained` follows when it is decided. Returns 0, or -1 with errno. */
int conn_connect(struct conn *c, struct event_base *base, const struct sockaddr *sa, socklen_t len,
		 const struct conn_ops *ops);
int conn_connect_result(struct conn *c); /* 0, or the errno that the connect ended with */
void conn_close(struct conn *c); /* what is in the outbox is sent; frees buffers, closes; may be called twice */

void conn_read_on(struct conn *c);
void conn_read_off(struct conn *c);
/* > 0 bytes read, 0 peer closed, -1 nothing now, -2 error (errno). */
ssize_t conn_read(struct conn *c, void *p, size_t n);
/* Sends, now or at the end of the turn; queues what the kernel does not take. Returns 0, or -1 when the peer is known
 * to be gone (errno). The pieces may be changed by the call. */
int conn_writev(struct conn *c, struct iovec *iov, int n);
int conn_write(struct conn *c, const void *p, size_t n);
/* The same for a buffer, which is empty after it: what the kernel does not take of a large one stays where it is. */
int conn_send(struct conn *c, struct buf *b);
/* More must come before anything is sent to this peer: has `readable` called until there is nothing, so that a reset
 * that came with the last bytes is noticed too (it is told of together with them, and no otherwise than they are). */
static inline void conn_read_again(struct conn *c)
{
	c->drained = false;
}
/* Sends what is in the outbox now: for who asks next whether all is out. */
void conn_flush(struct conn *c);
static inline size_t conn_queued(const struct conn *c)
{
	return c->out.len - c->out_at + c->piece_n;
}

#endif
