//! Every state that two runs on one target can come to, searched whole: the lease and the claim, deaths, a state file that went
//! back behind its marker, and a step that must not happen twice. The rules are those of ARCHITECTURE, in as few words as
//! they can have; each is left out once, and then the search has to find the harm.
//!
//! ```text
//! down -> working -> wrote -> working ... -> intended -> called -> working -> done
//!   ^--------'---------'-------------------------'---------'   killed, or the target is in other hands
//! ```
//!
//! The seeded runs of `model` play the program itself; here is only what it promises, but in every order.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
};

/// Chunks of each run. Two, so that one can be lost and the other stand.
const CHUNKS: u8 = 2;

/// How often each process dies, a lease runs out under one that is alive, and a log is lost: more only repeat what these show.
const DEATHS: u8 = 1;
const EXPIRIES: u8 = 1;
const LOSSES: u8 = 1;

/// A rule that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    /// Chunks are written without watching the claim: a process that slept past its lease goes on.
    ClaimNotWatched,
    /// Recorded chunks are believed without asking the target for its markers.
    EvidenceNotAsked,
    /// A chunk is journaled before the target acknowledged it.
    JournalFirst,
    /// The outcome of a step is journaled before it is carried out.
    OutcomeBeforeCall,
    /// A step is carried out before its intent is journaled.
    CallBeforeIntent,
    /// An intent without an outcome is carried out again without asking anybody.
    IntentRepeated,
    /// A state file behind its marker is taken for what it looks like.
    MarkerIgnored,
    /// The marker may lag behind an intent, as it may behind a chunk.
    MarkerBehindIntent,
}

