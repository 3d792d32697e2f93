/* SPDX-License-Identifier: Apache-2.0
 *
 * Server groups: what of a configuration is one group's, which group a destination is of, and who may say what a
 * connection wanted.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/config.h"
#include "base/mem.h"

/* --- Views ------------------------------------------------------------------------------------------------------ */

static void keep_own(struct config *view, const struct config *whole, int service)
{
	view->nservers = view->nrules = 0;
	for (unsigned i = 0; i < whole->nservers; i++)
		if (whole->servers[i].service == service)
			view->servers[view->nservers++] = whole->servers[i];
	for (unsigned i = 0; i < whole->nrules; i++)
		if (whole->rules[i].service == service)
			view->rules[view->nrules++] = whole->rules[i];
}

struct config *config_view(struct config *c, int service)
{
	const size_t head = offsetof(struct config, path); /* others may be counting in refs */
	struct config *view = xcalloc(1, sizeof *view);

	memcpy((char *)view + head, (const char *)c + head, sizeof *view - head);
	atomic_init(&view->refs, 1);
	view->whole = config_ref(c);
	keep_own(view, c, service);
	if (service < 0)
		return view;
	const struct config_service *s = &c->services[service];
	snprintf(view->service, sizeof view->service, "%s", s->name);
	if (s->monitor_user != NULL) { /* both: a password is of one account */
		view->monitor_user = s->monitor_user;
		view->monitor_password = s->monitor_password;
	}
	return view;
}

/* --- Addresses -------------------------------------------------------------------------------------------------- */

/* IPv4 becomes IPv4-mapped. False for all but IP. */
static bool get_ip(const struct sockaddr *sa, socklen_t len, uint8_t ip[16], uint16_t *port)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)sa;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)sa;

	if (sa->sa_family == AF_INET6 && len >= sizeof *in6) {
		memcpy(ip, &in6->sin6_addr, 16);
		*port = ntohs(in6->sin6_port);
		return true;
	}
	if (sa->sa_family != AF_INET || len < sizeof *in)
		return false;
	memset(ip, 0, 10);
	memset(ip + 10, 0xff, 2);
	memcpy(ip + 12, &in->sin_addr, 4);
	*port = ntohs(in->sin_port);
	return true;
}

static bool net_covers(const struct config_net *net, const uint8_t ip[16])
{
	unsigned whole = net->bits / 8, rest = net->bits % 8;

	return memcmp(net->ip, ip, whole) == 0 && (rest == 0 || (net->ip[whole] ^ ip[whole]) >> (8 - rest) == 0);
}

bool config_trusts(const struct config *c, const struct sockaddr *peer)
{
	uint16_t port;
	uint8_t ip[16];

	if (peer->sa_family == AF_UNIX)
		return true;
	if (!get_ip(peer, sizeof(struct sockaddr_storage), ip, &port))
		return false;
	for (unsigned i = 0; i < c->proxy_nets.n; i++)
		if (net_covers(&c->proxy_nets.at[i], ip))
			return true;
	return false;
}

/* --- Destinations ----------------------------------------------------------------------------------------------- */

struct destination {
	uint8_t ip[16];
	uint16_t port;
	char path[sizeof((struct sockaddr_un *)0)->sun_path + 1]; /* "" for an IP destination */
};

static bool get_path(const struct sockaddr *sa, socklen_t len, char *path)
{
	const size_t head = offsetof(struct sockaddr_un, sun_path);

	if (sa->sa_family != AF_UNIX || len <= head || len > sizeof(struct sockaddr_un))
		return false;
	size_t n = strnlen(((const struct sockaddr_un *)sa)->sun_path, len - head);
	memcpy(path, ((const struct sockaddr_un *)sa)->sun_path, n);
	path[n] = '\0';
	return n > 0; /* else it is unnamed or abstract */
}

/* /run is where /var/run points to, everywhere; programs and files may disagree about its name. */
static const char *without_var(const char *path)
{
	return strncmp(path, "/var/run/", 9) == 0 ? path + 4 : path;
}

static bool match_covers(const struct config_match *m, const struct destination *d)
{
	if (m->path[0] != '\0' || d->path[0] != '\0')
		return strcmp(without_var(m->path), without_var(d->path)) == 0;
	return m->port == d->port && net_covers(&m->net, d->ip);
}

int config_service_for(const struct config *c, const struct sockaddr *wanted, socklen_t len)
{
	struct destination d = {.path = ""};

	if (len < sizeof(sa_family_t) || (!get_ip(wanted, len, d.ip, &d.port) && !get_path(wanted, len, d.path)))
		return -1;
	for (unsigned i = 0; i < c->nservices; i++)
		for (unsigned k = 0; k < c->services[i].match.n; k++)
			if (match_covers(&c->services[i].match.at[k], &d))
				return (int)i;
	return -1;
}

/* --- Reloads ---------------------------------------------------------------------------------------------------- */

static bool has_service(const struct config *c, const char *name)
{
	for (unsigned i = 0; i < c->nservices; i++)
		if (strcmp(c->services[i].name, name) == 0)
			return true;
	return false;
}

/* What a has and b has not; how many. */
static unsigned report_missing(const struct config *a, const struct config *b, const char *what,
			       void (*report)(void *arg, const char *line), void *arg)
{
	unsigned n = 0;

	for (unsigned i = 0; i < a->nservices; i++) {
		if (has_service(b, a->services[i].name))
			continue;
		char *line = xasprintf("[service.%s] is %s: that needs a restart", a->services[i].name, what);
		report(arg, line);
		free(line);
		n++;
	}
	return n;
}

bool config_same_services(const struct config *old, const struct config *new_,
			  void (*report)(void *arg, const char *line), void *arg)
{
	if (report_missing(old, new_, "gone", report, arg) + report_missing(new_, old, "new", report, arg) > 0)
		return false;
	for (unsigned i = 0; i < old->nservices; i++) {
		if (strcmp(old->services[i].name, new_->services[i].name) != 0) {
			report(arg, "the [service.X] sections are in another order: that needs a restart");
			return false;
		}
	}
	return true;
}
