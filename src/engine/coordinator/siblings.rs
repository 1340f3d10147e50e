//! Resources over one table. A publisher knows nothing of resources: it writes rows of its entities, whichever of them reads those.

use super::Coordinator;
use crate::{
    engine::preflight::is_skipped,
    failure::quoted,
    machine::Scope,
    plan::{Resource, TargetConfig},
    report,
};

impl Coordinator {
    /// Returns the resource over the same table whose publisher was called in this run, if there is one.
    fn published_sibling(&self, resource: &Resource) -> Option<&Resource> {
        let was_called = |one: &&Resource| {
            let ledger = self.book.resource(&one.name);
            let handover = ledger.and_then(|one| one.fallback.handover.as_ref());
            handover.is_some_and(|had| had.ids > 0)
        };
        let siblings = self.plan.resources.iter();
        siblings
            .filter(|one| one.name != resource.name && one.from.table == resource.from.table)
            .find(was_called)
    }

    /// Returns whether rows of a resource may have been written anew since they were read, and can be compared.
    pub(super) fn is_behind_a_publisher(&self, resource: &Resource) -> bool {
        let target = self.plan.targets.get(&resource.to);
        !matches!(target, Some(TargetConfig::File(_))) && self.published_sibling(resource).is_some()
    }

    /// Names the resources whose rows may have been written anew, and that nobody looks at in this run.
    pub(super) fn tell_siblings(&mut self, scope: &Scope) {
        let plan = quoted(&self.plan.path);
        let behind = self.plan.resources.iter().filter_map(|one| {
            let published = &self.published_sibling(one)?.name;
            let name = &one.name;
            let next = if matches!(self.plan.targets.get(&one.to), Some(TargetConfig::File(_))) {
                format!("rekindle run {plan} --only {name}")
            } else if is_skipped(scope, name) {
                format!("rekindle verify {plan} --only {name} --repair")
            } else {
                return None;
            };
            Some(format!(
                "{name}: the publisher of `{published}` may have written rows of its table anew after they were read, and they are \
                 not compared; `{next}` brings them up to date"
            ))
        });
        for text in behind.collect::<Vec<_>>() {
            self.emit(&report::Event::Notice { text });
        }
    }
}
