//! The shop's own messages.
//!
//! ```text
//! {"write":{"key":"url:\/en\/x","value":{...},"resource":"url","params":[],"store":null}}
//! {"write":{"key":"product_abstract:de:de_de:42","value":{...},"resource":"product_abstract","params":{"type":"page"},"store":"DE"}}
//! {"delete":{"key":"url:\/en\/x","value":{"_timestamp":1795249691.03},"resource":"url","store":"","params":[]}}
//! {"body":"{\"write\":{...}}"}                                  as the shop's newer transport wraps them
//! ```
//!
//! What we write is what `sync:data` writes, byte for byte; what we read is whatever the shop's synchronisation sends.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    plan::QueueConfig,
    value::php::{self, Form},
};

/// Where the shop's consumer says why a message failed.
const REASON: &str = "errorMessage";

/// Writes the messages of one resource.
#[derive(Debug)]
pub(super) struct Composer {
    /// Behind the value, up to the store: `,"resource":"url","params":[],"store":`
    middle: Vec<u8>,
}

impl Composer {
    pub(super) fn new(queue: &QueueConfig) -> Self {
        let mut middle = b",\"resource\":".to_vec();
        php::string(&queue.resource, Form::Message, &mut middle);
        middle.extend_from_slice(b",\"params\":");
        match &queue.kind {
            Some(kind) => {
                middle.extend_from_slice(b"{\"type\":");
                php::string(kind, Form::Message, &mut middle);
                middle.push(b'}');
            }
            None => middle.extend_from_slice(b"[]"),
        }
        middle.extend_from_slice(b",\"store\":");
        Self { middle }
    }

    /// Returns the message of a row whose value is in [`Form::Message`] already. A row of no store says `null`.
    pub(super) fn write(&self, key: &str, value: &[u8], store: Option<&str>) -> Vec<u8> {
        let around = key.len() + self.middle.len() + 64;
        let mut out = Vec::with_capacity(value.len() + around);
        out.extend_from_slice(b"{\"write\":{\"key\":");
        php::string(key, Form::Message, &mut out);
        out.extend_from_slice(b",\"value\":");
        out.extend_from_slice(value);
        out.extend_from_slice(&self.middle);
        match store {
            Some(store) => php::string(store, Form::Message, &mut out),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b"}}");
        out
    }
}

/// What a message asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The key, without the target's prefix.
    pub key: String,
    /// What is to be done with it.
    pub action: Action,
    /// What the message calls the resource.
    pub resource: String,
    /// The type of index it goes to; `None` for storage.
    pub kind: Option<String>,
    /// The store it is of.
    pub store: Option<String>,
}

/// What a message does to its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Stores this JSON.
    Write(Vec<u8>),
    /// Takes it away.
    Delete,
}

/// Why a message asks for nothing that can be done. Holds no part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoMessage {
    /// No JSON, or not of the shape.
    #[error("the message is not one of the shop's synchronisation")]
    Shape,
    /// Neither or both of `write` and `delete`.
    #[error("the message asks neither for a write nor for a delete")]
    Action,
    /// A write whose value is neither an object nor a list.
    #[error("the value in the message is neither an object nor a list")]
    Value,
}

#[derive(Deserialize)]
struct Envelope {
    body: String,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    write: Option<Part<'a>>,
    #[serde(borrow)]
    delete: Option<Part<'a>>,
}

#[derive(Deserialize)]
struct Part<'a> {
    key: String,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    #[serde(default)]
    resource: Option<String>,
    /// A map, or PHP's empty list.
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(default)]
    store: Option<String>,
}

#[derive(Deserialize)]
struct Params {
    #[serde(rename = "type")]
    kind: Option<String>,
}

