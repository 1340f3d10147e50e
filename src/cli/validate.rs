//! `validate`: every check, nothing written anywhere.

use super::{
    Outcome, Stop,
    args::{Global, Validate},
    connect, problems,
    render::{self, Screen, complain_wrapped, say},
    table::table,
    wrap::say_wrapped,
};
use crate::{
    engine::Answers,
    failure::{Exit, Failure},
    machine::Scope,
    plan::{Diagnostic, Loaded, Resource, Severity},
    report::human::{count, printable},
    source::TableShape,
};

/// What the servers said about a plan; nothing with `--offline`.
#[derive(Default)]
struct Connected {
    answers: Answers,
    problems: Vec<Diagnostic>,
}

impl Connected {
    fn ask(loaded: &Loaded) -> Result<Self, Failure> {
        let targets = connect::ways(&loaded.plan)?;
        let runtime = connect::runtime()?;
        let (answers, problems) =
            runtime.block_on(connect::checked(loaded, &Scope::default(), &targets));
        Ok(Self { answers, problems })
    }

    /// Returns what those that answered are.
    fn facts(&self) -> Vec<(String, &str)> {
        let source = self.answers.source.as_deref();
        let targets = self.answers.targets.iter().filter_map(|(name, target)| {
            let identity = target.identity.as_ref().ok()?;
            Some((format!("target `{name}`"), identity.as_str()))
        });
        let source = source.map(|place| ("source".to_owned(), place));
        source.into_iter().chain(targets).collect()
    }

    fn of(&self, severity: Severity) -> Vec<String> {
        problems::messages(&self.problems, severity)
    }
}

/// Checks a plan.
pub fn validate(command: &Validate, global: &Global, screen: Screen) -> Outcome {
    let loaded = connect::load(&command.plan, screen)?;
    let connected = if command.offline {
        Connected::default()
    } else {
        Connected::ask(&loaded)?
    };
    let warnings = loaded.warnings.len() + connected.of(Severity::Warning).len();
    let strict = command.strict && warnings > 0;
    let is_sound = connected.of(Severity::Error).is_empty();
    if screen.json {
        say(&json(&loaded, &connected, command.offline, global).to_string());
    } else {
        if !loaded.warnings.is_empty() {
            let width = Screen::width();
            let drawn = loaded.text.render(&loaded.warnings, screen.look(), width);
            complain_wrapped(drawn.trim_end());
        }
        describe(&loaded, &connected, global);
        if is_sound && !strict {
            tell_defaults(&loaded, &connected);
        }
        if let Some(ignored) = render::ignored(&connected.answers.coverage.ignored) {
            say_wrapped(&format!("  {ignored}"));
        }
        if is_sound {
            problems::tell(&loaded.text, &connected.problems, screen);
        }
    }
    if !is_sound && !screen.json {
        complain_wrapped(&refused(&loaded, &connected, screen));
        return Err(Stop::Told(Exit::Refused));
    }
    if !is_sound || strict {
        let warnings = strict.then_some(warnings);
        return Err(Stop::Failed(failure(&loaded, &connected, warnings)));
    }
    if !screen.json {
        tell_next(&loaded, command.offline);
    }
    Ok(Exit::Done)
}

/// Says that the plan is valid, and what comes next.
fn tell_next(loaded: &Loaded, offline: bool) {
    let path = loaded.text.path().display();
    let (checked, next) = if offline {
        (
            "offline; servers were not asked",
            format!("`rekindle validate {path}` asks its servers, too"),
        )
    } else {
        (
            "source and targets answered",
            format!("`rekindle run {path} --dry-run` says what a run would do"),
        )
    };
    say_wrapped(&format!("plan {path} is valid ({checked})"));
    say_wrapped(&format!("  next:  {next}"));
}

/// Returns the error for a plan that its servers refuse, each problem drawn with its part of the file.
fn refused(loaded: &Loaded, connected: &Connected, screen: Screen) -> String {
    let path = loaded.text.path().display();
    let drawn = loaded
        .text
        .render(&connected.problems, screen.look(), Screen::width());
    format!(
        "{} plan `{path}` has {}\n\n{drawn}  {}  nothing was written\n  {}  correct what is named above, then run \
         `rekindle validate {path}`",
        screen.paint("error:", "1;31"),
        problems::counts(loaded.warnings.iter().chain(&connected.problems)),
        screen.paint("safe:", "1;32"),
        screen.paint("next:", "1;36"),
    )
}

/// Returns the failure with every problem as a cause; `strict` is how many warnings count as errors.
fn failure(loaded: &Loaded, connected: &Connected, strict: Option<usize>) -> Failure {
    let path = loaded.text.path().display();
    let uncovered = !connected.answers.coverage.uncovered.is_empty();
    let next = if strict.is_some() && uncovered {
        "give each table a resource, or name it in `ignore_tables`; mend what else the causes say"
    } else {
        "mend what the causes say"
    };
    let again = if strict.is_some() { " --strict" } else { "" };
    let mut why = connected.of(Severity::Error);
    if let Some(warnings) = strict {
        why.extend(connected.of(Severity::Warning));
        why.push(render::strict(warnings));
    }
    Failure {
        why,
        ..Failure::new(
            Exit::Refused,
            format!("plan {path} cannot be run as it is"),
            "nothing was written",
            format!("{next}, then `rekindle validate {path}{again}`"),
        )
    }
}

