//! What Spryker's own modules keep in storage and search tables: the facts behind `preset: spryker`.
//!
//! One table of data, `tables.tsv`, and its reader; a resource more is a row more and no code.

use std::sync::LazyLock;

use crate::nearest::nearest;

/// One row per table that core synchronizes, tab-separated, `-` for nothing.
///
/// Taken from the schema files and synchronization plugins of `spryker/spryker-core` (snapshot of October 2025) and of the
/// four public demo shops (2026), `trigger` from their event resource and publisher trigger plugins.
const TABLES: &str = include_str!("tables.tsv");

/// How many columns `tables.tsv` has.
const WIDTH: usize = 18;

/// Column with the target's key, in every table.
pub const KEY: &str = "key";
/// Column with the value.
pub const DATA: &str = "data";
/// Tables with a store column whose plugins of `sync:data` say that their rows have none.
const SENT_WITHOUT_STORE: [&str; 6] = [
    "spy_cms_page_storage",
    "spy_cms_page_search",
    "spy_company_user_storage",
    "spy_merchant_storage",
    "spy_product_abstract_storage",
    // No plugin at all.
    "spy_publish_and_synchronize_health_check_search",
];

/// Column with the row's store, in tables whose [`Table::store`] is not [`Presence::Never`].
pub const STORE: &str = "store";
/// Column with the row's locale, in tables whose [`Table::locale`] is not [`Presence::Never`].
pub const LOCALE: &str = "locale";
/// Column with a JSON object of more keys and their values; in every table, filled where there are
/// [`mappings`](Table::mappings).
pub const ALIAS_KEYS: &str = "alias_keys";
/// Column with one more key that points at the row's own, where [`Table::has_mapping_key`] says so.
pub const MAPPING_KEY: &str = "mapping_resource_key";

/// What a table's rows become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Values in Redis.
    Storage,
    /// Documents in Elasticsearch or OpenSearch.
    Search,
}

impl Kind {
    /// Returns the kind as it ends a resource's name: `product_abstract/search`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Storage => "storage",
            Self::Search => "search",
        }
    }
}

/// Whether a table has a column and its rows fill it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// No such column.
    Never,
    /// Rows may leave it empty.
    Maybe,
    /// Every row has it.
    Always,
}

/// Type of the `data` column on MySQL and MariaDB; PostgreSQL has `TEXT` for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataColumn {
    /// `TEXT`, which cuts at 65,535 bytes.
    Text,
    /// `LONGTEXT`.
    LongText,
}

impl DataColumn {
    /// Returns the type as DDL spells it.
    #[must_use]
    pub const fn sql(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::LongText => "LONGTEXT",
        }
    }
}

/// What `publish:trigger-events` needs to build a table's rows again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trigger {
    /// What its `-r` takes.
    pub resource: &'static str,
    /// Column whose values its `-i` takes, `spy_url.id_url`; `None` where the plugin computes them.
    pub ids: Option<&'static str>,
}

/// One storage or search table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// What `sync:data` calls it; `None` where no plugin does. A storage and a search table may share a name.
    pub name: Option<&'static str>,
    /// What its rows become.
    pub kind: Kind,
    /// The table.
    pub table: &'static str,
    /// Its primary key, the paging column.
    pub cursor: &'static str,
    /// The column that `sync:data RESOURCE IDS` compares, where it is not the primary key.
    pub entity: Option<&'static str>,
    /// Whether it has a `store` column.
    pub store: Presence,
    /// Whether it has a `locale` column.
    pub locale: Presence,
    /// What its keys begin with, before the first `:`.
    pub key_prefix: &'static str,
    /// The column that its keys end with.
    pub key_suffix: Option<&'static str>,
    /// The queue of its messages.
    pub queue: &'static str,
    /// The queue pool of rows without a store.
    pub pool: Option<&'static str>,
    /// The search source, a part of the index name: `page`.
    pub source: Option<&'static str>,
    /// Pairs of columns that make alias keys, as the schema writes them: `sku:id_product_abstract`.
    pub mappings: Option<&'static str>,
    /// The schema's `mapping_resource`; without effect where there are `mappings`.
    pub mapping_resource: Option<&'static str>,
    /// Type of its `data` column.
    pub data: DataColumn,
    /// Longest key, in characters.
    pub key_chars: u16,
    /// How its rows are built again; `None` where nothing in core does that by id.
    pub trigger: Option<Trigger>,
}

