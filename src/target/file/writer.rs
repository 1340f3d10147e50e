//! Appends chunks to the file of one partition.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use async_trait::async_trait;

use super::{blocking, failed, open, sync_folder};
use crate::{
    chunk::Chunk,
    error::{EdgeError, ErrorKind},
    ids::ChunkSeq,
    target::{ChunkWriter, Rejected, Written, bulk::Lines, resp},
};

/// Bytes collected before they are handed to the kernel.
const PIECE: usize = 128 * 1024;

/// Writes one partition.
pub(super) struct FileWriter {
    file: File,
    path: PathBuf,
    /// The length after the last chunk that was synced. What lies beyond is cut off before the next one.
    good: u64,
    out: Vec<u8>,
    /// Makes NDJSON of rows; without it they become Redis commands.
    lines: Option<Lines>,
}

impl FileWriter {
    /// Opens or creates the file at `path` in `folder` and cuts it back to `length`.
    ///
    /// # Errors
    ///
    /// `EvidenceLost` when it is shorter than that.
    pub(super) fn open(
        folder: &Path,
        path: PathBuf,
        length: u64,
        lines: Option<Lines>,
    ) -> Result<Self, EdgeError> {
        let missing = |path: &Path, found: u64| lost(path, length, found);
        let file = match open(&path, length == 0) {
            Ok(file) => file,
            Err(e) if e.kind == ErrorKind::Missing && length > 0 => return Err(missing(&path, 0)),
            Err(e) => return Err(e),
        };
        let found = file
            .metadata()
            .map_err(|e| failed("cannot read", &path, e))?
            .len();
        if found < length {
            return Err(missing(&path, found));
        }
        if found > length {
            file.set_len(length)
                .map_err(|e| failed("cannot cut back", &path, e))?;
        }
        if length == 0 {
            sync_folder(folder)?;
        }
        Ok(Self {
            file,
            path,
            good: length,
            out: Vec::new(),
            lines,
        })
    }

    fn append(&mut self, chunk: &Chunk, rejected: &mut Vec<Rejected>) -> Result<u64, EdgeError> {
        self.settle()?;
        self.out.clear();
        let length = self
            .put(chunk, rejected)
            .map_err(|e| failed("cannot write to", &self.path, e))?;
        self.good = length;
        Ok(length)
    }

    /// Makes the file end with the last good chunk, whatever a failed write left behind.
    fn settle(&mut self) -> Result<(), EdgeError> {
        let found = self
            .file
            .metadata()
            .map_err(|e| failed("cannot read", &self.path, e))?;
        if found.nlink() == 0 {
            return Err(lost(&self.path, self.good, 0));
        }
        if found.len() < self.good {
            return Err(lost(&self.path, self.good, found.len()));
        }
        if found.len() > self.good {
            self.file
                .set_len(self.good)
                .map_err(|e| failed("cannot cut back", &self.path, e))?;
        }
        Ok(())
    }

    /// Writes and syncs the rows after the good length; returns the new length.
    fn put(&mut self, chunk: &Chunk, rejected: &mut Vec<Rejected>) -> io::Result<u64> {
        self.file.seek(SeekFrom::Start(self.good))?;
        for (at, row) in chunk.rows().enumerate() {
            if let Some(lines) = &self.lines {
                match lines.route(&row) {
                    Ok(places) => {
                        places.for_each(|index| lines.append(&mut self.out, &row, index));
                    }
                    Err(why) => rejected.push(Rejected {
                        row: at,
                        reason: why.into_owned(),
                    }),
                }
                if self.out.len() >= PIECE {
                    self.spill()?;
                }
                continue;
            }
            resp::array(&mut self.out, 3);
            resp::bulk(&mut self.out, &[b"SET"]);
            resp::bulk(&mut self.out, &[row.key]);
            resp::bulk_header(&mut self.out, row.value.len());
            if row.value.len() < PIECE {
                self.out.extend_from_slice(row.value);
            } else {
                // Not through the buffer, which would stay that large.
                self.spill()?;
                self.file.write_all(row.value)?;
            }
            self.out.extend_from_slice(b"\r\n");
            if self.out.len() >= PIECE {
                self.spill()?;
            }
        }
        self.spill()?;
        let length = self.file.stream_position()?;
        if length > self.good {
            self.file.sync_data()?;
        }
        Ok(length)
    }

    fn spill(&mut self) -> io::Result<()> {
        self.file.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }
}

fn lost(path: &Path, wanted: u64, found: u64) -> EdgeError {
    EdgeError::new(
        ErrorKind::EvidenceLost,
        format!(
            "{} has {found} bytes, and {wanted} were written",
            path.display()
        ),
    )
}

#[async_trait]
impl ChunkWriter for FileWriter {
    async fn write(&mut self, _seq: ChunkSeq, chunk: &Chunk) -> Result<Written, EdgeError> {
        let mut rejected = Vec::new();
        let length = blocking(|| self.append(chunk, &mut rejected))?;
        Ok(Written {
            rejected,
            length: Some(length),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::KeyValue;

    #[test]
    fn a_full_disk_is_named_and_the_next_write_starts_at_the_last_good_length() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("url.0001.resp");
        let mut chunk = Chunk::default();
        chunk.push(&[KeyValue::Uint(1)], b"a", &vec![b'x'; 3 * PIECE], &[]);
        let mut writer = FileWriter::open(dir.path(), path.clone(), 0, None).unwrap();
        // A device that refuses every write with ENOSPC.
        let full = File::options().write(true).open("/dev/full").unwrap();
        let disk = std::mem::replace(&mut writer.file, full);
        let error = writer.append(&chunk, &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::TargetDisk);
        assert_eq!(error.message, format!("cannot write to {}", path.display()));

        // What the disk took before it was full.
        (&disk).write_all(b"*3\r\n$3\r\nSE").unwrap();
        writer.file = disk;
        let length = writer.append(&chunk, &mut Vec::new()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(length, bytes.len() as u64);
        assert!(bytes.starts_with(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$393216\r\nxxx"));
    }
}
