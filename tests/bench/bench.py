#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""bench.py BINARIES full|quick|syscalls: figures for `make bench`; README.md here says how they are made.

Environment (all optional): BENCH_TARGETS="direct haproxy floor split memory redis", BENCH_CONNS="1 32 512",
BENCH_PROTOCOLS="text prepared", BENCH_ROUNDS, BENCH_SECONDS, BENCH_WORKERS, BENCH_IDLE,
BENCH_PARTS="table idle slow classifier", BENCH_PEER=HOST:PORT[:PID] for one more proxy."""
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile

import measure
import targets
from report import Table, verdict

QUICK = {"TARGETS": "direct haproxy split memory", "CONNS": "1 32", "ROUNDS": "2", "SECONDS": "1", "PARTS": "table"}
FULL = {"TARGETS": "direct haproxy floor split memory redis", "CONNS": "1 32 512", "ROUNDS": "5", "SECONDS": "2",
        "PARTS": "table idle slow classifier"}
SYSCALLS = {"TARGETS": "haproxy floor split memory redis", "CONNS": "1 32", "ROUNDS": "1", "SECONDS": "3", "PARTS": ""}
FAILURES = (RuntimeError, OSError, subprocess.TimeoutExpired)  # of one target: the others go on
ROUTE = {"split": "replica", "memory": "cache", "redis": "cache"}  # where a target's statements must be answered


class Settings:
    def __init__(self, defaults):
        def get(name, default=None):
            return os.environ.get(f"BENCH_{name}") or defaults.get(name, default)
        self.targets = get("TARGETS").split()
        if os.environ.get("BENCH_PEER") and "peer" not in self.targets:
            self.targets.append("peer")
        self.conns = [int(n) for n in get("CONNS").split()]
        self.protocols = get("PROTOCOLS", "text prepared").split()
        self.rounds, self.seconds = int(get("ROUNDS")), float(get("SECONDS"))
        self.parts = get("PARTS").split()
        self.workers = int(get("WORKERS", os.cpu_count()))
        self.idle = int(get("IDLE", "5000"))


class Bench:
    def __init__(self, binaries, settings):
        self.binaries, self.settings = binaries, settings
        self.directory = tempfile.mkdtemp(prefix="sidetrack-bench-")
        self.started = []
        self.lab = None

    def __enter__(self):
        try:
            self.lab = targets.Lab(self.directory)
            self.load = measure.Load(self.binaries, self.lab)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for target in self.started:
            target.stop()
        if self.lab is not None:
            self.lab.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def keep(self, target):
        self.started.append(target)
        return target

    def start(self, name):
        target = self.keep(targets.start_target(name, self.directory, self.binaries, self.lab, self.settings.workers))
        measure.wait_ready(self.load, target, "replica" if name == "split" else None)
        if ROUTE.get(name) == "cache":
            for protocol in self.settings.protocols:
                measure.fill(self.load, target, protocol)
        return target

    def start_all(self):
        """Those that do not come up are left out of the table, and said so."""
        up = []
        for name in self.settings.targets:
            try:
                up.append(self.start(name))
            except FAILURES as e:
                say(f"left out: {name}: {e}")
        return up

    def rounds(self, up):
        """Every target in turn, again and again, in an order that moves on: what disturbs the machine for a while
        disturbs all of them, and ratios are taken within a round."""
        table = Table()
        s = self.settings
        for n in range(s.rounds):
            for conns in s.conns:
                for protocol in s.protocols:
                    for target in up[n % len(up):] + up[:n % len(up)]:
                        self.one(table, n, target, conns, protocol)
        return table

    def one(self, table, n, target, conns, protocol):
        label = f"round {n + 1}, {conns} connections, {protocol}: {target.name}"
        try:
            numbers = self.load.run(target, conns, protocol, seconds=self.settings.seconds)
        except FAILURES as e:
            say(f"{label}: FAILED: {target.why_dead() or e}")
            return
        problem = trouble(target.name, numbers)
        say(f"{label}: {numbers['rate']:.0f}/s, p50 {numbers['p50_us']:.0f} us, "
            f"CPU {numbers['cpu_us']:.1f} us{problem and ': ' + problem}")
        table.add(target.name, conns, protocol, n, numbers, problem)

    def for_memory(self):
        """Fresh processes, so that nothing that they freed before hides growth. HAProxy's stand before the floor: it
        needs a server connection for each client, which is more than MariaDB is given here."""
        if "haproxy" in self.settings.targets:
            floor = self.keep(targets.start_floor(self.directory, self.binaries))
            yield "haproxy", lambda part: targets.start_haproxy(
                self.directory, "haproxy-" + part, floor.port if part == "idle" else self.lab.replica1_port,
                self.settings.workers)
        if set(self.settings.targets) & set(ROUTE):
            yield "sidetrack", lambda part: targets.start_sidetrack(
                self.directory, self.binaries, self.lab, part, "cache", "memory", self.settings.workers)

    def memory(self, part, run):
        results = {}
        for name, start in self.for_memory():
            try:
                target = self.keep(start(part))
                measure.wait_ready(self.load, target)
                results[name] = run(target)
                target.stop()
            except FAILURES as e:
                say(f"{part}: {name}: FAILED: {e}")
        return results


def trouble(name, numbers):
    """What makes a run's figures doubtful, in words; "" for nothing."""
    words = []
    for what in ("errors", "wrong", "lost"):
        if what == "wrong" and name == "floor":
            continue
        if numbers[what]:
            words.append(f"{numbers[what]:.0f} {what}")
    if numbers["message"]:
        words.append(numbers["message"])
    route = ROUTE.get(name)
    if route and numbers["share"] and numbers["share"].get(route, 0) < 0.99:
        words.append(f"only {100 * numbers['share'].get(route, 0):.0f} % by {route}")
    return ", ".join(words)


