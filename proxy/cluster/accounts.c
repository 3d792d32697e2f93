/* SPDX-License-Identifier: Apache-2.0
 *
 * The list is sorted by user, then by how specific the host is, so an account is found by a binary search for the user
 * and a short walk; anonymous accounts stand first. As in MariaDB, the more specific host wins between the two, and the
 * named user where both are as specific.
 */
#include "cluster/accounts.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

/* "192.168.0.0/255.255.0.0", IPv4 only, as the server knows it. */
static bool netmask_parse(const char *host, uint32_t *base, uint32_t *mask)
{
	char text[INET_ADDRSTRLEN];
	const char *slash = strchr(host, '/');
	struct in_addr a, m;

	if (slash == NULL || (size_t)(slash - host) >= sizeof text)
		return false;
	snprintf(text, sizeof text, "%.*s", (int)(slash - host), host);
	if (inet_pton(AF_INET, text, &a) != 1 || inet_pton(AF_INET, slash + 1, &m) != 1)
		return false;
	*base = ntohl(a.s_addr);
	*mask = ntohl(m.s_addr);
	return true;
}

/* Higher is more specific: no wildcard, then a netmask by its bits, then by how much stands before the first
 * wildcard and how much a match must have at least; "%" and "" last. */
static unsigned specificity(const char *host)
{
	uint32_t base, mask;
	unsigned before = 0, literal = 0;
	bool wild = false;

	if (netmask_parse(host, &base, &mask))
		return 1u << 20 | (unsigned)__builtin_popcount(mask);
	for (const char *p = host; *p != 0; p++) {
		if (*p == '\\' && p[1] != 0)
			p++;
		else if (*p == '%' || *p == '_')
			wild = true;
		before += !wild;
		literal += *p != '%';
	}
	if (literal == 0)
		return 0;
	return wild ? before << 10 | literal : 1u << 21;
}

static int compare(const void *left, const void *right)
{
	const struct account *a = left, *b = right;
	int by_user = strcmp(a->user, b->user);

	if (by_user != 0)
		return by_user;
	unsigned x = specificity(a->host), y = specificity(b->host);
	return x != y ? (x > y ? -1 : 1) : -strcmp(a->host, b->host);
}

struct accounts *accounts_new(struct account *rows, unsigned n, uint64_t generation)
{
	static _Atomic uint64_t serials;
	struct accounts *a = xcalloc(1, sizeof *a);

	atomic_init(&a->refs, 1);
	atomic_init(&a->generation, generation);
	a->serial = atomic_fetch_add(&serials, 1) + 1;
	a->n = n;
	a->list = rows;
	if (n != 0)
		qsort(rows, n, sizeof *rows, compare);
	return a;
}

struct accounts *accounts_ref(struct accounts *a)
{
	atomic_fetch_add_explicit(&a->refs, 1, memory_order_relaxed);
	return a;
}

void accounts_unref(struct accounts *a)
{
	if (a == NULL || atomic_fetch_sub_explicit(&a->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (a->n != 0)
		explicit_bzero(a->list, a->n * sizeof *a->list);
	free(a->list);
	free(a);
}

bool accounts_grant_alike(const struct accounts *a, const struct accounts *b)
{
	if (a->n != b->n || a->reloads != b->reloads || strcmp(a->seen_as, b->seen_as) != 0)
		return false;
	for (unsigned i = 0; i < a->n; i++) {
		const struct account *x = &a->list[i], *y = &b->list[i];
		if (strcmp(x->user, y->user) != 0 || strcmp(x->host, y->host) != 0 || x->usable != y->usable ||
		    memcmp(x->rights, y->rights, RIGHTS_DIGEST) != 0)
			return false;
	}
	return true;
}

/* SQL's LIKE without case, iteratively: a pattern has at most 255 characters but may hold many '%'. */
static bool like(const char *text, const char *pattern)
{
	const char *star = NULL, *again = NULL;

	while (*text != 0) {
		if (*pattern == '%') {
			star = ++pattern;
			again = text;
			continue;
		}
		bool any = *pattern == '_';
		const char *literal = *pattern == '\\' && pattern[1] != 0 ? pattern + 1 : pattern;
		if (*pattern != 0 && (any || tolower((unsigned char)*literal) == tolower((unsigned char)*text))) {
			pattern = literal + 1;
			text++;
		} else if (star != NULL) {
			pattern = star;
			text = ++again;
		} else {
			return false;
		}
	}
	while (*pattern == '%')
		pattern++;
	return *pattern == 0;
}

static bool host_matches(const char *pattern, const char *client, bool also_localhost)
{
	uint32_t base, mask;
	struct in_addr ip;

	if (*pattern == 0 || like(client, pattern) || (also_localhost && like("localhost", pattern)))
		return true;
	return netmask_parse(pattern, &base, &mask) && inet_pton(AF_INET, client, &ip) == 1 &&
	       (ntohl(ip.s_addr) & mask) == base;
}

static int compare_user(const char *user, struct slice want)
{
	size_t n = strlen(user), both = n < want.n ? n : want.n;
	int by_bytes = both != 0 ? memcmp(user, want.p, both) : 0;

	return by_bytes != 0 ? by_bytes : (n > want.n) - (n < want.n);
}

static const struct account *find_user(const struct accounts *a, struct slice user, const char *host, bool localhost)
{
	unsigned lo = 0, hi = a->n;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;
		if (compare_user(a->list[mid].user, user) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < a->n && compare_user(a->list[lo].user, user) == 0; lo++)
		if (host_matches(a->list[lo].host, host, localhost))
			return &a->list[lo];
	return NULL;
}

const struct account *accounts_find(const struct accounts *a, struct slice user, const char *client_host,
				    bool skip_name_resolve)
{
	if (strncasecmp(client_host, "::ffff:", 7) == 0 && strchr(client_host, '.') != NULL)
		client_host += 7;
	bool loopback = strcmp(client_host, "127.0.0.1") == 0 || strcmp(client_host, "::1") == 0;
	bool localhost = loopback && !skip_name_resolve;
	const struct account *named = find_user(a, user, client_host, localhost);
	if (user.n == 0 || (named != NULL && named->configured))
		return named;
	const struct account *anonymous = find_user(a, slice_str(""), client_host, localhost);
	if (named == NULL || anonymous == NULL)
		return named != NULL ? named : anonymous;
	return specificity(anonymous->host) > specificity(named->host) ? anonymous : named;
}
