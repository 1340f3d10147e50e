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
    plan::{Loaded, Plan},
    report::human::{count, printable},
    source::{self, Source},
};

/// What the servers said about a plan.
#[derive(Default)]
struct Connected {
    problems: Vec<String>,
    /// Resource, table, estimated rows.
    tables: Vec<Vec<String>>,
    facts: Vec<(String, String)>,
    coverage: Coverage,
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
    if screen.json {
        say(&serde_json::json!({
            "plan": loaded.plan.name, "state_file": connect::state_path(&loaded.plan, global),
            "valid": connected.problems.is_empty(), "problems": connected.problems,
            "warnings": loaded.text.entries(&loaded.warnings),
            "defaults": loaded.defaults_used.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "connected": !command.offline, "uncovered": render::uncovered(&connected.coverage.uncovered),
            "source_warnings": connected.coverage.warnings,
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
        for warning in &connected.coverage.warnings {
            screen.warn(warning);
        }
    }
    let warnings = loaded.warnings.len() + connected.coverage.warnings.len();
    let strict = command.strict && warnings > 0;
    if !connected.problems.is_empty() || strict {
        let mut why = connected.problems;
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
                format!("mend what the causes say, then `rekindle validate {path}`"),
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
    if connected.tables.is_empty() {
        let rows: Vec<_> = plan
            .resources
            .iter()
            .map(|one| {
                vec![
                    printable(one.name.as_str()),
                    printable(&one.from.table),
                    one.to.clone(),
                ]
            })
            .collect();
        say(&table(&["resource", "table", "to"], &rows, &[]));
    } else {
        say(&table(
            &["resource", "table", "to", "rows, about"],
            &connected.tables,
            &[3],
        ));
    }
    if !loaded.defaults_used.is_empty() {
        say("defaults used:");
        for (name, value) in &loaded.defaults_used {
            say(&format!("  {name}: {value}"));
        }
    }
}

fn ask(loaded: &Loaded) -> Result<Connected, Failure> {
    let plan = &loaded.plan;
    let targets = connect::ways(plan)?;
    let runtime = connect::runtime()?;
    Ok(runtime.block_on(async {
        let mut found = Connected::default();
        let one_line = |error: &EdgeError| chain(error).join(": ");
        match source::connect(&plan.source).await {
            Ok(source) => ask_source(plan, &*source, &mut found).await,
            Err(error) => found.problems.push(one_line(&error)),
        }
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
    match source.identity().await {
        Ok(_) => {
            found
                .facts
                .push(("source".to_owned(), source.place().to_owned()));
            for resource in &plan.resources {
                match source.describe(&resource.from).await {
                    Ok(shape) => found.tables.push(vec![
                        printable(resource.name.as_str()),
                        printable(&resource.from.table),
                        resource.to.clone(),
                        count(shape.estimated_rows),
                    ]),
                    Err(error) => {
                        found
                            .problems
                            .push(format!("`{}`: {}", resource.name, one_line(&error)));
                    }
                }
            }
        }
        Err(error) => {
            found.problems.push(one_line(&error));
            return;
        }
    }
    found.coverage = engine::coverage(plan, source).await;
}
