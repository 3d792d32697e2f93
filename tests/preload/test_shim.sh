#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The shim and sidetrack-run with small programs that connect in every way that programs do (probe.c), against small
# servers that say who they are (greeter.c). Prints TAP.
#   test_shim.sh [SUPERVISOR]     another build of sidetrack-run, with sanitizers, for what runs under seccomp
# shellcheck disable=SC2086,SC2016  # $mode and $way are single words, $opts is several; '$$' is the program's own
set -u
cd "$(dirname "$0")/../.." || exit 1
build=$PWD/build aids=$PWD/build/preload run=$build/sidetrack-run supervisor=$PWD/${1-build/sidetrack-run}
work=$(mktemp -d) || exit 1
unset "${!SIDETRACK_@}" LD_PRELOAD
count=0 failed=0 servers="" pub=""

result() { # ok|"not ok" TEXT
	count=$((count + 1))
	[ "$1" = ok ] || failed=$((failed + 1))
	echo "$1 $count - $2"
}

skip() { echo "# skipped: $1"; }

is() { # TEXT WANTED GOT
	if [ "$2" = "$3" ]; then result ok "$1"; else
		result "not ok" "$1"
		printf '#   wanted: %s\n#   got:    %s\n' "$2" "$3"
	fi
}

start_greeter() { # SPEC...: sets the address of each name in a variable of that name
	local out=$work/greeter.$RANDOM$RANDOM name address lines=$#
	: >"$out"
	# shellcheck disable=SC2034  # is only held open
	exec {feed}> >(exec "$aids/greeter" "$@" >"$out") # it ends with this script, whatever happens
	servers=$!
	until [ "$(wc -l <"$out" 2>/dev/null || echo 0)" = "$lines" ]; do sleep 0.05; done
	while read -r name address; do printf -v "${name//[^a-z0-9]/}" %s "$address"; done <"$out"
}

stop_greeters() {
	kill "$servers"
	wait "$servers" 2>/dev/null
}
trap 'stop_greeters; rm -rf "$work" "$pub"' EXIT

probe() { # MODE PROBE-ARGS...: the line that it prints. Options of sidetrack-run are in $opts, the proxy in $to
	local mode=$1
	shift
	case $mode in
	preload) timeout 60 "$run" --mode preload --to "$to" $opts -- "$aids/probe" "$@" 2>&1 ;;
	musl) timeout 60 "$run" --mode preload --to "$to" $opts -- "$aids/probe-musl" "$@" 2>&1 ;;
	seccomp) timeout 60 "$supervisor" --mode seccomp --to "$to" $opts -- "$aids/probe" "$@" 2>&1 ;;
	static) timeout 60 "$supervisor" --to "$to" $opts -- "$aids/probe-static" "$@" 2>&1 ;;
	esac
}

peer() { # MODE WANTED: what getpeername() says of a redirected connection
	case $1 in preload | musl) echo "$2" ;; *) echo "${to_seen:-$to}" ;; esac
}

reaches() { # TEXT SERVER MODE WAY ADDRESS
	is "$3: $1" "$2 peer $(peer $3 "$5")" "$(probe $3 $4 "$5")"
}

greeted() { # TEXT GREETING MODE WAY ADDRESS
	is "$3: $1" "$2" "$(probe $3 $4 "$5" | sed 's/ peer .*//')"
}

first_word() { cut -d' ' -f1; }

real="" real6="" proxy="" proxy6="" head="" head6="" hung=""
start_greeter real=127.0.0.1:0 "real6=[::1]:0" proxy=127.0.0.1:0 "proxy6=[::1]:0" head!=127.0.0.1:0 \
	"head6!=[::1]:0" hung?=127.0.0.1:0 realsock="$work/real.sock" proxysock="$work/proxy.sock" \
	headsock!="$work/head.sock"
realsock=$work/real.sock proxysock=$work/proxy.sock headsock=$work/head.sock
dead=127.0.0.1:1
modes="preload seccomp static"
if [ -x "$aids/probe-musl" ] && [ -e /lib/ld-musl-x86_64.so.1 ]; then modes="$modes musl"; else skip "no musl here"; fi

