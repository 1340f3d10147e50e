//! A console whose program this machine cannot start.

use super::Scene;
use crate::plan::{Code, Diagnostic};

pub(super) fn check(scene: &Scene<'_>, problems: &mut Vec<Diagnostic>) {
    if let Some(why) = &scene.answers.unstartable {
        problems.push(
            Diagnostic::new(Code::PublisherProgram, why.clone())
                .at_known(scene.places.console, "its first word is the program")
                .help("install it here, or put what reaches it before it: `[ssh, deploy@cli, vendor/bin/console]`"),
        );
    }
}
