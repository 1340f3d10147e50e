//! `broker:`, and what resources say of their queues: from what was typed to what it means.

use std::{collections::BTreeMap, path::Path};

use secrecy::SecretString;

use super::{
    BrokerConfig, Executor, Preset, QueueConfig,
    decode::{Decoder, Fields, Value},
    diagnostic::{Code, Diagnostic},
    grammar,
    model::{self, Model, Resource, Tls},
    resolve::{self, Used, default, or},
    tree::{Key, Kind, Node},
    units, urls,
};
use crate::spryker;

/// `broker:`
#[derive(Debug)]
pub(super) struct Broker {
    pub url: Option<Value<String>>,
    pub tls: Option<Tls>,
    pub declare: Option<Value<bool>>,
    pub management: Option<Value<String>>,
    pub stores: Vec<BrokerStore>,
    pub dynamic_stores: Option<Value<bool>>,
}

/// An entry of `broker.stores`.
#[derive(Debug)]
pub(super) struct BrokerStore {
    pub name: Value<String>,
    pub vhost: Option<Value<String>>,
    pub url: Option<Value<String>>,
    /// Whether it is no map, or a key of it could not be read.
    pub broken: bool,
}

impl Broker {
    /// Reads `broker:` of the plan.
    pub fn read(plan: &Fields<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let broker = plan.map("broker", grammar::BROKER, decoder)?;
        broker.require("url", "url: \"${RABBITMQ_URL}\"", decoder);
        Some(Self {
            url: broker.text("url", decoder),
            tls: Tls::read(&broker, decoder),
            declare: broker.parsed("declare", decoder, model::boolean),
            management: broker.text("management", decoder),
            stores: stores(&broker, decoder),
            dynamic_stores: broker.parsed("dynamic_stores", decoder, model::boolean),
        })
    }

    /// Returns whether a row of no store is sent once for each of the plan's stores.
    pub fn is_dynamic(&self) -> bool {
        self.dynamic_stores
            .as_ref()
            .is_some_and(|dynamic| dynamic.value)
    }

    /// Returns what it means.
    pub fn resolve(&self, model: &Model, folder: &Path, used: &mut Used) -> Option<BrokerConfig> {
        let url = &self.url.as_ref()?.value;
        let dynamic = or(
            self.dynamic_stores.as_ref(),
            "broker.dynamic_stores".to_owned(),
            false,
            bool::to_string,
            used,
        );
        let named = model.stores.as_ref().filter(|_| dynamic);
        let stores = self.stores.iter().map(|store| {
            let own = match (&store.vhost, &store.url) {
                (Some(vhost), _) => urls::at_vhost(url, &vhost.value)?,
                (None, own) => own.as_ref()?.value.clone(),
            };
            Some((store.name.value.clone(), own.into()))
        });
        Some(BrokerConfig {
            stores: stores.collect::<Option<BTreeMap<_, SecretString>>>()?,
            each_store: named
                .into_iter()
                .flat_map(|stores| &stores.value)
                .map(|store| store.value.clone())
                .collect(),
            tls: self.tls.as_ref().map(|tls| resolve::tls(tls, folder, used)),
            url: url.clone().into(),
            management: self.management.as_ref().map(|url| url.value.clone().into()),
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

/// Reads `broker.stores`.
fn stores(broker: &Fields<'_>, decoder: &mut Decoder<'_>) -> Vec<BrokerStore> {
    let Some((span, node)) = broker.get("stores") else {
        return Vec::new();
    };
    let Kind::Map(entries) = &node.kind else {
        let noun = node.kind.noun();
        decoder.problems.push(
            Diagnostic::new(
                Code::WrongType,
                format!("`broker.stores` is {noun}; it has to be a map"),
            )
            .at(span, "expected a map of stores")
            .help("for example `stores: { DE: { vhost: de_queue }, AT: { vhost: at_queue } }`"),
        );
        return Vec::new();
    };
    let store = |key: &Key, node: &Node, decoder: &mut Decoder<'_>| {
        let before = decoder.problems.len();
        let path = format!("broker.stores.{}", key.text);
        let fields = Fields::open(node, &path, Some(key.span), grammar::BROKER_STORE, decoder);
        let mut text = |name| fields.as_ref().and_then(|one| one.text(name, decoder));
        BrokerStore {
            vhost: text("vhost"),
            url: text("url"),
            name: Value {
                value: key.text.clone(),
                typed: key.text.clone(),
                span: key.span,
            },
            broken: decoder.problems.len() > before,
        }
    };
    entries
        .iter()
        .map(|(key, node)| store(key, node, decoder))
        .collect()
}

impl Model {
    /// Returns who carries the rows of `resource` over.
    pub fn executor(&self, resource: &Resource) -> Executor {
        match resource.sync.or(self.defaults.sync) {
            Some(("queue", _)) => Executor::Queue,
            Some(("console", _)) => Executor::Console,
            Some(("jenkins", _)) => Executor::Jenkins,
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
