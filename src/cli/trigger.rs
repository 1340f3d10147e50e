//! `trigger`: calls the publisher of one resource by hand. Writes no state file and to no target by itself.

use std::sync::Arc;

use super::{
    Outcome,
    args::{Global, Trigger},
    connect,
    render::{Screen, say},
    run::parse_ids,
    supervision,
    wrap::say_wrapped,
};
use crate::{
    cursor::Cursor,
    engine::{self, IdPage, NotDrained, Waits},
    error::{Disposition, EdgeError, ErrorKind, chain},
    failure::{Exit, Failure, quoted},
    fallback::{self, Publisher},
    plan::{FallbackConfig, Plan, Resource},
    report::human::counted,
    source::Source,
};

/// Has the publisher of a resource regenerate rows.
pub fn trigger(command: &Trigger, global: &Global, screen: Screen) -> Outcome {
    let plan = connect::load(&command.plan, screen)?.plan;
    let names = connect::chosen(&plan, "-r", std::slice::from_ref(&command.resource))?;
    let Some(resource) = names.first().and_then(|name| plan.resource(name)) else {
        return Err(Failure::new(
            Exit::Usage,
            "`-r` names no resource",
            "nothing was called",
            "name one resource of the plan",
        )
        .into());
    };
    let state_path = connect::state_path(&plan, global);
    let typed = command.plan.display().to_string();
    let publisher = fallback::connect(&plan, resource, &state_path)
        .map_err(|error| engine::refused_by_edge(&error, &plan.name, &typed))?;
    let (Some(publisher), Some(config)) = (publisher, &resource.fallback) else {
        return Err(Failure::new(
            Exit::Refused,
            format!("resource `{}` has no publisher", resource.name),
            "nothing was called",
            "give it a `fallback:` in the plan, and see that none says `to: none`",
        )
        .into());
    };
    let typed_ids = command
        .ids
        .as_deref()
        .map(|ids| parse_ids("-i", ids))
        .transpose()?;
    let work = Work {
        plan: &plan,
        resource,
        config,
        publisher,
        dry_run: command.dry_run,
        screen,
    };
    let runtime = connect::runtime()?;
    let outcome = runtime.block_on(async {
        let mut signals = supervision::listen()?;
        tokio::select! {
            biased;
            Some(()) = signals.recv() => Err(Failure::new(
                Exit::Interrupted,
                "interrupted",
                "calls that were answered have done their work; calling again with the same ids does no harm",
                "type the same command again",
            )),
            done = work.all(typed_ids) => done,
        }
    });
    runtime.shutdown_background();
    Ok(outcome?)
}

struct Work<'a> {
    plan: &'a Plan,
    resource: &'a Resource,
    config: &'a FallbackConfig,
    publisher: Arc<dyn Publisher>,
    dry_run: bool,
    screen: Screen,
}

