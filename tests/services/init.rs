//! A plan written from what a database holds passes every check as it is, and restores what it names.

use std::{fs, process::Command};

use rusqlite::Connection;

use crate::{
    postgres::PgDatabase,
    redis_server::RedisServer,
    shop::{Finished, Named, Running, Shop},
};

/// Tables as shops have them, and some that take quoting, in SQL that all three databases know but for the quotes.
fn tables(quote: &str) -> String {
    let sql = "
        CREATE TABLE spy_url_storage (id_url_storage BIGINT NOT NULL PRIMARY KEY, fk_url INT, `key` VARCHAR(99), data TEXT, store VARCHAR(9));
        CREATE TABLE spy_card_storage (fk_a INT NOT NULL, fk_b INT NOT NULL, `key` VARCHAR(99), data TEXT, PRIMARY KEY (fk_b, fk_a));
        CREATE TABLE `odd \"${HOME} \\ #: name` (`null` BIGINT NOT NULL PRIMARY KEY, `key` VARCHAR(99), data TEXT);
        CREATE TABLE spy_nokey_storage (id BIGINT NOT NULL PRIMARY KEY, data TEXT);
        CREATE TABLE spy_noindex_storage (id BIGINT, `key` VARCHAR(99), data TEXT);
        CREATE TABLE spy_other (id BIGINT NOT NULL PRIMARY KEY, data TEXT);
        INSERT INTO spy_url_storage VALUES (1, 7, 'url:a', '{}', 'DE'), (2, 8, 'url:b', '{}', 'AT');
        INSERT INTO spy_card_storage VALUES (1, 1, 'card:1', '{}');
        INSERT INTO `odd \"${HOME} \\ #: name` VALUES (5, 'odd:1', '{}');";
    match quote {
        "`" => sql.replace('\\', "/"),
        _ => sql.replace('"', "'").replace('`', "\"").replace('\\', "/"),
    }
}

/// Runs the program without the variables that a plan may need.
fn bare<D: Named>(shop: &Shop<D>, arguments: &[&str]) -> Finished {
    let mut command: Command = shop.command("");
    command.args(arguments).env_remove("DATABASE_URL");
    Running::start(command).finish()
}

/// Asserts what is written and that it passes unchanged; then restores with it.
fn assert_usable<D: Named>(shop: &Shop<D>) {
    let url = shop.database.url();
    let told = bare(shop, &["init", "--source", &url]).exits(0);
    let text = &told.stdout;
    for part in [
        "  - name: url ",
        "      cursor: [id_url_storage]\n      key: key\n      value: data\n      entity: fk_url ",
        "      cursor: [fk_b, fk_a]\n",
        "what `--ids` means: one of fk_a, fk_b",
        "      cursor: [\"null\"]\n",
        "): it has no column `key`\n",
        "): it has no PRIMARY",
    ] {
        assert!(text.contains(part), "{part}\n{told}");
    }
    assert!(!text.contains("spy_other"), "{told}");

    let told = bare(shop, &["init", "--source", &url, "-o", "plans/new.yaml"]).exits(0);
    let said = "wrote plans/new.yaml: 3 resources, 2 tables left out\n";
    assert!(told.stdout.starts_with(said), "{told}");
    let written = fs::read_to_string(shop.path("plans/new.yaml")).expect("the plan");
    let but_name = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with("name: "));
        lines.map(|line| line.trim_end().to_owned()).collect()
    };
    assert_eq!(
        but_name(written.replace("plans/new.yaml", "PLAN").trim()),
        but_name(text.trim())
    );
    assert!(written.contains("\nname: new "), "{written}");

    bare(
        shop,
        &["validate", "plans/new.yaml", "--offline", "--strict"],
    )
    .exits(0);
    let valid = shop.rekindle("validate plans/new.yaml").exits(0);
    assert!(
        valid.stdout.contains("covers `spy_nokey_storage`"),
        "{valid}"
    );
    assert!(
        !valid.stdout.contains("covers `spy_url_storage`"),
        "{valid}"
    );
    shop.rekindle("run plans/new.yaml").exits(0);
    assert_eq!(shop.key_count(), 4);
}

