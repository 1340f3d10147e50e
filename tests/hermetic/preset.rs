//! `preset: spryker`: what it fills in, and a shop restored by it into files.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use rekindle::{
    ids::ResourceName,
    plan::{self, Executor, FileFormat, Loaded, Look, Plan, Routing, TargetConfig},
    spryker::{self, Presence},
};

fn loaded(folder: &Path, text: &str) -> Loaded {
    let path = folder.join("plan.yaml");
    fs::write(
        &path,
        format!("version: 1\nname: shop\npreset: spryker\n{text}"),
    )
    .unwrap();
    plan::load(&path, &|_| None)
        .unwrap_or_else(|problems| panic!("{}", problems.render(Look::Plain, 120)))
}

/// Each resource as `name: table by column to target after [...]`.
fn shown(plan: &Plan) -> Vec<String> {
    let one = |resource: &plan::Resource| {
        let after: Vec<_> = resource.after.iter().map(ResourceName::as_str).collect();
        format!(
            "{}: {} by {} to {} after {after:?}",
            resource.name,
            resource.from.table,
            resource.from.ids_column().unwrap_or("nothing"),
            resource.to
        )
    };
    plan.resources.iter().map(one).collect()
}

const SERVERS: &str = r#"
source: { url: "mysql://reader@db.test/shop" }
stores: [DE, AT]
targets:
  cache: { redis: { url: "redis://cache.test" } }
  index: { elasticsearch: { url: "http://search.test:9200", prefix: "Spryker_B2C" } }
"#;

#[test]
fn a_console_regenerates_what_core_regenerates_by_id() {
    let folder = tempfile::tempdir().unwrap();
    let text = |defaults: &str| {
        format!(
            "{SERVERS}console: {{ command: [vendor/bin/console] }}\n{defaults}resources:\n  - name: url\n  \
             - name: availability\n  - name: customer_invalidated\n  - name: redirect\n    fallback: {{ to: none }}\n  \
             - name: translation\n    fallback: {{ trigger: glossary, ids: {{ table: own, column: id_own }} }}\n  \
             - name: product_abstract/search\n"
        )
    };
    let shown = |loaded: &Loaded| -> Vec<Option<String>> {
        let one = |resource: &plan::Resource| {
            let fallback = resource.fallback.as_ref()?;
            let trigger = fallback.trigger.as_deref().unwrap_or_default();
            let (table, column, by) = (&fallback.table, &fallback.column, fallback.by.label());
            let rows = if fallback.of_rows { "" } else { ", no rows" };
            Some(format!("{trigger} {table}.{column} {by}{rows}"))
        };
        loaded.plan.resources.iter().map(one).collect()
    };
    let with_console = loaded(folder.path(), &text(""));
    assert_eq!(
        shown(&with_console),
        [
            Some("url spy_url.id_url console".to_owned()),
            // Its rows name products, and the trigger takes ids of availabilities.
            Some(
                "availability spy_availability_abstract.id_availability_abstract console, no rows"
                    .to_owned()
            ),
            None,
            None,
            Some("glossary own.id_own console".to_owned()),
            Some("product_abstract spy_product_abstract.id_product_abstract console".to_owned()),
        ]
    );
    let used = with_console.defaults_used.iter();
    let filled: Vec<_> = used
        .filter(|(path, _)| path.ends_with(".fallback"))
        .collect();
    assert_eq!(filled.len(), 3, "{filled:?}");
    let warned: Vec<_> = with_console
        .warnings
        .iter()
        .map(|one| one.message.as_str())
        .collect();
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(
        warned[0].contains("`resources.customer_invalidated` has no publisher"),
        "{warned:?}"
    );
    let off = text("defaults: { fallback: { to: none } }\n");
    assert_eq!(shown(&loaded(folder.path(), &off)), vec![None; 6]);
    let without = loaded(
        folder.path(),
        &format!("{SERVERS}resources:\n  - name: url,product_abstract/search\n"),
    );
    assert_eq!(shown(&without), [None, None]);
}

