//! Snapshot, rename and restore of a database instance, against moto behind a layer that takes its time, refuses and
//! loses answers. Killed anywhere, with the state file lost, and taken back: the same world, and no request twice.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::server_url;

pub const STEPS: &str = r#"
prepare:
  - rds_snapshot: { instance: shop-db, name: "before-cutover-{run}" }
  - rds_rename: { instance: shop-db, to: shop-db-old }
  - rds_restore: { instance: shop-db, from: { snapshot: nightly-0412 }, settings_of: shop-db-old }
"#;

/// The requests that are carried out once, whatever happens.
const ONCE: [&str; 3] = [
    "CreateDBSnapshot",
    "rename",
    "RestoreDBInstanceFromDBSnapshot",
];

/// Asks the layer before moto.
pub async fn layer(path: &str, body: Option<Value>) -> Value {
    let url = format!("{}/layer/{path}", server_url("RDS_ENDPOINT"));
    let client = reqwest::Client::new();
    let request = match body {
        Some(body) => client.post(url).body(body.to_string()),
        None => client.get(url),
    };
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
    serde_json::from_str(&answer.text().await.unwrap()).unwrap()
}

/// A shop of ten rows with steps about RDS, and a fresh RDS.
pub struct Shop {
    pub folder: TempDir,
    /// The id of the instance that is called `shop-db` in the beginning, and its settings.
    pub original: Value,
    /// Waits of the program that no test sits through.
    pub shortened: &'static str,
}

impl Shop {
    /// `looks`: how many looks each change of RDS takes.
    pub async fn new(steps: &str, looks: u32) -> Self {
        Self::of(steps, json!({ "looks": looks })).await
    }

    pub async fn of(steps: &str, world: Value) -> Self {
        // Where everything is seen at once, nobody has to look for long.
        let shortened = if world["looks"] == 0 {
            "rds_again_ms:100"
        } else {
            ""
        };
        layer("world", Some(world)).await;
        let folder = tempfile::tempdir().unwrap();
        let database = rusqlite::Connection::open(folder.path().join("shop.sqlite")).unwrap();
        database
            .execute_batch(
                "CREATE TABLE a (id INTEGER PRIMARY KEY, key TEXT, data TEXT);
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10)
                 INSERT INTO a SELECT i, 'a:' || i, '{}' FROM n;",
            )
            .unwrap();
        let shop = Self {
            folder,
            original: held("shop-db").await.unwrap(),
            shortened,
        };
        shop.plan(steps);
        shop
    }

    pub fn plan(&self, steps: &str) {
        let text = format!(
            "version: 1\nname: shop\nsource: {{ url: \"sqlite:shop.sqlite\" }}\n\
             targets: {{ dump: {{ file: {{ path: out }} }} }}\n\
             resources: [{{ name: a, from: {{ table: a, cursor: [id], key: key, value: data }} }}]\n\
             defaults: {{ retry: {{ attempts: 4, base: 20ms, cap: 100ms }} }}\n\
             aws: {{ region: eu-central-1, endpoint: \"{}\", hourly: \"hourly-*\" }}\n{steps}",
            server_url("RDS_ENDPOINT")
        );
        fs::write(self.folder.path().join("shop.yaml"), text).unwrap();
    }

    pub fn said(&self, words: &[&str], point: Option<&str>) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rekindle"));
        command
            .args(words)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .env("AWS_ACCESS_KEY_ID", "AKIATEST")
            .env("AWS_SECRET_ACCESS_KEY", "geheim-4711")
            .env("AWS_EC2_METADATA_DISABLED", "true");
        if self.shortened.is_empty() {
            command.env_remove("RK_SET");
        } else {
            command.env("RK_SET", self.shortened);
        }
        match point {
            Some(point) => command.env("RK_FAIL", point),
            None => command.env_remove("RK_FAIL"),
        };
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(!said.contains("geheim"), "{said}");
        (output.status.code(), said)
    }

    pub fn run(&self, words: &[&str], point: Option<&str>) -> (Option<i32>, String) {
        let words = [
            &[
                "run",
                "shop.yaml",
                "--single-process",
                "--yes-rename",
                "shop-db",
            ],
            words,
        ]
        .concat();
        self.said(&words, point)
    }

    pub fn completes(&self, words: &[&str], after: &str) -> String {
        let (code, said) = self.run(words, None);
        assert_eq!(code, Some(0), "{after}: {said}");
        said
    }

    pub fn state(&self, end: &str) -> PathBuf {
        self.folder.path().join(format!("state/shop.sqlite{end}"))
    }

    /// The state file is gone; what lies beside it is not.
    pub fn loses_its_state(&self) {
        for end in ["", "-wal", "-shm"] {
            let path = self.state(end);
            if path.exists() {
                fs::remove_file(path).unwrap();
            }
        }
    }

    /// Asserts that the original made way, that what was restored has its settings, and that nothing was done twice.
    pub async fn is_cut_over(&self, after: &str) {
        let old = held("shop-db-old").await.expect(after);
        assert_eq!(old["id"], self.original["id"], "{after}");
        let new = held("shop-db").await.expect(after);
        assert_ne!(new["id"], self.original["id"], "{after}");
        for part in ["settings", "tags"] {
            assert_eq!(new[part], self.original[part], "{after}");
        }
        for request in ONCE {
            assert_eq!(done(request).await, 1, "{after}: {request}");
        }
    }

    /// Asserts that everything has the name that it had.
    pub async fn is_as_before(&self, after: &str) {
        let now = held("shop-db").await.expect(after);
        for part in ["id", "settings", "tags"] {
            assert_eq!(now[part], self.original[part], "{after}");
        }
        assert_eq!(held("shop-db-old").await, None, "{after}");
    }
}

