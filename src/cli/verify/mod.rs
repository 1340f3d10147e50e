//! `verify`: compares targets with their source.

pub(super) mod show;

use std::{
    collections::BTreeMap,
    io::{BufRead, IsTerminal},
    sync::Arc,
};

use tokio::sync::watch;

use super::{
    Outcome, Stop,
    args::{Global, Verify as Command, VerifyLevel},
    connect,
    render::{Screen, complain},
    state_files::StateFile,
    supervision,
};
use crate::{
    engine::{self, Findings, Orphans, Repair, RepairTargets, Verify, VerifyEnd},
    failure::{Exit, Failure},
    ids::{ResourceName, RunId},
    journal::{Journal, OpenMode},
    machine::{Event, Ledger, Scope},
    plan::{Level, Plan},
    report::{
        Observer, PlainLines, ProgressBars,
        human::{count, counted},
    },
    scratch::{Scratch, ScratchError},
    target::Target,
};

/// Compares what the plan names; with `--repair`, rewrites what differs.
pub fn verify(command: &Command, global: &Global, screen: Screen) -> Outcome {
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
    let work = Work {
        typed: connect::typed(&plan.path, &scope, global),
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
    let found = outcome.map_err(Stop::Failed)?;
    if screen.json {
        super::render::say(&show::json(&work.plan, level, &found).to_string());
    }
    if let Some(refused) = found.refused {
        return Err(Stop::Failed(refused));
    }
    match show::failure(&found, &work.typed, command.repair) {
        None => Ok(Exit::Done),
        Some(failure) => Err(Stop::Failed(failure)),
    }
}

/// What a comparison found, and what became of it.
pub(super) struct Found {
    pub findings: Findings,
    /// Names that no row owned, and that were removed.
    pub pruned: u64,
    /// Why none was, if somebody had to say yes.
    pub refused: Option<Failure>,
}

/// A comparison as it was asked for.
#[expect(clippy::struct_excessive_bools, reason = "as they were typed")]
struct Work {
    plan: Arc<Plan>,
    /// What a person types after the command's name.
    typed: String,
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
        let path = Scratch::path_of(&self.state.path);
        // Only the very same command goes on: what one that only looked had found equal is not mended by another.
        let about = format!(
            "{} repair: {}, orphans: {}, prune: {}",
            asked.about, self.repair, self.orphans, self.prune
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
            let repaired = ended
                .as_ref()
                .map_or(0, |found| found.findings.total().repaired);
            rights.end(repaired, &self.state.plan).await?;
        }
        let found = ended?;
        drop(orphans);
        // What could not be compared goes on there; everything else is told and over.
        let resources = &found.findings.resources;
        if resources.iter().all(|one| one.trouble.is_none())
            && let Some(scratch) = Arc::into_inner(scratch)
        {
            scratch.remove();
        }
        Ok(found)
    }

    /// Compares, tells what was found, and removes what no row owns.
    async fn compare(
        &self,
        verify: Verify,
        orphans: &[Arc<Orphans>],
        rights: Option<&Rights>,
    ) -> Result<Found, Failure> {
        let findings = engine::verify(verify, self.observer())
            .await
            .map_err(|end| self.ended(end))?;
        if !self.screen.json {
            show::tell(&findings, self.level);
        }
        let mut found = Found {
            findings,
            pruned: 0,
            refused: None,
        };
        let extra = found.findings.extra();
        let Some(rights) = rights.filter(|_| self.prune && extra > 0) else {
            return Ok(found);
        };
        if !self.yes && !agreed(extra) {
            found.refused = Some(Failure::new(
                Exit::Usage,
                format!(
                    "{} that no row owns would be removed, and nobody said yes",
                    counted(extra, "name")
                ),
                "nothing was removed",
                format!(
                    "`rekindle verify {} --prune --yes` removes them",
                    self.typed
                ),
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
        if !self.screen.json {
            super::render::say(&format!(
                "{} of {} removed",
                count(found.pruned),
                counted(extra, "name")
            ));
        }
        Ok(found)
    }

    /// Returns the resources of the scope that go to target `to` and whose keys are known by how they begin.
    fn listed(&self, to: &str) -> Vec<ResourceName> {
        let resources = self.plan.resources.iter().filter(|one| one.to == to);
        resources
            .filter(|one| self.scope.only.is_empty() || self.scope.only.contains(&one.name))
            .filter(|one| !self.scope.skip.contains(&one.name) && self.plan.own_keys(one).is_ok())
            .map(|one| one.name.clone())
            .collect()
    }

    /// Returns the targets that the scope is about.
    fn targets(&self) -> Result<BTreeMap<String, Arc<dyn Target>>, Failure> {
        let names = self.plan.targets_of(
            self.plan
                .resources
                .iter()
                .filter(|one| self.scope.only.is_empty() || self.scope.only.contains(&one.name))
                .filter(|one| !self.scope.skip.contains(&one.name)),
        );
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
        if let Some(run) = ledger.unfinished(None) {
            // What it stored would lose its evidence to another writer.
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
                    "make room, or remove that file, then `rekindle verify {}`",
                    self.typed
                ),
            ),
        }
        .because(error)
    }

    fn ended(&self, end: VerifyEnd) -> Failure {
        match end {
            VerifyEnd::Scratch(error) => self.no_scratch(&error),
            VerifyEnd::Failed(failure) => failure,
            VerifyEnd::Edge(error) => Failure::new(
                Exit::Stopped,
                "not every name could be removed",
                "what was removed had no row; the history says how many",
                format!(
                    "mend the cause, then repeat `rekindle verify {}`",
                    self.typed
                ),
            )
            .because(&error),
            VerifyEnd::Interrupted => Failure::new(
                Exit::Interrupted,
                "interrupted",
                "what was compared is noted",
                format!(
                    "the same `rekindle verify {}` goes on from there",
                    self.typed
                ),
            ),
        }
    }
}

/// Asks on the terminal; nobody there is a no.
fn agreed(extra: u64) -> bool {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return false;
    }
    complain(&format!(
        "{} would be removed for good. Type `yes` to remove what has no row then:",
        counted(extra, "name")
    ));
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer).is_ok() && answer.trim() == "yes"
}

/// What is needed to write.
struct Rights {
    repair: Arc<Repair>,
    journal: Journal,
    /// The run in whose history it is told.
    latest: Option<RunId>,
}

impl Rights {
    /// Tells in the history that names were removed.
    async fn note_removed(
        &self,
        resource: &ResourceName,
        removed: u64,
        typed: &str,
    ) -> Result<(), VerifyEnd> {
        let Some(run) = self.latest.clone().filter(|_| removed > 0) else {
            return Ok(());
        };
        let text = format!(
            "verify removed {} of `{resource}` that no row owned",
            counted(removed, "name")
        );
        let noted = self.journal.record(vec![Event::Noted { run, text }]);
        noted
            .await
            .map(drop)
            .map_err(|error| VerifyEnd::Failed(engine::refused_by_journal(&error, typed)))
    }

    /// Gives everything back, and tells in the history what was written.
    async fn end(self, repaired: u64, typed: &str) -> Result<(), Failure> {
        for line in self.repair.end().await {
            complain(&line);
        }
        let failed = |error| engine::refused_by_journal(&error, typed);
        if let (Some(run), true) = (self.latest, repaired > 0) {
            let text = format!("verify rewrote {}", counted(repaired, "row"));
            let noted = self.journal.record(vec![Event::Noted { run, text }]);
            noted.await.map_err(failed)?;
        }
        self.journal.close().await.map_err(failed)
    }
}
