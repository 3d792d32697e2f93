#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Real programs, unmodified and pointed at the real primary, run by sidetrack-run before a real Sidetrack: their
answers are right, and the servers' own counters (userstat) say that the reads went to the replica or the cache.

A program that is not installed is skipped, and said to be. The one thing that is fetched, once and into build/, is
npm's mysql2 for the Node client; without a network that is skipped as well.
"""
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../integration"))
from harness import LIMIT, ROOT, Lab, Proxy, run, say, wait_until  # noqa: E402

RUN = os.path.join(ROOT, "build/sidetrack-run")
PROGRAMS = os.path.join(HERE, "programs")
ANSWER = "sum 95"  # 20 look-ups of one token, 10 members
JAR = "/usr/share/java/mariadb-java-client.jar"
NODE = os.path.join(ROOT, "build/preload/node")


def skip(name, why):
    print("# skipped: %s: %s" % (name, why))


def has(*needs):
    """Files, commands (by name)."""
    return [n for n in needs if not (os.path.exists(n) if n.startswith("/") else shutil.which(n))]


def output(command, **more):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=3 * LIMIT, check=False,
                          **more)
    return done.stdout.decode(errors="replace").strip()


def redirected(lab, to, command, *options, **more):
    return output([RUN, "--to", to, "--match", "127.0.0.1:%d" % lab.primary.port, *options, "--"] + command, **more)


def selects(server):
    """SELECT commands of the application's account at one server."""
    found = server.sql("SELECT SELECT_COMMANDS FROM information_schema.USER_STATISTICS WHERE USER = 'app'")
    return found[0][0] if found else 0


class Tally:
    """What the servers and the proxy count while a program runs."""

    def __init__(self, lab, proxy):
        self.lab, self.proxy = lab, proxy
        lab.sync()
        self.before = self.now()

    def now(self):
        return {"primary": selects(self.lab.primary), "replica": selects(self.lab.replicas[0]),
                "updates": self.lab.primary.status("Com_update"), "cache": self.proxy.routed()["cache"]}

    def check(self, cached=True):
        wait_until(lambda: self.now()["updates"] > self.before["updates"], "the update reached the primary")
        got = {k: v - self.before[k] for k, v in self.now().items()}
        assert got["updates"] == 1, got
        assert got["replica"] >= 10, got
        assert got["primary"] <= 5, got
        if cached:
            assert got["cache"] >= 18, got


def check_program(lab, proxy, name, command, *options, needs=(), cached=True, stdin=None, answer=ANSWER, to=None):
    missing = has(*needs)
    if missing:
        return skip(name, "no " + ", ".join(missing))
    where = ["127.0.0.1", str(lab.primary.port)]
    command = [where[0] if w == "HOST" else where[1] if w == "PORT" else w for w in command]
    tally = Tally(lab, proxy)
    more = {"stdin": open(stdin, "rb")} if stdin else {}
    got = redirected(lab, to or "127.0.0.1:%d" % proxy.port, command, *options, **more)
    assert answer in got, "%s printed:\n%s" % (name, got)
    tally.check(cached)


def test_mariadb(lab, proxy):
    command = ["mariadb", "--no-defaults", "-hHOST", "-PPORT", "-uapp", "-plab-app", "-N", "app"]
    command = [w.replace("HOST", "127.0.0.1").replace("PORT", str(lab.primary.port)) for w in command]
    check_program(lab, proxy, "mariadb", command, stdin=PROGRAMS + "/client.sql", answer="2\n2\n2", needs=["mariadb"])


def test_mariadb_by_seccomp(lab, proxy):
    command = ["mariadb", "--no-defaults", "-h127.0.0.1", "-P%d" % lab.primary.port, "-uapp", "-plab-app", "-N", "app"]
    check_program(lab, proxy, "mariadb", command, "--mode", "seccomp", stdin=PROGRAMS + "/client.sql", answer="2\n2\n2",
                  needs=["mariadb"])