/// Returns the instance that is called `name`, as it is.
pub async fn held(name: &str) -> Option<Value> {
    let all = layer("world", None).await;
    let mut all = all.as_array().unwrap().iter();
    all.find(|one| one["name"] == name).cloned()
}

/// Returns how often a request was carried out.
pub async fn done(request: &str) -> usize {
    let calls = layer("calls", None).await;
    let is_meant = |call: &&Value| {
        let action = call["action"].as_str().unwrap();
        let is_rename = action == "ModifyDBInstance" && !call["new_name"].is_null();
        call["done"] == true
            && if is_rename {
                request == "rename"
            } else {
                action == request
            }
    };
    calls.as_array().unwrap().iter().filter(is_meant).count()
}

/// Returns how many answers were not sent.
async fn lost() -> usize {
    let calls = layer("calls", None).await;
    let calls = calls.as_array().unwrap().iter();
    calls.filter(|call| call["answered"] == false).count()
}

/// Every point around the three steps, and after each request, the last of which puts settings back.
fn points() -> Vec<String> {
    let around = [
        "before_step",
        "step_intended",
        "step_performed",
        "step_done",
    ];
    let mut points: Vec<String> = around
        .iter()
        .flat_map(|point| (1..=3).map(move |nth| format!("{point}:{nth}:kill")))
        .collect();
    points.extend((1..=4).map(|nth| format!("step_asked:{nth}:kill")));
    points
}

