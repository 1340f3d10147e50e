//! Small files beside a state file, by which a run at work and commands in other terminals hear of each other.
//!
//! ```text
//! X.sqlite.pause   written by `pause`, removed by `unpause`: while it is there no run of this state file moves rows
//! X.sqlite.approve written by `approve`: a person's answer to one step of one run
//! X.sqlite.live    written by the run at work, for `status`: what it waits for, what holds it back, how fast it goes
//! ```
//!
//! None is part of the state: what counts is in the journal. A run that works looks for the first twice a second;
//! the last counts only while the process that it names has the state file.

mod approve;
mod live;
mod pause;

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

pub use approve::{Approval, approve, approved};
pub use live::{AtStep, Held, Live, MemoryFound, Paced, Queued, Waiting};
pub use pause::{Pause, ask, asked, lift};

/// Returns the file of the state at `state` that ends in `suffix`.
fn beside(state: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(state);
    name.push(suffix);
    PathBuf::from(name)
}

/// Returns options that create for the owner alone and follow no symbolic link.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

/// Puts `text` into the file at `path`, whole or not at all for whoever reads it meanwhile.
fn put(path: &Path, text: &str) -> io::Result<()> {
    let temporary = beside(path, ".tmp");
    // Left behind by a process that died here; `create_new` refuses whatever else is in the way.
    fs::remove_file(&temporary).ok();
    let mut file = private().write(true).create_new(true).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    drop(file);
    fs::rename(&temporary, path)
}

/// Removes the file at `path`. Returns whether it was there.
fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns what the file at `path` holds; `None` where there is none.
fn text(path: &Path) -> Option<String> {
    let file = private().read(true).open(path).ok()?;
    Some(io::read_to_string(file).unwrap_or_default())
}
