//! Runs the program with every system call of every thread watched, and strikes at the n-th of one kind.
//!
//! `strace -f -e inject=CALL:signal=KILL:when=N` counts for each thread by itself: the N-th call of the busiest thread
//! is all it ever reaches. The calls of one small run were spread over five threads (53 `write`: 26, 14, 8, 3, 2), and
//! a runtime that moves its work to another thread for each blocking call spreads them differently every time. Here
//! one counter serves the whole process, so n = 1, 2, 3, ... reaches every call, whichever thread makes it. The
//! process runs as ever otherwise: all its threads, nothing switched off.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    libc,
    sys::{
        ptrace::{self, Options},
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// What a call is about, in its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    /// The file or socket that the first argument names.
    Descriptor,
    /// The path in this argument.
    Path(usize),
    /// The path in the second argument, if the call creates it.
    Created,
}

/// A kind of call.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// As strace calls it.
    pub name: &'static str,
    calls: &'static [(libc::c_long, About)],
}

macro_rules! kinds {
    ($($name:literal: $($call:ident $about:expr),+;)+) => {
        /// Every kind of call that can change something outside of the process, and those that wait for an answer.
        pub static KINDS: &[Kind] = &[$(Kind { name: $name, calls: &[$((libc::$call, $about)),+] }),+];
    };
}

kinds! {
    "write": SYS_write About::Descriptor;
    "writev": SYS_writev About::Descriptor;
    "pwrite64": SYS_pwrite64 About::Descriptor;
    "pwritev": SYS_pwritev About::Descriptor, SYS_pwritev2 About::Descriptor;
    "fsync": SYS_fsync About::Descriptor;
    "fdatasync": SYS_fdatasync About::Descriptor;
    "ftruncate": SYS_ftruncate About::Descriptor;
    "fallocate": SYS_fallocate About::Descriptor;
    "creating open": SYS_openat About::Created;
    "mkdir": SYS_mkdir About::Path(0), SYS_mkdirat About::Path(1);
    "chmod": SYS_chmod About::Path(0), SYS_fchmod About::Descriptor, SYS_fchmodat About::Path(1);
    "rename": SYS_rename About::Path(0), SYS_renameat About::Path(1), SYS_renameat2 About::Path(1);
    "unlink": SYS_unlink About::Path(0), SYS_unlinkat About::Path(1);
    "connect": SYS_connect About::Descriptor;
    "sendto": SYS_sendto About::Descriptor;
    "sendmsg": SYS_sendmsg About::Descriptor;
    "recvfrom": SYS_recvfrom About::Descriptor;
    "recvmsg": SYS_recvmsg About::Descriptor;
}

/// Returns the kind called `name`.
pub fn kind(name: &str) -> &'static Kind {
    KINDS
        .iter()
        .find(|kind| kind.name == name)
        .unwrap_or_else(|| panic!("no kind of call is named {name}"))
}

/// Where a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Anywhere that others can see: a file in the folder of the run, or a socket.
    Anywhere,
    /// The state file and what lies beside it.
    State,
    /// The files of the target.
    Out,
    /// A socket.
    Socket,
}

/// Calls that are counted.
#[derive(Debug, Clone, Copy)]
pub struct Watch {
    /// What kind.
    pub kind: &'static Kind,
    /// Going where.
    pub place: Place,
}

/// What happens to the n-th call of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// The process is killed as the call begins: the call does nothing.
    Kill,
    /// The call does nothing and fails.
    Fail(Errno),
    /// So does every one after it: a full disk stays full.
    FailFromThere(Errno),
}

/// The call to strike at: the `nth` of the watch with number `watch`.
#[derive(Debug, Clone, Copy)]
pub struct Strike {
    /// Which of the watches.
    pub watch: usize,
    /// Which of its calls, from 1.
    pub nth: u64,
    /// What happens.
    pub blow: Blow,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// It did not within the limit, and was killed.
    Hung,
}

