//! The loops: which calls and fail points are struck, and the score.

mod around;
mod mutants;

use std::{path::Path, process::Command, thread, time::Instant};

use nix::errno::Errno;
use tempfile::TempDir;

use crate::{
    broker::Vhost,
    jenkins::Jenkins,
    oracle,
    points::{Action, Choice, Ground, Lane, Loop, Tally, Target, World, count, go_through},
    redis_server::RedisServer,
    scene::Scene,
    search::Search,
    shop,
    tracer::{self, Blow, KINDS, Place, Watch, kind},
};

/// The fail points of the program.
pub const FAIL_POINTS: [&str; 30] = [
    "after_ack",
    "after_acknowledged",
    "after_applied",
    "after_call",
    "after_commit",
    "after_cut",
    "after_forget",
    "after_intent",
    "before_attempt",
    "before_bound",
    "before_compare",
    "before_consumed",
    "before_cut",
    "before_finish",
    "before_forget",
    "before_intent",
    "before_prune",
    "before_read",
    "before_remove",
    "before_step",
    "before_write",
    "journal_after_commit",
    "journal_before_commit",
    "marker_before_rename",
    "report",
    "step_asked",
    "step_done",
    "step_intended",
    "step_performed",
    "step_reversed",
];

/// Those that a restore into files or Redis does not pass, and the loops around steps or other tests kill at:
/// `tests/services/sharing.rs` around the cuts of keys without arithmetic, which the shop
/// here does not have, `tests/services/verify.rs` in a comparison, `tests/services/queues.rs` in a consumer,
/// `tests/hermetic/steps.rs` and `tests/services/rds.rs` around steps.
const STRUCK_ELSEWHERE: [&str; 13] = [
    "after_applied",
    "after_cut",
    "before_compare",
    "before_consumed",
    "before_cut",
    "before_prune",
    "before_remove",
    "before_step",
    "step_asked",
    "step_done",
    "step_intended",
    "step_performed",
    "step_reversed",
];

/// What the targets are called.
const TARGETS: [&str; 5] = ["files", "redis", "search", "queues", "steps"];

/// Most points of one loop in a sample.
const SAMPLE: u64 = 12;

/// Most points of one loop of the sample over runs that go on and are killed again.
const SAMPLE_AGAIN: u64 = 6;

/// Goes through all loops and keeps the score.
pub struct Enumerator {
    all: bool,
    seed: String,
    only: String,
    world: World,
    lanes: Vec<Lane>,
    /// Kept: the queues of the lanes end with it.
    _vhost: Option<Vhost>,
    /// How many calls of each of [`KINDS`] an undisturbed run makes, by target.
    counts: Vec<(&'static str, Vec<u64>)>,
    tallies: Vec<Tally>,
    /// How many defects were switched on.
    defects: usize,
    /// What was noticed of them.
    caught: Vec<String>,
    started: Instant,
}

impl Enumerator {
    /// Runs the plan undisturbed, for what it ends in and how many calls it makes.
    pub fn new(folder: &TempDir, server: &RedisServer) -> Self {
        let started = Instant::now();
        let all = match std::env::var("RK_ENUMERATOR").as_deref() {
            Ok("all") => true,
            Ok("sample") | Err(_) => false,
            Ok(other) => panic!("RK_ENUMERATOR is `{other}`; use sample or all"),
        };
        let only = std::env::var("RK_ENUMERATOR_ONLY").unwrap_or_default();
        // Whoever goes through loops of one target needs no server of another.
        let is_wanted = |to: &str| {
            let asked = TARGETS.iter().find(|to| only.starts_with(*to));
            asked.is_none_or(|asked| *asked == to)
        };
        let search = is_wanted("search").then(Search::shared);
        let vhost = is_wanted("queues").then(Vhost::create);
        let lane = |db| Lane {
            redis: server.url(db),
            jenkins: Jenkins::start(),
            queues: vhost.as_ref().map(|vhost| vhost.queues(db)),
            search,
        };
        // One more than cores: a run waits for its disk and its server now and then.
        let workers = thread::available_parallelism().map_or(2, |cores| cores.get() + 1);
        // A database each, never 0: a login has one step more then.
        let lanes: Vec<Lane> = (1..).map(lane).take(workers.min(60)).collect();
        let watches: Vec<Watch> = KINDS.iter().map(anywhere).collect();
        let mut world = World::new();
        let mut counts = Vec::new();
        for to in TARGETS {
            if !is_wanted(to) {
                continue;
            }
            let shop = match to {
                "search" | "queues" => shop::documents(),
                _ => shop::shop(),
            };
            let folder = folder.path().canonicalize().unwrap();
            let shop_path = folder.join(format!("{to}.db"));
            shop::write(&shop, &shop_path);
            let target = lanes[0].to(to);
            let scene = Scene::set(&shop_path, &target);
            let reference = oracle::reference(&shop, &scene, &target);
            // Its consumer would go on.
            drop(scene);
            counts.push((to, count(&shop_path, &target, &watches)));
            let ground = Ground {
                shop,
                shop_path,
                reference,
            };
            world.insert(to, ground);
        }
        Self {
            all,
            seed: seed(),
            only,
            world,
            lanes,
            _vhost: vhost,
            counts,
            tallies: Vec::new(),
            defects: 0,
            caught: Vec::new(),
            started,
        }
    }

