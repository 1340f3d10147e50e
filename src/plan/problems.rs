//! Everything that is wrong with a plan, for people and for machines.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents,
    SourceCode, SourceSpan, SpanContents, ThemeCharacters, ThemeStyles,
};
use serde::Serialize;

use super::{
    diagnostic::{Diagnostic, Severity, Span},
    excerpt::excerpt,
    mask::masked,
};

/// The longest line of a plan that is shown with a problem; beyond it, only line and column are named.
const SHOWN_LINE_BYTES: usize = 400;

/// The most problems that are kept. Nobody reads more, and drawing one costs a walk through the file.
pub(super) const MAX_PROBLEMS: usize = 100;

/// How problems are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// ASCII only, for pipes and logs.
    Plain,
    /// Line drawing for a terminal.
    Graphical {
        /// Whether colours are wanted too.
        color: bool,
    },
}

/// The text of a plan file as it may be shown: passwords in it are stars.
#[derive(Debug, Clone)]
pub struct PlanText {
    path: PathBuf,
    // Shared with every problem that is drawn.
    text: Arc<str>,
}

impl PlanText {
    pub(super) fn new(path: &Path, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: masked(text).into(),
        }
    }

    /// Returns the plan file, as given on the command line.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns line and column of a byte offset, both from 1; columns count characters.
    #[must_use]
    pub fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            + 1;
        (line, column)
    }

    /// Returns `diagnostics` one after the other, each with its lines of the file.
    #[must_use]
    pub fn render(&self, diagnostics: &[Diagnostic], look: Look, width: usize) -> String {
        let handler = handler(look, width);
        let mut rendered = String::new();
        for diagnostic in diagnostics {
            let report = Report::new(diagnostic, self, (look, width));
            // Writing to a string does not fail; a broken span would, and then the bare message has to do.
            let mut one = String::new();
            if handler.render_report(&mut one, &report).is_err() {
                one = format!("{}: {}\n", diagnostic.code, diagnostic.message);
            }
            for line in one.lines() {
                rendered.push_str(line.trim_end());
                rendered.push('\n');
            }
            rendered.push('\n');
        }
        rendered
    }

    /// Returns `diagnostics` as they are printed under `--json`.
    #[must_use]
    pub fn entries(&self, diagnostics: &[Diagnostic]) -> Vec<ProblemEntry> {
        diagnostics
            .iter()
            .map(|diagnostic| {
                let place = diagnostic.places.first();
                let at = place.map(|place| self.line_and_column(place.span.start));
                ProblemEntry {
                    code: diagnostic.code.text(),
                    severity: diagnostic.severity.label(),
                    message: diagnostic.message.clone(),
                    line: at.map(|(line, _)| line),
                    column: at.map(|(_, column)| column),
                    help: diagnostic.help.clone(),
                }
            })
            .collect()
    }

    fn shows(&self, span: Span) -> bool {
        let Some(before) = self.text.get(..span.start) else {
            return false;
        };
        // The line before and after are shown as context.
        let start = before
            .rmatch_indices('\n')
            .nth(1)
            .map_or(0, |(at, _)| at + 1);
        self.text[start..]
            .lines()
            .take(4)
            .all(|line| line.len() <= SHOWN_LINE_BYTES)
    }
}

/// One problem under `--json`. Fields are a promise: added, never renamed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProblemEntry {
    /// For example `plan::unknown-key`.
    pub code: &'static str,
    /// `error` or `warning`.
    pub severity: &'static str,
    /// What is wrong.
    pub message: String,
    /// From 1; absent for problems of the whole file.
    pub line: Option<usize>,
    /// In characters, from 1.
    pub column: Option<usize>,
    /// What to type instead.
    pub help: Option<String>,
}

/// A plan that is refused: every problem found, in the order of the file.
#[derive(Debug, Clone)]
pub struct PlanProblems {
    text: PlanText,
    diagnostics: Vec<Diagnostic>,
    more: bool,
}

impl PlanProblems {
    /// Sorts `diagnostics` by place, those of the whole file first, and keeps the first hundred.
    pub(super) fn new(text: PlanText, mut diagnostics: Vec<Diagnostic>) -> Self {
        sort(&mut diagnostics);
        let more = diagnostics.len() > MAX_PROBLEMS;
        diagnostics.truncate(MAX_PROBLEMS);
        Self {
            text,
            diagnostics,
            more,
        }
    }

    /// Returns every problem, warnings included; at most a hundred.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Returns the plan's text, which `diagnostics` point into.
    #[must_use]
    pub fn text(&self) -> &PlanText {
        &self.text
    }

    /// Returns the whole message, in the four parts of every error.
    #[must_use]
    pub fn render(&self, look: Look, width: usize) -> String {
        let path = self.text.path.display();
        format!(
            "error: {self}\n\n{problems}  safe:  nothing was read from the source and nothing was written\n  \
             next:  correct what is named above, then run `rekindle validate {path}`\n",
            problems = self.text.render(&self.diagnostics, look, width),
        )
    }

