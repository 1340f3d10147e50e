//! Restores into Elasticsearch and OpenSearch, and as NDJSON: every row arrives in its index, or is named.

use std::{collections::HashMap, fs};

use futures_util::TryStreamExt;
use serde_json::json;
use sqlx::Row;

use crate::{
    search_server::{Documents, SearchServer},
    shop::{PLAN, Shop, chunks_stored},
};

pub const BOTH: [&str; 2] = ["elasticsearch", "opensearch"];

const QUICK: &str =
    "defaults:\n  chunk: { rows: 100 }\n  retry: { attempts: 60, base: 20ms, cap: 500ms }\n";

/// One resource that goes from the table of its name to the index of its name.
pub fn plan(url: &str, more: &str, tables: &[&str], defaults: &str) -> String {
    let resources: Vec<_> = tables
        .iter()
        .map(|table| {
            format!(
                "  - name: {table}\n    from: {{ table: {table}, cursor: [id], key: key, value: data }}\n    to: search\n    \
                 type: {table}\n"
            )
        })
        .collect();
    format!(
        "version: 1\nname: shop\nsource: {{ url: \"${{DATABASE_URL}}\" }}\ntargets:\n  \
         search: {{ elasticsearch: {{ url: \"{url}\", index: \"t_{{type}}\"{more} }} }}\nresources:\n{}{defaults}",
        resources.concat()
    )
}

/// Returns what the table says the index should hold.
pub async fn wanted(shop: &mut Shop, table: &str) -> Documents {
    let mut wanted = HashMap::new();
    let mut rows = shop
        .database
        .rows(format!("SELECT `key`, data FROM {table}"));
    while let Some(row) = rows.try_next().await.expect("a row") {
        let (key, value): (Vec<u8>, Vec<u8>) = (row.get_unchecked(0), row.get_unchecked(1));
        let value = serde_json::from_slice(&value).expect("JSON");
        wanted.insert(String::from_utf8(key).expect("text"), value);
    }
    wanted
}

/// Asserts that two sides are equal without printing either.
#[track_caller]
pub fn assert_equal(wanted: &Documents, found: &Documents) {
    assert_eq!(wanted.len(), found.len(), "documents");
    for (id, value) in wanted {
        assert!(found.get(id) == Some(value), "{id} differs");
    }
}

/// Returns the reasons of dead letters by key.
pub fn dead_letters(shop: &Shop) -> HashMap<String, String> {
    let shown = shop
        .rekindle(&format!("dead-letters show {PLAN} --json"))
        .exits(0);
    shown
        .json()
        .iter()
        .map(|row| {
            let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
            (text("key"), text("reason"))
        })
        .collect()
}

#[tokio::test]
async fn five_kills_lose_nothing_and_leave_the_index_as_it_was_set_up() {
    for product in BOTH {
        let server = SearchServer::shared(product);
        let mut shop = Shop::open("search").await;
        shop.table("url").await;
        shop.rows("url", 101, 12_000).await;
        shop.rows("url", 1 << 40, (1 << 40) + 11_999).await;
        server.create("t_url");
        let load = ", gzip: true, load: { refresh: off, replicas: 0 }";
        shop.write_plan(&plan(&server.url(), load, &["url"], QUICK));
        let mut stored = 0;
        for kill in 1..=5u64 {
            let running = shop.held_after(&format!("run {PLAN}"), 20);
            if kill == 5 {
                assert_eq!(
                    server.setting("t_url", "index.refresh_interval"),
                    json!("-1")
                );
                assert_eq!(
                    server.setting("t_url", "index.number_of_replicas"),
                    json!("0")
                );
                let most = peak_kib(&running);
                eprintln!("{product}: {most} KiB at most");
                assert!(most < 64 * 1024, "{most} KiB");
            }
            running.kill_group();
            let now = chunks_stored(&shop.status());
            assert!(now > stored, "kill {kill}: {now} chunks after {stored}");
            stored = now;
        }
        let dry = shop.rekindle(&format!("run {PLAN} --dry-run")).exits(0);
        assert!(dry.stdout.contains("still has the settings"), "{dry}");
        assert!(!dry.stdout.contains("done again"), "{dry}");
        shop.rekindle(&format!("run {PLAN}")).exits(0);
        // A search sees them although nobody here asked for a refresh, and the index has 30 s between two.
        let found = server.documents("t_url");
        assert_equal(&wanted(&mut shop, "url").await, &found);
        assert_eq!(
            server.setting("t_url", "index.refresh_interval"),
            json!("30s")
        );
        assert_eq!(
            server.setting("t_url", "index.number_of_replicas"),
            json!("1")
        );
        let dry = shop.rekindle(&format!("run {PLAN} --dry-run")).exits(0);
        for fact in ["23900 documents (dynamic mapping", "status "] {
            assert!(dry.stdout.contains(fact), "{dry}");
        }
        assert!(!dry.stdout.contains("still has the settings"), "{dry}");
    }
}

