//! Stores with vhosts of their own, stores that share one, and a broker behind TLS.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::{
    broker_server::{Vhost, control},
    certificates::Certificates,
    queues::File,
    redis_server::{RedisServer, free_port},
    shop::{PLAN, Running, Shop, assert_same, wait_until},
};

const QUEUE: &str = "sync.storage.availability";

/// A shop with three rows: of one store, of another one, and of none.
fn shop(broker: &str) -> (Shop<File>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch(
            "CREATE TABLE spy_availability_storage (id_availability_storage INTEGER PRIMARY KEY, \
             fk_product_abstract INTEGER, key TEXT NOT NULL, data TEXT, store TEXT);\n\
             INSERT INTO spy_availability_storage VALUES (1, 1, 'availability:de:1', '{\"n\":1}', 'DE'), \
             (2, 2, 'availability:at:2', '{\"n\":2}', 'AT'), (3, 3, 'availability:3', '{\"n\":3}', '')",
        )
        .unwrap();
    let shop = Shop::of(File(path), RedisServer::start());
    shop.write_plan(&format!(
        "version: 1\nname: shop\npreset: spryker\nsource: {{ url: \"${{DATABASE_URL}}\" }}\nstores: [DE, AT]\n\
         targets: {{ storage: {{ redis: {{ url: \"${{REDIS_URL}}\" }} }} }}\n\
         broker: {{ url: \"${{RABBITMQ_URL}}\", {broker} }}\n\
         resources: [{{ name: availability }}]\n\
         defaults: {{ sync: queue, retry: {{ attempts: 60, base: 20ms, cap: 200ms }}, fallback: {{ to: none }} }}\n"
    ));
    (shop, folder)
}

fn start(shop: &Shop<File>, vhost: &Vhost, words: &str) -> Running {
    let mut command = shop.command(words);
    command.env("RABBITMQ_URL", vhost.url());
    Running::start(command)
}

fn wanted() -> HashMap<Vec<u8>, Vec<u8>> {
    [("de:1", 1), ("at:2", 2), ("3", 3)]
        .map(|(key, n)| {
            (
                format!("kv:availability:{key}").into_bytes(),
                format!("{{\"n\":{n}}}").into_bytes(),
            )
        })
        .into()
}

/// Returns key and store of so many messages, which stay where they are.
async fn seen(vhost: &Vhost, count: usize) -> Vec<(String, Value)> {
    assert_eq!(vhost.depth(QUEUE).await as usize, count);
    let mut seen: Vec<_> = vhost
        .peek(QUEUE, count)
        .await
        .iter()
        .map(|body| {
            let message: Value = serde_json::from_slice(body).unwrap();
            let write = &message["write"];
            (
                write["key"].as_str().unwrap().to_owned(),
                write["store"].clone(),
            )
        })
        .collect();
    seen.sort_by_key(|(key, store)| (key.clone(), store.to_string()));
    seen
}

fn pairs(of: &[(&str, Option<&str>)]) -> Vec<(String, Value)> {
    of.iter()
        .map(|(key, store)| {
            (
                format!("availability:{key}"),
                store.map_or(Value::Null, Value::from),
            )
        })
        .collect()
}

#[tokio::test]
async fn a_row_goes_to_the_vhost_of_its_store_and_one_of_no_store_to_all() {
    let de = Vhost::create("vhost_de").await;
    let at = Vhost::create("vhost_at").await;
    let (shop, _folder) = shop(&format!(
        "stores: {{ DE: {{ vhost: {} }}, AT: {{ url: \"{}\" }} }}",
        de.name(),
        at.url()
    ));
    // The one of `broker.url` is nobody's then, and has no queue.
    let none = Vhost::create("vhost_none").await;
    de.set_up(&[QUEUE]).await;
    let refused = start(&shop, &none, &format!("run {PLAN}"))
        .finish()
        .exits(3);
    assert!(refused.stderr.contains(at.name()), "{refused}");
    assert!(refused.stderr.contains("queue:setup"), "{refused}");
    at.set_up(&[QUEUE]).await;
    let mut run = start(&shop, &none, &format!("run {PLAN}"));
    let said = run.says("published, not applied");
    for vhost in [&de, &at] {
        assert!(
            said.contains(&format!("2 messages in `{}/{QUEUE}`", vhost.name())),
            "{said}"
        );
    }
    // It would look for rows of a queue that is empty for a moment.
    run.pause();
    assert_eq!(
        seen(&de, 2).await,
        pairs(&[("3", None), ("de:1", Some("DE"))])
    );
    assert_eq!(
        seen(&at, 2).await,
        pairs(&[("3", None), ("at:2", Some("AT"))])
    );
    run.go_on();
    let consumed = start(
        &shop,
        &none,
        &format!("consume {PLAN} --until-empty --json"),
    )
    .finish()
    .exits(0)
    .json();
    let by_queue: BTreeMap<_, _> = consumed
        .iter()
        .map(|one| {
            (
                one["queue"].as_str().unwrap(),
                one["written"].as_u64().unwrap(),
            )
        })
        .collect();
    let queues = [&de, &at].map(|vhost| format!("{}/{QUEUE}", vhost.name()));
    assert_eq!(
        by_queue,
        queues.iter().map(|queue| (queue.as_str(), 2)).collect()
    );
    run.finish().exits(0);
    assert_same(&wanted(), &shop.redis_content());
}

