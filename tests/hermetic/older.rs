//! Runs that an older release began, whose dead letters know no entity, and retries that cannot go on as they began.

use std::fs;

use rekindle::{
    journal::{Journal, OpenMode},
    machine::Event,
};
use serde_json::Value;

use crate::shop::{ANEW, Shop, said, sql};

/// Rewrites the journal of the shop as `change` says, event by event.
#[cfg(feature = "failpoints")]
fn rewrite(shop: &Shop, change: impl Fn(&mut Value)) {
    let path = shop.path("state/shop.sqlite");
    let events: Vec<Event> = {
        let database = rusqlite::Connection::open(&path).unwrap();
        let mut statement = database
            .prepare("SELECT body FROM event ORDER BY seq")
            .unwrap();
        let bodies = statement
            .query_map([], |row| row.get::<_, String>(0))
            .unwrap();
        bodies
            .map(|body| {
                let mut event: Value = serde_json::from_str(&body.unwrap()).unwrap();
                change(&mut event);
                serde_json::from_value(event).unwrap()
            })
            .collect()
    };
    fs::remove_dir_all(shop.path("state")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (journal, ..) = Journal::open(&path, OpenMode::Normal).unwrap();
        journal.record(events).await.unwrap();
        journal.close().await.unwrap();
    });
}

/// Takes out what format 2 did not keep: whose rows did not pass, and for whom a publisher was called.
#[cfg(feature = "failpoints")]
fn as_format_2(event: &mut Value) {
    if let Some(letters) = event
        .pointer_mut("/chunk/dead_letters")
        .and_then(Value::as_array_mut)
    {
        for letter in letters {
            letter.as_object_mut().unwrap().remove("entity");
        }
    }
    if let Some(called) = event
        .pointer_mut("/fallback/event/called")
        .and_then(Value::as_object_mut)
    {
        called.remove("entities");
    }
}

#[cfg(feature = "failpoints")]
fn kill(shop: &Shop, words: &str, point: &str) {
    let killed = shop
        .command(&format!("{words} --single-process"))
        .env("RK_FAIL", point)
        .output()
        .unwrap();
    assert_eq!(killed.status.code(), None, "{point}: {}", said(&killed));
}

#[test]
#[cfg(feature = "failpoints")]
fn a_run_whose_publisher_an_older_release_called_reads_the_resource_again() {
    for point in [
        "after_call:1:kill",
        "after_acknowledged:1:kill",
        "before_bound:1:kill",
        "after_commit:13:kill",
        "before_finish:1:kill",
    ] {
        let shop = Shop::new();
        shop.plan(Some(&sql(ANEW)));
        kill(&shop, "run shop.yaml", point);
        rewrite(&shop, as_format_2);
        let said = shop.rekindle("run shop.yaml", 0);
        assert!(
            said.contains("`t` starts over: a release that did not keep for which entities"),
            "{point}: {said}"
        );
        shop.assert_dumped();
        shop.assert_no_dead_letters();
    }
}

#[test]
#[cfg(feature = "failpoints")]
fn entities_that_only_the_source_could_tell_are_kept_from_before_the_call_on() {
    for point in [
        "after_intent:1:kill",
        "after_call:1:kill",
        "before_bound:1:kill",
    ] {
        let shop = Shop::new();
        shop.plan(Some(&sql(ANEW)));
        kill(&shop, "run shop.yaml", "before_intent:1:kill");
        rewrite(&shop, as_format_2);
        kill(&shop, "run shop.yaml", point);
        let said = shop.rekindle("run shop.yaml", 0);
        assert!(!said.contains("starts over"), "{point}: {said}");
        shop.assert_dumped();
        shop.assert_no_dead_letters();
    }
}

