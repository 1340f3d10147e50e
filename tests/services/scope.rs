//! What a run covers: chosen resources and ids, the order of resources, and which run goes on.

use std::collections::HashMap;

use serde_json::Value;

use crate::shop::{DEFAULTS, Finished, PLAN, Shop, assert_same, resource};

/// Three tables: `url` and `page` are filtered by their entity column, `card` by its cursor.
async fn shop(name: &str) -> Shop {
    let mut shop = Shop::open(name).await;
    for table in ["url", "page", "card"] {
        shop.table(table).await;
        shop.rows(table, 1, 3_000).await;
    }
    let card = resource("card").replace(", entity: fk", "");
    shop.plan(
        &format!("{}{}{card}", resource("url"), resource("page")),
        DEFAULTS,
    );
    shop
}

fn run_id(status: &Value) -> String {
    status["run"].as_str().expect("a run").to_owned()
}

fn runs(shop: &Shop) -> Vec<Value> {
    let history = shop
        .rekindle(&format!("history {PLAN} --json"))
        .exits(0)
        .json();
    history[0].as_array().expect("runs").clone()
}

/// Returns the place of the first event of a kind about a resource.
fn place(events: &[Value], event: &str, resource: &str) -> usize {
    events
        .iter()
        .position(|one| one["event"] == event && one["resource"] == resource)
        .unwrap_or_else(|| panic!("no {event} of {resource}"))
}

/// Asserts that Redis holds these rows and nothing else.
async fn holds(shop: &mut Shop, parts: &[(&str, &str)]) {
    let mut wanted = HashMap::new();
    for (table, condition) in parts {
        let all = shop
            .wanted(&[&format!("(SELECT * FROM {table} WHERE {condition}) chosen")])
            .await;
        wanted.extend(all);
    }
    assert_same(&wanted, &shop.redis_content());
}

fn nothing_waits(shop: &Shop) -> Finished {
    let refused = shop.rekindle(&format!("resume {PLAN}")).exits(3);
    assert!(
        refused.line("error:").ends_with("nothing to resume"),
        "{refused}"
    );
    refused
}

#[tokio::test]
async fn only_and_skip_restore_what_they_name_and_never_the_whole_plan() {
    let mut shop = shop("only").await;
    shop.rekindle(&format!("run {PLAN} --only page,card"))
        .exits(0);
    holds(&mut shop, &[("page", "1"), ("card", "1")]).await;
    let status = shop.status();
    assert_eq!(
        (&status["state"], &status["whole_plan"]),
        (&"done".into(), &false.into()),
        "{status}"
    );
    let scope = runs(&shop)[0]["scope"].to_string();
    assert!(
        scope.contains("only") && scope.contains("page") && scope.contains("card"),
        "{scope}"
    );
    nothing_waits(&shop);

    shop.redis.run("FLUSHDB");
    shop.rekindle(&format!("run {PLAN} --skip card")).exits(0);
    holds(&mut shop, &[("url", "1"), ("page", "1")]).await;

    // A plain run is a run of the whole plan, and covers all of it.
    let done = shop.rekindle(&format!("run {PLAN}")).exits(0);
    assert!(done.stderr.contains(" begins"), "{done}");
    assert_eq!(shop.status()["whole_plan"], true);
    shop.assert_redis_equals(&["url", "page", "card"]).await;
    assert_eq!(runs(&shop).len(), 3);

    let nothing = shop
        .rekindle(&format!("run {PLAN} --only card --skip card"))
        .exits(2);
    assert!(
        nothing.line("error:").contains("leave nothing to restore"),
        "{nothing}"
    );
}

#[tokio::test]
async fn ids_choose_by_the_entity_column_where_there_is_one_else_by_the_cursor() {
    let mut shop = shop("ids").await;
    shop.rekindle(&format!("run {PLAN} --only page,card --ids 7,999,5000"))
        .exits(0);
    // Entity 7 is in rows 7, 1007, 2007; entity 999 in 999, 1999, 2999; 5000 is nobody's.
    holds(
        &mut shop,
        &[("page", "fk IN (7, 999)"), ("card", "id IN (7, 999)")],
    )
    .await;
    assert_eq!(shop.key_count(), 6 + 2);
    assert_eq!(shop.status()["whole_plan"], false);

    shop.redis.run("FLUSHDB");
    shop.rekindle(&format!("run {PLAN} --only card --ids [3,\"4\"]"))
        .exits(0);
    holds(&mut shop, &[("card", "id IN (3, 4)")]).await;
    nothing_waits(&shop);

    let refused = shop.rekindle(&format!("run {PLAN} --ids 1,,2")).exits(2);
    assert!(refused.line("error:").contains("`--ids`"), "{refused}");
}

