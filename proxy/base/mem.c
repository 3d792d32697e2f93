/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
