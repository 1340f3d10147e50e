//! `schema`, `completions` and `man`: made from the same definitions as the plan's checks and the help.

use std::io::{self, Write as _};

use clap::CommandFactory as _;

use super::{
    Outcome, Stop,
    args::{Arguments, Completions, Man},
    render::say,
};
use crate::{
    failure::{Exit, Failure},
    plan,
};

/// Prints the JSON Schema of plans.
pub fn schema() -> Exit {
    say(&format!("{:#}", plan::schema()));
    Exit::Done
}

/// Prints completions.
pub fn completions(command: &Completions) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(
        command.shell,
        &mut Arguments::command(),
        "rekindle",
        &mut script,
    );
    print(&script)
}

/// Prints the manual page, or writes one for each command.
pub fn pages(command: &Man) -> Outcome {
    let Some(folder) = &command.folder else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(Arguments::command()).render(&mut page);
        return match rendered {
            Ok(()) => print(&page),
            Err(error) => Err(failed(&error)),
        };
    };
    std::fs::create_dir_all(folder).map_err(|error| failed(&error))?;
    clap_mangen::generate_to(Arguments::command(), folder).map_err(|error| failed(&error))?;
    say(&format!("manual pages are in {}", folder.display()));
    Ok(Exit::Done)
}

/// Prints what a program reads. A reader that goes away early has what it wanted.
fn print(bytes: &[u8]) -> Outcome {
    match io::stdout().write_all(bytes) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(failed(&error)),
        _ => Ok(Exit::Done),
    }
}

fn failed(error: &io::Error) -> Stop {
    Stop::Failed(
        Failure::new(
            Exit::Usage,
            "the manual could not be written",
            "no plan and no run was touched",
            "name a folder that you may write to, or one that you may make",
        )
        .because(error),
    )
}
