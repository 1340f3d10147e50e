//! What servers do to a run: full disks, full queues, small limits, restarts, indexes made anew, other runs.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    search::{BOTH, assert_equal, plan, wanted},
    search_server::SearchServer,
    shop::{PLAN, Shop, wait_until},
};

const QUICK: &str =
    "defaults:\n  chunk: { rows: 100 }\n  retry: { attempts: 60, base: 20ms, cap: 500ms }\n";

async fn shop(name: &str, server: &SearchServer, rows: u64, defaults: &str) -> Shop {
    let mut shop = Shop::open(name).await;
    shop.table("url").await;
    shop.rows("url", 1, rows).await;
    server.create("t_url");
    shop.write_plan(&plan(&server.url(), "", &["url"], defaults));
    shop
}

async fn assert_restored(shop: &mut Shop, server: &SearchServer) {
    assert_equal(&wanted(shop, "url").await, &server.documents("t_url"));
}

#[tokio::test]
async fn e3_a_full_disk_is_waited_for_by_its_name() {
    for product in BOTH {
        let server = SearchServer::shared(product);
        let mut shop = shop("flood", &server, 5_000, QUICK).await;
        let block = |on: Value| {
            let body = json!({ "index.blocks.read_only_allow_delete": on });
            server.must("PUT", "/t_url/_settings", &body);
        };
        block(json!(true));
        let mut running = shop.start(&format!("run {PLAN}"));
        let said = running.says("disk is almost full");
        assert!(said.contains("flood stage"), "{said}");
        block(Value::Null);
        running.finish().exits(0);
        assert_restored(&mut shop, &server).await;
    }
}

#[tokio::test]
async fn an_index_that_is_blocked_for_writes_stops_the_resource_by_its_name() {
    let server = SearchServer::shared("elasticsearch");
    let mut shop = shop("wblock", &server, 500, QUICK).await;
    let block = |on: Value| {
        server.must(
            "PUT",
            "/t_url/_settings",
            &json!({ "index.blocks.write": on }),
        );
    };
    block(json!(true));
    let stopped = shop.rekindle(&format!("run {PLAN}")).exits(5);
    assert!(stopped.stderr.contains("`index.blocks.write`"), "{stopped}");
    block(Value::Null);
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    assert_restored(&mut shop, &server).await;
}

#[tokio::test]
async fn e6_an_index_made_anew_is_filled_from_the_first_row() {
    for product in BOTH {
        let server = SearchServer::shared(product);
        // While the run stands still, and while it does not.
        for at_work in [false, true] {
            server.ask("DELETE", "/t_*,rekindle?ignore_unavailable=true", None);
            let mut shop = shop("anew", &server, 20_000, QUICK).await;
            let done = if at_work {
                let running = shop.start(&format!("run {PLAN}"));
                shop.wait_for_chunks(10);
                running.pause();
                server.must("DELETE", "/t_url", &Value::Null);
                server.create("t_url");
                running.go_on();
                let ended = running.finish();
                if ended.code == Some(5) {
                    // A chunk was on its way at that very moment, and may have created the index: a person looks.
                    ended.line("url: blocked: an index was deleted");
                    shop.rekindle(&format!("run {PLAN}")).exits(0)
                } else {
                    ended.exits(0)
                }
            } else {
                shop.half_done(10);
                server.must("DELETE", "/t_url", &Value::Null);
                server.create("t_url");
                let dry = shop.rekindle(&format!("run {PLAN} --dry-run")).exits(0);
                assert!(dry.stdout.contains("done again"), "{dry}");
                shop.rekindle(&format!("run {PLAN}")).exits(0)
            };
            done.line("`url` starts over");
            assert_restored(&mut shop, &server).await;
        }
    }
}

#[tokio::test]
async fn j7_a_second_run_names_the_first_and_a_later_one_voids_it() {
    for product in BOTH {
        let server = SearchServer::shared(product);
        let mut shop = shop("twice", &server, 10_000, QUICK).await;
        let held = shop.held_after(&format!("run {PLAN}"), 10);
        let second = shop
            .rekindle(&format!("run {PLAN} --state other.sqlite"))
            .exits(6);
        assert!(second.stderr.contains("shop.sqlite"), "{second}");
        held.kill_group();
        // The lease of the dead one runs out; nobody waits for that here.
        server.must("DELETE", "/rekindle/_doc/lease", &Value::Null);
        shop.rekindle(&format!("run {PLAN} --state other.sqlite"))
            .exits(0);
        let done = shop.rekindle(&format!("run {PLAN}")).exits(0);
        done.line("`url` starts over");
        assert_restored(&mut shop, &server).await;
    }
}

