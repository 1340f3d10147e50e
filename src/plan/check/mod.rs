//! One rule per file. A rule looks at what was typed and notes what cannot work; it changes nothing.

mod after;
mod cursor;
mod cycles;
mod duplicates;
mod fallback;
mod indexes;
mod limits;
mod more_keys;
mod names;
mod publishers;
mod queues;
mod rds;
mod shared_keys;
mod steps;
mod targets;
mod throttle;
mod tls;
mod urls;

pub(super) use names::part_is_sound as is_plan_name;

use std::path::Path;

use super::{diagnostic::Diagnostic, model::Model};

/// A rule: notes what it finds in `model`.
type Rule = fn(&Model, &mut Vec<Diagnostic>);

const RULES: [Rule; 17] = [
    names::check,
    duplicates::check,
    after::check,
    cycles::check,
    targets::check,
    cursor::check,
    limits::check,
    urls::check,
    shared_keys::check,
    fallback::check,
    indexes::check,
    throttle::check,
    more_keys::check,
    publishers::check,
    queues::check,
    steps::check,
    rds::check,
];

/// Applies every rule. Files that the plan names are looked for in `folder`.
pub(super) fn all(model: &Model, folder: &Path, problems: &mut Vec<Diagnostic>) {
    for rule in RULES {
        rule(model, problems);
    }
    tls::check(model, folder, problems);
}
