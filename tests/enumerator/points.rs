//! One blow at one point, and what the oracles say of it; loops of such points.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    broker::Queues,
    jenkins::Jenkins,
    oracle::{self, Complaint, Reference},
    scene::{Ran, Scene, To},
    search::Search,
    shop::Shop,
    tracer::{Blow, End, Place, Strike, Watch},
};

/// Exit codes after which `run` goes on: refused before the first write, or stopped.
const RESUMABLE: [i32; 2] = [3, 5];

/// The exit code of a bug. An error at a fail point can be one that cannot happen otherwise.
const BUG: i32 = 1;

/// What a loop strikes at.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// The n-th system call.
    Call(Watch, Blow),
    /// The n-th hit of a fail point (`RK_FAIL`).
    FailPoint(&'static str, Action),
}

/// What a fail point does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The process kills itself.
    Kill,
    /// The operation fails.
    Error,
}

/// Points n = 1, 2, 3, ... of one sort.
#[derive(Debug, Clone)]
pub struct Loop {
    /// Where the rows go: what [`Lane::to`] calls it.
    pub to: &'static str,
    /// What is struck.
    pub target: Target,
    /// A run before that is killed at this call; the loop strikes the run that goes on from there.
    pub after: Option<(Watch, u64)>,
    /// The defect that is switched on.
    pub mutant: Option<&'static str>,
}

impl Loop {
    /// Returns a loop over undamaged first runs.
    pub const fn new(to: &'static str, target: Target) -> Self {
        Self {
            to,
            target,
            after: None,
            mutant: None,
        }
    }

    /// Names the loop.
    pub fn name(&self) -> String {
        let target = match self.target {
            Target::Call(watch, Blow::Kill) => format!("kill {}", watch.kind.name),
            Target::Call(watch, blow @ (Blow::Fail(error) | Blow::FailFromThere(error))) => {
                let place = match watch.place {
                    Place::Anywhere => "",
                    Place::State => " of the state",
                    Place::Out => " of the target",
                    Place::Socket => " of the connection",
                };
                let on = if matches!(blow, Blow::Fail(_)) {
                    ""
                } else {
                    " and on"
                };
                format!("{error:?} {}{place}{on}", watch.kind.name)
            }
            Target::FailPoint(name, Action::Kill) => format!("kill at {name}"),
            Target::FailPoint(name, Action::Error) => format!("error at {name}"),
        };
        let after = self.after.map_or_else(String::new, |(watch, nth)| {
            format!(", after kill {} {nth}", watch.kind.name)
        });
        let mutant = self
            .mutant
            .map_or_else(String::new, |name| format!(", mutant {name}"));
        format!("{} {target}{after}{mutant}", self.to)
    }
}

/// What came of one point.
#[derive(Debug)]
pub enum Outcome {
    /// The run got through without a blow: the loop is over.
    Through,
    /// Every rule held.
    Right,
    /// A rule did not hold.
    Wrong(Wrong),
    /// The run got through without a blow, and a rule did not hold all the same: the loop is over.
    WrongUnstruck(Wrong),
}

/// A point where a rule did not hold.
#[derive(Debug)]
pub struct Wrong {
    /// Which.
    pub nth: u64,
    /// What was struck.
    pub struck: String,
    /// What is wrong.
    pub complaint: Complaint,
    /// Where the remains are, unless a defect was switched on.
    pub kept: Option<PathBuf>,
}

/// What every point needs, by what its target is called.
pub type World = BTreeMap<&'static str, Ground>;

/// What is restored, and what an undisturbed run ends in.
pub struct Ground {
    /// The rows.
    pub shop: Shop,
    /// Where they are.
    pub shop_path: PathBuf,
    /// What an undisturbed run ends in.
    pub reference: Reference,
}

/// What one worker has for itself.
pub struct Lane {
    /// The URL of a database.
    pub redis: String,
    /// A Jenkins.
    pub jenkins: Jenkins,
    /// Queues. `None` where no loop of them is asked for.
    pub queues: Option<Queues>,
    /// Not for itself: only one worker goes through loops of it. `None` where no loop of it is asked for.
    pub search: Option<Search>,
}

