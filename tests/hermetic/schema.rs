//! The published JSON Schema says what the reader of plans says, and `explain` shows what it promises.

use std::{cell::RefCell, fs, path::Path};

use jsonschema::Validator;
use proptest::{prelude::*, sample::Index, test_runner::TestRunner};
use rekindle::plan::{self, Code};
use serde_json::{Value, json};

/// A plan with every key of the grammar.
const WHOLE: &str = r#"
version: 1
name: shop
source:
  url: "postgres://reader@db.test/shop"
  tls: { verify: full }
stores: [DE, AT]
ignore_tables: [spy_old_storage, "test_*"]
targets:
  storage:
    redis: { url: "rediss://cache.test:6379/0", prefix: "", value: php, compress: gzip, allow_eviction: true, tls: { verify: ca } }
  search:
    elasticsearch:
      url: ["https://a.test:9200", "https://b.test:9200"]
      index: "shop_{store}_{type}"
      load: { refresh: off, replicas: 0 }
      gzip: true
      tls: { verify: none }
  lines:
    file: { path: out, format: ndjson, index: "shop_{store}_{type}" }
resources:
  - name: url
    from: { table: spy_url_storage, cursor: [id_url_storage], key: key, value: data, entity: fk_url, aliases: alias_keys, mapping_key: mapping_resource_key, where: "id_url_storage > 7" }
    to: storage
    keys: "url:"
    catch_up: { column: updated_at, overlap: 5m }
    sync: direct
    queue: sync.storage.url
    chunk: { rows: 100, bytes: 1MiB }
    throttle: { rows_per_second: 1_000, replica_lag: 5s, redis_used_percent: 80 }
    drain: { queues: [publish.url], settle: 1s, within: 1m }
    fallback:
      to: trigger-events
      trigger: url
      ids: { table: spy_url, column: id_url }
      by: { console: {} }
  - name: page
    after: [url]
    type: page
    from: { table: spy_page_search, cursor: [id_page_search], key: key, value: data, entity: fk_page, store: store }
    to: search
    fallback:
      ids: { table: spy_page, column: id_page }
      by: { sql: { url: "postgres://writer@db.test/shop", statement: "UPDATE spy_page SET touched = 1 WHERE id_page IN ({ids})" } }
  - name: card
    from: { table: spy_card_storage, cursor: [id_card_storage], key: key, value: data, entity: fk_card }
    to: storage
    sync: console
    fallback:
      trigger: card
      ids: { table: spy_card, column: id_card }
      by: { jenkins: { job: republish } }
console: { command: [vendor/bin/console], within: 1h }
jenkins: { url: "https://ci.test/", user: deploy, token: "t", console: "bin/console", job: sync, tls: { verify: full } }
aws: { region: eu-central-1, endpoint: "https://rds.test", hourly: "hourly-*" }
prepare:
  - maintenance: { on: "touch m.flag", check: "test -e m.flag", off: "rm -f m.flag", within: 5m }
  - shell: { run: "true", check: "true", repeatable: true, undo: "true", within: 1h }
  - http_check: { url: "https://shop.test/", status: 200, within: 5m, tls: { verify: none } }
  - approve: { question: "does it look right?", within: 12h }
  - jenkins_build: { job: "shop/resync", shell: "true", within: 1h }
  - jenkins_build: { job: again, shell_from: nightly }
  - rds_snapshot: { instance: shop-db, name: "before-{date}", within: 1h }
  - rds_rename: { instance: shop-db, to: shop-db-old, when: immediately, within: 1h }
  - rds_restore: { instance: shop-db, from: { snapshot: nightly }, settings_of: shop-db-old, within: 1h }
  - rds_restore: { instance: shop-db, from: { latest: hourly }, settings_of: shop-db-old }
  - rds_restore: { instance: shop-db, from: { time: "2026-11-21T03:00:00Z" }, settings_of: shop-db-old }
  - maintenance_off: { within: 5m }
finish:
  - maintenance: { on: "touch m.flag", check: "test -e m.flag", off: "rm -f m.flag", within: 5m }
  - shell: { run: "true", check: "true", repeatable: true, undo: "true", within: 1h }
  - http_check: { url: "https://shop.test/", status: 200, within: 5m, tls: { verify: none } }
  - approve: { question: "does it look right?", within: 12h }
  - jenkins_build: { job: "shop/resync", shell: "true", within: 1h }
  - jenkins_build: { job: again, shell_from: nightly }
  - rds_snapshot: { instance: shop-db, name: "before-{date}", within: 1h }
  - rds_rename: { instance: other-db, to: other-db-old, when: immediately, within: 1h }
  - rds_restore: { instance: shop-db, from: { snapshot: nightly }, settings_of: shop-db-old, within: 1h }
  - rds_restore: { instance: shop-db, from: { latest: hourly }, settings_of: shop-db-old }
  - rds_restore: { instance: shop-db, from: { time: "2026-11-21T03:00:00Z" }, settings_of: shop-db-old }
  - maintenance_off: { within: 5m }
