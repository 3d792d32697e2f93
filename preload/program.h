/* SPDX-License-Identifier: Apache-2.0
 *
 * What kind of program a command starts, and so whether a preloaded library would have any effect on it.
 */
#ifndef ST_PRELOAD_PROGRAM_H
#define ST_PRELOAD_PROGRAM_H

#include <limits.h>

enum program_kind {
	PROGRAM_DYNAMIC,    /* linked dynamically, with glibc or musl: preload works */
	PROGRAM_STATIC,     /* no dynamic linker, nothing to preload into */
	PROGRAM_GO,         /* makes its system calls itself, also where it is dynamically linked */
	PROGRAM_PRIVILEGED, /* setuid, setgid or file capabilities: the dynamic linker ignores LD_PRELOAD */
	PROGRAM_FOREIGN,    /* another architecture, 32 bit: neither way reaches it */
	PROGRAM_UNKNOWN,    /* cannot be read or is no ELF file */
	PROGRAM_MISSING
};

struct program {
	enum program_kind kind;
	char path[PATH_MAX]; /* the file that runs: a script's interpreter, not the script */
};

/* `command` is looked for as execvp() would, scripts are followed to their interpreters. */
void program_inspect(const char *command, struct program *p);
const char *program_kind_text(enum program_kind kind);

#endif
