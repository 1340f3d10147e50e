//! A plan file as a tree of places: what was typed and where, before anything is made of it.

use super::diagnostic::Span;

/// One value of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    /// Where it is used: at an alias, the alias.
    pub span: Span,
    /// What it is.
    pub kind: Kind,
}

/// What a [`Node`] is. Scalars keep their spelling: `1.10` and `no` are text until a field asks for more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// `key:` with nothing behind it, `~`, or `null`.
    Null,
    /// Anything else that is neither list nor map.
    Scalar(String),
    /// `[a, b]` or lines that begin with `-`.
    List(Vec<Node>),
    /// `{a: 1}` or lines with `key: value`, in the order of the file; no key stands twice.
    Map(Vec<(Key, Node)>),
}

/// A key of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// Its text.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

impl Kind {
    /// Returns what messages call such a value.
    pub const fn noun(&self) -> &'static str {
        match self {
            Self::Null => "empty",
            Self::Scalar(_) => "a single value",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}
