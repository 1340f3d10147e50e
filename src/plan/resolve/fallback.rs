//! `console:` and `fallback:` of a resource.

use std::{path::Path, time::Duration};

use super::{Used, absolute, default, or};
use crate::plan::{
    ConsoleConfig, FallbackConfig, JenkinsConfig, JobConfig, PublisherConfig,
    model::{self, By},
    units::show_duration,
    urls::{self, PublisherUrl},
};

/// What a resource's fallback depends on.
pub(super) struct Scene<'a> {
    pub folder: &'a Path,
    pub console: Option<&'a ConsoleConfig>,
    pub jenkins: Option<&'a JenkinsConfig>,
    /// `defaults.fallback.to`
    pub is_on: bool,
}

/// Returns the console's command; `None` where it is missing, which the reading noted already.
pub(super) fn console(console: &model::Console, used: &mut Used) -> Option<ConsoleConfig> {
    let command = console.command.as_ref()?;
    Some(ConsoleConfig {
        command: command
            .value
            .iter()
            .map(|word| word.value.clone())
            .collect(),
        typed: command
            .value
            .iter()
            .map(|word| word.typed.clone())
            .collect(),
        within: or(
            console.within.as_ref(),
            "console.within".to_owned(),
            default::CONSOLE_WITHIN,
            |wait| show_duration(*wait),
            used,
        ),
    })
}

/// Something is missing or broken; the reading or a check noted it already.
pub(super) struct Broken;

/// Returns how the publisher of a resource is called; `None` where that is switched off.
pub(super) fn handover(
    resource: &model::Resource,
    handover: &model::Handover,
    scene: &Scene<'_>,
    used: &mut Used,
) -> Result<Option<FallbackConfig>, Broken> {
    let is_on = handover
        .to
        .as_ref()
        .map_or(scene.is_on, |to| to.value != "none");
    if !is_on {
        return Ok(None);
    }
    config(resource, handover, scene, used)
        .map(Some)
        .ok_or(Broken)
}

fn config(
    resource: &model::Resource,
    handover: &model::Handover,
    scene: &Scene<'_>,
    used: &mut Used,
) -> Option<FallbackConfig> {
    let by = match &handover.by {
        By::Absent | By::Console => PublisherConfig::Console(scene.console?.clone()),
        By::Jenkins { job } => PublisherConfig::Jenkins(JobConfig {
            jenkins: scene.jenkins?.clone(),
            job: job.as_ref()?.value.clone(),
        }),
        By::Sql { url, statement } => PublisherConfig::Sql {
            url: match urls::publisher(&url.as_ref()?.value).ok()? {
                PublisherUrl::Server => url.as_ref()?.value.clone().into(),
                PublisherUrl::Sqlite(path) => {
                    format!("sqlite:{}", absolute(scene.folder, &path).to_str()?).into()
                }
            },
            statement: statement.as_ref()?.value.clone(),
        },
        By::Broken => return None,
    };
    // A statement has done its work when it is committed; the console only queues some.
    let settle = match by {
        PublisherConfig::Console(_) | PublisherConfig::Jenkins(_) => default::SETTLE,
        PublisherConfig::Sql { .. } => Duration::ZERO,
    };
    let path = |key: &str| format!("{}.drain.{key}", resource.path);
    let show = |wait: &Duration| show_duration(*wait);
    Some(FallbackConfig {
        trigger: handover.trigger.as_ref().map(|name| name.value.clone()),
        table: handover.table.as_ref()?.value.clone(),
        column: handover.column.as_ref()?.value.clone(),
        by,
        of_rows: handover.of_rows,
        settle: or(resource.settle.as_ref(), path("settle"), settle, show, used),
        within: or(
            resource.within.as_ref(),
            path("within"),
            default::DRAIN_WITHIN,
            show,
            used,
        ),
    })
}