def test_mariadb_on_a_unix_socket(lab, proxy):
    """The primary's socket file, to the proxy's TCP port and to its socket file."""
    for to in "127.0.0.1:%d" % proxy.port, proxy.sock:
        command = ["mariadb", "--no-defaults", "-S" + lab.primary.sock, "-uapp", "-plab-app", "-N", "app"]
        check_program(lab, proxy, "mariadb", command, "--match", lab.primary.sock, stdin=PROGRAMS + "/client.sql",
                      answer="2\n2\n2", needs=["mariadb"], to=to)


def test_mariadb_dump(lab, proxy):
    if has("mariadb-dump"):
        return skip("mariadb-dump", "not there")
    command = ["mariadb-dump", "--no-defaults", "-h127.0.0.1", "-P%d" % lab.primary.port, "-uapp", "-plab-app",
               "--skip-dump-date", "--skip-lock-tables", "app", "members"]
    direct, before = output(command), proxy.metric("sidetrack_statements_total")
    assert "Dump completed" in direct and redirected(lab, "127.0.0.1:%d" % proxy.port, command) == direct
    assert proxy.metric("sidetrack_statements_total") > before + 5


def test_php_mysqli(lab, proxy):
    check_program(lab, proxy, "mysqli", ["php", PROGRAMS + "/mysqli.php", "HOST", "PORT"], needs=["php"])


def test_php_pdo(lab, proxy):
    check_program(lab, proxy, "PDO", ["php", PROGRAMS + "/pdo.php", "HOST", "PORT"], needs=["php"])


def test_pymysql(lab, proxy):
    check_program(lab, proxy, "PyMySQL", ["/usr/bin/python3", PROGRAMS + "/client.py", "HOST", "PORT"])


def test_perl(lab, proxy):
    for driver in "mysql", "MariaDB":
        if output(["perl", "-MDBD::" + driver, "-e", "print 1"]) != "1":
            skip("DBD::" + driver, "not installed")
            continue
        check_program(lab, proxy, driver, ["perl", PROGRAMS + "/client.pl", "HOST", "PORT", driver], needs=["perl"])


def fetch_mysql2():
    """mysql2 and what it needs into NODE, all of it or nothing, without running any of it. Why not, if it is not."""
    os.makedirs(os.path.dirname(NODE), exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="npm-", dir=os.path.dirname(NODE)) as making:
        command = ["npm", "install", "--prefix", making + "/node", "--cache", making + "/cache", "--no-audit",
                   "--no-fund", "--ignore-scripts", "--no-update-notifier", "--fetch-retries=1",
                   "--fetch-retry-mintimeout=1000", "mysql2"]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  timeout=LIMIT, check=False)
        except subprocess.TimeoutExpired:
            return "npm did not fetch mysql2 within %d s" % LIMIT
        if done.returncode != 0:
            said = done.stdout.decode(errors="replace").splitlines()
            return "npm cannot fetch mysql2: " + "; ".join([w for w in said if " code " in w or " request to " in w])
        os.rename(making + "/node", NODE)
    return None


def test_node(lab, proxy):
    missing = has("node", *([] if os.path.isdir(NODE) else ["npm"]))
    if missing:
        return skip("Node", "no " + ", ".join(missing))
    why = None if os.path.isdir(NODE) else fetch_mysql2()
    if why:
        return skip("Node", why)
    os.environ["NODE_PATH"] = NODE + "/node_modules"
    check_program(lab, proxy, "mysql2", ["node", PROGRAMS + "/client.js", "HOST", "PORT"])


def test_java(lab, proxy):
    check_program(lab, proxy, "Java", ["java", "-cp", JAR, PROGRAMS + "/Client.java", "HOST", "PORT"],
                  needs=["java", "javac", JAR])


