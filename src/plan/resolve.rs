//! What was typed -> [`Plan`]: defaults applied, paths absolute.

use std::{
    collections::BTreeMap,
    fmt::Display,
    path::{Component, Path, PathBuf},
    time::Duration,
};

mod fallback;
mod steps;

use super::{
    CatchUp, ChangeColumn, ChunkLimit, DeadLetterLimit, Defaults, Executor, FileConfig, FileFormat,
    KeyColumn, Level, Load, MoreKeys, Overlap, Plan, RedisConfig, Resource, RetryPolicy, Routing,
    RowSource, SearchConfig, SourceConfig, SourceKind, TablePattern, TargetConfig, Throttle,
    broker,
    decode::Value,
    index,
    model::{self, Model, TargetKind},
    units::{show_bytes, show_duration},
    urls::{self, SourceUrl},
};
use crate::{
    ids::ResourceName,
    tls::{TlsConfig, Verify},
};

/// What holds where the plan says nothing.
pub(super) mod default {
    use std::time::Duration;

    /// Large enough that round trips do not count, small enough that a repeated chunk does not hurt.
    pub const ROWS: u32 = 1000;
    /// Keeps a chunk of large rows within one network buffer's worth of seconds on a slow line. With 2 MiB a run took
    /// 33 MiB of memory in all (rows of 6 kB), with this 30, with 1 MiB 27; each chunk is a commit on the journal's disk.
    pub const BYTES: u64 = 1536 << 10;
    /// A search node writes its log to disk once a request, and fewer, larger ones keep it busy: bodies of 4 MB were 7 %
    /// faster than those of 2 MB, and 17 % faster than those of 1 MB.
    pub const SEARCH_ROWS: u32 = 2000;
    /// As for the rows.
    pub const SEARCH_BYTES: u64 = 4 << 20;
    /// Resources side by side; two keep source and target busy without crowding the shop's own traffic.
    pub const RESOURCES: u32 = 2;
    /// Partitions of a resource side by side.
    pub const PARTITIONS: u32 = 2;
    /// Two resources of two partitions, each with a chunk that is read and one that is written, both of them twice in memory.
    pub const IN_FLIGHT: u64 = 24 << 20;
    /// Tries of a chunk before the whole server is waited for; with `BASE` and `CAP` the waits add up to 13 s on average
    /// and 25 s at most.
    pub const ATTEMPTS: u32 = 8;
    /// The longest first wait.
    pub const BASE: Duration = Duration::from_millis(200);
    /// The longest wait.
    pub const CAP: Duration = Duration::from_secs(30);
    /// How long a server that is down is waited for: longer than a fail-over or a restart with a large dump takes, short
    /// enough that somebody hears of it the same night.
    pub const WITHIN: Duration = Duration::from_mins(15);
    /// Deaths for memory at one row.
    pub const AFTER_CRASHES: u32 = 2;
    /// Failures of the source's data in a row.
    pub const AFTER_FAILURES: u32 = 5;
    /// One call of the console: it boots a shop, queues some hundred events, and may wait for a lock.
    pub const CONSOLE_WITHIN: Duration = Duration::from_mins(15);
    /// The console only queues events; workers look at their queues every minute or so, and pause in between.
    pub const SETTLE: Duration = Duration::from_secs(90);
    /// The longest wait for rows to stand still.
    pub const DRAIN_WITHIN: Duration = Duration::from_mins(30);
    /// A step: as long as a large database takes to be restored, and then some.
    pub const STEP_WITHIN: Duration = Duration::from_mins(45);
    /// A person's answer: nobody is woken up because another one sleeps.
    pub const APPROVE_WITHIN: Duration = Duration::from_hours(24);
    /// A rename in an instance's maintenance window: there is one each week.
    pub const WINDOW_WITHIN: Duration = Duration::from_hours(24 * 7);
    /// The shop's console, in a job.
    pub const CONSOLE: &str = "vendor/bin/console";
    /// The job of `sync: jenkins`.
    pub const JOB: &str = "rekindle-sync";
    /// What a page that is there answers with.
    pub const STATUS: u64 = 200;
    /// Dead letters of one resource.
    pub const DEAD_LETTERS: u64 = 1000;
    /// Dead letters in percent of the rows.
    pub const PERCENT: f64 = 1.0;
}

/// A default that was used: its path in the plan, and its value as it would be typed.
pub(super) type Used = Vec<(String, String)>;

