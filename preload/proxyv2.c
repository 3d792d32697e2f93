/* SPDX-License-Identifier: Apache-2.0 */
#include "proxyv2.h"

#include <string.h>

enum { VERSION_2_PROXY = 0x21, STREAM_OVER_IPV4 = 0x11, STREAM_OVER_IPV6 = 0x21, STREAM_OVER_UNIX = 0x31 };

static const uint8_t signature[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

static uint8_t *put(uint8_t *p, const void *bytes, size_t n)
{
	memcpy(p, bytes, n);
	return p + n;
}

static uint8_t *put_port(uint8_t *p, uint16_t port)
{
	*p++ = (uint8_t)(port >> 8);
	*p++ = (uint8_t)port;
	return p;
}

static bool is_mapped(const uint8_t ip[16])
{
	static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};

	return memcmp(ip, prefix, 12) == 0;
}

static uint8_t *put_unix(uint8_t *p, const struct endpoint *e)
{
	size_t n = e->u.sa.sa_family == AF_UNIX ? e->len - offsetof(struct sockaddr_un, sun_path) : 0;

	memset(p, 0, 108);
	memcpy(p, e->u.un.sun_path, n);
	return p + 108;
}

size_t proxyv2_build(const struct endpoint *source, const struct endpoint *wanted, uint8_t out[PROXYV2_MAX])
{
	uint8_t src[16] = {0}, dst[16], family;
	uint16_t src_port = 0, dst_port;
	uint8_t *p = put(out, signature, sizeof(signature)) + 4;

	if (!endpoint_ip(&wanted->u.sa, wanted->len, dst, &dst_port)) {
		family = STREAM_OVER_UNIX;
		p = put_unix(put_unix(p, source), wanted);
	} else {
		if (!endpoint_ip(&source->u.sa, source->len, src, &src_port)) {
			memcpy(src, dst, 12);
			if (is_mapped(dst))
				src[12] = 127;
			else
				memset(src, 0, 12);
			src[15] = 1;
		}
		size_t skip = is_mapped(src) && is_mapped(dst) ? 12 : 0;

		family = skip > 0 ? STREAM_OVER_IPV4 : STREAM_OVER_IPV6;
		p = put(p, src + skip, 16 - skip);
		p = put(p, dst + skip, 16 - skip);
		p = put_port(put_port(p, src_port), dst_port);
	}
	out[12] = VERSION_2_PROXY;
	out[13] = family;
	put_port(out + 14, (uint16_t)(p - out - 16));
	return (size_t)(p - out);
}
