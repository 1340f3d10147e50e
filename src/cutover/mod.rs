//! What the steps of `prepare:` and `finish:` do to the world: each is observed, performed, and undone.
//!
//! ```text
//! observe -> it is so already
//!         `-> intend (journaled: what was chosen) -> perform -> done
//! a call that was never answered, a process that died -> observe -> ...
//! ```
//!
//! An action knows neither journal nor engine. What it did is found in the world itself, so that a state file that was
//! lost does no step twice.

mod approve;
mod http_check;
mod jenkins_build;
mod maintenance;
#[cfg(feature = "aws")]
mod rds;
mod script;
mod shell;

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use secrecy::ExposeSecret;

use self::{
    approve::Approve, http_check::PageCheck, jenkins_build::JobBuild, maintenance::PageSwitch,
    script::Runner, shell::ShellAction,
};
use crate::{
    error::{EdgeError, ErrorKind},
    ids::{RunId, StepId},
    machine::{Facts, StepPlace},
    plan::{Plan, Step, StepKind},
    process::{Redacted, lock_beside, log_beside},
    remote::jenkins::Jenkins,
};

/// Which step of which run it is about.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The run.
    pub run: RunId,
    /// The runs of lost state files in whose place it came, the latest first: what those did is this one's.
    pub instead_of: Vec<RunId>,
    /// What earlier steps of the run found or chose.
    pub earlier: Vec<Facts>,
    /// What the step is known by in the world: it stays the same wherever a changed plan has the step.
    pub step: StepId,
}

/// What the world looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// As the step leaves it. How that shows, in one line.
    Done(String),
    /// Not so. What there is instead, in one line.
    NotDone(String),
}

/// What came of reversing a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reversed {
    /// The world is as it was before. How that shows, in one line.
    Undone(String),
    /// There is nothing to reverse, or nobody but a person can. Why, in one line.
    Nothing(String),
}

/// Hears what a step waits for, in one line at a time.
pub type Told<'a> = &'a (dyn Fn(String) + Send + Sync);

/// What a step does. Edges name the kind of their errors and never retry.
#[async_trait]
pub trait Action: Send + Sync {
    /// Returns whether the world is as this step leaves it. Reads only, and is asked before anything is done: also when
    /// nobody knows how the last try ended, and when there is no journal that could know (`facts` is `None` then).
    ///
    /// # Errors
    ///
    /// Where the world does not say. Never for "not done".
    async fn observe(&self, scene: &Scene, facts: Option<&Facts>) -> Result<Observed, EdgeError>;

    /// Returns whether "not done" of [`observe`](Self::observe) means that nothing of it is done. Where it does not, a step
    /// that was begun is done once more, and reversed in doubt.
    #[must_use]
    fn can_tell(&self) -> bool {
        true
    }

    /// Returns what has to be known before [`perform`](Self::perform): names that are filled in, settings that will be
    /// gone. It is journaled first, and handed to every later call of this step. `had` is what an earlier try chose: names
    /// and recorded settings of what may be half done are kept, never chosen anew.
    ///
    /// # Errors
    ///
    /// `Refused`, `Missing` or `Credentials` where the step could not be done: nothing was changed yet.
    async fn intend(&self, scene: &Scene, had: Option<&Facts>) -> Result<Facts, EdgeError> {
        let _ = scene;
        Ok(had.cloned().unwrap_or_default())
    }

    /// Returns what there is to know of a step that was found done by what it left behind, though no journal knows of it:
    /// with that it counts as begun, and is reversed like any other. `None` where it was so before.
    ///
    /// # Errors
    ///
    /// Where the world does not say.
    async fn adopt(&self, scene: &Scene) -> Result<Option<Facts>, EdgeError> {
        let _ = scene;
        Ok(None)
    }

    /// Returns the run that took the name which this step would take, this one or another: where its journal is lost, only
    /// the tag says that it has to be given back. Reads only.
    ///
    /// # Errors
    ///
    /// Where the world does not say.
    async fn left_by(&self) -> Result<Option<RunId>, EdgeError> {
        Ok(None)
    }

    /// Returns whether it leaves a world in which the shop is not what it was until the steps after it are done, too. Before
    /// it is begun, [`is_possible`](Self::is_possible) of each of them is asked.
    #[must_use]
    fn is_irreversible(&self) -> bool {
        false
    }

    /// Looks whether it could be done later, once the steps before it are. Reads only.
    ///
    /// # Errors
    ///
    /// `Refused`, `Missing` or `Credentials` where it surely could not.
    async fn is_possible(&self, scene: &Scene) -> Result<(), EdgeError> {
        let _ = scene;
        Ok(())
    }

    /// Does it, and returns how that shows, in one line, once the world is as it should be.
    ///
    /// Dropping the future ends what can be ended.
    ///
    /// # Errors
    ///
    /// Kinds that pass by themselves where nobody knows what happened: the world is observed, and it is tried again.
    /// Others end the run.
    async fn perform(
        &self,
        scene: &Scene,
        facts: &Facts,
        told: Told<'_>,
    ) -> Result<String, EdgeError>;

