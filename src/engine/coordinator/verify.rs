//! Compares the targets with the source once every row is stored, where the plan asks for it.
//!
//! ```text
//! catch_up   rows of these resources are compared and rewritten: what changed while the run was at work. Where a column tells
//!            which rows those are, only they
//! verify     everything is compared, nothing is written
//! ```

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use tokio::sync::{mpsc, watch};

use super::{Coordinator, Finished, Job};
use crate::{
    engine::{
        book::BookError,
        catch_up::{self, Reach, Reached},
        copy::Report,
        preflight::{is_skipped, row_query},
        verify::{Findings, Repair, ResourceFindings, Verify, VerifyEnd, ask, verify},
    },
    error::{ErrorKind, chain},
    failure::quoted,
    ids::ResourceName,
    journal::now_ms,
    machine::{Scope, Watermark},
    plan::{Level, Plan, Resource},
    report::{self, human},
    scratch::Scratch,
    source::{Since, Source},
    target::Target,
};

/// What the comparison before the end of a run found.
#[derive(Debug, Default)]
pub struct Verified {
    /// Of the resources that were caught up with.
    pub caught_up: Option<Findings>,
    /// What is reached with each of them.
    pub reached: BTreeMap<ResourceName, Reached>,
    /// Of all, and how closely it was looked.
    pub found: Option<(Level, Findings)>,
    /// Why it came to no end.
    pub trouble: Option<String>,
}

impl Verified {
    /// Returns why nobody should act on the targets yet; `None` where they are as the source says.
    #[must_use]
    pub fn objection(&self) -> Option<String> {
        if let Some(why) = &self.trouble {
            return Some(format!("they could not be compared: {why}"));
        }
        let total = self.found.as_ref()?.1.total();
        (total.missing + total.different > 0).then(|| {
            format!(
                "{} missing, {} different",
                human::counted(total.missing, "row"),
                total.different
            )
        })
    }
}

/// What a comparison needs.
pub(super) struct Work {
    plan: Arc<Plan>,
    pub(super) scope: Scope,
    /// What is caught up with, and since when rows count as changed.
    catch_up: Vec<(Resource, Option<Watermark>)>,
    source: Arc<dyn Source>,
    targets: BTreeMap<String, Arc<dyn Target>>,
    repair: Arc<Repair>,
    scratch: PathBuf,
    pub(super) reports: mpsc::Sender<Report>,
    /// True while a person has the run stand still.
    pause: watch::Receiver<bool>,
}

/// Hands what is told to the coordinator. What finds no room is only progress.
struct Forward(mpsc::Sender<Report>);

impl report::Observer for Forward {
    fn observe(&mut self, event: &report::Event) {
        self.0.try_send(Report::Told(event.clone())).ok();
    }
}

impl Coordinator {
    /// Starts the comparison that the plan asks for; returns whether there is one, and it is not done.
    pub(super) fn begin_verify(&mut self) -> Result<bool, BookError> {
        let scope = self.book.run()?.scope.clone();
        let resources = self.plan.resources.iter();
        let catch_up: Vec<_> = resources
            .filter(|one| !is_skipped(&scope, &one.name))
            .filter_map(|one| {
                if self.is_behind_a_publisher(one) {
                    // A column may not tell what a publisher wrote.
                    let whole = Resource {
                        catch_up: None,
                        ..one.clone()
                    };
                    return Some((whole, None));
                }
                one.catch_up.as_ref()?;
                let ledger = self.book.resource(&one.name);
                Some((one.clone(), ledger.and_then(|one| one.watermark.clone())))
            })
            .collect();
        let asked = self.plan.defaults.verify.is_some() || !catch_up.is_empty();
        if self.verified.is_some() {
            return Ok(false);
        }
        self.tell_siblings(&scope);
        if !asked {
            return Ok(false);
        }
        let work = self.comparison(scope, catch_up);
        let task = self
            .tasks
            .spawn(async move { Finished::Verified(Box::new(work.carry_out().await)) });
        // Dropped at once when a signal comes: what was compared is noted.
        self.probes.insert(task.id(), task.clone());
        self.jobs.insert(task.id(), Job::Verify);
        Ok(true)
    }

