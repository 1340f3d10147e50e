//! Whether RDS is still the one in which a step was begun: in another region or account nothing is found, and that means nothing.

use super::refused;
use crate::{
    error::EdgeError,
    machine::Facts,
    remote::rds::{Instance, Rds},
};

/// The fact that says where: `eu-central-1/123456789012`.
const PLACE: &str = "place";

/// Adds to `facts` where `instance` is.
pub(super) fn note(facts: &mut Facts, instance: &Instance) {
    if let Some(place) = place_of(instance) {
        facts.insert(PLACE.to_owned(), place);
    }
}

/// Refuses another region than the recorded one, or another account, as far as an instance of these `names` shows it.
pub(super) async fn check(
    rds: &Rds,
    facts: Option<&Facts>,
    names: &[&str],
) -> Result<(), EdgeError> {
    // An older state file does not say.
    let Some(had) = facts.and_then(|facts| facts.get(PLACE)) else {
        return Ok(());
    };
    let elsewhere = |now: &str| {
        refused(format!(
            "the step was begun in {had}, and this is {now}: mend `aws.region`, or log in there"
        ))
    };
    if had.split('/').next() != Some(rds.region()) {
        return Err(elsewhere(rds.region()));
    }
    for name in names {
        let found = rds.instance(name).await?;
        if let Some(now) = found.as_ref().and_then(place_of)
            && now != *had
        {
            return Err(elsewhere(&now));
        }
    }
    Ok(())
}

/// Returns region and account of an instance, as its ARN has them.
fn place_of(instance: &Instance) -> Option<String> {
    let mut parts = instance.arn.split(':').skip(3);
    let (region, account) = (parts.next()?, parts.next()?);
    (!region.is_empty()).then(|| format!("{region}/{account}"))
}
