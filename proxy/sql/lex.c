/* SPDX-License-Identifier: Apache-2.0 */
#include "sql/lex.h"

#include "sql/classify.h"

/* Character classes. BLANK is what the server's lexer skips, CONTROL what it skips nowhere but accepts after `--`,
 * REMARK what a comment may begin or end with, SINGLE what is a token by itself, whatever follows. */
enum { BLANK = 1, WORD = 2, DIGIT = 4, XDIGIT = 8, HIGH = 16, CONTROL = 32, REMARK = 64, SINGLE = 128 };
static const uint8_t class_of[256] = {
	[0x00 ... 0x08] = CONTROL, [0x09 ... 0x0d] = BLANK | CONTROL, [0x0e ... 0x1f] = CONTROL,
	[' '] = BLANK, [0x7f] = CONTROL, [0x80 ... 0xff] = HIGH,
	['0' ... '9'] = WORD | DIGIT | XDIGIT, ['a' ... 'f'] = WORD | XDIGIT, ['A' ... 'F'] = WORD | XDIGIT,
	['/'] = REMARK, ['#'] = REMARK, ['-'] = REMARK, ['*'] = REMARK | SINGLE,
	['('] = SINGLE, [')'] = SINGLE, [','] = SINGLE, [';'] = SINGLE, ['='] = SINGLE,
	['g' ... 'z'] = WORD, ['G' ... 'Z'] = WORD, ['_'] = WORD, ['$'] = WORD,
};

static inline bool is(uint8_t c, unsigned classes)
{
	return (class_of[c] & classes) != 0;
}
static inline uint8_t peek(const struct lex *lx, size_t ahead)
{
	return (size_t)(lx->end - lx->p) > ahead ? lx->p[ahead] : 0;
}
static inline bool more(const struct lex *lx, size_t ahead)
{
	return (size_t)(lx->end - lx->p) > ahead;
}

/* To where a run of these classes ends; looks at the text's end once in four bytes. */
static inline const uint8_t *skip(const uint8_t *p, const uint8_t *end, unsigned classes)
{
	for (; end - p >= 4; p += 4) {
		if (!is(p[0], classes))
			return p;
		if (!is(p[1], classes))
			return p + 1;
		if (!is(p[2], classes))
			return p + 2;
		if (!is(p[3], classes))
			return p + 3;
	}
	while (p < end && is(*p, classes))
		p++;
	return p;
}

static void spoil(struct lex *lx)
{
	lx->bad = true;
	lx->p = lx->end;
}

void lex_init(struct lex *lx, struct slice text, unsigned mode)
{
	*lx = (struct lex){.p = text.p, .end = text.p + text.n, .mode = mode};
	if (!(mode & SQL_UNSAFE_CHARSET))
		return;
	/* In these character sets the second byte of a character may be a quote or a backslash. */
	for (size_t i = 0; i < text.n; i++)
		if (is(text.p[i], HIGH)) {
			lx->bad = true;
			return;
		}
}

/* "sidetrack: primary" and kin, before the first token. The most careful of several wins. */
static void read_hint(struct lex *lx, struct slice body)
{
	static const struct {
		const char *word;
		uint8_t hint;
		uint8_t rank;
	} hints[] = {
		{"replica", SQL_HINT_REPLICA, 1}, {"no-cache", SQL_HINT_NO_CACHE, 2}, {"primary", SQL_HINT_PRIMARY, 3}};
	static const uint8_t rank_of[] = {
		[SQL_HINT_NONE] = 0, [SQL_HINT_REPLICA] = 1, [SQL_HINT_NO_CACHE] = 2, [SQL_HINT_PRIMARY] = 3};
	static const char mark[] = "sidetrack:";

	while (body.n > 0 && is(body.p[0], BLANK))
		body = slice_of(body.p + 1, body.n - 1);
	if (body.n < sizeof(mark) - 1 || !slice_ieq(slice_of(body.p, sizeof(mark) - 1), mark))
		return;
	body = slice_of(body.p + sizeof(mark) - 1, body.n - (sizeof(mark) - 1));
	while (body.n > 0 && is(body.p[0], BLANK))
		body = slice_of(body.p + 1, body.n - 1);
	while (body.n > 0 && is(body.p[body.n - 1], BLANK))
		body.n--;
	for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++)
		if (slice_ieq(body, hints[i].word) && hints[i].rank > rank_of[lx->hint])
			lx->hint = hints[i].hint;
}

