//! The journal as the engine and the commands use it: what is recorded comes back, what is damaged is refused.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use proptest::prelude::*;
use rekindle::{
    cursor::{Cursor, KeyRange, KeyValue},
    ids::{ChunkSeq, PartitionId, ResourceName, RunId, StepNumber},
    journal::{
        DeadLetterFilter, Journal, JournalError, Limits, Migration, Notice, OpenMode, Settings,
        View,
    },
    machine::{
        AttemptEnd, DeadLetter, Event, FallbackEvent, HandoverScope, IdChunk, Ledger,
        PartitionEvent, PartitionPlan, PlannedResource, PlannedStep, Predecessors, Progress,
        ResourceEvent, RunEvent, Scope, StepEvent, StepPlace, Watermark,
    },
};

/// A state file in a folder of its own.
struct Rig {
    folder: tempfile::TempDir,
    settings: Settings,
}

impl Rig {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            // The usual wait: a process that another test starts holds every lock of this one until it executes.
            settings: Settings::default(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("shop.sqlite")
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        self.folder.path().join(format!("shop.sqlite{suffix}"))
    }

    fn try_open(&self) -> Result<(Journal, Ledger, Vec<Notice>), JournalError> {
        Journal::open_with(&self.path(), OpenMode::Normal, self.settings)
    }

    fn open(&self) -> (Journal, Ledger, Vec<Notice>) {
        self.try_open().unwrap()
    }

    fn refused(&self) -> JournalError {
        match self.try_open() {
            Ok((_, ledger, notices)) => panic!("opened: {notices:?} {ledger:?}"),
            Err(error) => error,
        }
    }

    fn begin_anew(&self) -> (Journal, Ledger, Vec<Notice>) {
        Journal::open_with(&self.path(), OpenMode::NewAfterRefusal, self.settings).unwrap()
    }

    /// Records a run with `chunks` chunks, and leaves files as a killed process leaves them.
    fn killed_after(&self, chunks: u64) -> Ledger {
        let (journal, mut ledger, _) = self.open();
        let mut write = |events: Vec<Event>| record(&journal, &mut ledger, events);
        write(begin("RUN222"));
        for chunk in 1..=chunks {
            write(vec![stored(1, chunk)]);
        }
        wait(journal.write_marker()).unwrap();
        self.abandon(journal);
        ledger
    }

    /// Ends the journal's thread, with the files as they were before it could tidy up.
    fn abandon(&self, journal: Journal) {
        let kept = tempfile::tempdir().unwrap();
        for suffix in ["", "-wal", ".marker"] {
            let from = self.beside(suffix);
            if from.exists() {
                fs::copy(&from, kept.path().join(format!("copy{suffix}"))).unwrap();
            }
        }
        let _ = wait(journal.close());
        for suffix in ["", "-wal", ".marker"] {
            let from = kept.path().join(format!("copy{suffix}"));
            if from.exists() {
                fs::copy(from, self.beside(suffix)).unwrap();
                restrict(&self.beside(suffix));
            }
        }
    }

    /// Changes the closed database behind the journal's back.
    fn sql(&self, sql: &str) {
        let connection = rusqlite::Connection::open(self.path()).unwrap();
        connection.execute_batch(sql).unwrap();
    }

    fn bytes(&self) -> BTreeMap<String, Vec<u8>> {
        fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let name = entry.file_name().to_string_lossy().into_owned();
                (name, fs::read(entry.path()).unwrap())
            })
            .collect()
    }
}

