//! A resource that cannot be copied goes to its publisher: when, and what comes after each step.
//!
//! Only the source's data and our own memory lead here. A target or a network that is down is waited for: republishing
//! into it would help nobody.

use std::sync::Arc;

use tokio::sync::watch;

use super::{
    Coordinator, Finished, Job,
    waiting::{BOTH, Passage},
};
use crate::{
    cursor::{Cursor, KeyValue},
    engine::{
        bind::Bound,
        book::BookError,
        breaker::Side,
        copy::Report,
        evidence::{extent, partition_keys},
        handover::{
            Handed, IdPage, Rebind, Settle, Settled, entities, ids_query, letters_query, next_ids,
        },
        preflight::row_query,
        retry::retrying,
        sink::told,
    },
    error::{EdgeError, ErrorKind},
    failpoint, fallback,
    ids::{PartitionId, ResourceName},
    machine::{
        Event, FallbackEvent, Handover, HandoverScope, IdChunk, PartitionPlan, ResourceEvent,
        ResourceLedger, ResourceState,
    },
    plan::{FallbackConfig, Resource},
    report,
    source::{MOST_PLACES, RowQuery},
};

/// Most dead letters of one resource whose rows are read again: their places are one list in a query.
const MOST_MENDED: u32 = 10_000;

/// What a dead letter says whose row is still broken afterwards.
pub(super) const STILL: &str = "; also after its publisher was called";

impl Coordinator {
    /// Hands a resource to its publisher, or blocks it where there is none.
    pub(super) async fn fall_back(
        &mut self,
        name: &ResourceName,
        why: String,
    ) -> Result<(), BookError> {
        let (Some(resource), Some(ledger)) = (self.plan.resource(name), self.book.resource(name))
        else {
            return Ok(());
        };
        let scope = &self.book.run()?.scope;
        let of = match &scope.ids {
            Some(ids) => ids.len() as u64,
            None => self.id_counts.get(name).copied().unwrap_or_default(),
        };
        let lacks = match &resource.fallback {
            None => Some("it has no publisher (`fallback:`) that could regenerate its rows"),
            Some(_) if ledger.fallback.handover.is_some() => {
                Some("its publisher was called already")
            }
            Some(_) if scope.ids.is_some() && resource.from.entity.is_none() => Some(
                "`--ids` are not entity ids without `from.entity`, so its publisher is not called",
            ),
            Some(config) if scope.ids.is_some() && !config.of_rows => {
                Some("`--ids` are not the ids that its publisher takes")
            }
            Some(_) if ledger.state != ResourceState::Syncing => Some("it is not being copied"),
            Some(_) => None,
        };
        if let Some(lacks) = lacks {
            return self.block(name, format!("{why}; {lacks}")).await;
        }
        self.begin(name, HandoverScope::Resource, why, of).await
    }

    async fn begin(
        &mut self,
        name: &ResourceName,
        scope: HandoverScope,
        why: String,
        of: u64,
    ) -> Result<(), BookError> {
        let Some(config) = self
            .plan
            .resource(name)
            .and_then(|one| one.fallback.as_ref())
        else {
            return Ok(());
        };
        let by = config.by.label().to_owned();
        self.stop(name);
        // Of an earlier time, before the resource started over.
        self.mends.remove(name);
        self.settled.remove(name);
        self.calls.remove(name);
        self.fell(
            name,
            FallbackEvent::Begun {
                scope,
                why: why.clone(),
                by: by.clone(),
                of,
            },
        )
        .await?;
        self.emit(&report::Event::FellBack {
            resource: name.clone(),
            rows_only: scope == HandoverScope::Rows,
            by,
            ids: of,
            reason: why,
        });
        Ok(())
    }

    async fn fell(&mut self, name: &ResourceName, event: FallbackEvent) -> Result<(), BookError> {
        let event = Event::Fallback {
            run: self.book.run_id().clone(),
            resource: name.clone(),
            event,
        };
        self.book.record(vec![event]).await
    }

