//! Tests against real servers. `tests/servers/up` starts them.

mod certificates;
mod drift;
mod fallback;
mod in_use;
mod kill;
mod memory;
mod output;
mod php;
mod postgres;
mod postgres_shop;
mod redis_cluster;
mod redis_faults;
mod redis_server;
mod refusals;
mod restore;
mod scope;
mod search;
mod search_faults;
mod search_server;
mod sharing;
mod shop;
mod source;
mod state_file;
mod support;
mod target;
mod tls;
