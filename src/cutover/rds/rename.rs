//! `rds_rename`: an instance makes way, with all its settings recorded first.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    super::{Action, Observed, Reversed, Scene, Told},
    AGAIN, AVAILABLE, GRACE, Looks, RENAMED, RENAMED_TO, RESOURCE_ID, Request, SETTINGS, again,
    asked, fact, first, is_ours, kept, missing,
    names::{holders, shown},
    refused, renamed, token, unavailable,
};
use crate::{
    error::{EdgeError, ErrorKind},
    ids::RunId,
    machine::Facts,
    plan::RdsRename,
    remote::rds::{Instance, Rds},
    report::human,
};

/// The tag of an instance that a step gives its old name back. It names what [`RENAMED`] named then: with both, the old
/// name that RDS shows is the one that was given back.
const NAMED_BACK: &str = "rekindle:named-back";

pub(in crate::cutover) struct Rename {
    rds: Arc<Rds>,
    request: Request,
    plan: RdsRename,
}

impl Rename {
    pub(in crate::cutover) const fn new(rds: Arc<Rds>, plan: RdsRename) -> Self {
        Self {
            rds,
            request: Request::new(),
            plan,
        }
    }

    /// Returns the instance that this step is about, whatever it is called now: by its id, or without a journal by its tag.
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
                && is_ours(scene, &found.tags, RENAMED)
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn facts_of(&self, instance: &Instance) -> Result<Facts, EdgeError> {
        Ok(Facts::from([
            (RESOURCE_ID.to_owned(), instance.resource_id.clone()),
            (RENAMED_TO.to_owned(), self.plan.to.clone()),
            (SETTINGS.to_owned(), kept(&instance.settings)?),
        ]))
    }

    /// Waits until the instance `id` is called `name`, having asked for it once where nobody did.
    async fn called(
        &self,
        id: &str,
        name: &str,
        wish: Wish,
        told: Told<'_>,
    ) -> Result<Instance, EdgeError> {
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
                    if found.tags.get(*tag) != Some(value) {
                        self.rds.tag(&found.arn, &[(*tag, value.as_str())]).await?;
                    }
                    self.request.is_made();
                    let answer = renamed(self.rds.rename(&found.name, name, wish.at_once).await);
                    if let Err(error) = answer {
                        self.not_asked(found, wish, &error).await;
                        return Err(error);
                    }
                    asked()?;
                    to_ask = None;
                    looks = Looks::new();
                } else if to_ask.is_none() && looks.elapsed() > GRACE {
                    return Err(refused(format!(
                        "RDS took the request, and the instance is still called `{}`",
                        found.name
                    )));
                }
            } else if unseen.elapsed() > GRACE {
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
    /// Takes the tag back where RDS surely did not take the request, and none was made before it. A tag that stays makes an
    /// `undo` look longer, and does no other harm.
    async fn not_asked(&self, found: &Instance, wish: &Wish, error: &EdgeError) {
        let was_first = wish.not_before.is_zero();
        if !was_first || error.kind.disposition().passes() {
            return;
        }
        let (tag, _) = wish.tag;
        if let Err(error) = self.rds.untag(&found.arn, &[tag]).await {
            tracing::warn!(%error, tag, "a tag of a request that was refused stays behind");
        }
    }

    /// Returns the instance whose name is to be given back, once it is known whether it was asked to change it: what RDS
    /// said yes to shows the old name, or no instance at all, for a while. `None` where none is known.
    async fn settled(
        &self,
        scene: &Scene,
        facts: Option<&Facts>,
        told: Told<'_>,
    ) -> Result<Option<Instance>, EdgeError> {
        let mut looks = Looks::new();
        loop {
            let Some(found) = self.subject(scene, facts).await? else {
                let enough = if facts.is_some() { GRACE } else { AGAIN };
                if looks.elapsed() >= enough {
                    return Ok(None);
                }
                told("the instance is nowhere to be seen".to_owned());
                looks.pause().await;
                continue;
            };
            if found.name != self.plan.instance || found.status != AVAILABLE {
                return Ok(Some(found));
            }
            let waits = found.pending_name.as_ref() == Some(&self.plan.to);
            let enough = self.may_be_asked(&found, facts, waits);
            if looks.elapsed() >= enough {
                if waits {
                    return Err(refused(format!(
                        "`{}` waits for its maintenance window to be called `{}`: take that back by hand",
                        found.name, self.plan.to
                    )));
                }
                return Ok(Some(found));
            }
            told(format!(
                "`{}` may have been asked to be called `{}`, and is not yet: looked at for {}",
                found.name,
                self.plan.to,
                human::duration(enough)
            ));
            looks.pause().await;
        }
    }

    /// Returns for how long `found`, which has its old name, is looked at before that name is believed.
    fn may_be_asked(&self, found: &Instance, facts: Option<&Facts>, waits: bool) -> Duration {
        let tag = found.tags.get(RENAMED);
        if tag.is_none() && !waits {
            // The tag comes before the request.
            return if facts.is_some() {
                AGAIN
            } else {
                Duration::ZERO
            };
        }
        let is_known = if waits {
            self.plan.in_window
        } else {
            found.tags.get(NAMED_BACK) == tag
        };
        if is_known { Duration::ZERO } else { GRACE }
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
                if let Some((run, _)) = found.tags.get(RENAMED).and_then(|by| by.split_once('.')) {
                    return Ok(Some(RunId::from_text(run)));
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
            tag: (RENAMED, token(scene, &scene.run)),
            at_once: !self.plan.in_window,
            not_before: if self.request.may_be_made(facts) {
                AGAIN
            } else {
                Duration::ZERO
            },
        };
        let id = fact(facts, RESOURCE_ID)?;
        let renamed = self.called(id, &self.plan.to, wish, told).await?;
        Ok(format!("{} is called `{}`", shown(&renamed), renamed.name))
    }

    async fn undo(
        &self,
        scene: &Scene,
        facts: Option<&Facts>,
        told: Told<'_>,
    ) -> Result<Reversed, EdgeError> {
        let (from, to) = (&self.plan.instance, &self.plan.to);
        let Some(mut found) = self.settled(scene, facts, told).await? else {
            let names = holders(&self.rds, &[from, to]).await?;
            return Ok(Reversed::Nothing(format!(
                "no instance is known to have been renamed: {names}"
            )));
        };
        // What is under way comes to its end first: only what is available takes another name.
        if found.name != *from || found.status != AVAILABLE {
            if found.name != *from
                && let Some(holder) = self.rds.instance(from).await?
                && holder.resource_id != found.resource_id
            {
                return Err(refused(format!(
                    "the name `{from}` is taken by {}; `{}` is {}",
                    shown(&holder),
                    found.name,
                    shown(&found)
                )));
            }
            // An older state file may know of a rename without its tag.
            let by = found.tags.get(RENAMED).cloned();
            let by = by.unwrap_or_else(|| token(scene, &scene.run));
            let wish = Wish {
                tag: (NAMED_BACK, by),
                at_once: true,
                not_before: Duration::ZERO,
            };
            let id = found.resource_id.clone();
            found = self.called(&id, from, wish, told).await?;
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
