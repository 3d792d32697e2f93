/* SPDX-License-Identifier: Apache-2.0
 *
 * The configuration: sections, and one row an option.
 *   CONFIG_SECTION(ID, "name", example, ON|OFF, help): with an example the section is a family, [name.X]; the example
 *     is an X. OFF: conf/sidetrack.conf shows all of it as comments.
 *   CONFIG_OPTION(SECTION, "key", TYPE, field, default, (limits), FIXED|LIVE, example, help)
 * default NULL: none. LIVE: a reload changes it; FIXED: a restart does. example: what conf/sidetrack.conf sets; rows
 * without one are comments there that show the default. Families have no FIXED options: which X would a reload keep?
 */
CONFIG_SECTION(PROXY, "proxy", NULL, ON, "What applications connect to, and how statements are treated.")
CONFIG_OPTION(PROXY, "listen", LISTENS, listen, "127.0.0.1:6033",
	(.port = 6033, .words = "transparent|proxy_protocol"), FIXED, NULL,
	"addresses for applications, separated by commas: host:port, [v6]:port, /path/to.sock. A word behind one: "
	"transparent (the kernel redirects connections to it), proxy_protocol (each begins with that header)")
CONFIG_OPTION(PROXY, "proxy_protocol_networks", NETS, proxy_nets, "127.0.0.0/8, ::1", (.min = 0), LIVE, NULL,
	"clients there may say by a PROXY protocol header whom they speak for; unix sockets always may; *: everyone")
CONFIG_OPTION(PROXY, "workers", COUNT, workers, NULL, (.min = 1, .max = 256), FIXED, NULL,
	"event-loop threads; default: the machine's cores")
CONFIG_OPTION(PROXY, "mode", WORD, mode, "cache", (.words = "observe|split|cache"), LIVE, NULL,
	"observe: all to the primary, but count what would move; split: reads to replicas; cache: also the cache")
CONFIG_OPTION(PROXY, "consistency", WORD, consistency, "global", (.words = "global|session|eventual"), LIVE, NULL,
	"no read is older than: the table's last write through this proxy; the session's own; any fresh replica")
CONFIG_OPTION(PROXY, "log_level", WORD, log_level, "info", (.words = "error|warn|info|debug"), LIVE, NULL,
	"what goes to stderr")
CONFIG_OPTION(PROXY, "max_connections", COUNT, max_connections, "0", (.max = 1000000), LIVE, NULL,
	"clients at a time; 0: no limit but file descriptors")
CONFIG_OPTION(PROXY, "max_allowed_packet", BYTES, max_allowed_packet, "64m", (.min = 1024, .max = 1u << 30), LIVE, NULL,
	"the largest command accepted from a client")
CONFIG_OPTION(PROXY, "client_memory", BYTES, client_memory, "256m", (.min = 1 << 20, .max = 1ull << 40), LIVE, NULL,
	"for what all clients together make the proxy hold: large commands (each counts twice), prepared statements")
CONFIG_OPTION(PROXY, "login_timeout", DURATION, login_timeout_ms, "10s", (.min = 100, .max = 3600000), LIVE, NULL,
	"a client that has not finished its login by then is dropped")
CONFIG_OPTION(PROXY, "connect_timeout", DURATION, connect_timeout_ms, "5s", (.min = 10, .max = 3600000), LIVE, NULL,
	"to connect to a server, login included")
CONFIG_OPTION(PROXY, "pool_wait", DURATION, pool_wait_ms, "30s", (.max = 3600000), LIVE, NULL,
	"how long a statement waits for a free server connection")
CONFIG_OPTION(PROXY, "pool_idle", DURATION, pool_idle_ms, "60s", (.min = 100, .max = 86400000), LIVE, NULL,
	"an idle server connection is closed after this")
CONFIG_OPTION(PROXY, "primary_wait", DURATION, primary_wait_ms, "10s", (.max = 3600000), LIVE, NULL,
	"how long statements wait for a primary during a switch-over; 0: they fail at once")
CONFIG_OPTION(PROXY, "drain_timeout", DURATION, drain_timeout_ms, "30s", (.max = 86400000), LIVE, NULL,
	"SIGTERM: how long statements in flight may go on")
CONFIG_OPTION(PROXY, "core_dumps", WORD, core_dumps, "no", (.words = "no|yes"), FIXED, NULL,
	"may a crash leave one? It holds what statements say; passwords are kept out of it")

CONFIG_SECTION(ADMIN, "admin", NULL, ON, "For DBAs and operators. Without `listen` or `http` that service is off.")
CONFIG_OPTION(ADMIN, "listen", LISTENS, admin, NULL, (.port = 6032), FIXED, "127.0.0.1:6032",
	"DBAs, with any MySQL client; separated by commas")
CONFIG_OPTION(ADMIN, "http", HTTP, http, NULL, (.port = 6080), FIXED, "127.0.0.1:6080",
	"web page, /metrics, /healthz, /readyz")
CONFIG_OPTION(ADMIN, "user", TEXT, admin_user, "admin", (.min = 1, .max = 128), LIVE, NULL,
	"the account of the admin port")
CONFIG_OPTION(ADMIN, "password", SECRET, admin_password, NULL, (.min = 1, .max = 256), LIVE, NULL,
	"without one, only clients on a unix socket may log in")

CONFIG_SECTION(SERVER, "server", "db1", ON, "One section a database server; X is its name in tables and metrics.")
CONFIG_OPTION(SERVER, "address", ADDRESS, address, NULL, (.port = 3306), LIVE, "10.0.0.5:3306",
	"host:port, host, [v6]:port or /path/to.sock")
