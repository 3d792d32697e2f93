<?php
/* SPDX-License-Identifier: Apache-2.0
 *
 * A legacy application's process, as a dozen old services have them: plain mysqli or PDO, one database in its DSN, no
 * idea of replicas or caches. Checks access tokens (mostly a hot set), serves pages, logs members in and out, and
 * believes what it reads: an answer that contradicts what it has just written is counted as wrong.
 *
 *	php legacy.php KIND HOST PORT USER PASSWORD DB TOKENS RATE
 *
 * KIND: text (mysqli), prepared (mysqli), pdo (native prepared), page (a connection a page). RATE: actions a second.
 * Each second prints: time, statements, wrong answers, errors, then latencies as bucket:count (see bucket()).
 */
[, $kind, $host, $port, $user, $password, $db, $tokens, $rate] = $argv;
mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);

const HOT = 200; // tokens that nine of ten checks ask for
const CHECK = 'SELECT member_id, scope, expires_at FROM access_token WHERE token = ? AND revoked = 0 AND expires_at > NOW()';

/* Each class is one way of talking to the database; query() returns the rows of a SELECT, [] for anything else. */
abstract class Client
{
	abstract function query(string $sql, array $values = []): array;
	function page_begins(): void {}
	function page_ends(): void {}
}

class TextClient extends Client
{
	protected ?mysqli $link = null;

	function query(string $sql, array $values = []): array
	{
		$this->link ??= $this->connect();
		foreach ($values as $value)
			$sql = substr_replace($sql, "'" . $this->link->real_escape_string($value) . "'", strpos($sql, '?'), 1);
		$result = $this->link->query($sql);
		return $result instanceof mysqli_result ? $result->fetch_all(MYSQLI_ASSOC) : [];
	}

	protected function connect(): mysqli
	{
		global $host, $port, $user, $password, $db;
		$link = new mysqli($host, $user, $password, $db, (int)$port);
		$link->set_charset('utf8mb4');
		return $link;
	}
}

class PreparedClient extends TextClient
{
	private array $statements = [];

	function query(string $sql, array $values = []): array
	{
		$this->link ??= $this->connect();
		$this->statements[$sql] ??= $this->link->prepare($sql);
		$this->statements[$sql]->execute($values);
		$result = $this->statements[$sql]->get_result();
		return $result instanceof mysqli_result ? $result->fetch_all(MYSQLI_ASSOC) : [];
	}
}

class PageClient extends TextClient
{
	function page_begins(): void
	{
		$this->link = $this->connect();
	}

	function page_ends(): void
	{
		$this->link->close();
		$this->link = null;
	}
}

class PdoClient extends Client
{
	private ?PDO $pdo = null;

