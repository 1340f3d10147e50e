//! Tests that need no server: fakes and temporary folders only.

mod docs;
mod files;
mod journal;
mod plans;
mod preset;
mod schema;
mod steps;
mod transitions;
mod values;
