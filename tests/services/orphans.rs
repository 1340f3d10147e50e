//! Keys that no row owns: found where they can be told, named where they cannot, and no key of a row is ever one of them.

use std::{
    collections::HashMap,
    path::PathBuf,
    process::{Command, Stdio},
};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::{
    postgres::PgDatabase,
    redis_server::RedisServer,
    shop::{Named, PLAN, Running, Shop, assert_same},
    verify::{of, report},
};

/// A SQLite file.
struct Lite(PathBuf);

impl Named for Lite {
    fn url(&self) -> String {
        format!("sqlite:{}", self.0.display())
    }
}

impl Lite {
    fn execute(&self, sql: &str) {
        let database = Connection::open(&self.0).expect("the file");
        database.execute_batch(sql).expect(sql);
    }
}

/// Rows 1 to `last` of a table, by recursion: `n(i)`.
fn numbers(last: u32) -> String {
    format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {last})")
}

fn shop(sql: &str) -> Shop<Lite> {
    let mut shop = Shop::of(Lite(PathBuf::new()), RedisServer::start());
    shop.database.0 = shop.path("shop.db");
    shop.database.execute(sql);
    shop
}

/// A table of keys and values, and a plan for it; `more` is the rest of its resource.
fn one_table(rows: u32, more: &str) -> Shop<Lite> {
    let shop = shop(&format!(
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, k, data TEXT, more TEXT);
         {} INSERT INTO t SELECT i, 'store:' || i, '{{\"id\":' || i || '}}', NULL FROM n;",
        numbers(rows)
    ));
    plan_of_t(&shop, more);
    shop
}

fn plan_of_t(shop: &Shop<Lite>, more: &str) {
    shop.plan(
        &format!("  - name: t\n    from: {{ table: t, cursor: [id], key: k, value: data, {more}\n    to: storage\n"),
        "",
    );
}

/// A part of a shop, with `preset: spryker`: products with an alias each, and addresses with none.
fn spryker() -> Shop<Lite> {
    let shop = shop(&format!(
        "CREATE TABLE spy_product_abstract_storage (id_product_abstract_storage INTEGER PRIMARY KEY NOT NULL,
           fk_product_abstract INTEGER, key TEXT, data TEXT, alias_keys TEXT);
         CREATE TABLE spy_url_storage (id_url_storage INTEGER PRIMARY KEY NOT NULL, fk_url INTEGER, key TEXT, data TEXT,
           alias_keys TEXT);
         {numbers} INSERT INTO spy_product_abstract_storage SELECT i, i, 'product_abstract:de:' || i, '{{\"id\":' || i || '}}',
           '{{\"product_abstract:de:sku:' || i || '\":{{\"id\":' || i || '}}}}' FROM n;
         {numbers} INSERT INTO spy_url_storage SELECT i, i, 'url:' || i, '{{\"id\":' || i || '}}', NULL FROM n;",
        numbers = numbers(300)
    ));
    shop.write_plan(
        "version: 1\nname: shop\npreset: spryker\nsource: { url: \"${DATABASE_URL}\" }\ntargets:\n  \
         storage: { redis: { url: \"${REDIS_URL}\" } }\nresources: [{ name: product_abstract/storage }, { name: url }]\n",
    );
    shop
}

/// Starts the program on a terminal of its own, at which somebody types.
fn on_a_terminal(shop: &Shop<Lite>, words: &str, mutant: &str) -> Running {
    let program = format!("{} {words} --no-progress", env!("CARGO_BIN_EXE_rekindle"));
    let mut command = Command::new("script");
    command
        .args([
            "--quiet",
            "--flush",
            "--return",
            "--command",
            &program,
            "/dev/null",
        ])
        .current_dir(shop.path(""))
        .env("DATABASE_URL", shop.database.url())
        .env("REDIS_URL", shop.redis.url(0))
        .env("RK_MUTANT", mutant)
        .env_remove("RK_FAIL")
        .stdin(Stdio::piped());
    Running::start(command)
}

fn without(mut content: HashMap<Vec<u8>, Vec<u8>>, keys: &[&str]) -> HashMap<Vec<u8>, Vec<u8>> {
    for key in keys {
        assert!(content.remove(key.as_bytes()).is_some(), "{key}");
    }
    content
}

