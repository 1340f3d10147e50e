//! `verify`: compares targets with their source.

pub(super) mod ending;
mod prompt;
mod rights;
pub(super) mod show;

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::watch;

use self::{prompt::agreed, rights::Rights};
use super::{
    Outcome, Stop,
    again::same_again,
    args::{Global, Verify as Command, VerifyLevel},
    ask::Answer,
    connect,
    render::{Screen, complain},
    state_files::StateFile,
    supervision,
};
use crate::{
    engine::{self, Findings, Orphans, Repair, RepairTargets, Verify, VerifyEnd},
    error::ErrorKind,
    failure::{Exit, Failure},
    ids::{ResourceName, RunId},
    journal::{Journal, OpenMode},
    machine::{Ledger, ResourceState, RunLedger, Scope},
    plan::{Level, Plan, Resource, TargetConfig},
    report::{
        Observer, PlainLines, ProgressBars,
        human::{count, counted},
    },
    scratch::{Scratch, ScratchError},
    source::{Lag, Source},
    target::Target,
};

/// Under which the scratch file has how many rewritten keys the history knows of.
const TOLD: &str = "told";

/// Compares what the plan names; with `--repair`, rewrites what differs.
pub fn verify(command: &Command, global: &Global, screen: Screen) -> Outcome {
    if command.dry_run {
        let plan = command.plan.display();
        return Err(Stop::Failed(Failure::new(
            Exit::Usage,
            "`verify` has no `--dry-run`",
            "nothing was written",
            format!(
                "`rekindle verify {plan}` without `--repair` and `--prune` writes nothing; with `--orphans` it also names what \
                 `--prune` would remove"
            ),
        )));
    }
    let plan = connect::load(&command.plan, screen)?.plan;
    let scope = Scope {
        only: connect::chosen(&plan, "--only", &command.only)?,
        skip: connect::chosen(&plan, "--skip", &command.skip)?,
        ..Scope::default()
    }
    .sorted();
    let level = match command.level {
        VerifyLevel::Presence => Level::Presence,
        VerifyLevel::Sample => Level::Sample,
        VerifyLevel::Full => Level::Full,
    };
    let typed = connect::typed(&plan.path, &scope, global);
    let work = Work {
        again: format!("verify {typed}{}", flags(command)),
        typed,
        state: StateFile {
            path: connect::state_path(&plan, global),
            plan: connect::typed(&plan.path, &Scope::default(), global),
        },
        plan: Arc::new(plan),
        scope,
        level,
        repair: command.repair,
        orphans: command.orphans || command.prune,
        prune: command.prune,
        yes: command.yes,
        anew: command.new,
        screen,
    };
    let runtime = connect::runtime()?;
    let outcome = runtime.block_on(work.carry_out());
    // Connections that hang must not hold up the end.
    runtime.shutdown_background();
    let found = outcome.map_err(|failure| {
        let typed = [work.typed.as_str(), work.state.plan.as_str()];
        let mut failure = same_again(failure, typed, &work.again);
        if failure
            .what
            .ends_with(" was refused before the first write")
        {
            failure.what = format!("plan `{}` could not be compared", work.plan.name);
        }
        Stop::Failed(failure)
    })?;
    if screen.json {
        super::render::say(&show::json(&work.plan, level, &found).to_string());
    }
    if let Some(refused) = found.refused {
        return Err(Stop::Failed(refused));
    }
    match ending::failure(&found, &work.typed, command.repair) {
        None => Ok(Exit::Done),
        Some(failure) => Err(Stop::Failed(failure)),
    }
}

/// Returns the flags of the command that say how it compares, as they were typed.
fn flags(command: &Command) -> String {
    let level = match command.level {
        VerifyLevel::Presence => " --level presence",
        VerifyLevel::Sample => " --level sample",
        VerifyLevel::Full => "",
    };
    let switches = [
        (command.repair, " --repair"),
        (command.orphans, " --orphans"),
        (command.prune, " --prune"),
        (command.yes, " --yes"),
    ];
    let on = switches.into_iter().filter(|(on, _)| *on);
    level.to_owned() + &on.map(|(_, flag)| flag).collect::<String>()
}

/// What a comparison found, and what became of it.
pub(super) struct Found {
    pub findings: Findings,
    /// Names that no row owned, and that were removed.
    pub pruned: u64,
    /// Names that were to be removed, stay, and have no row that is known; `None` where none was to be removed.
    pub left: Option<u64>,
    /// Why none was, if somebody had to say yes.
    pub refused: Option<Failure>,
}

impl Found {
    /// Returns how many names without a row the targets hold still.
    pub(super) fn extra_left(&self) -> u64 {
        self.left.unwrap_or_else(|| self.findings.extra())
    }
}

