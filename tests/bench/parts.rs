//! What a chunk costs on its way, part by part, without servers: `make bench-values`.
//!
//! Building commands and bodies is measured through the file target, whose files are what would be sent; its system calls
//! count as well. The journal's commit is measured by the clock, for it waits for the disk.

use std::{future::Future, hint::black_box, path::Path, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rekindle::{
    chunk::Chunk,
    cursor::{Cursor, KeyRange, KeyValue},
    ids::{ChunkSeq, PartitionId, RunId},
    journal::{Journal, OpenMode},
    machine::{Event, PartitionPlan, PlannedResource, Predecessors, Progress, RunEvent, Scope},
    plan,
    target::{self, Extent, PartitionKey},
};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

const ROWS: u64 = 1_000;

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
}

fn chunk() -> Chunk {
    let mut chunk = Chunk::default();
    for id in 0..ROWS {
        let key = format!("product_abstract:de:de_de:{id}");
        let value = format!(
            r#"{{"id_product_abstract":{id},"text":"{}"}}"#,
            "x".repeat(410)
        );
        chunk.push(&[KeyValue::Uint(id)], key.as_bytes(), value.as_bytes(), &[]);
    }
    chunk
}

/// Writes one chunk into a file that is made anew each time; only the writing is measured.
fn building(criterion: &mut Criterion) {
    let folder = TempDir::new().expect("a folder");
    let text = format!(
        "version: 1\nname: parts\nsource: {{ url: 'sqlite:none.db' }}\ntargets:\n  resp: {{ file: {{ path: {0}/resp, format: resp }} }}\n  \
         ndjson: {{ file: {{ path: {0}/ndjson, format: ndjson, index: de_page }} }}\nresources:\n  \
         - {{ name: resp, from: {{ table: t, cursor: [id], key: key, value: data }}, to: resp }}\n  \
         - {{ name: ndjson, from: {{ table: t, cursor: [id], key: key, value: data }}, to: ndjson }}\n",
        folder.path().display()
    );
    let path = folder.path().join("parts.yaml");
    std::fs::write(&path, text).expect("written");
    let loaded = plan::load(&path, &|_| None)
        .unwrap_or_else(|problems| panic!("{}", problems.render(plan::Look::Plain, 100)));
    let runtime = runtime();
    let chunk = chunk();
    let mut group = criterion.benchmark_group("chunk of 1,000 rows");
    group.throughput(Throughput::Bytes(chunk.byte_count() as u64));
    for (name, shown) in [
        ("resp", "commands of Redis"),
        ("ndjson", "lines of a bulk body"),
    ] {
        let target = target::connect(name, &loaded.plan.targets[name]).expect("a folder");
        let partition = PartitionKey {
            resource: name.into(),
            id: PartitionId(1),
            ordinal: 1,
            extent: Extent::Whole,
        };
        let run = RunId::from_text("7F3K2M");
        group.bench_function(shown, |bencher| {
            bencher.iter_custom(|times| {
                let mut spent = Duration::ZERO;
                for _ in 0..times {
                    spent += runtime.block_on(async {
                        let mut writer = target
                            .writer(&run, &partition, ChunkSeq(0), None)
                            .await
                            .expect("a writer");
                        let begun = std::time::Instant::now();
                        black_box(writer.write(ChunkSeq(1), &chunk).await.expect("written"));
                        begun.elapsed()
                    });
                }
                spent
            });
        });
    }
    group.finish();
}

fn cursors(criterion: &mut Criterion) {
    let composite = Cursor(vec![
        KeyValue::Int(-7),
        KeyValue::Text("de_DE".to_owned()),
        KeyValue::Timestamp("2024-02-29 12:00:00.000001".to_owned()),
    ]);
    let mut group = criterion.benchmark_group("cursor");
    for (name, cursor) in [
        ("integer", Cursor::single(KeyValue::Uint(642_000))),
        ("three columns", composite),
    ] {
        let text = cursor.exact();
        assert_eq!(Cursor::from_exact(&text).as_ref(), Some(&cursor));
        group.bench_function(format!("{name}, written"), |bencher| {
            bencher.iter(|| black_box(&cursor).exact());
        });
        group.bench_function(format!("{name}, read"), |bencher| {
            bencher.iter(|| Cursor::from_exact(black_box(&text)));
        });
    }
    group.finish();
}

fn wait<T>(runtime: &Runtime, future: impl Future<Output = T>) -> T {
    runtime.block_on(future)
}

/// One chunk recorded and on disk, as a run does it a thousand times for a million rows.
fn commits(criterion: &mut Criterion) {
    let folder = TempDir::new_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("a folder");
    let runtime = runtime();
    let (journal, ..) =
        Journal::open(&folder.path().join("parts.sqlite"), OpenMode::Normal).expect("opens");
    let key = |value: u64| Cursor::single(KeyValue::Uint(value));
    let run = RunId::from_text("7F3K2M");
    let moved = |event| Event::Run {
        run: run.clone(),
        event,
    };
    let begin = vec![
        Event::RunPlanned {
            run: run.clone(),
            scope: Scope::default(),
            resources: vec![PlannedResource {
                name: "url".into(),
                definition: "{}".to_owned(),
                skipped: false,
            }],
            steps: Vec::new(),
            instead_of: Predecessors::default(),
        },
        Event::AttemptStarted {
            run: run.clone(),
            attempt: 1,
            pid: 1,
            host: "bench".to_owned(),
            version: "0".to_owned(),
            in_flight_bytes: 24 << 20,
        },
        moved(RunEvent::Prepare),
        moved(RunEvent::Restore),
        Event::ResourceBound {
            run: run.clone(),
            resource: "url".into(),
            columns: "id:int".to_owned(),
            estimated_rows: 1_000_000,
            incarnation: None,
            watermark: None,
            partitions: vec![PartitionPlan {
                id: PartitionId(1),
                ordinal: 1,
                range: KeyRange {
                    after: None,
                    until: key(u64::MAX),
                },
                page_rows: 1_000,
            }],
        },
    ];
    wait(&runtime, journal.record(begin)).expect("recorded");
    let mut chunk = 0;
    criterion.bench_function("journal: a chunk on disk", |bencher| {
        bencher.iter(|| {
            chunk += 1;
            let progress = Progress {
                chunk: ChunkSeq(chunk),
                after: Some(key(chunk * ROWS)),
                rows: chunk * ROWS,
                bytes: chunk * 450_000,
                dead_letters: 0,
                length: None,
                page_rows: 1_000,
            };
            let stored = Event::Chunk {
                partition: PartitionId(1),
                progress,
                dead_letters: Vec::new(),
            };
            wait(&runtime, journal.record(vec![stored])).expect("recorded");
        });
    });
    wait(&runtime, journal.close()).expect("closes");
}

criterion_group!(parts, cursors, building, commits);
criterion_main!(parts);