def say(text):
    print(text, file=sys.stderr, flush=True)


def machine(settings):
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), "unknown CPU")
    return (f"{os.cpu_count()} x {model}, Linux {platform.release()}; all processes share the machine; "
            f"{settings.workers} threads each for HAProxy and Sidetrack; {settings.rounds} rounds of "
            f"{settings.seconds:g} s, medians")


def idle_count(wanted, descriptors):
    """HAProxy needs two descriptors a client."""
    possible = min(wanted, (descriptors - 200) // 2)
    if possible < wanted:
        say(f"only {possible} idle clients: `ulimit -n` is {descriptors}")
    return possible


def full(bench, descriptors):
    s = bench.settings
    result = {"machine": machine(s), "table": None, "idle": {}, "slow": {}, "classifier": None}
    if "table" in s.parts:
        result["table"] = bench.rounds(bench.start_all())
    if "idle" in s.parts:
        count = idle_count(s.idle, descriptors)
        result["idle"] = bench.memory("idle", lambda target: measure.idle(bench.load, target, count))
    if "slow" in s.parts:
        result["slow"] = bench.memory("slow", lambda target: measure.slow_result(bench.load, target))
    if "classifier" in s.parts:
        result["classifier"] = measure.classifier(bench.binaries)
    print(result["machine"])
    if result["table"]:
        result["table"].print(s)
    verdict(result, s)
    with open(os.path.join(bench.binaries, "bench", "last.json"), "w") as f:
        json.dump(result | {"table": result["table"] and result["table"].rows()}, f, indent=1)


def syscalls(bench):
    """Each target alone under strace; a statement's calls, those of the event loop shared by what was ready."""
    for target in bench.start_all():
        if not target.pid or target.name == "peer":
            continue
        for protocol in bench.settings.protocols:
            for conns in bench.settings.conns:
                calls = measure.syscalls(bench.load, target, conns, protocol, bench.settings.seconds)
                most = sorted(calls.items(), key=lambda c: -c[1])
                text = ", ".join(f"{name} {n:.2f}" for name, n in most if n >= 0.005)
                print(f"{target.name:8} {protocol:8} {conns:4} connections: {sum(calls.values()):5.2f} a statement: "
                      f"{text}", flush=True)


def main():
    if len(sys.argv) != 3 or sys.argv[2] not in ("full", "quick", "syscalls"):
        print(__doc__, file=sys.stderr)
        return 2
    binaries, what = sys.argv[1:]
    defaults = {"full": FULL, "quick": QUICK, "syscalls": SYSCALLS}[what]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    descriptors = measure.raise_file_limit()
    with Bench(binaries, Settings(defaults)) as bench:
        if what == "syscalls":
            syscalls(bench)
        else:
            full(bench, descriptors)
    return 0


if __name__ == "__main__":
    sys.exit(main())
