#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# conf/redirect.nft and conf/redirect.iptables.sh, as they are, in a network namespace of their own: what is redirected,
# what is not, and that stopping ends it. The proxy's listener itself is tested elsewhere. Prints TAP.
set -u
cd "$(dirname "$0")/../.." || exit 1
if [ "${1-}" != inside ]; then
	for need in unshare setpriv ip; do
		command -v $need >/dev/null || { echo "ok 1 - # skipped: no $need"; exit 0; }
	done
	unshare --net true 2>/dev/null || { echo "ok 1 - # skipped: no network namespace for us"; exit 0; }
	exec unshare --net "$0" inside
fi
aids=$PWD/build/preload work=$(mktemp -d) count=0 failed=0
ip link set lo up
ip address add 10.9.9.9/32 dev lo
ip address add fd09::9/128 dev lo nodad

# shellcheck disable=SC2034  # is only held open
exec {feed}> >(exec "$aids/greeter" real=10.9.9.9:3306 other=10.9.9.9:3307 "real6=[fd09::9]:3306" proxy=127.0.0.1:6034 \
	"proxy6=[::1]:6034" local=127.0.0.1:3306 >"$work/out")
greeter=$!
trap 'kill $greeter; rm -rf "$work"' EXIT
until [ "$(wc -l <"$work/out")" = 6 ]; do sleep 0.05; done

greets() { # TEXT WANTED ADDRESS [COMMAND BEFORE]
	local got text=$1 wanted=$2 address=$3
	shift 3
	got=$("$@" "$aids/probe" block "$address" 2>&1 | cut -d' ' -f1)
	count=$((count + 1))
	if [ "$got" = "$wanted" ]; then echo "ok $count - $text"; else
		failed=$((failed + 1))
		echo "not ok $count - $text: wanted $wanted, got $got"
	fi
}

check() { # NAME, of what is in force
	greets "$1: IPv4 goes to the proxy" proxy 10.9.9.9:3306
	greets "$1: IPv6 goes to the proxy" proxy6 "[fd09::9]:3306"
	greets "$1: another port does not" other 10.9.9.9:3307
	greets "$1: the loopback does not" local 127.0.0.1:3306
	greets "$1: the proxy's user does not" real 10.9.9.9:3306 setpriv --reuid=990 --clear-groups
}

chmod 755 "$work"
greets "without rules" real 10.9.9.9:3306
if command -v nft >/dev/null; then
	nft -f conf/redirect.nft && nft -f conf/redirect.nft # a second time changes nothing
	check nft
	nft delete table inet sidetrack
	greets "nft: after its end" real 10.9.9.9:3306
else echo "# skipped: no nft"; fi
if command -v iptables >/dev/null; then
	PROXY_USER=990 conf/redirect.iptables.sh start && PROXY_USER=990 conf/redirect.iptables.sh start
	check iptables
	conf/redirect.iptables.sh stop
	greets "iptables: after its end" real6 "[fd09::9]:3306"
else echo "# skipped: no iptables"; fi
echo "1..$count"
[ $failed = 0 ]
