/* SPDX-License-Identifier: Apache-2.0
 *
 * libsidetrack.so: the functions that a preloaded program calls instead of libc's. What does not concern a redirected
 * connection goes straight on to the next library that has the function, which need not be libc.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "peers.h"
#include "redirect.h"

/* Version script shim.map exports these, and nothing else. */
int __connect(int fd, const struct sockaddr *sa, socklen_t len);

enum { COLD, STARTING, READY };

static struct rules rules;
static atomic_int stage;
static atomic_int starter; /* the thread that is at it */

static struct {
	_Atomic(int (*)(int, const struct sockaddr *, socklen_t)) connect;
	_Atomic(ssize_t (*)(int, const void *, size_t, int, const struct sockaddr *, socklen_t)) sendto;
	_Atomic(ssize_t (*)(int, const struct msghdr *, int)) sendmsg;
	_Atomic(int (*)(int, struct sockaddr *, socklen_t *)) getpeername;
	_Atomic(int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **)) getaddrinfo;
} next;

static void complain(const struct rules_error *err)
{
	static const char tail[] = ": no connection is redirected\n";
	char line[256] = "sidetrack: bad setting \"";
	size_t n = strlen(line), where = err->where.n < 100 ? err->where.n : 100, why = strnlen(err->why, 90);

	memcpy(line + n, err->where.p, where);
	n += where;
	memcpy(line + n, "\": ", 3);
	n += 3;
	memcpy(line + n, err->why, why);
	n += why;
	memcpy(line + n, tail, sizeof(tail) - 1);
	if (write(STDERR_FILENO, line, n + sizeof(tail) - 1) < 0)
		return; /* stderr is closed: there is nobody to tell */
}

/* The list without our own library, in place; the one before keeps no separator. */
static void leave_list(char *list)
{
	char *own = strstr(list, "libsidetrack"), *start = own, *end;

	if (own == NULL)
		return;
	while (start > list && start[-1] != ':' && start[-1] != ' ')
		start--;
	end = own + strcspn(own, ": ");
	if (*end != '\0')
		end++;
	else if (start > list)
		start--;
	memmove(start, end, strlen(end) + 1);
}

/* --no-children: the variables end with this program. */
static void leave_environment(void)
{
	char **to = environ;

	for (char **from = environ; *from != NULL; from++) {
		bool preload = strncmp(*from, "LD_PRELOAD=", 11) == 0;

		if (preload)
			leave_list(*from + 11);
		if (strncmp(*from, "SIDETRACK_", 10) != 0 && !(preload && (*from)[11] == '\0'))
			*to++ = *from;
	}
	*to = NULL;
}

static bool for_children(void)
{
	bool yes = true;

	for (char **v = environ; *v != NULL; v++)
		if (strncmp(*v, "SIDETRACK_CHILDREN=", 19) == 0 && !switch_parse(text_of(*v + 19), &yes))
			return true;
	return yes;
}

static void start(void)
{
	struct rules_error err;

	next.connect = (__typeof__(&connect))dlsym(RTLD_NEXT, "connect");
	next.sendto = (__typeof__(&sendto))dlsym(RTLD_NEXT, "sendto");
	next.sendmsg = (__typeof__(&sendmsg))dlsym(RTLD_NEXT, "sendmsg");
	next.getpeername = (__typeof__(&getpeername))dlsym(RTLD_NEXT, "getpeername");
	next.getaddrinfo = (__typeof__(&getaddrinfo))dlsym(RTLD_NEXT, "getaddrinfo");
	if (environ == NULL)
		return;
	if (!rules_from_env(&rules, environ, &err))
		complain(&err);
}

/* Once, by whoever comes first: the constructor, or a constructor of another library that connects before it. A second
 * thread waits for the first. The first one's own signal handler cannot, and neither can the child of a fork() that
 * hit this very moment: they go without redirection, through the kernel. */
static bool ready(void)
{
	int cold = COLD, saved = errno;

	if (atomic_load_explicit(&stage, memory_order_acquire) == READY)
		return true;
	if (atomic_compare_exchange_strong(&stage, &cold, STARTING)) {
		atomic_store(&starter, (int)syscall(SYS_gettid));
		start();
		atomic_store_explicit(&stage, READY, memory_order_release);
		errno = saved;
		return true;
	}
	for (int i = 0; i < 10000 && atomic_load(&starter) != (int)syscall(SYS_gettid); i++) {
		if (atomic_load_explicit(&stage, memory_order_acquire) == READY)
			return true;
		sched_yield();
	}
	errno = saved;
	return false;
}

