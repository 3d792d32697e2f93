/* SPDX-License-Identifier: Apache-2.0
 *
 * tests/data/classify.tsv, a line a statement: text mode, kind, flags, tables, rows, statement, parted by tabs. The
 * properties at the end hold for every statement of that file. TEST_DATA names the folder when it is not run from the
 * project's root.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "sql/classify.h"
#include "sql/lex.h"

static const char *const flag_names[] = {
	"unreadable", "multi", "locking", "into", "user_var", "user_var_set", "sys_var", "session_func", "diag",
	"lock_func", "sequence", "unknown_func", "nondet", "now", "system_schema", "calc_found_rows", "set_statement",
	"sql_cache", "tables_overflow", "chain", "release", "params", "subquery", "set_tracking", "set_global",
	"set_once", "returns_rows", "temp", "set_untold", "found_untold", "sticky", "ddl_plain"};
static const struct {
	const char *name;
	unsigned mode;
} modes[] = {{"ansi", SQL_ANSI_QUOTES}, {"noescape", SQL_NO_BACKSLASH_ESCAPES}, {"unsafe", SQL_UNSAFE_CHARSET},
	     {"fold", SQL_FOLD_TABLE_NAMES}, {"oracle", SQL_ORACLE}};
static const char *const hints[] = {"", "hint:primary ", "hint:replica ", "hint:no-cache "};

static struct sql_watch watches[3];
static struct sql_stmt stmt, other;

struct line {
	unsigned mode;
	char *expected; /* kind, flags, tables, rows */
	uint8_t *text;  /* exactly n bytes of heap, so that the sanitizer sees a read behind them */
	size_t n;
	unsigned number;
};
static struct line *lines;
static unsigned nlines;

/* %XX is a byte. */
static void decode(struct line *l, const char *s)
{
	struct buf b = {0};

	for (; *s != '\0'; s++) {
		unsigned byte;
		if (*s == '%' && isxdigit((unsigned char)s[1]) && isxdigit((unsigned char)s[2]) &&
		    sscanf(s + 1, "%2x", &byte) == 1) {
			buf_put_u8(&b, byte);
			s += 2;
		} else {
			buf_put_u8(&b, (uint8_t)*s);
		}
	}
	l->n = b.len;
	l->text = xmalloc(b.len > 0 ? b.len : 1);
	if (b.len > 0)
		memcpy(l->text, b.data, b.len);
	buf_fini(&b);
}

static unsigned mode_of(const char *word, unsigned number)
{
	unsigned mode = 0;
	bool known = strcmp(word, "-") == 0;

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (strstr(word, modes[i].name) != NULL) {
			mode |= modes[i].mode;
			known = true;
		}
	if (!known)
		fail_msg("classify.tsv:%u: no such text mode: %s", number, word);
	return mode;
}

static int load(void **state)
{
	const char *dir = getenv("TEST_DATA");
	char path[4096], *row = NULL;
	size_t cap = 0;
	ssize_t n;

	(void)state;
	snprintf(path, sizeof(path), "%s/classify.tsv", dir != NULL ? dir : "tests/data");
	FILE *f = fopen(path, "r");
	if (f == NULL)
		return -1;
	for (unsigned number = 1; (n = getline(&row, &cap, f)) > 0; number++) {
		if (row[n - 1] == '\n')
			row[n - 1] = '\0';
		if (row[0] == '#' || row[0] == '\0')
			continue;
		char *kind = strchr(row, '\t'), *text = row;
		for (unsigned i = 0; i < 5 && text != NULL; i++)
			text = strchr(text + (i > 0), '\t');
		if (text == NULL) {
			fprintf(stderr, "%s:%u: five tabs expected\n", path, number);
			return -1;
		}
		*kind = *text = '\0';
		lines = xrealloc(lines, (nlines + 1) * sizeof(*lines));
		lines[nlines] =
			(struct line){.mode = mode_of(row, number), .expected = xstrdup(kind + 1), .number = number};
		decode(&lines[nlines++], text + 1);
	}
	free(row);
	fclose(f);
	return nlines > 0 ? 0 : -1;
}

static int unload(void **state)
{
	(void)state;
	for (unsigned i = 0; i < nlines; i++) {
		free(lines[i].text);
		free(lines[i].expected);
	}
	free(lines);
	return 0;
}

static void classify(struct slice text, unsigned mode, struct sql_stmt *out)
{
	memset(out, 0xa5, sizeof(*out)); /* whatever is not set shows */
	sql_classify(text, mode, slice_str("app"), watches, sizeof(watches) / sizeof(watches[0]), out);
}

