//! Steps around a restore from SQLite to files, through the program itself: killed anywhere, with the state file lost,
//! refused, approved, undone.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rekindle::{
    cutover,
    engine::{self, WayBack},
    failure::Exit,
    journal::View,
    plan,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::fake_jenkins;

const ROWS: usize = 300;

/// Every step leaves a word in `calls`, and a file where it can be seen that it was done.
const STEPS: &str = r#"
prepare:
  - maintenance: { on: "echo on >> calls; touch flag", check: "test -e flag", off: "echo off >> calls; rm -f flag" }
  - shell: { run: "echo migrate >> calls; touch migrated", check: "test -e migrated", undo: "echo back >> calls; rm -f migrated" }
finish:
  - shell: { run: "echo warm >> calls; touch warm", check: "test -e warm", undo: "rm -f warm" }
  - maintenance_off: {}
"#;

pub struct Shop {
    pub folder: TempDir,
}

impl Shop {
    pub fn new(steps: &str) -> Self {
        let shop = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        shop.fill("shop.sqlite");
        shop.plan(steps);
        shop
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn fill(&self, name: &str) {
        let database = rusqlite::Connection::open(self.path(name)).unwrap();
        database
            .execute_batch(&format!(
                "CREATE TABLE a (id INTEGER PRIMARY KEY, key TEXT, data TEXT);
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
                 INSERT INTO a SELECT i, 'a:' || i, '{{}}' FROM n;"
            ))
            .unwrap();
    }

    pub fn plan(&self, steps: &str) {
        let text = format!(
            "version: 1\nname: shop\nsource: {{ url: \"sqlite:shop.sqlite\" }}\n\
             targets: {{ dump: {{ file: {{ path: out }} }} }}\n\
             resources: [{{ name: a, from: {{ table: a, cursor: [id], key: key, value: data }} }}]\n\
             defaults: {{ chunk: {{ rows: 100 }}, parallel: {{ partitions: 1 }} }}\n{steps}"
        );
        fs::write(self.path("shop.yaml"), text).unwrap();
    }

    pub fn command(&self, words: &[&str], point: Option<&str>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rekindle"));
        command
            .args(words)
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        match point {
            Some(point) => command.env("RK_FAIL", point),
            None => command.env_remove("RK_FAIL"),
        };
        command
    }

    /// Runs a command to its end; returns its exit code (`None` for a death) and what it said.
    pub fn said(&self, words: &[&str], point: Option<&str>) -> (Option<i32>, String) {
        let output: Output = self.command(words, point).output().unwrap();
        let out = String::from_utf8_lossy(&output.stdout);
        let err = String::from_utf8_lossy(&output.stderr);
        (output.status.code(), format!("{out}{err}"))
    }

    pub fn run(&self, words: &[&str], point: Option<&str>) -> (Option<i32>, String) {
        let words = [&["run", "shop.yaml", "--single-process"], words].concat();
        self.said(&words, point)
    }

    pub fn completes(&self, words: &[&str]) -> String {
        let (code, said) = self.run(words, None);
        assert_eq!(code, Some(0), "{said}");
        said
    }

    /// Returns the words that steps left, in their order.
    pub fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// Asserts that the world is as a run leaves it that nobody disturbed.
    pub fn is_whole(&self, after: &str) {
        let dump = fs::read_to_string(self.path("out/a.0001.resp")).unwrap_or_default();
        assert_eq!(dump.matches("$3\r\nSET").count(), ROWS, "{after}");
        assert_eq!(
            ["flag", "migrated", "warm"].map(|name| self.has(name)),
            [false, true, true],
            "{after}"
        );
    }

    pub fn status(&self) -> Value {
        let (code, said) = self.said(&["status", "shop.yaml", "--json"], None);
        assert_eq!(code, Some(0), "{said}");
        serde_json::from_str(&said).unwrap()
    }

    /// Starts a run in the background.
    pub fn starts(&self) -> Child {
        self.command(&["run", "shop.yaml", "--single-process"], None)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Waits until step `number` of the run at work is in `state`.
    pub fn waits_for(&self, number: usize, state: &str) {
        let begun = Instant::now();
        loop {
            let status = self.status();
            let step = &status["steps"][number - 1];
            if status["working"] == true && step["state"] == state {
                return;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "step {number} never was {state}: {status}"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
}

pub fn ends(mut child: Child, code: i32) {
    assert_eq!(child.wait().unwrap().code(), Some(code));
}

#[test]
fn steps_come_in_their_order_around_the_rows_and_are_told() {
    let shop = Shop::new(STEPS);
    let (code, said) = shop.said(&["run", "shop.yaml", "--dry-run"], None);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("prepare: maintenance: not done: the page is not up"),
        "{said}"
    );
    assert!(
        !shop.has("calls") && !shop.has("state"),
        "a dry run changes nothing"
    );
    let said = shop.completes(&[]);
    let told: Vec<_> = said.lines().filter(|line| line.contains(": ")).collect();
    let place = |text: &str| {
        let found = told.iter().position(|line| line.contains(text));
        found.unwrap_or_else(|| panic!("{text}: {said}"))
    };
    assert!(place("prepare: maintenance done in") < place("prepare: shell `echo` done in"));
    assert!(place("prepare: shell `echo` done in") < place("a: synced"));
    assert!(place("a: synced") < place("finish: maintenance_off done in"));
    assert_eq!(shop.calls(), ["on", "migrate", "warm", "off"]);
    shop.is_whole("undisturbed");
    let states: Vec<_> = shop.status()["steps"].as_array().unwrap().clone();
    assert!(
        states.iter().all(|step| step["state"] == "done"),
        "{states:?}"
    );
    let id = shop.status()["run"].as_str().unwrap().to_owned();
    let (_, story) = shop.said(&["show", &id, "shop.yaml"], None);
    assert!(
        story.contains("prepare: maintenance done: the page is up"),
        "{story}"
    );
    // Those that are so already are not done again, and a new run says how long they took.
    let again = shop.completes(&[]);
    assert!(
        again.contains("prepare: shell `echo` done already"),
        "{again}"
    );
    assert!(
        again.contains("prepare: maintenance begins, took"),
        "{again}"
    );
    assert_eq!(shop.calls(), ["on", "migrate", "warm", "off", "on", "off"]);
}

/// Every place where a run with four steps can die around them, its commits among them.
#[cfg(feature = "failpoints")]
fn points() -> Vec<String> {
    let around = [
        "before_step",
        "step_intended",
        "step_performed",
        "step_done",
    ];
    let mut points: Vec<_> = around
        .iter()
        .flat_map(|point| (1..=4).map(move |nth| format!("{point}:{nth}:kill")))
        .collect();
    // After a commit is before the next one: of the others, every second tells enough.
    points.extend((1..=20).map(|nth| format!("journal_after_commit:{nth}:kill")));
    points.extend(
        (1..=19)
            .step_by(2)
            .map(|nth| format!("journal_before_commit:{nth}:kill")),
    );
    points
}

#[test]
#[cfg(feature = "failpoints")]
fn a_run_killed_anywhere_around_its_steps_does_each_of_them_once() {
    let mut deaths = 0;
    for point in points() {
        let shop = Shop::new(STEPS);
        let (code, said) = shop.run(&[], Some(&point));
        deaths += usize::from(code.is_none());
        assert!(matches!(code, None | Some(0)), "{point}: {said}");
        // After the last commit there is nothing left to go on with, and another run would begin.
        if code.is_none() && shop.status()["state"] != "done" {
            shop.completes(&[]);
        }
        assert_eq!(shop.calls(), ["on", "migrate", "warm", "off"], "{point}");
        shop.is_whole(&point);
    }
    assert!(deaths >= 38, "only {deaths} points were met");
}

#[test]
#[cfg(feature = "failpoints")]
fn a_lost_state_file_does_no_step_twice() {
    for point in points().iter().step_by(3) {
        let shop = Shop::new(STEPS);
        if shop.run(&[], Some(point)).0.is_some() {
            continue;
        }
        let marked = shop.has("state/shop.sqlite.marker");
        for suffix in ["", "-wal", "-shm"] {
            fs::remove_file(shop.path(&format!("state/shop.sqlite{suffix}"))).ok();
        }
        if marked {
            let (code, said) = shop.run(&[], None);
            assert_eq!(code, Some(3), "{point}: {said}");
            shop.completes(&["--new"]);
        } else {
            shop.completes(&[]);
        }
        for once in ["migrate", "warm"] {
            let count = shop.calls().iter().filter(|call| *call == once).count();
            assert_eq!(count, 1, "{point}: {:?}", shop.calls());
        }
        shop.is_whole(point);
    }
}

#[test]
#[cfg(feature = "failpoints")]
fn undo_after_each_point_brings_back_the_world_before() {
    for point in points().iter().step_by(3) {
        let shop = Shop::new(STEPS);
        let (code, said) = shop.run(&[], Some(point));
        assert!(matches!(code, None | Some(0)), "{point}: {said}");
        if !shop.has("state/shop.sqlite") {
            continue;
        }
        let (code, said) = shop.said(&["undo", "shop.yaml", "--yes"], None);
        assert_eq!(code, Some(0), "{point}: {said}");
        assert_eq!(
            ["flag", "migrated", "warm"].map(|name| shop.has(name)),
            [false; 3],
            "{point}: {said}"
        );
        // The run is given up: another one begins from the start, and undoing twice does nothing.
        let (code, said) = shop.said(&["undo", "shop.yaml", "--yes"], None);
        assert_eq!(code, Some(0), "{point}: {said}");
        assert!(
            said.contains("there is nothing to reverse"),
            "{point}: {said}"
        );
        shop.completes(&[]);
        shop.is_whole(point);
    }
}

#[test]
#[cfg(feature = "failpoints")]
fn undo_killed_half_way_goes_on() {
    for nth in 1..=4 {
        let shop = Shop::new(STEPS);
        shop.completes(&[]);
        let point = format!("step_reversed:{nth}:kill");
        let (code, said) = shop.said(&["undo", "shop.yaml", "--yes"], Some(&point));
        assert_eq!(code, None, "{point}: {said}");
        let (code, said) = shop.said(&["undo", "shop.yaml", "--yes"], None);
        assert_eq!(code, Some(0), "{point}: {said}");
        assert_eq!(
            ["flag", "migrated", "warm"].map(|name| shop.has(name)),
            [false; 3]
        );
    }
}

#[test]
#[cfg(feature = "failpoints")]
fn what_cannot_be_observed_is_reversed_in_doubt() {
    let shell = "{ run: \"touch ran\", repeatable: true, undo: \"rm -f ran\" }";
    let shop = Shop::new(&format!("prepare: [{{ shell: {shell} }}]\n"));
    assert_eq!(shop.run(&[], Some("step_performed:1:kill")).0, None);
    assert!(shop.has("ran"));
    let (code, said) = shop.said(&["undo", "shop.yaml", "--yes"], None);
    assert_eq!(code, Some(0), "{said}");
    assert!(!shop.has("ran"), "{said}");
}

#[test]
fn undo_shows_the_way_back_and_asks() {
    let shop = Shop::new(STEPS);
    let (code, said) = shop.said(&["undo", "shop.yaml"], None);
    assert_eq!(code, Some(0), "{said}");
    shop.completes(&[]);
    let (code, said) = shop.said(&["undo", "shop.yaml"], None);
    assert_eq!(code, Some(2), "{said}");
    let place = |text: &str| said.find(text).unwrap_or_else(|| panic!("{text}: {said}"));
    assert!(
        place("step 2 of `finish` (maintenance_off)") < place("step 1 of `prepare` (maintenance)")
    );
    assert_eq!(shop.calls().len(), 4, "nothing was reversed");
}

#[test]
fn a_step_that_cannot_be_done_stops_the_run_and_is_mended_in_the_plan() {
    let broken = STEPS.replace("echo migrate >> calls; touch migrated", "echo oops; exit 7");
    let shop = Shop::new(&broken);
    let (code, said) = shop.run(&[], None);
    assert_eq!(code, Some(5), "{said}");
    for part in [
        "step 2 of `prepare` (shell `echo`) could not be done",
        "`run` ended with exit code 7",
        "done and journaled: step 1 of `prepare` (maintenance): the page is up",
        "`rekindle undo shop.yaml` shows the way back",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let log = fs::read_to_string(shop.path("state/shop.sqlite.prepare-2.log")).unwrap();
    assert_eq!(log, "oops\n");
    assert!(shop.has("flag") && !shop.has("out/a.0001.resp"));
    let step = &shop.status()["steps"][1];
    assert_eq!(step["state"], "unknown");
    assert!(
        step["reason"].as_str().unwrap().contains("exit code 7"),
        "{step}"
    );
    shop.plan(STEPS);
    let (code, said) = shop.run(&[], None);
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("step shell `echo` of `prepare`, which was begun"),
        "{said}"
    );
    shop.completes(&["--accept-plan-change"]);
    assert_eq!(shop.calls(), ["on", "migrate", "warm", "off"]);
    shop.is_whole("mended");
}

#[test]
#[cfg(feature = "failpoints")]
fn a_run_past_prepare_takes_no_other_step_there() {
    let shop = Shop::new(STEPS);
    assert_eq!(shop.run(&[], Some("after_commit:1:kill")).0, None);
    shop.plan(&STEPS.replace("echo migrate", "echo other"));
    let (code, said) = shop.run(&["--accept-plan-change"], None);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("is past the steps of `prepare`"), "{said}");
    shop.plan(STEPS);
    shop.completes(&[]);
    assert_eq!(shop.calls(), ["on", "migrate", "warm", "off"]);
}

#[test]
fn a_step_may_bring_the_source() {
    let shop = Shop::new(
        "prepare: [{ shell: { run: \"mv made.sqlite shop.sqlite\", check: \"test -e shop.sqlite\" } }]\n",
    );
    fs::rename(shop.path("shop.sqlite"), shop.path("made.sqlite")).unwrap();
    let (code, said) = shop.said(&["run", "shop.yaml", "--dry-run"], None);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("prepare: shell `mv`: not done"), "{said}");
    assert!(
        said.contains("a run asks the source after the steps"),
        "{said}"
    );
    let said = shop.completes(&[]);
    assert!(
        said.contains("the source is asked again after them"),
        "{said}"
    );
    assert!(said.contains("a: synced"), "{said}");
}

#[test]
fn what_no_step_could_mend_is_refused_before_the_first_one() {
    let steps = "prepare: [{ maintenance: { on: \"touch flag\", check: \"test -e flag\", off: \"rm flag\" } }]\n";
    let shop = Shop::new(steps);
    fs::remove_file(shop.path("shop.sqlite")).unwrap();
    let (code, said) = shop.run(&[], None);
    assert_eq!(code, Some(3), "{said}");
    assert!(!shop.has("flag") && !shop.has("state"), "{said}");
}

#[test]
fn a_run_of_some_resources_leaves_steps_out() {
    let shop = Shop::new(STEPS);
    let said = shop.completes(&["--only", "a"]);
    assert!(
        said.contains("are part of the whole plan alone: left out"),
        "{said}"
    );
    assert!(shop.calls().is_empty());
}

#[test]
fn a_check_that_cannot_tell_is_no_answer() {
    let shop = Shop::new(
        "prepare: [{ shell: { run: \"touch ran\", check: \"no-such-program-anywhere\" } }]\n",
    );
    let (code, said) = shop.run(&[], None);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("says neither yes nor no"), "{said}");
    assert!(!shop.has("ran"));
}

const ASKS: &str = "finish: [{ approve: { question: \"does it look right?\" } }, { shell: { run: \"touch after\", repeatable: true } }]\n";

#[test]
fn a_person_is_asked_also_after_a_signal_and_answers_from_another_terminal() {
    let shop = Shop::new(ASKS);
    let (code, said) = shop.said(&["approve", "shop.yaml"], None);
    assert_eq!(code, Some(3), "{said}");
    let child = shop.starts();
    shop.waits_for(1, "intent");
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    ends(child, 130);
    assert!(!shop.has("after"));
    let child = shop.starts();
    shop.waits_for(1, "intent");
    let (code, said) = shop.said(&["approve", "shop.yaml"], None);
    assert_eq!(code, Some(0), "{said}");
    ends(child, 0);
    assert!(shop.has("after"));
    let step = &shop.status()["steps"][0];
    assert!(
        step["how"].as_str().unwrap().starts_with("approved by "),
        "{step}"
    );
    // An old answer is none to a new question.
    let child = shop.starts();
    shop.waits_for(1, "intent");
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    ends(child, 130);
}

/// Answers each request with the next of `answers`, the last one for ever. Returns its port and the number of requests.
fn page(answers: &'static [u16]) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // A request without a body fits one packet on loopback.
            let _ = stream.read(&mut [0; 4096]);
            let nth = count.fetch_add(1, Ordering::SeqCst);
            let status = answers[nth.min(answers.len() - 1)];
            let answer =
                format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (port, asked)
}

#[test]
fn a_page_is_asked_until_it_answers_as_it_should() {
    let (port, asked) = page(&[503, 503, 204]);
    let check = format!(
        "http_check: {{ url: \"http://me:geheim@127.0.0.1:{port}/de?key=geheim\", status: 204 }}"
    );
    let shop = Shop::new(&format!("finish: [{{ {check} }}]\n"));
    let said = shop.completes(&[]);
    assert!(asked.load(Ordering::SeqCst) >= 3);
    assert!(
        said.contains(&format!("http://127.0.0.1:{port} answers 503, not 204")),
        "{said}"
    );
    assert!(!said.contains("geheim"), "{said}");
    let state = fs::read(shop.path("state/shop.sqlite")).unwrap();
    assert!(!state.windows(6).any(|window| window == b"geheim"));
}

#[test]
fn a_page_that_never_answers_stops_the_run_in_time() {
    let (port, _) = page(&[503]);
    let check = format!("http_check: {{ url: \"http://127.0.0.1:{port}/\", within: 300ms }}");
    let shop = Shop::new(&format!("prepare: [{{ {check} }}]\n"));
    let (code, said) = shop.run(&[], None);
    assert_eq!(code, Some(5), "{said}");
    assert!(
        said.contains("gave up after 300 ms: http://127.0.0.1"),
        "{said}"
    );
    assert!(said.contains("answers 503, not 200"), "{said}");
}

#[test]
fn what_a_variable_stands_for_is_in_no_list_of_processes_and_no_state() {
    let steps = "prepare: [{ shell: { run: \"for pid in $(cut -d' ' -f4 /proc/$PPID/stat) $PPID; do tr '\\\\0' ' ' < /proc/$pid/cmdline; done > shown; tr '\\\\0' ' ' < /proc/$$/cmdline >> shown; test ${PW} = geheim-4711; env > env\", repeatable: true } }]\n";
    let shop = Shop::new(steps);
    let mut command = shop.command(&["run", "shop.yaml", "--single-process"], None);
    let output = command.env("PW", "geheim-4711").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let shown = fs::read_to_string(shop.path("shown")).unwrap();
    assert!(
        shown.contains("rekindle") && shown.contains("sh -c"),
        "{shown}"
    );
    assert!(!shown.contains("geheim"), "{shown}");
    let env = fs::read_to_string(shop.path("env")).unwrap();
    assert!(!env.contains("REKINDLE_SCRIPT="), "{env}");
    let state = fs::read(shop.path("state/shop.sqlite")).unwrap();
    assert!(!state.windows(6).any(|window| window == b"geheim"));
}

/// Returns a plan's part that builds a job, and the server that it builds it on.
fn jenkins(command: &str) -> (String, Arc<Mutex<fake_jenkins::Known>>) {
    let (url, known) = fake_jenkins::start();
    let part = format!(
        "jenkins: {{ url: \"{url}\", user: deploy, token: \"${{file:token}}\" }}\n\
         finish: [{{ jenkins_build: {{ job: shop/resync, {command} }} }}]\n"
    );
    (part, known)
}

fn jenkins_shop(part: &str) -> Shop {
    let shop = Shop {
        folder: tempfile::tempdir().unwrap(),
    };
    fs::write(shop.path("token"), "geheim").unwrap();
    shop.fill("shop.sqlite");
    shop.plan(part);
    shop
}

/// Returns how many builds were asked for.
fn builds(known: &Mutex<fake_jenkins::Known>) -> usize {
    let known = known.lock().unwrap();
    let asked = known.changes.iter();
    asked
        .filter(|path| path.ends_with("/buildWithParameters"))
        .count()
}

#[test]
fn a_job_is_made_and_built_and_followed() {
    let (part, known) = jenkins("shell: \"echo <a> && b\"");
    let shop = jenkins_shop(&part);
    let said = shop.completes(&[]);
    assert!(
        said.contains("finish: jenkins_build shop/resync done in"),
        "{said}"
    );
    assert!(
        said.contains("build 1 of `shop/resync`: step 2 with ***"),
        "{said}"
    );
    assert_eq!(builds(&known), 1);
    let job = known.lock().unwrap().jobs["/job/shop/job/resync"].clone();
    assert!(
        job.contains("<command>echo &lt;a&gt; &amp;&amp; b</command>"),
        "{job}"
    );
    // The next run builds it again, and finds the job as it should be.
    shop.completes(&[]);
    let changes = known.lock().unwrap().changes.clone();
    assert_eq!(changes.len(), 3, "{changes:?}");
    let state = fs::read(shop.path("state/shop.sqlite")).unwrap();
    assert!(!state.windows(6).any(|window| window == b"geheim"));
}

#[test]
fn c7_an_answer_that_is_lost_is_no_second_build() {
    for dropped in ["/createItem", "/buildWithParameters"] {
        let (part, known) = jenkins("shell: a");
        known.lock().unwrap().drop_reply = Some(dropped);
        jenkins_shop(&part).completes(&[]);
        assert_eq!(builds(&known), 1, "{dropped}");
        assert!(known.lock().unwrap().drop_reply.is_none(), "{dropped}");
    }
}

#[test]
fn c8_a_crumb_that_ran_out_is_fetched_again_once() {
    let (part, known) = jenkins("shell: a");
    known.lock().unwrap().restless = true;
    jenkins_shop(&part).completes(&[]);
    assert_eq!(builds(&known), 1);
    assert_eq!(known.lock().unwrap().refused, 1);
}

#[test]
#[cfg(feature = "failpoints")]
fn c7_a_build_is_asked_for_once_wherever_the_run_dies_and_whatever_is_lost() {
    for (point, lost) in [
        ("before_step:1:kill", false),
        ("step_intended:1:kill", false),
        ("step_performed:1:kill", false),
        ("step_performed:1:kill", true),
        ("step_done:1:kill", true),
    ] {
        let (part, known) = jenkins("shell: a");
        let shop = jenkins_shop(&part);
        assert_eq!(shop.run(&[], Some(point)).0, None, "{point}");
        if lost {
            for suffix in ["", "-wal", "-shm"] {
                fs::remove_file(shop.path(&format!("state/shop.sqlite{suffix}"))).ok();
            }
            assert_eq!(shop.run(&[], None).0, Some(3), "{point}");
            shop.completes(&["--new"]);
        } else {
            shop.completes(&[]);
        }
        assert_eq!(builds(&known), 1, "{point}, lost: {lost}");
    }
}

#[test]
fn c8_a_build_that_failed_stops_the_run_and_the_next_one_builds_anew() {
    let (part, known) = jenkins("shell: a");
    known.lock().unwrap().verdicts = vec!["FAILURE", "ABORTED", "SUCCESS"];
    let shop = jenkins_shop(&part);
    for (number, verdict) in [(1, "FAILURE"), (2, "ABORTED")] {
        let (code, said) = shop.run(&[], None);
        assert_eq!(code, Some(5), "{said}");
        let ended = format!("build {number} of job `shop/resync` ended with {verdict}");
        assert!(said.contains(&ended), "{said}");
        assert!(!said.contains("geheim"), "{said}");
    }
    let console = fs::read_to_string(shop.path("state/shop.sqlite.finish-1.log")).unwrap();
    assert_eq!(console, "step 1\nstep 2 with ***\n");
    shop.completes(&[]);
    assert_eq!(builds(&known), 3);
}

#[test]
#[cfg(feature = "failpoints")]
fn c8_a_build_that_was_cancelled_in_the_queue_stops_the_run_and_the_next_one_asks_again() {
    let (part, known) = jenkins("shell: a");
    known.lock().unwrap().cancelled = 1;
    let shop = jenkins_shop(&part);
    let words = ["run", "shop.yaml", "--single-process"];
    let mut command = shop.command(&words, None);
    // Half a minute otherwise.
    command.env("RK_SET", "jenkins_look_ms:50,jenkins_grace_ms:150");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{said}");
    for part in [
        "step 1 of `finish` (jenkins_build shop/resync) could not be done",
        "is neither in the queue nor among the builds: it was cancelled",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(builds(&known), 1, "a build that may still come");
    shop.completes(&[]);
    assert_eq!(builds(&known), 2);
}

#[test]
#[cfg(feature = "failpoints")]
fn c8_a_build_that_shows_late_is_waited_for() {
    let (part, known) = jenkins("shell: a");
    known.lock().unwrap().unseen = 2;
    let shop = jenkins_shop(&part);
    let mut command = shop.command(&["run", "shop.yaml", "--single-process"], None);
    let output = command
        .env("RK_SET", "jenkins_look_ms:50")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!((builds(&known), known.lock().unwrap().unseen), (1, 0));
}

#[test]
fn a_job_of_somebody_else_is_copied_from_and_never_overwritten() {
    let theirs = "<project><description>Nightly</description><builders><hudson.tasks.Shell><command>vendor/bin/console \
                  queue:worker:start &gt; log</command></hudson.tasks.Shell></builders></project>";
    let (part, known) = jenkins("shell_from: nightly");
    known
        .lock()
        .unwrap()
        .jobs
        .insert("/job/nightly".to_owned(), theirs.to_owned());
    jenkins_shop(&part).completes(&[]);
    let copied = known.lock().unwrap().jobs["/job/shop/job/resync"].clone();
    assert!(
        copied.contains("queue:worker:start &gt; log</command>"),
        "{copied}"
    );
    let (part, known) = jenkins("shell: a");
    known
        .lock()
        .unwrap()
        .jobs
        .insert("/job/shop/job/resync".to_owned(), theirs.to_owned());
    let (code, said) = jenkins_shop(&part).run(&[], None);
    assert_eq!(code, Some(5), "{said}");
    assert!(
        said.contains("was not made by rekindle: it is not overwritten"),
        "{said}"
    );
    assert!(known.lock().unwrap().changes.is_empty());
}

#[tokio::test]
#[cfg(feature = "failpoints")]
async fn undo_refuses_where_there_is_more_to_reverse_than_was_shown() {
    let shop = Shop::new(STEPS);
    assert_eq!(shop.run(&[], Some("step_done:1:kill")).0, None);
    let (path, state) = (shop.path("shop.yaml"), shop.path("state/shop.sqlite"));
    let ledger = View::open(&state).unwrap().unwrap().runs().unwrap();
    let shown = WayBack::known(&ledger).unwrap();
    assert_eq!(shown.steps.len(), 1);
    // It goes on while a person reads that list.
    shop.completes(&[]);
    let calls = shop.calls();
    let plan = plan::load(&path, &|_| None).unwrap().plan;
    let actions = cutover::connect(&plan, &state, cutover::Purpose::Act).unwrap();
    let told = |news| panic!("{news:?}");
    let undone = engine::undo(&plan, &actions, &state, "shop.yaml", &shown, told).await;
    let failure = undone.unwrap_err();
    assert_eq!(failure.exit, Exit::Refused, "{failure:?}");
    assert!(
        failure.what.contains("no longer what was shown"),
        "{failure:?}"
    );
    assert_eq!(shop.calls(), calls);
    // What is shown now is reversed.
    let (code, said) = shop.said(&["undo", "shop.yaml", "--yes"], None);
    assert_eq!(code, Some(0), "{said}");
    assert!(!shop.has("warm") && !shop.has("migrated"), "{said}");
}

#[test]
fn a_signal_in_a_step_of_finish_says_what_is_safe() {
    let shop = Shop::new(
        "finish: [{ shell: { run: \"touch begun; while :; do sleep 0.1; done\", repeatable: true } }]\n",
    );
    let child = shop
        .command(&["run", "shop.yaml", "--single-process"], None)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !shop.has("begun") {
        assert!(begun.elapsed() < Duration::from_secs(30), "never begun");
        thread::sleep(Duration::from_millis(10));
    }
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(
        said.contains("every row is in its target; the steps that are done are journaled"),
        "{said}"
    );
}

#[test]
fn a_command_that_outlives_its_program_is_waited_for_and_not_begun_beside_itself() {
    // It replaces its shell and its stdin, as `exec mysql < dump` does.
    let run = "exec sh -c 'echo begin >> calls; while test ! -e go; do sleep 0.02; done; echo end >> calls; touch migrated' < /dev/null";
    let shop = Shop::new(&format!(
        "prepare: [{{ shell: {{ run: \"{run}\", check: \"echo check >> calls; test -e migrated\" }} }}]\n"
    ));
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
            thread::sleep(Duration::from_millis(10));
        }
    };
    let mut first = shop.starts();
    until("begun", &|| shop.calls().contains(&"begin".to_owned()));
    first.kill().unwrap();
    first.wait().unwrap();
    let second = shop
        .command(&["run", "shop.yaml", "--single-process"], None)
        .stdout(Stdio::null())
        .stderr(fs::File::create(shop.path("said")).unwrap())
        .spawn()
        .unwrap();
    let said = || fs::read_to_string(shop.path("said")).unwrap();
    until("waited for", &|| {
        said().contains("is still at work: it is waited for")
    });
    // A dry run beside it says so, and waits for nobody.
    let (_, said) = shop.said(&["run", "shop.yaml", "--dry-run"], None);
    assert!(said.contains("is still at work"), "{said}");
    assert_eq!(shop.calls(), ["check", "begin"]);
    fs::write(shop.path("go"), "").unwrap();
    ends(second, 0);
    assert_eq!(shop.calls(), ["check", "begin", "end", "check"]);
    assert!(!shop.has("state/shop.sqlite.command.lock"));
}

