//! Named points where a test can kill, fail, hold or panic the program, and numbers that it can set. Nothing of it is in a
//! normal build.
//!
//! `RK_FAIL=journal_after_commit:3:kill` kills the process at the third hit of that point; the actions are `kill`,
//! `error`, `sleep` (until killed) and `panic`. `RK_SET=jenkins_look_ms:20,jenkins_grace_ms:20` sets two numbers.

use std::io;

/// Passes the point called `name`.
///
/// # Errors
///
/// Only with the feature `failpoints`, where `RK_FAIL` asks for `error` here.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub const fn hit(_name: &'static str) -> io::Result<()> {
    Ok(())
}

/// Passes the point called `name`, or does what `RK_FAIL` asks for.
///
/// # Errors
///
/// Where `RK_FAIL` asks for `error` here.
///
/// # Panics
///
/// Where `RK_FAIL` asks for `panic` here, or cannot be read.
#[cfg(feature = "failpoints")]
pub fn hit(name: &'static str) -> io::Result<()> {
    use std::sync::LazyLock;
    static ASKED: LazyLock<Option<active::Point>> = LazyLock::new(|| {
        std::env::var("RK_FAIL")
            .ok()
            .map(|text| active::parse(&text))
    });
    match ASKED.as_ref() {
        Some(point) if point.is_due(name) => active::act(name, point.action),
        _ => Ok(()),
    }
}

/// Returns `usual`, the number called `name`.
#[cfg(not(feature = "failpoints"))]
#[inline]
#[must_use]
pub const fn number(_name: &'static str, usual: u32) -> u32 {
    usual
}

/// Returns what `RK_SET` says the number called `name` is, without it `usual`: for waits that no test can sit through.
///
/// # Panics
///
/// Where `RK_SET` cannot be read.
#[cfg(feature = "failpoints")]
#[must_use]
pub fn number(name: &'static str, usual: u32) -> u32 {
    use std::sync::LazyLock;
    static ASKED: LazyLock<Vec<(String, u32)>> = LazyLock::new(|| {
        std::env::var("RK_SET").map_or_else(|_| Vec::new(), |text| active::numbers(&text))
    });
    let asked = ASKED.iter().find(|(asked, _)| asked == name);
    asked.map_or(usual, |(_, number)| *number)
}

/// Returns whether the deliberate defect called `name` is switched on (`RK_MUTANT=name`). Never in a normal build.
#[cfg(not(feature = "mutants"))]
#[inline]
#[must_use]
pub const fn mutant(_name: &'static str) -> bool {
    false
}

/// Returns whether the deliberate defect called `name` is switched on (`RK_MUTANT=name`).
#[cfg(feature = "mutants")]
#[must_use]
pub fn mutant(name: &'static str) -> bool {
    use std::sync::LazyLock;
    static ASKED: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("RK_MUTANT").ok());
    ASKED.as_deref() == Some(name)
}

#[cfg(feature = "failpoints")]
mod active {
    use std::{
        io,
        sync::atomic::{AtomicU64, Ordering},
        time::Duration,
    };

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) enum Action {
        Kill,
        Error,
        Sleep,
        Panic,
    }

    #[derive(Debug)]
    pub(super) struct Point {
        name: String,
        nth: u64,
        pub(super) action: Action,
        hits: AtomicU64,
    }

    impl Point {
        /// Counts a hit of `name`; returns whether it is the one asked for.
        pub(super) fn is_due(&self, name: &str) -> bool {
            self.name == name && self.hits.fetch_add(1, Ordering::SeqCst) + 1 == self.nth
        }
    }

    /// Reads `name:nth:action`. Panics on anything else: a test that misspells its point would pass by luck.
    pub(super) fn parse(text: &str) -> Point {
        let fail = || panic!("RK_FAIL is `{text}`; use name:nth:kill|error|sleep|panic");
        let parts: Vec<&str> = text.split(':').collect();
        let [name, nth, action] = parts[..] else {
            fail()
        };
        Point {
            name: name.to_owned(),
            nth: nth.parse().unwrap_or_else(|_| fail()),
            action: match action {
                "kill" => Action::Kill,
                "error" => Action::Error,
                "sleep" => Action::Sleep,
                "panic" => Action::Panic,
                _ => fail(),
            },
            hits: AtomicU64::new(0),
        }
    }

    /// Reads `name:number,name:number`. Panics on anything else, as [`parse`] does.
    pub(super) fn numbers(text: &str) -> Vec<(String, u32)> {
        let read = |part: &str| {
            let (name, number) = part.split_once(':')?;
            Some((name.to_owned(), number.parse::<u32>().ok()?))
        };
        let read =
            |part| read(part).unwrap_or_else(|| panic!("RK_SET is `{text}`; use name:number"));
        text.split(',').map(read).collect()
    }

    pub(super) fn act(name: &str, action: Action) -> io::Result<()> {
        match action {
            Action::Error => Err(io::Error::other(format!("fail point `{name}`"))),
            Action::Panic => panic!("fail point `{name}`"),
            Action::Kill => {
                rustix::process::kill_process(
                    rustix::process::getpid(),
                    rustix::process::Signal::KILL,
                )?;
                hold()
            }
            Action::Sleep => hold(),
        }
    }

    fn hold() -> ! {
        loop {
            std::thread::sleep(Duration::from_hours(1));
        }
    }
}

#[cfg(all(test, feature = "failpoints"))]
mod tests {
    use super::active::{Action, act, numbers, parse};

    #[test]
    fn a_point_is_due_at_its_nth_hit_alone() {
        let point = parse("after_ack:2:error");
        assert_eq!(point.action, Action::Error);
        let due: Vec<bool> = (0..4).map(|_| point.is_due("after_ack")).collect();
        assert_eq!(due, [false, true, false, false]);
        assert!(!parse("after_ack:1:kill").is_due("before_ack"));
        assert!(act("after_ack", Action::Error).is_err());
    }

    #[test]
    fn numbers_are_set_by_name() {
        let wanted = [("look".to_owned(), 20), ("grace".to_owned(), 1)];
        assert_eq!(numbers("look:20,grace:1"), wanted);
    }

    #[test]
    #[should_panic(expected = "use name:number")]
    fn a_number_that_is_none_is_refused() {
        let _ = numbers("look:soon");
    }

    #[test]
    #[should_panic(expected = "use name:nth:kill")]
    fn a_misspelt_point_is_refused() {
        let _ = parse("after_ack:kill");
    }
}
