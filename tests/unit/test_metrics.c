/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>

#include "fake_proxy.h"
#include "service/metrics.h"

static struct metrics *metrics;
static struct stats *stats;

static int start(void **state)
{
	(void)state;
	fake_up();
	for (unsigned tries = 0; metrics == NULL && tries < 20; tries++) {
		fake_next_port();
		metrics = metrics_start(&ops, fake.config);
	}
	assert_non_null(metrics);
	stats = stats_new();
	unsigned user = stats_user_id("a\"b\\c\nd"), rule = fake.config->rules[0].stats_id;
	stats_statement(stats, STAT_PRIMARY, 0, user, 16);
	stats_statement(stats, STAT_PRIMARY, 0, user, 17);
	stats_statement(stats, STAT_PRIMARY, 0, user, 100000000);
	stats_statement(stats, STAT_CACHE, STATS_NO_SERVER, user, 5);
	stats_cache(stats, rule, STAT_HIT);
	stats_invalidation(stats, rule, STAT_INVAL_TABLE);
	stats_error(stats, STAT_ERR_AUTH);
	stats_clients(stats, 4);
	stats_server_connections(stats, 3, 2, 1);
	stats_would_move(stats, STAT_REPLICA);
	stats_routed(stats, 0, ROUTE_WRITE);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	metrics_stop(metrics);
	stats_free(stats);
	return fake_down();
}

/* What a plain HTTP/1.0 request is answered with, headers and body. */
static const char *get(const char *request)
{
	static char text[262144];
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)fake.http_port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	size_t n = 0;
	ssize_t got;

	assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
	assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
	while ((got = recv(fd, text + n, sizeof text - 1 - n, 0)) > 0)
		n += (size_t)got;
	text[n] = '\0';
	close(fd);
	return text;
}

static void has(const char *text, const char *line)
{
	if (strstr(text, line) == NULL)
		fail_msg("no %s in:\n%s", line, text);
}

static void prometheus(void **state)
{
	static const char *const lines[] = {
		"HTTP/1.0 200",
		"Content-Type: text/plain; version=0.0.4",
		"# TYPE sidetrack_statements_total counter\n",
		"sidetrack_statements_total{route=\"primary\",server=\"db1\",user=\"a\\\"b\\\\c\\nd\"} 3\n",
		"sidetrack_statements_total{route=\"cache\",server=\"\",user=\"a\\\"b\\\\c\\nd\"} 1\n",
		"# TYPE sidetrack_statement_seconds histogram\n",
		"sidetrack_statement_seconds_bucket{route=\"primary\",le=\"1.6e-05\"} 1\n",
		"sidetrack_statement_seconds_bucket{route=\"primary\",le=\"3.2e-05\"} 2\n",
		"sidetrack_statement_seconds_bucket{route=\"primary\",le=\"67.108864\"} 2\n",
		"sidetrack_statement_seconds_bucket{route=\"primary\",le=\"+Inf\"} 3\n",
		"sidetrack_statement_seconds_sum{route=\"primary\"} 100.000033\n",
		"sidetrack_statement_seconds_count{route=\"primary\"} 3\n",
		"sidetrack_statement_seconds_count{route=\"replica\"} 0\n",
		"# TYPE sidetrack_client_connections gauge\nsidetrack_client_connections 4\n",
		"sidetrack_server_connections{server=\"db2\",state=\"idle\"} 2\n",
		"sidetrack_server_connections{server=\"db2\",state=\"active\"} 1\n",
		"sidetrack_server_up{server=\"db1\"} 1\n",
		"sidetrack_replica_lag_seconds{server=\"db2\"} ",
		"sidetrack_cache_requests_total{rule=\"token\",result=\"hit\"} 1\n",
		"sidetrack_cache_requests_total{rule=\"token\",result=\"miss\"} 0\n",
		"sidetrack_cache_invalidations_total{rule=\"token\",source=\"table\"} 1\n",
		"sidetrack_errors_total{kind=\"auth\"} 1\n",
		"sidetrack_would_move_total{route=\"replica\"} 1\n",
	};
	const char *text = get("GET /metrics HTTP/1.0\r\n\r\n");

	(void)state;
	for (unsigned i = 0; i < sizeof lines / sizeof *lines; i++)
		has(text, lines[i]);
	assert_null(strstr(text, "sidetrack_replica_lag_seconds{server=\"db1\"}"));
	/* each line is a comment or a name with labels and a number, and every family has its HELP and TYPE first */
	char name[128] = "", *copy = xstrdup(strstr(text, "\r\n\r\n") + 4), *save = NULL;
	for (char *line = strtok_r(copy, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		if (strncmp(line, "# TYPE ", 7) == 0)
			snprintf(name, sizeof name, "%.*s", (int)strcspn(line + 7, " "), line + 7);
		else if (line[0] != '#')
			assert_int_equal(strncmp(line, name, strlen(name)), 0);
	}
	free(copy);
}

static void health_and_readiness(void **state)
{
	(void)state;
	has(get("GET /healthz HTTP/1.0\r\n\r\n"), "HTTP/1.0 200");
	fake.topology->primary = -1;
	const char *text = get("GET /readyz HTTP/1.0\r\n\r\n");
	has(text, "HTTP/1.0 503");
	has(text, "no primary is up\ndb1 (10.0.0.0:3306): primary, up\n");
	fake.topology->primary = 0;
	has(get("GET /readyz HTTP/1.0\r\n\r\n"), "HTTP/1.0 200");
	has(get("GET /nix HTTP/1.0\r\n\r\n"), " 404 Not Found");
	has(get("POST /metrics HTTP/1.0\r\nContent-Length: 0\r\n\r\n"), " 501 ");
	has(get("GET / HTTP/1.0\r\n\r\n"), "<title>Sidetrack</title>");
	has(get("HEAD /healthz HTTP/1.0\r\n\r\n"), "HTTP/1.0 200");
}

static void status(void **state)
{
	const char *text = strstr(get("GET /status.json HTTP/1.0\r\n\r\n"), "\r\n\r\n"), *mode, *name, *reason, *rule;
	json_int_t count, moved, clients;
	json_error_t error;
	json_t *j = json_loads(text, 0, &error);

	(void)state;
	assert_non_null(j);
	assert_int_equal(json_unpack(j, "{s:s,s:I,s:{s:{s:I},s:{s:I}},s:[{s:s}],s:[{s:s}],s:[{s:s}]}", "mode", &mode,
				     "clients", &clients, "statements", "primary", "count", &count, "replica",
				     "would_move", &moved, "servers", "name", &name, "routes", "reason", &reason,
				     "cache", "rule", &rule),
			 0);
	assert_string_equal(mode, "cache");
	assert_string_equal(name, "db1");
	assert_string_equal(rule, "token");
	assert_int_equal(count, 3);
	assert_int_equal(moved, 1);
	assert_int_equal(clients, 4);
	assert_true(strlen(reason) > 0);
	json_decref(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(prometheus),
		cmocka_unit_test(health_and_readiness),
		cmocka_unit_test(status),
	};
	return cmocka_run_group_tests(tests, start, stop);
}
