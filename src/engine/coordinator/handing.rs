//! The steps of a resource that is with its publisher: which one is started next.

use std::sync::Arc;

use tokio::sync::watch;

use super::{
    Coordinator, Finished, Job,
    published::tell,
    waiting::{BOTH, Passage},
};
use crate::{
    cursor::{Cursor, KeyValue},
    engine::{
        book::BookError,
        breaker::Side,
        copy::Report,
        drain::NotDrained,
        evidence::{extent, partition_keys},
        handover::{Handed, IdPage, Rebind, SAY, Settle, Waited, entities_at, ids_query, next_ids},
        retry::retrying,
        sink::told,
    },
    error::{EdgeError, ErrorKind, chain},
    fallback,
    ids::ResourceName,
    machine::{Handover, HandoverScope, ResourceState},
    plan::{FallbackConfig, Resource},
    report::human,
};

impl Coordinator {
    /// Starts the next step of each resource that is with its publisher. Nothing writes to it meanwhile.
    pub(super) async fn hand_next(&mut self) -> Result<(), BookError> {
        let due: Vec<(ResourceName, ResourceState)> = self
            .book
            .resources()
            .iter()
            .filter(|one| {
                matches!(
                    one.state,
                    ResourceState::Triggering | ResourceState::Draining
                )
            })
            .map(|one| (one.name.clone(), one.state.clone()))
            .collect();
        for (name, state) in due {
            let busy = self.jobs.values().any(
                |job| matches!(job, Job::Walk(of, _) | Job::Hand(of, _) | Job::Bind(of) if *of == name),
            );
            let uses = self.step(&name, &state);
            if busy || !self.is_proven(&name) || self.passage(&name, uses) == Passage::Closed {
                continue;
            }
            if self.is_delegated(&name) {
                self.delegate(&name, &state).await?;
                continue;
            }
            let Some((resource, config)) = self
                .plan
                .resource(&name)
                .and_then(|resource| Some((resource.clone(), resource.fallback.clone()?)))
            else {
                let reason = "it is with its publisher, and the plan names none any more";
                self.block(&name, reason.to_owned()).await?;
                continue;
            };
            if state == ResourceState::Draining {
                if self.settled.contains(&name) {
                    self.rebind(&resource);
                } else {
                    self.wait_for_rows(&resource, &config);
                }
            } else if let Some(page) = self.calls.get(&name).cloned() {
                self.call(&resource, page).await?;
            } else {
                self.look_for_ids(&resource, &config).await?;
            }
        }
        Ok(())
    }

    /// Starts the next step of a resource that somebody else carries over: one call, then the comparison. Rows of the source
    /// do not change by it, so there is nothing to wait for.
    async fn delegate(
        &mut self,
        name: &ResourceName,
        state: &ResourceState,
    ) -> Result<(), BookError> {
        let Some(resource) = self.plan.resource(name).cloned() else {
            return Ok(());
        };
        if !resource.executor.is_delegated() {
            let reason = "it is carried over by somebody else, and the plan says `sync: direct` by now: put it back, or begin \
                          anew with `--new`";
            return self.block(name, reason.to_owned()).await;
        }
        if *state == ResourceState::Draining {
            self.settled.insert(name.clone());
            self.rebind(&resource);
        } else if let Some(page) = self.calls.get(name).cloned() {
            let ids = self.book.run()?.scope.ids.clone().unwrap_or_default();
            self.call(&resource, IdPage { ids, ..page }).await?;
        } else {
            let is_out = self
                .handover(name)
                .is_some_and(|handover| handover.after.is_some());
            let page = (!is_out).then(|| IdPage {
                ids: vec![name.as_str().to_owned()],
                until: Cursor::single(KeyValue::Uint(1)),
                asked: Vec::new(),
            });
            self.hand(name, &[], async move { Handed::Ids(Ok(page)) });
        }
        Ok(())
    }

