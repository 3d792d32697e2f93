// SPDX-License-Identifier: Apache-2.0
import java.sql.*;

public class Client {
	public static void main(String[] args) throws Exception {
		int sum = 0;
		try (Connection db = DriverManager.getConnection("jdbc:mariadb://" + args[0] + ":" + args[1] + "/app", "app", "lab-app");
				PreparedStatement token = db.prepareStatement("SELECT member_id FROM access_token WHERE token = ?");
				Statement s = db.createStatement()) {
			for (int i = 0; i < 20; i++) {
				token.setString(1, "13af16a2186686e926fe14255668ab01");
				ResultSet r = token.executeQuery();
				r.next();
				sum += r.getInt(1);
			}
			for (int i = 1; i <= 10; i++) {
				ResultSet r = s.executeQuery("SELECT id FROM members WHERE id = " + i);
				r.next();
				sum += r.getInt(1);
			}
			s.executeUpdate("UPDATE articles SET title = 'x' WHERE id = 1");
		}
		System.out.println("sum " + sum);
	}
}
