//! Deliberate defects, each of which some loop has to notice.

use nix::errno::Errno;

use super::{Enumerator, MUTANTS, SAMPLE, anywhere};
use crate::{
    points::{Choice, Loop, Target, go_through},
    tracer::{Blow, Place, Watch, kind},
};

impl Enumerator {
    /// The three defects have to be noticed.
    pub fn mutants(&mut self) {
        let kill = |to, name| Loop::new(to, Target::Call(anywhere(kind(name)), Blow::Kill));
        let fail = |to, name, place, error| {
            let watch = Watch {
                kind: kind(name),
                place,
            };
            Loop::new(to, Target::Call(watch, Blow::Fail(error)))
        };
        let loops = [
            kill("redis", "sendto"),
            kill("redis", "recvfrom"),
            kill("files", "write"),
            kill("files", "fdatasync"),
            kill("files", "pwrite64"),
            fail("redis", "recvfrom", Place::Socket, Errno::ECONNRESET),
            fail("redis", "sendto", Place::Socket, Errno::ECONNRESET),
            fail("files", "write", Place::Out, Errno::ENOSPC),
            kill("search", "sendto"),
            kill("search", "recvfrom"),
            fail("search", "recvfrom", Place::Socket, Errno::ECONNRESET),
        ];
        for mutant in MUTANTS {
            let mut noticed = Vec::new();
            for one in &loops {
                let one = Loop {
                    mutant: Some(mutant),
                    ..one.clone()
                };
                if !one.name().contains(&self.only)
                    || !self.world.contains_key(one.to)
                    || (!self.all && !noticed.is_empty())
                {
                    continue;
                }
                let Target::Call(watch, _) = one.target else {
                    continue;
                };
                let total = self.counted(one.to, watch);
                let choice = if one.to == "search" {
                    // Every point of them would take an hour, and tell no more.
                    Choice::spread(total, 2 * SAMPLE, &self.seed, &one.name())
                } else {
                    self.choice(&one, total, 2 * SAMPLE)
                };
                let tally =
                    go_through(&self.world, self.lanes_to(one.to), &one, &choice, !self.all);
                println!(
                    "  {:<62} {:>4} points, {:>4} noticed, {:>5.1} s",
                    tally.name,
                    tally.points.len(),
                    tally.wrong.len(),
                    tally.wall.as_secs_f64()
                );
                if let Some(wrong) = tally.wrong.first() {
                    let mut oracles: Vec<_> = tally
                        .wrong
                        .iter()
                        .map(|wrong| wrong.complaint.oracle)
                        .collect();
                    oracles.sort_unstable();
                    oracles.dedup();
                    noticed.push(format!(
                        "{} by {} (at {}, {})",
                        tally.name,
                        oracles.join(", "),
                        wrong.nth,
                        wrong.complaint.text.lines().next().unwrap_or_default()
                    ));
                }
            }
            if let Some(first) = noticed.first() {
                self.caught.push(first.clone());
            }
        }
    }
}
