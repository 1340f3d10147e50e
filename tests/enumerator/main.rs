//! The crash enumerator: a small plan, disturbed at one point after another, run again, and held against a run that
//! nobody disturbed.
//!
//! `RK_ENUMERATOR=sample` (as it is without) tries points spread over each loop, others with every commit
//! (`RK_ENUMERATOR_SEED` chooses them); `RK_ENUMERATOR=all` tries every one. `RK_ENUMERATOR_ONLY='redis kill sendto'`
//! goes through the loops whose names contain that text.
//!
//! Each kind of call has a loop of its own, for each sees other mistakes: a journal that is written before the target
//! shows at every `fdatasync` of a target file, at a few `sendto`, and at no connection that is reset; an
//! acknowledgement that is ignored shows where calls fail and at no kill. And since a test that never fails proves
//! nothing, such defects are built in (`RK_MUTANT`) and have to be noticed in the same run.
//!
//! The same rows go to files, to Redis, to indexes of a search server (a run there takes seconds, so a sample has few
//! points), through queues of a broker, and to files with steps around them, which refuse to be done twice.
//! `tests/servers/up elasticsearch rabbitmq` starts what that needs.
//!
//! A killed process loses nothing of the page cache: this is about the death of a process, not about power cuts.

// Registers are read and written by name: elsewhere these tests are empty.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod broker;
mod consumer;
mod jenkins;
mod loops;
mod oracle;
mod points;
mod scene;
mod search;
mod shop;
mod tracer;

#[path = "../hermetic/fake_jenkins.rs"]
mod fake_jenkins;

#[path = "../services/redis_server.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod redis_server;

#[path = "../services/support.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use loops::{Enumerator, FAIL_POINTS};
use redis_server::RedisServer;

#[test]
fn every_fail_point_has_a_loop() {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_none_or(|name| name != "failpoint.rs") {
                let text = fs::read_to_string(&path).unwrap_or_default();
                found.extend(
                    text.split("hit(\"")
                        .skip(1)
                        .filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())),
                );
            }
        }
    }
    found.sort();
    found.dedup();
    assert_eq!(found, FAIL_POINTS);
}

#[test]
fn p1_p2_p3_j2_killed_anywhere_the_next_run_ends_the_same_and_every_defect_is_noticed() {
    if let Err(why) = can_trace() {
        // Plain and greppable: a test that does nothing must not look as if it had passed.
        println!("enumerator: LEFT OUT, nothing was tried: {why}");
        return;
    }
    let folder = TempDir::new().unwrap();
    let server = RedisServer::start_with(&["--databases", "64"]);
    let mut enumerator = Enumerator::new(&folder, &server);
    enumerator.survey();
    enumerator.kills();
    enumerator.fail_points();
    enumerator.errors();
    enumerator.kills_again();
    enumerator.search();
    enumerator.queues();
    enumerator.steps();
    enumerator.mutants();
    enumerator.conclude();
}

/// Tells whether this process may trace another: containers can forbid it.
fn can_trace() -> Result<(), String> {
    let folder = TempDir::new().unwrap();
    tracer::trace(Path::new("/bin/true"), &[], &[], folder.path(), &[], None)
        .map(drop)
        .map_err(|error| format!("this process may not trace another (ptrace): {error}"))
}
