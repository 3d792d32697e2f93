<?php // SPDX-License-Identifier: Apache-2.0
$db = new PDO("mysql:host=$argv[1];port=$argv[2];dbname=app", 'app', 'lab-app');
$db->setAttribute(PDO::ATTR_ERRMODE, PDO::ERRMODE_EXCEPTION);
$sum = 0;
$token = $db->prepare('SELECT member_id FROM access_token WHERE token = ?');
for ($i = 0; $i < 20; $i++) {
	$token->execute(['13af16a2186686e926fe14255668ab01']);
	$sum += $token->fetchColumn();
}
for ($i = 1; $i <= 10; $i++)
	$sum += $db->query("SELECT id FROM members WHERE id = $i")->fetchColumn();
$db->exec("UPDATE articles SET title = 'x' WHERE id = 1");
echo "sum $sum\n";