const DEFECTS: [Defect; 8] = [
    Defect::ClaimNotWatched,
    Defect::EvidenceNotAsked,
    Defect::JournalFirst,
    Defect::OutcomeBeforeCall,
    Defect::CallBeforeIntent,
    Defect::IntentRepeated,
    Defect::MarkerIgnored,
    Defect::MarkerBehindIntent,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Event {
    Chunk,
    /// What was recorded is void.
    Void,
    Intent,
    Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Process {
    Down,
    /// Holds the target under this token, or believes to.
    Working(u8),
    /// A chunk is acknowledged and not journaled yet, or with [`Defect::JournalFirst`] the other way round.
    Wrote(u8),
    /// The step may be carried out.
    Intended(u8),
    /// It is carried out, and its outcome not journaled yet.
    Called(u8),
    /// Waits for a person: the state file is behind its marker, or an intent has no outcome.
    Asks,
    Done,
}

/// One state file and the process that works on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Run {
    process: Process,
    journal: Vec<Event>,
    /// How many events the marker file says are committed.
    marker: usize,
    /// How often the step was carried out.
    calls: u8,
    deaths: u8,
}

impl Run {
    /// Returns how many chunks count as stored.
    fn chunks(&self) -> u8 {
        let after = self.journal.iter().rev();
        let standing = after.take_while(|event| **event != Event::Void);
        standing.fold(0, |count, event| count + u8::from(*event == Event::Chunk))
    }

    fn has(&self, event: Event) -> bool {
        self.journal.contains(&event)
    }

    const fn is_alive(&self) -> bool {
        !matches!(self.process, Process::Down | Process::Asks | Process::Done)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    runs: [Run; 2],
    lease: Option<usize>,
    /// Who took the target last, and under which token.
    claim: Option<(usize, u8)>,
    /// Whose content the rows of each chunk have.
    rows: [Option<usize>; CHUNKS as usize],
    /// The marker key of each run: token and chunk.
    evidence: [Option<(u8, u8)>; 2],
    tokens: u8,
    expiries: u8,
    losses: u8,
}

impl World {
    fn new() -> Self {
        let run = Run {
            process: Process::Down,
            journal: Vec::new(),
            marker: 0,
            calls: 0,
            deaths: 0,
        };
        Self {
            runs: [run.clone(), run],
            lease: None,
            claim: None,
            rows: [None; CHUNKS as usize],
            evidence: [None; 2],
            tokens: 0,
            expiries: 0,
            losses: 0,
        }
    }

    /// Returns what must never be, if it is.
    fn harm(&self) -> Option<&'static str> {
        for (i, run) in self.runs.iter().enumerate() {
            if run.calls > 1 {
                return Some("the step happened twice");
            }
            if let Some((owner, token)) = self.claim
                && owner == i
                && run.is_alive()
                && run.chunks() > self.stored(i, token)
            {
                return Some("the journal leads the target");
            }
            if run.process != Process::Done {
                continue;
            }
            if run.calls == 0 {
                return Some("done, and the step never happened");
            }
            // As long as nobody else began.
            if self.lease == Some(i) && self.rows.iter().any(|row| *row != Some(i)) {
                return Some("done, and the target holds something else");
            }
        }
        None
    }

    /// Returns how many chunks of a run the target vouches for.
    fn stored(&self, i: usize, token: u8) -> u8 {
        self.evidence[i].map_or(0, |(under, chunk)| if under == token { chunk } else { 0 })
    }

    fn is_over(&self) -> bool {
        let over = |run: &Run| matches!(run.process, Process::Done | Process::Asks);
        self.runs.iter().all(over)
    }

    /// Returns every state that may be next, with what happened.
    fn next(&self, defect: Option<Defect>) -> Vec<(Said, Self)> {
        let mut all = Vec::new();
        for i in 0..2 {
            let mut next = self.clone();
            if let Some(said) = next.step(i, defect) {
                all.push((Said(i, said), next));
            }
            self.faults(i, &mut all);
        }
        if let Some(holder) = self.lease {
            let is_alive = self.runs[holder].is_alive();
            if !is_alive || self.expiries < EXPIRIES {
                let mut next = self.clone();
                next.lease = None;
                next.expiries += u8::from(is_alive);
                all.push((Said(holder, "has held its lease for too long"), next));
            }
        }
        all
    }

    /// What may happen to process `i` and its files.
    fn faults(&self, i: usize, all: &mut Vec<(Said, Self)>) {
        let run = &self.runs[i];
        if run.is_alive() && run.deaths < DEATHS {
            let mut next = self.clone();
            next.runs[i].process = Process::Down;
            next.runs[i].deaths += 1;
            all.push((Said(i, "dies"), next));
        }
        // The marker is written now and then. It lags, and never leads.
        if run.is_alive() && run.marker < run.journal.len() {
            let mut next = self.clone();
            next.runs[i].marker = run.journal.len();
            all.push((Said(i, "writes its marker"), next));
        }
        // One loss, and both begin alike: that it is 0 who has it leaves nothing out.
        if i == 0 && run.process == Process::Down && self.losses < LOSSES {
            for kept in 0..run.journal.len() {
                let mut next = self.clone();
                next.runs[i].journal.truncate(kept);
                next.losses += 1;
                all.push((Said(i, "loses the end of its log"), next));
            }
        }
    }

    /// Process `i` does what comes next, and says what; `None` when it has nothing to do.
    fn step(&mut self, i: usize, defect: Option<Defect>) -> Option<&'static str> {
        let is = |one| defect == Some(one);
        let run = &mut self.runs[i];
        Some(match run.process {
            Process::Down => return self.start(i, defect),
            Process::Working(token) => self.work(i, token, defect),
            Process::Wrote(token) if is(Defect::JournalFirst) => {
                let chunk = run.chunks() - 1;
                run.process = Process::Working(token);
                self.write(i, token, chunk);
                "writes what is journaled"
            }
            Process::Wrote(token) => {
                run.journal.push(Event::Chunk);
                run.process = Process::Working(token);
                "journals the chunk"
            }
            Process::Intended(token) => {
                if is(Defect::OutcomeBeforeCall) && !run.has(Event::Outcome) {
                    run.journal.push(Event::Outcome);
                    return Some("journals the outcome ahead");
                }
                run.calls += 1;
                run.process = Process::Called(token);
                "carries the step out"
            }
            Process::Called(token) => {
                if is(Defect::CallBeforeIntent) {
                    run.journal.push(Event::Intent);
                }
                if !run.has(Event::Outcome) {
                    run.journal.push(Event::Outcome);
                }
                run.process = Process::Working(token);
                "journals the outcome"
            }
            Process::Done if self.lease == Some(i) => {
                self.lease = None;
                "lets go of the target"
            }
            Process::Done | Process::Asks => return None,
        })
    }

    /// Opens the state file and takes the target; `None` while somebody else has it.
    fn start(&mut self, i: usize, defect: Option<Defect>) -> Option<&'static str> {
        let run = &mut self.runs[i];
        if run.journal.len() < run.marker && defect != Some(Defect::MarkerIgnored) {
            run.process = Process::Asks;
            return Some("is behind its marker");
        }
        if self.lease.is_some_and(|holder| holder != i) {
            return None;
        }
        self.lease = Some(i);
        let token = match self.claim {
            Some((owner, token)) if owner == i => token,
            _ => {
                self.tokens += 1;
                self.tokens
            }
        };
        self.claim = Some((i, token));
        if self.stored(i, token) < self.runs[i].chunks() && defect != Some(Defect::EvidenceNotAsked)
        {
            self.runs[i].journal.push(Event::Void);
        }
        self.runs[i].process = Process::Working(token);
        Some("takes the target")
    }

    /// Does the next thing that the journal of `i` wants done.
    fn work(&mut self, i: usize, token: u8, defect: Option<Defect>) -> &'static str {
        let is = |one| defect == Some(one);
        let is_ours = self.claim == Some((i, token));
        let is_stored = self.stored(i, token) == CHUNKS || is(Defect::EvidenceNotAsked);
        let run = &mut self.runs[i];
        let chunk = run.chunks();
        let (next, said) = if chunk < CHUNKS && is(Defect::JournalFirst) {
            run.journal.push(Event::Chunk);
            (Process::Wrote(token), "journals a chunk ahead")
        } else if chunk < CHUNKS {
            if !is_ours && !is(Defect::ClaimNotWatched) {
                run.process = Process::Down;
                return "finds the target in other hands";
            }
            self.write(i, token, chunk);
            (Process::Wrote(token), "writes a chunk")
        } else if run.has(Event::Outcome) {
            if !is_ours || self.lease != Some(i) {
                (Process::Down, "finds the target in other hands")
            } else if is_stored {
                (Process::Done, "is done")
            } else {
                run.journal.push(Event::Void);
                (Process::Working(token), "finds its chunks gone")
            }
        } else if is(Defect::CallBeforeIntent) {
            (Process::Intended(token), "begins the step")
        } else if !run.has(Event::Intent) {
            run.journal.push(Event::Intent);
            if !is(Defect::MarkerBehindIntent) {
                run.marker = run.journal.len();
            }
            (Process::Intended(token), "journals the intent")
        } else if is(Defect::IntentRepeated) {
            (Process::Intended(token), "begins the step again")
        } else {
            (Process::Asks, "finds an intent without an outcome")
        };
        self.runs[i].process = next;
        said
    }

    fn write(&mut self, i: usize, token: u8, chunk: u8) {
        self.rows[usize::from(chunk)] = Some(i);
        self.evidence[i] = Some((token, chunk + 1));
    }
}

