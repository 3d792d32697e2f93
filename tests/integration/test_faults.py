#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Servers, Redis and the proxy itself die, hang, are drained and switched, under load: what clients see of it."""
import signal
import statistics
import threading
import time

import pymysql

from harness import LIMIT, Lab, Proxy, Relay, rows, run, value, wait_until

READ = "SELECT title FROM articles WHERE id = 7"


class Load:
    """Clients that repeat `work(connection, number)` until the end of a with block; errors and durations are kept."""

    def __init__(self, proxy, clients, work, **connect):
        self.proxy, self.work, self.connect = proxy, work, connect
        self.errors, self.seconds, self.counts, self.ending = [], [], [0] * clients, False
        self.threads = [threading.Thread(target=self.client, args=(n,), daemon=True) for n in range(clients)]

    def client(self, number):
        c = None
        while not self.ending:
            try:
                c = c or self.proxy.connect(**self.connect)
                begin = time.monotonic()
                self.work(c, number)
                self.seconds.append(time.monotonic() - begin)
                self.counts[number] += 1
            except (pymysql.MySQLError, OSError, AssertionError) as e:
                self.errors.append(e)
                if len(self.errors) > 1000:
                    return
                c = None

    def goes_on(self, more=20):
        """Until every client has done that much more."""
        before = list(self.counts)
        wait_until(lambda: all(now >= then + more for now, then in zip(self.counts, before)),
                   "all clients go on")
        assert len(self.errors) < 1000, self.errors[:3]

    def __enter__(self):
        for t in self.threads:
            t.start()
        self.goes_on(1)
        return self

    def __exit__(self, *_):
        self.ending = True
        for t in self.threads:
            t.join(LIMIT)
            assert not t.is_alive(), "a client hangs"


def served(proxy, server):
    return proxy.metric("sidetrack_statements_total", server=server)


def wait_serves(proxy, *servers):
    """Until reads reach all of these."""
    before = [served(proxy, s) for s in servers]
    with proxy.connect() as c:
        wait_until(lambda: rows(c, READ) and all(served(proxy, s) > b for s, b in zip(servers, before)),
                   "reads at %s" % (servers,))


def wait_leaves(proxy, server):
    """Until fifty reads in a row pass it by."""
    with proxy.connect() as c:
        def passed_by():
            before = served(proxy, server)
            for _ in range(50):
                rows(c, READ)
            return served(proxy, server) == before
        wait_until(passed_by, "reads leave " + server)


def events(proxy, kind):
    return [e for e in proxy.admin("SELECT * FROM events") if kind in e.values()]


def error_of(call, *args):
    try:
        call(*args)
    except pymysql.MySQLError as e:
        return e
    raise AssertionError("no error: %r" % (args,))


def read_some(c, number):
    assert rows(c, READ) == [("Article 7",)]
    assert value(c, "SELECT COUNT(*) FROM articles WHERE id <= %d" % (number + 1)) == number + 1
    if number == 0:  # one is always in the middle
        assert rows(c, "SELECT SLEEP(0.05), title FROM articles WHERE id = 9")[0][1] == "Article 9"


# --- replicas ---

def test_replica_killed_under_reads(lab, proxy):
    wait_serves(proxy, "replica1", "replica2")
    with Load(proxy, 6, read_some) as load:
        for _ in range(2):
            lab.replicas[0].down()
            load.goes_on(30)
            wait_leaves(proxy, "replica1")
            lab.replicas[0].up()
            wait_serves(proxy, "replica1")
    assert not load.errors, load.errors[:5]


def test_all_replicas_killed_under_reads(lab, proxy):
    wait_serves(proxy, "replica1", "replica2")
    with Load(proxy, 4, read_some) as load:
        for r in lab.replicas:
            r.down()
        before = served(proxy, "primary")
        load.goes_on(30)
        assert served(proxy, "primary") > before
        for r in lab.replicas:
            r.up()
        wait_serves(proxy, "replica1", "replica2")
    assert not load.errors, load.errors[:5]


def test_replica_hangs_under_reads(lab, proxy):
    wait_serves(proxy, "replica1", "replica2")
    with Load(proxy, 6, read_some) as load:
        lab.replicas[0].signal(signal.SIGSTOP)
        try:
            load.goes_on(30)
            wait_leaves(proxy, "replica1")
        finally:
            lab.replicas[0].signal(signal.SIGCONT)
        wait_serves(proxy, "replica1")
    assert not load.errors, load.errors[:5]