fn restrict(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn record(journal: &Journal, ledger: &mut Ledger, events: impl Into<Vec<Event>>) {
    let events = events.into();
    let recorded = wait(journal.record(events.clone())).unwrap();
    for event in events {
        ledger.apply(recorded.at_ms, &event).unwrap();
    }
}

fn key(value: u64) -> Cursor {
    Cursor::single(KeyValue::Uint(value))
}

fn planned(run: &str) -> Event {
    let resource = |name: &str| PlannedResource {
        name: name.into(),
        definition: format!("{{\"name\":\"{name}\"}}"),
        skipped: false,
    };
    Event::RunPlanned {
        run: RunId::from_text(run),
        scope: Scope::default(),
        resources: vec![resource("url"), resource("price")],
        steps: Vec::new(),
        instead_of: Predecessors::default(),
    }
}

/// Returns a run that is opened with steps, in the place of a lost one.
fn planned_with_steps(run: &str) -> Event {
    let mut planned = planned(run);
    if let Event::RunPlanned {
        steps, instead_of, ..
    } = &mut planned
    {
        *instead_of = Predecessors::from("LOST22 LOST23".to_owned());
        steps.extend([step(StepPlace::Prepare, 1), step(StepPlace::Finish, 2)]);
    }
    planned
}

fn step(place: StepPlace, number: u8) -> PlannedStep {
    PlannedStep {
        place,
        title: format!("shell {number}"),
        definition: format!("{{\"shell\":{number}}}"),
        id: None,
    }
}

fn attempt(run: &str, attempt: u32) -> Event {
    Event::AttemptStarted {
        run: RunId::from_text(run),
        attempt,
        pid: 4121,
        host: "batch-2".into(),
        version: "0.1.0".into(),
        in_flight_bytes: 24 << 20,
    }
}

fn bound(run: &str, resource: &str, partitions: std::ops::RangeInclusive<u64>) -> Event {
    Event::ResourceBound {
        run: RunId::from_text(run),
        resource: resource.into(),
        columns: "id:int,value:text".into(),
        estimated_rows: 300_000,
        incarnation: None,
        watermark: (resource == "url").then(|| Watermark {
            column: "updated_at".into(),
            value: KeyValue::Timestamp("2026-02-28 23:55:00.000000".into()),
        }),
        partitions: (1..)
            .zip(partitions)
            .map(|(ordinal, id)| PartitionPlan {
                id: PartitionId(id),
                ordinal,
                range: KeyRange {
                    after: (ordinal > 1).then(|| key(id * 1_000_000)),
                    until: key((id + 1) * 1_000_000),
                },
                page_rows: 1000,
            })
            .collect(),
    }
}

/// Opens a run and binds its first resource to the partitions 1 and 2.
fn begin(run: &str) -> Vec<Event> {
    let moved = |event| Event::Run {
        run: RunId::from_text(run),
        event,
    };
    vec![
        planned(run),
        attempt(run, 1),
        moved(RunEvent::Prepare),
        moved(RunEvent::Restore),
        bound(run, "url", 1..=2),
    ]
}

fn progress(chunk: u64) -> Progress {
    Progress {
        chunk: ChunkSeq(chunk),
        after: Some(key(chunk * 1000)),
        rows: chunk * 1000,
        bytes: chunk * 450_000,
        dead_letters: 0,
        length: Some(chunk * 500),
        page_rows: 1000,
    }
}

fn stored(partition: u64, chunk: u64) -> Event {
    Event::Chunk {
        partition: PartitionId(partition),
        progress: progress(chunk),
        dead_letters: Vec::new(),
    }
}

fn letters(partition: u64, chunk: u64, count: u64) -> Event {
    Event::Chunk {
        partition: PartitionId(partition),
        progress: Progress {
            dead_letters: count,
            ..progress(chunk)
        },
        dead_letters: (0..count)
            .map(|n| DeadLetter {
                cursor: key(chunk * 1000 - n),
                key: (n % 2 == 0).then(|| format!("url:{n}")),
                kind: "row_broken".into(),
                reason: "value is NULL".into(),
                entity: (n % 3 == 0).then(|| n.to_string()),
            })
            .collect(),
    }
}

fn rewound(partition: u64, to: Progress) -> Event {
    Event::Partition {
        partition: PartitionId(partition),
        event: PartitionEvent::Rewound(to),
    }
}

fn started_over(run: &str, resource: &str) -> Event {
    Event::Resource {
        run: RunId::from_text(run),
        resource: resource.into(),
        event: ResourceEvent::StartedOver {
            reason: "the target is empty".into(),
            void: true,
        },
    }
}

#[test]
fn what_is_recorded_comes_back() {
    let rig = Rig::new();
    let (journal, mut ledger, notices) = rig.open();
    assert_eq!((ledger.clone(), notices), (Ledger::default(), vec![]));
    record(&journal, &mut ledger, begin("RUN222"));
    for chunk in 1..=3 {
        record(&journal, &mut ledger, vec![letters(1, chunk, chunk)]);
    }
    record(&journal, &mut ledger, vec![rewound(1, progress(2))]);
    record(
        &journal,
        &mut ledger,
        vec![Event::AttemptEnded {
            run: RunId::from_text("RUN222"),
            end: AttemptEnd::Interrupted,
        }],
    );
    let state = journal.state_id().to_owned();
    wait(journal.close()).unwrap();
    assert!(!rig.beside("-wal").exists());

    let (journal, again, notices) = rig.open();
    assert_eq!((again, notices), (ledger, vec![]));
    assert_eq!(journal.state_id(), state);
}

#[test]
fn what_was_recorded_before_a_kill_comes_back() {
    let rig = Rig::new();
    let ledger = rig.killed_after(5);
    assert!(rig.beside("-wal").metadata().unwrap().len() > 0);
    let (_journal, again, notices) = rig.open();
    assert_eq!((again, notices), (ledger, vec![]));
}

// Damage.

#[test]
fn a_torn_tail_of_the_log_only_repeats_chunks() {
    let rig = Rig::new();
    let ledger = rig.killed_after(20);
    let wal = fs::OpenOptions::new()
        .write(true)
        .open(rig.beside("-wal"))
        .unwrap();
    wal.set_len(wal.metadata().unwrap().len() - 2000).unwrap();
    let (journal, again, notices) = rig.open();
    let [notice @ Notice::Behind { events }] = &notices[..] else {
        panic!("{notices:?}");
    };
    assert_eq!(*events, 1);
    assert!(notice.to_string().contains("1 event behind its marker"));
    let chunk = |ledger: &Ledger| ledger.partition(PartitionId(1)).unwrap().2.stored();
    assert_eq!(chunk(&again), ChunkSeq(19));
    assert_eq!(chunk(&ledger), ChunkSeq(20));
    wait(journal.record(vec![stored(1, 20)])).unwrap();
    wait(journal.close()).unwrap();
    assert_eq!(rig.open().2, vec![]);
}

#[test]
fn a_state_file_behind_its_marker_is_refused() {
    type Damage = fn(&Rig);
    let cases: [(&str, Damage); 6] = [
        ("its write-ahead log is gone", |rig| {
            fs::remove_file(rig.beside("-wal")).unwrap();
        }),
        ("its write-ahead log is gone", |rig| {
            fs::write(rig.beside("-wal"), "").unwrap();
        }),
        ("the state file is empty", |rig| {
            fs::write(rig.path(), "").unwrap();
        }),
        ("the state file is missing", |rig| {
            fs::remove_file(rig.path()).unwrap();
        }),
        ("the state file is missing", |rig| {
            fs::remove_file(rig.path()).unwrap();
            fs::remove_file(rig.beside("-wal")).unwrap();
        }),
        ("the state file holds no tables", |rig| {
            fs::remove_file(rig.path()).unwrap();
            fs::remove_file(rig.beside("-wal")).unwrap();
            rig.sql("PRAGMA journal_mode = WAL");
        }),
    ];
    for (why, damage) in cases {
        let rig = Rig::new();
        rig.killed_after(5);
        damage(&rig);
        let before = rig.bytes();
        for error in [
            rig.refused(),
            View::open(&rig.path())
                .and_then(|view| view.unwrap().ledger())
                .unwrap_err(),
        ] {
            let JournalError::Behind { what, run, .. } = &error else {
                panic!("{why}: {error:?}");
            };
            assert!(what.contains(why), "{what}");
            assert_eq!(*run, Some(RunId::from_text("RUN222")));
            assert!(error.next().contains("rekindle run --new PLAN"));
        }
        assert_refused_unchanged(&rig, before);

        let (_journal, ledger, notices) = rig.begin_anew();
        assert_eq!(ledger, Ledger::default());
        let [
            Notice::StartedAnew {
                old_run, moved_to, ..
            },
        ] = &notices[..]
        else {
            panic!("{notices:?}");
        };
        assert_eq!(*old_run, Some(RunId::from_text("RUN222")));
        assert_eq!(
            *moved_to,
            rig.folder
                .path()
                .canonicalize()
                .unwrap()
                .join("shop.sqlite.damaged-1")
        );
        assert!(rig.beside(".damaged-1.marker").exists());
    }
}

#[test]
fn what_a_lost_state_file_left_is_known_until_a_run_answers_for_it() {
    let rig = Rig::new();
    rig.killed_after(5);
    fs::remove_file(rig.path()).unwrap();
    fs::remove_file(rig.beside("-wal")).unwrap();
    let is_left = |notices: &[Notice]| match notices {
        [Notice::StartedAnew { left, .. } | Notice::NotBegun { left }] => {
            left.to_string() == "RUN222"
        }
        _ => false,
    };
    // Killed before its run began, and again.
    let (journal, _, notices) = rig.begin_anew();
    assert!(is_left(&notices), "{notices:?}");
    rig.abandon(journal);
    let (journal, _, notices) = rig.open();
    assert!(is_left(&notices), "{notices:?}");
    rig.abandon(journal);
    // Killed between the old state and the new one.
    fs::remove_file(rig.path()).unwrap();
    fs::remove_file(rig.beside("-wal")).ok();
    assert!(matches!(rig.refused(), JournalError::Behind { .. }));
    let (journal, mut ledger, notices) = rig.begin_anew();
    assert!(is_left(&notices), "{notices:?}");
    record(&journal, &mut ledger, begin("RUN333"));
    wait(journal.close()).unwrap();
    assert_eq!(rig.open().2, vec![]);
}

/// A refusal may leave `SQLite`'s shared memory and the lock line, nothing else.
fn assert_refused_unchanged(rig: &Rig, mut before: BTreeMap<String, Vec<u8>>) {
    let mut after = rig.bytes();
    for files in [&mut before, &mut after] {
        files.remove("shop.sqlite-shm");
        files.remove("shop.sqlite.lock");
        files.retain(|name, bytes| name != "shop.sqlite-wal" || !bytes.is_empty());
    }
    assert!(before == after);
}

#[test]
fn a_log_without_its_state_file_is_refused_also_without_a_marker() {
    let rig = Rig::new();
    rig.killed_after(5);
    fs::remove_file(rig.beside(".marker")).unwrap();
    fs::write(rig.path(), "").unwrap();
    assert!(matches!(rig.refused(), JournalError::Behind { .. }));
    assert!(rig.beside("-wal").metadata().unwrap().len() > 0);
}

#[test]
fn a_changed_row_is_refused_and_named() {
    let cases = [
        (
            "UPDATE event SET body = replace(body, '3000', '9000') WHERE seq = 8",
            "event 8",
        ),
        (
            "UPDATE event SET at_ms = at_ms + 1 WHERE seq = 2",
            "event 2",
        ),
        ("UPDATE event SET label = 'noted' WHERE seq = 2", "event 2"),
        ("UPDATE event SET partition = 2 WHERE seq = 8", "event 8"),
        ("UPDATE event SET run = 'RUN333' WHERE seq = 1", "event 1"),
        (
            "UPDATE event SET hash = zeroblob(16) WHERE seq = 4",
            "event 4",
        ),
        (
            "UPDATE event SET hash = zeroblob(3) WHERE seq = 4",
            "event 4",
        ),
        (
            "UPDATE event SET body = CAST(x'ff' AS TEXT) WHERE seq = 4",
            "event 4",
        ),
        ("DELETE FROM event WHERE seq = 6", "event 7"),
        ("DELETE FROM event WHERE seq = 1", "event 2"),
        (
            "DELETE FROM event WHERE seq = 10",
            "table `partition`, row 1",
        ),
        (
            "UPDATE partition SET chunk = 950",
            "table `partition`, row 1",
        ),
        (
            "UPDATE partition SET state = 'exhausted' WHERE id = 2",
            "table `partition`, row 2",
        ),
        (
            "DELETE FROM partition WHERE id = 2",
            "table `partition`, row 2",
        ),
        (
            "UPDATE resource SET state_body = '\"done\"' WHERE name = 'url'",
            "table `resource`, row RUN222/url",
        ),
        ("UPDATE run SET state = 'done'", "table `run`, row RUN222"),
        (
            "UPDATE attempt SET pid = 1",
            "table `attempt`, row RUN222/1",
        ),
        (
            "UPDATE meta SET value = '9' WHERE key = 'last_partition'",
            "table `meta`, row last_partition",
        ),
        (
            "DELETE FROM meta WHERE key = 'state'",
            "table `meta`, row state",
        ),
        (
            "UPDATE dead_letter SET reason = 'fine' WHERE n = 2",
            "table `dead_letter`, row of partition 1, chunk 5",
        ),
        (
            "DELETE FROM dead_letter WHERE n = 2",
            "table `dead_letter`, row of partition 1, chunk 5",
        ),
        (
            "DELETE FROM dead_letter",
            "table `dead_letter`, row of partition 1, chunk 5",
        ),
        (
            "INSERT INTO dead_letter VALUES ('RUN222', 'url', 2, 1, 1, '[]', NULL, 'k', 'r', 1, 0, NULL)",
            "table `dead_letter`, row of partition 2, chunk 1",
        ),
    ];
    let rig = Rig::new();
    let (journal, mut ledger, _) = rig.open();
    record(&journal, &mut ledger, begin("RUN222"));
    for chunk in 1..=4 {
        record(&journal, &mut ledger, vec![stored(1, chunk)]);
    }
    record(&journal, &mut ledger, vec![letters(1, 5, 3)]);
    wait(journal.close()).unwrap();
    let sound = fs::read(rig.path()).unwrap();
    for (sql, place) in cases {
        fs::write(rig.path(), &sound).unwrap();
        rig.sql(sql);
        let error = rig.refused();
        let JournalError::Damaged { row, .. } = &error else {
            panic!("{sql}: {error:?}");
        };
        assert_eq!(row, place, "{sql}");
        assert!(error.next().contains("rekindle run --new PLAN"));
    }
    fs::write(rig.path(), &sound).unwrap();
    assert_eq!(rig.open().1, ledger);
}

#[test]
fn a_changed_byte_of_the_file_is_refused_or_without_effect() {
    let rig = Rig::new();
    let (journal, mut ledger, _) = rig.open();
    record(&journal, &mut ledger, begin("RUN222"));
    for chunk in 1..=40 {
        record(&journal, &mut ledger, vec![letters(1, chunk, chunk % 2)]);
    }
    wait(journal.close()).unwrap();
    let sound = fs::read(rig.path()).unwrap();
    let mut refused = 0;
    for at in (0..sound.len()).step_by(211) {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x10;
        fs::write(rig.path(), bytes).unwrap();
        let _ = fs::remove_file(rig.beside("-wal"));
        let _ = fs::remove_file(rig.beside("-shm"));
        match rig.try_open() {
            Ok((journal, found, _)) => {
                assert_eq!(found, ledger, "byte {at}");
                wait(journal.close()).unwrap();
            }
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 50, "{refused}");
}

#[test]
fn a_lost_marker_is_written_again() {
    for (damage, expected) in [
        (None, Notice::MarkerMissing),
        (Some("{\"format\":1,"), Notice::MarkerUnreadable),
    ] {
        let rig = Rig::new();
        let ledger = rig.killed_after(5);
        match damage {
            None => fs::remove_file(rig.beside(".marker")).unwrap(),
            Some(text) => fs::write(rig.beside(".marker"), text).unwrap(),
        }
        let (journal, again, notices) = rig.open();
        assert_eq!((again, notices), (ledger, vec![expected]));
        wait(journal.close()).unwrap();
        assert_eq!(rig.open().2, vec![]);
    }
}

#[test]
fn the_marker_of_another_state_or_run_is_refused() {
    for (from, to, why) in [
        ("\"state\":\"", "\"state\":\"x", "it names state `x"),
        ("RUN222", "RUN999", "it names run RUN999"),
    ] {
        let rig = Rig::new();
        rig.killed_after(5);
        let text = fs::read_to_string(rig.beside(".marker")).unwrap();
        fs::write(rig.beside(".marker"), text.replace(from, to)).unwrap();
        let error = rig.refused();
        assert!(
            matches!(&error, JournalError::ForeignMarker { what, .. } if what.starts_with(why)),
            "{error:?}"
        );
    }
}

#[test]
fn a_sound_state_file_is_not_moved_aside() {
    let rig = Rig::new();
    let ledger = rig.killed_after(5);
    let (_journal, again, notices) = rig.begin_anew();
    assert_eq!((again, notices), (ledger, vec![]));
    assert!(!rig.beside(".damaged-1").exists());
}

#[test]
fn another_database_is_neither_used_nor_moved() {
    let rig = Rig::new();
    rig.sql("CREATE TABLE orders (id INTEGER PRIMARY KEY)");
    fs::set_permissions(rig.path(), fs::Permissions::from_mode(0o644)).unwrap();
    let before = fs::read(rig.path()).unwrap();
    assert!(matches!(rig.refused(), JournalError::NotOurs { .. }));
    let anew = Journal::open_with(&rig.path(), OpenMode::NewAfterRefusal, rig.settings);
    assert!(matches!(anew, Err(JournalError::NotOurs { .. })));
    fs::write(rig.path(), "to do: buy milk").unwrap();
    assert!(matches!(rig.refused(), JournalError::NotOurs { .. }));
    fs::write(rig.path(), &before).unwrap();
    assert!(matches!(rig.refused(), JournalError::NotOurs { .. }));
    assert!(fs::read(rig.path()).unwrap() == before);
    assert_eq!(rig.path().metadata().unwrap().mode() & 0o777, 0o644);
}

// Owners.

#[test]
fn the_second_on_a_state_file_is_told_who_the_first_is() {
    let rig = Rig::new();
    let (journal, mut ledger, _) = rig.open();
    record(&journal, &mut ledger, begin("RUN222"));
    let error = rig.refused();
    let JournalError::InUse {
        owner: Some(owner), ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!(owner.pid, std::process::id());
    assert_eq!(owner.run, Some(RunId::from_text("RUN222")));
    drop(journal);
}

/// Not a test of its own: the process that [`j8_a_killed_process_leaves_no_lock`] kills.
#[test]
#[ignore = "started by another test"]
fn child_that_holds_a_journal() {
    let path = PathBuf::from(std::env::var_os("RK_TEST_STATE").unwrap());
    let (journal, mut ledger, _) = Journal::open(&path, OpenMode::Normal).unwrap();
    record(&journal, &mut ledger, begin("RUN222"));
    record(&journal, &mut ledger, vec![stored(1, 1)]);
    writeln!(std::io::stdout(), "\nrecorded").unwrap();
    std::thread::sleep(Duration::from_mins(10));
}

fn child(path: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "journal::child_that_holds_a_journal"])
        .args(["--ignored", "--nocapture"])
        .env("RK_TEST_STATE", path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "recorded"));
    child
}

