//! One file per command: arguments, wiring, nothing clever.

mod again;
mod approve;
mod args;
mod ask;
mod blocked;
mod connect;
mod consume;
mod dead_letters;
mod doctor;
mod dry_run;
mod explain;
mod history;
mod init;
mod manual;
mod next;
mod pause;
mod problems;
mod renames;
mod render;
mod run;
mod runtime;
mod snapshots;
mod state_files;
mod status;
mod supervision;
mod table;
mod trigger;
mod undo;
mod validate;
mod verify;
mod waiting;
mod wrap;

use clap::{CommandFactory, Parser};

use crate::failure::{Exit, Failure};
use args::{Arguments, Command};
use render::Screen;

/// Runs the command line of this process and returns its exit code.
#[must_use]
pub fn main() -> u8 {
    // Before the first connection: the search client takes the provider of the process.
    crate::tls::install_provider();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version go to stdout and are no errors; a broken pipe is nobody's concern.
            let _ = error.print();
            if error.kind() == clap::error::ErrorKind::MissingRequiredArgument {
                tell_examples();
            }
            return if error.use_stderr() {
                Exit::Usage.code()
            } else {
                Exit::Done.code()
            };
        }
    };
    let screen = Screen::new(&arguments.global);
    if let Err(failure) = screen.start_log(&arguments.global) {
        return screen.fail(&failure);
    }
    let outcome = match arguments.command {
        None => Ok(next::next()),
        Some(Command::Init(command)) => init::init(&command, screen),
        Some(Command::Validate(command)) => validate::validate(&command, &arguments.global, screen),
        Some(Command::Run(command)) => run::run(&command, &arguments.global, screen),
        Some(Command::Resume(command)) => run::resume(&command, &arguments.global, screen),
        Some(Command::Verify(command)) => verify::verify(&command, &arguments.global, screen),
        Some(Command::Doctor(command)) => doctor::doctor(&command, &arguments.global, screen),
        Some(Command::Status(command)) => status::status(&command, &arguments.global, screen),
        Some(Command::Pause(of)) => pause::pause(&of, &arguments.global, screen),
        Some(Command::Unpause(of)) => pause::unpause(&of, &arguments.global, screen),
        Some(Command::Approve(of)) => approve::approve(&of, &arguments.global, screen),
        Some(Command::Undo(command)) => undo::undo(&command, &arguments.global, screen),
        Some(Command::Snapshots(of)) => snapshots::snapshots(&of, screen),
        Some(Command::History(command)) => history::history(&command, &arguments.global, screen),
        Some(Command::Show(command)) => history::show(&command, &arguments.global, screen),
        Some(Command::DeadLetters(command)) => {
            dead_letters::dead_letters(&command, &arguments.global, screen)
        }
        Some(Command::Trigger(command)) => trigger::trigger(&command, &arguments.global, screen),
        Some(Command::Consume(command)) => consume::consume(&command, screen),
        Some(Command::Explain(command)) => explain::explain(&command, screen),
        Some(Command::Schema) => Ok(manual::schema()),
        Some(Command::Completions(command)) => manual::completions(&command),
        Some(Command::Man(command)) => manual::pages(&command),
    };
    match outcome {
        Ok(exit) | Err(Stop::Told(exit)) => exit.code(),
        Err(Stop::Failed(failure)) => screen.fail(&failure),
    }
}

/// What a command returns.
type Outcome = Result<Exit, Stop>;

/// Why a command ends early.
#[derive(Debug)]
enum Stop {
    /// An error in four parts, still to be shown.
    Failed(Failure),
    /// Everything is said.
    Told(Exit),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Prints the examples of the command that was typed: what is missing is best seen in a whole one.
fn tell_examples() {
    let program = Arguments::command();
    let mut words = std::env::args().skip(1);
    let command = words.find_map(|word| program.find_subcommand(word));
    if let Some(examples) = command.and_then(clap::Command::get_after_help) {
        render::complain(&format!("\n{examples}"));
    }
}
