/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sql/body.h"
#include "sql/classify.h"

enum { W = EFFECT_WRITES, V = EFFECT_VARIABLES, K = EFFECT_KEEPS, T = EFFECT_TEMPORARY, D = EFFECT_DEPENDS,
       N = EFFECT_NONDET, X = EFFECT_TRANSACTION, F = EFFECT_DEFINES, ALL = EFFECT_ALL };

static char used[2048]; /* "f:name p:db.name ..", names of tables left out unless asked for */
static bool want_names;

static void on_use(void *arg, enum body_use use, struct slice db, struct slice name)
{
	static const char letters[] = {'f', 'm', 'p', 'n'};
	size_t n = strlen(used);

	(void)arg;
	if (use == BODY_MAYBE || (use == BODY_NAME && !want_names))
		return;
	snprintf(used + n, sizeof used - n, "%s%c:%.*s%s%.*s", n > 0 ? " " : "", letters[use], (int)db.n,
		 db.n > 0 ? (const char *)db.p : "", db.n > 0 ? "." : "", (int)name.n, (const char *)name.p);
}

static unsigned effects(const char *text, const char *params, unsigned mode)
{
	struct body b = {.text = slice_str(text), .params = slice_str(params), .mode = mode, .use = on_use};

	used[0] = '\0';
	return body_effects(&b);
}

