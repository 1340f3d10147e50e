//! The way back of a cutover where something is in the way, and plans that are edited in the middle of one: no name is freed for
//! nobody, nothing that one step made counts as another's, and nothing that is nowhere counts as reversed.

use std::{fs, process::Stdio};

use serde_json::{Value, json};

use crate::{
    rds::{STEPS, Shop, done, held, layer},
    support::server_url,
};

/// Asks RDS itself, as somebody in its console does.
async fn by_hand(form: &[(&str, &str)]) {
    let form: Vec<_> = [("Version", "2014-10-31")]
        .iter()
        .chain(form)
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let signed = "AWS4-HMAC-SHA256 Credential=x/20260101/eu-central-1/rds/aws4_request, SignedHeaders=host, Signature=0";
    let request = reqwest::Client::new()
        .post(server_url("RDS_ENDPOINT"))
        .header("Authorization", signed)
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(form.join("&"));
    let answer = request.send().await.unwrap();
    let status = answer.status();
    assert!(
        status.is_success(),
        "{status}: {}",
        answer.text().await.unwrap()
    );
}

async fn hold(name: &str, status: &str) {
    layer("hold", Some(json!({ "name": name, "status": status }))).await;
}

async fn deny(action: &str, skip: u32, times: i32) {
    let fault = json!([{ "action": action, "kind": "deny", "skip": skip, "times": times }]);
    layer("faults", Some(fault)).await;
}