# 1. Every way to connect
to=$proxy opts="--match $real"
for mode in $modes; do
	for way in block poll select epoll epoll-first again sendto sendmsg dup signal thread fork vfork reuse \
		options; do
		reaches "$way" proxy $mode $way "$real"
	done
	is "$mode: a datagram socket is left alone" "udp peer $real" "$(probe $mode udp "$real")"
	is "$mode: errors are the kernel's" "errors right" "$(probe $mode errors "$real")"
	is "$mode: another address is left alone" "real6 peer $real6" "$(probe $mode poll "$real6")"
	is "$mode: before main" "proxy peer $(peer $mode "$real")" "$(PROBE_EARLY=$real probe $mode)"
done
is "getpeername() tells the truth when asked to" "proxy peer $proxy" \
	"$(opts="$opts --no-peername" probe preload block "$real")"

# 2. Families
for mode in $modes; do
	opts="--match *:${real##*:} --match [::1]:${real6##*:} --match $realsock"
	to=$proxy6 to_seen=$proxy6
	reaches "IPv4 to an IPv6 proxy" proxy6 $mode block "$real"
	reaches "the same, not blocking" proxy6 $mode poll "$real"
	reaches "the same, options kept" proxy6 $mode options "$real"
	to=$proxy to_seen="[::ffff:127.0.0.1]:${proxy##*:}"
	reaches "IPv6 to an IPv4 proxy" proxy $mode block "$real6"
	reaches "the same, not blocking" proxy $mode epoll-first "$real6"
	mapped="[::ffff:127.0.0.1]:${real##*:}"
	reaches "an IPv4-mapped address" proxy $mode poll "$mapped"
	to_seen=$proxy
	reaches "a unix socket to a TCP proxy" proxy $mode block "$realsock"
	reaches "the same, not blocking" proxy $mode poll "$realsock"
	to=$proxysock to_seen=$proxysock
	reaches "a unix socket to another" proxysock $mode block "$realsock"
	reaches "TCP to a unix socket" proxysock $mode block "$real"
done
unset to_seen

# 3. Rules
to=$proxy
for mode in $modes; do
	for rule in "127.0.0.0/8:${real##*:}" "*:${real##*:}" "10.0.0.5:3306,$real" "localhost:${real##*:}"; do
		opts="--match $rule"
		reaches "--match $rule" proxy $mode block "$real"
	done
	opts="--match 127.0.0.2:${real##*:} --match /nowhere.sock --match 10.0.0.0/8:${real##*:}"
	is "$mode: no rule hits" "real peer $real" "$(probe $mode block "$real")"
	opts="--match *:${proxy##*:}"
	is "$mode: the proxy's own address is no loop" "proxy peer $proxy" "$(probe $mode block "$proxy")"
