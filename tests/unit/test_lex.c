/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "sql/classify.h"
#include "sql/lex.h"

static const char *type_name(uint8_t type)
{
	static const char *const names[] = {"word", "name", "string", "number", "hex", "bits", "null", "?", "@", "@@",
					    ":=", "<=", ">=", "<>", "<=>", "shift", "and", "or", "->"};

	return names[type - TOK_WORD];
}

/* Tokens as text: `word:select word:a , number:1`; a word that is a keyword is `kw:`. Ends with ! when bad. */
static char *tokens(struct slice text, unsigned mode)
{
	struct buf b = {0};
	struct lex lx;
	struct token t;

	lex_init(&lx, text, mode);
	for (lex_next(&lx, &t); t.type != TOK_END; lex_next(&lx, &t)) {
		buf_put_str(&b, b.len > 0 ? " " : "");
		if (t.type < TOK_WORD) {
			buf_put_u8(&b, t.type);
			continue;
		}
		buf_printf(&b, "%s%s:", t.kw != KW_NONE ? "kw" : type_name(t.type), t.decorated ? "*" : "");
		buf_put(&b, t.text.p, t.text.n);
	}
	buf_put_str(&b, lx.bad ? " !" : "");
	buf_put_u8(&b, 0);
	return (char *)b.data;
}

static void check(const char *sql, unsigned mode, const char *want)
{
	char *got = tokens(slice_str(sql), mode);

	assert_string_equal(got, want);
	free(got);
}

static void test_words(void **state)
{
	(void)state;
	check("SELECT a", 0, "kw:SELECT word:a");
	check("  \t\n\v\f\rx", 0, "word:x");
	check("selec selects select_ $select", 0, "word:selec word:selects word:select_ word:$select");
	check("t.select", 0, "word:t . word:select");
	check("t. select", 0, "word:t . kw:select");
	check("select.a", 0, "word:select . word:a");
	check("select .a", 0, "kw:select . word:a");
	check("t.5a", 0, "word:t . word:5a");
	check("größe", 0, "word:größe");
	check("`a``b` `select`", 0, "name:a``b name:select");
	check("\"a\"", 0, "string:a");
	check("\"a\\\"", SQL_ANSI_QUOTES, "name:a\\");
	check("a\xa0", 0, "word:a\xa0 !");
	check("\xc3\xa0", 0, "word:\xc3\xa0 !");
}

static void test_every_keyword(void **state)
{
	char word[40];

	(void)state;
	for (unsigned id = KW_NONE + 1; id < KW_COUNT_ALL; id++) {
		const struct kw_info *k = &kw_table[id];
		unsigned upper = 0;
		for (unsigned i = 0; i < k->len; i++) {
			char c = (char)(k->word[i / 8] >> i % 8 * 8);
			word[i] = c == 0x7f ? '_' : c;
		}
		assert_int_equal(kw_find(slice_of(word, k->len), (uint8_t *)word + k->len), id);
		for (; upper < k->len; upper++)
			word[upper] = (char)(word[upper] >= 'a' ? word[upper] - 0x20 : word[upper]);
		assert_int_equal(kw_find(slice_of(word, k->len), (uint8_t *)word + sizeof(word)), id);
		word[k->len] = 'q';
		assert_int_not_equal(kw_find(slice_of(word, k->len + 1u), (uint8_t *)word + sizeof(word)), id);
	}
	assert_int_equal(kw_find(slice_str(""), NULL), KW_NONE);
}

static void test_strings(void **state)
{
	(void)state;
	check("'a' 'it''s' 'a\\'b' ''", 0, "string:a string:it''s string:a\\'b string:");
	check("'a\\' b", SQL_NO_BACKSLASH_ESCAPES, "string:a\\ word:b");
	check("'a\\\\' b", 0, "string:a\\\\ word:b");
	check("N'a' n'b' _utf8'c' N 'd'", 0, "string*:a string*:b word:_utf8 string:c word:N string:d");
	check("x'4A' X'' b'01'", 0, "hex*:4A hex*: bits*:01");
	check("x'4G'", 0, "hex*:4G !");
	check("b'2'", 0, "bits*:2 !");
	check("'a", 0, "string:a !");
	check("'a\\", 0, "string:a\\ !");
	check("'a\\'", 0, "string:a\\' !");
	check("'a''", 0, "string:a'' !");
	check("'", 0, "string: !");
	check("\"a'b\" 'c\"d'", 0, "string:a'b string:c\"d");
}

