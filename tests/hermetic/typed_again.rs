//! What is said to type next is what helps: the command that was refused and not `run`, the flag that lets a changed plan pass, and
//! the pause that is lifted first.

use std::fs;

use crate::shop::Shop;

/// Returns a shop whose run is blocked: one broken row is as many as its plan lets pass.
fn blocked() -> Shop {
    let shop = Shop::new();
    shop.plan(None);
    shop.rekindle("run shop.yaml", 4);
    edit(
        &shop,
        "defaults: {",
        "defaults: { dead_letters: { max: 1, percent: 100 },",
    );
    shop.rekindle("run shop.yaml", 5);
    shop
}

fn edit(shop: &Shop, from: &str, to: &str) {
    let plan = fs::read_to_string(shop.path("shop.yaml")).unwrap();
    assert!(plan.contains(from), "{plan}");
    fs::write(shop.path("shop.yaml"), plan.replace(from, to)).unwrap();
}

/// Returns what follows the last `next:` in one line.
fn next(said: &str) -> String {
    let next = said.split("next:").last().unwrap();
    next.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_command_whose_server_is_gone_is_typed_again_itself() {
    let shop = blocked();
    fs::rename(shop.path("shop.sqlite"), shop.path("away.sqlite")).unwrap();
    let said = shop.rekindle("verify shop.yaml --level presence --only t --repair", 3);
    assert!(said.contains("plan `shop` could not be compared"), "{said}");
    let again = "then `rekindle verify shop.yaml --only t --level presence --repair`";
    assert!(next(&said).ends_with(again), "{said}");
    let said = shop.rekindle("resume shop.yaml", 3);
    assert!(
        next(&said).ends_with("then `rekindle resume shop.yaml`"),
        "{said}"
    );
    let said = shop.rekindle("run shop.yaml", 3);
    assert!(
        next(&said).ends_with("then `rekindle run shop.yaml`"),
        "{said}"
    );
}

#[test]
fn a_changed_plan_is_told_how_it_is_accepted() {
    let shop = blocked();
    edit(&shop, "entity: e }", "entity: e, where: \"id > 0\" }");
    let said = shop.rekindle("run shop.yaml --dry-run", 3);
    assert!(
        next(&said).starts_with(
            "`rekindle run shop.yaml --accept-plan-change` starts the changed resources over"
        ),
        "{said}"
    );
    let said = shop.rekindle("doctor shop.yaml", 5);
    assert!(
        said.contains("`rekindle run shop.yaml --accept-plan-change`"),
        "{said}"
    );
    shop.rekindle("run shop.yaml --accept-plan-change --dry-run", 0);
}

#[test]
fn a_paused_run_goes_on_once_the_pause_is_lifted() {
    let shop = blocked();
    let goes_on = next(&shop.rekindle("status shop.yaml", 0));
    shop.rekindle("pause shop.yaml", 0);
    let said = next(&shop.rekindle("status shop.yaml", 0));
    let first = "`rekindle unpause shop.yaml` first; then ";
    assert_eq!(said, format!("{first}{goes_on}"));
    shop.rekindle("unpause shop.yaml", 0);
    assert_eq!(next(&shop.rekindle("status shop.yaml", 0)), goes_on);
}

#[test]
fn runs_that_wait_side_by_side_are_all_named() {
    let shop = blocked();
    shop.rekindle("run shop.yaml --ids 5,77", 5);
    let flat = |said: String| said.split_whitespace().collect::<Vec<_>>().join(" ");
    let status = flat(shop.rekindle("status shop.yaml", 0));
    assert!(
        status.contains(" (2 ids, begun ")
            && status.contains(" waits, too: `rekindle resume shop.yaml` goes on with it"),
        "{status}"
    );
    let resumed = flat(shop.rekindle("resume shop.yaml", 5));
    assert!(
        resumed.contains(" (2 ids), the latest that waits; what others stored in the same targets is restored again"),
        "{resumed}"
    );
    let other = " (the whole plan, begun ";
    assert!(resumed.contains(other), "{resumed}");
    assert_eq!(
        resumed
            .matches(" waits, too: `rekindle run shop.yaml` goes on with it")
            .count(),
        1,
        "{resumed}"
    );
}

#[test]
fn a_run_of_some_rows_does_not_hide_that_of_the_whole_plan() {
    let shop = Shop::new();
    shop.plan(None);
    shop.rekindle("run shop.yaml", 4);
    let status = shop.rekindle("status shop.yaml", 0);
    assert!(
        !status.contains("the last run of the whole plan"),
        "{status}"
    );
    shop.rekindle("run shop.yaml --ids 9", 0);
    let status = shop.rekindle("status shop.yaml", 0);
    assert!(
        status.contains("the last run of the whole plan, ") && status.contains(", is done since "),
        "{status}"
    );
}

#[test]
fn a_forecast_knows_of_the_throttle() {
    let shop = Shop::new();
    shop.plan(None);
    let said = shop.rekindle("run shop.yaml --dry-run", 0);
    assert!(said.contains("at an assumed 100,000 rows/s"), "{said}");
    edit(
        &shop,
        "entity: e }\n",
        "entity: e }\n    throttle: { rows_per_second: 10 }\n",
    );
    let said = shop.rekindle("run shop.yaml --dry-run", 0);
    assert!(
        said.contains("; 1 min 0 s at least, by `throttle.rows_per_second` of `t`"),
        "{said}"
    );
}

#[test]
fn dead_letters_say_what_is_done_about_them_beside_the_result() {
    let shop = Shop::new();
    shop.plan(None);
    shop.rekindle("run shop.yaml", 4);
    let listed = next(&shop.rekindle("dead-letters list shop.yaml", 0));
    assert_eq!(
        listed,
        "`rekindle dead-letters show shop.yaml` names them one by one"
    );
    let shown = next(&shop.rekindle("dead-letters show shop.yaml", 0));
    assert_eq!(
        shown,
        "once they are mended, `rekindle dead-letters retry shop.yaml` restores them; `rekindle dead-letters drop shop.yaml` lets \
         them go"
    );
    let output = shop
        .command("dead-letters show shop.yaml")
        .output()
        .unwrap();
    let result = String::from_utf8(output.stdout).unwrap();
    assert_eq!(result.lines().count(), 4, "a header and rows: {result}");
    // They cannot be retried yet.
    let shop = blocked();
    let shown = next(&shop.rekindle("dead-letters show shop.yaml", 0));
    assert!(
        shown.starts_with("`rekindle status shop.yaml` says"),
        "{shown}"
    );
    let story = shop.rekindle("show shop.yaml", 0);
    assert!(
        story.contains("the run stops: nothing else can go on") && !story.contains("run: "),
        "{story}"
    );
}

#[test]
fn a_state_file_that_is_damaged_has_no_ordinary_status() {
    let shop = Shop::new();
    shop.plan(None);
    shop.rekindle("run shop.yaml", 4);
    let state = rusqlite::Connection::open(shop.path("state/shop.sqlite")).unwrap();
    let damage = "UPDATE dead_letter SET reason = 'another' WHERE rowid = (SELECT min(rowid) FROM dead_letter)";
    assert_eq!(state.execute(damage, []).unwrap(), 1);
    drop(state);
    let said = shop.rekindle("status shop.yaml", 3);
    assert!(
        said.starts_with("error: state file `") && said.contains("is damaged at table"),
        "{said}"
    );
    assert!(
        next(&said).contains("begin anew with `rekindle run --new shop.yaml`"),
        "{said}"
    );
}
