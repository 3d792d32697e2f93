#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The wire: pipelines, packets of every size and shape, every command, clients that are slow, silent, rude or gone."""
import os
import random
import socket
import struct
import threading

from pymysql.constants import CLIENT

from harness import SIDETRACK, Lab, Proxy, Relay, rows, run, value, wait_until
from wire import (CAPS, CHANGE_USER, CLOSE, DEPRECATE_EOF, EXECUTE, FETCH, FIELD_LIST, IN_TRANS, INIT_DB, LONG_DATA,
                  MORE_RESULTS, MULTI_STATEMENTS, PACKET_MAX, PING, PREPARE, QUERY, QUIT, RESET, RESET_CONNECTION,
                  SET_OPTION, SSL, STATISTICS, Ended, Refused, Wire, native, packets)

with open(SIDETRACK, "rb") as program:
    SANITIZED = b"__asan_init" in program.read()


def alive(proxy):
    assert proxy.process.poll() is None, "the proxy died:\n" + proxy.log()[-3000:]
    with Wire(proxy.port) as w:
        assert w.value("SELECT 42") == "42"


def refused(call, *args, **more):
    """The error that a call must give."""
    try:
        call(*args, **more)
    except Refused as e:
        return e
    raise AssertionError("no error: %r" % (args,))


def refused_or_ended(call, *args):
    try:
        call(*args)
    except Ended:
        return None
    except Refused as e:
        return e
    raise AssertionError("neither an error nor an end: %r" % (args,))


def command(code, body=b""):
    return packets(bytes([code]) + (body.encode() if isinstance(body, str) else body))


# --- framing ---

def test_pipelined_commands_are_answered_in_order(proxy):
    with Wire(proxy.port) as w:
        w.query("CREATE OR REPLACE TABLE piped (n INT)")
        batch = []
        for n in range(150):
            batch += [command(QUERY, "SELECT %d" % n), command(QUERY, "INSERT INTO piped VALUES (%d)" % n),
                      command(PING),
                      command(QUERY, "SELECT no_such_column_%d" % n), command(QUERY, "SELECT COUNT(*) FROM piped")]
        w.raw(b"".join(batch))
        for n in range(150):
            w.seq = 1
            assert w.one().value == str(n)
            w.seq = 1
            assert w.one().affected == 1
            w.seq = 1
            assert w.one().columns == 0
            w.seq = 1
            assert "no_such_column_%d'" % n in refused(w.one).text
            w.seq = 1
            assert w.one().value == str(n + 1)


def test_pipelined_large_answers_to_a_client_that_reads_late(proxy):
    with Wire(proxy.port) as w:
        sender = threading.Thread(target=w.raw, args=(command(QUERY, "SELECT REPEAT('x', 1000000)") * 40,))
        sender.start()
        for _ in range(40):
            w.seq = 1
            assert len(w.one().rows[0][0]) == 1000000
        sender.join()


def test_bytes_one_by_one(proxy):
    w = Wire(proxy.port, login=False)
    w.greeting()
    for data, want in ((packets(w.response("app", None, "app", 45), 1), None), (command(QUERY, "SELECT 'slowly'"),
                                                                                "slowly"),
                       (command(PREPARE, "SELECT ?"), ...)):
        for i in range(len(data)):
            w.raw(data[i:i + 1])
        w.seq = data[3] + 1
        if want is ...:
            assert w.read()[0] == 0
        else:
            answer = w.one()
            assert want is None or answer.value == want
    w.shut()


def test_packets_around_16_mb(proxy):
    """Payloads of 2**24-2 .. 2**24+1 bytes and of 40 MB, both ways."""
    with Wire(proxy.port) as w:
        w.query("CREATE OR REPLACE TABLE big (id INT PRIMARY KEY, v LONGBLOB) ENGINE=MyISAM")
        for number, size in enumerate((PACKET_MAX - 1, PACKET_MAX, PACKET_MAX + 1, 40 << 20)):
            head = "INSERT INTO big VALUES (%d, '" % number
            text = head + "x" * (size - 1 - len(head) - 2) + "')"
            stored = len(text) - len(head) - 2
            assert len(text) + 1 == size and w.query(text).affected == 1
            assert w.value("SELECT LENGTH(v) FROM big WHERE id = %d" % number) == str(stored)
            answer = w.query("SELECT v, id FROM big WHERE id = %d" % number)
            assert len(answer.packets) == 1 and answer.rows[0] == (b"x" * stored, b"%d" % number)
        for size in PACKET_MAX - 1, PACKET_MAX, PACKET_MAX + 1:  # the row's whole payload
            answer = w.query("SELECT REPEAT('y', %d) FROM app.members LIMIT 1" % (size - 4))
            assert set(answer.rows[0][0]) == {ord("y")} and len(answer.packets[0]) in (size, size + 5)
        w.query("DROP TABLE big")


