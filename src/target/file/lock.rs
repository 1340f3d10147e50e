//! The lease of a folder: a lock of the operating system, so it ends with the process that holds it.

use std::{
    fs::{self, File, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{failed, open};
use crate::{
    error::{EdgeError, ErrorKind},
    target::LeaseOwner,
};

/// Most bytes read of a lock file: an owner takes a few hundred.
const OWNER_BYTES: u64 = 64 * 1024;

/// Tries to take a lock that others only look at; each look lasts microseconds.
const LOOKS: u32 = 100;

fn path_in(folder: &Path) -> PathBuf {
    folder.join(".rekindle.lock")
}

/// A lock that we hold.
pub(super) struct FolderLock {
    file: File,
    path: PathBuf,
}

impl FolderLock {
    /// Takes the lock and signs it, or returns who has it.
    pub(super) fn take(
        folder: &Path,
        owner: &LeaseOwner,
    ) -> Result<Result<Self, LeaseOwner>, EdgeError> {
        let path = path_in(folder);
        let lock = Self {
            file: open(&path, true)?,
            path,
        };
        if !lock.try_exclusive()? {
            return lock.read_owner().map(Err);
        }
        // The one before us may have removed the file between our open and our lock.
        if !lock.is_in(folder) {
            return Err(EdgeError::new(
                ErrorKind::Busy,
                format!("{} was replaced while we locked it", lock.path.display()),
            ));
        }
        lock.sign(owner)?;
        Ok(Ok(lock))
    }

    /// Locks the file unless somebody holds it. Who only looks ([`owner`]) shares it for a moment and is no holder.
    fn try_exclusive(&self) -> Result<bool, EdgeError> {
        for _ in 0..LOOKS {
            if self.attempt(File::try_lock)? {
                return Ok(true);
            }
            if !self.attempt(File::try_lock_shared)? {
                return Ok(false);
            }
            // Let go again, or two who both want it would keep each other out.
            self.file
                .unlock()
                .map_err(|e| failed("cannot unlock", &self.path, e))?;
        }
        Err(EdgeError::new(
            ErrorKind::Busy,
            format!("{} is being looked at by others", self.path.display()),
        ))
    }

    fn attempt(&self, lock: fn(&File) -> Result<(), TryLockError>) -> Result<bool, EdgeError> {
        match lock(&self.file) {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(e)) => Err(failed("cannot lock", &self.path, e)),
        }
    }

    /// Tells whether the file that we locked is still the one in `folder`.
    pub(super) fn is_in(&self, folder: &Path) -> bool {
        match (self.file.metadata(), fs::symlink_metadata(path_in(folder))) {
            (Ok(ours), Ok(there)) => ours.dev() == there.dev() && ours.ino() == there.ino(),
            _ => false,
        }
    }

    /// Writes `owner` into the file, for people and for whoever finds it locked.
    pub(super) fn sign(&self, owner: &LeaseOwner) -> Result<(), EdgeError> {
        let mut text = serde_json::to_vec(owner).map_err(|e| {
            EdgeError::new(ErrorKind::Internal, "the lease cannot be written as JSON").because(e)
        })?;
        text.push(b'\n');
        let write = || {
            let mut file = &self.file;
            file.rewind()?;
            let mut there = Vec::new();
            file.take(OWNER_BYTES).read_to_end(&mut there)?;
            if there == text {
                return Ok(());
            }
            file.rewind()?;
            file.write_all(&text)?;
            file.set_len(text.len() as u64)
        };
        write().map_err(|e| failed("cannot write to", &self.path, e))
    }

    /// Removes the file and lets go of the lock, in this order: whoever opened it meanwhile sees that it is gone.
    pub(super) fn release(self, folder: &Path) -> Result<(), EdgeError> {
        if !self.is_in(folder) {
            return Ok(());
        }
        fs::remove_file(&self.path).map_err(|e| failed("cannot remove", &self.path, e))
    }

    fn read_owner(&self) -> Result<LeaseOwner, EdgeError> {
        let mut text = Vec::new();
        (&self.file)
            .take(OWNER_BYTES)
            .read_to_end(&mut text)
            .map_err(|e| failed("cannot read", &self.path, e))?;
        serde_json::from_slice(&text).map_err(|_| {
            EdgeError::new(
                ErrorKind::Busy,
                format!(
                    "{} is locked by a process that has not signed it yet",
                    self.path.display()
                ),
            )
        })
    }
}

/// Returns who holds the lock of `folder`, creating nothing.
pub(super) fn owner(folder: &Path) -> Result<Option<LeaseOwner>, EdgeError> {
    let path = path_in(folder);
    let file = match open(&path, false) {
        Ok(file) => file,
        Err(e) if e.kind == ErrorKind::Missing => return Ok(None),
        Err(e) => return Err(e),
    };
    let lock = FolderLock { file, path };
    if lock.attempt(File::try_lock_shared)? {
        // Nobody holds it; closing the file lets go at once.
        return Ok(None);
    }
    lock.read_owner().map(Some)
}
