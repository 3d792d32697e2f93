#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Every #include in proxy/ points to a lower layer (or stays in its own), as proxy/README.md draws them.
cd "$(dirname "$0")/../.." || exit 1
bad=$(grep -rn '^[[:space:]]*#[[:space:]]*include "' proxy | awk -F: '
	BEGIN {
		split("tbl 0 base 1 mysql 2 sql 2 net 3 cluster 4 cache 4 session 5 service 6 tools 7 main.c 7", w, " ")
		for (i = 1; i in w; i += 2)
			rank[w[i]] = w[i + 1]
	}
	{
		split($1, from, "/")
		split($3, quoted, "\"")
		split(quoted[2], to, "/")
		if (!(from[2] in rank) || !(to[1] in rank))
			print $0 ": a layer that is not known"
		else if (from[2] != to[1] && rank[to[1]] >= rank[from[2]] && !(from[2] == "cache" && quoted[2] == "cluster/catalog.h"))
			print $0 ": " from[2] " may not include " to[1]
	}')
if [ -n "$bad" ]; then
	echo "$bad"
	exit 1
fi
