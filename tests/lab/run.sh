#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# make run: a lab (lab.sh), Sidetrack before it, a legacy workload that does not know of it (legacy.php), and what
# happens, live (show.php). RUN_SECONDS=N ends it after N seconds; else Ctrl-C does. Leaves nothing behind.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lab.sh"
sidetrack=${SIDETRACK:-$LAB_ROOT/build/sidetrack}
dir=$(mktemp -d "${TMPDIR:-/tmp}/sidetrack-run.XXXXXX") || exit 1
show=""

clean_up() {
	local client
	trap '' INT TERM HUP
	for client in "$dir"/client*; do [ ! -d "$client" ] || lab_down "$dir" "$(basename "$client")" KILL; done
	[ ! -d "$dir/proxy" ] || lab_down "$dir" proxy
	lab_stop "$dir"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

# The port that people expect when nobody has it.
port_or_free() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && lab_free_port || echo "$1"; }

write_conf() {
	local n port
	mkdir -p "$dir/proxy"
	mysql_port=$(port_or_free 6033) admin_port=$(port_or_free 6032) http_port=$(port_or_free 6080)
	(
		umask 077
		cat > "$dir/proxy/sidetrack.conf" <<-CONF
			[proxy]
			listen = 127.0.0.1:$mysql_port
			mode = observe
			[admin]
			listen = 127.0.0.1:$admin_port
			http = 127.0.0.1:$http_port
			user = admin
			password = lab-admin
			[server.primary]
			address = 127.0.0.1:$LAB_PRIMARY_PORT
			$(for ((n = 1; n <= LAB_REPLICAS; n++)); do
				port=LAB_REPLICA${n}_PORT
				printf '[server.replica%d]\naddress = 127.0.0.1:%d\n' "$n" "${!port}"
			done)
			[monitor]
			user = $LAB_MONITOR_USER
			password = $LAB_MONITOR_PASSWORD
			[cache]
			store = redis://127.0.0.1:$LAB_REDIS_PORT/0
			[cache.token]
			table = app.access_token
			key = token
			expires = expires_at
			ttl = 10m
			negative_ttl = 5s
		CONF
	)
}

ready() { curl -sf "http://127.0.0.1:$http_port/readyz" >/dev/null && [ "$(servers_up)" = $((1 + LAB_REPLICAS)) ]; }
servers_up() { curl -sf "http://127.0.0.1:$http_port/metrics" | grep -c '^sidetrack_server_up{.*} 1'; }

start_proxy() {
	local i
	write_conf
	setsid "$sidetrack" -c "$dir/proxy/sidetrack.conf" </dev/null >"$dir/proxy/log" 2>&1 &
	echo $! > "$dir/proxy/pid"
	for ((i = 0; i < 600; i++)); do
		ready && return
		lab_alive "$(lab_pid "$dir" proxy)" || break
		sleep 0.05
	done
	tail -n 20 "$dir/proxy/log" >&2
	lab_fail "sidetrack does not start"
}

start_clients() { # KIND:RATE...
	local client n=0
	for client in "$@"; do
		n=$((n + 1))
		mkdir "$dir/client$n"
		setsid php "$here/legacy.php" "${client%:*}" 127.0.0.1 "$mysql_port" "$LAB_APP_USER" "$LAB_APP_PASSWORD" "$LAB_DB" \
			"$LAB_ROWS" "${client#*:}" </dev/null >"$dir/client$n/out" 2>"$dir/client$n/err" &
		echo $! > "$dir/client$n/pid"
		disown # or bash tells of its end
	done
}

say_where() {
	cat <<-TEXT

		  MySQL port   mariadb -h 127.0.0.1 -P $mysql_port -u $LAB_APP_USER -p$LAB_APP_PASSWORD $LAB_DB
		  admin port   mariadb -h 127.0.0.1 -P $admin_port -u admin -plab-admin -e 'SELECT * FROM servers'
		  web          http://127.0.0.1:$http_port/   (metrics: http://127.0.0.1:$http_port/metrics)
		  the file     $dir/proxy/sidetrack.conf
		  try          build/sidetrackctl -c $dir/proxy/sidetrack.conf explain "SELECT * FROM access_token WHERE token = 'x'"

	TEXT
}

echo "Starting a MariaDB primary, two replicas and Redis, all private to this run ..."
"$here/lab.sh" start "$dir" --owner $$ && . "$dir/env" || exit 1
start_proxy || exit 1
say_where
start_clients text:150 text:150 prepared:150 prepared:150 pdo:150 pdo:150 page:30 page:30
trap 'kill -TERM "$show" 2>/dev/null' INT TERM HUP
php "$here/show.php" "$dir/proxy/sidetrack.conf" "$(lab_pid "$dir" proxy)" "http://127.0.0.1:$http_port/metrics" \
	"$dir/client*/out" "${RUN_SECONDS:-0}" &
show=$!
while lab_alive $show; do wait $show; done # a signal ends a wait
wait $show || exit 1
if ! lab_alive "$(lab_pid "$dir" proxy)"; then
	tail -n 20 "$dir/proxy/log" >&2
	lab_fail "sidetrack ended by itself"
	exit 1
fi
sort "$dir"/client*/err | uniq -c | sort -rn | head -n 5