__attribute__((constructor)) static void at_load(void)
{
	if (ready() && !for_children())
		leave_environment();
}

int real_connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	__typeof__(&connect) f = atomic_load_explicit(&next.connect, memory_order_relaxed);

	return f != NULL ? f(fd, sa, len) : (int)syscall(SYS_connect, fd, sa, len);
}

static bool is_redirected(const struct sockaddr *sa, socklen_t len)
{
	return ready() && rules.on && rules_match(&rules, sa, len);
}

/* The new socket takes the old one's number; the descriptor's own flag stays. */
static int put_in_place(int made, int fd)
{
	int cloexec = syscall(SYS_fcntl, fd, F_GETFD) & FD_CLOEXEC;
	int rc = dup3(made, fd, cloexec ? O_CLOEXEC : 0) < 0 ? errno : 0;

	close(made);
	return rc;
}

static int connect_redirected(int fd, const struct sockaddr *sa, socklen_t len)
{
	int saved = errno;
	struct endpoint wanted;
	struct redirect r;

	endpoint_copy(sa, len, &wanted);
	r = redirect_connect(&rules, fd, &wanted);
	if (r.replacement >= 0) {
		int rc = put_in_place(r.replacement, fd);

		r.error = rc != 0 ? rc : r.error;
	}
	errno = saved;
	if (r.real)
		return real_connect(fd, sa, len);
	if (r.error == 0)
		return 0;
	errno = r.error;
	return -1;
}

int connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	return is_redirected(sa, len) ? connect_redirected(fd, sa, len) : real_connect(fd, sa, len);
}

int __connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	return connect(fd, sa, len);
}

/* MSG_FASTOPEN is connect() and send() in one call, and may always fall back to being the two one after the other. */
ssize_t sendto(int fd, const void *data, size_t n, int flags, const struct sockaddr *sa, socklen_t len)
{
	__typeof__(&sendto) f = atomic_load_explicit(&next.sendto, memory_order_relaxed);

	if ((flags & MSG_FASTOPEN) != 0 && sa != NULL && is_redirected(sa, len)) {
		if (connect_redirected(fd, sa, len) < 0)
			return -1;
		flags &= ~MSG_FASTOPEN;
		sa = NULL;
		len = 0;
	}
	return f != NULL ? f(fd, data, n, flags, sa, len) : syscall(SYS_sendto, fd, data, n, flags, sa, len);
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
	__typeof__(&sendmsg) f = atomic_load_explicit(&next.sendmsg, memory_order_relaxed);

	struct msghdr plain;

	if ((flags & MSG_FASTOPEN) != 0 && m->msg_name != NULL && is_redirected(m->msg_name, m->msg_namelen)) {
		if (connect_redirected(fd, m->msg_name, m->msg_namelen) < 0)
			return -1;
		flags &= ~MSG_FASTOPEN;
		plain = *m;
		plain.msg_name = NULL;
		plain.msg_namelen = 0;
		m = &plain;
	}
	return f != NULL ? f(fd, m, flags) : syscall(SYS_sendmsg, fd, m, flags);
}

int getpeername(int fd, struct sockaddr *sa, socklen_t *len)
{
	__typeof__(&getpeername) f = atomic_load_explicit(&next.getpeername, memory_order_relaxed);
	socklen_t room = len != NULL ? *len : 0;
	int rc = f != NULL ? f(fd, sa, len) : (int)syscall(SYS_getpeername, fd, sa, len);
	int saved = errno;
	struct endpoint wanted;
	bool pending;

	if (rc == 0 && ready() && rules.on && rules.peername && peers_get(socket_cookie(fd), &wanted, &pending)) {
		memcpy(sa, &wanted.u, room < wanted.len ? room : wanted.len);
		*len = wanted.len;
	}
	errno = saved;
	return rc;
}

/* A rule that names a host needs to know the addresses behind the name: those that the program itself is given. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
	bool up = ready();
	__typeof__(&getaddrinfo) f = atomic_load_explicit(&next.getaddrinfo, memory_order_relaxed);
	int rc = f != NULL ? f(node, service, hints, out) : EAI_SYSTEM;

	if (rc == 0 && node != NULL && up && rules.on && rules_name_known(&rules, node))
		for (const struct addrinfo *a = *out; a != NULL; a = a->ai_next)
			rules_learn(&rules, node, a->ai_addr, a->ai_addrlen);
	return rc;
}