#[test]
fn with_a_preset_aliases_of_rows_are_owned_and_those_of_none_are_orphans() {
    let shop = spryker();
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    let whole = shop.redis_content();
    assert_eq!(whole.len(), 900);
    shop.database.execute(
        "DELETE FROM spy_product_abstract_storage WHERE fk_product_abstract = 7;
         UPDATE spy_product_abstract_storage SET alias_keys = '{\"product_abstract:de:sku:9\":{\"id\":8}}'
           WHERE fk_product_abstract = 9;
         UPDATE spy_product_abstract_storage SET alias_keys = '{\"product_abstract:de:sku:new\":{\"id\":8}}'
           WHERE fk_product_abstract = 8;",
    );
    let verify = format!("verify {PLAN} --json");
    let found = report(
        shop.rekindle(&format!("{verify} --orphans --level presence")),
        7,
    );
    let orphans = [
        "kv:product_abstract:de:7",
        "kv:product_abstract:de:sku:7",
        "kv:product_abstract:de:sku:8",
    ];
    assert_eq!(
        of(&found, "product_abstract/storage")["extra_keys"],
        json!(orphans)
    );
    assert_eq!(of(&found, "url")["extra"], json!(0));
    assert_eq!(found["orphans"], json!({ "asked": 2, "looked": 2 }));
    // Rewriting leaves them, so both ways are named.
    let told = shop
        .rekindle(&format!("verify {PLAN} --orphans --level presence"))
        .exits(7);
    assert!(
        told.stderr
            .contains(" --repair` rewrites these keys and no others; `rekindle verify ")
            && told
                .stderr
                .contains(" --prune` removes what no row owns, after it asked"),
        "{told}"
    );
    let pruned = report(
        shop.rekindle(&format!("{verify} --repair --prune --yes")),
        0,
    );
    assert_eq!(
        [
            &pruned["pruned"],
            &pruned["extra_left"],
            &pruned["repaired"]
        ],
        [&json!(3), &json!(0), &json!(2)]
    );
    let mut wanted = without(whole, &orphans);
    for key in ["new", "9"] {
        let key = format!("kv:product_abstract:de:sku:{key}");
        wanted.insert(key.into_bytes(), b"{\"id\":8}".to_vec());
    }
    assert_same(&wanted, &shop.redis_content());

    // A row that does not tell its keys, or has none noted, may own any of them. Addresses are none the worse for it.
    for alias in ["'{\"product_abstract:de:sku:10\":{\"i'", "NULL"] {
        shop.database.execute(&format!(
            "UPDATE spy_product_abstract_storage SET alias_keys = {alias} WHERE fk_product_abstract = 10"
        ));
        let finished = shop.rekindle(&format!("{verify} --prune --yes --level presence"));
        assert!([Some(0), Some(4)].contains(&finished.code), "{finished}");
        let found = finished.json().remove(0);
        let product = of(&found, "product_abstract/storage");
        assert_eq!(product["extra"], Value::Null);
        let why = product["extra_unknown"].as_str().unwrap_or_default();
        assert!(
            why.starts_with("which further keys 1 row of `product_abstract/storage`"),
            "{why}"
        );
        assert_eq!(of(&found, "url")["extra"], json!(0));
        assert_eq!(found["orphans"], json!({ "asked": 2, "looked": 1 }));
        let verdict = found["verdict"].as_str().unwrap_or_default();
        assert!(
            verdict.contains("no orphans in 1 of 2 resources, and not looked for in the others"),
            "{verdict}"
        );
        assert_same(&wanted, &shop.redis_content());
    }

    // A column that is not there is not called an empty one.
    shop.database
        .execute("ALTER TABLE spy_product_abstract_storage DROP COLUMN alias_keys");
    let finished = shop.rekindle(&format!("{verify} --prune --yes --level presence"));
    let found = finished.json().remove(0);
    let product = of(&found, "product_abstract/storage");
    assert_eq!(product["extra"], Value::Null);
    let why = product["extra_unknown"].as_str().unwrap_or_default();
    assert!(
        why.starts_with("the shop makes further keys of each row of `product_abstract/storage`")
            && why.contains("has no column `alias_keys`"),
        "{why}"
    );
    assert_same(&wanted, &shop.redis_content());
}

