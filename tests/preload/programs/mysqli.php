<?php // SPDX-License-Identifier: Apache-2.0
mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);
$db = new mysqli($argv[1], 'app', 'lab-app', 'app', (int) $argv[2]);
$sum = 0;
for ($i = 0; $i < 20; $i++)
	$sum += $db->query(
		"SELECT member_id FROM access_token WHERE token = '13af16a2186686e926fe14255668ab01'")->fetch_row()[0];
for ($i = 1; $i <= 10; $i++)
	$sum += $db->query("SELECT id FROM members WHERE id = $i")->fetch_row()[0];
$db->query("UPDATE articles SET title = 'x' WHERE id = 1");
echo "sum $sum\n";
