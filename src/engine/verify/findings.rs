//! What a comparison found.

use std::collections::BTreeMap;

use super::{Verify, walk::one_in};
use crate::{
    ids::ResourceName,
    plan::{Level, Resource, TargetConfig},
    scratch::{Counts, ScratchError},
};

/// What is found of the whole.
#[derive(Debug)]
pub struct Findings {
    /// In plan order.
    pub resources: Vec<ResourceFindings>,
}

/// What is found of one resource.
#[derive(Debug)]
pub struct ResourceFindings {
    /// Which.
    pub name: ResourceName,
    /// Its target's name.
    pub to: String,
    /// How many of each kind.
    pub counts: Counts,
    /// First keys that are missing, as they are in the target.
    pub missing: Vec<String>,
    /// First keys with something else.
    pub different: Vec<String>,
    /// What a sample says about the rest; `None` where every row was compared.
    pub sample: Option<Sample>,
    /// How many keys are written by several rows with different content; of those that were missing or different.
    pub shared: u64,
    /// The first of them.
    pub shared_keys: Vec<String>,
    /// Why rows cannot be restored as they are now.
    pub broken: Broken,
    /// Names in the target that no row owns; `None` where they were not looked for.
    pub extra: Option<u64>,
    /// The first of them.
    pub extra_keys: Vec<String>,
    /// Why they could not be told.
    pub unlisted: Option<Unlisted>,
    /// Why it could not be compared.
    pub trouble: Option<String>,
    /// Whether it goes to files, which nobody reads back.
    pub in_files: bool,
}

/// Rows that cannot be restored as they are now, whether the last run knew them or not.
#[derive(Debug, Default)]
pub struct Broken {
    /// Why, and how many, most of them first.
    pub reasons: Vec<(String, u64)>,
    /// The first of their keys, each with its reason.
    pub keys: Vec<String>,
}

/// Why it is not known which names of a resource no row owns.
#[derive(Debug, Clone)]
pub struct Unlisted {
    /// In words.
    pub why: String,
    /// Whether source or target failed, as opposed to a plan or rows that do not tell.
    pub failed: bool,
}

/// What a sample says about all keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// One key of so many was compared.
    pub one_in: u64,
    /// With a confidence of 95 %, at most this part of the keys is missing or different, in percent.
    pub at_most_percent: f64,
}

/// The quantile of the normal distribution for 95 %, one-sided.
const Z: f64 = 1.644_853_6;

impl Sample {
    /// Returns what `found` differences among `keys` keys that were drawn at random say about all.
    ///
    /// None among them: the exact bound, `1 - 0.05^(1/keys)`. Else the upper end of Wilson's interval (E. B. Wilson, 1927).
    #[must_use]
    pub fn of(one_in: u64, keys: u64, found: u64) -> Self {
        let n = keys as f64;
        let bound = if keys == 0 {
            1.0
        } else if found == 0 {
            1.0 - 0.05_f64.powf(1.0 / n)
        } else {
            let p = found as f64 / n;
            let (z2, spread) = (
                Z * Z,
                Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt(),
            );
            ((p + z2 / (2.0 * n) + spread) / (1.0 + z2 / n)).min(1.0)
        };
        Self {
            one_in,
            at_most_percent: bound * 100.0,
        }
    }
}

impl ResourceFindings {
    /// Returns how many keys are missing or different still.
    #[must_use]
    pub const fn left(&self) -> u64 {
        (self.counts.missing + self.counts.different).saturating_sub(self.counts.repaired)
    }
}

impl Findings {
    /// Returns the sum over all resources.
    #[must_use]
    pub fn total(&self) -> Counts {
        self.resources
            .iter()
            .map(|one| one.counts)
            .fold(Counts::default(), |sum, one| Counts {
                rows: sum.rows + one.rows,
                compared: sum.compared + one.compared,
                keys: sum.keys + one.keys,
                dead_letters: sum.dead_letters + one.dead_letters,
                missing: sum.missing + one.missing,
                different: sum.different + one.different,
                repaired: sum.repaired + one.repaired,
                moving: sum.moving + one.moving,
            })
    }

