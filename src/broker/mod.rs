//! The shop's queues: rows sent as the messages its own synchronisation sends, and messages carried to the targets.
//!
//! ```text
//! rows  -> Sender (chunk writer) -> exchange named as the queue -> queue        run, `sync: queue`
//! queue -> Intake -> what the message says -> target -> ack                     consume
//! ```
//!
//! RabbitMQ is never trusted beyond what it said: a chunk is written when every message of it was confirmed and none came
//! back, a message is acknowledged when the target has it.

mod error;
mod intake;
mod link;
mod message;
mod queue;
mod sent;
mod writer;

use std::{collections::BTreeMap, sync::Arc};

pub use self::{
    intake::{Batch, Intake, Served},
    link::Broker,
    message::{Action, Message, NoMessage},
    queue::Depth,
};

use self::sent::Sent;
use crate::{
    error::EdgeError,
    ids::ResourceName,
    plan::{BrokerConfig, QueueConfig},
    target::Target,
};

/// Returns the broker of a plan. Connects to nothing.
///
/// # Errors
///
/// `Refused` for a URL that cannot be used.
pub fn connect(config: &BrokerConfig) -> Result<Arc<Broker>, EdgeError> {
    Broker::new(config).map(Arc::new)
}

/// Returns `target` with the rows of `queues` going to it through the broker. All else it does itself.
#[must_use]
pub fn through(
    broker: Arc<Broker>,
    target: Arc<dyn Target>,
    queues: BTreeMap<ResourceName, QueueConfig>,
) -> Arc<dyn Target> {
    Arc::new(Sent::new(broker, target, queues))
}
