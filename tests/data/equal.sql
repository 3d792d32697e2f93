-- Statements whose answers must be the same with and without the proxy; see tests/support/transcript.c for the form.
-- The schema is `scratch`, empty at the start. Nothing here may depend on the time, the connection or the server.

-- --- plain reads ---
SELECT 1;
SELECT 1 AS one, 'two' AS two, NULL AS none, 3.50 AS num, 1e3 AS dbl;
SELECT 'it''s', "double ""quoted""", 'back\\slash', 'tab\there', '';
SELECT X'4D7953514C', 0x4142, b'1010', N'national', _latin1'abc';
SELECT 1 -- trailing comment
;
/* leading comment */ SELECT 2;
SELECT /* inner */ 3 /*! + 1 */ /*!999999 + 100 */;
SELECT /*M! 10 + */ 5;
# a hash comment
SELECT 6;
  	SELECT	7;
(SELECT 8);
(SELECT 9) UNION (SELECT 10) ORDER BY 1 DESC;
SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3;
SELECT 1 EXCEPT SELECT 2;
SELECT 1 INTERSECT SELECT 1;
VALUES (1, 'a'), (2, 'b');
WITH c AS (SELECT 1 AS a UNION SELECT 2) SELECT a, a * 2 FROM c ORDER BY a;
WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 20) SELECT n FROM r;
SELECT * FROM (SELECT 1 AS a, 2 AS b) AS d;
SELECT 1 FROM DUAL WHERE 1 = 0;
SELECT -9223372036854775808, 18446744073709551615, 12345678901234567890.123456789;
SELECT CAST('2024-02-29' AS DATE), CAST('23:59:59.123456' AS TIME(6)), CAST('2024-02-29 12:00:00' AS DATETIME);
SELECT CAST(1 AS UNSIGNED), CAST(-1 AS SIGNED), CAST('12.345' AS DECIMAL(10, 2)), CAST('abc' AS BINARY(5));
SELECT IF(1, 'yes', 'no'), IFNULL(NULL, 5), NULLIF(1, 1), COALESCE(NULL, NULL, 7), CASE 3 WHEN 3 THEN 'three' END;
SELECT CONCAT('a', 'b'), CONCAT_WS('-', 'x', 'y'), LENGTH('äöü'), CHAR_LENGTH('äöü'), UPPER('straße'), REVERSE('abc');
SELECT '日本語', '🐘 emoji', HEX('🐘');
SELECT SUBSTRING('abcdef', 2, 3), LEFT('abc', 1), RIGHT('abc', 1), TRIM('  x  '), LPAD('7', 3, '0'), REPLACE('aba', 'a', 'c');
SELECT MD5('x'), SHA1('x'), SHA2('x', 256), CRC32('x'), TO_BASE64('hello'), FROM_BASE64('aGVsbG8=');
SELECT ABS(-5), ROUND(2.567, 2), FLOOR(2.9), CEIL(2.1), MOD(10, 3), POW(2, 10), SQRT(16), PI(), SIGN(-3);
SELECT 1/3, 10 DIV 3, 10 % 4, 7 & 3, 7 | 8, 7 ^ 1, ~0, 1 << 4;
SELECT 1 = 1, 1 <=> NULL, NOT 1, 1 AND 0, 1 OR 0, 1 XOR 1, 5 BETWEEN 1 AND 10, 'abc' LIKE 'a%', 'abc' REGEXP '^a';
SELECT DATE_ADD('2024-01-31', INTERVAL 1 MONTH), DATEDIFF('2024-03-01', '2024-02-01'), DAYNAME('2024-02-29');
SELECT JSON_EXTRACT('{"a": [1, 2, {"b": 3}]}', '$.a[2].b'), JSON_OBJECT('k', 'v'), JSON_VALID('{');
SELECT GREATEST(1, 5, 3), LEAST(4, 2, 8), INTERVAL(23, 1, 15, 17, 30), FIELD('b', 'a', 'b'), ELT(2, 'x', 'y');
-- (CONCAT: a server marks BIN(), OCT() and CONV() unsigned from the second execute on a connection on)
SELECT INET_ATON('10.0.0.1'), INET_NTOA(167772161), HEX(INET6_ATON('::1')), CONCAT(BIN(5), OCT(8), CONV('ff', 16, 10));
SELECT REPEAT('x', 300), REPEAT('yz', 40000);
SELECT SPACE(10), ASCII('A'), CHAR(77, 121), ORD('é'), SOUNDEX('hello'), STRCMP('a', 'b');

