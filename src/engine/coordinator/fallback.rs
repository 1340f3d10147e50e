//! When a resource goes to its publisher.
//!
//! Only the source's data and our own memory lead here. A target or a network that is down is waited for: republishing
//! into it would help nobody.

use super::Coordinator;
use crate::{
    engine::book::BookError,
    ids::ResourceName,
    machine::{Event, FallbackEvent, HandoverScope, ResourceLedger, ResourceState},
    report,
};

impl Coordinator {
    /// Hands a resource to its publisher, or blocks it where there is none: then `or_else` says what a person may do.
    pub(super) async fn fall_back(
        &mut self,
        name: &ResourceName,
        why: String,
        or_else: &str,
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
            return self.block(name, format!("{why}; {lacks}{or_else}")).await;
        }
        self.begin(name, HandoverScope::Resource, why, of).await
    }

    pub(super) async fn begin(
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

    pub(super) async fn fell(
        &mut self,
        name: &ResourceName,
        event: FallbackEvent,
    ) -> Result<(), BookError> {
        let event = Event::Fallback {
            run: self.book.run_id().clone(),
            resource: name.clone(),
            event,
        };
        self.book.record(vec![event]).await
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
            self.fall_back(&name, why, "").await?;
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
        self.fall_back(name, format!("{times} in a row: {why}"), "")
            .await
    }
}
