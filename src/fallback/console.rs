//! The shop's console: a program that is started for each call, in a process group of its own.

use std::{ffi::OsStr, path::PathBuf, process::ExitStatus, time::Duration};

use async_trait::async_trait;
use rustix::fs::{Access, access};
use tokio::process::Command;

use super::{Call, Publisher, heading, said::last_line};
use crate::{
    error::{EdgeError, ErrorKind},
    plan::ConsoleConfig,
    process::{self, Ran, Redacted, Trouble, log},
};

/// Most bytes of ids in one argument: Linux takes 128 KiB, and a shell in between may double some of it.
const ARGUMENT_BYTES: usize = 60 * 1024;

/// Texts of commands that failed, and what they mean; the first that is found counts.
const KNOWN: &[(&str, ErrorKind, &str)] = &[
    (
        "allowed memory size of",
        ErrorKind::Failed,
        "PHP ran out of memory",
    ),
    (
        "permission denied (publickey",
        ErrorKind::Credentials,
        "ssh was not let in",
    ),
    (
        "host key verification failed",
        ErrorKind::Credentials,
        "ssh does not know the host's key",
    ),
    (
        "could not resolve hostname",
        ErrorKind::Missing,
        "the host name is not known",
    ),
    (
        "connection refused",
        ErrorKind::Connection,
        "a connection was refused",
    ),
    (
        "connection timed out",
        ErrorKind::Connection,
        "a connection timed out",
    ),
    (
        "connection reset",
        ErrorKind::Connection,
        "a connection was reset",
    ),
    (
        "server has gone away",
        ErrorKind::Connection,
        "its database closed the connection",
    ),
    (
        "lost connection to",
        ErrorKind::Connection,
        "its database closed the connection",
    ),
    (
        "the database system is",
        ErrorKind::Busy,
        "its database starts or stops",
    ),
    (
        "too many connections",
        ErrorKind::Busy,
        "its database has too many connections",
    ),
    (
        "lock wait timeout",
        ErrorKind::Busy,
        "its database was locked",
    ),
    ("deadlock found", ErrorKind::Busy, "its database was locked"),
    (
        "access denied for user",
        ErrorKind::Credentials,
        "its database did not let it in",
    ),
    (
        "access_refused",
        ErrorKind::Credentials,
        "its queue did not let it in",
    ),
    (
        "unknown database",
        ErrorKind::Missing,
        "its database is not there",
    ),
    (
        "base table or view not found",
        ErrorKind::Missing,
        "a table of the shop is not there",
    ),
    (
        "not_found - no ",
        ErrorKind::Missing,
        "a queue of the shop is not there",
    ),
    (
        "not_allowed - ",
        ErrorKind::Missing,
        "the queue's virtual host is not there",
    ),
    (
        "no such container",
        ErrorKind::Missing,
        "the container is not there",
    ),
    (
        "is not running",
        ErrorKind::Connection,
        "the container does not run",
    ),
    (
        "could not open input file",
        ErrorKind::Missing,
        "PHP did not find the console",
    ),
    (
        "command not found",
        ErrorKind::Missing,
        "the program was not found",
    ),
    (
        "is not defined",
        ErrorKind::Missing,
        "the console does not know the command",
    ),
    (
        "no commands defined",
        ErrorKind::Missing,
        "the console does not know the command",
    ),
    (
        "option does not exist",
        ErrorKind::Missing,
        "the console does not know the option",
    ),
    (
        "there is no resource with the name",
        ErrorKind::Missing,
        "the console does not know the resource",
    ),
    (
        "no resource",
        ErrorKind::Missing,
        "the console does not know the resource",
    ),
];

