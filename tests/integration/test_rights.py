#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What an account may do, and when the proxy knows: a cached row is not served to whom the server would refuse, logins
are refused and accepted as the server does, whether rights change through the proxy or around it. The oracle is always
the server: the same asked directly."""
import threading
import time

import pymysql

from harness import Lab, Proxy, connect_to, rows, run, value, wait_until

READ = "SELECT token, member_id, expires_at FROM app.access_token WHERE token = '%032X'"
BOSS = dict(user="boss", password="lab-boss", db=None)
SOON = 5  # seconds that a change around the proxy may take to be seen: half of one, on a busy machine


row = 0  # which one is read: a row has a limited number of forms in the cache, and each user's is one


def prepare(lab):
    lab.primary.sql("USE app", "INSERT INTO app.access_token (token, member_id, expires_at)"
                    " SELECT LPAD(HEX(seq), 32, '0'), 7, NOW() + INTERVAL 1 DAY FROM seq_1_to_200", "CREATE USER boss IDENTIFIED BY 'lab-boss'", "GRANT ALL ON *.* TO boss WITH GRANT OPTION")
    lab.sync()


def ask(c):
    """("rows", them) or (code, text)"""
    try:
        return "rows", rows(c, READ % row)
    except pymysql.MySQLError as e:
        return e.args


def enter(port, user, password="first"):
    """What a new client gets: its connection, and what it reads; or None, and how its login was refused."""
    try:
        c = connect_to(port=port, user=user, password=password, db=None)
    except pymysql.MySQLError as e:
        return None, ("login",) + e.args
    return c, ask(c)


def seen(port, user, password="first"):
    c, answer = enter(port, user, password)
    if c:
        c.close()
    return answer


def is_hit(proxy, c):
    before = proxy.routed()["cache"]
    assert ask(c)[0] == "rows"
    return proxy.routed()["cache"] > before


def finds_entry(proxy, c):
    """A hit, and nothing was filled for it. While the rights are not known just now (a busy machine) it is bypassed."""
    misses = proxy.metric("sidetrack_cache_requests_total", result="miss")
    wait_until(lambda: is_hit(proxy, c))
    return proxy.metric("sidetrack_cache_requests_total", result="miss") == misses


def make_user(lab, user, grants):
    global row
    row += 1
    lab.primary.sql("CREATE USER %s IDENTIFIED BY 'first'" % user, *grants)


def forget_user(lab, user):
    lab.primary.sql("DROP USER IF EXISTS %s, %s_new" % (user, user), "DROP ROLE IF EXISTS %s_role, %s_outer" % (user, user))


TABLE = ["GRANT SELECT ON app.access_token TO {u}"]
ROLE = ["CREATE ROLE {u}_role", "GRANT SELECT ON app.access_token TO {u}_role", "CREATE ROLE {u}_outer",
        "GRANT {u}_role TO {u}_outer", "GRANT {u}_outer TO {u}", "GRANT {u}_role TO boss WITH ADMIN OPTION",
        "GRANT {u}_outer TO boss WITH ADMIN OPTION", "SET DEFAULT ROLE {u}_outer FOR {u}"]
CHANGES = {  # name: what is granted first, and what changes it
    "table": (TABLE, "REVOKE SELECT ON app.access_token FROM {u}"),
    "column": (["GRANT SELECT (token, member_id, expires_at) ON app.access_token TO {u}"],
               "REVOKE SELECT (member_id) ON app.access_token FROM {u}"),
    "schema": (["GRANT SELECT ON app.* TO {u}"], "REVOKE SELECT ON app.* FROM {u}"),
    "global": (["GRANT SELECT ON *.* TO {u}"], "REVOKE SELECT ON *.* FROM {u}"),
    "role's right": (ROLE, "REVOKE SELECT ON app.access_token FROM {u}_role"),
    "role's role": (ROLE, "REVOKE {u}_role FROM {u}_outer"),
    "role": (ROLE, "REVOKE {u}_outer FROM {u}"),
    "drop": (TABLE, "DROP USER {u}"),
    "lock": (TABLE, "ALTER USER {u} ACCOUNT LOCK"),
    "tls": (TABLE, "ALTER USER {u} REQUIRE SSL"),
    "expire": (TABLE, "ALTER USER {u} PASSWORD EXPIRE"),
    "rename": (TABLE, "RENAME USER {u} TO {u}_new"),
    "password": (TABLE, "SET PASSWORD FOR {u} = PASSWORD('second')"),
    "by procedure": (TABLE, "CALL scratch.take_away('{u}')"),
    "immediate": (TABLE, "EXECUTE IMMEDIATE 'REVOKE SELECT ON app.access_token FROM {u}'"),
    "compound": (TABLE, "BEGIN NOT ATOMIC REVOKE SELECT ON app.access_token FROM {u}; END"),
}


def one_change(lab, proxy, name, user, through):
    grants, change = [[s.format(u=user) for s in CHANGES[name][0]], CHANGES[name][1].format(u=user)]
    make_user(lab, user, grants)
    direct = connect_to(port=lab.primary.port, user=user, password="first", db=None)
    old = wait_until(lambda: enter(proxy.port, user)[0], "%s logs in" % name)
    wait_until(lambda: is_hit(proxy, old), "%s: the row is cached" % name)
    assert ask(direct)[0] == "rows"
    if through:
        with proxy.connect(**BOSS) as boss:
            rows(boss, change)
    else:
        lab.primary.sql(change)

    def holds():
        told = ask(old)
        server = ask(direct)
        assert told == server or server[0] == "rows", ("%s: an old session" % name, told, server)
        for password in ("first", "second", "wrong"):
            new, by_server = seen(proxy.port, user, password), seen(lab.primary.port, user, password)
            assert new == by_server, ("%s: a new session with %s" % (name, password), new, by_server)
        return True

    if through:
        holds()
    else:
        wait_until(holds, name, SOON)
    direct.close()
    old.close()
    forget_user(lab, user)


def test_changes_through_the_proxy_hold_at_once(lab, proxy):
    for i, name in enumerate(CHANGES):
        one_change(lab, proxy, name, "through%d" % i, True)


def test_changes_around_the_proxy_hold_soon(lab, proxy):
    for i, name in enumerate(CHANGES):
        one_change(lab, proxy, name, "around%d" % i, False)


def test_other_changes_leave_a_hit_a_hit(lab, proxy):
    """Another account's rights, and one's own password, are not what one may read."""
    make_user(lab, "stays", TABLE[0].format(u="stays").splitlines())
    c = wait_until(lambda: enter(proxy.port, "stays")[0])
    wait_until(lambda: is_hit(proxy, c))
    lab.primary.sql("CREATE USER stays_new IDENTIFIED BY 'x'", "GRANT SELECT ON app.* TO stays_new", "ALTER USER stays IDENTIFIED BY 'second'")
    wait_until(lambda: seen(proxy.port, "stays", "first")[0] == "login")
    assert finds_entry(proxy, c)
    assert seen(proxy.port, "stays", "second")[0] == "rows"
    c.close()
    forget_user(lab, "stays")


def test_rights_come_back(lab, proxy):
    """What was refused is allowed at once: a new account, a lock that is taken off, a right that is given again."""
    make_user(lab, "again", TABLE[0].format(u="again").splitlines())
    assert seen(proxy.port, "again")[0] == "rows"
    for undo, redo in (("ALTER USER again ACCOUNT LOCK", "ALTER USER again ACCOUNT UNLOCK"),
                       ("REVOKE SELECT ON app.access_token FROM again", "GRANT SELECT ON app.access_token TO again"),
                       ("ALTER USER again REQUIRE SSL", "ALTER USER again REQUIRE NONE"),
                       ("ALTER USER again IDENTIFIED BY 'other'", "ALTER USER again IDENTIFIED BY 'first'")):
        lab.primary.sql(undo)
        wait_until(lambda: seen(proxy.port, "again") == seen(lab.primary.port, "again"), undo, SOON)
        lab.primary.sql(redo)
        assert seen(proxy.port, "again")[0] == "rows", redo
        c = enter(proxy.port, "again")[0]
        wait_until(lambda: is_hit(proxy, c), "hits come back after " + redo)
        c.close()
    forget_user(lab, "again")


def test_an_old_connection_is_not_lent_to_a_new_login(lab, proxy):
    """A server lets sessions read on whose right to a schema was taken away: but nobody who logs in after that."""
    make_user(lab, "lent", ["GRANT SELECT ON app.* TO lent"])
    old = wait_until(lambda: connect_to(port=proxy.port, user="lent", password="first", db="app"))
    rows(old, "BEGIN")
    assert value(old, "SELECT COUNT(*) FROM app.members") > 0
    others = [enter(proxy.port, "lent")[0] for _ in range(8)]
    for c in others:  # connections in all pools
        rows(c, "SELECT COUNT(*) FROM app.members")
    with proxy.connect(**BOSS) as boss:
        rows(boss, "REVOKE SELECT ON app.* FROM lent")
    for _ in range(8):
        assert seen(proxy.port, "lent") == seen(lab.primary.port, "lent")
    assert value(old, "SELECT COUNT(*) FROM app.members") > 0, "a transaction keeps its connection, as at the server"
    for c in others + [old]:
        c.close()
    forget_user(lab, "lent")


def enters_to_change(port, user, password):
    c = connect_to(port=port, user=user, password=password, db=None)
    rows(c, "SET @a = 1")  # a connection that was made for others before the news came does not allow it
    return ask(c)[0] == 1820 and c


def test_an_expired_password_can_be_set(lab, proxy):
    make_user(lab, "stale", TABLE[0].format(u="stale").splitlines())
    keep = wait_until(lambda: enter(proxy.port, "stale")[0])
    rows(keep, "SELECT 1")
    lab.primary.sql("ALTER USER stale PASSWORD EXPIRE")
    c = wait_until(lambda: enters_to_change(proxy.port, "stale", "first"), limit=SOON)
    assert ask(c) == ask(connect_to(port=lab.primary.port, user="stale", password="first", db=None))
    rows(c, "SET @a = 5")
    rows(c, "SET PASSWORD = PASSWORD('second')")
    assert ask(c)[0] == "rows" and value(c, "SELECT @a") == 5
    assert seen(proxy.port, "stale", "second")[0] == "rows"
    assert seen(proxy.port, "stale", "first") == seen(lab.primary.port, "stale", "first")
    c.close()
    lab.primary.sql("SET GLOBAL disconnect_on_expired_password = 1", "ALTER USER stale PASSWORD EXPIRE")
    try:
        wait_until(lambda: seen(proxy.port, "stale", "second")[:2] == ("login", 1862), limit=SOON)
        assert seen(proxy.port, "stale", "second") == seen(lab.primary.port, "stale", "second")
        c = connect_to(port=proxy.port, user="stale", password="second", db=None, client_flag=1 << 22)
        assert ask(c)[0] == 1820
        rows(c, "SET PASSWORD = PASSWORD('third')")
        assert ask(c)[0] == "rows"
        c.close()
    finally:
        lab.primary.sql("SET GLOBAL disconnect_on_expired_password = 0")
    keep.close()
    forget_user(lab, "stale")


def test_refusals_are_in_the_servers_order(lab, proxy):
    for more in ("ACCOUNT LOCK", "PASSWORD EXPIRE", "REQUIRE SSL", "REQUIRE X509", "ACCOUNT LOCK PASSWORD EXPIRE",
                 "REQUIRE SSL ACCOUNT LOCK PASSWORD EXPIRE", "PASSWORD EXPIRE INTERVAL 3 DAY", "PASSWORD EXPIRE NEVER"):
        lab.primary.sql("CREATE USER order1 IDENTIFIED BY 'first'", "ALTER USER order1 " + more)
        for password in ("first", "wrong", ""):
            wait_until(lambda: seen(proxy.port, "order1", password) == seen(lab.primary.port, "order1", password),
                       "%s with %r" % (more, password), SOON)
        lab.primary.sql("DROP USER order1")


def test_rows_that_were_written_by_hand(lab, proxy):
    """They count for the server only after FLUSH PRIVILEGES: what was read before was allowed by the old ones."""
    make_user(lab, "byhand", ["GRANT SELECT ON app.* TO byhand"])
    c = wait_until(lambda: enter(proxy.port, "byhand")[0])
    wait_until(lambda: is_hit(proxy, c))
    for statement in ("DELETE FROM mysql.db WHERE User = 'byhand'", "FLUSH TABLES app.members"):
        lab.primary.sql(statement)
        looks = lab.primary.status("Com_checksum")
        wait_until(lambda: lab.primary.status("Com_checksum") > looks + 4)
        wait_until(lambda: is_hit(proxy, c))  # the server still allows it
    lab.primary.sql("DELETE FROM mysql.db WHERE User = 'nobody'", "INSERT INTO mysql.db (Host, Db, User) VALUES ('%', 'x', 'byhand')")
    wait_until(lambda: is_hit(proxy, c))
    lab.primary.sql("FLUSH PRIVILEGES")
    wait_until(lambda: ask(c)[0] == 1142 and seen(proxy.port, "byhand") == seen(lab.primary.port, "byhand"), limit=SOON)
    c.close()
    forget_user(lab, "byhand")


def test_two_proxies_agree(lab, proxy):
    make_user(lab, "twins", ROLE[0].format(u="twins").splitlines() + [s.format(u="twins") for s in ROLE[1:]])
    with Proxy(lab) as second:
        a, b = wait_until(lambda: enter(proxy.port, "twins")[0]), wait_until(lambda: enter(second.port, "twins")[0])
        wait_until(lambda: is_hit(proxy, a))
        assert finds_entry(second, b), "the other one's entry is found"
        a.close()
        b.close()
    forget_user(lab, "twins")


def test_accounts_of_one_name_do_not_share(lab, proxy):
    """The same user name from another host may be another account."""
    make_user(lab, "host1@'127.0.0.2'", ["GRANT SELECT ON app.access_token TO host1@'127.0.0.2'"])
    make_user(lab, "host1@'localhost'", ["GRANT SELECT ON app.access_token TO host1@'localhost'"])
    a = wait_until(lambda: enter(proxy.port, "host1")[0])
    wait_until(lambda: is_hit(proxy, a))
    b = connect_to(port=proxy.port, user="host1", password="first", db=None, bind_address="127.0.0.2")
    assert not is_hit(proxy, b)
    a.close()
    b.close()
    lab.primary.sql("DROP USER host1@'127.0.0.2', host1@'localhost'")


def test_without_news_there_are_no_hits(lab, proxy):
    """Rights that nobody could look at for two seconds are not known."""
    lab.primary.sql("SET GLOBAL binlog_format = ROW")
    make_user(lab, "blind", TABLE[0].format(u="blind").splitlines())
    c = wait_until(lambda: enter(proxy.port, "blind")[0])
    wait_until(lambda: is_hit(proxy, c))
    with lab.primary.root() as r:
        rows(r, "LOCK TABLES mysql.db WRITE")
        wait_until(lambda: not is_hit(proxy, c), "hits end")
        rows(r, "UNLOCK TABLES")
    wait_until(lambda: is_hit(proxy, c), "and return")
    c.close()
    forget_user(lab, "blind")


def test_refused_logins_do_not_flood_the_server(lab, proxy):
    def knock():
        for _ in range(10):
            assert seen(proxy.port, "app", "wrong")[:2] == ("login", 1045)

    began, before = time.monotonic(), lab.primary.status("Com_checksum")
    threads = [threading.Thread(target=knock) for _ in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    looks = lab.primary.status("Com_checksum") - before
    assert looks <= 55 * (time.monotonic() - began) + 10, looks


if __name__ == "__main__":
    with Lab(replicas=1) as lab, Proxy(lab) as proxy:
        prepare(lab)
        lab.primary.sql("CREATE PROCEDURE scratch.take_away(u TEXT) EXECUTE IMMEDIATE CONCAT('REVOKE SELECT ON app.access_token FROM ', u)")
        run(globals(), lab=lab, proxy=proxy)
