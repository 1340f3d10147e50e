//! The steps of a run, one after the other: looked at, journaled, done.
//!
//! ```text
//! look ---- it is so already --------------------------------------------> done (journal)
//!   `- not so -> chosen what has to be -> intent (journal) -> perform ---> done (journal)
//!                                                                `- failed (journal): the run stops here
//! ```
//!
//! Steps of `prepare:` are carried out by [`prepare`] before there is a source; those of `finish:` are tasks of the
//! coordinator. What a call that got no answer did is looked at before it is made again.

mod changed;
mod half_done;
mod prepare;
mod tags;
mod undo;
mod way_back;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{sleep, timeout};

pub(super) use self::changed::{changed_steps, check_begun, check_prepared};
pub(super) use self::half_done::refuse_half_done;
pub(super) use self::prepare::{Prepared, Stage, is_due, prepare, record};
pub use self::tags::found_by_tags;
pub(super) use self::undo::lost;
pub use self::undo::{Reversing, undo};
pub use self::way_back::{ToUndo, WayBack};
use super::retry::{Waits, retrying};
use crate::{
    cutover::{Action, Observed, Scene},
    error::{EdgeError, chain},
    failpoint,
    failure::{Exit, Failure},
    ids::StepNumber,
    machine::{Facts, PlannedStep, RunLedger, Scope, StepEvent, StepLedger, StepPlace, StepState},
    plan::{Plan, RetryPolicy, Step},
    report::{self, human},
};

/// Returns the steps of a run of `scope` as the journal keeps them. They are part of the whole plan alone: nobody who
/// restores one resource again means to rename a database.
pub(super) fn planned_steps(plan: &Plan, scope: &Scope) -> Vec<PlannedStep> {
    if !scope.is_whole() {
        return Vec::new();
    }
    let of = |place: StepPlace, steps: &[Step]| -> Vec<PlannedStep> {
        let planned = steps.iter().map(|step| PlannedStep {
            place,
            title: step.title(),
            definition: step.definition(),
            id: None,
        });
        planned.collect()
    };
    let mut steps = of(StepPlace::Prepare, &plan.prepare);
    steps.extend(of(StepPlace::Finish, &plan.finish));
    steps
}

/// What was found when a step was looked at.
#[derive(Debug)]
pub(super) enum Looked {
    /// It is so already.
    Done(String),
    /// It is so already, and a step of a run that this journal does not know left what is known of it.
    Adopted(Facts, String),
    /// It has to be done, with this chosen for it.
    Due(Facts),
}

/// One step that is carried out. Errors come as one line: what passes by itself was waited for.
#[derive(Clone)]
pub(super) struct Work {
    action: Arc<dyn Action>,
    scene: Scene,
    facts: Option<Facts>,
    /// The steps after it that are not done, and what people call them.
    later: Vec<(String, Arc<dyn Action>, Scene)>,
    within: Duration,
    retry: RetryPolicy,
}

impl Work {
    /// Returns the work of step `number`; `None` where the plan has no such step.
    pub fn new(
        plan: &Plan,
        actions: &[Arc<dyn Action>],
        run: &RunLedger,
        number: StepNumber,
    ) -> Option<Self> {
        Self::planned_at(plan, actions, run, number, number)
    }

    /// Returns the work of step `number` of the run, which is step `at` of the plan by now.
    fn planned_at(
        plan: &Plan,
        actions: &[Arc<dyn Action>],
        run: &RunLedger,
        number: StepNumber,
        at: StepNumber,
    ) -> Option<Self> {
        let mut steps = plan.prepare.iter().chain(&plan.finish);
        let scene = |step: StepNumber| Scene {
            run: run.id.clone(),
            instead_of: run.instead_of.to_vec(),
            earlier: facts_before(run, step),
            step: run.step_id(step),
        };
        let later = run.steps.iter().zip(actions).enumerate();
        let later = later
            .skip(number.index() + 1)
            .filter(|(_, (step, _))| !step.is_done())
            .map(|(index, (step, action))| {
                let number = StepNumber::at(index);
                let called = name(&run.steps, number, step);
                (called, Arc::clone(action), scene(number))
            });
        Some(Self {
            action: Arc::clone(actions.get(at.index())?),
            scene: scene(number),
            facts: run.steps.get(number.index())?.facts.clone(),
            later: later.collect(),
            within: steps.nth(at.index())?.within,
            retry: plan.defaults.retry.clone(),
        })
    }

