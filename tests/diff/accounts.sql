-- The accounts of make diff, at both primaries, as root, once. Each run of a script has one of its own, so that the
-- proxy has no connection for it yet: what a script does does not depend on what ran before. u000 to u199 are alike.
CREATE USER keeper IDENTIFIED BY 'lab-diff';
GRANT ALL ON d.* TO keeper WITH GRANT OPTION;
GRANT ALL ON d2.* TO keeper;
GRANT ALL ON d3.* TO keeper;
CREATE ROLE r_d;
GRANT ALL ON d3.* TO r_d;
DELIMITER //
BEGIN NOT ATOMIC
	FOR i IN 0..199 DO
		EXECUTE IMMEDIATE CONCAT('CREATE USER u', LPAD(i, 3, '0'), ' IDENTIFIED BY ''lab-diff''');
		EXECUTE IMMEDIATE CONCAT('GRANT ALL ON d.* TO u', LPAD(i, 3, '0'));
		EXECUTE IMMEDIATE CONCAT('GRANT ALL ON d2.* TO u', LPAD(i, 3, '0'));
		EXECUTE IMMEDIATE CONCAT('GRANT r_d TO u', LPAD(i, 3, '0'));
	END FOR;
END //
DELIMITER ;