#[test]
fn names_become_tables_and_pairs_become_two() {
    let folder = tempfile::tempdir().unwrap();
    let resources = r"
resources:
  - name: url, translation
  - name: product_abstract
    after: [url]
  - name: cms_page_search
    after: [product_abstract]
  - name: loyalty_card
    to: cache
    from: { table: spy_loyalty_card_storage, cursor: [id], key: key, value: data }
  - name: redirect
    from: { entity: id_url_redirect_storage, where: 'id_url_redirect_storage > 7' }
";
    let loaded = loaded(folder.path(), &format!("{SERVERS}{resources}"));
    assert_eq!(
        shown(&loaded.plan),
        [
            "url: spy_url_storage by fk_url to cache after []",
            "translation: spy_glossary_storage by id_glossary_storage to cache after []",
            r#"product_abstract/storage: spy_product_abstract_storage by fk_product_abstract to cache after ["url"]"#,
            r#"product_abstract/search: spy_product_abstract_page_search by fk_product_abstract to index after ["url"]"#,
            r#"cms_page_search: spy_cms_page_search by fk_cms_page to index after ["product_abstract/storage", "product_abstract/search"]"#,
            "loyalty_card: spy_loyalty_card_storage by id to cache after []",
            "redirect: spy_url_redirect_storage by id_url_redirect_storage to cache after []",
        ]
    );
    let names = |typed| {
        let meant = loaded.plan.meant(typed);
        meant.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        names("product_abstract"),
        ["product_abstract/storage", "product_abstract/search"]
    );
    assert_eq!(
        names("product_abstract/search"),
        ["product_abstract/search"]
    );
    assert!(names("category_node").is_empty());
}

#[test]
fn targets_write_as_the_shop_does_and_validate_can_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let resources = "resources: [{name: product_set}, {name: product_abstract/search}]";
    let loaded = loaded(folder.path(), &format!("{SERVERS}{resources}"));
    let plan = &loaded.plan;
    let Some(TargetConfig::Redis(redis)) = plan.targets.get("cache") else {
        panic!("{:?}", plan.targets);
    };
    assert_eq!((redis.prefix.as_str(), redis.value.label()), ("kv:", "php"));
    let Some(TargetConfig::Search(search)) = plan.targets.get("index") else {
        panic!("{:?}", plan.targets);
    };
    // A table without the column goes to both; so does a row of the other one without a store.
    for (name, has_column) in [
        ("product_set/search", false),
        ("product_abstract/search", true),
    ] {
        let Some(Routing::ByStore { column, indexes }) = search.indexes.get(&name.into()) else {
            panic!("{:?}", search.indexes);
        };
        assert_eq!(*column, has_column, "{name}");
        let indexes: Vec<_> = indexes.iter().map(|(_, index)| index.as_str()).collect();
        assert_eq!(indexes, ["spryker_b2c_de_page", "spryker_b2c_at_page"]);
    }
    let form = |at: usize| plan.encoding(&plan.resources[at]).0.label();
    assert_eq!([form(0), form(1), form(2)], ["php", "document", "document"]);
    for (path, value) in [
        ("targets.cache.redis.value", "php"),
        ("targets.cache.redis.prefix", "kv:"),
        ("resources.product_set/storage.to", "cache"),
        ("resources.product_set/search.type", "page"),
        (
            "resources.product_set/search.from",
            "{ table: spy_product_set_page_search, key: key, value: data, entity: fk_product_set, \
             cursor: [id_product_set_page_search] }",
        ),
    ] {
        let said = loaded.defaults_used.iter().find(|(said, _)| said == path);
        assert_eq!(said.map(|(_, value)| value.as_str()), Some(value), "{path}");
    }
}

