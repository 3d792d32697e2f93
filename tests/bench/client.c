/* SPDX-License-Identifier: Apache-2.0 */
#include "client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { CAP_CONNECT_WITH_DB = 1 << 3, CAP_DEPRECATE_EOF = 1 << 24, SHA1_LEN = 20, SALT_LEN = 20 };
/* LONG_PASSWORD LONG_FLAG PROTOCOL_41 TRANSACTIONS SECURE_CONNECTION MULTI_RESULTS PS_MULTI_RESULTS PLUGIN_AUTH:
 * what PHP's mysqlnd asks for, less LOCAL_FILES */
static const uint32_t client_caps = 1 | 4 | 1 << 9 | 1 << 13 | 1 << 15 | 1 << 17 | 1 << 18 | 1 << 19;

/* ---- answers ---- */

void answer_begin(struct answer *a)
{
	*a = (struct answer){.expect = EXPECT_HEAD, .seq = 1};
}

static enum expect after_head(struct answer *a, uint32_t length, uint8_t first)
{
	if (first == 0x00)
		return ANSWER_OK;
	if (length != 1 || first >= 0xfb) /* nobody here asks for more than 250 columns, or for LOCAL INFILE */
		return ANSWER_MALFORMED;
	a->defs = first;
	return EXPECT_DEFS;
}

void answer_packet(struct answer *a, bool deprecate_eof, uint8_t seq, uint32_t length, uint8_t first)
{
	bool eof = first == 0xfe && (deprecate_eof ? length < 0xffffff : length == 5);

	if (seq != a->seq++ || length == 0) {
		a->expect = ANSWER_MALFORMED;
	} else if (first == 0xff && a->expect != EXPECT_DEFS) {
		a->expect = ANSWER_ERROR;
	} else if (a->expect == EXPECT_HEAD) {
		a->expect = after_head(a, length, first);
	} else if (a->expect == EXPECT_DEFS) {
		if (--a->defs == 0)
			a->expect = deprecate_eof ? EXPECT_ROWS : EXPECT_DEFS_EOF;
	} else if (a->expect == EXPECT_DEFS_EOF) {
		a->expect = eof ? EXPECT_ROWS : ANSWER_MALFORMED;
	} else if (eof) {
		a->expect = ANSWER_OK;
	} else {
		a->rows++;
	}
}

size_t answer_scan(struct slice data, bool deprecate_eof, struct answer *a, struct slice *row, struct slice *error)
{
	size_t at = 0;

	*row = *error = slice_of(data.p, 0);
	answer_begin(a);
	while (!answer_done(a)) {
		if (data.n - at < 5)
			return 0;
		uint32_t n = get_u24(data.p + at);
		if (data.n - at - 4 < n)
			return 0;
		struct slice packet = slice_of(data.p + at + 4, n);
		uint64_t rows = a->rows;
		answer_packet(a, deprecate_eof, data.p[at + 3], n, packet.p[0]);
		if (rows == 0 && a->rows == 1)
			*row = packet;
		if (a->expect == ANSWER_ERROR)
			*error = packet;
		at += 4 + n;
	}
	return a->expect == ANSWER_MALFORMED ? data.n : at;
}

/* ---- blocking input and output, for set-up ---- */

static bool fail(struct client *c, const char *what, const char *why)
{
	snprintf(c->error, sizeof(c->error), "%s: %s", what, why);
	return false;
}

static bool fail_packet(struct client *c, const char *what, struct slice packet)
{
	int n = packet.n > 9 && packet.p[0] == 0xff ? (int)(packet.n - 9) : 0;

	snprintf(c->error, sizeof(c->error), "%s: %s%.*s", what, n > 0 ? "" : "unexpected packet", n, packet.p + 9);
	return false;
}

static bool send_all(struct client *c, const uint8_t *p, size_t n)
{
	while (n > 0) {
		ssize_t done = send(c->fd, p, n, MSG_NOSIGNAL);
		if (done <= 0)
			return fail(c, "send", strerror(errno));
		p += done;
		n -= (size_t)done;
	}
	return true;
}

