//! From a plan file to a plan, a source and targets.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Stop,
    args::Global,
    render::{Screen, say},
};
use crate::{
    failure::{Exit, Failure},
    ids::ResourceName,
    plan::{self, Loaded, Plan},
    source::{self, Source},
    target::{self, Target},
};

/// Loads a plan.
///
/// # Errors
///
/// Its problems, which were shown in full.
pub fn load(path: &Path, screen: Screen) -> Result<Loaded, Stop> {
    plan::load(path, &|name| std::env::var(name).ok()).map_err(|problems| {
        if screen.json {
            let object = serde_json::json!({
                "error": problems.to_string(), "problems": problems.entries(), "exit": Exit::Refused.code(),
            });
            say(&object.to_string());
        } else {
            eprint!("{}", problems.render(screen.look(), Screen::width()));
        }
        Stop::Told(Exit::Refused)
    })
}

/// Returns the state file of a plan.
pub fn state_path(plan: &Plan, global: &Global) -> PathBuf {
    global.state.clone().unwrap_or_else(|| plan.state_path())
}

/// Returns the plan's source.
pub async fn source(plan: &Plan) -> Result<Arc<dyn Source>, Failure> {
    source::connect(&plan.source)
        .await
        .map_err(|error| edge_failure(plan, &error))
}

/// Returns the plan's targets by name.
pub fn targets(plan: &Plan) -> Result<BTreeMap<String, Arc<dyn Target>>, Failure> {
    plan.targets
        .iter()
        .map(|(name, config)| {
            let target =
                target::connect(name, config).map_err(|error| edge_failure(plan, &error))?;
            Ok((name.clone(), target))
        })
        .collect()
}

fn edge_failure(plan: &Plan, error: &crate::error::EdgeError) -> Failure {
    Failure::new(
        Exit::Refused,
        format!("plan `{}` was refused before the first write", plan.name),
        "nothing was written",
        format!(
            "mend the plan, then `rekindle validate {}`",
            plan.path.display()
        ),
    )
    .because(error)
}

/// Returns the names typed for `flag`, each checked against the plan.
pub fn chosen(plan: &Plan, flag: &str, typed: &[String]) -> Result<Vec<ResourceName>, Failure> {
    let mut names = Vec::new();
    for text in typed
        .iter()
        .map(|text| text.trim())
        .filter(|text| !text.is_empty())
    {
        let name = ResourceName::from(text);
        if plan.resource(&name).is_none() {
            return Err(unknown(plan, flag, text));
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn unknown(plan: &Plan, flag: &str, text: &str) -> Failure {
    let mut near: Vec<_> = plan
        .resources
        .iter()
        .map(|resource| {
            (
                strsim::jaro_winkler(text, resource.name.as_str()),
                resource.name.as_str(),
            )
        })
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let hint = match near.first() {
        Some((likeness, name)) if *likeness > 0.75 => format!("did you mean `{name}`?"),
        _ => "no resource of the plan has a name like it".to_owned(),
    };
    let all: Vec<_> = plan
        .resources
        .iter()
        .map(|resource| resource.name.as_str())
        .take(20)
        .collect();
    let more = plan.resources.len().saturating_sub(all.len());
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    Failure::new(
        Exit::Usage,
        format!("`{flag} {text}` names no resource of plan `{}`", plan.name),
        "nothing was written",
        format!("use one of: {}{more}", all.join(", ")),
    )
    .why(hint)
}

/// Returns a runtime for commands that only ask.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    // Two threads: reading SQLite blocks the one it runs on.
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::new(
                Exit::Bug,
                "the runtime cannot be started",
                "nothing was written",
                "try again; if it stays, report it",
            )
            .because(&error)
        })
}