/* After "/" "*" "!" or "M!". Which version numbers are executed depends on the server, except for old ones. */
static void enter_exec_comment(struct lex *lx, bool mariadb_only)
{
	unsigned digits = 0, version = 0;

	while (digits < 6 && is(peek(lx, digits), DIGIT)) {
		version = version * 10 + (peek(lx, digits) - '0');
		digits++;
	}
	if (digits >= 5) {
		lx->p += digits;
		if (digits == 6 || version >= 50700)
			lx->bad = true;
	}
	if (mariadb_only)
		lx->bad = true; /* a plain comment for MySQL */
	lx->in_exec = lx->had_exec = true;
}

/* At a slash and a star. */
static void skip_block_comment(struct lex *lx)
{
	if (lx->in_exec)
		lx->bad = true; /* servers differ on nesting */
	lx->p += 2;
	if (peek(lx, 0) == '!' || (peek(lx, 0) == 'M' && peek(lx, 1) == '!')) {
		bool mariadb_only = peek(lx, 0) == 'M';
		lx->p += mariadb_only ? 2 : 1;
		enter_exec_comment(lx, mariadb_only);
		return;
	}
	const uint8_t *body = lx->p;
	for (;;) {
		const uint8_t *star = memchr(lx->p, '*', (size_t)(lx->end - lx->p));
		if (star == NULL || star + 1 == lx->end) {
			spoil(lx);
			return;
		}
		lx->p = star + 1;
		if (star[1] == '/')
			break;
	}
	if (!lx->started)
		read_hint(lx, slice_of(body, (size_t)(lx->p - 1 - body)));
	lx->p++;
}

static void skip_line_comment(struct lex *lx)
{
	size_t left = (size_t)(lx->end - lx->p);
	const uint8_t *newline = memchr(lx->p, '\n', left);
	const uint8_t *stop = newline != NULL ? newline + 1 : lx->end;

	/* A NUL ends it for the server; inside an executable comment its end may be hidden. */
	if (memchr(lx->p, 0, (size_t)(stop - lx->p)) != NULL || lx->in_exec)
		lx->bad = true;
	lx->p = stop;
}

/* Two dashes begin a comment only before a blank, a control character or the end. */
static bool at_dashes_comment(struct lex *lx)
{
	if (peek(lx, 1) != '-')
		return false;
	if (more(lx, 2) && is(lx->p[2], HIGH))
		lx->bad = true; /* a blank in some character sets */
	return !more(lx, 2) || is(lx->p[2], BLANK | CONTROL);
}

/* Comments and the blanks behind them, from what may be a comment's first character. */
__attribute__((noinline)) static void skip_comments(struct lex *lx)
{
	while (lx->p < lx->end) {
		uint8_t c = *lx->p;
		if (c == '/' && peek(lx, 1) == '*') {
			skip_block_comment(lx);
		} else if (c == '#' || (c == '-' && at_dashes_comment(lx))) {
			skip_line_comment(lx);
		} else if (c == '*' && lx->in_exec && peek(lx, 1) == '/') {
			lx->in_exec = false;
			lx->p += 2;
		} else {
			break;
		}
		while (lx->p < lx->end && is(*lx->p, BLANK))
			lx->p++;
	}
}

