//! What commands say of what will be written and of what is not there: columns of keys, tables that nobody wants, ids without
//! a row, runs, kinds of dead letters.

use std::{
    fs,
    process::{Command, Output},
};

use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

struct Shop {
    folder: TempDir,
}

impl Shop {
    /// Makes a shop whose `url` has two rows for each of the entities 7 and 8, one of them broken, and a table without further
    /// keys.
    fn new() -> Self {
        let shop = Self::of(
                "CREATE TABLE url (id INTEGER PRIMARY KEY NOT NULL, fk_url INT, data TEXT, alias_keys TEXT, key TEXT);
                 INSERT INTO url VALUES (1, 7, '{}', '{\"u:one\":{}}', 'u:1'), (2, 7, '{}', NULL, 'u:2'),
                   (3, 8, '{}', NULL, 'u:3'), (4, 8, NULL, NULL, 'u:4');
                 CREATE TABLE page (id INTEGER PRIMARY KEY NOT NULL, data TEXT, key TEXT);
                 INSERT INTO page VALUES (7, '{}', 'p:7')",
        );
        shop.plan("url");
        shop
    }

    fn of(sql: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Connection::open(folder.path().join("shop.db")).unwrap();
        database.execute_batch(sql).unwrap();
        Self { folder }
    }

    /// Writes a plan under the preset, with tables of the shop's own.
    fn plan(&self, table: &str) {
        fs::write(
            self.folder.path().join("p.yaml"),
            format!(
                "version: 1\nname: shop\npreset: spryker\nsource: {{ url: \"sqlite:shop.db\" }}\n\
                 targets: {{ dump: {{ file: {{ path: out }} }} }}\nresources:\n  \
                 - {{ name: own_url, fallback: {{ to: none }}, from: {{ table: {table}, cursor: [id], key: key, value: data, entity: fk_url }} }}\n  \
                 - {{ name: own_page, fallback: {{ to: none }}, from: {{ table: page, cursor: [id], key: key, value: data }} }}\n"
            ),
        )
        .unwrap();
    }

