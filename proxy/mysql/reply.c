/* SPDX-License-Identifier: Apache-2.0 */
#include "mysql/reply.h"

#include <stdarg.h>
#include <stdio.h>

#include "mysql/protocol.h"

size_t packet_begin(struct buf *b, unsigned seq)
{
	size_t start = b->len;

	buf_put_u24(b, 0);
	buf_put_u8(b, seq);
	return start;
}

void packet_end(struct buf *b, size_t start)
{
	put_u24(b->data + start, (uint32_t)(b->len - start - PACKET_HEADER));
}

void packets_end(struct buf *b, size_t start, unsigned seq)
{
	size_t n = b->len - start - PACKET_HEADER, more = n / PACKET_MAX;

	buf_reserve(b, more * PACKET_HEADER);
	b->len += more * PACKET_HEADER;
	for (size_t i = more + 1; i-- > 0;) { /* from the last on, each to behind the headers before it */
		uint8_t *from = b->data + start + PACKET_HEADER + i * PACKET_MAX, *to = from + i * PACKET_HEADER;
		size_t len = i == more ? n % PACKET_MAX : PACKET_MAX;
		if (i > 0)
			memmove(to, from, len);
		put_u24(to - PACKET_HEADER, (uint32_t)len);
		to[-1] = (uint8_t)(seq + i);
	}
}

int ok_parse(struct slice payload, bool tracked, struct ok_packet *out)
{
	struct reader r = reader_of(payload);

	*out = (struct ok_packet){0};
	rd_u8(&r);
	out->affected = rd_lenenc(&r);
	out->insert_id = rd_lenenc(&r);
	out->status = rd_u16(&r);
	out->warnings = rd_u16(&r);
	if (!tracked) {
		out->info = rd_rest(&r);
		return r.bad ? -1 : 0;
	}
	if (!r.bad && rd_left(&r) > 0)
		out->info = rd_lenenc_bytes(&r);
	if (!r.bad && (out->status & STATUS_STATE_CHANGED) && rd_left(&r) > 0)
		out->state = rd_lenenc_bytes(&r);
	return r.bad ? -1 : 0;
}

void reply_ok(struct buf *b, unsigned seq, uint32_t caps, unsigned header, const struct ok_packet *ok)
{
	size_t start = packet_begin(b, seq);
	unsigned status = ok->status & ~(unsigned)STATUS_STATE_CHANGED;
	bool tell = (caps & CAP_SESSION_TRACK) && ok->state.n > 0;

	buf_put_u8(b, header);
	buf_put_lenenc(b, ok->affected);
	buf_put_lenenc(b, ok->insert_id);
	buf_put_u16(b, tell ? status | STATUS_STATE_CHANGED : status);
	buf_put_u16(b, ok->warnings);
	/* MariaDB prefixes the text with its length for all clients, session tracking or not. */
	if (ok->info.n > 0 || tell)
		buf_put_lenenc_bytes(b, ok->info);
	if (tell)
		buf_put_lenenc_bytes(b, ok->state);
	packet_end(b, start);
}

void reply_eof(struct buf *b, unsigned seq, unsigned warnings, unsigned status)
{
	size_t start = packet_begin(b, seq);

	buf_put_u8(b, 0xfe);
	buf_put_u16(b, warnings);
	buf_put_u16(b, status);
	packet_end(b, start);
}

/* Codes from 2000 on are a client library's own: libmariadb takes an ERR that has one for a malformed packet, and shows
 * neither code nor text. */
static unsigned as_server(unsigned code, const char **sqlstate)
{
	if (code < CR_MIN || code > CR_MAX)
		return code;
	*sqlstate = code == CR_SERVER_LOST ? "70100" : "08S01";
	return code == CR_SERVER_LOST ? ER_CONNECTION_KILLED : ER_SERVER_SHUTDOWN;
}

void reply_err(struct buf *b, unsigned seq, unsigned code, const char *sqlstate, const char *fmt, ...)
{
	code = as_server(code, &sqlstate);
	size_t start = packet_begin(b, seq);
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	buf_put_u8(b, 0xff);
	buf_put_u16(b, code);
	buf_put_u8(b, '#');
	buf_put(b, sqlstate, 5);
	buf_put_str(b, text);
	packet_end(b, start);
}

