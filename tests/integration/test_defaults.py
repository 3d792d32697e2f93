#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a session has not set is the primary's default at its login, whatever server answers; what new sessions inherit
changes for new clients everywhere, and for nobody else; replicas' connections cannot write."""
import os
import subprocess
import time

import pymysql

from harness import LAB_SH, Lab, Proxy, rows, run, value, wait_until

# name: (the replica's, what a read says, what it says with the primary's default, with the replica's)
READ = "FROM articles WHERE id = 1"
OTHERS = {
    "group_concat_max_len": ("4", "SELECT GROUP_CONCAT(seq SEPARATOR '') FROM (SELECT id AS seq FROM articles "
                             "WHERE id < 10 ORDER BY id LIMIT 10) AS t", "123456789"),
    "time_zone": ("'+09:00'", "SELECT FROM_UNIXTIME(0, '%%H:%%i') %s" % READ, "00:00"),
    "sql_mode": ("'PIPES_AS_CONCAT'", "SELECT 1 || 0 %s" % READ, "1"),
    "lc_time_names": ("'de_DE'", "SELECT DATE_FORMAT('2026-03-01', '%%M') %s" % READ, "March"),
    "div_precision_increment": ("9", "SELECT 1 / 3 %s" % READ, "0.3333"),
    "default_week_format": ("3", "SELECT WEEK('2026-01-01') %s" % READ, "0"),
    "sql_select_limit": ("3", "SELECT COUNT(*) FROM (SELECT id FROM articles WHERE id < 10) AS t", "9"),
    "collation_server": ("latin1_bin", None, None),
    "max_statement_time": ("100", None, None),
    "tx_isolation": ("'SERIALIZABLE'", None, None),
    "max_join_size": ("1000", None, None),
}


def text(c, sql):
    return str(value(c, sql.replace("%%", "%")))


def at_replicas(proxy):
    return proxy.routed()["replica"]


def at_replica(proxy, c, sql):
    """What sql says at a replica."""
    def there():
        seen = at_replicas(proxy)
        there.answer = text(c, sql)
        return at_replicas(proxy) > seen
    wait_until(there, "a replica answers " + sql)
    return there.answer


def fresh(proxy, sql, **more):
    with proxy.connect(**more) as c:
        return text(c, sql)


def test_a_replica_with_other_globals(lab, proxy):
    replica = lab.replicas[0]
    for name, (other, _, _) in OTHERS.items():
        if other:
            replica.sql("SET GLOBAL %s = %s" % (name, other))
    with proxy.connect() as c:
        for name, (_, sql, want) in OTHERS.items():
            if sql:
                assert at_replica(proxy, c, sql) == want, (name, text(c, sql))
        # and after the session has set it, and put it back
        rows(c, "SET lc_time_names = 'fr_FR', sql_mode = 'PIPES_AS_CONCAT', group_concat_max_len = 5")
        assert at_replica(proxy, c, OTHERS["lc_time_names"][1]) == "mars"
        assert at_replica(proxy, c, OTHERS["sql_mode"][1]) == "10"
        assert at_replica(proxy, c, OTHERS["group_concat_max_len"][1]) == "12345"
    with proxy.connect() as c:  # another client, over the same connections
        for name, (_, sql, want) in OTHERS.items():
            if sql:
                assert at_replica(proxy, c, sql) == want, (name, text(c, sql))


def all_values(c):
    return {n.upper(): v for n, v in rows(c, "SHOW SESSION VARIABLES")}


def server_id(c):
    """Of the server that runs a READ ONLY transaction's reads; what asks for @@variables goes to the primary."""
    return rows(c, "SHOW VARIABLES LIKE 'server_id'")[0][1]


# each server's own
OWN = ("SERVER_ID", "TX_READ_ONLY", "TIMESTAMP", "PSEUDO_THREAD_ID", "SESSION_TRACK", "MAX_RELAY_LOG_SIZE")


