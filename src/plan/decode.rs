//! Takes typed fields out of the tree and notes everything that is wrong on the way.
//!
//! A field that is missing or broken comes back as `None`, with its problem noted, and the reading goes on: that is how
//! one look shows every problem. (serde's derive would stop at the first.)

use super::{
    diagnostic::{Code, Diagnostic, Span},
    grammar::{Key, Support, Word},
    interpolate::{self, Variables},
    quote::{candidates, listed, quoted},
    resolved::Preset,
    tree::{Kind, Node},
};

/// A value that was read, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_field_names)] // `given.value` reads as what it is, in every rule
pub(super) struct Value<T> {
    /// With variables filled in.
    pub value: T,
    /// As typed: the only form that may be shown.
    pub typed: String,
    /// Where it stands.
    pub span: Span,
}

impl<T> Value<T> {
    /// Returns what a message calls the value: `0`, ``the value of `${ROWS}` ``, or empty.
    pub fn shown(&self) -> String {
        if self.typed.is_empty() {
            "empty".to_owned()
        } else if interpolate::has_variables(&self.typed) {
            format!("the value of {}", quoted(&self.typed))
        } else {
            quoted(&self.typed)
        }
    }
}

/// The state of one reading.
pub(super) struct Decoder<'a> {
    /// The plan file.
    pub text: &'a str,
    /// Fills in `${...}`.
    pub variables: Variables<'a>,
    /// Found so far.
    pub problems: Vec<Diagnostic>,
    /// The plan's `preset`: keys that it fills in may be missing.
    pub preset: Option<Preset>,
}

/// The entries of one map, known to the grammar and supported by this release.
pub(super) struct Fields<'n> {
    path: String,
    at: Option<Span>,
    entries: Vec<(&'n str, Span, &'n Node)>,
}

/// Returns the key that stands before a colon without a blank behind it: `name:url` is one text to YAML.
fn glued(text: &str, keys: &'static [Key]) -> Option<&'static str> {
    let (key, _) = text.split_once(':')?;
    keys.iter()
        .map(|known| known.name)
        .find(|name| *name == key)
}

impl<'n> Fields<'n> {
    /// Opens a map that holds `keys`; `at` is shown for keys that are missing.
    ///
    /// Notes every unknown and unsupported key. `path` is empty for the plan itself.
    pub fn open(
        node: &'n Node,
        path: &str,
        at: Option<Span>,
        keys: &'static [Key],
        decoder: &mut Decoder<'_>,
    ) -> Option<Self> {
        let Kind::Map(map) = &node.kind else {
            let subject = if path.is_empty() {
                "the plan".to_owned()
            } else {
                quoted(path)
            };
            let glued = match &node.kind {
                Kind::Scalar(text) => glued(text, keys),
                _ => None,
            };
            let help = match glued {
                Some(key) => format!("write a blank after the colon: `{key}: ...`"),
                None => format!("its keys are {}", listed(supported(keys))),
            };
            decoder.problems.push(
                Diagnostic::new(
                    Code::WrongType,
                    format!("{subject} is {}; it has to be a map", node.kind.noun()),
                )
                .at_known(at.or(Some(node.span)), "expected a map")
                .help(help),
            );
            return None;
        };
        let mut entries = Vec::new();
        for (key, value) in map {
            let place = if path.is_empty() {
                key.text.clone()
            } else {
                format!("{path}.{}", key.text)
            };
            match keys.iter().find(|known| known.name == key.text) {
                Some(known) if known.support == Support::Now => {
                    entries.push((known.name, key.span, value));
                }
                Some(_) => decoder.problems.push(not_supported(&place, key.span)),
                None => {
                    let owner = if path.is_empty() {
                        "a plan".to_owned()
                    } else {
                        quoted(path)
                    };
                    decoder.problems.push(
                        Diagnostic::new(
                            Code::UnknownKey,
                            format!("unknown key {}", quoted(&key.text)),
                        )
                        .at(key.span, format!("not a key of {owner}"))
                        .help(candidates(
                            &key.text,
                            "keys here",
                            supported(keys),
                        )),
                    );
                }
            }
        }
        Some(Self {
            path: path.to_owned(),
            at,
            entries,
        })
    }

    /// Returns the path of `key`, for example `defaults.chunk.rows`.
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Returns the key's own place and its value.
    pub fn get(&self, key: &str) -> Option<(Span, &'n Node)> {
        self.entries
            .iter()
            .find(|(name, ..)| *name == key)
            .map(|(_, span, node)| (*span, *node))
    }

    /// Returns the keys that are there.
    pub fn present(&self) -> impl Iterator<Item = &'n str> {
        self.entries.iter().map(|(name, ..)| *name)
    }

    /// Notes `key` if it is not there.
    pub fn require(&self, key: &str, example: &str, decoder: &mut Decoder<'_>) {
        if self.get(key).is_none() {
            decoder.problems.push(
                Diagnostic::new(
                    Code::MissingKey,
                    format!("{} is missing", quoted(&self.path_of(key))),
                )
                .at_known(self.at, format!("has no {}", quoted(key)))
                .help(format!("add it, for example `{example}`")),
            );
        }
    }

    /// Returns the map under `key`.
    pub fn map(&self, key: &str, keys: &'static [Key], decoder: &mut Decoder<'_>) -> Option<Self> {
        let (span, node) = self.get(key)?;
        Fields::open(node, &self.path_of(key), Some(span), keys, decoder)
    }

    /// Returns the list under `key`.
    pub fn list(&self, key: &str, decoder: &mut Decoder<'_>) -> Option<(Span, &'n [Node])> {
        let (span, node) = self.get(key)?;
        if let Kind::List(items) = &node.kind {
            return Some((span, items));
        }
        decoder.wrong_type(&self.path_of(key), node, span, "a list");
        None
    }

    /// Returns the list of texts under `key`, with the place of the key.
    pub fn texts(&self, key: &str, decoder: &mut Decoder<'_>) -> Option<Value<Vec<Value<String>>>> {
        let (span, items) = self.list(key, decoder)?;
        let mut texts = Vec::with_capacity(items.len());
        let mut whole = true;
        for (index, item) in items.iter().enumerate() {
            let path = format!("{}[{index}]", self.path_of(key));
            let text = decoder.text(item, &path, item.span);
            whole &= text.is_some();
            texts.extend(text);
        }
        whole.then(|| Value {
            value: texts,
            typed: key.to_owned(),
            span,
        })
    }

    /// Returns the text under `key`.
    pub fn text(&self, key: &str, decoder: &mut Decoder<'_>) -> Option<Value<String>> {
        let (span, node) = self.get(key)?;
        decoder.text(node, &self.path_of(key), span)
    }

    /// Returns the text under `key` as `parse` reads it; its error is the help.
    pub fn parsed<T>(
        &self,
        key: &str,
        decoder: &mut Decoder<'_>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Value<T>> {
        let text = self.text(key, decoder)?;
        match parse(&text.value) {
            Ok(value) => Some(Value {
                value,
                typed: text.typed,
                span: text.span,
            }),
            Err(help) => {
                decoder.problems.push(
                    Diagnostic::new(
                        Code::InvalidValue,
                        format!("{} cannot be {}", quoted(&self.path_of(key)), text.shown()),
                    )
                    .at(text.span, "not possible here")
                    .help(shielded(&help, &text)),
                );
                None
            }
        }
    }

    /// Returns the whole number under `key`.
    pub fn count(&self, key: &str, decoder: &mut Decoder<'_>) -> Option<Value<u64>> {
        self.parsed(key, decoder, |text| {
            text.replace('_', "")
                .parse()
                .map_err(|_| "write a whole number, for example `1000`".to_owned())
        })
    }

    /// Returns which of `words` the text under `key` is, if this release carries that one out; the first is what is
    /// done without it.
    pub fn word(
        &self,
        key: &str,
        words: &'static [Word],
        decoder: &mut Decoder<'_>,
    ) -> Option<&'static str> {
        let text = self.text(key, decoder)?;
        let path = self.path_of(key);
        if let Some(word) = words.iter().find(|word| word.name == text.value) {
            return Some(word.name);
        }
        let names = words.iter().map(|word| word.name);
        decoder.problems.push(
            Diagnostic::new(
                Code::InvalidValue,
                format!("{} cannot be {}", quoted(&path), text.shown()),
            )
            .at(text.span, "not possible here")
            .help(candidates(&text.typed, "possible words", names)),
        );
        None
    }
}

