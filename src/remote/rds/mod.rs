//! RDS, as far as steps need it: instances and snapshots looked at, and the five requests that change something.
//!
//! Each method is one request, and none is sent twice: whether one that got no answer was carried out, RDS has to say.

mod failed;
mod request;
mod settings;

use std::{
    collections::BTreeMap,
    error::Error as StdError,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_config::{BehaviorVersion, Region, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_rds::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    types::{DbInstance, DbSnapshot, Filter, Tag},
};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

use self::failed::{failed, is_expired, is_not_found, is_taken};
pub use self::settings::{Difference, Settings, table};
use crate::{
    error::{EdgeError, ErrorKind},
    plan::{AwsConfig, SnapshotKind},
};

/// How long RDS may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// How long one answer may take.
const ANSWER: Duration = Duration::from_mins(1);

/// A database instance, as RDS describes it.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Its name, which it may change.
    pub name: String,
    /// The id that it keeps for life.
    pub resource_id: String,
    /// What tags are put on.
    pub arn: String,
    /// The word of RDS: `available`, `creating`, ...
    pub status: String,
    /// Host and port.
    pub endpoint: Option<(String, i32)>,
    /// Whether changes of it wait to be made.
    pub has_pending: bool,
    /// The name that it will have.
    pub pending_name: Option<String>,
    /// Whether parameters take hold at a restart only.
    pub needs_reboot: bool,
    /// Seconds since 1970 up to which it can be restored to a point in time.
    pub restorable_until: Option<i64>,
    /// When it was made, seconds since 1970.
    pub created: Option<i64>,
    /// Days that automated snapshots are kept.
    pub retention_days: i32,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// All the rest.
    pub settings: Settings,
}

impl Instance {
    /// Returns from and until when it can be restored to a point in time, seconds since 1970; until `None` where it keeps no
    /// backups. The beginning is RDS's own to decide, and told to within a day.
    #[must_use]
    pub fn window(&self, now: i64) -> (i64, Option<i64>) {
        let kept = now - i64::from(self.retention_days) * 24 * 60 * 60;
        let from = kept.max(self.created.unwrap_or(kept));
        let until = self.restorable_until.filter(|_| self.retention_days > 0);
        (from, until)
    }
}

/// A snapshot, as RDS describes it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// The name that the instance had.
    pub instance: String,
    /// The id of that instance.
    pub resource_id: String,
    /// The word of RDS: `available`, `creating`, ...
    pub status: String,
    /// How far it is, while it is `creating`.
    pub percent: Option<i32>,
    /// When it was taken, seconds since 1970.
    pub taken: Option<i64>,
    /// The same, as exactly as it is known: two may be taken within a second.
    nanos: Option<i128>,
    /// Size of the instance's disk.
    pub gib: Option<i32>,
    /// Who took it.
    pub kind: SnapshotKind,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// What an instance is restored from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A snapshot.
    Snapshot(String),
    /// An instance as it was, seconds since 1970.
    Time {
        /// Its name now.
        instance: String,
        /// The moment.
        seconds: i64,
    },
}

/// RDS of one region.
pub struct Rds {
    config: AwsConfig,
    shown: String,
    /// Made at the first request, and anew when its credentials have expired.
    client: Mutex<Option<Client>>,
}

impl Rds {
    /// Returns RDS of the plan's region. Connects to nothing yet.
    #[must_use]
    pub fn new(config: &AwsConfig) -> Self {
        Self {
            shown: format!("rds in {}", config.region),
            config: config.clone(),
            client: Mutex::new(None),
        }
    }

