#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What changes while it runs (SIGHUP), how it ends (SIGTERM), and what keeps it from starting."""
import os
import signal
import subprocess
import tempfile
import threading

import pymysql

from harness import LIMIT, SIDETRACK, Lab, Proxy, rows, run, value, wait_until

READ = "SELECT title FROM articles WHERE id = 7"


def served(proxy, server):
    return proxy.metric("sidetrack_statements_total", server=server)


def wait_reads(proxy, c, *servers):
    """Until reads go to just these of the replicas."""
    def there():
        before = {r.name: served(proxy, r.name) for r in proxy.lab.replicas}
        for _ in range(40):
            rows(c, READ)
        return {s for s in before if served(proxy, s) > before[s]} == set(servers)
    wait_until(there, "reads at %s" % (servers,))


def test_mode_weights_servers(lab):
    with Proxy(lab) as proxy, proxy.connect() as c:
        wait_reads(proxy, c, "replica1", "replica2")
        assert proxy.reload({"server.replica1": {"weight": 0}})
        wait_reads(proxy, c, "replica2")
        assert proxy.reload({"server.replica1": {"weight": 1}, "proxy": {"mode": "observe"}})
        wait_reads(proxy, c)
        assert proxy.reload({"server.replica2": None, "proxy": {"mode": "split"}})
        wait_reads(proxy, c, "replica1")
        assert len(proxy.admin("SELECT * FROM servers")) == 2
        assert proxy.reload({"server.replica2": {"address": lab.replicas[1].address}})
        wait_reads(proxy, c, "replica1", "replica2")
        rows(c, "UPDATE members SET name = 'reloaded' WHERE id = 1")  # the session has lived through it all
        assert value(c, "SELECT name FROM members WHERE id = 1") == "reloaded"


def test_cache_rules(lab):
    with Proxy(lab, {"cache.token": None}) as proxy, proxy.connect() as c:
        token = lab.primary.sql("SELECT token FROM app.access_token WHERE id = 3")[0][0]
        lookup = "SELECT member_id FROM access_token WHERE token = '%s'" % token

        def hits():
            return proxy.routed()["cache"]

        for _ in range(5):
            rows(c, lookup)
        assert hits() == 0
        assert proxy.reload({"cache.token": {"table": "app.access_token", "key": "token", "expires": "expires_at"}})
        wait_until(lambda: rows(c, lookup) == [(4,)] and hits() > 3, "hits")
        rows(c, "UPDATE access_token SET member_id = 44 WHERE id = 3")
        assert rows(c, lookup) == [(44,)]
        assert proxy.reload({"cache": {"store": "memory"}})
        before = hits()
        wait_until(lambda: rows(c, lookup) == [(44,)] and hits() > before + 3, "hits in memory")
        assert proxy.reload({"cache.token": None})

        def none():
            before = hits()
            rows(c, lookup)
            return hits() == before
        wait_until(none)
        rows(c, "UPDATE access_token SET member_id = 4 WHERE id = 3")
        assert rows(c, lookup) == [(4,)]


def test_users(lab):
    lab.primary.sql("CREATE USER fixed IDENTIFIED BY 'lab-fixed'", "GRANT ALL ON app.* TO fixed")
    with Proxy(lab) as proxy:
        assert proxy.reload({"monitor": {"user": "monitor"}, "user.fixed": {"password": "another"}})

        def refused():  # what the file says counts
            try:
                proxy.connect(user="fixed").close()
            except pymysql.MySQLError as e:
                return e.args[0] == 1045
            return False
        wait_until(refused)
        assert proxy.reload({"user.fixed": {"password": "lab-fixed"}})
        with proxy.connect(user="fixed") as c:
            assert rows(c, READ) == [("Article 7",)]


def test_bad_file_changes_nothing(lab):
    with Proxy(lab, {"proxy": {"mode": "split"}}) as proxy, proxy.connect() as c:
        wait_reads(proxy, c, "replica1", "replica2")
        for bad in ({"proxy": {"mode": "sideways"}}, {"proxy": {"mode": "split", "colour": "red"}},
                    {"proxy": {"colour": None}, "server.replica1": {"address": "nowhere:port"}}):
            assert not proxy.reload(bad)
            assert "sidetrack.conf:" in proxy.log()
            wait_reads(proxy, c, "replica1", "replica2")
        assert proxy.reload({"server.replica1": {"address": lab.replicas[0].address}})


