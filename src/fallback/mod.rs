//! Hands entity ids to the shop's own publisher, which regenerates their rows. Edges name the kind of their errors and
//! never retry.
//!
//! ```text
//! console   PREFIX publish:trigger-events -r RESOURCE -i 1,2,3    a process group, no shell of ours
//! sql       the plan's own statement with the ids in it           one transaction on a connection of its own
//! ```
//!
//! Calling a publisher twice with the same ids does no harm: it writes what is true, once more.

mod console;
mod said;
mod sql;
mod statement;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use secrecy::ExposeSecret;

use self::{console::ConsolePublisher, sql::SqlPublisher};
use crate::{
    error::EdgeError,
    plan::{FallbackConfig, Plan, PublisherConfig, Resource, SourceKind},
    process::{Redacted, log_beside},
};

/// Most ids of one call. Spryker's console queues events 500 at a time; as one argument they stay far below the
/// 128 KiB that Linux allows.
pub const IDS_PER_CALL: u32 = 500;

/// Regenerates rows.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Returns what errors and reports call this publisher, for example `console vendor/bin/console`.
    fn place(&self) -> &str;

    /// Has the rows of these entities regenerated. `Ok`: the publisher took all of them; its own queues may still have
    /// work. `Err`: nothing is known, and the same call may be made again.
    ///
    /// Dropping the future ends what was started.
    ///
    /// # Errors
    ///
    /// `Busy`, `Connection`, `Timeout` for what may pass; `Missing`, `Credentials`, `Refused` for what will not; `Failed` where
    /// nobody can tell.
    async fn call(&self, ids: &[String]) -> Result<(), EdgeError>;

    /// Returns what [`call`](Self::call) would do, without any secret: a command, or a statement.
    fn shown(&self, ids: &[String]) -> String;
}

/// Returns why the console of the plan cannot be started on this machine; `None` where it can, and where no resource has one.
#[must_use]
pub fn unstartable(plan: &Plan) -> Option<String> {
    let mut fallbacks = plan
        .resources
        .iter()
        .filter_map(|one| one.fallback.as_ref());
    fallbacks.find_map(|fallback| match &fallback.by {
        PublisherConfig::Console(config) => Some(console::unstartable(config)),
        PublisherConfig::Sql { .. } => None,
    })?
}

/// Takes back what a killed statement of the plan left half done in its SQLite source, which a reader may not do. Returns the
/// file that was put in order.
///
/// Only a file that the plan's own statement writes to is opened for this; whether there is anything to take back, and
/// whether nobody is at work on it, SQLite itself decides. What cannot be done is the source's to say.
#[must_use]
pub fn heal(plan: &Plan) -> Option<PathBuf> {
    if plan.source.kind != SourceKind::Sqlite {
        return None;
    }
    let source = sql::sqlite_path(plan.source.url.expose_secret())?;
    let is_written = plan.resources.iter().any(|one| match &one.fallback {
        Some(FallbackConfig {
            by: PublisherConfig::Sql { url, .. },
            ..
        }) => sql::sqlite_path(url.expose_secret()).is_some_and(|path| path == source),
        _ => false,
    });
    is_written
        .then(|| sql::roll_back(&source))?
        .then_some(source)
}

/// Returns the publisher of `resource`; `None` where the plan names none. Starts nothing and connects to nothing.
///
/// Output of commands is kept beside `state_path`.
///
/// # Errors
///
/// `Refused` for a URL that cannot be read.
pub fn connect(
    plan: &Plan,
    resource: &Resource,
    state_path: &Path,
) -> Result<Option<Arc<dyn Publisher>>, EdgeError> {
    let Some(fallback) = &resource.fallback else {
        return Ok(None);
    };
    Ok(Some(match &fallback.by {
        PublisherConfig::Console(config) => {
            let trigger = fallback
                .trigger
                .as_deref()
                .unwrap_or(resource.name.as_str());
            Arc::new(ConsolePublisher::new(
                config,
                trigger,
                log_beside(state_path, "publisher"),
                Redacted::of(plan),
            ))
        }
        PublisherConfig::Sql { url, statement } => Arc::new(SqlPublisher::new(url, statement)?),
    }))
}