/// Returns the snapshots that were restored from, in their order.
async fn restored_from() -> Vec<String> {
    let calls = layer("calls", None).await;
    let calls = calls.as_array().unwrap().iter();
    let restores = calls.filter(|call| call["action"] == "RestoreDBInstanceFromDBSnapshot");
    restores
        .map(|call| call["snapshot"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn no_name_is_freed_for_an_instance_that_cannot_take_it() {
    let shop = Shop::new(STEPS, 0).await;
    shop.completes(&[], "cut over");
    let new = held("shop-db").await.unwrap();
    hold("shop-db-old", "stopped").await;
    let (code, said) = shop.undo(None);
    assert_eq!(code, Some(5), "{said}");
    for part in ["`shop-db-old` is stopped", "nothing was reversed"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(held("shop-db").await.unwrap()["id"], new["id"]);
    assert_eq!(done("rename").await, 1);
    hold("shop-db-old", "available").await;
    hold("shop-db", "stopped").await;
    let (code, said) = shop.undo(None);
    assert_eq!(code, Some(5), "{said}");
    for part in ["start it, or delete it by hand", "nothing was reversed"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    hold("shop-db", "available").await;
    shop.is_taken_back("started again").await;
}

#[tokio::test]
async fn what_was_restored_has_its_name_again_where_the_original_does_not_take_it() {
    let shop = Shop::new(STEPS, 0).await;
    shop.completes(&[], "cut over");
    let new = held("shop-db").await.unwrap();
    deny("ModifyDBInstance", 1, 1).await;
    let (code, said) = shop.undo(None);
    assert_eq!(code, Some(5), "{said}");
    for part in [
        "what was restored is called `shop-db` again",
        "not authorized to perform: rds:ModifyDBInstance",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(held("shop-db").await.unwrap()["id"], new["id"]);
    shop.is_taken_back("allowed again").await;
}

#[tokio::test]
async fn what_left_something_behind_is_neither_changed_nor_moved_nor_dropped() {
    let shop = Shop::of(STEPS, json!({ "looks": 0, "taken": "other-db" })).await;
    shop.dies(&[], "step_asked:3:kill");
    let lines: Vec<_> = STEPS.lines().collect();
    let [_, list, snapshot, rename, restore] = lines[..] else {
        panic!("{lines:?}");
    };
    let is_refused = |plan: String, why: &str| {
        shop.plan(&plan);
        shop.refuses(&["--accept-plan-change"], 3, why);
    };
    let gone = "is no longer so in the plan";
    is_refused(STEPS.replace("nightly-0412", "hourly-0600"), gone);
    is_refused(
        STEPS.replace(
            "rds_snapshot: { instance: shop-db",
            "rds_snapshot: { instance: other-db",
        ),
        gone,
    );
    is_refused([list, snapshot, rename].join("\n"), gone);
    is_refused(
        [list, rename, snapshot, restore].join("\n"),
        "comes before step rds_snapshot shop-db",
    );
    shop.plan(STEPS);
    shop.completes(&[], "put back");
    shop.is_cut_over("put back").await;
    assert_eq!(restored_from().await, ["nightly-0412"]);
}

#[tokio::test]
async fn steps_that_an_accepted_change_moved_are_reversed() {
    let fails = format!("{STEPS}  - shell: {{ run: \"exit 1\", repeatable: true }}\n");
    let shop = Shop::new(&fails, 0).await;
    shop.refuses(&[], 5, "exit code 1");
    let first = "prepare:\n  - shell: { run: \"exit 0\", repeatable: true }";
    shop.plan(&STEPS.replace("prepare:", first));
    shop.completes(&["--accept-plan-change"], "moved");
    shop.is_cut_over("moved").await;
    shop.is_taken_back("moved").await;
}

#[tokio::test]
async fn a_rename_is_found_by_its_tag_whatever_its_number_was() {
    let rename = "prepare:\n  - rds_rename: { instance: shop-db, to: shop-db-old }\n";
    let shop = Shop::new(rename, 0).await;
    shop.completes(&[], "renamed");
    fs::remove_dir_all(shop.folder.path().join("state")).unwrap();
    shop.plan(STEPS);
    let (code, said) = shop.said(&["undo", "shop.yaml"], None);
    assert_eq!(code, Some(2), "{said}");
    let warned = "no run is at work on these instances";
    assert!(said.replace('\n', " ").contains(warned), "{said}");
    shop.is_taken_back("another number").await;
}

#[tokio::test]
async fn what_is_nowhere_is_never_taken_for_reversed() {
    let mut shop = Shop::new(STEPS, 0).await;
    shop.completes(&[], "cut over");
    let path = shop.folder.path().join("shop.yaml");
    let here = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        here.replace("region: eu-central-1", "region: eu-west-1"),
    )
    .unwrap();
    let (code, said) = shop.undo(None);
    assert_eq!(code, Some(5), "{said}");
    let elsewhere = "was begun in eu-central-1/123456789012, and this is eu-west-1";
    assert!(said.contains(elsewhere), "{said}");
    fs::write(&path, &here).unwrap();

    // Another world answers there: other instances of the same names.
    layer("world", Some(json!({ "looks": 0 }))).await;
    shop.shortened = "rds_grace_s:0";
    // Nothing is journaled: typed again, it says the same.
    for _ in 0..2 {
        let (code, said) = shop.undo(None);
        assert_eq!(code, Some(5), "{said}");
        assert!(said.contains("is nowhere in eu-central-1"), "{said}");
        assert!(said.contains("nothing was reversed"), "{said}");
    }
    assert_eq!(done("rename").await, 0);
}

#[tokio::test]
async fn an_instance_that_got_the_name_meanwhile_is_not_what_was_restored() {
    let shop = Shop::new(STEPS, 0).await;
    shop.dies(&[], "step_asked:3:kill");
    hold("shop-db", "creating").await;
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_rekindle"))
        .args([
            "run",
            "shop.yaml",
            "--single-process",
            "--yes-rename",
            "shop-db",
        ])
        .current_dir(shop.folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(shop.folder.path().join("said")).unwrap())
        .env("AWS_ACCESS_KEY_ID", "AKIATEST")
        .env("AWS_SECRET_ACCESS_KEY", "geheim-4711")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .spawn()
        .unwrap();
    let said = || fs::read_to_string(shop.folder.path().join("said")).unwrap();
    let begun = std::time::Instant::now();
    while !said().contains("`shop-db` is creating") {
        assert!(begun.elapsed().as_secs() < 30, "{}", said());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let other = json!({ "name": "shop-db", "settings": { "dbi_resource_id": "db-OTHER" } });
    layer("set", Some(other)).await;
    hold("shop-db", "available").await;
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", said());
    let why = "somebody else is at work on these instances";
    assert!(said().contains(why), "{}", said());
}

#[tokio::test]
async fn with_the_state_file_lost_another_snapshot_is_not_what_was_restored() {
    let shop = Shop::new(STEPS, 0).await;
    shop.dies(&[], "step_asked:3:kill");
    shop.loses_its_state();
    shop.plan(&STEPS.replace("nightly-0412", "hourly-0600"));
    shop.refuses(&["--new"], 5, "was restored from snapshot/nightly-0412");
    shop.plan(STEPS);
    shop.completes(&["--accept-plan-change"], "put back");
    shop.is_cut_over("put back").await;
}

#[tokio::test]
async fn a_restore_that_was_found_begun_and_is_deleted_is_chosen_anew() {
    let shop = Shop::new(STEPS, 0).await;
    shop.dies(&[], "step_asked:3:kill");
    shop.loses_its_state();
    shop.dies(&["--new"], "step_intended:1:kill");
    by_hand(&[
        ("Action", "ModifyDBInstance"),
        ("DBInstanceIdentifier", "shop-db"),
        ("DeletionProtection", "false"),
    ])
    .await;
    by_hand(&[
        ("Action", "DeleteDBInstance"),
        ("DBInstanceIdentifier", "shop-db"),
        ("SkipFinalSnapshot", "true"),
    ])
    .await;
    shop.completes(&[], "deleted by hand");
    assert_eq!(restored_from().await, ["nightly-0412", "nightly-0412"]);
}

#[tokio::test]
async fn a_restore_that_is_refused_twice_is_not_looked_for() {
    let shop = Shop::new(STEPS, 0).await;
    deny("RestoreDBInstanceFromDBSnapshot", 0, -1).await;
    for _ in 0..2 {
        shop.refuses(&[], 5, "not authorized");
    }
    let (code, said) = shop.undo(None);
    assert_eq!(code, Some(0), "{said}");
    shop.is_as_before("refused twice").await;
    let left = layer("calls", None).await;
    let is_note = |call: &&Value| call["action"] == "RemoveTagsFromResource";
    assert!(left.as_array().unwrap().iter().filter(is_note).count() >= 2);
}

#[tokio::test]
async fn a_copy_with_the_tags_of_a_restored_instance_is_the_latest_all_the_same() {
    let shop = Shop::new(
        &STEPS.replace("snapshot: nightly-0412", "latest: manual"),
        0,
    )
    .await;
    by_hand(&[
        ("Action", "CreateDBSnapshot"),
        ("DBInstanceIdentifier", "shop-db"),
        ("DBSnapshotIdentifier", "copied"),
        ("Tags.member.1.Key", "rekindle:restored"),
        ("Tags.member.1.Value", "8PDQC3.3"),
    ])
    .await;
    shop.completes(&[], "latest");
    assert_eq!(restored_from().await, ["copied"]);
}

#[tokio::test]
async fn a_name_of_a_snapshot_that_is_taken_is_known_before_the_first_step() {
    let shop = Shop::new(
        "prepare:\n  - shell: { run: \"touch ran\", repeatable: true }\n  - rds_snapshot: { instance: shop-db, name: nightly-0412 }\n",
        0,
    )
    .await;
    let (code, said) = shop.said(&["run", "shop.yaml", "--single-process"], None);
    assert_eq!(code, Some(5), "{said}");
    assert!(
        said.contains("the name is taken: snapshot `nightly-0412`"),
        "{said}"
    );
    assert!(!shop.folder.path().join("ran").exists());
}

#[tokio::test]
async fn every_name_and_flag_is_in_what_to_type_next() {
    let two = "prepare:\n  - rds_rename: { instance: shop-db, to: shop-db-old }\n  - rds_rename: { instance: other-db, to: other-db-old }\n";
    let shop = Shop::of(two, json!({ "looks": 0, "taken": "other-db" })).await;
    let words = [
        "run",
        "shop.yaml",
        "--new",
        "--accept-plan-change",
        "--yes-rename",
        "other-db",
    ];
    let (code, said) = shop.said(&words, None);
    assert_eq!(code, Some(2), "{said}");
    let next = "`rekindle run shop.yaml --new --accept-plan-change --yes-rename shop-db --yes-rename other-db`";
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains(next), "{said}");
}

#[tokio::test]
async fn past_prepare_what_to_type_next_leads_somewhere() {
    let with = |finish: &str| {
        format!("{STEPS}finish:\n  - shell: {{ run: \"{finish}\", repeatable: true }}\n")
    };
    let shop = Shop::new(&with("exit 1"), 0).await;
    shop.refuses(&[], 5, "exit code 1");
    let first = "prepare:\n  - shell: { run: \"exit 0\", repeatable: true }";
    shop.plan(&with("exit 1").replace("prepare:", first));
    let (code, said) = shop.run(&["--accept-plan-change"], None);
    assert_eq!(code, Some(3), "{said}");
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("put those steps back as they were"), "{said}");
    assert!(!said.contains("--new"), "{said}");
    shop.plan(&with("exit 0"));
    shop.completes(&["--accept-plan-change"], "mended");
    shop.is_cut_over("mended").await;
}
