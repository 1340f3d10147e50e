//! The steps of `prepare:`, before there is a source to connect to.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{
    super::{
        book::{Book, BookError},
        observers::Observers,
        open::{OpenRun, RunChoice},
    },
    Looked, Work, begun, ended, started,
};
use crate::{
    control::{self, AtStep, Live},
    cutover::Action,
    failpoint,
    ids::StepNumber,
    journal::View,
    machine::{Event, Phase, RunState, StepEvent, StepLedger, StepPlace, StepState},
    plan::Plan,
    report,
};

/// How often a pause is looked for.
const LOOK: Duration = Duration::from_millis(500);

/// How the steps ended.
#[derive(Debug)]
pub enum Prepared {
    /// All are done.
    Done,
    /// A signal asks to stop.
    Interrupted,
    /// One could not be done.
    Failed(StepNumber, String),
}

/// Returns whether the run that `request` asks for has steps of `prepare:` to do. A state file that cannot be read is
/// opened in any case, and refused then.
pub fn is_due(request: &OpenRun) -> bool {
    if request.plan.prepare.is_empty() {
        return false;
    }
    let runs = View::open(&request.state_path).map(|view| view.map(|view| view.runs()));
    let Ok(Some(Ok(ledger))) = runs else {
        return request.scope.is_whole();
    };
    let found = match request.choice {
        RunChoice::New => None,
        RunChoice::Continue => ledger.unfinished(Some(&request.scope)),
        RunChoice::Resume => ledger.unfinished(None),
    };
    let Some(run) = found else {
        return request.scope.is_whole() && request.choice != RunChoice::Resume;
    };
    let phase = match run.state {
        RunState::Interrupted(phase) | RunState::Failed(phase) => Some(phase),
        state => state.phase(),
    };
    run.scope.is_whole() && matches!(phase, Some(Phase::Planned | Phase::Preparing))
}

/// What the steps are carried out with.
pub struct Stage<'a> {
    pub plan: &'a Plan,
    pub actions: &'a [Arc<dyn Action>],
    pub state_path: &'a Path,
    pub observers: &'a mut Observers,
    pub signals: &'a mut mpsc::Receiver<()>,
}

/// Carries out the steps of `prepare:` that are left.
pub async fn prepare(book: &mut Book, stage: &mut Stage<'_>) -> Result<Prepared, BookError> {
    match stage.foreseen(book).await? {
        Prepared::Done => {}
        other => return Ok(other),
    }
    loop {
        let Some(number) = book
            .run()?
            .next_step(StepPlace::Prepare)
            .map(|(number, _)| number)
        else {
            return Ok(Prepared::Done);
        };
        if stage.is_stopped().await {
            return Ok(Prepared::Interrupted);
        }
        let outcome = stage.one(book, number).await?;
        Live::remove(stage.state_path);
        match outcome {
            Prepared::Done => {}
            other => return Ok(other),
        }
    }
}