	function query(string $sql, array $values = []): array
	{
		global $host, $port, $user, $password, $db;
		$this->pdo ??= new PDO("mysql:host=$host;port=$port;dbname=$db;charset=utf8mb4", $user, $password,
			[PDO::ATTR_EMULATE_PREPARES => false, PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
		$statement = $this->pdo->prepare($sql);
		$statement->execute($values);
		return $statement->columnCount() > 0 ? $statement->fetchAll(PDO::FETCH_ASSOC) : [];
	}
}

/* Buckets grow by a tenth: a quantile is right within five per cent. */
function bucket(float $microseconds): int
{
	return (int)floor(log(max(1, $microseconds)) / log(1.1));
}

class Report
{
	private array $buckets = [];
	private int $statements = 0;
	public int $wrong = 0, $errors = 0;
	private float $next;

	function __construct()
	{
		$this->next = floor(microtime(true)) + 1;
	}

	function took(float $microseconds): void
	{
		$this->statements++;
		$b = bucket($microseconds);
		$this->buckets[$b] = ($this->buckets[$b] ?? 0) + 1;
	}

	function flush(): void
	{
		if (microtime(true) < $this->next)
			return;
		$line = sprintf('%d %d %d %d', $this->next, $this->statements, $this->wrong, $this->errors);
		foreach ($this->buckets as $b => $n)
			$line .= " $b:$n";
		echo $line, "\n";
		$this->buckets = [];
		$this->statements = $this->wrong = $this->errors = 0;
		$this->next = floor(microtime(true)) + 1;
	}
}

class Application
{
	private array $mine = []; // tokens that this process gave out

	function __construct(private Client $client, private Report $report, private int $tokens) {}

	private function query(string $sql, array $values = []): array
	{
		$begin = hrtime(true);
		$rows = $this->client->query($sql, $values);
		$this->report->took((hrtime(true) - $begin) / 1000);
		return $rows;
	}

	private function any_token(): string
	{
		return md5('token-' . (mt_rand(1, 10) < 10 ? mt_rand(1, HOT) : mt_rand(1, $this->tokens)));
	}

	private function expect(bool $right): void
	{
		if (!$right)
			$this->report->wrong++;
	}

	private function check(): void
	{
		if ($this->mine && mt_rand(1, 4) == 1)
			$this->expect(count($this->query(CHECK, [$this->mine[array_rand($this->mine)]])) == 1);
		else
			$this->query(CHECK, [$this->any_token()]);
	}

	private function log_in(): void
	{
		$token = bin2hex(random_bytes(16));
		$this->expect($this->query(CHECK, [$token]) == []);
		$this->query('INSERT INTO access_token (token, member_id, expires_at) VALUES (?, ?, NOW() + INTERVAL 1 HOUR)',
			[$token, (string)mt_rand(1, 20000)]);
		$this->expect(count($this->query(CHECK, [$token])) == 1);
		$this->mine[] = $token;
	}

	private function log_out(): void
	{
		$token = array_pop($this->mine);
		if ($token === null)
			return;
		if (mt_rand(0, 1))
			$this->query('DELETE FROM access_token WHERE token = ?', [$token]);
		else
			$this->query('UPDATE access_token SET revoked = 1 WHERE token = ?', [$token]);
		$this->expect($this->query(CHECK, [$token]) == []);
	}

	private function page(): void
	{
		$id = (string)mt_rand(1, 2000);
		$this->check();
		$member = $this->query('SELECT id, name, email FROM members WHERE id = ?', [(string)mt_rand(1, 20000)]);
		$this->query('SELECT id, title, views FROM articles WHERE member_id = ? ORDER BY id DESC LIMIT 10', [$member[0]['id']]);
		$this->query('SELECT title, body FROM articles WHERE id = ?', [$id]);
		if (mt_rand(1, 10) == 1)
			$this->query('UPDATE articles SET views = views + 1 WHERE id = ?', [$id]);
	}

	/* One in fifty logs in or out, one in ten is a page, the others are bare token checks: what services do all day. */
	function act(bool $pages_only): void
	{
		$what = mt_rand(1, 100);
		if ($what == 1)
			$this->log_in();
		else if ($what == 2)
			$this->log_out();
		else if ($what <= 12 || $pages_only)
			$this->page();
		else
			$this->check();
	}
}

$new_client = ['text' => fn() => new TextClient, 'prepared' => fn() => new PreparedClient, 'pdo' => fn() => new PdoClient,
	'page' => fn() => new PageClient][$kind];
$report = new Report;
$client = $new_client();
$application = new Application($client, $report, (int)$tokens);
$due = microtime(true);
while (true) {
	try {
		$client->page_begins();
		$application->act($kind == 'page');
		$client->page_ends();
	} catch (mysqli_sql_exception | PDOException $e) {
		fprintf(STDERR, "%s\n", $e->getMessage());
		$report->errors++;
		usleep(100000);
		$client = $new_client();
		$application = new Application($client, $report, (int)$tokens);
	}
	$report->flush();
	$due = max($due + 1 / $rate, microtime(true) - 0.1); // a short stall is made up for, a long one is not
	usleep((int)max(0, ($due - microtime(true)) * 1e6));
}
