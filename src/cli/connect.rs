//! From a plan file to a plan, a source and targets.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Stop,
    args::Global,
    next,
    render::{Screen, complain, complain_wrapped, say},
    runtime::Runtime,
};
use crate::{
    broker,
    engine::{self, Answers},
    failure::{Exit, Failure, quoted},
    fallback,
    ids::ResourceName,
    machine::Scope,
    nearest::nearest,
    plan::{self, Diagnostic, Executor, Loaded, Plan, PlanProblems},
    report::human::printable,
    source::{self, Source},
    target::{self, Target},
};

/// Loads a plan.
///
/// # Errors
///
/// Its problems, which were shown in full.
pub fn load(path: &Path, screen: Screen) -> Result<Loaded, Stop> {
    is_there(path, screen)?;
    plan::load(path, &environment).map_err(|problems| tell(&problems, screen))
}

/// Returns the state file of the plan at `path`, without looking at more of it than needed.
pub fn state_path_of(path: &Path, screen: Screen) -> Result<PathBuf, Stop> {
    is_there(path, screen)?;
    plan::state_path_of(path, &environment).map_err(|problems| tell(&problems, screen))
}

/// Refuses a path where no file is, and names the plans that are here. To programs it is a problem like others.
fn is_there(path: &Path, screen: Screen) -> Result<(), Failure> {
    let looked = path.symlink_metadata();
    let is_absent = looked.is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    if screen.json || !is_absent {
        return Ok(());
    }
    let shown = printable(&path.display().to_string());
    let others: Vec<_> = next::plans()
        .iter()
        .take(next::MOST_PLANS)
        .map(|path| printable(&path.display().to_string()))
        .collect();
    let others = match &others[..] {
        [] => String::new(),
        names => format!("the plans here are {}; ", names.join(", ")),
    };
    // A plan that is written is called as one.
    let new = if path.extension().is_some() {
        shown.clone()
    } else {
        format!("{shown}.yaml")
    };
    Err(Failure::new(
        Exit::Refused,
        format!("there is no plan {shown}"),
        "nothing was written",
        format!("{others}`rekindle init --source '${{DATABASE_URL}}' -o {new}` writes one"),
    ))
}

/// Looks up an environment variable.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn tell(problems: &PlanProblems, screen: Screen) -> Stop {
    if screen.json {
        let object = serde_json::json!({
            "error": problems.to_string(), "problems": problems.entries(), "exit": Exit::Refused.code(),
        });
        say(&object.to_string());
    } else {
        complain_wrapped(problems.render(screen.look(), Screen::width()).trim_end());
    }
    Stop::Told(Exit::Refused)
}

/// Returns the state file of a plan.
pub fn state_path(plan: &Plan, global: &Global) -> PathBuf {
    global.state.clone().unwrap_or_else(|| plan.state_path())
}

/// Returns what a person types after `rekindle run` to go on with a run of `scope`.
pub fn typed(path: &Path, scope: &Scope, global: &Global) -> String {
    let state = global
        .state
        .as_ref()
        .map(|state| format!(" --state {}", quoted(state)));
    format!(
        "{}{}{}",
        quoted(path),
        state.unwrap_or_default(),
        scope_flags(scope)
    )
}

/// Returns the flags that name `scope`, each with a blank before it.
pub fn scope_flags(scope: &Scope) -> String {
    let names = |names: &[ResourceName]| {
        names
            .iter()
            .map(ResourceName::as_str)
            .collect::<Vec<_>>()
            .join(",")
    };
    let mut flags = String::new();
    if !scope.rows.is_empty() {
        // The rows of a retry are found again by themselves.
        return flags;
    }
    if !scope.only.is_empty() {
        flags += &format!(" --only {}", names(&scope.only));
    }
    if !scope.skip.is_empty() {
        flags += &format!(" --skip {}", names(&scope.skip));
    }
    if let Some(ids) = &scope.ids {
        flags += &format!(" --ids '{}'", serde_json::json!(ids));
    }
    flags
}

/// Returns the plan's source, after what a killed statement of the plan left half done in it was taken back: for commands that
/// may write.
pub async fn healed_source(plan: &Plan) -> Result<Arc<dyn Source>, Failure> {
    if let Some(file) = fallback::heal(plan) {
        complain(&format!(
            "a statement was killed half-way in {}: what it had done was taken back",
            file.display()
        ));
    }
    source(plan).await
}

/// Returns the plan's source.
pub async fn source(plan: &Plan) -> Result<Arc<dyn Source>, Failure> {
    source::connect(&plan.source)
        .await
        .map_err(|error| engine::refused_by_edge(&error, &plan.name, &quoted(&plan.path)))
}