impl Message {
    /// Reads the body of a message, in the shop's envelope or without.
    ///
    /// # Errors
    ///
    /// [`NoMessage`] for one that nobody can carry out.
    pub fn read(body: &[u8]) -> Result<Self, NoMessage> {
        // Only where it may be one: else each message would be read twice.
        let bare = [&b"{\"write\""[..], b"{\"delete\""];
        let start = body.trim_ascii_start();
        if bare.iter().any(|begin| start.starts_with(begin)) {
            return Self::inner(body);
        }
        if let Ok(envelope) = serde_json::from_slice::<Envelope>(body) {
            return Self::inner(envelope.body.as_bytes());
        }
        Self::inner(body)
    }

    fn inner(body: &[u8]) -> Result<Self, NoMessage> {
        let body: Body<'_> = serde_json::from_slice(body).map_err(|_| NoMessage::Shape)?;
        let (part, writes) = match (body.write, body.delete) {
            (Some(part), None) => (part, true),
            (None, Some(part)) => (part, false),
            _ => return Err(NoMessage::Action),
        };
        let action = if writes {
            let value = part.value.ok_or(NoMessage::Value)?.get().as_bytes();
            if !matches!(value.first(), Some(b'{' | b'[')) {
                return Err(NoMessage::Value);
            }
            Action::Write(value.to_vec())
        } else {
            Action::Delete
        };
        let kind = part
            .params
            .and_then(|params| serde_json::from_str::<Params>(params.get()).ok())
            .and_then(|params| params.kind);
        Ok(Self {
            key: part.key,
            action,
            resource: part.resource.unwrap_or_default(),
            kind,
            store: part.store.filter(|store| !store.is_empty()),
        })
    }
}

/// Returns `body` with the reason why it failed, as the shop's consumer adds it: on the top level. A body that is no
/// object goes whole into `body`.
pub(super) fn failed(body: &[u8], reason: &str) -> Vec<u8> {
    let mut reason_text = Vec::new();
    php::string(reason, Form::Message, &mut reason_text);
    let open = body.trim_ascii();
    let is_object = serde_json::from_slice::<serde::de::IgnoredAny>(open).is_ok()
        && open.first() == Some(&b'{')
        && open.len() > 2;
    let mut out = Vec::with_capacity(body.len() + reason_text.len() + 32);
    if is_object {
        out.extend_from_slice(&open[..open.len() - 1]);
    } else {
        out.extend_from_slice(b"{\"body\":");
        php::string(&String::from_utf8_lossy(body), Form::Message, &mut out);
    }
    out.push(b',');
    php::string(REASON, Form::Message, &mut out);
    out.push(b':');
    out.extend_from_slice(&reason_text);
    out.push(b'}');
    out
}

/// The members of an object, in their order.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Reader).map(Members)
    }
}