    /// Returns the region.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.config.region
    }

    async fn client(&self) -> Client {
        let known = self
            .client
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(client) = known {
            return client;
        }
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .operation_attempt_timeout(ANSWER)
            .build();
        let shared = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(self.config.region.clone()))
            .http_client(http)
            // A request that got no answer may have been carried out: it is never sent again unseen.
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .load()
            .await;
        let mut config = aws_sdk_rds::config::Builder::from(&shared);
        if let Some(endpoint) = &self.config.endpoint {
            config = config.endpoint_url(endpoint);
        }
        let client = Client::from_conf(config.build());
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
        client
    }

    /// Returns the error for a request that did not work.
    fn failed<E>(&self, what: &str, error: &SdkError<E>) -> EdgeError
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        if error.code().is_some_and(is_expired) {
            // Whoever renews them has done so by the next request, or by one of those after it.
            *self.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        failed(&self.shown, what, error)
    }

    /// Returns the error for something that could not be made. Where the name is taken, whoever looks again sees by whom:
    /// what an earlier request made may not have been seen yet.
    fn not_made<E>(&self, what: &str, error: &SdkError<E>) -> EdgeError
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        let failed = self.failed(what, error);
        if error.code().is_some_and(is_taken) {
            return EdgeError {
                kind: ErrorKind::Busy,
                ..failed
            };
        }
        failed
    }

    /// Returns the instance called `name`.
    ///
    /// # Errors
    ///
    /// `Credentials` where that may not be asked.
    pub async fn instance(&self, name: &str) -> Result<Option<Instance>, EdgeError> {
        let client = self.client().await;
        let answer = client
            .describe_db_instances()
            .db_instance_identifier(name)
            .send()
            .await;
        match answer {
            Ok(answer) => Ok(answer.db_instances().first().map(instance_of)),
            Err(error) if error.code().is_some_and(is_not_found) => Ok(None),
            Err(error) => Err(self.failed(&format!("cannot look at instance `{name}`"), &error)),
        }
    }

    /// Returns the snapshot called `name`.
    ///
    /// # Errors
    ///
    /// `Credentials` where that may not be asked.
    pub async fn snapshot(&self, name: &str) -> Result<Option<Snapshot>, EdgeError> {
        let client = self.client().await;
        let answer = client
            .describe_db_snapshots()
            .db_snapshot_identifier(name)
            .send()
            .await;
        match answer {
            Ok(answer) => Ok(answer
                .db_snapshots()
                .first()
                .map(|one| self.snapshot_of(one))),
            Err(error) if error.code().is_some_and(is_not_found) => Ok(None),
            Err(error) => Err(self.failed(&format!("cannot look at snapshot `{name}`"), &error)),
        }
    }

    /// Returns the instance with this id, whatever it is called now.
    ///
    /// # Errors
    ///
    /// `Credentials` where that may not be asked.
    pub async fn instance_with(&self, resource_id: &str) -> Result<Option<Instance>, EdgeError> {
        let client = self.client().await;
        let by_id = Filter::builder()
            .name("dbi-resource-id")
            .values(resource_id)
            .build();
        let answer = client.describe_db_instances().filters(by_id).send().await;
        match answer {
            Ok(answer) => Ok(answer
                .db_instances()
                .iter()
                .map(instance_of)
                .find(|one| one.resource_id == resource_id)),
            Err(error) if error.code().is_some_and(is_not_found) => Ok(None),
            Err(error) => {
                Err(self.failed(&format!("cannot look at instance {resource_id}"), &error))
            }
        }
    }

    /// Returns the snapshots of the instance with this id, whatever it is called by now, or all of them; newest first.
    ///
    /// # Errors
    ///
    /// `Credentials` where that may not be asked.
    pub async fn snapshots(&self, resource_id: Option<&str>) -> Result<Vec<Snapshot>, EdgeError> {
        let client = self.client().await;
        let mut found = Vec::new();
        let mut marker = None;
        loop {
            let answer = client
                .describe_db_snapshots()
                .set_dbi_resource_id(resource_id.map(str::to_owned))
                .set_marker(marker)
                .send()
                .await
                .map_err(|error| self.failed("cannot list snapshots", &error))?;
            found.extend(
                answer
                    .db_snapshots()
                    .iter()
                    .map(|one| self.snapshot_of(one)),
            );
            marker = answer.marker;
            if marker.as_ref().is_none_or(String::is_empty) {
                break;
            }
        }
        found.retain(|one| resource_id.is_none_or(|id| one.resource_id == id));
        found.sort_by_key(|one| std::cmp::Reverse(one.nanos));
        Ok(found)
    }

    /// Asks for a snapshot, which is there, and `creating`, when this returns.
    ///
    /// # Errors
    ///
    /// `Busy` where the name is taken. After `Connection` and `Timeout` nobody knows whether it was taken.
    pub async fn take_snapshot(
        &self,
        instance: &str,
        name: &str,
        tag: (&str, &str),
    ) -> Result<(), EdgeError> {
        let client = self.client().await;
        client
            .create_db_snapshot()
            .db_instance_identifier(instance)
            .db_snapshot_identifier(name)
            .tags(tag_of(tag.0, tag.1))
            .send()
            .await
            .map(drop)
            .map_err(|error| self.not_made(&format!("cannot take snapshot `{name}`"), &error))
    }

    /// Asks for another name, at once or in the instance's maintenance window.
    ///
    /// # Errors
    ///
    /// `Refused` where the name is taken. After `Connection` and `Timeout` nobody knows whether it is being renamed.
    pub async fn rename(&self, instance: &str, to: &str, at_once: bool) -> Result<(), EdgeError> {
        let client = self.client().await;
        client
            .modify_db_instance()
            .db_instance_identifier(instance)
            .new_db_instance_identifier(to)
            .apply_immediately(at_once)
            .send()
            .await
            .map(drop)
            .map_err(|error| {
                self.failed(
                    &format!("cannot rename instance `{instance}` to `{to}`"),
                    &error,
                )
            })
    }

    /// Asks for a new instance. It is there, and `creating`, when this returns.
    ///
    /// # Errors
    ///
    /// `Busy` where the name is taken. After `Connection` and `Timeout` nobody knows whether it is being made.
    pub async fn restore(
        &self,
        name: &str,
        origin: &Origin,
        settings: &Settings,
        own_tags: &[(&str, &str)],
    ) -> Result<(), EdgeError> {
        let client = self.client().await;
        let mut tags: Vec<Tag> = settings
            .tags()
            .map(|(name, value)| tag_of(name, value))
            .collect();
        tags.extend(own_tags.iter().map(|(name, value)| tag_of(name, value)));
        let what = format!("cannot restore instance `{name}`");
        match origin {
            Origin::Snapshot(snapshot) => request::from_snapshot(&client, settings)
                .db_instance_identifier(name)
                .db_snapshot_identifier(snapshot)
                .set_tags(Some(tags))
                .send()
                .await
                .map(drop)
                .map_err(|error| self.not_made(&what, &error)),
            Origin::Time { instance, seconds } => request::from_time(&client, settings)
                .target_db_instance_identifier(name)
                .source_db_instance_identifier(instance)
                .restore_time(aws_sdk_rds::primitives::DateTime::from_secs(*seconds))
                .set_tags(Some(tags))
                .send()
                .await
                .map(drop)
                .map_err(|error| self.not_made(&what, &error)),
        }
    }

    /// Asks for the settings that differ to be as they should be. Tags are not among them.
    ///
    /// # Errors
    ///
    /// `Refused` for what RDS does not take.
    pub async fn modify(
        &self,
        instance: &str,
        differences: &[Difference],
        wanted: &Settings,
    ) -> Result<(), EdgeError> {
        let client = self.client().await;
        request::changes(&client, differences, wanted)
            .db_instance_identifier(instance)
            .apply_immediately(true)
            .send()
            .await
            .map(drop)
            .map_err(|error| {
                self.failed(
                    &format!("cannot change settings of instance `{instance}`"),
                    &error,
                )
            })
    }

    /// Puts tags on an instance.
    ///
    /// # Errors
    ///
    /// `Credentials` where that is not allowed.
    pub async fn tag(&self, arn: &str, tags: &[(&str, &str)]) -> Result<(), EdgeError> {
        let client = self.client().await;
        let tags = tags.iter().map(|(name, value)| tag_of(name, value));
        client
            .add_tags_to_resource()
            .resource_name(arn)
            .set_tags(Some(tags.collect()))
            .send()
            .await
            .map(drop)
            .map_err(|error| self.failed(&format!("cannot put a tag on {arn}"), &error))
    }

    /// Takes tags away from an instance.
    ///
    /// # Errors
    ///
    /// `Credentials` where that is not allowed.
    pub async fn untag(&self, arn: &str, names: &[&str]) -> Result<(), EdgeError> {
        let client = self.client().await;
        let names = names.iter().map(|name| (*name).to_owned());
        client
            .remove_tags_from_resource()
            .resource_name(arn)
            .set_tag_keys(Some(names.collect()))
            .send()
            .await
            .map(drop)
            .map_err(|error| self.failed(&format!("cannot take a tag from {arn}"), &error))
    }

    /// Restarts an instance.
    ///
    /// # Errors
    ///
    /// `Refused` where it is not `available`.
    pub async fn reboot(&self, instance: &str) -> Result<(), EdgeError> {
        let client = self.client().await;
        client
            .reboot_db_instance()
            .db_instance_identifier(instance)
            .send()
            .await
            .map(drop)
            .map_err(|error| self.failed(&format!("cannot restart instance `{instance}`"), &error))
    }

    fn snapshot_of(&self, given: &DbSnapshot) -> Snapshot {
        let name = given.db_snapshot_identifier.clone().unwrap_or_default();
        let kind = if given.snapshot_type.as_deref() == Some("automated") {
            SnapshotKind::Automated
        } else if self
            .config
            .hourly
            .as_ref()
            .is_some_and(|names| names.matches(&name))
        {
            SnapshotKind::Hourly
        } else {
            SnapshotKind::Manual
        };
        Snapshot {
            instance: given.db_instance_identifier.clone().unwrap_or_default(),
            resource_id: given.dbi_resource_id.clone().unwrap_or_default(),
            status: given.status.clone().unwrap_or_default(),
            percent: given.percent_progress,
            taken: given.snapshot_create_time.map(|time| time.secs()),
            nanos: given.snapshot_create_time.map(|time| time.as_nanos()),
            gib: given.allocated_storage,
            kind,
            tags: given
                .tag_list()
                .iter()
                .filter_map(settings::named)
                .collect(),
            name,
        }
    }
}