/// A comparison as it was asked for.
#[expect(clippy::struct_excessive_bools, reason = "as they were typed")]
struct Work {
    plan: Arc<Plan>,
    /// What a person types after the command's name.
    typed: String,
    /// What a person types to do the same again, after `rekindle`.
    again: String,
    state: StateFile,
    scope: Scope,
    level: Level,
    repair: bool,
    orphans: bool,
    prune: bool,
    yes: bool,
    anew: bool,
    screen: Screen,
}

impl Work {
    async fn carry_out(&self) -> Result<Found, Failure> {
        let mut signals = supervision::listen()?;
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(async move {
            signals.recv().await;
            // Nobody left to tell: it is over.
            stop.send(true).ok();
            signals.recv().await;
        });
        let targets = self.targets()?;
        let source = connect::healed_source(&self.plan).await?;
        let asked = engine::ask(
            &self.plan,
            &self.scope,
            self.level,
            &*source,
            &targets,
            &self.typed,
        )
        .await?;
        if self.prune {
            self.may_prune(&*source).await?;
        }
        let path = Scratch::path_of(&self.state.path);
        // Only the very same command goes on: what one that only looked had found equal is not mended by another. And not
        // after a run: what that wrote was not looked at.
        let about = format!(
            "{} repair: {}, orphans: {}, prune: {}, after: {}",
            asked.about,
            self.repair,
            self.orphans,
            self.prune,
            self.last_attempt()?
        );
        let (scratch, goes_on) =
            Scratch::open(&path, &about, self.anew).map_err(|error| self.no_scratch(&error))?;
        if goes_on {
            complain("goes on with the comparison that was interrupted; `--new` begins anew");
        }
        let scratch = Arc::new(scratch);
        let rights = if self.repair || self.prune {
            Some(self.rights(&scratch, &targets).await?)
        } else {
            None
        };
        let orphans: Vec<_> = targets
            .iter()
            .filter(|_| self.orphans)
            .map(|(name, target)| {
                Arc::new(Orphans {
                    plan: Arc::clone(&self.plan),
                    name: name.clone(),
                    target: Arc::clone(target),
                    source: Arc::clone(&source),
                    scratch: Arc::clone(&scratch),
                    wanted: self.listed(name),
                    stop: stopped.clone(),
                })
            })
            .collect();
        let verify = Verify {
            plan: Arc::clone(&self.plan),
            scope: self.scope.clone(),
            level: self.level,
            since: BTreeMap::new(),
            asked,
            source,
            targets,
            scratch: Arc::clone(&scratch),
            repair: rights
                .as_ref()
                .filter(|_| self.repair)
                .map(|rights| Arc::clone(&rights.repair)),
            orphans: orphans.clone(),
            stop: stopped,
        };
        let ended = self.compare(verify, &orphans, rights.as_ref()).await;
        if let Some(rights) = rights {
            // Whatever came of it: also what was rewritten before an end by force is told, and once.
            let repaired = repaired(&scratch, self.chosen());
            let untold = repaired.as_ref().map_or(0, |one| one.untold);
            rights.end(untold, &self.state.plan).await?;
            let all = repaired.and_then(|one| scratch.set_note(TOLD, &one.all.to_string()));
            all.map_err(|error| self.no_scratch(&error))?;
        }
        let found = ended?;
        drop(orphans);
        // What could not be compared goes on there; everything else is told and over.
        let resources = &found.findings.resources;
        let may_go_on = resources
            .iter()
            .any(|one| one.trouble.is_some() && !self.is_never_compared(&one.name));
        if !may_go_on && let Some(scratch) = Arc::into_inner(scratch) {
            scratch.remove();
        }
        Ok(found)
    }

    /// Returns what tells the last attempt of the state file's last run from any other; nothing where there was none.
    fn last_attempt(&self) -> Result<String, Failure> {
        let Some(view) = self.state.view()? else {
            return Ok(String::new());
        };
        let ledger = view
            .runs()
            .map_err(|error| engine::refused_by_journal(&error, &self.state.plan))?;
        let last = ledger.runs.last();
        Ok(last.map_or_else(String::new, |run| {
            format!("{} {}", run.id, run.attempts.len())
        }))
    }

    /// Returns whether `resource` goes where nothing is read back, however often one asks.
    fn is_never_compared(&self, resource: &ResourceName) -> bool {
        let mut resources = self.plan.resources.iter();
        resources.any(|one| {
            one.name == *resource
                && matches!(self.plan.targets.get(&one.to), Some(TargetConfig::File(_)))
        })
    }

    /// Returns the resources of the scope.
    fn chosen(&self) -> impl Iterator<Item = &Resource> {
        let resources = self.plan.resources.iter();
        resources
            .filter(|one| self.scope.only.is_empty() || self.scope.only.contains(&one.name))
            .filter(|one| !self.scope.skip.contains(&one.name))
    }