#[test]
fn a_prefix_that_is_empty_leaves_no_underscore() {
    let folder = tempfile::tempdir().unwrap();
    let text = r#"
source: { url: "mysql://reader@db.test/shop" }
stores: [DE]
targets: { index: { elasticsearch: { url: "http://search.test:9200", prefix: "${NONE:-}" } } }
resources: [{ name: product_review }]
"#;
    let plan = loaded(folder.path(), text).plan;
    let Some(TargetConfig::Search(search)) = plan.targets.get("index") else {
        panic!("{:?}", plan.targets);
    };
    let indexes: Vec<_> = search.indexes.values().flat_map(Routing::indexes).collect();
    assert_eq!(indexes, ["de_product-review"]);
}

/// A plan of both halves of a pair.
const PAIR: &str = r#"
source: { url: "sqlite://shop.sqlite" }
stores: [DE, AT]
targets:
  storage: { file: { path: storage } }
  search: { file: { path: search, format: ndjson, index: "{store}_{type}" } }
resources: [{ name: product_abstract }]
"#;

/// Makes the tables of [`PAIR`].
fn pair() -> (tempfile::TempDir, rusqlite::Connection) {
    let folder = tempfile::tempdir().unwrap();
    let shop = rusqlite::Connection::open(folder.path().join("shop.sqlite")).unwrap();
    for (table, store) in [
        ("product_abstract", ""),
        ("product_abstract_page", "store TEXT, "),
    ] {
        let kind = if store.is_empty() {
            "storage"
        } else {
            "search"
        };
        shop.execute_batch(&format!(
            "CREATE TABLE spy_{table}_{kind} (id_{table}_{kind} INTEGER PRIMARY KEY NOT NULL, fk_product_abstract INTEGER, \
             {store}data TEXT, key TEXT);"
        ))
        .unwrap();
    }
    shop.execute_batch(
        r#"INSERT INTO spy_product_abstract_storage VALUES (7, 42, '{"url":"/ü","n":{}}', 'product_abstract:de:42');
           INSERT INTO spy_product_abstract_page_search VALUES
             (8, 42, 'DE', '{"url":"/ü","_timestamp":1.5}', 'product_abstract:de:42'),
             (9, 43, NULL, '{"a":1}', 'product_abstract:43');"#,
    )
    .unwrap();
    (folder, shop)
}

/// Both halves of a pair, with bytes that only the right form of each target gives.
#[test]
fn a_pair_is_restored_each_half_in_its_own_form() {
    let (folder, _shop) = pair();
    let plan = loaded(folder.path(), PAIR).plan;
    assert!(matches!(
        plan.targets.get("search"),
        Some(TargetConfig::File(file)) if matches!(file.format, FileFormat::Ndjson(_))
    ));
    let rekindle = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_rekindle"))
            .current_dir(folder.path())
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let dry = rekindle(&[
        "run",
        "plan.yaml",
        "--dry-run",
        "--only",
        "product_abstract",
        "--ids",
        "42",
    ]);
    assert!(
        dry.contains(
            "ids of `product_abstract/search` are of column `spy_product_abstract_page_search.fk_product_abstract`"
        ),
        "{dry}"
    );
    rekindle(&["run", "plan.yaml"]);
    let written = |folder: &Path| -> String {
        let mut files: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().contains(".00"))
            .collect();
        files.sort();
        let texts = files
            .iter()
            .filter_map(|file| fs::read_to_string(file).ok());
        texts.collect()
    };
    let storage = written(&folder.path().join("storage"));
    assert!(
        storage.contains(r#"{"url":"\/\u00fc","n":[]}"#),
        "{storage}"
    );
    let search = written(&folder.path().join("search"));
    let mut lines: Vec<_> = search.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            r#"{"a":1}"#,
            r#"{"a":1}"#,
            r#"{"index":{"_index":"at_page","_id":"product_abstract:43"}}"#,
            r#"{"index":{"_index":"de_page","_id":"product_abstract:43"}}"#,
            r#"{"index":{"_index":"de_page","_id":"product_abstract:de:42"}}"#,
            r#"{"url":"\/ü"}"#,
        ]
    );
}

