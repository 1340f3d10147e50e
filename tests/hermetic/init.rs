//! `init` over a shop in SQLite: what it writes passes as it is, and says the same with a preset or without.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

struct Shop {
    folder: TempDir,
}

/// Tables of core with their further keys, one of the shop's own, and one whose further keys have a name of their own.
const TABLES: &str = "
    CREATE TABLE spy_cms_block_storage (id_cms_block_storage INTEGER PRIMARY KEY NOT NULL, fk_cms_block INT, cms_block_key TEXT,
      store TEXT, data TEXT, alias_keys TEXT, key TEXT);
    CREATE TABLE spy_navigation_storage (id_navigation_storage INTEGER PRIMARY KEY NOT NULL, fk_navigation INT,
      navigation_key TEXT, data TEXT, alias_keys TEXT, key TEXT);
    CREATE TABLE spy_url_redirect_storage (id_url_redirect_storage INTEGER PRIMARY KEY NOT NULL, fk_url_redirect INT,
      data TEXT, mapping_resource_key TEXT, key TEXT);
    CREATE TABLE spy_card_storage (id_card_storage INTEGER PRIMARY KEY NOT NULL, fk_card INT, data TEXT, alias_keys TEXT,
      mapping_resource_key TEXT, key TEXT);
    CREATE TABLE spy_wallet_storage (id INTEGER PRIMARY KEY NOT NULL, data TEXT, wallet_aliases TEXT, key TEXT);
    CREATE TABLE spy_page_search (id INTEGER PRIMARY KEY NOT NULL, data TEXT, alias_keys TEXT, key TEXT);";

impl Shop {
    fn new(tables: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Connection::open(folder.path().join("shop.db")).unwrap();
        database.execute_batch(tables).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn rekindle(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_rekindle"))
            .current_dir(self.folder.path())
            .env_remove("REDIS_URL")
            .env_remove("SEARCH_URL")
            .args(words)
            .output()
            .unwrap()
    }

    /// Returns what a command that has to end with `code` printed on stdout and stderr.
    fn said(&self, words: &[&str], code: i32) -> (String, String) {
        let output = self.rekindle(words);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {output:?}");
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr))
    }

    /// Has `init` write `file`; returns what it said and what it wrote.
    fn init(&self, file: &str, more: &[&str]) -> (String, String) {
        let mut words = vec!["init", "--source", "sqlite:shop.db", "-o", file];
        words.extend(more);
        let (said, _) = self.said(&words, 0);
        (said, fs::read_to_string(self.path(file)).unwrap())
    }

    fn validated(&self, file: &str) -> Value {
        let (said, _) = self.said(&["validate", file, "--offline", "--strict", "--json"], 0);
        serde_json::from_str(&said).unwrap()
    }
}

/// Returns the part of a plan that is about `resource`.
fn of<'t>(text: &'t str, resource: &str) -> &'t str {
    let begin = text.find(&format!("  - name: {resource} ")).unwrap();
    let rest = &text[begin..];
    let end = rest[1..]
        .find("  - name: ")
        .map_or(rest.len(), |end| end + 1);
    &rest[..end]
}

#[test]
fn further_keys_are_named_without_a_preset_and_doubts_are_told() {
    let shop = Shop::new(TABLES);
    let (said, text) = shop.init("plain.yaml", &[]);
    for (resource, aliases, mapping) in [
        ("cms_block", true, false),
        ("url_redirect", false, true),
        ("card", true, true),
        ("wallet", false, false),
        ("page_search", false, false),
    ] {
        let part = of(&text, resource);
        assert_eq!(
            part.contains("      aliases: alias_keys "),
            aliases,
            "{part}"
        );
        let key = "      mapping_key: mapping_resource_key ";
        assert_eq!(part.contains(key), mapping, "{part}");
    }
    let doubt = "# CHECK: more keys of each row may stand in wallet_aliases; they are not restored";
    assert!(of(&text, "wallet").contains(doubt), "{text}");
    assert_eq!(text.matches("they are not restored").count(), 1, "{text}");
    assert!(
        said.contains("warning: more keys of the rows of `spy_wallet_storage` may stand in `wallet_aliases`: see CHECK there"),
        "{said}"
    );
    let known = shop.validated("plain.yaml");
    let card = &known["resources"][0];
    assert_eq!(card["resource"], "card", "{known}");
    assert_eq!(
        card["key_columns"],
        serde_json::json!(["key", "alias_keys", "mapping_resource_key"])
    );

    let (json, _) = shop.said(&["init", "--source", "sqlite:shop.db", "--json"], 0);
    let json: Value = serde_json::from_str(&json).unwrap();
    let wallet = json["resources"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["resource"] == "wallet")
        .unwrap();
    assert_eq!(wallet["maybe_keys"], serde_json::json!(["wallet_aliases"]));
    assert_eq!(wallet["aliases"], Value::Null);
}