def test_prepared_packets_over_16_mb(proxy):
    with Wire(proxy.port) as w:
        number, params, _ = w.prepare("SELECT LENGTH(?), LEFT(?, 3), MD5(?)")
        blob = b"abc" + b"z" * (17 << 20)
        assert params == 3
        answer = w.execute(number, blob, b"xyz" * (1 << 20), "end")
        length = struct.unpack_from("<I", answer.packets[0], 2)[0]
        assert length == len(blob) and b"xyz" in answer.packets[0]
        for at in range(0, len(blob), 5 << 20):
            w.command(LONG_DATA, struct.pack("<IH", number, 0) + blob[at:at + (5 << 20)])
        answer = w.execute(number, ..., "0123456", "end")
        assert struct.unpack_from("<I", answer.packets[0], 2)[0] == len(blob) and b"012" in answer.packets[0]
        number, _, _ = w.prepare("SELECT /* sidetrack: primary */ ? AS v")
        assert w.execute(number, blob).packets[0].endswith(blob)


def test_more_than_max_allowed_packet_is_an_error(lab, proxy):
    with Wire(proxy.port) as w:  # the default is 64 MB
        assert getattr(refused_or_ended(w.query, "SELECT '" + "x" * (65 << 20) + "'"), "code", 1153) == 1153
    with Proxy(lab, {"proxy": {"max_allowed_packet": "1m"}}) as small:
        with Wire(small.port) as w:
            assert w.value("SELECT LENGTH('%s')" % ("x" * 1000000)) == "1000000"
            e = refused_or_ended(w.query, "SELECT '%s'" % ("x" * 2000000))
            assert e is not None and e.code == 1153 and "max_allowed_packet" in e.text, "%r" % e
        with Wire(small.port) as w:
            number, _, _ = w.prepare("SELECT LENGTH(?)")
            for _ in range(30):
                w.command(LONG_DATA, struct.pack("<IH", number, 0) + b"x" * 100000)
            assert refused(w.execute, number, ...).code == 1105
            assert w.value("SELECT 1") == "1"
        alive(small)
    alive(proxy)


def test_wrong_sequence_ids(proxy):
    for seq in 1, 7, 255:
        with Wire(proxy.port) as w:
            w.raw(packets(bytes([QUERY]) + b"SELECT 1", seq))
            w.seq = 1
            refused_or_ended(w.one)
    alive(proxy)


def test_empty_packet(proxy):
    with Wire(proxy.port) as w:
        w.raw(b"\0\0\0\0")
        w.seq = 1
        refused_or_ended(w.one)
    alive(proxy)


# --- nonsense ---

def test_garbage_instead_of_a_login(proxy):
    dice = random.Random(7)
    good = None
    for turn in range(300):
        w = Wire(proxy.port, login=False)
        w.greeting()
        good = packets(w.response("app", None, "app", 45), 1)
        if turn % 3 == 0:
            data = bytes(dice.randrange(256) for _ in range(dice.randrange(1, 300)))
        elif turn % 3 == 1:  # a response cut short, framed well
            body = good[4:4 + dice.randrange(len(good) - 4)]
            data = packets(body, 1)
        else:
            data = bytearray(good)
            for _ in range(dice.randrange(1, 8)):
                data[dice.randrange(4, len(data))] = dice.randrange(256)
        try:
            w.raw(bytes(data))
            w.socket.shutdown(socket.SHUT_WR)
            w.stream.read()
        except (Ended, OSError):
            pass
        w.shut()
    alive(proxy)


def test_garbage_as_commands(proxy):
    dice = random.Random(11)
    for _ in range(200):
        w = Wire(proxy.port)
        try:
            for _ in range(dice.randrange(1, 6)):
                code = dice.choice([dice.randrange(256), QUERY, PREPARE, EXECUTE, LONG_DATA, CLOSE, RESET, CHANGE_USER,
                                    SET_OPTION, FIELD_LIST, INIT_DB, FETCH])
                if code in (0x08, 0x07, 0x0d):  # SHUTDOWN, REFRESH, DEBUG: what they do is known
                    continue
                w.raw(packets(bytes([code]) + bytes(dice.randrange(256) for _ in range(dice.randrange(80)))))
            w.raw(bytes(dice.randrange(256) for _ in range(dice.randrange(50))))
            w.socket.shutdown(socket.SHUT_WR)
            w.stream.read()
        except (Ended, OSError):
            pass
        w.shut()
    alive(proxy)


