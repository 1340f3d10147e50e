//! Against real servers; `tests/servers/up` starts them.

mod source;
mod support;
