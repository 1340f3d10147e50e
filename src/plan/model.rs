//! What was typed, field by field, before it is checked and resolved.
//!
//! Everything is optional here: what is missing or broken has its problem noted already, and the checks go on with
//! the rest.

use std::time::Duration;

mod fallback;
mod rds;
mod steps;

pub(super) use fallback::{By, Console, Handover};
pub(super) use rds::{Aws, From as RestoredFrom};
pub(super) use steps::{Jenkins, Step, StepKind};

use super::{
    broker::Broker,
    decode::{Decoder, Fields, Value},
    diagnostic::{Code, Diagnostic, Span},
    grammar, preset,
    quote::quoted,
    resolved::{Compression, Overlap, Preset, ValueForm},
    search::Search,
    tree::{Kind, Node},
    units,
};
use crate::tls::Verify;

/// The generation of the grammar that this release reads.
const VERSION: &str = "1";

/// The whole plan.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub name: Option<Value<String>>,
    pub preset: Option<Preset>,
    /// What the preset filled in: path and value.
    pub preset_used: Vec<(String, String)>,
    pub source_url: Option<Value<String>>,
    pub stores: Option<Value<Vec<Value<String>>>>,
    /// Whether `stores` is there and could not be read.
    pub stores_broken: bool,
    pub source_tls: Option<Tls>,
    pub targets: Vec<Target>,
    pub resources: Vec<Resource>,
    /// `ignore_tables:`
    pub ignored: Vec<Value<String>>,
    pub console: Option<Console>,
    pub jenkins: Option<Jenkins>,
    pub aws: Option<Aws>,
    pub prepare: Vec<Step>,
    pub finish: Vec<Step>,
    pub broker: Option<Broker>,
    /// Whether `broker` is there and could not be read.
    pub broker_broken: bool,
    pub defaults: Defaults,
}

/// An entry of `targets:`.
#[derive(Debug)]
pub(super) struct Target {
    pub name: Value<String>,
    pub kind: Option<TargetKind>,
}

/// Which store a target is.
#[derive(Debug)]
pub(super) enum TargetKind {
    Redis(Redis),
    Search(Search),
    File(File),
}

/// `tls:`
#[derive(Debug)]
pub(super) struct Tls {
    /// `source.tls`
    pub path: String,
    pub at: Span,
    pub ca: Option<Value<String>>,
    pub cert: Option<Value<String>>,
    pub key: Option<Value<String>>,
    pub verify: Option<Value<Verify>>,
    /// Whether any of them was there and broken, which has its problem noted.
    pub broken: bool,
}

/// `redis:`
#[derive(Debug, Default)]
pub(super) struct Redis {
    pub url: Option<Value<String>>,
    pub tls: Option<Box<Tls>>,
    pub prefix: Option<Value<String>>,
    pub value: Option<ValueForm>,
    pub compress: Option<Compression>,
    pub allow_eviction: Option<Value<bool>>,
}

/// `file:`
#[derive(Debug, Default)]
pub(super) struct File {
    pub path: Option<Value<String>>,
    pub format_given: bool,
    pub ndjson: bool,
    pub index: Option<Value<String>>,
}

