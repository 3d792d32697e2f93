# SPDX-License-Identifier: Apache-2.0
use strict;
use DBI;

my $db = DBI->connect("DBI:$ARGV[2]:database=app;host=$ARGV[0];port=$ARGV[1]", 'app', 'lab-app', {RaiseError => 1});
my $sum = 0;
$sum += ($db->selectrow_array('SELECT member_id FROM access_token WHERE token = ?', undef, '13af16a2186686e926fe14255668ab01'))[0] for 1 .. 20;
$sum += ($db->selectrow_array("SELECT id FROM members WHERE id = $_"))[0] for 1 .. 10;
$db->do("UPDATE articles SET title = 'x' WHERE id = 1");
print "sum $sum\n";
