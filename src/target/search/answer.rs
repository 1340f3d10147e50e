//! What a server answers, and what it means.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use serde::Deserialize;

use crate::error::{EdgeError, ErrorKind};

/// An answer of whatever status.
pub(super) struct Answer {
    pub(super) status: u16,
    /// `Retry-After`, which proxies and hosted services send.
    pub(super) wait: Option<Duration>,
    pub(super) body: Bytes,
}

/// Why a server refused a request or one document of it.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Cause<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Text<'a>,
    /// Holds values of rows: nothing but what [`rejection`] knows may leave it.
    #[serde(borrow, default)]
    reason: Text<'a>,
}

/// A text that may be `null`.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Option<Cow<'a, str>>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

impl Cause<'_> {
    /// Returns whether this is the type of reason.
    pub(super) fn is(&self, kind: &str) -> bool {
        *self.kind == *kind
    }
}

impl Answer {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Returns the answer as JSON.
    ///
    /// # Errors
    ///
    /// `Timeout` for what is no such JSON: a page of a load balancer says nothing about what the server did.
    pub(super) fn json<'a, T: Deserialize<'a>>(&'a self, place: &str) -> Result<T, EdgeError> {
        serde_json::from_slice(&self.body).map_err(|_| {
            EdgeError::new(
                ErrorKind::Timeout,
                format!(
                    "{place} gave an answer of {} bytes (status {}) that is not what a search server says",
                    self.body.len(),
                    self.status
                ),
            )
        })
    }

    /// Returns why a whole request was refused: `{"error":{"type":"...","reason":"..."},"status":429}`.
    pub(super) fn cause(&self) -> Cause<'_> {
        #[derive(Deserialize)]
        struct Refused<'a> {
            #[serde(borrow)]
            error: Cause<'a>,
        }
        serde_json::from_slice::<Refused<'_>>(&self.body)
            .map(|refused| refused.error)
            .unwrap_or_default()
    }

    /// Returns whether the request was refused for this type of reason.
    pub(super) fn says(&self, kind: &str) -> bool {
        self.cause().is(kind)
    }

    /// Returns the error for an answer that is no success; `doing` is for example `the lease`.
    pub(super) fn refusal(&self, place: &str, doing: &str) -> EdgeError {
        let verdict = Verdict::of(self.status, &self.cause());
        let error = match verdict {
            Verdict::Trouble(kind, why) => EdgeError::new(kind, format!("{place} {why} ({doing})")),
            Verdict::Rejected(_) => EdgeError::new(
                ErrorKind::Refused,
                format!(
                    "{place} refused {doing}: status {}{}",
                    self.status,
                    in_brackets(&self.cause().kind)
                ),
            ),
        };
        match self.wait {
            Some(wait) => error.not_before(wait),
            None => error,
        }
    }
}

fn in_brackets(kind: &str) -> String {
    if kind.is_empty() {
        String::new()
    } else {
        format!(" ({})", safe(kind))
    }
}

/// What an answer, or the answer for one document, means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Not because of the document: what kind of error it is, and the words for it.
    Trouble(ErrorKind, String),
    /// The document will never pass as it is.
    Rejected(String),
}

impl Verdict {
    /// Returns what a status that is no success means. The status decides before the type, whose names differ between
    /// products and releases.
    pub(super) fn of(status: u16, cause: &Cause<'_>) -> Self {
        let trouble = |kind, why: &str| Self::Trouble(kind, why.to_owned());
        let is = |kind: &str| cause.is(kind);
        if is("cluster_block_exception") {
            return block(&cause.reason);
        }
        if is("index_not_found_exception") {
            return trouble(ErrorKind::EvidenceLost, "no longer has the index");
        }
        if is("index_closed_exception") {
            return trouble(ErrorKind::Refused, "has the index closed");
        }
        match status {
            401 => trouble(ErrorKind::Credentials, "does not know the user or password"),
            403 => Self::Trouble(
                ErrorKind::Credentials,
                format!("denies the right to do that{}", in_brackets(&cause.kind)),
            ),
            429 if is("circuit_breaking_exception") => trouble(
                ErrorKind::Busy,
                "has no memory for the request at the moment (circuit breaker)",
            ),
            429 => trouble(ErrorKind::Busy, "has its write queue full"),
            500.. => Self::Trouble(
                ErrorKind::Busy,
                format!(
                    "cannot do it at the moment: status {status}{}",
                    in_brackets(&cause.kind)
                ),
            ),
            _ => Self::Rejected(rejection(status, cause)),
        }
    }
}

/// Tells blocks apart by their number, which is the same in all releases; the status is 403 on old ones and 429 on others.
fn block(reason: &str) -> Verdict {
    let trouble = |kind, why: &str| Verdict::Trouble(kind, why.to_owned());
    if reason.contains("/12/") {
        return trouble(
            ErrorKind::Busy,
            "has blocked the index because its disk is almost full (flood stage): make room there",
        );
    }
    if reason.contains("/8/") {
        return trouble(
            ErrorKind::Refused,
            "has blocked the index for writes (`index.blocks.write`)",
        );
    }
    if reason.contains("SERVICE_UNAVAILABLE") {
        return trouble(ErrorKind::Busy, "has no master, or is starting");
    }
    trouble(
        ErrorKind::Refused,
        "has made the index or the cluster read-only",
    )
}

/// What reasons are known to say before the first name in them, and what stands after that name.
const KNOWN: [(&str, char, &str); 5] = [
    ("failed to parse field [", ']', "cannot be read into field"),
    (
        "object mapping for [",
        ']',
        "is no object where the mapping has one, at",
    ),
    (
        "dynamic introduction of [",
        ']',
        "has a field that the strict mapping does not know:",
    ),
    (
        "immense term in field=\"",
        '"',
        "is too long for one term of field",
    ),
    (
        "Limit of total fields [",
        ']',
        "has more fields than the mapping allows:",
    ),
];

