//! A folder as a target: one file for each partition, for `redis-cli --pipe` or, as NDJSON, for `_bulk`.
//!
//! ```text
//! out/.rekindle.lock        held while a run writes here, with its owner inside
//! out/url.0001.resp         *3\r\n$3\r\nSET\r\n$6\r\nurl:12\r\n$14\r\n{"url":"/en/a"}\r\n ...
//! out/.url.0001.resp.owner  `7F3K2B:12`: the run and partition that write the file, until the run is done
//! out/url.0002.resp
//! out/url%ids.0001.resp     what a run with `--ids` restored
//! out/url%retry-7F3K2B.0001.resp   dead letters that `dead-letters retry` restored
//! ```
//!
//! The evidence of a chunk is that the file is still its partition's and at least as long as it was after the chunk: a
//! resume cuts it back to the journaled length. Another run that wrote the same file meanwhile is found out by the owner.
//! All calls block the thread for as long as the disk takes, so that none can be left behind half done.

mod lock;
mod owner;
mod writer;

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Component, Path, PathBuf},
    sync::Mutex,
};

use async_trait::async_trait;
use tokio::runtime::{Handle, RuntimeFlavor};

use self::{lock::FolderLock, writer::FileWriter};
use super::{
    ChunkWriter, Evidence, Extent, Lease, LeaseOwner, PartitionKey, Recorded, Target, bulk::Lines,
    bytes_text,
};
use crate::{
    error::{EdgeError, ErrorKind},
    ids::{ChunkSeq, ResourceName, RunId},
    plan::{FileConfig, FileFormat},
};

/// Stands between a resource and a run in the names of files with retried rows.
const RETRIED: &str = "%retry-";

/// A folder that a plan fills.
pub struct FileTarget {
    folder: PathBuf,
    format: FileFormat,
    /// `folder /srv/dump`.
    place: String,
    /// Ours while present; the kernel lets go of it when the process dies.
    lock: Mutex<Option<FolderLock>>,
}

impl FileTarget {
    /// Returns the target for the folder, which need not exist yet.
    #[must_use]
    pub fn new(config: &FileConfig) -> Self {
        Self {
            place: format!("folder {}", config.path.display()),
            folder: config.path.clone(),
            format: config.format.clone(),
            lock: Mutex::new(None),
        }
    }

    fn path_of(&self, partition: &PartitionKey) -> PathBuf {
        let stem = stem(&partition.resource, &partition.extent);
        self.folder
            .join(format!("{stem}.{:04}{}", partition.ordinal, self.ending()))
    }

    /// Returns the last part of a file's name.
    const fn ending(&self) -> &'static str {
        match self.format {
            FileFormat::Resp => ".resp",
            FileFormat::Ndjson(_) => ".ndjson",
        }
    }

    /// Returns what turns rows of `resource` into lines of NDJSON; `None` for Redis commands.
    fn lines(&self, resource: &ResourceName) -> Option<Lines> {
        match &self.format {
            FileFormat::Resp => None,
            FileFormat::Ndjson(indexes) => indexes.get(resource).map(Lines::new),
        }
    }

    /// Returns the files of every partition that the resource ever had; with the whole of it, those of retries too.
    fn files_of(
        &self,
        resource: &ResourceName,
        extent: &Extent,
    ) -> Result<Vec<PathBuf>, EdgeError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(failed("cannot list", &self.folder, e)),
        };
        let stem = stem(resource, extent);
        let retried = format!("{stem}{RETRIED}");
        let mut files = Vec::new();
        for entry in entries {
            let path = entry
                .map_err(|e| failed("cannot list", &self.folder, e))?
                .path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            let rest = match name.strip_prefix(&retried) {
                Some(run) if *extent == Extent::Whole => run.find('.').map(|dot| &run[dot..]),
                _ => name.strip_prefix(&stem),
            };
            let ordinal = rest.and_then(|rest| rest.strip_prefix('.')?.strip_suffix(self.ending()));
            if ordinal.is_some_and(|ordinal| {
                ordinal.len() >= 4 && ordinal.bytes().all(|byte| byte.is_ascii_digit())
            }) {
                files.push(path);
            }
        }
        Ok(files)
    }

    fn create_folder(&self) -> Result<(), EdgeError> {
        fs::create_dir_all(&self.folder).map_err(|e| failed("cannot create", &self.folder, e))
    }

    /// Takes or keeps the lock. Safe to call again.
    fn take(&self, owner: &LeaseOwner) -> Result<Lease, EdgeError> {
        self.create_folder()?;
        let mut held = self
            .lock
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        // Someone may have removed the lock file or the folder under us, and then the next process would lock another.
        if let Some(lock) = held.as_ref()
            && lock.is_in(&self.folder)
        {
            lock.sign(owner)?;
            return Ok(Lease::Held);
        }
        *held = None;
        match FolderLock::take(&self.folder, owner)? {
            Ok(lock) => {
                *held = Some(lock);
                Ok(Lease::Held)
            }
            Err(other) => Ok(Lease::TakenBy(other)),
        }
    }
}

