<?php
/* SPDX-License-Identifier: Apache-2.0
 *
 * What `make run` shows: moves the proxy through its modes by editing its file and SIGHUP, prints a line each second
 * from its /metrics, and in the end the three modes side by side, with latencies as the clients saw them.
 *
 *	php show.php CONF PROXY_PID METRICS_URL CLIENT_LOGS SECONDS        (0 seconds: until SIGINT or SIGTERM)
 */
[, $conf, $proxy_pid, $url, $client_logs, $seconds] = $argv;
const MODES = ['observe', 'split', 'cache'];
const PHASE = 10; // seconds of observe and of split when there is no end

pcntl_async_signals(true);
$stop = false;
foreach ([SIGINT, SIGTERM, SIGHUP] as $signal)
	pcntl_signal($signal, function () use (&$stop) { $stop = true; });

/* One reading of /metrics: [name{labels} => number]. */
function read_metrics(string $url): array
{
	$found = [];
	$context = stream_context_create(['http' => ['timeout' => 2]]);
	foreach (explode("\n", (string)@file_get_contents($url, false, $context)) as $line)
		if ($line !== '' && $line[0] !== '#' && ($at = strrpos($line, ' ')) !== false)
			$found[substr($line, 0, $at)] = (float)substr($line, $at + 1);
	return $found;
}

function labels(string $sample): array
{
	preg_match_all('/(\w+)="([^"]*)"/', $sample, $m);
	return array_combine($m[1], $m[2]);
}

/* What happened between two readings: statements by place, cache requests by result, latency buckets. */
function difference(array $before, array $after): array
{
	$d = ['place' => ['cache' => 0], 'cache' => ['hit' => 0, 'miss' => 0, 'bypass' => 0], 'le' => []];
	foreach ($after as $sample => $number) {
		$name = strtok($sample, '{');
		$l = labels($sample);
		$grown = $number - ($before[$sample] ?? 0);
		if ($name == 'sidetrack_statements_total') {
			$place = $l['route'] == 'cache' ? 'cache' : $l['server'];
			$d['place'][$place] = ($d['place'][$place] ?? 0) + $grown;
		} else if ($name == 'sidetrack_cache_requests_total') {
			$d['cache'][$l['result']] += $grown;
		} else if ($name == 'sidetrack_statement_seconds_bucket') {
			$d['le'][$l['le']] = ($d['le'][$l['le']] ?? 0) + $grown;
		}
	}
	return $d;
}

function time_text(?float $seconds): string
{
	if ($seconds === null)
		return '-';
	return $seconds < 0.001 ? sprintf('%d µs', $seconds * 1e6) : sprintf('%.1f ms', $seconds * 1e3);
}

/* From cumulative buckets, as Prometheus' histogram_quantile(): linear within a bucket. */
function quantile(array $le, float $q): ?float
{
	$all = $le['+Inf'] ?? 0;
	unset($le['+Inf']);
	uksort($le, fn($a, $b) => (float)$a <=> (float)$b);
	$bound = $below = 0;
	foreach ($le as $next => $n) {
		if ($all > 0 && $n >= $q * $all)
			return $bound + ((float)$next - $bound) * ($q * $all - $below) / ($n - $below);
		[$bound, $below] = [(float)$next, $n];
	}
	return null;
}

function hit_text(array $cache): string
{
	$asked = array_sum($cache);
	return $asked > 0 ? sprintf('%.1f %%', 100 * $cache['hit'] / $asked) : '-';
}

function pad(string $text, int $width): string
{
	return str_repeat(' ', max(0, $width - iconv_strlen($text))) . $text;
}

function live_line(float $t, string $mode, array $d, float $span, array $places): string
{
	$line = sprintf('%4d s  %-7s', $t, $mode);
	foreach ($places as $place)
		$line .= sprintf('  %s %5d/s', $place, ($d['place'][$place] ?? 0) / $span);
	return $line . '  hits ' . pad(hit_text($d['cache']), 6) . '  p50 ' . pad(time_text(quantile($d['le'], 0.5)), 7)
		. '  p99 ' . pad(time_text(quantile($d['le'], 0.99)), 7);
}

