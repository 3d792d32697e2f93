#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What the cache answers after writes of every form, one small case each. (The promise as a whole: test_coherence.py.)"""
import signal

import pymysql

from harness import Lab, Proxy, rows, run, value, wait_until

TOKEN = "SELECT member_id FROM access_token WHERE token = '%s'"
PLAIN = "SELECT v FROM plain WHERE token = '%s'"
RULES = {"cache.plain": {"table": "app.plain", "key": "token", "ttl": "10m", "negative_ttl": "10m"}}


def hits(proxy):
    return proxy.metric("sidetrack_cache_requests_total", result="hit")


def cached(proxy, c, sql):
    """Its answer, once it comes from the cache."""
    def hit():
        before = hits(proxy)
        hit.answer = rows(c, sql)
        return hits(proxy) > before
    wait_until(hit, "a hit for " + sql)
    return hit.answer


def test_a_gtid_inside_a_transaction(lab, proxy):
    """What was written before it, or by it after a COMMIT of its own, is still open."""
    lab.primary.sql("USE app", "CREATE OR REPLACE SEQUENCE counter", "CREATE OR REPLACE TABLE side (v INT) ENGINE=Aria",
                    "CREATE OR REPLACE TABLE flat (v INT) ENGINE=MyISAM",
                    "CREATE OR REPLACE PROCEDURE begins_anew() BEGIN COMMIT; START TRANSACTION; "
                    "UPDATE access_token SET member_id = member_id + 10 WHERE token = MD5('token-1'); END")
    lab.sync()
    token = lab.primary.sql("SELECT MD5('token-1')")[0][0]
    with proxy.connect() as writer, proxy.connect() as reader:
        for middle in ("SELECT NEXTVAL(counter)", "DO NEXTVAL(counter)", "INSERT INTO side VALUES (NEXTVAL(counter))",
                       "INSERT INTO side VALUES (1)", "INSERT INTO flat VALUES (1)", "CALL begins_anew()"):
            rows(writer, "BEGIN")
            rows(writer, "UPDATE access_token SET member_id = member_id + 1 WHERE token = '%s'" % token)
            rows(writer, middle)
            before = cached(proxy, reader, TOKEN % token)
            rows(writer, "UPDATE articles SET views = views + 1 WHERE id = 1")
            rows(writer, "COMMIT")
            after = rows(reader, TOKEN % token)
            assert after == lab.primary.sql("USE app", TOKEN % token) and after != before, (middle, before, after)


def test_a_statement_that_fails_inside_a_transaction(lab, proxy):
    """A part of it is in a table without transactions."""
    with proxy.connect() as writer, proxy.connect() as reader:
        assert cached(proxy, reader, PLAIN % "new") == []
        rows(writer, "BEGIN")
        try:
            rows(writer, "INSERT INTO plain VALUES ('new', 1), ('old', 1)")
            raise AssertionError("no error")
        except pymysql.MySQLError as e:
            assert e.args[0] == 1062, e
        assert rows(reader, PLAIN % "new") == [(1,)]
        rows(writer, "ROLLBACK")


def test_rules_that_differ(lab):
    """A rolling reload: while a proxy has no rule for a table, or another, the others serve nothing of it."""
    token = "SELECT v FROM rolling WHERE token = 'a'"
    rule = {"table": "app.rolling", "key": "token", "ttl": "10m"}
    store = "redis://127.0.0.1:%d/1" % lab.redis.port  # not the one of a proxy that has no such rule
    lab.primary.sql("CREATE TABLE app.rolling (token VARCHAR(32) CHARACTER SET ascii PRIMARY KEY, other VARCHAR(32) "
                    "CHARACTER SET ascii UNIQUE, v INT)", "INSERT INTO app.rolling VALUES ('a', 'b', 0)")
    lab.sync()
    both = lambda: {"cache.rolling": dict(rule), "cache": {"store": store}}
    with Proxy(lab, both()) as first, Proxy(lab, both()) as second:
        def bypassed():
            before = second.metric("sidetrack_cache_requests_total", result="bypass")
            rows(reader, token)
            return second.metric("sidetrack_cache_requests_total", result="bypass") > before

        version = 0
        for changes in ({"cache.rolling": None}, {"cache.rolling": dict(rule, key="other")},
                        {"cache.rolling": dict(rule, ttl="5m")},
                        {"cache.rolling": dict(rule), "cache": {"store": "memory"}}):
            with first.connect() as writer, second.connect() as reader:
                cached(second, reader, token)
                assert first.reload(changes)
                wait_until(bypassed, "it has heard of the other rules")
                for _ in range(5):
                    version += 1
                    rows(writer, "UPDATE rolling SET v = %d WHERE token = 'a'" % version)
                    assert rows(reader, token) == [(version,)], changes
                assert second.reload(changes)
                assert first.reload(both())
                version += 1
                rows(writer, "UPDATE rolling SET v = %d WHERE token = 'a'" % version)
                assert second.reload(both())
                assert rows(reader, token) == [(version,)], changes


def test_a_proxy_that_ends_in_order(lab):
    """Nobody need wonder what it owed."""
    store = "redis://127.0.0.1:%d/2" % lab.redis.port
    links = lambda: [f for f in lab.redis_cli("-n", "2", "HKEYS", "st:{}b").split() if f.startswith("p")]
    with Proxy(lab, {"cache": {"store": store}}) as proxy:
        wait_until(lambda: len(links()) == 2, "both workers' links")
        proxy.kill(signal.SIGTERM)
    assert links() == [], links()


if __name__ == "__main__":
    with Lab(replicas=1) as the_lab:
        the_lab.primary.sql("CREATE TABLE app.plain (token VARCHAR(32) CHARACTER SET ascii PRIMARY KEY, v INT) "
                            "ENGINE=MyISAM", "INSERT INTO app.plain VALUES ('old', 0)")
        the_lab.sync()
        with Proxy(the_lab, RULES) as the_proxy:
            run(globals(), lab=the_lab, proxy=the_proxy)
