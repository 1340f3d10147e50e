//! The rows of a generated shop: the same for every run and every database.

use fastrand::Rng;

use super::tables::{Presence, Table};

/// Tables that are large in every shop; each gets so many times a common table's rows.
const LARGE: [(&str, usize); 8] = [
    ("spy_url_storage", 6),
    ("spy_glossary_storage", 6),
    ("spy_product_abstract_storage", 5),
    ("spy_product_concrete_storage", 8),
    ("spy_product_concrete_image_storage", 6),
    ("spy_price_product_concrete_storage", 6),
    ("spy_product_abstract_page_search", 5),
    ("spy_product_concrete_page_search", 6),
];

/// Where a table has a store and a locale, its rows go through these.
const STORES: [&str; 2] = ["DE", "AT"];
const LOCALES: [&str; 2] = ["de_DE", "en_US"];

/// One row; its columns are those of [`Table::columns`].
pub struct Row {
    pub id: u64,
    /// The entity that the row is about.
    pub entity: u64,
    pub suffix: Option<Suffix>,
    pub store: Option<&'static str>,
    pub locale: Option<&'static str>,
    pub data: Option<String>,
    pub aliases: Option<String>,
    pub mapping: Option<String>,
    pub key: String,
    /// Whether it was made to be a dead letter.
    pub planted: bool,
}

/// What a key ends with.
pub enum Suffix {
    Number(u64),
    Text(String),
}

/// Returns how many rows each table gets, `total` together. A table whose keys have no end of their own has one row for
/// each store and locale.
pub fn counts(tables: &[Table], total: usize) -> Vec<usize> {
    let weight = |table: &Table| {
        let large = LARGE.iter().find(|(name, _)| *name == table.name);
        large.map_or(1, |(_, weight)| *weight)
    };
    let fixed = |table: &Table| table.suffix.is_none().then(|| combinations(table));
    let left = total - tables.iter().filter_map(fixed).sum::<usize>();
    let weights: usize = tables
        .iter()
        .filter(|table| fixed(table).is_none())
        .map(weight)
        .sum();
    let mut counts: Vec<_> = tables
        .iter()
        .map(|table| fixed(table).unwrap_or(left * weight(table) / weights))
        .collect();
    // What rounding left over.
    let rest = total - counts.iter().sum::<usize>();
    let largest = (0..counts.len())
        .max_by_key(|index| counts[*index])
        .expect("tables");
    counts[largest] += rest;
    counts
}

fn combinations(table: &Table) -> usize {
    let values = |presence, count| if presence == Presence::No { 1 } else { count };
    values(table.store, STORES.len()) * values(table.locale, LOCALES.len())
}

/// Returns the rows of a table. No id is in 1..=100 or in 1,001..=1,200, and a table of many rows has ids on both sides.
pub fn rows(table: &Table, count: usize) -> impl Iterator<Item = Row> {
    let stride = 1_200_usize.div_ceil(count.max(1)).max(1) as u64;
    (0..count).map(move |index| {
        let id = 101 + index as u64 * stride;
        let id = if id > 1_000 { id + 200 } else { id };
        row(table, id, index)
    })
}

fn row(table: &Table, id: u64, index: usize) -> Row {
    let mut random = Rng::with_seed(id ^ ((table.name.len() as u64) << 40));
    let combinations = combinations(table);
    let entity = (index / combinations) as u64 + 1;
    let (store, locale) = {
        let mut turn = index % combinations;
        let store = (table.store != Presence::No).then(|| STORES[turn % STORES.len()]);
        if store.is_some() {
            turn /= STORES.len();
        }
        (store, (table.locale != Presence::No).then(|| LOCALES[turn]))
    };
    // Some rows are of no store, written either way.
    let nowhere = table.store == Presence::Optional && index % 10 >= 8;
    let suffix = table
        .suffix
        .map(|column| suffix(table, column, if nowhere { id } else { entity }));
    let store = match (nowhere, index % 2) {
        (false, _) => store,
        (true, 0) => None,
        (true, _) => Some(""),
    };
    let mapping = table.has_mapping_key().then(|| {
        let target = Suffix::Text(format!("to:größe {id}"));
        key(table.prefix, store, locale, Some(&target))
    });
    let key = key(table.prefix, store, locale, suffix.as_ref());
    let (data, mut planted) = match plant(table, index) {
        Planted::Nothing => (Some(document(table, index, id, &mut random)), false),
        Planted::Null => (None, true),
        Planted::Data(data) => (Some(data), true),
    };
    let mut aliases = table
        .mappings
        .map(|mappings| aliases(table, mappings, store, locale, id, index));
    if index == 91
        && let Some(aliases) = &mut aliases
    {
        // What the column kept of a longer one.
        *aliases = aliases.replace(&id.to_string(), &format!("{id}-{}", "long ".repeat(60)));
        *aliases = aliases.chars().take(255).collect();
        planted = true;
    }
    Row {
        id,
        entity,
        aliases,
        // Some rows have none, written either way.
        mapping: match index {
            29 => Some(String::new()),
            index if index % 10 == 8 => None,
            _ => mapping,
        },
        suffix,
        store,
        locale,
        data,
        key,
        planted,
    }
}

