//! A draft as YAML with comments.

use std::fmt::Write as _;

use super::{Draft, Drafted, Preset};
use crate::report::human::{count, counted, printable};

/// The same with a preset and without: nothing in a source tells which database its application reads.
const REDIS_URL: &str = "url: \"${REDIS_URL:-redis://127.0.0.1:6379/0}\"   # CHECK: `/0` is the server's first database; \
    a Spryker shop calls the number `namespace`, often 1";

/// What stands above the resources.
#[derive(Debug, Clone, Copy)]
pub struct Heading<'a> {
    /// What was asked, without its password: `mariadb at db.test:3306/shop`.
    pub place: &'a str,
    /// The name of the plan, as far as it can be one.
    pub name: &'a str,
    /// `source.url`, variables and all.
    pub source_url: &'a str,
    /// How the plan file will be called, for the commands in the comments.
    pub file: &'a str,
    /// Whose tables they are.
    pub preset: Option<Preset>,
}

/// Returns the text of a plan. With resources, it passes `validate` as it is.
#[must_use]
pub fn text(heading: &Heading<'_>, draft: &Draft) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut text, heading, draft);
    aligned(&text)
}

fn write(text: &mut String, heading: &Heading<'_>, draft: &Draft) -> std::fmt::Result {
    let rows = draft
        .resources
        .iter()
        .fold(0_u64, |sum, one| sum.saturating_add(one.rows));
    let search = draft.resources.iter().any(|one| one.search);
    let storage = draft.resources.iter().any(|one| !one.search);
    let file = printable(heading.file);
    // For editors, which look for it beside the plan.
    writeln!(text, "# yaml-language-server: $schema=schema.json")?;
    writeln!(
        text,
        "# Written by `rekindle init` from {}: {}, about {}.",
        printable(heading.place),
        counted(draft.resources.len() as u64, "resource"),
        counted(rows, "row"),
    )?;
    writeln!(
        text,
        "# Read what the comments say, then: rekindle validate {file}; rekindle run {file} --dry-run"
    )?;
    writeln!(
        text,
        "# The first line is for editors: `rekindle schema > schema.json` in the folder of this file."
    )?;
    writeln!(text, "version: 1")?;
    writeln!(
        text,
        "name: {}                       # also names the state file",
        quoted(&plan_name(heading.name))
    )?;
    if heading.preset == Some(Preset::Spryker) {
        writeln!(
            text,
            "preset: spryker                      # fills in what a resource does not say; `validate` prints it"
        )?;
    }
    writeln!(text)?;
    writeln!(
        text,
        "source: {{ url: \"{}\" }}\n",
        escaped(heading.source_url)
    )?;
    if search {
        write_stores(text, &draft.stores)?;
    }
    writeln!(text, "targets:")?;
    let spryker = heading.preset == Some(Preset::Spryker);
    if storage && spryker {
        writeln!(
            text,
            "  storage:\n    redis:\n      {REDIS_URL}\n      \
             compress: none                 # CHECK: `gzip` where the shop packs values"
        )?;
    } else if storage {
        writeln!(
            text,
            "  storage:\n    redis:\n      {REDIS_URL}\n      \
             # prefix: \"kv:\"                  # CHECK: what the shop puts before each key\n      \
             value: raw                     # the column's bytes; `php`: as PHP's json_encode writes them, for Spryker shops"
        )?;
    }
    if search && spryker {
        writeln!(
            text,
            "  search:\n    elasticsearch:\n      url: \"${{SEARCH_URL:-http://127.0.0.1:9200}}\"\n      \
             prefix: \"${{SPRYKER_SEARCH_INDEX_PREFIX:-}}\"   # CHECK: the indexes have to be there: `PREFIX_de_page`"
        )?;
    } else if search {
        writeln!(
            text,
            "  search:\n    elasticsearch:\n      url: \"${{SEARCH_URL:-http://127.0.0.1:9200}}\"\n      \
             index: \"shop_{{store}}_{{type}}\"   # CHECK: the indexes have to be there: `shop_de_page`"
        )?;
    }
    writeln!(text, "\nresources:")?;
    for resource in &draft.resources {
        write_resource(text, resource, spryker)?;
    }
    if !draft.left_out.is_empty() {
        writeln!(
            text,
            "\n# Left out: these look like read models, but a person has to say what they are. Those that are not wanted go into\n\
             # `ignore_tables: [...]`, or `validate` warns of them."
        )?;
    }
    for one in &draft.left_out {
        writeln!(
            text,
            "#   {} (about {}): {}",
            printable(&one.table),
            counted(one.rows, "row"),
            one.why
        )?;
    }
    Ok(())
}

/// Writes the stores that rows have, or one to be replaced.
fn write_stores(text: &mut String, found: &[String]) -> std::fmt::Result {
    let names: Vec<_> = found.iter().map(|store| quoted(store)).collect();
    let (names, origin) = if names.is_empty() {
        ("DE".to_owned(), "")
    } else {
        (names.join(", "), "as rows have them; ")
    };
    let stores = format!("stores: [{names}]");
    writeln!(
        text,
        "{stores:<36} # CHECK: {origin}every store of the shop; a row of another one becomes a dead letter\n"
    )
}