#[test]
#[cfg(feature = "failpoints")]
fn a_retry_of_letters_without_an_entity_says_how_many_they_are() {
    let shop = Shop::new();
    shop.plan(None);
    shop.rekindle("run shop.yaml", 4);
    rewrite(&shop, as_format_2);
    let said = shop.rekindle("dead-letters retry shop.yaml", 4);
    assert!(said.contains("3 of these letters know no entity"), "{said}");
    // Now the letters are those of the retry, which asked.
    let said = shop.rekindle("dead-letters retry shop.yaml", 4);
    assert!(!said.contains("know no entity"), "{said}");
}

#[test]
fn entities_of_another_column_than_the_plan_names_now_are_not_taken_for_its_own() {
    let shop = Shop::new();
    shop.execute("ALTER TABLE t ADD COLUMN f INTEGER; UPDATE t SET f = e + 1000");
    shop.plan(None);
    shop.rekindle("run shop.yaml", 4);
    let plan = fs::read_to_string(shop.path("shop.yaml")).unwrap();
    fs::write(
        shop.path("shop.yaml"),
        plan.replace("entity: e", "entity: f"),
    )
    .unwrap();
    let said = shop.rekindle("dead-letters retry shop.yaml", 4);
    assert!(said.contains("3 of these letters know no entity"), "{said}");
}

#[test]
#[cfg(feature = "failpoints")]
fn a_retry_that_an_older_release_left_half_done_starts_over_with_the_columns_of_now() {
    let shop = Shop::new();
    shop.plan(None);
    shop.rekindle("run shop.yaml", 4);
    rewrite(&shop, as_format_2);
    shop.execute("UPDATE t SET data = '{}' WHERE data IS NULL");
    kill(&shop, "dead-letters retry shop.yaml", "after_commit:1:kill");
    rewrite(&shop, |event| {
        if let Some(columns) = event.pointer_mut("/resource_bound/columns") {
            let older = columns.as_str().unwrap().replace("; e INTEGER", "");
            *columns = older.into();
        }
    });
    let said = shop.rekindle("dead-letters retry shop.yaml", 0);
    assert!(
        said.contains("`t` starts over: its columns are not those that were recorded"),
        "{said}"
    );
    shop.assert_dumped();
    shop.assert_no_dead_letters();
}

#[test]
#[cfg(feature = "failpoints")]
fn a_retry_that_is_given_up_leaves_nothing_and_its_letters_are_retried_anew() {
    let shop = Shop::new();
    shop.plan(None);
    shop.rekindle("run shop.yaml", 4);
    shop.execute("UPDATE t SET data = '{}' WHERE data IS NULL AND e = 77");
    kill(&shop, "dead-letters retry shop.yaml", "after_commit:1:kill");
    let other = "dead-letters retry shop.yaml --key-prefix t:de:77";
    let said = shop.rekindle(other, 3);
    assert!(
        said.contains("or give it up: the same `dead-letters retry` with `--new`"),
        "{said}"
    );
    // What the retry wrote would be loaded after what comes now.
    shop.execute("UPDATE t SET data = '{\"newer\":1}' WHERE e = 77");
    shop.rekindle(&format!("{other} --new"), 0);
    shop.assert_dumped();
    // A changed plan says what to type, too.
    kill(&shop, "dead-letters retry shop.yaml", "after_commit:1:kill");
    let plan = fs::read_to_string(shop.path("shop.yaml")).unwrap();
    let changed = plan.replace("entity: e", "entity: e, where: \"1 = 1\"");
    fs::write(shop.path("shop.yaml"), changed).unwrap();
    let said = shop.rekindle("dead-letters retry shop.yaml", 3);
    let next = "`rekindle dead-letters retry --new shop.yaml` gives that retry up and begins anew";
    assert!(said.contains(next), "{said}");
    shop.rekindle("dead-letters retry --new shop.yaml", 4);
    shop.execute("UPDATE t SET data = '{}' WHERE data IS NULL");
    shop.rekindle("dead-letters retry shop.yaml", 0);
    shop.assert_dumped();
    shop.assert_no_dead_letters();
}
