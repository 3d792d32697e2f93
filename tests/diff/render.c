/* SPDX-License-Identifier: Apache-2.0 */
#include "render.h"

#include <stdio.h>
#include <stdlib.h>

#include "expected.h"
#include "mysql/reply.h"

enum { TRACKED = 64 };

static void put_bytes(struct buf *b, struct slice s)
{
	static const char hex[] = "0123456789abcdef";

	buf_reserve(b, s.n * 4);
	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = s.p[i];

		if (c >= ' ' && c != '\\' && c < 0x7f) {
			b->data[b->len++] = c;
		} else {
			b->data[b->len++] = '\\';
			b->data[b->len++] = 'x';
			b->data[b->len++] = (uint8_t)hex[c >> 4];
			b->data[b->len++] = (uint8_t)hex[c & 15];
		}
	}
}

static void put_pair(struct buf *b, const char *name, uint64_t value)
{
	buf_printf(b, " %s=%llu", name, (unsigned long long)value);
}

static void put_status(struct answer *a, unsigned status)
{
	a->status = status;
	buf_printf(&a->text, " status=%04x", status & ~(unsigned)EXPECTED_STATUS);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The server tells of variables in no order. */
static bool render_track(struct answer *a, struct slice state)
{
	char *line[TRACKED];
	unsigned n = 0;
	struct track t;
	int more = 0;

	while (n < TRACKED && (more = track_next(&state, &t)) == 1) {
		struct buf b = {0};
		if (expected_variable(t.name))
			continue;
		buf_printf(&b, "track %u ", t.type);
		put_bytes(&b, t.name);
		buf_put_str(&b, "=");
		put_bytes(&b, t.value);
		buf_put_u8(&b, 0);
		line[n++] = (char *)b.data;
	}
	qsort(line, n, sizeof *line, by_text);
	for (unsigned i = 0; i < n; i++) {
		buf_printf(&a->text, "%s\n", line[i]);
		free(line[i]);
	}
	return more == 0;
}

bool render_ok(struct answer *a, struct slice payload, uint32_t caps)
{
	struct ok_packet ok;

	if (ok_parse(payload, (caps & CAP_SESSION_TRACK) != 0, &ok) != 0)
		return false;
	buf_put_str(&a->text, payload.p[0] == 0 ? "ok" : "end");
	put_pair(&a->text, "affected", ok.affected);
	put_pair(&a->text, "id", ok.insert_id);
	put_pair(&a->text, "warnings", ok.warnings);
	put_status(a, ok.status);
	buf_put_str(&a->text, " info=");
	put_bytes(&a->text, ok.info);
	buf_put_str(&a->text, "\n");
	return render_track(a, ok.state);
}

static void render_eof(struct answer *a, struct slice payload, bool columns)
{
	buf_put_str(&a->text, "eof");
	if (!columns) {
		put_pair(&a->text, "warnings", get_u16(payload.p + 1));
		put_status(a, get_u16(payload.p + 3) & ~(unsigned)EXPECTED_EOF_STATUS);
	}
	buf_put_str(&a->text, "\n");
}

bool render_err(struct answer *a, struct slice payload)
{
	struct err_packet e;

	if (err_parse(payload, &e) != 0)
		return false;
	a->error = true;
	buf_printf(&a->text, "error %u %s ", e.code, e.sqlstate);
	size_t from = a->text.len;
	put_bytes(&a->text, e.message);
	expected_message(&a->text, from, e.code);
	buf_put_str(&a->text, "\n");
	return true;
}

static bool render_column(struct answer *a, struct slice payload)
{
	struct buf *b = &a->text;
	struct reader r = reader_of(payload);

	rd_lenenc_bytes(&r); /* def */
	buf_put_str(b, "column");
	for (unsigned i = 0; i < 5; i++) { /* schema, table, org table, name, org name */
		buf_put_str(b, i == 0 ? " " : "|");
		put_bytes(b, rd_lenenc_bytes(&r));
	}
	rd_lenenc(&r);
	put_pair(b, "charset", rd_u16(&r));
	put_pair(b, "length", rd_u32(&r));
	put_pair(b, "type", rd_u8(&r));
	buf_printf(b, " flags=%04x", rd_u16(&r));
	put_pair(b, "decimals", rd_u8(&r));
	rd_u16(&r);
	if (rd_left(&r) > 0) { /* COM_FIELD_LIST: the default */
		buf_put_str(b, " default=");
		put_bytes(b, rd_rest(&r));
	}
	buf_put_str(b, "\n");
	return !r.bad;
}

/* Text rows are lists of length-encoded values. Binary ones begin with 0x00, which no text row of this tool does: it
 * would be an empty first value, told apart by `binary`. Both are shown as bytes; only text is cut into values. */
static void render_row(struct answer *a, struct slice payload)
{
	struct reader r = reader_of(payload);
	struct buf *b = &a->text;
	size_t from = b->len;

	buf_put_str(b, "row");
	while (rd_left(&r) > 0 && !r.bad) {
		buf_put_str(b, "\t");
		if (*r.p == 0xfb) {
			rd_u8(&r);
			buf_put_str(b, "NULL");
		} else if (*r.p == 0xff) {
			r.bad = true;
		} else {
			put_bytes(b, rd_lenenc_bytes(&r));
		}
	}
	if (r.bad) { /* a binary row */
		b->len = from;
		buf_put_str(b, "row ");
		put_bytes(b, payload);
	}
	a->rows++;
	if (expected_row(b, from))
		b->len = from;
	else
		buf_put_str(b, "\n");
}

static bool render_prepared(struct answer *a, struct slice payload)
{
	struct reader r = reader_of(payload);

	rd_u8(&r);
	a->statement = rd_u32(&r);
	unsigned columns = rd_u16(&r);
	a->params = rd_u16(&r);
	rd_u8(&r);
	unsigned warnings = rd_u16(&r);
	buf_printf(&a->text, "prepared columns=%u params=%u warnings=%u\n", columns, a->params, warnings);
	return !r.bad;
}

bool render_packet(struct answer *a, enum result_part part, struct slice payload, uint32_t caps)
{
	switch (part) {
	case RESULT_OK:
		return render_ok(a, payload, caps);
	case RESULT_ROWS_END:
		if (caps & CAP_DEPRECATE_EOF)
			return render_ok(a, payload, caps);
		/* fall through */
	case RESULT_EOF:
	case RESULT_COLUMNS_END:
		if (payload.n < 5)
			return false;
		if (payload.n > 5)
			return render_ok(a, payload, caps);
		render_eof(a, payload, part == RESULT_COLUMNS_END);
		return true;
	case RESULT_ERR:
		return render_err(a, payload);
	case RESULT_COLUMN_COUNT:
		return true;
	case RESULT_COLUMN:
	case RESULT_COLUMN_LAST:
		return render_column(a, payload);
	case RESULT_ROW:
	case RESULT_MORE:
		render_row(a, payload);
		return true;
	case RESULT_PREPARED:
		return render_prepared(a, payload);
	case RESULT_TEXT:
		buf_put_str(&a->text, "text\n");
		return true;
	case RESULT_LOCAL_INFILE:
	case RESULT_MALFORMED:
		break;
	}
	return false;
}