#[test]
fn aliases_that_a_plan_leaves_out_are_no_orphans() {
    let shop = spryker();
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    let whole = shop.redis_content();
    // Without the preset, and without a word of the column.
    let plan = |more: &str| {
        shop.write_plan(&format!(
            "version: 1\nname: shop\nsource: {{ url: \"${{DATABASE_URL}}\" }}\ntargets:\n  \
             storage: {{ redis: {{ url: \"${{REDIS_URL}}\", prefix: \"kv:\" }} }}\nresources:\n  - name: p\n    \
             from: {{ table: spy_product_abstract_storage, cursor: [id_product_abstract_storage], key: key, value: data{more} }}\n    \
             keys: \"product_abstract:\"\n"
        ));
    };
    for more in ["", ", aliases: none"] {
        plan(more);
        let verify = format!("verify {PLAN} --prune --yes --json");
        let found = report(shop.rekindle(&verify), 0);
        assert_eq!(of(&found, "p")["extra"], json!(0), "{more}");
        assert_same(&whole, &shop.redis_content());
    }
    // A table that nobody knows has them in a column that nobody knows.
    shop.database
        .execute("ALTER TABLE spy_product_abstract_storage RENAME TO card");
    shop.write_plan(
        &std::fs::read_to_string(shop.path(PLAN))
            .expect("a plan")
            .replace("spy_product_abstract_storage,", "card,"),
    );
    let finished = shop
        .rekindle(&format!("verify {PLAN} --prune --yes"))
        .exits(5);
    assert!(
        finished
            .stdout
            .contains("the plan leaves out further keys of `p`")
            && finished.stdout.contains("orphans were looked for nowhere")
            && finished
                .stderr
                .contains("error: orphans were looked for nowhere"),
        "{finished}"
    );
    assert_same(&whole, &shop.redis_content());
}

#[test]
fn where_nobody_looked_nobody_says_that_there_are_none() {
    let shop = one_table(30, "}");
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    shop.redis.run("SET kv:store:0 x");
    for prune in ["", " --prune --yes"] {
        let found = report(
            shop.rekindle(&format!("verify {PLAN} --orphans{prune} --json")),
            5,
        );
        assert_eq!(found["orphans"], json!({ "asked": 1, "looked": 0 }));
        assert_eq!(of(&found, "t")["extra"], Value::Null);
    }
    let shown = shop.rekindle(&format!("verify {PLAN} --orphans")).exits(5);
    assert!(
        shown
            .stdout
            .contains("t: extra: not looked for: `keys` of the resource")
            && shown.stdout.contains("perhaps `keys: \"t:\"`"),
        "{shown}"
    );
    // What was typed without a look at the keys is not believed.
    plan_of_t(&shop, "}\n    keys: \"t:\"");
    shop.redis.run("SET kv:t:somebody x");
    let had = shop.redis_content();
    let shown = shop
        .rekindle(&format!("verify {PLAN} --prune --yes"))
        .exits(5);
    let why = "t: extra: not looked for: `keys: \"t:\"` is not what all its keys begin with: a row has `store:1`";
    assert!(shown.stdout.contains(why), "{shown}");
    assert_same(&had, &shop.redis_content());
    // Asked for nothing of the kind, nothing is said of it.
    let found = report(shop.rekindle(&format!("verify {PLAN} --json")), 0);
    assert_eq!(found["orphans"], Value::Null);
}