    /// Returns what a comparison of the rows in `scope` needs.
    pub(super) fn comparison(
        &self,
        scope: Scope,
        catch_up: Vec<(Resource, Option<Watermark>)>,
    ) -> Work {
        let leases = self.targets.iter().map(|(name, leased)| {
            let held = (Arc::clone(&leased.target), Arc::clone(&leased.lease));
            (name.clone(), held)
        });
        let retry = self.plan.defaults.retry.clone();
        let repair = Repair::of_run(self.book.run_id().clone(), retry, leases.collect());
        let targets = self.targets.iter();
        Work {
            plan: Arc::clone(&self.plan),
            scope,
            catch_up,
            source: Arc::clone(&self.source),
            targets: targets
                .map(|(name, leased)| (name.clone(), Arc::clone(&leased.target)))
                .collect(),
            repair: Arc::new(repair),
            scratch: Scratch::path_of(&self.state_path),
            reports: self.reports.0.clone(),
            pause: self.pause.subscribe(),
        }
    }

    /// Takes note of what was found.
    pub(super) fn verify_ended(&mut self, outcome: Result<Verified, VerifyEnd>) {
        match outcome {
            Ok(verified) => {
                for text in self.caught_up(&verified) {
                    self.emit(&report::Event::Notice { text });
                }
                self.verified = Some(verified);
            }
            Err(VerifyEnd::Interrupted) => {}
            Err(VerifyEnd::Edge(error)) if error.kind == ErrorKind::LeaseLost => {
                self.lost_lease(&error);
            }
            Err(VerifyEnd::Scratch(error)) => self.not_compared(chain(&error).join(": ")),
            Err(VerifyEnd::Edge(error)) => self.not_compared(chain(&error).join(": ")),
            Err(VerifyEnd::Failed(failure)) => {
                let mut why = vec![failure.what];
                why.extend(failure.why);
                self.not_compared(why.join(": "));
            }
        }
    }

    /// Returns what is said of each resource that was to be caught up with.
    fn caught_up(&self, verified: &Verified) -> Vec<String> {
        let found = verified.caught_up.iter().flat_map(|one| &one.resources);
        let said = |one: &ResourceFindings| {
            let name = &one.name;
            if let Some(why) = &one.trouble {
                return format!("{name}: not caught up with: {why}");
            }
            let reached = verified.reached.get(name);
            let level = reached.map_or("", |one| one.words.as_str());
            let rewritten = human::counted(one.counts.repaired, "key");
            let open = one.left() + one.counts.dead_letters;
            let but = if open > 0 {
                let open = human::counted(open, "row");
                format!(", but for {open} that cannot be written")
            } else {
                String::new()
            };
            let plan = quoted(&self.plan.path);
            format!(
                "{name}: caught up: {rewritten} rewritten; {level}{but}; keys of deleted rows are found by \
                 `rekindle verify {plan} --orphans`"
            )
        };
        found.map(said).collect()
    }

    /// Takes note that nothing is known about the targets beyond their evidence. The run is none the worse for it.
    pub(super) fn not_compared(&mut self, why: String) {
        self.verified = Some(Verified {
            trouble: Some(why),
            ..Verified::default()
        });
    }

    /// Returns what the history says about the comparison, line by line.
    pub(super) fn verdict(&self) -> Vec<String> {
        let Some(verified) = &self.verified else {
            return Vec::new();
        };
        let of = |what: &str, found: &Findings| {
            let total = found.total();
            format!(
                "{what}: {} compared; keys: {} missing, {} different, {} rewritten",
                human::counted(total.compared, "row"),
                total.missing,
                total.different,
                total.repaired
            )
        };
        let caught_up = verified.caught_up.iter();
        let caught_up = caught_up.map(|found| of("catch-up", found));
        let found = verified.found.iter();
        let found = found.map(|(_, found)| of("verify", found));
        let trouble = verified.trouble.iter();
        let trouble = trouble.map(|why| format!("verify: {why}"));
        let parts: Vec<_> = caught_up.chain(found).chain(trouble).collect();
        let mut lines = self.caught_up(verified);
        lines.push(parts.join("; "));
        lines
    }
}

