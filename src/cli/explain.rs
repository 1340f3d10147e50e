//! `explain`: what the code of a plan's problem means.

use super::{
    Outcome, Stop,
    args::Explain,
    render::{Screen, say},
    table::table,
};
use crate::{
    failure::{Exit, Failure},
    plan::Code,
};

/// Says what a code means, or lists them all.
pub fn explain(command: &Explain, screen: Screen) -> Outcome {
    let Some(typed) = &command.code else {
        list(screen);
        return Ok(Exit::Done);
    };
    let Some(code) = Code::named(typed) else {
        return Err(Stop::Failed(
            Failure::new(
                Exit::Usage,
                "there is nothing to explain",
                "nothing was written",
                "`rekindle explain` lists every code",
            )
            .why(format!("no problem has this code{}", Code::nearest(typed))),
        ));
    };
    let told = code.explanation();
    if screen.json {
        let object = serde_json::json!({
            "code": code.text(), "severity": code.severity().label(), "what": told.what,
            "wrong": told.wrong, "right": told.right,
        });
        say(&object.to_string());
        return Ok(Exit::Done);
    }
    say(&format!(
        "{} ({})\n\n{}",
        code.text(),
        code.severity().label(),
        wrapped(told.what, Screen::width().min(100))
    ));
    for (title, part) in [("with it", told.wrong), ("without it", told.right)] {
        if let Some(part) = part {
            say(&format!("\n{title}:\n\n{}", indented(part)));
        }
    }
    Ok(Exit::Done)
}

fn list(screen: Screen) {
    if screen.json {
        let codes: Vec<_> = Code::ALL
            .iter()
            .map(|code| {
                serde_json::json!({
                    "code": code.text(), "severity": code.severity().label(),
                    "what": code.explanation().what,
                })
            })
            .collect();
        say(&serde_json::Value::from(codes).to_string());
        return;
    }
    let rows: Vec<Vec<String>> = Code::ALL
        .iter()
        .map(|code| {
            let first = code.explanation().what.split(". ").next();
            vec![
                code.text().to_owned(),
                code.severity().label().to_owned(),
                first.unwrap_or_default().trim_end_matches('.').to_owned(),
            ]
        })
        .collect();
    say(&table(&["code", "severity", "what"], &rows, &[]));
}

fn indented(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(|line| format!("    {line}")).collect();
    lines.join("\n")
}

/// Breaks `text` between words into lines of at most `width` characters.
fn wrapped(text: &str, width: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}
