// SPDX-License-Identifier: Apache-2.0
package main

import (
	"database/sql"
	"fmt"
	"os"

	_ "github.com/go-sql-driver/mysql"
)

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func main() {
	db, err := sql.Open("mysql", "app:lab-app@tcp("+os.Args[1]+":"+os.Args[2]+")/app?interpolateParams=true")
	must(err)
	sum, v := 0, 0
	for i := 0; i < 20; i++ {
		must(db.QueryRow("SELECT member_id FROM access_token WHERE token = ?", "13af16a2186686e926fe14255668ab01").Scan(&v))
		sum += v
	}
	for i := 1; i <= 10; i++ {
		must(db.QueryRow("SELECT id FROM members WHERE id = ?", i).Scan(&v))
		sum += v
	}
	_, err = db.Exec("UPDATE articles SET title = 'x' WHERE id = 1")
	must(err)
	fmt.Println("sum", sum)
}
