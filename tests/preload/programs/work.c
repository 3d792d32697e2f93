/* SPDX-License-Identifier: Apache-2.0
 * A legacy program in C: work HOST PORT plain|fork|threads. Also linked statically.
 */
#include <mysql.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *host;
static unsigned port;

static long number(MYSQL *m, const char *sql)
{
	MYSQL_RES *r;
	MYSQL_ROW row;
	long v = 0;

	if (mysql_query(m, sql) != 0) {
		printf("%s\n", mysql_error(m));
		return -1;
	}
	r = mysql_store_result(m);
	if (r != NULL && (row = mysql_fetch_row(r)) != NULL)
		v = atol(row[0]);
	mysql_free_result(r);
	return v;
}

static void *work(void *arg)
{
	MYSQL *m = mysql_init(NULL);
	long sum = 0;
	char sql[128];

	if (mysql_real_connect(m, host, "app", "lab-app", "app", port, NULL, 0) == NULL) {
		printf("%s\n", mysql_error(m));
		return (void *)-1;
	}
	for (int i = 0; i < 20; i++)
		sum += number(m, "SELECT member_id FROM access_token WHERE token = '13af16a2186686e926fe14255668ab01'");
	for (int i = 1; i <= 10; i++) {
		snprintf(sql, sizeof(sql), "SELECT id FROM members WHERE id = %d", i);
		sum += number(m, sql);
	}
	number(m, "UPDATE articles SET title = 'x' WHERE id = 1");
	mysql_close(m);
	return arg == NULL ? (void *)(intptr_t)sum : NULL;
}

int main(int argc, char **argv)
{
	intptr_t sum = 0;
	int status = 0;
	pthread_t t;
	void *rc;

	if (argc != 4)
		return 2;
	host = argv[1];
	port = (unsigned)atoi(argv[2]);
	mysql_library_init(0, NULL, NULL);
	if (strcmp(argv[3], "fork") == 0) {
		if (fork() == 0)
			_exit((int)(intptr_t)work(NULL));
		wait(&status);
		sum = WEXITSTATUS(status);
	} else if (strcmp(argv[3], "threads") == 0) {
		pthread_create(&t, NULL, work, NULL);
		pthread_join(t, &rc);
		sum = (intptr_t)rc;
	} else {
		sum = (intptr_t)work(NULL);
	}
	printf("sum %ld\n", (long)sum);
	return 0;
}
