//! The reading half of a walk: scans the range, begins again where an error passes, shares its rest, and looks whether the
//! columns are still what they were.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    breaker::Side,
    copy::{Ended, Report, fail_point},
    retry::{Waits, is_tried_again},
    sink::{ChunkSink, SinkStop, told},
};
use crate::{
    cursor::{Cursor, KeyRange},
    error::{EdgeError, ErrorKind},
    failpoint,
    ids::{PartitionId, ResourceName},
    plan::RetryPolicy,
    source::{RowQuery, RowSink, ScanError, Source, schema_changed},
};

/// The reading half of a walk.
pub(super) struct Reader {
    pub resource: ResourceName,
    pub partition: PartitionId,
    pub source: Arc<dyn Source>,
    pub query: RowQuery,
    pub range: KeyRange,
    /// What the columns were when the resource was bound.
    pub columns: String,
    pub sink: ChunkSink,
    pub retry: RetryPolicy,
    pub stop: watch::Receiver<bool>,
    pub reports: mpsc::Sender<Report>,
}

impl Reader {
    pub(super) async fn run(mut self) -> Ended {
        let mut waits = Waits::new(&self.retry);
        let mut reached: Option<Cursor> = None;
        if self.sink.restart().await.is_err() {
            return Ended::Stopped;
        }
        loop {
            let rest = self.rest();
            let scanned = tokio::select! {
                biased;
                () = told(&mut self.stop) => return Ended::Stopped,
                scanned = scan(&*self.source, &self.query, &rest, &mut self.sink) => scanned,
            };
            let error = match scanned {
                Ok(()) => match self.look().await {
                    Ok(()) => return Ended::Exhausted,
                    Err(error) => error,
                },
                Err(ScanError::Stopped) => match self.sink.why() {
                    SinkStop::Told => return Ended::Stopped,
                    SinkStop::Quota => return Ended::Quota,
                    SinkStop::LongRow(bytes) => match self.sink.make_room(bytes).await {
                        Ok(()) => continue,
                        Err(_) => return Ended::Stopped,
                    },
                    SinkStop::Share => match self.share().await {
                        Ok(()) => continue,
                        Err(ended) => return ended,
                    },
                    SinkStop::Look => match self.look().await {
                        Ok(()) if self.sink.restart().await.is_ok() => continue,
                        Ok(()) => return Ended::Stopped,
                        Err(error) => error,
                    },
                },
                // A column that is gone makes the server refuse the page; what it says then hides the reason.
                Err(ScanError::Source(error)) if !is_tried_again(&error) => {
                    let changed = self.look().await.err();
                    let changed = changed.filter(|one| one.kind == ErrorKind::SchemaChanged);
                    return Ended::Failed(Side::Source, changed.unwrap_or(error));
                }
                Err(ScanError::Source(error)) => error,
            };
            if self.sink.flushed() != reached.as_ref() {
                reached = self.sink.flushed().cloned();
                waits = Waits::new(&self.retry);
            }
            let Some(wait) = waits.next().filter(|_| is_tried_again(&error)) else {
                return Ended::Failed(Side::Source, error);
            };
            let waiting = Report::Waiting {
                resource: self.resource.clone(),
                side: Side::Source,
                error: error.to_string(),
                wait,
            };
            if self.reports.send(waiting).await.is_err() {
                return Ended::Stopped;
            }
            tokio::select! {
                biased;
                () = told(&mut self.stop) => return Ended::Stopped,
                () = tokio::time::sleep(wait) => {}
            }
            if self.sink.restart().await.is_err() {
                return Ended::Stopped;
            }
        }
    }

    /// Returns the rows that were not handed on yet.
    fn rest(&self) -> KeyRange {
        let flushed = self.sink.flushed().or(self.range.after.as_ref());
        KeyRange {
            after: flushed.cloned(),
            until: self.range.until.clone(),
        }
    }

    /// Cuts the rest in two, if it has a middle and the journal takes the cut: this walk then ends there.
    ///
    /// Every row that was read lies before the cut and none is read until the journal answered, so wherever the process dies,
    /// each row belongs to one partition.
    async fn share(&mut self) -> Result<(), Ended> {
        let rest = self.rest();
        let at = tokio::select! {
            biased;
            () = told(&mut self.stop) => return Err(Ended::Stopped),
            // Where it fails, nothing is shared: the next page meets whatever is wrong, with its retries.
            found = self.source.middle(&self.query, &rest) => found.unwrap_or(None),
        };
        let (done, answer) = oneshot::channel();
        let report = Report::Share {
            resource: self.resource.clone(),
            partition: self.partition,
            at: at.clone(),
            done,
        };
        if self.reports.send(report).await.is_err() {
            return Err(Ended::Stopped);
        }
        let cut = tokio::select! {
            biased;
            // The answer first: a cut that is on disk counts, whatever else was said meanwhile.
            cut = answer => cut.unwrap_or(false),
            () = told(&mut self.stop) => return Err(Ended::Stopped),
        };
        if let (Some(at), true) = (at, cut) {
            self.range.until = at;
        }
        self.sink.restart().await.map_err(|_| Ended::Stopped)
    }

    /// Checks that the columns are what they were when the resource was bound.
    async fn look(&mut self) -> Result<(), EdgeError> {
        let now = tokio::select! {
            biased;
            () = told(&mut self.stop) => return Ok(()),
            now = self.source.describe(&self.query.from) => now,
        };
        let table = &self.query.from.table;
        match now {
            Ok(now) if now.fingerprint == self.columns => Ok(()),
            Ok(now) => Err(schema_changed(table, &self.columns, &now.fingerprint)),
            // It was described once: something of it went away since.
            Err(error) if matches!(error.kind, ErrorKind::Missing | ErrorKind::Refused) => {
                Err(schema_changed(table, &self.columns, &error.message))
            }
            Err(error) => Err(error),
        }
    }
}

async fn scan(
    source: &dyn Source,
    query: &RowQuery,
    range: &KeyRange,
    sink: &mut dyn RowSink,
) -> Result<(), ScanError> {
    failpoint::hit("before_read").map_err(|error| ScanError::Source(fail_point(&error)))?;
    source.scan(query, range, sink).await
}
