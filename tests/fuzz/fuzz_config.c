/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a configuration file: loading ends, reports or returns a config, and what it returns prints itself.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/config_table.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void report(void *arg, const char *line)
{
	++*(unsigned *)arg;
	if (line[0] == '\0')
		abort();
}

static void visit(void *arg, const char *section, const char *key, const char *value, const char *def)
{
	*(size_t *)arg += strlen(section) + strlen(key) + strlen(value) + strlen(def);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct config_options options = {.unresolved = true}; /* no DNS */
	unsigned reports = 0;
	size_t shown = 0;
	char *text = xmalloc(size + 1);

	memcpy(text, data, size);
	text[size] = '\0';
	struct config *c = config_load_text("fuzz", text, size, false, &options, report, &reports);
	if ((c == NULL) != (reports > 0))
		abort(); /* a config, or a reason why not */
	if (c != NULL)
		config_visit(c, visit, &shown);
	config_unref(c);
	free(text);
	return 0;
}