    /// Says what there is to strike at.
    pub fn survey(&self) {
        println!(
            "enumerator: {}, seed {}, {} at once",
            if self.all { "every point" } else { "a sample" },
            self.seed,
            self.lanes.len()
        );
        for (to, counts) in &self.counts {
            let never: Vec<_> = KINDS
                .iter()
                .zip(counts)
                .filter(|(_, count)| **count == 0)
                .map(|(kind, _)| kind.name)
                .collect();
            println!("  {to}: never called: {}", never.join(", "));
        }
    }

    /// SIGKILL at the n-th call, a loop for each kind.
    pub fn kills(&mut self) {
        for (to, counts) in self.counts.clone() {
            if !["files", "redis"].contains(&to) {
                continue;
            }
            for (kind, count) in KINDS.iter().zip(counts) {
                if count > 0 {
                    let one = Loop::new(to, Target::Call(anywhere(kind), Blow::Kill));
                    let choice = self.choice(&one, count, SAMPLE);
                    self.go(&one, &choice);
                }
            }
        }
    }

    /// SIGKILL, and an error, at the n-th hit of each fail point.
    pub fn fail_points(&mut self) {
        for to in ["files", "redis"] {
            if !self.world.contains_key(to) {
                continue;
            }
            for name in FAIL_POINTS {
                if STRUCK_ELSEWHERE.contains(&name) {
                    continue;
                }
                let kill = Loop::new(to, Target::FailPoint(name, Action::Kill));
                let choice = if self.all {
                    Choice::All
                } else {
                    Choice::doubling(&self.seed, &kill.name())
                };
                let Some(points) = self.go(&kill, &choice) else {
                    continue;
                };
                assert!(!points.is_empty(), "{name} is never hit");
                let error = Loop::new(to, Target::FailPoint(name, Action::Error));
                self.go(&error, &Choice::Some(points));
            }
        }
    }

    /// The n-th call fails, or all from there on: disks that are full or broken, connections that are cut, a server
    /// that is gone.
    pub fn errors(&mut self) {
        use Blow::{Fail, FailFromThere};
        use Place::{Out, Socket, State};
        let both = [
            ("pwrite64", State, FailFromThere(Errno::ENOSPC)),
            ("pwrite64", State, Fail(Errno::EIO)),
            ("fsync", State, Fail(Errno::EIO)),
            ("write", State, FailFromThere(Errno::ENOSPC)),
            ("ftruncate", State, Fail(Errno::EIO)),
            ("rename", State, Fail(Errno::EIO)),
        ];
        let files = [
            ("write", Out, FailFromThere(Errno::ENOSPC)),
            ("fdatasync", Out, Fail(Errno::EIO)),
            ("ftruncate", Out, Fail(Errno::EIO)),
        ];
        let redis = [
            ("sendto", Socket, Fail(Errno::ECONNRESET)),
            ("recvfrom", Socket, Fail(Errno::ECONNRESET)),
            ("connect", Socket, FailFromThere(Errno::ECONNREFUSED)),
        ];
        for (to, own) in [("files", &files), ("redis", &redis)] {
            for &(name, place, blow) in both.iter().chain(own) {
                let watch = Watch {
                    kind: kind(name),
                    place,
                };
                let one = Loop::new(to, Target::Call(watch, blow));
                let choice = self.choice(&one, self.counted(to, watch), SAMPLE);
                self.go(&one, &choice);
            }
        }
    }

