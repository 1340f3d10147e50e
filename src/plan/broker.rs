//! `broker:`, and what resources say of their queues: from what was typed to what it means.

use super::{
    BrokerConfig, Executor, Preset, QueueConfig,
    decode::{Decoder, Fields, Value},
    grammar,
    model::{self, Model, Resource},
    resolve::{Used, default, or},
    units,
};
use crate::spryker;

/// `broker:`
#[derive(Debug)]
pub(super) struct Broker {
    pub url: Option<Value<String>>,
    pub declare: Option<Value<bool>>,
}

impl Broker {
    /// Reads `broker:` of the plan.
    pub fn read(plan: &Fields<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let broker = plan.map("broker", grammar::BROKER, decoder)?;
        broker.require("url", "url: \"${RABBITMQ_URL}\"", decoder);
        Some(Self {
            url: broker.text("url", decoder),
            declare: broker.parsed("declare", decoder, model::boolean),
        })
    }

    /// Returns what it means.
    pub fn resolve(&self, used: &mut Used) -> Option<BrokerConfig> {
        Some(BrokerConfig {
            url: self.url.as_ref()?.value.clone().into(),
            declare: or(
                self.declare.as_ref(),
                "broker.declare".to_owned(),
                false,
                bool::to_string,
                used,
            ),
        })
    }
}

impl Model {
    /// Returns who carries the rows of `resource` over.
    pub fn executor(&self, resource: &Resource) -> Executor {
        match resource.sync.or(self.defaults.sync) {
            Some("queue") => Executor::Queue,
            _ => Executor::Direct,
        }
    }
}

/// Returns what messages of `resource` are like, where it names its queue.
pub(super) fn queue(resource: &Resource, model: &Model, used: &mut Used) -> Option<QueueConfig> {
    let name = resource.queue.as_ref()?.value.clone();
    let from = resource.from.as_ref()?;
    let table = match model.preset {
        Some(Preset::Spryker) => from.table.as_ref(),
        None => None,
    };
    let table = table.and_then(|table| spryker::by_table(&table.value));
    let own = resource.name.as_ref()?.value.as_str();
    // Both halves of a pair are the same to the shop.
    let base = own.rsplit_once('/').map_or(own, |(base, _)| base);
    Some(QueueConfig {
        name,
        resource: table
            .and_then(|table| table.name)
            .unwrap_or(base)
            .to_owned(),
        kind: resource.kind.as_ref().map(|kind| kind.value.clone()),
        within: if model.executor(resource) == Executor::Queue {
            or(
                resource.within.as_ref(),
                format!("{}.drain.within", resource.path),
                default::DRAIN_WITHIN,
                |within| units::show_duration(*within),
                used,
            )
        } else {
            default::DRAIN_WITHIN
        },
        stores: from.store.is_some() && table.is_none_or(spryker::Table::sends_store),
    })
}
