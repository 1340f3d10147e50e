//! What a plan means here: variables filled in, defaults applied, every check passed.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use secrecy::SecretString;
use serde::Serialize;

use super::{AwsConfig, JenkinsConfig, Step, TablePattern};
use crate::{ids::ResourceName, tls::TlsConfig};

/// A checked plan.
#[derive(Debug, Clone)]
pub struct Plan {
    /// `name:` of the plan; also names its state file.
    pub name: String,
    /// The plan file, as given on the command line.
    pub path: PathBuf,
    /// Where rows come from.
    pub source: SourceConfig,
    /// Where rows go, by the plan's own names.
    pub targets: BTreeMap<String, TargetConfig>,
    /// What to restore, in the order of the plan file.
    pub resources: Vec<Resource>,
    /// `ignore_tables:`: tables that are left out on purpose.
    pub ignored: Vec<TablePattern>,
    /// What runs the shop's own console.
    pub console: Option<ConsoleConfig>,
    /// What builds jobs.
    pub jenkins: Option<JenkinsConfig>,
    /// Where the steps about RDS find it.
    pub aws: Option<AwsConfig>,
    /// `prepare:`, in its order.
    pub prepare: Vec<Step>,
    /// `finish:`, in its order.
    pub finish: Vec<Step>,
    /// `broker:`: where the shop's queues are.
    pub broker: Option<BrokerConfig>,
    /// Limits that are not of one resource.
    pub defaults: Defaults,
    /// `preset:`
    pub preset: Option<Preset>,
}

/// `preset:`: which application's tables and ways of writing fill in what a plan leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// [`spryker`](crate::spryker).
    Spryker,
}

/// `broker:`.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// `amqp://user:password@host:5672/vhost`, `amqps://` for TLS.
    pub url: SecretString,
    /// What is trusted, and what we show; for every vhost.
    pub tls: Option<TlsConfig>,
    /// Whether queues that are missing are made.
    pub declare: bool,
    /// The management plugin of the broker of `url`: `http://user:password@host:15672`.
    pub management: Option<SecretString>,
    /// The URL of each store, where stores have vhosts of their own.
    pub stores: BTreeMap<String, SecretString>,
    /// The stores that a row of no store is sent for, once each; none: it is sent once, without one.
    pub each_store: Vec<String>,
}

/// `sync:`: who carries the rows of a resource over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Executor {
    /// This program writes them into the target.
    #[default]
    Direct,
    /// It sends the shop's own messages, and whoever consumes the queue writes them.
    Queue,
    /// `sync:data` of the shop's own console.
    Console,
    /// The same, in a job of Jenkins.
    Jenkins,
}

impl Executor {
    /// Returns the plan's word for it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Queue => "queue",
            Self::Console => "console",
            Self::Jenkins => "jenkins",
        }
    }

    /// Returns whether somebody else reads the rows and carries them over.
    #[must_use]
    pub const fn is_delegated(self) -> bool {
        matches!(self, Self::Console | Self::Jenkins)
    }
}

/// `queue:` of a resource: what its messages are like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueConfig {
    /// The queue, and the exchange of the same name.
    pub name: String,
    /// What messages call the resource.
    pub resource: String,
    /// `params.type` of messages: the type of index documents go to. `None` for storage.
    pub kind: Option<String>,
    /// Whether messages name the store of `from.store`.
    pub stores: bool,
    /// How long the queue may stand still before the resource is blocked.
    pub within: Duration,
}

/// `console:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleConfig {
    /// Program and first arguments; never given to a shell by us.
    pub command: Vec<String>,
    /// The same as typed: the only form that may be shown.
    pub typed: Vec<String>,
    /// How long one call may take.
    pub within: Duration,
}

