/* SPDX-License-Identifier: Apache-2.0
 *
 * Allocation that never fails: out of memory ends the process with a line in the log. For what has a small, fixed
 * size. What a peer can size is asked for with mem_try_realloc (buf_try_reserve) and fails for that peer alone. Memory
 * is given back with free(3), secrets with secret_free. Any thread.
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

/* realloc(3): NULL when there is no memory, and then p is as it was. */
void *mem_try_realloc(void *p, size_t n);
/* For tests: from now on mem_try_realloc has no memory for more than that many bytes; 0: as much as there is. */
void mem_pretend_limit(size_t bytes);

/* Memory for secrets, zeroed: whole pages that no core dump has, locked while the process may lock so much. Rare, and
 * not small: a page at least. Ends the process when there is none. */
void *secret_alloc(size_t n) __attribute__((malloc, returns_nonnull));
char *secret_strndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull));
void secret_free(void *p); /* wipes; NULL is nothing */

#endif