fn suffix(table: &Table, column: &str, number: u64) -> Suffix {
    if table.suffix_is_number() {
        return Suffix::Number(number);
    }
    Suffix::Text(match column {
        "url" => format!("/de/größe {number}"),
        "glossary_key" => format!(
            "cart.{}.'{number}\"",
            match number % 3 {
                0 => "total",
                1 => "größe",
                _ => "🛒",
            }
        ),
        "sku" | "concrete_sku" => format!("SKU_{number:05}"),
        _ => format!("{column}-{number}"),
    })
}

/// Writes a key as the shop does, from its parts.
fn key(prefix: &str, store: Option<&str>, locale: Option<&str>, suffix: Option<&Suffix>) -> String {
    let suffix = suffix.map(|suffix| match suffix {
        Suffix::Number(number) => number.to_string(),
        Suffix::Text(text) => text
            .trim()
            .to_lowercase()
            .replace(['"', '\'', ' ', '\0', '\n', '\r'], "-"),
    });
    let parts = [
        Some(prefix.to_owned()),
        store
            .filter(|store| !store.is_empty())
            .map(str::to_lowercase),
        locale.map(str::to_lowercase),
        suffix,
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(":")
}

/// Entries for `sku:id_product_abstract` and the like; some rows have two, some are not as PHP would write them.
fn aliases(
    table: &Table,
    mappings: &str,
    store: Option<&str>,
    locale: Option<&str>,
    id: u64,
    index: usize,
) -> String {
    let (from, _) = mappings.split_once(':').expect("two columns");
    let alias = |value: String| {
        key(
            table.prefix,
            store,
            locale,
            Some(&Suffix::Text(format!("{from}:{value}"))),
        )
    };
    let (first, second) = (alias(format!("a-{id}")), alias(format!("ä-{id}")));
    match index % 8 {
        0 => format!(
            r#"{{"{first}":{{"id":{id},"_timestamp":1795249714.0}},"{second}": {{"id":{id}}}}}"#
        ),
        1 => format!(r#"{{"{second}":{{"id":"{id}","_timestamp":1795249714.80823}}}}"#),
        _ => format!(r#"{{"{first}":{{"id":{id},"_timestamp":1795249714.808238}}}}"#),
    }
}

/// What a row has instead of a document.
enum Planted {
    Nothing,
    Null,
    Data(String),
}

/// Returns the data of the few rows that have to become dead letters: no value, none that PHP can read, or no array.
fn plant(table: &Table, index: usize) -> Planted {
    if table.suffix.is_none() {
        return Planted::Nothing;
    }
    let data = match index {
        7 => return Planted::Null,
        19 => r#"{"id":19,"name":"#,
        31 => r#""only a text""#,
        43 => "",
        55 => r#"{"name":"\ud83d"}"#,
        // What a column of 64 KiB kept of a longer value.
        67 if table.data == "TEXT" => {
            let mut data = r#"{"id":67,"slots":["#.to_owned();
            while data.len() < 65_535 {
                data.push_str(r#"{"template":"@CatalogPage\/views\/catalog.twig"},"#);
            }
            data.truncate(65_535);
            return Planted::Data(data);
        }
        // PHP makes a list of it, and a search index takes objects only.
        79 if table.search => "{}",
        _ => return Planted::Nothing,
    };
    Planted::Data(data.to_owned())
}

/// Returns a value that the shop can read. Most are as Propel writes them.
fn document(table: &Table, index: usize, id: u64, random: &mut Rng) -> String {
    let hash = random.u128(..);
    match index % 16 {
        0 => format!(r#"{{"id":{id},"name":"größe 🛒 {id}","path":"/de/größe"}}"#),
        1 => format!(
            " {{ \"id\" : {id},\n\t\"none\": {{}}, \"list\": {{\"0\": \"a\", \"1\": {{}}}}, \"not\": {{\"1\": 1, \"0\": 0}} }}\r\n"
        ),
        2 => format!(
            r#"{{"id":{id},"a":1.0,"b":{},"c":-0.0,"d":1e400,"e":92233720368547758070,"f":1.5e-7,"g":1E17,"h":{id}.50}}"#,
            random.f64()
        ),
        3 => format!(
            r#"{{"id":1,"name":"first","id":{id},"name":"last","deep":{{"a":1,"a":{{"b":2,"b":3}}}}}}"#
        ),
        4 => format!(r#"{{"id":{id},"_timestamp":1795249690.844957,"deep":{{"_timestamp":1.5}}}}"#),
        5 => {
            let texts: Vec<_> = (0..random.usize(5..80))
                .map(|number| format!(r#""text \u00e4\u00f6\u00fc {number} {:x}""#, random.u32(..)))
                .collect();
            format!(r#"{{"id":{id},"texts":[{}]}}"#, texts.join(","))
        }
        6 => format!(
            r#"{{"id":{id},"html":"<a href='/x?a=1&b=2'>\u003C\u0027\u0022\u0026 / \/</a>"}}"#
        ),
        7 => format!("{{\"id\":{id},\"line\":\"\u{2028}\u{2029}\u{7f}\\u2028\\u0000\\b\\f\"}}"),
        8 if !table.search => format!(r#"{{"0":{{"id":{id}}},"1":[],"2":"{hash:x}"}}"#),
        9 if !table.search => "{}".to_owned(),
        _ => format!(
            r#"{{"id":{id},"sku":"sku-{id}","url":"\/de\/gr\u00f6\u00dfe-{id}","hash":"{hash:x}","price":{}.25,"attributes":{{"color":"red","size":[1,2,3]}},"is_active":true,"parent":null}}"#,
            random.u16(..)
        ),
    }
}