/* The clients' own lines (legacy.php) between two times, summed. */
function client_sums(string $logs, float $from, float $to): array
{
	$sum = ['statements' => 0, 'wrong' => 0, 'errors' => 0, 'buckets' => []];
	foreach (glob($logs) as $file) {
		foreach (file($file) as $line) {
			$words = explode(' ', trim($line));
			if (count($words) < 4 || $words[0] - 1 < $from || $words[0] > $to)
				continue;
			foreach (['statements', 'wrong', 'errors'] as $i => $what)
				$sum[$what] += (int)$words[$i + 1];
			foreach (array_slice($words, 4) as $word) {
				[$bucket, $n] = explode(':', $word);
				$sum['buckets'][$bucket] = ($sum['buckets'][$bucket] ?? 0) + $n;
			}
		}
	}
	return $sum;
}

function client_quantile(array $buckets, float $q): ?float
{
	ksort($buckets);
	$left = $q * array_sum($buckets);
	foreach ($buckets as $bucket => $n)
		if (($left -= $n) <= 0)
			return 1.1 ** ($bucket + 0.5) / 1e6;
	return null;
}

function print_row(string $name, array $cells): void
{
	echo '  ', $name, str_repeat(' ', max(0, 38 - iconv_strlen($name)));
	foreach ($cells as $cell)
		echo pad($cell, 12);
	echo "\n";
}

function print_summary(array $phases, array $places, string $client_logs): void
{
	$clients = array_map(fn($p) => client_sums($client_logs, $p['from'], $p['to']), $phases);
	$span = array_map(fn($p) => max(0.001, $p['to'] - $p['from']), $phases);
	$d = array_map(fn($p) => difference($p['before'], $p['after']), $phases);
	echo "\n";
	print_row('', array_column($phases, 'mode'));
	foreach ($places as $place)
		print_row("statements/s at $place", array_map(fn($x, $s) => sprintf('%d', ($x['place'][$place] ?? 0) / $s), $d, $span));
	print_row('cache hits', array_map(fn($x) => hit_text($x['cache']), $d));
	foreach (['p50' => 0.5, 'p99' => 0.99] as $name => $q)
		print_row("$name as the application saw it", array_map(fn($c) => time_text(client_quantile($c['buckets'], $q)), $clients));
	print_row('wrong answers', array_map(fn($c) => (string)$c['wrong'], $clients));
	print_row('errors', array_map(fn($c) => (string)$c['errors'], $clients));
}

function set_mode(string $conf, int $proxy_pid, string $mode): void
{
	file_put_contents($conf, preg_replace('/^mode\s*=.*$/m', "mode = $mode", file_get_contents($conf)));
	posix_kill($proxy_pid, SIGHUP);
}

/* Primary first, then the replicas, the cache last. */
function places(array $metrics): array
{
	$servers = [];
	foreach (array_keys($metrics) as $sample)
		if (strtok($sample, '{') == 'sidetrack_server_up')
			$servers[] = labels($sample)['server'];
	sort($servers);
	return [...$servers, 'cache'];
}

$begin = microtime(true);
$phases = [];
$last = read_metrics($url);
$last_time = $begin;
$places = places($last);
$parent = posix_getppid();
while (!$stop && posix_kill((int)$proxy_pid, 0) && posix_getppid() == $parent) {
	$t = microtime(true) - $begin;
	if ($seconds > 0 && $t >= $seconds)
		break;
	$step = min(2, (int)floor($t / ($seconds > 0 ? $seconds / 3 : PHASE)));
	if ($step >= count($phases)) {
		if ($step > 0)
			set_mode($conf, (int)$proxy_pid, MODES[$step]);
		$phases[] = ['mode' => MODES[$step], 'from' => microtime(true), 'before' => read_metrics($url)];
	}
	usleep((int)(1e6 * max(0.05, min(1, $seconds > 0 ? $seconds - $t : 1))));
	$now = read_metrics($url);
	$now_time = microtime(true);
	echo live_line($now_time - $begin, MODES[$step], difference($last, $now), $now_time - $last_time, $places), "\n";
	$phases[$step] = ['after' => $now, 'to' => $now_time] + $phases[$step];
	[$last, $last_time] = [$now, $now_time];
}
print_summary($phases, $places, $client_logs);
