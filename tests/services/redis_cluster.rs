//! A cluster of three masters: every row is on the node of its slot, and what one of them loses, or hands over, is
//! noticed.

use std::{collections::HashMap, sync::Arc};

use rekindle::{
    chunk::Chunk,
    cursor::{Cursor, KeyValue},
    error::ErrorKind,
    ids::{ChunkSeq, PartitionId, RunId},
    plan::{Compression, RedisConfig, TargetConfig, ValueForm},
    target::{
        ChunkWriter, Evidence, Extent, Lease, LeaseOwner, PartitionKey, Recorded, Target, connect,
    },
};

use crate::{
    redis_server::{RedisServer, free_port},
    shop::{DEFAULTS, PLAN, Running, Shop, assert_same, resource, wait_until},
};

const ROWS: u64 = 20_000;

/// Three masters without replicas, each with a third of the slots.
pub struct RedisCluster {
    pub nodes: Vec<RedisServer>,
    bus_ports: Vec<u16>,
}

impl RedisCluster {
    /// Starts the servers and waits until each of them sees all slots served.
    pub fn start() -> Self {
        let (nodes, bus_ports): (Vec<_>, Vec<_>) = (0..3)
            .map(|_| {
                let bus = free_port();
                let node = RedisServer::start_with(&[
                    "--cluster-enabled",
                    "yes",
                    "--cluster-config-file",
                    "nodes.conf",
                    "--cluster-node-timeout",
                    "2000",
                    "--cluster-port",
                    &bus.to_string(),
                ]);
                (node, bus)
            })
            .unzip();
        let cluster = Self { nodes, bus_ports };
        for (node, slots) in cluster
            .nodes
            .iter()
            .zip(["0 5460", "5461 10922", "10923 16383"])
        {
            node.run(&format!("CLUSTER ADDSLOTSRANGE {slots}"));
        }
        for (node, bus) in cluster.nodes.iter().zip(&cluster.bus_ports).skip(1) {
            let meet = format!("CLUSTER MEET 127.0.0.1 {} {bus}", node.port());
            cluster.nodes[0].run(&meet);
        }
        cluster.wait_until_whole();
        cluster
    }

    fn wait_until_whole(&self) {
        wait_until("the cluster is whole", || {
            self.nodes.iter().all(|node| {
                let info: String = node.ask(0, redis::cmd("CLUSTER").arg("INFO"));
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            })
        });
    }

    fn id(&self, node: usize) -> String {
        self.nodes[node].ask(0, redis::cmd("CLUSTER").arg("MYID"))
    }

    /// Lets `slot` leave node `from` for node `to`: from now on both have a part of it.
    fn begin_to_move(&self, slot: u16, from: usize, to: usize) {
        let (from_id, to_id) = (self.id(from), self.id(to));
        self.nodes[to].run(&format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}"));
        self.nodes[from].run(&format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}"));
    }

    /// Moves what is left of `slot`, and tells everybody.
    fn finish_the_move(&self, slot: u16, from: usize, to: usize) {
        let keys: Vec<Vec<u8>> = self.nodes[from].ask(
            0,
            redis::cmd("CLUSTER")
                .arg("GETKEYSINSLOT")
                .arg(slot)
                .arg(100_000),
        );
        for key in keys {
            let mut migrate = redis::cmd("MIGRATE");
            migrate.arg("127.0.0.1").arg(self.nodes[to].port());
            let _moved: String = self.nodes[from].ask(0, migrate.arg(key).arg(0).arg(5_000));
        }
        let id = self.id(to);
        for node in [to, from] {
            self.nodes[node].run(&format!("CLUSTER SETSLOT {slot} NODE {id}"));
        }
    }

    /// Runs a command on the node that has its key.
    fn run(&self, words: &str) {
        let mut words = words.split(' ');
        let mut cmd = redis::cmd(words.next().expect("a command"));
        for word in words {
            cmd.arg(word);
        }
        let obeyed = self.nodes.iter().any(|node| {
            let client = redis::Client::open(node.url(0)).expect("a URL");
            let mut connection = client.get_connection().expect("redis answers");
            cmd.query::<redis::Value>(&mut connection).is_ok()
        });
        assert!(obeyed, "no node has the key");
    }

    fn key_count(&self) -> u64 {
        let counts = self
            .nodes
            .iter()
            .map(|node| node.ask::<u64>(0, &redis::cmd("DBSIZE")));
        counts.sum()
    }

