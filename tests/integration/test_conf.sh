#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The files in conf/ are ones that the program accepts; one that others may read, or with a wrong line, is refused with
# the place named.
cd "$(dirname "$0")/../.." || exit 1
sidetrack=${SIDETRACK:-build/sidetrack}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
n=0

check() { # NAME EXPECTED-STATUS EXPECTED-TEXT FILE
	local status
	n=$((n + 1))
	"$sidetrack" -c "$4" --check >"$work/out" 2>&1
	status=$?
	if [ $status = "$2" ] && { [ -z "$3" ] || grep -qF -- "$3" "$work/out"; }; then
		echo "ok $n - $1"
	else
		echo "not ok $n - $1: exit $status, wanted $2 and \"$3\""
		sed 's/^/#   /' "$work/out"
	fi
}

for conf in minimal cache sidetrack; do
	install -m 600 "conf/$conf.conf" "$work/$conf.conf"
	check "$conf.conf is accepted" 0 "" "$work/$conf.conf"
done
install -m 644 conf/minimal.conf "$work/open.conf"
check "a file with a password that others may read" 1 "$work/open.conf:" "$work/open.conf"
sed 's/^address = 10.0.0.6/adress = 10.0.0.6/' "$work/minimal.conf" > "$work/typo.conf"
chmod 600 "$work/typo.conf"
check "a wrong key is named with its line" 1 "$work/typo.conf:$(grep -n adress "$work/typo.conf" | cut -d: -f1):" "$work/typo.conf"
check "a file that is not there" 1 "$work/none.conf" "$work/none.conf"