/// An entry of `resources:`.
#[derive(Debug, Clone, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says of one key whether it was left out, or is broken"
)]
pub(super) struct Resource {
    /// `resources.url`, or `resources[0]` for a resource without a name.
    pub path: String,
    pub name: Option<Value<String>>,
    pub after: Vec<Value<String>>,
    pub from: Option<From>,
    /// Whether `from` was left out, as opposed to broken.
    pub from_absent: bool,
    pub to: Option<Value<String>>,
    /// Whether `to` was left out, as opposed to broken.
    pub to_absent: bool,
    /// `type:`
    pub kind: Option<Value<String>>,
    /// Whether `type` is there and could not be read.
    pub kind_broken: bool,
    /// `sync:`, one of [`grammar::SYNC`], and where it stands.
    pub sync: Option<(&'static str, Span)>,
    pub queue: Option<Value<String>>,
    /// Whether `queue` is there and could not be read.
    pub queue_broken: bool,
    /// `keys:`
    pub keys: Option<Value<String>>,
    pub catch_up: Option<CatchUp>,
    /// Where a resource without `to` is shown.
    pub at: Span,
    pub chunk: Chunk,
    pub fallback: Option<Handover>,
    pub settle: Option<Value<Duration>>,
    pub within: Option<Value<Duration>>,
    /// `drain.queues`
    pub drains: Vec<Value<String>>,
    pub throttle: Throttle,
}

/// `catch_up:`
#[derive(Debug, Clone)]
pub(super) struct CatchUp {
    pub column: Option<Value<String>>,
    pub overlap: Option<Value<Overlap>>,
}

/// `throttle:`
#[derive(Debug, Clone, Default)]
pub(super) struct Throttle {
    pub rows_per_second: Option<Value<u64>>,
    pub replica_lag: Option<Value<Duration>>,
    pub redis_used_percent: Option<Value<u64>>,
}

/// `from:`
#[derive(Debug, Clone, Default)]
pub(super) struct From {
    pub table: Option<Value<String>>,
    pub cursor: Option<Value<Vec<Value<String>>>>,
    pub key: Option<Value<String>>,
    pub value: Option<Value<String>>,
    pub entity: Option<Value<String>>,
    pub store: Option<Value<String>>,
    pub aliases: Option<KeyColumn>,
    pub mapping_key: Option<KeyColumn>,
    pub condition: Option<Value<String>>,
}

/// A column with more keys, or the word [`NO_KEYS`].
#[derive(Debug, Clone)]
pub(super) struct KeyColumn {
    pub name: Value<String>,
    /// Whether a preset named it, who does not know if the table has it.
    pub optional: bool,
}

/// What stands for a column where the rows' further keys are not wanted.
pub(super) const NO_KEYS: &str = "none";

/// `chunk:`
#[derive(Debug, Clone, Default)]
pub(super) struct Chunk {
    pub rows: Option<Value<u64>>,
    pub bytes: Option<Value<u64>>,
}

/// `defaults:`
#[derive(Debug, Default)]
pub(super) struct Defaults {
    pub sync: Option<(&'static str, Span)>,
    pub sync_given: bool,
    pub chunk: Chunk,
    pub parallel_resources: Option<Value<u64>>,
    pub parallel_partitions: Option<Value<u64>>,
    pub in_flight: Option<Value<u64>>,
    pub attempts: Option<Value<u64>>,
    pub base: Option<Value<Duration>>,
    pub cap: Option<Value<Duration>>,
    pub within: Option<Value<Duration>>,
    pub fallback_to: Option<Value<String>>,
    pub after_crashes: Option<Value<u64>>,
    pub after_failures: Option<Value<u64>>,
    pub dead_letters_max: Option<Value<u64>>,
    pub dead_letters_percent: Option<Value<f64>>,
    /// One of [`grammar::VERIFY`].
    pub verify: Option<&'static str>,
    pub verify_given: bool,
}

impl Model {
    /// Reads the plan below `root`; problems go to the decoder.
    pub fn read(root: &Node, decoder: &mut Decoder<'_>) -> Self {
        let Some(plan) = Fields::open(root, "", None, grammar::PLAN, decoder) else {
            return Self::default();
        };
        plan.require("version", "version: 1", decoder);
        if let Some(version) = plan.text("version", decoder)
            && version.value != VERSION
        {
            decoder.problems.push(
                Diagnostic::new(
                    Code::UnknownVersion,
                    format!(
                        "`version` is {}; this release reads version 1",
                        version.shown()
                    ),
                )
                .at(version.span, "not known")
                .help("write `version: 1`"),
            );
        }
        plan.require("name", "name: my-shop", decoder);
        // There is one. Misspelled it is one problem, and what it fills in is not missed as well.
        let preset = plan.get("preset").map(|_| Preset::Spryker);
        plan.word("preset", grammar::PRESET, decoder);
        decoder.preset = preset;
        plan.require("source", "source: { url: \"${DATABASE_URL}\" }", decoder);
        plan.require(
            "targets",
            "targets: { storage: { redis: { url: \"${REDIS_URL}\" } } }",
            decoder,
        );
        plan.require("resources", "resources: [...]", decoder);
        let stores = plan.texts("stores", decoder);
        let (source_url, source_tls) = source(&plan, decoder);
        let broker = Broker::read(&plan, decoder);
        let mut model = Self {
            broker_broken: plan.get("broker").is_some() && broker.is_none(),
            broker,
            name: plan.text("name", decoder),
            preset: decoder.preset,
            preset_used: Vec::new(),
            source_url,
            source_tls,
            stores_broken: plan.get("stores").is_some() && stores.is_none(),
            stores,
            targets: targets(&plan, decoder),
            resources: resources(&plan, decoder),
            ignored: plan
                .texts("ignore_tables", decoder)
                .map(|ignored| ignored.value)
                .unwrap_or_default(),
            console: Console::read(&plan, decoder),
            jenkins: Jenkins::read(&plan, decoder),
            aws: Aws::read(&plan, decoder),
            prepare: Step::list(&plan, "prepare", decoder),
            finish: Step::list(&plan, "finish", decoder),
            defaults: plan
                .map("defaults", grammar::DEFAULTS, decoder)
                .map(|fields| Defaults::read(&fields, decoder))
                .unwrap_or_default(),
        };
        if model.preset.is_some() {
            preset::fill_in(&mut model, &mut decoder.problems);
        }
        model
    }
}

fn source(plan: &Fields<'_>, decoder: &mut Decoder<'_>) -> (Option<Value<String>>, Option<Tls>) {
    let Some(source) = plan.map("source", grammar::SOURCE, decoder) else {
        return (None, None);
    };
    source.require(
        "url",
        "url: \"mysql://user:${DB_PASSWORD}@db.test:3306/shop\"",
        decoder,
    );
    (source.text("url", decoder), Tls::read(&source, decoder))
}

impl Tls {
    /// Reads `tls:` of `parent`.
    pub fn read(parent: &Fields<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let (at, _) = parent.get("tls")?;
        let tls = parent.map("tls", grammar::TLS, decoder)?;
        let before = decoder.problems.len();
        let verify = tls.parsed("verify", decoder, |text| {
            Verify::ALL
                .into_iter()
                .find(|verify| verify.label() == text)
                .ok_or_else(|| "write `full`, `ca` or `none`".to_owned())
        });
        Some(Self {
            path: parent.path_of("tls"),
            at,
            ca: filled(&tls, "ca", decoder),
            cert: filled(&tls, "cert", decoder),
            key: filled(&tls, "key", decoder),
            verify,
            broken: decoder.problems.len() > before,
        })
    }
}

fn targets(plan: &Fields<'_>, decoder: &mut Decoder<'_>) -> Vec<Target> {
    let Some((span, node)) = plan.get("targets") else {
        return Vec::new();
    };
    let Kind::Map(entries) = &node.kind else {
        let noun = node.kind.noun();
        decoder.problems.push(
            Diagnostic::new(
                Code::WrongType,
                format!("`targets` is {noun}; it has to be a map"),
            )
            .at(span, "expected a map of names")
            .help("for example `targets: { storage: { redis: { url: \"${REDIS_URL}\" } } }`"),
        );
        return Vec::new();
    };
    if entries.is_empty() {
        decoder.problems.push(empty("targets", span));
    }
    entries
        .iter()
        .map(|(key, node)| Target {
            name: Value {
                value: key.text.clone(),
                typed: key.text.clone(),
                span: key.span,
            },
            kind: target_kind(&key.text, key.span, node, decoder),
        })
        .collect()
}

fn target_kind(name: &str, at: Span, node: &Node, decoder: &mut Decoder<'_>) -> Option<TargetKind> {
    let known_before = decoder.problems.len();
    let path = format!("targets.{name}");
    let target = Fields::open(node, &path, Some(at), grammar::TARGET, decoder)?;
    let kinds: Vec<&str> = target.present().collect();
    if kinds.len() > 1 || (kinds.is_empty() && decoder.problems.len() == known_before) {
        let what = if kinds.is_empty() {
            "names no store".to_owned()
        } else {
            format!("names {} stores", kinds.len())
        };
        decoder.problems.push(
            Diagnostic::new(Code::TargetKind, format!("target {} {what}", quoted(name)))
                .at(at, "has to be one store")
                .help(
                    "a target is one of `redis: {...}`, `elasticsearch: {...}` and `file: {...}`; give each store a \
                     target of its own",
                ),
        );
        return None;
    }
    if *kinds.first()? == "redis" {
        let redis = target.map("redis", grammar::REDIS, decoder)?;
        return Some(TargetKind::Redis(Redis::read(&redis, decoder)));
    }
    if *kinds.first()? == "elasticsearch" {
        let search = target.map("elasticsearch", grammar::SEARCH, decoder)?;
        return Some(TargetKind::Search(Search::read(&search, decoder)));
    }
    let file = target.map("file", grammar::FILE, decoder)?;
    Some(TargetKind::File(File::read(&file, decoder)))
}

impl Redis {
    fn read(redis: &Fields<'_>, decoder: &mut Decoder<'_>) -> Self {
        redis.require("url", "url: \"${REDIS_URL}\"", decoder);
        let value = redis.word("value", grammar::VALUE, decoder);
        let compress = redis.word("compress", grammar::COMPRESS, decoder);
        Self {
            url: redis.text("url", decoder),
            tls: Tls::read(redis, decoder).map(Box::new),
            prefix: redis.text("prefix", decoder),
            value: value
                .and_then(|word| ValueForm::ALL.into_iter().find(|form| form.label() == word)),
            compress: compress.and_then(|word| {
                Compression::ALL
                    .into_iter()
                    .find(|kind| kind.label() == word)
            }),
            allow_eviction: redis.parsed("allow_eviction", decoder, boolean),
        }
    }
}

impl File {
    fn read(file: &Fields<'_>, decoder: &mut Decoder<'_>) -> Self {
        file.require("path", "path: out/", decoder);
        file.word("format", grammar::FORMAT, decoder);
        let ndjson = file
            .text("format", decoder)
            .is_some_and(|format| format.value == "ndjson");
        if ndjson {
            file.require("index", "index: \"shop_{store}_{type}\"", decoder);
        } else if let Some((span, _)) = file.get("index") {
            decoder.problems.push(
                Diagnostic::new(
                    Code::InvalidValue,
                    format!("{} is used by nothing", quoted(&file.path_of("index"))),
                )
                .at(span, "only NDJSON names an index")
                .help("add `format: ndjson`, or remove the key"),
            );
        }
        Self {
            path: file.text("path", decoder),
            format_given: file.get("format").is_some(),
            ndjson,
            index: file.text("index", decoder),
        }
    }
}

fn resources(plan: &Fields<'_>, decoder: &mut Decoder<'_>) -> Vec<Resource> {
    let Some((span, items)) = plan.list("resources", decoder) else {
        return Vec::new();
    };
    if items.is_empty() {
        decoder.problems.push(empty("resources", span));
    }
    items
        .iter()
        .enumerate()
        .filter_map(|(index, node)| Resource::read(index, node, decoder))
        .collect()
}

impl Resource {
    fn read(index: usize, node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let name = typed_name(node);
        let path = name.map_or_else(
            || format!("resources[{index}]"),
            |(name, _)| format!("resources.{name}"),
        );
        let at = name.map_or(node.span, |(_, span)| span);
        let fields = Fields::open(node, &path, Some(at), grammar::RESOURCE, decoder)?;
        fields.require("name", "name: url", decoder);
        let known = decoder.preset.is_some() && name.is_some_and(|(name, _)| preset::knows(name));
        // Of a name that the preset does not know it says so itself.
        if decoder.preset.is_none() {
            fields.require(
                "from",
                "from: { table: spy_url_storage, cursor: [id_url_storage], key: key, value: data }",
                decoder,
            );
        }
        let sync = sync(&fields, decoder);
        let queue = filled(&fields, "queue", decoder);
        let after = fields.texts("after", decoder);
        let drain = fields.map("drain", grammar::DRAIN, decoder);
        let kind = filled(&fields, "type", decoder);
        Some(Self {
            name: fields.text("name", decoder),
            after: after.map(|after| after.value).unwrap_or_default(),
            from: fields
                .map("from", grammar::FROM, decoder)
                .map(|from| From::read(&from, !known, decoder)),
            from_absent: fields.get("from").is_none(),
            to: fields.text("to", decoder),
            to_absent: fields.get("to").is_none(),
            kind_broken: fields.get("type").is_some() && kind.is_none(),
            kind,
            sync,
            queue_broken: fields.get("queue").is_some() && queue.is_none(),
            queue,
            keys: filled(&fields, "keys", decoder),
            catch_up: fields
                .map("catch_up", grammar::CATCH_UP, decoder)
                .map(|catch_up| CatchUp::read(&catch_up, decoder)),
            at,
            chunk: Chunk::read(&fields, decoder),
            throttle: Throttle::read(&fields, decoder),
            fallback: Handover::read(&fields, decoder),
            drains: drain
                .as_ref()
                .and_then(|drain| drain.texts("queues", decoder))
                .map(|queues| queues.value)
                .unwrap_or_default(),
            settle: drain
                .as_ref()
                .and_then(|drain| drain.parsed("settle", decoder, units::duration)),
            within: drain
                .as_ref()
                .and_then(|drain| drain.parsed("within", decoder, units::duration)),
            path,
        })
    }
}

impl CatchUp {
    fn read(catch_up: &Fields<'_>, decoder: &mut Decoder<'_>) -> Self {
        if catch_up.get("overlap").is_some() {
            catch_up.require("column", "column: updated_at", decoder);
        }
        Self {
            column: filled(catch_up, "column", decoder),
            overlap: catch_up.parsed("overlap", decoder, units::overlap),
        }
    }
}

impl From {
    /// Reads `from:`; `whole` says that nothing may be left out.
    fn read(from: &Fields<'_>, whole: bool, decoder: &mut Decoder<'_>) -> Self {
        let table = filled(from, "table", decoder);
        if whole {
            from.require("table", "table: spy_url_storage", decoder);
            let cursor = cursor_like(table.as_ref().map(|table| table.typed.as_str()));
            from.require("cursor", &format!("cursor: [{cursor}]"), decoder);
            from.require("key", "key: key", decoder);
            from.require("value", "value: data", decoder);
        }
        Self {
            table,
            cursor: from.texts("cursor", decoder),
            key: filled(from, "key", decoder),
            value: filled(from, "value", decoder),
            entity: filled(from, "entity", decoder),
            store: filled(from, "store", decoder),
            aliases: filled(from, "aliases", decoder).map(KeyColumn::typed),
            mapping_key: filled(from, "mapping_key", decoder).map(KeyColumn::typed),
            condition: filled(from, "where", decoder),
        }
    }
}

/// Returns what the cursor of a table is probably called: in a Spryker shop `spy_url_storage` has `id_url_storage`.
fn cursor_like(table: Option<&str>) -> String {
    let named = table.and_then(|table| table.strip_prefix("spy_"));
    named.map_or_else(|| "id".to_owned(), |name| format!("id_{name}"))
}

impl KeyColumn {
    const fn typed(name: Value<String>) -> Self {
        let optional = false;
        Self { name, optional }
    }
}

impl Chunk {
    fn read(parent: &Fields<'_>, decoder: &mut Decoder<'_>) -> Self {
        let Some(chunk) = parent.map("chunk", grammar::CHUNK, decoder) else {
            return Self::default();
        };
        Self {
            rows: chunk.count("rows", decoder),
            bytes: chunk.parsed("bytes", decoder, units::bytes),
        }
    }
}

impl Throttle {
    fn read(resource: &Fields<'_>, decoder: &mut Decoder<'_>) -> Self {
        let Some(throttle) = resource.map("throttle", grammar::THROTTLE, decoder) else {
            return Self::default();
        };
        Self {
            rows_per_second: throttle.count("rows_per_second", decoder),
            replica_lag: throttle.parsed("replica_lag", decoder, units::duration),
            redis_used_percent: throttle.count("redis_used_percent", decoder),
        }
    }
}

impl Defaults {
    fn read(defaults: &Fields<'_>, decoder: &mut Decoder<'_>) -> Self {
        let mut read = Self {
            sync: sync(defaults, decoder),
            sync_given: defaults.get("sync").is_some(),
            verify: defaults.word("verify", grammar::VERIFY, decoder),
            verify_given: defaults.get("verify").is_some(),
            chunk: Chunk::read(defaults, decoder),
            ..Self::default()
        };
        if let Some(parallel) = defaults.map("parallel", grammar::PARALLEL, decoder) {
            read.parallel_resources = parallel.count("resources", decoder);
            read.parallel_partitions = parallel.count("partitions", decoder);
        }
        if let Some(memory) = defaults.map("memory", grammar::MEMORY, decoder) {
            read.in_flight = memory.parsed("in_flight", decoder, units::bytes);
        }
        if let Some(retry) = defaults.map("retry", grammar::RETRY, decoder) {
            read.attempts = retry.count("attempts", decoder);
            read.base = retry.parsed("base", decoder, units::duration);
            read.cap = retry.parsed("cap", decoder, units::duration);
            read.within = retry.parsed("within", decoder, units::duration);
        }
        if let Some(fallback) = defaults.map("fallback", grammar::FALLBACK, decoder) {
            fallback.word("to", grammar::FALLBACK_TO, decoder);
            read.fallback_to = fallback.text("to", decoder);
            read.after_crashes = fallback.count("after_crashes", decoder);
            read.after_failures = fallback.count("after_failures", decoder);
        }
        if let Some(letters) = defaults.map("dead_letters", grammar::DEAD_LETTERS, decoder) {
            read.dead_letters_max = letters.count("max", decoder);
            read.dead_letters_percent = letters.parsed("percent", decoder, |text| {
                text.parse()
                    .ok()
                    .filter(|percent: &f64| percent.is_finite())
                    .ok_or_else(|| "write a number, for example `1` or `0.5`".to_owned())
            });
        }
        read
    }
}

/// Returns the name of a resource as typed, before anything is said about it.
fn typed_name(node: &Node) -> Option<(&str, Span)> {
    let Kind::Map(entries) = &node.kind else {
        return None;
    };
    entries.iter().find_map(|(key, value)| match &value.kind {
        Kind::Scalar(name) if key.text == "name" && !name.is_empty() => {
            Some((name.as_str(), value.span))
        }
        _ => None,
    })
}

/// Returns who carries rows over, and where that stands.
fn sync(fields: &Fields<'_>, decoder: &mut Decoder<'_>) -> Option<(&'static str, Span)> {
    let (at, _) = fields.get("sync")?;
    Some((fields.word("sync", grammar::SYNC, decoder)?, at))
}

/// Returns the text under `key`, which may not be empty.
pub(super) fn filled(
    fields: &Fields<'_>,
    key: &str,
    decoder: &mut Decoder<'_>,
) -> Option<Value<String>> {
    fields.parsed(key, decoder, |text| {
        if text.trim().is_empty() {
            Err("write a value, or remove the key".to_owned())
        } else {
            Ok(text.to_owned())
        }
    })
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("write `true` or `false`".to_owned()),
    }
}

fn empty(key: &str, span: Span) -> Diagnostic {
    Diagnostic::new(Code::Empty, format!("`{key}` has no entries"))
        .at(span, "nothing here")
        .help("a plan needs at least one target and one resource")
}