fn json(
    loaded: &Loaded,
    connected: &Connected,
    offline: bool,
    global: &Global,
) -> serde_json::Value {
    let coverage = &connected.answers.coverage;
    let of = |severity| {
        let mut all = connected.problems.clone();
        all.retain(|one| one.severity == severity);
        loaded.text.entries(&all)
    };
    let mut warnings = loaded.text.entries(&loaded.warnings);
    warnings.extend(of(Severity::Warning));
    serde_json::json!({
        "plan": loaded.plan.name, "state_file": connect::state_path(&loaded.plan, global),
        "valid": connected.of(Severity::Error).is_empty(), "problems": of(Severity::Error), "warnings": warnings,
        "defaults": loaded.defaults_used.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "connected": !offline, "uncovered": render::uncovered(&coverage.uncovered),
        "ignored": render::uncovered(&coverage.ignored), "source_warnings": connected.of(Severity::Warning),
        "resources": resources(loaded, connected),
    })
}

fn describe(loaded: &Loaded, connected: &Connected, global: &Global) {
    let plan = &loaded.plan;
    say_wrapped(&format!(
        "plan `{}`, state file {}",
        plan.name,
        connect::state_path(plan, global).display()
    ));
    for (name, value) in connected.facts() {
        say_wrapped(&format!("  {name}: {}", printable(value)));
    }
    let found = |name: &str| connected.answers.shape(name);
    let mut resources = plan.resources.iter();
    let was_asked = resources.any(|one| found(one.name.as_str()).is_some());
    // Where every resource has just the keys of its rows, there is nothing to tell.
    let has_more = plan.resources.iter().any(|one| {
        let absent = found(one.name.as_str()).map_or(&[][..], |found| &found.absent[..]);
        one.from.key_columns(absent).len() > 1
    });
    let mut header = vec!["resource", "table", "to"];
    if was_asked {
        header.push("rows, about");
    }
    if has_more {
        header.push("keys from");
    }
    let rows: Vec<_> = plan
        .resources
        .iter()
        .filter(|one| !was_asked || found(one.name.as_str()).is_some())
        .map(|one| {
            let mut cells = vec![
                printable(one.name.as_str()),
                printable(&one.from.table),
                one.to.clone(),
            ];
            let found = found(one.name.as_str());
            cells.extend(found.map(|found| count(found.estimated_rows)));
            if has_more {
                cells.push(keys_from(one, found));
            }
            cells
        })
        .collect();
    let numbers: &[usize] = if was_asked { &[3] } else { &[] };
    say(&table(&header, &rows, numbers));
    if has_more && rows.iter().flatten().any(|cell| cell.contains('?')) {
        say_wrapped("  `?`: where the table has this column, which only the source knows");
    }
}

/// Returns the columns whose keys are written, `key, alias_keys`; those that only a source knows of have a `?` offline.
fn keys_from(resource: &Resource, found: Option<&TableShape>) -> String {
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
        let found = connected.answers.shape(name);
        let columns = resource
            .from
            .key_columns(found.map_or(&[][..], |found| &found.absent[..]));
        let (guessed, certain): (Vec<_>, Vec<_>) = columns
            .into_iter()
            .partition(|column| found.is_none() && is_optional(resource, column));
        serde_json::json!({
            "resource": name, "table": resource.from.table, "to": resource.to, "rows": found.map(|found| found.estimated_rows),
            "key_columns": certain, "key_columns_if_there": guessed, "ids_column": resource.from.ids_column(),
        })
    };
    loaded.plan.resources.iter().map(one).collect()
}

/// Lists the defaults; of further keys, which a preset names without knowing the tables, those that a table has.
fn tell_defaults(loaded: &Loaded, connected: &Connected) {
    let used = loaded.defaults_used.iter();
    let used: Vec<_> = used
        .filter_map(|(path, value)| Some((path, present(path, value, loaded, connected)?)))
        .collect();
    if !used.is_empty() {
        say("defaults used:");
        for (path, value) in used {
            say_wrapped(&format!("  {path}: {value}"));
        }
    }
}

/// Returns the default without columns that its table has not: of `{ key: key, aliases: alias_keys }`, `{ key: key }`; `None`
/// where nothing is left.
fn present(path: &str, value: &str, loaded: &Loaded, connected: &Connected) -> Option<String> {
    let mut value = value.to_owned();
    let mut resources = loaded.plan.resources.iter();
    let of = resources.find(|one| path == format!("resources.{}.from", one.name));
    let shape = of.and_then(|resource| connected.answers.shape(resource.name.as_str()));
    for column in shape.iter().flat_map(|shape| &shape.absent) {
        for key in ["aliases", "mapping_key"] {
            let part = format!("{key}: {column}");
            for (had, left) in [
                (format!(", {part}"), ""),
                (format!("{part}, "), ""),
                (part, ""),
            ] {
                value = value.replace(&had, left);
            }
        }
    }
    let is_empty = value.trim_matches(['{', '}', ' ']).is_empty();
    (!is_empty || shape.is_none()).then_some(value)
}
