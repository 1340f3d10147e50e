//! What was typed in `aws:`, and in steps about RDS.

use std::time::Duration;

use super::super::{
    decode::{Decoder, Fields, Value},
    diagnostic::{Code, Diagnostic},
    grammar,
    model::filled,
    quote::{listed, quoted},
    rds::SnapshotKind,
};

/// `aws:`
#[derive(Debug)]
pub(in crate::plan) struct Aws {
    pub region: Option<Value<String>>,
    /// May be empty: `"${RDS_ENDPOINT:-}"`.
    pub endpoint: Option<Value<String>>,
    pub hourly: Option<Value<String>>,
}

/// `rds_restore.from:`
#[derive(Debug)]
pub(in crate::plan) enum From {
    Snapshot(Value<String>),
    Latest(SnapshotKind),
    /// Since 1970.
    Time(Value<Duration>),
}

impl Aws {
    pub fn read(plan: &Fields<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let fields = plan.map("aws", grammar::AWS, decoder)?;
        fields.require("region", "region: eu-central-1", decoder);
        Some(Self {
            region: filled(&fields, "region", decoder),
            endpoint: fields.text("endpoint", decoder),
            hourly: filled(&fields, "hourly", decoder),
        })
    }
}

impl From {
    /// Reads `from:` of a restore; `None` where it is missing or broken, which is noted.
    pub fn read(step: &Fields<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        step.require("from", "from: { latest: automated }", decoder);
        let known_before = decoder.problems.len();
        let fields = step.map("from", grammar::RDS_FROM, decoder)?;
        let kinds: Vec<&str> = fields.present().collect();
        match kinds[..] {
            ["snapshot"] => filled(&fields, "snapshot", decoder).map(Self::Snapshot),
            ["latest"] => {
                let word = fields.word("latest", grammar::LATEST, decoder)?;
                SnapshotKind::of(word).map(Self::Latest)
            }
            ["time"] => fields.parsed("time", decoder, moment).map(Self::Time),
            _ => {
                if decoder.problems.len() == known_before {
                    let names = grammar::RDS_FROM.iter().map(|key| key.name);
                    let path = step.path_of("from");
                    decoder.problems.push(
                        Diagnostic::new(
                            Code::InvalidValue,
                            format!("{} is not one origin", quoted(&path)),
                        )
                        .at_known(step.get("from").map(|(at, _)| at), "restored from what?")
                        .help(format!("it is one of {}", listed(names))),
                    );
                }
                None
            }
        }
    }
}

/// Returns the moment that `text` names, since 1970. The error is the help.
fn moment(text: &str) -> Result<Duration, String> {
    chrono::DateTime::parse_from_rfc3339(text.trim())
        .ok()
        .and_then(|time| u64::try_from(time.timestamp()).ok())
        .map(Duration::from_secs)
        .ok_or_else(|| "write a time with its zone, for example `2026-11-21T03:00:00Z`".to_owned())
}
