/* SPDX-License-Identifier: Apache-2.0
 *
 * Another preloaded library that has a connect() of its own and passes it on, as torsocks and its like do. Says what it
 * saw, so that a test knows that it was asked, and with which port.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <stdio.h>
#include <sys/socket.h>

int connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	int (*next)(int, const struct sockaddr *, socklen_t) =
		(int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "connect");

	if (sa->sa_family == AF_INET)
		fprintf(stderr, "counter saw %u\n", ntohs(((const struct sockaddr_in *)(const void *)sa)->sin_port));
	return next(fd, sa, len);
}