def test_replica_that_stops_replicating_leaves_and_returns(lab, proxy):
    wait_serves(proxy, "replica1", "replica2")
    for stop in "STOP SLAVE", "STOP SLAVE SQL_THREAD", "STOP SLAVE IO_THREAD":
        lab.replicas[1].sql(stop)
        with Load(proxy, 3, read_some) as load, proxy.connect() as c:
            rows(c, "UPDATE members SET name = CONCAT('n', RAND()) WHERE id = 1")
            wait_leaves(proxy, "replica2")
            lab.replicas[1].sql("START SLAVE")
            wait_serves(proxy, "replica2")
        assert not load.errors, load.errors[:5]


def test_drain_and_undrain(lab, proxy):
    wait_serves(proxy, "replica1", "replica2")
    with Load(proxy, 4, read_some) as load:
        proxy.admin("DRAIN replica1")
        wait_leaves(proxy, "replica1")
        wait_until(lambda: proxy.metric("sidetrack_server_connections", server="replica1") == 0)
        proxy.admin("UNDRAIN replica1")
        wait_serves(proxy, "replica1")
        proxy.admin("DRAIN primary")  # there is no other: it serves all the same
        with proxy.connect() as c:
            rows(c, "UPDATE members SET name = 'drained' WHERE id = 2")
        proxy.admin("UNDRAIN primary")
    assert not load.errors, load.errors[:5]
    e = error_of(proxy.admin, "DRAIN no_such_server")
    assert "no_such_server" in str(e), e


# --- the primary ---

def test_primary_killed(lab):
    try:
        primary_killed(lab)
    finally:
        lab.primary.down()
        lab.primary.up()


def primary_killed(lab):
    with Proxy(lab, {"proxy": {"primary_wait": "1s"}}) as proxy:
        wait_serves(proxy, "replica1", "replica2")
        reader, writer, busy, kept = [proxy.connect() for _ in range(4)]
        rows(writer, "UPDATE members SET name = 'before' WHERE id = 3")
        rows(busy, "BEGIN")
        rows(busy, "UPDATE members SET name = 'lost' WHERE id = 4")
        rows(kept, "SET @kept = 1")
        with Load(proxy, 3, read_some) as load:
            lab.primary.down()
            wait_until(lambda: events(proxy, "no_primary"))
            time.sleep(1.5)  # a proof of freshness is good for one second, and none can be had
            load.goes_on(20)  # what nobody wrote is read on
            e = error_of(rows, writer, "UPDATE members SET name = 'during' WHERE id = 3")
            if e.args[0] == 1927:  # it went out before the proxy knew
                e = error_of(rows, writer, "UPDATE members SET name = 'during' WHERE id = 3")
            assert e.args[0] == 1053 and "primary" in e.args[1], e
            assert rows(reader, READ) == [("Article 7",)]
            for c in busy, kept:  # what they had is gone, and they are told
                e = error_of(rows, c, "SELECT @kept")
                assert e.args[0] in (2006, 2013), e
                error_of(rows, c, "SELECT 1")
            with proxy.connect() as late:  # newcomers read, too
                assert rows(late, READ) == [("Article 7",)]
            lab.primary.up()
            wait_until(lambda: rows(writer, "UPDATE members SET name = 'after' WHERE id = 3") == [],
                       "writes work again")
            assert value(writer, "SELECT name FROM members WHERE id = 3") == "after"
            assert value(writer, "SELECT name FROM members WHERE id = 4") != "lost"
        assert not load.errors, load.errors[:5]


def test_cached_tables_are_read_without_a_primary(lab):
    """In the memory store nobody else's writes count: replicas that were fresh go on serving these tables too."""
    token = lab.primary.sql("SELECT token FROM app.access_token WHERE expires_at > NOW() + INTERVAL 1 HOUR")[0][0]
    lookup = "SELECT member_id FROM access_token WHERE token = '%s' AND expires_at > NOW()" % token
    with Proxy(lab, {"cache": {"store": "memory"}, "proxy": {"primary_wait": "1s"}}) as proxy:
        with proxy.connect() as c:
            want = rows(c, lookup)
        lab.sync()
        wait_serves(proxy, *[r.name for r in lab.replicas])
        lab.primary.down()
        try:
            wait_until(lambda: "no_primary" in proxy.log())
            with proxy.connect() as c:
                for sql in (lookup, lookup.replace("SELECT", "/* sidetrack: no-cache */ SELECT", 1)):
                    assert rows(c, sql) == want, sql
                assert value(c, "SELECT COUNT(*) FROM access_token") > 0
        finally:
            lab.primary.up()
        wait_until(lambda: "primary_back" in proxy.log())


