/* SPDX-License-Identifier: Apache-2.0 */
#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "mysql/handshake.h"
#include "render.h"

enum { PATIENCE = 40 }; /* seconds that an answer may take: a proxy's own limits (pool_wait: 30 s) come first */

static const uint32_t every_client = CAP_MYSQL | CAP_LONG_FLAG | CAP_PROTOCOL_41 | CAP_TRANSACTIONS |
				     CAP_SECURE_CONNECTION | CAP_MULTI_RESULTS | CAP_PS_MULTI_RESULTS | CAP_PLUGIN_AUTH;

void answer_fini(struct answer *a)
{
	buf_fini(&a->text);
	*a = (struct answer){0};
}

static void answer_clear(struct answer *a)
{
	struct buf keep = a->text;

	keep.len = 0;
	*a = (struct answer){.text = keep};
}

void wire_close(struct wire *w, bool quit)
{
	if (w->fd < 0)
		return;
	if (quit) {
		char byte;
		wire_send(w, COM_QUIT, slice_of("", 0));
		if (recv(w->fd, &byte, 1, 0) > 0)
			fprintf(stderr, "diff: an answer to COM_QUIT\n");
	}
	close(w->fd);
	w->fd = -1;
	buf_fini(&w->in);
	w->at = 0;
}

static void lose(struct wire *w, struct answer *a, const char *why)
{
	buf_printf(&a->text, "lost: %s\n", why);
	a->lost = true;
	wire_close(w, false);
}

static bool send_all(struct wire *w, const uint8_t *p, size_t n)
{
	while (n > 0) {
		ssize_t done = w->fd >= 0 ? send(w->fd, p, n, MSG_NOSIGNAL) : -1;
		if (done <= 0)
			return false;
		p += done;
		n -= (size_t)done;
	}
	return true;
}

bool wire_send(struct wire *w, enum com command, struct slice body)
{
	uint8_t small[4096];
	struct buf out = {0};
	size_t n = body.n + 1;

	if (n + PACKET_HEADER <= sizeof small) {
		put_u24(small, (uint32_t)n);
		small[3] = 0;
		small[4] = (uint8_t)command;
		memcpy(small + 5, body.p, body.n);
		return send_all(w, small, n + PACKET_HEADER);
	}
	buf_put_u24(&out, (uint32_t)n);
	buf_put_u8(&out, 0);
	buf_put_u8(&out, command);
	buf_put(&out, body.p, body.n);
	bool done = send_all(w, out.data, out.len);
	buf_fini(&out);
	return done;
}

static bool fill(struct wire *w, size_t want, const char **why)
{
	if (w->at > 0 && w->at == w->in.len) {
		w->in.len = w->at = 0;
	} else if (w->at > 1 << 16) {
		buf_consume(&w->in, w->at);
		w->at = 0;
	}
	while (w->in.len - w->at < want) {
		buf_reserve(&w->in, want > 16384 ? want : 16384);
		ssize_t n = w->fd < 0 ? 0 : recv(w->fd, w->in.data + w->in.len, w->in.cap - w->in.len, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			/* a reset is an end: which of them comes is a matter of timing */
			*why = n < 0 && errno == EAGAIN ? "no answer" : "the connection was closed";
			return false;
		}
		w->in.len += (size_t)n;
	}
	return true;
}

/* The next packet, valid until the next call. */
static bool read_packet(struct wire *w, struct slice *payload, uint8_t *seq, struct answer *a)
{
	const char *why = "";

	if (!fill(w, PACKET_HEADER, &why)) {
		lose(w, a, why);
		return false;
	}
	uint32_t n = get_u24(w->in.data + w->at);
	*seq = w->in.data[w->at + 3];
	if (!fill(w, PACKET_HEADER + n, &why)) {
		lose(w, a, why);
		return false;
	}
	*payload = slice_of(w->in.data + w->at + PACKET_HEADER, n);
	w->at += PACKET_HEADER + n;
	return true;
}