    fn rekindle(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_rekindle"))
            .current_dir(self.folder.path())
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
}

#[test]
fn ids_without_a_row_are_told_and_change_no_exit_code() {
    let shop = Shop::new();
    let ids = |ids, code| shop.said(&["run", "p.yaml", "--no-progress", "--ids", ids], code);
    let (_, said) = ids("7,5000,5001", 0);
    let lines: Vec<_> = said.lines().collect();
    let at = |line: &str| {
        let found = lines.iter().position(|one| *one == line);
        found.unwrap_or_else(|| panic!("{line}\n{said}"))
    };
    let own = at("own_url: 2 of 3 ids had no row: 5000, 5001");
    at("own_page: 2 of 3 ids had no row: 5000, 5001");
    let ended = lines.iter().position(|line| line.contains(" is done: "));
    assert!(Some(own) < ended, "{said}");
    // Where each has one, there is nothing to tell; a broken row is a row.
    let (_, said) = ids("8", 4);
    assert!(!said.contains("own_url: 1 of"), "{said}");
    assert!(said.contains("own_page: 1 of 1 id had no row: 8"), "{said}");

    let words = [
        "run", "p.yaml", "--json", "--only", "own_url", "--ids", "9,07",
    ];
    let (said, _) = shop.said(&words, 0);
    let events: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told = events.iter().find(|one| one["event"] == "ids_asked");
    assert_eq!(
        told.unwrap(),
        &json!({ "event": "ids_asked", "resource": "own_url", "asked": 2, "without_row": 1, "ids": ["9"] })
    );
    // Nobody asked for ids.
    let (said, _) = shop.said(&["run", "p.yaml", "--json"], 4);
    assert!(!said.contains("ids_asked"), "{said}");

    let dry = ["run", "p.yaml", "--dry-run", "--ids", "7,5000"];
    let (said, _) = shop.said(&dry, 0);
    assert!(
        said.contains("ids of `own_url` are of column `url.fk_url`; 1 of 2 ids had no row: 5000\n"),
        "{said}"
    );
    let (said, _) = shop.said(&[&dry[..], &["--json"]].concat(), 0);
    let said: Value = serde_json::from_str(&said).unwrap();
    let asked = |at: usize, key: &str| said["resources"][at][key].clone();
    assert_eq!(asked(0, "ids_asked"), 2);
    assert_eq!(asked(0, "ids_without_row"), 1);
}

#[test]
fn every_kind_of_key_that_will_be_written_is_shown() {
    let shop = Shop::new();
    for words in [&["validate", "p.yaml"][..], &["run", "p.yaml", "--dry-run"]] {
        let (said, _) = shop.said(words, 0);
        let cells = |name: &str| {
            let line = said.lines().find(|line| line.contains(name)).unwrap();
            line.to_owned()
        };
        assert!(cells("resource ").contains("keys from"), "{said}");
        assert!(cells("own_url ").contains("key, alias_keys"), "{said}");
        // The preset looks for the columns, and this table has none of them.
        assert!(!cells("own_page ").contains("alias_keys"), "{said}");
        let (said, _) = shop.said(&[words, &["--json"]].concat(), 0);
        let said: Value = serde_json::from_str(&said).unwrap();
        let columns = |at: usize| said["resources"][at]["key_columns"].clone();
        assert_eq!(columns(0), json!(["key", "alias_keys"]));
        assert_eq!(columns(1), json!(["key"]));
    }
    let (said, _) = shop.said(&["validate", "p.yaml", "--offline"], 0);
    assert!(
        said.contains("key, alias_keys?, mapping_resource_key?")
            && said.contains(
                "\n  `?`: where the table has this column, which only the source knows\n"
            ),
        "{said}"
    );
    let shown =
        "  resources.own_url.from: { aliases: alias_keys, mapping_key: mapping_resource_key }\n";
    assert!(said.contains(shown), "{said}");
    let (said, _) = shop.said(&["validate", "p.yaml", "--offline", "--json"], 0);
    let said: Value = serde_json::from_str(&said).unwrap();
    let page = &said["resources"][1];
    assert_eq!(page["key_columns"], json!(["key"]));
    assert_eq!(
        page["key_columns_if_there"],
        json!(["alias_keys", "mapping_resource_key"])
    );
}

#[test]
fn defaults_are_listed_only_of_a_plan_that_is_valid() {
    let shop = Shop::new();
    let (said, _) = shop.said(&["validate", "p.yaml"], 0);
    assert!(said.contains("defaults used:"), "{said}");
    shop.plan("nowhere");
    let (said, refused) = shop.said(&["validate", "p.yaml"], 3);
    assert!(!said.contains("defaults used:"), "{said}");
    assert!(said.lines().count() < 8, "{said}");
    assert!(refused.contains("has no table `nowhere`"), "{refused}");
}

#[test]
fn names_that_nothing_has_are_repeated_as_typed_with_those_there_are() {
    let shop = Shop::new();
    shop.said(&["run", "p.yaml"], 4);
    let (_, refused) = shop.said(&["show", "bad-Id", "p.yaml"], 2);
    assert!(refused.contains("there is no run bad-Id\n"), "{refused}");
    let (_, refused) = shop.said(&["dead-letters", "list", "p.yaml", "--run", "nOpe"], 2);
    assert!(refused.contains("there is no run nOpe\n"), "{refused}");
    for command in ["list", "show", "retry", "drop"] {
        let (_, refused) = shop.said(&["dead-letters", command, "p.yaml", "--kind", "nope"], 2);
        for part in [
            "error: `--kind nope` names no kind of dead letter",
            "safe:",
            "next:  use one of: row_broken, row_too_large, refused; ",
        ] {
            assert!(refused.contains(part), "{command}: {part}\n{refused}");
        }
    }
    let near = ["dead-letters", "show", "p.yaml", "--kind", "row-broken"];
    let (_, refused) = shop.said(&near, 2);
    assert!(refused.contains("did you mean `row_broken`?"), "{refused}");
    let (said, _) = shop.said(
        &["dead-letters", "show", "p.yaml", "--kind", "row_broken"],
        0,
    );
    assert!(said.contains("u:4"), "{said}");
    // A kind that no row has is no mistake.
    let (said, _) = shop.said(&["dead-letters", "show", "p.yaml", "--kind", "refused"], 0);
    assert_eq!(said, "no dead letters\n");
}

/// A plan that covers one of four read models.
fn partial(ignored: &str) -> String {
    format!(
        "version: 1\nname: shop\n{ignored}source: {{ url: \"sqlite:shop.db\" }}\ntargets: {{ dump: {{ file: {{ path: out }} }} }}\n\
         resources:\n  - {{ name: url, from: {{ table: url, cursor: [id], key: key, value: data }} }}\n"
    )
}

#[test]
fn tables_that_the_plan_ignores_are_acknowledged_and_shown() {
    let tables = ["url", "old_storage", "old_search", "new_storage"].map(|table| {
        format!("CREATE TABLE {table} (id INTEGER PRIMARY KEY NOT NULL, data TEXT, key TEXT);")
    });
    let shop = Shop::of(&(tables.concat() + "INSERT INTO url VALUES (1, '{}', 'url:1')"));
    let plan =
        |ignored: &str| fs::write(shop.folder.path().join("p.yaml"), partial(ignored)).unwrap();
    let strict = ["validate", "p.yaml", "--strict"];

    plan("");
    let (_, refused) = shop.said(&strict, 3);
    assert!(
        refused.contains("or name it in `ignore_tables`"),
        "{refused}"
    );

    plan("ignore_tables: [\"old_*\"]\n");
    let (_, refused) = shop.said(&strict, 3);
    assert!(
        refused.contains("`new_storage`") && !refused.contains("old_"),
        "{refused}"
    );

    plan("ignore_tables: [new_storage, \"old_*\"]\n");
    shop.said(&["run", "p.yaml", "--dry-run", "--strict"], 0);
    let (said, _) = shop.said(&strict, 0);
    let line = "  ignored by the plan: `new_storage` (about 0 rows), `old_search` (about 0 rows), `old_storage` (about 0 rows)";
    assert!(said.lines().any(|one| one == line), "{said}");
    for words in [
        &["validate", "p.yaml", "--json"][..],
        &["run", "p.yaml", "--dry-run", "--json"],
    ] {
        let (said, _) = shop.said(words, 0);
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["uncovered"], serde_json::json!([]));
        let tables: Vec<_> = said["ignored"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["table"].as_str().unwrap())
            .collect();
        assert_eq!(tables, ["new_storage", "old_search", "old_storage"]);
    }
    let (doctor, _) = shop.said(&["doctor", "p.yaml"], 0);
    assert!(
        doctor.contains("ignored by the plan: `new_storage`"),
        "{doctor}"
    );