/// `fallback:` of a resource: how its publisher is called.
#[derive(Debug, Clone)]
pub struct FallbackConfig {
    /// Name for `publish:trigger-events -r`.
    pub trigger: Option<String>,
    /// Table of the entities.
    pub table: String,
    /// Column of their ids.
    pub column: String,
    /// Who publishes.
    pub by: PublisherConfig,
    /// Whether the ids of `from.entity` are those that it takes: else single rows cannot go to it.
    pub of_rows: bool,
    /// How long the rows must stand still before they count as regenerated.
    pub settle: Duration,
    /// How long that is waited for.
    pub within: Duration,
}

/// `fallback.by:`.
#[derive(Debug, Clone)]
pub enum PublisherConfig {
    /// The shop's console.
    Console(ConsoleConfig),
    /// The same, in a job of Jenkins.
    Jenkins(JobConfig),
    /// A statement of the plan's author.
    Sql {
        /// Where it runs, with its own password.
        url: SecretString,
        /// With `{ids}` in it.
        statement: String,
    },
}

impl PublisherConfig {
    /// Returns the plan's word for it.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Console(_) => "console",
            Self::Jenkins(_) => "jenkins",
            Self::Sql { .. } => "sql",
        }
    }
}

/// A job of Jenkins that starts the shop's console.
#[derive(Debug, Clone)]
pub struct JobConfig {
    /// Where it is.
    pub jenkins: JenkinsConfig,
    /// `folder/name`
    pub job: String,
}

/// The database a plan reads.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// Which driver reads it.
    pub kind: SourceKind,
    /// The connection URL, with its password.
    pub url: SecretString,
    /// `tls:`; without it, the URL decides.
    pub tls: Option<TlsConfig>,
}

/// Which driver reads a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// `mysql://` and `mariadb://`.
    Mysql,
    /// `postgres://` and `postgresql://`.
    Postgres,
    /// `sqlite:`.
    Sqlite,
}

/// A store that a plan fills.
#[derive(Debug, Clone)]
pub enum TargetConfig {
    /// A Redis server.
    Redis(RedisConfig),
    /// Elasticsearch or OpenSearch.
    Search(SearchConfig),
    /// Files in a folder.
    File(FileConfig),
}

/// `redis:` of a target.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// `redis://user:password@host:port/db`, `rediss://` for TLS, or `unix:///path?db=0`.
    pub url: SecretString,
    /// `tls:`; only with `rediss://`, and only where its defaults do not do.
    pub tls: Option<TlsConfig>,
    /// Put before every key.
    pub prefix: String,
    /// How values are written.
    pub value: ValueForm,
    /// How they are packed then.
    pub compress: Compression,
    /// Whether an eviction policy that drops keys is accepted.
    pub allow_eviction: bool,
}

/// `elasticsearch:` of a target.
#[derive(Debug, Clone)]
pub struct SearchConfig {
    /// The nodes, each `http://user:password@host:9200`; at least one.
    pub urls: Vec<SecretString>,
    /// `tls:`, for nodes with `https://`.
    pub tls: Option<TlsConfig>,
    /// Sent as `Authorization: ApiKey ...` instead of user and password.
    pub api_key: Option<SecretString>,
    /// The indexes of each resource that goes to this target.
    pub indexes: BTreeMap<ResourceName, Routing>,
    /// What is changed in those indexes while they are loaded.
    pub load: Load,
    /// Whether requests are compressed.
    pub gzip: bool,
}

/// `elasticsearch.load:`; what is not named there is left as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// No refreshes until the end.
    pub refresh_off: bool,
    /// Copies of each shard until the end.
    pub replicas: Option<u32>,
}

/// Which index a row of one resource goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routing {
    /// All rows to one.
    One(String),
    /// By store.
    ByStore {
        /// Whether the rows name their store, in the column of `from.store`.
        column: bool,
        /// Store and index, in the order of the plan. A row without a store goes to each of them.
        indexes: Vec<(String, String)>,
    },
}

impl Routing {
    /// Returns every index the resource may write to, each once.
    pub fn indexes(&self) -> impl Iterator<Item = &str> {
        let (one, by_store) = match self {
            Self::One(index) => (Some(index.as_str()), &[][..]),
            Self::ByStore { indexes, .. } => (None, &indexes[..]),
        };
        one.into_iter()
            .chain(by_store.iter().map(|(_, index)| index.as_str()))
    }
}

