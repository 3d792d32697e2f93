/* SPDX-License-Identifier: Apache-2.0
 *
 * libmariadb's blocking calls know seconds only and cannot be interrupted; its non-blocking ones do the same work and
 * leave the waiting to us.
 */
#include "service/monitor_link.h"

#include <errmsg.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>

#include "cluster/topology.h"

static void fail(struct link *l, unsigned error, const char *why)
{
	l->error = error;
	snprintf(l->why, sizeof l->why, "%s", why);
}

/* Waits for what libmariadb wants. Past the deadline or when cancelled the answer is MYSQL_WAIT_TIMEOUT, upon which
 * libmariadb gives up with an error. */
static int wait_for(struct link *l, int wants, int64_t deadline_us)
{
	struct pollfd fd[2] = {{.fd = mysql_get_socket(l->my)}, {.fd = l->cancel_fd, .events = POLLIN}};
	int64_t left = deadline_us - topology_now_us();

	if (wants & MYSQL_WAIT_READ)
		fd[0].events |= POLLIN;
	if (wants & MYSQL_WAIT_WRITE)
		fd[0].events |= POLLOUT;
	if (wants & MYSQL_WAIT_EXCEPT)
		fd[0].events |= POLLPRI;
	int n = l->late || left <= 0 ? 0 : poll(fd, 2, (int)(left / 1000) + 1);
	if (n < 0)
		return 0; /* a signal: libmariadb looks again by itself */
	if (n == 0 || fd[1].revents != 0) {
		l->late = true;
		return MYSQL_WAIT_TIMEOUT;
	}
	return (fd[0].revents & (POLLIN | POLLHUP | POLLERR) ? MYSQL_WAIT_READ : 0) |
	       (fd[0].revents & (POLLOUT | POLLHUP | POLLERR) ? MYSQL_WAIT_WRITE : 0) |
	       (fd[0].revents & POLLPRI ? MYSQL_WAIT_EXCEPT : 0);
}

static int64_t deadline_of(unsigned timeout_ms)
{
	return topology_now_us() + (int64_t)timeout_ms * 1000;
}

static void numeric_host(const struct addr *a, char *host, size_t cap)
{
	if (a->len == 0 || getnameinfo((const struct sockaddr *)&a->sa, a->len, host, (socklen_t)cap, NULL, 0,
				       NI_NUMERICHOST) != 0)
		snprintf(host, cap, "%s", a->host);
}

int link_open(struct link *l, const struct addr *address, const char *user, const char *password, unsigned timeout_ms)
{
	char host[NI_MAXHOST];
	unsigned protocol = address->is_unix ? MYSQL_PROTOCOL_SOCKET : MYSQL_PROTOCOL_TCP;
	unsigned seconds = timeout_ms / 1000 + 1; /* only a second line behind our own deadline */
	MYSQL *done = NULL;

	link_close(l);
	l->late = false;
	l->my = mysql_init(NULL);
	if (l->my == NULL) {
		fail(l, CR_OUT_OF_MEMORY, "out of memory");
		return -1;
	}
	mysql_options(l->my, MYSQL_OPT_NONBLOCK, 0);
	mysql_options(l->my, MYSQL_OPT_PROTOCOL, &protocol);
	mysql_options(l->my, MYSQL_OPT_CONNECT_TIMEOUT, &seconds);
	mysql_options(l->my, MYSQL_SET_CHARSET_NAME, "utf8mb4");
	if (user ==
	    NULL) /* as any MySQL client does: [client] and [sidetrack] of my.cnf and ~/.my.cnf, else the OS user */
		mysql_options(l->my, MYSQL_READ_DEFAULT_GROUP, "sidetrack");
	mysql_options4(l->my, MYSQL_OPT_CONNECT_ATTR_ADD, "program_name", "sidetrack-monitor");
	numeric_host(address, host, sizeof host);
	int64_t deadline = deadline_of(timeout_ms);
	int wants = mysql_real_connect_start(&done, l->my, address->is_unix ? NULL : host, user, password, NULL,
					     address->port, address->is_unix ? address->host : NULL, 0);
	while (wants != 0)
		wants = mysql_real_connect_cont(&done, l->my, wait_for(l, wants, deadline));
	if (done != NULL) {
		if (l->my->passwd != NULL) /* it is needed no more: a lost link is opened anew */
			explicit_bzero(l->my->passwd, strlen(l->my->passwd));
		return 0;
	}
	fail(l, l->late ? CR_CONN_HOST_ERROR : mysql_errno(l->my), l->late ? "no answer in time" : mysql_error(l->my));
	link_close(l);
	return -1;
}

static bool lost(unsigned error)
{
	return error >= CR_MIN_ERROR && error <= CR_MAX_ERROR;
}

MYSQL_RES *link_ask(struct link *l, const char *sql, unsigned timeout_ms)
{
	int64_t deadline = deadline_of(timeout_ms);
	int failed = 0;
	MYSQL_RES *res = NULL;

	if (l->my == NULL)
		return NULL;
	l->late = false;
	int wants = mysql_real_query_start(&failed, l->my, sql, strlen(sql));
	while (wants != 0)
		wants = mysql_real_query_cont(&failed, l->my, wait_for(l, wants, deadline));
	if (failed == 0) {
		wants = mysql_store_result_start(&res, l->my);
		while (wants != 0)
			wants = mysql_store_result_cont(&res, l->my, wait_for(l, wants, deadline));
	}
	if (res != NULL)
		return res;
	fail(l, l->late ? CR_SERVER_LOST : mysql_errno(l->my), l->late ? "no answer in time" : mysql_error(l->my));
	/* 1927: the connection was killed; the server says so before it closes. */
	if (l->late || lost(l->error) || l->error == 1927)
		link_close(l);
	return NULL;
}

void link_close(struct link *l)
{
	if (l->my != NULL)
		mysql_close(l->my);
	l->my = NULL;
}
