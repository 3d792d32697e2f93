/* SPDX-License-Identifier: Apache-2.0
 *
 * OK, ERR, EOF and small text result sets: building and reading. Builders append whole packets, header included, to a
 * buffer; `seq` is the packet's sequence id and `caps` what the receiving client negotiated. Pure.
 */
#ifndef ST_MYSQL_REPLY_H
#define ST_MYSQL_REPLY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "mysql/protocol.h"

/* Opens a packet: reserves its header, returns the offset that packet_end needs. */
size_t packet_begin(struct buf *b, unsigned seq);
void packet_end(struct buf *b, size_t start); /* fills in the length; the payload must be below 16 MB - 1 */
/* Ends a packet of any size that packet_begin opened: what is too large for one becomes several. */
void packets_end(struct buf *b, size_t start, unsigned seq);

struct ok_packet {
	uint64_t affected, insert_id;
	uint16_t status, warnings;
	struct slice info;
	struct slice state; /* session state changes, for track_next; empty without them */
};
/* Reads an OK payload (0x00 or, ending a result set, 0xfe) from a peer with CLIENT_SESSION_TRACK (tracked) or without.
 * Slices point into the payload. Returns 0, or -1 when malformed. */
int ok_parse(struct slice payload, bool tracked, struct ok_packet *out);

/* header 0x00, or 0xfe for the end of a result set under CLIENT_DEPRECATE_EOF. ok->state is written only when caps
 * has CLIENT_SESSION_TRACK; STATUS_STATE_CHANGED follows from it. */
void reply_ok(struct buf *b, unsigned seq, uint32_t caps, unsigned header, const struct ok_packet *ok);
void reply_eof(struct buf *b, unsigned seq, unsigned warnings, unsigned status);
/* A client library's code (CR_MIN to CR_MAX), which must not be sent, becomes the server's that means the same to it:
 * 2013 becomes 1927, others 1053. */
void reply_err(struct buf *b, unsigned seq, unsigned code, const char *sqlstate, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

struct err_packet {
	unsigned code;
	char sqlstate[6];
	struct slice message;
};
int err_parse(struct slice payload, struct err_packet *out); /* 0, or -1 when malformed */

/* One entry of ok_packet.state. For TRACK_SYSTEM_VARIABLES name and value; TRACK_SCHEMA, _CHARACTERISTICS,
 * _TRANSACTION_STATE and _STATE_CHANGE: value. Unknown types come as they are. */
struct track {
	uint8_t type;
	struct slice name, value;
};
/* Takes the next entry off *state. Returns 1 with one, 0 at the end, -1 when malformed. */
int track_next(struct slice *state, struct track *out);
/* Appends one entry in wire form. */
void track_build(struct buf *b, const struct track *t);

/* Text result sets, for what the proxy and the admin port answer themselves. `*seq` is the next sequence id and is
 * moved on. Columns are VAR_STRING in utf8mb4. */
void reply_columns(struct buf *b, unsigned *seq, uint32_t caps, unsigned status, const char *const *names, unsigned n);
void reply_row(struct buf *b, unsigned *seq, const struct slice *values, unsigned n); /* p == NULL: NULL */
void reply_rows_end(struct buf *b, unsigned *seq, uint32_t caps, unsigned status);

#endif
