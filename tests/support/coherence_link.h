/* SPDX-License-Identifier: Apache-2.0
 *
 * Of coherence.c: connections to the proxies, and statements that run on them as text or prepared.
 */
#ifndef ST_SUPPORT_COHERENCE_LINK_H
#define ST_SUPPORT_COHERENCE_LINK_H

#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <errmsg.h>
#include <mysql.h>

enum { PROXIES = 4, STATEMENTS = 64, ARGS = 24, ROWS = 8, COLUMNS = 6, CELL = 80, TEXT = 1200 };

struct link {
	MYSQL *my;
	unsigned proxy;
	bool read_only; /* in a transaction that lives at a replica: it ends with it */
	struct {
		char *text;
		MYSQL_STMT *stmt;
	} prepared[STATEMENTS];
	unsigned nprepared;
};

struct client {
	pthread_t thread;
	unsigned seed;
	struct link links[PROXIES], spare;
};

struct arg {
	bool number;
	long long n;
	const char *s;
};

struct statement {
	char text[TEXT]; /* with a ? for each argument */
	struct arg args[ARGS];
	unsigned nargs;
};

struct answer {
	unsigned rows, columns;
	char cell[ROWS][COLUMNS][CELL];
};

static unsigned proxy_port[PROXIES], nproxies, may_lose;
static double start;
static atomic_uint_fast64_t errors, lost;
static atomic_bool stop;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9 - start;
}

static unsigned draw(struct client *c, unsigned below)
{
	return (unsigned)rand_r(&c->seed) % below;
}

/* Seconds since 1970; time() may be a tick behind the servers' clock. */
static time_t wall(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec;
}

static void nap(unsigned ms)
{
	nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL);
}

static void die(const char *what)
{
	fprintf(stderr, "coherence: %s\n", what);
	exit(2);
}

/* --- statements --------------------------------------------------------------------------------------------------- */

static void say(struct statement *s, const char *fmt, ...)
{
	size_t n = strlen(s->text);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(s->text + n, sizeof s->text - n, fmt, ap);
	va_end(ap);
}

static void give_number(struct statement *s, long long n)
{
	s->args[s->nargs++] = (struct arg){.number = true, .n = n};
}

static void as_text(const struct statement *s, char *out, size_t room)
{
	unsigned arg = 0;
	size_t n = 0;

	for (const char *p = s->text; *p != '\0' && n + 1 < room; p++) {
		if (*p != '?') {
			out[n++] = *p;
			continue;
		}
		const struct arg *a = &s->args[arg++];
		if (a->number)
			n += (size_t)snprintf(out + n, room - n, "%lld", a->n);
		else
			n += (size_t)snprintf(out + n, room - n, "'%s'", a->s);
	}
	out[n < room ? n : room - 1] = '\0';
}

static void link_close(struct link *l)
{
	for (unsigned i = 0; i < l->nprepared; i++) {
		mysql_stmt_close(l->prepared[i].stmt);
		free(l->prepared[i].text);
	}
	l->nprepared = 0;
	if (l->my != NULL)
		mysql_close(l->my);
	l->my = NULL;
}

static MYSQL *open_port(unsigned port)
{
	MYSQL *my = mysql_init(NULL);
	unsigned limit = 60;

	mysql_options(my, MYSQL_OPT_CONNECT_TIMEOUT, &limit);
	mysql_options(my, MYSQL_OPT_READ_TIMEOUT, &limit);
	if (mysql_real_connect(my, "127.0.0.1", "app", "lab-app", "app", port, NULL, 0) != NULL)
		return my;
	if (may_lose == 0)
		fprintf(stderr, "coherence: connect: %s\n", mysql_error(my));
	mysql_close(my);
	return NULL;
}

static bool may_be_lost(const struct link *l, unsigned code)
{
	if (l->read_only && (code == CR_SERVER_LOST || code == CR_SERVER_GONE_ERROR))
		return true;
	return (may_lose >> l->proxy & 1) != 0 && (code >= 2000 || code == 1053 || code == 1927);
}

/* Deadlocks and waits for locks are the servers' right; the statement did nothing then. */
static bool is_conflict(unsigned code)
{
	return code == 1213 || code == 1205;
}

/* The packet that made no sense, as far as the library keeps it. */
static void tell_packet(const MYSQL *my)
{
	printf("#   its buffer:");
	for (unsigned i = 0; my->net.buff != NULL && i < 160; i++)
		printf(" %02x", my->net.buff[i]);
	printf(" at %ld\n", my->net.buff != NULL ? (long)(my->net.read_pos - my->net.buff) : -1L);
}

static unsigned failed(struct link *l, const struct statement *s, unsigned code, const char *text)
{
	if (may_be_lost(l, code)) {
		atomic_fetch_add(&lost, 1);
	} else if (!is_conflict(code)) {
		atomic_fetch_add(&errors, 1);
		printf("# error %u (%s) from proxy %u at %.3f: %s\n", code, text, l->proxy, now(), s->text);
		if (code == CR_MALFORMED_PACKET)
			tell_packet(l->my);
		fflush(stdout);
	}
	if (code >= 2000)
		link_close(l);
	return code;
}

static unsigned take_result(struct link *l, const struct statement *s, struct answer *a)
{
	MYSQL_RES *res;
	MYSQL_ROW row;

	*a = (struct answer){0};
	if ((res = mysql_store_result(l->my)) == NULL)
		return mysql_errno(l->my) != 0 ? failed(l, s, mysql_errno(l->my), mysql_error(l->my)) : 0;
	a->columns = mysql_num_fields(res);
	for (a->rows = 0; a->rows < ROWS && (row = mysql_fetch_row(res)) != NULL; a->rows++)
		for (unsigned i = 0; i < a->columns && i < COLUMNS; i++)
			snprintf(a->cell[a->rows][i], CELL, "%s", row[i] != NULL ? row[i] : "NULL");
	mysql_free_result(res);
	return 0;
}

