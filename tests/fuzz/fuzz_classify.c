/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target: the first byte is the text mode, the rest the text. Built with a plain main (FUZZ_REPLAY) it runs
 * over the files that are its arguments, so that the ordinary tests replay the corpus.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../unit/same_stmt.h"
#include "sql/body.h"
#include "sql/keyword.h"
#include "sql/memo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct sql_stmt *s)
{
	bool ok = s->ntables <= SQL_TABLES && s->nfuncs <= SQL_FUNCS && s->nkeys <= SQL_KEYS && s->kind < SQL_KINDS &&
		  (s->scope == SQL_SCOPE_KEYS) == (s->nkeys > 0) && (s->watched != 0) == (s->scope != SQL_SCOPE_NONE) &&
		  (s->watched_written & ~s->watched) == 0 && (!s->now_is_expiry || s->nkeys == 1) &&
		  !(s->nkeys > 0 && (s->flags & (SQLF_UNREADABLE | SQLF_MULTI | SQLF_SUBQUERY)));
	if (!ok)
		abort();
}

/* The memo says what the classifier says: of this text, of one with another string in its quotes, and of this again. */
static void remembered(struct slice text, unsigned mode, const struct sql_watch *watch, const struct sql_stmt *s)
{
	static struct sql_memo *memo;
	static struct sql_stmt got, want;
	static const char *const keys[] = {"", "x", "it`s \"* /*!50000 -- #", "longer than most of the keys before it"};
	const uint8_t *quote = memchr(text.p, '\'', text.n);
	const uint8_t *end = quote != NULL ? memchr(quote + 1, '\'', (size_t)(text.p + text.n - quote - 1)) : NULL;

	if (memo == NULL)
		memo = sql_memo_new();
	sql_memo_classify(memo, text, mode, slice_str("app"), watch, 2, &got);
	if (!same_stmt(&got, text, s, text))
		abort();
	for (unsigned i = 0; end != NULL && i < 4; i++) {
		struct buf b = {0};
		buf_put(&b, text.p, (size_t)(quote + 1 - text.p));
		buf_put_str(&b, keys[i]);
		buf_put(&b, end, (size_t)(text.p + text.n - end));
		sql_memo_classify(memo, buf_slice(&b), mode, slice_str("app"), watch, 2, &got);
		sql_classify(buf_slice(&b), mode, slice_str("app"), watch, 2, &want);
		if (!same_stmt(&got, buf_slice(&b), &want, buf_slice(&b)))
			abort();
		buf_fini(&b);
	}
}

struct seen {
	const struct sql_stmt *s;
	uint32_t funcs; /* bit i: s->funcs[i] was told of */
};

static void on_use(void *arg, enum body_use use, struct slice db, struct slice name)
{
	struct seen *seen = arg;

	for (unsigned i = 0; i < seen->s->nfuncs && use != BODY_NAME; i++)
		if (slice_eq(seen->s->funcs[i].name, name) && slice_eq(seen->s->funcs[i].db, db))
			seen->funcs |= 1u << i;
}

/* user@host is no variable for the scanner; the server allows it in no query. */
static bool has_host(struct slice text)
{
	for (size_t i = 1; i < text.n; i++)
		if (text.p[i] == '@' && text.p[i - 1] > ' ' && strchr("@,=(+-*/<>|&!~^%", text.p[i - 1]) == NULL)
			return true;
	return false;
}

/* What the classifier sees in a query, the scanner of bodies sees too. */
static void scanned(struct slice text, unsigned mode, const struct sql_stmt *s)
{
	struct seen seen = {.s = s};
	struct body b = {.text = text, .mode = mode & ~(unsigned)SQL_ORACLE, .use = on_use, .arg = &seen};
	unsigned effects = body_effects(&b);

	for (unsigned i = 0; i < s->nfuncs; i++) /* a word of the grammar: built in, however it is quoted; or a type */
		if (slice_ieq(s->funcs[i].name, "bit") || slice_ieq(s->funcs[i].name, "enum") ||
		    kw_find(s->funcs[i].name, s->funcs[i].name.p + s->funcs[i].name.n) != KW_NONE)
			seen.funcs |= 1u << i;
	b.statement = true;
	body_effects(&b);
	if (memmem(text.p, text.n, "..", 2) != NULL)
		return; /* no name, and cut in another way */
	if (s->kind != SQL_SELECT || effects == EFFECT_ALL || (s->flags & (SQLF_UNREADABLE | SQLF_MULTI)) ||
	    (mode & SQL_ORACLE))
		return;
	unsigned want = body_flag_effects(s->flags & ~(uint32_t)(SQLF_INTO | SQLF_USER_VAR_SET));
	if (effects & EFFECT_TRANSACTION) /* ANALYZE: that its answer tells of times is no effect */
		want &= ~(unsigned)EFFECT_NONDET;
	if (has_host(text))
		want = 0;
	if ((want & ~effects) != 0 || seen.funcs != (1u << s->nfuncs) - 1)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct sql_stmt s;
	char out[512];

	if (size == 0)
		return 0;
	struct sql_watch watch[] = {{slice_str("app"), slice_str("t"), slice_str("k"), slice_str("e"), 0, 2, true},
				    {slice_str("app"), slice_str("u"), slice_str("k"), slice_str(""), -1, -1, false}};
	unsigned mode = data[0] & 31;
	struct slice text = slice_of(data + 1, size - 1);

	sql_classify(text, mode, slice_str("app"), watch, 2, &s);
	check(&s);
	for (unsigned i = 0; i < s.nkeys; i++)
		sql_literal_unescape(&s.keys[i], mode, out, sizeof(out));
	sql_digest_text(text, mode, out, sizeof(out));
	remembered(text, mode, watch, &s);
	scanned(text, mode, &s);
	return 0;
}

#ifdef FUZZ_REPLAY
static int replay(const char *path)
{
	FILE *f = fopen(path, "rb");
	size_t cap = 1 << 20;
	uint8_t *all = malloc(cap);

	if (f == NULL || all == NULL)
		return -1;
	size_t n = fread(all, 1, cap, f);
	fclose(f);
	uint8_t *exact = malloc(n > 0 ? n : 1);
	if (exact == NULL)
		return -1;
	memcpy(exact, all, n);
	LLVMFuzzerTestOneInput(exact, n);
	free(exact);
	free(all);
	return 0;
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (replay(argv[i]) != 0) {
			fprintf(stderr, "%s: cannot be read\n", argv[i]);
			return 1;
		}
	printf("%d inputs replayed\n", argc - 1);
	return 0;
}
#endif
