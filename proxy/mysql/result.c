/* SPDX-License-Identifier: Apache-2.0 */
#include "mysql/result.h"

#include "mysql/protocol.h"

enum state { FIRST, COLUMNS, COLUMNS_EOF, ROWS, PREPARED_BLOCK, PREPARED_EOF, FIELDS, END };

void result_init(struct result *r, enum result_shape shape, bool deprecate_eof)
{
	*r = (struct result){.shape = (uint8_t)shape,
			     .deprecate_eof = deprecate_eof,
			     .state = shape == RESULT_SHAPE_FIELDS ? FIELDS : FIRST};
}

static enum result_part first_packet(struct result *r, uint32_t len, uint8_t first)
{
	if (len == 0)
		return RESULT_MALFORMED;
	if (first == 0xff)
		return RESULT_ERR;
	switch (r->shape) {
	case RESULT_SHAPE_PREPARE:
		return first == 0 ? RESULT_PREPARED : RESULT_MALFORMED;
	case RESULT_SHAPE_TEXT:
		r->state = END;
		r->done = true;
		return RESULT_TEXT;
	default:
		break;
	}
	switch (first) {
	case 0x00:
		return RESULT_OK;
	case 0xfe:
		return RESULT_EOF;
	case 0xfb:
		return RESULT_LOCAL_INFILE;
	default:
		return RESULT_COLUMN_COUNT;
	}
}

/* A block of definitions ended: what comes next? */
static void after_block(struct result *r)
{
	if (r->state == COLUMNS || r->state == COLUMNS_EOF) {
		r->state = ROWS;
	} else if (r->next_block > 0) {
		r->left = r->next_block;
		r->next_block = 0;
		r->state = PREPARED_BLOCK;
	} else {
		r->state = END;
		r->done = true;
	}
}

static enum result_part definition(struct result *r, uint8_t first)
{
	if (first == 0xff)
		return RESULT_ERR;
	if (--r->left > 0)
		return RESULT_COLUMN;
	if (r->deprecate_eof)
		after_block(r);
	else
		r->state = r->state == COLUMNS ? COLUMNS_EOF : PREPARED_EOF;
	return RESULT_COLUMN_LAST;
}

enum result_part result_step(struct result *r, uint32_t len, uint8_t first)
{
	if (r->continued) {
		r->continued = len == PACKET_MAX;
		return RESULT_MORE;
	}
	/* Rows first: nearly every packet of a large result is one. A row may begin with 0xfe (a value of 16 MB or
	 * more), but then it fills its packet. */
	if (r->state == ROWS) {
		if (first == 0xff && len > 0)
			return RESULT_ERR;
		if (first == 0xfe && len < PACKET_MAX && len > 0)
			return RESULT_ROWS_END;
		r->continued = len == PACKET_MAX;
		r->rows++;
		return RESULT_ROW;
	}
	if (len == PACKET_MAX)
		return RESULT_MALFORMED;
	switch (r->state) {
	case FIRST:
		return first_packet(r, len, first);
	case COLUMNS:
	case PREPARED_BLOCK:
		return definition(r, first);
	case COLUMNS_EOF:
	case PREPARED_EOF:
		if (first != 0xfe)
			return first == 0xff ? RESULT_ERR : RESULT_MALFORMED;
		after_block(r);
		return RESULT_COLUMNS_END;
	case FIELDS:
		if (first == 0xff)
			return RESULT_ERR;
		return first == 0xfe ? RESULT_ROWS_END : RESULT_COLUMN;
	default:
		return RESULT_MALFORMED;
	}
}

bool result_in_rows(const struct result *r)
{
	return r->state == ROWS || r->continued;
}

static int count_columns(struct result *r, struct slice payload)
{
	struct reader rd = reader_of(payload);
	uint64_t n = rd_lenenc(&rd);

	if (rd.bad || n == 0 || n > 0xffff)
		return -1;
	r->left = (uint32_t)n;
	r->state = COLUMNS;
	return 0;
}

static int read_prepared(struct result *r, struct slice payload)
{
	if (payload.n < 9)
		return -1;
	uint32_t columns = get_u16(payload.p + 5), params = get_u16(payload.p + 7);

	r->left = params > 0 ? params : columns;
	r->next_block = params > 0 ? columns : 0;
	r->state = PREPARED_BLOCK;
	if (r->left == 0) {
		r->state = END;
		r->done = true;
	}
	return 0;
}

int result_payload(struct result *r, enum result_part part, struct slice payload, unsigned status)
{
	switch (part) {
	case RESULT_COLUMN_COUNT:
		return count_columns(r, payload);
	case RESULT_PREPARED:
		return read_prepared(r, payload);
	case RESULT_OK:
	case RESULT_EOF:
	case RESULT_ROWS_END:
		if (status & STATUS_MORE_RESULTS) {
			r->state = FIRST;
			return 0;
		}
		break;
	default:
		break;
	}
	r->state = END;
	r->done = true;
	return 0;
}
