//! One message for each of the shop's queues, and what it is like on the wire.
//!
//! `queues.tsv` was made from the shop's own schemas and plugins, not from the preset's tables (`entity` aside).

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use lapin::{message::Delivery, types::FieldTable};
use serde_json::{Value, json};

use crate::{
    broker_server::{Vhost, next},
    queues::File,
    redis_server::RedisServer,
    search_server::SearchServer,
    shop::{PLAN, Running, Shop, told},
};

/// What a line of `queues.tsv` says.
struct Line {
    queue: &'static str,
    /// What `sync:data` calls the resource; `None` where no plugin sends it.
    console: Option<&'static str>,
    table: &'static str,
    id: &'static str,
    key: &'static str,
    /// What the row's column `store` holds, where the table has one.
    store: Option<&'static str>,
    /// What the message says of it.
    sent_store: Option<&'static str>,
    kind: Option<&'static str>,
    /// The column that the ids of `sync:data` are compared with.
    entity: Option<&'static str>,
}

fn lines() -> Vec<Line> {
    let lines = include_str!("queues.tsv").lines().skip(1);
    lines
        .map(|line| {
            let cells: Vec<_> = line.split('\t').collect();
            let [
                queue,
                console,
                table,
                id,
                key,
                store,
                sent_store,
                kind,
                entity,
            ] = <[&str; 9]>::try_from(cells).expect("nine cells");
            let filled = |cell| (cell != "-").then_some(cell);
            Line {
                queue,
                console: filled(console),
                table,
                id,
                key,
                store: filled(store),
                sent_store: filled(sent_store),
                kind: filled(kind),
                entity: filled(entity),
            }
        })
        .collect()
}

impl Line {
    /// The statements of its table, with one row.
    fn sql(&self) -> String {
        let (column, value) = match self.store {
            Some(store) => (", store TEXT", format!(", '{store}'")),
            None => ("", String::new()),
        };
        let entity = self
            .entity
            .map_or_else(String::new, |entity| format!(", {entity} INTEGER"));
        let value = if entity.is_empty() {
            value
        } else {
            format!("{value}, 17")
        };
        format!(
            "CREATE TABLE {} ({} INTEGER PRIMARY KEY, key TEXT NOT NULL, data TEXT{column}{entity});\n\
             INSERT INTO {} VALUES (17, '{}', '{{\"id\":17,\"name\":\"<ü>\"}}'{value});\n",
            self.table, self.id, self.table, self.key
        )
    }

    /// What the plan says of it: nothing that the preset knows.
    fn resource(&self) -> String {
        let half = match self.kind {
            Some(_) => "search",
            None => "storage",
        };
        let halves = [
            "product_abstract",
            "category_node",
            "merchant",
            "service_point",
            "ssp_asset",
        ];
        match self.console {
            Some("configurable_bundle_template") => {
                format!("  - name: configurable_bundle_template/{half}\n")
            }
            Some(console) if halves.contains(&console) => format!("  - name: {console}/{half}\n"),
            Some(console) => format!("  - name: {console}\n"),
            None => {
                let more = match self.kind {
                    Some(kind) => format!(", store: store }}, type: {kind}"),
                    None => " }".to_owned(),
                };
                format!(
                    "  - {{ name: publish_and_synchronize_health_check/{half}, to: {half}, from: {{ table: {}, cursor: [{}], \
                     key: key, value: data{more} }}\n",
                    self.table, self.id
                )
            }
        }
    }

    /// The body that the shop's own export would send.
    fn body(&self) -> String {
        let store = self
            .sent_store
            .map_or_else(|| "null".to_owned(), |store| format!("\"{store}\""));
        let params = self.kind.map_or_else(
            || "[]".to_owned(),
            |kind| format!("{{\"type\":\"{kind}\"}}"),
        );
        let resource = self
            .console
            .unwrap_or("publish_and_synchronize_health_check");
        format!(
            "{{\"write\":{{\"key\":\"{}\",\"value\":{{\"id\":17,\"name\":\"\\u003C\\u00fc\\u003E\"}},\"resource\":\"{resource}\",\
             \"params\":{params},\"store\":{store}}}}}",
            self.key
        )
    }
}

