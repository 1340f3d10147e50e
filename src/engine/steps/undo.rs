//! The way back: the steps of a run reversed, the last one first. Only because a person asked.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    super::{
        book::{Book, BookError},
        refuse::{refused_by_book, refused_by_journal},
        retry::retrying,
    },
    Work, name, one_line, planned_steps,
    prepare::record,
};
use crate::{
    cutover::{Action, Observed, Reversed},
    error::EdgeError,
    failpoint,
    failure::{Exit, Failure},
    ids::{RunId, StepNumber},
    journal::{Journal, OpenMode, now_ms},
    machine::{
        AttemptEnd, Event, Ledger, PlannedStep, RunEvent, RunLedger, Scope, StepEvent, StepLedger,
        StepState,
    },
    plan::Plan,
};

/// A step that would be reversed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToUndo {
    /// Its number in the run.
    pub number: StepNumber,
    /// What people call it.
    pub name: String,
    /// How it was done, or why nobody knows whether it was.
    pub stands: String,
}

/// A run that would be reversed, and how: what a person is shown, and agrees to.
#[derive(Debug, Clone)]
pub struct WayBack {
    /// The run.
    pub run: RunId,
    /// Its steps to reverse, the last one first.
    pub steps: Vec<ToUndo>,
    /// What a journal has to be told of a run that is known by its tags alone.
    found: Vec<Event>,
}

impl WayBack {
    /// Returns the way back that `ledger` knows of; `None` where there is nothing to reverse.
    #[must_use]
    pub fn known(ledger: &Ledger) -> Option<Self> {
        to_undo(ledger).map(|(run, steps)| Self {
            run: run.id.clone(),
            steps,
            found: Vec::new(),
        })
    }

    /// Returns whether it is known by tags alone.
    #[must_use]
    pub const fn is_found(&self) -> bool {
        !self.found.is_empty()
    }

    /// Returns it as one that `events` tell a journal of.
    pub(super) fn found(self, events: Vec<Event>) -> Self {
        Self {
            found: events,
            ..self
        }
    }

    /// Returns the run as it stands by now in `ledger`; `None` where what there is to reverse is no longer this.
    fn still(&self, ledger: &Ledger) -> Option<RunLedger> {
        let mut ledger = ledger.clone();
        let mut found = self.found.iter();
        found
            .try_for_each(|event| ledger.apply(now_ms(), event))
            .ok()?;
        let (run, steps) = to_undo(&ledger)?;
        (run.id == self.run && steps == self.steps).then(|| run.clone())
    }
}

/// What whoever has steps reversed hears, in one line at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reversing {
    /// What the step at work waits for.
    Waits(String),
    /// A step is reversed, or there is nothing of it to reverse.
    Reversed(String),
}

/// Returns the latest run of the whole plan with steps to reverse, and those steps, the last one first. Once they are
/// reversed it is the turn of the run before, if there is anything left of it.
fn to_undo(ledger: &Ledger) -> Option<(&RunLedger, Vec<ToUndo>)> {
    let runs = ledger.runs.iter().rev();
    runs.map(|run| (run, steps_to_undo(run)))
        .find(|(_, steps)| !steps.is_empty())
}

fn steps_to_undo(run: &RunLedger) -> Vec<ToUndo> {
    let of = |(index, step): (usize, &StepLedger)| {
        let number = StepNumber::at(index);
        let stands = match step.state {
            StepState::Done => step.how.clone().unwrap_or_default(),
            StepState::Intent | StepState::Unknown => {
                "it was begun, or half reversed, and how that ended is not known: looked at first"
                    .to_owned()
            }
            StepState::Waiting | StepState::Undone => return None,
        };
        run.has_to_reverse(step).then(|| ToUndo {
            number,
            name: name(&run.steps, number, step),
            stands,
        })
    };
    let mut steps: Vec<_> = run.steps.iter().enumerate().filter_map(of).collect();
    steps.reverse();
    steps
}

/// Gives the unfinished run up and reverses its steps, the last one first: those that were `shown`, and agreed to. `told`
/// hears of each. A step that cannot be reversed ends it there, and the same command goes on.
///
/// # Errors
///
/// A [`Failure`] with exit code 3 where the plan's steps are others than the run's, the run is no longer where it was when
/// its steps were shown, or the state file is refused, 6 where a
/// run is at work, 5 where a step could not be reversed.
pub async fn undo(
    plan: &Plan,
    actions: &[Arc<dyn Action>],
    state_path: &Path,
    typed: &str,
    shown: &WayBack,
    told: impl Fn(Reversing) + Send + Sync,
) -> Result<(), Failure> {
    let (journal, ledger, _) = Journal::open(state_path, OpenMode::Normal)
        .map_err(|error| refused_by_journal(&error, typed))?;
    let checked = match shown.still(&ledger) {
        Some(run) => same_steps(plan, &run, typed),
        None => Err(Failure::new(
            Exit::Refused,
            "what there is to reverse is no longer what was shown",
            "nothing was reversed",
            format!("`rekindle undo {typed}` shows the steps as they are by now"),
        )
        .why("the run went on, or somebody else reversed it")),
    };
    let outcome = match checked {
        Ok(()) => {
            let mut book = Book::new(journal.clone(), ledger, shown.run.clone());
            match reverse(&mut book, plan, actions, shown, &told).await {
                Ok(None) => Ok(()),
                Ok(Some((name, reason))) => Err(Failure::new(
                    Exit::Stopped,
                    format!("{name} could not be reversed"),
                    "steps after it are reversed and journaled; it and those before it are as they were",
                    format!("mend the cause, then `rekindle undo {typed}` goes on from there"),
                )
                .why(reason)),
                Err(error) => Err(refused_by_book(&error, typed)),
            }
        }
        Err(failure) => Err(failure),
    };
    let closed = journal.close().await;
    outcome.and_then(|()| closed.map_err(|error| refused_by_journal(&error, typed)))
}

