/* SPDX-License-Identifier: Apache-2.0
 *
 * The PROXY protocol's header, versions 1 (a line) and 2 (binary), as HAProxy specifies it
 * (https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt): the first bytes of a connection, by which whoever
 * passes it on says between whom it is. Whether there has to be one is a matter of configuration and of whom it comes
 * from; nothing here guesses. Pure; any thread.
 */
#ifndef ST_NET_PROXY_HEADER_H
#define ST_NET_PROXY_HEADER_H

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "base/slice.h"

/* The longest that is accepted, TLVs included. Version 2 could say 64 KiB, which a peer that nobody knows yet would
 * have us keep; senders are to stay within the smallest TCP segment (536 bytes), and IPv6 addresses with all that
 * HAProxy may add (a server name and ALPN of up to 255 bytes, a unique ID of 128, what TLS was used) fit into this. */
enum { PROXY_HEADER_MAX = 1024 };

struct proxy_header {
	/* LOCAL, UNKNOWN or UNSPEC: the connection's own addresses count, those below are unset (AF_UNSPEC, no length).
	 */
	bool local;
	/* As accept() and getsockname() would give them. IPv4-mapped IPv6 stays IPv6. A unix address without a path, or
	 * with an abstract one, is the family alone, as an unnamed socket's is; a path fills all 108 bytes (with no NUL
	 * behind it) or has its NUL counted. */
	struct sockaddr_storage source, destination;
	socklen_t source_len, destination_len;
};

/* Reads a header at the beginning of data. > 0: its length, and *out is set; 0: more must come; -1: malformed, or
 * longer than PROXY_HEADER_MAX. Decides as early as it can, at the first wrong byte, or where a word of the line ends
 * that is none: what is -1 stays so whatever follows, and with PROXY_HEADER_MAX bytes it is never 0. *out means
 * something only when > 0.
 *
 * Where the specification leaves it to the receiver: datagrams are refused; the content of a LOCAL or UNSPEC header is
 * skipped unseen, for it is not said where addresses end in it; of all other TLVs the lengths have to add up, and a
 * checksum (CRC32C, once at most) has to be right. */
ssize_t proxy_header_parse(struct slice data, struct proxy_header *out);
/* Do these bytes begin as a header does, good or not? For messages. */
bool proxy_header_begins(struct slice data);

#endif
