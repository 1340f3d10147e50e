//! Rows through the shop's queues, and messages from them.

use std::{collections::HashMap, path::PathBuf};

use lapin::{options::BasicAckOptions, types::FieldTable};
use serde_json::{Value, json};

use crate::{
    broker_server::{Vhost, next},
    redis_server::RedisServer,
    shop::{Named, PLAN, Running, Shop, assert_same},
};

pub const QUEUE: &str = "sync.storage.url";

/// A database in a file.
pub struct File(pub PathBuf);

impl Named for File {
    fn url(&self) -> String {
        format!("sqlite:{}", self.0.display())
    }
}

/// A shop whose `spy_url_storage` is in a file, and a vhost.
pub struct Scene {
    pub shop: Shop<File>,
    pub vhost: Vhost,
    _folder: tempfile::TempDir,
}

impl Scene {
    pub async fn open(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.db");
        rusqlite::Connection::open(&path)
            .unwrap()
            .execute_batch(
                "CREATE TABLE spy_url_storage (id_url_storage INTEGER PRIMARY KEY, fk_url INTEGER NOT NULL, \
                 key TEXT NOT NULL, data TEXT, alias_keys TEXT)",
            )
            .unwrap();
        Self {
            shop: Shop::of(File(path), RedisServer::start()),
            vhost: Vhost::create(name).await,
            _folder: folder,
        }
    }

    /// Adds rows under these keys.
    fn fill(&self, rows: impl IntoIterator<Item = (String, String)>) {
        let mut database = rusqlite::Connection::open(&self.shop.database.0).unwrap();
        let work = database.transaction().unwrap();
        for (key, data) in rows {
            work.execute(
                "INSERT INTO spy_url_storage (fk_url, key, data) VALUES (1, ?, ?)",
                (key, data),
            )
            .unwrap();
        }
        work.commit().unwrap();
    }

    pub fn numbered(&self, count: u32) -> HashMap<Vec<u8>, Vec<u8>> {
        let row = |id: u32| {
            (
                format!("url:/{id}"),
                format!("{{\"id\":{id},\"text\":\"<ü/>\"}}"),
            )
        };
        self.fill((1..=count).map(row));
        (1..=count)
            .map(|id| {
                let value = format!("{{\"id\":{id},\"text\":\"<\\u00fc\\/>\"}}");
                (format!("kv:url:/{id}").into_bytes(), value.into_bytes())
            })
            .collect()
    }

    pub fn plan(&self, broker: &str, resource: &str) {
        self.shop.write_plan(&format!(
            "version: 1\nname: shop\npreset: spryker\nsource: {{ url: \"${{DATABASE_URL}}\" }}\n\
             targets: {{ storage: {{ redis: {{ url: \"${{REDIS_URL}}\" }} }} }}\n\
             broker: {{ url: \"${{RABBITMQ_URL}}\"{broker} }}\n\
             resources: [{{ name: url{resource} }}]\n\
             defaults: {{ sync: queue, chunk: {{ rows: 100 }}, retry: {{ attempts: 60, base: 20ms, cap: 200ms }}, \
             fallback: {{ to: none }} }}\n",
        ));
    }

    pub fn start(&self, words: &str) -> Running {
        self.start_failing(words, "")
    }

    /// Starts the program with a fail point set, or none.
    pub fn start_failing(&self, words: &str, point: &str) -> Running {
        let mut command = self.shop.command(words);
        command.env("RABBITMQ_URL", self.vhost.url());
        if !point.is_empty() {
            command.env("RK_FAIL", point);
        }
        Running::start(command)
    }

    /// Consumes until every queue is empty.
    pub fn consume(&self) {
        self.start(&format!("consume {PLAN} --until-empty"))
            .finish()
            .exits(0);
    }
}

