//! Resources that are blocked, those with one reason together: where a server is down, seven of them have the same.

use crate::{
    ids::ResourceName,
    machine::{ResourceState, RunLedger},
};

/// So many names are written out.
const NAMED: usize = 10;

/// Resources that are blocked for one reason.
#[derive(Debug, PartialEq, Eq)]
pub struct Blocked<'a> {
    /// In the order they came in.
    pub names: Vec<&'a ResourceName>,
    /// Why.
    pub reason: &'a str,
}

impl Blocked<'_> {
    /// Returns which are blocked, and why.
    pub fn sentence(&self) -> String {
        let mut names: Vec<_> = self.names.iter().map(|name| format!("`{name}`")).collect();
        let left = names.len().saturating_sub(NAMED);
        if left > 0 {
            names.truncate(NAMED);
            names.push(format!("{left} more"));
        }
        let (names, are) = match &names[..] {
            [] | [_] => (names.concat(), "is"),
            [first @ .., last] => (format!("{} and {last}", first.join(", ")), "are"),
        };
        format!("{names} {are} blocked: {}", self.reason)
    }
}

/// Returns resources and their reasons, each reason once, in the order of the first that has it.
pub fn grouped<'a>(all: impl IntoIterator<Item = (&'a ResourceName, &'a str)>) -> Vec<Blocked<'a>> {
    let mut groups: Vec<Blocked<'a>> = Vec::new();
    for (name, reason) in all {
        match groups.iter_mut().find(|group| group.reason == reason) {
            Some(group) => group.names.push(name),
            None => groups.push(Blocked {
                names: vec![name],
                reason,
            }),
        }
    }
    groups
}

/// Returns the resources of a run that are blocked, by their reasons.
pub fn of(run: &RunLedger) -> Vec<Blocked<'_>> {
    grouped(run.resources.iter().filter_map(|one| match &one.state {
        ResourceState::Blocked { reason, .. } => Some((&one.name, reason.as_str())),
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_said_once() {
        let names = ["a", "b", "c"].map(ResourceName::from);
        let [a, b, c] = &names;
        let said = |all: &[(&ResourceName, &str)]| -> Vec<String> {
            let groups = grouped(all.iter().map(|(name, reason)| (*name, *reason)));
            groups.iter().map(Blocked::sentence).collect()
        };
        assert_eq!(
            said(&[(a, "down"), (b, "no table"), (c, "down")]),
            ["`a` and `c` are blocked: down", "`b` is blocked: no table"]
        );
        let many: Vec<_> = (0..12)
            .map(|n| ResourceName::from(format!("r{n}").as_str()))
            .collect();
        let all: Vec<_> = many.iter().map(|name| (name, "down")).collect();
        let said = said(&all);
        assert_eq!(said.len(), 1);
        assert!(
            said[0].ends_with("`r9` and 2 more are blocked: down"),
            "{said:?}"
        );
    }
}
