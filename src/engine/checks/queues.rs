//! Queues that are not there, are others than the plan would make, or cannot be asked for.

use std::collections::BTreeMap;

use super::Scene;
use crate::{
    broker::{self, Unfit},
    error::{EdgeError, ErrorKind, chain},
    plan::{Code, Diagnostic, Executor, Plan, Resource, Severity},
};

/// So many queues are named in one warning; the rest is counted.
const NAMED: usize = 5;

/// What the broker of a plan said. Nothing of it is asked for where a plan has none.
#[derive(Debug, Default)]
pub struct QueueAnswers {
    /// Queues that rows, or messages of the shop, could not go through.
    unfit: Vec<Unfit>,
    /// Why nothing is known of a vhost.
    silent: Vec<EdgeError>,
    /// Why nobody tells what consumers hold, though the plan names who would.
    uncounted: Option<EdgeError>,
}

/// Asks the plan's broker for the queues of `chosen`.
pub(super) async fn of(plan: &Plan, chosen: &[&Resource]) -> QueueAnswers {
    let mut answers = QueueAnswers::default();
    let Some(config) = &plan.broker else {
        return answers;
    };
    let vhosts = match broker::connect(config) {
        Ok(vhosts) => vhosts,
        Err(error) => {
            answers.silent.push(error);
            return answers;
        }
    };
    // Whether one is made follows the resource that rows are sent of; what lies behind it is somebody else's.
    let mut queues: BTreeMap<&str, bool> = BTreeMap::new();
    for resource in chosen {
        for behind in &resource.drains {
            queues.entry(behind).or_default();
        }
        if let Some(queue) = &resource.queue {
            let is_sent = resource.executor == Executor::Queue;
            *queues.entry(&queue.name).or_default() |= is_sent;
        }
    }
    for vhost in vhosts.each() {
        match vhost.broker.unfit(&queues).await {
            Ok(unfit) => answers.unfit.extend(unfit),
            Err(error) => answers.silent.push(error),
        }
        if answers.uncounted.is_none() {
            answers.uncounted = vhost.broker.uncounted().await;
        }
    }
    answers
}

pub(super) fn check(scene: &Scene<'_>, problems: &mut Vec<Diagnostic>) {
    let answers = &scene.answers.queues;
    let mut spare: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for unfit in &answers.unfit {
        match scene.plan.resources.iter().find(|one| sends(one, unfit)) {
            Some(resource) => problems.push(needed(scene, resource, unfit)),
            None => spare.entry(&unfit.place).or_default().push(&unfit.queue),
        }
    }
    problems.extend(
        spare
            .iter()
            .map(|(place, queues)| not_needed(scene, place, queues)),
    );
    // Where rows go through queues, that they have no way there is said of each resource.
    let is_sent = |one: &Resource| one.executor == Executor::Queue;
    if !scene.plan.resources.iter().any(is_sent) {
        problems.extend(answers.silent.iter().map(|error| {
            let why = chain(error).join(": ");
            Diagnostic::new(
                Code::QueuesUnknown,
                format!("whether the shop's queues are there is not known: {why}"),
            )
            .at_known(scene.places.broker, "this broker")
            .help("check that it is up, and the URL; this plan's run does not need it")
        }));
    }
    problems.extend(answers.uncounted.iter().map(|error| {
        let why = chain(error).join(": ");
        Diagnostic::new(
            Code::QueuesUnknown,
            format!("how many messages consumers hold will not be shown: {why}"),
        )
        .at_known(scene.places.management, "tells nothing")
        .help(
            "mend the URL or the user's tags (`monitoring`), or remove the key; a run does without",
        )
    }));
}

/// Returns whether rows of the resource go through the queue.
fn sends(resource: &Resource, unfit: &Unfit) -> bool {
    let own = resource.queue.iter().map(|queue| &queue.name);
    let mut all = own.chain(&resource.drains);
    resource.executor == Executor::Queue && all.any(|name| *name == unfit.queue)
}

fn needed(scene: &Scene<'_>, resource: &Resource, unfit: &Unfit) -> Diagnostic {
    let places = scene.places.resources.get(&resource.name);
    let place = places.and_then(|one| one.queue.or(one.name));
    let Unfit {
        place: broker,
        queue,
        error,
    } = unfit;
    let of = &resource.name;
    if error.kind != ErrorKind::Missing {
        let why = chain(error).join(": ");
        return Diagnostic::new(Code::OtherQueue, format!("`{of}`: {why}"))
            .at_known(place, "its rows go through it")
            .help(format!(
                "remove `declare`, where `{queue}` is as the shop wants it; else delete it, and have it made anew"
            ));
    }
    Diagnostic::new(
        Code::MissingQueue,
        format!("{broker} has no queue `{queue}`, or no exchange of that name, for `{of}`"),
    )
    .at_known(place, "its rows go through it")
    .help(
        "`vendor/bin/console queue:setup` of the shop makes its queues; with `broker: { declare: true }` a run makes those that it \
         sends to",
    )
}

fn not_needed(scene: &Scene<'_>, place: &str, queues: &[&str]) -> Diagnostic {
    let named: Vec<_> = queues
        .iter()
        .take(NAMED)
        .map(|name| format!("`{name}`"))
        .collect();
    let more = match queues.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let noun = if queues.len() == 1 { "queue" } else { "queues" };
    let mut problem = Diagnostic::new(
        Code::MissingQueue,
        format!(
            "{place} has no {noun} {}{more}, nor exchanges of such names; this plan's run does not send there, but the shop's \
             publishers do, and `consume` takes from there",
            named.join(", ")
        ),
    )
    .at_known(scene.places.broker, "this broker")
    .help("`vendor/bin/console queue:setup` of the shop makes its queues");
    problem.severity = Severity::Warning;
    problem
}
