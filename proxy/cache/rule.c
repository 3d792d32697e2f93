/* SPDX-License-Identifier: Apache-2.0
 *
 * Which statements read or change which cached rows: pure functions of configuration, catalog and statement.
 *
 * What must hold: two keys that the server's `=` calls equal have the same canonical bytes. The other direction is only
 * a matter of economy (a shape holds the literal as written, so no answer is ever given for another key); so folding
 * may be coarser than the collation, never finer. Whatever cannot be brought to such a form is not cached when it is
 * read, and drops the whole table when it is written.
 */
#include "cache/cache.h"

/* Anything whose answer depends on more than the row, or whose effects a hit would leave out. */
static const struct {
	uint32_t flags;
	const char *why;
} unfit[] = {
	{SQLF_UNREADABLE | SQLF_TABLES_OVERFLOW, "the statement could not be read completely"},
	{SQLF_MULTI, "several statements"},
	{SQLF_LOCKING | SQLF_INTO, "it locks or writes"},
	{SQLF_USER_VAR | SQLF_USER_VAR_SET | SQLF_SYS_VAR | SQLF_SET_STATEMENT, "variables"},
	{SQLF_SESSION_FUNC | SQLF_DIAG | SQLF_CALC_FOUND_ROWS | SQLF_LOCK_FUNC | SQLF_SEQUENCE,
	 "a function of the session's state"},
	{SQLF_UNKNOWN_FUNC, "a function that is not built in"},
	{SQLF_NONDET, "a function whose answer differs each time"},
	{SQLF_SUBQUERY, "more than one table"},
	{SQLF_SQL_CACHE, "SQL_NO_CACHE"},
};

static const char *why_unfit(const struct sql_stmt *stmt)
{
	for (size_t i = 0; i < sizeof unfit / sizeof unfit[0]; i++)
		if (stmt->flags & unfit[i].flags)
			return unfit[i].why;
	if (stmt->hint != SQL_HINT_NONE)
		return "a hint in a comment";
	if (!stmt->single)
		return "more than one table";
	return NULL;
}

/* Printable ASCII only: those bytes mean the same in every character set that MariaDB takes from clients, and have a
 * weight of their own in the collations that the catalog understands; control characters may have none. */
static const char *canon_string(enum column_compare compare, const char *s, size_t n, struct cache_row *out)
{
	bool fold = compare == COMPARE_NOCASE || compare == COMPARE_NOCASE_NOPAD;
	bool pad = compare == COMPARE_NOCASE || compare == COMPARE_BIN_PAD;
	while (pad && n && s[n - 1] == ' ')
		n--;
	if (n > CACHE_KEY_MAX)
		return "a key that is too long";
	for (size_t i = 0; i < n; i++) {
		uint8_t ch = (uint8_t)s[i];
		if (ch < 0x20 || ch > 0x7e)
			return "a key that is not plain ASCII";
		out->bytes[i] = fold && ch >= 'A' && ch <= 'Z' ? (uint8_t)(ch | 0x20) : ch;
	}
	out->len = (uint8_t)n;
	return NULL;
}

static const char *canon_integer(const char *s, size_t n, bool negative, struct cache_row *out)
{
	if (n && s[0] == '-') {
		negative = !negative;
		s++;
		n--;
	}
	if (!n)
		return "a key that is not an integer";
	for (size_t i = 0; i < n; i++)
		if (s[i] < '0' || s[i] > '9')
			return "a key that is not an integer";
	for (; n > 1 && *s == '0'; n--)
		s++;
	if (n > 20)
		return "a key that is too long";
	negative = negative && *s != '0';
	out->bytes[0] = '-';
	memcpy(out->bytes + negative, s, n);
	out->len = (uint8_t)(n + negative);
	return NULL;
}

/* A string beside an integer column: digits that the server turns into exactly that integer, also where it compares
 * both as doubles (15 digits). */
static const char *canon_digits(const char *s, size_t n, struct cache_row *out)
{
	if (n > 15 || (n > 1 && s[0] == '0') || (n && s[0] == '-'))
		return "a string compared with an integer column";
	return canon_integer(s, n, false, out);
}

/* Brings a literal to canonical form; NULL, or why it cannot be. */
static const char *canon(const struct catalog_rule *rule, const struct sql_literal *lit, unsigned text_mode,
			 const struct cache_params *params, struct cache_row *out)
{
	struct sql_literal value = *lit;
	if (lit->type == SQL_LIT_PARAM && (!params || !params->get(params->arg, lit->param, &value)))
		return "a parameter that cannot be a key";
	if (lit->type == SQL_LIT_PARAM)
		value.escaped = false; /* raw bytes */
	if (value.introducer || (value.type != SQL_LIT_STRING && value.type != SQL_LIT_NUMBER))
		return "a key that is no plain literal";
	const char *s = (const char *)value.text.p;
	size_t n = value.text.n;
	if (value.type == SQL_LIT_NUMBER)
		return rule->compare == COMPARE_INTEGER ? canon_integer(s, n, value.negative, out)
							: "a number compared with a string column";
	if (value.negative)
		return "a key that is no plain literal";
	char plain[CACHE_KEY_MAX + 1];
	if (value.escaped) {
		long len = sql_literal_unescape(&value, text_mode, plain, sizeof plain);
		if (len < 0)
			return "a key that is too long";
		s = plain;
		n = (size_t)len;
	}
	return rule->compare == COMPARE_INTEGER ? canon_digits(s, n, out) : canon_string(rule->compare, s, n, out);
}

/* Without strict mode a server stores a value that does not fit its column as another one that does: a key that was
 * cut, a number that was clamped. True when that cannot happen to this canonical key. */