def test_writes_wait_for_the_primary(lab):
    with Proxy(lab, {"proxy": {"primary_wait": "%ds" % LIMIT}}) as proxy:
        with proxy.connect() as c:
            rows(c, "CREATE OR REPLACE TABLE waited (n INT PRIMARY KEY)")
            lab.primary.down()
            wait_until(lambda: proxy.metric("sidetrack_server_up", server="primary") == 0)
            failed = []

            def write(n):
                try:
                    with proxy.connect(db=None) as mine:
                        rows(mine, "INSERT INTO app.waited VALUES (%d)" % n)
                except pymysql.MySQLError as e:
                    failed.append(e)

            writers = [threading.Thread(target=write, args=(n,)) for n in range(10)]
            for t in writers:
                t.start()
            wait_until(lambda: proxy.metric("sidetrack_client_connections") == 11)
            lab.primary.up()
            for t in writers:
                t.join(LIMIT)
            assert not failed and value(c, "SELECT COUNT(*) FROM waited") == 10, failed


def test_primary_hangs(lab):
    with Proxy(lab, {"proxy": {"primary_wait": "1s", "connect_timeout": "1s"},
                     "monitor": {"timeout": "500ms"}}) as proxy:
        wait_serves(proxy, "replica1", "replica2")
        with Load(proxy, 3, read_some) as load, proxy.connect() as c:
            lab.primary.signal(signal.SIGSTOP)
            try:
                wait_until(lambda: proxy.metric("sidetrack_server_up", server="primary") == 0)
                load.goes_on(20)
                e = error_of(rows, c, "UPDATE members SET name = 'hung' WHERE id = 6")
                assert e.args[0] in (1053, 1927), e
            finally:
                lab.primary.signal(signal.SIGCONT)
            wait_until(lambda: rows(c, "UPDATE members SET name = 'again' WHERE id = 6") == [], "writes work again")
            load.goes_on(5)
        assert not load.errors, load.errors[:5]


def switch(lab):
    """As an outside tool does it: the old one read-only, the replica caught up and writable, the other repointed."""
    old, new, other = lab.primary, lab.replicas[0], lab.replicas[1]
    old.sql("SET GLOBAL read_only = 1")
    lab.sync()
    new.sql("STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = 0")
    other.sql("STOP SLAVE", "CHANGE MASTER TO MASTER_PORT = %d" % new.port, "START SLAVE")


def test_switch_of_the_primary():
    sql = "SELECT scope, revoked FROM access_token WHERE token = MD5('token-%d')"
    with Lab(replicas=2) as lab, Proxy(lab, {"proxy": {"primary_wait": "%ds" % LIMIT}}) as proxy, proxy.connect() as c:
        rows(c, "CREATE OR REPLACE TABLE log (id INT AUTO_INCREMENT PRIMARY KEY, client INT, n INT, KEY (client, n))")
        written = [0] * 6
        tokens = [value(c, "SELECT MD5('token-%d')" % n) for n in range(1, 21)]
        lookup = "SELECT scope FROM access_token WHERE token = '%s'"
        wait_until(lambda: [rows(c, lookup % token) for token in tokens] and proxy.routed()["cache"] >= 20)
        for r in lab.replicas:  # a history that the old primary does not have
            r.sql("SET sql_log_bin = 0", "UPDATE app.access_token SET scope = 'new history'")

        def write_and_read(connection, number):
            rows(connection, "INSERT INTO log (client, n) VALUES (%d, %d)" % (number, written[number] + 1))
            written[number] += 1
            with proxy.connect() as fresh:
                seen = value(fresh, "SELECT MAX(n) FROM log WHERE client = %d" % number)
            assert seen == written[number], "%s after %d was written" % (seen, written[number])

        with Load(proxy, 6, write_and_read) as load:
            load.goes_on(10)
            switch(lab)
            wait_until(lambda: [s for s in proxy.admin("SELECT * FROM servers")
                                if s["name"] == "replica1" and s["role"] == "primary"])
            load.goes_on(10)
            before = lab.primary.status("Com_insert")
            load.goes_on(20)
        assert not load.errors, load.errors[:5]
        assert lab.primary.status("Com_insert") == before
        for number, n in enumerate(written):
            assert lab.replicas[0].sql("SELECT COUNT(*), MAX(n) FROM app.log WHERE client = %d" % number) == [(n, n)]
        assert [rows(c, lookup % t) for t in tokens] == [[("new history",)]] * 20
        assert events(proxy, "primary_change")
        wait_serves(proxy, "replica2")