def test_every_variable_is_the_primarys(lab, proxy):
    """All of them, read in a transaction that a replica runs."""
    with lab.primary.connect() as c:
        session = [n for n, in rows(c, "SELECT VARIABLE_NAME FROM information_schema.SYSTEM_VARIABLES "
                                       "WHERE VARIABLE_SCOPE = 'SESSION' AND READ_ONLY = 'NO' LIMIT 10000")]
        want = {n: v for n, v in all_values(c).items() if n in session}
    with proxy.connect() as c:
        assert at_replica(proxy, c, "SELECT title %s" % READ)
        rows(c, "START TRANSACTION READ ONLY")
        assert server_id(c) == server_id(lab.replicas[0].root())
        have = all_values(c)
        rows(c, "COMMIT")
    differs = {n: (want[n], have[n]) for n in want if want[n] != have[n] and not n.startswith(OWN)}
    assert not differs, differs


def test_globals_set_through_the_proxy(lab, proxy):
    """The next client has it, on all servers, and who was there before has not."""
    with proxy.connect() as old, proxy.connect(user="root", db=None) as root:
        assert at_replica(proxy, old, OTHERS["lc_time_names"][1]) == "March"
        for locale, march in ("es_ES", "marzo"), ("it_IT", "marzo"), ("pl_PL", "marzec"):
            rows(root, "SET GLOBAL lc_time_names = '%s'" % locale)
            with proxy.connect() as c:
                assert value(c, "SELECT @@lc_time_names") == locale
                assert at_replica(proxy, c, OTHERS["lc_time_names"][1]) == march
                assert at_replica(proxy, old, OTHERS["lc_time_names"][1]) == "March"
                assert value(old, "SELECT @@lc_time_names") == "en_US"
        rows(root, "SET @@global.lc_time_names = 'en_US'")
        assert fresh(proxy, "SELECT @@lc_time_names") == "en_US"
        assert value(old, "SELECT @@lc_time_names") == "en_US"


def test_globals_set_around_the_proxy(lab, proxy):
    with proxy.connect() as old:
        assert at_replica(proxy, old, OTHERS["div_precision_increment"][1]) == "0.3333"
        rows(old, "SET @kept = 1")  # and one that keeps its connection
        with proxy.connect() as c:
            value(c, "SELECT 1")
        lab.primary.sql("SET GLOBAL div_precision_increment = 2, GLOBAL default_week_format = 3")
        wait_until(lambda: fresh(proxy, OTHERS["div_precision_increment"][1]) == "0.33", "new clients have it")
        for _ in range(5):
            with proxy.connect() as c:
                assert at_replica(proxy, c, OTHERS["div_precision_increment"][1]) == "0.33"
                assert at_replica(proxy, c, OTHERS["default_week_format"][1]) == "1"
                assert value(c, "SELECT @@div_precision_increment") == 2
        assert at_replica(proxy, old, OTHERS["div_precision_increment"][1]) == "0.3333"
        assert value(old, "SELECT @kept + @@div_precision_increment") == 5
        lab.primary.sql("SET GLOBAL div_precision_increment = 4, GLOBAL default_week_format = 0")
        wait_until(lambda: fresh(proxy, OTHERS["div_precision_increment"][1]) == "0.3333", "new clients have it")


def test_a_prepared_statement_keeps_the_defaults_of_its_login(lab, proxy):
    from wire import EXECUTE, Wire
    w = Wire(proxy.port)
    number, _, _ = w.prepare("SELECT 1 || 0 FROM articles WHERE id = 1")
    ask = lambda: (w.command(EXECUTE, w.bound(number, [])), w.all()[0].packets[0])[1]
    before = ask()
    with proxy.connect(user="root", db=None) as root:
        rows(root, "SET GLOBAL sql_mode = 'PIPES_AS_CONCAT'")
        assert fresh(proxy, "SELECT 1 || 0") == "10"
        for _ in range(5):
            assert ask() == before
            assert w.value("SELECT 1 || 0 FROM articles WHERE id = 1") == "1"
        rows(root, "SET GLOBAL sql_mode = DEFAULT")