    /// Returns everything that the nodes hold, asked of each by itself.
    pub fn content(&self) -> HashMap<Vec<u8>, Vec<u8>> {
        let mut content = HashMap::new();
        for node in &self.nodes {
            let keys: Vec<Vec<u8>> = node.ask(0, redis::cmd("KEYS").arg("*"));
            let client = redis::Client::open(node.url(0)).expect("a URL");
            let mut connection = client.get_connection().expect("redis answers");
            for keys in keys.chunks(5_000) {
                let mut pipe = redis::pipe();
                for key in keys {
                    pipe.get(key);
                }
                let values: Vec<Vec<u8>> = pipe.query(&mut connection).expect("values");
                for (key, value) in keys.iter().zip(values) {
                    assert!(
                        content.insert(key.clone(), value).is_none(),
                        "a key on two nodes"
                    );
                }
            }
        }
        content
    }

    fn target(&self) -> Arc<dyn Target> {
        let config = RedisConfig {
            url: self.nodes[1].url(0).into(),
            tls: None,
            prefix: "kv:".into(),
            allow_eviction: false,
            value: ValueForm::Raw,
            compress: Compression::None,
        };
        connect("storage", &TargetConfig::Redis(config)).expect("a usable target")
    }
}

/// A shop whose plan names one node of a cluster.
struct Clustered {
    shop: Shop,
    cluster: RedisCluster,
}

impl Clustered {
    async fn open(name: &str) -> Self {
        let mut shop = Shop::open(name).await;
        shop.table("url").await;
        shop.rows("url", 1, ROWS).await;
        shop.plan(&resource("url"), DEFAULTS);
        let cluster = RedisCluster::start();
        Self { shop, cluster }
    }

    fn start(&self, words: &str) -> Running {
        let mut command = self.shop.command(words);
        command.env("REDIS_URL", self.cluster.nodes[0].url(0));
        Running::start(command)
    }

    /// Starts a run and holds it when more than `keys` rows have arrived.
    fn held_at(&self, keys: u64) -> Running {
        let running = self.start(&format!("run {PLAN}"));
        self.hold_again(&running, keys);
        running
    }

    fn hold_again(&self, running: &Running, keys: u64) {
        wait_until("the run is on its way", || self.cluster.key_count() > keys);
        running.pause();
        assert!(self.cluster.key_count() < ROWS, "it was held too late");
    }

    async fn assert_whole(&mut self) {
        assert_same(&self.shop.wanted(&["url"]).await, &self.cluster.content());
    }
}

#[tokio::test]
async fn every_row_arrives_on_the_node_of_its_slot_and_nothing_else_stays() {
    let mut shop = Clustered::open("cluster").await;
    let shown = shop
        .start(&format!("run {PLAN} --dry-run"))
        .finish()
        .exits(0);
    assert!(shown.to_string().contains("masters 3"), "{shown}");
    assert_eq!(shop.cluster.key_count(), 0);
    shop.start(&format!("run {PLAN}")).finish().exits(0);
    shop.assert_whole().await;
    for node in &shop.cluster.nodes {
        let keys: u64 = node.ask(0, &redis::cmd("DBSIZE"));
        assert!(keys > ROWS / 4, "{keys} keys on one of three nodes");
    }
}

#[tokio::test]
async fn a_row_whose_key_the_user_may_not_write_is_a_dead_letter_and_the_others_arrive() {
    let mut shop = Clustered::open("forbidden").await;
    for node in &shop.cluster.nodes {
        node.run("ACL SETUSER writer on >pw ~kv:url:* ~rekindle:* &* +@all");
    }
    shop.shop
        .database
        .execute("UPDATE url SET `key` = CONCAT('secret:', id) WHERE id IN (17, 18, 4711)")
        .await;
    let run = |words: &str| {
        let mut command = shop.shop.command(words);
        let url = shop.cluster.nodes[0].url(0);
        command.env("REDIS_URL", url.replace("redis://", "redis://writer:pw@"));
        Running::start(command).finish()
    };
    let done = run(&format!("run {PLAN}")).exits(4);
    assert!(!done.to_string().contains("secret:"), "{done}");
    let letters = run(&format!("dead-letters list {PLAN} --json")).exits(0);
    assert!(
        letters.to_string().contains("no right to this key"),
        "{letters}"
    );
    let compared = run(&format!("verify {PLAN}")).exits(4);
    assert!(!compared.to_string().contains("NOPERM"), "{compared}");
    let mut wanted = shop.shop.wanted(&["url"]).await;
    wanted.retain(|key, _| !key.starts_with(b"kv:secret:"));
    assert_same(&wanted, &shop.cluster.content());
}

#[tokio::test]
async fn a_master_that_came_back_empty_is_noticed_though_the_others_hold_everything() {
    let mut shop = Clustered::open("cluster_empty").await;
    let running = shop.held_at(5_000);
    shop.cluster.nodes[2].kill();
    shop.cluster.nodes[2].launch();
    shop.cluster.wait_until_whole();
    let keys: u64 = shop.cluster.nodes[2].ask(0, &redis::cmd("DBSIZE"));
    assert_eq!(keys, 0);
    running.go_on();
    let done = running.finish().exits(0);
    done.line("`url` starts over");
    shop.assert_whole().await;
}

