//! Tests that need no server: fakes and temporary folders only.

mod docs;
mod fake_jenkins;
mod files;
mod journal;
mod plans;
mod preset;
mod schema;
mod steps;
mod transitions;
mod values;
