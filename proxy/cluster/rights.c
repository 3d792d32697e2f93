/* SPDX-License-Identifier: Apache-2.0
 *
 * Rows are kept as digests, sorted by name; a name's rows have one digest together, made once, however many users have
 * the role.
 */
#include "cluster/rights.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { SHA256 = 32 };

struct row {
	char *name, *host;
	bool is_account;
	uint8_t digest[SHA256];
};

struct edge {
	char *name, *role;
};

struct owner { /* a name that has rows or roles */
	const char *name;
	unsigned row, nrows, edge, nedges;
	bool digested, visited;
	uint8_t digest[SHA256];
};

struct rights {
	struct row *rows;
	struct edge *edges;
	struct owner *owners; /* sorted by name; made by seal() */
	unsigned *stack;
	size_t nrows, rows_cap, nedges, edges_cap, nowners;
	bool sealed;
};

static void sha256(const void *p, size_t n, uint8_t out[SHA256])
{
	if (EVP_Digest(p, n, out, NULL, EVP_sha256(), NULL) != 1)
		abort(); /* out of memory: a digest that says nothing must not be used */
}

struct rights *rights_new(void)
{
	return xcalloc(1, sizeof(struct rights));
}

void rights_free(struct rights *r)
{
	for (size_t i = 0; i < r->nrows; i++) {
		free(r->rows[i].name);
		free(r->rows[i].host);
	}
	for (size_t i = 0; i < r->nedges; i++) {
		free(r->edges[i].name);
		free(r->edges[i].role);
	}
	free(r->rows);
	free(r->edges);
	free(r->owners);
	free(r->stack);
	free(r);
}

/* Room for one more element. */
static void *grown(void *list, size_t n, size_t *cap, size_t size)
{
	if (n < *cap)
		return list;
	*cap = *cap > 0 ? 2 * *cap : 64;
	return xrealloc(list, *cap * size);
}

void rights_add(struct rights *r, const char *name, const char *host, struct slice row, bool is_account)
{
	struct buf b = {0};

	r->rows = grown(r->rows, r->nrows, &r->rows_cap, sizeof *r->rows);
	struct row *to = &r->rows[r->nrows++];
	*to = (struct row){.name = xstrdup(name), .host = xstrdup(host), .is_account = is_account};
	buf_put_u8(&b, is_account);
	buf_put(&b, host, strlen(host) + 1);
	buf_put(&b, row.p, row.n);
	sha256(b.data, b.len, to->digest);
	buf_fini(&b);
}

void rights_add_role(struct rights *r, const char *name, const char *role)
{
	r->edges = grown(r->edges, r->nedges, &r->edges_cap, sizeof *r->edges);
	r->edges[r->nedges++] = (struct edge){xstrdup(name), xstrdup(role)};
}

static int by_name_and_digest(const void *left, const void *right)
{
	const struct row *a = left, *b = right;
	int by_name = strcmp(a->name, b->name);

	return by_name != 0 ? by_name : memcmp(a->digest, b->digest, SHA256);
}

static int by_name_and_role(const void *left, const void *right)
{
	const struct edge *a = left, *b = right;
	int by_name = strcmp(a->name, b->name);

	return by_name != 0 ? by_name : strcmp(a->role, b->role);
}

/* Everything is in: sorts, and finds who owns what. */
static void seal(struct rights *r)
{
	size_t i = 0, k = 0;

	if (r->nrows > 0)
		qsort(r->rows, r->nrows, sizeof *r->rows, by_name_and_digest);
	if (r->nedges > 0)
		qsort(r->edges, r->nedges, sizeof *r->edges, by_name_and_role);
	r->owners = xcalloc(r->nrows + r->nedges + 1, sizeof *r->owners);
	r->stack = xcalloc(r->nrows + r->nedges + 1, sizeof *r->stack);
	while (i < r->nrows || k < r->nedges) {
		struct owner *o = &r->owners[r->nowners++];
		bool row = k == r->nedges || (i < r->nrows && strcmp(r->rows[i].name, r->edges[k].name) <= 0);
		o->name = row ? r->rows[i].name : r->edges[k].name;
		o->row = (unsigned)i;
		while (i < r->nrows && strcmp(r->rows[i].name, o->name) == 0)
			i++;
		o->nrows = (unsigned)i - o->row;
		o->edge = (unsigned)k;
		while (k < r->nedges && strcmp(r->edges[k].name, o->name) == 0)
			k++;
		o->nedges = (unsigned)k - o->edge;
	}
	r->sealed = true;
}

