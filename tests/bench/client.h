/* SPDX-License-Identifier: Apache-2.0
 *
 * A MySQL client that is small enough to measure with: blocking login and set-up, and a walker that tells where an
 * answer ends from packet headers and first bytes. libmariadb cannot drive hundreds of connections from one thread at
 * a cost that leaves the machine to what is measured. One thread.
 */
#ifndef ST_BENCH_CLIENT_H
#define ST_BENCH_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct account {
	const char *host, *user, *password, *db; /* host: an IPv4 address, or the path of a unix socket */
	uint16_t port;
	bool deprecate_eof; /* ask for CLIENT_DEPRECATE_EOF; libmariadb and PHP do not */
};

/* Where an answer is: fed with each packet's sequence number, length and first byte. */
enum expect { EXPECT_HEAD, EXPECT_DEFS, EXPECT_DEFS_EOF, EXPECT_ROWS, ANSWER_OK, ANSWER_ERROR, ANSWER_MALFORMED };
struct answer {
	enum expect expect;
	uint8_t seq; /* of the next packet */
	unsigned defs;
	uint64_t rows;
};
static inline bool answer_done(const struct answer *a)
{
	return a->expect >= ANSWER_OK;
}
void answer_begin(struct answer *a);
void answer_packet(struct answer *a, bool deprecate_eof, uint8_t seq, uint32_t length, uint8_t first);

/* Walks one whole answer in `data`. Returns the bytes it takes, or 0 when more must come (a malformed one takes all).
 * *row is the payload of its first row, *error that of its ERR packet; empty slices without one. */
size_t answer_scan(struct slice data, bool deprecate_eof, struct answer *a, struct slice *row, struct slice *error);

struct client {
	int fd;
	bool deprecate_eof; /* as negotiated */
	struct buf in;      /* bytes of an answer that has not come as a whole */
	char error[256];    /* why the last call failed */
};

/* All block, and return false with c->error set. */
bool client_open(struct client *c, const struct account *to);
bool client_send(struct client *c, uint8_t command, struct slice body);
bool client_prepare(struct client *c, const char *sql, uint32_t *id, unsigned *columns);
/* Reads an answer and hands each row's payload to on_row (may be NULL). */
bool client_rows(struct client *c, void (*on_row)(void *arg, struct slice row), void *arg);
bool client_query(struct client *c, const char *sql);
void client_close(struct client *c); /* says COM_QUIT */

enum { COM_QUIT = 1, COM_QUERY = 3, COM_STMT_PREPARE = 0x16, COM_STMT_EXECUTE = 0x17 };

#endif
