//! The life of one step of `prepare:` or `finish:`.
//!
//! ```text
//! waiting -> intent -> done -> undone
//! intent -> (the process died, or the call failed) unknown -> (observed) done | waiting
//! waiting -> (it is so already) done;   unknown -> undone
//! done -> (it is being reversed) unknown
//! ```
//!
//! An intent is on disk before anything is done, and no step that was begun is done again before the world was looked
//! at: what a call that was never answered did is known nowhere else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::IllegalTransition;
use crate::ids::StepId;

/// What a step found or chose before it was done, by name: what nobody could find out afterwards. No secrets.
pub type Facts = BTreeMap<String, String>;

/// The list of the plan that a step stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepPlace {
    /// Before the resources.
    Prepare,
    /// After them.
    Finish,
}

impl StepPlace {
    /// Returns the key of the plan.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Finish => "finish",
        }
    }
}

/// A step as a run found it in the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// Its list.
    pub place: StepPlace,
    /// What people read: `shell systemctl`, `approve`. No secrets.
    pub title: String,
    /// Its definition as canonical JSON (no secrets): what "changed plan" compares.
    pub definition: String,
    /// What it is known by; `None` where that is its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<StepId>,
}

/// Where a step stands. Written to the journal on every change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Nothing of it is done.
    Waiting,
    /// It is being done. Found at start-up, this means that the process died meanwhile.
    Intent,
    /// It was begun, and how it ended is not known: the world is looked at before anything else.
    Unknown,
    /// It is done.
    Done,
    /// It was done, and a person had it reversed.
    Undone,
}

/// What can happen to a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepEvent {
    /// It is about to be done.
    Intended {
        /// What was found or chosen before.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        facts: Facts,
    },
    /// The process that did it is gone; or it is about to be reversed, and nobody knows how far that comes.
    Lost,
    /// It could not be done, or nobody knows.
    Failed {
        /// Why, in one line.
        reason: String,
    },
    /// The world was looked at: it is not done.
    NotDone,
    /// It is done, or was found done.
    Done {
        /// How that is known, in one line.
        how: String,
    },
    /// It was reversed.
    Undone {
        /// How, in one line.
        how: String,
    },
}

impl StepState {
    /// Returns the state that follows `event`.
    ///
    /// # Errors
    ///
    /// [`IllegalTransition`] when `event` cannot happen in this state: a bug, or a state file edited by hand.
    pub fn apply(self, event: &StepEvent) -> Result<Self, IllegalTransition> {
        use {StepEvent as E, StepState as S};
        Ok(match (self, event) {
            (S::Waiting, E::Intended { .. }) => S::Intent,
            (S::Intent | S::Done, E::Lost) | (S::Intent | S::Unknown, E::Failed { .. }) => {
                S::Unknown
            }
            // What is looked at before it is done may refuse it.
            (S::Waiting, E::Failed { .. }) | (S::Unknown, E::NotDone) => S::Waiting,
            (S::Waiting | S::Intent | S::Unknown, E::Done { .. }) => S::Done,
            (S::Done | S::Unknown, E::Undone { .. }) => S::Undone,
            (from, event) => {
                return Err(IllegalTransition::new("step", from.label(), event.label()));
            }
        })
    }

    /// Returns the word under which the state is stored and shown.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Intent => "intent",
            Self::Unknown => "unknown",
            Self::Done => "done",
            Self::Undone => "undone",
        }
    }

    /// Every state, for the transition table.
    pub const ALL: [Self; 5] = [
        Self::Waiting,
        Self::Intent,
        Self::Unknown,
        Self::Done,
        Self::Undone,
    ];
}

impl StepEvent {
    /// Returns the word for the event.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Intended { .. } => "intended",
            Self::Lost => "lost",
            Self::Failed { .. } => "failed",
            Self::NotDone => "not_done",
            Self::Done { .. } => "done",
            Self::Undone { .. } => "undone",
        }
    }

    /// One value of every event, for the transition table.
    #[must_use]
    pub fn samples() -> [Self; 6] {
        let text = String::new;
        [
            Self::Intended {
                facts: Facts::new(),
            },
            Self::Lost,
            Self::Failed { reason: text() },
            Self::NotDone,
            Self::Done { how: text() },
            Self::Undone { how: text() },
        ]
    }
}

