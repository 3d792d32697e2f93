/* SPDX-License-Identifier: Apache-2.0
 *
 * The first bytes of a redirected connection where --send-proxy is set: a PROXY protocol version 2 header
 * (https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt) that says who the client is and what it wanted. Pure.
 */
#ifndef ST_PRELOAD_PROXYV2_H
#define ST_PRELOAD_PROXYV2_H

#include "endpoint.h"

enum { PROXYV2_MAX = 16 + 2 * 108 };

/* `source` is the program's own end as getsockname() tells it, `wanted` what it asked connect() for. The families
 * need not be the same: the header has that of `wanted`, or IPv6 with mapped addresses for a mixture. A program that
 * reaches the proxy over a unix socket has no address: it is on this machine, so it is the loopback, port 0.
 * Returns the length. */
size_t proxyv2_build(const struct endpoint *source, const struct endpoint *wanted, uint8_t out[PROXYV2_MAX]);

#endif