/// Refuses where the plan says no more how the run's steps are reversed.
fn same_steps(plan: &Plan, run: &RunLedger, typed: &str) -> Result<(), Failure> {
    let had: Vec<&PlannedStep> = run.steps.iter().map(|step| &step.planned).collect();
    if planned_steps(plan, &Scope::default()).iter().eq(had) {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Refused,
        format!("the steps of the plan are not those of run {}", run.id),
        "nothing was reversed",
        format!("put the steps back as they were, then `rekindle undo {typed}`"),
    ))
}

async fn reverse(
    book: &mut Book,
    plan: &Plan,
    actions: &[Arc<dyn Action>],
    shown: &WayBack,
    told: &(impl Fn(Reversing) + Send + Sync),
) -> Result<Option<(String, String)>, BookError> {
    if shown.is_found() {
        book.record(shown.found.clone()).await?;
    }
    give_up(book).await?;
    for one in &shown.steps {
        let run = book.run()?;
        let (Some(work), Some(step)) = (
            Work::new(plan, actions, run, one.number),
            run.steps.get(one.number.index()),
        ) else {
            continue;
        };
        let (state, facts) = (step.state, step.facts.clone());
        let facts = facts.as_ref();
        if state == StepState::Unknown && work.action.can_tell() {
            match work.action.observe(&work.scene, facts).await {
                Ok(Observed::NotDone(how)) => {
                    record(book, one.number, vec![StepEvent::NotDone]).await?;
                    told(Reversing::Reversed(format!(
                        "{}: is not done, or not any more: {how}",
                        one.name
                    )));
                    continue;
                }
                Ok(Observed::Done(_)) => {}
                Err(error) => return Ok(Some((one.name.clone(), one_line(&error)))),
            }
        }
        if state == StepState::Done {
            // From here on nobody may take it for done, wherever this dies.
            record(book, one.number, vec![StepEvent::Lost]).await?;
        }
        // Every one of them looks before it does anything, so that an answer that was lost does no harm.
        let waits = once_each(|text| {
            told(Reversing::Waits(format!("{}: {text}", one.name)));
        });
        let undo = || work.action.undo(&work.scene, facts, &waits);
        let trouble = |error: &EdgeError, _| waits(one_line(error));
        let how = match retrying(&work.retry, trouble, undo).await {
            Ok(Reversed::Undone(how)) => how,
            Ok(Reversed::Nothing(why)) => format!("nothing reversed: {why}"),
            Err(error) => return Ok(Some((one.name.clone(), one_line(&error)))),
        };
        failpoint::hit("step_reversed")?;
        told(Reversing::Reversed(format!("{}: {how}", one.name)));
        record(book, one.number, vec![StepEvent::Undone { how }]).await?;
    }
    Ok(None)
}

/// Returns `told` without what it was told last.
fn once_each(told: impl Fn(String) + Send + Sync) -> impl Fn(String) + Send + Sync {
    let said = Mutex::new(String::new());
    move |text| {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if *said != text {
            said.clone_from(&text);
            told(text);
        }
    }
}

/// Records that nobody goes on with the run, and that what was under way is to be looked at.
async fn give_up(book: &mut Book) -> Result<(), BookError> {
    let run = book.run()?;
    let id = run.id.clone();
    let mut events = Vec::new();
    if run.open_attempt().is_some() {
        events.push(Event::AttemptEnded {
            run: id.clone(),
            end: AttemptEnd::Unknown,
        });
    }
    if !run.state.is_over() {
        events.push(Event::Run {
            run: id.clone(),
            event: RunEvent::Cancel,
        });
    }
    events.extend(lost(run));
    book.record(events).await
}

/// Returns the events for steps that a process which is gone was at.
pub(in crate::engine) fn lost(run: &RunLedger) -> Vec<Event> {
    let at_work = run.steps.iter().enumerate();
    at_work
        .filter(|(_, step)| step.state == StepState::Intent)
        .map(|(index, _)| Event::Step {
            run: run.id.clone(),
            step: StepNumber::at(index),
            event: StepEvent::Lost,
        })
        .collect()
}