impl Work {
    async fn carry_out(self) -> Result<Verified, VerifyEnd> {
        let mut verified = Verified::default();
        if !self.catch_up.is_empty() {
            let names = self.catch_up.iter().map(|(one, _)| one.name.clone());
            let scope = Scope {
                only: names.collect(),
                skip: Vec::new(),
                ..self.scope.clone()
            };
            let retry = &self.plan.defaults.retry;
            let query = |resource: &Resource| row_query(resource, &self.scope);
            // Before anything is compared: what is committed by now is what is reached.
            let at_ms = now_ms();
            let reaches = catch_up::reaches(&self.catch_up, query, &*self.source, retry).await?;
            let since = reaches.iter().filter_map(|(name, reach)| match reach {
                Reach::Changed(since) => Some((name.clone(), since.clone())),
                Reach::All(_) => None,
            });
            let repair = Some(Arc::clone(&self.repair));
            let found = self.compare(&scope, since.collect(), Level::Full, repair);
            verified.caught_up = Some(found.await?);
            verified.reached = reaches
                .into_iter()
                .map(|(name, reach)| (name, reach.reached(at_ms)))
                .collect();
            for text in self.repair.end().await {
                let told = report::Event::Notice { text };
                self.reports.send(Report::Told(told)).await.ok();
            }
        }
        if let Some(level) = self.plan.defaults.verify {
            let found = self.compare(&self.scope, BTreeMap::new(), level, None);
            verified.found = Some((level, found.await?));
        }
        Ok(verified)
    }

    pub(super) async fn compare(
        &self,
        scope: &Scope,
        since: BTreeMap<ResourceName, Since>,
        level: Level,
        repair: Option<Arc<Repair>>,
    ) -> Result<Findings, VerifyEnd> {
        let typed = quoted(&self.plan.path);
        let (plan, source) = (&self.plan, &self.source);
        let mut pause = self.pause.clone();
        // Anew: what was equal before this process came may have changed since, and catching up means up to now.
        let mut anew = true;
        loop {
            // The coordinator is there for as long as this is.
            pause.wait_for(|paused| !*paused).await.ok();
            let asked = ask(plan, scope, level, &**source, &self.targets, &typed)
                .await
                .map_err(VerifyEnd::Failed)?;
            let (scratch, _) = Scratch::open(&self.scratch, &asked.about, anew)?;
            anew = false;
            let scratch = Arc::new(scratch);
            // A signal ends the whole task; a pause lets go of both sides, and what was compared is noted.
            let (stop, stopped) = watch::channel(false);
            let comparing = verify(
                Verify {
                    plan: Arc::clone(plan),
                    scope: scope.clone(),
                    level,
                    since: since.clone(),
                    asked,
                    source: Arc::clone(source),
                    targets: self.targets.clone(),
                    scratch: Arc::clone(&scratch),
                    repair: repair.clone(),
                    orphans: Vec::new(),
                    stop: stopped,
                },
                Box::new(Forward(self.reports.clone())),
            );
            tokio::pin!(comparing);
            let ended = tokio::select! {
                ended = &mut comparing => ended,
                true = async { pause.wait_for(|paused| *paused).await.is_ok() } => {
                    stop.send_replace(true);
                    comparing.as_mut().await
                }
            };
            let found = match ended {
                Err(VerifyEnd::Interrupted) if *stop.borrow() => continue,
                ended => ended?,
            };
            if let Some(scratch) = Arc::into_inner(scratch) {
                scratch.remove();
            }
            return Ok(found);
        }
    }
}
