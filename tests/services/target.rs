//! The Redis target against a real server.

use std::{
    env, fs,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use redis::cmd;
use rekindle::{
    chunk::Chunk,
    cursor::{Cursor, KeyValue},
    error::{EdgeError, ErrorKind},
    ids::{ChunkSeq, PartitionId, RunId},
    plan::{Compression, RedisConfig, TargetConfig, ValueForm},
    target::{
        ChunkWriter, Evidence, Extent, Lease, LeaseOwner, PartitionKey, Recorded, RedisTarget,
        Target, connect,
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};

use crate::redis_server::{RedisServer, free_port};

const RUN: &str = "7F3K2M";
const MARKER: &[u8] = b"rekindle:7F3K2M:31";

fn config(url: &str) -> RedisConfig {
    RedisConfig {
        url: url.into(),
        tls: None,
        prefix: "kv:".into(),
        value: ValueForm::Raw,
        compress: Compression::None,
        allow_eviction: false,
    }
}

fn target_at(url: &str) -> Arc<dyn Target> {
    connect("storage", &TargetConfig::Redis(config(url))).expect("a usable target")
}

fn target(server: &RedisServer) -> Arc<dyn Target> {
    target_at(&server.url(0))
}

fn partition(id: u64) -> PartitionKey {
    PartitionKey {
        resource: "url".into(),
        id: PartitionId(id),
        ordinal: 1,
        extent: Extent::Whole,
    }
}

async fn writer(target: &dyn Target) -> Box<dyn ChunkWriter> {
    assert_eq!(target.take_lease(&owner("a")).await.unwrap(), Lease::Held);
    writer_of(target).await
}

/// Returns a writer of whoever holds the lease.
async fn writer_of(target: &dyn Target) -> Box<dyn ChunkWriter> {
    target
        .writer(&RunId::from_text(RUN), &partition(31), ChunkSeq(0), None)
        .await
        .expect("a writer")
}

/// Returns the chunk that the marker names.
fn marked(server: &RedisServer) -> Option<u64> {
    let marker = String::from_utf8(server.get(MARKER)?).unwrap();
    marker.split(' ').next()?.parse().ok()
}

/// Returns why there is no writer: it asks first whether the server is one of a cluster.
async fn refused_writer(target: &dyn Target) -> EdgeError {
    target
        .writer(&RunId::from_text(RUN), &partition(31), ChunkSeq(0), None)
        .await
        .err()
        .expect("no writer")
}

async fn evidence(target: &dyn Target, chunk: u64) -> Evidence {
    let recorded = Recorded {
        partition: partition(31),
        chunk: ChunkSeq(chunk),
        length: None,
        incarnation: None,
    };
    target
        .evidence(&RunId::from_text(RUN), &[recorded])
        .await
        .expect("evidence")[0]
}

fn chunk<K: AsRef<[u8]>, V: AsRef<[u8]>>(rows: &[(K, V)]) -> Chunk {
    let mut chunk = Chunk::default();
    for (i, (key, value)) in rows.iter().enumerate() {
        let cursor = Cursor::single(KeyValue::Uint(i as u64));
        chunk.push(&cursor.0, key.as_ref(), value.as_ref(), &[]);
    }
    chunk
}

async fn write(
    writer: &mut Box<dyn ChunkWriter>,
    seq: u64,
    rows: &[(&str, &str)],
) -> Result<(), EdgeError> {
    writer.write(ChunkSeq(seq), &chunk(rows)).await.map(|_| ())
}

fn owner(state: &str) -> LeaseOwner {
    LeaseOwner {
        state: state.into(),
        state_path: format!("/srv/state/{state}.sqlite"),
        host: "batch-2".into(),
        pid: 4121,
        run: RunId::from_text(RUN),
    }
}

#[tokio::test]
async fn d2_bytes_arrive_as_they_are() {
    let server = RedisServer::start();
    let target = target(&server);
    let mut writer = writer(&*target).await;
    let rows: Vec<(&[u8], Vec<u8>)> = vec![
        ("größe:ключ:🛒".as_bytes(), "wert ✓".as_bytes().to_vec()),
        (b"\0\xff\xfe binary\r\n", b"\0\r\n$5\r\n\xc3\x28".to_vec()),
        (b"", b"no key but the prefix".to_vec()),
        (b"empty", Vec::new()),
        (b"twice", b"first".to_vec()),
        (b"1mb", vec![b'm'; 1024 * 1024]),
        (
            b"20mb",
            (0..20 * 1024 * 1024)
                .map(|i| b"0123456789abc"[i % 13])
                .collect(),
        ),
        (b"twice", b"second".to_vec()),
    ];
    let written = writer.write(ChunkSeq(1), &chunk(&rows)).await.unwrap();
    assert_eq!(written.rejected, []);
    for (key, value) in rows.iter().filter(|(key, _)| *key != b"twice") {
        let found = server.get(&[b"kv:", *key].concat());
        assert!(found.as_ref() == Some(value), "{}", key.escape_ascii());
    }
    assert_eq!(server.get(b"kv:twice").unwrap(), b"second");
    assert_eq!(marked(&server), Some(1));
    let keys: u64 = server.ask(0, &cmd("DBSIZE"));
    assert_eq!(keys, 10, "seven rows, lease, claim and marker");
}

#[tokio::test]
async fn a_chunk_of_many_msets_arrives_whole() {
    let server = RedisServer::start();
    let target = target(&server);
    let mut writer = writer(&*target).await;
    let rows: Vec<(String, String)> = (0..3_500)
        .map(|i| (format!("url:{i}"), format!("{i}").repeat(100)))
        .collect();
    for seq in 1..=3 {
        writer.write(ChunkSeq(seq), &chunk(&rows)).await.unwrap();
    }
    assert_eq!(
        server.get(b"kv:url:3499").unwrap(),
        "3499".repeat(100).as_bytes()
    );
    let keys: u64 = server.ask(0, &cmd("DBSIZE"));
    assert_eq!(keys, 3_503);
    assert_eq!(evidence(&*target, 3).await, Evidence::Stands);
    assert_eq!(
        evidence(&*target, 4).await,
        Evidence::UpToChunk(ChunkSeq(3))
    );
}

#[tokio::test]
async fn the_database_of_the_url_is_written() {
    let server = RedisServer::start();
    let target = target_at(&server.url(5));
    assert_eq!(target.identity().await.unwrap(), server.url(5));
    let mut writer = writer(&*target).await;
    write(&mut writer, 1, &[("a", "1")]).await.unwrap();
    assert_eq!(server.get(b"kv:a"), None);
    let there: Vec<u8> = server.ask(5, cmd("GET").arg("kv:a"));
    assert_eq!(there, b"1");
    assert!(
        target
            .facts()
            .await
            .unwrap()
            .contains(&("keys".into(), "4".into()))
    );

    let nowhere = target_at(&server.url(999));
    assert_eq!(
        nowhere.identity().await.unwrap_err().kind,
        ErrorKind::Missing
    );
}

#[tokio::test]
async fn an_empty_chunk_still_writes_its_marker() {
    let server = RedisServer::start();
    let target = target(&server);
    let mut writer = writer(&*target).await;
    write(&mut writer, 1, &[]).await.unwrap();
    write(&mut writer, 2, &[]).await.unwrap();
    assert_eq!(evidence(&*target, 2).await, Evidence::Stands);
}

#[tokio::test]
async fn rows_that_would_overwrite_the_evidence_are_rejected() {
    let server = RedisServer::start();
    let bare = RedisConfig {
        prefix: String::new(),
        ..config(&server.url(0))
    };
    let target = connect("storage", &TargetConfig::Redis(bare)).unwrap();
    let mut writer = writer(&*target).await;
    let rows = [
        ("a", "1"),
        ("rekindle:7F3K2M:31", "9"),
        ("rekindle:lease", "x"),
        ("rekindle:writer", "x"),
        ("b", "2"),
    ];
    let written = writer.write(ChunkSeq(1), &chunk(&rows)).await.unwrap();
    let rejected: Vec<usize> = written.rejected.iter().map(|r| r.row).collect();
    assert_eq!(rejected, [1, 2, 3]);
    assert_eq!(marked(&server), Some(1));
    assert_eq!(server.get(b"b").unwrap(), b"2");
}

#[tokio::test]
async fn rows_whose_keys_the_user_may_not_write_are_rejected_and_all_others_arrive() {
    let server = RedisServer::start();
    server.run("ACL SETUSER writer on >pw ~kv:a* ~rekindle:* &* +@all");
    let target = target_at(&format!("redis://writer:pw@127.0.0.1:{}/0", server.port()));
    let mut writer = writer(&*target).await;
    let rows: Vec<(String, String)> = (0..2_500)
        .map(|n| {
            (
                format!("{}{n}", if n % 700 == 3 { "secret-" } else { "a" }),
                n.to_string(),
            )
        })
        .collect();
    let rows: Vec<(&str, &str)> = rows.iter().map(|(key, value)| (&**key, &**value)).collect();
    let written = writer.write(ChunkSeq(1), &chunk(&rows)).await.unwrap();
    let rejected: Vec<usize> = written.rejected.iter().map(|one| one.row).collect();
    assert_eq!(rejected, [3, 703, 1403, 2103]);
    for one in &written.rejected {
        assert_eq!(one.reason, "the user of redis has no right to this key");
    }
    assert_eq!(marked(&server), Some(1));
    // The marker, the lease and what goes with it are beside the rows.
    let keys = server.ask::<Vec<String>>(0, redis::cmd("KEYS").arg("kv:*"));
    assert_eq!(keys.len(), 2_496);
    // A chunk of nothing else, and one that is as it should be.
    let written = writer
        .write(ChunkSeq(2), &chunk(&[("secret", "1")]))
        .await
        .unwrap();
    assert_eq!(written.rejected.len(), 1);
    write(&mut writer, 3, &[("a", "3")]).await.unwrap();
    assert_eq!(marked(&server), Some(3));
}

#[tokio::test]
async fn a_flush_between_chunks_is_noticed_and_nothing_claims_otherwise() {
    for flush in ["FLUSHDB", "FLUSHALL ASYNC", "DEL rekindle:7F3K2M:31"] {
        let server = RedisServer::start();
        let target = target(&server);
        let mut writer = writer(&*target).await;
        write(&mut writer, 1, &[("a", "1")]).await.unwrap();
        write(&mut writer, 2, &[("b", "2")]).await.unwrap();
        server.run(flush);
        let lost = write(&mut writer, 3, &[("c", "3")]).await.unwrap_err();
        assert_eq!(lost.kind, ErrorKind::EvidenceLost, "{flush}");
        assert_eq!(server.get(b"kv:c"), None, "{flush}");
        assert_eq!(
            evidence(&*target, 2).await,
            Evidence::UpToChunk(ChunkSeq(0))
        );

        // And again on a fresh connection, until the engine goes back.
        let again = write(&mut writer, 3, &[("c", "3")]).await.unwrap_err();
        assert_eq!(again.kind, ErrorKind::EvidenceLost);
        write(&mut writer, 1, &[("a", "1")]).await.unwrap();
        write(&mut writer, 2, &[("b", "2")]).await.unwrap();
        assert_eq!(evidence(&*target, 2).await, Evidence::Stands);
    }
}

#[tokio::test]
async fn content_that_was_put_back_whole_is_looked_at_and_kept() {
    let server = RedisServer::start();
    let target = target(&server);
    let mut writer = writer(&*target).await;
    write(&mut writer, 1, &[("a", "1")]).await.unwrap();
    server.run("DEBUG RELOAD");
    let touched = write(&mut writer, 2, &[("b", "2")]).await.unwrap_err();
    assert_eq!(touched.kind, ErrorKind::Busy);
    assert_eq!(server.get(b"kv:b"), None);
    write(&mut writer, 2, &[("b", "2")]).await.unwrap();
    assert_eq!(evidence(&*target, 2).await, Evidence::Stands);
}

#[tokio::test]
async fn a_restart_with_empty_memory_is_noticed() {
    let mut server = RedisServer::start();
    let target = target(&server);
    let mut writer = writer(&*target).await;
    write(&mut writer, 1, &[("a", "1")]).await.unwrap();
    assert_eq!(evidence(&*target, 1).await, Evidence::Stands);
    server.kill();
    let down = write(&mut writer, 2, &[("b", "2")]).await.unwrap_err();
    assert_eq!(down.kind, ErrorKind::Connection);
    let refused = write(&mut writer, 2, &[("b", "2")]).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Connection);
    assert_eq!(
        refused.message,
        format!(
            "connection refused by redis at 127.0.0.1:{}/0",
            server.port()
        )
    );
    server.launch();
    // The control connection died with the old server; the call after that finds the new one.
    let died = target
        .facts()
        .await
        .expect_err("the old connection is gone");
    assert_eq!(died.kind, ErrorKind::Connection);
    let lost = write(&mut writer, 2, &[("b", "2")]).await.unwrap_err();
    assert_eq!(lost.kind, ErrorKind::EvidenceLost);
    assert_eq!(
        evidence(&*target, 1).await,
        Evidence::UpToChunk(ChunkSeq(0))
    );
}

#[tokio::test]
async fn an_older_dump_is_noticed_and_says_how_far_it_goes() {
    let mut server = RedisServer::start();
    let target = target(&server);
    let mut writer = writer(&*target).await;
    write(&mut writer, 1, &[("a", "1")]).await.unwrap();
    write(&mut writer, 2, &[("b", "2")]).await.unwrap();
    server.run("SAVE");
    for seq in 3..=5 {
        write(&mut writer, seq, &[("c", "3")]).await.unwrap();
    }
    server.kill();
    server.launch();
    target
        .facts()
        .await
        .expect_err("the old connection is gone");
    assert_eq!(
        evidence(&*target, 5).await,
        Evidence::UpToChunk(ChunkSeq(2))
    );
    // The first write finds the connection closed, the second looks.
    assert_eq!(
        write(&mut writer, 6, &[("d", "4")]).await.unwrap_err().kind,
        ErrorKind::Connection
    );
    let lost = write(&mut writer, 6, &[("d", "4")]).await.unwrap_err();
    assert_eq!(lost.kind, ErrorKind::EvidenceLost);
    assert!(
        lost.message
            .contains("holds chunk 2 as the last one, not 5"),
        "{lost}"
    );
    assert_eq!(
        evidence(&*target, 5).await,
        Evidence::UpToChunk(ChunkSeq(2))
    );
    write(&mut writer, 3, &[("c", "3")]).await.unwrap();
    assert_eq!(evidence(&*target, 3).await, Evidence::Stands);
}

#[tokio::test]
async fn a_chunk_whose_answer_was_lost_is_written_again() {
    let server = RedisServer::start();
    let target = target(&server);
    let mut first = writer(&*target).await;
    write(&mut first, 1, &[("a", "1")]).await.unwrap();
    write(&mut first, 2, &[("b", "2")]).await.unwrap();
    // The next process knows of chunk 1 only.
    let mut second = writer(&*target).await;
    write(&mut second, 2, &[("b", "2")]).await.unwrap();
    write(&mut second, 3, &[("c", "3")]).await.unwrap();
    // What the first one still has on its way finds its marker touched.
    let late = write(&mut first, 3, &[("c", "stale")]).await.unwrap_err();
    assert_eq!(late.kind, ErrorKind::Busy);
    assert_eq!(server.get(b"kv:c").unwrap(), b"3");
}

#[tokio::test]
async fn full_memory_is_named_and_the_last_mset_leaves_nothing() {
    let server = RedisServer::start();
    let target = target(&server);
    let mut writer = writer(&*target).await;
    write(&mut writer, 1, &[("a", "1")]).await.unwrap();
    server.run("CONFIG SET maxmemory 1mb");
    let rows: Vec<(String, String)> = (0..900)
        .map(|i| (format!("full:{i}"), "x".repeat(500)))
        .collect();
    let full = writer.write(ChunkSeq(2), &chunk(&rows)).await.unwrap_err();
    assert_eq!(full.kind, ErrorKind::TargetMemory);
    assert_eq!(
        full.message,
        format!(
            "redis at 127.0.0.1:{}/0 refused the write: used memory is above maxmemory",
            server.port()
        )
    );
    assert_eq!(server.get(b"kv:full:0"), None);
    assert_eq!(marked(&server), Some(1));
    // Nor does a chunk of several MSETs claim to be there.
    let large: Vec<(String, String)> = (0..5)
        .map(|i| (format!("large:{i}"), "x".repeat(300_000)))
        .collect();
    let full = writer.write(ChunkSeq(2), &chunk(&large)).await.unwrap_err();
    assert_eq!(full.kind, ErrorKind::TargetMemory);
    assert_eq!(marked(&server), Some(1));

    server.run("CONFIG SET maxmemory 0");
    writer.write(ChunkSeq(2), &chunk(&rows)).await.unwrap();
    assert_eq!(
        server.get(b"kv:full:899").unwrap(),
        "x".repeat(500).as_bytes()
    );
    assert_eq!(evidence(&*target, 2).await, Evidence::Stands);
}

#[tokio::test]
async fn a_wrong_password_is_one_of_credentials_and_is_never_shown() {
    let server = RedisServer::start_with(&["--requirepass", "hunter2"]);
    let url = |login: &str| format!("redis://{login}127.0.0.1:{}/0", server.port());
    for login in ["", ":canary@", "nobody:canary@"] {
        let target = target_at(&url(login));
        let error = target.identity().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Credentials, "{login}");
        assert!(!format!("{error:?}").contains("canary"));
        let error = refused_writer(&*target).await;
        assert_eq!(error.kind, ErrorKind::Credentials, "{login}");
        assert!(!format!("{error:?}").contains("canary"));
    }
    for login in [":hunter2@", "default:hunter2@"] {
        let target = target_at(&url(login));
        target.identity().await.unwrap();
        let mut writer = writer(&*target).await;
        write(&mut writer, 1, &[("a", "1")]).await.unwrap();
    }
}

