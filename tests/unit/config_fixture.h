/* SPDX-License-Identifier: Apache-2.0
 *
 * Loads configurations from text, and keeps what was said of them.
 */
#ifndef ST_TESTS_CONFIG_FIXTURE_H
#define ST_TESTS_CONFIG_FIXTURE_H

#include <stdlib.h>

#include "base/config_table.h"
#include "base/mem.h"
#include "base/slice.h"

#define SERVER "[server.a]\naddress=10.0.0.1\n"

static struct buf reports;

static void report(void *arg, const char *line)
{
	(void)arg;
	buf_printf(&reports, "%s\n", line);
}

static const char *reported(void)
{
	buf_put_u8(&reports, 0);
	reports.len--;
	return (const char *)reports.data;
}

static struct config *load(const char *text, const struct config_options *options)
{
	static const struct config_options none = {.unresolved = true};
	char *copy = xstrdup(text);

	buf_clear(&reports);
	const struct config_options *o = options != NULL ? options : &none;
	struct config *c = config_load_text("f", copy, strlen(copy), false, o, report, NULL);
	free(copy);
	return c;
}

/* Texts, and all that is said of each. */
struct mistake {
	const char *text, *want;
};

static void check_mistakes(const struct mistake *mistakes, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		assert_null(load(mistakes[i].text, NULL));
		if (strcmp(reported(), mistakes[i].want) != 0)
			fail_msg("%s\n got: %s\nwant: %s", mistakes[i].text, reported(), mistakes[i].want);
	}
}

#endif
