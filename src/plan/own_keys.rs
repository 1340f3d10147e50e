//! Which keys of a target are certainly a resource's own, so that one without a row is an orphan.

use super::{Plan, Resource, SourceKind, resolved::MoreKeys};
use crate::spryker;

impl Plan {
    /// Returns what every key of `resource` begins with, and no key of anything else does.
    ///
    /// # Errors
    ///
    /// Why that is not known. Further keys of a row cannot be looked for by its `key` column, so nothing is taken for an
    /// orphan that could be one of them.
    pub fn own_keys<'a>(&self, resource: &'a Resource) -> Result<&'a str, String> {
        let begin = resource.keys.as_deref().ok_or_else(|| {
            "`keys` of the resource does not say what all its keys begin with".to_owned()
        })?;
        if self.source.kind == SourceKind::Sqlite {
            return Err(
                "SQLite may hold a key as bytes, which cannot be looked for as text".to_owned(),
            );
        }
        let kind = |to: &str| self.targets.get(to).map(std::mem::discriminant);
        let other = self
            .targets
            .keys()
            .find(|name| **name != resource.to && kind(name) == kind(&resource.to));
        if let Some(other) = other {
            return Err(format!(
                "target `{other}` may be the same server, and what its rows own is not looked at here"
            ));
        }
        let neighbours = self.resources.iter().filter(|one| one.to == resource.to);
        // Keys that the shop's own tables, or columns that somebody typed, hold may begin like anything.
        if let Some(one) = neighbours.into_iter().find(|one| {
            let MoreKeys { aliases, mapping } = &one.from.more_keys;
            let mut columns = [aliases, mapping].into_iter().flatten();
            let known = spryker::by_table(&one.from.table).is_some();
            columns.any(|column| !column.optional || !known)
        }) {
            return Err(format!(
                "rows of `{}` may own keys beside their own (`from.aliases`, `from.mapping_key`), which cannot be told from orphans",
                one.name
            ));
        }
        let shared = |table: &spryker::Table| !table.owns_its_prefix();
        if resource.from.more_keys != MoreKeys::default()
            && spryker::by_table(&resource.from.table).is_some_and(shared)
        {
            return Err(
                "its rows own keys beside their own, which cannot be told from orphans".to_owned(),
            );
        }
        Ok(begin)
    }
}
