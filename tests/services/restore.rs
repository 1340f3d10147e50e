//! Every row arrives, whatever its id, key and value look like; those that cannot are named.

use std::collections::BTreeSet;

use crate::shop::{PLAN, Shop, resource};

/// Ids whose row has no value: the first and the last of the table, both sides of the hole, and some in between.
const NULL_VALUES: [u64; 6] = [
    101,
    100_100,
    105_101,
    123_456,
    (1 << 31) + 1,
    (1 << 62) + 24_999,
];

/// Ids whose row has no key.
const NULL_KEYS: [u64; 2] = [102, 1 << 62];

#[tokio::test]
async fn d2_three_hundred_thousand_rows_with_gaps_arrive_and_the_ones_that_cannot_are_named() {
    let mut shop = Shop::open("restore").await;
    shop.table("url").await;
    // The first 100 ids are missing, then 5,000 more; the rest lies around 2^31 and 2^62.
    let islands: [(u64, u64); 4] = [
        (101, 100_100),
        (105_101, 230_100),
        ((1 << 31) - 25_000, (1 << 31) + 24_999),
        (1 << 62, (1 << 62) + 24_999),
    ];
    for (first, last) in islands {
        shop.rows("url", first, last).await;
    }
    assert_eq!(
        shop.database.number("SELECT COUNT(*) FROM url").await,
        300_000
    );
    let planted = |ids: &[u64]| ids.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    let (values, keys) = (planted(&NULL_VALUES), planted(&NULL_KEYS));
    shop.database
        .execute(format!(
            "UPDATE url SET data = NULL WHERE id IN ({values}); UPDATE url SET `key` = NULL WHERE id IN ({keys})"
        ))
        .await;
    shop.table("nothing").await;
    shop.table("single").await;
    shop.rows("single", 7, 7).await;
    let tables = ["url", "nothing", "single"];
    shop.plan(&tables.map(resource).concat(), "");

    let done = shop.rekindle(&format!("run {PLAN}")).exits(4);
    assert!(
        done.stderr
            .contains("done, but 8 rows could not be restored"),
        "{done}"
    );

    let wanted = shop.wanted(&tables).await;
    assert_eq!(wanted.len(), 300_000 - 8 + 1);
    shop.assert_redis_equals(&tables).await;

    names_exactly_the_planted_rows(&shop);
}

fn names_exactly_the_planted_rows(shop: &Shop) {
    let expected: BTreeSet<(String, Option<String>)> = NULL_VALUES
        .iter()
        .map(|id| (id.to_string(), Some(format!("url:{id}"))))
        .chain(NULL_KEYS.iter().map(|id| (id.to_string(), None)))
        .collect();

    let shown = shop
        .rekindle(&format!("dead-letters show {PLAN} --json"))
        .exits(0)
        .json();
    let named: BTreeSet<_> = shown
        .iter()
        .map(|row| {
            assert_eq!(row["resource"], "url");
            let cursor = row["cursor"].as_str().expect("a cursor").to_owned();
            (cursor, row["key"].as_str().map(str::to_owned))
        })
        .collect();
    assert_eq!(named, expected);
    assert_eq!(shown.len(), expected.len(), "each of them once");

    let text = shop
        .rekindle(&format!("dead-letters show {PLAN}"))
        .exits(0)
        .stdout;
    for (id, key) in &expected {
        let lines = text
            .lines()
            .filter(|line| line.split_whitespace().any(|word| word == id));
        let lines: Vec<_> = lines.collect();
        assert_eq!(lines.len(), 1, "{id} in {text}");
        assert!(
            lines[0].contains(key.as_deref().unwrap_or("NULL")),
            "{}",
            lines[0]
        );
    }
    assert_eq!(
        text.lines().count(),
        1 + expected.len(),
        "a header and the rows: {text}"
    );

    let listed = shop
        .rekindle(&format!("dead-letters list {PLAN} --json"))
        .exits(0)
        .json();
    let count: u64 = listed[0]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|one| one["resource"] == "url")
        .filter_map(|one| one["count"].as_u64())
        .sum();
    assert_eq!(count, 8);
    let text = shop
        .rekindle(&format!("dead-letters list {PLAN}"))
        .exits(0)
        .stdout;
    assert!(
        text.contains("url") && text.contains("NULL") && !text.contains("single"),
        "{text}"
    );
}

#[tokio::test]
async fn d1_megabytes_unicode_and_binary_keys_arrive_byte_for_byte() {
    let mut shop = Shop::open("odd").await;
    shop.table("odd").await;
    let every_byte: Vec<String> = (0..=255u8).map(|byte| format!("{byte:02x}")).collect();
    let every_byte = every_byte.concat();
    let long_key = "k".repeat(255);
    shop.database
        .execute(format!(
            "INSERT INTO odd VALUES
             (1, 1, 'größe:ключ:鍵:🛒', 'wert ✓ \\'quoted\\' \"twice\"'),
             (2, 1, X'00ff0d0a2a330d0a', X'{every_byte}'),
             (3, 1, ' blanks  inside and at the end ', ''),
             (4, 1, '', 'a key of no bytes is the prefix alone'),
             (5, 1, '{long_key}', '{{}}'),
             (6, 1, 'e\u{301}', 'decomposed'), (7, 1, 'é', 'composed'),
             (8, 1, 'CASE', 'upper'), (9, 1, 'case', 'lower'), (10, 1, 'case ', 'padded'),
             (11, 1, 'rekindle:lease', 'under a prefix it is a key like any other'),
             (12, 1, X'c328', X'c328'),
             (13, 1, '{{braces}}:%d:$1', '$5\\r\\nhello\\r\\n');
             INSERT INTO odd SELECT 100 + seq, 2, CONCAT('big:', seq), REPEAT(CHAR(64 + seq), 1048576) FROM seq_1_to_20;
             INSERT INTO odd SELECT 200 + seq, 2, CONCAT('small:', seq), seq FROM seq_1_to_500;
             INSERT INTO odd SELECT 1000 + seq, 2, CONCAT('long:', seq), REPEAT(X'00ff', 524288 * seq) FROM seq_1_to_3"
        ))
        .await;
    shop.plan(&resource("odd"), "");
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    let wanted = shop.wanted(&["odd"]).await;
    assert_eq!(wanted.len(), 13 + 20 + 500 + 3);
    assert_eq!(wanted[&b"kv:long:3"[..]].len(), 3 << 20);
    shop.assert_redis_equals(&["odd"]).await;
}
