//! Broken rows and their publisher, SQLite to files, through the program itself.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::shop::{ANEW, ROWS, Shop, said, sql};

#[test]
fn rows_that_a_publisher_gives_new_primary_keys_are_restored_with_all_of_their_entity() {
    let shop = Shop::new();
    // What else the publisher writes anew although it was not broken.
    shop.execute("UPDATE truth SET data = '{\"now\":77}' WHERE e = 77 AND locale = 'en'");
    shop.plan(Some(&sql(ANEW)));
    let said = shop.rekindle("run shop.yaml", 0);
    assert!(said.contains("3 of its rows are broken"), "{said}");
    shop.assert_dumped();
    shop.assert_no_dead_letters();
    let database = rusqlite::Connection::open(shop.path("shop.sqlite")).unwrap();
    let moved: i64 = database
        .query_row("SELECT COUNT(*) FROM t WHERE id > 600", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(moved, 6, "both rows of three entities have new keys");
}

#[test]
fn what_is_still_broken_under_its_new_primary_key_is_the_dead_letter_and_the_old_one_is_none() {
    let shop = Shop::new();
    shop.execute("UPDATE truth SET data = NULL WHERE e = 77 AND locale = 'de'");
    shop.plan(Some(&sql(ANEW)));
    shop.rekindle("run shop.yaml", 4);
    shop.assert_dumped();
    let letters = shop.rekindle("dead-letters show shop.yaml --json", 0);
    let letter: serde_json::Value = serde_json::from_str(letters.trim()).unwrap();
    assert_eq!(
        (&letter["entity"], &letter["key"]),
        (&"77".into(), &"t:de:77".into())
    );
    let cursor: i64 = letter["cursor"].as_str().unwrap().parse().unwrap();
    assert!(cursor > ROWS, "{letter}");
    // The retry calls the publisher once more, which moves the row again.
    shop.rekindle("dead-letters retry shop.yaml", 4);
    shop.execute("UPDATE truth SET data = '{}' WHERE e = 77 AND locale = 'de'");
    shop.rekindle("dead-letters retry shop.yaml", 0);
    shop.assert_dumped();
    shop.assert_no_dead_letters();
}

#[test]
#[cfg(feature = "failpoints")]
fn a_new_run_whose_process_dies_goes_on_and_does_not_begin_again() {
    let shop = Shop::new();
    shop.plan(None);
    let ended = shop
        .command("run --new shop.yaml")
        .env("RK_FAIL", "after_commit:8:kill")
        .output()
        .unwrap();
    let said = said(&ended);
    assert_eq!(ended.status.code(), Some(4), "{said}");
    assert!(
        said.contains("goes on (attempt 2) after 400 rows"),
        "{said}"
    );
    let history = shop.rekindle("history shop.yaml --json", 0);
    assert_eq!(history.matches("\"run\":").count(), 1, "{history}");
    shop.assert_dumped();
}

#[test]
#[cfg(feature = "failpoints")]
fn killed_after_the_rows_moved_the_next_run_finds_them_by_their_entities() {
    for point in [
        "after_call:1:kill",
        "after_acknowledged:1:kill",
        "before_bound:1:kill",
        "after_commit:13:kill",
    ] {
        let shop = Shop::new();
        shop.plan(Some(&sql(ANEW)));
        let killed = shop
            .command("run shop.yaml --single-process")
            .env("RK_FAIL", point)
            .output()
            .unwrap();
        assert_eq!(killed.status.code(), None, "{point}: {}", said(&killed));
        shop.rekindle("run shop.yaml", 0);
        shop.assert_dumped();
        shop.assert_no_dead_letters();
    }
}

#[test]
fn a_retry_finds_rows_that_somebody_replaced_and_settles_their_dead_letters() {
    let shop = Shop::new();
    // Two broken rows of one entity.
    shop.execute("UPDATE t SET data = NULL WHERE e = 5");
    shop.plan(None);
    shop.rekindle("run shop.yaml", 4);
    let anew = ANEW.replace("{ids}", "5, 200");
    shop.execute(&anew);
    // Named by one of its keys; the other row of the entity comes with it.
    let one = shop.rekindle("dead-letters retry shop.yaml --key-prefix t:de:5", 0);
    assert!(one.contains("2 dead letters retried: 2 restored"), "{one}");
    let two = shop.rekindle("dead-letters retry shop.yaml", 4);
    assert!(
        two.contains("2 dead letters retried: 1 restored or gone from the source, 1 left"),
        "{two}"
    );
    shop.assert_dumped();
    shop.execute("DELETE FROM t WHERE e = 77");
    shop.rekindle("dead-letters retry shop.yaml", 0);
    shop.assert_no_dead_letters();
}

#[test]
fn a_statement_killed_half_way_in_the_source_is_taken_back_by_the_next_run_alone() {
    let shop = Shop::new();
    let (file, journal) = (shop.path("shop.sqlite"), shop.path("shop.sqlite-journal"));
    // What a killed process leaves: a half-done change in the file, and the journal that takes it back.
    let kept = tempfile::tempdir().unwrap();
    let writer = rusqlite::Connection::open(&file).unwrap();
    writer
        .execute_batch(
            "PRAGMA cache_size = 2; BEGIN IMMEDIATE; UPDATE t SET data = hex(randomblob(2000))",
        )
        .unwrap();
    fs::copy(&file, kept.path().join("file")).unwrap();
    fs::copy(&journal, kept.path().join("journal")).unwrap();
    writer.execute_batch("ROLLBACK").unwrap();
    drop(writer);
    let spoil = || {
        fs::copy(kept.path().join("file"), &file).unwrap();
        fs::copy(kept.path().join("journal"), &journal).unwrap();
    };

    spoil();
    shop.plan(None);
    for command in ["run", "validate"] {
        let said = shop.rekindle(&format!("{command} shop.yaml"), 3);
        assert!(
            said.contains("half-done change of a program that died")
                && said.contains("open it once with a program that may write"),
            "{said}"
        );
    }
    assert!(
        journal.exists(),
        "a file that no statement of the plan writes to is left alone"
    );

    shop.plan(Some(&sql(ANEW)));
    shop.rekindle("validate shop.yaml", 3);
    let said = shop.rekindle("run shop.yaml", 0);
    assert!(said.contains("what it had done was taken back"), "{said}");
    assert!(!journal.exists());
    shop.assert_dumped();
    let again = shop.rekindle("run shop.yaml", 0);
    assert!(!again.contains("taken back"), "{again}");
}

#[test]
fn validate_names_ids_that_are_not_there_and_a_console_that_cannot_be_started() {
    let shop = Shop::new();
    let console = |program: &str| format!("console: {{ command: [{program}, exec, console] }}\n");
    let no_column = "ids: { table: entity, column: nid }";
    shop.plan_with(
        Some("{ console: {} }"),
        no_column,
        &console("rk-no-such-program"),
    );
    let said = shop.rekindle("validate shop.yaml", 3);
    assert!(
        said.contains("`t`: the entity ids of its fallback: ")
            && said.contains("has no column `nid`"),
        "{said}"
    );
    assert!(
        said.contains("`rk-no-such-program` cannot be started: no folder of `PATH` has it"),
        "{said}"
    );
    // Whoever checks a plan elsewhere may not have it.
    shop.rekindle("validate --offline shop.yaml", 0);

    let ids = "ids: { table: entity, column: id }";
    fs::write(shop.path("console"), "#!/bin/sh\n").unwrap();
    shop.plan_with(Some("{ console: {} }"), ids, &console("./console"));
    let said = shop.rekindle("validate shop.yaml", 3);
    assert!(
        said.contains("`./console` cannot be started: this user may not execute it"),
        "{said}"
    );
    fs::set_permissions(shop.path("console"), fs::Permissions::from_mode(0o755)).unwrap();
    shop.rekindle("validate shop.yaml", 0);
    shop.plan_with(Some("{ console: {} }"), ids, &console("sh"));
    shop.rekindle("validate shop.yaml", 0);
}

#[test]
fn a_trigger_takes_what_can_be_an_id_of_the_table_and_nothing_else() {
    let shop = Shop::new();
    let touched = "UPDATE t SET data = 'touched' WHERE e IN ({ids})";
    shop.plan(Some(&sql(touched)));
    for wrong in ["x", "1,x", "1.5", "0x10", "'1'"] {
        let said = shop.rekindle(&format!("trigger shop.yaml -r t -i {wrong}"), 2);
        assert!(
            said.contains("of `-i` is not a number that column `id` can hold"),
            "{said}"
        );
        assert!(said.contains("nothing was called"), "{said}");
    }
    let count = || -> i64 {
        let database = rusqlite::Connection::open(shop.path("shop.sqlite")).unwrap();
        let sql = "SELECT COUNT(*) FROM t WHERE data = 'touched'";
        database.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count(), 0);
    shop.rekindle("trigger shop.yaml -r t -i 1,2", 0);
    assert_eq!(count(), 4);
    // Ids need not be numbers where the column holds none.
    shop.execute("CREATE TABLE named (sku TEXT NOT NULL PRIMARY KEY); ALTER TABLE t ADD COLUMN sku TEXT; UPDATE t SET sku = 's-' || e");
    let by_sku = sql("UPDATE t SET data = 'touched' WHERE sku IN ({ids})");
    shop.plan_with(Some(&by_sku), "ids: { table: named, column: sku }", "");
    shop.rekindle("trigger shop.yaml -r t -i s-3", 0);
    assert_eq!(count(), 6);
}

#[test]
fn a_console_that_fails_for_no_known_reason_is_tried_a_few_times_and_blocks_with_what_it_said() {
    let shop = Shop::new();
    let script = "#!/bin/sh\nexec >&2\necho \"$5\" >> calls\necho 'Could not build product 17' >&2\necho \"row 'geheim'\"\n\
                  printf '\\n  [Exception]\\n  No builder for product 17, token geheim\\n\\npublish:trigger-events [-r] [-i]\\n'\nexit 1\n";
    fs::write(shop.path("console"), script).unwrap();
    fs::set_permissions(shop.path("console"), fs::Permissions::from_mode(0o755)).unwrap();
    let ids = "ids: { table: entity, column: id }";
    shop.plan_with(
        Some("{ console: {} }"),
        ids,
        "console: { command: [./console] }\n",
    );
    let said = shop.rekindle("run shop.yaml", 5);
    let why = "ended with exit code 1; its last line: No builder for product 17, token *** (its output is in ";
    // While it is tried, and when it is given up.
    let lines: Vec<&str> = said.lines().filter(|line| line.contains(why)).collect();
    assert!(
        lines.len() >= 2 && lines.iter().any(|line| line.contains("trying again")),
        "{said}"
    );
    assert!(!said.contains("geheim"), "{said}");
    assert_eq!(
        fs::read_to_string(shop.path("calls")).unwrap(),
        "200,5,77\n".repeat(3)
    );
    let status = shop.rekindle("status shop.yaml", 0);
    assert!(status.contains("No builder for product 17"), "{status}");
    // It is called again by the next run, and only when it is mended does the run end.
    fs::write(shop.path("console"), "#!/bin/sh\n").unwrap();
    shop.rekindle("run shop.yaml", 4);
}
