//! Tests that need no server: fakes and temporary folders only.

mod docs;
mod fake_jenkins;
mod files;
mod init;
mod journal;
mod mending;
mod model;
mod plans;
mod preset;
mod said;
mod schema;
mod steps;
mod transitions;
mod values;
