#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A private MariaDB primary, GTID replicas and a Redis on free loopback ports, all data in one folder: for make run,
# tests and bench. Nothing of the system's own servers is used or touched.
#
#   lab.sh start DIR [OPTION]...     starts all, writes DIR/env (LAB_* shell variables), returns when they replicate
#       --replicas N                 default 2
#       --rows N                     tokens in app.access_token, default 200000
#       --delay SECONDS:N            replica N applies that much later (repeatable)
#       --max-connections N          of each MariaDB, default 1000
#       --redis-memory SIZE          Redis' maxmemory, default 64mb
#       --redis-policy WORD          its maxmemory-policy, default noeviction: no fence may be evicted
#       --skip-name-resolve          as the MariaDB option
#       --owner PID                  stops the lab when that process is gone, however it ended
#   lab.sh stop DIR                  stops all and removes the data; DIR itself too when nothing else is in it
#   lab.sh down DIR SERVER [SIGNAL]  ends one server (primary, replica1, ..., redis) by TERM or SIGNAL, waits for its end
#   lab.sh up DIR SERVER             starts it again: same port, same data
#   lab.sh sql DIR SERVER [ARG]...   a mariadb client there as root (SQL by -e or stdin)
# Other scripts may source this file and call the lab_* functions.

LAB_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
LAB_TEMPLATES=${LAB_TEMPLATES:-$LAB_ROOT/build/lab-template}

lab_fail() { echo "lab: $*" >&2; return 1; }

