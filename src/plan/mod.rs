//! YAML text -> checked [`Plan`]. No I/O except reading the plan file, `${file:...}` and the files of `tls`.
//!
//! ```text
//! bytes -yaml-> tree -decode, interpolate, grammar-> model -check-> problems | -resolve-> Plan
//! ```
//!
//! Every step notes what is wrong and goes on, so that one look shows every problem of a plan. Only a file that is not
//! YAML ends the reading at once.

mod broker;
mod check;
mod decode;
mod diagnostic;
mod digest;
mod excerpt;
mod explain;
mod grammar;
mod index;
mod interpolate;
mod mask;
mod model;
mod own_keys;
mod places;
mod preset;
mod problems;
mod quote;
mod rds;
mod resolve;
mod resolved;
mod schema;
mod search;
mod steps;
mod table_pattern;
mod tree;
mod typed_source;
mod units;
mod urls;
mod yaml;

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
};

pub use diagnostic::{Code, Diagnostic, Place, Severity, Span};
pub use digest::definition_diff;
pub use explain::Explanation;
pub use index::is_store_name;
pub use places::{Places, ResourcePlaces, TargetPlaces};
pub use problems::{Look, PlanProblems, PlanText, ProblemEntry};
pub use rds::{
    AwsConfig, RdsRename, RdsRestore, RdsSnapshot, RestoreFrom, SnapshotKind, filled_name,
};
pub use resolved::{
    Beside, BrokerConfig, CatchUp, ChangeColumn, ChunkLimit, Compression, ConsoleConfig,
    DeadLetterLimit, Defaults, Executor, FallbackConfig, FileConfig, FileFormat, JobConfig,
    KeyColumn, Level, Load, MoreKeys, Overlap, Plan, Preset, PublisherConfig, QueueConfig,
    RedisConfig, Resource, RetryPolicy, Routing, RowSource, SearchConfig, SourceConfig, SourceKind,
    TargetConfig, Throttle, ValueForm,
};
pub use schema::schema;
pub use steps::{
    Hidden, HttpCheck, JenkinsBuild, JenkinsConfig, JobShell, Maintenance, Shell, Step, StepKind,
};
pub use table_pattern::TablePattern;
pub use typed_source::{TypedSource, UnusableSource, typed_source};
pub use units::duration;

use decode::Decoder;
use interpolate::Variables;
use model::Model;

/// A plan that can be carried out.
#[derive(Debug)]
pub struct Loaded {
    /// The plan.
    pub plan: Plan,
    /// What is odd about it; `--strict` refuses it.
    pub warnings: Vec<Diagnostic>,
    /// Every default it used: path in the plan and value as it would be typed, `("defaults.chunk.rows", "1000")`.
    pub defaults_used: Vec<(String, String)>,
    /// The text that `warnings` point into; renders them.
    pub text: PlanText,
    /// Where what its servers may find wrong was typed.
    pub places: Places,
}

impl Loaded {
    /// Returns the warnings as problems, for `--strict`; `None` without any.
    #[must_use]
    pub fn strict_problems(&self) -> Option<PlanProblems> {
        let refused = self.warnings.iter().cloned().map(|mut warning| {
            warning.severity = Severity::Error;
            warning
        });
        let refused: Vec<_> = refused.collect();
        (!refused.is_empty()).then(|| PlanProblems::new(self.text.clone(), refused))
    }
}