    // One that means nothing is a warning, and what a resource covers is not ignored.
    plan("ignore_tables: [new_storage, \"old_*\", \"gone_*\", url]\n");
    let (said, refused) = shop.said(&strict, 3);
    let why =
        "`ignore_tables` names `gone_*`, and no table that looks like a read model is called so";
    assert!(refused.contains(why), "{refused}");
    assert!(said.lines().any(|one| one == line), "{said}");
}

#[test]
fn a_plan_stands_for_its_latest_run_and_the_only_one_need_not_be_named() {
    let shop = Shop::new();
    let (said, _) = shop.said(&["history"], 0);
    assert_eq!(said, "no run yet\n");
    let (said, _) = shop.said(&["show", "p.yaml"], 0);
    assert_eq!(said, "no run yet\n");
    shop.said(&["run", "p.yaml"], 4);
    shop.said(&["run", "p.yaml", "--only", "own_page"], 0);
    let (said, _) = shop.said(&["status", "--json"], 0);
    let latest: Value = serde_json::from_str(&said).unwrap();
    let (said, _) = shop.said(&["show", "p.yaml"], 0);
    let id = latest["run"].as_str().unwrap();
    assert!(
        said.starts_with(&format!("run {id} is done: 1 row, ")),
        "{said}"
    );
    let (said, _) = shop.said(&["history"], 0);
    assert_eq!(said.lines().count(), 3, "{said}");
    // A name that is no file is an id.
    shop.said(&["show", "q.yaml"], 2);
}

