#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh BINARY: replays the target's corpus (tests/fuzz/corpus/NAME for fuzz_NAME); with FUZZ_SECONDS it goes on that long
# with new inputs, each time others (not even -seed repeats them).
# New inputs are thrown away: keep one by copying it into the corpus. A crash prints its input.
set -eu
name=$(basename "$1")
name=${name#fuzz_}
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/new"
corpus=$here/corpus/$name dict=$here/$name.dict
if [ -n "${FUZZ_SECONDS:-}" ]; then
	set -- "$1" -max_total_time="$FUZZ_SECONDS"
else
	set -- "$1" -runs=0
fi
set -- "$@" -timeout=10 -artifact_prefix="$work/" "$work/new"
[ ! -d "$corpus" ] || set -- "$@" "$corpus"
[ ! -e "$dict" ] || set -- "$@" -dict="$dict"
if ! "$@" >"$work/log" 2>&1; then
	tail -n 60 "$work/log"
	for input in "$work"/crash-* "$work"/timeout-* "$work"/oom-* "$work"/leak-*; do
		[ ! -e "$input" ] || { echo "input, base64:"; base64 "$input"; }
	done
	exit 1
fi
