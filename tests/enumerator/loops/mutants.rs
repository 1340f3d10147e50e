//! Deliberate defects, each of which some loop has to notice.

use nix::errno::Errno;

use super::{Enumerator, SAMPLE, anywhere};
use crate::{
    points::{Action, Choice, Loop, Tally, Target, go_through},
    tracer::{Blow, Place, Watch, kind},
};

/// Defects of whatever writes to a target (`RK_MUTANT`).
const WRITING: [&str; 3] = ["journal_first", "ack_ignored", "cursor_off_by_one"];

impl Enumerator {
    /// Every defect has to be noticed.
    pub fn mutants(&mut self) {
        let kill = |to, name| Loop::new(to, Target::Call(anywhere(kind(name)), Blow::Kill));
        let kill_at = |to, name| Loop::new(to, Target::FailPoint(name, Action::Kill));
        let fail = |to, name, place, error| {
            let watch = Watch {
                kind: kind(name),
                place,
            };
            Loop::new(to, Target::Call(watch, Blow::Fail(error)))
        };
        let writing = [
            kill("redis", "sendto"),
            kill("redis", "recvfrom"),
            kill("files", "write"),
            kill("files", "fdatasync"),
            kill("files", "pwrite64"),
            fail("redis", "recvfrom", Place::Socket, Errno::ECONNRESET),
            fail("redis", "sendto", Place::Socket, Errno::ECONNRESET),
            fail("files", "write", Place::Out, Errno::ENOSPC),
            kill("search", "writev"),
            kill("search", "recvfrom"),
            fail("search", "recvfrom", Place::Socket, Errno::ECONNRESET),
        ];
        for defect in WRITING {
            self.mutant(defect, &writing);
        }
        // Each where it shows: a loop in which nothing is noticed costs a quarter of a minute.
        self.mutant("published_is_done", &[kill("queues", "pwrite64")]);
        self.mutant("journal_first", &[kill_at("queues", "before_write")]);
        self.mutant("step_unseen", &[kill_at("steps", "step_performed")]);
        self.mutant("step_first", &[kill_at("steps", "step_intended")]);
    }

    /// Goes through `loops` with a defect switched on; a sample ends with the first loop that notices it.
    fn mutant(&mut self, defect: &'static str, loops: &[Loop]) {
        self.defects += 1;
        let mut noticed = Vec::new();
        for one in loops {
            let one = Loop {
                mutant: Some(defect),
                ..one.clone()
            };
            if !one.name().contains(&self.only)
                || !self.world.contains_key(one.to)
                || (!self.all && !noticed.is_empty())
            {
                continue;
            }
            let choice = self.choice_with_defect(&one);
            let tally = go_through(&self.world, self.lanes_to(one.to), &one, &choice, !self.all);
            println!(
                "  {:<62} {:>4} points, {:>4} noticed, {:>5.1} s",
                tally.name,
                tally.points.len(),
                tally.wrong.len(),
                tally.wall.as_secs_f64()
            );
            noticed.extend(first_noticed(&tally));
        }
        self.caught.extend(noticed.into_iter().next());
    }

    fn choice_with_defect(&self, one: &Loop) -> Choice {
        let Target::Call(watch, _) = one.target else {
            // Steps are few, and whatever reaches a queue is noticed at the first points.
            return match one.to {
                "steps" => Choice::All,
                _ => Choice::doubling(&self.seed, &one.name()),
            };
        };
        let total = self.counted(one.to, watch);
        if ["search", "queues"].contains(&one.to) {
            // Every point of them would take an hour, and tell no more.
            Choice::spread(total, 2 * SAMPLE, &self.seed, &one.name())
        } else {
            self.choice(one, total, 2 * SAMPLE)
        }
    }
}

/// Says by which rules a defect was noticed, and where first.
fn first_noticed(tally: &Tally) -> Option<String> {
    let wrong = tally.wrong.first()?;
    let mut oracles: Vec<_> = tally
        .wrong
        .iter()
        .map(|wrong| wrong.complaint.oracle)
        .collect();
    oracles.sort_unstable();
    oracles.dedup();
    Some(format!(
        "{} by {} (at {}, {})",
        tally.name,
        oracles.join(", "),
        wrong.nth,
        wrong.complaint.text.lines().next().unwrap_or_default()
    ))
}
