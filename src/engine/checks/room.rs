//! More rows than a Redis has memory for.

use crate::plan::{Code, Diagnostic, Places, TargetPlaces};

/// Returns a warning where `needed` bytes do not fit into the `free` ones of target `name`; `shown` writes bytes for people.
///
/// What is there already and will be written over counts twice: how much that is, nobody knows without reading it.
#[must_use]
pub fn no_room(
    places: &Places,
    name: &str,
    needed: u64,
    free: u64,
    shown: impl Fn(u64) -> String,
) -> Option<Diagnostic> {
    (needed > free).then(|| {
        Diagnostic::new(
            Code::NoRoom,
            format!(
                "target `{name}` needs about {} of memory for the rows, and has {} left below its `maxmemory`",
                shown(needed),
                shown(free)
            ),
        )
        .at_known(
            places.targets.get(name).map(TargetPlaces::store),
            "this server",
        )
        .help("raise `maxmemory` there; keys that are there already are written over and need no room again")
    })
}
