use super::*;

fn table(name: &str, columns: &[&str]) -> ReadModel {
    ReadModel {
        names: vec![name.to_owned()],
        columns: columns.iter().map(|&name| name.to_owned()).collect(),
        no_ids: Vec::new(),
        cursors: vec![vec!["id".to_owned()]],
        estimated_rows: 3,
    }
}

#[test]
fn the_columns_tell_entity_and_store() {
    for (columns, entity, entities) in [
        (&["key", "data", "fk_x"][..], Some("fk_x"), 0),
        (&["key", "data", "fk_x", "fk_card"], Some("fk_card"), 0),
        (&["key", "data", "fk_x", "fk_y"], None, 2),
        (&["key", "data"], None, 0),
    ] {
        let found = draft(&[table("spy_card_storage", columns)], None);
        let card = &found.resources[0];
        assert_eq!(card.entity.as_deref(), entity);
        assert_eq!(card.entities.len(), entities);
        assert!(!card.by_store && !card.search);
    }
    let found = draft(&[table("spy_card_search", &["key", "data", "store"])], None);
    assert!(found.resources[0].by_store && found.resources[0].search);
}

#[test]
fn columns_with_more_keys_are_found_and_those_that_may_be_are_named() {
    let columns = [
        "key",
        "data",
        "alias_keys",
        "mapping_resource_key",
        "sku_alias",
        "data_mapping",
    ];
    for (name, preset, keys, maybe) in [
        ("spy_card_storage", None, true, 2),
        ("spy_card_storage", Some(Preset::Spryker), true, 2),
        ("spy_url_storage", None, true, 2),
        ("spy_url_storage", Some(Preset::Spryker), true, 0),
        ("spy_card_search", None, false, 0),
    ] {
        let found = draft(&[table(name, &columns)], preset);
        let one = &found.resources[0];
        assert_eq!(one.aliases, keys.then_some("alias_keys"), "{name}");
        let mapping = keys.then_some("mapping_resource_key");
        assert_eq!(one.mapping_key, mapping, "{name}");
        assert_eq!(one.maybe_keys.len(), maybe, "{name}");
    }
    let none = draft(&[table("spy_card_storage", &["key", "data"])], None);
    assert_eq!(none.resources[0].aliases, None);
}

#[test]
fn ids_of_known_tables_are_those_of_the_console_with_a_preset_or_without() {
    for known in spryker::tables() {
        let mut columns = vec!["key", "data", "store", "fk_one", "fk_other"];
        columns.extend(known.entity);
        let table = ReadModel {
            cursors: vec![vec![known.cursor.to_owned()]],
            ..table(known.table, &columns)
        };
        for preset in [None, Some(Preset::Spryker)] {
            let found = draft(std::slice::from_ref(&table), preset);
            let entity = found.resources[0].entity.as_deref();
            assert_eq!(entity, known.entity, "{}", known.table);
        }
    }
}

#[test]
fn every_resource_has_a_name_of_its_own() {
    let tables = [
        "spy_card_storage",
        "card_storage",
        "Card",
        "spy_card_search",
        "card_search",
        "größe storage",
        "-",
    ];
    let found = draft(&tables.map(|name| table(name, &["key", "data"])), None);
    let names: Vec<_> = found.resources.iter().map(|one| &*one.name).collect();
    assert_eq!(
        names,
        [
            "card",
            "card_storage",
            "Card_storage_2",
            "card_search",
            "card_search_2",
            "gr__e_storage",
            "table"
        ]
    );
}

#[test]
fn known_tables_have_the_names_of_the_console() {
    let columns = ["key", "data", "store", "fk_product_abstract", "fk_x"];
    let tables = [
        ("spy_product_abstract_page_search", ""),
        (
            "spy_product_abstract_storage",
            "id_product_abstract_storage",
        ),
        ("spy_customer_invalidated_storage", ""),
        ("url_storage", "id_url_storage"),
        ("spy_url_storage", "id_url_storage"),
    ];
    let found = draft(
        &tables.map(|(name, cursor)| ReadModel {
            cursors: vec![vec![cursor.to_owned()]],
            ..table(name, &columns)
        }),
        Some(Preset::Spryker),
    );
    let told: Vec<_> = found
        .resources
        .iter()
        .map(|one| {
            let told = (&*one.name, one.search, one.kind);
            (told, one.short, one.no_publisher.is_some())
        })
        .collect();
    assert_eq!(
        told,
        [
            // Another cursor; and `url` has no `fk_url` here.
            (
                ("product_abstract/search", true, Some("page")),
                false,
                false
            ),
            (("product_abstract/storage", false, None), true, false),
            (("customer_invalidated", false, None), false, true),
            (("url_storage", false, None), false, true),
            (("url", false, None), false, false),
        ]
    );
    let entity = found.resources[1].entity.as_deref();
    assert_eq!(entity, Some("fk_product_abstract"));
}

#[test]
fn what_cannot_be_a_resource_is_left_out_with_the_reason() {
    let mut unsorted = table("d_storage", &["key", "data"]);
    unsorted.cursors.clear();
    let found = draft(
        &[
            table("a_storage", &["key"]),
            table("b_storage", &["data"]),
            table("c_storage", &["id"]),
            unsorted,
            table("e_storage", &[]),
        ],
        None,
    );
    assert_eq!(found.resources, []);
    let why: Vec<_> = found.left_out.iter().map(|one| &one.why[..20]).collect();
    assert_eq!(
        why,
        [
            "it has no column `da",
            "it has no column `ke",
            "it has neither a col",
            "it has no PRIMARY or",
            "this user may not re"
        ]
    );
}