#[async_trait]
impl Target for FileTarget {
    fn place(&self) -> &str {
        &self.place
    }

    async fn identity(&self) -> Result<String, EdgeError> {
        blocking(|| {
            match fs::metadata(&self.folder) {
                Ok(found) if !found.is_dir() => {
                    return Err(EdgeError::new(
                        ErrorKind::Refused,
                        format!("{} is not a folder", self.folder.display()),
                    ));
                }
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("cannot read", &self.folder, e));
                }
                _ => {}
            }
            let folder =
                canonical(&self.folder).map_err(|e| failed("cannot resolve", &self.folder, e))?;
            Ok(format!("file:{}", folder.display()))
        })
    }

    async fn facts(&self) -> Result<Vec<(String, String)>, EdgeError> {
        blocking(|| {
            let existing = self
                .folder
                .ancestors()
                .find(|folder| folder.exists())
                .unwrap_or(Path::new("/"));
            let disk = rustix::fs::statvfs(existing)
                .map_err(|e| failed("cannot read the free space of", existing, e.into()))?;
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let state = if existing == self.folder {
                "exists"
            } else {
                "will be created"
            };
            Ok(vec![
                ("folder".to_owned(), state.to_owned()),
                ("free space".to_owned(), bytes_text(free)),
            ])
        })
    }

    async fn take_lease(&self, owner: &LeaseOwner) -> Result<Lease, EdgeError> {
        blocking(|| self.take(owner))
    }

    async fn renew_lease(&self, owner: &LeaseOwner) -> Result<Lease, EdgeError> {
        blocking(|| self.take(owner))
    }

    async fn release_lease(&self, _owner: &LeaseOwner) -> Result<(), EdgeError> {
        blocking(|| {
            let lock = self
                .lock
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .take();
            lock.map_or(Ok(()), |lock| lock.release(&self.folder))
        })
    }

    async fn lease_owner(&self) -> Result<Option<LeaseOwner>, EdgeError> {
        blocking(|| lock::owner(&self.folder))
    }

    async fn evidence(
        &self,
        run: &RunId,
        recorded: &[Recorded],
    ) -> Result<Vec<Evidence>, EdgeError> {
        blocking(|| {
            recorded
                .iter()
                .map(|one| {
                    let path = self.path_of(&one.partition);
                    let found = match fs::symlink_metadata(&path) {
                        Ok(_) if !owner::is(&path, run, one.partition.id)? => 0,
                        Ok(found) if found.is_file() => found.len(),
                        Ok(_) => 0,
                        Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
                        Err(e) => return Err(failed("cannot read", &path, e)),
                    };
                    Ok(match one.length {
                        Some(length) if found >= length => Evidence::Stands,
                        _ => Evidence::UpToLength(found),
                    })
                })
                .collect()
        })
    }

    async fn writer(
        &self,
        run: &RunId,
        partition: &PartitionKey,
        _stored: ChunkSeq,
        length: Option<u64>,
    ) -> Result<Box<dyn ChunkWriter>, EdgeError> {
        blocking(|| {
            self.create_folder()?;
            let path = self.path_of(partition);
            let length = length.unwrap_or(0);
            if length > 0 && !owner::is(&path, run, partition.id)? {
                return Err(EdgeError::new(
                    ErrorKind::EvidenceLost,
                    format!("{} was written by another run meanwhile", path.display()),
                ));
            }
            let writer = FileWriter::open(
                &self.folder,
                path.clone(),
                length,
                self.lines(&partition.resource),
            )?;
            if length == 0 {
                // Empty by now: were the process to die here, nothing would be claimed.
                owner::put(&self.folder, &path, run, partition.id)?;
            }
            Ok(Box::new(writer) as Box<dyn ChunkWriter>)
        })
    }

    async fn forget(&self, run: &RunId, partitions: &[PartitionKey]) -> Result<(), EdgeError> {
        blocking(|| {
            for partition in partitions {
                let path = self.path_of(partition);
                if owner::is(&path, run, partition.id)? {
                    remove(&owner::beside(&path))?;
                }
            }
            Ok(())
        })
    }

    async fn clear(&self, resource: &ResourceName, extent: &Extent) -> Result<(), EdgeError> {
        blocking(|| {
            let files = self.files_of(resource, extent)?;
            for path in &files {
                remove(path)?;
                remove(&owner::beside(path))?;
            }
            if files.is_empty() {
                Ok(())
            } else {
                sync_folder(&self.folder)
            }
        })
    }
}

