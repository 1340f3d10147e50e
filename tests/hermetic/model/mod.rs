//! Seeded runs of the real engine and the real journal between edges in memory: a seed draws the shop, the plan, what
//! goes wrong, and when the process dies. However it went, in the end every row is in the store as the source has it.
//!
//! `RK_SEEDS=20000` tries so many, `RK_SEED=17` that one alone. A seed that failed once stays in [`KEPT`].

mod source;
mod target;
mod world;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rekindle::{
    engine::{Coordinator, Ending, Memory, Observers, OpenRun, RunChoice, open},
    failure::{Exit, Failure},
    journal::View,
    machine::Scope,
    plan::{self, Plan},
    target::Target,
};
use tempfile::TempDir;
use tokio::{runtime::Builder, sync::mpsc};

use source::{ModelSource, Table};
use target::{Content, ModelTarget, Store};
use world::{World, locked};

/// Seeds that found something once.
const KEPT: [u64; 0] = [];

/// More attempts than any of them needs: what does not end by then does not end.
const MOST_ATTEMPTS: u32 = 80;

/// How one attempt ended.
#[derive(Debug)]
enum Attempt {
    Killed,
    Ended(Ending),
    Refused(Failure),
}

/// What one seed draws.
struct Scene {
    seed: u64,
    world: Arc<World>,
    folder: TempDir,
    plan: Arc<Plan>,
    source: Arc<ModelSource>,
    store: Arc<Mutex<Store>>,
    dump: Arc<Mutex<Store>>,
    marks: bool,
    wanted: Content,
    nulls: u64,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let trouble = *random.choice(&[0, 40, 15, 6]).expect("some");
        // Nothing here is about disks.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        let folder = folder.expect("a folder");
        let (mut tables, mut wanted, mut nulls) = (BTreeMap::new(), Content::new(), 0);
        let mut resources = String::new();
        for number in 0..random.u32(1..=3) {
            let name = format!("t{number}");
            let mut table = Table::new();
            let mut id = random.i64(-50..50);
            for _ in 0..random.u32(0..250) {
                id += if random.u32(0..20) == 0 {
                    random.i64(1..900)
                } else {
                    1
                };
                let key = format!("{name}:{id}").into_bytes();
                let value = format!("{id}{}", "x".repeat(random.usize(0..40))).into_bytes();
                let row = match random.u32(0..60) {
                    0 => (None, Some(value)),
                    1 => (Some(key), None),
                    _ => {
                        wanted.insert(key.clone(), value.clone());
                        (Some(key), Some(value))
                    }
                };
                nulls += u64::from(row.0.is_none() || row.1.is_none());
                table.insert(id, row);
            }
            let after = if number > 0 && random.bool() {
                ", after: [t0]"
            } else {
                ""
            };
            resources += &format!(
                "  - {{ name: {name}, from: {{ table: {name}, cursor: [id], key: key, value: data }}{after} }}\n"
            );
            tables.insert(name, table);
        }
        let text = format!(
            "version: 1\nname: model\nsource: {{ url: \"sqlite:none\" }}\n\
             targets: {{ store: {{ redis: {{ url: \"redis://localhost/0\" }} }} }}\nresources:\n{resources}\
             defaults:\n  chunk: {{ rows: {} }}\n  parallel: {{ resources: {}, partitions: {} }}\n  \
             retry: {{ attempts: {}, base: 20ms, cap: 2s }}\n  dead_letters: {{ max: 100000, percent: 100 }}\n",
            random.u32(3..30),
            random.u32(1..=3),
            random.u32(1..=4),
            random.u32(1..=12),
        );
        let path = folder.path().join("model.yaml");
        std::fs::write(&path, text).expect("a plan");
        let plan = plan::load(&path, &|_| None).expect("a sound plan").plan;
        let world = World::new(random.u64(..), trouble);
        Self {
            seed,
            source: Arc::new(ModelSource {
                world: Arc::clone(&world),
                tables,
            }),
            world,
            folder,
            plan: Arc::new(plan),
            store: Arc::default(),
            dump: Arc::default(),
            marks: random.bool(),
            wanted,
            nulls,
        }
    }

    fn state(&self) -> std::path::PathBuf {
        self.folder.path().join("state/model.sqlite")
    }

    /// Carries out one attempt, on a clock that goes as fast as the work lets it.
    fn attempt(&self, stops: bool) -> Attempt {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let (hold, until_dropped) = std::sync::mpsc::channel::<()>();
        let ended = runtime.block_on(async {
            // Time would jump to the next timer whenever everybody waits for the journal, which is a thread of its own.
            let _busy = tokio::task::spawn_blocking(move || until_dropped.recv());
            tokio::spawn(async {
                loop {
                    for _ in 0..20 {
                        tokio::task::yield_now().await;
                    }
                    tokio::time::advance(Duration::from_millis(10)).await;
                }
            });
            tokio::select! {
                biased;
                () = self.world.death() => Attempt::Killed,
                ended = self.carry_out(stops) => ended,
            }
        });
        drop(hold);
        ended
    }

    async fn carry_out(&self, stops: bool) -> Attempt {
        let target: Arc<dyn Target> = Arc::new(ModelTarget {
            marks: self.marks,
            world: Arc::clone(&self.world),
            store: Arc::clone(&self.store),
            dump: Arc::clone(&self.dump),
        });
        let targets = BTreeMap::from([("store".to_owned(), target)]);
        let memory = Memory {
            in_flight_bytes: 64 * 1024,
            longest_row_bytes: 64 * 1024,
        };
        let (stop, mut signals) = mpsc::channel(1);
        let mut observers = Observers::new(Vec::new());
        let request = OpenRun {
            plan: Arc::clone(&self.plan),
            typed: "model.yaml".to_owned(),
            scope: Scope::default(),
            choice: RunChoice::Continue,
            accept_plan_change: false,
            state_path: self.state(),
            in_flight_bytes: memory.in_flight_bytes,
            source: Some(Arc::clone(&self.source) as _),
            targets: targets.clone(),
        };
        let opened = match open(request, &mut observers, &mut signals).await {
            Ok(opened) => opened,
            Err(failure) => return Attempt::Refused(failure),
        };
        let ending = Coordinator::new(
            Arc::clone(&self.plan),
            opened,
            &targets,
            memory,
            observers,
            signals,
        )
        .run();
        let stopping = async {
            if stops {
                tokio::time::sleep(Duration::from_millis(u64::from(self.world.draw(400)))).await;
                let _ = stop.send(()).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ending = ending => Attempt::Ended(ending),
            () = stopping => unreachable!("it waits for ever"),
        }
    }

    /// Runs until the run is done, and asserts what has to hold then.
    fn play(&self) -> Played {
        let mut played = Played::default();
        loop {
            assert!(
                played.attempts < MOST_ATTEMPTS,
                "seed {}: it never ends: {played:?}",
                self.seed
            );
            played.attempts += 1;
            // The last ones are let live, so that an end is possible at all.
            let lives = played.attempts > 30;
            self.world
                .dies_after((!lives && self.world.draw(3) > 0).then(|| self.world.draw(120)));
            let stops = !lives && self.world.draw(8) == 0;
            let ended = self.attempt(stops);
            self.world.dies_after(None);
            match ended {
                Attempt::Killed => played.kills += 1,
                Attempt::Ended(Ending::Interrupted { .. }) => played.stops += 1,
                Attempt::Ended(Ending::Blocked { bug: false, .. }) => played.blocks += 1,
                Attempt::Refused(failure) if failure.exit == Exit::Refused => played.blocks += 1,
                // Its last process is not quite gone.
                Attempt::Refused(failure) if failure.exit == Exit::InUse => self.wait_for_lock(),
                Attempt::Ended(Ending::Done { dead_letters, .. }) => {
                    assert_eq!(dead_letters, self.nulls, "seed {}: dead letters", self.seed);
                    break;
                }
                other => panic!("seed {}: {other:?} after {played:?}", self.seed),
            }
            // Between two attempts anybody may come.
            if self.world.draw(12) == 0 {
                self.world.note("stranger");
                locked(&self.store).written_by_another();
            }
        }
        self.assert_same(&played);
        played
    }

    /// A killed process lets go of its lock; here its thread does, in a moment.
    fn wait_for_lock(&self) {
        let begun = Instant::now();
        while View::open(&self.state())
            .ok()
            .flatten()
            .is_some_and(|view| view.running().is_some())
        {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "it keeps its lock"
            );
            thread::yield_now();
        }
    }

    fn assert_same(&self, played: &Played) {
        let store = locked(&self.store);
        let wrong: Vec<_> = self
            .wanted
            .iter()
            .filter(|(key, value)| store.rows.get(*key) != Some(value))
            .map(|(key, _)| key.escape_ascii().to_string())
            .take(5)
            .collect();
        assert!(
            wrong.is_empty(),
            "seed {}: {wrong:?} are not as the source has them, after {played:?}",
            self.seed
        );
        assert_eq!(
            store.rows.len(),
            self.wanted.len(),
            "seed {}: rows",
            self.seed
        );
        let view = View::open(&self.state())
            .expect("a state file")
            .expect("is there");
        let (ledger, _) = view.ledger().expect("it is whole");
        let run = ledger.runs.last().expect("a run");
        assert!(run.state.is_over(), "seed {}: {:?}", self.seed, run.state);
        let rows: u64 = run.resources.iter().map(|one| one.totals().0).sum();
        assert_eq!(
            rows,
            self.wanted.len() as u64 + self.nulls,
            "seed {}: rows journaled",
            self.seed
        );
    }
}

