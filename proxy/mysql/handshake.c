/* SPDX-License-Identifier: Apache-2.0 */
#include "mysql/handshake.h"

#include "mysql/reply.h"

void greeting_build(struct buf *b, unsigned seq, const struct greeting *g)
{
	size_t start = packet_begin(b, seq);

	buf_put_u8(b, 10);
	buf_put(b, g->version.p, g->version.n);
	buf_put_u8(b, 0);
	buf_put_u32(b, g->thread_id);
	buf_put(b, g->salt, 8);
	buf_put_u8(b, 0);
	buf_put_u16(b, g->caps & 0xffff);
	buf_put_u8(b, g->collation);
	buf_put_u16(b, g->status);
	buf_put_u16(b, g->caps >> 16);
	buf_put_u8(b, AUTH_SALT + 1);
	buf_put(b, "\0\0\0\0\0\0", 6);
	buf_put_u32(b, g->xcaps);
	buf_put(b, g->salt + 8, AUTH_SALT - 8);
	buf_put_u8(b, 0);
	buf_put(b, g->plugin.p, g->plugin.n);
	buf_put_u8(b, 0);
	packet_end(b, start);
}

int greeting_parse(struct slice payload, struct greeting *out)
{
	struct reader r = reader_of(payload);

	*out = (struct greeting){0};
	if (rd_u8(&r) != 10)
		return -1;
	out->version = rd_nul(&r);
	if (out->version.n > 6 && memcmp(out->version.p, "5.5.5-", 6) == 0)
		out->version = slice_of(out->version.p + 6, out->version.n - 6);
	out->thread_id = rd_u32(&r);
	struct slice first = rd_bytes(&r, 8);
	rd_u8(&r);
	out->caps = rd_u16(&r);
	out->collation = rd_u8(&r);
	out->status = rd_u16(&r);
	out->caps |= (uint32_t)rd_u16(&r) << 16;
	rd_u8(&r); /* length of the plugin's data */
	rd_bytes(&r, 6);
	out->xcaps = rd_u32(&r);
	struct slice second = rd_bytes(&r, AUTH_SALT - 8);
	if (r.bad)
		return -1;
	if (out->caps & CAP_MYSQL)
		out->xcaps = 0; /* the four bytes mean something only from a MariaDB server */
	memcpy(out->salt, first.p, 8);
	memcpy(out->salt + 8, second.p, AUTH_SALT - 8);
	if (rd_left(&r) > 0)
		rd_u8(&r);
	if ((out->caps & CAP_PLUGIN_AUTH) && rd_left(&r) > 0) {
		struct slice rest = rd_rest(&r); /* some servers forget the NUL */
		const uint8_t *nul = memchr(rest.p, 0, rest.n);
		out->plugin = slice_of(rest.p, nul != NULL ? (size_t)(nul - rest.p) : rest.n);
	}
	return 0;
}

void login_build(struct buf *b, unsigned seq, const struct login *l)
{
	size_t start = packet_begin(b, seq);
	static const uint8_t zero[19];

	buf_put_u32(b, l->caps);
	buf_put_u32(b, l->max_packet);
	buf_put_u8(b, l->collation & 0xff);
	buf_put(b, zero, 19);
	buf_put_u32(b, l->caps & CAP_MYSQL ? 0 : l->xcaps);
	buf_put(b, l->user.p, l->user.n);
	buf_put_u8(b, 0);
	buf_put_u8(b, (unsigned)l->answer.n);
	buf_put(b, l->answer.p, l->answer.n);
	if (l->caps & CAP_CONNECT_WITH_DB) {
		buf_put(b, l->db.p, l->db.n);
		buf_put_u8(b, 0);
	}
	if (l->caps & CAP_PLUGIN_AUTH) {
		buf_put(b, l->plugin.p, l->plugin.n);
		buf_put_u8(b, 0);
	}
	if (l->caps & CAP_CONNECT_ATTRS)
		buf_put_lenenc_bytes(b, l->attributes);
	packet_end(b, start);
}

/* What follows the user name, alike in both packets but for how the answer's length is said. */
static void read_tail(struct reader *r, struct login *out, bool db_always)
{
	if ((out->caps & CAP_CONNECT_WITH_DB) || db_always) {
		if (rd_left(r) > 0)
			out->db = rd_nul(r);
	}
}

static void read_plugin_and_attributes(struct reader *r, struct login *out)
{
	if ((out->caps & CAP_PLUGIN_AUTH) && rd_left(r) > 0)
		out->plugin = rd_nul(r);
	if ((out->caps & CAP_CONNECT_ATTRS) && rd_left(r) > 0)
		out->attributes = rd_lenenc_bytes(r);
}

int login_parse(struct slice payload, struct login *out)
{
	struct reader r = reader_of(payload);

	*out = (struct login){0};
	out->caps = rd_u32(&r);
	if (r.bad || !(out->caps & CAP_PROTOCOL_41))
		return -1; /* the protocol of before 4.1 */
	out->max_packet = rd_u32(&r);
	out->collation = rd_u8(&r);
	rd_bytes(&r, 19);
	out->xcaps = rd_u32(&r);
	if (r.bad)
		return -1;
	if (out->caps & CAP_MYSQL)
		out->xcaps = 0;
	if ((out->caps & CAP_SSL) && rd_left(&r) == 0) {
		out->ssl_request = true;
		return 0;
	}
	out->user = rd_nul(&r);
	if (out->caps & CAP_PLUGIN_AUTH_LENENC)
		out->answer = rd_lenenc_bytes(&r);
	else if (out->caps & CAP_SECURE_CONNECTION)
		out->answer = rd_bytes(&r, rd_u8(&r));
	else
		out->answer = rd_nul(&r);
	read_tail(&r, out, false);
	read_plugin_and_attributes(&r, out);
	return r.bad ? -1 : 0;
}

const char *login_unreadable(const struct login *l)
{
	if (l->ssl_request)
		return "TLS was not offered by this proxy: connect without it";
	if (l->caps & (CAP_COMPRESS | CAP_ZSTD))
		return "Compression was not offered by this proxy: connect without it";
	return NULL;
}

int change_user_parse(struct slice payload, uint32_t caps, struct login *out)
{
	struct reader r = reader_of(payload);

	*out = (struct login){.caps = caps};
	rd_u8(&r);
	out->user = rd_nul(&r);
	if (caps & CAP_SECURE_CONNECTION)
		out->answer = rd_bytes(&r, rd_u8(&r));
	else
		out->answer = rd_nul(&r);
	read_tail(&r, out, true);
	if (!r.bad && rd_left(&r) >= 2)
		out->collation = rd_u16(&r);
	read_plugin_and_attributes(&r, out);
	return r.bad ? -1 : 0;
}

void auth_switch_build(struct buf *b, unsigned seq, const char *plugin, const uint8_t salt[AUTH_SALT])
{
	size_t start = packet_begin(b, seq);

	buf_put_u8(b, 0xfe);
	buf_put(b, plugin, strlen(plugin) + 1);
	buf_put(b, salt, AUTH_SALT);
	buf_put_u8(b, 0);
	packet_end(b, start);
}

int auth_switch_parse(struct slice payload, struct slice *plugin, struct slice *data)
{
	struct reader r = reader_of(payload);

	*plugin = *data = slice_of(payload.p, 0);
	if (rd_u8(&r) != 0xfe)
		return -1;
	if (rd_left(&r) == 0)
		return 0;
	*plugin = rd_nul(&r);
	*data = rd_rest(&r);
	return r.bad ? -1 : 0;
}