/* At an opening quote. Leaves the inside in out->text. */
__attribute__((noinline)) static void read_quoted(struct lex *lx, struct token *out, bool backslash)
{
	uint8_t quote = *lx->p++;
	const uint8_t *begin = lx->p;

	for (;;) {
		size_t left = (size_t)(lx->end - lx->p);
		const uint8_t *close = memchr(lx->p, quote, left);
		const uint8_t *stop = close != NULL ? close : lx->end;
		const uint8_t *slash = backslash ? memchr(lx->p, '\\', (size_t)(stop - lx->p)) : NULL;
		if (slash != NULL && lx->end - slash > 2) {
			out->escaped = true;
			lx->p = slash + 2;
		} else if (close != NULL && slash == NULL && close + 1 < lx->end && close[1] == quote) {
			out->escaped = true;
			lx->p = close + 2;
		} else if (close != NULL && slash == NULL) {
			out->text = slice_of(begin, (size_t)(close - begin));
			lx->p = close + 1;
			return;
		} else {
			break; /* it does not end */
		}
	}
	spoil(lx);
	out->text = slice_of(begin, (size_t)(lx->end - begin));
}

static void read_string(struct lex *lx, struct token *out)
{
	out->type = TOK_STRING;
	read_quoted(lx, out, !(lx->mode & SQL_NO_BACKSLASH_ESCAPES));
}

static void read_quoted_name(struct lex *lx, struct token *out)
{
	out->type = TOK_QUOTED;
	read_quoted(lx, out, false);
	if (memchr(out->text.p, 0, out->text.n) != NULL)
		lx->bad = true;
}

/* Length of the UTF-8 character at p, 0 when it is none, or when one of its bytes is a blank in a one-byte character
 * set (0xA0 in most, 0x85, 0x9A, 0xCA, 0xFF in a few): the server would cut there. */
static size_t utf8_length(const uint8_t *p, const uint8_t *end)
{
	size_t n = *p >= 0xf0 && *p < 0xf5 ? 4 : *p >= 0xe0 && *p < 0xf0 ? 3 : *p >= 0xc2 && *p < 0xe0 ? 2 : 0;

	if (n == 0 || (size_t)(end - p) < n || *p == 0xca)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80 || p[i] == 0xa0 || p[i] == 0x85 || p[i] == 0x9a)
			return 0;
	return n;
}

/* The rest of a word, from its first byte that is not ASCII. */
__attribute__((noinline)) static const uint8_t *skip_high(struct lex *lx, const uint8_t *p)
{
	while (p < lx->end && is(*p, WORD | HIGH)) {
		size_t n = is(*p, HIGH) ? utf8_length(p, lx->end) : 1;
		if (n == 0)
			lx->bad = true;
		p += n == 0 ? 1 : n;
	}
	return p;
}

static void read_word(struct lex *lx, struct token *out)
{
	const uint8_t *end = lx->end, *p = skip(out->at, end, WORD);
	bool high = p < end && is(*p, HIGH);

	if (high)
		p = skip_high(lx, p);
	lx->p = p;
	out->type = TOK_WORD;
	out->text = slice_of(out->at, (size_t)(p - out->at));
	/* Right before `.name` even a reserved word is a name. */
	lx->name = end - p > 1 && p[0] == '.' && is(p[1], WORD | HIGH);
	if (!high && !out->after_dot && !lx->name)
		out->kw = (uint16_t)kw_find(out->text, end);
}

/* Digits, an exponent: from after the dot of a number. */
__attribute__((noinline)) static void read_fraction(struct lex *lx, struct token *out)
{
	while (is(peek(lx, 0), DIGIT))
		lx->p++;
	if ((peek(lx, 0) | 0x20) == 'e') {
		size_t sign = peek(lx, 1) == '+' || peek(lx, 1) == '-';
		if (!is(peek(lx, 1 + sign), DIGIT))
			lx->bad = true; /* the server gives up here */
		lx->p += 1 + sign;
		while (is(peek(lx, 0), DIGIT))
			lx->p++;
	}
	if (lx->p > lx->end)
		lx->p = lx->end;
	out->type = TOK_NUMBER;
	out->text = slice_of(out->at, (size_t)(lx->p - out->at));
}

