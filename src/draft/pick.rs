//! Which tables become resources, and what their columns tell about each.

use std::collections::BTreeSet;

use crate::source::ReadModel;

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
pub fn draft(tables: &[ReadModel]) -> Draft {
    let mut draft = Draft::default();
    let mut taken = BTreeSet::new();
    for table in tables {
        match resource(table, &taken) {
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

fn resource(table: &ReadModel, taken: &BTreeSet<String>) -> Result<Drafted, &'static str> {
    if table.columns.is_empty() {
        return Err("this user may not read all of it");
    }
    match (table.has("key"), table.has("data")) {
        (false, false) => return Err("it has neither a column `key` nor a column `data`"),
        (false, true) => return Err("it has no column `key`"),
        (true, false) => return Err("it has no column `data`"),
        (true, true) => {}
    }
    let cursor = table.cursors.first().ok_or(
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
    let entity = if entities.contains(&own) {
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
        name: name(table.table(), taken),
        table: table.table().to_owned(),
        rows: table.estimated_rows,
        cursor: cursor.clone(),
        entity,
        entities,
        by_store: table.has("store"),
        search: table.table().ends_with("_search"),
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
            let found = draft(&[table("spy_card_storage", columns)]);
            let card = &found.resources[0];
            assert_eq!(card.entity.as_deref(), entity);
            assert_eq!(card.entities.len(), entities);
            assert!(!card.by_store && !card.search);
        }
        let found = draft(&[table("spy_card_search", &["key", "data", "store"])]);
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
        let found = draft(&tables.map(|name| table(name, &["key", "data"])));
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
    fn what_cannot_be_a_resource_is_left_out_with_the_reason() {
        let mut unsorted = table("d_storage", &["key", "data"]);
        unsorted.cursors.clear();
        let found = draft(&[
            table("a_storage", &["key"]),
            table("b_storage", &["data"]),
            table("c_storage", &["id"]),
            unsorted,
            table("e_storage", &[]),
        ]);
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