/// Returns the folder of the plan file, absolute and without links, so that every way to reach a plan leads to the same
/// state file.
pub(super) fn folder_of(path: &Path) -> PathBuf {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    folder
        .canonicalize()
        .or_else(|_| std::path::absolute(folder))
        .unwrap_or_else(|_| folder.to_owned())
}

/// Returns the plan and the defaults it used.
///
/// `None` if something is missing or broken; the reading noted it as a problem already.
pub(super) fn resolve(model: Model, path: &Path) -> Option<(Plan, Used)> {
    let folder = folder_of(path);
    let mut used = model.preset_used.clone();
    let targets = model
        .targets
        .iter()
        .map(|target| {
            Some((
                target.name.value.clone(),
                self::target(target, &model, &folder, &mut used)?,
            ))
        })
        .collect::<Option<BTreeMap<_, _>>>()?;
    let limits = Limits::resolve(&model.defaults, &mut used);
    let console = model
        .console
        .as_ref()
        .and_then(|console| fallback::console(console, &mut used));
    let jenkins = match &model.jenkins {
        Some(given) => Some(steps::jenkins(given, &folder, &mut used)?),
        None => None,
    };
    let scene = fallback::Scene {
        folder: &folder,
        console: console.as_ref(),
        jenkins: jenkins.as_ref(),
        is_on: limits.fallback,
    };
    let resources = model
        .resources
        .iter()
        .map(|resource| self::resource(resource, &model, &targets, &limits, &scene, &mut used))
        .collect::<Option<Vec<_>>>()?;
    let mut page = None;
    let prepare = steps::steps(&model.prepare, &mut page, &folder, &mut used)?;
    let finish = steps::steps(&model.finish, &mut page, &folder, &mut used)?;
    let aws = match &model.aws {
        Some(given) => Some(steps::aws(given)?),
        None => None,
    };
    let broker = match &model.broker {
        Some(broker) => Some(broker.resolve(&model, &folder, &mut used)?),
        None => None,
    };
    let plan = Plan {
        broker,
        name: model.name?.value,
        path: path.to_owned(),
        source: source(
            &model.source_url?,
            model.source_tls.as_ref(),
            &folder,
            &mut used,
        )?,
        targets,
        resources,
        ignored: model
            .ignored
            .into_iter()
            .map(|one| TablePattern::new(one.value, one.typed))
            .collect(),
        console,
        jenkins,
        aws,
        prepare,
        finish,
        defaults: limits.defaults,
        preset: model.preset,
    };
    Some((plan, used))
}

fn source(
    url: &Value<String>,
    tls: Option<&model::Tls>,
    folder: &Path,
    used: &mut Used,
) -> Option<SourceConfig> {
    let tls = tls.map(|tls| self::tls(tls, folder, used));
    Some(match urls::source(&url.value).ok()? {
        SourceUrl::Mysql => SourceConfig {
            kind: SourceKind::Mysql,
            url: url.value.clone().into(),
            tls,
        },
        SourceUrl::Postgres => SourceConfig {
            kind: SourceKind::Postgres,
            url: url.value.clone().into(),
            tls,
        },
        SourceUrl::Sqlite(path) => SourceConfig {
            kind: SourceKind::Sqlite,
            url: format!("sqlite:{}", absolute(folder, &path).to_str()?).into(),
            tls: None,
        },
    })
}

/// Returns the settings of `tls:`, its files absolute.
pub(super) fn tls(tls: &model::Tls, folder: &Path, used: &mut Used) -> TlsConfig {
    let file =
        |file: &Option<Value<String>>| file.as_ref().map(|file| absolute(folder, &file.value));
    TlsConfig {
        ca: file(&tls.ca),
        cert: file(&tls.cert),
        key: file(&tls.key),
        verify: or(
            tls.verify.as_ref(),
            format!("{}.verify", tls.path),
            Verify::default(),
            |verify| verify.label().to_owned(),
            used,
        ),
    }
}