#[tokio::test]
async fn an_instance_makes_way_and_its_successor_has_every_setting() {
    let shop = Shop::new(STEPS, 2).await;
    let (code, said) = shop.said(&["run", "shop.yaml", "--dry-run"], None);
    assert_eq!(code, Some(0), "{said}");
    for line in [
        "prepare: rds_snapshot shop-db: not done: no snapshot of this run",
        "prepare: rds_rename shop-db -> shop-db-old: not done: `shop-db` is db-",
        "prepare: rds_restore shop-db: not done: `shop-db` is db-",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert_eq!(
        layer("calls", None).await,
        json!([]),
        "looking changes nothing"
    );
    let said = shop.completes(&[], "undisturbed");
    assert!(said.contains("`shop-db` is creating"), "{said}");
    assert!(said.contains("settings equal"), "{said}");
    shop.is_cut_over("undisturbed").await;
    // A second run is another cutover, and there is an old instance still.
    let (code, said) = shop.run(&[], None);
    assert_eq!(code, Some(5), "{said}");
    assert!(
        said.contains("the name `shop-db-old` is taken by db-"),
        "{said}"
    );
    assert_eq!(done("rename").await, 1, "{said}");
}

#[tokio::test]
async fn killed_at_any_point_the_next_run_ends_in_the_same_world() {
    for point in points() {
        let shop = Shop::new(STEPS, 0).await;
        let (code, said) = shop.run(&[], Some(&point));
        assert_eq!(code, None, "{point}: {said}");
        // Agreed to once: what was begun needs no second word.
        shop.completes(&[], &point);
        shop.is_cut_over(&point).await;
    }
}

/// Inside the transactions, which [`points`] has the two sides of: an intent that is lost, an outcome that is.
#[tokio::test]
async fn killed_inside_a_commit_around_steps_the_next_run_ends_in_the_same_world() {
    for nth in [3, 5, 7] {
        let shop = Shop::new(STEPS, 0).await;
        let point = format!("journal_before_commit:{nth}:kill");
        let (code, said) = shop.run(&[], Some(&point));
        assert_eq!(code, None, "{point}: {said}");
        shop.completes(&[], &point);
        shop.is_cut_over(&point).await;
    }
}

#[tokio::test]
async fn with_the_state_file_lost_nothing_is_restored_twice() {
    // Where the journal is gone, a request that was answered and one that was recorded are the same.
    let is_news = |point: &String| {
        let same = ["step_performed", "before_step:2", "before_step:3"];
        !same.iter().any(|begin| point.starts_with(begin))
    };
    for point in points().into_iter().filter(is_news) {
        let shop = Shop::new(STEPS, 0).await;
        let (code, said) = shop.run(&[], Some(&point));
        assert_eq!(code, None, "{point}: {said}");
        shop.loses_its_state();
        let (code, said) = shop.run(&[], None);
        assert_eq!(code, Some(3), "{point}: {said}");
        shop.completes(&["--new"], &point);
        shop.is_cut_over(&point).await;
    }
}

#[tokio::test]
async fn c2_killed_while_rds_takes_its_time_the_wait_goes_on() {
    let shop = Shop::new(STEPS, 2).await;
    for point in ["step_asked:1:kill", "step_asked:1:kill"] {
        // The first request of each process: the snapshot, then the rename.
        let (code, said) = shop.run(&[], Some(point));
        assert_eq!(code, None, "{said}");
    }
    shop.loses_its_state();
    shop.completes(&["--new"], "killed in both waits");
    shop.is_cut_over("killed in both waits").await;
}

#[tokio::test]
async fn c1_a_lost_answer_is_looked_for_and_nothing_is_asked_twice() {
    // The second change of an instance puts its settings back.
    for (action, skip) in [
        ("CreateDBSnapshot", 0),
        ("AddTagsToResource", 0),
        ("ModifyDBInstance", 0),
        ("RestoreDBInstanceFromDBSnapshot", 0),
        ("ModifyDBInstance", 1),
    ] {
        let shop = Shop::new(STEPS, 1).await;
        let fault = json!([{ "action": action, "kind": "drop", "skip": skip }]);
        layer("faults", Some(fault)).await;
        shop.completes(&[], action);
        shop.is_cut_over(action).await;
        assert_eq!(lost().await, 1, "{action}, after {skip}");
    }
}

#[tokio::test]
async fn c1_an_answer_that_is_lost_on_the_way_back_is_looked_for() {
    // What was restored makes way, and the original has its name back; then its tag goes.
    for (action, skip) in [
        ("ModifyDBInstance", 0),
        ("ModifyDBInstance", 1),
        ("RemoveTagsFromResource", 0),
    ] {
        let shop = Shop::new(STEPS, 1).await;
        let (code, said) = shop.run(&[], Some("step_done:3:kill"));
        assert_eq!(code, None, "{said}");
        let fault = json!([{ "action": action, "kind": "drop", "skip": skip }]);
        layer("faults", Some(fault)).await;
        let (code, said) = shop.said(&["undo", "shop.yaml", "--yes"], None);
        assert_eq!(code, Some(0), "{action}, after {skip}: {said}");
        shop.is_as_before(action).await;
        assert_eq!(lost().await, 1, "{action}, after {skip}");
        // To the other name and back, and what was restored out of the way.
        assert_eq!(done("rename").await, 3, "{action}, after {skip}: {said}");
    }
}

#[tokio::test]
async fn c5_what_was_just_made_may_be_nowhere_to_be_seen_for_a_while() {
    let shop = Shop::of(STEPS, json!({ "looks": 1, "unseen": 5 })).await;
    let said = shop.completes(&[], "unseen");
    for part in ["is nowhere to be seen", "`shop-db` is not there yet"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    shop.is_cut_over("unseen").await;
}

#[tokio::test]
async fn c6_a_journal_that_went_back_asks_for_nothing_twice() {
    for has_log in [true, false] {
        let shop = Shop::new(STEPS, 0).await;
        // Before the rename; then past the request for the restore.
        let (code, said) = shop.run(&[], Some("before_step:2:kill"));
        assert_eq!(code, None, "{said}");
        let ends = if has_log { &["", "-wal"][..] } else { &[""] };
        let older = ends.iter().map(|end| (end, fs::read(shop.state(end))));
        let older: Vec<_> = older.map(|(end, bytes)| (end, bytes.unwrap())).collect();
        let (code, said) = shop.run(&[], Some("step_asked:2:kill"));
        assert_eq!(code, None, "{said}");
        shop.loses_its_state();
        for (end, bytes) in older {
            fs::write(shop.state(end), bytes).unwrap();
        }
        if !has_log {
            let (code, said) = shop.run(&[], None);
            assert_eq!(code, Some(3), "{said}");
        }
        let words = if has_log { &[][..] } else { &["--new"] };
        shop.completes(words, "an older journal");
        shop.is_cut_over("an older journal").await;
    }
}

#[tokio::test]
async fn c10_throttling_and_expired_credentials_are_waited_for() {
    let shop = Shop::new(STEPS, 1).await;
    layer(
        "faults",
        Some(json!([
            { "action": "RestoreDBInstanceFromDBSnapshot", "kind": "throttle" },
            { "action": "ModifyDBInstance", "kind": "expire" },
            { "action": "CreateDBSnapshot", "kind": "throttle" },
            // While something is waited for.
            { "action": "DescribeDBSnapshots", "kind": "throttle", "skip": 2, "times": 2 },
            { "action": "DescribeDBInstances", "kind": "expire", "skip": 24, "times": 2 },
        ])),
    )
    .await;
    shop.completes(&[], "throttled");
    shop.is_cut_over("throttled").await;
}

#[tokio::test]
async fn c3_a_name_that_is_taken_stops_before_the_first_rename() {
    let shop = Shop::of(STEPS, json!({ "looks": 0, "taken": "shop-db-old" })).await;
    let (code, said) = shop.run(&[], None);
    assert_eq!(code, Some(5), "{said}");
    assert!(
        said.contains("the name `shop-db-old` is taken by db-"),
        "{said}"
    );
    assert_eq!(done("rename").await, 0, "{said}");
    let now = held("shop-db").await.unwrap();
    for part in ["id", "settings", "tags"] {
        assert_eq!(now[part], shop.original[part]);
    }
}

#[tokio::test]
async fn c3_what_cannot_be_done_is_known_before_the_first_rename() {
    let shop = Shop::new(STEPS, 0).await;
    let refused = async |why: &str| {
        let (code, said) = shop.run(&["--new"], None);
        assert_eq!(code, Some(5), "{said}");
        assert!(said.contains(why), "{why}: {said}");
        assert_eq!(done("rename").await, 0, "{said}");
        shop.is_as_before(why).await;
    };
    let creating = json!({ "name": "nightly-0412", "status": "creating", "percent": 41 });
    layer("hold", Some(creating)).await;
    refused("snapshot `nightly-0412` is creating (41 %), not available").await;
    layer(
        "hold",
        Some(json!({ "name": "nightly-0412", "status": "available" })),
    )
    .await;
    let denied = json!([{ "action": "DescribeDBSnapshots", "kind": "deny", "times": -1 }]);
    layer("faults", Some(denied)).await;
    refused("not authorized to perform: rds:DescribeDBSnapshots").await;
    layer("faults", Some(json!([]))).await;
    shop.plan(&STEPS.replace("nightly-0412", "nightly-9999"));
    refused("there is no snapshot `nightly-9999`").await;
}

#[tokio::test]
async fn names_are_typed_before_anything_changes_hands() {
    let shop = Shop::new(STEPS, 0).await;
    let (code, said) = shop.said(&["run", "shop.yaml", "--single-process"], None);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("`shop-db`: is renamed to `shop-db-old`, then is restored anew"),
        "{said}"
    );
    assert!(said.contains("--yes-rename shop-db"), "{said}");
    let wrong = ["run", "shop.yaml", "--yes-rename", "shop-bd"];
    let (code, said) = shop.said(&wrong, None);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("did you mean `--yes-rename shop-db`"),
        "{said}"
    );
    assert!(!shop.folder.path().join("state").exists(), "{said}");
    assert_eq!(layer("calls", None).await, json!([]));
}

