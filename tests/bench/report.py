# SPDX-License-Identifier: Apache-2.0
"""From runs to a table and to answers: each figure that is promised, its target, what was measured."""
from statistics import median

LABEL = {"direct": "direct", "haproxy": "HAProxy (TCP)", "floor": "floor", "split": "Sidetrack, routed",
         "memory": "Sidetrack, hit in memory", "redis": "Sidetrack, hit in Redis", "peer": "peer"}


class Table:
    """Runs by (target, connections, protocol) and round."""

    def __init__(self):
        self.runs = {}
        self.problems = {}

    def add(self, target, conns, protocol, n, numbers, problem):
        self.runs.setdefault((target, conns, protocol), {})[n] = numbers
        if problem:
            self.problems.setdefault((target, conns, protocol), []).append(problem)

    def median(self, key, column):
        runs = self.runs.get(key)
        return median(r[column] for r in runs.values()) if runs else None

    def pairs(self, key, base):
        """Rounds that both of them have."""
        ours, theirs = self.runs.get(key, {}), self.runs.get(base, {})
        return [(ours[n], theirs[n]) for n in ours if n in theirs]

    def ratio(self, key, base, column):
        """Median of the ratios within rounds; None without both."""
        values = [a[column] / b[column] for a, b in self.pairs(key, base) if b[column] > 0]
        return median(values) if values else None

    def ratio_added(self, key, haproxy, direct, column):
        """How much of a proxy's own part in latency there is for each bit of HAProxy's."""
        values = []
        for ours, theirs in self.pairs(key, haproxy):
            for n, run in self.runs.get(direct, {}).items():
                if self.runs[key].get(n) is ours and theirs[column] > run[column]:
                    values.append((ours[column] - run[column]) / (theirs[column] - run[column]))
        return median(values) if values else None

    def rows(self):
        columns = ("rate", "p50_us", "p99_us", "p999_us", "cpu_us")
        return [{"target": t, "connections": c, "protocol": p} | {k: self.median((t, c, p), k) for k in columns} |
                {"problems": self.problems.get((t, c, p), [])} for t, c, p in self.runs]

    def print(self, settings):
        for conns in settings.conns:
            for protocol in settings.protocols:
                print(f"\n{conns} connection{'s' * (conns > 1)}, {protocol}")
                print(f"{'':26}{'statements/s':>12}{'p50 us':>9}{'p99 us':>9}{'p99.9 us':>10}{'CPU us':>8}"
                      f"{'/direct':>9}{'CPU/HAProxy':>13}")
                for target in settings.targets:
                    self.print_row(target, conns, protocol)

    def print_row(self, target, conns, protocol):
        key = (target, conns, protocol)
        if key not in self.runs:
            print(f"{LABEL[target]:26}  not measured")
            return
        cpu = self.median(key, "cpu_us")
        rate = self.ratio(key, ("direct", conns, protocol), "rate")
        ratio = self.ratio(key, ("haproxy", conns, protocol), "cpu_us")
        print(f"{LABEL[target]:26}{self.median(key, 'rate'):12,.0f}{self.median(key, 'p50_us'):9,.0f}"
              f"{self.median(key, 'p99_us'):9,.0f}{self.median(key, 'p999_us'):10,.0f}"
              f"{number(cpu or None, '8.1f')}{number(rate, '9.2f')}{number(cpu and ratio, '13.2f')}"
              f"{' !' if key in self.problems else ''}")
        for problem in sorted(set(self.problems.get(key, [])))[:3]:
            print(f"{'':26}! {problem}")


def number(value, form):
    return format(value, form) if value else " " * (int(form.split(".")[0]) - 1) + "-"


class Verdict:
    """Prints a line a promise. A benchmark is not a test: a miss is told, and nothing fails."""

    def __init__(self):
        self.met = self.missed = self.unknown = 0

    def line(self, what, value, limit, unit="", least=False, known=True):
        if value is None or not known:
            self.unknown += 1
            answer, text = "not measured", "-"
        else:
            good = value >= limit if least else value <= limit
            self.met += good
            self.missed += not good
            answer, text = "ok" if good else "MISSED", f"{value:.2f}{unit}"
        goal = f"{'>=' if least else '<='} {limit:g}{unit}"
        print(f"{what:58}{text:>12}  {goal:12}{answer}")


def verdict(result, settings):
    v = Verdict()
    print("\nFigures: measured, target")
    if result["table"]:
        for protocol in settings.protocols:
            verdict_table(v, result["table"], protocol, settings.targets)
    if "idle" in settings.parts:
        idle = result["idle"].get("sidetrack")
        v.line("idle client, resident KB", idle and idle["bytes"] / 1024, 4, " KB")
        v.line("idle clients, CPU of one core", idle and 100 * idle["cpu"], 1, " %")
    if "slow" in settings.parts:
        slow = result["slow"].get("sidetrack")
        v.line("1 GB result to a slow client, resident growth", slow and slow["growth"] / 2**20, 4, " MB",
               known=bool(slow and slow["whole"]))
    sql = result["classifier"]
    if sql:
        v.line(f"classifier, {sql['name']} of {sql['bytes']} bytes", sql["ns"], 600, " ns")
    print(f"{v.met} ok, {v.missed} missed, {v.unknown} not measured")
    yardsticks(result["idle"].get("haproxy"), result["slow"].get("haproxy"), sql)


def yardsticks(idle, slow, sql):
    if idle:
        print(f"HAProxy: {idle['bytes'] / 1024:.1f} KB an idle client, {100 * idle['cpu']:.2f} % of a core")
    if slow:
        print(f"HAProxy: {slow['growth'] / 2**20:.1f} MB growth for the 1 GB result")
    if sql:
        print(f"\nclassifier: {sql['instructions']:.0f} instructions for the {sql['name']}\n{sql['text']}", end="")


def verdict_table(v, table, protocol, measured):
    def line(what, target, base, column, limit, least=False):
        if target in measured and base in measured:
            v.line(f"{protocol}: {what}", table.ratio((target, 32, protocol), (base, 32, protocol), column), limit,
                   least=least)

    line("routed, CPU / HAProxy's, 32 connections", "split", "haproxy", "cpu_us", 1.1)
    line("routed, throughput / HAProxy's", "split", "haproxy", "rate", 1.0, least=True)
    if {"split", "haproxy", "direct"} <= set(measured):
        keys = [(target, 1, protocol) for target in ("split", "haproxy", "direct")]
        v.line(f"{protocol}: routed, added p50 / HAProxy's, 1 connection", table.ratio_added(*keys, "p50_us"), 1.2)
    line("hit in memory, CPU / HAProxy's", "memory", "haproxy", "cpu_us", 0.5)
    line("hit in memory, CPU / the floor's", "memory", "floor", "cpu_us", 1.45)
    line("hit in memory, throughput / direct", "memory", "direct", "rate", 2.0, least=True)
    line("hit in Redis, CPU / HAProxy's", "redis", "haproxy", "cpu_us", 1.0)
    line("hit in Redis, p99 / direct's", "redis", "direct", "p99_us", 1.0)
