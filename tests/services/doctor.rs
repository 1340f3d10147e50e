//! `doctor` names what is wrong, and what to type about it; it changes nothing.

use serde_json::{Value, json};

use crate::{
    search_server::SearchServer,
    shop::{DEFAULTS, PLAN, Shop, files, resource},
};

/// Returns the findings that are not well, after asserting the exit code.
#[track_caller]
fn ill(shop: &Shop, code: i32) -> Vec<Value> {
    let looked = shop.rekindle(&format!("doctor {PLAN} --json")).exits(code);
    let report = looked.json().remove(0);
    let findings = report["findings"].as_array().expect("findings").clone();
    let ill: Vec<_> = findings
        .into_iter()
        .filter(|one| one["ok"] == false)
        .collect();
    assert_eq!(report["problems"], json!(ill.len()));
    ill
}

/// Asserts that one finding has `text` in it and says to type `next`.
#[track_caller]
fn says(findings: &[Value], text: &str, next: &str) {
    let has = |one: &Value, field: &str, text: &str| {
        one[field].as_str().is_some_and(|all| all.contains(text))
    };
    assert!(
        findings
            .iter()
            .any(|one| has(one, "text", text) && has(one, "next", next)),
        "`{text}`, `{next}`: {findings:?}"
    );
}

#[tokio::test]
async fn every_finding_says_what_to_type() {
    let mut shop = Shop::open("doctor").await;
    shop.database.reads_only().await;
    shop.table("url").await;
    shop.rows("url", 1, 3_000).await;
    shop.plan(&resource("url"), DEFAULTS);
    assert_eq!(ill(&shop, 0), Vec::<Value>::new(), "before the first run");
    shop.half_done(5);
    let (before, keys) = (files(&shop.path("state")), shop.redis_content());
    let found = ill(&shop, 5);
    says(&found, "waits; its last process died", "rekindle resume");
    assert_eq!(before, files(&shop.path("state")), "it only looks");
    assert_eq!(keys, shop.redis_content(), "it only looks");

    shop.redis.run("FLUSHALL");
    says(
        &ill(&shop, 5),
        "proves nothing of it",
        "does it again by itself",
    );
    shop.rekindle(&format!("pause {PLAN}")).exits(0);
    says(&ill(&shop, 5), "paused since", "rekindle unpause");
    shop.rekindle(&format!("unpause {PLAN}")).exits(0);
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    assert_eq!(ill(&shop, 0), Vec::<Value>::new(), "all is done");

    // What a run that is over left behind, and what nobody knows.
    let id = shop.status()["run"].as_str().expect("a run").to_owned();
    shop.redis.run(&format!("SET rekindle:{id}:7 3"));
    shop.redis.run("SET rekindle:ZZZZZZ:1 3");
    let found = ill(&shop, 5);
    let cli = format!("redis-cli -h 127.0.0.1 -p {} -n 0", shop.redis.port());
    says(
        &found,
        "though it is over",
        &format!("{cli} --scan --pattern"),
    );
    let del = format!("| xargs {cli} del");
    says(&found, "run ZZZZZZ: 1 of its markers", &del);
    shop.redis
        .run(&format!("DEL rekindle:{id}:7 rekindle:ZZZZZZ:1"));
    shop.start_failing(&format!("verify {PLAN}"), "before_compare:3:kill")
        .finish();
    says(
        &ill(&shop, 5),
        "a comparison was interrupted",
        "rekindle verify",
    );
    shop.rekindle(&format!("verify {PLAN}")).exits(0);

    shop.database
        .execute("UPDATE url SET data = NULL WHERE id = 4")
        .await;
    shop.rekindle(&format!("run {PLAN}")).exits(4);
    says(&ill(&shop, 5), "1 row of run", "dead-letters show");

    std::fs::write(shop.path("state/shop.sqlite"), "torn").expect("written");
    says(&ill(&shop, 5), "shop.sqlite", "rekindle run --new");
}

#[tokio::test]
async fn settings_left_in_an_index_are_named() {
    let server = SearchServer::shared("elasticsearch");
    let mut shop = Shop::open("doctor_search").await;
    shop.table("url").await;
    shop.rows("url", 1, 3_000).await;
    server.create("t_url");
    let load = ", load: { refresh: off, replicas: 0 }";
    shop.write_plan(&crate::search::plan(
        &server.url(),
        load,
        &["url"],
        DEFAULTS,
    ));
    shop.half_done(5);
    says(
        &ill(&shop, 5),
        "index `t_url` still has the settings",
        "load:t_url",
    );
}
