//! What makes one database instance as good as another: every setting by name, as text.
//!
//! One map serves all: what is recorded before a rename, what a restore is given, what is put back afterwards, and what
//! both are compared by.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_rds::types::{DbInstance, Tag};
use serde::{Deserialize, Serialize};

/// Settings by name. What an instance does not have is not in it; several values are one text, sorted, with `,` between.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Settings(BTreeMap<String, String>);

/// A setting that two instances do not share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its name.
    pub name: String,
    /// As it should be; `None` for not at all.
    pub wanted: Option<String>,
    /// As it is.
    pub found: Option<String>,
}

/// Begins the names of settings that are tags.
const TAG: &str = "tag ";

/// What AWS or we put on an instance ourselves: nobody's setting.
const NOT_SETTINGS: [&str; 2] = ["aws:", "rekindle:"];

/// Settings that nothing changes once an instance is there, or that mean another server when they do.
const FIXED: [&str; 5] = [
    "engine",
    "engine_version",
    "encrypted",
    "kms_key",
    "associated_roles",
];

impl Difference {
    /// Returns whether a request can put it right.
    #[must_use]
    pub fn can_be_mended(&self) -> bool {
        !FIXED.contains(&self.name.as_str())
    }
}

impl Settings {
    /// Returns the settings of `instance`.
    #[must_use]
    pub fn of(instance: &DbInstance) -> Self {
        let mut all = Self::default();
        let text = |value: &Option<String>| value.clone();
        all.put("engine", text(&instance.engine));
        all.put("engine_version", text(&instance.engine_version));
        all.put("class", text(&instance.db_instance_class));
        all.put("storage_type", text(&instance.storage_type));
        all.number("allocated_storage", instance.allocated_storage);
        all.number("max_allocated_storage", instance.max_allocated_storage);
        all.number("iops", instance.iops);
        all.number("storage_throughput", instance.storage_throughput);
        all.flag("multi_az", instance.multi_az);
        let subnets = instance.db_subnet_group.as_ref();
        all.put(
            "subnet_group",
            subnets.and_then(|group| group.db_subnet_group_name.clone()),
        );
        all.list(
            "security_groups",
            instance
                .vpc_security_groups()
                .iter()
                .filter_map(|group| group.vpc_security_group_id.clone()),
        );
        all.list(
            "parameter_groups",
            instance
                .db_parameter_groups()
                .iter()
                .filter_map(|group| group.db_parameter_group_name.clone()),
        );
        all.list(
            "option_groups",
            instance
                .option_group_memberships()
                .iter()
                .filter_map(|group| group.option_group_name.clone()),
        );
        let port = instance.endpoint.as_ref().and_then(|place| place.port);
        all.number("port", port);
        all.put("backup_window", text(&instance.preferred_backup_window));
        all.put(
            "maintenance_window",
            text(&instance.preferred_maintenance_window),
        );
        all.number("backup_retention", instance.backup_retention_period);
        let logs = instance.enabled_cloudwatch_logs_exports();
        all.list("log_exports", logs.iter().cloned());
        // Off is 0, or nothing at all.
        let interval = instance.monitoring_interval.filter(|seconds| *seconds != 0);
        all.number("monitoring_interval", interval);
        if interval.is_some() {
            all.put("monitoring_role", text(&instance.monitoring_role_arn));
        }
        if instance.performance_insights_enabled == Some(true) {
            all.flag("performance_insights", Some(true));
            all.put(
                "performance_insights_key",
                text(&instance.performance_insights_kms_key_id),
            );
            all.number(
                "performance_insights_retention",
                instance.performance_insights_retention_period,
            );
        }
        all.flag("iam_auth", instance.iam_database_authentication_enabled);
        all.flag("deletion_protection", instance.deletion_protection);
        all.flag("encrypted", instance.storage_encrypted);
        all.put("kms_key", text(&instance.kms_key_id));
        all.put("ca", text(&instance.ca_certificate_identifier));
        all.flag("public_access", instance.publicly_accessible);
        all.flag("minor_upgrades", instance.auto_minor_version_upgrade);
        all.flag("copy_tags_to_snapshot", instance.copy_tags_to_snapshot);
        all.put("network_type", text(&instance.network_type));
        all.flag(
            "dedicated_log_volume",
            instance.dedicated_log_volume.filter(|on| *on),
        );
        all.list(
            "associated_roles",
            instance.associated_roles().iter().map(|role| {
                format!(
                    "{}={}",
                    role.feature_name.as_deref().unwrap_or_default(),
                    role.role_arn.as_deref().unwrap_or_default()
                )
            }),
        );
        for tag in instance.tag_list() {
            if let Some((name, value)) = named(tag)
                && !NOT_SETTINGS.iter().any(|own| name.starts_with(own))
            {
                all.put(&format!("{TAG}{name}"), Some(value));
            }
        }
        all
    }