broker:
  url: "amqps://app@mq.test/shop"
  tls: { verify: full }
  declare: true
  management: "https://app:pw@mq.test:15671"
  stores: { DE: { vhost: de_queue }, AT: { url: "amqps://app@at.test/at" } }
  dynamic_stores: true
defaults:
  sync: direct
  chunk: { rows: 1000, bytes: 2MiB }
  parallel: { resources: 2, partitions: 2 }
  memory: { in_flight: 32MiB }
  retry: { attempts: 3, base: 10ms, cap: 1s, within: 5m }
  fallback: { to: trigger-events, after_crashes: 2, after_failures: 5 }
  dead_letters: { max: 10, percent: 0.5 }
  verify: none
"#;

/// Codes of problems that a place of the plan shows without looking at another.
const OF_ONE_PLACE: [Code; 3] = [Code::UnknownKey, Code::WrongType, Code::InvalidValue];

fn validator() -> Validator {
    jsonschema::validator_for(&plan::schema()).expect("a schema")
}

/// Returns the codes of the plan's errors.
fn codes(text: &str) -> Vec<Code> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.yaml");
    fs::write(&path, text).unwrap();
    match plan::load(&path, &|_| None) {
        Ok(loaded) => loaded.warnings.iter().map(|problem| problem.code).collect(),
        Err(problems) => problems.diagnostics().iter().map(|p| p.code).collect(),
    }
}

fn json_of(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("YAML")
}

/// Returns the places of every value below `value`.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                places(value, &format!("{at}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (n, value) in items.iter().enumerate() {
                places(value, &format!("{at}/{n}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn the_schema_takes_every_plan_that_is_read() {
    let validator = validator();
    assert_eq!(codes(WHOLE), [], "the plan with every key is sound");
    let mut plans = vec![WHOLE.to_owned()];
    for entry in fs::read_dir("plans").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "yaml") {
            plans.push(fs::read_to_string(path).unwrap());
        }
    }
    assert!(plans.len() > 4);
    for text in plans {
        let errors: Vec<_> = validator
            .iter_errors(&json_of(&text))
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert_eq!(errors, Vec::<String>::new(), "{text}");
    }
}

#[test]
fn the_plan_with_every_key_has_every_key_of_the_schema() {
    fn walk(schema: &Value, plans: &[&Value], at: &str) {
        if let Some(properties) = schema["properties"].as_object() {
            for (key, below) in properties {
                let found: Vec<_> = plans.iter().filter_map(|plan| plan.get(key)).collect();
                let place = format!("{at}.{key}");
                // A plan names either, and a preset's prefix needs the preset.
                let excused = ["preset", "api_key", "prefix", "ca", "cert", "key"];
                assert!(
                    !found.is_empty() || excused.contains(&key.as_str()),
                    "{place}"
                );
                assert!(
                    below["description"]
                        .as_str()
                        .is_some_and(|about| !about.is_empty()),
                    "{place} is not described"
                );
                walk(below, &found, &place);
            }
        }
        if schema["items"].is_object() {
            let items: Vec<_> = plans
                .iter()
                .filter_map(|plan| plan.as_array())
                .flatten()
                .collect();
            walk(&schema["items"], &items, &format!("{at}[]"));
        }
        if schema["additionalProperties"].is_object() {
            let entries: Vec<_> = plans
                .iter()
                .filter_map(|plan| plan.as_object())
                .flat_map(serde_json::Map::values)
                .collect();
            walk(
                &schema["additionalProperties"],
                &entries,
                &format!("{at}.NAME"),
            );
        }
    }
    walk(&plan::schema(), &[&json_of(WHOLE)], "plan");
}

