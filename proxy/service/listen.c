/* SPDX-License-Identifier: Apache-2.0 */
#include "service/listen.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

/* Nobody answers there any more. */
static void remove_stale(const struct addr *a)
{
	struct stat st;
	int fd = lstat(a->host, &st) == 0 && S_ISSOCK(st.st_mode) ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;

	if (fd < 0)
		return;
	if (connect(fd, (const struct sockaddr *)&a->sa, a->len) != 0 && errno == ECONNREFUSED)
		unlink(a->host);
	close(fd);
}

int listen_on(const struct addr *a)
{
	const int one = 1;
	int fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && a->is_unix)
		remove_stale(a);
	else if (fd >= 0)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	/* The mode is set before listen(): nobody can connect while it is the umask's. */
	if (fd >= 0 && bind(fd, (const struct sockaddr *)&a->sa, a->len) == 0 &&
	    (!a->is_unix || chmod(a->host, 0660) == 0) && listen(fd, 128) == 0)
		return fd;
	log_error("cannot listen on %s: %s", a->text, strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}
