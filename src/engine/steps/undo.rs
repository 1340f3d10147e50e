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
    Work, one_line, planned_steps,
    prepare::record,
    way_back::{ToUndo, WayBack},
};
use crate::{
    cutover::{Action, Observed, Reversed},
    error::EdgeError,
    failpoint,
    failure::{Exit, Failure},
    ids::StepNumber,
    journal::{Journal, OpenMode},
    machine::{AttemptEnd, Event, Ledger, RunEvent, RunLedger, Scope, StepEvent, StepState},
    plan::Plan,
};

/// What whoever has steps reversed hears, in one line at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reversing {
    /// What the step at work waits for.
    Waits(String),
    /// A step is reversed, or there is nothing of it to reverse.
    Reversed(String),
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
        Some(run) => places(plan, &run, &shown.steps, typed),
        None => Err(Failure::new(
            Exit::Refused,
            "what there is to reverse is no longer what was shown",
            "nothing was reversed",
            format!("`rekindle undo {typed}` shows the steps as they are by now"),
        )
        .why("the run went on, or somebody else reversed it")),
    };
    let outcome = match checked {
        Ok(places) => {
            let mut book = Book::new(journal.clone(), ledger, shown.run.clone());
            let way = Way {
                plan,
                actions,
                shown,
                places,
            };
            match way.reverse(&mut book, &told).await {
                Ok(Ended::Reversed) => Ok(()),
                Ok(Ended::NotBegun(name, reason)) => Err(Failure::new(
                    Exit::Stopped,
                    format!("{name} could not be reversed"),
                    "nothing was reversed: the run and its steps are as they were",
                    format!("mend the cause, then `rekindle undo {typed}`"),
                )
                .why(reason)),
                Ok(Ended::Stopped(name, reason)) => Err(Failure::new(
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

/// Returns where in the plan each of `shown` is by now. What is reversed already may be gone from it, and commands may be mended.
fn places(
    plan: &Plan,
    run: &RunLedger,
    shown: &[ToUndo],
    typed: &str,
) -> Result<Vec<StepNumber>, Failure> {
    let carried = run.carried_over(&planned_steps(plan, &Scope::default()));
    let place = |one: &ToUndo| {
        let mut carried = carried.iter();
        carried
            .position(|number| *number == Some(one.number))
            .map(StepNumber::at)
            .ok_or_else(|| {
                Failure::new(
                    Exit::Refused,
                    format!("the plan no longer says how run {} is reversed", run.id),
                    "nothing was reversed",
                    format!("put the steps back as they were, then `rekindle undo {typed}`"),
                )
                .why(format!("{} is no longer so in the plan", one.name))
            })
    };
    shown.iter().map(place).collect()
}

/// How the way back ended; with the step, and why.
enum Ended {
    Reversed,
    /// Before anything was done.
    NotBegun(String, String),
    Stopped(String, String),
}

/// A way back that was agreed to.
struct Way<'a> {
    plan: &'a Plan,
    actions: &'a [Arc<dyn Action>],
    shown: &'a WayBack,
    /// Where in the plan its steps are.
    places: Vec<StepNumber>,
}

impl Way<'_> {
    fn work(&self, run: &RunLedger, one: &ToUndo, at: StepNumber) -> Option<Work> {
        Work::planned_at(self.plan, self.actions, run, one.number, at)
    }

    async fn reverse(
        &self,
        book: &mut Book,
        told: &(impl Fn(Reversing) + Send + Sync),
    ) -> Result<Ended, BookError> {
        if let Some(ended) = self.is_reversible(book.ledger(), told).await {
            return Ok(ended);
        }
        if self.shown.is_found() {
            book.record(self.shown.found.clone()).await?;
        }
        give_up(book).await?;
        for (one, at) in self.shown.steps.iter().zip(&self.places) {
            if let Some(reason) = self.step(book, one, *at, told).await? {
                return Ok(Ended::Stopped(one.name.clone(), reason));
            }
        }
        Ok(Ended::Reversed)
    }

    /// Looks at the whole way before the first step of it: what surely cannot be reversed leaves everything as it is.
    async fn is_reversible(
        &self,
        ledger: &Ledger,
        told: &(impl Fn(Reversing) + Send + Sync),
    ) -> Option<Ended> {
        let run = self.shown.still(ledger)?;
        for (one, at) in self.shown.steps.iter().zip(&self.places) {
            let Some(work) = self.work(&run, one, *at) else {
                continue;
            };
            let waits = waiting(one, told);
            let trouble = |error: &EdgeError, _| waits(one_line(error));
            let facts = work.facts.as_ref();
            let ask = || work.action.is_reversible(&work.scene, facts, &waits);
            if let Err(error) = retrying(&work.retry, trouble, ask).await {
                return Some(Ended::NotBegun(one.name.clone(), one_line(&error)));
            }
        }
        None
    }

    /// Reverses one step. Returns why it could not be.
    async fn step(
        &self,
        book: &mut Book,
        one: &ToUndo,
        at: StepNumber,
        told: &(impl Fn(Reversing) + Send + Sync),
    ) -> Result<Option<String>, BookError> {
        let run = book.run()?;
        let (Some(work), Some(step)) = (self.work(run, one, at), run.steps.get(one.number.index()))
        else {
            return Ok(None);
        };
        let state = step.state;
        let facts = work.facts.as_ref();
        if state == StepState::Unknown && work.action.can_tell() {
            match work.action.observe(&work.scene, facts).await {
                Ok(Observed::NotDone(how)) => {
                    record(book, one.number, vec![StepEvent::NotDone]).await?;
                    told(Reversing::Reversed(format!(
                        "{}: is not done, or not any more: {how}",
                        one.name
                    )));
                    return Ok(None);
                }
                Ok(Observed::Done(_)) => {}
                Err(error) => return Ok(Some(one_line(&error))),
            }
        }
        if state == StepState::Done {
            // From here on nobody may take it for done, wherever this dies.
            record(book, one.number, vec![StepEvent::Lost]).await?;
        }
        // Every one of them looks before it does anything, so that an answer that was lost does no harm.
        let waits = waiting(one, told);
        let undo = || work.action.undo(&work.scene, facts, &waits);
        let trouble = |error: &EdgeError, _| waits(one_line(error));
        let how = match retrying(&work.retry, trouble, undo).await {
            Ok(Reversed::Undone(how)) => how,
            // A tag says that there is something, or nobody would have come here.
            Ok(Reversed::Nothing(why)) if self.shown.is_found() && one.is_rename => {
                return Ok(Some(why));
            }
            Ok(Reversed::Nothing(why)) => format!("nothing reversed: {why}"),
            Err(error) => return Ok(Some(one_line(&error))),
        };
        failpoint::hit("step_reversed")?;
        told(Reversing::Reversed(format!("{}: {how}", one.name)));
        record(book, one.number, vec![StepEvent::Undone { how }]).await?;
        Ok(None)
    }
}

/// Returns what hears what step `one` waits for.
fn waiting<'a>(
    one: &'a ToUndo,
    told: &'a (impl Fn(Reversing) + Send + Sync),
) -> impl Fn(String) + Send + Sync + 'a {
    once_each(move |text| told(Reversing::Waits(format!("{}: {text}", one.name))))
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