def test_unknown_commands(proxy):
    with Wire(proxy.port) as w:
        for code in 0x00, 0x0b, 0x0f, 0x10, 0x14, 0x1d, 0x20, 0x50, 0xf0, 0xff:
            assert refused(w.ask, code, b"abc").code in (1047, 1235), code
            assert w.value("SELECT 1") == "1"


def test_truncated_executes(proxy):
    with Wire(proxy.port) as w:
        number, _, _ = w.prepare("SELECT ?, ?, ?")
        whole = bytes([EXECUTE]) + Wire.bound(number, (1, "text", 3))
        w.send(whole)
        assert b"text" in w.one().packets[0]
        for size in range(1, len(whole)):
            w.send(whole[:size])
            refused(w.one)
            assert w.value("SELECT %d" % size) == str(size)
        w.send(whole)
        assert b"text" in w.one().packets[0]
        wrong = bytearray(whole)
        wrong[-8 - 5] = 0xfb + 3  # the string's length now says 8 more bytes of length
        w.send(bytes(wrong))
        refused(w.one)
    alive(proxy)


def test_unknown_statement_ids(proxy):
    with Wire(proxy.port) as w:
        for number in 0, 1, 77, 1 << 30, 0xfffffffe, 0xffffffff:
            assert refused(w.execute, number, 1).code == 1243
            assert refused(w.ask, RESET, struct.pack("<I", number)).code == 1243
            w.command(CLOSE, struct.pack("<I", number))
            w.command(LONG_DATA, struct.pack("<IH", number, 0) + b"x")
            assert refused(w.ask, FETCH, struct.pack("<II", number, 1)).code in (1243, 1235)
        for short in b"", b"\1", b"\1\0\0":
            refused(w.ask, EXECUTE, short)
            refused(w.ask, RESET, short)
            w.command(CLOSE, short)
            w.command(LONG_DATA, short)
        assert w.value("SELECT 1") == "1"


def test_tls_request_is_refused_in_words(proxy):
    w = Wire(proxy.port, login=False)
    w.greeting()
    assert not w.offered & SSL
    w.send(struct.pack("<IIB23x", CAPS | SSL, 1 << 30, 45), 1)
    assert "TLS" in refused(w.one).text
    w.shut()


def test_load_data_local_is_refused(proxy):
    with Wire(proxy.port, caps=1 << 7) as w:
        w.query("CREATE OR REPLACE TABLE loaded (v TEXT)")
        e = refused(w.query, "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE loaded")
        assert e.code in (1148, 4166), e
        assert w.value("SELECT COUNT(*) FROM loaded") == "0"


# --- clients that are slow, silent or gone ---

def resident_kb(proxy):
    with open("/proc/%d/status" % proxy.process.pid) as f:
        return int([line for line in f if line.startswith("VmRSS")][0].split()[1])


def descriptors(proxy):
    return len(os.listdir("/proc/%d/fd" % proxy.process.pid))


def test_slow_reader_of_a_large_result_costs_little_memory(lab, proxy):
    lab.primary.sql("CREATE OR REPLACE TABLE app.wide (v LONGTEXT)",
                    "INSERT INTO app.wide VALUES (REPEAT('w', 1000000))")
    lab.sync()
    with Wire(proxy.port) as w:
        w.value("SELECT COUNT(*) FROM wide")
        before, most = resident_kb(proxy), 0
        w.command(QUERY, "SELECT v FROM wide JOIN members WHERE id <= 300")
        got = 0
        while got < 8 << 20:  # a small part of 300 MB, in small reads
            got += len(w.socket.recv(2048))
            if got % 64 == 0:
                most = max(most, resident_kb(proxy))
        most = max(most, resident_kb(proxy))
        # ASan keeps freed memory for a while, so it cannot be told
        assert SANITIZED or most - before < 16 << 10, "%d KB more" % (most - before)
        while got < 300000000:  # the rest comes whole
            got += len(w.socket.recv(1 << 20))
    alive(proxy)


