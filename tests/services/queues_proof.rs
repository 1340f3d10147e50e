//! The same rows by the queues and directly: equal, whoever dies on the way.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    broker_server::{Vhost, control, kill, launch},
    redis_server::RedisServer,
    search_server::SearchServer,
    shop::{PLAN, Running, Shop, assert_same, content_of, told, wait_until},
};

/// How often the publisher is killed, and the consumer. The broker goes down in the second and the fourth round.
const ROUNDS: u64 = 5;

/// Three fifths of them go to Redis.
const ROWS: u64 = 100_000;

const TABLES: [&str; 2] = ["spy_url_storage", "spy_product_abstract_page_search"];

const QUEUES: [&str; 2] = ["sync.storage.url", "sync.search.product"];

struct Scene {
    shop: Shop,
    /// Where the direct run writes to.
    direct: RedisServer,
    search: SearchServer,
    vhost: Vhost,
}

impl Scene {
    async fn open() -> Self {
        let mut shop = Shop::open("queue_proof").await;
        let (storage, search) = (ROWS * 3 / 5, ROWS * 2 / 5);
        for sql in [
            format!(
                "CREATE TABLE {} (id_url_storage BIGINT NOT NULL PRIMARY KEY, fk_url INT, `key` VARCHAR(255), data LONGTEXT)",
                TABLES[0]
            ),
            format!(
                "CREATE TABLE {} (id_product_abstract_page_search BIGINT NOT NULL PRIMARY KEY, fk_product_abstract INT, \
                 store VARCHAR(128), `key` VARCHAR(255), data LONGTEXT) CHARSET utf8mb4",
                TABLES[1]
            ),
            format!(
                "INSERT INTO {} SELECT seq + 100, seq, CONCAT('url:/de/', seq), \
                 CONCAT('{{\"id\":', seq, ',\"path\":\"/de/<', MD5(seq), '>\"}}') FROM seq_1_to_{storage}",
                TABLES[0]
            ),
            format!(
                "INSERT INTO {} SELECT seq + 100, seq, ELT(seq % 3 + 1, 'DE', 'AT', ''), CONCAT('product_abstract:', seq), \
                 CONCAT('{{\"n\":', seq, ',\"hash\":\"Größe ', MD5(seq), '\"}}') FROM seq_1_to_{search}",
                TABLES[1]
            ),
        ] {
            shop.database.execute(sql).await;
        }
        let scene = Self {
            shop,
            direct: RedisServer::start(),
            search: SearchServer::shared("elasticsearch"),
            vhost: Vhost::create("proof").await,
        };
        scene.vhost.set_up(&QUEUES).await;
        for prefix in ["queue", "direct"] {
            for store in ["de", "at"] {
                scene.search.create(&index(prefix, store));
            }
        }
        scene
    }

    fn plan(&self, sync: &str, prefix: &str) {
        self.shop.write_plan(&format!(
            "version: 1\nname: {sync}\npreset: spryker\nsource: {{ url: \"${{DATABASE_URL}}\" }}\nstores: [DE, AT]\n\
             targets:\n  storage: {{ redis: {{ url: \"${{REDIS_URL}}\" }} }}\n  \
             search: {{ elasticsearch: {{ url: \"{}\", prefix: t_{prefix} }} }}\n\
             broker: {{ url: \"${{RABBITMQ_URL}}\" }}\n\
             resources: [{{ name: url, throttle: {{ rows_per_second: 10000 }} }}, \
             {{ name: product_abstract/search, throttle: {{ rows_per_second: 10000 }} }}]\n\
             defaults: {{ sync: {sync}, chunk: {{ rows: 200 }}, retry: {{ attempts: 60, base: 20ms, cap: 500ms }}, \
             fallback: {{ to: none }} }}\n",
            self.search.url()
        ));
    }

    fn start(&self, words: &str) -> Running {
        let mut command = self.shop.command(words);
        command.env("RABBITMQ_URL", self.vhost.url());
        Running::start(command)
    }

    /// What the targets hold by now; documents once the server refreshed.
    fn applied(&self) -> u64 {
        let pattern = index("queue", "*");
        self.search
            .must("POST", &format!("/{pattern}/_refresh"), &Value::Null);
        let counted = self
            .search
            .must("GET", &format!("/{pattern}/_count"), &Value::Null);
        self.shop.key_count() + counted["count"].as_u64().expect("a number")
    }
}