#[tokio::test]
async fn a_master_that_went_back_to_an_older_dump_takes_the_partitions_back_to_it() {
    let mut shop = Clustered::open("cluster_dump").await;
    let running = shop.held_at(3_000);
    shop.cluster.nodes[1].run("SAVE");
    running.go_on();
    shop.hold_again(&running, 7_000);
    shop.cluster.nodes[1].kill();
    shop.cluster.nodes[1].launch();
    shop.cluster.wait_until_whole();
    running.go_on();
    let done = running.finish().exits(0);
    assert!(done.stderr.contains("goes back in partition"), "{done}");
    assert!(!done.stderr.contains("starts over"), "{done}");
    shop.assert_whole().await;
}

#[tokio::test]
async fn rows_follow_a_slot_that_moves_in_mid_run_and_nothing_is_done_again() {
    // The slot of `kv:url:19998`, which is among the last rows of its partition.
    let slot = {
        let node = RedisServer::start_with(&[
            "--cluster-enabled",
            "yes",
            "--cluster-port",
            &free_port().to_string(),
        ]);
        node.ask::<u16>(0, redis::cmd("CLUSTER").arg("KEYSLOT").arg("kv:url:19998"))
    };
    let mut shop = Clustered::open("cluster_move").await;
    let from = usize::from(slot) / 5461;
    let to = (from + 1) % 3;
    let running = shop.held_at(5_000);
    shop.cluster.begin_to_move(slot, from, to);
    running.go_on();
    // Rows of the slot that arrive now are sent on to the other node.
    wait_until("a row was sent on", || {
        let count: u64 =
            shop.cluster.nodes[to].ask(0, redis::cmd("CLUSTER").arg("COUNTKEYSINSLOT").arg(slot));
        count > 0
    });
    shop.cluster.finish_the_move(slot, from, to);
    let done = running.finish().exits(0);
    assert!(!done.stderr.contains("starts over"), "{done}");
    shop.assert_whole().await;
}

#[tokio::test]
async fn a_slot_that_moved_between_two_chunks_is_found_at_its_new_node() {
    let mut shop = Clustered::open("cluster_moved").await;
    let running = shop.held_at(5_000);
    for slot in [17, 18, 19] {
        shop.cluster.begin_to_move(slot, 0, 2);
        shop.cluster.finish_the_move(slot, 0, 2);
    }
    running.go_on();
    let done = running.finish().exits(0);
    assert!(done.stderr.contains("trying again in"), "{done}");
    assert!(!done.stderr.contains("starts over"), "{done}");
    shop.assert_whole().await;
}

#[tokio::test]
async fn a_resource_that_fell_back_is_compared_on_every_master_and_only_differences_are_written() {
    let mut shop = Clustered::open("cluster_compare").await;
    shop.start(&format!("run {PLAN}")).finish().exits(0);
    // Another type, other bytes of the same length, another length, nothing: far behind where copying stops.
    let cluster = &shop.cluster;
    cluster.run("DEL kv:url:19001");
    cluster.run("RPUSH kv:url:19001 x");
    let same_length = format!("{{\"id\":19002,\"hash\":\"{}\"}}", "x".repeat(32));
    cluster.run(&format!("SET kv:url:19002 {same_length}"));
    cluster.run("SET kv:url:19003 stale");
    cluster.run("DEL kv:url:19004");
    shop.shop
        .database
        .execute(
            "UPDATE url SET data = NULL WHERE id % 3 = 0; UPDATE url SET fk = id; \
             CREATE TABLE entity (id INT NOT NULL PRIMARY KEY); INSERT INTO entity SELECT id FROM url",
        )
        .await;
    let mending = "UPDATE url SET data = MD5(id) WHERE data IS NULL AND fk IN ({ids})";
    let fallback = format!(
        "    fallback: {{ ids: {{ table: entity, column: id }}, by: {{ sql: {{ url: \"${{DATABASE_URL}}\", \
         statement: \"{mending}\" }} }} }}\n"
    );
    shop.shop
        .plan(&format!("{}{fallback}", resource("url")), DEFAULTS);
    for node in &shop.cluster.nodes {
        node.run("CONFIG RESETSTAT");
    }
    let done = shop.start(&format!("run {PLAN}")).finish().exits(0);
    done.line("goes to its publisher");
    shop.assert_whole().await;
    let written: u64 = shop.cluster.nodes.iter().map(sets).sum();
    // A third was regenerated; what was copied before is little, and the rest is not written again.
    let regenerated = ROWS / 3;
    assert!(
        (regenerated..regenerated + 3_000).contains(&written),
        "{written} SETs for {regenerated} rows"
    );
}