#[test]
fn rows_that_come_while_a_person_thinks_keep_their_keys() {
    for (mutant, kept) in [("none", 4), ("prune_unchecked", 0)] {
        let shop = one_table(30, "aliases: more }\n    keys: \"store:\"");
        shop.rekindle(&format!("run {PLAN}")).exits(0);
        // Own keys as text, bytes and a number's text, and an alias; one that nobody will own.
        shop.redis
            .run("MSET kv:store:31 x kv:store:32 x kv:store:33 x kv:store:alias x kv:store:gone x");
        let mut pruning = on_a_terminal(
            &shop,
            &format!("verify {PLAN} --level presence --prune"),
            mutant,
        );
        pruning.shows("5 names would be removed for good");
        shop.database.execute(
            "INSERT INTO t VALUES (31, 'store:31', '{}', NULL), (32, CAST('store:32' AS BLOB), '{}', NULL),
               (33, 'store:33', '{}', '{\"store:alias\":{}}')",
        );
        pruning.types("yes\n");
        let pruned = pruning.finish();
        assert_eq!(pruned.code, Some(0), "{pruned}");
        let content = shop.redis_content();
        let came = ["31", "32", "33", "alias"].map(|key| format!("kv:store:{key}").into_bytes());
        assert_eq!(
            came.iter().filter(|key| content.contains_key(*key)).count(),
            kept,
            "{mutant}"
        );
        assert!(!content.contains_key(&b"kv:store:gone"[..]));
        if kept > 0 {
            assert!(
                pruned
                    .stdout
                    .contains("1 of 5 names removed; 4 had a row by then"),
                "{pruned}"
            );
        }
    }
}

/// A resource of files is never compared; what was told of the others is not told again as if it still were so.
#[test]
fn a_comparison_that_was_told_is_over_also_where_a_resource_cannot_be_compared() {
    let shop = one_table(30, "}");
    let plan = std::fs::read_to_string(shop.path(PLAN)).expect("a plan");
    let plan = plan.replacen(
        "targets:\n",
        "targets:\n  dump: { file: { path: ../out/ } }\n",
        1,
    ) + "  - { name: f, from: { table: t, cursor: [id], key: k, value: data }, to: dump }\n";
    shop.write_plan(&plan);
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    let missing = |code| {
        let found = report(shop.rekindle(&format!("verify {PLAN} --json")), code);
        of(&found, "t")["missing"].clone()
    };
    assert_eq!(missing(5), json!(0));
    let shown = shop.rekindle(&format!("verify {PLAN}")).exits(5);
    assert!(
        shown
            .stdout
            .contains("no difference in 30 rows; 1 resource in files, which are not compared")
            && shown.stderr.contains("--skip RESOURCE"),
        "{shown}"
    );
    shop.rekindle(&format!("verify {PLAN} --skip f")).exits(0);
    shop.redis.run("FLUSHDB");
    assert_eq!(missing(7), json!(30));
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    assert_eq!(missing(5), json!(0));
}

/// The plan names no column of further keys; the table has one, as a shop calls it, with keys that begin as those of another.
#[test]
fn keys_in_a_column_that_the_plan_does_not_name_may_begin_with_anything() {
    let shop = shop(
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, k TEXT, data TEXT);
         CREATE TABLE u (id INTEGER PRIMARY KEY NOT NULL, k TEXT, data TEXT, alias_keys TEXT);
         INSERT INTO t VALUES (1, 'look:1', '{}');
         INSERT INTO u VALUES (1, 'thing:1', '{}', '{\"look:sku:1\":{}}');",
    );
    shop.plan(
        "  - { name: t, from: { table: t, cursor: [id], key: k, value: data }, keys: \"look:\", to: storage }
  - { name: u, from: { table: u, cursor: [id], key: k, value: data }, keys: \"thing:\", to: storage }
",
        "",
    );
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    shop.redis
        .run("MSET kv:look:sku:1 x kv:look:sku:2 x kv:look:gone x");
    let mut pruning = on_a_terminal(
        &shop,
        &format!("verify {PLAN} --level presence --prune"),
        "none",
    );
    pruning.shows("2 names would be removed for good");
    // Inserted and published meanwhile.
    shop.database
        .execute("INSERT INTO u VALUES (2, 'thing:2', '{}', '{\"look:sku:2\":{}}')");
    pruning.types("yes\n");
    let pruned = pruning.finish();
    assert_eq!(pruned.code, Some(0), "{pruned}");
    let content = shop.redis_content();
    for live in ["kv:look:1", "kv:look:sku:1", "kv:look:sku:2", "kv:thing:1"] {
        assert!(content.contains_key(live.as_bytes()), "{live}");
    }
    assert!(!content.contains_key(&b"kv:look:gone"[..]));
    // Which keys a cut column means nobody can tell.
    shop.database.execute(
        "UPDATE u SET alias_keys = '{\"look:sku:2\":' WHERE id = 2; INSERT OR IGNORE INTO t VALUES (2, 'look:2', '{}')",
    );
    let before = shop.redis_content();
    shop.rekindle(&format!(
        "verify {PLAN} --level presence --prune --yes --only t"
    ));
    assert_same(&before, &shop.redis_content());
}

