//! What only the servers of a plan can find wrong, as far as a SQLite file and a closed port show it. `tests/services/checks.rs`
//! has the rest.

use std::{fs, process::Command};

use rekindle::plan::Code;
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

/// Two tables that a plan may name, and one that it forgets.
const TABLES: &str = "
    CREATE TABLE url (id INTEGER PRIMARY KEY NOT NULL, fk INT, twin INT NOT NULL, key TEXT, data TEXT);
    CREATE UNIQUE INDEX one_twin ON url (twin);
    INSERT INTO url VALUES (1, 7, 1, 'url:1', '{}'), (2, 7, 2, 'url:2', '{}');
    CREATE TABLE entity (id INTEGER PRIMARY KEY NOT NULL, name TEXT);
    CREATE TABLE page_storage (id INTEGER PRIMARY KEY NOT NULL, key TEXT, data TEXT);";

/// What no server of the tests says of itself (the rule has a test beside it), and what only a dry run finds, whose test looks at
/// its numbers.
const TOLD_OTHERWISE: [Code; 2] = [Code::CoverageUnknown, Code::NoRoom];

struct Shop(TempDir);

impl Shop {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Connection::open(folder.path().join("shop.db")).unwrap();
        database.execute_batch(TABLES).unwrap();
        Self(folder)
    }

    /// Writes a plan with this `from`, and more keys of the resource and of the plan.
    fn plan(&self, from: &str, of_resource: &str, of_plan: &str) {
        self.write(&format!(
            "version: 1\nname: shop\nsource: {{ url: \"sqlite:shop.db\" }}\n{of_plan}\
             targets: {{ dump: {{ file: {{ path: out }} }} }}\nresources:\n  - name: url\n    \
             from: {{ {from} }}\n{of_resource}"
        ));
    }

    fn write(&self, plan: &str) {
        fs::write(self.0.path().join("shop.yaml"), plan).unwrap();
    }

    /// Returns exit code, stdout and stderr of the program with these words and the plan.
    fn rekindle(&self, words: &str) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_rekindle"))
            .args(words.split(' '))
            .arg("shop.yaml")
            .current_dir(self.0.path())
            .env_remove("RK_FAIL")
            .output()
            .unwrap();
        let text = |bytes| {
            let text = String::from_utf8(bytes).unwrap();
            let folder = self.0.path().canonicalize().unwrap();
            text.replace(folder.to_str().unwrap(), "[folder]")
        };
        let (out, err) = (text(output.stdout), text(output.stderr));
        (output.status.code().unwrap(), out, err)
    }

    /// Returns the codes of all problems and warnings that a command shows with `--json`, each with its line.
    fn codes(&self, command: &str) -> Vec<(String, Option<u64>)> {
        let (_, said, _) = self.rekindle(&format!("{command} --json"));
        let said: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
        let lists: Vec<&Value> = match command {
            "validate" => vec![&said["problems"], &said["warnings"]],
            "doctor" => vec![&said["findings"]],
            _ => vec![&said["problems"]],
        };
        let entries = lists.into_iter().flat_map(|list| list.as_array().unwrap());
        let mut codes: Vec<_> = entries
            .map(|one| one.get("problem").unwrap_or(one))
            .filter(|one| !one.is_null())
            .map(|one| {
                assert!(one["help"].is_string(), "{one}");
                let code = one["code"].as_str().unwrap().to_owned();
                (code, one["line"].as_u64())
            })
            .collect();
        codes.sort();
        codes
    }

    /// Asserts that the three commands that check a plan show `code` at this line of the plan, and how `validate` draws it.
    #[track_caller]
    fn shows(&self, code: Code, line: Option<u64>, exit: i32) {
        let name = code.text().replace("::", "-");
        let wanted = (code.text().to_owned(), line);
        let of_validate = self.codes("validate");
        assert!(of_validate.contains(&wanted), "{wanted:?}: {of_validate:?}");
        assert_eq!(self.codes("doctor"), of_validate, "doctor shows the same");
        assert_eq!(
            self.codes("run --dry-run"),
            of_validate,
            "as does a dry run"
        );
        let (found, said, drawn) = self.rekindle("validate");
        assert_eq!(found, exit, "{said}{drawn}");
        snapshot(&name, &format!("{said}{drawn}"));
        // A warning is let through unless somebody is strict, an error never.
        for command in ["validate --strict", "run --dry-run --strict"] {
            assert_eq!(self.rekindle(command).0, 3, "{command}");
        }
        assert_eq!(self.rekindle("run --dry-run").0, exit);
        assert_eq!(self.rekindle("validate --offline").0, 0);
        assert!(!self.0.path().join("state").exists(), "nothing is written");
    }
}

fn snapshot(name: &str, text: &str) {
    // Where a line breaks depends on the length of the folder's name.
    let text = text.replace("\n  | ", " ").replace("\n        ", " ");
    insta::with_settings!({
        snapshot_path => "checks",
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!(name, text);
    });
}