#[tokio::test]
async fn c4_settings_that_went_missing_are_put_back_and_others_block() {
    let shop = Shop::new(STEPS, 0).await;
    let (code, said) = shop.run(&[], Some("step_performed:3:kill"));
    assert_eq!(code, None, "{said}");
    let blanked = json!({
        "deletion_protection": false, "backup_retention_period": 0, "vpc_security_group_ids": ["sg-default"],
        "enabled_cloudwatch_logs_exports": ["error", "audit"], "publicly_accessible": true,
    });
    let blank = json!({ "name": "shop-db", "settings": blanked });
    layer("set", Some(blank)).await;
    shop.completes(&[], "blanked");
    shop.is_cut_over("blanked").await;

    let shop = Shop::new(STEPS, 0).await;
    let (code, said) = shop.run(&[], Some("step_performed:3:kill"));
    assert_eq!(code, None, "{said}");
    let key = |key: &str| json!({ "name": "shop-db", "settings": { "kms_key_id": key } });
    layer("set", Some(key("k2"))).await;
    let (code, said) = shop.run(&[], None);
    assert_eq!(code, Some(5), "{said}");
    assert!(
        said.contains("kms_key is k2, not arn:aws:kms:eu-central-1:1:key/k1"),
        "{said}"
    );
    let table = fs::read_to_string(shop.folder.path().join("state/shop.sqlite.prepare-3.log"));
    let table = table.unwrap();
    assert!(table.starts_with("setting  wanted "), "{table}");
    layer("set", Some(key("arn:aws:kms:eu-central-1:1:key/k1"))).await;
    shop.completes(&[], "mended by hand");
    shop.is_cut_over("mended by hand").await;
}