fn target(
    target: &model::Target,
    model: &Model,
    folder: &Path,
    used: &mut Used,
) -> Option<TargetConfig> {
    let path = |key: &str| format!("targets.{}.{key}", target.name.value);
    Some(match target.kind.as_ref()? {
        TargetKind::Redis(redis) => {
            let (value, compress) = (
                redis.value.unwrap_or_default(),
                redis.compress.unwrap_or_default(),
            );
            note(
                redis.value.is_none(),
                path("redis.value"),
                value.label(),
                used,
            );
            note(
                redis.compress.is_none(),
                path("redis.compress"),
                compress.label(),
                used,
            );
            TargetConfig::Redis(RedisConfig {
                url: redis.url.as_ref()?.value.clone().into(),
                tls: redis.tls.as_ref().map(|tls| self::tls(tls, folder, used)),
                prefix: redis.prefix.as_ref().map_or_else(
                    || {
                        note(true, path("redis.prefix"), "\"\"", used);
                        String::new()
                    },
                    |prefix| prefix.value.clone(),
                ),
                value,
                compress,
                allow_eviction: or(
                    redis.allow_eviction.as_ref(),
                    path("redis.allow_eviction"),
                    false,
                    bool::to_string,
                    used,
                ),
            })
        }
        TargetKind::File(file) => {
            note(!file.format_given, path("file.format"), "resp", used);
            TargetConfig::File(FileConfig {
                path: absolute(folder, &file.path.as_ref()?.value),
                format: if file.ndjson {
                    FileFormat::Ndjson(indexes(target, file.index.as_ref()?, model)?)
                } else {
                    FileFormat::Resp
                },
            })
        }
        TargetKind::Search(search) => {
            note(!search.load_given, path("elasticsearch.load"), "{}", used);
            TargetConfig::Search(SearchConfig {
                urls: search
                    .urls
                    .iter()
                    .map(|url| url.value.clone().into())
                    .collect(),
                tls: search.tls.as_ref().map(|tls| self::tls(tls, folder, used)),
                api_key: search.api_key.as_ref().map(|key| key.value.clone().into()),
                indexes: indexes(target, search.index.as_ref()?, model)?,
                load: Load {
                    refresh_off: search.refresh_off,
                    replicas: search.replicas.as_ref().map(|given| saturated(given.value)),
                },
                gzip: or(
                    search.gzip.as_ref(),
                    path("elasticsearch.gzip"),
                    false,
                    bool::to_string,
                    used,
                ),
            })
        }
    })
}

/// Returns the indexes of every resource that goes to `target`.
fn indexes(
    target: &model::Target,
    template: &Value<String>,
    model: &Model,
) -> Option<BTreeMap<ResourceName, Routing>> {
    let template = &template.value;
    let mine = model.resources.iter().filter(|one| {
        one.to
            .as_ref()
            .map_or(model.targets.len() == 1, |to| to.value == target.name.value)
    });
    mine.map(|resource| {
        let kind = resource.kind.as_ref().map_or("", |kind| &kind.value);
        let routing = if template.contains("{store}") {
            Routing::ByStore {
                column: resource.from.as_ref()?.store.is_some(),
                indexes: model
                    .stores
                    .as_ref()?
                    .value
                    .iter()
                    .map(|store| {
                        let index = index::fill(template, &store.value, kind);
                        (store.value.clone(), index)
                    })
                    .collect(),
            }
        } else {
            Routing::One(index::fill(template, "", kind))
        };
        Some((resource.name.as_ref()?.value.as_str().into(), routing))
    })
    .collect()
}

/// Limits that hold where a resource says nothing.
struct Limits {
    defaults: Defaults,
    chunk: ChunkLimit,
    /// Of resources that go to a search target.
    search_chunk: ChunkLimit,
    dead_letters: DeadLetterLimit,
    /// Whether resources may go to their publishers.
    fallback: bool,
}

