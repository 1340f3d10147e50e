//! What a run is about to do to database instances: shown, and agreed to once by typing their names.

use super::{
    Stop,
    args::Global,
    ask::{self, Answer},
    connect,
    render::complain,
    state_files::StateFile,
};
use crate::{
    engine::{self, RunChoice},
    failure::{Exit, Failure},
    machine::{Scope, StepLedger, StepPlace, StepState},
    nearest::nearest,
    plan::{Plan, StepKind},
    report::human::printable,
    supervisor,
};

/// What was typed.
pub struct Asked<'a> {
    /// Which run is meant.
    pub choice: RunChoice,
    /// `--accept-plan-change`
    pub accept: bool,
    /// `--yes-rename`
    pub agreed: &'a [String],
}

impl Asked<'_> {
    /// Returns what to type for the same with every name in `due` agreed to.
    fn next(&self, plan: &str, due: &[(String, String)]) -> String {
        let command = if self.choice == RunChoice::Resume {
            "resume"
        } else {
            "run"
        };
        let new = if self.choice == RunChoice::New {
            " --new"
        } else {
            ""
        };
        let accept = if self.accept {
            " --accept-plan-change"
        } else {
            ""
        };
        let names = due.iter().map(|(name, _)| format!(" --yes-rename {name}"));
        format!(
            "`rekindle {command} {plan}{new}{accept}{}` agrees to it",
            names.collect::<String>()
        )
    }
}

/// Returns once every name that steps take from an instance, or give to one, was typed: as `--yes-rename`, or now. Once a
/// run has begun such a step, all of its steps were agreed to, as they were then: what came into the plan since was not.
pub fn agree(plan: &Plan, scope: &Scope, asked: &Asked<'_>, global: &Global) -> Result<(), Stop> {
    let agreed = asked.agreed;
    if !scope.is_whole() || std::env::var_os(supervisor::CHILD_VARIABLE).is_some() {
        return Ok(());
    }
    let all = touched(plan, |_| true);
    if let Some(strange) = agreed.iter().find(|name| !holds(&all, name)) {
        return Err(Stop::Failed(unknown(strange, &all)));
    }
    if all.is_empty() {
        return Ok(());
    }
    let file = StateFile {
        path: connect::state_path(plan, global),
        plan: connect::typed(&plan.path, &Scope::default(), global),
    };
    let agreed_before = agreed_before(plan, &file, asked.choice)?;
    let due = touched(plan, |index| {
        !agreed_before.get(index).copied().unwrap_or(false)
    });
    let is_agreed = |one: &&(String, String)| holds_name(agreed, &one.0);
    let left: Vec<_> = due.iter().filter(|one| !is_agreed(one)).collect();
    for (name, does) in &due {
        complain(&format!("`{}`: {}", printable(name), printable(does)));
    }
    for (name, _) in &left {
        if !typed(name) {
            return Err(Stop::Failed(Failure::new(
                Exit::Usage,
                format!(
                    "instance `{name}` is about to change its name or its data, and nobody typed its name"
                ),
                "nothing was done",
                asked.next(&file.plan, &due),
            )));
        }
    }
    Ok(())
}

fn holds_name(names: &[String], name: &str) -> bool {
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Returns the names that have to be typed, and what happens to each; of the steps that `is_due` means, by their index.
fn touched(plan: &Plan, is_due: impl Fn(usize) -> bool) -> Vec<(String, String)> {
    let mut names: Vec<(String, String)> = Vec::new();
    let steps = plan.prepare.iter().chain(&plan.finish).enumerate();
    for (_, step) in steps.filter(|(index, _)| is_due(*index)) {
        let (name, does) = match &step.kind {
            StepKind::RdsRename(rename) => {
                (&rename.instance, format!("is renamed to `{}`", rename.to))
            }
            StepKind::RdsRestore(restore) => (
                &restore.instance,
                format!(
                    "is restored anew, with the settings of `{}`",
                    restore.settings_of
                ),
            ),
            _ => continue,
        };
        match names.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = format!("{known}, then {does}"),
            None => names.push((name.clone(), does)),
        }
    }
    names
}

/// Returns, for each step of the plan, whether it was agreed to when the run began that goes on.
fn agreed_before(plan: &Plan, file: &StateFile, choice: RunChoice) -> Result<Vec<bool>, Failure> {
    if choice == RunChoice::New {
        return Ok(Vec::new());
    }
    let Some(view) = file.view()? else {
        return Ok(Vec::new());
    };
    let ledger = view
        .runs()
        .map_err(|error| engine::refused_by_journal(&error, &file.plan))?;
    let Some(run) = ledger.unfinished(Some(&Scope::default())) else {
        return Ok(Vec::new());
    };
    let is_begun = |step: &StepLedger| {
        is_about_instance(step) && (step.began_ms.is_some() || step.state != StepState::Waiting)
    };
    if !run.steps.iter().any(is_begun) {
        return Ok(Vec::new());
    }
    // By what they say, not by their place: another one may stand where one was begun.
    let mut known: Vec<_> = run.steps.iter().map(|step| &step.planned).collect();
    let lists = [
        (StepPlace::Prepare, &plan.prepare),
        (StepPlace::Finish, &plan.finish),
    ];
    let steps = lists
        .into_iter()
        .flat_map(|(place, steps)| steps.iter().map(move |step| (place, step.definition())));
    let agreed = steps.map(|(place, definition)| {
        let same = known
            .iter()
            .position(|had| had.place == place && had.definition == definition);
        same.map(|index| known.remove(index)).is_some()
    });
    Ok(agreed.collect())
}

/// Returns whether a step takes the name from an instance, or gives one to another.
fn is_about_instance(step: &StepLedger) -> bool {
    let title = &step.planned.title;
    ["rds_rename ", "rds_restore "]
        .iter()
        .any(|begin| title.starts_with(begin))
}

fn holds(all: &[(String, String)], name: &str) -> bool {
    all.iter()
        .any(|(known, _)| known.eq_ignore_ascii_case(name))
}

fn unknown(name: &str, all: &[(String, String)]) -> Failure {
    let names = all.iter().map(|(known, _)| known.as_str());
    let next = match nearest(name, names.clone(), 1).first() {
        Some(meant) => format!("did you mean `--yes-rename {meant}`?"),
        None if all.is_empty() => "leave out `--yes-rename`".to_owned(),
        None => format!("the names are {}", names.collect::<Vec<_>>().join(", ")),
    };
    Failure::new(
        Exit::Usage,
        format!("no step of the plan renames or restores an instance `{name}`"),
        "nothing was done",
        next,
    )
}

/// Asks on the terminal; nobody there is a no.
fn typed(name: &str) -> bool {
    ask::question(&format!("type `{name}` to agree:")).is_some_and(|stdin| {
        ask::read(&stdin, |typed| typed.eq_ignore_ascii_case(name)) == Answer::Yes
    })
}