    /// Hands the broken rows of a resource that is read to its end to its publisher. Returns whether there were any.
    pub(super) async fn mends(&mut self, name: &ResourceName) -> Result<bool, BookError> {
        let Some(resource) = self.plan.resource(name) else {
            return Ok(false);
        };
        let fresh = self
            .book
            .resource(name)
            .is_some_and(|ledger| ledger.fallback.handover.is_none() && ledger.totals().2 > 0);
        let Some(config) = resource.fallback.as_ref().filter(|_| fresh) else {
            return Ok(false);
        };
        let most = if resource.from.cursor.len() > 1 {
            MOST_PLACES
        } else {
            MOST_MENDED as usize
        };
        let broken = self.letters(name, true, 0, MOST_MENDED + 1).await?.len();
        let all = self.letters(name, false, 0, MOST_MENDED + 1).await?;
        let lacks = if broken == 0 {
            return Ok(false);
        } else if resource.from.entity.is_none() {
            "`from.entity` is not named"
        } else if !config.of_rows {
            "`from.entity` names other ids than it takes"
        } else if all.len() > most {
            "there are too many of them"
        } else {
            let why = format!("{broken} of its rows are broken");
            self.begin(name, HandoverScope::Rows, why, broken as u64)
                .await?;
            return Ok(true);
        };
        let text = format!("{name}: broken rows do not go to the publisher: {lacks}");
        self.emit(&report::Event::Notice { text });
        Ok(false)
    }

