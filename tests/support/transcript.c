/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs a file of statements on one connection and writes down all that a client can see of each answer: columns with
 * their metadata, rows, counts, status, info, warnings, errors. Two transcripts of the same file, one taken directly
 * and one through the proxy, must be equal byte for byte (tests/integration/test_direct_equal.py).
 *
 *	transcript text|prepared HOST PORT USER PASSWORD DB < FILE
 *
 * A statement ends with ';' at the end of a line. A line "--@ i:5 s:abc n d:1.5" gives the parameters of the next one;
 * text mode leaves out statements that have them. "--@@ reset" and its like are protocol commands (commands[]).
 */
#include <mysql.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PARAMS = 16, MAX_COLUMNS = 256, CELL = 1 << 16, LINE = 1 << 16 };

struct params {
	unsigned n;
	MYSQL_BIND bind[MAX_PARAMS];
	long long integer[MAX_PARAMS];
	double real[MAX_PARAMS];
	char text[LINE]; /* the line itself: strings point into it */
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "transcript: %s: %s\n", what, why);
	exit(1);
}

static void params_parse(struct params *p, const char *line)
{
	char *save = NULL;

	memset(p, 0, sizeof(*p));
	snprintf(p->text, sizeof(p->text), "%s", line);
	for (char *w = strtok_r(p->text, " \n", &save); w != NULL; w = strtok_r(NULL, " \n", &save)) {
		MYSQL_BIND *b = &p->bind[p->n];

		if (p->n == MAX_PARAMS)
			die("too many parameters", line);
		b->buffer_type = *w == 'i' ? MYSQL_TYPE_LONGLONG : *w == 'd' ? MYSQL_TYPE_DOUBLE :
				 *w == 's' ? MYSQL_TYPE_STRING : MYSQL_TYPE_NULL;
		if (*w == 'i') {
			p->integer[p->n] = strtoll(w + 2, NULL, 10);
			b->buffer = &p->integer[p->n];
		} else if (*w == 'd') {
			p->real[p->n] = strtod(w + 2, NULL);
			b->buffer = &p->real[p->n];
		} else if (*w == 's') {
			b->buffer = w + 2;
			b->buffer_length = strlen(w + 2);
		}
		p->n++;
	}
}

static void print_cell(const char *data, unsigned long len)
{
	if (data == NULL) {
		printf("\tNULL");
		return;
	}
	putchar('\t');
	for (unsigned long i = 0; i < len; i++) {
		unsigned char c = (unsigned char)data[i];

		if (c >= ' ' && c != '\\' && c < 0x7f)
			putchar(c);
		else
			printf("\\x%02x", c);
	}
}

static void print_fields(MYSQL_RES *res)
{
	MYSQL_FIELD *f;

	mysql_field_seek(res, 0);
	while ((f = mysql_fetch_field(res)) != NULL)
		printf("  column %s/%s %s/%s %s.%s type %d charset %u length %lu flags %x decimals %u\n", f->name,
		       f->org_name, f->table, f->org_table, f->catalog, f->db, (int)f->type, f->charsetnr, f->length,
		       f->flags, f->decimals);
}

static void print_rows(MYSQL_RES *res)
{
	MYSQL_ROW row;

	while ((row = mysql_fetch_row(res)) != NULL) {
		unsigned long *len = mysql_fetch_lengths(res);

		printf("  row");
		for (unsigned i = 0; i < mysql_num_fields(res); i++)
			print_cell(row[i], len[i]);
		putchar('\n');
	}
}

static void print_error(unsigned code, const char *state, const char *text)
{
	printf("  error %u (%s) %s\n", code, state, text);
}

static void print_end(MYSQL *m, unsigned long long affected, unsigned long long insert_id)
{
	unsigned status = 0;

	mariadb_get_infov(m, MARIADB_CONNECTION_SERVER_STATUS, &status);
	/* Whether an index was used is the optimizer's choice of the day, and may differ between two equal servers. */
	status &= ~(unsigned)(SERVER_QUERY_NO_INDEX_USED | SERVER_QUERY_NO_GOOD_INDEX_USED | SERVER_QUERY_WAS_SLOW);
	printf("  affected %lld insert id %llu warnings %u status %x info %s\n", (long long)affected, insert_id,
	       mysql_warning_count(m), status, mysql_info(m) != NULL ? mysql_info(m) : "-");
}