/// `values.jsonl` holds what the real classes of the shop sent.
#[tokio::test]
async fn the_queue_gets_what_the_shop_sends() {
    let scene = Scene::open("bytes").await;
    let vectors = include_str!("../hermetic/values.jsonl").lines().enumerate();
    let vectors: Vec<(String, String, Value)> = vectors
        .map(|(n, line)| {
            let vector: Value = serde_json::from_str(line).unwrap();
            let data = vector["data"].as_str().unwrap().to_owned();
            (format!("url:/g{n}/'<ä>"), data, vector["message"].clone())
        })
        .collect();
    scene.fill(
        vectors
            .iter()
            .map(|(key, data, _)| (key.clone(), data.clone())),
    );
    scene.plan("", ", drain: { within: 1s }");
    scene.vhost.set_up(&[QUEUE]).await;
    let run = scene.start(&format!("run {PLAN}"));
    let mut consumer = scene.vhost.consume(QUEUE).await;
    let mut seen = 0;
    for (n, (_, _, message)) in vectors.iter().enumerate() {
        // What the shop aborts its export for, or sends an empty list for, is a dead letter here.
        let Some(value) = message.as_str() else {
            continue;
        };
        let delivery = next(&mut consumer).await;
        assert_eq!(
            String::from_utf8_lossy(&delivery.data),
            format!(
                "{{\"write\":{{\"key\":\"url:\\/g{n}\\/\\u0027\\u003C\\u00e4\\u003E\",\"value\":{value},\"resource\":\"url\",\
                 \"params\":[],\"store\":null}}}}"
            )
        );
        assert_eq!(
            (delivery.exchange.as_str(), delivery.routing_key.as_str()),
            (QUEUE, "")
        );
        let properties = &delivery.properties;
        assert_eq!(properties.delivery_mode(), &Some(2));
        assert_eq!(properties.headers(), &Some(FieldTable::default()));
        assert_eq!(properties.content_type(), &None);
        delivery.ack(BasicAckOptions::default()).await.unwrap();
        seen += 1;
    }
    assert!(seen > 20, "{seen}");
    // Consumed, and written nowhere: what is published is never called done.
    let stopped = run.finish().exits(5);
    assert!(
        stopped.stderr.contains(&format!(
            "published, not applied: the target has nothing of {seen} of {seen} rows"
        )),
        "{stopped}"
    );
}

#[tokio::test]
async fn rows_go_through_the_queue_into_the_target() {
    let scene = Scene::open("both_ways").await;
    let wanted = scene.numbered(2_050);
    // Nobody answers there, which no run minds.
    scene.plan(
        ", declare: true, management: \"http://app:app-pw@127.0.0.1:1\"",
        "",
    );
    let mut run = scene.start(&format!("run {PLAN}"));
    run.says("published, not applied");
    assert_eq!(scene.vhost.depth(QUEUE).await, 2_050);
    assert_eq!(scene.shop.status()["resources"][0]["state"], "published");
    let consumed = scene
        .start(&format!("consume {PLAN} --until-empty --json"))
        .finish()
        .exits(0);
    assert_eq!(
        consumed.json(),
        [
            json!({ "event": "consumed", "queue": QUEUE, "written": 2_050, "deleted": 0, "failed": 0 })
        ]
    );
    run.finish().exits(0);
    assert_same(&wanted, &scene.shop.redis_content());
    assert_eq!(scene.shop.status()["resources"][0]["state"], "done");
}

#[tokio::test]
async fn a_queue_that_is_not_there_is_asked_for_before_anything_is_sent() {
    let scene = Scene::open("no_queue").await;
    scene.numbered(1);
    scene.plan("", "");
    let refused = scene.start(&format!("run {PLAN}")).finish().exits(3);
    assert!(refused.stderr.contains(QUEUE), "{refused}");
    assert!(refused.stderr.contains("queue:setup"), "{refused}");
    scene.vhost.set_up(&["sync.storage.other"]).await;
    let refused = scene
        .start(&format!("consume {PLAN} --until-empty"))
        .finish()
        .exits(3);
    assert!(refused.stderr.contains("queue:setup"), "{refused}");
}

/// What was confirmed before the queue was deleted is as gone as the queue.
#[tokio::test]
async fn with_the_queue_goes_all_that_was_sent() {
    let scene = Scene::open("deleted").await;
    let wanted = scene.numbered(1_000);
    scene.plan("", "");
    scene.vhost.set_up(&[QUEUE]).await;
    let held = scene.start_failing(&format!("run {PLAN}"), "after_commit:3:sleep");
    scene.vhost.wait_for(QUEUE, 300).await;
    scene.shop.wait_for_chunks(3);
    held.kill_group();
    scene.vhost.delete(QUEUE).await;
    let stopped = scene.start(&format!("run {PLAN}")).finish();
    assert!(matches!(stopped.code, Some(3 | 5)), "{stopped}");
    assert!(stopped.stderr.contains("queue:setup"), "{stopped}");
    scene.vhost.set_up(&[QUEUE]).await;
    let mut run = scene.start(&format!("run {PLAN}"));
    run.says("starts over");
    run.says("published, not applied");
    assert_eq!(scene.vhost.depth(QUEUE).await, 1_000);
    scene.consume();
    run.finish().exits(0);
    assert_same(&wanted, &scene.shop.redis_content());
}