    /// Looks at the world, and chooses what is needed where something has to be done. Changes nothing.
    pub async fn look(&self) -> Result<Looked, String> {
        let facts = self.facts.as_ref();
        let seen = retrying(
            &self.retry,
            |_, _| {},
            || self.action.observe(&self.scene, facts),
        );
        // A deliberate defect: nobody looks whether it is done already.
        let is_blind = failpoint::mutant("step_unseen");
        match seen.await.map_err(|error| one_line(&error))? {
            Observed::Done(how) if facts.is_some() && !is_blind => Ok(Looked::Done(how)),
            Observed::Done(how) if !is_blind => {
                let adopt = || self.action.adopt(&self.scene);
                let known = retrying(&self.retry, |_, _| {}, adopt).await;
                Ok(match known.map_err(|error| one_line(&error))? {
                    Some(facts) => Looked::Adopted(facts, how),
                    None => Looked::Done(how),
                })
            }
            Observed::Done(_) | Observed::NotDone(_) => {
                let intend = || self.action.intend(&self.scene, facts);
                let chosen = retrying(&self.retry, |_, _| {}, intend).await;
                let chosen = chosen.map_err(|error| one_line(&error))?;
                // What was begun is gone on with, whatever became of the rest.
                if self.action.is_irreversible() && self.facts.is_none() {
                    self.can_go_on().await?;
                }
                Ok(Looked::Due(chosen))
            }
        }
    }

    /// Returns why it surely could not be done, whatever the steps before it do. Changes nothing.
    pub async fn is_possible(&self) -> Result<(), String> {
        let (action, scene) = (&self.action, &self.scene);
        if action.is_irreversible() {
            let seen = retrying(&self.retry, |_, _| {}, || action.observe(scene, None)).await;
            if let Observed::Done(_) = seen.map_err(|error| one_line(&error))? {
                return Ok(());
            }
        }
        let possible = retrying(&self.retry, |_, _| {}, || action.is_possible(scene)).await;
        possible.map_err(|error| one_line(&error))
    }

    /// Returns why a later step could not be done, before something is done that only those steps make good.
    async fn can_go_on(&self) -> Result<(), String> {
        for (name, action, scene) in &self.later {
            let possible = || action.is_possible(scene);
            let possible = retrying(&self.retry, |_, _| {}, possible).await;
            possible.map_err(|error| {
                format!(
                    "nothing is begun that needs {name} after it, which could not be done: {}",
                    one_line(&error)
                )
            })?;
        }
        Ok(())
    }

    /// Does it, for as long as the plan allows. `told` hears what it waits for.
    pub async fn perform(
        &self,
        facts: &Facts,
        told: impl Fn(String) + Send + Sync,
    ) -> Result<String, String> {
        let said = Mutex::new(String::new());
        let tell = |text: String| {
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            if *said != text {
                said.clone_from(&text);
                told(text);
            }
        };
        let Ok(done) = timeout(self.within, self.until_done(facts, &tell)).await else {
            let said = said.into_inner().unwrap_or_else(PoisonError::into_inner);
            let last = if said.is_empty() {
                said
            } else {
                format!(": {said}")
            };
            let within = human::duration(self.within);
            return Err(format!("gave up after {within}{last}"));
        };
        done.map_err(|error| one_line(&error))
    }

