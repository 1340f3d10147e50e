//! What commands say of dead letters: whose they are, how many, and what becomes of their rows.

use std::{
    fs,
    io::{Read, Write},
    process::{Command, Stdio},
};

use crate::shop::Shop;
#[cfg(feature = "failpoints")]
use crate::shop::{ANEW, sql};

#[test]
fn letters_of_a_whole_run_are_not_forgotten_for_a_run_of_some_rows() {
    let shop = Shop::new();
    shop.plan(None);
    shop.rekindle("run shop.yaml", 4);
    let counted = |rows: u64| {
        let listed = shop.rekindle("dead-letters list shop.yaml --json", 0);
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let counts = listed.as_array().unwrap().iter();
        let count: u64 = counts.map(|one| one["count"].as_u64().unwrap()).sum();
        assert_eq!(count, rows, "{listed}");
    };
    shop.rekindle("run shop.yaml --ids 9", 0);
    counted(3);
    let doctor = shop.rekindle("doctor shop.yaml", 5);
    assert!(
        doctor.contains("dead letters: 3 rows of run ") && doctor.contains(" are not restored"),
        "{doctor}"
    );
    // One of them once more: of two runs by now, and one row.
    shop.rekindle("run shop.yaml --ids 5", 4);
    counted(3);
    let doctor = shop.rekindle("doctor shop.yaml", 5);
    assert!(
        doctor.contains("1 row of run ") && doctor.contains("2 rows of run "),
        "{doctor}"
    );
    shop.execute("UPDATE t SET data = '{}' WHERE e = 5");
    let retried = shop.rekindle("dead-letters retry shop.yaml --key-prefix t:de:5", 0);
    assert!(
        retried.contains("1 dead letter retried: 1 restored or gone from the source, 0 left"),
        "{retried}"
    );
    counted(2);
    shop.execute("UPDATE t SET data = '{}' WHERE e = 77");
    // What read everything says what there is.
    shop.rekindle("run shop.yaml", 4);
    counted(1);
    let dropped = shop.rekindle("dead-letters drop shop.yaml --yes", 0);
    assert!(
        dropped.contains("1 dead letter dropped: what the targets hold of that row stays as it is, missing or old"),
        "{dropped}"
    );
    counted(0);
}

/// Nobody is sent to look at dead letters that are gone.
#[test]
#[cfg(feature = "failpoints")]
fn a_run_whose_dead_letters_were_let_go_meanwhile_names_what_restores_the_rows() {
    let shop = Shop::new();
    shop.plan(None);
    let killed = shop
        .command("run shop.yaml --single-process")
        .env("RK_FAIL", "before_forget:1:kill")
        .output()
        .unwrap();
    assert_eq!(killed.status.code(), None);
    shop.rekindle("dead-letters drop shop.yaml --yes", 0);
    let ended = shop.rekindle("run shop.yaml", 4);
    let says =
        "done, but 3 rows could not be restored, and the dead letters of all of them were let go";
    assert!(ended.contains(says), "{ended}");
    let next =
        "mend them in the source, then `rekindle verify shop.yaml --repair` restores what differs";
    assert!(ended.contains(next), "{ended}");
}

#[test]
#[cfg(feature = "failpoints")]
fn status_says_of_a_call_that_is_under_way_what_is_known() {
    let shop = Shop::new();
    shop.plan(Some(&sql(ANEW)));
    let killed = shop
        .command("run shop.yaml --single-process")
        .env("RK_FAIL", "after_intent:1:kill")
        .output()
        .unwrap();
    assert_eq!(killed.status.code(), None);
    let status = shop.rekindle("status shop.yaml", 0);
    let says = "triggering, 0 ids of about 3 answered for in 0 calls; a call with 3 ids is under way; why: 3 of its rows are broken";
    assert!(status.contains(says), "{status}");
}

#[test]
fn an_answer_that_was_typed_before_the_question_is_none() {
    let shop = Shop::new();
    shop.plan(None);
    shop.rekindle("run shop.yaml", 4);
    let early = asked_to_drop(&shop, "yes\n", "y\n");
    assert_eq!(early.0, Some(2), "{}", early.1);
    assert!(
        early.1.contains("answer with the whole word `yes`"),
        "{}",
        early.1
    );
    let (code, said) = asked_to_drop(&shop, "no\n", "yes\n");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("3 dead letters dropped"), "{said}");
}