/// `value` of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ValueForm {
    /// The column's bytes as they are.
    #[default]
    Raw,
    /// JSON as PHP writes it after it read it.
    Php,
    /// Documents as a shop's search client writes them. Not typed: `preset: spryker` has it for what goes to an index.
    Document,
    /// JSON as it stands in the shop's messages. Not typed: `sync: queue` has it.
    Message,
}

/// `compress` of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// As PHP's `gzencode` at level 3, above 200 bytes.
    Gzip,
}

impl ValueForm {
    /// Every form that a plan can name.
    pub const ALL: [Self; 2] = [Self::Raw, Self::Php];

    /// Returns the form as a plan names it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Php => "php",
            Self::Document => "document",
            Self::Message => "message",
        }
    }
}

impl Compression {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::None, Self::Gzip];

    /// Returns the kind as a plan names it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
        }
    }
}

impl TargetConfig {
    /// Returns how the target wants its values.
    fn encoding(&self, preset: Option<Preset>) -> (ValueForm, Compression) {
        let value = match self {
            Self::Redis(redis) => return (redis.value, redis.compress),
            Self::Search(_) => ValueForm::Document,
            Self::File(file) => match file.format {
                FileFormat::Resp => ValueForm::Php,
                FileFormat::Ndjson(_) => ValueForm::Document,
            },
        };
        let value = match preset {
            Some(Preset::Spryker) => value,
            None => ValueForm::Raw,
        };
        (value, Compression::None)
    }
}

/// `file:` of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileConfig {
    /// The folder, made absolute against the plan file's own folder.
    pub path: PathBuf,
    /// What is written.
    pub format: FileFormat,
}

/// `file.format`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileFormat {
    /// Commands of Redis's protocol, for `redis-cli --pipe`.
    Resp,
    /// Lines for `_bulk`, to these indexes.
    Ndjson(BTreeMap<ResourceName, Routing>),
}

/// One named thing to restore.
#[derive(Debug, Clone)]
pub struct Resource {
    /// Unique within the plan.
    pub name: ResourceName,
    /// Resources that must be restored before this one begins.
    pub after: Vec<ResourceName>,
    /// The table and its columns.
    pub from: RowSource,
    /// The target's name.
    pub to: String,
    /// Who carries its rows over.
    pub executor: Executor,
    /// The queue of its messages; always there with [`Executor::Queue`].
    pub queue: Option<QueueConfig>,
    /// `drain.queues`: queues of the shop that have to run empty, too, before what was sent or triggered counts as done.
    pub drains: Vec<String>,
    /// What every key of it begins with, and no key of anything else, before the target's prefix.
    pub keys: Option<String>,
    /// Whether the plan says `none` of a column with more keys: rows may own some that it does not name.
    pub leaves_keys_out: bool,
    /// `catch_up:`: which of its rows are compared and rewritten before a run is done; `None` for none of them.
    pub catch_up: Option<CatchUp>,
    /// Bounds of one chunk.
    pub chunk: ChunkLimit,
    /// When dead letters block the run.
    pub dead_letters: DeadLetterLimit,
    /// What keeps it from going as fast as it can.
    pub throttle: Throttle,
    /// How its rows are regenerated where copying them does not help.
    pub fallback: Option<FallbackConfig>,
}

/// `catch_up:` of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatchUp {
    /// Every row.
    All,
    /// Those that changed since the resource was bound.
    Changed(ChangeColumn),
}

impl CatchUp {
    /// Returns the column that tells which rows changed, where the plan names one.
    #[must_use]
    pub const fn column(&self) -> Option<&ChangeColumn> {
        match self {
            Self::All => None,
            Self::Changed(column) => Some(column),
        }
    }
}