/// What became of a seed.
#[derive(Debug, Default)]
struct Played {
    attempts: u32,
    kills: u32,
    stops: u32,
    blocks: u32,
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}

#[test]
fn p2_whatever_a_seed_does_to_a_run_it_ends_with_every_row() {
    let seeds: Vec<u64> = match number("RK_SEED") {
        Some(seed) => vec![seed],
        None => KEPT
            .into_iter()
            .chain(0..number("RK_SEEDS").unwrap_or(200))
            .collect(),
    };
    let mut all = Played::default();
    let mut happened = BTreeMap::<&str, usize>::new();
    for seed in &seeds {
        let scene = Scene::new(*seed);
        let played = scene.play();
        all.attempts += played.attempts;
        all.kills += played.kills;
        all.stops += played.stops;
        all.blocks += played.blocks;
        for what in ["error", "flush", "older dump", "stranger"] {
            *happened.entry(what).or_default() += scene.world.count(what);
        }
    }
    eprintln!("{} seeds: {all:?}, {happened:?}", seeds.len());
    if seeds.len() >= 200 {
        // A model in which nothing happens proves nothing.
        assert!(all.kills > 100 && all.stops > 5, "{all:?}");
        assert!(happened.values().all(|count| *count > 0), "{happened:?}");
    }
}

/// A model that never failed proves nothing: defects that are built in have to show before the seeds are through.
#[cfg(feature = "mutants")]
#[test]
fn a_seed_notices_each_of_three_defects() {
    for mutant in ["journal_first", "ack_ignored", "cursor_off_by_one"] {
        let tried = std::process::Command::new(std::env::current_exe().expect("this program"))
            .args([
                "--exact",
                "model::p2_whatever_a_seed_does_to_a_run_it_ends_with_every_row",
            ])
            .env("RK_MUTANT", mutant)
            .env("RK_SEEDS", "600")
            .env("RUST_BACKTRACE", "0")
            .output()
            .expect("it starts");
        let said = String::from_utf8_lossy(&tried.stdout);
        assert!(!tried.status.success(), "{mutant}: nobody noticed\n{said}");
        assert!(said.contains("seed "), "{mutant}: {said}");
    }
}
