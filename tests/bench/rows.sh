# Sourced by measurements: rows as a shop has them, made by the databases themselves, of any number. Backslashes are letters
# in every text here (`sql` asks MariaDB for that; PostgreSQL does it by itself).
# shellcheck shell=bash disable=SC2034

# What MariaDB and PostgreSQL both understand as a table with even integer keys.
even_keys="id BIGINT NOT NULL PRIMARY KEY, \`key\` VARCHAR(255) NOT NULL, data LONGTEXT NOT NULL"

# make TABLE COLUMNS SELECT: a MariaDB table, made anew.
make() {
  say "making $1"
  sql "SET SESSION unique_checks = 0; DROP TABLE IF EXISTS $1; CREATE TABLE $1 ($2) CHARACTER SET utf8mb4; INSERT INTO $1 $3;
    ANALYZE TABLE $1" >/dev/null || fail "the rows could not be made"
}

# url_value N: SQL of a value of `spy_url_storage`, 445 bytes in the mean, as PHP wrote it: short keys, numbers, nulls.
url_value() {
  cat <<SQL
CONCAT('{"fk_resource_categorynode":null,"fk_resource_page":null,"fk_resource_product_abstract":', $1,
  ',"fk_resource_redirect":null,"id_url":', $1, ',"url":"\/de\/ixus-', MD5(CONCAT($1, '')), '","locale_urls":[{"id_url":', $1,
  ',"fk_locale":46,"fk_resource_product_abstract":', $1, ',"url":"\/en\/ixus-285","locale_name":"en_US"},{"id_url":', $1,
  ',"fk_locale":66,"url":"\/de\/ixus-', LEFT(MD5(CONCAT($1, '')), 8), '","locale_name":"de_DE"}],"_updated":"2026-11-21 13:30:27.000000"}')
SQL
}

# product_value N: one of `spy_product_abstract_storage`, 6,120 bytes: attributes and texts.
product_value() {
  cat <<SQL
CONCAT('{"id_product_abstract":', $1, ',"sku":"', $1, '","name":"Canon IXUS ', MD5(CONCAT($1, '')), '","url":"\/de\/canon-ixus-285-', $1,
  '","attributes":{$(attributes)},"price":129.99,"description":"',
  REPEAT('Hervorragende Bilder, ganz einfach. Die Kamera zoomt 12-fach (optisch) und passt in jede Tasche; mit WLAN. ', 36),
  '","attribute_map":{"product_concrete_ids":{"a-1":', $1, ',"b-2":2},"super_attributes":{"color":["black","white"]}}}')
SQL
}

attributes() {
  local n out=
  for ((n = 0; n < 40; n++)); do out+="\"attribute_$n\":\"value $n of 40, gr\u00f6\u00dfer\","; done
  echo "${out%,}"
}

# foreign VALUE: the same as another program would write it, so that each row has to be written anew: bare slashes, blanks.
foreign() { echo "REPLACE(REPLACE($1, '\/', '/'), '\":', '\": ')"; }