impl Table {
    /// Returns whether the table has a `mapping_resource_key` column.
    #[must_use]
    pub const fn has_mapping_key(&self) -> bool {
        self.mapping_resource.is_some() && self.mappings.is_none()
    }

    /// Returns whether `sync:data` names the store of its rows in messages.
    #[must_use]
    pub fn sends_store(&self) -> bool {
        self.store != Presence::Never && !SENT_WITHOUT_STORE.contains(&self.table)
    }

    /// Returns whether no other table has keys with its prefix: then each of them, aliases included, is of its rows.
    #[must_use]
    pub fn owns_its_prefix(&self) -> bool {
        let same = |other: &&Self| other.kind == self.kind && other.key_prefix == self.key_prefix;
        tables().iter().filter(same).count() == 1
    }

    /// Returns the table that a tab-separated line describes.
    fn parse(line: &'static str) -> Option<Self> {
        let cells: Vec<&'static str> = line.split('\t').collect();
        let [
            name,
            kind,
            table,
            cursor,
            entity,
            store,
            locale,
            key_prefix,
            key_suffix,
            queue,
            pool,
            source,
            mappings,
            mapping_resource,
            data,
            key_chars,
            trigger,
            trigger_ids,
        ] = <[&str; WIDTH]>::try_from(cells).ok()?;
        Some(Self {
            name: filled(name),
            kind: match kind {
                "storage" => Kind::Storage,
                "search" => Kind::Search,
                _ => return None,
            },
            table,
            cursor,
            entity: filled(entity),
            store: presence(store)?,
            locale: presence(locale)?,
            key_prefix,
            key_suffix: filled(key_suffix),
            queue,
            pool: filled(pool),
            source: filled(source),
            mappings: filled(mappings),
            mapping_resource: filled(mapping_resource),
            data: match data {
                "TEXT" => DataColumn::Text,
                "LONGTEXT" => DataColumn::LongText,
                _ => return None,
            },
            key_chars: key_chars.parse().ok()?,
            trigger: filled(trigger).map(|resource| Trigger {
                resource,
                ids: filled(trigger_ids),
            }),
        })
    }
}

fn filled(cell: &'static str) -> Option<&'static str> {
    (cell != "-").then_some(cell)
}

fn presence(cell: &str) -> Option<Presence> {
    match cell {
        "-" => Some(Presence::Never),
        "maybe" => Some(Presence::Maybe),
        "always" => Some(Presence::Always),
        _ => None,
    }
}

/// Returns every known table: storage first, then search.
#[must_use]
pub fn tables() -> &'static [Table] {
    // A line that cannot be read is left out; a test counts them, so that none is.
    static READ: LazyLock<Vec<Table>> =
        LazyLock::new(|| TABLES.lines().skip(1).filter_map(Table::parse).collect());
    &READ
}

/// Returns the tables that `sync:data` calls `name`: none, one, or a storage and a search table, in this order.
pub fn find(name: &str) -> impl Iterator<Item = &'static Table> {
    tables()
        .iter()
        .filter(move |table| table.name == Some(name))
}

/// Returns what is known of the database table `table`.
#[must_use]
pub fn by_table(table: &str) -> Option<&'static Table> {
    tables().iter().find(|known| known.table == table)
}

/// Returns at most `most` names of `sync:data` that `typed` may have been meant to be, the likeliest first.
#[must_use]
pub fn near(typed: &str, most: usize) -> Vec<&'static str> {
    let mut names: Vec<_> = tables().iter().filter_map(|table| table.name).collect();
    names.sort_unstable();
    names.dedup();
    let mut near = nearest(typed, names, most);
    // Its table is called otherwise: `glossary` is `translation`.
    let of_table = tables()
        .iter()
        .filter(|one| one.table == typed || stem(one.table) == typed);
    for name in of_table.filter_map(|one| one.name) {
        near.retain(|one| *one != name);
        near.insert(0, name);
    }
    near.truncate(most);
    near
}

