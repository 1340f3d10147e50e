//! Steps of a plan that changed in mid-run, commands that were left behind, and which run an `undo` means.

use std::{
    fs,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::steps::{Shop, ends};

fn until(what: &str, is_so: &dyn Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A command that says when it begins and ends, and does not end before there is a file `go`.
const LONG: &str =
    "echo begin >> calls; while test ! -e go; do sleep 0.02; done; echo end >> calls";

/// Kills a run in the middle of [`LONG`], which stays at work.
fn left_behind(shop: &Shop) {
    let mut child = shop.starts();
    until("begun", &|| shop.calls().contains(&"begin".to_owned()));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Starts a command that has to wait for what was left behind, and lets that end once it does.
fn waits_for_it(shop: &Shop, words: &[&str]) -> Child {
    let child = shop
        .command(words, None)
        .stdout(Stdio::null())
        .stderr(fs::File::create(shop.path("said")).unwrap())
        .spawn()
        .unwrap();
    until("waited for", &|| {
        let said = fs::read_to_string(shop.path("said")).unwrap();
        said.contains("is still at work: it is waited for")
    });
    assert_eq!(shop.calls(), ["begin"]);
    fs::write(shop.path("go"), "").unwrap();
    child
}

#[test]
fn a_command_that_was_left_behind_is_waited_for_wherever_a_changed_plan_has_its_step() {
    let step = format!("  - shell: {{ run: \"{LONG}; touch done\", check: \"test -e done\" }}\n");
    let shop = Shop::new(&format!("prepare:\n{step}"));
    left_behind(&shop);
    let before = "  - shell: { run: \"echo before >> calls\", repeatable: true }\n";
    shop.plan(&format!("prepare:\n{before}{step}"));
    let words = [
        "run",
        "shop.yaml",
        "--single-process",
        "--accept-plan-change",
    ];
    ends(waits_for_it(&shop, &words), 0);
    assert_eq!(shop.calls(), ["begin", "end", "before"]);
}

#[test]
fn a_new_run_waits_for_a_command_of_the_run_before() {
    let shop = Shop::new(&format!(
        "prepare: [{{ shell: {{ run: \"test ! -e begun || echo prepare >> calls\", repeatable: true }} }}]\n\
         finish: [{{ shell: {{ run: \"touch begun; {LONG}\", repeatable: true }} }}]\n"
    ));
    left_behind(&shop);
    let words = ["run", "shop.yaml", "--single-process", "--new"];
    ends(waits_for_it(&shop, &words), 0);
    assert_eq!(shop.calls(), ["begin", "end", "prepare", "begin", "end"]);
}

#[test]
fn undo_waits_for_a_command_that_was_left_behind_though_nothing_reverses_it() {
    let shop = Shop::new(&format!(
        "prepare:\n  - maintenance: {{ on: \"touch flag\", check: \"test -e flag\", off: \"echo off >> calls; rm -f flag\" }}\n  \
         - shell: {{ run: \"{LONG}\", repeatable: true }}\nfinish: [{{ maintenance_off: {{}} }}]\n"
    ));
    left_behind(&shop);
    ends(waits_for_it(&shop, &["undo", "shop.yaml", "--yes"]), 0);
    assert_eq!(shop.calls(), ["begin", "end", "off"]);
}

/// A page whose `off` does something else, and a step after it that fails.
const WRONG: &str = r#"
prepare:
  - maintenance: { on: "touch flag", check: "test -e flag", off: "rm -f wrong" }
  - shell: { run: "exit 1", repeatable: true }
finish:
  - maintenance_off: {}
"#;

#[test]
fn a_page_that_is_mended_in_the_plan_stays_its_runs_to_take_away() {
    let shop = Shop::new(WRONG);
    assert_eq!(shop.run(&[], None).0, Some(5));
    shop.plan(&WRONG.replace("rm -f wrong", "rm -f flag"));
    let (code, said) = shop.run(&[], None);
    assert_eq!(code, Some(3), "{said}");
    let changed = "step maintenance of `prepare`, which was done, has other commands now";
    assert!(said.contains(changed), "{said}");
    let (code, said) = shop.run(&["--accept-plan-change"], None);
    assert_eq!(code, Some(5), "{said}");
    let (code, said) = shop.said(&["undo", "shop.yaml", "--yes"], None);
    assert_eq!(code, Some(0), "{said}");
    assert!(!shop.has("flag"), "{said}");
}

#[test]
fn undo_takes_commands_that_were_mended_since() {
    let shop = Shop::new(WRONG);
    assert_eq!(shop.run(&[], None).0, Some(5));
    let (code, said) = shop.said(&["undo", "shop.yaml", "--yes"], None);
    assert_eq!(code, Some(5), "{said}");
    assert!(shop.has("flag"), "{said}");
    shop.plan(&WRONG.replace("rm -f wrong", "rm -f flag"));
    let (code, said) = shop.said(&["undo", "shop.yaml", "--yes"], None);
    assert_eq!(code, Some(0), "{said}");
    assert!(!shop.has("flag"), "{said}");
}

#[test]
fn a_page_that_is_up_is_not_dropped_from_the_plan() {
    let shop = Shop::new(WRONG);
    assert_eq!(shop.run(&[], None).0, Some(5));
    shop.plan("prepare: [{ shell: { run: \"exit 0\", repeatable: true } }]\n");
    let (code, said) = shop.run(&["--accept-plan-change"], None);
    assert_eq!(code, Some(3), "{said}");
    for part in [
        "left something behind that the plan no longer says",
        "step maintenance of `prepare`, which was done, is no longer so in the plan",
        "put those steps back as they were",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_command_that_failed_and_was_mended_is_its_runs_to_reverse() {
    let steps = |run: &str| {
        format!(
            "prepare:\n  - shell: {{ run: \"touch half; {run}\", check: \"test -e half\", undo: \"rm -f half\" }}\n"
        )
    };
    let shop = Shop::new(&steps("exit 1"));
    assert_eq!(shop.run(&[], None).0, Some(5));
    shop.plan(&steps("exit 0"));
    shop.completes(&["--accept-plan-change"]);
    let (code, said) = shop.said(&["undo", "shop.yaml", "--yes"], None);
    assert_eq!(code, Some(0), "{said}");
    assert!(!shop.has("half"), "{said}");
}

#[test]
fn an_answer_is_none_to_another_question() {
    let asks = |question: &str, run: &str| {
        format!(
            "finish: [{{ approve: {{ question: \"{question}\" }} }}, {{ shell: {{ run: \"{run}\", repeatable: true }} }}]\n"
        )
    };
    let shop = Shop::new(&asks("is the page nice?", "exit 1"));
    let child = shop.starts();
    shop.waits_for(1, "intent");
    assert_eq!(shop.said(&["approve", "shop.yaml"], None).0, Some(0));
    ends(child, 5);
    shop.plan(&asks("may the old one go?", "touch gone"));
    let words = [
        "run",
        "shop.yaml",
        "--single-process",
        "--accept-plan-change",
    ];
    let child = shop
        .command(&words, None)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    shop.waits_for(1, "intent");
    assert!(!shop.has("gone"));
    let (code, said) = shop.said(&["approve", "shop.yaml"], None);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("approved: may the old one go?"), "{said}");
    ends(child, 0);
    assert!(shop.has("gone"));
}

#[test]
fn undo_does_not_go_on_to_an_earlier_run_that_nobody_named() {
    let shop = Shop::new(
        "prepare: [{ shell: { run: \"echo run >> calls; touch done\", check: \"test -e done\", undo: \"echo undo >> calls; rm -f done\" } }]\n\
         finish: [{ shell: { run: \"rm -f done\", repeatable: true } }]\n",
    );
    shop.completes(&[]);
    let first = shop.status()["run"].as_str().unwrap().to_owned();
    shop.completes(&[]);
    assert_eq!(shop.said(&["undo", "shop.yaml", "--yes"], None).0, Some(0));
    let (code, said) = shop.said(&["undo", "shop.yaml", "--yes"], None);
    assert_eq!(code, Some(2), "{said}");
    let names = format!("`rekindle undo shop.yaml --run {first}`");
    assert!(said.contains(&names), "{said}");
    assert_eq!(shop.calls(), ["run", "run", "undo"]);
    let (code, said) = shop.said(&["undo", "shop.yaml", "--run", "nobody", "--yes"], None);
    assert_eq!(code, Some(2), "{said}");
    let (code, said) = shop.said(&["undo", "shop.yaml", "--run", &first, "--yes"], None);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(shop.calls(), ["run", "run", "undo", "undo"]);
}

#[test]
fn what_comes_next_can_be_typed_where_names_have_blanks() {
    let shop = Shop::new("prepare: [{ shell: { run: \"exit 1\", repeatable: true } }]\n");
    fs::rename(shop.path("shop.yaml"), shop.path("my shop.yaml")).unwrap();
    let words = [
        "run",
        "my shop.yaml",
        "--single-process",
        "--state",
        "a b.sqlite",
    ];
    let (code, said) = shop.said(&words, None);
    assert_eq!(code, Some(5), "{said}");
    let next = "`rekindle undo 'my shop.yaml' --state 'a b.sqlite'`";
    assert!(said.replace("\n        ", " ").contains(next), "{said}");
}

#[test]
fn a_signal_does_not_keep_a_wrong_command_from_being_mended() {
    let steps =
        |run: &str| format!("prepare: [{{ shell: {{ run: \"{run}\", repeatable: true }} }}]\n");
    let shop = Shop::new(&steps("touch begun; while :; do sleep 0.05; done"));
    let child = shop.starts();
    until("begun", &|| shop.has("begun"));
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    ends(child, 130);
    shop.plan(&steps("touch begun"));
    shop.completes(&["--accept-plan-change"]);
}