done
opts="--match localhost:${real##*:}"
for mode in preload seccomp; do
	is "$mode: a name that the program looks up" proxy "$(probe $mode name "localhost:${real##*:}" | first_word)"
done
is "the library alone learns what a name means" "proxy peer 127.0.0.1:${real##*:}" \
	"$(LD_PRELOAD=$build/libsidetrack.so SIDETRACK_TO=$proxy SIDETRACK_MATCH="LocalHost:${real##*:}" \
		"$aids/probe" block "127.0.0.1:${real##*:}" 2>&1)"
is "no rule given: port 3306 is meant" 'sidetrack: connect to 127.0.0.77:3306: redirected' \
	"$(opts=--debug probe preload block 127.0.0.77:3306 | head -1)"

# 4. PROXY protocol
opts="--send-proxy --match $real --match [::1]:${real6##*:} --match $realsock"
for mode in $modes; do
	to=$head
	for way in block poll select epoll epoll-first again sendto sendmsg fork vfork; do
		greeted "--send-proxy, $way" "head! client -> $real" $mode $way "$real"
	done
	greeted "--send-proxy, unix socket wanted" "head!  -> $realsock" $mode block "$realsock"
	is "$mode: --send-proxy, IPv6 wanted" "head! [::ffff:127.0.0.1]:N -> $real6" \
		"$(probe $mode poll "$real6" | sed 's/ peer .*//; s/:[0-9]* ->/:N ->/')"
	to=$head6
	greeted "--send-proxy over IPv6" "head6! client -> [::ffff:127.0.0.1]:${real##*:}" $mode block "$real"
	to=$headsock
	greeted "--send-proxy over a unix socket" "headsock! 127.0.0.1:0 -> $real" $mode block "$real"
done

# 5. The proxy is not there
for mode in $modes; do
	for to in $dead "[::1]:1" "$work/dead.sock"; do
		for opts in "--match $real" "--match $real --send-proxy"; do
			for way in block poll again epoll-first reuse sendto; do
				is "$mode: $opts, no proxy at ${to##*/}: $way" "real peer $real" \
					"$(probe $mode $way "$real")"
			done
		done
	done
	to=$dead opts="--match $realsock"
	is "$mode: no proxy: unix socket" "realsock peer $realsock" "$(probe $mode block "$realsock")"
	opts="--strict --match $real --match $dead"
	is "$mode: --strict" "connect: Connection refused" "$(probe $mode block "$real")"
	is "$mode: --strict, not blocking" "Connection refused" "$(probe $mode poll "$real" | sed 's/.*: //')"
	to=$hung opts="--match $real"
	is "$mode: a proxy that hangs" "real peer $real" "$(probe $mode block "$real")"
	opts="--match $real --send-proxy"
	is "$mode: a proxy that hangs, not blocking, with header" "real peer $real" "$(probe $mode poll "$real")"
	to=$dead opts="--match *:1"
	is "$mode: both gone: the real error" "connect: Connection refused" "$(probe $mode block 127.0.0.9:1)"
done

# 6. Nothing else changes
to=$proxy opts="--match $real"
for mode in preload seccomp; do
	r="$run"
	[ $mode = preload ] || r=$supervisor
	going() { exec "$r" --mode $mode --to "$to" --match "$real" -- "$@"; } # for use with &
	go() { "$r" --mode $mode --to "$to" --match "$real" -- "$@"; }
	go sh -c 'exit 7'
	is "$mode: exit status" 7 $?
	( go sh -c 'kill -9 $$' ) 2>/dev/null
	is "$mode: killed by a signal" 137 $?
	is "$mode: arguments" "<a b><><*>" "$(go printf '<%s>' 'a b' '' '*')"
	is "$mode: standard input" "hello" "$(echo hello | go cat)"
	is "$mode: working directory" "$work" "$(cd "$work" && go pwd)"
	is "$mode: environment" "a=b c" "$(env -i PATH="$PATH" a="b c" "$r" --mode $mode --to "$to" -- env |
		grep -v -e ^SIDETRACK_ -e ^LD_PRELOAD -e ^PATH)"
	going sh -c 'echo $$ $PPID' >"$work/ids.$mode" &
	pid=$!
	wait $pid
	is "$mode: process and parent" "$pid $$" "$(cat "$work/ids.$mode")"
	is "$mode: no child that the program does not know of" "" \
		"$(go sh -c 'read -r x </proc/$$/task/$$/children; echo "$x"')"
	is "$mode: descriptors" "$(bash -c 'ls /proc/self/fd | wc -l')" "$(go bash -c 'ls /proc/self/fd | wc -l')"
	: >"$work/signal.$mode"
	going sh -c 'trap "echo got it; exit 3" TERM; echo up; while :; do sleep 0.05; done' >"$work/signal.$mode" &
	pid=$!
	until grep -q up "$work/signal.$mode"; do sleep 0.05; done
	kill -TERM $pid
	wait $pid
	is "$mode: a signal" "3 got it" "$? $(tail -1 "$work/signal.$mode")"
	go "$work/nothing" 2>/dev/null
	is "$mode: no such program" 127 $?
	go "$work" 2>/dev/null
	is "$mode: no program" 126 $?
	is "$mode: a child of a child" proxy "$(go sh -c "sh -c '$aids/probe block $real'" | first_word)"
	alone() { "$r" --mode $mode --no-children --to "$to" --match "$real" -- "$@" 2>&1; }
	is "$mode: --no-children" "real peer $real" "$(alone sh -c "$aids/probe block $real; :")"
	is "$mode: --no-children, the program itself" proxy "$(alone "$aids/probe" fork "$real" | first_word)"
	mkfifo "$work/orphan.$mode"
	go "$aids/probe" orphan "$real" >"$work/orphan.$mode" &
	read -r line <"$work/orphan.$mode"
	is "$mode: a daemon, after the program has ended" proxy "${line%% *}"
done
is "--no-children leaves nothing in the environment" "LD_PRELOAD=/x.so" \
	"$(LD_PRELOAD=/x.so "$run" --no-children --to "$to" -- env 2>/dev/null | grep -e ^SIDETRACK_ -e ^LD_PRELOAD)"
supervisors() { pgrep -fc -- "--match $real "; } # a program that has started does not say --match any more
for ((i = 0; i < 200; i++)); do
	[ "$(supervisors)" != 0 ] || break
	sleep 0.1