CONFIG_OPTION(SERVER, "role", WORD, role, "auto", (.words = "auto|primary|replica"), LIVE, NULL,
	"auto: asked of the server (read_only, replication)")
CONFIG_OPTION(SERVER, "weight", COUNT, weight, "1", (.max = 1000), LIVE, NULL, "share of reads; 0: no reads")
CONFIG_OPTION(SERVER, "max_connections", COUNT, max_connections, "0", (.max = 100000), LIVE, NULL,
	"connections to it; 0: the server's own max_connections less a reserve")

CONFIG_SECTION(MONITOR, "monitor", NULL, ON,
	"Checks servers, and reads account hashes so that applications keep their passwords.")
CONFIG_OPTION(MONITOR, "user", TEXT, monitor_user, NULL, (.min = 1, .max = 128), LIVE, "monitor",
	"an account with SELECT ON mysql.*, and SLAVE MONITOR, BINLOG MONITOR, REFERENCES, TRIGGER, SHOW VIEW ON *.*")
CONFIG_OPTION(MONITOR, "password", SECRET, monitor_password, NULL, (.min = 1, .max = 256), LIVE, NULL, "its password")
CONFIG_OPTION(MONITOR, "interval", DURATION, monitor_interval_ms, "500ms", (.min = 10, .max = 3600000), LIVE, NULL,
	"between two looks at a server")
CONFIG_OPTION(MONITOR, "timeout", DURATION, monitor_timeout_ms, "2s", (.min = 10, .max = 3600000), LIVE, NULL,
	"a server that has not answered by then is down")
CONFIG_OPTION(MONITOR, "max_replica_lag", DURATION, max_replica_lag_ms, "1s", (.min = 10, .max = 86400000), LIVE, NULL,
	"beyond it a replica gets no reads")

CONFIG_SECTION(USER, "user", "app", OFF,
	"Only where accounts cannot be read from the server: one section an account, X is its name.")
CONFIG_OPTION(USER, "password", SECRET, password, NULL, (.max = 256), LIVE, NULL, "clear text")

CONFIG_SECTION(CACHE, "cache", NULL, ON, "Where cached answers are kept.")
CONFIG_OPTION(CACHE, "store", STORE, redis, "memory", (.port = 6379), LIVE, NULL,
	"memory: this process's own; redis://[user:password@]host:port/db; redis+unix://[user:password@]/x.sock?db=0")
CONFIG_OPTION(CACHE, "timeout", DURATION, redis_timeout_ms, "5ms", (.min = 1, .max = 10000), LIVE, NULL,
	"a lookup in Redis that takes longer is given up, and the statement runs on a server")
CONFIG_OPTION(CACHE, "confirm_timeout", DURATION, confirm_timeout_ms, "2s", (.min = 500, .max = 60000), LIVE, NULL,
	"a Redis that is silent for so long is taken for gone; until then a write waits for its invalidation")
CONFIG_OPTION(CACHE, "memory", BYTES, memory_limit, "64m", (.min = 1 << 20, .max = 1ull << 40), LIVE, NULL,
	"the size of the memory store")
CONFIG_OPTION(CACHE, "max_entry", BYTES, max_entry, "64k", (.min = 256, .max = 16u << 20), LIVE, NULL,
	"larger answers are not cached")

CONFIG_SECTION(RULE, "cache", "token", OFF, "One section a cached table; X is the rule's name.")
CONFIG_OPTION(RULE, "table", TABLE, table, NULL, (.min = 0), LIVE, "app.access_token", "database.table")
CONFIG_OPTION(RULE, "key", NAME, key, NULL, (.min = 0), LIVE, "token", "the column that lookups name")
CONFIG_OPTION(RULE, "expires", NAME, expires, NULL, (.min = 0), LIVE, "expires_at",
	"optional: a column; no entry outlives the row's own expiry")
CONFIG_OPTION(RULE, "ttl", DURATION, ttl_ms, "10m", (.min = 1, .max = 30ull * 86400000), LIVE, NULL,
	"no entry lives longer")
CONFIG_OPTION(RULE, "negative_ttl", DURATION, negative_ttl_ms, "5s", (.max = 30ull * 86400000), LIVE, NULL,
	"how long an absent row is remembered; 0: it is not")
CONFIG_OPTION(RULE, "service", LABEL, service_name, NULL, (.min = 0), LIVE, NULL,
	"optional: X of the [service.X] whose servers have the table")

CONFIG_SECTION(SERVICE, "service", "orders", OFF,
	"A server group of its own, for connections whose wanted destination (PROXY protocol header, transparent "
	"listener) matches; everything else goes to the servers that no service names.")
CONFIG_OPTION(SERVICE, "match", MATCHES, match, NULL, (.port = 3306), LIVE, "10.0.1.5:3306, 10.0.2.0/24:3306",
	"destinations, separated by commas: host:port, a.b.c.d/bits:port, [v6/bits]:port, *:port, /path/to.sock; a "
	"name stands for the addresses that it has when this file is read")
CONFIG_OPTION(SERVICE, "servers", TEXT, servers, NULL, (.max = 1500), LIVE, "db5, db6",
	"each X of a [server.X], separated by commas; a server is in one service at most")
CONFIG_OPTION(SERVICE, "monitor_user", TEXT, monitor_user, NULL, (.min = 1, .max = 128), LIVE, NULL,
	"an account as [monitor] has it, where these servers know another one")
CONFIG_OPTION(SERVICE, "monitor_password", SECRET, monitor_password, NULL, (.min = 1, .max = 256), LIVE, NULL,
	"that account's password")
