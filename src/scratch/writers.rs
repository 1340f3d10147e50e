//! Which rows write the keys that are doubted, so that two rows of one key are told from one that differs.

use rusqlite::{OptionalExtension, params};

use super::{Scratch, ScratchError, number};
use crate::ids::ResourceName;

/// A row that writes a key.
#[derive(Debug)]
pub struct Writer {
    /// A hash of the key and what it belongs to.
    pub name: [u8; 16],
    /// Place of the row and key.
    pub pair: String,
    /// A hash of what it writes.
    pub hash: u64,
    /// Whether it is one of the resource that the key is doubted of, as opposed to one of another that may write it, too.
    pub own: bool,
}

impl Scratch {
    /// Hands the suspects of a resource to `take`, each as place and key.
    pub fn each_suspect(
        &self,
        name: &ResourceName,
        mut take: impl FnMut(&str),
    ) -> Result<(), ScratchError> {
        self.with(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT pair FROM suspect WHERE doubt IN (SELECT id FROM doubt WHERE resource = ?1)",
            )?;
            let mut rows = query.query([name.as_str()])?;
            while let Some(row) = rows.next()? {
                take(row.get_ref(0)?.as_str()?);
            }
            Ok(())
        })
    }

    /// Forgets who writes which key of a resource.
    pub fn clear_writers(&self, name: &ResourceName) -> Result<(), ScratchError> {
        self.change(|change| {
            change
                .execute("DELETE FROM writer WHERE resource = ?1", [name.as_str()])
                .map(drop)
        })
    }

    /// Notes rows that write keys, in the order in which they do: of one key the last one stands.
    pub fn add_writers(&self, name: &ResourceName, writers: &[Writer]) -> Result<(), ScratchError> {
        self.change(|change| {
            let mut insert = change.prepare_cached(
                "INSERT INTO writer (resource, name, pair, hash, own) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET differ = differ OR hash <> excluded.hash, own = own OR excluded.own, pair = excluded.pair, hash = excluded.hash",
            )?;
            for one in writers {
                let hash = one.hash.cast_signed();
                insert.execute(params![name.as_str(), one.name, one.pair, hash, one.own])?;
            }
            Ok(())
        })
    }

    /// Keeps, of the keys of a resource, those that several rows write with different content.
    pub fn keep_shared_keys(&self, name: &ResourceName) -> Result<(), ScratchError> {
        self.change(|change| {
            change
                .execute(
                    "DELETE FROM writer WHERE resource = ?1 AND NOT (differ AND own)",
                    [name.as_str()],
                )
                .map(drop)
        })
    }

    /// Returns the last row that writes a key which several rows write with different content.
    pub fn last_writer(
        &self,
        resource: &ResourceName,
        name: &[u8; 16],
    ) -> Result<Option<String>, ScratchError> {
        self.with(|connection| {
            connection
                .prepare_cached(
                    "SELECT pair FROM writer WHERE resource = ?1 AND name = ?2 AND differ",
                )?
                .query_row(params![resource.as_str(), name], |row| row.get(0))
                .optional()
        })
    }

    /// Returns how many keys of a resource are written by several rows with different content; of those that were doubted.
    pub fn shared_keys(&self, resource: &ResourceName) -> Result<u64, ScratchError> {
        self.with(|connection| {
            connection
                .prepare_cached("SELECT COUNT(*) FROM writer WHERE resource = ?1 AND differ")?
                .query_row([resource.as_str()], |row| number(row, 0))
        })
    }
}