impl Decoder<'_> {
    /// Returns the text of `node`, filled in; `at` is shown where the node itself has no extent.
    pub fn text(&mut self, node: &Node, path: &str, at: Span) -> Option<Value<String>> {
        let Kind::Scalar(typed) = &node.kind else {
            self.wrong_type(path, node, at, "a single value");
            return None;
        };
        match interpolate::fill(typed, &self.variables) {
            Ok(value) => Some(Value {
                value,
                typed: typed.clone(),
                span: node.span,
            }),
            Err(faults) => {
                for fault in faults {
                    let span = self.place_of(&fault.typed, node.span);
                    self.problems.push(
                        Diagnostic::new(fault.code, fault.message)
                            .at(span, format!("needed for {}", quoted(path)))
                            .help(fault.help),
                    );
                }
                None
            }
        }
    }

    fn wrong_type(&mut self, path: &str, node: &Node, at: Span, expected: &str) {
        let span = if node.kind == Kind::Null {
            at
        } else {
            node.span
        };
        let problem = Diagnostic::new(
            Code::WrongType,
            format!(
                "{} is {}; it has to be {expected}",
                quoted(path),
                node.kind.noun()
            ),
        )
        .at(span, format!("expected {expected}"));
        self.problems.push(match (&node.kind, expected) {
            (Kind::Scalar(typed), "a list") => {
                problem.help(format!("write {}", quoted(&format!("[{typed}]"))))
            }
            // To YAML `-name` is a key like any other.
            (Kind::Map(map), "a list")
                if map
                    .first()
                    .is_some_and(|(key, _)| key.text.starts_with('-')) =>
            {
                problem.help("write a blank after the dash of each entry: `- name: ...`")
            }
            _ => problem,
        });
    }

    /// Returns the place of `part` within the value at `span`: escapes may hide it, then it is the whole value.
    fn place_of(&self, part: &str, span: Span) -> Span {
        let found = self
            .text
            .get(span.start..span.end)
            .and_then(|text| text.find(part));
        found.map_or(span, |offset| Span {
            start: span.start + offset,
            end: span.start + offset + part.len(),
        })
    }
}

/// Returns `help`, which may quote a value, unless a variable was filled in.
fn shielded(help: &str, text: &Value<String>) -> String {
    match help.split_once("? ") {
        Some((_, rest)) if interpolate::has_variables(&text.typed) => rest.to_owned(),
        _ => help.to_owned(),
    }
}

/// Returns the names of the keys that this release carries out.
fn supported(keys: &[Key]) -> impl Iterator<Item = &str> + Clone {
    keys.iter()
        .filter(|key| key.support == Support::Now)
        .map(|key| key.name)
}

fn not_supported(path: &str, span: Span) -> Diagnostic {
    Diagnostic::new(
        Code::NotSupported,
        format!("{} is not supported by this release", quoted(path)),
    )
    .at(span, "not carried out yet")
    .help("remove it; nothing of a plan is skipped in silence")
}