/// Returns the plan in the file at `path`; `env` looks up environment variables.
///
/// # Errors
///
/// Every problem found. No text of them holds the value of a variable.
pub fn load(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Box<PlanProblems>> {
    let refused =
        |text: &str, problems| Box::new(PlanProblems::new(PlanText::new(path, text), problems));
    let bytes = read(path).map_err(|problem| refused("", vec![problem]))?;
    let text = yaml::text(&bytes).map_err(|problem| refused("", vec![problem]))?;
    let root = yaml::parse(text).map_err(|problem| refused(text, vec![*problem]))?;
    let folder = resolve::folder_of(path);
    let mut decoder = Decoder {
        text,
        variables: Variables {
            env,
            folder: &folder,
        },
        problems: Vec::new(),
        preset: None,
    };
    let model = Model::read(&root, &mut decoder);
    let mut problems = decoder.problems;
    check::all(&model, &folder, &mut problems);
    problems::sort(&mut problems);
    if problems
        .iter()
        .any(|problem| problem.severity == Severity::Error)
    {
        return Err(refused(text, problems));
    }
    let places = Places::of(&model, env);
    match resolve::resolve(model, path) {
        Some((plan, defaults_used)) => Ok(Loaded {
            plan,
            warnings: problems,
            defaults_used,
            text: PlanText::new(path, text),
            places,
        }),
        None => Err(refused(text, problems)),
    }
}

/// Returns where the state file of the plan at `path` lies, looking only at its name where that is typed plainly: whoever
/// asks for a status at night need not have the passwords that the plan's variables stand for.
///
/// # Errors
///
/// The plan's problems, where its name alone cannot be read.
pub fn state_path_of(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<PathBuf, Box<PlanProblems>> {
    match typed_name(path) {
        Some(name) => Ok(state_path(path, &name)),
        None => load(path, env).map(|loaded| loaded.plan.state_path()),
    }
}

fn typed_name(path: &Path) -> Option<String> {
    let bytes = read(path).ok()?;
    let root = yaml::parse(yaml::text(&bytes).ok()?).ok()?;
    let tree::Kind::Map(fields) = root.kind else {
        return None;
    };
    let (_, name) = fields.into_iter().find(|(key, _)| key.text == "name")?;
    match name.kind {
        tree::Kind::Scalar(name) if check::is_plan_name(&name) => Some(name),
        _ => None,
    }
}

fn state_path(plan: &Path, name: &str) -> PathBuf {
    let folder = resolve::folder_of(plan);
    let home = match folder.parent() {
        Some(parent) if folder.file_name().is_some_and(|name| name == "plans") => parent,
        _ => &folder,
    };
    home.join("state").join(format!("{name}.sqlite"))
}

impl Plan {
    /// Returns where the plan's state file lies: in `state/` beside the plan file, or in `../state/` if the plan lies in
    /// a folder called `plans`. Does not depend on the working folder.
    #[must_use]
    pub fn state_path(&self) -> PathBuf {
        state_path(&self.path, &self.name)
    }
}

/// Reads at most one byte more than a plan may have, so that a huge file costs nothing.
fn read(path: &Path) -> Result<Vec<u8>, Diagnostic> {
    let open = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?
            .take(yaml::MAX_BYTES as u64 + 1)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    open().map_err(|error| {
        Diagnostic::new(
            Code::Unreadable,
            format!("the plan file cannot be read: {}", io_reason(&error)),
        )
        .help("check the path; it is relative to the folder you are in")
    })
}

/// Returns why a file could not be read, without the number that the system gives it.
fn io_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a folder".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use secrecy::ExposeSecret as _;

    use super::*;

    /// Every key that this release reads, with a value that is not its default.
    const TYPED: &str = r#"
version: 1
name: shop
source: { url: "sqlite://db/${DB}.sqlite" }
targets:
  storage: { redis: { url: "redis://:${PW}@cache.test:6379/3", prefix: "kv:", allow_eviction: true } }
  dump: { file: { path: ./out/ } }
resources:
  - name: url
    to: dump
    from: &from { table: t, cursor: [id], key: key, value: data }
  - name: product
    after: [url]
    to: storage
    chunk: { rows: 5 }
    from: { <<: *from, table: "1.10", entity: no, where: "a = 'b'" }
defaults:
  chunk: { rows: 10, bytes: 4KiB }
  parallel: { resources: 3, partitions: 4 }
  memory: { in_flight: 1MiB }
  retry: { attempts: 2, base: 5ms, cap: 1m }
  dead_letters: { max: 7, percent: 0.5 }
"#;

    /// Returns the plan in `TYPED` and its folder.
    fn typed() -> (Plan, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.yaml");
        fs::write(&path, TYPED).unwrap();
        let env = |name: &str| match name {
            "DB" => Some("shop".to_owned()),
            // Filled in after the YAML was read, so nothing in it needs quoting.
            "PW" => Some("a%22%23:%20[}".to_owned()),
            _ => None,
        };
        let loaded = load(&path, &env)
            .unwrap_or_else(|problems| panic!("{}", problems.render(Look::Plain, 100)));
        (loaded.plan, folder.path().canonicalize().unwrap())
    }

    #[test]
    fn source_and_targets_come_out_as_they_were_typed() {
        let (plan, home) = typed();
        assert_eq!(plan.name, "shop");
        assert_eq!(plan.source.kind, SourceKind::Sqlite);
        let database = home.join("db/shop.sqlite");
        assert_eq!(
            plan.source.url.expose_secret(),
            format!("sqlite:{}", database.display())
        );
        let Some(TargetConfig::Redis(redis)) = plan.targets.get("storage") else {
            panic!("{:?}", plan.targets);
        };
        assert_eq!(
            redis.url.expose_secret(),
            "redis://:a%22%23:%20[}@cache.test:6379/3"
        );
        assert_eq!((redis.prefix.as_str(), redis.allow_eviction), ("kv:", true));
        let Some(TargetConfig::File(file)) = plan.targets.get("dump") else {
            panic!("{:?}", plan.targets);
        };
        assert_eq!(file.path, home.join("out"));
    }

    #[test]
    fn resources_and_limits_come_out_as_they_were_typed() {
        let (plan, _) = typed();
        assert_eq!(
            plan.resources[0].chunk,
            ChunkLimit {
                rows: 10,
                bytes: 4096
            }
        );
        let product = &plan.resources[1];
        assert_eq!(
            product.chunk,
            ChunkLimit {
                rows: 5,
                bytes: 4096
            }
        );
        assert_eq!(product.after, ["url".into()]);
        assert_eq!(
            product.dead_letters,
            DeadLetterLimit {
                max: 7,
                percent: 0.5
            }
        );
        assert_eq!(
            product.from,
            RowSource {
                table: "1.10".to_owned(),
                cursor: vec!["id".to_owned()],
                key: "key".to_owned(),
                value: "data".to_owned(),
                entity: Some("no".to_owned()),
                store: None,
                more_keys: MoreKeys::default(),
                condition: Some("a = 'b'".to_owned()),
                reads_ids: false,
            }
        );
        assert_eq!(
            plan.defaults,
            Defaults {
                parallel_resources: 3,
                parallel_partitions: 4,
                in_flight_bytes: 1 << 20,
                retry: RetryPolicy {
                    attempts: 2,
                    base: Duration::from_millis(5),
                    cap: Duration::from_mins(1),
                    within: Duration::from_mins(15),
                },
                after_crashes: 2,
                after_failures: 5,
                verify: None,
            }
        );
    }

    #[test]
    fn the_state_file_lies_beside_the_plan_or_beside_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().canonicalize().unwrap();
        fs::create_dir(home.join("plans")).unwrap();
        let text = "version: 1\nname: shop\nsource: {url: 'sqlite:x'}\ntargets: {a: {file: {path: x}}}\n\
                    resources: [{name: r, from: {table: t, cursor: [id], key: k, value: v}}]\n";
        for (plan, state) in [
            ("a.yaml", "state/shop.sqlite"),
            ("plans/b.yaml", "state/shop.sqlite"),
        ] {
            let path = folder.path().join(plan);
            fs::write(&path, text).unwrap();
            let plan = load(&path, &|_| None).unwrap().plan;
            assert_eq!(plan.state_path(), home.join(state));
        }
        let around = home.join("plans/../plans/b.yaml");
        assert_eq!(
            load(&around, &|_| None).unwrap().plan.state_path(),
            home.join("state/shop.sqlite")
        );
    }
}