/// Resources of tables of the same name, by what their keys begin with; a key may be of any type.
fn typed_keys<D: Named>(shop: &Shop<D>, tables: &[(&str, &str)]) {
    let resources = tables.iter().map(|(name, keys)| {
        format!(
            "  - {{ name: {name}, from: {{ table: {name}, cursor: [id], key: k, value: data }}, keys: \"{keys}\", to: storage }}\n"
        )
    });
    shop.plan(&resources.collect::<String>(), "");
}

/// Asserts that each table's own orphan `gone` and its keys that no column of it can hold are extra, that only the first is
/// removed, and that no row loses its key.
fn odd_keys_are_extra<D: Named>(shop: &Shop<D>, tables: &[(&str, &str)], odd: &[(&str, &[u8])]) {
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    let mut kept = shop.redis_content();
    for (key, value) in odd.iter().map(|(_, key)| (key.to_vec(), b"odd".to_vec())) {
        let key = [b"kv:".as_slice(), &key].concat();
        let () = shop.redis.ask(0, redis::cmd("SET").arg(&key).arg(&value));
        kept.insert(key, value);
    }
    let verify = format!("verify {PLAN} --level presence --json");
    for (name, gone) in tables {
        let () = shop
            .redis
            .ask(0, redis::cmd("SET").arg(format!("kv:{gone}")).arg("x"));
        let found = report(
            shop.rekindle(&format!("{verify} --orphans --only {name}")),
            7,
        );
        let own = odd.iter().filter(|(of, _)| of == name).count();
        assert_eq!(of(&found, name)["extra"], json!(own + 1), "{found}");
    }
    let pruned = report(shop.rekindle(&format!("{verify} --prune --yes")), 7);
    assert_eq!(pruned["pruned"], json!(tables.len()), "{pruned}");
    assert_eq!(pruned["extra_left"], json!(odd.len()), "{pruned}");
    assert_same(&kept, &shop.redis_content());
    let told = shop.rekindle(&format!("verify {PLAN} --level presence --prune --yes"));
    let told = told.exits(7);
    let stay = format!(
        "0 of {0} names removed; {0} have no row and stay",
        odd.len()
    );
    assert!(
        told.stdout.contains(&stay) && told.stderr.contains("remove by hand"),
        "{told}"
    );
    assert!(!told.to_string().contains("--ids"), "{told}");
}

#[tokio::test]
async fn keys_that_a_column_of_mariadb_cannot_hold_have_no_row() {
    let mut shop = Shop::open("odd_keys").await;
    for (table, column, first) in [
        ("narrow", "VARCHAR(50) CHARACTER SET latin1", "'n:1'"),
        ("plain", "VARCHAR(50) CHARACTER SET ascii", "'p:1'"),
        ("old", "VARCHAR(50) CHARACTER SET utf8mb3", "'o:1'"),
        ("number", "INT", "11"),
    ] {
        shop.database
            .execute(format!(
                "CREATE TABLE {table} (id INT PRIMARY KEY, k {column}, data TEXT); INSERT INTO {table} VALUES (1, {first}, '1')"
            ))
            .await;
    }
    let keys = [
        ("narrow", "n:"),
        ("plain", "p:"),
        ("old", "o:"),
        ("number", "1"),
    ];
    typed_keys(&shop, &keys);
    let gone = [
        ("narrow", "n:2"),
        ("plain", "p:2"),
        ("old", "o:2"),
        ("number", "12"),
    ];
    odd_keys_are_extra(
        &shop,
        &gone,
        &[
            ("narrow", "n:\u{2603}".as_bytes()),
            ("narrow", b"n:\xff"),
            ("plain", "p:\u{e9}".as_bytes()),
            ("old", "o:\u{1f600}".as_bytes()),
            ("number", b"1x"),
            ("number", b"1\0"),
        ],
    );
}