def test_silent_client_is_dropped(lab):
    with Proxy(lab, {"proxy": {"login_timeout": "300ms"}}) as proxy:
        quiet, half, done = Wire(proxy.port, login=False), Wire(proxy.port, login=False), Wire(proxy.port)
        half.greeting()
        half.raw(b"\x40")
        quiet.greeting()
        assert quiet.ended() and half.ended()
        assert done.value("SELECT 1") == "1"  # it has only to log in by then
        wait_until(lambda: proxy.metric("sidetrack_client_connections") == 1)
        for w in quiet, half, done:
            w.shut()


def vanish(w):
    """Gone without a word: RST."""
    w.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    w.shut()


def test_client_that_vanishes_lets_go_of_its_locks(lab, proxy):
    for goodbye in vanish, Wire.shut, lambda w: w.raw(command(QUIT)):
        w = Wire(proxy.port)
        w.query("BEGIN")
        assert w.query("UPDATE members SET name = 'held' WHERE id = 5").affected == 1
        goodbye(w)
        with proxy.connect() as c:
            rows(c, "SET innodb_lock_wait_timeout = 40")
            rows(c, "UPDATE members SET name = CONCAT('free', RAND()) WHERE id = 5")
            assert value(c, "SELECT /* sidetrack: primary */ name FROM members WHERE id = 5").startswith("free")
    w = Wire(proxy.port)
    assert w.value("SELECT GET_LOCK('mine', 0)") == "1"
    w.query("LOCK TABLES members WRITE")
    vanish(w)
    with proxy.connect() as c:
        assert value(c, "SELECT GET_LOCK('mine', 40)") == 1
        assert value(c, "SELECT /* sidetrack: primary */ COUNT(*) FROM members WHERE id = 5") == 1


def test_client_that_vanishes_in_the_middle_of_a_result(lab, proxy):
    sql = "SELECT a.id, b.id, b.email FROM members a JOIN members b WHERE a.id < 2000"
    for _ in range(10):
        w = Wire(proxy.port)
        w.command(QUERY, sql)
        w.socket.recv(5000)
        vanish(w)
    alive(proxy)
    # its server connections were ended with it, and the server does not go on for nobody
    wait_until(lambda: all(s.sql("SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'app' AND info LIKE "
                                 "'SELECT a.id%'")[0][0] == 0 for s in [lab.primary] + lab.replicas))
    wait_until(lambda: proxy.metric("sidetrack_client_connections") == 0)


def test_half_closed_client_gets_its_answers(proxy):
    with Wire(proxy.port) as w:
        w.raw(command(QUERY, "SELECT 'a', SLEEP(0.2)") + command(QUERY, "SELECT COUNT(*) FROM members") +
              command(QUERY, "SELECT REPEAT('x', 3000000)"))
        w.socket.shutdown(socket.SHUT_WR)
        w.seq = 1
        assert w.one().rows[0][0] == b"a"
        w.seq = 1
        assert int(w.one().value) > 0
        w.seq = 1
        assert len(w.one().value) == 3000000
        assert w.ended()
    wait_until(lambda: proxy.metric("sidetrack_client_connections") == 0)


def test_connections_leave_no_descriptors(proxy):
    def visit(n):
        for i in range(n):
            if i % 5 == 0:
                vanish(Wire(proxy.port, login=False))
            elif i % 5 == 1:
                Wire(proxy.port).shut()
            elif i % 5 == 2:
                w = Wire(sock=proxy.sock, db=None)
                w.query("SELECT 1")
                w.shut()
            elif i % 5 == 3:
                w = Wire(proxy.port, db=None)
                w.command(QUIT)
                assert w.ended()
                w.shut()
            else:
                w = Wire(proxy.port, login=False)
                w.greeting()
                w.send(w.response("app", "wrong" if i % 500 == 4 else None, None, 45), 1)
                vanish(w)

    visit(200)  # pools fill first
    wait_until(lambda: proxy.metric("sidetrack_client_connections") == 0)
    before = descriptors(proxy)
    visit(10000)
    wait_until(lambda: proxy.metric("sidetrack_client_connections") == 0)
    wait_until(lambda: descriptors(proxy) <= before + 8, "%d descriptors before" % before)


# --- commands ---

def change_user(w, user, password=None, db="app"):
    answer = native("lab-" + user if password is None else password, w.salt)
    w.command(CHANGE_USER, user.encode() + b"\0" + bytes([len(answer)]) + answer + (db or "").encode() + b"\0" +
              struct.pack("<H", 45) + b"mysql_native_password\0")
    return w.one()  # (a server would ask for another round, with a new salt)