static unsigned run_text(struct link *l, const struct statement *s, struct answer *a)
{
	char sql[2 * TEXT];

	as_text(s, sql, sizeof sql);
	if (mysql_query(l->my, sql) != 0)
		return failed(l, s, mysql_errno(l->my), mysql_error(l->my));
	return take_result(l, s, a);
}

static MYSQL_STMT *prepare(struct link *l, const struct statement *s)
{
	unsigned i = 0;

	while (i < l->nprepared && strcmp(l->prepared[i].text, s->text) != 0)
		i++;
	if (i < l->nprepared)
		return l->prepared[i].stmt;
	if (l->nprepared == STATEMENTS) {
		mysql_stmt_close(l->prepared[--l->nprepared].stmt);
		free(l->prepared[l->nprepared].text);
	}
	MYSQL_STMT *stmt = mysql_stmt_init(l->my);
	if (mysql_stmt_prepare(stmt, s->text, strlen(s->text)) != 0) {
		unsigned code = mysql_stmt_errno(stmt);
		char text[256];
		snprintf(text, sizeof text, "%s", mysql_stmt_error(stmt));
		mysql_stmt_close(stmt);
		failed(l, s, code, text);
		return NULL;
	}
	l->prepared[l->nprepared].text = strdup(s->text);
	l->prepared[l->nprepared++].stmt = stmt;
	return stmt;
}

static void bind_args(const struct statement *s, MYSQL_BIND *bind, unsigned long *len)
{
	memset(bind, 0, ARGS * sizeof *bind);
	for (unsigned i = 0; i < s->nargs; i++) {
		const struct arg *a = &s->args[i];
		bind[i].buffer_type = a->number ? MYSQL_TYPE_LONGLONG : MYSQL_TYPE_STRING;
		bind[i].buffer = a->number ? (void *)(uintptr_t)&a->n : (void *)(uintptr_t)a->s;
		len[i] = a->number ? 0 : strlen(a->s);
		bind[i].length = &len[i];
	}
}

static unsigned fetch(struct link *l, const struct statement *s, MYSQL_STMT *stmt, struct answer *a)
{
	MYSQL_BIND bind[COLUMNS] = {0};
	unsigned long len[COLUMNS];
	int rc = 0;

	*a = (struct answer){.columns = mysql_stmt_field_count(stmt)};
	for (unsigned i = 0; i < COLUMNS; i++) {
		bind[i].buffer_type = MYSQL_TYPE_STRING;
		bind[i].buffer_length = CELL - 1;
		bind[i].length = &len[i];
	}
	for (a->rows = 0; a->rows < ROWS && rc == 0; a->rows++) {
		for (unsigned i = 0; i < COLUMNS; i++)
			bind[i].buffer = a->cell[a->rows][i];
		mysql_stmt_bind_result(stmt, bind);
		rc = mysql_stmt_fetch(stmt);
		if (rc != 0)
			break;
		for (unsigned i = 0; i < a->columns && i < COLUMNS; i++)
			a->cell[a->rows][i][len[i] < CELL ? len[i] : CELL - 1] = '\0';
	}
	unsigned code = rc == 1 ? mysql_stmt_errno(stmt) : 0;
	mysql_stmt_free_result(stmt);
	return code != 0 ? failed(l, s, code, "fetch") : 0;
}

static unsigned run_prepared(struct link *l, const struct statement *s, struct answer *a)
{
	MYSQL_BIND bind[ARGS];
	unsigned long len[ARGS];
	MYSQL_STMT *stmt = prepare(l, s);

	if (stmt == NULL)
		return CR_SERVER_LOST; /* counted; it was not executed, but that is as good as not known */
	bind_args(s, bind, len);
	mysql_stmt_bind_param(stmt, bind);
	if (mysql_stmt_execute(stmt) != 0) {
		char text[256];
		snprintf(text, sizeof text, "%s", mysql_stmt_error(stmt));
		return failed(l, s, mysql_stmt_errno(stmt), text);
	}
	return mysql_stmt_field_count(stmt) > 0 ? fetch(l, s, stmt, a) : 0;
}

/* Waits until the proxy takes connections; NULL when it does not and must. */
static struct link *link_to(struct client *c, struct link *l, unsigned proxy)
{
	if (l->proxy != proxy)
		link_close(l);
	l->proxy = proxy;
	if (l->my != NULL && draw(c, 200) == 0)
		link_close(l); /* a new session */
	while (l->my == NULL && (l->my = open_port(proxy_port[proxy])) == NULL && !atomic_load(&stop)) {
		if (!(may_lose >> proxy & 1)) {
			atomic_fetch_add(&errors, 1);
			return NULL;
		}
		nap(20);
	}
	return l->my != NULL ? l : NULL;
}

static struct link *link_of(struct client *c, unsigned proxy)
{
	return link_to(c, &c->links[proxy], proxy);
}

static void client_close(struct client *c)
{
	for (unsigned i = 0; i < nproxies; i++)
		link_close(&c->links[i]);
	link_close(&c->spare);
}

static unsigned run(struct client *c, struct link *l, const struct statement *s, struct answer *a)
{
	return s->nargs > 0 && draw(c, 2) == 0 ? run_prepared(l, s, a) : run_text(l, s, a);
}

static unsigned run_plain(struct link *l, const char *text)
{
	struct statement s = {0};
	struct answer a;

	say(&s, "%s", text);
	return run_text(l, &s, &a);
}

#endif
