//! What is wrong with a plan: a stable code, the place in the file, and what to do about it.

use std::fmt;

/// The name of a kind of problem. Its text is a promise: scripts and `explain` go by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// The plan file cannot be read.
    Unreadable,
    /// The plan file is larger than a plan can be.
    TooLarge,
    /// The file is not UTF-8, or holds control characters.
    NotText,
    /// The file is not YAML.
    Syntax,
    /// Too deep, too many nodes, or too many aliases.
    TooComplex,
    /// A key stands twice in one map.
    DuplicateKey,
    /// A key that no release knows.
    UnknownKey,
    /// A key that has to be there is not.
    MissingKey,
    /// A list where a map belongs, text where a number belongs, and so on.
    WrongType,
    /// Text that is not one of the words or units that are possible here.
    InvalidValue,
    /// Part of the grammar, but this release does not carry it out.
    NotSupported,
    /// `version:` of a plan of another generation.
    UnknownVersion,
    /// `${...}` that cannot be read.
    BadVariable,
    /// `${VAR}` without such a variable and without a default.
    MissingVariable,
    /// A file that the plan names, as `${file:...}` or below `tls`, cannot be read.
    MissingFile,
    /// A list or map that needs at least one entry has none.
    Empty,
    /// A name with characters that files and commands cannot carry.
    InvalidName,
    /// Two resources with one name.
    DuplicateName,
    /// `after:` names a resource that is not in the plan.
    UnknownResource,
    /// Resources that wait for each other.
    Cycle,
    /// `to:` names a target that is not in the plan.
    UnknownTarget,
    /// A target that is not exactly one kind of store.
    TargetKind,
    /// A number, size or time outside of what can work.
    OutOfRange,
    /// A cursor of more or fewer columns than this release can walk.
    CursorColumns,
    /// A connection URL that cannot be used.
    InvalidUrl,
    /// Two resources write the same keys of one table to one target.
    SharedKeys,
    /// A fallback that cannot hand on single rows.
    NoEntity,
    /// Rows with more keys than their own, which the plan leaves out.
    NoAliases,
    /// A resource whose rows nobody is known to build again.
    NoPublisher,
    /// The source does not answer.
    SourceUnreachable,
    /// The source refuses user, password or a right.
    SourceCredentials,
    /// The source says no in another way.
    SourceRefused,
    /// A table that the source has not.
    MissingTable,
    /// A column that its table has not.
    MissingColumn,
    /// Columns that cannot be walked along.
    UnfitCursor,
    /// `where:` that the source does not understand.
    BadCondition,
    /// Catching up has no index to go by.
    SlowCatchUp,
    /// The source's user may do more than read.
    WritableUser,
    /// A read model that no resource names.
    UncoveredTable,
    /// The source does not tell which tables it has.
    CoverageUnknown,
    /// `ignore_tables` names what is not there.
    IgnoresNothing,
    /// Rows of a store that the plan does not name.
    OtherStore,
    /// The entity ids of a fallback cannot be read.
    PublisherIds,
    /// The program of the console cannot be started.
    PublisherProgram,
    /// A target does not answer.
    TargetUnreachable,
    /// A target refuses user, password or a right.
    TargetCredentials,
    /// A target says no in another way.
    TargetRefused,
    /// A Redis that drops keys when its memory is full.
    Eviction,
    /// A Redis that copies another one.
    ReplicaTarget,
    /// A number beyond the databases of a Redis.
    NoDatabase,
    /// Another database of the Redis holds the shop's keys.
    OtherDatabase,
    /// More rows than the target has memory for.
    NoRoom,
    /// An index that is not there.
    MissingIndex,
    /// An index that guesses the types of fields.
    DynamicIndex,
    /// An index that takes no writes.
    BlockedIndex,
    /// A queue that is not there.
    MissingQueue,
    /// A queue that is there, and is not the one that the plan would make.
    OtherQueue,
    /// What is in the queues cannot be told.
    QueuesUnknown,
    /// A maintenance page that no step takes away.
    PageStays,
}

impl Code {
    /// Every code, in the order of the declaration.
    pub const ALL: [Self; 59] = [
        Self::Unreadable,
        Self::TooLarge,
        Self::NotText,
        Self::Syntax,
        Self::TooComplex,
        Self::DuplicateKey,
        Self::UnknownKey,
        Self::MissingKey,
        Self::WrongType,
        Self::InvalidValue,
        Self::NotSupported,
        Self::UnknownVersion,
        Self::BadVariable,
        Self::MissingVariable,
        Self::MissingFile,
        Self::Empty,
        Self::InvalidName,
        Self::DuplicateName,
        Self::UnknownResource,
        Self::Cycle,
        Self::UnknownTarget,
        Self::TargetKind,
        Self::OutOfRange,
        Self::CursorColumns,
        Self::InvalidUrl,
        Self::SharedKeys,
        Self::NoEntity,
        Self::NoAliases,
        Self::NoPublisher,
        Self::SourceUnreachable,
        Self::SourceCredentials,
        Self::SourceRefused,
        Self::MissingTable,
        Self::MissingColumn,
        Self::UnfitCursor,
        Self::BadCondition,
        Self::SlowCatchUp,
        Self::WritableUser,
        Self::UncoveredTable,
        Self::CoverageUnknown,
        Self::IgnoresNothing,
        Self::OtherStore,
        Self::PublisherIds,
        Self::PublisherProgram,
        Self::TargetUnreachable,
        Self::TargetCredentials,
        Self::TargetRefused,
        Self::Eviction,
        Self::ReplicaTarget,
        Self::NoDatabase,
        Self::OtherDatabase,
        Self::NoRoom,
        Self::MissingIndex,
        Self::DynamicIndex,
        Self::BlockedIndex,
        Self::MissingQueue,
        Self::OtherQueue,
        Self::QueuesUnknown,
        Self::PageStays,
    ];

