-- The lab's accounts and data, loaded once into the template that every lab is copied from (lab.sh).
-- @rows: how many tokens.

DELETE FROM mysql.global_priv WHERE User = 'root' AND Host <> 'localhost';
FLUSH PRIVILEGES;
ALTER USER root@localhost IDENTIFIED BY 'lab-root';

-- What Sidetrack's monitor account needs. Roles, replication progress, GTID positions; account hashes and routines;
-- and to see columns, triggers and views in the dictionary, but no rows.
CREATE USER monitor IDENTIFIED BY 'lab-monitor';
GRANT SLAVE MONITOR, BINLOG MONITOR ON *.* TO monitor;
GRANT SELECT ON mysql.* TO monitor;
GRANT REFERENCES, TRIGGER, SHOW VIEW ON *.* TO monitor;

CREATE USER repl IDENTIFIED BY 'lab-repl';
GRANT REPLICATION SLAVE ON *.* TO repl;

CREATE DATABASE app CHARACTER SET utf8mb4;
-- Empty: tests may fill it.
CREATE DATABASE scratch CHARACTER SET utf8mb4;
CREATE USER app IDENTIFIED BY 'lab-app';
GRANT ALL ON app.* TO app;
GRANT ALL ON scratch.* TO app;
CREATE USER other IDENTIFIED BY 'lab-other';
GRANT ALL ON app.* TO other;
GRANT ALL ON scratch.* TO other;

USE app;
CREATE TABLE members (
	id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
	email VARCHAR(190) NOT NULL UNIQUE,
	name VARCHAR(100) NOT NULL,
	last_seen DATETIME NULL,
	created_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP
);
INSERT INTO members (id, email, name, created_at)
	SELECT seq, CONCAT('member', seq, '@example.org'), CONCAT('Member ', seq), NOW() - INTERVAL seq MINUTE
	FROM seq_1_to_20000;

-- The one token table that everybody reads. The token of row n is MD5('token-n'); every tenth has expired.
CREATE TABLE access_token (
	id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
	token VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL UNIQUE,
	member_id INT UNSIGNED NOT NULL,
	scope VARCHAR(100) NOT NULL DEFAULT 'member',
	revoked TINYINT(1) NOT NULL DEFAULT 0,
	expires_at DATETIME NOT NULL,
	created_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
	KEY (member_id),
	KEY (expires_at)
);
EXECUTE IMMEDIATE CONCAT('INSERT INTO access_token (id, token, member_id, scope, expires_at, created_at)
	SELECT seq, MD5(CONCAT("token-", seq)), 1 + seq % 20000, IF(seq % 7 = 0, "member,admin", "member"),
		NOW() + INTERVAL IF(seq % 10 = 0, -1, 365) DAY + INTERVAL seq SECOND - INTERVAL 3 DAY, NOW() - INTERVAL 5 DAY
	FROM seq_1_to_', @rows);

CREATE TABLE articles (
	id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
	member_id INT UNSIGNED NOT NULL,
	title VARCHAR(200) NOT NULL,
	body TEXT NOT NULL,
	views INT UNSIGNED NOT NULL DEFAULT 0,
	KEY (member_id)
);
INSERT INTO articles (member_id, title, body)
	SELECT 1 + seq % 20000, CONCAT('Article ', seq), REPEAT(CONCAT('Words of article ', seq, '. '), 20)
	FROM seq_1_to_2000;
