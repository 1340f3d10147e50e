//! Bytes -> [`Node`]. The one module that knows the YAML library.
//!
//! Every problem here ends the reading: after it, nothing that follows can be trusted to mean what it seems to.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{
    DuplicateKeyPolicy, Error, ExternalMessageSource, Location, NonFiniteFloatPolicy, Options,
    Spanned, budget::BudgetBreach,
};

use super::{
    diagnostic::{Code, Diagnostic, Span},
    quote::quoted,
    tree::{Key, Kind, Node},
};

/// The largest plan file, in bytes. A plan of a thousand resources has about 300 KiB; from 10 MiB on the time to
/// refuse a hostile file becomes noticeable.
pub(super) const MAX_BYTES: usize = 1024 * 1024;

/// The deepest nesting. The grammar itself needs eight.
const MAX_DEPTH: usize = 32;

/// Lists, maps and single values, aliases counted as often as they are used.
const MAX_NODES: usize = 100_000;

/// Uses of anchors. Plans share a handful of maps; bombs need few aliases, so `MAX_NODES` stops those.
const MAX_ALIASES: usize = 100;

/// Returns the text of a plan file, without its byte order mark.
///
/// # Errors
///
/// One problem for a file that is too large, not UTF-8, or holds control characters other than tab and line ends,
/// which are LF or CRLF: YAML ends a line at a CR alone too, editors and terminals do not, and places would be shown wrongly.
pub(super) fn text(bytes: &[u8]) -> Result<&str, Diagnostic> {
    if bytes.len() > MAX_BYTES {
        return Err(
            Diagnostic::new(Code::TooLarge, "the plan file is larger than 1 MiB")
                .help("a plan of a thousand resources has about 300 KiB; is this the right file?"),
        );
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()]
            .split(|byte| *byte == b'\n')
            .count();
        Diagnostic::new(
            Code::NotText,
            format!("the plan file is not UTF-8 text (line {line})"),
        )
        .help("save it as UTF-8")
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let is_unwanted = |(at, c): &(usize, char)| match c {
        '\t' | '\n' => false,
        '\r' => text.as_bytes().get(at + 1) != Some(&b'\n'),
        c => c.is_control(),
    };
    if let Some((at, found)) = text.char_indices().find(is_unwanted) {
        let line = 1 + text[..at].matches('\n').count();
        return Err(Diagnostic::new(
            Code::NotText,
            format!(
                "the plan file holds the control character U+{:04X} (line {line})",
                u32::from(found)
            ),
        )
        .help(match found {
            '\r' => "end lines with LF or CRLF, not with CR alone",
            _ => "remove it; is this a text file?",
        }));
    }
    Ok(text)
}

/// Returns the tree of `text`.
///
/// # Errors
///
/// The first problem of syntax, a key given twice, or a limit passed.
pub(super) fn parse(text: &str) -> Result<Node, Box<Diagnostic>> {
    serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options())
        .map(|root| node(root, text))
        .map_err(|error| Box::new(problem(error.without_snippet(), text)))
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            flow_nesting_limit: MAX_DEPTH,
            max_aliases: MAX_ALIASES,
            max_anchors: MAX_ALIASES,
            max_merge_keys: MAX_ALIASES,
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 4 * MAX_NODES,
            max_recorded_anchor_events: MAX_NODES,
            max_total_scalar_bytes: 4 * MAX_BYTES,
            max_recorded_anchor_bytes: 4 * MAX_BYTES,
            enforce_alias_anchor_ratio: false,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_NODES,
            max_replay_stack_depth: MAX_DEPTH,
        },
        // Only the spelling is kept, so that `.inf` is refused by the field it stands in.
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

/// What the library makes of one value. Numbers and booleans are thrown away again: the spelling is in the file.
enum Raw {
    Null,
    Text(String),
    Resolved,
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Raw, E> {
        Ok(Raw::Resolved)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Resolved)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Resolved)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Resolved)
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::Text(text))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

fn node(raw: Spanned<Raw>, text: &str) -> Node {
    let defined = span(raw.defined, text);
    let used = span(raw.referenced, text).or(defined).unwrap_or_default();
    let kind = match raw.value {
        Raw::Null => Kind::Null,
        Raw::Text(value) => Kind::Scalar(value),
        Raw::Resolved => {
            let typed = defined.and_then(|span| text.get(span.start..span.end));
            Kind::Scalar(typed.unwrap_or_default().trim().to_owned())
        }
        Raw::List(items) => Kind::List(items.into_iter().map(|item| node(item, text)).collect()),
        Raw::Map(entries) => Kind::Map(
            entries
                .into_iter()
                .map(|(key, value)| {
                    let place = span(key.referenced, text).or_else(|| span(key.defined, text));
                    let key = Key {
                        text: key.value,
                        span: place.unwrap_or_default(),
                    };
                    (key, node(value, text))
                })
                .collect(),
        ),
    };
    Node { span: used, kind }
}