/* 0x41 or 0b01, unless more of a name follows. */
static bool read_radix(struct lex *lx, struct token *out)
{
	uint8_t letter = peek(lx, 1);
	const uint8_t *p = lx->p + 2;

	if (*lx->p != '0' || (letter != 'x' && letter != 'b'))
		return false;
	while (p < lx->end && (letter == 'x' ? is(*p, XDIGIT) : *p == '0' || *p == '1'))
		p++;
	if (p == lx->p + 2 || (p < lx->end && is(*p, WORD | HIGH)))
		return false;
	out->type = letter == 'x' ? TOK_HEX : TOK_BITS;
	out->text = slice_of(lx->p + 2, (size_t)(p - lx->p - 2));
	lx->p = p;
	return true;
}

/* A number, or a name that begins with digits. */
__attribute__((noinline)) static void read_number(struct lex *lx, struct token *out)
{
	if (read_radix(lx, out))
		return;
	while (is(peek(lx, 0), DIGIT))
		lx->p++;
	if (peek(lx, 0) == '.' && more(lx, 0)) {
		lx->p++;
		read_fraction(lx, out);
		return;
	}
	uint8_t c = peek(lx, 0);
	size_t sign = peek(lx, 1) == '+' || peek(lx, 1) == '-';
	if ((c | 0x20) == 'e' && is(peek(lx, 1 + sign), DIGIT)) {
		read_fraction(lx, out);
	} else if (is(c, WORD | HIGH)) {
		read_word(lx, out);
		out->kw = KW_NONE;
	} else {
		out->type = TOK_NUMBER;
		out->text = slice_of(out->at, (size_t)(lx->p - out->at));
	}
}

/* At the character before a quote: N'..', x'..', b'..', or a word of one character. */
__attribute__((noinline)) static void read_before_quote(struct lex *lx, struct token *out)
{
	uint8_t letter = *lx->p | 0x20;

	if (letter != 'n' && letter != 'x' && letter != 'b') {
		read_word(lx, out);
		return;
	}
	lx->p++;
	read_string(lx, out);
	out->decorated = true;
	if (letter == 'n')
		return;
	out->type = letter == 'x' ? TOK_HEX : TOK_BITS;
	for (size_t i = 0; i < out->text.n; i++)
		if (letter == 'x' ? !is(out->text.p[i], XDIGIT) : (out->text.p[i] & 0xfe) != '0')
			lx->bad = true;
}

/* At an @. */
static void read_variable(struct lex *lx, struct token *out)
{
	out->type = TOK_USER_VAR;
	lx->p++;
	if (peek(lx, 0) == '@') {
		out->type = TOK_SYS_VAR;
		lx->p++;
	}
	uint8_t c = peek(lx, 0), type = out->type;
	if (c == '`') {
		read_quoted_name(lx, out);
	} else if (type == TOK_USER_VAR && (c == '\'' || c == '"')) {
		read_string(lx, out);
	} else {
		const uint8_t *begin = lx->p;
		while (is(peek(lx, 0), WORD | HIGH) || (type == TOK_USER_VAR && peek(lx, 0) == '.')) {
			if (is(*lx->p, HIGH))
				lx->bad = true;
			lx->p++;
		}
		out->text = slice_of(begin, (size_t)(lx->p - begin));
	}
	out->type = type;
}

