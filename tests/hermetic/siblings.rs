//! Rows that others share: a key that several rows have, a table that several resources read.

use std::fs;

use crate::shop::{Shop, sql};

/// What tells of a later row.
const NEWER: &str =
    "t: 1 key of the restored rows is one that a later row has, too, which this run did not read";

#[test]
fn an_earlier_row_that_is_restored_alone_says_that_a_later_one_has_its_key() {
    let shop = Shop::new();
    // Keys that several rows have: once with a value, once with none, which is written nowhere.
    shop.execute(
        "CREATE TABLE u (id INTEGER PRIMARY KEY, e INTEGER, key TEXT, data TEXT);
         INSERT INTO u SELECT id, e, key, data FROM t; DROP TABLE t; ALTER TABLE u RENAME TO t;
         INSERT INTO t (e, key, data) VALUES (901, 't:de:7', '{\"newer\":1}'), (902, 't:de:8', NULL), (903, 't:de:5', '{}')",
    );
    shop.plan(None);
    let said = shop.rekindle("run shop.yaml --ids 7,8", 0);
    assert!(said.contains(NEWER), "{said}");
    let history = shop.rekindle("history shop.yaml --json", 0);
    let run: serde_json::Value = serde_json::from_str(history.lines().next().unwrap()).unwrap();
    let id = run["run"].as_str().or(run[0]["run"].as_str()).unwrap();
    let story = shop.rekindle(&format!("show {id} shop.yaml"), 0);
    assert!(story.contains(NEWER), "{story}");
    // Together with the later row, and where there is none, there is nothing to say.
    for ids in ["7,901", "8,9"] {
        let said = shop.rekindle(&format!("run shop.yaml --ids {ids}"), 0);
        assert!(!said.contains("a later row has"), "{said}");
    }
    shop.rekindle("run shop.yaml", 4);
    shop.execute("UPDATE t SET data = '{}' WHERE data IS NULL");
    let said = shop.rekindle("dead-letters retry shop.yaml", 0);
    assert!(said.contains(NEWER), "{said}");
}

#[test]
fn a_publisher_that_may_have_written_rows_of_another_resource_is_named() {
    let shop = Shop::new();
    let anew = "UPDATE t SET data = '{}' WHERE e IN ({ids})";
    shop.plan(Some(&sql(anew)));
    let plan = fs::read_to_string(shop.path("shop.yaml")).unwrap();
    let whole = "from: { table: t, cursor: [id], key: key, value: data, entity: e }";
    let of =
        |locale: &str| whole.replace(" }", &format!(", where: \"key LIKE 't:{locale}:%'\" }}"));
    let other = format!("  - name: en\n    {}\ndefaults:", of("en"));
    let plan = plan.replace(whole, &of("de")).replace("defaults:", &other);
    fs::write(shop.path("shop.yaml"), plan).unwrap();
    let behind = "en: the publisher of `t` may have written rows of its table anew";
    for (words, next) in [("run shop.yaml", true), ("run shop.yaml --only en", false)] {
        let said = shop.rekindle(words, 0);
        assert_eq!(said.contains(behind), next, "{said}");
    }
    shop.assert_dumped();
}
