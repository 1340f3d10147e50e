//! The shop's queues: rows sent as the messages its own synchronisation sends, and messages carried to the targets.
//!
//! ```text
//! rows  -> QueueWriter -> exchange named as the queue -> queue        run, `sync: queue`
//! queue -> Intake -> what the message says -> target -> ack           consume
//! queue of failed messages -> without the reason -> its queue         dead-letters retry --queues
//! ```
//!
//! RabbitMQ is never trusted beyond what it said: a chunk is written when every message of it was confirmed and none came
//! back, a message is acknowledged when the target has it.

mod error;
mod intake;
mod link;
mod management;
mod message;
mod queue;
mod replay;
mod sent;
mod vhosts;
mod writer;

use std::{collections::BTreeMap, sync::Arc};

pub use self::{
    intake::{Batch, Intake, Served},
    link::Broker,
    message::{Action, Message, NoMessage},
    queue::{Depth, Unfit},
    vhosts::{Vhost, Vhosts},
};

use self::sent::Sent;
use crate::{
    error::EdgeError,
    ids::ResourceName,
    plan::{BrokerConfig, QueueConfig},
    target::Target,
};

/// Returns the vhosts of a plan's broker. Connects to nothing.
///
/// # Errors
///
/// `Refused` for a URL that cannot be used.
pub fn connect(config: &BrokerConfig) -> Result<Arc<Vhosts>, EdgeError> {
    Vhosts::new(config).map(Arc::new)
}

/// Returns `target` with the rows of `queues` going to it through the broker, and the queues of `drains` counted as a part
/// of the way of their resources. All else it does itself.
#[must_use]
pub fn through(
    vhosts: Arc<Vhosts>,
    target: Arc<dyn Target>,
    queues: BTreeMap<ResourceName, QueueConfig>,
    drains: BTreeMap<ResourceName, Vec<String>>,
) -> Arc<dyn Target> {
    Arc::new(Sent::new(vhosts, target, queues, drains))
}