def test_change_user(proxy):
    with Wire(proxy.port) as w:
        w.query("SET @mine = 1, sql_mode = 'ANSI_QUOTES'")
        w.query("CREATE TEMPORARY TABLE gone (n INT)")
        number, _, _ = w.prepare("SELECT 1")
        change_user(w, "other", db="scratch")
        assert w.query("SELECT SUBSTRING_INDEX(USER(), '@', 1), DATABASE(), @mine").rows == [(b"other", b"scratch",
                                                                                              None)]
        assert w.value('SELECT "quoted"') == "quoted"
        assert refused(w.execute, number).code == 1243
        assert refused(w.query, "SELECT * FROM app.gone").code == 1146
        change_user(w, "app", db=None)
        assert w.query("SELECT SUBSTRING_INDEX(USER(), '@', 1), DATABASE()").rows == [(b"app", None)]
        assert refused(change_user, w, "app", db="no_such").code in (1044, 1049)


def test_change_user_in_a_transaction_rolls_back(proxy):
    with Wire(proxy.port) as w, Wire(proxy.port) as other:
        before = w.value("SELECT name FROM members WHERE id = 7")
        w.query("BEGIN")
        assert w.query("UPDATE members SET name = 'never' WHERE id = 7").status & IN_TRANS
        assert not change_user(w, "other").status & IN_TRANS
        assert w.value("SELECT /* sidetrack: primary */ name FROM members WHERE id = 7") == before
        assert other.query("UPDATE members SET name = '%s' WHERE id = 7" % before).status & IN_TRANS == 0


def test_change_user_that_fails(lab, proxy):
    """As a server: who it was goes on, in the schema that it was in, but what it had is gone; three times."""
    def after(port):
        told = []
        with Wire(port, charset=8) as w, Wire(port) as other:  # latin1
            name = other.value("SELECT /* sidetrack: primary */ name FROM members WHERE id = 7")
            w.ask(INIT_DB, "scratch")
            w.query("SET @mine = 1, sql_mode = 'ANSI_QUOTES', time_zone = '+05:00'")
            w.query("CREATE TEMPORARY TABLE gone (n INT)")
            w.query("SELECT GET_LOCK('mine', 0)")
            w.query("BEGIN")
            w.query("UPDATE app.members SET name = 'never' WHERE id = 7")
            number, _, _ = w.prepare("SELECT 1")
            for user, password, db in (("other", "wrong", "app"), ("nobody", "wrong", "app"),
                                       ("other", None, "no_such"), ("app", None, "app"), ("other", "wrong", "app"),
                                       ("app", None, "app"), ("app", None, "scratch")):
                try:
                    code = 0
                    server_change_user(w, user, password, db)
                except Refused as e:
                    code = e.code
                told.append((user, password, db, code, w.query(
                    "SELECT CURRENT_USER(), DATABASE(), @mine, @@sql_mode, @@time_zone, @@in_transaction,"
                    "@@character_set_client, @@collation_connection").rows, refused(w.execute, number).code,
                    refused(w.query, "SELECT * FROM scratch.gone").code, w.value("SELECT IS_FREE_LOCK('mine')")))
            assert other.value("SELECT /* sidetrack: primary */ name FROM members WHERE id = 7") == name
        return told
    for ours, servers in zip(after(proxy.port), after(lab.primary.port)):
        assert ours == servers, "%r, a server: %r" % (ours, servers)
    with Wire(proxy.port) as w:
        e = refused(change_user, w, "other", "wrong")
        assert e.code == 1045 and e.text.startswith("Access denied for user 'other'@"), e
        w.command(CHANGE_USER, b"malformed")
        assert refused(w.one).code == 1047 and w.value("SELECT 1") == "1"


def server_change_user(w, user, password, db):
    """With the other round that a server asks for."""
    password = "lab-" + user if password is None else password
    answer = native(password, w.salt)
    w.command(CHANGE_USER, user.encode() + b"\0" + bytes([len(answer)]) + answer + db.encode() + b"\0" +
              struct.pack("<H", 33) + b"mysql_native_password\0")
    head = w.read()
    if head[0] == 0xfe:
        end = head.index(b"\0", 1)
        w.send(native(password, head[end + 1:end + 21]), w.seq)
        head = w.read()
    if head[0] == 0xff:
        raise Refused(head)


