// SPDX-License-Identifier: Apache-2.0
// mysql2, or Debian's node-mysql: whichever there is.
const load = (names) => { try { return require(names[0]); } catch (e) { if (names.length === 1) throw e; return load(names.slice(1)); } };
const db = load(['mysql2', 'mysql']).createConnection({ host: process.argv[2], port: +process.argv[3], user: 'app',
	password: 'lab-app', database: 'app' });
const query = (sql, args) => new Promise((ok, bad) => db.query(sql, args, (e, rows) => (e ? bad(e) : ok(rows))));
(async () => {
	let sum = 0;
	for (let i = 0; i < 20; i++)
		sum += (await query('SELECT member_id FROM access_token WHERE token = ?', ['13af16a2186686e926fe14255668ab01']))[0].member_id;
	for (let i = 1; i <= 10; i++)
		sum += (await query('SELECT id FROM members WHERE id = ?', [i]))[0].id;
	await query("UPDATE articles SET title = 'x' WHERE id = 1");
	console.log('sum ' + sum);
	db.end();
})();