/// What both halves are called by names the dead letters of both.
#[test]
fn dead_letters_of_a_pair_are_named_as_the_pair_is() {
    let (folder, shop) = pair();
    loaded(folder.path(), PAIR);
    shop.execute_batch(
        "UPDATE spy_product_abstract_storage SET data = NULL; UPDATE spy_product_abstract_page_search SET data = NULL",
    )
    .unwrap();
    let run = |arguments: &[&str], code| {
        let output = Command::new(env!("CARGO_BIN_EXE_rekindle"))
            .current_dir(folder.path())
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {output:?}"
        );
        output
    };
    run(&["run", "plan.yaml"], 4);
    for (name, wanted) in [
        ("product_abstract", 3),
        ("product_abstract/search", 2),
        ("product_abstract/storage", 1),
    ] {
        let listed = run(
            &["dead-letters", "list", "plan.yaml", "--json", "-r", name],
            0,
        );
        let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
        let counts = listed.as_array().unwrap().iter();
        let count: u64 = counts.map(|one| one["count"].as_u64().unwrap()).sum();
        assert_eq!(count, wanted, "{name}: {listed}");
    }
    run(&["dead-letters", "list", "plan.yaml", "-r", "product"], 2);
    for (wrong, hint) in [
        ("product_abstrac", "did you mean `product_abstract`?"),
        (
            "spy_product_abstract_storage",
            "is a table: its resource is `product_abstract/storage`",
        ),
    ] {
        let refused = run(&["run", "plan.yaml", "--only", wrong], 2);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.contains(hint), "{said}");
    }
}

/// A shop of two tables, one with all columns of keys and one with none of them, restored into files.
#[test]
fn more_keys_are_written_with_their_rows_where_a_table_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let shop = rusqlite::Connection::open(folder.path().join("shop.sqlite")).unwrap();
    shop.execute_batch(
        r#"CREATE TABLE spy_product_abstract_storage (id_product_abstract_storage INTEGER PRIMARY KEY NOT NULL,
             fk_product_abstract INTEGER, data TEXT, alias_keys TEXT, mapping_resource_key TEXT, key TEXT);
           CREATE TABLE spy_url_storage (id_url_storage INTEGER PRIMARY KEY NOT NULL, fk_url INTEGER, data TEXT, key TEXT);
           INSERT INTO spy_product_abstract_storage VALUES
             (7, 42, '{"a":{}}', '{"pa:sku:\u00e4\/1": {"id":42,"_timestamp":1.50}, "pa:ean:1":{}}', 'pa:ref:ä', 'pa:42'),
             (8, 43, '{"a":1}', NULL, '', 'pa:43'),
             (9, 44, '{"a":1}', '{"pa:sku:', NULL, 'pa:44');
           INSERT INTO spy_url_storage VALUES (1, 1, '{"url":"\/de"}', 'url:/de');"#,
    )
    .unwrap();
    let text = r#"
