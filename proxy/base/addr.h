/* SPDX-License-Identifier: Apache-2.0
 *
 * An ADDR as users write it: `host:port`, `host`, `[v6]:port`, `v6` or `/path/to.sock`. Any thread.
 */
#ifndef ST_BASE_ADDR_H
#define ST_BASE_ADDR_H

#include <stdbool.h>
#include <sys/socket.h>

struct addr {
	char text[160];  /* as written, with the default port added */
	char host[128];  /* without brackets; the path for a unix socket */
	unsigned port;   /* 0 for a unix socket */
	bool is_unix;
	socklen_t len;   /* of sa; 0 until resolved */
	struct sockaddr_storage sa;
	/* words behind a listening address; set by the configuration's reader */
	bool transparent;    /* the kernel redirects connections here: what they wanted is asked of it */
	bool proxy_protocol; /* every connection begins with a PROXY protocol header */
};

/* Parses, does not resolve. Returns 0, or -1 with `*why` a static text ("port must be 1 to 65535"). */
int addr_parse(const char *text, unsigned default_port, struct addr *out, const char **why);

/* Fills sa and len (numeric hosts at once, names by getaddrinfo, which may block: not on a worker).
 * Returns 0, or -1 with `*why` a static text. */
int addr_resolve(struct addr *a, const char **why);

#endif
