//! Whoever takes messages from queues while a run is struck: the program itself.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::scene::PROGRAM;

/// A `rekindle consume`, killed with this value: what it has in hand goes back.
pub struct Consumer(Child);

impl Consumer {
    /// Starts one of the plan in `folder`.
    pub fn start(folder: &Path, environment: &[(&str, String)]) -> Self {
        let started = Command::new(PROGRAM)
            .args(["consume", "plan.yaml"])
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // For a person who looks at the remains.
            .stderr(File::create(folder.join("consumer")).expect("a file for its output"))
            .spawn();
        Self(started.expect("the program starts"))
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // It may have ended by itself, which the runs then show.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