/// Returns the body of a message that failed as it was before: without its `errorMessage`, all else byte for byte. What was no
/// object stays in `body`, where it was put.
pub(super) fn without_reason(body: &[u8]) -> Vec<u8> {
    let Ok(Members(members)) = serde_json::from_slice(body) else {
        return body.to_vec();
    };
    if !members.iter().any(|(name, _)| name == REASON) {
        return body.to_vec();
    }
    let mut out = Vec::with_capacity(body.len());
    out.push(b'{');
    for (name, value) in members.iter().filter(|(name, _)| name != REASON) {
        if out.len() > 1 {
            out.push(b',');
        }
        php::string(name, Form::Message, &mut out);
        out.push(b':');
        out.extend_from_slice(value.get().as_bytes());
    }
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn composer(kind: Option<&str>) -> Composer {
        Composer::new(&QueueConfig {
            name: "sync.storage.url".into(),
            resource: "url".into(),
            kind: kind.map(str::to_owned),
            stores: true,
            within: Duration::ZERO,
        })
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn messages_are_those_of_the_shop() {
        assert_eq!(
            text(composer(None).write("url:/en/<x>", br#"{"a":1}"#, None)),
            r#"{"write":{"key":"url:\/en\/\u003Cx\u003E","value":{"a":1},"resource":"url","params":[],"store":null}}"#
        );
        assert_eq!(
            text(composer(Some("page")).write("p:de:ü", b"[]", Some("DE"))),
            r#"{"write":{"key":"p:de:\u00fc","value":[],"resource":"url","params":{"type":"page"},"store":"DE"}}"#
        );
    }

    #[test]
    fn what_is_written_is_read_again() {
        let written = composer(Some("page")).write("a/'\"&\u{1f600}", br#"{"b":[]}"#, Some("AT"));
        let read = Message::read(&written).unwrap();
        assert_eq!(
            read,
            Message {
                key: "a/'\"&\u{1f600}".into(),
                action: Action::Write(br#"{"b":[]}"#.to_vec()),
                resource: "url".into(),
                kind: Some("page".into()),
                store: Some("AT".into()),
            }
        );
    }

    #[test]
    fn every_message_of_the_shop_is_understood() {
        for (body, writes, store) in [
            (
                r#"{"write":{"key":"k","value":{"_timestamp":1.5},"resource":"r","store":"","params":[]}}"#,
                true,
                None,
            ),
            (
                r#"{"delete":{"key":"k","value":{"_timestamp":1.5},"resource":"r","store":"DE","params":{"type":"page"}}}"#,
                false,
                Some("DE"),
            ),
            // A mapping: no store, no params.
            (
                r#"{"write":{"key":"k","value":{"id":42},"resource":"r"}}"#,
                true,
                None,
            ),
            (
                r#"{"body":"{\"write\":{\"key\":\"k\",\"value\":[],\"resource\":\"r\",\"params\":[],\"store\":null}}"}"#,
                true,
                None,
            ),
        ] {
            let read = Message::read(body.as_bytes()).unwrap();
            assert_eq!((read.key.as_str(), read.resource.as_str()), ("k", "r"));
            assert_eq!(matches!(read.action, Action::Write(_)), writes, "{body}");
            assert_eq!(read.store.as_deref(), store, "{body}");
        }
    }

    #[test]
    fn what_nobody_can_carry_out_is_named_without_its_text() {
        for (body, why) in [
            ("geheim", NoMessage::Shape),
            ("null", NoMessage::Shape),
            ("{}", NoMessage::Action),
            (r#"{"body":"geheim"}"#, NoMessage::Shape),
            (
                r#"{"write":{"key":"k","value":"geheim","resource":"r"}}"#,
                NoMessage::Value,
            ),
            (r#"{"write":{"key":"k","resource":"r"}}"#, NoMessage::Value),
            (r#"{"write":{"value":[]}}"#, NoMessage::Shape),
        ] {
            assert_eq!(Message::read(body.as_bytes()), Err(why), "{body}");
            assert!(!why.to_string().contains("geheim"));
        }
    }

    #[test]
    fn without_its_reason_a_failed_message_is_what_it_was() {
        for body in [
            r#"{"write":{"key":"a\/b","value":{ "n" : 1.0 },"resource":"r"}}"#,
            r#"{"body":"{\"write\":{}}","more":[1, 2]}"#,
        ] {
            let put_aside = failed(body.as_bytes(), "it's full");
            assert_eq!(text(without_reason(&put_aside)), body);
            assert_eq!(text(without_reason(body.as_bytes())), body);
        }
        let first = br#"{"errorMessage":"no","delete":{"key":"k"}}"#;
        assert_eq!(text(without_reason(first)), r#"{"delete":{"key":"k"}}"#);
        assert_eq!(
            text(without_reason(&failed(b"oops", "no"))),
            r#"{"body":"oops"}"#
        );
        assert_eq!(text(without_reason(b"oops")), "oops");
    }

    #[test]
    fn a_failed_message_says_why_on_its_top_level() {
        assert_eq!(
            text(failed(br#"{"write":{"key":"k"}}"#, "it's full")),
            r#"{"write":{"key":"k"},"errorMessage":"it\u0027s full"}"#
        );
        assert_eq!(
            text(failed(b"ge<heim", "no")),
            r#"{"body":"ge\u003Cheim","errorMessage":"no"}"#
        );
        assert_eq!(
            text(failed(b"{}", "no")),
            r#"{"body":"{}","errorMessage":"no"}"#
        );
    }
}