/// Returns what the servers of a plan say about the resources of `scope`, and what is wrong with the plan by it.
pub async fn checked(
    loaded: &Loaded,
    scope: &Scope,
    targets: &BTreeMap<String, Arc<dyn Target>>,
) -> (Answers, Vec<Diagnostic>) {
    let plan = &loaded.plan;
    let source = source::connect(&plan.source).await;
    let answers = engine::ask_servers(plan, scope, source, targets).await;
    let problems = engine::check(plan, &loaded.places, &answers);
    (answers, problems)
}

/// Returns the plan's targets by name.
pub fn targets(plan: &Plan) -> Result<BTreeMap<String, Arc<dyn Target>>, Failure> {
    plan.targets
        .iter()
        .map(|(name, config)| {
            let target = target::connect(name, config).map_err(|error| {
                engine::refused_by_edge(&error, &plan.name, &quoted(&plan.path))
            })?;
            Ok((name.clone(), target))
        })
        .collect()
}

/// Returns the plan's targets by name as a run fills them: rows of some resources get there through queues.
pub fn ways(plan: &Plan) -> Result<BTreeMap<String, Arc<dyn Target>>, Failure> {
    let mut ways = targets(plan)?;
    let Some(config) = &plan.broker else {
        return Ok(ways);
    };
    let mut queues: BTreeMap<&str, BTreeMap<_, _>> = BTreeMap::new();
    let sent = plan
        .resources
        .iter()
        .filter(|one| one.executor == Executor::Queue);
    for (resource, queue) in sent.filter_map(|one| Some((one, one.queue.clone()?))) {
        let of_target = queues.entry(&resource.to).or_default();
        of_target.insert(resource.name.clone(), queue);
    }
    let mut drains: BTreeMap<&str, BTreeMap<_, _>> = BTreeMap::new();
    for resource in plan.resources.iter().filter(|one| !one.drains.is_empty()) {
        let of_target = drains.entry(&resource.to).or_default();
        of_target.insert(resource.name.clone(), resource.drains.clone());
    }
    if queues.is_empty() && drains.is_empty() {
        return Ok(ways);
    }
    let vhosts = broker::connect(config)
        .map_err(|error| engine::refused_by_edge(&error, &plan.name, &quoted(&plan.path)))?;
    for (name, target) in &mut ways {
        let queues = queues.remove(name.as_str()).unwrap_or_default();
        let drains = drains.remove(name.as_str()).unwrap_or_default();
        if !queues.is_empty() || !drains.is_empty() {
            *target = broker::through(Arc::clone(&vhosts), Arc::clone(target), queues, drains);
        }
    }
    Ok(ways)
}

/// Returns the names typed for `flag`, each checked against the plan.
pub fn chosen(plan: &Plan, flag: &str, typed: &[String]) -> Result<Vec<ResourceName>, Failure> {
    let (mut names, mut wrong) = (Vec::new(), Vec::new());
    for text in typed
        .iter()
        .map(|text| text.trim())
        .filter(|text| !text.is_empty())
    {
        let meant = plan.meant(text);
        if meant.is_empty() {
            wrong.push(text);
        }
        for name in meant {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    if wrong.is_empty() {
        Ok(names)
    } else {
        Err(unknown(plan, flag, &wrong))
    }
}

/// Returns the failure for names that are in no plan, each with what was probably meant.
fn unknown(plan: &Plan, flag: &str, wrong: &[&str]) -> Failure {
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
    let why = wrong.iter().map(|text| match hint(plan, text) {
        hint if wrong.len() == 1 || hint.starts_with('`') => hint,
        hint => format!("`{text}`: {hint}"),
    });
    Failure {
        why: why.collect(),
        ..Failure::new(
            Exit::Usage,
            format!(
                "`{flag} {}` names no resource of plan `{}`",
                wrong.join(","),
                plan.name
            ),
            "nothing was written",
            format!("use one of: {}{more}", all.join(", ")),
        )
    }
}

/// Returns what somebody probably meant who typed `text` for a resource.
fn hint(plan: &Plan, text: &str) -> String {
    let names = plan.resources.iter().map(|resource| resource.name.as_str());
    // Two halves of one name are both meant by it.
    let bases = names.clone().filter_map(|name| {
        let (base, _) = name.split_once('/')?;
        (!plan.meant(base).is_empty()).then_some(base)
    });
    let of_table = plan.resources.iter().find(|one| one.from.table == text);
    match (of_table, nearest(text, bases.chain(names), 1).first()) {
        (Some(one), _) => format!("`{text}` is a table: its resource is `{}`", one.name),
        (None, Some(name)) => format!("did you mean `{name}`?"),
        (None, None) => "no resource of the plan has a name like it".to_owned(),
    }
}

/// Returns a runtime.
pub fn runtime() -> Result<Runtime, Failure> {
    Runtime::start().map_err(|error| {
        Failure::new(
            Exit::Bug,
            "the runtime cannot be started",
            "nothing was written",
            "try again; if it stays, report it",
        )
        .because(&error)
    })
}
