//! What a coordinator has under way.

use std::{future::Future, pin::Pin};

use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use super::Finished;

type Work = Pin<Box<dyn Future<Output = Finished> + Send>>;

/// Tasks, each of which ends with what it [`Finished`]. Dropped, they are aborted.
///
/// They are boxed: a future that is spawned as it is becomes machine code twice, once for each of the runtime's schedulers, with all
/// that it waits for.
#[derive(Debug, Default)]
pub(super) struct Tasks(JoinSet<Finished>);

impl Tasks {
    pub(super) fn spawn(
        &mut self,
        work: impl Future<Output = Finished> + Send + 'static,
    ) -> AbortHandle {
        let work: Work = Box::pin(work);
        self.0.spawn(work)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the next task that ended, or `None` where none is under way. May be dropped while it waits.
    pub(super) async fn join_next_with_id(&mut self) -> Option<Result<(Id, Finished), JoinError>> {
        self.0.join_next_with_id().await
    }

    pub(super) fn abort_all(&mut self) {
        self.0.abort_all();
    }

    /// Aborts all of them and waits until they are gone.
    pub(super) async fn shutdown(&mut self) {
        self.0.shutdown().await;
    }
}