/// What is sound.
const FROM: &str = "table: url, cursor: [id], key: key, value: data";

#[test]
fn names_that_the_source_has_not_are_shown_with_the_nearest() {
    let shop = Shop::new();
    shop.plan("table: urll, cursor: [id], key: key, value: data", "", "");
    shop.shows(Code::MissingTable, Some(7), 3);
    shop.plan("table: url, cursor: [id], key: key, value: date", "", "");
    shop.shows(Code::MissingColumn, Some(7), 3);
    shop.plan(&format!("{FROM}, where: \"fk = = 7\""), "", "");
    shop.shows(Code::BadCondition, Some(7), 3);
}

#[test]
fn a_cursor_without_a_unique_index_is_shown_with_those_that_would_do() {
    let shop = Shop::new();
    shop.plan("table: url, cursor: [fk], key: key, value: data", "", "");
    shop.shows(Code::UnfitCursor, Some(7), 3);
}

#[test]
fn a_column_for_catching_up_that_no_index_begins_with_is_a_warning() {
    let shop = Shop::new();
    let catch_up = "    catch_up: { column: twin }\n";
    let ignored = "ignore_tables: [page_storage]\n";
    shop.plan(FROM, catch_up, ignored);
    assert_eq!(shop.codes("validate"), [], "it has an index");
    shop.plan(FROM, "    catch_up: { column: fk }\n", ignored);
    shop.shows(Code::SlowCatchUp, Some(9), 0);
}

#[test]
fn tables_that_nobody_named_or_that_are_not_there_are_warnings() {
    let shop = Shop::new();
    shop.plan(FROM, "", "");
    shop.shows(Code::UncoveredTable, None, 0);
    shop.plan(FROM, "", "ignore_tables: [page_storage, \"old_*\"]\n");
    shop.shows(Code::IgnoresNothing, Some(4), 0);
}

#[test]
fn a_publisher_needs_ids_and_a_program() {
    let shop = Shop::new();
    let fallback = |ids: &str| {
        format!(
            "    fallback:\n      trigger: url\n      ids: {{ {ids} }}\n      by: {{ console: {{}} }}\n"
        )
    };
    let from = format!("{FROM}, entity: fk");
    let ignored = "ignore_tables: [page_storage]\n";
    let console =
        |program: &str| format!("{ignored}console: {{ command: [{program}, console] }}\n");
    shop.plan(
        &from,
        &fallback("table: entity, column: nmae"),
        &console("sh"),
    );
    shop.shows(Code::PublisherIds, Some(12), 3);
    for (ids, help) in [
        (
            "table: entitty, column: id",
            "did you mean `entity`?; without the table, give the resource",
        ),
        ("table: entity, column: name", "`column: id` would do"),
    ] {
        shop.plan(&from, &fallback(ids), &console("sh"));
        let (_, said, _) = shop.rekindle("validate --json");
        assert!(said.contains(help), "{said}");
    }
    let program = console("rk-no-such-program");
    shop.plan(&from, &fallback("table: entity, column: id"), &program);
    shop.shows(Code::PublisherProgram, Some(5), 3);
    // Of a resource that the scope leaves out nothing is asked.
    let other =
        "  - { name: page, from: { table: page_storage, cursor: [id], key: key, value: data } }\n";
    let both = fallback("table: entity, column: nmae") + other;
    shop.plan(&from, &both, &program);
    assert_eq!(shop.rekindle("run --dry-run").0, 3);
    assert_eq!(shop.rekindle("run --dry-run --only page").0, 0);
}

#[test]
fn a_source_that_is_not_there_or_no_database_is_shown_where_it_is_named() {
    let shop = Shop::new();
    shop.plan(FROM, "", "");
    fs::rename(shop.0.path().join("shop.db"), shop.0.path().join("gone.db")).unwrap();
    shop.shows(Code::SourceUnreachable, Some(3), 3);
    fs::write(shop.0.path().join("shop.db"), "no database ".repeat(1000)).unwrap();
    shop.shows(Code::SourceRefused, Some(3), 3);
}

#[test]
fn a_target_that_does_not_answer_is_shown_where_it_is_named() {
    let shop = Shop::new();
    // Port 1 is the kernel's to refuse.
    shop.write(
        "version: 1\nname: shop\nsource: { url: \"sqlite:shop.db\" }\nignore_tables: [page_storage]\ntargets:\n  \
         cache: { redis: { url: \"redis://:geheim@127.0.0.1:1/0\" } }\nresources:\n  - name: url\n    \
         from: { table: url, cursor: [id], key: key, value: data }\n",
    );
    shop.shows(Code::TargetUnreachable, Some(6), 3);
    let (_, said, drawn) = shop.rekindle("validate");
    assert!(!said.contains("geheim") && !drawn.contains("geheim"));
}

