//! The child's side: it must not outlive its parent.

use std::{io::Read, thread};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// Set in the child's environment to the parent's process id.
pub const CHILD_VARIABLE: &str = "REKINDLE_PARENT";

/// What the parent says over the pipe that is the child's stdin.
pub const STOP_BYTE: u8 = b's';

/// What the child hears from its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParentLink {
    /// The parent received a signal that asks to stop.
    Stop,
}

/// Ties this process to its parent: the kernel kills it when the parent dies, and where the kernel cannot (a parent
/// gone before this call), the closed pipe does. `heard` is called for each message of the parent.
///
/// Returns `false` when this process is not a child of [`super::supervise`], and does nothing then.
pub fn follow_parent(heard: impl Fn(ParentLink) + Send + 'static) -> bool {
    let Some(parent) = std::env::var(CHILD_VARIABLE)
        .ok()
        .and_then(|text| text.parse::<i32>().ok())
    else {
        return false;
    };
    // Without this the pipe below still ends the child, a moment later.
    set_parent_process_death_signal(Some(Signal::KILL)).ok();
    if getppid() != Pid::from_raw(parent) {
        std::process::exit(i32::from(crate::failure::Exit::Stopped.code()));
    }
    thread::spawn(move || {
        let mut byte = [0];
        let mut stdin = std::io::stdin();
        loop {
            match stdin.read(&mut byte) {
                Ok(1) if byte[0] == STOP_BYTE => heard(ParentLink::Stop),
                Ok(1) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // The parent is gone. Nothing in flight is worth finishing: the next run repeats it.
                _ => std::process::abort(),
            }
        }
    });
    true
}
