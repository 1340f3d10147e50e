//! Entities whose ids are no plain numbers: each row that goes to its publisher is found again by what was read.

use crate::shop::Shop;

/// Gives the entities of a shop ids of another type, in columns of this one.
fn shop(column: &str, id: &str) -> Shop {
    let shop = Shop::new();
    shop.execute(&format!(
        "CREATE TABLE named (id {column} NOT NULL PRIMARY KEY); INSERT INTO named SELECT {id} FROM (SELECT id AS e FROM entity);
         ALTER TABLE t RENAME COLUMN e TO number; ALTER TABLE t ADD COLUMN e {column};
         UPDATE t SET e = (SELECT {id} FROM (SELECT number AS e));
         ALTER TABLE truth ADD COLUMN id {column}; UPDATE truth SET id = {id};"
    ));
    let anew = "DELETE FROM t WHERE e IN ({ids}); INSERT INTO t (number, e, key, data) \
         SELECT e, id, 't:' || locale || ':' || e, data FROM truth WHERE id IN ({ids})";
    let by = crate::shop::sql(anew);
    shop.plan_with(Some(&by), "ids: { table: named, column: id }", "");
    shop
}

#[test]
fn rows_are_found_by_entities_of_any_type() {
    for (column, id) in [
        ("TEXT", "'s-' || e"),
        ("BLOB", "e"),
        ("BLOB", "CAST('b' || e AS BLOB)"),
        ("BLOB", "CAST(x'fffe00' || e AS BLOB)"),
        ("", "e"),
        ("", "'t' || e"),
        ("NUMERIC", "e + 0.5"),
        ("INT", "'n' || e"),
        ("TEXT", "CAST(x'ff' || e AS BLOB)"),
    ] {
        let shop = shop(column, id);
        let said = shop.rekindle("run shop.yaml", 0);
        assert!(
            said.contains("3 of its rows are broken"),
            "{column} {id}: {said}"
        );
        shop.assert_dumped();
        shop.assert_no_dead_letters();
        // And by a retry, after somebody else moved them.
        shop.execute("UPDATE t SET data = NULL WHERE number IN (5, 77) AND key LIKE 't:en:%'");
        shop.plan(None);
        shop.rekindle("run shop.yaml", 4);
        shop.execute(
            "DELETE FROM t WHERE number = 5; INSERT INTO t (number, e, key, data) \
             SELECT e, id, 't:' || locale || ':' || e, data FROM truth WHERE e = 5",
        );
        let said = shop.rekindle("dead-letters retry shop.yaml", 4);
        assert!(
            said.contains("2 dead letters retried: 1 restored or gone from the source, 1 left"),
            "{column} {id}: {said}"
        );
        shop.assert_dumped();
    }
}
