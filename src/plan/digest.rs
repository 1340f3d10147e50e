//! What makes a resource the same resource: if it changes in mid-run, what was stored so far is of another plan.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Executor, FileFormat, MoreKeys, Plan, Resource, Routing, TargetConfig, ValueForm};

impl Plan {
    /// Returns the definition of `resource` as JSON with sorted keys.
    ///
    /// Holds what decides which bytes end up under which key, and where. Not in it: chunk limits, `after` and whatever
    /// else may change between two attempts; and connection URLs, because they hold passwords and because the identity
    /// of a server is asked of the server.
    ///
    /// `{"from": {"cursor": ["id"], "key": "key", "table": "t", "value": "data"}, "target": {"compress": "none",
    /// "kind": "redis", "name": "storage", "prefix": "kv:", "value": "raw"}}`
    #[must_use]
    pub fn definition(&self, resource: &Resource) -> String {
        let name = &resource.to;
        // `format` has one form so far. It is written already, so that definitions journaled today still compare equal
        // when there is a choice.
        let mut target = match self.targets.get(name) {
            Some(TargetConfig::Redis(redis)) => json!({
                "name": name, "kind": "redis", "prefix": redis.prefix, "value": redis.value.label(),
                "compress": redis.compress.label(),
            }),
            Some(TargetConfig::Search(search)) => json!({
                "name": name, "kind": "elasticsearch", "index": search.indexes.get(&resource.name).map(indexes),
            }),
            Some(TargetConfig::File(file)) => match &file.format {
                FileFormat::Resp => json!({ "name": name, "kind": "file", "format": "resp" }),
                FileFormat::Ndjson(all) => json!({
                    "name": name, "kind": "file", "format": "ndjson", "index": all.get(&resource.name).map(indexes),
                }),
            },
            None => json!({ "name": name }),
        };
        // Left out where it is `raw`, so that definitions from before there was a choice still compare equal.
        let (value, _) = self.encoding(resource);
        if value != ValueForm::Raw {
            target["value"] = json!(value.label());
        }
        // Left out where it is `direct`, for the same reason.
        if let (Executor::Queue, Some(queue)) = (resource.executor, &resource.queue) {
            target["queue"] = json!({
                "name": queue.name, "resource": queue.resource, "type": queue.kind, "stores": queue.stores,
            });
        }
        let from = &resource.from;
        let mut source = json!({
            "table": from.table, "cursor": from.cursor, "key": from.key, "value": from.value,
        });
        if let Some(entity) = &from.entity {
            source["entity"] = json!(entity);
        }
        if let Some(store) = &from.store {
            source["store"] = json!(store);
        }
        let MoreKeys { aliases, mapping } = &from.more_keys;
        for (key, column) in [("aliases", aliases), ("mapping_key", mapping)] {
            if let Some(column) = column {
                source[key] = json!(column.name);
            }
        }
        if let Some(condition) = &from.condition {
            source["where"] = json!(condition);
        }
        // serde_json keeps maps sorted as long as its `preserve_order` feature is off; a test watches that.
        json!({ "from": source, "target": target }).to_string()
    }
}

/// Returns the name of the index, or the names by store.
fn indexes(routing: &Routing) -> Value {
    match routing {
        Routing::One(index) => json!(index),
        Routing::ByStore { indexes, .. } => indexes
            .iter()
            .map(|(store, index)| (store.clone(), json!(index)))
            .collect(),
    }
}

/// Returns what differs between two definitions, as field, old value and new value, sorted by field.
///
/// Values are JSON; `absent` stands for a field that only the other one has.
#[must_use]
pub fn definition_diff(old: &str, new: &str) -> Vec<(String, String, String)> {
    let (old, new) = (fields(old), fields(new));
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    let shown = |fields: &BTreeMap<String, String>, name: &str| {
        fields
            .get(name)
            .cloned()
            .unwrap_or_else(|| "absent".to_owned())
    };
    names
        .into_iter()
        .filter(|name| old.get(*name) != new.get(*name))
        .map(|name| (name.clone(), shown(&old, name), shown(&new, name)))
        .collect()
}

/// Returns the leaves of a definition by path, for example `from.table`.
fn fields(definition: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    match serde_json::from_str(definition) {
        Ok(value) => collect("", &value, &mut found),
        Err(_) => {
            found.insert("definition".to_owned(), definition.to_owned());
        }
    }
    found
}

fn collect(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    if let Value::Object(map) = value {
        for (key, value) in map {
            let path = if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            };
            collect(&path, value, found);
        }
    } else {
        found.insert(path.to_owned(), value.to_string());
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;
    use crate::plan::load;

    fn definition(resource: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join("plan.yaml");
        let text = format!(
            "version: 1\nname: shop\nsource: {{url: 'mysql://u:geheim@h/shop'}}\n\
             targets: {{storage: {{redis: {{url: 'redis://:geheim@h', prefix: 'kv:'}}}}, files: {{file: {{path: out}}}}, \
             php: {{redis: {{url: 'redis://h/1', value: php, compress: gzip}}}}}}\n\
             resources: [{{name: url, {resource}}}]\n"
        );
        fs::write(&path, text).unwrap();
        let plan = load(&path, &|_| None).unwrap().plan;
        plan.definition(&plan.resources[0])
    }

    #[test]
    fn a_definition_is_sorted_and_holds_no_secret() {
        assert_eq!(
            definition("to: storage, from: {table: t, key: k, value: v, cursor: [id], where: 'a = 1', entity: e}"),
            r#"{"from":{"cursor":["id"],"entity":"e","key":"k","table":"t","value":"v","where":"a = 1"},"#.to_owned()
                + r#""target":{"compress":"none","kind":"redis","name":"storage","prefix":"kv:","value":"raw"}}"#
        );
    }

    #[test]
    fn how_values_are_written_is_part_of_a_definition() {
        let from = "from: {table: t, key: k, value: v, cursor: [id]}";
        let target = definition(&format!("to: php, {from}"));
        assert!(
            target.contains(
                r#""compress":"gzip","kind":"redis","name":"php","prefix":"","value":"php""#
            ),
            "{target}"
        );
    }

    #[test]
    fn order_and_limits_do_not_change_a_definition() {
        let from = "from: {table: t, key: k, value: v, cursor: [id]}";
        let plain = definition(&format!("{from}, to: files"));
        assert_eq!(
            plain,
            definition(&format!("chunk: {{rows: 7}}, to: files, {from}"))
        );
    }

    #[test]
    fn a_diff_names_the_fields_that_changed() {
        let old = definition("to: files, from: {table: t, key: k, value: v, cursor: [id]}");
        let new =
            definition("to: files, from: {table: u, key: k, value: v, cursor: [id], where: x}");
        let change =
            |field: &str, old: &str, new: &str| (field.to_owned(), old.to_owned(), new.to_owned());
        assert_eq!(
            definition_diff(&old, &new),
            [
                change("from.table", "\"t\"", "\"u\""),
                change("from.where", "absent", "\"x\"")
            ]
        );
        assert_eq!(definition_diff(&old, &old), []);
        assert_eq!(definition_diff("?", "?"), []);
    }
}
