//! What a server says about itself.

use std::collections::HashMap;

use super::server::Server;
use crate::{
    error::{EdgeError, ErrorKind},
    target::bytes_text,
};

/// The fields of `INFO` by name.
pub(super) struct Info(HashMap<String, String>);

impl Info {
    /// Asks `server`.
    pub(super) async fn read(server: &Server) -> Result<Self, EdgeError> {
        let text: String = server.ask("to show `INFO`", &::redis::cmd("INFO")).await?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        Self(
            text.lines()
                .filter_map(|line| line.trim_end().split_once(':'))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    /// Returns whether the server is a node of a cluster.
    pub(super) fn is_cluster(&self) -> bool {
        self.text("cluster_enabled") == "1"
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("unknown", String::as_str)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name)?.parse().ok()
    }

    /// Checks that a restore into this server would last.
    pub(super) fn check(&self, place: &str, allow_eviction: bool) -> Result<(), EdgeError> {
        let refuse = |kind, why: String| Err(EdgeError::new(kind, format!("{place} {why}")));
        if self.text("loading") == "1" {
            return refuse(ErrorKind::Busy, "is still loading its data".into());
        }
        if let Some(master) = self.master() {
            return refuse(
                ErrorKind::Refused,
                format!("is a read-only replica; write to its master at {master}"),
            );
        }
        // Refused even without a limit: one `CONFIG SET maxmemory` later the restore would lose keys in silence.
        if let Some(policy) = self.evicts().filter(|_| !allow_eviction) {
            return refuse(
                ErrorKind::Refused,
                format!(
                    "drops keys when memory is full (`maxmemory-policy {policy}`), so a restore may lose rows; \
                     set `noeviction` there, or `allow_eviction: true` in the plan"
                ),
            );
        }
        Ok(())
    }

    /// Returns the policy that drops keys when memory is full; `None` for one that drops none, and where the server does not say.
    pub(super) fn evicts(&self) -> Option<&str> {
        let policy = self.0.get("maxmemory_policy")?;
        (policy != "noeviction").then_some(policy)
    }

    /// Returns where the server copies from; `None` for a master.
    pub(super) fn master(&self) -> Option<String> {
        (self.text("role") == "slave")
            .then(|| format!("{}:{}", self.text("master_host"), self.text("master_port")))
    }

    /// Returns the bytes that are left below `maxmemory`; `None` without a limit.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        let limit = self.number("maxmemory").filter(|limit| *limit > 0)?;
        Some(limit.saturating_sub(self.number("used_memory")?))
    }

    /// Returns the numbers of the databases that hold keys, in their order.
    pub(super) fn databases(&self) -> Vec<i64> {
        // db2:keys=12,expires=0,avg_ttl=0
        let named = self.0.iter().filter_map(|(name, line)| {
            let holds = !line.starts_with("keys=0,") && line.starts_with("keys=");
            name.strip_prefix("db")?.parse().ok().filter(|_| holds)
        });
        let mut databases: Vec<i64> = named.collect();
        databases.sort_unstable();
        databases
    }

    /// Returns used memory in percent of `maxmemory`; `None` without a limit.
    pub(super) fn used_percent(&self) -> Option<f64> {
        let limit = self.number("maxmemory").filter(|limit| *limit > 0)?;
        Some(self.number("used_memory")? as f64 * 100.0 / limit as f64)
    }

    /// Returns what a dry run shows of these servers together, in this order.
    pub(super) fn facts(nodes: &[Self], db: i64) -> Vec<(String, String)> {
        let sum = |name: &str| {
            nodes
                .iter()
                .filter_map(|node| node.number(name))
                .sum::<u64>()
        };
        let all = |name: &str| {
            let mut texts: Vec<&str> = nodes.iter().map(|node| node.text(name)).collect();
            texts.sort_unstable();
            texts.dedup();
            texts.join(", ")
        };
        let used = sum("used_memory");
        // A cluster without a limit on one of its masters has none that could be summed up.
        let limits = nodes
            .iter()
            .map(|node| node.number("maxmemory").filter(|&limit| limit > 0));
        let memory = match limits.sum::<Option<u64>>() {
            Some(limit) => format!(
                "{} used of {}, {} free",
                bytes_text(used),
                bytes_text(limit),
                bytes_text(limit.saturating_sub(used))
            ),
            _ => format!("{} used, no limit", bytes_text(used)),
        };
        // db0:keys=12,expires=0,avg_ttl=0
        let keys: u64 = nodes
            .iter()
            .filter_map(|node| {
                let line = node.0.get(&format!("db{db}"))?.strip_prefix("keys=")?;
                line.split(',').next()?.parse::<u64>().ok()
            })
            .sum();
        let mut facts = vec![
            ("version", all("redis_version")),
            ("memory", memory),
            ("eviction policy", all("maxmemory_policy")),
            ("keys", keys.to_string()),
        ];
        if nodes.first().is_some_and(Self::is_cluster) {
            facts.insert(1, ("masters", nodes.len().to_string()));
        }
        facts
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(extra: &str) -> Info {
        Info::parse(&format!(
            "# Server\r\nredis_version:7.0.15\r\n{extra}\r\n# Keyspace\r\ndb2:keys=12,expires=0,avg_ttl=0\r\n"
        ))
    }

    fn kind(extra: &str, allow_eviction: bool) -> Option<ErrorKind> {
        info(extra)
            .check("redis at h:1/0", allow_eviction)
            .err()
            .map(|e| e.kind)
    }

    #[test]
    fn a_server_that_would_lose_rows_is_refused() {
        assert_eq!(
            kind("role:master\r\nmaxmemory_policy:noeviction", false),
            None
        );
        assert_eq!(
            kind("maxmemory_policy:allkeys-lru", false),
            Some(ErrorKind::Refused)
        );
        assert_eq!(kind("maxmemory_policy:allkeys-lru", true), None);
        assert_eq!(kind("role:slave", false), Some(ErrorKind::Refused));
        assert_eq!(kind("loading:1", false), Some(ErrorKind::Busy));
    }

    #[test]
    fn facts_show_the_room_that_is_left() {
        let nodes = [info(
            "used_memory:1048576\r\nmaxmemory:4194304\r\nmaxmemory_policy:noeviction",
        )];
        assert_eq!(
            Info::facts(&nodes, 2),
            [
                ("version", "7.0.15"),
                ("memory", "1.0 MiB used of 4.0 MiB, 3.0 MiB free"),
                ("eviction policy", "noeviction"),
                ("keys", "12"),
            ]
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
        );
        assert_eq!(Info::facts(&nodes, 0)[3].1, "0");
    }

    #[test]
    fn facts_of_a_cluster_are_added_up() {
        let node = |memory: &str| {
            info(&format!(
                "cluster_enabled:1\r\nmaxmemory_policy:noeviction\r\n{memory}"
            ))
        };
        let facts = |nodes: &[Info]| {
            let facts = Info::facts(nodes, 2);
            let values = facts.into_iter().map(|(_, value)| value);
            values.collect::<Vec<_>>()
        };
        let limited = || node("used_memory:1048576\r\nmaxmemory:4194304");
        assert_eq!(
            facts(&[limited(), limited()]),
            [
                "7.0.15",
                "2",
                "2.0 MiB used of 8.0 MiB, 6.0 MiB free",
                "noeviction",
                "24"
            ]
        );
        let open = node("used_memory:1048576\r\nmaxmemory:0");
        assert_eq!(facts(&[limited(), open])[2], "2.0 MiB used, no limit");
    }
}
