/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target: the shim's rules and addresses. The input is a rule list, a NUL, and what a program might pass to
 * connect(), with a length that need not suit it.
 */
#include <stdlib.h>

#include "proxyv2.h"
#include "rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
	if (!ok)
		abort();
}

/* What is written down can be read back. */
static void round_trip(const struct endpoint *e)
{
	char text[ENDPOINT_TEXT_MAX];
	struct endpoint again;
	size_t n = endpoint_text(e, text);

	require(n < sizeof(text) && text[n] == '\0');
	if (e->u.sa.sa_family == AF_UNIX && text[0] != '/')
		return; /* relative, or abstract */
	if (endpoint_parse((struct text){text, n}, &again))
		require(endpoint_same(e, &again));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct rules r;
	struct text rest = {(const char *)data, size}, list = text_cut(&rest, '\0');
	size_t most = sizeof(struct sockaddr_storage);
	socklen_t len = (socklen_t)(rest.n < most ? rest.n : most);
	struct sockaddr *sa = malloc(len > 0 ? len : 1); /* its exact size: a read beyond it is found */
	struct rules_error err = {0};
	uint8_t header[PROXYV2_MAX];
	struct endpoint e;

	memset(&r, 0, sizeof(r));
	memcpy(sa, rest.p, len);
	if (!rules_add(&r, list, &err))
		require(err.why != NULL && err.where.p >= list.p && err.where.p + err.where.n <= list.p + list.n);
	require(r.n <= RULES_MAX);
	rules_match(&r, sa, len);
	if (endpoint_parse(list, &r.to))
		round_trip(&r.to);
	if (endpoint_copy(sa, len, &e)) {
		round_trip(&e);
		require(proxyv2_build(&r.to, &e, header) <= sizeof(header));
		rules_learn(&r, "db", sa, len);
		require(!endpoint_same(&e, &r.to) || !rules_match(&r, sa, len));
	}
	free(sa);
	return 0;
}
