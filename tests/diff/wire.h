/* SPDX-License-Identifier: Apache-2.0
 *
 * A blocking client of the raw protocol. An answer is written down as text, one line a packet, with all that a client
 * can see in it: two answers are the same when their texts are. One thread.
 */
#ifndef ST_DIFF_WIRE_H
#define ST_DIFF_WIRE_H

#include "base/slice.h"
#include "mysql/auth.h"
#include "mysql/protocol.h"
#include "mysql/result.h"

struct wire_account {
	const char *host;     /* an IPv4 address, or the path of a unix socket */
	uint16_t port;
	const char *user, *password;
	const char *db;       /* NULL: none */
	uint32_t caps;        /* beside those that every client has */
	uint16_t collation;
};

struct wire {
	int fd;               /* -1: closed */
	uint32_t caps;        /* negotiated */
	uint32_t thread_id;   /* as the greeting says */
	uint8_t salt[AUTH_SALT];
	struct buf in;
	size_t at;            /* consumed of `in` */
};

/* What an answer was, beside its text. */
struct answer {
	struct buf text;
	unsigned status;      /* of its last OK or EOF */
	uint32_t statement;   /* of a PREPARE */
	unsigned params;
	bool error, lost;     /* it is an ERR; the connection ended or went silent (and is closed now) */
	uint64_t rows;
};

/* Connects and logs in. The login's answer, or why there is none, goes to `a` (cleared first). Returns whether the
 * session is there. */
bool wire_open(struct wire *w, const struct wire_account *to, struct answer *a);
void wire_close(struct wire *w, bool quit); /* with COM_QUIT first, or abruptly */

/* Sends one command; false when the connection is gone (the next read will say so too). */
bool wire_send(struct wire *w, enum com command, struct slice body);
/* Reads the answer to what was sent last; `a` is cleared first. */
void wire_read(struct wire *w, enum result_shape shape, struct answer *a);
/* COM_CHANGE_USER, in two parts so that both sides can be sent to first. The answer to an authentication switch is
 * sent in between. */
bool wire_send_change_user(struct wire *w, const struct wire_account *to);
void wire_read_change_user(struct wire *w, const struct wire_account *to, struct answer *a);

/* A statement and its answer; returns whether it was no error. */
bool wire_query(struct wire *w, const char *sql, struct answer *a);

void answer_fini(struct answer *a);

#endif