#[test]
fn an_answer_names_its_question_and_who_gave_it_before() {
    let shop = Shop::new(ASKS);
    let child = shop.starts();
    shop.waits_for(1, "intent");
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    ends(child, 130);
    for words in ["approved: does it look right?", "approved already by "] {
        let (code, said) = shop.said(&["approve", "shop.yaml"], None);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(words), "{words}: {said}");
    }
    shop.completes(&[]);
    assert!(shop.has("after"));
}

#[test]
fn a_dry_run_leaves_nothing_behind_where_a_check_cannot_tell() {
    let shop = Shop::new(
        "prepare: [{ shell: { run: \"touch ran\", check: \"no-such-program-anywhere\" } }]\n",
    );
    let (_, said) = shop.said(&["run", "shop.yaml", "--dry-run"], None);
    assert!(said.contains("says neither yes nor no"), "{said}");
    assert!(!shop.has("state") && !shop.has("ran"));
}

#[test]
fn a_log_shows_no_secret_of_a_variable_and_gives_a_terminal_no_orders() {
    let steps = "prepare: [{ shell: { run: \"echo ${DB}; echo $AWS_SECRET_ACCESS_KEY; printf 'a\\\\033[2Jb\\\\n'; exit 3\", repeatable: true } }]\n";
    let shop = Shop::new(steps);
    let mut command = shop.command(&["run", "shop.yaml", "--single-process"], None);
    let output = command
        .env("DB", "mysql://shop:geheim-4711@db.test/shop")
        .env("AWS_SECRET_ACCESS_KEY", "geheim-4712")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{said}");
    let log = fs::read_to_string(shop.path("state/shop.sqlite.prepare-1.log")).unwrap();
    assert_eq!(log, "***\n***\na\\u{1b}[2Jb\n");
}
