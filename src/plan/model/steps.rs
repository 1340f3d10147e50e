//! What was typed in `prepare:` and `finish:`.

use std::time::Duration;

use super::super::{
    decode::{Decoder, Fields, Value},
    diagnostic::{Code, Diagnostic, Span},
    grammar,
    model::{RestoredFrom, Tls, boolean, filled},
    quote::{listed, quoted},
    tree::Node,
    units,
};

/// An entry of `prepare:` or `finish:`.
#[derive(Debug)]
pub(in crate::plan) struct Step {
    /// `prepare[0].shell`
    pub path: String,
    /// Where problems of the whole are shown.
    pub at: Span,
    /// `None` where it is no step that could be carried out, which has its problem noted.
    pub kind: Option<StepKind>,
    pub within: Option<Value<Duration>>,
}

/// What a step does.
#[derive(Debug)]
pub(in crate::plan) enum StepKind {
    Maintenance {
        on: Option<Value<String>>,
        check: Option<Value<String>>,
        off: Option<Value<String>>,
    },
    MaintenanceOff,
    Shell {
        run: Option<Value<String>>,
        check: Option<Value<String>>,
        repeatable: Option<Value<bool>>,
        undo: Option<Value<String>>,
        /// Whether `check` or `repeatable` is there, read or not.
        is_answered: bool,
    },
    HttpCheck {
        url: Option<Value<String>>,
        status: Option<Value<u64>>,
        tls: Option<Box<Tls>>,
    },
    Approve {
        question: Option<Value<String>>,
    },
    JenkinsBuild {
        job: Option<Value<String>>,
        shell: Option<Value<String>>,
        shell_from: Option<Value<String>>,
        /// How many of the two there are, read or not.
        commands: usize,
    },
    RdsSnapshot {
        instance: Option<Value<String>>,
        name: Option<Value<String>>,
    },
    RdsRename {
        instance: Option<Value<String>>,
        to: Option<Value<String>>,
        in_window: bool,
    },
    RdsRestore {
        instance: Option<Value<String>>,
        from: Option<RestoredFrom>,
        settings_of: Option<Value<String>>,
    },
}

/// `jenkins:`
#[derive(Debug)]
pub(in crate::plan) struct Jenkins {
    pub at: Span,
    pub url: Option<Value<String>>,
    pub user: Option<Value<String>>,
    pub token: Option<Value<String>>,
    pub console: Option<Value<String>>,
    pub job: Option<Value<String>>,
    pub tls: Option<Box<Tls>>,
}

impl Jenkins {
    pub fn read(plan: &Fields<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let (at, _) = plan.get("jenkins")?;
        let fields = plan.map("jenkins", grammar::JENKINS, decoder)?;
        fields.require("url", "url: \"${JENKINS_URL}\"", decoder);
        Some(Self {
            at,
            url: filled(&fields, "url", decoder),
            user: unless_empty(fields.text("user", decoder)),
            token: unless_empty(fields.text("token", decoder)),
            console: filled(&fields, "console", decoder),
            job: filled(&fields, "job", decoder),
            tls: Tls::read(&fields, decoder).map(Box::new),
        })
    }
}

/// Returns what was typed, if it comes to anything: `"${JENKINS_USER:-}"` is nobody.
fn unless_empty(text: Option<Value<String>>) -> Option<Value<String>> {
    text.filter(|text| !text.value.trim().is_empty())
}

impl Step {
    /// Reads the list under `key`; problems go to the decoder.
    pub fn list(plan: &Fields<'_>, key: &str, decoder: &mut Decoder<'_>) -> Vec<Self> {
        let Some((_, items)) = plan.list(key, decoder) else {
            return Vec::new();
        };
        let numbered = items.iter().enumerate();
        numbered
            .map(|(index, node)| Self::read(&format!("{key}[{index}]"), node, decoder))
            .collect()
    }

