//! A resource that goes through a queue says which, and asks for nothing that messages cannot do.

use crate::plan::{
    Executor,
    broker::{Broker, BrokerStore},
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
    for resource in &model.resources {
        check_drains(model, resource, queued(&resource), problems);
    }
    if let Some(broker) = &model.broker {
        check_stores(model, broker, problems);
    }
}

/// `drain.queues` waits for something, and for queues of a broker.
fn check_drains(
    model: &Model,
    resource: &Resource,
    is_queued: bool,
    problems: &mut Vec<Diagnostic>,
) {
    let Some(first) = resource.drains.first() else {
        return;
    };
    let falls_back = resource.fallback.is_some();
    let (why, help) = if model.broker.is_none() && !model.broker_broken {
        (
            "the plan has no `broker`",
            "add `broker: { url: \"${RABBITMQ_URL}\" }`, or remove the key",
        )
    } else if !is_queued && !falls_back {
        (
            "nothing of it goes through queues",
            "give it `sync: queue` or a `fallback`, or remove the key",
        )
    } else {
        return;
    };
    problems.push(refused(resource, "drain.queues", first.span, why, help));
}

/// Each store of `broker.stores` has one vhost, and each store of the plan is among them.
fn check_stores(model: &Model, broker: &Broker, problems: &mut Vec<Diagnostic>) {
    let listed = model.stores.iter().flat_map(|stores| &stores.value);
    for store in &broker.stores {
        let path = quoted(&format!("broker.stores.{}", store.name.value));
        if store.vhost.is_some() == store.url.is_some() && !store.broken {
            problems.push(
                Diagnostic::new(Code::InvalidValue, format!("{path} names no one vhost"))
                    .at(store.name.span, "has to be one vhost")
                    .help("write `vhost: de_queue`, or `url: ...` where it is another broker's"),
            );
        }
    }
    for store in listed {
        let named = |one: &BrokerStore| one.name.value == store.value;
        if !broker.stores.is_empty() && !broker.stores.iter().any(named) {
            problems.push(
                Diagnostic::new(
                    Code::MissingKey,
                    format!("`broker.stores` has no vhost of store {}", store.shown()),
                )
                .at(store.span, "its messages go where?")
                .help("add it to `broker.stores`, for example `DE: { vhost: de_queue }`"),
            );
        }
    }
    if broker.is_dynamic() && model.stores.is_none() && !model.stores_broken {
        problems.push(
            Diagnostic::new(Code::MissingKey, "`stores` is missing")
                .at_known(
                    broker.dynamic_stores.as_ref().map(|dynamic| dynamic.span),
                    "for which stores?",
                )
                .help("list them, for example `stores: [DE, AT]`"),
        );
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