    /// Returns the edges that the next step of a resource goes through. A call goes through none: the publisher has a
    /// breaker of its own.
    fn step(&self, name: &ResourceName, state: &ResourceState) -> &'static [Side] {
        if *state == ResourceState::Draining && self.settled.contains(name) {
            BOTH
        } else if self.calls.contains_key(name) {
            &[]
        } else {
            &[Side::Source]
        }
    }

    pub(super) fn handover(&self, name: &ResourceName) -> Option<&Handover> {
        self.book.resource(name)?.fallback.handover.as_ref()
    }

    async fn look_for_ids(
        &mut self,
        resource: &Resource,
        config: &FallbackConfig,
    ) -> Result<(), BookError> {
        let Some(handover) = self.handover(&resource.name).cloned() else {
            return Ok(());
        };
        let (source, retry) = (Arc::clone(&self.source), self.plan.defaults.retry.clone());
        let waiting = self.waiting(&resource.name, Side::Source);
        if handover.scope == HandoverScope::Resource {
            let query = ids_query(config, &self.book.run()?.scope);
            self.hand(&resource.name, &[Side::Source], async move {
                let found = retrying(&retry, waiting, || {
                    next_ids(
                        &*source,
                        &query,
                        handover.after.clone(),
                        fallback::IDS_PER_CALL,
                    )
                });
                Handed::Ids(found.await)
            });
            return Ok(());
        }
        let after = match handover.after.as_ref().and_then(|after| after.0.first()) {
            Some(KeyValue::Uint(number)) => number.cast_signed(),
            _ => 0,
        };
        let letters = self
            .letters(&resource.name, Some(ErrorKind::RowBroken), after)
            .await?;
        let from = resource.from.clone();
        // Of a call that may have been made: its rows may lie elsewhere by now, so that asking again finds fewer.
        let asked_before = handover.open.and_then(|open| open.entities);
        self.hand(&resource.name, &[Side::Source], async move {
            let Some(last) = letters.last() else {
                return Handed::Ids(Ok(None));
            };
            let until = Cursor::single(KeyValue::Uint(last.number.cast_unsigned()));
            let mut ids: Vec<String> = letters
                .iter()
                .filter_map(|one| one.entity.clone())
                .collect();
            // Of a state file from before dead letters had entities, or rows without one.
            let unasked: Vec<String> = letters
                .iter()
                .filter(|one| one.entity.is_none())
                .map(|one| one.place.exact())
                .collect();
            let entity = from.entity.as_deref().unwrap_or_default();
            let asked = retrying(&retry, waiting, || {
                entities_at(&*source, &from, entity, &unasked)
            });
            let mut asked = match asked.await {
                Ok(entities) => entities.into_values().collect::<Vec<_>>(),
                Err(error) => return Handed::Ids(Err(error)),
            };
            asked.extend(asked_before.into_iter().flatten());
            asked.sort_unstable();
            asked.dedup();
            ids.extend(asked.iter().cloned());
            ids.sort_unstable();
            ids.dedup();
            Handed::Ids(Ok(Some(IdPage { ids, until, asked })))
        });
        Ok(())
    }

    async fn call(&mut self, resource: &Resource, page: IdPage) -> Result<(), BookError> {
        let publisher = if self.is_delegated(&resource.name) {
            fallback::delegate(&self.plan, resource, &self.state_path)
        } else {
            fallback::connect(&self.plan, resource, &self.state_path)
        };
        let publisher = match publisher {
            Ok(Some(publisher)) => publisher,
            Ok(None) => return Ok(()),
            Err(error) => {
                let side = Side::Publisher;
                return self.failed(&resource.name, side, &error).await;
            }
        };
        let edge = self.edge(&resource.name, Side::Publisher);
        let mut retry = self.plan.defaults.retry.clone();
        let is_trial = self.breakers.is_open(&edge);
        if is_trial {
            retry.attempts = 1;
        }
        let wait = self.breakers.wait(&edge);
        let waiting = self.waiting(&resource.name, Side::Publisher);
        self.hand(&resource.name, &[], async move {
            tokio::time::sleep(wait).await;
            let called = retrying(&retry, waiting, || publisher.call(&page.ids)).await;
            Handed::Called(called)
        });
        Ok(())
    }

    fn wait_for_rows(&mut self, resource: &Resource, config: &FallbackConfig) {
        let Some(query) = self.compared(resource) else {
            return;
        };
        let settle = Settle {
            query,
            source: Arc::clone(&self.source),
            still: config.settle,
            within: config.within,
            say: SAY,
            retry: self.plan.defaults.retry.clone(),
        };
        let waiting = self.waiting(&resource.name, Side::Source);
        let drain = self.drain_of(resource, config.within);
        let (reports, name) = (self.reports.0.clone(), resource.name.clone());
        let (still, within) = (
            human::duration(settle.still),
            human::duration(settle.within),
        );
        let of_drain = reports.clone();
        let waits = move |waited: Waited| {
            let elapsed = human::duration(waited.elapsed);
            let changed = match waited.changes {
                0 => "no change seen yet".to_owned(),
                changes => format!("{} seen", super::count(changes.into(), "change")),
            };
            tell(
                &reports,
                format!(
                    "{name}: waiting for {elapsed} (at most {within}) until its rows stand still for {still}: {changed}"
                ),
            );
        };
        self.hand(&resource.name, &[Side::Source], async move {
            // Rows that wait for their events in a queue stand still, too.
            if let Some(drain) = drain
                && let Err(stalled) = drain.run(|text| tell(&of_drain, text)).await
            {
                return match stalled {
                    NotDrained::Still(reason) => Handed::Undrained(reason),
                    NotDrained::Edge(error) => Handed::Undrained(chain(&error).join(": ")),
                };
            }
            Handed::Settled(settle.run(waiting, waits).await)
        });
    }

    fn rebind(&mut self, resource: &Resource) {
        let (Some(query), Ok(run)) = (self.compared(resource), self.book.run()) else {
            return;
        };
        let (Some(leased), Some(ledger)) =
            (self.targets.get(&resource.to), run.resource(&resource.name))
        else {
            return;
        };
        let of_rows = ledger.fallback.is_of_rows();
        let rebind = Rebind {
            resource: resource.name.clone(),
            run: run.id.clone(),
            query,
            source: Arc::clone(&self.source),
            target: Arc::clone(&leased.target),
            extent: extent(run),
            partitions: if of_rows {
                1
            } else {
                self.plan.defaults.parallel_partitions
            },
            replaced: (!of_rows).then(|| partition_keys(run, ledger)),
            retry: self.plan.defaults.retry.clone(),
        };
        let mut reading = self.waiting(&resource.name, Side::Source);
        let mut writing = self.waiting(&resource.name, Side::Target);
        self.hand(&resource.name, BOTH, async move {
            let told = |side, error: &EdgeError, wait| match side {
                Side::Target => writing(error, wait),
                Side::Source | Side::Publisher => reading(error, wait),
            };
            Handed::Bound(Box::new(rebind.run(told).await))
        });
    }

    /// Returns who hears of errors that pass.
    fn waiting(
        &self,
        name: &ResourceName,
        side: Side,
    ) -> impl FnMut(&EdgeError, std::time::Duration) + use<> {
        let (reports, name) = (self.reports.0.clone(), name.clone());
        move |error, wait| {
            // Only for people: a report that finds no room is not worth waiting for.
            let waiting = Report::Waiting {
                resource: name.clone(),
                side,
                error: error.to_string(),
                wait,
            };
            reports.try_send(waiting).ok();
        }
    }

    /// Runs a step until it ends or the resource is told to stop: then a publisher that is under way is killed, and
    /// called again another time.
    fn hand(
        &mut self,
        name: &ResourceName,
        uses: &'static [Side],
        work: impl Future<Output = Handed> + Send + 'static,
    ) {
        let stop = self
            .stops
            .entry(name.clone())
            .or_insert_with(|| watch::channel(false).0);
        let mut stopped = stop.subscribe();
        let task = self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = told(&mut stopped) => Finished::Handed(Handed::Stopped),
                handed = work => Finished::Handed(handed),
            }
        });
        self.jobs.insert(task.id(), Job::Hand(name.clone(), uses));
    }
}
