#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# redirect.nft for machines that have iptables only: see there, also for what sidetrack.conf needs.
#   redirect.iptables.sh start|stop
# PROXY_PORT, DATABASE_PORT and PROXY_USER (the user that the proxy runs as) can be set in the environment.
set -eu
proxy_port=${PROXY_PORT:-6034} database_port=${DATABASE_PORT:-3306} proxy_user=${PROXY_USER:-sidetrack}

each() { # VERB: for IPv4 and IPv6
	for family in "iptables 127.0.0.0/8" "ip6tables ::1/128"; do
		# shellcheck disable=SC2086
		set -- "$1" $family
		command -v "$2" >/dev/null || continue
		"$1" "$2" "$3"
	done
}

stop() { # IPTABLES
	"$1" -w -t nat -D OUTPUT -p tcp --dport "$database_port" -j SIDETRACK 2>/dev/null || true
	"$1" -w -t nat -F SIDETRACK 2>/dev/null || true
	"$1" -w -t nat -X SIDETRACK 2>/dev/null || true
}

start() { # IPTABLES LOOPBACK
	stop "$1"
	"$1" -w -t nat -N SIDETRACK
	# The proxy's own connections must not come back to it; databases on this machine itself are left alone.
	"$1" -w -t nat -A SIDETRACK -m owner --uid-owner "$proxy_user" -j RETURN
	"$1" -w -t nat -A SIDETRACK -d "$2" -j RETURN
	"$1" -w -t nat -A SIDETRACK -p tcp -j REDIRECT --to-ports "$proxy_port"
	"$1" -w -t nat -A OUTPUT -p tcp --dport "$database_port" -j SIDETRACK
}

case ${1-} in
start | stop) each "$1" ;;
*) echo "usage: redirect.iptables.sh start|stop" >&2; exit 2 ;;
esac