fn instance_of(given: &DbInstance) -> Instance {
    let endpoint = given.endpoint.as_ref();
    let pending = given.pending_modified_values.as_ref();
    Instance {
        name: given.db_instance_identifier.clone().unwrap_or_default(),
        resource_id: given.dbi_resource_id.clone().unwrap_or_default(),
        arn: given.db_instance_arn.clone().unwrap_or_default(),
        status: given.db_instance_status.clone().unwrap_or_default(),
        endpoint: endpoint.and_then(|place| place.address.clone().zip(place.port)),
        has_pending: pending.is_some_and(|one| {
            *one != aws_sdk_rds::types::PendingModifiedValues::builder().build()
        }),
        pending_name: pending.and_then(|one| one.db_instance_identifier.clone()),
        needs_reboot: given
            .db_parameter_groups()
            .iter()
            .any(|group| group.parameter_apply_status.as_deref() == Some("pending-reboot")),
        restorable_until: given.latest_restorable_time.map(|time| time.secs()),
        created: given.instance_create_time.map(|time| time.secs()),
        retention_days: given.backup_retention_period.unwrap_or(0),
        tags: given
            .tag_list()
            .iter()
            .filter_map(settings::named)
            .collect(),
        settings: Settings::of(given),
    }
}

fn tag_of(name: &str, value: &str) -> Tag {
    Tag::builder().key(name).value(value).build()
}
