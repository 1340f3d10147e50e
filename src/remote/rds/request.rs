//! Requests with settings in them.

use aws_sdk_rds::{
    Client,
    operation::{
        modify_db_instance::builders::ModifyDBInstanceFluentBuilder,
        restore_db_instance_from_db_snapshot::builders::RestoreDBInstanceFromDBSnapshotFluentBuilder,
        restore_db_instance_to_point_in_time::builders::RestoreDBInstanceToPointInTimeFluentBuilder,
    },
    types::CloudwatchLogsExportConfiguration,
};

use super::settings::{Difference, Settings};

/// Gives a restore, whose two kinds take the same things and share no type, what it can take.
macro_rules! with_settings {
    ($call:expr, $settings:expr) => {{
        let settings: &Settings = $settings;
        let own_iops = settings.has_own_iops();
        $call
            .set_db_instance_class(text(settings, "class"))
            .set_storage_type(text(settings, "storage_type"))
            .set_allocated_storage(number(settings, "allocated_storage"))
            .set_iops(number(settings, "iops").filter(|_| own_iops))
            .set_storage_throughput(number(settings, "storage_throughput").filter(|_| own_iops))
            .set_multi_az(flag(settings, "multi_az"))
            .set_db_subnet_group_name(text(settings, "subnet_group"))
            .set_vpc_security_group_ids(list(settings, "security_groups"))
            .set_db_parameter_group_name(text(settings, "parameter_groups"))
            .set_option_group_name(text(settings, "option_groups"))
            .set_port(number(settings, "port"))
            .set_enable_cloudwatch_logs_exports(list(settings, "log_exports"))
            .set_enable_iam_database_authentication(flag(settings, "iam_auth"))
            .set_deletion_protection(flag(settings, "deletion_protection"))
            .set_publicly_accessible(flag(settings, "public_access"))
            .set_auto_minor_version_upgrade(flag(settings, "minor_upgrades"))
            .set_copy_tags_to_snapshot(flag(settings, "copy_tags_to_snapshot"))
            .set_network_type(text(settings, "network_type"))
            .set_dedicated_log_volume(flag(settings, "dedicated_log_volume"))
            .set_ca_certificate_identifier(text(settings, "ca"))
            .set_backup_retention_period(number(settings, "backup_retention"))
            .set_preferred_backup_window(text(settings, "backup_window"))
    }};
}

pub(super) fn from_snapshot(
    client: &Client,
    settings: &Settings,
) -> RestoreDBInstanceFromDBSnapshotFluentBuilder {
    with_settings!(client.restore_db_instance_from_db_snapshot(), settings)
}

pub(super) fn from_time(
    client: &Client,
    settings: &Settings,
) -> RestoreDBInstanceToPointInTimeFluentBuilder {
    with_settings!(client.restore_db_instance_to_point_in_time(), settings)
        .set_max_allocated_storage(number(settings, "max_allocated_storage"))
}

/// Returns the request that puts `differences` right. What one setting needs of another is taken from `wanted`.
pub(super) fn changes(
    client: &Client,
    differences: &[Difference],
    wanted: &Settings,
) -> ModifyDBInstanceFluentBuilder {
    let mut call = client.modify_db_instance();
    for one in differences {
        let value = one.wanted.clone();
        let number = value.as_ref().and_then(|value| value.parse().ok());
        let flag = Some(value.as_deref() == Some("true"));
        call = match one.name.as_str() {
            "class" => call.set_db_instance_class(value),
            "storage_type" => call.set_storage_type(value),
            "allocated_storage" => call.set_allocated_storage(number),
            // Growing by itself is switched off by a limit that is reached already.
            "max_allocated_storage" => call.set_max_allocated_storage(
                number.or_else(|| super::request::number(wanted, "allocated_storage")),
            ),
            "iops" => call.set_iops(number),
            "storage_throughput" => call.set_storage_throughput(number),
            "multi_az" => call.set_multi_az(flag),
            "subnet_group" => call.set_db_subnet_group_name(value),
            "security_groups" => call.set_vpc_security_group_ids(list(wanted, &one.name)),
            "parameter_groups" => call.set_db_parameter_group_name(value),
            "option_groups" => call.set_option_group_name(value),
            "port" => call.set_db_port_number(number),
            "backup_window" => call.set_preferred_backup_window(value),
            "maintenance_window" => call.set_preferred_maintenance_window(value),
            "backup_retention" => call.set_backup_retention_period(number),
            "log_exports" => call.cloudwatch_logs_export_configuration(log_exports(one)),
            // One is not taken without the other.
            "monitoring_interval" | "monitoring_role" => call
                .monitoring_interval(
                    super::request::number(wanted, "monitoring_interval").unwrap_or(0),
                )
                .set_monitoring_role_arn(text(wanted, "monitoring_role")),
            "performance_insights"
            | "performance_insights_key"
            | "performance_insights_retention" => call
                .enable_performance_insights(wanted.get("performance_insights").is_some())
                .set_performance_insights_kms_key_id(text(wanted, "performance_insights_key"))
                .set_performance_insights_retention_period(super::request::number(
                    wanted,
                    "performance_insights_retention",
                )),
            "iam_auth" => call.set_enable_iam_database_authentication(flag),
            "deletion_protection" => call.set_deletion_protection(flag),
            "ca" => call.set_ca_certificate_identifier(value),
            "public_access" => call.set_publicly_accessible(flag),
            "minor_upgrades" => call.set_auto_minor_version_upgrade(flag),
            "copy_tags_to_snapshot" => call.set_copy_tags_to_snapshot(flag),
            "network_type" => call.set_network_type(value),
            "dedicated_log_volume" => call.set_dedicated_log_volume(flag),
            _ => call,
        };
    }
    call
}

fn log_exports(one: &Difference) -> CloudwatchLogsExportConfiguration {
    let names = |text: &Option<String>| -> Vec<String> {
        let text = text.as_deref().unwrap_or_default();
        text.split(',')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let (wanted, found) = (names(&one.wanted), names(&one.found));
    let without = |all: &[String], others: &[String]| -> Option<Vec<String>> {
        let left: Vec<_> = all
            .iter()
            .filter(|name| !others.contains(name))
            .cloned()
            .collect();
        (!left.is_empty()).then_some(left)
    };
    CloudwatchLogsExportConfiguration::builder()
        .set_enable_log_types(without(&wanted, &found))
        .set_disable_log_types(without(&found, &wanted))
        .build()
}

fn text(settings: &Settings, name: &str) -> Option<String> {
    settings.get(name).map(str::to_owned)
}

fn number(settings: &Settings, name: &str) -> Option<i32> {
    settings.get(name)?.parse().ok()
}

fn flag(settings: &Settings, name: &str) -> Option<bool> {
    settings.get(name)?.parse().ok()
}

fn list(settings: &Settings, name: &str) -> Option<Vec<String>> {
    Some(settings.get(name)?.split(',').map(str::to_owned).collect())
}
