/* SPDX-License-Identifier: Apache-2.0
 *
 * Allocation that never fails: out of memory ends the process with a line in the log. What a peer can size has a
 * limit of its own, so that no peer can cause it. Memory is given back with free(3). Any thread.
 */
#ifndef ST_BASE_MEM_H
#define ST_BASE_MEM_H

#include <stddef.h>

void *xmalloc(size_t n) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t count, size_t n) __attribute__((malloc, returns_nonnull)); /* zeroed */
void *xrealloc(void *p, size_t n) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
char *xstrndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull));
char *xasprintf(const char *fmt, ...) __attribute__((malloc, returns_nonnull, format(printf, 1, 2)));

#endif