#[tokio::test]
async fn a_user_without_rights_is_one_of_credentials() {
    let server = RedisServer::start();
    server.run("ACL SETUSER reader on >pw ~* +@read +@connection");
    let target = target_at(&format!("redis://reader:pw@127.0.0.1:{}/0", server.port()));
    let error = refused_writer(&*target).await;
    assert_eq!(error.kind, ErrorKind::Credentials);
    // With the right to look but not to write, the write itself is refused.
    server.run("ACL SETUSER reader +info");
    let mut writer = writer_of(&*target).await;
    let error = write(&mut writer, 1, &[("secret-key", "1")])
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Credentials);
    assert!(!error.message.contains("secret-key"));
}

#[tokio::test]
async fn a_server_that_is_down_is_a_connection_error() {
    let target = target_at(&format!("redis://127.0.0.1:{}/0", free_port()));
    let error = target.identity().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Connection);
    assert!(
        error
            .message
            .starts_with("connection refused by redis at 127.0.0.1:")
    );
}

#[tokio::test]
async fn r6_an_answer_that_is_late_is_a_timeout_and_the_next_chunk_goes_through() {
    let server = RedisServer::start();
    let limit = Duration::from_millis(100);
    let target =
        RedisTarget::with_response_timeout("storage", &config(&server.url(0)), limit).unwrap();
    let mut writer = writer(&target).await;
    write(&mut writer, 1, &[("a", "1")]).await.unwrap();
    target.identity().await.unwrap();
    let url = server.url(0);
    let (asleep, wait) = tokio::sync::oneshot::channel();
    let sleeper = tokio::task::spawn_blocking(move || {
        let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
        let mut sleep = Vec::new();
        for word in ["DEBUG", "SLEEP", "1"] {
            sleep.push(word);
        }
        let mut debug = cmd(sleep[0]);
        debug.arg(&sleep[1..]);
        connection
            .send_packed_command(&debug.get_packed_command())
            .unwrap();
        asleep.send(()).unwrap();
        connection.recv_response().unwrap();
    });
    wait.await.unwrap();
    // The server may answer a few chunks before it reads its order to sleep.
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut seq = 2;
    let late = loop {
        assert!(Instant::now() < deadline, "no write was late");
        match write(&mut writer, seq, &[("b", "2")]).await {
            Ok(()) => seq += 1,
            Err(late) => break late,
        }
    };
    assert_eq!(late.kind, ErrorKind::Timeout);
    assert_eq!(target.facts().await.unwrap_err().kind, ErrorKind::Timeout);
    sleeper.await.unwrap();
    write(&mut writer, seq, &[("b", "2")]).await.unwrap();
    target.facts().await.unwrap();
}

