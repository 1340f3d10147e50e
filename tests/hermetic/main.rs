//! Tests that need no server: fakes and temp dirs only.

mod journal;
mod transitions;