source: { url: "sqlite://shop.sqlite" }
targets: { dump: { file: { path: out } } }
resources: [{ name: product_abstract/storage, MORE }, { name: url }]
"#;
    let run = |more: &str| {
        let loaded = loaded(folder.path(), &text.replace("MORE", more));
        let output = Command::new(env!("CARGO_BIN_EXE_rekindle"))
            .current_dir(folder.path())
            .args(["run", "plan.yaml", "--json"])
            .output()
            .unwrap();
        let files = fs::read_dir(folder.path().join("out")).unwrap();
        let mut pairs: Vec<String> = files
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "resp"))
            .flat_map(|path| {
                let text = fs::read_to_string(path).unwrap();
                let words: Vec<_> = text.split("\r\n").map(str::to_owned).collect();
                // *3 $3 SET $n key $n value
                let commands = words.chunks_exact(7);
                let pairs = commands.map(|words| format!("{} = {}", words[4], words[6]));
                pairs.collect::<Vec<_>>()
            })
            .collect();
        pairs.sort_unstable();
        (loaded, output.status.code(), pairs)
    };

    let (loaded, code, pairs) = run("to: dump");
    assert_eq!(
        pairs,
        [
            r#"pa:42 = {"a":[]}"#,
            r#"pa:43 = {"a":1}"#,
            r"pa:ean:1 = []",
            r#"pa:ref:ä = {"key":"pa:42"}"#,
            r#"pa:sku:ä/1 = {"id":42,"_timestamp":1.5}"#,
            r#"url:/de = {"url":"\/de"}"#,
        ]
    );
    // The one whose aliases are broken, as a whole.
    assert_eq!(code, Some(4));
    let letters = Command::new(env!("CARGO_BIN_EXE_rekindle"))
        .current_dir(folder.path())
        .args(["dead-letters", "show", "plan.yaml"])
        .output()
        .unwrap();
    let letters = String::from_utf8(letters.stdout).unwrap();
    assert!(
        letters.contains("pa:44") && letters.contains("`alias_keys` cannot be read"),
        "{letters}"
    );
    let used = &loaded.defaults_used;
    let used = used.iter().find(|(path, _)| path == "resources.url.from");
    assert!(
        used.unwrap()
            .1
            .contains("aliases: alias_keys, mapping_key: mapping_resource_key"),
        "{used:?}"
    );

    let (loaded, code, pairs) = run("from: { aliases: none, mapping_key: none }");
    assert_eq!((code, pairs.len()), (Some(0), 4), "{pairs:?}");
    let codes: Vec<_> = loaded.warnings.iter().map(|one| one.code.text()).collect();
    assert_eq!(codes, ["plan::no-aliases"]);
}

/// Every table that `sync:data` knows goes to its queue, under the name and with the parameters that its plugin sends.
#[test]
fn with_a_broker_every_table_has_the_queue_of_the_shop() {
    let folder = tempfile::tempdir().unwrap();
    let names: BTreeSet<_> = spryker::tables()
        .iter()
        .filter_map(|table| table.name)
        .collect();
    let names: Vec<_> = names.into_iter().collect();
    let text = format!(
        "source: {{ url: 'sqlite:shop.db' }}\nstores: [DE, AT]\ntargets:\n  storage: {{ redis: {{ url: 'redis://cache.test' }} }}\n  \
         search: {{ elasticsearch: {{ url: 'http://search.test' }} }}\n\
         broker: {{ url: 'amqp://mq.test/shop' }}\nresources: [{{ name: '{}' }}]\n\
         defaults: {{ sync: queue, fallback: {{ to: none }} }}\n",
        names.join(",")
    );
    let plan = loaded(folder.path(), &text).plan;
    let known = spryker::tables()
        .iter()
        .filter(|table| table.name.is_some());
    assert_eq!(plan.resources.len(), known.count());
    let mut queues = BTreeSet::new();
    for resource in &plan.resources {
        let table = spryker::by_table(&resource.from.table).unwrap();
        let queue = resource.queue.as_ref().unwrap();
        assert_eq!(resource.executor, Executor::Queue);
        assert_eq!(
            (
                queue.name.as_str(),
                Some(queue.resource.as_str()),
                queue.kind.as_deref()
            ),
            (table.queue, table.name, table.source),
        );
        let storeless = [
            "spy_cms_page_storage",
            "spy_cms_page_search",
            "spy_company_user_storage",
            "spy_merchant_storage",
            "spy_product_abstract_storage",
        ];
        let has_store = table.store != Presence::Never;
        assert_eq!(
            queue.stores,
            has_store && !storeless.contains(&table.table),
            "{}",
            table.table
        );
        assert!(!queue.stores || resource.from.store.is_some());
        queues.insert(&queue.name);
    }
    // Two of the 42 are of the health check, which no plugin of `sync:data` sends.
    assert_eq!(queues.len(), 40);
}
