-- The rows that every run begins with. Statements end with an empty line.
USE d

DELETE FROM t2

DELETE FROM t1

DELETE FROM m1

DELETE FROM a1

DELETE FROM g1

DELETE FROM u1

DELETE FROM log1

DELETE FROM tr1

DELETE FROM tok

DELETE FROM sess

DELETE FROM d2.x1

DELETE FROM d2.t1

DELETE FROM d3.r1

INSERT INTO t1 (id, a, b, c, d, e) SELECT seq, seq * 10 % 7, CONCAT('row ', seq), seq / 3,
	'2026-02-01' + INTERVAL seq DAY, ELT(seq % 3 + 1, 'x', 'y', 'z') FROM seq_1_to_9

INSERT INTO t2 (id, t1_id, v) SELECT seq, seq, seq * seq FROM seq_1_to_7

INSERT INTO m1 (id, v, s) SELECT seq, seq, CONCAT('m', seq) FROM seq_1_to_6

INSERT INTO a1 (id, v, s) SELECT seq, seq, CONCAT('a', seq) FROM seq_1_to_6

INSERT INTO g1 (id, x) SELECT seq, seq * 3 FROM seq_1_to_6

INSERT INTO u1 (id, k, n) SELECT seq, seq, seq FROM seq_1_to_6

INSERT INTO log1 (id, who, what) VALUES (1, 'rows', 'first')

INSERT INTO tok (id, token, member_id) SELECT seq, CONCAT('tok', seq), 1 + seq % 3 FROM seq_1_to_8

INSERT INTO sess (id, member_id, body) SELECT seq, 1 + seq % 3, CONCAT('body ', seq) FROM seq_1_to_8

INSERT INTO d2.x1 (id, a, b) VALUES (1, 1, 'one'), (2, 2, 'two')

INSERT INTO d2.t1 (id, a, b) VALUES (1, 1, 'other one'), (2, 2, 'other two')

INSERT INTO d3.r1 VALUES (1, 1), (2, 4)
