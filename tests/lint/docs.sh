#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What documents name is there: files, functions, metrics, make targets, configuration keys, options.
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

# `relay.c` and `take_ok()`, without a folder: of ours, somewhere.
check_names() {
	local word
	grep -ohE '`[A-Za-z0-9_]+\.[ch]`' $docs | tr -d '`' | sort -u | while read -r word; do
		[ -n "$(git ls-files -co --exclude-standard -- "*/$word")" ] || echo "documents: there is no $word"
	done
	comm -23 <(grep -ohE '`[a-z0-9_]+\(\)`' docs/architecture.md docs/cache.md | tr -d '`)' | sort -u) \
		<(grep -rhE '^[a-z]' proxy | grep -ohE '\b[a-z0-9_]+\(' | sort -u) |
		sed 's/^/documents: there is no function /'
	grep -ohE '`sidetrack_[a-z_]+' $docs | tr -d '`' | sort -u | while read -r word; do
		grep -q "\"$word\"" proxy/service/metrics_text.c || echo "documents: there is no metric $word"
	done
}

man_options() { grep -oE -- '--[a-z][a-z-]*' | sort -u; }

# A man page names the options that the program's own help does, and no others.
check_man() { # PAGE SOURCE
	local only
	only=$(comm -3 <(sed '/^\.SH EXAMPLE/,/^\.SH/d; s/\\-/-/g' "$1" | man_options) \
		<(grep -E '^[[:space:]]*(fputs\()?"' "$2" | man_options) |
		tr -d '\t' | tr '\n' ' ')
	[ -z "$only" ] || echo "$1, $2: only one of them has $only"
}

check_targets() {
	local doc target
	for doc in $docs; do
		grep -ohE '(`|^    |^)make [a-z-]+' "$doc" | sed 's/.*make //; s/^unit-.*/unit-%/' |
			sort -u | while read -r target; do
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

check_mans() {
	check_man docs/man/sidetrack.8 proxy/main.c
	check_man docs/man/sidetrackctl.1 proxy/tools/sidetrackctl.c
	check_man docs/man/sidetrack-run.1 preload/run.c
}

bad=$(check_paths; check_names; check_mans; check_targets; check_conf)
if [ -n "$bad" ]; then
	echo "$bad"
	exit 1
fi
