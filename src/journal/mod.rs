//! The state file of a plan, and the only code that knows its tables.
//!
//! ```text
//! X.sqlite          event        seq, at_ms, label, run, partition, chunk, body, hash, seal   the truth, append-only
//!                   run          ┐
//!                   attempt      │ what the events add up to: written in the transaction of each event,
//!                   resource     │ compared with a replay at open, read as they are by `status`
//!                   partition    │
//!                   dead_letter  ┘
//!                   meta         state (random id of the file), last_partition
//! X.sqlite-wal      SQLite's log; part of the state file as long as it is there
//! X.sqlite.marker   what the state file is known to hold, written after the commit it vouches for
//! X.sqlite.lock     operating-system lock, and a line that names its holder
//! ```
//!
//! `hash` of an event is XXH3-128 over the hash before, number, time, label and body. A summary (compaction) stands
//! for the events up to its number: it keeps the last of their hashes as its own, so that the chain goes on, and its
//! `seal` is the hash of its own content.
//!
//! What [`Journal::open`] makes of what it finds:
//!
//! | state file | marker | outcome |
//! |---|---|---|
//! | missing or empty, no log | none | first run |
//! | missing, empty or without tables | any | refused: behind its marker |
//! | missing or empty, log left over | none | refused |
//! | last event at or after the marker's | same state, known run | goes on |
//! | last event before the marker's, log had bytes | same state, known run | a torn tail: goes on, chunks are repeated, a notice says so |
//! | last event before the marker's, log absent or empty | any | refused: the log is gone |
//! | whole | other state, or a run it does not know | refused |
//! | whole, has events | none, or not readable | goes on (the chain vouches for the content), a notice says so |
//! | chain, replay, tables or pages contradict each other | any | refused, with the row |
//!
//! A journal that failed to write once never writes again in its process: a failed fsync cannot be repeated.

mod chain;
mod clock;
mod compact;
mod error;
mod files;
mod letters;
mod lock;
mod marker;
mod migrate;
mod notice;
mod open;
mod owner;
mod projection;
mod schema;
mod store;
mod view;

pub use clock::now_ms;
pub use compact::Limits;
pub use error::JournalError;
pub use letters::{LetterPlace, Settled, WhichLetters};
pub use lock::{Owner, host_name};
pub use notice::Notice;
pub use open::{OpenMode, Settings};
pub use owner::{Journal, Recorded};
pub use schema::Migration;
pub use view::{DeadLetterFilter, DeadLetterRow, LoggedEvent, View};
