/* SPDX-License-Identifier: Apache-2.0 */
#include "params.h"

#include <stdio.h>
#include <stdlib.h>

enum { TYPE_TINY = 1, TYPE_DOUBLE = 5, TYPE_NULL = 6, TYPE_LONGLONG = 8, TYPE_DATETIME = 12, TYPE_BLOB = 252,
       TYPE_VAR_STRING = 253 };

static void put_datetime(struct buf *b, const char *text)
{
	unsigned v[6] = {2000, 1, 1, 0, 0, 0};

	sscanf(text, "%u-%u-%uT%u:%u:%u", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5]);
	buf_put_u8(b, 7);
	buf_put_u16(b, v[0]);
	for (unsigned i = 1; i < 6; i++)
		buf_put_u8(b, v[i]);
}

/* Returns the type; the value goes to `values`. */
static unsigned put_value(struct buf *values, const char *word, size_t n)
{
	char text[512];
	double real;
	uint64_t bits;

	snprintf(text, sizeof text, "%.*s", (int)(n > 0 ? n - 1 : 0), n > 0 ? word + 1 : "");
	switch (n > 0 ? *word : 'n') {
	case 'i':
		buf_put_u64(values, (uint64_t)strtoll(text, NULL, 10));
		return TYPE_LONGLONG;
	case 'y':
		buf_put_u8(values, (unsigned)atoi(text) & 0xff);
		return TYPE_TINY;
	case 'd':
		real = strtod(text, NULL);
		memcpy(&bits, &real, sizeof bits);
		buf_put_u64(values, bits);
		return TYPE_DOUBLE;
	case 's':
		buf_put_lenenc_bytes(values, slice_str(text));
		return TYPE_VAR_STRING;
	case 't':
		put_datetime(values, text);
		return TYPE_DATETIME;
	case 'l':
		return TYPE_BLOB; /* its value was sent before */
	default:
		return TYPE_NULL;
	}
}

void params_put(struct buf *b, const char *words, unsigned want)
{
	struct buf types = {0}, values = {0};
	uint8_t nulls[64] = {0};

	if (want > 8 * sizeof nulls)
		want = 8 * sizeof nulls;
	for (unsigned i = 0; i < want; i++) {
		words += strspn(words, " ");
		size_t n = strcspn(words, " ");
		unsigned type = put_value(&values, words, n);
		if (type == TYPE_NULL)
			nulls[i / 8] |= (uint8_t)(1 << i % 8);
		buf_put_u16(&types, type);
		words += n;
	}
	buf_put_u8(b, 0); /* no cursor */
	buf_put_u32(b, 1);
	if (want > 0) {
		buf_put(b, nulls, (want + 7) / 8);
		buf_put_u8(b, 1);
		buf_put(b, types.data, types.len);
		buf_put(b, values.data, values.len);
	}
	buf_fini(&types);
	buf_fini(&values);
}
