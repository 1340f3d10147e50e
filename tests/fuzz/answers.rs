//! Looks for answers of Redis and of search servers that are taken for a yes without being one: a row that was not confirmed must
//! never count as stored, whatever a server, a proxy or a broken network sends.

use std::io::{BufRead, Cursor, Read};

use rekindle::{
    error::ErrorKind,
    target::answers::{answered, sifted},
};
use serde_json::Value;

use crate::driver::{corpus, fuzz};

/// What stands for a row's value in answers of the corpus.
const SECRET: &str = "geheim";

const RESP: &[&str] = &[
    "\r\n",
    "+OK\r\n",
    "+QUEUED\r\n",
    "-ERR no\r\n",
    "-OOM command not allowed\r\n",
    "*0\r\n",
    "*1\r\n",
    "*2\r\n",
    "*3\r\n",
    "*-1\r\n",
    "$-1\r\n",
    "$0\r\n\r\n",
    "$9\r\nK3F9QA {}\r\n",
    "$8\r\n1 K3F9QA\r\n",
    ":1\r\n",
    "*",
    "$",
    "9223372036854775807",
    "-",
    "\0",
    "\n",
];

const JSON: &[&str] = &[
    "{\"items\":[",
    "]}",
    "{\"index\":{\"status\":201}}",
    "{\"index\":{\"status\":400}}",
    ",",
    "\"status\":",
    "\"error\":{",
    "\"type\":",
    "\"reason\":",
    "\"index\":",
    "\"delete\":",
    "\"create\":",
    "{}",
    "[]",
    "null",
    "200",
    "201",
    "201.0",
    "-201",
    "429",
    "503",
    "1e3",
    "70000",
    "\"a\"",
    "\\u0000",
    "cluster_block_exception",
    "index_not_found_exception",
    "<html>",
];

/// How many documents a load of the corpus has.
const DOCUMENTS: usize = 3;

/// Returns whether JSON's plain tree says that this document was stored.
fn is_confirmed(answer: &Value, document: usize) -> bool {
    let items = answer["items"].as_array();
    let item = items
        .filter(|items| items.len() == DOCUMENTS)
        .and_then(|items| items[document].as_object());
    let outcome = item.and_then(|item| item.get("index").or_else(|| item.get("delete")));
    let status = outcome.and_then(|outcome| outcome["status"].as_u64());
    let failed = outcome.is_some_and(|outcome| !outcome["error"].is_null());
    status.is_some_and(|status| (200..300).contains(&status)) && !failed
}

