#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The monitor before real servers: roles, proofs of freshness, replicas that stop, hang, die and return, a switch of the
primary, accounts, the catalog. It runs alone, in tests/unit/monitor_driver.c, so that what it says can be seen."""
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

from harness import ROOT, Lab, run, wait_until

VARIANT = os.environ.get("MONITOR_VARIANT", "asan")
DRIVER = os.environ.get("MONITOR_DRIVER", "build/obj/%s/unit/monitor_driver" % VARIANT)


class Monitor:
    def __init__(self, lab, **monitor):
        self.lab, self.lines, self.answers = lab, [], []
        self.dir = tempfile.TemporaryDirectory(prefix="st-monitor-")
        self.settings = dict({"user": "monitor", "password": "lab-monitor", "interval": "100ms", "timeout": "1s"}, **monitor)
        self.log = open(os.path.join(self.dir.name, "log"), "w")
        self.servers = ["primary"] + [r.name for r in lab.replicas]
        self.process = subprocess.Popen([os.path.join(ROOT, DRIVER), self.write_config()], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.log, universal_newlines=True)
        threading.Thread(target=self.read, daemon=True).start()

    def write_config(self):
        sections = {"server." + s: {"address": getattr(self.lab, s).address if s == "primary" else
                                    [r for r in self.lab.replicas if r.name == s][0].address} for s in self.servers}
        sections["monitor"] = self.settings
        sections["user.fixed"] = {"password": "by-configuration"}
        sections["cache.token"] = {"table": "app.access_token", "key": "token", "expires": "expires_at"}
        sections["cache.email"] = {"table": "app.members", "key": "email"}
        path = os.path.join(self.dir.name, "conf")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
            for section, keys in sections.items():
                f.write("[%s]\n" % section + "".join("%s = %s\n" % pair for pair in keys.items()))
        return path

    def read(self):
        for line in self.process.stdout:
            line = line.strip()
            (self.answers if line.startswith("done") else self.lines).append(line)

    def ask(self, *words):
        """What a command of the driver answers."""
        seen = len(self.answers)
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()
        wait_until(lambda: "done" in self.answers[seen:], "an answer to " + " ".join(words))
        return self.answers[seen][5:]

    def topology(self):
        return [line for line in list(self.lines) if line.startswith("topology")][-1]

    def has(self, *words):
        return all(" " + w in self.topology() for w in words)

    def events(self, kind, server=""):
        return [line for line in list(self.lines) if line.startswith("event %s %s" % (kind, server))]

    def readable(self, replica):
        return self.ask("readable", replica.name).split()[0] == "1"

    def age(self, replica):
        return int(self.ask("readable", replica.name).split()[1])

    def proved_at(self, replica):
        """Milliseconds, within the time that asking takes."""
        before, age = time.monotonic(), self.age(replica)
        assert age >= 0
        return before * 1000 - age

    def covered(self, table, replica):
        return self.ask("covered", table, replica.name) == "1"

    def wait_ready(self):
        wait_until(lambda: self.has("primary=primary") and all(self.readable(r) for r in self.lab.replicas), "all fresh")
        wait_until(lambda: any(line.startswith("catalog") for line in self.lines), "a catalog")

    def end(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait(60)
        self.log.close()
        with open(self.log.name) as f:
            said = f.read()
        assert self.process.returncode == 0 and "Sanitizer" not in said and "runtime error" not in said, said[-6000:]

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.end()
        elif self.process.poll() is None:
            self.process.kill()
        if kind is not None:
            print("\n".join("# " + line for line in self.lines[-25:]))


def write(lab, server=None):
    """A write to app.members; its GTID."""
    with (server or lab.primary).root(db="app") as c, c.cursor() as cursor:
        cursor.execute("UPDATE members SET last_seen = NOW(), name = CONCAT('n', RAND()) WHERE id = 1")
        cursor.execute("SELECT @@last_gtid")
        return cursor.fetchone()[0]


def test_roles_are_found_and_proofs_renewed_while_idle(lab):
    with Monitor(lab) as m:
        m.wait_ready()
        assert m.has("primary=primary", "epoch=1", "primary=primary,up", "replica1=replica,up", "replica2=replica,up")
        for _ in range(5):  # nobody writes: proofs get younger again and again all the same
            before = m.proved_at(lab.replicas[0])
            wait_until(lambda: m.proved_at(lab.replicas[0]) > before + 10, "a younger proof")


def test_a_write_is_seen_at_replicas_as_soon_as_it_is_applied(lab):
    with Monitor(lab) as m:
        m.wait_ready()
        slow = 0
        for _ in range(100):
            m.ask("wrote", "members", write(lab))
            began = time.monotonic()
            wait_until(lambda: m.covered("members", lab.replicas[0]), "replica1 covers the write")
            slow += time.monotonic() - began > 0.09  # less than an interval: learnt by waiting, not by checks
            assert m.covered("articles", lab.replicas[1])
        assert slow < 50, slow
        m.ask("unknown", "members")
        wait_until(lambda: m.covered("members", lab.replicas[0]), "the unknown write is settled by a sample")


def test_a_stopped_replica_gets_no_reads_until_it_caught_up(lab):
    one, two = lab.replicas
    with Monitor(lab) as m:
        m.wait_ready()
        one.sql("STOP SLAVE SQL_THREAD")
        m.ask("wrote", "members", write(lab))
        wait_until(lambda: not m.readable(one), "replica1 is left")
        wait_until(lambda: m.events("replica_lagging", one.name))
        wait_until(lambda: m.covered("members", two) and m.readable(two))
        assert not m.covered("members", one) and not m.covered("*", one)
        assert len(m.events("replica_lagging")) == 1
        one.sql("START SLAVE")
        wait_until(lambda: m.covered("members", one) and m.readable(one), "replica1 serves again")
        wait_until(lambda: len(m.events("replica_fresh", one.name)) == 2)
        assert m.has("replica1=replica,up")


def test_a_hung_replica_delays_nobody(lab):
    one, two = lab.replicas
    with Monitor(lab) as m:
        m.wait_ready()
        one.signal(signal.SIGSTOP)
        try:
            wait_until(lambda: m.events("server_down", one.name), "replica1 is down")
            assert m.has("replica1=replica,down") and not m.readable(one)
            for _ in range(10):
                m.ask("wrote", "members", write(lab))
                wait_until(lambda: m.covered("members", two), "replica2 goes on")
            assert not m.events("replica_lagging", two.name) and not m.events("server_down", two.name)
            stopped_ms = int(m.ask("stop"))
        finally:
            one.signal(signal.SIGCONT)
        assert stopped_ms < 1000, stopped_ms
    with Monitor(lab) as m:
        m.wait_ready()
        one.signal(signal.SIGSTOP)
        wait_until(lambda: m.events("server_down", one.name))
        one.signal(signal.SIGCONT)
        wait_until(lambda: m.readable(one), "replica1 returns")
        assert len(m.events("server_up", one.name)) == 2


def test_a_killed_replica_returns(lab):
    one = lab.replicas[0]
    with Monitor(lab) as m:
        m.wait_ready()
        one.down("KILL")
        wait_until(lambda: m.has("replica1=replica,down"))
        gtid = write(lab)
        one.up()
        m.ask("wrote", "members", gtid)
        wait_until(lambda: m.readable(one) and m.covered("members", one), "replica1 is back and caught up")


def test_a_failed_connection_is_forgiven_after_good_checks(lab):
    one = lab.replicas[0]
    with Monitor(lab) as m:
        m.wait_ready()
        m.ask("failed", one.name)
        wait_until(lambda: m.events("server_returned", one.name))
        wait_until(lambda: m.readable(one))
        assert not m.events("server_down")


def test_killed_connections_are_made_again(lab):
    one = lab.replicas[0]
    with Monitor(lab) as m:
        m.wait_ready()
        for server in (one, lab.primary):
            ids = [i for i, user in server.sql("SELECT id, user FROM information_schema.processlist") if user == "monitor"]
            server.sql(*["KILL %d" % i for i in ids])
        m.ask("wrote", "members", write(lab))
        wait_until(lambda: m.covered("members", one), "the waiter is back")
        wait_until(lambda: m.readable(one))
        assert not m.events("server_down")


def test_drain_and_reload(lab):
    one, two = lab.replicas
    with Monitor(lab) as m:
        m.wait_ready()
        assert m.ask("drain", "replica1", "1") == "0" and m.ask("drain", "nobody", "1") == "-1"
        assert m.has("replica1=replica,up,drained") and not m.readable(one)
        m.servers.remove("replica2")
        m.ask("reload", m.write_config())
        assert "replica2" not in m.topology() and m.has("replica1=replica,up,drained", "epoch=1")
        m.servers.append("replica2")
        m.ask("reload", m.write_config())
        wait_until(lambda: m.readable(two), "replica2 is there again")
        m.ask("drain", "replica1", "0")
        wait_until(lambda: m.readable(one))


def test_accounts_are_those_of_the_server(lab):
    with Monitor(lab) as m:
        m.wait_ready()
        wait_until(lambda: m.ask("account", "app", "10.1.2.3") == "app@% native mysql_native_password")
        assert m.ask("account", "fixed", "10.1.2.3") == "fixed@% native mysql_native_password"
        assert m.ask("account", "late", "10.1.2.3") == ""
        lab.primary.sql("CREATE USER late@'10.1.2.%' IDENTIFIED BY 'x'", "CREATE USER late@'%' IDENTIFIED BY 'y' ACCOUNT LOCK",
                        "CREATE USER nopass@'%'", "CREATE USER sock@'%' IDENTIFIED VIA unix_socket",
                        "CREATE USER twin@'%' IDENTIFIED VIA unix_socket OR mysql_native_password USING PASSWORD('z')",
                        "CREATE ROLE reporting")
        m.ask("poke-accounts")
        wait_until(lambda: m.ask("account", "late", "10.1.2.3") == "late@10.1.2.% native mysql_native_password")
        assert m.ask("account", "late", "10.1.3.3") == "late@% native mysql_native_password locked"
        assert m.ask("account", "nopass", "10.1.3.3") == "nopass@% empty mysql_native_password"
        assert m.ask("account", "sock", "10.1.3.3") == "sock@% unsupported unix_socket"
        assert m.ask("account", "twin", "10.1.3.3") == "twin@% native mysql_native_password"
        assert m.ask("account", "reporting", "10.1.3.3") == ""
        lab.primary.sql("DROP USER late@'10.1.2.%', late@'%', nopass, sock, twin", "DROP ROLE reporting")


def test_the_catalog_knows_what_texts_do_not_show(lab):
    with Monitor(lab) as m:
        m.wait_ready()
        assert m.ask("rule", "0") == "found=1 compare=2 expires=1 ordinal=1 columns=7 sole=0 hidden=0 bytes=64 why="
        assert m.ask("object", "app", "access_token") == "0 0 0"
        lab.primary.sql("CREATE DATABASE cat", "CREATE TABLE cat.parent (id INT PRIMARY KEY)",
                        "CREATE TABLE cat.child (id INT, FOREIGN KEY (id) REFERENCES cat.parent (id) ON DELETE CASCADE)",
                        "CREATE TABLE cat.plain (id INT, FOREIGN KEY (id) REFERENCES cat.parent (id))",
                        "CREATE TABLE cat.audit (id INT)", "CREATE VIEW cat.v AS SELECT * FROM app.members",
                        "CREATE TRIGGER cat.t AFTER INSERT ON cat.audit FOR EACH ROW UPDATE app.access_token SET revoked = 1",
                        "CREATE FUNCTION cat.pure(a INT) RETURNS INT NO SQL RETURN a + 1",
                        "CREATE FUNCTION cat.looks() RETURNS INT READS SQL DATA RETURN (SELECT COUNT(*) FROM app.members)",
                        "CREATE FUNCTION cat.asks() RETURNS INT READS SQL DATA RETURN @x",
                        "CREATE FUNCTION cat.silent() RETURNS INT RETURN 1")
        wanted = int(m.ask("request"))
        wait_until(lambda: any(line.startswith("catalog") and int(line.split()[1]) >= wanted for line in list(m.lines)))
        for name, want in {"parent": "0 1 0", "child": "0 0 0", "plain": "0 0 0", "audit": "0 1 0", "v": "1 1 0",
                           "pure": "0 0 1", "PURE": "0 0 1", "looks": "0 0 1", "asks": "0 0 0", "silent": "0 0 1"}.items():
            assert m.ask("object", "cat", name) == want, name
        assert " hidden=1 " in m.ask("rule", "0") and " hidden=0 " in m.ask("rule", "1")
        lab.primary.sql("DROP DATABASE cat", "REVOKE TRIGGER ON *.* FROM monitor")
        m.ask("request")
        wait_until(lambda: m.events("catalog_incomplete"))
        assert "GRANT TRIGGER ON *.*" in m.events("catalog_incomplete")[0]
        assert m.ask("object", "app", "access_token") == "1 1 0" and " hidden=1 " in m.ask("rule", "0")
        lab.primary.sql("GRANT TRIGGER ON *.* TO monitor")
        m.ask("request")
        wait_until(lambda: m.events("catalog_complete"))
        assert " hidden=0 " in m.ask("rule", "0")


W, V, K, T, D, N, X, ALL = 1, 2, 4, 8, 16, 32, 64, 511  # sql/effect.h


def test_effects_are_read_from_texts_as_the_server_stores_them(lab):
    lab.primary.sql("CREATE DATABASE eff", "CREATE TABLE eff.t (a INT)", "CREATE TABLE eff.t2 (a INT)", "CREATE SEQUENCE eff.s",
                    "CREATE TABLE eff.mem (a INT) ENGINE=MEMORY",
                    "CREATE TABLE eff.virt (a INT, b INT AS (@x := a))", "CREATE TABLE eff.plain (a INT, b INT AS (a + 1) STORED, "
                    "c VARCHAR(9) DEFAULT 'f(x)')",
                    "CREATE TABLE eff.seqd (a INT, b INT DEFAULT NEXTVAL(eff.s), c CHAR(36) DEFAULT UUID())",
                    "CREATE FUNCTION eff.pure(a INT) RETURNS INT RETURN a + 1",
                    "CREATE FUNCTION eff.bs() RETURNS VARCHAR(50) RETURN CONCAT('a\\\\', 'INSERT INTO', eff.pure(1))",
                    "CREATE FUNCTION eff.writes() RETURNS INT BEGIN INSERT INTO t (a) VALUES (1); RETURN 1; END",
                    "CREATE FUNCTION eff.calls() RETURNS INT RETURN writes()",
                    "CREATE FUNCTION eff.looks() RETURNS INT RETURN (SELECT COUNT(*) FROM vlook)",
                    "CREATE VIEW eff.vlook AS SELECT eff.pure(a) AS p, 'it''s \\\\' AS q, NOW() AS n FROM eff.t",
                    "CREATE VIEW eff.vwrite AS SELECT eff.calls() AS c FROM eff.t",
                    "CREATE VIEW eff.vover AS SELECT * FROM eff.vwrite",
                    "CREATE VIEW eff.vsess AS SELECT LAST_INSERT_ID() AS l, GET_LOCK('x', 0) AS g",
                    "CREATE TRIGGER eff.tg BEFORE INSERT ON eff.t2 FOR EACH ROW BEGIN SET @s = 'x\\\\'; "
                    "CREATE TEMPORARY TABLE IF NOT EXISTS x (a INT); END",
                    "CREATE PROCEDURE eff.p(x INT, OUT y INT) BEGIN SET y = x; INSERT INTO t2 VALUES (1); END",
                    "CREATE PROCEDURE eff.q() BEGIN SET sql_mode = ''; COMMIT; END",
                    "CREATE PROCEDURE eff.dyn() EXECUTE IMMEDIATE 'SELECT 1'",
                    "SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
                    "CREATE FUNCTION eff.quotes() RETURNS VARCHAR(50) RETURN 'a\\'",
                    "CREATE TRIGGER eff.tq BEFORE INSERT ON eff.plain FOR EACH ROW SET @b = 'a\\'",
                    "SET sql_mode = ORACLE", "CREATE PACKAGE eff.pkg AS FUNCTION f RETURN INT; END",
                    "CREATE PROCEDURE eff.ora AS BEGIN sql_mode := ''; END")
    unseen = {n: (ALL, ALL, ALL, ALL) for n in ("vlook", "vwrite", "vover", "vsess")}
    seen = {"t": (0, 0, ALL, ALL), "s": (D, 0, ALL, ALL), "mem": (D, 0, ALL, ALL), "virt": (K | D, K | D, ALL, ALL),
            "plain": (0, K | D, ALL, ALL), "seqd": (0, W | K | D | N, ALL, ALL), "pure": (0, 0, 0, ALL), "bs": (0, 0, 0, ALL),
            "writes": (0, 0, W, ALL), "calls": (0, 0, W, ALL), "t2": (0, W | T | K | D, ALL, ALL),
            "p": (0, 0, ALL, W | T | K | D), "q": (0, 0, ALL, V | X), "dyn": (0, 0, ALL, ALL), "quotes": (0, 0, 0, ALL),
            "ora": (0, 0, ALL, ALL)}
    views = {"vlook": (N, N, ALL, ALL), "vwrite": (W, W, ALL, ALL), "vover": (W, W, ALL, ALL),
             "vsess": (K | D, K | D, ALL, ALL), "looks": (0, 0, N, ALL)}

    def check(m, want):
        wanted = int(m.ask("request"))
        wait_until(lambda: any(line.startswith("catalog") and int(line.split()[1]) >= wanted for line in list(m.lines)))
        got = {n: tuple(map(int, m.ask("effects", "eff", n).split())) for n in want}
        assert got == want, {n: (got[n], want[n]) for n in want if got[n] != want[n]}

    with Monitor(lab) as m:
        m.wait_ready()
        check(m, dict(seen, **unseen, looks=(0, 0, ALL, ALL)))
        assert "and 3 more may not be seen" in m.events("views_unseen")[0], m.events("views_unseen")
        lab.primary.sql("GRANT SELECT ON eff.* TO monitor")
        check(m, dict(seen, **views))
        wait_until(lambda: m.events("views_seen"))
        lab.primary.sql("REVOKE SELECT ON eff.* FROM monitor")
        check(m, unseen)
        # what an administrator gives who does not want to show rows
        lab.primary.sql("CREATE VIEW mysql.sidetrack_views AS SELECT TABLE_SCHEMA, TABLE_NAME, VIEW_DEFINITION FROM "
                        "information_schema.VIEWS")
        check(m, dict(seen, **views))
        lab.primary.sql("DROP VIEW mysql.sidetrack_views", "DROP DATABASE eff")


def test_columns_that_change_by_themselves_keep_a_table_out_of_the_cache(lab):
    with Monitor(lab) as m:
        m.wait_ready()
        for column, good in [("c INT AS (id + 1)", True), ("c DATETIME AS (NOW())", False), ("c BIGINT AS (CONNECTION_ID())", False),
                             ("c VARCHAR(99) AS (CONCAT(name, @v))", False), ("c DATETIME AS (NOW()) STORED", None),
                             ("c DATETIME DEFAULT NOW()", True), ("c VARCHAR(99) AS (UPPER(name))", True),
                             ("c VARCHAR(99) AS (USER())", False)]:
            if good is None:
                continue  # the server refuses it
            lab.primary.sql("ALTER TABLE app.members ADD " + column)
            wanted = int(m.ask("request"))
            wait_until(lambda: any(line.startswith("catalog") and int(line.split()[1]) >= wanted for line in list(m.lines)))
            assert m.ask("rule", "1").endswith(" why=" + ("" if good else "the column c changes by itself")), column
            lab.primary.sql("ALTER TABLE app.members DROP c")


def test_a_replica_that_leaves_something_out_gets_no_reads(lab):
    replica = lab.replicas[0]
    with Monitor(lab) as m:
        m.wait_ready()
        for option, value, none in [("replicate_ignore_table", "app.members", ""), ("replicate_wild_do_table", "app.%", ""),
                                    ("replicate_do_db", "app", ""), ("replicate_rewrite_db", "a->b", ""),
                                    ("replicate_events_marked_for_skip", "FILTER_ON_SLAVE", "REPLICATE")]:
            told, back = len(m.events("replica_filtered replica1")), len(m.events("replica_unfiltered replica1"))
            replica.sql("STOP SLAVE", "SET GLOBAL %s = '%s'" % (option, value), "START SLAVE")
            wait_until(lambda: len(m.events("replica_filtered replica1")) > told, option)
            assert option in m.events("replica_filtered replica1")[-1].lower()
            assert not m.readable(replica) and m.readable(lab.replicas[1])
            replica.sql("STOP SLAVE", "SET GLOBAL %s = '%s'" % (option, none), "START SLAVE")
            wait_until(lambda: len(m.events("replica_unfiltered replica1")) > back, option)
            wait_until(lambda: m.readable(replica), option)
        told = len(m.events("replica_filtered replica1"))
        replica.sql("STOP SLAVE", "CHANGE MASTER TO IGNORE_DOMAIN_IDS = (7)", "START SLAVE")
        wait_until(lambda: len(m.events("replica_filtered replica1")) > told)
        assert not m.readable(replica)
        replica.sql("STOP SLAVE", "CHANGE MASTER TO IGNORE_DOMAIN_IDS = ()", "START SLAVE")
        wait_until(lambda: m.readable(replica))


def test_an_account_without_privileges_proves_freshness_all_the_same(lab):
    lab.primary.sql("CREATE USER fixed IDENTIFIED BY 'by-configuration'")
    lab.sync()
    with Monitor(lab, user="fixed", password="by-configuration") as m:
        m.wait_ready()
        assert m.has("primary=primary", "replica1=replica,up", "replica2=replica,up")
        wait_until(lambda: m.events("account_refresh_failed") and m.events("catalog_incomplete"))
        assert m.ask("account", "fixed", "10.1.2.3") == "fixed@% native mysql_native_password"
    lab.primary.sql("DROP USER fixed")
    with Monitor(lab, password="wrong") as m:
        wait_until(lambda: len(m.events("server_down")) == 3)
        assert "denied" in m.events("server_down")[0] and m.has("primary=none")


def replicate(server, master):
    server.sql("CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=%d, MASTER_USER='repl', MASTER_PASSWORD='lab-repl', "
               "MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1" % master.port, "START SLAVE")


# The last tests: afterwards replica1 is the primary.
def test_the_primary_is_switched(lab):
    one, two = lab.replicas
    with Monitor(lab) as m:
        m.wait_ready()
        lab.primary.sql("SET GLOBAL read_only = 1")
        wait_until(lambda: m.events("no_primary"))
        lab.sync()
        position = lab.primary.sql("SELECT @@gtid_binlog_pos")[0][0]
        one.sql("STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = 0")
        wait_until(lambda: m.has("primary=replica1", "epoch=2", "replica1=primary,up"))
        wait_until(lambda: m.has("primary=replica,up"))
        assert len(m.events("primary_change")) == 2
        two.sql("STOP SLAVE", "RESET SLAVE ALL")
        replicate(two, one)
        lab.primary.sql("SET GLOBAL gtid_slave_pos = '%s'" % position)
        replicate(lab.primary, one)
        wait_until(lambda: m.readable(two) and m.readable(lab.primary), "both follow the new primary")
        m.ask("wrote", "members", write(lab, one))
        wait_until(lambda: m.covered("members", two) and m.covered("members", lab.primary))


def test_the_old_primary_is_kept_when_there_are_two(lab):
    one, two = lab.replicas
    with Monitor(lab) as m:
        wait_until(lambda: m.has("primary=replica1") and m.readable(two) and m.readable(lab.primary))
        lab.primary.sql("STOP SLAVE", "SET GLOBAL read_only = 0")
        wait_until(lambda: m.events("two_primaries", "replica1"))
        assert m.has("primary=replica1", "epoch=1")
        lab.primary.sql("SET GLOBAL read_only = 1", "START SLAVE")
        wait_until(lambda: m.has("primary=replica,up") and m.readable(lab.primary))


def test_a_hung_primary_expires_proofs(lab):
    one, two = lab.replicas
    with Monitor(lab) as m:
        wait_until(lambda: m.has("primary=replica1") and m.readable(two))
        one.signal(signal.SIGSTOP)
        try:
            wait_until(lambda: not m.readable(two), "proofs expire")
            wait_until(lambda: m.has("primary=none", "replica1=primary,down", "replica2=replica,up"))
        finally:
            one.signal(signal.SIGCONT)
        wait_until(lambda: m.has("primary=replica1", "epoch=1") and m.readable(two), "all is well again")


def test_a_dead_primary_leaves_a_gap_and_returns(lab):
    one, two = lab.replicas
    with Monitor(lab) as m:
        wait_until(lambda: m.has("primary=replica1") and m.readable(two))
        one.down("KILL")
        wait_until(lambda: m.has("primary=none", "replica1=primary,down"))
        assert m.readable(two), "what was proved when it was last heard stays so: nothing newer was acknowledged"
        one.up()
        one.sql("SET GLOBAL read_only = 0")
        wait_until(lambda: m.has("primary=replica1", "epoch=1") and m.readable(two), "all is well again")
        assert m.events("primary_back") and len(m.events("no_primary")) == 1


def test_a_primary_that_lost_its_tail_is_another_history(lab):
    one, two = lab.replicas
    with Monitor(lab) as m:
        wait_until(lambda: m.has("primary=replica1") and m.readable(two))
        for _ in range(5):
            gtid = write(lab, one)
        m.ask("wrote", "members", gtid)
        wait_until(lambda: m.covered("members", two))
        domain, server, sequence = gtid.split("-")
        kept = "%s-%s-%d" % (domain, server, int(sequence) - 3)
        one.sql("RESET MASTER", "SET GLOBAL gtid_slave_pos = ''", "SET GLOBAL gtid_binlog_state = '%s'" % kept)
        wait_until(lambda: m.events("replica_diverged", two.name) and m.has("epoch=2"))
        wait_until(lambda: not m.readable(two))
        m.ask("wrote", "members", write(lab, one))
        assert not m.covered("members", two)
        two.sql("STOP SLAVE", "RESET MASTER", "SET GLOBAL gtid_slave_pos = '%s'" % kept, "START SLAVE")
        wait_until(lambda: m.readable(two) and m.covered("members", two), "it was rebuilt")


if __name__ == "__main__":
    if "MONITOR_DRIVER" not in os.environ:
        made = subprocess.run(["make", "-s", "VARIANT=" + VARIANT, DRIVER], cwd=ROOT, check=False, stdout=sys.stderr)
        assert made.returncode == 0
    with Lab(replicas=2) as the_lab:
        run(globals(), lab=the_lab)