#[tokio::test]
async fn undo_gives_the_old_name_back_from_any_point() {
    for point in points() {
        let shop = Shop::new(STEPS, 0).await;
        let (code, said) = shop.run(&[], Some(&point));
        assert_eq!(code, None, "{point}: {said}");
        let (code, said) = shop.said(&["undo", "shop.yaml", "--yes"], None);
        assert_eq!(code, Some(0), "{point}: {said}");
        shop.is_as_before(&point).await;
        let (code, said) = shop.said(&["undo", "shop.yaml", "--yes"], None);
        assert_eq!(code, Some(0), "{point}: {said}");
        shop.is_as_before(&point).await;
    }
}

#[tokio::test]
async fn c9_a_restore_that_is_not_allowed_says_who_has_which_name_and_is_taken_back() {
    let shop = Shop::new(STEPS, 0).await;
    let denied =
        json!([{ "action": "RestoreDBInstanceFromDBSnapshot", "kind": "deny", "times": -1 }]);
    layer("faults", Some(denied)).await;
    let (code, said) = shop.run(&[], None);
    assert_eq!(code, Some(5), "{said}");
    let id = shop.original["id"].as_str().unwrap();
    for part in [
        "not authorized to perform: rds:RestoreDBInstanceFromDBSnapshot",
        &format!("(rds_rename shop-db -> shop-db-old): {id} (available, made "),
        ") is called `shop-db-old`",
        "`rekindle undo shop.yaml` shows the way back",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (code, said) = shop.said(&["undo", "shop.yaml", "--yes"], None);
    assert_eq!(code, Some(0), "{said}");
    shop.is_as_before("taken back").await;
}

#[tokio::test]
async fn what_can_be_restored_is_listed_newest_first() {
    let shop = Shop::new(STEPS, 0).await;
    let (code, said) = shop.said(&["snapshots", "shop.yaml"], None);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(": any time from about "), "{said}");
    let (code, said) = shop.said(&["snapshots", "shop.yaml", "--json"], None);
    assert_eq!(code, Some(0), "{said}");
    let listed: Value = serde_json::from_str(&said).unwrap();
    let listed = listed["snapshots"].as_array().unwrap();
    let kinds = listed.iter().map(|one| one["kind"].as_str().unwrap());
    let kinds: Vec<_> = kinds.collect();
    assert_eq!(kinds, ["hourly", "hourly", "manual", "automated"], "{said}");
    let expires: Vec<_> = listed.iter().map(|one| one["expires"].is_null()).collect();
    assert_eq!(expires, [true, true, true, false], "{said}");
    let days = |one: &Value| one["expires"].as_i64().unwrap() - one["taken"].as_i64().unwrap();
    assert_eq!(days(&listed[3]), 7 * 24 * 60 * 60);
}

