//! The steps of `finish:`, once every row is stored and compared: one task at a time.

use super::{Coordinator, Ending, Finished, Job, PANICKED, Verified};
use crate::{
    control::AtStep,
    engine::{
        book::BookError,
        copy::Report,
        steps::{self, Looked, Work},
    },
    failpoint,
    failure::{Exit, Failure},
    ids::StepNumber,
    machine::{AttemptEnd, Facts, RunEvent, RunState, StepEvent, StepPlace, StepState},
    report,
};

/// What a task of a step came to.
pub(super) enum Stepped {
    /// The world was looked at.
    Looked(Result<Looked, String>),
    /// It was carried out.
    Performed(Result<String, String>),
}

/// What there is to do about steps.
enum Next {
    /// All are done.
    Nothing,
    /// A task was started.
    UnderWay,
    /// One could not be done.
    Failed(Ending),
}

impl Coordinator {
    /// Goes on with the steps of `finish:`, and ends the run after them.
    pub(super) async fn finishing(&mut self) -> Result<Option<Ending>, BookError> {
        match self.step_next().await? {
            Next::Nothing => self.finish().await.map(Some),
            Next::UnderWay => Ok(None),
            Next::Failed(ending) => Ok(Some(ending)),
        }
    }

    /// Begins with the next step of `finish:`.
    async fn step_next(&mut self) -> Result<Next, BookError> {
        if let Some((number, reason)) = self.step_failed.take() {
            let failure = steps::stopped(self.book.run()?, number, &reason, &self.plan_typed());
            let reason = format!("{}: {reason}", failure.what);
            self.book
                .attempt_ended(AttemptEnd::Failed { reason }, Some(RunEvent::Fail))
                .await?;
            return Ok(Next::Failed(Ending::StepFailed(Box::new(failure))));
        }
        let run = self.book.run()?;
        let Some((number, _)) = run.next_step(StepPlace::Finish) else {
            return Ok(Next::Nothing);
        };
        if let Some(work) = Work::new(&self.plan, &self.actions, run, number) {
            self.spawn_step(number, async move { Stepped::Looked(work.look().await) });
        } else {
            let gone = "the plan has no such step any more".to_owned();
            self.step_failed = Some((number, gone));
        }
        Ok(Next::UnderWay)
    }

    /// Stops a run whose comparison found something before its steps of `finish:`: they are what brings the shop back. Without
    /// such steps a difference keeps no run from being done.
    pub(super) async fn stop_before_steps(&mut self) -> Result<Option<Ending>, BookError> {
        let run = self.book.run()?;
        if run.next_step(StepPlace::Finish).is_none() {
            return Ok(None);
        }
        let Some(why) = self.verified.as_ref().and_then(Verified::objection) else {
            return Ok(None);
        };
        let typed = self.plan_typed();
        let failure = Failure::new(
            Exit::Differences,
            "the targets are not what the source says, so no step of `finish` is begun",
            "every row is restored, and the steps of `prepare` stay done",
            format!(
                "`rekindle verify {typed}` names what differs, `--repair` rewrites it; then `rekindle run {typed}` compares once more"
            ),
        )
        .why(why);
        let reason = failure.why.join(": ");
        self.book
            .attempt_ended(AttemptEnd::Failed { reason }, Some(RunEvent::Fail))
            .await?;
        Ok(Some(Ending::StepFailed(Box::new(failure))))
    }