/// Returns how many `SET`s a node carried out.
fn sets(node: &RedisServer) -> u64 {
    let stats: String = node.ask(0, redis::cmd("INFO").arg("commandstats"));
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_set:calls="));
    line.map_or(0, |line| {
        let (calls, _) = line.split_once(',').expect("more figures");
        calls.parse().expect("a number")
    })
}

fn owner(state: &str) -> LeaseOwner {
    LeaseOwner {
        state: state.into(),
        state_path: format!("/srv/state/{state}.sqlite"),
        host: "batch-2".into(),
        pid: 4121,
        run: RunId::from_text(if state == "ours" { "7F3K2M" } else { "8PDQC3" }),
    }
}

fn partition() -> PartitionKey {
    PartitionKey {
        resource: "url".into(),
        id: PartitionId(31),
        ordinal: 1,
        extent: Extent::Whole,
    }
}

async fn write(writer: &mut Box<dyn ChunkWriter>, seq: u64, value: &str) -> Result<(), ErrorKind> {
    let mut chunk = Chunk::default();
    for i in 0..300u64 {
        let cursor = Cursor::single(KeyValue::Uint(i));
        chunk.push(
            &cursor.0,
            format!("row:{i}").as_bytes(),
            value.as_bytes(),
            &[],
        );
    }
    let written = writer.write(ChunkSeq(seq), &chunk).await;
    written.map(drop).map_err(|error| error.kind)
}

async fn evidence(target: &dyn Target, chunk: u64) -> Evidence {
    let recorded = Recorded {
        partition: partition(),
        chunk: ChunkSeq(chunk),
        length: None,
        incarnation: None,
    };
    let run = RunId::from_text("7F3K2M");
    target.evidence(&run, &[recorded]).await.expect("evidence")[0]
}

#[tokio::test]
async fn the_evidence_of_a_cluster_is_that_of_the_node_which_holds_least() {
    let cluster = RedisCluster::start();
    let target = cluster.target();
    target.identity().await.expect("a cluster");
    assert_eq!(
        target.take_lease(&owner("ours")).await.expect("a lease"),
        Lease::Held
    );
    let run = RunId::from_text("7F3K2M");
    let mut writer = target
        .writer(&run, &partition(), ChunkSeq(0), None)
        .await
        .expect("a writer");
    for seq in 1..=3 {
        write(&mut writer, seq, "v").await.expect("written");
    }
    assert_eq!(evidence(&*target, 3).await, Evidence::Stands);
    cluster.nodes[0].run("FLUSHALL");
    assert_eq!(
        evidence(&*target, 3).await,
        Evidence::UpToChunk(ChunkSeq(0))
    );
    assert_eq!(
        write(&mut writer, 4, "v").await,
        Err(ErrorKind::EvidenceLost)
    );
}

#[tokio::test]
async fn a_writer_that_lost_its_lease_writes_nothing_more_on_any_node() {
    let cluster = RedisCluster::start();
    let (first, second) = (cluster.target(), cluster.target());
    let run = RunId::from_text("7F3K2M");
    assert_eq!(
        first.take_lease(&owner("ours")).await.expect("a lease"),
        Lease::Held
    );
    let taken = second
        .take_lease(&owner("theirs"))
        .await
        .expect("an answer");
    assert_eq!(taken, Lease::TakenBy(owner("ours")));
    let mut late = first
        .writer(&run, &partition(), ChunkSeq(0), None)
        .await
        .expect("a writer");
    write(&mut late, 1, "ours").await.expect("written");

    // As if it had been stopped for longer than its leases last.
    for node in &cluster.nodes {
        let leases: Vec<String> = node.ask(0, redis::cmd("KEYS").arg("rekindle:*:lease"));
        assert!(!leases.is_empty());
        for lease in leases {
            node.run(&format!("DEL {lease}"));
        }
    }
    assert_eq!(
        second.take_lease(&owner("theirs")).await.expect("a lease"),
        Lease::Held
    );
    let other = RunId::from_text("8PDQC3");
    let mut writer = second
        .writer(&other, &partition(), ChunkSeq(0), None)
        .await
        .expect("a writer");
    write(&mut writer, 1, "theirs").await.expect("written");

    // Its connections were ended, and when it connects again it finds another's claim.
    assert_eq!(
        write(&mut late, 2, "late").await,
        Err(ErrorKind::Connection)
    );
    assert_eq!(write(&mut late, 2, "late").await, Err(ErrorKind::LeaseLost));
    write(&mut writer, 2, "theirs")
        .await
        .expect("nobody disturbed it");
    let content = cluster.content();
    let rows = content.iter().filter(|(key, _)| key.starts_with(b"kv:"));
    let rows: Vec<_> = rows.collect();
    assert_eq!(rows.len(), 300);
    assert!(rows.iter().all(|(_, value)| *value == b"theirs"));
}