    /// The run that goes on after a kill is killed as well.
    pub fn kills_again(&mut self) {
        let starts = [
            ("files", "write", 3),
            ("files", "pwrite64", 2),
            ("redis", "recvfrom", 2),
            ("redis", "pwrite64", 3),
        ];
        for (to, name, part) in starts {
            let first = anywhere(kind(name));
            // Somewhere in the middle: a half, two thirds.
            let nth = (self.counted(to, first) * (part - 1) / part).max(1);
            for again in [
                "write", "pwrite64", "fsync", "rename", "unlink", "sendto", "recvfrom",
            ] {
                let watch = anywhere(kind(again));
                let total = self.counted(to, watch);
                if total == 0 {
                    continue;
                }
                let one = Loop {
                    after: Some((first, nth)),
                    ..Loop::new(to, Target::Call(watch, Blow::Kill))
                };
                // A run that goes on makes fewer calls or, where suspects are done alone, more.
                let choice = self.choice(&one, total, SAMPLE_AGAIN);
                self.go(&one, &choice);
            }
        }
    }

    /// Prints the score, and fails the test unless every point is right and every defect noticed.
    pub fn conclude(self) {
        let points: usize = self.tallies.iter().map(|tally| tally.points.len()).sum();
        let right: usize = self.tallies.iter().map(Tally::right).sum();
        for caught in &self.caught {
            println!("  caught: {caught}");
        }
        println!(
            "enumerator: {points} points, {right} right, {} of {} mutants caught, {:.0} s",
            self.caught.len(),
            self.defects,
            self.started.elapsed().as_secs_f64()
        );
        assert_eq!(right, points, "the lines that begin with WRONG say where");
        if self.only.is_empty() {
            assert!(points > 0);
            assert_eq!(self.caught.len(), self.defects, "a defect went unnoticed");
        }
    }

    fn choice(&self, one: &Loop, total: u64, most: u64) -> Choice {
        if self.all {
            Choice::All
        } else {
            Choice::spread(total, most, &self.seed, &one.name())
        }
    }

    /// Goes through a loop and says so. Returns its points; `None` for one that was not asked for.
    fn go(&mut self, one: &Loop, choice: &Choice) -> Option<Vec<u64>> {
        if !one.name().contains(&self.only) {
            return None;
        }
        let tally = go_through(&self.world, self.lanes_to(one.to), one, choice, false);
        let which = if self.all {
            String::new()
        } else {
            let points: Vec<_> = tally.points.iter().map(ToString::to_string).collect();
            format!(": {}", points.join(" "))
        };
        println!(
            "  {:<62} {:>4} points, {:>4} right, {:>5.1} s{which}",
            tally.name,
            tally.points.len(),
            tally.right(),
            tally.wall.as_secs_f64()
        );
        // At once: all loops take hours.
        for wrong in &tally.wrong {
            println!(
                "WRONG: {} {} ({}): {}: {}\n  remains in {}",
                tally.name,
                wrong.nth,
                wrong.struck,
                wrong.complaint.oracle,
                wrong.complaint.text,
                wrong.kept.as_deref().unwrap_or(Path::new("?")).display()
            );
        }
        let points = tally.points.clone();
        self.tallies.push(tally);
        Some(points)
    }

    /// Counts the calls of an undisturbed run.
    fn counted(&self, to: &str, watch: Watch) -> u64 {
        if watch.place == Place::Anywhere {
            let index = KINDS.iter().position(|kind| kind == watch.kind);
            let counts = self.counts.iter().find(|(label, _)| *label == to);
            return index
                .zip(counts)
                .map_or(0, |(index, (_, counts))| counts[index]);
        }
        let Some(ground) = self.world.get(to) else {
            return 0;
        };
        count(&ground.shop_path, &self.lanes[0].to(to), &[watch])[0]
    }

    /// Returns who goes through loops of target `to`.
    fn lanes_to(&self, to: &str) -> &[Lane] {
        // The lease of a search server is one for the whole cluster.
        let most = if to == "search" { 1 } else { self.lanes.len() };
        &self.lanes[..most]
    }
}

fn anywhere(kind: &'static tracer::Kind) -> Watch {
    Watch {
        kind,
        place: Place::Anywhere,
    }
}

/// Returns what chooses the points of a sample: the commit, so that every commit tries others.
fn seed() -> String {
    if let Ok(seed) = std::env::var("RK_ENUMERATOR_SEED") {
        return seed;
    }
    let commit = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    commit
        .ok()
        .filter(|output| output.status.success())
        .map_or_else(
            || "0".to_owned(),
            |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        )
}