/// What was seen of a run.
#[derive(Debug)]
pub struct Traced {
    /// How it ended.
    pub end: End,
    /// How many calls there were for each watch.
    pub counts: Vec<u64>,
    /// What the call was about that was struck.
    pub struck: Option<String>,
}

/// Longer than any run takes on a machine that has hardly any time for it; a process that takes longer waits for something
/// that never comes. A minute was not enough for all loops at the lowest priority beside other people's builds.
pub const LIMIT: Duration = Duration::from_mins(5);

/// Runs `program` in `folder` to its end with its calls counted, and strikes.
///
/// # Errors
///
/// Where this process may not trace another.
pub fn trace(
    program: &Path,
    arguments: &[&OsStr],
    environment: &[(&str, String)],
    folder: &Path,
    watches: &[Watch],
    strike: Option<Strike>,
) -> io::Result<Traced> {
    // The shell waits for us and then becomes the program: stopping before the first call needs no unsafe code.
    let child = Command::new("sh")
        .args(["-c", "kill -STOP $$; exec \"$0\" \"$@\""])
        .arg(program)
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (*name, value)))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(File::create(folder.join("stdout"))?)
        .stderr(File::create(folder.join("stderr"))?)
        .spawn()?;
    let leader = Pid::from_raw(child.id().cast_signed());
    waitpid(leader, Some(WaitPidFlag::WUNTRACED))?;
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    let seized = ptrace::seize(leader, options);
    kill(leader, Signal::SIGCONT)?;
    if let Err(error) = seized {
        kill(leader, Signal::SIGKILL)?;
        waitpid(leader, None)?;
        return Err(error.into());
    }
    let watchdog = Watchdog::over(leader);
    let mut traced = Tracer {
        leader,
        folder,
        watches,
        strike,
        counts: vec![0; watches.len()],
        struck: None,
        failing: HashMap::new(),
        // Not the shell's calls.
        counting: false,
    }
    .follow()?;
    if watchdog.has_bitten() {
        traced.end = End::Hung;
    }
    Ok(traced)
}

/// Kills a process that goes on for too long.
pub struct Watchdog {
    calm: mpsc::Sender<()>,
    thread: thread::JoinHandle<bool>,
}

impl Watchdog {
    /// Watches `process`, which the caller waits for.
    pub fn over(process: Pid) -> Self {
        let (calm, alarm) = mpsc::channel();
        let thread = thread::spawn(move || {
            let hung = alarm.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout);
            // It may have ended in this very moment.
            hung && kill(process, Signal::SIGKILL).is_ok()
        });
        Self { calm, thread }
    }

    /// Calls the watchdog off. Returns whether it killed the process.
    pub fn has_bitten(self) -> bool {
        drop(self.calm);
        self.thread.join().expect("a watchdog does not panic")
    }
}

struct Tracer<'a> {
    leader: Pid,
    folder: &'a Path,
    watches: &'a [Watch],
    strike: Option<Strike>,
    counts: Vec<u64>,
    struck: Option<String>,
    /// Threads in a call that was struck, and what it is to return.
    failing: HashMap<Pid, Errno>,
    counting: bool,
}