/// `catch_up.column`: a column that every change of a row sets to a value that is greater than those before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeColumn {
    /// Its name, unquoted.
    pub name: String,
    /// `catch_up.overlap`; `None` for what suits its type.
    pub overlap: Option<Overlap>,
}

/// How far before the greatest value rows count as changed: values are set before they are committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// For dates and times.
    Time(Duration),
    /// For numbers.
    Number(u64),
}

impl Overlap {
    /// Unless the plan says another time: longer than the transactions of a shop, and still few rows.
    pub const TIME: Duration = Duration::from_mins(5);

    /// Unless the plan says another number: for seconds since 1970 a quarter of an hour, for a sequence the last thousand
    /// changes.
    pub const NUMBER: u64 = 1_000;
}

/// `throttle:` of a resource; nothing holds back what is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Throttle {
    /// Most rows a second over all its partitions.
    pub rows_per_second: Option<u32>,
    /// Furthest that the source, where it is a replica, may be behind its primary.
    pub replica_lag: Option<Duration>,
    /// Most memory that its Redis may use, in percent of `maxmemory`.
    pub redis_used_percent: Option<u32>,
}

impl Throttle {
    /// Returns whether something has to be measured while it goes on.
    #[must_use]
    pub const fn measures(&self) -> bool {
        self.replica_lag.is_some() || self.redis_used_percent.is_some()
    }
}

/// `from:` of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RowSource {
    /// Table name, unquoted.
    pub table: String,
    /// Columns of the paging key, in order.
    pub cursor: Vec<String>,
    /// Column with the target key.
    pub key: String,
    /// Column with the value.
    pub value: String,
    /// Column with the id of the shop's entity, for `--ids`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Column with the name of the row's store, which is a part of the index it goes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// Columns with more keys of the row.
    pub more_keys: MoreKeys,
    /// `where:`: an SQL condition of the plan's author, used as it is.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Whether only ids are wanted: the key column is read as the texts that stand for its values in `--ids`. No part of a plan.
    #[serde(skip)]
    pub reads_ids: bool,
}

impl RowSource {
    /// Returns the column that `--ids` filters: the entity's, or the cursor's only one.
    #[must_use]
    pub fn ids_column(&self) -> Option<&str> {
        match (&self.entity, &self.cursor[..]) {
            (Some(entity), _) => Some(entity),
            (None, [cursor]) => Some(cursor),
            (None, _) => None,
        }
    }

    /// Returns the columns whose keys are written, the row's own first, in a table that lacks `absent`.
    #[must_use]
    pub fn key_columns<'a>(&'a self, absent: &[String]) -> Vec<&'a str> {
        let MoreKeys { aliases, mapping } = &self.more_keys;
        let more = [aliases, mapping].into_iter().flatten();
        let there = more.filter(|column| !column.optional || !absent.contains(&column.name));
        let own = std::iter::once(self.key.as_str());
        own.chain(there.map(|column| column.name.as_str()))
            .collect()
    }

    /// Returns the columns that are read beside cursor, key and value, in the order in which rows carry them.
    pub fn beside(&self) -> impl Iterator<Item = Beside<'_>> {
        let MoreKeys { aliases, mapping } = &self.more_keys;
        let store = self.store.as_deref().map(|name| Beside {
            name,
            optional: false,
        });
        let more = [aliases, mapping].into_iter().flatten();
        store.into_iter().chain(more.map(|column| Beside {
            name: &column.name,
            optional: column.optional,
        }))
    }
}

/// `from.aliases` and `from.mapping_key`: the columns in which a row carries more keys than its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MoreKeys {
    /// Column with a JSON object of keys and their values.
    pub aliases: Option<KeyColumn>,
    /// Column with one key, whose value names the row's own.
    pub mapping: Option<KeyColumn>,
}

/// A column with more keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyColumn {
    /// Its name.
    pub name: String,
    /// Whether a table without it is no mistake: then its rows have no such keys. So where a preset named it.
    pub optional: bool,
}

/// A column that is read beside cursor, key and value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beside<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether it is read as NULL where the table has no such column.
    pub optional: bool,
}