    /// Looks whether [`undo`](Self::undo) could bring it back, before any step is reversed. Reads only. `told` hears what it
    /// waits for.
    ///
    /// # Errors
    ///
    /// Where it surely could not: in the wrong place, or something else has to be mended first.
    async fn is_reversible(
        &self,
        scene: &Scene,
        facts: Option<&Facts>,
        told: Told<'_>,
    ) -> Result<(), EdgeError> {
        let _ = (scene, facts, told);
        Ok(())
    }

    /// Brings back the world from before. Called twice, it does no more than once. `told` hears what it waits for.
    ///
    /// # Errors
    ///
    /// Where the world is neither as before nor as after.
    async fn undo(
        &self,
        scene: &Scene,
        facts: Option<&Facts>,
        told: Told<'_>,
    ) -> Result<Reversed, EdgeError>;
}

/// What actions are wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be carried out or reversed.
    Act,
    /// To be looked at alone: nothing is written, and no command of an earlier process is waited for.
    Look,
}

/// Returns the actions of the plan's steps in their order, `prepare` before `finish`. Starts nothing and connects to
/// nothing. Output of commands is kept beside `state_path`.
///
/// # Errors
///
/// `Refused` for files of `tls` that cannot be used.
pub fn connect(
    plan: &Plan,
    state_path: &Path,
    purpose: Purpose,
) -> Result<Vec<Arc<dyn Action>>, EdgeError> {
    let redacted = Redacted::of(plan);
    let folder = plan.folder();
    let lists = [
        (StepPlace::Prepare, &plan.prepare),
        (StepPlace::Finish, &plan.finish),
    ];
    let jenkins = match &plan.jenkins {
        Some(config) => Some(Arc::new(Jenkins::new(
            config.url.expose_secret(),
            &config.shown,
            config.user.clone(),
            config.tls.as_ref(),
        )?)),
        None => None,
    };
    #[cfg(feature = "aws")]
    let rds = plan
        .aws
        .as_ref()
        .map(|aws| Arc::new(crate::remote::rds::Rds::new(aws)));
    let mut actions: Vec<Arc<dyn Action>> = Vec::new();
    for (place, steps) in lists {
        for (index, step) in steps.iter().enumerate() {
            let what = format!("{}-{}", place.label(), index + 1);
            let runner = Runner {
                folder: folder.clone(),
                log: log_beside(state_path, &what),
                lock: lock_beside(state_path),
                redacted: redacted.clone(),
                within: step.within,
                only_looks: purpose == Purpose::Look,
            };
            actions.push(match (&step.kind, &jenkins) {
                (StepKind::JenkinsBuild(build), Some(jenkins)) => Arc::new(JobBuild::new(
                    Arc::clone(jenkins),
                    build.clone(),
                    plan.name.clone(),
                    runner.log,
                    runner.redacted,
                )),
                #[cfg(feature = "aws")]
                (
                    StepKind::RdsSnapshot(_) | StepKind::RdsRename(_) | StepKind::RdsRestore(_),
                    _,
                ) => about_rds(step, plan, rds.as_ref(), runner.log)?,
                _ => action(step, runner, state_path)?,
            });
        }
    }
    Ok(actions)
}

fn action(step: &Step, runner: Runner, state_path: &Path) -> Result<Arc<dyn Action>, EdgeError> {
    Ok(match &step.kind {
        StepKind::Maintenance(page) => Arc::new(PageSwitch::new(page.clone(), true, runner)),
        StepKind::MaintenanceOff(page) => Arc::new(PageSwitch::new(page.clone(), false, runner)),
        StepKind::Shell(shell) => Arc::new(ShellAction::new(shell.clone(), runner)),
        StepKind::HttpCheck(check) => Arc::new(PageCheck::new(check)?),
        StepKind::Approve { question } => {
            Arc::new(Approve::new(question.clone(), state_path.to_owned()))
        }
        StepKind::JenkinsBuild(build) => {
            // The checks of a plan refuse it before.
            let text = format!("the plan has no `jenkins:` to build job `{}`", build.job);
            return Err(EdgeError::new(ErrorKind::Refused, text));
        }
        StepKind::RdsSnapshot(_) | StepKind::RdsRename(_) | StepKind::RdsRestore(_) => {
            let text = format!(
                "this program was built without `aws`: it knows no {}",
                step.title()
            );
            return Err(EdgeError::new(ErrorKind::Refused, text));
        }
    })
}

#[cfg(feature = "aws")]
fn about_rds(
    step: &Step,
    plan: &Plan,
    rds: Option<&Arc<crate::remote::rds::Rds>>,
    log: std::path::PathBuf,
) -> Result<Arc<dyn Action>, EdgeError> {
    let rds = rds.cloned().ok_or_else(|| {
        // The checks of a plan refuse it before.
        let text = format!("the plan has no `aws:` for {}", step.title());
        EdgeError::new(ErrorKind::Refused, text)
    })?;
    Ok(match &step.kind {
        StepKind::RdsSnapshot(snapshot) => Arc::new(rds::TakeSnapshot::new(rds, snapshot.clone())),
        StepKind::RdsRename(rename) => Arc::new(rds::Rename::new(rds, rename.clone(), step.within)),
        StepKind::RdsRestore(restore) => {
            let original = plan.name_before(&restore.settings_of);
            Arc::new(rds::Restore::new(
                rds,
                restore.clone(),
                original,
                log,
                step.within,
            ))
        }
        _ => return Err(EdgeError::new(ErrorKind::Internal, "no step about RDS")),
    })
}
