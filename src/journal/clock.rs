//! The wall clock, for people: order comes from event numbers, never from here.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns milliseconds since 1970 by this machine's clock; 0 for a clock before that.
#[must_use]
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}
