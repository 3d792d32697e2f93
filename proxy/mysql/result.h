/* SPDX-License-Identifier: Apache-2.0
 *
 * The reply tracker: shown the header of each packet that a server sends, it says which part of the reply the packet is
 * and when the reply has ended. It looks at the first byte of a payload, and at whole payloads only of the few packets
 * that carry decisions. Pure. (https://mariadb.com/kb/en/server-response-packets/)
 */
#ifndef ST_MYSQL_RESULT_H
#define ST_MYSQL_RESULT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

enum result_shape {
	RESULT_SHAPE_QUERY, /* OK, ERR or result sets: COM_QUERY, COM_STMT_EXECUTE, and commands with a plain OK or EOF
			     */
	RESULT_SHAPE_PREPARE, /* COM_STMT_PREPARE */
	RESULT_SHAPE_FIELDS,  /* COM_FIELD_LIST: column definitions and an EOF */
	RESULT_SHAPE_TEXT,    /* COM_STATISTICS: one packet of text */
};

enum result_part {
	RESULT_OK,           /* payload: OK; the reply ends unless more results follow */
	RESULT_EOF,          /* payload: an EOF (or OK with 0xfe) in place of an OK */
	RESULT_ERR,          /* payload: ERR; the reply ends */
	RESULT_COLUMN_COUNT, /* payload: how many columns follow */
	RESULT_COLUMN,       /* a definition */
	RESULT_COLUMN_LAST,  /* the last definition of its block; without CLIENT_DEPRECATE_EOF a RESULT_COLUMNS_END
				follows */
	RESULT_COLUMNS_END,  /* the EOF after a block of definitions */
	RESULT_ROW,
	RESULT_ROWS_END,     /* payload: EOF or OK that ends rows; the reply ends unless more results follow */
	RESULT_PREPARED,     /* payload: statement id, columns, parameters */
	RESULT_TEXT,         /* the reply ends */
	RESULT_LOCAL_INFILE, /* the server asks for a file of the client's */
	RESULT_MORE,         /* a packet of 16 MB - 1 went before: this one continues it */
	RESULT_MALFORMED
};

struct result {
	uint8_t shape, state;
	bool deprecate_eof; /* what the server negotiated */
	bool done;
	bool continued;     /* the last packet was a full one */
	uint32_t left;      /* definitions still to come in this block */
	uint32_t next_block;/* columns of a prepared statement, after its parameters */
	uint64_t rows;      /* RESULT_ROW seen in this reply */
};

void result_init(struct result *r, enum result_shape shape, bool deprecate_eof);

/* len: the payload's length as its header says; first: its first byte (0 when empty). For parts that need their
 * payload (result_wants_payload) nothing has moved yet: call result_payload with it, once it is all there. */
enum result_part result_step(struct result *r, uint32_t len, uint8_t first);

static inline bool result_wants_payload(enum result_part part)
{
	return part == RESULT_OK || part == RESULT_EOF || part == RESULT_ERR || part == RESULT_COLUMN_COUNT ||
	       part == RESULT_ROWS_END || part == RESULT_PREPARED;
}

/* Are rows what comes next? (Only rows may be large.) */
bool result_in_rows(const struct result *r);

/* Moves on past such a packet. status: the server status that an OK or EOF carried (the caller parses it; 0 for
 * others). Returns 0, or -1 when malformed. */
int result_payload(struct result *r, enum result_part part, struct slice payload, unsigned status);

#endif