fn write_resource(text: &mut String, resource: &Drafted, spryker: bool) -> std::fmt::Result {
    let cursor: Vec<_> = resource.cursor.iter().map(|name| quoted(name)).collect();
    writeln!(
        text,
        "  - name: {}                 # about {} {}",
        quoted(&resource.name),
        count(resource.rows),
        if resource.rows == 1 { "row" } else { "rows" },
    )?;
    if let Some(why) = resource.no_publisher {
        writeln!(text, "    fallback: {{ to: none }}         # {why}")?;
    }
    if resource.short {
        return Ok(());
    }
    writeln!(
        text,
        "    from:\n      table: {}\n      cursor: [{}]\n      key: key\n      value: data",
        quoted(&resource.table),
        cursor.join(", ")
    )?;
    if let Some(entity) = &resource.entity {
        writeln!(
            text,
            "      entity: {}             # what `--ids` means",
            quoted(entity)
        )?;
    } else if !resource.entities.is_empty() {
        let names: Vec<_> = resource.entities.iter().map(|one| printable(one)).collect();
        let without = match &resource.cursor[..] {
            [only] => format!("; without it, {}", printable(only)),
            _ => String::new(),
        };
        writeln!(
            text,
            "      # entity:                      # what `--ids` means: one of {}{without}",
            names.join(", ")
        )?;
    }
    write_keys(text, resource, spryker)?;
    if resource.search {
        if resource.by_store {
            writeln!(
                text,
                "      store: store                   # which store's index; a row without one goes to each"
            )?;
        }
        match resource.kind {
            Some(kind) => writeln!(text, "    to: search\n    type: {}", quoted(kind)),
            None => writeln!(
                text,
                "    to: search\n    type: page                       # CHECK: `{{type}}` of its index"
            ),
        }
    } else {
        writeln!(text, "    to: storage")
    }
}

/// Writes where the further keys of a resource's rows stand.
fn write_keys(text: &mut String, resource: &Drafted, spryker: bool) -> std::fmt::Result {
    let known = [
        (
            "aliases",
            resource.aliases,
            "more keys of each row, and their values",
        ),
        (
            "mapping_key",
            resource.mapping_key,
            "one more key of each row, which leads to its own",
        ),
    ];
    for (key, column, about) in known {
        let Some(column) = column else { continue };
        if spryker {
            // What is typed counts as more than what the preset looks for: `verify` would know less of the rows' keys.
            writeln!(
                text,
                "      # {key}: {column}           # {about}; the preset writes them"
            )?;
        } else {
            writeln!(text, "      {key}: {column}           # {about}")?;
        }
    }
    if !resource.maybe_keys.is_empty() {
        let names: Vec<_> = resource
            .maybe_keys
            .iter()
            .map(|one| printable(one))
            .collect();
        writeln!(
            text,
            "      # aliases:                     # CHECK: more keys of each row may stand in {}; they are not restored",
            names.join(", ")
        )?;
    }
    Ok(())
}

/// The column that comments behind something begin in, as far as there is room.
const COMMENTS: usize = 37;

/// Returns the plan with the comments that stand behind something in one column.
fn aligned(text: &str) -> String {
    let lines = text.lines().map(|line| match comment_of(line) {
        Some((code, comment)) if code.chars().count() + 1 < COMMENTS => {
            format!("{code:<COMMENTS$}{comment}")
        }
        Some((code, comment)) => format!("{code}  {comment}"),
        None => line.to_owned(),
    });
    let mut aligned: Vec<_> = lines.collect();
    aligned.push(String::new());
    aligned.join("\n")
}

/// Returns what stands before a comment, and the comment; `None` for a line without one, or that is nothing else. Between quotes
/// there is none.
fn comment_of(line: &str) -> Option<(&str, &str)> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in line.char_indices() {
        match c {
            '#' if !quoted && line[..at].ends_with("  ") && !line[..at].trim().is_empty() => {
                return Some((line[..at].trim_end(), &line[at..]));
            }
            '"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    None
}

/// Returns a plan name made of `name`: it names a file.
fn plan_name(name: &str) -> String {
    let name: String = name
        .chars()
        .map(|c| match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') => c,
            _ => '_',
        })
        .take(60)
        .collect();
    match name.trim_start_matches(['.', '-']) {
        "" => "shop".to_owned(),
        name => name.to_owned(),
    }
}

/// Returns `text` as a YAML scalar that is a text and holds no variables. Plain where it cannot be taken for anything
/// else: a letter or `_` first, and no word that YAML knows.
fn quoted(text: &str) -> String {
    let words = [
        "null", "true", "false", "yes", "no", "on", "off", "y", "n", "inf", "nan",
    ];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/'))
        && !words.contains(&text.to_ascii_lowercase().as_str());
    if plain {
        return text.to_owned();
    }
    format!("\"{}\"", escaped(text).replace("${", "$${"))
}

/// Escapes what has a meaning between double quotes.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
