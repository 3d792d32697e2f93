/* SPDX-License-Identifier: Apache-2.0 */
#include "sql/classify.h"

/* What a backslash and this character mean (https://mariadb.com/kb/en/string-literals/). \% and \_ keep theirs. */
static uint8_t unescape(uint8_t c)
{
	switch (c) {
	case '0':
		return 0;
	case 'b':
		return '\b';
	case 'n':
		return '\n';
	case 'r':
		return '\r';
	case 't':
		return '\t';
	case 'Z':
		return 0x1a;
	default:
		return c;
	}
}

/* The quote is not part of lit->text, but what stands before the text is, in the same statement. */
static uint8_t quote_of(const struct sql_literal *lit)
{
	return lit->text.p[-1];
}

long sql_literal_unescape(const struct sql_literal *lit, unsigned text_mode, char *out, size_t cap)
{
	const uint8_t *p = lit->text.p, *end = p + lit->text.n;
	bool quoted = lit->type == SQL_LIT_STRING && lit->escaped;
	size_t n = 0;

	while (p < end) {
		uint8_t c = *p++;

		if (n == cap)
			return -1;
		if (quoted && c == '\\' && !(text_mode & SQL_NO_BACKSLASH_ESCAPES) && p < end) {
			if (*p == '%' || *p == '_') {
				out[n++] = '\\';
				if (n == cap)
					return -1;
			}
			c = unescape(*p++);
		} else if (quoted && c == quote_of(lit) && p < end && *p == c) {
			p++;
		}
		out[n++] = (char)c;
	}
	return (long)n;
}