static void print_warnings(MYSQL *m)
{
	MYSQL_RES *res;

	if (mysql_warning_count(m) == 0 || mysql_query(m, "SHOW WARNINGS") != 0 ||
	    (res = mysql_store_result(m)) == NULL)
		return;
	print_rows(res);
	mysql_free_result(res);
}

/* --- text protocol --- */

static void run_text(MYSQL *m, const char *sql, size_t len)
{
	int more = mysql_real_query(m, sql, len) != 0 ? 1 : 0;

	while (more == 0) {
		MYSQL_RES *res = mysql_store_result(m);

		if (res != NULL) {
			print_fields(res);
			print_rows(res);
		} else if (mysql_errno(m) != 0) {
			break;
		}
		print_end(m, mysql_affected_rows(m), mysql_insert_id(m));
		if (res != NULL)
			mysql_free_result(res);
		more = mysql_next_result(m); /* 0: one more, -1: no more, 1: an error */
	}
	if (mysql_errno(m) != 0)
		print_error(mysql_errno(m), mysql_sqlstate(m), mysql_error(m));
	print_warnings(m);
}

/* --- prepared --- */

static void fetch_rows(MYSQL_STMT *stmt, unsigned columns)
{
	static char cells[MAX_COLUMNS][CELL];
	MYSQL_BIND bind[MAX_COLUMNS];
	unsigned long len[MAX_COLUMNS];
	my_bool null[MAX_COLUMNS];

	if (columns > MAX_COLUMNS)
		die("too many columns", "");
	memset(bind, 0, sizeof(bind));
	for (unsigned i = 0; i < columns; i++) {
		bind[i].buffer_type = MYSQL_TYPE_STRING;
		bind[i].buffer = cells[i];
		bind[i].buffer_length = CELL;
		bind[i].length = &len[i];
		bind[i].is_null = &null[i];
	}
	mysql_stmt_bind_result(stmt, bind);
	while (mysql_stmt_fetch(stmt) == 0) {
		printf("  row");
		for (unsigned i = 0; i < columns; i++)
			print_cell(null[i] ? NULL : cells[i], len[i] < CELL ? len[i] : CELL);
		putchar('\n');
	}
}

static void print_results(MYSQL *m, MYSQL_STMT *stmt)
{
	MYSQL_RES *meta;
	int more;

	do {
		meta = mysql_stmt_result_metadata(stmt);
		if (meta != NULL) {
			print_fields(meta);
			fetch_rows(stmt, mysql_stmt_field_count(stmt));
			mysql_free_result(meta);
		}
		if (mysql_stmt_errno(stmt) != 0)
			return;
		print_end(m, mysql_stmt_affected_rows(stmt), mysql_stmt_insert_id(stmt));
		more = mysql_stmt_next_result(stmt);
	} while (more == 0);
}

static void run_prepared(MYSQL *m, const char *sql, size_t len, struct params *p)
{
	MYSQL_STMT *stmt = mysql_stmt_init(m);

	if (mysql_stmt_prepare(stmt, sql, len) == 0) {
		MYSQL_RES *meta = mysql_stmt_result_metadata(stmt);

		printf("  prepared: %lu parameters, %u columns\n", mysql_stmt_param_count(stmt),
		       mysql_stmt_field_count(stmt));
		if (meta != NULL) {
			print_fields(meta);
			mysql_free_result(meta);
		}
		for (int turn = 0; turn < 2; turn++) { /* the second execute of a statement takes another path */
			if (mysql_stmt_param_count(stmt) == p->n && p->n > 0)
				mysql_stmt_bind_param(stmt, p->bind);
			if (mysql_stmt_execute(stmt) == 0)
				print_results(m, stmt);
			if (mysql_stmt_errno(stmt) != 0)
				break;
			mysql_stmt_free_result(stmt);
		}
	}
	if (mysql_stmt_errno(stmt) != 0)
		print_error(mysql_stmt_errno(stmt), mysql_stmt_sqlstate(stmt), mysql_stmt_error(stmt));
	mysql_stmt_close(stmt);
	print_warnings(m);
}

/* --- protocol commands other than statements --- */

static const char *login[3]; /* user, password, db: what change_user goes back to */

