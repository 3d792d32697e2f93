#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs test programs one after another, each in a process group of its own and under a time limit, and counts. A
# program that prints TAP lines ("ok ...", "not ok ...") counts as those; another one as its exit status says. What it
# printed is shown when something failed. Ends with one line "N passed, N failed", and no process left behind.
#
#   tests/run.sh [--limit SECONDS] 'PROGRAM [ARG]...'...
set -uo pipefail
limit=600
[ "${1-}" != --limit ] || { limit=$2; shift 2; }

export CMOCKA_MESSAGE_OUTPUT=TAP PYTHONDONTWRITEBYTECODE=1
export ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=1:abort_on_error=0" UBSAN_OPTIONS="${UBSAN_OPTIONS:-}:print_stacktrace=1"
export TSAN_OPTIONS="${TSAN_OPTIONS:-}:halt_on_error=1"
work=$(mktemp -d "${TMPDIR:-/tmp}/st-test.XXXXXX") || exit 1
export TMPDIR=$work # all that the programs make is in here, so that leftovers can be told from others' processes
passed=0 failed=0 group=""

leftovers() { pgrep -f -- "$work/" | grep -vx "$$"; }

clean_up() {
	local i
	[ -z "$group" ] || kill -KILL -- "-$group" 2>/dev/null
	for ((i = 0; i < 100; i++)); do # the labs' guards need a moment to see that their owner is gone
		[ -n "$(leftovers)" ] || break
		sleep 0.1
	done
	leftovers | xargs -r kill -KILL
	rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

run_one() { # PROGRAM and arguments, as one word
	local out=$work/out status ok bad begin=$SECONDS
	# shellcheck disable=SC2086
	setsid timeout -k 10 "$limit" $1 >"$out" 2>&1 </dev/null &
	group=$!
	wait "$group"
	status=$?
	kill -KILL -- "-$group" 2>/dev/null
	group=""
	ok=$(grep -cE '^[[:space:]]*ok( |$)' "$out")
	bad=$(grep -cE '^[[:space:]]*not ok( |$)' "$out")
	if [ $((ok + bad)) = 0 ] && [ $status = 0 ]; then ok=1; fi
	if [ "$bad" = 0 ] && [ $status != 0 ]; then bad=1; fi
	passed=$((passed + ok)) failed=$((failed + bad))
	if [ "$bad" = 0 ]; then
		printf 'PASS  %-44s %4d  %3d s\n' "$1" "$ok" $((SECONDS - begin))
		return
	fi
	cat "$out"
	printf 'FAIL  %-44s %4d of %d failed, exit %d%s\n' "$1" "$bad" $((ok + bad)) $status \
		"$([ $status != 124 ] || echo " (no end within $limit s)")"
}

for program in "$@"; do run_one "$program"; done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