static bool fits(const struct catalog_rule *rule, const struct cache_row *row)
{
	if (rule->compare != COMPARE_INTEGER)
		return row->len <= rule->key_bytes;
	unsigned width = rule->key_bytes == 2 || rule->key_bytes == 3 || rule->key_bytes == 4 || rule->key_bytes == 8
				 ? rule->key_bytes
				 : 1;
	if (row->bytes[0] == '-' || row->len > 18) /* an unsigned column clamps to 0 */
		return false;
	uint64_t v = 0;
	for (unsigned i = 0; i < row->len; i++)
		v = v * 10 + (row->bytes[i] - '0');
	return v && v < UINT64_C(1) << (8 * width - 1); /* 0 asks an AUTO_INCREMENT column for a number */
}

static const struct catalog_rule *known_rule(const struct config *config, const struct catalog *catalog, unsigned i)
{
	if (!catalog || i >= config->nrules)
		return NULL;
	const struct catalog_rule *rule = &catalog->rules[i];
	return rule->found && rule->compare != COMPARE_UNKNOWN && !rule->why[0] ? rule : NULL;
}

/* Until when a row is good is asked in the column's own clock; a lookup that compares it with another one turns at
 * another moment. */
static bool same_clock(const struct catalog_rule *rule, const struct sql_stmt *stmt)
{
	return (rule->expires == EXPIRES_DATETIME && stmt->clocks == SQL_CLOCK_LOCAL) ||
	       (rule->expires == EXPIRES_EPOCH && stmt->clocks == SQL_CLOCK_UNIX);
}

static const char *why_not(const struct config *config, const struct catalog *catalog, const struct sql_stmt *stmt,
			   unsigned text_mode, const struct cache_params *params, unsigned i, struct cache_row *row)
{
	const struct catalog_rule *rule = known_rule(config, catalog, i);
	const char *why = why_unfit(stmt);
	if (why)
		return why;
	if (!rule)
		return "the catalog does not know how the key column compares";
	if (stmt->scope != SQL_SCOPE_KEYS || stmt->nkeys != 1)
		return "it does not name one key";
	if (stmt->flags & SQLF_NOW && !(stmt->now_is_expiry && config->rules[i].expires[0] && same_clock(rule, stmt)))
		return "the time of day";
	return canon(rule, &stmt->keys[0], text_mode, params, row);
}

enum cache_match cache_rule_match(const struct config *config, const struct catalog *catalog,
				  const struct sql_stmt *stmt, unsigned text_mode, const struct cache_params *params,
				  struct cache_key *key, const char **why)
{
	if (stmt->kind != SQL_SELECT || !stmt->watched)
		return CACHE_NO_RULE;
	if (stmt->watched & (stmt->watched - 1)) {
		*why = "more than one table";
		return CACHE_NO_CACHEABLE;
	}
	unsigned i = (unsigned)__builtin_ctz(stmt->watched);
	struct cache_row row;
	*why = why_not(config, catalog, stmt, text_mode, params, i, &row);
	if (*why)
		return CACHE_NO_CACHEABLE;
	key->rule = (uint8_t)i;
	key->len = row.len;
	memcpy(key->row, row.bytes, row.len);
	return CACHE_MATCH;
}

static bool add_row(struct cache_change *change, const struct cache_row *row)
{
	for (unsigned i = 0; i < change->nkeys; i++)
		if (slice_eq(slice_of(change->keys[i].bytes, change->keys[i].len), slice_of(row->bytes, row->len)))
			return true;
	if (change->nkeys == sizeof change->keys / sizeof change->keys[0])
		return false;
	struct cache_row *to = &change->keys[change->nkeys++];
	to->len = row->len;
	memcpy(to->bytes, row->bytes, row->len);
	return true;
}

/* Fills change->keys; false when the text does not name every row that may change. */
static bool named_rows(const struct catalog_rule *rule, const struct sql_stmt *stmt, unsigned text_mode,
		       const struct cache_params *params, struct cache_change *change)
{
	bool by_row = stmt->kind == SQL_INSERT || stmt->kind == SQL_REPLACE || stmt->kind == SQL_UPDATE ||
		      stmt->kind == SQL_DELETE;
	if (!rule || rule->hidden_writes || !by_row || stmt->flags & SQLF_MULTI || stmt->scope != SQL_SCOPE_KEYS ||
	    !stmt->nkeys || stmt->watched & (stmt->watched - 1))
		return false;
	for (unsigned i = 0; i < stmt->nkeys; i++) {
		struct cache_row row;
		if (canon(rule, &stmt->keys[i], text_mode, params, &row) || !fits(rule, &row) || !add_row(change, &row))
			return false;
	}
	return true;
}

unsigned cache_rule_changes(const struct config *config, const struct catalog *catalog, const struct sql_stmt *stmt,
			    bool all, unsigned text_mode, const struct cache_params *params, struct cache_change *out,
			    unsigned max)
{
	unsigned n = 0;
	all = all || stmt->flags & (SQLF_UNREADABLE | SQLF_TABLES_OVERFLOW);
	for (unsigned i = 0; i < config->nrules && n < max; i++) {
		if (!all && !(stmt->watched_written >> i & 1))
			continue;
		struct cache_change *change = &out[n++];
		change->rule = (uint8_t)i;
		change->nkeys = 0;
		change->whole = all || !named_rows(known_rule(config, catalog, i), stmt, text_mode, params, change);
		if (change->whole)
			change->nkeys = 0;
	}
	return n;
}

bool cache_rule_shared(const struct config *config, const struct sql_stmt *stmt)
{
	return config->store_redis && config->mode == MODE_CACHE && stmt->watched != 0;
}
