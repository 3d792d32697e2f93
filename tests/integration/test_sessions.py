#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Session state over shared server connections; reads are never older than writes; who may log in."""
import threading

import pymysql
from pymysql.constants import CLIENT

from harness import Lab, Proxy, connect_to, rows, run, value, wait_until
from wire import EXECUTE, Refused, Wire


def error_of(call, *args, **more):
    try:
        call(*args, **more)
    except pymysql.MySQLError as e:
        return e
    raise AssertionError("no error: %r" % (args,))


def at(proxy, server):
    return proxy.metric("sidetrack_statements_total", server=server)


def at_replicas(proxy):
    return proxy.routed()["replica"]


def wait_replicas(proxy, sql="SELECT title FROM articles WHERE id = 1"):
    """Until reads of what sql reads are at replicas."""
    with proxy.connect() as c:
        def there():
            before = at_replicas(proxy)
            rows(c, sql)
            return at_replicas(proxy) > before
        wait_until(there, "replicas serve " + sql)


# --- one session's state ---

def test_variables_follow(lab, proxy):
    wait_replicas(proxy)
    read = "SELECT COUNT(*) FROM articles"  # moves to a replica in between
    with proxy.connect() as c:
        for setting, ask, want in (
                ("SET NAMES latin1 COLLATE latin1_german2_ci", "SELECT @@collation_connection", "latin1_german2_ci"),
                ("SET NAMES utf8mb4", "SELECT @@character_set_results", "utf8mb4"),
                ("SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'", "SELECT @@sql_mode",
                 "ANSI_QUOTES,NO_BACKSLASH_ESCAPES"),
                ("SET time_zone = '-03:30'", "SELECT @@time_zone", "-03:30"),
                ("SET SESSION group_concat_max_len = 4321", "SELECT @@group_concat_max_len", 4321),
                ("SET @a = 5, @b := 6", "SELECT @a + @b", 11),
                ("SET lc_time_names = 'de_DE'", "SELECT DATE_FORMAT('2026-03-01', '%M')", "März")):
            rows(c, setting)
            for _ in range(5):
                rows(c, read)
                assert value(c, ask) == want, (setting, value(c, ask))


def test_a_replica_sees_the_state(lab, proxy):
    wait_replicas(proxy)
    with proxy.connect() as c:
        rows(c, "SET time_zone = '+07:00', sql_mode = 'ANSI_QUOTES', NAMES latin1")
        for n in range(20):
            before = at_replicas(proxy)
            sql = 'SELECT FROM_UNIXTIME(0), HEX("title"), COLLATION(\'x\') FROM articles WHERE id = %d' % (n + 1)
            row = rows(c, sql)[0]
            assert str(row[0]) == "1970-01-01 07:00:00" and row[2].startswith("latin1"), row
            assert row[1] == ("Article %d" % (n + 1)).encode().hex().upper()
            assert at_replicas(proxy) == before + 1


def test_autocommit_off(lab, proxy):
    with proxy.connect() as c, proxy.connect() as other:
        rows(c, "SET autocommit = 0")
        before = at_replicas(proxy)
        rows(c, "UPDATE members SET name = 'open' WHERE id = 11")
        assert value(c, "SELECT name FROM members WHERE id = 11") == "open"
        assert at_replicas(proxy) == before
        assert value(other, "SELECT name FROM members WHERE id = 11") != "open"
        rows(c, "ROLLBACK")
        assert value(c, "SELECT name FROM members WHERE id = 11") != "open"
        rows(c, "UPDATE members SET name = 'shut' WHERE id = 11")
        rows(c, "SET autocommit = 1")
        assert value(other, "SELECT name FROM members WHERE id = 11") == "shut"


def test_temporary_tables_and_locks(lab, proxy):
    with proxy.connect() as c, proxy.connect() as other:
        rows(c, "CREATE TEMPORARY TABLE articles (id INT, title TEXT)")  # hides the real one
        rows(c, "INSERT INTO articles VALUES (1, 'mine')")
        for _ in range(5):
            assert rows(c, "SELECT title FROM articles") == [("mine",)]
            assert value(other, "SELECT title FROM articles WHERE id = 1") == "Article 1"
        rows(c, "DROP TEMPORARY TABLE articles")
        assert value(c, "SELECT title FROM articles WHERE id = 1") == "Article 1"
        assert value(c, "SELECT GET_LOCK('st', 0)") == 1 and value(other, "SELECT GET_LOCK('st', 0)") == 0
        assert value(c, "SELECT RELEASE_LOCK('st')") == 1 and value(other, "SELECT GET_LOCK('st', 0)") == 1
        rows(c, "LOCK TABLES members WRITE")
        assert error_of(rows, c, "SELECT * FROM articles").args[0] == 1100
        rows(other, "SET lock_wait_timeout = 1")
        assert error_of(rows, other, "UPDATE members SET name = 'x' WHERE id = 1").args[0] == 1205
        rows(c, "UNLOCK TABLES")
        rows(other, "UPDATE members SET name = 'x' WHERE id = 1")


