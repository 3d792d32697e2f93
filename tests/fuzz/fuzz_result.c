/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target: what a server sends. The first byte chooses the reply's shape and how columns and rows end; then
 * come packets. A packet of 16 MB - 1 is not there whole (its length says so, the input just ends), as when a large row
 * is passed on in pieces.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "mysql/gtid.h"
#include "mysql/reply.h"
#include "mysql/result.h"
#include "mysql/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
	if (!ok)
		abort();
}

/* What the changes would make of a session's state, and of the next connection. */
static void changes(struct slice told)
{
	struct defaults *defaults = defaults_new();
	const struct state_base base = {defaults, false};
	struct state s = {0}, copy = {0}, fresh = {0};
	struct buf out = {0}, rebuilt = {0};
	struct gtid_pos pos;
	struct track t;

	while (track_next(&told, &t) > 0) {
		if (t.type == TRACK_SYSTEM_VARIABLES && state_set(&s, t.name, t.value))
			defaults_add(defaults, t.name, slice_of(t.value.p, t.value.n / 2));
		else if (t.type == TRACK_SCHEMA)
			state_set_schema(&s, t.value);
		gtid_pos_parse(t.value, &pos);
		if (t.type != TRACK_GTIDS && t.type <= TRACK_TRANSACTION_STATE) {
			struct track again;
			buf_clear(&rebuilt);
			track_build(&rebuilt, &t);
			struct slice rest = buf_slice(&rebuilt);
			require(track_next(&rest, &again) == 1 && rest.n == 0);
			require(slice_eq(t.name, again.name) && slice_eq(t.value, again.value));
		}
	}
	defaults_seal(defaults);
	state_copy(&copy, &s);
	require(copy.hash == s.hash && state_diff(&s, &copy, &base, &out) == 0 && out.len == 0);
	require(state_diff(&s, &fresh, &base, &out) >= 0);
	state_rebase(&fresh, defaults, defaults);
	require(fresh.n == 0);
	for (unsigned i = 0; i < defaults->n; i++)
		state_learn(&s, defaults, slice_str(defaults->vars[i].name), slice_str(defaults->vars[i].value));
	defaults_unref(&defaults);
	buf_fini(&out);
	buf_fini(&rebuilt);
	state_clear(&s);
	state_clear(&copy);
}

/* Returns the status that an OK or EOF carries, 0 for other packets; -1 when it is malformed. */
static int status_of(const struct result *r, enum result_part part, struct slice payload)
{
	struct ok_packet ok;
	struct err_packet err;

	if (part == RESULT_ERR) {
		require(err_parse(payload, &err) < 0 || strlen(err.sqlstate) <= 5);
		return 0;
	}
	if (part != RESULT_OK && part != RESULT_EOF && part != RESULT_ROWS_END)
		return 0;
	if (part != RESULT_OK && (!r->deprecate_eof || payload.n < 7))
		return payload.n < 5 ? -1 : get_u16(payload.p + 3);
	require(ok_parse(payload, false, &ok) == 0 || ok_parse(payload, true, &ok) < 0);
	if (ok_parse(payload, true, &ok) < 0)
		return -1;
	changes(ok.state);
	return ok.status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct result r;

	if (size == 0)
		return 0;
	result_init(&r, (enum result_shape)(data[0] & 3), data[0] & 4);
	struct reader in = reader_of(slice_of(data + 1, size - 1));
	while (!r.done && rd_left(&in) >= PACKET_HEADER + 1) {
		uint32_t len = rd_u24(&in);
		rd_u8(&in);
		size_t here = len < rd_left(&in) ? len : rd_left(&in);
		bool in_rows = result_in_rows(&r);
		uint64_t rows = r.rows;
		enum result_part part = result_step(&r, len, len > 0 ? *in.p : 0);
		require(part <= RESULT_MALFORMED && r.rows - rows == (part == RESULT_ROW));
		require(len < PACKET_MAX || in_rows || part == RESULT_MALFORMED);
		if (part == RESULT_MALFORMED || part == RESULT_LOCAL_INFILE ||
		    (result_wants_payload(part) && here < len))
			break;
		uint8_t *exact = xmalloc(here);
		struct slice payload = rd_bytes(&in, here);
		memcpy(exact, payload.p, here);
		payload.p = exact;
		int status = status_of(&r, part, payload);
		bool taken = status >= 0 &&
			     (!result_wants_payload(part) || result_payload(&r, part, payload, (unsigned)status) == 0);
		require(!taken || part != RESULT_ERR || r.done);
		free(exact);
		if (!taken)
			break;
	}
	return 0;
}