/// Returns the first part of a resource's file names. A resource may be called `a/b`, and then its files lie in no
/// folder of their own; `%` occurs in no resource name, so two resources never share files.
fn stem(resource: &ResourceName, extent: &Extent) -> String {
    let name = resource.as_str().replace('/', "%2F");
    match extent {
        Extent::Whole => name,
        Extent::Ids => format!("{name}%ids"),
        Extent::Retried(run) => format!("{name}{RETRIED}{run}"),
    }
}

fn remove(path: &Path) -> Result<(), EdgeError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("cannot remove", path, e)),
        _ => Ok(()),
    }
}

/// Runs `work`, which waits for the disk, without holding up other tasks where the runtime has other threads.
///
/// Not `spawn_blocking`: it would need a copy of the chunk, and a write that the engine stopped waiting for would go
/// on beside its own repetition.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Opens a regular file for reading and writing, and never through a link that somebody put in its place.
fn open(path: &Path, create: bool) -> Result<File, EdgeError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        // NONBLOCK: a pipe in its place would wait for its other end.
        .custom_flags(
            (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK)
                .bits()
                .cast_signed(),
        )
        .open(path)
        .map_err(|e| failed("cannot open", path, e))?;
    let found = file
        .metadata()
        .map_err(|e| failed("cannot read", path, e))?;
    if !found.is_file() {
        return Err(EdgeError::new(
            ErrorKind::Refused,
            format!("{} is not a regular file", path.display()),
        ));
    }
    Ok(file)
}

/// Makes a file that was created or removed in `folder` last beyond a power cut.
fn sync_folder(folder: &Path) -> Result<(), EdgeError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|e| failed("cannot sync", folder, e))
}

/// Returns the same text before and after the folder is created: links are resolved as far as the path exists.
fn canonical(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    for existing in path.ancestors() {
        match existing.canonicalize() {
            Ok(mut folder) => {
                let rest = path.strip_prefix(existing).unwrap_or(Path::new(""));
                for part in rest.components() {
                    match part {
                        Component::ParentDir => {
                            folder.pop();
                        }
                        part => folder.push(part),
                    }
                }
                return Ok(folder);
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(path)
}

/// Returns the error for a failed call on `path`; `what` is for example `cannot write to`.
fn failed(what: &str, path: &Path, error: io::Error) -> EdgeError {
    use io::ErrorKind as Io;
    let kind = match error.kind() {
        Io::StorageFull | Io::QuotaExceeded => ErrorKind::TargetDisk,
        Io::PermissionDenied => ErrorKind::Credentials,
        Io::NotFound => ErrorKind::Missing,
        // A disk that fails once keeps failing; repeating the write would only hide it.
        _ => ErrorKind::Refused,
    };
    EdgeError::new(kind, format!("{what} {}", path.display())).because(error)
}

#[cfg(test)]
mod tests;