#[tokio::test]
async fn a_stopped_wait_does_not_spoil_the_next_chunk() {
    let server = RedisServer::start();
    let target = target(&server);
    let mut writer = writer(&*target).await;
    write(&mut writer, 1, &[("a", "1")]).await.unwrap();
    let large = vec![b'x'; 8 * 1024 * 1024];
    let big = chunk(&[("big", &large)]);
    {
        // Polled once: part of the command is on its way.
        let stopped = writer.write(ChunkSeq(2), &big);
        tokio::select! {
            biased;
            _ = stopped => panic!("8 MB went through at once"),
            () = std::future::ready(()) => {}
        }
    }
    writer.write(ChunkSeq(2), &big).await.unwrap();
    assert!(server.get(b"kv:big").unwrap() == large);
    assert_eq!(evidence(&*target, 2).await, Evidence::Stands);
}

#[tokio::test]
async fn two_states_never_both_hold_the_lease() {
    let server = RedisServer::start();
    let (one, two) = (target(&server), target(&server));
    let (ours, theirs) = (owner("a"), owner("b"));
    assert_eq!(one.lease_owner().await.unwrap(), None);
    assert_eq!(one.take_lease(&ours).await.unwrap(), Lease::Held);
    assert_eq!(
        two.take_lease(&theirs).await.unwrap(),
        Lease::TakenBy(ours.clone())
    );
    assert_eq!(
        two.renew_lease(&theirs).await.unwrap(),
        Lease::TakenBy(ours.clone())
    );
    two.release_lease(&theirs).await.unwrap();
    assert_eq!(two.lease_owner().await.unwrap(), Some(ours.clone()));
    let left: i64 = server.ask(0, cmd("PTTL").arg("rekindle:lease"));
    assert!((25_000..=30_000).contains(&left), "{left} ms");

    // The same state file in a new process.
    let reborn = LeaseOwner {
        pid: 4122,
        ..ours.clone()
    };
    assert_eq!(two.take_lease(&reborn).await.unwrap(), Lease::Held);
    assert_eq!(two.lease_owner().await.unwrap(), Some(reborn.clone()));

    one.release_lease(&ours).await.unwrap();
    assert_eq!(two.lease_owner().await.unwrap(), None);
    assert_eq!(two.take_lease(&theirs).await.unwrap(), Lease::Held);
}

