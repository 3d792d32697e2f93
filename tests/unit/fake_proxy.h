/* SPDX-License-Identifier: Apache-2.0
 *
 * A proxy that is made up, for tests of the services over it: two servers, one cache rule, callbacks that remember.
 */
#ifndef ST_TESTS_FAKE_PROXY_H
#define ST_TESTS_FAKE_PROXY_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/stats.h"
#include "service/events.h"
#include "service/ops.h"

static struct {
	struct topology *topology;
	struct config *config;
	char dir[64], drained[64], flushed[64];
	unsigned port, http_port;
} fake;

static struct topology *get_topology(void *arg, unsigned group)
{
	(void)arg;
	(void)group;
	return topology_ref(fake.topology);
}

static struct config *get_config(void *arg)
{
	(void)arg;
	return config_ref(fake.config);
}

static struct config *get_group_config(void *arg, unsigned group)
{
	(void)group;
	return get_config(arg);
}

static void cache_usage_(void *arg, unsigned group, unsigned rule, uint64_t *entries, uint64_t *bytes,
			 uint64_t *evictions)
{
	(void)arg;
	(void)group;
	*entries = rule + 7;
	*bytes = 1000;
	*evictions = 3;
}

static void cache_status_(void *arg, unsigned group, char *buf, size_t cap)
{
	(void)arg;
	(void)group;
	snprintf(buf, cap, "memory");
}

static void explain(void *arg, unsigned group, struct slice sql, const char *schema,
		    void (*row)(void *row_arg, const char *name, const char *value), void *row_arg)
{
	char text[200];

	(void)arg;
	(void)group;
	snprintf(text, sizeof text, "%.*s", (int)sql.n, (const char *)sql.p);
	row(row_arg, "statement", text);
	row(row_arg, "schema", schema);
}

static int drain(void *arg, const char *server, bool drained)
{
	(void)arg;
	if (strcmp(server, "db1") != 0)
		return -1;
	snprintf(fake.drained, sizeof fake.drained, "%s %d", server, drained);
	return 0;
}

static int flush(void *arg, const char *rule)
{
	(void)arg;
	snprintf(fake.flushed, sizeof fake.flushed, "%s", rule != NULL ? rule : "(all)");
	return rule == NULL || strcmp(rule, "token") == 0 ? 0 : -1;
}

static int reload(void *arg, char *err, size_t cap)
{
	(void)arg;
	snprintf(err, cap, "x.conf:3: wrong");
	return -1;
}

static int kill_(void *arg, uint64_t connection, bool query_only, char *err, size_t cap)
{
	(void)arg;
	snprintf(err, cap, "no connection %d %d", (int)connection, query_only);
	return connection == 42 ? 0 : -1;
}

static const struct admin_ops ops = {NULL, 1, get_topology, get_config, get_group_config, cache_usage_, cache_status_,
				     explain, drain, flush, reload, kill_};

static void add_server(unsigned id, const char *name, enum server_role role)
{
	struct server_view *v = &fake.topology->views[fake.topology->n++];

	v->server = xcalloc(1, sizeof *v->server);
	atomic_init(&v->server->refs, 1);
	v->server->id = id;
	v->role = role;
	v->state = SERVER_UP;
	v->weight = 1;
	snprintf(v->server->name, sizeof v->server->name, "%s", name);
	snprintf(v->server->address.text, sizeof v->server->address.text, "10.0.0.%u:3306", id);
}

static unsigned free_port(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof in;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&in, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
	close(fd);
	return ntohs(in.sin_port);
}

static void report(void *arg, const char *line)
{
	(void)arg;
	print_error("%s\n", line);
}

static struct config *make_config(const char *password)
{
	char path[100], admin[160], http[32];
	struct config_options o = {.file = path, .admin = admin, .http = http};

	snprintf(path, sizeof path, "%s/conf", fake.dir);
	snprintf(admin, sizeof admin, "127.0.0.1:%u, %s/sock", fake.port, fake.dir);
	snprintf(http, sizeof http, "127.0.0.1:%u", fake.http_port);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fprintf(f, "[server.db1]\naddress=127.0.0.1:1\n[cache.token]\ntable=app.t\nkey=k\n[admin]\nuser=dba\n%s%s\n",
		password != NULL ? "password=" : "", password != NULL ? password : "");
	fclose(f);
	assert_int_equal(chmod(path, 0600), 0);
	struct config *c = config_load(&o, report, NULL);
	unlink(path);
	assert_non_null(c);
	return c;
}

static void fake_up(void)
{
	snprintf(fake.dir, sizeof fake.dir, "/tmp/st-fake-XXXXXX");
	assert_non_null(mkdtemp(fake.dir));
	fake.topology = xcalloc(1, sizeof *fake.topology);
	atomic_init(&fake.topology->refs, 1);
	add_server(0, "db1", ROLE_PRIMARY);
	add_server(3, "db2", ROLE_REPLICA);
	atomic_store(&fake.topology->views[1].server->fresh_us, topology_now_us() - 20000);
}

/* Another free port, and a configuration that names it: a second try where another process took the first. */
static void fake_next_port(void)
{
	config_unref(fake.config);
	fake.port = free_port();
	fake.http_port = free_port();
	fake.config = make_config("s3cret ;x");
}

static int fake_down(void)
{
	config_unref(fake.config);
	topology_unref(fake.topology);
	return rmdir(fake.dir);
}

#endif
