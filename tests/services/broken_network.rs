//! The real servers behind a network that breaks in every way it can: whatever is reset, lost, cut or held back, the run goes
//! on by itself and each row arrives.

use std::time::Duration;

use serde_json::json;

use crate::{
    postgres::PgDatabase,
    proxy::{Fault, Proxy},
    redis_server::RedisServer,
    search_server::SearchServer,
    shop::{DEFAULTS, Named, PLAN, Running, Shop, resource},
};

use Fault::{Answer, BlackHole, Delay, HalfClose, LoseAnswer, Reset};

/// Each ends the run's work of the moment, and none of them for longer than the wait before the next try.
const QUICK: [Fault; 9] = [
    Reset,
    HalfClose,
    LoseAnswer,
    Delay(Duration::from_millis(700)),
    Reset,
    LoseAnswer,
    HalfClose,
    LoseAnswer,
    Reset,
];

const ROWS: u64 = 20_000;

/// Returns the port of a server's URL.
fn port(url: &str) -> u16 {
    let url = url::Url::parse(url).expect("a URL");
    url.port().expect("a port")
}

/// Runs the plan with one server behind a proxy, by the variable of its URL.
fn run_through<D: Named>(shop: &Shop<D>, variable: &str, url: &str, proxy: &Proxy) {
    let mut url = url::Url::parse(url).expect("a URL");
    url.set_port(Some(proxy.port())).expect("a port");
    let mut command = shop.command(&format!("run {PLAN}"));
    command.env(variable, url.as_str());
    Running::start(command).finish().exits(0);
    proxy.assert_all_struck();
}

#[tokio::test]
async fn s1_s2_rows_of_mariadb_arrive_through_a_network_that_breaks() {
    let mut shop = Shop::open("broken_net").await;
    shop.table("url").await;
    shop.rows("url", 1, ROWS).await;
    shop.plan(&resource("url"), DEFAULTS);
    let url = shop.database.url();
    let proxy = Proxy::start(port(&url), 60_000, &QUICK);
    run_through(&shop, "DATABASE_URL", &url, &proxy);
    shop.assert_redis_equals(&["url"]).await;
}

#[tokio::test]
async fn s1_s2_rows_of_postgres_arrive_through_a_network_that_breaks() {
    let mut shop = Shop::of(PgDatabase::create("broken_net").await, RedisServer::start());
    shop.database
        .execute(&format!(
            "CREATE TABLE url (id bigint PRIMARY KEY, fk int, key text, data text); \
             INSERT INTO url SELECT n, n % 1000, 'url:' || n, '{{\"id\":' || n || ',\"hash\":\"' || md5(n::text) || '\"}}' \
             FROM generate_series(1, {ROWS}) AS n"
        ))
        .await;
    shop.plan(&resource("url"), DEFAULTS);
    let url = shop.database.url();
    let proxy = Proxy::start(port(&url), 60_000, &QUICK);
    run_through(&shop, "DATABASE_URL", &url, &proxy);
    assert_eq!(shop.key_count(), ROWS);
    shop.rekindle(&format!("verify {PLAN}")).exits(0);
}

#[tokio::test]
async fn r6_r7_r8_redis_gets_every_row_through_a_network_that_breaks_and_odd_answers() {
    let mut shop = Shop::open("broken_redis").await;
    shop.table("url").await;
    shop.rows("url", 1, ROWS).await;
    shop.plan(&resource("url"), DEFAULTS);
    let odd = [
        Answer(b"-LOADING Redis is loading the dataset in memory\r\n"),
        Answer(b"-READONLY You can't write against a read only replica.\r\n"),
        Answer(b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n"),
        Answer(b"-MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.\r\n"),
        Answer(b"+O"),
        Answer(b"<html>no such thing</html>\r\n"),
    ];
    let faults: Vec<Fault> = QUICK.into_iter().chain(odd).collect();
    let url = shop.redis.url(0);
    let proxy = Proxy::start(port(&url), 60_000, &faults);
    run_through(&shop, "REDIS_URL", &url, &proxy);
    shop.assert_redis_equals(&["url"]).await;
}

/// Writes a plan of one resource that goes to an index of this server, and makes the index.
fn plan_to(shop: &Shop, search: &SearchServer) {
    shop.write_plan(&format!(
        "version: 1\nname: shop\nsource: {{ url: \"${{DATABASE_URL}}\" }}\ntargets:\n  \
         search: {{ elasticsearch: {{ url: \"${{SEARCH_URL}}\", index: t_url }} }}\nresources:\n  \
         - {{ name: url, from: {{ table: url, cursor: [id], key: key, value: data }}, to: search }}\n{DEFAULTS}"
    ));
    search.must(
        "PUT",
        "/t_url",
        &json!({ "settings": { "number_of_shards": 1, "number_of_replicas": 0 } }),
    );
}

fn documents(search: &SearchServer) -> u64 {
    search.must("POST", "/t_url/_refresh", &serde_json::Value::Null);
    let count = search.must("GET", "/t_url/_count", &serde_json::Value::Null);
    count["count"].as_u64().expect("a number")
}

const HTML: &[u8] = b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 33\r\nconnection: close\r\n\r\n\
    <html><h1>Bad Gateway</h1></html>";
const HTML_200: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 29\r\nconnection: close\r\n\r\n\
    <html>please log in</html>   ";
const CUT: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\nconnection: close\r\n\r\n\
    {\"took\":3,\"errors\":fa";

#[tokio::test]
async fn e4_e9_an_index_gets_every_row_through_a_network_that_breaks_and_pages_of_a_load_balancer()
{
    let mut shop = Shop::open("broken_search").await;
    shop.table("url").await;
    shop.rows("url", 1, ROWS).await;
    let search = SearchServer::shared("elasticsearch");
    plan_to(&shop, &search);
    let odd = [Answer(HTML), Answer(HTML_200), Answer(CUT)];
    let faults: Vec<Fault> = QUICK.into_iter().chain(odd).collect();
    let proxy = Proxy::start(port(&search.url()), 100_000, &faults);
    run_through(&shop, "SEARCH_URL", &search.url(), &proxy);
    assert_eq!(documents(&search), ROWS);
    let mut command = shop.command(&format!("verify {PLAN}"));
    command.env("SEARCH_URL", search.url());
    Running::start(command).finish().exits(0);
}

/// Each server falls silent once in mid-run: no byte more, and nothing is closed. All at once, for each waits out its limit.
#[tokio::test]
async fn p9_s2_r6_a_connection_that_falls_silent_is_given_up_in_time() {
    let mut shop = Shop::open("silent_net").await;
    shop.table("url").await;
    shop.rows("url", 1, ROWS).await;
    shop.plan(&resource("url"), DEFAULTS);
    let (source, redis) = (shop.database.url(), shop.redis.url(0));
    let of_source = Proxy::start(port(&source), 300_000, &[BlackHole]);
    let of_redis = Proxy::start(port(&redis), 700_000, &[BlackHole]);
    let through = |url: &str, proxy: &Proxy| {
        let mut url = url::Url::parse(url).expect("a URL");
        url.set_port(Some(proxy.port())).expect("a port");
        url.to_string()
    };
    let mut command = shop.command(&format!("run {PLAN}"));
    command
        .env("DATABASE_URL", through(&source, &of_source))
        .env("REDIS_URL", through(&redis, &of_redis));
    Running::start(command).finish().exits(0);
    of_source.assert_all_struck();
    of_redis.assert_all_struck();
    shop.assert_redis_equals(&["url"]).await;
}
