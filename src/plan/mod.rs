//! YAML text -> checked [`Plan`]. No I/O except reading the plan file and `${file:...}`.

mod resolved;

pub use resolved::{
    ChunkLimit, DeadLetterLimit, Defaults, FileConfig, Plan, RedisConfig, Resource, RetryPolicy,
    RowSource, SourceConfig, SourceKind, TargetConfig,
};