/// Returns why a document was refused, for a dead letter: the type of the error and the name of a field. Reasons quote
/// values ("Preview of field's value"), so nothing else is taken from them.
fn rejection(status: u16, cause: &Cause<'_>) -> String {
    let kind = if cause.kind.is_empty() {
        format!("status {status}")
    } else {
        safe(&cause.kind)
    };
    let known = KNOWN.iter().find_map(|(before, after, words)| {
        let rest = &cause.reason[cause.reason.find(before)? + before.len()..];
        Some(format!(
            "the value {words} `{}`",
            safe(&rest[..rest.find(*after)?])
        ))
    });
    // The type the field has: `of type [long]`, right behind its name.
    let wanted = cause
        .reason
        .split_once("] of type [")
        .and_then(|(_, rest)| rest.split_once(']'))
        .map(|(wanted, _)| format!(" of type `{}`", safe(wanted)));
    match known {
        Some(known) => format!("{known}{} ({kind})", wanted.unwrap_or_default()),
        None => format!("refused by the server ({kind})"),
    }
}

/// Returns `text` without what a terminal would obey, and not too long: names of fields come from documents.
fn safe(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

/// The answer to a load of documents, as far as it was asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Bulk<'a> {
    #[serde(borrow)]
    pub(super) items: Vec<Item<'a>>,
}

/// `{"index":{"status":201}}` or `{"index":{"status":400,"error":{"type":"...","reason":"..."}}}`
#[derive(Debug, Deserialize)]
pub(super) struct Item<'a> {
    #[serde(borrow, alias = "delete")]
    pub(super) index: Outcome<'a>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Outcome<'a> {
    pub(super) status: u16,
    #[serde(borrow, default)]
    pub(super) error: Option<Cause<'a>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(status: u16, kind: &str, reason: &str) -> Verdict {
        Verdict::of(
            status,
            &Cause {
                kind: Text(Some(kind.into())),
                reason: Text(Some(reason.into())),
            },
        )
    }

    fn kind(status: u16, kind: &str, reason: &str) -> Option<ErrorKind> {
        match verdict(status, kind, reason) {
            Verdict::Trouble(kind, _) => Some(kind),
            Verdict::Rejected(_) => None,
        }
    }

    #[test]
    fn the_same_trouble_is_the_same_kind_on_every_product() {
        use ErrorKind as K;
        for (status, type_, reason, expected) in [
            (
                429,
                "es_rejected_execution_exception",
                "rejected",
                Some(K::Busy),
            ),
            (
                429,
                "rejected_execution_exception",
                "rejected",
                Some(K::Busy),
            ),
            (
                429,
                "circuit_breaking_exception",
                "[parent] Data too large",
                Some(K::Busy),
            ),
            (429, "", "", Some(K::Busy)),
            (
                429,
                "cluster_block_exception",
                "index [x] blocked by: [TOO_MANY_REQUESTS/12/index read-only / allow delete (api)];",
                Some(K::Busy),
            ),
            (
                403,
                "cluster_block_exception",
                "blocked by: [FORBIDDEN/12/index read-only / allow delete (api)];",
                Some(K::Busy),
            ),
            (
                403,
                "cluster_block_exception",
                "index [x] blocked by: [FORBIDDEN/8/index write (api)];",
                Some(K::Refused),
            ),
            (
                503,
                "cluster_block_exception",
                "blocked by: [SERVICE_UNAVAILABLE/2/no master];",
                Some(K::Busy),
            ),
            (503, "unavailable_shards_exception", "", Some(K::Busy)),
            (502, "", "", Some(K::Busy)),
            (401, "security_exception", "", Some(K::Credentials)),
            (403, "security_exception", "", Some(K::Credentials)),
            (
                404,
                "index_not_found_exception",
                "no such index [x]",
                Some(K::EvidenceLost),
            ),
            (400, "mapper_parsing_exception", "", None),
            (400, "document_parsing_exception", "", None),
        ] {
            assert_eq!(kind(status, type_, reason), expected, "{status} {type_}");
        }
    }

    #[test]
    fn a_reason_keeps_the_field_and_loses_the_value() {
        for (reason, kept) in [
            (
                "failed to parse field [price] of type [long] in document with id 'k'. Preview of field's value: 'geheim'",
                "the value cannot be read into field `price` of type `long` (t)",
            ),
            (
                "[1:7] failed to parse field [price] of type [date] in document with id 'k'. Preview of field's value: '{a=geheim}'",
                "the value cannot be read into field `price` of type `date` (t)",
            ),
            (
                "object mapping for [a] tried to parse field [a] as object, but found a concrete value geheim",
                "the value is no object where the mapping has one, at `a` (t)",
            ),
            (
                "mapping set to strict, dynamic introduction of [a] within [_doc] is not allowed",
                "the value has a field that the strict mapping does not know: `a` (t)",
            ),
            ("something new: geheim", "refused by the server (t)"),
        ] {
            let Verdict::Rejected(text) = verdict(400, "t", reason) else {
                panic!("{reason}");
            };
            assert_eq!(text, kept);
        }
    }

    #[test]
    fn an_answer_that_is_a_page_says_nothing_about_the_documents() {
        let answer = Answer {
            status: 200,
            wait: None,
            body: Bytes::from_static(b"<html>geheim</html>"),
        };
        let error = answer.json::<Bulk<'_>>("search at h").unwrap_err();
        assert_eq!(error.kind, ErrorKind::Timeout);
        assert!(!error.message.contains("geheim"));
    }
}
