//! `plans/cutover.yaml` as it lies there, against everything that it names: MariaDB, Redis, Elasticsearch, moto, Hudson, and
//! nginx with its flag file.

use std::{path::Path, process};

use serde_json::{Value, json};

use crate::{
    front::Front,
    rds::{held, layer},
    search_server::SearchServer,
    shop::{Running, Shop, wait_until},
    support::server_url,
};

/// Rows of each table.
const ROWS: u64 = 20;

struct Cutover {
    shop: Shop,
    search: SearchServer,
    prefix: String,
    job: String,
    front: Front,
}

impl Cutover {
    async fn open() -> Self {
        layer("world", Some(json!({ "looks": 1 }))).await;
        let mut shop = Shop::open("cutover").await;
        for (table, id, fk) in [
            ("spy_url_storage", "id_url_storage", "fk_url"),
            (
                "spy_product_abstract_storage",
                "id_product_abstract_storage",
                "fk_product_abstract",
            ),
            (
                "spy_product_abstract_page_search",
                "id_product_abstract_page_search",
                "fk_product_abstract",
            ),
        ] {
            let store = if table.ends_with("_search") {
                ", store VARCHAR(4)"
            } else {
                ""
            };
            let of_store = if store.is_empty() { "" } else { ", 'DE'" };
            shop.database
                .execute(format!(
                    "CREATE TABLE {table} ({id} INT PRIMARY KEY, {fk} INT, `key` VARCHAR(255), data LONGTEXT{store});
                     INSERT INTO {table} SELECT seq, seq, CONCAT('{table}:', seq), CONCAT('{{\"id\":', seq, '}}'){of_store}
                     FROM seq_1_to_{ROWS}"
                ))
                .await;
        }
        let search = SearchServer::shared("elasticsearch");
        let prefix = format!("t_cutover_{}", process::id());
        for store in ["de", "at"] {
            let settings = json!({ "settings": { "index": { "number_of_replicas": 0 } } });
            search.must("PUT", &format!("/{prefix}_{store}_page"), &settings);
        }
        Self {
            shop,
            search,
            job: format!("rk_cutover_{}", process::id()),
            prefix,
            front: Front::start(),
        }
    }

    fn start(&self, words: &str) -> Running {
        let mut command = self.shop.command(words);
        command
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("plans/cutover.yaml"))
            .arg("--state")
            .arg(self.shop.path("state.sqlite"))
            .env("AWS_ACCESS_KEY_ID", "AKIATEST")
            .env("AWS_SECRET_ACCESS_KEY", "geheim-4711")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("RDS_ENDPOINT", server_url("RDS_ENDPOINT"))
            .env("JENKINS_URL", server_url("JENKINS_URL"))
            .env("SHOP_URL", self.front.url())
            .env("MAINTENANCE_FLAG", self.front.flag())
            .env("SEARCH_URL", self.search.url())
            .env("SEARCH_PREFIX", &self.prefix)
            .env("RESYNC_JOB", &self.job)
            .env("RESYNC", "echo resynced");
        Running::start(command)
    }

    fn status(&self) -> Value {
        let shown = self.start("status --json").finish();
        serde_json::from_str(&shown.stdout).unwrap_or(Value::Null)
    }

    /// Waits until the step of this title was begun and is not done.
    fn waits_at(&self, title: &str) -> Value {
        let mut found = Value::Null;
        wait_until(title, || {
            let status = self.status();
            let steps = status["steps"].as_array().cloned().unwrap_or_default();
            let waits = |step: &Value| step["title"] == title && step["state"] == "intent";
            found = steps
                .iter()
                .find(|step| waits(step))
                .cloned()
                .unwrap_or_default();
            !found.is_null()
        });
        found
    }

    async fn page(&self) -> u16 {
        let answer = reqwest::get(self.front.url()).await.unwrap();
        answer.status().as_u16()
    }
}

#[tokio::test]
async fn the_whole_runbook_ends_with_rows_settings_and_the_page_back() {
    let cutover = Cutover::open().await;
    let original = held("shop-db").await.unwrap();
    let dry = cutover.start("run --dry-run").finish().exits(0);
    for line in [
        "prepare: maintenance: not done: the page is not up",
        "prepare: rds_restore shop-db: not done: `shop-db` is db-",
        "finish: jenkins_build",
        "finish: approve: not done: nobody has answered",
    ] {
        assert!(dry.to_string().contains(line), "{line}: {dry}");
    }
    // Killed by hand in the middle, as somebody would.
    let running = cutover.start("run --yes-rename shop-db");
    cutover.waits_at("rds_restore shop-db");
    running.kill_group();
    assert_eq!(cutover.page().await, 503);
    let running = cutover.start("run");
    let asks = cutover.waits_at("approve");
    assert!(asks["began_ms"].is_i64(), "{asks}");
    assert_eq!(
        cutover.page().await,
        503,
        "nobody sees what nobody approved"
    );
    cutover.start("approve").finish().exits(0);
    running.finish().exits(0);
    assert_eq!(cutover.page().await, 200);

    let (old, new) = (held("shop-db-old").await, held("shop-db").await);
    let (old, new) = (old.unwrap(), new.unwrap());
    assert_eq!(old["id"], original["id"]);
    assert_ne!(new["id"], original["id"]);
    assert_eq!(new["settings"], original["settings"]);
    assert_eq!(cutover.shop.key_count(), 2 * ROWS);
    let index = format!("{}_de_page", cutover.prefix);
    cutover
        .search
        .must("POST", &format!("/{index}/_refresh"), &Value::Null);
    assert_eq!(cutover.search.documents(&index).len() as u64, ROWS);
}
