/* SPDX-License-Identifier: Apache-2.0
 *
 * What the classifier costs: ns a statement, for a token lookup and a few others, digest and watched tables included.
 * `--count N` runs the lookup alone N times and prints nothing, for callgrind: (instructions of N) / N.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "sql/classify.h"

static const char *const statements[][2] = {
	{"token lookup", "SELECT user_id, scope, expires_at FROM access_token WHERE token = "
			 "'0123456789abcdef0123456789abcdef01234567' AND expires_at > NOW()"},
	{"point select", "SELECT c FROM sbtest1 WHERE id = 4711"},
	{"insert", "INSERT INTO access_token (user_id, token, scope, expires_at) VALUES "
		   "(7, '0123456789abcdef0123456789abcdef01234567', 'read write', '2030-01-01 00:00:00')"},
	{"delete", "DELETE FROM access_token WHERE token = '0123456789abcdef0123456789abcdef01234567'"},
	{"join",
	 "SELECT p.id, p.title, u.name, COUNT(c.id) AS n FROM posts p JOIN users u ON u.id = p.author LEFT JOIN "
	 "comments c ON c.post_id = p.id WHERE p.status = 'publish' AND p.site IN (1, 2, 3) GROUP BY p.id "
	 "ORDER BY p.created DESC LIMIT 20"},
	{"commit", "COMMIT"},
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t run(const char *sql, unsigned long count)
{
	static struct sql_stmt stmt;
	struct sql_watch watch[] = {{slice_str("app"), slice_str("access_token"), slice_str("token"),
				     slice_str("expires_at"), 1, 4, true}};
	struct slice text = slice_str(sql), schema = slice_str("app");
	uint64_t sum = 0;

	for (unsigned long i = 0; i < count; i++) {
		sql_classify(text, 0, schema, watch, 1, &stmt);
		sum += stmt.digest + stmt.nkeys;
		__asm__ volatile("" : : "r"(sum) : "memory");
	}
	return sum;
}

/* The best of several rounds: the machine has other things to do. */
static double ns_each(const char *sql)
{
	enum { ROUNDS = 9, COUNT = 100000 };
	double best = 1e9;

	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t begin = now_ns();
		run(sql, COUNT);
		double each = (double)(now_ns() - begin) / COUNT;
		best = each < best ? each : best;
	}
	return best;
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "--count") == 0) {
		run(statements[0][1], strtoul(argv[2], NULL, 10));
		return 0;
	}
	if (argc != 1) {
		fprintf(stderr, "usage: bench_sql [--count N]\n");
		return 2;
	}
	for (size_t i = 0; i < sizeof(statements) / sizeof(statements[0]); i++)
		printf("%-14s %4zu bytes %7.0f ns\n", statements[i][0], strlen(statements[i][1]),
		       ns_each(statements[i][1]));
	return 0;
}
