//! Tests against real servers. `tests/servers/up` starts them.

mod redis_server;
mod source;
mod support;
mod target;