    /// Returns dead letters of a resource after number `after`, by number and place.
    async fn letters(
        &self,
        name: &ResourceName,
        broken: bool,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(i64, Cursor)>, BookError> {
        let kind = broken.then(|| ErrorKind::RowBroken.label());
        let run = self.book.run_id();
        let journal = self.book.journal();
        Ok(journal.dead_letters(run, name, kind, after, limit).await?)
    }

    /// Loads the places of rows that are read again, where they are not known yet.
    pub(super) async fn load_mends(&mut self) -> Result<(), BookError> {
        let due: Vec<ResourceName> = self
            .book
            .resources()
            .iter()
            .filter(|one| one.fallback.is_of_rows() && !self.mends.contains_key(&one.name))
            .filter(|one| {
                matches!(
                    one.state,
                    ResourceState::Draining | ResourceState::Comparing
                )
            })
            .map(|one| one.name.clone())
            .collect();
        for name in due {
            // Twice as many: letters of this very reading may stand beside those it is about.
            let letters = self.letters(&name, false, 0, 2 * MOST_MENDED).await?;
            let mut places: Vec<String> = letters.iter().map(|(_, place)| place.exact()).collect();
            places.sort_unstable();
            places.dedup();
            self.mends.insert(name, places);
        }
        Ok(())
    }

    /// Returns what a walk of `partition` reads.
    pub(super) fn walk_query(
        &self,
        resource: &Resource,
        partition: PartitionId,
    ) -> Option<RowQuery> {
        let run = self.book.run().ok()?;
        let again = run
            .resource(&resource.name)?
            .fallback
            .reads_again(partition);
        Some(if again {
            letters_query(&resource.from, self.mends.get(&resource.name)?.clone())
        } else {
            row_query(resource, &run.scope)
        })
    }

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

    fn handover(&self, name: &ResourceName) -> Option<&Handover> {
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
            .letters(&resource.name, true, after, fallback::IDS_PER_CALL)
            .await?;
        let (from, entity) = (resource.from.clone(), resource.from.entity.clone());
        self.hand(&resource.name, &[Side::Source], async move {
            let Some((last, _)) = letters.last() else {
                return Handed::Ids(Ok(None));
            };
            let until = Cursor::single(KeyValue::Uint(last.cast_unsigned()));
            let places: Vec<String> = letters.iter().map(|(_, place)| place.exact()).collect();
            let entity = entity.unwrap_or_default();
            let found = retrying(&retry, waiting, || {
                entities(&*source, &from, &entity, places.clone())
            });
            Handed::Ids(found.await.map(|ids| Some(IdPage { ids, until })))
        });
        Ok(())
    }

    async fn call(&mut self, resource: &Resource, page: IdPage) -> Result<(), BookError> {
        let publisher = match fallback::connect(&self.plan, resource, &self.state_path) {
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
            retry: self.plan.defaults.retry.clone(),
        };
        let waiting = self.waiting(&resource.name, Side::Source);
        self.hand(&resource.name, &[Side::Source], async move {
            Handed::Settled(settle.run(waiting).await)
        });
    }

    /// Returns the rows that are compared after the publisher did its work.
    fn compared(&self, resource: &Resource) -> Option<RowQuery> {
        let run = self.book.run().ok()?;
        if !run.resource(&resource.name)?.fallback.is_of_rows() {
            return Some(row_query(resource, &run.scope));
        }
        let places = self.mends.get(&resource.name)?.clone();
        Some(letters_query(&resource.from, places))
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

    /// Journals what a step ended in.
    pub(super) async fn handed(
        &mut self,
        name: &ResourceName,
        handed: Handed,
    ) -> Result<(), BookError> {
        let Some(state) = self.book.resource(name).map(|one| one.state.clone()) else {
            return Ok(());
        };
        match (handed, state) {
            (Handed::Ids(Ok(page)), ResourceState::Triggering) => {
                self.edge_works(name, Side::Source).await?;
                self.ids_found(name, page).await
            }
            (Handed::Called(Ok(())), ResourceState::Triggering) => {
                self.edge_works(name, Side::Publisher).await?;
                self.called(name).await
            }
            (Handed::Settled(Ok(settled)), ResourceState::Draining) => {
                self.edge_works(name, Side::Source).await?;
                if settled == Settled::Moving {
                    let text = format!(
                        "{name}: its rows still change after the time that `drain.within` gives them; they are compared as \
                         they are, what changes later is published by the shop"
                    );
                    self.emit(&report::Event::Notice { text });
                }
                self.settled.insert(name.clone());
                Ok(())
            }
            (Handed::Bound(bound), ResourceState::Draining) => match *bound {
                Ok(bound) => {
                    self.edges_work(name).await?;
                    self.bound_again(name, bound).await
                }
                Err((side, error)) => self.failed(name, side, &error).await,
            },
            (
                Handed::Ids(Err(error)) | Handed::Settled(Err(error)),
                ResourceState::Triggering | ResourceState::Draining,
            ) => {
                self.calls.remove(name);
                self.failed(name, Side::Source, &error).await
            }
            (Handed::Called(Err(error)), ResourceState::Triggering) => {
                // Else the same ids are called again, which are journaled already.
                if !error.kind.disposition().passes() {
                    self.calls.remove(name);
                }
                self.failed(name, Side::Publisher, &error).await
            }
            // It was blocked, or started over, meanwhile: nothing is known, and it is asked again.
            _ => {
                self.calls.remove(name);
                Ok(())
            }
        }
    }

    async fn ids_found(
        &mut self,
        name: &ResourceName,
        page: Option<IdPage>,
    ) -> Result<(), BookError> {
        let Some(page) = page else {
            self.book
                .resource_moved(name, ResourceEvent::Triggered)
                .await?;
            self.emit(&report::Event::Settling {
                resource: name.clone(),
            });
            return Ok(());
        };
        failpoint::hit("before_intent")?;
        let chunk = IdChunk {
            until: page.until.clone(),
            ids: page.ids.len() as u64,
        };
        self.fell(name, FallbackEvent::Called(chunk)).await?;
        failpoint::hit("after_intent")?;
        if page.ids.is_empty() {
            // Rows that are gone, or belong to nothing.
            return self.called(name).await;
        }
        self.calls.insert(name.clone(), page);
        Ok(())
    }

    async fn called(&mut self, name: &ResourceName) -> Result<(), BookError> {
        self.calls.remove(name);
        if self.handover(name).is_none_or(|had| had.open.is_none()) {
            return Ok(());
        }
        failpoint::hit("after_call")?;
        self.fell(name, FallbackEvent::Acknowledged).await?;
        failpoint::hit("after_acknowledged")?;
        if let Some(handover) = self.handover(name) {
            let event = report::Event::IdsTriggered {
                resource: name.clone(),
                ids: handover.ids,
                of: handover.of,
                calls: handover.calls,
            };
            self.emit(&event);
        }
        Ok(())
    }

    async fn bound_again(&mut self, name: &ResourceName, bound: Bound) -> Result<(), BookError> {
        let Some(ledger) = self.book.resource(name) else {
            return Ok(());
        };
        let of_rows = ledger.fallback.is_of_rows();
        let estimated_rows = if of_rows {
            ledger.totals().2
        } else {
            bound.shape.estimated_rows
        };
        let ordinals = if of_rows {
            ledger.partitions.iter().map(|one| one.ordinal).max()
        } else {
            None
        };
        let rows = self.plan.resource(name).map_or(1, |one| one.chunk.rows);
        let first = self.book.next_partition();
        let partitions: Vec<PartitionPlan> = (0u32..)
            .zip(bound.ranges)
            .map(|(index, range)| PartitionPlan {
                id: PartitionId(first + u64::from(index)),
                ordinal: ordinals.unwrap_or(0) + index + 1,
                range,
                page_rows: rows,
            })
            .collect();
        let count = partitions.len();
        failpoint::hit("before_bound")?;
        self.fell(
            name,
            FallbackEvent::Bound {
                columns: bound.shape.fingerprint.clone(),
                estimated_rows: bound.shape.estimated_rows,
                incarnation: bound.incarnation,
                partitions,
            },
        )
        .await?;
        self.settled.remove(name);
        self.emit(&report::Event::Comparing {
            resource: name.clone(),
            estimated_rows,
            partitions: count,
        });
        self.shapes.insert(name.clone(), bound.shape);
        Ok(())
    }

    /// Ends the comparison of a resource whose last row is compared.
    pub(super) async fn finish_compared(&mut self, name: &ResourceName) -> Result<(), BookError> {
        let of_rows = self
            .book
            .resource(name)
            .is_some_and(|one| one.fallback.is_of_rows());
        if of_rows {
            self.mends.remove(name);
            return self.fell(name, FallbackEvent::Mended).await;
        }
        self.book
            .resource_moved(name, ResourceEvent::Compared)
            .await
    }

    /// Sends resources to their publishers whose single rows killed the process for memory too often.
    pub(super) async fn convict(&mut self) -> Result<(), BookError> {
        while let Some((name, partition)) = self.suspect() {
            let most = self.plan.defaults.after_crashes;
            let has_publisher = self
                .plan
                .resource(&name)
                .is_some_and(|one| one.fallback.is_some());
            let deaths = self
                .book
                .resource(&name)
                .and_then(|one: &ResourceLedger| one.fallback.charge)
                .filter(|charge| charge.partition == partition)
                .map_or(0, |charge| charge.count);
            let copying = self
                .book
                .resource(&name)
                .is_some_and(|one| one.state == ResourceState::Syncing);
            if deaths < most || !has_publisher || !copying {
                return Ok(());
            }
            let why = format!(
                "the process was killed for memory {deaths} times in a row while a single row was read"
            );
            self.fall_back(&name, why).await?;
        }
        Ok(())
    }

    /// Counts a failure of the source's data. Returns whether the resource was handed on, or goes on.
    pub(super) async fn data_failed(
        &mut self,
        name: &ResourceName,
        why: String,
    ) -> Result<(), BookError> {
        let failures = self.data_failures.entry(name.clone()).or_default();
        *failures += 1;
        let times = *failures;
        let has_publisher = self
            .plan
            .resource(name)
            .is_some_and(|one| one.fallback.is_some());
        if has_publisher && times < self.plan.defaults.after_failures {
            return Ok(());
        }
        let times = super::count(times.into(), "failure");
        self.fall_back(name, format!("{times} in a row: {why}"))
            .await
    }
}
