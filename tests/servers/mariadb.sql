-- Run at every start, also by compose.yaml. One statement a line: mariadbd --init-file wants it so.
-- `app` may do all, so that a test can make users of its own who may not.
CREATE DATABASE IF NOT EXISTS app CHARACTER SET utf8mb4;
CREATE USER IF NOT EXISTS app@'%' IDENTIFIED BY 'app-pw';
CREATE USER IF NOT EXISTS app@localhost IDENTIFIED BY 'app-pw';
GRANT ALL ON *.* TO app@'%' WITH GRANT OPTION;
GRANT ALL ON *.* TO app@localhost WITH GRANT OPTION;
