//! What is journaled between two steps of a resource that is with its publisher.

use super::Coordinator;
use crate::{
    engine::{
        bind::Bound,
        book::BookError,
        breaker::Side,
        handover::{Handed, IdPage, Settled},
    },
    failpoint,
    ids::{PartitionId, ResourceName},
    machine::{
        FallbackEvent, IdChunk, PartitionPlan, ResourceEvent, ResourceLedger, ResourceState,
    },
    report,
};

impl Coordinator {
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
            (Handed::Undrained(reason), ResourceState::Draining) => self.block(name, reason).await,
            (
                Handed::Ids(Err(error)) | Handed::Settled(Err(error)),
                ResourceState::Triggering | ResourceState::Draining,
            ) => {
                self.calls.remove(name);
                self.failed(name, Side::Source, &error).await
            }
            (Handed::Called(Err(error)), ResourceState::Triggering) => {
                self.failed(name, Side::Publisher, &error).await?;
                let goes_on = |one: &ResourceLedger| one.state == ResourceState::Triggering;
                // Else the same ids are called again, which are journaled already.
                if !self.book.resource(name).is_some_and(goes_on) {
                    self.calls.remove(name);
                }
                Ok(())
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
            entities: Some(page.asked.clone()),
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
}
