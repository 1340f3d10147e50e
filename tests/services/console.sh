#!/usr/bin/env bash
# A shop's console that knows one command: publish:trigger-events -r RESOURCE -i IDS. It regenerates the rows of those
# entities in the database, and writes to Redis what changed: an unchanged row sends nothing. Rows of an entity may lie
# anywhere in the table, also behind a cursor that went by.
set -euo pipefail
[ "$1 $2 $4" = "publish:trigger-events -r -i" ] || { echo "Command \"$1\" is not defined." >&2; exit 1; }
table=$3 ids=$5
echo "begin $ids" >>"$CONSOLE_LOG"
echo "pid $$" >>"$CONSOLE_LOG"
case ${CONSOLE_MODE:-} in
  refuse) echo "the shop's password is geheim-4711" >&2; exit 3 ;;
  hang) sleep 600 ;;
esac
# Its database is away as long as this file is there.
if [ -n "${CONSOLE_DOWN:-}" ] && [ -e "$CONSOLE_DOWN" ]; then
  echo "SQLSTATE[HY000] [2002] Connection refused" >&2
  exit 1
fi
sql() { mariadb --no-defaults -h127.0.0.1 -P"$CONSOLE_PORT" -uapp -papp-pw -N -B -r "$CONSOLE_DATABASE"; }
fresh="CONCAT('{\"id\":', id, ',\"hash\":\"c4naRy', LEFT(MD5(id + 1), 26), '\"}')"
# Nobody works on its queues: rows are regenerated, and what was sent arrives nowhere.
if [ "${CONSOLE_MODE:-}" = silent ]; then send() { cat >/dev/null; }; else send() { redis-cli -p "$CONSOLE_REDIS_PORT" --pipe; }; fi
sql <<SQL | send >>"$CONSOLE_LOG"
CREATE TEMPORARY TABLE changed AS
  SELECT id FROM $table WHERE fk IN ($ids) AND fk NOT IN (${CONSOLE_HOPELESS:--1}) AND NOT data <=> $fresh;
UPDATE $table JOIN changed USING (id) SET data = $fresh;
SELECT CONCAT('SET kv:', \`key\`, ' \'', data, '\'') FROM $table JOIN changed USING (id);
SQL
echo "end $ids" >>"$CONSOLE_LOG"