/// Returns what a table is about: `spy_glossary_storage` is about `glossary`.
fn stem(table: &str) -> &str {
    let bare = table.strip_prefix("spy_").unwrap_or(table);
    ["_storage", "_page_search", "_search"]
        .iter()
        .find_map(|end| bare.strip_suffix(end))
        .unwrap_or(bare)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_line_is_read_and_no_table_stands_twice() {
        assert_eq!(tables().len(), TABLES.lines().count() - 1);
        assert_eq!(tables().len(), 85);
        let names: BTreeSet<_> = tables().iter().map(|table| table.table).collect();
        assert_eq!(names.len(), tables().len());
        let with_kind: BTreeSet<_> = tables()
            .iter()
            .filter_map(|table| Some((table.name?, table.kind.label())))
            .collect();
        let unnamed = tables().iter().filter(|table| table.name.is_none());
        assert_eq!(with_kind.len() + unnamed.count(), tables().len());
    }

    #[test]
    fn names_are_safe_in_sql_and_in_paths_and_the_facts_agree_with_each_other() {
        let sound = |text: &str| {
            text.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(&b))
        };
        for table in tables() {
            for text in [table.table, table.cursor, table.queue, table.key_prefix] {
                assert!(!text.is_empty() && sound(text), "{table:?}");
            }
            assert!(table.table.starts_with("spy_"), "{table:?}");
            assert!(table.cursor.starts_with("id_"), "{table:?}");
            assert!(table.queue.starts_with("sync."), "{table:?}");
            assert_eq!(
                table.kind == Kind::Search,
                table.source.is_some(),
                "{table:?}"
            );
            assert_eq!(
                table.kind == Kind::Search,
                table.table.ends_with("_search"),
                "{table:?}"
            );
            assert!([255, 1024].contains(&table.key_chars), "{table:?}");
            assert!(table.entity != Some(table.key_prefix), "{table:?}");
        }
    }

    #[test]
    fn a_name_means_one_table_or_a_pair() {
        let found = |name| find(name).map(|table| table.table).collect::<Vec<_>>();
        assert_eq!(found("url"), ["spy_url_storage"]);
        assert_eq!(
            found("product_abstract"),
            [
                "spy_product_abstract_storage",
                "spy_product_abstract_page_search"
            ]
        );
        assert_eq!(found("translation"), ["spy_glossary_storage"]);
        assert!(found("-").is_empty());
        let pairs: BTreeSet<_> = tables()
            .iter()
            .filter_map(|table| table.name)
            .filter(|name| find(name).count() == 2)
            .collect();
        assert_eq!(
            pairs.into_iter().collect::<Vec<_>>(),
            [
                "category_node",
                "configurable_bundle_template",
                "merchant",
                "product_abstract",
                "product_concrete",
                "product_set",
                "service_point",
                "ssp_asset",
            ]
        );
    }

    #[test]
    fn what_a_table_is_comes_out_whole() {
        let url = by_table("spy_url_storage").unwrap();
        assert_eq!((url.cursor, url.entity), ("id_url_storage", Some("fk_url")));
        assert_eq!(url.trigger.map(|trigger| trigger.resource), Some("url"));
        let page = by_table("spy_cms_page_search").unwrap();
        assert_eq!(
            (page.name, page.source, page.store),
            (Some("cms_page_search"), Some("page"), Presence::Maybe)
        );
        let glossary = by_table("spy_glossary_storage").unwrap();
        assert_eq!(
            (glossary.data, glossary.key_chars),
            (DataColumn::Text, 1024)
        );
        assert_eq!(
            by_table("spy_customer_invalidated_storage")
                .unwrap()
                .trigger,
            None
        );
        assert_eq!(near("ulr", 3), ["url"]);
        assert_eq!(near("glossary", 1), ["translation"]);
        assert_eq!(near("spy_glossary_storage", 1), ["translation"]);
        assert_eq!(near("product_abstrct", 1), ["product_abstract"]);
    }
}
