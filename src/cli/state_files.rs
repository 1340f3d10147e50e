//! Which state files a command that only looks is about.

use std::path::{Path, PathBuf};

use super::{Stop, args::Global, connect, render::Screen};
use crate::{
    engine::refused_by_journal,
    failure::{Exit, Failure, quoted},
    journal::View,
    machine::Scope,
    plan,
};

/// A state file, and the plan to type in hints.
pub struct StateFile {
    /// Its path.
    pub path: PathBuf,
    /// The plan as it was typed, or the state file where no plan was.
    pub plan: String,
}

impl StateFile {
    /// Opens the file for looking; `None` where there never was one.
    pub fn view(&self) -> Result<Option<View>, Failure> {
        View::open(&self.path).map_err(|error| refused_by_journal(&error, &self.plan))
    }
}

/// Returns the state file of `plan` (or `--state`); without either, every one in `./state`.
pub fn find(plan: Option<&Path>, global: &Global, screen: Screen) -> Result<Vec<StateFile>, Stop> {
    if let Some(path) = &global.state {
        let plan = plan.unwrap_or(Path::new("PLAN"));
        let plan = connect::typed(plan, &Scope::default(), global);
        return Ok(vec![StateFile {
            path: path.clone(),
            plan,
        }]);
    }
    if let Some(plan) = plan {
        let path = connect::state_path_of(plan, screen)?;
        return Ok(vec![StateFile {
            path,
            plan: plan.display().to_string(),
        }]);
    }
    let folder = Path::new("state");
    if !folder.is_dir()
        && let Some(plan) = only_plan()
    {
        return find(Some(&plan), global, screen);
    }
    let entries = std::fs::read_dir(folder).map_err(|error| {
        Failure::new(
            Exit::Usage,
            "no plan was named, and there is no folder `state` here",
            "nothing was read or written",
            "name the plan, for example `rekindle status plans/shop.yaml`, or a state file with `--state FILE`",
        )
        .because(&error)
    })?;
    let mut files: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "sqlite")
        })
        .map(|path| StateFile {
            plan: format!("PLAN --state {}", quoted(&path)),
            path,
        })
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let plans = plans_here();
    for file in &mut files {
        let real = file.path.canonicalize().ok();
        let mut its = plans.iter().filter(|plan| {
            let path = plan::state_path_of(plan, &connect::environment).ok();
            real.is_some() && path.and_then(|path| path.canonicalize().ok()) == real
        });
        // Then hints can name it.
        if let (Some(plan), None) = (its.next(), its.next()) {
            file.plan = plan.display().to_string();
        }
    }
    Ok(files)
}

/// Returns the plan of this folder, or of its folder `plans`, where there is just one.
fn only_plan() -> Option<PathBuf> {
    match &plans_here()[..] {
        [plan] => Some(plan.clone()),
        _ => None,
    }
}

/// Returns the plans of the folder `plans`, or of this one where that has none.
fn plans_here() -> Vec<PathBuf> {
    let of = |folder: &str| {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let plans = paths.filter(|path| {
            let is_yaml = |end: &std::ffi::OsStr| end == "yaml" || end == "yml";
            path.extension().is_some_and(is_yaml)
        });
        plans.collect::<Vec<_>>()
    };
    let in_plans = of("plans");
    // A file beside it may be anything: it counts where there is no folder for plans.
    let plans = if in_plans.is_empty() {
        of(".")
    } else {
        in_plans
    };
    let plans = plans.iter();
    plans
        .map(|plan| plan.strip_prefix(".").unwrap_or(plan).to_owned())
        .collect()
}
