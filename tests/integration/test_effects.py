#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What statements do that their text does not show: functions behind views, functions that call functions, columns,
sequences, replicas that leave something out. What may write or depends on the session runs at the primary; what only
reads still runs at replicas, by the servers' own counters."""
import threading

from harness import Lab, Proxy, rows, run, value, wait_until

SCHEMA = ["CREATE DATABASE eff", "CREATE TABLE eff.t (id INT AUTO_INCREMENT PRIMARY KEY, a INT)", "INSERT INTO eff.t (a) VALUES (1), (2)",
          "CREATE TABLE eff.log (a INT)", "CREATE TABLE eff.loud (a INT)", "CREATE SEQUENCE eff.s",
          "CREATE TABLE eff.mem (a INT) ENGINE = MEMORY", "CREATE TABLE eff.virt (a INT, b INT AS (@x := a + 10))",
          "INSERT INTO eff.virt (a) VALUES (1)",
          "CREATE FUNCTION eff.pure(a INT) RETURNS INT RETURN a + 1",
          "CREATE FUNCTION eff.looks() RETURNS INT READS SQL DATA RETURN (SELECT SUM(a) FROM t)",
          "CREATE FUNCTION eff.writes() RETURNS INT BEGIN INSERT INTO eff.log VALUES (1); RETURN 1; END",
          "CREATE FUNCTION eff.liar() RETURNS INT NO SQL RETURN eff.writes()",
          "CREATE FUNCTION eff.mine() RETURNS INT NO SQL RETURN @v",
          "CREATE FUNCTION eff.above() RETURNS INT READS SQL DATA RETURN (SELECT MAX(v) FROM eff.vmine)",
          "CREATE VIEW eff.vplain AS SELECT id, a FROM eff.t",
          "CREATE VIEW eff.vpure AS SELECT eff.pure(a) AS p FROM eff.vplain",
          "CREATE VIEW eff.vnow AS SELECT NOW() AS n, UUID() AS u",
          "CREATE VIEW eff.vmine AS SELECT eff.mine() AS v",
          "CREATE VIEW eff.vinsert_id AS SELECT LAST_INSERT_ID() AS i",
          "CREATE VIEW eff.vlock AS SELECT GET_LOCK('behind', 0) AS l",
          "CREATE VIEW eff.vwrite AS SELECT eff.liar() AS w",
          "CREATE VIEW eff.vwrite2 AS SELECT w FROM eff.vwrite",
          "CREATE TRIGGER eff.tg BEFORE INSERT ON eff.loud FOR EACH ROW BEGIN "
          "CREATE TEMPORARY TABLE IF NOT EXISTS eff.tmp (a INT); END"]


def settled(proxy):
    """The dictionary was read after the last DDL that passed the proxy."""
    wait_until(lambda: reason(proxy, "SELECT * FROM nowhere.t") == "read", "the dictionary")


def reason(proxy, sql):
    return {r["name"]: r["value"] for r in proxy.admin("EXPLAIN ROUTE " + sql)}["reason"]


def where(proxy, connection, sql):
    """(route, rows)"""
    before = proxy.routed()
    answer = rows(connection, sql)
    after = proxy.routed()
    return [r for r in after if after[r] > before[r]], answer


def boss(proxy, **more):
    return proxy.connect(user="boss", password="lab-boss", db="eff", **more)


def test_what_only_reads_goes_to_replicas(lab, proxy):
    settled(proxy)
    selects = lab.replicas[0].status("Com_select")
    with boss(proxy) as c:
        value(c, "SELECT 1")
        reads = ["SELECT pure(a) FROM t", "SELECT looks()", "SELECT * FROM vplain", "SELECT * FROM vpure", "SELECT * FROM vnow",
                 "SELECT a FROM loud", "SELECT COUNT(*) FROM t JOIN vpure ON p = a"]
        for sql in reads:
            assert where(proxy, c, sql)[0] == ["replica"], (sql, reason(proxy, sql))
    assert lab.replicas[0].status("Com_select") >= selects + len(reads)


