//! What an error looks like, and whether there are colours.

use std::io::{IsTerminal, Write};

use tracing_subscriber::EnvFilter;

use super::{
    args::{ColorWhen, Global, LogFormat},
    wrap::say_wrapped,
};
use crate::{
    engine::Uncovered,
    failure::{Exit, Failure},
    plan::Look,
    report::{
        human::{counted, printable},
        wrapped,
    },
};

/// The person's terminal, or the pipe in its place.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    /// Colours on stderr.
    pub color: bool,
    /// `--json`.
    pub json: bool,
    /// Whether bars may be drawn.
    pub bars: bool,
}

impl Screen {
    /// Returns the screen as the arguments and the environment want it.
    pub fn new(global: &Global) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let color = match global.color {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => {
                terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        };
        Self {
            color,
            json: global.json,
            bars: terminal && !global.no_progress && !global.json,
        }
    }

    /// Returns how plan problems are drawn.
    pub fn look(self) -> Look {
        if std::io::stderr().is_terminal() {
            Look::Graphical { color: self.color }
        } else {
            Look::Plain
        }
    }

    /// Returns the columns of the terminal, or 100 where there is none.
    pub fn width() -> usize {
        rustix::termios::tcgetwinsize(std::io::stderr())
            .map_or(100, |size| usize::from(size.ws_col).max(40))
    }

    /// Starts logging to stderr.
    pub fn start_log(self, global: &Global) -> Result<(), Failure> {
        let filter = EnvFilter::try_new(&global.log).map_err(|error| {
            Failure::new(
                Exit::Usage,
                format!("`--log {}` is no log level", printable(&global.log)),
                "nothing was done",
                "use error, warn, info, debug or trace",
            )
            .because(&error)
        })?;
        // It logs messages that come back, and what is in them is a row's value.
        let filter = match "lapin=off".parse() {
            Ok(silent) => filter.add_directive(silent),
            Err(_) => filter,
        };
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .log_internal_errors(false)
            .with_writer(std::io::stderr)
            .with_ansi(self.color);
        match global.log_format {
            LogFormat::Text => log.with_target(false).init(),
            LogFormat::Json => log.json().init(),
        }
        Ok(())
    }

    /// Prints a failure to stderr in its four parts (with `--json`, as one object to stdout) and returns its exit code.
    pub fn fail(self, failure: &Failure) -> u8 {
        if self.json {
            let object = serde_json::json!({
                "error": failure.what, "cause": failure.why, "safe": failure.safe, "next": failure.next,
                "exit": failure.exit.code(),
            });
            say(&object.to_string());
            return failure.exit.code();
        }
        let mut text = format!(
            "{} {}\n",
            self.paint("error:", "1;31"),
            printable(&failure.what)
        );
        for reason in &failure.why {
            text += &format!("  {} {}\n", self.paint("cause:", "1"), printable(reason));
        }
        text += &format!(
            "  {}  {}\n",
            self.paint("safe:", "1;32"),
            printable(&failure.safe)
        );
        let next = format!(
            "  {}  {}\n",
            self.paint("next:", "1;36"),
            printable(&failure.next)
        );
        // stderr may be closed; then there is nobody left to tell.
        complain_wrapped((text + &next).trim_end());
        failure.exit.code()
    }

    /// Prints a warning about what the command found, between its results.
    pub fn warn(self, warning: &str) {
        say_wrapped(&format!(
            "  {} {}",
            self.paint("warning:", "1;33"),
            printable(warning)
        ));
    }

    /// Returns `text` in the given SGR style where there are colours.
    pub fn paint(self, text: &str, style: &str) -> String {
        if self.color {
            format!("\u{1b}[{style}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Returns the reason for which `--strict` refuses a plan with so many warnings.
pub fn strict(warnings: usize) -> String {
    match warnings {
        1 => "1 warning counts as an error with `--strict`".to_owned(),
        warnings => format!("{warnings} warnings count as errors with `--strict`"),
    }
}

/// Returns tables that no resource covers: `[{"table": "spy_card_storage", "rows": 1200}]`.
pub fn uncovered(tables: &[Uncovered]) -> serde_json::Value {
    let tables = tables
        .iter()
        .map(|one| serde_json::json!({ "table": one.table, "rows": one.rows }));
    tables.collect()
}

/// Returns what a person is told of tables that the plan ignores; `None` where there are none.
pub fn ignored(tables: &[Uncovered]) -> Option<String> {
    let named: Vec<_> = tables
        .iter()
        .map(|one| {
            format!(
                "`{}` (about {})",
                printable(&one.table),
                counted(one.rows, "row")
            )
        })
        .collect();
    (!named.is_empty()).then(|| format!("ignored by the plan: {}", named.join(", ")))
}

/// Prints one line to stdout. A reader that went away is no error.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints lines to stderr; one that is longer than the terminal goes on below, set in. In a pipe a line stays one.
pub fn complain_wrapped(text: &str) {
    // A terminal that does not know its width is none that breaks lines.
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    let size = size.ok().filter(|size| size.ws_col > 0);
    complain(&wrapped(text, size.map(|_| Screen::width())));
}

/// Prints one line to stderr. Nobody there to read it is no error.
pub fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