static struct owner *owner_of(const struct rights *r, const char *name)
{
	size_t lo = 0, hi = r->nowners;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (strcmp(r->owners[mid].name, name) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < r->nowners && strcmp(r->owners[lo].name, name) == 0 ? &r->owners[lo] : NULL;
}

/* Of a name's own rows, and of which roles it has: where roles hang matters as well as what they are. */
static void digest_owner(struct rights *r, struct owner *o)
{
	struct buf b = {0};

	if (o->digested)
		return;
	o->digested = true;
	buf_put(&b, o->name, strlen(o->name) + 1);
	buf_put_u32(&b, o->nrows);
	for (unsigned i = 0; i < o->nrows; i++)
		buf_put(&b, r->rows[o->row + i].digest, SHA256);
	for (unsigned i = 0; i < o->nedges; i++)
		buf_put(&b, r->edges[o->edge + i].role, strlen(r->edges[o->edge + i].role) + 1);
	sha256(b.data, b.len, o->digest);
	buf_fini(&b);
}

static void visit(struct rights *r, const char *name, unsigned *n)
{
	struct owner *o = owner_of(r, name);

	if (o == NULL || o->visited)
		return;
	o->visited = true;
	r->stack[(*n)++] = (unsigned)(o - r->owners);
}

static int by_number(const void *left, const void *right)
{
	const unsigned *a = left, *b = right;

	return (*a > *b) - (*a < *b);
}

/* Do the rows of this name, or those of everybody, tell clients' hosts apart? Two accounts do; so do grants to another
 * host than the account's. What is for any host does not. */
static bool hosts_matter(const struct rights *r, const char *name)
{
	const struct owner *owners[] = {owner_of(r, name), owner_of(r, "")};
	const char *account = NULL;

	for (unsigned k = 0; k < 2; k++)
		for (unsigned i = 0; owners[k] != NULL && i < owners[k]->nrows; i++) {
			const struct row *row = &r->rows[owners[k]->row + i];
			if (row->is_account && account != NULL && strcmp(account, row->host) != 0)
				return true;
			if (row->is_account)
				account = row->host;
		}
	for (unsigned k = 0; k < 2; k++)
		for (unsigned i = 0; owners[k] != NULL && i < owners[k]->nrows; i++) {
			const char *host = r->rows[owners[k]->row + i].host;
			if (strcmp(host, "%") != 0 && *host != '\0' && (account == NULL || strcmp(account, host) != 0))
				return true;
		}
	return false;
}

void rights_digest(struct rights *r, const char *name, const char *seen_as, uint8_t out[RIGHTS_DIGEST])
{
	uint8_t digest[SHA256];
	struct buf b = {0};
	unsigned n = 0;

	if (!r->sealed)
		seal(r);
	visit(r, name, &n);
	visit(r, "", &n);
	visit(r, "PUBLIC", &n);
	for (unsigned i = 0; i < n; i++) {
		const struct owner *o = &r->owners[r->stack[i]];
		for (unsigned k = 0; k < o->nedges; k++)
			visit(r, r->edges[o->edge + k].role, &n);
	}
	if (n > 0)
		qsort(r->stack, n, sizeof *r->stack, by_number);
	buf_put(&b, name, strlen(name) + 1);
	bool matter = hosts_matter(r, name);
	buf_put_u8(&b, matter);
	if (matter)
		buf_put(&b, seen_as, strlen(seen_as) + 1);
	for (unsigned i = 0; i < n; i++) {
		struct owner *o = &r->owners[r->stack[i]];
		o->visited = false;
		digest_owner(r, o);
		buf_put(&b, o->digest, SHA256);
	}
	sha256(b.data, b.len, digest);
	memcpy(out, digest, RIGHTS_DIGEST);
	buf_fini(&b);
}
