//! The parent's side: starts the child, hands signals on, and says how the child died.

use std::{
    ffi::OsString,
    io::Write,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    child::{CHILD_VARIABLE, STOP_BYTE},
    oom::OomCounter,
};
use crate::{
    failure::Exit,
    journal::{Journal, OpenMode},
    machine::{AttemptEnd, Event},
};

/// Deaths after which the parent gives up: enough to halve 24 MiB down to the least budget several times over.
const MOST_RESTARTS: u32 = 12;

/// The least memory budget a child is started with.
const LEAST_BUDGET: u64 = 256 * 1024;

/// A death of the child, for the person who watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// How it died, in words.
    pub how: String,
    /// How many deaths there were.
    pub number: u32,
    /// The budget of the next child; `None` when the parent gives up.
    pub next_budget: Option<u64>,
}

/// How the watch over the children ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// The last child ended by itself, with this exit code.
    Ended(u8),
    /// Child after child died; the last one like this.
    GaveUp {
        /// How many died.
        deaths: u32,
        /// How the last one did, in words.
        how: String,
    },
    /// A child died, and a signal asks not to start another.
    Interrupted,
    /// The child panicked, and has said where: another one would do the same.
    Panicked,
}

/// What Rust ends a process with whose main thread panicked.
const PANIC: i32 = 101;

/// Runs the child with `arguments` (its budget is added) until one ends by itself. `told` hears of every death.
pub fn supervise(
    arguments: &[OsString],
    state_path: &Path,
    in_flight_bytes: u64,
    mut told: impl FnMut(&Death),
) -> std::io::Result<Watched> {
    // One thread is enough to wait, and keeps the parent small.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut signals = runtime.block_on(async { Signals::listen() })?;
    let mut budget = in_flight_bytes;
    let mut longest_row = in_flight_bytes;
    let mut deaths = 0;
    let mut arguments = arguments.to_vec();
    loop {
        let before = OomCounter::here().kills();
        let mut child = start(&arguments, budget, longest_row)?;
        let pid = child.id();
        let status = runtime.block_on(signals.wait(&mut child))?;
        let Some(end) = death(status, || OomCounter::here().kills() > before) else {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            return Ok(Watched::Ended(code.unwrap_or(Exit::Bug.code())));
        };
        deaths += 1;
        if runtime.block_on(record(state_path, &end)) == Some(pid) {
            // The new run is there: the next child goes on with it.
            arguments.retain(|one| one != "--new");
        }
        if end == (AttemptEnd::Crashed { code: PANIC }) {
            return Ok(Watched::Panicked);
        }
        if end.is_for_memory() {
            // Only then may a row be too long to be read: a good row is no dead letter because somebody typed `kill`.
            longest_row = (longest_row / 2).max(LEAST_BUDGET);
        }
        // Memory is the likeliest reason of any death without a farewell, so the next child has half of it.
        budget = (budget / 2).max(LEAST_BUDGET);
        let how = end.describe();
        let next_budget = (deaths <= MOST_RESTARTS && !signals.stopping).then_some(budget);
        told(&Death {
            how: how.clone(),
            number: deaths,
            next_budget,
        });
        if signals.stopping {
            return Ok(Watched::Interrupted);
        }
        if next_budget.is_none() {
            return Ok(Watched::GaveUp { deaths, how });
        }
    }
}

fn start(arguments: &[OsString], budget: u64, longest_row: u64) -> std::io::Result<Child> {
    // The running program, even if its file was replaced meanwhile.
    let itself = Path::new("/proc/self/exe");
    let program = if itself.exists() {
        itself.to_owned()
    } else {
        std::env::current_exe()?
    };
    Command::new(program)
        .arg0("rekindle")
        .args(arguments)
        .arg("--in-flight-bytes")
        .arg(budget.to_string())
        .arg("--longest-row-bytes")
        .arg(longest_row.to_string())
        .env(CHILD_VARIABLE, std::process::id().to_string())
        .stdin(Stdio::piped())
        .spawn()
}

/// The signals that ask to stop, listened to for as long as the parent lives.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    ended: Signal,
    /// Whether one of them came.
    stopping: bool,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            ended: signal(SignalKind::child())?,
            stopping: false,
        })
    }

    /// Waits for the child, handing each signal on as one byte. The terminal sends its signals to the child as well,
    /// which takes the two for one.
    async fn wait(&mut self, child: &mut Child) -> std::io::Result<ExitStatus> {
        let mut pipe = child.stdin.take();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            tokio::select! {
                _ = self.interrupt.recv() => self.stop(pipe.as_mut()),
                _ = self.terminate.recv() => self.stop(pipe.as_mut()),
                _ = self.hang_up.recv() => self.stop(pipe.as_mut()),
                _ = self.ended.recv() => {}
            }
        }
    }

    fn stop(&mut self, pipe: Option<&mut std::process::ChildStdin>) {
        self.stopping = true;
        if let Some(pipe) = pipe {
            // A child that is gone needs no stop.
            pipe.write_all(&[STOP_BYTE]).ok();
        }
    }
}

/// Returns how the child died; `None` when it ended by itself.
fn death(status: ExitStatus, killed_for_memory: impl Fn() -> bool) -> Option<AttemptEnd> {
    if let Some(number) = status.signal() {
        return Some(if number == 9 && proven(killed_for_memory) {
            AttemptEnd::KilledForMemory
        } else {
            AttemptEnd::Signal { number }
        });
    }
    let code = status.code()?;
    (!Exit::ALL.iter().any(|exit| i32::from(exit.code()) == code))
        .then_some(AttemptEnd::Crashed { code })
}

/// The kernel counts a kill a moment after the process is gone.
fn proven(killed_for_memory: impl Fn() -> bool) -> bool {
    for _ in 0..10 {
        if killed_for_memory() {
            return true;
        }
        thread::sleep(Duration::from_millis(5));
    }
    false
}

/// Journals how the attempt ended, if the child had begun one. A journal that cannot be opened is the next child's to
/// complain about. Returns the process id of that attempt.
async fn record(state_path: &Path, end: &AttemptEnd) -> Option<u32> {
    if !state_path.exists() {
        return None;
    }
    let Ok((journal, ledger, _)) = Journal::open(state_path, OpenMode::Normal) else {
        return None;
    };
    let mut runs = ledger.runs.iter().rev();
    let open = runs.find_map(|run| Some((run, run.open_attempt()?.pid)));
    if let Some((run, _)) = open {
        let event = Event::AttemptEnded {
            run: run.id.clone(),
            end: end.clone(),
        };
        if let Err(error) = journal.record(vec![event]).await {
            tracing::warn!(%error, "the death of the working process could not be journaled");
        }
    }
    journal.close().await.ok();
    open.map(|(_, pid)| pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(raw: i32) -> ExitStatus {
        ExitStatus::from_raw(raw)
    }

    #[test]
    fn only_a_counted_kill_is_called_a_memory_kill() {
        assert_eq!(death(status(9), || true), Some(AttemptEnd::KilledForMemory));
        assert_eq!(
            death(status(9), || false),
            Some(AttemptEnd::Signal { number: 9 })
        );
        assert_eq!(
            death(status(11), || true),
            Some(AttemptEnd::Signal { number: 11 })
        );
    }

    #[test]
    fn orderly_exit_codes_are_no_deaths() {
        for code in [0, 2, 3, 4, 5, 6, 7, 130] {
            assert_eq!(death(status(code << 8), || true), None, "{code}");
        }
        assert_eq!(
            death(status(101 << 8), || false),
            Some(AttemptEnd::Crashed { code: 101 })
        );
    }
}
