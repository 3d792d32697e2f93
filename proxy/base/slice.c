/* SPDX-License-Identifier: Apache-2.0 */
#include "base/slice.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/mem.h"

bool slice_ieq(struct slice a, const char *word)
{
	return strlen(word) == a.n && (a.n == 0 || strncasecmp((const char *)a.p, word, a.n) == 0);
}

struct slice rd_bytes(struct reader *r, size_t n)
{
	if (r->bad || n > rd_left(r)) {
		r->bad = true;
		return slice_of(r->end, 0);
	}
	struct slice s = slice_of(r->p, n);
	r->p += n;
	return s;
}

uint8_t rd_u8(struct reader *r)
{
	struct slice s = rd_bytes(r, 1);
	return s.n == 1 ? s.p[0] : 0;
}

uint16_t rd_u16(struct reader *r)
{
	struct slice s = rd_bytes(r, 2);
	return s.n == 2 ? get_u16(s.p) : 0;
}

uint32_t rd_u24(struct reader *r)
{
	struct slice s = rd_bytes(r, 3);
	return s.n == 3 ? get_u24(s.p) : 0;
}

uint32_t rd_u32(struct reader *r)
{
	struct slice s = rd_bytes(r, 4);
	return s.n == 4 ? get_u32(s.p) : 0;
}

uint64_t rd_u64(struct reader *r)
{
	struct slice s = rd_bytes(r, 8);
	return s.n == 8 ? get_u64(s.p) : 0;
}

uint64_t rd_lenenc(struct reader *r)
{
	uint8_t first = rd_u8(r);

	switch (first) {
	case 0xfc:
		return rd_u16(r);
	case 0xfd:
		return rd_u24(r);
	case 0xfe:
		return rd_u64(r);
	case 0xfb:
	case 0xff:
		r->bad = true;
		return 0;
	default:
		return first;
	}
}

struct slice rd_lenenc_bytes(struct reader *r)
{
	uint64_t n = rd_lenenc(r);

	if (n > rd_left(r)) {
		r->bad = true;
		n = 0;
	}
	return rd_bytes(r, (size_t)n);
}

struct slice rd_nul(struct reader *r)
{
	const uint8_t *nul = r->bad || rd_left(r) == 0 ? NULL : memchr(r->p, 0, rd_left(r));

	if (nul == NULL) {
		r->bad = true;
		return slice_of(r->end, 0);
	}
	struct slice s = slice_of(r->p, (size_t)(nul - r->p));
	r->p = nul + 1;
	return s;
}

struct slice rd_rest(struct reader *r)
{
	return rd_bytes(r, r->bad ? 0 : rd_left(r));
}

void buf_fini(struct buf *b)
{
	free(b->data);
	*b = (struct buf){0};
}

enum { GROWS_LESS = 1 << 20 }; /* a buffer of that size is not doubled any more */

static size_t grown(const struct buf *b, size_t more)
{
	size_t cap = b->cap < 128 ? 128 : b->cap;

	while (cap - b->len < more && cap < GROWS_LESS)
		cap *= 2;
	if (cap - b->len < more)
		cap += cap / 4;
	return cap - b->len < more ? b->len + more : cap;
}

void buf_reserve(struct buf *b, size_t more)
{
	if (b->cap - b->len >= more)
		return;
	size_t cap = grown(b, more);
	b->data = xrealloc(b->data, cap);
	b->cap = cap;
}

bool buf_try_reserve(struct buf *b, size_t more)
{
	if (b->cap - b->len >= more)
		return true;
	size_t cap = grown(b, more);
	uint8_t *data = mem_try_realloc(b->data, cap);
	if (data == NULL)
		return false;
	b->data = data;
	b->cap = cap;
	return true;
}

bool buf_try_put(struct buf *b, const void *p, size_t n)
{
	if (n > 0) {
		if (!buf_try_reserve(b, n))
			return false;
		memcpy(b->data + b->len, p, n);
		b->len += n;
	}
	return true;
}

void buf_put(struct buf *b, const void *p, size_t n)
{
	if (n == 0)
		return;
	buf_reserve(b, n);
	memcpy(b->data + b->len, p, n);
	b->len += n;
}

void buf_put_str(struct buf *b, const char *s)
{
	buf_put(b, s, strlen(s));
}

void buf_put_u8(struct buf *b, unsigned v)
{
	uint8_t byte = (uint8_t)v;
	buf_put(b, &byte, 1);
}

void buf_put_u16(struct buf *b, unsigned v)
{
	buf_reserve(b, 2);
	put_u16(b->data + b->len, v);
	b->len += 2;
}

void buf_put_u24(struct buf *b, uint32_t v)
{
	buf_reserve(b, 3);
	put_u24(b->data + b->len, v);
	b->len += 3;
}

void buf_put_u32(struct buf *b, uint32_t v)
{
	buf_reserve(b, 4);
	put_u32(b->data + b->len, v);
	b->len += 4;
}

void buf_put_u64(struct buf *b, uint64_t v)
{
	buf_put_u32(b, (uint32_t)v);
	buf_put_u32(b, (uint32_t)(v >> 32));
}

void buf_put_lenenc(struct buf *b, uint64_t v)
{
	if (v < 0xfb) {
		buf_put_u8(b, (unsigned)v);
	} else if (v <= 0xffff) {
		buf_put_u8(b, 0xfc);
		buf_put_u16(b, (unsigned)v);
	} else if (v <= 0xffffff) {
		buf_put_u8(b, 0xfd);
		buf_put_u24(b, (uint32_t)v);
	} else {
		buf_put_u8(b, 0xfe);
		buf_put_u64(b, v);
	}
}

void buf_put_lenenc_bytes(struct buf *b, struct slice s)
{
	buf_put_lenenc(b, s.n);
	buf_put(b, s.p, s.n);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap, again;

	va_start(ap, fmt);
	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n > 0) {
		buf_reserve(b, (size_t)n + 1);
		vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, again);
		b->len += (size_t)n;
	}
	va_end(again);
}

void buf_consume(struct buf *b, size_t n)
{
	if (n >= b->len) {
		b->len = 0;
		return;
	}
	memmove(b->data, b->data + n, b->len - n);
	b->len -= n;
}
