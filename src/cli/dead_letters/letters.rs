//! Which dead letters a command is about.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    cli::{
        Stop,
        args::{DeadLettersOf, Global},
        render::Screen,
        state_files::{self, StateFile},
    },
    engine::refused_by_journal,
    error::ErrorKind,
    failure::{Exit, Failure},
    ids::{ResourceName, RunId},
    journal::{DeadLetterFilter, DeadLetterRow, JournalError, View},
    machine::{Ledger, ResourceLedger, ResourceState},
    nearest::nearest,
    report::human::printable,
};

/// Dead letters read from the journal at a time.
const PAGE: u32 = 1000;

/// What may be wrong with a single row.
const KINDS: [ErrorKind; 3] = [
    ErrorKind::RowBroken,
    ErrorKind::RowTooLarge,
    ErrorKind::Refused,
];

/// The dead letters that a command is about, read page by page.
pub(super) struct Letters {
    view: View,
    pub(super) file: StateFile,
    /// What the journal has of the plan's runs.
    pub(super) ledger: Ledger,
    standing: Standing,
    /// Of which resources; of all where there are none.
    resources: Vec<ResourceName>,
    kind: Option<String>,
    key_prefix: Option<String>,
}

impl Letters {
    /// Returns the letters that `of` names; `None` where there is no run.
    pub(super) fn of(
        of: &DeadLettersOf,
        global: &Global,
        screen: Screen,
    ) -> Result<Option<Self>, Stop> {
        if let Some(kind) = &of.kind
            && KINDS.iter().all(|known| known.label() != kind)
        {
            return Err(Stop::Failed(no_such_kind(kind, of)));
        }
        for file in state_files::find(Some(&of.plan), global, screen)? {
            let Some(view) = file.view()? else { continue };
            let ledger = view
                .runs()
                .map_err(|error| refused_by_journal(&error, &file.plan))?;
            let standing = match &of.run {
                Some(id) => {
                    let typed = id;
                    let id = RunId::from_text(&typed.to_uppercase());
                    if ledger.run(&id).is_none() {
                        return Err(Stop::Failed(Failure::new(
                            Exit::Usage,
                            format!("there is no run {}", printable(typed)),
                            "nothing was written",
                            format!("`rekindle history {}` lists the runs", file.plan),
                        )));
                    }
                    Standing::only(id)
                }
                None => Standing::of(&ledger),
            };
            let resources = of.resource.as_deref().map(|typed| meant(&ledger, typed));
            if resources.as_ref().is_some_and(Vec::is_empty) && !ledger.runs.is_empty() {
                return Err(Stop::Failed(no_such_resource(of, &ledger)));
            }
            return Ok(Some(Self {
                view,
                file,
                ledger,
                standing,
                resources: resources.unwrap_or_default(),
                kind: of.kind.clone(),
                key_prefix: of.key_prefix.clone(),
            }));
        }
        Ok(None)
    }

    /// Returns what to type once their rows are mended.
    pub(super) fn next(&self) -> String {
        let plan = &self.file.plan;
        if self.ledger.unfinished(None).is_some() {
            // Before that they cannot be retried.
            format!(
                "`rekindle status {plan}` says what finishes the run that waits; then mended rows can be retried"
            )
        } else {
            format!(
                "once they are mended, `rekindle dead-letters retry {plan}` restores them; `rekindle dead-letters drop {plan}` \
                 lets them go"
            )
        }
    }

    /// Hands each letter to `take`, oldest first, until it returns `false`.
    pub(super) fn each(&self, take: impl FnMut(&DeadLetterRow) -> bool) -> Result<(), Failure> {
        self.each_that(|row| self.is_wanted(row), take)
    }

    /// Hands each letter of the same runs and resource that `wanted` picks to `take`, oldest first, until it returns `false`.
    pub(super) fn each_that(
        &self,
        wanted: impl Fn(&DeadLetterRow) -> bool,
        mut take: impl FnMut(&DeadLetterRow) -> bool,
    ) -> Result<(), Failure> {
        let (only, others) = match &self.resources[..] {
            [one] => (Some(one), &[][..]),
            several => (None, several),
        };
        let is_of = |row: &DeadLetterRow| others.is_empty() || others.contains(&row.resource);
        self.standing
            .each(&self.view, only, |row| {
                !(is_of(row) && wanted(row)) || take(row)
            })
            .map_err(|error| refused_by_journal(&error, &self.file.plan))
    }

    fn is_wanted(&self, row: &DeadLetterRow) -> bool {
        let key = row.letter.key.as_deref();
        self.kind
            .as_ref()
            .is_none_or(|kind| row.letter.kind == *kind)
            && self
                .key_prefix
                .as_ref()
                .is_none_or(|prefix| key.is_some_and(|key| key.starts_with(prefix)))
    }
}

/// The runs whose dead letters still count.
pub(in crate::cli) struct Standing {
    runs: Vec<RunId>,
    /// Of each resource, the place of the first run among them that counts.
    since: BTreeMap<ResourceName, usize>,
}

