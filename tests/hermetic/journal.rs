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
    ids::{ChunkSeq, PartitionId, ResourceName, RunId},
    journal::{
        DeadLetterFilter, Journal, JournalError, Limits, Migration, Notice, OpenMode, Settings,
        View,
    },
    machine::{
        AttemptEnd, DeadLetter, Event, Ledger, PartitionEvent, PartitionPlan, PlannedResource,
        Progress, ResourceEvent, RunEvent, Scope,
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
            settings: Settings {
                lock_wait: Duration::ZERO,
                ..Settings::default()
            },
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

fn record(journal: &Journal, ledger: &mut Ledger, events: Vec<Event>) {
    let recorded = wait(journal.record(events.clone())).unwrap();
    for event in &events {
        ledger.apply(recorded.at_ms, event).unwrap();
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