/// As the facts have it: persistent, an empty table of headers, and nothing else.
fn assert_wire(delivery: &Delivery, queue: &str) {
    assert_eq!(
        (delivery.exchange.as_str(), delivery.routing_key.as_str()),
        (queue, "")
    );
    let properties = &delivery.properties;
    assert_eq!(properties.delivery_mode(), &Some(2), "{queue}");
    assert_eq!(
        properties.headers(),
        &Some(FieldTable::default()),
        "{queue}"
    );
    for (name, set) in [
        ("content type", properties.content_type().is_some()),
        ("encoding", properties.content_encoding().is_some()),
        ("priority", properties.priority().is_some()),
        ("correlation", properties.correlation_id().is_some()),
        ("reply to", properties.reply_to().is_some()),
        ("expiration", properties.expiration().is_some()),
        ("message id", properties.message_id().is_some()),
        ("timestamp", properties.timestamp().is_some()),
        ("type", properties.kind().is_some()),
        ("user", properties.user_id().is_some()),
        ("application", properties.app_id().is_some()),
    ] {
        assert!(!set, "{queue}: {name}");
    }
}

#[tokio::test]
async fn each_queue_of_the_shop_gets_the_message_that_the_shop_sends() {
    let lines = lines();
    assert_eq!(lines.len(), 42);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let tables: String = lines.iter().map(Line::sql).collect();
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch(&tables)
        .unwrap();
    let shop = Shop::of(File(path), RedisServer::start());
    let search = SearchServer::shared("elasticsearch");
    for kind in [
        "page",
        "merchant",
        "return_reason",
        "service_point",
        "ssp_asset",
    ] {
        for store in ["de", "at"] {
            let settings = json!({ "settings": { "index": { "number_of_shards": 1, "number_of_replicas": 0 } } });
            search.must("PUT", &format!("/t_shop_{store}_{kind}"), &settings);
        }
    }
    let vhost = Vhost::create("all_queues").await;
    let queues: Vec<_> = lines.iter().map(|line| line.queue).collect();
    vhost.set_up(&queues).await;
    let mut plan = format!(
        "version: 1\nname: shop\npreset: spryker\nsource: {{ url: \"${{DATABASE_URL}}\" }}\nstores: [DE, AT]\n\
         targets:\n  storage: {{ redis: {{ url: \"${{REDIS_URL}}\" }} }}\n  \
         search: {{ elasticsearch: {{ url: \"{}\", prefix: t_shop }} }}\n\
         broker: {{ url: \"${{RABBITMQ_URL}}\" }}\n\
         defaults: {{ sync: queue, parallel: {{ resources: 8, partitions: 1 }}, fallback: {{ to: none }} }}\nresources:\n",
        search.url()
    );
    for line in &lines {
        let _ = write!(plan, "{}", line.resource());
    }
    shop.write_plan(&plan);
    let mut command = shop.command(&format!("run {PLAN} --json"));
    command.env("RABBITMQ_URL", vhost.url());
    let mut run = Running::start(command);
    run.event("everything is sent", |event| {
        let text = event["text"].as_str()?;
        (event["event"] == "notice" && text.contains("published, not applied")).then_some(())
    });
    for line in &lines {
        let mut consumer = vhost.consume(line.queue).await;
        let delivery = next(&mut consumer).await;
        let body = String::from_utf8_lossy(&delivery.data);
        assert_eq!(body, line.body(), "{}", line.queue);
        assert_wire(&delivery, line.queue);
        if ["sync.storage.url", "sync.search.product"].contains(&line.queue) {
            told(&format!(
                "exchange {}, routing key {:?}, delivery mode {:?}, headers {:?}: {body}",
                delivery.exchange,
                delivery.routing_key.as_str(),
                delivery.properties.delivery_mode(),
                delivery.properties.headers()
            ));
        }
        assert_eq!(
            vhost.depth(line.queue).await,
            0,
            "{}: one message",
            line.queue
        );
    }
    drop(run);
    let status: Value = shop.status();
    assert_eq!(status["resources"].as_array().map(Vec::len), Some(42));

    let mut command = shop.command(&format!("consume {PLAN} --until-empty"));
    command.env("RABBITMQ_URL", vhost.url());
    let begun = Instant::now();
    Running::start(command).finish().exits(0);
    let took = begun.elapsed();
    // Waiting a quarter of a second for each to stay silent would take twice as long.
    assert!(took < Duration::from_secs(5), "42 empty queues: {took:?}");
}
