//! Newtypes for the identifiers that travel between rooms, so that two strings never get swapped.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
};

use serde::{Deserialize, Serialize};

/// Returns a source of random numbers for ids, seeded by the operating system.
///
/// `fastrand` by itself is seeded with the time since the machine started: processes that begin in the same moment
/// would choose the same ids, and a lease would take another state file for its own.
#[must_use]
pub fn randomness() -> fastrand::Rng {
    // The standard library draws the keys of its hash maps from the kernel.
    fastrand::Rng::with_seed(RandomState::new().hash_one(()))
}

/// One execution of a plan, however many attempts it takes. Six characters, unique within a state file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// Characters of a run id: no vowels and no look-alikes, so that ids read out on the phone survive.
    const ALPHABET: &[u8] = b"23456789BCDFGHJKMNPQRSTVWXZ";

    /// Returns a fresh random id.
    #[must_use]
    pub fn random() -> Self {
        let mut random = randomness();
        Self(
            (0..6)
                .map(|_| char::from(Self::ALPHABET[random.usize(..Self::ALPHABET.len())]))
                .collect(),
        )
    }

    /// Returns the id spelled by `text`, without checking that such a run exists.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a resource, as the plan spells it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResourceName(String);

impl ResourceName {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ResourceName {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for ResourceName {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of a step within its run, from 1: first those of `prepare`, then those of `finish`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepNumber(pub u32);

impl StepNumber {
    /// Returns the number of the step at `index` of a run's list.
    #[must_use]
    pub fn at(index: usize) -> Self {
        Self(u32::try_from(index + 1).unwrap_or(u32::MAX))
    }

    /// Returns the place in the run's list.
    #[must_use]
    pub const fn index(self) -> usize {
        (self.0 as usize).wrapping_sub(1)
    }
}

impl fmt::Display for StepNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a step of a run is known by in the world, whatever its number becomes: in tags, in the names of builds, in answers. Of the
/// steps that a run was planned with it is their number; one that came into the plan later has one that no other step had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(pub u32);

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Something that a target holds: a key, or a document of an index.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoredName {
    /// The index as the plan names it; empty where there is none.
    pub place: String,
    /// The key without the plan's prefix, or the `_id`.
    pub key: Vec<u8>,
}

/// A key range of one resource that is walked on its own. Unique within a state file, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartitionId(pub u64);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The number of a chunk within its partition. The first is 1; 0 means "none stored yet".
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ChunkSeq(pub u64);

impl ChunkSeq {
    /// Returns the number of the chunk after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for ChunkSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