impl Lane {
    /// Returns the target called `name`.
    pub fn to(&self, name: &str) -> To {
        match name {
            "files" => To::Files,
            "redis" => To::Redis(self.redis.clone()),
            "search" => To::Search(self.search.expect("a server was looked for")),
            "queues" => {
                let queues = self.queues.clone().expect("a broker was looked for");
                To::Queues(self.redis.clone(), queues)
            }
            "steps" => To::Steps(self.jenkins.clone()),
            other => panic!("no target is called {other}"),
        }
    }
}

impl Ground {
    /// Strikes at the `nth` point of `one`.
    fn strike(&self, one: &Loop, lane: &Lane, nth: u64) -> Outcome {
        let mut to = lane.to(one.to);
        if let (To::Queues(_, queues), Some("published_is_done")) = (&mut to, one.mutant) {
            // One that is quick hides that nobody waits for it.
            queues.rest_ms = 60_000;
        }
        let scene = Scene::set(&self.shop_path, &to);
        let mut fallen = Fallen::default();
        let tried = self.try_point(one, &scene, nth, &mut fallen);
        match tried {
            Ok(()) if fallen.missed => Outcome::Through,
            Ok(()) => Outcome::Right,
            Err(complaint) => {
                let wrong = Wrong {
                    nth,
                    struck: fallen.struck,
                    complaint,
                    kept: one.mutant.is_none().then(|| scene.keep()),
                };
                if fallen.missed {
                    Outcome::WrongUnstruck(wrong)
                } else {
                    Outcome::Wrong(wrong)
                }
            }
        }
    }

    fn try_point(
        &self,
        one: &Loop,
        scene: &Scene,
        nth: u64,
        fallen: &mut Fallen,
    ) -> Result<(), Complaint> {
        let reference = &self.reference;
        let mut environment: Vec<(&str, String)> = Vec::new();
        if let Some(mutant) = one.mutant {
            environment.push(("RK_MUTANT", mutant.to_owned()));
        }
        if let Some((watch, first)) = one.after {
            let kill = Strike {
                watch: 0,
                nth: first,
                blow: Blow::Kill,
            };
            scene.run_traced(&environment, &[watch], Some(kill));
            oracle::journal_does_not_lead(&self.shop, scene)?;
        }
        let ran = disturbed(one, scene, nth, &environment, fallen);
        if fallen.missed {
            return oracle::ends_as(reference, scene, &ran);
        }
        oracle::nothing_redone(&ran)?;
        match (one.is_deadly(), ran.end) {
            (true, End::Signal(9)) => {}
            (false, End::Code(code)) if code == reference.code => {
                // It dealt with the error by itself.
                oracle::ends_as(reference, scene, &ran)?;
            }
            (false, End::Code(code)) if RESUMABLE.contains(&code) => {}
            (false, End::Code(BUG)) if matches!(one.target, Target::FailPoint(..)) => {}
            (_, end) => {
                return Err(Complaint {
                    oracle: "end of the struck run",
                    text: format!("{end:?}: {}", scene.printed("stderr")),
                });
            }
        }
        oracle::journal_does_not_lead(&self.shop, scene)?;
        let is_new = scene.counts_runs() && oracle::is_done(scene);
        let ran = scene.run(&environment);
        if is_new {
            return oracle::ends_as(&reference.once_more(), scene, &ran);
        }
        oracle::ends_as(reference, scene, &ran)
    }
}

impl Loop {
    const fn is_deadly(&self) -> bool {
        matches!(
            self.target,
            Target::Call(_, Blow::Kill) | Target::FailPoint(_, Action::Kill)
        )
    }
}

/// Which points of a loop are tried.
#[derive(Debug, Clone)]
pub enum Choice {
    /// 1, 2, 3, ... until a run gets through.
    All,
    /// These.
    Some(Vec<u64>),
}

impl Choice {
    /// Returns at most `most` of `total` points, evenly spread; which ones differs from `seed` to `seed`.
    pub fn spread(total: u64, most: u64, seed: &str, name: &str) -> Self {
        if total <= most {
            return Self::Some((1..=total).collect());
        }
        let offset = hash(seed, name);
        Self::Some(
            (0..most)
                .map(|i| {
                    let (from, until) = (i * total / most, (i + 1) * total / most);
                    from + offset % (until - from) + 1
                })
                .collect(),
        )
    }

