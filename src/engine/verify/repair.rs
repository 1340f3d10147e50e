//! Writes to targets on behalf of a comparison: under their leases, with markers of its own that go when it ends.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

use super::{Trouble, walk::pause};
use crate::{
    chunk::Chunk,
    engine::{
        lease::LeaseKeeper,
        refuse::{in_use, refused_by_edge},
        retry::{Waits, is_tried_again},
        sink::told,
    },
    error::{EdgeError, ErrorKind},
    failure::Failure,
    ids::{ChunkSeq, PartitionId, ResourceName, RunId},
    journal::host_name,
    plan::{Plan, RetryPolicy},
    target::{ChunkWriter, Extent, LeaseOwner, PartitionKey, Target},
};

/// Numbers of markers that no partition of a state file comes near.
const BEYOND_PARTITIONS: u64 = 1 << 62;

/// What rewriting needs.
pub struct RepairTargets<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// What a person types after the command's name.
    pub typed: &'a str,
    /// Random id of the state file, whose lock is held.
    pub state: &'a str,
    /// The state file.
    pub state_path: &'a Path,
    /// Under which the targets are leased: no run of the state file has it.
    pub run: RunId,
    /// The targets that are written to, by plan name.
    pub targets: BTreeMap<String, Arc<dyn Target>>,
}

/// The right to write to targets.
pub struct Repair {
    /// Whether the leases are those of a run, which goes on with them.
    of_run: bool,
    run: RunId,
    retry: RetryPolicy,
    leases: BTreeMap<String, (Arc<dyn Target>, Arc<LeaseKeeper>)>,
    /// Every writer has a marker of its own: what they are called, by target.
    written: Mutex<BTreeMap<String, Vec<PartitionKey>>>,
    next: AtomicU64,
}

impl Repair {
    /// Takes the leases.
    ///
    /// # Errors
    ///
    /// Exit code 6 where another run has one, 3 where a target cannot be asked; then none is held.
    pub async fn begin(request: RepairTargets<'_>) -> Result<Self, Failure> {
        let owner = LeaseOwner {
            state: request.state.to_owned(),
            state_path: request.state_path.display().to_string(),
            host: host_name(),
            pid: std::process::id(),
            run: request.run.clone(),
        };
        let mut repair = Self {
            of_run: false,
            run: request.run,
            retry: request.plan.defaults.retry.clone(),
            leases: BTreeMap::new(),
            written: Mutex::default(),
            next: AtomicU64::new(1),
        };
        for (name, target) in request.targets {
            let refused = match LeaseKeeper::take(Arc::clone(&target), owner.clone()).await {
                Ok(Ok(lease)) => {
                    repair.leases.insert(name, (target, Arc::new(lease)));
                    continue;
                }
                Ok(Err(other)) => in_use(target.place(), &other, request.typed),
                Err(error) => refused_by_edge(&error, &request.plan.name, request.typed),
            };
            for (_, lease) in repair.leases.values() {
                lease.release().await.ok();
            }
            return Err(refused);
        }
        Ok(repair)
    }

    /// Returns the right of a run at work, under its own leases: to catch up with what changed meanwhile.
    pub(in crate::engine) fn of_run(
        run: RunId,
        retry: RetryPolicy,
        leases: BTreeMap<String, (Arc<dyn Target>, Arc<LeaseKeeper>)>,
    ) -> Self {
        Self {
            of_run: true,
            run,
            retry,
            leases,
            written: Mutex::default(),
            next: AtomicU64::new(BEYOND_PARTITIONS),
        }
    }

    /// Returns whether what is rewritten only has to be as recent as the moment when that began.
    pub(super) const fn catches_up(&self) -> bool {
        self.of_run
    }

    /// Makes sure that target `to` is ours for the next few seconds.
    pub(super) async fn ensure(&self, to: &str) -> Result<(), EdgeError> {
        match self.leases.get(to) {
            Some((_, lease)) => lease.ensure().await,
            None => Err(EdgeError::new(
                ErrorKind::Internal,
                format!("target `{to}` is not leased"),
            )),
        }
    }

    /// Returns a writer for rows of `resource`.
    pub(super) fn mender(
        &self,
        target: &Arc<dyn Target>,
        resource: &ResourceName,
        to: &str,
    ) -> Mender {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let key = PartitionKey {
            resource: resource.clone(),
            id: PartitionId(id),
            ordinal: u32::try_from(id).unwrap_or(u32::MAX),
            extent: Extent::Ids,
        };
        self.written
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(to.to_owned())
            .or_default()
            .push(key.clone());
        Mender {
            run: self.run.clone(),
            key,
            target: Arc::clone(target),
            lease: self.leases.get(to).map(|(_, lease)| Arc::clone(lease)),
            retry: self.retry.clone(),
            writer: None,
            stored: ChunkSeq(0),
        }
    }

    /// Puts back what was changed for writing, and leaves no key of our own behind. Returns what could not be done.
    pub async fn end(&self) -> Vec<String> {
        let written =
            std::mem::take(&mut *self.written.lock().unwrap_or_else(PoisonError::into_inner));
        let mut left = Vec::new();
        for (name, (target, lease)) in &self.leases {
            let keys = written.get(name).map_or(&[][..], Vec::as_slice);
            let resources: Vec<_> = keys.iter().map(|key| key.resource.clone()).collect();
            let ended = async {
                if self.of_run {
                    return target.forget(&self.run, keys).await;
                }
                target.settle(&resources).await?;
                target.retire(&self.run, keys).await?;
                lease.release().await
            };
            if let Err(error) = ended.await {
                let place = target.place();
                left.push(format!("keys of rekindle stay behind in {place}: {error}"));
            }
        }
        left
    }
}

/// Writes rows that differ.
pub(super) struct Mender {
    run: RunId,
    key: PartitionKey,
    target: Arc<dyn Target>,
    lease: Option<Arc<LeaseKeeper>>,
    retry: RetryPolicy,
    writer: Option<Box<dyn ChunkWriter>>,
    stored: ChunkSeq,
}

impl Mender {
    /// Writes the rows of `chunk`; those that the target refuses stay as they are, and are found again.
    pub(super) async fn write(
        &mut self,
        chunk: &Chunk,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), Trouble> {
        let mut waits = Waits::new(&self.retry);
        loop {
            let written = tokio::select! {
                biased;
                () = told(stop) => return Err(Trouble::Stopped),
                written = self.try_write(chunk) => written,
            };
            let Err(error) = written else { return Ok(()) };
            let Some(wait) = waits.next().filter(|_| is_tried_again(&error)) else {
                return Err(error.into());
            };
            pause(stop, wait).await?;
        }
    }

    async fn try_write(&mut self, chunk: &Chunk) -> Result<(), EdgeError> {
        if let Some(lease) = &self.lease {
            lease.ensure().await?;
        }
        let writer = if let Some(writer) = &mut self.writer {
            writer
        } else {
            let opened = self
                .target
                .writer(&self.run, &self.key, self.stored, None)
                .await?;
            self.writer.insert(opened)
        };
        writer.write(self.stored.next(), chunk).await?;
        self.stored = self.stored.next();
        Ok(())
    }
}
