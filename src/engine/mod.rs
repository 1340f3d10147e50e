//! Decides and drives. Knows the edges by their traits; speaks no SQL, no wire protocol, no terminal.
//!
//! [`open`] finds out which run goes on and makes the journal say so; [`Coordinator`] owns the run's state from
//! there and takes messages one at a time; a [`copy::Walk`] per partition reads, writes and reports.

mod asked_ids;
mod bind;
mod book;
mod breaker;
mod budget;
mod catch_up;
mod checks;
mod consume;
mod coordinator;
mod copy;
mod drain;
mod estimate;
mod evidence;
mod handover;
mod lease;
mod observers;
mod open;
mod others;
mod pace;
mod pairs;
mod preflight;
mod preview;
mod read;
mod refuse;
mod retry;
mod sink;
mod steps;
mod stores;
mod throttle;
mod too_many;
mod verify;

pub use asked_ids::AskedIds;
pub use book::BookError;
pub use catch_up::Reached;
pub use checks::{
    Answers, Coverage, Described, TargetAnswer, Uncovered, ask as ask_servers, check, no_room,
};
pub use consume::{Consume, queues};
pub use coordinator::{Coordinator, Ending, Memory, Verified};
pub use drain::{Drain, NotDrained};
pub use estimate::RowEstimate;
pub use handover::{IdPage, all_ids, check_ids, ids_source};
pub use observers::Observers;
pub use open::{OpenRun, OpenedRun, RunChoice, open};
pub use preview::{Preview, ResourcePreview, StepPreview, preview, preview_steps};
pub use refuse::{
    interrupted, interrupted_in_steps, refused_by_book, refused_by_edge, refused_by_journal,
};
pub use retry::{Waits, retrying};
pub use steps::{Reversing, ToUndo, WayBack, found_by_tags, undo};
pub use stores::stores;
pub use too_many::{is_for_dead_letters, next_of_blocked};
pub use verify::{
    Asked, Broken, Findings, Orphans, Repair, RepairTargets, ResourceFindings, Sample, Unlisted,
    Verify, VerifyEnd, ask, verify,
};
