#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a compiler does not say: C in lines of 120 columns (a tab is 8; scripts hold messages, SQL and commands, which
# are not broken), files of 800 lines, no blanks at a line's end, a licence line, and nothing put off.
cd "$(dirname "$0")/../.." || exit 1
bad=$(git ls-files -co --exclude-standard -- '*.c' '*.h' '*.sh' '*.py' '*.php' '*.mk' Makefile .ci/run |
	while read -r file; do
		[ -f "$file" ] || continue
		head -n 3 "$file" | grep -q 'SPDX-License-Identifier: Apache-2.0' || echo "$file:1: no SPDX line"
		[ "$(wc -l < "$file")" -le 800 ] || echo "$file: more than 800 lines"
		expand "$file" | awk -v file="$file" '
			length > 120 && file ~ /\.[ch]$/ { print file ":" NR ": more than 120 columns" }
			/[ \t]$/ { print file ":" NR ": blanks at the end" }'
		grep -nE '\b(TO''DO|FIX''ME|XX''X)\b' "$file" | sed "s|^|$file:|"
	done)
if [ -n "$bad" ]; then
	echo "$bad"
	exit 1
fi
