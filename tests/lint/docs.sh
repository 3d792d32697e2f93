#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What documents name is there: files, make targets, configuration keys, metrics.
cd "$(dirname "$0")/../.." || exit 1
docs=$(git ls-files -co --exclude-standard -- '*.md')
check_paths() {
	local doc word
	for doc in $docs; do
		# Relative links, and paths in backquotes that begin with a folder of ours.
		{
			grep -oE '\]\([^)#: ]+' "$doc" | cut -c3- | sed "s|^|$(dirname "$doc")/|"
			grep -oE '`(proxy|preload|tests|conf|docs)/[A-Za-z0-9_./-]+' "$doc" | cut -c2-
		} | while read -r word; do
			[ -e "$word" ] || echo "$doc: $word is not there"
		done
	done
}

check_targets() {
	local doc target
	for doc in $docs; do
		grep -ohE '(`|^    |^)make [a-z-]+' "$doc" | sed 's/.*make //; s/^unit-.*/unit-%/' | sort -u | while read -r target; do
			grep -qE "^([a-z -]* )?$target( [a-z -]*)?:" Makefile preload/*.mk tests/*.mk tests/*/*.mk ||
				echo "$doc: there is no make $target"
		done
	done
}

# The sample has every option, and the other files in conf/ have none that is not in it.
check_conf() {
	local key
	[ -e conf/sidetrack.conf ] || { echo "conf/sidetrack.conf is not there"; return; }
	grep -E '^CONFIG_OPTION' proxy/tbl/config.h | cut -d'"' -f2 | sort -u | while read -r key; do
		grep -qE "^;? *$key +=" conf/sidetrack.conf || echo "conf/sidetrack.conf: no $key"
	done
	grep -hoE '^[a-z_]+ *=' conf/minimal.conf conf/cache.conf | tr -d '= ' | sort -u | while read -r key; do
		grep -qE "^;? *$key +=" conf/sidetrack.conf || echo "conf/: $key is no option"
	done
}

bad=$(check_paths; check_targets; check_conf)
if [ -n "$bad" ]; then
	echo "$bad"
	exit 1
fi
