//! Tests that need nothing but a temporary folder.

mod plans;
