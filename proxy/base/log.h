/* SPDX-License-Identifier: Apache-2.0
 *
 * Logging: one line an event, to stderr, one write(2) a line so that lines of several threads never mix.
 * Any thread. errno is kept.
 */
#ifndef ST_BASE_LOG_H
#define ST_BASE_LOG_H

#include <stdatomic.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

extern atomic_int log_threshold; /* written by log_set_level only; read by the macros below */

void log_set_level(enum log_level level);

/* Parses "error", "warn", "info" or "debug". Returns 0, or -1 for any other word. */
int log_level_parse(const char *word, enum log_level *out);

void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_wanted(level) ((int)(level) <= atomic_load_explicit(&log_threshold, memory_order_relaxed))
#define log_at(level, ...)                                                                                             \
	do {                                                                                                           \
		if (log_wanted(level))                                                                                 \
			log_line((level), __VA_ARGS__);                                                                \
	} while (0)
#define log_error(...) log_at(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