impl Standing {
    /// Returns what counts: of each resource, the latest run that read all of it, and those since that read some of its rows.
    /// Earlier ones read other rows.
    pub(in crate::cli) fn of(ledger: &Ledger) -> Self {
        let mut since: BTreeMap<ResourceName, usize> = BTreeMap::new();
        let mut known: BTreeSet<&ResourceName> = BTreeSet::new();
        for (at, run) in ledger.runs.iter().enumerate() {
            let whole = !run.scope.is_partial();
            let began = |one: &&ResourceLedger| {
                !matches!(one.state, ResourceState::Pending | ResourceState::Skipped)
            };
            for resource in run.resources.iter().filter(|one| whole && began(one)) {
                since.insert(resource.name.clone(), at);
            }
            known.extend(run.resources.iter().map(|one| &one.name));
            // The plan has them no more.
            let gone = known.iter().filter(|name| run.resource(name).is_none());
            for name in gone.filter(|_| run.scope.is_whole()) {
                since.insert((*name).clone(), at);
            }
        }
        let runs = ledger.runs.iter().map(|run| run.id.clone()).collect();
        Self { runs, since }
    }

    /// Returns how many rows are not restored, by the latest run that tried.
    pub(in crate::cli) fn left(&self, view: &View) -> Result<BTreeMap<RunId, u64>, JournalError> {
        // Of runs of everything and of runs of a part of it: each read its own rows.
        let mut rows: BTreeMap<(ResourceName, String), RunId> = BTreeMap::new();
        self.each(view, None, |row| {
            let place = (row.resource.clone(), row.letter.cursor.exact());
            rows.insert(place, row.run.clone());
            true
        })?;
        let mut left: BTreeMap<RunId, u64> = BTreeMap::new();
        for run in rows.into_values() {
            *left.entry(run).or_default() += 1;
        }
        Ok(left)
    }

    fn only(run: RunId) -> Self {
        Self {
            runs: vec![run],
            since: BTreeMap::new(),
        }
    }

    fn counts(&self, at: usize, resource: &ResourceName) -> bool {
        self.since.get(resource).is_none_or(|first| at >= *first)
    }

    /// Hands each letter that counts to `take`, oldest first, until it returns `false`.
    pub(in crate::cli) fn each(
        &self,
        view: &View,
        resource: Option<&ResourceName>,
        mut take: impl FnMut(&DeadLetterRow) -> bool,
    ) -> Result<(), JournalError> {
        for (at, run) in self.runs.iter().enumerate() {
            let filter = DeadLetterFilter {
                run: Some(run.clone()),
                resource: resource.cloned(),
            };
            let mut after = 0;
            loop {
                let page = view.dead_letters(&filter, after, PAGE)?;
                let Some(last) = page.last() else { break };
                after = last.id;
                let mut picked = page.iter().filter(|row| self.counts(at, &row.resource));
                if !picked.all(&mut take) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Returns the resources that somebody means who types `name`: the one called so, or both halves of a pair, as `--only` takes it.
fn meant(ledger: &Ledger, name: &str) -> Vec<ResourceName> {
    let runs = ledger.runs.iter();
    let known: BTreeSet<&ResourceName> = runs
        .flat_map(|run| run.resources.iter().map(|resource| &resource.name))
        .collect();
    let exact = ResourceName::from(name);
    if known.contains(&exact) {
        return vec![exact];
    }
    let is_half = |one: &&&ResourceName| {
        let half = one.as_str().strip_prefix(name);
        half.is_some_and(|half| matches!(half, "/storage" | "/search"))
    };
    known
        .iter()
        .filter(is_half)
        .map(|one| (*one).clone())
        .collect()
}

fn no_such_kind(typed: &str, of: &DeadLettersOf) -> Failure {
    let kinds = KINDS.map(ErrorKind::label);
    let hint = match nearest(typed, kinds, 1).first() {
        Some(kind) => format!("did you mean `{kind}`?"),
        None => "no kind has a name like it".to_owned(),
    };
    Failure::new(
        Exit::Usage,
        format!("`--kind {}` names no kind of dead letter", printable(typed)),
        "nothing was written",
        format!(
            "use one of: {}; `rekindle dead-letters list {}` counts those there are",
            kinds.join(", "),
            of.plan.display()
        ),
    )
    .why(hint)
}

fn no_such_resource(of: &DeadLettersOf, ledger: &Ledger) -> Failure {
    let names: BTreeSet<&str> = ledger
        .runs
        .iter()
        .flat_map(|run| run.resources.iter().map(|resource| resource.name.as_str()))
        .collect();
    Failure::new(
        Exit::Usage,
        format!(
            "no run of the plan has a resource `{}`",
            printable(of.resource.as_deref().unwrap_or_default())
        ),
        "nothing was written",
        format!(
            "use one of: {}",
            names.into_iter().collect::<Vec<_>>().join(", ")
        ),
    )
}
