//! The marker file: what the state file is known to hold, kept outside of it.
//!
//! It tells a first run from a state file that was emptied, deleted, exchanged or copied without its log. Written
//! after the commit it vouches for, so it may lag behind the journal and never leads.

use std::{fs, io, io::Write};

use serde::{Deserialize, Serialize};

use super::{
    error::JournalError,
    files::{StateFiles, private, with_suffix},
};
use crate::{failpoint, ids::RunId, machine::Predecessors};

/// `{"format":1,"state":"5kq…","run":"7F3KQX","seq":40,"at_ms":1763720000000}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    /// Format of the state file.
    pub(super) format: u32,
    /// Random id of the state file.
    pub(super) state: String,
    /// The latest run; `None` before the first.
    pub(super) run: Option<RunId>,
    /// The runs for which another one answers that comes in the place of this file; `None` where an older release wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) lineage: Option<Predecessors>,
    /// An event that is committed; later ones may be as well.
    pub(super) seq: u64,
    /// When it was written.
    pub(super) at_ms: i64,
}

/// What lies in the marker's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// No file.
    Nothing,
    /// A file that is no marker.
    Unreadable,
    /// A marker.
    Marker(Marker),
}

impl Marker {
    /// Returns the runs for which another one answers that comes in the place of the state file.
    pub(super) fn answers_for(&self) -> Predecessors {
        match (&self.lineage, &self.run) {
            (Some(lineage), _) => lineage.clone(),
            (None, Some(run)) => Predecessors::of(run, &Predecessors::default()),
            (None, None) => Predecessors::default(),
        }
    }
}

impl Found {
    /// Returns the marker if it could be read.
    pub(super) const fn marker(&self) -> Option<&Marker> {
        match self {
            Self::Marker(marker) => Some(marker),
            Self::Nothing | Self::Unreadable => None,
        }
    }
}

/// Reads the marker of `files`.
pub(super) fn read(files: &StateFiles) -> Result<Found, JournalError> {
    let file = match private().read(true).open(&files.marker) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(JournalError::io("read", &files.marker, error)),
    };
    match io::read_to_string(file) {
        Ok(text) => Ok(serde_json::from_str(&text).map_or(Found::Unreadable, Found::Marker)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Found::Unreadable),
        Err(error) => Err(JournalError::io("read", &files.marker, error)),
    }
}

/// Puts `marker` in the place of the one before: whole or not at all, also when the power fails.
pub(super) fn write(files: &StateFiles, marker: &Marker) -> Result<(), JournalError> {
    let text =
        serde_json::to_string(marker).map_err(|error| JournalError::Encoding(error.into()))?;
    let beside = with_suffix(&files.marker, ".tmp");
    // Left behind by a process that died here; never followed, for `create_new` refuses whatever is in the way.
    let _ = fs::remove_file(&beside);
    let fail = |error| JournalError::io("write", &files.marker, error);
    let mut file = private()
        .write(true)
        .create_new(true)
        .open(&beside)
        .map_err(fail)?;
    file.write_all(text.as_bytes()).map_err(fail)?;
    file.sync_all().map_err(fail)?;
    failpoint::hit("marker_before_rename").map_err(fail)?;
    fs::rename(&beside, &files.marker).map_err(fail)?;
    files.sync_folder()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_replaces_the_one_before_and_what_a_death_left_over() {
        let folder = tempfile::tempdir().unwrap();
        let files = StateFiles::prepare(&folder.path().join("shop.sqlite")).unwrap();
        assert_eq!(read(&files).unwrap(), Found::Nothing);
        fs::write(with_suffix(&files.marker, ".tmp"), "{\"for").unwrap();
        let mut marker = Marker {
            format: 1,
            state: "a".into(),
            run: None,
            lineage: Some(Predecessors::default()),
            seq: 0,
            at_ms: 5,
        };
        for seq in [0, 7] {
            marker.seq = seq;
            write(&files, &marker).unwrap();
            assert_eq!(read(&files).unwrap(), Found::Marker(marker.clone()));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::write(&files.marker, [0xff, 0xfe]).unwrap();
        assert_eq!(read(&files).unwrap(), Found::Unreadable);
    }
}