def test_two_primaries_are_an_event():
    with Lab(replicas=1) as lab, Proxy(lab) as proxy, proxy.connect() as c:
        lab.replicas[0].sql("STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = 0")
        wait_until(lambda: events(proxy, "two_primaries"))
        before = lab.replicas[0].status("Com_update")
        for _ in range(20):
            rows(c, "UPDATE members SET name = CONCAT('n', RAND()) WHERE id = 1")
        assert lab.replicas[0].status("Com_update") == before  # the one that was there first is kept


# --- Redis ---

def literal_tokens(lab):
    tokens = {n: t for n, t in lab.primary.sql("SELECT id, token FROM app.access_token WHERE id <= 40")}

    def check(c, number):
        for n in range(number * 6 + 1, number * 6 + 7):
            found = rows(c, "SELECT member_id FROM access_token WHERE token = '%s'" % tokens[n])
            assert found == [(1 + n % 20000,)], found
    return check


def test_redis_dies_and_hangs(lab, proxy):
    def hits():
        return proxy.metric("sidetrack_cache_requests_total", result="hit")

    with Load(proxy, 6, literal_tokens(lab)) as load, proxy.connect() as c:
        for fault in "kill", "hang":
            before = hits()
            wait_until(lambda: hits() > before)
            if fault == "kill":
                lab.redis.down()
            else:
                lab.redis.signal(signal.SIGSTOP)
            try:
                del load.seconds[:]
                load.goes_on(30)
                median = statistics.median(load.seconds)
                assert median < 1, "median of six lookups: %s s" % median
                # a write is told to a Redis that is not there, and yet nobody reads what was before it
                for n in range(5):
                    rows(c, "UPDATE access_token SET scope = '%s%d' WHERE id = 39" % (fault, n))
                    assert value(c, "SELECT scope FROM access_token WHERE id = 39") == "%s%d" % (fault, n)
                token = value(c, "SELECT token FROM access_token WHERE id = 39")
                assert value(c, "SELECT scope FROM access_token WHERE token = '%s'" % token) == fault + "4"
            finally:
                if fault == "kill":
                    lab.redis.up()
                else:
                    lab.redis.signal(signal.SIGCONT)
            before = hits()
            wait_until(lambda: hits() > before + 20, "the cache is used again")
            assert value(c, "SELECT scope FROM access_token WHERE token = '%s'" % token) == fault + "4"
    assert not load.errors, load.errors[:5]


# --- the proxy ---

def test_proxy_killed_and_started_again(lab):
    with Proxy(lab) as proxy:
        clients = [proxy.connect() for _ in range(5)]
        for c in clients:
            rows(c, READ)
        proxy.kill()
        for c in clients:
            assert error_of(rows, c, READ).args[0] in (2006, 2013)
        proxy.start()
        with proxy.connect() as c:
            assert rows(c, READ) == [("Article 7",)]
        with pymysql.connect(unix_socket=proxy.sock, user="app", password="lab-app", database="app") as c:
            assert rows(c, READ) == [("Article 7",)]


def test_proxy_hangs_and_goes_on(lab, proxy):
    with Load(proxy, 4, read_some) as load:
        proxy.kill(signal.SIGSTOP)
        time.sleep(2)  # longer than any proof of freshness, or a Redis lookup, is good for
        proxy.kill(signal.SIGCONT)
        load.goes_on(20)
    assert not load.errors, load.errors[:5]


# --- connections ended by the server's DBA ---

def ids(server, where="TRUE"):
    return [i for i, in server.sql("SELECT id FROM information_schema.processlist WHERE user = 'app' AND " + where)]


def test_idle_server_connections_killed(lab, proxy):
    with proxy.connect() as c, proxy.connect() as d:
        for _ in range(5):
            for s in [lab.primary] + lab.replicas:
                for i in ids(s):
                    s.sql("KILL %d" % i)
            for client in c, d:
                assert rows(client, READ) == [("Article 7",)]
                rows(client, "UPDATE members SET name = CONCAT('n', RAND()) WHERE id = 9")
                assert rows(client, "SELECT COUNT(*) FROM members WHERE id = 9") == [(1,)]


