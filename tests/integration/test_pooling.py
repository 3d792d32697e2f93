#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a session leaves in a server connection never reaches another one, whatever made it: forms of SET that nobody
told of, roles, locks and tables made inside routines, prepared XA branches. One connection a server, so that every
session gets the one that the last had; and under load, where everybody asks for what he did himself."""
import threading

import pymysql

from harness import Lab, Proxy, connect_to, rows, run, value, wait_until
from test_sessions import error_of, in_threads

ONE = 1


def scarce(lab, connections=ONE):
    changes = {"server.%s" % s.name: {"max_connections": connections} for s in [lab.primary] + lab.replicas}
    changes["proxy"] = {"workers": 1, "mode": "split"}
    changes["cache.token"] = None
    return changes


def prepare(lab):
    root = lab.primary
    root.sql("USE scratch", "CREATE TABLE t (a INT PRIMARY KEY, b INT)", "INSERT INTO t VALUES (1, 1), (2, 2)",
             "CREATE PROCEDURE lock_it() SELECT GET_LOCK('inside', 0)",
             "CREATE FUNCTION lock_f() RETURNS INT NO SQL RETURN GET_LOCK('inside', 0)",
             "CREATE VIEW lock_v AS SELECT lock_f() AS got",
             "CREATE PROCEDURE shadow() CREATE TEMPORARY TABLE t AS SELECT 1 AS a, 0 AS b",
             "CREATE PROCEDURE untold() SET @@sql_mode = 'PIPES_AS_CONCAT'",
             "CREATE FUNCTION untold_f() RETURNS INT NO SQL BEGIN SET @@sql_mode = 'PIPES_AS_CONCAT'; RETURN 1; END",
             "CREATE TABLE logged (a INT)",
             "CREATE TRIGGER logged_ai AFTER INSERT ON logged FOR EACH ROW SET @@group_concat_max_len = 4",
             "CREATE ROLE keeper", "GRANT keeper TO app", "CREATE TABLE app.secret (a INT)",
             "GRANT SELECT ON mysql.user TO keeper")
    lab.sync()


def forms(statement):
    """Statements that have `statement` run in every way that a client has."""
    quoted = statement.replace("'", "''")
    return [[statement], ["EXECUTE IMMEDIATE '%s'" % quoted],
            ["PREPARE s FROM '%s'" % quoted, "EXECUTE s", "DEALLOCATE PREPARE s"],
            ["BEGIN NOT ATOMIC %s; END" % statement],
            ["BEGIN NOT ATOMIC %s; SELECT no_such_column FROM t; END" % statement]]


def run_all(c, statements):
    for statement in statements:
        try:
            rows(c, statement)
        except pymysql.MySQLError as e:
            assert e.args[0] == 1054, e


UNTOLD = forms("SET @@sql_mode = 'PIPES_AS_CONCAT'") + forms("SET SESSION lock_wait_timeout = 9, @@sql_mode = 'ANSI'") + [
    ["CALL untold()"], ["SELECT untold_f()"], ["DO untold_f()"], ["SET @x = untold_f()"],
    ["SET STATEMENT max_statement_time = 5 FOR SELECT untold_f()"], ["SELECT 1; SET @@sql_mode = 'ANSI'"]]


def test_untold_variables(lab, proxy):
    many = {"client_flag": pymysql.constants.CLIENT.MULTI_STATEMENTS}
    for statements in UNTOLD:
        with proxy.connect(db="scratch", **many) as c, lab.primary.connect(db="scratch", **many) as direct:
            run_all(c, statements)
            run_all(direct, statements)
            for sql in "SELECT 'a' || 'b' AS x FROM t WHERE a = 1", "SELECT @@sql_mode", "SELECT 'a' || 'b' AS x FROM t LIMIT 1":
                assert rows(c, sql) == rows(direct, sql), (statements, sql)
        with proxy.connect(db="scratch") as c:
            assert value(c, "SELECT 'a' || 'b' AS x FROM t WHERE a = 1") == 0, statements
            assert "CONCAT" not in value(c, "SELECT @@sql_mode"), statements
    with proxy.connect(db="scratch") as c:
        rows(c, "INSERT INTO logged VALUES (1)")  # its trigger sets a variable
        assert value(c, "SELECT GROUP_CONCAT(b, '--') FROM t") == "1--,"
    with proxy.connect(db="scratch") as c:
        assert value(c, "SELECT GROUP_CONCAT(b, '--') FROM t") == "1--,2--"


def test_roles(lab, proxy):
    with proxy.connect() as c:
        rows(c, "SET ROLE keeper")
        assert value(c, "SELECT COUNT(*) FROM mysql.user") > 0
        assert value(c, "SELECT CURRENT_ROLE()") == "keeper"
        value(c, "SELECT COUNT(*) FROM members")
        assert value(c, "SELECT CURRENT_ROLE()") == "keeper"
    with proxy.connect() as c:
        assert value(c, "SELECT CURRENT_ROLE()") is None
        assert error_of(rows, c, "SELECT COUNT(*) FROM mysql.user").args[0] == 1142
    with proxy.connect() as c:
        rows(c, "EXECUTE IMMEDIATE 'SET ROLE keeper'")
    with proxy.connect() as c:
        assert value(c, "SELECT CURRENT_ROLE()") is None


LOCKS = (["CALL lock_it()"], ["SELECT lock_f()"], ["SELECT got FROM lock_v"], ["BEGIN NOT ATOMIC DO lock_f(); END"],
         ["SELECT GET_LOCK('inside', 0)"], ["DO lock_f()"], ["EXECUTE IMMEDIATE 'DO GET_LOCK(''inside'', 0)'"],
         ["SET STATEMENT max_statement_time = 9 FOR SELECT lock_f()"])


def test_locks(lab):
    with Proxy(lab, scarce(lab, 3)) as proxy:
        for statements in LOCKS:
            with proxy.connect(db="scratch") as c, proxy.connect(db="scratch") as other:
                run_all(c, statements)
                assert value(other, "SELECT GET_LOCK('inside', 0)") == 0, statements
                assert value(other, "SELECT b FROM t WHERE a = 1") == 1
                assert value(other, "SELECT GET_LOCK('inside', 0)") == 0, statements
            with lab.primary.connect() as direct:
                wait_until(lambda: value(direct, "SELECT IS_FREE_LOCK('inside')") == 1)


def test_temporary_tables(lab, proxy):
    makers = [["CALL shadow()"], ["EXECUTE IMMEDIATE 'CREATE TEMPORARY TABLE t AS SELECT 1 AS a, 0 AS b'"],
              ["CREATE TEMPORARY TABLE t AS SELECT 1 AS a, 0 AS b"],
              ["BEGIN NOT ATOMIC CALL shadow(); SELECT no_such_column FROM t; END"],
              ["PREPARE s FROM 'CREATE TEMPORARY TABLE t AS SELECT 1 AS a, 0 AS b'", "EXECUTE s"]]
    for n, statements in enumerate(makers):
        with proxy.connect(db="scratch") as c:
            run_all(c, statements)
            assert rows(c, "SELECT a, b FROM t") == [(1, 0)], statements
        with proxy.connect(db="scratch") as c:
            rows(c, "UPDATE t SET b = %d WHERE a = 2" % (100 + n))
            assert rows(c, "SELECT a, b FROM t ORDER BY a") == [(1, 1), (2, 100 + n)], statements
        assert lab.primary.sql("SELECT b FROM scratch.t WHERE a = 2") == [(100 + n,)]


def test_global_locks(lab, proxy):
    for statement in "FLUSH TABLES WITH READ LOCK", "BACKUP STAGE START":
        with connect_to(port=proxy.port, user="root", db=None) as c:
            rows(c, statement)
        with proxy.connect(db="scratch") as c:  # where the lock leaked this would wait for ever
            rows(c, "INSERT INTO logged VALUES (2)")


def test_xa(lab, proxy):
    for leave in "quit", "reset", "kill":
        with proxy.connect(db="scratch") as c:
            rows(c, "XA START 'left'")
            rows(c, "UPDATE t SET b = b + 1000 WHERE a = 1")
            rows(c, "XA END 'left'")
            rows(c, "XA PREPARE 'left'")
            before = value(lab.primary.root(), "SELECT b FROM scratch.t WHERE a = 1")
            if leave == "reset":
                c._execute_command(31, b"")  # COM_RESET_CONNECTION
                c._read_ok_packet()
            elif leave == "kill":
                c._force_close()

        def committed():
            with proxy.connect(db="scratch") as other:
                return rows(other, "XA COMMIT 'left'") == []
        wait_until(lambda: lab.primary.sql("XA RECOVER"))
        wait_until(committed)
        assert lab.primary.sql("SELECT b FROM scratch.t WHERE a = 1") == [(before + 1000,)], leave
        lab.sync()
        assert lab.replicas[0].sql("SELECT b FROM scratch.t WHERE a = 1") == [(before + 1000,)], leave
        lab.primary.sql("UPDATE scratch.t SET b = 1 WHERE a = 1")


def test_read_only_transactions_do_not_stay(lab, proxy):
    """State that a READ ONLY transaction makes is the primary's, and so is what comes after."""
    def moved():
        with proxy.connect(db="scratch") as c:
            before = proxy.routed()["replica"]
            rows(c, "START TRANSACTION READ ONLY")
            rows(c, "SELECT a FROM t WHERE a = 1")
            rows(c, "COMMIT")
            return proxy.routed()["replica"] > before
    wait_until(moved)
    for n, statement in enumerate(["SET @v = 1", "SELECT GET_LOCK('x', 0)", "PREPARE s FROM 'SELECT 1'", "BEGIN",
                                   "SET autocommit = 0", "SAVEPOINT x", "CALL untold()"]):
        with proxy.connect(db="scratch") as c:
            rows(c, "START TRANSACTION READ ONLY")
            rows(c, "SELECT a FROM t WHERE a = 1")
            rows(c, statement)
            rows(c, "COMMIT")
            rows(c, "INSERT INTO t VALUES (%d, 0)" % (50 + n))  # at a replica: error 1290 or 1792
            rows(c, "COMMIT")
        assert lab.primary.sql("SELECT COUNT(*) FROM scratch.t WHERE a = %d" % (50 + n)) == [(1,)], statement
    lab.primary.sql("DELETE FROM scratch.t WHERE a >= 50")