done
is "no supervisor outlives its program" 0 "$(supervisors)"

# 7. Bad input
refused() { # TEXT ARG...
	local text=$1 out
	shift
	out=$("$run" "$@" -- touch "$work/started" 2>&1)
	is "refused: $text" "2 sidetrack-run: $text" "$? $out"
}
expected="expected host:port with a port from 1 to 65535, or /path/to.sock"
refused "bad rule \"10.0.0.5:x\": $expected" --to $dead --match 10.0.0.5:x
refused 'bad rule "10.0.0.0/33": bad network' --to $dead --match 10.0.0.5:3306 --match 10.0.0.0/33
refused 'bad rule "10.0.0.999": neither an address, a network, nor a host name' --to $dead --match 10.0.0.999
refused 'bad --to "127.0.0.1:x": expected host:port, [v6]:port or /path/to.sock' --to 127.0.0.1:x
refused 'bad --mode "quick": expected auto, preload or seccomp' --to $dead --mode quick
refused '--to is missing: where is the proxy? (--help tells more)' --strict
is "nothing was started" no "$([ -e "$work/started" ] && echo yes || echo no)"
bare() { LD_PRELOAD=$build/libsidetrack.so env "$@" "$aids/probe" block "$real" 2>&1 >"$work/out" | sort -u; }
is "the library alone, a bad rule" \
	"sidetrack: bad setting \"10.0.0.5:0\": $expected: no connection is redirected" \
	"$(bare SIDETRACK_TO=$proxy SIDETRACK_MATCH="$real,10.0.0.5:0")"
is "and no redirection" "real peer $real" "$(cat "$work/out")"
is "the library alone, without variables, is silent" "" "$(bare A=b)"
is "SIDETRACK_TO and SIDETRACK_MATCH for --to and --match" "proxy peer $real" \
	"$(SIDETRACK_TO=$proxy SIDETRACK_MATCH=$real "$run" "$aids/probe" block "$real")"

# 8. In company
is "exports the interposed functions, and nothing else" "__connect connect getaddrinfo getpeername sendmsg sendto" \
	"$(nm -D --defined-only "$build/libsidetrack.so" | awk '{print $3}' | sort | xargs)"
both="counter saw ${real##*:} proxy peer $real"
is "after another library" "$both" "$(LD_PRELOAD=$aids/counter.so "$run" --to "$to" --match "$real" -- \
	"$aids/probe" block "$real" 2>&1 | sort | xargs)"
is "before another library" "counter saw ${proxy##*:} proxy peer $real" "$(
	LD_PRELOAD=$build/libsidetrack.so:$aids/counter.so SIDETRACK_TO=$proxy SIDETRACK_MATCH=$real \
		"$aids/probe" block "$real" 2>&1 | sort | xargs)"
for kind in address thread; do
	gcc -fsanitize=$kind -g -D_GNU_SOURCE -pthread -o "$work/probe-$kind" tests/preload/probe.c
	lib=$(gcc -print-file-name=lib${kind:0:1}san.so)
	for way in block poll thread fork; do
		is "under the $kind sanitizer: $way" "proxy peer $real" "$(LD_PRELOAD=$lib \
			"$run" --to "$to" --match "$real" -- setarch -R "$work/probe-$kind" $way "$real" 2>&1)"
	done
done
jemalloc=$(ldconfig -p | awk '/libjemalloc.so/ {print $NF; exit}')
if [ -n "$jemalloc" ]; then
	is "with jemalloc" "proxy peer $real" \
		"$(LD_PRELOAD=$jemalloc "$run" --to "$to" --match "$real" -- "$aids/probe" thread "$real" 2>&1)"
else skip "no jemalloc here"; fi

