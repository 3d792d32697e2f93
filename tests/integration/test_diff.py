#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The same sessions directly and through the proxy, in lockstep, on separate data: tests/diff/README.md. First the
scripts that are kept in tests/data/diff, then random ones, in each mode, before replicas that lag. `make diff` runs this
file too. By DIFF_*: STATEMENTS of all modes together, SEED, MODE (observe, split, cache, all; none: without a proxy, to try
the tool itself), WITHOUT=group,..., DIFFERENCES (ends after so many distinct ones), ROUND (only that one), KEPT=0 (no
kept scripts)."""
import glob
import os
import subprocess

from harness import ROOT, Lab, Proxy, run

DRIVER = os.path.join(ROOT, "build/support/diff")
OUT = os.path.join(ROOT, "build/diff")
STATEMENTS = int(os.environ.get("DIFF_STATEMENTS") or "18000")
SEED = os.environ.get("DIFF_SEED") or "7"  # make diff takes another each time
MODE = os.environ.get("DIFF_MODE") or "all"
# make diff asks for diagnostics, too: after failed and compound statements these are not equal yet, README.md there
WITHOUT = os.environ.get("DIFF_WITHOUT", "diag")
CONFIG = {
    # one worker: as many sessions as can be share its connections. An account is used once, then its connections go
    "proxy": {"workers": 1, "pool_idle": "500ms"},
    # lag alone would send all reads away: only what was written must leave
    "monitor": {"max_replica_lag": "60s"},
    "cache": {"store": "memory"},
    "cache.token": {"table": "d.tok"},
    "cache.sess": {"table": "d.sess", "key": "id", "ttl": "10m", "negative_ttl": "1m"},
}


def prepare(lab):
    """The accounts; and nobody waits for a lock: what two sessions do to each other must not depend on time. The
    replicas' appliers keep the timeouts that they began with."""
    with open(os.path.join(ROOT, "tests/diff/accounts.sql")) as f:
        subprocess.run(["mariadb", "--no-defaults", "--user=root", "--socket=" + lab.primary.sock], check=True, stdin=f,
                       env=dict(os.environ, MYSQL_PWD="lab-root"))
    lab.sync()
    for server in [lab.primary] + lab.replicas:
        server.sql("SET GLOBAL lock_wait_timeout = 1", "SET GLOBAL innodb_lock_wait_timeout = 0",
                   "SET GLOBAL innodb_stats_auto_recalc = OFF")


def command(alone, lab, mode, statements):
    os.makedirs(OUT, exist_ok=True)
    words = [DRIVER, "--direct", str(alone.primary.port), "--root", alone.primary.sock, "--proxied-root",
             lab.primary.sock, "--data", os.path.join(ROOT, "tests/diff"), "--statements", str(statements), "--seed", SEED,
             "--mode", mode, "--out", OUT]
    if WITHOUT:
        words += ["--without", WITHOUT]
    for option in "DIFFERENCES", "ROUND", "TRIES":
        if os.environ.get("DIFF_" + option):
            words += ["--" + option.lower(), os.environ["DIFF_" + option]]
    for replica in lab.replicas:
        words += ["--replica", replica.sock]
    if os.environ.get("DIFF_KEPT") != "0":
        words += sorted(glob.glob(os.path.join(ROOT, "tests/data/diff/*.script")))
    return words


def drive(words):
    print("#", " ".join(words[1:]), flush=True)
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    for line in process.stdout:
        print("#", line.decode(errors="replace").rstrip(), flush=True)
    assert process.wait() == 0, "seed %s: it ended with %d" % (SEED, process.returncode)


def one_mode(alone, lab, mode, share=3):
    if MODE not in (mode, "all"):
        return
    words = command(alone, lab, mode, STATEMENTS // (share if MODE == "all" else 1))
    if mode == "none":
        drive(words + ["--proxied", str(lab.primary.port)])
        return
    config = {section: dict(keys) for section, keys in CONFIG.items()}
    config["proxy"]["mode"] = mode
    with Proxy(lab, config) as proxy:
        drive(words + ["--proxied", str(proxy.port)] + (["--admin", str(proxy.admin_port)] if mode != "observe" else []))
        print("#", proxy.routed(), flush=True)


def test_observe(alone, lab):
    one_mode(alone, lab, "observe")


def test_split(alone, lab):
    one_mode(alone, lab, "split")


def test_cache(alone, lab):
    one_mode(alone, lab, "cache")


def test_itself(alone, lab):
    """Both sides without a proxy: what differs here differs by itself. Only when asked for."""
    if MODE == "none":
        one_mode(alone, lab, "none")


if __name__ == "__main__":
    with Lab(replicas=0, rows=200) as the_alone, Lab(replicas=2, rows=200) as the_lab:
        prepare(the_alone)
        prepare(the_lab)
        run(globals(), alone=the_alone, lab=the_lab)