-- --- errors ---
SELEC 1;
SELECT * FROM no_such_table;
SELECT * FROM no_such_db.t;
SELECT no_such_column;
SELECT no_such_function(1);
SELECT 'unterminated;
SELECT 1 FROM;
SELECT (SELECT 1 UNION SELECT 2);
SELECT 1 +;
SELECT ABS();
;
SELECT CAST('x' AS NOTYPE);
SELECT 9223372036854775807 + 1;
SELECT EXP(1000);
UPDATE no_such_table SET a = 1;
INSERT INTO no_such_table VALUES (1);
DROP TABLE no_such_table;
USE no_such_db;
SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'raised by hand', MYSQL_ERRNO = 12345;
SELECT * FROM mysql.user;
SET GLOBAL max_connections = 5;

-- --- warnings ---
SELECT 1/0;
SELECT CAST('12abc' AS SIGNED), CAST('x' AS DECIMAL);
SELECT '5 apples' + 3;
SELECT STR_TO_DATE('2024-13-45', '%Y-%m-%d');
DROP TABLE IF EXISTS no_such_table, no_such_table_either;
SHOW WARNINGS;
SHOW COUNT(*) WARNINGS;
SELECT @@warning_count;
SHOW ERRORS;
SELECT no_such_column;
SHOW ERRORS;
SHOW WARNINGS LIMIT 1;

-- --- tables of every type ---
CREATE TABLE kinds (
	id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
	ti TINYINT, si SMALLINT UNSIGNED, mi MEDIUMINT, bi BIGINT UNSIGNED ZEROFILL,
	de DECIMAL(20, 6), fl FLOAT, db DOUBLE, bt BIT(10),
	da DATE, ti6 TIME(6), dt DATETIME(3), ts TIMESTAMP NULL, ye YEAR,
	ch CHAR(10), vc VARCHAR(200) COLLATE utf8mb4_unicode_ci, bn BINARY(4), vb VARBINARY(20),
	tt TINYTEXT, tx TEXT, lt LONGTEXT, bl BLOB,
	en ENUM('red', 'green', 'blue'), se SET('a', 'b', 'c'), js JSON, gp POINT, uu UUID, i6 INET6
);
INSERT INTO kinds (ti, si, mi, bi, de, fl, db, bt, da, ti6, dt, ts, ye, ch, vc, bn, vb, tt, tx, lt, bl, en, se, js, gp, uu, i6)
	VALUES (-128, 65535, -8388608, 42, 12345678901234.567890, 1.5, 2.25e-10, b'1010101010',
	'2024-02-29', '-838:59:59.999999', '2024-02-29 23:59:59.999', '2024-02-29 12:00:00', 2024,
	'pad', 'Grüße', 'ab', X'00FF10', 'tiny', 'text\nwith lines', 'long', X'DEADBEEF00',
	'green', 'a,c', '{"k": [1, 2]}', POINT(1, 2), '123e4567-e89b-12d3-a456-426655440000', '2001:db8::1');