/* The next packet; *packet is valid until the next call. */
static bool read_packet(struct client *c, struct slice *packet, uint8_t *seq)
{
	size_t want = 4;

	buf_clear(&c->in);
	while (c->in.len < want) {
		buf_reserve(&c->in, want);
		ssize_t n = recv(c->fd, c->in.data + c->in.len, want - c->in.len, 0);
		if (n <= 0)
			return fail(c, "receive", n == 0 ? "the server closed the connection" : strerror(errno));
		c->in.len += (size_t)n;
		if (c->in.len == 4)
			want = 4 + get_u24(c->in.data);
	}
	*packet = slice_of(c->in.data + 4, want - 4);
	*seq = c->in.data[3];
	return want > 4 || fail(c, "receive", "an empty packet");
}

static bool send_packet(struct client *c, uint8_t seq, struct slice head, struct slice body)
{
	struct buf out = {0};

	buf_put_u24(&out, (uint32_t)(head.n + body.n));
	buf_put_u8(&out, seq);
	buf_put(&out, head.p, head.n);
	buf_put(&out, body.p, body.n);
	bool done = send_all(c, out.data, out.len);
	buf_fini(&out);
	return done;
}

bool client_send(struct client *c, uint8_t command, struct slice body)
{
	return send_packet(c, 0, slice_of(&command, 1), body);
}

/* ---- login ---- */

static bool connect_to(struct client *c, const struct account *to)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(to->port)};
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	bool local = to->host[0] == '/';
	int one = 1;

	c->fd = socket(local ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return fail(c, "socket", strerror(errno));
	if (local) {
		snprintf(un.sun_path, sizeof(un.sun_path), "%s", to->host);
	} else {
		if (inet_pton(AF_INET, to->host, &in.sin_addr) != 1)
			return fail(c, to->host, "not an IPv4 address");
		setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	}
	const struct sockaddr *addr = local ? (struct sockaddr *)&un : (struct sockaddr *)&in;
	if (connect(c->fd, addr, local ? sizeof(un) : sizeof(in)) != 0)
		return fail(c, "connect", strerror(errno));
	return true;
}

static void sha1(const void *p, size_t n, const void *more, size_t more_n, uint8_t out[SHA1_LEN])
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();

	EVP_DigestInit_ex(ctx, EVP_sha1(), NULL);
	EVP_DigestUpdate(ctx, p, n);
	EVP_DigestUpdate(ctx, more, more_n);
	EVP_DigestFinal_ex(ctx, out, NULL);
	EVP_MD_CTX_free(ctx);
}

/* mysql_native_password: SHA1(password) XOR SHA1(salt . SHA1(SHA1(password))); nothing for no password. */
static struct slice native_answer(const char *password, const uint8_t salt[SALT_LEN], uint8_t answer[SHA1_LEN])
{
	uint8_t stage1[SHA1_LEN], stage2[SHA1_LEN], mask[SHA1_LEN];

	if (password == NULL || *password == '\0')
		return slice_of(answer, 0);
	sha1(password, strlen(password), "", 0, stage1);
	sha1(stage1, SHA1_LEN, "", 0, stage2);
	sha1(salt, SALT_LEN, stage2, SHA1_LEN, mask);
	for (int i = 0; i < SHA1_LEN; i++)
		answer[i] = stage1[i] ^ mask[i];
	return slice_of(answer, SHA1_LEN);
}

static bool parse_greeting(struct client *c, struct slice packet, uint8_t salt[SALT_LEN], uint32_t *caps)
{
	struct reader r = reader_of(packet);

	if (rd_u8(&r) != 10)
		return fail_packet(c, "greeting", packet);
	rd_nul(&r);
	rd_u32(&r);
	struct slice first = rd_bytes(&r, 8);
	rd_u8(&r);
	*caps = rd_u16(&r);
	rd_bytes(&r, 3);
	*caps |= (uint32_t)rd_u16(&r) << 16;
	rd_bytes(&r, 11);
	struct slice second = rd_bytes(&r, SALT_LEN - 8);
	if (r.bad)
		return fail(c, "greeting", "truncated");
	memcpy(salt, first.p, 8);
	memcpy(salt + 8, second.p, SALT_LEN - 8);
	return true;
}