def test_what_may_do_more_goes_to_the_primary(lab, proxy):
    settled(proxy)
    for sql, want in [("SELECT eff.mine()", "function"), ("SELECT eff.above()", "function"), ("SELECT eff.liar()", "function"),
                      ("SELECT * FROM eff.vmine", "table"), ("SELECT * FROM eff.vinsert_id", "table"),
                      ("SELECT * FROM eff.vlock", "table"), ("SELECT * FROM eff.vwrite2", "table"), ("SELECT * FROM eff.s", "table"),
                      ("SELECT * FROM eff.mem", "table"), ("SELECT a FROM eff.virt", "table"), ("SELECT * FROM eff.t", "read"),
                      ("SELECT eff.unknown()", "function")]:
        assert reason(proxy, sql) == want, (sql, reason(proxy, sql))


def test_the_session_is_seen_through_views(lab, proxy):
    settled(proxy)
    with boss(proxy) as c:
        rows(c, "SET @v = 42")
        assert rows(c, "SELECT * FROM vmine") == [(42,)] and value(c, "SELECT above()") == 42
        rows(c, "INSERT INTO t (a) VALUES (3)")
        given = value(c, "SELECT LAST_INSERT_ID()")
        assert given > 2 and rows(c, "SELECT * FROM vinsert_id") == [(given,)]
        assert rows(c, "SELECT * FROM vlock") == [(1,)]
        assert lab.replicas[0].sql("SELECT IS_USED_LOCK('behind')") == [(None,)]


def test_a_write_behind_a_view_is_no_write_at_a_replica(lab, proxy):
    settled(proxy)
    own = "SELECT @@gtid_binlog_pos LIKE CONCAT('%-', @@server_id, '-%')"
    with boss(proxy) as c:
        for n in range(1, 6):
            assert rows(c, "SELECT * FROM vwrite2") == [(1,)] and value(c, "SELECT liar()") == 1
            assert value(c, "SELECT COUNT(*) FROM log") == 2 * n  # read after it: at a replica that has it, or the primary
    assert lab.primary.sql("SELECT COUNT(*) FROM eff.log") == [(10,)]
    lab.sync()  # replication goes on
    assert lab.replicas[0].sql("SELECT COUNT(*) FROM eff.log") == [(10,)]
    assert lab.replicas[0].sql(own) == [(0,)]


def test_what_a_view_wrote_in_a_transaction_counts_as_written(lab):
    with Proxy(lab, {"proxy": {"mode": "split"}, "monitor": {"max_replica_lag": "60s"}}) as proxy, boss(proxy) as c:
        settled(proxy)
        wait_until(lambda: where(proxy, c, "SELECT COUNT(*) FROM log")[0] == ["replica"], "reads are at the replica")
        before = value(c, "SELECT COUNT(*) FROM log")
        lab.replicas[0].sql("STOP SLAVE SQL_THREAD")
        rows(c, "BEGIN")
        rows(c, "UPDATE t SET a = a + 1 WHERE id = 1")
        assert rows(c, "SELECT * FROM vwrite2") == [(1,)]
        rows(c, "COMMIT")
        assert value(c, "SELECT COUNT(*) FROM log") == before + 1
        lab.replicas[0].sql("START SLAVE SQL_THREAD")
        lab.sync()
        wait_until(lambda: where(proxy, c, "SELECT COUNT(*) FROM log")[0] == ["replica"], "reads are at the replica")
        lab.replicas[0].sql("STOP SLAVE SQL_THREAD")
        rows(c, "INSERT INTO loud SELECT w FROM vwrite2")
        assert value(c, "SELECT COUNT(*) FROM log") == before + 2
        lab.replicas[0].sql("START SLAVE SQL_THREAD")
        lab.sync()


def test_a_sequence_is_read_where_it_counts(lab, proxy):
    settled(proxy)
    with boss(proxy) as c:
        for _ in range(3):
            value(c, "SELECT NEXTVAL(s)")
            direct = lab.primary.sql("SELECT * FROM eff.s")
            assert [tuple(r) for r in rows(c, "SELECT * FROM s")] == [tuple(r) for r in direct]


