//! Puts messages that failed back into the queue that they came from.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesOrdered};
use lapin::{options::QueueDeclareOptions, types::FieldTable};

use super::{
    intake::Intake,
    link::{self, Broker},
    message,
    queue::{self, ERROR},
    writer::publish,
};
use crate::error::{EdgeError, ErrorKind};

/// Messages that are put back at a time.
const BATCH: usize = 500;

/// How long a broker may take to deliver what it counted.
const WAIT: Duration = Duration::from_secs(5);

impl Broker {
    /// Returns how many messages of `queue` failed and wait for a person; `None` where there is no queue for them.
    pub async fn failed(&self, queue: &str) -> Result<Option<u64>, EdgeError> {
        let name = format!("{queue}.{ERROR}");
        let channel = self.channel().await?;
        let passive = QueueDeclareOptions::durable().passive();
        let declared = channel.queue_declare(name.as_str().into(), passive, FieldTable::default());
        match self.ask(&name, declared).await {
            Ok(found) => {
                queue::close(&channel).await;
                Ok(Some(u64::from(found.message_count())))
            }
            Err(error) if error.kind == ErrorKind::Missing => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts every message of `queue` that failed so far back into it, without its `errorMessage`; returns how many. What fails
    /// again comes back. Killed in between, some are in both.
    ///
    /// # Errors
    ///
    /// `Missing` without `queue`; what was not put back stays where it is.
    pub async fn replay(self: &Arc<Self>, queue: &str) -> Result<u64, EdgeError> {
        let Some(count) = self.failed(queue).await?.filter(|count| *count > 0) else {
            return Ok(0);
        };
        let ahead = u16::try_from(BATCH).unwrap_or(u16::MAX);
        let mut intake = Intake::open(self, &format!("{queue}.{ERROR}"), ahead).await?;
        let done = self.replay_from(&mut intake, queue, count).await;
        // Also after an error: what is in hand goes back to its place.
        intake.close().await;
        done
    }

    async fn replay_from(
        &self,
        intake: &mut Intake,
        queue: &str,
        count: u64,
    ) -> Result<u64, EdgeError> {
        let link = self.publishing().await?;
        if let Some(why) = link.blocked() {
            return Err(link::blocked(self.place(), &why));
        }
        let channel = link.confirming().await?;
        let mut done = 0;
        while done < count {
            let most = usize::try_from(count - done).unwrap_or(BATCH).min(BATCH);
            let batch = intake.next(most, WAIT).await?;
            if batch.is_empty() {
                // Somebody else takes them, too.
                break;
            }
            let bodies: Vec<_> = batch.bodies().map(message::without_reason).collect();
            let mut sent: FuturesOrdered<_> = bodies
                .iter()
                .map(|body| publish(self.place(), &channel, queue, "", body))
                .collect();
            while let Some(confirmed) = sent.next().await {
                confirmed?;
            }
            intake.done(&batch).await?;
            done += bodies.len() as u64;
        }
        queue::close(&channel).await;
        Ok(done)
    }
}