def test_sysbench(lab, proxy):
    if has("sysbench"):
        return skip("sysbench", "not installed")
    base = ["sysbench", "oltp_read_only", "--mysql-host=127.0.0.1", "--mysql-port=%d" % lab.primary.port,
            "--mysql-user=app", "--mysql-password=lab-app", "--mysql-db=scratch", "--table-size=200", "--tables=1",
            "--skip-trx=on"]
    assert "Creating a secondary" in output(base + ["prepare"])
    lab.sync()
    before = selects(lab.primary), selects(lab.replicas[0])
    got = redirected(lab, "127.0.0.1:%d" % proxy.port, base + ["--threads=4", "--events=40", "--time=0", "run"])
    after = selects(lab.primary), selects(lab.replicas[0])
    output(base + ["cleanup"])
    assert "total number of events:              40" in got, got
    assert after[1] - before[1] >= 40 * 14 and after[0] - before[0] <= 40, (before, after)


def build_work(work, name, *flags):
    command = ["gcc", "-O1", "-o", os.path.join(work, name), PROGRAMS + "/work.c"]
    libs = output(["pkg-config", "--cflags", "--libs", *flags, "libmariadb"]).split()
    if flags:
        libs = [w for w in libs if w.startswith("-I")]
        libs += ["-static", "-l:libmariadbclient.a", "-lssl", "-lcrypto", "-lz", "-lzstd", "-lm"]
    done = subprocess.run(command + libs + ["-pthread"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return None if done.returncode else os.path.join(work, name)


def test_c(lab, proxy, work):
    """Plain, in a forked child, in a thread; dynamically linked, by either way, and statically."""
    for name, flags in ("work", ()), ("work-static", ("--static",)):
        program = build_work(work, name, *flags)
        if program is None:
            skip(name, "does not link here")
            continue
        for way in "plain", "fork", "threads":
            check_program(lab, proxy, name, [program, "HOST", "PORT", way])


def test_go(lab, proxy, work):
    source = "/usr/share/gocode/src/github.com/go-sql-driver/mysql"
    missing = has("go", source)
    if missing:
        return skip("Go", "no " + ", ".join(missing))
    env = dict(os.environ, GO111MODULE="off", GOPATH="/usr/share/gocode", GOCACHE=work + "/go")
    for cgo in "0", "1":  # static, and dynamically linked
        program = work + "/client-go" + cgo
        said = output(["go", "build", "-o", program, PROGRAMS + "/client.go"], env=dict(env, CGO_ENABLED=cgo))
        assert os.path.exists(program), said
        check_program(lab, proxy, "Go", [program, "HOST", "PORT"])


def test_send_proxy(lab):
    """MariaDB itself reads the header: a server that expects one stands in for the proxy."""
    replica = lab.replicas[0]
    replica.sql("SET GLOBAL proxy_protocol_networks = '127.0.0.0/8, localhost'")
    command = ["mariadb", "--no-defaults", "-h127.0.0.1", "-P%d" % lab.primary.port, "-uapp", "-plab-app", "-N", "-e",
               "SELECT CONCAT('server ', @@port, ' client ', SUBSTRING_INDEX(HOST, ':', 1)) FROM "
               "information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()"]
    want = "server %d client " % replica.port
    try:
        for mode in "preload", "seccomp":
            for to in replica.address, replica.sock:
                got = redirected(lab, to, command, "--strict", "--send-proxy", "--mode", mode)
                assert got in (want + "127.0.0.1", want + "localhost"), (mode, to, got)
    finally:
        replica.sql("SET GLOBAL proxy_protocol_networks = ''")


def test_proxy_gone(lab, work):
    """Nobody listens: the program does not notice."""
    got = redirected(lab, "127.0.0.1:1", ["php", PROGRAMS + "/mysqli.php", "127.0.0.1", str(lab.primary.port)])
    assert got == ANSWER, got
    program = build_work(work, "work")
    got = redirected(lab, "127.0.0.1:1", [program, "127.0.0.1", str(lab.primary.port), "plain"], "--mode", "seccomp")
    assert got == ANSWER, got


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, Lab(replicas=1) as the_lab, \
            Proxy(the_lab, {"cache": {"store": "memory"}}) as the_proxy:
        for one in [the_lab.primary] + the_lab.replicas:
            one.sql("SET GLOBAL userstat = 1")
        run(globals(), lab=the_lab, proxy=the_proxy, work=folder)