def test_collations(lab, proxy):
    """What is asked of a connection is learnt in an order in which one variable does not undo another."""
    names = [("latin1", "latin1_german1_ci"), ("utf8mb4", "utf8mb4_unicode_ci"), ("utf8mb4", None), ("latin1", None)]
    default = {"latin1": "latin1_swedish_ci", "utf8mb4": "utf8mb4_general_ci"}
    for charset, collation in names:
        for untold in "SET @@net_retry_count = 7", "SET @@max_join_size = 5", "SET @@sql_big_selects = 1":
            with proxy.connect(db="scratch") as c:
                rows(c, "SET NAMES %s%s" % (charset, " COLLATE " + collation if collation else ""))
                rows(c, untold)
                for _ in range(2):
                    assert value(c, "SELECT COLLATION('x')") == (collation or default[charset]), (charset, untold)
                    rows(c, "INSERT INTO logged VALUES (3)")


# --- everybody's own diagnostics, under load ---

def own_diagnostics(proxy):
    def work(number):
        with proxy.connect(db="scratch") as c:
            for n in range(25):
                rows(c, "UPDATE counted SET b = b + 1 WHERE a <= %d" % number)
                assert value(c, "SELECT ROW_COUNT()") == number
                assert rows(c, "SELECT ROW_COUNT() AS x, FOUND_ROWS()") == [(-1, 1)]
                assert len(rows(c, "SELECT a FROM counted WHERE a <= %d" % number)) == number
                assert value(c, "SELECT FOUND_ROWS()") == number
                rows(c, "UPDATE counted SET b = b + 1 WHERE a <= %d" % number)
                assert value(c, "SELECT ROW_COUNT() + 0") == number
                rows(c, "SELECT CAST('x' AS INT), a FROM counted WHERE a <= %d" % number)
                assert value(c, "SELECT @@warning_count") == number
                rows(c, "SELECT a FROM counted WHERE a = 1")
                assert rows(c, "SHOW WARNINGS") == []
    in_threads(12, work)


def test_diagnostics_are_ones_own(lab):
    lab.primary.sql("USE scratch", "CREATE OR REPLACE TABLE counted (a INT PRIMARY KEY, b INT)",
                    "INSERT INTO counted SELECT seq, 0 FROM seq_1_to_20")
    lab.sync()
    for mode in "observe", "split":
        changes = scarce(lab, 4)
        changes["proxy"] = {"mode": mode}
        with Proxy(lab, changes) as proxy:
            own_diagnostics(proxy)


if __name__ == "__main__":
    with Lab(replicas=1) as the_lab:
        prepare(the_lab)
        with Proxy(the_lab, scarce(the_lab)) as the_proxy:
            run(globals(), lab=the_lab, proxy=the_proxy)