def test_reset_connection(proxy):
    with Wire(proxy.port) as w:
        w.query("SET @mine = 1, sql_mode = 'ANSI_QUOTES', time_zone = '+05:00'")
        w.query("CREATE TEMPORARY TABLE gone (n INT)")
        w.query("BEGIN")
        w.query("UPDATE members SET name = 'never' WHERE id = 8")
        number, _, _ = w.prepare("SELECT 1")
        assert not w.ask(RESET_CONNECTION).status & IN_TRANS
        assert refused(w.execute, number).code == 1243
        assert w.query("SELECT @mine, @@time_zone, DATABASE()").rows == [(None, b"SYSTEM", b"app")]
        assert w.value('SELECT "quoted"') == "quoted"
        assert refused(w.query, "SELECT * FROM gone").code == 1146
        assert w.value("SELECT /* sidetrack: primary */ name FROM members WHERE id = 8") != "never"


def test_set_option_turns_multi_statements_on_and_off(proxy):
    with Wire(proxy.port) as w:
        for kept in False, True:  # while it keeps a server connection, too
            assert refused(w.query, "SELECT 1; SELECT 2").code == 1064
            w.ask(SET_OPTION, b"\0\0")
            w.command(QUERY, "SELECT 1; SELECT 2")
            assert [a.value for a in w.all()] == ["1", "2"]
            w.ask(SET_OPTION, b"\1\0")
            assert refused(w.query, "SELECT 1; SELECT 2").code == 1064
            w.query("SET @kept = 1")
        assert w.value("SELECT @kept") == "1" and kept
        for body in b"", b"\0", b"\2\0", b"\0\0\0":
            assert refused(w.ask, SET_OPTION, body).code == 1047
    with Wire(proxy.port) as w:  # what one client set is not another one's
        assert refused(w.query, "SELECT 1; SELECT 2").code == 1064


def field_list(w, table):
    w.command(FIELD_LIST, table + "\0%")
    found = []
    while True:
        payload = w.read()
        if payload[0] == 0xff:
            raise Refused(payload)
        if payload[0] == 0xfe and len(payload) < 9:
            return found
        found.append(payload)


def test_field_list_is_the_servers(lab, proxy):
    for caps in 0, DEPRECATE_EOF:
        with Wire(proxy.port, caps=caps) as w, Wire(lab.primary.port, caps=caps) as direct:
            for _ in range(3):
                assert field_list(w, "articles") == field_list(direct, "articles")
                assert len(field_list(w, "members")) == 5
                assert refused(field_list, w, "no_such").code == 1146
                assert w.value("SELECT 1") == "1"


def test_statistics_ping_init_db(proxy):
    with Wire(proxy.port) as w:
        for _ in range(3):
            w.command(STATISTICS)
            assert w.read().startswith(b"Uptime: ")
            assert w.ask(PING).columns == 0
        w.ask(INIT_DB, "scratch")
        assert w.value("SELECT DATABASE()") == "scratch"
        assert refused(w.ask, INIT_DB, "no_such").code in (1044, 1049)
        assert w.value("SELECT DATABASE()") == "scratch"


def test_both_ways_to_end_rows(proxy):
    for caps in 0, DEPRECATE_EOF:
        with Wire(proxy.port, caps=caps | MULTI_STATEMENTS) as w:
            assert w.value("SELECT COUNT(*) FROM members WHERE id < 3") == "2"
            assert len(w.query("SELECT * FROM members WHERE id <= 2000").packets) == 2000
            assert w.query("SELECT * FROM members WHERE id < 0").packets == []
            number, params, columns = w.prepare("SELECT id, name FROM members WHERE id < ?")
            assert (params, columns) == (1, 2) and len(w.execute(number, 5).packets) == 4
            w.command(QUERY, "SELECT 1; DO 1; SELECT 2, 3 FROM members WHERE id < 4; SELECT no_such; SELECT 4")
            assert w.one().value == "1" and w.one().columns == 0
            third = w.one()
            assert len(third.packets) == 3 and third.status & MORE_RESULTS
            assert refused(w.one).code == 1054
            assert w.value("SELECT 5") == "5"