static void test_numbers(void **state)
{
	(void)state;
	check("1 12.5 .5 1. 1e5 1e+5 1.e3 1.5E-2", 0,
	      "number:1 number:12.5 number:.5 number:1. number:1e5 number:1e+5 number:1.e3 number:1.5E-2");
	check("0x4A 0X4A 0x 0xG 0b01 0b2", 0, "hex:4A word:0X4A word:0x word:0xG bits:01 word:0b2");
	check("1e1from", 0, "number:1e1 kw:from");
	check("1.from", 0, "number:1. kw:from");
	check("1a 1e 1e+", 0, "word:1a word:1e word:1e +");
	check("1.5e", 0, "number:1.5e !");
	check("1..2", 0, "number:1. number:.2");
	check("a-1", 0, "word:a - number:1");
}

static void test_variables(void **state)
{
	(void)state;
	check("@a @'b c' @\"d\" @`e` @f.g @", 0, "@:a @:b c @:d @:e @:f.g @:");
	check("@@a @@global.b @@`c`", 0, "@@:a @@:global . word:b @@:c");
	check("@a:=1", 0, "@:a :=::= number:1");
	check("@\xc3\xa4", 0, "@:\xc3\xa4 !");
}

static void test_operators(void **state)
{
	(void)state;
	check("a<=>b<=c>=d<>e!=f", 0, "word:a <=>:<=> word:b <=:<= word:c >=:>= word:d <>:<> word:e <>:!= word:f");
	check("&& || << >> -> & |", 0, "and:&& or:|| shift:<< shift:>> ->:-> & |");
	check("?,(;)*=\\N", 0, "?:? , ( ; ) * = null:\\N");
	check("\\n", 0, "\\ word:n !");
	check("a\x01", 0, "word:a \x01 !");
}

static void test_comments(void **state)
{
	(void)state;
	check("a/*x*/b", 0, "word:a word:b");
	check("a /*/ b */ c", 0, "word:a word:c");
	check("a -- b\nc --d", 0, "word:a word:c - - word:d");
	check("a --", 0, "word:a");
	check("a --\tb", 0, "word:a");
	check("a # b\nc", 0, "word:a word:c");
	check("a --\xa0", 0, "word:a - - word:\xa0 !");
	check("a /* b", 0, "word:a !");
	check("a */ b", 0, "word:a * / word:b");
	check("/*! a */ b", 0, "word:a word:b");
	check("/*!50000a*/ /*!5 b */", 0, "word:a number:5 word:b");
	check("/*!50700 a */", 0, "word:a !");
	check("/*!100100 a */", 0, "word:a !");
	check("/*M! a */", 0, "word:a !");
	check("/*! a", 0, "word:a !");
	check("/*! '*/' */ b", 0, "string:*/ word:b");
	check("/*! a /* b */ c */", 0, "word:a word:c !");
	check("/*! -- a */ b", 0, " !");
	check("/*!*/", 0, "");
}

static void test_unsafe_charset(void **state)
{
	(void)state;
	check("'a'", SQL_UNSAFE_CHARSET, "string:a");
	check("'\xbf'", SQL_UNSAFE_CHARSET, "string:\xbf !");
}

static void test_flags_of_tokens(void **state)
{
	struct lex lx;
	struct token t;

	(void)state;
	lex_init(&lx, slice_str("f (a) . b"), 0);
	lex_next(&lx, &t);
	assert_false(t.spaced);
	lex_next(&lx, &t);
	assert_true(t.spaced);
	lex_next(&lx, &t);
	assert_false(t.spaced);
	assert_int_equal(t.at - lx.p, -1);
	for (unsigned i = 0; i < 3; i++)
		lex_next(&lx, &t);
	assert_true(t.spaced);
	assert_false(t.after_dot);
	for (unsigned i = 0; i < 3; i++) {
		lex_next(&lx, &t);
		assert_int_equal(t.type, TOK_END);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),           cmocka_unit_test(test_every_keyword),
		cmocka_unit_test(test_strings),         cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_variables),       cmocka_unit_test(test_operators),
		cmocka_unit_test(test_comments),        cmocka_unit_test(test_unsafe_charset),
		cmocka_unit_test(test_flags_of_tokens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
