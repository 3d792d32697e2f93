#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""One proxy, two server groups: a client's group is what it wanted to reach, told by a PROXY protocol header or by the
kernel that redirected it. In a network namespace of its own, where the kernel can be told to redirect; without one
(no privileges) that part is skipped."""
import ipaddress
import os
import shutil
import socket
import struct
import subprocess
import sys

if "ST_NETNS" not in os.environ:
    inside = subprocess.run(["unshare", "--net", "true"], check=False, stderr=subprocess.DEVNULL).returncode == 0
    os.environ["ST_NETNS"] = "yes" if inside else "no"
    if inside:
        os.execvp("unshare", ["unshare", "--net", sys.executable, os.path.abspath(__file__)] + sys.argv[1:])
NETNS = os.environ["ST_NETNS"] == "yes"
if NETNS:
    for command in ("link set lo up", "address add 10.9.9.9/32 dev lo", "address add 10.9.9.8/32 dev lo",
                    "address add fd09::9/128 dev lo nodad"):
        subprocess.run(["ip"] + command.split(), check=True)

import pymysql  # noqa: E402

from harness import LIMIT, ROOT, Lab, Proxy, free_port, rows, run, value, wait_until  # noqa: E402

WANTED = ("10.9.9.9", 3306)  # the address that the service's programs have compiled in
SHIM = os.path.join(ROOT, "build/sidetrack-run")


def v2(source, wanted, local=False):
    """A PROXY protocol header, version 2."""
    head = b"\r\n\r\n\0\r\nQUIT\n" + bytes([0x20 if local else 0x21])
    if isinstance(wanted, str):
        body = source.encode().ljust(108, b"\0") + wanted.encode().ljust(108, b"\0")
        return head + b"\x31" + struct.pack(">H", len(body)) + body
    a, b = ipaddress.ip_address(source[0]), ipaddress.ip_address(wanted[0])
    body = a.packed + b.packed + struct.pack(">HH", source[1], wanted[1])
    return head + (b"\x11" if a.version == 4 else b"\x21") + struct.pack(">H", len(body)) + body


def v1(source, wanted):
    return ("PROXY TCP4 %s %s %d %d\r\n" % (source[0], wanted[0], source[1], wanted[1])).encode()


def reach(port, header=b"", user="app", host="127.0.0.1", password=None, pieces=1):
    """A connection whose first bytes are `header`."""
    s = socket.create_connection((host, port), LIMIT)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    step = max(1, len(header) // pieces)
    for at in range(0, len(header), step):
        s.sendall(header[at:at + step])
    c = pymysql.connect(defer_connect=True, user=user, password="lab-" + user if password is None else password,
                        database="app", autocommit=True, read_timeout=LIMIT)
    try:
        c.connect(s)
    except BaseException:
        s.close()
        raise
    return c


def where(c):
    """Which lab's primary the session's writes would go to."""
    return value(c, "SELECT @@port")


class Two:
    """A proxy before two labs: the first is the default group, the second the service `orders`."""

    def __init__(self, first, second, changes=None, match="10.9.9.9:3306, [fd09::9]:3306, /run/legacy.sock"):
        self.header_port = free_port()
        config = {
            "proxy": {"login_timeout": "5s"},
            "server.orders1": {"address": second.primary.address},
            "server.orders2": {"address": second.replicas[0].address},
            "service.orders": {"match": match, "servers": "orders1, orders2"},
            "cache": {"store": "redis://127.0.0.1:%d/0" % first.redis.port},
            "cache.order_token": {"table": "app.access_token", "key": "token", "expires": "expires_at",
                                  "ttl": "10m", "service": "orders"},
        }
        for section, keys in (changes or {}).items():
            config.setdefault(section, {}).update(keys)
        self.first, self.second = first, second
        self.proxy = Proxy(first, config, ready=False)
        wait_until(lambda: self.proxy.metric("sidetrack_server_up") == 4, "all servers are up")

    def __enter__(self):
        self.proxy.__enter__()
        return self

    def __exit__(self, *e):
        return self.proxy.__exit__(*e)


def test_no_header_is_the_default_group(two):
    with two.proxy.connect() as c:
        assert where(c) == two.first.primary.port


def test_headers(two):
    source = ("10.1.2.3", 4711)
    for header in (v2(source, WANTED), v1(source, WANTED), v2(("::ffff:10.1.2.3", 1), ("::ffff:10.9.9.9", 3306)),
                   v2(("fd00::1", 4711), ("fd09::9", 3306)), v2("", "/run/legacy.sock")):
        for pieces in (1, 5, len(header)):
            with reach(two.proxy.port, header, pieces=pieces) as c:
                assert where(c) == two.second.primary.port, header
                assert rows(c, "SELECT name FROM members WHERE id = 1")
    for header in (v2(source, ("10.9.9.9", 3307)), v1(source, ("10.9.9.7", 3306)), v2(source, WANTED, local=True),
                   b"PROXY UNKNOWN\r\n"):
        with reach(two.proxy.port, header) as c:
            assert where(c) == two.first.primary.port, header


def test_the_source_is_the_clients_host(two):
    # The second account is for the proxy's own address, which is what the server sees.
    for host in "10.1.2.%", "127.0.0.1":
        two.second.primary.sql("CREATE USER bound@'%s' IDENTIFIED BY 'lab-bound'" % host,
                               "GRANT SELECT ON app.* TO bound@'%s'" % host)
    try:
        wait_until(lambda: reach(two.proxy.port, v2(("10.1.2.3", 1), WANTED), user="bound").close() or True,
                   "the new account")
        try:
            reach(two.proxy.port, v2(("10.1.3.3", 1), WANTED), user="bound")
            raise AssertionError("let in from another host")
        except pymysql.err.OperationalError as e:
            assert e.args[0] == 1045 and "'bound'@'10.1.3.3'" in e.args[1], e
        try:  # the default group knows no such account
            reach(two.proxy.port, user="bound")
            raise AssertionError("let in by the default group")
        except pymysql.err.OperationalError as e:
            assert e.args[0] == 1045, e
    finally:
        two.second.primary.sql("DROP USER bound@'10.1.2.%', bound@'127.0.0.1'")


def test_groups_share_nothing(two):
    """The same table and the same token in both, cached in one Redis: each group has its own."""
    lookup = "SELECT member_id FROM access_token WHERE token = 'both' AND expires_at > NOW()"
    with two.proxy.connect() as a, reach(two.proxy.port, v2(("10.1.2.3", 1), WANTED)) as b:
        for c, member in ((a, 11), (b, 22)):
            rows(c, "REPLACE INTO access_token (token, member_id, expires_at) VALUES "
                    "('both', %d, NOW() + INTERVAL 1 DAY)" % member)

        def cached():
            before = two.proxy.routed()["cache"]
            for _ in range(10):
                assert rows(a, lookup) == [(11,)]
                assert rows(b, lookup) == [(22,)]
            return two.proxy.routed()["cache"] - before == 20
        wait_until(cached, "both are served by the cache")
        rows(b, "DELETE FROM access_token WHERE token = 'both'")
        assert rows(b, lookup) == []
        for _ in range(10):
            assert rows(a, lookup) == [(11,)]
            assert rows(b, lookup) == []
        rules = {r["rule"]: r for r in two.proxy.admin("SELECT * FROM cache")}
        assert rules["token"]["service"] == "" and rules["order_token"]["service"] == "orders", rules
        assert int(rules["token"]["hits"]) >= 10 and int(rules["order_token"]["hits"]) >= 10, rules
        keys = two.first.redis_cli("--scan", "--pattern", "*access_token*both*").split()
        assert any("{app.access_token" in k for k in keys) and any("{orders/app.access_token" in k for k in keys), keys
        rows(a, "DELETE FROM access_token WHERE token = 'both'")


def test_reads_are_split_in_each_group(two):
    def split():
        counts = []
        for server in two.first.replicas[0].name, "orders2":
            counts.append(two.proxy.metric("sidetrack_statements_total", server=server, route="replica"))
        with two.proxy.connect() as a, reach(two.proxy.port, v2(("10.1.2.3", 1), WANTED)) as b:
            for _ in range(10):
                rows(a, "SELECT title FROM articles WHERE id = 7")
                rows(b, "SELECT title FROM articles WHERE id = 7")
        for i, server in enumerate((two.first.replicas[0].name, "orders2")):
            counts[i] = two.proxy.metric("sidetrack_statements_total", server=server, route="replica") - counts[i]
        return counts == [10, 10]
    wait_until(split, "both groups' reads go to their replicas")


def test_admin_sees_all(two):
    servers = {s["name"]: s for s in two.proxy.admin("SELECT * FROM servers")}
    assert {n for n, s in servers.items() if s["service"] == "orders"} == {"orders1", "orders2"}, servers
    assert servers["orders1"]["role"] == "primary" and servers["orders2"]["role"] == "replica"
    two.proxy.admin("DRAIN orders2")
    assert two.proxy.admin("SELECT drained FROM servers WHERE name = 'orders2'")[0]["drained"] == "1"
    two.proxy.admin("UNDRAIN orders2")
    told = {r["name"]: r["value"] for r in two.proxy.admin("EXPLAIN ROUTE SERVICE orders SELECT 1 FROM app.members")}
    assert told["server"] in ("orders1", "orders2"), told
    told = {r["name"]: r["value"] for r in two.proxy.admin("EXPLAIN ROUTE SELECT 1 FROM app.members")}
    assert told["server"] in ("primary", "replica1"), told
    try:
        two.proxy.admin("EXPLAIN ROUTE SERVICE nobody SELECT 1")
        raise AssertionError("a service that is not there")
    except pymysql.MySQLError as e:
        assert "nobody" in str(e)
    two.proxy.admin("FLUSH CACHE order_token")
    two.proxy.admin("FLUSH CACHE ALL")
    with reach(two.proxy.port, v2(("10.1.2.3", 1), WANTED)) as b:
        two.proxy.admin("KILL %d" % b.thread_id())
        wait_until(lambda: dead(b), "the session of a service is killed")


def dead(c):
    try:
        rows(c, "SELECT 1")
        return False
    except (pymysql.MySQLError, OSError):
        return True


def test_a_group_that_is_down(two):
    """The other one goes on, and the process is ready."""
    two.second.primary.down()
    two.second.replicas[0].down()
    try:
        wait_until(lambda: two.proxy.metric("sidetrack_server_up") == 2, "the servers are seen to be down")
        with two.proxy.connect() as c:
            assert where(c) == two.first.primary.port
        assert two.proxy.http("/readyz") == "ready\n"
    finally:
        two.second.primary.up()
        two.second.replicas[0].up()
    wait_until(lambda: two.proxy.metric("sidetrack_server_up") == 4, "all are up again")
    wait_until(lambda: reach(two.proxy.port, v2(("10.1.2.3", 1), WANTED)).close() or True, "its clients come in again")


def test_listeners_for_headers_only(first, second):
    port = free_port()
    listen = "127.0.0.1:%d proxy_protocol" % port
    with Two(first, second, {"proxy": {"login_timeout": "1s"}}) as two:
        two.proxy.changes["proxy"]["listen"] = "127.0.0.1:%d, %s" % (two.proxy.port, listen)
        two.proxy.stop()
        two.proxy.start(ready=False)
        wait_until(lambda: two.proxy.metric("sidetrack_server_up") == 4)
        with reach(port, v2(("10.1.2.3", 1), WANTED), pieces=3) as c:
            assert where(c) == second.primary.port
        with reach(port, v1(("10.1.2.3", 1), ("10.1.1.1", 3306))) as c:
            assert where(c) == first.primary.port
        with socket.create_connection(("127.0.0.1", port), LIMIT) as s:
            s.settimeout(LIMIT)
            assert s.recv(1) == b""  # not greeted: it was waited for, until login_timeout
        with socket.create_connection(("127.0.0.1", port), LIMIT) as s:
            s.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert s.recv(1) == b""
        wait_until(lambda: "not a PROXY protocol header" in two.proxy.log())
        # Nobody is trusted any more: that listener serves nobody, and a header on the other is no login.
        assert two.proxy.reload({"proxy": {"proxy_protocol_networks": "10.0.0.0/8"}})
        wait_until(lambda: refused(port, v2(("10.1.2.3", 1), WANTED)), "headers are not believed any more")
        assert "proxy_protocol_networks" in two.proxy.log()
        assert refused(two.proxy.port, v2(("10.1.2.3", 1), WANTED))
        assert "A PROXY protocol header that is malformed, or not accepted" in two.proxy.log()
        with two.proxy.connect() as c:
            assert where(c) == first.primary.port


def refused(port, header):
    try:
        reach(port, header).close()
        return False
    except (pymysql.MySQLError, OSError):
        return True


def test_reload(two):
    proxy = two.proxy
    other = ("10.7.7.7", 3307)
    assert proxy.reload({"service.orders": {"match": "10.7.7.7:3307"}})

    def moved():
        with reach(proxy.port, v2(("10.1.2.3", 1), other)) as a, reach(proxy.port, v2(("10.1.2.3", 1), WANTED)) as b:
            return (where(a), where(b)) == (two.second.primary.port, two.first.primary.port)
    wait_until(moved, "the new destination is the service's")
    assert not proxy.reload({"service.more": {"match": "10.8.8.8:3306", "servers": two.first.replicas[0].name}})
    assert "service.more" in proxy.log()
    with reach(proxy.port, v2(("10.1.2.3", 1), other)) as c:
        assert where(c) == two.second.primary.port
    assert proxy.reload({"service.more": None,
                         "service.orders": {"match": "10.9.9.9:3306, [fd09::9]:3306, /run/legacy.sock"}})
    wait_until(lambda: not moved())


def test_a_replica_of_the_other_group_is_not_used(two):
    """Its name was forgotten in the service's list, so it is the default group's; both groups may number alike."""
    proxy = two.proxy
    assert proxy.reload({"service.orders": {"servers": "orders1"}})
    try:
        wait_until(lambda: "foreign_source" in proxy.log(), "it is noticed")
        wait_until(lambda: {s["name"]: s["role"] for s in proxy.admin("SELECT * FROM servers")}["orders2"] == "unknown")
        before = proxy.metric("sidetrack_statements_total", server="orders2")
        for _ in range(20):
            with proxy.connect() as c:
                rows(c, "SELECT title FROM articles WHERE id = 7")
        assert proxy.metric("sidetrack_statements_total", server="orders2") == before
    finally:
        assert proxy.reload({"service.orders": {"servers": "orders1, orders2"}})
    wait_until(lambda: {s["name"]: s["role"] for s in proxy.admin("SELECT * FROM servers")}["orders2"] == "replica")


def test_the_shim_says_where_to(two):
    """sidetrack-run --send-proxy: an unchanged client, its destination compiled in, finds its own group."""
    if not NETNS:
        return
    def ask(host, *options):
        client = ["mariadb", "--no-defaults", "-h", host, "-uapp", "-plab-app", "-N", "-e", "SELECT @@port"]
        done = subprocess.run([SHIM, "--to", "127.0.0.1:%d" % two.proxy.port, "--match", "10.9.9.0/24:3306", *options,
                               "--", *client], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)
    for mode in "preload", "seccomp":
        assert ask("10.9.9.9", "--send-proxy", "--mode", mode) == two.second.primary.port, mode
        assert ask("10.9.9.8", "--send-proxy", "--mode", mode) == two.first.primary.port, mode
        assert ask("10.9.9.9", "--mode", mode) == two.first.primary.port, mode


def redirected(rules, first, second):
    with Two(first, second) as two:
        two.proxy.changes["proxy"]["listen"] = ("127.0.0.1:%d, 127.0.0.1:6034 transparent, [::1]:6034 transparent"
                                                % two.proxy.port)
        two.proxy.stop()
        two.proxy.start(ready=False)
        wait_until(lambda: two.proxy.metric("sidetrack_server_up") == 4)
        rules("start")
        try:
            for host, wanted in (("10.9.9.9", second), ("fd09::9", second), ("10.9.9.8", first)):
                with reach(3306, host=host) as c:
                    assert where(c) == wanted.primary.port, host
            with reach(6034) as c:  # not redirected at all
                assert where(c) == first.primary.port
            try:  # the kernel's word is the one that counts here
                reach(3306, v2(("10.1.2.3", 1), WANTED), host="10.9.9.8")
                raise AssertionError("a header on a transparent listener")
            except (pymysql.MySQLError, OSError):
                pass
        finally:
            rules("stop")


def test_transparent_nft(first, second):
    if not NETNS or shutil.which("nft") is None:
        return
    def rules(what):
        subprocess.run(["nft", "-f", os.path.join(ROOT, "conf/redirect.nft")] if what == "start" else
                       ["nft", "delete", "table", "inet", "sidetrack"], check=True)
    redirected(rules, first, second)


def test_transparent_iptables(first, second):
    if not NETNS or shutil.which("iptables") is None:
        return
    def rules(what):
        subprocess.run([os.path.join(ROOT, "conf/redirect.iptables.sh"), what], check=True,
                       env=dict(os.environ, PROXY_USER="990"))
    redirected(rules, first, second)


with Lab(replicas=1) as one, Lab(replicas=1) as another, Two(one, another) as both:
    run(globals(), first=one, second=another, two=both)
