/* SPDX-License-Identifier: Apache-2.0
 *
 * Bounded views of bytes, a reader over them with a sticky error, and a growing buffer to write into. The only place
 * that knows how MySQL's protocol spells integers and strings
 * (https://mariadb.com/kb/en/protocol-data-types/). Pure; any thread.
 */
#ifndef ST_BASE_SLICE_H
#define ST_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice { /* borrowed bytes: valid as long as what they were cut from */
	const uint8_t *p;
	size_t n;
};

static inline struct slice slice_of(const void *p, size_t n)
{
	return (struct slice){(const uint8_t *)p, n};
}
static inline struct slice slice_str(const char *s)
{
	return (struct slice){(const uint8_t *)s, strlen(s)};
}
static inline bool slice_eq(struct slice a, struct slice b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
/* ASCII case folded comparison with a C string. */
bool slice_ieq(struct slice a, const char *word);

/* Little-endian loads and stores at any alignment. */
static inline uint16_t get_u16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}
static inline uint32_t get_u24(const uint8_t *p)
{
	return (uint32_t)(p[0] | p[1] << 8 | p[2] << 16);
}
static inline uint32_t get_u32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline uint64_t get_u64(const uint8_t *p)
{
	return (uint64_t)get_u32(p) | (uint64_t)get_u32(p + 4) << 32;
}
static inline void put_u16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}
static inline void put_u24(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
	p[2] = (uint8_t)(v >> 16);
}
static inline void put_u32(uint8_t *p, uint32_t v)
{
	put_u16(p, v & 0xffff);
	put_u16(p + 2, v >> 16);
}

/* A reader: a read past the end sets `bad`, returns zero or an empty slice, and every later read does the same. */
struct reader {
	const uint8_t *p, *end;
	bool bad;
};

static inline struct reader reader_of(struct slice s)
{
	return (struct reader){s.p, s.p + s.n, false};
}
static inline size_t rd_left(const struct reader *r)
{
	return (size_t)(r->end - r->p);
}
uint8_t rd_u8(struct reader *r);
uint16_t rd_u16(struct reader *r);
uint32_t rd_u24(struct reader *r);
uint32_t rd_u32(struct reader *r);
uint64_t rd_u64(struct reader *r);
uint64_t rd_lenenc(struct reader *r);             /* length-encoded integer; 0xfb and 0xff are malformed here */
struct slice rd_bytes(struct reader *r, size_t n); /* exactly n */
struct slice rd_lenenc_bytes(struct reader *r);    /* length-encoded string */
struct slice rd_nul(struct reader *r);             /* up to a NUL, which is consumed and not part of the slice */
struct slice rd_rest(struct reader *r);            /* all that is left */

/* A growing buffer that owns its bytes. `data` may move at any buf_* call that adds. Zero-initialise; buf_fini frees.
 */
struct buf {
	uint8_t *data;
	size_t len, cap;
};

void buf_fini(struct buf *b);
void buf_reserve(struct buf *b, size_t more); /* makes room for `more` bytes after len */
/* The same for what a peer has sized: false when there is no memory for it, and then nothing has changed. */
bool buf_try_reserve(struct buf *b, size_t more);
bool buf_try_put(struct buf *b, const void *p, size_t n);
void buf_put(struct buf *b, const void *p, size_t n);
void buf_put_str(struct buf *b, const char *s); /* without the NUL */
void buf_put_u8(struct buf *b, unsigned v);
void buf_put_u16(struct buf *b, unsigned v);
void buf_put_u24(struct buf *b, uint32_t v);
void buf_put_u32(struct buf *b, uint32_t v);
void buf_put_u64(struct buf *b, uint64_t v);
void buf_put_lenenc(struct buf *b, uint64_t v);
void buf_put_lenenc_bytes(struct buf *b, struct slice s);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Drops n bytes from the front. */
void buf_consume(struct buf *b, size_t n);
static inline void buf_clear(struct buf *b)
{
	b->len = 0;
}
static inline struct slice buf_slice(const struct buf *b)
{
	return slice_of(b->data, b->len);
}

#endif