def test_server_connection_killed_in_the_middle(lab, proxy):
    for sql, bound in (("SELECT SLEEP(30), title FROM articles WHERE id = 1", False),
                       ("SELECT /* sidetrack: primary */ SLEEP(30), 'x'", False),
                       ("UPDATE members SET name = SLEEP(30) WHERE id = 9", False),
                       ("SELECT SLEEP(30), 'x'", True)):
        with proxy.connect() as c:
            if bound:
                rows(c, "BEGIN")
                rows(c, "UPDATE members SET name = 'never' WHERE id = 9")
            caught = []

            def ask():
                try:
                    caught.append(rows(c, sql))
                except pymysql.MySQLError as e:
                    caught.append(e)

            asking = threading.Thread(target=ask)
            asking.start()

            def kill():
                for s in [lab.primary] + lab.replicas:
                    for i in ids(s, "info LIKE '%SLEEP(30)%'"):
                        s.sql("KILL %d" % i)
                return bool(caught)

            wait_until(kill, "an end of " + sql)  # a read may be run again elsewhere, and is killed there, too
            asking.join()
            assert isinstance(caught[0], pymysql.MySQLError), caught
            assert caught[0].args[0] in (1053, 1317, 1927, 2006, 2013), caught
            if bound:
                error_of(rows, c, "SELECT 1")
            else:
                assert rows(c, READ) == [("Article 7",)]
    with proxy.connect() as c:
        rows(c, "UPDATE members SET name = 'free' WHERE id = 9")
        assert value(c, "SELECT name FROM members WHERE id = 9") == "free"


def test_a_reset_behind_the_first_bytes_of_an_answer(lab):
    """Both reach the proxy at once: nobody waits for the rest of that answer."""
    with Relay(lab.primary.port) as relay, \
            Proxy(lab, {"server.primary": {"address": relay.address}, "monitor": {"interval": "300ms"}}) as proxy:
        for sql in ("SELECT /* sidetrack: primary */ 'x', 'y', 'z'", "DO 'not answered to the end'") * 10:
            with wait_until(lambda: proxy.connect(read_timeout=10), "a login") as c:
                relay.reset_after = 6  # bytes; perhaps of an answer to the monitor
                try:
                    rows(c, sql)
                except (pymysql.MySQLError, OSError):
                    pass
        relay.reset_after = None
        wait_until(lambda: proxy.metric("sidetrack_client_connections") == 0, "all sessions are gone")
        wait_until(lambda: all(s["outstanding"] == "0" for s in proxy.admin("SELECT outstanding FROM servers")))


# --- too few connections ---

def add_up(c, number):
    rows(c, "BEGIN")
    rows(c, "UPDATE counter SET n = n + 1")
    rows(c, "SELECT n FROM counter FOR UPDATE")
    rows(c, "COMMIT")
    rows(c, READ)


def test_clients_queue_for_server_connections(lab):
    few = {"server.%s" % s.name: {"max_connections": 2} for s in [lab.primary] + lab.replicas}
    with Proxy(lab, few) as proxy, proxy.connect() as c:
        rows(c, "CREATE OR REPLACE TABLE counter (n INT)")
        rows(c, "INSERT INTO counter VALUES (0)")
        with Load(proxy, 20, add_up) as load:
            load.goes_on(10)
            assert proxy.metric("sidetrack_server_connections", server="primary") <= 2
        assert not load.errors, load.errors[:5]
        assert value(c, "SELECT n FROM counter") == sum(load.counts)


def test_a_queue_has_an_end(lab):
    with Proxy(lab, {"proxy": {"pool_wait": "300ms"}, "server.primary": {"max_connections": 2}}) as proxy:
        held, refused = [], None
        while refused is None:
            c = proxy.connect(db=None)
            try:
                rows(c, "BEGIN")
                held.append(c)
            except pymysql.MySQLError as e:
                refused = e
            assert len(held) <= 2
        assert refused.args[0] == 1040, refused
        assert rows(c, READ.replace("articles", "app.articles")) == [("Article 7",)]  # replicas have room
        for h in held:
            rows(h, "COMMIT")
        wait_until(lambda: rows(c, "BEGIN") == [], "room again")
        rows(c, "COMMIT")


def test_a_server_that_is_full():
    """Its own max_connections is reached by others: the proxy makes do with what it has."""
    with Lab(replicas=1, max_connections=40) as lab:
        with Proxy(lab, {"server.primary": {"max_connections": 100}}) as proxy, proxy.connect() as c:
            rows(c, "CREATE OR REPLACE TABLE counter (n INT)")
            rows(c, "INSERT INTO counter VALUES (0)")
            others = []
            while len(others) < 30:
                others.append(lab.primary.connect(user="other"))
            with Load(proxy, 30, add_up) as load:
                load.goes_on(5)
            assert not load.errors, load.errors[:5]
            assert value(c, "SELECT n FROM counter") == sum(load.counts)
            for o in others:
                o.close()


if __name__ == "__main__":
    with Lab(replicas=2) as the_lab, Proxy(the_lab) as the_proxy:
        run(globals(), lab=the_lab, proxy=the_proxy)
