//! Names of a target that no row may own: noted as they are listed, taken off as their rows are found.

use rusqlite::params;

use super::{Scratch, ScratchError, add_findings, number};
use crate::ids::{ResourceName, StoredName};

impl Scratch {
    /// Forgets the candidates of a target.
    pub fn clear_candidates(&self, target: &str) -> Result<(), ScratchError> {
        self.change(|change| {
            change
                .execute("DELETE FROM candidate WHERE target = ?1", [target])
                .map(drop)
        })
    }

    /// Notes names of a target that rows of `resource` may own.
    pub fn add_candidates(
        &self,
        target: &str,
        resource: &ResourceName,
        names: &[StoredName],
    ) -> Result<(), ScratchError> {
        self.change(|change| {
            let mut insert = change.prepare_cached(
                "INSERT OR IGNORE INTO candidate (target, resource, key, place) VALUES (?1, ?2, ?3, ?4)",
            )?;
            for name in names {
                insert.execute(params![target, resource.as_str(), name.key, name.place])?;
            }
            Ok(())
        })
    }

    /// Takes names from the candidates.
    pub fn drop_names(&self, target: &str, names: &[StoredName]) -> Result<(), ScratchError> {
        self.change(|change| {
            let mut delete = change.prepare_cached(
                "DELETE FROM candidate WHERE target = ?1 AND key = ?2 AND place = ?3",
            )?;
            for name in names {
                delete.execute(params![target, name.key, name.place])?;
            }
            Ok(())
        })
    }

    /// Forgets the candidates of a resource.
    pub fn drop_candidates(
        &self,
        target: &str,
        resource: &ResourceName,
    ) -> Result<(), ScratchError> {
        self.change(|change| {
            change
                .execute(
                    "DELETE FROM candidate WHERE target = ?1 AND resource = ?2",
                    [target, resource.as_str()],
                )
                .map(drop)
        })
    }

    /// Returns at most `limit` candidates of a resource, those that come after `after`.
    pub fn candidates(
        &self,
        target: &str,
        resource: &ResourceName,
        after: Option<&StoredName>,
        limit: usize,
    ) -> Result<Vec<StoredName>, ScratchError> {
        self.with(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT key, place FROM candidate WHERE target = ?1 AND resource = ?2 \
                 AND (?3 IS NULL OR (key, place) > (?3, ?4)) ORDER BY key, place LIMIT ?5",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let (key, place) = after.map(|name| (&name.key, &name.place)).unzip();
            let names = query.query_map(
                params![target, resource.as_str(), key, place, limit],
                |row| {
                    Ok(StoredName {
                        key: row.get(0)?,
                        place: row.get(1)?,
                    })
                },
            )?;
            names.collect()
        })
    }

    /// Returns how many candidates a resource has.
    pub fn candidate_count(
        &self,
        target: &str,
        resource: &ResourceName,
    ) -> Result<u64, ScratchError> {
        self.with(|connection| {
            connection
                .prepare_cached(
                    "SELECT COUNT(*) FROM candidate WHERE target = ?1 AND resource = ?2",
                )?
                .query_row([target, resource.as_str()], |row| number(row, 0))
        })
    }

    /// Keeps the first keys of a resource that nobody owns.
    pub fn add_extra(&self, resource: &ResourceName, keys: &[String]) -> Result<(), ScratchError> {
        self.change(|change| {
            change.execute(
                "DELETE FROM finding WHERE resource = ?1 AND kind = 'extra'",
                [resource.as_str()],
            )?;
            add_findings(change, resource, "extra", keys)
        })
    }
}