INSERT INTO kinds () VALUES ();
SELECT * FROM kinds ORDER BY id;
SELECT id, ti, de, da, en FROM kinds WHERE id = 1;
SELECT k.id AS number, k.vc title, UPPER(k.vc) FROM scratch.kinds AS k WHERE k.vc LIKE 'Gr%';
SELECT COUNT(*), SUM(ti), AVG(de), MIN(da), MAX(vc), GROUP_CONCAT(id ORDER BY id) FROM kinds;
SELECT ST_AsText(gp), HEX(bl), bt + 0, se + 0, en + 0 FROM kinds WHERE id = 1;
DESCRIBE kinds;
SHOW COLUMNS FROM kinds LIKE 't%';
SHOW CREATE TABLE kinds;
SHOW TABLES;
SHOW INDEX FROM kinds;
EXPLAIN SELECT * FROM kinds WHERE id = 1;
SHOW FULL COLUMNS FROM kinds WHERE Field = 'vc';
--@@ field_list

-- --- writes and what they answer ---
CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a INT, b VARCHAR(50), UNIQUE KEY (a));
INSERT INTO t (a, b) VALUES (1, 'one');
SELECT LAST_INSERT_ID();
INSERT INTO t (a, b) VALUES (2, 'two'), (3, 'three'), (4, 'four');
SELECT LAST_INSERT_ID(), ROW_COUNT();
SELECT * FROM t ORDER BY id;
INSERT INTO t (a, b) VALUES (1, 'again');
SHOW WARNINGS;
SELECT * FROM t ORDER BY id;
INSERT IGNORE INTO t (a, b) VALUES (1, 'again'), (7, 'seven');
INSERT INTO t (a, b) VALUES (1, 'uno') ON DUPLICATE KEY UPDATE b = VALUES(b);
REPLACE INTO t (a, b) VALUES (2, 'dos');
SELECT a, b FROM t ORDER BY a;
UPDATE t SET b = 'x' WHERE a = 3;
UPDATE t SET b = 'x' WHERE a = 3;
UPDATE t SET b = 'y' WHERE a = 99;
UPDATE t SET b = CONCAT(b, '!') ORDER BY a LIMIT 2;
SELECT a, b FROM t ORDER BY a;
DELETE FROM t WHERE a = 4;
DELETE FROM t WHERE a = 4;
SELECT ROW_COUNT();
INSERT INTO t (a, b) VALUES (50, 'returned') RETURNING id, a, UPPER(b) AS loud;
DELETE FROM t WHERE a = 50 RETURNING *;
INSERT INTO t (a, b) SELECT a + 100, b FROM t WHERE a < 10;
SELECT COUNT(*) FROM t;
INSERT INTO t (b) VALUES (REPEAT('z', 60));
INSERT IGNORE INTO t (b) VALUES (REPEAT('z', 60));
INSERT INTO t (a) VALUES ('not a number');
INSERT INTO t VALUES (1, 2);
SELECT a, b FROM t WHERE a > (SELECT MIN(a) FROM t) ORDER BY a;
SELECT t.a, u.b FROM t JOIN t AS u ON u.id = t.id LEFT JOIN kinds k ON k.id = t.id ORDER BY t.id LIMIT 5;
SELECT a FROM t WHERE EXISTS (SELECT 1 FROM kinds WHERE kinds.id = t.id) ORDER BY a;
SELECT a, COUNT(*) n FROM t GROUP BY a WITH ROLLUP HAVING n > 0 ORDER BY a;
SELECT DISTINCT LENGTH(b) FROM t ORDER BY 1;
SELECT a, ROW_NUMBER() OVER (ORDER BY a) FROM t ORDER BY a LIMIT 4;
SELECT SQL_CALC_FOUND_ROWS a FROM t ORDER BY a LIMIT 2;
SELECT FOUND_ROWS();
SELECT a FROM t ORDER BY a LIMIT 3 OFFSET 1;
SELECT a FROM t WHERE a IS NULL;
TRUNCATE TABLE kinds;
SELECT COUNT(*) FROM kinds;
ALTER TABLE t ADD COLUMN c DATETIME NULL DEFAULT '2020-01-01', ADD KEY (b);
SELECT * FROM t ORDER BY id LIMIT 1;
ALTER TABLE t DROP COLUMN no_such_column;
RENAME TABLE t TO t2, t2 TO t;
RENAME TABLE t TO t3;
SELECT COUNT(*) FROM t3;
RENAME TABLE t3 TO t;
CREATE OR REPLACE VIEW v AS SELECT a, b FROM t WHERE a < 10;
SELECT * FROM v ORDER BY a;
UPDATE v SET b = 'via view' WHERE a = 1;
SELECT b FROM t WHERE a = 1;
CREATE INDEX i ON t (c);
ANALYZE TABLE t;
CHECK TABLE t;