    async fn until_done(
        &self,
        facts: &Facts,
        tell: &(dyn Fn(String) + Send + Sync),
    ) -> Result<String, EdgeError> {
        let mut waits = Waits::endless(&self.retry);
        loop {
            let error = match self.action.perform(&self.scene, facts, tell).await {
                Err(error) if error.kind.disposition().passes() => error,
                ended => return ended,
            };
            tell(one_line(&error));
            let mut asked = error.not_before;
            // Nobody knows what that did: nothing more is done before the world has answered.
            loop {
                let wait = waits.next().unwrap_or_default();
                sleep(wait.max(asked.take().unwrap_or_default())).await;
                match self.action.observe(&self.scene, Some(facts)).await {
                    Ok(Observed::Done(how)) => return Ok(how),
                    Ok(Observed::NotDone(_)) => break,
                    Err(error) if error.kind.disposition().passes() => {
                        tell(one_line(&error));
                        asked = error.not_before;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

/// Returns what the steps before `step` found or chose.
pub(super) fn facts_before(run: &RunLedger, step: StepNumber) -> Vec<Facts> {
    let before = run.steps.iter().take(step.index());
    before.filter_map(|one| one.facts.clone()).collect()
}

/// Returns the events of a step that was in `state` and is about to be done.
pub(super) fn begun(state: StepState, facts: &Facts) -> Vec<StepEvent> {
    let mut events = Vec::new();
    if state == StepState::Unknown {
        events.push(StepEvent::NotDone);
    }
    events.push(StepEvent::Intended {
        facts: facts.clone(),
    });
    events
}

/// Returns what observers hear of a step that begins.
pub(super) fn started(number: StepNumber, step: &StepLedger, usual: Option<i64>) -> report::Event {
    report::Event::StepStarted {
        step: number,
        place: step.planned.place,
        title: step.planned.title.clone(),
        usual_ms: usual.map(i64::unsigned_abs),
    }
}

/// Returns what observers hear of a step that is done.
pub(super) fn ended(number: StepNumber, step: &StepLedger) -> report::Event {
    report::Event::StepDone {
        step: number,
        place: step.planned.place,
        title: step.planned.title.clone(),
        how: step.how.clone().unwrap_or_default(),
        took_ms: step.took_ms().map(i64::unsigned_abs),
    }
}

/// Returns the failure for a run that stopped at step `number`: which steps are done stands in it, for nothing is
/// reversed by itself.
pub(super) fn stopped(run: &RunLedger, number: StepNumber, reason: &str, typed: &str) -> Failure {
    let failed = run.steps.get(number.index()).map_or_else(
        || format!("step {number}"),
        |step| name(&run.steps, number, step),
    );
    let done: Vec<_> = run
        .steps
        .iter()
        .enumerate()
        .filter(|(_, step)| step.is_done())
        .map(|(index, step)| {
            let how = step.how.as_deref().unwrap_or_default();
            format!("{}: {how}", name(&run.steps, StepNumber::at(index), step))
        })
        .collect();
    let safe = if done.is_empty() {
        "no step is done yet".to_owned()
    } else {
        format!(
            "nothing is reversed by itself; done and journaled: {}",
            done.join("; ")
        )
    };
    Failure::new(
        Exit::Stopped,
        format!("{failed} could not be done"),
        safe,
        format!(
            "mend the cause, then `rekindle run {typed}` goes on with this step; `rekindle undo {typed}` shows the way back"
        ),
    )
    .why(reason)
}

/// Returns what people call a step: `` step 2 of `prepare` (shell `deploy`) ``.
fn name(steps: &[StepLedger], number: StepNumber, step: &StepLedger) -> String {
    let place = step.planned.place;
    let before = steps.iter().take(number.index());
    let ordinal = before.filter(|one| one.planned.place == place).count() + 1;
    format!(
        "step {ordinal} of `{}` ({})",
        place.label(),
        step.planned.title
    )
}

pub(super) fn one_line(error: &EdgeError) -> String {
    chain(error).join(": ")
}