/// Returns the bytes that `location` names, at least one of them if there is one; `None` where the library knows none.
fn span(location: Location, text: &str) -> Option<Span> {
    let bytes = location.span().byte_offset();
    let start = match bytes {
        Some(start) => usize::try_from(start).ok()?,
        None => offset(location, text)?,
    };
    let length = usize::try_from(location.span().byte_len().unwrap_or(0)).ok()?;
    let start = floor_boundary(text, start);
    let mut end = floor_boundary(text, start.saturating_add(length));
    if end == start {
        end += text[start..]
            .chars()
            .next()
            .filter(|c| !matches!(c, '\n' | '\r'))
            .map_or(0, char::len_utf8);
    }
    Some(Span { start, end })
}

/// Returns the offset of a line and column: errors of the scanner come without bytes.
fn offset(location: Location, text: &str) -> Option<usize> {
    let line = usize::try_from(location.line()).ok()?.checked_sub(1)?;
    let column = usize::try_from(location.column()).ok()?.checked_sub(1)?;
    let start = match line.checked_sub(1) {
        Some(breaks) => text.match_indices('\n').nth(breaks)?.0 + 1,
        None => 0,
    };
    let line = text[start..].lines().next().unwrap_or_default();
    let within = line
        .char_indices()
        .nth(column)
        .map_or(line.len(), |(at, _)| at);
    Some(start + within)
}

/// Returns the greatest character boundary at or below `at`.
fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn problem(error: &Error, text: &str) -> Diagnostic {
    let place = error.location().and_then(|location| span(location, text));
    match error {
        Error::AliasError { error, .. } => problem(error, text),
        Error::DuplicateMappingKey { key, .. } => {
            let name = key.as_deref().map_or_else(|| "a key".to_owned(), quoted);
            Diagnostic::new(Code::DuplicateKey, format!("{name} is given twice"))
                .at_known(place, "stands in this map before")
                .help("keep one of them; the other would be lost without a word")
        }
        Error::Budget {
            breach: BudgetBreach::Depth { .. },
            ..
        } => too_complex(place),
        // The library names the place that was repeated, not the one that repeats it.
        Error::Budget { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::RecursiveReferencesRequireWeakTypes { .. } => too_complex(None),
        Error::MultipleDocuments { .. } => {
            Diagnostic::new(Code::Syntax, "the file holds more than one YAML document")
                .at_known(place, "a second document begins")
                .help("keep one plan per file, and remove the line `---` between them")
        }
        Error::UnsupportedTag { tag, .. } => Diagnostic::new(
            Code::Syntax,
            format!("the tag {} means nothing in a plan", quoted(tag)),
        )
        .at_known(place, "tagged here")
        .help("remove the tag; text that begins with `!` needs quotes"),
        Error::ExternalMessage { source, msg, .. } => {
            let too_deep =
                matches!(&**source, ExternalMessageSource::Parser(_)) && msg.contains("limit");
            if too_deep {
                too_complex(place)
            } else {
                syntax(msg, place, text)
            }
        }
        other => {
            let whole = other.to_string();
            let first = whole.lines().next().unwrap_or_default();
            let message = first
                .split_once(" at line ")
                .map_or(first, |(message, _)| message);
            syntax(message, place, text)
        }
    }
}

fn too_complex(place: Option<Span>) -> Diagnostic {
    Diagnostic::new(
        Code::TooComplex,
        "the plan file is nested too deeply, or grows too much by its aliases",
    )
    .at_known(place, "gave up here")
    .help(format!(
        "a plan has at most {MAX_DEPTH} levels, {MAX_NODES} values and {MAX_ALIASES} aliases"
    ))
}

fn syntax(message: &str, place: Option<Span>, text: &str) -> Diagnostic {
    if let Some(tab) = place.and_then(|place| tab_before(text, place.start)) {
        return Diagnostic::new(Code::Syntax, "the line is indented with a tab")
            .at(tab, "a tab")
            .help("YAML is indented with spaces only; replace the tab by two spaces");
    }
    let help = tabbed_line(text).map_or_else(
        || "check indentation, colons and quotes at this place".to_owned(),
        |line| {
            format!(
                "line {line} has a tab where it is indented, and YAML is indented with spaces only; check colons and quotes, too"
            )
        },
    );
    Diagnostic::new(Code::Syntax, format!("the file is not YAML: {message}"))
        .at_known(place, "noticed here; the cause may be a line above")
        .help(help)
}

/// Returns the number of the first line with a tab before its text, or behind the `-` of a list.
fn tabbed_line(text: &str) -> Option<usize> {
    let is_tabbed = |line: &str| {
        let blank = |c: char| matches!(c, ' ' | '\t' | '-');
        let indent = line.len() - line.trim_start_matches(blank).len();
        line[..indent].contains('\t')
    };
    text.lines().position(is_tabbed).map(|line| line + 1)
}

/// Returns the tab in the indentation of the line at `at`, or of the line before it.
fn tab_before(text: &str, at: usize) -> Option<Span> {
    let at = floor_boundary(text, at);
    let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let above = text[..line.saturating_sub(1)]
        .rfind('\n')
        .map_or(0, |end| end + 1);
    [line, above].into_iter().find_map(|start| {
        let rest = &text[start..];
        let indent = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        let tab = start + rest[..indent].find('\t')?;
        Some(Span {
            start: tab,
            end: tab + 1,
        })
    })
}
