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
	"character_set_database", "collation_database", /* after COM_RESET_CONNECTION, README.md */
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

/* " status=4002" is as good as " status=0002" when it is only there for tracked variables; more_told has the former. */
static bool same_but_told(struct slice told, struct slice more_told)
{
	static const char status[] = " status=";
	const uint8_t *found = told.n == more_told.n ? memmem(told.p, told.n, status, strlen(status)) : NULL;
	size_t digit = found != NULL ? (size_t)(found - told.p) + strlen(status) : 0;

	if (found == NULL || digit >= told.n || memcmp(told.p, more_told.p, digit) != 0)
		return false;
	return more_told.p[digit] - told.p[digit] == 4 && told.p[digit] < '4' &&
	       memcmp(told.p + digit + 1, more_told.p + digit + 1, told.n - digit - 1) == 0;
}

/* Entries are sorted: is `a` one that the other side has none for? */
static bool only_here(struct slice a, struct slice b)
{
	size_t n = a.n < b.n ? a.n : b.n;
	int order = memcmp(a.p, b.p, n);

	return is_track(a) && (!is_track(b) || order < 0 || (order == 0 && a.n < b.n));
}

bool expected_equal(struct slice direct, struct slice proxied, bool late)
{
	if (slice_eq(direct, proxied))
		return true;
	while (direct.n > 0 || proxied.n > 0) {
		struct slice rest_a = direct, a = cut_line(&rest_a), rest_b = proxied, b = cut_line(&rest_b);
		if (only_here(b, a)) {
			proxied = rest_b;
		} else if (late && only_here(a, b)) {
			direct = rest_a;
		} else if (slice_eq(a, b) || same_but_told(a, b) || (late && same_but_told(b, a))) {
			direct = rest_a;
			proxied = rest_b;
		} else {
			return false;
		}
	}
	return true;
}
