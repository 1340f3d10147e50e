//! Where the parts of a plan were typed, for what only its servers can find wrong.

use std::collections::BTreeMap;

use super::{
    decode::Value,
    diagnostic::Span,
    interpolate,
    model::{self, Model, TargetKind},
};
use crate::ids::ResourceName;

/// Where the parts of a plan were typed. What a preset filled in has the place of the name that it goes by.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// `source.url`
    pub source: Option<Span>,
    /// `stores`
    pub stores: Option<Span>,
    /// By the plan's own names.
    pub targets: BTreeMap<String, TargetPlaces>,
    /// By name.
    pub resources: BTreeMap<ResourceName, ResourcePlaces>,
    /// Each entry of `ignore_tables`, in their order.
    pub ignored: Vec<Span>,
    /// `console.command`
    pub console: Option<Span>,
    /// `broker.url`
    pub broker: Option<Span>,
    /// `broker.management`
    pub management: Option<Span>,
    /// Values in which the default of a variable was used, each with its variables.
    defaulted: Vec<(Span, Vec<String>)>,
}

/// The places of a target.
#[derive(Debug, Clone)]
pub struct TargetPlaces {
    /// Its name.
    pub name: Span,
    /// Its URL, the first of several, or its folder.
    pub url: Option<Span>,
    /// `index`, or the `prefix` in its place.
    pub index: Option<Span>,
}

impl TargetPlaces {
    /// Returns where to look when the store itself is the trouble.
    #[must_use]
    pub fn store(&self) -> Span {
        self.url.unwrap_or(self.name)
    }
}

/// The places of a resource.
#[derive(Debug, Clone, Default)]
pub struct ResourcePlaces {
    /// Its name.
    pub name: Option<Span>,
    /// `from.table`
    pub table: Option<Span>,
    /// `from.cursor`
    pub cursor: Option<Span>,
    /// `from.where`
    pub condition: Option<Span>,
    /// `catch_up.column`
    pub catch_up: Option<Span>,
    /// `queue`
    pub queue: Option<Span>,
    /// `fallback.ids.table`
    pub ids_table: Option<Span>,
    /// `fallback.ids.column`
    pub ids_column: Option<Span>,
    columns: Vec<(String, Span)>,
}

impl ResourcePlaces {
    /// Returns where the table is named, else the resource.
    #[must_use]
    pub fn table(&self) -> Option<Span> {
        self.table.or(self.name)
    }

    /// Returns where the column is named, else the table.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<Span> {
        let named = self.columns.iter().find(|(column, _)| column == name);
        named.map(|(_, span)| *span).or_else(|| self.table())
    }

    fn of(resource: &model::Resource) -> Self {
        let from = resource.from.clone().unwrap_or_default();
        let of = |value: &Option<Value<String>>| value.as_ref().map(|value| value.span);
        let cursor = from.cursor.iter().flat_map(|cursor| &cursor.value);
        let more = [from.aliases, from.mapping_key]
            .into_iter()
            .flatten()
            .map(|column| column.name);
        let columns = [&from.key, &from.value, &from.entity, &from.store]
            .into_iter()
            .flatten()
            .chain(cursor)
            .cloned()
            .chain(more)
            .map(|column| (column.value, column.span))
            .collect();
        let ids = resource.fallback.as_ref();
        Self {
            name: of(&resource.name),
            table: of(&from.table),
            cursor: from.cursor.as_ref().map(|cursor| cursor.span),
            condition: of(&from.condition),
            catch_up: resource.catch_up.as_ref().and_then(|one| of(&one.column)),
            queue: of(&resource.queue),
            ids_table: ids.and_then(|ids| of(&ids.table)),
            ids_column: ids.and_then(|ids| of(&ids.column)),
            columns,
        }
    }
}

impl Places {
    /// Returns the variables of the URL, prefix or index name at `place` that have no value, so that their defaults were used.
    #[must_use]
    pub fn defaulted(&self, place: Option<Span>) -> &[String] {
        let mut all = self.defaulted.iter();
        let found = all.find(|(span, _)| Some(*span) == place);
        found.map_or(&[][..], |(_, names)| &names[..])
    }

    /// Returns the places of everything that was read; `env` looks up environment variables.
    pub(super) fn of(model: &Model, env: &dyn Fn(&str) -> Option<String>) -> Self {
        let span = |value: &Option<Value<String>>| value.as_ref().map(|value| value.span);
        let targets = model.targets.iter().map(|target| {
            let (url, index) = match &target.kind {
                Some(TargetKind::Redis(redis)) => (span(&redis.url), None),
                Some(TargetKind::Search(search)) => (
                    search.urls.first().map(|url| url.span),
                    span(&search.index).or_else(|| span(&search.prefix)),
                ),
                Some(TargetKind::File(file)) => (span(&file.path), span(&file.index)),
                None => (None, None),
            };
            let name = target.name.span;
            let places = TargetPlaces { name, url, index };
            (target.name.value.clone(), places)
        });
        let resources = model.resources.iter().filter_map(|resource| {
            let name = resource.name.as_ref()?;
            Some((name.value.as_str().into(), ResourcePlaces::of(resource)))
        });
        let console = model.console.as_ref();
        let broker = model.broker.as_ref();
        Self {
            source: span(&model.source_url),
            stores: model.stores.as_ref().map(|stores| stores.span),
            targets: targets.collect(),
            resources: resources.collect(),
            ignored: model.ignored.iter().map(|one| one.span).collect(),
            console: console.and_then(|console| Some(console.command.as_ref()?.span)),
            broker: broker.and_then(|broker| span(&broker.url)),
            management: broker.and_then(|broker| span(&broker.management)),
            defaulted: addresses(model)
                .map(|value| (value.span, interpolate::defaulted(&value.typed, env)))
                .filter(|(_, names)| !names.is_empty())
                .collect(),
        }
    }
}

/// Returns the values that say which server is meant, and which part of it.
fn addresses<'m>(model: &'m Model) -> impl Iterator<Item = &'m Value<String>> {
    let of_target = |target: &'m model::Target| -> Vec<&'m Value<String>> {
        match &target.kind {
            Some(TargetKind::Redis(redis)) => redis.url.iter().collect(),
            Some(TargetKind::Search(search)) => {
                let urls = search.urls.iter();
                urls.chain(&search.index).chain(&search.prefix).collect()
            }
            Some(TargetKind::File(_)) | None => Vec::new(),
        }
    };
    let targets = model.targets.iter().flat_map(of_target);
    let broker = model.broker.iter();
    let broker = broker.flat_map(|broker| broker.url.iter().chain(&broker.management));
    model.source_url.iter().chain(targets).chain(broker)
}