static const struct {
	const char *text;
	unsigned effects;
	const char *uses; /* functions and procedures */
} rows[] = {
	/* nothing */
	{"RETURN 1", 0, ""},
	{"RETURN x + ABS(y)", 0, ""},
	{"BEGIN DECLARE s VARCHAR(30) DEFAULT 'INSERT INTO t'; SET s = CONCAT(s, '@v'); RETURN s; END", 0, ""},
	{"BEGIN DECLARE a, b INT; SET a = 1, b = (SELECT MAX(x) FROM t); RETURN a; END", 0, ""},
	{"BEGIN -- INSERT INTO t VALUES (1)\n RETURN 1; /* GET_LOCK('a', 1) */ END", 0, ""},
	{"BEGIN DECLARE done INT; DECLARE c CURSOR FOR SELECT a FROM t; DECLARE CONTINUE HANDLER FOR NOT FOUND SET"
	 " done = 1; OPEN c; l: LOOP FETCH c INTO done; LEAVE l; END LOOP; CLOSE c; RETURN done; END", 0, ""},
	{"BEGIN FOR r IN (SELECT a FROM t) DO SET r.a = 1; END FOR; RETURN 1; END", 0, ""},
	{"RETURN REPLACE(INSERT('a', 1, 1, 'b'), 'b', REPEAT('x', 3))", 0, ""},
	{"RETURN TRUNCATE(x, 2)", 0, ""},
	{"RETURN (SELECT start FROM t WHERE t.flush = 1 AND cache > 2 AND t.`execute` = 3 ORDER BY stop)", 0, ""},
	{"RETURN CAST(x AS CHAR CHARACTER SET utf8mb4)", 0, ""},
	{"BEGIN DECLARE e SET('a','b'); DECLARE f BIT(3); DECLARE d DATETIME(6); RETURN f; END", 0, ""},
	{"BEGIN DECLARE EXIT HANDLER FOR SQLEXCEPTION RETURN 0; SIGNAL SQLSTATE '45000' SET"
	 " MESSAGE_TEXT = 'x', MYSQL_ERRNO = 1; RESIGNAL; END", 0, ""},
	{"BEGIN DECLARE n INT; FOR i IN 1..n DO SET n = i; END FOR; REPEAT SET n = 1; UNTIL (n > 1) END REPEAT; END", 0,
	 ""},
	{"RETURN (SELECT 1 FROM t WHERE ROW(a, b) = ROW(1, 2))", 0, ""},
	{"SET NEW.a = NEW.b, NEW.c = 1", 0, ""},
	{"RETURN (SELECT COUNT(*) FROM t USE INDEX (a) WHERE a IN (1, 2))", 0, ""},
	/* clocks and chance */
	{"RETURN NOW()", N, ""},
	{"RETURN CURRENT_TIMESTAMP", N, ""},
	{"RETURN RAND() + SLEEP(1)", N, ""},
	{"RETURN USER()", N, ""},
	/* writes */
	{"BEGIN INSERT INTO t (a, b) VALUES (1, 2); RETURN 1; END", W, ""},
	{"BEGIN REPLACE t SET a = 1; UPDATE t SET sql_mode = 2; DELETE FROM t; RETURN 1; END", W, ""},
	{"BEGIN /*! INSERT INTO t VALUES (1); */ RETURN 1; END", W, ""},
	{"INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE a = 2", W, ""},
	{"SELECT a FROM t FOR UPDATE", W, ""},
	{"SELECT a FROM t LOCK IN SHARE MODE", W, ""},
	{"SELECT a FROM t INTO OUTFILE '/tmp/x'", W, ""},
	{"RETURN NEXTVAL(s)", W | K | D, ""},
	{"RETURN NEXT VALUE FOR s", W | K | D, ""},
	{"RETURN s.nextval", W | K | D, ""},
	/* the connection */
	{"RETURN LAST_INSERT_ID()", D, ""},
	{"RETURN @@sql_mode", D, ""},
	{"RETURN @v", K | D, ""},
	{"BEGIN SELECT a INTO @q FROM t; RETURN 1; END", K | D, ""},
	{"RETURN GET_LOCK('a', 1)", K | D, ""},
	{"RETURN `get_lock`('a', 1)", K | D, ""},
	{"RETURN (SELECT COUNT(*) FROM information_schema.tables)", D, ""},
	{"RETURN (SELECT COUNT(*) FROM `mysql`.`user`)", D, ""},
	/* variables */
	{"SET sql_mode = ''", V, ""},
	{"BEGIN DECLARE x INT; SET x = 1, sql_mode = ''; END", V, ""},
	{"BEGIN UPDATE t SET a = 1; SET sql_mode = ''; END", V | W, ""},
	{"FOR r IN (SELECT a FROM t FOR UPDATE) DO SET sql_mode = ''; END FOR", V | W, ""},
	{"SET NAMES latin1", V, ""},
	{"SET CHARACTER SET latin1", V, ""},
	{"SET ROLE r", V | K, ""},
	{"SET @@sql_mode = ''", V | D | X, ""},
	{"SET SESSION sql_mode = '', LOCAL time_zone = 'UTC'", V, ""},
	{"SET GLOBAL max_connections = 5", V | W, ""},
	{"SET SESSION TRANSACTION READ ONLY", V | X, ""},
	{"SET TRANSACTION READ ONLY", X, ""},
	{"SET autocommit = 0", V | X, ""},
	{"SET STATEMENT sql_mode = '' FOR SELECT 1", V, ""},
	{"SET STATEMENT sql_mode = '' FOR INSERT INTO t SET a = 1", V | W, ""},
	{"BEGIN DECLARE EXIT HANDLER FOR SQLEXCEPTION SET sql_mode = ''; SELECT 1; END", V, ""},
	/* temporary tables, transactions, DDL */
	{"CREATE TEMPORARY TABLE x (a INT, b VARCHAR(20), KEY k (a))", W | T, ""},
	{"CREATE OR REPLACE TEMPORARY TABLE x AS SELECT 1", W | T, ""},
	{"DROP TEMPORARY TABLE IF EXISTS x", W | T, ""},
	{"DROP TABLE x", W | T | X | F, ""},
	{"CREATE TABLE x (a INT)", W | X | F, ""},
	{"BEGIN START TRANSACTION; COMMIT; END", X, ""},
	{"BEGIN DECLARE EXIT HANDLER FOR 1062, SQLSTATE '23000', c ROLLBACK; SELECT 1; END", X, ""},
	{"IF 1 THEN TRUNCATE TABLE t; END IF", W | X, ""},
	{"FLUSH TABLES WITH READ LOCK", W | K | X, ""},
	{"XA START 'x'", K | X, ""},
	{"HANDLER t OPEN", K, ""},
	{"LOCK TABLES t WRITE", W | K | X, ""},
	/* anything */
	{"EXECUTE IMMEDIATE 'SELECT 1'", ALL, ""},
	{"BEGIN PREPARE s FROM 'SELECT 1'; EXECUTE s; END", ALL, ""},
	{"RETURN 'unfinished", ALL, ""},
	{"RETURN `a``b`", ALL, ""},
	/* what is called */
	{"RETURN f(g(1)) + db.h() + `i`()", 0, "f:f f:g f:db.h f:i"},
	{"RETURN 'f()' + /* g() */ 1", 0, ""},
	{"CALL p", 0, "p:p"},
	{"BEGIN CALL p(f(1)); CALL db.p (2); END", 0, "p:p f:f p:db.p"},
	{"CALL db.pkg.p()", ALL, ""},
	{"RETURN a.b.c()", ALL, ""},
	{"SELECT `dd`.`t`.`a` AS `a`,`fw`() AS `x`,count(0) AS `c` from (`dd`.`v` join `dd`.`t` on(`v`.`a` = 1))", 0,
	 "f:fw"},
};

static void texts(void **state)
{
	unsigned wrong = 0;

	(void)state;
	want_names = false;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		unsigned got = effects(rows[i].text, "", 0);
		if (got == rows[i].effects && strcmp(used, rows[i].uses) == 0)
			continue;
		print_error("%s\n  expected %u, %s\n  got      %u, %s\n", rows[i].text, rows[i].effects, rows[i].uses,
			    got, used);
		wrong++;
	}
	assert_int_equal(wrong, 0);
}

