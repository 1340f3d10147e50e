//! `prepare:` and `finish:`.

use std::path::Path;

use super::{Used, default, or, saturated, tls};
use crate::plan::{
    AwsConfig, RdsRename, RdsRestore, RdsSnapshot, RestoreFrom, TablePattern,
    decode::Value,
    model,
    steps::{
        Hidden, HttpCheck, JenkinsBuild, JenkinsConfig, JobShell, Maintenance, Shell, Step,
        StepKind, server_of,
    },
    units::show_duration,
};

/// Returns the steps of one list; `page` is the `maintenance` before them, and after them the one before what follows.
///
/// `None` if something is missing or broken; the reading noted it as a problem already.
pub(super) fn steps(
    steps: &[model::Step],
    page: &mut Option<Maintenance>,
    folder: &Path,
    used: &mut Used,
) -> Option<Vec<Step>> {
    steps
        .iter()
        .map(|given| {
            let kind = kind(given, page, folder, used)?;
            let usual = match kind {
                StepKind::Approve { .. } => default::APPROVE_WITHIN,
                StepKind::RdsRename(RdsRename {
                    in_window: true, ..
                }) => default::WINDOW_WITHIN,
                _ => default::STEP_WITHIN,
            };
            let path = format!("{}.within", given.path);
            let show = |wait: &std::time::Duration| show_duration(*wait);
            let within = or(given.within.as_ref(), path, usual, show, used);
            Some(Step { kind, within })
        })
        .collect()
}

fn kind(
    step: &model::Step,
    page: &mut Option<Maintenance>,
    folder: &Path,
    used: &mut Used,
) -> Option<StepKind> {
    Some(match step.kind.as_ref()? {
        model::StepKind::Maintenance { on, check, off } => {
            let commands = Maintenance {
                on: hidden(on.as_ref()?),
                check: hidden(check.as_ref()?),
                off: hidden(off.as_ref()?),
            };
            *page = Some(commands.clone());
            StepKind::Maintenance(commands)
        }
        model::StepKind::MaintenanceOff => StepKind::MaintenanceOff(page.clone()?),
        model::StepKind::Shell {
            run, check, undo, ..
        } => StepKind::Shell(Shell {
            run: hidden(run.as_ref()?),
            check: check.as_ref().map(hidden),
            undo: undo.as_ref().map(hidden),
        }),
        model::StepKind::HttpCheck {
            url,
            status,
            tls: given,
        } => {
            let url = url.as_ref()?;
            let status = or(
                status.as_ref(),
                format!("{}.status", step.path),
                default::STATUS,
                u64::to_string,
                used,
            );
            StepKind::HttpCheck(HttpCheck {
                shown: server_of(&url.value)?,
                url: hidden(url),
                status: u16::try_from(saturated(status)).ok()?,
                tls: given.as_ref().map(|given| tls(given, folder, used)),
            })
        }
        model::StepKind::JenkinsBuild {
            job,
            shell,
            shell_from,
            ..
        } => StepKind::JenkinsBuild(JenkinsBuild {
            job: job.as_ref()?.value.clone(),
            shell: match (shell, shell_from) {
                (Some(command), _) => JobShell::Given(hidden(command)),
                (None, other) => JobShell::From(other.as_ref()?.value.clone()),
            },
        }),
        model::StepKind::RdsSnapshot { instance, name } => StepKind::RdsSnapshot(RdsSnapshot {
            instance: named(instance.as_ref()?),
            name: name.as_ref()?.value.clone(),
        }),
        model::StepKind::RdsRename {
            instance,
            to,
            in_window,
        } => StepKind::RdsRename(RdsRename {
            instance: named(instance.as_ref()?),
            to: named(to.as_ref()?),
            in_window: *in_window,
        }),
        model::StepKind::RdsRestore {
            instance,
            from,
            settings_of,
        } => StepKind::RdsRestore(RdsRestore {
            instance: named(instance.as_ref()?),
            from: match from.as_ref()? {
                model::RestoredFrom::Snapshot(name) => RestoreFrom::Snapshot(name.value.clone()),
                model::RestoredFrom::Latest(kind) => RestoreFrom::Latest(*kind),
                model::RestoredFrom::Time(time) => RestoreFrom::Time(time.value),
            },
            settings_of: named(settings_of.as_ref()?),
        }),
        model::StepKind::Approve { question } => StepKind::Approve {
            question: question.as_ref()?.value.clone(),
        },
    })
}

/// Returns the plan's Jenkins; `None` where it is missing or broken, which the reading noted already.
pub(super) fn jenkins(
    given: &model::Jenkins,
    folder: &Path,
    used: &mut Used,
) -> Option<JenkinsConfig> {
    let url = &given.url.as_ref()?.value;
    let login = given.user.as_ref().zip(given.token.as_ref());
    Some(JenkinsConfig {
        url: url.clone().into(),
        shown: server_of(url)?,
        user: login.map(|(name, token)| (name.value.clone(), token.value.clone().into())),
        console: given.console.as_ref().map_or_else(
            || Hidden {
                text: default::CONSOLE.to_owned().into(),
                typed: default::CONSOLE.to_owned(),
            },
            hidden,
        ),
        job: given
            .job
            .as_ref()
            .map_or_else(|| default::JOB.to_owned(), |job| job.value.clone()),
        tls: given.tls.as_ref().map(|given| tls(given, folder, used)),
    })
}

/// Returns where RDS is; `None` where that is missing or broken, which the reading noted already.
pub(super) fn aws(given: &model::Aws) -> Option<AwsConfig> {
    let endpoint = given.endpoint.as_ref().map(|one| one.value.trim());
    Some(AwsConfig {
        region: given.region.as_ref()?.value.clone(),
        // `"${RDS_ENDPOINT:-}"` is none.
        endpoint: endpoint.filter(|one| !one.is_empty()).map(str::to_owned),
        hourly: given
            .hourly
            .as_ref()
            .map(|one| TablePattern::new(one.value.clone(), one.typed.clone())),
    })
}

/// Returns a name as RDS keeps it.
fn named(name: &Value<String>) -> String {
    name.value.to_ascii_lowercase()
}

fn hidden(text: &Value<String>) -> Hidden {
    Hidden {
        text: text.value.clone().into(),
        typed: text.typed.clone(),
    }
}