impl Limits {
    #[expect(clippy::too_many_lines, reason = "one default after the other")]
    fn resolve(given: &model::Defaults, used: &mut Used) -> Self {
        let path = |key: &str| format!("defaults.{key}");
        note(!given.sync_given, path("sync"), "direct", used);
        let rows = count(
            given.chunk.rows.as_ref(),
            path("chunk.rows"),
            default::ROWS,
            used,
        );
        let budget = given
            .in_flight
            .as_ref()
            .map_or(default::IN_FLIGHT, |value| value.value);
        let bytes = or(
            given.chunk.bytes.as_ref(),
            path("chunk.bytes"),
            default::BYTES.min(budget),
            |bytes| show_bytes(*bytes),
            used,
        );
        let parallel_resources = count(
            given.parallel_resources.as_ref(),
            path("parallel.resources"),
            default::RESOURCES,
            used,
        );
        let parallel_partitions = count(
            given.parallel_partitions.as_ref(),
            path("parallel.partitions"),
            default::PARTITIONS,
            used,
        );
        let in_flight_bytes = or(
            given.in_flight.as_ref(),
            path("memory.in_flight"),
            default::IN_FLIGHT,
            |bytes| show_bytes(*bytes),
            used,
        );
        let attempts = count(
            given.attempts.as_ref(),
            path("retry.attempts"),
            default::ATTEMPTS,
            used,
        );
        let wait = |wait: &Duration| show_duration(*wait);
        let base = or(
            given.base.as_ref(),
            path("retry.base"),
            default::BASE,
            wait,
            used,
        );
        let cap = or(
            given.cap.as_ref(),
            path("retry.cap"),
            default::CAP,
            wait,
            used,
        );
        let within = or(
            given.within.as_ref(),
            path("retry.within"),
            default::WITHIN,
            wait,
            used,
        );
        note(
            given.fallback_to.is_none(),
            path("fallback.to"),
            "trigger-events",
            used,
        );
        let after_crashes = count(
            given.after_crashes.as_ref(),
            path("fallback.after_crashes"),
            default::AFTER_CRASHES,
            used,
        );
        let after_failures = count(
            given.after_failures.as_ref(),
            path("fallback.after_failures"),
            default::AFTER_FAILURES,
            used,
        );
        let max = or(
            given.dead_letters_max.as_ref(),
            path("dead_letters.max"),
            default::DEAD_LETTERS,
            u64::to_string,
            used,
        );
        let percent = or(
            given.dead_letters_percent.as_ref(),
            path("dead_letters.percent"),
            default::PERCENT,
            f64::to_string,
            used,
        );
        note(!given.verify_given, path("verify"), "none", used);
        Self {
            defaults: Defaults {
                parallel_resources,
                parallel_partitions,
                in_flight_bytes,
                retry: RetryPolicy {
                    attempts,
                    base,
                    cap,
                    within,
                },
                after_crashes,
                after_failures,
                verify: Level::ALL
                    .into_iter()
                    .find(|level| Some(level.label()) == given.verify),
            },
            fallback: given
                .fallback_to
                .as_ref()
                .is_none_or(|to| to.value != "none"),
            chunk: ChunkLimit { rows, bytes },
            search_chunk: ChunkLimit {
                rows: given
                    .chunk
                    .rows
                    .as_ref()
                    .map_or(default::SEARCH_ROWS, |_| rows),
                bytes: given
                    .chunk
                    .bytes
                    .as_ref()
                    .map_or(default::SEARCH_BYTES.min(budget), |_| bytes),
            },
            dead_letters: DeadLetterLimit { max, percent },
        }
    }
}

fn resource(
    resource: &model::Resource,
    model: &Model,
    targets: &BTreeMap<String, TargetConfig>,
    limits: &Limits,
    scene: &fallback::Scene<'_>,
    used: &mut Used,
) -> Option<Resource> {
    let from = resource.from.as_ref()?;
    let text = |value: &Option<Value<String>>| value.as_ref().map(|value| value.value.clone());
    let to = text(&resource.to).or_else(|| {
        let only = targets.keys().next().filter(|_| targets.len() == 1)?;
        note(true, format!("{}.to", resource.path), only, used);
        Some(only.clone())
    })?;
    let chunk = &resource.chunk;
    let limit = match targets.get(&to) {
        Some(TargetConfig::Search(_)) => limits.search_chunk,
        _ => limits.chunk,
    };
    if limit.rows != limits.chunk.rows {
        let path = format!("{}.chunk.rows", resource.path);
        note(chunk.rows.is_none(), path, limit.rows, used);
    }
    if limit.bytes != limits.chunk.bytes {
        let path = format!("{}.chunk.bytes", resource.path);
        note(chunk.bytes.is_none(), path, show_bytes(limit.bytes), used);
    }
    Some(Resource {
        name: text(&resource.name)?.into(),
        after: resource
            .after
            .iter()
            .map(|name| name.value.as_str().into())
            .collect(),
        from: RowSource {
            table: text(&from.table)?,
            cursor: from
                .cursor
                .as_ref()?
                .value
                .iter()
                .map(|column| column.value.clone())
                .collect(),
            key: text(&from.key)?,
            value: text(&from.value)?,
            entity: text(&from.entity),
            store: text(&from.store),
            more_keys: MoreKeys {
                aliases: more_keys(from.aliases.as_ref()),
                mapping: more_keys(from.mapping_key.as_ref()),
            },
            condition: text(&from.condition),
            reads_ids: false,
        },
        to,
        executor: model.executor(resource),
        queue: broker::queue(resource, model, used),
        drains: resource
            .drains
            .iter()
            .map(|queue| queue.value.clone())
            .collect(),
        keys: text(&resource.keys),
        leaves_keys_out: [&from.aliases, &from.mapping_key]
            .into_iter()
            .flatten()
            .any(|column| column.name.value == model::NO_KEYS),
        catch_up: catch_up(resource, used),
        chunk: ChunkLimit {
            rows: chunk
                .rows
                .as_ref()
                .map_or(limit.rows, |rows| saturated(rows.value)),
            bytes: chunk
                .bytes
                .as_ref()
                .map_or(limit.bytes, |bytes| bytes.value),
        },
        dead_letters: limits.dead_letters,
        throttle: Throttle {
            rows_per_second: resource
                .throttle
                .rows_per_second
                .as_ref()
                .map(|rows| saturated(rows.value)),
            replica_lag: resource.throttle.replica_lag.as_ref().map(|lag| lag.value),
            redis_used_percent: resource
                .throttle
                .redis_used_percent
                .as_ref()
                .map(|percent| saturated(percent.value)),
        },
        fallback: match &resource.fallback {
            // Whoever consumes the queue writes; nothing could be compared and copied afterwards.
            _ if model.executor(resource) == Executor::Queue => None,
            Some(handover) => fallback::handover(resource, handover, scene, used).ok()?,
            None => None,
        },
    })
}