/// As a shop in dynamic store mode sends it.
#[tokio::test]
async fn with_dynamic_stores_a_row_of_no_store_is_sent_once_for_each() {
    let vhost = Vhost::create("dynamic").await;
    let (shop, _folder) = shop("declare: true, dynamic_stores: true");
    let mut run = start(&shop, &vhost, &format!("run {PLAN}"));
    run.says("published, not applied");
    run.pause();
    assert_eq!(
        seen(&vhost, 4).await,
        pairs(&[
            ("3", Some("AT")),
            ("3", Some("DE")),
            ("at:2", Some("AT")),
            ("de:1", Some("DE"))
        ])
    );
    run.go_on();
    start(&shop, &vhost, &format!("consume {PLAN} --until-empty"))
        .finish()
        .exits(0);
    run.finish().exits(0);
    assert_same(&wanted(), &shop.redis_content());
}

/// A way into the broker with TLS, which wants a certificate of its clients.
fn secured(files: &Certificates) -> u16 {
    let port = free_port();
    control(&format!(
        "eval rabbit_networking:ensure_ssl(),rabbit_networking:start_ssl_listener({{\"127.0.0.1\",{port}}},\
         [{{certfile,\"{}\"}},{{keyfile,\"{}\"}},{{cacertfile,\"{}\"}},{{verify,verify_peer}},{{fail_if_no_peer_cert,true}}],1).",
        files.text("server.pem"),
        files.text("server.key"),
        files.text("ca.pem")
    ));
    port
}

#[tokio::test]
async fn a_broker_behind_tls_is_trusted_for_its_authority_and_shown_our_certificate() {
    let files = Certificates::new();
    let vhost = Vhost::create("tls").await;
    let mut url = url::Url::parse(&vhost.url()).unwrap();
    url.set_port(Some(secured(&files))).unwrap();
    let url = url.as_str().replacen("amqp:", "amqps:", 1);
    let tls = |ca: &str, client: &str| {
        format!(
            "declare: true, dynamic_stores: true, tls: {{ ca: \"{}\", cert: \"{}\", key: \"{}\" }}",
            files.text(&format!("{ca}.pem")),
            files.text(&format!("{client}.pem")),
            files.text(&format!("{client}.key"))
        )
    };
    let run = |shop: &Shop<File>, words: &str| {
        let mut command = shop.command(words);
        command.env("RABBITMQ_URL", &url);
        Running::start(command)
    };
    for (ca, client, why) in [
        ("stranger", "client", "signed by no authority"),
        ("ca", "stranger-client", "refused our client certificate"),
    ] {
        let (shop, _folder) = shop(&tls(ca, client));
        // Whoever refuses a certificate closes the connection behind his reason, and a busy machine may see the end first.
        wait_until(why, || {
            let refused = run(&shop, &format!("run {PLAN}")).finish().exits(3);
            assert!(!refused.stderr.contains("app-pw"), "{refused}");
            refused.stderr.contains(why)
        });
    }
    let (shop, _folder) = shop(&tls("ca", "client"));
    let mut publisher = run(&shop, &format!("run {PLAN}"));
    publisher.says("published, not applied");
    run(&shop, &format!("consume {PLAN} --until-empty"))
        .finish()
        .exits(0);
    publisher.finish().exits(0);
    assert_same(&wanted(), &shop.redis_content());
}