#[test]
fn a_dry_run_accepts_a_changed_plan_as_a_run_does_and_minds_no_resource_that_is_left_out() {
    let shop = Shop::new();
    let died = Command::new(env!("CARGO_BIN_EXE_rekindle"))
        .current_dir(shop.folder.path())
        .args(["run", "p.yaml", "--skip", "own_page", "--single-process"])
        .env("RK_FAIL", "after_commit:1:kill")
        .output()
        .unwrap();
    assert!(!died.status.success(), "{died:?}");
    let path = shop.folder.path().join("p.yaml");
    let plan = fs::read_to_string(&path).unwrap();
    let scoped = ["run", "p.yaml", "--skip", "own_page", "--dry-run"];
    shop.said(&scoped, 0);
    // Of what is left out nothing is restored, so it may change.
    fs::write(
        &path,
        plan.replace("table: page,", "table: page, where: \"id > 0\","),
    )
    .unwrap();
    shop.said(&scoped, 0);
    fs::write(
        &path,
        plan.replace("entity: fk_url", "entity: fk_url, where: \"id > 0\""),
    )
    .unwrap();
    let (_, refused) = shop.said(&scoped, 3);
    assert!(refused.contains("`own_url`: from.where was"), "{refused}");
    let (said, _) = shop.said(&[&scoped[..], &["--accept-plan-change"]].concat(), 0);
    assert!(
        said.contains("accepted plan change: `own_url`: from.where was"),
        "{said}"
    );
    assert!(said.contains("restored from its first row"), "{said}");
    assert!(!said.contains("goes on after"), "{said}");
    shop.said(&[&scoped[..4], &["--accept-plan-change"]].concat(), 4);
}

#[test]
fn every_wrong_name_is_told_and_a_table_is_told_its_resource() {
    let shop = Shop::new();
    let wrong = |only, code| shop.said(&["run", "p.yaml", "--only", only], code).1;
    let said = wrong("page,own_ulr", 2);
    for text in [
        "error: `--only page,own_ulr` names no resource of plan `shop`\n",
        "  cause: `page` is a table: its resource is `own_page`\n",
        "  cause: `own_ulr`: did you mean `own_url`?\n",
    ] {
        assert!(said.contains(text), "{text}: {said}");
    }
    let said = wrong("own_url,own_pgae", 2);
    assert!(
        said.contains("`--only own_pgae` names") && said.contains("did you mean `own_page`?"),
        "{said}"
    );
}

#[test]
fn every_column_that_a_table_lacks_is_told_at_once() {
    let shop = Shop::new();
    fs::write(
        shop.folder.path().join("q.yaml"),
        "version: 1\nname: q\nsource: { url: \"sqlite:shop.db\" }\ntargets: { dump: { file: { path: out } } }\n\
         ignore_tables: [url]\nresources:\n  \
         - { name: page, from: { table: page, cursor: [id], key: kee, value: dataa, entity: kee } }\n",
    )
    .unwrap();
    let (said, _) = shop.said(&["validate", "q.yaml", "--json"], 3);
    let said: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    let mut told: Vec<_> = said["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            assert_eq!(one["code"], "source::missing-column", "{one}");
            let message = one["message"].as_str().unwrap();
            let (_, name) = message.split_once("no column `").unwrap();
            (
                name.split('`').next().unwrap(),
                one["help"].as_str().unwrap(),
            )
        })
        .collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            ("dataa", "did you mean `data`?"),
            ("kee", "did you mean `key`?")
        ]
    );
}

