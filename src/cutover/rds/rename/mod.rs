//! `rds_rename`: an instance makes way, with all its settings recorded first.

mod back;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use self::back::NAMED_BACK;
use super::{
    super::{Action, Observed, Reversed, Scene, Told},
    AVAILABLE, Looks, RENAMED_TO, RESOURCE_ID, Request, SETTINGS, again, asked, before_again, fact,
    first, grace, kept, missing,
    names::{holders, shown},
    refused, renamed,
    tags::{RENAMED, is_of_run, run_of, token},
    unavailable, way, whereabouts,
};
use crate::{
    error::{EdgeError, ErrorKind},
    ids::RunId,
    machine::Facts,
    plan::RdsRename,
    remote::rds::{Instance, Rds},
    report::human,
};

pub(in crate::cutover) struct Rename {
    rds: Arc<Rds>,
    request: Request,
    plan: RdsRename,
    /// How long one name may be waited for.
    within: Duration,
}

impl Rename {
    pub(in crate::cutover) const fn new(rds: Arc<Rds>, plan: RdsRename, within: Duration) -> Self {
        Self {
            rds,
            request: Request::new(),
            plan,
            within,
        }
    }

    /// Returns the instance that this step is about, whatever it is called now: by its id, or without a journal by
    /// its tag.
    async fn subject(
        &self,
        scene: &Scene,
        facts: Option<&Facts>,
    ) -> Result<Option<Instance>, EdgeError> {
        if let Some(facts) = facts {
            return self.rds.instance_with(fact(facts, RESOURCE_ID)?).await;
        }
        for name in [&self.plan.to, &self.plan.instance] {
            if let Some(found) = self.rds.instance(name).await?
                && is_of_run(scene, &found.tags, RENAMED)
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn facts_of(&self, instance: &Instance) -> Result<Facts, EdgeError> {
        let mut facts = Facts::from([
            (RESOURCE_ID.to_owned(), instance.resource_id.clone()),
            (RENAMED_TO.to_owned(), self.plan.to.clone()),
            (SETTINGS.to_owned(), kept(&instance.settings)?),
        ]);
        whereabouts::note(&mut facts, instance);
        Ok(facts)
    }

    /// Waits until the instance `id` is called `name`, having asked for it once where nobody did.
    async fn called(
        &self,
        id: &str,
        name: &str,
        wish: Wish,
        told: Told<'_>,
    ) -> Result<Instance, EdgeError> {
        let begun = Looks::new();
        let mut looks = Looks::new();
        let mut unseen = Looks::new();
        let mut to_ask = Some(wish);
        loop {
            let found = self.rds.instance_with(id).await?;
            if let Some(found) = &found {
                unseen = Looks::new();
                if found.name == name && found.status == AVAILABLE {
                    return Ok(found.clone());
                }
                let waits = found.pending_name.as_deref() == Some(name);
                if found.name != name && way::is_stuck(&found.status) {
                    way::takes_a_name(found)?;
                }
                if !waits && begun.elapsed() > self.within {
                    return Err(refused(format!(
                        "gave up after {}: `{}` is {}",
                        human::duration(self.within),
                        found.name,
                        found.status
                    )));
                }
                if found.name == name || waits || found.status != AVAILABLE {
                    told(if waits {
                        format!("`{}` waits for its maintenance window", found.name)
                    } else {
                        format!("`{}` is {}", found.name, found.status)
                    });
                } else if let Some(wish) = &to_ask
                    && looks.elapsed() >= wish.not_before
                {
                    let (tag, value) = &wish.tag;
                    let is_first = found.tags.get(*tag) != Some(value);
                    if is_first {
                        self.rds.tag(&found.arn, &[(*tag, value.as_str())]).await?;
                    }
                    self.request.is_made();
                    let answer = renamed(self.rds.rename(&found.name, name, wish.at_once).await);
                    if let Err(error) = answer {
                        if is_first {
                            self.not_asked(found, wish, &error).await;
                        }
                        return Err(error);
                    }
                    asked()?;
                    to_ask = None;
                    looks = Looks::new();
                } else if to_ask.is_none() && looks.elapsed() > grace() {
                    return Err(refused(format!(
                        "RDS took the request, and the instance is still called `{}`",
                        found.name
                    )));
                }
            } else if unseen.elapsed() > grace() {
                return Err(EdgeError::new(
                    ErrorKind::Missing,
                    format!("instance {id} is gone"),
                ));
            } else {
                told(format!("instance {id} is nowhere to be seen"));
            }
            looks.pause().await;
        }
    }
}

impl Rename {
    /// Takes the tag back where RDS surely did not take the request, and none was made before it: without the tag, no other
    /// name was asked for. One that stays makes an `undo` look longer, and does no other harm.
    async fn not_asked(&self, found: &Instance, wish: &Wish, error: &EdgeError) {
        if error.kind.disposition().passes() {
            return;
        }
        let (tag, _) = wish.tag;
        if let Err(error) = self.rds.untag(&found.arn, &[tag]).await {
            tracing::warn!(%error, tag, "a tag of a request that was refused stays behind");
        }
    }
}

/// How another name is asked for.
struct Wish {
    /// The tag that is put on the instance first, and its value: without it, nothing was asked for.
    tag: (&'static str, String),
    at_once: bool,
    /// How long is looked before.
    not_before: Duration,
}

#[async_trait]
impl Action for Rename {
    fn is_irreversible(&self) -> bool {
        true
    }

    /// An instance that is being renamed is neither done nor as before.
    fn can_tell(&self) -> bool {
        false
    }

    async fn observe(&self, scene: &Scene, facts: Option<&Facts>) -> Result<Observed, EdgeError> {
        let (from, to) = (&self.plan.instance, &self.plan.to);
        if let Some(found) = self.subject(scene, facts).await? {
            let said = format!("{} is called `{}`", shown(&found), found.name);
            return Ok(if found.name == *to && found.status == AVAILABLE {
                Observed::Done(said)
            } else {
                Observed::NotDone(said)
            });
        }
        if facts.is_none()
            && self.rds.instance(from).await?.is_none()
            && let Some(found) = self.rds.instance(to).await?
        {
            // Nothing has the old name, so nobody can have meant another instance.
            return Ok(Observed::Done(format!("`{to}` is {}", shown(&found))));
        }
        holders(&self.rds, &[from, to]).await.map(Observed::NotDone)
    }

    /// Only a step puts the tag on an instance, whichever run it was of.
    async fn adopt(&self, _scene: &Scene) -> Result<Option<Facts>, EdgeError> {
        let found = self.rds.instance(&self.plan.to).await?;
        let renamed = found.filter(|found| found.tags.contains_key(RENAMED));
        renamed.map(|found| self.facts_of(&found)).transpose()
    }

    async fn left_by(&self) -> Result<Option<RunId>, EdgeError> {
        let mut is_there = false;
        for name in [&self.plan.to, &self.plan.instance] {
            if let Some(found) = self.rds.instance(name).await? {
                is_there = true;
                if let Some(run) = run_of(&found.tags, RENAMED) {
                    return Ok(Some(run));
                }
            }
        }
        if is_there {
            return Ok(None);
        }
        // In the middle of a rename nothing has either name for a moment.
        Err(EdgeError::new(
            ErrorKind::Busy,
            format!(
                "no instance is called `{}` or `{}`",
                self.plan.instance, self.plan.to
            ),
        ))
    }

    async fn intend(&self, scene: &Scene, had: Option<&Facts>) -> Result<Facts, EdgeError> {
        if let Some(had) = had {
            return Ok(again(had));
        }
        if let Some(found) = self.subject(scene, None).await? {
            return self.facts_of(&found).map(|facts| again(&facts));
        }
        let from = &self.plan.instance;
        let Some(found) = self.rds.instance(from).await? else {
            // In the middle of a rename nothing has either name for a moment.
            return Err(EdgeError {
                kind: ErrorKind::Busy,
                ..missing(from)
            });
        };
        self.is_possible(scene).await?;
        self.facts_of(&found).map(|facts| first(scene, facts))
    }

    async fn is_possible(&self, _scene: &Scene) -> Result<(), EdgeError> {
        let (from, to) = (&self.plan.instance, &self.plan.to);
        let found = self.rds.instance(from).await?;
        let found = found.ok_or_else(|| missing(from))?;
        if let Some(holder) = self.rds.instance(to).await? {
            let by = holder.tags.get(RENAMED).map_or_else(String::new, |by| {
                format!(", which step {by} of rekindle renamed and nobody named back")
            });
            return Err(refused(format!(
                "the name `{to}` is taken by {}{by}; `{from}` is {}",
                shown(&holder),
                shown(&found)
            )));
        }
        if found.status != AVAILABLE {
            return Err(unavailable(from, &found.status));
        }
        if found.has_pending {
            return Err(refused(format!(
                "instance `{from}` has changes that wait for its maintenance window, and a rename would make them now: apply or take them back first"
            )));
        }
        Ok(())
    }

    async fn perform(
        &self,
        scene: &Scene,
        facts: &Facts,
        told: Told<'_>,
    ) -> Result<String, EdgeError> {
        let wish = Wish {
            tag: (RENAMED, token(scene)),
            at_once: !self.plan.in_window,
            not_before: if self.request.may_be_made(facts) {
                before_again()
            } else {
                Duration::ZERO
            },
        };
        let id = fact(facts, RESOURCE_ID)?;
        let renamed = self.called(id, &self.plan.to, wish, told).await?;
        Ok(format!("{} is called `{}`", shown(&renamed), renamed.name))
    }

    async fn is_reversible(
        &self,
        scene: &Scene,
        facts: Option<&Facts>,
        told: Told<'_>,
    ) -> Result<(), EdgeError> {
        let (from, to) = (&self.plan.instance, &self.plan.to);
        whereabouts::check(&self.rds, facts, &[from, to]).await?;
        let mut unseen = Looks::new();
        loop {
            match (self.subject(scene, facts).await?, facts) {
                (Some(found), _) if found.name == *from => return Ok(()),
                (Some(found), _) => return way::takes_a_name(&found).map(drop),
                // What no journal knows of is looked for once it is its turn.
                (None, None) => return Ok(()),
                (None, Some(facts)) if unseen.elapsed() > grace() => {
                    return Err(self.is_gone(fact(facts, RESOURCE_ID)?).await);
                }
                (None, Some(_)) => told("the instance is nowhere to be seen".to_owned()),
            }
            unseen.pause().await;
        }
    }

    async fn undo(
        &self,
        scene: &Scene,
        facts: Option<&Facts>,
        told: Told<'_>,
    ) -> Result<Reversed, EdgeError> {
        let (from, to) = (&self.plan.instance, &self.plan.to);
        whereabouts::check(&self.rds, facts, &[from, to]).await?;
        let Some(mut found) = self.settled(scene, facts, told).await? else {
            if let Some(facts) = facts {
                return Err(self.is_gone(fact(facts, RESOURCE_ID)?).await);
            }
            let names = holders(&self.rds, &[from, to]).await?;
            return Ok(Reversed::Nothing(format!(
                "no instance is known to have been renamed: {names}"
            )));
        };
        // What is under way comes to its end first: only what is available takes another name.
        let is_there = found.name == *from;
        if !is_there || found.status != AVAILABLE && !way::is_stuck(&found.status) {
            found = match self.named_back(scene, &found, told).await {
                Ok(found) => found,
                Err(why) => return Err(self.given_up(scene, &found, why, told).await),
            };
        }
        if [RENAMED, NAMED_BACK]
            .iter()
            .any(|tag| found.tags.contains_key(*tag))
        {
            self.rds.untag(&found.arn, &[RENAMED, NAMED_BACK]).await?;
        }
        Ok(Reversed::Undone(format!(
            "{} is called `{from}` again",
            shown(&found)
        )))
    }
}
