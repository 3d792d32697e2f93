#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What make run shows is what it should: reads leave the primary, then the replicas; nobody gets a wrong answer; it
# ends by itself, and by a signal, with exit 0 and nothing left.
cd "$(dirname "$0")/../.." || exit 1
out=$(mktemp)
trap 'rm -f "$out"' EXIT
n=0

check() { # NAME COMMAND...
	local name=$1
	shift
	n=$((n + 1))
	if "$@"; then
		echo "ok $n - $name"
	else
		echo "not ok $n - $name"
		sed 's/^/#   /' "$out"
	fi
}

columns() { grep "^  $1  " "$out" | awk '{ print $(NF-2), $(NF-1), $NF }'; }
less_at_primary() {
	local observe split cache
	read -r observe split cache < <(columns "statements/s at primary")
	[ "$split" -lt $((observe / 2)) ] && [ "$cache" -lt $((observe / 2)) ]
}
cache_answers() {
	local observe split cache
	read -r observe split cache < <(columns "statements/s at cache")
	[ "$observe" = 0 ] && [ "$split" = 0 ] && [ "$cache" -gt 0 ]
}
nobody_left() { ! pgrep -f -- "$TMPDIR/sidetrack-run" >/dev/null && [ -z "$(ls -d "$TMPDIR"/sidetrack-run* 2>/dev/null)" ]; }

export TMPDIR=${TMPDIR:-/tmp}
RUN_SECONDS=9 tests/lab/run.sh >"$out" 2>&1
check "ends by itself with exit 0" [ $? = 0 ]
check "split takes reads off the primary" less_at_primary
check "the cache answers in cache mode only" cache_answers
check "no wrong answer in any mode" [ "$(columns "wrong answers")" = "0 0 0" ]
check "no error in any mode" [ "$(columns errors)" = "0 0 0" ]
check "leaves nothing" nobody_left

tests/lab/run.sh >"$out" 2>&1 &
run=$!
for ((i = 0; i < 600; i++)); do
	grep -q ' s  observe ' "$out" && break
	sleep 0.1
done
kill -TERM $run
wait $run
check "a signal ends it with exit 0" [ $? = 0 ]
check "and with the summary" grep -q "wrong answers" "$out"
check "and leaves nothing" nobody_left
