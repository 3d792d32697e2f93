# SPDX-License-Identifier: Apache-2.0
"""What integration tests stand on: a lab of real servers (tests/lab/lab.sh), the proxy before them, and ways to look.

A test file is a program:

    #!/usr/bin/python3
    from harness import Lab, Proxy, run

    def test_something(lab, proxy):            # arguments are taken by name from what run() is given
        with proxy.connect() as c:
            assert rows(c, "SELECT 1") == [(1,)]

    with Lab(replicas=1) as lab, Proxy(lab, {"proxy": {"mode": "split"}}) as proxy:
        run(globals(), lab=lab, proxy=proxy)

It prints TAP lines and exits 1 when a test failed. SIDETRACK names the proxy's binary, default build/sidetrack.
Nothing waits a fixed time: wait_until() asks again until a generous limit.
"""
import inspect
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.request

import pymysql
import pymysql.cursors

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LAB_SH = os.path.join(ROOT, "tests/lab/lab.sh")
SIDETRACK = os.path.abspath(os.environ.get("SIDETRACK", os.path.join(ROOT, "build/sidetrack")))
# where unit tests' *_driver programs are
TEST_BIN = os.path.abspath(os.environ.get("TEST_BIN", os.path.join(ROOT, "build/obj/release/unit")))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that whoever is in a `with` cleans up
LIMIT = 60  # seconds that something may take on a busy machine before a test says it failed


def wait_until(condition, what="", limit=None):
    """Calls condition until it answers something true, which is returned; an exception in it counts as not yet."""
    limit = limit or LIMIT
    end = time.monotonic() + limit
    error = None
    while True:
        try:
            answer = condition()
            error = None
            if answer:
                return answer
        except (AssertionError, OSError, pymysql.MySQLError, LookupError) as e:
            error = e
        if time.monotonic() > end:
            raise AssertionError("not within %s s: %s%s" % (limit, what or inspect.getsource(condition).strip(),
                                                            " (%r)" % error if error else ""))
        time.sleep(0.05)


def rows(connection, sql, args=None):
    """The rows of one statement, as a list of tuples; [] where it has none."""
    with connection.cursor() as cursor:
        cursor.execute(sql, args)
        return list(cursor.fetchall())


def value(connection, sql, args=None):
    return rows(connection, sql, args)[0][0]


def connect_to(host=None, port=0, sock=None, user="app", password=None, db="app", **more):
    """A PyMySQL connection in autocommit; a lab account's password is known by its name."""
    password = "lab-" + user if password is None else password
    more.setdefault("autocommit", True)
    more.setdefault("charset", "utf8mb4")
    more.setdefault("connect_timeout", LIMIT)
    more.setdefault("read_timeout", LIMIT)
    if sock:
        return pymysql.connect(unix_socket=sock, user=user, password=password, database=db, **more)
    return pymysql.connect(host=host or "127.0.0.1", port=port, user=user, password=password, database=db, **more)


