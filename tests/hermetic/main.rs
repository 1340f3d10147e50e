//! Tests that need no server: fakes and temp dirs only.

mod transitions;
