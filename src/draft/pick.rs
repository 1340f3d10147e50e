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
    let stem = stem(table.table());
    let mut entities: Vec<String> = table
        .columns
        .iter()
        .filter(|name| name.starts_with("fk_"))
        .cloned()
        .collect();
    let own = format!("fk_{stem}");
    let of_console = known.and_then(|known| known.entity);
    let entity = if let Some(entity) = of_console.filter(|entity| table.has(entity)) {
        Some(entity.to_owned())
    } else if entities.contains(&own) {
        Some(own)
    } else if entities.len() == 1 {
        entities.pop()
    } else {
        None
    };
    if entity.is_some() {
        entities.clear();
    }
    Ok(Drafted {
        name: known
            .and_then(known_name)
            .unwrap_or_else(|| name(table.table(), taken)),
        table: table.table().to_owned(),
        rows: table.estimated_rows,
        cursor: cursor.clone(),
        entity,
        entities,
        by_store: table.has("store"),
        search: known.map_or(table.table().ends_with("_search"), |known| {
            known.kind == Kind::Search
        }),
        kind: known.and_then(|known| known.source),
        short: known.is_some_and(|known| is_as_known(table, known, cursor)),
        no_publisher: preset.and_then(|_| no_publisher(known)),
    })
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
mod tests {
    use super::*;

    fn table(name: &str, columns: &[&str]) -> ReadModel {
        ReadModel {
            names: vec![name.to_owned()],
            columns: columns.iter().map(|&name| name.to_owned()).collect(),
            cursors: vec![vec!["id".to_owned()]],
            estimated_rows: 3,
        }
    }

    #[test]
    fn the_columns_tell_entity_and_store() {
        for (columns, entity, entities) in [
            (&["key", "data", "fk_x"][..], Some("fk_x"), 0),
            (&["key", "data", "fk_x", "fk_card"], Some("fk_card"), 0),
            (&["key", "data", "fk_x", "fk_y"], None, 2),
            (&["key", "data"], None, 0),
        ] {
            let found = draft(&[table("spy_card_storage", columns)], None);
            let card = &found.resources[0];
            assert_eq!(card.entity.as_deref(), entity);
            assert_eq!(card.entities.len(), entities);
            assert!(!card.by_store && !card.search);
        }
        let found = draft(&[table("spy_card_search", &["key", "data", "store"])], None);
        assert!(found.resources[0].by_store && found.resources[0].search);
    }

    #[test]
    fn every_resource_has_a_name_of_its_own() {
        let tables = [
            "spy_card_storage",
            "card_storage",
            "Card",
            "spy_card_search",
            "card_search",
            "größe storage",
            "-",
        ];
        let found = draft(&tables.map(|name| table(name, &["key", "data"])), None);
        let names: Vec<_> = found.resources.iter().map(|one| &*one.name).collect();
        assert_eq!(
            names,
            [
                "card",
                "card_storage",
                "Card_storage_2",
                "card_search",
                "card_search_2",
                "gr__e_storage",
                "table"
            ]
        );
    }

    #[test]
    fn known_tables_have_the_names_of_the_console() {
        let columns = ["key", "data", "store", "fk_product_abstract", "fk_x"];
        let tables = [
            ("spy_product_abstract_page_search", ""),
            (
                "spy_product_abstract_storage",
                "id_product_abstract_storage",
            ),
            ("spy_customer_invalidated_storage", ""),
            ("url_storage", "id_url_storage"),
            ("spy_url_storage", "id_url_storage"),
        ];
        let found = draft(
            &tables.map(|(name, cursor)| ReadModel {
                cursors: vec![vec![cursor.to_owned()]],
                ..table(name, &columns)
            }),
            Some(Preset::Spryker),
        );
        let told: Vec<_> = found
            .resources
            .iter()
            .map(|one| {
                let told = (&*one.name, one.search, one.kind);
                (told, one.short, one.no_publisher.is_some())
            })
            .collect();
        assert_eq!(
            told,
            [
                // Another cursor; and `url` has no `fk_url` here.
                (
                    ("product_abstract/search", true, Some("page")),
                    false,
                    false
                ),
                (("product_abstract/storage", false, None), true, false),
                (("customer_invalidated", false, None), false, true),
                (("url_storage", false, None), false, true),
                (("url", false, None), false, false),
            ]
        );
        let entity = found.resources[1].entity.as_deref();
        assert_eq!(entity, Some("fk_product_abstract"));
    }

    #[test]
    fn what_cannot_be_a_resource_is_left_out_with_the_reason() {
        let mut unsorted = table("d_storage", &["key", "data"]);
        unsorted.cursors.clear();
        let found = draft(
            &[
                table("a_storage", &["key"]),
                table("b_storage", &["data"]),
                table("c_storage", &["id"]),
                unsorted,
                table("e_storage", &[]),
            ],
            None,
        );
        assert_eq!(found.resources, []);
        let why: Vec<_> = found.left_out.iter().map(|one| &one.why[..20]).collect();
        assert_eq!(
            why,
            [
                "it has no column `da",
                "it has no column `ke",
                "it has neither a col",
                "it has no PRIMARY or",
                "this user may not re"
            ]
        );
    }
}
