//! What of a run can be connected to: nothing.

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    os::{fd::AsRawFd, unix::net::UnixListener},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::shop::Shop;

/// The flag of a socket that accepts connections, in `/proc/net/unix`.
const ACCEPTS: &str = "00010000";

/// The state of a socket that accepts connections, in `/proc/net/tcp`.
const LISTENS: &str = "0A";

/// Returns the sockets of a process that others can connect to, by the numbers that the kernel gives them.
fn listening(process: u32) -> BTreeSet<String> {
    let held = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let held: BTreeSet<String> = held
        .filter_map(|entry| {
            let link = fs::read_link(entry.ok()?.path()).ok()?;
            let link = link.to_string_lossy().into_owned();
            Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect();
    let mut open = BTreeSet::new();
    for (table, column, wanted, number) in [
        ("tcp", 3, LISTENS, 9),
        ("tcp6", 3, LISTENS, 9),
        ("unix", 3, ACCEPTS, 6),
    ] {
        // A kernel without IPv6 has no such table.
        let text = fs::read_to_string(format!("/proc/{process}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let cells: Vec<_> = line.split_whitespace().collect();
            if cells.get(column) == Some(&wanted) {
                open.extend(cells.get(number).map(|number| (*number).to_owned()));
            }
        }
    }
    open.intersection(&held).cloned().collect()
}

/// Returns `process` and every process below it.
fn family(process: u32) -> Vec<u32> {
    let mut family = vec![process];
    let mut at = 0;
    while let Some(parent) = family.get(at).copied() {
        at += 1;
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // After the name, which may hold anything: state, parent.
            let Some((head, tail)) = stat.rsplit_once(')') else {
                continue;
            };
            let number = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok());
            if number(tail.split_whitespace().nth(1)) == Some(parent) {
                family.extend(number(head.split_whitespace().next()));
            }
        }
    }
    family
}

/// Waits until the run is in the midst of its rows.
fn is_at_work(shop: &Shop, run: &mut Child) {
    let begun = Instant::now();
    loop {
        let said = shop.rekindle("status shop.yaml --json", 0);
        let status: Value = serde_json::from_str(&said).unwrap();
        if status["working"] == true && status["state"] == "restoring" && status["rows"] != 0 {
            return;
        }
        assert!(run.try_wait().unwrap().is_none(), "it ended: {status}");
        assert!(begun.elapsed() < Duration::from_secs(30), "{status}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn x6_nobody_can_connect_to_a_run() {
    // What is looked for is found where there is something.
    let (tcp, unix) = (
        TcpListener::bind("127.0.0.1:0").unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let unix = UnixListener::bind(unix.path().join("socket")).unwrap();
    let own = listening(std::process::id());
    for socket in [tcp.as_raw_fd(), unix.as_raw_fd()] {
        let link = fs::read_link(format!("/proc/self/fd/{socket}")).unwrap();
        let found = own
            .iter()
            .any(|number| link.to_string_lossy() == format!("socket:[{number}]"));
        assert!(found, "{} among {own:?}", link.display());
    }

    let shop = Shop::new();
    shop.plan(None);
    let mut run = shop
        .command("run shop.yaml")
        .env("RK_FAIL", "after_commit:2:sleep")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    is_at_work(&shop, &mut run);
    let family = family(run.id());
    let open: Vec<_> = family.iter().map(|process| listening(*process)).collect();
    // Its worker dies with it.
    run.kill().unwrap();
    run.wait().unwrap();
    assert_eq!(family.len(), 2, "a parent and its worker: {family:?}");
    assert!(open.iter().all(BTreeSet::is_empty), "{open:?}");
}
