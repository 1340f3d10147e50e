//! The names of rekindle's own keys on a server. They carry no prefix of the plan.
//!
//! ```text
//! one server        rekindle:lease        rekindle:writer        rekindle:<run>:<partition>
//! node of a cluster rekindle:{9x}:lease   rekindle:{9x}:writer   rekindle:{9x}:<run>:<partition>
//! ```
//!
//! In a cluster, keys of one command have to lie in one slot, and each node has keys of its own: what is between the
//! braces decides the slot, and is chosen so that it is one of the node's.

use super::slots;
use crate::ids::{PartitionId, RunId};

const OURS: &str = "rekindle:";

/// How the keys on one server are named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Keys {
    /// `rekindle:` or `rekindle:{9x}:`
    start: String,
}

impl Keys {
    /// Returns the names on a server that is no node of a cluster.
    pub(super) fn plain() -> Self {
        Self { start: OURS.into() }
    }

    /// Returns names that all lie in `slot`.
    pub(super) fn in_slot(slot: u16) -> Self {
        Self {
            start: format!("{OURS}{{{}}}:", slots::tag_of(slot)),
        }
    }

    /// Returns the names under which a whole cluster is leased, whoever serves which slot.
    pub(super) fn of_cluster() -> Self {
        Self {
            start: format!("{OURS}{{rekindle}}:"),
        }
    }

    /// The lease: `{"state":"9c1f...","state_path":"...","host":"batch-2","pid":4121,"run":"7F3K2M"}`.
    pub(super) fn lease(&self) -> String {
        format!("{}lease", self.start)
    }

    /// The claim: a token, a space, and the owner as in the lease.
    pub(super) fn writer(&self) -> String {
        format!("{}writer", self.start)
    }

    /// A partition's marker, whose value is the number of the last chunk written and the token of the claim that it was
    /// written under: `7 K3F9QA`.
    pub(super) fn marker(&self, run: &RunId, partition: PartitionId) -> String {
        format!("{}{run}:{partition}", self.start)
    }
}

/// Tells whether a row with this key would overwrite a marker of `run`, a lease or a claim.
pub(super) fn is_reserved(run: &RunId, key: &[u8]) -> bool {
    let Some(rest) = key.strip_prefix(OURS.as_bytes()) else {
        return false;
    };
    let rest = match rest.strip_prefix(b"{") {
        Some(tagged) => tagged
            .windows(2)
            .position(|two| two == b"}:")
            .map_or(rest, |end| &tagged[end + 2..]),
        None => rest,
    };
    rest == b"lease"
        || rest == b"writer"
        || rest
            .strip_prefix(run.as_str().as_bytes())
            .is_some_and(|rest| rest.first() == Some(&b':'))
}

/// Returns the run whose marker `key` is; `None` for any other key.
pub(super) fn run_of(key: &[u8]) -> Option<RunId> {
    let rest = std::str::from_utf8(key).ok()?.strip_prefix(OURS)?;
    let rest = match rest.strip_prefix('{') {
        Some(tagged) => tagged.split_once("}:")?.1,
        None => rest,
    };
    let (run, partition) = rest.split_once(':')?;
    let is_number = !partition.is_empty() && partition.bytes().all(|c| c.is_ascii_digit());
    is_number.then(|| RunId::from_text(run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_that_could_hide_a_loss_are_reserved() {
        let run = RunId::from_text("7F3K2M");
        for (key, reserved) in [
            ("rekindle:lease", true),
            ("rekindle:writer", true),
            ("rekindle:7F3K2M:1", true),
            ("rekindle:7F3K2M:", true),
            ("rekindle:{9x}:lease", true),
            ("rekindle:{9x}:7F3K2M:1", true),
            ("rekindle:{9x}:other", false),
            ("rekindle:{9x", false),
            ("rekindle:7F3K2MX:1", false),
            ("rekindle:other", false),
            ("kv:rekindle:lease", false),
        ] {
            assert_eq!(is_reserved(&run, key.as_bytes()), reserved, "{key}");
        }
    }

    #[test]
    fn a_marker_names_its_run() {
        for (key, run) in [
            ("rekindle:7F3K2M:1", Some("7F3K2M")),
            ("rekindle:{9x}:7F3K2M:31", Some("7F3K2M")),
            ("rekindle:lease", None),
            ("rekindle:{9x}:writer", None),
            ("rekindle:7F3K2M:x", None),
            ("kv:7F3K2M:1", None),
        ] {
            assert_eq!(run_of(key.as_bytes()), run.map(RunId::from_text), "{key}");
        }
    }

    #[test]
    fn the_keys_of_a_node_lie_in_its_slot() {
        let run = RunId::from_text("7F3K2M");
        for slot in [0, 5_460, 16_383] {
            let keys = Keys::in_slot(slot);
            for key in [
                keys.lease(),
                keys.writer(),
                keys.marker(&run, PartitionId(31)),
            ] {
                assert_eq!(slots::slot_of(key.as_bytes()), slot, "{key}");
            }
        }
    }
}
