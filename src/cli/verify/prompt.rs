//! Asks before names are removed.

use tokio::sync::{oneshot, watch};

use crate::{
    cli::ask::{self, Answer},
    report::human::counted,
};

/// Asks on the terminal; nobody there is a no, and `None` that it was told to stop.
pub(super) async fn agreed(extra: u64, stop: &mut watch::Receiver<bool>) -> Option<Answer> {
    let text = format!(
        "{} would be removed for good. Type `yes` to remove what has no row then:",
        counted(extra, "name")
    );
    let Some(stdin) = ask::question(&text) else {
        return Some(Answer::Nobody);
    };
    let (out, answer) = oneshot::channel();
    // Nothing ends a read of the terminal, and leases are to be given back before the process does.
    std::thread::spawn(move || {
        let read = ask::read(&stdin, |typed| typed == "yes");
        // Nobody waits for it any more where the process was told to stop.
        out.send(read).ok();
    });
    tokio::select! {
        biased;
        // Without anybody who could say stop, the answer is waited for.
        Ok(_) = stop.wait_for(|stop| *stop) => None,
        answer = answer => Some(answer.unwrap_or(Answer::Nobody)),
    }
}