static void put_name(struct buf *b, const struct sql_name *name)
{
	if (b->len > 0 && b->data[b->len - 1] != '\t')
		buf_put_u8(b, ' ');
	if (name->db.n > 0) {
		buf_put(b, name->db.p, name->db.n);
		buf_put_u8(b, '.');
	}
	buf_put(b, name->name.p, name->name.n);
}

static void put_key(struct buf *b, const struct sql_literal *key)
{
	static const char *const types[] = {"", "#", "x:", "null", "?", "other:"};

	buf_put_str(b, " ");
	buf_put_str(b, key->negative ? "-" : "");
	buf_put_str(b, types[key->type]);
	buf_put_str(b, key->introducer ? "_:" : "");
	if (key->type == SQL_LIT_PARAM)
		buf_printf(b, "%u", key->param);
	else if (key->type != SQL_LIT_NULL)
		buf_put(b, key->text.p, key->text.n);
}

/* The columns of the file, from kind to rows, as they came out. */
static char *describe(const struct sql_stmt *s)
{
	static const char *const scopes[] = {"-", "keys", "table"};
	struct buf b = {0};

	buf_printf(&b, "%s\t%s", sql_kind_name(s->kind), hints[s->hint]);
	for (size_t i = 0; i < sizeof(flag_names) / sizeof(flag_names[0]); i++)
		if (s->flags >> i & 1)
			buf_printf(&b, "%s ", flag_names[i]);
	if (b.data[b.len - 1] == ' ')
		b.len--;
	else
		buf_put_str(&b, "-");
	buf_put_u8(&b, '\t');
	for (unsigned i = 0; i < s->ntables; i++) {
		put_name(&b, &s->tables[i]);
		buf_put_str(&b, s->tables[i].written ? "!" : "");
	}
	for (unsigned i = 0; i < s->nfuncs; i++) {
		put_name(&b, &s->funcs[i]);
		buf_put_str(&b, "()");
	}
	buf_put_str(&b, s->funcs_overflow ? " more()" : b.data[b.len - 1] == '\t' ? "-" : "");
	buf_printf(&b, "\t%s", scopes[s->scope]);
	buf_put_str(&b, s->single ? " single" : "");
	buf_put_str(&b, s->now_is_expiry ? " expiry" : "");
	if (s->watched != 0)
		buf_printf(&b, " %x/%x", s->watched, s->watched_written);
	for (unsigned i = 0; i < s->nkeys; i++)
		put_key(&b, &s->keys[i]);
	buf_put_u8(&b, 0);
	return (char *)b.data;
}

static void test_table(void **state)
{
	unsigned wrong = 0;

	(void)state;
	for (unsigned i = 0; i < nlines; i++) {
		const struct line *l = &lines[i];
		classify(slice_of(l->text, l->n), l->mode, &stmt);
		char *got = describe(&stmt);
		if (strcmp(got, l->expected) != 0) {
			print_error("classify.tsv:%u: %.*s\n  expected %s\n  got      %s\n", l->number, (int)l->n,
				    (const char *)l->text, l->expected, got);
			wrong++;
		}
		free(got);
	}
	assert_int_equal(wrong, 0);
}

/* Every prefix and every suffix is read without a step outside of it, in every mode. */
static void test_any_cut(void **state)
{
	(void)state;
	for (unsigned i = 0; i < nlines; i++)
		for (size_t cut = 0; cut <= lines[i].n; cut++) {
			size_t rest = lines[i].n - cut;
			uint8_t *head = xmalloc(cut + 1), *tail = xmalloc(rest + 1);
			memcpy(head + 1, lines[i].text, cut);
			memcpy(tail + 1, lines[i].text + cut, rest);
			classify(slice_of(head + 1, cut), (unsigned)(cut + i) & 31, &stmt);
			classify(slice_of(tail + 1, rest), (unsigned)(cut + i) & 31, &stmt);
			free(head);
			free(tail);
		}
}

/* The statement with other blanks, comments and case between and in its words: it must stay the same statement. Where
 * a blank means something (before a parenthesis or a dot, after @), it is left as it is. */
static void vary(struct buf *b, const struct line *l, unsigned seed)
{
	static const char *const blanks[] = {" ", "\n\t", " /* x' */ ", "/**/", " -- it's\n", "#\"\n"};
	struct lex lx;
	struct token t;
	const uint8_t *from = l->text;

	lex_init(&lx, slice_of(l->text, l->n), l->mode);
	for (lex_next(&lx, &t); t.type != TOK_END; lex_next(&lx, &t)) {
		bool begins = from == l->text;
		seed = seed * 1103515245u + 12345u;
		if (t.spaced && !begins)
			buf_put_str(b, blanks[seed >> 16 & 3]);
		else if (!begins && (t.type == ',' || t.type == '=' || t.type == ')'))
			buf_put_str(b, blanks[seed >> 16 & 3]);
		const uint8_t *end = lx.p;
		for (const uint8_t *p = t.at; p < end; p++)
			buf_put_u8(b, t.type == TOK_WORD && t.kw != KW_NONE && (seed >> 20 & 1) ? (unsigned)toupper(*p)
												: *p);
		from = end;
	}
	buf_put_str(b, blanks[seed >> 12 & 3]);
}

