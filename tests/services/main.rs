//! Tests against real servers, each started for its test alone.

mod redis_server;
mod target;
