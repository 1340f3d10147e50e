//! Which run and partition a file belongs to, in a small file beside it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{failed, sync_folder};
use crate::{
    error::EdgeError,
    ids::{PartitionId, RunId},
};

/// Returns the owner file of the file at `path`.
pub(super) fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.owner"))
}

/// Returns whether the file at `path` belongs to this partition of this run.
pub(super) fn is(path: &Path, run: &RunId, partition: PartitionId) -> Result<bool, EdgeError> {
    let owner = beside(path);
    match fs::read(&owner) {
        Ok(found) => Ok(found == text(run, partition).as_bytes()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(failed("cannot read", &owner, e)),
    }
}

/// Makes the file at `path` belong to this partition of this run, beyond a power cut.
pub(super) fn put(
    folder: &Path,
    path: &Path,
    run: &RunId,
    partition: PartitionId,
) -> Result<(), EdgeError> {
    let owner = beside(path);
    let fresh = owner.with_extension("fresh");
    let write = || -> io::Result<()> {
        // Removed first: whatever lies there under this name, a link too, is not written through.
        match fs::remove_file(&fresh) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = fs::File::create_new(&fresh)?;
        io::Write::write_all(&mut file, text(run, partition).as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &owner)
    };
    write().map_err(|e| failed("cannot write", &owner, e))?;
    sync_folder(folder)
}

fn text(run: &RunId, partition: PartitionId) -> String {
    format!("{run}:{partition}")
}
