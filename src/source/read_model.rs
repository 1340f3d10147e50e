//! Which tables look as if a storefront reads what is made of them. Pure: the drivers ask the catalogue, this judges it.

use super::shape::Catalogue;

/// A table that looks like a read model: its name ends in `_storage` or `_search`, or it has the columns `key` and `data`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadModel {
    /// What a plan may call it; the first is the shortest.
    pub names: Vec<String>,
    /// Its columns in their order; none where the catalogue does not tell this user.
    pub columns: Vec<String>,
    /// Those of them whose values are no ids: floating-point numbers, bits.
    pub no_ids: Vec<String>,
    /// The columns of each index that would do as a cursor, the primary key's first.
    pub cursors: Vec<Vec<String>>,
    /// The server's own estimate of rows.
    pub estimated_rows: u64,
}

impl ReadModel {
    /// Returns what a plan calls the table.
    #[must_use]
    pub fn table(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// Returns whether it has a column of exactly this name.
    #[must_use]
    pub fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|one| one == column)
    }

    /// Returns a table of which only the names and an estimate are known.
    pub(super) const fn unreadable(names: Vec<String>, estimated_rows: u64) -> Self {
        Self {
            names,
            columns: Vec::new(),
            no_ids: Vec::new(),
            cursors: Vec::new(),
            estimated_rows,
        }
    }

    pub(super) fn of(names: Vec<String>, catalogue: &Catalogue) -> Self {
        let does = |index: &&Vec<String>| {
            let exact = |name: &String| {
                catalogue
                    .columns
                    .iter()
                    .any(|column| column.name == *name && column.key.is_some() && !column.nullable)
            };
            !index.is_empty() && index.iter().all(exact)
        };
        let mut cursors: Vec<Vec<String>> = Vec::new();
        for index in catalogue.unique.iter().map(|index| &index.columns) {
            if does(&index) && !cursors.contains(index) {
                cursors.push(index.clone());
            }
        }
        Self {
            names,
            columns: catalogue
                .columns
                .iter()
                .map(|column| column.name.clone())
                .collect(),
            no_ids: catalogue
                .columns
                .iter()
                .filter(|column| !column.is_id)
                .map(|column| column.name.clone())
                .collect(),
            cursors,
            estimated_rows: catalogue.estimated_rows,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::shape::tests::catalogue, *};

    #[test]
    fn only_indexes_that_can_be_walked_are_cursors() {
        let found = ReadModel::of(vec!["url".into()], &catalogue());
        assert_eq!(
            found.cursors,
            [vec!["id_url"], vec!["store", "price", "fk_url"]]
        );
        assert!(found.has("key") && !found.has("KEY"));
        assert_eq!((found.table(), found.estimated_rows), ("url", 7));
    }
}