#[tokio::test]
async fn a_plan_written_from_mariadb_is_usable() {
    let mut shop = Shop::open("init").await;
    shop.database.execute(tables("`")).await;
    assert_usable(&shop);
}

#[tokio::test]
async fn a_plan_written_from_postgres_is_usable() {
    let mut shop = Shop::of(PgDatabase::create("init").await, RedisServer::start());
    shop.database.execute(tables("\"")).await;
    assert_usable(&shop);
    // A table that the user may not read is named, not stumbled over.
    let role = shop.database.name.clone();
    shop.database
        .execute(format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'u-pw'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}; \
             REVOKE SELECT ON spy_card_storage FROM {role}"
        ))
        .await;
    let url = shop.database.url_of_role();
    let told = bare(&shop, &["init", "--source", &url]).exits(0);
    assert!(
        told.stdout.contains("#   spy_card_storage (about "),
        "{told}"
    );
    assert!(
        told.stdout.contains("this user may not read all of it"),
        "{told}"
    );
    assert!(told.stdout.contains("  - name: url "), "{told}");
    assert!(!told.stdout.contains("u-pw"), "the password");
}

/// A SQLite file in place of a server.
struct File(String);

impl Named for File {
    fn url(&self) -> String {
        format!("sqlite:{}", self.0)
    }
}

fn sqlite(sql: &str) -> (tempfile::TempDir, Shop<File>) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("shop.db");
    let connection = Connection::open(&path).expect("a database");
    connection.execute_batch(sql).expect("tables");
    let path = path.to_str().expect("a path of text").to_owned();
    (folder, Shop::of(File(path), RedisServer::start()))
}

#[tokio::test]
async fn a_plan_written_from_sqlite_is_usable() {
    let (_folder, shop) = sqlite(&tables("\""));
    assert_usable(&shop);
}