#[tokio::test]
async fn keys_that_a_column_of_postgresql_cannot_hold_have_no_row() {
    let mut shop = Shop::<PgDatabase>::open_postgres("odd_keys").await;
    for (table, column, first) in [
        ("word", "text", "'w:1'"),
        ("number", "int", "11"),
        ("id", "uuid", "'a0000000-0000-4000-8000-000000000001'"),
        ("host", "inet", "'200.0.0.1'"),
    ] {
        shop.database
            .execute(format!(
                "CREATE TABLE {table} (id INT PRIMARY KEY, k {column}, data TEXT); INSERT INTO {table} VALUES (1, {first}, '1')"
            ))
            .await;
    }
    typed_keys(
        &shop,
        &[
            ("word", "w:"),
            ("number", "1"),
            ("id", "a"),
            ("host", "200."),
        ],
    );
    let gone = [
        ("word", "w:2"),
        ("number", "12"),
        ("id", "a0000000-0000-4000-8000-000000000002"),
        ("host", "200.0.0.2"),
    ];
    odd_keys_are_extra(
        &shop,
        &gone,
        &[
            ("word", b"w:\0"),
            ("number", b"1x"),
            ("id", b"a0000000-0000-4000-8000-00000000000x"),
            ("host", b"200.\0"),
        ],
    );
}

#[test]
fn who_changes_their_mind_at_the_question_leaves_nothing_behind() {
    let shop = one_table(30, "}\n    keys: \"store:\"");
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    shop.redis.run("SET kv:store:0 x");
    let before = shop.redis_content();
    let mut asked = on_a_terminal(&shop, &format!("verify {PLAN} --prune"), "none");
    asked.shows("1 name would be removed for good");
    asked.types("\x03");
    let asked = asked.finish();
    assert_eq!(asked.code, Some(130), "{asked}");
    // No lease, no marker, nothing removed.
    assert_same(&before, &shop.redis_content());
}

#[test]
fn rows_of_another_target_of_the_same_server_keep_their_keys() {
    let shop = one_table(30, "}");
    shop.database
        .execute("CREATE TABLE u (id INTEGER PRIMARY KEY NOT NULL, data TEXT); INSERT INTO u VALUES (1, '{}'), (2, '{}')");
    let other = shop.redis.url(0).replace("127.0.0.1", "localhost");
    shop.write_plan(&format!(
        "version: 1\nname: shop\nsource: {{ url: \"${{DATABASE_URL}}\" }}\ntargets:\n  \
         storage: {{ redis: {{ url: \"${{REDIS_URL}}\", prefix: \"kv:\" }} }}\n  \
         other: {{ redis: {{ url: \"{other}\", prefix: \"kv:store:u:\" }} }}\nresources:\n  \
         - {{ name: t, from: {{ table: t, cursor: [id], key: k, value: data }}, to: storage, keys: \"store:\" }}\n  \
         - {{ name: u, from: {{ table: u, cursor: [id], key: id, value: data }}, to: other }}\n"
    ));
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    let kept = shop.redis_content();
    assert!(kept.contains_key(&b"kv:store:u:2"[..]));
    shop.redis.run("MSET kv:store:0 x kv:store:u:3 x");
    let pruned = report(
        shop.rekindle(&format!("verify {PLAN} --prune --yes --json")),
        0,
    );
    assert_eq!(
        of(&pruned, "t")["extra_keys"],
        json!(["kv:store:0", "kv:store:u:3"])
    );
    assert_same(&kept, &shop.redis_content());
}

