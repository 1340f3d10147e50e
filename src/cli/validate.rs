//! `validate`: every check, nothing written anywhere.

use super::{
    Outcome, Stop,
    args::{Global, Validate},
    connect,
    render::{self, Screen, complain, say},
    table::table,
};
use crate::{
    engine::{self, Coverage},
    error::{EdgeError, chain},
    failure::{Exit, Failure},
    fallback,
    plan::{Loaded, Plan, Resource},
    report::human::{count, printable},
    source::{self, Source},
};

/// What the servers said about a plan.
#[derive(Default)]
struct Connected {
    problems: Vec<String>,
    /// Each resource that could be asked for, in the order of the plan.
    tables: Vec<Described>,
    facts: Vec<(String, String)>,
    coverage: Coverage,
}

/// A resource's table.
struct Described {
    resource: String,
    rows: u64,
    /// Columns that the preset looks for and the table has not.
    absent: Vec<String>,
}

/// Checks a plan.
pub fn validate(command: &Validate, global: &Global, screen: Screen) -> Outcome {
    let loaded = connect::load(&command.plan, screen)?;
    let connected = if command.offline {
        Connected::default()
    } else {
        ask(&loaded)?
    };
    let path = command.plan.display();
    let warnings = loaded.warnings.len() + connected.coverage.warnings.len();
    let strict = command.strict && warnings > 0;
    let is_valid = connected.problems.is_empty() && !strict;
    if screen.json {
        say(&serde_json::json!({
            "plan": loaded.plan.name, "state_file": connect::state_path(&loaded.plan, global),
            "valid": connected.problems.is_empty(), "problems": connected.problems,
            "warnings": loaded.text.entries(&loaded.warnings),
            "defaults": loaded.defaults_used.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "connected": !command.offline, "uncovered": render::uncovered(&connected.coverage.uncovered),
            "ignored": render::uncovered(&connected.coverage.ignored), "source_warnings": connected.coverage.warnings,
            "resources": resources(&loaded, &connected),
        })
        .to_string());
    } else {
        if !loaded.warnings.is_empty() {
            complain(
                loaded
                    .text
                    .render(&loaded.warnings, screen.look(), Screen::width())
                    .trim_end(),
            );
        }
        describe(&loaded, &connected, global);
        if is_valid {
            tell_defaults(&loaded);
        }
        if let Some(ignored) = render::ignored(&connected.coverage.ignored) {
            say(&format!("  {ignored}"));
        }
        for warning in &connected.coverage.warnings {
            screen.warn(warning);
        }
    }
    if !is_valid {
        let mut why = connected.problems;
        let next = if strict && !connected.coverage.uncovered.is_empty() {
            "give each table a resource, or name it in `ignore_tables`; mend what else the causes say"
        } else {
            "mend what the causes say"
        };
        if strict {
            why.extend(connected.coverage.warnings);
            why.push(render::strict(warnings));
        }
        return Err(Stop::Failed(Failure {
            why,
            ..Failure::new(
                Exit::Refused,
                format!("plan {path} cannot be run as it is"),
                "nothing was written",
                format!("{next}, then `rekindle validate {path}`"),
            )
        }));
    }
    if !screen.json {
        let checked = if command.offline {
            "offline; servers were not asked"
        } else {
            "source and targets answered"
        };
        say(&format!("plan {path} is valid ({checked})"));
    }
    Ok(Exit::Done)
}

fn describe(loaded: &Loaded, connected: &Connected, global: &Global) {
    let plan = &loaded.plan;
    say(&format!(
        "plan `{}`, state file {}",
        plan.name,
        connect::state_path(plan, global).display()
    ));
    for (name, value) in &connected.facts {
        say(&format!("  {name}: {}", printable(value)));
    }
    let found = |name: &str| connected.tables.iter().find(|one| one.resource == name);
    // Where every resource has just the keys of its rows, there is nothing to tell.
    let has_more = plan.resources.iter().any(|one| {
        let absent = found(one.name.as_str()).map_or(&[][..], |found| &found.absent[..]);
        one.from.key_columns(absent).len() > 1
    });
    let mut header = vec!["resource", "table", "to"];
    if !connected.tables.is_empty() {
        header.push("rows, about");
    }
    if has_more {
        header.push("keys from");
    }
    let rows: Vec<_> = plan
        .resources
        .iter()
        .filter(|one| connected.tables.is_empty() || found(one.name.as_str()).is_some())
        .map(|one| {
            let mut cells = vec![
                printable(one.name.as_str()),
                printable(&one.from.table),
                one.to.clone(),
            ];
            let found = found(one.name.as_str());
            cells.extend(found.map(|found| count(found.rows)));
            if has_more {
                cells.push(keys_from(one, found));
            }
            cells
        })
        .collect();
    let numbers: &[usize] = if connected.tables.is_empty() {
        &[]
    } else {
        &[3]
    };
    say(&table(&header, &rows, numbers));
}

