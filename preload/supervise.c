/* SPDX-License-Identifier: Apache-2.0 */
#include "supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "names.h"
#include "peers.h"
#include "redirect.h"

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#endif
/* Newer than Debian 12's headers; an older kernel refuses them, and does without. */
#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP 1ul
#endif

enum { WORKERS = 8, STACK_BYTES = 256 * 1024, NAMES_REFRESH_MS = 10000, X32_BIT = 0x40000000 };

struct desk { /* where the supervisor's threads take their work from */
	const struct supervise *order;
	int listener;
	pthread_mutex_t turn; /* one thread waits for a call; the others wait for it to have one */
	struct stat program;
};

struct call { /* a connect(), or a send that is one too */
	int fd;
	bool fastopen;
	struct endpoint wanted;
};

int real_connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	return connect(fd, sa, len);
}

#define ARG(i) ((unsigned)(offsetof(struct seccomp_data, args) + 8 * (i)))
#define LOAD(at) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (at))
#define GIVE(verdict) BPF_STMT(BPF_RET | BPF_K, (verdict))
/* Where the value is v: this verdict. */
#define ON(v, verdict) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (v), 0, 1), GIVE(verdict)
/* Where the call is nr and a flag among its arguments (low word first, on both architectures) is set: the supervisor;
 * where it is not: on with it. */
#define ON_FLAG(nr, arg, flag)                                                                                         \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 4), LOAD(ARG(arg)),                                               \
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (flag), 0, 1), GIVE(SECCOMP_RET_USER_NOTIF),                      \
		GIVE(SECCOMP_RET_ALLOW)

static int install_filter(bool deny_io_uring)
{
	unsigned io_uring = deny_io_uring ? SECCOMP_RET_ERRNO | ENOSYS : SECCOMP_RET_ALLOW;
	struct sock_filter code[] = {
		LOAD(offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE_ARCH, 1, 0),
		GIVE(SECCOMP_RET_ALLOW),
		LOAD(offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1),
		GIVE(SECCOMP_RET_ALLOW),
		ON(SYS_connect, SECCOMP_RET_USER_NOTIF),
		ON(SYS_io_uring_setup, io_uring),
		ON_FLAG(SYS_sendto, 3, MSG_FASTOPEN),
		ON_FLAG(SYS_sendmsg, 2, MSG_FASTOPEN),
		GIVE(SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = {.len = sizeof(code) / sizeof(code[0]), .filter = code};
	/* The program is trusted as much as before: no slower for speculation's sake. A signal during the call waits
	 * until the supervisor has answered, so that the program does not ask twice. */
	unsigned long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW;
	unsigned long best = flags | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
	int fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, best, &filter);

	if (fd < 0 && errno == EACCES) { /* not privileged: give up what exec could bring */
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, best, &filter);
	}
	if (fd < 0 && errno == EINVAL)
		fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &filter);
	return fd;
}

static bool copy_from(pid_t pid, uint64_t from, void *to, size_t n)
{
	struct iovec local = {to, n}, remote = {(void *)(uintptr_t)from, n};

	return process_vm_readv(pid, &local, 1, &remote, 1, 0) == (ssize_t)n;
}

static bool copy_address(pid_t pid, uint64_t from, uint64_t len, struct endpoint *out)
{
	struct sockaddr_storage sa = {0};

	return len >= sizeof(sa_family_t) && len <= sizeof(sa) && copy_from(pid, from, &sa, len) &&
	       endpoint_copy((const struct sockaddr *)&sa, (socklen_t)len, out);
}

/* false: cannot be read, or is no address that a rule could be about. */
static bool read_call(const struct seccomp_notif *n, struct call *c)
{
	pid_t pid = (pid_t)n->pid;
	const __u64 *args = n->data.args;
	struct msghdr m;

	c->fd = (int)args[0];
	c->fastopen = n->data.nr != SYS_connect;
	if (n->data.nr == SYS_connect)
		return copy_address(pid, args[1], (uint32_t)args[2], &c->wanted);
	if (n->data.nr == SYS_sendto)
		return copy_address(pid, args[4], (uint32_t)args[5], &c->wanted);
	return copy_from(pid, args[1], &m, sizeof(m)) &&
	       copy_address(pid, (uintptr_t)m.msg_name, m.msg_namelen, &c->wanted);
}

/* Linux knew no process file descriptors of threads before 6.9: the process that the thread belongs to will do. */
static int open_thread(pid_t tid)
{
	int fd = (int)syscall(SYS_pidfd_open, tid, PIDFD_THREAD);
	char path[64], line[256];
	int pid = 0;
	FILE *f;

	if (fd >= 0)
		return fd;
	snprintf(path, sizeof(path), "/proc/%d/status", tid);
	f = fopen(path, "re");
	while (f != NULL && pid == 0 && fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, "Tgid:", 5) == 0)
			pid = atoi(line + 5);
	if (f != NULL)
		fclose(f);
	return pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
}

static int fetch_socket(pid_t tid, int number)
{
	int process = open_thread(tid), fd;

	if (process < 0)
		return -1;
	fd = (int)syscall(SYS_pidfd_getfd, process, number, 0);
	close(process);
	return fd;
}