    /// Returns one point between each power of two and the next, for a loop whose length nobody knows.
    pub fn doubling(seed: &str, name: &str) -> Self {
        let offset = hash(seed, name);
        Self::Some(
            (0..8)
                .map(|power| (1 << power) + offset % (1 << power))
                .collect(),
        )
    }
}

fn hash(seed: &str, name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, name).hash(&mut hasher);
    hasher.finish()
}

/// Where a blow fell.
#[derive(Debug, Default)]
struct Fallen {
    /// What was struck.
    struck: String,
    /// The run got through without it.
    missed: bool,
}

/// Runs the plan with a blow.
fn disturbed(
    one: &Loop,
    scene: &Scene,
    nth: u64,
    environment: &[(&str, String)],
    fallen: &mut Fallen,
) -> Ran {
    match one.target {
        Target::Call(watch, blow) => {
            let strike = Strike {
                watch: 0,
                nth,
                blow,
            };
            let (ran, traced) = scene.run_traced(environment, &[watch], Some(strike));
            fallen.missed = traced.struck.is_none();
            fallen.struck = traced.struck.unwrap_or_default();
            ran
        }
        Target::FailPoint(name, action) => {
            let word = match action {
                Action::Kill => "kill",
                Action::Error => "error",
            };
            fallen.struck = format!("RK_FAIL={name}:{nth}:{word}");
            let mut environment = environment.to_vec();
            environment.push(("RK_FAIL", format!("{name}:{nth}:{word}")));
            let ran = scene.run(&environment);
            // An error leaves no trace of its own; such loops take their points from the loop that kills.
            fallen.missed = action == Action::Kill && ran.end != End::Signal(9);
            ran
        }
    }
}

/// What came of a loop.
#[derive(Debug)]
pub struct Tally {
    /// Its name.
    pub name: String,
    /// The points where a blow fell, in order.
    pub points: Vec<u64>,
    /// Those where a rule did not hold; also runs that no blow fell on.
    pub wrong: Vec<Wrong>,
    /// How long it took.
    pub wall: Duration,
}

impl Tally {
    /// Returns how many points were right.
    pub fn right(&self) -> usize {
        self.points.len() - self.wrong.len()
    }
}

/// Goes through the points of a loop, one worker for each lane. `until_wrong` ends it at the first wrong one.
pub fn go_through(
    world: &World,
    lanes: &[Lane],
    one: &Loop,
    choice: &Choice,
    until_wrong: bool,
) -> Tally {
    let started = Instant::now();
    let ground = &world[one.to];
    let next = AtomicU64::new(0);
    let bound = AtomicU64::new(match choice {
        Choice::All => u64::MAX,
        Choice::Some(points) => points.len() as u64,
    });
    let found = Mutex::new((Vec::new(), Vec::new()));
    thread::scope(|scope| {
        for lane in lanes {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::SeqCst);
                    if index >= bound.load(Ordering::SeqCst) {
                        return;
                    }
                    let nth = match choice {
                        Choice::All => index + 1,
                        Choice::Some(points) => {
                            points[usize::try_from(index).expect("a few points")]
                        }
                    };
                    let outcome = ground.strike(one, lane, nth);
                    let mut found = found.lock().expect("no worker panicked");
                    match outcome {
                        Outcome::Through => {
                            bound.fetch_min(index, Ordering::SeqCst);
                        }
                        Outcome::Right => found.0.push(nth),
                        Outcome::Wrong(wrong) => {
                            found.0.push(nth);
                            found.1.push(wrong);
                            if until_wrong {
                                bound.store(0, Ordering::SeqCst);
                            }
                        }
                        // Nothing is left to strike at, however wrong it is: a loop over every point would never end.
                        Outcome::WrongUnstruck(wrong) => {
                            bound.fetch_min(index, Ordering::SeqCst);
                            found.0.push(nth);
                            found.1.push(wrong);
                        }
                    }
                }
            });
        }
    });
    let (mut points, wrong) = found.into_inner().expect("no worker panicked");
    points.sort_unstable();
    Tally {
        name: one.name(),
        points,
        wrong,
        wall: started.elapsed(),
    }
}

/// Counts the calls of an undisturbed run for each of `watches`.
pub fn count(shop_path: &Path, to: &To, watches: &[Watch]) -> Vec<u64> {
    let scene = Scene::set(shop_path, to);
    scene.run_traced(&[], watches, None).1.counts
}
