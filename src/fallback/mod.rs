//! Hands entity ids to the shop's own publisher, which regenerates their rows. Edges name the kind of their errors and
//! never retry.
//!
//! ```text
//! console   PREFIX publish:trigger-events -r RESOURCE -i 1,2,3    a process group, no shell of ours
//! jenkins   the same in a job, which is told by its parameters what to do
//! sql       the plan's own statement with the ids in it           one transaction on a connection of its own
//! ```
//!
//! `sync: console` and `sync: jenkins` hand a whole resource to `sync:data` on the same ways ([`delegate`]).
//!
//! Calling a publisher twice with the same ids does no harm: it writes what is true, once more.

mod console;
mod jenkins;
mod said;
mod sql;
mod statement;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use secrecy::ExposeSecret;

use self::{console::ConsolePublisher, jenkins::JenkinsPublisher, sql::SqlPublisher};
use crate::{
    error::{EdgeError, ErrorKind},
    plan::{Executor, FallbackConfig, JobConfig, Plan, PublisherConfig, Resource, SourceKind},
    process::{Redacted, log_beside},
    report::human,
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
        PublisherConfig::Jenkins(_) | PublisherConfig::Sql { .. } => None,
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
                Call::Trigger(trigger.to_owned()),
                log_beside(state_path, "publisher"),
                Redacted::of(plan),
            ))
        }
        PublisherConfig::Jenkins(config) => {
            let trigger = fallback
                .trigger
                .as_deref()
                .unwrap_or(resource.name.as_str());
            Arc::new(JenkinsPublisher::new(
                config,
                Call::Trigger(trigger.to_owned()),
                &plan.name,
                log_beside(state_path, "publisher"),
                Redacted::of(plan),
            )?)
        }
        PublisherConfig::Sql { url, statement } => Arc::new(SqlPublisher::new(url, statement)?),
    }))
}

/// Returns who carries the rows of `resource` over; `None` where we do. Called once, without ids or with those of the scope:
/// what it does not do is found by the comparison after it, as it says that all is well either way.
///
/// # Errors
///
/// `Refused` for files of `tls` that cannot be used.
pub fn delegate(
    plan: &Plan,
    resource: &Resource,
    state_path: &Path,
) -> Result<Option<Arc<dyn Publisher>>, EdgeError> {
    // `product_abstract/storage` is one half of what the console knows by one name.
    let name = resource.name.as_str();
    let call = Call::Sync(name.split('/').next().unwrap_or(name).to_owned());
    let (output, redacted) = (log_beside(state_path, "publisher"), Redacted::of(plan));
    Ok(match (resource.executor, &plan.console, &plan.jenkins) {
        (Executor::Console, Some(config), _) => Some(Arc::new(ConsolePublisher::new(
            config, call, output, redacted,
        ))),
        (Executor::Jenkins, _, Some(jenkins)) => {
            let (job, jenkins) = (jenkins.job.clone(), jenkins.clone());
            Some(Arc::new(JenkinsPublisher::new(
                &JobConfig { jenkins, job },
                call,
                &plan.name,
                output,
                redacted,
            )?))
        }
        // A check of the plan refuses one without its `console:` or `jenkins:`.
        _ => None,
    })
}

/// Returns the line above what one call printed: when, for what, and how it ended.
fn heading(of: &str, how: &str) -> String {
    let at = SystemTime::now().duration_since(UNIX_EPOCH);
    let at_ms = at.map_or(0, |at| i64::try_from(at.as_millis()).unwrap_or(0));
    format!("{}: {of}: {how}", human::moment(at_ms))
}

/// What the shop's console is asked for.
#[derive(Debug, Clone)]
enum Call {
    /// `publish:trigger-events` of this resource.
    Trigger(String),
    /// `sync:data` of this resource.
    Sync(String),
}

impl Call {
    /// Returns the words after the console's own.
    fn words(&self, ids: &[String]) -> Vec<String> {
        let ids = ids.join(",");
        match self {
            Self::Trigger(name) => ["publish:trigger-events", "-r", name, "-i", &ids]
                .map(str::to_owned)
                .to_vec(),
            Self::Sync(name) if ids.is_empty() => ["sync:data", name].map(str::to_owned).to_vec(),
            Self::Sync(name) => ["sync:data", name, &ids].map(str::to_owned).to_vec(),
        }
    }

    /// Refuses ids that another shell would not take as they are: `ssh` hands its arguments to one, and so does a job.
    fn check(ids: &[String], place: &str) -> Result<(), EdgeError> {
        let plain = |id: &String| {
            let mut bytes = id.bytes();
            bytes
                .next()
                .is_some_and(|byte| byte.is_ascii_alphanumeric())
                && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        };
        if ids.iter().all(plain) {
            return Ok(());
        }
        Err(EdgeError::new(
            ErrorKind::Refused,
            format!(
                "{place} cannot be given an id that is not made of letters, digits, `_`, `.` and `-`"
            ),
        ))
    }
}
