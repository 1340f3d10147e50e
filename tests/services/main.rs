//! Tests against real servers. `tests/servers/up` starts them.

mod fallback;
mod in_use;
mod kill;
mod memory;
mod output;
mod redis_faults;
mod redis_server;
mod refusals;
mod restore;
mod scope;
mod shop;
mod source;
mod state_file;
mod support;
mod target;
