//! Tests that need no server: fakes and temporary folders only.

mod checks;
mod docs;
mod entities;
mod fake_jenkins;
mod faults;
mod files;
mod init;
mod journal;
mod letters;
mod mending;
mod model;
mod older;
mod packages;
mod plans;
mod preset;
mod said;
mod schema;
mod shop;
mod siblings;
mod steps;
mod transitions;
mod values;
