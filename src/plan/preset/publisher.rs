//! How the console of a Spryker shop regenerates a table's rows: `fallback.trigger` and `fallback.ids`.

use super::{super::model::Handover, Span, value};
use crate::spryker::{Table, Trigger};

/// Returns the fallback of a resource that says nothing of its own, and as what it would be typed; `None` where nothing in
/// Spryker's core regenerates rows of `table` by id. `entity` is the resource's own column of that name.
pub(super) fn of(table: &Table, entity: Option<&str>, at: Span) -> Option<(Handover, String)> {
    let trigger = table.trigger?;
    let (ids_table, column) = ids(trigger, table)?;
    let shown = format!(
        "{{ trigger: {}, ids: {{ table: {ids_table}, column: {column} }}, by: {{ console: {{}} }} }}",
        trigger.resource
    );
    let handover = Handover {
        // Some tables name another entity than the one whose ids the trigger takes: its rows go there all together only.
        of_rows: entity.is_some_and(|entity| entity == foreign(&column)),
        ..Handover::by_console(
            value(trigger.resource, at),
            value(&ids_table, at),
            value(&column, at),
            at,
        )
    };
    Some((handover, shown))
}

/// Returns table and column of the entities whose ids the trigger takes. A run without ids reads some of them as foreign keys
/// of yet other tables, where they are neither unique nor all there are; an id too many does no harm.
fn ids(trigger: Trigger, table: &Table) -> Option<(String, String)> {
    let column = match trigger.ids {
        Some(column) => column.rsplit_once('.')?,
        // Computed by the shop, from the entity that its rows name.
        None => ("", table.entity?),
    };
    if let (_, Some(name)) = (column.0, column.1.strip_prefix("fk_")) {
        return Some((format!("spy_{name}"), format!("id_{name}")));
    }
    (!column.0.is_empty()).then(|| (column.0.to_owned(), column.1.to_owned()))
}

/// Returns what other tables call the column: `id_url` is `fk_url`.
fn foreign(column: &str) -> String {
    format!("fk_{}", column.strip_prefix("id_").unwrap_or(column))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spryker::{by_table, tables};

    fn filled(table: &str) -> Option<(String, String, bool)> {
        let table = by_table(table).unwrap();
        let (handover, _) = of(table, table.entity, Span::default())?;
        let ids = format!("{}.{}", handover.table?.value, handover.column?.value);
        Some((handover.trigger?.value, ids, handover.of_rows))
    }

    #[test]
    fn ids_are_those_of_a_table_that_has_each_once() {
        let with = |table, trigger: &str, ids: &str, of_rows| {
            let wanted = (trigger.to_owned(), ids.to_owned(), of_rows);
            assert_eq!(filled(table), Some(wanted));
        };
        with("spy_url_storage", "url", "spy_url.id_url", true);
        // Without ids the console reads `spy_product.fk_product_abstract`: one line for each variant.
        with(
            "spy_product_abstract_storage",
            "product_abstract",
            "spy_product_abstract.id_product_abstract",
            true,
        );
        with(
            "spy_product_concrete_storage",
            "product_concrete",
            "spy_product.id_product",
            true,
        );
        with(
            "spy_availability_storage",
            "availability",
            "spy_availability_abstract.id_availability_abstract",
            false,
        );
        with(
            "spy_cms_block_storage",
            "cms_block",
            "spy_cms_block.id_cms_block",
            true,
        );
        // Its rows name no entity: a run without ids takes all.
        with(
            "spy_navigation_storage",
            "navigation",
            "spy_navigation.id_navigation",
            false,
        );
        assert_eq!(filled("spy_customer_invalidated_storage"), None);
        assert_eq!(filled("spy_product_search_config_storage"), None);
        for table in tables() {
            if let Some((trigger, ids, _)) = filled(table.table) {
                assert!(!trigger.is_empty() && ids.starts_with("spy_"), "{ids}");
                assert!(ids.contains(".id_"), "{ids}");
            }
        }
    }
}