#[tokio::test]
async fn search_tables_get_stores_and_a_type() {
    let (_folder, shop) = sqlite(
        "CREATE TABLE spy_page_search (id INTEGER PRIMARY KEY, key TEXT, data TEXT, store TEXT);
         CREATE TABLE spy_page_storage (id INTEGER PRIMARY KEY, key TEXT, data TEXT)",
    );
    let url = shop.database.url();
    bare(&shop, &["init", "--source", &url, "-o", "p.yaml"]).exits(0);
    bare(&shop, &["validate", "p.yaml", "--offline", "--strict"]).exits(0);
    let text = fs::read_to_string(shop.path("p.yaml")).expect("the plan");
    for part in [
        "stores: [DE]",
        "  - name: page_search ",
        "      store: store",
        "    to: search\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[tokio::test]
async fn known_tables_of_a_preset_are_named_as_the_console_names_them() {
    let mut shop = Shop::open("init_preset").await;
    shop.database.reads_only().await;
    for table in [
        "url_storage",
        "product_abstract_storage",
        "loyalty_card_storage",
    ] {
        shop.database
            .execute(format!(
                "CREATE TABLE spy_{table} (id_{table} BIGINT NOT NULL PRIMARY KEY, fk_url INT, fk_product_abstract INT, \
                 store VARCHAR(128), `key` VARCHAR(255), data LONGTEXT, alias_keys VARCHAR(255), UNIQUE (alias_keys)); \
                 INSERT INTO spy_{table} VALUES (1, 2, 3, 'DE', '{table}:1', '{{\"a\": 1.0}}', '{{\"{table}:sku:1\": {{\"id\": 3}}}}')"
            ))
            .await;
    }
    let url = shop.database.url();
    let init = [
        "init", "--source", &url, "--preset", "spryker", "-o", "p.yaml",
    ];
    bare(&shop, &init).exits(0);
    let text = fs::read_to_string(shop.path("p.yaml")).expect("the plan");
    for part in [
        "preset: spryker ",
        "  - name: loyalty_card ",
        "fallback: { to: none }           # CHECK",
        "what `--ids` means: one of fk_url, fk_product_abstract",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    // One line each: the preset says the rest.
    let short: Vec<_> = text
        .lines()
        .skip_while(|line| !line.starts_with("  - name: product_abstract/storage "))
        .collect();
    assert!(
        short.len() == 2 && short[1].starts_with("  - name: url "),
        "{short:?}"
    );
    bare(&shop, &["validate", "p.yaml", "--offline", "--strict"]).exits(0);
    shop.rekindle("validate p.yaml --strict").exits(0);
    shop.rekindle("run p.yaml --only product_abstract/storage")
        .exits(0);
    let value = shop.redis.get(b"kv:product_abstract_storage:1");
    assert_eq!(value.as_deref(), Some(&b"{\"a\":1}"[..]));
    let value = shop.redis.get(b"kv:product_abstract_storage:sku:1");
    assert_eq!(value.as_deref(), Some(&b"{\"id\":3}"[..]));

    // Without a preset the plan has the same keys, of all three tables.
    bare(&shop, &["init", "--source", &url, "-o", "plain.yaml"]).exits(0);
    shop.rekindle("run plain.yaml").exits(0);
    for table in [
        "url_storage",
        "product_abstract_storage",
        "loyalty_card_storage",
    ] {
        let value = shop.redis.get(format!("{table}:sku:1").as_bytes());
        assert_eq!(value.as_deref(), Some(&b"{\"id\": 3}"[..]), "{table}");
    }
}

#[tokio::test]
async fn what_cannot_be_done_is_said_in_four_parts_and_touches_nothing() {
    let (_folder, shop) =
        sqlite("CREATE TABLE spy_nokey_storage (id INTEGER PRIMARY KEY, data TEXT)");
    let url = shop.database.url();
    let four = |finished: &Finished| {
        for part in ["error:", "cause:", "safe:", "next:"] {
            assert!(finished.stderr.contains(part), "{part}\n{finished}");
        }
        assert!(!finished.stderr.contains("geheim"), "{finished}");
    };
    let nothing = bare(&shop, &["init", "--source", &url, "-o", "p.yaml"]).exits(3);
    four(&nothing);
    nothing.line("`spy_nokey_storage`: it has no column `key`");
    four(&bare(&shop, &["init", "--source", "oracle://u:geheim@h/d"]).exits(2));
    four(&bare(&shop, &["init", "--source", "${RK_NOWHERE}"]).exits(2));
    four(
        &bare(
            &shop,
            &["init", "--source", "mysql://u:geheim@127.0.0.1:1/d"],
        )
        .exits(3),
    );
    assert!(!shop.path("p.yaml").exists());

    let connection = Connection::open(shop.database.0.as_str()).expect("the database");
    connection
        .execute_batch("CREATE TABLE a_storage (id INTEGER PRIMARY KEY, key TEXT, data TEXT)")
        .expect("a table");
    fs::write(shop.path("p.yaml"), "mine").expect("a file");
    let there = bare(&shop, &["init", "--source", &url, "-o", "p.yaml"]).exits(3);
    there.line("safe:  it was not touched");
    assert_eq!(fs::read(shop.path("p.yaml")).expect("a file"), b"mine");
    bare(
        &shop,
        &["init", "--source", &url, "-o", "p.yaml", "--force"],
    )
    .exits(0);
    bare(&shop, &["validate", "p.yaml", "--offline"]).exits(0);
    let told = bare(&shop, &["init", "--source", &url, "--json"]).exits(0);
    let json = &told.json()[0];
    assert_eq!(json["resources"][0]["table"], "a_storage");
    assert_eq!(json["left_out"][0]["table"], "spy_nokey_storage");
}
