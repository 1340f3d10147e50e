//! Rows with more keys than their own: restored with the row, wherever that goes and however it gets there.

use std::collections::HashMap;

use crate::{
    redis_cluster::RedisCluster,
    shop::{PLAN, Running, Shop, assert_same},
};

const ROWS: u64 = 600;

/// What Redis holds, by key.
type Content = HashMap<Vec<u8>, Vec<u8>>;

/// A table with an alias for each row, and a key that leads to every third one.
async fn shop(name: &str) -> Shop {
    let mut shop = Shop::open(name).await;
    shop.database
        .execute(format!(
            "CREATE TABLE card (id BIGINT NOT NULL PRIMARY KEY, fk INT NOT NULL UNIQUE, `key` VARCHAR(99), data TEXT, \
             more VARCHAR(255), other VARCHAR(99)); \
             INSERT INTO card SELECT seq, seq, CONCAT('card:', seq), CONCAT('{{\"id\":', seq, '}}'), \
             CONCAT('{{\"card:code:', seq, '\":{{\"id\":', seq, '}}}}'), IF(seq % 3 = 0, CONCAT('card:old:', seq), NULL) \
             FROM seq_1_to_{ROWS}"
        ))
        .await;
    shop
}

fn plan(shop: &Shop, more: &str) {
    let resource = "  - name: card\n    from: { table: card, cursor: [id], key: key, value: data, entity: fk, aliases: more, \
                    mapping_key: other }\n    to: storage\n";
    shop.plan(&format!("{resource}{more}"), "");
}

/// Returns what the tables say, with the rows `mended` as their publisher builds them.
fn wanted(mended: impl Fn(u64) -> bool) -> Content {
    let pair = |key: String, value: String| (format!("kv:{key}").into_bytes(), value.into_bytes());
    (1..=ROWS)
        .flat_map(|id| {
            let data = if mended(id) {
                "{\"mended\":1}".to_owned()
            } else {
                format!("{{\"id\":{id}}}")
            };
            let own = pair(format!("card:{id}"), data);
            let alias = pair(format!("card:code:{id}"), format!("{{\"id\":{id}}}"));
            let old = pair(
                format!("card:old:{id}"),
                format!("{{\"key\":\"card:{id}\"}}"),
            );
            [Some(own), Some(alias), id.is_multiple_of(3).then_some(old)]
        })
        .flatten()
        .collect()
}

/// Past the limit of dead letters every row is compared with what Redis holds, aliases and all.
#[tokio::test]
async fn a_comparison_finds_every_key_that_differs_or_is_missing() {
    let mut shop = shop("more_keys").await;
    // A value that is NULL, aliases that are broken, a value and aliases.
    shop.database
        .execute(
            "UPDATE card SET data = NULL WHERE id IN (3, 599); UPDATE card SET more = '{\"card:code:' WHERE id IN (8, 599)",
        )
        .await;
    plan(
        &shop,
        "    fallback: { ids: { table: card, column: fk }, by: { sql: { url: \"${DATABASE_URL}\", statement: \"UPDATE card SET \
         data = '{\\\"mended\\\":1}', more = CONCAT('{\\\"card:code:', id, '\\\":{\\\"id\\\":', id, '}}') WHERE fk IN ({ids}) AND (data \
         IS NULL OR more NOT LIKE '%}')\" } } }\ndefaults: { dead_letters: { max: 1 } }\n",
    );
    for stale in [
        "SET kv:card:code:500 stale",
        "SET kv:card:old:501 {\"key\":\"card:999\"}",
        "RPUSH kv:card:code:502 x",
    ] {
        shop.redis.run(stale);
    }
    let done = shop.rekindle(&format!("run {PLAN}")).exits(0);
    done.line("goes to its publisher");
    assert_same(
        &wanted(|id| [3, 8, 599].contains(&id)),
        &shop.redis_content(),
    );
}

#[tokio::test]
async fn in_a_cluster_each_key_is_on_the_node_of_its_own_slot() {
    let shop = shop("more_keys_cluster").await;
    plan(&shop, "");
    let cluster = RedisCluster::start();
    let mut command = shop.command(&format!("run {PLAN}"));
    command.env("REDIS_URL", cluster.nodes[0].url(0));
    Running::start(command).finish().exits(0);
    assert_same(&wanted(|_| false), &cluster.content());
    let status = shop.status();
    assert_eq!(status["resources"][0]["rows"], ROWS, "{status}");
}
