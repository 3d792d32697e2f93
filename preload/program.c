/* SPDX-License-Identifier: Apache-2.0 */
#include "program.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#if defined(__x86_64__)
enum { NATIVE = EM_X86_64 };
#elif defined(__aarch64__)
enum { NATIVE = EM_AARCH64 };
#else
#error "sidetrack-run knows x86_64 and aarch64"
#endif

enum { INTERPRETERS_MAX = 4, GO_SEARCH = 64 * 1024 };

struct image {
	const uint8_t *p;
	size_t n;
};

static bool find(const char *command, char path[PATH_MAX])
{
	const char *dirs = getenv("PATH");

	if (strchr(command, '/') != NULL) {
		snprintf(path, PATH_MAX, "%s", command);
		return access(path, F_OK) == 0;
	}
	for (const char *d = dirs != NULL ? dirs : "/bin:/usr/bin";;) {
		int n = (int)strcspn(d, ":");
		int len = snprintf(path, PATH_MAX, "%.*s%s%s", n, d, n > 0 ? "/" : "./", command);

		if (len < PATH_MAX && access(path, X_OK) == 0)
			return true;
		if (d[n] == '\0')
			return false;
		d += n + 1;
	}
}

/* Part of the file, or NULL where the file does not reach that far. */
static const void *part(struct image f, uint64_t at, uint64_t n)
{
	return at <= f.n && n <= f.n - at ? f.p + at : NULL;
}

static const ElfW(Phdr) *header(struct image f, ElfW(Half) type, unsigned *from)
{
	const ElfW(Ehdr) *e = (const void *)f.p;

	for (; *from < e->e_phnum; ++*from) {
		const ElfW(Phdr) *h = part(f, e->e_phoff + (uint64_t)*from * sizeof(*h), sizeof(*h));

		if (h != NULL && h->p_type == type) {
			++*from;
			return h;
		}
	}
	return NULL;
}

/* Go's linker leaves a note of its own; where that was stripped, the build information at the start of the data, which
 * `go version` looks for too. */
static bool is_go(struct image f)
{
	const ElfW(Phdr) *h;

	for (unsigned i = 0; (h = header(f, PT_NOTE, &i)) != NULL;) {
		const ElfW(Nhdr) *note = part(f, h->p_offset, sizeof(*note) + 4);

		if (note != NULL && note->n_namesz == 4 && memcmp(note + 1, "Go\0", 4) == 0)
			return true;
	}
	for (unsigned i = 0; (h = header(f, PT_LOAD, &i)) != NULL;) {
		size_t n = h->p_filesz < GO_SEARCH ? h->p_filesz : GO_SEARCH;
		const void *data = part(f, h->p_offset, n);

		if ((h->p_flags & PF_W) != 0 && data != NULL && memmem(data, n, "\xff Go buildinf:", 14) != NULL)
			return true;
	}
	return false;
}

static enum program_kind elf_kind(struct image f)
{
	const ElfW(Ehdr) *e = (const void *)f.p;
	unsigned i = 0;

	if (e->e_ident[EI_CLASS] != ELFCLASS64 || e->e_machine != NATIVE || e->e_phentsize != sizeof(ElfW(Phdr)))
		return PROGRAM_FOREIGN;
	if (header(f, PT_INTERP, &i) == NULL)
		return PROGRAM_STATIC;
	if (is_go(f))
		return PROGRAM_GO;
	return PROGRAM_DYNAMIC;
}

/* "#!/usr/bin/env -S name" starts name, everything else what it says. false: no script. */
static bool interpreter(struct image f, char name[PATH_MAX])
{
	char line[256] = "", first[256] = "", second[256] = "", third[256] = "";

	if (f.n < 3 || memcmp(f.p, "#!", 2) != 0)
		return false;
	memcpy(line, f.p + 2, f.n - 2 < sizeof(line) - 1 ? f.n - 2 : sizeof(line) - 1);
	line[strcspn(line, "\n")] = '\0';
	sscanf(line, "%255s %255s %255s", first, second, third);
	const char *base = strrchr(first, '/');
	bool env = strcmp(base != NULL ? base + 1 : first, "env") == 0 && second[0] != '\0';

	snprintf(name, PATH_MAX, "%s", !env ? first : strcmp(second, "-S") == 0 ? third : second);
	return name[0] != '\0';
}

static bool is_privileged(int fd, const struct stat *st)
{
	/* Root gains nothing from a setuid-root program, and then nothing is held back from it either. */
	if ((st->st_mode & S_ISUID) != 0 && st->st_uid != getuid())
		return true;
	if ((st->st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && st->st_gid != getgid())
		return true;
	return getuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0;
}

static enum program_kind inspect_file(const char *path, char *follow)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	enum program_kind kind = PROGRAM_UNKNOWN;
	struct stat st;

	if (fd < 0)
		return PROGRAM_UNKNOWN;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) {
		struct image f = {mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0), (size_t)st.st_size};

		if (f.p != MAP_FAILED) {
			if (f.n > sizeof(ElfW(Ehdr)) && memcmp(f.p, ELFMAG, SELFMAG) == 0)
				kind = is_privileged(fd, &st) ? PROGRAM_PRIVILEGED : elf_kind(f);
			else
				interpreter(f, follow);
			munmap((void *)f.p, f.n);
		}
	}
	close(fd);
	return kind;
}

void program_inspect(const char *command, struct program *p)
{
	char next[PATH_MAX];

	snprintf(next, sizeof(next), "%s", command);
	p->kind = PROGRAM_MISSING;
	for (int i = 0; i < INTERPRETERS_MAX && next[0] != '\0'; i++) {
		if (!find(next, p->path))
			return;
		next[0] = '\0';
		p->kind = inspect_file(p->path, next);
	}
}

const char *program_kind_text(enum program_kind kind)
{
	static const char *const texts[] = {
		[PROGRAM_DYNAMIC] = "dynamically linked",
		[PROGRAM_STATIC] = "statically linked",
		[PROGRAM_GO] = "a Go program",
		[PROGRAM_PRIVILEGED] = "setuid, setgid or with file capabilities",
		[PROGRAM_FOREIGN] = "for another architecture",
		[PROGRAM_UNKNOWN] = "unreadable, or not an ELF file",
		[PROGRAM_MISSING] = "not there",
	};

	return texts[kind];
}