#[tokio::test]
async fn the_latest_of_a_kind_and_a_moment_are_restored_too() {
    let latest = STEPS.replace("snapshot: nightly-0412", "latest: hourly");
    let shop = Shop::new(&latest, 0).await;
    shop.completes(&[], "latest");
    shop.is_cut_over("latest").await;
    let calls = layer("calls", None).await;
    let mut calls = calls.as_array().unwrap().iter();
    assert!(calls.any(|call| call["snapshot"] == "hourly-0600"));

    let at = |time: i64| {
        let time = chrono::DateTime::from_timestamp(time, 0).unwrap();
        STEPS.replace(
            "snapshot: nightly-0412",
            &format!("time: \"{}\"", time.to_rfc3339()),
        )
    };
    let now = chrono::Utc::now().timestamp();
    let shop = Shop::new(&at(now - 30 * 24 * 60 * 60), 0).await;
    let (code, said) = shop.run(&[], None);
    assert_eq!(code, Some(5), "{said}");
    assert!(
        said.contains("is outside of what can be restored"),
        "{said}"
    );
    shop.is_as_before("too long ago").await;
    // moto's instance is a second old: the moment of its birth is the first there is.
    let (_, listed) = shop.said(&["snapshots", "shop.yaml", "--json"], None);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    shop.plan(&at(listed["window"]["from"].as_i64().unwrap()));
    let fault = json!([{ "action": "RestoreDBInstanceToPointInTime", "kind": "drop" }]);
    layer("faults", Some(fault)).await;
    let (code, said) = shop.run(&["--new"], None);
    assert_eq!(code, Some(0), "{said}");
    let new = held("shop-db").await.unwrap();
    assert_eq!(new["settings"], shop.original["settings"]);
    assert_eq!(done("RestoreDBInstanceToPointInTime").await, 1, "{said}");
}