/// Bounds of one chunk: it ends with the row that reaches either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ChunkLimit {
    /// From 1 to 100,000.
    pub rows: u32,
    /// From 1 KiB to the memory budget.
    pub bytes: u64,
}

/// Past either, the resource is blocked.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DeadLetterLimit {
    /// Most dead letters of one resource.
    pub max: u64,
    /// Most dead letters of one resource, in percent of its rows so far (counted from 1,000 rows on).
    pub percent: f64,
}

impl Eq for DeadLetterLimit {}

/// `defaults:` that hold for the whole run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// Resources restored side by side, at least 1.
    pub parallel_resources: u32,
    /// Partitions of one resource walked side by side, at least 1.
    pub parallel_partitions: u32,
    /// One budget for everything in flight, in bytes.
    pub in_flight_bytes: u64,
    /// How failed chunks are repeated.
    pub retry: RetryPolicy,
    /// Deaths for memory at one row after which a resource goes to its publisher, at least 1.
    pub after_crashes: u32,
    /// Failures of the source's data in a row after which a resource goes to its publisher, at least 1.
    pub after_failures: u32,
    /// `verify`: how much is compared before a run is done.
    pub verify: Option<Level>,
}

/// How much of the rows a comparison of targets and source looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Whether the target holds anything in the place of each row.
    Presence,
    /// The content of some rows, drawn at random.
    Sample,
    /// The content of every row.
    Full,
}

impl Level {
    /// Every level.
    pub const ALL: [Self; 3] = [Self::Presence, Self::Sample, Self::Full];

    /// Returns the level as it is typed.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Presence => "presence",
            Self::Sample => "sample",
            Self::Full => "full",
        }
    }
}

/// `retry:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries of one chunk in a row before nothing more is sent to its source or target until a probe gets through, at
    /// least 1.
    pub attempts: u32,
    /// The longest first wait.
    pub base: Duration,
    /// The longest wait.
    pub cap: Duration,
    /// How long a source or target that is down is waited for before its resources are blocked.
    pub within: Duration,
}

impl Plan {
    /// Returns the resource called `name`.
    #[must_use]
    pub fn resource(&self, name: &ResourceName) -> Option<&Resource> {
        self.resources
            .iter()
            .find(|resource| resource.name == *name)
    }

    /// Returns how the target of `resource` wants its values.
    #[must_use]
    pub fn encoding(&self, resource: &Resource) -> (ValueForm, Compression) {
        self.targets
            .get(&resource.to)
            .map_or_else(Default::default, |target| target.encoding(self.preset))
    }

    /// Returns the form in which the values of `resource` leave this program: its target's, or a message's.
    #[must_use]
    pub fn sent_form(&self, resource: &Resource) -> (ValueForm, Compression) {
        match resource.executor {
            // Whatever somebody else carried over is compared with this, too.
            Executor::Direct | Executor::Console | Executor::Jenkins => self.encoding(resource),
            Executor::Queue => (ValueForm::Message, Compression::None),
        }
    }

    /// Returns the resources that somebody means who types `name`: the one called so, or under a preset both halves of
    /// a pair, as far as the plan has them.
    #[must_use]
    pub fn meant(&self, name: &str) -> Vec<ResourceName> {
        let exact = ResourceName::from(name);
        if self.resource(&exact).is_some() {
            return vec![exact];
        }
        let halves = match self.preset {
            Some(Preset::Spryker) => super::preset::pair(name),
            None => Vec::new(),
        };
        halves
            .into_iter()
            .map(ResourceName::from)
            .filter(|half| self.resource(half).is_some())
            .collect()
    }

    /// Returns the names of the targets that `resources` write to.
    #[must_use]
    pub fn targets_of<'a>(
        &self,
        resources: impl IntoIterator<Item = &'a Resource>,
    ) -> BTreeSet<String> {
        resources
            .into_iter()
            .map(|resource| resource.to.clone())
            .collect()
    }
}
