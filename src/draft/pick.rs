//! Which tables become resources, and what their columns tell about each.

use std::collections::BTreeSet;

use super::Preset;
use crate::{
    source::ReadModel,
    spryker::{self, Kind, Presence, Table},
};

/// A resource of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drafted {
    /// Unique in the plan, whatever the case.
    pub name: String,
    /// Its table.
    pub table: String,
    /// Its rows, as the source estimates them.
    pub rows: u64,
    /// The columns of the cursor.
    pub cursor: Vec<String>,
    /// What `--ids` filters, where the columns leave no doubt.
    pub entity: Option<String>,
    /// The columns that may be meant, where they leave some.
    pub entities: Vec<String>,
    /// The column with more keys of its rows and their values.
    pub aliases: Option<&'static str>,
    /// The column with one more key of its rows, which leads to their own.
    pub mapping_key: Option<&'static str>,
    /// Columns that may hold more keys by their names, and that nobody knows.
    pub maybe_keys: Vec<String>,
    /// Whether it has a column `store`.
    pub by_store: bool,
    /// Whether it goes to the search cluster.
    pub search: bool,
    /// What fills `{type}` of its index, where that is known.
    pub kind: Option<&'static str>,
    /// Whether its name says all of this to the plan's preset.
    pub short: bool,
    /// Why nobody is known to build its rows again, where a preset would ask.
    pub no_publisher: Option<&'static str>,
}

/// A table that a person has to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Its name.
    pub table: String,
    /// Its rows, as the source estimates them.
    pub rows: u64,
    /// Why it cannot be a resource yet.
    pub why: String,
}

/// What a plan is written from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Draft {
    /// In the order of the tables.
    pub resources: Vec<Drafted>,
    /// In the order of the tables.
    pub left_out: Vec<LeftOut>,
    /// The stores that rows name, as far as somebody looked.
    pub stores: Vec<String>,
}

impl Draft {
    /// Returns how many of its tables are those of Spryker's own modules.
    #[must_use]
    pub fn spryker_tables(&self) -> usize {
        let known = |one: &&Drafted| spryker::by_table(&one.table).is_some();
        self.resources.iter().filter(known).count()
    }
}

/// Returns what a plan can say about these tables.
#[must_use]
pub fn draft(tables: &[ReadModel], preset: Option<Preset>) -> Draft {
    let known = |table: &ReadModel| match preset {
        Some(Preset::Spryker) => spryker::by_table(table.table()),
        None => None,
    };
    let mut draft = Draft::default();
    // No other table takes a name that the shop's console knows.
    let mut taken: BTreeSet<String> = tables
        .iter()
        .filter_map(known)
        .filter_map(known_name)
        .collect();
    for table in tables {
        match resource(table, known(table), preset, &taken) {
            Ok(resource) => {
                taken.insert(resource.name.to_lowercase());
                draft.resources.push(resource);
            }
            Err(why) => draft.left_out.push(LeftOut {
                table: table.table().to_owned(),
                rows: table.estimated_rows,
                why: why.to_owned(),
            }),
        }
    }
    draft
}

/// Returns what the shop's console calls a table, with its kind where that name has two.
fn known_name(known: &Table) -> Option<String> {
    let name = known.name?;
    Some(if spryker::find(name).count() > 1 {
        format!("{name}/{}", known.kind.label())
    } else {
        name.to_owned()
    })
}

/// Returns whether a preset that knows `known` fills in what `table` has.
fn is_as_known(table: &ReadModel, known: &Table, cursor: &[String]) -> bool {
    let has_store = known.store == Presence::Never || table.has(spryker::STORE);
    known.name.is_some()
        && cursor == [known.cursor]
        && known.entity.is_none_or(|entity| table.has(entity))
        && has_store
}

/// Returns why `known` has no publisher, if it has none.
const fn no_publisher(known: Option<&Table>) -> Option<&'static str> {
    match known {
        None => Some("CHECK: what `publish:trigger-events` calls it, if its events are wired"),
        Some(known) if known.trigger.is_none() => {
            Some("nothing in core builds its rows again by their ids")
        }
        Some(_) => None,
    }
}