impl Work<'_> {
    async fn all(&self, typed: Option<Vec<String>>) -> Result<Exit, Failure> {
        let (mut calls, mut ids) = (0, 0);
        if let Some(typed) = typed {
            self.check(&typed).await?;
            for page in typed.chunks(fallback::IDS_PER_CALL as usize) {
                self.one(page, &mut calls, &mut ids, None).await?;
            }
        } else {
            let source = connect::healed_source(self.plan).await?;
            let mut after: Option<Cursor> = None;
            while let Some(page) = self.next(&*source, after.clone(), ids).await? {
                self.one(&page.ids, &mut calls, &mut ids, Some(&page.until))
                    .await?;
                after = Some(page.until);
            }
        }
        if !self.dry_run {
            self.wait_for_queues(ids).await?;
        }
        let name = &self.resource.name;
        let (calls, of) = (counted(calls, "call"), counted(ids, "id"));
        let place = self.publisher.place();
        self.tell(
            "triggered",
            ids,
            &if self.dry_run {
                format!("{name}: {calls} with {of} would be made, by {place}")
            } else {
                format!("{name}: {of} in {calls}, by {place}")
            },
        );
        Ok(Exit::Done)
    }

    /// Waits until the shop's workers have taken what was triggered, where the plan names their queues.
    async fn wait_for_queues(&self, ids: u64) -> Result<(), Failure> {
        if self.resource.drains.is_empty() {
            return Ok(());
        }
        let mut ways = connect::ways(self.plan)?;
        let Some(target) = ways.remove(&self.resource.to) else {
            return Ok(());
        };
        let drain = engine::Drain {
            resource: self.resource.name.clone(),
            target,
            within: self.config.within,
            retry: self.plan.defaults.retry.clone(),
        };
        let told = |text: String| self.tell("draining", ids, &text);
        drain.run(told).await.map(drop).map_err(|stalled| {
            let failure = Failure::new(
                Exit::Stopped,
                format!("the queues of `{}` did not run empty", self.resource.name),
                "every id is out; its events lie in the queues",
                "mend the cause: calling again is not needed",
            );
            match stalled {
                NotDrained::Still(reason) => failure.why(reason),
                NotDrained::Edge(error) => Failure {
                    why: chain(&error),
                    ..failure
                },
            }
        })
    }

    /// Refuses ids that cannot be ids of the plan's table, before the first call. Numbers pass unasked.
    async fn check(&self, typed: &[String]) -> Result<(), Failure> {
        let is_number = |id: &String| {
            let digits = id.strip_prefix('-').unwrap_or(id);
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        };
        if typed.iter().all(is_number) {
            return Ok(());
        }
        let source = connect::healed_source(self.plan).await?;
        let refuse = |error: &EdgeError| match error.kind {
            ErrorKind::Refused => Failure::new(
                Exit::Usage,
                "`-i` names what is no id of an entity",
                "nothing was called",
                format!(
                    "name ids as `{}` of table `{}` has them: `-i 17,18`",
                    self.config.column, self.config.table
                ),
            )
            // The source speaks of the flag of `run`.
            .why(error.to_string().replace("`--ids`", "`-i`")),
            _ => engine::refused_by_edge(error, &self.plan.name, &quoted(&self.plan.path)),
        };
        engine::check_ids(&*source, self.config, typed)
            .await
            .map_err(|error| refuse(&error))
    }

    async fn next(
        &self,
        source: &dyn Source,
        after: Option<Cursor>,
        ids: u64,
    ) -> Result<Option<IdPage>, Failure> {
        engine::all_ids(source, self.config, after)
            .await
            .map_err(|error| self.failed(&error, ids))
    }

    async fn one(
        &self,
        page: &[String],
        calls: &mut u64,
        ids: &mut u64,
        until: Option<&Cursor>,
    ) -> Result<(), Failure> {
        if self.dry_run {
            if *calls == 0 {
                self.tell("call", page.len() as u64, &self.publisher.shown(page));
            }
        } else {
            let mut waits = Waits::new(&self.plan.defaults.retry);
            while let Err(error) = self.publisher.call(page).await {
                let passes = error.kind.disposition() == Disposition::Retry;
                let Some(wait) = waits.next().filter(|_| passes) else {
                    return Err(self.failed(&error, *ids));
                };
                self.tell("waiting", *ids, &format!("{error}; trying again"));
                tokio::time::sleep(wait).await;
            }
            let upto = until.map_or_else(String::new, |id| format!(", up to {id}"));
            let sum = *ids + page.len() as u64;
            self.tell(
                "acknowledged",
                sum,
                &format!("{}: {} out{upto}", self.resource.name, counted(sum, "id")),
            );
        }
        *calls += 1;
        *ids += page.len() as u64;
        Ok(())
    }

    fn tell(&self, event: &str, ids: u64, text: &str) {
        if self.screen.json {
            say(&serde_json::json!({
                "event": event, "resource": self.resource.name, "ids": ids, "dry_run": self.dry_run, "text": text,
            })
            .to_string());
        } else {
            say_wrapped(text);
        }
    }

    fn failed(&self, error: &EdgeError, ids: u64) -> Failure {
        Failure {
            why: chain(error),
            ..Failure::new(
                Exit::Stopped,
                format!(
                    "the publisher of `{}` could not be called",
                    self.resource.name
                ),
                format!(
                    "{} were answered; calling again with the same ids does no harm",
                    counted(ids, "id")
                ),
                "mend the cause, then type the same command again",
            )
        }
    }
}