fn index(prefix: &str, store: &str) -> String {
    format!("t_{prefix}_{store}_page")
}

/// A run, and how many rows of each resource it said are stored.
struct Publisher {
    running: Running,
    rows: HashMap<String, u64>,
}

impl Publisher {
    fn start(scene: &Scene) -> Self {
        Self {
            running: scene.start(&format!("run {PLAN} --json")),
            rows: HashMap::new(),
        }
    }

    /// Waits until so many rows of all resources together are stored.
    fn stores(&mut self, wanted: u64) {
        let rows = &mut self.rows;
        self.running.event("the publisher's rows", |event| {
            // Of a resource that was finished by an earlier process nothing more is said but where it stands.
            for standing in event["resources"].as_array().into_iter().flatten() {
                rows.insert(
                    standing["name"].as_str()?.to_owned(),
                    standing["rows"].as_u64()?,
                );
            }
            if event["event"] == "chunk_stored" {
                let name = event["resource"].as_str()?.to_owned();
                rows.insert(name, event["rows"].as_u64()?);
            }
            (rows.values().sum::<u64>() >= wanted).then_some(())
        });
    }
}

#[tokio::test]
async fn what_goes_through_the_queues_equals_what_goes_directly_whoever_is_killed() {
    let mut scene = Scene::open().await;
    scene.plan("direct", "direct");
    let mut command = scene.shop.command(&format!("run {PLAN}"));
    command
        .env("RABBITMQ_URL", scene.vhost.url())
        .env("REDIS_URL", scene.direct.url(0));
    Running::start(command).finish().exits(0);

    scene.plan("queue", "queue");
    let begun = Instant::now();
    let mut stored_before = 0;
    for round in 1..=ROUNDS {
        let mut publisher = Publisher::start(&scene);
        let consumer = scene.start(&format!("consume {PLAN}"));
        publisher.stores(stored_before + 1);
        match round {
            2 => kill(),
            4 => control("stop_app"),
            _ => {}
        }
        // Held while others are waited for, so that it does not come to its end meanwhile.
        publisher.running.pause();
        match round {
            2 => launch(),
            4 => control("start_app"),
            _ => {}
        }
        if round == 2 || round == 4 {
            scene.vhost.connect_again().await;
        }
        // Far fewer than lie in the queues from the round before: it dies with messages in hand.
        let applied = ROWS * (round - 1) / 16;
        wait_until("the consumer works", || scene.applied() > applied);
        consumer.kill_group();
        publisher.running.go_on();
        publisher.stores(ROWS * round / 8);
        publisher.running.kill_group();
        let status = scene.shop.status();
        let stored = status["rows"].as_u64().expect("rows");
        assert!(stored > stored_before && stored < ROWS, "{status}");
        stored_before = stored;
    }
    assert!(
        scene.applied() < ROWS,
        "the last kill came after the last message"
    );
    let run = scene.start(&format!("run {PLAN}"));
    let consumer = scene.start(&format!("consume {PLAN}"));
    run.finish_within(Duration::from_mins(5)).exits(0);
    for queue in QUEUES {
        assert_eq!(scene.vhost.depth(queue).await, 0, "{queue}");
        assert_eq!(
            scene.vhost.depth(&format!("{queue}.error")).await,
            0,
            "{queue}"
        );
    }
    consumer.signal_group(Signal::INT);
    consumer.finish().exits(130);
    let took = begun.elapsed();

    let by_queue = scene.shop.redis_content();
    assert_eq!(by_queue.len() as u64, ROWS * 3 / 5);
    assert_same(&content_of(&scene.direct), &by_queue);
    let mut documents = 0;
    for store in ["de", "at"] {
        let wanted = scene.search.documents(&index("direct", store));
        documents += wanted.len();
        crate::search::assert_equal(&wanted, &scene.search.documents(&index("queue", store)));
    }
    // A row of no store lies in both indexes.
    assert!(documents as u64 > ROWS * 2 / 5, "{documents}");
    let runs = scene
        .start(&format!("history {PLAN} --json"))
        .finish()
        .exits(0)
        .json();
    assert_eq!(runs[0][0]["attempts"], json!(ROUNDS + 1), "{runs:?}");
    told(&format!(
        "{ROWS} rows through the queues in {took:?}, {ROUNDS} killed of each side, the broker went down twice"
    ));
}