/// A step of a run, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepLedger {
    /// As the plan has it.
    #[serde(flatten)]
    pub planned: PlannedStep,
    /// Where it stands.
    pub state: StepState,
    /// What was found or chosen before it was begun; kept until it is done, however often it is begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Facts>,
    /// How it was done or undone, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub how: Option<String>,
    /// Why it could not be done the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was last begun, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began_ms: Option<i64>,
    /// When it was done or undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<i64>,
}

impl StepLedger {
    /// Returns a step of which nothing is done.
    #[must_use]
    pub fn planned(planned: &PlannedStep) -> Self {
        Self {
            planned: planned.clone(),
            state: StepState::Waiting,
            facts: None,
            how: None,
            reason: None,
            began_ms: None,
            ended_ms: None,
        }
    }

    /// Adds `event`, which happened at `at_ms`.
    ///
    /// # Errors
    ///
    /// [`IllegalTransition`] for an event that cannot happen now.
    pub fn apply(&mut self, at_ms: i64, event: &StepEvent) -> Result<(), IllegalTransition> {
        self.state = self.state.apply(event)?;
        match event {
            StepEvent::Intended { facts } => {
                self.facts = Some(facts.clone());
                self.began_ms = Some(at_ms);
                self.reason = None;
            }
            StepEvent::Failed { reason } => self.reason = Some(reason.clone()),
            StepEvent::Done { how } | StepEvent::Undone { how } => {
                self.how = Some(how.clone());
                self.reason = None;
                self.ended_ms = Some(at_ms);
            }
            StepEvent::Lost | StepEvent::NotDone => {}
        }
        Ok(())
    }

    /// Returns whether it is as the plan wants it.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == StepState::Done
    }

    /// Returns how long it took from the last time it was begun; `None` where it is not done, or was so already.
    #[must_use]
    pub fn took_ms(&self) -> Option<i64> {
        let took = self.ended_ms? - self.began_ms?;
        self.is_done().then_some(took.max(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step() -> StepLedger {
        StepLedger::planned(&PlannedStep {
            place: StepPlace::Prepare,
            title: "shell true".to_owned(),
            definition: "{}".to_owned(),
            id: None,
        })
    }

    #[test]
    fn what_was_chosen_before_a_step_outlives_its_failures() {
        let mut step = step();
        let facts = Facts::from([("name".to_owned(), "before-2026".to_owned())]);
        let intended = StepEvent::Intended {
            facts: facts.clone(),
        };
        step.apply(5, &intended).unwrap();
        let failed = StepEvent::Failed {
            reason: "no".to_owned(),
        };
        step.apply(6, &failed).unwrap();
        assert_eq!(step.state, StepState::Unknown);
        step.apply(7, &StepEvent::NotDone).unwrap();
        assert_eq!((step.facts.as_ref(), step.took_ms()), (Some(&facts), None));
        assert_eq!(step.reason.as_deref(), Some("no"));
        step.apply(8, &intended).unwrap();
        let how = String::new();
        step.apply(20, &StepEvent::Done { how }).unwrap();
        assert_eq!((step.took_ms(), step.reason), (Some(12), None));
    }

    #[test]
    fn a_step_that_was_begun_is_never_begun_again_unseen() {
        let intended = StepEvent::Intended {
            facts: Facts::new(),
        };
        let allowed: Vec<_> = StepState::ALL
            .into_iter()
            .filter(|state| state.apply(&intended).is_ok())
            .collect();
        assert_eq!(allowed, [StepState::Waiting]);
        assert!(StepState::Intent.apply(&StepEvent::NotDone).is_err());
    }

    #[test]
    fn the_words_of_the_journal_stay() {
        let labels: Vec<_> = StepState::ALL.into_iter().map(StepState::label).collect();
        assert_eq!(labels, ["waiting", "intent", "unknown", "done", "undone"]);
        let facts = Facts::from([("a".to_owned(), "b".to_owned())]);
        assert_eq!(
            serde_json::to_string(&StepEvent::Intended { facts }).unwrap(),
            r#"{"intended":{"facts":{"a":"b"}}}"#
        );
        assert_eq!(serde_json::to_string(&StepEvent::Lost).unwrap(), "\"lost\"");
        let json = serde_json::to_string(&step()).unwrap();
        assert_eq!(serde_json::from_str::<StepLedger>(&json).unwrap(), step());
    }
}
