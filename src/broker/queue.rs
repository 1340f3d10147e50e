//! Queues as the shop sets them up, and what proves that one is still the one it was.
//!
//! ```text
//! exchange sync.storage.url -- "" -----> queue sync.storage.url
//!                           -- "error" -> queue sync.storage.url.error
//! exchange rekindle.<run>.<resource> --> queue sync.storage.url        (auto-delete, internal: nothing goes through it)
//! ```
//!
//! A queue has no id. But its bindings go with it, and an auto-delete exchange goes with its last binding: while that
//! exchange is there, the queue was not deleted, and what was confirmed was not lost with it.

use std::future::Future;

use lapin::{
    Channel, ExchangeKind,
    options::{
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::FieldTable,
};
use tokio::time::timeout;

use super::{
    error,
    link::{Broker, PATIENCE},
};
use crate::{
    error::{EdgeError, ErrorKind},
    ids::{ResourceName, RunId},
};

/// The routing key of messages that failed, and the end of the name of the queue they go to.
pub(super) const ERROR: &str = "error";

/// What is in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Messages that nobody has yet.
    pub ready: u64,
    /// Consumers on it.
    pub consumers: u32,
}

impl Broker {
    /// Returns what is in `queue`, having looked that exchange and queue are there.
    ///
    /// # Errors
    ///
    /// `Missing` where one of them is not, naming what makes them.
    pub async fn depth(&self, queue: &str) -> Result<Depth, EdgeError> {
        let channel = self.channel().await?;
        let passive = QueueDeclareOptions::durable().passive();
        let declared = channel.queue_declare(queue.into(), passive, FieldTable::default());
        let found = self.ask(queue, declared).await?;
        let exchange = ExchangeDeclareOptions {
            passive: true,
            ..ExchangeDeclareOptions::default()
        };
        let kind = ExchangeKind::Direct;
        let declared =
            channel.exchange_declare(queue.into(), kind, exchange, FieldTable::default());
        self.ask(queue, declared).await?;
        close(&channel).await;
        Ok(Depth {
            ready: u64::from(found.message_count()),
            consumers: found.consumer_count(),
        })
    }

    /// Returns when the broker answers.
    ///
    /// # Errors
    ///
    /// `Connection`, `Credentials`, `Missing` for the vhost.
    pub(super) async fn reach(&self) -> Result<(), EdgeError> {
        close(&self.channel().await?).await;
        Ok(())
    }

    /// Makes `queue` as the shop's `queue:setup` does, where the plan asks for it and it is missing.
    pub(super) async fn set_up(&self, queue: &str) -> Result<(), EdgeError> {
        if !self.declares() {
            return Ok(());
        }
        let channel = self.channel().await?;
        let durable = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let none = FieldTable::default;
        let exchange =
            channel.exchange_declare(queue.into(), ExchangeKind::Direct, durable, none());
        self.ask(queue, exchange).await?;
        let error = format!("{queue}.{ERROR}");
        for (name, key) in [(queue, ""), (error.as_str(), ERROR)] {
            let made = channel.queue_declare(name.into(), QueueDeclareOptions::durable(), none());
            self.ask(name, made).await?;
            let bind = QueueBindOptions::default();
            let bound = channel.queue_bind(name.into(), queue.into(), key.into(), bind, none());
            self.ask(name, bound).await?;
        }
        close(&channel).await;
        Ok(())
    }

    /// Ties the evidence of `resource` to `queue`; returns its name, or `None` where the user may not.
    pub(super) async fn mark(
        &self,
        run: &RunId,
        resource: &ResourceName,
        queue: &str,
    ) -> Result<Option<String>, EdgeError> {
        let name = marker(run, resource);
        let channel = self.channel().await?;
        let options = ExchangeDeclareOptions {
            durable: true,
            auto_delete: true,
            internal: true,
            ..ExchangeDeclareOptions::default()
        };
        let none = FieldTable::default;
        let kind = ExchangeKind::Fanout;
        let made = async {
            let made = channel.exchange_declare(name.as_str().into(), kind, options, none());
            self.ask(queue, made).await?;
            let bind = QueueBindOptions::default();
            let bound =
                channel.queue_bind(queue.into(), name.as_str().into(), "".into(), bind, none());
            self.ask(queue, bound).await
        };
        match made.await {
            Ok(()) => {
                close(&channel).await;
                Ok(Some(name))
            }
            // Rights on other names than the shop's: then the queue is taken for the one it was.
            Err(error) if error.kind == ErrorKind::Credentials => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns whether the evidence called `name` is there.
    pub(super) async fn is_marked(&self, name: &str) -> Result<bool, EdgeError> {
        let channel = self.channel().await?;
        let passive = ExchangeDeclareOptions {
            passive: true,
            ..ExchangeDeclareOptions::default()
        };
        let kind = ExchangeKind::Fanout;
        let asked = channel.exchange_declare(name.into(), kind, passive, FieldTable::default());
        match self.ask(name, asked).await {
            Ok(()) => {
                close(&channel).await;
                Ok(true)
            }
            Err(error) if error.kind == ErrorKind::Missing => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes the evidence of `resource` away. Does nothing where there is none.
    pub(super) async fn unmark(
        &self,
        run: &RunId,
        resource: &ResourceName,
    ) -> Result<(), EdgeError> {
        let channel = self.channel().await?;
        let name = marker(run, resource);
        let options = ExchangeDeleteOptions::default();
        match self
            .ask(
                &name,
                channel.exchange_delete(name.as_str().into(), options),
            )
            .await
        {
            // An exchange that was never made need not be removable.
            Err(error) if !matches!(error.kind, ErrorKind::Missing | ErrorKind::Credentials) => {
                Err(error)
            }
            _ => {
                close(&channel).await;
                Ok(())
            }
        }
    }

    /// Returns what the broker says to a question about `queue`.
    pub(super) async fn ask<T>(
        &self,
        queue: &str,
        question: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, EdgeError> {
        let what = format!("refused what was asked of `{queue}`");
        let answer = timeout(PATIENCE, question)
            .await
            .map_err(|_| error::silent(self.place(), &format!("about `{queue}`")))?;
        answer.map_err(|refusal| {
            let mut error = error::of(self.place(), &what, &refusal);
            if error.kind == ErrorKind::Missing {
                error.message += "; the shop's `vendor/bin/console queue:setup` makes its queues, or `broker: { declare: true }` \
                                  has them made";
            }
            error
        })
    }
}

/// `rekindle.7F3K2M.url`
fn marker(run: &RunId, resource: &ResourceName) -> String {
    format!("rekindle.{run}.{resource}")
}

/// Gives a channel back. One that cannot be closed is closed already.
pub(super) async fn close(channel: &Channel) {
    timeout(PATIENCE, channel.close(200, "done".into()))
        .await
        .ok();
}