int err_parse(struct slice payload, struct err_packet *out)
{
	struct reader r = reader_of(payload);

	*out = (struct err_packet){.sqlstate = "HY000"};
	rd_u8(&r);
	out->code = rd_u16(&r);
	if (!r.bad && rd_left(&r) >= 6 && *r.p == '#') {
		struct slice s = rd_bytes(&r, 6);
		memcpy(out->sqlstate, s.p + 1, 5);
	}
	out->message = rd_rest(&r);
	return r.bad ? -1 : 0;
}

int track_next(struct slice *state, struct track *out)
{
	if (state->n == 0)
		return 0;
	struct reader r = reader_of(*state);
	*out = (struct track){.type = rd_u8(&r)};
	struct slice body = rd_lenenc_bytes(&r);
	struct reader in = reader_of(body);

	switch (out->type) {
	case TRACK_SYSTEM_VARIABLES:
		out->name = rd_lenenc_bytes(&in);
		out->value = rd_lenenc_bytes(&in);
		break;
	case TRACK_SCHEMA:
	case TRACK_CHARACTERISTICS:
	case TRACK_TRANSACTION_STATE:
		out->value = rd_lenenc_bytes(&in);
		break;
	default: /* TRACK_STATE_CHANGE: one character, without a length of its own */
		out->value = body;
		break;
	}
	*state = rd_rest(&r);
	return r.bad || in.bad ? -1 : 1;
}

void track_build(struct buf *b, const struct track *t)
{
	struct buf body = {0};

	if (t->type == TRACK_SYSTEM_VARIABLES)
		buf_put_lenenc_bytes(&body, t->name);
	if (t->type == TRACK_STATE_CHANGE)
		buf_put(&body, t->value.p, t->value.n);
	else
		buf_put_lenenc_bytes(&body, t->value);
	buf_put_u8(b, t->type);
	buf_put_lenenc_bytes(b, buf_slice(&body));
	buf_fini(&body);
}

void reply_columns(struct buf *b, unsigned *seq, uint32_t caps, unsigned status, const char *const *names, unsigned n)
{
	size_t start = packet_begin(b, (*seq)++);

	buf_put_lenenc(b, n);
	packet_end(b, start);
	for (unsigned i = 0; i < n; i++) {
		start = packet_begin(b, (*seq)++);
		buf_put_lenenc_bytes(b, slice_str("def"));
		buf_put_lenenc(b, 0); /* schema */
		buf_put_lenenc(b, 0); /* table */
		buf_put_lenenc(b, 0); /* original table */
		buf_put_lenenc_bytes(b, slice_str(names[i]));
		buf_put_lenenc_bytes(b, slice_str(names[i]));
		buf_put_u8(b, 0x0c);
		buf_put_u16(b, 45); /* utf8mb4_general_ci */
		buf_put_u32(b, 1024);
		buf_put_u8(b, 0xfd); /* VAR_STRING */
		buf_put_u16(b, 0);
		buf_put_u8(b, 0);
		buf_put_u16(b, 0);
		packet_end(b, start);
	}
	if (!(caps & CAP_DEPRECATE_EOF))
		reply_eof(b, (*seq)++, 0, status);
}

void reply_row(struct buf *b, unsigned *seq, const struct slice *values, unsigned n)
{
	size_t start = packet_begin(b, (*seq)++);

	for (unsigned i = 0; i < n; i++) {
		if (values[i].p == NULL)
			buf_put_u8(b, 0xfb);
		else
			buf_put_lenenc_bytes(b, values[i]);
	}
	packet_end(b, start);
}

void reply_rows_end(struct buf *b, unsigned *seq, uint32_t caps, unsigned status)
{
	if (caps & CAP_DEPRECATE_EOF)
		reply_ok(b, (*seq)++, caps, 0xfe, &(struct ok_packet){.status = (uint16_t)status});
	else
		reply_eof(b, (*seq)++, 0, status);
}
