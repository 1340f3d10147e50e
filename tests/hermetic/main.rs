//! Tests that need no server: fakes and temporary folders only.

mod changed_steps;
mod checks;
mod docs;
mod entities;
mod fake_jenkins;
mod faults;
mod files;
mod half_done;
mod init;
mod journal;
mod lease;
mod letters;
mod mending;
mod model;
mod next;
mod older;
mod packages;
mod plans;
#[cfg(all(target_os = "linux", feature = "failpoints"))]
mod ports;
mod preset;
mod rules;
mod said;
mod schema;
mod shop;
mod siblings;
mod steps;
mod transitions;
mod typed_again;
mod values;
