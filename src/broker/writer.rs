//! Sends the chunks of one partition as messages.
//!
//! A chunk is written when the broker confirmed every message of it. `mandatory` is what makes that mean something: without
//! it, a message that nothing routes to a queue is confirmed and gone; with it, the confirmation carries the message back.

use std::{collections::VecDeque, str, sync::Arc};

use async_trait::async_trait;
use lapin::{
    BasicProperties, Channel, Confirmation, PublisherConfirm, options::BasicPublishOptions,
    types::FieldTable,
};
use tokio::time::{sleep, timeout};

use super::{
    error,
    link::{self, Link, PATIENCE},
    message::Composer,
    vhosts::Vhosts,
};
use crate::{
    chunk::{Chunk, Row},
    error::{EdgeError, ErrorKind},
    ids::ChunkSeq,
    plan::QueueConfig,
    target::{ChunkWriter, Rejected, Written},
};

/// Messages of a partition that wait for their confirmation at a time: a chunk of the usual length is sent whole. Each wait for
/// a single one is a round trip and a sync of the broker's disk, and the more there are, the more a queue takes up at once.
const IN_FLIGHT: usize = 4096;

/// How often it is looked whether the broker stopped reading.
const LOOK: std::time::Duration = std::time::Duration::from_millis(200);

/// Writes one partition.
pub(super) struct QueueWriter {
    vhosts: Arc<Vhosts>,
    queue: String,
    stores: bool,
    composer: Composer,
    /// One for each vhost; none before the first chunk and after an error.
    open: Vec<(Arc<Link>, Channel)>,
}

impl QueueWriter {
    pub(super) fn new(vhosts: Arc<Vhosts>, queue: &QueueConfig) -> Self {
        Self {
            vhosts,
            queue: queue.name.clone(),
            stores: queue.stores,
            composer: Composer::new(queue),
            open: Vec::new(),
        }
    }

    /// Returns the messages of a row, each with the number of its vhost, or why there can be none.
    fn messages(&self, row: &Row<'_>) -> Result<Vec<(usize, Vec<u8>)>, &'static str> {
        let key = str::from_utf8(row.key).map_err(|_| "the key is not UTF-8")?;
        let store = row.beside().next().flatten().filter(|_| self.stores);
        let store = store
            .map(str::from_utf8)
            .transpose()
            .map_err(|_| "the store is not UTF-8")?;
        let store = store.filter(|store| !store.is_empty());
        let routes = self
            .vhosts
            .routes(store)
            .ok_or("its store is none of `broker.stores`")?;
        let body = |store| self.composer.write(key, row.value, store);
        Ok(routes
            .into_iter()
            .map(|(vhost, store)| (vhost, body(store)))
            .collect())
    }

    /// Sends all messages of `chunk`; returns when each was confirmed.
    async fn send_all(
        &self,
        channels: &[Channel],
        chunk: &Chunk,
    ) -> Result<Vec<Rejected>, EdgeError> {
        let places: Vec<_> = self.vhosts.each().map(|one| one.broker.place()).collect();
        let mut rejected = Vec::new();
        let mut sent = VecDeque::new();
        for (row, one) in chunk.rows().enumerate() {
            match self.messages(&one) {
                Ok(messages) => {
                    for (vhost, body) in messages {
                        let confirm = send(places[vhost], &channels[vhost], &self.queue, "", &body);
                        sent.push_back((places[vhost], confirm.await?));
                    }
                }
                Err(reason) => rejected.push(Rejected {
                    row,
                    reason: reason.to_owned(),
                }),
            }
            while sent.len() >= IN_FLIGHT
                && let Some((place, confirm)) = sent.pop_front()
            {
                confirmed(place, &self.queue, confirm).await?;
            }
        }
        for (place, confirm) in sent {
            confirmed(place, &self.queue, confirm).await?;
        }
        Ok(rejected)
    }
}

/// Sends one message to the exchange of `queue`; returns when it was confirmed and did not come back.
pub(super) async fn publish(
    place: &str,
    channel: &Channel,
    queue: &str,
    routing_key: &str,
    body: &[u8],
) -> Result<(), EdgeError> {
    let confirm = send(place, channel, queue, routing_key, body).await?;
    confirmed(place, queue, confirm).await
}

/// Sends one message to the exchange of `queue`; returns what its confirmation is waited for with.
async fn send(
    place: &str,
    channel: &Channel,
    queue: &str,
    routing_key: &str,
    body: &[u8],
) -> Result<PublisherConfirm, EdgeError> {
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    // As the shop sends it: kept on disk, an empty table of headers, and nothing else.
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_headers(FieldTable::default());
    let sent = channel.basic_publish(queue.into(), routing_key.into(), options, body, properties);
    let sent = timeout(PATIENCE, sent)
        .await
        .map_err(|_| error::silent(place, "to a message"))?;
    sent.map_err(|error| refused(place, queue, &error))
}

/// Waits until a message for the exchange of `queue` is confirmed; an error of kind `Missing` where it came back.
async fn confirmed(place: &str, queue: &str, confirm: PublisherConfirm) -> Result<(), EdgeError> {
    let answer = timeout(PATIENCE, confirm)
        .await
        .map_err(|_| error::silent(place, "with a confirmation"))?;
    match answer.map_err(|error| refused(place, queue, &error))? {
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => Err(EdgeError::new(
            ErrorKind::Missing,
            format!(
                "{place} has no queue for what exchange `{queue}` gets: the message came back; the shop's \
                 `vendor/bin/console queue:setup` makes its queues"
            ),
        )),
        Confirmation::Nack(None) => Err(EdgeError::new(
            ErrorKind::Busy,
            format!(
                "{place} took no message for `{queue}`: it is full, or could not be written to disk"
            ),
        )),
        Confirmation::NotRequested => Err(EdgeError::new(
            ErrorKind::Internal,
            "a message was sent without a wish for its confirmation",
        )),
    }
}

fn refused(place: &str, queue: &str, error: &lapin::Error) -> EdgeError {
    error::of(place, &format!("took no message for `{queue}`"), error)
}

#[async_trait]
impl ChunkWriter for QueueWriter {
    async fn write(&mut self, _seq: ChunkSeq, chunk: &Chunk) -> Result<Written, EdgeError> {
        let mut links = Vec::new();
        for vhost in self.vhosts.each() {
            let link = vhost.broker.publishing().await?;
            if let Some(why) = link.blocked() {
                // Nothing is sent into a connection that nobody reads from; the channels are as good as before.
                return Err(link::blocked(vhost.broker.place(), &why));
            }
            links.push(link);
        }
        // Taken out while in use: after an error none is used again, so that no late confirmation is taken for another.
        let mut had = std::mem::take(&mut self.open).into_iter();
        let mut channels = Vec::new();
        for link in &links {
            channels.push(match had.next() {
                Some((had, channel)) if Arc::ptr_eq(&had, link) && channel.status().connected() => {
                    channel
                }
                _ => link.confirming().await?,
            });
        }
        let rejected = tokio::select! {
            sent = self.send_all(&channels, chunk) => sent?,
            blocked = stopped(&links) => return Err(blocked),
        };
        self.open = links.into_iter().zip(channels).collect();
        Ok(Written {
            rejected,
            length: None,
        })
    }
}

/// Waits until the broker stops reading from one of `links`; returns the error that says why.
async fn stopped(links: &[Arc<Link>]) -> EdgeError {
    loop {
        sleep(LOOK).await;
        for link in links {
            if let Some(why) = link.blocked() {
                return link::blocked(link.place(), &why);
            }
        }
    }
}
