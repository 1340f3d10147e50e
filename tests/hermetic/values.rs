//! Values as the shop's own synchronisation was seen to write them.

use std::fs;

use rekindle::value::php::{Form, Json};
use serde_json::Value;

/// `values.jsonl` has one line for each value: what was in the column, what the real classes of Spryker put in the
/// message and what ended in Redis; null where they aborted the export, or wrote an empty list for what they could not
/// read. Raw characters of four bytes are `?` there: the shop's connection to its database loses them before PHP sees
/// them, ours does not. (PHP 8.2, spryker/synchronization 1.19.)
#[test]
fn values_are_those_of_the_shop() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hermetic/values.jsonl");
    let vectors = fs::read_to_string(path).unwrap();
    let mut seen = 0;
    for line in vectors.lines() {
        let vector: Value = serde_json::from_str(line).unwrap();
        let data = vector["data"].as_str().unwrap();
        for (form, name) in [(Form::Message, "message"), (Form::Storage, "redis")] {
            let mut json = Json::new(form);
            let written = json.encode(data.as_bytes()).ok();
            let expected = vector[name].as_str().map(str::as_bytes);
            assert_eq!(
                written.map(String::from_utf8_lossy),
                expected.map(String::from_utf8_lossy),
                "{name} of {data}"
            );
        }
        // What a consumer makes of the message is what a restore writes without one.
        let mut sent = Json::new(Form::Message);
        if let Ok(message) = sent.encode(data.as_bytes()) {
            let mut consumed = Json::new(Form::Storage);
            let written = consumed.encode(message).map(<[u8]>::to_vec);
            let mut direct = Json::new(Form::Storage);
            let expected = direct.encode(data.as_bytes()).map(<[u8]>::to_vec);
            assert_eq!(written, expected, "consumed, of {data}");
        }
        seen += 1;
    }
    assert_eq!(seen, 29);
}

/// What the shop's connection loses, see above: a character of four bytes as it is, beside its escapes.
#[test]
fn characters_of_four_bytes_are_kept_where_the_shop_loses_them() {
    let data = "{\"a\":\"\u{1f600} \\ud83d\\ude00\"}";
    for form in [Form::Message, Form::Storage] {
        let mut json = Json::new(form);
        let written = json.encode(data.as_bytes()).unwrap();
        assert_eq!(
            String::from_utf8_lossy(written),
            r#"{"a":"\ud83d\ude00 \ud83d\ude00"}"#
        );
    }
}
