//! Who may write the state file: an operating-system lock that dies with its process, and a line for people.

use std::{
    fs::{File, TryLockError},
    io,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    clock,
    error::JournalError,
    files::{StateFiles, private},
};
use crate::ids::RunId;

/// A dying child may hold the lock a moment longer than its parent; a person's second run should not wait longer.
pub(super) const WAIT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);

/// The line in the lock file: `{"pid":4121,"host":"batch-2","since_ms":1763720000000,"run":"7F3KQX"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Process id.
    pub pid: u32,
    /// Host name.
    pub host: String,
    /// When it took the lock, milliseconds since 1970.
    pub since_ms: i64,
    /// The run it works on, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
}

impl Owner {
    /// Returns the owner in words: `pid 4121 on batch-2 (run 7F3KQX, for 12 s)`.
    #[must_use]
    pub fn describe(&self) -> String {
        let seconds = (clock::now_ms() - self.since_ms).max(0) / 1000;
        let held = if seconds < 120 {
            format!("{seconds} s")
        } else {
            format!("{} min", seconds / 60)
        };
        match &self.run {
            Some(run) => format!("pid {} on {} (run {run}, for {held})", self.pid, self.host),
            None => format!("pid {} on {} (for {held})", self.pid, self.host),
        }
    }
}

/// Holds the lock until it is dropped or the process dies.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    owner: Owner,
}

impl Lock {
    /// Takes the lock, waiting at most `wait` for another process to let go of it.
    pub(super) fn take(files: &StateFiles, wait: Duration) -> Result<Self, JournalError> {
        let file = private()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&files.lock)
            .map_err(|error| JournalError::io("create", &files.lock, error))?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if begun.elapsed() < wait => {
                    std::thread::sleep(POLL);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(JournalError::InUse {
                        path: files.database.clone(),
                        owner: read_owner(&file).map(Box::new),
                    });
                }
                Err(TryLockError::Error(error)) => {
                    return Err(JournalError::io("lock", &files.lock, error));
                }
            }
        }
        let owner = Owner {
            pid: std::process::id(),
            host: host_name(),
            since_ms: clock::now_ms(),
            run: None,
        };
        let lock = Self { file, owner };
        lock.write()
            .map_err(|error| JournalError::io("write", &files.lock, error))?;
        Ok(lock)
    }

    /// Shows `run` in the line. Only for people, so a full disk is no reason to fail here.
    pub(super) fn name_run(&mut self, run: &RunId) {
        self.owner.run = Some(run.clone());
        let _ = self.write();
    }

    fn write(&self) -> io::Result<()> {
        let mut line = serde_json::to_string(&self.owner)?;
        line.push('\n');
        self.file.write_all_at(line.as_bytes(), 0)?;
        self.file.set_len(line.len() as u64)
    }
}

/// Returns who holds the lock at `path`, without waiting, creating or changing anything.
///
/// `Free` comes with a shared lock where a lock file exists: while it is held no run begins.
pub(super) fn peek(path: &Path) -> Result<Holder, JournalError> {
    let file = match private().read(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Holder::Free(None)),
        Err(error) => return Err(JournalError::io("read", path, error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Holder::Free(Some(file))),
        Err(TryLockError::WouldBlock) => Ok(Holder::Taken(read_owner(&file))),
        Err(TryLockError::Error(error)) => Err(JournalError::io("lock", path, error)),
    }
}

/// What [`peek`] saw.
#[derive(Debug)]
pub(super) enum Holder {
    /// Nobody; no run begins while the file lives.
    Free(Option<File>),
    /// A run goes on; `None` where its line is not written yet.
    Taken(Option<Owner>),
}

fn read_owner(file: &File) -> Option<Owner> {
    let mut buffer = [0_u8; 1024];
    let length = file.read_at(&mut buffer, 0).ok()?;
    let line = buffer[..length].split(|byte| *byte == b'\n').next()?;
    serde_json::from_slice(line).ok()
}

/// Returns this machine's host name.
#[must_use]
pub fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path) -> StateFiles {
        StateFiles::prepare(&folder.join("shop.sqlite")).unwrap()
    }

    #[test]
    fn the_second_is_told_who_the_first_is() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let mut first = Lock::take(&files, Duration::ZERO).unwrap();
        first.name_run(&RunId::from_text("7F3KQX"));
        let refused = Lock::take(&files, Duration::ZERO).unwrap_err();
        let JournalError::InUse {
            owner: Some(owner), ..
        } = &refused
        else {
            panic!("{refused:?}");
        };
        assert_eq!(owner.pid, std::process::id());
        assert_eq!(owner.run, Some(RunId::from_text("7F3KQX")));
        assert!(refused.to_string().contains("(run 7F3KQX, for 0 s)"));
        assert!(matches!(peek(&files.lock).unwrap(), Holder::Taken(Some(_))));
    }

    #[test]
    fn it_is_free_again_once_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        drop(Lock::take(&files, Duration::ZERO).unwrap());
        assert!(Lock::take(&files, Duration::ZERO).is_ok());
    }

    #[test]
    fn it_waits_for_one_that_is_about_to_go() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let first = Lock::take(&files, Duration::ZERO).unwrap();
        let waiting = std::thread::spawn({
            let files = files.clone();
            move || Lock::take(&files, Duration::from_secs(20)).map(|_| ())
        });
        std::thread::sleep(POLL);
        drop(first);
        assert!(waiting.join().unwrap().is_ok());
    }
}