impl Stage<'_> {
    /// Waits while a person asked for a pause. Returns whether a signal asks to stop.
    async fn is_stopped(&mut self) -> bool {
        let mut paused = false;
        while let Some(pause) = control::asked(self.state_path) {
            if !paused {
                paused = true;
                self.observers.emit(&report::Event::Notice {
                    text: format!("paused by {}: no step is begun until `unpause`", pause.by),
                });
            }
            tokio::select! {
                Some(()) = self.signals.recv() => return true,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        self.signals.try_recv().is_ok()
    }

    /// Looks, before the first step of all, whether any of them surely could not be done: then the shop is as it was.
    async fn foreseen(&mut self, book: &mut Book) -> Result<Prepared, BookError> {
        let run = book.run()?;
        let is_begun = |step: &StepLedger| step.state != StepState::Waiting || step.facts.is_some();
        // What a lost state file had begun may be in the middle of things.
        if !run.instead_of.is_empty() || run.steps.iter().any(is_begun) {
            return Ok(Prepared::Done);
        }
        let numbers = (0..run.steps.len()).map(StepNumber::at);
        let works: Vec<_> = numbers
            .filter_map(|number| {
                let work = Work::new(self.plan, self.actions, run, number)?;
                Some((number, work))
            })
            .collect();
        for (number, work) in works {
            let possible = tokio::select! {
                biased;
                Some(()) = self.signals.recv() => return Ok(Prepared::Interrupted),
                possible = work.is_possible() => possible,
            };
            if let Err(reason) = possible {
                return failed(book, number, reason).await;
            }
        }
        Ok(Prepared::Done)
    }

    async fn one(&mut self, book: &mut Book, number: StepNumber) -> Result<Prepared, BookError> {
        let run = book.run()?;
        let (Some(work), Some(step)) = (
            Work::new(self.plan, self.actions, run, number),
            run.steps.get(number.index()),
        ) else {
            return Ok(Prepared::Failed(
                number,
                "the plan has no such step any more".to_owned(),
            ));
        };
        let (state, usual) = (step.state, book.ledger().usual_ms(&step.planned.definition));
        let looked = tokio::select! {
            biased;
            Some(()) = self.signals.recv() => return Ok(Prepared::Interrupted),
            looked = work.look() => looked,
        };
        let facts = match looked {
            Ok(Looked::Done(how)) => {
                return self.done(book, number, how).await.map(|()| Prepared::Done);
            }
            Ok(Looked::Adopted(facts, how)) => {
                record(book, number, begun(state, &facts)).await?;
                return self.done(book, number, how).await.map(|()| Prepared::Done);
            }
            Ok(Looked::Due(facts)) => facts,
            Err(reason) => return failed(book, number, reason).await,
        };
        failpoint::hit("before_step")?;
        record(book, number, begun(state, &facts)).await?;
        if let Some(step) = book.run()?.steps.get(number.index()) {
            self.observers.emit(&started(number, step, usual));
        }
        failpoint::hit("step_intended")?;
        // What it waits for is told as it comes: nothing of it has to arrive.
        let (tell, mut said) = mpsc::channel(8);
        let told = move |text| drop(tell.try_send(text));
        let performed = {
            let mut performing = std::pin::pin!(work.perform(&facts, told));
            loop {
                tokio::select! {
                    biased;
                    Some(()) = self.signals.recv() => return Ok(Prepared::Interrupted),
                    performed = &mut performing => break performed,
                    Some(text) = said.recv() => self.waits(book, number, text),
                }
            }
        };
        failpoint::hit("step_performed")?;
        match performed {
            Ok(how) => {
                self.done(book, number, how).await?;
                failpoint::hit("step_done")?;
                Ok(Prepared::Done)
            }
            Err(reason) => failed(book, number, reason).await,
        }
    }

    async fn done(
        &mut self,
        book: &mut Book,
        number: StepNumber,
        how: String,
    ) -> Result<(), BookError> {
        record(book, number, vec![StepEvent::Done { how }]).await?;
        if let Some(step) = book.run()?.steps.get(number.index()) {
            self.observers.emit(&ended(number, step));
        }
        Ok(())
    }

    fn waits(&mut self, book: &Book, number: StepNumber, said: String) {
        let live = Live {
            pid: std::process::id(),
            run: book.run_id().clone(),
            waiting: Vec::new(),
            held: Vec::new(),
            paces: Vec::new(),
            queues: Vec::new(),
            memory: None,
            step: Some(AtStep {
                number,
                said: said.clone(),
            }),
        };
        // A folder that takes no more files is the journal's to complain about.
        if let Err(error) = live.write(self.state_path) {
            tracing::debug!(%error, "the file for `status` cannot be written");
        }
        self.observers.emit(&report::Event::StepWaits {
            step: number,
            text: said,
        });
    }
}

async fn failed(
    book: &mut Book,
    number: StepNumber,
    reason: String,
) -> Result<Prepared, BookError> {
    let event = StepEvent::Failed {
        reason: reason.clone(),
    };
    record(book, number, vec![event]).await?;
    Ok(Prepared::Failed(number, reason))
}

/// Records what happened to a step.
pub async fn record(
    book: &mut Book,
    step: StepNumber,
    events: Vec<StepEvent>,
) -> Result<(), BookError> {
    let run = book.run_id().clone();
    let events = events.into_iter().map(|event| Event::Step {
        run: run.clone(),
        step,
        event,
    });
    book.record(events.collect()).await
}