static int command_field_list(MYSQL *m)
{
	MYSQL_RES *res = mysql_list_fields(m, "kinds", NULL);

	if (res == NULL)
		return 1;
	print_fields(res);
	mysql_free_result(res);
	return 0;
}

static int command_change_user(MYSQL *m)
{
	return mysql_change_user(m, login[0], login[1], login[2]);
}

static int command_change_user_wrong(MYSQL *m)
{
	return mysql_change_user(m, login[0], "not the password", login[2]);
}

static int command_init_db(MYSQL *m)
{
	return mysql_select_db(m, "app");
}

static int command_init_db_back(MYSQL *m)
{
	return mysql_select_db(m, login[2]);
}

static int command_init_db_wrong(MYSQL *m)
{
	return mysql_select_db(m, "no_such_db");
}

static int command_multi_off(MYSQL *m)
{
	return mysql_set_server_option(m, MYSQL_OPTION_MULTI_STATEMENTS_OFF);
}

static int command_multi_on(MYSQL *m)
{
	return mysql_set_server_option(m, MYSQL_OPTION_MULTI_STATEMENTS_ON);
}

static const struct {
	const char *name;
	int (*run)(MYSQL *m);
} commands[] = {
	{"ping", mysql_ping},
	{"reset", mysql_reset_connection},
	{"change_user", command_change_user},
	{"change_user_wrong", command_change_user_wrong},
	{"init_db", command_init_db},
	{"init_db_back", command_init_db_back},
	{"init_db_wrong", command_init_db_wrong},
	{"field_list", command_field_list},
	{"multi_off", command_multi_off},
	{"multi_on", command_multi_on},
};

static void run_command(MYSQL *m, const char *name)
{
	printf("%s\n", name);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(commands[i].name, name) != 0)
			continue;
		if (commands[i].run(m) != 0)
			print_error(mysql_errno(m), mysql_sqlstate(m), mysql_error(m));
		print_end(m, 0, 0);
		return;
	}
	die("no such command", name);
}

/* --- the file --- */

static MYSQL *connect_to(char **argv)
{
	MYSQL *m = mysql_init(NULL);

	mysql_options(m, MYSQL_SET_CHARSET_NAME, "utf8mb4");
	login[0] = argv[4];
	login[1] = argv[5];
	login[2] = argv[6];
	if (mysql_real_connect(m, argv[2], argv[4], argv[5], argv[6], (unsigned)atoi(argv[3]), NULL,
			       CLIENT_MULTI_STATEMENTS) == NULL)
		die("connect", mysql_error(m));
	return m;
}

static void run_file(MYSQL *m, bool prepared)
{
	static char sql[1 << 20], line[LINE];
	static struct params params;
	size_t len = 0;

	while (fgets(line, sizeof(line), stdin) != NULL) {
		size_t n = strlen(line);

		if (strncmp(line, "--@@ ", 5) == 0) {
			line[n - 1] = '\0';
			run_command(m, line + 5);
			continue;
		}
		if (strncmp(line, "--@", 3) == 0) {
			params_parse(&params, line + 3);
			continue;
		}
		if (len == 0 && (*line == '\n' || strncmp(line, "-- ", 3) == 0))
			continue;
		if (len + n > sizeof(sql))
			die("statement too long", line);
		memcpy(sql + len, line, n);
		len += n;
		if (len < 2 || sql[len - 1] != '\n' || sql[len - 2] != ';')
			continue;
		len -= 2;
		if (prepared || params.n == 0)
			printf("%.*s\n", (int)len, sql);
		if (prepared)
			run_prepared(m, sql, len, &params);
		else if (params.n == 0)
			run_text(m, sql, len);
		len = 0;
		params.n = 0;
	}
}

int main(int argc, char **argv)
{
	MYSQL *m;

	if (argc != 7)
		die("usage", "transcript text|prepared HOST PORT USER PASSWORD DB < FILE");
	m = connect_to(argv);
	setvbuf(stdout, NULL, _IOLBF, 0); /* a hang shows where */
	printf("server %s, charset %s\n", mysql_get_server_info(m), mysql_character_set_name(m));
	run_file(m, strcmp(argv[1], "prepared") == 0);
	mysql_close(m);
	mysql_library_end();
	return 0;
}