/// Returns the columns whose keys are written, `key, alias_keys`; those that only a source knows of have a `?` offline.
fn keys_from(resource: &Resource, found: Option<&Described>) -> String {
    let known = found.map_or(&[][..], |found| &found.absent[..]);
    let columns: Vec<_> = resource
        .from
        .key_columns(known)
        .into_iter()
        .map(|column| {
            let guessed = found.is_none() && is_optional(resource, column);
            format!("{}{}", printable(column), if guessed { "?" } else { "" })
        })
        .collect();
    columns.join(", ")
}

/// Returns whether a preset named the column, which not every table has.
fn is_optional(resource: &Resource, column: &str) -> bool {
    let mut beside = resource.from.beside();
    beside.any(|one| one.optional && one.name == column)
}

/// Returns the resources as `--json` has them. Of columns that may be there or not, only a source knows.
fn resources(loaded: &Loaded, connected: &Connected) -> serde_json::Value {
    let one = |resource: &Resource| {
        let name = resource.name.as_str();
        let found = connected.tables.iter().find(|one| one.resource == name);
        let columns = resource
            .from
            .key_columns(found.map_or(&[][..], |found| &found.absent[..]));
        let (guessed, certain): (Vec<_>, Vec<_>) = columns
            .into_iter()
            .partition(|column| found.is_none() && is_optional(resource, column));
        serde_json::json!({
            "resource": name, "table": resource.from.table, "to": resource.to, "rows": found.map(|found| found.rows),
            "key_columns": certain, "key_columns_if_there": guessed, "ids_column": resource.from.ids_column(),
        })
    };
    loaded.plan.resources.iter().map(one).collect()
}

fn tell_defaults(loaded: &Loaded) {
    if !loaded.defaults_used.is_empty() {
        say("defaults used:");
        for (name, value) in &loaded.defaults_used {
            say(&format!("  {name}: {value}"));
        }
    }
}

fn ask(loaded: &Loaded) -> Result<Connected, Failure> {
    let plan = &loaded.plan;
    let targets = connect::targets(plan)?;
    let runtime = connect::runtime()?;
    Ok(runtime.block_on(async {
        let mut found = Connected::default();
        let one_line = |error: &EdgeError| chain(error).join(": ");
        match source::connect(&plan.source).await {
            Ok(source) => ask_source(plan, &*source, &mut found).await,
            Err(error) => found.problems.push(one_line(&error)),
        }
        found.problems.extend(fallback::unstartable(plan));
        for (name, target) in targets {
            match target.identity().await {
                Ok(identity) => {
                    found.facts.push((format!("target `{name}`"), identity));
                    let mine = plan.resources.iter().filter(|one| one.to == name);
                    for resource in mine {
                        if let Err(error) = target.incarnation(&resource.name).await {
                            let problem =
                                format!("resource `{}`: {}", resource.name, one_line(&error));
                            found.problems.push(problem);
                        }
                    }
                }
                Err(error) => found
                    .problems
                    .push(format!("target `{name}`: {}", one_line(&error))),
            }
        }
        found
    }))
}

async fn ask_source(plan: &Plan, source: &dyn Source, found: &mut Connected) {
    let one_line = |error: &EdgeError| chain(error).join(": ");
    let mut warnings = Vec::new();
    match source.identity().await {
        Ok(_) => {
            found
                .facts
                .push(("source".to_owned(), source.place().to_owned()));
            for resource in &plan.resources {
                match source.describe(&resource.from).await {
                    Ok(shape) => {
                        found.tables.push(Described {
                            resource: resource.name.to_string(),
                            rows: shape.estimated_rows,
                            absent: shape.absent,
                        });
                        match engine::catch_up_warning(resource, source).await {
                            Ok(warning) => warnings.extend(warning),
                            Err(error) => found.problems.push(format!(
                                "`{}`: {}",
                                resource.name,
                                one_line(&error)
                            )),
                        }
                    }
                    Err(error) => {
                        found
                            .problems
                            .push(format!("`{}`: {}", resource.name, one_line(&error)));
                    }
                }
                let Some(fallback) = &resource.fallback else {
                    continue;
                };
                if let Err(error) = source.describe(&engine::ids_source(fallback)).await {
                    found.problems.push(format!(
                        "`{}`: the entity ids of its fallback: {}",
                        resource.name,
                        one_line(&error)
                    ));
                }
            }
        }
        Err(error) => {
            found.problems.push(one_line(&error));
            return;
        }
    }
    found.coverage = engine::coverage(plan, source).await;
    found.coverage.warnings.splice(..0, warnings);
}