def test_a_schemas_default_character_set(lab, proxy):
    """What CREATE TABLE takes of it is the same at the primary, which runs it, and at replicas, which replay it."""
    def definition(server):
        return server.sql("SHOW CREATE TABLE moved.t")[0][1]

    def create(n, want):
        with proxy.connect(db="moved") as c:
            rows(c, "CREATE OR REPLACE TABLE t (c%d CHAR(1))" % n)
        lab.sync()
        assert definition(lab.primary) == definition(lab.replicas[0])
        assert "CHARSET=" + want in definition(lab.primary), definition(lab.primary)

    lab.primary.sql("CREATE DATABASE moved CHARACTER SET utf8mb4", "GRANT ALL ON moved.* TO app")
    with proxy.connect(db=None) as admin:
        create(1, "utf8mb4")
        rows(admin, "ALTER DATABASE moved CHARACTER SET latin1")
        create(2, "latin1")
        rows(admin, "DROP DATABASE moved")
        rows(admin, "CREATE SCHEMA moved CHARACTER SET cp1251")
        create(3, "cp1251")
    lab.primary.sql("ALTER DATABASE moved CHARACTER SET greek")  # around the proxy

    def seen():
        create(4, "greek")
        return True
    wait_until(seen, "new tables are greek")
    lab.primary.sql("DROP DATABASE moved")


def test_init_connect(lab, proxy):
    """What the primary's init_connect sets is a default like any other; a replica's is not. Until a check of the primary
    has seen it, new clients may have either."""
    def set_both(primary, replica, want):
        lab.primary.sql("SET GLOBAL init_connect = '%s'" % primary)
        lab.replicas[0].sql("SET GLOBAL init_connect = '%s'" % replica)
        time.sleep(2.5)  # a few checks; who comes before is nobody's promise
        wait_until(lambda: fresh(proxy, "SELECT @@lc_time_names") == want, "new clients have " + want)

    set_both('SET lc_time_names = "nl_NL"', 'SET lc_time_names = "sv_SE"', "nl_NL")
    for n in range(5):
        with proxy.connect() as c:
            assert at_replica(proxy, c, OTHERS["lc_time_names"][1]) == "maart"
            assert value(c, "SELECT @@lc_time_names") == "nl_NL"
            rows(c, "SET @pinned = %d" % n)  # its connection cannot be reset: init_connect would not run again
    set_both("", "", "en_US")
    with proxy.connect() as c:
        assert at_replica(proxy, c, OTHERS["lc_time_names"][1]) == "March"


def test_roles_do_not_stay(lab, proxy):
    """A reset keeps the role: the next client has the account's own all the same."""
    lab.primary.sql("CREATE ROLE IF NOT EXISTS auditor", "GRANT auditor TO app")
    for _ in range(3):
        with proxy.connect() as c:
            assert value(c, "SELECT CURRENT_ROLE()") is None
            rows(c, "SET ROLE auditor")
            rows(c, "SET @pinned = 1")
            assert value(c, "SELECT CURRENT_ROLE()") == "auditor"
    with proxy.connect() as c, proxy.connect(user="root", db=None) as root:
        rows(root, "SET DEFAULT ROLE auditor FOR app")
        assert fresh(proxy, "SELECT CURRENT_ROLE()") == "auditor"
        assert value(c, "SELECT CURRENT_ROLE()") is None
        rows(root, "SET DEFAULT ROLE NONE FOR app")
        assert fresh(proxy, "SELECT IFNULL(CURRENT_ROLE(), '-')") == "-"


def test_a_replica_that_refuses_the_defaults(lab, proxy):
    """A role that is not there: the account's reads go elsewhere, others' do not, and it is not asked all the time."""
    def new_epoch():
        with proxy.connect(user="root", db=None) as root:
            rows(root, "SET GLOBAL wait_timeout = @@global.wait_timeout")

    lab.primary.sql("SET sql_log_bin = 0", "CREATE ROLE here", "GRANT here TO app", "SET DEFAULT ROLE here FOR app")
    new_epoch()
    assert fresh(proxy, "SELECT CURRENT_ROLE()") == "here"
    with proxy.connect() as c, proxy.connect(user="other") as other:
        before, tried = at_replicas(proxy), lab.replicas[0].status("Connections")
        for _ in range(500):
            assert text(c, OTHERS["time_zone"][1]) == "00:00"
        assert at_replicas(proxy) == before
        assert lab.replicas[0].status("Connections") < tried + 250
        assert at_replica(proxy, other, OTHERS["time_zone"][1]) == "00:00"
    lab.primary.sql("SET sql_log_bin = 0", "SET DEFAULT ROLE NONE FOR app", "DROP ROLE here")
    new_epoch()
    with proxy.connect() as c:
        assert at_replica(proxy, c, OTHERS["time_zone"][1]) == "00:00"


