//! The keys and words of a plan: what this release carries out, and what it knows but refuses.
//!
//! A key of [`Support::Later`] is never skipped in silence: a plan that names `prepare` and runs without it would
//! leave the shop online during a cutover. Carrying one out means turning it to `now` here and reading it in `model`.

/// Whether this release carries something out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Support {
    /// Read by `model`.
    Now,
    /// Part of the published grammar; refused with `plan::not-supported`.
    Later,
}

/// A key of a map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    /// As typed.
    pub name: &'static str,
    /// Whether this release carries it out.
    pub support: Support,
}

/// A word that a value can be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word {
    /// As typed.
    pub name: &'static str,
    /// Whether this release carries it out.
    pub support: Support,
}

const fn now(name: &'static str) -> Key {
    let support = Support::Now;
    Key { name, support }
}

const fn later(name: &'static str) -> Key {
    let support = Support::Later;
    Key { name, support }
}

const fn word(name: &'static str) -> Word {
    let support = Support::Now;
    Word { name, support }
}

const fn later_word(name: &'static str) -> Word {
    let support = Support::Later;
    Word { name, support }
}

/// The plan itself.
pub(super) const PLAN: &[Key] = &[
    now("version"),
    now("name"),
    now("preset"),
    now("source"),
    now("stores"),
    now("targets"),
    now("resources"),
    later("broker"),
    now("console"),
    later("jenkins"),
    later("aws"),
    later("prepare"),
    later("finish"),
    now("defaults"),
];

/// `source:`
pub(super) const SOURCE: &[Key] = &[now("url"), now("tls")];

/// `tls:` of a source or a target.
pub(super) const TLS: &[Key] = &[now("ca"), now("cert"), now("key"), now("verify")];

/// A target: exactly one of these.
pub(super) const TARGET: &[Key] = &[now("redis"), now("elasticsearch"), now("file")];

/// `redis:` of a target.
pub(super) const REDIS: &[Key] = &[
    now("url"),
    now("tls"),
    now("prefix"),
    now("value"),
    now("compress"),
    now("allow_eviction"),
];

/// `elasticsearch:` of a target.
pub(super) const SEARCH: &[Key] = &[
    now("url"),
    now("tls"),
    now("api_key"),
    now("prefix"),
    now("index"),
    now("load"),
    now("gzip"),
];

/// `elasticsearch.load:`
pub(super) const LOAD: &[Key] = &[now("refresh"), now("replicas")];

/// `file:` of a target.
pub(super) const FILE: &[Key] = &[now("path"), now("format"), now("index")];

/// An entry of `resources:`.
pub(super) const RESOURCE: &[Key] = &[
    now("name"),
    now("after"),
    now("from"),
    now("to"),
    now("type"),
    now("keys"),
    now("sync"),
    now("chunk"),
    now("fallback"),
    now("catch_up"),
    now("drain"),
    now("throttle"),
];

/// `from:` of a resource.
pub(super) const FROM: &[Key] = &[
    now("table"),
    now("cursor"),
    now("key"),
    now("value"),
    now("entity"),
    now("where"),
    now("store"),
];

/// `catch_up:` of a resource. Without a column, every row is compared.
pub(super) const CATCH_UP: &[Key] = &[later("column")];

/// `throttle:` of a resource.
pub(super) const THROTTLE: &[Key] = &[
    now("rows_per_second"),
    now("replica_lag"),
    now("redis_used_percent"),
];
/// `fallback:` of a resource.
pub(super) const HANDOVER: &[Key] = &[now("to"), now("trigger"), now("ids"), now("by")];

/// `fallback.ids:` of a resource.
pub(super) const IDS: &[Key] = &[now("table"), now("column")];

/// `fallback.by:`: exactly one of these.
pub(super) const BY: &[Key] = &[now("console"), later("jenkins"), now("sql")];

/// `fallback.by.console:` has no settings of its own.
pub(super) const BY_CONSOLE: &[Key] = &[];

/// `fallback.by.sql:`
pub(super) const BY_SQL: &[Key] = &[now("url"), now("statement")];

/// `drain:` of a resource. Queues need a broker, which this release does not talk to.
pub(super) const DRAIN: &[Key] = &[later("queues"), now("settle"), now("within")];

/// `console:`
pub(super) const CONSOLE: &[Key] = &[now("command"), now("within")];

/// `chunk:` of a resource or of the defaults.
pub(super) const CHUNK: &[Key] = &[now("rows"), now("bytes")];

/// `defaults:`
pub(super) const DEFAULTS: &[Key] = &[
    now("sync"),
    now("chunk"),
    now("parallel"),
    now("memory"),
    now("retry"),
    now("fallback"),
    now("dead_letters"),
    now("verify"),
];

/// `defaults.parallel:`
pub(super) const PARALLEL: &[Key] = &[now("resources"), now("partitions")];

/// `defaults.memory:`
pub(super) const MEMORY: &[Key] = &[now("in_flight")];

/// `defaults.retry:`
pub(super) const RETRY: &[Key] = &[now("attempts"), now("base"), now("cap"), now("within")];

/// `defaults.fallback:`
pub(super) const FALLBACK: &[Key] = &[now("to"), now("after_crashes"), now("after_failures")];

/// `defaults.dead_letters:`
pub(super) const DEAD_LETTERS: &[Key] = &[now("max"), now("percent")];

/// `preset`: what fills in what a plan leaves out.
pub(super) const PRESET: &[Word] = &[word("spryker")];

/// `redis.value`: what is done to a value on its way.
pub(super) const VALUE: &[Word] = &[word("raw"), word("php")];

/// `redis.compress`
pub(super) const COMPRESS: &[Word] = &[word("none"), word("gzip")];

/// `file.format`
pub(super) const FORMAT: &[Word] = &[word("resp"), word("ndjson")];

/// `elasticsearch.load.refresh`
pub(super) const REFRESH: &[Word] = &[word("off")];

/// `sync`: who carries the rows over.
pub(super) const SYNC: &[Word] = &[
    word("direct"),
    later_word("queue"),
    later_word("console"),
    later_word("jenkins"),
];

/// `fallback.to`
pub(super) const FALLBACK_TO: &[Word] = &[word("trigger-events"), word("none")];

/// `verify`
pub(super) const VERIFY: &[Word] = &[word("none"), word("presence"), word("sample"), word("full")];
