//! The files of one state: names, rights, and the rule that none is reached through a symbolic link.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use super::error::JournalError;

/// Read and write for the owner alone.
const MODE: u32 = 0o600;

/// Where the files of one state lie. The folder is resolved, so that a link above it is no obstacle.
#[derive(Debug, Clone)]
pub(super) struct StateFiles {
    pub(super) database: PathBuf,
    pub(super) wal: PathBuf,
    pub(super) shm: PathBuf,
    /// Only there while a new state file turns into one with a write-ahead log, or after a death just then.
    pub(super) rollback: PathBuf,
    pub(super) marker: PathBuf,
    pub(super) lock: PathBuf,
    pub(super) folder: PathBuf,
}

/// Tells whether a path still leads to the same file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl StateFiles {
    /// Returns the files of the state at `path`, making the folder for them if there is none.
    pub(super) fn prepare(path: &Path) -> Result<Self, JournalError> {
        let folder = folder_of(path);
        if !folder.is_dir() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(|error| JournalError::io("create folder", folder, error))?;
        }
        Self::find(path)?.ok_or_else(|| {
            JournalError::io("use", path, io::Error::from(io::ErrorKind::InvalidFilename))
        })
    }

    /// Returns the files of the state at `path`, or `None` where not even the folder exists. Creates nothing.
    pub(super) fn find(path: &Path) -> Result<Option<Self>, JournalError> {
        let folder = folder_of(path);
        let folder = match folder.canonicalize() {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(JournalError::io("reach folder", folder, error)),
        };
        let Some(name) = path.file_name() else {
            return Ok(None);
        };
        let database = folder.join(name);
        let files = Self {
            wal: with_suffix(&database, "-wal"),
            shm: with_suffix(&database, "-shm"),
            rollback: with_suffix(&database, "-journal"),
            marker: with_suffix(&database, ".marker"),
            lock: with_suffix(&database, ".lock"),
            database,
            folder,
        };
        for path in [
            &files.database,
            &files.wal,
            &files.shm,
            &files.rollback,
            &files.marker,
            &files.lock,
        ] {
            if path.is_symlink() {
                return Err(JournalError::Symlink { path: path.clone() });
            }
        }
        Ok(Some(files))
    }

    /// Takes the rights of others away where a file has more than it should.
    pub(super) fn tighten(&self) -> Result<(), JournalError> {
        for path in [
            &self.database,
            &self.wal,
            &self.shm,
            &self.rollback,
            &self.marker,
            &self.lock,
        ] {
            let Ok(found) = path.symlink_metadata() else {
                continue;
            };
            if found.is_file() && found.mode() & 0o077 != 0 {
                fs::set_permissions(path, fs::Permissions::from_mode(MODE))
                    .map_err(|error| JournalError::io("restrict the rights of", path, error))?;
            }
        }
        Ok(())
    }

    /// Makes the names in the folder durable.
    pub(super) fn sync_folder(&self) -> Result<(), JournalError> {
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| JournalError::io("sync folder", &self.folder, error))
    }
}

/// Returns `path` with `suffix` after its last character.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut text = OsString::from(path);
    text.push(suffix);
    PathBuf::from(text)
}

/// Returns options that create for the owner alone and refuse a symbolic link.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .mode(MODE)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

/// Returns which file `path` leads to now; `None` for none.
pub(super) fn file_id(path: &Path) -> Option<FileId> {
    let found = path.symlink_metadata().ok()?;
    Some(FileId {
        device: found.dev(),
        inode: found.ino(),
    })
}

/// Returns the length of the file at `path`; `None` for no file.
pub(super) fn length(path: &Path) -> Option<u64> {
    path.symlink_metadata().ok().map(|found| found.len())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