    /// Returns whether only the servers of a plan can show such a problem.
    #[must_use]
    pub fn is_connected(self) -> bool {
        !self.text().starts_with("plan::")
    }

    /// Returns the text of the code, for example `plan::unknown-key`.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Unreadable => "plan::unreadable",
            Self::TooLarge => "plan::too-large",
            Self::NotText => "plan::not-text",
            Self::Syntax => "plan::syntax",
            Self::TooComplex => "plan::too-complex",
            Self::DuplicateKey => "plan::duplicate-key",
            Self::UnknownKey => "plan::unknown-key",
            Self::MissingKey => "plan::missing-key",
            Self::WrongType => "plan::wrong-type",
            Self::InvalidValue => "plan::invalid-value",
            Self::NotSupported => "plan::not-supported",
            Self::UnknownVersion => "plan::unknown-version",
            Self::BadVariable => "plan::bad-variable",
            Self::MissingVariable => "plan::missing-variable",
            Self::MissingFile => "plan::missing-file",
            Self::Empty => "plan::empty",
            Self::InvalidName => "plan::invalid-name",
            Self::DuplicateName => "plan::duplicate-name",
            Self::UnknownResource => "plan::unknown-resource",
            Self::Cycle => "plan::cycle",
            Self::UnknownTarget => "plan::unknown-target",
            Self::TargetKind => "plan::target-kind",
            Self::OutOfRange => "plan::out-of-range",
            Self::CursorColumns => "plan::cursor-columns",
            Self::InvalidUrl => "plan::invalid-url",
            Self::SharedKeys => "plan::shared-keys",
            Self::NoEntity => "plan::no-entity",
            Self::NoAliases => "plan::no-aliases",
            Self::NoPublisher => "plan::no-publisher",
            Self::SourceUnreachable => "source::unreachable",
            Self::SourceCredentials => "source::credentials",
            Self::SourceRefused => "source::refused",
            Self::MissingTable => "source::missing-table",
            Self::MissingColumn => "source::missing-column",
            Self::UnfitCursor => "source::cursor",
            Self::BadCondition => "source::condition",
            Self::SlowCatchUp => "source::slow-catch-up",
            Self::WritableUser => "source::writable-user",
            Self::UncoveredTable => "source::uncovered-table",
            Self::CoverageUnknown => "source::coverage-unknown",
            Self::IgnoresNothing => "source::ignores-nothing",
            Self::OtherStore => "source::other-store",
            Self::PublisherIds => "publisher::ids",
            Self::PublisherProgram => "publisher::program",
            Self::TargetUnreachable => "target::unreachable",
            Self::TargetCredentials => "target::credentials",
            Self::TargetRefused => "target::refused",
            Self::Eviction => "target::eviction",
            Self::ReplicaTarget => "target::replica",
            Self::NoDatabase => "target::no-database",
            Self::OtherDatabase => "target::other-database",
            Self::NoRoom => "target::no-room",
            Self::MissingIndex => "target::missing-index",
            Self::DynamicIndex => "target::dynamic-index",
            Self::BlockedIndex => "target::blocked-index",
            Self::MissingQueue => "queue::missing",
            Self::OtherQueue => "queue::other",
            Self::QueuesUnknown => "queue::unknown",
            Self::PageStays => "plan::page-stays",
        }
    }

    /// Returns whether a plan with this problem can be carried out.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self {
            Self::SharedKeys
            | Self::NoEntity
            | Self::NoAliases
            | Self::NoPublisher
            | Self::SlowCatchUp
            | Self::WritableUser
            | Self::UncoveredTable
            | Self::CoverageUnknown
            | Self::IgnoresNothing
            | Self::OtherStore
            | Self::OtherDatabase
            | Self::NoRoom
            | Self::DynamicIndex
            | Self::QueuesUnknown
            | Self::PageStays => Severity::Warning,
            _ => Severity::Error,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Whether a problem stops the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The plan is refused.
    Error,
    /// The plan is carried out; `--strict` refuses it.
    Warning,
}

impl Severity {
    /// Returns the word shown for the severity.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// Bytes of the plan file, `start` inclusive, `end` exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset after the last byte.
    pub end: usize,
}

/// A place in the plan file and what is said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where.
    pub span: Span,
    /// A few words, shown under the place.
    pub label: String,
}

/// One problem of a plan. Holds what was typed, never what a variable stood for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Which kind.
    pub code: Code,
    /// Whether it stops the plan.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// Where; the first is the place to change. Empty for problems of the whole file.
    pub places: Vec<Place>,
    /// What to type instead.
    pub help: Option<String>,
}

impl Diagnostic {
    /// Returns a problem without place and help.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: code.severity(),
            message: message.into(),
            places: Vec::new(),
            help: None,
        }
    }

    /// Adds a place.
    #[must_use]
    pub fn at(mut self, span: Span, label: impl Into<String>) -> Self {
        self.places.push(Place {
            span,
            label: label.into(),
        });
        self
    }

    /// Adds a place if it is known.
    #[must_use]
    pub fn at_known(self, span: Option<Span>, label: impl Into<String>) -> Self {
        match span {
            Some(span) => self.at(span, label),
            None => self,
        }
    }

    /// Sets what to type instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn code_texts_are_unique_and_spelled_alike() {
        let texts: BTreeSet<_> = Code::ALL.iter().map(|code| code.text()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
        for text in texts {
            let (room, word) = text.split_once("::").unwrap();
            assert!(["plan", "source", "publisher", "target", "queue"].contains(&room));
            assert!(word.chars().all(|c| c.is_ascii_lowercase() || c == '-'));
        }
    }
}
