//! Opens a run whose steps of `prepare:` come first: source and bounds are those of the world after them.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::mpsc;

use super::{
    Chosen, MovedAside, OpenRun, OpenedRun, actions, choose, connected, forget, identified,
    is_first, open_journal, opening_events, refuse_first, release, stale_partitions, take_leases,
};
use crate::{
    engine::{
        book::{Book, BookError},
        observers::Observers,
        preflight::{Checked, is_skipped, preflight},
        refuse::{
            check_identities, interrupted, interrupted_in_steps, refused_by_book, refused_by_edge,
            refused_by_journal,
        },
        retry::patiently,
        steps::{Prepared, Stage, prepare, stopped},
    },
    failpoint,
    failure::{Exit, Failure},
    journal::{Journal, Notice},
    machine::{AttemptEnd, Event, Ledger, ResourceLedger, RunEvent, RunState},
    report,
    source::Source,
};

/// Opens the run: refuses what can be refused before the first step, carries out the steps, then looks at source and
/// targets as every run does.
pub(super) async fn open(
    request: &OpenRun,
    observers: &mut Observers,
    signals: &mut mpsc::Receiver<()>,
) -> Result<OpenedRun, Failure> {
    let typed = request.typed.as_str();
    let early = tokio::select! {
        biased;
        Some(()) = signals.recv() => return Err(interrupted(typed, None)),
        early = before_anything(request) => early?,
    };
    let (journal, ledger, notices) = open_journal(request)?;
    let moved_aside = MovedAside::of(&notices);
    let mut notices: Vec<_> = notices.iter().map(Notice::to_string).collect();
    notices.extend(early);
    let stages = Stages {
        request,
        moved_aside,
        notices,
    };
    match stages
        .carry_out(journal.clone(), ledger, observers, signals)
        .await
    {
        Ok(opened) => Ok(opened),
        Err(failure) => {
            journal
                .close()
                .await
                .map_err(|error| refused_by_journal(&error, typed))?;
            Err(failure)
        }
    }
}

/// Refuses what no step could mend, while nothing is done yet. Returns what a person should know.
async fn before_anything(request: &OpenRun) -> Result<Option<String>, Failure> {
    let (plan, typed) = (&request.plan, request.typed.as_str());
    let chosen = plan
        .resources
        .iter()
        .filter(|one| !is_skipped(&request.scope, &one.name));
    let mut identities = BTreeMap::new();
    for name in plan.targets_of(chosen) {
        let Some(target) = request.targets.get(&name) else {
            continue;
        };
        let identity = patiently(&plan.defaults.retry, || target.identity()).await;
        let identity = identity.map_err(|error| refused_by_edge(&error, &plan.name, typed))?;
        identities.insert(name, identity);
    }
    if is_first(&request.state_path) {
        refuse_first(request, identities.keys()).await?;
    }
    match source_as_it_is(request).await {
        Ok((_, _, healed)) => Ok(healed),
        // A step may be what brings it there.
        Err(failure) if plan.prepare.iter().any(|one| one.kind.may_change_source()) => {
            let why = failure.why.join(": ");
            Ok(Some(format!(
                "before the steps of `prepare`: {}: {why}; the source is asked again after them",
                failure.what
            )))
        }
        Err(failure) => Err(failure),
    }
}

/// A source, what it said, and what had to be taken back in it first.
type Connected = (Arc<dyn Source>, Checked, Option<String>);

async fn source_as_it_is(request: &OpenRun) -> Result<Connected, Failure> {
    let (source, healed) = connected(request).await?;
    let checked = preflight(
        &request.plan,
        &request.scope,
        &*source,
        &request.targets,
        &request.typed,
    )
    .await?;
    Ok((source, checked, healed))
}

/// What opening in stages needs to know.
struct Stages<'a> {
    request: &'a OpenRun,
    moved_aside: MovedAside,
    notices: Vec<String>,
}