/// Returns why the program of `config` cannot be started here, `None` where it can. What a prefix like `ssh` starts elsewhere
/// is not asked.
pub(super) fn unstartable(config: &ConsoleConfig) -> Option<String> {
    let program = config.command.first()?;
    let paths: Vec<PathBuf> = if program.contains('/') {
        vec![program.into()]
    } else {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&folders)
            .map(|folder| folder.join(program))
            .collect()
    };
    let may_run = |path: &&PathBuf| path.is_file() && access(*path, Access::EXEC_OK).is_ok();
    if paths.iter().any(|path| may_run(&path)) {
        return None;
    }
    let why = if paths.iter().any(|path| path.is_file()) {
        "this user may not execute it"
    } else if program.contains('/') {
        "there is no such file, as seen from the working folder"
    } else {
        "no folder of `PATH` has it"
    };
    // As typed: a variable in it may hold anything.
    let typed = config.typed.first().unwrap_or(program);
    Some(format!(
        "`console.command`: `{typed}` cannot be started: {why}"
    ))
}

/// Calls `publish:trigger-events`, or `sync:data`.
pub(super) struct ConsolePublisher {
    command: Vec<String>,
    typed: Vec<String>,
    asked: Call,
    within: Duration,
    output: PathBuf,
    redacted: Redacted,
    place: String,
}

impl ConsolePublisher {
    pub(super) fn new(
        config: &ConsoleConfig,
        asked: Call,
        output: PathBuf,
        redacted: Redacted,
    ) -> Self {
        // The last word is the console itself; what comes before may hold options with tokens in them.
        let shown = config.typed.last().map_or("", String::as_str);
        Self {
            place: format!("console `{shown}`"),
            command: config.command.clone(),
            typed: config.typed.clone(),
            asked,
            within: config.within,
            output,
            redacted,
        }
    }

    fn arguments(&self, ids: &[String]) -> Vec<String> {
        self.after(&self.command[1..], ids)
    }

    fn after(&self, first: &[String], ids: &[String]) -> Vec<String> {
        let mut arguments = first.to_vec();
        arguments.extend(self.asked.words(ids));
        arguments
    }

    fn not_started(&self, error: std::io::Error) -> EdgeError {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::Missing,
            std::io::ErrorKind::PermissionDenied => ErrorKind::Credentials,
            std::io::ErrorKind::ArgumentListTooLong => ErrorKind::Refused,
            _ => ErrorKind::Busy,
        };
        EdgeError::new(kind, format!("{} cannot be started", self.place)).because(error)
    }

    fn judge(&self, status: ExitStatus, output: &str) -> Result<(), EdgeError> {
        if status.success() {
            return Ok(());
        }
        let ended = status.code().map_or_else(
            || "was killed by a signal".to_owned(),
            |code| format!("ended with exit code {code}"),
        );
        let (kind, why) = meaning(status.code(), output);
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        let said = last_line(output)
            .map(|line| format!("; its last line: {line}"))
            .unwrap_or_default();
        Err(EdgeError::new(
            kind,
            format!(
                "{} {ended}{why}{said} (its output is in {})",
                self.place,
                self.output.display()
            ),
        ))
    }
}

/// Returns the line above what a call printed.
fn heading_of(ids: &[String], ended: &Result<ExitStatus, Trouble>) -> String {
    let of = match ids {
        [] => "all of it".to_owned(),
        [one] => format!("1 id, the first {one}"),
        [first, ..] => format!("{} ids, the first {first}", ids.len()),
    };
    let how = match ended {
        Ok(status) => status.to_string(),
        Err(Trouble::NotStarted(_)) => "not started".to_owned(),
        Err(Trouble::LostSight(_)) => "lost sight of".to_owned(),
        Err(Trouble::TimedOut) => "killed after its time was over".to_owned(),
    };
    heading(&of, &how)
}

/// Returns what the end of a command means, by its exit code and by what it printed.
fn meaning(code: Option<i32>, output: &str) -> (ErrorKind, Option<&'static str>) {
    let output = output.to_lowercase();
    for (text, kind, why) in KNOWN {
        if output.contains(text) {
            return (*kind, Some(why));
        }
    }
    match code {
        // What shells and `env` use.
        Some(126) => (ErrorKind::Credentials, Some("the program may not be run")),
        Some(127) => (ErrorKind::Missing, Some("the program was not found")),
        // ssh's own trouble, mostly the network's; but a PHP that dies of an error ends so, too.
        Some(255) if !output.contains("php fatal error") && !output.contains("uncaught") => {
            (ErrorKind::Connection, None)
        }
        // A bug in the shop's code looks like this, and so does a moment of bad luck.
        _ => (ErrorKind::Failed, None),
    }
}