static bool send_login(struct client *c, const struct account *to, const uint8_t salt[SALT_LEN])
{
	uint8_t answer[SHA1_LEN];
	struct buf out = {0};

	buf_put_u32(&out, client_caps | (to->db != NULL ? CAP_CONNECT_WITH_DB : 0) |
			  (c->deprecate_eof ? (uint32_t)CAP_DEPRECATE_EOF : 0));
	buf_put_u32(&out, 1 << 24);
	buf_put_u8(&out, 45); /* utf8mb4_general_ci */
	for (int i = 0; i < 23; i++)
		buf_put_u8(&out, 0);
	buf_put(&out, to->user, strlen(to->user) + 1);
	struct slice auth = native_answer(to->password, salt, answer);
	buf_put_u8(&out, (unsigned)auth.n);
	buf_put(&out, auth.p, auth.n);
	if (to->db != NULL)
		buf_put(&out, to->db, strlen(to->db) + 1);
	buf_put(&out, "mysql_native_password", sizeof("mysql_native_password"));
	bool done = send_packet(c, 1, buf_slice(&out), slice_of("", 0));
	buf_fini(&out);
	return done;
}

/* The server wants another plugin, or the same with a new salt. */
static bool switch_auth(struct client *c, const struct account *to, struct slice packet, uint8_t seq)
{
	uint8_t answer[SHA1_LEN];
	struct reader r = reader_of(packet);

	rd_u8(&r);
	struct slice plugin = rd_nul(&r), salt = rd_rest(&r);
	if (!slice_eq(plugin, slice_str("mysql_native_password")) || salt.n < SALT_LEN)
		return fail(c, "login", "the server wants an authentication that this client does not have");
	return send_packet(c, (uint8_t)(seq + 1), native_answer(to->password, salt.p, answer), slice_of("", 0));
}

bool client_open(struct client *c, const struct account *to)
{
	uint8_t salt[SALT_LEN], seq;
	uint32_t caps;
	struct slice packet;

	*c = (struct client){.fd = -1};
	if (!connect_to(c, to) || !read_packet(c, &packet, &seq) || !parse_greeting(c, packet, salt, &caps))
		return false;
	c->deprecate_eof = to->deprecate_eof && (caps & CAP_DEPRECATE_EOF) != 0;
	if (!send_login(c, to, salt) || !read_packet(c, &packet, &seq))
		return false;
	if (packet.p[0] == 0xfe && (!switch_auth(c, to, packet, seq) || !read_packet(c, &packet, &seq)))
		return false;
	if (packet.p[0] != 0x00)
		return fail_packet(c, "login", packet);
	buf_fini(&c->in); /* thousands of idle clients need not hold one each */
	return true;
}

/* ---- statements ---- */

bool client_prepare(struct client *c, const char *sql, uint32_t *id, unsigned *columns)
{
	struct slice packet;
	uint8_t seq;

	if (!client_send(c, COM_STMT_PREPARE, slice_str(sql)) || !read_packet(c, &packet, &seq))
		return false;
	if (packet.p[0] != 0x00 || packet.n < 12)
		return fail_packet(c, "prepare", packet);
	*id = get_u32(packet.p + 1);
	*columns = get_u16(packet.p + 5);
	unsigned params = get_u16(packet.p + 7);
	unsigned eofs = c->deprecate_eof ? 0 : (*columns > 0) + (params > 0);
	for (unsigned left = *columns + params + eofs; left > 0; left--) {
		if (!read_packet(c, &packet, &seq))
			return false;
	}
	return true;
}

bool client_rows(struct client *c, void (*on_row)(void *arg, struct slice row), void *arg)
{
	struct answer a;
	struct slice packet;
	uint8_t seq;

	answer_begin(&a);
	while (!answer_done(&a)) {
		if (!read_packet(c, &packet, &seq))
			return false;
		uint64_t rows = a.rows;
		answer_packet(&a, c->deprecate_eof, seq, (uint32_t)packet.n, packet.p[0]);
		if (a.rows > rows && on_row != NULL)
			on_row(arg, packet);
	}
	return a.expect == ANSWER_OK || fail_packet(c, "statement", packet);
}

bool client_query(struct client *c, const char *sql)
{
	bool done = client_send(c, COM_QUERY, slice_str(sql)) && client_rows(c, NULL, NULL);

	buf_fini(&c->in);
	return done;
}

void client_close(struct client *c)
{
	if (c->fd >= 0) {
		client_send(c, COM_QUIT, slice_of("", 0));
		close(c->fd);
	}
	buf_fini(&c->in);
	c->fd = -1;
}
