//! `init`: writes a plan from what a database holds.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::Path,
};

use super::{
    Outcome,
    args::Init,
    connect,
    render::{Screen, say},
    wrap::say_wrapped,
};
use crate::{
    draft::{self, Draft, Drafted, Heading},
    engine,
    failure::{Exit, Failure},
    plan::{self, RowSource},
    report::human::counted,
    source::{self, Source},
    spryker,
};

/// Writes a plan.
pub fn init(command: &Init, screen: Screen) -> Outcome {
    let file = command.output.as_deref();
    if let Some(file) = file
        && !command.force
        && file.symlink_metadata().is_ok()
    {
        return Err(is_there(file).into());
    }
    let source =
        plan::typed_source(&command.source, &connect::environment).map_err(|error| Failure {
            why: error.why,
            ..Failure::new(
                Exit::Usage,
                "`--source` cannot be used",
                "nothing was written",
                error.help,
            )
        })?;
    let (place, draft) = connect::runtime()?.block_on(async {
        let connected = source::connect(&source.config)
            .await
            .map_err(|error| unreadable(&error))?;
        let tables = connected
            .read_models()
            .await
            .map_err(|error| unreadable(&error))?;
        let mut draft = draft::draft(&tables, command.preset);
        draft.stores = stores(&draft, &*connected).await;
        Ok::<_, Failure>((connected.place().to_owned(), draft))
    })?;
    if draft.resources.is_empty() {
        return Err(nothing(&place, &draft).into());
    }
    // Two plans of one database, each with a file of its own, must not share a state file.
    let stem = file.and_then(Path::file_stem);
    let name = stem.map_or(source.database.as_str().into(), |stem| {
        stem.to_string_lossy()
    });
    let heading = Heading {
        place: &place,
        name: &name,
        source_url: &source.written,
        preset: command.preset,
        file: &file.map_or_else(|| "PLAN".to_owned(), |file| file.display().to_string()),
    };
    let text = draft::text(&heading, &draft);
    if let Some(file) = file {
        write(file, &text, command.force)?;
    }
    if screen.json {
        say(&json(file, &text, &draft).to_string());
    } else if let Some(file) = file {
        let file = file.display();
        say_wrapped(&format!(
            "wrote {file}: {}, {} left out",
            counted(draft.resources.len() as u64, "resource"),
            counted(draft.left_out.len() as u64, "table"),
        ));
        if command.preset.is_none() && draft.spryker_tables() > 0 {
            screen.warn(&format!(
                "{} of the {} are Spryker's own: with `--preset spryker` (and `--force`) the plan writes their keys and \
                 values as a Spryker shop reads them",
                draft.spryker_tables(),
                counted(draft.resources.len() as u64, "table"),
            ));
        }
        for one in &draft.resources {
            if !one.maybe_keys.is_empty() {
                screen.warn(&format!(
                    "more keys of the rows of `{}` may stand in `{}`: see CHECK there",
                    one.table,
                    one.maybe_keys.join("`, `")
                ));
            }
        }
        let exports = exports(&unset(&text, &connect::environment));
        say_wrapped(&format!("  next:  {exports}`rekindle validate {file}`"));
    } else {
        say(text.trim_end());
    }
    Ok(Exit::Done)
}

/// Returns the stores that rows of search tables name. A table whose rows cannot be read tells none: `validate` says why.
async fn stores(draft: &Draft, source: &dyn Source) -> Vec<String> {
    let by_store = |one: &&Drafted| one.search && one.by_store;
    let mut found = BTreeSet::new();
    for table in draft.resources.iter().filter(by_store) {
        let from = RowSource {
            table: table.table.clone(),
            cursor: table.cursor.clone(),
            key: spryker::KEY.to_owned(),
            value: spryker::DATA.to_owned(),
            entity: None,
            store: Some(spryker::STORE.to_owned()),
            more_keys: plan::MoreKeys::default(),
            condition: None,
            reads_ids: false,
        };
        found.extend(engine::stores(source, &from).await.unwrap_or_default());
    }
    found.into_iter().collect()
}