/// Drops dead letters on a terminal at which somebody typed before the program was there, and answers its question.
fn asked_to_drop(shop: &Shop, before: &str, answer: &str) -> (Option<i32>, String) {
    let gate = shop.path("gate");
    if !gate.exists() {
        let made = Command::new("mkfifo").arg(&gate).status().unwrap();
        assert!(made.success());
    }
    let program = format!(
        "read gate < gate; exec {} dead-letters drop shop.yaml",
        env!("CARGO_BIN_EXE_rekindle")
    );
    let mut on_terminal = Command::new("script")
        .args(["--quiet", "--flush", "--return", "--command", &program])
        .arg("/dev/null")
        .current_dir(shop.path(""))
        .env("SHELL", "/bin/sh")
        .env_remove("RK_FAIL")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keyboard = on_terminal.stdin.take().unwrap();
    let mut screen = on_terminal.stdout.take().unwrap();
    let mut said = Vec::new();
    let mut shows = |text: &str| {
        while memchr::memmem::find(&said, text.as_bytes()).is_none() {
            let mut byte = [0];
            let read = screen.read(&mut byte).unwrap();
            assert_eq!(read, 1, "{}", String::from_utf8_lossy(&said));
            said.extend(byte);
        }
    };
    keyboard.write_all(before.as_bytes()).unwrap();
    // What the terminal echoes is in its queue.
    shows(before.trim());
    fs::write(&gate, "open\n").unwrap();
    shows("Type `yes` to let them go:");
    keyboard.write_all(answer.as_bytes()).unwrap();
    screen.read_to_end(&mut said).unwrap();
    let code = on_terminal.wait().unwrap().code();
    (code, String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn what_blocked_for_its_dead_letters_goes_on_as_it_is_said_to() {
    let shop = Shop::new();
    shop.plan(None);
    let limited = |limit: &str| {
        shop.plan(None);
        let plan = fs::read_to_string(shop.path("shop.yaml")).unwrap();
        let plan = plan.replace(
            "defaults: { ",
            &format!("defaults: {{ dead_letters: {limit}, "),
        );
        fs::write(shop.path("shop.yaml"), plan).unwrap();
    };
    limited("{ max: 2, percent: 1 }");
    let raise = "write `dead_letters: { max: 600, percent: 100 }` under `defaults:`";
    let run = shop.rekindle("run shop.yaml", 5);
    assert!(
        run.contains("more than the 2 rows of `dead_letters.max`;"),
        "{run}"
    );
    let again = shop.rekindle("dead-letters retry shop.yaml", 3);
    let status = shop.rekindle("status shop.yaml", 0);
    let doctor = shop.rekindle("doctor shop.yaml", 5);
    let dry = shop.rekindle("run shop.yaml --dry-run", 0);
    assert!(
        dry.contains("blocked again at once, after ")
            && dry.contains("  about 0 rows and 0 B to restore; "),
        "{dry}"
    );
    for said in [&run, &again, &status, &doctor, &dry] {
        assert!(said.contains(raise), "{said}");
        assert!(
            said.contains("`rekindle dead-letters retry shop.yaml`"),
            "{said}"
        );
        assert!(!said.contains("`rekindle resume"), "{said}");
    }
    limited("{ max: 600, percent: 100 }");
    let dry = shop.rekindle("run shop.yaml --dry-run", 0);
    assert!(
        dry.contains("tried again after ")
            && dry.ends_with("  next:  `rekindle run shop.yaml` does this\n"),
        "{dry}"
    );
    shop.execute("UPDATE t SET data = '{}' WHERE data IS NULL");
    shop.rekindle("run shop.yaml", 4);
    let retried = shop.rekindle("dead-letters retry shop.yaml", 0);
    assert!(retried.contains("0 left"), "{retried}");
    shop.assert_dumped();
}

#[test]
fn the_story_of_a_run_tells_of_its_own_dead_letters_alone() {
    let shop = Shop::new();
    shop.plan(None);
    let run = |words: &str, code| {
        let said = shop.rekindle(words, code);
        let (_, after) = said.split_once("run ").unwrap();
        after.split_once(' ').unwrap().0.to_owned()
    };
    let whole = run("run shop.yaml", 4);
    let part = run("run shop.yaml --ids 5", 4);
    let other = run("run shop.yaml --ids 9", 0);
    shop.execute("UPDATE t SET data = '{}' WHERE e = 5");
    shop.rekindle("dead-letters retry shop.yaml --key-prefix t:de:5", 0);
    shop.rekindle("dead-letters drop shop.yaml --yes", 0);
    let story = |of: &str| shop.rekindle(&format!("show {of} shop.yaml"), 0);
    let (retried, dropped) = ("t: 1 dead letter: retried by run ", "dropped by a person");
    let told = story(&whole);
    assert!(told.contains(retried), "{told}");
    assert!(
        told.contains("t: 2 dead letters: dropped by a person"),
        "{told}"
    );
    let told = story(&part);
    assert!(told.contains(retried) && !told.contains(dropped), "{told}");
    for words in [other.clone(), format!("--json {other}")] {
        let told = story(&words);
        assert!(
            !told.contains("retried by") && !told.contains(dropped),
            "{told}"
        );
    }
}