#[tokio::test]
async fn a_lease_that_ran_out_or_vanished_is_free_and_a_renewal_prolongs() {
    let server = RedisServer::start();
    let (one, two) = (target(&server), target(&server));
    let (ours, theirs) = (owner("a"), owner("b"));
    one.take_lease(&ours).await.unwrap();
    server.run("PEXPIRE rekindle:lease 5000");
    assert_eq!(one.renew_lease(&ours).await.unwrap(), Lease::Held);
    let left: i64 = server.ask(0, cmd("PTTL").arg("rekindle:lease"));
    assert!(left > 5_000, "{left} ms");

    server.run("FLUSHDB");
    assert_eq!(one.renew_lease(&ours).await.unwrap(), Lease::Held);
    assert_eq!(two.lease_owner().await.unwrap(), Some(ours.clone()));

    // In the past: it runs out now.
    server.run("PEXPIRE rekindle:lease -1");
    assert_eq!(two.take_lease(&theirs).await.unwrap(), Lease::Held);
    assert_eq!(
        one.renew_lease(&ours).await.unwrap(),
        Lease::TakenBy(theirs)
    );
}

#[tokio::test]
async fn a_lease_is_renewed_while_memory_is_full() {
    let server = RedisServer::start();
    let target = target(&server);
    target.take_lease(&owner("a")).await.unwrap();
    server.run("CONFIG SET maxmemory 1");
    assert_eq!(target.renew_lease(&owner("a")).await.unwrap(), Lease::Held);
    server.run("CONFIG SET maxmemory 0");
    target.release_lease(&owner("a")).await.unwrap();
    server.run("CONFIG SET maxmemory 1");
    let full = target.take_lease(&owner("a")).await.unwrap_err();
    assert_eq!(full.kind, ErrorKind::TargetMemory);
}

