//! Problems of a plan between the lines of a command's results, where there is no room to draw each with its part of the file.

use super::{render::Screen, wrap::say_wrapped};
use crate::{
    plan::{Diagnostic, PlanText, Severity},
    report::human::{counted, printable},
};

/// Prints one line for each problem, with its place, and the hint below the last of those that it is the hint of.
pub fn tell(text: &PlanText, problems: &[Diagnostic], screen: Screen) {
    for (i, problem) in problems.iter().enumerate() {
        let style = match problem.severity {
            Severity::Error => "1;31",
            Severity::Warning => "1;33",
        };
        let word = format!("{}:", problem.severity.label());
        say_wrapped(&format!(
            "  {} {}{}",
            screen.paint(&word, style),
            printable(&problem.message),
            place(text, problem)
        ));
        let is_last = problems
            .get(i + 1)
            .is_none_or(|next| (next.code, &next.help) != (problem.code, &problem.help));
        if is_last {
            let help = problem.help.as_deref().unwrap_or("see `rekindle explain`");
            say_wrapped(&format!("    help: {} ({})", printable(help), problem.code));
        }
    }
}

/// Returns ` (plans/shop.yaml:4:9)`, or nothing for a problem without a place.
pub fn place(text: &PlanText, problem: &Diagnostic) -> String {
    let Some(place) = problem.places.first() else {
        return String::new();
    };
    let (line, column) = text.line_and_column(place.span.start);
    format!(" ({}:{line}:{column})", text.path().display())
}

/// Returns the messages of all problems of one severity.
pub fn messages(problems: &[Diagnostic], severity: Severity) -> Vec<String> {
    let of = problems.iter().filter(|one| one.severity == severity);
    of.map(|one| one.message.clone()).collect()
}

/// Returns `2 problems and 1 warning`.
pub fn counts<'p>(problems: impl Iterator<Item = &'p Diagnostic>) -> String {
    let (errors, warnings): (Vec<_>, Vec<_>) =
        problems.partition(|one| one.severity == Severity::Error);
    let errors = counted(errors.len() as u64, "problem");
    match warnings.len() {
        0 => errors,
        warnings => format!("{errors} and {}", counted(warnings as u64, "warning")),
    }
}
