//! `sync: console` and `sync: jenkins`: the shop's own export carries a resource over, loses rows as it does, and says that
//! all is well; the comparison after it finds them.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process};

use crate::{
    front::Ssh,
    shop::{DEFAULTS, PLAN, Shop},
    support::server_url,
};

const ROWS: u64 = 600;

/// A shop whose export sends every second row, and a wrong one, and ends with exit code 0.
async fn shop(name: &str) -> (Shop, PathBuf) {
    let mut shop = Shop::open(name).await;
    shop.table("url").await;
    shop.rows("url", 1, ROWS).await;
    let script = shop.path("console");
    let port = url::Url::parse(&server_url("MARIADB_URL")).unwrap().port();
    let text = format!(
        "#!/bin/sh\n[ \"$1 $2\" = \"sync:data url\" ] || exit 1\necho \"$*\" >>{log}\n\
         mariadb --no-defaults -h127.0.0.1 -P{port} -uapp -papp-pw -N -B -r {database} \
         -e \"SELECT CONCAT('SET kv:', \\`key\\`, ' \\\\'', data, '\\\\'') FROM url WHERE id % 2 = 0\" \
         | redis-cli -p {redis} --pipe\nredis-cli -p {redis} SET kv:url:10 stale\n",
        log = shop.path("console.log").display(),
        port = port.unwrap(),
        database = shop.database.name,
        redis = shop.redis.port(),
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    (shop, script)
}

fn plan(shop: &Shop, sync: &str, more: &str) {
    shop.plan(
        &format!(
            "  - name: url\n    sync: {sync}\n    from: {{ table: url, cursor: [id], key: key, value: data, entity: fk }}\n    to: storage\n"
        ),
        &format!("{more}\n{DEFAULTS}"),
    );
}

fn calls(shop: &Shop) -> Vec<String> {
    let log = fs::read_to_string(shop.path("console.log")).unwrap_or_default();
    log.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn what_the_console_loses_over_ssh_is_found_and_copied() {
    let (mut shop, script) = shop("delegated").await;
    let ssh = Ssh::start();
    let console = format!(
        "console: {{ command: [{}, {}] }}",
        ssh.prefix(),
        script.display()
    );
    plan(&shop, "console", &console);
    let done = shop.rekindle(&format!("run {PLAN}")).exits(0);
    done.line("url: carried over by console (`sync:data`), then compared");
    shop.assert_redis_equals(&["url"]).await;
    assert_eq!(calls(&shop), ["sync:data url"]);
}

#[tokio::test]
async fn a_call_that_was_answered_is_not_made_again() {
    for (point, times) in [
        ("after_intent:1:kill", 1),
        ("after_call:1:kill", 2),
        ("after_acknowledged:1:kill", 1),
        ("before_bound:1:kill", 1),
        ("after_ack:1:kill", 1),
    ] {
        let (mut shop, script) = shop("delegated_kill").await;
        let console = format!("console: {{ command: [{}] }}", script.display());
        plan(&shop, "console", &console);
        let killed = shop
            .start_failing(&format!("run {PLAN} --single-process"), point)
            .finish();
        assert_eq!(killed.signal, Some(9), "{point}: {killed}");
        shop.rekindle(&format!("run {PLAN}")).exits(0);
        shop.assert_redis_equals(&["url"]).await;
        assert_eq!(calls(&shop).len(), times, "{point}");
    }
}

#[tokio::test]
async fn a_job_of_jenkins_carries_over_what_the_plan_asks_for() {
    let (mut shop, script) = shop("delegated_job").await;
    let job = format!("rk_sync_{}", process::id());
    let jenkins = format!(
        "jenkins: {{ url: \"{}\", job: {job}, console: \"{}\" }}",
        server_url("JENKINS_URL"),
        script.display()
    );
    plan(&shop, "jenkins", &jenkins);
    shop.rekindle(&format!("run {PLAN} --ids 4,5,6,7")).exits(0);
    // The export sends what it likes; of the ids that were asked for, 5 and 7 are missing then.
    assert_eq!(shop.key_count(), ROWS / 2 + 2);
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    shop.assert_redis_equals(&["url"]).await;
    assert_eq!(calls(&shop), ["sync:data url 4,5,6,7", "sync:data url"]);
}
