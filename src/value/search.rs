//! Documents as a shop's own search client sends them.

use super::php::{Form, Json};

/// Returns a writer of documents: `_timestamp` is taken out, characters beyond ASCII stay as they are, `/` is still
/// written `\/`. A document without members becomes `[]`, as in PHP.
#[must_use]
pub const fn documents() -> Json {
    Json::new(Form::Search)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_written_as_the_shop_writes_it() {
        // Each as PHP 8.2 writes it after the way through the queue.
        for (data, document) in [
            (
                r#"{"a":"größe","_timestamp":1.5,"b":1.0}"#,
                r#"{"a":"größe","b":1}"#,
            ),
            (r#"{"_timestamp":1}"#, "[]"),
            (r#"{"_timestamp":1,"0":"a","1":"b"}"#, r#"["a","b"]"#),
            (
                r#"{"\u005ftimestamp":1,"a":{"_timestamp":2}}"#,
                r#"{"a":{"_timestamp":2}}"#,
            ),
            (
                r#"{"a":"\u00e9\u2028\/<>&\u0001"}"#,
                r#"{"a":"é\u2028\/<>&\u0001"}"#,
            ),
            (r#"{"a":"\ud83d\ude00 /"}"#, r#"{"a":"😀 \/"}"#),
        ] {
            assert_eq!(
                documents().encode(data.as_bytes()),
                Ok(document.as_bytes()),
                "{data}"
            );
        }
    }

    #[test]
    fn a_document_that_is_written_so_already_is_not_copied() {
        let data = br#"{"a":"plain","b":[1,2.5,null],"c":{"d":"\/x"}}"#;
        assert!(std::ptr::eq(documents().encode(data).unwrap(), data));
    }
}