def test_procedures_with_several_results(lab, proxy):
    lab.primary.sql("USE app", "DROP PROCEDURE IF EXISTS two", "DROP PROCEDURE IF EXISTS half",
                    "CREATE PROCEDURE two(OUT n INT) BEGIN SELECT 1; SELECT 2, 3; SET n = 4; END",
                    "CREATE PROCEDURE half() BEGIN SELECT 1; SELECT * FROM no_such_table; SELECT 2; END")
    with Wire(proxy.port, caps=MULTI_STATEMENTS) as w:
        for _ in range(3):
            w.command(QUERY, "CALL two(@n)")
            answers = w.all()
            assert [len(a.packets) for a in answers] == [1, 1, 0] and answers[1].rows == [(b"2", b"3")]
            assert w.value("SELECT @n") == "4"
            w.command(QUERY, "CALL half()")
            assert w.one().value == "1" and refused(w.one).code == 1146
            number, _, _ = w.prepare("CALL two(?)")
            w.command(EXECUTE, Wire.bound(number, (0,)))
            assert len(w.all()) == 4  # the OUT parameter is a result of its own
            w.command(QUERY, "SELECT 'before'; CALL two(@n); SELECT 'after'")
            assert [len(a.packets) for a in w.all()] == [1, 1, 1, 0, 1]


# --- prepared statements ---

def test_many_results_in_one_piece(lab):
    """The server's answers come all at once: runs of its bytes and packets made here, more than go out in one call."""
    with Relay(lab.primary.port) as relay, Proxy(lab, {"server.primary": {"address": relay.address}}) as proxy:
        for number in (10, 15, 16, 17, 63, 64, 65, 200):
            with proxy.connect(client_flag=CLIENT.MULTI_STATEMENTS) as c, c.cursor() as cursor:
                cursor.execute("SELECT /* sidetrack: primary */ 1")  # the connection is there
                relay.hold_answers()
                threading.Timer(0.3, relay.release).start()
                # Its OK tells of the change, which is left out for the client: a packet that is made comes first.
                cursor.execute("SET time_zone = '+01:00'" + "; SELECT 1, 'x'" * number)
                got = 0
                while cursor.nextset():
                    got += cursor.fetchall() == ((1, "x"),)
                assert got == number, (got, number)


def test_prepared_statement_life(proxy):
    with Wire(proxy.port) as w:
        first, _, _ = w.prepare("SELECT ?, 'first'")
        second, _, _ = w.prepare("SELECT ?, 'first'")  # the same text twice
        assert first != second
        assert b"first" in w.execute(first, 1).packets[0] and b"first" in w.execute(second, "x").packets[0]
        w.command(CLOSE, struct.pack("<I", first))
        assert refused(w.execute, first, 1).code == 1243
        assert b"first" in w.execute(second, 2).packets[0]
        third, _, _ = w.prepare("SELECT ?, 'third'")
        assert b"third" in w.execute(third, 3).packets[0] and b"first" in w.execute(second, 4).packets[0]
        assert refused(w.prepare, "SELEC 1").code == 1064
        assert refused(w.prepare, "SELECT no_such FROM members").code == 1054
        assert b"third" in w.execute(third, 3).packets[0]
        assert w.ask(RESET, struct.pack("<I", third)).columns == 0


def test_execute_needs_types_once(proxy):
    with Wire(proxy.port) as w:
        number, _, _ = w.prepare("SELECT ? + 1")
        refused(w.execute, number, 1, types=False)
        assert w.execute(number, 41).packets[0][2:] == struct.pack("<q", 42)
        for _ in range(5):
            w.command(EXECUTE, Wire.bound(number, (6,), types=False))
            assert w.one().packets[0][2:] == struct.pack("<q", 7)


def test_direct_execution_of_the_last_prepared(proxy):
    """MariaDB: statement id -1 means the last that was prepared, so that both go out in one write."""
    with Wire(proxy.port) as w:
        for n in range(20):
            w.raw(command(PREPARE, "SELECT ? * %d" % n) + command(EXECUTE, Wire.bound(0xffffffff, (3,))))
            w.seq = 1
            assert w.read()[0] == 0
            for _ in range(4):
                w.read()
            w.seq = 1
            assert w.one().packets[0][2:] == struct.pack("<q", 3 * n)
        w.raw(command(PREPARE, "SELEC nothing") + command(EXECUTE, Wire.bound(0xffffffff, (3,))))
        w.seq = 1
        assert refused(w.one).code == 1064
        w.seq = 1
        assert refused(w.one).code == 1243


