//! Tests that need no server: fakes and temporary folders only.

mod checks;
mod docs;
mod files;
mod init;
mod journal;
mod mending;
mod model;
mod plans;
mod preset;
mod said;
mod schema;
mod transitions;
mod values;