/// Returns the most memory that a process of the group ever had.
fn peak_kib(running: &crate::shop::Running) -> u64 {
    let group = running.pid().as_raw_nonzero().get();
    let children = fs::read_to_string(format!("/proc/{group}/task/{group}/children"));
    let children = children.expect("the parent has a child");
    let peaks = children.split_whitespace().map(|pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    });
    peaks.max().expect("a child")
}

#[tokio::test]
async fn e1_x2_one_bad_document_of_a_thousand_is_named_without_its_value() {
    for product in BOTH {
        let server = SearchServer::shared(product);
        let mut shop = Shop::open("baddoc").await;
        shop.table("page").await;
        shop.rows("page", 1, 1_000).await;
        shop.database
            .execute("UPDATE page SET data = '{\"n\": \"gehe1m\"}' WHERE id = 500")
            .await;
        server.create("t_page");
        // Nobody listens on the first node's port: the other one is asked.
        let nodes = format!("http://127.0.0.1:1,{}", server.url());
        shop.write_plan(&plan(&nodes, "", &["page"], ""));
        let done = shop.rekindle(&format!("run {PLAN} --json")).exits(4);
        assert_eq!(server.documents("t_page").len(), 999);
        let letters = dead_letters(&shop);
        let reason = &letters["page:500"];
        assert!(
            reason.contains("field `n` of type `long`")
                && reason.contains("mapper_parsing_exception"),
            "{reason}"
        );
        assert_eq!(letters.len(), 1);
        let state: Vec<u8> = crate::shop::files(&shop.path("state"))
            .into_values()
            .flatten()
            .collect();
        let said = [done.stdout.as_bytes(), done.stderr.as_bytes(), &state].concat();
        assert!(
            !said.windows(6).any(|bytes| bytes == b"gehe1m"),
            "the value is told"
        );
    }
}

#[tokio::test]
async fn rows_go_to_the_index_of_their_store_or_to_all_and_odd_ones_are_named() {
    for product in BOTH {
        let server = SearchServer::shared(product);
        let mut shop = stores(&server).await;
        shop.rekindle(&format!("run {PLAN}")).exits(4);
        let ids = |index: &str| {
            let mut ids: Vec<_> = server.documents(index).into_keys().collect();
            ids.sort();
            ids
        };
        assert_eq!(ids("t_de_page"), ["all", "de", "empty", "pretty"]);
        assert_eq!(ids("t_at_page"), ["all", "at", "empty", "pretty"]);
        assert_eq!(
            server.documents("t_at_page")["pretty"],
            json!({ "n": 1, "hash": "a\nb" })
        );
        let letters = dead_letters(&shop);
        for (key, why) in [
            ("fr", "`stores`"),
            ("list", "not a JSON object"),
            ("none", "the value is empty"),
            ("broken", "mapper_parsing_exception"),
            ("", "the key is empty"),
        ] {
            assert!(letters[key].contains(why), "{key}: {}", letters[key]);
        }
        assert_eq!(letters.len(), 5, "{letters:?}");
        shop.database.execute("DROP TABLE page").await;
    }
}