def test_a_replica_cannot_be_written(lab, proxy):
    """Not even by who may write to a read-only server, in a transaction that a replica runs."""
    with proxy.connect(user="root", db="app") as c:
        assert at_replica(proxy, c, "SELECT title %s" % READ)
        rows(c, "START TRANSACTION READ ONLY")
        assert server_id(c) != server_id(lab.primary.root())
        rows(c, "COMMIT")
        assert value(c, "SELECT @@tx_read_only") == 0
        rows(c, "UPDATE articles SET title = title WHERE id = 1")


def test_a_function_that_writes_behind_a_view(lab, proxy):
    """Where its view is not known to write, a replica refuses it, also to who is a READ ONLY ADMIN, and the primary does
    it."""
    lab.primary.sql("CREATE TABLE app.noted (n INT AUTO_INCREMENT PRIMARY KEY)",
                    "CREATE FUNCTION app.note() RETURNS INT MODIFIES SQL DATA BEGIN INSERT INTO app.noted VALUES (NULL); "
                    "RETURN 1; END", "CREATE VIEW app.notes AS SELECT app.note() AS n FROM app.articles WHERE id = 1")
    lab.sync()
    with proxy.connect(user="root") as c:
        for n in range(1, 6):
            assert value(c, "SELECT n FROM notes") == 1
            lab.sync()
            for server in [lab.primary] + lab.replicas:
                assert server.sql("SELECT COUNT(*) FROM app.noted") == [(n,)], server.name
    lab.primary.sql("DROP VIEW app.notes", "DROP FUNCTION app.note", "DROP TABLE app.noted")


def test_another_zone_gets_no_reads(lab, proxy):
    replica = lab.replicas[0]
    replica.down("TERM")
    subprocess.run([LAB_SH, "up", lab.dir, replica.name], check=True, stdin=subprocess.DEVNULL,
                   env=dict(os.environ, TZ="XYZ-9"))
    replica.sql("START SLAVE")
    wait_until(lambda: any(e["kind"] == "replica_differs" and "system_time_zone" in e["text"]
                           for e in proxy.admin("SELECT * FROM events")), "an event tells of it")
    wait_until(lambda: any("system_time_zone" in r["why"] for r in proxy.admin("SELECT * FROM servers")), "and why")
    with proxy.connect() as c:
        before = at_replicas(proxy)
        for _ in range(5):
            assert text(c, OTHERS["time_zone"][1]) == "00:00"
        assert at_replicas(proxy) == before
    replica.down("TERM")
    replica.up()
    replica.sql("START SLAVE")
    with proxy.connect() as c:
        assert at_replica(proxy, c, OTHERS["time_zone"][1]) == "00:00"


def test_a_promoted_replica_is_written(lab, proxy):
    """Connections that were a replica's are not lent as the primary's, nor the other way round."""
    old, new = lab.primary, lab.replicas[0]
    new.sql("SET GLOBAL lc_time_names = 'fi_FI'")
    with proxy.connect() as c:
        assert at_replica(proxy, c, "SELECT title %s" % READ)
        lab.sync()
        old.sql("SET GLOBAL read_only = 1")
        new.sql("STOP SLAVE", "SET GLOBAL read_only = 0")
        old.sql("CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=%d, MASTER_USER='repl', MASTER_PASSWORD='lab-repl', "
                "MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1" % new.port, "START SLAVE")
        for n in range(5):
            with proxy.connect() as d:
                rows(d, "UPDATE articles SET title = 'promoted %d' WHERE id = 2" % n)
                assert value(d, "SELECT title FROM articles WHERE id = 2") == "promoted %d" % n
        assert fresh(proxy, "SELECT @@lc_time_names") == "fi_FI"  # the new primary's default
        assert value(c, "SELECT @@lc_time_names") == "en_US"
        assert at_replica(proxy, c, OTHERS["lc_time_names"][1]) == "March"
        with proxy.connect() as d:
            assert at_replica(proxy, d, OTHERS["lc_time_names"][1]) == "maaliskuu"


with Lab(replicas=1) as lab, Proxy(lab, {"proxy": {"mode": "split"}}) as proxy:
    run(globals(), lab=lab, proxy=proxy)
