//! Takes messages from one queue, and gives each back as done or as failed.
//!
//! A message is acknowledged when the target has it, or when the queue of failed ones has confirmed it. Whatever is neither
//! when the process dies, the broker delivers again, at its old place.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use lapin::{
    Channel, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions},
    types::FieldTable,
};
use tokio::time::timeout;

use super::{
    error,
    link::{self, Broker, Link},
    message, queue,
    writer::publish,
};
use crate::error::{EdgeError, ErrorKind};

/// How long more messages are waited for once there is one: as long as the broker needs to send the next it has.
const NEXT: Duration = Duration::from_millis(5);

/// What a batch may hold beyond its first message, so that memory does not grow with what the messages hold.
const BYTES: usize = 4 << 20;

/// A consumer on one queue.
pub struct Intake {
    broker: Arc<Broker>,
    queue: String,
    channel: Channel,
    consumer: Consumer,
    /// For messages that fail, once there was one.
    failing: Option<(Arc<Link>, Channel)>,
}

/// Messages in the order of their queue.
#[derive(Debug, Default)]
pub struct Batch {
    deliveries: Vec<Delivery>,
}

impl Batch {
    /// Returns the bodies.
    #[must_use]
    pub fn bodies(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.deliveries.iter().map(|one| one.data.as_slice())
    }

    /// Returns whether nothing came.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }
}

/// What became of the messages of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Served {
    /// Keys that were written.
    pub written: u64,
    /// Keys that were taken away.
    pub deleted: u64,
    /// Messages that failed, and lie in the queue for those.
    pub failed: u64,
}

impl Served {
    /// Returns how many messages that were.
    #[must_use]
    pub const fn messages(self) -> u64 {
        self.written + self.deleted + self.failed
    }

    /// Adds `more`.
    pub const fn add(&mut self, more: Self) {
        self.written += more.written;
        self.deleted += more.deleted;
        self.failed += more.failed;
    }
}

impl Intake {
    /// Begins to take messages from `queue`, at most `ahead` that are neither done nor failed.
    ///
    /// # Errors
    ///
    /// `Missing` without such a queue, naming what makes it.
    pub async fn open(broker: &Arc<Broker>, queue: &str, ahead: u16) -> Result<Self, EdgeError> {
        let channel = broker.channel().await?;
        let qos = channel.basic_qos(ahead, BasicQosOptions::default());
        broker.ask(queue, qos).await?;
        let consume = channel.basic_consume(
            queue.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let consumer = broker.ask(queue, consume).await?;
        Ok(Self {
            broker: Arc::clone(broker),
            queue: queue.to_owned(),
            channel,
            consumer,
            failing: None,
        })
    }

    /// Returns the next messages, at most `most`; none where nothing came for `wait`.
    pub async fn next(&mut self, most: usize, wait: Duration) -> Result<Batch, EdgeError> {
        let mut batch = Batch::default();
        let (mut bytes, mut wait) = (0, wait);
        while batch.deliveries.len() < most && bytes < BYTES {
            match timeout(wait, self.consumer.next()).await {
                Err(_) => break,
                Ok(Some(Ok(delivery))) => {
                    bytes += delivery.data.len();
                    batch.deliveries.push(delivery);
                    wait = NEXT;
                }
                Ok(Some(Err(error))) => return Err(self.ended(&error)),
                Ok(None) => {
                    return Err(EdgeError::new(
                        ErrorKind::Connection,
                        format!(
                            "{} ended the consumer of `{}`: the queue was deleted, or its node went away",
                            self.broker.place(),
                            self.queue
                        ),
                    ));
                }
            }
        }
        Ok(batch)
    }

    /// Returns how many messages the queue holds that were sent to nobody. Zero means that all there were have come: the
    /// answer comes behind them on the same channel, so that [`Self::next`] has them without waiting.
    pub async fn ready(&mut self) -> Result<u32, EdgeError> {
        let passive = QueueDeclareOptions::durable().passive();
        let declare =
            self.channel
                .queue_declare(self.queue.as_str().into(), passive, FieldTable::default());
        let queue = self.broker.ask(&self.queue, declare).await?;
        Ok(queue.message_count())
    }

    /// Puts the message at `row` into the queue of those that failed, with the reason. It still has to be given back with its
    /// batch.
    ///
    /// # Errors
    ///
    /// `Missing` where the shop has no such queue: then it stays where it is.
    pub async fn fail(&mut self, batch: &Batch, row: usize, reason: &str) -> Result<(), EdgeError> {
        let Some(delivery) = batch.deliveries.get(row) else {
            return Ok(());
        };
        let link = self.broker.publishing().await?;
        if let Some(why) = link.blocked() {
            return Err(link::blocked(self.broker.place(), &why));
        }
        let channel = match self.failing.take() {
            Some((had, channel)) if Arc::ptr_eq(&had, &link) && channel.status().connected() => {
                channel
            }
            _ => link.confirming().await?,
        };
        let body = message::failed(&delivery.data, reason);
        publish(
            self.broker.place(),
            &channel,
            &self.queue,
            queue::ERROR,
            &body,
        )
        .await?;
        self.failing = Some((link, channel));
        Ok(())
    }

    /// Gives a whole batch back: the broker forgets its messages.
    pub async fn done(&mut self, batch: &Batch) -> Result<(), EdgeError> {
        let Some(last) = batch.deliveries.last() else {
            return Ok(());
        };
        // All before it on this channel were given back already, or are of this batch.
        let all = BasicAckOptions { multiple: true };
        let place = self.broker.place();
        let acked = timeout(link::PATIENCE, last.ack(all))
            .await
            .map_err(|_| error::silent(place, "to an acknowledgement"))?
            .map_err(|error| self.ended(&error))?;
        if acked {
            return Ok(());
        }
        Err(EdgeError::new(
            ErrorKind::Connection,
            format!(
                "{place} ended the channel before messages of `{}` were acknowledged",
                self.queue
            ),
        ))
    }

    /// Ends the consumer; what was neither done nor failed goes back to its place in the queue.
    pub async fn close(self) {
        queue::close(&self.channel).await;
        if let Some((_, channel)) = &self.failing {
            queue::close(channel).await;
        }
    }

    fn ended(&self, error: &lapin::Error) -> EdgeError {
        let what = format!("ended the consumer of `{}`", self.queue);
        error::of(self.broker.place(), &what, error)
    }
}