fn catch_up(resource: &model::Resource, used: &mut Used) -> Option<CatchUp> {
    let given = resource.catch_up.as_ref()?;
    let Some(column) = &given.column else {
        return Some(CatchUp::All);
    };
    let path = format!("{}.catch_up.overlap", resource.path);
    let (time, number) = (show_duration(Overlap::TIME), Overlap::NUMBER);
    let default = format!("{time}, or {number} where the column holds numbers");
    note(given.overlap.is_none(), path, default, used);
    Some(CatchUp::Changed(ChangeColumn {
        name: column.value.clone(),
        overlap: given.overlap.as_ref().map(|overlap| overlap.value),
    }))
}

fn more_keys(given: Option<&model::KeyColumn>) -> Option<KeyColumn> {
    let given = given.filter(|column| column.name.value != model::NO_KEYS)?;
    Some(KeyColumn {
        name: given.name.value.clone(),
        optional: given.optional,
    })
}

/// Returns `path` below `folder`, which has no links in it, so that leading `..` can be taken off by name.
pub(super) fn absolute(folder: &Path, path: &str) -> PathBuf {
    let mut absolute = folder.to_owned();
    let mut leading = true;
    for component in Path::new(path).components() {
        match component {
            Component::CurDir => {}
            // Further on, `a/..` may lead elsewhere: `a` can be a link.
            Component::ParentDir if leading => {
                absolute.pop();
            }
            other => {
                leading = false;
                absolute.push(other);
            }
        }
    }
    absolute
}

pub(super) fn or<T: Clone>(
    given: Option<&Value<T>>,
    path: String,
    default: T,
    show: impl FnOnce(&T) -> String,
    used: &mut Used,
) -> T {
    if let Some(given) = given {
        return given.value.clone();
    }
    note(true, path, show(&default), used);
    default
}

fn count(given: Option<&Value<u64>>, path: String, default: u32, used: &mut Used) -> u32 {
    note(given.is_none(), path, default, used);
    given.map_or(default, |given| saturated(given.value))
}

/// Returns `value` as `u32`; the checks refuse what does not fit.
fn saturated(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn note(is_used: bool, path: String, value: impl Display, used: &mut Used) {
    if is_used {
        used.push((path, value.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_plan() {
        let at = |path| absolute(Path::new("/srv/plans"), path);
        assert_eq!(at("out/"), Path::new("/srv/plans/out"));
        assert_eq!(at("./../target/x"), Path::new("/srv/target/x"));
        assert_eq!(at("../../../x"), Path::new("/x"));
        assert_eq!(at("/abs/x"), Path::new("/abs/x"));
        assert_eq!(at("a/../b"), Path::new("/srv/plans/a/../b"));
        assert_eq!(at("/a/../b"), Path::new("/a/../b"));
    }
}