impl Shop {
    /// Runs until `point`, where the program dies.
    pub fn dies(&self, words: &[&str], point: &str) {
        let (code, said) = self.run(words, Some(point));
        assert_eq!(code, None, "{point}: {said}");
    }

    pub fn undo(&self, point: Option<&str>) -> (Option<i32>, String) {
        self.said(&["undo", "shop.yaml", "--yes"], point)
    }

    pub async fn is_taken_back(&self, after: &str) {
        let (code, said) = self.undo(None);
        assert_eq!(code, Some(0), "{after}: {said}");
        self.is_as_before(after).await;
    }

    pub fn refuses(&self, words: &[&str], exit: i32, why: &str) {
        let (code, said) = self.run(words, None);
        assert_eq!(code, Some(exit), "{said}");
        assert!(said.contains(why), "{why}: {said}");
    }
}

#[tokio::test]
async fn undo_does_not_believe_an_old_name_that_was_just_asked_to_change() {
    let shop = Shop::new(STEPS, 2).await;
    shop.dies(&[], "step_asked:2:kill");
    shop.is_taken_back("asked for a moment ago").await;
}

#[tokio::test]
async fn undo_of_a_restore_that_was_just_asked_for_waits_until_it_is_there() {
    let shop = Shop::new(STEPS, 0).await;
    shop.dies(&[], "before_step:3:kill");
    // Longer than a step that was begun looks for what it may have asked for.
    layer("pace", Some(json!({ "looks": 1, "unseen": 9 }))).await;
    shop.dies(&[], "step_asked:1:kill");
    layer("pace", Some(json!({ "looks": 0 }))).await;
    let (code, said) = shop.undo(None);
    assert_eq!(code, Some(0), "{said}");
    let waits = "`shop-db` may have been asked for, and is nowhere to be seen yet";
    assert!(said.contains(waits), "{said}");
    shop.is_as_before("asked for a moment ago").await;
}

#[tokio::test]
async fn a_half_done_cutover_is_taken_back_before_another_one_begins() {
    for point in ["step_reversed:1:kill", "step_asked:2:kill"] {
        let shop = Shop::new(STEPS, 0).await;
        shop.completes(&[], point);
        let (code, said) = shop.undo(Some(point));
        assert_eq!(code, None, "{point}: {said}");
        shop.refuses(&[], 3, "is half done");
        assert_eq!(done("RestoreDBInstanceFromDBSnapshot").await, 1, "{point}");
        shop.is_taken_back(point).await;
    }
    let shop = Shop::new(STEPS, 0).await;
    shop.dies(&[], "step_done:2:kill");
    shop.refuses(&["--new"], 3, "is half done");
    shop.is_taken_back("begun anew").await;
}

#[tokio::test]
async fn a_state_file_that_is_lost_twice_leaves_everything_to_the_third_run() {
    let shop = Shop::new(STEPS, 0).await;
    shop.dies(&[], "step_done:2:kill");
    shop.loses_its_state();
    // The first two steps are found done.
    shop.dies(&["--new"], "before_step:1:kill");
    shop.refuses(&["--new"], 3, "is half done");
    shop.loses_its_state();
    shop.completes(&["--new"], "lost twice");
    shop.is_cut_over("lost twice").await;
    shop.is_taken_back("lost twice").await;
}

