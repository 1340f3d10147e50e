//! Thin clients of servers that are neither source nor target. They name the kind of their errors, never retry, and decide
//! nothing.

pub mod http;
pub mod jenkins;
#[cfg(feature = "aws")]
pub mod rds;