#[async_trait]
impl Publisher for ConsolePublisher {
    fn place(&self) -> &str {
        &self.place
    }

    async fn call(&self, ids: &[String]) -> Result<(), EdgeError> {
        Call::check(ids, &self.place)?;
        if ids.is_empty() {
            return self.call_once(ids).await;
        }
        for part in arguments_long(ids) {
            self.call_once(part).await?;
        }
        Ok(())
    }

    fn shown(&self, ids: &[String]) -> String {
        self.after(&self.typed, ids).join(" ")
    }
}

impl ConsolePublisher {
    async fn call_once(&self, ids: &[String]) -> Result<(), EdgeError> {
        let mut command = Command::new(&self.command[0]);
        command.args(self.arguments(ids).iter().map(OsStr::new));
        let Ran { ended, output } = process::run(command, self.within, &self.redacted).await;
        if !matches!(ended, Err(Trouble::NotStarted(_)))
            && let Err(error) = log(&self.output, &heading_of(ids, &ended), &output)
        {
            tracing::warn!(%error, path = %self.output.display(), "the output of the publisher is not kept");
        }
        match ended {
            Ok(status) => self.judge(status, &output),
            Err(Trouble::NotStarted(error)) => Err(self.not_started(error)),
            Err(Trouble::LostSight(error)) => Err(EdgeError::new(
                ErrorKind::Busy,
                format!("{} was lost sight of", self.place),
            )
            .because(error)),
            Err(Trouble::TimedOut) => Err(EdgeError::new(
                ErrorKind::Timeout,
                format!(
                    "{} did not end within {} s and was killed (its output is in {})",
                    self.place,
                    self.within.as_secs_f64(),
                    self.output.display()
                ),
            )),
        }
    }
}

