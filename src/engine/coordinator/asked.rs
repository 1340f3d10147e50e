//! Ids that were asked for and have no row: said at the end, as nothing else would tell.

use std::{sync::Arc, time::Duration};

use super::Coordinator;
use crate::{
    engine::{asked_ids::asked_ids, preflight::is_skipped},
    error::chain,
    report,
};

/// How long the source may take. Everything is restored by then, and nobody should wait long for a remark.
const PATIENCE: Duration = Duration::from_secs(30);

impl Coordinator {
    /// Tells which ids of the run's scope no row has.
    pub(super) async fn tell_asked_ids(&mut self) {
        let Ok(run) = self.book.run() else { return };
        let scope = run.scope.clone();
        if scope.ids.is_none() {
            return;
        }
        let (plan, source) = (Arc::clone(&self.plan), Arc::clone(&self.source));
        let asking = async {
            let chosen = plan
                .resources
                .iter()
                .filter(|one| !is_skipped(&scope, &one.name));
            let mut told = Vec::new();
            for resource in chosen {
                match asked_ids(&*source, resource, &scope).await {
                    Ok(Some(ids)) => told.push(report::Event::IdsAsked {
                        resource: resource.name.clone(),
                        asked: ids.asked,
                        without_row: ids.without_row,
                        ids: ids.named,
                    }),
                    Ok(None) => {}
                    Err(error) => return Err(chain(&error).join(": ")),
                }
            }
            Ok(told)
        };
        let answer = tokio::select! {
            biased;
            Some(()) = self.signals.recv() => return,
            answer = tokio::time::timeout(PATIENCE, asking) => answer,
        };
        let told = match answer {
            Ok(Ok(told)) => told,
            Ok(Err(why)) => vec![unknown(&why)],
            Err(_) => vec![unknown("the source did not answer in time")],
        };
        for event in told {
            self.emit(&event);
        }
    }
}

fn unknown(why: &str) -> report::Event {
    report::Event::Notice {
        text: format!("which of the ids have no row is not known: {why}"),
    }
}
