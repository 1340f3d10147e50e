//! `jenkins_build` against the nearest relative of Jenkins that there is to be had.

use std::{
    fs,
    process::{self, Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::server_url;

/// Makes a shop of ten rows whose plan builds `job` with `command` when they are restored.
fn shop(job: &str, command: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let database = rusqlite::Connection::open(folder.path().join("shop.sqlite")).unwrap();
    database
        .execute_batch(
            "CREATE TABLE a (id INTEGER PRIMARY KEY, key TEXT, data TEXT);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10)
             INSERT INTO a SELECT i, 'a:' || i, '{}' FROM n;",
        )
        .unwrap();
    let plan = format!(
        "version: 1\nname: shop\nsource: {{ url: \"sqlite:shop.sqlite\" }}\n\
         targets: {{ dump: {{ file: {{ path: out }} }} }}\n\
         resources: [{{ name: a, from: {{ table: a, cursor: [id], key: key, value: data }} }}]\n\
         jenkins: {{ url: \"{}\" }}\n\
         finish: [{{ jenkins_build: {{ job: {job}, shell: '{command}' }} }}]\n",
        server_url("JENKINS_URL")
    );
    fs::write(folder.path().join("shop.yaml"), plan).unwrap();
    folder
}

fn run(shop: &TempDir, point: Option<&str>) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rekindle"));
    command
        .args(["run", "shop.yaml", "--single-process"])
        .current_dir(shop.path());
    match point {
        Some(point) => command.env("RK_FAIL", point),
        None => command.env_remove("RK_FAIL"),
    };
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

/// Returns the results of the job's builds, the latest first.
async fn results(job: &str) -> Vec<String> {
    let url = format!(
        "{}/job/{job}/api/json?tree=builds[result]",
        server_url("JENKINS_URL")
    );
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    let answer: Value = serde_json::from_str(&text).unwrap();
    let builds = answer["builds"].as_array().unwrap().iter();
    builds
        .map(|build| build["result"].as_str().unwrap_or("none").to_owned())
        .collect()
}

#[tokio::test]
async fn a_build_is_asked_for_once_though_the_run_dies_around_it() {
    let job = format!("rk_once_{}", process::id());
    let shop = shop(&job, "echo \"<$REKINDLE_RUN> & done\"");
    for point in ["step_intended:1:kill", "step_performed:1:kill"] {
        assert_eq!(run(&shop, Some(point)).0, None, "{point}");
    }
    let (code, said) = run(&shop, None);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains(&format!("finish: jenkins_build {job} done")),
        "{said}"
    );
    assert_eq!(results(&job).await, ["SUCCESS"]);
}

#[tokio::test]
async fn a_build_that_fails_is_shown_and_the_next_run_builds_anew() {
    let job = format!("rk_fails_{}", process::id());
    let shop = shop(&job, "echo \"a & b\"; test -e /nowhere/at/all");
    for _ in 0..2 {
        let (code, said) = run(&shop, None);
        assert_eq!(code, Some(5), "{said}");
        assert!(
            said.contains("ended with FAILURE; its console is in"),
            "{said}"
        );
    }
    assert_eq!(results(&job).await, ["FAILURE", "FAILURE"]);
    let console = fs::read_to_string(shop.path().join("state/shop.sqlite.finish-1.log")).unwrap();
    assert!(console.contains("a & b\n"), "{console}");
}