/* The number of a thread that is gone may be somebody else's by now. As long as the call stands, the thread was there
 * all the time, and everything that was read is its own. */
static bool still_there(const struct desk *d, const struct seccomp_notif *n)
{
	__u64 id = n->id;

	return ioctl(d->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

static bool is_covered(const struct desk *d, const struct seccomp_notif *n)
{
	char path[64];
	struct stat st;

	if (d->order->children)
		return true;
	snprintf(path, sizeof(path), "/proc/%u/exe", n->pid);
	return stat(path, &st) == 0 && st.st_dev == d->program.st_dev && st.st_ino == d->program.st_ino;
}

/* O_NONBLOCK and O_CLOEXEC, among others. */
static unsigned flags_of(pid_t pid, int fd)
{
	char path[64], line[64];
	unsigned flags = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", pid, fd);
	f = fopen(path, "re");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "flags: %o", &flags) == 1)
			break;
	if (f != NULL)
		fclose(f);
	return flags;
}

/* Never used again, like a socket's cookie; and no cookie is as large. */
static uint64_t inode_key(pid_t pid, int fd)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
	return stat(path, &st) == 0 ? 1ull << 63 | st.st_ino : 0;
}

/* Where a duplicate cannot be had (a container's runtime allows pidfd_getfd() to few), a new socket of the same kind is
 * connected, and takes the descriptor's place; options set before are lost. A second connect() on it is the program's
 * question how the first is getting on: -1, the kernel answers. */
static int make_stand_in(pid_t pid, const struct call *c)
{
	char path[64], kind[32] = "";
	struct endpoint first;
	bool pending;

	if (peers_get(inode_key(pid, c->fd), &first, &pending))
		return -1;
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, c->fd);
	/* "UNIX" is every unix socket before Linux 5.15, and later those that are no streams: they never match */
	if (getxattr(path, "system.sockprotoname", kind, sizeof(kind) - 1) < 0 ||
	    (strncmp(kind, "TCP", 3) != 0 && strcmp(kind, "UNIX-STREAM") != 0 && strcmp(kind, "UNIX") != 0))
		return -1;
	return socket(c->wanted.u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | (flags_of(pid, c->fd) & O_NONBLOCK), 0);
}

static int put_in_place(const struct desk *d, const struct seccomp_notif *n, int number, int made)
{
	struct seccomp_notif_addfd a = {
		.id = n->id,
		.flags = SECCOMP_ADDFD_FLAG_SETFD,
		.srcfd = (unsigned)made,
		.newfd = (unsigned)number,
		.newfd_flags = flags_of((pid_t)n->pid, number) & O_CLOEXEC,
	};

	return ioctl(d->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &a) < 0 ? errno : 0;
}

/* The answer is in *out; `sock` is the program's socket or its stand-in, and stays open. */
static void redirect(const struct desk *d, const struct seccomp_notif *n, const struct call *c, int sock,
                     bool stand_in, struct seccomp_notif_resp *out)
{
	struct redirect r = redirect_connect(d->order->rules, sock, &c->wanted);
	bool begun = !r.real && (r.error == 0 || r.error == EINPROGRESS);
	int place = r.replacement >= 0 ? r.replacement : stand_in && begun ? sock : -1;

	if (place >= 0) {
		int rc = put_in_place(d, n, c->fd, place);

		r.error = rc != 0 ? rc : r.error;
		if (stand_in)
			peers_put(inode_key(getpid(), place), &c->wanted, true);
	}
	if (r.replacement >= 0)
		close(r.replacement);
	if (r.real)
		return;
	out->flags = 0;
	out->error = -r.error;
}

