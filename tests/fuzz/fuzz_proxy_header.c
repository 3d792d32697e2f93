/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target: the PROXY protocol's header at the beginning of the input. Every prefix is parsed on a copy of its
 * exact size: first nothing is decided, then the verdict stays, whatever follows; a header is whole at its last byte
 * and means the same with and without more behind it.
 */
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/un.h>

#include "base/mem.h"
#include "net/proxy_header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
	if (!ok)
		abort();
}

static ssize_t parse(const uint8_t *data, size_t n, struct proxy_header *out)
{
	uint8_t *exact = xmalloc(n);

	if (n > 0)
		memcpy(exact, data, n);
	ssize_t got = proxy_header_parse(slice_of(exact, n), out);
	free(exact);
	require(got >= -1 && got <= PROXY_HEADER_MAX && (got <= 0 || (size_t)got <= n));
	require(got != 0 || n < PROXY_HEADER_MAX);
	return got;
}

/* An address as the system would give it, and nothing behind its end. */
static void require_address(const struct sockaddr_storage *sa, socklen_t len)
{
	static const struct sockaddr_storage none;
	struct sockaddr_un un;

	require(len <= sizeof *sa && memcmp((const uint8_t *)sa + len, &none, sizeof none - len) == 0);
	switch (sa->ss_family) {
	case AF_UNSPEC: require(len == 0); break;
	case AF_INET: require(len == sizeof(struct sockaddr_in)); break;
	case AF_INET6: require(len == sizeof(struct sockaddr_in6)); break;
	default:
		require(sa->ss_family == AF_UNIX && len >= offsetof(struct sockaddr_un, sun_path) && len <= sizeof un);
		memcpy(&un, sa, sizeof un);
		size_t n = len - offsetof(struct sockaddr_un, sun_path), path = strnlen(un.sun_path, n);
		require(n == 0 || n == path + 1 || (n == path && n == sizeof un.sun_path));
		require(n != 1);
	}
}

static void require_same(const struct proxy_header *a, const struct proxy_header *b)
{
	require(a->local == b->local && a->source_len == b->source_len && a->destination_len == b->destination_len);
	require(memcmp(&a->source, &b->source, sizeof a->source) == 0);
	require(memcmp(&a->destination, &b->destination, sizeof a->destination) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct proxy_header whole, part;
	ssize_t got = parse(data, size, &whole);
	size_t most = size < PROXY_HEADER_MAX ? size : PROXY_HEADER_MAX, decided = 0;

	while (decided < most && parse(data, decided, &part) == 0)
		decided++;
	require(got <= 0 || decided == (size_t)got);
	for (size_t n = decided; n <= most; n++) {
		require(parse(data, n, &part) == got);
		if (got > 0)
			require_same(&whole, &part);
	}
	if (got > 0) {
		require(whole.local == (whole.source.ss_family == AF_UNSPEC));
		require(whole.source.ss_family == whole.destination.ss_family);
		require_address(&whole.source, whole.source_len);
		require_address(&whole.destination, whole.destination_len);
	}
	return 0;
}
