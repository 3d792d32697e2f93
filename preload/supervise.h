/* SPDX-License-Identifier: Apache-2.0
 *
 * For programs that a preloaded library cannot reach: the kernel stops each connect() of the program and asks a
 * supervisor (seccomp_unotify(2)). The supervisor takes a duplicate of the program's own socket and connects that, so
 * options, epoll registrations and copies of the descriptor stay what they are; where the proxy needs a socket of
 * another family, a new one takes the descriptor's place.
 *
 * What the program asked for is copied first and judged afterwards; the program's memory is never written, and never
 * read twice. A call that is none of ours is continued by the kernel, which reads the program's memory again: a thread
 * that changes it in between gets what it then asks for, unredirected. That is no hole: this redirects, it forbids
 * nothing.
 */
#ifndef ST_PRELOAD_SUPERVISE_H
#define ST_PRELOAD_SUPERVISE_H

#include "rules.h"

struct supervise {
	struct rules *rules;
	bool children;       /* also the programs that this one starts */
	bool deny_io_uring;  /* io_uring_setup() fails with ENOSYS: programs fall back to calls that can be seen */
	const char *program; /* the file that is going to run */
};

/* The supervisor becomes a process of its own, apart from everything; the caller stays what it is (process id, parent,
 * terminal, signals, exit status), is under the filter from here on, and goes on to exec the program. The supervisor
 * ends when the last process under the filter has. false: *why; nothing has happened. */
bool supervise_start(const struct supervise *s, const char **why);

#endif