static void parameters_are_no_variables(void **state)
{
	(void)state;
	assert_int_equal(effects("SET x = 1, `y z` = 2", "x INT, OUT `y z` VARCHAR(3)", 0), 0);
	assert_int_equal(effects("SET X := 1", "x INT", 0), 0);
	assert_int_equal(effects("SET sql_mode = 1", "x INT", 0), V);
	assert_int_equal(effects("SET x = 1", "", 0), V);
}

static void the_mode_says_how_to_read(void **state)
{
	(void)state;
	assert_int_equal(effects("RETURN 'a\\' + f('b')", "", SQL_NO_BACKSLASH_ESCAPES), 0);
	assert_string_equal(used, "f:f");
	assert_int_equal(effects("RETURN 'a\\' + f('b')", "", 0), ALL);
	assert_int_equal(effects("RETURN \"f\"()", "", SQL_ANSI_QUOTES), 0);
	assert_string_equal(used, "f:f");
	assert_int_equal(effects("RETURN \"INSERT\"", "", 0), 0);
	assert_int_equal(effects("RETURN 1", "", SQL_ORACLE), ALL); /* x := 1 may set a system variable */
	assert_int_equal(effects("RETURN '\xb0\x5c' + 1", "", SQL_UNSAFE_CHARSET), ALL);
}

static void names_are_told(void **state)
{
	(void)state;
	want_names = true;
	effects("SELECT a FROM db.t", "", 0);
	assert_string_equal(used, "n:a n:db n:db.t n:t");
	effects("SET a = b.c", "a INT", 0);
	assert_string_equal(used, "");
	effects("CREATE TABLE t (a INT)", "", 0);
	assert_string_equal(used, "");
	effects("SELECT `t`.`select` FROM t", "", 0);
	assert_string_equal(used, "n:t n:t.select n:select n:t");
	want_names = false;
}

static void statements_of_clients(void **state)
{
	static const struct {
		const char *text;
		unsigned effects;
	} of[] = {
		{"BEGIN; INSERT INTO t VALUES (1)", W | X},
		{"BEGIN NOT ATOMIC SELECT 1; END", 0},
		{"FROBNICATE THE TABLE", ALL},
		{"SELECT 1; FROBNICATE", ALL},
		{"lbl: BEGIN NOT ATOMIC SELECT 1; END", 0},
		{"CREATE PROCEDURE p() SELECT GET_LOCK('a', 1)", W | X | F},
		{"CREATE DEFINER=`root`@`localhost` TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET @a = 1", W | X | F},
		{"ALTER EVENT e DO SET @a = 1", W | X | F},
		{"CREATE OR REPLACE VIEW v AS SELECT GET_LOCK('a', 1)", W | X | F},
		{"CREATE TABLE t AS SELECT GET_LOCK('a', 1)", W | X | F | K | D},
		{"CREATE TABLE t (function INT) SELECT @v", W | X | F | K | D},
		{"GRANT ALL ON *.* TO a@localhost, 'b'@'%'", W | X},
		{"SHOW TABLES", D},
		{"SHOW TABLES WHERE GET_LOCK('a', 1)", D | K},
		{"SELECT 'a' INTO @x", D | K},
		{"USE app", V},
		{"DEALLOCATE PREPARE s", K},
	};

	(void)state;
	for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
		struct body b = {.text = slice_str(of[i].text), .statement = true, .use = on_use};
		if (body_effects(&b) != of[i].effects)
			fail_msg("%s: %u, not %u", of[i].text, body_effects(&b), of[i].effects);
	}
}

/* Any text whatever ends. */
static void noise(void **state)
{
	static const char *const words[] = {"SET", "(", ")", ".", "a", "`b`", ",", ";", "CALL", "DECLARE", "FOR", "IN",
					    "@v", "@@x", "'s", "/*!", "*/", "CREATE", "=", "HANDLER", "\xc3", "IF"};
	char text[512];

	(void)state;
	srand(7);
	for (unsigned i = 0; i < 20000; i++) {
		text[0] = '\0';
		for (unsigned n = (unsigned)rand() % 30; n > 0; n--) {
			strcat(text, words[(unsigned)rand() % (sizeof words / sizeof *words)]);
			strcat(text, rand() % 2 ? " " : "");
		}
		effects(text, rand() % 2 ? text : "", (unsigned)rand() % 32);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts),
		cmocka_unit_test(parameters_are_no_variables),
		cmocka_unit_test(the_mode_says_how_to_read),
		cmocka_unit_test(names_are_told),
		cmocka_unit_test(statements_of_clients),
		cmocka_unit_test(noise),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