/// Returns `json` with another character for each escaped surrogate, for the tree takes no half of a pair.
fn without_surrogates(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let escape = rest.as_bytes();
        let is_surrogate = matches!(escape, [_, b'u', b'd' | b'D', b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F', a, b, ..]
            if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
        let (shown, length) = if is_surrogate {
            ("\\ufffd", 6)
        } else {
            let length = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
            (&rest[..length], length)
        };
        text.push_str(shown);
        rest = &rest[length..];
    }
    text + rest
}

type Done = (Vec<usize>, Vec<usize>, Option<ErrorKind>);

fn checked(body: &[u8]) -> Result<(Done, bool), String> {
    let found = sifted(body, DOCUMENTS);
    // Texts in fields that nobody reads need be neither UTF-8 nor pairs of surrogates.
    let text = without_surrogates(&String::from_utf8_lossy(body));
    let tree = serde_json::from_str(&text).unwrap_or(Value::Null);
    let mut stored = 0;
    for document in 0..DOCUMENTS {
        let waits = found.waiting.contains(&document);
        let rejected = found.rejected.contains(&document);
        if waits && rejected {
            return Err(format!("document {document} waits, and will never pass"));
        }
        if !waits && !rejected {
            stored += 1;
            if !is_confirmed(&tree, document) {
                return Err(format!("document {document} counts as stored"));
            }
        }
    }
    if found.error.is_none() != found.waiting.is_empty() {
        return Err(format!("documents wait for no reason: {found:?}"));
    }
    let done = (found.waiting, found.rejected, found.error.map(|e| e.kind));
    Ok((done, stored > 0))
}

#[test]
fn no_document_counts_as_stored_that_the_answer_does_not_confirm() {
    for (path, body) in corpus("answers/bulk") {
        let found = sifted(&body, DOCUMENTS);
        let said = format!("{:?}", found.error);
        assert!(!said.contains(SECRET), "{}: {said}", path.display());
    }
    fuzz("answers/bulk", JSON, 20_000, checked);
}

/// One reply, read as the protocol's description has it.
#[derive(Debug, PartialEq)]
enum Reply {
    Status(Vec<u8>),
    Bulk(Option<Vec<u8>>),
    Array(Option<Vec<Reply>>),
    Other,
}

/// Returns the next reply; `None` where there is no whole one.
fn reply(from: &mut Cursor<&[u8]>) -> Option<Reply> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line).ok()?;
    let line = line.strip_suffix(b"\r\n")?;
    let (sign, rest) = line.split_first()?;
    let number = || std::str::from_utf8(rest).ok()?.parse::<i64>().ok();
    Some(match sign {
        b'+' => Reply::Status(rest.to_vec()),
        b'-' | b':' => Reply::Other,
        b'$' => {
            let Ok(length) = u64::try_from(number()?) else {
                return Some(Reply::Bulk(None));
            };
            let mut bytes = Vec::new();
            from.take(length.checked_add(2)?)
                .read_to_end(&mut bytes)
                .ok()?;
            let bytes = bytes.strip_suffix(b"\r\n")?;
            (bytes.len() as u64 == length).then(|| Reply::Bulk(Some(bytes.to_vec())))?
        }
        b'*' => {
            let Ok(count) = u64::try_from(number()?) else {
                return Some(Reply::Array(None));
            };
            // No transaction here has more.
            let members = (0..count.min(10)).map(|_| reply(from));
            Reply::Array(Some(members.collect::<Option<_>>()?))
        }
        _ => return None,
    })
}

/// Returns whether these bytes say of every `MSET` of a transaction that it was carried out, under our claim.
fn is_carried_out(bytes: &[u8], msets: usize) -> bool {
    let mut from = Cursor::new(bytes);
    let mut next = || reply(&mut from);
    let status = |text: &str| Some(Reply::Status(text.as_bytes().to_vec()));
    let pair = |reply: Option<Reply>| match reply {
        Some(Reply::Array(Some(pair))) => <[Reply; 2]>::try_from(pair).ok(),
        _ => None,
    };
    let ours = Reply::Bulk(Some(b"K3F9QA {}".to_vec()));
    let begun = next() == status("OK")
        && pair(next()).is_some_and(|[claim, _]| claim == ours)
        && next() == status("OK")
        && (0..msets).all(|_| next() == status("QUEUED"));
    let done = |reply: &Reply| *reply == Reply::Status(b"OK".to_vec());
    begun
        && matches!(next(), Some(Reply::Array(Some(all))) if all.len() == msets && all.iter().all(done))
        && next() == status("OK")
        && pair(next()).is_some()
}

#[test]
fn no_chunk_counts_as_stored_that_redis_does_not_confirm() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let mut kinds: Vec<Option<ErrorKind>> = Vec::new();
    fuzz("answers/redis", RESP, 2_000, |bytes| {
        // A chunk of one `MSET`, and where the answer has more, of two.
        let msets = if bytes
            .windows(9)
            .filter(|part| part == b"+QUEUED\r\n")
            .count()
            > 1
        {
            2
        } else {
            1
        };
        let rows = if msets == 2 { 1_001 } else { 1 };
        let found = runtime.block_on(answered(bytes.to_vec(), rows));
        if found.is_ok() && !is_carried_out(bytes, msets) {
            return Err("the chunk counts as stored".to_owned());
        }
        let kind = found.as_ref().err().map(|error| error.kind);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
        Ok(((msets, kind), found.is_ok()))
    });
}