#[test]
fn two_rows_with_one_key_are_named_and_do_not_take_turns() {
    let shop = one_table(3_000, "aliases: more }");
    // One key twice, and an alias that is another row's key; equal rows are nobody's trouble.
    shop.database.execute(
        "UPDATE t SET k = 'store:2500', data = '{\"five\":1}' WHERE id = 5;
         UPDATE t SET more = '{\"store:10\":{\"alias\":1}}' WHERE id = 2000;
         UPDATE t SET k = 'store:2600', data = '{\"id\":2600}' WHERE id = 6;",
    );
    let verify = format!("verify {PLAN} --json --repair");
    let first = report(shop.rekindle(&verify), 4);
    assert_eq!(first["shared"], json!(2), "{first}");
    let held = |key: &str| {
        let value = shop.redis.get(format!("kv:store:{key}").as_bytes());
        String::from_utf8(value.expect("a value")).expect("text")
    };
    for _ in 0..2 {
        // The last row in the order of the cursor stands, and stays.
        assert_eq!(
            [held("2500"), held("10"), held("2600")],
            ["{\"id\":2500}", "{\"alias\":1}", "{\"id\":2600}"]
        );
        let again = report(shop.rekindle(&verify), 4);
        assert_eq!(
            [&again["shared"], &again["repaired"], &again["different"]],
            [&json!(2), &json!(0), &json!(0)]
        );
        let mut keys: Vec<_> = of(&again, "t")["shared_keys"]
            .as_array()
            .expect("keys")
            .clone();
        keys.sort_by_key(ToString::to_string);
        assert_eq!(keys, [json!("kv:store:10"), json!("kv:store:2500")]);
    }
    let shown = shop.rekindle(&format!("verify {PLAN}")).exits(4);
    assert!(
        shown
            .stdout
            .contains("t: written by several rows: kv:store:2500")
            && shown.stdout.contains("2 keys written by several rows"),
        "{shown}"
    );
    // Whoever takes each row for itself writes what the other one overwrote.
    let mut blind = shop.command(&verify);
    blind.env("RK_MUTANT", "shared_keys_flip");
    report(Running::start(blind).finish(), 4);
    assert_eq!(held("2500"), "{\"five\":1}");
}

/// Two resources of one target, either of which could own the other's keys; `more` is the rest of the first one.
fn two_resources(more: &str) -> Shop<Lite> {
    let shop = shop(&format!(
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, k, data TEXT, more TEXT);
         CREATE TABLE u (id INTEGER PRIMARY KEY NOT NULL, k, data TEXT, more TEXT);
         {0} INSERT INTO t SELECT i, 'key:' || i, '{{\"t\":' || i || '}}', NULL FROM n;
         {0} INSERT INTO u SELECT i, 'key:' || (i + 300), '{{\"u\":' || i || '}}', NULL FROM n;
         UPDATE u SET k = 'key:7' WHERE id = 1; UPDATE u SET more = '{{\"key:8\":{{\"alias\":1}}}}' WHERE id = 2;
         UPDATE u SET k = 'key:9', data = '{{\"t\":9}}' WHERE id = 3;",
        numbers(300)
    ));
    let one = |name: &str, more: &str| {
        format!(
            "  - name: {name}\n    from: {{ table: {name}, cursor: [id], key: k, value: data, aliases: more }}\n    to: storage\n{more}"
        )
    };
    shop.plan(&(one("t", more) + &one("u", "")), "");
    shop
}

#[test]
fn of_two_resources_with_one_key_the_later_one_stands() {
    for (more, stands, falls, values) in [
        ("", "u", "t", ["{\"u\":1}", "{\"alias\":1}"]),
        ("    after: [u]\n", "t", "u", ["{\"t\":7}", "{\"t\":8}"]),
    ] {
        let shop = two_resources(more);
        shop.rekindle(&format!("run {PLAN}")).exits(0);
        let held = || {
            ["7", "8", "9"].map(|key| {
                let value = shop.redis.get(format!("kv:key:{key}").as_bytes());
                String::from_utf8(value.expect("a value")).expect("text")
            })
        };
        let wanted = [values[0], values[1], "{\"t\":9}"];
        let verify = format!("verify {PLAN} --json");
        // What the target held before is nobody's word: the other one's, or nothing.
        for before in [
            "MSET kv:key:7 {\"t\":7} kv:key:8 {\"t\":8}",
            "MSET kv:key:7 {\"u\":1} kv:key:8 {\"alias\":1}",
            "DEL kv:key:7 kv:key:8",
        ] {
            shop.redis.run(before);
            let mended = report(shop.rekindle(&format!("{verify} --repair")), 4);
            assert_eq!(held(), wanted, "{more} {before} {mended}");
            for again in ["", " --repair"] {
                let again = report(shop.rekindle(&format!("{verify}{again}")), 4);
                assert_eq!(
                    [&again["missing"], &again["different"], &again["repaired"]],
                    [&json!(0), &json!(0), &json!(0)],
                    "{again}"
                );
                let mut keys: Vec<_> = of(&again, falls)["shared_keys"]
                    .as_array()
                    .expect("keys")
                    .clone();
                keys.sort_by_key(ToString::to_string);
                let named = ["7", "8"]
                    .map(|key| json!(format!("kv:key:{key} (that of `{stands}` stands)")));
                assert_eq!(keys, named);
                assert_eq!(of(&again, stands)["shared"], json!(0));
            }
        }
        // By itself, too, the other one is no difference.
        let alone = report(
            shop.rekindle(&format!("{verify} --repair --only {falls}")),
            4,
        );
        assert_eq!(
            [&alone["shared"], &alone["repaired"]],
            [&json!(2), &json!(0)]
        );
        assert_eq!(held(), wanted);
    }
}

