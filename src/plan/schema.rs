//! The grammar as JSON Schema, for editors and other programs.
//!
//! Draft 7, which is what editors' YAML support reads. It says less than the checks of a plan: what depends on other
//! parts of the plan (a `from` that a preset fills in, targets that exist) is theirs alone.

use serde_json::{Map, Value, json};

use super::grammar::{Form, Key, PLAN, Support, Word};

/// What `${...}` may stand in for: anything.
const VARIABLE: &str = r"\$\{";

/// Returns the JSON Schema of plans.
#[must_use]
pub fn schema() -> Value {
    let mut schema = map(PLAN);
    schema.insert(
        "$schema".to_owned(),
        json!("http://json-schema.org/draft-07/schema#"),
    );
    schema.insert("title".to_owned(), json!("A plan of rekindle"));
    Value::Object(schema)
}

fn map(keys: &[Key]) -> Map<String, Value> {
    let supported = || keys.iter().filter(|key| key.support == Support::Now);
    let properties: Map<String, Value> = supported()
        .map(|key| {
            let mut of = form(key.form);
            of.insert("description".to_owned(), json!(key.about));
            (key.name.to_owned(), Value::Object(of))
        })
        .collect();
    let required: Vec<_> = supported()
        .filter(|key| key.required)
        .map(|key| key.name)
        .collect();
    let mut schema = object(json!({
        "type": "object", "properties": properties, "additionalProperties": false,
    }));
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    schema
}

fn one_of(keys: &[Key]) -> Map<String, Value> {
    let mut schema = map(keys);
    schema.insert("minProperties".to_owned(), json!(1));
    schema.insert("maxProperties".to_owned(), json!(1));
    schema
}

fn form(form: Form) -> Map<String, Value> {
    match form {
        Form::Text => object(text()),
        Form::Count => scalar(&json!({ "type": "integer", "minimum": 0 }), "^[0-9_]+$"),
        Form::Number => scalar(&json!({ "type": "number" }), r"^[+-]?[0-9.eE+-]+$"),
        Form::Flag => scalar(&json!({ "type": "boolean" }), "^(true|false)$"),
        Form::Size => object(json!({
            "type": "string", "pattern": format!(r"^\s*[0-9]+\s*(B|KiB|MiB|GiB)$|{VARIABLE}"),
        })),
        Form::Time => object(json!({
            "type": "string", "pattern": format!(r"^\s*[0-9]+\s*(ms|s|m|h)$|{VARIABLE}"),
        })),
        Form::TimeOrCount => scalar(
            &json!({ "type": "integer", "minimum": 0 }),
            r"^[0-9_]+$|^\s*[0-9]+\s*(ms|s|m|h)$",
        ),
        Form::Word(words) => object(json!({
            "anyOf": [{ "enum": spelled(words) }, { "type": "string", "pattern": VARIABLE }],
        })),
        Form::Texts => object(json!({ "type": "array", "items": text() })),
        Form::TextOrTexts => object(json!({
            "anyOf": [text(), { "type": "array", "items": text() }],
        })),
        Form::Map(keys) => map(keys),
        Form::OneOf(keys) => one_of(keys),
        Form::Named(keys) => object(json!({
            "type": "object", "minProperties": 1, "additionalProperties": one_of(keys),
        })),
        Form::Maps(keys) => object(json!({
            "type": "array", "minItems": 1, "items": map(keys),
        })),
        Form::OneOfs(keys) => object(json!({ "type": "array", "items": one_of(keys) })),
        Form::Unread => Map::new(),
    }
}

/// Every single value is a text to a plan.
fn text() -> Value {
    json!({ "type": ["string", "number", "boolean"] })
}

/// Returns the schema of a value that YAML may take for `typed`, or for a text that looks like it.
fn scalar(typed: &Value, pattern: &str) -> Map<String, Value> {
    let text = json!({ "type": "string", "pattern": format!("{pattern}|{VARIABLE}") });
    object(json!({ "anyOf": [typed, text] }))
}

fn spelled(words: &[Word]) -> Vec<Value> {
    let mut spelled: Vec<_> = words.iter().map(|word| json!(word.name)).collect();
    // What readers of YAML 1.1, as some editors have, take an `off` without quotes for.
    if words.iter().any(|word| word.name == "off") {
        spelled.push(json!(false));
    }
    spelled
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