#[test]
fn j8_a_killed_process_leaves_no_lock() {
    let rig = Rig::new();
    let mut child = child(&rig.path());
    let JournalError::InUse {
        owner: Some(owner), ..
    } = rig.refused()
    else {
        panic!("not in use");
    };
    assert_eq!(owner.pid, child.id());
    let view = View::open(&rig.path()).unwrap().unwrap();
    assert_eq!(view.running().unwrap().pid, child.id());
    assert_eq!(view.last_events(None, 1).unwrap()[0].event, stored(1, 1));

    child.kill().unwrap();
    child.wait().unwrap();
    drop(view);
    let (_journal, ledger, notices) = rig.open();
    assert_eq!(notices, vec![]);
    assert_eq!(
        ledger.partition(PartitionId(1)).unwrap().2.stored(),
        ChunkSeq(1)
    );
}

/// Runs the child with a fail point until it ends; returns what the state file then adds up to.
#[cfg(feature = "failpoints")]
fn after_fail_point(point: &str) -> (Ledger, Vec<Notice>) {
    let rig = Rig::new();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "journal::child_that_holds_a_journal"])
        .args(["--ignored", "--nocapture"])
        .env("RK_TEST_STATE", rig.path())
        .env("RK_FAIL", point)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(!status.success(), "{point}");
    let (_journal, ledger, notices) = rig.open();
    (ledger, notices)
}