    /// Takes note of what a task of step `number` came to.
    pub(super) async fn stepped(
        &mut self,
        number: StepNumber,
        stepped: Stepped,
    ) -> Result<(), BookError> {
        match stepped {
            Stepped::Looked(Ok(Looked::Due(facts))) => self.step_due(number, facts).await,
            Stepped::Looked(Ok(Looked::Done(how))) => self.step_done(number, how).await,
            Stepped::Looked(Ok(Looked::Adopted(facts, how))) => {
                let state = self.book.run()?.steps.get(number.index());
                let state = state.map_or(StepState::Waiting, |step| step.state);
                let begun = steps::begun(state, &facts);
                steps::record(&mut self.book, number, begun).await?;
                self.step_done(number, how).await
            }
            Stepped::Performed(Ok(how)) => {
                failpoint::hit("step_performed")?;
                self.step_done(number, how).await?;
                failpoint::hit("step_done")?;
                Ok(())
            }
            Stepped::Looked(Err(reason)) | Stepped::Performed(Err(reason)) => {
                self.at_step = None;
                let event = StepEvent::Failed {
                    reason: reason.clone(),
                };
                steps::record(&mut self.book, number, vec![event]).await?;
                self.step_failed = Some((number, reason));
                Ok(())
            }
        }
    }

    async fn step_due(&mut self, number: StepNumber, facts: Facts) -> Result<(), BookError> {
        if self.interrupted.is_some() {
            return Ok(());
        }
        let run = self.book.run()?;
        let (Some(work), Some(step)) = (
            Work::new(&self.plan, &self.actions, run, number),
            run.steps.get(number.index()),
        ) else {
            return Ok(());
        };
        let usual = self.book.ledger().usual_ms(&step.planned.definition);
        let begun = steps::begun(step.state, &facts);
        failpoint::hit("before_step")?;
        steps::record(&mut self.book, number, begun).await?;
        if let Some(step) = self.book.run()?.steps.get(number.index()) {
            let started = steps::started(number, step, usual);
            self.emit(&started);
        }
        failpoint::hit("step_intended")?;
        let reports = self.reports.0.clone();
        let told = move |text| {
            let event = report::Event::StepWaits { step: number, text };
            // Only for people: what finds no room is said again, or is no news any more.
            reports.try_send(Report::Told(event)).ok();
        };
        self.spawn_step(number, async move {
            Stepped::Performed(work.perform(&facts, told).await)
        });
        Ok(())
    }

    async fn step_done(&mut self, number: StepNumber, how: String) -> Result<(), BookError> {
        self.at_step = None;
        steps::record(&mut self.book, number, vec![StepEvent::Done { how }]).await?;
        if let Some(step) = self.book.run()?.steps.get(number.index()) {
            let ended = steps::ended(number, step);
            self.emit(&ended);
        }
        Ok(())
    }

    /// Takes note of a task that was dropped, or panicked: nobody knows what it did.
    pub(super) async fn step_dropped(&mut self, number: StepNumber) -> Result<(), BookError> {
        self.at_step = None;
        if self.interrupted.is_some() {
            // The next attempt finds it under way.
            return Ok(());
        }
        let run = self.book.run()?;
        let state = run.steps.get(number.index()).map(|step| step.state);
        if state == Some(StepState::Intent) {
            steps::record(&mut self.book, number, vec![StepEvent::Lost]).await?;
        }
        if self.bug {
            self.step_failed = Some((number, PANICKED.to_owned()));
        }
        Ok(())
    }

    /// Remembers for `status` what the step at work waits for.
    pub(super) fn hear_step(&mut self, event: &report::Event) {
        if let report::Event::StepWaits { step, text } = event {
            self.at_step = Some(AtStep {
                number: *step,
                said: text.clone(),
            });
        }
    }

    /// Drops the step at work where rows have to be restored once more before it.
    pub(super) fn drop_step(&mut self) -> Result<(), BookError> {
        if self.book.run()?.state != RunState::Finishing || !self.lacks_resources() {
            return Ok(());
        }
        for (id, job) in &self.jobs {
            if matches!(job, Job::Step(_))
                && let Some(task) = self.probes.get(id)
            {
                task.abort();
            }
        }
        Ok(())
    }

    fn spawn_step(
        &mut self,
        number: StepNumber,
        task: impl Future<Output = Stepped> + Send + 'static,
    ) {
        let task = self.tasks.spawn(async move { Finished::Step(task.await) });
        // Dropped at once when a signal comes: its intent is journaled, and what it did is looked at.
        self.probes.insert(task.id(), task.clone());
        self.jobs.insert(task.id(), Job::Step(number));
    }
}
