#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What clients may make the proxy hold, for how long, and what becomes of who asks for more: of nobody else. Clients
that say nothing, commands of several packets, capabilities that were not offered, secrets in memory."""
import hashlib
import os
import re
import resource
import socket
import struct
import subprocess
import time

from harness import LIMIT, SIDETRACK, Lab, Proxy, Relay, rows, run, value, wait_until
from wire import (CLOSE, EXECUTE, FIELD_LIST, INIT_DB, LONG_DATA, PACKET_MAX, PREPARE, QUERY, Ended, Refused, Wire,
                  packets)

COMPRESS, INTERACTIVE, ZSTD = 1 << 5, 1 << 10, 1 << 26
with open(SIDETRACK, "rb") as program:
    SANITIZED = b"__asan_init" in program.read()


def refused(call, *args, **more):
    """The error that a call must give."""
    try:
        call(*args, **more)
    except Refused as e:
        return e
    raise AssertionError("no error: %r" % (args,))


def resident_mb(proxy):
    with open("/proc/%d/status" % proxy.process.pid) as f:
        return int([line for line in f if line.startswith("VmRSS")][0].split()[1]) >> 10


# --- commands of several packets ---

def test_every_command_may_have_several_packets(proxy):
    blob = bytes(range(1, 256)) * ((PACKET_MAX + 5000) // 255)
    md5 = hashlib.md5(blob).hexdigest()
    with Wire(proxy.port) as w:
        number, _, _ = w.prepare("SELECT MD5(?), LENGTH(?)")
        for param in 0, 1:
            w.command(LONG_DATA, struct.pack("<IH", number, param) + blob)
        answer = w.execute(number, ..., ...)
        assert md5.encode() in answer.packets[0] and answer.packets[0].endswith(struct.pack("<I", len(blob))) \
            or struct.pack("<I", len(blob)) in answer.packets[0], answer.packets[0][:80]
        for sizes in (PACKET_MAX - 1, PACKET_MAX, PACKET_MAX + 1), (2 * PACKET_MAX,):
            for size in sizes:  # of the payload
                head, tail = b"SELECT /* sidetrack: primary */ ? + LENGTH('", b"')"
                text = head + b"x" * (size - 1 - len(head) - len(tail)) + tail
                number, params, _ = w.prepare(text.decode())
                want = b"%d" % (len(text) - len(head) - len(tail) + 5)
                assert params == 1
                for _ in range(2):  # wherever that runs
                    got = w.execute(number, 5).packets[0]
                    assert int.from_bytes(got[2:10], "little") == int(want), (got, want)
                w.command(CLOSE, struct.pack("<I", number))
        assert refused(w.ask, INIT_DB, b"n" * (PACKET_MAX + 9)).code in (1044, 1049, 1059, 1102)
        assert w.value("SELECT DATABASE()") == "app"
        w.command(0x77, b"?" * (PACKET_MAX + 9))  # none that there is
        assert refused(w.one).code == 1047
        # a prepared execute whose own types make one more packet of it than came
        number, _, _ = w.prepare("SELECT LENGTH(?)")
        w.execute(number, b"types are told")
        size = PACKET_MAX - 1 - len(w.bound(number, [b""], types=False)) - 9
        body = w.bound(number, [b"y" * size], types=False)
        w.command(EXECUTE, body)
        assert w.one().packets[0][2:] == struct.pack("<I", size)
        for size in range(PACKET_MAX - 30, PACKET_MAX - 10, 3):
            w.command(EXECUTE, w.bound(number, [b"z" * size], types=False))
            assert w.one().packets[0][2:] == struct.pack("<I", size), size


def test_long_data_that_is_not_kept_is_told_by_the_execute(lab):
    with Proxy(lab, {"proxy": {"max_allowed_packet": "1m"}}) as proxy, Wire(proxy.port) as w:
        number, _, _ = w.prepare("SELECT LENGTH(?)")
        for _ in range(3):
            w.command(LONG_DATA, struct.pack("<IH", number, 0) + b"x" * 600000)
        e = refused(w.execute, number, ...)
        assert e.code == 1105 and "mysql_send_long_data() is longer than" in e.text, e
        w.command(LONG_DATA, struct.pack("<IH", number, 7) + b"x")
        assert refused(w.execute, number, "y").code == 1210
        assert w.execute(number, "four").packets[0][2] == 4


# --- capabilities that were not offered ---

def test_compression_is_refused_in_words(proxy):
    for bit in COMPRESS, ZSTD:
        with Wire(proxy.port, login=False) as w:
            w.greeting()
            assert not w.offered & bit
            w.caps |= bit
            w.send(w.response("app", None, "app", 45), 1)
            e = refused(w.one)
            assert e.code == 1043 and "ompression" in e.text and w.ended(), e
        with Wire(proxy.admin_port, login=False, db=None) as w:
            w.greeting()
            w.caps |= bit
            w.send(w.response("admin", None, None, 45), 1)
            assert refused(w.one).code == 1043 and w.ended()


def test_other_capabilities_are_ignored_as_by_a_server(lab, proxy):
    for bit in range(32):
        if 1 << bit in (COMPRESS, ZSTD) or bit in (3, 9, 15, 19, 20, 21):  # those are the login's form
            continue
        answers = []
        for port in lab.primary.port, proxy.port:
            with Wire(port, login=False) as w:
                w.greeting()
                if w.offered & 1 << bit:
                    break
                w.caps |= 1 << bit
                w.send(w.response("app", None, "app", 45), 1)
                w.one()
                answers.append(w.query("SELECT 1").rows)
        assert len(answers) in (0, 1, 2) and len(set(map(str, answers))) <= 1, (bit, answers)


PHP = """mysqli_report(MYSQLI_REPORT_OFF); $c = mysqli_init(); $c->options(MYSQLI_OPT_CONNECT_TIMEOUT, 20);
$c->options(MYSQLI_OPT_READ_TIMEOUT, 20);
if (!@$c->real_connect('127.0.0.1', 'app', 'lab-app', 'app', %d, null, MYSQLI_CLIENT_COMPRESS)) {
	echo 'refused ', $c->connect_errno; exit; }
