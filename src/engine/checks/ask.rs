//! Asks source and targets everything that the rules want to know.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Coverage, coverage,
    queues::{self, QueueAnswers},
    stores,
};
use crate::{
    engine::{catch_up, handover::ids_source, preflight::is_skipped, retry::patiently},
    error::EdgeError,
    fallback,
    ids::ResourceName,
    machine::Scope,
    plan::{Plan, PublisherConfig, Resource},
    source::{Source, TableShape},
    target::{Condition, Target},
};

/// What the servers of a plan answered. Nothing was changed by asking.
#[derive(Debug, Default)]
pub struct Answers {
    /// What errors and reports call the source; `None` where it did not answer.
    pub source: Option<String>,
    /// Why it did not.
    pub source_error: Option<EdgeError>,
    /// Resources of the scope, in the order of the plan; none where the source did not answer.
    pub tables: Vec<Described>,
    /// A right to change something.
    pub right_to_write: Option<String>,
    /// What the plan does not cover.
    pub coverage: Coverage,
    /// Why the console's program cannot be started.
    pub unstartable: Option<String>,
    /// Targets that resources of the scope go to.
    pub targets: BTreeMap<String, TargetAnswer>,
    /// What the broker said of the queues of the scope.
    pub queues: QueueAnswers,
}

/// A resource's tables.
#[derive(Debug)]
pub struct Described {
    /// Which resource.
    pub resource: ResourceName,
    /// Its table.
    pub shape: Result<TableShape, EdgeError>,
    /// What a person should know of how it is caught up with, if anything.
    pub catch_up: Result<Option<String>, EdgeError>,
    /// Stores that its rows name and the plan does not.
    pub other_stores: Vec<String>,
    /// The table of its fallback's ids; `None` without a fallback.
    pub ids: Option<Result<TableShape, EdgeError>>,
}

/// What a target said.
#[derive(Debug)]
pub struct TargetAnswer {
    /// What errors and reports call it.
    pub place: String,
    /// What it is; an error where it cannot be written to.
    pub identity: Result<String, EdgeError>,
    /// Resources whose rows have no way to it, and why; not asked where it cannot be written to at all.
    pub ways: Vec<(ResourceName, EdgeError)>,
    /// What speaks against a restore into it; nothing is known where it could not be asked.
    pub conditions: Vec<Condition>,
}

impl Answers {
    /// Returns the shape of the resource's table, where the source told it.
    #[must_use]
    pub fn shape(&self, resource: &str) -> Option<&TableShape> {
        let mut tables = self.tables.iter();
        let found = tables.find(|one| one.resource.as_str() == resource)?;
        found.shape.as_ref().ok()
    }
}

/// Asks the source, or takes down why it could not be connected to, and `targets` about the resources of `scope`.
pub async fn ask(
    plan: &Plan,
    scope: &Scope,
    source: Result<Arc<dyn Source>, EdgeError>,
    targets: &BTreeMap<String, Arc<dyn Target>>,
) -> Answers {
    let chosen: Vec<_> = plan
        .resources
        .iter()
        .filter(|one| !is_skipped(scope, &one.name))
        .collect();
    let mut answers = Answers::default();
    match source {
        Ok(source) => ask_source(plan, &chosen, &*source, &mut answers).await,
        Err(error) => answers.source_error = Some(error),
    }
    let mut fallbacks = chosen.iter().filter_map(|one| one.fallback.as_ref());
    if fallbacks.any(|one| matches!(one.by, PublisherConfig::Console(_))) {
        answers.unstartable = fallback::unstartable(plan);
    }
    for name in plan.targets_of(chosen.iter().copied()) {
        if let Some(target) = targets.get(&name) {
            let answer = ask_target(plan, &name, &chosen, &**target).await;
            answers.targets.insert(name, answer);
        }
    }
    answers.queues = queues::of(plan, &chosen).await;
    answers
}

async fn ask_source(plan: &Plan, chosen: &[&Resource], source: &dyn Source, answers: &mut Answers) {
    let retry = &plan.defaults.retry;
    if let Err(error) = patiently(retry, || source.identity()).await {
        answers.source_error = Some(error);
        return;
    }
    answers.source = Some(source.place().to_owned());
    for resource in chosen {
        let shape = patiently(retry, || source.describe(&resource.from)).await;
        let ids = match &resource.fallback {
            Some(fallback) => {
                let from = ids_source(fallback);
                Some(patiently(retry, || source.describe(&from)).await)
            }
            None => None,
        };
        // Of a table that cannot be read nothing more is asked.
        let catch_up = match &shape {
            Ok(_) => patiently(retry, || catch_up::warning(resource, source)).await,
            Err(_) => Ok(None),
        };
        // A hint at most: what keeps its rows from being read is said elsewhere.
        let other_stores = match &shape {
            Ok(_) => patiently(retry, || stores::of(plan, resource, source)).await,
            Err(_) => Ok(Vec::new()),
        };
        answers.tables.push(Described {
            other_stores: other_stores.unwrap_or_default(),
            resource: resource.name.clone(),
            shape,
            catch_up,
            ids,
        });
    }
    // Who may not ask for rights has few.
    answers.right_to_write = source.right_to_write().await.unwrap_or_default();
    answers.coverage = coverage::of(plan, source).await;
}

async fn ask_target(
    plan: &Plan,
    name: &str,
    chosen: &[&Resource],
    target: &dyn Target,
) -> TargetAnswer {
    let retry = &plan.defaults.retry;
    let place = target.place().to_owned();
    let conditions = match patiently(retry, || target.conditions()).await {
        Ok(conditions) => conditions,
        Err(error) => {
            return TargetAnswer {
                place,
                identity: Err(error),
                ways: Vec::new(),
                conditions: Vec::new(),
            };
        }
    };
    let identity = patiently(retry, || target.identity()).await;
    let mut ways = Vec::new();
    for resource in chosen.iter().filter(|one| one.to == name) {
        if identity.is_ok()
            && let Err(error) = patiently(retry, || target.incarnation(&resource.name)).await
        {
            ways.push((resource.name.clone(), error));
        }
    }
    TargetAnswer {
        place,
        identity,
        ways,
        conditions,
    }
}