/// Returns the variables of a plan that `env` does not have, each once. One whose default is empty may stay so.
fn unset<'t>(plan: &'t str, env: &dyn Fn(&str) -> Option<String>) -> Vec<&'t str> {
    let mut names = Vec::new();
    for (at, begin) in plan.match_indices("${") {
        let rest = &plan[at + begin.len()..];
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (name, rest) = rest.split_at(rest.find(|c| !is_name(c)).unwrap_or(rest.len()));
        let is_text = plan[..at].ends_with('$');
        if !is_text && !rest.starts_with(":-}") && !names.contains(&name) && env(name).is_none() {
            names.push(name);
        }
    }
    names
}

/// Returns what comes before the next command where variables of the plan are not set.
fn exports(names: &[&str]) -> String {
    let names = match names {
        [] => return String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    };
    format!("export {names} (not set here, and the plan holds no password), then ")
}

fn is_there(file: &Path) -> Failure {
    Failure::new(
        Exit::Refused,
        format!("{} is there already", file.display()),
        "it was not touched",
        "name another file with `-o`, or overwrite it with `--force`",
    )
}

fn unreadable(error: &crate::error::EdgeError) -> Failure {
    Failure::new(
        Exit::Refused,
        "the source cannot be read",
        "nothing was written",
        "mend what the cause says, then type the same again",
    )
    .because(error)
}

fn nothing(place: &str, draft: &Draft) -> Failure {
    let mut failure = Failure::new(
        Exit::Refused,
        format!("{place} holds no table that could be a resource"),
        "nothing was written",
        "write the plan by hand: plans/custom.yaml is the smallest one",
    )
    .why("resources are tables that end in `_storage` or `_search` or have the columns `key` and `data`");
    for one in draft.left_out.iter().take(20) {
        failure = failure.why(format!("`{}`: {}", one.table, one.why));
    }
    failure
}

/// Writes the plan, into a new folder where there is none.
fn write(file: &Path, text: &str, force: bool) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        // Somebody may have made it since we looked.
        options.create_new(true);
    }
    let failed = || {
        Failure::new(
            Exit::Refused,
            format!("{} cannot be written", file.display()),
            "the database was only read",
            "mend what the cause says, or leave out `-o` to see the plan on stdout",
        )
    };
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).map_err(|error| {
            let what = format!("its folder {} cannot be made", folder.display());
            failed().why(what).because(&error)
        })?;
    }
    let written = options
        .open(file)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => is_there(file),
        _ => failed().because(&error),
    })
}

fn json(file: Option<&Path>, text: &str, draft: &Draft) -> serde_json::Value {
    let resources: Vec<_> = draft
        .resources
        .iter()
        .map(
            |one| serde_json::json!({
                "resource": one.name, "table": one.table, "rows": one.rows, "entity": one.entity, "aliases": one.aliases,
                "mapping_key": one.mapping_key, "maybe_keys": one.maybe_keys,
            }),
        )
        .collect();
    let left_out: Vec<_> = draft
        .left_out
        .iter()
        .map(|one| serde_json::json!({ "table": one.table, "rows": one.rows, "why": one.why }))
        .collect();
    serde_json::json!({
        "file": file, "text": text, "resources": resources, "left_out": left_out, "stores": draft.stores,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_are_not_set_are_named_once() {
        let env = |name: &str| (name == "SET").then(String::new);
        let plan = "a: ${A:-mysql://u@h/d}\nb: ${SET:-x} ${B}\nc: ${A} ${P:-} $${TEXT}\n";
        assert_eq!(unset(plan, &env), ["A", "B"]);
        assert_eq!(exports(&[]), "");
        let said = exports(&["A", "B", "C"]);
        assert!(said.starts_with("export A, B and C ("), "{said}");
    }
}
