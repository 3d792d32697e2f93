# SPDX-License-Identifier: Apache-2.0
import sys
import pymysql

db = pymysql.connect(host=sys.argv[1], port=int(sys.argv[2]), user="app", password="lab-app", database="app",
                     autocommit=True)
total = 0
with db.cursor() as c:
    for _ in range(20):
        c.execute("SELECT member_id FROM access_token WHERE token = %s", ("13af16a2186686e926fe14255668ab01",))
        total += c.fetchone()[0]
    for i in range(1, 11):
        c.execute("SELECT id FROM members WHERE id = %s", (i,))
        total += c.fetchone()[0]
    c.execute("UPDATE articles SET title = 'x' WHERE id = 1")
print("sum", total)