/* Operators of two and three characters; everything else is its own code. */
static void read_operator(struct lex *lx, struct token *out)
{
	static const struct {
		char text[4];
		uint8_t len, type;
	} operators[] = {{"<=>", 3, TOK_NULL_SAFE}, {"<=", 2, TOK_LE}, {">=", 2, TOK_GE},    {"<>", 2, TOK_NE},
			 {"!=", 2, TOK_NE},         {":=", 2, TOK_ASSIGN}, {"<<", 2, TOK_SHIFT}, {">>", 2, TOK_SHIFT},
			 {"&&", 2, TOK_AND},        {"||", 2, TOK_OR}, {"->", 2, TOK_ARROW}};

	out->type = *lx->p;
	out->text = slice_of(lx->p, 1);
	if (is(*lx->p, CONTROL) || (*lx->p == '\\'))
		lx->bad = true;
	uint8_t second = peek(lx, 1);
	bool longer = second == '=' || second == '>' || second == '<' || second == '&' || second == '|';
	for (size_t i = 0; longer && i < sizeof(operators) / sizeof(operators[0]); i++)
		if (*lx->p == (uint8_t)operators[i].text[0] && (size_t)(lx->end - lx->p) >= operators[i].len &&
		    memcmp(lx->p, operators[i].text, operators[i].len) == 0) {
			out->type = operators[i].type;
			out->text.n = operators[i].len;
			break;
		}
	lx->p += out->text.n;
}

/* Whatever does not begin with a letter or a digit. */
__attribute__((noinline)) static void read_punctuation(struct lex *lx, struct token *out)
{
	switch (*lx->p) {
	case '\'':
		read_string(lx, out);
		return;
	case '"':
		if (lx->mode & SQL_ANSI_QUOTES)
			read_quoted_name(lx, out);
		else
			read_string(lx, out);
		return;
	case '`':
		read_quoted_name(lx, out);
		return;
	case '@':
		read_variable(lx, out);
		return;
	case '?':
		out->type = TOK_PARAM;
		break;
	case '\\':
		if (peek(lx, 1) == 'N') {
			out->type = TOK_NULL;
			lx->p++;
			break;
		}
		read_operator(lx, out);
		return;
	default:
		read_operator(lx, out);
		return;
	}
	out->text = slice_of(out->at, (size_t)(lx->p + 1 - out->at));
	lx->p++;
}

/* The rest of lex_next, from the token's first byte on. What it calls it calls last, so that the usual token, a word or
 * one character, has nothing to save and restore on its way. */
static void read_token(struct lex *lx, struct token *out, bool spaced)
{
	const uint8_t *p = lx->p, *end = lx->end;
	bool name = lx->name;

	*out = (struct token){.spaced = spaced, .after_dot = lx->dot && !spaced, .at = p};
	lx->dot = lx->name = false;
	if (p == end) {
		lx->bad |= lx->in_exec;
		return;
	}
	lx->started = true;
	unsigned class = class_of[*p];
	if ((class & (WORD | HIGH)) && (!(class & DIGIT) || out->after_dot)) {
		if (end - p >= 2 && p[1] == '\'' && !out->after_dot)
			read_before_quote(lx, out);
		else
			read_word(lx, out);
	} else if ((class & SINGLE) || (*p == '.' && (name || !is(peek(lx, 1), DIGIT)))) {
		out->type = *p;
		out->text = slice_of(p, 1);
		lx->p = p + 1;
		lx->dot = *p == '.';
	} else if (*p == '.') {
		lx->p = p + 1;
		read_fraction(lx, out);
	} else if (class & DIGIT) {
		read_number(lx, out);
	} else {
		read_punctuation(lx, out);
	}
}

__attribute__((noinline)) static void read_behind_comments(struct lex *lx, struct token *out, bool spaced)
{
	const uint8_t *begin = lx->p;

	skip_comments(lx);
	read_token(lx, out, spaced || lx->p != begin);
}

void lex_next(struct lex *lx, struct token *out)
{
	const uint8_t *p = lx->p, *end = lx->end;

	while (p < end && is(*p, BLANK))
		p++;
	bool spaced = p != lx->p;
	lx->p = p;
	if (p < end && is(*p, REMARK))
		read_behind_comments(lx, out, spaced);
	else
		read_token(lx, out, spaced);
}
