//! The pause that a person asked for.

use std::{io, path::Path};

use serde::{Deserialize, Serialize};

use super::{beside, put, remove, text};

const SUFFIX: &str = ".pause";

/// Who asked for a pause, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Milliseconds since 1970 by that machine's clock.
    pub at_ms: i64,
    /// User and host, for people.
    pub by: String,
}

/// Asks every run of the state file at `state` to pause, from now on and after a restart. A pause that is there
/// already stays as it is.
///
/// # Errors
///
/// Where the file cannot be written.
pub fn ask(state: &Path, pause: &Pause) -> io::Result<()> {
    if asked(state).is_some() {
        return Ok(());
    }
    put(&beside(state, SUFFIX), &serde_json::to_string(pause)?)
}

/// Takes the pause back. Returns whether there was one.
///
/// # Errors
///
/// Where the file cannot be removed.
pub fn lift(state: &Path) -> io::Result<bool> {
    remove(&beside(state, SUFFIX))
}

/// Returns the pause that is asked for. A file that cannot be understood is one too: somebody put it there.
#[must_use]
pub fn asked(state: &Path) -> Option<Pause> {
    let text = text(&beside(state, SUFFIX))?;
    Some(serde_json::from_str(&text).unwrap_or(Pause {
        at_ms: 0,
        by: "somebody unknown".to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn the_first_pause_stands_until_it_is_lifted() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("shop.sqlite");
        let pause = |by: &str| Pause {
            at_ms: 5,
            by: by.to_owned(),
        };
        assert_eq!(asked(&state), None);
        ask(&state, &pause("ada")).unwrap();
        ask(&state, &pause("eve")).unwrap();
        assert_eq!(asked(&state), Some(pause("ada")));
        let file = folder.path().join("shop.sqlite.pause");
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        fs::write(&file, "{").unwrap();
        assert!(asked(&state).is_some());
        assert!(lift(&state).unwrap());
        assert!(!lift(&state).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