#[tokio::test]
async fn a_strange_value_under_the_leases_key_is_not_overwritten() {
    let server = RedisServer::start();
    let target = target(&server);
    for strange in ["SET rekindle:lease hello", "SET rekindle:lease 7"] {
        server.run(strange);
        let error = target.take_lease(&owner("a")).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused);
        assert!(error.message.contains("`rekindle:lease`"), "{error}");
    }
    server.run("DEL rekindle:lease");
    server.run("RPUSH rekindle:lease x");
    let error = target.take_lease(&owner("a")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
}

#[tokio::test]
async fn a_policy_that_drops_keys_is_refused_unless_the_plan_allows_it() {
    let server = RedisServer::start_with(&["--maxmemory-policy", "allkeys-lru"]);
    let error = target(&server).identity().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(
        error.message.contains("`maxmemory-policy allkeys-lru`"),
        "{error}"
    );
    let allowed = RedisConfig {
        allow_eviction: true,
        ..config(&server.url(0))
    };
    let target = connect("storage", &TargetConfig::Redis(allowed)).unwrap();
    target.identity().await.unwrap();
}

#[tokio::test]
async fn a_replica_is_refused_at_the_start_and_waited_for_later() {
    let server = RedisServer::start();
    let target = target(&server);
    target.identity().await.unwrap();
    let mut writer = writer(&*target).await;
    write(&mut writer, 1, &[("a", "1")]).await.unwrap();
    // A master that is never reached, so that the replica keeps its content.
    let master = free_port();
    server.run(&format!("REPLICAOF 127.0.0.1 {master}"));
    let error = target.identity().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(
        error.message.contains(&format!("127.0.0.1:{master}")),
        "{error}"
    );
    let error = write(&mut writer, 2, &[("b", "2")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Busy);
    server.run("REPLICAOF NO ONE");
    write(&mut writer, 2, &[("b", "2")]).await.unwrap();
}

#[tokio::test]
async fn markers_are_forgotten_and_rows_stay() {
    let server = RedisServer::start();
    let target = target(&server);
    let mut writer = writer(&*target).await;
    write(&mut writer, 1, &[("a", "1")]).await.unwrap();
    for _ in 0..2 {
        target
            .forget(&RunId::from_text(RUN), &[partition(31), partition(32)])
            .await
            .unwrap();
    }
    target
        .clear(&partition(31).resource, &Extent::Whole)
        .await
        .unwrap();
    assert_eq!(server.get(MARKER), None);
    assert_eq!(server.get(b"kv:a").unwrap(), b"1");
}

#[tokio::test]
async fn what_was_stored_before_another_run_wrote_here_proves_nothing() {
    for other_is_done in [false, true] {
        let server = RedisServer::start();
        let (first, second) = (target(&server), target(&server));
        let mut ours = writer(&*first).await;
        write(&mut ours, 1, &[("a", "ours")]).await.unwrap();
        write(&mut ours, 2, &[("b", "ours")]).await.unwrap();
        first.release_lease(&owner("a")).await.unwrap();

        let other = LeaseOwner {
            run: RunId::from_text("OTHER1"),
            ..owner("b")
        };
        assert_eq!(second.take_lease(&other).await.unwrap(), Lease::Held);
        let mut theirs = second
            .writer(&other.run, &partition(7), ChunkSeq(0), None)
            .await
            .unwrap();
        write(&mut theirs, 1, &[("a", "theirs")]).await.unwrap();
        if other_is_done {
            second.retire(&other.run, &[partition(7)]).await.unwrap();
        }
        second.release_lease(&other).await.unwrap();

        // The next process of the first run, killed again before it could journal what it found.
        for _ in 0..2 {
            let third = target(&server);
            assert_eq!(third.take_lease(&owner("a")).await.unwrap(), Lease::Held);
            let found = evidence(&*third, 2).await;
            assert_eq!(found, Evidence::UpToChunk(ChunkSeq(0)));
            let mut writer = writer_of(&*third).await;
            let lost = write(&mut writer, 3, &[("c", "3")]).await.unwrap_err();
            assert_eq!(lost.kind, ErrorKind::EvidenceLost);
            assert_eq!(server.get(b"kv:c"), None);
        }
    }
}

#[tokio::test]
async fn a_writer_that_was_stopped_for_longer_than_its_lease_writes_nothing_more() {
    for other_is_done in [false, true] {
        let server = RedisServer::start();
        let (first, second) = (target(&server), target(&server));
        let mut ours = writer(&*first).await;
        write(&mut ours, 1, &[("a", "ours")]).await.unwrap();
        server.run("PEXPIRE rekindle:lease -1");
        let other = LeaseOwner {
            run: RunId::from_text("OTHER1"),
            ..owner("b")
        };
        assert_eq!(second.take_lease(&other).await.unwrap(), Lease::Held);
        if other_is_done {
            second.retire(&other.run, &[]).await.unwrap();
            second.release_lease(&other).await.unwrap();
        }
        let late = write(&mut ours, 2, &[("b", "ours")]).await.unwrap_err();
        assert_eq!(server.get(b"kv:b"), None);
        if other_is_done {
            // Nobody is in the way any more: what was stored is done again.
            assert_eq!(late.kind, ErrorKind::EvidenceLost);
            write(&mut ours, 1, &[("a", "again")]).await.unwrap();
            assert_eq!(evidence(&*first, 1).await, Evidence::Stands);
        } else {
            assert_eq!(late.kind, ErrorKind::LeaseLost);
            assert!(
                late.message.ends_with(
                    " now belongs to run OTHER1 of pid 4121 on batch-2 (/srv/state/b.sqlite)"
                ),
                "{late}"
            );
            // A lease that ran out changes nothing: the other run has not ended.
            server.run("PEXPIRE rekindle:lease -1");
            let still = write(&mut ours, 1, &[("a", "ours")]).await.unwrap_err();
            assert_eq!(still.kind, ErrorKind::LeaseLost);
            assert!(matches!(
                first.renew_lease(&owner("a")).await.unwrap(),
                Lease::TakenBy(_)
            ));
        }
    }
}

#[tokio::test]
async fn bytes_that_a_dead_process_left_in_the_network_change_nothing() {
    for stuck in [1, 2] {
        let server = RedisServer::start();
        let line = StuckLine::to(server.port()).await;
        let dead = target_at(&format!("redis://127.0.0.1:{}/0", line.port));
        let mut writer_that_dies = writer(&*dead).await;
        for seq in 1..stuck {
            write(&mut writer_that_dies, seq, &[("a", "1")])
                .await
                .unwrap();
        }
        line.hold(b"MULTI");
        {
            let rows = chunk(&[("a", "stale")]);
            let mut stale = writer_that_dies.write(ChunkSeq(stuck), &rows);
            let mut held = line.held.clone();
            tokio::select! {
                _ = &mut stale => panic!("the line held nothing back"),
                held = held.wait_for(|held| *held) => drop(held.unwrap()),
            }
        }
        drop(writer_that_dies);

        // The same run in a new process, as far as the same chunk and beyond.
        let reborn = LeaseOwner {
            pid: 4122,
            ..owner("a")
        };
        let next = target(&server);
        assert_eq!(next.take_lease(&reborn).await.unwrap(), Lease::Held);
        let mut writer = writer_of(&*next).await;
        for seq in stuck..stuck + 2 {
            write(&mut writer, seq, &[("a", "fresh")]).await.unwrap();
        }
        let executed = line.let_go().await;
        assert!(executed.contains("*-1\r\n"), "{executed}");
        assert_eq!(server.get(b"kv:a").unwrap(), b"fresh");
        assert_eq!(marked(&server), Some(stuck + 1));
    }
}

/// A line to a server on which bytes can get stuck while whoever sent them dies.
struct StuckLine {
    port: u16,
    /// What makes it hold back everything from these bytes on; empty for nothing.
    from: watch::Sender<&'static [u8]>,
    held: watch::Receiver<bool>,
    go_on: watch::Sender<bool>,
    answers: mpsc::Receiver<String>,
}

impl StuckLine {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap().port();
        let (from, watched) = watch::channel(&b""[..]);
        let (holding, held) = watch::channel(false);
        let (go_on, gone_on) = watch::channel(false);
        let (told, answers) = mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let (watched, holding) = (watched.clone(), holding.clone());
                let (mut gone_on, told) = (gone_on.clone(), told.clone());
                tokio::spawn(async move {
                    let (mut from_client, mut to_client) = client.into_split();
                    let (mut from_server, mut to_server) = server.into_split();
                    let back = tokio::spawn(async move {
                        let mut answers = Vec::new();
                        let mut buffer = [0; 4096];
                        while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
                            answers.extend_from_slice(&buffer[..count]);
                            // Nobody may be there any more to hear them.
                            to_client.write_all(&buffer[..count]).await.ok();
                        }
                        String::from_utf8_lossy(&answers).into_owned()
                    });
                    let mut buffer = vec![0; 64 * 1024];
                    let mut stuck = false;
                    while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
                        let word = *watched.borrow();
                        let sent = &buffer[..count];
                        if !word.is_empty() && sent.windows(word.len()).any(|part| part == word) {
                            stuck = true;
                            holding.send_replace(true);
                            gone_on.wait_for(|go_on| *go_on).await.unwrap();
                        }
                        to_server.write_all(sent).await.unwrap();
                    }
                    to_server.shutdown().await.unwrap();
                    let answers = back.await.unwrap();
                    if stuck {
                        told.send(answers).await.unwrap();
                    }
                });
            }
        });
        Self {
            port: here,
            from,
            held,
            go_on,
            answers,
        }
    }

    /// Holds back the first bytes that contain `word`, and what follows them.
    fn hold(&self, word: &'static [u8]) {
        self.from.send_replace(word);
    }

    /// Lets the bytes through, and returns all that the server answered on that connection.
    async fn let_go(mut self) -> String {
        self.go_on.send_replace(true);
        self.answers.recv().await.unwrap()
    }
}

