#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing on a Debian 12 machine, and nothing that is there already.
#   install.sh run     to build Sidetrack and to show it at work (make run)
#   install.sh test    and for make test and make bench
# The servers run privately (lab.sh): only mariadb-server-core is installed, which brings no system service, and
# services of other packages are not started.
set -euo pipefail

run_packages="gcc make pkg-config
	libevent-dev libhiredis-dev libssl-dev libmariadb-dev libsqlite3-dev libxxhash-dev libjansson-dev
	mariadb-server-core mariadb-client-core redis-server php-cli php-mysql procps curl"
test_packages="libcmocka-dev clang libclang-rt-14-dev valgrind strace haproxy mariadb-client python3 python3-pymysql
	binutils musl-tools nftables iptables iproute2 util-linux libzstd-dev libdbd-mysql-perl libdbd-mariadb-perl
	sysbench default-jre-headless libmariadb-java golang-go golang-github-go-sql-driver-mysql-dev"

missing() { # PACKAGE...: prints those that are not installed
	local p
	for p in "$@"; do
		[ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || echo "$p"
	done
}

case "${1-}" in
run) wanted=$run_packages ;;
test) wanted="$run_packages $test_packages" ;;
*) echo "usage: install.sh run|test" >&2; exit 2 ;;
esac
# shellcheck disable=SC2086  # the lists are words
need=$(missing $wanted)
[ -n "$need" ] || exit 0

root=""
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || { echo "install.sh: not root and no sudo; please install:" $need >&2; exit 1; }
	root=sudo
fi
echo "installing:" $need
# Until we are done, tell Debian's maintainer scripts not to start services; a policy that is there already stays.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	trap '$root rm -f $policy' EXIT
	trap 'exit 130' INT TERM
	printf '#!/bin/sh\nexit 101\n' | $root tee $policy >/dev/null
	$root chmod 755 $policy
fi
apt() { $root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@"; }
apt update
apt install -y --no-install-recommends $need
