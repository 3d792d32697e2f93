/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target: a payload of the connection phase. Four bytes of capabilities (for COM_CHANGE_USER), then the
 * payload, which every parser gets on a copy of its exact size. What was understood is built and read again.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "mysql/handshake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
	if (!ok)
		abort();
}

static struct slice built(const struct buf *b)
{
	require(b->len >= PACKET_HEADER && get_u24(b->data) == b->len - PACKET_HEADER);
	return slice_of(b->data + PACKET_HEADER, b->len - PACKET_HEADER);
}

static void within(struct slice part, struct slice whole)
{
	require(part.n == 0 || (part.p >= whole.p && part.p + part.n <= whole.p + whole.n));
}

static void a_greeting(struct slice payload)
{
	struct greeting g, again;
	struct buf b = {0};

	if (greeting_parse(payload, &g) < 0)
		return;
	within(g.version, payload);
	within(g.plugin, payload);
	greeting_build(&b, 0, &g);
	require(greeting_parse(built(&b), &again) == 0);
	require(g.thread_id == again.thread_id && g.caps == again.caps && g.xcaps == again.xcaps);
	require(g.collation == again.collation && g.status == again.status && slice_eq(g.plugin, again.plugin));
	require(memcmp(g.salt, again.salt, AUTH_SALT) == 0);
	buf_fini(&b);
}

static void login_parts(const struct login *l, struct slice payload)
{
	within(l->user, payload);
	within(l->answer, payload);
	within(l->db, payload);
	within(l->plugin, payload);
	within(l->attributes, payload);
}

static void a_login(struct slice payload)
{
	struct login l, again;
	struct buf b = {0};

	if (login_parse(payload, &l) < 0)
		return;
	login_parts(&l, payload);
	if (l.ssl_request) {
		require(l.user.n == 0 && l.answer.n == 0);
		return;
	}
	/* The forms that are built: an answer of 250 bytes at most behind its length. */
	l.caps |= CAP_SECURE_CONNECTION;
	if (l.answer.n > 250)
		return;
	login_build(&b, 1, &l);
	require(login_parse(built(&b), &again) == 0);
	require(l.caps == again.caps && l.xcaps == again.xcaps && l.max_packet == again.max_packet);
	require(l.collation == again.collation && slice_eq(l.user, again.user) && slice_eq(l.answer, again.answer));
	require(slice_eq(l.db, again.db) && slice_eq(l.plugin, again.plugin) &&
		slice_eq(l.attributes, again.attributes));
	buf_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice plugin, rest;
	struct login l;

	if (size < 4)
		return 0;
	size_t n = size - 4;
	uint8_t *exact = xmalloc(n);
	if (n > 0)
		memcpy(exact, data + 4, n);
	struct slice payload = slice_of(exact, n);
	a_greeting(payload);
	a_login(payload);
	if (change_user_parse(payload, get_u32(data), &l) == 0)
		login_parts(&l, payload);
	if (auth_switch_parse(payload, &plugin, &rest) == 0) {
		within(plugin, payload);
		within(rest, payload);
	}
	free(exact);
	return 0;
}