/// A shop with two stores and rows of every kind.
async fn stores(server: &SearchServer) -> Shop {
    let mut shop = Shop::open("stores").await;
    shop.database
        .execute(
            "CREATE TABLE page (id BIGINT NOT NULL PRIMARY KEY, store VARCHAR(9), `key` VARCHAR(255), data LONGTEXT);
             INSERT INTO page VALUES
             (1, 'DE', 'de', '{\"n\": 1}'), (2, 'AT', 'at', '{\"n\": 2}'), (3, NULL, 'all', '{\"n\": 3}'),
             (4, '', 'empty', '{}'), (5, NULL, 'pretty', '{\\n  \"n\": 1,\\r\\n  \"hash\": \"a\\\\nb\"\\n}\\n'),
             (6, 'FR', 'fr', '{}'), (7, 'DE', 'list', '[{}]'), (8, 'DE', 'none', ''), (9, 'DE', 'broken', '{\"n\": }'),
             (10, 'AT', '', '{}')",
        )
        .await;
    for index in ["t_de_page", "t_at_page"] {
        server.create(index);
    }
    shop.write_plan(&format!(
        "version: 1\nname: shop\nsource: {{ url: \"${{DATABASE_URL}}\" }}\nstores: [DE, AT]\ntargets:\n  \
         search: {{ elasticsearch: {{ url: [\"{}\"], index: \"t_{{store}}_{{type}}\" }} }}\n  \
         dump: {{ file: {{ path: out, format: ndjson, index: \"t_{{store}}_{{type}}\" }} }}\nresources:\n  \
         - {{ name: page, type: page, to: search, from: {{ table: page, cursor: [id], key: key, value: data, store: store }} }}\n",
        server.url()
    ));
    shop
}

#[tokio::test]
async fn ndjson_files_are_what_bulk_takes() {
    let server = SearchServer::shared("elasticsearch");
    let shop = stores(&server).await;
    let text = fs::read_to_string(shop.path(PLAN)).expect("the plan");
    shop.write_plan(&text.replace("to: search", "to: dump"));
    shop.rekindle(&format!("run {PLAN}")).exits(4);
    // All but the broken document, which only a server reads.
    assert_eq!(dead_letters(&shop).len(), 4);
    let files = crate::shop::files(&shop.path("plans/out"));
    let lines: Vec<u8> = files
        .into_iter()
        .filter(|(name, _)| name.ends_with(".ndjson"))
        .flat_map(|(_, bytes)| bytes)
        .collect();
    let lines = String::from_utf8(lines).expect("text");
    assert_eq!(lines.lines().count(), 2 * 9);
    let (status, answer) = server.ask("POST", "/_bulk?refresh=true", Some(&lines));
    assert_eq!((status, answer["errors"].as_bool()), (200, Some(true)));
    assert_eq!(server.documents("t_de_page").len(), 4);
    assert_eq!(server.documents("t_at_page").len(), 4);
}

#[tokio::test]
async fn e5_an_index_that_is_missing_is_named_and_never_created() {
    let server = SearchServer::shared("elasticsearch");
    let mut shop = Shop::open("noindex").await;
    shop.table("url").await;
    shop.rows("url", 1, 10).await;
    shop.write_plan(&plan(&server.url(), "", &["url"], ""));
    for words in ["run", "run --dry-run", "validate"] {
        let refused = shop.rekindle(&format!("{words} {PLAN}")).exits(3);
        let said = format!("{}{}", refused.stdout, refused.stderr);
        // A drawn problem is broken into lines.
        let said = said.replace("\n  | ", " ").replace("\n        ", " ");
        assert!(said.contains("no index `t_url`"), "{refused}");
        // What makes it, in a Spryker shop.
        assert!(
            said.contains("`vendor/bin/console search:setup:sources`"),
            "{refused}"
        );
    }
    assert_eq!(server.ask("GET", "/t_url", None).0, 404);
    assert_eq!(
        server.ask("GET", "/rekindle", None).0,
        404,
        "nothing was written"
    );
}
