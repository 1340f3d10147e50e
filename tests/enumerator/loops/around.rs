//! Loops of what takes longer: rows into a search server, rows through queues, and steps around rows.

use nix::errno::Errno;

use super::{Enumerator, anywhere};
use crate::{
    points::{Action, Choice, Loop, Target},
    tracer::{Blow, KINDS, Place, Watch, kind},
};

/// The fail points around steps. The plan has five steps.
const STEP_POINTS: [&str; 4] = [
    "before_step",
    "step_intended",
    "step_performed",
    "step_done",
];

/// What a sample strikes at on the way to a search server: requests and answers.
const SAMPLED_SEARCH: [&str; 2] = ["writev", "recvfrom"];

/// What it strikes at on the way to queues: the same, connections, and the journal beside them.
const SAMPLED_QUEUES: [&str; 5] = ["connect", "sendto", "writev", "recvfrom", "pwrite64"];

/// Most points of one loop of a sample there: a point costs two runs and three new indexes.
const SAMPLE_SEARCH: u64 = 1;

/// Most points of one loop of a sample through queues: a point costs a consumer besides its runs.
const SAMPLE_QUEUES: u64 = 2;

/// Most points of one loop of a sample around steps.
const SAMPLE_STEPS: u64 = 3;

impl Enumerator {
    /// Rows into indexes: killed at calls and fail points, connections cut.
    pub fn search(&mut self) {
        let to = "search";
        if !self.world.contains_key(to) {
            return;
        }
        for kind in KINDS {
            let total = self.counted(to, anywhere(kind));
            if total == 0 || (!self.all && !SAMPLED_SEARCH.contains(&kind.name)) {
                continue;
            }
            let one = Loop::new(to, Target::Call(anywhere(kind), Blow::Kill));
            let choice = self.choice(&one, total, SAMPLE_SEARCH);
            self.go(&one, &choice);
        }
        let points = ["after_ack", "after_forget", "before_write", "before_forget"];
        for name in &points[..if self.all { points.len() } else { 2 }] {
            let one = Loop::new(to, Target::FailPoint(name, Action::Kill));
            let first = Choice::Some(vec![1]);
            let choice = if self.all { Choice::All } else { first };
            if let Some(points) = self.go(&one, &choice) {
                assert!(!points.is_empty(), "{name} is never hit");
            }
        }
        self.cut_to_search();
    }

    /// Connections to a search server that are reset, and one that cannot be made.
    fn cut_to_search(&mut self) {
        let to = "search";
        for (name, blow) in [
            ("recvfrom", Blow::Fail(Errno::ECONNRESET)),
            ("writev", Blow::Fail(Errno::ECONNRESET)),
            ("connect", Blow::FailFromThere(Errno::ECONNREFUSED)),
        ] {
            if !self.all && name != "recvfrom" {
                continue;
            }
            let watch = Watch {
                kind: kind(name),
                place: Place::Socket,
            };
            let one = Loop::new(to, Target::Call(watch, blow));
            let choice = self.choice(&one, self.counted(to, watch), SAMPLE_SEARCH);
            self.go(&one, &choice);
        }
    }

    /// Rows through queues, with a consumer at work all the time: the publisher is killed at calls and fail points, its
    /// connections are cut.
    pub fn queues(&mut self) {
        let to = "queues";
        if !self.world.contains_key(to) {
            return;
        }
        for kind in KINDS {
            let total = self.counted(to, anywhere(kind));
            if total == 0 || (!self.all && !SAMPLED_QUEUES.contains(&kind.name)) {
                continue;
            }
            let one = Loop::new(to, Target::Call(anywhere(kind), Blow::Kill));
            let choice = self.choice(&one, total, SAMPLE_QUEUES);
            self.go(&one, &choice);
        }
        for name in ["after_ack", "after_commit"] {
            let one = Loop::new(to, Target::FailPoint(name, Action::Kill));
            let choice = if self.all {
                Choice::All
            } else {
                Choice::Some(vec![2])
            };
            if let Some(points) = self.go(&one, &choice) {
                assert!(!points.is_empty(), "{name} is never hit");
            }
        }
        let watch = Watch {
            kind: kind("recvfrom"),
            place: Place::Socket,
        };
        let cut = Loop::new(to, Target::Call(watch, Blow::Fail(Errno::ECONNRESET)));
        let choice = self.choice(&cut, self.counted(to, watch), SAMPLE_QUEUES);
        self.go(&cut, &choice);
    }

    /// Steps around a restore to files: killed and failing at calls and fail points, also as it goes on.
    pub fn steps(&mut self) {
        let to = "steps";
        let kills = KINDS.iter().map(|kind| (anywhere(kind), None));
        let middle = anywhere(kind("pwrite64"));
        let half = (self.counted(to, middle) / 2).max(1);
        let again = ["write", "pwrite64", "recvfrom"];
        let again = again.map(|name| (anywhere(kind(name)), Some((middle, half))));
        for (watch, after) in kills.chain(again) {
            let total = self.counted(to, watch);
            if total == 0 {
                continue;
            }
            let one = Loop {
                after,
                ..Loop::new(to, Target::Call(watch, Blow::Kill))
            };
            let choice = self.choice(&one, total, SAMPLE_STEPS);
            self.go(&one, &choice);
        }
        for name in STEP_POINTS {
            // As many as there are steps: each is a place of its own.
            let kill = Loop::new(to, Target::FailPoint(name, Action::Kill));
            let Some(points) = self.go(&kill, &Choice::All) else {
                continue;
            };
            assert_eq!(points, [1, 2, 3, 4, 5], "{name}");
            if self.all {
                let error = Loop::new(to, Target::FailPoint(name, Action::Error));
                self.go(&error, &Choice::Some(points));
            }
        }
        for (name, blow) in [
            ("pwrite64", Blow::Fail(Errno::EIO)),
            ("fsync", Blow::Fail(Errno::EIO)),
        ] {
            let watch = Watch {
                kind: kind(name),
                place: Place::State,
            };
            let one = Loop::new(to, Target::Call(watch, blow));
            let choice = self.choice(&one, self.counted(to, watch), SAMPLE_STEPS);
            self.go(&one, &choice);
        }
    }
}