/// Cuts ids into parts that fit one argument each.
fn arguments_long(ids: &[String]) -> impl Iterator<Item = &[String]> {
    let mut rest = ids;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |id: &&String| {
            bytes += id.len() + 1;
            bytes <= ARGUMENT_BYTES
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (part, left) = rest.split_at_checked(count)?;
        rest = left;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publisher(folder: &std::path::Path, script: &str, within: Duration) -> ConsolePublisher {
        let config = ConsoleConfig {
            command: ["sh", "-c", script, "console"].map(str::to_owned).to_vec(),
            typed: ["sh", "-c", "${SCRIPT}", "console"]
                .map(str::to_owned)
                .to_vec(),
            within,
        };
        ConsolePublisher::new(
            &config,
            Call::Trigger("url".to_owned()),
            folder.join("log"),
            Redacted::default(),
        )
    }

    fn ids() -> Vec<String> {
        ["1", "2", "30"].map(str::to_owned).to_vec()
    }

    #[test]
    fn what_variables_stand_for_is_not_shown() {
        let config = ConsoleConfig {
            command: ["env", "TOKEN=hunter2", "console", "--pw=hunter2"]
                .map(str::to_owned)
                .to_vec(),
            typed: ["env", "TOKEN=${T}", "console", "--pw=${P}"]
                .map(str::to_owned)
                .to_vec(),
            within: Duration::from_mins(1),
        };
        let console = ConsolePublisher::new(
            &config,
            Call::Trigger("url".to_owned()),
            "log".into(),
            Redacted::default(),
        );
        assert_eq!(console.place(), "console `--pw=${P}`");
        assert_eq!(
            console.shown(&ids()),
            "env TOKEN=${T} console --pw=${P} publish:trigger-events -r url -i 1,2,30"
        );
    }

    #[tokio::test]
    async fn the_console_gets_its_arguments_and_its_output_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let console = publisher(
            folder.path(),
            "echo \"$@\"; echo err >&2",
            Duration::from_mins(1),
        );
        console.call(&ids()).await.unwrap();
        let output = std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert!(
            output.contains("publish:trigger-events -r url -i 1,2,30\n")
                && output.contains("err\n"),
            "{output}"
        );
    }

    #[tokio::test]
    async fn long_lists_are_cut_and_ids_that_mean_something_to_a_shell_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let calls = folder.path().join("calls");
        let script = format!("echo $5 >> {}", calls.display());
        let console = publisher(folder.path(), &script, Duration::from_mins(1));
        let ids: Vec<String> = (0..500).map(|id| format!("{id:0255}")).collect();
        console.call(&ids).await.unwrap();
        let text = std::fs::read_to_string(&calls).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.len() <= ARGUMENT_BYTES));
        assert_eq!(lines.join(","), ids.join(","));
        for wrong in ["1;reboot", "$(id)", "", "-r", "1,2", "a b"] {
            let refused = console.call(&[wrong.to_owned()]).await.unwrap_err();
            assert_eq!(refused.kind, ErrorKind::Refused, "{wrong}");
        }
        assert_eq!(std::fs::read_to_string(&calls).unwrap(), text);
    }

    #[tokio::test]
    async fn exit_codes_and_known_texts_tell_what_passes_from_what_does_not() {
        let folder = tempfile::tempdir().unwrap();
        for (script, kind) in [
            ("exit 1", ErrorKind::Failed),
            ("exit 127", ErrorKind::Missing),
            ("exit 255", ErrorKind::Connection),
            (
                "echo 'PHP Fatal error:  Uncaught Error: Class \"X\" not found'; exit 255",
                ErrorKind::Failed,
            ),
            ("kill -9 $$", ErrorKind::Failed),
            (
                "echo 'SQLSTATE[HY000] [2006] MySQL server has gone away'; exit 1",
                ErrorKind::Connection,
            ),
            (
                "echo 'NOT_FOUND - no queue publish.url in vhost de'; exit 1",
                ErrorKind::Missing,
            ),
            (
                "echo 'The \"-i\" option does not exist.'; exit 1",
                ErrorKind::Missing,
            ),
            (
                "echo 'Could not open input file: vendor/bin/console'; exit 1",
                ErrorKind::Missing,
            ),
            (
                "echo 'deploy@cli: Permission denied (publickey).' >&2; exit 255",
                ErrorKind::Credentials,
            ),
        ] {
            let console = publisher(folder.path(), script, Duration::from_mins(1));
            assert_eq!(
                console.call(&ids()).await.unwrap_err().kind,
                kind,
                "{script}"
            );
        }
        let console = publisher(
            folder.path(),
            "echo 'Could not build product 17' >&2; exit 1",
            Duration::from_mins(1),
        );
        let failed = console.call(&ids()).await.unwrap_err();
        assert!(
            failed
                .message
                .contains("ended with exit code 1; its last line: Could not build product 17 (its output is in "),
            "{failed}"
        );
        let mut console = publisher(folder.path(), "", Duration::from_mins(1));
        console.command[0] = "/nowhere/console".to_owned();
        assert_eq!(
            console.call(&ids()).await.unwrap_err().kind,
            ErrorKind::Missing
        );
    }

    #[tokio::test]
    async fn a_console_that_hangs_is_killed_with_whatever_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let script = "sleep 600 & echo $! > \"$0.pid\"; wait";
        let mut console = publisher(folder.path(), script, Duration::from_millis(300));
        let pid_file = folder.path().join("x.pid");
        console.command[3] = folder.path().join("x").display().to_string();
        assert_eq!(
            console.call(&ids()).await.unwrap_err().kind,
            ErrorKind::Timeout
        );
        let pid = std::fs::read_to_string(pid_file).unwrap();
        let gone = || {
            // A zombie, or nothing at all.
            std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
                .map_or(true, |stat| stat.contains(") Z "))
        };
        let begun = std::time::Instant::now();
        while !gone() {
            assert!(begun.elapsed() < Duration::from_secs(10), "it lives on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