/// Highest resident memory of this process so far, in KiB.
fn peak_kib() -> u64 {
    fs::read_to_string("/proc/self/status")
        .unwrap()
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.parse().ok())
        .expect("VmHWM in /proc/self/status")
}

/// Runs the ignored test `name` in a process of its own and returns the number that it prints.
fn in_own_process(name: &str, server: &RedisServer) -> u64 {
    let output = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            &format!("target::{name}"),
            "--ignored",
            "--nocapture",
        ])
        .env("TARGET_TEST_REDIS", server.url(0))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .find_map(|line| line.split("growth KiB ").nth(1)?.trim().parse().ok())
        .unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn a_20_mb_value_is_not_copied() {
    let growth = in_own_process("child_one_large_value", &RedisServer::start());
    assert!(growth < 4 * 1024, "{growth} KiB beside the chunk");
}

#[test]
fn four_writers_need_little_memory() {
    let growth = in_own_process("child_four_writers", &RedisServer::start());
    assert!(
        growth < 8 * 1024,
        "{growth} KiB for four writers and their chunks"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run in a process of its own by a_20_mb_value_is_not_copied"]
async fn child_one_large_value() {
    let target = target_at(&env::var("TARGET_TEST_REDIS").unwrap());
    let mut writer = writer(&*target).await;
    write(&mut writer, 1, &[("a", "1")]).await.unwrap();
    let big = chunk(&[("big", vec![b'x'; 20 * 1024 * 1024])]);
    // 5: forget the highest mark so far, which making the chunk has set (proc(5)).
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak_kib();
    writer.write(ChunkSeq(2), &big).await.unwrap();
    println!("growth KiB {}", peak_kib() - before);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run in a process of its own by four_writers_need_little_memory"]
async fn child_four_writers() {
    let url = env::var("TARGET_TEST_REDIS").unwrap();
    // The program's own pages are not what is measured: they are all there after a first round.
    load(&url, 4, 1, 1).await;
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak_kib();
    load(&url, 4, 50, 450).await;
    println!("growth KiB {}", peak_kib() - before);
}

/// Not a check: prints how fast two writers store a million rows of 300 bytes.
///
/// `cargo test --release --test services -- --ignored --nocapture measure`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn measure_two_writers() {
    let server = RedisServer::start();
    for _ in 0..3 {
        server.run("FLUSHALL");
        let began = Instant::now();
        load(&server.url(0), 2, 500, 300).await;
        println!("1,000,000 rows in {:?}", began.elapsed());
    }
}

/// Writes `chunks` chunks of 1,000 rows with each of `writers` writers side by side.
async fn load(url: &str, writers: u64, chunks: u64, value_bytes: usize) {
    let target = target_at(url);
    target.take_lease(&owner("a")).await.unwrap();
    let mut tasks = Vec::new();
    for id in 0..writers {
        let target = Arc::clone(&target);
        tasks.push(tokio::spawn(async move {
            let mut writer = target
                .writer(&RunId::from_text(RUN), &partition(id), ChunkSeq(0), None)
                .await
                .unwrap();
            let value = vec![b'v'; value_bytes];
            for seq in 1..=chunks {
                let mut chunk = Chunk::default();
                for row in 0..1_000 {
                    let cursor = Cursor::single(KeyValue::Uint(row));
                    chunk.push(
                        &cursor.0,
                        format!("url:{id}:{seq}:{row}").as_bytes(),
                        &value,
                        &[],
                    );
                }
                writer.write(ChunkSeq(seq), &chunk).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}
