//! rekindle fills Redis and search read models again from the database they were built from.
//!
//! ```text
//! plan.yaml -> plan -> engine -> source =chunk=> target
//!                        |- first:  record in journal
//!                        `- then:   emit to report
//! ```
//!
//! `ARCHITECTURE.md` has the map of the rooms, the state diagrams and the journal's tables.

pub mod broker;
pub mod chunk;
pub mod cli;
pub mod compare;
pub mod control;
pub mod cursor;
pub mod cutover;
pub mod draft;
pub mod engine;
pub mod error;
pub mod failpoint;
pub mod failure;
pub mod fallback;
pub mod ids;
pub mod journal;
pub mod machine;
pub mod nearest;
pub mod plan;
pub mod process;
pub mod remote;
pub mod report;
pub mod scratch;
pub mod source;
pub mod spryker;
pub mod supervisor;
pub mod target;
pub mod tls;
pub mod value;
