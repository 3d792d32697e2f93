#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""No read is older than a write that was acknowledged before it began: many clients, two proxies on one Redis, replicas
that lag, then a memory store, then faults of everything. The clients are tests/support/coherence.c, which checks every
read; what is asserted here beside is that all ways through the proxy were gone, so that the test has a meaning.

COHERENCE_READS: checked reads of the quiet run through Redis, the other runs have a share. SOAK_SECONDS=N: goes on with
faults for so long, see `make soak`."""
import itertools
import os
import random
import signal
import subprocess
import tempfile
import time

from harness import ROOT, Lab, Proxy, run, wait_until

CLIENT = os.path.join(ROOT, "build/support/coherence")
READS = int(os.environ.get("COHERENCE_READS", "120000"))
SOAK = int(os.environ.get("SOAK_SECONDS", "0"))
RULES = {"cache.token": None,
         "cache.coherence_token": {"table": "app.coherence_token", "key": "token", "expires": "expires_at", "ttl": "3s",
                                   "negative_ttl": "1s"},
         "cache.coherence_session": {"table": "app.coherence_session", "key": "id", "ttl": "10m", "negative_ttl": "1m"},
         # replica1 is up to a second behind: sometimes it may be read
         "monitor": {"max_replica_lag": "1500ms"},
         # 30 clients and all servers share this machine: 5 ms without being run are nothing
         "cache": {"timeout": "50ms"}}
TABLE = """CREATE TABLE app.coherence_%s (%s, member_id INT UNSIGNED NOT NULL, version BIGINT NOT NULL,
           expires_at DATETIME NOT NULL, KEY (member_id))"""
turns = iter(range(1, 1 << 20))


class Clients:
    """A run of the client program; goes on until its number of reads is reached and finish() was called."""

    def __init__(self, lab, proxies, reads, may_lose=0):
        self.out = tempfile.TemporaryFile("w+", errors="replace")
        command = [CLIENT, "--reads", str(reads), "--turn", str(next(turns)), "--may-lose", str(may_lose)]
        for server in [lab.primary] + lab.replicas:
            command += ["--server", str(server.port)]
        command += ["--redis", str(lab.redis.port)] + [str(proxy.port) for proxy in proxies]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=self.out, stderr=subprocess.STDOUT)

    def told(self, what):
        """What is being done to the lab, should a read be wrong."""
        self.process.stdin.write(what.encode() + b"\n")
        self.process.stdin.flush()

    def alive(self):
        assert self.process.poll() is None, self.text()
        return True

    def text(self):
        self.out.seek(0)
        return self.out.read()

    def finish(self):
        """Its last line as numbers."""
        self.process.stdin.close()
        self.process.wait()
        text = self.text()
        assert self.process.returncode == 0, "seed and history:\n" + text[:20000]
        print("#", text.splitlines()[-1], flush=True)
        return dict((word.split("=")[0], float(word.split("=")[1])) for word in text.splitlines()[-1].split())


def counts(proxies):
    """What the proxies have done so far, added up."""
    sums = {}
    for proxy in proxies:
        for name, labels, number in proxy.metrics():
            keys = []
            if name == "sidetrack_cache_requests_total":
                keys = [labels["result"]]
            elif name == "sidetrack_statements_total":
                keys = [labels["route"]] + [labels["server"]] * (labels["route"] == "replica")
            elif name == "sidetrack_cache_invalidations_total":
                keys = ["invalidation " + labels["source"]]
            for key in keys:
                sums[key] = sums.get(key, 0) + number
        for row in proxy.admin("SELECT * FROM routes"):
            sums["reason " + row["reason"]] = sums.get("reason " + row["reason"], 0) + int(row["count"])
        for row in proxy.admin("SELECT * FROM cache"):
            for column in "fills", "refused_fills":
                sums[column] = sums.get(column, 0) + int(row[column])
    return sums


def run_until_all_happened(proxies, reads):
    """Goes on until each way through the proxy was gone: without that the test would mean nothing."""
    before = counts(proxies)
    clients = Clients(lab, proxies, reads)
    try:
        for key in ALWAYS:
            wait_until(lambda: clients.alive() and counts(proxies).get(key, 0) > before.get(key, 0), key)
    finally:
        done = clients.finish()
    did = {key: number - before.get(key, 0) for key, number in counts(proxies).items()}
    print("#", ", ".join("%s %d" % pair for pair in sorted(did.items()) if pair[1]), flush=True)
    return done


ALWAYS = ("hit", "miss", "fills", "replica", "replica1", "replica2", "primary", "reason fence", "reason recent_write",
          "refused_fills", "invalidation write", "invalidation table")


def test_two_proxies_one_redis(proxies):
    done = run_until_all_happened(proxies, READS)
    assert done["reads"] >= READS and done["writes"] > 0 and done["rollbacks"] > 0, done


def test_one_proxy_own_memory():
    with Proxy(lab, {**RULES, "cache": {"store": "memory"}}) as proxy:
        done = run_until_all_happened([proxy], READS // 2)
    assert done["reads"] >= READS // 2 and done["writes"] > 0, done


class Faults:
    """Each makes something fail and returns when the proxies have noticed it and serve from the cache again."""

    def __init__(self, lab, proxies):
        self.lab, self.proxies = lab, proxies

    def serving(self, clients):
        """Every proxy has hits again."""
        hits = lambda proxy: proxy.metric("sidetrack_cache_requests_total", result="hit")
        for proxy in self.proxies:
            before = hits(proxy)
            wait_until(lambda: clients.alive() and hits(proxy) > before, "hits in the cache")

    def bypassed(self, clients):
        bypasses = lambda proxy: proxy.metric("sidetrack_cache_requests_total", result="bypass")
        for proxy in self.proxies:
            before = bypasses(proxy)
            wait_until(lambda: clients.alive() and bypasses(proxy) > before, "lookups without the cache")

    def redis_hangs(self, clients):
        self.lab.redis.signal(signal.SIGSTOP)
        self.bypassed(clients)
        self.lab.redis.signal(signal.SIGCONT)

    def redis_dies(self, clients):
        self.lab.redis.down("KILL")
        self.bypassed(clients)
        self.lab.redis.up()

    def redis_refuses(self, clients):
        """It answers reads and refuses writes, as after a failed save, or without its replicas."""
        self.lab.redis_cli("CONFIG", "SET", "min-replicas-to-write", "1")
        self.bypassed(clients)
        self.lab.redis_cli("CONFIG", "SET", "min-replicas-to-write", "0")

    def redis_pauses(self, clients):
        self.lab.redis_cli("CLIENT", "PAUSE", "60000", "WRITE")
        self.bypassed(clients)
        self.lab.redis_cli("CLIENT", "UNPAUSE")

    def redis_is_flushed(self, _clients):
        self.lab.redis_cli("FLUSHALL")

    def info(self, section, name):
        """A number out of Redis' INFO."""
        lines = self.lab.redis_cli("INFO", section).splitlines()
        found = [line for line in lines if line.startswith(name)]
        return int(found[0].split(":")[1].split(",")[0].split("=")[-1]) if found else 0

    def redis_is_full(self, clients):
        asked = lambda: sum(counts(self.proxies)[result] for result in ("miss", "bypass"))
        before = asked()
        self.lab.redis_cli("CONFIG", "SET", "maxmemory", "100kb")
        try:
            wait_until(lambda: clients.alive() and asked() > before + 100, "lookups while Redis is full")
        finally:
            self.lab.redis_cli("CONFIG", "SET", "maxmemory", "64mb")

    def shrink(self):
        return self.lab.redis_cli("CONFIG", "SET", "maxmemory", str(self.info("memory", "used_memory:") - 10000))

    def redis_evicts(self, clients):
        """It may evict, and after the proxies have learnt that (each of them asks once a second), it does."""
        self.lab.redis_cli("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
        self.lab.redis_cli("CONFIG", "RESETSTAT")
        looks = itertools.count(1)
        try:
            wait_until(lambda: clients.alive() and self.info("commandstats", "cmdstat_info:") - next(looks) >= 16,
                       "proxies ask what Redis is")
            wait_until(lambda: clients.alive() and self.shrink() and self.info("stats", "evicted_keys:") > 50,
                       "evictions")
        finally:
            self.lab.redis_cli("CONFIG", "SET", "maxmemory", "64mb")
            self.lab.redis_cli("CONFIG", "SET", "maxmemory-policy", "noeviction")

    def all_see(self, clients, down):
        """All proxies see so many servers down."""
        up = 1 + len(self.lab.replicas) - down
        wait_until(lambda: clients.alive() and all(p.metric("sidetrack_server_up") == up for p in self.proxies),
                   "%d servers down" % down)

    def replica_dies(self, clients):
        replica = random.choice(self.lab.replicas)
        replica.down("KILL")
        self.all_see(clients, 1)
        replica.up()
        self.all_see(clients, 0)

    def replica_hangs(self, clients):
        replica = random.choice(self.lab.replicas)
        replica.signal(signal.SIGSTOP)
        self.all_see(clients, 1)
        replica.signal(signal.SIGCONT)
        self.all_see(clients, 0)

    def replication_stops(self, clients):
        replica = random.choice(self.lab.replicas)
        replica.sql("STOP SLAVE SQL_THREAD")
        fresh = lambda proxy: 0 < proxy.metric("sidetrack_replica_lag_seconds", server=replica.name) < 1.5
        wait_until(lambda: clients.alive() and not any(fresh(p) for p in self.proxies), "it lags")
        replica.sql("START SLAVE")
        wait_until(lambda: clients.alive() and all(fresh(p) for p in self.proxies), "it has caught up")

    def proxy_dies(self, _clients):
        victim = self.proxies[-1]
        victim.kill(signal.SIGKILL)
        victim.start()


QUIET = ("redis_hangs", "redis_refuses", "redis_pauses", "redis_is_flushed", "redis_is_full", "redis_evicts",
         "redis_dies", "replica_dies", "replica_hangs", "replication_stops")  # no client gets an error from these


def run_faults(lab, proxies, names, reads, may_lose=0):
    faults = Faults(lab, proxies)
    for proxy in proxies:
        assert proxy.reload({"cache": {"timeout": "5ms"}})
    clients = Clients(lab, proxies, reads, may_lose=may_lose)
    try:
        for name in names:
            print("# %s" % name, flush=True)
            faults.serving(clients)
            clients.told(name)
            getattr(faults, name)(clients)
            clients.told("nothing any more")
            faults.serving(clients)
    finally:
        done = clients.finish()
    return done


def test_faults(lab, proxies):
    done = run_faults(lab, proxies, QUIET, READS // 6)
    assert done["errors"] == 0 and done["writes"] > 0, done


def test_a_proxy_that_dies(lab, proxies):
    done = run_faults(lab, proxies, ["proxy_dies", "proxy_dies"], READS // 6, may_lose=2)
    assert done["lost"] > 0 and done["errors"] == 0, done


def test_soak(lab, proxies):
    """Faults in a random order for SOAK_SECONDS; each round with rows of its own."""
    end = time.monotonic() + SOAK
    while time.monotonic() < end:
        names = random.sample(QUIET, 4)
        run_faults(lab, proxies, names, READS // 2)
        run_faults(lab, proxies, [random.choice(QUIET), "proxy_dies", random.choice(QUIET)], READS // 2, may_lose=2)


if not SOAK:
    del test_soak

lab = Lab(replicas=2, rows=2000, delay={1: 1})
with lab:
    lab.primary.sql(TABLE % ("token", "token VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin PRIMARY KEY"),
                    TABLE % ("session", "id INT UNSIGNED PRIMARY KEY"))
    with Proxy(lab, RULES) as first, Proxy(lab, RULES) as second:
        run(globals(), lab=lab, proxies=[first, second])