#[cfg(feature = "failpoints")]
#[test]
fn a_commit_happened_or_did_not_wherever_the_process_dies() {
    let stored = |ledger: &Ledger| {
        let partition = ledger.partition(PartitionId(1));
        partition.map(|(.., partition)| partition.stored().0)
    };
    for (point, expected) in [
        ("journal_before_commit:1:kill", None),
        ("journal_after_commit:1:kill", Some(0)),
        ("journal_before_commit:2:kill", Some(0)),
        ("journal_after_commit:2:kill", Some(1)),
        ("journal_before_commit:2:error", Some(0)),
        ("journal_after_commit:2:error", Some(1)),
        ("journal_before_commit:2:panic", Some(0)),
        ("marker_before_rename:1:kill", None),
        ("marker_before_rename:2:kill", Some(0)),
        ("marker_before_rename:2:error", Some(0)),
    ] {
        let (ledger, notices) = after_fail_point(point);
        assert_eq!((stored(&ledger), notices), (expected, vec![]), "{point}");
    }
}

#[test]
fn its_files_are_for_their_owner_alone() {
    let rig = Rig::new();
    let nested = rig.folder.path().join("state/deep/shop.sqlite");
    let mode = |path: &Path| path.metadata().unwrap().mode() & 0o777;
    fs::create_dir(rig.folder.path().join("state")).unwrap();
    fs::set_permissions(
        rig.folder.path().join("state"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    let (journal, ..) = Journal::open(&nested, OpenMode::Normal).unwrap();
    wait(journal.record(begin("RUN222"))).unwrap();
    for suffix in ["", "-wal", "-shm", ".marker", ".lock"] {
        let mut path = nested.clone().into_os_string();
        path.push(suffix);
        assert_eq!(mode(Path::new(&path)), 0o600, "{suffix}");
    }
    assert_eq!(mode(&rig.folder.path().join("state")), 0o755);
    wait(journal.close()).unwrap();

    fs::set_permissions(&nested, fs::Permissions::from_mode(0o644)).unwrap();
    let (journal, ..) = Journal::open(&nested, OpenMode::Normal).unwrap();
    assert_eq!(mode(&nested), 0o600);
    wait(journal.close()).unwrap();
}

#[test]
fn a_symbolic_link_in_the_place_of_a_file_is_refused() {
    for suffix in ["", "-wal", "-shm", "-journal", ".marker", ".lock"] {
        let rig = Rig::new();
        let elsewhere = rig.folder.path().join("precious");
        fs::write(&elsewhere, "keep").unwrap();
        std::os::unix::fs::symlink(&elsewhere, rig.beside(suffix)).unwrap();
        assert!(
            matches!(rig.refused(), JournalError::Symlink { .. }),
            "{suffix}"
        );
        assert!(matches!(
            View::open(&rig.path()),
            Err(JournalError::Symlink { .. })
        ));
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "keep");
    }
    let rig = Rig::new();
    let linked = rig.folder.path().join("linked");
    fs::create_dir(rig.folder.path().join("real")).unwrap();
    std::os::unix::fs::symlink(rig.folder.path().join("real"), &linked).unwrap();
    assert!(Journal::open(&linked.join("shop.sqlite"), OpenMode::Normal).is_ok());
}

// Writes that fail.

#[test]
fn a_full_disk_stops_cleanly_and_goes_on_once_there_is_room() {
    let mut rig = Rig::new();
    let (journal, mut ledger, _) = rig.open();
    record(&journal, &mut ledger, begin("RUN222"));
    wait(journal.close()).unwrap();
    let pages = rig.path().metadata().unwrap().len() / 4096;
    rig.settings.max_page_count = Some(u32::try_from(pages).unwrap() + 2);

    let (journal, ..) = rig.open();
    let mut chunk = 1;
    let error = loop {
        match wait(journal.record(vec![stored(1, chunk)])) {
            Ok(recorded) => ledger.apply(recorded.at_ms, &stored(1, chunk)).unwrap(),
            Err(error) => break error,
        }
        chunk += 1;
    };
    assert!(chunk > 2, "{chunk}");
    for error in [
        error,
        wait(journal.record(vec![stored(1, chunk)])).unwrap_err(),
        wait(journal.write_marker()).unwrap_err(),
        wait(journal.close()).unwrap_err(),
    ] {
        assert!(matches!(error, JournalError::DiskFull { .. }), "{error:?}");
        assert!(error.safe().starts_with("nothing is lost"));
        assert!(
            error.next().starts_with("free ") && error.next().ends_with("MB there and run again")
        );
    }

    rig.settings.max_page_count = None;
    let (journal, again, notices) = rig.open();
    assert_eq!((again, notices), (ledger, vec![]));
    wait(journal.record(vec![stored(1, chunk)])).unwrap();
}

#[test]
fn a_state_file_deleted_in_mid_run_is_noticed() {
    for suffix in ["", "-wal"] {
        let rig = Rig::new();
        let (journal, mut ledger, _) = rig.open();
        record(&journal, &mut ledger, begin("RUN222"));
        record(&journal, &mut ledger, vec![stored(1, 1)]);
        fs::remove_file(rig.beside(suffix)).unwrap();
        for _ in 0..2 {
            let error = wait(journal.record(vec![stored(1, 2)])).unwrap_err();
            assert!(matches!(error, JournalError::Deleted { .. }), "{error:?}");
        }
        let _ = wait(journal.close());
        assert!(
            matches!(rig.refused(), JournalError::Behind { .. }),
            "{suffix}"
        );
    }
}

#[test]
fn an_event_that_cannot_happen_is_refused_with_its_whole_record() {
    let rig = Rig::new();
    let (journal, mut ledger, _) = rig.open();
    record(&journal, &mut ledger, begin("RUN222"));
    let error = wait(journal.record(vec![stored(1, 1), stored(1, 3)])).unwrap_err();
    assert!(matches!(error, JournalError::Illegal(_)), "{error:?}");
    assert!(wait(journal.record(vec![stored(1, 1)])).is_err());
    let _ = wait(journal.close());
    assert_eq!(rig.open().1, ledger);
}

#[test]
fn a_closed_journal_says_so() {
    let rig = Rig::new();
    let (journal, ..) = rig.open();
    let other = journal.clone();
    wait(journal.close()).unwrap();
    let error = wait(other.record(begin("RUN222"))).unwrap_err();
    assert!(matches!(error, JournalError::Closed));
}

// Formats.

const NEXT: &[Migration] = &[Migration {
    from: 4,
    sql: "ALTER TABLE run ADD COLUMN colour TEXT",
}];
const BROKEN: &[Migration] = &[Migration {
    from: 4,
    sql: "ALTER TABLE run ADD COLUMN colour TEXT; ALTER TABLE nothing ADD COLUMN x TEXT",
}];

#[test]
fn an_older_format_is_migrated_after_a_copy_and_a_newer_one_refused() {
    let mut rig = Rig::new();
    let ledger = rig.killed_after(5);
    (rig.settings.format, rig.settings.migrations) = (5, NEXT);
    let (journal, again, notices) = rig.open();
    assert_eq!(again, ledger);
    let [
        Notice::Migrated {
            from: 4,
            to: 5,
            backup,
        },
    ] = &notices[..]
    else {
        panic!("{notices:?}");
    };
    assert!(backup.ends_with("shop.sqlite.format4.bak"));
    assert_eq!(backup.metadata().unwrap().mode() & 0o777, 0o600);
    record(&journal, &mut again.clone(), vec![stored(1, 6)]);
    wait(journal.close()).unwrap();

    (rig.settings.format, rig.settings.migrations) = (4, &[]);
    let before = rig.bytes();
    let error = rig.refused();
    assert!(matches!(
        error,
        JournalError::NewerFormat {
            found: 5,
            known: 4,
            ..
        }
    ));
    assert!(
        error
            .to_string()
            .ends_with("has format 5; this release knows formats up to 4")
    );
    assert!(matches!(
        View::open(&rig.path()),
        Err(JournalError::NewerFormat { .. })
    ));
    assert_refused_unchanged(&rig, before);

    // The copy is a whole state file of the old format.
    fs::rename(backup, rig.path()).unwrap();
    fs::remove_file(rig.beside(".marker")).unwrap();
    assert_eq!(rig.open().1, ledger);
}

#[test]
fn a_migration_that_fails_leaves_the_old_format() {
    let mut rig = Rig::new();
    let ledger = rig.killed_after(5);
    (rig.settings.format, rig.settings.migrations) = (5, BROKEN);
    let error = rig.refused();
    assert!(
        matches!(error, JournalError::Migration { from: 4, to: 5, .. }),
        "{error:?}"
    );
    (rig.settings.format, rig.settings.migrations) = (4, &[]);
    assert_eq!(rig.open().1, ledger);
}

#[test]
fn state_files_of_older_formats_are_brought_up_with_their_dead_letters() {
    // Each format with what it lacks.
    let since = [
        (
            3,
            "DROP TABLE step; ALTER TABLE run DROP COLUMN instead_of;",
        ),
        (2, "ALTER TABLE dead_letter DROP COLUMN entity;"),
        (1, "ALTER TABLE resource DROP COLUMN fallback;"),
    ];
    let mut make_old = String::new();
    for (format, lacks) in since {
        make_old += lacks;
        let rig = Rig::new();
        let (journal, mut ledger, _) = rig.open();
        record(&journal, &mut ledger, begin("RUN222"));
        let mut old_letters = letters(1, 1, 3);
        if let Event::Chunk { dead_letters, .. } = &mut old_letters {
            for letter in dead_letters {
                letter.entity = None;
            }
        }
        record(&journal, &mut ledger, vec![old_letters]);
        wait(journal.close()).unwrap();
        let old = rusqlite::Connection::open(rig.path()).unwrap();
        old.execute_batch(&format!("{make_old} PRAGMA user_version = {format}"))
            .unwrap();
        drop(old);
        let (journal, again, notices) = rig.open();
        assert_eq!(again, ledger, "format {format}");
        assert!(
            matches!(notices[..], [Notice::Migrated { from, to: 4, .. }] if from == format),
            "{notices:?}"
        );
        wait(journal.close()).unwrap();
        assert!(rig.open().2.is_empty());
    }
}

// Rewinds, dead letters, compaction.

#[test]
fn an_earlier_chunk_is_found_by_number_and_by_length() {
    let rig = Rig::new();
    let (journal, mut ledger, _) = rig.open();
    record(&journal, &mut ledger, begin("RUN222"));
    for chunk in 1..=6 {
        record(&journal, &mut ledger, vec![stored(1, chunk)]);
    }
    let by_chunk = |chunk| wait(journal.chunk_progress(PartitionId(1), ChunkSeq(chunk))).unwrap();
    let by_length = |length| wait(journal.chunk_by_length(PartitionId(1), length)).unwrap();
    assert_eq!(by_chunk(4), Some(progress(4)));
    assert_eq!(by_chunk(9), Some(progress(6)));
    assert_eq!(by_chunk(0), None);
    assert_eq!(by_length(2499), Some(progress(4)));
    assert_eq!(by_length(2500), Some(progress(5)));
    assert_eq!(by_length(499), None);
    assert_eq!(
        wait(journal.chunk_progress(PartitionId(2), ChunkSeq(1))).unwrap(),
        None
    );

    // What was rewound is void, also where nothing came after it.
    record(&journal, &mut ledger, vec![rewound(1, progress(3))]);
    assert_eq!(by_chunk(5), Some(progress(3)));
    assert_eq!(by_length(9999), Some(progress(3)));
    let shorter = Progress {
        length: Some(1600),
        ..progress(4)
    };
    record(
        &journal,
        &mut ledger,
        vec![Event::Chunk {
            partition: PartitionId(1),
            progress: shorter.clone(),
            dead_letters: vec![],
        }],
    );
    assert_eq!(by_chunk(5), Some(shorter.clone()));
    assert_eq!(by_length(9999), Some(shorter));
    record(
        &journal,
        &mut ledger,
        vec![rewound(1, Progress::begin(500))],
    );
    assert_eq!(by_chunk(5), None);
    assert_eq!(by_length(9999), None);
}

#[test]
fn dead_letters_vanish_with_what_brought_them() {
    let rig = Rig::new();
    let (journal, mut ledger, _) = rig.open();
    let run = RunId::from_text("RUN222");
    record(&journal, &mut ledger, begin("RUN222"));
    record(&journal, &mut ledger, vec![bound("RUN222", "price", 3..=3)]);
    for chunk in 1..=3 {
        record(&journal, &mut ledger, vec![letters(1, chunk, 2)]);
        record(&journal, &mut ledger, vec![letters(3, chunk, 1)]);
    }
    let count = |resource: &str| {
        wait(journal.dead_letter_count(&run, &ResourceName::from(resource))).unwrap()
    };
    assert_eq!((count("url"), count("price")), (6, 3));
    record(&journal, &mut ledger, vec![rewound(1, progress(1))]);
    assert_eq!((count("url"), count("price")), (2, 3));
    record(
        &journal,
        &mut ledger,
        vec![letters(1, 2, 4), started_over("RUN222", "price")],
    );
    assert_eq!((count("url"), count("price")), (6, 0));
    let changed = Event::PlanChanged {
        run: run.clone(),
        resources: vec![
            PlannedResource {
                name: "price".into(),
                definition: "{}".into(),
                skipped: false,
            },
            PlannedResource {
                name: "url".into(),
                definition: "{\"name\":\"url\"}".into(),
                skipped: false,
            },
        ],
        steps: Vec::new(),
    };
    record(&journal, &mut ledger, vec![changed.clone()]);
    assert_eq!(count("url"), 6);
    record(
        &journal,
        &mut ledger,
        vec![bound("RUN222", "price", 4..=4), letters(4, 1, 5)],
    );
    record(
        &journal,
        &mut ledger,
        vec![Event::DeadLettersDropped {
            resource: "url".into(),
            count: 6,
        }],
    );
    assert_eq!((count("url"), count("price")), (0, 5));
    let Event::PlanChanged { mut resources, .. } = changed else {
        unreachable!()
    };
    resources.remove(0);
    record(
        &journal,
        &mut ledger,
        vec![Event::PlanChanged {
            run: run.clone(),
            resources,
            steps: Vec::new(),
        }],
    );
    assert_eq!((count("url"), count("price")), (0, 0));
    wait(journal.close()).unwrap();
    assert_eq!(rig.open().1, ledger);
}

#[test]
fn compaction_keeps_the_ledger_the_chain_and_the_dead_letters() {
    let mut rig = Rig::new();
    rig.settings.limits = Limits {
        events: 60,
        bytes: 1 << 20,
        keep: 10,
    };
    let (journal, mut ledger, _) = rig.open();
    record(&journal, &mut ledger, begin("RUN222"));
    for chunk in 1..=200 {
        record(
            &journal,
            &mut ledger,
            vec![letters(1, chunk, u64::from(chunk % 20 == 0))],
        );
    }
    // Only the latest chunks can be gone back to; what the summary itself stood at is one of them.
    let find = |chunk| wait(journal.chunk_progress(PartitionId(1), ChunkSeq(chunk))).unwrap();
    assert_eq!(find(3), None);
    assert_eq!(find(199).map(|found| found.chunk), Some(ChunkSeq(199)));
    wait(journal.close()).unwrap();

    let (journal, again, notices) = rig.open();
    assert_eq!((again, notices), (ledger.clone(), vec![]));
    let url = ResourceName::from("url");
    let run = RunId::from_text("RUN222");
    assert_eq!(wait(journal.dead_letter_count(&run, &url)).unwrap(), 10);
    record(
        &journal,
        &mut ledger,
        vec![rewound(1, progress(198)), letters(1, 199, 3)],
    );
    wait(journal.close()).unwrap();

    let view = View::open(&rig.path()).unwrap().unwrap();
    let events = view.events(Some(&run), 0, 1000).unwrap();
    assert!(events.len() <= 80, "{}", events.len());
    assert!(matches!(events[0].event, Event::Compacted { .. }));
    assert_eq!(view.ledger().unwrap(), (ledger.clone(), None));
    drop(view);

    for sql in [
        "UPDATE event SET body = replace(body, '24', '25') WHERE seal IS NOT NULL",
        "UPDATE event SET hash = zeroblob(16) WHERE seal IS NOT NULL",
        "DELETE FROM event WHERE seal IS NOT NULL",
        "DELETE FROM dead_letter WHERE chunk = 20",
    ] {
        let sound = fs::read(rig.path()).unwrap();
        rig.sql(sql);
        assert!(
            matches!(rig.refused(), JournalError::Damaged { .. }),
            "{sql}"
        );
        fs::write(rig.path(), sound).unwrap();
    }
    assert_eq!(rig.open().1, ledger);
}

#[test]
fn ten_million_rows_stay_small() {
    let rig = Rig::new();
    let (journal, mut ledger, _) = rig.open();
    record(&journal, &mut ledger, begin("RUN222"));
    let mut largest = 0;
    // 10,000 chunks of 1,000 rows are 10 million rows; three times as many, and a file of that size never grows again.
    for batch in 0..300 {
        let events: Vec<_> = (1..=100).map(|n| stored(1, batch * 100 + n)).collect();
        record(&journal, &mut ledger, events);
        let length = |path: PathBuf| path.metadata().map_or(0, |found| found.len());
        largest = largest.max(length(rig.path()) + length(rig.beside("-wal")));
    }
    assert!(largest < 20 << 20, "{largest} bytes");
    wait(journal.close()).unwrap();
    let (_journal, again, notices) = rig.open();
    assert_eq!((again, notices), (ledger, vec![]));
}

// Looking without touching.

#[test]
fn a_look_at_nothing_creates_nothing() {
    let rig = Rig::new();
    assert!(View::open(&rig.path()).unwrap().is_none());
    assert!(
        View::open(&rig.folder.path().join("no/such.sqlite"))
            .unwrap()
            .is_none()
    );
    assert!(rig.bytes().is_empty());
}

#[test]
fn a_look_changes_no_byte() {
    let rig = Rig::new();
    let mut ledger = rig.killed_after(5);
    let look = |ledger: &Ledger| {
        let before = rig.bytes();
        let view = View::open(&rig.path()).unwrap().unwrap();
        assert_eq!(view.ledger().unwrap(), (ledger.clone(), None));
        assert_eq!(view.runs().unwrap(), *ledger);
        drop(view);
        assert!(rig.bytes() == before);
    };
    look(&ledger);
    assert!(
        View::open(&rig.path())
            .unwrap()
            .unwrap()
            .running()
            .is_none()
    );

    let (journal, ..) = rig.open();
    record(&journal, &mut ledger, vec![letters(1, 6, 3)]);
    let before = rig.bytes();
    let view = View::open(&rig.path()).unwrap().unwrap();
    assert_eq!(view.running().unwrap().pid, std::process::id());
    assert_eq!(view.runs().unwrap(), ledger);
    let filter = DeadLetterFilter {
        resource: Some("url".into()),
        ..DeadLetterFilter::default()
    };
    let page = view.dead_letters(&filter, 0, 2).unwrap();
    assert_eq!(page.len(), 2);
    assert_eq!(page[0].letter.key.as_deref(), Some("url:0"));
    assert_eq!(view.dead_letters(&filter, page[1].id, 2).unwrap().len(), 1);
    let other = DeadLetterFilter {
        run: Some(RunId::from_text("RUN333")),
        ..DeadLetterFilter::default()
    };
    assert!(view.dead_letters(&other, 0, 2).unwrap().is_empty());
    // The next look sees what was recorded since.
    record(&journal, &mut ledger, vec![stored(1, 7)]);
    assert_eq!(view.ledger().unwrap(), (ledger.clone(), None));
    drop(view);
    let after = rig.bytes();
    assert!(before["shop.sqlite"] == after["shop.sqlite"]);
    assert_eq!(
        before.keys().collect::<Vec<_>>(),
        after.keys().collect::<Vec<_>>()
    );
    wait(journal.close()).unwrap();
    look(&ledger);
}

#[test]
fn a_look_sees_which_index_the_latest_pass_of_a_resource_wrote_to() {
    let rig = Rig::new();
    let (journal, mut ledger, _) = rig.open();
    record(&journal, &mut ledger, begin("RUN222"));
    let moved = |event| Event::Resource {
        run: RunId::from_text("RUN222"),
        resource: "url".into(),
        event,
    };
    let handed = |event| Event::Fallback {
        run: RunId::from_text("RUN222"),
        resource: "url".into(),
        event,
    };
    let begun = |scope| {
        handed(FallbackEvent::Begun {
            scope,
            why: "rows are broken".into(),
            by: "sql".into(),
            of: 3,
        })
    };
    let bound_to = |id, index: &str| {
        handed(FallbackEvent::Bound {
            columns: "id:int,value:text".into(),
            estimated_rows: 3,
            incarnation: Some(index.into()),
            partitions: vec![PartitionPlan {
                id: PartitionId(id),
                ordinal: 9,
                range: KeyRange {
                    after: None,
                    until: key(100),
                },
                page_rows: 1000,
            }],
        })
    };
    let mut steps = [
        vec![
            begun(HandoverScope::Rows),
            moved(ResourceEvent::Triggered),
            bound_to(3, "not said"),
        ],
        vec![started_over("RUN222", "url")],
        vec![bound("RUN222", "url", 4..=4)],
        vec![
            begun(HandoverScope::Resource),
            moved(ResourceEvent::Triggered),
            bound_to(5, "new"),
        ],
    ]
    .into_iter();
    for (expected, watermark) in [
        (None, true),
        (None, false),
        (None, true),
        (Some("new"), true),
    ] {
        record(&journal, &mut ledger, steps.next().unwrap());
        let view = View::open(&rig.path()).unwrap().unwrap();
        let (seen, known) = (view.runs().unwrap(), &ledger.runs[0].resources[0]);
        assert_eq!(seen, ledger);
        assert_eq!(known.incarnation.as_deref(), expected);
        assert_eq!(known.watermark.is_some(), watermark);
    }
}

// Any run at all.

/// Returns a step of a resource's way through its publisher.
fn handed(ledger: &Ledger, pick: u8, number: u8) -> FallbackEvent {
    match number % 6 {
        0 => FallbackEvent::Begun {
            scope: if pick % 4 < 2 {
                HandoverScope::Resource
            } else {
                HandoverScope::Rows
            },
            why: "rows are broken".into(),
            by: "sql".into(),
            of: u64::from(number),
        },
        1 => FallbackEvent::Called(IdChunk {
            until: key(u64::from(number)),
            ids: 3,
            // As an older release wrote it, now and then.
            entities: (!pick.is_multiple_of(3)).then(|| vec![number.to_string()]),
        }),
        2 => FallbackEvent::Acknowledged,
        3 => FallbackEvent::Mended,
        _ => FallbackEvent::Bound {
            columns: "id:int,value:text".into(),
            estimated_rows: u64::from(number),
            incarnation: (number > 40).then(|| format!("index={number} {pick}")),
            partitions: vec![PartitionPlan {
                id: PartitionId(ledger.last_partition + 1),
                ordinal: 9,
                range: KeyRange {
                    after: None,
                    until: key(100_000),
                },
                page_rows: 1000,
            }],
        },
    }
}

/// Returns an event that `choice` picks and that could come next; the ledger decides whether it really can.
fn candidate(ledger: &Ledger, choice: (u8, u8, u8)) -> Option<Event> {
    let (kind, pick, number) = choice;
    let run_id = || ledger.runs.last().map(|run| run.id.clone());
    let resource = if pick % 2 == 0 { "url" } else { "price" };
    let partitions: Vec<_> = ledger
        .runs
        .iter()
        .flat_map(|run| &run.resources)
        .flat_map(|resource| &resource.partitions)
        .collect();
    let partition =
        (!partitions.is_empty()).then(|| partitions[usize::from(pick) % partitions.len()]);
    Some(match kind % 18 {
        0 => planned(&format!("RUN{:03}", ledger.runs.len())),
        1 => {
            let run = ledger.runs.last()?;
            attempt(
                run.id.as_str(),
                u32::try_from(run.attempts.len()).unwrap() + 1,
            )
        }
        2 => Event::AttemptEnded {
            run: run_id()?,
            end: AttemptEnd::Signal { number: 9 },
        },
        3 => Event::Run {
            run: run_id()?,
            event: RunEvent::ALL[usize::from(number) % RunEvent::ALL.len()],
        },
        4 => {
            let mut bound = bound(
                run_id()?.as_str(),
                resource,
                ledger.last_partition + 1..=ledger.last_partition + 1 + u64::from(number % 3),
            );
            if let Event::ResourceBound { incarnation, .. } = &mut bound {
                *incarnation = (number > 40).then(|| format!("index={number}"));
            }
            bound
        }
        5 => started_over(run_id()?.as_str(), resource),
        6 => {
            let samples = ResourceEvent::samples();
            Event::Resource {
                run: run_id()?,
                resource: resource.into(),
                event: samples[usize::from(number) % samples.len()].clone(),
            }
        }
        7 => rewound(partition?.id.0, progress(u64::from(number % 4))),
        8 => Event::Partition {
            partition: partition?.id,
            event: PartitionEvent::Suspected { page_rows: 500 },
        },
        9 => Event::Partition {
            partition: partition?.id,
            event: PartitionEvent::Exhausted,
        },
        10 => Event::DeadLettersDropped {
            resource: resource.into(),
            count: 1,
        },
        11 => plan_changed(run_id()?, pick, number),
        16 => planned_with_steps(&format!("RUN{:03}", ledger.runs.len())),
        17 => {
            let samples = StepEvent::samples();
            Event::Step {
                run: run_id()?,
                step: StepNumber(u32::from(pick % 2) + 1),
                event: samples[usize::from(number) % samples.len()].clone(),
            }
        }
        12 => Event::Identified {
            run: run_id()?,
            source: format!("mariadb {number}"),
            targets: BTreeMap::from([("storage".to_owned(), format!("redis {pick}"))]),
        },
        13 | 14 => Event::Fallback {
            run: run_id()?,
            resource: resource.into(),
            event: handed(ledger, pick, number),
        },
        _ => letters(
            partition?.id.0,
            partition?.stored().0 + 1,
            u64::from(number % 3),
        ),
    })
}

fn plan_changed(run: RunId, pick: u8, number: u8) -> Event {
    Event::PlanChanged {
        run,
        resources: (0..=number % 2)
            .map(|n| PlannedResource {
                name: if n == 0 { "url".into() } else { "price".into() },
                definition: format!(
                    "{{\"name\":\"{}\"}}",
                    if pick.is_multiple_of(3) {
                        "url"
                    } else {
                        "other"
                    }
                ),
                skipped: false,
            })
            .collect(),
        steps: vec![
            step(StepPlace::Prepare, 1),
            step(StepPlace::Prepare, number % 2),
        ],
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever happened, in whatever portions, over however many processes: it adds up to the same again.
    #[test]
    fn any_run_comes_back_equal(
        choices in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 1..160),
        portion in 1_usize..5,
        reopen in 5_usize..60,
    ) {
        let mut rig = Rig::new();
        rig.settings.limits = Limits { events: 25, bytes: 1 << 16, keep: 5 };
        let (mut journal, mut ledger, _) = rig.open();
        record(&journal, &mut ledger, begin("RUN222"));
        for (step, portion) in choices.chunks(portion).enumerate() {
            let mut ahead = ledger.clone();
            let mut events = Vec::new();
            for choice in portion {
                let Some(event) = candidate(&ahead, *choice) else {
                    continue;
                };
                let mut next = ahead.clone();
                if next.apply(0, &event).is_ok() {
                    ahead = next;
                    events.push(event);
                }
            }
            record(&journal, &mut ledger, events);
            if (step + 1) % reopen == 0 {
                if step % 2 == 0 {
                    wait(journal.close()).unwrap();
                } else {
                    rig.abandon(journal);
                }
                let (opened, again, notices) = rig.open();
                prop_assert_eq!((&again, notices), (&ledger, vec![]));
                journal = opened;
            }
        }
        wait(journal.close()).unwrap();
        // `status` and `--dry-run` take the tables' word for it.
        let view = View::open(&rig.path()).unwrap().unwrap();
        prop_assert_eq!(&view.runs().unwrap(), &ledger);
        drop(view);
        prop_assert_eq!(rig.open().1, ledger);
    }
}