    /// Makes sure that what has no row in the source has none.
    async fn may_prune(&self, source: &dyn Source) -> Result<(), Failure> {
        // Who may not ask is taken for somebody who reads a primary: most users may not.
        if let Ok(Lag::Behind(_) | Lag::Stopped) = source.replica_lag().await {
            return Err(Failure::new(
                Exit::Refused,
                "the source is a replica, and what has no row there may have one",
                "nothing was written",
                "prune with a plan that reads the primary; `--orphans` without `--prune` only looks",
            )
            .why("a row that its primary has, and that is published already, would lose its key"));
        }
        Ok(())
    }

    /// Compares, tells what was found, and removes what no row owns.
    async fn compare(
        &self,
        verify: Verify,
        orphans: &[Arc<Orphans>],
        rights: Option<&Rights>,
    ) -> Result<Found, Failure> {
        let mut stop = verify.stop.clone();
        let findings = engine::verify(verify, self.observer())
            .await
            .map_err(|end| self.ended(end))?;
        if !self.screen.json {
            show::tell(&findings, self.level);
        }
        let mut found = Found {
            findings,
            pruned: 0,
            left: None,
            refused: None,
        };
        let extra = found.findings.extra();
        let Some(rights) = rights.filter(|_| self.prune && extra > 0) else {
            return Ok(found);
        };
        let answer = if self.yes {
            Answer::Yes
        } else {
            let answer = agreed(extra, &mut stop).await;
            answer.ok_or_else(|| self.ended(VerifyEnd::Interrupted))?
        };
        if answer != Answer::Yes {
            found.refused = Some(Failure::new(
                Exit::Usage,
                format!(
                    "{} that no row owns would be removed, and {}",
                    counted(extra, "name"),
                    answer.refusal()
                ),
                "nothing was removed",
                answer.next(&format!(
                    "`rekindle verify {} --prune --yes` removes them",
                    self.typed
                )),
            ));
            return Ok(found);
        }
        complain(&format!(
            "removing {} that no row owns",
            counted(extra, "name")
        ));
        for orphans in orphans {
            let removed = orphans.remove(&rights.repair, async |resource, count| {
                found.pruned += count;
                rights.note_removed(resource, count, &self.state.plan).await
            });
            removed.await.map_err(|end| self.ended(end))?;
        }
        let mut left = 0;
        for orphans in orphans {
            left += orphans.left().map_err(|error| self.no_scratch(&error))?;
        }
        found.left = Some(left);
        if !self.screen.json {
            let mut said = format!(
                "{} of {} removed",
                count(found.pruned),
                counted(extra, "name")
            );
            let stay = extra.saturating_sub(found.pruned + left);
            if stay > 0 {
                said += &format!(
                    "; {} had a row by then, or {} gone",
                    count(stay),
                    were(stay)
                );
            }
            if left > 0 {
                said += &format!(
                    "; {} {} no row and {}: written again and again, or with a key that the source cannot look for",
                    count(left),
                    have(left),
                    if left == 1 { "stays" } else { "stay" }
                );
            }
            super::wrap::say_wrapped(&said);
        }
        Ok(found)
    }

    /// Returns the resources of the scope that go to target `to` and whose keys are known by how they begin.
    fn listed(&self, to: &str) -> Vec<ResourceName> {
        let resources = self.chosen().filter(|one| one.to == to);
        resources
            .filter(|one| self.plan.own_keys(one).is_ok())
            .map(|one| one.name.clone())
            .collect()
    }

    /// Returns the targets that the scope is about.
    fn targets(&self) -> Result<BTreeMap<String, Arc<dyn Target>>, Failure> {
        let names = self.plan.targets_of(self.chosen());
        let mut targets = connect::targets(&self.plan)?;
        targets.retain(|name, _| names.contains(name));
        if targets.is_empty() {
            return Err(Failure::new(
                Exit::Usage,
                "`--only` and `--skip` leave nothing to compare",
                "nothing was written",
                "leave out `--skip`, or name other resources",
            ));
        }
        Ok(targets)
    }

    /// Takes what is needed to write: the state file, so that no run begins meanwhile, and the leases.
    async fn rights(
        &self,
        scratch: &Scratch,
        targets: &BTreeMap<String, Arc<dyn Target>>,
    ) -> Result<Rights, Failure> {
        let typed = &self.state.plan;
        let (journal, ledger, _) = Journal::open(&self.state.path, OpenMode::Normal)
            .map_err(|error| engine::refused_by_journal(&error, typed))?;
        match self.leases(&journal, &ledger, scratch, targets).await {
            Ok(repair) => Ok(Rights {
                repair: Arc::new(repair),
                latest: ledger.runs.last().map(|run| run.id.clone()),
                journal,
            }),
            Err(failure) => {
                journal
                    .close()
                    .await
                    .map_err(|error| engine::refused_by_journal(&error, typed))?;
                Err(failure)
            }
        }
    }

