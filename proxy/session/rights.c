/* SPDX-License-Identifier: Apache-2.0
 *
 * What the session's account may read, as the monitor last read it. Found once for each snapshot of the accounts; a
 * statement only compares numbers. Known means: as the primary has it, not long ago, and after whatever passed here
 * that may have changed it.
 */
#include "session/session.h"

#include <openssl/sha.h>
#include <stdlib.h>
#include <time.h>

/* The monitor asks twice a second. When it gets no answer for this long, hits end. */
enum { KNOWN_US = 2000000 };

static bool trusted(const struct proxy *p, const struct accounts *a, int64_t now)
{
	return now - atomic_load_explicit(&a->proved_us, memory_order_relaxed) <= KNOWN_US &&
	       atomic_load_explicit(&a->generation, memory_order_acquire) >=
		       atomic_load_explicit(&p->accounts_needed, memory_order_acquire);
}

/* The same user name may be different accounts for different clients. */
static void put_account(const struct account *a, uint8_t out[RIGHTS_DIGEST])
{
	uint8_t text[RIGHTS_DIGEST + sizeof a->host + 1], digest[SHA256_DIGEST_LENGTH];
	size_t n = strlen(a->host);

	memcpy(text, a->rights, RIGHTS_DIGEST);
	text[RIGHTS_DIGEST] = a->configured;
	memcpy(text + RIGHTS_DIGEST + 1, a->host, n);
	if (SHA256(text, RIGHTS_DIGEST + 1 + n, digest) == NULL)
		abort(); /* out of memory: a digest that says nothing must not be used */
	memcpy(out, digest, RIGHTS_DIGEST);
}

/* Looks the account up. Servers see the proxy, not the client, and may know it by another account of that name: both
 * must be let in. */
static void find(struct session *s, const struct accounts *all)
{
	struct session_rights *r = &s->rights;
	const struct topology *t = s->pw->cluster.topology;
	struct slice user = slice_str(s->identity->user);
	const struct account *a = accounts_find(all, user, s->host, t != NULL && t->skip_name_resolve);
	const struct account *there = all->seen_as[0] != '\0' ? accounts_find(all, user, all->seen_as, true) : NULL;

	*r = (struct session_rights){.serial = all->serial};
	if (a == NULL || !a->usable || (there != NULL && !there->usable))
		return;
	r->usable = true;
	r->expires_s = there != NULL && there->expires_s < a->expires_s ? there->expires_s : a->expires_s;
	memcpy(r->granted, a->rights, RIGHTS_DIGEST);
	for (unsigned i = 0; i < sizeof all->reloads; i++)
		r->granted[i] ^= (uint8_t)(all->reloads >> 8 * i);
	put_account(a, r->digest);
}

const uint8_t *rights_granted(struct session *s)
{
	const struct accounts *all = s->pw->accounts;
	struct session_rights *r = &s->rights;

	if (all == NULL)
		return NULL;
	if (r->serial != all->serial)
		find(s, all);
	return r->usable && (r->expires_s == INT64_MAX || time(NULL) < r->expires_s) ? r->granted : NULL;
}

const uint8_t *rights_of(struct session *s)
{
	const struct accounts *all = s->pw->accounts;

	if (all == NULL || !trusted(s->pw->proxy, all, s->command->started_us) || rights_granted(s) == NULL)
		return NULL;
	return s->rights.digest;
}

bool rights_were_judged(const struct backend *b, const uint8_t granted[RIGHTS_DIGEST])
{
	return b != NULL && memcmp(b->rights, granted, RIGHTS_DIGEST) == 0;
}
