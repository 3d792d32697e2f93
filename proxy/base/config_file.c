/* SPDX-License-Identifier: Apache-2.0
 *
 * Ini text, read here and not by libinih: that one knows neither quotes nor line numbers, cuts long names short without
 * a word, reports only the first bad line, and does not show sections without keys.
 */
#include "base/config_table.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

static char *skip_blanks(char *p)
{
	while (*p == ' ' || *p == '\t')
		p++;
	return p;
}

static void trim_end(char *s)
{
	size_t n = strlen(s);

	while (n > 0 && (s[n - 1] == ' ' || s[n - 1] == '\t' || s[n - 1] == '\r'))
		n--;
	s[n] = '\0';
}

static bool is_comment(char c)
{
	return c == ';' || c == '#';
}

/* Only blanks or a comment may follow. */
static bool is_rest(char *p)
{
	char *q = skip_blanks(p);

	return *q == '\0' || *q == '\r' || is_comment(*q);
}

/* Undoes quotes in place; returns NULL or what is wrong. */
static const char *unquote(char **value)
{
	char quote = **value, *in = *value + 1, *out = *value;

	for (;; in++) {
		if (*in == '\0')
			return "the closing quote is missing";
		if (*in == quote && in[1] == quote)
			in++;
		else if (*in == quote)
			break;
		*out++ = *in;
	}
	if (!is_rest(in + 1))
		return "text after the closing quote; a quote inside is written twice";
	*out = '\0';
	return NULL;
}

/* A comment in a value begins after a blank, so that a;b is a value. */
static void cut_comment(char *value)
{
	if (is_comment(value[0]))
		value[0] = '\0';
	for (char *p = value; *p != '\0'; p++) {
		if ((*p == ' ' || *p == '\t') && is_comment(p[1])) {
			*p = '\0';
			return;
		}
	}
}

static void read_section(char *p, int line, const struct config_sink *sink)
{
	char *end = strchr(p, ']');

	if (end == NULL || !is_rest(end + 1)) {
		sink->error(sink->arg, line, "expected [section]");
		return;
	}
	*end = '\0';
	char *name = skip_blanks(p + 1);
	trim_end(name);
	sink->section(sink->arg, line, name);
}

static void read_setting(char *p, int line, const struct config_sink *sink)
{
	char *equals = strchr(p, '=');

	if (equals == NULL || equals == p) {
		sink->error(sink->arg, line, "expected [section] or key = value");
		return;
	}
	*equals = '\0';
	trim_end(p);
	char *value = skip_blanks(equals + 1);
	if (*value == '"' || *value == '\'') {
		const char *wrong = unquote(&value);
		if (wrong != NULL) {
			sink->error(sink->arg, line, wrong);
			return;
		}
	} else {
		cut_comment(value);
		trim_end(value);
	}
	sink->setting(sink->arg, line, p, value);
}

void config_text_read(char *text, size_t n, const struct config_sink *sink)
{
	static const char bom[] = "\xef\xbb\xbf";
	char *end = text + n, *next;
	int line = 1;

	if (n >= 3 && memcmp(text, bom, 3) == 0)
		text += 3;
	for (char *p = text; p < end; p = next, line++) {
		char *newline = memchr(p, '\n', (size_t)(end - p));
		next = newline != NULL ? newline + 1 : end;
		if (newline != NULL)
			*newline = '\0';
		if (strlen(p) != (size_t)((newline != NULL ? newline : end) - p)) {
			sink->error(sink->arg, line, "a NUL byte: expected text");
			continue;
		}
		p = skip_blanks(p);
		if (*p == '[')
			read_section(p, line, sink);
		else if (!is_rest(p))
			read_setting(p, line, sink);
	}
}

/* Edits (insert, delete, replace) between two words; names are short. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[33];
	size_t n = strlen(b);

	if (strlen(a) > 32 || n > 32)
		return 99;
	for (unsigned j = 0; j <= n; j++)
		row[j] = j;
	for (unsigned i = 1; a[i - 1] != '\0'; i++) {
		unsigned diagonal = row[0];
		row[0] = i;
		for (unsigned j = 1; j <= n; j++) {
			unsigned replace =
				diagonal + (tolower((unsigned char)a[i - 1]) != tolower((unsigned char)b[j - 1]));
			unsigned other = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
			diagonal = row[j];
			row[j] = replace < other ? replace : other;
		}
	}
	return row[n];
}

const char *config_nearest(const char *typed, const char *const *words, unsigned n)
{
	const char *best = NULL;
	unsigned best_distance = strlen(typed) > 4 ? 4 : 3; /* exclusive: about a third of the word may be wrong */

	for (unsigned i = 0; i < n; i++) {
		unsigned d = distance(typed, words[i]);
		if (d < best_distance && d < strlen(words[i])) {
			best = words[i];
			best_distance = d;
		}
	}
	return best;
}