def test_more_statements_than_a_server_connection_keeps(proxy):
    with Wire(proxy.port) as w:
        numbers = [w.prepare("SELECT ? + %d FROM members WHERE id = 1" % n)[0] for n in range(200)]
        assert len(set(numbers)) == 200
        dice = random.Random(3)
        for _ in range(600):
            n = dice.randrange(200)
            assert w.execute(numbers[n], 1000).packets[0][2:] == struct.pack("<q", 1000 + n)
        for n in range(0, 200, 2):
            w.command(CLOSE, struct.pack("<I", numbers[n]))
        for n in range(1, 200, 2):
            assert w.execute(numbers[n], 5).packets[0][2:] == struct.pack("<q", 5 + n)
        again = [w.prepare("SELECT ? - %d" % n)[0] for n in range(100)]
        assert not set(again) & set(numbers[1::2])
        for n in range(100):
            assert w.execute(again[n], 0).packets[0][2:] == struct.pack("<q", -n)


def test_long_data(proxy):
    with Wire(proxy.port) as w:
        number, _, _ = w.prepare("SELECT CONCAT(?, '|', ?)")

        def run_with(*values):
            return w.execute(number, *values).packets[0][2:].lstrip(b"\xfb\xfc\xfd")

        for part in b"one,", b"two,", b"three":
            w.command(LONG_DATA, struct.pack("<IH", number, 1) + part)
        assert run_with("a", ...).endswith(b"a|one,two,three")
        assert run_with("a", "b").endswith(b"a|b")  # it counts once
        w.command(LONG_DATA, struct.pack("<IH", number, 0) + b"lost")
        w.ask(RESET, struct.pack("<I", number))
        assert run_with("a", "c").endswith(b"a|c")
        w.command(LONG_DATA, struct.pack("<IH", number, 0))  # empty, but given
        assert run_with(..., "d").endswith(b"|d")
        w.command(LONG_DATA, struct.pack("<IH", number, 9) + b"no such parameter")
        try:
            w.execute(number, "a", "e")
        except Refused as e:
            assert e.code in (1210, 1243, 1835), e
        assert w.value("SELECT 1") == "1"


def test_prepared_without_a_schema(proxy):
    with Wire(proxy.port, db=None) as w:
        number, _, _ = w.prepare("SELECT name FROM app.members WHERE id = ?")
        assert len(w.execute(number, 3).packets) == 1
        w.ask(INIT_DB, "scratch")
        assert len(w.execute(number, 3).packets) == 1 and w.value("SELECT DATABASE()") == "scratch"
        w.query("SET @kept = 1")  # from here on it has a server connection of its own
        assert len(w.execute(number, 3).packets) == 1 and w.value("SELECT DATABASE()") == "scratch"
        w.query("BEGIN")
        assert len(w.execute(number, 3).packets) == 1 and w.value("SELECT @kept") == "1"


def test_a_session_without_a_schema_is_in_nobody_elses(proxy):
    for turn in range(20):
        with Wire(proxy.port) as w:
            w.query("CREATE TEMPORARY TABLE mine (n INT)")  # its connection is reset before the next one uses it
        with Wire(proxy.port, db=None) as w:
            assert w.query("SELECT DATABASE()").rows == [(None,)], turn
            assert refused(w.query, "SELECT * FROM members").code == 1046


def test_prepared_statement_keeps_its_schema(lab, proxy):
    for db in "app", "scratch":
        lab.primary.sql("CREATE OR REPLACE TABLE %s.whose (v VARCHAR(20))" % db,
                        "INSERT INTO %s.whose VALUES ('%s')" % (db, db))
    lab.sync()
    with Wire(proxy.port) as w:
        first, _, _ = w.prepare("SELECT v FROM whose")
        w.ask(INIT_DB, "scratch")
        second, _, _ = w.prepare("SELECT v FROM whose")
        for _ in range(4):
            assert w.execute(first).packets[0].endswith(b"app") and w.value("SELECT v FROM whose") == "scratch"
            assert w.execute(second).packets[0].endswith(b"scratch") and w.value("SELECT DATABASE()") == "scratch"


def test_null_and_typed_parameters(proxy):
    with Wire(proxy.port) as w:
        number, _, _ = w.prepare("SELECT ? IS NULL, ?, ? IS NULL")
        assert b"mid" in w.execute(number, None, "mid", 3).packets[0]
        assert w.execute(number, 1, None, None).packets[0][1] != 0  # the second column's null bit
        assert b"z" * 70000 in w.execute(number, None, "z" * 70000, None).packets[0]


if __name__ == "__main__":
    with Lab(replicas=1) as the_lab, Proxy(the_lab) as the_proxy:
        run(globals(), lab=the_lab, proxy=the_proxy)