#[test]
fn a_plan_that_is_told_its_problems_is_told_all_its_warnings() {
    let shop = Shop::new();
    let path = shop.folder.path().join("p.yaml");
    let plan = fs::read_to_string(&path).unwrap();
    // Nobody is known to build its rows again, and its table is none.
    let plan = plan
        .replace("own_page, fallback: { to: none }", "own_page")
        .replace("table: page", "table: pag");
    fs::write(&path, plan).unwrap();
    let (_, said) = shop.said(&["validate", "p.yaml"], 3);
    let (json, _) = shop.said(&["validate", "p.yaml", "--json"], 3);
    let json: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    let count = |of: &str| json[of].as_array().unwrap().len();
    let warnings = match count("warnings") {
        1 => "1 warning".to_owned(),
        several => format!("{several} warnings"),
    };
    assert!(
        said.contains(&format!(
            "has {} problem and {warnings}\n",
            count("problems")
        )),
        "{said}{json}"
    );
}

#[test]
fn what_is_missing_or_wrong_on_a_command_line_is_told_with_what_would_do() {
    let shop = Shop::new();
    let (_, said) = shop.said(&["init"], 2);
    assert!(
        said.contains("rekindle init --source '${DATABASE_URL}' -o plans/shop.yaml"),
        "{said}"
    );
    let (_, said) = shop.said(&["verify", "p.yaml", "--repair", "--dry-run"], 2);
    assert!(
        said.contains("error: `verify` has no `--dry-run`\n")
            && said.contains(
                "`rekindle verify p.yaml` without `--repair` and `--prune` writes nothing"
            ),
        "{said}"
    );
    let next = |of: &str| {
        let (_, said) = shop.said(&["run", of], 3);
        assert!(
            said.contains("error: there is no plan plans/none.yaml\n"),
            "{said}"
        );
        let (_, next) = said.split_once("  next:  ").unwrap();
        next.to_owned()
    };
    let init = "`rekindle init --source '${DATABASE_URL}' -o plans/none.yaml` writes one\n";
    assert_eq!(next("plans/none.yaml"), init);
    fs::create_dir(shop.folder.path().join("plans")).unwrap();
    fs::copy(
        shop.folder.path().join("p.yaml"),
        shop.folder.path().join("plans/shop.yaml"),
    )
    .unwrap();
    assert_eq!(
        next("plans/none.yaml"),
        format!("the plans here are plans/shop.yaml; {init}")
    );
}

#[test]
fn resources_that_are_misspelled_are_all_that_is_told() {
    let shop = Shop::new();
    let path = shop.folder.path().join("p.yaml");
    let plan = fs::read_to_string(&path).unwrap();
    let plan = plan.replace("\nresources:", "\nstores: [DE]\nresource:");
    fs::write(&path, plan).unwrap();
    let (said, _) = shop.said(&["validate", "p.yaml", "--offline", "--json"], 3);
    assert!(said.contains("unknown key `resource`"), "{said}");
    assert!(!said.contains("`stores` is used by nothing"), "{said}");
}

#[test]
fn a_dry_run_says_where_no_row_of_a_sample_can_be_restored() {
    let shop = Shop::of(
        "CREATE TABLE page (id INTEGER PRIMARY KEY NOT NULL, data TEXT, key TEXT);
         INSERT INTO page VALUES (1, NULL, 'p:1'), (2, NULL, 'p:2')",
    );
    fs::write(
        shop.folder.path().join("q.yaml"),
        "version: 1\nname: q\nsource: { url: \"sqlite:shop.db\" }\ntargets: { dump: { file: { path: out } } }\nresources:\n  \
         - { name: page, from: { table: page, cursor: [id], key: key, value: data } }\n",
    )
    .unwrap();
    let (said, _) = shop.said(&["run", "q.yaml", "--dry-run"], 0);
    assert!(
        said.contains("`page`: none of the 2 rows that were looked at can be restored"),
        "{said}"
    );
    let line = said
        .lines()
        .find(|line| line.starts_with("1  page "))
        .unwrap();
    assert!(line.contains("unknown"), "{said}");
}