    async fn leases(
        &self,
        journal: &Journal,
        ledger: &Ledger,
        scratch: &Scratch,
        targets: &BTreeMap<String, Arc<dyn Target>>,
    ) -> Result<Repair, Failure> {
        // What it stored would lose its evidence to another writer. One that waits before its steps with every row stored is the
        // exception: what it waits for is this.
        let is_restored = |run: &RunLedger| {
            let mut states = run.resources.iter().map(|one| &one.state);
            states.all(ResourceState::is_restored)
        };
        if let Some(run) = ledger.unfinished(None).filter(|run| !is_restored(run)) {
            return Err(Failure::new(
                Exit::Refused,
                format!("run {} of this plan is unfinished", run.id),
                "nothing was written; the run's progress is kept",
                format!(
                    "`rekindle resume {}` finishes it; then repeat this command",
                    self.state.plan
                ),
            )
            .why(
                "rewriting rows now would take the evidence from what it stored, and it would start over",
            ));
        }
        let run = match scratch
            .note("run")
            .map_err(|error| self.no_scratch(&error))?
        {
            Some(text) => RunId::from_text(&text),
            None => std::iter::repeat_with(RunId::random)
                .find(|id| ledger.run(id).is_none())
                .unwrap_or_else(RunId::random),
        };
        scratch
            .set_note("run", run.as_str())
            .map_err(|error| self.no_scratch(&error))?;
        Repair::begin(RepairTargets {
            plan: &self.plan,
            typed: &self.typed,
            state: journal.state_id(),
            state_path: &self.state.path,
            run,
            targets: targets.clone(),
        })
        .await
    }

    fn observer(&self) -> Box<dyn Observer> {
        if self.screen.bars {
            Box::new(ProgressBars::new())
        } else {
            Box::new(PlainLines::new(std::io::stderr()))
        }
    }

    fn no_scratch(&self, error: &ScratchError) -> Failure {
        match error {
            ScratchError::InUse(_) => Failure::new(
                Exit::InUse,
                "another comparison of this plan is under way",
                "nothing was written",
                "wait for it, or end it with Ctrl-C",
            ),
            ScratchError::File { .. } => Failure::new(
                Exit::Stopped,
                "the comparison cannot be noted",
                "the state file and the targets are as they were",
                format!(
                    "make room, or remove that file, then `rekindle {}`",
                    self.again
                ),
            ),
        }
        .because(error)
    }

    fn ended(&self, end: VerifyEnd) -> Failure {
        match end {
            VerifyEnd::Scratch(error) => self.no_scratch(&error),
            VerifyEnd::Failed(failure) => failure,
            VerifyEnd::Edge(error) if error.kind == ErrorKind::LeaseLost => Failure::new(
                Exit::InUse,
                "another run writes to a target",
                "`rekindle show` tells what was rewritten or removed before; nothing was written over the other run's",
                format!("when the other run has ended, repeat `rekindle {}`", self.again),
            )
            .because(&error),
            VerifyEnd::Edge(error) => Failure::new(
                Exit::Stopped,
                "not every name could be removed",
                "what was removed had no row; `rekindle show` says how many",
                format!(
                    "mend the cause, then repeat `rekindle {}`",
                    self.again
                ),
            )
            .because(&error),
            VerifyEnd::Interrupted => Failure::new(
                Exit::Interrupted,
                "interrupted",
                "what was compared is noted",
                format!(
                    "`rekindle {}` goes on from there",
                    self.again
                ),
            ),
        }
    }
}

/// Keys that were rewritten.
struct Repaired {
    all: u64,
    /// Those that the history does not know of.
    untold: u64,
}

/// Returns how many keys of `resources` were rewritten so far.
fn repaired<'a>(
    scratch: &Scratch,
    resources: impl Iterator<Item = &'a Resource>,
) -> Result<Repaired, ScratchError> {
    let mut all = 0;
    for resource in resources {
        let standing = scratch.resource(&resource.name)?;
        all += standing.map_or(0, |one| one.counts.repaired);
    }
    let told = scratch.note(TOLD)?.and_then(|text| text.parse().ok());
    let untold = all.saturating_sub(told.unwrap_or(0));
    Ok(Repaired { all, untold })
}

const fn were(names: u64) -> &'static str {
    if names == 1 { "was" } else { "were" }
}

const fn have(names: u64) -> &'static str {
    if names == 1 { "has" } else { "have" }
}