    /// Returns how many names no row owns.
    #[must_use]
    pub fn extra(&self) -> u64 {
        self.resources.iter().filter_map(|one| one.extra).sum()
    }

    /// Returns how many keys are missing or different still.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.resources.iter().map(ResourceFindings::left).sum()
    }

    /// Returns how many resources could not be compared, but for those in files, and how many lie in files.
    #[must_use]
    pub fn uncompared(&self) -> (usize, usize) {
        let troubled = self.resources.iter().filter(|one| one.trouble.is_some());
        let (files, others): (Vec<_>, Vec<_>) = troubled.partition(|one| one.in_files);
        (others.len(), files.len())
    }

    /// Returns how many keys several rows write.
    #[must_use]
    pub fn shared(&self) -> u64 {
        self.resources.iter().map(|one| one.shared).sum()
    }

    /// Returns in how many resources names without a row were looked for, and in how many they were to be.
    #[must_use]
    pub fn looked_for_extra(&self) -> (usize, usize) {
        let looked = self.resources.iter().filter(|one| one.extra.is_some());
        let looked = looked.count();
        let not = self.resources.iter().filter(|one| one.unlisted.is_some());
        (looked, looked + not.count())
    }
}

/// Reads what was found of `resources`.
pub(super) fn collect(
    verify: &Verify,
    resources: &[Resource],
    troubles: &BTreeMap<ResourceName, String>,
    unlisted: &BTreeMap<ResourceName, Unlisted>,
) -> Result<Findings, ScratchError> {
    let scratch = &verify.scratch;
    let mut found = Vec::new();
    for resource in resources {
        let name = &resource.name;
        let standing = scratch.resource(name)?;
        let mut trouble = troubles.get(name).cloned();
        if standing.is_none() && trouble.is_none() {
            trouble = Some("files are not read back".to_owned());
        }
        let estimated = standing.as_ref().map_or_else(
            || {
                verify
                    .asked
                    .checked
                    .shapes
                    .get(name)
                    .map_or(0, |one| one.estimated_rows)
            },
            |one| one.estimated_rows,
        );
        let counts = standing.map(|one| one.counts).unwrap_or_default();
        let one_in = one_in(verify.level, estimated);
        let listed = verify.orphans.iter().find(|one| one.name == resource.to);
        let unlisted = unlisted.get(name).cloned().or_else(|| {
            listed.filter(|one| !one.wanted.contains(name))?;
            let why = verify.plan.own_keys(resource).err();
            let why = why.unwrap_or_else(|| "it is not looked for".to_owned());
            Some(Unlisted { why, failed: false })
        });
        let sampled = verify.level == Level::Sample && one_in > 1;
        found.push(ResourceFindings {
            name: name.clone(),
            to: resource.to.clone(),
            missing: scratch.findings(name, "missing")?,
            different: scratch.findings(name, "different")?,
            shared: scratch.shared_keys(name)?,
            shared_keys: scratch.findings(name, "shared")?,
            broken: Broken {
                reasons: scratch.broken(name)?,
                keys: scratch.findings(name, "broken")?,
            },
            sample: sampled
                .then(|| Sample::of(one_in, counts.keys, counts.missing + counts.different)),
            counts,
            extra: match (listed, &unlisted) {
                (Some(orphans), None) => Some(scratch.candidate_count(&orphans.name, name)?),
                _ => None,
            },
            extra_keys: scratch.findings(name, "extra")?,
            unlisted,
            trouble,
            in_files: matches!(
                verify.plan.targets.get(&resource.to),
                Some(TargetConfig::File(_))
            ),
        });
    }
    Ok(Findings { resources: found })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_says_how_much_may_differ_in_the_rest() {
        let shown = |rows, found| format!("{:.3}", Sample::of(10, rows, found).at_most_percent);
        // The rule of three: 3 / 10,000.
        assert_eq!(shown(10_000, 0), "0.030");
        assert_eq!(shown(100, 0), "2.951");
        assert_eq!(shown(10_000, 10), "0.167");
        assert_eq!(shown(0, 0), "100.000");
        assert_eq!(shown(5, 5), "100.000");
    }
}