fn resource(
    table: &ReadModel,
    known: Option<&Table>,
    preset: Option<Preset>,
    taken: &BTreeSet<String>,
) -> Result<Drafted, &'static str> {
    if table.columns.is_empty() {
        return Err("this user may not read all of it");
    }
    match (table.has("key"), table.has("data")) {
        (false, false) => return Err("it has neither a column `key` nor a column `data`"),
        (false, true) => return Err("it has no column `key`"),
        (true, false) => return Err("it has no column `data`"),
        (true, true) => {}
    }
    let own = known.map(|known| vec![known.cursor.to_owned()]);
    let cursor = own.filter(|own| table.cursors.contains(own));
    let cursor = cursor.as_ref().or(table.cursors.first()).ok_or(
        "it has no PRIMARY or UNIQUE index over NOT NULL columns that could be its cursor",
    )?;
    if table
        .columns
        .iter()
        .chain([&table.table().to_owned()])
        .any(|name| name.contains(char::is_control))
    {
        return Err("a name has control characters");
    }
    let (entity, entities) = entity(table, cursor);
    let search = known.map_or(table.table().ends_with("_search"), |known| {
        known.kind == Kind::Search
    });
    // A document has one `_id`.
    let has = |column: &'static str| (!search && table.has(column)).then_some(column);
    Ok(Drafted {
        name: known
            .and_then(known_name)
            .unwrap_or_else(|| name(table.table(), taken)),
        table: table.table().to_owned(),
        rows: table.estimated_rows,
        cursor: cursor.clone(),
        entity,
        entities,
        aliases: has(spryker::ALIAS_KEYS),
        mapping_key: has(spryker::MAPPING_KEY),
        maybe_keys: match known {
            None if !search => maybe_keys(table),
            _ => Vec::new(),
        },
        by_store: table.has(spryker::STORE),
        search,
        kind: known.and_then(|known| known.source),
        short: known.is_some_and(|known| is_as_known(table, known, cursor)),
        no_publisher: preset.and_then(|_| no_publisher(known)),
    })
}

/// Returns the column that `--ids` filters, or those that may be meant. Of a table of Spryker's own, with a preset or
/// without one, it is what the shop's console compares: the ids of the table itself where the facts name no other.
fn entity(table: &ReadModel, cursor: &[String]) -> (Option<String>, Vec<String>) {
    let mut entities: Vec<String> = table
        .columns
        .iter()
        .filter(|name| name.starts_with("fk_") && !table.no_ids.contains(name))
        .cloned()
        .collect();
    let facts = spryker::by_table(table.table()).filter(|facts| cursor == [facts.cursor]);
    let own = format!("fk_{}", stem(table.table()));
    let entity = match facts.map(|facts| facts.entity) {
        Some(None) => None,
        Some(Some(entity))
            if table.has(entity) && !table.no_ids.iter().any(|one| one == entity) =>
        {
            Some(entity.to_owned())
        }
        _ if entities.contains(&own) => Some(own),
        _ if entities.len() == 1 => entities.pop(),
        _ => None,
    };
    if entity.is_some() {
        entities.clear();
    }
    (entity, entities)
}

/// Returns the columns whose names sound as if they held more keys of a row.
fn maybe_keys(table: &ReadModel) -> Vec<String> {
    let sounds = |name: &&String| {
        let name = name.to_lowercase();
        ![spryker::ALIAS_KEYS, spryker::MAPPING_KEY].contains(&name.as_str())
            && ["alias", "mapping"].iter().any(|part| name.contains(part))
    };
    table.columns.iter().filter(sounds).cloned().collect()
}

/// Returns what a table is about: `spy_loyalty_card_storage` is about `loyalty_card`.
fn stem(table: &str) -> &str {
    let bare = table.strip_prefix("spy_").unwrap_or(table);
    bare.strip_suffix("_storage")
        .or_else(|| bare.strip_suffix("_search"))
        .unwrap_or(bare)
}

/// Returns a name that no other resource has, made of what names may be made of.
fn name(table: &str, taken: &BTreeSet<String>) -> String {
    let sound = |text: &str| -> String {
        let text: String = text
            .chars()
            .map(|c| match c {
                c if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') => c,
                _ => '_',
            })
            .take(80)
            .collect();
        match text.trim_start_matches(['.', '-']) {
            "" => "table".to_owned(),
            text => text.to_owned(),
        }
    };
    let stem = sound(stem(table));
    let ending = if table.ends_with("_search") {
        "_search"
    } else {
        "_storage"
    };
    let first = match ending {
        "_search" => format!("{stem}{ending}"),
        _ => stem.clone(),
    };
    let numbered = (2..).map(|number| format!("{stem}{ending}_{number}"));
    [first, format!("{stem}{ending}")]
        .into_iter()
        .chain(numbered)
        .find(|name| !taken.contains(&name.to_lowercase()))
        .unwrap_or(stem)
}

#[cfg(test)]
mod tests;