static bool connect_to(struct wire *w, const struct wire_account *to)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(to->port)};
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	bool local = to->host[0] == '/';
	struct timeval patience = {.tv_sec = PATIENCE};
	int one = 1;

	w->fd = socket(local ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (w->fd < 0)
		return false;
	setsockopt(w->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	if (local) {
		snprintf(un.sun_path, sizeof un.sun_path, "%s", to->host);
		return connect(w->fd, (struct sockaddr *)&un, sizeof un) == 0;
	}
	setsockopt(w->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	return inet_pton(AF_INET, to->host, &in.sin_addr) == 1 &&
	       connect(w->fd, (struct sockaddr *)&in, sizeof in) == 0;
}

static struct slice prove(const char *password, const uint8_t *salt, uint8_t answer[AUTH_SHA1])
{
	uint8_t stage1[AUTH_SHA1];

	if (*password == '\0')
		return slice_of(answer, 0);
	auth_stage1(slice_str(password), stage1);
	auth_native_answer(stage1, salt, answer);
	return slice_of(answer, AUTH_SHA1);
}

/* After a login or COM_CHANGE_USER: perhaps another salt, then OK or ERR. */
static void read_verdict(struct wire *w, const struct wire_account *to, struct answer *a)
{
	struct slice payload, plugin, data;
	uint8_t seq, proof[AUTH_SHA1];

	if (!read_packet(w, &payload, &seq, a))
		return;
	if (payload.n > 0 && payload.p[0] == 0xfe) {
		if (auth_switch_parse(payload, &plugin, &data) != 0 || data.n < AUTH_SALT) {
			lose(w, a, "a malformed authentication switch");
			return;
		}
		struct slice answer = prove(to->password, data.p, proof);
		uint8_t out[PACKET_HEADER + AUTH_SHA1];
		put_u24(out, (uint32_t)answer.n);
		out[3] = (uint8_t)(seq + 1);
		memcpy(out + PACKET_HEADER, answer.p, answer.n);
		send_all(w, out, PACKET_HEADER + answer.n);
		if (!read_packet(w, &payload, &seq, a))
			return;
	}
	if (payload.n > 0 && payload.p[0] == 0xff)
		render_err(a, payload);
	else
		render_ok(a, payload, w->caps);
}

bool wire_open(struct wire *w, const struct wire_account *to, struct answer *a)
{
	struct slice payload;
	struct greeting g;
	uint8_t seq, proof[AUTH_SHA1];
	struct buf out = {0};

	answer_clear(a);
	*w = (struct wire){.fd = -1};
	if (!connect_to(w, to)) {
		lose(w, a, "connect");
		return false;
	}
	if (!read_packet(w, &payload, &seq, a))
		return false;
	if (greeting_parse(payload, &g) != 0) {
		if (payload.n > 0 && payload.p[0] == 0xff)
			render_err(a, payload);
		lose(w, a, "no greeting");
		return false;
	}
	memcpy(w->salt, g.salt, AUTH_SALT);
	w->thread_id = g.thread_id;
	w->caps = (every_client | to->caps | (to->db != NULL ? CAP_CONNECT_WITH_DB : 0)) & g.caps;
	w->caps |= CAP_MYSQL; /* an ordinary client, without MariaDB's second word */
	struct login l = {.caps = w->caps, .max_packet = 1 << 26, .collation = to->collation,
			  .user = slice_str(to->user), .answer = prove(to->password, w->salt, proof),
			  .db = slice_str(to->db != NULL ? to->db : ""), .plugin = slice_str(NATIVE_PLUGIN)};
	login_build(&out, 1, &l);
	send_all(w, out.data, out.len);
	buf_fini(&out);
	read_verdict(w, to, a);
	if (a->error && !a->lost)
		wire_close(w, false);
	return w->fd >= 0;
}

bool wire_send_change_user(struct wire *w, const struct wire_account *to)
{
	struct buf out = {0};
	uint8_t proof[AUTH_SHA1];
	struct slice answer = prove(to->password, w->salt, proof);

	buf_put(&out, to->user, strlen(to->user) + 1);
	buf_put_u8(&out, (unsigned)answer.n);
	buf_put(&out, answer.p, answer.n);
	buf_put_str(&out, to->db != NULL ? to->db : "");
	buf_put_u8(&out, 0);
	buf_put_u16(&out, to->collation);
	buf_put(&out, NATIVE_PLUGIN, sizeof NATIVE_PLUGIN);
	bool sent = wire_send(w, COM_CHANGE_USER, buf_slice(&out));
	buf_fini(&out);
	return sent;
}

void wire_read_change_user(struct wire *w, const struct wire_account *to, struct answer *a)
{
	answer_clear(a);
	read_verdict(w, to, a);
}

void wire_read(struct wire *w, enum result_shape shape, struct answer *a)
{
	struct result r;
	struct slice payload;
	uint8_t seq, expected = 1;

	answer_clear(a);
	result_init(&r, shape, (w->caps & CAP_DEPRECATE_EOF) != 0);
	while (!r.done) {
		if (!read_packet(w, &payload, &seq, a))
			return;
		if (seq != expected++) {
			lose(w, a, "a packet out of order");
			return;
		}
		enum result_part part = result_step(&r, (uint32_t)payload.n, payload.n > 0 ? payload.p[0] : 0);
		if (part == RESULT_MALFORMED || !render_packet(a, part, payload, w->caps) ||
		    (result_wants_payload(part) && result_payload(&r, part, payload, a->status) != 0)) {
			lose(w, a, "a malformed packet");
			return;
		}
	}
}

bool wire_query(struct wire *w, const char *sql, struct answer *a)
{
	wire_send(w, COM_QUERY, slice_str(sql));
	wire_read(w, RESULT_SHAPE_QUERY, a);
	return !a->error && !a->lost;
}