/// Writes and deletes of one key keep their order, and what nobody can carry out keeps nobody waiting.
#[tokio::test]
async fn every_message_of_the_shop_is_carried_out_or_put_aside() {
    let scene = Scene::open("consume").await;
    scene.plan("", "");
    scene.vhost.set_up(&[QUEUE]).await;
    scene.shop.redis.run("SET kv:url:/gone 1");
    let write = |key: &str, value: &str| {
        format!(
            "{{\"write\":{{\"key\":\"url:\\/{key}\",\"value\":{value},\"resource\":\"url\",\"params\":[],\"store\":null}}}}"
        )
    };
    let delete = |key: &str| {
        format!(
            "{{\"delete\":{{\"key\":\"url:\\/{key}\",\"value\":{{\"_timestamp\":1.5}},\"resource\":\"url\",\"store\":\"\",\"params\":[]}}}}"
        )
    };
    let wrapped = json!({ "body": write("wrapped", "{\"a\":\"\\u003C\"}") }).to_string();
    for body in [
        write("a", "{\"n\":1}"),
        delete("gone"),
        "null".to_owned(),
        write("a", "{\"n\":2}"),
        write("b", "{\"n\":1}"),
        delete("b"),
        delete("c"),
        write("c", "{\"n\":3}"),
        "geheim".to_owned(),
        write("d", "\"geheim\""),
        // Another resource of the same queue: storage has one place for all.
        write("e", "[]").replace("\"resource\":\"url\"", "\"resource\":\"redirect\""),
        wrapped,
    ] {
        scene.vhost.publish(QUEUE, &body).await;
    }
    let consumed = scene
        .start(&format!("consume {PLAN} --until-empty --queue {QUEUE}"))
        .finish()
        .exits(4);
    assert!(
        consumed
            .stdout
            .contains("12 messages: 6 written, 3 deleted, 3 failed"),
        "{consumed}"
    );
    assert!(!format!("{consumed}").contains("geheim"), "{consumed}");
    let pair = |key: &str, value: &str| {
        (
            format!("kv:url:/{key}").into_bytes(),
            value.as_bytes().to_vec(),
        )
    };
    let wanted = [
        pair("a", "{\"n\":2}"),
        pair("c", "{\"n\":3}"),
        pair("e", "[]"),
        pair("wrapped", "{\"a\":\"<\"}"),
    ];
    assert_same(&HashMap::from(wanted), &scene.shop.redis_content());
    assert_eq!(scene.vhost.depth(QUEUE).await, 0);
    let mut failed = scene.vhost.consume(&format!("{QUEUE}.error")).await;
    for body in ["null", "geheim", "geheim"] {
        let delivery = next(&mut failed).await;
        assert_eq!(delivery.routing_key.as_str(), "error");
        let message: Value = serde_json::from_slice(&delivery.data).unwrap();
        assert!(message["errorMessage"].is_string(), "{message}");
        assert!(message.to_string().contains(body), "{message}");
    }
}

/// Killed between the target's answer and the acknowledgement, and before a message is put aside: both come again.
#[tokio::test]
async fn m8_what_a_consumer_had_in_hand_when_it_died_comes_again() {
    let scene = Scene::open("killed").await;
    scene.plan("", "");
    scene.vhost.set_up(&[QUEUE]).await;
    for id in 0..5 {
        let body = format!(
            "{{\"write\":{{\"key\":\"url:{id}\",\"value\":[{id}],\"resource\":\"url\",\"params\":[],\"store\":null}}}}"
        );
        scene.vhost.publish(QUEUE, &body).await;
    }
    scene.vhost.publish(QUEUE, "null").await;
    for point in ["after_applied:1:kill", "before_consumed:1:kill"] {
        let killed = scene
            .start_failing(&format!("consume {PLAN} --until-empty"), point)
            .finish();
        assert_eq!(killed.signal, Some(9), "{point}: {killed}");
        scene.vhost.wait_for(QUEUE, 6).await;
    }
    scene
        .start(&format!("consume {PLAN} --until-empty"))
        .finish()
        .exits(4);
    let pair = |id: u8| {
        (
            format!("kv:url:{id}").into_bytes(),
            format!("[{id}]").into_bytes(),
        )
    };
    assert_same(&(0..5).map(pair).collect(), &scene.shop.redis_content());
    assert_eq!(scene.vhost.depth(QUEUE).await, 0);
    // At least once: the second one died behind the confirmation.
    assert_eq!(scene.vhost.depth(&format!("{QUEUE}.error")).await, 2);
}