# 9. What kind of program
printf '#!/usr/bin/env sh\nexec %s block %s\n' "$aids/probe" "$real" >"$work/script"
chmod 755 "$work/script"
is "a script" "proxy peer $real" "$("$run" --to "$to" --match "$real" -- "$work/script")"
"$run" --mode preload --to "$to" -- "$aids/probe-static" block "$real" >"$work/out" 2>&1
is "--mode preload and a static program" "125 sidetrack-run: $aids/probe-static: statically linked" \
	"$? $(cat "$work/out")"
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	# Unprivileged, from a place that everybody can read, which $TMPDIR may not be
	pub=$(mktemp -d /tmp/st-shim.XXXXXX) && chmod 755 "$pub"
	cp "$supervisor" "$pub/sidetrack-run" && cp "$build/libsidetrack.so" "$aids/probe" "$aids/probe-static" "$pub"
	nobody="setpriv --reuid=65534 --regid=65534 --clear-groups"
	for p in probe probe-static; do
		for mode in auto seccomp; do
			is "unprivileged: $p, --mode $mode" proxy "$(cd / && $nobody "$pub/sidetrack-run" --mode $mode \
				--to "$to" --match "$real" -- "$pub/$p" fork "$real" 2>&1 | first_word)"
		done
	done
	chmod u+s "$pub/probe"
	is "unprivileged: a setuid program" \
		"sidetrack-run: $pub/probe: runs without its extra privileges proxy peer $to" \
		"$(cd / && $nobody "$pub/sidetrack-run" --to "$to" --match "$real" -- "$pub/probe" block "$real" 2>&1 |
			xargs)"
else skip "not root: nothing to give up"; fi

# 10. io_uring: not seen, and said so in docs/shim.md; --deny-io-uring makes programs fall back
ring=("$aids/uring" 127.0.0.1 "${real##*:}")
if [ "$("${ring[@]}")" = "io_uring real" ]; then
	by=("$supervisor" --mode seccomp --to "$to" --match "$real")
	is "io_uring is not seen" "io_uring real" "$("${by[@]}" -- "${ring[@]}")"
	is "--deny-io-uring" "connect proxy" "$("${by[@]}" --deny-io-uring -- "${ring[@]}")"
else skip "this kernel has no io_uring for us"; fi

# 11. A container's runtime that forbids pidfd_getfd() (438 everywhere): a new socket takes the program's place
confined() { # WAY, for the proxy $to
	timeout 60 "$aids/deny" 438 "$supervisor" --to "$to" $opts -- "$aids/probe-static" "$1" "$real" 2>&1
}
opts="--match $real"
for to in "$proxy" "$proxy6"; do
	for way in block poll epoll again signal thread fork; do
		is "without pidfd_getfd(): $way, to $to" "prox" "$(confined $way | cut -c1-4)"
	done
done
is "without pidfd_getfd(): a datagram socket is left alone" "udp peer $real" "$(confined udp)"
is "without pidfd_getfd(): errors are the kernel's" "errors right" "$(confined errors)"
to=$dead
is "without pidfd_getfd(): no proxy" "real peer $real" "$(confined block)"
is "without pidfd_getfd(): no proxy, not blocking" "real peer $real" "$(confined again)"
to=$head opts="--match $real --send-proxy"
is "without pidfd_getfd(): --send-proxy" "head! client -> $real" "$(confined poll | sed 's/ peer .*//')"
to=$proxy opts="--match $real"
if [ "$(uname -m)" = x86_64 ]; then
	blind="its supervisor may not look into it (kernel.yama.ptrace_scope, or a container's rules)"
	is "without process_vm_readv(): unredirected, and said so" \
		"sidetrack-run: $aids/probe-static: $blind; it runs without redirection real peer $real" \
		"$("$aids/deny" 310 "$supervisor" --to "$to" $opts -- "$aids/probe-static" block "$real" 2>&1 |
			tr '\n' ' ' | sed 's/ $//')"
	"$aids/deny" 310 "$run" --strict --to "$to" $opts -- touch "$work/blind" 2>/dev/null
	is "the same, --strict: preload needs none of it" "0 yes" "$? $([ -e "$work/blind" ] && echo yes)"
	"$aids/deny" 310 "$supervisor" --strict --mode seccomp --to "$to" $opts -- true 2>/dev/null
	is "the same, --strict --mode seccomp" 125 $?
fi

# 12. A proxy that dies later: the next connection finds the real destination
dies="" first=$servers
start_greeter dies=127.0.0.1:0
to=$dies
cat >"$work/twice" <<-END
	#!/bin/sh
	$aids/probe block $real
	read -r line
	$aids/probe block $real
END
chmod +x "$work/twice"
mkfifo "$work/go"
"$run" --to "$to" --match "$real" -- "$work/twice" <"$work/go" >"$work/out" &
pid=$!
exec 9>"$work/go"
until grep -q . "$work/out"; do sleep 0.05; done
stop_greeters
echo >&9
wait $pid
servers=$first
is "a proxy that dies" "dies peer $real real peer $real" "$(xargs <"$work/out")"

echo "1..$count"
[ $failed = 0 ]
