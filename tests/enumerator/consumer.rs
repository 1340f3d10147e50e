//! Whoever takes messages from queues while a run is struck: the program itself.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::scene::PROGRAM;

/// A `rekindle consume`, killed with this value: what it has in hand goes back.
pub struct Consumer(Child);

impl Consumer {
    /// Starts one of the plan in `folder`.
    pub fn start(folder: &Path, environment: &[(&str, String)]) -> Self {
        Self(consume(folder, environment, &[]))
    }

    /// Takes everything that is in the queues of the plan in `folder`.
    pub fn empties(folder: &Path, environment: &[(&str, String)]) {
        let ended = consume(folder, environment, &["--until-empty"]).wait();
        let ended = ended.expect("a consumer ends");
        assert!(ended.success(), "the queues are not emptied: {ended}");
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // It may have ended by itself, which the runs then show.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn consume(folder: &Path, environment: &[(&str, String)], more: &[&str]) -> Child {
    Command::new(PROGRAM)
        .args(["consume", "plan.yaml"])
        .args(more)
        .envs(environment.iter().map(|(name, value)| (*name, value)))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts")
}