static void answer(const struct desk *d, const struct seccomp_notif *n)
{
	struct seccomp_notif_resp out = {.id = n->id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
	const struct sockaddr none = {.sa_family = AF_UNSPEC};
	struct call c = {.fd = -1};
	bool stand_in = false;
	int sock = -1;

	if (read_call(n, &c) && rules_match(d->order->rules, &c.wanted.u.sa, c.wanted.len) && is_covered(d, n)) {
		if (c.fastopen) { /* what a machine answers where fast open is turned off: programs then connect() */
			out.flags = 0;
			out.error = -EOPNOTSUPP;
		} else {
			sock = fetch_socket((pid_t)n->pid, c.fd);
			stand_in = sock < 0;
			if (stand_in)
				sock = make_stand_in((pid_t)n->pid, &c);
			if (sock >= 0 && still_there(d, n))
				redirect(d, n, &c, sock, stand_in, &out);
		}
	}
	/* A call that was broken off by a signal will be made again: on a socket as it was. */
	if (ioctl(d->listener, SECCOMP_IOCTL_NOTIF_SEND, &out) < 0 && sock >= 0 && out.flags == 0)
		connect(sock, &none, sizeof(none));
	if (sock >= 0)
		close(sock);
}

static void *work(void *arg)
{
	struct desk *d = arg;

	for (;;) {
		struct seccomp_notif n = {0};

		pthread_mutex_lock(&d->turn);
		int rc = ioctl(d->listener, SECCOMP_IOCTL_NOTIF_RECV, &n);
		pthread_mutex_unlock(&d->turn);
		if (rc == 0)
			answer(d, &n);
		else if (errno != EINTR && errno != ENOENT) /* ENOENT: the caller is gone already */
			return NULL;
	}
}

/* Until nobody is left who could ask. */
static void watch(struct desk *d)
{
	struct pollfd p = {.fd = d->listener};
	struct rules *rules = d->order->rules;

	for (;;) {
		int n = poll(&p, 1, rules->has_names ? NAMES_REFRESH_MS : -1);

		if (n > 0)
			return;
		if (n == 0)
			names_learn(rules);
	}
}

/* What the program started with stays with the program; the supervisor keeps no pipe open and no disk busy, and leaves
 * the signals that are meant for the program's group or service to the program. */
static void stand_apart(int channel, bool debug)
{
	static const int not_mine[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGUSR2, SIGALRM, SIGTSTP};
	sigset_t none;
	int null;

	channel = fcntl(channel, F_DUPFD, 10); /* out of the way of 0 to 3, which the caller may have closed */
	for (size_t i = 0; i < sizeof(not_mine) / sizeof(not_mine[0]); i++)
		signal(not_mine[i], SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (chdir("/") < 0)
		_exit(1);
	null = open("/dev/null", O_RDWR);
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	if (!debug)
		dup2(null, STDERR_FILENO);
	dup2(channel, 3);
	close_range(4, ~0u, 0);
	prctl(PR_SET_NAME, "sidetrack-super");
}

static int take_listener(int channel)
{
	char byte, control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov = {&byte, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct cmsghdr *c;
	int fd = -1;

	if (recvmsg(channel, &m, MSG_CMSG_CLOEXEC) == 1 && (c = CMSG_FIRSTHDR(&m)) != NULL)
		memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

static bool give_listener(int channel, int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov = {&byte, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	return sendmsg(channel, &m, MSG_NOSIGNAL) == 1 && read(channel, &byte, 1) == 1;
}

/* Tries on the program-to-be what it will do later. Without that, no call could be judged. */
static bool may_look(int channel)
{
	static const char sample[] = "sidetrack";
	char copy[sizeof(sample)];
	bool ok = false;
	pid_t program;

	if (read(channel, &program, sizeof(program)) == sizeof(program))
		ok = copy_from(program, (uintptr_t)sample, copy, sizeof(copy));
	return write(channel, &ok, sizeof(ok)) == sizeof(ok) && ok;
}

static void supervisor(const struct supervise *s, int channel)
{
	struct desk d = {.order = s, .turn = PTHREAD_MUTEX_INITIALIZER};
	pid_t pid = getpid();
	pthread_attr_t small;
	pthread_t thread;
	int started = 0;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, STACK_BYTES); /* the program may have been given little address space */
	if (!s->children && stat(s->program, &d.program) < 0)
		_exit(1);
	stand_apart(channel, s->rules->debug);
	if (write(3, &pid, sizeof(pid)) != sizeof(pid) || !may_look(3) || (d.listener = take_listener(3)) < 0)
		_exit(1);
	ioctl(d.listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
	for (int i = 0; i < WORKERS; i++)
		started += pthread_create(&thread, &small, work, &d) == 0;
	if (started == 0 || write(3, "", 1) != 1)
		_exit(1);
	close(3);
	watch(&d);
	_exit(0);
}

/* A grandchild, so that the program has no child that it does not know of. */
static int fork_supervisor(const struct supervise *s)
{
	int pair[2];
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	child = (pid_t)syscall(SYS_clone, 0ul, NULL, NULL, NULL, NULL); /* fork(), but no SIGCHLD is left pending */
	if (child == 0) {
		setsid();
		if (fork() == 0)
			supervisor(s, pair[1]);
		_exit(0);
	}
	close(pair[1]);
	if (child > 0)
		while (waitpid(child, NULL, __WALL) < 0 && errno == EINTR)
			;
	return pair[0];
}

bool supervise_start(const struct supervise *s, const char **why)
{
	int channel = fork_supervisor(s), listener;
	pid_t pid, own = getpid();
	bool ok = false;

	if (channel < 0 || read(channel, &pid, sizeof(pid)) != sizeof(pid)) {
		*why = "cannot start a supervisor";
		return false;
	}
	prctl(PR_SET_PTRACER, pid, 0, 0, 0); /* for Yama; where there is none, this fails and is not needed */
	if (write(channel, &own, sizeof(own)) != sizeof(own) || read(channel, &ok, sizeof(ok)) != sizeof(ok) || !ok) {
		*why = "its supervisor may not look into it (kernel.yama.ptrace_scope, or a container's rules)";
		close(channel);
		return false;
	}
	listener = install_filter(s->deny_io_uring);
	if (listener < 0) {
		*why = errno == EBUSY ? "this process has a supervisor already" : strerror(errno);
		close(channel);
		return false;
	}
	if (!give_listener(channel, listener)) {
		*why = "the supervisor did not start";
		return false;
	}
	close(listener);
	close(channel);
	return true;
}
