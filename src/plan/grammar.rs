//! The keys and words of a plan: what this release carries out, and what it knows but refuses.
//!
//! A key of [`Support::Later`] is never skipped in silence: a plan that names workers and runs without them would take
//! a night instead of an hour. Carrying one out means turning it to `now` here and reading it in `model`.

mod steps;

pub(super) use steps::{
    APPROVE, AWS, HTTP_CHECK, JENKINS, JENKINS_BUILD, LATEST, MAINTENANCE, MAINTENANCE_OFF,
    RDS_FROM, RDS_RENAME, RDS_RESTORE, RDS_SNAPSHOT, SHELL, STEP, WHEN,
};

/// Whether this release carries something out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Support {
    /// Read by `model`.
    Now,
    /// Part of the published grammar; refused with `plan::not-supported`.
    Later,
}

/// What the value of a key is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// A single value.
    Text,
    /// A whole number.
    Count,
    /// A number.
    Number,
    /// `true` or `false`.
    Flag,
    /// Bytes with a unit.
    Size,
    /// A time with a unit.
    Time,
    /// A time with a unit, or a whole number.
    TimeOrCount,
    /// One of a few words.
    Word(&'static [Word]),
    /// A list of single values.
    Texts,
    /// A single value, or a list of them.
    TextOrTexts,
    /// A map with these keys.
    Map(&'static [Key]),
    /// A map with exactly one of these keys.
    OneOf(&'static [Key]),
    /// A map from names of the plan's choice to maps with exactly one of these keys.
    Named(&'static [Key]),
    /// A list of maps with these keys.
    Maps(&'static [Key]),
    /// A list of maps with exactly one of these keys each.
    OneOfs(&'static [Key]),
    /// Nothing that this release reads.
    Unread,
}

/// A key of a map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    /// As typed.
    pub name: &'static str,
    /// Whether this release carries it out.
    pub support: Support,
    /// What its value is.
    pub form: Form,
    /// Whether a map without it is refused, whatever else the plan says.
    pub required: bool,
    /// What it is for, in one line, for editors.
    pub about: &'static str,
}

impl Key {
    /// Returns whether this release carries it out.
    pub fn is_supported(&self) -> bool {
        self.support == Support::Now
    }
}

/// A word that a value can be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word {
    /// As typed.
    pub name: &'static str,
}

const fn now(name: &'static str, form: Form, about: &'static str) -> Key {
    Key {
        name,
        support: Support::Now,
        form,
        required: false,
        about,
    }
}

const fn must(name: &'static str, form: Form, about: &'static str) -> Key {
    Key {
        required: true,
        ..now(name, form, about)
    }
}

const fn later(name: &'static str) -> Key {
    Key {
        support: Support::Later,
        ..now(name, Form::Unread, "")
    }
}

const fn word(name: &'static str) -> Word {
    Word { name }
}

/// The plan itself.
pub(super) const PLAN: &[Key] = &[
    must("version", Form::Text, "The generation of the grammar: 1"),
    must(
        "name",
        Form::Text,
        "Names the state file: `state/<name>.sqlite` beside the plan",
    ),
    now(
        "preset",
        Form::Word(PRESET),
        "Whose tables these are; fills in what is left out",
    ),
    must(
        "source",
        Form::Map(SOURCE),
        "The database that holds the truth",
    ),
    now(
        "stores",
        Form::Texts,
        "The shop's stores, for names of search indexes",
    ),
    must(
        "targets",
        Form::Named(TARGET),
        "What is filled, by a name of your own",
    ),
    must(
        "resources",
        Form::Maps(RESOURCE),
        "What is restored, each a table",
    ),
    now(
        "ignore_tables",
        Form::Texts,
        "Tables that look like read models and are left out on purpose; `*` stands for any text",
    ),
    now(
        "broker",
        Form::Map(BROKER),
        "The RabbitMQ of the shop, for rows that go through its queues",
    ),
    now(
        "console",
        Form::Map(CONSOLE),
        "The shop's own console, for fallbacks",
    ),
    now(
        "jenkins",
        Form::Map(JENKINS),
        "The Jenkins of `jenkins_build`",
    ),
    now(
        "aws",
        Form::Map(AWS),
        "Where the steps about RDS find it; credentials come from the AWS chain",
    ),
    now(
        "prepare",
        Form::OneOfs(STEP),
        "Steps before the resources, one after the other",
    ),
    now(
        "finish",
        Form::OneOfs(STEP),
        "Steps after the resources, one after the other",
    ),
    now(
        "defaults",
        Form::Map(DEFAULTS),
        "What holds for every resource that says nothing else",
    ),
];

/// `source:`
pub(super) const SOURCE: &[Key] = &[
    must(
        "url",
        Form::Text,
        "`mysql://`, `mariadb://`, `postgres://` or `sqlite:`; variables like `${DATABASE_URL}` are filled in",
    ),
    now("tls", Form::Map(TLS), "Certificates of the connection"),
];

/// `tls:` of a source or a target.
pub(super) const TLS: &[Key] = &[
    now(
        "ca",
        Form::Text,
        "PEM file of the authority that signed the server's certificate",
    ),
    now("cert", Form::Text, "PEM file of our own certificate"),
    now("key", Form::Text, "PEM file of its key"),
    now(
        "verify",
        Form::Word(TLS_VERIFY),
        "`full`: authority and name; `ca`: any name; `none`: anybody",
    ),
];

/// A target: exactly one of these.
pub(super) const TARGET: &[Key] = &[
    now(
        "redis",
        Form::Map(REDIS),
        "A Redis or Valkey, single or a cluster",
    ),
    now(
        "elasticsearch",
        Form::Map(SEARCH),
        "An Elasticsearch or OpenSearch cluster",
    ),
    now("file", Form::Map(FILE), "A folder"),
];

/// `redis:` of a target.
pub(super) const REDIS: &[Key] = &[
    must("url", Form::Text, "`redis://`, `rediss://` or `unix://`"),
    now("tls", Form::Map(TLS), "Certificates of the connection"),
    now("prefix", Form::Text, "Put before every key"),
    now(
        "value",
        Form::Word(VALUE),
        "`raw`: the bytes of the column; `php`: JSON as PHP writes it",
    ),
    now(
        "compress",
        Form::Word(COMPRESS),
        "`gzip`: values above 200 bytes, packed as PHP packs them",
    ),
    now(
        "allow_eviction",
        Form::Flag,
        "Accept a Redis whose policy drops keys",
    ),
];

/// `elasticsearch:` of a target.
pub(super) const SEARCH: &[Key] = &[
    must(
        "url",
        Form::TextOrTexts,
        "`http://` or `https://`; several nodes as a list or with commas",
    ),
    now("tls", Form::Map(TLS), "Certificates of the connection"),
    now("api_key", Form::Text, "Sent instead of user and password"),
    now(
        "prefix",
        Form::Text,
        "With a preset, instead of `index`: the first part of the index name",
    ),
    now(
        "index",
        Form::Text,
        "The index; `{store}` and `{type}` are filled in",
    ),
    now(
        "load",
        Form::Map(LOAD),
        "Settings of the index while rows are written",
    ),
    now("gzip", Form::Flag, "Compress requests"),
];

/// `elasticsearch.load:`
pub(super) const LOAD: &[Key] = &[
    now(
        "refresh",
        Form::Word(REFRESH),
        "`off`: no refresh while rows are written",
    ),
    now(
        "replicas",
        Form::Count,
        "Copies of the index while rows are written",
    ),
];

/// `file:` of a target.
pub(super) const FILE: &[Key] = &[
    must("path", Form::Text, "The folder, relative to the plan"),
    now(
        "format",
        Form::Word(FORMAT),
        "`resp` for `redis-cli --pipe`, `ndjson` for `_bulk`",
    ),
    now(
        "index",
        Form::Text,
        "With `ndjson`: the index each line names",
    ),
];

/// An entry of `resources:`.
pub(super) const RESOURCE: &[Key] = &[
    must("name", Form::Text, "What commands and reports call it"),
    now(
        "after",
        Form::Texts,
        "Begins when these resources are complete",
    ),
    now("from", Form::Map(FROM), "The table and its columns"),
    now(
        "to",
        Form::Text,
        "The target; may be left out where there is only one",
    ),
    now("type", Form::Text, "Fills `{type}` of an index name"),
    now(
        "keys",
        Form::Text,
        "Which keys of the target are this resource's, for `verify --orphans`",
    ),
    now("sync", Form::Word(SYNC), "Who carries the rows over"),
    now(
        "queue",
        Form::Text,
        "The queue of its messages, and the exchange of the same name",
    ),
    now(
        "chunk",
        Form::Map(CHUNK),
        "The unit of writing, journaling and repeating",
    ),
    now(
        "fallback",
        Form::Map(HANDOVER),
        "How its rows are regenerated where copying them does not help",
    ),
    now(
        "catch_up",
        Form::Map(CATCH_UP),
        "Compares its rows when all is stored, and rewrites those that changed behind the run",
    ),
    now(
        "drain",
        Form::Map(DRAIN),
        "The wait for rows that its publisher regenerates",
    ),
    now(
        "throttle",
        Form::Map(THROTTLE),
        "What keeps it from going as fast as it can",
    ),
];

/// `from:` of a resource.
pub(super) const FROM: &[Key] = &[
    now("table", Form::Text, "The table's name"),
    now(
        "cursor",
        Form::Texts,
        "All columns of one unique index, in its order",
    ),
    now("key", Form::Text, "The column that becomes the key"),
    now("value", Form::Text, "The column that becomes the value"),
    now("entity", Form::Text, "The column that `--ids` filters"),
    now("where", Form::Text, "An SQL condition"),
    now("store", Form::Text, "The column that names the row's store"),
    now(
        "aliases",
        Form::Text,
        "The column with further keys of a row and their values; `none` leaves them out",
    ),
    now(
        "mapping_key",
        Form::Text,
        "The column with a further key that points to the row's own; `none` leaves it out",
    ),
];

/// `catch_up:` of a resource. Without a column, every row is compared.
pub(super) const CATCH_UP: &[Key] = &[
    now(
        "column",
        Form::Text,
        "The column that every change of a row sets: only rows that changed are compared",
    ),
    now(
        "overlap",
        Form::TimeOrCount,
        "How far before its greatest value rows count as changed; a whole number for a column of numbers",
    ),
];

/// `throttle:` of a resource.
pub(super) const THROTTLE: &[Key] = &[
    now(
        "rows_per_second",
        Form::Count,
        "Most rows a second over all its partitions",
    ),
    now(
        "replica_lag",
        Form::Time,
        "Furthest that a replica which is read may be behind",
    ),
    now(
        "redis_used_percent",
        Form::Count,
        "Most memory of its Redis, in percent of `maxmemory`",
    ),
];
/// `fallback:` of a resource.
pub(super) const HANDOVER: &[Key] = &[
    now("to", Form::Word(FALLBACK_TO), "`none` switches it off"),
    now(
        "trigger",
        Form::Text,
        "The publisher's name for the resource",
    ),
    now("ids", Form::Map(IDS), "Where its entities are listed"),
    now("by", Form::OneOf(BY), "Who regenerates rows"),
];

/// `fallback.ids:` of a resource.
pub(super) const IDS: &[Key] = &[
    must("table", Form::Text, "The table of the entities"),
    must("column", Form::Text, "Its column of unique whole numbers"),
];

/// `fallback.by:`: exactly one of these.
pub(super) const BY: &[Key] = &[
    now(
        "console",
        Form::Map(BY_CONSOLE),
        "`publish:trigger-events` of the shop's console",
    ),
    now(
        "jenkins",
        Form::Map(BY_JENKINS),
        "The same by a job of the plan's Jenkins",
    ),
    now("sql", Form::Map(BY_SQL), "A statement of your own"),
];

/// `fallback.by.console:` has no settings of its own.
pub(super) const BY_CONSOLE: &[Key] = &[];

/// `fallback.by.jenkins:`
pub(super) const BY_JENKINS: &[Key] = &[must(
    "job",
    Form::Text,
    "The job, `folder/name`; made by rekindle, and never one that somebody else made",
)];

/// `fallback.by.sql:`
pub(super) const BY_SQL: &[Key] = &[
    must(
        "url",
        Form::Text,
        "The database it is run in, by a user that may write",
    ),
    must("statement", Form::Text, "With `{ids}` where the ids go"),
];

/// `broker:`
pub(super) const BROKER: &[Key] = &[
    must("url", Form::Text, "`amqp://` or `amqps://`, with the vhost"),
    now("tls", Form::Map(TLS), "Certificates of the connection"),
    now(
        "declare",
        Form::Flag,
        "Make queues that are missing, as the shop's `queue:setup` does",
    ),
    now(
        "management",
        Form::Text,
        "`http://` or `https://` of its management plugin, for messages that consumers hold",
    ),
    now(
        "stores",
        Form::Named(BROKER_STORE),
        "The vhost of each store, where stores have their own",
    ),
    now(
        "dynamic_stores",
        Form::Flag,
        "A row of no store is sent once for each of `stores`",
    ),
];

/// A store of `broker.stores`: exactly one of these.
pub(super) const BROKER_STORE: &[Key] = &[
    now(
        "vhost",
        Form::Text,
        "Its vhost, at the broker of `broker.url`",
    ),
    now(
        "url",
        Form::Text,
        "`amqp://` or `amqps://` of another broker, with the vhost",
    ),
];

/// `drain:` of a resource.
pub(super) const DRAIN: &[Key] = &[
    now(
        "queues",
        Form::Texts,
        "Queues of the shop that have to run empty, too",
    ),
    now("settle", Form::Time, "How long rows must not change"),
    now("within", Form::Time, "How long this is waited for"),
];

/// `console:`
pub(super) const CONSOLE: &[Key] = &[
    must(
        "command",
        Form::Texts,
        "Program and arguments before the console's own",
    ),
    now("within", Form::Time, "Longest call"),
];

/// `chunk:` of a resource or of the defaults.
pub(super) const CHUNK: &[Key] = &[
    now("rows", Form::Count, "Most rows of a chunk"),
    now("bytes", Form::Size, "Most bytes of a chunk"),
];

/// `defaults:`
pub(super) const DEFAULTS: &[Key] = &[
    now("sync", Form::Word(SYNC), "Who carries the rows over"),
    now(
        "chunk",
        Form::Map(CHUNK),
        "The unit of writing, journaling and repeating",
    ),
    now("parallel", Form::Map(PARALLEL), "What goes side by side"),
    now("memory", Form::Map(MEMORY), "What a run may hold"),
    now(
        "retry",
        Form::Map(RETRY),
        "How often and how long something is tried again",
    ),
    now(
        "fallback",
        Form::Map(FALLBACK),
        "When a resource goes to its publisher",
    ),
    now(
        "dead_letters",
        Form::Map(DEAD_LETTERS),
        "How many rows may be broken",
    ),
    now(
        "verify",
        Form::Word(VERIFY),
        "What is compared when all is copied",
    ),
];

/// `defaults.parallel:`
pub(super) const PARALLEL: &[Key] = &[
    now("resources", Form::Count, "Resources side by side"),
    now(
        "partitions",
        Form::Count,
        "Key ranges of one resource side by side",
    ),
    later("workers"),
];

/// `defaults.memory:`
pub(super) const MEMORY: &[Key] = &[now(
    "in_flight",
    Form::Size,
    "Budget for all rows that are read and not yet written",
)];

/// `defaults.retry:`
pub(super) const RETRY: &[Key] = &[
    now("attempts", Form::Count, "Tries of one operation"),
    now(
        "base",
        Form::Time,
        "Bound of the first wait; each further one doubles it",
    ),
    now("cap", Form::Time, "Longest wait"),
    now(
        "within",
        Form::Time,
        "How long a server that is down, full or busy is waited for",
    ),
];

/// `defaults.fallback:`
pub(super) const FALLBACK: &[Key] = &[
    now(
        "to",
        Form::Word(FALLBACK_TO),
        "`none` switches all of them off",
    ),
    now("after_crashes", Form::Count, "Deaths for memory at one row"),
    now(
        "after_failures",
        Form::Count,
        "Failures of the source's data in a row",
    ),
];

/// `defaults.dead_letters:`
pub(super) const DEAD_LETTERS: &[Key] = &[
    now("max", Form::Count, "Most dead letters of a resource"),
    now(
        "percent",
        Form::Number,
        "Most dead letters in percent of its rows",
    ),
];

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
    word("queue"),
    word("console"),
    word("jenkins"),
];

/// `fallback.to`
pub(super) const FALLBACK_TO: &[Word] = &[word("trigger-events"), word("none")];

/// `verify`
pub(super) const VERIFY: &[Word] = &[word("none"), word("presence"), word("sample"), word("full")];

/// `tls.verify`
pub(super) const TLS_VERIFY: &[Word] = &[word("full"), word("ca"), word("none")];