def test_transactions(lab, proxy):
    wait_replicas(proxy)
    with proxy.connect() as c:
        rows(c, "START TRANSACTION")
        rows(c, "UPDATE members SET name = 'one' WHERE id = 12")
        rows(c, "SAVEPOINT s")
        rows(c, "UPDATE members SET name = 'two' WHERE id = 12")
        rows(c, "ROLLBACK TO SAVEPOINT s")
        assert value(c, "SELECT name FROM members WHERE id = 12") == "one"
        rows(c, "COMMIT")
        assert value(c, "SELECT name FROM members WHERE id = 12") == "one"
        # InnoDB makes that table anew only when nobody has read it for 100 ms.
        levels = "DO SLEEP(0.2)", "SELECT trx_isolation_level FROM information_schema.innodb_trx"
        rows(c, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        rows(c, "BEGIN")
        rows(c, "SELECT * FROM members WHERE id = 12")
        wait_until(lambda: ("SERIALIZABLE",) in lab.primary.sql(*levels))
        rows(c, "COMMIT")
        rows(c, "BEGIN")
        rows(c, "SELECT * FROM members WHERE id = 12")
        wait_until(lambda: lab.primary.sql(*levels) == [("REPEATABLE READ",)])
        rows(c, "COMMIT")
        rows(c, "XA START 'x'")
        rows(c, "UPDATE members SET name = 'xa' WHERE id = 12")
        rows(c, "XA END 'x'")
        rows(c, "XA PREPARE 'x'")
        rows(c, "XA COMMIT 'x'")
        assert value(c, "SELECT name FROM members WHERE id = 12") == "xa"


def test_read_only_transaction_is_at_one_replica(lab, proxy):
    wait_replicas(proxy)
    before = {s.name: at(proxy, s.name) for s in [lab.primary] + lab.replicas}
    with proxy.connect() as c:
        rows(c, "START TRANSACTION READ ONLY")
        seen = {value(c, "SELECT /* %d */ COUNT(*) FROM articles" % n) for n in range(20)}
        assert error_of(rows, c, "UPDATE members SET name = 'x' WHERE id = 1").args[0] == 1792
        rows(c, "COMMIT")
        assert len(seen) == 1
    more = sorted(at(proxy, s.name) - before[s.name] for s in [lab.primary] + lab.replicas)
    assert more[0] == 0 and more[2] >= 22, more


def test_diagnostics_ask_who_ran_it(lab, proxy):
    wait_replicas(proxy)
    with proxy.connect() as c:
        for _ in range(10):
            rows(c, "SELECT CAST('12x' AS SIGNED) FROM articles WHERE id = 1")
            assert "12x" in rows(c, "SHOW WARNINGS")[0][2]
            assert value(c, "SELECT @@warning_count") == 1
            rows(c, "SELECT SQL_CALC_FOUND_ROWS id FROM articles LIMIT 3")
            assert value(c, "SELECT FOUND_ROWS()") == 2000
            rows(c, "UPDATE members SET name = CONCAT('n', RAND()) WHERE id IN (1, 2, 3)")
            assert value(c, "SELECT ROW_COUNT()") == 3
            error_of(rows, c, "SELECT * FROM no_such_table")
            assert rows(c, "SHOW ERRORS")[0][1] == 1146


# --- many sessions over few connections ---

def in_threads(n, work):
    errors = []

    def guarded(number):
        try:
            work(number)
        except Exception as e:  # told below
            errors.append((number, e))

    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors, errors[:3]


def few(lab):
    return {"server.%s" % s.name: {"max_connections": 4} for s in [lab.primary] + lab.replicas}


def test_user_variables_are_ones_own(lab):
    with Proxy(lab, few(lab)) as proxy:
        def work(number):
            for n in range(10):
                with proxy.connect() as c:
                    assert rows(c, "SELECT @mine, @@time_zone, @@sql_mode LIKE '%ANSI%'") == [(None, "SYSTEM", 0)]
                    rows(c, "SET @mine = %d, time_zone = '+01:00', sql_mode = 'ANSI_QUOTES'" % number)
                    rows(c, "BEGIN")
                    rows(c, "UPDATE members SET name = 'n%d' WHERE id = %d" % (n, 100 + number))
                    assert value(c, "SELECT @mine") == number
                    rows(c, "COMMIT")
                    assert value(c, "SELECT @mine") == number and value(c, "SELECT @@time_zone") == "+01:00"

        in_threads(20, work)


def test_twenty_sessions_of_different_state(lab):
    zones = ["%+03d:00" % h for h in range(-10, 11)]
    with Proxy(lab, few(lab)) as proxy:
        wait_replicas(proxy)

        def work(number):
            schema = ("app", "scratch", None)[number % 3]
            with proxy.connect(db=schema) as c:
                rows(c, "SET time_zone = '%s', group_concat_max_len = %d" % (zones[number], 1000 + number))
                if number % 4 == 0:
                    rows(c, "SET sql_mode = 'ANSI_QUOTES'")
                for n in range(40):
                    assert rows(c, "SELECT @@time_zone, @@group_concat_max_len, DATABASE()") \
                        == [(zones[number], 1000 + number, schema)]
                    hour = rows(c, "SELECT HOUR(FROM_UNIXTIME(43200)), title FROM app.articles WHERE id = 3")[0][0]
                    assert hour == (12 + int(zones[number][:3])) % 24, (hour, zones[number])
                    if number % 4 == 0:
                        assert error_of(rows, c, 'SELECT "x"').args[0] == 1054
                    else:
                        assert value(c, 'SELECT "x"') == "x"

        in_threads(20, work)


def test_users_share_what_there_is(lab):
    with Proxy(lab, few(lab)) as proxy:
        def work(number):
            user = ("app", "other")[number % 2]
            for _ in range(4):
                with proxy.connect(user=user) as c:
                    for n in range(20):
                        rows(c, "UPDATE members SET name = 'n%d' WHERE id = %d" % (n, 100 + number))
                        assert value(c, "SELECT SUBSTRING_INDEX(USER(), '@', 1)") == user
                        rows(c, "SELECT title FROM articles WHERE id = 3")

        in_threads(20, work)


def test_last_insert_id_over_shared_connections(lab):
    with Proxy(lab, few(lab)) as proxy, proxy.connect() as c:
        rows(c, "CREATE OR REPLACE TABLE made (id INT AUTO_INCREMENT PRIMARY KEY, client INT, n INT)")

        def work(number):
            with proxy.connect() as mine:
                for n in range(40):
                    with mine.cursor() as cursor:
                        cursor.execute("INSERT INTO made (client, n) VALUES (%d, %d)" % (number, n))
                        told = cursor.lastrowid
                    if n % 3 == 0:
                        rows(mine, "SELECT title FROM articles WHERE id = 2")
                    assert value(mine, "SELECT LAST_INSERT_ID()") == told
                    if n % 5 == 0:
                        pair = number, number
                        rows(mine, "INSERT INTO made (client, n) VALUES (LAST_INSERT_ID() * 0 + %d, -1), "
                                   "(%d, -2)" % pair)
                        first = value(mine, "SELECT LAST_INSERT_ID() AS id")
                        assert rows(mine, "SELECT client, n FROM made WHERE id = %d" % first) == [(number, -1)]

        in_threads(20, work)


# --- reads after writes ---

class lagging:
    """Replicas whose SQL thread stands still."""

    def __init__(self, lab):
        self.lab = lab

    def __enter__(self):
        for r in self.lab.replicas:
            r.sql("STOP SLAVE SQL_THREAD")

    def __exit__(self, *_):
        for r in self.lab.replicas:
            r.sql("START SLAVE SQL_THREAD")
        self.lab.sync()


def test_reads_are_never_older_than_writes(lab):
    lab.primary.sql("USE app", "CREATE OR REPLACE TABLE parent (id INT PRIMARY KEY, v INT)",
                    "CREATE OR REPLACE TABLE child (id INT PRIMARY KEY, pid INT, v INT, "
                    "FOREIGN KEY (pid) REFERENCES parent (id) ON DELETE CASCADE ON UPDATE CASCADE)",
                    "CREATE OR REPLACE TABLE audit (n INT AUTO_INCREMENT PRIMARY KEY, v INT)",
                    "CREATE OR REPLACE VIEW parents AS SELECT id, v FROM parent", "GRANT SELECT ON parents TO monitor",
                    "CREATE OR REPLACE TRIGGER parent_au AFTER UPDATE ON parent FOR EACH ROW "
                    "INSERT INTO audit (v) VALUES (NEW.v)",
                    "CREATE OR REPLACE PROCEDURE put(x INT) UPDATE parent SET v = x WHERE id = 2",
                    "CREATE OR REPLACE FUNCTION bump(x INT) RETURNS INT MODIFIES SQL DATA "
                    "BEGIN UPDATE parent SET v = x WHERE id = 3; RETURN x; END",
                    "CREATE OR REPLACE FUNCTION peek(x INT) RETURNS INT READS SQL DATA "
                    "RETURN (SELECT v FROM parent WHERE id = x)",
                    "INSERT INTO parent VALUES (1, 0), (2, 0), (3, 0), (4, 0)",
                    "INSERT INTO child VALUES (1, 1, 0), (2, 4, 0)")
    lab.sync()
    for changes in {}, {"proxy": {"mode": "split"}}:
        # lag alone would send all reads away: here only what was written must leave
        changes = dict(changes, monitor={"max_replica_lag": "60s"})
        with Proxy(lab, changes) as proxy, proxy.connect() as w, proxy.connect() as r:
            wait_replicas(proxy, "SELECT v FROM parent WHERE id = 1")
            wait_replicas(proxy, "SELECT v FROM parents WHERE id = 1")
            with lagging(lab):
                for n in range(1, 6):
                    rows(w, "UPDATE parent SET v = %d WHERE id = 1" % n)
                    assert value(r, "SELECT v FROM parent WHERE id = 1") == n
                    assert value(r, "SELECT v FROM parents WHERE id = 1") == n  # a view over it
                    assert value(r, "SELECT peek(1)") == n
                    assert value(r, "SELECT v FROM audit ORDER BY audit.n DESC LIMIT 1") == n  # written by a trigger
                    rows(w, "CALL put(%d)" % n)
                    assert value(r, "SELECT v FROM parent WHERE id = 2") == n
                    rows(w, "SELECT bump(%d)" % n)
                    assert value(r, "SELECT v FROM parent WHERE id = 3") == n
                    with proxy.connect() as fresh:
                        assert value(fresh, "SELECT v FROM parent p WHERE id = 3") == n
                rows(w, "DELETE FROM parent WHERE id = 4")  # cascades
                assert rows(r, "SELECT * FROM child WHERE id = 2") == []
                rows(w, "INSERT INTO parent VALUES (4, 0)")
                rows(w, "INSERT INTO child VALUES (2, 4, 0)")
                assert len(rows(r, "SELECT * FROM child")) == 2
            wait_replicas(proxy, "SELECT v FROM parent WHERE id = 1")


def test_what_nobody_wrote_stays_at_replicas(lab):
    with Proxy(lab, {"monitor": {"max_replica_lag": "60s"}}) as proxy, proxy.connect() as w, proxy.connect() as r:
        wait_replicas(proxy)
        with lagging(lab):
            rows(w, "UPDATE members SET name = CONCAT('n', RAND()) WHERE id = 20")
            before = proxy.routed()
            for n in range(30):
                assert value(r, "SELECT title FROM articles WHERE id = %d" % (n + 1)) == "Article %d" % (n + 1)
            assert proxy.routed()["replica"] == before["replica"] + 30
            for _ in range(10):
                rows(r, "SELECT name FROM members WHERE id = 20")
            assert proxy.routed()["primary"] == before["primary"] + 10
        wait_replicas(proxy, "SELECT name FROM members WHERE id = 20")


# --- what other proxies send astray: all of it, and that it did what it does ---

def test_statements_that_look_like_reads(lab, proxy):
    lab.primary.sql("USE app", "CREATE OR REPLACE TABLE t (id INT PRIMARY KEY, v INT)",
                    "INSERT INTO t VALUES (1, 1), (2, 2)",
                    "CREATE OR REPLACE SEQUENCE s",
                    "CREATE OR REPLACE FUNCTION f_that_writes() RETURNS INT MODIFIES SQL DATA "
                    "BEGIN UPDATE t SET v = v + 100 WHERE id = 1; RETURN 1; END")
    lab.sync()
    wait_replicas(proxy)
    with proxy.connect(client_flag=CLIENT.MULTI_STATEMENTS) as c:
        before = at_replicas(proxy)
        for sql in ("SELECT v FROM t LOCK IN SHARE MODE", "(SELECT v FROM t FOR UPDATE)",
                    "WITH c AS (SELECT v FROM t) SELECT * FROM c FOR UPDATE",
                    "/*!50000 DELETE*/ FROM t WHERE id = 99", "/* x */ REPLACE INTO t VALUES (3, 3)",
                    "SELECT f_that_writes()",
                    "SELECT NEXTVAL(s)", "SELECT @a := 1", "SELECT 1 INTO @a", "DO GET_LOCK('x', 1)",
                    "SELECT RELEASE_LOCK('x')",
                    "INSERT INTO t VALUES (4, 4) RETURNING id", "BEGIN NOT ATOMIC INSERT INTO t VALUES (5, 5); END",
                    "SET STATEMENT max_statement_time = 1 FOR UPDATE t SET v = 6 WHERE id = 5", "HANDLER t OPEN",
                    "HANDLER t READ FIRST",
                    "HANDLER t CLOSE", "EXPLAIN UPDATE t SET v = 1", "ANALYZE UPDATE t SET v = 7 WHERE id = 5",
                    "SELECT 1; UPDATE t SET v = 8 WHERE id = 5", "PREPARE p FROM 'SELECT v FROM t'", "EXECUTE p",
                    "DEALLOCATE PREPARE p"):
            with c.cursor() as cursor:
                cursor.execute(sql)
                while cursor.nextset():
                    pass
        assert at_replicas(proxy) == before, "something went to a replica"
        assert rows(c, "SELECT id, v FROM t ORDER BY id") == [(1, 101), (2, 2), (3, 3), (4, 4), (5, 8)]
        rows(c, "PREPARE q FROM 'SET autocommit = 0'")
        rows(c, "EXECUTE q")
        rows(c, "UPDATE t SET v = 9 WHERE id = 5")
        rows(c, "ROLLBACK")
        assert value(c, "SELECT v FROM t WHERE id = 5") == 8
        rows(c, "SET @a = 'x', autocommit = 1")
        rows(c, "UPDATE t SET v = 10 WHERE id = 5")
        assert lab.primary.sql("SELECT v FROM app.t WHERE id = 5") == [(10,)]


# --- logins ---

def login_error(port, **more):
    return error_of(connect_to, port=port, **more).args


def test_refused_logins_are_in_the_servers_words(lab, proxy):
    for case in ({"password": "wrong"}, {"password": ""}, {"user": "nobody", "password": "x"}, {"user": "nobody",
                                                                                                "password": ""},
                 {"db": "no_such"}, {"db": "mysql"}):
        assert login_error(proxy.port, **case) == login_error(lab.primary.port, **case), case
    for case in {"password": "wrong"}, {"db": "no_such"}:
        with_socket = error_of(connect_to, sock=proxy.sock, **case).args
        assert with_socket == error_of(connect_to, sock=lab.primary.sock, **case).args, case


def test_accounts_may_be_new(lab, proxy):
    for n in range(3):
        lab.primary.sql("CREATE USER late%d IDENTIFIED BY 'first'" % n, "GRANT ALL ON app.* TO late%d" % n)
        with proxy.connect(user="late%d" % n, password="first") as c:
            assert value(c, "SELECT CURRENT_USER()") == "late%d@%%" % n
        lab.primary.sql("ALTER USER late%d IDENTIFIED BY 'second'" % n)
        with proxy.connect(user="late%d" % n, password="second") as c:
            rows(c, "SELECT COUNT(*) FROM members")
        assert login_error(proxy.port, user="late%d" % n, password="first")[0] == 1045


def test_host_patterns(lab, proxy):
    lab.primary.sql("CREATE USER here@'127.0.0.%' IDENTIFIED BY 'lab-here'",
                    "CREATE USER there@'10.%' IDENTIFIED BY 'lab-there'",
                    "CREATE USER only@localhost IDENTIFIED BY 'lab-only'", "GRANT ALL ON app.* TO here@'127.0.0.%'",
                    "GRANT ALL ON app.* TO only@localhost")
    with proxy.connect(user="here") as c:
        assert value(c, "SELECT CURRENT_USER()") == "here@127.0.0.%"
    assert login_error(proxy.port, user="there") == login_error(lab.primary.port, user="there")


def test_a_prepared_statement_after_its_table_was_changed(lab, proxy):
    with Wire(proxy.port) as w:
        w.query("CREATE OR REPLACE TABLE shifting (a INT)")
        w.query("INSERT INTO shifting VALUES (1)")
        number, _, columns = w.prepare("SELECT * FROM shifting")
        assert columns == 1 and len(w.execute(number).packets) == 1
        w.query("ALTER TABLE shifting ADD b INT")
        w.command(EXECUTE, Wire.bound(number, ()))
        try:
            assert w.all()[0].columns == 2
        except Refused as e:
            assert e.code == 1615, e


if __name__ == "__main__":
    with Lab(replicas=2) as the_lab, Proxy(the_lab) as the_proxy:
        run(globals(), lab=the_lab, proxy=the_proxy)
