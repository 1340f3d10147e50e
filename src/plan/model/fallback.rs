//! What was typed about fallbacks: `console:`, and `fallback:` of a resource.

use std::time::Duration;

use super::super::{
    decode::{Decoder, Fields, Value},
    diagnostic::{Code, Diagnostic, Span},
    grammar,
    model::filled,
    quote::quoted,
    units,
};

/// `console:`
#[derive(Debug, Clone)]
pub(in crate::plan) struct Console {
    pub command: Option<Value<Vec<Value<String>>>>,
    pub within: Option<Value<Duration>>,
}

/// `fallback:` of a resource.
#[derive(Debug, Clone)]
pub(in crate::plan) struct Handover {
    /// Where problems of the whole are shown.
    pub at: Span,
    pub to: Option<Value<String>>,
    pub trigger: Option<Value<String>>,
    pub table: Option<Value<String>>,
    pub column: Option<Value<String>>,
    pub by: By,
    /// Whether `from.entity` names the same entities.
    pub of_rows: bool,
}

/// `fallback.by:`
#[derive(Debug, Clone)]
pub(in crate::plan) enum By {
    /// Nothing was said.
    Absent,
    /// What was said is a problem that is noted already.
    Broken,
    Console,
    Jenkins {
        job: Option<Value<String>>,
    },
    Sql {
        url: Option<Value<String>>,
        statement: Option<Value<String>>,
    },
}

impl Console {
    pub fn read(plan: &Fields<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let console = plan.map("console", grammar::CONSOLE, decoder)?;
        console.require(
            "command",
            "command: [ssh, deploy@cli, vendor/bin/console]",
            decoder,
        );
        Some(Self {
            command: console.texts("command", decoder),
            within: console.parsed("within", decoder, units::duration),
        })
    }
}

impl Handover {
    pub fn read(resource: &Fields<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let (at, _) = resource.get("fallback")?;
        let fields = resource.map("fallback", grammar::HANDOVER, decoder)?;
        fields.word("to", grammar::FALLBACK_TO, decoder);
        let to = fields.text("to", decoder);
        let switched_off = to.as_ref().is_some_and(|to| to.value == "none");
        if !switched_off {
            fields.require("ids", "ids: { table: spy_url, column: id_url }", decoder);
        }
        let ids = fields.map("ids", grammar::IDS, decoder);
        if let Some(ids) = &ids {
            ids.require("table", "table: spy_url", decoder);
            ids.require("column", "column: id_url", decoder);
        }
        let of_ids =
            |key, decoder: &mut Decoder<'_>| ids.as_ref().and_then(|ids| filled(ids, key, decoder));
        Some(Self {
            at,
            to,
            trigger: filled(&fields, "trigger", decoder),
            table: of_ids("table", decoder),
            column: of_ids("column", decoder),
            by: By::read(&fields, decoder),
            of_rows: true,
        })
    }

    /// Returns what the preset fills in where the plan has a console.
    pub fn by_console(
        trigger: Value<String>,
        table: Value<String>,
        column: Value<String>,
        at: Span,
    ) -> Self {
        Self {
            at,
            to: None,
            trigger: Some(trigger),
            table: Some(table),
            column: Some(column),
            by: By::Console,
            of_rows: true,
        }
    }
}

impl By {
    fn read(handover: &Fields<'_>, decoder: &mut Decoder<'_>) -> Self {
        let Some((at, _)) = handover.get("by") else {
            return Self::Absent;
        };
        let known_before = decoder.problems.len();
        let Some(by) = handover.map("by", grammar::BY, decoder) else {
            return Self::Broken;
        };
        let kinds: Vec<&str> = by.present().collect();
        match kinds.as_slice() {
            ["console"] => {
                by.map("console", grammar::BY_CONSOLE, decoder);
                Self::Console
            }
            ["jenkins"] => {
                let Some(jenkins) = by.map("jenkins", grammar::BY_JENKINS, decoder) else {
                    return Self::Broken;
                };
                jenkins.require("job", "job: republish", decoder);
                Self::Jenkins {
                    job: filled(&jenkins, "job", decoder),
                }
            }
            ["sql"] => {
                let Some(sql) = by.map("sql", grammar::BY_SQL, decoder) else {
                    return Self::Broken;
                };
                sql.require("url", "url: \"${REPUBLISH_URL}\"", decoder);
                sql.require(
                    "statement",
                    "statement: \"UPDATE spy_url SET touched = NOW() WHERE id_url IN ({ids})\"",
                    decoder,
                );
                Self::Sql {
                    url: sql.text("url", decoder),
                    statement: sql.text("statement", decoder),
                }
            }
            _ => {
                if decoder.problems.len() == known_before {
                    let path = handover.path_of("by");
                    decoder.problems.push(
                        Diagnostic::new(
                            Code::InvalidValue,
                            format!("{} has to name one publisher", quoted(&path)),
                        )
                        .at(at, "one of them")
                        .help("write `by: { console: {} }`, `by: { jenkins: { job: ... } }` or `by: { sql: { url: ..., statement: ... } }`"),
                    );
                }
                Self::Broken
            }
        }
    }
}