#[tokio::test]
async fn a_rename_of_a_run_that_nobody_knows_is_found_by_its_tag_and_taken_back() {
    let snapshot = "  - rds_snapshot: { instance: shop-db, name: \"before-cutover-{run}\" }\n";
    let forgets = |shop: &Shop| fs::remove_dir_all(shop.folder.path().join("state")).unwrap();
    let shop = Shop::new(&STEPS.replace(snapshot, ""), 0).await;
    shop.dies(&[], "step_done:1:kill");
    forgets(&shop);
    shop.completes(&[], "found by its tag");
    assert_eq!(done("rename").await, 1);
    shop.is_taken_back("found by its tag").await;

    let shop = Shop::new(STEPS, 0).await;
    shop.dies(&[], "step_asked:3:kill");
    forgets(&shop);
    let (code, said) = shop.run(&[], None);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("nobody named back"), "{said}");
    forgets(&shop);
    let (code, said) = shop.said(&["undo", "shop.yaml"], None);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("no state file here knows of it"), "{said}");
    assert!(!shop.folder.path().join("state").exists());
    shop.is_taken_back("nobody knows of it").await;
    let (_, said) = shop.undo(None);
    assert!(said.contains("no instance bears a tag"), "{said}");
}

#[tokio::test]
async fn a_second_run_by_mistake_does_not_hide_the_first_one() {
    let shop = Shop::new(STEPS, 0).await;
    shop.completes(&[], "the first one");
    shop.refuses(&[], 5, "nobody named back");
    assert_eq!(done("CreateDBSnapshot").await, 1);
    shop.is_taken_back("by mistake").await;
}

#[tokio::test]
async fn what_was_undone_before_the_state_file_was_lost_is_nothing_of_the_next_cutover() {
    let shop = Shop::new(STEPS, 0).await;
    shop.completes(&[], "the first one");
    shop.is_taken_back("the first one").await;
    shop.loses_its_state();
    shop.completes(&["--new"], "the second one");
    assert_eq!(done("CreateDBSnapshot").await, 2);
    shop.is_taken_back("the second one").await;
    let all = layer("world", None).await;
    let all = all.as_array().unwrap().iter();
    let aside = all.filter(|one| one["name"].as_str().unwrap().starts_with("shop-db-undone-"));
    assert_eq!(aside.count(), 2);
}

#[tokio::test]
async fn an_accepted_change_of_the_plan_renames_nothing_unasked_and_drops_no_rename() {
    let shop = Shop::of(STEPS, json!({ "looks": 0, "taken": "other-db" })).await;
    shop.dies(&[], "step_done:2:kill");
    shop.plan(&STEPS.replace(
        "rds_rename: { instance: shop-db, to: shop-db-old }",
        "rds_rename: { instance: other-db, to: other-db-old }",
    ));
    shop.refuses(&["--accept-plan-change"], 2, "instance `other-db`");
    shop.refuses(
        &["--accept-plan-change", "--yes-rename", "other-db"],
        3,
        "left something behind that the plan no longer says",
    );
    assert_eq!(done("rename").await, 1);
    shop.plan(STEPS);
    shop.is_taken_back("put back").await;
}

#[tokio::test]
async fn a_run_that_was_agreed_to_goes_on_without_a_second_word() {
    let shop = Shop::new(STEPS, 0).await;
    let denied = json!([{ "action": "RestoreDBInstanceFromDBSnapshot", "kind": "deny" }]);
    layer("faults", Some(denied)).await;
    shop.refuses(&[], 5, "not authorized");
    let (code, said) = shop.said(&["run", "shop.yaml", "--single-process"], None);
    assert_eq!(code, Some(0), "{said}");
    shop.is_cut_over("agreed to").await;
}

#[tokio::test]
async fn what_surely_cannot_be_done_is_known_before_the_first_step() {
    let shell = "prepare:\n  - shell: { run: \"touch ran\", repeatable: true }";
    let steps = STEPS.replace("prepare:", shell);
    let shop = Shop::of(&steps, json!({ "looks": 0, "taken": "shop-db-old" })).await;
    shop.refuses(&[], 5, "the name `shop-db-old` is taken by db-");
    assert!(!shop.folder.path().join("ran").exists());
    assert_eq!(done("CreateDBSnapshot").await, 0);
}