$r = $c->query('SELECT 41 + 1'); echo $r ? 'got ' . $r->fetch_row()[0] : 'failed ' . $c->errno;"""


def test_php_that_wants_compression_does_not_hang(proxy):
    done = subprocess.run(["php", "-r", PHP % proxy.port], stdout=subprocess.PIPE, timeout=LIMIT)
    assert done.stdout.decode() in ("refused 1043", "got 42"), done.stdout


# --- clients that say nothing ---

def test_idle_clients_end_as_at_a_server(lab):
    lab.primary.sql("SET GLOBAL wait_timeout = 5", "SET GLOBAL interactive_timeout = 600")
    try:
        with Proxy(lab) as proxy:
            began = time.monotonic()
            talks, quiet, patient = Wire(proxy.port), Wire(proxy.port), Wire(proxy.port, caps=INTERACTIVE)
            own, busy, half = Wire(proxy.port), Wire(proxy.port), Wire(proxy.port)
            own.query("SET wait_timeout = 500")
            busy.query("BEGIN")
            busy.query("UPDATE members SET name = 'left open' WHERE id = 5")
            half.raw(b"\x09\0\0\0\x03SEL")
            for w in quiet, busy, half:
                while not ended_now(w):
                    talks.value("SELECT 1")
                    time.sleep(0.1)
                    assert time.monotonic() - began < LIMIT
            assert time.monotonic() - began > 4.5
            assert talks.value("SELECT 1") == "1" and own.value("SELECT 2") == "2"
            assert patient.value("SELECT 3") == "3"
            assert "left open" not in str(lab.primary.sql("SELECT name FROM app.members WHERE id = 5"))
            own.query("SET wait_timeout = 1")
            wait_until(lambda: ended_now(own))
            assert "server_returned" not in proxy.log() and "kept connection closed" not in proxy.log()
            for w in talks, quiet, patient, own, busy, half:
                w.shut()
    finally:
        lab.primary.sql("SET GLOBAL wait_timeout = 28800", "SET GLOBAL interactive_timeout = 28800")


def ended_now(w):
    w.socket.setblocking(False)
    try:
        return w.socket.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    finally:
        w.socket.settimeout(LIMIT)


def test_a_kept_connection_lives_as_long_as_its_session(lab):
    """Reads at a replica for many times the timeout, while a pinned primary connection has nothing to do."""
    lab.primary.sql("SET GLOBAL wait_timeout = 3")
    try:
        with Proxy(lab, {"proxy": {"consistency": "eventual"}}) as proxy, Wire(proxy.port) as w:
            w.query("SET @kept = 7")
            w.query("INSERT IGNORE INTO members SELECT * FROM members WHERE id = 1")  # a warning, to be found later
            before = proxy.routed()["replica"]
            began = time.monotonic()
            while time.monotonic() - began < 8:
                w.value("SELECT title FROM articles WHERE id = 7")
                time.sleep(0.2)
            assert proxy.routed()["replica"] > before + 10
            assert w.value("SELECT @kept") == "7"
            assert "kept connection closed" not in proxy.log()
    finally:
        lab.primary.sql("SET GLOBAL wait_timeout = 28800")


def cpu_seconds(proxy):
    with open("/proc/%d/stat" % proxy.process.pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_idle_clients_cost_nothing(lab):
    with Proxy(lab) as proxy:
        clients = [Wire(sock=proxy.sock) for _ in range(1000)]
        before = cpu_seconds(proxy)
        time.sleep(3)
        with_clients = cpu_seconds(proxy) - before
        assert with_clients < 0.5, "%.2f s of CPU in 3 s" % with_clients  # the monitor's looks, 100 ms apart, are most
        for c in clients:
            c.shut()


# --- servers that end ---

def lost(w, sql=None):
    """What the client gets when its server has gone: an end, or an error that a server may send."""
    try:
        if sql is not None:
            w.command(QUERY, sql)
        w.all()
    except Ended:
        return None
    except Refused as e:
        assert not 2000 <= e.code <= 2999, "%r: libmariadb takes that for a malformed packet" % e
        return e
    raise AssertionError("an answer")


def test_lost_servers_are_not_told_in_codes_of_libraries(lab):
    at, to = Relay(lab.primary.port), Relay(lab.replicas[0].port)
    with Proxy(lab, {"server.primary": {"address": at.address}, "server.replica1": {"address": to.address},
                     "proxy": {"primary_wait": "200ms"}}) as proxy:
        reader, writer, other = Wire(proxy.port), Wire(proxy.port), Wire(proxy.port)

        def at_replica(w):
            before = proxy.routed()["replica"]
            w.value("SELECT title FROM articles WHERE id = 7")
            return proxy.routed()["replica"] > before
        wait_until(lambda: at_replica(other))
        reader.query("START TRANSACTION READ ONLY")
        assert at_replica(reader)
        to.cut()
        assert lost(reader, "SELECT title FROM articles WHERE id = 7") is None
        writer.query("SELECT 1")
        at.hold_answers()
        writer.command(QUERY, "UPDATE members SET name = 'unknown' WHERE id = 3")
        time.sleep(0.3)
        at.refuse()
        at.cut()
        at.release()
        assert lost(writer) is None
        e = lost(other, "UPDATE members SET name = 'never' WHERE id = 3")
        assert e is None or e.code == 1053 and "primary" in e.text, e
        at.refuse(False)
        for w in reader, writer, other:
            w.shut()


def test_a_server_that_says_goodbye(lab):
    """Its words may come in place of an answer, with a number of their own."""
    text = b"\xff\x1d\x04#08S01Server shutdown in progress"
    at = Relay(lab.primary.port)
    with Proxy(lab, {"server.primary": {"address": at.address}}) as proxy:
        with Wire(proxy.port) as w:
            w.query("SET @kept = 1")
            at.instead = (b"'goodbye'", packets(text, 9))
            e = refused(w.query, "UPDATE members SET name = 'goodbye' WHERE id = 3")  # (looks at its number)
            assert e.code == 1053, e


# --- memory ---

def test_prepared_statements_are_counted_for_all(lab):
    lab.primary.sql("SET GLOBAL max_prepared_stmt_count = 20")
    try:
        with Proxy(lab, {"proxy": {"consistency": "eventual"}}) as proxy:
            one, two = Wire(proxy.port), Wire(proxy.port)
            kept = [one.prepare("SELECT %d" % n)[0] for n in range(12)] + [0] * 8
            for n in range(8):
                two.prepare("SELECT %d" % n)
            for w in one, two:
                e = refused(w.prepare, "SELECT 'one more'")
                assert (e.code, e.sqlstate, e.text) == (1461, "42000", "Can't create more than "
                                                        "max_prepared_stmt_count statements (current value: 20)"), e
                assert w.value("SELECT 1") == "1"
            one.command(CLOSE, struct.pack("<I", kept[0]))
            one.value("SELECT 1")
            two.prepare("SELECT 'now there is room'")
            one.shut()
            wait_until(lambda: proxy.metric("sidetrack_client_connections") == 1)
            for n in range(11):
                two.prepare("SELECT %d + 1" % n)
            assert refused(two.prepare, "SELECT 1").code == 1461
            refused(two.prepare, "SELECT nonsense FROM nowhere")  # those that fail are not counted for ever
            two.shut()
            wait_until(lambda: proxy.metric("sidetrack_client_connections") == 0)
            with Wire(proxy.port) as w:
                for _ in range(40):
                    assert refused(w.prepare, "SELECT nonsense FROM nowhere").code == 1146
    finally:
        lab.primary.sql("SET GLOBAL max_prepared_stmt_count = 16382")


def test_prepared_statements_have_a_share_of_the_memory(lab):
    with Proxy(lab, {"proxy": {"client_memory": "16m"}}) as proxy, Wire(proxy.port) as greedy, Wire(proxy.port) as w:
        def much():
            for n in range(100):
                greedy.prepare("SELECT %d /* %s */" % (n, "x" * 100000))
        e = refused(much)
        assert e.code == 1041 and "client_memory" in e.text, e
        number, _, _ = w.prepare("SELECT ?")
        assert b"others go on" in w.execute(number, "others go on").packets[0]
        long, _, _ = w.prepare("SELECT LENGTH(?)")
        for _ in range(60):
            w.command(LONG_DATA, struct.pack("<IH", long, 0) + b"x" * 100000)
        e = refused(w.execute, long, ...)
        assert e.code == 1041 and "client_memory" in e.text, e
        assert greedy.value("SELECT 1") == "1"
        assert proxy.metric("sidetrack_client_memory_bytes") > 3 << 20
        greedy.shut()
        w.shut()
        wait_until(lambda: proxy.metric("sidetrack_client_memory_bytes") == 0)


def test_before_the_login_a_client_is_read_no_further(proxy):
    """Not even while accounts are looked up for a name that nobody knows."""
    before, most = resident_mb(proxy), 0
    clients = [Wire(proxy.port, login=False) for _ in range(60)]
    for w in clients:
        w.greeting()
        w.send(w.response("nobody", "wrong", "app", 45), 1)
        w.socket.setblocking(False)
        try:
            for _ in range(64):
                w.socket.send(b"\0" * 60000)
        except OSError:
            pass
        most = max(most, resident_mb(proxy))
    assert SANITIZED or most - before < 15, "%d MB more" % (most - before)
    for w in clients:
        w.shut()
    with Wire(proxy.port) as w:
        assert w.value("SELECT 1") == "1"


def test_large_commands_wait_for_their_turn(lab):
    """Twelve of 6 MB, each twice that to the proxy, where there is room for two: none is refused."""
    text = "SELECT LENGTH('%s')" % ("x" * (6 << 20))
    with Proxy(lab, {"proxy": {"client_memory": "26m"}}) as proxy:
        before = resident_mb(proxy)
        clients = [Wire(proxy.port) for _ in range(12)]
        data = packets(b"\x03" + text.encode())
        sent = [0] * len(clients)
        for w in clients:
            w.seq = 1
            w.socket.setblocking(False)
        most = 0
        with Wire(proxy.port) as other:
            answered = set()
            end = time.monotonic() + LIMIT
            while len(answered) < len(clients) and time.monotonic() < end:
                for i, w in enumerate(clients):
                    try:
                        if sent[i] < len(data):
                            sent[i] += w.socket.send(data[sent[i]:sent[i] + 300000])
                    except BlockingIOError:
                        pass
                    if i not in answered and sent[i] == len(data):
                        w.socket.settimeout(0.02)
                        try:
                            if w.socket.recv(1, socket.MSG_PEEK):
                                w.socket.settimeout(LIMIT)
                                assert w.one().value == str(6 << 20)
                                answered.add(i)
                        except TimeoutError:
                            w.socket.setblocking(False)
                most = max(most, resident_mb(proxy))
                assert other.value("SELECT 'small ones go on'") == "small ones go on"
            assert len(answered) == len(clients), (answered, sent)
        assert SANITIZED or most - before < 60, "%d MB more" % (most - before)
        for w in clients:
            w.shut()
        wait_until(lambda: proxy.metric("sidetrack_client_memory_bytes") == 0)


def test_who_holds_and_is_silent_is_sent_away(lab):
    with Proxy(lab, {"proxy": {"client_memory": "8m", "login_timeout": "1s"}}) as proxy:
        holder, other = Wire(proxy.port), Wire(proxy.port)
        holder.raw(packets(b"\x03SELECT '" + b"x" * (4 << 20))[:100000])  # and no more
        wait_until(lambda: proxy.metric("sidetrack_client_memory_bytes") == 8 << 20)
        assert other.value("SELECT LENGTH('%s')" % ("y" * (3 << 20))) == str(3 << 20)
        assert holder.ended()
        holder.shut()
        other.shut()


def test_who_waits_too_long_is_told(lab):
    with Proxy(lab, {"proxy": {"client_memory": "8m", "pool_wait": "500ms"}}) as proxy:
        holder, other = Wire(proxy.port), Wire(proxy.port)
        holder.raw(packets(b"\x03SELECT '" + b"x" * (4 << 20))[:100000])
        wait_until(lambda: proxy.metric("sidetrack_client_memory_bytes") == 8 << 20)
        e = refused(other.value, "SELECT LENGTH('%s')" % ("y" * (3 << 20)))
        assert e.code == 1041 and "client_memory" in e.text, e
        with Wire(proxy.port) as w:
            assert w.value("SELECT 1") == "1"
            e = refused(w.query, "SELECT '%s'" % ("z" * (9 << 20)))
            assert e.code == 1153, e
        holder.shut()
        other.shut()


def test_without_memory_one_client_fails(lab):
    """Under a limit of the process's memory; ASan's own need of address space does not go with that."""
    if SANITIZED:
        return
    with Proxy(lab, {"proxy": {"workers": 1, "client_memory": "4g", "max_allowed_packet": "1g"},
                     "cache": {"store": "memory"}}) as proxy:
        with open("/proc/%d/status" % proxy.process.pid) as f:
            now = int([line for line in f if line.startswith("VmSize")][0].split()[1]) << 10
        resource.prlimit(proxy.process.pid, resource.RLIMIT_AS, (now + (48 << 20), now + (48 << 20)))
        with Wire(proxy.port) as other:
            failed = 0
            for size in 1 << 20, 10 << 20, 20 << 20, 30 << 20, 40 << 20, 60 << 20:
                for form in "query", "prepare", "execute", "long":
                    try:
                        with Wire(proxy.port) as w:
                            if form == "query":
                                assert w.value("SELECT LENGTH('%s')" % ("x" * size)) == str(size)
                            elif form == "prepare":
                                w.prepare("SELECT LENGTH('%s')" % ("x" * size))
                            else:
                                number, _, _ = w.prepare("SELECT LENGTH(?)")
                                if form == "long":
                                    w.command(LONG_DATA, struct.pack("<IH", number, 0) + b"x" * size)
                                w.execute(number, b"x" * size if form == "execute" else ...)
                    except (Refused, Ended, OSError, AssertionError) as e:  # (long data has no answer: out of turn)
                        assert size > 1 << 20, (form, e)
                        failed += 1
                    assert proxy.process.poll() is None, "%s of %d: %s" % (form, size, proxy.log()[-2000:])
                    assert other.value("SELECT 1") == "1"
            assert failed > 0


# --- secrets ---

def readable(pid):
    """(start, end, in dumps?) of each private mapping."""
    region = None
    with open("/proc/%d/smaps" % pid) as f:
        for line in f:
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ (\d+)", line)
            if m:
                region = (int(m[1], 16), int(m[2], 16), m[3])
            elif line.startswith("VmFlags:") and region[2].startswith("rw"):
                yield region[0], region[1], " dd" not in line


def test_secrets_are_not_where_a_dump_would_have_them(lab):
    with Proxy(lab) as proxy:
        with proxy.connect() as c:
            value(c, "SELECT COUNT(*) FROM members")
        with open("/proc/%d/limits" % proxy.process.pid) as f:
            core = [line for line in f if line.startswith("Max core file size")][0].split()[4:6]
        assert core in (["1", "1"], ["0", "0"]), core
        secrets = [b"lab-monitor", b"lab-admin", hashlib.sha1(b"lab-app").digest()]
        found, kept = [], set()
        with open("/proc/%d/mem" % proxy.process.pid, "rb", 0) as mem:
            for start, end, dumped in readable(proxy.process.pid):
                if SANITIZED and end - start > 1 << 30:
                    continue
                try:
                    mem.seek(start)
                    data = mem.read(end - start)
                except (OSError, OverflowError, ValueError):
                    continue
                for secret in secrets:
                    if secret in data:
                        kept.add(secret)
                        if dumped:
                            found.append((hex(start), secret))
        assert kept == set(secrets), kept
        assert SANITIZED or not found, found


if __name__ == "__main__":
    with Lab(replicas=1) as the_lab, Proxy(the_lab) as the_proxy:
        run(globals(), lab=the_lab, proxy=the_proxy)
