//! A resource that goes through a queue says which, and asks for nothing that messages cannot do.

use crate::plan::{
    Executor,
    diagnostic::{Code, Diagnostic, Span},
    model::{Model, Resource, Target, TargetKind},
    quote::quoted,
};

/// AMQP takes 255 bytes; `.error` comes behind it.
const LONGEST: usize = 200;

pub(super) fn check(model: &Model, problems: &mut Vec<Diagnostic>) {
    let queued = |one: &&Resource| model.executor(one) == Executor::Queue;
    if model.broker.is_none() && !model.broker_broken {
        if let Some(first) = model.resources.iter().find(queued) {
            problems.push(
                Diagnostic::new(Code::MissingKey, "`broker` is missing")
                    .at(first.at, "goes through a queue of which broker?")
                    .help("add it, for example `broker: { url: \"${RABBITMQ_URL}\" }`"),
            );
        }
        for resource in &model.resources {
            if let Some(queue) = resource.queue.as_ref().filter(|_| !queued(&resource)) {
                problems.push(refused(
                    resource,
                    "queue",
                    queue.span,
                    "the plan has no `broker`",
                    "add `broker: { url: \"${RABBITMQ_URL}\" }`, or remove the key",
                ));
            }
        }
    }
    for resource in model.resources.iter().filter(queued) {
        check_queued(model, resource, problems);
    }
}

fn check_queued(model: &Model, resource: &Resource, problems: &mut Vec<Diagnostic>) {
    let path = |key: &str| quoted(&format!("{}.{key}", resource.path));
    if resource.queue.is_none() && !resource.queue_broken {
        problems.push(
            Diagnostic::new(Code::MissingKey, format!("{} is missing", path("queue")))
                .at(resource.at, "goes through which queue?")
                .help("add it, for example `queue: sync.storage.loyalty_card`, or `sync: direct`"),
        );
    }
    if let Some(queue) = &resource.queue
        && queue.value.len() > LONGEST
    {
        problems.push(refused(
            resource,
            "queue",
            queue.span,
            "longer than the name of a queue can be",
            "write a name of at most 200 bytes",
        ));
    }
    match target(model, resource).and_then(|target| target.kind.as_ref()) {
        Some(TargetKind::File(_)) => problems.push(refused(
            resource,
            "sync",
            resource.at,
            "nobody consumes messages into files",
            "write `sync: direct` for it",
        )),
        Some(TargetKind::Search(_)) if resource.kind.is_none() && !resource.kind_broken => {
            problems.push(
                Diagnostic::new(Code::MissingKey, format!("{} is missing", path("type")))
                    .at(resource.at, "its messages name which type?")
                    .help("add it, for example `type: page`"),
            );
        }
        _ => {}
    }
    if resource.catch_up.is_some() {
        problems.push(refused(
            resource,
            "catch_up",
            resource.at,
            "its rows are written by whoever consumes the queue",
            "remove `catch_up`, or write `sync: direct`",
        ));
    }
    if let Some(fallback) = &resource.fallback
        && fallback.to.as_ref().is_none_or(|to| to.value != "none")
    {
        problems.push(refused(
            resource,
            "fallback",
            fallback.at,
            "its rows are written by whoever consumes the queue, so nothing can be compared and copied afterwards",
            "remove `fallback`, or write `sync: direct`",
        ));
    }
}

fn target<'m>(model: &'m Model, resource: &Resource) -> Option<&'m Target> {
    match &resource.to {
        Some(to) => model.targets.iter().find(|one| one.name.value == to.value),
        None => model.targets.first().filter(|_| model.targets.len() == 1),
    }
}

fn refused(
    resource: &Resource,
    key: &str,
    at: Span,
    why: &'static str,
    help: &'static str,
) -> Diagnostic {
    let path = quoted(&format!("{}.{key}", resource.path));
    Diagnostic::new(Code::InvalidValue, format!("{path} cannot be carried out"))
        .at(at, why)
        .help(help)
}
