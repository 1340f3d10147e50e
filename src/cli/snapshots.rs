//! `snapshots`: what the plan's database instances can be restored from.

use super::{Outcome, Stop, args::PlanOnly, render::Screen};
#[cfg(feature = "aws")]
use super::{connect, render::say, table::table};
use crate::failure::{Exit, Failure};
#[cfg(feature = "aws")]
use crate::{
    error::EdgeError,
    plan::{AwsConfig, Plan, SnapshotKind, StepKind},
    remote::rds::{Instance, Rds, Snapshot},
    report::human::utc,
};

/// Lists them.
#[cfg(not(feature = "aws"))]
pub fn snapshots(_of: &PlanOnly, _screen: Screen) -> Outcome {
    Err(Stop::Failed(Failure::new(
        Exit::Refused,
        "this program was built without `aws`",
        "nothing was asked",
        "build it with `--features aws`",
    )))
}

/// What one instance can be restored from.
#[cfg(feature = "aws")]
struct Found {
    name: String,
    instance: Option<Instance>,
    snapshots: Vec<Snapshot>,
}

/// Lists them.
#[cfg(feature = "aws")]
pub fn snapshots(of: &PlanOnly, screen: Screen) -> Outcome {
    let plan = connect::load(&of.plan, screen)?.plan;
    let names = instances(&plan);
    let Some(aws) = plan.aws.as_ref().filter(|_| !names.is_empty()) else {
        return Err(Stop::Failed(Failure::new(
            Exit::Refused,
            "the plan names no database instance of RDS",
            "nothing was asked",
            "add `aws:` and a step about RDS, see `rekindle schema`",
        )));
    };
    let typed = of.plan.display().to_string();
    let found = connect::runtime()?
        .block_on(found(aws, &names))
        .map_err(|error| {
            Failure::new(
                Exit::Refused,
                "the snapshots cannot be listed",
                "nothing was changed",
                format!("mend the cause, then `rekindle snapshots {typed}`"),
            )
            .because(&error)
        })?;
    let now = chrono::Utc::now().timestamp();
    for one in &found {
        say(&if screen.json {
            json(one, now)
        } else {
            text(one, now)
        });
    }
    Ok(Exit::Done)
}

/// Returns the names that steps of the plan mean instances by, those before any step first.
#[cfg(feature = "aws")]
fn instances(plan: &Plan) -> Vec<String> {
    let (mut names, mut later): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for step in plan.prepare.iter().chain(&plan.finish) {
        match &step.kind {
            StepKind::RdsSnapshot(snapshot) => names.push(snapshot.instance.clone()),
            StepKind::RdsRename(rename) => {
                names.push(rename.instance.clone());
                later.push(rename.to.clone());
            }
            StepKind::RdsRestore(restore) => names.push(plan.name_before(&restore.settings_of)),
            _ => {}
        }
    }
    names.append(&mut later);
    let mut known = std::collections::BTreeSet::new();
    names.retain(|name| known.insert(name.clone()));
    names
}

#[cfg(feature = "aws")]
async fn found(aws: &AwsConfig, names: &[String]) -> Result<Vec<Found>, EdgeError> {
    let rds = Rds::new(aws);
    let mut found = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let instance = rds.instance(name).await?;
        if instance.is_none() && index > 0 {
            // A name that a rename will give, or gave back.
            continue;
        }
        let snapshots = if let Some(instance) = &instance {
            rds.snapshots(Some(&instance.resource_id)).await?
        } else {
            let mut all = rds.snapshots(None).await?;
            all.retain(|one| one.instance == *name);
            all
        };
        found.push(Found {
            name: name.clone(),
            instance,
            snapshots,
        });
    }
    Ok(found)
}

/// Returns when RDS deletes a snapshot by itself; `None` where it never does.
#[cfg(feature = "aws")]
fn expires(snapshot: &Snapshot, instance: Option<&Instance>) -> Option<i64> {
    if snapshot.kind != SnapshotKind::Automated {
        return None;
    }
    Some(snapshot.taken? + i64::from(instance?.retention_days) * 24 * 60 * 60)
}

#[cfg(feature = "aws")]
fn text(found: &Found, now: i64) -> String {
    let mut lines = Vec::new();
    lines.push(match &found.instance {
        Some(instance) => {
            let (from, until) = instance.window(now);
            let window = until.map_or_else(
                || "it keeps no backups, so no point in time".to_owned(),
                |until| format!("any time from about {} to {}", utc(from), utc(until)),
            );
            format!(
                "`{}` ({}, {}): {window}",
                found.name, instance.resource_id, instance.status
            )
        }
        None => format!("`{}`: no instance is called so", found.name),
    });
    if found.snapshots.is_empty() {
        lines.push("no snapshots".to_owned());
        return lines.join("\n");
    }
    let rows: Vec<Vec<String>> = found
        .snapshots
        .iter()
        .map(|one| {
            let percent = one
                .percent
                .filter(|_| one.status != "available")
                .map_or_else(String::new, |percent| format!(" ({percent} %)"));
            vec![
                one.name.clone(),
                one.kind.label().to_owned(),
                format!("{}{percent}", one.status),
                one.taken.map_or_else(String::new, utc),
                expires(one, found.instance.as_ref()).map_or_else(|| "never".to_owned(), utc),
                one.gib.map_or_else(String::new, |gib| format!("{gib} GiB")),
            ]
        })
        .collect();
    lines.push(table(
        &["snapshot", "kind", "state", "taken", "expires", "disk"],
        &rows,
        &[5],
    ));
    lines.join("\n")
}

#[cfg(feature = "aws")]
fn json(found: &Found, now: i64) -> String {
    let instance = found.instance.as_ref();
    let window = instance.and_then(|instance| {
        let (from, until) = instance.window(now);
        Some(serde_json::json!({ "from": from, "until": until? }))
    });
    let snapshots: Vec<_> = found
        .snapshots
        .iter()
        .map(|one| {
            serde_json::json!({
                "name": one.name, "kind": one.kind.label(), "state": one.status, "taken": one.taken,
                "expires": expires(one, instance), "gib": one.gib,
            })
        })
        .collect();
    serde_json::json!({
        "instance": found.name, "id": instance.map(|one| &one.resource_id), "state": instance.map(|one| &one.status),
        "window": window, "snapshots": snapshots,
    })
    .to_string()
}