#[test]
fn ids_and_the_redis_database_are_the_same_with_a_preset_and_without() {
    let shop = Shop::new(TABLES);
    let (_, plain) = shop.init("plain.yaml", &[]);
    let (_, preset) = shop.init("preset.yaml", &["--preset", "spryker"]);
    let columns = |file: &str| -> Vec<(Value, Value)> {
        let known = shop.validated(file);
        let mut columns: Vec<_> = known["resources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| (one["table"].clone(), one["ids_column"].clone()))
            .collect();
        columns.sort_by_key(|(table, _)| table.to_string());
        columns
    };
    let found = columns("plain.yaml");
    assert_eq!(found, columns("preset.yaml"));
    let of_table = |table: &str| found.iter().find(|(one, _)| one == table).unwrap();
    assert_eq!(of_table("spy_cms_block_storage").1, "fk_cms_block");
    // The console compares the table's own ids, whatever foreign keys there are.
    assert_eq!(
        of_table("spy_navigation_storage").1,
        "id_navigation_storage"
    );
    assert!(
        of(&plain, "navigation")
            .contains("one of fk_navigation; without it, id_navigation_storage\n"),
        "{plain}"
    );
    let redis = |text: &str| {
        let line = text.lines().find(|line| line.contains("${REDIS_URL:-"));
        line.unwrap().to_owned()
    };
    assert_eq!(redis(&plain), redis(&preset));
    assert!(redis(&plain).contains(":6379/0}\"  # CHECK: "), "{plain}");
    // The preset writes them itself; the plan says so of tables that need more than a name.
    let card = of(&preset, "card");
    assert!(
        card.contains("      # aliases: alias_keys ") && !card.contains("      aliases:"),
        "{card}"
    );
}

#[test]
fn a_plan_is_named_after_its_file_and_its_folder_is_made() {
    let shop = Shop::new(TABLES);
    let (_, one) = shop.init("new/deep/two words.yaml", &[]);
    let (_, other) = shop.init("new/deep/other.yaml", &[]);
    assert!(one.contains("\nname: two_words "), "{one}");
    assert!(other.contains("\nname: other "), "{other}");
    assert!(one.starts_with("# yaml-language-server: $schema=schema.json\n"));
    let state = |file: &str| shop.validated(file)["state_file"].clone();
    assert_ne!(
        state("new/deep/two words.yaml"),
        state("new/deep/other.yaml")
    );
    let (printed, _) = shop.said(&["init", "--source", "sqlite:shop.db"], 0);
    assert!(printed.contains("\nname: shop "), "{printed}");

    fs::write(shop.path("file"), "").unwrap();
    let words = ["init", "--source", "sqlite:shop.db", "-o", "file/plan.yaml"];
    let (_, refused) = shop.said(&words, 3);
    for part in [
        "error: file/plan.yaml cannot be written",
        "cause: its folder file cannot be made",
        "safe:",
        "next:",
    ] {
        assert!(refused.contains(part), "{part}\n{refused}");
    }
    shop.said(&["man", "pages/man1"], 0);
    assert!(shop.path("pages/man1/rekindle-init.1").exists());
    let (_, refused) = shop.said(&["man", "file"], 2);
    assert!(refused.contains("next:"), "{refused}");
}

#[test]
fn what_a_plan_lacks_is_said_where_it_is_written() {
    let shop = Shop::new(TABLES);
    let preset =
        "are Spryker's own: with `--preset spryker` (and `--force`) the plan writes their keys";
    let (said, _) = shop.init("plain.yaml", &[]);
    assert!(said.contains(preset), "{said}");
    assert!(
        said.contains("\n  next:  export ") && said.contains("REDIS_URL"),
        "{said}"
    );
    assert!(
        said.contains(
            "(not set here, and the plan holds no password), then `rekindle validate plain.yaml`\n"
        ),
        "{said}"
    );
    let (said, _) = shop.init("preset.yaml", &["--preset", "spryker"]);
    assert!(!said.contains(preset), "{said}");
    // Tables of a shop of another kind.
    let shop = Shop::new(
        "CREATE TABLE own_storage (id INTEGER PRIMARY KEY NOT NULL, data TEXT, key TEXT);",
    );
    let (said, _) = shop.init("own.yaml", &[]);
    assert!(!said.contains("Spryker"), "{said}");
}

#[test]
fn stores_are_those_that_rows_of_search_tables_have() {
    let shop = Shop::new(
        "CREATE TABLE spy_own_search (id INTEGER PRIMARY KEY NOT NULL, store TEXT, data TEXT, key TEXT);
         INSERT INTO spy_own_search VALUES (1, 'DE', '{}', 'a'), (2, NULL, '{}', 'b'), (3, 'AT', '{}', 'c'),
           (4, 'no store''s name', '{}', 'd');",
    );
    let (_, text) = shop.init("own.yaml", &[]);
    assert!(text.contains("\nstores: [AT, DE] "), "{text}");
    assert!(
        text.contains("# CHECK: as rows have them; every store of the shop"),
        "{text}"
    );
    assert!(!text.contains("no store's name"), "{text}");
    shop.validated("own.yaml");
    let (json, _) = shop.said(&["init", "--source", "sqlite:shop.db", "--json"], 0);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["stores"], serde_json::json!(["AT", "DE"]));
    // No shop has so many: the column is about something else.
    let shop = Shop::new(
        "CREATE TABLE spy_own_search (id INTEGER PRIMARY KEY NOT NULL, store TEXT, data TEXT, key TEXT);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 51)
           INSERT INTO spy_own_search SELECT i, 'somebody' || i, '{}', i FROM n;",
    );
    let (_, text) = shop.init("own.yaml", &[]);
    assert!(text.contains("\nstores: [DE] "), "{text}");
    assert!(!text.contains("somebody"), "{text}");
}