impl Stages<'_> {
    async fn carry_out(
        mut self,
        journal: Journal,
        ledger: Ledger,
        observers: &mut Observers,
        signals: &mut mpsc::Receiver<()>,
    ) -> Result<OpenedRun, Failure> {
        let request = self.request;
        let typed = request.typed.as_str();
        let by_book = |error: BookError| refused_by_book(&error, typed);
        let chosen = choose(request, &ledger)?;
        self.notices.extend(chosen.notices.iter().cloned());
        let actions = actions(request)?;
        let left = &self.moved_aside.left;
        let (events, attempt) = opening_events(request, &chosen, &ledger, left, None)?;
        let given_up = stale_partitions(&ledger, &events);
        let mut book = Book::new(journal.clone(), ledger, chosen.run.clone());
        begin(&mut book, events).await.map_err(by_book)?;
        self.announce(&book, attempt, observers);
        let mut stage = Stage {
            plan: &request.plan,
            actions: &actions,
            state_path: &request.state_path,
            observers,
            signals,
        };
        match prepare(&mut book, &mut stage).await.map_err(by_book)? {
            Prepared::Done => {}
            Prepared::Interrupted => return Err(self.interrupted(&mut book).await),
            Prepared::Failed(number, reason) => {
                let run = book.run().map_err(by_book)?;
                let failure = stopped(run, number, &reason, typed);
                return Err(self.ended(&mut book, failure).await);
            }
        }
        let connecting = self.connect(&journal, &chosen);
        let connected = tokio::select! {
            biased;
            Some(()) = signals.recv() => None,
            connected = connecting => Some(connected),
        };
        let (connected, leases) = match connected {
            None => return Err(self.interrupted(&mut book).await),
            Some(Err(failure)) => return Err(self.ended(&mut book, after_steps(failure)).await),
            Some(Ok(connected)) => connected,
        };
        let (source, checked, healed) = connected;
        let restoring = vec![
            identified(&chosen.run, &checked),
            Event::Run {
                run: chosen.run.clone(),
                event: RunEvent::Restore,
            },
        ];
        if let Err(error) = book.record(restoring).await {
            release(&leases).await;
            return Err(by_book(error));
        }
        forget(&given_up, &leases, &request.targets).await;
        Ok(OpenedRun {
            book,
            source,
            actions,
            announced: true,
            shapes: checked.shapes,
            id_counts: checked.id_counts,
            leases,
            notices: healed.into_iter().collect(),
            attempt,
            state_path: request.state_path.clone(),
        })
    }

    /// Looks at source and targets as they are by now, and takes the targets' leases.
    async fn connect(
        &self,
        journal: &Journal,
        chosen: &Chosen,
    ) -> Result<(Connected, super::Leases), Failure> {
        let (source, checked, healed) = source_as_it_is(self.request).await?;
        if let Some(run) = &chosen.found {
            check_identities(run, &checked, &self.request.typed)?;
        }
        let aside = &self.moved_aside;
        let leases = take_leases(self.request, &checked, journal, &chosen.run, aside).await?;
        Ok(((source, checked, healed), leases))
    }

    fn announce(&self, book: &Book, attempt: u32, observers: &mut Observers) {
        let resources = book
            .resources()
            .iter()
            .map(|resource| report::ResourceStanding {
                name: resource.name.clone(),
                state: resource.state.label().to_owned(),
                estimated_rows: resource.estimated_rows,
                rows: ResourceLedger::totals(resource).0,
            });
        observers.emit(&report::Event::RunStarted {
            run: book.run_id().clone(),
            plan: self.request.plan.name.clone(),
            attempt,
            state: self.request.state_path.display().to_string(),
            resources: resources.collect(),
        });
        for text in &self.notices {
            observers.emit(&report::Event::Notice { text: text.clone() });
        }
    }

    async fn interrupted(&self, book: &mut Book) -> Failure {
        let (end, moved) = (AttemptEnd::Interrupted, Some(RunEvent::Interrupt));
        match book.attempt_ended(end, moved).await {
            Ok(()) => {
                let failure = interrupted(&self.request.typed, None);
                interrupted_in_steps(failure, "no row was written")
            }
            Err(error) => refused_by_book(&error, &self.request.typed),
        }
    }

    /// Records that the attempt ends with `failure`; returns what to tell of it.
    async fn ended(&self, book: &mut Book, failure: Failure) -> Failure {
        let reason = std::iter::once(&failure.what).chain(&failure.why);
        let reason: Vec<_> = reason.map(String::as_str).collect();
        let end = AttemptEnd::Failed {
            reason: reason.join(": "),
        };
        match book.attempt_ended(end, Some(RunEvent::Fail)).await {
            Ok(()) => failure,
            Err(error) => refused_by_book(&error, &self.request.typed),
        }
    }
}

/// Records that the attempt begins, and that steps are due.
async fn begin(book: &mut Book, events: Vec<Event>) -> Result<(), BookError> {
    failpoint::hit("before_attempt")?;
    book.record(events).await?;
    if book.run()?.state == RunState::Planned {
        book.run_moved(RunEvent::Prepare).await?;
    }
    Ok(())
}

/// Returns what a refusal is after steps were done: something that stopped in the middle.
fn after_steps(failure: Failure) -> Failure {
    if failure.exit != Exit::Refused {
        return failure;
    }
    Failure {
        exit: Exit::Stopped,
        safe: "the steps of `prepare` are done and journaled, no row is written; they are not done again".to_owned(),
        ..failure
    }
}
