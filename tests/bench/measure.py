# SPDX-License-Identifier: Apache-2.0
"""One measurement each: a run of the load generator, idle clients, a slow client, the classifier, system calls."""
import os
import re
import resource
import signal
import subprocess
import threading
import time

import targets


class Load:
    """The load generator, told once who the clients are and where the set of keys is read."""

    def __init__(self, binaries, lab):
        self.command = [os.path.join(binaries, "bench", "load"), "--user", lab.app_user, "--password", lab.app_password,
                        "--db", lab.db]
        self.set_port = lab.replica1_port

    def to(self, target):
        return self.command + ["--host", target.host, "--port", str(target.port)]

    def run(self, target, conns, protocol="text", warm=0.3, seconds=2.0, fill=False):
        """One run; a dict of what it printed, plus `share`: statements answered by each of the proxy's routes."""
        command = self.to(target) + ["--sql", targets.LOOKUP, "--set", targets.SET, "--set-port", str(self.set_port),
                                     "--conns", str(conns), "--warm", str(warm), "--seconds", str(seconds)]
        command += ["--prepared"] if protocol == "prepared" else []
        command += ["--check"] if target.name != "floor" else []
        command += ["--fill"] if fill else []
        command += ["--pid", str(target.pid)] if target.pid else []
        before = target.served()
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + warm + 120)
        numbers = {k: float(v) for k, v in re.findall(r"(\w+)=([\d.]+)", done.stdout)}
        if "rate" not in numbers:
            raise RuntimeError(f"{target.name}, {conns} connections, {protocol}: {done.stderr.strip()}")
        numbers["message"] = done.stderr.strip()
        numbers["share"] = share(before, target.served())
        return numbers


def share(before, after):
    if before is None:
        return None
    delta = {route: n - before.get(route, 0) for route, n in after.items()}
    total = sum(delta.values())
    return {route: n / total for route, n in delta.items()} if total else None


def wait_ready(load, target, route=None):
    """Until statements are answered, and, where `route` is given, nearly all of them there. A proxy needs a moment to
    find its servers' roles and to prove a replica fresh."""
    problem = "nothing was tried"
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if target.why_dead():
            raise RuntimeError(target.why_dead())
        try:
            numbers = load.run(target, 1, warm=0, seconds=0.1)
        except (OSError, RuntimeError) as e:
            problem = str(e)
        else:
            if not numbers["errors"] and (route is None or (numbers["share"] or {}).get(route, 0) > 0.9):
                return
            problem = numbers["message"] or f"statements went to {numbers['share']}"
        time.sleep(0.2)
    raise RuntimeError(f"{target.name} is not ready after 30 s: {problem}")


def fill(load, target, protocol):
    """Asks for every key until the cache answers nearly all of them. A Redis that has just been met is not filled for
    some seconds (docs/cache.md)."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        numbers = load.run(target, 32, protocol, warm=0, seconds=0.1, fill=True)
        if (numbers["share"] or {}).get("cache", 0) > 0.99:
            return
        time.sleep(0.5)
    raise RuntimeError(f"{target.name}: its cache is not filled after 30 s: statements went to {numbers['share']}")


def raise_file_limit():
    """Thousands of clients need descriptors, here and in all that is started from here. Returns the limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def idle(load, target, count):
    """Resident bytes an idle client and CPU seconds a second with all of them idle. The clients have run a statement:
    what a client costs between two statements, not before its first."""
    before = targets.resident(target.pid)
    clients = subprocess.Popen(load.to(target) + ["--idle", str(count), "--sql", targets.IDLE],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if not clients.stdout.readline().startswith("idle"):
            raise RuntimeError(f"{target.name}: {count} idle clients could not be opened")
        time.sleep(1)  # what the logins left behind is done
        bytes_each = (targets.resident(target.pid) - before) / count
        cpu, begin = targets.cpu_ns(target.pid), time.monotonic()
        time.sleep(10)
        cpu_share = (targets.cpu_ns(target.pid) - cpu) / 1e9 / (time.monotonic() - begin)
    finally:
        clients.stdin.close()
        rest = clients.stdout.read()
        clients.wait()
    return {"bytes": bytes_each, "cpu": cpu_share, "lost": int(re.search(r"lost=(\d+)", rest).group(1))}


def slow_result(load, target):
    """Growth of resident bytes while one client reads a gigabyte slowly."""
    load.run(target, 8, warm=0, seconds=0.5)
    before = peak = targets.resident(target.pid)
    client = subprocess.Popen(load.to(target) + ["--slow-result", "--sql", targets.GIGABYTE, "--pause", "3",
                                                 "--rate", "150"], stdout=subprocess.PIPE, text=True)
    while client.poll() is None:
        peak = max(peak, targets.resident(target.pid))
        time.sleep(0.02)
    rows = re.search(r"rows=(\d+)", client.stdout.read())
    return {"growth": peak - before, "whole": client.returncode == 0 and rows is not None and rows.group(1) == "1024"}


def syscalls(load, target, conns, protocol, seconds):
    """System calls a statement, by name, as strace counts them over all threads while statements run."""
    report = target.log + ".strace"
    tracer = subprocess.Popen(["strace", "-c", "-f", "-q", "-o", report, "-p", str(target.pid)],
                              stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        numbers = load.run(target, conns, protocol, warm=0, seconds=seconds)
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait()
    with open(report) as f:
        rows = re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", f.read(), re.M)
    return {name: int(calls) / numbers["total"] for calls, name in rows if name != "total"}


def classifier(binaries):
    """What bench_sql says about its statements, and instructions for the first of them, the token lookup."""
    binary = os.path.join(binaries, "bench", "bench_sql")
    text = subprocess.run([binary], capture_output=True, text=True, check=True).stdout
    name, size, ns = re.match(r"(\S.*?)\s+(\d+) bytes\s+(\d+) ns", text).groups()
    # Two counts, so that what the program does once falls out.
    few, many = 1000, 11000
    instructions = (callgrind(binary, many) - callgrind(binary, few)) / (many - few)
    return {"name": name, "bytes": int(size), "ns": int(ns), "instructions": instructions, "text": text}


def callgrind(binary, count):
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", binary, "--count", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(re.search(r"Collected : (\d+)", done.stderr).group(1))
