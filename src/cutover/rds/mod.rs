//! Database instances of RDS: a snapshot, another name, a restore with the settings of the original.
//!
//! ```text
//! rds_snapshot   asked for with a tag -> creating -> available
//! rds_rename     settings recorded -> tag -> asked for -> renaming -> available under the new name
//! rds_restore    asked for with a tag -> creating -> available -> settings put back -> compared
//! ```
//!
//! Names move from one instance to another here, so that nothing is told apart by its name: an instance that has a
//! journal behind it is known by the id that it keeps for life, and what a lost journal left behind by a tag with the
//! run. What RDS said yes to may be nowhere to be seen for a moment, so "not found" is "not yet" for a while.

mod names;
mod rename;
mod restore;
mod snapshot;
mod tags;
mod way;
mod whereabouts;

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep};

pub(super) use self::{rename::Rename, restore::Restore, snapshot::TakeSnapshot};
use super::{Scene, Told};
use crate::{
    error::{EdgeError, ErrorKind},
    failpoint,
    machine::Facts,
    remote::rds::Settings,
};

/// Seconds that something which RDS said yes to may be nowhere to be seen.
const GRACE_S: u32 = 5 * 60;

/// Milliseconds that a step that was begun before looks for what it may have asked for, before it asks again. A name is
/// given once, so that asking twice makes no second instance; this keeps it from being asked at all.
const AGAIN_MS: u32 = 3000;

/// The first wait between two looks; each is half as long again, up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_millis(50);

/// RDS counts requests, and nothing here ends within ten seconds.
const LONGEST: Duration = Duration::from_secs(10);

/// The word of RDS for "nothing is being done to it".
const AVAILABLE: &str = "available";

/// The fact that says that a step was begun before, and may have asked for something.
const BEGUN: &str = "begun_before";

/// Facts that a restore takes over from the rename before it.
const RENAMED_TO: &str = "renamed_to";
const RESOURCE_ID: &str = "resource_id";
const SETTINGS: &str = "settings";

/// Returns how long something that RDS said yes to may be nowhere to be seen.
fn grace() -> Duration {
    Duration::from_secs(failpoint::number("rds_grace_s", GRACE_S).into())
}

/// Returns how long a step that was begun before looks for what it may have asked for.
fn before_again() -> Duration {
    Duration::from_millis(failpoint::number("rds_again_ms", AGAIN_MS).into())
}

/// Looks again and again, less and less often.
struct Looks {
    wait: Duration,
    since: Instant,
}

impl Looks {
    fn new() -> Self {
        Self {
            wait: SHORTEST,
            since: Instant::now(),
        }
    }

    async fn pause(&mut self) {
        sleep(self.wait).await;
        self.wait = (self.wait * 3 / 2).min(LONGEST);
    }

    fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }
}

/// Returns the facts of an earlier try, marked as such.
fn again(had: &Facts) -> Facts {
    let mut facts = had.clone();
    facts.insert(BEGUN.to_owned(), "true".to_owned());
    facts
}

/// Returns the facts of a first try. A run that came in the place of a lost one cannot know whether that one asked.
fn first(scene: &Scene, facts: Facts) -> Facts {
    if scene.instead_of.is_empty() {
        facts
    } else {
        again(&facts)
    }
}

/// Whether this process made the request of a step: its answer may have been lost.
struct Request(AtomicBool);

impl Request {
    const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Notes that it is about to be made.
    fn is_made(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns whether it may have been made, by this process or an earlier one.
    fn may_be_made(&self, facts: &Facts) -> bool {
        facts.contains_key(BEGUN) || self.0.load(Ordering::Relaxed)
    }
}

/// Returns settings as a fact.
fn kept(settings: &Settings) -> Result<String, EdgeError> {
    serde_json::to_string(settings).map_err(|error| {
        EdgeError::new(ErrorKind::Internal, "settings cannot be kept").because(error)
    })
}

/// Returns the fact called `name`.
fn fact<'a>(facts: &'a Facts, name: &str) -> Result<&'a str, EdgeError> {
    facts.get(name).map(String::as_str).ok_or_else(|| {
        let text = format!("the journal does not have `{name}` of this step");
        EdgeError::new(ErrorKind::Internal, text)
    })
}

/// Returns the error for a name that nothing has.
fn missing(name: &str) -> EdgeError {
    EdgeError::new(
        ErrorKind::Missing,
        format!("no instance is called `{name}`"),
    )
}

fn refused(text: impl Into<String>) -> EdgeError {
    EdgeError::new(ErrorKind::Refused, text)
}

/// Returns the error for something that has to be `available` and is not. What passes by itself is waited for a while.
fn unavailable(name: &str, status: &str) -> EdgeError {
    let kind = match status {
        "backing-up"
        | "configuring-enhanced-monitoring"
        | "configuring-iam-database-auth"
        | "configuring-log-exports"
        | "modifying"
        | "rebooting"
        | "storage-optimization" => ErrorKind::Busy,
        _ => ErrorKind::Refused,
    };
    EdgeError::new(
        kind,
        format!("instance `{name}` is {status}, not available"),
    )
}

/// Returns whether RDS gave up on an instance.
fn has_failed(status: &str) -> bool {
    status == "failed"
        || status == "storage-full"
        || status == "restore-error"
        || status.starts_with("incompatible-")
        || status.starts_with("inaccessible-")
}

/// Takes the answer to a request for another name. "Not found" is a yes: an earlier try, whose answer was lost, asked for it
/// already, and what we saw before was not up to date. Whoever waits for the new name finds out otherwise.
fn renamed(answer: Result<(), EdgeError>) -> Result<(), EdgeError> {
    answer.or_else(|error| match error.kind {
        ErrorKind::Missing => Ok(()),
        _ => Err(error),
    })
}

/// A request was made, and its answer is here.
fn asked() -> Result<(), EdgeError> {
    failpoint::hit("step_asked").map_err(|error: io::Error| {
        EdgeError::new(ErrorKind::Internal, "a request was answered").because(error)
    })
}
