//! Asks before names are removed.

use std::io::{BufRead, IsTerminal};

use tokio::sync::{oneshot, watch};

use crate::{cli::render::complain, report::human::counted};

/// Asks on the terminal; nobody there is a no, and `None` that it was told to stop.
pub(super) async fn agreed(extra: u64, stop: &mut watch::Receiver<bool>) -> Option<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Some(false);
    }
    complain(&format!(
        "{} would be removed for good. Type `yes` to remove what has no row then:",
        counted(extra, "name")
    ));
    let (out, answer) = oneshot::channel();
    // Nothing ends a read of the terminal, and leases are to be given back before the process does.
    std::thread::spawn(move || {
        let mut typed = String::new();
        let read = stdin.lock().read_line(&mut typed);
        // Nobody waits for it any more where the process was told to stop.
        out.send(read.is_ok() && typed.trim() == "yes").ok();
    });
    tokio::select! {
        biased;
        // Without anybody who could say stop, the answer is waited for.
        Ok(_) = stop.wait_for(|stop| *stop) => None,
        answer = answer => Some(answer.unwrap_or(false)),
    }
}