#[tokio::test]
async fn a_scoped_run_leaves_the_unfinished_whole_where_it_is_and_a_plain_run_goes_on_with_it() {
    let mut shop = shop("whole").await;
    shop.half_done(9);
    let whole = run_id(&shop.status());

    // A scope of its own is a run of its own, also when it is killed and gone on with.
    let scoped = format!("run {PLAN} --only card --ids 1,2,3");
    shop.rekindle(&scoped).exits(0);
    let scoped_run = runs(&shop)[1].clone();
    assert_eq!(scoped_run["state"], "done");
    assert_ne!(scoped_run["run"], whole.as_str());
    let waiting = shop.status();
    assert_eq!(
        run_id(&waiting),
        whole,
        "what waits is shown before what is done"
    );
    assert_eq!(waiting["attempts"].as_array().map(Vec::len), Some(1));

    let done = shop.rekindle(&format!("run {PLAN}")).exits(0);
    assert!(
        done.stderr
            .contains(&format!("run {whole} goes on (attempt 2) after 900 rows")),
        "{done}"
    );
    shop.assert_redis_equals(&["url", "page", "card"]).await;
    nothing_waits(&shop);

    // After a finished run the next one is new: a rehearsal is not the real thing.
    shop.redis.run("FLUSHDB");
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    assert_eq!(runs(&shop).len(), 3);
    shop.assert_redis_equals(&["url", "page", "card"]).await;
}

#[tokio::test]
async fn new_gives_the_unfinished_run_up_and_restores_everything() {
    let mut shop = shop("new").await;
    shop.half_done(9);
    let given_up = run_id(&shop.status());
    let resumed = shop.held_after(&format!("resume {PLAN}"), 2);
    assert_eq!(run_id(&shop.status()), given_up);
    resumed.kill_group();
    let done = shop.rekindle(&format!("run {PLAN} --new")).exits(0);
    assert!(done.stderr.contains(" begins, state file "), "{done}");
    let runs = runs(&shop);
    assert_eq!(runs.len(), 2);
    assert_eq!(
        (&runs[0]["run"], &runs[0]["state"]),
        (&given_up.into(), &"cancelled".into())
    );
    assert_eq!(runs[1]["state"], "done");
    assert_eq!(runs[1]["rows"], 9_000, "nothing of the old run counts");
    // The markers of the run that was given up go with it.
    shop.assert_redis_equals(&["url", "page", "card"]).await;
}

#[tokio::test]
async fn after_is_an_order_and_everything_else_goes_side_by_side() {
    let mut shop = shop("order").await;
    let after = |name: &str, before: &str| format!("{}    after: [{before}]\n", resource(name));
    // Named first, done last.
    shop.plan(
        &format!(
            "{}{}{}",
            after("card", "page"),
            resource("page"),
            resource("url")
        ),
        "defaults:\n  chunk: { rows: 50 }\n  parallel: { resources: 3, partitions: 1 }\n",
    );
    let events = shop.rekindle(&format!("run {PLAN} --json")).exits(0).json();
    assert!(place(&events, "resource_synced", "page") < place(&events, "resource_started", "card"));
    assert!(place(&events, "resource_started", "card") < place(&events, "chunk_stored", "card"));
    for (one, other) in [("page", "url"), ("url", "page")] {
        assert!(
            place(&events, "chunk_stored", one) < place(&events, "resource_synced", other),
            "{one} waited for {other}"
        );
    }
    shop.assert_redis_equals(&["url", "page", "card"]).await;

    // One at a time where the plan says so.
    shop.plan(
        &format!("{}{}", resource("page"), resource("url")),
        "defaults:\n  chunk: { rows: 50 }\n  parallel: { resources: 1, partitions: 1 }\n",
    );
    let events = shop.rekindle(&format!("run {PLAN} --json")).exits(0).json();
    assert!(place(&events, "resource_synced", "page") < place(&events, "resource_started", "url"));
}