    fn put(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value);
        }
    }

    fn number(&mut self, name: &str, value: Option<i32>) {
        self.put(name, value.map(|value| value.to_string()));
    }

    fn flag(&mut self, name: &str, value: Option<bool>) {
        self.put(name, value.map(|value| value.to_string()));
    }

    fn list(&mut self, name: &str, values: impl Iterator<Item = String>) {
        let values: BTreeSet<String> = values.collect();
        if !values.is_empty() {
            let values: Vec<_> = values.into_iter().collect();
            self.put(name, Some(values.join(",")));
        }
    }

    /// Returns the setting called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Returns how many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns the tags among them.
    pub fn tags(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(TAG)?, value.as_str())))
    }

    /// Returns what differs where an instance should be as `self` and is as `found`.
    #[must_use]
    pub fn differences(&self, found: &Self) -> Vec<Difference> {
        let names: BTreeSet<&String> = self.0.keys().chain(found.0.keys()).collect();
        names
            .into_iter()
            .filter(|name| self.0.get(*name) != found.0.get(*name))
            .map(|name| Difference {
                name: name.clone(),
                wanted: self.0.get(name).cloned(),
                found: found.0.get(name).cloned(),
            })
            .collect()
    }

    /// Returns whether RDS takes operations and throughput for this kind and size of disk: below some size those of `gp3`
    /// are what they are, and naming them is an error.
    #[must_use]
    pub fn has_own_iops(&self) -> bool {
        let gib: u32 = self
            .get("allocated_storage")
            .and_then(|gib| gib.parse().ok())
            .unwrap_or(0);
        let engine = self.get("engine").unwrap_or_default();
        match self.get("storage_type") {
            Some("io1" | "io2") => true,
            Some("gp3") if engine.starts_with("oracle") => gib >= 200,
            Some("gp3") if engine.starts_with("sqlserver") => true,
            Some("gp3") => gib >= 400,
            _ => false,
        }
    }
}

impl Difference {
    /// Returns the name of the tag that it is about.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.name.strip_prefix(TAG)
    }
}

/// Returns differences as a table, one line each: name, as it should be, as it is.
#[must_use]
pub fn table(differences: &[Difference]) -> String {
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let mut rows = vec![[
        "setting".to_owned(),
        "wanted".to_owned(),
        "found".to_owned(),
    ]];
    rows.extend(
        differences
            .iter()
            .map(|one| [one.name.clone(), shown(&one.wanted), shown(&one.found)]),
    );
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let (first, second) = (width(0), width(1));
    let lines = rows.iter().map(|[name, wanted, found]| {
        format!("{name:first$}  {wanted:second$}  {found}")
            .trim_end()
            .to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns name and value of a tag.
pub(super) fn named(tag: &Tag) -> Option<(String, String)> {
    Some((tag.key.clone()?, tag.value.clone().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Settings(pairs.iter().map(pair).collect())
    }

    #[test]
    fn what_differs_is_named_with_both_sides() {
        let wanted = settings(&[
            ("class", "db.r6g.large"),
            ("kms_key", "k1"),
            ("iops", "3000"),
        ]);
        let found = settings(&[("class", "db.t3.micro"), ("iops", "3000"), ("tag a", "b")]);
        let differences = wanted.differences(&found);
        let names: Vec<_> = differences.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["class", "kms_key", "tag a"]);
        let mendable: Vec<_> = differences.iter().map(Difference::can_be_mended).collect();
        assert_eq!(mendable, [true, false, true]);
        assert_eq!(
            table(&differences),
            "setting  wanted        found\n\
             class    db.r6g.large  db.t3.micro\n\
             kms_key  k1            -\n\
             tag a    -             b"
        );
        assert!(wanted.differences(&wanted).is_empty());
    }

    #[test]
    fn small_disks_have_no_operations_of_their_own() {
        for (kind, engine, gib, own) in [
            ("gp3", "mariadb", "399", false),
            ("gp3", "mariadb", "400", true),
            ("gp3", "oracle-ee", "200", true),
            ("gp3", "sqlserver-ex", "20", true),
            ("io1", "mysql", "100", true),
            ("gp2", "mysql", "1000", false),
        ] {
            let given = settings(&[
                ("storage_type", kind),
                ("engine", engine),
                ("allocated_storage", gib),
            ]);
            assert_eq!(given.has_own_iops(), own, "{kind} {engine} {gib}");
        }
    }

    #[test]
    fn settings_are_journaled_as_one_text() {
        let given = settings(&[("class", "db.t3.micro"), ("tag a", "b")]);
        let text = serde_json::to_string(&given).unwrap();
        assert_eq!(text, r#"{"class":"db.t3.micro","tag a":"b"}"#);
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), given);
        assert_eq!(given.tags().collect::<Vec<_>>(), [("a", "b")]);
    }
}
