//! Ranges of numbers, sizes and times.

use std::{ops::RangeInclusive, time::Duration};

use crate::plan::{
    decode::Value,
    diagnostic::{Code, Diagnostic},
    model::{Chunk, Model, Throttle},
    quote::quoted,
    resolve::default,
    units::{show_bytes, show_duration},
};

/// Below 16 KiB not even one small chunk fits; above 64 GiB it is a slip of the finger.
const IN_FLIGHT: RangeInclusive<u64> = 16 * 1024..=64 << 30;

/// Longer waits than an hour are a stop, and a stop is for people to decide.
const WAIT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(1);

/// Servers say how far they are behind in whole seconds.
const LAG: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);

/// A server that is down for longer than a week is no longer waited for by anyone.
const WITHIN: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(24 * 7);

pub(super) fn check(model: &Model, problems: &mut Vec<Diagnostic>) {
    let defaults = &model.defaults;
    let in_flight = defaults.in_flight.as_ref();
    bytes("defaults.memory.in_flight", in_flight, IN_FLIGHT, problems);
    // A budget out of range is one problem, not one more for each chunk.
    let budget = in_flight
        .map_or(default::IN_FLIGHT, |value| value.value)
        .max(*IN_FLIGHT.start());
    chunk("defaults", &defaults.chunk, budget, problems);
    for resource in &model.resources {
        chunk(&resource.path, &resource.chunk, budget, problems);
        throttle(&resource.path, &resource.throttle, problems);
    }
    count(
        "defaults.parallel.resources",
        defaults.parallel_resources.as_ref(),
        1..=64,
        problems,
    );
    count(
        "defaults.parallel.partitions",
        defaults.parallel_partitions.as_ref(),
        1..=64,
        problems,
    );
    count(
        "defaults.retry.attempts",
        defaults.attempts.as_ref(),
        1..=1000,
        problems,
    );
    time(
        "defaults.retry.base",
        defaults.base.as_ref(),
        WAIT,
        problems,
    );
    time("defaults.retry.cap", defaults.cap.as_ref(), WAIT, problems);
    time(
        "defaults.retry.within",
        defaults.within.as_ref(),
        WITHIN,
        problems,
    );
    base_and_cap(model, problems);
    if let Some(percent) = &defaults.dead_letters_percent
        && !(0.0..=100.0).contains(&percent.value)
    {
        let range = "a number from 0 to 100";
        problems.push(out_of_range(
            "defaults.dead_letters.percent",
            percent,
            range,
        ));
    }
}

fn chunk(path: &str, chunk: &Chunk, budget: u64, problems: &mut Vec<Diagnostic>) {
    count(
        &format!("{path}.chunk.rows"),
        chunk.rows.as_ref(),
        1..=100_000,
        problems,
    );
    bytes(
        &format!("{path}.chunk.bytes"),
        chunk.bytes.as_ref(),
        1024..=budget,
        problems,
    );
}

fn throttle(path: &str, throttle: &Throttle, problems: &mut Vec<Diagnostic>) {
    count(
        &format!("{path}.throttle.rows_per_second"),
        throttle.rows_per_second.as_ref(),
        1..=100_000_000,
        problems,
    );
    time(
        &format!("{path}.throttle.replica_lag"),
        throttle.replica_lag.as_ref(),
        LAG,
        problems,
    );
    count(
        &format!("{path}.throttle.redis_used_percent"),
        throttle.redis_used_percent.as_ref(),
        1..=100,
        problems,
    );
}

fn base_and_cap(model: &Model, problems: &mut Vec<Diagnostic>) {
    let (base, cap) = (&model.defaults.base, &model.defaults.cap);
    let base_wait = base.as_ref().map_or(default::BASE, |value| value.value);
    let cap_wait = cap.as_ref().map_or(default::CAP, |value| value.value);
    let Some(first) = base
        .as_ref()
        .or(cap.as_ref())
        .filter(|_| base_wait > cap_wait)
    else {
        return;
    };
    let show = |value: &Option<Value<Duration>>, default| {
        value.as_ref().map_or_else(
            || format!("`{}` by default", show_duration(default)),
            Value::shown,
        )
    };
    problems.push(
        Diagnostic::new(
            Code::OutOfRange,
            format!(
                "`defaults.retry.base` is {}, longer than `defaults.retry.cap`, which is {}",
                show(base, default::BASE),
                show(cap, default::CAP)
            ),
        )
        .at(first.span, "the first wait is longer than the longest")
        .help("lower `base` or raise `cap`"),
    );
}

fn count(
    path: &str,
    value: Option<&Value<u64>>,
    range: RangeInclusive<u64>,
    problems: &mut Vec<Diagnostic>,
) {
    if let Some(value) = value.filter(|value| !range.contains(&value.value)) {
        let range = format!("a number from {} to {}", range.start(), range.end());
        problems.push(out_of_range(path, value, &range));
    }
}

fn bytes(
    path: &str,
    value: Option<&Value<u64>>,
    range: RangeInclusive<u64>,
    problems: &mut Vec<Diagnostic>,
) {
    if let Some(value) = value.filter(|value| !range.contains(&value.value)) {
        let (low, high) = (show_bytes(*range.start()), show_bytes(*range.end()));
        problems.push(out_of_range(
            path,
            value,
            &format!("a size from {low} to {high}"),
        ));
    }
}

fn time(
    path: &str,
    value: Option<&Value<Duration>>,
    range: RangeInclusive<Duration>,
    problems: &mut Vec<Diagnostic>,
) {
    if let Some(value) = value.filter(|value| !range.contains(&value.value)) {
        let (low, high) = (show_duration(*range.start()), show_duration(*range.end()));
        problems.push(out_of_range(
            path,
            value,
            &format!("a time from {low} to {high}"),
        ));
    }
}

fn out_of_range<T>(path: &str, value: &Value<T>, range: &str) -> Diagnostic {
    let message = format!("{} is {}; use {range}", quoted(path), value.shown());
    Diagnostic::new(Code::OutOfRange, message).at(value.span, "out of range")
}