def test_while_ddl_is_under_way_any_name_may_be_a_view(lab, proxy):
    settled(proxy)
    with lab.primary.root() as holder, boss(proxy) as c, boss(proxy) as other:
        rows(holder, "LOCK TABLES eff.vplain READ")
        value(c, "SELECT 1")
        ddl = threading.Thread(target=lambda: rows(other, "CREATE OR REPLACE VIEW eff.vplain AS SELECT id, a FROM t"))
        ddl.start()
        wait_until(lambda: lab.primary.sql("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE LIKE '%metadata%'")
                   == [(1,)], "the DDL waits")
        assert where(proxy, c, "SELECT a FROM t")[0] == ["primary"]
        rows(holder, "UNLOCK TABLES")
        ddl.join()
    settled(proxy)
    with boss(proxy) as c:
        value(c, "SELECT 1")
        lab.sync()
        wait_until(lambda: where(proxy, c, "SELECT a FROM t")[0] == ["replica"], "reads go to replicas again")
        rows(c, "CREATE OR REPLACE VIEW eff.vplain AS SELECT id, a FROM t WHERE GET_LOCK('x', 0)")
        assert where(proxy, c, "SELECT * FROM vplain")[0] == ["primary"]  # from the acknowledgement on
        rows(c, "CREATE OR REPLACE VIEW eff.vplain AS SELECT id, a FROM t")


def test_views_whose_text_may_not_be_seen(lab, proxy):
    with boss(proxy) as c:
        rows(c, "REVOKE SELECT ON eff.* FROM monitor")
        settled(proxy)
        wait_until(lambda: [e for e in proxy.admin("SELECT * FROM events") if e["kind"] == "views_unseen"], "an event")
        assert reason(proxy, "SELECT * FROM eff.vplain") == "table"
        assert where(proxy, c, "SELECT * FROM vplain")[0] == ["primary"]
        rows(c, "CREATE VIEW mysql.sidetrack_views AS SELECT TABLE_SCHEMA, TABLE_NAME, VIEW_DEFINITION FROM "
                "information_schema.VIEWS")
        settled(proxy)
        assert reason(proxy, "SELECT * FROM eff.vplain") == "read"
        assert reason(proxy, "SELECT * FROM eff.vwrite2") == "table"
        rows(c, "DROP VIEW mysql.sidetrack_views")
        rows(c, "GRANT SELECT ON eff.* TO monitor")
    settled(proxy)


def test_a_filtered_replica_gets_no_reads(lab, proxy):
    settled(proxy)
    replica = lab.replicas[0]
    replica.sql("STOP SLAVE", "SET GLOBAL replicate_ignore_table = 'eff.t'", "START SLAVE")
    wait_until(lambda: [s for s in proxy.admin("SELECT * FROM servers") if "filtered" in str(s)], "the proxy sees the filter")
    assert [e for e in proxy.admin("SELECT * FROM events") if e["kind"] == "replica_filtered"]
    with boss(proxy) as c:
        for n in range(20):
            rows(c, "UPDATE t SET a = %d WHERE id = 1" % (100 + n))
            assert value(c, "SELECT a FROM t WHERE id = 1") == 100 + n
        route, answer = where(proxy, c, "SELECT a FROM t WHERE id = 1")
        assert route == ["primary"] and answer == [(119,)]
    replica.sql("STOP SLAVE", "SET GLOBAL replicate_ignore_table = ''", "START SLAVE")
    with boss(proxy) as c:
        rows(c, "UPDATE t SET a = a + 1 WHERE id = 1")
        wait_until(lambda: where(proxy, c, "SELECT 1 FROM t")[0] == ["replica"], "the replica is used again")


def test_a_primary_that_does_not_log_everything_is_read_alone(lab, proxy):
    with open(lab.dir + "/primary/my.cnf", "a") as f:
        f.write("\nbinlog_ignore_db = eff\n")
    lab.primary.down("TERM")
    lab.primary.up()
    wait_until(lambda: [e for e in proxy.admin("SELECT * FROM events") if e["kind"] == "binlog_filtered"], "an event")
    with boss(proxy) as c:
        for n in range(10):
            rows(c, "UPDATE t SET a = %d WHERE id = 1" % n)
            assert value(c, "SELECT a FROM t WHERE id = 1") == n


with Lab(replicas=1) as the_lab:
    the_lab.primary.sql("CREATE USER boss IDENTIFIED BY 'lab-boss'", "GRANT ALL PRIVILEGES ON *.* TO boss WITH GRANT OPTION",
                        *SCHEMA)
    the_lab.primary.sql("GRANT SELECT ON eff.* TO monitor")
    the_lab.sync()
    with Proxy(the_lab, {"proxy": {"mode": "split"}}) as the_proxy:
        run(globals(), lab=the_lab, proxy=the_proxy)