def free_port():
    """A port below the kernel's ephemeral range that nobody listens on now."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Server:
    """One server of the lab: primary, replica1, ..., redis."""

    def __init__(self, lab, name):
        self.lab, self.name = lab, name
        self.sock = os.path.join(lab.dir, name, "sock")

    def _file(self, name):
        with open(os.path.join(self.lab.dir, self.name, name)) as f:
            return f.read().strip()

    @property
    def port(self):
        return int(self._file("port"))

    @property
    def pid(self):
        return int(self._file("pid"))

    @property
    def address(self):
        return "127.0.0.1:%d" % self.port

    def connect(self, user="app", **more):
        return connect_to(port=self.port, user=user, **more)

    def root(self, **more):
        more.setdefault("db", None)
        return connect_to(sock=self.sock, user="root", **more)

    def sql(self, *statements):
        """As root; the rows of the last statement."""
        with self.root() as c:
            for statement in statements:
                answer = rows(c, statement)
            return answer

    def status(self, name):
        """A SHOW GLOBAL STATUS counter, as a number: who really ran the statements."""
        return int(self.sql("SHOW GLOBAL STATUS LIKE '%s'" % name)[0][1])

    def down(self, sig="KILL"):
        self.lab.command("down", self.name, sig)

    def up(self):
        self.lab.command("up", self.name)

    def signal(self, sig):
        os.kill(self.pid, sig)


class Lab:
    """Lab(replicas=2, rows=2000, delay={1: 3}, max_connections=N, redis_memory="64mb", skip_name_resolve=True)"""

    def __init__(self, replicas=2, rows=2000, delay=None, **options):
        self.dir = tempfile.mkdtemp(prefix="st-lab-")
        command = [LAB_SH, "start", self.dir, "--owner", str(os.getpid())]
        command += ["--replicas", str(replicas), "--rows", str(rows)]
        for number, seconds in (delay or {}).items():
            command += ["--delay", "%s:%s" % (seconds, number)]
        for option, given in options.items():
            command += ["--" + option.replace("_", "-")] + ([] if given is True else [str(given)])
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        self.primary = Server(self, "primary")
        self.replicas = [Server(self, "replica%d" % (n + 1)) for n in range(replicas)]
        self.redis = Server(self, "redis")

    def command(self, *words):
        subprocess.run([LAB_SH, words[0], self.dir] + list(words[1:]), check=True, stdin=subprocess.DEVNULL)

    def redis_cli(self, *words):
        done = subprocess.run(["redis-cli", "-s", self.redis.sock] + list(words), check=True, stdout=subprocess.PIPE)
        return done.stdout.decode().strip()

    def sync(self):
        """Until every replica that runs has applied what the primary has now."""
        gtid = self.primary.sql("SELECT @@gtid_binlog_pos")[0][0]
        for replica in self.replicas:
            assert replica.sql("SELECT MASTER_GTID_WAIT('%s', %d)" % (gtid, LIMIT))[0][0] == 0, replica.name

    def stop(self):
        subprocess.run([LAB_SH, "stop", self.dir], check=False, stdin=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def make_config(lab, ports, directory, changes):
    """The configuration of a proxy before this lab as {section: {key: value}}; changes override, None removes."""
    config = {
        "proxy": {"listen": "127.0.0.1:%d, %s/mysql.sock" % (ports[0], directory), "workers": 2, "mode": "cache"},
        "admin": {"listen": "127.0.0.1:%d" % ports[1], "http": "127.0.0.1:%d" % ports[2], "user": "admin",
                  "password": "lab-admin"},
        "server.primary": {"address": lab.primary.address},
        "monitor": {"user": "monitor", "password": "lab-monitor", "interval": "100ms", "max_replica_lag": "1s"},
        "cache": {"store": "redis://127.0.0.1:%d/0" % lab.redis.port},
        "cache.token": {"table": "app.access_token", "key": "token", "expires": "expires_at", "ttl": "10m",
                        "negative_ttl": "5s"},
    }
    for replica in lab.replicas:
        config["server." + replica.name] = {"address": replica.address}
    for section, keys in changes.items():
        if keys is None:
            config.pop(section, None)
            continue
        mine = config.setdefault(section, {})
        mine.update(keys)
        for key in [k for k in mine if mine[k] is None]:
            del mine[key]
    return config


class Proxy:
    """A running sidetrack. changes: {"proxy": {"mode": "split"}, "cache.token": None, ...} over make_config()'s."""

    def __init__(self, lab, changes=None, binary=None, ready=True):
        self.lab, self.changes, self.binary = lab, changes or {}, binary or SIDETRACK
        self.dir = tempfile.mkdtemp(prefix="st-proxy-")
        self.sock = os.path.join(self.dir, "mysql.sock")
        self.process = None
        for _ in range(5):  # a port may be taken between our look and the proxy's bind
            self.port, self.admin_port, self.http_port = free_port(), free_port(), free_port()
            try:
                return self.start(ready)
            except AssertionError:
                self.stop()
                if "ddress already in use" not in self.log():
                    raise
        raise AssertionError("no free port: " + self.log())

    def start(self, ready=True):
        """Waits until statements run and every server that is up is known to be."""
        self.write_config()
        with open(os.path.join(self.dir, "log"), "ab") as log:
            self.process = subprocess.Popen([self.binary, "-c", os.path.join(self.dir, "sidetrack.conf")],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(lambda: self.process.poll() is not None or self.ping(), "the proxy answers")
        assert self.process.poll() is None, "the proxy ended:\n" + self.log()
        if ready:
            wait_until(lambda: self.metric("sidetrack_server_up") == 1 + len(self.lab.replicas), "all servers are up")

    def ping(self):
        with socket.create_connection(("127.0.0.1", self.port), LIMIT):
            return True

    def write_config(self):
        config = make_config(self.lab, (self.port, self.admin_port, self.http_port), self.dir, self.changes)
        path = os.path.join(self.dir, "sidetrack.conf")
        with open(os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
            for section, keys in config.items():
                f.write("[%s]\n" % section + "".join("%s = %s\n" % pair for pair in keys.items()) + "\n")
        os.rename(path + ".new", path)

    def reload(self, changes):
        """Further changes, by SIGHUP; returns when the log says that it was done (True) or refused (False)."""
        for section, keys in changes.items():
            if keys is None or self.changes.get(section) is None:
                self.changes[section] = keys
            else:
                self.changes[section].update(keys)
        done, refused = self.log().count("configuration loaded again"), self.log().count("the old one stays")
        self.write_config()
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.log().count("configuration loaded again") > done
                   or self.log().count("the old one stays") > refused, "the log tells of the reload")
        return self.log().count("configuration loaded again") > done

    def connect(self, user="app", **more):
        return connect_to(port=self.port, user=user, **more)

    def admin(self, sql):
        """A statement on the admin port; rows as dicts."""
        with connect_to(port=self.admin_port, user="admin", password="lab-admin", db=None,
                        cursorclass=pymysql.cursors.DictCursor) as c:
            return rows(c, sql)

    def http(self, path):
        with urllib.request.urlopen("http://127.0.0.1:%d%s" % (self.http_port, path), timeout=LIMIT) as answer:
            return answer.read().decode()

    def metrics(self):
        """[(name, {label: value}, number)] of /metrics"""
        found = []
        for line in self.http("/metrics").splitlines():
            if not line or line.startswith("#"):
                continue
            name, number = line.rsplit(" ", 1)
            name, _, labels = name.partition("{")
            pairs = [p.split("=", 1) for p in labels.rstrip("}").split(",") if p]
            found.append((name, {k: v.strip('"') for k, v in pairs}, float(number)))
        return found

    def metric(self, name, **labels):
        """The sum of all samples of that name whose labels match."""
        return sum(number for n, have, number in self.metrics()
                   if n == name and all(have.get(k) == v for k, v in labels.items()))

    def routed(self):
        """Statements so far by route: {"primary": n, "replica": n, "cache": n}; subtract two of them."""
        return {r: self.metric("sidetrack_statements_total", route=r) for r in ("primary", "replica", "cache")}

    def log(self):
        with open(os.path.join(self.dir, "log"), errors="replace") as f:
            return f.read()

    def kill(self, sig=signal.SIGKILL):
        self.process.send_signal(sig)
        if sig in (signal.SIGKILL, signal.SIGTERM):
            self.process.wait(LIMIT)

    def stop(self):
        """By SIGTERM, and KILL when that does not end it; the exit status (what check() then judges)."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode

    def check(self):
        """A sanitizer's complaint, or an end by anything but exit 0 (or our KILL), is a failure."""
        log = self.log()
        for word in ("AddressSanitizer", "LeakSanitizer", "ThreadSanitizer", "runtime error:"):
            assert word not in log, log[max(0, log.index(word) - 200):][:6000]
        status = self.process.returncode
        assert status in (0, -signal.SIGKILL), "ended with %s:\n%s" % (status, log[-4000:])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        try:
            self.check()
        except AssertionError as e:
            say(False, "the proxy ends well", str(e))
            raise SystemExit(1) from None
        finally:
            subprocess.run(["rm", "-rf", self.dir], check=False)


class Relay:
    """A TCP relay before a server, to misbehave as a network does: hold() bytes, cut() connections, refuse() new ones,
    with reset_after = N the next answer ends after N bytes with a reset, with instead = (text, bytes) the answer to
    what has that text is these bytes, and the end.
    Put relay.address into the proxy's configuration in place of the server's."""

    def __init__(self, port):
        self.target, self.pairs, self.lock = port, [], threading.Lock()
        self.flowing, self.answering, self.refusing = threading.Event(), threading.Event(), False
        self.answering.set()
        self.instead = None
        self.reset_after, self.dying, self.left = None, set(), threading.Event()
        self.flowing.set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
                if self.refusing:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                if self.listener.fileno() < 0:
                    return
                client.close()
                continue
            with self.lock:
                self.pairs.append((client, server))
            for a, b in (client, server), (server, client):
                threading.Thread(target=self._pump, args=(a, b, a is server), daemon=True).start()

    def _pump(self, a, b, answers):
        try:
            while True:
                select.select([a], [], [])
                self.flowing.wait()
                if answers:  # before they are read: what comes while they are held goes on in one piece
                    self.answering.wait()
                data = a.recv(65536)
                if not data:
                    break
                if answers and self.reset_after is not None:
                    return self._reset(a, b, data)
                if not answers and self.instead is not None and self.instead[0] in data:
                    a.sendall(self.instead[1])
                    self.instead = None
                    break
                b.sendall(data)
        except (OSError, ValueError):
            pass
        if a in self.dying:
            return self.left.set()
        for s in a, b:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _reset(self, a, b, data):
        self.dying.add(b)
        b.shutdown(socket.SHUT_RD)  # the other pump lets go of it, so that close() is the end
        self.left.wait(LIMIT)
        self.left.clear()
        b.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        b.sendall(data[:self.reset_after])
        b.close()
        self.reset_after = None
        a.close()

    def hold(self):
        """Nothing gets through, nothing is closed: a silent server."""
        self.flowing.clear()

    def hold_answers(self):
        """The server is asked, and not heard."""
        self.answering.clear()

    def release(self):
        self.flowing.set()
        self.answering.set()

    def cut(self):
        """Ends every connection now."""
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for s in pair:
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def refuse(self, yes=True):
        """New connections are closed at once."""
        self.refusing = yes

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.release()
        self.listener.close()
        self.cut()


_said = {True: 0, False: 0}


def say(good, name, why=""):
    """One TAP line, and why as comments."""
    _said[good] += 1
    print("%s %d - %s: %s" % ("ok" if good else "not ok", sum(_said.values()), os.path.basename(sys.argv[0]), name))
    for line in why.splitlines():
        print("#   " + line)
    sys.stdout.flush()


def run(names, **fixtures):
    """Calls every test_* function in the file's order; exits 1 when any failed or none was there. Words on the command
    line choose tests by part of their name."""
    wanted = sys.argv[1:]
    for name, function in list(names.items()):
        if not name.startswith("test_") or (wanted and not any(w in name for w in wanted)):
            continue
        try:
            function(**{p: fixtures[p] for p in inspect.signature(function).parameters})
            say(True, name)
        except Exception:  # whatever it is, the other tests go on
            say(False, name, traceback.format_exc())
    if _said[False] or not _said[True]:
        raise SystemExit(1)
