/* SPDX-License-Identifier: Apache-2.0 */
#include "mysql/defaults.h"

#include <ctype.h>
#include <stdlib.h>
#include <strings.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/mem.h"

bool defaults_is_name(struct slice name)
{
	for (size_t i = 0; i < name.n; i++)
		if (!isalnum(name.p[i]) && name.p[i] != '_' && name.p[i] != '.')
			return false;
	return name.n > 0 && name.n <= 64;
}

struct defaults *defaults_new(void)
{
	struct defaults *d = xcalloc(1, sizeof *d);

	d->refs = 1;
	return d;
}

struct defaults *defaults_ref(struct defaults *d)
{
	if (d != NULL)
		d->refs++;
	return d;
}

void defaults_unref(struct defaults **giver)
{
	struct defaults *d = *giver;

	*giver = NULL;
	if (d == NULL || --d->refs > 0)
		return;
	for (unsigned i = 0; i < d->n; i++) {
		free(d->vars[i].name);
		free(d->vars[i].value);
	}
	if (d->linked)
		LIST_REMOVE(d, link);
	free(d->fingerprint);
	free(d->vars);
	free(d);
}

int defaults_add(struct defaults *d, struct slice name, struct slice value)
{
	if (!defaults_is_name(name) || value.n > DEFAULTS_VALUE || memchr(value.p, 0, value.n) != NULL ||
	    d->n == DEFAULTS_MAX)
		return -1;
	if ((d->n & (d->n - 1)) == 0)
		d->vars = xrealloc(d->vars, (d->n > 0 ? 2 * d->n : 1) * sizeof *d->vars);
	struct default_var *v = &d->vars[d->n++];
	v->name = xstrndup((const char *)name.p, name.n);
	v->value = xstrndup((const char *)value.p, value.n);
	for (char *p = v->name; *p != '\0'; p++)
		*p = (char)tolower((unsigned char)*p);
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct default_var *)a)->name, ((const struct default_var *)b)->name);
}

void defaults_seal(struct defaults *d)
{
	XXH3_state_t hash;
	XXH128_canonical_t canonical;
	unsigned kept = 0;

	if (d->n > 0)
		qsort(d->vars, d->n, sizeof *d->vars, by_name);
	for (unsigned i = 0; i < d->n; i++) { /* of a name that came twice one is kept */
		if (kept > 0 && strcmp(d->vars[kept - 1].name, d->vars[i].name) == 0) {
			free(d->vars[i].name);
			free(d->vars[i].value);
		} else {
			d->vars[kept++] = d->vars[i];
		}
	}
	d->n = kept;
	XXH3_128bits_reset(&hash);
	for (unsigned i = 0; i < d->n; i++) { /* with their NULs, which no name and no value holds */
		XXH3_128bits_update(&hash, d->vars[i].name, strlen(d->vars[i].name) + 1);
		XXH3_128bits_update(&hash, d->vars[i].value, strlen(d->vars[i].value) + 1);
	}
	XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&hash));
	memcpy(d->digest, canonical.digest, DEFAULTS_DIGEST);
}

static int by_any_case(const void *name, const void *var)
{
	return strcasecmp(name, ((const struct default_var *)var)->name);
}

const char *defaults_get(const struct defaults *d, const char *name)
{
	const struct default_var *v =
		d == NULL || d->n == 0 ? NULL : bsearch(name, d->vars, d->n, sizeof *d->vars, by_any_case);

	return v != NULL ? v->value : NULL;
}

void defaults_digest(const struct defaults *d, uint8_t out[DEFAULTS_DIGEST])
{
	if (d != NULL)
		memcpy(out, d->digest, DEFAULTS_DIGEST);
	else
		memset(out, 0, DEFAULTS_DIGEST);
}

static bool same(const struct defaults *a, const struct defaults *b)
{
	if (a->n != b->n || memcmp(a->digest, b->digest, DEFAULTS_DIGEST) != 0)
		return false;
	for (unsigned i = 0; i < a->n; i++)
		if (strcmp(a->vars[i].name, b->vars[i].name) != 0 || strcmp(a->vars[i].value, b->vars[i].value) != 0)
			return false;
	return true;
}

struct defaults *defaults_intern(struct defaults_list *set, struct defaults *d)
{
	struct defaults *other;

	LIST_FOREACH(other, set, link)
	{
		if (!same(other, d))
			continue;
		defaults_ref(other);
		defaults_unref(&d);
		return other;
	}
	LIST_INSERT_HEAD(set, d, link);
	d->linked = true;
	return d;
}

static bool is_servers_own(const char *name)
{
	static const char *const begin[] = {
		"binlog_",      "log_", "slow_query_log", "sql_log_", "long_query_time", "min_examined_row_limit",
		"innodb_tmpdir"};

	for (unsigned i = 0; i < sizeof begin / sizeof *begin; i++)
		if (strncmp(name, begin[i], strlen(begin[i])) == 0)
			return true;
	return false;
}

struct defaults *defaults_ground(struct defaults *base, const struct defaults *born)
{
	struct defaults *ground = defaults_new();

	for (unsigned i = 0; i < base->n; i++) {
		const struct default_var *v = &base->vars[i];
		const char *own = is_servers_own(v->name) ? defaults_get(born, v->name) : NULL;
		defaults_add(ground, slice_str(v->name), slice_str(own != NULL ? own : v->value));
	}
	defaults_seal(ground);
	if (!same(ground, base))
		return ground;
	defaults_unref(&ground);
	return defaults_ref(base);
}

const char *defaults_fingerprint(struct defaults *d)
{
	struct buf out = {0};

	if (d->fingerprint != NULL)
		return d->fingerprint;
	buf_put_str(&out, "MD5(CONCAT_WS('|',IFNULL(CURRENT_ROLE(),'~')"); /* CONCAT_WS leaves NULLs out */
	for (unsigned i = 0; i < d->n; i++)
		if (strcmp(d->vars[i].name, "role") != 0)
			buf_printf(&out, ",IFNULL(@@session.%s,'~')", d->vars[i].name);
	buf_put_str(&out, "))");
	d->fingerprint = xstrndup((const char *)out.data, out.len);
	buf_fini(&out);
	return d->fingerprint;
}
