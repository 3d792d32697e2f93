/* SPDX-License-Identifier: Apache-2.0 */
#include "names.h"

#include <netdb.h>
#include <string.h>

static struct addrinfo *look_up(const char *name, int *error)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *list = NULL;

	*error = getaddrinfo(name, NULL, &hints, &list);
	return list;
}

bool names_endpoint(struct text t, struct endpoint *out, const char **why)
{
	char name[NAME_MAX_BYTES + 1];
	struct addrinfo *list;
	struct text host;
	uint16_t port;
	int error;

	*why = "expected host:port, [v6]:port or /path/to.sock";
	if (endpoint_parse(t, out))
		return true;
	if ((t.n > 0 && t.p[0] == '/') || !host_port_split(t, &host, &port) || host.n > NAME_MAX_BYTES ||
	    memchr(host.p, '*', host.n) != NULL)
		return false;
	memcpy(name, host.p, host.n);
	name[host.n] = '\0';
	list = look_up(name, &error);
	if (list == NULL) {
		*why = gai_strerror(error);
		return false;
	}
	bool ok = endpoint_copy(list->ai_addr, list->ai_addrlen, out);

	freeaddrinfo(list);
	if (ok && out->u.sa.sa_family == AF_INET)
		out->u.in.sin_port = htons(port);
	else if (ok)
		out->u.in6.sin6_port = htons(port);
	return ok;
}

void names_learn(struct rules *r)
{
	for (unsigned i = 0; i < r->n; i++) {
		struct addrinfo *list;
		int error;

		if (r->v[i].kind != RULE_NAME)
			continue;
		list = look_up(r->v[i].text, &error);
		for (struct addrinfo *a = list; a != NULL; a = a->ai_next)
			rules_learn(r, r->v[i].text, a->ai_addr, a->ai_addrlen);
		if (list != NULL)
			freeaddrinfo(list);
	}
}