-- --- transactions ---
BEGIN;
INSERT INTO t (a, b) VALUES (200, 'in transaction');
SELECT b FROM t WHERE a = 200;
ROLLBACK;
SELECT b FROM t WHERE a = 200;
START TRANSACTION;
UPDATE t SET b = 'kept' WHERE a = 2;
SAVEPOINT s1;
UPDATE t SET b = 'dropped' WHERE a = 2;
ROLLBACK TO SAVEPOINT s1;
RELEASE SAVEPOINT s1;
SELECT b FROM t WHERE a = 2 FOR UPDATE;
COMMIT;
SELECT b FROM t WHERE a = 2;
START TRANSACTION READ ONLY;
SELECT COUNT(*) FROM t;
UPDATE t SET b = 'no' WHERE a = 2;
COMMIT;
START TRANSACTION WITH CONSISTENT SNAPSHOT;
SELECT MAX(a) FROM t;
COMMIT AND CHAIN;
SELECT MIN(a) FROM t;
ROLLBACK;
SET autocommit = 0;
INSERT INTO t (a, b) VALUES (201, 'autocommit off');
SELECT b FROM t WHERE a = 201;
ROLLBACK;
SELECT b FROM t WHERE a = 201;
COMMIT;
SET autocommit = 1;
SELECT @@autocommit, @@in_transaction;
SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE;
SELECT @@tx_isolation;
SELECT b FROM t WHERE a = 1;
SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ;
SET TRANSACTION READ ONLY;
SELECT b FROM t WHERE a = 1;
ROLLBACK TO SAVEPOINT nowhere;
BEGIN;
CREATE TABLE implicit_commit (a INT);
ROLLBACK;
SELECT COUNT(*) FROM implicit_commit;
SELECT b FROM t WHERE a = 1 LOCK IN SHARE MODE;
LOCK TABLES t WRITE, kinds READ;
SELECT COUNT(*) FROM t;
SELECT COUNT(*) FROM v;
INSERT INTO kinds () VALUES ();
UNLOCK TABLES;
XA START 'x1';
INSERT INTO t (a, b) VALUES (300, 'xa');
XA END 'x1';
XA PREPARE 'x1';
XA ROLLBACK 'x1';
SELECT COUNT(*) FROM t WHERE a = 300;

