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

use std::{collections::BTreeMap, future::Future};

use futures_util::future::join_all;
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
    error::{EdgeError, ErrorKind, Subject},
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

/// A queue that nothing can go through as the plan has it.
#[derive(Debug)]
pub struct Unfit {
    /// What reports call the vhost.
    pub place: String,
    /// Its name.
    pub queue: String,
    /// What is the matter: `Missing`, or `Refused` for one that is another one.
    pub error: EdgeError,
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

    /// Returns how many messages of `queue` consumers have and did not acknowledge; `None` where nobody tells.
    pub(super) async fn unacked(&self, queue: &str) -> Option<u64> {
        let management = self.management.as_ref()?;
        management.unacked(self.vhost(), queue).await
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

    /// Returns whether `queue` is as a run needs it: there, or, where the plan has it made, either missing or what would be made.
    /// Changes nothing, unless what was there a moment ago is gone: then the plan has it made anyway.
    ///
    /// # Errors
    ///
    /// `Missing`, and `Refused` where it is another queue than would be made.
    pub(super) async fn fits(&self, queue: &str) -> Result<(), EdgeError> {
        if !self.declares() {
            return self.depth(queue).await.map(drop);
        }
        for name in [queue, &format!("{queue}.{ERROR}")] {
            if self.has_queue(name).await? {
                let channel = self.channel().await?;
                // Declared as it is, a queue that is there is left alone; otherwise this is refused.
                let durable = QueueDeclareOptions::durable();
                let same = channel.queue_declare(name.into(), durable, FieldTable::default());
                self.ask(name, same).await?;
                close(&channel).await;
            }
        }
        Ok(())
    }

    /// Returns those of `queues` that are not as they have to be, each with whether a run sends rows to it. Changes nothing.
    ///
    /// # Errors
    ///
    /// Where the broker cannot be asked.
    pub async fn unfit(&self, queues: &BTreeMap<&str, bool>) -> Result<Vec<Unfit>, EdgeError> {
        // First, so that a broker that is down is waited for once.
        self.reach().await?;
        let asked = queues.iter().map(async |(queue, is_sent)| {
            let found = if *is_sent {
                self.fits(queue).await
            } else {
                self.depth(queue).await.map(drop)
            };
            (*queue, found)
        });
        let mut unfit = Vec::new();
        for (queue, found) in join_all(asked).await {
            match found {
                Ok(()) => {}
                Err(error) if matches!(error.subject.as_deref(), Some(Subject::Queue { .. })) => {
                    unfit.push(Unfit {
                        place: self.place().to_owned(),
                        queue: queue.to_owned(),
                        error,
                    });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(unfit)
    }

    /// Returns why nobody tells what consumers hold, where the plan names who would.
    pub async fn uncounted(&self) -> Option<EdgeError> {
        let management = self.management.as_ref()?;
        management.reach().await.err()
    }

    async fn has_queue(&self, name: &str) -> Result<bool, EdgeError> {
        let channel = self.channel().await?;
        let passive = QueueDeclareOptions::durable().passive();
        let declared = channel.queue_declare(name.into(), passive, FieldTable::default());
        match self.ask(name, declared).await {
            Ok(_) => {
                close(&channel).await;
                Ok(true)
            }
            Err(error) if error.kind == ErrorKind::Missing => Ok(false),
            Err(error) => Err(error),
        }
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
            let name = || queue.to_owned();
            if error.kind == ErrorKind::Missing {
                error.message += "; the shop's `vendor/bin/console queue:setup` makes its queues, or `broker: { declare: true }` \
                                  has them made";
                return error.about(Subject::Queue { name: name() });
            }
            if error::is_another(&refusal) {
                error.message += "; it is there, and is not what `broker: { declare: true }` would make";
                return error.about(Subject::Queue { name: name() });
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
