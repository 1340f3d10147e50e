//! What commands say of dead letters: whose they are, how many, and what becomes of their rows.

use crate::shop::Shop;
#[cfg(feature = "failpoints")]
use crate::shop::{ANEW, sql};

#[test]
fn letters_of_a_whole_run_are_not_forgotten_for_a_run_of_some_rows() {
    let shop = Shop::new();
    shop.plan(None);
    shop.rekindle("run shop.yaml", 4);
    let counted = |rows: u64| {
        let listed = shop.rekindle("dead-letters list shop.yaml --json", 0);
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let counts = listed.as_array().unwrap().iter();
        let count: u64 = counts.map(|one| one["count"].as_u64().unwrap()).sum();
        assert_eq!(count, rows, "{listed}");
    };
    shop.rekindle("run shop.yaml --ids 9", 0);
    counted(3);
    let doctor = shop.rekindle("doctor shop.yaml", 5);
    assert!(
        doctor.contains("dead letters: 3 rows of run ") && doctor.contains(" are not restored"),
        "{doctor}"
    );
    // One of them once more: of two runs by now, and one row.
    shop.rekindle("run shop.yaml --ids 5", 4);
    counted(3);
    let doctor = shop.rekindle("doctor shop.yaml", 5);
    assert!(
        doctor.contains("1 row of run ") && doctor.contains("2 rows of run "),
        "{doctor}"
    );
    shop.execute("UPDATE t SET data = '{}' WHERE e = 5");
    let retried = shop.rekindle("dead-letters retry shop.yaml --key-prefix t:de:5", 0);
    assert!(
        retried.contains("1 dead letter retried: 1 restored or gone from the source, 0 left"),
        "{retried}"
    );
    counted(2);
    shop.execute("UPDATE t SET data = '{}' WHERE e = 77");
    // What read everything says what there is.
    shop.rekindle("run shop.yaml", 4);
    counted(1);
    let dropped = shop.rekindle("dead-letters drop shop.yaml --yes", 0);
    assert!(
        dropped.contains("1 dead letter dropped: what the targets hold of that row stays as it is, missing or old"),
        "{dropped}"
    );
    counted(0);
}

#[test]
#[cfg(feature = "failpoints")]
fn status_says_of_a_call_that_is_under_way_what_is_known() {
    let shop = Shop::new();
    shop.plan(Some(&sql(ANEW)));
    let killed = shop
        .command("run shop.yaml --single-process")
        .env("RK_FAIL", "after_intent:1:kill")
        .output()
        .unwrap();
    assert_eq!(killed.status.code(), None);
    let status = shop.rekindle("status shop.yaml", 0);
    let says = "triggering, 0 ids of about 3 answered for in 0 calls; a call with 3 ids is under way; why: 3 of its rows are broken";
    assert!(status.contains(says), "{status}");
}
