/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"

static void *checked(void *p, size_t n)
{
	if (p == NULL) {
		log_error("out of memory: %zu bytes were asked for", n);
		abort();
	}
	return p;
}

void *xmalloc(size_t n)
{
	return checked(malloc(n != 0 ? n : 1), n);
}

void *xcalloc(size_t count, size_t n)
{
	return checked(calloc(count != 0 ? count : 1, n != 0 ? n : 1), n);
}

void *xrealloc(void *p, size_t n)
{
	return checked(realloc(p, n != 0 ? n : 1), n);
}

char *xstrdup(const char *s)
{
	return checked(strdup(s), 0);
}

char *xstrndup(const char *s, size_t n)
{
	return checked(n > 0 ? strndup(s, n) : strdup(""), n); /* an empty slice may have no bytes at all */
}

char *xasprintf(const char *fmt, ...)
{
	char *out = NULL;
	va_list ap;

	va_start(ap, fmt);
	int n = vasprintf(&out, fmt, ap);
	va_end(ap);
	return checked(n < 0 ? NULL : out, 0);
}

/* --- what may fail ------------------------------------------------------------------------------------------------ */

/* What a large request leaves for the small ones, which must not fail. It is only asked for, not touched. */
enum { LARGE = 256 * 1024, RESERVE = 4 << 20 };

static size_t pretended;

void *mem_try_realloc(void *p, size_t n)
{
	void *volatile reserve = NULL; /* a compiler may leave out what is only taken and given */

	if ((pretended != 0 && n > pretended) || (n >= LARGE && (reserve = malloc(RESERVE)) == NULL))
		return NULL;
	void *q = realloc(p, n != 0 ? n : 1);
	free(reserve);
	return q;
}

void mem_pretend_limit(size_t bytes)
{
	pretended = bytes;
}

/* --- secrets ------------------------------------------------------------------------------------------------------ */

union secret { /* at the beginning of its pages */
	size_t mapped;
	max_align_t align;
};

void *secret_alloc(size_t n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t mapped = (sizeof(union secret) + n + page - 1) / page * page;
	union secret *s = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	checked(s == MAP_FAILED ? NULL : s, n);
	madvise(s, mapped, MADV_DONTDUMP);
	mlock(s, mapped); /* RLIMIT_MEMLOCK may say no: then it may be swapped out, as all else */
	s->mapped = mapped;
	return s + 1;
}

char *secret_strndup(const char *text, size_t n)
{
	char *s = secret_alloc(n + 1);

	if (n > 0)
		memcpy(s, text, n);
	return s;
}

void secret_free(void *p)
{
	union secret *s = p;

	if (s == NULL)
		return;
	s--;
	size_t mapped = s->mapped;
	explicit_bzero(s, mapped);
	munmap(s, mapped);
}
