/* SPDX-License-Identifier: Apache-2.0 */
#include "expected.h"

#include <ctype.h>
#include <stdlib.h>

#include "base/mem.h"

static const char *const variables[] = {
	"timestamp",        /* the time of day */
	"rand_seed1", "rand_seed2", /* never shown but as 0; named for completeness */
	"pseudo_thread_id", /* of the connection */
	"last_gtid", "gtid_seq_no", "gtid_domain_id", "gtid_binlog_pos", "gtid_current_pos", "gtid_slave_pos",
	"server_id",
	"session_track_schema", "session_track_state_change", "session_track_system_variables",
	"session_track_transaction_info", /* the proxy's own means, README.md */
	"in_transaction", "warning_count", "error_count", /* of the very statement that asks */
};

static char **globals;
static unsigned nglobals;
static bool rows_are_variables;

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void expected_add_global(struct slice name)
{
	globals = xrealloc(globals, (nglobals + 1) * sizeof *globals);
	globals[nglobals] = xstrndup((const char *)name.p, name.n);
	for (char *p = globals[nglobals]; *p != '\0'; p++)
		*p = (char)tolower((unsigned char)*p);
	nglobals++;
	qsort(globals, nglobals, sizeof *globals, by_name);
}

bool expected_variable(struct slice name)
{
	char copy[80], *key = copy;

	for (unsigned i = 0; i < sizeof variables / sizeof *variables; i++)
		if (slice_ieq(name, variables[i]))
			return true;
	if (name.n == 0 || name.n >= sizeof copy)
		return false;
	for (size_t i = 0; i <= name.n; i++)
		copy[i] = i < name.n ? (char)tolower(name.p[i]) : '\0';
	return bsearch(&key, globals, nglobals, sizeof *globals, by_name) != NULL;
}

void expected_rows_are_variables(bool yes)
{
	rows_are_variables = yes;
}

bool expected_row(const struct buf *text, size_t from)
{
	const uint8_t *p = text->data + from + strlen("row\t"), *end = text->data + text->len, *tab;

	if (!rows_are_variables || p >= end)
		return false;
	tab = memchr(p, '\t', (size_t)(end - p));
	return tab != NULL && expected_variable(slice_of(p, (size_t)(tab - p)));
}

void expected_message(struct buf *text, size_t from, unsigned code)
{
	static const unsigned with_ids[] = {1094 /* thread */, 1243 /* statement */, 1095, 1927, 1317};
	bool has = false;

	for (unsigned i = 0; i < sizeof with_ids / sizeof *with_ids; i++)
		has |= with_ids[i] == code;
	for (size_t i = from; has && i < text->len; i++)
		if (isdigit(text->data[i]))
			text->data[i] = '#';
}

static struct slice cut_line(struct slice *rest)
{
	const uint8_t *end = rest->n > 0 ? memchr(rest->p, '\n', rest->n) : NULL;
	size_t n = end != NULL ? (size_t)(end - rest->p) : rest->n, used = n + (end != NULL);
	struct slice line = slice_of(rest->p, n);

	*rest = slice_of(rest->p + used, rest->n - used);
	return line;
}

static bool is_track(struct slice line)
{
	return line.n > 6 && memcmp(line.p, "track ", 6) == 0;
}

/* " status=4002" is as good as " status=0002" when it is only there for tracked variables. */
static bool same_but_told(struct slice direct, struct slice proxied)
{
	static const char status[] = " status=";
	const uint8_t *found = direct.n == proxied.n ? memmem(direct.p, direct.n, status, strlen(status)) : NULL;
	size_t digit = found != NULL ? (size_t)(found - direct.p) + strlen(status) : 0;

	if (found == NULL || digit >= direct.n || memcmp(direct.p, proxied.p, digit) != 0)
		return false;
	return proxied.p[digit] - direct.p[digit] == 4 && direct.p[digit] < '4' &&
	       memcmp(direct.p + digit + 1, proxied.p + digit + 1, direct.n - digit - 1) == 0;
}

bool expected_equal(struct slice direct, struct slice proxied)
{
	if (slice_eq(direct, proxied))
		return true;
	while (direct.n > 0 || proxied.n > 0) {
		struct slice rest = proxied, b = cut_line(&proxied);
		struct slice peek = direct, a = cut_line(&peek);
		if (is_track(b) && !slice_eq(a, b) && (!is_track(a) || memcmp(a.p, b.p, a.n < b.n ? a.n : b.n) > 0))
			continue; /* entries are sorted: the direct one has none such */
		if (rest.n == 0 || direct.n == 0 || (!slice_eq(a, b) && !same_but_told(a, b)))
			return false;
		direct = peek;
	}
	return true;
}
