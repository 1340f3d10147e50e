//! Text keys: an idle walker gets a part of what another one walks, and a death around the cut loses nothing.

use serde_json::Value;

use crate::shop::{PLAN, Shop, resource};

const ROWS: u64 = 40_000;
const DEFAULTS: &str =
    "defaults:\n  chunk: { rows: 100 }\n  parallel: { resources: 1, partitions: 3 }\n";

async fn shop(name: &str) -> Shop {
    let mut shop = Shop::open(name).await;
    shop.database
        .execute(format!(
            "CREATE TABLE url (shop INT NOT NULL, fk INT, path VARCHAR(190) CHARACTER SET latin1 NOT NULL, `key` VARBINARY(255), \
             data LONGBLOB, PRIMARY KEY (path, shop)); \
             INSERT INTO url SELECT seq % 3, seq, CONCAT('/de/product-', MD5(seq)), CONCAT('url:', seq), \
             CONCAT('{{\"id\":', seq, '}}') FROM seq_1_to_{ROWS}; ANALYZE TABLE url"
        ))
        .await;
    shop.plan(
        &resource("url").replace("cursor: [id]", "cursor: [path, shop]"),
        DEFAULTS,
    );
    shop.database.count_rows_read().await;
    shop
}

fn partitions(status: &Value) -> Vec<Value> {
    let partitions = status["resources"][0]["partitions"].as_array();
    partitions.cloned().unwrap_or_default()
}

#[tokio::test]
async fn idle_walkers_get_a_part_of_a_text_key_and_nothing_is_read_twice() {
    let mut shop = shop("share").await;
    let before = shop.database.rows_read("url").await;
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    shop.database.wait_until_alone().await;
    let read = shop.database.rows_read("url").await - before;
    assert!(read <= ROWS * 11 / 10, "{read} rows read for {ROWS}");
    shop.assert_redis_equals(&["url"]).await;

    let partitions = partitions(&shop.status());
    assert!(partitions.len() >= 3, "{partitions:?}");
    let rows: Vec<u64> = partitions
        .iter()
        .map(|one| one["rows"].as_u64().expect("rows"))
        .collect();
    assert_eq!(rows.iter().sum::<u64>(), ROWS);
    let most = rows.iter().max().copied().unwrap_or(0);
    assert!(most < ROWS * 3 / 4, "one walker did almost all: {rows:?}");
}

#[tokio::test]
async fn a_death_around_a_cut_leaves_each_row_in_one_partition() {
    for point in ["before_cut", "after_cut"] {
        let mut shop = shop(point).await;
        // Its parent starts it again, and it dies again at the same place of each attempt.
        let died = shop
            .start_failing(&format!("run {PLAN}"), &format!("{point}:1:kill"))
            .finish();
        let history = shop.rekindle(&format!("history {PLAN} --json"));
        let attempts = history.exits(0).json()[0][0]["attempts"].as_u64();
        assert!(attempts >= Some(2), "{point} was never met: {attempts:?}");
        if died.code != Some(0) {
            shop.rekindle(&format!("run {PLAN}")).exits(0);
        }
        shop.assert_redis_equals(&["url"]).await;
        let left = partitions(&shop.status());
        let rows = left.iter().filter_map(|one| one["rows"].as_u64());
        assert_eq!(rows.sum::<u64>(), ROWS, "{point}: {left:?}");
        if point == "after_cut" {
            assert!(left.len() > 1, "{left:?}");
        }
    }
}