/// Which process does what, or has it done to it.
#[derive(Debug, Clone, Copy)]
struct Said(usize, &'static str);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.1)
    }
}

/// What a search found.
struct Found {
    /// The harm, and how it came about.
    harm: Option<String>,
    /// How many states there are.
    states: usize,
    /// A state from which no order of events leads to an end.
    stuck: Option<World>,
}

/// Goes through every state, nearest first, until one does harm.
fn search(defect: Option<Defect>) -> Found {
    let first = World::new();
    let mut numbers: HashMap<World, usize> = HashMap::from([(first.clone(), 0)]);
    // By what each state was reached first, and all that leads to it.
    let mut came: Vec<Option<(usize, Said)>> = vec![None];
    let mut back: Vec<Vec<usize>> = vec![Vec::new()];
    let mut waiting = VecDeque::from([(0, first)]);
    let mut over = Vec::new();
    while let Some((number, world)) = waiting.pop_front() {
        if let Some(harm) = world.harm() {
            let mut told = vec![harm.to_owned()];
            let mut at = number;
            while let Some((before, said)) = &came[at] {
                told.push(said.to_string());
                at = *before;
            }
            told.reverse();
            return Found {
                harm: Some(told.join("; ")),
                states: numbers.len(),
                stuck: None,
            };
        }
        if world.is_over() {
            over.push(number);
        }
        for (said, next) in world.next(defect) {
            let known = numbers.len();
            let to = *numbers.entry(next.clone()).or_insert(known);
            if to == known {
                came.push(Some((number, said)));
                back.push(Vec::new());
                waiting.push_back((to, next));
            }
            back[to].push(number);
        }
    }
    let mut ends = vec![false; back.len()];
    while let Some(number) = over.pop() {
        if !std::mem::replace(&mut ends[number], true) {
            over.extend(&back[number]);
        }
    }
    let stuck = numbers.into_iter().find(|(_, number)| !ends[*number]);
    Found {
        harm: None,
        states: back.len(),
        stuck: stuck.map(|(world, _)| world),
    }
}

#[test]
fn no_order_of_deaths_losses_and_leases_does_harm_and_each_has_an_end() {
    let found = search(None);
    assert_eq!(found.harm, None);
    assert_eq!(found.stuck, None, "nothing leads on from there");
    println!("{} states", found.states);
    assert!(found.states > 10_000, "{} states", found.states);
}

#[test]
fn each_rule_that_is_left_out_does_harm() {
    for defect in DEFECTS {
        let harm = search(Some(defect)).harm;
        let harm = harm.unwrap_or_else(|| panic!("{defect:?} goes unnoticed"));
        println!("{defect:?}: {harm}");
    }
}