#[test]
fn what_is_missing_is_counted_in_keys_and_what_is_read_in_rows() {
    let shop = one_table(30, "aliases: more }");
    shop.database.execute(
        "UPDATE t SET more = '{\"a:' || id || '\":{\"a\":1},\"b:' || id || '\":{\"b\":1}}'; UPDATE t SET more = 'cut' WHERE id = 30",
    );
    shop.rekindle(&format!("run {PLAN}")).exits(4);
    shop.redis.run("DEL kv:store:1 kv:a:1 kv:b:1 kv:a:2");
    shop.redis.run("SET kv:b:2 x");
    let found = report(shop.rekindle(&format!("verify {PLAN} --json")), 7);
    let numbers = [
        "rows",
        "compared",
        "keys",
        "missing",
        "different",
        "dead_letters",
    ];
    assert_eq!(
        numbers.map(|name| &found[name]),
        [30, 29, 87, 4, 1, 1].map(|number| json!(number)).each_ref(),
        "{found}"
    );
    let shown = shop.rekindle(&format!("verify {PLAN} --repair")).exits(4);
    for text in [
        "rows  broken rows  keys  missing keys  different keys  rewritten keys",
        "4 of 87 keys missing, 1 different; 5 rewritten; 1 row broken in the source",
    ] {
        assert!(shown.stdout.contains(text), "{text}: {shown}");
    }
    let shown = shop.rekindle(&format!("verify {PLAN}")).exits(4);
    assert!(
        shown
            .stdout
            .contains("no difference in 29 rows with 87 keys"),
        "{shown}"
    );
}

#[test]
fn what_is_rewritten_without_any_run_stands_in_the_history() {
    let shop = one_table(30, "}\n    keys: \"store:\"");
    shop.redis.run("SET kv:store:0 x");
    report(
        shop.rekindle(&format!("verify {PLAN} --repair --prune --yes --json")),
        0,
    );
    let shown = shop.rekindle(&format!("history {PLAN}")).exits(0);
    for text in [
        "no run yet",
        "verify rewrote 30 keys",
        "verify removed 1 name of `t`",
    ] {
        assert!(shown.stdout.contains(text), "{shown}");
    }
    let listed = shop
        .rekindle(&format!("history {PLAN} --json"))
        .exits(0)
        .json()
        .remove(0);
    let notes: Vec<_> = listed
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| &one["noted"])
        .collect();
    assert_eq!(
        notes,
        [
            &json!("verify removed 1 name of `t` that no row owned"),
            &json!("verify rewrote 30 keys")
        ]
    );
    // A run is a run, and its story its own.
    shop.rekindle(&format!("run {PLAN}")).exits(0);
    let id = shop.status()["run"].as_str().expect("a run").to_owned();
    let story = shop.rekindle(&format!("show {id} {PLAN}")).exits(0);
    assert!(!story.stdout.contains("verify rewrote"), "{story}");
    // Nothing was compared by that run.
    assert!(
        story.stdout.contains("t: its evidence stands") && !story.stdout.contains("verified"),
        "{story}"
    );
    assert!(
        shop.rekindle(&format!("history {PLAN}"))
            .stdout
            .contains("verify rewrote 30 keys"),
        "gone from the history"
    );
}