#[tokio::test]
async fn a_lease_that_ran_out_is_taken() {
    let server = SearchServer::shared("opensearch");
    let mut shop = shop("lease", &server, 100, QUICK).await;
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let lease = |age: i64| {
        let renewed = chrono::Utc::now().timestamp_millis() - age;
        let owner = json!({ "state": "other", "state_path": "/x.sqlite", "host": host, "pid": 7, "run": "ABCDEF" });
        let body = json!({ "owner": owner, "renewed_ms": renewed });
        server.must("PUT", "/rekindle/_doc/lease", &body);
    };
    lease(0);
    shop.rekindle(&format!("run {PLAN}")).exits(6);
    lease(31_000);
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    assert_restored(&mut shop, &server).await;
}

#[tokio::test]
async fn a_node_with_small_limits_that_stops_and_dies_gets_everything() {
    for product in BOTH {
        let mut server = SearchServer::private(
            product,
            &[
                "http.max_content_length: 64kb",
                "thread_pool.write.size: 1",
                "thread_pool.write.queue_size: 1",
            ],
        );
        let defaults = "defaults:\n  chunk: { rows: 2000 }\n  parallel: { resources: 4, partitions: 4 }\n  \
                        retry: { attempts: 200, base: 20ms, cap: 500ms }\n";
        let mut shop = shop("small", &server, 30_000, defaults).await;
        shop.database
            .execute(
                "UPDATE url SET data = CONCAT('{\"hash\": \"', REPEAT('x', 70000), '\"}') WHERE id = 4711",
            )
            .await;
        let mut running = shop.start(&format!("run {PLAN}"));
        shop.wait_for_chunks(3);
        server.signal(Signal::STOP);
        let begun = Instant::now();
        wait_until("five seconds are over", || {
            begun.elapsed() > Duration::from_secs(5)
        });
        assert!(running.is_at_work(), "it waits");
        server.signal(Signal::CONT);
        shop.wait_for_chunks(6);
        server.kill();
        running.says("cannot reach");
        server.launch();
        running.finish().exits(4);
        let letters = crate::search::dead_letters(&shop);
        assert!(
            letters["url:4711"].contains("larger than the server takes"),
            "{letters:?}"
        );
        assert_eq!(letters.len(), 1);
        shop.database
            .execute("DELETE FROM url WHERE id = 4711")
            .await;
        assert_restored(&mut shop, &server).await;
    }
}

#[tokio::test]
async fn e2_a_node_with_a_write_queue_of_one_gets_everything_from_eight_writers() {
    const ROWS: u64 = 4_000;
    let queue = [
        "thread_pool.write.size: 1",
        "thread_pool.write.queue_size: 1",
    ];
    let server = SearchServer::private("elasticsearch", &queue);
    let defaults = "defaults:\n  chunk: { rows: 50 }\n  parallel: { resources: 2, partitions: 4 }\n  \
                    retry: { attempts: 200, base: 5ms, cap: 50ms }\n";
    let mut shop = shop("queue", &server, ROWS, defaults).await;
    shop.table("page").await;
    shop.rows("page", 1, ROWS).await;
    server.create("t_page");
    shop.write_plan(&plan(&server.url(), "", &["url", "page"], defaults));
    let begun = Instant::now();
    let done = shop.rekindle(&format!("run {PLAN} --json")).exits(0);
    println!("{:?}", begun.elapsed());
    let events = done.json();
    let mut paced = events.iter().filter(|event| event["event"] == "paced");
    let pushed_back = |event: &&Value| {
        event["reason"]
            .as_str()
            .is_some_and(|why| why.contains("queue"))
    };
    let slower = paced.find(pushed_back).expect("it slows down");
    assert_eq!(slower["writers"], 7, "{slower}");
    assert_eq!(slower["rows"], 50, "{slower}");
    paced
        .find(|event| !pushed_back(event))
        .expect("and goes faster again");
    assert_eq!(events.last().expect("an end")["dead_letters"], 0);
    let stats = server.must("GET", "/_nodes/stats/thread_pool", &Value::Null);
    let nodes = stats["nodes"].as_object().expect("nodes").values();
    let rejected = nodes.map(|node| node["thread_pool"]["write"]["rejected"].as_u64());
    assert!(
        rejected.flatten().sum::<u64>() > 0,
        "nothing was pushed back"
    );
    for table in ["url", "page"] {
        let found = server.documents(&format!("t_{table}"));
        assert_equal(&wanted(&mut shop, table).await, &found);
    }
}
