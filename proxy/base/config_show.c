/* SPDX-License-Identifier: Apache-2.0
 *
 * The configuration as others see it: the admin table `config`, what a reload cannot change, the sample file.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config_table.h"
#include "base/mem.h"

struct visitor {
	void (*visit)(void *arg, const char *section, const char *key, const char *value, const char *def);
	void *arg;
};

static void visit_section(const struct visitor *v, enum config_section_id id, const char *x, const void *at)
{
	char section[256], value[CONFIG_TEXT];

	snprintf(section, sizeof section, "%s%s%s", config_sections[id].name, x != NULL ? "." : "", x != NULL ? x : "");
	for (unsigned i = 0; i < config_options_n; i++) {
		const struct config_option *o = &config_options[i];
		if (o->section != id)
			continue;
		config_value_print(o, at, value);
		v->visit(v->arg, section, o->key, value, o->def != NULL ? o->def : "");
	}
}

void config_visit(const struct config *c,
		  void (*visit)(void *arg, const char *section, const char *key, const char *value, const char *def),
		  void *arg)
{
	const struct visitor v = {visit, arg};

	for (unsigned id = 0; id < SECTIONS; id++)
		if (config_sections[id].example == NULL)
			visit_section(&v, id, NULL, c);
	for (unsigned i = 0; i < c->nservers; i++)
		visit_section(&v, SECTION_SERVER, c->servers[i].name, &c->servers[i]);
	for (unsigned i = 0; i < c->nusers; i++)
		visit_section(&v, SECTION_USER, c->users[i].name, &c->users[i]);
	for (unsigned i = 0; i < c->nrules; i++)
		visit_section(&v, SECTION_RULE, c->rules[i].name, &c->rules[i]);
	for (unsigned i = 0; i < c->nservices; i++)
		visit_section(&v, SECTION_SERVICE, c->services[i].name, &c->services[i]);
}

void config_report_fixed(const struct config *old, const struct config *new_,
			 void (*report)(void *arg, const char *line), void *arg)
{
	char before[CONFIG_TEXT], after[CONFIG_TEXT];

	for (unsigned i = 0; i < config_options_n; i++) {
		const struct config_option *o = &config_options[i];
		if (o->live) /* and no section family has options that are not */
			continue;
		config_value_print(o, old, before);
		config_value_print(o, new_, after);
		if (strcmp(before, after) == 0)
			continue;
		char *line = xasprintf("[%s] %s stays \"%s\": \"%s\" needs a restart", config_sections[o->section].name,
				       o->key, before, after);
		report(arg, line);
		free(line);
	}
}

void config_keep_fixed(const struct config *old, struct config *new_)
{
	new_->workers = old->workers;
	memcpy(new_->listen, old->listen, sizeof new_->listen);
	new_->nlisten = old->nlisten;
	memcpy(new_->admin, old->admin, sizeof new_->admin);
	new_->nadmin = old->nadmin;
	new_->http = old->http;
	new_->has_http = old->has_http;
}

/* --- The sample file -------------------------------------------------------------------------------------------- */

static const char *const sample_head[] = {
	"; Sidetrack's configuration. `sidetrack -c FILE --check` says what is wrong with it, SIGHUP makes it current.",
	"; Options on the command line override it. Lines that are comments here show the defaults.",
	";",
	"; key = value ; a comment begins a line with ; or #, or follows a blank and ; or #",
	"; A value in \"double\" or 'single' quotes may hold anything; write such a quote inside twice.",
	"; Durations take ms, s, m, h, d; sizes take k, m, g.",
	"; A file that holds a password may not be readable by others: chmod 0640.",
};

enum { SAMPLE_COLUMNS = 118 }; /* behind "; " */

/* Help is wrapped into comment lines. */
static void sample_help(const char *help, const char *tail, void (*line)(void *arg, const char *text), void *arg)
{
	char *whole = xasprintf("%s%s", help, tail);
	const char *p = whole, *blank;

	while (strlen(p) > SAMPLE_COLUMNS && (blank = memrchr(p, ' ', SAMPLE_COLUMNS + 1)) != NULL) {
		char *text = xasprintf("; %.*s", (int)(blank - p), p);
		line(arg, text);
		free(text);
		p = blank + 1;
	}
	char *text = xasprintf("; %s", p);
	line(arg, text);
	free(text);
	free(whole);
}

/* An option is live where it has an example and its section is shown. */
static void sample_option(const struct config_option *o, bool shown, void (*line)(void *arg, const char *text),
			  void *arg)
{
	const char *value = o->example != NULL ? o->example : o->def != NULL ? o->def : "";
	char *text = xasprintf("%s%s =%s%s", shown && o->example != NULL ? "" : ";", o->key,
			       value[0] != '\0' ? " " : "", value);

	sample_help(o->help, o->live ? "" : " (restart)", line, arg);
	line(arg, text);
	free(text);
}

void config_dump_sample(void (*line)(void *arg, const char *text), void *arg)
{
	for (unsigned i = 0; i < sizeof sample_head / sizeof *sample_head; i++)
		line(arg, sample_head[i]);
	for (unsigned id = 0; id < SECTIONS; id++) {
		const struct config_section *s = &config_sections[id];
		char *head = xasprintf("%s[%s%s%s]", s->shown ? "" : ";", s->name, s->example != NULL ? "." : "",
				       s->example != NULL ? s->example : "");
		line(arg, "");
		sample_help(s->help, "", line, arg);
		line(arg, head);
		free(head);
		for (unsigned i = 0; i < config_options_n; i++)
			if (config_options[i].section == id)
				sample_option(&config_options[i], s->shown, line, arg);
	}
}
