#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The statements of tests/data/equal.sql give the same answers directly and through the proxy: every column's metadata,
rows, counts, status, warnings and errors; in text and prepared; with and without CLIENT_DEPRECATE_EOF."""
import difflib
import os
import subprocess

import pymysql
from pymysql.constants import CLIENT

from harness import LIMIT, ROOT, Lab, Proxy, rows, run, wait_until

STATEMENTS = os.path.join(ROOT, "tests/data/equal.sql")
STATE = os.path.join(ROOT, "tests/data/equal_state.sql")
TRANSCRIPT = os.environ.get("TRANSCRIPT", os.path.join(ROOT, "build/support/transcript"))


def fresh(lab):
    lab.primary.sql("DROP DATABASE IF EXISTS scratch", "CREATE DATABASE scratch CHARACTER SET utf8mb4")
    lab.sync()


def transcript(lab, port, protocol, path=STATEMENTS, empty=True):
    if empty:
        fresh(lab)
    with open(path) as statements:
        command = ["timeout", str(LIMIT), TRANSCRIPT, protocol, "127.0.0.1", str(port), "app", "lab-app", "scratch"]
        done = subprocess.run(command, stdin=statements, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    text = done.stdout.decode()
    assert done.returncode == 0, "ended with %d after:\n%s" % (done.returncode, text[-1000:])
    return text.splitlines()


def moves(proxy):
    """Waits until a read of equal_state.sql's tables goes to a replica, as it is to do in the script."""
    with proxy.connect(db="scratch") as c:
        def moved():
            before = proxy.routed()["replica"]
            rows(c, "SELECT a FROM d1 WHERE a = 1")
            return proxy.routed()["replica"] > before
        wait_until(moved)


def state_transcript(lab, port, protocol, proxy=None):
    transcript(lab, port, "text", STATE.replace(".sql", ".schema.sql"))
    if proxy:
        moves(proxy)
    return transcript(lab, port, protocol, STATE, False)


def compare_state(lab, proxy, moving):
    for protocol in "text", "prepared":
        before = proxy.routed()["replica"]
        assert_equal(state_transcript(lab, lab.primary.port, protocol),
                     state_transcript(lab, proxy.port, protocol, proxy if moving else None), 800)
        assert not moving or proxy.routed()["replica"] > before + 10


def pymysql_transcript(lab, port):
    """What PyMySQL sees: another client library, one that does not ask for CLIENT_DEPRECATE_EOF."""
    fresh(lab)
    lines = []
    with open(STATEMENTS) as f:
        text = "".join(line for line in f if not line.startswith(("--@", "-- ", "\n")))
    c = pymysql.connect(host="127.0.0.1", port=port, user="app", password="lab-app", database="scratch",
                        charset="utf8mb4", autocommit=True, client_flag=CLIENT.MULTI_STATEMENTS, read_timeout=60)
    for statement in text.split(";\n"):
        lines.append(statement)
        with c.cursor() as cursor:
            try:
                cursor.execute(statement)
                while True:
                    lines.append("  %r %r %r" % (cursor.description, cursor.rowcount, cursor.lastrowid))
                    lines += ["  row %r" % (row,) for row in cursor.fetchall()]
                    if not cursor.nextset():
                        break
            except pymysql.MySQLError as e:
                lines.append("  error %r" % (e.args,))
        lines.append("  status %x" % (c.server_status & ~(0x10 | 0x20 | 0x800)))  # as in transcript.c
    c.close()
    return lines


def assert_equal(direct, proxied, least=900):
    assert len(direct) > least, "the transcript is too short: %d lines" % len(direct)
    difference = list(difflib.unified_diff(direct, proxied, "direct", "proxied", "", "", 4))
    assert not difference, "\n".join(difference[:200])


def compare(lab, proxy):
    for protocol in "text", "prepared":
        assert_equal(transcript(lab, lab.primary.port, protocol), transcript(lab, proxy.port, protocol))
    assert_equal(pymysql_transcript(lab, lab.primary.port), pymysql_transcript(lab, proxy.port))


def test_observe(lab):
    with Proxy(lab, {"proxy": {"mode": "observe"}}) as proxy:
        compare(lab, proxy)
        assert proxy.routed()["replica"] == 0 and proxy.routed()["cache"] == 0


def test_split(lab):
    with Proxy(lab, {"proxy": {"mode": "split"}}) as proxy:
        compare(lab, proxy)
        routed = proxy.routed()
        # most of these sessions keep to the primary: text EXECUTE, temporary tables, names that DDL made doubtful
        assert routed["replica"] > 10 and routed["cache"] == 0, routed


def test_state(lab):
    for mode in "observe", "split", "cache":
        with Proxy(lab, {"proxy": {"mode": mode}, "cache": {"store": "memory"}}) as proxy:
            compare_state(lab, proxy, mode != "observe")


def answers_from_the_cache(lab, proxy):
    """The statements above follow DDL so closely that the dictionary may never have been read again in between."""
    lookup = "SELECT member_id FROM access_token WHERE token = '%s'" % (
        lab.primary.sql("SELECT token FROM app.access_token WHERE expires_at > NOW() LIMIT 1")[0][0])
    direct = lab.primary.connect()
    through = proxy.connect()

    def hit():
        with direct.cursor() as a, through.cursor() as b:
            a.execute(lookup)
            b.execute(lookup)
            assert a.fetchall() == b.fetchall()
        return proxy.routed()["cache"] > 0
    wait_until(hit)
    direct.close()
    through.close()


def test_cache_in_redis(lab):
    with Proxy(lab) as proxy:
        compare(lab, proxy)
        answers_from_the_cache(lab, proxy)


def test_cache_in_memory(lab):
    with Proxy(lab, {"cache": {"store": "memory"}}) as proxy:
        compare(lab, proxy)
        answers_from_the_cache(lab, proxy)


if __name__ == "__main__":
    with Lab(replicas=1) as the_lab:
        run(globals(), lab=the_lab)