impl Tracer<'_> {
    fn follow(mut self) -> io::Result<Traced> {
        // Only what this thread traces: others of the test trace theirs.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            let (thread, signal) = match waitpid(Pid::from_raw(-1), Some(flags)) {
                // The first thread's end is reported last.
                Ok(WaitStatus::Exited(thread, code)) if thread == self.leader => {
                    return Ok(self.ended(End::Code(code)));
                }
                Ok(WaitStatus::Signaled(thread, signal, _)) if thread == self.leader => {
                    return Ok(self.ended(End::Signal(signal as i32)));
                }
                Ok(WaitStatus::PtraceSyscall(thread)) => {
                    match self.call(thread) {
                        // It was killed while we looked.
                        Ok(()) | Err(Errno::ESRCH) => {}
                        Err(error) => return Err(error.into()),
                    }
                    (thread, None)
                }
                Ok(WaitStatus::PtraceEvent(thread, _, event)) => {
                    self.counting |= event == libc::PTRACE_EVENT_EXEC;
                    (thread, None)
                }
                Ok(WaitStatus::Stopped(thread, signal)) => (thread, Some(signal)),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            match ptrace::syscall(thread, signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn ended(self, end: End) -> Traced {
        Traced {
            end,
            counts: self.counts,
            struck: self.struck,
        }
    }

    /// A call of `thread` begins or ends.
    fn call(&mut self, thread: Pid) -> nix::Result<()> {
        if ptrace::syscall_info(thread)?.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
            if let Some(error) = self.failing.remove(&thread) {
                let mut registers = ptrace::getregs(thread)?;
                registers.rax = (-i64::from(error as i32)).cast_unsigned();
                ptrace::setregs(thread, registers)?;
            }
            return Ok(());
        }
        if !self.counting {
            return Ok(());
        }
        let mut registers = ptrace::getregs(thread)?;
        let number = registers.orig_rax.cast_signed();
        let Some((kind, about)) = KINDS.iter().find_map(|kind| {
            let found = kind.calls.iter().find(|(call, _)| *call == number)?;
            Some((kind, found.1))
        }) else {
            return Ok(());
        };
        let arguments = [registers.rdi, registers.rsi, registers.rdx];
        let Some((path, place)) = self.path(about, arguments) else {
            return Ok(());
        };
        for (index, watch) in self.watches.iter().enumerate() {
            if watch.kind != kind || (watch.place != Place::Anywhere && watch.place != place) {
                continue;
            }
            self.counts[index] += 1;
            let Some(strike) = self.strike else { continue };
            let count = self.counts[index];
            let lasts = matches!(strike.blow, Blow::FailFromThere(_));
            if strike.watch != index || strike.nth > count || (strike.nth < count && !lasts) {
                continue;
            }
            self.struck
                .get_or_insert_with(|| format!("{} {}", kind.name, path.display()));
            match strike.blow {
                Blow::Kill => kill(self.leader, Signal::SIGKILL)?,
                Blow::Fail(error) | Blow::FailFromThere(error) => {
                    // No call has this number, so the kernel does nothing.
                    registers.orig_rax = u64::MAX;
                    ptrace::setregs(thread, registers)?;
                    self.failing.insert(thread, error);
                }
            }
        }
        Ok(())
    }

    /// Returns what a call is about; `None` for what nobody else can see (wake-ups between threads, what is only
    /// read), which would also differ in number from run to run.
    fn path(&self, about: About, arguments: [u64; 3]) -> Option<(PathBuf, Place)> {
        let path = match about {
            About::Descriptor => {
                let link = format!("/proc/{}/fd/{}", self.leader, arguments[0].cast_signed());
                let path = std::fs::read_link(link).ok()?;
                if path.as_os_str().as_encoded_bytes().starts_with(b"socket:") {
                    return Some((path, Place::Socket));
                }
                path
            }
            About::Path(index) => self.folder.join(self.text(arguments[index])?),
            About::Created => {
                if arguments[2] & u64::from(libc::O_CREAT.cast_unsigned()) == 0 {
                    return None;
                }
                self.folder.join(self.text(arguments[1])?)
            }
        };
        let inside = path.strip_prefix(self.folder).ok()?.to_owned();
        let place = match inside.iter().next().and_then(OsStr::to_str) {
            Some("state") => Place::State,
            Some("out") => Place::Out,
            _ => Place::Anywhere,
        };
        Some((inside, place))
    }

    /// Reads a text of the traced process.
    fn text(&self, address: u64) -> Option<String> {
        let memory = File::open(format!("/proc/{}/mem", self.leader)).ok()?;
        let mut bytes = [0; 512];
        // Fewer bytes where the mapping ends.
        let count = memory.read_at(&mut bytes, address).ok()?;
        let text = bytes[..count].split(|byte| *byte == 0).next()?;
        Some(String::from_utf8_lossy(text).into_owned())
    }
}