#[test]
fn the_schema_refuses_what_the_reader_refuses_at_one_place_and_nothing_else() {
    let validator = validator();
    let whole = json_of(WHOLE);
    let mut all = Vec::new();
    places(&whole, "", &mut all);
    let odd = prop_oneof![
        Just(json!(null)),
        Just(json!("odd")),
        Just(json!(-1)),
        Just(json!(7)),
        Just(json!(true)),
        Just(json!([])),
        Just(json!(["odd"])),
        Just(json!({})),
        Just(json!({ "odd": 1 })),
        Just(json!("7ms")),
        Just(json!("7KiB")),
    ];
    let seen = RefCell::new([0_u32; 2]);
    let changes = (any::<Index>(), 0..3_u8, odd);
    TestRunner::new(ProptestConfig::with_cases(1_500))
        .run(&changes, |(at, what, odd)| {
            let place = at.get(&all);
            let mut plan = whole.clone();
            let (parent, key) = place.rsplit_once('/').unwrap_or(("", ""));
            match (what, plan.pointer_mut(parent)) {
                // Another value, a key less, a key more.
                (0, _) => *plan.pointer_mut(place).unwrap() = odd,
                (1, Some(Value::Object(map))) => {
                    map.remove(key);
                }
                (2, Some(Value::Object(map))) => {
                    map.insert("odd".to_owned(), odd);
                }
                _ => return Ok(()),
            }
            // JSON is YAML.
            let codes = codes(&plan.to_string());
            let refused = !validator.is_valid(&plan);
            if refused {
                prop_assert!(!codes.is_empty(), "only the schema refuses {place}: {plan}");
            }
            // Names, URLs and templates are read by rules of their own; the schema knows their type only.
            if codes.iter().any(|code| OF_ONE_PLACE[..2].contains(code)) {
                prop_assert!(refused, "only the reader refuses {place}: {codes:?} {plan}");
            }
            seen.borrow_mut()[usize::from(refused)] += 1;
            Ok(())
        })
        .unwrap();
    let seen = seen.into_inner();
    assert!(seen.iter().all(|seen| *seen > 50), "{seen:?}");
}

#[test]
fn words_and_units_are_those_of_the_reader() {
    let validator = validator();
    for (place, wrong) in [
        ("/defaults/chunk/bytes", json!(2000)),
        ("/defaults/chunk/bytes", json!("2MB")),
        ("/defaults/retry/base", json!("5")),
        ("/defaults/chunk/rows", json!("many")),
        ("/defaults/verify", json!("later")),
        ("/targets/storage/redis/value", json!("perl")),
        ("/targets/storage/redis/allow_eviction", json!("maybe")),
        ("/source/tls/verify", json!("hardly")),
    ] {
        let mut plan = json_of(WHOLE);
        *plan.pointer_mut(place).expect("a place") = wrong.clone();
        assert!(!validator.is_valid(&plan), "{place}: {wrong}");
        let codes = codes(&plan.to_string());
        assert!(codes.contains(&OF_ONE_PLACE[2]), "{place}: {codes:?}");
        // A variable may stand for anything.
        *plan.pointer_mut(place).expect("a place") = json!("${ANY:-thing}");
        assert!(validator.is_valid(&plan), "{place}");
    }
}

const BASE: [(&str, &str); 5] = [
    ("version", "version: 1\n"),
    ("name", "name: shop\n"),
    ("source", "source: { url: \"sqlite:shop.db\" }\n"),
    (
        "targets",
        "targets: { storage: { redis: { url: \"redis://127.0.0.1/0\" } } }\n",
    ),
    (
        "resources",
        "resources:\n  - name: url\n    \
         from: { table: spy_url_storage, cursor: [id_url_storage], key: key, value: data }\n",
    ),
];

/// Returns a sound plan with `part` in the place of what it names.
fn with(part: &str) -> String {
    let rest = BASE
        .iter()
        .filter(|(key, _)| {
            !part
                .lines()
                .any(|line| line.starts_with(&format!("{key}:")))
        })
        .map(|(_, text)| *text);
    // At the end, so that what is cut short there ends nothing else.
    rest.chain([part]).collect()
}

#[test]
fn every_code_is_explained_by_a_plan_that_has_it_and_one_that_has_not() {
    assert_eq!(codes(&with("")), []);
    for code in Code::ALL {
        let told = code.explanation();
        assert!(told.what.len() > 40, "{code}");
        assert_eq!(told.wrong.is_some(), told.right.is_some(), "{code}");
        if let (Some(wrong), Some(right)) = (told.wrong, told.right) {
            let found = codes(&with(wrong));
            if code.is_connected() {
                // Only its servers would show it.
                assert_eq!(found, [], "{code}\n{}", with(wrong));
            } else {
                assert!(found.contains(&code), "{code}: {found:?}\n{}", with(wrong));
            }
            assert_eq!(codes(&with(right)), [], "{code}\n{}", with(right));
        }
        assert_eq!(Code::named(code.text()), Some(code));
    }
    assert!(Path::new("plans").is_dir(), "run in the project's folder");
}