-- --- session state ---
SET @v = 5, @w := 'text';
SELECT @v, @w, @unset;
SELECT @v := @v + 1;
SELECT @v;
SET @sum = (SELECT SUM(a) FROM t WHERE a < 10);
SELECT @sum;
SELECT b INTO @b FROM t WHERE a = 1;
SELECT @b;
SET sql_mode = 'ANSI_QUOTES';
SELECT "a", 'x' FROM "t" WHERE "a" = 1;
SET sql_mode = 'NO_BACKSLASH_ESCAPES';
SELECT 'a\', 'b';
SET sql_mode = 'PIPES_AS_CONCAT,NO_ZERO_DATE';
SELECT 'a' || 'b', @@sql_mode;
SET sql_mode = DEFAULT;
SELECT 'a' || 'b', @@sql_mode;
SET time_zone = '+05:30';
SELECT FROM_UNIXTIME(0), @@time_zone;
SET time_zone = 'nowhere';
SET time_zone = '+00:00';
SELECT FROM_UNIXTIME(0);
SET timestamp = 1700000000;
SELECT NOW(), CURDATE(), UNIX_TIMESTAMP(), NOW(6);
SET timestamp = DEFAULT;
SET NAMES latin1;
SELECT 'ä', @@character_set_client, @@collation_connection;
SET NAMES utf8mb4 COLLATE utf8mb4_bin;
SELECT 'A' = 'a', @@collation_connection;
SET NAMES utf8mb4;
SELECT 'A' = 'a', @@collation_connection;
SET character_set_results = NULL;
SELECT 'ü';
SET character_set_results = 'utf8mb4';
SET SESSION sql_select_limit = 2;
SELECT seq FROM seq_1_to_10;
SET SESSION sql_select_limit = DEFAULT;
SET SESSION group_concat_max_len = 4;
SELECT GROUP_CONCAT(seq ORDER BY seq) FROM seq_1_to_10;
SET SESSION group_concat_max_len = DEFAULT;
SET SESSION no_such_variable = 1;
SET SESSION max_join_size = 'x';
SET lc_messages = 'de_DE';
SELECT no_such_column_again;
SET lc_messages = 'en_US';
SET SESSION div_precision_increment = 10;
SELECT 1 / 7;
SET SESSION div_precision_increment = DEFAULT, SESSION wait_timeout = 1000;
SELECT @@wait_timeout, @@div_precision_increment;
SET STATEMENT max_statement_time = 5 FOR SELECT 1;
SELECT DATABASE(), SCHEMA(), USER() LIKE 'app@%', CURRENT_USER();
USE app;
SELECT DATABASE();
SELECT COUNT(*) FROM members;
SELECT token, member_id, scope, revoked FROM access_token WHERE token = MD5('token-5');
SELECT token, member_id, scope, revoked FROM access_token WHERE token = 'e7d12e4ff8b80a10b5b1b5ad8ea2cd6c';
SELECT member_id FROM app.access_token WHERE token = '9e8fac81545e8791c9ec93367373aca1' AND revoked = 0;
SELECT member_id FROM app.access_token WHERE token = '9e8fac81545e8791c9ec93367373aca1' AND revoked = 0;
SELECT member_id FROM app.access_token WHERE token = '9e8fac81545e8791c9ec93367373aca1' AND expires_at > NOW();
SELECT * FROM access_token WHERE token = 'nobody has this';
SELECT * FROM access_token WHERE token = 'nobody has this';
USE scratch;
--@@ init_db
SELECT DATABASE();
SELECT COUNT(*) FROM articles;
--@@ init_db_wrong
SELECT DATABASE();
--@@ init_db_back
SELECT DATABASE();
--@@ ping
CREATE TEMPORARY TABLE tmp (a INT PRIMARY KEY, b VARCHAR(10));
INSERT INTO tmp VALUES (1, 'x'), (2, 'y');
SELECT * FROM tmp ORDER BY a;
SELECT t.b, tmp.b FROM t JOIN tmp USING (a) ORDER BY 1;
DROP TEMPORARY TABLE tmp;
SELECT * FROM tmp;
SELECT GET_LOCK('st_equal', 1), IS_FREE_LOCK('st_equal'), RELEASE_LOCK('st_equal');

-- --- prepared in text ---
PREPARE s FROM 'SELECT a, b FROM t WHERE a = ?';
SET @a = 2;
EXECUTE s USING @a;
EXECUTE s;
DEALLOCATE PREPARE s;
EXECUTE s USING @a;
EXECUTE IMMEDIATE 'SELECT 5';

