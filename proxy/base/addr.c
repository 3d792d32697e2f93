/* SPDX-License-Identifier: Apache-2.0 */
#include "base/addr.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

static const char digits[] = "0123456789";
static const char name_chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
static const char v6_chars[] = "abcdefABCDEF0123456789:.";

static int fail(const char **why, const char *text)
{
	*why = text;
	return -1;
}

static int parse_port(const char *text, unsigned *port, const char **why)
{
	size_t n = strlen(text);

	if (n == 0 || n > 5 || strspn(text, digits) != n)
		return fail(why, "port must be 1 to 65535");
	unsigned long v = strtoul(text, NULL, 10);
	if (v == 0 || v > 65535)
		return fail(why, "port must be 1 to 65535");
	*port = (unsigned)v;
	return 0;
}

static int parse_unix(const char *path, struct addr *out, const char **why)
{
	if (strlen(path) >= sizeof((struct sockaddr_un *)0)->sun_path)
		return fail(why, "the path of a unix socket has at most 107 bytes");
	if (path[1] == '\0' || path[strlen(path) - 1] == '/')
		return fail(why, "the path of a unix socket must name a file");
	out->is_unix = true;
	snprintf(out->host, sizeof out->host, "%s", path);
	snprintf(out->text, sizeof out->text, "%s", path);
	return 0;
}

/* An IPv6 address may carry a zone: fe80::1%eth0. */
static bool good_v6(const char *host)
{
	size_t n = strspn(host, v6_chars);

	if (host[n] == '%')
		return n > 0 && host[n + 1] != '\0' && strspn(host + n + 1, name_chars) == strlen(host + n + 1);
	return n > 0 && host[n] == '\0';
}

static int finish(struct addr *out, bool v6, const char **why)
{
	if (out->host[0] == '\0')
		return fail(why, "the host is missing");
	if (v6 ? !good_v6(out->host) : strspn(out->host, name_chars) != strlen(out->host))
		return fail(why, "expected host:port, host, [v6]:port or /path/to.sock");
	if (out->port == 0)
		return fail(why, "a port is needed: host:port");
	snprintf(out->text, sizeof out->text, v6 ? "[%s]:%u" : "%s:%u", out->host, out->port);
	return 0;
}

int addr_parse(const char *text, unsigned default_port, struct addr *out, const char **why)
{
	*out = (struct addr){.port = default_port};
	if (text[0] == '\0')
		return fail(why, "the address is empty");
	if (text[0] == '/') {
		out->port = 0;
		return parse_unix(text, out, why);
	}
	const char *host = text, *port = NULL, *end;
	bool v6 = text[0] == '[';
	if (v6) {
		host++;
		end = strchr(host, ']');
		if (end == NULL || (end[1] != '\0' && end[1] != ':'))
			return fail(why, "expected [v6]:port");
		port = end[1] == ':' ? end + 2 : NULL;
	} else {
		const char *colon = strchr(text, ':');
		v6 = colon != NULL && strchr(colon + 1, ':') != NULL; /* a bare v6 address has no port */
		end = colon != NULL && !v6 ? colon : text + strlen(text);
		port = colon != NULL && !v6 ? colon + 1 : NULL;
	}
	if ((size_t)(end - host) >= sizeof out->host)
		return fail(why, "the host name is too long");
	memcpy(out->host, host, (size_t)(end - host));
	if (port != NULL && parse_port(port, &out->port, why) != 0)
		return -1;
	return finish(out, v6, why);
}

/* Databases mostly listen on IPv4 where a name means both families, and only one address is kept. */
static const struct addrinfo *preferred(const struct addrinfo *list)
{
	for (const struct addrinfo *ai = list; ai != NULL; ai = ai->ai_next)
		if (ai->ai_family == AF_INET)
			return ai;
	return list;
}

int addr_resolve(struct addr *a, const char **why)
{
	if (a->is_unix) {
		struct sockaddr_un *un = (struct sockaddr_un *)&a->sa;
		un->sun_family = AF_UNIX;
		memcpy(un->sun_path, a->host, strlen(a->host) + 1);
		a->len = (socklen_t)sizeof *un;
		return 0;
	}
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *list;
	char port[8];
	snprintf(port, sizeof port, "%u", a->port);
	int rc = getaddrinfo(a->host, port, &hints, &list);
	if (rc != 0)
		return fail(why, gai_strerror(rc));
	const struct addrinfo *ai = preferred(list);
	memcpy(&a->sa, ai->ai_addr, ai->ai_addrlen);
	a->len = ai->ai_addrlen;
	freeaddrinfo(list);
	return 0;
}