static void test_variations(void **state)
{
	(void)state;
	for (unsigned i = 0; i < nlines; i++) {
		const struct line *l = &lines[i];
		classify(slice_of(l->text, l->n), l->mode, &stmt);
		/* Executable comments and what cannot be read do not survive being taken apart; hints are comments. */
		if ((stmt.flags & SQLF_UNREADABLE) || stmt.hint != SQL_HINT_NONE ||
		    memmem(l->text, l->n, "/*!", 3) != NULL)
			continue;
		for (unsigned seed = 1; seed <= 8; seed++) {
			struct buf b = {0};
			vary(&b, l, seed * 7919 + i);
			classify(buf_slice(&b), l->mode, &other);
			char *was = describe(&stmt), *is = describe(&other);
			if (strcasecmp(was, is) != 0 || stmt.digest != other.digest)
				fail_msg("classify.tsv:%u:\n  %s\n  %.*s\n  %s", l->number, was, (int)b.len,
					 (char *)b.data, is);
			free(was);
			free(is);
			buf_fini(&b);
		}
	}
}

static struct slice digest_text(const char *sql, char *buf, size_t cap)
{
	return slice_of(buf, sql_digest_text(slice_str(sql), 0, buf, cap));
}

static uint64_t digest_of(const char *sql)
{
	classify(slice_str(sql), 0, &stmt);
	return stmt.digest;
}

static void test_digest_text(void **state)
{
	static const char *const pairs[][2] = {
		{"SELECT  A,b FROM T where x='1' And y=-2", "select a, b from t where x = ? and y = - ?"},
		{"select * from t where a in (1, -2,'x')", "select * from t where a in (?)"},
		{"select * from t where a in (1, b, 2)", "select * from t where a in (?, b, ?)"},
		{"insert into t values (1,'a'),(2,'b') , (3, now())", "insert into t values (?, ?)"},
		{"insert into t values (1) on duplicate key update a=values(a), b=1",
		 "insert into t values (?) on duplicate key update a = values (a), b = ?"},
		{"select `A``b`, @X, @@Global.y from t;", "select `a``b`, @x, @@global.y from t"},
		{"select 1; select 0x41, x'41', b'1', N'x', \\N ;", "select ?; select ?, ?, ?, ?, ?"},
		{"/* c */ select count(*), f (1)", "select count(*), f(?)"},
	};
	char buf[256];

	(void)state;
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		digest_text(pairs[i][0], buf, sizeof(buf));
		assert_string_equal(buf, pairs[i][1]);
	}
	assert_int_equal(digest_of("select * from t where a in (1,2,3)"),
			 digest_of("SELECT * FROM t WHERE a IN ('x')"));
	assert_int_not_equal(digest_of("select a from t"), digest_of("select b from t"));
	assert_int_not_equal(digest_of("select a from t where a=?"), digest_of("select a from t where a>?"));
}

/* A text of any length fits any buffer, and its hash does not depend on where blocks end. */
static void test_digest_long(void **state)
{
	struct buf b = {0}, c = {0};
	char out[64];

	(void)state;
	buf_put_str(&b, "select ");
	buf_put_str(&c, "SELECT\n");
	for (unsigned i = 0; i < 500; i++) {
		buf_printf(&b, "col%u,", i);
		buf_printf(&c, "COL%u , ", i);
	}
	buf_put_str(&b, "x from t");
	buf_put_str(&c, "x /**/ from t");
	classify(buf_slice(&b), 0, &stmt);
	classify(buf_slice(&c), 0, &other);
	assert_int_equal(stmt.digest, other.digest);
	b.data[b.len - 1] = 'u';
	classify(buf_slice(&b), 0, &stmt);
	assert_int_not_equal(stmt.digest, other.digest);
	for (size_t cap = 1; cap <= sizeof(out); cap++) {
		memset(out, 'z', sizeof(out));
		assert_int_equal(sql_digest_text(buf_slice(&b), 0, out, cap), cap - 1);
		assert_int_equal(out[cap - 1], '\0');
	}
	assert_int_equal(sql_digest_text(buf_slice(&b), 0, out, 0), 0);
	for (unsigned i = 0; i < 1000; i++) /* no token between them that would look whether the block is full */
		buf_put_str(&b, i % 100 == 99 ? ";x" : ";");
	classify(buf_slice(&b), 0, &stmt);
	assert_true(stmt.flags & SQLF_MULTI);
	buf_fini(&b);
	buf_fini(&c);
}