-- --- routines, triggers, sequences ---
CREATE PROCEDURE two() BEGIN SELECT 1 AS first; SELECT 2 AS second, 'x' AS third; END;
CALL two();
CREATE PROCEDURE setv(INOUT x INT) SET x = x * 2;
SET @x = 21;
CALL setv(@x);
SELECT @x;
CREATE FUNCTION plus_one(x INT) RETURNS INT DETERMINISTIC RETURN x + 1;
SELECT plus_one(41);
CALL no_such_procedure();
CREATE TABLE log (id INT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(100));
CREATE TRIGGER t_log AFTER UPDATE ON t FOR EACH ROW INSERT INTO log (what) VALUES (CONCAT(OLD.b, ' -> ', NEW.b));
UPDATE t SET b = 'triggered' WHERE a = 2;
SELECT * FROM log ORDER BY id;
CREATE SEQUENCE sq START WITH 10;
SELECT NEXTVAL(sq), NEXT VALUE FOR sq;
SELECT LASTVAL(sq);
SELECT SETVAL(sq, 100), NEXTVAL(sq);
DO SLEEP(0);
BEGIN NOT ATOMIC SELECT 1; SELECT 2; END;
HANDLER t OPEN;
HANDLER t READ FIRST;
HANDLER t CLOSE;
SHOW CREATE PROCEDURE no_such_procedure;
SHOW PROCEDURE STATUS LIKE 'tw%_none';

-- --- several statements in one packet, several results ---
SELECT 1; SELECT 2;
SELECT 1; SELECT no_such_column; SELECT 3;
INSERT INTO log (what) VALUES ('a'); INSERT INTO log (what) VALUES ('b'), ('c'); SELECT COUNT(*) FROM log;
SET @m = 1; SELECT @m;
BEGIN; INSERT INTO log (what) VALUES ('d'); COMMIT; SELECT COUNT(*) FROM log;
CALL two(); SELECT 'after';
--@@ multi_off
SELECT 1; SELECT 2;
SELECT 3;
--@@ multi_on
SELECT 1; SELECT 2;

-- --- hints in comments ---
/* sidetrack: primary */ SELECT COUNT(*) FROM t;
/* sidetrack: replica */ SELECT 1;
/* sidetrack: no-cache */ SELECT member_id FROM app.access_token WHERE token = '9e8fac81545e8791c9ec93367373aca1';

-- --- parameters ---
--@ i:2
SELECT a, b FROM t WHERE a = ?;
--@ i:2 s:triggered
SELECT a, b FROM t WHERE a = ? AND b = ?;
--@ s:abc d:1.5 n i:-7
SELECT ?, ?, ?, ?;
--@ s:9e8fac81545e8791c9ec93367373aca1
SELECT member_id, scope FROM app.access_token WHERE token = ?;
--@ s:nobody-has-this
SELECT member_id, scope FROM app.access_token WHERE token = ?;
--@ i:3
SELECT seq FROM seq_1_to_10 WHERE seq <= ? ORDER BY seq;
--@ i:900 s:prepared
INSERT INTO t (a, b) VALUES (?, ?) ON DUPLICATE KEY UPDATE b = 'twice';
--@ i:900
SELECT a, b FROM t WHERE a = ?;
--@ s:prepared-update i:900
UPDATE t SET b = ? WHERE a = ?;
--@ i:900
DELETE FROM t WHERE a = ?;
--@ s:x
INSERT INTO no_such_table VALUES (?);
--@ i:1
SELECT no_such_column FROM t WHERE a = ?;
--@ i:5
SELECT ? + no_such_function(1);
--@ i:2
SELECT a FROM t ORDER BY a LIMIT ?;
--@ i:20
CALL setv(?);
--@ d:2.5 d:4
SELECT ? * ?, ROUND(?, 1);

-- --- reset, change user ---
SET @kept = 1, SESSION sql_select_limit = 1;
--@@ reset
SELECT @kept, @@sql_select_limit;
SELECT DATABASE();
SET @kept = 1;
USE app;
--@@ change_user
SELECT @kept, DATABASE(), CURRENT_USER();
SELECT COUNT(*) FROM t;
--@@ change_user_wrong