# Any free port below the kernel's own (ephemeral) range. Somebody may take it before the server binds it: then the
# server says so, ends, and another is tried.
lab_free_port() {
	local port
	while :; do
		port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
		(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
	done
	echo "$port"
}

lab_alive() { # PID
	local state
	[ -n "$1" ] && state=$(cut -d')' -f2 "/proc/$1/stat" 2>/dev/null) && [ "${state:1:1}" != Z ]
}

lab_pid() { cat "$1/$2/pid" 2>/dev/null; } # DIR SERVER

lab_wait_gone() { # PID TENTHS
	local i
	for ((i = 0; i < $2; i++)); do
		lab_alive "$1" || return 0
		sleep 0.1
	done
	return 1
}

lab_sql() { # DIR SERVER [ARG]...
	local dir=$1 server=$2
	shift 2
	MYSQL_PWD=lab-root mariadb --no-defaults --user=root --socket="$dir/$server/sock" --batch --skip-column-names "$@"
}

lab_redis_cli() { # DIR [ARG]...
	local dir=$1
	shift
	redis-cli -s "$dir/redis/sock" "$@"
}

# --- one server ---

lab_write_mariadb_conf() { # DIR SERVER ID PORT; options from the lab's variables
	local data=$1/$2
	cat > "$data/my.cnf" <<-CONF
		[mariadbd]
		$([ "$(id -u)" = 0 ] && echo "user = root")
		datadir = $data/data
		tmpdir = $data
		socket = $data/sock
		pid-file = $data/mariadbd.pid
		log-error = $data/error.log
		port = $4
		bind-address = 127.0.0.1
		server-id = $3
		$([ "$2" = primary ] || echo "read-only = 1")
		$([ -z "$lab_skip_name_resolve" ] || echo "skip-name-resolve")
		max-connections = $lab_max_connections
		max-allowed-packet = 64M
		table-open-cache = 400
		log-bin = binlog
		relay-log = relay
		log-slave-updates
		log-bin-trust-function-creators
		gtid-strict-mode
		binlog-format = row
		binlog-row-metadata = full
		slave-net-timeout = 5
		character-set-server = utf8mb4
		performance-schema = off
		innodb-buffer-pool-size = 64M
		innodb-log-file-size = 16M
		innodb-flush-log-at-trx-commit = 2
		innodb-use-native-aio = 0
		sync-binlog = 0
		key-buffer-size = 1M
		aria-pagecache-buffer-size = 8M
	CONF
}

lab_write_redis_conf() { # DIR PORT
	cat > "$1/redis/redis.conf" <<-CONF
		bind 127.0.0.1
		port $2
		unixsocket $1/redis/sock
		dir $1/redis
		logfile $1/redis/error.log
		save ""
		appendonly no
		maxmemory $lab_redis_memory
		maxmemory-policy $lab_redis_policy
	CONF
}

lab_ready() { # DIR SERVER
	if [ "$2" = redis ]; then
		[ "$(lab_redis_cli "$1" ping 2>/dev/null)" = PONG ]
	else
		lab_sql "$1" "$2" -e 'DO 1' 2>/dev/null
	fi
}

# Starts what SERVER's folder describes and waits until it answers; fails when it ends before. In a session of its
# own, so that a Ctrl-C meant for the script does not hit the server.
lab_up() { # DIR SERVER
	local dir=$1 server=$2 pid i command
	command=(mariadbd --defaults-file="$dir/$server/my.cnf")
	[ "$server" != redis ] || command=(redis-server "$dir/redis/redis.conf")
	: > "$dir/$server/error.log"
	setsid "${command[@]}" </dev/null >>"$dir/$server/error.log" 2>&1 9>&- &
	pid=$!
	echo $pid > "$dir/$server/pid"
	for ((i = 0; i < 1200; i++)); do
		lab_alive $pid || return 1
		lab_ready "$dir" "$server" && return 0
		sleep 0.05
	done
	return 1
}

# TERM, and KILL after ten seconds; or one SIGNAL (KILL for a crash).
lab_down() { # DIR SERVER [SIGNAL]
	local pid
	pid=$(lab_pid "$1" "$2")
	lab_alive "$pid" || return 0
	kill -CONT "$pid" 2>/dev/null # a test may have stopped it
	kill "-${3:-TERM}" "$pid" 2>/dev/null
	lab_wait_gone "$pid" 100 || { kill -KILL "$pid" 2>/dev/null; lab_wait_gone "$pid" 100; }
}

lab_start_server() { # DIR SERVER ID: first start, with a port
	local dir=$1 server=$2 port attempt
	mkdir -p "$dir/$server"
	[ "$server" = redis ] || cp -r --reflink=auto "$lab_template" "$dir/$server/data" || return 1
	for attempt in 1 2 3 4 5 6; do
		port=$(lab_free_port)
		if [ "$server" = redis ]; then
			lab_write_redis_conf "$dir" "$port"
		else
			lab_write_mariadb_conf "$dir" "$server" "$3" "$port"
		fi
		echo "$port" > "$dir/$server/port"
		lab_up "$dir" "$server" && return 0
		grep -qi 'address already in use' "$dir/$server/error.log" || break
	done
	tail -n 20 "$dir/$server/error.log" >&2
	lab_fail "$server does not start"
}

# --- the template: a data folder with accounts and rows, made once and copied from then on ---

lab_make_template() { # FOLDER ROWS
	local tmp
	tmp=$(mktemp -d "$1.XXXXXX") || return 1
	mkdir "$tmp/primary"
	lab_write_mariadb_conf "$tmp" primary 1 1
	{
		mariadb-install-db --defaults-file="$tmp/primary/my.cnf" --auth-root-authentication-method=normal \
			--force --skip-test-db --skip-log-bin &&
		{ printf 'FLUSH PRIVILEGES;\nSET @rows = %d;\n' "$2"; cat "$LAB_ROOT/tests/lab/schema.sql"; } |
			mariadbd --defaults-file="$tmp/primary/my.cnf" --skip-log-bin --bootstrap
	} > "$tmp/out" 2>&1 || { cat "$tmp"/out "$tmp"/primary/error.log >&2 2>/dev/null; rm -rf "$tmp"; return 1; }
	rm -f "$tmp"/primary/data/{ib_buffer_pool,binlog.*}
	mv "$tmp/primary/data" "$1"
	rm -rf "$tmp"
}

lab_find_template() { # ROWS; sets lab_template
	local key
	key=$({ mariadbd --version; cat "$LAB_ROOT/tests/lab/schema.sql"
		declare -f lab_make_template lab_write_mariadb_conf; } | cksum | cut -d' ' -f1)
	lab_template=$LAB_TEMPLATES/$key-$1
	mkdir -p "$LAB_TEMPLATES"
	[ -d "$lab_template" ] || (
		flock 9 # two labs that start at once make it once
		[ -d "$lab_template" ] || { echo "lab: preparing the data (once)" >&2; lab_make_template "$lab_template" "$1"; }
	) 9> "$LAB_TEMPLATES/lock"
}

# --- the whole lab ---

lab_replicate() { # DIR N DELAY
	local port
	port=$(cat "$1/primary/port")
	lab_sql "$1" "replica$2" -e "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=$port, MASTER_USER='repl',
		MASTER_PASSWORD='lab-repl', MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1, MASTER_DELAY=$3; START SLAVE"
}

lab_write_env() { # DIR
	local server upper
	{
		echo "LAB_DIR=$1 LAB_REPLICAS=$lab_replicas LAB_ROWS=$lab_rows LAB_DB=app"
		for server in primary $lab_replica_names redis; do
			upper=${server^^}
			echo "LAB_${upper}_HOST=127.0.0.1 LAB_${upper}_PORT=$(cat "$1/$server/port")" \
				"LAB_${upper}_SOCK=$1/$server/sock LAB_${upper}_PID=$(lab_pid "$1" "$server")"
		done
		for server in root app other monitor; do
			echo "LAB_${server^^}_USER=$server LAB_${server^^}_PASSWORD=lab-$server"
		done
	} > "$1/env.new"
	mv "$1/env.new" "$1/env"
}

# Stops the lab when its owner is gone, also when that was by SIGKILL.
lab_guard() { # DIR OWNER
	while lab_alive "$2"; do sleep 0.3; done
	rm -f "$1/guard.pid"
	lab_stop "$1"
}

lab_servers_of() { # DIR
	local pid
	for pid in "$1"/*/pid; do
		[ ! -e "$pid" ] || basename "$(dirname "$pid")"
	done
}

# The data is thrown away, so nothing is gained by a slow end: KILL, all at once.
lab_stop() { # DIR
	local server
	[ ! -e "$1/guard.pid" ] || kill "$(cat "$1/guard.pid")" 2>/dev/null
	for server in $(lab_servers_of "$1"); do lab_down "$1" "$server" KILL; done
	for server in $(lab_servers_of "$1"); do rm -rf "${1:?}/$server"; done
	rm -f "$1/env" "$1/env.new" "$1/guard.pid"
	rmdir "$1" 2>/dev/null || true
}

lab_start_servers() { # DIR
	local server id=1 job jobs="" failed=0
	for server in primary $lab_replica_names redis; do
		lab_start_server "$1" "$server" $id &
		id=$((id + 1))
		jobs="$jobs $!"
	done
	for job in $jobs; do wait "$job" || failed=1; done
	return $failed
}

lab_start() { # DIR; options in lab_* variables
	local dir=$1 n gtid
	[ ! -e "$dir/env" ] || { lab_fail "$dir holds a lab already"; return 1; }
	[ ${#dir} -lt 80 ] || { lab_fail "$dir is too long for a socket's path"; return 1; }
	lab_replica_names=""
	for ((n = 1; n <= lab_replicas; n++)); do lab_replica_names="$lab_replica_names replica$n"; done
	lab_find_template "$lab_rows" && mkdir -p "$dir" && lab_start_servers "$dir" || return 1
	for ((n = 1; n <= lab_replicas; n++)); do lab_replicate "$dir" "$n" "${lab_delay[$n]:-0}" || return 1; done
	# A first transaction, so that positions are not empty, seen everywhere it is not meant to be late.
	lab_sql "$dir" primary -e "CREATE DATABASE lab"
	gtid=$(lab_sql "$dir" primary -e "SELECT @@gtid_binlog_pos")
	for ((n = 1; n <= lab_replicas; n++)); do
		[ -n "${lab_delay[$n]:-}" ] || [ "$(lab_sql "$dir" "replica$n" -e "SELECT MASTER_GTID_WAIT('$gtid', 60)")" = 0 ] ||
			{ lab_fail "replica$n does not replicate"; return 1; }
	done
	lab_write_env "$dir"
}

lab_start_options() { # OPTION...; sets lab_* variables
	lab_replicas=2 lab_rows=200000 lab_max_connections=1000 lab_redis_memory=64mb lab_redis_policy=noeviction
	lab_skip_name_resolve="" lab_owner=""
	declare -gA lab_delay=()
	while [ $# -gt 0 ]; do
		case $1 in
		--replicas) lab_replicas=$2 ;;
		--rows) lab_rows=$2 ;;
		--delay) lab_delay[${2#*:}]=${2%%:*} ;;
		--max-connections) lab_max_connections=$2 ;;
		--redis-memory) lab_redis_memory=$2 ;;
		--redis-policy) lab_redis_policy=$2 ;;
		--owner) lab_owner=$2 ;;
		--skip-name-resolve) lab_skip_name_resolve=1; shift; continue ;;
		*) lab_fail "unknown option $1"; return 2 ;;
		esac
		shift 2 || { lab_fail "an option needs its value"; return 2; }
	done
}

lab_main() {
	local command=${1-} dir=${2-}
	[ -n "$dir" ] || { sed -n '4,21s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; return 2; }
	mkdir -p "$dir" && dir=$(cd "$dir" && pwd) || return 1
	shift 2
	case $command in
	start)
		lab_start_options "$@" || return
		trap 'lab_stop "$dir"; exit 130' INT TERM HUP
		lab_start "$dir" || { lab_stop "$dir"; return 1; }
		if [ -n "$lab_owner" ]; then
			setsid "${BASH_SOURCE[0]}" guard "$dir" "$lab_owner" </dev/null >/dev/null 2>&1 &
			echo $! > "$dir/guard.pid"
		fi
		;;
	stop) lab_stop "$dir" ;;
	up)
		lab_up "$dir" "$1" || { lab_fail "$1 does not start, see $dir/$1/error.log"; return 1; }
		sed -i "s/LAB_${1^^}_PID=[0-9]*/LAB_${1^^}_PID=$(lab_pid "$dir" "$1")/" "$dir/env"
		;;
	down) lab_down "$dir" "$@" ;;
	sql) lab_sql "$dir" "$@" ;;
	guard) lab_guard "$dir" "$1" ;;
	*) lab_fail "unknown command $command"; return 2 ;;
	esac
}

[ "${BASH_SOURCE[0]}" != "$0" ] || lab_main "$@"
