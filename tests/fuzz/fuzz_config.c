/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a configuration file: loading ends, reports or returns a config; what it returns prints itself, its
 * views share its servers and rules out, and what a service matches is that service's, or an earlier one's.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <netinet/in.h>
#include <sys/un.h>

#include "base/config_table.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void report(void *arg, const char *line)
{
	++*(unsigned *)arg;
	if (line[0] == '\0')
		abort();
}

static void visit(void *arg, const char *section, const char *key, const char *value, const char *def)
{
	*(size_t *)arg += strlen(section) + strlen(key) + strlen(value) + strlen(def);
}

static int service_of(const struct config *c, const struct config_match *m)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(m->port)};

	memcpy(un.sun_path, m->path, sizeof m->path);
	memcpy(&in6.sin6_addr, m->net.ip, sizeof m->net.ip);
	return m->path[0] != '\0' ? config_service_for(c, (struct sockaddr *)&un, sizeof un)
				  : config_service_for(c, (struct sockaddr *)&in6, sizeof in6);
}

static void check_matches(const struct config *c)
{
	for (int i = 0; i < (int)c->nservices; i++) {
		for (unsigned k = 0; k < c->services[i].match.n; k++) {
			int found = service_of(c, &c->services[i].match.at[k]);
			if (found < 0 || found > i)
				abort();
		}
	}
	for (unsigned i = 0; i < c->proxy_nets.n; i++) {
		struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
		memcpy(&in6.sin6_addr, c->proxy_nets.at[i].ip, 16);
		if (!config_trusts(c, (struct sockaddr *)&in6))
			abort();
	}
}

static void check_views(struct config *c)
{
	unsigned servers = 0, rules = 0;

	for (int i = -1; i < (int)c->nservices; i++) {
		struct config *view = config_view(c, i);
		if (view->nservers == 0)
			abort(); /* no group is without */
		servers += view->nservers;
		rules += view->nrules;
		check_matches(view);
		config_unref(view);
	}
	if (servers != c->nservers || rules != c->nrules)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct config_options options = {.unresolved = true}; /* no DNS */
	unsigned reports = 0;
	size_t shown = 0;
	char *text = xmalloc(size + 1);

	memcpy(text, data, size);
	text[size] = '\0';
	struct config *c = config_load_text("fuzz", text, size, false, &options, report, &reports);
	if ((c == NULL) != (reports > 0))
		abort(); /* a config, or a reason why not */
	if (c != NULL) {
		config_visit(c, visit, &shown);
		check_views(c);
		if (!config_same_services(c, c, report, &reports))
			abort();
	}
	config_unref(c);
	free(text);
	return 0;
}
