/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to base/config*.c and their tests: the rows of tbl/config.h as data, values by type, and the reader of ini
 * text. Pure, but for config_value_set with `resolve`, which may ask DNS.
 */
#ifndef ST_BASE_CONFIG_TABLE_H
#define ST_BASE_CONFIG_TABLE_H

#include "base/config.h"

/* --- Rows ------------------------------------------------------------------------------------------------------- */

enum config_section_id {
#define CONFIG_SECTION(ID, ...) SECTION_##ID,
#define CONFIG_OPTION(...)
#include "tbl/config.h"
#undef CONFIG_SECTION
#undef CONFIG_OPTION
	SECTIONS
};

struct config_section {
	const char *name;
	const char *example; /* of X in [name.X]; NULL for a section that stands alone */
	bool shown;          /* in the sample file, not only as comments */
	const char *help;
};
extern const struct config_section config_sections[SECTIONS];

enum config_type {
	TYPE_LISTENS, TYPE_HTTP, TYPE_ADDRESS, TYPE_NETS, TYPE_MATCHES, TYPE_COUNT, TYPE_BYTES, TYPE_DURATION,
	TYPE_WORD, TYPE_NAME, TYPE_LABEL, TYPE_TABLE, TYPE_TEXT, TYPE_SECRET, TYPE_STORE, TYPES
};

struct config_limits {
	uint64_t min, max;
	const char *words; /* "a|b|c": the enum's values in order; those that may stand behind a listening address */
	unsigned port;     /* default */
};

struct config_option {
	enum config_section_id section;
	const char *key;
	enum config_type type;
	size_t offset, size; /* of the field, in the section's struct */
	const char *def;     /* NULL: none */
	struct config_limits limits;
	bool live;
	const char *example, *help;
};
extern const struct config_option config_options[];
extern const unsigned config_options_n;

const struct config_option *config_option_find(enum config_section_id section, const char *key);

/* --- Values ----------------------------------------------------------------------------------------------------- */

enum { CONFIG_WHY = 320, CONFIG_TEXT = 1600 };

/* Parses `value` into the option's field of `at` (a struct config, config_server, ... as the section says). Returns 0,
 * or -1 with what was expected in why; the field is then unspecified but safe to free. */
int config_value_set(const struct config_option *o, void *at, const char *value, bool resolve, char why[CONFIG_WHY]);
/* Are these the same destination, as written? */
bool config_match_same(const struct config_match *a, const struct config_match *b);
/* The value as a user would write it; secrets as "***", "" where there is none. */
void config_value_print(const struct config_option *o, const void *at, char text[CONFIG_TEXT]);

/* --- Text ------------------------------------------------------------------------------------------------------- */

struct config_sink {
	void *arg;
	void (*section)(void *arg, int line, const char *name);
	void (*setting)(void *arg, int line, const char *key, const char *value);
	void (*error)(void *arg, int line, const char *what);
};

/* Reads ini text (n bytes, then a NUL; changed in place) line by line and goes on after errors. Strings are valid
 * during the call. A comment is a line that starts with ; or #, or the rest of a line after a blank and ; or #. A value
 * in "double" or 'single' quotes may hold anything; a doubled quote inside stands for one. */
void config_text_read(char *text, size_t n, const struct config_sink *sink);

/* The word of words[0..n) that is nearest to what somebody typed; NULL when none is near. */
const char *config_nearest(const char *typed, const char *const *words, unsigned n);

/* config_load on text in memory, for it and for the fuzzer. `path` is for messages; text may be NULL for none;
 * `exposed`: others can read it, so that passwords in it are an error. */
struct config *config_load_text(const char *path, char *text, size_t n, bool exposed,
				const struct config_options *options, void (*report)(void *arg, const char *line),
				void *arg);

#endif
