/* SPDX-License-Identifier: Apache-2.0 */
#include "script.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void script_add(struct script *s, const char *line)
{
	if (s->n == s->cap) {
		s->cap = s->cap > 0 ? 2 * s->cap : 64;
		s->line = xrealloc(s->line, s->cap * sizeof *s->line);
	}
	s->line[s->n++] = xstrdup(line);
}

void script_append(struct script *s, const struct script *more)
{
	for (unsigned i = 0; i < more->n; i++)
		script_add(s, more->line[i]);
}

void script_clear(struct script *s)
{
	for (unsigned i = 0; i < s->n; i++)
		free(s->line[i]);
	free(s->line);
	*s = (struct script){0};
}

bool script_load(struct script *s, const char *path)
{
	FILE *f = fopen(path, "r");
	char *line = NULL;
	size_t size = 0;
	ssize_t n;

	if (f == NULL)
		return false;
	while ((n = getline(&line, &size, f)) >= 0) {
		while (n > 0 && line[n - 1] == '\n')
			line[--n] = '\0';
		if (n > 0 && line[0] != '#')
			script_add(s, line);
	}
	free(line);
	fclose(f);
	return true;
}

static void write_comment(FILE *f, const char *text)
{
	while (*text != '\0') {
		size_t n = strcspn(text, "\n");
		fprintf(f, "# %.*s\n", (int)n, text);
		text += n + (text[n] == '\n');
	}
}

bool script_save(const struct script *s, const char *path, const char *comment)
{
	FILE *f = fopen(path, "w");

	if (f == NULL)
		return false;
	write_comment(f, comment != NULL ? comment : "");
	for (unsigned i = 0; i < s->n; i++)
		fprintf(f, "%s\n", s->line[i]);
	return fclose(f) == 0;
}

static const struct word {
	const char *name;
	enum step_kind kind;
	unsigned numbers; /* how many come before the text */
} words[] = {
	{"connect", STEP_CONNECT, 1}, {"prepare", STEP_PREPARE, 1}, {"execute", STEP_EXECUTE, 1},
	{"long", STEP_LONG, 2}, {"reset", STEP_RESET, 1}, {"close", STEP_CLOSE, 1}, {"init_db", STEP_INIT_DB, 0},
	{"ping", STEP_PING, 0}, {"reset_connection", STEP_RESET_CONNECTION, 0}, {"set_option", STEP_SET_OPTION, 1},
	{"fields", STEP_FIELDS, 0}, {"change_user", STEP_CHANGE_USER, 0}, {"quit", STEP_QUIT, 0},
	{"abort", STEP_ABORT, 0}, {"vars", STEP_VARS, 0}, {"data", STEP_DATA, 0}, {"replicas", STEP_REPLICAS, 0},
};

static const char *skip(const char *p)
{
	return p + strspn(p, " ");
}

bool step_parse(const char *line, struct step *out)
{
	char *p;
	unsigned long session = strtoul(line, &p, 10);

	*out = (struct step){.session = (unsigned)session};
	if (p == line || session >= SESSIONS)
		return false;
	if (*p == ':') {
		out->text = skip(p + 1);
		return session > 0;
	}
	const char *name = skip(p);
	size_t n = strcspn(name, " :");
	for (unsigned i = 0; i < sizeof words / sizeof *words; i++) {
		if (strlen(words[i].name) != n || memcmp(words[i].name, name, n) != 0)
			continue;
		out->kind = words[i].kind;
		p = (char *)name + n;
		if (words[i].numbers > 0)
			out->number = (unsigned)strtoul(p, &p, 10);
		if (words[i].numbers > 1)
			out->part = (unsigned)strtoul(p, &p, 10);
		out->text = skip(*p == ':' ? p + 1 : p);
		return (session > 0) == (out->kind < STEP_DATA) &&
		       (words[i].numbers == 0 || out->kind == STEP_CONNECT || out->number < STATEMENTS);
	}
	return false;
}