static void check_unescape(const char *literal, unsigned mode, const char *want, size_t n)
{
	char sql[256], out[64];

	snprintf(sql, sizeof(sql), "SELECT 1 FROM access_token WHERE token = %s", literal);
	classify(slice_str(sql), mode, &stmt);
	assert_int_equal(stmt.nkeys, 1);
	assert_int_equal(sql_literal_unescape(&stmt.keys[0], mode, out, sizeof(out)), n);
	assert_memory_equal(out, want, n);
	for (size_t cap = 0; cap < n; cap++)
		assert_int_equal(sql_literal_unescape(&stmt.keys[0], mode, out, cap), -1);
	assert_int_equal(sql_literal_unescape(&stmt.keys[0], mode, out, n), n);
}

static void test_unescape(void **state)
{
	(void)state;
	check_unescape("'abc'", 0, "abc", 3);
	check_unescape("''", 0, "", 0);
	check_unescape("'it''s'", 0, "it's", 4);
	check_unescape("\"it''s\"", 0, "it''s", 5);
	check_unescape("\"a\"\"b\"", 0, "a\"b", 3);
	check_unescape("'a\\'b\\\\'", 0, "a'b\\", 4);
	check_unescape("'\\0\\n\\t\\r\\b\\Z'", 0, "\0\n\t\r\b\x1a", 6);
	check_unescape("'50\\% \\_ \\q'", 0, "50\\% \\_ q", 9);
	check_unescape("'a\\'", SQL_NO_BACKSLASH_ESCAPES, "a\\", 2);
	check_unescape("'a\\''b'", SQL_NO_BACKSLASH_ESCAPES, "a\\'b", 4);
	check_unescape("-12", 0, "12", 2);
}

/* More than the arrays hold is said, not cut off. */
static void test_limits(void **state)
{
	struct buf b = {0};

	(void)state;
	buf_put_str(&b, "SELECT f0()");
	for (unsigned i = 1; i <= SQL_FUNCS; i++)
		buf_printf(&b, ", f%u()", i);
	buf_put_str(&b, " FROM t0");
	for (unsigned i = 1; i <= SQL_TABLES; i++)
		buf_printf(&b, ", t%u", i);
	classify(buf_slice(&b), 0, &stmt);
	assert_int_equal(stmt.nfuncs, SQL_FUNCS);
	assert_true(stmt.funcs_overflow);
	assert_int_equal(stmt.ntables, SQL_TABLES);
	assert_true(stmt.flags & SQLF_TABLES_OVERFLOW);
	assert_int_equal(stmt.watched, 7);

	for (unsigned keys = SQL_KEYS; keys <= SQL_KEYS + 1; keys++) {
		buf_clear(&b);
		buf_put_str(&b, "DELETE FROM access_token WHERE token IN (0");
		for (unsigned i = 1; i < keys; i++)
			buf_printf(&b, ",'%u'", i);
		buf_put_str(&b, ")");
		classify(buf_slice(&b), 0, &stmt);
		assert_int_equal(stmt.scope, keys == SQL_KEYS ? SQL_SCOPE_KEYS : SQL_SCOPE_TABLE);
		assert_int_equal(stmt.nkeys, keys == SQL_KEYS ? SQL_KEYS : 0);
	}

	buf_clear(&b);
	buf_put_str(&b, "SELECT ");
	for (unsigned i = 0; i < 1000; i++)
		buf_put_str(&b, "(");
	classify(buf_slice(&b), 0, &stmt);
	assert_true(stmt.flags & SQLF_UNREADABLE);
	buf_fini(&b);
}

static void test_kind_names(void **state)
{
	(void)state;
	for (unsigned i = 0; i < SQL_KINDS; i++)
		for (unsigned j = 0; j < i; j++)
			assert_string_not_equal(sql_kind_name((enum sql_kind)i), sql_kind_name((enum sql_kind)j));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),       cmocka_unit_test(test_any_cut),
		cmocka_unit_test(test_variations),  cmocka_unit_test(test_digest_text),
		cmocka_unit_test(test_digest_long), cmocka_unit_test(test_unescape),
		cmocka_unit_test(test_limits),      cmocka_unit_test(test_kind_names),
	};

	watches[0] = (struct sql_watch){slice_str("app"), slice_str("access_token"), slice_str("token"),
					slice_str("expires_at"), 1, 5, true};
	watches[1] =
		(struct sql_watch){slice_str("app"), slice_str("sess"), slice_str("id"), slice_str(""), 0, 3, false};
	watches[2] = (struct sql_watch){
		slice_str("other"), slice_str("sess"), slice_str("id"), slice_str("until"), -1, -1, true};
	return cmocka_run_group_tests(tests, load, unload);
}