    fn read(path: &str, node: &Node, decoder: &mut Decoder<'_>) -> Self {
        let known_before = decoder.problems.len();
        let mut step = Self {
            path: path.to_owned(),
            at: node.span,
            kind: None,
            within: None,
        };
        let opened = Fields::open(node, path, Some(node.span), grammar::STEP, decoder);
        let Some(entry) = opened else { return step };
        let kinds: Vec<&str> = entry.present().collect();
        let [kind] = kinds[..] else {
            if kinds.len() > 1 || decoder.problems.len() == known_before {
                let what = match kinds.len() {
                    0 => "names no step".to_owned(),
                    count => format!("names {count} steps"),
                };
                let names = grammar::STEP.iter().filter(|key| key.is_supported());
                decoder.problems.push(
                    Diagnostic::new(Code::InvalidValue, format!("{} {what}", quoted(path)))
                        .at(node.span, "has to be one step")
                        .help(format!(
                            "each entry of the list is one of {}",
                            listed(names.map(|key| key.name))
                        )),
                );
            }
            return step;
        };
        step.path = entry.path_of(kind);
        if let Some((at, _)) = entry.get(kind) {
            step.at = at;
        }
        let keys = match kind {
            "maintenance" => grammar::MAINTENANCE,
            "maintenance_off" => grammar::MAINTENANCE_OFF,
            "shell" => grammar::SHELL,
            "http_check" => grammar::HTTP_CHECK,
            "jenkins_build" => grammar::JENKINS_BUILD,
            "rds_snapshot" => grammar::RDS_SNAPSHOT,
            "rds_rename" => grammar::RDS_RENAME,
            "rds_restore" => grammar::RDS_RESTORE,
            _ => grammar::APPROVE,
        };
        if let Some(fields) = entry.map(kind, keys, decoder) {
            step.within = fields.parsed("within", decoder, units::duration);
            step.kind = Some(StepKind::read(kind, &fields, decoder));
        }
        step
    }
}

impl StepKind {
    fn read(kind: &str, fields: &Fields<'_>, decoder: &mut Decoder<'_>) -> Self {
        match kind {
            "maintenance" => {
                fields.require("on", "on: \"touch maintenance.flag\"", decoder);
                fields.require("check", "check: \"test -e maintenance.flag\"", decoder);
                fields.require("off", "off: \"rm -f maintenance.flag\"", decoder);
                Self::Maintenance {
                    on: filled(fields, "on", decoder),
                    check: filled(fields, "check", decoder),
                    off: filled(fields, "off", decoder),
                }
            }
            "maintenance_off" => Self::MaintenanceOff,
            "shell" => {
                fields.require("run", "run: \"systemctl restart worker\"", decoder);
                Self::Shell {
                    run: filled(fields, "run", decoder),
                    check: filled(fields, "check", decoder),
                    repeatable: fields.parsed("repeatable", decoder, boolean),
                    undo: filled(fields, "undo", decoder),
                    is_answered: ["check", "repeatable"]
                        .iter()
                        .any(|key| fields.get(key).is_some()),
                }
            }
            "http_check" => {
                fields.require("url", "url: \"https://shop.test/\"", decoder);
                Self::HttpCheck {
                    url: filled(fields, "url", decoder),
                    status: fields.count("status", decoder),
                    tls: Tls::read(fields, decoder).map(Box::new),
                }
            }
            "jenkins_build" => {
                fields.require("job", "job: resync", decoder);
                Self::JenkinsBuild {
                    job: filled(fields, "job", decoder),
                    shell: filled(fields, "shell", decoder),
                    shell_from: filled(fields, "shell_from", decoder),
                    commands: ["shell", "shell_from"]
                        .iter()
                        .filter(|key| fields.get(key).is_some())
                        .count(),
                }
            }
            "rds_snapshot" => {
                fields.require("instance", "instance: shop-db", decoder);
                fields.require("name", "name: \"before-cutover-{date}\"", decoder);
                Self::RdsSnapshot {
                    instance: filled(fields, "instance", decoder),
                    name: filled(fields, "name", decoder),
                }
            }
            "rds_rename" => {
                fields.require("instance", "instance: shop-db", decoder);
                fields.require("to", "to: shop-db-old", decoder);
                let when = fields.word("when", grammar::WHEN, decoder);
                Self::RdsRename {
                    instance: filled(fields, "instance", decoder),
                    to: filled(fields, "to", decoder),
                    in_window: when == Some("maintenance_window"),
                }
            }
            "rds_restore" => {
                fields.require("instance", "instance: shop-db", decoder);
                fields.require("settings_of", "settings_of: shop-db-old", decoder);
                Self::RdsRestore {
                    instance: filled(fields, "instance", decoder),
                    from: RestoredFrom::read(fields, decoder),
                    settings_of: filled(fields, "settings_of", decoder),
                }
            }
            _ => {
                fields.require(
                    "question",
                    "question: \"does the storefront look right?\"",
                    decoder,
                );
                Self::Approve {
                    question: filled(fields, "question", decoder),
                }
            }
        }
    }
}
