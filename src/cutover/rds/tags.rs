//! What steps leave on instances and snapshots: which run did it. The step in a tag is for people: a plan that is edited, with its
//! state file or without, moves steps. What is found by its tag is known by the run, and by what the tag is on.

use std::collections::BTreeMap;

use super::Scene;
use crate::ids::RunId;

/// The tag of an instance that a step renames. It comes before the request.
pub(super) const RENAMED: &str = "rekindle:renamed";

/// The tag of an instance that a step restored.
pub(super) const RESTORED: &str = "rekindle:restored";

/// What it was restored from: `snapshot/nightly-0412`, `time/1760000000`.
pub(super) const RESTORED_FROM: &str = "rekindle:restored-from";

/// The tag of a snapshot that a step took.
pub(super) const TAKEN: &str = "rekindle:taken";

/// Returns what this step puts on what it makes or changes.
pub(super) fn token(scene: &Scene) -> String {
    format!("{}.{}", scene.run, scene.step)
}

/// Returns the run that is named under the tag `name`.
pub(super) fn run_of(tags: &BTreeMap<String, String>, name: &str) -> Option<RunId> {
    let (run, _) = tags.get(name)?.split_once('.')?;
    Some(RunId::from_text(run))
}

/// Returns whether this run, or one in whose place it came, is named under the tag `name`.
pub(super) fn is_of_run(scene: &Scene, tags: &BTreeMap<String, String>, name: &str) -> bool {
    run_of(tags, name).is_some_and(|run| run == scene.run || scene.instead_of.contains(&run))
}
