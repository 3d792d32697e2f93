# SPDX-License-Identifier: Apache-2.0
"""The processes that a benchmark runs: the lab's servers, and what stands between a client and them."""
import os
import random
import re
import signal
import socket
import subprocess
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
LAB = os.path.join(HERE, "..", "lab", "lab.sh")
COLUMNS = "token, member_id, scope, expires_at"
LOOKUP = f"SELECT {COLUMNS} FROM app.access_token WHERE token = ? AND expires_at > NOW()"
# Tokens that stay valid during the run; the set fits every cache.
SET = f"SELECT {COLUMNS} FROM app.access_token WHERE expires_at > NOW() + INTERVAL 1 DAY LIMIT 10000"
IDLE = "SELECT name FROM app.members WHERE id = 1"
GIGABYTE = "SELECT REPEAT('x', 1048576) FROM app.access_token LIMIT 1024"


def free_port():
    """A free loopback port below the kernel's own range, as lab.sh does."""
    while True:
        port = random.randint(20000, 32000)
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def cpu_ns(pid):
    """CPU time of all threads of a process."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/schedstat") as f:
                total += int(f.read().split()[0])
        except FileNotFoundError:
            pass  # the thread has ended
    return total


def resident(pid):
    """Resident bytes, exact (statm lags behind by what each thread has not added up yet)."""
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Rss:")) * 1024


class Lab:
    """A private primary, replica and Redis, by tests/lab/lab.sh; an env name is an attribute (lab.replica1_port)."""

    def __init__(self, directory):
        self.directory = os.path.join(directory, "lab")
        subprocess.run([LAB, "start", self.directory, "--replicas", "1", "--max-connections", "2000",
                        "--redis-memory", "256mb", "--owner", str(os.getpid())], check=True)
        with open(os.path.join(self.directory, "env")) as f:
            for name, value in re.findall(r"LAB_(\w+)=(\S+)", f.read()):
                setattr(self, name.lower(), value)

    def stop(self):
        subprocess.run([LAB, "stop", self.directory], check=False)


class Target:
    """Something that listens: a name, a port, and a process whose CPU and memory are counted (pid 0: nobody's)."""

    def __init__(self, name, port, pid=0, host="127.0.0.1", process=None, log=None):
        self.name, self.host, self.port, self.pid = name, host, port, pid
        self.process, self.log = process, log

    def stop(self):
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def served(self):
        """Statements so far by where they were answered, from the proxy's own metrics; None where it has none."""
        return None

    def why_dead(self):
        """None while the process runs, else what it said at its end."""
        if self.process is None or self.process.poll() is None:
            return None
        with open(self.log, errors="replace") as f:
            return f"{self.name} ended with {self.process.returncode}: {f.read()[-500:].strip()}"


class Sidetrack(Target):
    http_port = 0

    def served(self):
        pattern = re.compile(r'^sidetrack_statements_total\{.*?route="(\w+)".*\} (\d+)', re.M)
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/metrics", timeout=5) as answer:
            counts = {}
            for route, n in pattern.findall(answer.read().decode()):
                counts[route] = counts.get(route, 0) + int(n)
            return counts


def spawn(directory, name, command):
    """Ends with this process, however that ends."""
    log = os.path.join(directory, f"{name}.log")
    with open(log, "w") as out:
        command = ["setpriv", "--pdeathsig", "TERM", *command]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out), log


def start_floor(directory, binaries, threads=1):
    process, log = spawn(directory, "floor", [os.path.join(binaries, "bench", "floor"), "-n", str(threads)])
    while True:
        with open(log) as f:
            text = f.read()
        if text.endswith("\n"):
            return Target("floor", int(text), process.pid, process=process, log=log)
        if process.poll() is not None:
            raise RuntimeError("the floor does not start: " + text)
        time.sleep(0.02)


def start_haproxy(directory, name, server_port, threads):
    port = free_port()
    conf = os.path.join(directory, f"{name}.cfg")
    with open(conf, "w") as f:
        f.write(f"""global
    nbthread {threads}
    maxconn 8000
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
frontend clients
    bind 127.0.0.1:{port}
    default_backend servers
backend servers
    server one 127.0.0.1:{server_port}
""")
    process, log = spawn(directory, name, ["haproxy", "-q", "-db", "-f", conf])
    return Target("haproxy", port, process.pid, process=process, log=log)


def start_sidetrack(directory, binaries, lab, name, mode, store, workers):
    port, http_port = free_port(), free_port()
    conf = os.path.join(directory, f"sidetrack-{name}.conf")
    with open(os.open(conf, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
        f.write(f"""[proxy]
listen = 127.0.0.1:{port}
workers = {workers}
mode = {mode}
[admin]
http = 127.0.0.1:{http_port}
[server.primary]
address = 127.0.0.1:{lab.primary_port}
[server.replica]
address = 127.0.0.1:{lab.replica1_port}
[monitor]
user = {lab.monitor_user}
password = {lab.monitor_password}
[cache]
store = {store}
[cache.token]
table = app.access_token
key = token
expires = expires_at
ttl = 1h
""")
    process, log = spawn(directory, f"sidetrack-{name}", [os.path.join(binaries, "sidetrack"), "-c", conf])
    target = Sidetrack(name, port, process.pid, process=process, log=log)
    target.http_port = http_port
    return target


def redis_url(lab):
    return f"redis://127.0.0.1:{lab.redis_port}/0"


def start_target(name, directory, binaries, lab, workers):
    """One row of the table by its name."""
    if name == "direct":
        return Target("direct", int(lab.replica1_port))
    if name == "haproxy":
        return start_haproxy(directory, name, lab.replica1_port, workers)
    if name == "floor":
        return start_floor(directory, binaries, workers)
    if name == "split":
        return start_sidetrack(directory, binaries, lab, name, "split", "memory", workers)
    if name == "memory":
        return start_sidetrack(directory, binaries, lab, name, "cache", "memory", workers)
    if name == "redis":
        return start_sidetrack(directory, binaries, lab, name, "cache", redis_url(lab), workers)
    if name == "peer":
        host, port, pid = (os.environ["BENCH_PEER"].rsplit(":", 2) + ["0"])[:3]
        return Target("peer", int(port), int(pid or 0), host=host)
    raise SystemExit(f"bench: no target is called {name}")
