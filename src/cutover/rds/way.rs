//! Names on their way back: what was restored makes way for the original, and has its name again where that one cannot take it.

use super::{
    AVAILABLE, Looks, Scene, Told, asked, grace, has_failed,
    names::shown,
    refused, renamed,
    tags::{RESTORED, is_of_run},
};
use crate::{
    error::EdgeError,
    ids::RunId,
    remote::rds::{Instance, Rds},
    report::human,
};

/// Longest name of an instance.
const NAME: usize = 63;

/// Returns the name that makes way for the original: `shop-db-undone-8pdqc3`. It ends with the run that is reversed: that of
/// an earlier one may be taken.
pub(super) fn aside(name: &str, run: &RunId) -> String {
    let end = format!("-undone-{}", run.as_str().to_ascii_lowercase());
    let begin: String = name.chars().take(NAME.saturating_sub(end.len())).collect();
    format!("{}{end}", begin.trim_end_matches('-'))
}

/// Returns whether an instance can take another name now; `false` where it will by itself.
///
/// # Errors
///
/// `Refused` where somebody has to do something before it can.
pub(super) fn takes_a_name(instance: &Instance) -> Result<bool, EdgeError> {
    let (name, status) = (&instance.name, instance.status.as_str());
    if is_stuck(status) {
        return Err(refused(format!(
            "`{name}` is {status}, and takes another name only once it is available: start or repair it first"
        )));
    }
    if status == AVAILABLE && instance.has_pending && instance.pending_name.is_none() {
        return Err(refused(format!(
            "instance `{name}` has changes that wait for its maintenance window, and another name would make them now: apply or take them back first"
        )));
    }
    Ok(status == AVAILABLE)
}

/// Returns whether an instance stays what it is until somebody does something.
pub(super) fn is_stuck(status: &str) -> bool {
    has_failed(status)
        || matches!(
            status,
            "stopped" | "stopping" | "deleting" | "insufficient-capacity"
        )
}

/// Returns the error for what was restored and cannot make way by itself.
pub(super) fn stays(restored: &Instance) -> EdgeError {
    refused(format!(
        "`{}` is {}: start it, or delete it by hand: then the old name is free",
        restored.name,
        shown(restored)
    ))
}

/// Renames what this run restored as `name` out of its way, and returns the name that it has then, once nothing is called `name`.
pub(super) async fn make_way(
    rds: &Rds,
    name: &str,
    scene: &Scene,
    told: Told<'_>,
) -> Result<String, EdgeError> {
    let aside = aside(name, &scene.run);
    let mut looks = Looks::new();
    let mut is_asked = false;
    loop {
        match rds.instance(name).await? {
            None if looks.elapsed() > grace() || rds.instance(&aside).await?.is_some() => {
                return Ok(aside);
            }
            None => told(format!(
                "`{name}` is being renamed, and is nowhere to be seen yet"
            )),
            Some(found) if !is_of_run(scene, &found.tags, RESTORED) => {
                return Err(refused(format!(
                    "the name `{name}` is taken by {}, which this run did not restore",
                    shown(&found)
                )));
            }
            Some(found) if found.status == AVAILABLE && !is_asked => {
                is_asked = true;
                renamed(rds.rename(name, &aside, true).await)?;
                asked()?;
                looks = Looks::new();
            }
            Some(found) if is_stuck(&found.status) => return Err(stays(&found)),
            Some(found) if looks.elapsed() > grace() => {
                return Err(refused(if is_asked {
                    format!("RDS took the request, and the instance is still called `{name}`")
                } else {
                    format!(
                        "`{name}` would make way, and is {} for {} by now",
                        found.status,
                        human::duration(looks.elapsed())
                    )
                }));
            }
            Some(found) => told(format!("`{name}` is {}", found.status)),
        }
        looks.pause().await;
    }
}

/// Gives what made way its name back, as the original did not take it: a shop without any instance of that name is down. Returns
/// `why` with what came of that.
pub(super) async fn take_back(
    rds: &Rds,
    name: &str,
    scene: &Scene,
    why: EdgeError,
    told: Told<'_>,
) -> EdgeError {
    let aside = aside(name, &scene.run);
    let came = match named_again(rds, name, &aside, scene, told).await {
        Ok(true) => format!(
            "the original did not take its name back, and what was restored is called `{name}` again"
        ),
        // It never made way.
        Ok(false) => return why,
        Err(error) => format!(
            "the original did not take its name back, and `{aside}`, which made way for it, could not be called `{name}` again: {error}"
        ),
    };
    EdgeError::new(why.kind, came).because(why)
}

/// Returns whether what is called `aside` has its name back.
async fn named_again(
    rds: &Rds,
    name: &str,
    aside: &str,
    scene: &Scene,
    told: Told<'_>,
) -> Result<bool, EdgeError> {
    let kept = rds.instance(aside).await?;
    if !kept.is_some_and(|kept| is_of_run(scene, &kept.tags, RESTORED))
        || rds.instance(name).await?.is_some()
    {
        return Ok(false);
    }
    renamed(rds.rename(aside, name, true).await)?;
    asked()?;
    let mut looks = Looks::new();
    loop {
        match rds.instance(name).await? {
            Some(found) if found.status == AVAILABLE => return Ok(true),
            _ if looks.elapsed() > grace() => {
                return Err(refused(format!(
                    "RDS took the request, and `{name}` is not available"
                )));
            }
            _ => told(format!("`{aside}` is called `{name}` again")),
        }
        looks.pause().await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::remote::rds::Settings;

    fn instance(status: &str) -> Instance {
        Instance {
            name: "shop-db-old".to_owned(),
            resource_id: "db-1".to_owned(),
            arn: String::new(),
            status: status.to_owned(),
            endpoint: None,
            has_pending: false,
            pending_name: None,
            needs_reboot: false,
            restorable_until: None,
            created: None,
            retention_days: 7,
            tags: BTreeMap::new(),
            settings: Settings::default(),
        }
    }

    #[test]
    fn another_name_is_taken_by_what_is_available_and_has_nothing_waiting() {
        let says = |instance: &Instance| takes_a_name(instance).map_err(|error| error.to_string());
        assert_eq!(says(&instance("available")), Ok(true));
        assert_eq!(says(&instance("backing-up")), Ok(false));
        for status in ["stopped", "failed", "storage-full"] {
            let why = says(&instance(status)).unwrap_err();
            assert!(why.contains(&format!("`shop-db-old` is {status}")), "{why}");
        }
        let waits = Instance {
            has_pending: true,
            ..instance("available")
        };
        let why = says(&waits).unwrap_err();
        assert!(why.contains("has changes that wait"), "{why}");
        // What waits is the name itself: the rename says what to do about that.
        let waits_for_a_name = Instance {
            pending_name: Some("shop-db".to_owned()),
            ..waits
        };
        assert_eq!(says(&waits_for_a_name), Ok(true));
    }

    #[test]
    fn the_name_that_makes_way_is_one_that_rds_takes() {
        let run = RunId::from_text("8PDQC3");
        assert_eq!(aside("shop-db", &run), "shop-db-undone-8pdqc3");
        let long = aside(&format!("{}-x", "a".repeat(48)), &run);
        assert!(long.len() <= NAME && !long.contains("--"), "{long}");
    }
}