#[test]
fn a_default_that_stands_for_an_unset_variable_is_named_where_it_may_be_why() {
    let shop = Shop::new();
    let help = || {
        let (_, said, _) = shop.rekindle("validate --json");
        let said: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
        said["problems"][0]["help"].as_str().unwrap().to_owned()
    };
    let plan = |source: &str, target: &str| {
        shop.write(&format!(
            "version: 1\nname: shop\nsource: {{ url: \"{source}\" }}\nignore_tables: [page_storage]\ntargets:\n  \
             cache: {{ {target} }}\nresources:\n  - name: url\n    from: {{ {FROM} }}\n"
        ));
    };
    let file = "file: { path: out }";
    plan("${OF_NOBODY:-sqlite:gone.db}", file);
    assert_eq!(
        help(),
        "`OF_NOBODY` is unset or empty, so the plan's default was used; check host, path and database in the URL"
    );
    plan("sqlite:gone.db", file);
    assert_eq!(help(), "check host, path and database in the URL");
    let redis = "redis: { url: \"redis://${NO_HOST:-127.0.0.1}:${NO_PORT:-1}/0\" }";
    plan("sqlite:shop.db", redis);
    let said = help();
    assert!(
        said.starts_with(
            "`NO_HOST`, `NO_PORT` are unset or empty, so the plan's defaults were used; "
        ),
        "{said}"
    );
}

/// The run of this plan sends nothing through queues, so it is none the worse for it.
#[test]
fn a_broker_that_does_not_answer_is_a_warning_where_rows_go_directly() {
    let shop = Shop::new();
    shop.plan(
        "table: url, cursor: [id], key: key, value: data",
        "    queue: sync.storage.url\n",
        "ignore_tables: [page_storage]\nbroker: { url: \"amqp://app:geheim@127.0.0.1:1/shop\", management: \"http://app:geheim@127.0.0.1:1\" }\n",
    );
    shop.shows(Code::QueuesUnknown, Some(5), 0);
    let (code, said, drawn) = shop.rekindle("run");
    assert_eq!(code, 0, "{said}{drawn}");
    assert!(!said.contains("geheim") && !drawn.contains("geheim"));
}

#[test]
fn a_store_that_rows_have_and_the_plan_forgot_is_named_before_and_after() {
    let shop = Shop::new();
    let database = Connection::open(shop.0.path().join("shop.db")).unwrap();
    database
        .execute_batch(
            "CREATE TABLE page (id INTEGER PRIMARY KEY NOT NULL, store TEXT, key TEXT, data TEXT);
             INSERT INTO page VALUES (1, 'DE', 'p:1', '{}'), (2, 'AT', 'p:2', '{}'), (3, NULL, 'p:3', '{}'),
               (4, 'AT', 'p:4', '{}'), (5, 'geheim@shop.test', 'p:5', '');",
        )
        .unwrap();
    let plan = |stores: &str| {
        shop.write(&format!(
            "version: 1\nname: shop\nsource: {{ url: \"sqlite:shop.db\" }}\nstores: {stores}\n\
             ignore_tables: [url, page_storage]\ndefaults: {{ dead_letters: {{ max: 1, percent: 100 }} }}\ntargets:\n  \
             dump: {{ file: {{ path: out, format: ndjson, index: \"shop_{{store}}\" }} }}\nresources:\n  - name: page\n    \
             from: {{ table: page, cursor: [id], key: key, value: data, store: store }}\n"
        ));
    };
    plan("[DE]");
    shop.shows(Code::OtherStore, Some(4), 0);
    let (code, _, said) = shop.rekindle("run");
    let said = said.replace("\n        ", " ");
    assert_eq!(code, 5, "{said}");
    assert!(
        said.contains("most often: its store `AT` is none of the plan's `stores`"),
        "{said}"
    );
    let next = said.split("next:").last().unwrap();
    assert!(
        next.contains("add the missing store to `stores` of the plan")
            && next.contains("`rekindle run --accept-plan-change shop.yaml`")
            && !next.contains("dead_letters"),
        "{next}"
    );
    assert!(!said.contains("geheim"), "{said}");
    // What it says is what helps: all but the row of no store at all.
    plan("[DE, AT]");
    let (code, _, said) = shop.rekindle("run --accept-plan-change");
    assert_eq!(code, 4, "{said}");
    assert!(
        said.contains("done, but 1 row could not be restored"),
        "{said}"
    );
}

#[test]
fn every_code_that_servers_show_has_a_picture() {
    let folders = ["tests/hermetic/checks", "tests/services/checks"];
    let pictures: String = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap())
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    for code in Code::ALL.into_iter().filter(|code| code.is_connected()) {
        assert!(
            pictures.contains(code.text()) || TOLD_OTHERWISE.contains(&code),
            "no test draws {code}"
        );
    }
}