    /// Returns the problems as they are printed under `--json`.
    #[must_use]
    pub fn entries(&self) -> Vec<ProblemEntry> {
        self.text.entries(&self.diagnostics)
    }

    fn count(&self, severity: Severity) -> usize {
        self.diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.severity == severity)
            .count()
    }
}

impl fmt::Display for PlanProblems {
    /// Prints the first line of the message: ``plan `plans/shop.yaml` has 2 problems``.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.text.path.display();
        if self.more {
            return write!(
                f,
                "plan `{path}` has more than {MAX_PROBLEMS} problems; these are the first"
            );
        }
        let errors = self.count(Severity::Error);
        let noun = if errors == 1 { "problem" } else { "problems" };
        write!(f, "plan `{path}` has {errors} {noun}")?;
        match self.count(Severity::Warning) {
            0 => Ok(()),
            1 => f.write_str(" and 1 warning"),
            warnings => write!(f, " and {warnings} warnings"),
        }
    }
}

impl std::error::Error for PlanProblems {}

/// Sorts by first place.
pub(super) fn sort(diagnostics: &mut [Diagnostic]) {
    diagnostics.sort_by_key(|diagnostic| diagnostic.places.first().map(|place| place.span));
}

fn handler(look: Look, width: usize) -> GraphicalReportHandler {
    let theme = match look {
        Look::Plain => GraphicalTheme {
            characters: ThemeCharacters::ascii(),
            styles: ThemeStyles::none(),
        },
        Look::Graphical { color: false } => GraphicalTheme::unicode_nocolor(),
        Look::Graphical { color: true } => GraphicalTheme::unicode(),
    };
    GraphicalReportHandler::new_themed(theme)
        .with_width(width)
        .with_context_lines(1)
        .with_links(false)
        .without_syntax_highlighting()
}

/// What the drawing puts before a line beside its number, and before places that go over several lines.
const GUTTER: usize = 4;

/// The narrowest lines of a plan that are shown, in characters.
const LEAST_ROOM: usize = 20;

/// A [`Diagnostic`] in the form that miette draws.
#[derive(Debug)]
struct Report<'a> {
    diagnostic: &'a Diagnostic,
    message: String,
    source: Option<Drawn>,
    spans: Vec<(usize, usize)>,
}

impl<'a> Report<'a> {
    fn new(diagnostic: &'a Diagnostic, text: &PlanText, (look, width): (Look, usize)) -> Self {
        let places = &diagnostic.places[..];
        let spans = || places.iter().map(|place| place.span);
        let at = spans().next().map(|span| text.line_and_column(span.start));
        let shown = at.is_some() && spans().all(|span| text.shows(span));
        let message = match at {
            Some((line, column)) if !shown => {
                format!("{} (line {line}, column {column})", diagnostic.message)
            }
            _ => diagnostic.message.clone(),
        };
        let spans = spans().map(|span| (span.start, span.end - span.start));
        let (text_shown, spans) = match look {
            // Nobody reads a pipe in columns.
            Look::Plain => (Arc::clone(&text.text), spans.collect()),
            Look::Graphical { .. } => {
                let digits = text.text.lines().count().to_string().len();
                let room = width.saturating_sub(digits + 2 * GUTTER).max(LEAST_ROOM);
                let excerpt = excerpt(&text.text, places, room);
                (excerpt.text.into(), excerpt.spans)
            }
        };
        let columns = places.iter().zip(&spans).map(|(place, (start, _))| {
            let (_, column) = text.line_and_column(place.span.start);
            (*start, column - 1)
        });
        let source = Drawn {
            name: text.path.display().to_string(),
            text: text_shown,
            columns: columns.collect(),
        };
        Self {
            diagnostic,
            message,
            source: shown.then_some(source),
            spans,
        }
    }
}

/// The lines of a plan as they are drawn.
#[derive(Debug)]
struct Drawn {
    name: String,
    text: Arc<str>,
    /// Where each place begins in `text`, and its column in the file, from 0: in a line that is cut it is another.
    columns: Vec<(usize, usize)>,
}

impl SourceCode for Drawn {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let read = self.text.read_span(span, before, after)?;
        // Without lines around it, it is asked for what stands above the lines.
        let mut places = self.columns.iter().filter(|_| before == 0);
        let place = places.find(|(start, _)| *start == span.offset());
        let column = place.map_or(read.column(), |(_, column)| *column);
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            read.data(),
            *read.span(),
            read.line(),
            column,
            read.line_count(),
        )))
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Report<'_> {}

impl miette::Diagnostic for Report<'_> {
    fn code<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        Some(Box::new(self.diagnostic.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.diagnostic.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        let help = self.diagnostic.help.as_ref()?;
        Some(Box::new(help))
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.source
            .as_ref()
            .map(|source| source as &dyn miette::SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.source.as_ref()?;
        let places = self.diagnostic.places.iter().zip(&self.spans);
        Some(Box::new(places.map(|(place, (start, length))| {
            LabeledSpan::new(Some(place.label.clone()), *start, *length)
        })))
    }
}