def test_term_lets_statements_and_transactions_end(lab):
    with Proxy(lab) as proxy:
        idle, open_, busy = proxy.connect(), proxy.connect(), proxy.connect()
        rows(open_, "BEGIN")
        rows(open_, "UPDATE members SET name = 'drained' WHERE id = 4")
        answer = []
        asking = threading.Thread(target=lambda: answer.append(rows(busy,
                "SELECT SLEEP(1), title FROM articles WHERE id = 7")))
        asking.start()
        running = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP(1)%'"
        wait_until(lambda: any(s.sql(running)[0][0]
                               for s in [lab.primary] + lab.replicas))
        proxy.process.send_signal(signal.SIGTERM)
        asking.join(LIMIT)
        assert answer == [[(0, "Article 7")]], answer
        try:
            rows(idle, READ)
            raise AssertionError("an idle client was not sent away")
        except pymysql.MySQLError as e:
            assert e.args[0] in (2006, 2013), e
        try:
            proxy.connect()
            raise AssertionError("a new client came in")
        except pymysql.MySQLError as e:
            assert e.args[0] == 2003, e
        assert proxy.process.poll() is None  # the transaction holds it
        rows(open_, "UPDATE members SET name = CONCAT(name, ' well') WHERE id = 4")
        rows(open_, "COMMIT")
        assert proxy.process.wait(LIMIT) == 0
        assert lab.primary.sql("SELECT name FROM app.members WHERE id = 4") == [("drained well",)]
        assert not os.path.exists(proxy.sock)


def test_term_has_a_limit(lab):
    with Proxy(lab, {"proxy": {"drain_timeout": "500ms"}}) as proxy:
        c = proxy.connect()
        rows(c, "BEGIN")
        rows(c, "UPDATE members SET name = 'cut off' WHERE id = 5")
        proxy.process.send_signal(signal.SIGTERM)
        assert proxy.process.wait(LIMIT) == 0
    wait_until(lambda: lab.primary.sql("SELECT COUNT(*) FROM information_schema.innodb_trx") == [(0,)])
    assert lab.primary.sql("SELECT name FROM app.members WHERE id = 5") != [("cut off",)]


def test_second_term_ends_at_once(lab):
    with Proxy(lab, {"proxy": {"drain_timeout": "1h"}}) as proxy:
        c = proxy.connect()
        rows(c, "BEGIN")
        proxy.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "stopping:" in proxy.log())
        proxy.process.send_signal(signal.SIGTERM)
        assert proxy.process.wait(LIMIT) == 0


def test_second_term_in_the_middle_of_ddl(lab):
    """What a session that is cut off still asks of the monitor finds it there."""
    with Proxy(lab) as proxy:
        c = proxy.connect()
        ddl = threading.Thread(target=lambda: refused(c, "CREATE TABLE scratch.slow AS SELECT SLEEP(20) AS x"))
        ddl.start()
        wait_until(lambda: lab.primary.sql("SELECT 1 FROM information_schema.PROCESSLIST WHERE INFO LIKE 'CREATE%'"))
        proxy.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "stopping:" in proxy.log())
        proxy.process.send_signal(signal.SIGTERM)
        assert proxy.process.wait(LIMIT) == 0, proxy.log()
        ddl.join()
    lab.primary.sql("DROP TABLE IF EXISTS scratch.slow")


def refused(c, sql):
    try:
        rows(c, sql)
    except (pymysql.MySQLError, OSError):
        return True
    return False


def test_mistakes_keep_it_from_starting():
    for text, word in (("[proxy]\nlisten = 127.0.0.1:1\nmode = sideways\n[server.a]\naddress = 127.0.0.1:2\n", ":3:"),
                       ("[proxy]\nlisten 127.0.0.1:1\n", ":2:"), ("[what]\n", ":1:"), ("[server.a]\nrole = auto\n",
                                                                                       "address"),
                       ("[proxy]\nlisten = /no/such/folder/sock\n[server.a]\naddress = 127.0.0.1:2\n",
                        "/no/such/folder/sock")):
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as f:
            f.write(text)
            f.flush()
            done = subprocess.run([SIDETRACK, "-c", f.name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  timeout=LIMIT, check=False)
            assert done.returncode == 1 and word in done.stdout.decode(), (text, done)


if __name__ == "__main__":
    with Lab(replicas=2) as the_lab:
        run(globals(), lab=the_lab)
